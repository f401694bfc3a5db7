//! Aggregates by key in an engine of several shards: of each batch, of all so far, of windows.
//!
//! The model keeps the values of each key in a list. Values are whole numbers below 256, of which
//! percentiles are exact.

use std::collections::{BTreeMap, BTreeSet};

use microtally::aggregate::{Count, Distinct, Max, Mean, Min, Percentile, Percentiles, Sum};
use microtally::stream::Dialect;
use proptest::prelude::*;

use crate::run::{Seen, Watched, run_on};
use crate::tables::{lines, texts};
use crate::windows::{Shape, shapes};

/// What can be taken off again, and what cannot.
type Removable = (u64, i128, f64, f64);
type Others = (i64, i64, u64, [f64; 2]);

type Batch = Vec<(Vec<u8>, i64)>;

/// The key and the value of a word.
fn key_of(word: &[u8]) -> &[u8] {
    &word[..word.len().min(1)]
}

fn value_of(word: &[u8]) -> i64 {
    word.iter().map(|byte| i64::from(*byte)).sum::<i64>() % 256
}

fn batch(text: &str) -> Batch {
    let words = text.lines().flat_map(|line| line.split(' '));
    let words = words.map(|word| (key_of(word.as_bytes()).to_vec(), value_of(word.as_bytes())));
    words.collect()
}

fn percentile(sorted: &[i64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1] as f64
}

/// The results of each key, by the definition of each aggregate.
fn model<'a>(batches: impl Iterator<Item = &'a Batch>) -> Vec<(Vec<u8>, Removable, Others)> {
    let mut lists: BTreeMap<&[u8], Vec<i64>> = BTreeMap::new();
    for (key, value) in batches.flatten() {
        lists.entry(key).or_default().push(*value);
    }
    let results = lists.into_iter().map(|(key, mut values)| {
        values.sort_unstable();
        let (count, sum) = (values.len() as u64, values.iter().sum::<i64>());
        let mean = sum as f64 / count as f64;
        let removable = (count, i128::from(sum), mean, percentile(&values, 90));
        let different = values.iter().collect::<BTreeSet<_>>().len() as u64;
        let percentiles = [percentile(&values, 0), percentile(&values, 50)];
        let others = (values[0], values[values.len() - 1], different, percentiles);
        (key.to_vec(), removable, others)
    });
    results.collect()
}

/// Two streams of one shape, joined, each batch in the order of its keys.
fn joined(
    removable: &Watched<(Vec<u8>, Removable)>,
    others: &Watched<(Vec<u8>, Others)>,
) -> Seen<(Vec<u8>, Removable, Others)> {
    fn in_order<V: Copy>(seen: Seen<(Vec<u8>, V)>) -> Seen<(Vec<u8>, V)> {
        let mut seen = seen;
        let rows = seen.iter_mut().map(|(_, rows)| rows);
        rows.for_each(|rows| rows.sort_by(|a, b| a.0.cmp(&b.0)));
        seen
    }
    let (removable, others) = (in_order(removable.seen()), in_order(others.seen()));
    assert_eq!(removable.len(), others.len());
    let batches = removable.into_iter().zip(others);
    let batches = batches.map(|((number, removable), (other_number, others))| {
        assert_eq!((number, removable.len()), (other_number, others.len()));
        let rows = removable.into_iter().zip(others).map(|(one, other)| {
            assert_eq!(one.0, other.0);
            (one.0, one.1, other.1)
        });
        (number, rows.collect())
    });
    batches.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn aggregates_equal_lists_of_values(
        texts in texts(),
        // Several blocks a batch, which go to different shards.
        repeated in prop_oneof![Just(1usize), Just(300)],
        workers in 1usize..4,
        shape in shapes(),
    ) {
        let texts: Vec<String> = texts.iter().map(|text| text.repeat(repeated)).collect();
        let (seen, ran) = run_on(workers, Dialect::Scala, texts.len(), |context| {
            let words = lines(context, &texts, 1 << 20).split(b' ');
            let values = || words.map(|word| (key_of(word), value_of(word)));
            let removable = (Count, Sum, Mean, Percentile::new(90.0));
            let removable = values().aggregate_by_key(removable);
            let others = (Min, Max, Distinct::new(), Percentiles::new([0.0, 50.0]));
            let others = values().aggregate_by_key(others);
            let window = || shape.window();
            [
                (Watched::of_tables(&removable.results()), Watched::of_tables(&others.results())),
                (Watched::of_tables(&removable.so_far()), Watched::of_tables(&others.so_far())),
                (
                    Watched::of_tables(&removable.window(window()).expect("it fits")),
                    Watched::of_tables(&others.window(window()).expect("it fits")),
                ),
            ]
        });
        ran.expect("nothing fails");
        let [of_batches, so_far, windows] = seen.map(|(removable, others)| joined(&removable, &others));
        let batches: Vec<Option<Batch>> = texts.iter().map(|text| Some(batch(text))).collect();
        let expected = |shape: Shape| {
            let ends = shape.ends(batches.len());
            ends.map(|end| (end, model(shape.batches(&batches, end)))).collect::<Vec<_>>()
        };
        prop_assert_eq!(of_batches, expected(Shape { length: 1, slide: 1 }));
        prop_assert_eq!(so_far, expected(Shape { length: usize::MAX, slide: 1 }));
        prop_assert_eq!(windows, expected(shape));
    }
}
