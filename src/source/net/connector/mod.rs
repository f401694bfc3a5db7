//! A connection made as a client, of any kind.
//!
//! Promise: refused, reset and ended connections are tried again, each time with the name resolved
//! again and every address tried; two connections never share a line; only this source waits for
//! the connection.
//! Must not know: engine, split.
//!
//! ```text
//!   Idle ──time──▶ Resolving ──addresses──▶ Connecting ──writable──▶ Connected
//!    ▲                 │                        │ next address           │
//!    └──── failed ─────┴──── none left ─────────┘◀──── end, reset ───────┘
//! ```
//!
//! Connecting is done in non-blocking steps on the reading thread, not on the thread that resolves
//! names. That thread could hand a connection over only after it has run again, and a graceful stop
//! meanwhile would lose what has arrived on it; a stop would also leave the thread in `connect`,
//! with its socket, for as long as each address may take; and `connect` on a Unix socket has no
//! time limit.
//!
//! A read that fails is repeated once before the connection is given up: what has arrived is still
//! read, and an error that passes, such as a kernel short of memory, costs nothing.

#[cfg(test)]
mod stop_tests;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use mio::Interest;

use crate::error::{Error, ErrorKind};
use crate::intake::Intake;
use crate::limits;
use crate::notice::NoticeKind;
use crate::source::net::socket::{StreamSocket, lower};
use crate::source::sniff::{ReportedKinds, Sniffer};
use crate::source::{Fill, Port, ReadOutcome, Source, read_once};

/// What a [`Connector`] connects to.
pub(crate) trait ConnectTarget: Send {
    /// One place at which it may be found.
    type Address: Send + 'static;
    /// A connection.
    type Stream: StreamSocket;

    /// Returns its address, or a function that finds its addresses and may take long.
    fn lookup(&self) -> Lookup<Self::Address>;

    /// Why there are no addresses: the `cause`, or no answer in time.
    fn unresolved(&self, _cause: Option<&io::Error>) -> String {
        "no answer".to_owned()
    }

    /// Begins to connect.
    fn open(&self, address: Self::Address) -> io::Result<Self::Stream>;
}

/// What [`ConnectTarget::lookup`] returns.
pub(crate) enum Lookup<A> {
    Known(A),
    Ask(Box<dyn FnOnce() -> io::Result<Vec<A>> + Send>),
}

/// What to do without a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnect {
    /// Keep trying, with this pause between two attempts.
    After(Duration),
    /// Treat a failed attempt or a reset as an error, and a clean end as the end of the source.
    Never,
}

impl Default for Reconnect {
    /// Every 2 seconds, as Spark's receivers do.
    fn default() -> Self {
        Reconnect::After(Duration::from_millis(limits::RECONNECT_MS_DEFAULT))
    }
}

/// A source of one connection at a time.
pub(crate) struct Connector<T: ConnectTarget> {
    target: T,
    name: String,
    reconnect: Reconnect,
    port: Port,
    state: ConnectState<T>,
    /// The reason in the last notice, so that changes are reported and not attempts.
    reported: Option<String>,
    /// Of the current connection.
    sniffer: Sniffer,
    reported_kinds: ReportedKinds,
    /// A graceful stop has not found the connection empty yet.
    is_stopped_early: bool,
}

enum ConnectState<T: ConnectTarget> {
    Idle {
        retry_at: Duration,
    },
    Resolving {
        answer: Receiver<io::Result<Vec<T::Address>>>,
        deadline: Duration,
    },
    Connecting {
        stream: T::Stream,
        others: VecDeque<T::Address>,
        deadline: Duration,
    },
    Connected {
        stream: T::Stream,
        /// The connection was reset before it was looked at, or the last read failed. What came
        /// before can still be read. Asking for the error took it off the socket, so what then
        /// looks like a clean end is this.
        failure: Option<io::Error>,
    },
    /// The last connection has ended.
    Over {
        outcome: Option<Error>,
    },
}

impl<T: ConnectTarget> Connector<T> {
    /// Connects to `target`, called `name`.
    pub(crate) fn new(target: T, name: String, reconnect: Reconnect) -> Self {
        let retry_at = Duration::ZERO;
        Connector {
            target,
            name,
            reconnect,
            port: Port::detached(),
            state: ConnectState::Idle { retry_at },
            reported: None,
            sniffer: Sniffer::default(),
            reported_kinds: ReportedKinds::default(),
            is_stopped_early: false,
        }
    }

    /// Goes on towards a connection. Returns when to call again if that takes time.
    fn proceed(&mut self, now: Duration) -> Option<Duration> {
        let retry_at = Duration::MAX;
        let state = std::mem::replace(&mut self.state, ConnectState::Idle { retry_at });
        let deadline = now + Duration::from_millis(limits::CONNECT_MS_MAX);
        self.state = match state {
            ConnectState::Idle { .. } => match self.target.lookup() {
                Lookup::Known(address) => self.connect([address].into(), None, now),
                Lookup::Ask(ask) => ConnectState::Resolving {
                    answer: self.resolve(ask),
                    deadline,
                },
            },
            ConnectState::Resolving { answer, deadline } => match answer.try_recv() {
                Ok(Ok(addresses)) => self.connect(addresses.into(), None, now),
                Ok(Err(cause)) => self.give_up(self.target.unresolved(Some(&cause)), now),
                Err(TryRecvError::Empty) if now < deadline => {
                    self.state = ConnectState::Resolving { answer, deadline };
                    return Some(deadline);
                }
                Err(_) => self.give_up(self.target.unresolved(None), now),
            },
            ConnectState::Connecting {
                stream,
                others,
                deadline,
            } => match stream.take_error() {
                // Only what was connected can be reset: what does not listen refuses.
                Ok(Some(cause)) if is_reset(&cause) => self.connected(stream, Some(cause)),
                Ok(None) if stream.is_connected() => self.connected(stream, None),
                Ok(None) if now < deadline => {
                    self.state = ConnectState::Connecting {
                        stream,
                        others,
                        deadline,
                    };
                    return Some(deadline);
                }
                Ok(None) => self.connect(others, Some(io::ErrorKind::TimedOut.into()), now),
                Ok(Some(cause)) | Err(cause) => self.connect(others, Some(cause), now),
            },
            state => state,
        };
        None
    }

    /// Resolving blocks, on some networks for seconds: it has a thread of its own for each attempt.
    fn resolve(
        &self,
        ask: Box<dyn FnOnce() -> io::Result<Vec<T::Address>> + Send>,
    ) -> Receiver<io::Result<Vec<T::Address>>> {
        let (sender, answer) = channel();
        let waker = self.port.waker();
        let lookup = move || {
            // The receiver is gone if the attempt was given up.
            let _ = sender.send(ask());
            waker.wake();
        };
        // If there is no thread, the sender is gone with the closure, which the next look finds
        // out.
        let _ = thread::Builder::new()
            .name("mt-resolve".to_owned())
            .spawn(lookup);
        answer
    }

    /// Begins to connect to the first of `addresses` that allows it. If none does, the reason is
    /// `failure`, or without one the last error.
    fn connect(
        &mut self,
        mut addresses: VecDeque<T::Address>,
        failure: Option<io::Error>,
        now: Duration,
    ) -> ConnectState<T> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        while let Some(address) = addresses.pop_front() {
            match self.open(address) {
                Ok(stream) => {
                    return ConnectState::Connecting {
                        stream,
                        others: addresses,
                        deadline: now + Duration::from_millis(limits::CONNECT_MS_MAX),
                    };
                }
                Err(error) => last = error,
            }
        }
        self.give_up(lower(&failure.unwrap_or(last)), now)
    }

    fn open(&self, address: T::Address) -> io::Result<T::Stream> {
        let mut stream = self.target.open(address)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.port.register_for(&mut stream, interest)?;
        Ok(stream)
    }

    fn connected(&mut self, stream: T::Stream, failure: Option<io::Error>) -> ConnectState<T> {
        if self.reported.take().is_some() {
            self.port.report(NoticeKind::Connected);
        }
        self.sniffer = Sniffer::default();
        ConnectState::Connected { stream, failure }
    }

    /// An attempt failed.
    fn give_up(&mut self, reason: String, now: Duration) -> ConnectState<T> {
        self.disconnected(reason, Some("cannot connect to"), now)
    }

    /// The connection ended.
    fn lost(&mut self, failure: Option<io::Error>, now: Duration) -> ReadOutcome {
        let reason =
            (failure.as_ref()).map_or_else(|| "the sender closed the connection".to_owned(), lower);
        let clean = failure.is_none();
        self.state = self.disconnected(reason, (!clean).then_some("lost"), now);
        ReadOutcome::Break { clean }
    }

    /// There is no connection because of `reason`. If this is an error, its message begins with
    /// `error`.
    fn disconnected(
        &mut self,
        reason: String,
        error: Option<&str>,
        now: Duration,
    ) -> ConnectState<T> {
        let Reconnect::After(retry_in) = self.reconnect else {
            let error = error.map(|error| format!("{error} {}: {reason}", self.name));
            let outcome = error.map(|message| Error::new(ErrorKind::Source, message));
            return ConnectState::Over { outcome };
        };
        if self.reported.as_ref() != Some(&reason) {
            self.reported = Some(reason.clone());
            self.port.report(NoticeKind::Waiting { reason, retry_in });
        }
        ConnectState::Idle {
            retry_at: now.saturating_add(retry_in),
        }
    }

    /// Reads the connection once. `None`: it is to be called again.
    fn read_connected(&mut self, buf: &mut [u8], now: Duration) -> Option<ReadOutcome> {
        let ConnectState::Connected { stream, failure } = &mut self.state else {
            return None;
        };
        match stream.read(buf) {
            Ok(0) => {
                let failure = failure.take();
                Some(self.lost(failure, now))
            }
            Ok(count) => {
                // An error that passed.
                failure.take_if(|cause| !is_reset(cause));
                self.look(&buf[..count]);
                Some(ReadOutcome::Bytes(count))
            }
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                failure.take_if(|cause| !is_reset(cause));
                self.is_stopped_early = false;
                Some(ReadOutcome::Nothing(Fill::Pending(None)))
            }
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => None,
            Err(_) if failure.is_some() => {
                let first = failure.take();
                Some(self.lost(first, now))
            }
            Err(cause) => {
                *failure = Some(cause);
                None
            }
        }
    }

    /// Reports data that does not begin like text, once per kind.
    fn look(&mut self, bytes: &[u8]) {
        if let Some(looks_like) = self.sniffer.look(bytes)
            && self.reported_kinds.insert(looks_like)
        {
            let peer = None;
            (self.port).report(NoticeKind::NotLines { peer, looks_like });
        }
    }
}

impl<T: ConnectTarget> Connector<T> {
    /// Reads once, if that does not block.
    pub(crate) fn read(&mut self, buf: &mut [u8], now: Duration) -> ReadOutcome {
        loop {
            let fill = match &self.state {
                ConnectState::Connected { .. } => self.read_connected(buf, now),
                ConnectState::Idle { retry_at } if now < *retry_at => {
                    Some(ReadOutcome::Nothing(Fill::Pending(Some(*retry_at))))
                }
                ConnectState::Over { outcome } => Some(ReadOutcome::Nothing(
                    outcome.clone().map_or(Fill::End, Fill::Failed),
                )),
                _ => self
                    .proceed(now)
                    .map(|at| ReadOutcome::Nothing(Fill::Pending(Some(at)))),
            };
            if let Some(fill) = fill {
                return fill;
            }
        }
    }
}

impl<T: ConnectTarget> Source for Connector<T> {
    fn start(&mut self, port: Port, _now: Duration) {
        self.port = port;
    }

    fn fill(&mut self, out: &mut Intake<'_>, now: Duration) -> Fill {
        read_once(out, |space| self.read(space, now))
    }

    fn drain(&mut self) -> usize {
        match self.state {
            // The connection may have been made, and bytes may have come, since it was last looked
            // at.
            ConnectState::Connected { .. } | ConnectState::Connecting { .. } => {
                self.is_stopped_early = true;
                limits::DRAIN_BYTES_MAX
            }
            _ => 0,
        }
    }

    /// What a graceful stop could not read, because the sender never paused, is lost: at least a
    /// part of one record.
    fn ended(&mut self) {
        let is_stopped_early = std::mem::take(&mut self.is_stopped_early);
        if let (true, ConnectState::Connected { stream, .. }) = (is_stopped_early, &self.state)
            && let bytes = stream.unread()
            && bytes != Some(0)
        {
            if let Some(bytes) = bytes {
                self.port.lost(1, bytes);
            }
            self.port.report(NoticeKind::Unread { bytes });
        }
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl<T: ConnectTarget> Drop for Connector<T> {
    /// A source that wraps this one may not forward [`ended`](Source::ended).
    fn drop(&mut self) {
        self.ended();
    }
}

/// Returns `true` if the other side tore the connection down. After it had ended its half, Linux
/// calls that a broken pipe.
fn is_reset(cause: &io::Error) -> bool {
    matches!(
        cause.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}
