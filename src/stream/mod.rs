//! What users write: a context, streams, operators.
//!
//! Promise: the program reads as the PySpark program does; starting twice or adding to a started context
//! does not compile; nothing runs before `start`. Refuses to know: event queues, atomics, threads, files.
//!
//! `context` is the beginning and the end of a program. One operator a file: `flat_map`, `filter`, `map`,
//! `reduce_by_key`, `count_by_value`, `output` (`pprint`, `for_each_batch`). `lower` makes of operators
//! what the engine runs.
//!
//! | in the record plane, per record, in the shards | in the batch plane, per batch |
//! |---|---|
//! | `flat_map`, `flat_map_with`, `filter`, `map`, the shard's half of `reduce_by_key` and `count_by_value` | merging, `pprint`, `for_each_batch` |

mod context;
mod count_by_value;
mod filter;
mod flat_map;
mod lower;
mod map;
mod output;
mod reduce_by_key;

pub use self::context::{DStream, RunningContext, StopHandle, StreamingContext};
pub use self::filter::Filter;
pub use self::flat_map::{Emitter, FlatMapWith, split, split_whitespace};
pub use self::map::Pairs;
pub use self::reduce_by_key::Reduced;
