//! What keys cost in memory, before they are there.
//!
//! Promise: keys of a [`KeyTable`] take no more than [`Cost::of`] says, in the place the [`Cost`]
//! was made for. Must not know: who asks, what happens when it is too much.

use super::KeyTable;
use super::class::{LongEntry, MediumEntry, ShortEntry};
use super::keys::PackedKey;

/// Bytes a key takes, by its class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(super) short: usize,
    pub(super) medium: usize,
    pub(super) long: usize,
    /// In addition, for each byte of a long key.
    pub(super) long_byte: usize,
}

/// A segment of a table is split when 7/8 of it is full. Its halves are then 7/16 full on average;
/// 2/5 is below what chance makes of that.
const PLACES_PER_KEY: (usize, usize) = (5, 2);

/// Bytes an arena holds for each byte of live keys at most, the copy while it is compacted
/// included.
const ARENA_PER_BYTE: usize = 4;

impl Cost {
    /// The cost of keys in a table.
    pub(crate) fn in_table<V>() -> Cost {
        let (places, keys) = PLACES_PER_KEY;
        let place = |bytes: usize| (bytes + 1) * places / keys;
        Cost {
            short: place(size_of::<ShortEntry<V>>()),
            medium: place(size_of::<MediumEntry<V>>()),
            long: place(size_of::<LongEntry<V>>()),
            long_byte: ARENA_PER_BYTE,
        }
    }

    /// `bytes` for each key, whatever it is.
    pub(crate) fn of_each(bytes: usize) -> Cost {
        Cost {
            short: bytes,
            medium: bytes,
            long: bytes,
            long_byte: 0,
        }
    }

    /// The sum of two costs.
    pub(crate) fn plus(self, other: Cost) -> Cost {
        Cost {
            short: self.short + other.short,
            medium: self.medium + other.medium,
            long: self.long + other.long,
            long_byte: self.long_byte + other.long_byte,
        }
    }

    /// The cost of all keys of `table`.
    pub(crate) fn of<V: Copy>(&self, table: &KeyTable<V>) -> usize {
        table.short.len() * self.short
            + table.medium.len() * self.medium
            + table.long.len() * self.long
            + table.arena.live() * self.long_byte
    }

    /// The cost of one key.
    #[inline]
    pub(super) fn of_key(&self, key: PackedKey<'_>) -> usize {
        match key {
            PackedKey::Short(_) => self.short,
            PackedKey::Medium(_) => self.medium,
            PackedKey::Long(key) => self.of_long(key.len()),
        }
    }

    /// The cost of a long key of `len` bytes.
    pub(super) fn of_long(&self, len: usize) -> usize {
        self.long + len * self.long_byte
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::frozen::FrozenTable;
    use crate::table::keys::Seed;

    #[test]
    fn keys_take_no_more_than_was_said() {
        let (mut table, mut frozen) = (KeyTable::new(Seed::random()), FrozenTable::new());
        // What there is without any key is not for keys.
        let empty = table.allocated_bytes();
        for number in 0..200_000u64 {
            let key = match number % 4 {
                0 => format!("{number}"),
                1 => format!("number {number:08}"),
                2 => format!("the number of this key is {number}"),
                _ => format!("{number:0100}"),
            };
            table.add(key.as_bytes(), number, |a, b| a + b);
            if number % 10_000 == 9 {
                frozen.fill_from(&table);
                let said = Cost::in_table::<u64>().of(&table) + empty;
                let taken = table.allocated_bytes();
                assert!(taken <= said, "{taken} {said} with {number} keys");
                // Tight enough to be of use.
                assert!(number < 20_000 || 4 * taken > said, "{taken} {said}");
                let said = FrozenTable::<u64>::cost().of(&table);
                assert!(frozen.held_bytes() <= said + 64 * 64 + 200, "{number}");
            }
        }
    }

    #[test]
    fn what_comes_into_two_places_costs_as_much_as_both() {
        let (one, two) = (Cost::in_table::<u64>(), FrozenTable::<u32>::cost());
        let both = one.plus(two);
        let mut table = KeyTable::new(Seed::random());
        for key in [
            &b"short"[..],
            b"of medium size",
            b"so long that it is kept apart",
        ] {
            table.add(key, 1u64, |a, b| a + b);
            assert_eq!(both.of(&table), one.of(&table) + two.of(&table));
        }
        for len in [17, 1000] {
            assert_eq!(both.of_long(len), one.of_long(len) + two.of_long(len));
        }
    }
}
