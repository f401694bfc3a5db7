//! The hand-over of a shard's tables, by pointer, at an epoch's barrier.
//!
//! Promise: a shard never waits for another shard. It waits only for its own spare tables, which
//! come back as soon as the epoch before has been published. Must not know: what the tables hold.
//!
//! Each shard owns two sets of tables. One is being filled; the other is with the publisher or
//! waits as the spare. So at most one set is on its way in either direction.

use std::any::Any;

use crate::epoch::barrier::Barrier;
use crate::error::guarded;
use crate::split::Tallied;
use crate::table::bound::Overflow;

/// What one pipeline gathers during one epoch in one shard. The pipeline that made it knows its
/// type.
pub(crate) trait PartialAggregate: Any + Send {
    /// Number of distinct keys; decides into which shard's table the others are merged.
    fn len(&self) -> usize;
    /// What there was no room for.
    fn overflow(&self) -> Overflow {
        Overflow::default()
    }
    /// The most records that are missing in the value of any key.
    fn missing_most(&self) -> u64 {
        0
    }
    /// Bytes held of the allocator; 0 if that is unknown.
    fn allocated_bytes(&self) -> usize {
        0
    }
    /// Removes the content and keeps the memory.
    fn clear(&mut self);
    /// Removes the content, and orders its keys from now on as `leader` does, with which it was
    /// merged. Otherwise a table that took a new seed after a flood would never again be in the
    /// others' order. What was taken of shared memory for its keys is now `leader`'s.
    fn follow(&mut self, leader: &mut dyn PartialAggregate);
}

/// One pipeline's share of [`Tables`].
pub(crate) struct NodeTable {
    pub(crate) partial: Box<dyn PartialAggregate>,
    /// Bytes of the blocks that this pipeline got.
    pub(crate) block_bytes: u64,
    pub(crate) tallied: Tallied,
    /// The message of a user-supplied function that panicked in this pipeline. Then `partial` and
    /// the tokens hold only a part of the epoch and must not be used; bytes and records are
    /// complete.
    pub(crate) failure: Option<String>,
}

/// Everything one shard gathered during one epoch.
pub(crate) struct Tables {
    /// One for each pipeline, in the plan's order.
    pub(crate) nodes: Vec<NodeTable>,
    /// Bytes of all blocks, each block once however many pipelines looked at it.
    pub(crate) block_bytes: u64,
}

impl Tables {
    /// Empty tables, one for each pipeline.
    pub(crate) fn new(partials: impl Iterator<Item = Box<dyn PartialAggregate>>) -> Self {
        let nodes = partials
            .map(|partial| NodeTable {
                partial,
                block_bytes: 0,
                tallied: Tallied::default(),
                failure: None,
            })
            .collect();
        Tables {
            nodes,
            block_bytes: 0,
        }
    }

    /// Removes the content and keeps the memory. Returns the panic of a user-supplied value that
    /// panicked when it was dropped; it is gone all the same.
    pub(crate) fn clear(&mut self) -> Option<Box<dyn Any + Send>> {
        let mut panicked = None;
        for node in &mut self.nodes {
            let partial = node.partial.as_mut();
            if let Err(panic) = guarded(|| partial.clear()) {
                panicked = Some(panic);
            }
            node.block_bytes = 0;
            node.tallied = Tallied::default();
            node.failure = None;
        }
        self.block_bytes = 0;
        panicked
    }
}

/// Tables of a finished epoch.
pub(crate) struct Sealed {
    pub(crate) barrier: Barrier,
    pub(crate) tables: Tables,
}

/// The shard's end of the hand-over.
pub(crate) struct SealedOut {
    sealed: rtrb::Producer<Sealed>,
    spares: rtrb::Consumer<Tables>,
}

/// The publisher's end.
pub(crate) struct SealedIn {
    sealed: rtrb::Consumer<Sealed>,
    spares: rtrb::Producer<Tables>,
}

/// Makes the two ends; `spare` is the second set of tables.
pub(crate) fn hand_over(spare: Tables) -> (SealedOut, SealedIn) {
    let (sealed_in, sealed_out) = rtrb::RingBuffer::new(2);
    let (mut spares_in, spares_out) = rtrb::RingBuffer::new(2);
    assert!(spares_in.push(spare).is_ok(), "an empty queue takes one");
    (
        SealedOut {
            sealed: sealed_in,
            spares: spares_out,
        },
        SealedIn {
            sealed: sealed_out,
            spares: spares_in,
        },
    )
}

impl SealedOut {
    /// Hands `filled` over and replaces it by the spare. Returns `false` if the spare is not back.
    pub(crate) fn try_swap(&mut self, filled: &mut Tables, barrier: Barrier) -> bool {
        let Ok(spare) = self.spares.pop() else {
            return false;
        };
        let tables = std::mem::replace(filled, spare);
        let pushed = self.sealed.push(Sealed { barrier, tables });
        assert!(pushed.is_ok(), "two sets of tables fit into two places");
        true
    }

    /// Returns `true` if a swap would succeed now.
    pub(crate) fn has_spare(&self) -> bool {
        !self.spares.is_empty()
    }
}

impl SealedIn {
    /// Returns `true` if tables are waiting.
    pub(crate) fn is_ready(&self) -> bool {
        !self.sealed.is_empty()
    }

    /// The tables of the next epoch.
    pub(crate) fn take(&mut self) -> Option<Sealed> {
        self.sealed.pop().ok()
    }

    /// Returns cleared tables to the shard.
    pub(crate) fn give_back(&mut self, tables: Tables) {
        let pushed = self.spares.push(tables);
        assert!(pushed.is_ok(), "two sets of tables fit into two places");
    }
}
