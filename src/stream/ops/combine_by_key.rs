//! `combine_by_key`: the values of each key become a combiner of another type.

use crate::shard::stage::Records;
use crate::stream::ops::map::PairStream;
use crate::stream::plan::group::Groups;
use crate::stream::plan::rdd::{Key, Rdd, Record};
use crate::stream::program::rdd_stream::RddStream;
use crate::stream::program::reduced::Reduced;

impl<R: Records, M> PairStream<R, M> {
    /// Folds the values of each key of a batch into a combiner of another type: Spark's
    /// `combineByKey`.
    ///
    /// `create` makes a combiner of a key's first value in a shard, `merge_value` adds a value, and
    /// `merge_combiners` merges the combiners of two shards, in any order. The result must not
    /// depend on which shard got a record. Each record costs a look-up; combiners are copied as
    /// they are, so nothing is allocated.
    ///
    /// ```
    /// use microtally::stream::run_lines;
    /// let means = run_lines("a,1\nb,5\na,2\n", |lines| {
    ///     let values = lines.map(|line| (&line[..1], u32::from(line[2] - b'0')));
    ///     let sums = values.combine_by_key(
    ///         |value| (1, value),
    ///         |(count, sum), value| (count + 1, sum + value),
    ///         |(count, sum), (more, other)| (count + more, sum + other),
    ///     );
    ///     let means = sums.pairs().map_values(|(count, sum)| f64::from(*sum) / f64::from(*count));
    ///     Ok(means.sort_by(|a, b| a.0.cmp(&b.0)))
    /// })?;
    /// assert_eq!(means, [("a".into(), 1.5), ("b".into(), 5.0)]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn combine_by_key<V, C>(
        self,
        create: impl Fn(V) -> C + Send + Sync + 'static,
        merge_value: impl Fn(C, V) -> C + Send + Sync + 'static,
        merge_combiners: impl Fn(C, C) -> C + Send + Sync + 'static,
    ) -> Reduced<C>
    where
        V: Copy + Send + Sync + 'static,
        C: Copy + Send + Sync + 'static,
        M: Fn(&[u8]) -> (&[u8], V) + Send + Sync + 'static,
    {
        let PairStream { stream, map } = self;
        stream.combined("combine_by_key", map, create, merge_value, merge_combiners)
    }
}

impl<K: Key, V: Record + Clone> RddStream<(K, V)> {
    /// Folds the values of each key of a batch into a combiner of another type: Spark's
    /// `combineByKey`.
    ///
    /// `create` makes a combiner of a key's first value in a partition, `merge_value` adds a value,
    /// and `merge_combiners` merges the combiners of two partitions.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// let texts = run_batches([vec![("a", 1), ("b", 2), ("a", 3)]], |pairs| {
    ///     let add = |text, n: &i32| format!("{text}+{n}");
    ///     Ok(pairs.combine_by_key(|n| n.to_string(), add, |a, b| a + "|" + &b))
    /// })?;
    /// assert_eq!(texts, [[("a", "1+3".to_owned()), ("b", "2".to_owned())]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn combine_by_key<C: Record>(
        &self,
        create: impl Fn(&V) -> C + Send + 'static,
        merge_value: impl Fn(C, &V) -> C + Send + 'static,
        merge_combiners: impl Fn(C, C) -> C + Send + 'static,
    ) -> RddStream<(K, C)> {
        self.derive("combine_by_key", move |rdd| {
            rdd.combine_by_key(&create, &merge_value, &merge_combiners)
        })
    }
}

impl<K: Key, V> Rdd<(K, V)> {
    /// Folds the values of each key into a combiner of another type; see
    /// [`RddStream::combine_by_key`].
    pub fn combine_by_key<C>(
        &self,
        create: impl Fn(&V) -> C,
        merge_value: impl Fn(C, &V) -> C,
        merge_combiners: impl Fn(C, C) -> C,
    ) -> Rdd<(K, C)> {
        let mut all: Groups<'_, K, Option<C>> = Groups::new();
        for partition in self.partitions() {
            let mut part: Groups<'_, K, Option<C>> = Groups::new();
            for (key, value) in partition {
                let combined = part.of(key);
                *combined = Some(match combined.take() {
                    Some(before) => merge_value(before, value),
                    None => create(value),
                });
            }
            for (key, combined) in part {
                let sum = all.of(key);
                *sum = match (sum.take(), combined) {
                    (Some(before), Some(combined)) => Some(merge_combiners(before, combined)),
                    (before, combined) => before.or(combined),
                };
            }
        }
        let combined = all.into_iter();
        combined
            .filter_map(|(key, combined)| Some((key.clone(), combined?)))
            .collect()
    }
}
