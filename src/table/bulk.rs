//! What is done to many keys of a table at once: pairs that were gathered, another table, all values.
//!
//! Promise: the same table as one `add` after the other gives. Must not know: where the keys come from.

use super::keys::{self, Packed};
use super::{GROUP, KeyTable, Long, Medium, SEGMENTS_NEAR, Short, long_bytes};

impl<V: Copy> KeyTable<V> {
    /// Whether keys of some class have outgrown the second-level cache.
    pub(crate) fn is_large(&self) -> bool {
        let segments = [
            self.short.segment_count(),
            self.medium.segment_count(),
            self.long.segment_count(),
        ];
        segments.into_iter().any(|count| count > SEGMENTS_NEAR)
    }

    /// Folds each value into what its key has. A key is its place in `around`, 16 bytes of which follow the
    /// key's first: start in the low, length in the high 32 bits.
    ///
    /// As in `count_each_long` the lines of a group are asked for before the first is needed.
    pub(crate) fn add_each_within(
        &mut self,
        around: &[u8],
        pairs: &[(u64, V)],
        reduce: impl Fn(V, V) -> V,
    ) {
        for group in pairs.chunks(GROUP) {
            let mut begun = [(0, Packed::Short(0)); GROUP];
            for (begun, &(place, _)) in begun.iter_mut().zip(group) {
                let key = &around[place as u32 as usize..][..(place >> 32) as usize];
                let packed = keys::pack(around, key);
                let hash = self.seed.hash(packed);
                *begun = (hash, packed);
                match packed {
                    Packed::Short(_) => self.short.prefetch(hash),
                    Packed::Medium(_) => self.medium.prefetch(hash),
                    Packed::Long(_) => self.long.prefetch(hash),
                }
            }
            if self.long.segment_count() > SEGMENTS_NEAR {
                for &(hash, packed) in &begun[..group.len()] {
                    if matches!(packed, Packed::Long(_))
                        && let Some(entry) = self.long.find(hash, |entry| entry.hash == hash)
                    {
                        entry.key.prefetch();
                    }
                }
            }
            let reseeds = self.reseeds;
            for (&(hash, packed), &(_, value)) in begun.iter().zip(group) {
                // A flood may change the seed in between; then the hash is made again.
                let hash = if reseeds == self.reseeds {
                    hash
                } else {
                    self.seed.hash(packed)
                };
                self.add_hashed(hash, packed, value, &reduce);
            }
        }
    }

    /// As [`merge_from`](Self::merge_from), with `value_of` each value of the other table, which may be of
    /// another type.
    pub(crate) fn merge_mapped<W: Copy>(
        &mut self,
        other: &KeyTable<W>,
        value_of: impl FnMut(W) -> V,
        reduce: impl Fn(V, V) -> V,
    ) {
        if !self.limit.is_thinned() {
            // What both kept is exact, and stays. Whoever divides the memory has room for all of it.
            self.limit.lift();
        }
        self.merge_entries(other, value_of, reduce);
    }

    /// As [`merge_from`](Self::merge_from), but within the table's limit whatever it does there: for a table
    /// that others are merged into again and again. The entries are counted in `begun` before each is merged:
    /// should `reduce` panic, all but the last one begun are in the table.
    pub(crate) fn merge_within(
        &mut self,
        other: &KeyTable<V>,
        begun: &mut usize,
        reduce: impl Fn(V, V) -> V,
    ) {
        // How many records came together in a value that is refused is known for all of them only.
        let per_value = other.records_per_value();
        let before = self.limit.overflow.other;
        self.limit.stands_for = per_value;
        let value_of = |value| {
            *begun += 1;
            value
        };
        self.merge_entries(other, value_of, reduce);
        self.limit.stands_for = 0;
        if per_value > 1 {
            let lost = self.limit.overflow.other - before;
            let refused = lost.saturating_sub(other.limit.overflow.other) / per_value;
            // A table whose records were all refused has no keys.
            let keys = other.len() as u64;
            let kept = keys.saturating_sub(refused);
            let most = per_value
                .saturating_add(keys.saturating_sub(1))
                .saturating_sub(kept);
            self.limit.overflow.other =
                before + lost.min(most.saturating_add(other.limit.overflow.other));
        }
    }

    /// A table of the entries that [`merge_within`](Self::merge_within) has not merged of this
    /// one, after it panicked with so many begun.
    pub(crate) fn not_merged(&self, begun: usize) -> KeyTable<V> {
        let mut rest = self.empty_like();
        for (key, value) in self.iter_kept().skip(begun.saturating_sub(1)) {
            rest.add(key, value, |_, new| new);
        }
        rest.set_overflow(self.overflow());
        rest
    }

    fn merge_entries<W: Copy>(
        &mut self,
        other: &KeyTable<W>,
        mut value_of: impl FnMut(W) -> V,
        reduce: impl Fn(V, V) -> V,
    ) {
        let was_empty = self.is_empty();
        for entry in other.short.iter() {
            let packed = Packed::Short(u64::from_le_bytes(entry.key));
            let value = value_of(entry.value);
            self.add_hashed(self.seed.hash(packed), packed, value, &reduce);
        }
        for entry in other.medium.iter() {
            let packed = Packed::Medium(u128::from_le_bytes(entry.key));
            let value = value_of(entry.value);
            self.add_hashed(self.seed.hash(packed), packed, value, &reduce);
        }
        for entry in other.long.iter() {
            let key = long_bytes(entry);
            let is_same = self.seed == other.seed;
            let hash = if is_same {
                entry.hash
            } else {
                self.seed.hash_long(key)
            };
            let value = value_of(entry.value);
            self.add_hashed(hash, Packed::Long(key), value, &reduce);
        }
        self.add_overflow(other, was_empty);
    }

    /// Every value, to be changed.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        let short = self.short.iter_mut().map(|Short { value, .. }| value);
        let medium = self.medium.iter_mut().map(|Medium { value, .. }| value);
        let long = self.long.iter_mut().map(|Long { value, .. }| value);
        short.chain(medium).chain(long)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::keys::Seed;
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    proptest! {
        #[test]
        fn many_at_once_are_as_one_by_one(
            words in proptest::collection::vec((0usize..40, 0usize..45, any::<u32>()), 1..300),
        ) {
            let around: Vec<u8> = (0..200u32).map(|n| (n.wrapping_mul(97) % 5) as u8).collect();
            let reduce = |a: u32, b: u32| a.wrapping_mul(31).wrapping_add(b);
            let seed = Seed::from_words(1, 2, 3);
            let (mut one_by_one, mut at_once) = (KeyTable::new(seed), KeyTable::new(seed));
            let mut pairs = Vec::new();
            for &(start, len, value) in &words {
                one_by_one.add(&around[start..start + len], value, reduce);
                pairs.push((start as u64 | (len as u64) << 32, value));
            }
            at_once.add_each_within(&around, &pairs, reduce);
            prop_assert_eq!(at_once.len(), one_by_one.len());
            for (key, value) in one_by_one.iter() {
                prop_assert_eq!(at_once.get(key), Some(value));
            }
            for value in at_once.values_mut() {
                *value = !*value;
            }
            let mut other = KeyTable::<u64>::new(Seed::from_words(4, 5, 6));
            other.merge_mapped(&at_once, |value| u64::from(!value) + 1, |_, _| unreachable!());
            prop_assert_eq!(other.len(), one_by_one.len());
            for (key, value) in one_by_one.iter() {
                prop_assert_eq!(other.get(key), Some(u64::from(value) + 1));
            }
        }
    }

    #[test]
    fn what_a_panic_kept_from_being_merged_is_all_but_what_was_merged() {
        let mut batch = KeyTable::<u64>::new(Seed::random());
        for number in 0..100u64 {
            let key = format!("{number}{}", "-".repeat(number as usize % 30));
            batch.add(key.as_bytes(), number, |a, b| a + b);
        }
        let mut into = batch.empty_like();
        into.merge_from(&batch, |a, b| a + b);
        for fails_at in [1, 40, 100] {
            let mut into = into.not_merged(0);
            let (calls, mut begun) = (Cell::new(0), 0);
            let merged = catch_unwind(AssertUnwindSafe(|| {
                into.merge_within(&batch, &mut begun, |a, b| {
                    calls.set(calls.get() + 1);
                    assert!(calls.get() != fails_at, "the function fails");
                    a + b
                });
            }));
            assert!(merged.is_err() && begun == fails_at, "{begun}");
            into.merge_within(&batch.not_merged(begun), &mut 0, |a, b| a + b);
            assert_eq!(into.len(), batch.len());
            for (key, value) in batch.iter() {
                assert_eq!(into.get(key), Some(2 * value), "{fails_at}");
            }
        }
    }
}
