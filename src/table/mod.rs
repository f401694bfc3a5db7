//! One shard's keyed state: what has been seen this epoch, and its value.
//!
//! Promise: after any sequence of `add`s a table holds, for each distinct key, the fold of its values;
//! a key that is known costs no allocation, a new one costs a place in a hashbrown table and, when it is
//! longer than 16 bytes, a pointer bump in the arena. `clear` gives nothing back to the allocator.
//! Refuses to know: threads, epochs, where keys come from.
//!
//! `keys` is how a key is packed and hashed, `hot` counts the most frequent keys in front of the table. There are three [`HashTable`]s, one a key class, because a
//! compare of two integers is three times faster than one of two slices. They are probed with
//! `find_mut` and, only on a miss, `insert_unique`: `entry()` would reserve, and so perhaps rehash, on
//! every hit.

pub(crate) mod hot;
pub(crate) mod keys;

use bumpalo::Bump;
use hashbrown::HashTable;

use self::keys::{LongKey, Packed, Seed};
use crate::limits;

/// A value per key. `V` is `u64` for counts.
#[derive(Debug)]
pub struct Table<V> {
    seed: Seed,
    short: HashTable<Short<V>>,
    medium: HashTable<Medium<V>>,
    long: HashTable<Long<V>>,
    /// Bytes of the keys in `long`. Reset only by `clear`, after `long` was emptied.
    arena: Bump,
    growths: u64,
}

/// 16 bytes for counts, four to a cache line. The bytes are those of the `u64`, in memory order, so
/// that a key can be lent out as a slice.
#[derive(Debug)]
struct Short<V> {
    key: [u8; 8],
    value: V,
}

#[derive(Debug)]
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

/// The sum of two counts. 2^64 words are out of reach: at one a nanosecond that takes 584 years.
#[inline]
pub(crate) fn add(a: u64, b: u64) -> u64 {
    a.wrapping_add(b)
}

impl Table<u64> {
    /// Adds `count` to the count of a packed key of at most 8 bytes, and gives the new count.
    #[inline]
    pub(crate) fn count_short(&mut self, packed: u64, count: u64) -> u64 {
        let hash = self.seed.hash_short(packed);
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
}

impl<V: Copy> Table<V> {
    /// An empty table with room for the keys of a small vocabulary. Tables that will be merged need
    /// the same seed.
    pub fn new(seed: Seed) -> Self {
        Table {
            seed,
            short: HashTable::with_capacity(limits::TABLE_SHORT_KEYS_INITIAL),
            medium: HashTable::with_capacity(limits::TABLE_MEDIUM_KEYS_INITIAL),
            long: HashTable::with_capacity(limits::TABLE_LONG_KEYS_INITIAL),
            arena: Bump::with_capacity(limits::KEY_ARENA_BYTES_INITIAL),
            growths: 0,
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
        match keys::pack(around, key) {
            Packed::Short(packed) => self.add_short(packed, value, reduce),
            Packed::Medium(packed) => self.add_medium(packed, value, reduce),
            Packed::Long(key) => self.add_long(self.seed.hash_long(key), key, value, reduce),
        }
    }

    #[inline(always)]
    fn add_short(&mut self, packed: u64, value: V, reduce: impl Fn(V, V) -> V) {
        let hash = self.seed.hash_short(packed);
        match self
            .short
            .find_mut(hash, |entry| u64::from_le_bytes(entry.key) == packed)
        {
            Some(entry) => entry.value = reduce(entry.value, value),
            None => self.insert_short_cold(hash, packed, value),
        }
    }

    #[inline(always)]
    fn add_medium(&mut self, packed: u128, value: V, reduce: impl Fn(V, V) -> V) {
        let hash = self.seed.hash_medium(packed);
        match self
            .medium
            .find_mut(hash, |entry| u128::from_le_bytes(entry.key) == packed)
        {
            Some(entry) => entry.value = reduce(entry.value, value),
            None => self.insert_medium_cold(hash, packed, value),
        }
    }

    fn add_long(&mut self, hash: u64, key: &[u8], value: V, reduce: impl Fn(V, V) -> V) {
        match self
            .long
            .find_mut(hash, |entry| entry.hash == hash && long_bytes(entry) == key)
        {
            Some(entry) => entry.value = reduce(entry.value, value),
            None => self.insert_long_cold(hash, key, value),
        }
    }

    #[cold]
    #[inline(never)]
    fn insert_short_cold(&mut self, hash: u64, packed: u64, value: V) {
        self.growths += u64::from(self.short.len() == self.short.capacity());
        let seed = self.seed;
        let entry = Short {
            key: packed.to_le_bytes(),
            value,
        };
        self.short.insert_unique(hash, entry, |entry| {
            seed.hash_short(u64::from_le_bytes(entry.key))
        });
    }

    #[cold]
    #[inline(never)]
    fn insert_medium_cold(&mut self, hash: u64, packed: u128, value: V) {
        self.growths += u64::from(self.medium.len() == self.medium.capacity());
        let seed = self.seed;
        let entry = Medium {
            key: packed.to_le_bytes(),
            value,
        };
        self.medium.insert_unique(hash, entry, |entry| {
            seed.hash_medium(u128::from_le_bytes(entry.key))
        });
    }

    #[cold]
    #[inline(never)]
    fn insert_long_cold(&mut self, hash: u64, key: &[u8], value: V) {
        self.growths += u64::from(self.long.len() == self.long.capacity());
        let entry = Long {
            hash,
            key: LongKey::copy_into(&self.arena, key),
            value,
        };
        self.long.insert_unique(hash, entry, |entry| entry.hash);
    }

    /// Folds every key of `other` into this table. Both must have been made with the same seed: then
    /// the other table's order is nearly this one's order, and the merge walks memory forwards.
    pub fn merge_from(&mut self, other: &Table<V>, reduce: impl Fn(V, V) -> V) {
        for entry in &other.short {
            self.add_short(u64::from_le_bytes(entry.key), entry.value, &reduce);
        }
        for entry in &other.medium {
            self.add_medium(u128::from_le_bytes(entry.key), entry.value, &reduce);
        }
        for entry in &other.long {
            self.add_long(entry.hash, long_bytes(entry), entry.value, &reduce);
        }
    }

    /// Every key with its value, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], V)> {
        let short = self
            .short
            .iter()
            .map(|entry| (keys::unpack(&entry.key), entry.value));
        let medium = self
            .medium
            .iter()
            .map(|entry| (keys::unpack(&entry.key), entry.value));
        let long = self
            .long
            .iter()
            .map(|entry| (long_bytes(entry), entry.value));
        short.chain(medium).chain(long)
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Option<V> {
        match keys::pack(&[], key) {
            Packed::Short(packed) => self
                .short
                .find(self.seed.hash_short(packed), |e| {
                    u64::from_le_bytes(e.key) == packed
                })
                .map(|entry| entry.value),
            Packed::Medium(packed) => self
                .medium
                .find(self.seed.hash_medium(packed), |e| {
                    u128::from_le_bytes(e.key) == packed
                })
                .map(|entry| entry.value),
            Packed::Long(key) => {
                let hash = self.seed.hash_long(key);
                self.long
                    .find(hash, |entry| entry.hash == hash && long_bytes(entry) == key)
                    .map(|entry| entry.value)
            }
        }
    }

    /// The seed the table was made with.
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// Number of distinct keys.
    pub fn len(&self) -> usize {
        self.short.len() + self.medium.len() + self.long.len()
    }

    /// Whether no key was added since the table was made or cleared.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all keys and keeps the memory.
    pub fn clear(&mut self) {
        self.short.clear();
        self.medium.clear();
        self.long.clear();
        // Keeps the largest chunk: after the first epochs one chunk holds what an epoch needs.
        self.arena.reset();
    }

    /// How often one of the hash tables had to grow since the table was made.
    pub fn growths(&self) -> u64 {
        self.growths
    }
}

/// The key of a long entry.
#[inline]
#[allow(unsafe_code)]
fn long_bytes<V>(entry: &Long<V>) -> &[u8] {
    // SAFETY: entries are private to a `Table`, are never copied out of `long`, and `clear`, the only
    // place that resets the arena, empties `long` first; so a borrowed entry's key is in the arena, and
    // the lifetime returned is that of the borrow of the entry, hence of the table.
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

    fn content(table: &Table<u64>) -> BTreeMap<Vec<u8>, u64> {
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
            let (mut table, mut other) = (Table::new(seed), Table::new(seed));
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
        let mut table = Table::new(Seed::random());
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
    fn values_are_reduced_in_the_order_they_came() {
        let mut table = Table::new(Seed::random());
        for value in [3i64, 9, 4] {
            table.add(b"key", value, |old, new| old * 10 + new);
        }
        assert_eq!(table.get(b"key"), Some((3 * 10 + 9) * 10 + 4));
    }
}
