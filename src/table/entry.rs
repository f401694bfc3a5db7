//! Tables whose keys are also removed: windows and state.
//!
//! Promise: as of the table. Whatever came and went, memory is bounded by what is in the table
//! (`arena` and `segments` have the rules). Must not know: why a key is removed.

use super::class::{LookupKey, StoredKey, TableEntry, by_class};
use super::frozen::FrozenTable;
use super::keys::{self, PackedKey};
use super::segments::Updated;
use super::{KeyTable, ahead};

impl<V: Copy> KeyTable<V> {
    /// Sets the value of `key` to `change` of its value, or removes the key if `change` returns
    /// `None`. `change` is called once, with `None` if the key is missing.
    pub fn update(&mut self, key: &[u8], change: impl FnMut(Option<V>) -> Option<V>) {
        let packed = keys::pack(&[], key);
        let hash = self.seed.hash(packed);
        by_class!(packed, key => self.update_hashed(hash, key, change));
    }

    /// Calls `change` with the value of `key`, which is `zero` if the key is new, and with `true`
    /// if it is. Returns `None` if there is no room for a new key: then its record is in the
    /// overflow. It is faster for a key in `around` if 16 bytes follow the key's first one there.
    #[inline(always)]
    pub(crate) fn change_within<R>(
        &mut self,
        around: &[u8],
        key: &[u8],
        zero: V,
        change: impl FnOnce(&mut V, bool) -> R,
    ) -> Option<R> {
        let packed = keys::pack(around, key);
        let hash = self.seed.hash(packed);
        by_class!(packed, key => self.change(hash, key, zero, change))
    }

    /// As [`change_within`](Self::change_within), for a packed key.
    #[inline(always)]
    fn change<K: LookupKey, R>(
        &mut self,
        hash: u64,
        key: K,
        zero: V,
        change: impl FnOnce(&mut V, bool) -> R,
    ) -> Option<R> {
        let (segments, _) = K::parts(self);
        if let Some(entry) = segments.find_mut(hash, |entry| key.is(hash, &entry.key)) {
            return Some(change(&mut entry.value, false));
        }
        self.insert_cold(hash, key, zero);
        // A flood may have changed the seed.
        let hash = self.seed.hash(key.packed());
        let (segments, _) = K::parts(self);
        let entry = segments.find_mut(hash, |entry| key.is(hash, &entry.key))?;
        Some(change(&mut entry.value, true))
    }

    /// Removes `key` and returns the value it had.
    pub fn remove(&mut self, key: &[u8]) -> Option<V> {
        let mut had = None;
        self.update(key, |value| {
            had = value;
            None
        });
        had
    }

    /// Removes the keys for which `keep` returns `false`.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], V) -> bool) {
        self.retain_class::<u64>(&mut keep);
        self.retain_class::<u128>(&mut keep);
        self.retain_class::<&[u8]>(&mut keep);
        self.compact_if_sparse();
    }

    fn retain_class<K: LookupKey>(&mut self, keep: &mut impl FnMut(&[u8], V) -> bool) {
        let seed = self.seed;
        let (segments, arena) = K::parts(self);
        segments.retain(
            |entry| entry.key.hash(&seed),
            |entry| {
                let is_kept = keep(entry.key.bytes(), entry.value);
                if !is_kept {
                    arena.forget(entry.key.lookup().packed());
                }
                is_kept
            },
        );
    }

    /// Removes all keys. The memory is kept, unless the keys took less than a sixteenth of it: so
    /// what a burst left behind goes at the next call.
    pub(crate) fn recycle(&mut self) {
        self.short.recycle();
        self.medium.recycle();
        self.long.recycle();
        self.arena.recycle();
        self.limit.clear(self.seed);
    }

    /// Updates each key of `frozen`, in the order of `frozen`. `change` gets the entry's number,
    /// key and value there and the value here, and returns the new value here, or `None` to remove
    /// the key.
    pub fn update_each<U: Copy>(
        &mut self,
        frozen: &FrozenTable<U>,
        mut change: impl FnMut(usize, &[u8], U, Option<V>) -> Option<V>,
    ) {
        let mut number = 0;
        self.update_class(&frozen.short, &mut number, &mut change);
        self.update_class(&frozen.medium, &mut number, &mut change);
        ahead(
            &frozen.long,
            &mut (self, &frozen.bytes[..], number, change),
            |(table, bytes, ..), entry| {
                let (key, rest) = bytes.split_at(entry.len as usize);
                *bytes = rest;
                (key, table.begin(key))
            },
            |(table, _, number, change), entry, (key, begun)| {
                let hash = table.hash_begun(key, begun);
                table.update_hashed(hash, key, |old| change(*number, key, entry.value, old));
                *number += 1;
            },
        );
    }

    fn update_class<K: StoredKey + Copy, U: Copy>(
        &mut self,
        entries: &[TableEntry<K, U>],
        number: &mut usize,
        change: &mut impl FnMut(usize, &[u8], U, Option<V>) -> Option<V>,
    ) {
        ahead(
            entries,
            &mut (self, number, change),
            |(table, ..), entry| table.begin(entry.key.lookup()),
            |(table, number, change), entry, begun| {
                let (key, bytes) = (entry.key.lookup(), entry.key.bytes());
                let hash = table.hash_begun(key, begun);
                table.update_hashed(hash, key, |old| change(**number, bytes, entry.value, old));
                **number += 1;
            },
        );
    }

    #[inline(always)]
    fn update_hashed<K: LookupKey>(
        &mut self,
        hash: u64,
        key: K,
        mut change: impl FnMut(Option<V>) -> Option<V>,
    ) {
        let seed = self.seed;
        let (segments, arena) = K::parts(self);
        let updated = segments.update(
            hash,
            |entry| key.is(hash, &entry.key),
            |entry| entry.key.hash(&seed),
            |entry| match change(Some(entry.value)) {
                Some(new) => {
                    entry.value = new;
                    true
                }
                None => false,
            },
        );
        match updated {
            Updated::Kept => {}
            Updated::Removed => {
                arena.forget(key.packed());
                self.compact_if_sparse();
            }
            Updated::Absent => {
                if let Some(value) = change(None) {
                    self.insert_cold(hash, key, value);
                }
            }
        }
    }

    fn compact_if_sparse(&mut self) {
        if self.arena.is_sparse() {
            self.arena.compact(&mut self.long);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{KEY_ARENA_BYTES_INITIAL, SEGMENT_BUCKETS};
    use crate::table::keys::Seed;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum TableOperation {
        Add(Vec<u8>, u64),
        Remove(Vec<u8>),
        /// The new values of a present and of an absent key.
        Update(Vec<u8>, Option<u64>, Option<u64>),
        /// Adds to or removes each key of a batch.
        Each(Vec<(Vec<u8>, u64)>),
        RetainOdd,
        Recycle,
    }

    /// Few keys, of every class, many of them ending in NUL.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        (0u8..20, 0usize..30, any::<bool>()).prop_map(|(first, zeros, long)| {
            let mut key = vec![0; zeros % 4];
            key.extend(std::iter::repeat_n(first, if long { zeros } else { 3 }));
            key
        })
    }

    fn operation() -> impl Strategy<Value = TableOperation> {
        let value = || proptest::option::of(0u64..9);
        prop_oneof![
            8 => (key(), 0u64..9).prop_map(|(key, value)| TableOperation::Add(key, value)),
            8 => key().prop_map(TableOperation::Remove),
            8 => (key(), value(), value()).prop_map(|(key, a, b)| TableOperation::Update(key, a, b)),
            2 => proptest::collection::btree_map(key(), 0u64..9, 0..40)
                .prop_map(|batch| TableOperation::Each(batch.into_iter().collect())),
            1 => Just(TableOperation::RetainOdd),
            1 => Just(TableOperation::Recycle),
        ]
    }

    proptest! {
        #[test]
        fn a_table_whose_keys_go_equals_a_btree_map(
            operations in proptest::collection::vec(operation(), 0..120),
        ) {
            let mut table = KeyTable::new(Seed::random());
            let mut model = BTreeMap::new();
            for operation in operations {
                match operation {
                    TableOperation::Add(key, value) => {
                        table.add(&key, value, |a, b| a + b);
                        *model.entry(key).or_insert(0) += value;
                    }
                    TableOperation::Remove(key) => {
                        prop_assert_eq!(table.remove(&key), model.remove(&key));
                    }
                    TableOperation::Update(key, present, absent) => {
                        let mut calls = 0;
                        table.update(&key, |old| {
                            calls += 1;
                            assert_eq!(old, model.get(&key).copied());
                            if old.is_some() { present } else { absent }
                        });
                        prop_assert_eq!(calls, 1);
                        let value = if model.contains_key(&key) { present } else { absent };
                        match value {
                            Some(value) => drop(model.insert(key, value)),
                            None => drop(model.remove(&key)),
                        }
                    }
                    TableOperation::Each(batch) => {
                        let mut other = KeyTable::new(table.seed());
                        for (key, value) in &batch {
                            other.add(key, *value, |a, b| a + b);
                        }
                        let mut frozen = FrozenTable::new();
                        frozen.fill_from(&other);
                        let order: Vec<_> = frozen.iter().map(|(key, _)| key.to_vec()).collect();
                        table.update_each(&frozen, |number, key, value, old| {
                            assert_eq!(order[number], key);
                            assert_eq!(other.get(key), Some(value));
                            assert_eq!(old, model.get(key).copied());
                            if value % 2 == 0 { None } else { Some(old.unwrap_or(0) + value) }
                        });
                        for (key, value) in batch {
                            if value % 2 == 0 {
                                model.remove(&key);
                            } else {
                                *model.entry(key).or_insert(0) += value;
                            }
                        }
                    }
                    TableOperation::RetainOdd => {
                        table.retain(|key, value| (key.len() as u64 + value) % 2 == 1);
                        model.retain(|key, value| (key.len() as u64 + *value) % 2 == 1);
                    }
                    TableOperation::Recycle => {
                        table.recycle();
                        model.clear();
                    }
                }
                let found: BTreeMap<_, _> = table.iter().map(|(k, v)| (k.to_vec(), v)).collect();
                prop_assert_eq!(table.len(), found.len());
                prop_assert_eq!(&found, &model);
            }
        }
    }

    /// Bytes of keys held, and places of all segments.
    fn held(table: &KeyTable<u64>) -> (usize, usize) {
        let segments =
            table.short.segment_count() + table.medium.segment_count() + table.long.segment_count();
        (table.arena.held(), segments * SEGMENT_BUCKETS)
    }

    #[test]
    fn keys_may_come_and_go_for_ever() {
        let key = |number: usize| format!("a long key that is new, its number is {number:09}");
        let mut table = KeyTable::new(Seed::random());
        let (window, live) = (1000, 1000 * key(0).len());
        for number in 0..1_000_000 {
            table.add(key(number).as_bytes(), 1u64, |a, b| a + b);
            if number >= window {
                assert_eq!(table.remove(key(number - window).as_bytes()), Some(1));
            }
            if number % 1000 == 0 {
                let (bytes, places) = held(&table);
                assert!(bytes <= 8 * (live + KEY_ARENA_BYTES_INITIAL), "{bytes}");
                assert_eq!(places, 3 * SEGMENT_BUCKETS, "no class was ever split");
            }
        }
        assert_eq!((table.len(), table.reseeds()), (window, 0));
    }

    #[test]
    fn what_a_burst_took_is_given_back() {
        let key = |number: usize| match number % 3 {
            0 => format!("{number}"),
            1 => format!("number {number:08}"),
            _ => format!("a long key of the number {number}"),
        };
        let mut table = KeyTable::new(Seed::random());
        for _ in 0..2 {
            for number in 0..300_000 {
                table.add(key(number).as_bytes(), number as u64, |a, b| a + b);
            }
            let (bytes, places) = held(&table);
            assert!(bytes > 2_000_000 && places > 300_000);
            for number in 0..299_000 {
                assert_eq!(table.remove(key(number).as_bytes()), Some(number as u64));
            }
            let (bytes, places) = held(&table);
            assert!(
                bytes < 600_000 && places <= 6 * SEGMENT_BUCKETS,
                "{bytes} {places}"
            );
            for number in 0..300_000 {
                let expected = (number >= 299_000).then_some(number as u64);
                assert_eq!(table.get(key(number).as_bytes()), expected);
            }
            table.retain(|_, _| false);
            assert!(table.is_empty());
        }
        assert_eq!(table.reseeds(), 0, "keys that go are no flood");
        for number in 0..300_000 {
            table.add(key(number).as_bytes(), 1, |a, b| a + b);
        }
        table.retain(|_, value| value > 1);
        assert_eq!(held(&table).1, 3 * SEGMENT_BUCKETS);
        for number in 0..300_000 {
            table.add(key(number).as_bytes(), 1, |a, b| a + b);
        }
        table.recycle();
        table.add(b"one", 1, |a, b| a + b);
        table.recycle();
        let (bytes, places) = held(&table);
        assert_eq!(places, 3 * SEGMENT_BUCKETS);
        assert!(bytes <= 16 * KEY_ARENA_BYTES_INITIAL, "{bytes}");
    }

    #[test]
    fn a_full_segment_whose_entries_change_is_swept_and_not_split() {
        // A known seed. With one in some thousands, enough full groups stand in a row for more room
        // to be made (see `segments`), which is right, but is another number of segments.
        let mut table = KeyTable::new(Seed::from_words(
            0x243f_6a88_85a3_08d3,
            0x1319_8a2e_0370_7344,
            0xa409_3822_299f_31d0,
        ));
        for number in 0u64..400_000 {
            table.add(&number.to_be_bytes(), 1u64, |a, b| a + b);
            if number >= 4500 {
                table.remove(&(number - 4500).to_be_bytes());
            }
        }
        assert_eq!((table.len(), table.short.segment_count()), (4500, 1));
        assert_eq!(table.reseeds(), 0);
    }

    /// Otherwise every move would ask the allocator when there are few keys at a time.
    #[test]
    fn memory_that_moved_keys_left_is_kept_for_the_next_move_of_few_keys() {
        let key = |number: usize| format!("{number:0100}");
        let mut table = KeyTable::new(Seed::random());
        let mut moves = 0;
        for number in 0..10_000 {
            table.add(key(number).as_bytes(), 1u64, |a, b| a + b);
            let dead = table.arena.dead();
            if number >= 10 {
                table.remove(key(number - 10).as_bytes());
            }
            if table.arena.dead() < dead {
                moves += 1;
                assert!(held(&table).0 >= 2 * KEY_ARENA_BYTES_INITIAL, "{moves}");
            }
        }
        assert!(moves > 10, "{moves}");
    }
}
