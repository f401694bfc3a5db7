//! Lowers aggregates by key: a stage in the shards, and the merged states in the batch plane.
//!
//! Promise: as of `lower`. The states exist while their batch is being published.
//! Must not know: `ops`, `source`, `sink`.

use std::sync::Arc;

use crate::aggregate::Aggregate;
use crate::aggregate::table::AggregateTable;
use crate::engine::plan::Pipeline;
use crate::epoch::hand_over::{NodeTable, PartialAggregate};
use crate::epoch::merge::{partial_of, partial_of_mut};
use crate::error::Result;
use crate::id::StreamId;
use crate::memory::PipelineNeeds;
use crate::save::StateKind;
use crate::shard::aggregate::AggregateStage;
use crate::shard::stage::{Records, Stage};
use crate::split::{Kernel, Rule};
use crate::stream::plan::graph::NodeId;
use crate::stream::plan::lent_table::{LentTable, TableHolder};
use crate::stream::plan::lower::LendMerged;
use crate::stream::program::dstream::DStream;
use crate::table::bound::MemoryCap;
use crate::table::keys::Seed;

/// Whether states of `aggregate` over several batches can be saved.
pub(crate) fn state_of<A: Aggregate<T>, T>(aggregate: &A) -> StateKind {
    match aggregate.check_savable() {
        Ok(()) => StateKind::Savable,
        Err(what_to_do) => StateKind::Unsavable(what_to_do),
    }
}

/// The states of each batch.
pub(crate) type LentStates<A, T> = Arc<LentTable<AggregateTable<A, T>>>;

impl<A: Aggregate<T>, T> TableHolder for AggregateTable<A, T> {
    type Value = A::Output;
}

/// A chain that ends in an aggregate by key.
struct AggregateNode<R, I, M, A> {
    stream: StreamId,
    records: R,
    init: Arc<I>,
    map: Arc<M>,
    aggregate: A,
}

/// What a chain is of: `S` is the state of a shard, `T` the value.
struct Typed<N, S, T>(N, std::marker::PhantomData<fn() -> (S, T)>);

impl<R, S, I, M, A, T> Pipeline for Typed<AggregateNode<R, I, M, A>, S, T>
where
    R: Records,
    S: Send + 'static,
    T: Copy + 'static,
    A: Aggregate<T>,
    I: Fn() -> S + Send + Sync + 'static,
    M: Fn(&mut S, &[u8], &mut Vec<u8>) -> Option<T> + Send + Sync + 'static,
{
    fn stream(&self) -> StreamId {
        self.0.stream
    }

    fn rule(&self) -> Rule {
        self.0.records.rule()
    }

    fn stage(&self, kernel: Kernel, _seed: Seed, _bound: MemoryCap) -> Box<dyn Stage> {
        let (init, map) = (Arc::clone(&self.0.init), Arc::clone(&self.0.map));
        let records = self.0.records.clone();
        Box::new(AggregateStage::<R, S, I, M, A, T>::new(
            records, init, map, kernel,
        ))
    }

    fn partial(&self, seed: Seed, bound: MemoryCap) -> Box<dyn PartialAggregate> {
        let aggregate = self.0.aggregate.clone();
        Box::new(AggregateTable::<A, T>::new(aggregate, seed, bound))
    }

    fn needs(&self) -> PipelineNeeds {
        PipelineNeeds {
            own_tables: 0,
            table_bytes_min: AggregateTable::<A, T>::bytes_min(),
            is_counting: false,
            result_tables: AggregateTable::<A, T>::result_tables(),
        }
    }

    fn merge(&self, into: &mut dyn PartialAggregate, from: &dyn PartialAggregate) {
        let into = partial_of_mut::<AggregateTable<A, T>>(into);
        into.merge_from(partial_of(from));
    }

    /// What a custom aggregate makes cannot be checked; the bytes are, in the reader's ledger.
    fn check(&self, _merged: &NodeTable) -> Result<()> {
        Ok(())
    }
}

impl<R: Records> DStream<R> {
    /// Aggregates the values of keys that `map` writes. Returns the stream's number and the states
    /// of each batch.
    pub(crate) fn aggregated<S, I, M, A, T>(
        self,
        init: I,
        map: M,
        aggregate: A,
    ) -> (NodeId, LentStates<A, T>)
    where
        S: Send + 'static,
        T: Copy + 'static,
        A: Aggregate<T>,
        I: Fn() -> S + Send + Sync + 'static,
        M: Fn(&mut S, &[u8], &mut Vec<u8>) -> Option<T> + Send + Sync + 'static,
    {
        // Takes the place of the merged table while that is lent, and is never written to.
        let spare = AggregateTable::new(aggregate.clone(), Seed::random(), MemoryCap::NONE);
        let states = LentTable::new(spare);
        let operator = Box::new(LendMerged {
            table: Arc::clone(&states),
            set_records: AggregateTable::set_records,
        });
        let (plan, parents) = (&self.plan, vec![self.node]);
        let id = plan.add_batches("aggregate_by_key", parents, plan.interval_ms(), operator);
        let node = AggregateNode {
            stream: self.stream,
            records: self.records,
            init: Arc::new(init),
            map: Arc::new(map),
            aggregate,
        };
        plan.read(id, Arc::new(Typed(node, std::marker::PhantomData)));
        (id, states)
    }
}
