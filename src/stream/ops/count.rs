//! `count`: how many records a batch has.

use crate::config::Dialect;
use crate::ring::arena::Block;
use crate::shard::stage::Records;
use crate::split::{Splitter, Tallied};
use crate::stream::plan::batch_cache::Failure;
use crate::stream::plan::lower::Gather;
use crate::stream::plan::rdd::Record;
use crate::stream::program::context::DStream;
use crate::stream::program::rdd_stream::RddStream;

impl<'c, R: Records> DStream<'c, R> {
    /// Counts the records of each batch: Spark's `count`. They are counted in the shards, nothing is kept.
    ///
    /// One number a batch, `0` when nothing came; in the PySpark [`Dialect`] no number then.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// ssc.socket_text_stream("localhost", 9999)?.count().pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    pub fn count(&self) -> RddStream<'c, u64> {
        let skips_empty = self.context.dialect() == Dialect::PySpark;
        self.context.gathered(
            "count",
            self.stream,
            self.records.clone(),
            Count,
            move |(), count| {
                let is_left_out = skips_empty && count == 0;
                Some((!is_left_out).then_some(count).into_iter().collect())
            },
        )
    }
}

struct Count;

impl Gather for Count {
    /// The tally says it.
    type Sum = ();

    fn block<R: Records>(
        &self,
        _sum: &mut (),
        records: &R,
        splitter: &mut Splitter,
        block: &Block,
    ) -> Tallied {
        records.for_each(splitter, block.bytes(), |_| ())
    }

    fn merge(&self, _into: &mut (), _from: &()) {}
}

impl<'c, T: Record> RddStream<'c, T> {
    /// Counts the records of each batch: Spark's `count`.
    ///
    /// One number a batch, `0` when there is no record; in the PySpark [`Dialect`] nothing when there is
    /// no partition either, as in a batch in which nothing came.
    pub fn count(&self) -> RddStream<'c, u64> {
        let skips_empty = self.context.dialect() == Dialect::PySpark;
        self.derive_at("count", move |rdd, time| match rdd {
            None if skips_empty => Ok(None),
            None => Err(Failure::no_parent(
                "Couldn't generate RDD from parent",
                time,
            )),
            Some(rdd) => {
                let is_left_out = skips_empty && rdd.partition_count() == 0;
                let count = (!is_left_out).then_some(rdd.len() as u64);
                Ok(Some(count.into_iter().collect()))
            }
        })
    }
}
