//! `merge`: what the publisher pays at the end of a batch, by distinct key.
//!
//! `same` merges a table with the keys that the other has already: two shards that counted one
//! vocabulary. `disjoint` merges keys that are all new: the first shard's table into the empty
//! result. `share` is what it comes to in batches of several sizes. `top` ranks.

mod corpus;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Write;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use microtally::internals::{KeyTable, Seed};
use microtally::time::BatchTime;
use microtally::{Engine, Rule, Tally};

use corpus::{Corpus, Kind, SEPARATOR};

fn main() {
    let mut criterion = corpus::criterion(Duration::from_secs(2));
    merge(&mut criterion);
    share(&mut criterion);
    top(&mut criterion);
    criterion.final_summary();
}

fn add(a: u64, b: u64) -> u64 {
    a + b
}

fn merge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("merge");
    for key_count in [corpus::sized(500, 10_000), corpus::sized(2000, 200_000)] {
        // A vocabulary has keys of every class.
        let keys = corpus::keys(2 * key_count, 7..=20);
        let (ours, theirs) = keys.split_at(key_count);
        group.throughput(Throughput::ElementsAndBytes {
            elements: key_count as u64,
            bytes: theirs.iter().map(|key| key.len() as u64).sum(),
        });
        let seed = Seed::random();

        let (mut into, from) = (table(seed, theirs), table(seed, theirs));
        into.merge_from(&from, add);
        assert_holds(&into, theirs.iter().map(|key| (&key[..], 2)));
        group.bench_function(BenchmarkId::new("same", key_count), |bencher| {
            bencher.iter(|| into.merge_from(black_box(&from), add));
        });

        let (base, mut into) = (table(seed, ours), KeyTable::new(seed));
        into.merge_from(&base, add);
        into.merge_from(&from, add);
        assert_holds(&into, keys.iter().map(|key| (&key[..], 1)));
        group.bench_function(BenchmarkId::new("disjoint", key_count), |bencher| {
            bencher.iter_custom(|iterations| {
                let mut elapsed = Duration::ZERO;
                for _ in 0..iterations {
                    into.clear();
                    into.merge_from(&base, add);
                    let start = Instant::now();
                    into.merge_from(black_box(&from), add);
                    elapsed += start.elapsed();
                }
                elapsed
            });
        });
        assert_eq!(into.len(), keys.len());
    }
}

fn table(seed: Seed, keys: &[Vec<u8>]) -> KeyTable<u64> {
    let mut table = KeyTable::new(seed);
    for key in keys {
        table.add(key, 1, add);
    }
    table
}

/// Panics unless `table` holds exactly `entries`.
fn assert_holds<'k>(table: &KeyTable<u64>, entries: impl Iterator<Item = (&'k [u8], u64)>) {
    let expected: BTreeMap<&[u8], u64> = entries.collect();
    let found: BTreeMap<&[u8], u64> = table.iter().collect();
    assert!(found == expected, "the merged table counts wrong");
    assert_eq!(table.len(), expected.len(), "a key stands twice");
}

/// What merging takes of a batch: `batch` is from the first byte written until the result is there,
/// `merge` the part of it behind the hand-over. One shard and the writing thread count, so there
/// are two tables.
fn share(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("share");
    let corpus = Corpus::of(Kind::English, corpus::sized(256 << 10, 64 << 20));
    for mib in [1, 4, 16, 64] {
        let part = &corpus.bytes[..corpus::sized(mib << 12, mib << 20).min(corpus.bytes.len())];
        let end = memchr::memrchr(b'\n', part).expect("many lines") + 1;
        let bytes = &part[..end];
        let tokens = memchr::memchr2_iter(SEPARATOR, b'\n', bytes).count() as u64;
        let (sender, batches) = mpsc::channel();
        let builder = Engine::builder(Rule::Split(SEPARATOR)).workers(1);
        let engine = builder.start(move |batch| {
            // Nobody listens when the engine finishes.
            let _ = sender.send((batch.stats().tokens, batch.stats().processing));
        });
        let engine = engine.expect("the engine starts");
        let mut input = engine.writer().expect("one input");
        let mut time_ms = 0;
        let mut once = || {
            let start = Instant::now();
            input.write_all(bytes).expect("the engine runs");
            time_ms += 1;
            let time = BatchTime::from_millis(time_ms);
            engine.cut(time).expect("the engine runs");
            let (counted, processing) = batches.recv().expect("each cut gives a batch");
            assert_eq!(counted, tokens);
            (start.elapsed(), processing)
        };
        once();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("batch", format!("{mib}MiB")), |bencher| {
            bencher.iter_custom(|iterations| (0..iterations).map(|_| once().0).sum());
        });
        group.bench_function(BenchmarkId::new("merge", format!("{mib}MiB")), |bencher| {
            bencher.iter_custom(|iterations| (0..iterations).map(|_| once().1).sum());
        });
        drop(input);
        engine.finish().expect("the engine ends well");
    }
}

fn top(criterion: &mut Criterion) {
    let corpus = Corpus::of(Kind::ZipfMillion, corpus::sized(256 << 10, 16 << 20));
    let expected = corpus.expected();
    let mut ranked: Vec<(&[u8], u64)> = expected.counts.iter().map(|(k, n)| (*k, *n)).collect();
    // Stable, and the map's order is that of bytes: equal counts stay in it.
    ranked.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let mut tally = Tally::new(Rule::Split(SEPARATOR));
    tally.push(&corpus.bytes);
    let batch = tally
        .cut(BatchTime::from_millis(1))
        .expect("the ledger closes");

    let mut group = criterion.benchmark_group("top");
    group.throughput(Throughput::ElementsAndBytes {
        elements: ranked.len() as u64,
        bytes: ranked.iter().map(|(key, _)| key.len() as u64).sum(),
    });
    for count in [10, 1000, usize::MAX] {
        assert_eq!(batch.top(count), ranked[..count.min(ranked.len())]);
        let name = if count == usize::MAX {
            "all".to_owned()
        } else {
            count.to_string()
        };
        group.bench_function(name, |bencher| bencher.iter(|| batch.top(black_box(count))));
    }
}
