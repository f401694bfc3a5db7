//! What runs. Operators of the record plane are lowered to stages of the shards (`lower`).
//! Operators of the batch plane are nodes of a graph (`graph`); each of its streams keeps its
//! batches in a `batch_cache`.

pub(crate) mod batch_cache;
pub(crate) mod builder;
pub(crate) mod graph;
pub(crate) mod group;
pub(crate) mod lower;
pub(crate) mod memory_limit;
pub(crate) mod rdd;
