//! The port of a started source: its place in the event queue, its waker, what it reports.
//!
//! Must not know: engine, ring, epoch.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use mio::Interest;
use mio::unix::SourceFd;

use crate::ledger::Account;
use crate::limits::WINDOW_LOG_MAX;
use crate::notice::{Notice, NoticeKind, Notices};
use crate::position::Positions;
use crate::split::{Delimiters, LineEnds};

/// What a started source gets: its place in the operating system's event queue, a waker, and a way
/// to report something.
pub struct Port {
    /// The source's name.
    pub(crate) name: String,
    /// Absent where readiness is simulated.
    pub(crate) registry: Option<mio::Registry>,
    pub(crate) token: mio::Token,
    pub(crate) waker: Waker,
    pub(crate) notices: Notices,
    /// What the source lost before it could fill it in.
    pub(crate) account: Account,
    /// Where records end, and how they are split. With [`Rule::Lines`](crate::Rule::Lines) anything
    /// may be made of them.
    pub(crate) delimiters: Delimiters,
    /// log2 of the largest window of a decoder.
    pub(crate) window_log_max: u32,
    /// Where the channels continue.
    pub(crate) resume: Positions,
}

/// Makes the reading thread call [`Source::fill`]. Usable from any thread, any number of times.
///
/// The next call sees everything that was done before [`wake`](Self::wake). Wake-ups before that
/// call are merged. After the end of the run they do nothing.
///
/// [`Source::fill`]: crate::sources::Source::fill
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Port {
    /// log2 of the largest window that a decompressor of this source may have within the memory
    /// limit.
    pub fn window_log_max(&self) -> u32 {
        self.window_log_max
    }

    /// Where records end, for a source that looks for ends itself.
    pub fn line_ends(&self) -> LineEnds {
        self.delimiters.line_ends
    }

    /// A port without an engine, for tests of custom sources.
    ///
    /// ```
    /// use std::time::Duration;
    /// use microtally::sources::{Lines, Port, Source};
    ///
    /// let mut source = Lines::of("to be or not to be");
    /// source.start(Port::detached(), Duration::ZERO);
    /// assert_eq!(source.drain(), 0);
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
            resume: Positions::default(),
        }
    }

    /// Where the channels of this source were when another run of the program ended, if this one
    /// goes on from there: see
    /// [`load_states`](crate::StreamingContext::load_states). A channel that is missing here begins
    /// where the source says.
    pub fn resume(&self) -> &Positions {
        &self.resume
    }

    /// This port, for a source that continues at these positions: for tests of custom sources.
    #[must_use]
    pub fn resuming(self, positions: Positions) -> Self {
        Port {
            resume: positions,
            ..self
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

    /// Calls the source when `io` is readable or its other side is closed, until `io` is closed. It
    /// is an object of the `mio` crate, such as its `TcpStream`.
    ///
    /// # Errors
    ///
    /// The error of the system; a second registration of the same object is refused.
    pub fn register(&self, io: &mut impl mio::event::Source) -> io::Result<()> {
        self.register_for(io, Interest::READABLE)
    }

    /// As [`register`](Self::register), for this `interest`.
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

    /// As [`register`](Self::register), for a file descriptor: a socket, a pipe, an eventfd. It
    /// should be in non-blocking mode, because it may no longer be ready when it is read.
    ///
    /// # Errors
    ///
    /// The error of the system; a regular file, which is always ready, is refused with
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied).
    pub fn register_fd(&self, fd: &impl AsFd) -> io::Result<()> {
        self.register(&mut SourceFd(&fd.as_fd().as_raw_fd()))
    }

    /// As [`register`](Self::register), for a source with many descriptors:
    /// [`Intake::next_ready`](crate::sources::Intake::next_ready) returns the number `part` then.
    /// Numbers need not differ.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use microtally::prelude::*;
    /// use microtally::sources::{ChannelId, Fill, Intake, Port, Source};
    /// use mio::net::UnixStream;
    ///
    /// /// Connections that are there from the start; each is a channel.
    /// struct Pipes {
    ///     connections: Vec<UnixStream>,
    ///     channels: Vec<ChannelId>,
    ///     open: usize,
    /// }
    ///
    /// impl Source for Pipes {
    ///     fn start(&mut self, port: Port, _now: Duration) {
    ///         for (part, connection) in (0..).zip(&mut self.connections) {
    ///             port.register_part(connection, part).expect("it can be registered");
    ///         }
    ///     }
    ///
    ///     fn fill(&mut self, out: &mut Intake<'_>, _now: Duration) -> Fill {
    ///         while self.channels.len() < self.connections.len() {
    ///             self.channels.push(out.open());
    ///         }
    ///         while let Some(part) = out.next_ready() {
    ///             let channel = self.channels[part as usize];
    ///             loop {
    ///                 let Some(space) = out.space(channel) else {
    ///                     out.push_ready(part); // It has more: go on when there is room.
    ///                     return Fill::More;
    ///                 };
    ///                 match self.connections[part as usize].read(space) {
    ///                     Ok(0) => {
    ///                         out.close(channel, true);
    ///                         self.open -= 1;
    ///                         break;
    ///                     }
    ///                     Ok(count) => out.filled(count),
    ///                     Err(_) => break, // Nothing more for now.
    ///                 }
    ///             }
    ///         }
    ///         if self.open == 0 { Fill::End } else { Fill::Pending(None) }
    ///     }
    ///
    ///     fn name(&self) -> &str {
    ///         "pipes"
    ///     }
    /// }
    ///
    /// let (mut one, first) = UnixStream::pair()?;
    /// let (mut other, second) = UnixStream::pair()?;
    /// let ssc = StreamingContext::one_batch(microtally::Config::default())?;
    /// let connections = vec![first, second];
    /// ssc.source_stream(Pipes { connections, channels: Vec::new(), open: 2 })
    ///     .count_by_value()
    ///     .for_each_batch(|batch, _time| assert_eq!(batch.get(b"a line"), Some(2)));
    /// let running = ssc.start()?;
    /// one.write_all(b"a ")?;
    /// other.write_all(b"a line\n")?;
    /// one.write_all(b"line\n")?;
    /// drop((one, other));
    /// running.await_termination()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`register`](Self::register); [`InvalidInput`](io::ErrorKind::InvalidInput) for the part
    /// [`u32::MAX`].
    pub fn register_part(&self, io: &mut impl mio::event::Source, part: u32) -> io::Result<()> {
        let token = part_token(self.token, part).ok_or(io::ErrorKind::InvalidInput)?;
        match &self.registry {
            Some(registry) => registry.register(io, token, Interest::READABLE),
            None => Ok(()),
        }
    }

    /// Returns a waker, which wakes the source from other threads.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Counts `records` that the source lost before it could fill them in, and the `bytes` of them
    /// that arrived: 0 if only their number is known. They are in the statistics of the open batch
    /// ([`lost_records`](crate::batch::BatchStats::lost_records)) and of the run, in the JSON
    /// output as `dropped`, and in the byte ledger. May be called from any thread.
    ///
    /// A partial line of a broken connection has been filled in: [`Intake::end`] drops and counts
    /// it.
    ///
    /// [`Intake::end`]: crate::sources::Intake::end
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    /// use microtally::prelude::*;
    /// use microtally::sources::{ChannelId, Fill, Intake, Port, Source};
    ///
    /// /// Numbered messages, so that a gap is noticed.
    /// struct Numbered(Vec<u64>, Option<Port>);
    ///
    /// impl Source for Numbered {
    ///     fn start(&mut self, port: Port, _now: Duration) {
    ///         self.1 = Some(port);
    ///     }
    ///
    ///     fn fill(&mut self, out: &mut Intake<'_>, _now: Duration) -> Fill {
    ///         if out.space_of(ChannelId::FIRST, 2).is_none() {
    ///             return Fill::More; // Called again when there is room.
    ///         }
    ///         let (Some(number), Some(port)) = (self.0.pop(), &self.1) else { return Fill::End };
    ///         if let Some(next) = self.0.last() {
    ///             port.lost(next - number - 1, 0);
    ///         }
    ///         out.write(ChannelId::FIRST, b"x\n");
    ///         Fill::More
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
        self.account.update(|losses| {
            losses.records = losses.records.saturating_add(records);
            losses.bytes = losses.bytes.saturating_add(bytes);
        });
    }

    /// Reports something about this source: calls the handler that `StreamingContext::on_notice`
    /// set, on this thread.
    ///
    /// Report changes, not attempts: a source that tries again every second has one thing to
    /// report.
    pub fn report(&self, kind: NoticeKind) {
        self.report_of(&self.name, kind);
    }

    /// As [`report`](Self::report), about a part of this source.
    pub(crate) fn report_of(&self, part: impl Into<String>, kind: NoticeKind) {
        self.notices.report(Notice::new(part, kind));
    }
}

/// The upper half of the token of a part is its number and one; that of a source is 0.
const PART_SHIFT: u32 = 32;

/// Returns the token of a part of a source. `None`: there is no such part.
fn part_token(source: mio::Token, part: u32) -> Option<mio::Token> {
    let number = part.checked_add(1)?;
    Some(mio::Token(source.0 | (number as usize) << PART_SHIFT))
}

/// Returns the number of the source that has this token, and the part, if it is that of a part.
pub(crate) fn source_and_part(token: mio::Token) -> (usize, Option<u32>) {
    let number = (token.0 >> PART_SHIFT) as u32;
    (token.0 & u32::MAX as usize, number.checked_sub(1))
}

impl Waker {
    pub(crate) fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Waker(Arc::new(wake))
    }

    /// Makes the reading thread call [`Source::fill`] soon.
    ///
    /// [`Source::fill`]: crate::sources::Source::fill
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
