//! The only bridge from a source to a ring, and the only code that cuts at record ends.
//!
//! Promise: every block ends with a record end (or, inside a record that is longer than the limit,
//! with another delimiter); no byte is lost or doubled; an incomplete last line is carried over to
//! the next block. Must not know: sources, threads, the clock, tokens.
//!
//! ```text
//!   read into ──▶ [ carried tail | new bytes … \n | unfinished ]
//!                  └────────── block, given away ──┘└─ carried ─┘
//! ```
//!
//! If [`LineEnds`] say so, a `\r` ends a record at once. If the very next byte is `\n`, in whatever
//! read it comes, it belongs to that end. When a cut falls between the two, the framer takes the
//! `\n` off the front of the next block, so a shard never needs its neighbour.

#[cfg(test)]
pub(crate) mod tests;

use crate::ledger::Intake;
use crate::limits::READ_SHARE_MIN;
use crate::ring::arena::Block;
use crate::split::{Delimiters, LineEnds, Rule};

/// Turns the bytes of one connection into blocks of whole records.
pub(crate) struct Framer {
    delimiters: Delimiters,
    record_bytes_max: usize,
    /// The block being filled.
    block: Option<Block>,
    /// The unfinished line behind the last cut, when no block is being filled.
    carry: Vec<u8>,
    /// Bytes at the front of the block that were searched and hold no record end.
    scanned: usize,
    /// The byte before the next one was a `\r` that ended a record.
    skip_line_feed: bool,
    /// The record at the front was longer than the limit, and its beginning is in an earlier block.
    mid_record: bool,
    /// Inside a token that was longer than the limit: dropping up to the next delimiter.
    mid_oversize: bool,
    /// The input has ended, and what it left is not placed yet.
    is_ending: bool,
    intake: Intake,
}

/// Where a framer gets empty blocks, and where its complete records go.
pub(crate) trait BlockPort {
    /// Returned while there is no room; [`Infallible`](std::convert::Infallible) where there always
    /// is.
    type Full;
    /// Returns an empty block to fill.
    fn take_empty(&mut self) -> Block;
    /// Takes the complete records out of `framer` by [`Framer::cut`] and has them counted. Returns
    /// `true` if there were any.
    fn place(&mut self, framer: &mut Framer) -> Result<bool, Self::Full>;
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// An unterminated last line is a record.
    Clean,
    /// An unterminated last line is dropped.
    Reset,
}

impl Framer {
    /// A framer of a stream whose records end as `line_ends` says. A record that is longer than
    /// `record_bytes_max` may be cut at the delimiters of `rule`.
    pub(crate) fn new(rule: Rule, line_ends: LineEnds, record_bytes_max: usize) -> Self {
        Framer {
            delimiters: Delimiters { rule, line_ends },
            record_bytes_max,
            block: None,
            carry: Vec::new(),
            scanned: 0,
            skip_line_feed: false,
            mid_record: false,
            mid_oversize: false,
            is_ending: false,
            intake: Intake::default(),
        }
    }

    /// Returns where records that are too long may be cut.
    pub(crate) fn delimiters(&self) -> Delimiters {
        self.delimiters
    }

    /// Returns the memory to read into, which is never empty. Complete records go to `port` to make
    /// room.
    ///
    /// # Errors
    ///
    /// `port` has no room; call again.
    #[inline]
    pub(crate) fn space<P: BlockPort>(&mut self, port: &mut P) -> Result<&mut [u8], P::Full> {
        while !self.has_space() {
            if self.block.is_some() {
                port.place(self)?;
            } else {
                self.provide(port.take_empty());
                debug_assert!(
                    self.has_space(),
                    "there is room for one byte more than is carried"
                );
            }
        }
        Ok(self.block.as_mut().expect("it has space").space())
    }

    /// As [`space`](Self::space), but returns room for a whole record of `len` bytes, its end
    /// included. The framer must hold no unfinished record. A block that is too small is enlarged.
    ///
    /// # Errors
    ///
    /// `port` has no room; call again.
    pub(crate) fn space_for<P: BlockPort>(
        &mut self,
        len: usize,
        port: &mut P,
    ) -> Result<&mut [u8], P::Full> {
        let has_room = |block: &Block| block.capacity() - block.filled() >= len;
        while !self.block.as_ref().is_some_and(has_room) {
            match &mut self.block {
                None => self.provide(port.take_empty()),
                Some(block) if block.filled() == 0 => block.spill_to(len),
                Some(_) => drop(port.place(self)?),
            }
        }
        Ok(self.block.as_mut().expect("it has room").space())
    }

    /// Ends the input as `ending` says, and has everything counted that it left.
    ///
    /// # Errors
    ///
    /// `port` has no room; call again, with the same `ending`.
    pub(crate) fn finish<P: BlockPort>(
        &mut self,
        ending: Ending,
        port: &mut P,
    ) -> Result<(), P::Full> {
        while port.place(self)? {}
        if !self.is_ending {
            self.end(ending);
            self.is_ending = true;
        }
        if self.carries_record() {
            self.provide(port.take_empty());
        }
        while port.place(self)? {}
        self.is_ending = false;
        Ok(())
    }

    /// Returns `true` if there is a block and it is worth reading into.
    fn has_space(&self) -> bool {
        self.block.as_ref().is_some_and(|block| {
            let free = block.capacity() - block.filled();
            // A block that holds no record end is filled to the last byte before it grows.
            free * READ_SHARE_MIN >= block.capacity()
                || (free > 0 && self.scanned == block.filled())
        })
    }

    /// Returns `true` while a block is being filled.
    pub(crate) fn has_block(&self) -> bool {
        self.block.is_some()
    }

    /// Returns `true` if the block being filled outgrew the arena.
    pub(crate) fn is_spilled(&self) -> bool {
        self.block.as_ref().is_some_and(Block::is_spilled)
    }

    /// Returns the number of bytes received that are in no finished block.
    pub(crate) fn held_bytes(&self) -> usize {
        self.carry.len() + self.block.as_ref().map_or(0, |block| block.bytes().len())
    }

    /// Takes an empty block to fill, and puts what is carried at its front.
    fn provide(&mut self, mut block: Block) {
        assert!(
            self.block.is_none() && block.filled() == 0,
            "one block at a time, and an empty one"
        );
        // One byte more than is carried must fit, or nothing could be read.
        let carried = self.carry.len();
        if carried >= block.capacity() {
            // Never far past the limit, because a token that fits is within the limit. What is
            // carried may be longer by a `\r` that the next byte decides about, or by the end of a
            // record that was complete without one.
            let larger = (carried * 2).min(self.record_bytes_max + 1);
            block.spill_to(larger.max(carried + 1));
        }
        block.append(&self.carry);
        self.scanned = if self.carries_record() {
            0
        } else {
            self.carry.len()
        };
        self.carry.clear();
        self.block = Some(block);
    }

    /// Takes the first `count` bytes of `space` as read.
    pub(crate) fn filled(&mut self, count: usize) {
        let block = self.block.as_mut().expect("`space` was asked");
        let at = block.filled();
        block.advance(count);
        self.intake.bytes_read += count as u64;
        if count == 0 {
            return;
        }
        if self.skip_line_feed {
            self.skip_line_feed = false;
            // The cut was behind the `\r`, so nothing can be carried before the `\n`.
            debug_assert_eq!(at, 0);
            if block.bytes()[0] == b'\n' {
                block.skip_first();
                self.intake.bytes_skipped += 1;
                self.scanned = 1;
            }
        }
        if self.mid_oversize {
            self.drop_to_delimiter_cold();
        }
    }

    /// Counts `count` bytes that were received, are no content, and are not in `space`.
    pub(crate) fn skipped(&mut self, count: usize) {
        self.intake.bytes_read += count as u64;
        self.intake.bytes_skipped += count as u64;
    }

    /// Cuts at the last record end. Returns the block up to there, if there is one, and carries the
    /// rest; a full block without a record end is enlarged, up to the record limit.
    pub(crate) fn cut(&mut self) -> Option<Block> {
        let block = self.block.as_mut()?;
        let filled = block.filled();
        let offset = filled - block.bytes().len();
        let unseen = &block.bytes()[self.scanned.saturating_sub(offset)..];
        match self.delimiters.line_ends.rfind(unseen) {
            Some(last) => {
                let end = self.scanned.max(offset) + last + 1;
                self.mid_record = false;
                Some(self.give_away(end))
            }
            None => {
                self.scanned = filled;
                if filled == block.capacity() {
                    self.outgrow_cold()
                } else {
                    None
                }
            }
        }
    }

    /// Returns a block of the first `end` bytes and carries the rest.
    fn give_away(&mut self, end: usize) -> Block {
        let mut block = self.block.take().expect("the caller looked into it");
        let offset = block.filled() - block.bytes().len();
        debug_assert!(self.carry.is_empty());
        self.carry.extend_from_slice(&block.bytes()[end - offset..]);
        block.truncate(end);
        let may_pair = |&last: &u8| self.delimiters.line_ends.may_pair(last);
        self.skip_line_feed = self.carry.is_empty() && block.bytes().last().is_some_and(may_pair);
        self.scanned = 0;
        block
    }

    /// Handles a full block in which the record is not complete.
    #[cold]
    fn outgrow_cold(&mut self) -> Option<Block> {
        let (max, delimiters) = (self.record_bytes_max, self.delimiters);
        let block = self.block.as_mut().expect("`cut` looked into it");
        let held = block.bytes().len();
        // The next byte decides whether a `\r` at the end is part of the record.
        let too_long = delimiters.content_len(block.bytes(), b"") > max;
        // The record is longer than the limit, and may have been for long: its complete tokens go
        // as they are.
        if (too_long || self.mid_record)
            && let Some(last) = delimiters.rfind(&block.bytes()[..held.min(max + 1)])
        {
            self.mid_record = true;
            let end = block.filled() - held + last + 1;
            return Some(self.give_away(end));
        }
        if too_long {
            self.intake.oversize_tokens += 1;
            self.mid_oversize = true;
            self.drop_to_delimiter_cold();
        } else {
            let larger = block.capacity().saturating_mul(2).min(max + 1);
            block.spill_to(larger.max(block.capacity() + 1));
        }
        None
    }

    /// Drops the rest of an oversize token, including its delimiter.
    #[cold]
    fn drop_to_delimiter_cold(&mut self) {
        let block = self.block.as_mut().expect("`filled` has a block");
        let delimiters = self.delimiters;
        let Some(at) = delimiters.find(block.bytes()) else {
            self.intake.oversize_bytes += block.bytes().len() as u64;
            block.recycle();
            self.scanned = 0;
            return;
        };
        self.intake.oversize_bytes += at as u64;
        self.intake.bytes_skipped += 1;
        self.mid_oversize = false;
        let delimiter = block.bytes()[at];
        let rest = block.bytes()[at + 1..].to_vec();
        block.recycle();
        let ends_record = delimiters.line_ends.is_end(delimiter);
        let may_pair = delimiters.line_ends.may_pair(delimiter);
        self.mid_record = !ends_record;
        self.intake.records_ended += u64::from(ends_record);
        self.skip_line_feed = may_pair && rest.is_empty();
        let rest = match rest.split_first() {
            Some((b'\n', behind)) if may_pair => {
                self.intake.bytes_skipped += 1;
                behind
            }
            _ => &rest[..],
        };
        block.spill_to(rest.len());
        block.append(rest);
        self.scanned = 0;
    }

    /// Ends an unterminated last line as `ending` says; the framer holds nothing else. The line is
    /// then complete, in the block or carried.
    fn end(&mut self, ending: Ending) {
        if ending == Ending::Clean {
            self.drop_undecided();
        }
        let held = self.held_bytes();
        // A record whose beginning is in an earlier block has a last token, even an empty one.
        let unterminated = held > 0 || self.mid_record;
        if self.mid_oversize {
            match ending {
                Ending::Clean => self.intake.records_ended += 1,
                // Its bytes are in the oversize column already.
                Ending::Reset => self.intake.truncated_records += 1,
            }
        } else if unterminated && ending == Ending::Reset {
            self.intake.truncated_records += 1;
            self.intake.truncated_bytes += held as u64;
            self.carry.clear();
            if let Some(block) = &mut self.block {
                block.recycle();
            }
            self.scanned = 0;
        } else if unterminated {
            let record = match &self.block {
                Some(block) => block.bytes(),
                None => &self.carry,
            };
            let end = self.delimiters.end_behind(record);
            self.intake.bytes_ended += end.len() as u64;
            match &mut self.block {
                Some(block) => {
                    block.spill_to(block.filled() + end.len());
                    block.append(end);
                }
                None => self.carry.extend_from_slice(end),
            }
        }
        self.mid_oversize = false;
        self.mid_record = false;
        // An ended line leaves its `\n` in the block, which `cut` finds; a `\r` was cut behind
        // before.
        self.skip_line_feed = false;
    }

    /// Drops a token that is too long at the clean end of a connection: a `\r` at the end, which
    /// the next byte would have decided about, is content.
    fn drop_undecided(&mut self) {
        let unfinished = match &self.block {
            Some(block) => block.bytes(),
            None => &self.carry,
        };
        let len = unfinished.len();
        if len <= self.record_bytes_max || self.delimiters.rfind(unfinished).is_some() {
            return;
        }
        self.intake.oversize_tokens += 1;
        self.intake.oversize_bytes += len as u64;
        self.mid_oversize = true;
        self.carry.clear();
        if let Some(block) = &mut self.block {
            block.recycle();
        }
        self.scanned = 0;
    }

    /// Returns `true` if a carried line is complete because its connection ended: it needs a block.
    fn carries_record(&self) -> bool {
        self.carry.last() == Some(&self.delimiters.line_ends.terminator())
    }

    /// Returns what has been read and done so far.
    pub(crate) fn intake(&self) -> Intake {
        Intake {
            bytes_carried: self.held_bytes() as u64,
            ..self.intake
        }
    }
}
