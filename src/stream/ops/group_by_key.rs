//! `group_by_key`: the values of each key together.

use crate::stream::plan::group::Groups;
use crate::stream::plan::rdd::{Key, Rdd, Record};
use crate::stream::program::rdd_stream::RddStream;

impl<K: Key, V: Record + Clone> RddStream<(K, V)> {
    /// Gathers the values of each key of a batch, in their order: Spark's `groupByKey`.
    ///
    /// Keys are in the order in which they were first seen.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// let batch = vec![("a", 1), ("b", 2), ("a", 3)];
    /// let groups = run_batches([batch], |pairs| Ok(pairs.group_by_key()))?;
    /// assert_eq!(groups, [[("a", vec![1, 3]), ("b", vec![2])]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn group_by_key(&self) -> RddStream<(K, Vec<V>)> {
        self.derive("group_by_key", Rdd::group_by_key)
    }
}

impl<K: Key, V: Clone> Rdd<(K, V)> {
    /// Gathers the values of each key, in their order. Keys are in the order in which they were
    /// first seen, in one partition.
    pub fn group_by_key(&self) -> Rdd<(K, Vec<V>)> {
        let mut groups: Groups<'_, K, Vec<V>> = Groups::new();
        for (key, value) in self.iter() {
            groups.of(key).push(value.clone());
        }
        let groups = groups.into_iter();
        groups.map(|(key, values)| (key.clone(), values)).collect()
    }
}
