//! Many keys of a table at once: gathered pairs, another table, all values.
//!
//! Promise: the same table as from one `add` after the other. Must not know: where the keys come
//! from.

use super::class::{StoredKey, TableEntry, by_class};
use super::keys::{self, PackedKey};
use super::segments::SegmentedTable;
use super::{GROUP, KeyTable, SEGMENTS_NEAR, key_at, reduced};

/// A merge within the cap that has begun.
pub(crate) struct MergeWithin {
    was_empty: bool,
    other_before: u64,
}

impl<V: Copy> KeyTable<V> {
    /// Returns `true` if keys of some class have outgrown the second-level cache.
    pub(crate) fn is_large(&self) -> bool {
        let segments = [
            self.short.segment_count(),
            self.medium.segment_count(),
            self.long.segment_count(),
        ];
        segments.into_iter().any(|count| count > SEGMENTS_NEAR)
    }

    /// Requests the memory of the long key with this hash.
    #[inline(always)]
    pub(super) fn prefetch_long(&self, hash: u64) {
        if let Some(entry) = self.long.find(hash, |entry| entry.key.hash == hash) {
            entry.key.prefetch();
        }
    }

    /// As [`add`](Self::add) for each pair. A key is its place in `around`, where 16 bytes follow
    /// the key's first one: start in the low, length in the high 32 bits.
    ///
    /// As in `count_each_long`, the memory of a group is requested before the first key needs it.
    pub(crate) fn add_each_within(
        &mut self,
        around: &[u8],
        pairs: &[(u64, V)],
        reduce: impl Fn(V, V) -> V,
    ) {
        for group in pairs.chunks(GROUP) {
            let mut begun = [(0, PackedKey::Short(0)); GROUP];
            for (begun, &(place, _)) in begun.iter_mut().zip(group) {
                let packed = keys::pack(around, key_at(around, place));
                let (hash, _) = by_class!(packed, key => self.begin(key));
                *begun = (hash, packed);
            }
            if self.long.segment_count() > SEGMENTS_NEAR {
                for &(hash, packed) in &begun[..group.len()] {
                    if matches!(packed, PackedKey::Long(_)) {
                        self.prefetch_long(hash);
                    }
                }
            }
            let reseeds = self.reseeds;
            for (&(hash, packed), &(_, value)) in begun.iter().zip(group) {
                by_class!(packed, key => {
                    let hash = self.hash_begun(key, (hash, reseeds));
                    self.upsert(hash, key, reduced(value, &reduce));
                });
            }
        }
    }

    /// As [`merge_from`](Self::merge_from), with `value_of` each value of the other table, which
    /// may have another type.
    pub(crate) fn merge_mapped<W: Copy>(
        &mut self,
        other: &KeyTable<W>,
        mut value_of: impl FnMut(W) -> V,
        reduce: impl Fn(V, V) -> V,
    ) {
        self.merge_updated(other, |old, value| reduced(value_of(value), &reduce)(old));
    }

    /// As [`merge_from`](Self::merge_from), with `update` of this table's value, or of `None` if
    /// the key is new, and of the other table's value, which may have another type.
    pub(crate) fn merge_updated<W: Copy>(
        &mut self,
        other: &KeyTable<W>,
        update: impl FnMut(Option<V>, W) -> V,
    ) {
        if !self.limit.is_thinned() {
            // What both kept is exact, and stays. Whoever divides the memory has room for all of
            // it.
            self.limit.lift();
        }
        let was_empty = self.is_empty();
        self.merge_classes(other, update);
        self.add_overflow(other, was_empty);
    }

    /// As [`merge_from`](Self::merge_from), but always within the table's cap: for a table that is
    /// merged into again and again. Each entry is counted in `begun` before it is merged: should
    /// `reduce` panic, all but the last one begun are in the table.
    pub(crate) fn merge_within(
        &mut self,
        other: &KeyTable<V>,
        begun: &mut usize,
        reduce: impl Fn(V, V) -> V,
    ) {
        let merging = self.begin_merge_within(other);
        self.merge_classes(other, |old, value| {
            *begun += 1;
            reduced(value, &reduce)(old)
        });
        self.end_merge_within(other, merging);
    }

    /// The keys of `other` are merged from now on, within the cap: a value that is refused stands
    /// for as many records as it may have. Returns what
    /// [`end_merge_within`](Self::end_merge_within) needs.
    pub(crate) fn begin_merge_within(&mut self, other: &KeyTable<V>) -> MergeWithin {
        self.limit.stands_for = other.records_per_value();
        MergeWithin {
            was_empty: self.is_empty(),
            other_before: self.limit.overflow.other,
        }
    }

    /// All keys of `other` were merged: adds its overflow.
    pub(crate) fn end_merge_within(&mut self, other: &KeyTable<V>, merging: MergeWithin) {
        let (before, per_value) = (merging.other_before, self.limit.stands_for);
        self.limit.stands_for = 0;
        self.add_overflow(other, merging.was_empty);
        // How many records came together in a refused value is known for all such values only.
        if per_value > 1 {
            let lost = self.limit.overflow.other - before;
            let refused = lost.saturating_sub(other.limit.overflow.other) / per_value;
            // A table whose records were all refused has no keys.
            let keys = other.len() as u64;
            let kept = keys.saturating_sub(refused);
            let most = per_value
                .saturating_add(keys.saturating_sub(1))
                .saturating_sub(kept);
            let most = most.saturating_add(other.limit.overflow.other);
            self.limit.overflow.other = before + lost.min(most);
        }
    }

    /// A table of the entries of this one that [`merge_within`](Self::merge_within) has not merged,
    /// after it panicked with `begun` entries begun.
    pub(crate) fn not_merged(&self, begun: usize) -> KeyTable<V> {
        let mut rest = self.empty_like();
        for (key, value) in self.iter_kept().skip(begun.saturating_sub(1)) {
            rest.add(key, value, |_, new| new);
        }
        rest.set_overflow(self.overflow());
        rest
    }

    fn merge_classes<W: Copy>(
        &mut self,
        other: &KeyTable<W>,
        mut update: impl FnMut(Option<V>, W) -> V,
    ) {
        self.merge_class(&other.short, other, &mut update);
        self.merge_class(&other.medium, other, &mut update);
        self.merge_class(&other.long, other, &mut update);
    }

    fn merge_class<K: StoredKey, W: Copy>(
        &mut self,
        entries: &SegmentedTable<TableEntry<K, W>>,
        other: &KeyTable<W>,
        update: &mut impl FnMut(Option<V>, W) -> V,
    ) {
        for entry in entries.iter() {
            let key = entry.key.lookup();
            // Asked for each entry: a flood may change the seed of this table.
            let hash = entry.key.hash_under(&self.seed, &other.seed);
            self.upsert(hash, key, |old| update(old, entry.value));
        }
    }

    /// All values, mutably.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        let short = self.short.iter_mut().map(|entry| &mut entry.value);
        let medium = self.medium.iter_mut().map(|entry| &mut entry.value);
        let long = self.long.iter_mut().map(|entry| &mut entry.value);
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
