//! `split`: every kernel that this CPU can run, on one block that stays in the second-level cache.
//!
//! `index` is the pass that finds delimiters, `tokens` the whole of it with a consumer that only
//! looks at lengths and first bytes, so that the cutting is not optimised away and nothing else is
//! paid for.
//!
//! Not all corpora: where delimiters lie is all that a splitter sees, and the keys between them may
//! be what they want.

mod corpus;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use microtally::Rule;
use microtally::config::LineEnds;
use microtally::internals::{CHUNK_BYTES_MAX, ENDS_LEN, Kernel, Splitter, scalar};

use corpus::{Corpus, SEPARATOR};

const RULE: Rule = Rule::Split(SEPARATOR);

/// Each has its delimiters elsewhere.
const CORPORA: [&str; 8] = [
    "king-james",
    "english",
    "log",
    "words-9-16",
    "one-letter",
    "blanks",
    "giant-word",
    "crlf",
];

fn main() {
    let mut criterion = corpus::criterion(Duration::from_secs(1));
    // What an engine's block holds.
    let mut corpora = Corpus::all(corpus::sized(64 << 10, 256 << 10));
    corpora.retain(|corpus| CORPORA.contains(&corpus.name));
    index(&mut criterion, &corpora);
    tokens(&mut criterion, &corpora);
    criterion.final_summary();
}

fn index(criterion: &mut Criterion, corpora: &[Corpus]) {
    let mut group = criterion.benchmark_group("split/index");
    let mut ends = vec![0; ENDS_LEN];
    for Corpus { name, bytes } in corpora {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let delimiters = |byte: &&u8| RULE.separates_at(**byte) || matches!(byte, b'\n' | b'\r');
        let expected = bytes.iter().filter(delimiters).count();
        for kernel in Kernel::available() {
            assert_eq!(index_all(kernel, bytes, &mut ends), expected);
            group.bench_function(BenchmarkId::new(kernel.name(), name), |bencher| {
                bencher.iter(|| index_all(kernel, black_box(bytes), &mut ends));
            });
        }
    }
}

/// Indexes chunk after chunk, as the splitter does.
fn index_all(kernel: Kernel, bytes: &[u8], ends: &mut [u16]) -> usize {
    let chunks = bytes.chunks(CHUNK_BYTES_MAX);
    let found = chunks.map(|chunk| kernel.index(RULE, chunk, ends).delimiters);
    found.sum()
}

fn tokens(criterion: &mut Criterion, corpora: &[Corpus]) {
    let mut group = criterion.benchmark_group("split/tokens");
    for Corpus { name, bytes } in corpora {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let mut expected = 0;
        let tallied = scalar::tokens(bytes, RULE, LineEnds::Universal, |token| {
            expected = mix(expected, token)
        });
        for kernel in Kernel::available() {
            let mut splitter = Splitter::new(RULE, kernel);
            let mut found = 0;
            let same = splitter.tokens(bytes, |token| found = mix(found, token));
            assert_eq!((same, found), (tallied, expected), "{name}, {kernel:?}");
            group.bench_function(BenchmarkId::new(kernel.name(), name), |bencher| {
                bencher.iter(|| {
                    let mut found = 0;
                    splitter.tokens(black_box(bytes), |token| found = mix(found, token));
                    found
                });
            });
        }
    }
}

/// Depends on the length and the first byte of every token.
#[inline(always)]
fn mix(sum: u64, token: &[u8]) -> u64 {
    let first = token.first().copied().unwrap_or(0);
    sum.wrapping_add(token.len() as u64 ^ u64::from(first) << 32)
}
