//! microtally counts a byte stream by key, micro-batch by micro-batch, on one machine, at the speed
//! at which the bytes can be read. It is Spark Streaming's DStream model (connect, transform,
//! start, stop) as an engine that does not allocate per word.
//!
//! ```no_run
//! use microtally::prelude::*;
//!
//! fn main() -> Result<(), microtally::Error> {
//!     // 1. connect
//!     let ssc = StreamingContext::new(Duration::from_secs(5))?;
//!     let lines = ssc.socket_text_stream("localhost", 9999)?;
//!     // 2. transform
//!     let word_counts = lines.flat_map(split(b' ')).map(|word| (word, 1u64)).reduce_by_key(|a, b| a + b);
//!     word_counts.pprint(10);
//!     // 3. start and stop
//!     let running = ssc.start()?;
//!     running.await_termination()
//! }
//! ```
//!
//! # Three doors, one engine
//!
//! | door | for | threads | clock |
//! |---|---|---|---|
//! | [`Tally`] | fuzzing, tests, latency-sensitive embedding: push bytes, cut a batch when you say so | none | the caller's |
//! | [`Engine`] | high-throughput embedding: push bytes from any thread, back-pressure, a shard for each core | its own, pinned | its own or the caller's |
//! | [`StreamingContext`] | DStream programs and the command line: sources, batch interval, sinks | its own, pinned | batch interval |
//!
//! Every door runs pipelines of the record plane (see the picture): filters, keys, values,
//! reductions and aggregates by key, built with the same operators: [`Tally::pipelines`],
//! [`Engine::pipelines`]. Operators of whole batches, such as windows and joins, need a context.
//!
//! As a library it installs no signal handler, never exits, prints only through sinks that you ask
//! for, and leaves the affinity of the caller's threads alone.
//!
//! # The picture
//!
//! ```text
//!  control plane: runs at start and at stop; may allocate, lock, format
//!    argv ─▶ parse ─▶ Config ─▶ start … stop
//!                                │ takes the memory, starts and pins the threads
//!  ──────────────────────────────┼────────────────────────────────────────────────────────────────
//!  data plane: no allocation, no formatting; only the reactor reads the clock
//!                                ▼
//!   mt-reactor:      socket ─▶ source ─▶ intake ─▶ ring      (counts too when every ring is full)
//!                                                   ║
//!   mt-shard-N:         swap ◀─ table ◀─ split ◀─ ring       (pinned, N of them)
//!                        │ when an epoch's barrier arrives in the ring
//!  ──────────────────────┼────────────────────────────────────────────────────────────────────────
//!  batch plane: once an epoch; may format and do what sinks do
//!                        ▼
//!   mt-publisher:      merge ─▶ batch ─▶ sink        (or, by a queue, mt-sink-NAME: sink)
//! ```
//!
//! In the modules, the data plane is also called the record plane: operators that see each record
//! run there, in the shards. Operators that see whole batches run in the batch plane.
//!
//! # Follow one word
//!
//! Fourteen steps, in this order; `tests/layering.rs` checks that they exist.
//!
//! 1. `mt-reactor`: `engine::reactor::shell::run` → `intake::router::Router::fill` →
//!    `source::Source::fill` → `intake::channels::Channels::space` →
//!    `intake::framer::Framer::cut` → `ring::BlockWriter::push_block`.
//! 2. `mt-shard-N`: `ring::BlockReader::pop` → `shard::count::CountStage` →
//!    `split::Splitter::visit` → `table::hot::HotWords` → `epoch::hand_over::SealedOut::try_swap`.
//! 3. `mt-publisher`: `engine::publisher::Publisher::step` → `epoch::merge::merge_nodes` →
//!    `sink::Sink::deliver`.
//!
//! # Modules
//!
//! | module | what is in it |
//! |---|---|
//! | `config`, `error`, `id`, `limits`, `notice`, `time` | shared by all: settings, errors, numbers that name things, bounds and defaults with their proofs, messages for people, batch times and the clock |
//! | `sys` | calls to the operating system |
//! | `source` | bytes in: sockets (`net`), files (`file`), compression and encodings (`codec`), text in memory (`lines`) |
//! | `intake` | where records end (`framer`, `cuts`), many channels in one block, and where each of them is (`channels`), which shard gets it (`router`), which positions are to be committed (`commits`) |
//! | `ring` | blocks between threads |
//! | `split` | bytes to records and tokens |
//! | `extract` | records to fields, CSV columns, JSON values, matches, numbers |
//! | `shard` | one pinned thread that counts |
//! | `table` | one table of keys and values |
//! | `aggregate` | what is computed for each key, and the slab for states larger than a table holds |
//! | `memory` | divides the memory limit among tables, blocks, decoders and windows |
//! | `epoch` | the barrier, the hand-over and the merge at a batch time |
//! | `window` | windows over several batches |
//! | `batch`, `sink`, `repr` | what users see of a batch, where it goes, how keys are printed |
//! | `engine` | from a blueprint to parts (`assemble`), the threads (`runtime`), reading (`reactor`), publishing (`publisher`), the push door (`push`), files on all cores (`scan`) |
//! | `tally` | the door without threads |
//! | `stream` | DStreams: what one calls (`program`), the plan that it builds, which is explained, saved and run (`plan`), the operators (`ops`) |
//! | `save` | how states are written down and read again |
//! | `position` | where the channels of a source continue after a restart |
//! | `ledger` | checks that every byte received is accounted for |
//! | `metrics` | what a run counts about itself: named, and one snapshot for all who read it |
//!
//! # Where a new thing goes
//!
//! | thing | place |
//! |---|---|
//! | source | a file in `source/net` or `source/file`; its name in `sources` below; for the program `parse/units/source` and `run` |
//! | compressed format | a file in `source/codec/unpack`, its first bytes in `kinds` there |
//! | operator | a file in `stream/ops`, a line in the table of `stream::operators` |
//! | aggregate | a file in `aggregate`; for the program its name in `parse` and its part in `counting/columns` |
//! | sink | a file in `sink`; for the program its name in `parse` and a line in `output` |
//! | notice | a variant and its text in `notice` |
//! | metric | a line in `metrics::families` |
//! | flag | `parse`: those of one command in its `mod`, shared ones beside it |
//! | bound or default | `limits` |
//! | benchmark of whole programs | `benches/machine` |
//!
//! # Layers
//!
//! A module uses modules on lower lines only. `tests/layering.rs` checks it, and that code keeps to
//! the "Must not know" of its header, to the lists of files that may use `unsafe` or read a clock,
//! and to the ban on printing.
//!
//! ```text
//! 12  bin/microtally                                           (public API only)
//! 11  stream                                                   (builds pipelines for every door)
//! 10  tally
//!  9  engine
//!  8  source
//!  7  intake
//!  6  shard       sink
//!  5  epoch       extract
//!  4  memory      batch       window      aggregate
//!  3  table
//!  2  ring        config      notice    metrics     position
//!  1  split       sys         ledger      time      repr      save
//!  0  limits      error       id
//! ```
//!
//! # What is promised
//!
//! 1. After the first batches no thread allocates for a word it has already seen: not per word,
//!    record, block or batch (`tests/zero_alloc.rs`).
//! 2. Results do not depend on how the input is cut into reads, on the number of shards, or on the
//!    kernel.
//! 3. The byte ledger closes at every epoch, in release builds too; a mismatch ends the run.
//! 4. Slowness never loses data: a slow shard or sink pauses reading, and the sender is slowed
//!    down. Only UDP cannot do that; what the kernel drops there is counted and reported.
//! 5. No input makes us panic, and nothing a stream contains is printed unescaped.
//!
//! # Features
//!
//! - `cli` (default): the `microtally` program, with `compress`, `extract`, `json` and `table`. To
//!   embed the library, write `default-features = false`.
//! - `compress`: `sources::Files::decompress` and `sources::Stdin::decompress`, for gzip, zstd,
//!   bzip2, xz and lz4.
//! - `extract`: finds fields, CSV columns, JSON values, matches of regular expressions and numbers
//!   in lines.
//! - `json`: the output `sink::Json`.
//! - `table`: the output `sink::Columns`.
//! - `internals`: exposes the inside to this crate's own tests, benchmarks and fuzz targets,
//!   without any promise of stability.
//!
//! A feature only adds names; it never changes behaviour.

// Some things are there, or public, for `internals` alone. With it, as tests are built, nothing is
// excused.
#![cfg_attr(not(feature = "internals"), allow(dead_code, unreachable_pub))]

#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "microtally needs a target with 64-bit pointers: its memory limits and file offsets do not fit 32 bits"
);

/// Implements `Debug` for a type that can show only some of its fields, or none.
macro_rules! debug_fields {
    ([$($generics:tt)*] $type:ty, $name:literal $(, $field:ident)*) => {
        impl<$($generics)*> std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct($name)
                    $(.field(stringify!($field), &self.$field))*
                    .finish_non_exhaustive()
            }
        }
    };
}

pub mod aggregate;
pub mod batch;
mod intake;
mod ledger;
mod limits;
mod memory;
pub mod metrics;
pub mod notice;
pub mod time;
mod window;

pub mod error;
mod id;
mod position;
mod repr;
mod save;
mod split;
mod sys;

pub mod config;
#[cfg(feature = "extract")]
pub mod extract;
mod ring;
mod table;

mod epoch;

mod shard;
pub mod sink;
mod source;

pub mod engine;
mod tally;

pub mod stream;

pub use crate::batch::{Batch, Value};
pub use crate::config::Config;
pub use crate::engine::{Engine, Stop};
pub use crate::error::Error;
pub use crate::split::Rule;
pub use crate::stream::{RunningContext, StreamingContext};
pub use crate::tally::Tally;

/// The sources that come with the crate: what [`StreamingContext::union_sources`] joins to one
/// stream.
pub mod sources {
    pub use crate::id::ChannelId;
    pub use crate::intake::{ChannelLimits, Dropped, Intake, Remainder};
    pub use crate::limits::{
        DRAIN_BYTES_MAX, PATTERN_DIRECTORIES_MAX, PATTERN_NAMES_MAX, PATTERN_PATHS_MAX,
    };
    pub use crate::memory::DecoderCounts;
    pub use crate::position::{Position, Positions};
    pub use crate::source::file::directory::FileOptions;
    pub use crate::source::file::directory_files::DirectoryFiles;
    pub use crate::source::file::files::{Files, Progress};
    pub use crate::source::file::follow::{Follow, FollowOptions};
    pub use crate::source::file::glob::expand;
    pub use crate::source::file::stdin::Stdin;
    pub use crate::source::lines::Lines;
    pub use crate::source::net::connector::Reconnect;
    pub use crate::source::net::tcp_client::TcpClient;
    pub use crate::source::net::tcp_listen::TcpListen;
    pub use crate::source::net::udp_listen::UdpListen;
    pub use crate::source::net::unix_client::UnixClient;
    pub use crate::source::net::unix_listen::UnixListen;
    pub use crate::source::{Fill, Port, Source, Waker};
}

/// What a DStream program needs.
pub mod prelude {
    pub use std::time::Duration;

    pub use crate::stream::{split, split_whitespace};
    pub use crate::time::BatchTime;
    pub use crate::{Batch, RunningContext, Stop, StreamingContext};
}

/// What benches, fuzz targets and tests of this crate look into. No promise is made about it.
#[cfg(feature = "internals")]
pub mod internals {
    pub use crate::aggregate::table::AggregateTable;
    pub use crate::aggregate::window::AggregateWindow;
    pub use crate::engine::simulation::run_schedule;
    pub use crate::id::StreamId;
    pub use crate::intake::rig::IntakeRig;
    pub use crate::limits::{BLOCK_BYTES_DEFAULT, BLOCKS_PER_RING, SPINS_BEFORE_PARK};
    pub use crate::repr::text::{escape_unprintable, write_escaped, write_repr};
    pub use crate::ring::arena::{Arena, Block};
    pub use crate::ring::{BlockReader, BlockWriter, Parcel, Wake, ring};
    pub use crate::shard::alone::SoloPipeline;
    #[cfg(feature = "compress")]
    pub use crate::source::codec::decoder::decoded;
    pub use crate::source::file::glob::name_fits;
    pub use crate::source::net::connection_set::{ConnectionEvent, ConnectionSet, FillOutcome};
    pub use crate::split::{
        BlockBytes, CHUNK_BYTES_MAX, ChunkCounts, ENDS_LEN, Kernel, Splitter, Tallied, WholeRecord,
        scalar,
    };
    pub use crate::stream::ops::filter::FilterMap;
    pub use crate::table::KeyTable;
    pub use crate::table::frozen::FrozenTable;
    pub use crate::table::keys::Seed;
    pub use crate::window::{InverseWindow, NoWindow, ReduceWindow, Shape};
}

/// What users may rely on: which types other threads may have, and which they may look at.
const _: () = {
    const fn is_sent<T: Send>() {}
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<Engine>();
    is_shared::<engine::EngineBuilder>();
    is_shared::<engine::Monitor>();
    is_shared::<engine::Writer>();
    is_shared::<RunningContext>();
    is_sent::<Tally>();
    is_shared::<batch::BatchStats>();
    is_shared::<time::BatchTime>();
    is_shared::<time::Clock>();
    is_shared::<StreamingContext>();
    is_shared::<Config>();
    is_shared::<Error>();
    is_shared::<sources::FileOptions>();
    is_shared::<engine::Finished>();
    is_shared::<metrics::DurationHistogram>();
    is_shared::<metrics::Snapshot>();
    is_shared::<engine::Finished<(engine::Keyed<u64>, engine::Keyed<f64>)>>();
    is_shared::<notice::LooksLike>();
    is_shared::<notice::Notice>();
    is_shared::<notice::NoticeKind>();
    is_shared::<batch::Ranking<u64>>();
    is_shared::<sources::Reconnect>();
    is_shared::<engine::RunStats>();
    is_shared::<stream::StopHandle>();
    is_shared::<sources::Waker>();
    is_shared::<stream::DStream<stream::LineRecords>>();
    is_shared::<stream::Rdd<u64>>();
    is_shared::<stream::RddStream<u64>>();
    is_shared::<stream::Reduced<u64>>();
    is_shared::<stream::RddQueue<u64>>();
    is_shared::<stream::Remembered<u64>>();
    is_shared::<stream::StateMap<u64, u64>>();
};

/// The README's example of the library stays true: it is a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
