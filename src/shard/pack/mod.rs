//! Sorts the tokens of a chunk: counts those that are hot words, and lists the others.
//!
//! Promise: every token goes exactly one of four ways, and all implementations choose the same one:
//! it is empty, or counted as a hot word, or a miss (1 to 8 bytes, packed), or long (9 bytes and
//! more, by its place). Must not know: rings, epochs, what is done with the
//! lists.
//!
//! The naive version is a look-up for each token as it is split. Here each step is a loop over all
//! tokens of the chunk, without a branch that depends on the data: a token is written to all lists,
//! and only the length of the right one grows. `portable` takes one token a step in two loops,
//! `avx2` packs eight a step, `avx512` looks them up in the same step. Rows of empty tokens are
//! skipped eight at a time: text is indented, and a row of blanks would be the slowest of all
//! inputs.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod lanes;

use crate::split::{CHUNK_BYTES_MAX, IndexedChunk, Kernel};
use crate::table::hot::{Slots, zeros};

/// Places of a list: one for each token a chunk may have, and a vector more, so that whole vectors
/// may be stored however many lanes count.
const LIST_LEN: usize = CHUNK_BYTES_MAX + 64;

/// The most tokens of 9 to 16 bytes in a chunk: one of nine bytes and its end take ten.
pub(super) const MEDIUM_LEN: usize = CHUNK_BYTES_MAX / 10 + 2;

/// A mask that changes no index into a list, because there is at most one token a byte of a chunk.
/// It saves the bounds check.
const INDEX: usize = CHUNK_BYTES_MAX - 1;

/// Empty tokens that are skipped at once.
const EMPTY_ROW: usize = 8;

const _: () = assert!(CHUNK_BYTES_MAX.is_power_of_two());

/// The sorted tokens of a chunk. Meaningless between two chunks.
pub(super) struct Lists {
    /// Packed tokens of 1 to 8 bytes that are not hot.
    pub(super) misses: Box<[u64; LIST_LEN]>,
    /// Longer tokens: start in the block in the low, length in the high 32 bits.
    pub(super) long: Box<[u64; LIST_LEN]>,
    /// For callers that sort the long ones further.
    pub(super) medium: Box<[u128; MEDIUM_LEN]>,
    /// For all except `avx512`: all tokens of 1 to 8 bytes.
    short: Box<[u64; LIST_LEN]>,
    /// For `avx512`: the slot of each token, or one that counts nothing.
    #[cfg(target_arch = "x86_64")]
    slots: Box<[u16; LIST_LEN]>,
    /// For `avx2`: the numbers of the longer tokens.
    #[cfg(target_arch = "x86_64")]
    numbers: Box<[u16; LIST_LEN]>,
}

impl Lists {
    pub(super) fn new() -> Self {
        Lists {
            misses: zeros(),
            long: zeros(),
            medium: zeros(),
            short: zeros(),
            #[cfg(target_arch = "x86_64")]
            slots: zeros(),
            #[cfg(target_arch = "x86_64")]
            numbers: zeros(),
        }
    }
}

/// How many tokens went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sorted {
    /// Tokens of 1 to 8 bytes, hot or not.
    pub(super) short: usize,
    /// The listed ones among them.
    pub(super) misses: usize,
    pub(super) long: usize,
}

/// Sorts the tokens of a chunk without NUL into the lists. `around` is the block with its guard.
pub(super) type PackFn = fn(&IndexedChunk<'_, '_>, &[u8], &mut Slots, &mut Lists) -> Sorted;

/// The implementation that belongs to a kernel of the index pass.
pub(super) fn pack_for(kernel: Kernel) -> PackFn {
    #[cfg(target_arch = "x86_64")]
    match kernel.name() {
        "avx2" => return avx2::pack().unwrap_or(portable),
        "avx512" => return avx512::pack().unwrap_or(portable),
        _ => {}
    }
    let _ = kernel;
    portable
}

/// The implementation for every CPU.
fn portable(
    chunk: &IndexedChunk<'_, '_>,
    around: &[u8],
    slots: &mut Slots,
    lists: &mut Lists,
) -> Sorted {
    let mut sorted = Sorted::default();
    by_length(chunk, around, lists, &mut sorted);
    look_up(slots, lists, &mut sorted);
    sorted
}

/// The mask for a token's bytes among 8 loaded ones, by its length; 9 stands for anything longer.
const MASKS: [u64; 10] = {
    let mut masks = [u64::MAX; 10];
    let mut len = 0;
    while len < 8 {
        masks[len] = (1 << (8 * len)) - 1;
        len += 1;
    }
    masks
};

/// Packs tokens of 1 to 8 bytes into one list, and puts longer ones on the other.
#[inline(always)]
fn by_length(chunk: &IndexedChunk<'_, '_>, around: &[u8], lists: &mut Lists, sorted: &mut Sorted) {
    let mut start = chunk.start;
    let (rows, rest) = chunk.ends.as_chunks::<EMPTY_ROW>();
    let mut each = |ends: &[u16], start: &mut usize| {
        for &end in ends {
            let end = chunk.base + usize::from(end);
            list(around, *start, end - *start, lists, sorted);
            *start = end + 1;
        }
    };
    for row in rows {
        let last = chunk.base + usize::from(row[EMPTY_ROW - 1]);
        if last - start == EMPTY_ROW - 1 {
            start = last + 1;
        } else {
            each(row, &mut start);
        }
    }
    each(rest, &mut start);
}

/// Lists the `len` bytes of `around` from `start` on, behind which 8 can be read. Without a branch:
/// they are written to both lists, and one of them grows, or none for no bytes.
#[inline(always)]
pub(super) fn list(
    around: &[u8],
    start: usize,
    len: usize,
    lists: &mut Lists,
    sorted: &mut Sorted,
) {
    let key = load(around, start);
    lists.short[sorted.short & INDEX] = key & MASKS[len.min(9)];
    lists.long[sorted.long & INDEX] = place(start, len);
    sorted.short += usize::from(len.wrapping_sub(1) < 8);
    sorted.long += usize::from(len > 8);
}

/// Counts the hot tokens among the short ones, and lists the others.
#[inline(always)]
pub(super) fn look_up(slots: &mut Slots, lists: &mut Lists, sorted: &mut Sorted) {
    let mut look_up = |&key: &u64| {
        let is_hot = slots.count(key);
        lists.misses[sorted.misses & INDEX] = key;
        sorted.misses += usize::from(!is_hot);
    };
    // Eight a round: the loop itself takes a tenth of so little work.
    let (rounds, rest) = lists.short[..sorted.short].as_chunks::<8>();
    for round in rounds {
        round.iter().for_each(&mut look_up);
    }
    rest.iter().for_each(look_up);
}

/// Eight bytes from `start` on, the first in the lowest place.
#[inline(always)]
fn load(around: &[u8], start: usize) -> u64 {
    let bytes = around[start..start + 8].try_into();
    u64::from_le_bytes(bytes.expect("8 bytes: the guard is longer"))
}

/// Blocks are shorter than 4 GiB: `limits::BLOCK_BYTES_MAX` and the longest record are.
#[inline(always)]
pub(super) fn place(start: usize, len: usize) -> u64 {
    start as u64 | (len as u64) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::{Rule, Splitter, Visit};
    use crate::sys::fenced::Fenced;
    use crate::table::KeyTable;
    use crate::table::hot::HotWords;
    use crate::table::keys::Seed;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// Compares every implementation with the definition in plain code: a chunk's tokens and the
    /// slots.
    struct Compare<'t> {
        around: &'t [u8],
        packs: Vec<(&'static str, PackFn, HotWords, Lists)>,
        tables: Vec<KeyTable<u64>>,
    }

    impl<'b> Visit<'b> for Compare<'_> {
        fn chunk(&mut self, chunk: &IndexedChunk<'b, '_>) -> usize {
            let mut tokens = Vec::new();
            let start = chunk.start;
            chunk.ends.iter().fold(start, |start, &end| {
                let end = chunk.base + usize::from(end);
                tokens.push((start, end - start));
                end + 1
            });
            for ((name, pack, hot, lists), table) in self.packs.iter_mut().zip(&mut self.tables) {
                let slots = hot.slots(tokens.len(), table);
                let short = tokens.iter().filter(|(_, len)| (1..=8).contains(len));
                let keys: Vec<u64> = short
                    .map(|&(start, len)| load(self.around, start) & (u64::MAX >> (64 - 8 * len)))
                    .collect();
                let hot_keys: HashSet<u64> = slots.keys.iter().copied().collect();
                let is_hot = |key: &&u64| hot_keys.contains(key);
                let mut misses: Vec<u64> =
                    keys.iter().filter(|key| !is_hot(key)).copied().collect();
                let long = tokens.iter().filter(|(_, len)| *len > 8);
                let mut long: Vec<u64> = long.map(|&(start, len)| place(start, len)).collect();

                let sorted = pack(chunk, self.around, slots, lists);
                let expected = Sorted {
                    short: keys.len(),
                    misses: misses.len(),
                    long: long.len(),
                };
                assert_eq!(sorted, expected, "{name}");
                // The lists may be in any order.
                let mut found = lists.misses[..sorted.misses].to_vec();
                found.sort_unstable();
                misses.sort_unstable();
                assert_eq!(found, misses, "{name}");
                let mut found = lists.long[..sorted.long].to_vec();
                found.sort_unstable();
                long.sort_unstable();
                assert_eq!(found, long, "{name}");
                hot.count_misses(&misses, table);
            }
            tokens.len()
        }
    }

    /// Packs without looking at the result, which the other test compares.
    struct PackAll<'t> {
        around: &'t [u8],
        packs: &'t mut [(PackFn, HotWords, Lists)],
        table: &'t mut KeyTable<u64>,
    }

    impl<'b> Visit<'b> for PackAll<'_> {
        fn chunk(&mut self, chunk: &IndexedChunk<'b, '_>) -> usize {
            for (pack, hot, lists) in self.packs.iter_mut() {
                pack(
                    chunk,
                    self.around,
                    hot.slots(chunk.ends.len(), self.table),
                    lists,
                );
            }
            chunk.ends.len()
        }
    }

    /// Blocks of every length with their guard, between pages that may not be touched.
    #[test]
    #[cfg_attr(miri, ignore)]
    fn no_implementation_reads_beyond_the_guard() {
        let seed = Seed::from_words(5, 6, 7);
        let kernels: Vec<Kernel> = Kernel::available().collect();
        let mut fenced = Fenced::new(2 * CHUNK_BYTES_MAX);
        let pack = |&kernel: &Kernel| (pack_for(kernel), HotWords::new(seed), Lists::new());
        let mut packs: Vec<_> = kernels.iter().map(pack).collect();
        let mut table = KeyTable::new(seed);
        let mut splitter = Splitter::new(Rule::Split(b' '), kernels[0]);
        let lengths = (0..=150).chain([0, 1, 7, 8, 33].map(|more| CHUNK_BYTES_MAX + more));
        for (len, word) in lengths.flat_map(|len| [1, 3, 8, 9, 16, 40].map(|word| (len, word))) {
            let mut block: Vec<u8> = (0..len).map(|at| b'a' + (at % 23) as u8).collect();
            let blanks = block.iter_mut().skip(word).step_by(word + 1);
            blanks.for_each(|byte| *byte = b' ');
            if let Some(last) = block.last_mut() {
                *last = b'\n';
            }
            block.extend_from_slice(&[b'#'; crate::limits::GUARD_BYTES]);
            for at_end in [true, false] {
                let around = match at_end {
                    true => fenced.at_end(&block),
                    false => fenced.at_start(&block),
                };
                let mut pack_all = PackAll {
                    around,
                    packs: &mut packs,
                    table: &mut table,
                };
                splitter.visit(&around[..len], &mut pack_all);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn all_implementations_sort_as_the_words_say(
            words in proptest::collection::vec(0usize..60, 1..4000),
            // Blanks behind a word, plus 25: mostly none, some rows of 8 to 14, a few of more than
            // 64.
            rows in proptest::collection::vec(
                prop_oneof![9 => 0usize..40, 1 => 80usize..240],
                1..200,
            ),
        ) {
            let mut block = Vec::new();
            for (index, word) in words.iter().enumerate() {
                // Few words often, so that some become hot; lengths around the class borders; empty
                // rows.
                block.extend(std::iter::repeat_n(b'a' + (*word % 23) as u8, *word % 19));
                let blanks = rows[index % rows.len()].saturating_sub(25);
                block.extend(std::iter::repeat_n(b' ', blanks));
                block.extend_from_slice(match index % 11 {
                    0 => &b"\n"[..],
                    1 => b"\r\n",
                    _ => b" ",
                });
            }
            // A token that begins in one chunk and ends in another.
            block.extend(std::iter::repeat_n(b'x', CHUNK_BYTES_MAX + rows[0]));
            block.push(b'\n');
            let len = block.len();
            block.extend_from_slice(&[b'#'; crate::limits::GUARD_BYTES]);
            let (seed, rule) = (Seed::from_words(5, 6, 7), Rule::Split(b' '));
            let kernels: Vec<Kernel> = Kernel::available().collect();
            let mut compare = Compare {
                around: &block,
                packs: kernels
                    .iter()
                    .map(|&kernel| (kernel.name(), pack_for(kernel), HotWords::new(seed), Lists::new()))
                    .collect(),
                tables: kernels.iter().map(|_| KeyTable::new(seed)).collect(),
            };
            // Twice: the second time words are hot.
            for _ in 0..2 {
                Splitter::new(rule, kernels[0]).visit(&block[..len], &mut compare);
            }
            let mut contents = Vec::new();
            for ((_, _, hot, _), table) in compare.packs.iter_mut().zip(&mut compare.tables) {
                hot.flush(table);
                let mut content: Vec<(Vec<u8>, u64)> =
                    table.iter().map(|(key, count)| (key.to_vec(), count)).collect();
                content.sort();
                contents.push(content);
            }
            let short = |content: &[(Vec<u8>, u64)]| content.iter().map(|(_, n)| n).sum::<u64>();
            let expected = words.iter().filter(|word| (1..=8).contains(&(**word % 19))).count();
            prop_assert_eq!(short(&contents[0]), 2 * expected as u64);
            for content in &contents {
                prop_assert_eq!(content, &contents[0]);
            }
        }
    }
}
