//! Windows over batches that had no room for all keys, against the exact sums.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::{InverseWindow, ReduceWindow, Shape};
use crate::config::{Dialect, OnLimit};
use crate::table::bound::Bound;
use crate::table::keys::Seed;
use crate::table::{Table, add};

type Batch = BTreeMap<Vec<u8>, u64>;

fn batch_of(words: &[u32]) -> Batch {
    let mut batch = Batch::new();
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
fn table_of(batch: &Batch, seed: Seed, times: u8) -> Table<u64> {
    let bound = Bound {
        bytes: usize::MAX - 1,
        on_limit: OnLimit::Approximate,
        may_defer: true,
    };
    let mut table = Table::counting(seed, bound);
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

fn check(window: &Table<u64>, batches: &VecDeque<Batch>, error: u64) {
    assert_eq!(
        window.loss().error,
        error,
        "the errors of the window's batches"
    );
    let mut sums = Batch::new();
    for (key, count) in batches.iter().flatten() {
        *sums.entry(key.clone()).or_insert(0) += count;
    }
    for (key, &sum) in &sums {
        match window.get(key) {
            Some(count) => assert!(
                count - error <= sum && sum <= count,
                "{count} {sum} {error}"
            ),
            None => assert!(sum <= error, "{sum} {error}"),
        }
    }
    for (key, _) in window.iter() {
        assert!(sums.contains_key(key), "{key:?} has left");
    }
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
            errors.push_back(table.loss().error);
            model.push_back(batch);
            if model.len() > window {
                model.pop_front();
                errors.pop_front();
            }
            inverse.enter(&table, add);
            reduced.enter(&table, add);
            if inverse.is_due() {
                let error = errors.iter().sum();
                let is_there = Some(|_: &[u8], count: u64| count != 0);
                let made = inverse.slide(add, |a, b| a - b, is_there).unwrap();
                check(made, &model, error);
                check(reduced.slide(add).unwrap(), &model, error);
            }
        }
    }
}
