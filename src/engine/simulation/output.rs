//! Outputs of simulated runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::EpochCounts;
use super::random::Random;
use crate::engine::plan::{Emitted, Merged, Output};
use crate::epoch::merge::table_of;
use crate::error::Result;

/// Keeps what was published.
#[derive(Clone, Default)]
pub(crate) struct Keep(pub(crate) Arc<Mutex<Vec<(u64, EpochCounts)>>>);

impl Keep {
    /// Keeps what is published by pipelines from the numbered one on.
    fn keep(&self, epoch: &Merged<'_>, from: usize) {
        let mut counts = EpochCounts::new();
        for node in &epoch.nodes[from..] {
            for (key, count) in table_of::<u64>(node.partial.as_ref()).iter() {
                *counts.entry(key.to_vec()).or_default() += count;
            }
        }
        self.0
            .lock()
            .unwrap()
            .push((epoch.barrier.time.as_millis(), counts));
    }
}

impl Output for Keep {
    fn emit(&mut self, epoch: &mut Merged<'_>) -> Result<Emitted> {
        self.keep(epoch, 0);
        Ok(Emitted::Done)
    }
}

/// An output that often asks to be called again with the same epoch, and that delivers what it got
/// later.
pub(super) struct Reluctant {
    keep: Keep,
    /// What the last pipeline publishes.
    keep_last: Keep,
    random: Random,
    waits_until: Duration,
    is_calm: Arc<AtomicBool>,
    /// The last epoch it got, and the last one it has delivered.
    emitted: u64,
    delivered: u64,
    /// The last one that it said is delivered.
    told: Arc<AtomicU64>,
}

impl Reluctant {
    /// Keeps what is published in `keep`, and that of the last pipeline also in `keep_last`. Asks
    /// for no time once `is_calm` is set. Says in `told` what it has delivered.
    pub(super) fn new(
        keep: Keep,
        keep_last: Keep,
        random: Random,
        is_calm: Arc<AtomicBool>,
        told: Arc<AtomicU64>,
    ) -> Self {
        Reluctant {
            keep,
            keep_last,
            told,
            random,
            waits_until: Duration::ZERO,
            is_calm,
            emitted: 0,
            delivered: 0,
        }
    }
}

impl Output for Reluctant {
    fn emit(&mut self, epoch: &mut Merged<'_>) -> Result<Emitted> {
        let now = epoch.clock.now();
        let is_calm = self.is_calm.load(Ordering::Relaxed);
        if !is_calm && now >= self.waits_until && self.random.one_in(3) {
            self.waits_until = now + Duration::from_millis(self.random.below(25) as u64);
        }
        if !is_calm && now < self.waits_until {
            return Ok(Emitted::Wait(self.waits_until));
        }
        self.emitted = epoch.barrier.epoch;
        self.delivered += self
            .random
            .below((self.emitted - self.delivered) as usize + 1) as u64;
        self.keep_last.keep(epoch, epoch.nodes.len() - 1);
        self.keep.emit(epoch)
    }

    fn delivered(&self) -> u64 {
        match self.is_calm.load(Ordering::Relaxed) || self.delivered == self.emitted {
            true => {
                self.told.store(self.emitted, Ordering::Relaxed);
                u64::MAX
            }
            false => {
                self.told.store(self.delivered, Ordering::Relaxed);
                self.delivered
            }
        }
    }
}
