//! Finds the record ends of one channel, in blocks that it may share with other channels.
//!
//! Promise: every block ends with a record end (or, inside a record that is longer than the limit,
//! with another delimiter); no byte is lost or doubled; an incomplete last line is carried over to
//! the next block; a byte that ends no line costs the same however much of its line is carried.
//! Must not know: sources, threads, the clock, tokens.
//!
//! ```text
//!   read into ──▶ [ whole records | gap | new bytes … \n | unfinished ]
//!                  ▲ of any channel  ▲ as long as what is carried; filled in when the record ends
//!                  └─────────── block, given away ─────┘└─ carried ─┘
//! ```
//!
//! A channel leaves a block with [`Framer::retire`], and the next one takes it over with
//! [`Framer::adopt`]. What is carried stays where it is meanwhile. If it is larger than half a
//! block there is no gap: the record is put together when it ends.
//!
//! If [`LineEnds`] say so, a `\r` ends a record at once. If the very next byte is `\n`, in whatever
//! read it comes, it belongs to that end. When a cut falls between the two, the framer takes the
//! `\n` off the front of the next block, so a shard never needs its neighbour.

#[cfg(test)]
pub(crate) mod tests;
mod too_long;
mod whole_records;

use crate::ledger::IntakeTotals;
use crate::limits::READ_SHARE_MIN;
use crate::position::Before;
use crate::ring::arena::Block;
use crate::split::{Delimiters, LineEnds, Rule};

/// Memory for an unfinished record that a channel beside others keeps between two records.
const KEPT_BYTES_MAX: usize = 4096;

/// Turns the bytes of one channel into blocks of whole records.
pub(crate) struct Framer {
    delimiters: Delimiters,
    record_bytes_max: usize,
    /// The block being filled.
    block: Option<Block>,
    /// Bytes at the front of the block that are whole records, of any channel.
    base: usize,
    /// Bytes behind them that are reserved for what is carried: as many as that is, or none.
    gap: usize,
    /// The first bytes of the unfinished record; the others are in the block.
    carry: Vec<u8>,
    /// Bytes at the front of the block behind which no record end was looked for.
    scanned: usize,
    /// The byte before the next one was a `\r` that ended a record.
    skip_line_feed: bool,
    /// The record was longer than the limit, and its beginning was given away.
    mid_record: bool,
    /// Inside a token that was longer than the limit: dropping up to the next delimiter.
    mid_oversize: bool,
    /// Other channels use the same blocks.
    is_shared: bool,
    /// Bytes that became parts of whole records.
    passed_bytes: u64,
    intake: IntakeTotals,
}

debug_fields!(
    [] Framer,
    "Framer",
    base,
    gap,
    scanned,
    skip_line_feed,
    mid_record,
    mid_oversize,
    passed_bytes,
    intake
);

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
    /// Reading stops, though there may be more. Where that can be read again, an unterminated last
    /// line waits for it; elsewhere it is a record.
    Stop,
}

impl Framer {
    /// A framer of a channel whose records end as `line_ends` says. A record that is longer than
    /// `record_bytes_max` may be cut at the delimiters of `rule`.
    pub(crate) fn new(rule: Rule, line_ends: LineEnds, record_bytes_max: usize) -> Self {
        Framer {
            delimiters: Delimiters { rule, line_ends },
            record_bytes_max,
            block: None,
            base: 0,
            gap: 0,
            carry: Vec::new(),
            scanned: 0,
            skip_line_feed: false,
            mid_record: false,
            mid_oversize: false,
            is_shared: false,
            passed_bytes: 0,
            intake: IntakeTotals::default(),
        }
    }

    /// From now on other channels use the same blocks.
    pub(super) fn share(&mut self) {
        self.is_shared = true;
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
        Ok(self.free_space())
    }

    /// Returns the memory to read into of a framer that [has some](Self::has_space).
    pub(super) fn free_space(&mut self) -> &mut [u8] {
        self.block.as_mut().expect("it has space").space()
    }

    /// Bytes of the memory to read into: none without a block.
    pub(super) fn room(&self) -> usize {
        let free = |block: &Block| block.capacity() - block.filled();
        self.block.as_ref().map_or(0, free)
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
        if self.needs_block_to_end(ending) {
            self.provide(port.take_empty());
        }
        self.end(ending);
        while port.place(self)? {}
        Ok(())
    }

    /// Returns `true` if there is a block and it is worth reading into.
    pub(super) fn has_space(&self) -> bool {
        self.block.as_ref().is_some_and(|block| {
            let free = self.room();
            let has_place = self.gap == self.carry.len() || self.is_detached_from(block);
            // One that grew for a record is larger than a record may be.
            let has_grown = self.is_shared && self.base > 0 && block.is_spilled();
            // A block that holds no record end is filled to the last byte before it grows.
            has_place
                && !has_grown
                && (free * READ_SHARE_MIN >= block.capacity()
                    || (free > 0 && self.base == 0 && self.scanned == block.filled()))
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
        let in_block = self.block.as_ref().map_or(0, |block| block.bytes().len());
        self.carry.len() + in_block - self.gap
    }

    /// Returns the bytes of the unfinished record.
    pub(super) fn unfinished_bytes(&self) -> usize {
        self.carry.len() + self.new_bytes().len()
    }

    /// Returns `true` in the middle of a record, even if a part of it was given away or dropped.
    pub(crate) fn is_in_record(&self) -> bool {
        self.unfinished_bytes() > 0 || self.mid_record || self.mid_oversize
    }

    /// Bytes of the unfinished record that are in the block.
    pub(super) fn new_bytes(&self) -> &[u8] {
        self.block
            .as_ref()
            .map_or(&[], |block| &block.written()[self.own_start()..])
    }

    /// Where the bytes begin that were read behind whole records and the gap.
    fn own_start(&self) -> usize {
        let skipped = self.block.as_ref().map_or(0, Block::skipped);
        (self.base + self.gap).max(skipped)
    }

    /// Takes an empty block to fill.
    pub(super) fn provide(&mut self, block: Block) {
        assert!(
            self.block.is_none() && block.filled() == 0,
            "one block at a time, and an empty one"
        );
        self.adopt(block);
    }

    /// Takes a block to fill that holds whole records or nothing.
    pub(super) fn adopt(&mut self, mut block: Block) {
        self.base = block.filled();
        self.gap = 0;
        let (carried, free) = (self.carry.len(), block.capacity() - block.filled());
        if carried > 0 && !self.is_detached_from(&block) {
            if carried >= free && self.base == 0 {
                // One byte more than is carried must fit, or nothing could be read. Never far past
                // the limit, because a token that fits is within the limit. What is carried may be
                // longer by a `\r` that the next byte decides about.
                let larger = (carried * 2).min(self.record_bytes_max.saturating_add(1));
                block.spill_to(larger.max(carried + 1));
            }
            if carried < block.capacity() - block.filled() {
                block.advance(carried);
                self.gap = carried;
            }
        }
        self.scanned = block.filled();
        self.block = Some(block);
    }

    /// Returns `true` if what is carried is put together with the rest of its record only when that
    /// ends: a block that is full of it is of little use to the other channels.
    fn is_detached_from(&self, block: &Block) -> bool {
        self.is_shared && self.carry.len() > block.capacity() / 2
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
            if block.written()[at] == b'\n' {
                self.intake.bytes_skipped += 1;
                if at == 0 {
                    block.skip_first();
                    self.scanned = 1;
                } else {
                    block.remove(at..at + 1);
                }
            }
        }
        if self.mid_oversize {
            self.drop_to_delimiter_cold();
        }
        // One more than the limit, and a delimiter.
        let capacity = self.block.as_ref().map_or(0, Block::capacity);
        let is_large = capacity >= self.record_bytes_max.saturating_add(2);
        while (is_large || self.gap < self.carry.len())
            && !self.carry.is_empty()
            && self.is_too_long()
        {
            self.cut_short_cold();
        }
        if is_large {
            self.drop_long_tokens_cold();
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
        self.block.as_ref()?;
        self.settle();
        if self.base > 0 {
            return Some(self.give_away());
        }
        let block = self.block.as_ref()?;
        if block.filled() == block.capacity() && !self.is_shared {
            return self.outgrow_cold();
        }
        None
    }

    /// Makes whole records of what was read, as far as it holds record ends.
    pub(crate) fn settle(&mut self) {
        let Some(block) = &self.block else { return };
        let unseen = &block.written()[self.scanned..];
        let Some(last) = self.delimiters.line_ends.last_end(unseen) else {
            self.scanned = block.filled();
            return;
        };
        let behind = block.filled() - (self.scanned + last + 1);
        self.join();
        self.complete(behind);
        self.mid_record = false;
    }

    /// Takes everything in the block for whole records, except the last `behind` bytes. Nothing is
    /// carried.
    fn complete(&mut self, behind: usize) {
        let block = self.block.as_ref().expect("it holds something");
        let end = block.filled() - behind;
        self.passed_bytes += (end - self.own_start()) as u64;
        self.base = end;
        self.scanned = end;
    }

    /// Puts what is carried before the bytes that were read behind it.
    fn join(&mut self) {
        let Some(block) = self.block.as_mut().filter(|_| !self.carry.is_empty()) else {
            return;
        };
        if self.gap > 0 {
            let place = self.base..self.base + self.gap;
            block.written_mut()[place].copy_from_slice(&self.carry);
        } else {
            block.insert(self.base, &self.carry);
            self.scanned += self.carry.len();
        }
        self.gap = 0;
        self.forget_carry();
    }

    fn forget_carry(&mut self) {
        self.carry.clear();
        if self.is_shared && self.carry.capacity() > KEPT_BYTES_MAX {
            self.carry = Vec::new();
        }
    }

    /// Returns the block up to the end of its whole records, and carries the rest.
    fn give_away(&mut self) -> Block {
        let mut block = self.block.take().expect("the caller looked into it");
        let rest = &block.written()[self.base + self.gap..];
        self.carry.extend_from_slice(rest);
        self.leave(&mut block);
        block
    }

    /// Removes the unfinished record, which is carried, from `block`.
    fn leave(&mut self, block: &mut Block) {
        block.truncate(self.base);
        let may_pair = |&last: &u8| self.delimiters.line_ends.may_pair(last);
        self.skip_line_feed |= self.carry.is_empty() && block.bytes().last().is_some_and(may_pair);
        (self.base, self.gap, self.scanned) = (0, 0, 0);
    }

    /// Carries the unfinished record, in memory of at least `capacity` bytes.
    pub(super) fn stow(&mut self, capacity: usize) {
        self.carry
            .reserve_exact(capacity.saturating_sub(self.carry.len()));
        let from = self.own_start();
        let Some(block) = &self.block else { return };
        self.carry.extend_from_slice(&block.written()[from..]);
        self.empty_to_base();
    }

    /// Removes the unfinished record, and the gap before it, from the block.
    fn empty_to_base(&mut self) {
        if let Some(block) = &mut self.block {
            if self.base == 0 {
                block.recycle();
            } else {
                block.truncate(self.base);
            }
        }
        self.gap = 0;
        self.scanned = self.base;
    }

    /// Returns the block to another channel; what it holds is whole records. The unfinished record
    /// is carried already.
    pub(super) fn retire(&mut self) -> Option<Block> {
        let mut block = self.block.take()?;
        debug_assert!(
            block.filled() == (self.base + self.gap).max(block.skipped()),
            "`stow` comes first"
        );
        if self.base == 0 {
            block.recycle();
        }
        self.leave(&mut block);
        // A `\n` behind a `\r` would be a part of the same end, and the next channel may begin with
        // one: an empty line. If only the last `\r` were replaced, the last two would be one end.
        if self.delimiters.line_ends == LineEnds::Universal {
            end_with_line_feed(block.written_mut());
        }
        Some(block)
    }

    /// Takes the memory of what is carried: how many bytes, and how many it has room for.
    pub(super) fn carried(&self) -> (usize, usize) {
        (self.carry.len(), self.carry.capacity())
    }

    /// Gives back memory that is kept for later records, if it is more than is carried.
    pub(super) fn shrink(&mut self) {
        if self.carry.capacity() > self.carry.len() * 2 {
            self.carry.shrink_to_fit();
        }
    }

    /// Returns `true` if a clean end makes a record of what is carried, which needs a block.
    pub(super) fn needs_block_to_end(&self, ending: Ending) -> bool {
        ending != Ending::Reset
            && self.block.is_none()
            && !self.mid_oversize
            && (!self.carry.is_empty() || self.mid_record)
    }

    /// Ends an unterminated last line as `ending` says. The line is then complete, or dropped.
    pub(super) fn end(&mut self, ending: Ending) {
        self.settle();
        if ending != Ending::Reset {
            self.drop_undecided();
        }
        let held = self.unfinished_bytes();
        // A record whose beginning is in an earlier block has a last token, even an empty one.
        let unterminated = held > 0 || self.mid_record;
        if self.mid_oversize {
            match ending {
                Ending::Clean | Ending::Stop => self.intake.records_ended += 1,
                // Its bytes are in the oversize column already.
                Ending::Reset => self.intake.truncated_records += 1,
            }
        } else if unterminated && ending == Ending::Reset {
            self.intake.truncated_records += 1;
            self.intake.truncated_bytes += held as u64;
            self.drop_unfinished();
        } else if unterminated {
            self.join();
            let end = self.delimiters.end_behind(self.new_bytes());
            self.intake.bytes_ended += end.len() as u64;
            let block = self.block.as_mut().expect("`needs_block_to_end` was asked");
            block.insert(block.filled(), end);
            self.complete(0);
        }
        self.mid_oversize = false;
        self.mid_record = false;
        // What comes next is another line, even if it is empty.
        self.skip_line_feed = false;
        self.seal();
    }

    /// Makes the end of the last whole record one that takes no part of what comes next.
    fn seal(&mut self) {
        let base = self.base;
        if let Some(block) = &mut self.block
            && self.delimiters.line_ends == LineEnds::Universal
        {
            end_with_line_feed(&mut block.written_mut()[..base]);
        }
    }

    /// Drops the unfinished record, as far as it is here.
    fn drop_unfinished(&mut self) {
        self.seal();
        self.forget_carry();
        self.empty_to_base();
    }

    /// Returns the bytes received up to the end of the last whole record, once everything that is
    /// whole was cut, and what they mean for those behind them.
    pub(super) fn whole(&self) -> (u64, Before) {
        let before = Before {
            is_return: self.skip_line_feed,
            is_in_record: self.mid_record,
            is_in_oversize: self.mid_oversize,
        };
        let held = self.unfinished_bytes() as u64;
        (self.intake.bytes_read - held, before)
    }

    /// Goes on behind bytes that another framer has taken in.
    pub(super) fn resume(&mut self, before: Before) {
        self.skip_line_feed = before.is_return;
        self.mid_record = before.is_in_record;
        self.mid_oversize = before.is_in_oversize;
    }

    /// Bytes of the longest record that is kept whole.
    pub(crate) fn record_bytes_max(&self) -> usize {
        self.record_bytes_max
    }

    /// Tokens dropped so far because they were too long, or for want of memory.
    pub(super) fn oversize_tokens(&self) -> u64 {
        self.intake.oversize_tokens
    }

    /// Makes the space at least `bytes` long.
    pub(crate) fn enlarge(&mut self, bytes: usize) {
        let block = self.block.as_mut().expect("it has space");
        block.spill_to(block.filled() + bytes);
    }

    /// Begins a new channel that shares its blocks.
    pub(super) fn reset(&mut self) {
        let Delimiters { rule, line_ends } = self.delimiters;
        *self = Framer {
            is_shared: true,
            ..Framer::new(rule, line_ends, self.record_bytes_max)
        };
    }

    /// As [`intake`](Self::intake), after a check that each byte of this channel is accounted for.
    ///
    /// # Panics
    ///
    /// One is not: a bug of this crate.
    pub(super) fn checked_intake(&self) -> IntakeTotals {
        let intake = &self.intake;
        let came_in = intake.bytes_read + intake.bytes_ended;
        let accounted = self.passed_bytes
            + intake.bytes_skipped
            + intake.oversize_bytes
            + intake.truncated_bytes
            + self.unfinished_bytes() as u64;
        assert_eq!(came_in, accounted, "the bytes of one channel: {self:?}");
        self.intake()
    }

    /// Returns what has been read and done so far.
    pub(crate) fn intake(&self) -> IntakeTotals {
        IntakeTotals {
            bytes_carried: self.held_bytes() as u64,
            ..self.intake
        }
    }
}

/// Replaces each `\r` at the end of `lines` with `\n`. If only the last one were replaced, the last
/// two would be one end.
pub(crate) fn end_with_line_feed(lines: &mut [u8]) {
    let returns = lines.iter_mut().rev().take_while(|byte| **byte == b'\r');
    returns.for_each(|byte| *byte = b'\n');
}
