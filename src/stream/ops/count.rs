//! `count`: the number of records of a batch.

use crate::config::Dialect;
use crate::shard::stage::Records;
use crate::stream::ops::transform::MISSING;
use crate::stream::plan::batch_cache::Failure;
use crate::stream::plan::rdd::Record;
use crate::stream::program::dstream::DStream;
use crate::stream::program::rdd_stream::RddStream;

impl<R: Records> DStream<R> {
    /// Counts the records of each batch, in the shards: Spark's `count`. No record is kept.
    ///
    /// Each batch is one number. A batch without input is `0`, except in the PySpark [`Dialect`],
    /// where it is empty.
    ///
    /// ```
    /// use microtally::stream::run_lines;
    /// assert_eq!(run_lines("to be\nor not\n", |lines| Ok(lines.count()))?, [2]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn count(&self) -> RddStream<u64> {
        let skips_empty = self.plan.dialect() == Dialect::PySpark;
        self.gathered(
            "count",
            // The tally has the number.
            |_sum: &mut (), records, splitter, block| {
                records.for_each(splitter, block.content(), |_| ())
            },
            |_into, _from| (),
            move |(), count| {
                let is_left_out = skips_empty && count == 0;
                (!is_left_out).then_some(count).into_iter().collect()
            },
        )
    }
}

impl<T: Record> RddStream<T> {
    /// Counts the records of each batch: Spark's `count`.
    ///
    /// Each batch is one number. A batch without partitions, such as one without input, is `0`,
    /// except in the PySpark [`Dialect`], where it is empty.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// assert_eq!(run_batches([vec!["a", "b"], vec![]], |words| Ok(words.count()))?, [[2], [0]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn count(&self) -> RddStream<u64> {
        let skips_empty = self.plan.dialect() == Dialect::PySpark;
        self.derive_at("count", move |rdd, time| match rdd {
            None if skips_empty => Ok(None),
            None => Err(Failure::no_parent(MISSING, time)),
            Some(rdd) => {
                let is_left_out = skips_empty && rdd.partition_count() == 0;
                let count = (!is_left_out).then_some(rdd.len() as u64);
                Ok(Some(count.into_iter().collect()))
            }
        })
    }
}
