//! What stands between two epochs in every ring, and what the publisher has to know of it first.
//!
//! Promise: every shard on an epoch's roll hands its tables over at the epoch's mark. Must not know: what is counted.

use crate::limits::SHARDS_MAX;
use crate::time::BatchTime;

/// The boundary between two epochs, put behind the last block of the first in every ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Barrier {
    /// Epochs are numbered from 1, without a gap.
    pub(crate) epoch: u64,
    pub(crate) time: BatchTime,
    /// Nothing comes behind this mark.
    pub(crate) last: bool,
}

/// Which shards hand tables over for an epoch: those that were given something. Others are not woken
/// for a batch they have no part in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShardSet([u64; SHARDS_MAX.div_ceil(64)]);

impl ShardSet {
    /// Puts the numbered shard on the roll.
    pub(crate) fn add(&mut self, shard: usize) {
        self.0[shard / 64] |= 1 << (shard % 64);
    }

    /// Whether the numbered shard is on the roll.
    pub(crate) fn has(&self, shard: usize) -> bool {
        self.0[shard / 64] >> (shard % 64) & 1 == 1
    }
}

/// What whoever publishes has to know about an epoch before any table of it comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EpochHeader {
    pub(crate) barrier: Barrier,
    pub(crate) shard_set: ShardSet,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roll_holds_every_shard_there_may_be() {
        let mut shard_set = ShardSet::default();
        for shard in [0, 63, 64, SHARDS_MAX - 1] {
            assert!(!shard_set.has(shard));
            shard_set.add(shard);
            assert!(shard_set.has(shard));
        }
        assert_eq!(
            (0..SHARDS_MAX)
                .filter(|&shard| shard_set.has(shard))
                .count(),
            4
        );
    }
}
