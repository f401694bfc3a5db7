//! The positions of epochs that are under way, until their results were delivered.
//!
//! Promise: positions are returned in order, each at most once; none is taken, and nothing
//! allocated, while no channel has a position. Must not know: who delivers, who is informed.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::position::{EpochPositions, Positions};

/// Positions that are not committed, and memory for the next ones.
#[derive(Default)]
pub(crate) struct Commits {
    /// Oldest first.
    under_way: VecDeque<Arc<EpochPositions>>,
    /// What was committed last.
    committed: Arc<EpochPositions>,
    spare: Vec<Arc<EpochPositions>>,
    /// Nothing more is committed.
    is_closed: bool,
}

impl Commits {
    /// Takes the positions that `take` adds, one list for each source, for `epoch`. The publisher
    /// gets them with the epoch.
    pub(crate) fn begin(
        &mut self,
        epoch: u64,
        sources: usize,
        mut take: impl FnMut(usize, &mut Positions),
    ) -> Arc<EpochPositions> {
        let mut shared = self.spare.pop().unwrap_or_default();
        // The publisher may still hold it, if the epoch was its last.
        if Arc::get_mut(&mut shared).is_none() {
            shared = Arc::default();
        }
        let positions = Arc::get_mut(&mut shared).expect("it is shared with nobody");
        positions.epoch = epoch;
        positions.sources.resize_with(sources, Positions::default);
        for (source, into) in positions.sources.iter_mut().enumerate() {
            into.clear();
            take(source, into);
        }
        match self.is_closed {
            true => self.spare.push(Arc::clone(&shared)),
            false => self.under_way.push_back(Arc::clone(&shared)),
        }
        // All of them may be delivered at once.
        self.spare.reserve(self.under_way.len() + 1);
        shared
    }

    /// Nothing more will be delivered: forgets what is under way.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
        self.spare.extend(self.under_way.drain(..));
    }

    /// Everything up to `epoch` was delivered. Calls `commit` with the number of each source and
    /// its positions, for each epoch in which they have changed: an epoch has a channel that closed
    /// in it, the next one has not.
    pub(crate) fn delivered(&mut self, epoch: u64, mut commit: impl FnMut(usize, &Positions)) {
        let is_delivered = |next: &Arc<EpochPositions>| next.epoch <= epoch;
        while self.under_way.front().is_some_and(is_delivered) {
            let Some(next) = self.under_way.pop_front() else {
                return;
            };
            for (source, positions) in next.sources.iter().enumerate() {
                let before = self.committed.sources.get(source);
                if !positions.is_empty() && before != Some(positions) {
                    commit(source, positions);
                }
            }
            self.spare
                .push(std::mem::replace(&mut self.committed, next));
        }
    }

    /// Returns `true` if positions wait for the delivery of their epoch.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.under_way.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Position;

    #[test]
    fn a_channel_that_closed_is_committed_though_later_epochs_are_delivered_with_its_own() {
        let mut commits = Commits::default();
        let epochs: [&[(&str, u64)]; 4] = [
            &[("a", 1), ("b", 1)],
            &[("a", 5), ("b", 2)],
            &[("b", 2)],
            &[("b", 3)],
        ];
        for (before, channels) in (0..).zip(epochs) {
            commits.begin(before + 1, 1, |_, into| {
                for (name, at) in channels {
                    into.push((*name).into(), Position::from(*at));
                }
            });
        }
        let mut seen = Vec::new();
        commits.delivered(0, |_, _| panic!("nothing was delivered"));
        commits.delivered(3, |source, positions| {
            assert_eq!(source, 0);
            seen.push((positions.get("a"), positions.get("b")));
        });
        let at = |offset: u64| Some(Position::from(offset));
        assert_eq!(seen, [(at(1), at(1)), (at(5), at(2)), (None, at(2))]);
        assert!(commits.is_waiting());
        commits.delivered(4, |_, positions| {
            assert_eq!(positions.get("b"), at(3));
        });
        assert!(!commits.is_waiting());
    }
}
