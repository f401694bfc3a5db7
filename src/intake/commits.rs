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
        shared
    }

    /// Nothing more will be delivered: forgets what is under way.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
        self.spare.extend(self.under_way.drain(..));
    }

    /// Everything up to `epoch` was delivered. Calls `commit` with the number of each source and
    /// its positions, if they have changed since the last call.
    pub(crate) fn delivered(&mut self, epoch: u64, mut commit: impl FnMut(usize, &Positions)) {
        let mut newest = None;
        while let Some(next) = self.under_way.front() {
            if next.epoch > epoch {
                break;
            }
            let next = self.under_way.pop_front();
            self.spare.extend(std::mem::replace(&mut newest, next));
        }
        let Some(newest) = newest else { return };
        for (source, positions) in newest.sources.iter().enumerate() {
            let before = self.committed.sources.get(source);
            if !positions.is_empty() && before != Some(positions) {
                commit(source, positions);
            }
        }
        self.spare
            .push(std::mem::replace(&mut self.committed, newest));
    }

    /// Returns `true` if positions wait for the delivery of their epoch.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.under_way.is_empty()
    }
}
