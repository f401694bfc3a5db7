//! Windows over batches that had no room for all keys, against the exact sums.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::{InverseWindow, ReduceWindow, Shape};
use crate::config::{Dialect, OnLimit};
use crate::table::bound::{MemoryCap, Overflow};
use crate::table::keys::Seed;
use crate::table::{KeyTable, add};

type BatchCounts = BTreeMap<Vec<u8>, u64>;

fn batch_of(words: &[u32]) -> BatchCounts {
    let mut batch = BatchCounts::new();
    for word in words {
        // Short, medium and long keys, a few of them often.
        let word = if word % 3 == 0 { word % 40 } else { *word };
        let key = format!(
            "{word:0width$}",
            width = [1, 12, 30][(word % 7 / 3) as usize]
        );
        *batch.entry(key.into_bytes()).or_insert(0) += 1;
    }
    batch
}

/// The table of a batch that was thinned `times` times, as it is at its limit.
fn table_of(batch: &BatchCounts, seed: Seed, times: u8) -> KeyTable<u64> {
    let mut table = KeyTable::counting(seed, MemoryCap::new(usize::MAX - 1, OnLimit::Approximate));
    for (index, (key, count)) in batch.iter().enumerate() {
        table.add(key, *count, add);
        if times > 0 && index == batch.len() / usize::from(times + 1) {
            table.thin();
        }
    }
    for _ in 1..times {
        if !table.is_empty() {
            table.thin();
        }
    }
    table
}

/// The window's error and what it has no key for are true of `batches`.
fn check(window: &KeyTable<u64>, batches: &VecDeque<BatchCounts>) {
    let Overflow { error, other, .. } = window.overflow();
    let mut sums = BatchCounts::new();
    for (key, count) in batches.iter().flatten() {
        *sums.entry(key.clone()).or_insert(0) += count;
    }
    let mut missing = 0;
    for (key, &sum) in &sums {
        let count = window.get(key).unwrap_or(error);
        assert!(
            count - error <= sum && sum <= count + other,
            "{count} {sum} {error} {other}"
        );
        missing += sum.saturating_sub(count);
    }
    assert!(missing <= other, "{missing} {other}");
    for (key, _) in window.iter() {
        assert!(sums.contains_key(key), "{key:?} has left");
    }
}

/// A batch of `keys` keys in `span`, most of them once, of all classes; `start` makes them differ
/// from other batches'.
fn burst(start: usize, keys: usize, span: usize) -> BatchCounts {
    let mut batch = BatchCounts::new();
    for index in 0..keys {
        let number = if index % 4 == 0 {
            index % 64
        } else {
            start + index * 7 % span
        };
        let key = match number % 5 {
            0..3 => format!("{number:07}"),
            3 => format!("{number:014}"),
            _ => format!("{number:0width$}", width = 20 + number % 300),
        };
        *batch.entry(key.into_bytes()).or_insert(0) += 1 + (index % 3) as u64;
    }
    batch
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Batches that come in bursts, far more than the window has room for, counted in every way
    /// there is.
    #[test]
    fn a_window_keeps_within_its_memory_and_its_bound_is_true(
        (window, slide) in (2usize..40, 1usize..5),
        batches in prop::collection::vec((0usize..8, 0usize..12_000, 1usize..20_000), 8..60),
        on_limit in prop::sample::select(vec![OnLimit::Approximate, OnLimit::Other]),
        megabytes in 4usize..10,
    ) {
        let (slide, bytes) = (slide.min(window), megabytes << 20);
        let shape = Shape::new(window, slide);
        let seed = Seed::random();
        let mut inverse = InverseWindow::new(shape, Dialect::Scala);
        let mut reduced = ReduceWindow::new(shape);
        inverse.keep_within(bytes);
        reduced.keep_within(bytes);
        let mut model = VecDeque::new();
        let mut has_lost = false;
        for (number, &(kind, keys, span)) in batches.iter().enumerate() {
            // Most batches are small.
            let keys = if kind == 0 { keys } else { keys / 10 };
            let batch = burst(number * 1000, keys, span);
            let mut table = KeyTable::counting(seed, MemoryCap::new(usize::MAX - 1, on_limit));
            for (key, &count) in &batch {
                table.add(key, count, add);
            }
            model.push_back(batch);
            if model.len() > window {
                model.pop_front();
            }
            inverse.enter(&table, add);
            reduced.enter(&table, add);
            if inverse.is_due() {
                let is_there = Some(|_: &[u8], count: u64| count != 0);
                let made = inverse.slide(add, |a, b| a - b, is_there).unwrap();
                check(made, &model);
                has_lost |= !made.overflow().is_none();
                assert!(on_limit == OnLimit::Approximate || made.overflow().error == 0);
                check(reduced.slide(add).unwrap(), &model);
            }
            for taken in [inverse.taken(), reduced.taken()] {
                prop_assert!(taken <= bytes, "{taken} of {bytes}");
            }
        }
        // Ten batches of a few hundred keys have room whatever the share of each is.
        let all: usize = batches.iter().map(|&(kind, keys, _)| if kind == 0 { keys } else { keys / 10 }).sum();
        prop_assert!(!has_lost || all > 3000);
    }
}

/// Batches that together fit into half of the memory are kept whole, however uneven they are.
#[test]
fn an_uneven_stream_that_fits_is_exact() {
    let mut window = InverseWindow::new(Shape::new(600, 1), Dialect::Scala);
    window.keep_within(24 << 20);
    let seed = Seed::random();
    for number in 0..1300usize {
        let keys = if number % 300 == 7 { 12_000 } else { 20 };
        let mut table = KeyTable::counting(seed, MemoryCap::NONE);
        for (key, &count) in &burst(number, keys, 1 << 20) {
            table.add(key, count, add);
        }
        window.enter(&table, add);
        let is_there = Some(|_: &[u8], count: u64| count != 0);
        let made = window.slide(add, |a, b| a - b, is_there).unwrap();
        assert!(
            made.overflow().is_none(),
            "batch {number}: {:?}",
            made.overflow()
        );
    }
}

/// However little each batch has, its most frequent key is kept: a number, or as long as an address
/// is.
#[test]
fn a_small_share_is_for_the_most_frequent_key() {
    let seed = Seed::random();
    let address = format!("https://example.org/{}", "a/path/".repeat(8));
    for often in ["often", "often, too", &address] {
        let shape = Shape::new(1000, 1);
        let mut inverse = InverseWindow::new(shape, Dialect::Scala);
        let mut reduced = ReduceWindow::new(shape);
        // Some 1.1 KiB for each batch.
        let bytes = 5 << 19;
        inverse.keep_within(bytes);
        reduced.keep_within(bytes);
        for number in 0..1500u64 {
            let mut table =
                KeyTable::counting(seed, MemoryCap::new(usize::MAX - 1, OnLimit::Approximate));
            table.add(often.as_bytes(), 100, add);
            for rare in 0..50 {
                table.add(format!("{number}{rare:02}").as_bytes(), 1, add);
            }
            inverse.enter(&table, add);
            reduced.enter(&table, add);
            let batches = (number + 1).min(1000);
            let is_there = Some(|_: &[u8], count: u64| count != 0);
            let made = inverse.slide(add, |a, b| a - b, is_there).unwrap();
            assert_window(made, often, batches);
            assert_window(reduced.slide(add).unwrap(), often, batches);
            for taken in [inverse.taken(), reduced.taken()] {
                assert!(taken <= bytes, "{taken} of {bytes}");
            }
        }
        assert!(
            !reduced.as_ref().overflow().is_none(),
            "there was too little"
        );
    }
}

/// What was once in a batch is taken off, at most.
fn assert_window(window: &KeyTable<u64>, often: &str, batches: u64) {
    let Overflow { error, other, .. } = window.overflow();
    assert!(error <= batches && other == 0, "{error} {other}");
    // The error is in what is shown.
    assert_eq!(window.get(often.as_bytes()), Some(100 * batches));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_windows_bound_is_true_whatever_its_batches_lost(
        window in 1usize..12,
        slide in 1usize..4,
        batches in prop::collection::vec(
            (prop::collection::vec(0u32..3000, 0..400), 0u8..4),
            1..30,
        ),
    ) {
        let slide = slide.min(window);
        let shape = Shape::new(window, slide);
        let seed = Seed::random();
        let mut inverse = InverseWindow::new(shape, Dialect::Scala);
        let mut reduced = ReduceWindow::new(shape);
        let (mut model, mut errors) = (VecDeque::new(), VecDeque::new());
        for (words, times) in &batches {
            let batch = batch_of(words);
            let table = table_of(&batch, seed, *times);
            errors.push_back(table.overflow().error);
            model.push_back(batch);
            if model.len() > window {
                model.pop_front();
                errors.pop_front();
            }
            inverse.enter(&table, add);
            reduced.enter(&table, add);
            if inverse.is_due() {
                let error = errors.iter().sum::<u64>();
                let is_there = Some(|_: &[u8], count: u64| count != 0);
                let made = inverse.slide(add, |a, b| a - b, is_there).unwrap();
                check(made, &model);
                assert_eq!(made.overflow().error, error, "the errors of the window's batches");
                let made = reduced.slide(add).unwrap();
                check(made, &model);
                assert_eq!(made.overflow().error, error, "the errors of the window's batches");
            }
        }
    }
}
