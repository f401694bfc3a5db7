//! What users write: a context, streams, operators.
//!
//! Promise: the program reads as the PySpark program does; starting twice or adding to a started context
//! does not compile; nothing runs before `start`. Refuses to know: event queues, atomics, threads, files.
//!
//! [`operators`] shows every operator with its Spark name, its cost and an example, and what of the DStream API
//! is different or not here.
//!
//! `context` is the beginning of a program, `running` its end. One operator a file, for all kinds of streams.
//! `lower` makes of operators in the record plane what the shards run; `graph` runs the batch plane, whose
//! streams keep their batches in a `cell` each.
//!
//! ```text
//!   record plane, in the shards                    batch plane, once a batch
//!   DStream ─▶ filter ─▶ map ─▶ reduce_by_key ═▶ merge ─▶ Reduced ─▶ window ─▶ pprint
//!      └─────▶ map_to, records ════════════════▶ gather ─▶ RddStream ─▶ join ─▶ for_each_batch
//! ```

mod binary_records_stream;
mod cell;
mod chain;
mod combine_by_key;
mod context;
mod count;
mod count_by_value;
mod field;
mod filter;
mod flat_map;
mod graph;
mod group;
mod group_by_key;
mod join;
mod listener;
mod lower;
mod map;
mod map_key;
mod map_slice;
mod map_values;
mod map_with_state;
mod memory_limit;
pub mod operators;
mod output;
mod partitions;
mod queue_stream;
mod rdd;
mod rdd_stream;
mod receiver;
mod reduce;
mod reduce_by_key;
mod reduce_by_key_and_window;
mod reduce_by_key_so_far;
mod reduced;
mod run_batches;
mod running;
mod save_as_text_files;
mod slice;
mod sort_by;
mod state_map;
mod table_window;
mod transform;
mod union;
mod update_state_by_key;
mod window;

#[cfg(test)]
mod record_plane_tests;

pub use self::context::{DStream, StreamingContext};
pub use self::field::{Field, FieldWhitespace};
pub use self::filter::Filter;
pub use self::flat_map::{Emitter, FlatMapWith, split, split_whitespace};
pub use self::listener::{
    BatchInfo, OutputOperationInfo, ReceiverInfo, StreamInputInfo, StreamingListener,
};
pub use self::map::Pairs;
pub use self::map_key::MapKey;
pub use self::map_slice::MapSlice;
pub use self::map_with_state::{MapWithState, State, StateSpec};
pub use self::queue_stream::RddQueue;
pub use self::rdd::{Key, Rdd, Record};
pub use self::rdd_stream::RddStream;
pub use self::reduced::Reduced;
pub use self::run_batches::run_batches;
pub use self::running::{RunningContext, StopHandle};
pub use self::slice::Remembered;
pub use self::state_map::StateMap;
pub use self::window::Window;
pub use crate::config::Dialect;
