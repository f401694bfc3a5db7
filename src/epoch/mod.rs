//! Cuts the stream into epochs, and merges what the shards counted during one.
//!
//! Promise: an epoch holds exactly the records whose last byte was received during it. Epochs come
//! out in order, and none is skipped. Must not know: bytes, splitting, formats.
//!
//! ```text
//!   time ── due ─▶ Barrier ─▶ every ring ─▶ each shard: hand_over ─▶ merge ─▶ batch ─▶ sinks
//!                                              ▲                                │
//!                                              └──────── cleared tables ────────┘
//! ```
//!
//! `barrier` ends an epoch in a ring, `hand_over` passes a shard's tables to the publisher by
//! pointer, and `merge` makes one table of them.

pub(crate) mod barrier;
pub(crate) mod hand_over;
pub(crate) mod header;
pub(crate) mod merge;
