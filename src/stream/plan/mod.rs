//! What runs. A program's streams add nodes to a plan (`builder`), which can be shown (`explain`)
//! and whose states can be saved (`saving`). Operators of the record plane are lowered to stages of
//! the shards (`lower`). Operators of the batch plane are run by a graph (`graph`); each of its
//! streams keeps its batches in a `batch_cache`.

pub(crate) mod aggregated;
pub(crate) mod batch_cache;
pub(crate) mod builder;
pub(crate) mod explain;
pub(crate) mod graph;
pub(crate) mod group;
pub(crate) mod lent_table;
pub(crate) mod lower;
pub(crate) mod make_rdd;
pub(crate) mod memory_limit;
pub(crate) mod rdd;
pub(crate) mod saving;

#[cfg(test)]
mod saving_tests;
