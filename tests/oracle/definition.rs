//! The definition of what a batch holds, as slow and as obvious as it can be written.
//!
//! One byte at a time: a line is gathered until it ends, then split, then its words are counted in
//! a `BTreeMap`. It shares no code with the crate, only the names of the rules. The fuzz targets
//! use it too, so there is one oracle.

// Public for the fuzz targets; in the tests nothing is further out than the crate.
#![allow(unreachable_pub)]

use std::collections::BTreeMap;

use microtally::config::LineEnds;
use microtally::{Batch, Rule};

/// What one batch holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// How often each word occurs.
    pub counts: BTreeMap<Vec<u8>, u64>,
    /// Lines that ended.
    pub records: u64,
    /// Words of those lines.
    pub tokens: u64,
    /// Bytes of those lines and of their ends.
    pub bytes: u64,
}

impl Expected {
    /// What a batch of the crate's says, in these words.
    pub fn seen(batch: &Batch<'_, u64>) -> Expected {
        let counts: BTreeMap<_, _> = batch.iter().map(|(key, n)| (key.to_vec(), n)).collect();
        assert_eq!(counts.len(), batch.len(), "a key stands in a batch twice");
        assert_eq!(counts.len() as u64, batch.stats().keys);
        assert!(counts.iter().all(|(key, n)| batch.get(key) == Some(*n)));
        Expected {
            counts,
            records: batch.stats().records,
            tokens: batch.stats().tokens,
            bytes: batch.stats().bytes,
        }
    }

    /// What is left when longer words are not counted, and how many words that leaves out.
    pub fn without_longer(mut self, token_bytes_max: usize) -> (Expected, u64) {
        let mut left_out = 0;
        self.counts.retain(|word, count| {
            let keep = word.len() <= token_bytes_max;
            left_out += if keep { 0 } else { *count };
            keep
        });
        self.tokens -= left_out;
        (self, left_out)
    }

    /// Both together, as if one program had counted them.
    pub fn plus(mut self, other: Expected) -> Expected {
        for (word, count) in other.counts {
            *self.counts.entry(word).or_insert(0) += count;
        }
        self.records += other.records;
        self.tokens += other.tokens;
        self.bytes += other.bytes;
        self
    }
}

impl std::iter::Sum for Expected {
    fn sum<I: Iterator<Item = Expected>>(batches: I) -> Expected {
        batches.fold(Expected::default(), Expected::plus)
    }
}

/// One connection, read byte by byte.
#[derive(Clone, Debug)]
pub struct Definition {
    rule: Rule,
    line_ends: LineEnds,
    /// The line that has no end yet.
    line: Vec<u8>,
    /// The last byte was a `\r`: a `\n` now belongs to the same line end.
    after_return: bool,
    /// What was completed since the last cut.
    batch: Expected,
}

impl Definition {
    /// Nothing was read yet.
    pub fn new(rule: Rule) -> Self {
        Definition::with_ends(rule, LineEnds::Universal)
    }

    /// The same for records that end as `line_ends` says.
    pub fn with_ends(rule: Rule, line_ends: LineEnds) -> Self {
        Definition {
            rule,
            line_ends,
            line: Vec::new(),
            after_return: false,
            batch: Expected::default(),
        }
    }

    /// What one batch holds when all of `bytes` come in it and the connection then ends cleanly.
    pub fn of(bytes: &[u8], rule: Rule) -> Expected {
        Definition::of_ends(bytes, rule, LineEnds::Universal)
    }

    /// The same for records that end as `line_ends` says.
    pub fn of_ends(bytes: &[u8], rule: Rule, line_ends: LineEnds) -> Expected {
        let mut definition = Definition::with_ends(rule, line_ends);
        definition.push(bytes);
        definition.end_of_stream();
        definition.cut()
    }

    /// Reads some bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match (byte, self.line_ends) {
                (b'\n', LineEnds::Universal) if self.after_return => self.batch.bytes += 1,
                (b'\n' | b'\r', LineEnds::Universal) | (0, LineEnds::Nul) => {
                    self.batch.bytes += 1;
                    self.end_line();
                }
                (b'\n', LineEnds::Lf) => {
                    self.batch.bytes += 1;
                    // A `\r` that separates stays a separator.
                    if self.line.last() == Some(&b'\r') && self.rule != Rule::Split(b'\r') {
                        self.batch.bytes += 1;
                        self.line.pop();
                    }
                    self.end_line();
                }
                _ => self.line.push(byte),
            }
            self.after_return = byte == b'\r';
        }
    }

    /// Returns `true` if no line has begun that has not ended.
    pub fn is_between_lines(&self) -> bool {
        self.line.is_empty()
    }

    /// Reads a whole record, between two lines. What it holds ends nothing.
    pub fn push_record(&mut self, record: &[u8]) {
        assert!(self.line.is_empty(), "a line has begun");
        self.line.extend_from_slice(record);
        self.end_line();
        self.after_return = false;
    }

    /// The connection ends cleanly: a line that is not empty needs no end.
    pub fn end_of_stream(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
        self.after_return = false;
    }

    /// Ends the batch; the unfinished line goes on in the next one.
    pub fn cut(&mut self) -> Expected {
        std::mem::take(&mut self.batch)
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        self.batch.records += 1;
        self.batch.bytes += line.len() as u64;
        for word in words(&line, self.rule) {
            self.batch.tokens += 1;
            *self.batch.counts.entry(word).or_insert(0) += 1;
        }
    }
}

/// `line.split(separator)`, `line.split()` or the line itself.
fn words(line: &[u8], rule: Rule) -> Vec<Vec<u8>> {
    let is_separator = |byte: u8| match rule {
        Rule::Split(separator) => byte == separator,
        Rule::SplitWhitespace => [b' ', b'\t', b'\n', 0x0b, 0x0c, b'\r'].contains(&byte),
        Rule::Lines => false,
    };
    let mut words = vec![Vec::new()];
    for &byte in line {
        if is_separator(byte) {
            words.push(Vec::new());
        } else {
            words.last_mut().expect("there is one").push(byte);
        }
    }
    if rule == Rule::SplitWhitespace {
        words.retain(|word| !word.is_empty());
    }
    words
}
