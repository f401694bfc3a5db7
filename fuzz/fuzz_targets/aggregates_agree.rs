//! Aggregates of two shards, merged, and of windows equal what lists of the values say.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use microtally::aggregate::{Aggregate, Count, Distinct, Max, Mean, Min, Percentile, Sum};
use microtally::internals::{AggregateTable, AggregateWindow, KeyTable, Seed};

#[derive(Arbitrary, Debug)]
enum Step {
    Add {
        key: u8,
        value: i64,
        shard: bool,
    },
    /// Values that follow each other, so that there are many.
    AddRun {
        key: u8,
        from: i32,
        count: u16,
        shard: bool,
    },
    EndBatch,
}

type Batch = Vec<(Vec<u8>, i64)>;

type Lists = BTreeMap<Vec<u8>, Vec<i64>>;

/// Keys of all lengths.
fn key(byte: u8) -> Vec<u8> {
    vec![byte; usize::from(byte % 32)]
}

fn lists(batches: &[Batch]) -> Lists {
    let mut lists = Lists::new();
    for (key, value) in batches.iter().flatten() {
        lists.entry(key.clone()).or_default().push(*value);
    }
    lists.values_mut().for_each(|values| values.sort_unstable());
    lists
}

struct Tables<A: Aggregate<i64>> {
    shards: [AggregateTable<A, i64>; 2],
    window: AggregateWindow<A, i64>,
    results: KeyTable<A::Output>,
}

impl<A: Aggregate<i64>> Tables<A> {
    fn new(aggregate: A, window: usize, slide: usize) -> Self {
        let seed = Seed::random();
        Tables {
            shards: [(); 2].map(|()| AggregateTable::unlimited(aggregate.clone(), seed)),
            window: AggregateWindow::new(aggregate, window, slide),
            results: KeyTable::new(seed),
        }
    }

    fn add(&mut self, key: &[u8], value: i64, shard: bool) {
        self.shards[usize::from(shard)].add(&[], key, value);
    }

    /// The results of the batch, then of the window if it slides.
    fn end_batch(&mut self, slides: bool, check: impl Fn(&KeyTable<A::Output>, bool)) {
        let [first, second] = &mut self.shards;
        first.merge_from(second);
        first.finish_into(&mut self.results);
        check(&self.results, false);
        self.window.begin_batch();
        self.window.enter(first);
        if slides {
            check(self.window.slide().expect("no batch failed"), true);
        }
        self.shards.iter_mut().for_each(AggregateTable::clear);
    }
}

fuzz_target!(|input: (u8, u8, Vec<Step>)| {
    let (window, slide, steps) = input;
    let (window, slide) = (usize::from(window % 7) + 1, usize::from(slide % 4) + 1);
    let removable = (Count, Sum, Mean, Percentile::new(90.0));
    let mut removable = Tables::new(removable, window, slide);
    let others = (Min, Max, Distinct::with_seed(1));
    let mut others = Tables::new(others, window, slide);
    let (mut batches, mut left) = (vec![Batch::new()], 200_000u32);
    for step in steps.iter().chain([&Step::EndBatch]) {
        let (key, from, count, shard) = match step {
            Step::Add {
                key: byte,
                value,
                shard,
            } => (key(*byte), *value, 1, *shard),
            Step::AddRun {
                key: byte,
                from,
                count,
                shard,
            } => (key(*byte), i64::from(*from), *count, *shard),
            Step::EndBatch => {
                let slides = batches.len() % slide == 0;
                let of = |is_window: bool| {
                    let held = if is_window { window } else { 1 };
                    lists(&batches[batches.len().saturating_sub(held)..])
                };
                removable.end_batch(slides, |results, is_window| {
                    let lists = of(is_window);
                    assert_eq!(results.len(), lists.len());
                    for (key, values) in &lists {
                        let (count, sum, mean, p90) = results.get(key).expect("a key");
                        let all: i128 = values.iter().map(|value| i128::from(*value)).sum();
                        assert_eq!((count, sum), (values.len() as u64, all));
                        assert_eq!(mean, all as f64 / count as f64);
                        let exact = values[(values.len() * 9).div_ceil(10) - 1] as f64;
                        assert!((p90 - exact).abs() <= exact.abs() / 128.0, "{p90} {exact}");
                    }
                });
                others.end_batch(slides, |results, is_window| {
                    let lists = of(is_window);
                    assert_eq!(results.len(), lists.len());
                    for (key, values) in &lists {
                        let (min, max, distinct) = results.get(key).expect("a key");
                        assert_eq!((min, max), (values[0], values[values.len() - 1]));
                        let different = values.iter().collect::<BTreeSet<_>>().len() as u64;
                        let may_differ = if different <= 512 { 0 } else { different / 12 };
                        assert!(
                            distinct.abs_diff(different) <= may_differ,
                            "{distinct} {different}"
                        );
                    }
                });
                batches.push(Batch::new());
                continue;
            }
        };
        for value in (from..=i64::MAX).take(usize::from(count)) {
            // Longer inputs take seconds.
            let Some(fewer) = left.checked_sub(1) else {
                break;
            };
            left = fewer;
            removable.add(&key, value, shard);
            others.add(&key, value, shard);
            batches.last_mut().expect("one").push((key.clone(), value));
        }
    }
});
