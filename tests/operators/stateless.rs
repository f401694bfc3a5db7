//! Operators that look at one batch at a time.

use microtally::stream::{Dialect, Rdd};
use proptest::prelude::*;

use crate::run::{Batches, Pair, Watched, batches, batches_with_gaps, each, input, run_well};

fn pairs() -> impl Strategy<Value = Pair> + Clone {
    (0u8..4, -3i64..4)
}

/// Where a batch is missing some operators fail in Scala, which `rules` looks at.
fn programs() -> impl Strategy<Value = (Dialect, Batches<Pair>)> {
    let scala = batches(pairs()).prop_map(|all| all.into_iter().map(Some).collect());
    prop_oneof![
        (Just(Dialect::Scala), scala),
        (Just(Dialect::PySpark), batches_with_gaps(pairs())),
    ]
}

/// The values of each key, keys in the order in which they were first seen.
fn groups<'a>(pairs: impl IntoIterator<Item = &'a Pair>) -> Vec<(u8, Vec<i64>)> {
    let mut groups: Vec<(u8, Vec<i64>)> = Vec::new();
    for (key, value) in pairs {
        match groups.iter_mut().find(|(known, _)| known == key) {
            Some((_, values)) => values.push(*value),
            None => groups.push((*key, vec![*value])),
        }
    }
    groups
}

/// Not associative, so that the order of folding shows.
fn mix(a: i64, b: i64) -> i64 {
    (3 * a + b) % 1009
}

fn text(values: &[i64], separator: &str) -> String {
    let values: Vec<String> = values.iter().map(i64::to_string).collect();
    values.join(separator)
}

/// What `combine_by_key` makes: a partition's values of a key joined by `+`, partitions by `|`.
fn combined(rdd: &Rdd<Pair>) -> Vec<(u8, String)> {
    let keys = groups(rdd.iter()).into_iter().map(|(key, _)| key);
    let of_key = |key| {
        let parts = rdd.partitions().filter_map(|part| {
            let values: Vec<i64> = part
                .iter()
                .filter(|(k, _)| *k == key)
                .map(|(_, v)| *v)
                .collect();
            (!values.is_empty()).then(|| text(&values, "+"))
        });
        parts.collect::<Vec<_>>().join("|")
    };
    keys.map(|key| (key, of_key(key))).collect()
}

/// `records` in the order of their values, highest first, by picking the first that is highest
/// again and again.
fn by_value(records: Vec<Pair>) -> Vec<Pair> {
    let (mut left, mut ordered) = (records, Vec::new());
    while let Some(highest) = left.iter().map(|(_, value)| *value).max() {
        let place = left.iter().position(|(_, value)| *value == highest);
        ordered.push(left.remove(place.expect("it is there")));
    }
    ordered
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn records_become_records(
        (dialect, batches) in programs(),
        partition_count in 1usize..5,
        top in 0usize..8,
    ) {
        let (mapped, filtered, flat, sums, glommed, repartitioned, transformed, ordered, first) =
            run_well(dialect, batches.len(), |context| {
                let stream = input(context, &batches);
                let sum = |part: &[Pair]| [part.iter().map(|(_, v)| *v).sum::<i64>(), part.len() as i64];
                let highest_first = |a: &Pair, b: &Pair| b.1.cmp(&a.1);
                let repartitioned = stream.repartition(partition_count);
                (
                    Watched::of(&stream.map(|(k, v)| i64::from(*k) * 10 + v)),
                    Watched::of(&stream.filter(|(k, v)| i64::from(*k) > *v)),
                    Watched::of(&stream.flat_map(|(k, v)| vec![*v; usize::from(*k)])),
                    Watched::of(&stream.map_partitions(sum)),
                    Watched::of(&stream.glom().map(|part| part.to_vec())),
                    Watched::of(&repartitioned.glom().map(|part| part.to_vec())),
                    Watched::of(&stream.transform(|rdd, time| rdd.map(|(k, v)| (*k, *v, time.as_millis())))),
                    Watched::of(&stream.sort_by(highest_first)),
                    Watched::of(&stream.top(top, highest_first)),
                )
            });
        let all = |f: &dyn Fn(&Pair) -> Vec<i64>| each(&batches, |rdd| rdd.iter().flat_map(f).collect());
        prop_assert_eq!(mapped.seen(), all(&|(k, v)| vec![i64::from(*k) * 10 + v]));
        prop_assert_eq!(flat.seen(), all(&|(k, v)| (0..*k).map(|_| *v).collect()));
        let kept = each(&batches, |rdd| {
            let mut kept = rdd.to_vec();
            kept.retain(|(k, v)| i64::from(*k) > *v);
            kept
        });
        prop_assert_eq!(filtered.seen(), kept);
        let parts = each(&batches, |rdd| rdd.partitions().map(<[Pair]>::to_vec).collect());
        prop_assert_eq!(glommed.seen(), parts);
        let of_parts = each(&batches, |rdd| {
            let parts = rdd.partitions();
            parts.flat_map(|part| [part.iter().map(|(_, v)| v).sum::<i64>(), part.len() as i64]).collect()
        });
        prop_assert_eq!(sums.seen(), of_parts);
        for ((_, parts), (_, records)) in repartitioned.seen().iter().zip(each(&batches, Rdd::to_vec)) {
            prop_assert_eq!(parts.len(), partition_count);
            let sizes = || parts.iter().map(Vec::len);
            prop_assert!(sizes().max() <= sizes().min().map(|least| least + 1));
            prop_assert_eq!(parts.concat(), records);
        }
        prop_assert_eq!(repartitioned.seen().len(), batches.iter().flatten().count());
        let timed = batches.iter().enumerate().filter_map(|(index, rdd)| {
            let number = index + 1;
            let records = rdd.as_ref()?.iter().map(|(k, v)| (*k, *v, number as u64 * 1000));
            Some((number, records.collect()))
        });
        prop_assert_eq!(transformed.seen(), timed.collect::<Vec<_>>());
        prop_assert_eq!(ordered.seen(), each(&batches, |rdd| by_value(rdd.to_vec())));
        let highest = each(&batches, |rdd| by_value(rdd.to_vec()).into_iter().take(top).collect());
        prop_assert_eq!(first.seen(), highest);
    }

    #[test]
    fn records_become_one_or_one_a_key((dialect, batches) in programs()) {
        let (count, values, reduced, by_key, combined_by_key, grouped, mapped, flat) =
            run_well(dialect, batches.len(), |context| {
                let stream = input(context, &batches);
                let combine = stream.combine_by_key(
                    i64::to_string,
                    |text, value| format!("{text}+{value}"),
                    |one, two| format!("{one}|{two}"),
                );
                (
                    Watched::of(&stream.count()),
                    Watched::of(&stream.count_by_value()),
                    Watched::of(&stream.map(|(_, v)| *v).reduce(mix)),
                    Watched::of(&stream.reduce_by_key(mix)),
                    Watched::of(&combine),
                    Watched::of(&stream.group_by_key()),
                    Watched::of(&stream.map_values(|v| v * v)),
                    Watched::of(&stream.flat_map_values(|v| 0..*v)),
                )
            });
        let is_counted = |rdd: &Rdd<Pair>| dialect == Dialect::Scala || rdd.partition_count() > 0;
        let counts = each(&batches, |rdd| match is_counted(rdd) {
            true => vec![rdd.to_vec().len() as u64],
            false => Vec::new(),
        });
        prop_assert_eq!(count.seen(), counts);
        let occurrences = each(&batches, |rdd| {
            let mut counts: Vec<(Pair, u64)> = Vec::new();
            for record in rdd.to_vec() {
                match counts.iter_mut().find(|(known, _)| *known == record) {
                    Some((_, count)) => *count += 1,
                    None => counts.push((record, 1)),
                }
            }
            counts
        });
        prop_assert_eq!(values.seen(), occurrences);
        let folded = each(&batches, |rdd| {
            let values = rdd.to_vec().into_iter().map(|(_, v)| v);
            values.reduce(mix).into_iter().collect()
        });
        prop_assert_eq!(reduced.seen(), folded);
        let folded_by_key = each(&batches, |rdd| {
            let groups = groups(rdd.iter()).into_iter();
            groups.map(|(k, values)| (k, values.into_iter().reduce(mix).expect("some"))).collect()
        });
        prop_assert_eq!(by_key.seen(), folded_by_key);
        prop_assert_eq!(combined_by_key.seen(), each(&batches, combined));
        prop_assert_eq!(grouped.seen(), each(&batches, |rdd| groups(rdd.iter())));
        let squares = each(&batches, |rdd| rdd.to_vec().into_iter().map(|(k, v)| (k, v * v)).collect());
        prop_assert_eq!(mapped.seen(), squares);
        let counted_up = each(&batches, |rdd| {
            let mut all = Vec::new();
            for (key, value) in rdd.to_vec() {
                for below in 0..value {
                    all.push((key, below));
                }
            }
            all
        });
        prop_assert_eq!(flat.seen(), counted_up);
    }
}
