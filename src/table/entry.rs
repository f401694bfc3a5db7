//! Tables whose keys also go: windows and state.
//!
//! Promise: as of the table; and whatever came and went, memory is bounded by what is in the table (see
//! `arena` and `segments` for the rules). Must not know: why a key goes.

use super::keys::{self, Packed};
use super::segments::Updated;
use super::{GROUP, KeyTable, Long, Medium, Short, ahead, long_bytes};
use crate::table::frozen::FrozenTable;

impl<V: Copy> KeyTable<V> {
    /// Changes what is kept for `key`: `change` is called once, with the value or `None` where there is
    /// none, and gives the value there shall be, or `None` for none.
    pub fn update(&mut self, key: &[u8], change: impl FnMut(Option<V>) -> Option<V>) {
        let packed = keys::pack(&[], key);
        self.update_hashed(self.seed.hash(packed), packed, change);
    }

    /// Removes `key` and gives the value it had.
    pub fn remove(&mut self, key: &[u8]) -> Option<V> {
        let mut had = None;
        self.update(key, |value| {
            had = value;
            None
        });
        had
    }

    /// Keeps the keys for which `keep` gives true.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], V) -> bool) {
        let seed = self.seed;
        self.short.retain(
            |entry| seed.hash_short(u64::from_le_bytes(entry.key)),
            |entry| keep(keys::unpack(&entry.key), entry.value),
        );
        self.medium.retain(
            |entry| seed.hash_medium(u128::from_le_bytes(entry.key)),
            |entry| keep(keys::unpack(&entry.key), entry.value),
        );
        let (arena, mut is_due) = (&mut self.arena, false);
        let hash = |entry: &Long<V>| entry.hash;
        self.long.retain(hash, |entry| {
            let is_kept = keep(long_bytes(entry), entry.value);
            if !is_kept {
                is_due = arena.forget(long_bytes(entry).len());
            }
            is_kept
        });
        if is_due {
            self.arena.compact(&mut self.long);
        }
    }

    /// Forgets all keys. Memory is kept, unless the keys there were took less than a sixteenth of it: so what
    /// a burst left behind goes at the next call.
    pub(crate) fn recycle(&mut self) {
        self.short.recycle();
        self.medium.recycle();
        self.long.recycle();
        self.arena.recycle();
        self.limit.clear(self.seed);
    }

    /// Changes what is kept for each key of `past`, in the order of `past`: `change` gets the entry's number,
    /// key and value there and the value here, and gives the value there shall be here.
    pub fn update_each<U: Copy>(
        &mut self,
        frozen: &FrozenTable<U>,
        mut change: impl FnMut(usize, &[u8], U, Option<V>) -> Option<V>,
    ) {
        let mut state = (self, 0, &mut change);
        ahead(
            &frozen.short,
            &mut state,
            |(table, ..), entry| {
                let hash = table.seed.hash_short(u64::from_le_bytes(entry.key));
                table.short.prefetch(hash);
                (hash, table.reseeds)
            },
            |(table, number, change), Short { key, value }, (mut hash, reseeds)| {
                let packed = u64::from_le_bytes(key);
                if reseeds != table.reseeds {
                    hash = table.seed.hash_short(packed);
                }
                let change = |old| change(*number, keys::unpack(&key), value, old);
                table.update_hashed(hash, Packed::Short(packed), change);
                *number += 1;
            },
        );
        ahead(
            &frozen.medium,
            &mut state,
            |(table, ..), entry| {
                let hash = table.seed.hash_medium(u128::from_le_bytes(entry.key));
                table.medium.prefetch(hash);
                (hash, table.reseeds)
            },
            |(table, number, change), Medium { key, value }, (mut hash, reseeds)| {
                let packed = u128::from_le_bytes(key);
                if reseeds != table.reseeds {
                    hash = table.seed.hash_medium(packed);
                }
                let change = |old| change(*number, keys::unpack(&key), value, old);
                table.update_hashed(hash, Packed::Medium(packed), change);
                *number += 1;
            },
        );
        let (table, mut number, change) = state;
        let mut bytes = &frozen.bytes[..];
        for group in frozen.long.chunks(GROUP) {
            let mut found: [(&[u8], u64); GROUP] = [(&[], 0); GROUP];
            for (found, entry) in found.iter_mut().zip(group) {
                let (key, rest) = bytes.split_at(entry.len as usize);
                bytes = rest;
                *found = (key, table.seed.hash_long(key));
                table.long.prefetch(found.1);
            }
            let reseeds = table.reseeds;
            for (&(key, hash), entry) in found.iter().zip(group) {
                let is_old = reseeds != table.reseeds;
                let hash = if is_old {
                    table.seed.hash_long(key)
                } else {
                    hash
                };
                let change = |old| change(number, key, entry.value, old);
                table.update_hashed(hash, Packed::Long(key), change);
                number += 1;
            }
        }
    }

    #[inline(always)]
    fn update_hashed(
        &mut self,
        hash: u64,
        packed: Packed<'_>,
        mut change: impl FnMut(Option<V>) -> Option<V>,
    ) {
        // Gives whether the entry stays.
        let mut put = |value: &mut V| match change(Some(*value)) {
            Some(new) => {
                *value = new;
                true
            }
            None => false,
        };
        let seed = self.seed;
        match packed {
            Packed::Short(packed) => {
                let updated = self.short.update(
                    hash,
                    |entry| u64::from_le_bytes(entry.key) == packed,
                    |entry| seed.hash_short(u64::from_le_bytes(entry.key)),
                    |entry| put(&mut entry.value),
                );
                if updated == Updated::Absent
                    && let Some(value) = change(None)
                {
                    self.insert_short_cold(hash, packed, value);
                }
            }
            Packed::Medium(packed) => {
                let updated = self.medium.update(
                    hash,
                    |entry| u128::from_le_bytes(entry.key) == packed,
                    |entry| seed.hash_medium(u128::from_le_bytes(entry.key)),
                    |entry| put(&mut entry.value),
                );
                if updated == Updated::Absent
                    && let Some(value) = change(None)
                {
                    self.insert_medium_cold(hash, packed, value);
                }
            }
            Packed::Long(key) => {
                let updated = self.long.update(
                    hash,
                    |entry| entry.hash == hash && long_bytes(entry) == key,
                    |entry: &Long<V>| entry.hash,
                    |entry| put(&mut entry.value),
                );
                match updated {
                    Updated::Kept => {}
                    Updated::Removed => {
                        if self.arena.forget(key.len()) {
                            self.arena.compact(&mut self.long);
                        }
                    }
                    Updated::Absent => {
                        if let Some(value) = change(None) {
                            self.insert_long_cold(hash, key, value);
                        }
                    }
                }
            }
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
    enum Step {
        Add(Vec<u8>, u64),
        Remove(Vec<u8>),
        /// The two values that are given for present and absent keys.
        Alter(Vec<u8>, Option<u64>, Option<u64>),
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

    fn step() -> impl Strategy<Value = Step> {
        let value = || proptest::option::of(0u64..9);
        prop_oneof![
            8 => (key(), 0u64..9).prop_map(|(key, value)| Step::Add(key, value)),
            8 => key().prop_map(Step::Remove),
            8 => (key(), value(), value()).prop_map(|(key, a, b)| Step::Alter(key, a, b)),
            2 => proptest::collection::btree_map(key(), 0u64..9, 0..40)
                .prop_map(|batch| Step::Each(batch.into_iter().collect())),
            1 => Just(Step::RetainOdd),
            1 => Just(Step::Recycle),
        ]
    }

    proptest! {
        #[test]
        fn a_table_whose_keys_go_equals_a_btree_map(
            steps in proptest::collection::vec(step(), 0..120),
        ) {
            let mut table = KeyTable::new(Seed::random());
            let mut model = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Add(key, value) => {
                        table.add(&key, value, |a, b| a + b);
                        *model.entry(key).or_insert(0) += value;
                    }
                    Step::Remove(key) => {
                        prop_assert_eq!(table.remove(&key), model.remove(&key));
                    }
                    Step::Alter(key, present, absent) => {
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
                    Step::Each(batch) => {
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
                    Step::RetainOdd => {
                        table.retain(|key, value| (key.len() as u64 + value) % 2 == 1);
                        model.retain(|key, value| (key.len() as u64 + *value) % 2 == 1);
                    }
                    Step::Recycle => {
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
        // A known seed: with one in some thousands enough full groups stand in a row to be answered with more
        // room (see `segments`), which is right, and another number of segments.
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

    /// Otherwise every move would ask the allocator, where few keys are there at a time.
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
