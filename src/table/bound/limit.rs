//! A table's memory cap and what became of it, and how its values are treated there.
//!
//! Promise: a table may hold its own share and what it has taken of the pool; while it is merged
//! into, whatever it needs. Must not know: keys.

use super::super::cost::Cost;
use super::super::keys::{PackedKey, Seed};
use super::super::pool::Lease;
use super::super::refused::Refused;
use super::super::segments::UNLIMITED;
use super::{MemoryCap, Overflow, own_share};
use crate::config::OnLimit;
use crate::limits::RANKED_KEY_BYTES;
use crate::table::KeyTable;

/// What a full table does with a key that has no room.
pub(in crate::table) type TakeIn<V> = fn(&mut KeyTable<V>, PackedKey<'_>, V);

/// How values are treated.
#[derive(Clone, Copy, Debug)]
pub(in crate::table) struct Rules<V> {
    /// Makes room by taking something off all values. Without it, new keys are refused.
    pub(in crate::table) take_in: Option<TakeIn<V>>,
    /// The records a value stands for.
    pub(in crate::table) records: fn(V) -> u64,
    /// A value plus the error, as it is shown.
    pub(in crate::table) shown: fn(V, u64) -> V,
    /// A value with fewer than its records taken off. Called only where something is taken off.
    pub(in crate::table) less: fn(V, u64) -> V,
    /// What a key takes besides its place here: in the table that all are merged into, and in a
    /// ranking.
    pub(in crate::table) later: Cost,
    /// How much of `later` is in the budget anyway, in multiples of what a table has for itself.
    pub(in crate::table) later_parts: usize,
    /// Whether `records` is the number of records in a value, not just 1.
    pub(in crate::table) are_counts: bool,
}

/// What keys take later: in a table that is merged into, and as rows of a ranking.
pub(super) fn later<V>() -> Cost {
    let align = align_of::<V>().max(align_of::<usize>());
    let row = RANKED_KEY_BYTES - size_of::<u64>() + size_of::<V>();
    Cost::in_table::<V>().plus(Cost::of_each(row.next_multiple_of(align)))
}

/// As [`later`], for tallied keys: they first come into a table of values of at most 16 bytes,
/// which is then merged.
pub(super) fn later_of_tallies() -> Cost {
    Cost::in_table::<u128>().plus(later::<u128>())
}

impl<V> Rules<V> {
    /// The rules of values of which nothing is known.
    pub(in crate::table) fn values() -> Self {
        Rules {
            take_in: None,
            records: |_| 1,
            shown: |value, _| value,
            less: |value, _| value,
            later: later::<V>(),
            later_parts: 4,
            are_counts: false,
        }
    }
}

/// A table's memory cap and what became of it.
#[derive(Debug)]
pub(in crate::table) struct TableLimit<V> {
    pub(in crate::table) cap: MemoryCap,
    pub(in crate::table) rules: Rules<V>,
    /// Excludes what is in `refused`.
    pub(in crate::table) overflow: Overflow,
    /// How many records of which keys were refused. Its memory is kept.
    pub(in crate::table) refused: Option<Refused>,
    /// Memory taken of the pool.
    pub(in crate::table) lease: Lease,
    /// Bytes for what further keys need later.
    pub(in crate::table) room: usize,
    /// Bytes that are held for values beside the table.
    pub(in crate::table) beside: usize,
    /// The records that were added, if they are known and were set; else 0.
    pub(in crate::table) records: u64,
    /// The records that a refused value stands for, at least.
    pub(in crate::table) stands_for: u64,
    /// Whether new keys are refused until the table is cleared.
    pub(in crate::table) is_closed: bool,
    /// Whether the cap does not hold until the table is cleared: it is merged into.
    pub(in crate::table) is_lifted: bool,
}

impl<V: Copy> TableLimit<V> {
    /// Bytes that this table may hold whatever others take.
    pub(super) fn own(&self) -> usize {
        if self.shares() {
            own_share(self.cap.bytes, KeyTable::<V>::bytes_min())
        } else {
            self.cap.bytes
        }
    }

    /// Returns `true` if the table may take memory of a pool.
    pub(super) fn shares(&self) -> bool {
        self.cap.pool.is_some() && !self.is_thinned()
    }

    pub(in crate::table) fn new(cap: MemoryCap, rules: Rules<V>) -> Self {
        let mut limit = TableLimit {
            lease: Lease::new(cap.pool.clone()),
            room: UNLIMITED,
            beside: 0,
            cap,
            rules,
            overflow: Overflow::default(),
            refused: None,
            records: 0,
            stands_for: 0,
            is_closed: false,
            is_lifted: false,
        };
        limit.room = limit.room_at_first();
        limit
    }

    /// What the keys of the table's own share need later is not taken of the pool.
    pub(super) fn room_at_first(&self) -> usize {
        if self.shares() {
            self.own().saturating_mul(self.rules.later_parts)
        } else {
            UNLIMITED
        }
    }

    /// Suspends the cap until the table is cleared.
    pub(in crate::table) fn lift(&mut self) {
        self.is_lifted = true;
        self.is_closed = false;
        self.room = UNLIMITED;
    }

    pub(in crate::table) fn clear(&mut self, seed: Seed) {
        self.overflow = Overflow::default();
        self.records = 0;
        if let Some(refused) = &mut self.refused {
            refused.clear(seed);
        }
        self.is_closed = false;
        self.is_lifted = false;
        self.stands_for = 0;
        self.room = self.room_at_first();
    }

    /// Returns `true` if room is made by thinning.
    pub(in crate::table) fn is_thinned(&self) -> bool {
        self.rules.take_in.is_some() && self.cap.on_limit == OnLimit::Approximate
    }

    /// Bytes that the table may hold now.
    pub(super) fn bytes(&self) -> usize {
        if self.is_lifted {
            UNLIMITED
        } else {
            self.held_max()
        }
    }

    /// Bytes that the table may hold unless it is merged into.
    pub(super) fn held_max(&self) -> usize {
        match self.own() {
            UNLIMITED => UNLIMITED,
            own => own + self.lease.bytes(),
        }
    }

    /// What an arena of `held` bytes counts for. To make room its keys are moved to another arena,
    /// so they are there twice for a moment.
    pub(super) fn twice(&self, held: usize) -> usize {
        if self.is_thinned() { 2 * held } else { held }
    }
}
