//! `count_by_value`: how often each record occurs.

use std::any::Any;
use std::sync::Arc;

use crate::engine::plan::{CountTokens, Node};
use crate::shard::stage::{Records, Tokens};
use crate::stream::context::DStream;
use crate::stream::lower::KeyedNode;
use crate::stream::reduce_by_key::Reduced;
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
        let node: Arc<dyn Node> = match (&self.records as &dyn Any).downcast_ref::<Tokens>() {
            Some(tokens) => Arc::new(CountTokens::new(self.stream, tokens.0)),
            None => Arc::new(KeyedNode {
                stream: self.stream,
                records: self.records.clone(),
                map: Arc::new(one_each),
                reduce: Arc::new(add),
            }),
        };
        let node = self.context.add_node(node);
        Reduced {
            context: self.context,
            node,
            value: std::marker::PhantomData,
        }
    }
}

fn one_each(record: &[u8]) -> (&[u8], u64) {
    (record, 1)
}
