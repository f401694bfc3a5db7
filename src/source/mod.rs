//! Bytes in: the [`Source`] contract, the [`Port`] that a source is lent, and the sources of this crate.
//!
//! Promise: a source fills the memory it is given and says how it wants to be woken. Must not know: rings, records,
//! separators, epochs.
//!
//! `net` has the sources that are sockets, `file` those that are files, `codec` what stands between their bytes and
//! text.

pub(crate) mod codec;
pub(crate) mod file;
pub(crate) mod lines;
pub(crate) mod net;
pub(crate) mod sniff;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use mio::Interest;
use mio::unix::SourceFd;

use crate::error::Error;
use crate::ledger::{Account, Passage};
use crate::limits::WINDOW_LOG_MAX;
use crate::memory::DecoderCounts;
use crate::notice::{Notice, NoticeKind, Notices};
use crate::split::{Delimiters, LineEnds};
use crate::time::BatchTime;

/// A source of bytes of one's own.
///
/// A source is a state machine without a thread: the reading thread of a context calls it, gives it
/// memory to fill and is told when to call again. What it fills in is one stream of bytes; lines, words
/// and batches are made of it elsewhere. It may keep a thread of its own, which hands bytes over and
/// wakes the reading thread; see the second example.
///
/// # What is called when
///
/// | call | when | on which thread |
/// |---|---|---|
/// | [`name`](Self::name) | once, before anything else | the one that calls `StreamingContext::start` |
/// | [`start`](Self::start) | once, after `name` | the same |
/// | [`fill`](Self::fill) | soon after the start; then as the last [`Fill`] asked for, when what was registered with the [`Port`] is readable, when its [`Waker`] was used, and once a second | `mt-reactor` |
/// | [`batch_due`](Self::batch_due) | at each batch time, before the batch is cut | `mt-reactor` |
/// | [`drain`](Self::drain) | at most once, when a graceful stop was asked for | `mt-reactor` |
/// | [`ended`](Self::ended) | at most once, when the source is not read any more, before its last batch is cut | `mt-reactor` |
///
/// A source is dropped when the run has ended, whatever way it ended: a thread of its own sees that its
/// channel is closed.
///
/// All sources of a context share `mt-reactor`, and batches are cut on it, so no call may wait: not for a
/// socket, a lock that is held long, or a child. Readiness is reported as edges: once something is readable,
/// read until there is nothing (a `read` that would block) before giving [`Fill::Pending`]. `fill` may be
/// called without a reason, and then gives `Pending` again; once a second it is, so that an edge which the
/// system or a source lost costs a second and not the run.
///
/// # What a record belongs to
///
/// A record is in the batch in which its last byte was filled in. A record that is not complete at the end
/// of a batch waits for the rest of it, and [`Fill::Break`] and [`Fill::End`] end it.
///
/// # When it goes wrong
///
/// What can be tried again is the source's own affair: it gives `Pending` until the time of the next
/// attempt, and tells people with [`Port::report`]. [`Fill::Failed`] ends the source. So does a panic in any
/// of its methods, and an answer that cannot be (more bytes than there was room for, or none): the rest of
/// the run goes on, the line that was not complete is dropped, and `await_termination` gives the error, at
/// once for a panic, when the run has ended for the others.
///
/// # Examples
///
/// Numbers, as many as are asked for: there is nothing to wait for, so every call gives bytes. Where `buf`
/// ends means nothing, so a line that does not fit goes on in the next call.
///
/// ```
/// use std::collections::VecDeque;
/// use std::io::Read;
/// use std::ops::Range;
/// use std::sync::mpsc::channel;
/// use microtally::prelude::*;
/// use microtally::{Fill, Source};
///
/// struct Numbers {
///     left: Range<u32>,
///     /// What of a line found no room yet.
///     rest: VecDeque<u8>,
/// }
///
/// impl Source for Numbers {
///     fn fill(&mut self, buf: &mut [u8], _now: Duration) -> Fill {
///         let mut filled = 0;
///         while filled < buf.len() {
///             if self.rest.is_empty() {
///                 let Some(number) = self.left.next() else { break };
///                 self.rest.extend(format!("{number}\n").bytes());
///             }
///             filled += self.rest.read(&mut buf[filled..]).expect("it is memory");
///         }
///         if filled == 0 { Fill::End } else { Fill::Bytes(filled) }
///     }
///
///     fn name(&self) -> &str {
///         "numbers"
///     }
/// }
///
/// let ssc = StreamingContext::new(Duration::from_secs(1))?;
/// let (sender, counts) = channel();
/// ssc.source_stream(Numbers { left: 0..10_000, rest: VecDeque::new() })
///     .count_by_value()
///     .for_each_batch(move |batch, _time| {
///         let _ = sender.send(batch.stats().records);
///     });
/// ssc.start()?.await_termination()?;
/// assert_eq!(counts.iter().sum::<u64>(), 10_000);
/// # Ok::<(), microtally::Error>(())
/// ```
///
/// A client library that blocks, on a thread of its own: the thread hands over what it gets and wakes the
/// reading thread. The channel is bounded, so when the engine is slow the library is not read from.
///
/// ```
/// use std::collections::VecDeque;
/// use std::io::Read;
/// use std::sync::mpsc::{Receiver, TryRecvError, channel, sync_channel};
/// use microtally::prelude::*;
/// use microtally::{Fill, Port, Source};
///
/// #[derive(Default)]
/// struct Client {
///     messages: Option<Receiver<Vec<u8>>>,
///     /// What of a message found no room yet.
///     rest: VecDeque<u8>,
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
///                 let message = format!("message {number}\n").into_bytes();
///                 if sender.send(message).is_err() {
///                     return; // The run is over.
///                 }
///                 waker.wake();
///             }
///             drop(sender);
///             waker.wake(); // So that the end is seen.
///         });
///     }
///
///     fn fill(&mut self, buf: &mut [u8], _now: Duration) -> Fill {
///         if self.rest.is_empty() {
///             let messages = self.messages.as_ref().expect("it was started");
///             match messages.try_recv() {
///                 Ok(message) => self.rest = message.into(),
///                 Err(TryRecvError::Empty) => return Fill::Pending(None),
///                 Err(TryRecvError::Disconnected) => return Fill::End,
///             }
///         }
///         Fill::Bytes(self.rest.read(buf).expect("it is memory"))
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
///     .flat_map(split(b' '))
///     .count_by_value()
///     .for_each_batch(move |batch, _time| {
///         let _ = sender.send(batch.get(b"message"));
///     });
/// ssc.start()?.await_termination()?;
/// assert_eq!(counts.iter().flatten().sum::<u64>(), 100);
/// # Ok::<(), microtally::Error>(())
/// ```
pub trait Source: Send {
    /// The run begins. `port` is what the source is woken through; keep it, or what is needed of it.
    /// `now` is the time since 1970-01-01 00:00 UTC by the run's clock, from which its batch times are
    /// counted. Does nothing unless it is written.
    ///
    /// What cannot be opened is found out here and told by the first [`fill`](Self::fill), with
    /// [`Fill::Failed`]. A panic here goes to the caller of `StreamingContext::start`.
    fn start(&mut self, port: Port, now: Duration) {
        let _ = (port, now);
    }

    /// Puts bytes at the front of `buf`, which has room for at least one and usually for tens of
    /// kilobytes, and says how it went. `now` is the time since 1970-01-01 00:00 UTC by the run's clock:
    /// it never goes back, and in tests it may stand still.
    ///
    /// What `buf` holds at first means nothing.
    fn fill(&mut self, buf: &mut [u8], now: Duration) -> Fill;

    /// The batch of this `time` is due. A source whose bytes arrive by themselves leaves this alone, and
    /// they are in the batch that is open when they arrive.
    ///
    /// `true` is the answer of a *batched* source, one that decides at the batch's time what belongs to
    /// it, as files in a directory do. It is then called until it gives [`Fill::Complete`] (or
    /// [`Fill::End`], or fails); then the batch is cut. No other source is read meanwhile, and everybody
    /// waits, so what is complete must be so soon: batches are late otherwise, though none is skipped.
    /// `false`: nothing of this source belongs to the batch.
    ///
    /// Each batch time is asked for once, in order, however late; at a graceful stop once more, for the
    /// last batch, whose time is then a little ahead of the clock. Between its batches such a source gives
    /// [`Fill::Pending`].
    fn batch_due(&mut self, time: BatchTime) -> bool {
        let _ = time;
        false
    }

    /// A graceful stop was asked for: how many bytes the source holds that count as received, at most.
    /// [`fill`](Self::fill) is called until that many were given, or it gives anything but bytes and
    /// breaks; then the last batch is cut. [`Fill::Finishing`] has the stop wait for more. Zero, unless it
    /// is written: nothing is read any more.
    ///
    /// It is a bound, not a promise: one too large costs nothing, and more than
    /// [`DRAIN_BYTES_MAX`](crate::sources::DRAIN_BYTES_MAX) are not read. A socket answers with what a
    /// receive buffer may hold. A source that can always give more answers zero, or its run does not stop
    /// before the bound.
    ///
    /// Where the stop ends reading, at zero or at the bound, while the source's last answer was bytes, there may be
    /// more of the line: it is dropped and reported if it is not complete.
    fn drain(&mut self) -> usize {
        0
    }

    /// The source is not read any more: it has ended or failed, a graceful stop has read what it may, or the batch
    /// that is cut next is the last one. What the source knows to be lost by now, and reports here with
    /// [`Port::lost`], is in that batch. Not called after a panic of the source, nor at an immediate stop. Does
    /// nothing unless it is written.
    fn ended(&mut self) {}

    /// What to call the source in messages: a URL, or a noun. Asked once.
    fn name(&self) -> &str;

    /// Decoders it has at a time: they are in the memory limit. For sources of this crate.
    #[doc(hidden)]
    fn decoders(&self) -> DecoderCounts {
        DecoderCounts::default()
    }
}

/// What a call of [`Source::fill`] did, and when to call again.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fill {
    /// That many bytes, at least one, were put at the front of the buffer. Call again at once.
    Bytes(usize),
    /// That many bytes were received that are no content, such as the mark at the beginning of a text: they are in
    /// the batch's bytes, and in no record. Nothing was put in the buffer. Call again at once.
    Skipped(usize),
    /// Nothing now. Call again on readiness, when the [`Waker`] was used, or at the given time (since
    /// 1970, as `now` is) if there is one. A time that has passed means at once, after the other sources.
    Pending(Option<Duration>),
    /// As `Pending` with a time; and a graceful stop waits for it, if bytes of [`Source::drain`] are
    /// left. It is given for as long as the source waits for senders that were told to end, which is
    /// therefore bounded.
    Finishing(Duration),
    /// The connection is over; the next bytes begin a new line. Call again at once.
    Break {
        /// `true`: an unterminated last line is a record. `false`: it is dropped and reported.
        clean: bool,
    },
    /// What belongs to the batch that [`Source::batch_due`] told of was given. Call again at the next
    /// batch. Outside a batch it is the same as `Pending(None)`.
    ///
    /// It ends no line: one that is not complete waits for the next batch, unless there was a
    /// [`Break`](Fill::Break) behind it.
    Complete,
    /// There will never be more; an unterminated last line is a record. When every source has ended, so
    /// does the run, unless something else keeps it going.
    End,
    /// The source could not be opened or was lost for good; an unterminated last line is dropped. See
    /// [`Error::input`].
    Failed(Error),
}

/// What a started source is lent: its place in the operating system's event queue, a waker, and a way to
/// tell people something.
pub struct Port {
    /// The source's name.
    pub(crate) name: String,
    /// Absent where readiness is simulated.
    pub(crate) registry: Option<mio::Registry>,
    pub(crate) token: mio::Token,
    pub(crate) waker: Waker,
    pub(crate) notices: Notices,
    /// What becomes of the bytes that the source receives and does not fill in.
    pub(crate) account: Account,
    /// Where records end, and how they are split. With [`Rule::Lines`](crate::Rule::Lines) anything may
    /// be made of them.
    pub(crate) delimiters: Delimiters,
    /// log2 of the largest window of a decoder.
    pub(crate) window_log_max: u32,
}

/// Has the reading thread call [`Source::fill`]; from any thread, as often as one likes.
///
/// What was done before [`wake`](Self::wake) is seen by the call that follows it. Wake-ups that come
/// before that call are one. After the end of the run they do nothing.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Port {
    /// Writes what the source did with the bytes it received and did not fill in.
    pub(crate) fn account(&self, f: impl FnOnce(&mut Passage)) {
        self.account.update(f);
    }

    /// Where records end, for a source that looks for ends itself.
    pub fn line_ends(&self) -> LineEnds {
        self.delimiters.line_ends
    }

    /// A port that leads nowhere: for tests that call a source of one's own without an engine.
    ///
    /// ```
    /// use std::time::Duration;
    /// use microtally::{Fill, Port, Source};
    ///
    /// struct Nothing;
    ///
    /// impl Source for Nothing {
    ///     fn fill(&mut self, _buf: &mut [u8], _now: Duration) -> Fill {
    ///         Fill::End
    ///     }
    ///
    ///     fn name(&self) -> &str {
    ///         "nothing"
    ///     }
    /// }
    ///
    /// let mut source = Nothing;
    /// source.start(Port::detached(), Duration::ZERO);
    /// assert!(matches!(source.fill(&mut [0; 64], Duration::ZERO), Fill::End));
    /// ```
    pub fn detached() -> Self {
        Port {
            name: String::new(),
            registry: None,
            token: mio::Token(0),
            waker: Waker::new(|| ()),
            notices: Notices::default(),
            account: Account::default(),
            delimiters: Delimiters::default(),
            window_log_max: WINDOW_LOG_MAX,
        }
    }

    /// A port of a source called `name`, and the texts of what is reported there.
    #[cfg(test)]
    pub(crate) fn kept(name: &str) -> (Self, crate::notice::NoticeTexts) {
        let (notices, texts) = Notices::kept();
        let port = Port {
            name: name.to_owned(),
            notices,
            ..Port::detached()
        };
        (port, texts)
    }

    /// Has the source called when `io`, something of the `mio` crate such as its `TcpStream`, is readable
    /// or its other side is gone. Closing it ends that.
    ///
    /// # Errors
    ///
    /// What the system says; a second registration of the same thing is refused.
    pub fn register(&self, io: &mut impl mio::event::Source) -> io::Result<()> {
        self.register_for(io, Interest::READABLE)
    }

    /// As [`register`](Self::register), saying what for.
    pub(crate) fn register_for(
        &self,
        io: &mut impl mio::event::Source,
        interest: Interest,
    ) -> io::Result<()> {
        match &self.registry {
            Some(registry) => registry.register(io, self.token, interest),
            None => Ok(()),
        }
    }

    /// As [`register`](Self::register) for a file descriptor: a socket, a pipe, an eventfd. It should be
    /// in non-blocking mode, for readiness may be gone by the time of the read.
    ///
    /// # Errors
    ///
    /// What the system says; a regular file, which is always ready, is refused with
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied).
    pub fn register_fd(&self, fd: &impl AsFd) -> io::Result<()> {
        self.register(&mut SourceFd(&fd.as_fd().as_raw_fd()))
    }

    /// What wakes the source from other threads.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Reports `records` records that the source lost before it could fill them in, and their `bytes`, as
    /// far as they arrived: 0 where only their number is known. They are in the statistics of the batch
    /// that is open ([`lost_records`](crate::BatchStats::lost_records)) and of the run, in the JSON output as
    /// `dropped`, and in the byte ledger. May be called from any thread.
    ///
    /// A partial line that a broken connection leaves is dropped and reported by [`Fill::Break`]: it has been
    /// filled in.
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    /// use microtally::prelude::*;
    /// use microtally::{Fill, Port, Source};
    ///
    /// /// Messages whose sender numbers them, so that a gap is noticed.
    /// struct Numbered(Vec<u64>, Option<Port>);
    ///
    /// impl Source for Numbered {
    ///     fn start(&mut self, port: Port, _now: Duration) {
    ///         self.1 = Some(port);
    ///     }
    ///
    ///     fn fill(&mut self, buf: &mut [u8], _now: Duration) -> Fill {
    ///         let (Some(number), Some(port)) = (self.0.pop(), &self.1) else { return Fill::End };
    ///         if let Some(next) = self.0.last() {
    ///             port.lost(next - number - 1, 0);
    ///         }
    ///         buf[..2].copy_from_slice(b"x\n");
    ///         Fill::Bytes(2)
    ///     }
    ///
    ///     fn name(&self) -> &str {
    ///         "numbered"
    ///     }
    /// }
    ///
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// let (sender, stats) = channel();
    /// ssc.source_stream(Numbered(vec![9, 5, 4], None))
    ///     .count_by_value()
    ///     .for_each_batch(move |batch, _time| drop(sender.send(*batch.stats())));
    /// ssc.start()?.await_termination()?;
    /// let stats: Vec<_> = stats.iter().collect();
    /// assert_eq!(stats.iter().map(|batch| batch.records).sum::<u64>(), 3);
    /// assert_eq!(stats.iter().map(|batch| batch.lost_records).sum::<u64>(), 3);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn lost(&self, records: u64, bytes: u64) {
        self.account(|passage| {
            let totals = &mut passage.totals;
            totals.lost_records = totals.lost_records.saturating_add(records);
            totals.lost_bytes = totals.lost_bytes.saturating_add(bytes);
        });
    }

    /// Reports something about this source: calls the handler that `StreamingContext::on_notice` set,
    /// on this thread.
    ///
    /// Report changes, not attempts: a source that tries again every second has one thing to report.
    pub fn report(&self, kind: NoticeKind) {
        self.report_of(&self.name, kind);
    }

    /// As [`report`](Self::report), about a part of this source.
    pub(crate) fn report_of(&self, part: impl Into<String>, kind: NoticeKind) {
        self.notices.report(Notice::new(part, kind));
    }
}

impl Waker {
    pub(crate) fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Waker(Arc::new(wake))
    }

    /// Has [`Source::fill`] called soon.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}
