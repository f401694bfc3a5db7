//! A stream of tables: one value a key.

use std::sync::Arc;

use crate::stream::plan::batch_cache::BatchTable;
use crate::stream::plan::graph::NodeId;
use crate::stream::program::context::StreamingContext;
use crate::stream::program::rdd_stream::RddStream;

/// One value a key and batch: what outputs are attached to.
pub struct Reduced<'c, V> {
    pub(crate) context: &'c StreamingContext,
    pub(crate) id: NodeId,
    /// Every how many milliseconds there is a batch.
    pub(crate) slide_ms: u64,
    pub(crate) held: Arc<dyn BatchTable<V>>,
}

debug_fields!(['c, V] Reduced<'c, V>, "Reduced", id, slide_ms);

impl<V> Clone for Reduced<'_, V> {
    fn clone(&self) -> Self {
        Reduced {
            context: self.context,
            id: self.id,
            slide_ms: self.slide_ms,
            held: Arc::clone(&self.held),
        }
    }
}

impl<'c, V: Copy + Send + Sync + 'static> Reduced<'c, V> {
    /// The keys and values as a stream of records: the way to joins, states and everything else the batch
    /// plane has. Each key is copied, once a batch.
    pub fn pairs(&self) -> RddStream<'c, (Vec<u8>, V)> {
        let held = Arc::clone(&self.held);
        self.context
            .taken_stream("pairs", vec![self.id], self.slide_ms, move |now| {
                held.map(now.time, |table, _| {
                    let entries = table.iter();
                    entries.map(|(key, value)| (key.to_vec(), value)).collect()
                })
            })
    }
}
