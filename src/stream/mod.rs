//! What users write: a context, streams, operators.
//!
//! Promise: the program reads as the PySpark program does; starting twice or adding to a started context
//! does not compile; nothing runs before `start`. Must not know: event queues, atomics, threads, files.
//!
//! [`operators`] shows every operator with its Spark name, its cost and an example, and what of the DStream API
//! is different or not here.
//!
//! `program` is what one calls, `plan` what runs, `ops` has one operator a file.
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
pub use crate::stream::ops::field::{Field, FieldWhitespace};
pub use crate::stream::ops::filter::Filter;
pub use crate::stream::ops::flat_map::{Emitter, FlatMapWith, split, split_whitespace};
pub use crate::stream::ops::map::Pairs;
pub use crate::stream::ops::map_key::MapKey;
pub use crate::stream::ops::map_slice::MapSlice;
pub use crate::stream::ops::map_with_state::{MapWithState, State, StateSpec};
pub use crate::stream::ops::slice::Remembered;
pub use crate::stream::ops::state_map::StateMap;
pub use crate::stream::ops::window::Window;
pub use crate::stream::plan::rdd::{Key, Rdd, Record};
pub use crate::stream::program::context::{DStream, StreamingContext};
pub use crate::stream::program::listener::{
    BatchInfo, OutputOperationInfo, ReceiverInfo, StreamInputInfo, StreamingListener,
};
pub use crate::stream::program::queue_stream::RddQueue;
pub use crate::stream::program::rdd_stream::RddStream;
pub use crate::stream::program::reduced::Reduced;
pub use crate::stream::program::run_batches::run_batches;
pub use crate::stream::program::running::{RunningContext, StopHandle};
