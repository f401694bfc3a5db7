//! The reading side's half of the engine: framers on one side, rings on the other, and a shard of its own
//! for when every ring is full.
//!
//! Promise: never blocks and never allocates in steady state. When nothing can be taken in any more it
//! says so, and whoever reads stops reading. Must not know: sources, protocols, time, sinks.
//!
//! ```text
//!                     ┌▶ ring 0 ═▶ shard 0
//!   framers ─▶ blocks ──┼▶ ring 1 ═▶ shard 1      the ring with the fewest blocks under way
//!                     └▶ helper                 when all are full: counted right here
//! ```
//! A small batch takes the short way: what is left when it is cut is counted right here while no shard is
//! at work, and a shard that was given nothing is told nothing. In low-latency mode that goes for whatever
//! is there whenever the input pauses.
//!
//! The helper is why two cores are both busy: reading costs a fifth of what counting does, so a reader
//! that only waits for room would leave most of its core idle.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;

use crate::epoch::barrier::{Barrier, EpochHeader, ShardSet};
use crate::intake::framer::{Ending, Framer};
use crate::ledger::{Account, Intake};
use crate::limits::{
    BLOCKS_PER_RING, COUNT_HERE_BYTES_MAX, COUNT_NOW_BYTES_MIN, EAGER_BYTES_MIN,
    EPOCHS_IN_FLIGHT_MAX,
};
use crate::ring::Writer;
use crate::ring::arena::{Arena, Block};
use crate::shard::ShardCore;
use crate::split::Delimiters;
use crate::time::BatchTime;

/// See the module.
pub(crate) struct Router {
    framers: Vec<Port>,
    rings: Vec<Writer<Barrier>>,
    /// Blocks that are neither in a ring nor with a framer.
    free: Vec<Block>,
    arena: Arena,
    /// Blocks that were not taken out of the arena yet: those of framers that had nothing to read.
    uncarved: usize,
    helper: ShardCore,
    /// Marks the helper has met and not sealed; while there are any it may not count.
    helper_barriers: VecDeque<Barrier>,
    outbox: Outbox,
    /// The shards that were given something since the last mark.
    shard_set: ShardSet,
    /// Something was read since the last mark.
    has_input: bool,
    low_latency: bool,
    /// Blocks go to the shards in turns, whatever these are at: see [`Config::seed`](crate::Config::seed).
    is_repeatable: bool,
    /// Blocks handed over so far.
    block: u64,
    /// Epochs cut so far.
    epoch: u64,
    /// Epochs published so far, told by the publisher.
    published: Arc<AtomicU64>,
    publisher: Option<Thread>,
}

/// What is told of each epoch to whoever publishes it, before its marks are pushed.
pub(crate) struct Outbox {
    /// For each epoch what each stream had read at its mark, so that the publisher compares readers and
    /// shards over exactly the same bytes.
    pub(crate) intakes: rtrb::Producer<Intake>,
    /// Pushed behind the intakes, which it makes visible.
    pub(crate) cuts: rtrb::Producer<EpochHeader>,
    pub(crate) stream_count: usize,
}

/// A framer and the stream it belongs to.
struct Port {
    framer: Framer,
    stream: usize,
    /// What the source says of its bytes.
    account: Account,
    /// `Framer::end` was called and what it left is not placed yet.
    ending: bool,
}

impl Port {
    /// The whole way of the bytes so far.
    fn intake(&self) -> Intake {
        self.account.then(self.framer.intake())
    }
}

impl Router {
    /// A router for the given framers, each with the number of its stream. The arena has room for
    /// [`block_count`] blocks.
    pub(crate) fn new(
        framers: Vec<(Framer, usize)>,
        rings: Vec<Writer<Barrier>>,
        arena: &Arena,
        helper: ShardCore,
        published: Arc<AtomicU64>,
        outbox: Outbox,
        low_latency: bool,
    ) -> Self {
        let blocks = block_count(rings.len(), framers.len());
        // A thousand inputs that are silent take nothing. What is carved later is in the arena as well.
        let carved = blocks.min(rings.len() * BLOCKS_PER_RING + FRAMERS_PREPARED);
        let mut free = Vec::with_capacity(blocks);
        free.extend((0..carved).map(|_| arena.block()));
        let framers = framers
            .into_iter()
            .map(|(framer, stream)| Port {
                framer,
                stream,
                account: Account::default(),
                ending: false,
            })
            .collect();
        Router {
            framers,
            rings,
            free,
            arena: arena.clone(),
            uncarved: blocks - carved,
            helper,
            helper_barriers: VecDeque::with_capacity(EPOCHS_IN_FLIGHT_MAX),
            outbox,
            shard_set: ShardSet::default(),
            has_input: false,
            low_latency,
            is_repeatable: false,
            block: 0,
            epoch: 0,
            published,
            publisher: None,
        }
    }

    /// Which shard counts a block depends on nothing but the blocks before it.
    pub(crate) fn be_repeatable(&mut self) {
        self.is_repeatable = true;
    }

    /// Tells which thread to wake when the helper hands tables over.
    pub(crate) fn set_publisher(&mut self, publisher: Thread) {
        self.publisher = Some(publisher);
    }

    /// Tells which thread reads the numbered ring.
    pub(crate) fn set_reader(&mut self, index: usize, reader: Thread) {
        self.rings[index].set_reader(reader);
    }

    /// Whether something was read since the last cut.
    pub(crate) fn has_input(&self) -> bool {
        self.has_input
    }

    /// Number of framers.
    pub(crate) fn framer_count(&self) -> usize {
        self.framers.len()
    }

    /// Epochs cut so far.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn epochs_cut(&self) -> u64 {
        self.epoch
    }

    /// Memory to read into for the numbered framer, or [`Full`].
    pub(crate) fn space(&mut self, index: usize) -> Result<&mut [u8], Full> {
        while !self.framers[index].framer.has_space() {
            if self.framers[index].framer.has_block() {
                self.place_complete(index, 0)?;
            } else {
                let block = self.take_free();
                self.framers[index].framer.provide(block);
            }
        }
        Ok(self.framers[index].framer.space())
    }

    /// The first `count` bytes of the feed's `space` were read.
    pub(crate) fn filled(&mut self, index: usize, count: usize) {
        self.framers[index].framer.filled(count);
        self.has_input = true;
    }

    /// The feed's source received `count` bytes that are no content.
    pub(crate) fn skipped(&mut self, index: usize, count: usize) {
        self.framers[index].framer.skipped(count);
    }

    /// The feed's connection is over. [`Full`]: call again.
    pub(crate) fn end_connection(&mut self, index: usize, ending: Ending) -> Result<(), Full> {
        while self.place_complete(index, 0)? {}
        if !self.framers[index].ending {
            self.framers[index].framer.end(ending);
            self.framers[index].ending = true;
            if self.framers[index].framer.carries_record() {
                let block = self.take_free();
                self.framers[index].framer.provide(block);
            }
            while self.place_complete(index, 0)? {}
        }
        self.framers[index].ending = false;
        Ok(())
    }

    /// The input pauses: gives an idle shard what is complete, if it is worth waking it; in low-latency
    /// mode counts it here, if no shard is at work.
    pub(crate) fn offer(&mut self) {
        if self.is_repeatable {
            return;
        }
        let (bytes_min, here_bytes_max) = if self.low_latency {
            (COUNT_NOW_BYTES_MIN, usize::MAX)
        } else {
            (EAGER_BYTES_MIN, 0)
        };
        for index in 0..self.framers.len() {
            if self.framers[index].framer.held_bytes() >= bytes_min {
                self.take_back();
                if self.rings.iter().any(|ring| ring.outstanding() == 0) {
                    let _ = self.place_complete(index, here_bytes_max);
                }
            }
        }
    }

    /// Ends an epoch behind everything that was read. In low-latency mode the caller then publishes what
    /// is complete, for the publisher is not woken. [`Full`] when there is no room for what is
    /// complete or too many epochs are under way: call again, and read nothing until it worked.
    pub(crate) fn cut(&mut self, time: BatchTime, last: bool) -> Result<(), Full> {
        // Acquire: pairs with the publisher's Release; what it freed for the epoch is visible.
        if self.epoch - self.published.load(Ordering::Acquire) >= EPOCHS_IN_FLIGHT_MAX as u64 {
            return Err(Full);
        }
        let here_bytes_max = if self.low_latency {
            usize::MAX
        } else {
            COUNT_HERE_BYTES_MAX
        };
        for index in 0..self.framers.len() {
            while self.place_complete(index, here_bytes_max)? {}
        }
        for stream in 0..self.outbox.stream_count {
            let framers = self.framers.iter().filter(|port| port.stream == stream);
            let intake = framers.fold(Intake::default(), |sum, port| sum.plus(&port.intake()));
            let pushed = self.outbox.intakes.push(intake);
            assert!(pushed.is_ok(), "epochs under way keep to their limit");
        }
        self.epoch += 1;
        let barrier = Barrier {
            epoch: self.epoch,
            time,
            last,
        };
        let mut shard_set = std::mem::take(&mut self.shard_set);
        if last {
            // Every shard ends with it.
            (0..self.rings.len()).for_each(|index| shard_set.add(index));
        }
        let pushed = self.outbox.cuts.push(EpochHeader { barrier, shard_set });
        assert!(pushed.is_ok(), "epochs under way keep to their limit");
        for (index, ring) in self.rings.iter_mut().enumerate() {
            if shard_set.has(index) {
                ring.push_barrier(barrier);
            }
        }
        self.has_input = false;
        self.helper_barriers.push_back(barrier);
        if self.low_latency {
            while self.try_seal_helper() {}
        } else {
            self.seal_helper();
        }
        Ok(())
    }

    /// Hands the helper's tables over, as far as its spare ones are back. Gives whether it is done.
    pub(crate) fn seal_helper(&mut self) -> bool {
        while !self.helper_barriers.is_empty() {
            if !self.try_seal_helper() {
                return false;
            }
            self.wake_publisher();
        }
        true
    }

    /// Hands the helper's tables over for the oldest mark it has not sealed.
    fn try_seal_helper(&mut self) -> bool {
        let Some(&barrier) = self.helper_barriers.front() else {
            return false;
        };
        let is_sealed = self.helper.try_seal(barrier);
        if is_sealed {
            self.helper_barriers.pop_front();
        }
        is_sealed
    }

    fn wake_publisher(&self) {
        if let Some(publisher) = &self.publisher {
            publisher.unpark();
        }
    }

    /// Where the numbered framer cuts: at record ends, and where records are too long.
    pub(crate) fn delimiters_of(&self, index: usize) -> Delimiters {
        self.framers[index].framer.delimiters()
    }

    /// Where the source of the numbered framer writes what it does with its bytes.
    pub(crate) fn account_of(&self, index: usize) -> Account {
        self.framers[index].account.clone()
    }

    /// What the numbered framer has read so far.
    pub(crate) fn intake_of(&self, index: usize) -> Intake {
        self.framers[index].framer.intake()
    }

    /// Takes the complete records of a framer out of it and has them counted, here if they are no more
    /// than `here_bytes_max` and no shard is at work. Returns whether there were any, or [`Full`].
    fn place_complete(&mut self, index: usize, here_bytes_max: usize) -> Result<bool, Full> {
        let Port { framer, .. } = &self.framers[index];
        if !framer.has_block() {
            return Ok(false);
        }
        let is_small = framer.held_bytes() <= here_bytes_max;
        let is_spilled = framer.is_spilled();
        let target = self.room(is_spilled, is_small).ok_or(Full)?;
        let Port { framer, stream, .. } = &mut self.framers[index];
        let Some(mut block) = framer.cut() else {
            return Ok(false);
        };
        block.set_number(self.block);
        self.block += 1;
        let stream = *stream;
        match target {
            Target::Ring(ring) => {
                self.shard_set.add(ring);
                self.rings[ring].push_block(block, stream);
            }
            Target::Helper => self.count_here(block, stream),
        }
        Ok(true)
    }

    /// Where the next block goes. One that outgrew the arena is counted here, so that there is never
    /// more than one such block for each framer.
    fn room(&mut self, is_spilled: bool, is_small: bool) -> Option<Target> {
        self.take_back();
        let helper_free = self.seal_helper();
        if self.is_repeatable && !is_spilled {
            let index = (self.block % self.rings.len() as u64) as usize;
            let has_room = self.rings[index].outstanding() < BLOCKS_PER_RING;
            return has_room.then_some(Target::Ring(index));
        }
        let is_quiet = || self.rings.iter().all(|ring| ring.outstanding() == 0);
        if is_small && helper_free && is_quiet() {
            return Some(Target::Helper);
        }
        let (index, ring) = self
            .rings
            .iter()
            .enumerate()
            .min_by_key(|(_, ring)| ring.outstanding())
            .expect("an engine has at least one shard");
        if ring.outstanding() < BLOCKS_PER_RING && !is_spilled {
            Some(Target::Ring(index))
        } else if helper_free {
            Some(Target::Helper)
        } else {
            None
        }
    }

    fn count_here(&mut self, mut block: Block, stream: usize) {
        self.helper.count(&block, stream);
        block.recycle();
        self.free.push(block);
    }

    /// Takes back what the shards are done with.
    fn take_back(&mut self) {
        for ring in &mut self.rings {
            while let Some(block) = ring.take_empty() {
                self.free.push(block);
            }
        }
    }

    fn take_free(&mut self) -> Block {
        if self.free.is_empty() {
            self.take_back();
        }
        if self.free.is_empty() && self.uncarved > 0 {
            self.uncarved -= 1;
            return self.arena.block();
        }
        self.free
            .pop()
            .expect("there is a block for each place in a ring and one for each feed")
    }
}

/// Feeds whose blocks are touched at the start, so that the first bytes do not wait for pages.
const FRAMERS_PREPARED: usize = 16;

/// Every ring is full, and the reading thread cannot count either: whoever reads stops until something is emptied. This is
/// the back-pressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

enum Target {
    Ring(usize),
    Helper,
}

/// Blocks an engine needs: one for each place in a ring, one for each framer to fill.
pub(crate) fn block_count(ring_count: usize, framer_count: usize) -> usize {
    ring_count * BLOCKS_PER_RING + framer_count
}
