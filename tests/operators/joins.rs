//! Operators of two streams, against nested loops.

use std::collections::BTreeSet;

use microtally::stream::{Dialect, Rdd};
use proptest::prelude::*;

use crate::run::{
    Batches, Pair, Seen, Watched, batches, batches_with_gaps, input, run_well, sorted,
};

type Other = (u8, char);

/// A row of any join.
type Row = (u8, (Option<i64>, Option<char>));

fn pairs() -> impl Strategy<Value = Pair> + Clone {
    (0u8..4, 0i64..3)
}

fn others() -> impl Strategy<Value = Other> + Clone {
    (1u8..5, proptest::char::range('a', 'c'))
}

/// Both streams, equally long. In Scala a missing batch fails, which `rules` looks at.
fn programs() -> impl Strategy<Value = (Dialect, Batches<Pair>, Batches<Other>)> {
    let scala = (batches(pairs()), batches(others()));
    let there = scala.prop_map(|(ones, others)| {
        let ones = ones.into_iter().map(Some).collect();
        (Dialect::Scala, ones, others.into_iter().map(Some).collect())
    });
    let python = (
        Just(Dialect::PySpark),
        batches_with_gaps(pairs()),
        batches_with_gaps(others()),
    );
    prop_oneof![there, python].prop_map(
        |(dialect, mut ones, mut others): (_, Batches<_>, Batches<_>)| {
            let count = ones.len().min(others.len());
            ones.truncate(count);
            others.truncate(count);
            (dialect, ones, others)
        },
    )
}

/// The result of a function of both batches. A missing side counts as empty.
fn both<T: Ord>(
    ones: &Batches<Pair>,
    others: &Batches<Other>,
    f: impl Fn(&[Pair], &[Other]) -> Vec<T>,
) -> Seen<T> {
    let both = ones.iter().zip(others).enumerate();
    sorted(
        both.map(|(index, (one, other))| {
            let one = one.as_ref().map(Rdd::to_vec).unwrap_or_default();
            let other = other.as_ref().map(Rdd::to_vec).unwrap_or_default();
            (index + 1, f(&one, &other))
        })
        .collect(),
    )
}

/// Every combination with one key; with `keep_ones` also what has no partner there, with
/// `keep_others` here.
fn joined(ones: &[Pair], others: &[Other], keep_ones: bool, keep_others: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for (key, v) in ones {
        for (other, w) in others {
            if key == other {
                rows.push((*key, (Some(*v), Some(*w))));
            }
        }
        if keep_ones && others.iter().all(|(other, _)| key != other) {
            rows.push((*key, (Some(*v), None)));
        }
    }
    for (key, w) in others {
        if keep_others && ones.iter().all(|(one, _)| key != one) {
            rows.push((*key, (None, Some(*w))));
        }
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn joins_are_nested_loops((dialect, ones, others) in programs()) {
        let (inner, left, right, full, groups) = run_well(dialect, ones.len(), |context| {
            let (one, other) = (input(context, &ones), input(context, &others));
            let inner = one.join(&other).expect("one slide");
            let left = one.left_outer_join(&other).expect("one slide");
            let right = one.right_outer_join(&other).expect("one slide");
            (
                Watched::of(&inner.map_values(|(v, w)| (Some(*v), Some(*w)))),
                Watched::of(&left.map_values(|(v, w)| (Some(*v), *w))),
                Watched::of(&right.map_values(|(v, w)| (*v, Some(*w)))),
                Watched::of(&one.full_outer_join(&other).expect("one slide")),
                Watched::of(&one.cogroup(&other).expect("one slide")),
            )
        });
        let rows = |keep_ones, keep_others| both(&ones, &others, |a, b| joined(a, b, keep_ones, keep_others));
        prop_assert_eq!(inner.sorted(), rows(false, false));
        prop_assert_eq!(left.sorted(), rows(true, false));
        prop_assert_eq!(right.sorted(), rows(false, true));
        prop_assert_eq!(full.sorted(), rows(true, true));
        let by_key = both(&ones, &others, |a, b| {
            let keys: BTreeSet<u8> = a.iter().map(|(k, _)| *k).chain(b.iter().map(|(k, _)| *k)).collect();
            let of_key = |key: u8| {
                let ours: Vec<i64> = a.iter().filter(|(k, _)| *k == key).map(|(_, v)| *v).collect();
                let theirs: Vec<char> = b.iter().filter(|(k, _)| *k == key).map(|(_, w)| *w).collect();
                (key, (ours, theirs))
            };
            keys.into_iter().map(of_key).collect()
        });
        prop_assert_eq!(groups.sorted(), by_key);
    }

    #[test]
    fn two_streams_become_one((dialect, ones, others) in programs()) {
        let (united, both_ways, transformed) = run_well(dialect, ones.len(), |context| {
            let (one, other) = (input(context, &ones), input(context, &others));
            let keys = one.map(|(k, _)| *k);
            let other_keys = other.map(|(k, _)| *k);
            let sums = one.transform_with(&other, |a, b, time| {
                [(a.len(), b.len(), time.as_millis())].into_iter().collect()
            });
            let all = context.transform(&[keys.clone(), other_keys.clone()], |rdds, _| {
                rdds[1].union(&rdds[0])
            });
            // A side that gave nothing fails there in both dialects.
            let all = (dialect == Dialect::Scala).then(|| Watched::of(&all.expect("one slide")));
            (
                Watched::of(&keys.union(&other_keys).expect("one slide")),
                all,
                Watched::of(&sums.expect("one slide")),
            )
        });
        let concatenated = |is_swapped: bool| -> Seen<u8> {
            let both = ones.iter().zip(&others).enumerate();
            both.map(|(index, (one, other))| {
                let ours = one.iter().flat_map(Rdd::iter).map(|(k, _)| *k);
                let theirs = other.iter().flat_map(Rdd::iter).map(|(k, _)| *k);
                let keys = if is_swapped { theirs.chain(ours).collect() } else { ours.chain(theirs).collect() };
                (index + 1, keys)
            }).collect()
        };
        prop_assert_eq!(united.seen(), concatenated(false));
        if let Some(both_ways) = both_ways {
            prop_assert_eq!(both_ways.seen(), concatenated(true));
        }
        let lens = ones.iter().zip(&others).enumerate().map(|(index, (one, other))| {
            let len = (one.as_ref().map_or(0, Rdd::len), other.as_ref().map_or(0, Rdd::len));
            (index + 1, vec![(len.0, len.1, (index as u64 + 1) * 1000)])
        });
        prop_assert_eq!(transformed.seen(), lens.collect::<Vec<_>>());
    }
}
