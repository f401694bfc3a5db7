//! Counts one text in memory: one thread, two threads and a rival in turns.
//!
//! Promise: counts are compared key by key before anything is timed, those of the two halves in
//! sum; a wrong count ends the program.
//! Must not know: corpora::installed, programs, loopback.
//!
//! The rival is the program one would write instead: the standard library's map over words found
//! with `memchr`. Its map borrows the words, so it copies nothing. All tables are warm, as after
//! the first batch of a stream, but for a text whose keys are new every time: there they start
//! empty.

use std::collections::HashMap;
use std::hint::black_box;

use microtally::error::Result;
use microtally::time::BatchTime;
use microtally::{Config, Rule, Tally};

use super::calibrate::{Calibrators, Reading, Readings};
use super::clock::{timed, timed_both};
use super::figures::Figures;
use crate::corpora::SEPARATOR;

/// What is counted.
pub(super) struct MatrixText {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) bytes: Vec<u8>,
    /// Whether tables start empty in every round.
    pub(super) is_cold: bool,
}

/// The figures of all rounds.
#[derive(Default)]
pub(super) struct MatrixRow {
    gb_per_s: Figures,
    word_ns: Figures,
    word_additions: Figures,
    of_copying: Figures,
    two_threads: Figures,
    of_two_threads: Figures,
    rival_gb_per_s: Figures,
    times_rival: Figures,
    longest_push_ms: Figures,
}

impl MatrixRow {
    pub(super) const HEAD: [&'static str; 10] = [
        "text",
        "one thread, GB/s",
        "ns a word",
        "additions a word",
        "of copying",
        "two threads against one",
        "of arithmetic's gain",
        "rival, GB/s",
        "faster than the rival by",
        "longest push, ms",
    ];

    /// Returns the cells after the name.
    pub(super) fn cells(&self) -> [String; 9] {
        [
            self.gb_per_s.cell(""),
            self.word_ns.cell(""),
            self.word_additions.cell(""),
            self.of_copying.cell(""),
            self.two_threads.cell("x"),
            self.of_two_threads.cell(""),
            self.rival_gb_per_s.cell(""),
            self.times_rival.cell("x"),
            self.longest_push_ms.cell(""),
        ]
    }

    fn push(&mut self, bytes: f64, words: f64, seconds: [f64; 3], reading: &Reading) {
        let [one, both, rival] = seconds;
        self.gb_per_s.push(bytes / one / 1e9);
        self.word_ns.push(one * 1e9 / words);
        self.word_additions
            .push(one * 1e9 / words / reading.addition_ns);
        self.of_copying
            .push(bytes / one / 1e9 / reading.copy_gb_per_s);
        self.two_threads.push(one / both);
        self.of_two_threads.push(one / both / reading.two_threads);
        self.rival_gb_per_s.push(bytes / rival / 1e9);
        self.times_rival.push(rival / one);
    }
}

/// Counts `text` once without timing, to compare the counts, and then in `rounds` rounds.
///
/// # Errors
///
/// A setting is out of its range, or a calibrator cannot run.
pub(super) fn measure(
    text: &MatrixText,
    config: &Config,
    rounds: u64,
    calibrators: &mut Calibrators,
    readings: &mut Readings,
) -> Result<MatrixRow> {
    let MatrixText { bytes, is_cold, .. } = text;
    let halves = bytes.split_at(middle(bytes));
    let new = || Tally::with_config(Rule::Split(SEPARATOR), config);
    let (mut one, mut first, mut second) = (new()?, new()?, new()?);
    let mut rival = HashMap::new();
    let words = rival_counts(bytes, &mut rival);
    assert_same(&mut one, bytes, &rival, text.name);
    let in_halves =
        [(&mut first, halves.0), (&mut second, halves.1)].map(|(t, half)| count(t, half));
    assert_eq!(
        in_halves[0] + in_halves[1],
        words,
        "{}: words in halves",
        text.name
    );

    let mut row = MatrixRow::default();
    for round in 0..rounds {
        if *is_cold {
            (one, first, second, rival) = (new()?, new()?, new()?, HashMap::new());
        }
        let reading = calibrators.read()?;
        readings.push(reading);
        let mut seconds = [0.0; 3];
        // Each of them comes first, second and third in turns.
        for turn in 0..3 {
            let who = ((round + turn) % 3) as usize;
            let (found, elapsed) = match who {
                0 => timed(|| count(&mut one, bytes)),
                1 => {
                    let there = || count(&mut second, halves.1);
                    let ((a, b), elapsed) = timed_both(|| count(&mut first, halves.0), there);
                    (a + b, elapsed)
                }
                _ => timed(|| rival_counts(bytes, &mut rival)),
            };
            assert_eq!(found, words, "{}: words, by number {who}", text.name);
            seconds[who] = elapsed;
        }
        row.push(bytes.len() as f64, words as f64, seconds, &reading);
        row.longest_push_ms
            .push(longest_push(&mut new()?, bytes) * 1e3);
    }
    Ok(row)
}

/// Counts `bytes` as one batch and returns the number of words.
fn count(tally: &mut Tally, bytes: &[u8]) -> u64 {
    tally.push(black_box(bytes));
    let batch = tally
        .cut(BatchTime::from_millis(1))
        .expect("the ledger closes");
    batch.stats().tokens
}

/// Counts `bytes` with an empty tally, in pieces as a reader would bring them. Returns the seconds
/// of the longest push: the longest stall because a table grows.
fn longest_push(tally: &mut Tally, bytes: &[u8]) -> f64 {
    let pieces = bytes.chunks(256 << 10);
    pieces
        .map(|piece| timed(|| tally.push(black_box(piece))).1)
        .fold(0.0, f64::max)
}

/// Counts `bytes` and returns the number of words. A line ends with `\n` or `\r\n`.
fn rival_counts<'b>(bytes: &'b [u8], counts: &mut HashMap<&'b [u8], u64>) -> u64 {
    // The capacity stays, as in a tally's table.
    counts.clear();
    let bytes = black_box(bytes);
    let (mut start, mut words) = (0, 0);
    for end in memchr::memchr2_iter(SEPARATOR, b'\n', bytes) {
        let mut word = &bytes[start..end];
        if bytes[end] == b'\n' && word.last() == Some(&b'\r') {
            word = &word[..word.len() - 1];
        }
        *counts.entry(word).or_insert(0) += 1;
        words += 1;
        start = end + 1;
    }
    words
}

/// Panics unless `tally` finds `expected` in `bytes`.
fn assert_same(tally: &mut Tally, bytes: &[u8], expected: &HashMap<&[u8], u64>, name: &str) {
    tally.push(bytes);
    let batch = tally
        .cut(BatchTime::from_millis(1))
        .expect("the ledger closes");
    assert_eq!(batch.len(), expected.len(), "{name}: distinct words");
    for (word, count) in batch.iter() {
        let expected = expected.get(word);
        let word = || word[..word.len().min(40)].escape_ascii();
        assert_eq!(expected, Some(&count), "{name}: count of {}", word());
    }
}

/// Returns where the first line of the second half begins; the end if there is none.
fn middle(bytes: &[u8]) -> usize {
    let half = bytes.len() / 2;
    match memchr::memchr(b'\n', &bytes[half..]) {
        Some(at) => half + at + 1,
        None => bytes.len(),
    }
}
