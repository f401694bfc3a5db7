//! What runs: operators in the record plane are lowered to stages of the shards (`lower`), operators in the batch plane are
//! nodes of a graph (`graph`), whose streams keep their batches in a `batch_cache` each.

pub(crate) mod batch_cache;
pub(crate) mod graph;
pub(crate) mod group;
pub(crate) mod lower;
pub(crate) mod memory_limit;
pub(crate) mod rdd;
