//! What aggregates cost beside a count: a record of a known key, its look-up included.
//!
//! The rank of a key is the number of keys to the power of a random number below 1: Zipf's law.
//! The values are response times as they are: from 0.1 ms to some seconds, most of them near 10 ms.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use microtally::aggregate::{Aggregate, Count, Distinct, Mean, Percentile, Sum};
use microtally::internals::{AggregateTable, Seed};

const RECORDS: usize = 1 << 16;

/// Numbers that look random, the same in every run.
fn words() -> impl Iterator<Item = u64> {
    let mut state = 1u64;
    std::iter::from_fn(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Some((mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 11)
    })
}

/// Keys of 8 bytes, the first ones most often, each with a value.
fn records(keys: usize) -> Vec<([u8; 8], u64)> {
    let unit = |word: u64| word as f64 / (1u64 << 53) as f64;
    let mut words = words();
    let mut next = || unit(words.next().expect("endless"));
    let records = (0..RECORDS).map(|_| {
        let key = (keys as f64).powf(next()) as u64;
        let micros = 10_000.0 * ((next() + next() + next() - 1.5) * 4.0).exp();
        (key.to_be_bytes(), micros as u64)
    });
    records.collect()
}

fn cost<A: Aggregate<u64>>(c: &mut Criterion, name: &str, aggregate: &A) {
    let mut group = c.benchmark_group("aggregate");
    group.throughput(Throughput::Elements(RECORDS as u64));
    for keys in [1, 1000, 30_000] {
        let records = records(keys);
        let mut table = AggregateTable::unlimited(aggregate.clone(), Seed::random());
        let pass = |table: &mut AggregateTable<A, u64>| {
            for (key, value) in &records {
                table.add(key, key, *value);
            }
        };
        let empty = table.held_bytes();
        pass(&mut table);
        println!(
            "{name}/{keys} keys: {} bytes a key",
            (table.held_bytes() - empty) / keys
        );
        group.bench_function(format!("{name}/{keys} keys"), |b| {
            b.iter_batched_ref(|| (), |()| pass(&mut table), BatchSize::LargeInput);
        });
    }
}

fn aggregates(c: &mut Criterion) {
    cost(c, "count", &Count);
    cost(c, "sum", &Sum);
    cost(c, "mean", &Mean);
    cost(c, "p99", &Percentile::new(99.0));
    cost(c, "distinct", &Distinct::new());
    let three = (Count, Percentile::new(99.0), Distinct::new());
    cost(c, "count,p99,distinct", &three);
}

criterion_group!(benches, aggregates);
criterion_main!(benches);
