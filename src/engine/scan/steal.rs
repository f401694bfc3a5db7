//! Blocks of input that only one worker can read, lent to idle workers.
//!
//! Promise: every lent block is counted once; there are no more than were allowed, and they are
//! reused; the reader never waits for those who count. Must not know: files, decoders, what is
//! counted.
//!
//! ```text
//!   reads ──▶ cut ──▶ lent, while somebody is idle ──▶ [ full ] ──▶ counted by an idle worker
//!                └──▶ else counted by the one who reads        ◀── [ empty ] ──┘
//! ```
//!
//! With more files than workers nobody is idle, and nothing passes through here. With fewer, the
//! reader only reads for as long as the others keep up, and counts as well when they do not.
//! Several blocks may wait, so that a helper that loses its core for a moment does not make the
//! only reader count: the reader could not make up for what it did not read, and there would be one
//! more full table to merge.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::lock;
use crate::id::StreamId;
use crate::limits::BLOCKS_PER_RING;
use crate::ring::arena::{Arena, Block};

/// Returns how many blocks `workers` may lend each other: as many for each helper as a shard has.
pub(super) fn lent_blocks(workers: usize) -> usize {
    (workers - 1) * BLOCKS_PER_RING
}

/// The blocks that are lent, and who reads and counts.
pub(super) struct StealQueue {
    state: Mutex<LentBlocks>,
    changed: Condvar,
}

struct LentBlocks {
    arena: Arena,
    /// Blocks not yet taken out of the arena: where all files are plain they never are.
    uncarved: usize,
    empty: Vec<Block>,
    /// With the numbers of their streams.
    full: VecDeque<(Block, StreamId)>,
    /// Workers that read what others may count.
    readers: usize,
    /// Workers that have nothing else to do.
    helpers: usize,
}

/// A worker that reads what others may count: they wait for more until this is dropped.
pub(super) struct ReaderGuard<'a>(&'a StealQueue);

impl StealQueue {
    /// Lends at most `blocks` of `arena` at a time.
    pub(super) fn new(arena: Arena, blocks: usize) -> Self {
        StealQueue {
            state: Mutex::new(LentBlocks {
                arena,
                uncarved: blocks,
                empty: Vec::with_capacity(blocks),
                full: VecDeque::with_capacity(blocks),
                readers: 0,
                helpers: 0,
            }),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, LentBlocks> {
        lock(&self.state)
    }

    /// Announces one more reader.
    pub(super) fn begin(&self) -> ReaderGuard<'_> {
        self.state().readers += 1;
        ReaderGuard(self)
    }

    /// Lends `block` to an idle worker and returns an empty one for it, or returns `block` if
    /// nobody would count it soon.
    pub(super) fn lend(&self, block: Block, stream: StreamId) -> Result<Block, Block> {
        let mut state = self.state();
        if state.full.len() >= BLOCKS_PER_RING * state.helpers {
            return Err(block);
        }
        let empty = match state.empty.pop() {
            Some(empty) => empty,
            None if state.uncarved > 0 => {
                state.uncarved -= 1;
                state.arena.block()
            }
            None => return Err(block),
        };
        state.full.push_back((block, stream));
        drop(state);
        self.changed.notify_one();
        Ok(empty)
    }

    /// Calls `count` with lent blocks until nobody reads any more and none is left.
    pub(super) fn help(&self, mut count: impl FnMut(&Block, StreamId)) {
        let mut state = self.state();
        state.helpers += 1;
        loop {
            if let Some((mut block, stream)) = state.full.pop_front() {
                drop(state);
                count(&block, stream);
                block.recycle();
                state = self.state();
                state.empty.push(block);
            } else if state.readers == 0 {
                break;
            } else {
                let waited = self.changed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
            }
        }
        state.helpers -= 1;
    }
}

impl Drop for ReaderGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.readers -= 1;
        if state.readers == 0 {
            drop(state);
            self.0.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;

    fn share(blocks: usize) -> (StealQueue, Block) {
        let arena = Arena::new(64, blocks + 1).expect("a little memory");
        let block = arena.block();
        (StealQueue::new(arena, blocks), block)
    }

    #[test]
    fn nothing_is_lent_where_nobody_is_idle_and_nobody_waits_where_nobody_reads() {
        let (share, block) = share(4);
        let reading = share.begin();
        let Err(block) = share.lend(block, StreamId(0)) else {
            panic!("nobody would count it")
        };
        drop(reading);
        share.help(|_, _| panic!("nothing was lent"));
        assert!(
            share.lend(block, StreamId(0)).is_err(),
            "the helper has gone"
        );
    }

    #[test]
    fn every_block_is_counted_once_by_whoever_and_no_more_are_made_than_allowed() {
        const BLOCKS: u64 = 20_000;
        let (share, mut block) = share(5);
        let (sum, lent) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            let mut readings = vec![share.begin(), share.begin()];
            for _ in 0..3 {
                scope.spawn(|| {
                    share.help(|block, stream| {
                        let number = u64::from_le_bytes(block.bytes().try_into().unwrap());
                        assert_eq!(number % 7, stream.0 as u64);
                        sum.fetch_add(number, Ordering::Relaxed);
                        lent.fetch_add(1, Ordering::Relaxed);
                    });
                });
            }
            // One of two ends early; the others wait for the second one.
            readings.pop();
            while share.state().helpers == 0 {
                thread::yield_now();
            }
            for number in 0..BLOCKS {
                block.append(&number.to_le_bytes());
                match share.lend(block, StreamId((number % 7) as usize)) {
                    Ok(empty) => block = empty,
                    Err(back) => {
                        sum.fetch_add(number, Ordering::Relaxed);
                        block = back;
                        block.recycle();
                    }
                }
                assert_eq!(block.filled(), 0);
            }
            drop(readings);
        });
        assert_eq!(sum.into_inner(), BLOCKS * (BLOCKS - 1) / 2);
        assert!(lent.into_inner() > 0, "somebody helped");
        let state = share.state();
        assert_eq!((state.readers, state.helpers, state.full.len()), (0, 0, 0));
        assert_eq!(state.empty.len() + state.uncarved, 5);
    }
}
