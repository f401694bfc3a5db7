//! A finished batch, packed: to be walked through again, not to be looked up in.
//!
//! Promise: it holds what the table stored that it was filled from, in the table's order. It takes
//! the entries' bytes and, for what the batches before it needed, at most as much again. Must not
//! know: `window`, `stream`, `epoch`.
//!
//! With counts a key of up to 8 bytes takes 16 bytes, one of up to 16 takes 24, a longer one its
//! length and 16.
//!
//! If there is no room for all keys, [`FrozenTable::fill_within`] does with a whole table what a
//! full one does key by key (see `bound`): counts are thinned; of other values some keys are left
//! out. It may look at all counts first, so it takes off hardly more than it has to.

use super::KeyTable;
use super::bound::{Overflow, Rules, len_of};
use super::class::{LookupKey, MediumEntry, ShortEntry, StoredKey, TableEntry};
use super::cost::Cost;
use super::keys::PackedKey;

/// A packed table that is only read.
#[derive(Debug)]
pub struct FrozenTable<V> {
    pub(super) short: Vec<ShortEntry<V>>,
    pub(super) medium: Vec<MediumEntry<V>>,
    pub(super) long: Vec<FrozenLong<V>>,
    /// Keys of `long`, one behind the other.
    pub(super) bytes: Vec<u8>,
    /// What the table could not keep.
    overflow: Overflow,
}

/// A key of `len` bytes, which follow those of the entries before.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrozenLong<V> {
    pub(super) len: u32,
    pub(super) value: V,
}

/// Items for which memory is kept whatever was needed last.
const ITEMS_KEPT: usize = 64;

impl<V> Default for FrozenTable<V> {
    fn default() -> Self {
        FrozenTable {
            short: Vec::new(),
            medium: Vec::new(),
            long: Vec::new(),
            bytes: Vec::new(),
            overflow: Overflow::default(),
        }
    }
}

impl<V: Copy> FrozenTable<V> {
    /// An empty table without memory.
    pub fn new() -> Self {
        FrozenTable::default()
    }

    /// What keys cost here: at most twice what they need.
    pub(crate) fn cost() -> Cost {
        Cost {
            short: 2 * size_of::<ShortEntry<V>>(),
            medium: 2 * size_of::<MediumEntry<V>>(),
            long: 2 * size_of::<FrozenLong<V>>(),
            long_byte: 2,
        }
    }

    /// Replaces the content by that of `table`, in the present memory as far as it fits.
    pub fn fill_from(&mut self, table: &KeyTable<V>) {
        self.overflow = table.overflow();
        make_room(&mut self.short, table.short.len());
        self.short.extend(table.short.iter());
        make_room(&mut self.medium, table.medium.len());
        self.medium.extend(table.medium.iter());
        make_room(&mut self.long, table.long.len());
        make_room(&mut self.bytes, table.arena.live());
        for entry in table.long.iter() {
            self.push_long(entry.key.bytes(), entry.value);
        }
    }

    /// As [`fill_from`](Self::fill_from), but with as many keys as cost no more than `allowed`
    /// bytes. What is left out or taken off is in [`overflow`](Self::overflow).
    pub(crate) fn fill_within(&mut self, table: &KeyTable<V>, allowed: usize, cost: &Cost) {
        if cost.of(table) <= allowed {
            return self.fill_from(table);
        }
        let rules = &table.limit.rules;
        let per_value = table.records_per_value();
        let mut selection = KeySelection {
            off: 0,
            left: allowed,
            key_bytes_max: key_bytes_max(allowed, cost),
        };
        if table.limit.is_thinned() {
            selection.off = count_to_take_off(table, allowed, cost);
        }
        // Once to see how much room is needed, and once more for what is kept.
        let [mut shorts, mut mediums, mut longs, mut bytes] = [0; 4];
        let mut first = selection;
        table.each_kept(|key, value| {
            if first.keeps(cost.of_key(key), (rules.records)(value)) {
                match key {
                    PackedKey::Short(_) => shorts += 1,
                    PackedKey::Medium(_) => mediums += 1,
                    PackedKey::Long(key) => (longs, bytes) = (longs + 1, bytes + key.len()),
                }
            }
        });
        make_room(&mut self.short, shorts);
        make_room(&mut self.medium, mediums);
        make_room(&mut self.long, longs);
        make_room(&mut self.bytes, bytes);
        let mut lost = LostRecords {
            selection,
            rules,
            overflow: table.overflow(),
            missing: 0,
        };
        table.each_kept(|key, value| {
            if let Some(value) = lost.left_of(value, len_of(key), cost.of_key(key)) {
                self.push(key, value);
            }
        });
        self.overflow = lost.overflow;
        if per_value > 1 && lost.missing > 0 {
            // How many records came together in a value is known for all of them only.
            let all = per_value.saturating_add(table.len() as u64 - 1);
            let left = all.saturating_sub(self.len() as u64);
            self.overflow.other = table.overflow().other.saturating_add(left);
            lost.missing = per_value;
        }
        self.overflow.missing = self.overflow.missing.saturating_add(lost.missing);
        self.overflow.error = self.overflow.error.saturating_add(selection.off);
        if self.overflow.full_at == 0 {
            self.overflow.full_at = self.len() as u64;
        }
    }

    /// Bytes held of the allocator, and the struct's own.
    pub(crate) fn held_bytes(&self) -> usize {
        size_of::<Self>()
            + self.short.capacity() * size_of::<ShortEntry<V>>()
            + self.medium.capacity() * size_of::<MediumEntry<V>>()
            + self.long.capacity() * size_of::<FrozenLong<V>>()
            + self.bytes.capacity()
    }

    fn push(&mut self, key: PackedKey<'_>, value: V) {
        match key {
            PackedKey::Short(key) => {
                let key = key.to_le_bytes();
                self.short.push(TableEntry { key, value });
            }
            PackedKey::Medium(key) => {
                let key = key.to_le_bytes();
                self.medium.push(TableEntry { key, value });
            }
            PackedKey::Long(key) => self.push_long(key, value),
        }
    }

    fn push_long(&mut self, key: &[u8], value: V) {
        self.bytes.extend_from_slice(key);
        self.long.push(FrozenLong {
            len: u32::try_from(key.len()).expect("RECORD_BYTES_MAX fits"),
            value,
        });
    }

    /// What the table could not keep from which this one was filled, and what this one could not
    /// keep.
    pub(crate) fn overflow(&self) -> Overflow {
        self.overflow
    }

    /// Returns `true` if there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.short.len() + self.medium.len() + self.long.len()
    }

    /// All values, mutably.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        let short = self.short.iter_mut().map(|entry| &mut entry.value);
        let medium = self.medium.iter_mut().map(|entry| &mut entry.value);
        let long = self.long.iter_mut().map(|entry| &mut entry.value);
        short.chain(medium).chain(long)
    }

    /// Every key with its value, always in the same order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], V)> {
        let short = self.short.iter().map(TableEntry::pair);
        let medium = self.medium.iter().map(TableEntry::pair);
        let mut bytes = &self.bytes[..];
        let long = self.long.iter().map(move |entry| {
            let (key, rest) = bytes.split_at(entry.len as usize);
            bytes = rest;
            (key, entry.value)
        });
        short.chain(medium).chain(long)
    }
}

impl<V: Copy> KeyTable<V> {
    /// Calls `f` with every key and its stored value, in the order of [`iter`](KeyTable::iter).
    #[inline]
    fn each_kept(&self, mut f: impl FnMut(PackedKey<'_>, V)) {
        for entry in self.short.iter() {
            f(entry.key.lookup().packed(), entry.value);
        }
        for entry in self.medium.iter() {
            f(entry.key.lookup().packed(), entry.value);
        }
        for entry in self.long.iter() {
            f(entry.key.lookup().packed(), entry.value);
        }
    }
}

/// Which keys are kept.
#[derive(Clone, Copy)]
struct KeySelection {
    /// What is taken off every count.
    off: u64,
    /// Bytes still free.
    left: usize,
    /// The most bytes one key may take, so that others have room; see [`key_bytes_max`].
    key_bytes_max: usize,
}

/// A key may take one part in this many of the room.
const KEY_SHARE: usize = 16;

/// A key of up to this many bytes may take all the room, however little that is: the most frequent
/// one is kept.
const ORDINARY_KEY_BYTES: usize = 256;

/// What one key may take of `allowed` bytes.
fn key_bytes_max(allowed: usize, cost: &Cost) -> usize {
    (allowed / KEY_SHARE).max(cost.of_long(ORDINARY_KEY_BYTES))
}

impl KeySelection {
    /// Returns `true` if the next key is kept, which costs `bytes` and stands for `records`.
    #[inline]
    fn keeps(&mut self, bytes: usize, records: u64) -> bool {
        let is_kept = records > self.off && bytes <= self.left.min(self.key_bytes_max);
        if is_kept {
            self.left -= bytes;
        }
        is_kept
    }
}

/// What is lost with the keys that are not kept.
struct LostRecords<'a, V> {
    selection: KeySelection,
    rules: &'a Rules<V>,
    overflow: Overflow,
    /// The most records of a key that was left out.
    missing: u64,
}

impl<V: Copy> LostRecords<'_, V> {
    /// What remains of the value of the next key of `len` bytes, if the key is kept.
    fn left_of(&mut self, value: V, len: u64, bytes: usize) -> Option<V> {
        let records = (self.rules.records)(value);
        let (off, overflow) = (self.selection.off, &mut self.overflow);
        let is_kept = self.selection.keeps(bytes, records);
        if !is_kept && records > off {
            overflow.other = overflow.other.saturating_add(records);
            // A key is in a table once, so it lacks no more than the largest.
            self.missing = self.missing.max(records);
            let lost = records.wrapping_mul(len);
            overflow.other_bytes = overflow.other_bytes.wrapping_add(lost);
            return None;
        }
        let taken = off.min(records);
        overflow.thinned = overflow.thinned.saturating_add(taken);
        let taken = taken.wrapping_mul(len);
        overflow.thinned_bytes = overflow.thinned_bytes.wrapping_add(taken);
        is_kept.then(|| match off {
            0 => value,
            off => (self.rules.less)(value, off),
        })
    }
}

/// log2 of the number of steps into which counts with the same number of binary digits are divided.
const STEPS_LOG2: u32 = 6;

/// A count above which the keys cost no more than `allowed` bytes. It is the least such count, or
/// less than two in a hundred above it.
fn count_to_take_off<V: Copy>(table: &KeyTable<V>, allowed: usize, cost: &Cost) -> u64 {
    let records = table.limit.rules.records;
    let key_bytes_max = key_bytes_max(allowed, cost).min(allowed);
    let each = |see: &mut dyn FnMut(u64, usize)| {
        table.each_kept(|key, value| {
            let bytes = cost.of_key(key);
            // Keys that are too long go whatever their counts are.
            if bytes <= key_bytes_max {
                see(records(value), bytes);
            }
        });
    };
    let mut by_digits = [0usize; 65];
    each(&mut |count, bytes| by_digits[(64 - count.leading_zeros()) as usize] += bytes);
    let (mut left, mut digits) = (allowed, 64);
    while digits > 0 && by_digits[digits] <= left {
        left -= by_digits[digits];
        digits -= 1;
    }
    if digits == 0 {
        return 0;
    }
    // Some of the counts from `low` to `2 * low - 1` have room.
    let low = 1u64 << (digits - 1);
    let shift = (digits as u32 - 1).saturating_sub(STEPS_LOG2);
    let mut by_step = [0usize; 1 << STEPS_LOG2];
    each(&mut |count, bytes| {
        if 64 - count.leading_zeros() == digits as u32 {
            by_step[((count - low) >> shift) as usize] += bytes;
        }
    });
    let mut step = by_step.len();
    while step > 0 && by_step[step - 1] <= left {
        left -= by_step[step - 1];
        step -= 1;
    }
    // In this order it is `u64::MAX` at most.
    low - 1 + ((step as u64) << shift)
}

/// Empties `items`, and makes room for `count` of them, and for no more than about twice as many.
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
    use crate::config::OnLimit;
    use crate::table::bound::MemoryCap;
    use crate::table::keys::Seed;

    fn table(keys: impl Iterator<Item = usize>) -> KeyTable<u64> {
        let mut table = KeyTable::new(Seed::random());
        for number in keys {
            let key = format!("{number}{}", "\0".repeat(number % 30));
            table.add(key.as_bytes(), number as u64, |a, b| a + b);
        }
        table
    }

    fn held(frozen: &FrozenTable<u64>) -> usize {
        frozen.held_bytes() - size_of::<FrozenTable<u64>>()
    }

    /// Counts from a user-supplied function may be any numbers.
    #[test]
    fn the_largest_numbers_are_thinned_as_others_are() {
        let cap = MemoryCap::new(usize::MAX - 1, OnLimit::Approximate);
        let mut table = KeyTable::counting(Seed::random(), cap);
        for number in 0..1000u64 {
            table.add(format!("{number}").as_bytes(), u64::MAX - number, |a, _| a);
        }
        let mut frozen = FrozenTable::new();
        frozen.fill_within(&table, 4000, &FrozenTable::<u64>::cost());
        let Overflow { error, other, .. } = frozen.overflow();
        assert!(frozen.is_empty() && other == 0);
        assert_eq!(
            (error, frozen.overflow().plus(frozen.overflow()).error),
            (u64::MAX, u64::MAX)
        );
    }

    #[test]
    fn a_frozen_table_holds_what_the_table_held_and_gives_a_bursts_memory_back() {
        let mut frozen = FrozenTable::new();
        let mut after_burst = 0;
        for count in [500, 40_000, 0, 700, 700] {
            let table = table(0..count);
            frozen.fill_from(&table);
            assert_eq!(frozen.len(), count);
            assert!(frozen.iter().eq(table.iter()), "same order");
            let bytes: usize = table.iter().map(|(key, _)| key.len() + 24).sum();
            assert!(held(&frozen) <= 2 * bytes + 64 * 57, "{count}");
            after_burst = held(&frozen);
        }
        frozen.fill_from(&table(0..600));
        assert_eq!(held(&frozen), after_burst, "about the same needs the same");
    }

    /// Otherwise a few giant keys would take the room of a thousand others.
    #[test]
    fn one_key_has_no_more_than_its_share_of_what_there_is_room_for() {
        let cost = FrozenTable::<u64>::cost();
        let allowed = 64_000;
        let mut table = KeyTable::new(Seed::random());
        for number in 0..100u64 {
            table.add(&number.to_le_bytes()[..1], 1, |a, b| a + b);
        }
        // Within a sixteenth, and beyond it, though one of the giants would fit.
        let large = [b'l'; 1500];
        assert!(cost.of_long(large.len()) < allowed / 16);
        table.add(&large, 1, |a, b| a + b);
        for giant in [[b'x'; 20_000], [b'y'; 20_000]] {
            table.add(&giant, 1, |a, b| a + b);
        }
        let mut frozen = FrozenTable::new();
        frozen.fill_within(&table, allowed, &cost);
        assert_eq!((frozen.len(), frozen.overflow().other), (101, 2));
        let longest = frozen.iter().map(|(key, _)| key.len()).max();
        assert_eq!(longest, Some(large.len()));
    }
}
