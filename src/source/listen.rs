//! A listening source of connections, whatever their kind.
//!
//! Promise: whoever connects is accepted or told so at once by an end, but when the system is out of
//! descriptors: then clients wait, and are accepted soon after there are some; those that are connected
//! never notice. Refuses to know: addresses, what bytes mean, the clock.
//!
//! All connections are in one event queue of the source's own, which is in the reactor's as one
//! descriptor. Both report edges, so on each call the inner queue is emptied, and what it said is kept in
//! lists: who may have bytes, which listeners may have clients. A listener that could not be accepted
//! from stays in its list, and is tried again at a time.
//!
//! A graceful stop takes in who has connected, closes the listeners, ends our side of each connection,
//! which its sender sees as an end, and reads until all have ended theirs, for a limited time.
//!
//! Who is connected is read before anybody is accepted, so that one who has ended makes room for the next.

mod account;
mod options;
mod peers;
#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::net::{IpAddr, Shutdown};
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::error::{Error, ErrorKind, Result, describe};
use crate::limits;
use crate::source::clients::{Clients, Event, Filled};
use crate::source::dial::lower;
use crate::source::first_bytes::FirstBytes;
use crate::source::listen::account::LastPeers;
pub(crate) use crate::source::listen::options::{Options, listening_options};
use crate::source::listen::peers::Peers;
use crate::source::notice::Untold;
use crate::source::{Fill, Notice, Port};
use crate::split::{Delimiters, Rule};

/// Connections accepted in one call: reading gets its turn as well.
const ACCEPTS_PER_CALL: usize = 64;

/// Token of the first listener in the inner queue; connections have smaller ones.
const DOOR_TOKEN: usize = usize::MAX / 2;

/// What listens.
pub(crate) trait Door: mio::event::Source + Send {
    /// What it gives.
    type Stream: Read + mio::event::Source + Send;

    /// A connection that is waiting, and who it is.
    fn accept(&mut self) -> io::Result<(Self::Stream, Peer)>;

    /// Ends one side of a connection.
    fn shutdown(stream: &Self::Stream, how: Shutdown) -> io::Result<()>;
}

/// Who is at the other end of a connection.
pub(crate) struct Peer {
    /// As people are told.
    pub(crate) name: String,
    /// Absent where there are none.
    pub(crate) address: Option<IpAddr>,
}

/// See the module.
pub(crate) struct Listen<D: Door> {
    name: String,
    /// Each with whether somebody may be waiting.
    doors: Vec<(D, bool)>,
    /// Chosen before the start.
    pub(crate) options: Options,
    clients: Clients<Guest<D::Stream>>,
    connections_max: usize,
    /// The process's limit of descriptors, if there may be fewer connections because of it.
    lowered_by: Option<usize>,
    queue: Poll,
    events: Events,
    port: Option<Port>,
    failure: Option<io::Error>,
    /// The system would not give a connection: when to ask again.
    accept_again: Option<Duration>,
    peers: Peers,
    /// When somebody may have been silent for that long: never, while nobody is looked at.
    idle_look_at: Duration,
    refused: Untold,
    crowded: Untold,
    resets: Untold,
    long: Untold,
    idle: Untold,
    failed: Untold,
    /// Connections that were closed unread.
    refused_connections: u64,
    /// Bytes filled in.
    filled_bytes: u64,
    /// When who waits for an edge is looked at without one.
    look_at: Duration,
    /// What connections were said to look like, as a set.
    foreign_told: u8,
    /// Who caused the last of each.
    last_peers: LastPeers,
    drain: Option<Drain>,
}

/// A graceful stop.
struct Drain {
    /// Known from the first call.
    until: Option<Duration>,
    /// Of what may be read.
    bytes_left: usize,
}

/// A connection and who it is.
struct Guest<S> {
    stream: S,
    peer: Box<str>,
    address: Option<IpAddr>,
    /// When it came, or was read something from.
    heard_at: Duration,
    first: FirstBytes,
}

impl<S: Read> Read for Guest<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buf)
    }
}

impl<D: Door> Listen<D> {
    /// Takes in who connects to `doors`.
    pub(crate) fn new(name: String, doors: Vec<D>) -> Result<Self> {
        let refused = |cause: io::Error| {
            let message = format!("cannot listen on {name}: {}", describe(&cause));
            Error::new(ErrorKind::System, message)
        };
        let queue = Poll::new().map_err(refused)?;
        let mut doors: Vec<(D, bool)> = doors.into_iter().map(|door| (door, true)).collect();
        for (index, (door, _)) in doors.iter_mut().enumerate() {
            let token = Token(DOOR_TOKEN + index);
            let registry = queue.registry();
            (registry.register(door, token, Interest::READABLE)).map_err(refused)?;
        }
        let options = Options::default();
        Ok(Listen {
            name,
            doors,
            clients: Clients::new(options.record_bytes_max, options.held_bytes_max),
            options,
            connections_max: limits::CONNECTIONS_DEFAULT,
            lowered_by: None,
            queue,
            events: Events::with_capacity(256),
            port: None,
            failure: None,
            accept_again: None,
            peers: Peers::default(),
            idle_look_at: Duration::MAX,
            refused: Untold::default(),
            crowded: Untold::default(),
            resets: Untold::default(),
            long: Untold::default(),
            idle: Untold::default(),
            failed: Untold::default(),
            refused_connections: 0,
            filled_bytes: 0,
            look_at: Duration::ZERO,
            foreign_told: 0,
            last_peers: LastPeers::default(),
            drain: None,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// From here on the options do not change. `descriptors` is how many the process may have.
    pub(crate) fn start(&mut self, port: Port, descriptors: Option<usize>) {
        let options = &self.options;
        self.clients = Clients::new(options.record_bytes_max, options.held_bytes_max);
        let Delimiters { rule, line_ends } = port.delimiters();
        self.clients.cut_at(rule, line_ends);
        self.peers = Peers::new(options.connections_per_peer_max);
        let asked = options.connections_max;
        self.connections_max = asked.unwrap_or(limits::CONNECTIONS_DEFAULT);
        if let Err(cause) = port.register(&mut SourceFd(&self.queue.as_raw_fd())) {
            self.failure = Some(cause);
        }
        if let Some(descriptors) = descriptors {
            let allowed = descriptors
                .saturating_sub(limits::DESCRIPTORS_SPARED)
                .max(1);
            if allowed < self.connections_max {
                if let Some(asked) = asked {
                    port.tell(Notice::Lowered {
                        source: self.name.clone(),
                        asked,
                        connections_max: allowed,
                        descriptors,
                    });
                }
                self.connections_max = allowed;
                self.lowered_by = Some(descriptors);
            }
        }
        self.port = Some(port);
    }

    pub(crate) fn fill(&mut self, buf: &mut [u8], now: Duration) -> Fill {
        if let Err(cause) = self.failure.take().map_or_else(|| self.collect(), Err) {
            return Fill::Failed(Error::input(&self.name, &cause));
        }
        self.end_idle(now);
        self.look_again(now);
        let filled = self.read(buf, now);
        self.account(filled);
        // Afterwards: what is there is given a chance, however short the time is.
        self.end_in_time(now);
        self.accept(now);
        self.tell_due(now);
        let at_once = match filled {
            Filled::Bytes(count) => {
                if let Some(drain) = &mut self.drain {
                    drain.bytes_left = drain.bytes_left.saturating_sub(count);
                }
                return Fill::Bytes(count);
            }
            Filled::Again => true,
            Filled::Idle => {
                let is_accepting = self.accept_again.is_none();
                self.clients.has_ready() || is_accepting && self.doors.iter().any(|door| door.1)
            }
        };
        match self.drain.as_ref().and_then(|drain| drain.until) {
            // After a share of reading a last line may be on its way still.
            Some(_) if filled == Filled::Idle && self.clients.count() == 0 => Fill::End,
            Some(until) => Fill::Finishing(if at_once { now } else { until }),
            None if at_once => Fill::Pending(Some(now)),
            None => {
                let timers = self.untold().into_iter().filter_map(Untold::due_at);
                let look_at = Some(self.idle_look_at).filter(|&at| at < Duration::MAX);
                Fill::Pending(timers.chain(self.accept_again).chain(look_at).min())
            }
        }
    }

    /// In a graceful stop: ends who did not end in time.
    fn end_in_time(&mut self, now: Duration) {
        let Some(drain) = &mut self.drain else {
            return;
        };
        let until = (drain.until).get_or_insert(now.saturating_add(self.options.drain_wait));
        if (now >= *until || drain.bytes_left == 0)
            && self.clients.count() > 0
            && let Some(cut_off) = self.clients.end()
        {
            // There is nothing more to wait for: they are closed as soon as it is asked for more.
            *until = now;
            self.tell(Notice::Unfinished {
                source: self.name.clone(),
                clients: self.clients.count(),
                cut_off,
            });
        }
    }

    /// Closes who was silent for too long, if it is time to look. Those who may have something are not: edges
    /// of all that came by now were collected, and it may be we who did not read.
    fn end_idle(&mut self, now: Duration) {
        let Some(timeout) = self.options.idle_timeout else {
            return;
        };
        if now < self.idle_look_at || self.drain.is_some() {
            return;
        }
        // Nobody, nothing to look at.
        let mut next = Duration::MAX;
        let (idle, last) = (&mut self.idle, &mut self.last_peers.idle);
        self.clients.end_idle(|guest| {
            let until = guest.heard_at.saturating_add(timeout);
            if until <= now {
                idle.add(0);
                *last = guest.peer.to_string();
                return true;
            }
            next = next.min(until);
            false
        });
        let pause = (timeout / limits::IDLE_LOOKS).max(Duration::from_millis(1));
        let soon = now.saturating_add(pause);
        self.idle_look_at = if self.clients.has_ready() {
            soon
        } else {
            next.max(soon)
        };
    }

    /// A graceful stop: see [`Source::drain`](crate::Source::drain).
    pub(crate) fn drain(&mut self) -> usize {
        // Who is in the queue of a listener has connected, and may have sent all it has to send.
        let waiting = self.doors.len() * limits::BACKLOG as usize;
        let _ = self.collect();
        // Where the system would give no connection it is asked once more.
        self.accept_again = self.accept_again.map(|_| Duration::ZERO);
        for _ in 0..=waiting / ACCEPTS_PER_CALL {
            self.accept(Duration::ZERO);
        }
        self.accept_again = None;
        self.doors.clear();
        for guest in self.clients.connections() {
            // One that is gone is found out when it is read.
            let _ = D::shutdown(&guest.stream, Shutdown::Write);
        }
        self.drain = Some(Drain {
            until: None,
            // The other half is for what is held of unfinished lines.
            bytes_left: limits::DRAIN_BYTES_MAX / 2,
        });
        limits::DRAIN_BYTES_MAX
    }

    /// Takes everything out of the inner queue.
    fn collect(&mut self) -> io::Result<()> {
        loop {
            match self.queue.poll(&mut self.events, Some(Duration::ZERO)) {
                Ok(()) => {}
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
                Err(cause) => return Err(cause),
            }
            let mut count = 0;
            for event in &self.events {
                count += 1;
                match event.token().0.checked_sub(DOOR_TOKEN) {
                    None => self.clients.on_ready(event.token().0),
                    Some(index) => {
                        if let Some(door) = self.doors.get_mut(index) {
                            door.1 = true;
                        }
                    }
                }
            }
            if count < self.events.capacity() {
                return Ok(());
            }
        }
    }

    /// Takes in who is waiting, a bounded number.
    fn accept(&mut self, now: Duration) {
        if self.accept_again.is_some_and(|at| now < at) {
            return;
        }
        let mut doors = std::mem::take(&mut self.doors);
        let (mut left, mut skipped) = (ACCEPTS_PER_CALL, 0);
        'doors: for (door, may_have) in &mut doors {
            while *may_have && left > 0 {
                left -= 1;
                match door.accept() {
                    Ok((stream, peer)) => {
                        if self.accept_again.take().is_some() {
                            self.tell(Notice::Accepted {
                                source: self.name.clone(),
                            });
                        }
                        if let Err(cause) = self.admit(stream, peer, now) {
                            self.wait(&cause, now);
                            break 'doors;
                        }
                    }
                    Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => *may_have = false,
                    // It may be that every one has it.
                    Err(cause) if is_of_one(&cause) && skipped + 1 < ACCEPTS_PER_CALL => {
                        skipped += 1
                    }
                    Err(cause) => {
                        self.wait(&cause, now);
                        break 'doors;
                    }
                }
            }
        }
        self.doors = doors;
    }

    /// One more connection, if there may be one more.
    fn admit(&mut self, stream: D::Stream, peer: Peer, now: Duration) -> io::Result<()> {
        if self.clients.count() >= self.connections_max {
            self.last_peers.refused = peer.name;
            self.refused.add(0);
            self.refused_connections += 1;
            return Ok(()); // Closed here.
        }
        if !self.peers.has_place(peer.address) {
            self.last_peers.crowded = peer.name;
            self.crowded.add(0);
            self.refused_connections += 1;
            return Ok(());
        }
        let mut stream = stream;
        let token = Token(self.clients.next_number());
        let registry = self.queue.registry();
        registry.register(&mut stream, token, Interest::READABLE)?;
        self.peers.add(peer.address);
        self.clients.add(Guest {
            stream,
            peer: peer.name.into(),
            address: peer.address,
            heard_at: now,
            first: FirstBytes::default(),
        });
        if let Some(timeout) = self.options.idle_timeout {
            self.idle_look_at = self.idle_look_at.min(now.saturating_add(timeout));
        }
        Ok(())
    }

    /// The system cannot give a connection now.
    fn wait(&mut self, cause: &io::Error, now: Duration) {
        if self.accept_again.is_none() {
            self.tell(Notice::Unaccepted {
                source: self.name.clone(),
                reason: describe(cause),
            });
        }
        let pause = Duration::from_millis(limits::ACCEPT_AGAIN_MS);
        self.accept_again = Some(now.saturating_add(pause));
    }

    fn read(&mut self, buf: &mut [u8], now: Duration) -> Filled {
        let (resets, long, last) = (&mut self.resets, &mut self.long, &mut self.last_peers);
        let failed = &mut self.failed;
        let (peers, foreign_told) = (&mut self.peers, &mut self.foreign_told);
        let mut has_left = false;
        let mut foreign = Vec::new();
        let filled = self.clients.fill(buf, &mut |event| match event {
            Event::Received { connection, bytes } => {
                connection.heard_at = now;
                if let Some(what) = connection.first.look(bytes)
                    && *foreign_told & what.bit() == 0
                {
                    *foreign_told |= what.bit();
                    foreign.push((connection.peer.to_string(), what));
                }
            }
            Event::LongLine(guest) => {
                long.add(0);
                last.long = guest.peer.to_string();
            }
            Event::Closed {
                connection,
                cause,
                lost_bytes,
            } => {
                has_left = true;
                peers.remove(connection.address);
                match cause {
                    Some(_) if lost_bytes > 0 => {
                        resets.add(lost_bytes as u64);
                        last.reset = connection.peer.into();
                    }
                    Some(cause) => {
                        failed.add(0);
                        last.failed = connection.peer.into();
                        last.cause = lower(&cause);
                    }
                    None => {}
                }
            }
        });
        if has_left && let Some(at) = &mut self.accept_again {
            // Its descriptor is free: who waits may have it at once.
            *at = Duration::ZERO;
        }
        for (peer, looks_like) in foreign {
            self.tell(Notice::NotLines {
                source: self.name.clone(),
                peer: Some(peer),
                looks_like,
            });
        }
        filled
    }

    fn untold(&self) -> [&Untold; 6] {
        [
            &self.failed,
            &self.refused,
            &self.crowded,
            &self.resets,
            &self.long,
            &self.idle,
        ]
    }

    /// Tells what happened since it was told last, if that is long enough ago.
    fn tell_due(&mut self, now: Duration) {
        if let Some((clients, _)) = self.refused.take(now) {
            self.tell(Notice::Refused {
                source: self.name.clone(),
                peer: self.last_peers.refused.clone(),
                clients,
                connections_max: self.connections_max,
                descriptors: self.lowered_by,
            });
        }
        if let Some((clients, _)) = self.crowded.take(now) {
            self.tell(Notice::RefusedOfPeer {
                source: self.name.clone(),
                peer: self.last_peers.crowded.clone(),
                clients,
                connections_per_peer_max: self.peers.connections_max().unwrap_or_default(),
            });
        }
        if let Some((clients, _)) = self.idle.take(now) {
            self.tell(Notice::Idle {
                source: self.name.clone(),
                peer: self.last_peers.idle.clone(),
                clients,
                idle_timeout: self.options.idle_timeout.unwrap_or_default(),
            });
        }
        self.tell_failed(now);
        if let Some((connections, bytes)) = self.resets.take(now) {
            let name = &self.name;
            self.tell(match connections {
                1 => Notice::Truncated {
                    source: format!("{name} from {}", self.last_peers.reset),
                    bytes,
                },
                _ => Notice::Resets {
                    source: name.clone(),
                    connections,
                    bytes,
                },
            });
        }
        if self.long.take(now).is_some() {
            let long = self.clients.long();
            self.tell(Notice::LongLines {
                source: self.name.clone(),
                peer: self.last_peers.long.clone(),
                lines: long.lines,
                bytes: long.bytes,
                record_bytes_max: self.options.record_bytes_max,
                is_word: self
                    .port
                    .as_ref()
                    .is_some_and(|port| port.delimiters().rule != Rule::Lines),
            });
        }
    }

    fn tell(&self, notice: Notice) {
        if let Some(port) = &self.port {
            port.tell(notice);
        }
    }
}

impl<D: Door> Drop for Listen<D> {
    /// What was not told for the sake of the pause is told now.
    fn drop(&mut self) {
        self.tell_due(Duration::MAX);
    }
}

/// Whether an error of `accept` is about the connection it would have given, which is gone with it:
/// the next one may be better. These are what Linux says of a connection that has an error already.
fn is_of_one(cause: &io::Error) -> bool {
    const EPROTO: i32 = 71;
    const ENOPROTOOPT: i32 = 92;
    const EOPNOTSUPP: i32 = 95;
    const EHOSTDOWN: i32 = 112;
    const ENONET: i32 = 64;
    matches!(
        cause.kind(),
        io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::TimedOut
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::PermissionDenied
    ) || matches!(
        cause.raw_os_error(),
        Some(EPROTO | ENOPROTOOPT | EOPNOTSUPP | EHOSTDOWN | ENONET)
    )
}
