//! `filter`: the records that are wanted.

use crate::shard::stage::Records;
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::context::DStream;
use crate::stream::program::rdd_stream::RddStream;

impl<'c, R: Records> DStream<'c, R> {
    /// Keeps the records for which `is_wanted` returns `true`: Spark's `filter`.
    ///
    /// Nothing is copied, and the call is compiled into the loop over the records.
    ///
    /// ```
    /// use microtally::stream::run_lines;
    /// let worked = run_lines("/a 200\n/b 404\n/c 200", |lines| {
    ///     Ok(lines.filter(|line| line.ends_with(b" 200")).field(0, b' ').records())
    /// })?;
    /// assert_eq!(worked, [b"/a", b"/c"]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn filter<P>(&self, is_wanted: P) -> DStream<'c, impl Records + use<R, P>>
    where
        P: Fn(&[u8]) -> bool + Clone + Send + Sync + 'static,
    {
        self.filter_map(move |record| is_wanted(record).then_some(record))
    }
}

impl<'c, T: Record + Clone> RddStream<'c, T> {
    /// Keeps the records for which `is_wanted` returns `true`: Spark's `filter`.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// let even = run_batches([vec![1, 2, 3, 4]], |numbers| Ok(numbers.filter(|n| n % 2 == 0)))?;
    /// assert_eq!(even, [[2, 4]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn filter(&self, is_wanted: impl Fn(&T) -> bool + Send + 'static) -> RddStream<'c, T> {
        self.derive("filter", move |rdd| rdd.filter(&is_wanted))
    }
}

impl<T: Clone> Rdd<T> {
    /// The records for which `is_wanted` returns `true`.
    pub fn filter(&self, is_wanted: impl Fn(&T) -> bool) -> Rdd<T> {
        self.each_partition(|records| {
            let wanted = records.iter().filter(|record| is_wanted(record));
            wanted.cloned().collect()
        })
    }
}
