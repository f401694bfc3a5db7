//! Many connections as one stream of whole lines.
//!
//! Promise: lines of two connections never mix, whatever the cuts; each connection that has something is
//! read at most one buffer a turn, in turn; a byte that ends no line costs the same however much of its
//! line is held; what becomes of each byte is counted. A line that is too long is dropped, or, where it is only
//! split, given in pieces; when memory for unfinished lines is short, the client that holds most of it pays.
//! Must not know: sockets, protocols, time, who is told.
//!
//! ```text
//!   connection ──▶ [ room for what is held | new bytes … \n | unfinished ] ──▶ whole lines
//!                    ▲ copied when the line ends                └──▶ held until then
//! ```
//!
//! What is held of an unfinished line stays where it is until the line ends: new bytes are read behind
//! the room for it, and only they are searched. A `\r` that is the last byte given out becomes a `\n`,
//! for whoever reads the stream would take a `\n` behind it, which is another connection's empty line,
//! for a part of the same end.
//!
//! Whoever makes nothing but tokens of lines gets the same tokens when a delimiter in the middle of a line
//! becomes its end. So there a line for which there is no room is given as far as its tokens are complete,
//! and only a token that is too long is dropped.
//!
//! A read that fails is repeated once: what has arrived is still read, and an error that passes costs nothing.

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
use crate::source::net::outbox::Outbox;
use crate::split::{Delimiters, LineEnds, Rule};

/// Reads of one call: between two of them nobody else gets a turn.
const READS_PER_CALL: usize = 64;

/// Memory for an unfinished line that a connection keeps between two lines.
const KEPT_BYTES_MAX: usize = 4096;

/// See the module.
pub struct ConnectionSet<C> {
    slots: Vec<Option<Client<C>>>,
    /// Slots without a client.
    free: Vec<usize>,
    /// Clients that may have something, each at most once. The system tells of an edge only once, so
    /// whoever was not read to the end stays here.
    ready: VecDeque<usize>,
    /// Clients whose connections are open and known to be over: see [`ConnectionSet::on_ended`].
    ended: usize,
    /// Where lines that are too long may be cut: nowhere with [`Rule::Lines`].
    delimiters: Delimiters,
    record_bytes_max: usize,
    held_bytes_max: usize,
    /// Memory for unfinished lines, of all clients.
    held: usize,
    /// A line, and maybe some behind it, that found no room in the memory to fill.
    outbox: Outbox,
    is_ending: bool,
    long: Long,
    /// What becomes of the bytes, besides what is in `long` and what is held.
    passage: Passage,
    /// The number at which the next look at silent clients begins.
    looked: usize,
    /// How often everybody was asked for memory.
    #[cfg(test)]
    relieved: usize,
}

debug_fields!([C] ConnectionSet<C>, "ConnectionSet");

/// Lines, or tokens, that were dropped because they were too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Long {
    /// How many.
    pub lines: u64,
    /// Their bytes so far, without the last byte of what ends them.
    pub bytes: u64,
}

/// What clients had sent when nothing was read any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread {
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
    is_over: bool,
    /// The other side is known to have ended: once it is read to its end, it makes room.
    has_ended: bool,
    /// The last byte was a `\r`, which ended a line: a `\n` that comes next is a part of that end.
    skip_line_feed: bool,
    /// In the middle of a line, or token, that is too long.
    is_dropping: bool,
    /// Of the line that goes on a part was given or dropped, up to a delimiter.
    is_cut: bool,
    /// The last read failed: if the next one fails or finds the end, this is why.
    failure: Option<io::Error>,
}

/// Something happened to a client.
#[derive(Debug)]
pub enum Event<'c, C> {
    /// It gave something.
    Received {
        /// The connection.
        connection: &'c mut C,
        /// What it gave, at least one byte, whatever becomes of it.
        bytes: &'c [u8],
    },
    /// A line of it, or a token, is too long, or there is no memory for more unfinished lines: it is dropped
    /// up to its end.
    LongLine(&'c C),
    /// Its connection is over.
    Closed {
        /// The connection.
        connection: C,
        /// What the system says, if it was no clean end.
        cause: Option<io::Error>,
        /// Whether it was in the middle of a line, also of one that is dropped or of which a part was given.
        is_half: bool,
        /// Bytes of an unfinished line that were dropped with it.
        lost_bytes: usize,
    },
}

/// What a call of [`ConnectionSet::fill`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// So many bytes were put at the front, at least one; the last one is `\n` unless a line that does
    /// not fit goes on in the next call.
    Bytes(usize),
    /// A share of reading was done, and no line has ended: there may be more.
    Again,
    /// Nobody has anything.
    Idle,
}

impl<C: Read> ConnectionSet<C> {
    /// No clients yet. A line longer than `record_bytes_max` is dropped. All unfinished lines together take
    /// `held_bytes_max` at most, or more if one line may be longer: when there is no memory for another byte,
    /// the longest of them is dropped.
    pub fn new(record_bytes_max: usize, held_bytes_max: usize) -> Self {
        ConnectionSet {
            slots: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            delimiters: Delimiters::default(),
            ended: 0,
            record_bytes_max,
            held_bytes_max: held_bytes_max.max(record_bytes_max),
            held: 0,
            outbox: Outbox::default(),
            is_ending: false,
            long: Long::default(),
            passage: Passage {
                received_bytes: Some(0),
                ..Passage::default()
            },
            looked: 0,
            #[cfg(test)]
            relieved: 0,
        }
    }

    /// Whoever reads the lines makes nothing of them but tokens by `rule`: lines that are too long may be cut
    /// at its delimiters, and what is dropped are tokens that are too long.
    /// Records end as `line_ends` says. Called before anything is read.
    pub fn cut_at(&mut self, rule: Rule, line_ends: LineEnds) {
        self.delimiters = Delimiters { rule, line_ends };
        if line_ends == LineEnds::Lf {
            // A `\r` behind the longest line, which may be a part of its end.
            let longest = self.record_bytes_max.saturating_add(1);
            self.held_bytes_max = self.held_bytes_max.max(longest);
        }
    }

    /// Clients whose connections are open.
    pub fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Memory for unfinished lines, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.held
    }

    /// The lines that were too long, so far.
    pub fn long(&self) -> Long {
        self.long
    }

    /// What became of the bytes so far, what is held aside.
    pub(crate) fn passage(&self) -> Passage {
        Passage {
            oversize_tokens: self.long.lines,
            oversize_bytes: self.long.bytes,
            ..self.passage
        }
    }

    /// Records of which something is held, and the bytes of that. Asks every client.
    pub(crate) fn held_now(&self) -> (u64, u64) {
        let outbox = self.outbox.left() as u64;
        let clients = self.slots.iter().flatten();
        let lens = clients.map(|client| client.held.len() as u64);
        lens.filter(|&len| len > 0)
            .fold((u64::from(outbox > 0), outbox), |(records, bytes), len| {
                (records + 1, bytes + len)
            })
    }

    /// Edges may have been lost: some of the clients, others in each call, may have something.
    pub(crate) fn look_again(&mut self) {
        for _ in 0..self.slots.len().min(LOOK_CLIENTS_MAX) {
            self.looked = (self.looked + 1) % self.slots.len();
            self.on_ready(self.looked);
        }
    }

    /// The number that the next client gets.
    pub(crate) fn next_number(&self) -> usize {
        self.free.last().copied().unwrap_or(self.slots.len())
    }

    /// One more client, which may have something already. Gives its number, which is another's when its
    /// connection is over.
    pub fn add(&mut self, connection: C) -> usize {
        let client = Client {
            connection,
            held: Vec::new(),
            is_ready: false,
            is_over: false,
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

    /// The numbered client may have something. It does no harm if it has not, or is no more.
    pub fn on_ready(&mut self, number: usize) {
        if let Some(Some(client)) = self.slots.get_mut(number)
            && !client.is_ready
        {
            client.is_ready = true;
            self.ready.push_back(number);
        }
    }

    /// As [`on_ready`](Self::on_ready) for a client whose other side has ended: it is over as soon as what it
    /// sent is read.
    pub(crate) fn on_ended(&mut self, number: usize) {
        if let Some(Some(client)) = self.slots.get_mut(number) {
            self.ended += usize::from(!std::mem::replace(&mut client.has_ended, true));
            self.on_ready(number);
        }
    }

    /// Clients that are known to be over and were not read to their ends yet. Each of them is ready.
    pub(crate) fn ended(&self) -> usize {
        self.ended
    }

    /// Whether one of them is of this kind.
    pub(crate) fn has_ended(&self, mut is_it: impl FnMut(&C) -> bool) -> bool {
        let mut clients = self.slots.iter().flatten();
        self.ended > 0 && clients.any(|client| client.has_ended && is_it(&client.connection))
    }

    /// The open connections.
    pub(crate) fn connections(&self) -> impl Iterator<Item = &C> {
        self.slots.iter().flatten().map(|client| &client.connection)
    }

    /// Whether somebody may have something.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Closes those for which `is_over` says so, as if they had ended cleanly, when [`fill`](Self::fill) is
    /// called next. Those that may have something are not asked about.
    pub(crate) fn end_idle(&mut self, mut is_over: impl FnMut(&C) -> bool) {
        for number in 0..self.slots.len() {
            if let Some(client) = &mut self.slots[number]
                && !client.is_ready
                && is_over(&client.connection)
            {
                client.is_over = true;
                self.on_ended(number);
            }
        }
    }

    /// Puts whole lines at the front of `buf`, which has room for at least one byte.
    pub fn fill(&mut self, buf: &mut [u8], on: &mut impl FnMut(Event<'_, C>)) -> Filled {
        let mut filled = 0;
        for _ in 0..READS_PER_CALL {
            if !self.outbox.is_empty() {
                filled += self.outbox.give(&mut buf[filled..]);
            }
            // Later reads of a call want some room, so that what is read is mostly given in place.
            if filled == buf.len() || filled > buf.len() / 2 || !self.outbox.is_empty() {
                return Filled::Bytes(filled);
            }
            if self.is_ending {
                let Some(number) = self.slots.iter().position(Option::is_some) else {
                    return bytes_or(filled, Filled::Idle);
                };
                self.close(number, None, on);
                continue;
            }
            let Some(number) = self.ready.pop_front() else {
                return bytes_or(filled, Filled::Idle);
            };
            filled += self.read(number, &mut buf[filled..], on);
        }
        bytes_or(filled, Filled::Again)
    }

    /// Reads a client once. Gives how many bytes of whole lines are at the front of `buf`.
    fn read(&mut self, number: usize, buf: &mut [u8], on: &mut impl FnMut(Event<'_, C>)) -> usize {
        let Some(client) = &mut self.slots[number] else {
            return 0;
        };
        client.is_ready = false;
        if client.is_over {
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
                on(Event::Received {
                    connection: &mut client.connection,
                    bytes: &buf[at..at + count],
                });
                self.on_ready(number);
                return self.take(number, buf, at, at + count, on);
            }
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                client.failure = None;
                // Nobody waits for the place of one that says it may have more.
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

    /// Takes in what was read, `buf[from..end]`.
    fn take(
        &mut self,
        number: usize,
        buf: &mut [u8],
        mut from: usize,
        end: usize,
        on: &mut impl FnMut(Event<'_, C>),
    ) -> usize {
        let client = self.slots[number].as_mut().expect("it was read");
        if std::mem::take(&mut client.skip_line_feed) && buf[from] == b'\n' {
            from += 1;
            self.passage.skipped_bytes += 1;
        }
        if client.is_dropping {
            match self.delimiters.find(&buf[from..end]) {
                Some(len) => {
                    client.is_dropping = false;
                    self.long.bytes += len as u64;
                    from = self.behind_dropped(number, buf, from + len, end);
                }
                None => {
                    self.long.bytes += (end - from) as u64;
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
                self.long.lines += 1;
                self.long.bytes += (client.held.len() + first) as u64;
                let held = std::mem::take(&mut client.held);
                self.held -= held.capacity();
                on(Event::LongLine(&client.connection));
                let behind = self.behind_dropped(number, buf, from + first, end);
                // Once more, for what is behind it: nothing is held now, so it is the last time. Where
                // there is no end in it, its bytes were a part of this one.
                return self.take_lines(number, buf, behind, end, on);
            }
        }
        self.take_lines(number, buf, from, end, on)
    }

    /// Takes in `buf[from..end]`, which continues what is held and has no line in it that is too long.
    /// What is before `from` is free.
    fn take_lines(
        &mut self,
        number: usize,
        buf: &mut [u8],
        from: usize,
        end: usize,
        on: &mut impl FnMut(Event<'_, C>),
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
        let mut given = 0;
        if held > from {
            // They do not fit here together: they go out with the next calls, and then the next client.
            let mut lines = std::mem::take(&mut client.held);
            self.held -= lines.capacity();
            lines.extend_from_slice(&buf[from..lines_end]);
            self.outbox.put(lines);
        } else {
            buf[..held].copy_from_slice(&client.held);
            if held != from {
                buf.copy_within(from..lines_end, held);
            }
            given = held + lines_end - from;
            client.held.clear();
            if client.held.capacity() > KEPT_BYTES_MAX {
                self.held -= client.held.capacity();
                client.held = Vec::new();
            }
        }
        // What is behind the lines was not overwritten: they moved to the front, if at all.
        self.hold(number, &buf[lines_end..end], on);
        given
    }

    /// Where what comes behind a dropped line, or token, begins: it ends at `at` with the delimiter there.
    fn behind_dropped(&mut self, number: usize, buf: &[u8], at: usize, end: usize) -> usize {
        let line_ends = self.delimiters.line_ends;
        let client = self.slots[number].as_mut().expect("it was read");
        let is_end = line_ends.is_end(buf[at]);
        // Where a piece of the line was given, that is the record.
        self.passage.records_ended += u64::from(is_end && !client.is_cut);
        client.is_cut = !is_end;
        let behind = client.behind_end(line_ends, buf, at, end);
        self.passage.skipped_bytes += (behind - at) as u64;
        behind
    }
}

impl<C> Client<C> {
    /// Where the line behind the one that ends at `at` begins.
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

/// Makes the `\r` at the end of `lines`, if there is one, a `\n`. And those before it, or the last two
/// would be one end.
pub(crate) fn end_with_line_feed(lines: &mut [u8]) {
    let returns = lines.iter_mut().rev().take_while(|byte| **byte == b'\r');
    returns.for_each(|byte| *byte = b'\n');
}

fn bytes_or(filled: usize, otherwise: Filled) -> Filled {
    if filled > 0 {
        Filled::Bytes(filled)
    } else {
        otherwise
    }
}
