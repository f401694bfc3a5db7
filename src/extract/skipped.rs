//! What was left out, and why.
//!
//! Promise: every record that is not in a result is in one of the counts, with one of its kind as an example. Threads
//! that count do not wait for each other: each has a lane of its own. Must not know: batches, what is said to whom.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crate::error::lock;

/// What a line was left out for, or what is odd about one that was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `--grep` or `--not` dropped it.
    Filtered,
    /// It has no such key: too few fields, no such name, no match.
    NoKey,
    /// It has a key, and no such value.
    NoValue,
    /// It is not JSON.
    NotJson,
    /// What is looked for is a string of JSON that is no text: half of a surrogate pair, or not UTF-8.
    NotText,
    /// It has a key, and a value that is not a number.
    NotANumber,
    /// It has a key, and a number beyond the range of a double.
    TooLarge,
    /// It ends inside of a quoted CSV column. Such a line is counted as it is.
    OpenQuote,
}

/// How many reasons there are.
const REASONS: usize = Reason::OpenQuote as usize + 1;

/// Bytes that are kept of a line that is an example.
const EXAMPLE_BYTES_MAX: usize = 256;

/// The counts of a run.
#[derive(Debug, Default)]
pub struct Skipped {
    lanes: Mutex<Vec<Arc<Lane>>>,
    /// The first line of each kind that a thread saw.
    examples: [OnceLock<Vec<u8>>; REASONS],
}

/// The counts of a thread, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane {
    counts: [AtomicU64; REASONS],
}

/// Counts in a lane. A clone has another one.
#[derive(Debug)]
pub struct Counter {
    skipped: Arc<Skipped>,
    lane: Arc<Lane>,
}

impl Skipped {
    /// Nothing yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// How many lines there were.
    pub fn count(&self, reason: Reason) -> u64 {
        // Nothing is left half done when a thread panics here.
        let lanes = lock(&self.lanes);
        // Relaxed: statistics; no other data depends on them.
        lanes
            .iter()
            .map(|lane| lane.counts[reason as usize].load(Ordering::Relaxed))
            .sum()
    }

    /// The beginning of one of them. There is none of lines that were only counted, as those of `--grep` are.
    pub fn example(&self, reason: Reason) -> Option<&[u8]> {
        self.examples[reason as usize].get().map(Vec::as_slice)
    }
}

impl Counter {
    /// A counter with a lane of its own.
    pub fn new(skipped: &Arc<Skipped>) -> Self {
        let lane = Arc::<Lane>::default();
        let mut lanes = lock(&skipped.lanes);
        lanes.push(Arc::clone(&lane));
        Counter {
            skipped: Arc::clone(skipped),
            lane,
        }
    }

    /// Counts lines of which nobody has kept one.
    pub fn add(&self, reason: Reason, lines: u64) -> u64 {
        // Relaxed: see `Skipped::count`.
        self.lane.counts[reason as usize].fetch_add(lines, Ordering::Relaxed)
    }

    /// Keeps the beginning of `line` if it is the first of its kind; somebody else counts it.
    #[inline]
    pub fn keep_first(&self, reason: Reason, line: &[u8]) {
        if self.skipped.examples[reason as usize].get().is_none() {
            self.keep(reason, line);
        }
    }

    /// Counts `line`.
    pub fn line(&self, reason: Reason, line: &[u8]) {
        if self.add(reason, 1) == 0 {
            self.keep(reason, line);
        }
    }

    /// Keeps the beginning of a lane's first line. Others are not looked at, so this allocates once.
    #[cold]
    fn keep(&self, reason: Reason, line: &[u8]) {
        let begin = &line[..line.len().min(EXAMPLE_BYTES_MAX)];
        self.skipped.examples[reason as usize].get_or_init(|| begin.to_vec());
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
    fn an_example_is_the_beginning_of_a_line_of_its_kind() {
        let skipped = Skipped::new();
        let counter = Counter::new(&skipped);
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
