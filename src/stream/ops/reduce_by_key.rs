//! `reduce_by_key`: the values of a key become one.

use crate::shard::stage::Records;
use crate::stream::ops::map::Pairs;
use crate::stream::plan::group::Groups;
use crate::stream::plan::lower::{Values, keyed};
use crate::stream::plan::rdd::{Key, Rdd, Record};
use crate::stream::program::rdd_stream::RddStream;
use crate::stream::program::reduced::Reduced;

impl<'c, R: Records, M> Pairs<'c, R, M> {
    /// Folds the values of each key of a batch: Spark's `reduceByKey(add)`. `reduce` must be associative
    /// and commutative, as in Spark: each shard folds what it got, then the shards' results are folded.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(5))?;
    /// let words = ssc.socket_text_stream("localhost", 9999)?.flat_map(split(b' '));
    /// words.map(|word| (word, 1u64)).reduce_by_key(|a, b| a + b).pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    pub fn reduce_by_key<V, F>(self, reduce: F) -> Reduced<'c, V>
    where
        V: Copy + Send + Sync + 'static,
        M: Fn(&[u8]) -> (&[u8], V) + Send + Sync + 'static,
        F: Fn(V, V) -> V + Send + Sync + 'static,
    {
        let Pairs { stream, map } = self;
        let node = keyed(stream.stream, stream.records, map, reduce, Values::any());
        stream.context.reduced("reduce_by_key", node)
    }
}

impl<'c, K: Key, V: Record + Clone> RddStream<'c, (K, V)> {
    /// Folds the values of each key of a batch, in their order: Spark's `reduceByKey`. Keys come out in the
    /// order in which they were first seen.
    pub fn reduce_by_key(
        &self,
        reduce: impl Fn(V, V) -> V + Send + 'static,
    ) -> RddStream<'c, (K, V)> {
        self.derive("reduce_by_key", move |rdd| rdd.reduce_by_key(&reduce))
    }
}

impl<K: Key, V: Record + Clone> Rdd<(K, V)> {
    /// Folds the values of each key, in their order. Keys come out in the order in which they were first
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
