//! The results of the pipelines that `Tally` and `Engine` run, in the types of the program.
//!
//! Promise: one [`Batch`] for each pipeline, in the order in which the program named them; nothing
//! is copied. Must not know: operators, formats.

use std::marker::PhantomData;
use std::slice::{Iter, IterMut};

use crate::aggregate::Aggregate;
use crate::aggregate::table::AggregateTable;
use crate::batch::{Batch, BatchStats};
use crate::epoch::hand_over::{NodeTable, PartialAggregate};
use crate::epoch::merge::{partial_of, table_of, table_of_mut};
use crate::error::guarded;
use crate::table::KeyTable;
use crate::table::keys::Seed;

/// What the pipelines of a [`Tally`](crate::Tally) or an [`Engine`](crate::Engine) result in:
/// [`Keyed`] or [`AggregatedKeys`] for one of them, a tuple of two to four for several. Tuples
/// nest.
///
/// Programs do not implement it. They return pipelines, and the types follow: see
/// [`Tally::pipelines`](crate::Tally::pipelines).
pub trait PipelineResults: 'static {
    /// The results of one batch: a [`Batch`], or a tuple of them.
    type Batches<'a>;
    /// The same, owned.
    type Kept: Send + Sync + 'static;
    /// Tables that are filled for each batch, where a result is not what the shards keep.
    type Computed: Default + Send + 'static;
    /// Returns the batches in `nodes`, with those that are computed of them in `computed`.
    fn lend<'a>(nodes: &mut LentNodes<'a>, computed: &'a mut Self::Computed) -> Self::Batches<'a>;
    /// Takes the batches out of `nodes`.
    fn keep(nodes: &mut TakenNodes<'_>) -> Self::Kept;
    /// Returns the batches in `kept`.
    fn batches(kept: &Self::Kept) -> Self::Batches<'_>;
}

/// The result of a pipeline with values of type `V`: a [`Batch<V>`](Batch).
#[derive(Debug)]
pub struct Keyed<V>(PhantomData<fn() -> V>);

/// The result of an aggregate `A` of values `T` by key: a [`Batch`] of its outputs.
#[derive(Debug)]
pub struct AggregatedKeys<A, T>(PhantomData<fn() -> (A, T)>);

/// The merged tables of a batch, in the order of the pipelines. Only the crate makes it.
pub struct LentNodes<'a> {
    nodes: Iter<'a, NodeTable>,
    stats: Iter<'a, BatchStats>,
}

/// As [`LentNodes`], with tables that may be taken. Only the crate makes it.
pub struct TakenNodes<'a> {
    nodes: IterMut<'a, NodeTable>,
    stats: Iter<'a, BatchStats>,
}

debug_fields!([] LentNodes<'_>, "LentNodes");
debug_fields!([] TakenNodes<'_>, "TakenNodes");

impl<'a> LentNodes<'a> {
    pub(crate) fn new(nodes: &'a [NodeTable], stats: &'a [BatchStats]) -> Self {
        LentNodes {
            nodes: nodes.iter(),
            stats: stats.iter(),
        }
    }

    fn next(&mut self) -> (&'a dyn PartialAggregate, &'a BatchStats) {
        let next = self.nodes.next().zip(self.stats.next());
        let (node, stats) = next.expect("there is a table for each pipeline");
        (node.partial.as_ref(), stats)
    }
}

impl<'a> TakenNodes<'a> {
    /// Nodes to take; none if no batch is there.
    pub(crate) fn new(nodes: &'a mut [NodeTable], stats: &'a [BatchStats]) -> Self {
        TakenNodes {
            nodes: nodes.iter_mut(),
            stats: stats.iter(),
        }
    }

    /// Takes the next table: `take` returns it. What a failed pipeline left means nothing.
    fn next<V: Copy + Send + Sync + 'static>(
        &mut self,
        take: impl FnOnce(&mut dyn PartialAggregate, KeyTable<V>) -> KeyTable<V>,
    ) -> KeptBatch<V> {
        let empty = KeyTable::new(Seed::random());
        let (table, stats) = match self.nodes.next().zip(self.stats.next()) {
            None => (empty, BatchStats::default()),
            Some((node, stats)) if node.failure.is_some() => (empty, *stats),
            Some((node, stats)) => (take(node.partial.as_mut(), empty), *stats),
        };
        KeptBatch { table, stats }
    }
}

/// An owned batch.
#[derive(Debug)]
pub struct KeptBatch<V> {
    table: KeyTable<V>,
    stats: BatchStats,
}

impl<V: Copy + Send + Sync + 'static> PipelineResults for Keyed<V> {
    type Batches<'a> = Batch<'a, V>;
    type Kept = KeptBatch<V>;
    type Computed = ();

    fn lend<'a>(nodes: &mut LentNodes<'a>, (): &'a mut ()) -> Batch<'a, V> {
        let (partial, stats) = nodes.next();
        Batch::new(table_of(partial), stats)
    }

    fn keep(nodes: &mut TakenNodes<'_>) -> KeptBatch<V> {
        nodes.next(|partial, empty| std::mem::replace(table_of_mut(partial), empty))
    }

    fn batches(kept: &KeptBatch<V>) -> Batch<'_, V> {
        Batch::new(&kept.table, &kept.stats)
    }
}

impl<A: Aggregate<T>, T: 'static> PipelineResults for AggregatedKeys<A, T> {
    type Batches<'a> = Batch<'a, A::Output>;
    type Kept = KeptBatch<A::Output>;
    type Computed = Option<KeyTable<A::Output>>;

    fn lend<'a>(
        nodes: &mut LentNodes<'a>,
        results: &'a mut Option<KeyTable<A::Output>>,
    ) -> Batch<'a, A::Output> {
        let (partial, stats) = nodes.next();
        let states = partial_of::<AggregateTable<A, T>>(partial);
        let results = results.get_or_insert_with(|| states.results());
        states.finish_into(results);
        Batch::new(results, stats)
    }

    fn keep(nodes: &mut TakenNodes<'_>) -> KeptBatch<A::Output> {
        nodes.next(|partial, mut results| {
            let states = partial_of::<AggregateTable<A, T>>(partial);
            // If it panics, it did so before, when the batch was lent, and the batch has failed.
            match guarded(|| states.finish_into(&mut results)) {
                Ok(()) => results,
                Err(_) => KeyTable::new(Seed::random()),
            }
        })
    }

    fn batches(kept: &KeptBatch<A::Output>) -> Batch<'_, A::Output> {
        Batch::new(&kept.table, &kept.stats)
    }
}

macro_rules! results_of_tuples {
    ($($($part:ident $at:tt),*;)*) => {$(
        impl<$($part: PipelineResults),*> PipelineResults for ($($part,)*) {
            type Batches<'a> = ($($part::Batches<'a>,)*);
            type Kept = ($($part::Kept,)*);
            type Computed = ($($part::Computed,)*);

            fn lend<'a>(
                nodes: &mut LentNodes<'a>,
                computed: &'a mut Self::Computed,
            ) -> Self::Batches<'a> {
                ($($part::lend(nodes, &mut computed.$at),)*)
            }

            fn keep(nodes: &mut TakenNodes<'_>) -> Self::Kept {
                ($($part::keep(nodes),)*)
            }

            fn batches(kept: &Self::Kept) -> Self::Batches<'_> {
                ($($part::batches(&kept.$at),)*)
            }
        }
    )*};
}
results_of_tuples! {
    A 0, B 1;
    A 0, B 1, C 2;
    A 0, B 1, C 2, D 3;
}
