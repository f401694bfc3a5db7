//! From sources to shards: channels, where their records end, and which shard gets a block.
//!
//! [`Intake`] is what a source fills. `framer` finds the record ends of one channel, `cuts` those
//! of bytes that are only looked at; nothing else does. `channels` has those of one source share a
//! block, bounds what they hold, and knows where each of them is; `router` hands full blocks to the
//! shards; `commits` keeps positions until their results were delivered.
//!
//! Must not know: sources, sinks, threads.

pub(crate) mod channels;
pub(crate) mod commits;
pub(crate) mod cuts;
pub(crate) mod framer;
#[cfg(any(test, feature = "internals"))]
pub(crate) mod rig;
pub(crate) mod router;

use std::collections::{HashSet, VecDeque};
use std::fmt;

use self::channels::Channels;
pub use self::channels::{Dropped, Remainder};
use self::framer::{BlockPort, Ending};
use self::router::Full;
use crate::id::ChannelId;
use crate::limits::HELD_BYTES_DEFAULT;
use crate::position::Position;

/// Takes what a source received: bytes of any number of channels, each of which is a stream of
/// records.
///
/// The records of two channels never mix, however they are cut into reads. A source that has one
/// channel uses [`ChannelId::FIRST`], which is always open; one that has several opens a channel
/// for each connection, file or partition.
///
/// See [`Source`](crate::sources::Source) for examples.
pub struct Intake<'a> {
    channels: &'a mut Channels,
    port: &'a mut dyn BlockPort<Full = Full>,
    /// Bytes that may still be read.
    bytes_max: usize,
    /// Parts of the source that have become readable.
    ready: &'a mut ReadyParts,
    outcome: FilledIn,
}

/// Parts of a source that have become readable, each once.
#[derive(Debug, Default)]
pub(crate) struct ReadyParts {
    order: VecDeque<u32>,
    /// The same.
    all: HashSet<u32>,
}

impl ReadyParts {
    pub(crate) fn add(&mut self, part: u32) {
        if self.all.insert(part) {
            self.order.push_back(part);
        }
    }

    fn take(&mut self) -> Option<u32> {
        let part = self.order.pop_front()?;
        self.all.remove(&part);
        Some(part)
    }
}

/// What came in during one call of a source.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FilledIn {
    /// Bytes filled in or skipped.
    pub(crate) bytes: usize,
    /// There was no room for more.
    pub(crate) is_full: bool,
    /// What the source did that cannot be.
    pub(crate) misuse: Option<Misuse>,
}

/// A call of a source that cannot be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misuse {
    /// `count` bytes were filled into `room` bytes.
    Overfilled { count: usize, room: usize },
    /// A position was reported for a channel that has none, or that is within a record.
    Reached,
    /// A whole record was filled in behind the beginning of a line.
    Record,
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misuse::Overfilled { count, room } => {
                write!(f, "says it put {count} bytes into room for {room}")
            }
            Misuse::Record => f.write_str("fills a record into a line that has not ended"),
            Misuse::Reached => f.write_str(
                "reports a position of a channel that has none or is in the middle of a record",
            ),
        }
    }
}

impl<'a> Intake<'a> {
    /// Takes bytes for `channels`, at most `bytes_max`. Complete records go to `port`. `ready` are
    /// the parts of the source that have become readable.
    pub(crate) fn new(
        channels: &'a mut Channels,
        port: &'a mut dyn BlockPort<Full = Full>,
        bytes_max: usize,
        ready: &'a mut ReadyParts,
    ) -> Self {
        Intake {
            channels,
            port,
            bytes_max,
            ready,
            outcome: FilledIn::default(),
        }
    }

    /// Returns what came in.
    pub(crate) fn taken(&self) -> FilledIn {
        self.outcome
    }

    /// Returns a part that has become readable or was closed on its other side, as
    /// [`Port::register_part`](crate::sources::Port::register_part) named it, each once. It may be
    /// one that the source has closed since. Once a second a source is called without a reason;
    /// one that then reads parts that are not ready loses nothing if the system loses an edge.
    pub fn next_ready(&mut self) -> Option<u32> {
        self.ready.take()
    }

    /// Has [`next_ready`](Self::next_ready) return `part` again, after the others: it was not read
    /// to its end.
    pub fn push_ready(&mut self, part: u32) {
        self.ready.add(part);
    }

    /// Opens a channel. It stays open until it is closed; its number may then be used again.
    pub fn open(&mut self) -> ChannelId {
        self.channels.open()
    }

    /// As [`open`](Self::open), for a channel that can be read again from any position, such as a
    /// file or a partition. `name` is what it is called in another run, and no other open channel
    /// of the source has it. `position` is where it continues: that of
    /// [`Port::resume`](crate::sources::Port::resume), or where the source begins.
    ///
    /// The position of a batch counts the bytes filled in or skipped up to the end of the channel's
    /// last record in the batch; bytes are not skipped within a record. If the numbers of the
    /// source are other ones, it uses [`reached`](Self::reached).
    ///
    /// An unfinished record is read again: when the run stops or the source fails, it is neither
    /// counted nor dropped. [`Fill::End`](crate::sources::Fill::End), [`end`](Self::end) and
    /// [`close`](Self::close) end it as in other channels; what a close drops is read again too.
    /// After its close a channel has a position in one batch more, and then it is forgotten: the
    /// states that a run saves have the channels of the last batch.
    pub fn open_at(&mut self, name: &str, position: Position) -> ChannelId {
        self.channels.open_at(name, position)
    }

    /// Everything of `channel` up to `position` was filled in, and nothing behind it. From the
    /// first call on, the position of the channel is what is reported here. If the channel was not
    /// opened with a position, or is in the middle of a record, the source ends with an error.
    pub fn reached(&mut self, channel: ChannelId, position: Position) {
        if !self.channels.reached(channel, position) {
            self.outcome.misuse = Some(Misuse::Reached);
        }
    }

    /// Returns memory to read the next bytes of `channel` into: at least one byte, and usually tens
    /// of kilobytes. Its previous content means nothing. [`filled`](Self::filled) says how many
    /// bytes were read.
    ///
    /// `None`: there is no room now, and the source returns from its call. It is called again when
    /// there is, whatever it returns; this is how a slow engine slows the sender down.
    pub fn space(&mut self, channel: ChannelId) -> Option<&mut [u8]> {
        self.space_of(channel, 1)
    }

    /// As [`space`](Self::space), but at least `bytes` long, for a source that cannot read a part
    /// of what it receives, such as a datagram.
    pub fn space_of(&mut self, channel: ChannelId, bytes: usize) -> Option<&mut [u8]> {
        // A whole datagram, or what was skipped, may have been more than was left.
        let left = self.bytes_max.saturating_sub(self.outcome.bytes);
        if left == 0 {
            return None;
        }
        let space = match bytes {
            0 | 1 => self.channels.space(channel, self.port),
            _ => self.channels.space_of(channel, bytes, self.port),
        };
        let Ok(space) = space else {
            self.outcome.is_full = true;
            return None;
        };
        let room = space.len().min(left.max(bytes));
        Some(&mut space[..room])
    }

    /// The first `count` bytes of the last [`space`](Self::space) were read.
    pub fn filled(&mut self, count: usize) {
        let room = self.channels.active().room();
        if count > room {
            self.outcome.misuse = Some(Misuse::Overfilled { count, room });
            return;
        }
        self.channels.filled(count);
        self.outcome.bytes += count;
    }

    /// Copies bytes of `channel`, and returns how many found room: 0 if there is none now, as in
    /// [`space`](Self::space).
    pub fn write(&mut self, channel: ChannelId, bytes: &[u8]) -> usize {
        if bytes.is_empty() {
            return 0;
        }
        let Some(space) = self.space(channel) else {
            return 0;
        };
        let count = bytes.len().min(space.len());
        space[..count].copy_from_slice(&bytes[..count]);
        self.filled(count);
        count
    }

    /// Copies a whole record of `channel`, without an end: a message, for example. It may hold any
    /// byte. Record ends in it end nothing; rules such as [`split`](crate::stream::split) treat
    /// them like other bytes. One that is longer than
    /// [`ChannelLimits::record_bytes_max`] is dropped and counted.
    ///
    /// Returns `false` if there is no room now, as in [`space`](Self::space): nothing was taken. If
    /// a line of the channel has begun and not ended, the source ends with an error.
    pub fn record(&mut self, channel: ChannelId, record: &[u8]) -> bool {
        if self.bytes_max <= self.outcome.bytes {
            return false;
        }
        match self.channels.record(channel, record, self.port) {
            Ok(true) => {}
            Ok(false) => self.outcome.misuse = Some(Misuse::Record),
            Err(Full) => {
                self.outcome.is_full = true;
                return false;
            }
        }
        // An empty one counts too.
        self.outcome.bytes += record.len().max(1);
        true
    }

    /// Counts `count` bytes of `channel` that were received and are no content, such as a byte
    /// order mark. They are in the batch's bytes, and in no record.
    pub fn skipped(&mut self, channel: ChannelId, count: usize) {
        self.channels.skipped(channel, count);
        self.outcome.bytes += count;
    }

    /// Ends what came through `channel` so far: what comes next begins a new record. If it
    /// `is_clean`, an unterminated last line is a record, otherwise it is dropped and counted.
    pub fn end(&mut self, channel: ChannelId, is_clean: bool) -> Remainder {
        self.channels.end(channel, ending(is_clean), self.port)
    }

    /// Ends and closes `channel`. [`ChannelId::FIRST`] stays open.
    pub fn close(&mut self, channel: ChannelId, is_clean: bool) -> Remainder {
        self.channels.close(channel, ending(is_clean), self.port)
    }

    /// Returns the length in bytes of the longest record that is kept whole.
    pub(crate) fn record_bytes_max(&self) -> usize {
        self.channels.record_bytes_max()
    }

    /// Returns a channel of which something was dropped because a line was too long or memory for
    /// unfinished lines was short. Each is returned once for all that was dropped since the last
    /// time.
    pub fn take_long(&mut self) -> Option<ChannelId> {
        self.channels.take_long()
    }

    /// Returns what was dropped so far, of all channels, because it was too long or for want of
    /// memory. Asks every channel.
    pub fn dropped(&self) -> Dropped {
        self.channels.dropped()
    }
}

/// How much may be held of a source's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelLimits {
    /// The longest record in bytes that is kept whole. `None`: that of
    /// [`Config::record_bytes_max`](crate::Config::record_bytes_max), which is also the most.
    pub record_bytes_max: Option<usize>,
    /// Memory for the unfinished records of all channels, in bytes. When it is short, the channel
    /// that holds most of it loses its record, or the complete words of it are passed on. There is
    /// always room for one record of the greatest length.
    pub held_bytes_max: usize,
}

impl Default for ChannelLimits {
    fn default() -> Self {
        ChannelLimits {
            record_bytes_max: None,
            held_bytes_max: HELD_BYTES_DEFAULT,
        }
    }
}

fn ending(is_clean: bool) -> Ending {
    if is_clean {
        Ending::Clean
    } else {
        Ending::Reset
    }
}

impl fmt::Debug for Intake<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").finish_non_exhaustive()
    }
}
