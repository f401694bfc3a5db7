//! Lines that are too long, in pieces, where lines are only split into tokens.
//!
//! Promise: the tokens that come out are those of the line, except those longer than the limit,
//! which are counted; what is held stays within its bounds.
//! Must not know: engine, notice, time.

use std::io::Read;

use crate::split::{Delimiters, LineEnds};

use super::{ConnectionEvent, ConnectionSet, end_with_line_feed};

impl<C: Read> ConnectionSet<C> {
    /// Handles `buf[from..end]`, which together with what is held is longer than the limit. Passes
    /// on the complete tokens, holds the last one, and drops one that is too long. That can only be
    /// the one that is held in part: no more than the limit is read at once.
    #[cold]
    pub(super) fn take_long(
        &mut self,
        number: usize,
        buf: &[u8],
        mut from: usize,
        end: usize,
        on: &mut impl FnMut(ConnectionEvent<'_, C>),
    ) {
        let client = self.slots[number].as_mut().expect("it was read");
        let mut passed = std::mem::take(&mut client.held);
        self.held -= passed.capacity();
        let complete = self.delimiters.rfind(&passed).map_or(0, |at| at + 1);
        let rest = self.delimiters.find(&buf[from..end]);
        let tail = &buf[from..from + rest.unwrap_or(end - from)];
        let token = passed.len() - complete + tail.len();
        // A `\r` before a separator is content. Before a line end, or the next read, it may not be.
        let content = match rest {
            Some(len) if !self.delimiters.line_ends.is_end(buf[from + len]) => token,
            _ => self.delimiters.content_len(&passed[complete..], tail),
        };
        let is_dropped = content > self.record_bytes_max;
        if is_dropped {
            passed.truncate(complete);
            self.passage.totals.oversize_tokens += 1;
            self.passage.totals.oversize_bytes += token as u64;
            client.is_dropping = rest.is_none();
            on(ConnectionEvent::LongLine(&client.connection));
            from = match rest {
                Some(len) => {
                    // The complete tokens before it are a piece.
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
                passed.extend_from_slice(&buf[from..rest]);
            }
            None if is_dropped => {}
            None => held = passed.split_off(complete),
        }
        held.extend_from_slice(&buf[rest..end]);
        let client = self.slots[number].as_mut().expect("it was read");
        if let Some(&delimiter) = passed.last() {
            // Behind a dropped token, its end has decided this.
            if last.is_some() || !is_dropped {
                client.is_cut = !self.delimiters.line_ends.is_end(delimiter);
            }
            client.skip_line_feed |= self.delimiters.line_ends.may_pair(delimiter) && rest == end;
            self.passage.totals.bytes_added += end_piece(&mut passed, self.delimiters);
            self.spill.extend(&passed);
        }
        self.hold(number, &held, on);
    }

    /// There is no memory to hold `bytes`, which contain no line end, behind what is held. Passes
    /// on the complete tokens of both, and holds the last one if there is memory for it. Returns
    /// `false`, and changes nothing, if there is no complete token.
    #[cold]
    pub(super) fn pass_on_complete(
        &mut self,
        number: usize,
        bytes: &[u8],
        on: &mut impl FnMut(ConnectionEvent<'_, C>),
    ) -> bool {
        let client = self.slots[number].as_mut().expect("it was read");
        let complete = match self.delimiters.rfind(bytes) {
            Some(at) => client.held.len() + at + 1,
            None => match self.delimiters.rfind(&client.held) {
                Some(at) => at + 1,
                None => return false,
            },
        };
        let mut passed = std::mem::take(&mut client.held);
        self.held -= passed.capacity();
        passed.extend_from_slice(bytes);
        let rest = passed.split_off(complete);
        self.passage.totals.bytes_added += end_piece(&mut passed, self.delimiters);
        client.is_cut = true;
        self.spill.extend(&passed);
        // It contains no delimiter, so it is held or dropped.
        self.hold(number, &rest, on);
        true
    }
}

/// Makes the delimiter at the end of `piece` the end of a record, and nothing before it a part of
/// that end. Returns by how many bytes the piece is longer.
fn end_piece(piece: &mut Vec<u8>, delimiters: Delimiters) -> u64 {
    let line_ends = delimiters.line_ends;
    let len = piece.len();
    let Some(delimiter) = piece.pop() else {
        return 0;
    };
    if delimiter == line_ends.terminator() {
        piece.push(delimiter);
    } else if line_ends == LineEnds::Universal {
        // The ends before it must not be a part of this one.
        end_with_line_feed(piece);
        piece.push(b'\n');
    } else {
        piece.extend_from_slice(delimiters.end_behind(piece));
    }
    // Every end is at least as long as the delimiter was.
    (piece.len() - len) as u64
}
