//! Carries filled blocks to one shard and brings the empty ones back.
//!
//! Promise: parcels arrive in the order they were pushed, so a barrier never overtakes a block.
//! Nothing is dropped, and after start nothing is allocated. Must not know: epochs, shards, what
//! the bytes mean.
//!
//! `arena` is the memory of the blocks. The queues are `rtrb`'s: wait-free, one writer and one
//! reader, tested upstream with Miri and ThreadSanitizer. Only waking is ours.

pub(crate) mod arena;
pub(crate) mod sleeper;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use self::arena::Block;
use self::sleeper::Sleeper;
use crate::id::StreamId;
use crate::limits;

/// What travels to a shard.
#[derive(Debug)]
pub enum Parcel<M> {
    /// Bytes to count.
    Block {
        /// The bytes.
        block: Block,
        /// The number of their stream.
        stream: StreamId,
    },
    /// A boundary between the blocks before and behind it.
    Barrier(M),
}

/// The end that hands blocks over.
pub struct BlockWriter<M> {
    full: rtrb::Producer<Parcel<M>>,
    empty: rtrb::Consumer<Block>,
    /// Blocks that were handed over and have not come back; always ≤ `BLOCKS_PER_RING`.
    outstanding: usize,
    reader: Arc<Sleeper>,
}

debug_fields!([M] BlockWriter<M>, "BlockWriter", outstanding);

/// The end that receives them.
pub struct BlockReader<M> {
    full: rtrb::Consumer<Parcel<M>>,
    empty: rtrb::Producer<Block>,
    wake: Arc<Wake>,
    sleeper: Arc<Sleeper>,
}

debug_fields!([M] BlockReader<M>, "BlockReader");

/// Makes a ring. The reading end wakes the writing one through `wake`.
pub fn ring<M>(wake: Arc<Wake>) -> (BlockWriter<M>, BlockReader<M>) {
    // Room for all blocks and all barriers that may be under way, so that a push cannot fail.
    let slots = limits::BLOCKS_PER_RING + limits::EPOCHS_IN_FLIGHT_MAX;
    let (full_in, full_out) = rtrb::RingBuffer::new(slots);
    let (empty_in, empty_out) = rtrb::RingBuffer::new(limits::BLOCKS_PER_RING);
    let sleeper = Arc::<Sleeper>::default();
    (
        BlockWriter {
            full: full_in,
            empty: empty_out,
            outstanding: 0,
            reader: Arc::clone(&sleeper),
        },
        BlockReader {
            full: full_out,
            empty: empty_in,
            wake,
            sleeper,
        },
    )
}

impl<M> BlockWriter<M> {
    /// The thread that is woken when something is pushed.
    pub fn reader(&self) -> &Arc<Sleeper> {
        &self.reader
    }

    /// Blocks that were handed over and have not come back.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Takes a returned block, if there is one.
    pub fn take_empty(&mut self) -> Option<Block> {
        let block = self.empty.pop().ok()?;
        self.outstanding -= 1;
        Some(block)
    }

    /// Hands a block over. The caller made sure that `outstanding` is below `BLOCKS_PER_RING`.
    pub fn push_block(&mut self, block: Block, stream: StreamId) {
        assert!(
            self.outstanding < limits::BLOCKS_PER_RING,
            "ring over its limit"
        );
        self.outstanding += 1;
        self.push(Parcel::Block { block, stream });
    }

    /// Pushes a barrier behind everything pushed so far. The caller keeps to
    /// `EPOCHS_IN_FLIGHT_MAX`.
    pub fn push_barrier(&mut self, barrier: M) {
        self.push(Parcel::Barrier(barrier));
    }

    fn push(&mut self, parcel: Parcel<M>) {
        let pushed = self.full.push(parcel);
        assert!(
            pushed.is_ok(),
            "blocks and barriers under way keep to their limits"
        );
        self.reader.unpark();
    }
}

impl<M> BlockReader<M> {
    /// Makes the calling thread the one that is woken when something is pushed.
    pub fn attach(&self) {
        self.sleeper.attach();
    }

    /// The next parcel, if one is there.
    pub fn pop(&mut self) -> Option<Parcel<M>> {
        self.full.pop().ok()
    }

    /// Returns `true` if there is no parcel.
    pub fn is_empty(&self) -> bool {
        self.full.is_empty()
    }

    /// Returns `true` if the writer is gone; what it pushed before can still be popped.
    pub fn is_abandoned(&self) -> bool {
        self.full.is_abandoned()
    }

    /// Returns a block to the writer.
    pub fn give_back(&mut self, mut block: Block) {
        block.recycle();
        let pushed = self.empty.push(block);
        assert!(
            pushed.is_ok(),
            "no more blocks come back than were handed over"
        );
        self.wake.notify();
    }
}

/// Wakes the reading side of the engine when it waits for room.
///
/// ```text
///   waiting side                       freeing side
///   wanted = true                      free something
///   fence                              fence
///   look again, sleep if still full    wanted? then wake
/// ```
/// With both fences at least one of the two sees the other's write, so the sleep always ends.
pub struct Wake {
    wanted: AtomicBool,
    action: Box<dyn Fn() + Send + Sync>,
}

debug_fields!([] Wake, "Wake", wanted);

impl Wake {
    /// A wake-up that runs `action`.
    pub fn new(action: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Wake {
            wanted: AtomicBool::new(false),
            action: Box::new(action),
        })
    }

    /// Announces that the caller is about to sleep. It must look for room once more afterwards.
    pub fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
        // Pairs with the fence in `notify`.
        fence(Ordering::SeqCst);
    }

    /// Announces that there is room now.
    pub fn notify(&self) {
        // Pairs with the fence in `want`: what was freed before is visible to whoever `wanted` it.
        fence(Ordering::SeqCst);
        if self.wanted.load(Ordering::Relaxed) && self.wanted.swap(false, Ordering::Relaxed) {
            (self.action)();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::arena::Arena;
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn parcels_keep_their_order_and_blocks_come_back() {
        let arena = Arena::new(64, 1).expect("a little memory");
        let (mut writer, mut reader) = ring::<u64>(Wake::new(|| ()));
        let mut block = arena.block();
        block.append(b"one\n");
        writer.push_block(block, StreamId(7));
        writer.push_barrier(1);
        assert_eq!(writer.outstanding(), 1);
        assert!(writer.take_empty().is_none());
        let Some(Parcel::Block { block, stream }) = reader.pop() else {
            panic!("a block")
        };
        assert_eq!((block.bytes(), stream), (&b"one\n"[..], StreamId(7)));
        reader.give_back(block);
        assert!(matches!(reader.pop(), Some(Parcel::Barrier(1))));
        assert!(reader.is_empty());
        assert_eq!(writer.take_empty().expect("the block").filled(), 0);
        assert_eq!(writer.outstanding(), 0);
        assert!(!reader.is_abandoned());
        drop(writer);
        assert!(reader.is_abandoned());
    }

    #[test]
    fn a_wake_up_happens_once_per_want() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&calls);
        let wake = Wake::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        wake.notify();
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        wake.want();
        wake.notify();
        wake.notify();
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }
}
