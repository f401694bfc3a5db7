//! Counts skipped lines by reason.
//!
//! Promise: every record that is in no result is in one of the counts, and there is an example for
//! each reason. Counting threads do not wait for each other: each has its own counters. Must not
//! know: `find`, `csv`, `json`, `number`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crate::error::lock;

/// Why a line was skipped, or what is odd about one that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A filter dropped it.
    Filtered,
    /// It has no key: too few fields, no such name, no match.
    NoKey,
    /// It has a key but no value.
    NoValue,
    /// It is not JSON.
    NotJson,
    /// The part is a JSON string that is not text: half of a surrogate pair, or not UTF-8.
    NotText,
    /// It has a key, but its value is not a number.
    NotANumber,
    /// It has a key, but its value is a number beyond the range of a double.
    TooLarge,
    /// It ends inside a quoted CSV column. Such a line is counted as it is.
    OpenQuote,
}

/// How many reasons there are.
const REASONS: usize = Reason::OpenQuote as usize + 1;

/// Bytes that are kept of an example.
const EXAMPLE_BYTES_MAX: usize = 256;

/// The skipped lines of a run.
#[derive(Debug, Default)]
pub struct Skipped {
    lanes: Mutex<Vec<Arc<Lane>>>,
    /// The first line that a thread saw, by reason.
    examples: [OnceLock<Vec<u8>>; REASONS],
}

/// The counts of a thread, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane {
    counts: [AtomicU64; REASONS],
}

/// Counts skipped lines for one thread. A clone has counters of its own.
#[derive(Debug)]
pub struct SkipCounter {
    skipped: Arc<Skipped>,
    lane: Arc<Lane>,
}

impl Skipped {
    /// Returns counts of 0.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Returns the number of lines for `reason`.
    pub fn count(&self, reason: Reason) -> u64 {
        let lanes = lock(&self.lanes);
        // Relaxed: statistics; no other data depends on them.
        let counts = lanes
            .iter()
            .map(|lane| lane.counts[reason as usize].load(Ordering::Relaxed));
        counts.sum()
    }

    /// Returns the beginning of one of the lines for `reason`. Filtered lines are only counted and
    /// have no example.
    pub fn example(&self, reason: Reason) -> Option<&[u8]> {
        self.examples[reason as usize].get().map(Vec::as_slice)
    }
}

impl SkipCounter {
    /// Returns a counter that adds to `skipped`.
    pub fn new(skipped: &Arc<Skipped>) -> Self {
        let lane = Arc::<Lane>::default();
        let mut lanes = lock(&skipped.lanes);
        lanes.push(Arc::clone(&lane));
        SkipCounter {
            skipped: Arc::clone(skipped),
            lane,
        }
    }

    /// Counts `lines` lines without an example. Returns the count of this counter before.
    pub fn add(&self, reason: Reason, lines: u64) -> u64 {
        // Relaxed: see `Skipped::count`.
        self.lane.counts[reason as usize].fetch_add(lines, Ordering::Relaxed)
    }

    /// Keeps `line` as the example if there is none yet, without counting it.
    #[inline]
    pub fn keep_first(&self, reason: Reason, line: &[u8]) {
        if self.skipped.examples[reason as usize].get().is_none() {
            self.keep(reason, line);
        }
    }

    /// Counts `line`, and keeps it as the example if there is none yet.
    pub fn line(&self, reason: Reason, line: &[u8]) {
        if self.add(reason, 1) == 0 {
            self.keep(reason, line);
        }
    }

    /// Called for the first line of each counter only, so it allocates rarely.
    #[cold]
    fn keep(&self, reason: Reason, line: &[u8]) {
        let begin = &line[..line.len().min(EXAMPLE_BYTES_MAX)];
        self.skipped.examples[reason as usize].get_or_init(|| begin.to_vec());
    }
}

impl Clone for SkipCounter {
    fn clone(&self) -> Self {
        SkipCounter::new(&self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_include_those_of_dropped_clones() {
        let skipped = Skipped::new();
        let counter = SkipCounter::new(&skipped);
        let threads = (0..4).map(|n| {
            let counter = counter.clone();
            std::thread::spawn(move || {
                for _ in 0..1000 {
                    counter.add(Reason::Filtered, 1);
                }
                counter.add(Reason::NoKey, n);
                counter.line(Reason::NotANumber, b"x");
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            thread.join().expect("no panic");
        }
        counter.add(Reason::Filtered, 1);
        let counts = [Reason::Filtered, Reason::NoKey, Reason::NotANumber];
        assert_eq!(counts.map(|reason| skipped.count(reason)), [4001, 6, 4]);
    }

    #[test]
    fn an_example_is_the_beginning_of_a_line_with_its_reason() {
        let skipped = Skipped::new();
        let counter = SkipCounter::new(&skipped);
        counter.line(Reason::NotJson, b"first");
        counter.line(Reason::NotJson, b"second");
        counter.clone().line(Reason::NotJson, b"third");
        counter.line(Reason::NoKey, &[b'x'; 1 << 20]);
        counter.add(Reason::Filtered, 1);
        assert_eq!(skipped.count(Reason::NotJson), 3);
        assert_eq!(skipped.example(Reason::NotJson), Some(&b"first"[..]));
        let length = skipped.example(Reason::NoKey).map(<[u8]>::len);
        assert_eq!(length, Some(EXAMPLE_BYTES_MAX));
        assert_eq!(skipped.example(Reason::Filtered), None);
        assert_eq!(skipped.example(Reason::TooLarge), None);
    }
}
