//! Where a simulation's choices come from.
//!
//! Promise: equal seeds, or equal given choices, make equal choices.
//! Must not know: reactor, shard, source.

use std::collections::VecDeque;

/// Given choices, a byte each, and then a generator.
pub(super) struct Random {
    given: VecDeque<u8>,
    /// The state of Steele, Lea and Flood's generator.
    state: u64,
}

impl Random {
    pub(super) fn of_seed(seed: u64) -> Random {
        Random {
            given: VecDeque::new(),
            state: seed,
        }
    }

    pub(super) fn of_choices(choices: &[u8]) -> Random {
        Random {
            given: choices.iter().copied().collect(),
            state: 0,
        }
    }

    pub(super) fn next(&mut self) -> u64 {
        if let Some(choice) = self.given.pop_front() {
            return u64::from(choice);
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(super) fn one_in(&mut self, chance: usize) -> bool {
        self.below(chance) == 0
    }

    /// Returns `true` if given choices are left.
    pub(super) fn has_given(&self) -> bool {
        !self.given.is_empty()
    }
}
