use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::limits::RANKED_KEY_BYTES;
use crate::table::add;
use crate::table::frozen::FrozenTable;
use crate::table::keys::Seed;

type TrueCounts = BTreeMap<Vec<u8>, u64>;

fn small(on_limit: OnLimit) -> MemoryCap {
    MemoryCap::new(KeyTable::<u64>::bytes_min() + 700_000, on_limit)
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
enum NumberStream {
    Zipf,
    Uniform,
    UniqueThenHot,
    HotThenUnique,
    /// Keys of one class after the other.
    ClassByClass,
}

impl NumberStream {
    fn numbers(self, count: u64, seed: u64) -> Vec<u64> {
        let mut state = seed;
        (0..count)
            .map(|at| match self {
                // Inverse of the distribution function for an exponent of 1.
                NumberStream::Zipf => {
                    let unit = random(&mut state) as f64 / f64::from(1u32 << 31);
                    (unit * (300_000f64).ln()).exp() as u64
                }
                NumberStream::Uniform => random(&mut state) % 100_000,
                NumberStream::UniqueThenHot if at < count * 3 / 4 => 1_000_000 + at,
                NumberStream::HotThenUnique if at >= count / 4 => 1_000_000 + at,
                NumberStream::UniqueThenHot | NumberStream::HotThenUnique => {
                    random(&mut state) % 50
                }
                NumberStream::ClassByClass => {
                    let class = [0, 3, 4][(at * 3 / count) as usize];
                    random(&mut state) % 20_000 * 5 + class
                }
            })
            .collect()
    }
}

fn stream() -> impl Strategy<Value = NumberStream> {
    prop_oneof![
        Just(NumberStream::Zipf),
        Just(NumberStream::Uniform),
        Just(NumberStream::UniqueThenHot),
        Just(NumberStream::HotThenUnique),
        Just(NumberStream::ClassByClass),
    ]
}

/// Everything that is promised of a table that was given what the model has.
fn check(table: &KeyTable<u64>, model: &TrueCounts) {
    assert_eq!(table.short.measured(), table.short.table_bytes());
    assert_eq!(table.medium.measured(), table.medium.table_bytes());
    assert_eq!(table.long.measured(), table.long.table_bytes());
    let (overflow, missing_most) = (table.overflow(), table.missing_most());
    let (mut records, mut bytes) = (
        overflow.thinned + overflow.other,
        overflow.thinned_bytes + overflow.other_bytes,
    );
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
            n <= kept + overflow.error + overflow.other,
            "{key:?}: {kept}, {n}, {overflow:?}"
        );
        // What is said of each key, and of all keys together.
        let missing = table.missing_max(key);
        assert!(
            n <= kept + overflow.error + missing,
            "{key:?}: {kept}, {n}, {missing}"
        );
        assert!(
            missing <= overflow.missing && overflow.missing <= overflow.other,
            "{missing} {overflow:?}"
        );
        assert!(kept == 0 || missing <= missing_most);
        if let Some(shown) = table.get(key) {
            assert!(shown >= n - overflow.other.min(n) && shown <= n + overflow.error);
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
        let cap = small(on_limit);
        let one = Seed::random();
        let mut tables: Vec<_> = (0..shards).map(|_| KeyTable::counting(one, cap.clone())).collect();
        for batch in 0..batches {
            let mut model = TrueCounts::new();
            let mut state = seed;
            for number in stream.numbers(40_000, seed.wrapping_add(batch as u64)) {
                let key = key(number);
                let table = &mut tables[random(&mut state) as usize % shards];
                table.add(&key, 1, add);
                *model.entry(key).or_insert(0) += 1;
                prop_assert!(table.allocated_bytes() <= cap.bytes, "{}", table.allocated_bytes());
            }
            let mut first = tables.remove(0);
            let alone = (shards == 1).then(|| model.clone());
            for table in &tables {
                first.merge_from(table, add);
                if on_limit == OnLimit::Approximate {
                    prop_assert!(first.allocated_bytes() <= cap.bytes);
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
            tables.iter_mut().for_each(KeyTable::clear);
            for table in &tables {
                prop_assert!(table.overflow().is_none() && table.is_empty());
                prop_assert!(table.allocated_bytes() <= cap.bytes);
            }
        }
    }
}

#[test]
fn nothing_is_lost_below_the_limit() {
    let mut table = KeyTable::counting(Seed::random(), small(OnLimit::Approximate));
    for number in 0..6000 {
        table.add(&key(number), 1, add);
    }
    assert_eq!((table.len(), table.overflow()), (6000, Overflow::default()));
}

/// Garbage that is all different fills the table; what is frequent afterwards is found all the
/// same.
#[test]
fn case_16_frequent_keys_are_found_after_garbage() {
    let cap = small(OnLimit::Approximate);
    let mut table = KeyTable::counting(Seed::random(), cap.clone());
    let mut model = TrueCounts::new();
    for number in NumberStream::UniqueThenHot.numbers(800_000, 7) {
        table.add(&key(number), 1, add);
        *model.entry(key(number)).or_insert(0) += 1;
    }
    check(&table, &model);
    let error = table.overflow().error;
    assert!(
        error > 0 && error < 200,
        "{error}: the table is full, and not tiny"
    );
    for number in 0..50 {
        assert!(table.get(&key(number)).is_some(), "{number} is frequent");
    }
}

/// Keys of one class had all the memory; those of another get their share of it, and not one look
/// at the whole table each.
#[test]
fn another_class_gets_room() {
    let cap = MemoryCap::new(
        KeyTable::<u64>::bytes_min() + 3_000_000,
        OnLimit::Approximate,
    );
    let mut table = KeyTable::counting(Seed::random(), cap.clone());
    for number in 0..400_000u64 {
        table.add(&number.to_le_bytes()[..5], 3, add);
    }
    let before = table.overflow();
    for number in 0..400_000u64 {
        table.add(format!("{number:030}").as_bytes(), 5, add);
    }
    assert!(before.error > 0);
    assert!(table.long.len() > 4000, "{} long keys", table.long.len());
    assert!(table.allocated_bytes() <= cap.bytes);
}

/// A key that is longer than the table may hold at all.
#[test]
fn case_52_a_key_without_any_room_is_in_the_error() {
    let mut table = KeyTable::counting(Seed::random(), small(OnLimit::Approximate));
    let long = vec![b'x'; 3_000_000];
    let mut model = TrueCounts::new();
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
    assert!(table.overflow().error >= 2);
}

/// Values that cannot be taken off from: new keys are counted, known ones go on.
#[test]
fn a_full_table_of_values_keeps_what_it_has() {
    let cap = small(OnLimit::Approximate);
    let mut table = KeyTable::<f64>::bounded(Seed::random(), cap.clone());
    for round in 1..=3 {
        for number in 0..60_000 {
            table.add(&key(number), 1.5, |a, b| a + b);
            assert!(table.allocated_bytes() <= cap.bytes);
        }
        let kept = table.len() as u64;
        assert_eq!(table.overflow().other, round * (60_000 - kept));
        assert!(table.iter().all(|(_, value)| value == 1.5 * round as f64));
    }
    assert!(table.len() < 60_000);
}

/// A shard's table and another shard's, each of which met the keys in its own order.
#[test]
fn a_key_that_one_table_knew_and_another_refused_has_a_true_bound() {
    let (cap, seed) = (small(OnLimit::Other), Seed::random());
    let table = || KeyTable::counting(seed, cap.clone());
    let (mut one, mut two) = (table(), table());
    let mut model = TrueCounts::new();
    let mut add_to = |table: &mut KeyTable<u64>, key: Vec<u8>| {
        table.add(&key, 1, add);
        *model.entry(key).or_insert(0) += 1;
    };
    add_to(&mut one, b"early".to_vec());
    add_to(&mut two, b"early".to_vec());
    for number in 0..60_000 {
        add_to(&mut one, key(number));
    }
    for _ in 0..1000 {
        // Full, and not.
        add_to(&mut one, b"late".to_vec());
        add_to(&mut two, b"late".to_vec());
        add_to(&mut one, b"early".to_vec());
    }
    assert_eq!((one.get(b"late"), two.get(b"late")), (None, Some(1000)));
    let refused = one.overflow().other;
    assert!(refused > 1000);
    // What it has it has never refused.
    assert_eq!((one.missing_max(b"early"), one.missing_most()), (0, 0));
    assert!(
        (1000..1100).contains(&one.missing_max(b"late")),
        "{}",
        one.missing_max(b"late")
    );
    for is_swapped in [false, true] {
        let (mut into, mut from) = (table(), table());
        into.merge_from(&one, add);
        from.merge_from(&two, add);
        if is_swapped {
            std::mem::swap(&mut into, &mut from);
        }
        into.merge_from(&from, add);
        check(&into, &model);
        let late = into.missing_max(b"late");
        assert!(
            (1000..1100).contains(&late) && into.missing_most() == late,
            "{late}"
        );
        let exact = model.keys().filter(|key| into.missing_max(key) < 50);
        assert!(exact.count() > model.len() - 100);
    }
    one.clear();
    one.add(b"late", 1, add);
    assert_eq!(
        (one.missing_max(b"late"), one.overflow()),
        (0, Overflow::default())
    );
}

/// Also where the filters of two tables cannot be added, because a flood has changed the seed of
/// one.
#[test]
fn tables_of_different_seeds_have_a_true_bound() {
    let cap = small(OnLimit::Other);
    let mut tables =
        [Seed::random(), Seed::random()].map(|seed| KeyTable::counting(seed, cap.clone()));
    let mut model = TrueCounts::new();
    for round in 0..3 {
        for number in 0..60_000 {
            let key = key(number + round * 20_000);
            tables[(number % 7 > round) as usize].add(&key, 1, add);
            *model.entry(key).or_insert(0) += 1;
        }
    }
    let [mut one, two] = tables;
    assert!(!one.overflow().is_none() && !two.overflow().is_none());
    one.merge_from(&two, add);
    check(&one, &model);
}

/// Once a key was refused none is taken in, however little room it needs: it may have been refused
/// before.
#[test]
fn a_full_table_is_closed_to_keys_of_every_class() {
    let mut table = KeyTable::counting(Seed::random(), small(OnLimit::Other));
    let long = |number: u64| format!("{number:0200}").into_bytes();
    let mut number = 0;
    while table.overflow().is_none() {
        table.add(&long(number), 1, add);
        number += 1;
    }
    let keys = table.len();
    for number in 0..1000 {
        table.add(format!("{number}").as_bytes(), 1, add);
        table.add(format!("{number:012}").as_bytes(), 1, add);
    }
    assert_eq!((table.len(), table.overflow().other), (keys, 2001));
    assert_eq!(table.get(b"7"), None);
    table.clear();
    table.add(b"7", 1, add);
    assert_eq!(table.len(), 1, "until it is cleared");
}

/// What a key without room would have counted is in the error, whatever other keys have paid.
#[test]
fn the_records_of_a_giant_key_are_in_the_error() {
    let mut table = KeyTable::counting(Seed::random(), small(OnLimit::Approximate));
    table.add(&[b'x'; 3_000_000], 1000, add);
    let Overflow { error, thinned, .. } = table.overflow();
    assert_eq!((table.len(), error, thinned), (0, 1000, 1000));
    table.add(b"word", 2, add);
    assert_eq!(table.get(b"word"), Some(1002));
}

/// A new seed needs all keys twice. A table that has no memory for it goes on with the old one, and
/// loses nothing.
#[test]
fn a_flood_of_a_table_that_is_nearly_full_changes_no_seed() {
    let seed = Seed::from_words(5, 6, 7);
    let mut keys = Vec::new();
    let mut number = 1u64 << 56;
    while keys.len() < 3000 {
        number += 1;
        if seed.hash_short(number) & 0xfff == 9 {
            keys.push(number.to_le_bytes());
        }
    }
    let bytes = KeyTable::<u64>::bytes_min() + 3_000_000;
    for (filler, may_reseed) in [(100, true), (100_000, false)] {
        let mut table = KeyTable::counting(seed, MemoryCap::new(bytes, OnLimit::Other));
        for number in 0..filler {
            table.add(format!("filler {number:07}").as_bytes(), 1, add);
        }
        for key in &keys {
            table.add(key, 1, add);
            assert!(table.allocated_bytes() <= bytes);
        }
        assert_eq!(table.reseeds() > 0, may_reseed, "{filler}");
        if may_reseed {
            assert!(keys.iter().all(|key| table.get(key) == Some(1)));
        }
    }
}

/// Tables without room of their own take what others leave, and give it back.
#[test]
fn tables_share_what_there_is() {
    let own = KeyTable::<u64>::bytes_min();
    let pool = Arc::new(Pool::new(30 << 20));
    let cap = MemoryCap {
        bytes: own,
        on_limit: OnLimit::Other,
        may_partition: true,
        pool: Some(Arc::clone(&pool)),
    };
    let seed = Seed::random();
    let mut tables = [(); 3].map(|()| KeyTable::counting(seed, cap.clone()));
    let fill = |table: &mut KeyTable<u64>| {
        let mut number = 0;
        while table.overflow().is_none() {
            table.add(&key(number), 1, add);
            number += 1;
            assert!(table.allocated_bytes() <= own + (30 << 20));
        }
        number
    };
    let alone = fill(&mut tables[0]);
    let left = fill(&mut tables[1]);
    assert!(alone > 60_000 && left < alone / 4, "{alone} {left}");
    assert!(pool.free() < pool.bytes() / 10);
    // All that becomes of the keys has room: the table they are merged into, at any size of its
    // segments, and rows.
    let [mut into, mut from, mut third] = tables;
    into.merge_from(&from, add);
    into.take_charge_of(&mut from);
    from.clear();
    let rows = into.len() * RANKED_KEY_BYTES;
    let all = into.allocated_bytes() + from.allocated_bytes() + third.allocated_bytes() + rows;
    assert!(all <= 3 * own + pool.bytes(), "{all}");
    into.clear();
    // What an empty table keeps for the next batch is never more than half, so another shard's may
    // be large.
    assert!(pool.free() >= pool.bytes() / 2);
    assert!(fill(&mut third) > alone / 3);
    drop((into, from, third));
    assert_eq!(pool.free(), pool.bytes());
}

/// In a batch's values many records came together. How many in each is not known where one has no
/// room later: in what is kept of many batches, and in a window.
#[test]
fn values_without_room_count_for_as_many_records_as_they_may_be_of() {
    let mut batch = KeyTable::<f64>::new(Seed::random());
    let mut model = TrueCounts::new();
    for number in 0..60_000u64 {
        let times = if number % 1000 == 0 {
            500
        } else {
            1 + number % 3
        };
        for _ in 0..times {
            batch.add(&key(number), 1.5, |a, b| a + b);
        }
        model.insert(key(number), times);
    }
    let records = model.values().sum();
    batch.set_records(records);
    let mut so_far = KeyTable::<f64>::bounded(batch.seed(), small(OnLimit::Other));
    let mut frozen = FrozenTable::new();
    for round in 1..3 {
        so_far.merge_within(&batch, &mut 0, |a, b| a + b);
        frozen.fill_within(&batch, 300_000, &FrozenTable::<f64>::cost());
        let Overflow { other, missing, .. } = so_far.overflow();
        let (mut lost, mut lost_in_past) = (0, 0);
        let in_past: std::collections::BTreeSet<_> = frozen.iter().map(|(key, _)| key).collect();
        for (key, times) in &model {
            if so_far.get(key).is_none() {
                lost += times;
                assert!(so_far.missing_max(key) >= times * round && missing >= times * round);
            }
            if !in_past.contains(&key[..]) {
                lost_in_past += times;
                assert!(frozen.overflow().missing >= *times);
            }
        }
        assert!(lost > 10_000 && lost_in_past > 10_000);
        assert!(
            lost * round <= other && other <= records * round,
            "{lost} {other}"
        );
        let all = frozen.overflow().other;
        assert!(
            lost_in_past <= all && all <= records,
            "{lost_in_past} {all}"
        );
    }
}

#[test]
fn the_least_a_table_may_have_is_what_it_begins_with_and_half_as_much_again_as_making_room_takes() {
    let table = KeyTable::<u64>::new(Seed::random());
    let segments = table.short.bytes() + table.medium.bytes() + table.long.bytes();
    // While room is made the keys of the arena are there twice.
    let begins_with = segments + 2 * table.arena.held();
    let least = KeyTable::<u64>::bytes_min();
    let more = least.abs_diff(begins_with + KeyTable::<u64>::reserve() * 3 / 2);
    // The arena's memory is rounded up to pages, and directories are small.
    assert!(more < 16 << 10, "{least} {more}");
}

#[test]
fn after_so_many_new_seeds_a_table_keeps_the_one_it_has() {
    let mut table = KeyTable::new(Seed::random());
    table.add(b"key", 3, add);
    for number in 1..=crate::limits::RESEEDS_MAX {
        let seed = table.seed();
        table.reseed();
        assert_ne!(table.seed(), seed, "{number}");
    }
    let last = table.seed();
    table.reseed();
    assert_eq!((table.seed(), table.get(b"key")), (last, Some(3)));
}
