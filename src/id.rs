//! Numbers that name the things of one engine, each kind of a type of its own.
//!
//! Must not know: `engine`, `stream`, what is named.

/// The number of a stream of bytes: what its sources read goes to the same pipelines. Counted from
/// 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub usize);

impl StreamId {
    /// The first `count` streams.
    pub(crate) fn first(count: usize) -> impl Iterator<Item = StreamId> {
        (0..count).map(StreamId)
    }
}

/// The number of a channel of a source: a connection, a file, a partition. It is reused when the
/// channel is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub(crate) usize);

impl ChannelId {
    /// The first channel of a source, which is always open.
    pub const FIRST: ChannelId = ChannelId(0);

    /// The number, from 0. Small: closed channels make theirs free.
    pub fn index(self) -> usize {
        self.0
    }
}
