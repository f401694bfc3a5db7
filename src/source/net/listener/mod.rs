//! A listening source of connections, whatever their kind.
//!
//! Promise: whoever connects is accepted, or refused by an end if all who may be connected are alive. Clients
//! wait while there may be a place for them soon: somebody has ended and is not read to the end yet, or the
//! system is out of descriptors. Those that are connected never notice. Must not know: addresses, what bytes
//! mean, the clock.
//!
//! All connections are in one event queue of the source's own, which is in the reactor's as one
//! descriptor. Both report edges, so on each call the inner queue is emptied, and what it said is kept in
//! lists: who may have bytes, which listeners may have clients. A listener that could not be accepted
//! from stays in its list, and is tried again at a time.
//!
//! A graceful stop takes in who has connected, closes the listeners, ends our side of each connection,
//! which its sender sees as an end, and reads until all have ended theirs, for a limited time.
//!
//! Who is connected is read before anybody is accepted, so that one who has ended makes room for the next. The
//! event queue says who has ended, bytes or none, so nobody is refused because of a connection that is over:
//! the newcomer is held back and the others stay in the kernel's queue until there is a place.

mod account;
mod drain;
mod incidents;
mod options;
mod per_address_limit;
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
use crate::notice::NoticeKind;
use crate::source::net::connection_set::{ConnectionSet, Event, Filled};
use crate::source::net::connector::lower;
use crate::source::net::listener::drain::Drain;
use crate::source::net::listener::incidents::Incidents;
pub(crate) use crate::source::net::listener::options::{Options, listening_options};
use crate::source::net::listener::per_address_limit::PerAddressLimit;
use crate::source::sniff::FirstBytes;
use crate::source::{Fill, Port};
use crate::split::{Delimiters, Rule};
use crate::sys::proc::Descriptors;

/// Connections accepted in one call: reading gets its turn as well.
const ACCEPTS_PER_CALL: usize = 64;

/// Token of the first listener in the inner queue; connections have smaller ones.
const DOOR_TOKEN: usize = usize::MAX / 2;

/// What listens.
pub(crate) trait Acceptor: mio::event::Source + Send {
    /// What it gives.
    type Stream: Read + mio::event::Source + Send;

    /// A connection that is waiting, and who it is.
    fn accept(&mut self) -> io::Result<(Self::Stream, Peer)>;

    /// Ends one side of a connection.
    fn shutdown(stream: &Self::Stream, how: Shutdown) -> io::Result<()>;

    /// Bytes of a connection that have arrived and were not read, if the kernel reports it.
    fn unread(stream: &Self::Stream) -> Option<u64>;
}

/// Who is at the other end of a connection.
pub(crate) struct Peer {
    /// As people are told.
    pub(crate) name: String,
    /// Absent where there are none.
    pub(crate) address: Option<IpAddr>,
}

/// See the module.
pub(crate) struct Listener<D: Acceptor> {
    name: String,
    /// Each with whether somebody may be waiting.
    doors: Vec<(D, bool)>,
    /// Chosen before the start.
    pub(crate) options: Options,
    clients: ConnectionSet<Connection<D::Stream>>,
    connections_max: usize,
    /// The process's limit of descriptors, if there may be fewer connections because of it.
    lowered_by: Option<usize>,
    queue: Poll,
    events: Events,
    port: Option<Port>,
    failure: Option<io::Error>,
    /// The system would not give a connection: when to ask again.
    accept_again: Option<Duration>,
    /// A client that was accepted and has no place yet. It is the next one to be connected.
    held_back: Option<(D::Stream, Peer)>,
    peers: PerAddressLimit,
    /// When somebody may have been silent for that long: never, while nobody is looked at.
    idle_look_at: Duration,
    incidents: Incidents,
    /// Connections that were closed unread.
    refused_connections: u64,
    /// Bytes filled in.
    filled_bytes: u64,
    /// When who waits for an edge is looked at without one.
    look_at: Duration,
    /// What connections were said to look like, as a set.
    foreign_told: u8,
    drain: Option<Drain>,
}

/// A connection and who it is.
struct Connection<S> {
    stream: S,
    peer: Box<str>,
    address: Option<IpAddr>,
    /// When it came, or was read something from.
    heard_at: Duration,
    first: FirstBytes,
}

impl<S: Read> Read for Connection<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buf)
    }
}

impl<D: Acceptor> Listener<D> {
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
        Ok(Listener {
            name,
            doors,
            clients: ConnectionSet::new(options.record_bytes_max, options.held_bytes_max),
            options,
            connections_max: limits::CONNECTIONS_DEFAULT,
            lowered_by: None,
            queue,
            events: Events::with_capacity(256),
            port: None,
            failure: None,
            accept_again: None,
            held_back: None,
            peers: PerAddressLimit::default(),
            idle_look_at: Duration::MAX,
            incidents: Incidents::default(),
            refused_connections: 0,
            filled_bytes: 0,
            look_at: Duration::ZERO,
            foreign_told: 0,
            drain: None,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// From here on the options do not change. `descriptors` is how many the process may have and has.
    pub(crate) fn start(&mut self, port: Port, descriptors: Option<Descriptors>) {
        let options = &self.options;
        self.clients = ConnectionSet::new(options.record_bytes_max, options.held_bytes_max);
        let Delimiters { rule, line_ends } = port.delimiters;
        self.clients.cut_at(rule, line_ends);
        let asked = options.connections_max;
        self.connections_max = asked.unwrap_or(limits::CONNECTIONS_DEFAULT);
        if let Err(cause) = port.register(&mut SourceFd(&self.queue.as_raw_fd())) {
            self.failure = Some(cause);
        }
        if let Some(descriptors) = descriptors {
            let allowed = descriptors.connections_max();
            if allowed < self.connections_max {
                if let Some(asked) = asked {
                    port.report(NoticeKind::Lowered {
                        asked,
                        connections_max: allowed,
                        descriptors: descriptors.max,
                    });
                }
                self.connections_max = allowed;
                self.lowered_by = Some(descriptors.max);
            }
        }
        self.peers = match self.options.connections_per_peer_max {
            None => {
                let share = self.connections_max / limits::CONNECTIONS_PEER_SHARE;
                PerAddressLimit::of_other_machines(share.max(limits::CONNECTIONS_PEER_MIN))
            }
            asked => PerAddressLimit::new(asked),
        };
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
                let may_have = self.held_back.is_some() || self.doors.iter().any(|door| door.1);
                self.clients.has_ready() || self.accept_again.is_none() && may_have
            }
        };
        match self.drain.as_ref().and_then(|drain| drain.until) {
            // After a share of reading a last line may be on its way still.
            Some(_) if filled == Filled::Idle && self.clients.count() == 0 => Fill::End,
            Some(until) => Fill::Finishing(if at_once { now } else { until }),
            None if at_once => Fill::Pending(Some(now)),
            None => {
                let look_at = Some(self.idle_look_at).filter(|&at| at < Duration::MAX);
                let timers = self.incidents.due_at().into_iter().chain(look_at);
                Fill::Pending(timers.chain(self.accept_again).min())
            }
        }
    }

    /// Closes who was silent for too long, if it is time to look. Those who may have something are not: edges
    /// of all that came by now were collected, and it may be we who did not read.
    fn end_idle(&mut self, now: Duration) {
        if now < self.idle_look_at || self.drain.is_some() {
            return;
        }
        // Nobody, nothing to look at.
        let mut next = Duration::MAX;
        let (idle, options) = (&mut self.incidents.idle, &self.options);
        self.clients.end_idle(|guest| {
            let until = options.silent_until(guest.address, guest.heard_at);
            if until <= now {
                idle.add(&guest.peer, 0);
                return true;
            }
            next = next.min(until);
            false
        });
        let pause = options.idle_timeout() / limits::IDLE_LOOKS;
        let soon = now.saturating_add(pause.max(Duration::from_millis(1)));
        self.idle_look_at = if self.clients.has_ready() {
            soon
        } else {
            next.max(soon)
        };
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
                    None if event.is_read_closed() => self.clients.on_ended(event.token().0),
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
        if let Some((stream, peer)) = self.held_back.take()
            && !self.admit(stream, peer, now)
        {
            return;
        }
        let (mut left, mut skipped, mut aborted) = (ACCEPTS_PER_CALL, 0, 0);
        'doors: for index in 0..self.doors.len() {
            while self.doors[index].1 && left > 0 {
                left -= 1;
                match self.doors[index].0.accept() {
                    Ok((stream, peer)) => {
                        if !self.admit(stream, peer, now) {
                            break 'doors;
                        }
                    }
                    Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                        self.doors[index].1 = false;
                    }
                    // It may be that every one has it.
                    Err(cause) if is_of_one(&cause) && skipped + 1 < ACCEPTS_PER_CALL => {
                        skipped += 1;
                        if cause.kind() != io::ErrorKind::Interrupted {
                            aborted += 1;
                            self.incidents.aborted_cause = lower(&cause);
                        }
                    }
                    Err(cause) => return self.wait(&cause, now),
                }
            }
        }
        (0..aborted).for_each(|_| self.incidents.aborted.add(0));
    }

    /// One more connection, if there may be one more. `false`: it is held back, and so are those behind it.
    fn admit(&mut self, stream: D::Stream, peer: Peer, now: Duration) -> bool {
        if !self.has_place(&peer) {
            // Whoever ended before this one came is known only now.
            if let Err(cause) = self.collect() {
                self.failure = Some(cause);
            }
            let is_full = self.clients.count() >= self.connections_max;
            let is_over = |guest: &Connection<D::Stream>| is_full || guest.address == peer.address;
            if self.drain.is_none() && self.clients.has_ended(is_over) {
                self.held_back = Some((stream, peer));
                return false;
            }
            if !self.has_place(&peer) {
                let incidents = &mut self.incidents;
                let incident = match is_full {
                    true => &mut incidents.refused,
                    false => &mut incidents.crowded,
                };
                incident.add(&peer.name, 0);
                self.refused_connections += 1;
                return true; // Closed here.
            }
        }
        let mut stream = stream;
        let token = Token(self.clients.next_number());
        let registry = self.queue.registry();
        if let Err(cause) = registry.register(&mut stream, token, Interest::READABLE) {
            self.held_back = Some((stream, peer));
            self.wait(&cause, now);
            return false;
        }
        if self.accept_again.take().is_some() {
            self.tell(NoticeKind::Accepted);
        }
        self.peers.add(peer.address);
        self.clients.add(Connection {
            stream,
            peer: peer.name.into(),
            address: peer.address,
            heard_at: now,
            first: FirstBytes::default(),
        });
        let silent_until = self.options.silent_until(peer.address, now);
        self.idle_look_at = self.idle_look_at.min(silent_until);
        true
    }

    /// Whether there is a place for one more. At a stop nobody can wait for one, so that of whoever has ended
    /// is free already.
    fn has_place(&self, peer: &Peer) -> bool {
        let is_stopping = self.drain.is_some();
        let ended = if is_stopping { self.clients.ended() } else { 0 };
        let is_it = |guest: &Connection<D::Stream>| guest.address == peer.address;
        self.clients.count() - ended < self.connections_max
            && (self.peers.has_place(peer.address) || is_stopping && self.clients.has_ended(is_it))
    }

    /// The system cannot give a connection now.
    fn wait(&mut self, cause: &io::Error, now: Duration) {
        let reason = describe(cause);
        if let Some(drain) = &mut self.drain {
            // Nobody can wait at a stop.
            drain.unaccepted = Some(reason);
        } else if self.accept_again.is_none() {
            self.tell(NoticeKind::Unaccepted { reason });
        }
        let pause = Duration::from_millis(limits::ACCEPT_AGAIN_MS);
        self.accept_again = Some(now.saturating_add(pause));
    }

    fn read(&mut self, buf: &mut [u8], now: Duration) -> Filled {
        let Incidents {
            resets,
            long,
            failed,
            failed_cause,
            ..
        } = &mut self.incidents;
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
            Event::LongLine(guest) => long.add(&guest.peer, 0),
            Event::Closed {
                connection,
                cause,
                is_half,
                lost_bytes,
            } => {
                has_left = true;
                peers.remove(connection.address);
                match cause {
                    Some(_) if is_half => resets.add(&connection.peer, lost_bytes as u64),
                    Some(cause) => {
                        failed.add(&connection.peer, 0);
                        *failed_cause = lower(&cause);
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
            self.tell(NoticeKind::NotLines {
                peer: Some(peer),
                looks_like,
            });
        }
        filled
    }

    /// Tells what happened since it was told last, if that is long enough ago.
    fn tell_due(&mut self, now: Duration) {
        let incidents = &mut self.incidents;
        let refused = incidents.refused.take(now).map(|sum| NoticeKind::Refused {
            peer: sum.peer,
            clients: sum.times,
            connections_max: self.connections_max,
            descriptors: self.lowered_by,
        });
        let crowded = (incidents.crowded.take(now)).map(|sum| NoticeKind::RefusedOfPeer {
            peer: sum.peer,
            clients: sum.times,
            connections_per_peer_max: self.peers.connections_max().unwrap_or_default(),
        });
        let idle = incidents.idle.take(now).map(|sum| NoticeKind::Idle {
            peer: sum.peer,
            clients: sum.times,
            idle_timeout: self.options.idle_timeout(),
        });
        let resets = incidents.resets.take(now).map(|sum| NoticeKind::Resets {
            peer: sum.peer,
            clients: sum.times,
            bytes: sum.bytes,
        });
        let failed = incidents.failed.take(now).map(|sum| NoticeKind::Broken {
            peer: sum.peer,
            clients: sum.times,
            reason: incidents.failed_cause.clone(),
        });
        let long = incidents.long.take(now).map(|sum| NoticeKind::LongLines {
            peer: sum.peer,
            lines: self.clients.long().lines,
            bytes: self.clients.long().bytes,
            record_bytes_max: self.options.record_bytes_max,
            is_word: (self.port.as_ref()).is_some_and(|port| port.delimiters.rule != Rule::Lines),
        });
        let aborted = (incidents.aborted.take(now)).map(|(connections, _)| NoticeKind::Aborted {
            connections,
            reason: incidents.aborted_cause.clone(),
        });
        for notice in [refused, crowded, idle, failed, resets, long, aborted]
            .into_iter()
            .flatten()
        {
            self.tell(notice);
        }
    }

    fn tell(&self, notice: NoticeKind) {
        if let Some(port) = &self.port {
            port.report(notice);
        }
    }
}

impl<D: Acceptor> Drop for Listener<D> {
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
