//! The pinned thread of one shard: pop, count, give back; at a barrier, hand over.
//!
//! Promise: no system call and no allocation while blocks keep coming; a short spin, then a park,
//! when none does. Only the shard's metrics read the clock, twice a block. In low-latency mode,
//! whoever hands over last publishes the batch, and that may be this thread. Must not know: why it
//! was started, what stops the engine.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::epoch::barrier::Barrier;
use crate::limits::SPINS_BEFORE_PARK;
use crate::ring::{BlockReader, Parcel};
use crate::shard::ShardCore;

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerTurn {
    /// A block was counted.
    Counted,
    /// Tables were handed over.
    Sealed,
    /// Nothing to do, or the spare tables are not back.
    Waiting,
    /// The last barrier was handed over, or nobody will push any more.
    Done,
}

/// A shard with its ring, stepped by [`run`] on its own thread or by a test.
pub(crate) struct Worker {
    shard: ShardCore,
    ring: BlockReader<Barrier>,
    /// A barrier that arrived while the spare tables were away.
    pending: Option<Barrier>,
}

impl Worker {
    /// A worker that reads `ring`.
    pub(crate) fn new(shard: ShardCore, ring: BlockReader<Barrier>) -> Self {
        Worker {
            shard,
            ring,
            pending: None,
        }
    }

    /// Handles one parcel.
    pub(crate) fn step(&mut self) -> WorkerTurn {
        let barrier = match self.pending.take() {
            Some(barrier) => barrier,
            None => match self.ring.pop() {
                Some(Parcel::Block { block, stream }) => {
                    self.shard.count(&block, stream);
                    self.ring.give_back(block);
                    return WorkerTurn::Counted;
                }
                Some(Parcel::Barrier(barrier)) => barrier,
                // Abandoned is asked first and emptiness again after it: what was pushed before the
                // writer went away is still counted.
                None if self.ring.is_abandoned() && self.ring.is_empty() => {
                    return WorkerTurn::Done;
                }
                None => return WorkerTurn::Waiting,
            },
        };
        if !self.shard.try_seal(barrier) {
            self.pending = Some(barrier);
            return WorkerTurn::Waiting;
        }
        if barrier.last {
            WorkerTurn::Done
        } else {
            WorkerTurn::Sealed
        }
    }
}

/// Steps `worker` until it is done or `abort` is set. `handed_over` is called after every swap:
/// somebody has to check whether a batch is complete.
pub(crate) fn run(worker: &mut Worker, abort: &AtomicBool, handed_over: impl Fn()) {
    worker.ring.attach();
    let mut idle_turns = 0;
    // Relaxed: the flag carries no data, and whoever sets it unparks this thread.
    while !abort.load(Ordering::Relaxed) {
        match worker.step() {
            WorkerTurn::Counted => idle_turns = 0,
            WorkerTurn::Sealed => {
                idle_turns = 0;
                handed_over();
            }
            WorkerTurn::Done => break,
            WorkerTurn::Waiting if idle_turns < SPINS_BEFORE_PARK => {
                idle_turns += 1;
                spin_loop();
            }
            WorkerTurn::Waiting => {
                // Whoever pushes a parcel or returns tables unparks this thread. An `unpark`
                // between the step and the park makes the park return at once.
                thread::park();
            }
        }
    }
    handed_over();
}
