//! One key of a table at a time, where what it gets depends on whether it is there.
//!
//! Promise: one look-up, and the function is called once. Must not know: what values mean.

use super::keys::{self, Packed};
use super::{KeyTable, Long, Medium, Short, long_bytes};

impl<V: Copy> KeyTable<V> {
    /// Gives `key` what `update` makes of its value, or of `None` when the key is new. It is faster for a key
    /// that lies in `around` with 16 bytes behind its first.
    #[inline(always)]
    pub(crate) fn upsert_within(
        &mut self,
        around: &[u8],
        key: &[u8],
        update: impl FnOnce(Option<V>) -> V,
    ) {
        let packed = keys::pack(around, key);
        let hash = self.seed.hash(packed);
        match packed {
            Packed::Short(packed) => {
                let is_it = |entry: &Short<V>| u64::from_le_bytes(entry.key) == packed;
                match self.short.find_mut(hash, is_it) {
                    Some(entry) => entry.value = update(Some(entry.value)),
                    None => self.insert_short_cold(hash, packed, update(None)),
                }
            }
            Packed::Medium(packed) => {
                let is_it = |entry: &Medium<V>| u128::from_le_bytes(entry.key) == packed;
                match self.medium.find_mut(hash, is_it) {
                    Some(entry) => entry.value = update(Some(entry.value)),
                    None => self.insert_medium_cold(hash, packed, update(None)),
                }
            }
            Packed::Long(key) => {
                let is_it = |entry: &Long<V>| entry.hash == hash && long_bytes(entry) == key;
                match self.long.find_mut(hash, is_it) {
                    Some(entry) => entry.value = update(Some(entry.value)),
                    None => self.insert_long_cold(hash, key, update(None)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::keys::Seed;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
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
}
