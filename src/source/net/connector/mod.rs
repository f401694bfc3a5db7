//! A connection made as a client, whatever its kind.
//!
//! Promise: refused, reset and ended connections are tried again, each time with the name resolved anew
//! and every address tried; two connections never share a line; nobody waits for the connection but
//! this source. Must not know: what the bytes mean, other sources, the clock.
//!
//! ```text
//!   Idle ──time──▶ Resolving ──addresses──▶ Connecting ──writable──▶ Connected
//!    ▲                 │                        │ next address           │
//!    └──── failed ─────┴──── none left ─────────┘◀──── end, reset ───────┘
//! ```
//!
//! A read that fails is repeated once before the connection is given up: what has arrived is still read, and
//! an error that passes, such as a kernel that was short of memory, costs nothing.

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

use crate::error::{Error, ErrorKind, describe};
use crate::limits;
use crate::notice::NoticeKind;
use crate::source::sniff::FirstBytes;
use crate::source::{Fill, Port};

/// What is connected to.
pub(crate) trait Endpoint: Send {
    /// One place at which it may be found.
    type Address: Send + 'static;
    /// A connection.
    type Stream: Read + mio::event::Source + Send;

    /// Its addresses, or what finds them out, which may take long.
    fn lookup(&self) -> Lookup<Self::Address>;

    /// Why there are no addresses.
    fn unresolved(&self, cause: Option<&io::Error>) -> String;

    /// Begins to connect.
    fn open(&self, address: Self::Address) -> io::Result<Self::Stream>;

    /// The error that the connection has.
    fn take_error(stream: &Self::Stream) -> io::Result<Option<io::Error>>;

    /// Whether the connection was made.
    fn is_made(stream: &Self::Stream) -> bool;

    /// Bytes that have arrived and were not read, if the kernel reports it.
    fn unread(_stream: &Self::Stream) -> Option<u64> {
        None
    }
}

/// See [`Endpoint::lookup`].
pub(crate) enum Lookup<A> {
    Known(A),
    Ask(Box<dyn FnOnce() -> io::Result<Vec<A>> + Send>),
}

/// What to do when there is no connection, or none any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnect {
    /// Try for ever, with that pause between two attempts.
    After(Duration),
    /// A connection that cannot be made or is reset is an error; its clean end ends the source.
    Never,
}

impl Default for Reconnect {
    /// Every 2 seconds, as Spark's receivers do.
    fn default() -> Self {
        Reconnect::After(Duration::from_millis(limits::RECONNECT_MS_DEFAULT))
    }
}

/// See the module.
pub(crate) struct Connector<T: Endpoint> {
    target: T,
    name: String,
    reconnect: Reconnect,
    port: Option<Port>,
    state: State<T>,
    /// Reason of the last `Waiting` notice, so that people are told of changes and not of attempts.
    told: Option<String>,
    /// Of the connection there is.
    first: FirstBytes,
    /// What connections were said to look like, as a set.
    foreign_told: u8,
    /// A graceful stop has not found the connection without bytes yet.
    is_stopped_early: bool,
}

enum State<T: Endpoint> {
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
        /// It was reset before anybody looked, or the last read failed. What came before can still be read;
        /// asking for the error took it off the socket, so that what then looks like a clean end is this.
        failure: Option<io::Error>,
    },
    /// Told not to reconnect, and the connection is over.
    Over {
        outcome: Option<Error>,
    },
}

impl<T: Endpoint> Connector<T> {
    /// Connects to `target`, called `name`.
    pub(crate) fn new(target: T, name: String, reconnect: Reconnect) -> Self {
        Connector {
            target,
            name,
            reconnect,
            port: None,
            state: State::Idle {
                retry_at: Duration::ZERO,
            },
            told: None,
            first: FirstBytes::default(),
            foreign_told: 0,
            is_stopped_early: false,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn resolve(&self, now: Duration) -> State<T> {
        let (sender, answer) = channel();
        let waker = self.port.as_ref().map(Port::waker);
        let deadline = now + Duration::from_millis(limits::CONNECT_MS_MAX);
        let ask = match self.target.lookup() {
            Lookup::Known(address) => {
                // The receiver is above, so sending cannot fail.
                let _ = sender.send(Ok(vec![address]));
                return State::Resolving { answer, deadline };
            }
            Lookup::Ask(ask) => ask,
        };
        // Resolving blocks, on some networks for seconds: on a thread of its own, for each attempt anew.
        let lookup = move || {
            // Nobody listens when the attempt was given up.
            let _ = sender.send(ask());
            if let Some(waker) = waker {
                waker.wake();
            }
        };
        let spawned = thread::Builder::new()
            .name("mt-resolve".to_owned())
            .spawn(lookup);
        match spawned {
            Ok(_) => State::Resolving { answer, deadline },
            // The sender is gone with the closure: the next look finds that out.
            Err(_) => State::Resolving {
                answer,
                deadline: now,
            },
        }
    }

    fn connect(
        &mut self,
        mut addresses: VecDeque<T::Address>,
        now: Duration,
    ) -> io::Result<State<T>> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        while let Some(address) = addresses.pop_front() {
            match self.open(address) {
                Ok(stream) => {
                    let deadline = now + Duration::from_millis(limits::CONNECT_MS_MAX);
                    return Ok(State::Connecting {
                        stream,
                        others: addresses,
                        deadline,
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn open(&self, address: T::Address) -> io::Result<T::Stream> {
        let mut stream = self.target.open(address)?;
        if let Some(port) = &self.port {
            port.register_for(&mut stream, Interest::READABLE | Interest::WRITABLE)?;
        }
        Ok(stream)
    }

    /// An attempt failed.
    fn give_up(&mut self, reason: String, now: Duration) -> State<T> {
        match self.reconnect {
            Reconnect::After(pause) => {
                self.tell_waiting(reason, pause);
                State::Idle {
                    retry_at: now.saturating_add(pause),
                }
            }
            Reconnect::Never => {
                let message = format!("cannot connect to {}: {reason}", self.name);
                State::Over {
                    outcome: Some(Error::new(ErrorKind::Source, message)),
                }
            }
        }
    }

    /// The connection ended.
    fn lost(&mut self, reason: String, clean: bool, now: Duration) -> Fill {
        self.state = match self.reconnect {
            Reconnect::After(pause) => {
                self.tell_waiting(reason, pause);
                State::Idle {
                    retry_at: now.saturating_add(pause),
                }
            }
            Reconnect::Never if clean => State::Over { outcome: None },
            Reconnect::Never => {
                let message = format!("lost {}: {reason}", self.name);
                State::Over {
                    outcome: Some(Error::new(ErrorKind::Source, message)),
                }
            }
        };
        Fill::Break { clean }
    }

    fn tell_waiting(&mut self, reason: String, retry_in: Duration) {
        if self.told.as_ref() != Some(&reason) {
            self.told = Some(reason.clone());
            if let Some(port) = &self.port {
                port.report(NoticeKind::Waiting { reason, retry_in });
            }
        }
    }

    /// Tells of bytes that begin no text, once a kind.
    fn look(&mut self, bytes: &[u8]) {
        if let Some(looks_like) = self.first.look(bytes)
            && self.foreign_told & looks_like.bit() == 0
        {
            self.foreign_told |= looks_like.bit();
            if let Some(port) = &self.port {
                port.report(NoticeKind::NotLines {
                    peer: None,
                    looks_like,
                });
            }
        }
    }

    pub(crate) fn start(&mut self, port: Port) {
        self.port = Some(port);
    }

    /// See [`Source::fill`](crate::Source::fill).
    pub(crate) fn fill(&mut self, buf: &mut [u8], now: Duration) -> Fill {
        loop {
            let state = std::mem::replace(
                &mut self.state,
                State::Idle {
                    retry_at: Duration::MAX,
                },
            );
            match state {
                State::Idle { retry_at } if now < retry_at => {
                    self.state = State::Idle { retry_at };
                    return Fill::Pending(Some(retry_at));
                }
                State::Idle { .. } => self.state = self.resolve(now),
                State::Resolving { answer, deadline } => match answer.try_recv() {
                    Ok(Ok(addresses)) => {
                        self.state = match self.connect(addresses.into(), now) {
                            Ok(state) => state,
                            Err(cause) => self.give_up(lower(&cause), now),
                        };
                    }
                    Ok(Err(cause)) => {
                        let reason = self.target.unresolved(Some(&cause));
                        self.state = self.give_up(reason, now);
                    }
                    Err(TryRecvError::Empty) if now < deadline => {
                        self.state = State::Resolving { answer, deadline };
                        return Fill::Pending(Some(deadline));
                    }
                    Err(_) => {
                        let reason = self.target.unresolved(None);
                        self.state = self.give_up(reason, now);
                    }
                },
                State::Connecting {
                    stream,
                    others,
                    deadline,
                } => {
                    let mut reset = None;
                    let cause = match T::take_error(&stream) {
                        // Only what was connected can be reset: what does not listen refuses.
                        Ok(Some(cause)) if is_reset(&cause) => {
                            reset = Some(cause);
                            None
                        }
                        Ok(Some(cause)) | Err(cause) => Some(cause),
                        Ok(None) => match T::is_made(&stream) {
                            true => None,
                            false if now < deadline => {
                                self.state = State::Connecting {
                                    stream,
                                    others,
                                    deadline,
                                };
                                return Fill::Pending(Some(deadline));
                            }
                            false => Some(io::ErrorKind::TimedOut.into()),
                        },
                    };
                    self.state = match cause {
                        None => {
                            if self.told.take().is_some()
                                && let Some(port) = &self.port
                            {
                                port.report(NoticeKind::Connected);
                            }
                            self.first = FirstBytes::default();
                            State::Connected {
                                stream,
                                failure: reset,
                            }
                        }
                        Some(cause) if others.is_empty() => self.give_up(lower(&cause), now),
                        Some(cause) => match self.connect(others, now) {
                            Ok(state) => state,
                            Err(_) => self.give_up(lower(&cause), now),
                        },
                    };
                }
                State::Connected {
                    mut stream,
                    failure,
                } => match stream.read(buf) {
                    Ok(0) => {
                        return match failure {
                            Some(cause) => self.lost(lower(&cause), false, now),
                            None => {
                                let reason = "the sender closed the connection".to_owned();
                                self.lost(reason, true, now)
                            }
                        };
                    }
                    Ok(count) => {
                        self.look(&buf[..count]);
                        let failure = failure.filter(is_reset);
                        self.state = State::Connected { stream, failure };
                        return Fill::Bytes(count);
                    }
                    Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                        self.is_stopped_early = false;
                        // An error that passed.
                        let failure = failure.filter(is_reset);
                        self.state = State::Connected { stream, failure };
                        return Fill::Pending(None);
                    }
                    Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {
                        self.state = State::Connected { stream, failure };
                    }
                    Err(cause) => match failure {
                        None => {
                            let failure = Some(cause);
                            self.state = State::Connected { stream, failure };
                        }
                        Some(first) => return self.lost(lower(&first), false, now),
                    },
                },
                State::Over { outcome } => {
                    let end = outcome.clone().map_or(Fill::End, Fill::Failed);
                    self.state = State::Over { outcome };
                    return end;
                }
            }
        }
    }

    /// See [`Source::drain`](crate::Source::drain).
    pub(crate) fn drain(&mut self) -> usize {
        match self.state {
            // The connection may have been made, and bytes may have come, since it was last looked at.
            State::Connected { .. } | State::Connecting { .. } => {
                self.is_stopped_early = true;
                limits::DRAIN_BYTES_MAX
            }
            _ => 0,
        }
    }

    /// See [`Source::ended`](crate::Source::ended). What a graceful stop could not read, because the sender never
    /// paused, is lost: at least a part of one record.
    pub(crate) fn ended(&mut self) {
        let is_stopped_early = std::mem::take(&mut self.is_stopped_early);
        if let (true, State::Connected { stream, .. }) = (is_stopped_early, &self.state)
            && let Some(port) = &self.port
            && let bytes = T::unread(stream)
            && bytes != Some(0)
        {
            if let Some(bytes) = bytes {
                port.lost(1, bytes);
            }
            port.report(NoticeKind::Unread { bytes });
        }
    }
}

impl<T: Endpoint> Drop for Connector<T> {
    /// Whoever wraps the source need not forward [`ended`](crate::Source::ended).
    fn drop(&mut self) {
        self.ended();
    }
}

/// Whether the other side tore the connection down; after it had ended its half, Linux calls that a
/// broken pipe.
fn is_reset(cause: &io::Error) -> bool {
    matches!(
        cause.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// The system's sentence, as a part of a longer one.
pub(crate) fn lower(cause: &io::Error) -> String {
    let text = describe(cause);
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => "unknown error".to_owned(),
    }
}
