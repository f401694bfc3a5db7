//! `tcp-client`: connects to a host and port and reads what it sends, as Spark's `socketTextStream`.
//!
//! Promise: refused, reset and ended connections are tried again, each time with the name resolved anew
//! and every address tried; two connections never share a line; nobody waits for the connection but
//! this source. Refuses to know: what the bytes mean, other sources, the clock.
//!
//! ```text
//!   Idle ──time──▶ Resolving ──addresses──▶ Connecting ──writable──▶ Connected
//!    ▲                 │                        │ next address           │
//!    └──── failed ─────┴──── none left ─────────┘◀──── end, reset ───────┘
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use mio::Interest;
use mio::net::TcpStream;
use socket2::{SockRef, TcpKeepalive};

use crate::error::{Error, ErrorKind, describe};
use crate::limits;
use crate::source::{Fill, Notice, Port, Source};

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

/// A TCP connection made as a client, made again when it is lost.
pub struct TcpClient {
    host: String,
    port_number: u16,
    name: String,
    reconnect: Reconnect,
    port: Option<Port>,
    state: State,
    /// Reason of the last `Waiting` notice, so that people are told of changes and not of attempts.
    told: Option<String>,
}

enum State {
    Idle {
        retry_at: Duration,
    },
    Resolving {
        answer: Receiver<io::Result<Vec<SocketAddr>>>,
        deadline: Duration,
    },
    Connecting {
        stream: TcpStream,
        others: VecDeque<SocketAddr>,
        deadline: Duration,
    },
    Connected {
        stream: TcpStream,
        /// It was reset before anybody looked. What came before can still be read; asking for the reset
        /// took it off the socket, so that what then looks like a clean end is this.
        reset: Option<io::Error>,
    },
    /// Told not to reconnect, and the connection is over.
    Over {
        outcome: Option<Error>,
    },
}

impl TcpClient {
    /// A client of `host`, a name or an address, and `port`.
    pub fn new(host: &str, port: u16, reconnect: Reconnect) -> Self {
        TcpClient {
            host: host.to_owned(),
            port_number: port,
            name: format!("tcp://{}:{port}", shown(host)),
            reconnect,
            port: None,
            state: State::Idle {
                retry_at: Duration::ZERO,
            },
            told: None,
        }
    }

    fn resolve(&self, now: Duration) -> State {
        let (sender, answer) = channel();
        let target = (self.host.clone(), self.port_number);
        let waker = self.port.as_ref().map(Port::waker);
        let deadline = now + Duration::from_millis(limits::CONNECT_MS_MAX);
        if let Ok(address) = self.host.parse::<IpAddr>() {
            // The receiver is two lines below, so sending cannot fail.
            let _ = sender.send(Ok(vec![SocketAddr::new(address, self.port_number)]));
            return State::Resolving { answer, deadline };
        }
        // Resolving blocks, on some networks for seconds: on a thread of its own, for each attempt anew.
        let lookup = move || {
            let addresses = target.to_socket_addrs().map(Iterator::collect);
            // Nobody listens when the attempt was given up.
            let _ = sender.send(addresses);
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

    fn connect(&mut self, mut addresses: VecDeque<SocketAddr>, now: Duration) -> io::Result<State> {
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

    fn open(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(address)?;
        keep_alive(&stream);
        if let Some(port) = &self.port {
            port.register_for(&mut stream, Interest::READABLE | Interest::WRITABLE)?;
        }
        Ok(stream)
    }

    /// An attempt failed.
    fn give_up(&mut self, reason: String, now: Duration) -> State {
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
                let source = self.name.clone();
                port.tell(Notice::Waiting {
                    source,
                    reason,
                    retry_in,
                });
            }
        }
    }
}

impl fmt::Debug for TcpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpClient")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Source for TcpClient {
    fn start(&mut self, port: Port, _now: Duration) {
        self.port = Some(port);
    }

    fn fill(&mut self, buf: &mut [u8], now: Duration) -> Fill {
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
                        let reason = format!("cannot resolve {:?}: {}", self.host, lookup(&cause));
                        self.state = self.give_up(reason, now);
                    }
                    Err(TryRecvError::Empty) if now < deadline => {
                        self.state = State::Resolving { answer, deadline };
                        return Fill::Pending(Some(deadline));
                    }
                    Err(_) => {
                        let reason = format!("cannot resolve {:?}: no answer", self.host);
                        self.state = self.give_up(reason, now);
                    }
                },
                State::Connecting {
                    stream,
                    others,
                    deadline,
                } => {
                    let mut reset = None;
                    let failure = match stream.take_error() {
                        // Only what was connected can be reset: what does not listen refuses.
                        Ok(Some(cause)) if is_reset(&cause) => {
                            reset = Some(cause);
                            None
                        }
                        Ok(Some(cause)) | Err(cause) => Some(cause),
                        Ok(None) => match stream.peer_addr() {
                            Ok(_) => None,
                            Err(_) if now < deadline => {
                                self.state = State::Connecting {
                                    stream,
                                    others,
                                    deadline,
                                };
                                return Fill::Pending(Some(deadline));
                            }
                            Err(_) => Some(io::ErrorKind::TimedOut.into()),
                        },
                    };
                    self.state = match failure {
                        None => {
                            if self.told.take().is_some()
                                && let Some(port) = &self.port
                            {
                                let source = self.name.clone();
                                port.tell(Notice::Connected { source });
                            }
                            State::Connected { stream, reset }
                        }
                        Some(cause) if others.is_empty() => self.give_up(lower(&cause), now),
                        Some(cause) => match self.connect(others, now) {
                            Ok(state) => state,
                            Err(_) => self.give_up(lower(&cause), now),
                        },
                    };
                }
                State::Connected { mut stream, reset } => match stream.read(buf) {
                    Ok(0) => {
                        return match reset {
                            Some(cause) => self.lost(lower(&cause), false, now),
                            None => {
                                let reason = "the sender closed the connection".to_owned();
                                self.lost(reason, true, now)
                            }
                        };
                    }
                    Ok(count) => {
                        self.state = State::Connected { stream, reset };
                        return Fill::Bytes(count);
                    }
                    Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                        self.state = State::Connected { stream, reset };
                        return Fill::Pending(None);
                    }
                    Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {
                        self.state = State::Connected { stream, reset };
                    }
                    Err(cause) => return self.lost(lower(&cause), false, now),
                },
                State::Over { outcome } => {
                    let end = outcome.clone().map_or(Fill::End, Fill::Failed);
                    self.state = State::Over { outcome };
                    return end;
                }
            }
        }
    }

    fn drain(&mut self) -> usize {
        match self.state {
            // The connection may have been made, and bytes may have come, since it was last looked at.
            State::Connected { .. } | State::Connecting { .. } => limits::DRAIN_BYTES_MAX,
            _ => 0,
        }
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// A peer whose cable was pulled is noticed after about two minutes.
pub(crate) fn keep_alive(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10))
        .with_retries(6);
    // Without it only that notice is missing.
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// A host as URLs have it.
pub(crate) fn shown(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
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
fn lower(cause: &io::Error) -> String {
    let text = describe(cause);
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => "unknown error".to_owned(),
    }
}

/// The resolver's own words: std puts its own in front of them.
fn lookup(cause: &io::Error) -> String {
    let text = lower(cause);
    text.strip_prefix("failed to lookup address information: ")
        .map_or(text.clone(), str::to_owned)
}
