//! Counts the words that make up most of a stream, in front of the table.
//!
//! Promise: after [`HotWords::flush`] the table holds every key exactly as often as it was counted
//! in a slot or passed as a miss. Must not know: where keys come from, when an epoch ends.
//!
//! The naive version is `for key in keys { table.add(key, 1) }`: a hash, a comparison of tags, one
//! of keys, and a branch that is mispredicted whenever another key occupied the position. What was
//! done:
//!
//! 1. A direct-mapped array of `HOT_SLOTS` keys stands in front, and fits the second-level cache.
//!    Of tokens of 1 to 8 bytes it holds 96 % in the King James Bible, 93 % in our generator's
//!    text, 88 % in a dictionary, 85 % in Zipf text of a million words. Half the slots: 93, 88, 83
//!    and 79 %, and 5 % slower.
//! 2. Whoever splits a chunk looks its tokens up here (`shard::pack`), without a branch: a token
//!    that is not hot adds nothing to a count, and goes on a list of misses.
//! 3. With vectors the look-up returns slot numbers, including those of slots that count nothing,
//!    and the counts are added up in a loop of their own.
//! 4. Misses go to the table many at a time, so that their cache misses overlap. In a table that
//!    outgrew the caches they wait (`partitioned`) until their part of it is worth fetching. A miss
//!    takes its slot over once it has been seen more than twice as often as the key that has the
//!    slot. Both counts are of the same epoch, so a slot settles on the most frequent of its keys
//!    and does not swing between two.
//!
//! Dropped: evicting in the first loop (a branch for each token); choosing the keys at fixed points
//! from the whole table (a pause, and blind in between); taking whatever key comes first (in a
//! stream whose vocabulary drifts the slots are worthless after a while).

use crate::limits::HOT_SLOTS_LOG2;
use crate::table::KeyTable;
use crate::table::keys::Seed;
use crate::table::partitioned::Partitioned;

const HOT_SLOTS: usize = 1 << HOT_SLOTS_LOG2;

/// The first slot that counts nothing, for tokens that are not hot.
#[cfg(target_arch = "x86_64")]
pub(crate) const NO_SLOT: u16 = HOT_SLOTS as u16;

/// One counter for every `u16`, which saves the bounds check. Those above `NO_SLOT + 8` are never
/// touched.
const COUNTERS: usize = 1 << 16;

const _: () = assert!(HOT_SLOTS + 8 <= COUNTERS);

/// Keys that may be counted before a slot's 32-bit count could overflow.
const KEYS_BEFORE_FLUSH: u64 = u32::MAX as u64 - (1 << 20);

/// Counts hot words, and passes all other keys to a table.
pub(crate) struct HotWords {
    slots: Slots,
    /// Waiting misses (8 MiB) and keys of 9 to 16 bytes (16 MiB); no memory before a table is
    /// large.
    short: Partitioned<u64>,
    medium: Partitioned<u128>,
    /// Keys counted since the last flush.
    counted: u64,
}

/// The hot words, directly mapped.
pub(crate) struct Slots {
    /// The slot of a key is the top bits of its product with this number.
    pub(crate) multiply: u64,
    /// The key of each slot. 0 is none: no packed key of at least one byte is 0.
    pub(crate) keys: Box<[u64; HOT_SLOTS]>,
    /// How often each slot's key was counted since the last flush.
    counts: Box<[u32; COUNTERS]>,
    /// How often the table had seen each key when it took its slot, in this epoch.
    floors: Box<[u32; HOT_SLOTS]>,
    /// Whether a floor was set since the last flush.
    has_floors: bool,
}

/// Counters that a flush looks at together: in a small batch nearly all of them are 0, and a row of
/// zeros is one comparison of vectors.
const ROW: usize = 32;

const _: () = assert!(HOT_SLOTS.is_multiple_of(ROW));

impl HotWords {
    /// Empty slots. `seed` keeps an attacker from choosing keys that share one.
    pub(crate) fn new(seed: Seed) -> Self {
        HotWords {
            slots: Slots {
                multiply: seed.hash_short(1) | 1,
                keys: zeros(),
                counts: zeros(),
                floors: zeros(),
                has_floors: false,
            },
            short: Partitioned::new(),
            medium: Partitioned::new(),
            counted: 0,
        }
    }

    /// Returns `true` if nothing was counted here since the last flush.
    pub(crate) fn is_flushed(&self) -> bool {
        self.counted == 0
    }

    /// The slots to count the hot words of a chunk of `tokens` tokens in. Its other tokens then go
    /// to `count_misses` and `count_medium`.
    pub(crate) fn slots(&mut self, tokens: usize, table: &mut KeyTable<u64>) -> &mut Slots {
        if self.counted > KEYS_BEFORE_FLUSH {
            self.flush(table);
        }
        self.counted += tokens as u64;
        &mut self.slots
    }

    /// Counts packed keys of 1 to 8 bytes that have no slot.
    pub(crate) fn count_misses(&mut self, misses: &[u64], table: &mut KeyTable<u64>) {
        if table.is_worth_partitioning::<u64>() {
            let seed = table.seed();
            let look_up = |keys: &[u64]| self.slots.look_up(keys, table);
            self.short.push(misses, |key| seed.hash_short(key), look_up);
        } else {
            self.slots.look_up(misses, table);
        }
    }

    /// Counts packed keys of 9 to 16 bytes.
    pub(crate) fn count_medium(&mut self, keys: &[u128], table: &mut KeyTable<u64>) {
        if table.is_worth_partitioning::<u128>() {
            let seed = table.seed();
            let look_up = |keys: &[u128]| table.count_each(keys, &mut |_, _, _| {});
            self.medium.push(keys, |key| seed.hash_medium(key), look_up);
        } else {
            table.count_each(keys, &mut |_, _, _| {});
        }
    }

    /// Moves all counts into `table`. The keys keep their slots for the next epoch.
    pub(crate) fn flush(&mut self, table: &mut KeyTable<u64>) {
        if self.counted == 0 {
            return;
        }
        self.short.drain(|keys| self.slots.look_up(keys, table));
        self.medium
            .drain(|keys| table.count_each(keys, &mut |_, _, _| {}));
        self.slots.flush(table);
        self.counted = 0;
    }
}

impl Slots {
    /// The only slot that a packed key may be in.
    #[inline(always)]
    fn slot_of(&self, key: u64) -> usize {
        (key.wrapping_mul(self.multiply) >> (64 - HOT_SLOTS_LOG2)) as usize
    }

    /// Counts the key and returns `true` if it is hot. No branch.
    #[inline(always)]
    pub(crate) fn count(&mut self, key: u64) -> bool {
        let slot = self.slot_of(key);
        let is_hot = self.keys[slot] == key;
        self.counts[slot] += u32::from(is_hot);
        is_hot
    }

    /// Adds one to the count of each slot. The slots from `NO_SLOT` on count nothing.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(crate) fn add_up(&mut self, slots: &[u16]) {
        for &slot in slots {
            // Wrapping: the counters that count nothing are never read or reset.
            let count = &mut self.counts[usize::from(slot)];
            *count = count.wrapping_add(1);
        }
    }

    /// Counts misses in the table. Those that turn out to be frequent take their slot over.
    fn look_up(&mut self, misses: &[u64], table: &mut KeyTable<u64>) {
        table.count_each(misses, &mut |table, key, seen| {
            let slot = self.slot_of(key);
            let incumbent = u64::from(self.floors[slot]) + u64::from(self.counts[slot]);
            if seen > 2 * incumbent {
                self.take_over(slot, key, seen, table);
            }
        });
    }

    fn take_over(&mut self, slot: usize, key: u64, seen: u64, table: &mut KeyTable<u64>) {
        if self.counts[slot] > 0 {
            table.count_short(self.keys[slot], u64::from(self.counts[slot]));
        }
        self.keys[slot] = key;
        self.counts[slot] = 0;
        self.floors[slot] = u32::try_from(seen).unwrap_or(u32::MAX);
        self.has_floors = true;
    }

    fn flush(&mut self, table: &mut KeyTable<u64>) {
        let (keys, _) = self.keys.as_chunks::<ROW>();
        let (counts, _) = self.counts.as_chunks_mut::<ROW>();
        for (keys, counts) in keys.iter().zip(counts) {
            if counts.iter().fold(0, |any, count| any | count) == 0 {
                continue;
            }
            for (key, count) in keys.iter().zip(counts) {
                if *count > 0 {
                    table.count_short(*key, u64::from(*count));
                    *count = 0;
                }
            }
        }
        if std::mem::take(&mut self.has_floors) {
            self.floors.fill(0);
        }
    }
}

/// A boxed array of zeros that was never on the stack.
pub(crate) fn zeros<T: Copy + Default, const N: usize>() -> Box<[T; N]> {
    match vec![T::default(); N].into_boxed_slice().try_into() {
        Ok(array) => array,
        Err(_) => unreachable!("the vector has N elements"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn whatever_is_counted_is_in_the_table_after_a_flush() {
        let mut random = 1u64;
        let mut next = || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            random >> 33
        };
        let seed = Seed::from_words(1, 2, 3);
        let (mut hot, mut table) = (HotWords::new(seed), KeyTable::new(seed));
        for epoch in 0..4 {
            let mut model = BTreeMap::new();
            for _ in 0..40 {
                // Few keys often, many keys rarely, and others in each epoch: slots change their
                // keys.
                let keys: Vec<u64> = (0..next() % 3000)
                    .map(|_| {
                        let bound = if next() % 4 > 0 { 50 } else { 200_000 };
                        1 + next() % bound + epoch * 1000
                    })
                    .collect();
                let slots = hot.slots(keys.len(), &mut table);
                let (mut numbers, mut misses) = (Vec::new(), Vec::new());
                for (index, &key) in keys.iter().enumerate() {
                    let slot = slots.slot_of(key);
                    let is_hot = if index % 2 == 0 {
                        slots.count(key)
                    } else {
                        slots.keys[slot] == key
                    };
                    // In one of the two ways, and what is not hot in neither.
                    let slot = if is_hot && index % 2 == 1 {
                        slot as u16
                    } else {
                        NO_SLOT
                    };
                    numbers.push(slot);
                    misses.extend((!is_hot).then_some(key));
                    *model.entry(key).or_insert(0u64) += 1;
                }
                slots.add_up(&numbers);
                hot.count_misses(&misses, &mut table);
            }
            hot.flush(&mut table);
            assert_eq!(table.len(), model.len());
            for (key, count) in &model {
                let bytes = key.to_le_bytes();
                assert_eq!(table.get(crate::table::keys::unpack(&bytes)), Some(*count));
            }
            table.clear();
        }
    }
}
