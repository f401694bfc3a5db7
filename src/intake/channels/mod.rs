//! Many channels that fill the same blocks: connections, files, partitions.
//!
//! Promise: records of two channels never mix, whatever the cuts; what is held of unfinished
//! records stays within its bound, and when memory is short, the channel that holds most of it
//! pays, so a channel with short records never pays for one that ends none; opening, reading and
//! closing channels allocates nothing in steady state.
//! Must not know: sources, threads, the clock.
//!
//! One channel at a time is active: the block is with its framer, and what it has read of an
//! unfinished record is in the block. When another becomes active, that is carried.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::id::ChannelId;
use crate::intake::framer::{BlockPort, Ending, Framer};
use crate::ledger::IntakeTotals;
use crate::position::{Position, Positions};
use crate::split::{Delimiters, LineEnds};

/// The channels of one source.
pub(crate) struct Channels {
    /// The first one is always open.
    slots: Vec<ChannelSlot>,
    /// Closed ones.
    free: Vec<usize>,
    active: usize,
    /// Memory for unfinished records, of all channels.
    held: usize,
    held_bytes_max: usize,
    record_bytes_max: usize,
    /// Channels of which a token was dropped since the last [`Channels::take_long`], each once.
    long: Vec<ChannelId>,
    /// What was done with the bytes of channels that are closed.
    closed: IntakeTotals,
    /// Open channels that have a position.
    positioned: usize,
    /// Where channels were that have closed since the last cut.
    left: Positions,
    /// How often all channels were asked for memory.
    #[cfg(test)]
    pub(crate) searches: usize,
}

struct ChannelSlot {
    framer: Framer,
    is_open: bool,
    /// Memory for its unfinished record, as far as it is in [`Channels::held`].
    held: usize,
    /// Tokens that were dropped because they were too long, as of the last look.
    long_tokens: u64,
    is_long: bool,
    origin: Option<ChannelOrigin>,
}

/// Where a channel with a position began.
struct ChannelOrigin {
    name: Arc<str>,
    position: Position,
    /// The source says how far it is; otherwise the channel's bytes are counted.
    is_reported: bool,
}

/// What a channel left when it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remainder {
    /// It ended in the middle of a record, even if the record was dropped or a part of it passed
    /// on.
    pub is_partial: bool,
    /// Bytes of that record that were dropped now.
    pub dropped_bytes: u64,
}

/// What was dropped because it was too long, or for want of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Lines, or words where lines are only split.
    pub tokens: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Channels {
    /// The first channel, whose records end at the record ends of `framer`. The unfinished records
    /// of all channels together take at most `held_bytes_max`, or the memory of the longest record
    /// if that is more.
    pub(crate) fn new(framer: Framer, held_bytes_max: usize) -> Self {
        let record_bytes_max = framer.record_bytes_max();
        // A `\r` behind the longest record may be a part of its end.
        let may_end_later = framer.delimiters().line_ends == LineEnds::Lf;
        let longest = record_bytes_max.saturating_add(usize::from(may_end_later));
        Channels {
            slots: vec![ChannelSlot::new(framer)],
            free: Vec::new(),
            active: 0,
            held: 0,
            held_bytes_max: held_bytes_max.max(longest),
            record_bytes_max,
            long: Vec::new(),
            closed: IntakeTotals::default(),
            positioned: 0,
            left: Positions::default(),
            #[cfg(test)]
            searches: 0,
        }
    }

    /// Opens a channel. Its number is reused when it is closed.
    pub(crate) fn open(&mut self) -> ChannelId {
        self.slots[0].framer.share();
        let index = self.free.pop().unwrap_or_else(|| {
            let Delimiters { rule, line_ends } = self.delimiters();
            let mut framer = Framer::new(rule, line_ends, self.record_bytes_max);
            framer.share();
            self.slots.push(ChannelSlot::new(framer));
            self.slots.len() - 1
        });
        self.slots[index].is_open = true;
        ChannelId(index)
    }

    /// As [`open`](Self::open), for a channel called `name` that continues at `position`.
    pub(crate) fn open_at(&mut self, name: &str, position: Position) -> ChannelId {
        let channel = self.open();
        let slot = &mut self.slots[channel.0];
        slot.framer.resume(position.before);
        slot.origin = Some(ChannelOrigin {
            name: name.into(),
            position,
            is_reported: false,
        });
        self.positioned += 1;
        self.left.remove(name);
        channel
    }

    /// Everything of `channel` up to `position` was filled in, as whole records. Returns `false` if
    /// the last one is not whole, or the channel has no position.
    pub(crate) fn reached(&mut self, channel: ChannelId, position: Position) -> bool {
        let slot = &mut self.slots[channel.0];
        slot.framer.settle();
        let is_whole = !slot.framer.is_in_record();
        let Some(origin) = slot.origin.as_mut().filter(|_| is_whole) else {
            return false;
        };
        origin.position = position;
        origin.is_reported = true;
        true
    }

    /// Returns `true` if positions are to be taken with the next cut.
    pub(crate) fn has_positions(&self) -> bool {
        self.positioned > 0 || !self.left.is_empty()
    }

    /// Adds where each channel that has a position is, once everything that is whole was cut. A
    /// channel that has closed is added once more.
    pub(crate) fn take_positions(&mut self, into: &mut Positions) {
        into.append(&mut self.left);
        let origins = self.slots.iter().filter_map(ChannelSlot::position);
        origins.for_each(|(name, position)| into.push(Arc::clone(name), position));
    }

    /// Returns where records that are too long may be cut.
    pub(crate) fn delimiters(&self) -> Delimiters {
        self.slots[0].framer.delimiters()
    }

    /// Returns the length in bytes of the longest record that is kept whole.
    pub(crate) fn record_bytes_max(&self) -> usize {
        self.record_bytes_max
    }

    /// Returns the memory to read bytes of `channel` into, which is never empty. Complete records
    /// go to `port` to make room.
    ///
    /// # Errors
    ///
    /// `port` has no room; call again.
    pub(crate) fn space<P: BlockPort + ?Sized>(
        &mut self,
        channel: ChannelId,
        port: &mut P,
    ) -> Result<&mut [u8], P::Full> {
        self.activate(channel.0);
        while !self.active().has_space() {
            if !self.active().has_block() {
                self.active().provide(port.take_empty());
            } else if !self.place(port)? && !self.active().has_space() {
                // The block is full of one record, which is carried now.
                let block = self.active().retire();
                self.active().adopt(block.expect("it was full"));
            }
        }
        Ok(self.active().free_space())
    }

    /// As [`space`](Self::space), at least `bytes` of it, for a source that cannot read a part.
    ///
    /// # Errors
    ///
    /// `port` has no room; call again.
    pub(crate) fn space_of<P: BlockPort + ?Sized>(
        &mut self,
        channel: ChannelId,
        bytes: usize,
        port: &mut P,
    ) -> Result<&mut [u8], P::Full> {
        if self.space(channel, port)?.len() < bytes {
            while self.place(port)? {}
            self.space(channel, port)?;
            self.active().enlarge(bytes);
        }
        Ok(self.active().free_space())
    }

    /// Takes a whole record of `channel`. Returns `false`, and takes nothing, if the channel is in
    /// the middle of a record.
    ///
    /// # Errors
    ///
    /// `port` has no room, and nothing was taken; call again.
    pub(crate) fn record<P: BlockPort + ?Sized>(
        &mut self,
        channel: ChannelId,
        record: &[u8],
        port: &mut P,
    ) -> Result<bool, P::Full> {
        let framer = &mut self.slots[channel.0].framer;
        framer.settle();
        if framer.is_in_record() {
            return Ok(false);
        }
        if record.len() > self.record_bytes_max {
            framer.drop_whole(record.len());
        } else {
            self.space_of(channel, record.len() + 1, port)?;
            if self.active().has_many_whole() {
                while self.place(port)? {}
                self.space_of(channel, record.len() + 1, port)?;
            }
            self.active().take_whole(record);
        }
        self.look(channel.0);
        Ok(true)
    }

    /// The first `count` bytes of the last [`space`](Self::space) were read.
    pub(crate) fn filled(&mut self, count: usize) {
        self.active().filled(count);
        self.look(self.active);
    }

    /// Counts `count` bytes of `channel` that are no content.
    pub(crate) fn skipped(&mut self, channel: ChannelId, count: usize) {
        self.slots[channel.0].framer.skipped(count);
    }

    /// Ends what came through `channel` so far: what comes next begins a new record.
    pub(crate) fn end<P: BlockPort + ?Sized>(
        &mut self,
        channel: ChannelId,
        ending: Ending,
        port: &mut P,
    ) -> Remainder {
        let index = channel.0;
        self.slots[index].framer.settle();
        if self.slots[index].framer.needs_block_to_end(ending) {
            self.activate(index);
            if self.active().has_block() && !self.active().has_space() {
                // If there is no room the block grows.
                let _ = self.place(port);
            }
            if !self.active().has_block() {
                self.active().provide(port.take_empty());
            }
        }
        let framer = &mut self.slots[index].framer;
        let remainder = Remainder {
            is_partial: framer.is_in_record(),
            dropped_bytes: match ending {
                Ending::Clean | Ending::Stop => 0,
                Ending::Reset => framer.unfinished_bytes() as u64,
            },
        };
        framer.end(ending);
        self.account(index);
        self.look(index);
        remainder
    }

    /// Ends and closes `channel`. The first one stays open.
    pub(crate) fn close<P: BlockPort + ?Sized>(
        &mut self,
        channel: ChannelId,
        ending: Ending,
        port: &mut P,
    ) -> Remainder {
        let index = channel.0;
        let slot = &mut self.slots[index];
        slot.framer.settle();
        // A record that is dropped is read again.
        let is_dropped = ending == Ending::Reset && slot.framer.is_in_record();
        let before = slot.position().filter(|_| is_dropped);
        let before = before.map(|(_, position)| position);
        let remainder = self.end(channel, ending, port);
        if index == 0 {
            return remainder;
        }
        if index == self.active {
            self.activate(0);
        }
        let slot = &mut self.slots[index];
        slot.is_open = false;
        if let Some((name, position)) = slot.position() {
            self.left.push(Arc::clone(name), before.unwrap_or(position));
            self.positioned -= 1;
            slot.origin = None;
        }
        let intake = slot.framer.checked_intake();
        self.closed = self.closed.plus(&intake);
        slot.framer.reset();
        slot.long_tokens = 0;
        self.account(index);
        self.free.push(index);
        remainder
    }

    /// Ends all channels, and has everything counted that they left. They stay open. Unless the
    /// source has come to its end, the unfinished record of a channel that has a position is left:
    /// the next run reads it again.
    ///
    /// # Errors
    ///
    /// `port` has no room; call again, with the same `ending`.
    pub(crate) fn finish<P: BlockPort + ?Sized>(
        &mut self,
        ending: Ending,
        port: &mut P,
    ) -> Result<(), P::Full> {
        for index in 0..self.slots.len() {
            while self.place(port)? {}
            if ending == Ending::Clean || self.slots[index].origin.is_none() {
                self.end(ChannelId(index), ending, port);
            }
        }
        while self.place(port)? {}
        Ok(())
    }

    /// Has complete records counted. Returns `true` if there were any.
    ///
    /// # Errors
    ///
    /// `port` has no room; call again.
    pub(crate) fn place<P: BlockPort + ?Sized>(&mut self, port: &mut P) -> Result<bool, P::Full> {
        if self.slots.len() > 1 {
            // Here, because memory for it may have to be made.
            self.stow();
        }
        let is_placed = port.place(self.active())?;
        self.account(self.active);
        self.look(self.active);
        Ok(is_placed)
    }

    /// The framer that has the block.
    pub(crate) fn active(&mut self) -> &mut Framer {
        &mut self.slots[self.active].framer
    }

    /// Returns a channel of which a token was dropped, because it was too long or memory was short,
    /// each once for all that was dropped since the last time.
    pub(crate) fn take_long(&mut self) -> Option<ChannelId> {
        let channel = self.long.pop()?;
        self.slots[channel.0].is_long = false;
        Some(channel)
    }

    /// Memory for unfinished records, in bytes.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn held_bytes(&self) -> usize {
        self.held
    }

    /// Returns what was read through the first channel, and done with it.
    pub(crate) fn first_intake(&self) -> IntakeTotals {
        self.slots[0].framer.intake()
    }

    /// Returns what was read so far through all channels, and done with it.
    pub(crate) fn intake(&self) -> IntakeTotals {
        let open = self.slots.iter().filter(|slot| slot.is_open);
        open.fold(self.closed, |sum, slot| {
            sum.plus(&slot.framer.checked_intake())
        })
    }

    /// Returns what was dropped so far because it was too long, or for want of memory.
    pub(crate) fn dropped(&self) -> Dropped {
        let IntakeTotals {
            oversize_tokens: tokens,
            oversize_bytes: bytes,
            ..
        } = self.intake();
        Dropped { tokens, bytes }
    }

    fn activate(&mut self, index: usize) {
        if index == self.active {
            return;
        }
        self.stow();
        let block = self.active().retire();
        self.account(self.active);
        self.active = index;
        if let Some(block) = block {
            self.active().adopt(block);
        }
    }

    /// Carries the unfinished record of the active channel, if there is memory for it.
    fn stow(&mut self) {
        let index = self.active;
        loop {
            let held_elsewhere = self.held - self.slots[index].held;
            let framer = &mut self.slots[index].framer;
            framer.settle();
            if framer.new_bytes().is_empty() {
                return;
            }
            if framer.is_too_long() {
                framer.cut_short_cold();
                self.look(index);
                continue;
            }
            let (len, capacity) = (framer.unfinished_bytes(), framer.carried().1);
            // All channels are looked at only if even the bytes themselves find no room.
            if held_elsewhere + len <= self.held_bytes_max || self.make_room(len) {
                let held_elsewhere = self.held - self.slots[index].held;
                let wanted = if len <= capacity {
                    capacity
                } else {
                    // Memory doubles, so a byte costs the same however much is held. If there is
                    // less, it grows by an equal share of what is left.
                    let ample = len.max((capacity * 2).min(self.record_bytes_max));
                    let left = self.held_bytes_max - (held_elsewhere + len);
                    ample.min(len + left / self.slots.len())
                };
                self.slots[index].framer.stow(wanted);
                return self.account(index);
            }
            // Afterwards less of it is left, or nothing.
            self.slots[index].framer.overflow_active();
            self.account(index);
            self.look(index);
        }
    }

    /// Memory is short: channels that hold more than the `wanted` bytes of the active one pay, the
    /// one that holds most first. Returns `true` if there is room for `wanted` bytes then.
    #[cold]
    fn make_room(&mut self, wanted: usize) -> bool {
        #[cfg(test)]
        {
            self.searches += 1;
        }
        loop {
            let (mut largest, mut most, active) = (None, wanted, self.active);
            for index in (0..self.slots.len()).filter(|&index| index != active) {
                // Memory kept for its next record: taking it costs no record.
                self.slots[index].framer.shrink();
                self.account(index);
                let (len, _) = self.slots[index].framer.carried();
                if len > most {
                    (largest, most) = (Some(index), len);
                }
            }
            if self.held - self.slots[self.active].held + wanted <= self.held_bytes_max {
                return true;
            }
            let Some(largest) = largest else {
                return false;
            };
            // Afterwards it holds less, or nothing, so this loop ends.
            let tokens = self.slots[largest].framer.overflow_idle();
            self.account(largest);
            self.look(largest);
            self.active().take_in(&tokens);
        }
    }

    /// Counts the memory of what a channel holds.
    fn account(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let (_, capacity) = slot.framer.carried();
        self.held = self.held - slot.held + capacity;
        slot.held = capacity;
    }

    /// Remembers a channel of which a token was dropped.
    fn look(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let tokens = slot.framer.oversize_tokens();
        if tokens > slot.long_tokens {
            slot.long_tokens = tokens;
            if !std::mem::replace(&mut slot.is_long, true) {
                self.long.push(ChannelId(index));
            }
        }
    }
}

impl ChannelSlot {
    fn new(framer: Framer) -> Self {
        ChannelSlot {
            framer,
            is_open: true,
            held: 0,
            long_tokens: 0,
            is_long: false,
            origin: None,
        }
    }

    /// The channel's name and where it is, if it has a position.
    fn position(&self) -> Option<(&Arc<str>, Position)> {
        let origin = self.origin.as_ref()?;
        let position = match origin.is_reported {
            true => origin.position,
            false => {
                let (bytes, before) = self.framer.whole();
                origin.position.behind(bytes, before)
            }
        };
        Some((&origin.name, position))
    }
}
