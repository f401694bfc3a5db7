//! What the benches count, the obvious count of it, and how criterion is set up.
//!
//! Promise: the same bytes in every run; every corpus is whole lines without a `\r`. Refuses to know: what
//! is measured.
//!
//! `cargo bench` passes `--bench` and gets the large sizes; `cargo test --benches` does not, runs each body
//! once on the small ones, and so shows that the benches still build, run and get the right answers.

// Each bench is a program of its own and uses a part of this.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::time::Duration;

use criterion::Criterion;
use microtally::Batch;
use microtally::generate::Words;

/// One separator for all benches: the tutorial's.
pub(crate) const SEPARATOR: u8 = b' ';

/// A word that is much longer than a block and a quarter of the record limit.
const GIANT_BYTES_MAX: usize = 4 << 20;

/// Distinct keys of the uniform corpus: their table does not fit a second-level cache.
const UNIFORM_KEYS: u64 = 1 << 20;

/// Text of one kind.
pub(crate) struct Corpus {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// What the obvious program finds in a corpus.
pub(crate) struct Expected<'c> {
    pub(crate) counts: BTreeMap<&'c [u8], u64>,
    pub(crate) tokens: u64,
}

/// Whether this is a measurement and not a test.
pub(crate) fn is_measuring() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// `large` when measuring, `small` in a test.
pub(crate) fn sized(small: usize, large: usize) -> usize {
    if is_measuring() { large } else { small }
}

/// Ten samples in `measurement` for each benchmark: spread enough to see a change of some per cent, and
/// all benches together take minutes. Flags on the command line win.
pub(crate) fn criterion(measurement: Duration) -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(measurement)
        .without_plots()
        .configure_from_args()
}

impl Corpus {
    /// Every corpus, of about `bytes` bytes each.
    pub(crate) fn all(bytes: usize) -> Vec<Corpus> {
        vec![
            Corpus::english(bytes),
            Corpus::zipf_million(bytes),
            Corpus::uniform(bytes),
            Corpus::letters(bytes),
            Corpus::blanks(bytes),
            Corpus::giant(bytes),
            Corpus::log(bytes),
        ]
    }

    /// English-like words: a vocabulary of 50 000 with Zipf's distribution.
    pub(crate) fn english(bytes: usize) -> Corpus {
        Corpus {
            name: "english",
            bytes: generated(bytes, 50_000),
        }
    }

    /// The same with a vocabulary of a million: the tail makes keys that were never seen before. A test
    /// is too short to meet the tail and saves the time to make it.
    pub(crate) fn zipf_million(bytes: usize) -> Corpus {
        Corpus {
            name: "zipf-1m",
            bytes: generated(bytes, sized(50_000, 1_000_000)),
        }
    }

    /// Keys of 8 bytes, all equally frequent: no branch of the table is predicted, no key is in a cache.
    pub(crate) fn uniform(bytes: usize) -> Corpus {
        let mut random = Random(7);
        let lines = fill(bytes, |line| {
            for _ in 0..8 {
                let key = scatter(random.below(UNIFORM_KEYS)) as u32;
                line.extend_from_slice(format!("{key:08x}").as_bytes());
                line.push(SEPARATOR);
            }
            *line.last_mut().expect("eight keys") = b'\n';
        });
        Corpus {
            name: "uniform-8",
            bytes: lines,
        }
    }

    /// Words of one letter: a token every two bytes.
    pub(crate) fn letters(bytes: usize) -> Corpus {
        let mut random = Random(8);
        let lines = fill(bytes, |line| {
            for _ in 0..40 {
                line.extend_from_slice(&[b'a' + random.below(26) as u8, SEPARATOR]);
            }
            *line.last_mut().expect("forty letters") = b'\n';
        });
        Corpus {
            name: "one-letter",
            bytes: lines,
        }
    }

    /// One line of blanks: an empty token a byte, the most tokens that text can have.
    pub(crate) fn blanks(bytes: usize) -> Corpus {
        let mut line = vec![SEPARATOR; bytes];
        line[bytes - 1] = b'\n';
        Corpus {
            name: "blanks",
            bytes: line,
        }
    }

    /// One word, as long as may be, over and over: nearly no token at all.
    pub(crate) fn giant(bytes: usize) -> Corpus {
        let giant_bytes = bytes.min(GIANT_BYTES_MAX);
        let lines = fill(bytes, |line| {
            line.resize(line.len() + giant_bytes - 1, b'x');
            line.push(b'\n');
        });
        Corpus {
            name: "giant-word",
            bytes: lines,
        }
    }

    /// Lines of a web server's log: long words, many digits, nearly every time stamp a new key.
    pub(crate) fn log(bytes: usize) -> Corpus {
        const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
        const STATUSES: [u16; 5] = [200, 204, 301, 404, 500];
        let mut random = Random(9);
        let mut ms: u64 = 0;
        let lines = fill(bytes, |line| {
            ms += random.below(40);
            let text = format!(
                "2026-11-22T{:02}:{:02}:{:02}.{:03}Z INFO web-{} request={:016x} {} \
                 /api/v1/items/{}/details {} {}ms\n",
                ms / 3_600_000 % 24,
                ms / 60_000 % 60,
                ms / 1000 % 60,
                ms % 1000,
                random.below(16),
                scatter(ms),
                METHODS[random.below(4) as usize],
                random.below(5000),
                STATUSES[random.below(5) as usize],
                random.below(300),
            );
            line.extend_from_slice(text.as_bytes());
        });
        Corpus {
            name: "log",
            bytes: lines,
        }
    }

    /// Counts as one would write it first. It shares no code with what is measured.
    pub(crate) fn expected(&self) -> Expected<'_> {
        let lines = self.bytes.strip_suffix(b"\n").expect("whole lines");
        let mut counts = BTreeMap::new();
        let mut tokens = 0;
        for line in lines.split(|&byte| byte == b'\n') {
            for token in line.split(|&byte| byte == SEPARATOR) {
                *counts.entry(token).or_insert(0) += 1;
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

    /// As [`assert_equals`](Self::assert_equals), of a batch that holds the corpus once.
    pub(crate) fn assert_batch(&self, batch: &Batch<'_, u64>, what: &str) {
        assert_eq!(batch.stats().tokens, self.tokens, "{what}: tokens");
        self.assert_equals(batch.iter(), 1, what);
    }
}

/// Made-up keys, all different: every length in `lengths` in turn, the number in front.
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

/// `count` draws of numbers below `below`, the small ones more often, about as in text: the logarithm is
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

/// Whole lines of generated text, about `bytes` bytes.
fn generated(bytes: usize, vocabulary: usize) -> Vec<u8> {
    let words = Words::new(1).vocabulary(vocabulary).period_bytes(2 * bytes);
    let mut text = words.build().expect("the options are in range");
    let mut made = vec![0; bytes];
    text.fill(&mut made);
    let line_end = made.iter().rposition(|&byte| byte == b'\n');
    made.truncate(line_end.expect("lines are short") + 1);
    made
}

/// Calls `append` until there are `bytes` bytes.
fn fill(bytes: usize, mut append: impl FnMut(&mut Vec<u8>)) -> Vec<u8> {
    let mut lines = Vec::with_capacity(bytes + 4096);
    while lines.len() < bytes {
        append(&mut lines);
    }
    lines
}

/// A generator of the benches' own: nothing measured here depends on its quality.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scatter(self.0) % end
    }
}

/// Different numbers stay different and look unrelated: multiplications by odd numbers and shifts that can
/// be undone.
fn scatter(number: u64) -> u64 {
    let mixed = (number ^ number >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ mixed >> 32
}
