//! A state for each key, and the slab of what is too large for a table.
//!
//! Promise: table and slab together keep to their memory cap. A record without room is in the
//! overflow, and in no aggregate. Must not know: `epoch`, `shard`.

use std::io::{self, Read, Write};
use std::marker::PhantomData;

use super::{Aggregate, Slab, SlabFull};
use crate::table::KeyTable;
use crate::table::bound::{MemoryCap, Overflow};
use crate::table::cost::Cost;
use crate::table::frozen::FrozenTable;
use crate::table::keys::Seed;

/// What each byte of a slab needs later, in the slab that all shards' are merged into: a merged
/// state may take a block of twice the size, while those that it grew out of are free.
const MERGED_PARTS: usize = 2;

/// The least bytes that an entry has besides its value.
const KEY_BYTES_MIN: usize = 9;

/// What one merge may take, in multiples of the largest step so far of both slabs.
const STEPS_AT_ONCE: usize = 4;

/// The states of an aggregate of values `T`.
pub struct AggregateTable<A: Aggregate<T>, T> {
    states: KeyTable<A::State>,
    slab: Slab,
    aggregate: A,
    /// Whether the slab may only take what it was allowed.
    is_limited: bool,
    values: PhantomData<fn(T)>,
}

debug_fields!([A: Aggregate<T>, T] AggregateTable<A, T>, "AggregateTable", slab);

impl<A: Aggregate<T>, T> AggregateTable<A, T> {
    /// The least bytes a table may be given.
    pub(crate) fn bytes_min() -> usize {
        KeyTable::<A::State>::bytes_min().max(KeyTable::<A::Output>::bytes_min())
    }

    /// What a table of results of this one's keys takes, and the rows of their ranking, in tables
    /// of states. As it may have been split just now, it counts twice.
    pub(crate) fn result_tables() -> usize {
        let (state, result) = (size_of::<A::State>(), size_of::<A::Output>());
        2 * (result + KEY_BYTES_MIN).div_ceil(state + KEY_BYTES_MIN)
    }

    /// An empty table within `cap`.
    pub(crate) fn new(aggregate: A, seed: Seed, cap: MemoryCap) -> Self {
        let is_limited = cap.bytes < usize::MAX;
        AggregateTable {
            states: KeyTable::of_states::<A::Output>(seed, cap),
            slab: empty_slab(is_limited),
            aggregate,
            is_limited,
            values: PhantomData,
        }
    }

    /// An empty table without a cap.
    pub fn unlimited(aggregate: A, seed: Seed) -> Self {
        AggregateTable::new(aggregate, seed, MemoryCap::NONE)
    }

    /// An empty table with the seed and the cap of this one.
    pub(crate) fn empty_like(&self) -> Self {
        AggregateTable {
            states: self.states.empty_like(),
            slab: empty_slab(self.is_limited),
            aggregate: self.aggregate.clone(),
            ..*self
        }
    }

    /// The state of each key.
    pub(crate) fn states(&self) -> &KeyTable<A::State> {
        &self.states
    }

    /// Bytes held of the allocator.
    pub fn held_bytes(&self) -> usize {
        self.states.allocated_bytes() - self.states.beside() + self.slab.held_bytes()
    }

    /// Adds a value of `key`. It is faster for a key in `around` if 16 bytes follow the key's first
    /// one there.
    #[inline]
    pub fn add(&mut self, around: &[u8], key: &[u8], value: T)
    where
        T: Copy,
    {
        loop {
            let (aggregate, slab) = (&self.aggregate, &mut self.slab);
            let mut is_new = false;
            let zero = aggregate.zero();
            let added: Option<Result<(), SlabFull>> =
                self.states.change_within(around, key, zero, |state, new| {
                    is_new = new;
                    aggregate.reserve(state, slab)?;
                    aggregate.add(state, value, slab);
                    Ok(())
                });
            let Some(Err(full)) = added else {
                return;
            };
            if !self.take_memory(full.bytes) {
                return self.refuse(key, is_new);
            }
        }
    }

    /// Lets the slab take `bytes` more. Returns `true` if there are that many.
    #[cold]
    fn take_memory(&mut self, bytes: usize) -> bool {
        let may = self.states.may_hold_beside(bytes, MERGED_PARTS * bytes);
        if may {
            self.slab.allow(self.slab.allowance() + bytes);
            self.settle_beside();
        }
        may
    }

    fn settle_beside(&mut self) {
        if self.is_limited {
            let bytes = self.slab.held_bytes() + self.slab.allowance();
            self.states.set_beside(bytes);
        }
    }

    /// A record of `key` had no room in the slab.
    #[cold]
    fn refuse(&mut self, key: &[u8], is_new: bool) {
        if is_new && let Some(state) = self.states.remove(key) {
            self.aggregate.free(state, &mut self.slab);
        }
        self.states.refuse(key, self.aggregate.zero());
    }

    /// Adds the states of another table of the same aggregate, whatever memory that takes.
    pub fn merge_from(&mut self, other: &Self) {
        let (aggregate, slab) = (&self.aggregate, &mut self.slab);
        self.states.merge_updated(&other.states, |state, from| {
            let mut state = state.unwrap_or_else(|| aggregate.zero());
            aggregate.merge(&mut state, slab, from, &other.slab);
            state
        });
        self.settle_beside();
    }

    /// As [`merge_from`](Self::merge_from), but within the cap: for a table that is merged into
    /// again and again.
    pub(crate) fn merge_within(&mut self, other: &Self) {
        let merging = self.states.begin_merge_within(&other.states);
        for (key, from) in other.states.iter_kept() {
            let step = self.slab.largest_step().max(other.slab.largest_step());
            let bytes = STEPS_AT_ONCE * step;
            let has_room = self.slab.allowance() >= bytes || self.take_memory(bytes);
            if has_room {
                self.merge_one(key, from, other);
            } else {
                self.states.refuse(key, self.aggregate.zero());
            }
        }
        self.states.end_merge_within(&other.states, merging);
        self.settle_beside();
    }

    /// As [`merge_from`](Self::merge_from), until keys and states take `bytes`; the others are
    /// refused.
    pub(crate) fn merge_up_to(&mut self, other: &Self, bytes: usize) {
        let merging = self.states.begin_merge_within(&other.states);
        let cost = Cost::in_table::<A::State>();
        for (key, from) in other.states.iter_kept() {
            if cost.of(&self.states) + self.slab.live_bytes() < bytes {
                self.merge_one(key, from, other);
            } else {
                self.states.refuse(key, self.aggregate.zero());
            }
        }
        self.states.end_merge_within(&other.states, merging);
    }

    /// Copies all keys and states into a packed table, whose order is this one's, and a slab.
    pub(crate) fn freeze_into(&self, states: &mut FrozenTable<A::State>, slab: &mut Slab) {
        states.fill_from(&self.states);
        for state in states.values_mut() {
            let mut copy = self.aggregate.zero();
            self.aggregate.merge(&mut copy, slab, *state, &self.slab);
            *state = copy;
        }
    }

    fn merge_one(&mut self, key: &[u8], from: A::State, other: &Self) {
        let (aggregate, slab) = (&self.aggregate, &mut self.slab);
        let zero = aggregate.zero();
        self.states.change_within(&[], key, zero, |state, _| {
            aggregate.merge(state, slab, from, &other.slab);
        });
    }

    /// Replaces the content of `results` by the result of each key.
    pub fn finish_into(&self, results: &mut KeyTable<A::Output>) {
        results.clear();
        let finish = |state| self.aggregate.finish(state, &self.slab);
        results.merge_mapped(&self.states, finish, |_, new| new);
    }

    /// Writes keys and states.
    ///
    /// # Errors
    ///
    /// Those of `to`; or the table had no room for a record.
    pub(crate) fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        let save = |state, to: &mut dyn Write| self.aggregate.save(state, &self.slab, to);
        self.states.save_by(save, to)
    }

    /// Replaces the content by what [`save`](Self::save) wrote, whatever memory that takes. From
    /// now on there is no memory cap.
    ///
    /// # Errors
    ///
    /// Those of `from`; or the bytes are none that `save` writes.
    pub(crate) fn load(&mut self, from: &mut dyn Read) -> io::Result<()> {
        (self.slab, self.is_limited) = (Slab::new(), false);
        let (aggregate, slab) = (&self.aggregate, &mut self.slab);
        self.states = KeyTable::load_by(|from| aggregate.load(slab, from), from)?;
        Ok(())
    }

    /// What the table could not keep.
    pub(crate) fn overflow(&self) -> Overflow {
        self.states.overflow()
    }

    /// Number of distinct keys.
    pub(crate) fn len(&self) -> usize {
        self.states.len()
    }

    /// An empty table for results, which keeps to the cap of this one when it is empty.
    pub(crate) fn results(&self) -> KeyTable<A::Output> {
        KeyTable::bounded(self.states.seed(), self.states.cap())
    }

    /// Removes all keys, and orders them from now on as `leader` does, with which this table was
    /// merged.
    pub(crate) fn follow(&mut self, leader: &mut Self) {
        leader.states.take_charge_of(&mut self.states);
        self.clear();
        self.states.set_seed(leader.states.seed());
    }

    /// Sets how many records are in all states and in the overflow together.
    pub(crate) fn set_records(&mut self, records: u64) {
        self.states.set_records(records);
    }

    /// Removes all keys and keeps the memory, within the cap.
    pub fn clear(&mut self) {
        self.slab.clear();
        if self.is_limited {
            self.slab.allow(0);
        }
        self.settle_beside();
        self.states.clear();
        // The table gave its memory back, since it may not keep it.
        if self.is_limited && self.states.beside() < self.slab.held_bytes() {
            self.slab = empty_slab(true);
        }
    }
}

fn empty_slab(is_limited: bool) -> Slab {
    let mut slab = Slab::new();
    if is_limited {
        slab.allow(0);
    }
    slab
}
