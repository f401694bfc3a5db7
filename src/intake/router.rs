//! Routes filled blocks to shards, and counts them itself when every ring is full.
//!
//! Promise: never blocks, and never allocates in steady state. When there is no room at all,
//! [`Router::space`] returns [`Full`] and the reader stops reading: that is our back-pressure. Must
//! not know: sources, sinks, protocols, the clock.
//!
//! ```text
//!                       ┌▶ ring 0 ═▶ shard 0
//!   framers ─▶ blocks ──┼▶ ring 1 ═▶ shard 1      the ring with the fewest blocks under way
//!                       └▶ helper                 when all are full: counted right here
//! ```
//! A small batch takes the short way: when it is cut while no shard is at work, what is left is
//! counted right here, and a shard that was given nothing is not woken. In low-latency mode that
//! goes for everything whenever the input pauses.
//!
//! The helper keeps two cores busy: reading costs a fifth of what counting does, so a reader that
//! only waited for room would leave most of its core idle.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::epoch::barrier::{Barrier, ShardSet};
use crate::epoch::header::HeaderSender;
use crate::id::{ChannelId, StreamId};
use crate::intake::channels::Channels;
use crate::intake::commits::Commits;
use crate::intake::framer::{BlockPort, Ending, Framer};
use crate::intake::{Intake, ReadyParts};
use crate::ledger::{Account, IntakeTotals};
use crate::limits::{
    BLOCKS_PER_RING, COUNT_HERE_BYTES_MAX, COUNT_NOW_BYTES_MIN, EAGER_BYTES_MIN,
    EPOCHS_IN_FLIGHT_MAX,
};
use crate::metrics::{Recorder, RouterCells, SourceCells};
use crate::position::Positions;
use crate::ring::BlockWriter;
use crate::ring::arena::{Arena, Block};
use crate::ring::sleeper::Sleeper;
use crate::shard::ShardCore;
use crate::split::Delimiters;
use crate::time::BatchTime;

/// Takes bytes in through framers and has the blocks counted.
pub(crate) struct Router {
    inputs: Vec<InputSlot>,
    dispatcher: Dispatcher,
    headers: HeaderSender,
    commits: Commits,
    stream_count: usize,
    /// Something was read since the last barrier.
    has_input: bool,
    low_latency: bool,
}

/// The channels of one source, and the stream they belong to.
struct InputSlot {
    channels: Channels,
    stream: StreamId,
    /// What the source reports about its bytes.
    account: Account,
    recorder: Recorder<SourceCells>,
}

/// Decides who counts a block.
pub(crate) struct Dispatcher {
    rings: Vec<BlockWriter<Barrier>>,
    /// Blocks that are neither in a ring nor with a framer.
    free: Vec<Block>,
    arena: Arena,
    /// Blocks not yet taken out of the arena: those of framers that have read nothing.
    uncarved: usize,
    helper: ShardCore,
    /// Barriers that the helper has met and not sealed; while there are any, it may not count.
    helper_barriers: VecDeque<Barrier>,
    /// The shards that were given something since the last barrier.
    shards: ShardSet,
    /// Blocks go to the shards in turn, however busy these are: see
    /// [`Config::seed`](crate::Config::seed).
    is_repeatable: bool,
    /// Blocks handed over so far.
    block: u64,
    /// Woken when the helper hands over tables.
    publisher: Arc<Sleeper>,
    recorder: Recorder<RouterCells>,
}

/// The dispatcher as the port of one framer.
struct StreamPort<'a> {
    dispatcher: &'a mut Dispatcher,
    stream: StreamId,
    /// Blocks up to this size are counted right here, if no shard is at work.
    here_bytes_max: usize,
}

impl Router {
    /// A router for the given sources, each with the number of its stream and what records it.
    pub(crate) fn new(
        inputs: Vec<(Channels, StreamId, Recorder<SourceCells>)>,
        dispatcher: Dispatcher,
        headers: HeaderSender,
        stream_count: usize,
        low_latency: bool,
    ) -> Self {
        let inputs = inputs
            .into_iter()
            .map(|(channels, stream, recorder)| InputSlot {
                channels,
                stream,
                account: Account::default(),
                recorder,
            })
            .collect();
        Router {
            inputs,
            dispatcher,
            headers,
            commits: Commits::default(),
            stream_count,
            has_input: false,
            low_latency,
        }
    }

    /// Returns `true` if something was read since the last cut.
    pub(crate) fn has_input(&self) -> bool {
        self.has_input
    }

    /// Number of sources.
    pub(crate) fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// Epochs cut so far.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn epochs_cut(&self) -> u64 {
        self.headers.sent()
    }

    /// The last epoch up to which every output has delivered everything, and nothing has failed. It
    /// only grows.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn epochs_delivered(&self) -> u64 {
        self.headers.delivered()
    }

    /// Nothing more will be delivered, or nothing of it may be committed.
    pub(crate) fn close_commits(&mut self) {
        self.commits.close();
    }

    /// Calls `commit` with the number of each source whose positions have changed, and with where
    /// it was at the end of the last epoch that was delivered. Returns `true` if positions wait for
    /// the delivery of their epoch.
    pub(crate) fn commit(&mut self, commit: impl FnMut(usize, &Positions)) -> bool {
        if self.commits.is_waiting() {
            self.commits.delivered(self.headers.delivered(), commit);
        }
        self.commits.is_waiting()
    }

    /// Calls `fill` with what takes at most `bytes_max` bytes of the numbered source, of which
    /// `ready` has become readable.
    pub(crate) fn fill<T>(
        &mut self,
        index: usize,
        bytes_max: usize,
        ready: &mut ReadyParts,
        fill: impl FnOnce(&mut Intake<'_>) -> T,
    ) -> T {
        let InputSlot {
            channels, stream, ..
        } = &mut self.inputs[index];
        let mut port = self.dispatcher.port(*stream, 0);
        let mut intake = Intake::new(channels, &mut port, bytes_max, ready);
        let outcome = fill(&mut intake);
        self.has_input |= intake.taken().bytes > 0;
        outcome
    }

    /// Returns memory to read into for the one channel of the numbered input.
    ///
    /// # Errors
    ///
    /// [`Full`] while there is none.
    pub(crate) fn space(&mut self, index: usize) -> Result<&mut [u8], Full> {
        let InputSlot {
            channels, stream, ..
        } = &mut self.inputs[index];
        channels.space(ChannelId::FIRST, &mut self.dispatcher.port(*stream, 0))
    }

    /// Takes a whole record, which may hold any byte, of the one channel of the numbered input. The
    /// input must hold no unfinished line.
    ///
    /// # Errors
    ///
    /// [`Full`] while there is no room: nothing was taken.
    pub(crate) fn record(&mut self, index: usize, record: &[u8]) -> Result<(), Full> {
        let InputSlot {
            channels, stream, ..
        } = &mut self.inputs[index];
        let mut port = self.dispatcher.port(*stream, 0);
        let is_taken = channels.record(ChannelId::FIRST, record, &mut port)?;
        assert!(is_taken, "the input is between two records");
        self.has_input = true;
        Ok(())
    }

    /// The first `count` bytes of the input's [`space`](Self::space) were read.
    pub(crate) fn filled(&mut self, index: usize, count: usize) {
        self.inputs[index].channels.filled(count);
        self.has_input = true;
    }

    /// Ends all channels of the numbered source.
    ///
    /// # Errors
    ///
    /// [`Full`] while there is no room for what they left: call again.
    pub(crate) fn finish(&mut self, index: usize, ending: Ending) -> Result<(), Full> {
        let InputSlot {
            channels, stream, ..
        } = &mut self.inputs[index];
        channels.finish(ending, &mut self.dispatcher.port(*stream, 0))
    }

    /// Uses a pause of the input: an idle shard gets what is complete, if it is worth waking it; in
    /// low-latency mode it is counted here, if no shard is at work.
    pub(crate) fn offer(&mut self) {
        let Router {
            inputs, dispatcher, ..
        } = self;
        if dispatcher.is_repeatable {
            return;
        }
        let (bytes_min, here_bytes_max) = if self.low_latency {
            (COUNT_NOW_BYTES_MIN, usize::MAX)
        } else {
            (EAGER_BYTES_MIN, 0)
        };
        for InputSlot {
            channels, stream, ..
        } in inputs
        {
            if channels.active().held_bytes() >= bytes_min {
                dispatcher.take_back();
                if dispatcher.rings.iter().any(|ring| ring.outstanding() == 0) {
                    let _ = channels.place(&mut dispatcher.port(*stream, here_bytes_max));
                }
            }
        }
    }

    /// Ends an epoch behind everything that was read. In low-latency mode the caller then publishes
    /// what is complete, because the publisher is not woken.
    ///
    /// # Errors
    ///
    /// [`Full`] when there is no room for what is complete, or too many epochs are under way: call
    /// again, and read nothing until it succeeds.
    pub(crate) fn cut(&mut self, time: BatchTime, last: bool) -> Result<(), Full> {
        if !self.headers.has_room() {
            return Err(Full);
        }
        let here_bytes_max = if self.low_latency {
            usize::MAX
        } else {
            COUNT_HERE_BYTES_MAX
        };
        for InputSlot {
            channels, stream, ..
        } in &mut self.inputs
        {
            let mut port = self.dispatcher.port(*stream, here_bytes_max);
            while channels.place(&mut port)? {}
        }
        let inputs = &mut self.inputs;
        let has_positions = inputs.iter().any(|slot| slot.channels.has_positions());
        let positions = has_positions.then(|| {
            let epoch = self.headers.sent() + 1;
            self.commits.begin(epoch, inputs.len(), |source, into| {
                inputs[source].channels.take_positions(into);
            })
        });
        let intakes = StreamId::first(self.stream_count).map(|stream| {
            let inputs = inputs.iter_mut().filter(|slot| slot.stream == stream);
            inputs.fold(IntakeTotals::default(), |sum, slot| {
                let intake = slot.account.then(slot.channels.intake());
                slot.recorder.publish(&intake);
                sum.plus(&intake)
            })
        });
        let shards = self.dispatcher.take_shards(last);
        let barrier = self.headers.send(time, last, shards, intakes, positions);
        self.has_input = false;
        self.dispatcher.push_barrier(barrier, shards);
        if self.low_latency {
            while self.dispatcher.try_seal_helper() {}
        } else {
            self.seal_helper();
        }
        Ok(())
    }

    /// Hands over the helper's tables, as far as its spare ones are back. Returns `true` when all
    /// are handed over.
    pub(crate) fn seal_helper(&mut self) -> bool {
        self.dispatcher.seal_helper()
    }

    /// Returns where the source's records end, and where those that are too long may be cut.
    pub(crate) fn delimiters_of(&self, index: usize) -> Delimiters {
        self.inputs[index].channels.delimiters()
    }

    /// Returns where the source reports what it lost.
    pub(crate) fn account_of(&self, index: usize) -> Account {
        self.inputs[index].account.clone()
    }

    /// Returns what was read so far through the first channel of the source.
    pub(crate) fn first_intake_of(&self, index: usize) -> IntakeTotals {
        self.inputs[index].channels.first_intake()
    }
}

impl Dispatcher {
    /// A dispatcher that hands blocks to `rings`, and counts with `helper` what finds no room
    /// there. The arena has room for [`block_count`] blocks. If `is_repeatable`, which shard counts
    /// a block depends only on the blocks before it.
    pub(crate) fn new(
        rings: Vec<BlockWriter<Barrier>>,
        helper: ShardCore,
        arena: Arena,
        framer_count: usize,
        is_repeatable: bool,
        publisher: Arc<Sleeper>,
        recorder: Recorder<RouterCells>,
    ) -> Self {
        let blocks = block_count(rings.len(), framer_count);
        // A thousand silent inputs take nothing. Blocks that are carved later are in the arena as
        // well.
        let carved = blocks.min(rings.len() * BLOCKS_PER_RING + FRAMERS_PREPARED);
        let mut free = Vec::with_capacity(blocks);
        free.extend((0..carved).map(|_| arena.block()));
        Dispatcher {
            rings,
            free,
            arena,
            uncarved: blocks - carved,
            helper,
            helper_barriers: VecDeque::with_capacity(EPOCHS_IN_FLIGHT_MAX),
            shards: ShardSet::default(),
            is_repeatable,
            block: 0,
            publisher,
            recorder,
        }
    }

    fn port(&mut self, stream: StreamId, here_bytes_max: usize) -> StreamPort<'_> {
        StreamPort {
            dispatcher: self,
            stream,
            here_bytes_max,
        }
    }

    /// Returns the shards that have a part in the epoch that ends now: all of them in the last one,
    /// which ends them.
    fn take_shards(&mut self, last: bool) -> ShardSet {
        let mut shards = std::mem::take(&mut self.shards);
        if last {
            (0..self.rings.len()).for_each(|index| shards.add(index));
        }
        shards
    }

    fn push_barrier(&mut self, barrier: Barrier, shards: ShardSet) {
        for (index, ring) in self.rings.iter_mut().enumerate() {
            if shards.has(index) {
                ring.push_barrier(barrier);
            }
        }
        self.helper_barriers.push_back(barrier);
    }

    fn seal_helper(&mut self) -> bool {
        while !self.helper_barriers.is_empty() {
            if !self.try_seal_helper() {
                return false;
            }
            self.publisher.unpark();
        }
        true
    }

    /// Hands over the helper's tables for the oldest barrier it has not sealed.
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

    /// Returns where the next block goes. One that outgrew the arena is counted here, so that there
    /// is never more than one such block for each framer.
    fn room(&mut self, is_spilled: bool, is_small: bool) -> Option<BlockTarget> {
        self.take_back();
        let helper_free = self.seal_helper();
        if self.is_repeatable && !is_spilled {
            let index = (self.block % self.rings.len() as u64) as usize;
            let has_room = self.rings[index].outstanding() < BLOCKS_PER_RING;
            return has_room.then_some(BlockTarget::Ring(index));
        }
        let is_quiet = || self.rings.iter().all(|ring| ring.outstanding() == 0);
        if is_small && helper_free && is_quiet() {
            return Some(BlockTarget::Helper);
        }
        let (index, ring) = self
            .rings
            .iter()
            .enumerate()
            .min_by_key(|(_, ring)| ring.outstanding())
            .expect("an engine has at least one shard");
        if ring.outstanding() < BLOCKS_PER_RING && !is_spilled {
            Some(BlockTarget::Ring(index))
        } else if helper_free {
            Some(BlockTarget::Helper)
        } else {
            None
        }
    }

    /// Takes back the blocks that the shards have counted.
    fn take_back(&mut self) {
        for ring in &mut self.rings {
            while let Some(block) = ring.take_empty() {
                self.free.push(block);
            }
        }
    }
}

impl BlockPort for StreamPort<'_> {
    type Full = Full;

    fn take_empty(&mut self) -> Block {
        let dispatcher = &mut *self.dispatcher;
        if dispatcher.free.is_empty() {
            dispatcher.take_back();
        }
        if dispatcher.free.is_empty() && dispatcher.uncarved > 0 {
            dispatcher.uncarved -= 1;
            return dispatcher.arena.block();
        }
        let free = dispatcher.free.pop();
        free.expect("there is a block for each place in a ring and one for each framer")
    }

    fn place(&mut self, framer: &mut Framer) -> Result<bool, Full> {
        if !framer.has_block() {
            return Ok(false);
        }
        // Before it is known where the block goes: it may grow by what was carried.
        framer.settle();
        let dispatcher = &mut *self.dispatcher;
        let is_small = framer.held_bytes() <= self.here_bytes_max;
        let Some(target) = dispatcher.room(framer.is_spilled(), is_small) else {
            dispatcher.recorder.update(|cells| cells.full.add(1));
            return Err(Full);
        };
        let Some(mut block) = framer.cut() else {
            return Ok(false);
        };
        block.set_number(dispatcher.block);
        dispatcher.block += 1;
        match target {
            BlockTarget::Ring(ring) => {
                dispatcher.shards.add(ring);
                dispatcher.rings[ring].push_block(block, self.stream);
            }
            BlockTarget::Helper => {
                dispatcher.helper.count(&block, self.stream);
                block.recycle();
                dispatcher.free.push(block);
            }
        }
        Ok(true)
    }
}

/// Framers whose blocks are touched at the start, so that the first bytes do not wait for pages.
const FRAMERS_PREPARED: usize = 16;

/// Every ring is full, and the reading thread cannot count either: reading stops until something is
/// emptied. This is the back-pressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

enum BlockTarget {
    Ring(usize),
    Helper,
}

/// Returns the number of blocks of an engine: one for each place in a ring, one for each framer to
/// fill.
pub(crate) fn block_count(ring_count: usize, framer_count: usize) -> usize {
    ring_count * BLOCKS_PER_RING + framer_count
}
