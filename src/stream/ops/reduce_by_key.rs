//! `reduce_by_key`: the values of a key become one.

use crate::shard::stage::Records;
use crate::stream::ops::map::PairStream;
use crate::stream::plan::group::Groups;
use crate::stream::plan::lower::FoldTables;
use crate::stream::plan::rdd::{Key, Rdd, Record};
use crate::stream::program::rdd_stream::RddStream;
use crate::stream::program::reduced::Reduced;

impl<R: Records, M> PairStream<R, M> {
    /// Folds the values of each key of a batch: Spark's `reduceByKey`.
    ///
    /// Each shard folds its records, then the shards' results are folded. So `reduce` must be
    /// associative and commutative, as in Spark.
    ///
    /// ```
    /// use microtally::stream::run_lines;
    /// let counts = run_lines("to be or\nnot to be", |lines| {
    ///     let ones = lines.split(b' ').map(|word| (word, 1));
    ///     Ok(ones.reduce_by_key(|a, b| a + b).top(2))
    /// })?;
    /// assert_eq!(counts, [("be".into(), 2), ("to".into(), 2)]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn reduce_by_key<V, F>(self, reduce: F) -> Reduced<V>
    where
        V: Copy + Send + Sync + 'static,
        M: Fn(&[u8]) -> (&[u8], V) + Send + Sync + 'static,
        F: Fn(V, V) -> V + Send + Sync + 'static,
    {
        let PairStream { stream, map } = self;
        stream.keyed("reduce_by_key", map, reduce, FoldTables::any())
    }
}

impl<K: Key, V: Record + Clone> RddStream<(K, V)> {
    /// Folds the values of each key of a batch, in their order: Spark's `reduceByKey`.
    ///
    /// Keys are in the order in which they were first seen. Each record costs a look-up.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// let sums = run_batches([vec![("a", 1), ("b", 2), ("a", 3)]], |pairs| {
    ///     Ok(pairs.reduce_by_key(|a, b| a + b))
    /// })?;
    /// assert_eq!(sums, [[("a", 4), ("b", 2)]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn reduce_by_key(&self, reduce: impl Fn(V, V) -> V + Send + 'static) -> RddStream<(K, V)> {
        self.derive("reduce_by_key", move |rdd| rdd.reduce_by_key(&reduce))
    }
}

impl<K: Key, V: Record + Clone> Rdd<(K, V)> {
    /// Folds the values of each key, in their order. Keys are in the order in which they were first
    /// seen, in one partition.
    pub fn reduce_by_key(&self, reduce: impl Fn(V, V) -> V) -> Rdd<(K, V)> {
        let mut folded: Groups<'_, K, Option<V>> = Groups::new();
        for (key, value) in self.iter() {
            let sum = folded.of(key);
            *sum = Some(match sum.take() {
                Some(before) => reduce(before, value.clone()),
                None => value.clone(),
            });
        }
        let pairs = folded
            .into_iter()
            .filter_map(|(key, value)| Some((key.clone(), value?)));
        pairs.collect()
    }
}
