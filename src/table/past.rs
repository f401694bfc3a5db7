//! A finished batch, packed: to be walked through again, not to be looked up in.
//!
//! Promise: it gives what the table kept it was filled from, in the table's order; it takes the entries' bytes
//! and, for what the batches before it needed, at most as much again. Refuses to know: what it is walked through for.
//!
//! With counts a key of up to 8 bytes takes 16 bytes, one of up to 16 takes 24, a longer one its length and 16.

use super::bound::Loss;
use super::keys;
use super::{Long, Medium, Short, Table, long_bytes};

/// See the module.
#[derive(Debug)]
pub struct Past<V> {
    pub(super) short: Vec<Short<V>>,
    pub(super) medium: Vec<Medium<V>>,
    pub(super) long: Vec<PastLong<V>>,
    /// Keys of `long`, one behind the other.
    pub(super) bytes: Vec<u8>,
    /// What the table could not keep.
    loss: Loss,
}

/// A key of `len` bytes, behind those of the entries before.
#[derive(Clone, Copy, Debug)]
pub(super) struct PastLong<V> {
    pub(super) len: u32,
    pub(super) value: V,
}

/// Items for which memory is kept whatever was needed last.
const ITEMS_KEPT: usize = 64;

impl<V> Default for Past<V> {
    fn default() -> Self {
        Past {
            short: Vec::new(),
            medium: Vec::new(),
            long: Vec::new(),
            bytes: Vec::new(),
            loss: Loss::default(),
        }
    }
}

impl<V: Copy> Past<V> {
    /// Empty, without memory.
    pub fn new() -> Self {
        Past::default()
    }

    /// Replaces the content by that of `table`, in the memory there is as far as it fits.
    pub fn fill_from(&mut self, table: &Table<V>) {
        self.loss = table.loss();
        make_room(&mut self.short, table.short.len());
        self.short.extend(table.short.iter());
        make_room(&mut self.medium, table.medium.len());
        self.medium.extend(table.medium.iter());
        make_room(&mut self.long, table.long.len());
        make_room(&mut self.bytes, table.arena.live());
        for entry in table.long.iter() {
            self.push_long(entry);
        }
    }

    fn push_long(&mut self, entry: &Long<V>) {
        let key = long_bytes(entry);
        self.bytes.extend_from_slice(key);
        self.long.push(PastLong {
            len: u32::try_from(key.len()).expect("RECORD_BYTES_MAX fits"),
            value: entry.value,
        });
    }

    /// What the table could not keep that it was filled from.
    pub(crate) fn loss(&self) -> Loss {
        self.loss
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.short.len() + self.medium.len() + self.long.len()
    }

    /// Every key with its value, always in the same order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], V)> {
        let short = self.short.iter();
        let short = short.map(|entry| (keys::unpack(&entry.key), entry.value));
        let medium = self.medium.iter();
        let medium = medium.map(|entry| (keys::unpack(&entry.key), entry.value));
        let mut bytes = &self.bytes[..];
        let long = self.long.iter().map(move |entry| {
            let (key, rest) = bytes.split_at(entry.len as usize);
            bytes = rest;
            (key, entry.value)
        });
        short.chain(medium).chain(long)
    }
}

/// Empties `items`, and sees to it that there is room for `count`, not more than twice that.
fn make_room<T>(items: &mut Vec<T>, count: usize) {
    items.clear();
    if items.capacity() > 2 * count + ITEMS_KEPT {
        items.shrink_to(count);
    }
    items.reserve_exact(count);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::keys::Seed;

    fn table(keys: impl Iterator<Item = usize>) -> Table<u64> {
        let mut table = Table::new(Seed::random());
        for number in keys {
            let key = format!("{number}{}", "\0".repeat(number % 30));
            table.add(key.as_bytes(), number as u64, |a, b| a + b);
        }
        table
    }

    fn held(past: &Past<u64>) -> usize {
        let short = past.short.capacity() * 16 + past.medium.capacity() * 24;
        short + past.long.capacity() * 16 + past.bytes.capacity()
    }

    #[test]
    fn a_past_holds_what_the_table_held_and_gives_a_bursts_memory_back() {
        let mut past = Past::new();
        let mut after_burst = 0;
        for count in [500, 40_000, 0, 700, 700] {
            let table = table(0..count);
            past.fill_from(&table);
            assert_eq!(past.len(), count);
            assert!(past.iter().eq(table.iter()), "same order");
            let bytes: usize = table.iter().map(|(key, _)| key.len() + 24).sum();
            assert!(held(&past) <= 2 * bytes + 64 * 57, "{count}");
            after_burst = held(&past);
        }
        past.fill_from(&table(0..600));
        assert_eq!(held(&past), after_burst, "about the same needs the same");
    }
}
