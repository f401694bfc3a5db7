//! How much memory a table may take, and what it does when that is used up.
//!
//! Promise: a table never holds more of the allocator than its cap, not even while it grows or
//! makes room. What a full table could not keep is in its [`Overflow`], so that for every key
//!
//! ```text
//! kept <= true <= kept + overflow.error + overflow.other        kept is 0 for a missing key
//! sum of all kept + overflow.thinned + overflow.other == records added
//! ```
//!
//! Must not know: `memory`, `notice`.
//!
//! Counts that are added up are thinned: a number `t` is taken off every count, and keys with
//! nothing left are removed; `error` grows by `t`. This is the summary of Misra and Gries in its
//! mergeable form (Agarwal et al. 2012), with `t` about the median of the counts. So at least half
//! of the keys make room at a time, and a key pays for a constant number of steps. The error is at
//! most twice the records over the keys there is room for.
//!
//! Nothing can be taken off other values: a full table takes no new keys until it is cleared.
//! `refused` bounds how many records it refused of each key: a key that one shard knew and another
//! refused has a true bound, and most keys are known to be exact. Before it is full, such a table
//! takes memory that all of them share (`pool`).
//!
//! All of this happens where a segment or the arena has to grow. A look-up that succeeds never
//! comes here.

mod limit;

use std::sync::Arc;

pub(super) use self::limit::{Rules, TableLimit};
use self::limit::{later, later_of_tallies};
use super::KeyTable;
use super::class::{
    LongEntry, LookupKey, MediumEntry, ShortEntry, StoredKey, TableEntry, by_class,
};
use super::cost::Cost;
use super::keys::{self, PackedKey, Seed, unpack};
use super::pool::Pool;
use super::refused::{REFUSED_BYTES, Refused};
use super::segments::{HashFlood, SegmentedTable, TableFull, UNLIMITED};
use crate::config::OnLimit;
use crate::limits::{
    KEY_ARENA_BYTES_INITIAL, TABLE_LONG_KEYS_INITIAL, TABLE_MEDIUM_KEYS_INITIAL,
    TABLE_SHORT_KEYS_INITIAL,
};

/// Counts that are sampled to find about the median.
const SAMPLE: usize = 1024;

/// A class of keys with at least this share of a table's memory has room enough when half of its
/// keys are gone. Another class needs memory that the others give back.
const CLASS_SHARE: usize = 4;

/// This part of the cap is free after room was made for a small class.
const FREE_SHARE: usize = 8;

/// The memory that one table may take.
#[derive(Clone, Debug)]
pub(crate) struct MemoryCap {
    /// Bytes; `usize::MAX` is no limit.
    pub(crate) bytes: usize,
    pub(crate) on_limit: OnLimit,
    /// Whether keys may wait for a look-up beside the table (see `partitioned`).
    pub(crate) may_partition: bool,
    /// Where a table that is not thinned gets memory beyond its own share of `bytes`: see
    /// [`own_share`].
    pub(crate) pool: Option<Arc<Pool>>,
}

/// What a table has for itself of `bytes` when the rest is shared; `bytes_min` is the least it may
/// have.
pub(crate) fn own_share(bytes: usize, bytes_min: usize) -> usize {
    (bytes / OWN_PART).max(bytes_min)
}

/// Most memory is shared: one shard may have most of the keys, and in one batch of many. Some is
/// not, so that the batch after a large one has room while that one is published.
const OWN_PART: usize = 8;

impl MemoryCap {
    /// No limit.
    pub(crate) const NONE: MemoryCap = MemoryCap::new(UNLIMITED, OnLimit::Approximate);

    /// A cap of `bytes`, without a pool.
    pub(crate) const fn new(bytes: usize, on_limit: OnLimit) -> MemoryCap {
        MemoryCap {
            bytes,
            on_limit,
            may_partition: true,
            pool: None,
        }
    }
}

/// What a table could not keep since it was cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overflow {
    /// Taken off every count.
    pub(crate) error: u64,
    /// The sum of what was taken off, over all keys.
    pub(crate) thinned: u64,
    /// `thinned` in bytes of keys.
    pub(crate) thinned_bytes: u64,
    /// Records of refused keys.
    pub(crate) other: u64,
    /// `other` in bytes of keys.
    pub(crate) other_bytes: u64,
    /// The most of those records that one key may have.
    pub(crate) missing: u64,
    /// Keys in the table when it was full for the first time.
    pub(crate) full_at: u64,
}

impl Overflow {
    /// Returns `true` if nothing was lost.
    pub(crate) fn is_none(&self) -> bool {
        *self == Overflow::default()
    }

    /// The overflow of two tables that become one. It saturates: user-supplied functions may make
    /// any number of counts.
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
    /// An empty table of values of any kind, within `cap`.
    pub(crate) fn bounded(seed: Seed, cap: MemoryCap) -> Self {
        let mut table = KeyTable::new(seed);
        table.limit = TableLimit::new(cap, Rules::values());
        table
    }

    /// An empty table of states within `cap`. A key later has a place in a table of results `W` and
    /// in their ranking.
    pub(crate) fn of_states<W>(seed: Seed, cap: MemoryCap) -> Self {
        let mut table = KeyTable::bounded(seed, cap);
        table.limit.rules.later = Cost::in_table::<V>().plus(later::<W>());
        table
    }

    /// The least bytes a table may be given: what it begins with, and half as much again as making
    /// room takes.
    #[doc(hidden)]
    pub fn bytes_min() -> usize {
        let short = SegmentedTable::<ShortEntry<V>>::bytes_of(places_for(TABLE_SHORT_KEYS_INITIAL));
        let medium =
            SegmentedTable::<MediumEntry<V>>::bytes_of(places_for(TABLE_MEDIUM_KEYS_INITIAL));
        let long = SegmentedTable::<LongEntry<V>>::bytes_of(places_for(TABLE_LONG_KEYS_INITIAL));
        let empty = short + medium + long + 2 * KEY_ARENA_BYTES_INITIAL;
        empty + Self::reserve() * 3 / 2
    }

    /// Bytes that are always free, for making room: a segment of any class, or the filter of
    /// refused keys.
    fn reserve() -> usize {
        let short = SegmentedTable::<ShortEntry<V>>::segment_bytes();
        let medium = SegmentedTable::<MediumEntry<V>>::segment_bytes();
        let long = SegmentedTable::<LongEntry<V>>::segment_bytes();
        // A closed table never grows; what was reserved for that has room for the filter then.
        short.max(medium).max(long).max(REFUSED_BYTES)
    }

    /// Bytes held of the allocator.
    pub fn allocated_bytes(&self) -> usize {
        let refused = self.limit.refused.as_ref().map_or(0, |_| REFUSED_BYTES);
        self.key_bytes() + refused
    }

    /// Bytes held for keys and their values.
    fn key_bytes(&self) -> usize {
        self.segment_bytes() + self.arena.held() + self.limit.beside
    }

    /// The cap.
    pub(crate) fn cap(&self) -> MemoryCap {
        self.limit.cap.clone()
    }

    /// Bytes that are held for values beside the table.
    pub(crate) fn beside(&self) -> usize {
        self.limit.beside
    }

    /// Sets the bytes that are held for values beside the table.
    pub(crate) fn set_beside(&mut self, bytes: usize) {
        self.limit.beside = bytes;
    }

    /// Asks for `bytes` more beside the table, and `later` ones where it is merged. Returns `true`
    /// if it may have them.
    #[cold]
    pub(crate) fn may_hold_beside(&mut self, bytes: usize, later: usize) -> bool {
        loop {
            let all = less(self.limit.bytes(), Self::reserve() + self.key_bytes());
            if all >= bytes && self.limit.room >= later {
                self.limit.room -= later;
                return true;
            }
            if !self.extend(bytes as u64 / 4, later) {
                return false;
            }
        }
    }

    /// A record of `key`, which has a value, had no room beside the table. New keys are refused
    /// from now on.
    #[cold]
    pub(crate) fn refuse(&mut self, key: &[u8], value: V) {
        self.insert_full(keys::pack(&[], key), value);
        // The key is in the table, unlike others that were refused.
        if let Some(refused) = &mut self.limit.refused {
            refused.is_mixed = true;
        }
    }

    /// Bytes held by all segments.
    fn segment_bytes(&self) -> usize {
        self.short.bytes() + self.medium.bytes() + self.long.bytes()
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

    /// Takes over what the tables could not keep that this one was made of.
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

    /// Takes more memory of the pool, for a key of `key_len` bytes that needs `later` bytes later.
    /// Returns `true` if there was some.
    #[cold]
    fn extend(&mut self, key_len: u64, later: usize) -> bool {
        let limit = &mut self.limit;
        if limit.is_closed || limit.is_lifted || !limit.shares() {
            return false;
        }
        if limit.room < later {
            // For many keys at once, unless they are long or the pool is nearly used up: then for
            // this one.
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
        limit.lease.extend(Self::reserve() + 4 * key_len as usize)
    }

    /// Keeps the memory of an emptied table if that is within its own, or if the pool has plenty.
    /// Returns `true` if the table may keep it.
    pub(super) fn settle_lease(&mut self) -> bool {
        let held = self.allocated_bytes();
        let limit = &mut self.limit;
        if !limit.shares() {
            return held <= limit.cap.bytes;
        }
        let beyond = held.saturating_sub(limit.own());
        limit.lease.settle(beyond)
    }

    /// An empty table with the seed, the cap and the rules of this one.
    pub(crate) fn empty_like(&self) -> KeyTable<V> {
        let mut table = KeyTable::bounded(self.seed, self.limit.cap.clone());
        table.limit.rules = self.limit.rules;
        table
    }

    /// As [`empty_like`](Self::empty_like), with a cap of `bytes`, or of the least a table may have
    /// if that is more.
    pub(crate) fn empty_within(&self, bytes: usize) -> KeyTable<V> {
        let cap = MemoryCap {
            bytes: bytes.max(Self::bytes_min()),
            pool: None,
            ..self.limit.cap
        };
        let mut table = KeyTable::bounded(self.seed, cap);
        table.limit.rules = self.limit.rules;
        table
    }

    /// Treats values as `other` does, whatever memory each may take.
    pub(crate) fn follow_rules(&mut self, other: &KeyTable<V>) {
        self.limit.rules = other.limit.rules;
        self.limit.cap.on_limit = other.limit.cap.on_limit;
    }

    /// Swaps the contents of two tables, each of which keeps its rules.
    pub(crate) fn swap_content(&mut self, other: &mut KeyTable<V>) {
        std::mem::swap(self, other);
        std::mem::swap(&mut self.limit.rules, &mut other.limit.rules);
    }

    /// Bytes that the segments of one class may hold, beside the others and the arena.
    fn allowed<K: LookupKey>(&self) -> usize {
        let others = self.segment_bytes() - K::segments(self).bytes() + self.limit.beside;
        let arena = self.limit.twice(self.arena.held());
        less(self.limit.bytes(), Self::reserve() + others + arena)
    }

    /// Returns `true` if a long key of `len` bytes may be copied into the arena without looking at
    /// the cap.
    #[inline]
    pub(super) fn has_arena_room(&mut self, len: usize) -> bool {
        self.arena.has_room(len) || self.limit.bytes() == UNLIMITED
    }

    /// Bytes that the arena may take for one more key.
    pub(super) fn arena_bytes_allowed(&self) -> usize {
        less(self.allowed::<&[u8]>(), self.long.bytes()) / 2
    }

    /// Inserts a missing key, or adds it to the overflow if there is no room.
    #[cold]
    #[inline(never)]
    pub(super) fn insert_cold<K: LookupKey>(&mut self, hash: u64, key: K, value: V) {
        let later = self.limit.rules.later.of_key(key.packed());
        while self.limit.is_closed
            || later > self.limit.room
            || self.try_insert(hash, key, value).is_err()
        {
            if !self.extend(len_of(key.packed()), later) {
                return self.insert_full(key.packed(), value);
            }
        }
        self.limit.room -= later;
    }

    /// Inserts a missing key, if there is room.
    #[inline]
    fn try_insert<K: LookupKey>(&mut self, hash: u64, key: K, value: V) -> Result<(), TableFull> {
        let seed = self.seed;
        let hasher = |entry: &TableEntry<K::Stored, V>| entry.key.hash(&seed);
        let mut flood = HashFlood::None;
        if K::segments(self).is_full(hash) {
            let allowed = self.allowed::<K>();
            flood = K::parts(self).0.make_room(hash, &hasher, allowed)?;
        }
        let key = key.store(hash, self)?;
        let is_crowded = K::parts(self)
            .0
            .put(hash, TableEntry { key, value }, hasher);
        if is_crowded {
            let allowed = self.allowed::<K>();
            if !K::parts(self).0.thin_out(hash, hasher, allowed) {
                flood = HashFlood::Flood;
            }
        }
        self.reseed_after(flood);
        Ok(())
    }

    /// There is no room for a missing key.
    #[cold]
    #[inline(never)]
    pub(super) fn insert_full(&mut self, key: PackedKey<'_>, value: V) {
        if self.limit.overflow.full_at == 0 {
            self.limit.overflow.full_at = self.len() as u64;
        }
        match self.limit.rules.take_in {
            Some(take_in) if self.limit.is_thinned() => take_in(self, key, value),
            _ => {
                self.limit.is_closed = true;
                let records = (self.limit.rules.records)(value).max(self.limit.stands_for);
                let overflow = &mut self.limit.overflow;
                overflow.other += records;
                let bytes = records.wrapping_mul(len_of(key));
                overflow.other_bytes = overflow.other_bytes.wrapping_add(bytes);
                let seed = self.seed;
                let refused = &mut self.limit.refused;
                let refused = refused.get_or_insert_with(|| Refused::new(seed));
                refused.add(key, records);
            }
        }
    }

    /// Returns `true` if the table may take a new seed. While it does, both sets of segments are
    /// there in part; a table that is nearly full has no room for that. Thinning helps where it is
    /// possible.
    pub(super) fn may_rebuild(&self) -> bool {
        self.key_bytes() <= self.limit.held_max() / 4
    }
}

impl KeyTable<u64> {
    /// An empty table of numbers of records from which something else is made, so that nothing may
    /// be taken off.
    pub(crate) fn tallying(seed: Seed, cap: MemoryCap) -> Self {
        let mut table = KeyTable::bounded(seed, cap);
        table.limit.rules.records = |count| count;
        table.limit.rules.later = later_of_tallies();
        table.limit.rules.later_parts = 8;
        table.limit.room = table.limit.room_at_first();
        table.limit.rules.are_counts = true;
        table
    }

    /// An empty table of counts that are added up, within `bytes`.
    #[doc(hidden)]
    pub fn counting_within(seed: Seed, bytes: usize) -> Self {
        KeyTable::counting(seed, MemoryCap::new(bytes, OnLimit::Approximate))
    }

    /// An empty table of counts that are added up, within `cap`.
    pub(crate) fn counting(seed: Seed, cap: MemoryCap) -> Self {
        let mut table = KeyTable::bounded(seed, cap);
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
    fn take_in(&mut self, packed: PackedKey<'_>, value: u64) {
        by_class!(packed, key => self.take_in_key(key, value));
    }

    fn take_in_key<K: LookupKey>(&mut self, key: K, value: u64) {
        while !self.is_empty() {
            self.thin();
            if self.has_headroom(key)
                && self
                    .try_insert(self.seed.hash(key.packed()), key, value)
                    .is_ok()
            {
                return;
            }
        }
        if self
            .try_insert(self.seed.hash(key.packed()), key, value)
            .is_err()
        {
            // A key that is longer than all the room. Others pay for it in their error.
            let overflow = &mut self.limit.overflow;
            overflow.error += value;
            overflow.thinned += value;
            let bytes = value.wrapping_mul(len_of(key.packed()));
            overflow.thinned_bytes = overflow.thinned_bytes.wrapping_add(bytes);
        }
    }

    /// Returns `true` if it will be a while until keys of this class need room again.
    fn has_headroom<K: LookupKey>(&self, key: K) -> bool {
        let arena = match key.packed() {
            PackedKey::Long(_) => self.arena.held(),
            _ => 0,
        };
        let class = K::segments(self).bytes() + arena;
        let (all, limit) = (self.allocated_bytes(), self.limit.cap.bytes);
        class * CLASS_SHARE >= all || less(limit, all) >= limit / FREE_SHARE
    }

    /// Takes about the median of the counts off every count, and removes the keys with nothing
    /// left.
    #[cold]
    pub(crate) fn thin(&mut self) {
        let off = self.median();
        let (mut thinned, mut thinned_bytes) = (0u64, 0u64);
        let mut keep = |count: &mut u64, len: u64| {
            let taken = off.min(*count);
            thinned += taken;
            thinned_bytes = thinned_bytes.wrapping_add(taken.wrapping_mul(len));
            *count -= taken;
            *count > 0
        };
        self.thin_class::<u64>(&mut keep);
        self.thin_class::<u128>(&mut keep);
        self.thin_class::<&[u8]>(&mut keep);
        if self.arena.dead() > 0 {
            // There is room for the live bytes now, since all that is held counts twice; and some
            // more, if it counts twice afterwards.
            let (live, held) = (self.arena.live(), self.arena.held());
            let both = less(self.limit.cap.bytes, self.segment_bytes() + Self::reserve());
            let more = less(both, held + live).min(less(both / 2, live));
            let more = more.min(live + KEY_ARENA_BYTES_INITIAL);
            self.arena.compact_tightly(&mut self.long, more);
        }
        let overflow = &mut self.limit.overflow;
        overflow.error += off;
        overflow.thinned += thinned;
        overflow.thinned_bytes = overflow.thinned_bytes.wrapping_add(thinned_bytes);
    }

    fn thin_class<K: LookupKey>(&mut self, keep: &mut impl FnMut(&mut u64, u64) -> bool) {
        let seed = self.seed;
        let (segments, arena) = K::parts(self);
        segments.thin(
            |entry| entry.key.hash(&seed),
            |entry| {
                let is_kept = keep(&mut entry.value, len_of(entry.key.lookup().packed()));
                if !is_kept {
                    arena.forget(entry.key.lookup().packed());
                }
                is_kept
            },
        );
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

/// The most bytes that are charged at once for keys to come, unless one key takes more.
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
#[inline]
pub(super) fn len_of(packed: PackedKey<'_>) -> u64 {
    let len = match packed {
        PackedKey::Short(packed) => unpack(&packed.to_le_bytes()).len(),
        PackedKey::Medium(packed) => unpack(&packed.to_le_bytes()).len(),
        PackedKey::Long(key) => key.len(),
    };
    len as u64
}

#[cfg(test)]
mod tests;
