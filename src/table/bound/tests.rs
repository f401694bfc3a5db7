use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::table::add;
use crate::table::keys::Seed;

type Model = BTreeMap<Vec<u8>, u64>;

fn bound(bytes: usize, on_limit: OnLimit) -> Bound {
    Bound {
        bytes,
        on_limit,
        may_defer: true,
    }
}

fn small(on_limit: OnLimit) -> Bound {
    bound(Table::<u64>::bytes_min() + 700_000, on_limit)
}

/// The key of a number, of all three classes: every number has one.
fn key(number: u64) -> Vec<u8> {
    match number % 5 {
        0..=2 => format!("{number:x}").into_bytes(),
        3 => format!("{number:012x}").into_bytes(),
        _ => format!("{number:x}-{}", "k".repeat(17 + (number % 90) as usize)).into_bytes(),
    }
}

fn random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Numbers as an adversary, or the world, sends them.
#[derive(Clone, Copy, Debug)]
enum Stream {
    Zipf,
    Uniform,
    UniqueThenHot,
    HotThenUnique,
    /// Keys of one class after the other.
    ClassByClass,
}

impl Stream {
    fn numbers(self, count: u64, seed: u64) -> Vec<u64> {
        let mut state = seed;
        (0..count)
            .map(|at| match self {
                // Inverse of the distribution function for an exponent of 1.
                Stream::Zipf => {
                    let unit = random(&mut state) as f64 / f64::from(1u32 << 31);
                    (unit * (300_000f64).ln()).exp() as u64
                }
                Stream::Uniform => random(&mut state) % 100_000,
                Stream::UniqueThenHot if at < count * 3 / 4 => 1_000_000 + at,
                Stream::HotThenUnique if at >= count / 4 => 1_000_000 + at,
                Stream::UniqueThenHot | Stream::HotThenUnique => random(&mut state) % 50,
                Stream::ClassByClass => {
                    let class = [0, 3, 4][(at * 3 / count) as usize];
                    random(&mut state) % 20_000 * 5 + class
                }
            })
            .collect()
    }
}

fn stream() -> impl Strategy<Value = Stream> {
    prop_oneof![
        Just(Stream::Zipf),
        Just(Stream::Uniform),
        Just(Stream::UniqueThenHot),
        Just(Stream::HotThenUnique),
        Just(Stream::ClassByClass),
    ]
}

/// Everything that is promised of a table that was given what the model has.
fn check(table: &Table<u64>, model: &Model) {
    assert_eq!(table.short.measured(), table.short.table_bytes());
    assert_eq!(table.medium.measured(), table.medium.table_bytes());
    assert_eq!(table.long.measured(), table.long.table_bytes());
    let loss = table.loss();
    let (mut records, mut bytes) = (loss.shed + loss.other, loss.shed_bytes + loss.other_bytes);
    for (key, kept) in table.iter_kept() {
        records += kept;
        bytes += kept * key.len() as u64;
        assert!(model.contains_key(key), "{key:?} was never added");
    }
    assert_eq!(records, model.values().sum::<u64>(), "records are lost");
    let model_bytes = model.iter().map(|(key, n)| key.len() as u64 * n);
    assert_eq!(bytes, model_bytes.sum::<u64>(), "bytes are lost");
    for (key, &n) in model {
        let kept = table.get_kept(key).unwrap_or(0);
        assert!(kept <= n, "{key:?}: {kept} kept, {n} added");
        assert!(
            n <= kept + loss.error + loss.other,
            "{key:?}: {kept}, {n}, {loss:?}"
        );
        if let Some(shown) = table.get(key) {
            assert!(shown >= n - loss.other.min(n) && shown <= n + loss.error);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn case_16_the_bound_is_true_whatever_comes_and_the_limit_holds(
        stream in stream(), seed in any::<u64>(), shards in 1usize..5, batches in 1usize..3,
        is_exact in any::<bool>(),
    ) {
        let on_limit = if is_exact { OnLimit::Other } else { OnLimit::Approximate };
        let bound = small(on_limit);
        let one = Seed::random();
        let mut tables: Vec<_> = (0..shards).map(|_| Table::counting(one, bound)).collect();
        for batch in 0..batches {
            let mut model = Model::new();
            let mut state = seed;
            for number in stream.numbers(40_000, seed.wrapping_add(batch as u64)) {
                let key = key(number);
                let table = &mut tables[random(&mut state) as usize % shards];
                table.add(&key, 1, add);
                *model.entry(key).or_insert(0) += 1;
                prop_assert!(table.allocated_bytes() <= bound.bytes, "{}", table.allocated_bytes());
            }
            let mut first = tables.remove(0);
            let alone = (shards == 1).then(|| model.clone());
            for table in &tables {
                first.merge_from(table, add);
                if on_limit == OnLimit::Approximate {
                    prop_assert!(first.allocated_bytes() <= bound.bytes);
                }
            }
            check(&first, &model);
            if let (Some(model), OnLimit::Other) = (alone, on_limit) {
                // What one table kept it kept whole.
                for (key, kept) in first.iter() {
                    prop_assert_eq!(model[key], kept);
                }
            }
            tables.insert(0, first);
            tables.iter_mut().for_each(Table::clear);
            for table in &tables {
                prop_assert!(table.loss().is_none() && table.is_empty());
                prop_assert!(table.allocated_bytes() <= bound.bytes);
            }
        }
    }
}

#[test]
fn nothing_is_lost_below_the_limit() {
    let mut table = Table::counting(Seed::random(), small(OnLimit::Approximate));
    for number in 0..6000 {
        table.add(&key(number), 1, add);
    }
    assert_eq!((table.len(), table.loss()), (6000, Loss::default()));
}

/// Garbage that is all different fills the table; what is frequent afterwards is found all the same.
#[test]
fn case_16_frequent_keys_are_found_after_garbage() {
    let bound = small(OnLimit::Approximate);
    let mut table = Table::counting(Seed::random(), bound);
    let mut model = Model::new();
    for number in Stream::UniqueThenHot.numbers(800_000, 7) {
        table.add(&key(number), 1, add);
        *model.entry(key(number)).or_insert(0) += 1;
    }
    check(&table, &model);
    let error = table.loss().error;
    assert!(
        error > 0 && error < 200,
        "{error}: the table is full, and not tiny"
    );
    for number in 0..50 {
        assert!(table.get(&key(number)).is_some(), "{number} is frequent");
    }
}

/// Keys of one class had all the memory; those of another get their share of it, and not one look at the whole
/// table each.
#[test]
fn another_class_gets_room() {
    let bound = bound(Table::<u64>::bytes_min() + 3_000_000, OnLimit::Approximate);
    let mut table = Table::counting(Seed::random(), bound);
    for number in 0..400_000u64 {
        table.add(&number.to_le_bytes()[..5], 3, add);
    }
    let before = table.loss();
    for number in 0..400_000u64 {
        table.add(format!("{number:030}").as_bytes(), 5, add);
    }
    assert!(before.error > 0);
    assert!(table.long.len() > 4000, "{} long keys", table.long.len());
    assert!(table.allocated_bytes() <= bound.bytes);
}

/// A key that is longer than the table may hold at all.
#[test]
fn case_52_a_key_without_any_room_is_in_the_error() {
    let mut table = Table::counting(Seed::random(), small(OnLimit::Approximate));
    let long = vec![b'x'; 3_000_000];
    let mut model = Model::new();
    for key in [
        &b"word"[..],
        &long,
        b"word",
        &long,
        b"a key of more than 16 bytes",
    ] {
        table.add(key, 1, add);
        *model.entry(key.to_vec()).or_insert(0) += 1;
    }
    check(&table, &model);
    assert_eq!(table.get(&long), None);
    assert!(table.loss().error >= 2);
}

/// Values that cannot be taken off from: new keys are counted, known ones go on.
#[test]
fn a_full_table_of_values_keeps_what_it_has() {
    let bound = small(OnLimit::Approximate);
    let mut table = Table::<f64>::bounded(Seed::random(), bound);
    for round in 1..=3 {
        for number in 0..60_000 {
            table.add(&key(number), 1.5, |a, b| a + b);
            assert!(table.allocated_bytes() <= bound.bytes);
        }
        let kept = table.len() as u64;
        assert_eq!(table.loss().other, round * (60_000 - kept));
        assert!(table.iter().all(|(_, value)| value == 1.5 * round as f64));
    }
    assert!(table.len() < 60_000);
}
