//! The barrier between two epochs in every ring, and the set of shards that take part in an epoch.
//!
//! Promise: every shard in an epoch's [`ShardSet`] hands its tables over at the epoch's barrier.
//! Must not know: what is counted.

use crate::limits::SHARDS_MAX;
use crate::time::BatchTime;

/// The boundary between two epochs, pushed behind the last block of the first in every ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Barrier {
    /// Epochs are numbered from 1, without a gap.
    pub(crate) epoch: u64,
    pub(crate) time: BatchTime,
    /// Whether nothing comes behind this barrier.
    pub(crate) last: bool,
}

/// The shards that hand tables over for an epoch: those that were given something. Others are not
/// woken for a batch they have no part in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShardSet([u64; SHARDS_MAX.div_ceil(64)]);

impl ShardSet {
    /// Adds a shard.
    pub(crate) fn add(&mut self, shard: usize) {
        self.0[shard / 64] |= 1 << (shard % 64);
    }

    /// Returns `true` if the shard is in the set.
    pub(crate) fn has(&self, shard: usize) -> bool {
        self.0[shard / 64] >> (shard % 64) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_every_shard_there_may_be() {
        let mut shards = ShardSet::default();
        for shard in [0, 63, 64, SHARDS_MAX - 1] {
            assert!(!shards.has(shard));
            shards.add(shard);
            assert!(shards.has(shard));
        }
        assert_eq!(
            (0..SHARDS_MAX).filter(|&shard| shards.has(shard)).count(),
            4
        );
    }
}
