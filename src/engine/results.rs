//! The results of the pipelines that `Tally` and `Engine` run, in the types of the program.
//!
//! Promise: one [`Batch`] for each pipeline, in the order in which the program named them; nothing
//! is copied. Must not know: operators, formats.

use std::marker::PhantomData;
use std::slice::{Iter, IterMut};

use crate::batch::{Batch, BatchStats};
use crate::epoch::hand_over::NodeTable;
use crate::epoch::merge::{table_of, table_of_mut};
use crate::table::KeyTable;
use crate::table::keys::Seed;

/// What the pipelines of a [`Tally`](crate::Tally) or an [`Engine`](crate::Engine) result in:
/// [`Keyed`] for one of them, a tuple of two to four for several. Tuples nest.
///
/// Programs do not implement it. They return pipelines, and the types follow: see
/// [`Tally::pipelines`](crate::Tally::pipelines).
pub trait PipelineResults: 'static {
    /// The results of one batch: a [`Batch`], or a tuple of them.
    type Batches<'a>;
    /// The same, owned.
    type Kept: Send + Sync + 'static;
    /// Returns the batches in `nodes`.
    fn lend<'a>(nodes: &mut LentNodes<'a>) -> Self::Batches<'a>;
    /// Takes the batches out of `nodes`.
    fn keep(nodes: &mut TakenNodes<'_>) -> Self::Kept;
    /// Returns the batches in `kept`.
    fn batches(kept: &Self::Kept) -> Self::Batches<'_>;
}

/// The result of a pipeline with values of type `V`: a [`Batch<V>`](Batch).
#[derive(Debug)]
pub struct Keyed<V>(PhantomData<fn() -> V>);

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
}

impl<'a> TakenNodes<'a> {
    /// Nodes to take; none if no batch is there.
    pub(crate) fn new(nodes: &'a mut [NodeTable], stats: &'a [BatchStats]) -> Self {
        TakenNodes {
            nodes: nodes.iter_mut(),
            stats: stats.iter(),
        }
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

    fn lend<'a>(nodes: &mut LentNodes<'a>) -> Batch<'a, V> {
        let next = nodes.nodes.next().zip(nodes.stats.next());
        let (node, stats) = next.expect("there is a table for each pipeline");
        Batch::new(table_of(node.partial.as_ref()), stats)
    }

    fn keep(nodes: &mut TakenNodes<'_>) -> KeptBatch<V> {
        let empty = KeyTable::new(Seed::random());
        match nodes.nodes.next().zip(nodes.stats.next()) {
            None => KeptBatch {
                table: empty,
                stats: BatchStats::default(),
            },
            // What a failed pipeline left means nothing.
            Some((node, stats)) if node.failure.is_some() => KeptBatch {
                table: empty,
                stats: *stats,
            },
            Some((node, stats)) => KeptBatch {
                table: std::mem::replace(table_of_mut(node.partial.as_mut()), empty),
                stats: *stats,
            },
        }
    }

    fn batches(kept: &KeptBatch<V>) -> Batch<'_, V> {
        Batch::new(&kept.table, &kept.stats)
    }
}

macro_rules! results_of_tuples {
    ($($($part:ident $at:tt),*;)*) => {$(
        impl<$($part: PipelineResults),*> PipelineResults for ($($part,)*) {
            type Batches<'a> = ($($part::Batches<'a>,)*);
            type Kept = ($($part::Kept,)*);

            fn lend<'a>(nodes: &mut LentNodes<'a>) -> Self::Batches<'a> {
                ($($part::lend(nodes),)*)
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
