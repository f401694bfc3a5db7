//! From sources to shards: where records end, and which shard gets a block.
//!
//! `framer` cuts what a source filled in at record ends; `router` hands full blocks to the shards.
//!
//! Must not know: sources, sinks, threads.

pub(crate) mod framer;
pub(crate) mod router;
