//! DStream programs: a context, streams, operators.
//!
//! Promise: a program reads as in PySpark; starting twice does not compile, and a stream that is
//! used after the start says so; nothing runs before `start`.
//! Must not know: `intake`.
//!
//! [`operators`] lists every operator with its Spark name and its cost, and compares with Spark's
//! DStream API.
//!
//! `program` is what programs call, `plan` is what runs, and `ops` has one operator a file.
//!
//! ```text
//!   record plane, in the shards                    batch plane, once a batch
//!   DStream ─▶ filter ─▶ map ─▶ reduce_by_key ═▶ merge ─▶ Reduced ─▶ window ─▶ pprint
//!      └─────▶ map_to, records ════════════════▶ gather ─▶ RddStream ─▶ join ─▶ for_each_batch
//! ```

pub mod operators;
pub(crate) mod ops;
pub(crate) mod plan;
pub(crate) mod program;

#[cfg(test)]
mod record_plane_tests;

pub use crate::config::Dialect;
pub use crate::save::Saved;
pub use crate::shard::stage::{LineRecords, Records, Tokens};
pub use crate::stream::ops::aggregate_by_key::Aggregated;
pub use crate::stream::ops::flat_map::{Emitter, FlatMapWith, split, split_whitespace};
pub use crate::stream::ops::map::PairStream;
pub use crate::stream::ops::map_key::MapKey;
pub use crate::stream::ops::map_with_state::{MapWithState, State, StateSpec};
pub use crate::stream::ops::slice::Remembered;
pub use crate::stream::ops::state_map::StateMap;
pub use crate::stream::ops::window::Window;
pub use crate::stream::plan::explain::{ExplainedNode, Explanation, Plane};
pub use crate::stream::plan::rdd::{Key, Rdd, Record};
pub use crate::stream::program::context::StreamingContext;
pub use crate::stream::program::doors::{Chosen, Pipelines};
pub use crate::stream::program::dstream::DStream;
pub use crate::stream::program::listener::{
    BatchInfo, OutputOperationInfo, ReceiverInfo, StreamInputInfo, StreamingListener,
};
pub use crate::stream::program::queue_stream::RddQueue;
pub use crate::stream::program::rdd_stream::RddStream;
pub use crate::stream::program::reduced::Reduced;
pub use crate::stream::program::run_batches::{run_batches, run_lines};
pub use crate::stream::program::running::{RunningContext, StopHandle};
