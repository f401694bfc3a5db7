//! What was left out, and why.
//!
//! Promise: every record that is not in a result is in one of the three counts. Threads that count do not wait for
//! each other: each has a lane of its own. Refuses to know: batches, what is said to whom.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The counts of a run.
#[derive(Debug, Default)]
pub(crate) struct Skipped {
    lanes: Mutex<Vec<Arc<Lane>>>,
}

/// The counts of a thread, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane {
    filtered: AtomicU64,
    without_key: AtomicU64,
    not_numbers: AtomicU64,
}

/// Counts in a lane. A clone has another one.
#[derive(Debug)]
pub(crate) struct Counter {
    skipped: Arc<Skipped>,
    lane: Arc<Lane>,
}

impl Skipped {
    /// Nothing yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Lines that `--grep` or `--not` dropped.
    pub(crate) fn filtered(&self) -> u64 {
        self.sum(|lane| &lane.filtered)
    }

    /// Lines that have no key: too few fields, no JSON, no match.
    pub(crate) fn without_key(&self) -> u64 {
        self.sum(|lane| &lane.without_key)
    }

    /// Lines that have a key, and a value that is missing or no number.
    pub(crate) fn not_numbers(&self) -> u64 {
        self.sum(|lane| &lane.not_numbers)
    }

    fn sum(&self, count: impl Fn(&Lane) -> &AtomicU64) -> u64 {
        // Nothing is left half done when a thread panics here.
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        // Relaxed: statistics; no other data depends on them.
        lanes
            .iter()
            .map(|lane| count(lane).load(Ordering::Relaxed))
            .sum()
    }
}

impl Counter {
    pub(crate) fn new(skipped: &Arc<Skipped>) -> Self {
        let lane = Arc::<Lane>::default();
        let mut lanes = skipped.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.push(Arc::clone(&lane));
        Counter {
            skipped: Arc::clone(skipped),
            lane,
        }
    }

    pub(crate) fn filtered(&self) {
        self.lane.filtered.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn without_key(&self, records: u64) {
        self.lane.without_key.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn not_a_number(&self) {
        self.lane.not_numbers.fetch_add(1, Ordering::Relaxed);
    }
}

impl Clone for Counter {
    fn clone(&self) -> Self {
        Counter::new(&self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_add_up_also_those_of_clones_that_are_gone() {
        let skipped = Skipped::new();
        let counter = Counter::new(&skipped);
        let threads = (0..4).map(|n| {
            let counter = counter.clone();
            std::thread::spawn(move || {
                for _ in 0..1000 {
                    counter.filtered();
                }
                counter.without_key(n);
                counter.not_a_number();
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            thread.join().expect("no panic");
        }
        counter.filtered();
        let counts = (
            skipped.filtered(),
            skipped.without_key(),
            skipped.not_numbers(),
        );
        assert_eq!(counts, (4001, 6, 4));
    }
}
