//! How much memory a table may take, and what it does when that is used up.
//!
//! Promise: what a table holds of the allocator never exceeds its limit, also not while it grows or makes room.
//! What a full table could not keep is in its [`Overflow`], so that for every key
//!
//! ```text
//! kept <= true <= kept + loss.error + loss.other        kept is 0 for a key that is not there
//! sum of all kept + loss.shed + loss.other == records added
//! ```
//!
//! Must not know: who divides the memory, what is told about it.
//!
//! Counts that are added up are thinned: a number `t` is taken off every count and keys that have nothing left
//! go; `error` grows by `t`. This is the summary of Misra and Gries in its mergeable form (Agarwal et al. 2012),
//! with `t` about the median of the counts, so that at least half of the keys make room at a time and a key pays
//! for a constant number of steps. The error is at most twice the records over the keys there is room for.
//! Of other values nothing can be taken off: a full table takes no new keys until it is cleared. How many records it
//! refused of each key is bounded by `refused`: a key that one shard knew and another refused has a true bound, and
//! most keys are known to be exact. Before it is full such a table takes memory that all of them share (`pool`).
//!
//! All of it stands where a segment or the arena has to grow. A look-up that succeeds never comes here.

mod limit;

use std::sync::Arc;

pub(super) use self::limit::{Limit, Rules};
use self::limit::{later, later_of_tallies};
use super::keys::{self, Packed};
use super::pool::Pool;
use super::refused::{REFUSED_BYTES, Refused};
use super::segments::{SegmentedTable, TableFull, UNLIMITED};
use super::{KeyTable, Long, Medium, Short, long_bytes};
use crate::config::OnLimit;
use crate::limits::{
    KEY_ARENA_BYTES_INITIAL, TABLE_LONG_KEYS_INITIAL, TABLE_MEDIUM_KEYS_INITIAL,
    TABLE_SHORT_KEYS_INITIAL,
};

/// Counts that are looked at to find about the median.
const SAMPLE: usize = 1024;

/// A class of keys that has at least this share of a table's memory has room enough when half of its keys went.
/// Another one needs memory that the others give back.
const CLASS_SHARE: usize = 4;

/// That much of the limit, as a share, is free after room was made for a small class.
const FREE_SHARE: usize = 8;

/// The limit of one table.
#[derive(Clone, Debug)]
pub(crate) struct MemoryCap {
    /// Bytes; `usize::MAX` is no limit.
    pub(crate) bytes: usize,
    pub(crate) on_limit: OnLimit,
    /// Whether keys may wait for a look-up beside the table (see `partitioned`).
    pub(crate) may_partition: bool,
    /// Where a table that is not thinned gets memory beyond its own share of `bytes`: see [`own_share`].
    pub(crate) pool: Option<Arc<Pool>>,
}

/// What a table has for itself of `bytes` when the rest is shared; `bytes_min` is the least it may have.
pub(crate) fn own_share(bytes: usize, bytes_min: usize) -> usize {
    (bytes / OWN_PART).max(bytes_min)
}

/// Most memory is shared: one shard may have most of the keys, and in one batch of many. Some is not, so that the
/// batch after a large one has room while that one is published.
const OWN_PART: usize = 8;

impl MemoryCap {
    /// No limit.
    pub(crate) const NONE: MemoryCap = MemoryCap {
        bytes: UNLIMITED,
        on_limit: OnLimit::Approximate,
        may_partition: true,
        pool: None,
    };
}

/// What a table could not keep since it was cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overflow {
    /// Taken off every count.
    pub(crate) error: u64,
    /// What was taken off, over all keys.
    pub(crate) thinned: u64,
    /// The same in bytes of keys.
    pub(crate) thinned_bytes: u64,
    /// Records of keys that were not taken in.
    pub(crate) other: u64,
    /// The same in bytes of keys.
    pub(crate) other_bytes: u64,
    /// The most of those records that one key may have.
    pub(crate) missing: u64,
    /// Keys there were when the table was full for the first time.
    pub(crate) full_at: u64,
}

impl Overflow {
    /// Whether nothing was lost.
    pub(crate) fn is_none(&self) -> bool {
        *self == Overflow::default()
    }

    /// That of two tables that become one. What is made of counts by a function of the user's may be any number.
    pub(crate) fn plus(self, other: Overflow) -> Overflow {
        Overflow {
            error: self.error.saturating_add(other.error),
            thinned: self.thinned.saturating_add(other.thinned),
            thinned_bytes: self.thinned_bytes.wrapping_add(other.thinned_bytes),
            other: self.other.saturating_add(other.other),
            other_bytes: self.other_bytes.wrapping_add(other.other_bytes),
            missing: self.missing.saturating_add(other.missing),
            full_at: self.full_at.max(other.full_at),
        }
    }
}

impl<V: Copy> KeyTable<V> {
    /// An empty table of values of any kind within `bound`.
    pub(crate) fn bounded(seed: keys::Seed, bound: MemoryCap) -> Self {
        let mut table = KeyTable::new(seed);
        table.limit = Limit::new(bound, Rules::values());
        table
    }

    /// The least a table may be given, in bytes: what it begins with, and half as much again as making room takes.
    #[doc(hidden)]
    pub fn bytes_min() -> usize {
        let short = SegmentedTable::<Short<V>>::bytes_of(places_for(TABLE_SHORT_KEYS_INITIAL));
        let medium = SegmentedTable::<Medium<V>>::bytes_of(places_for(TABLE_MEDIUM_KEYS_INITIAL));
        let long = SegmentedTable::<Long<V>>::bytes_of(places_for(TABLE_LONG_KEYS_INITIAL));
        let empty = short + medium + long + 2 * KEY_ARENA_BYTES_INITIAL;
        empty + Self::reserve() * 3 / 2
    }

    /// What is always free, for making room: a segment of any class, or the filter of refused keys.
    fn reserve() -> usize {
        let short = SegmentedTable::<Short<V>>::segment_bytes();
        let medium = SegmentedTable::<Medium<V>>::segment_bytes();
        let long = SegmentedTable::<Long<V>>::segment_bytes();
        // A closed table never grows; what was reserved for that has room for the filter then.
        short.max(medium).max(long).max(REFUSED_BYTES)
    }

    /// Bytes held of the allocator.
    pub fn allocated_bytes(&self) -> usize {
        let refused = self.limit.refused.as_ref().map_or(0, |_| REFUSED_BYTES);
        self.key_bytes() + refused
    }

    /// Bytes held for keys.
    fn key_bytes(&self) -> usize {
        self.short.bytes() + self.medium.bytes() + self.long.bytes() + self.arena.held()
    }

    /// What the table could not keep.
    pub(crate) fn overflow(&self) -> Overflow {
        let refused = self.limit.refused.as_ref().map_or(0, Refused::most);
        let overflow = self.limit.overflow;
        Overflow {
            missing: overflow.missing.saturating_add(refused),
            ..overflow
        }
    }

    /// Takes over what is known of tables that this one was made of.
    pub(crate) fn set_overflow(&mut self, overflow: Overflow) {
        self.limit.overflow = overflow;
        if let Some(refused) = &mut self.limit.refused {
            refused.clear(self.seed);
        }
    }

    /// Takes over what was taken of the pool for the keys of `other`, which are in this table now.
    pub(crate) fn take_charge_of<W: Copy>(&mut self, other: &mut KeyTable<W>) {
        self.limit.lease.absorb(&mut other.limit.lease);
    }

    /// Whether a key may be taken in that needs so many bytes later.
    #[inline]
    fn has_room(&self, later: usize) -> bool {
        !self.limit.is_closed && later <= self.limit.room
    }

    /// Takes more memory of the pool, for a key of `key_len` bytes that needs so many bytes `later`. Returns whether
    /// there was some.
    #[cold]
    fn extend(&mut self, key_len: usize, later: usize) -> bool {
        let limit = &mut self.limit;
        if limit.is_closed || limit.is_lifted || !limit.shares() {
            return false;
        }
        if limit.room < later {
            // For many keys at once, unless they are long or the pool is nearly used up: then for this one.
            let more = later
                .saturating_mul(KEYS_AT_ONCE)
                .min(later.max(AT_ONCE_BYTES));
            let taken = [more, later]
                .into_iter()
                .find(|&bytes| limit.lease.charge(bytes));
            limit.room += taken.unwrap_or(0);
            return taken.is_some();
        }
        // A segment at a time, so that little is taken that is not used.
        limit.lease.extend(Self::reserve() + 4 * key_len)
    }

    /// Keeps the memory of an emptied table if that is within its own, or if the pool has plenty. Returns whether the
    /// table may keep it.
    pub(super) fn settle_lease(&mut self) -> bool {
        let held = self.allocated_bytes();
        let limit = &mut self.limit;
        if !limit.shares() {
            return held <= limit.bound.bytes;
        }
        let beyond = held.saturating_sub(limit.own());
        limit.lease.settle(beyond)
    }

    /// An empty table with the seed, the limit and the rules of this one.
    pub(crate) fn empty_like(&self) -> KeyTable<V> {
        let mut table = KeyTable::bounded(self.seed, self.limit.bound.clone());
        table.limit.rules = self.limit.rules;
        table
    }

    /// As [`empty_like`](Self::empty_like), with a limit of so many bytes, or the least a table may have if that is more.
    pub(crate) fn empty_within(&self, bytes: usize) -> KeyTable<V> {
        let bound = MemoryCap {
            bytes: bytes.max(Self::bytes_min()),
            pool: None,
            ..self.limit.bound
        };
        let mut table = KeyTable::bounded(self.seed, bound);
        table.limit.rules = self.limit.rules;
        table
    }

    /// Treats values as `other` does, whatever memory each may take.
    pub(crate) fn follow_rules(&mut self, other: &KeyTable<V>) {
        self.limit.rules = other.limit.rules;
        self.limit.bound.on_limit = other.limit.bound.on_limit;
    }

    /// Swaps the contents of two tables, each of which keeps its rules.
    pub(crate) fn swap_content(&mut self, other: &mut KeyTable<V>) {
        std::mem::swap(self, other);
        std::mem::swap(&mut self.limit.rules, &mut other.limit.rules);
    }

    /// What one class may hold when the others and the arena hold so much.
    fn allowed(limit: &Limit<V>, others: usize, arena: usize) -> usize {
        less(limit.bytes(), Self::reserve() + others + limit.twice(arena))
    }

    #[cold]
    #[inline(never)]
    pub(super) fn insert_short_cold(&mut self, hash: u64, packed: u64, value: V) {
        let later = self.limit.rules.later.short;
        while !self.has_room(later) || self.try_insert_short(hash, packed, value).is_err() {
            if !self.extend(8, later) {
                return self.insert_full(Packed::Short(packed), value);
            }
        }
        self.limit.room -= later;
    }

    #[cold]
    #[inline(never)]
    pub(super) fn insert_medium_cold(&mut self, hash: u64, packed: u128, value: V) {
        let later = self.limit.rules.later.medium;
        while !self.has_room(later) || self.try_insert_medium(hash, packed, value).is_err() {
            if !self.extend(16, later) {
                return self.insert_full(Packed::Medium(packed), value);
            }
        }
        self.limit.room -= later;
    }

    #[cold]
    #[inline(never)]
    pub(super) fn insert_long_cold(&mut self, hash: u64, key: &[u8], value: V) {
        let later = self.limit.rules.later.of_long(key.len());
        while !self.has_room(later) || self.try_insert_long(hash, key, value).is_err() {
            if !self.extend(key.len(), later) {
                return self.insert_full(Packed::Long(key), value);
            }
        }
        self.limit.room -= later;
    }

    /// Inserts a short key that is not there. Gives whether there was room.
    #[inline]
    pub(super) fn try_insert_short(
        &mut self,
        hash: u64,
        packed: u64,
        value: V,
    ) -> Result<(), TableFull> {
        let (seed, key) = (self.seed, packed.to_le_bytes());
        let (medium, long, arena, limit) = (&self.medium, &self.long, &self.arena, &self.limit);
        let allowed = || Self::allowed(limit, medium.bytes() + long.bytes(), arena.held());
        let hasher = |entry: &Short<V>| seed.hash_short(u64::from_le_bytes(entry.key));
        let entry = Short { key, value };
        let flood = self.short.insert(hash, entry, hasher, allowed)?;
        self.relieve(flood);
        Ok(())
    }

    /// The same for a key of 9 to 16 bytes.
    #[inline]
    pub(super) fn try_insert_medium(
        &mut self,
        hash: u64,
        packed: u128,
        value: V,
    ) -> Result<(), TableFull> {
        let (seed, key) = (self.seed, packed.to_le_bytes());
        let (short, long, arena, limit) = (&self.short, &self.long, &self.arena, &self.limit);
        let allowed = || Self::allowed(limit, short.bytes() + long.bytes(), arena.held());
        let hasher = |entry: &Medium<V>| seed.hash_medium(u128::from_le_bytes(entry.key));
        let entry = Medium { key, value };
        let flood = self.medium.insert(hash, entry, hasher, allowed)?;
        self.relieve(flood);
        Ok(())
    }

    /// The same for a longer key.
    #[inline]
    pub(super) fn try_insert_long(
        &mut self,
        hash: u64,
        key: &[u8],
        value: V,
    ) -> Result<(), TableFull> {
        let (short, medium, limit) = (&self.short, &self.medium, &self.limit);
        let held = self.arena.held();
        let allowed = || Self::allowed(limit, short.bytes() + medium.bytes(), held);
        let hasher = |entry: &Long<V>| entry.hash;
        let flood = self.long.ensure(hash, &hasher, &allowed)?;
        let copied = if self.arena.has_room(key.len()) || limit.bytes() == UNLIMITED {
            self.arena.copy(key)
        } else {
            let free = less(allowed(), self.long.bytes());
            self.arena.copy_within(key, free / 2).ok_or(TableFull)?
        };
        let entry = Long {
            hash,
            key: copied,
            value,
        };
        let put = self.long.put(hash, entry, hasher, allowed);
        self.relieve(put.or(flood));
        Ok(())
    }

    fn try_insert(&mut self, packed: Packed<'_>, value: V) -> Result<(), TableFull> {
        let hash = self.seed.hash(packed);
        match packed {
            Packed::Short(packed) => self.try_insert_short(hash, packed, value),
            Packed::Medium(packed) => self.try_insert_medium(hash, packed, value),
            Packed::Long(key) => self.try_insert_long(hash, key, value),
        }
    }

    /// There is no room for a key that is not there.
    #[cold]
    #[inline(never)]
    pub(super) fn insert_full(&mut self, packed: Packed<'_>, value: V) {
        if self.limit.overflow.full_at == 0 {
            self.limit.overflow.full_at = self.len() as u64;
        }
        match self.limit.rules.take_in {
            Some(take_in) if self.limit.is_thinned() => take_in(self, packed, value),
            _ => {
                self.limit.is_closed = true;
                let records = (self.limit.rules.records)(value).max(self.limit.stands_for);
                self.limit.overflow.other += records;
                let bytes = records.wrapping_mul(len_of(packed));
                self.limit.overflow.other_bytes =
                    self.limit.overflow.other_bytes.wrapping_add(bytes);
                let seed = self.seed;
                let refused = &mut self.limit.refused;
                let refused = refused.get_or_insert_with(|| Refused::new(seed));
                refused.add(packed, records);
            }
        }
    }

    /// Whether a table that is nearly full may take a new seed: while it does both sets of segments are there in
    /// part. Where room can be made it is.
    pub(super) fn may_rebuild(&self) -> bool {
        self.key_bytes() <= self.limit.held_max() / 4
    }
}

impl KeyTable<u64> {
    /// An empty table of numbers of records, of which nothing may be taken off: something else is made of them.
    pub(crate) fn tallying(seed: keys::Seed, bound: MemoryCap) -> Self {
        let mut table = KeyTable::bounded(seed, bound);
        table.limit.rules.records = |count| count;
        table.limit.rules.later = later_of_tallies();
        table.limit.rules.later_parts = 8;
        table.limit.room = table.limit.room_at_first();
        table.limit.rules.are_counts = true;
        table
    }

    /// An empty table of counts that are added up, within so many bytes.
    #[doc(hidden)]
    pub fn counting_within(seed: keys::Seed, bytes: usize) -> Self {
        let bound = MemoryCap {
            bytes,
            ..MemoryCap::NONE
        };
        KeyTable::counting(seed, bound)
    }

    /// An empty table of counts that are added up, within `bound`.
    pub(crate) fn counting(seed: keys::Seed, bound: MemoryCap) -> Self {
        let mut table = KeyTable::bounded(seed, bound);
        table.limit.rules = Rules {
            take_in: Some(KeyTable::take_in),
            records: |count| count,
            shown: |count, error| count.saturating_add(error),
            less: |count, off| count - off,
            later: later::<u64>(),
            later_parts: 4,
            are_counts: true,
        };
        table
    }

    /// Thins the table until the key has a place.
    fn take_in(&mut self, packed: Packed<'_>, value: u64) {
        loop {
            if self.is_empty() {
                if self.try_insert(packed, value).is_ok() {
                    return;
                }
                // A key that is longer than all there is room for. Others pay for it in their error.
                let overflow = &mut self.limit.overflow;
                overflow.error += value;
                overflow.thinned += value;
                let bytes = value.wrapping_mul(len_of(packed));
                overflow.thinned_bytes = overflow.thinned_bytes.wrapping_add(bytes);
                return;
            }
            self.thin();
            if self.has_headroom(packed) && self.try_insert(packed, value).is_ok() {
                return;
            }
        }
    }

    /// Whether it will be a while until keys of this class need room again.
    fn has_headroom(&self, packed: Packed<'_>) -> bool {
        let class = match packed {
            Packed::Short(_) => self.short.bytes(),
            Packed::Medium(_) => self.medium.bytes(),
            Packed::Long(_) => self.long.bytes() + self.arena.held(),
        };
        let (all, limit) = (self.allocated_bytes(), self.limit.bound.bytes);
        class * CLASS_SHARE >= all || less(limit, all) >= limit / FREE_SHARE
    }

    /// Takes about the median of the counts off every count, and drops the keys that have none left.
    #[cold]
    pub(crate) fn thin(&mut self) {
        let seed = self.seed;
        let off = self.median();
        let (mut thinned, mut thinned_bytes) = (0u64, 0u64);
        let mut keep = |count: &mut u64, len: u64| {
            let taken = off.min(*count);
            thinned += taken;
            thinned_bytes = thinned_bytes.wrapping_add(taken.wrapping_mul(len));
            *count -= taken;
            *count > 0
        };
        self.short.thin(
            |entry| seed.hash_short(u64::from_le_bytes(entry.key)),
            |entry| keep(&mut entry.value, keys::unpack(&entry.key).len() as u64),
        );
        self.medium.thin(
            |entry| seed.hash_medium(u128::from_le_bytes(entry.key)),
            |entry| keep(&mut entry.value, keys::unpack(&entry.key).len() as u64),
        );
        let arena = &mut self.arena;
        self.long.thin(
            |entry| entry.hash,
            |entry| {
                let len = long_bytes(entry).len();
                let is_kept = keep(&mut entry.value, len as u64);
                if !is_kept {
                    arena.leave(len);
                }
                is_kept
            },
        );
        if self.arena.dead() > 0 {
            // There is room for the live bytes now, since all that is held counts twice; and some more, if it
            // counts twice afterwards.
            let (live, held) = (self.arena.live(), self.arena.held());
            let segments = self.short.bytes() + self.medium.bytes() + self.long.bytes();
            let both = less(self.limit.bound.bytes, segments + Self::reserve());
            let more = less(both, held + live).min(less(both / 2, live));
            let more = more.min(live + KEY_ARENA_BYTES_INITIAL);
            self.arena.compact_tightly(&mut self.long, more);
        }
        let overflow = &mut self.limit.overflow;
        overflow.error += off;
        overflow.thinned += thinned;
        overflow.thinned_bytes = overflow.thinned_bytes.wrapping_add(thinned_bytes);
    }

    /// About the median of the counts.
    fn median(&self) -> u64 {
        let every = self.len().div_ceil(SAMPLE).max(1);
        // From each segment its share; in a segment the order has nothing to do with the counts.
        let mut sample = Vec::with_capacity(2 * SAMPLE);
        sample.extend(self.short.sample(every).map(|entry| entry.value));
        sample.extend(self.medium.sample(every).map(|entry| entry.value));
        sample.extend(self.long.sample(every).map(|entry| entry.value));
        let middle = sample.len() / 2;
        let (_, &mut median, _) = sample.select_nth_unstable(middle);
        median.max(1)
    }
}

/// Keys for which the pool is asked at a time.
const KEYS_AT_ONCE: usize = 256;

/// Bytes that are charged at once for keys to come, at most, unless one key takes more.
const AT_ONCE_BYTES: usize = 1 << 20;

fn less(bytes: usize, by: usize) -> usize {
    if bytes == UNLIMITED {
        return UNLIMITED;
    }
    bytes.saturating_sub(by)
}

fn places_for(keys: usize) -> usize {
    (keys * 8 / 7).next_power_of_two()
}

/// Bytes of a packed key.
fn len_of(packed: Packed<'_>) -> u64 {
    let len = match packed {
        Packed::Short(packed) => keys::unpack(&packed.to_le_bytes()).len(),
        Packed::Medium(packed) => keys::unpack(&packed.to_le_bytes()).len(),
        Packed::Long(key) => key.len(),
    };
    len as u64
}

#[cfg(test)]
mod tests;
