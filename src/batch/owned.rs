//! A batch that outlives its turn: what a sink on a thread of its own gets.
//!
//! Promise: it holds what the batch held, and keeps its memory for the next one. Must not know:
//! `sink`, `epoch`, threads.

use crate::batch::{Batch, BatchStats};
use crate::table::KeyTable;

/// A batch with its own table.
pub(crate) struct OwnedBatch<V> {
    pub(crate) table: KeyTable<V>,
    pub(crate) stats: BatchStats,
}

impl<V: Copy + Send + 'static> OwnedBatch<V> {
    /// The batch as users see it.
    pub(crate) fn batch(&self) -> Batch<'_, V> {
        Batch::new(&self.table, &self.stats)
    }
}
