//! `reduce_by_key`: the values of a key become one.

use std::sync::Arc;

use crate::epoch::snapshot::Value;
use crate::shard::stage::Records;
use crate::stream::context::StreamingContext;
use crate::stream::lower::KeyedNode;
use crate::stream::map::Pairs;

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
        V: Value,
        M: Fn(&[u8]) -> (&[u8], V) + Send + Sync + 'static,
        F: Fn(V, V) -> V + Send + Sync + 'static,
    {
        let Pairs { stream, map } = self;
        let node = stream.context.add_node(Arc::new(KeyedNode {
            stream: stream.stream,
            records: stream.records,
            map: Arc::new(map),
            reduce: Arc::new(reduce),
        }));
        Reduced {
            context: stream.context,
            node,
            value: std::marker::PhantomData,
        }
    }
}

/// One value a key and batch: what outputs are attached to.
pub struct Reduced<'c, V> {
    pub(super) context: &'c StreamingContext,
    pub(super) node: usize,
    pub(super) value: std::marker::PhantomData<fn() -> V>,
}
