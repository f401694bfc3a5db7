//! `map_partitions`, `glom`, `repartition`: operators on whole partitions.

use std::sync::Arc;

use crate::shard::stage::Records;
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::dstream::DStream;
use crate::stream::program::rdd_stream::RddStream;

impl<R: Records> DStream<R> {
    /// Makes records of the records of each block: Spark's `mapPartitions`.
    ///
    /// A block is what was read at once, cut behind a line: at most 256 KiB, unless
    /// [`Config::block_bytes`](crate::Config::block_bytes) sets another size. `f` is called in the
    /// shards, with the borrowed records in their order.
    ///
    /// ```
    /// use microtally::stream::run_lines;
    /// let bytes = run_lines("to be\nor not\n", |lines| {
    ///     let lengths = |lines: &[&[u8]]| [lines.iter().map(|line| line.len()).sum::<usize>()];
    ///     Ok(lines.map_partitions(lengths).reduce(|a, b| a + b))
    /// })?;
    /// assert_eq!(bytes, [11]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn map_partitions<T, I>(
        &self,
        f: impl Fn(&[&[u8]]) -> I + Send + Sync + 'static,
    ) -> RddStream<T>
    where
        T: Record,
        I: IntoIterator<Item = T> + 'static,
    {
        self.made_per_block("map_partitions", move |records, splitter, block| {
            let mut all = Vec::new();
            let tallied = records.for_each(splitter, block, |record| all.push(record));
            (f(&all).into_iter().collect(), tallied)
        })
    }
}

impl<T: Record> RddStream<T> {
    /// Makes records of the records of each partition: Spark's `mapPartitions`.
    ///
    /// ```
    /// use microtally::stream::{Rdd, run_batches};
    /// let batch = Rdd::new([vec![1, 2], vec![3]]);
    /// let sums = run_batches([batch], |numbers| {
    ///     Ok(numbers.map_partitions(|part| [part.iter().sum::<i32>()]))
    /// })?;
    /// assert_eq!(sums, [[3, 3]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn map_partitions<U: Record, I: IntoIterator<Item = U>>(
        &self,
        f: impl Fn(&[T]) -> I + Send + 'static,
    ) -> RddStream<U> {
        self.derive("map_partitions", move |rdd| rdd.map_partitions(&f))
    }

    /// Makes one record of each partition: Spark's `glom`. The partitions are shared, not copied.
    ///
    /// ```
    /// use microtally::stream::{Rdd, run_batches};
    /// let batch = Rdd::new([vec![1, 2], vec![3]]);
    /// let parts = run_batches([batch], |numbers| Ok(numbers.glom().map(|part| part.to_vec())))?;
    /// assert_eq!(parts, [[vec![1, 2], vec![3]]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn glom(&self) -> RddStream<Arc<Vec<T>>> {
        self.derive("glom", Rdd::glom)
    }

    /// Splits each batch into `partition_count` partitions (at least one) of about the same size:
    /// Spark's `repartition`. Unlike Spark's, it keeps the records in order.
    ///
    /// It makes nothing faster, because the batch plane works on one batch at a time. It sets the
    /// partitions that `glom`, `map_partitions` and the files of `save_as_text_files` show.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// let sizes = run_batches([vec![1, 2, 3, 4]], |numbers| {
    ///     Ok(numbers.repartition(3).map_partitions(|part| [part.len()]))
    /// })?;
    /// assert_eq!(sizes, [[1, 1, 2]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn repartition(&self, partition_count: usize) -> RddStream<T>
    where
        T: Clone,
    {
        // Spark builds it with `transform`.
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

    /// Copies the records into `partition_count` partitions (at least one) of about the same size.
    pub fn repartition(&self, partition_count: usize) -> Rdd<T>
    where
        T: Clone,
    {
        Rdd::split_into(self.to_vec(), partition_count)
    }
}
