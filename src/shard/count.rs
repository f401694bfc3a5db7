//! The pipeline everything is measured by: tokens, counted as they are.
//!
//! Promise: the same table as `KeyedStage` with `(token, 1)` and `+`, 1.7 times as fast on text.
//! Refuses to know: where blocks come from, when an epoch ends.
//!
//! The naive version looks each token up as it is split. Here a chunk goes through in phases, each a
//! short loop without a data-dependent branch, so that the processor overlaps many tokens:
//!
//! 1. `split` finds the delimiters (vectors).
//! 2. `pack` sorts the tokens: hot words get the number of their counter, other words of 1 to 8 bytes go
//!    on one list, longer ones on another (vectors).
//! 3. `HotWords` counts the hot ones, and asks the table for the others, many at a time, so that their
//!    cache misses overlap.
//!
//! Empty tokens are what is left over: no list, one addition a chunk. The `\n` of a `\r\n` looks like an
//! empty token and is taken off that number. Chunks that contain a NUL go token by token: a key that ends
//! in NUL is packed differently.

use crate::epoch::merge::table_of_mut;
use crate::epoch::swap::Partial;
use crate::ring::arena::Block;
use crate::shard::pack::{Lists, Pack, pack_for};
use crate::shard::stage::Stage;
use crate::split::{Kernel, Rule, Run, Splitter, Tallied, Visit};
use crate::table::hot::HotWords;
use crate::table::keys::Seed;
use crate::table::{Table, add};

/// See the module.
pub(crate) struct CountStage {
    splitter: Splitter,
    pack: Pack,
    hot: HotWords,
    lists: Lists,
}

impl CountStage {
    /// A stage for the tokens of `rule`. Its tables are made with `seed`, which its filter shares.
    pub(crate) fn new(rule: Rule, kernel: Kernel, seed: Seed) -> Self {
        CountStage {
            splitter: Splitter::new(rule, kernel),
            pack: pack_for(kernel),
            hot: HotWords::new(seed),
            lists: Lists::new(),
        }
    }
}

impl Stage for CountStage {
    fn block(&mut self, block: &Block, into: &mut dyn Partial) -> Tallied {
        let keep_empty = self.splitter.rule() != Rule::SplitWhitespace;
        let mut chunks = Chunks {
            around: block.guarded(),
            keep_empty,
            pack: self.pack,
            hot: &mut self.hot,
            lists: &mut self.lists,
            table: table_of_mut(into),
        };
        self.splitter.visit(block.bytes(), &mut chunks)
    }

    fn flush(&mut self, into: &mut dyn Partial) {
        self.hot.flush(table_of_mut(into));
    }
}

/// One block's way into the table.
struct Chunks<'s> {
    /// The block and the guard behind it.
    around: &'s [u8],
    keep_empty: bool,
    pack: Pack,
    hot: &'s mut HotWords,
    lists: &'s mut Lists,
    table: &'s mut Table<u64>,
}

impl<'b> Visit<'b> for Chunks<'_> {
    fn run(&mut self, run: &Run<'b, '_>) -> usize {
        if run.has_nul {
            return run.each(self.keep_empty, |token| {
                self.table.add_within(self.around, token, 1, add);
            });
        }
        let slots = self.hot.slots(run.ends.len(), self.table);
        let sorted = (self.pack)(run, self.around, slots, self.lists);
        let misses = &self.lists.misses[..sorted.misses];
        self.hot.count_misses(misses, self.table);
        self.count_long(sorted.long);
        let not_empty = sorted.short + sorted.long;
        let empty = run.ends.len() - not_empty - run.pairs;
        if !self.keep_empty {
            return not_empty;
        }
        if empty > 0 {
            self.table.count_short(0, empty as u64);
        }
        not_empty + empty
    }
}

impl Chunks<'_> {
    /// Counts the first `count` tokens of the long list.
    fn count_long(&mut self, count: usize) {
        let (mut medium_count, mut long_count) = (0, 0);
        for index in 0..count {
            let place = self.lists.long[index];
            let (start, len) = (place as u32 as usize, (place >> 32) as usize);
            let bytes = self.around[start..start + 16]
                .try_into()
                .expect("16 bytes: the guard is longer");
            // As in `pack`: written to both, one of them grows. The long list shrinks into itself.
            let mask = u128::MAX >> (8 * 16usize.saturating_sub(len));
            self.lists.medium[medium_count] = u128::from_le_bytes(bytes) & mask;
            self.lists.long[long_count] = place;
            medium_count += usize::from(len <= 16);
            long_count += usize::from(len > 16);
        }
        self.hot
            .count_medium(&self.lists.medium[..medium_count], self.table);
        self.table
            .count_each_long(self.around, &self.lists.long[..long_count]);
    }
}
