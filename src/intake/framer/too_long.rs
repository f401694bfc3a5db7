//! Records and tokens that are longer than the limit, and records for which there is no memory.
//!
//! Promise: the tokens that come out are those of the record, except those longer than the limit,
//! which are dropped and counted.
//! Must not know: sources, threads, the clock.

use super::{Framer, Rule};
use crate::intake::cuts::end_len;
use crate::ring::arena::Block;

impl Framer {
    /// Returns `true` if what is carried and the rest of its record, as far as it is here, are
    /// longer than the limit.
    pub(in crate::intake) fn is_too_long(&self) -> bool {
        let new = self.new_bytes();
        if self.carry.len() + new.len() <= self.record_bytes_max {
            return false;
        }
        let end = self.delimiters.line_ends.first_end(new);
        let end = end.unwrap_or(new.len());
        self.delimiters.content_len(&self.carry, &new[..end]) > self.record_bytes_max
    }

    /// Handles a full block in which the record is not complete.
    #[cold]
    pub(super) fn outgrow_cold(&mut self) -> Option<Block> {
        self.join();
        let (max, delimiters) = (self.record_bytes_max, self.delimiters);
        let block = self.block.as_mut().expect("`cut` looked into it");
        let held = block.bytes().len();
        // The next byte decides whether a `\r` at the end is part of the record.
        let too_long = delimiters.content_len(block.bytes(), b"") > max;
        // The record is longer than the limit, and may have been for long: its complete tokens go
        // as they are.
        if (too_long || self.mid_record)
            && let Some(last) = delimiters.rfind(&block.bytes()[..held.min(max.saturating_add(1))])
        {
            self.mid_record = true;
            self.complete(held - (last + 1));
            return Some(self.give_away());
        }
        if too_long {
            self.drop_token();
        } else {
            let larger = block
                .capacity()
                .saturating_mul(2)
                .min(max.saturating_add(1));
            block.spill_to(larger.max(block.capacity() + 1));
        }
        None
    }

    /// What is carried and the rest of its record [are too long](Self::is_too_long): makes records
    /// of complete tokens, or drops the token that is carried in part. What is left is shorter.
    #[cold]
    pub(in crate::intake) fn cut_short_cold(&mut self) {
        let delimiters = self.delimiters;
        // Behind the complete tokens of the carry.
        let start = delimiters.rfind(&self.carry).map_or(0, |at| at + 1);
        let new = self.new_bytes();
        let first = delimiters.find(new);
        let token = (&self.carry[start..], &new[..first.unwrap_or(new.len())]);
        // A `\r` before a separator is content. Before a line end, or the next read, it may not be.
        let content = match first {
            Some(at) if !delimiters.line_ends.is_end(new[at]) => token.0.len() + token.1.len(),
            _ => delimiters.content_len(token.0, token.1),
        };
        if content <= self.record_bytes_max {
            return self.pass_on_own();
        }
        if start > 0 {
            let rest = self.carry.split_off(start);
            let behind = self.new_bytes().len();
            self.close_gap();
            self.join();
            self.complete(behind);
            self.mid_record = true;
            self.carry = rest;
        }
        self.drop_token();
    }

    /// Drops the token at the end of the carry, all of it, and its rest.
    fn drop_token(&mut self) {
        self.intake.oversize_tokens += 1;
        self.intake.oversize_bytes += self.carry.len() as u64;
        self.mid_oversize = true;
        self.close_gap();
        self.carry.clear();
        if self.is_shared {
            // Others wait for the memory.
            self.carry = Vec::new();
        }
        self.drop_to_delimiter_cold();
    }

    /// Removes the gap.
    fn close_gap(&mut self) {
        let (from, gap) = (self.base, std::mem::take(&mut self.gap));
        if let Some(block) = self.block.as_mut().filter(|_| gap > 0) {
            block.remove(from..from + gap);
            self.scanned -= gap;
        }
    }

    /// Makes records of the complete tokens of the unfinished record. Returns `false`, and changes
    /// nothing, if there are none.
    fn pass_on(&mut self) -> bool {
        let delimiters = self.delimiters;
        let has_any = |bytes: &[u8]| delimiters.rfind(bytes).is_some();
        if delimiters.rule == Rule::Lines || !has_any(self.new_bytes()) && !has_any(&self.carry) {
            return false;
        }
        self.pass_on_own();
        true
    }

    fn pass_on_own(&mut self) {
        self.join();
        let new = self.new_bytes();
        let last = self.delimiters.rfind(new).expect("there is one");
        let is_end = self.delimiters.line_ends.is_end(new[last]);
        self.complete(new.len() - (last + 1));
        self.mid_record = !is_end;
    }

    /// There is no memory to carry the unfinished record of the active channel. Its complete tokens
    /// are passed on, or it is dropped.
    pub(in crate::intake) fn overflow_active(&mut self) {
        if !self.pass_on() {
            self.drop_token();
        }
    }

    /// There is no memory to carry the unfinished record of a channel that has no block. Returns
    /// its complete tokens, for the block of another one, or drops it and returns nothing.
    pub(in crate::intake) fn overflow_idle(&mut self) -> Vec<u8> {
        debug_assert!(self.block.is_none());
        let last = match self.delimiters.rule {
            Rule::Lines => None,
            _ => self.delimiters.rfind(&self.carry),
        };
        let Some(last) = last else {
            self.drop_token();
            return Vec::new();
        };
        let rest = self.carry.split_off(last + 1);
        self.mid_record = true;
        self.passed_bytes += last as u64 + 1;
        std::mem::replace(&mut self.carry, rest)
    }

    /// Takes whole records, or complete tokens, of another channel into the block.
    pub(in crate::intake) fn take_in(&mut self, records: &[u8]) {
        if records.is_empty() {
            return;
        }
        let block = self.block.as_mut().expect("it is the active channel");
        // Behind a byte that was skipped, which is no content.
        let at = self.base.max(block.skipped());
        block.insert(at, records);
        self.base = at + records.len();
        self.scanned += records.len();
    }

    /// Drops the rest of an oversize token, including its delimiter.
    #[cold]
    pub(super) fn drop_to_delimiter_cold(&mut self) {
        let delimiters = self.delimiters;
        self.seal();
        let from = self.own_start();
        let new = self.new_bytes();
        let Some(at) = delimiters.find(new) else {
            let dropped = new.len();
            self.intake.oversize_bytes += dropped as u64;
            self.drop_unfinished();
            return;
        };
        let ends_record = delimiters.line_ends.is_end(new[at]);
        let len = end_len(delimiters.line_ends, &new[at..]);
        self.skip_line_feed |= len.is_none();
        let len = len.unwrap_or(1);
        self.intake.oversize_bytes += at as u64;
        self.intake.bytes_skipped += len as u64;
        self.mid_oversize = false;
        self.mid_record = !ends_record;
        self.intake.records_ended += u64::from(ends_record);
        let block = self.block.as_mut().expect("it has bytes");
        block.remove(from..from + at + len);
        self.scanned = from;
    }

    /// The block is larger than the longest record: drops the tokens of it that are too long. What
    /// is carried and the rest of its record are not.
    #[cold]
    pub(super) fn drop_long_tokens_cold(&mut self) {
        let (max, delimiters) = (self.record_bytes_max, self.delimiters);
        let mut from = 0;
        loop {
            let rest = &self.new_bytes()[from..];
            let end = delimiters.find(rest);
            let token = &rest[..end.unwrap_or(rest.len())];
            let content = match end {
                Some(at) if !delimiters.line_ends.is_end(rest[at]) => token.len(),
                _ => delimiters.content_len(token, b""),
            };
            if content > max {
                if from > 0 {
                    let before = self.new_bytes()[from - 1];
                    let behind = self.new_bytes().len() - from;
                    self.join();
                    self.complete(behind);
                    self.mid_record = !delimiters.line_ends.is_end(before);
                }
                self.drop_token();
                from = 0;
            } else if end.is_some() {
                from += token.len() + 1;
            } else {
                return;
            }
        }
    }

    /// Drops a token that is too long at the clean end of a connection: a `\r` at the end, which
    /// the next byte would have decided about, is content.
    pub(super) fn drop_undecided(&mut self) {
        let delimiters = self.delimiters;
        let has_any = |bytes: &[u8]| delimiters.rfind(bytes).is_some();
        let is_too_long = self.unfinished_bytes() > self.record_bytes_max;
        if is_too_long && !has_any(&self.carry) && !has_any(self.new_bytes()) {
            self.drop_token();
        }
    }
}
