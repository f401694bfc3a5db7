//! `group_by_key`, `combine_by_key`: the values of a key together.

use crate::stream::group::Groups;
use crate::stream::rdd::{Key, Rdd, Record};
use crate::stream::rdd_stream::RddStream;

impl<'c, K: Key, V: Record + Clone> RddStream<'c, (K, V)> {
    /// Gathers the values of each key of a batch, in their order: Spark's `groupByKey`. Keys come out in
    /// the order in which they were first seen.
    pub fn group_by_key(&self) -> RddStream<'c, (K, Vec<V>)> {
        self.derive(Rdd::group_by_key)
    }

    /// Folds the values of each key of a batch into something else: Spark's `combineByKey`. `create` makes
    /// it of a partition's first value of a key, `merge_value` adds a value, `merge_combiners` puts two
    /// partitions' together.
    pub fn combine_by_key<C: Record>(
        &self,
        create: impl Fn(&V) -> C + Send + 'static,
        merge_value: impl Fn(C, &V) -> C + Send + 'static,
        merge_combiners: impl Fn(C, C) -> C + Send + 'static,
    ) -> RddStream<'c, (K, C)> {
        self.derive(move |rdd| rdd.combine_by_key(&create, &merge_value, &merge_combiners))
    }
}

impl<K: Key, V: Clone> Rdd<(K, V)> {
    /// Gathers the values of each key, in their order. Keys come out in the order in which they were first
    /// seen, in one partition.
    pub fn group_by_key(&self) -> Rdd<(K, Vec<V>)> {
        let mut groups: Groups<'_, K, Vec<V>> = Groups::new();
        for (key, value) in self.iter() {
            groups.of(key).push(value.clone());
        }
        let groups = groups.into_iter();
        groups.map(|(key, values)| (key.clone(), values)).collect()
    }
}

impl<K: Key, V> Rdd<(K, V)> {
    /// Folds the values of each key into something else; see
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
