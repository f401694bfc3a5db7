//! One shard's keyed state: what has been seen this epoch, and its value.
//!
//! Promise: after any sequence of `add`s a table holds, for each distinct key, the fold of its values;
//! a key that is known costs no allocation, a new one costs a place in a hashbrown table and, when it is
//! longer than 16 bytes, a pointer bump in the arena. `clear` gives nothing back to the allocator; removing
//! keys does. Must not know: threads, epochs, where keys come from.
//!
//! `bound` is what a table does that may hold so much and no more, `budget` how memory is divided and `cost` what keys take of it, `keys` is how a key is packed and hashed, `arena` where long ones lie, `segments` the hashbrown tables and how
//! they grow, `change` is for tables whose keys also go, `past` packs a table that is only read again, `pool` is memory that tables share, `refused` is what full tables
//! know of keys they did not take in, `hot` counts the most frequent keys in front of the table. There is one set of segments for each key class, because a
//! compare of two integers is three times faster than one of two slices. They are probed with
//! `find_mut` and, only on a miss, `insert_unique`: `entry()` would reserve, and so perhaps rehash, on
//! every hit.

mod arena;
pub(crate) mod bound;
mod bulk;
pub(crate) mod cost;
mod entry;
pub(crate) mod frozen;
pub(crate) mod hot;
pub(crate) mod keys;
mod partitioned;
pub(crate) mod pool;
mod refused;
mod segments;
mod update;

use self::arena::KeyArena;
use self::bound::{Limit, MemoryCap, Rules};
use self::keys::{LongKey, Packed, Seed};
use self::segments::{HashFlood, SegmentedTable};
use crate::limits;

/// A value per key. `V` is `u64` for counts.
#[derive(Debug)]
pub struct KeyTable<V> {
    seed: Seed,
    short: SegmentedTable<Short<V>>,
    medium: SegmentedTable<Medium<V>>,
    long: SegmentedTable<Long<V>>,
    /// Bytes of the keys in `long`.
    arena: KeyArena,
    reseeds: u64,
    limit: Limit<V>,
}

/// 16 bytes for counts, four to a cache line. The bytes are those of the `u64`, in memory order, so
/// that a key can be lent out as a slice.
#[derive(Clone, Copy, Debug)]
struct Short<V> {
    key: [u8; 8],
    value: V,
}

#[derive(Clone, Copy, Debug)]
struct Medium<V> {
    key: [u8; 16],
    value: V,
}

/// The hash is kept, so that most compares and all rehashes need not read the key.
#[derive(Debug)]
struct Long<V> {
    hash: u64,
    key: LongKey,
    value: V,
}

/// Segments that lie in a second-level cache together, or nearly: 2 MiB of the shortest keys.
const SEGMENTS_NEAR: usize = 16;

/// Look-ups under way at once: the line of one is asked for while the 16 before it are still on their
/// way. Cores have 16 to 24 such lines in flight; 8, 32 and 64 could not be told apart from 16.
const LOOKAHEAD: usize = 16;

/// The sum of two counts. 2^64 words are out of reach: at one a nanosecond that takes 584 years.
#[inline]
pub(crate) fn add(a: u64, b: u64) -> u64 {
    a.wrapping_add(b)
}

/// Long keys that are looked up together.
const GROUP: usize = 32;

/// Calls `begin` for every item and `finish` for every item and what `begin` gave, `LOOKAHEAD` items
/// later: between the two, memory has time to come.
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

impl KeyTable<u64> {
    /// Adds `count` to the count of a packed key of at most 8 bytes, and gives the new count.
    #[inline]
    pub(crate) fn count_short(&mut self, packed: u64, count: u64) -> u64 {
        self.count_short_hashed(self.seed.hash_short(packed), packed, count)
    }

    #[inline(always)]
    fn count_short_hashed(&mut self, hash: u64, packed: u64, count: u64) -> u64 {
        match self
            .short
            .find_mut(hash, |entry| u64::from_le_bytes(entry.key) == packed)
        {
            Some(entry) => {
                entry.value = entry.value.wrapping_add(count);
                entry.value
            }
            None => {
                self.insert_short_cold(hash, packed, count);
                count
            }
        }
    }

    /// Adds one to the count of each packed key of at most 8 bytes, and tells each key's new count.
    pub(crate) fn count_each_short(
        &mut self,
        keys: &[u64],
        seen: &mut impl FnMut(&mut Self, u64, u64),
    ) {
        ahead(
            keys,
            &mut (self, seen),
            |(table, _), key| {
                let hash = table.seed.hash_short(key);
                table.short.prefetch(hash);
                // A flood may change the seed in between; then the hash is made again.
                (hash, table.reseeds)
            },
            |(table, seen), key, (mut hash, reseeds)| {
                if reseeds != table.reseeds {
                    hash = table.seed.hash_short(key);
                }
                let count = table.count_short_hashed(hash, key, 1);
                seen(table, key, count);
            },
        );
    }

    /// Adds one to the count of each packed key of 9 to 16 bytes.
    pub(crate) fn count_each_medium(&mut self, keys: &[u128]) {
        ahead(
            keys,
            self,
            |table, key| {
                let hash = table.seed.hash_medium(key);
                table.medium.prefetch(hash);
                (hash, table.reseeds)
            },
            |table, key, (mut hash, reseeds)| {
                if reseeds != table.reseeds {
                    hash = table.seed.hash_medium(key);
                }
                table.add_hashed(hash, Packed::Medium(key), 1, add);
            },
        );
    }

    /// Adds one to the count of each key of 17 bytes and more. A key is its place in `around`: start in
    /// the low, length in the high 32 bits.
    ///
    /// Three lines of memory are read for a key, and where the third one is, the key's bytes, is known
    /// only when the second has come. So a group of keys goes through in three steps.
    pub(crate) fn count_each_long(&mut self, around: &[u8], places: &[u64]) {
        let key_of = |place: u64| &around[place as u32 as usize..][..(place >> 32) as usize];
        for group in places.chunks(GROUP) {
            let mut hashes = [0; GROUP];
            for (hash, &place) in hashes.iter_mut().zip(group) {
                *hash = self.seed.hash_long(key_of(place));
                self.long.prefetch(*hash);
            }
            if self.long.segment_count() > SEGMENTS_NEAR {
                for &hash in &hashes[..group.len()] {
                    if let Some(entry) = self.long.find(hash, |entry| entry.hash == hash) {
                        entry.key.prefetch();
                    }
                }
            }
            let reseeds = self.reseeds;
            for (&hash, &place) in hashes.iter().zip(group) {
                let key = key_of(place);
                let hash = if reseeds == self.reseeds {
                    hash
                } else {
                    self.seed.hash_long(key)
                };
                self.add_hashed(hash, Packed::Long(key), 1, add);
            }
        }
    }

    /// Whether the keys of at most 8 bytes have outgrown the second-level cache.
    pub(crate) fn is_short_large(&self) -> bool {
        self.short.segment_count() > SEGMENTS_NEAR && self.limit.bound.may_partition
    }

    /// Whether the keys of 9 to 16 bytes have.
    pub(crate) fn is_medium_large(&self) -> bool {
        self.medium.segment_count() > SEGMENTS_NEAR && self.limit.bound.may_partition
    }
}

impl<V> AsRef<KeyTable<V>> for KeyTable<V> {
    fn as_ref(&self) -> &KeyTable<V> {
        self
    }
}

impl<V: Copy> KeyTable<V> {
    /// An empty table with room for the keys of a small vocabulary. Tables that will be merged should
    /// have the same seed.
    pub fn new(seed: Seed) -> Self {
        KeyTable {
            seed,
            short: SegmentedTable::with_capacity(limits::TABLE_SHORT_KEYS_INITIAL),
            medium: SegmentedTable::with_capacity(limits::TABLE_MEDIUM_KEYS_INITIAL),
            long: SegmentedTable::with_capacity(limits::TABLE_LONG_KEYS_INITIAL),
            arena: KeyArena::new(),
            reseeds: 0,
            limit: Limit::new(MemoryCap::NONE, Rules::values()),
        }
    }

    /// Folds `value` into what `key` has: `value` itself when the key is new, `reduce(old, value)` else.
    pub fn add(&mut self, key: &[u8], value: V, reduce: impl Fn(V, V) -> V) {
        self.add_within(&[], key, value, reduce);
    }

    /// As [`add`](Self::add), faster for a key that lies in `around` with 16 bytes behind its first.
    #[inline(always)]
    pub(crate) fn add_within(
        &mut self,
        around: &[u8],
        key: &[u8],
        value: V,
        reduce: impl Fn(V, V) -> V,
    ) {
        let packed = keys::pack(around, key);
        self.add_hashed(self.seed.hash(packed), packed, value, reduce);
    }

    #[inline(always)]
    fn add_hashed(&mut self, hash: u64, packed: Packed<'_>, value: V, reduce: impl Fn(V, V) -> V) {
        match packed {
            Packed::Short(packed) => {
                let is_it = |entry: &Short<V>| u64::from_le_bytes(entry.key) == packed;
                match self.short.find_mut(hash, is_it) {
                    Some(entry) => entry.value = reduce(entry.value, value),
                    None => self.insert_short_cold(hash, packed, value),
                }
            }
            Packed::Medium(packed) => {
                let is_it = |entry: &Medium<V>| u128::from_le_bytes(entry.key) == packed;
                match self.medium.find_mut(hash, is_it) {
                    Some(entry) => entry.value = reduce(entry.value, value),
                    None => self.insert_medium_cold(hash, packed, value),
                }
            }
            Packed::Long(key) => {
                let is_it = |entry: &Long<V>| entry.hash == hash && long_bytes(entry) == key;
                match self.long.find_mut(hash, is_it) {
                    Some(entry) => entry.value = reduce(entry.value, value),
                    None => self.insert_long_cold(hash, key, value),
                }
            }
        }
    }

    /// After a flood: another seed, and every key in its new place. This stops the shard for as long as it
    /// takes to insert all keys once; whoever wants it again has to learn the new seed. A table that has a limit
    /// and is near it has no room for that: counting goes on, slowly.
    #[inline]
    fn relieve(&mut self, flood: HashFlood) {
        if flood != HashFlood::None && self.may_rebuild() {
            self.take_new_seed();
        }
    }

    #[cold]
    fn take_new_seed(&mut self) {
        self.reseeds += 1;
        if self.reseeds > limits::RESEEDS_MAX {
            return; // Sixty-four leaked seeds, or a fault of ours: counting goes on, slowly.
        }
        let seed = self.seed.another();
        self.seed = seed;
        let hash = |entry: &Short<V>| seed.hash_short(u64::from_le_bytes(entry.key));
        self.short.rebuild(|entry| hash(entry), hash);
        let hash = |entry: &Medium<V>| seed.hash_medium(u128::from_le_bytes(entry.key));
        self.medium.rebuild(|entry| hash(entry), hash);
        let rehash = |entry: &mut Long<V>| {
            entry.hash = seed.hash_long(long_bytes(entry));
            entry.hash
        };
        self.long.rebuild(rehash, |entry| entry.hash);
    }

    /// Folds every key of `other` into this table. If both have the same seed, the other table's order is
    /// nearly this one's order, and the merge walks memory forwards.
    pub fn merge_from(&mut self, other: &KeyTable<V>, reduce: impl Fn(V, V) -> V) {
        self.merge_mapped(other, |value| value, reduce);
    }

    /// Every key with its value as it is shown, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], V)> {
        self.iter_kept()
            .map(|(key, value)| (key, self.shown(value)))
    }

    /// A value with the error of all values added, if there is one.
    #[inline]
    fn shown(&self, value: V) -> V {
        match self.limit.overflow.error {
            0 => value,
            error => (self.limit.rules.shown)(value, error),
        }
    }

    /// Every key with what is kept of its value, in no particular order.
    pub(crate) fn iter_kept(&self) -> impl Iterator<Item = (&[u8], V)> {
        let short = self.short.iter();
        let short = short.map(|entry| (keys::unpack(&entry.key), entry.value));
        let medium = self.medium.iter();
        let medium = medium.map(|entry| (keys::unpack(&entry.key), entry.value));
        let long = self.long.iter();
        let long = long.map(|entry| (long_bytes(entry), entry.value));
        short.chain(medium).chain(long)
    }

    /// The value of `key`, as it is shown.
    pub fn get(&self, key: &[u8]) -> Option<V> {
        self.get_kept(key).map(|value| self.shown(value))
    }

    /// What is kept of the value of `key`.
    pub(crate) fn get_kept(&self, key: &[u8]) -> Option<V> {
        let packed = keys::pack(&[], key);
        let hash = self.seed.hash(packed);
        match packed {
            Packed::Short(packed) => {
                let is_it = |entry: &Short<V>| u64::from_le_bytes(entry.key) == packed;
                self.short.find(hash, is_it).map(|entry| entry.value)
            }
            Packed::Medium(packed) => {
                let is_it = |entry: &Medium<V>| u128::from_le_bytes(entry.key) == packed;
                self.medium.find(hash, is_it).map(|entry| entry.value)
            }
            Packed::Long(key) => {
                let is_it = |entry: &Long<V>| entry.hash == hash && long_bytes(entry) == key;
                self.long.find(hash, is_it).map(|entry| entry.value)
            }
        }
    }

    /// The seed the table has now. It changes when somebody found keys that collide under it.
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// Takes another table's seed. Only for an empty table: keys would not be found any more.
    pub(crate) fn set_seed(&mut self, seed: Seed) {
        assert!(self.is_empty(), "a table with keys keeps its seed");
        self.seed = seed;
    }

    /// Number of distinct keys.
    pub fn len(&self) -> usize {
        self.short.len() + self.medium.len() + self.long.len()
    }

    /// Whether no key was added since the table was made or cleared.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all keys and keeps the memory, as far as the table's limit goes: a merge may have exceeded it.
    pub fn clear(&mut self) {
        self.limit.clear(self.seed);
        if !self.settle_lease() {
            let emptied = KeyTable::new(self.seed);
            let (limit, reseeds) = (self.limit.bound.clone(), self.reseeds);
            let rules = self.limit.rules;
            *self = KeyTable {
                limit: Limit::new(limit, rules),
                reseeds,
                ..emptied
            };
        }
        self.short.clear();
        self.medium.clear();
        self.long.clear();
        self.arena.clear();
    }

    /// How often a part of the table had to grow since it was made.
    pub fn growths(&self) -> u64 {
        self.short.growths() + self.medium.growths() + self.long.growths()
    }

    /// How often keys that collide made the table take a new seed.
    pub fn reseeds(&self) -> u64 {
        self.reseeds
    }
}

/// The key of a long entry.
#[inline]
#[allow(unsafe_code)]
fn long_bytes<V>(entry: &Long<V>) -> &[u8] {
    // SAFETY: entries are private to a `KeyTable` and are never copied out of `long`. The arena is reset in three
    // places: `clear` empties `long` first, and `KeyArena::compact` and `compact_tightly` have moved every key
    // of `long` before. So a borrowed entry's key is in the arena, and the lifetime returned is that of the borrow of the entry,
    // hence of the table.
    unsafe { entry.key.bytes() }
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

    /// Keys of each class that an attacker chose who knows the seed: their hashes agree where it hurts.
    fn colliding(seed: Seed, wanted: usize) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        for number in 0u64.. {
            let key = format!("{number:08x}");
            // Same position in any segment and same directory bits, at a rate that can be searched for.
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
        table.count_each_short(&packed, &mut |_, _, _| {});
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
