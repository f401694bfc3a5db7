//! The pipeline that all others are measured by: tokens, counted as they are.
//!
//! Promise: the same table as from one `KeyTable::add` a token. Must not know: where blocks come
//! from, when an epoch ends.
//!
//! The naive version looks each token up as it is split. Here a chunk goes through in phases, each
//! a short loop without a data-dependent branch, so that the processor overlaps many tokens:
//!
//! 1. `split` finds the delimiters (vectors).
//! 2. `pack` sorts the tokens: hot words get the number of their counter, other words of 1 to 8
//!    bytes go on one list, longer ones on another (vectors).
//! 3. `HotWords` counts the hot ones, and looks the others up in the table, many at a time, so that
//!    their cache misses overlap.
//!
//! Empty tokens are the remainder: no list, one addition a chunk. The `\n` of a `\r\n` looks like
//! an empty token and is subtracted. Chunks that contain a NUL go token by token: a key that ends
//! in NUL is packed differently. So do the first few tokens of an epoch: a small batch then leaves
//! the hot words untouched, whose flush costs more than the batch.

use crate::epoch::hand_over::PartialAggregate;
use crate::epoch::merge::table_of_mut;
use crate::ring::arena::Block;
use crate::shard::pack::{Lists, MEDIUM_LEN, PackFn, Sorted, list, look_up, pack_for};
use crate::shard::stage::Stage;
use crate::split::{IndexedChunk, Kernel, Rule, Splitter, Tallied, Visit};
use crate::table::hot::HotWords;
use crate::table::keys::Seed;
use crate::table::{KeyTable, add};

/// Counts the tokens of blocks.
pub(crate) struct CountStage {
    splitter: Splitter,
    counter: TokenCounter,
}

impl CountStage {
    /// A stage for the tokens of `rule`. Its tables are made with `seed`, and so are its hot words.
    pub(crate) fn new(rule: Rule, kernel: Kernel, seed: Seed) -> Self {
        CountStage {
            splitter: Splitter::new(rule, kernel),
            counter: TokenCounter::new(kernel, seed),
        }
    }

    /// This stage, but without tokens that go to the table directly: for tests that compare
    /// kernels.
    pub(crate) fn never_direct(mut self) -> Self {
        self.counter.direct_max = 0;
        self
    }
}

impl Stage for CountStage {
    fn block(&mut self, block: &Block, into: &mut dyn PartialAggregate) -> Tallied {
        let mut chunks = ChunkCounter {
            around: block.guarded(),
            keep_empty: keeps_empty(self.splitter.rule()),
            counter: &mut self.counter,
            table: table_of_mut(into),
        };
        self.splitter.visit(block.content(), &mut chunks)
    }

    fn flush(&mut self, into: &mut dyn PartialAggregate) {
        self.counter.flush(table_of_mut(into));
    }
}

/// Returns `true` if an empty token counts as one.
pub(super) fn keeps_empty(rule: Rule) -> bool {
    rule != Rule::SplitWhitespace
}

/// Counts one block, chunk by chunk.
struct ChunkCounter<'s> {
    /// The block and the guard behind it.
    around: &'s [u8],
    keep_empty: bool,
    counter: &'s mut TokenCounter,
    table: &'s mut KeyTable<u64>,
}

impl<'b> Visit<'b> for ChunkCounter<'_> {
    fn chunk(&mut self, chunk: &IndexedChunk<'b, '_>) -> usize {
        self.counter
            .count(chunk, self.around, self.keep_empty, self.table)
    }
}

/// Counts tokens in the phases of the module: whole chunks, or computed keys one by one.
pub(super) struct TokenCounter {
    pack: PackFn,
    hot: HotWords,
    lists: Lists,
    /// Keys that were listed one by one and not counted yet.
    listed: Sorted,
    /// Tokens since the last flush that went to the table one by one.
    direct: usize,
    /// How many may do so: `DIRECT_TOKENS_MAX`, or 0.
    direct_max: usize,
}

/// Tokens of an epoch that go to the table one by one as long as no more came. The hot words are
/// faster by some nanoseconds a token, but flushing them costs some microseconds a batch: too much
/// for a batch of ten tokens.
const DIRECT_TOKENS_MAX: usize = 256;

/// Keys that are listed before they are counted. This many fit the first-level cache, packed.
const LISTED_MAX: usize = 1 << 10;

// Computed keys may overlap, so the number of bytes in a chunk does not bound them.
const _: () = assert!(LISTED_MAX <= MEDIUM_LEN);

impl TokenCounter {
    /// `seed` is that of the tables that it will count into.
    pub(super) fn new(kernel: Kernel, seed: Seed) -> Self {
        TokenCounter {
            pack: pack_for(kernel),
            hot: HotWords::new(seed),
            lists: Lists::new(),
            listed: Sorted::default(),
            direct: 0,
            direct_max: DIRECT_TOKENS_MAX,
        }
    }

    /// Returns `true` if `tokens` more may go to the table one by one.
    #[inline]
    fn goes_direct(&mut self, tokens: usize) -> bool {
        let is_direct = self.direct + tokens <= self.direct_max && self.hot.is_flushed();
        self.direct += if is_direct { tokens } else { 0 };
        is_direct
    }

    /// Counts the tokens of a chunk, and returns how many there were. `around` is its block with
    /// the guard.
    ///
    /// No keys may be listed.
    #[inline]
    pub(super) fn count(
        &mut self,
        chunk: &IndexedChunk<'_, '_>,
        around: &[u8],
        keep_empty: bool,
        table: &mut KeyTable<u64>,
    ) -> usize {
        debug_assert_eq!(self.listed, Sorted::default());
        if chunk.has_nul || self.goes_direct(chunk.ends.len()) {
            return chunk.each(keep_empty, |token| {
                table.add_within(around, token, 1, add);
            });
        }
        let slots = self.hot.slots(chunk.ends.len(), table);
        let sorted = (self.pack)(chunk, around, slots, &mut self.lists);
        self.count_sorted(sorted, around, table);
        let not_empty = sorted.short + sorted.long;
        let empty = chunk.ends.len() - not_empty - chunk.pairs;
        if !keep_empty {
            return not_empty;
        }
        if empty > 0 {
            table.count_short(0, empty as u64);
        }
        not_empty + empty
    }

    /// Lists the `len` bytes from `start` on, at least one, whose last is not NUL. They are in the
    /// table once `count_listed` was called with the same `around`.
    #[inline(always)]
    pub(super) fn list(
        &mut self,
        around: &[u8],
        start: usize,
        len: usize,
        table: &mut KeyTable<u64>,
    ) {
        list(around, start, len, &mut self.lists, &mut self.listed);
        if self.listed.short + self.listed.long == LISTED_MAX {
            self.count_listed(around, table);
        }
    }

    /// Counts the listed keys.
    #[inline(never)]
    pub(super) fn count_listed(&mut self, around: &[u8], table: &mut KeyTable<u64>) {
        let mut sorted = std::mem::take(&mut self.listed);
        let slots = self.hot.slots(sorted.short + sorted.long, table);
        look_up(slots, &mut self.lists, &mut sorted);
        self.count_sorted(sorted, around, table);
    }

    /// Counts the listed misses and long tokens.
    fn count_sorted(&mut self, sorted: Sorted, around: &[u8], table: &mut KeyTable<u64>) {
        let misses = &self.lists.misses[..sorted.misses];
        self.hot.count_misses(misses, table);
        let (mut medium_count, mut long_count) = (0, 0);
        for index in 0..sorted.long {
            let place = self.lists.long[index];
            let (start, len) = (place as u32 as usize, (place >> 32) as usize);
            let bytes = around[start..start + 16]
                .try_into()
                .expect("16 bytes: the guard is longer");
            // As in `pack`: written to both, and one of them grows. The long list is compacted in
            // place.
            let mask = u128::MAX >> (8 * 16usize.saturating_sub(len));
            self.lists.medium[medium_count] = u128::from_le_bytes(bytes) & mask;
            self.lists.long[long_count] = place;
            medium_count += usize::from(len <= 16);
            long_count += usize::from(len > 16);
        }
        self.hot
            .count_medium(&self.lists.medium[..medium_count], table);
        table.count_each_long(around, &self.lists.long[..long_count]);
    }

    /// Moves everything that was counted into `table`. Listed keys that were not counted are
    /// dropped: their block is gone.
    pub(super) fn flush(&mut self, table: &mut KeyTable<u64>) {
        self.listed = Sorted::default();
        self.direct = 0;
        self.hot.flush(table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::arena::Arena;

    fn counted(stage: &mut CountStage, table: &mut KeyTable<u64>, text: &[u8]) -> u64 {
        let mut block = Arena::new(text.len(), 1).expect("a little memory").block();
        block.append(text);
        stage.block(&block, table).tokens
    }

    #[test]
    fn a_small_batch_leaves_the_hot_words_alone_and_a_larger_one_does_not() {
        let seed = Seed::from_words(1, 2, 3);
        let mut stage = CountStage::new(Rule::Split(b' '), Kernel::detect(), seed);
        let mut table = KeyTable::new(seed);
        let line = b"a bb a cccccccccc a long word of 26 bytes\n";
        for (lines, is_direct) in [(1, true), (25, true), (26, false), (1, true)] {
            let mut tokens = 0;
            for _ in 0..lines {
                tokens += counted(&mut stage, &mut table, line);
            }
            assert_eq!(stage.counter.hot.is_flushed(), is_direct, "{tokens} tokens");
            stage.flush(&mut table);
            assert!(stage.counter.hot.is_flushed());
            assert_eq!(tokens, 10 * lines);
            assert_eq!(table.get(b"a"), Some(3 * lines));
            assert_eq!(table.get(b"cccccccccc"), Some(lines));
            assert_eq!(table.iter().map(|(_, count)| count).sum::<u64>(), tokens);
            table.clear();
        }
    }

    #[test]
    fn one_by_one_or_not_the_table_is_the_same() {
        let seed = Seed::from_words(4, 5, 6);
        let rule = Rule::SplitWhitespace;
        let mut direct = CountStage::new(rule, Kernel::detect(), seed);
        let mut never = CountStage::new(rule, Kernel::detect(), seed).never_direct();
        let (mut one, mut other) = (KeyTable::new(seed), KeyTable::new(seed));
        for words in [1, 7, 255, 256, 257, 3, 2000, 0, 5] {
            // Several blocks an epoch, so that the limit is met in the middle of one.
            for part in 0..3u64 {
                let mut text = Vec::new();
                for word in 0..words {
                    text.extend_from_slice(
                        format!("{} \0{word}\r\n", word % (7 + part)).as_bytes(),
                    );
                }
                text.push(b'\n');
                let tokens = counted(&mut direct, &mut one, &text);
                assert_eq!(tokens, counted(&mut never, &mut other, &text));
            }
            direct.flush(&mut one);
            never.flush(&mut other);
            let sorted = |table: &KeyTable<u64>| {
                let mut all: Vec<_> = table.iter().map(|(k, n)| (k.to_vec(), n)).collect();
                all.sort();
                all
            };
            assert_eq!(sorted(&one), sorted(&other), "{words} words");
            one.clear();
            other.clear();
        }
    }
}
