//! Numbers that one thread writes and every thread may read.
//!
//! Promise: writing is a handful of plain stores, without a lock, a read-modify-write or a wait; a
//! reader sees all cells of a thread as they were between two updates. Must not know: what is
//! counted, `ledger`.
//!
//! The cells of a thread exist twice. An update is applied to the copy that readers do not look at,
//! the copies change places, and the update is applied to the other copy as well:
//!
//! ```text
//!   turn 6: readers look at copy 0     update copy 1, turn = 7, update copy 0
//!   turn 7: readers look at copy 1     update copy 0, turn = 8, update copy 1
//! ```
//! A reader that finds the turn changed behind its reading reads again. So it never waits for a
//! writer that was interrupted, and the writer never waits at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use crate::metrics::MetricKind;
use crate::metrics::histogram::{DurationHistogram, HistogramCells};

/// One cell, or several that belong together.
pub(crate) trait MetricCell: Default {
    const KIND: MetricKind;
    /// What a reader gets.
    type Value;
    /// Returns the content.
    fn value(&self) -> Self::Value;
}

// Relaxed in all cells: `Published` orders them.

/// A number of things that happened.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub(crate) fn add(&self, count: u64) {
        let sum = self.0.load(Ordering::Relaxed).wrapping_add(count);
        self.0.store(sum, Ordering::Relaxed);
    }

    /// Sets the total, which was added up elsewhere.
    pub(crate) fn set_total(&self, total: u64) {
        self.0.store(total, Ordering::Relaxed);
    }
}

impl MetricCell for Counter {
    const KIND: MetricKind = MetricKind::Counter;
    type Value = u64;

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Time that was spent.
#[derive(Debug, Default)]
pub(crate) struct TimeCounter(Counter);

impl TimeCounter {
    /// Adds `time`.
    pub(crate) fn add(&self, time: Duration) {
        self.0.add(nanoseconds(time));
    }
}

impl MetricCell for TimeCounter {
    const KIND: MetricKind = MetricKind::Counter;
    type Value = Duration;

    fn value(&self) -> Duration {
        Duration::from_nanos(self.0.value())
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the number.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl MetricCell for Gauge {
    const KIND: MetricKind = MetricKind::Gauge;
    type Value = u64;

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl MetricCell for HistogramCells {
    const KIND: MetricKind = MetricKind::Histogram;
    type Value = DurationHistogram;

    fn value(&self) -> DurationHistogram {
        self.read()
    }
}

/// A duration in nanoseconds; the longest ones, of centuries, are cut.
pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// All cells of one thread.
pub(crate) trait MetricCells: Default {
    /// What a reader gets.
    type Values;
    /// Returns the content of every cell.
    fn values(&self) -> Self::Values;
}

/// The cells of one thread, twice. Aligned so that no other thread writes to its cache lines, nor
/// to those that the processor fetches with them.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Published<T> {
    /// Grows by one with each update. The copy that its lowest bit names is complete.
    turn: AtomicU64,
    copies: [T; 2],
}

impl<T: MetricCells> Published<T> {
    /// Returns all cells as they were between two updates.
    pub(crate) fn read(&self) -> T::Values {
        loop {
            // Acquire: pairs with the Release in `update`; the copy is complete.
            let turn = self.turn.load(Ordering::Acquire);
            let values = self.copies[(turn & 1) as usize].values();
            // Whoever has seen a store of a later update sees that update's turn as well.
            fence(Ordering::Acquire);
            if self.turn.load(Ordering::Relaxed) == turn {
                return values;
            }
        }
    }
}

/// The writing end of [`Published`]: there is one.
#[derive(Debug, Default)]
pub(crate) struct Recorder<T>(Arc<Published<T>>);

impl<T> Recorder<T> {
    /// Returns the reading end.
    pub(super) fn published(&self) -> Arc<Published<T>> {
        Arc::clone(&self.0)
    }

    /// Applies `f` to both copies: it may only add and set.
    #[inline]
    pub(crate) fn update(&mut self, f: impl Fn(&T)) {
        let Published { turn, copies } = &*self.0;
        let next = turn.load(Ordering::Relaxed) + 1;
        f(&copies[(next & 1) as usize]);
        // Release: pairs with the Acquire in `read`.
        turn.store(next, Ordering::Release);
        // What is stored from here on is seen after `next`.
        fence(Ordering::Release);
        f(&copies[((next + 1) & 1) as usize]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Pair {
        one: Counter,
        twice: Counter,
    }

    impl MetricCells for Pair {
        type Values = (u64, u64);

        fn values(&self) -> (u64, u64) {
            (self.one.value(), self.twice.value())
        }
    }

    #[test]
    fn readers_see_whole_updates_and_never_an_older_one() {
        const UPDATES: u64 = if cfg!(miri) { 200 } else { 200_000 };
        let mut recorder = Recorder::<Pair>::default();
        let published = recorder.published();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut before = 0;
                    while before < UPDATES {
                        let (one, twice) = published.read();
                        assert_eq!(twice, 2 * one, "of one update");
                        assert!(one >= before, "{one} after {before}");
                        before = one;
                    }
                });
            }
            for _ in 0..UPDATES {
                recorder.update(|cells| {
                    cells.one.add(1);
                    cells.twice.add(2);
                });
            }
        });
        assert_eq!(published.read(), (UPDATES, 2 * UPDATES));
    }

    #[test]
    fn an_update_is_applied_to_both_copies_once() {
        let mut recorder = Recorder::<Pair>::default();
        let published = recorder.published();
        for sum in 1..=5 {
            recorder.update(|cells| cells.one.add(1));
            assert_eq!(published.read(), (sum, 0));
        }
    }
}
