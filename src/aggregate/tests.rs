//! Aggregates against the naive model: the values of each key in a list.
//!
//! KeyedValues are divided among tables of different seeds, the tables merged in a random order, by
//! merges with and without a cap, and the result compared with what the lists say.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::table::AggregateTable;
use super::*;
use crate::config::OnLimit;
use crate::table::KeyTable;
use crate::table::bound::MemoryCap;
use crate::table::keys::Seed;

type KeyedValues = Vec<(Vec<u8>, i64)>;

type Model = BTreeMap<Vec<u8>, Vec<i64>>;

fn model(records: &[(Vec<u8>, i64)]) -> Model {
    let mut model = Model::new();
    for (key, value) in records {
        model.entry(key.clone()).or_default().push(*value);
    }
    model.values_mut().for_each(|values| values.sort_unstable());
    model
}

/// The results of records that are divided among `parts` tables by `part_of`.
fn results<T: Copy, A: Aggregate<T>>(
    aggregate: &A,
    records: impl Iterator<Item = (Vec<u8>, T, usize)>,
    parts: usize,
    is_within: bool,
) -> BTreeMap<Vec<u8>, A::Output> {
    let cap = match is_within {
        true => MemoryCap::new(256 << 20, OnLimit::Other),
        false => MemoryCap::NONE,
    };
    let table = || AggregateTable::new(aggregate.clone(), Seed::random(), cap.clone());
    let mut tables: Vec<AggregateTable<A, T>> = (0..parts).map(|_| table()).collect();
    for (key, value, part) in records {
        tables[part % parts].add(&[], &key, value);
    }
    while tables.len() > 1 {
        // The first into the last, then the next into the one before.
        let from = tables.swap_remove(0);
        let into = tables.last_mut().expect("there is one more");
        match is_within {
            true => into.merge_within(&from),
            false => into.merge_from(&from),
        }
        tables.rotate_right(1);
    }
    let mut finished = KeyTable::new(Seed::random());
    tables[0].finish_into(&mut finished);
    assert!(tables[0].overflow().is_none());
    let entries = finished.iter();
    entries.map(|(key, value)| (key.to_vec(), value)).collect()
}

fn records() -> impl Strategy<Value = Vec<(Vec<u8>, i64, usize)>> {
    let value = prop_oneof![
        4 => -300i64..300,
        2 => any::<i64>(),
        1 => Just(0),
        1 => Just(i64::MAX),
    ];
    let key = (0usize..6, 0usize..3).prop_map(|(key, class)| {
        let mut text = key.to_string().into_bytes();
        text.resize([1, 12, 30][class], b'-');
        text
    });
    proptest::collection::vec((key, value, any::<usize>()), 1..400)
}

proptest! {
    #[test]
    fn exact_aggregates_equal_the_model(
        records in records(),
        parts in 1usize..6,
        is_within in any::<bool>(),
    ) {
        let seen: KeyedValues = records.iter().map(|(key, value, _)| (key.clone(), *value)).collect();
        let model = model(&seen);
        let basic = results(&(Count, Sum, Min, Max), records.iter().cloned(), parts, is_within);
        let more = results(&(Mean, Distinct::new()), records.iter().cloned(), parts, is_within);
        prop_assert_eq!(basic.len(), model.len());
        for (key, values) in &model {
            let (count, sum, min, max) = basic[key];
            prop_assert_eq!(count, values.len() as u64);
            prop_assert_eq!(sum, values.iter().map(|&value| i128::from(value)).sum::<i128>());
            prop_assert_eq!((min, max), (values[0], values[values.len() - 1]));
            let mut different = values.clone();
            different.dedup();
            prop_assert_eq!(more[key], (sum as f64 / count as f64, different.len() as u64));
        }
    }

    #[test]
    fn percentiles_are_within_their_bound(
        records in records(),
        parts in 1usize..6,
        percents in [0.0f64..=100.0, 0.0..=100.0, 49.0..=51.0],
    ) {
        let seen: KeyedValues = records.iter().map(|(key, value, _)| (key.clone(), *value)).collect();
        let found = results(&Percentiles::new(percents), records.iter().cloned(), parts, false);
        for (key, values) in &model(&seen) {
            for (percent, found) in percents.into_iter().zip(found[key]) {
                let rank = (percent / 100.0 * values.len() as f64).ceil().max(1.0) as usize;
                let exact = values[rank - 1] as f64;
                prop_assert!((found - exact).abs() <= exact.abs() / 128.0, "{} {}", found, exact);
            }
        }
    }
}

/// Numbers that look random, the same in every run.
fn random_words() -> impl Iterator<Item = u64> {
    let mut state = 1u64;
    std::iter::from_fn(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Some((mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 11)
    })
}

/// Uniform, Zipf, exponential, constant and hostile values against sorted ranks.
#[test]
fn percentiles_of_large_sets_are_within_their_bound() {
    let unit = || random_words().map(|word| (word >> 1) as f64 / (1u64 << 52) as f64);
    let sets: [(&str, Vec<f64>); 7] = [
        ("uniform", unit().take(100_000).collect()),
        (
            "zipf",
            unit()
                .take(100_000)
                .map(|u| (1.0 / (u + 1e-9)).floor())
                .collect(),
        ),
        (
            "exponential",
            unit()
                .take(100_000)
                .map(|u| -0.01 * (1.0 - u).ln())
                .collect(),
        ),
        ("constant", vec![123.456; 1000]),
        (
            "both signs",
            unit().take(50_000).map(|u| (u - 0.3) * 1e6).collect(),
        ),
        // Every bucket there is, and values at the bounds of buckets.
        (
            "all buckets",
            (0..31_000).map(|n| 1e-9 * 1.0028f64.powi(n)).collect(),
        ),
        (
            "powers",
            (-29..96)
                .flat_map(|n| [2f64.powi(n), -(2f64.powi(n))])
                .collect(),
        ),
    ];
    let percents = [0.0, 1.0, 25.0, 50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 100.0];
    for (name, values) in sets {
        let records = values.iter().enumerate();
        let records = records.map(|(number, &value)| (b"k".to_vec(), value, number));
        let found = results(&Percentiles::new(percents), records, 7, false);
        let mut sorted = values;
        sorted.sort_by(f64::total_cmp);
        for (percent, found) in percents.into_iter().zip(found[&b"k"[..]]) {
            let rank = (percent / 100.0 * sorted.len() as f64 - 1e-6)
                .ceil()
                .max(1.0) as usize;
            let exact = sorted[rank - 1];
            let error = (found - exact).abs() / exact.abs().max(1e-300);
            assert!(
                error <= 1.0 / 128.0,
                "{name} p{percent}: {found} for {exact}"
            );
        }
    }
}

#[test]
fn values_without_a_rank_are_skipped() {
    let of = |values: &[f64]| {
        let records = values.iter().map(|&value| (b"k".to_vec(), value, 0));
        results(&Percentile::new(50.0), records, 1, false)[&b"k"[..]]
    };
    assert!(of(&[f64::NAN, -f64::NAN]).is_nan());
    assert_eq!(of(&[f64::NAN, 7.0, f64::NAN]), 7.0);
    assert_eq!(of(&[f64::INFINITY, f64::NEG_INFINITY, 0.0]), 0.0);
    assert_eq!(of(&[5e-324, -5e-324, 1e-12]), 0.0);
    assert!(of(&[f64::INFINITY]) > 1.5e29);
}

/// Sizes up to a million, divided among tables that overlap.
#[test]
fn distinct_is_within_three_standard_errors() {
    for seed in 0..2 {
        let distinct = Distinct::with_seed(seed);
        for size in [0u64, 1, 2, 500, 512, 513, 700, 5000, 1_000_000] {
            let twice = (0..size).chain(0..size / 2);
            let records = twice.map(|number| (b"k".to_vec(), number, number as usize % 5));
            let found = results(&distinct, records, 3, false);
            let found = found.get(&b"k"[..]).copied().unwrap_or(0);
            if size <= 512 {
                assert_eq!(found, size);
            }
            let error = (found as f64 - size as f64).abs();
            assert!(
                error <= 3.0 * 0.01625 * size as f64,
                "{seed}: {found} of {size}"
            );
        }
    }
}

/// Whoever knows no seed cannot make values that fall into the same registers.
#[test]
fn values_that_differ_little_are_distinct_values() {
    for shift in [0, 7, 20, 40] {
        let records = (0..20_000u64).map(|number| (b"k".to_vec(), number << shift, 0));
        let found = results(&Distinct::with_seed(1), records, 1, false)[&b"k"[..]];
        assert!((19_000..21_000).contains(&found), "{found}");
        let distinct = Distinct::with_seed(2);
        let texts = (0..20_000u64).map(|n| distinct.hash(format!("{:>30}", n << shift).as_bytes()));
        let records = texts.map(|hash| (b"k".to_vec(), hash, 0));
        let found = results(&distinct, records, 1, false)[&b"k"[..]];
        assert!((19_000..21_000).contains(&found), "{found}");
    }
}

proptest! {
    /// Sketches and sets of any size, registers included.
    #[test]
    fn states_are_loaded_as_they_were_saved(
        records in records(),
        distinct in 0u64..3000,
        at in any::<prop::sample::Index>(),
        bits in 1u8..,
    ) {
        let lengths = Percentiles::new([50.0, 99.0]);
        let aggregate = ((Count, Sum, Mean), (Min, Max), (lengths, Distinct::with_seed(7)));
        let new = || AggregateTable::new(aggregate, Seed::random(), MemoryCap::NONE);
        let mut table = new();
        for (key, value, _) in &records {
            table.add(&[], key, *value);
        }
        (0..distinct).for_each(|value| table.add(&[], b"many", value as i64));
        let mut bytes = Vec::new();
        table.save(&mut bytes).expect("memory takes all");
        let mut loaded = new();
        let mut from = &bytes[..];
        loaded.load(&mut from).expect("it was saved");
        prop_assert!(from.is_empty());
        let finished = |table: &AggregateTable<_, i64>| {
            let mut finished = KeyTable::new(Seed::random());
            table.finish_into(&mut finished);
            let entries = finished.iter().map(|(key, value)| (key.to_vec(), value));
            entries.collect::<BTreeMap<_, _>>()
        };
        prop_assert_eq!(finished(&loaded), finished(&table));
        // What was loaded takes records and merges as before.
        loaded.add(&[], b"many", 5);
        loaded.merge_from(&table);

        let at = at.index(bytes.len());
        prop_assert!(new().load(&mut &bytes[..at]).is_err(), "cut off at {}", at);
        bytes[at] ^= bits;
        let mut damaged = new();
        if damaged.load(&mut &bytes[..]).is_ok() {
            finished(&damaged);
        }
    }
}

/// The table in the manual and in the head of `aggregate`.
#[test]
fn a_state_takes_the_bytes_that_are_said() {
    fn bytes<A: Aggregate<u64>>(aggregate: A, values: impl Iterator<Item = u64>) -> (usize, usize) {
        let mut table = AggregateTable::new(aggregate, Seed::random(), MemoryCap::NONE);
        let empty = table.held_bytes();
        values.for_each(|value| table.add(&[], b"key", value));
        (size_of::<A::State>(), table.held_bytes() - empty)
    }
    // From 1 to 10,000, as times in milliseconds with one decimal place.
    let times = || (10..=100_000).step_by(7);
    assert_eq!(bytes(Count, times()), (8, 0));
    assert_eq!(bytes(Sum, times()), (16, 0));
    assert_eq!(bytes(Mean, times()), (32, 0));
    assert_eq!(
        (bytes(Min, times()), bytes(Max, times())),
        ((16, 0), (16, 0))
    );
    let (state, sketch) = bytes(Percentile::new(99.0), times());
    assert_eq!(state, 12);
    assert!((8 << 10..=32 << 10).contains(&sketch), "{sketch}");
    let (state, few) = bytes(Distinct::new(), 0..100);
    assert_eq!(state, 16);
    assert!((800..=3200).contains(&few), "{few}");
    let (_, many) = bytes(Distinct::new(), times());
    assert!(many <= 16 << 10, "{many}");
}

type Several = (Count, Percentile, Distinct);

fn several(bytes: usize) -> AggregateTable<Several, u64> {
    let aggregate = (Count, Percentile::new(99.0), Distinct::with_seed(1));
    let cap = MemoryCap::new(bytes, OnLimit::Other);
    AggregateTable::new(aggregate, Seed::from_words(1, 2, 3), cap)
}

/// Each record is in all aggregates of its key, or in the overflow; and the memory is kept to.
#[test]
fn a_full_table_loses_records_and_says_how_many() {
    for kilobytes in [1500, 2500, 4000] {
        let cap = kilobytes << 10;
        let mut table = several(cap);
        let (mut true_counts, mut all) = (BTreeMap::<u64, u64>::new(), 0u64);
        for round in 0..2 {
            for word in random_words().take(60_000) {
                // Few keys with many values, and many with few.
                let key = if word % 2 == 0 {
                    word / 2 % 20
                } else {
                    word / 2 % 30_000
                };
                table.add(&[], &key.to_be_bytes(), word >> 20);
                *true_counts.entry(key).or_insert(0) += 1;
                all += 1;
            }
            assert!(table.held_bytes() <= cap, "{} {cap}", table.held_bytes());
            let mut finished = KeyTable::new(Seed::random());
            table.finish_into(&mut finished);
            let counted: u64 = finished.iter().map(|(_, (count, ..))| count).sum();
            let other = table.overflow().other;
            assert_eq!(counted + other, all, "round {round}");
            assert!(other > 0 && counted > 0);
            for (key, count) in &true_counts {
                let key = key.to_be_bytes();
                let kept = finished.get(&key).map_or(0, |(count, ..)| count);
                assert!(kept <= *count && count - kept <= table.states().missing_max(&key));
            }
            table.clear();
            true_counts.clear();
            all = 0;
        }
    }
}

/// What is merged into again and again keeps to its cap, too.
#[test]
fn a_table_merged_into_keeps_within_its_memory() {
    let cap = 6 << 20;
    let mut all = several(cap);
    let (mut lost, mut added) = (0, 0u64);
    for batch in 0..40u64 {
        let mut table = several(64 << 20);
        for word in random_words().skip(batch as usize * 7).take(20_000) {
            table.add(&[], &(word % 3000 + batch * 500).to_be_bytes(), word >> 20);
        }
        added += 20_000;
        table.set_records(20_000);
        all.merge_within(&table);
        assert!(all.held_bytes() <= cap, "{} {cap}", all.held_bytes());
        lost = all.overflow().other;
    }
    let mut finished = KeyTable::new(Seed::random());
    all.finish_into(&mut finished);
    let counted: u64 = finished.iter().map(|(_, (count, ..))| count).sum();
    // How many records a refused state had is known only roughly, and never too low.
    assert!(
        counted < added && counted + lost >= added,
        "{counted} {lost} {added}"
    );
}
