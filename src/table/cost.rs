//! What keys cost in memory, before they are there.
//!
//! Promise: keys of a [`KeyTable`] that come into what a [`Cost`] was made for take no more than [`Cost::of`] says.
//! Must not know: who asks, and what happens when it is too much.

use super::{KeyTable, Long, Medium, Short};

/// Bytes a key takes, by its class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(super) short: usize,
    pub(super) medium: usize,
    pub(super) long: usize,
    /// For each byte of a long key, beside that.
    pub(super) long_byte: usize,
}

/// A segment of a table is split when it is full to 7/8, and then its halves are full to 7/16 on average; 2/5 is below what
/// chance makes of that.
const PLACES_PER_KEY: (usize, usize) = (5, 2);

/// Bytes an arena holds for each byte of live keys at most, the copy while it is compacted included.
const ARENA_PER_BYTE: usize = 4;

impl Cost {
    /// Of keys in a table.
    pub(crate) fn in_table<V>() -> Cost {
        let (places, keys) = PLACES_PER_KEY;
        let place = |bytes: usize| (bytes + 1) * places / keys;
        Cost {
            short: place(size_of::<Short<V>>()),
            medium: place(size_of::<Medium<V>>()),
            long: place(size_of::<Long<V>>()),
            long_byte: ARENA_PER_BYTE,
        }
    }

    /// So many bytes for a key, whatever it is.
    pub(crate) fn of_each(bytes: usize) -> Cost {
        Cost {
            short: bytes,
            medium: bytes,
            long: bytes,
            long_byte: 0,
        }
    }

    /// Both together.
    pub(crate) fn plus(self, other: Cost) -> Cost {
        Cost {
            short: self.short + other.short,
            medium: self.medium + other.medium,
            long: self.long + other.long,
            long_byte: self.long_byte + other.long_byte,
        }
    }

    /// Of all keys of `table`.
    pub(crate) fn of<V: Copy>(&self, table: &KeyTable<V>) -> usize {
        table.short.len() * self.short
            + table.medium.len() * self.medium
            + table.long.len() * self.long
            + table.arena.live() * self.long_byte
    }

    /// Of a long key of so many bytes.
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
