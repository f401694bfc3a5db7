//! Where a stream's batches are between the operator that makes them and those that use them.
//!
//! Promise: who asks for a batch gets its records, hears that there are none, or why it failed; a batch is
//! forgotten once nobody may ask for it any more. Refuses to know: what makes batches, and when.
//!
//! The locks are never contended while batches are made, since one thread at a time makes them: they are
//! there because that need not be the same thread each time, and for whoever slices a stream meanwhile.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::epoch::{BatchStats, BatchTime};
use crate::shard::panic_message;
use crate::stream::rdd::Rdd;
use crate::table::Table;

/// Why there is no result of a batch.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) message: Arc<str>,
    /// It happened while the batch was put together, as in `transform`: the whole batch has no output.
    /// Otherwise only what depends on it has none.
    pub(super) spoils_batch: bool,
}

impl Failure {
    /// States are not known any more since an earlier batch failed. It is the streams made of them that have
    /// nothing from then on, whatever kind of failure it was.
    pub(super) fn states_lost() -> Self {
        Failure::of_records("the states were lost when an earlier batch failed")
    }

    /// A function that was called for records failed.
    pub(super) fn of_records(message: impl Into<Arc<str>>) -> Self {
        Failure {
            message: message.into(),
            spoils_batch: false,
        }
    }

    /// The batch could not be put together.
    pub(super) fn of_batch(message: impl Into<Arc<str>>) -> Self {
        Failure {
            message: message.into(),
            spoils_batch: true,
        }
    }

    /// Calls a function that belongs to putting a batch together: when it panics, the whole batch has no
    /// output.
    pub(super) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Failure> {
        catch_unwind(AssertUnwindSafe(f))
            .map_err(|panic| Failure::of_batch(panic_message(panic.as_ref())))
    }
}

/// What an operator makes of a batch: a result, nothing (Spark: no RDD), or a failure.
pub(super) type Made<T> = Result<Option<T>, Failure>;

/// The remembered batches of a stream of records.
pub(super) struct Cell<T>(Arc<Mutex<Kept<T>>>);

struct Kept<T> {
    /// Oldest first; batches in which the stream gave nothing are left out.
    batches: VecDeque<(BatchTime, Result<Rdd<T>, Failure>)>,
    keep_ms: u64,
    is_started: bool,
}

impl<T> Clone for Cell<T> {
    fn clone(&self) -> Self {
        Cell(Arc::clone(&self.0))
    }
}

impl<T> Cell<T> {
    pub(super) fn new() -> Self {
        Cell(Arc::new(Mutex::new(Kept {
            batches: VecDeque::new(),
            keep_ms: 0,
            is_started: false,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Kept<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The context starts; batches are kept for `remember_ms` at least.
    pub(super) fn start(&self, remember_ms: u64) {
        self.keep_for(remember_ms);
        self.lock().is_started = true;
    }

    /// Whether the context has started.
    pub(super) fn is_started(&self) -> bool {
        self.lock().is_started
    }

    /// Batches are kept for at least that long after their time.
    pub(super) fn keep_for(&self, ms: u64) {
        let mut kept = self.lock();
        kept.keep_ms = kept.keep_ms.max(ms);
    }

    /// The batch at `time` was made. What is too old now is forgotten.
    pub(super) fn put(&self, time: BatchTime, made: Made<Rdd<T>>) {
        let mut kept = self.lock();
        let too_old =
            |at: BatchTime| at.as_millis().saturating_add(kept.keep_ms) <= time.as_millis();
        let old = kept
            .batches
            .iter()
            .take_while(|(at, _)| too_old(*at))
            .count();
        kept.batches.drain(..old);
        if let Some(made) = made.transpose() {
            kept.batches.push_back((time, made));
        }
    }

    /// The batch at `time`.
    pub(super) fn at(&self, time: BatchTime) -> Made<Rdd<T>> {
        let kept = self.lock();
        let found = kept.batches.iter().rev().find(|(at, _)| *at == time);
        found.map(|(_, made)| made.clone()).transpose()
    }

    /// The batches with times in `(after, until]`, oldest first, without those that gave nothing.
    pub(super) fn between(
        &self,
        after: BatchTime,
        until: BatchTime,
    ) -> Result<Vec<(BatchTime, Rdd<T>)>, Failure> {
        self.at_each(BatchTime::from_millis(after.as_millis() + 1), until)
    }

    /// As [`between`](Self::between), with the batch at `first`.
    pub(super) fn at_each(
        &self,
        first: BatchTime,
        last: BatchTime,
    ) -> Result<Vec<(BatchTime, Rdd<T>)>, Failure> {
        let kept = self.lock();
        let inside = |(at, _): &&(BatchTime, _)| first <= *at && *at <= last;
        let batches = kept.batches.iter().filter(inside);
        batches.map(|(at, made)| Ok((*at, made.clone()?))).collect()
    }
}

/// A stream of one value a key and batch, kept as a table for as long as its batch is being put out.
pub(super) trait TableAt<V>: Send + Sync {
    /// Calls `f` with the batch at `time`, if the stream gave one.
    fn with(
        &self,
        time: BatchTime,
        f: &mut dyn FnMut(&Table<V>, &BatchStats),
    ) -> Result<bool, Failure>;
}

impl<V> dyn TableAt<V> {
    /// As [`with`](TableAt::with), giving what `f` gives.
    pub(super) fn map<R>(
        &self,
        time: BatchTime,
        f: impl FnOnce(&Table<V>, &BatchStats) -> R,
    ) -> Made<R> {
        let (mut f, mut answer) = (Some(f), None);
        self.with(time, &mut |table, stats| {
            if let Some(f) = f.take() {
                answer = Some(f(table, stats));
            }
        })?;
        Ok(answer)
    }
}

/// A [`TableAt`] whose table is lent out by whatever computes it.
pub(super) struct Held<H>(Mutex<Holding<H>>);

struct Holding<H> {
    holder: H,
    stats: BatchStats,
    /// The batch that is there, or why it is not.
    at: Option<(BatchTime, Result<(), Failure>)>,
}

impl<H> Held<H> {
    pub(super) fn new(holder: H) -> Arc<Self> {
        Arc::new(Held(Mutex::new(Holding {
            holder,
            stats: BatchStats::default(),
            at: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Holding<H>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the batch at `time` by `make`, which changes the holder and gives statistics.
    pub(super) fn make(
        &self,
        time: BatchTime,
        make: impl FnOnce(&mut H) -> Made<BatchStats>,
    ) -> Result<(), Failure> {
        let mut holding = self.lock();
        holding.at = None;
        if let Some(stats) = make(&mut holding.holder)? {
            holding.stats = stats;
            holding.at = Some((time, Ok(())));
        }
        Ok(())
    }

    /// The batch at `time` failed.
    pub(super) fn fail(&self, time: BatchTime, failure: &Failure) {
        self.lock().at = Some((time, Err(failure.clone())));
    }

    /// The batch has been put out: takes back what `make` lent.
    pub(super) fn forget(&self, take_back: impl FnOnce(&mut H)) {
        let mut holding = self.lock();
        if let Some((_, Ok(()))) = holding.at.take() {
            take_back(&mut holding.holder);
        }
    }
}

impl<V, H: AsRef<Table<V>> + Send> TableAt<V> for Held<H> {
    fn with(
        &self,
        time: BatchTime,
        f: &mut dyn FnMut(&Table<V>, &BatchStats),
    ) -> Result<bool, Failure> {
        let holding = self.lock();
        match &holding.at {
            Some((at, Ok(()))) if *at == time => {
                f(holding.holder.as_ref(), &holding.stats);
                Ok(true)
            }
            Some((at, Err(failure))) if *at == time => Err(failure.clone()),
            _ => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> BatchTime {
        BatchTime::from_millis(ms)
    }

    #[test]
    fn batches_are_kept_as_long_as_they_may_be_asked_for() {
        let cell = Cell::new();
        cell.keep_for(300);
        for time in 1..=9u64 {
            let made = match time {
                4 => Ok(None),
                5 => Err(Failure::of_records("five")),
                _ => Ok(Some(Rdd::from(vec![time]))),
            };
            cell.put(ms(time * 100), made);
        }
        assert_eq!(cell.at(ms(900)).unwrap().unwrap().to_vec(), [9]);
        assert!(cell.at(ms(500)).unwrap().is_none(), "forgotten");
        let between = |after, until| {
            let batches = cell.between(ms(after), ms(until)).unwrap();
            batches
                .iter()
                .map(|(time, _)| time.as_millis())
                .collect::<Vec<_>>()
        };
        assert_eq!(between(600, 900), [700, 800, 900]);
        assert_eq!(between(600, 800), [700, 800]);
    }

    #[test]
    fn batches_may_be_kept_for_ever() {
        let cell = Cell::new();
        cell.keep_for(u64::MAX);
        for time in 1..=3u64 {
            cell.put(ms(time * 100), Ok(Some(Rdd::from(vec![time]))));
        }
        assert_eq!(cell.between(ms(0), ms(300)).unwrap().len(), 3);
    }

    #[test]
    fn a_window_over_a_failed_batch_fails() {
        let cell = Cell::new();
        cell.keep_for(1000);
        cell.put(ms(100), Ok(Some(Rdd::from(vec![1]))));
        cell.put(ms(200), Err(Failure::of_records("two")));
        assert_eq!(&*cell.between(ms(0), ms(200)).unwrap_err().message, "two");
        assert_eq!(cell.between(ms(0), ms(100)).unwrap().len(), 1);
        assert!(cell.at(ms(200)).is_err());
        assert!(cell.at(ms(300)).unwrap().is_none());
    }
}
