//! Many connections as one stream of whole lines.
//!
//! Promise: lines of two connections never mix, whatever the cuts; connections are read in turn, at
//! most one buffer each; a byte that ends no line costs the same however much of its line is held;
//! what becomes of each byte is counted. A line that is too long is dropped or, where lines are
//! only split, comes in pieces; when memory for unfinished lines is short, the client that holds
//! most of it pays.
//! Must not know: engine, notice, time.
//!
//! ```text
//!   connection ──▶ [ room for what is held | new bytes … \n | unfinished ] ──▶ whole lines
//!                    ▲ copied when the line ends                └──▶ held until then
//! ```
//!
//! What is held of an unfinished line stays where it is until the line ends: new bytes are read
//! behind the room for it, and only they are searched. A `\r` at the end of the bytes filled in
//! becomes a `\n`. Otherwise a `\n` behind it, which is another connection's empty line, would be
//! part of the same end.
//!
//! Where lines are only split into tokens, a delimiter in the middle of a line may become its end:
//! the tokens are the same. So a line that finds no room is passed on as far as its tokens are
//! complete, and only a token that is too long is dropped.
//!
//! A read that fails is repeated once: what has arrived is still read, and an error that passes
//! costs nothing.

#[cfg(test)]
mod crowd_tests;
mod ending;
#[cfg(test)]
mod failure_tests;
#[cfg(test)]
mod limit_tests;
mod memory;
mod pieces;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{self, Read};

use crate::ledger::Passage;
use crate::limits::{CLIENT_READ_BYTES_MAX, LOOK_CLIENTS_MAX};
use crate::source::net::spill::SpillBuffer;
use crate::split::{Delimiters, LineEnds, Rule};

/// Reads of one call: no other source gets a turn between them.
const READS_PER_CALL: usize = 64;

/// Memory for unfinished lines that a connection keeps between two lines.
const KEPT_BYTES_MAX: usize = 4096;

/// Connections that are read as one stream of whole lines.
pub struct ConnectionSet<C> {
    slots: Vec<Option<Client<C>>>,
    /// Slots without a client.
    free: Vec<usize>,
    /// Clients that may have something, each at most once. The system reports an edge only once, so
    /// a client that was not read to the end stays here.
    ready: VecDeque<usize>,
    /// Open connections whose other side is known to have ended: see [`ConnectionSet::on_ended`].
    ended: usize,
    /// Where lines that are too long may be cut: nowhere for [`Rule::Lines`].
    delimiters: Delimiters,
    record_bytes_max: usize,
    held_bytes_max: usize,
    /// Memory for unfinished lines, of all clients.
    held: usize,
    /// Lines that found no room in the caller's buffer.
    spill: SpillBuffer,
    is_ending: bool,
    /// What became of the bytes, except those that are held.
    passage: Passage,
    /// The client at which the last check for lost edges ended.
    checked: usize,
    /// How often all clients were asked for memory.
    #[cfg(test)]
    searches: usize,
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
    /// An unfinished line.
    held: Vec<u8>,
    is_ready: bool,
    /// It is closed in its next turn, without being read.
    is_idle: bool,
    /// The other side is known to have ended: once it is read to its end, it makes room.
    has_ended: bool,
    /// The last byte was a `\r`, which ended a line: a `\n` that comes next is part of that end.
    skip_line_feed: bool,
    /// In the middle of a line, or token, that is too long.
    is_dropping: bool,
    /// A part of the current line was passed on or dropped, up to a delimiter.
    is_cut: bool,
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
    /// A line of it, or a token, is dropped up to its end: it is too long, or the memory for
    /// unfinished lines is full.
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
    /// This many bytes are at the front of the buffer, at least one. The last one is `\n`, unless a
    /// line that does not fit goes on in the next call.
    Bytes(usize),
    /// A share of reading was done, and no line has ended: there may be more.
    Again,
    /// No client has anything.
    Idle,
}

impl<C: Read> ConnectionSet<C> {
    /// No clients yet. Lines, or tokens, longer than `record_bytes_max` are dropped. Unfinished
    /// lines together take at most `held_bytes_max`, or the memory of the longest line if that is
    /// more. When a byte finds no memory, the longest of them is dropped. Lines end at `line_ends`,
    /// and those that are too long are cut at the delimiters of `rule`.
    pub fn new(
        rule: Rule,
        line_ends: LineEnds,
        record_bytes_max: usize,
        held_bytes_max: usize,
    ) -> Self {
        // A `\r` behind the longest line may be a part of its end.
        let may_end_later = usize::from(line_ends == LineEnds::Lf);
        let longest = record_bytes_max.saturating_add(may_end_later);
        ConnectionSet {
            slots: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            delimiters: Delimiters { rule, line_ends },
            ended: 0,
            record_bytes_max,
            held_bytes_max: held_bytes_max.max(longest),
            held: 0,
            spill: SpillBuffer::default(),
            is_ending: false,
            passage: Passage {
                received_bytes: Some(0),
                ..Passage::default()
            },
            checked: 0,
            #[cfg(test)]
            searches: 0,
        }
    }

    /// Number of open connections.
    pub fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Memory for unfinished lines, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.held
    }

    /// Lines, or tokens, dropped so far because they were too long.
    pub fn oversize_tokens(&self) -> u64 {
        self.passage.totals.oversize_tokens
    }

    /// What became of the bytes so far, except those that are held.
    pub(crate) fn passage(&self) -> Passage {
        self.passage
    }

    /// Records of which something is held, and its bytes. Asks every client.
    pub(crate) fn held_now(&self) -> (u64, u64) {
        let spilled = self.spill.len() as u64;
        let clients = self.slots.iter().flatten();
        let lens = clients.map(|client| client.held.len() as u64);
        lens.filter(|&len| len > 0).fold(
            (u64::from(spilled > 0), spilled),
            |(records, bytes), len| (records + 1, bytes + len),
        )
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
            held: Vec::new(),
            is_ready: false,
            is_idle: false,
            has_ended: false,
            skip_line_feed: false,
            is_dropping: false,
            is_cut: false,
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

    /// Puts whole lines at the front of `buf`, which has room for at least one byte.
    pub fn fill(
        &mut self,
        buf: &mut [u8],
        on: &mut impl FnMut(ConnectionEvent<'_, C>),
    ) -> FillOutcome {
        let mut filled = 0;
        for _ in 0..READS_PER_CALL {
            if !self.spill.is_empty() {
                filled += self.spill.take(&mut buf[filled..]);
            }
            // Later reads of a call want some room, so that most lines can stay where they are
            // read.
            if filled == buf.len() || filled > buf.len() / 2 || !self.spill.is_empty() {
                return FillOutcome::Bytes(filled);
            }
            if self.is_ending {
                let Some(number) = self.slots.iter().position(Option::is_some) else {
                    return bytes_or(filled, FillOutcome::Idle);
                };
                self.close(number, None, on);
                continue;
            }
            let Some(number) = self.ready.pop_front() else {
                return bytes_or(filled, FillOutcome::Idle);
            };
            filled += self.read(number, &mut buf[filled..], on);
        }
        bytes_or(filled, FillOutcome::Again)
    }

    /// Reads a client once. Returns how many bytes of whole lines are at the front of `buf`.
    fn read(
        &mut self,
        number: usize,
        buf: &mut [u8],
        on: &mut impl FnMut(ConnectionEvent<'_, C>),
    ) -> usize {
        let Some(client) = &mut self.slots[number] else {
            return 0;
        };
        client.is_ready = false;
        if client.is_idle {
            self.close(number, None, on);
            return 0;
        }
        let held = client.held.len();
        // Behind the room for what is held, if that leaves enough.
        let at = if held <= buf.len() / 2 { held } else { 0 };
        // No more than the limit of a line, so that only the first line of a read can be above it.
        let room = (buf.len() - at).min(CLIENT_READ_BYTES_MAX.min(self.record_bytes_max));
        match client.connection.read(&mut buf[at..at + room]) {
            Ok(0) => {
                let failure = client.failure.take();
                self.close(number, failure, on);
            }
            Ok(count) => {
                client.failure = None;
                let received = self.passage.received_bytes.unwrap_or(0) + count as u64;
                self.passage.received_bytes = Some(received);
                on(ConnectionEvent::Received {
                    connection: &mut client.connection,
                    bytes: &buf[at..at + count],
                });
                self.on_ready(number);
                return self.take(number, buf, at, at + count, on);
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
                first => self.close(number, first, on),
            },
        }
        0
    }

    /// Handles what was read, `buf[from..end]`.
    fn take(
        &mut self,
        number: usize,
        buf: &mut [u8],
        mut from: usize,
        end: usize,
        on: &mut impl FnMut(ConnectionEvent<'_, C>),
    ) -> usize {
        let client = self.slots[number].as_mut().expect("it was read");
        if std::mem::take(&mut client.skip_line_feed) && buf[from] == b'\n' {
            from += 1;
            self.passage.totals.bytes_skipped += 1;
        }
        if client.is_dropping {
            match self.delimiters.find(&buf[from..end]) {
                Some(len) => {
                    client.is_dropping = false;
                    self.passage.totals.oversize_bytes += len as u64;
                    from = self.behind_dropped(number, buf, from + len, end);
                }
                None => {
                    self.passage.totals.oversize_bytes += (end - from) as u64;
                    return 0;
                }
            }
        }
        let client = self.slots[number].as_mut().expect("it was read");
        if self.delimiters.rule != Rule::Lines
            && client.held.len() + (end - from) > self.record_bytes_max
        {
            self.take_long(number, buf, from, end, on);
            return 0;
        }
        let Some(last) = self.delimiters.line_ends.rfind(&buf[from..end]) else {
            self.hold(number, &buf[from..end], on);
            return 0;
        };
        if client.held.len() + last > self.record_bytes_max {
            let first = self.delimiters.line_ends.find(&buf[from..end]);
            let first = first.expect("there is a last one");
            let content = (self.delimiters).content_len(&client.held, &buf[from..from + first]);
            if content > self.record_bytes_max {
                self.passage.totals.oversize_tokens += 1;
                self.passage.totals.oversize_bytes += (client.held.len() + first) as u64;
                let held = std::mem::take(&mut client.held);
                self.held -= held.capacity();
                on(ConnectionEvent::LongLine(&client.connection));
                let behind = self.behind_dropped(number, buf, from + first, end);
                // Nothing is held now, so what is behind it has no other line that is too long.
                // Without an end in it, its bytes were a part of this one.
                return self.take_lines(number, buf, behind, end, on);
            }
        }
        self.take_lines(number, buf, from, end, on)
    }

    /// Handles `buf[from..end]`, which continues what is held and completes no line that is too
    /// long. The bytes before `from` are free.
    fn take_lines(
        &mut self,
        number: usize,
        buf: &mut [u8],
        from: usize,
        end: usize,
        on: &mut impl FnMut(ConnectionEvent<'_, C>),
    ) -> usize {
        let Some(last) = self.delimiters.line_ends.rfind(&buf[from..end]) else {
            self.hold(number, &buf[from..end], on);
            return 0;
        };
        let client = self.slots[number].as_mut().expect("it was read");
        client.is_cut = false;
        let lines_end = from + last + 1;
        if self.delimiters.line_ends.may_pair(buf[lines_end - 1]) {
            client.skip_line_feed = lines_end == end;
            end_with_line_feed(&mut buf[from..lines_end]);
        }
        let held = client.held.len();
        let mut filled = 0;
        if held > from {
            // They do not fit here together: the next calls fill them in, before the next client.
            let mut lines = std::mem::take(&mut client.held);
            self.held -= lines.capacity();
            lines.extend_from_slice(&buf[from..lines_end]);
            self.spill.put(lines);
        } else {
            buf[..held].copy_from_slice(&client.held);
            if held != from {
                buf.copy_within(from..lines_end, held);
            }
            filled = held + lines_end - from;
            client.held.clear();
            if client.held.capacity() > KEPT_BYTES_MAX {
                self.held -= client.held.capacity();
                client.held = Vec::new();
            }
        }
        // What is behind the lines was not overwritten: they moved to the front, if at all.
        self.hold(number, &buf[lines_end..end], on);
        filled
    }

    /// Returns where the bytes behind a dropped line, or token, begin. It ends at the delimiter at
    /// `at`.
    fn behind_dropped(&mut self, number: usize, buf: &[u8], at: usize, end: usize) -> usize {
        let line_ends = self.delimiters.line_ends;
        let client = self.slots[number].as_mut().expect("it was read");
        let is_end = line_ends.is_end(buf[at]);
        // If a piece of the line was passed on, that is the record.
        self.passage.totals.records_ended += u64::from(is_end && !client.is_cut);
        client.is_cut = !is_end;
        let behind = client.behind_end(line_ends, buf, at, end);
        self.passage.totals.bytes_skipped += (behind - at) as u64;
        behind
    }
}

impl<C> Client<C> {
    /// Returns where the line behind the one that ends at `at` begins.
    fn behind_end(&mut self, line_ends: LineEnds, buf: &[u8], at: usize, end: usize) -> usize {
        match (line_ends.may_pair(buf[at]), buf[at + 1..end].first()) {
            (true, Some(b'\n')) => at + 2,
            (true, None) => {
                self.skip_line_feed = true;
                at + 1
            }
            _ => at + 1,
        }
    }
}

/// Replaces each `\r` at the end of `lines` with `\n`. If only the last one were replaced, the last
/// two would be one end.
pub(crate) fn end_with_line_feed(lines: &mut [u8]) {
    let returns = lines.iter_mut().rev().take_while(|byte| **byte == b'\r');
    returns.for_each(|byte| *byte = b'\n');
}

fn bytes_or(filled: usize, otherwise: FillOutcome) -> FillOutcome {
    if filled > 0 {
        FillOutcome::Bytes(filled)
    } else {
        otherwise
    }
}
