//! Many connections, each a channel of one source.
//!
//! Promise: connections are read in turn, at most one buffer each; one that is not read to its end
//! is read again without an edge.
//! Must not know: engine, notice, time.
//!
//! A read that fails is repeated once: what has arrived is still read, and an error that passes
//! costs nothing.

#[cfg(test)]
mod crowd_tests;
#[cfg(test)]
mod failure_tests;
#[cfg(test)]
mod limit_tests;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{self, Read};

use crate::id::ChannelId;
use crate::intake::{Intake, Remainder};
use crate::limits::{CLIENT_READ_BYTES_MAX, LOOK_CLIENTS_MAX};

/// Reads of one call: no other source gets a turn between them.
const READS_PER_CALL: usize = 64;

/// Connections that are read in turn.
pub struct ConnectionSet<C> {
    slots: Vec<Option<Client<C>>>,
    /// Slots without a client.
    free: Vec<usize>,
    /// The client of each channel.
    by_channel: Vec<usize>,
    /// Clients that may have something, each at most once. The system reports an edge only once, so
    /// a client that was not read to the end stays here.
    ready: VecDeque<usize>,
    /// Open connections whose other side is known to have ended: see [`ConnectionSet::on_ended`].
    ended: usize,
    is_ending: bool,
    /// The client at which the last check for lost edges ended.
    checked: usize,
}

debug_fields!([C] ConnectionSet<C>, "ConnectionSet");

/// What clients had sent when reading ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnreadData {
    /// Clients that had sent something.
    pub clients: usize,
    /// Bytes, of each client at least one.
    pub bytes: u64,
}

struct Client<C> {
    connection: C,
    /// Opened at the first read.
    channel: Option<ChannelId>,
    is_ready: bool,
    /// It is closed in its next turn, without being read.
    is_idle: bool,
    /// The other side is known to have ended: once it is read to its end, it makes room.
    has_ended: bool,
    /// The last read failed. If the next one fails or finds the end, this is the reason.
    failure: Option<io::Error>,
}

/// What happened to a client.
#[derive(Debug)]
pub enum ConnectionEvent<'c, C> {
    /// It sent something.
    Received {
        /// The connection.
        connection: &'c mut C,
        /// What it sent, at least one byte, whatever becomes of it.
        bytes: &'c [u8],
    },
    /// Something of it was dropped: a line or a word that is too long, or for which there is no
    /// memory.
    LongLine(&'c C),
    /// It is closed.
    Closed {
        /// The connection.
        connection: C,
        /// The error, unless it was a clean end.
        cause: Option<io::Error>,
        /// `true` in the middle of a line, even if the line is dropped or a part of it was passed
        /// on.
        is_half: bool,
        /// Bytes of its unfinished line, which was dropped.
        lost_bytes: usize,
    },
}

/// What a call of [`ConnectionSet::fill`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FillOutcome {
    /// A share of reading was done, or there is no room for more: there may be more.
    Again,
    /// No client has anything.
    Idle,
}

impl<C: Read> Default for ConnectionSet<C> {
    fn default() -> Self {
        ConnectionSet::new()
    }
}

impl<C: Read> ConnectionSet<C> {
    /// No clients yet.
    pub fn new() -> Self {
        ConnectionSet {
            slots: Vec::new(),
            free: Vec::new(),
            by_channel: Vec::new(),
            ready: VecDeque::new(),
            ended: 0,
            is_ending: false,
            checked: 0,
        }
    }

    /// Number of open connections.
    pub fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Treats some of the clients as ready, others in each call: their edges may have been lost.
    pub(crate) fn check_again(&mut self) {
        for _ in 0..self.slots.len().min(LOOK_CLIENTS_MAX) {
            self.checked = (self.checked + 1) % self.slots.len();
            self.on_ready(self.checked);
        }
    }

    /// The number that the next client gets.
    pub(crate) fn next_number(&self) -> usize {
        self.free.last().copied().unwrap_or(self.slots.len())
    }

    /// Adds a client, which may have something already. Returns its number, which is reused when
    /// its connection is closed.
    pub fn add(&mut self, connection: C) -> usize {
        let client = Client {
            connection,
            channel: None,
            is_ready: false,
            is_idle: false,
            has_ended: false,
            failure: None,
        };
        let number = match self.free.pop() {
            Some(number) => {
                self.slots[number] = Some(client);
                number
            }
            None => {
                self.slots.push(Some(client));
                self.slots.len() - 1
            }
        };
        self.on_ready(number);
        number
    }

    /// The numbered client may have something. It does no harm if it has nothing, or is closed.
    pub fn on_ready(&mut self, number: usize) {
        if let Some(Some(client)) = self.slots.get_mut(number)
            && !client.is_ready
        {
            client.is_ready = true;
            self.ready.push_back(number);
        }
    }

    /// As [`on_ready`](Self::on_ready), and the other side has ended: the client is closed as soon
    /// as what it sent is read.
    pub(crate) fn on_ended(&mut self, number: usize) {
        if let Some(Some(client)) = self.slots.get_mut(number) {
            self.ended += usize::from(!std::mem::replace(&mut client.has_ended, true));
            self.on_ready(number);
        }
    }

    /// Clients that are known to have ended and were not read to their ends yet. Each of them is
    /// ready.
    pub(crate) fn ended(&self) -> usize {
        self.ended
    }

    /// Returns `true` if `is_it` holds for one of them.
    pub(crate) fn has_ended(&self, mut is_it: impl FnMut(&C) -> bool) -> bool {
        let mut clients = self.slots.iter().flatten();
        self.ended > 0 && clients.any(|client| client.has_ended && is_it(&client.connection))
    }

    /// The open connections.
    pub(crate) fn connections(&self) -> impl Iterator<Item = &C> {
        self.slots.iter().flatten().map(|client| &client.connection)
    }

    /// Returns `true` if a client may have something.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Has the next [`fill`](Self::fill) close the clients for which `is_idle` holds, as if they
    /// had ended cleanly. Clients that may have something are not asked about.
    pub(crate) fn end_idle(&mut self, mut is_idle: impl FnMut(&C) -> bool) {
        for number in 0..self.slots.len() {
            if let Some(client) = &mut self.slots[number]
                && !client.is_ready
                && is_idle(&client.connection)
            {
                client.is_idle = true;
                self.on_ended(number);
            }
        }
    }

    /// Reads the clients that may have something, a bounded number of times.
    pub fn fill(
        &mut self,
        out: &mut Intake<'_>,
        on: &mut impl FnMut(ConnectionEvent<'_, C>),
    ) -> FillOutcome {
        let mut bytes_left = CLIENT_READ_BYTES_MAX;
        for _ in 0..READS_PER_CALL {
            if self.is_ending {
                let Some(number) = self.slots.iter().position(Option::is_some) else {
                    return FillOutcome::Idle;
                };
                self.close(number, None, out, on);
                continue;
            }
            let Some(number) = self.ready.pop_front() else {
                return FillOutcome::Idle;
            };
            let Some(count) = self.read(number, out, on) else {
                self.ready.push_front(number);
                return FillOutcome::Again;
            };
            self.tell_long(out, on);
            bytes_left = bytes_left.saturating_sub(count);
            if bytes_left == 0 {
                break;
            }
        }
        FillOutcome::Again
    }

    /// Reads a client once, and returns how many bytes came. `None`: there is no room for any.
    fn read(
        &mut self,
        number: usize,
        out: &mut Intake<'_>,
        on: &mut impl FnMut(ConnectionEvent<'_, C>),
    ) -> Option<usize> {
        let Some(client) = &mut self.slots[number] else {
            return Some(0);
        };
        if client.is_idle {
            self.close(number, None, out, on);
            return Some(0);
        }
        let channel = *client.channel.get_or_insert_with(|| out.open());
        if self.by_channel.len() <= channel.index() {
            self.by_channel.resize(channel.index() + 1, 0);
        }
        self.by_channel[channel.index()] = number;
        let space = out.space(channel)?;
        client.is_ready = false;
        let room = space.len().min(CLIENT_READ_BYTES_MAX);
        match client.connection.read(&mut space[..room]) {
            Ok(0) => {
                let failure = client.failure.take();
                self.close(number, failure, out, on);
            }
            Ok(count) => {
                client.failure = None;
                on(ConnectionEvent::Received {
                    connection: &mut client.connection,
                    bytes: &space[..count],
                });
                out.filled(count);
                self.on_ready(number);
                return Some(count);
            }
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                client.failure = None;
                // It may send more, so its place does not become free soon.
                self.ended -= usize::from(std::mem::take(&mut client.has_ended));
            }
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => self.on_ready(number),
            Err(cause) => match client.failure.take() {
                None => {
                    client.failure = Some(cause);
                    self.on_ready(number);
                }
                first => self.close(number, first, out, on),
            },
        }
        Some(0)
    }

    /// Reports the clients of which something was dropped.
    fn tell_long(&mut self, out: &mut Intake<'_>, on: &mut impl FnMut(ConnectionEvent<'_, C>)) {
        while let Some(channel) = out.take_long() {
            let number = self.by_channel[channel.index()];
            if let Some(client) = &self.slots[number] {
                on(ConnectionEvent::LongLine(&client.connection));
            }
        }
    }

    /// Ends reading: [`fill`](Self::fill) closes the connections, as if each had ended cleanly. The
    /// first call returns what they had sent that was not read. `unread` returns how many bytes of
    /// a connection that is, if known.
    pub fn end(&mut self, unread: impl Fn(&C) -> Option<u64>) -> Option<UnreadData> {
        if std::mem::replace(&mut self.is_ending, true) {
            return None;
        }
        let mut all = UnreadData::default();
        for client in self.slots.iter_mut().flatten().filter(|is| !is.is_idle) {
            let bytes = unread(&client.connection).unwrap_or_else(|| {
                // The byte read here would be dropped as well.
                let read = client.connection.read(&mut [0]);
                read.map_or(0, |count| count as u64)
            });
            all.clients += usize::from(bytes > 0);
            all.bytes += bytes;
        }
        Some(all)
    }

    /// Closes a client. With a `cause`, its unfinished line is dropped.
    fn close(
        &mut self,
        number: usize,
        cause: Option<io::Error>,
        out: &mut Intake<'_>,
        on: &mut impl FnMut(ConnectionEvent<'_, C>),
    ) {
        let remainder = match self.slots[number]
            .as_ref()
            .and_then(|client| client.channel)
        {
            Some(channel) => {
                let remainder = out.close(channel, cause.is_none());
                self.tell_long(out, on);
                remainder
            }
            None => Remainder::default(),
        };
        let Some(client) = self.slots[number].take() else {
            return;
        };
        self.free.push(number);
        self.ended -= usize::from(client.has_ended);
        if client.is_ready {
            self.ready.retain(|&other| other != number);
        }
        on(ConnectionEvent::Closed {
            connection: client.connection,
            cause,
            is_half: remainder.is_partial,
            lost_bytes: usize::try_from(remainder.dropped_bytes).unwrap_or(usize::MAX),
        });
    }
}
