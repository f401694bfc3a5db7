//! `count_by_value`: how often each record occurs.

use std::sync::Arc;

use crate::engine::plan::{CountTokens, Pipeline};
use crate::shard::stage::Records;
use crate::stream::plan::group::Groups;
use crate::stream::plan::lower::{Values, keyed};
use crate::stream::plan::rdd::{Key, Rdd};
use crate::stream::program::context::DStream;
use crate::stream::program::rdd_stream::RddStream;
use crate::stream::program::reduced::Reduced;
use crate::table::add;

impl<'c, R: Records> DStream<'c, R> {
    /// Counts equal records of a batch: Spark's `countByValue`, and the tutorial's `map` and
    /// `reduceByKey` in one. The counts of lines and words are checked against the bytes that came in.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// ssc.socket_text_stream("localhost", 9999)?.count_by_value().pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    pub fn count_by_value(&self) -> Reduced<'c, u64> {
        // Lines and words as they are have a faster stage than records some function made.
        let node: Arc<dyn Pipeline> = match self.records.plain() {
            Some(rule) => Arc::new(CountTokens::new(self.stream, rule)),
            None => {
                let records = self.records.clone();
                keyed(self.stream, records, one_each, add, Values::ones())
            }
        };
        self.context.reduced("count_by_value", node)
    }
}

impl<'c, T: Key> RddStream<'c, T> {
    /// Counts equal records of a batch: Spark's `countByValue`. They come out in the order in which they
    /// were first seen.
    pub fn count_by_value(&self) -> RddStream<'c, (T, u64)> {
        self.derive("count_by_value", Rdd::count_by_value)
    }
}

impl<T: Key> Rdd<T> {
    /// Counts equal records. They come out in the order in which they were first seen, in one partition.
    pub fn count_by_value(&self) -> Rdd<(T, u64)> {
        let mut counts: Groups<'_, T, u64> = Groups::new();
        for record in self.iter() {
            *counts.of(record) += 1;
        }
        let counts = counts.into_iter();
        counts
            .map(|(record, count)| (record.clone(), count))
            .collect()
    }
}

fn one_each(record: &[u8]) -> (&[u8], u64) {
    (record, 1)
}
