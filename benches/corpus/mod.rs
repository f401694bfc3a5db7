//! The benches' texts, their obvious counts, and the settings of criterion.
//!
//! Promise: equal bytes in every run; every corpus is whole lines.
//! Must not know: internals.
//!
//! The texts are those of `microtally bench`. A real one that is not installed is left out, with a
//! message.
//!
//! `cargo bench` passes `--bench` and gets the large sizes; `cargo test --benches` does not, runs
//! each body once on the small ones, and so shows that the benches still build, run and get the
//! right answers.

// Each bench is a program of its own and uses a part of this.
#![allow(dead_code, unused_imports)]

#[path = "../machine/corpora/mod.rs"]
mod corpora;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use criterion::Criterion;
use microtally::Batch;

use corpora::Installed;

pub(crate) use corpora::{Kind, LOG_FIELD, SEPARATOR, field};

/// Text of one kind.
pub(crate) struct Corpus {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// The counts that the obvious program finds in a corpus.
pub(crate) struct Expected<'c> {
    pub(crate) counts: BTreeMap<&'c [u8], u64>,
    pub(crate) tokens: u64,
}

/// Returns `true` in a measurement, `false` in a test.
pub(crate) fn is_measuring() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// `large` when measuring, `small` in a test.
pub(crate) fn sized(small: usize, large: usize) -> usize {
    if is_measuring() { large } else { small }
}

/// Returns criterion with ten samples in `measurement`: enough to see a change of some per cent,
/// while all benches together take minutes. Flags on the command line win.
pub(crate) fn criterion(measurement: Duration) -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(measurement)
        .without_plots()
        .configure_from_args()
}

impl Corpus {
    /// Returns every corpus, of about `bytes` bytes each: the installed ones and the generated
    /// ones.
    pub(crate) fn all(bytes: usize) -> Vec<Corpus> {
        let real = Installed::ALL.into_iter().filter_map(|installed| {
            let (name, _) = installed.label();
            match installed.read(bytes) {
                Ok(bytes) => Some(Corpus { name, bytes }),
                Err(missing) => {
                    eprintln!("left out: {missing}");
                    None
                }
            }
        });
        let made = Kind::ALL.map(|kind| Corpus::of(kind, bytes));
        real.chain(made).collect()
    }

    /// Makes a corpus.
    pub(crate) fn of(kind: Kind, bytes: usize) -> Corpus {
        Corpus {
            name: kind.label().0,
            bytes: kind.make(bytes),
        }
    }

    /// Counts words in the obvious way; it shares no code with what is measured.
    pub(crate) fn expected(&self) -> Expected<'_> {
        self.count(|line| line.split(|&byte| byte == SEPARATOR))
    }

    /// As [`expected`](Self::expected), but of the numbered field of each line.
    pub(crate) fn expected_fields(&self, number: usize) -> Expected<'_> {
        self.count(|line| {
            let field = line.split(|&byte| byte == SEPARATOR).nth(number);
            [field.unwrap_or_default()]
        })
    }

    fn count<'c, I: IntoIterator<Item = &'c [u8]>>(
        &'c self,
        keys: impl Fn(&'c [u8]) -> I,
    ) -> Expected<'c> {
        let lines = self.bytes.strip_suffix(b"\n").expect("whole lines");
        let mut counts = BTreeMap::new();
        let mut tokens = 0;
        for line in lines.split(|&byte| byte == b'\n') {
            for key in keys(line.strip_suffix(b"\r").unwrap_or(line)) {
                *counts.entry(key).or_insert(0) += 1;
                tokens += 1;
            }
        }
        Expected { counts, tokens }
    }
}

impl Expected<'_> {
    /// Panics unless `entries` are these keys with `times` these counts.
    pub(crate) fn assert_equals<'a>(
        &self,
        entries: impl Iterator<Item = (&'a [u8], u64)>,
        times: u64,
        what: &str,
    ) {
        let mut key_count = 0;
        for (key, count) in entries {
            let expected = self.counts.get(key).map(|count| count * times);
            let key = || key[..key.len().min(40)].escape_ascii();
            assert_eq!(expected, Some(count), "{what}: count of {}", key());
            key_count += 1;
        }
        assert_eq!(self.counts.len(), key_count, "{what}: distinct keys");
    }

    /// As [`assert_equals`](Self::assert_equals), but of a batch that holds the corpus once.
    pub(crate) fn assert_batch(&self, batch: &Batch<'_, u64>, what: &str) {
        assert_eq!(batch.stats().tokens, self.tokens, "{what}: tokens");
        self.assert_equals(batch.iter(), 1, what);
    }
}

/// Makes different keys: every length in `lengths` in turn, the number in front.
pub(crate) fn keys(count: usize, lengths: std::ops::RangeInclusive<usize>) -> Vec<Vec<u8>> {
    let span = lengths.end() - lengths.start() + 1;
    let key = |number: usize| {
        // An odd factor keeps the numbers different and takes neighbours apart.
        let scattered = (number as u32).wrapping_mul(0x9e37_79b1);
        let mut key = Vec::new();
        let mut rest = scattered;
        for _ in 0..7 {
            key.push(b'a' + (rest % 26) as u8);
            rest /= 26;
        }
        assert_eq!(rest, 0, "seven letters hold 32 bits");
        key.resize(lengths.start() + number % span, b'z');
        key
    };
    assert!(*lengths.start() >= 7, "a key holds its number");
    (0..count).map(key).collect()
}

/// Draws `count` numbers below `below`, small ones more often, about as in text: the logarithm is
/// uniform.
pub(crate) fn skewed(count: usize, below: usize) -> Vec<usize> {
    let mut random = Random(10);
    let bits = u64::from(below.ilog2());
    let mut draw = || {
        let top = 1u64 << random.below(bits + 1);
        (random.below(top) as usize) % below
    };
    (0..count).map(|_| draw()).collect()
}

/// Returns the different keys of a corpus that has about `count`, in byte order.
pub(crate) fn distinct(kind: Kind, text_bytes: usize, count: usize) -> Vec<Vec<u8>> {
    let corpus = Corpus::of(kind, text_bytes);
    let words = corpus
        .bytes
        .split(|&byte| byte == SEPARATOR || byte == b'\n');
    let different: BTreeSet<&[u8]> = words.filter(|word| !word.is_empty()).collect();
    different.into_iter().take(count).map(Vec::from).collect()
}

/// A simple generator: nothing measured here depends on its quality.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scatter(self.0) % end
    }
}

/// Different numbers stay different and look unrelated: multiplications by odd numbers and shifts
/// that can be undone.
fn scatter(number: u64) -> u64 {
    let mixed = (number ^ number >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ mixed >> 32
}
