//! Lines that are too long, in pieces: for whoever makes nothing but tokens of them.
//!
//! Promise: the tokens that come out are those of the line, but for those longer than the limit, which are
//! counted; what is held stays within its bounds. Must not know: how a line that is not too long is read.

use std::io::Read;

use crate::split::{Delimiters, LineEnds};

use super::{ConnectionSet, Event, end_with_line_feed};

impl<C: Read> ConnectionSet<C> {
    /// Takes in `buf[from..end]`, which is longer than the limit together with what is held: gives what is
    /// complete of it, holds the last token, and drops one that is too long. Only the one that is held in
    /// part can be: no more than the limit is read at once.
    #[cold]
    pub(super) fn take_long(
        &mut self,
        number: usize,
        buf: &[u8],
        mut from: usize,
        end: usize,
        on: &mut impl FnMut(Event<'_, C>),
    ) {
        let client = self.slots[number].as_mut().expect("it was read");
        let mut given = std::mem::take(&mut client.held);
        self.held -= given.capacity();
        let complete = self.delimiters.rfind(&given).map_or(0, |at| at + 1);
        let rest = self.delimiters.find(&buf[from..end]);
        let tail = &buf[from..from + rest.unwrap_or(end - from)];
        let token = given.len() - complete + tail.len();
        // Before a separator a `\r` is content; before a line end, or the next read, it may not be.
        let content = match rest {
            Some(len) if !self.delimiters.line_ends.is_end(buf[from + len]) => token,
            _ => self.delimiters.content_len(&given[complete..], tail),
        };
        let is_dropped = content > self.record_bytes_max;
        if is_dropped {
            given.truncate(complete);
            self.long.lines += 1;
            self.long.bytes += token as u64;
            client.is_dropping = rest.is_none();
            on(Event::LongLine(&client.connection));
            from = match rest {
                Some(len) => {
                    // What is complete before the token is given as a piece.
                    client.is_cut |= complete > 0;
                    self.behind_dropped(number, buf, from + len, end)
                }
                None => end,
            };
        }
        let last = self.delimiters.rfind(&buf[from..end]);
        // A token that goes on behind the last delimiter.
        let mut held = Vec::new();
        let mut rest = from;
        match last {
            Some(last) => {
                rest = from + last + 1;
                given.extend_from_slice(&buf[from..rest]);
            }
            None if is_dropped => {}
            None => held = given.split_off(complete),
        }
        held.extend_from_slice(&buf[rest..end]);
        let client = self.slots[number].as_mut().expect("it was read");
        if let Some(&delimiter) = given.last() {
            // Behind a token that was dropped, that one's end says it.
            if last.is_some() || !is_dropped {
                client.is_cut = !self.delimiters.line_ends.is_end(delimiter);
            }
            client.skip_line_feed |= self.delimiters.line_ends.may_pair(delimiter) && rest == end;
            self.passage.added_bytes += end_piece(&mut given, self.delimiters);
            self.outbox.extend(&given);
        }
        self.hold(number, &held, on);
    }

    /// There is no memory to hold `bytes`, which have no line end in them, behind what is held: gives what is
    /// complete of both and holds the last token, if there is memory for that. Otherwise nothing has changed.
    #[cold]
    pub(super) fn give_complete(
        &mut self,
        number: usize,
        bytes: &[u8],
        on: &mut impl FnMut(Event<'_, C>),
    ) -> bool {
        let client = self.slots[number].as_mut().expect("it was read");
        let complete = match self.delimiters.rfind(bytes) {
            Some(at) => client.held.len() + at + 1,
            None => match self.delimiters.rfind(&client.held) {
                Some(at) => at + 1,
                None => return false,
            },
        };
        let mut given = std::mem::take(&mut client.held);
        self.held -= given.capacity();
        given.extend_from_slice(bytes);
        let rest = given.split_off(complete);
        self.passage.added_bytes += end_piece(&mut given, self.delimiters);
        client.is_cut = true;
        self.outbox.extend(&given);
        // It has no delimiter, so it is held, or dropped.
        self.hold(number, &rest, on);
        true
    }
}

/// Makes the delimiter at the end of `piece` the end of a record, and nothing else a part of that end. Returns
/// by how many bytes the piece is longer.
fn end_piece(piece: &mut Vec<u8>, delimiters: Delimiters) -> u64 {
    let line_ends = delimiters.line_ends;
    let len = piece.len();
    let Some(delimiter) = piece.pop() else {
        return 0;
    };
    if delimiter == line_ends.terminator() {
        piece.push(delimiter);
    } else if line_ends == LineEnds::Universal {
        // A line of its own, or one end, which those before it must not be a part of.
        end_with_line_feed(piece);
        piece.push(b'\n');
    } else {
        piece.extend_from_slice(delimiters.end_behind(piece));
    }
    // Every end is at least as long as the delimiter was.
    (piece.len() - len) as u64
}
