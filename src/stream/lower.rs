//! Makes of operators what the engine runs.
//!
//! Promise: one place knows both vocabularies. A chain of record-plane operators becomes one
//! monomorphised stage, whatever its length. Refuses to know: what an operator computes.

use std::sync::Arc;

use crate::engine::plan::{Node, Output};
use crate::epoch::BatchStats;
use crate::epoch::merge::{table_of, table_of_mut};
use crate::epoch::snapshot::{Batch, Value};
use crate::epoch::swap::{NodeTable, Partial};
use crate::error::Result;
use crate::shard::stage::{KeyedStage, Records, Stage};
use crate::sink::Sink;
use crate::split::{Kernel, Rule};
use crate::table::Table;
use crate::table::keys::Seed;

/// A chain that ends in a reduction by key.
pub(super) struct KeyedNode<R, M, F> {
    pub(super) stream: usize,
    pub(super) records: R,
    pub(super) map: Arc<M>,
    pub(super) reduce: Arc<F>,
}

impl<R, M, F, V> Node for KeyedNode<R, M, F>
where
    R: Records,
    V: Value,
    M: Fn(&[u8]) -> (&[u8], V) + Send + Sync + 'static,
    F: Fn(V, V) -> V + Send + Sync + 'static,
{
    fn stream(&self) -> usize {
        self.stream
    }

    fn rule(&self) -> Rule {
        self.records.rule()
    }

    fn stage(&self, kernel: Kernel, _seed: Seed) -> Box<dyn Stage> {
        let (map, reduce) = (Arc::clone(&self.map), Arc::clone(&self.reduce));
        Box::new(KeyedStage::new(self.records.clone(), map, reduce, kernel))
    }

    fn partial(&self, seed: Seed) -> Box<dyn Partial> {
        Box::new(Table::<V>::new(seed))
    }

    fn merge(&self, into: &mut dyn Partial, from: &dyn Partial) {
        table_of_mut::<V>(into).merge_from(table_of(from), &*self.reduce);
    }

    /// What a function of the user's returns cannot be checked; the bytes are, in the reader's ledger.
    fn check(&self, _merged: &NodeTable) -> Result<()> {
        Ok(())
    }
}

/// A sink on the numbered node.
pub(super) struct SinkOutput<V, S> {
    pub(super) node: usize,
    pub(super) sink: S,
    pub(super) value: std::marker::PhantomData<fn(V)>,
}

impl<V: Value, S: Sink<V>> Output for SinkOutput<V, S> {
    fn emit(&mut self, nodes: &[NodeTable], stats: &[BatchStats]) -> Result<()> {
        let table = table_of::<V>(nodes[self.node].partial.as_ref());
        self.sink.emit(&Batch::new(table, &stats[self.node]))
    }
}
