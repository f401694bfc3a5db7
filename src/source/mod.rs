//! Bytes in: the [`Source`] contract, the [`Port`] of a source, and the sources of this crate.
//!
//! Promise: a source fills the memory it is given and returns how it wants to be woken.
//! Must not know: engine, ring, epoch.
//!
//! `net` has the sources that are sockets, `file` those that are files, `codec` what turns their
//! bytes into text.

pub(crate) mod codec;
pub(crate) mod file;
pub(crate) mod lines;
pub(crate) mod net;
pub(crate) mod port;
pub(crate) mod sniff;

use std::time::Duration;

pub use self::port::{Port, Waker};
use crate::error::Error;
use crate::id::ChannelId;
use crate::intake::{ChannelLimits, Intake};
use crate::memory::DecoderCounts;
use crate::position::Positions;
use crate::time::BatchTime;

/// A source of bytes. Implement it for a custom one.
///
/// A source is a state machine without a thread: the reading thread of a context calls it, takes
/// what it has received, and learns from it when to call again. A source has any number of
/// channels: connections, files, partitions. What it fills into each is a stream of bytes, from
/// which lines, words and batches are made elsewhere; lines of two channels never mix. It may have
/// a thread of its own that passes bytes on and wakes the reading thread; see the second example.
///
/// # What is called when
///
/// On the thread that calls `StreamingContext::start`:
///
/// - [`name`](Self::name), before anything else.
/// - [`start`](Self::start), once, after `name`.
///
/// On the thread `mt-reactor`:
///
/// - [`fill`](Self::fill), soon after the start. Then as the last [`Fill`] requested, when
///   something registered with the [`Port`] is readable, when its [`Waker`] was used, and once a
///   second.
/// - [`batch_due`](Self::batch_due), at each batch time, before the batch is cut.
/// - [`drain`](Self::drain), at most once, at a graceful stop.
/// - [`ended`](Self::ended), at most once, when the source is no longer read, before its last batch
///   is cut.
/// - [`committed`](Self::committed), when the results of batches were delivered, if the source has
///   positions.
///
/// A source is dropped when the run has ended, however it ended. A thread of its own notices that
/// its channel is closed.
///
/// All sources of a context share `mt-reactor`, and batches are cut on it. So no call may wait: not
/// for a socket, a lock that is held long, or a child process. Readiness is reported as edges: once
/// something is readable, read until nothing is left (a `read` that would block) before returning
/// [`Fill::Pending`]. `fill` may be called without a reason, and returns `Pending` again. It is
/// called once a second, so that an edge that was lost costs a second and not the run.
///
/// # Which batch a record belongs to
///
/// A record is in the batch in which its last byte was filled in. An incomplete record at the end
/// of a batch waits for the rest of it. [`Intake::end`] and [`Fill::End`] end it.
///
/// # Positions
///
/// A channel that can be read again has a name and a position: see [`Intake::open_at`]. Each batch
/// carries the positions behind its last records, so that reading again from there returns exactly
/// what was not in the batch. A source that acknowledges what it received does so in
/// [`committed`](Self::committed): then nothing is lost that no output has delivered. What the next
/// run loads with the states, it finds in [`Port::resume`].
///
/// # Failures
///
/// A source handles what can be tried again: it returns `Pending` until the time of the next
/// attempt, and reports it with [`Port::report`]. [`Fill::Failed`] ends the source. So does a panic
/// in any of its methods, and a call that cannot be right, such as more bytes filled in than there
/// was room for. Then the rest of the run continues, and the incomplete line is dropped.
/// `await_termination` returns the error: at once for a panic, otherwise when the run has ended.
///
/// # Examples
///
/// A range of numbers: there is nothing to wait for. A line may find room for a part of it only;
/// the rest continues in the next call.
///
/// ```
/// use std::ops::Range;
/// use std::sync::mpsc::channel;
/// use microtally::prelude::*;
/// use microtally::sources::{ChannelId, Fill, Intake, Source};
///
/// struct Numbers {
///     left: Range<u32>,
///     /// The part of a line that found no room yet.
///     rest: Vec<u8>,
/// }
///
/// impl Source for Numbers {
///     fn fill(&mut self, out: &mut Intake<'_>, _now: Duration) -> Fill {
///         for _ in 0..1000 {
///             if self.rest.is_empty() {
///                 let Some(number) = self.left.next() else { return Fill::End };
///                 self.rest = format!("{number}\n").into_bytes();
///             }
///             let count = out.write(ChannelId::FIRST, &self.rest);
///             self.rest.drain(..count);
///         }
///         Fill::More
///     }
///
///     fn name(&self) -> &str {
///         "numbers"
///     }
/// }
///
/// let ssc = StreamingContext::new(Duration::from_secs(1))?;
/// let (sender, counts) = channel();
/// ssc.source_stream(Numbers { left: 0..10_000, rest: Vec::new() })
///     .count_by_value()
///     .for_each_batch(move |batch, _time| {
///         let _ = sender.send(batch.stats().records);
///     });
/// ssc.start()?.await_termination()?;
/// assert_eq!(counts.iter().sum::<u64>(), 10_000);
/// # Ok::<(), microtally::Error>(())
/// ```
///
/// A client library that blocks, on a thread of its own: the thread passes on what it receives and
/// wakes the reading thread. Each message is a record, whatever bytes it holds. The queue is
/// bounded, so a slow engine stops reading from the library.
///
/// ```
/// use std::sync::mpsc::{Receiver, TryRecvError, channel, sync_channel};
/// use microtally::prelude::*;
/// use microtally::sources::{ChannelId, Fill, Intake, Port, Source};
///
/// #[derive(Default)]
/// struct Client {
///     messages: Option<Receiver<Vec<u8>>>,
///     /// A message that found no room yet.
///     waiting: Option<Vec<u8>>,
/// }
///
/// impl Source for Client {
///     fn start(&mut self, port: Port, _now: Duration) {
///         let (sender, messages) = sync_channel(16);
///         self.messages = Some(messages);
///         let waker = port.waker();
///         std::thread::spawn(move || {
///             for number in 0..100 {
///                 // Where a real client waits for its server.
///                 let message = format!("message\n{number}").into_bytes();
///                 if sender.send(message).is_err() {
///                     return; // The run has ended.
///                 }
///                 waker.wake();
///             }
///             drop(sender);
///             waker.wake(); // So that the end is seen.
///         });
///     }
///
///     fn fill(&mut self, out: &mut Intake<'_>, _now: Duration) -> Fill {
///         let messages = self.messages.as_ref().expect("it was started");
///         let message = match self.waiting.take().map_or_else(|| messages.try_recv(), Ok) {
///             Ok(message) => message,
///             Err(TryRecvError::Empty) => return Fill::Pending(None),
///             Err(TryRecvError::Disconnected) => return Fill::End,
///         };
///         if !out.record(ChannelId::FIRST, &message) {
///             self.waiting = Some(message);
///         }
///         Fill::More
///     }
///
///     fn drain(&mut self) -> usize {
///         usize::MAX // What the channel holds was received.
///     }
///
///     fn name(&self) -> &str {
///         "client"
///     }
/// }
///
/// let ssc = StreamingContext::new(Duration::from_secs(1))?;
/// let (sender, counts) = channel();
/// ssc.source_stream(Client::default())
///     .flat_map(split(b'\n'))
///     .count_by_value()
///     .for_each_batch(move |batch, _time| {
///         let _ = sender.send(batch.get(b"message"));
///     });
/// ssc.start()?.await_termination()?;
/// assert_eq!(counts.iter().flatten().sum::<u64>(), 100);
/// # Ok::<(), microtally::Error>(())
/// ```
///
/// A log of partitions that can be read again from any offset. Each partition is a channel with a
/// name and a position. Positions are saved with the states, and the next run goes on there.
///
/// ```
/// use std::sync::mpsc::{Sender, channel};
/// use microtally::Config;
/// use microtally::prelude::*;
/// use microtally::sources::{ChannelId, Fill, Intake, Port, Position, Positions, Source};
///
/// struct Log {
///     /// The name of each partition, and the bytes that are there.
///     partitions: Vec<(&'static str, &'static [u8])>,
///     resume: Positions,
///     /// For each partition its channel, and where it is.
///     open: Vec<(ChannelId, usize)>,
///     committed: Sender<Positions>,
/// }
///
/// impl Source for Log {
///     fn start(&mut self, port: Port, _now: Duration) {
///         self.resume = port.resume().clone();
///     }
///
///     fn fill(&mut self, out: &mut Intake<'_>, _now: Duration) -> Fill {
///         let mut is_at_end = true;
///         for (index, (name, bytes)) in self.partitions.iter().enumerate() {
///             if index == self.open.len() {
///                 let position = self.resume.get(name).unwrap_or_default();
///                 self.open.push((out.open_at(name, position), position.offset() as usize));
///             }
///             let (channel, at) = &mut self.open[index];
///             *at += out.write(*channel, &bytes[*at..]);
///             is_at_end &= *at == bytes.len();
///         }
///         if is_at_end { Fill::End } else { Fill::More }
///     }
///
///     fn committed(&mut self, positions: &Positions) {
///         let _ = self.committed.send(positions.clone());
///     }
///
///     fn name(&self) -> &str {
///         "log"
///     }
/// }
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("states");
/// let run = |orders: &'static [u8], returns: &'static [u8]| {
///     let ssc = StreamingContext::one_batch(Config::default())?;
///     let (committed, commits) = channel();
///     let (sender, sums) = channel();
///     let log = Log {
///         partitions: vec![("orders", orders), ("returns", returns)],
///         resume: Positions::default(),
///         open: Vec::new(),
///         committed,
///     };
///     ssc.source_stream(log)
///         .count_by_value()
///         .reduce_by_key_so_far(|a, b| a + b)
///         .for_each_batch(move |batch, _time| drop(sender.send(batch.get(b"pen"))));
///     if let Ok(states) = std::fs::File::open(&path) {
///         ssc.load_states(states);
///     }
///     ssc.save_states(std::fs::File::create(path.with_extension("new")).unwrap());
///     ssc.start()?.await_termination()?;
///     std::fs::rename(path.with_extension("new"), &path).unwrap();
///     Ok::<_, microtally::Error>((sums.recv().unwrap(), commits.recv().unwrap()))
/// };
/// let (pens, positions) = run(b"pen\nink\n", b"pen\n")?;
/// assert_eq!((pens, positions.get("orders")), (Some(2), Some(Position::from(8))));
/// // Four bytes more; the others are not read again.
/// let (pens, positions) = run(b"pen\nink\npen\n", b"pen\n")?;
/// assert_eq!((pens, positions.get("orders")), (Some(3), Some(Position::from(12))));
/// # Ok::<(), microtally::Error>(())
/// ```
pub trait Source: Send {
    /// Starts the source. Keep `port`, or what is needed of it: it wakes the source. `now` is the
    /// time since 1970-01-01 00:00 UTC by the run's clock, from which batch times are counted.
    /// Default: does nothing.
    ///
    /// If something cannot be opened here, the first [`fill`](Self::fill) returns [`Fill::Failed`].
    /// A panic here goes to the caller of `StreamingContext::start`.
    fn start(&mut self, port: Port, now: Duration) {
        let _ = (port, now);
    }

    /// Fills what was received into `out`, and returns when to call again. `now` is the time since
    /// 1970-01-01 00:00 UTC by the run's clock. It never goes back, and in tests it may stand
    /// still.
    ///
    /// A call takes a bounded amount: some hundred kilobytes, because batches are cut on the same
    /// thread.
    fn fill(&mut self, out: &mut Intake<'_>, now: Duration) -> Fill;

    /// The batch of this `time` is due. Default: returns `false`, for sources whose bytes belong to
    /// the batch that is open when they arrive.
    ///
    /// A *batched* source decides at a batch's time what belongs to it, as a directory of files
    /// does. It returns `true` if something does. [`fill`](Self::fill) is then called until it
    /// returns [`Fill::Complete`], ends, or fails, and the batch is cut. Meanwhile no other source
    /// is read, so it must complete soon: otherwise batches are late, though none is skipped.
    ///
    /// There is one call for each batch time, in order, however late. A graceful stop adds one for
    /// the last batch, whose time is a little ahead of the clock. Between its batches such a source
    /// returns
    /// [`Fill::Pending`].
    fn batch_due(&mut self, time: BatchTime) -> bool {
        let _ = time;
        false
    }

    /// A graceful stop begins: returns how many bytes the source may hold that count as received.
    /// [`fill`](Self::fill) is called until it has returned that many, or returns anything but
    /// bytes and breaks. Then the last batch is cut. [`Fill::Finishing`] makes the stop wait for
    /// more. Default: 0, nothing more is read.
    ///
    /// It is a bound, not a promise. One too large costs nothing, and no more than
    /// [`DRAIN_BYTES_MAX`](crate::sources::DRAIN_BYTES_MAX) are read. A socket returns what a
    /// receive buffer may hold. A source that always has more returns zero, or its run stops only
    /// at the bound.
    ///
    /// If reading ends at zero or at the bound, and the last call returned bytes, there may be more
    /// of the line: it is dropped and reported if it is incomplete, unless the channel has a
    /// position, from which the next run reads it again.
    fn drain(&mut self) -> usize {
        0
    }

    /// The source is no longer read: it has ended or failed, a graceful stop has read what it may,
    /// or the next batch is the last one. Losses reported here with [`Port::lost`] are in that
    /// batch. Not called after a panic of the source, nor at an immediate stop. Default: does
    /// nothing.
    fn ended(&mut self) {}

    /// Everything up to these positions is in results that every output has delivered: what is
    /// before them need not be read again. Only for sources whose channels were opened with
    /// [`Intake::open_at`]. Default: does nothing.
    ///
    /// Called after a batch was delivered, if positions have changed. The last call may come after
    /// [`ended`](Self::ended). Once a user-supplied function has failed in a batch, or an output
    /// has failed, there is no further call in this run: the next one reads from before that batch.
    fn committed(&mut self, positions: &Positions) {
        let _ = positions;
    }

    /// The name of the source in messages: a URL, or a noun. It does not change.
    fn name(&self) -> &str;

    /// How much may be held of the source's records. Asked before the start.
    fn limits(&self) -> ChannelLimits {
        ChannelLimits::default()
    }

    /// How many decompressors the source has at a time. The memory limit reserves memory for them,
    /// and
    /// [`Port::window_log_max`] limits their windows. Asked before the start. Default: none.
    fn decoders(&self) -> DecoderCounts {
        DecoderCounts::default()
    }
}

/// When to call [`Source::fill`] again.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fill {
    /// There may be more: call again soon. Other sources get their turns in between.
    More,
    /// Nothing now. Call again on readiness, when the [`Waker`] was used, or at this time (since
    /// 1970, as `now` is), if any. A time that has passed means at once, after the other sources.
    Pending(Option<Duration>),
    /// As `Pending` with a time, and a graceful stop waits for it, if bytes of [`Source::drain`]
    /// are left. It is for a source that waits, for a limited time, for senders to end.
    Finishing(Duration),
    /// Everything that belongs to the batch of [`Source::batch_due`] was filled in. Call again at
    /// the next batch. Outside a batch it is as `Pending(None)`.
    ///
    /// It ends no line: an incomplete one waits for the next batch, unless
    /// [`Intake::end`] followed it.
    Complete,
    /// There will never be more; unterminated last lines are records. The run ends when every
    /// source has ended, unless something else keeps it going.
    End,
    /// The source could not be opened or was lost for good; unterminated last lines are dropped.
    /// See [`Error::input`].
    Failed(Error),
}

/// What a source of one channel did with the memory it was given.
#[derive(Debug)]
pub(crate) enum ReadOutcome {
    /// This many bytes, at least one, are at the front of it.
    Bytes(usize),
    /// This many bytes were received that are not content.
    Skipped(usize),
    /// The connection has ended; the next bytes begin a new line. Unless `clean`, an unterminated
    /// last line is dropped and reported.
    Break { clean: bool },
    /// Nothing was read.
    Nothing(Fill),
}

/// Has a source of one channel read once.
pub(crate) fn read_once(out: &mut Intake<'_>, read: impl FnOnce(&mut [u8]) -> ReadOutcome) -> Fill {
    let Some(space) = out.space(ChannelId::FIRST) else {
        return Fill::More;
    };
    match read(space) {
        ReadOutcome::Bytes(count) => out.filled(count),
        ReadOutcome::Skipped(count) => out.skipped(ChannelId::FIRST, count),
        ReadOutcome::Break { clean } => {
            out.end(ChannelId::FIRST, clean);
        }
        ReadOutcome::Nothing(fill) => return fill,
    }
    Fill::More
}
