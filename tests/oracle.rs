//! The public doors against the definition.
//!
//! Goal: whatever the bytes, however they are cut into pushes, batches, blocks, shards and inputs,
//! the answer is that of the obvious program in `oracle/definition.rs`. Method: property tests with
//! bytes from a small nasty alphabet, tables of the places where lengths and limits meet, and whole
//! programs over loopback under a clock that the test moves.

#[path = "oracle/definition.rs"]
mod definition;

#[path = "oracle/batches.rs"]
mod batches;
#[path = "oracle/doors.rs"]
mod doors;
#[path = "oracle/failures.rs"]
mod failures;
#[path = "oracle/isolation.rs"]
mod isolation;
#[path = "oracle/latency.rs"]
mod latency;
#[path = "oracle/lengths.rs"]
mod lengths;
#[path = "oracle/life.rs"]
mod life;
#[path = "oracle/limits.rs"]
mod limits;
#[path = "oracle/listeners.rs"]
mod listeners;
#[path = "oracle/live.rs"]
mod live;
#[path = "oracle/metrics.rs"]
mod metrics;
#[path = "oracle/properties.rs"]
mod properties;
#[path = "oracle/vocabulary.rs"]
mod vocabulary;
#[path = "oracle/writers.rs"]
mod writers;
