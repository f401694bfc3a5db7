//! `count_by_value`: the number of occurrences of each record.

use std::sync::Arc;

use crate::engine::plan::CountTokens;
use crate::shard::stage::Records;
use crate::stream::plan::group::Groups;
use crate::stream::plan::lower::FoldTables;
use crate::stream::plan::rdd::{Key, Rdd};
use crate::stream::program::dstream::DStream;
use crate::stream::program::rdd_stream::RddStream;
use crate::stream::program::reduced::Reduced;
use crate::table::add;

impl<R: Records> DStream<R> {
    /// Counts the occurrences of each record of a batch: Spark's `countByValue`, and the `map` and
    /// `reduceByKey` of its word count in one.
    ///
    /// It is the fastest way to count. The counts of lines and words are checked against the bytes
    /// received.
    ///
    /// ```
    /// use microtally::stream::run_lines;
    /// let counts = run_lines("to be or\nnot to be", |lines| {
    ///     Ok(lines.split(b' ').count_by_value().top(2))
    /// })?;
    /// assert_eq!(counts, [("be".into(), 2), ("to".into(), 2)]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn count_by_value(&self) -> Reduced<u64> {
        let kind = "count_by_value";
        match self.records.plain() {
            // Lines and words have a faster stage than records that a function made.
            Some(rule) => {
                let node = Arc::new(CountTokens::new(self.stream, rule));
                self.plan.reduced(kind, self.node, node)
            }
            None => (self.clone()).keyed(kind, |record| (record, 1), add, FoldTables::ones()),
        }
    }
}

impl<T: Key> RddStream<T> {
    /// Counts the occurrences of each record of a batch: Spark's `countByValue`.
    ///
    /// Records are in the order in which they were first seen.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// let batches = [vec!["a", "b", "a"], vec![]];
    /// let counts = run_batches(batches, |words| Ok(words.count_by_value()))?;
    /// assert_eq!(counts, [vec![("a", 2), ("b", 1)], vec![]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn count_by_value(&self) -> RddStream<(T, u64)> {
        self.derive("count_by_value", Rdd::count_by_value)
    }
}

impl<T: Key> Rdd<T> {
    /// Counts the occurrences of each record. Records are in the order in which they were first
    /// seen, in one partition.
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
