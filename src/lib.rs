//! microtally counts a byte stream by key, micro-batch by micro-batch, on one machine, at the speed at
//! which the bytes can be read.
mod config;
mod engine;
mod epoch;
mod error;
pub mod generate;
pub mod limits;
mod metrics;
mod ring;
mod shard;
pub mod sink;
mod source;
mod split;
pub mod stream;
mod sys;
mod table;
mod tally;

pub use crate::config::Config;
pub use crate::engine::control::{RunStats, Stop};
pub use crate::engine::push::{Engine, EngineBuilder, Finished, Input};
pub use crate::epoch::clock::Clock;
pub use crate::epoch::snapshot::{Batch, Ranking, Value};
pub use crate::epoch::{BatchStats, BatchTime};
pub use crate::error::{Error, ErrorKind, Result};
pub use crate::shard::stage::{Records, Tokens};
pub use crate::source::Notice;
pub use crate::source::tcp_client::Reconnect;
pub use crate::split::Rule;
pub use crate::stream::{RunningContext, StopHandle, StreamingContext};
pub use crate::tally::Tally;

/// What a DStream program needs.
pub mod prelude {
    pub use std::time::Duration;

    pub use crate::stream::{split, split_whitespace};
    pub use crate::{Batch, BatchTime, RunningContext, Stop, StreamingContext};
}

/// What benches, fuzz targets and tests of this crate look into. No promise is made about it.
#[doc(hidden)]
pub mod internals {
    pub use crate::ring::arena::{Arena, Block};
    pub use crate::ring::{Parcel, Reader, Wake, Writer, ring};
    pub use crate::sink::repr::{write_escaped, write_repr};
    pub use crate::split::{CHUNK_BYTES_MAX, ENDS_LEN, Found, Kernel, Splitter, Tallied, scalar};
    pub use crate::table::Table;
    pub use crate::table::keys::Seed;
}
