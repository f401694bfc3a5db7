//! `table`: what one `add` costs, by key class, for keys that are known and for keys that are new.
//!
//! `add` takes a key from anywhere. Inside an engine the key lies in a block whose neighbouring
//! bytes may be read, which saves copying a short key together; `pipeline` measures that way.

mod corpus;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use microtally::internals::{KeyTable, Seed};

use corpus::{Corpus, Kind, SEPARATOR};

fn main() {
    let mut criterion = corpus::criterion(Duration::from_secs(2));
    known(&mut criterion);
    new(&mut criterion);
    criterion.final_summary();
}

fn add(a: u64, b: u64) -> u64 {
    a + b
}

/// The key classes of a table with keys of each, at the lengths where a class begins and ends; then
/// keys of one length, and keys that collide in hash functions without a secret.
fn classes(count: usize) -> [(&'static str, Vec<Vec<u8>>); 6] {
    [
        ("short-7-8", corpus::keys(count, 7..=8)),
        ("medium-9-16", corpus::keys(count, 9..=16)),
        ("long-17-40", corpus::keys(count, 17..=40)),
        ("uuid-36", corpus::distinct(Kind::Uuid, 40 * count, count)),
        (
            "collide-fx-8",
            corpus::distinct(Kind::CollideFx, 64 * count, count),
        ),
        (
            "collide-fold-16",
            corpus::distinct(Kind::CollideFold, 64 * count, count),
        ),
    ]
}

/// Keys that the table has, the first ones more often, as in text.
fn known(criterion: &mut Criterion) {
    let text = Corpus::of(Kind::English, corpus::sized(64 << 10, 4 << 20));
    let words = text.bytes.split(|&byte| byte == SEPARATOR || byte == b'\n');
    let mut streams = vec![("english", words.map(<[u8]>::to_vec).collect::<Vec<_>>())];
    for (name, keys) in classes(corpus::sized(2000, 20_000)) {
        let draws = corpus::skewed(corpus::sized(10_000, 500_000), keys.len());
        streams.push((name, draws.into_iter().map(|n| keys[n].clone()).collect()));
    }
    let mut group = criterion.benchmark_group("table/known");
    for (name, stream) in &streams {
        group.throughput(throughput(stream));
        // One after the other in memory, as words of a text are.
        let (bytes, ends) = laid_out(stream);
        let mut table = KeyTable::new(Seed::random());
        add_all(&mut table, &bytes, &ends);
        assert_counted(&table, stream, name);
        group.bench_function(*name, |bencher| {
            bencher.iter(|| add_all(&mut table, black_box(&bytes), &ends));
        });
    }
}

/// Keys that the table does not have: into the room of a cleared table, and into a table that
/// grows.
fn new(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table/new");
    for (name, keys) in &classes(corpus::sized(2000, 200_000)) {
        group.throughput(throughput(keys));
        let (bytes, ends) = laid_out(keys);
        let mut table = KeyTable::new(Seed::random());
        add_all(&mut table, &bytes, &ends);
        assert_counted(&table, keys, name);
        group.bench_function(BenchmarkId::new("cleared", name), |bencher| {
            bencher.iter_custom(|iterations| {
                timed(iterations, || {
                    table.clear();
                    let start = Instant::now();
                    add_all(&mut table, black_box(&bytes), &ends);
                    start.elapsed()
                })
            });
        });
        assert_eq!(table.len(), keys.len());
        group.bench_function(BenchmarkId::new("growing", name), |bencher| {
            bencher.iter_custom(|iterations| {
                timed(iterations, || {
                    let mut table = KeyTable::new(Seed::random());
                    let start = Instant::now();
                    add_all(&mut table, black_box(&bytes), &ends);
                    let elapsed = start.elapsed();
                    assert_eq!(table.len(), keys.len());
                    elapsed
                })
            });
        });
    }
}

/// Sums what each of `iterations` calls says it took; what it does besides is not measured.
fn timed(iterations: u64, once: impl FnMut() -> Duration) -> Duration {
    let mut once = once;
    (0..iterations).map(|_| once()).sum()
}

fn throughput(keys: &[Vec<u8>]) -> Throughput {
    Throughput::ElementsAndBytes {
        elements: keys.len() as u64,
        bytes: keys.iter().map(|key| key.len() as u64).sum(),
    }
}

/// The keys in one piece, and where each ends.
fn laid_out(keys: &[Vec<u8>]) -> (Vec<u8>, Vec<u32>) {
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    for key in keys {
        bytes.extend_from_slice(key);
        ends.push(u32::try_from(bytes.len()).expect("less than 4 GiB of keys"));
    }
    (bytes, ends)
}

fn add_all(table: &mut KeyTable<u64>, bytes: &[u8], ends: &[u32]) {
    let mut start = 0;
    for &end in ends {
        table.add(&bytes[start..end as usize], 1, add);
        start = end as usize;
    }
}

/// Panics unless `table` holds what a `BTreeMap` makes of `keys`.
fn assert_counted(table: &KeyTable<u64>, keys: &[Vec<u8>], what: &str) {
    let mut expected = BTreeMap::<&[u8], u64>::new();
    for key in keys {
        *expected.entry(key).or_insert(0) += 1;
    }
    let found: BTreeMap<&[u8], u64> = table.iter().collect();
    assert!(found == expected, "{what}: the table counts wrong");
    assert_eq!(table.len(), expected.len(), "{what}: a key stands twice");
}
