//! `count_by_value`: how often each record occurs.

use std::any::Any;
use std::sync::Arc;

use crate::engine::plan::Count;
use crate::shard::stage::{Records, Tokens};
use crate::stream::context::DStream;
use crate::stream::reduce_by_key::Reduced;

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
        let is_whole = (&self.records as &dyn Any).is::<Tokens>();
        let count = Count::new(self.stream, self.records.clone(), is_whole);
        let node = self.context.add_node(Arc::new(count));
        Reduced {
            context: self.context,
            node,
            value: std::marker::PhantomData,
        }
    }
}
