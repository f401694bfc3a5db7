//! One shard's keyed state: a value for each key of this epoch.
//!
//! Promise: after any sequence of `add`s a table holds, for each distinct key, the fold of its
//! values. A known key costs no allocation. A new key costs a place in a hashbrown table and, if it
//! is longer than 16 bytes, a pointer bump in the arena. `clear` returns no memory to the
//! allocator; removing keys does. Must not know: `epoch`, `shard`, `source`, threads.
//!
//! | file | contents |
//! |---|---|
//! | `keys` | how a key is packed and hashed |
//! | `class` | the classes of keys: integers of 8 and of 16 bytes, slices |
//! | `arena` | where the bytes of long keys are |
//! | `segments` | the hashbrown tables, and how they grow and shrink |
//! | `entry` | tables whose keys are also removed: windows and state |
//! | `bulk` | many keys at once, and merging |
//! | `hot` | counts the most frequent keys in front of the table |
//! | `partitioned` | keys that wait until many others of the same segments are there |
//! | `frozen` | packs a table that is only read again |
//! | `bound` | what a table does at its memory cap |
//! | `cost` | what keys take of the memory |
//! | `pool` | memory that tables share |
//! | `saved` | saves a table and loads it |
//! | `refused` | what a full table knows of the keys it refused |
//!
//! Each key class has its own segments, because a comparison of two integers is three times faster
//! than one of two slices. They are probed with `find_mut` and, only on a miss, `insert_unique`:
//! `entry()` would reserve, and so perhaps rehash, on every hit.

mod arena;
pub(crate) mod bound;
mod bulk;
mod class;
pub(crate) mod cost;
mod entry;
pub(crate) mod frozen;
pub(crate) mod hot;
pub(crate) mod keys;
mod partitioned;
pub(crate) mod pool;
mod refused;
mod saved;
mod segments;

use self::arena::KeyArena;
use self::bound::{MemoryCap, Rules, TableLimit};
use self::class::{LongEntry, LookupKey, MediumEntry, ShortEntry, StoredKey, TableEntry, by_class};
use self::keys::{PackedKey, Seed};
use self::segments::{HashFlood, SegmentedTable};
use crate::limits;

/// A table of a value for each key. `V` is `u64` for counts.
#[derive(Debug)]
pub struct KeyTable<V> {
    seed: Seed,
    short: SegmentedTable<ShortEntry<V>>,
    medium: SegmentedTable<MediumEntry<V>>,
    long: SegmentedTable<LongEntry<V>>,
    /// Bytes of the keys in `long`.
    arena: KeyArena,
    reseeds: u64,
    limit: TableLimit<V>,
}

/// Segments that fit, or nearly fit, a second-level cache together: 2 MiB of the shortest keys.
const SEGMENTS_NEAR: usize = 16;

/// Look-ups under way at once: the line of one is requested while the 16 before it are still on
/// their way. Cores have 16 to 24 such lines in flight; 8, 32 and 64 measured the same as
/// 16.
const LOOKAHEAD: usize = 16;

/// Long keys that are looked up together.
const GROUP: usize = 32;

/// The sum of two counts. 2^64 words are out of reach: at one a nanosecond that takes 584 years.
#[inline]
pub(crate) fn add(a: u64, b: u64) -> u64 {
    a.wrapping_add(b)
}

/// Calls `begin` for every item and, `LOOKAHEAD` items later, `finish` with what `begin` returned.
/// In between, memory has time to arrive.
#[inline(always)]
fn ahead<T: Copy, H: Copy + Default, S>(
    items: &[T],
    state: &mut S,
    begin: impl Fn(&mut S, T) -> H,
    finish: impl Fn(&mut S, T, H),
) {
    let mut begun = [H::default(); LOOKAHEAD];
    for (slot, &item) in begun.iter_mut().zip(items) {
        *slot = begin(state, item);
    }
    for (index, &item) in items.iter().enumerate() {
        let slot = index % LOOKAHEAD;
        let had = begun[slot];
        if let Some(&next) = items.get(index + LOOKAHEAD) {
            begun[slot] = begin(state, next);
        }
        finish(state, item, had);
    }
}

/// The hash of a key, and how often its table had taken a new seed when the hash was made.
type Begun = (u64, u64);

/// Look-ups of keys of one class.
impl<V: Copy> KeyTable<V> {
    #[inline(always)]
    fn find<K: LookupKey>(&self, hash: u64, key: K) -> Option<&TableEntry<K::Stored, V>> {
        K::segments(self).find(hash, |entry| key.is(hash, &entry.key))
    }

    /// Sets the value of `key` to `update` of its value, or of `None` if the key is new. Returns
    /// the new value.
    #[inline(always)]
    fn upsert<K: LookupKey>(
        &mut self,
        hash: u64,
        key: K,
        update: impl FnOnce(Option<V>) -> V,
    ) -> V {
        let (segments, _) = K::parts(self);
        match segments.find_mut(hash, |entry| key.is(hash, &entry.key)) {
            Some(entry) => {
                entry.value = update(Some(entry.value));
                entry.value
            }
            None => {
                let value = update(None);
                self.insert_cold(hash, key, value);
                value
            }
        }
    }

    /// Hashes `key` and requests the memory that its look-up will read.
    #[inline(always)]
    fn begin<K: LookupKey>(&self, key: K) -> Begun {
        let hash = self.seed.hash(key.packed());
        K::segments(self).prefetch(hash);
        (hash, self.reseeds)
    }

    /// The hash of a key whose look-up was begun. A flood may have changed the seed in between.
    #[inline(always)]
    fn hash_begun<K: LookupKey>(&self, key: K, (hash, reseeds): Begun) -> u64 {
        if reseeds == self.reseeds {
            hash
        } else {
            self.seed.hash(key.packed())
        }
    }
}

/// The update of a key that `value` is added to.
#[inline(always)]
fn reduced<V>(value: V, reduce: impl Fn(V, V) -> V) -> impl FnOnce(Option<V>) -> V {
    move |old| match old {
        Some(old) => reduce(old, value),
        None => value,
    }
}

impl KeyTable<u64> {
    /// Adds `count` to the count of a packed key of at most 8 bytes.
    #[inline]
    pub(crate) fn count_short(&mut self, key: u64, count: u64) {
        self.upsert(self.seed.hash_short(key), key, reduced(count, add));
    }

    /// Adds one to the count of each packed key of one class, and calls `seen` with each key's new
    /// count.
    fn count_each<K: LookupKey>(&mut self, keys: &[K], seen: &mut impl FnMut(&mut Self, K, u64)) {
        ahead(
            keys,
            &mut (self, seen),
            |(table, _), key| table.begin(key),
            |(table, seen), key, begun| {
                let hash = table.hash_begun(key, begun);
                let count = table.upsert(hash, key, reduced(1, add));
                seen(table, key, count);
            },
        );
    }

    /// Adds one to the count of each key of 17 bytes and more. A key is its place in `around`:
    /// start in the low, length in the high 32 bits.
    ///
    /// A look-up reads three lines of memory, and the address of the third, the key's bytes, is
    /// known only when the second has arrived. So a group of keys goes through in three steps.
    pub(crate) fn count_each_long(&mut self, around: &[u8], places: &[u64]) {
        for group in places.chunks(GROUP) {
            let mut begun = [(0, 0); GROUP];
            for (begun, &place) in begun.iter_mut().zip(group) {
                *begun = self.begin(key_at(around, place));
            }
            if self.long.segment_count() > SEGMENTS_NEAR {
                for &(hash, _) in &begun[..group.len()] {
                    self.prefetch_long(hash);
                }
            }
            for (&begun, &place) in begun.iter().zip(group) {
                let key = key_at(around, place);
                self.upsert(self.hash_begun(key, begun), key, reduced(1, add));
            }
        }
    }

    /// Returns `true` if the keys of this class have outgrown the second-level cache and may wait
    /// for a look-up.
    fn is_worth_partitioning<K: LookupKey>(&self) -> bool {
        K::segments(self).segment_count() > SEGMENTS_NEAR && self.limit.cap.may_partition
    }
}

fn reseed_class<K: StoredKey, V>(segments: &mut SegmentedTable<TableEntry<K, V>>, seed: &Seed) {
    segments.rebuild(|entry| entry.key.rehash(seed), |entry| entry.key.hash(seed));
}

/// The key at `place` in `around`: start in the low, length in the high 32 bits.
#[inline(always)]
fn key_at(around: &[u8], place: u64) -> &[u8] {
    &around[place as u32 as usize..][..(place >> 32) as usize]
}

impl<V> AsRef<KeyTable<V>> for KeyTable<V> {
    fn as_ref(&self) -> &KeyTable<V> {
        self
    }
}

impl<V: Copy> KeyTable<V> {
    /// An empty table with room for the keys of a small vocabulary. Tables that will be merged
    /// should share a seed.
    pub fn new(seed: Seed) -> Self {
        KeyTable {
            seed,
            short: SegmentedTable::with_capacity(limits::TABLE_SHORT_KEYS_INITIAL),
            medium: SegmentedTable::with_capacity(limits::TABLE_MEDIUM_KEYS_INITIAL),
            long: SegmentedTable::with_capacity(limits::TABLE_LONG_KEYS_INITIAL),
            arena: KeyArena::new(),
            reseeds: 0,
            limit: TableLimit::new(MemoryCap::NONE, Rules::values()),
        }
    }

    /// Inserts `value`, or replaces the current value with `reduce(old, value)`.
    pub fn add(&mut self, key: &[u8], value: V, reduce: impl Fn(V, V) -> V) {
        self.add_within(&[], key, value, reduce);
    }

    /// As [`add`](Self::add), but faster for a key in `around` if 16 bytes follow the key's first
    /// one there.
    #[inline(always)]
    pub(crate) fn add_within(
        &mut self,
        around: &[u8],
        key: &[u8],
        value: V,
        reduce: impl Fn(V, V) -> V,
    ) {
        let packed = keys::pack(around, key);
        let hash = self.seed.hash(packed);
        by_class!(packed, key => _ = self.upsert(hash, key, reduced(value, reduce)));
    }

    /// Sets the value of `key` to `update` of its value, or of `None` if the key is new. One
    /// look-up; `update` is called once. It is faster for a key in `around` if 16 bytes follow the
    /// key's first one there.
    #[inline(always)]
    pub(crate) fn upsert_within(
        &mut self,
        around: &[u8],
        key: &[u8],
        update: impl FnOnce(Option<V>) -> V,
    ) {
        let packed = keys::pack(around, key);
        let hash = self.seed.hash(packed);
        by_class!(packed, key => _ = self.upsert(hash, key, update));
    }

    /// After a flood: takes another seed, and moves every key to its new place. This stops the
    /// shard for as long as it takes to insert all keys once. A table near its cap has no room for
    /// that, and keeps counting slowly.
    #[inline]
    fn reseed_after(&mut self, flood: HashFlood) {
        if flood != HashFlood::None && self.may_rebuild() {
            self.reseed();
        }
    }

    #[cold]
    fn reseed(&mut self) {
        self.reseeds += 1;
        if self.reseeds > limits::RESEEDS_MAX {
            return; // Sixty-four leaked seeds, or a fault of ours: counting goes on, slowly.
        }
        let seed = self.seed.another();
        self.seed = seed;
        reseed_class(&mut self.short, &seed);
        reseed_class(&mut self.medium, &seed);
        reseed_class(&mut self.long, &seed);
    }

    /// Adds every key of `other` to this table. If both have the same seed, the other table's order
    /// is nearly this one's order, and the merge walks memory forwards.
    pub fn merge_from(&mut self, other: &KeyTable<V>, reduce: impl Fn(V, V) -> V) {
        self.merge_mapped(other, |value| value, reduce);
    }

    /// Every key with its shown value, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], V)> {
        self.iter_kept()
            .map(|(key, value)| (key, self.shown(value)))
    }

    /// A value plus the error of all values, if there is one.
    #[inline]
    fn shown(&self, value: V) -> V {
        match self.limit.overflow.error {
            0 => value,
            error => (self.limit.rules.shown)(value, error),
        }
    }

    /// Every key with its stored value, in no particular order.
    pub(crate) fn iter_kept(&self) -> impl Iterator<Item = (&[u8], V)> {
        let short = self.short.iter().map(TableEntry::pair);
        let medium = self.medium.iter().map(TableEntry::pair);
        let long = self.long.iter().map(TableEntry::pair);
        short.chain(medium).chain(long)
    }

    /// The shown value of `key`.
    pub fn get(&self, key: &[u8]) -> Option<V> {
        self.get_kept(key).map(|value| self.shown(value))
    }

    /// The stored value of `key`.
    pub(crate) fn get_kept(&self, key: &[u8]) -> Option<V> {
        let packed = keys::pack(&[], key);
        let hash = self.seed.hash(packed);
        by_class!(packed, key => self.find(hash, key).map(|entry| entry.value))
    }

    /// The table's seed. It changes when somebody found keys that collide under it.
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// Takes another table's seed. Only for an empty table: its keys would not be found any more.
    pub(crate) fn set_seed(&mut self, seed: Seed) {
        assert!(self.is_empty(), "a table with keys keeps its seed");
        self.seed = seed;
    }

    /// Number of distinct keys.
    pub fn len(&self) -> usize {
        self.short.len() + self.medium.len() + self.long.len()
    }

    /// Returns `true` if no key was added since the table was made or cleared.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all keys and keeps the memory, within the table's cap: a merge may have exceeded it.
    pub fn clear(&mut self) {
        self.limit.clear(self.seed);
        if !self.settle_lease() {
            let limit = TableLimit::new(self.limit.cap.clone(), self.limit.rules);
            *self = KeyTable {
                limit,
                reseeds: self.reseeds,
                ..KeyTable::new(self.seed)
            };
        }
        self.short.clear();
        self.medium.clear();
        self.long.clear();
        self.arena.clear();
    }

    /// How often a part of the table has grown since it was made.
    pub fn growths(&self) -> u64 {
        self.short.growths() + self.medium.growths() + self.long.growths()
    }

    /// How often colliding keys made the table take a new seed.
    pub fn reseeds(&self) -> u64 {
        self.reseeds
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn sum(a: u64, b: u64) -> u64 {
        a + b
    }

    fn content(table: &KeyTable<u64>) -> BTreeMap<Vec<u8>, u64> {
        let map: BTreeMap<_, _> = table.iter().map(|(key, n)| (key.to_vec(), n)).collect();
        assert_eq!(map.len(), table.len(), "a key stands in the table twice");
        map
    }

    /// Keys of every class, with many collisions in their first bytes, and NULs.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0u8), Just(b'a'), Just(b' '), any::<u8>()];
        proptest::collection::vec(byte, 0..40)
    }

    proptest! {
        #[test]
        fn table_equals_a_btree_map(
            keys in proptest::collection::vec((key(), 1u64..5), 0..200),
            split in 0usize..200,
        ) {
            let seed = Seed::random();
            let mut model = BTreeMap::new();
            let (mut table, mut other) = (KeyTable::new(seed), KeyTable::new(seed));
            for round in 0..2 {
                model.clear();
                table.clear();
                other.clear();
                for (index, (key, n)) in keys.iter().enumerate() {
                    let target = if index < split { &mut table } else { &mut other };
                    target.add(key, *n + round, sum);
                    *model.entry(key.clone()).or_insert(0) += *n + round;
                }
                table.merge_from(&other, sum);
                prop_assert_eq!(&content(&table), &model);
                for (key, n) in &model {
                    prop_assert_eq!(table.get(key), Some(*n));
                }
                prop_assert_eq!(table.get(b"not a key of this test, certainly"), None);
            }
        }

        #[test]
        fn updated_keys_are_those_of_a_map(
            words in proptest::collection::vec((0usize..40, 0usize..45, any::<u8>()), 1..300),
        ) {
            let around: Vec<u8> = (0..200u32).map(|n| (n.wrapping_mul(97) % 5) as u8).collect();
            let mut table = KeyTable::new(Seed::random());
            let mut model: BTreeMap<&[u8], (u32, u8)> = BTreeMap::new();
            for &(start, len, value) in &words {
                let key = &around[start..start + len];
                let update = |old: Option<(u32, u8)>| old.map_or((1, value), |(n, sum)| {
                    (n + 1, sum.wrapping_mul(31).wrapping_add(value))
                });
                table.upsert_within(&around, key, update);
                let new = update(model.get(key).copied());
                model.insert(key, new);
            }
            prop_assert_eq!(table.len(), model.len());
            for (key, value) in &model {
                prop_assert_eq!(table.get(key), Some(*value));
            }
        }
    }

    #[test]
    fn growth_is_counted_and_loses_nothing() {
        let mut table = KeyTable::new(Seed::random());
        let keys: Vec<String> = (0..20_000)
            .map(|n| format!("{n}-{}", "x".repeat(n % 24)))
            .collect();
        for key in &keys {
            table.add(key.as_bytes(), 1u64, sum);
        }
        assert!(table.growths() >= 3, "{}", table.growths());
        let grown = table.growths();
        assert_eq!(table.len(), keys.len());
        table.clear();
        assert!(table.is_empty());
        for key in &keys {
            table.add(key.as_bytes(), 1u64, sum);
        }
        assert_eq!(table.growths(), grown, "a cleared table keeps its room");
        assert!(keys.iter().all(|key| table.get(key.as_bytes()) == Some(1)));
    }

    #[test]
    fn merging_is_no_flood() {
        let keys: Vec<String> = (0..150_000).map(|n| format!("{n:x}")).collect();
        let seed = Seed::random();
        let (mut ours, mut theirs) = (KeyTable::new(seed), KeyTable::new(seed));
        for (index, key) in keys.iter().enumerate() {
            let table = if index % 3 == 0 {
                &mut ours
            } else {
                &mut theirs
            };
            table.add(key.as_bytes(), 1u64, sum);
        }
        let mut into = KeyTable::new(seed);
        for _ in 0..2 {
            into.merge_from(&theirs, sum);
            into.merge_from(&ours, sum);
            assert_eq!(into.len(), keys.len());
            assert_eq!(
                into.reseeds(),
                0,
                "the order of another table is not an attack"
            );
            into.clear();
        }
    }

    #[test]
    fn values_are_reduced_in_the_order_they_came() {
        let mut table = KeyTable::new(Seed::random());
        for value in [3i64, 9, 4] {
            table.add(b"key", value, |old, new| old * 10 + new);
        }
        assert_eq!(table.get(b"key"), Some((3 * 10 + 9) * 10 + 4));
    }

    /// Keys that an attacker chose who knows the seed: their hashes agree where it hurts.
    fn colliding(seed: Seed, wanted: usize) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        for number in 0u64.. {
            let key = format!("{number:08x}");
            // Same position in any segment and same directory bits, at a rate that can be searched
            // for.
            if seed.hash_short(u64::from_le_bytes(
                key.as_bytes().try_into().expect("8 bytes"),
            )) & 0xfff
                == 9
            {
                keys.push(key.into_bytes());
            }
            if keys.len() == wanted {
                break;
            }
        }
        keys
    }

    #[test]
    fn a_leaked_seed_makes_a_new_one_and_loses_nothing() {
        let seed = Seed::from_words(0x9e37_79b9, 0x7f4a_7c15, 0xbf58_476d_1ce4_e5b9);
        let mut table = KeyTable::new(seed);
        let keys = colliding(seed, 3000);
        let packed: Vec<u64> = keys
            .iter()
            .map(|key| u64::from_le_bytes(key[..].try_into().expect("8 bytes")))
            .collect();
        table.add(b"a key that is long enough to be in the arena", 5u64, sum);
        table.add(b"of 12 bytes.", 7u64, sum);
        table.count_each(&packed, &mut |_, _, _| {});
        assert!(table.reseeds() > 0, "the flood was noticed");
        assert_ne!(table.seed(), seed);
        let reseeds = table.reseeds();
        for key in &keys {
            table.add(key, 1, sum);
        }
        assert_eq!(
            table.reseeds(),
            reseeds,
            "the new seed is not known to the attacker"
        );
        assert_eq!(table.len(), keys.len() + 2);
        assert!(keys.iter().all(|key| table.get(key) == Some(2)));
        assert_eq!(
            table.get(b"a key that is long enough to be in the arena"),
            Some(5)
        );
        assert_eq!(table.get(b"of 12 bytes."), Some(7));
        // Tables of different seeds are merged all the same.
        let mut other = KeyTable::new(seed);
        other.merge_from(&table, sum);
        assert_eq!(content(&other), content(&table));
    }
}
