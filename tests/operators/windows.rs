//! Windows, recomputed from the batches in `(t - length, t]`; and `slice`.

use std::collections::BTreeMap;

use microtally::stream::{Dialect, Rdd};
use microtally::time::BatchTime;
use proptest::prelude::*;

use crate::run::{
    Batches, INTERVAL_MS, Pair, Seen, Watched, batches_with_gaps, dialects, input, run_well,
    seconds, sorted,
};

/// Length and slide in batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) length: usize,
    pub(crate) slide: usize,
}

/// Long ones are asked for as often, since PySpark has another rule from five slides on.
pub(crate) fn shapes() -> impl Strategy<Value = Shape> {
    let shape = |(length, slide)| Shape { length, slide };
    prop_oneof![(1usize..6, 1usize..5), (5usize..9, 1usize..2)].prop_map(shape)
}

impl Shape {
    pub(crate) fn window(self) -> (std::time::Duration, std::time::Duration) {
        (seconds(self.length), seconds(self.slide))
    }

    /// The numbers of the batches at which a window ends, of so many.
    pub(crate) fn ends(self, batch_count: usize) -> impl Iterator<Item = usize> {
        (1..=batch_count).filter(move |end| end.is_multiple_of(self.slide))
    }

    /// The batches of the window that ends with the numbered one, oldest first.
    pub(crate) fn batches<T>(self, all: &[Option<T>], end: usize) -> impl Iterator<Item = &T> {
        all[end.saturating_sub(self.length)..end].iter().flatten()
    }
}

/// All values of each key of a window, oldest first.
pub(crate) type Values<K, V> = BTreeMap<K, Vec<V>>;

/// Whether a key with these values stays.
type IsWanted<'a, V> = &'a dyn Fn(&[V]) -> bool;

/// The windows of Spark's `reduceByKeyAndWindow` with an inverse function, as the values that are
/// in them: a key whose values have all left has none, where it stays. `is_wanted` is the filter,
/// if there is one.
pub(crate) fn inverse_windows<K: Ord + Clone, V: Clone>(
    dialect: Dialect,
    shape: Shape,
    all: &[Option<Vec<(K, V)>>],
    is_wanted: Option<IsWanted<'_, V>>,
) -> Seen<(K, Vec<V>)> {
    // The keys of the window before, if this one is made of it.
    let mut before: Option<Vec<K>> = None;
    let mut windows = Vec::new();
    for end in shape.ends(all.len()) {
        let batches: Vec<&Vec<(K, V)>> = shape.batches(all, end).collect();
        if dialect == Dialect::PySpark && before.is_none() && batches.is_empty() {
            continue;
        }
        let new_from = match before {
            Some(_) => end - shape.slide.min(shape.length),
            None => end.saturating_sub(shape.length),
        };
        let has_new = all[new_from..end].iter().any(Option::is_some);
        let mut window: Values<K, V> = BTreeMap::new();
        for key in before.into_iter().flatten() {
            window.insert(key, Vec::new());
        }
        for (key, value) in batches.into_iter().flatten() {
            window.entry(key.clone()).or_default().push(value.clone());
        }
        if let Some(is_wanted) = is_wanted
            && (dialect == Dialect::Scala || has_new)
        {
            window.retain(|_, values| is_wanted(values));
        }
        let is_incremental = dialect == Dialect::Scala || shape.length >= 5 * shape.slide;
        before = is_incremental.then(|| window.keys().cloned().collect());
        windows.push((end, window.into_iter().collect()));
    }
    windows
}

/// The values as one number.
pub(crate) fn sums<K>(windows: Seen<(K, Vec<i64>)>) -> Seen<(K, i64)> {
    let sum = |(key, values): (K, Vec<i64>)| (key, values.iter().sum());
    let windows = windows.into_iter();
    windows
        .map(|(end, rows)| (end, rows.into_iter().map(sum).collect()))
        .collect()
}

/// Windows that are made anew each time; there is always one.
fn windows(shape: Shape, batches: &Batches<Pair>) -> Seen<Pair> {
    let window = |end| shape.batches(batches, end).flat_map(Rdd::to_vec).collect();
    shape
        .ends(batches.len())
        .map(|end| (end, window(end)))
        .collect()
}

fn records<T, U>(batches: &Batches<T>, f: impl Fn(&T) -> U) -> Vec<Option<Vec<U>>> {
    let of_batch = |rdd: &Rdd<T>| rdd.iter().map(&f).collect();
    batches
        .iter()
        .map(|rdd| rdd.as_ref().map(of_batch))
        .collect()
}

fn by_key(pairs: &[Pair]) -> Values<u8, i64> {
    let mut values: Values<u8, i64> = BTreeMap::new();
    for (key, value) in pairs {
        values.entry(*key).or_default().push(*value);
    }
    values
}

/// Associative, and the order shows.
fn last(_: i64, b: i64) -> i64 {
    b
}

fn add(a: i64, b: i64) -> i64 {
    a + b
}

fn subtract(a: i64, b: i64) -> i64 {
    a - b
}

/// Values are positive: a sum is zero only where nothing is left.
fn inputs() -> impl Strategy<Value = Batches<Pair>> {
    batches_with_gaps((0u8..4, 1i64..4))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(320))]

    #[test]
    fn windows_without_an_inverse_hold_their_batches(
        dialect in dialects(),
        batches in inputs(),
        shape in shapes(),
    ) {
        let (all, latest, latest_by_key, sum_by_key, groups) = run_well(dialect, batches.len(), |context| {
            let stream = input(context, &batches);
            let window = || shape.window();
            let values = stream.map(|(_, v)| *v);
            let groups = stream.group_by_key_and_window(window()).expect("it fits");
            (
                Watched::of(&stream.window(window()).expect("it fits")),
                Watched::of(&values.reduce_by_window(last, window()).expect("it fits")),
                Watched::of(&stream.reduce_by_key_and_window(last, window()).expect("it fits")),
                Watched::of(&stream.reduce_by_key_and_window(add, window()).expect("it fits")),
                (dialect == Dialect::Scala).then(|| Watched::of(&groups)),
            )
        });
        let expected = windows(shape, &batches);
        prop_assert_eq!(all.seen(), expected.clone());
        let of_window = expected.iter().map(|(end, pairs)| {
            (*end, pairs.last().map(|(_, v)| *v).into_iter().collect())
        });
        prop_assert_eq!(latest.seen(), of_window.collect::<Vec<_>>());
        let of_key = |f: fn(&[i64]) -> i64| -> Seen<Pair> {
            let windows = expected.iter();
            windows.map(|(end, pairs)| {
                (*end, by_key(pairs).into_iter().map(|(key, values)| (key, f(&values))).collect())
            }).collect()
        };
        prop_assert_eq!(latest_by_key.sorted(), of_key(|values| values[values.len() - 1]));
        prop_assert_eq!(sum_by_key.sorted(), of_key(|values| values.iter().sum()));
        if let Some(groups) = groups {
            let all = expected.iter().map(|(end, pairs)| (*end, by_key(pairs).into_iter().collect()));
            prop_assert_eq!(groups.sorted(), all.collect::<Vec<_>>());
        }
    }

    #[test]
    fn windows_with_an_inverse_are_what_is_in_them(
        dialect in dialects(),
        batches in inputs(),
        shape in shapes(),
    ) {
        let (sum_by_key, filtered, sum, counts, values, groups) = run_well(dialect, batches.len(), |context| {
            let stream = input(context, &batches);
            let window = || shape.window();
            let sums = stream.reduce_by_key_and_window_with_inverse(add, subtract, window());
            let filtered = stream.reduce_by_key_and_window_with_inverse_and_filter(
                add, subtract, window(), |_, sum| *sum != 0,
            );
            let sum = stream.map(|(_, v)| *v).reduce_by_window_with_inverse(add, subtract, window());
            let groups = stream.group_by_key_and_window(window()).expect("it fits");
            (
                Watched::of(&sums.expect("it fits")),
                Watched::of(&filtered.expect("it fits")),
                Watched::of(&sum.expect("it fits")),
                Watched::of(&stream.count_by_window(window()).expect("it fits")),
                Watched::of(&stream.count_by_value_and_window(window()).expect("it fits")),
                (dialect == Dialect::PySpark).then(|| Watched::of(&groups)),
            )
        });
        let by_key = records(&batches, |pair| *pair);
        let is_some = |values: &[i64]| values.iter().sum::<i64>() != 0;
        prop_assert_eq!(sum_by_key.sorted(), sums(inverse_windows(dialect, shape, &by_key, None)));
        let kept = sums(inverse_windows(dialect, shape, &by_key, Some(&is_some)));
        prop_assert_eq!(filtered.sorted(), kept);
        let without_key = |seen: Seen<((), i64)>| -> Seen<i64> {
            seen.into_iter().map(|(end, rows)| (end, rows.into_iter().map(|((), n)| n).collect())).collect()
        };
        let one_key = records(&batches, |(_, v)| ((), *v));
        prop_assert_eq!(sum.seen(), without_key(sums(inverse_windows(dialect, shape, &one_key, None))));
        let ones = records(&batches, |_| ((), 1));
        let expected = without_key(sums(inverse_windows(dialect, shape, &ones, None)));
        let counts = counts.seen().into_iter().map(|(end, n)| (end, n.iter().map(|n| *n as i64).collect()));
        prop_assert_eq!(counts.collect::<Vec<_>>(), expected);
        // Counts of nothing are hidden in both dialects.
        let counted = records(&batches, |pair| (*pair, 1));
        let mut expected = sums(inverse_windows(dialect, shape, &counted, None));
        expected.iter_mut().for_each(|(_, rows)| rows.retain(|(_, count)| *count > 0));
        let values = values.sorted().into_iter().map(|(end, rows)| {
            (end, rows.into_iter().map(|(pair, count)| (pair, count as i64)).collect())
        });
        prop_assert_eq!(values.collect::<Vec<_>>(), expected);
        if let Some(groups) = groups {
            prop_assert_eq!(groups.sorted(), inverse_windows(dialect, shape, &by_key, None));
        }
    }

    #[test]
    fn windows_are_made_of_windows(
        batches in inputs(),
        inner in shapes(),
        outer in shapes(),
    ) {
        let (windowed, summed) = run_well(Dialect::Scala, batches.len(), |context| {
            let stream = input(context, &batches);
            let windows = stream.window(inner.window()).expect("it fits");
            let in_slides = Shape { length: outer.length * inner.slide, slide: outer.slide * inner.slide };
            let sums = stream.reduce_by_key_and_window_with_inverse(add, subtract, inner.window());
            let sums = sums.expect("it fits");
            let sums = sums.reduce_by_key_and_window_with_inverse(add, subtract, in_slides.window());
            (
                Watched::of(&windows.window(in_slides.window()).expect("it fits")),
                Watched::of(&sums.expect("it fits")),
            )
        });
        // A batch of the outer window is a window of the inner one.
        let inner_windows: Vec<Option<Vec<Pair>>> =
            windows(inner, &batches).into_iter().map(|(_, pairs)| Some(pairs)).collect();
        let of_inner = |end| outer.batches(&inner_windows, end).flatten().copied().collect();
        let ends = outer.ends(inner_windows.len());
        let expected: Seen<Pair> = ends.map(|end| (end * inner.slide, of_inner(end))).collect();
        prop_assert_eq!(windowed.seen(), expected);
        let all = records(&batches, |pair| *pair);
        let inner_sums: Vec<Option<Vec<Pair>>> =
            sums(inverse_windows(Dialect::Scala, inner, &all, None)).into_iter().map(|(_, sums)| Some(sums)).collect();
        let mut expected = sums(inverse_windows(Dialect::Scala, outer, &inner_sums, None));
        expected.iter_mut().for_each(|(end, _)| *end *= inner.slide);
        prop_assert_eq!(summed.sorted(), sorted(expected));
    }

    /// The stream sliced has a batch at every few intervals.
    #[test]
    fn a_slice_is_what_is_remembered_between_two_times(
        batches in inputs(),
        slide in 1usize..4,
        remember_ms in prop_oneof![Just(0u64), Just(2_500), Just(4_000), Just(1 << 40)],
        begin_ms in 0u64..16_000,
        length_ms in 0u64..9_000,
    ) {
        let remembered = run_well(Dialect::Scala, batches.len(), |context| {
            context.remember(std::time::Duration::from_millis(remember_ms)).expect("said once");
            let stream = input(context, &batches);
            stream.for_each_batch(|_, _| ());
            let windows = stream.window((seconds(slide), seconds(slide))).expect("it fits");
            windows.remembered()
        });
        let end_ms = begin_ms + length_ms;
        let slice = remembered.slice(BatchTime::from_millis(begin_ms), BatchTime::from_millis(end_ms));
        let slice = slice.expect("nothing fails").into_iter();
        let seen: Seen<Pair> =
            slice.map(|(time, rdd)| ((time.as_millis() / INTERVAL_MS) as usize, rdd.to_vec())).collect();
        let mut expected = windows(Shape { length: slide, slide }, &batches);
        let newest_ms = expected.last().map_or(0, |(end, _)| *end as u64 * INTERVAL_MS);
        let slide_ms = slide as u64 * INTERVAL_MS;
        expected.retain(|(end, _)| {
            let time_ms = *end as u64 * INTERVAL_MS;
            let is_kept = time_ms == newest_ms || time_ms + remember_ms > newest_ms;
            // Times are rounded down to those at which the stream has batches.
            let floor = |ms: u64| ms / slide_ms * slide_ms;
            is_kept && floor(begin_ms) <= time_ms && time_ms <= floor(end_ms)
        });
        prop_assert_eq!(seen, expected);
    }
}
