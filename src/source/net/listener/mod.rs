//! A listening source of connections of any kind.
//!
//! Promise: whoever connects is accepted, or closed at once if the limit is reached by live
//! connections. Clients wait while there may be a place for them soon: a connection has ended and
//! is not read to its end yet, or the system is out of descriptors. Connected clients never notice.
//! Must not know: engine.
//!
//! All connections are in an event queue of the source's own, which is in the reactor's as one
//! descriptor. Both report edges, so each call empties the inner queue and keeps what it reported
//! in lists: who may have bytes, which listeners may have clients. A listener that could not be
//! accepted from stays in its list, and is tried again after a pause.
//!
//! A graceful stop accepts who has connected, closes the listeners, and ends our side of each
//! connection, which its sender sees as an end. It reads until all have ended theirs, for a limited
//! time.
//!
//! Connections are read before new ones are accepted, so that one that has ended makes room for the
//! next. The event queue reports ends, with or without bytes before them, so nobody is refused
//! because of a connection that has ended: the new client is held back, and the others stay in the
//! kernel's queue until there is a place.

mod account;
mod drain;
mod incidents;
mod options;
mod per_address_limit;
#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::error::{Error, ErrorKind, Result, describe};
use crate::intake::ChannelLimits;
use crate::intake::{Dropped, Intake};
use crate::limits;
use crate::notice::NoticeKind;
use crate::source::net::bind;
use crate::source::net::connection_set::{ConnectionEvent, ConnectionSet, FillOutcome};
use crate::source::net::listener::drain::Drain;
use crate::source::net::listener::incidents::Incidents;
pub(crate) use crate::source::net::listener::options::{ListenOptions, listening_options};
use crate::source::net::listener::per_address_limit::PerAddressLimit;
use crate::source::net::socket::{StreamSocket, is_passing, lower};
use crate::source::sniff::{ReportedKinds, Sniffer};
use crate::source::{Fill, Port, Source};
use crate::split::Rule;
use crate::sys::proc::{self, Descriptors};

/// Connections accepted in one call: reading gets its turn as well.
const ACCEPTS_PER_CALL: usize = 64;

/// Token of the first acceptor in the inner queue; connections have smaller ones.
const ACCEPTOR_TOKEN: usize = usize::MAX / 2;

/// A socket that listens.
pub(crate) trait Acceptor: mio::event::Source + Send {
    /// A connection.
    type Stream: StreamSocket;

    /// Accepts a waiting connection.
    fn accept(&mut self) -> io::Result<(Self::Stream, Peer)>;

    /// The address it listens on, if it has one.
    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }
}

/// The other end of a connection.
pub(crate) struct Peer {
    /// As notices have it.
    pub(crate) name: String,
    /// `None` where clients have no addresses.
    pub(crate) address: Option<IpAddr>,
}

/// A source of the connections that its acceptors accept.
pub(crate) struct Listener<A: Acceptor> {
    name: String,
    /// Each with whether a client may be waiting.
    acceptors: Vec<(A, bool)>,
    /// They take effect at the start.
    pub(crate) options: ListenOptions,
    clients: ConnectionSet<Connection<A::Stream>>,
    connections_max: usize,
    /// The process's limit of descriptors, if it lowered `connections_max`.
    lowered_by: Option<usize>,
    queue: Poll,
    events: Events,
    port: Port,
    failure: Option<io::Error>,
    /// The system refused a connection: when to try again.
    accept_again: Option<Duration>,
    /// An accepted client that has no place yet. It is the next one to be connected.
    held_back: Option<(A::Stream, Peer)>,
    per_address: PerAddressLimit,
    /// When a client may have been silent for too long; [`Duration::MAX`] while there are none to
    /// check.
    idle_check_at: Duration,
    incidents: Incidents,
    /// What was dropped because it was too long, or for want of memory.
    dropped: Dropped,
    /// When clients and acceptors are checked without an edge.
    check_at: Duration,
    reported_kinds: ReportedKinds,
    drain: Option<Drain>,
}

/// A connection and its other end.
struct Connection<S> {
    stream: S,
    peer: Box<str>,
    address: Option<IpAddr>,
    /// When it was accepted, or last read from.
    received_at: Duration,
    sniffer: Sniffer,
}

impl<S: Read> Read for Connection<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buf)
    }
}

impl<A: Acceptor> Listener<A> {
    /// Accepts clients of `acceptors`.
    pub(crate) fn new(name: String, acceptors: Vec<A>) -> Result<Self> {
        let refused = |cause: io::Error| {
            let message = format!("cannot listen on {name}: {}", describe(&cause));
            Error::new(ErrorKind::System, message)
        };
        let queue = Poll::new().map_err(refused)?;
        let mut acceptors: Vec<(A, bool)> = acceptors.into_iter().map(|one| (one, true)).collect();
        for (index, (acceptor, _)) in acceptors.iter_mut().enumerate() {
            let token = Token(ACCEPTOR_TOKEN + index);
            let registry = queue.registry();
            (registry.register(acceptor, token, Interest::READABLE)).map_err(refused)?;
        }
        Ok(Listener {
            name,
            acceptors,
            options: ListenOptions::default(),
            clients: ConnectionSet::new(),
            connections_max: limits::CONNECTIONS_DEFAULT,
            lowered_by: None,
            queue,
            events: Events::with_capacity(256),
            port: Port::detached(),
            failure: None,
            accept_again: None,
            held_back: None,
            per_address: PerAddressLimit::default(),
            idle_check_at: Duration::MAX,
            incidents: Incidents::default(),
            dropped: Dropped::default(),
            check_at: Duration::ZERO,
            reported_kinds: ReportedKinds::default(),
            drain: None,
        })
    }

    /// Applies the options. `descriptors` are those the process may have and has.
    fn start_with(&mut self, port: Port, descriptors: Option<Descriptors>) {
        let options = &self.options;
        let asked = options.connections_max;
        self.connections_max = asked.unwrap_or(limits::CONNECTIONS_DEFAULT);
        if let Err(cause) = port.register(&mut SourceFd(&self.queue.as_raw_fd())) {
            self.failure = Some(cause);
        }
        if let Some(descriptors) = descriptors
            && descriptors.connections_max() < self.connections_max
        {
            self.connections_max = descriptors.connections_max();
            self.lowered_by = Some(descriptors.max);
            if let Some(asked) = asked {
                port.report(NoticeKind::Lowered {
                    asked,
                    connections_max: self.connections_max,
                    descriptors: descriptors.max,
                });
            }
        }
        self.per_address = match options.connections_per_peer_max {
            None => {
                let share = self.connections_max / limits::CONNECTIONS_PEER_SHARE;
                PerAddressLimit::of_other_machines(share.max(limits::CONNECTIONS_PEER_MIN))
            }
            asked => PerAddressLimit::new(asked),
        };
        self.port = port;
    }

    /// Closes clients that were silent for too long, if it is time to check. Those that may have
    /// something are spared: all edges so far were collected, and it may be we who did not read.
    fn end_idle(&mut self, now: Duration) {
        if now < self.idle_check_at || self.drain.is_some() {
            return;
        }
        let mut next = Duration::MAX;
        let (idle, options) = (&mut self.incidents.idle, &self.options);
        self.clients.end_idle(|client| {
            let until = options.silent_until(client.address, client.received_at);
            if until <= now {
                idle.add(&client.peer, 0);
                return true;
            }
            next = next.min(until);
            false
        });
        let pause = options.idle_timeout() / limits::IDLE_LOOKS;
        let soon = now.saturating_add(pause.max(Duration::from_millis(1)));
        self.idle_check_at = if self.clients.has_ready() {
            soon
        } else {
            next.max(soon)
        };
    }

    /// Empties the inner queue.
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
                match event.token().0.checked_sub(ACCEPTOR_TOKEN) {
                    None if event.is_read_closed() => self.clients.on_ended(event.token().0),
                    None => self.clients.on_ready(event.token().0),
                    Some(index) => {
                        if let Some((_, ready)) = self.acceptors.get_mut(index) {
                            *ready = true;
                        }
                    }
                }
            }
            if count < self.events.capacity() {
                return Ok(());
            }
        }
    }

    /// Accepts waiting clients, a bounded number.
    fn accept(&mut self, now: Duration) {
        if self.accept_again.is_some_and(|at| now < at) {
            return;
        }
        if let Some((stream, peer)) = self.held_back.take()
            && !self.admit(stream, peer, now)
        {
            return;
        }
        let (mut left, mut skipped, mut aborted) = (ACCEPTS_PER_CALL, 0, Vec::new());
        'acceptors: for index in 0..self.acceptors.len() {
            while self.acceptors[index].1 && left > 0 {
                left -= 1;
                match self.acceptors[index].0.accept() {
                    Ok((stream, peer)) => {
                        if !self.admit(stream, peer, now) {
                            break 'acceptors;
                        }
                    }
                    Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                        self.acceptors[index].1 = false;
                    }
                    // All of them may have it.
                    Err(cause) if is_of_one(&cause) && skipped + 1 < ACCEPTS_PER_CALL => {
                        skipped += 1;
                        if cause.kind() != io::ErrorKind::Interrupted {
                            aborted.push(lower(&cause));
                        }
                    }
                    Err(cause) => return self.wait(&cause, now),
                }
            }
        }
        for reason in aborted {
            self.incidents.aborted.add_failure("", reason);
        }
    }

    /// Connects one more client, or refuses it. `false`: it is held back, and so are those behind
    /// it.
    fn admit(&mut self, mut stream: A::Stream, peer: Peer, now: Duration) -> bool {
        if !self.has_place(&peer) {
            // Connections that ended before this one was made are known only now.
            if let Err(cause) = self.collect() {
                self.failure = Some(cause);
            }
            let is_full = self.clients.count() >= self.connections_max;
            let makes_room =
                |client: &Connection<A::Stream>| is_full || client.address == peer.address;
            if self.drain.is_none() && self.clients.has_ended(makes_room) {
                self.held_back = Some((stream, peer));
                return false;
            }
            if !self.has_place(&peer) {
                let incident = match is_full {
                    true => &mut self.incidents.refused,
                    false => &mut self.incidents.crowded,
                };
                incident.add(&peer.name, 0);
                (self.port.account).update(|losses| losses.refused_connections += 1);
                return true; // Closed here.
            }
        }
        let token = Token(self.clients.next_number());
        let registry = self.queue.registry();
        if let Err(cause) = registry.register(&mut stream, token, Interest::READABLE) {
            self.held_back = Some((stream, peer));
            self.wait(&cause, now);
            return false;
        }
        if self.accept_again.take().is_some() {
            self.port.report(NoticeKind::Accepted);
        }
        self.per_address.add(peer.address);
        self.clients.add(Connection {
            stream,
            peer: peer.name.into(),
            address: peer.address,
            received_at: now,
            sniffer: Sniffer::default(),
        });
        let silent_until = self.options.silent_until(peer.address, now);
        self.idle_check_at = self.idle_check_at.min(silent_until);
        true
    }

    /// Returns `true` if there is a place for one more. A stop cannot let clients wait for one, so
    /// it counts the places of ended connections as free.
    fn has_place(&self, peer: &Peer) -> bool {
        let is_stopping = self.drain.is_some();
        let ended = if is_stopping { self.clients.ended() } else { 0 };
        let is_it = |client: &Connection<A::Stream>| client.address == peer.address;
        self.clients.count() - ended < self.connections_max
            && (self.per_address.has_place(peer.address)
                || is_stopping && self.clients.has_ended(is_it))
    }

    /// The system cannot give a connection now.
    fn wait(&mut self, cause: &io::Error, now: Duration) {
        let reason = describe(cause);
        if let Some(drain) = &mut self.drain {
            // A stop cannot wait.
            drain.unaccepted = Some(reason);
        } else if self.accept_again.is_none() {
            self.port.report(NoticeKind::Unaccepted { reason });
        }
        let pause = Duration::from_millis(limits::ACCEPT_AGAIN_MS);
        self.accept_again = Some(now.saturating_add(pause));
    }

    fn read(&mut self, out: &mut Intake<'_>, now: Duration) -> FillOutcome {
        let (incidents, per_address) = (&mut self.incidents, &mut self.per_address);
        let (reported_kinds, port) = (&mut self.reported_kinds, &self.port);
        let (mut has_left, mut has_long) = (false, false);
        let outcome = self.clients.fill(out, &mut |event| match event {
            ConnectionEvent::Received { connection, bytes } => {
                connection.received_at = now;
                if let Some(looks_like) = connection.sniffer.look(bytes)
                    && reported_kinds.insert(looks_like)
                {
                    let peer = Some(connection.peer.to_string());
                    port.report(NoticeKind::NotLines { peer, looks_like });
                }
            }
            ConnectionEvent::LongLine(client) => {
                has_long = true;
                incidents.long.add(&client.peer, 0);
            }
            ConnectionEvent::Closed {
                connection,
                cause,
                is_half,
                lost_bytes,
            } => {
                has_left = true;
                per_address.remove(connection.address);
                let peer = &connection.peer;
                match cause {
                    Some(_) if is_half => incidents.resets.add(peer, lost_bytes as u64),
                    Some(cause) => incidents.broken.add_failure(peer, lower(&cause)),
                    None => {}
                }
            }
        });
        if has_left && let Some(at) = &mut self.accept_again {
            // Its descriptor is free: a waiting client may have it at once.
            *at = Duration::ZERO;
        }
        if has_long {
            self.dropped = out.dropped();
        }
        outcome
    }

    /// Reports what happened since the last report, if that is long enough ago.
    fn report_due(&mut self, now: Duration) {
        let incidents = &mut self.incidents;
        let (dropped, options) = (self.dropped, &self.options);
        let refused = incidents.refused.take(now).map(|sum| NoticeKind::Refused {
            peer: sum.peer,
            clients: sum.times,
            connections_max: self.connections_max,
            descriptors: self.lowered_by,
        });
        let crowded = (incidents.crowded.take(now)).map(|sum| NoticeKind::RefusedOfPeer {
            peer: sum.peer,
            clients: sum.times,
            connections_per_peer_max: self.per_address.connections_max().unwrap_or_default(),
        });
        let idle = incidents.idle.take(now).map(|sum| NoticeKind::Idle {
            peer: sum.peer,
            clients: sum.times,
            idle_timeout: options.idle_timeout(),
        });
        let broken = incidents.broken.take(now).map(|sum| NoticeKind::Broken {
            peer: sum.peer,
            clients: sum.times,
            reason: sum.reason,
        });
        let resets = incidents.resets.take(now).map(|sum| NoticeKind::Resets {
            peer: sum.peer,
            clients: sum.times,
            bytes: sum.bytes,
        });
        let long = incidents.long.take(now).map(|sum| NoticeKind::LongLines {
            peer: sum.peer,
            lines: dropped.tokens,
            bytes: dropped.bytes,
            record_bytes_max: options.record_bytes_max,
            is_word: self.port.delimiters.rule != Rule::Lines,
        });
        let aborted = incidents.aborted.take(now).map(|sum| NoticeKind::Aborted {
            connections: sum.times,
            reason: sum.reason,
        });
        let notices = [refused, crowded, idle, broken, resets, long, aborted];
        (notices.into_iter().flatten()).for_each(|notice| self.port.report(notice));
    }
}

impl<A: Acceptor> Source for Listener<A> {
    fn start(&mut self, port: Port, _now: Duration) {
        for (acceptor, _) in &self.acceptors {
            match acceptor.local_addr() {
                Some(address) => bind::report_listening(address, &port),
                None => port.report(NoticeKind::Listening {
                    address: self.name.clone(),
                }),
            }
        }
        self.start_with(port, proc::descriptors());
    }

    fn fill(&mut self, out: &mut Intake<'_>, now: Duration) -> Fill {
        if let Err(cause) = self.failure.take().map_or_else(|| self.collect(), Err) {
            return Fill::Failed(Error::input(&self.name, &cause));
        }
        self.end_idle(now);
        self.check_again(now);
        let before = out.taken().bytes;
        let outcome = self.read(out, now);
        if let Some(drain) = &mut self.drain {
            let count = out.taken().bytes - before;
            drain.bytes_left = drain.bytes_left.saturating_sub(count);
        }
        // Only after reading: what has arrived gets a chance, however short the time is.
        self.end_in_time(now);
        self.accept(now);
        self.report_due(now);
        let at_once = match outcome {
            FillOutcome::Again => true,
            FillOutcome::Idle => {
                let may_have =
                    self.held_back.is_some() || self.acceptors.iter().any(|(_, ready)| *ready);
                self.clients.has_ready() || self.accept_again.is_none() && may_have
            }
        };
        match self.drain.as_ref().and_then(|drain| drain.until) {
            // After `Again` a last line may still come.
            Some(_) if outcome == FillOutcome::Idle && self.clients.count() == 0 => Fill::End,
            Some(until) => Fill::Finishing(if at_once { now } else { until }),
            None if at_once => Fill::More,
            None => {
                let check_at = Some(self.idle_check_at).filter(|&at| at < Duration::MAX);
                let timers = self.incidents.due_at().into_iter().chain(check_at);
                Fill::Pending(timers.chain(self.accept_again).min())
            }
        }
    }

    fn limits(&self) -> ChannelLimits {
        let ListenOptions {
            record_bytes_max,
            held_bytes_max,
            ..
        } = self.options;
        ChannelLimits {
            record_bytes_max: Some(record_bytes_max),
            held_bytes_max,
        }
    }

    fn drain(&mut self) -> usize {
        self.begin_drain();
        limits::DRAIN_BYTES_MAX
    }

    /// A stop may have had no time for clients that were still connected.
    fn ended(&mut self) {
        if self.drain.is_some() {
            self.cut_off();
        }
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl<A: Acceptor> Drop for Listener<A> {
    /// What was not reported because of the pause is reported now.
    fn drop(&mut self) {
        self.report_due(Duration::MAX);
    }
}

/// Returns `true` if an error of `accept` is about the connection it would have returned, which is
/// gone with it: the next one may be better. These are what Linux reports of a connection that
/// already has an error.
fn is_of_one(cause: &io::Error) -> bool {
    is_passing(cause)
        || cause.kind() == io::ErrorKind::ConnectionAborted
        || cause.raw_os_error() == Some(libc::ENONET)
}
