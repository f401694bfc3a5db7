//! `map_partitions`, `glom`, `repartition`: operators that see how records lie in memory.

use std::sync::Arc;

use crate::shard::stage::Records;
use crate::split::{Splitter, Tallied};
use crate::stream::plan::lower::PerBlock;
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::context::DStream;
use crate::stream::program::rdd_stream::RddStream;

impl<'c, R: Records> DStream<'c, R> {
    /// Makes records of the records of each block: Spark's `mapPartitions`. A block is what was read at
    /// once, cut behind a line: 256 KiB at most unless [`Config::block_bytes`](crate::Config::block_bytes)
    /// says otherwise. `f` is called in the shards, with the records in their order, which are borrowed.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(5))?;
    /// let lines = ssc.socket_text_stream("localhost", 9999)?;
    /// let bytes = lines.map_partitions(|lines| [lines.iter().map(|line| line.len()).sum::<usize>()]);
    /// bytes.reduce(|a, b| a + b).pprint(1);
    /// # ssc.start()?.await_termination() }
    /// ```
    pub fn map_partitions<T, I>(
        &self,
        f: impl Fn(&[&[u8]]) -> I + Send + Sync + 'static,
    ) -> RddStream<'c, T>
    where
        T: Record,
        I: IntoIterator<Item = T> + 'static,
    {
        let gather = MapPartitions(move |records: &[&[u8]]| f(records).into_iter().collect());
        let (context, records) = (self.context, self.records.clone());
        context.made_per_block("map_partitions", self.stream, records, gather)
    }
}

struct MapPartitions<F>(F);

impl<T, F> PerBlock<T> for MapPartitions<F>
where
    T: Record,
    F: Fn(&[&[u8]]) -> Vec<T> + Send + Sync + 'static,
{
    fn make<R: Records>(
        &self,
        records: &R,
        splitter: &mut Splitter,
        block: &[u8],
    ) -> (Vec<T>, Tallied) {
        let mut all = Vec::new();
        let tallied = records.for_each(splitter, block, |record| all.push(record));
        ((self.0)(&all), tallied)
    }
}

impl<'c, T: Record> RddStream<'c, T> {
    /// Makes records of the records of each partition: Spark's `mapPartitions`.
    pub fn map_partitions<U: Record, I: IntoIterator<Item = U>>(
        &self,
        f: impl Fn(&[T]) -> I + Send + 'static,
    ) -> RddStream<'c, U> {
        self.derive("map_partitions", move |rdd| rdd.map_partitions(&f))
    }

    /// Makes one record of each partition: Spark's `glom`. The partitions are shared, not copied.
    pub fn glom(&self) -> RddStream<'c, Arc<Vec<T>>> {
        self.derive("glom", Rdd::glom)
    }

    /// Puts the records into `partition_count` partitions of about the same size, at least one: Spark's
    /// `repartition`. Their order is kept.
    ///
    /// There is one machine and the batch plane works on one batch at a time, so nothing becomes faster by
    /// it; it says what `glom`, `map_partitions` and the files of `save_as_text_files` see.
    pub fn repartition(&self, partition_count: usize) -> RddStream<'c, T>
    where
        T: Clone,
    {
        // Spark builds it of `transform`.
        self.transform_named("repartition", move |rdd, _| {
            Some(rdd.repartition(partition_count))
        })
    }
}

impl<T> Rdd<T> {
    /// Makes records of the records of each partition.
    pub fn map_partitions<U, I: IntoIterator<Item = U>>(&self, f: impl Fn(&[T]) -> I) -> Rdd<U> {
        self.each_partition(|records| f(records).into_iter().collect())
    }

    /// Makes one record of each partition. The partitions are shared, not copied.
    pub fn glom(&self) -> Rdd<Arc<Vec<T>>> {
        Rdd::new(self.parts().iter().map(|part| vec![Arc::clone(part)]))
    }

    /// Copies of the records in `partition_count` partitions of about the same size, at least one.
    pub fn repartition(&self, partition_count: usize) -> Rdd<T>
    where
        T: Clone,
    {
        Rdd::split_into(self.to_vec(), partition_count)
    }
}
