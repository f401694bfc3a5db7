//! A table's limit and what became of it, and how its values are treated there.
//!
//! Promise: what a table may hold is its own share, what it has taken of the pool, or while it is merged into no less
//! than it needs. Must not know: keys.

use super::super::cost::Cost;
use super::super::keys::{Packed, Seed};
use super::super::pool::Lease;
use super::super::refused::Refused;
use super::super::segments::UNLIMITED;
use super::{MemoryCap, Overflow, own_share};
use crate::config::OnLimit;
use crate::limits::RANKED_KEY_BYTES;
use crate::table::KeyTable;

/// What a full table does with a key for which there is no room.
pub(in crate::table) type TakeIn<V> = fn(&mut KeyTable<V>, Packed<'_>, V);

/// How values are treated.
#[derive(Debug)]
pub(in crate::table) struct Rules<V> {
    /// Makes room by taking something off all values; without it new keys are not taken in.
    pub(in crate::table) take_in: Option<TakeIn<V>>,
    /// Records a value stands for.
    pub(in crate::table) records: fn(V) -> u64,
    /// A value with the error added, as it is shown.
    pub(in crate::table) shown: fn(V, u64) -> V,
    /// A value with less than its records taken off. It is asked for where something is taken off, no other values.
    pub(in crate::table) less: fn(V, u64) -> V,
    /// What a key takes beside its place here: in the table that all are merged into, and in a ranking.
    pub(in crate::table) later: Cost,
    /// As much of that, in parts of what a table has for itself, is in the budget anyway.
    pub(in crate::table) later_parts: usize,
    /// Whether `records` says how many records came together in a value, and not only of one record's.
    pub(in crate::table) are_counts: bool,
}

/// What keys of values take in a table that is merged into, and as rows of a ranking.
pub(super) fn later<V>() -> Cost {
    let align = align_of::<V>().max(align_of::<usize>());
    let row = RANKED_KEY_BYTES - size_of::<u64>() + size_of::<V>();
    Cost::in_table::<V>().plus(Cost::of_each(row.next_multiple_of(align)))
}

/// The same of keys that are tallied: they come into a table of values, of 16 bytes at most, before that is merged.
pub(super) fn later_of_tallies() -> Cost {
    Cost::in_table::<u128>().plus(later::<u128>())
}

impl<V> Clone for Rules<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Rules<V> {}

impl<V> Rules<V> {
    /// Values of which nothing is known.
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

/// A table's limit and what became of it.
#[derive(Debug)]
pub(in crate::table) struct Limit<V> {
    pub(in crate::table) bound: MemoryCap,
    pub(in crate::table) rules: Rules<V>,
    /// Without what is in `refused`.
    pub(in crate::table) overflow: Overflow,
    /// Of which keys records were refused. Its memory is kept.
    pub(in crate::table) refused: Option<Refused>,
    /// Memory that was taken of the pool.
    pub(in crate::table) lease: Lease,
    /// Bytes for what becomes later of more keys that are taken in.
    pub(in crate::table) room: usize,
    /// How many records were added, where that is known and was set; else 0.
    pub(in crate::table) records: u64,
    /// As many records a value that is refused stands for, at least.
    pub(in crate::table) stands_for: u64,
    /// No new keys are taken in until the table is cleared.
    pub(in crate::table) is_closed: bool,
    /// Until the table is cleared there is no limit: it is merged into.
    pub(in crate::table) is_lifted: bool,
}

impl<V: Copy> Limit<V> {
    /// Bytes that are this table's whatever others take.
    pub(super) fn own(&self) -> usize {
        if self.shares() {
            own_share(self.bound.bytes, KeyTable::<V>::bytes_min())
        } else {
            self.bound.bytes
        }
    }

    /// Whether there is more than its own.
    pub(super) fn shares(&self) -> bool {
        self.bound.pool.is_some() && !self.is_thinned()
    }

    pub(in crate::table) fn new(bound: MemoryCap, rules: Rules<V>) -> Self {
        let mut limit = Limit {
            lease: Lease::new(bound.pool.clone()),
            room: UNLIMITED,
            bound,
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

    /// What the keys of the table's own part take later is not taken of the pool.
    pub(super) fn room_at_first(&self) -> usize {
        if self.shares() {
            self.own().saturating_mul(self.rules.later_parts)
        } else {
            UNLIMITED
        }
    }

    /// There is no limit until the table is cleared.
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

    /// Whether room is made by thinning.
    pub(in crate::table) fn is_thinned(&self) -> bool {
        self.rules.take_in.is_some() && self.bound.on_limit == OnLimit::Approximate
    }

    /// The limit as it is now.
    pub(super) fn bytes(&self) -> usize {
        if self.is_lifted {
            UNLIMITED
        } else {
            self.held_max()
        }
    }

    /// Bytes that a table may keep without a merge.
    pub(super) fn held_max(&self) -> usize {
        match self.own() {
            UNLIMITED => UNLIMITED,
            own => own + self.lease.bytes(),
        }
    }

    /// Bytes an arena that holds `held` counts for: where room is made its keys are moved to another one, so
    /// they are there twice for a moment.
    pub(super) fn twice(&self, held: usize) -> usize {
        if self.is_thinned() { 2 * held } else { held }
    }
}
