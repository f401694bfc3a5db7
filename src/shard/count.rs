//! The pipeline everything is measured by: tokens, counted as they are.
//!
//! Promise: the same table as `KeyedStage` with `(token, 1)` and `+`, 1.7 times as fast on text.
//! Refuses to know: where blocks come from, when an epoch ends.
//!
//! The naive version looks each token up as it is split. Here a chunk goes through in phases, each a
//! short loop without a data-dependent branch, so that the processor overlaps many tokens:
//!
//! 1. `split` finds the delimiters (vectors).
//! 2. `pack` loads 8 bytes at each token's start and masks what lies behind its end. Tokens of 1 to 8
//!    bytes go on one list, longer ones on another; both stores always happen, one of the two lengths
//!    grows.
//! 3. `HotWords` counts the short ones; the long ones take the way of `Table::add_within`.
//!
//! Empty tokens are what is left over: no list, one addition a chunk. Chunks that contain a NUL or a
//! `\r` go token by token: a key that ends in NUL is packed differently, a `\r\n` ends one token.

use crate::epoch::merge::table_of_mut;
use crate::epoch::swap::Partial;
use crate::ring::arena::Block;
use crate::shard::stage::Stage;
use crate::split::{CHUNK_BYTES_MAX, Kernel, Rule, Run, Splitter, Tallied, Visit};
use crate::table::hot::{HotWords, zeros};
use crate::table::keys::Seed;
use crate::table::{Table, add};

/// See the module.
pub(crate) struct CountStage {
    splitter: Splitter,
    hot: HotWords,
    lists: Lists,
}

/// The tokens of a chunk, by length. Of no value between two chunks.
struct Lists {
    /// Packed tokens of 1 to 8 bytes.
    short: Box<[u64; CHUNK_BYTES_MAX]>,
    /// Start and length in the block of longer tokens.
    long: Box<[(u32, u32); CHUNK_BYTES_MAX]>,
}

/// What keeps a token's bytes of the 8 that were loaded, by its length; 9 stands for anything longer.
const MASKS: [u64; 10] = {
    let mut masks = [u64::MAX; 10];
    let mut len = 0;
    while len < 8 {
        masks[len] = (1 << (8 * len)) - 1;
        len += 1;
    }
    masks
};

impl CountStage {
    /// A stage for the tokens of `rule`. Its tables are made with `seed`, which its filter shares.
    pub(crate) fn new(rule: Rule, kernel: Kernel, seed: Seed) -> Self {
        CountStage {
            splitter: Splitter::new(rule, kernel),
            hot: HotWords::new(seed),
            lists: Lists {
                short: zeros(),
                long: zeros(),
            },
        }
    }
}

impl Stage for CountStage {
    fn block(&mut self, block: &Block, into: &mut dyn Partial) -> Tallied {
        let keep_empty = self.splitter.rule() != Rule::SplitWhitespace;
        let mut chunks = Chunks {
            around: block.guarded(),
            keep_empty,
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
    hot: &'s mut HotWords,
    lists: &'s mut Lists,
    table: &'s mut Table<u64>,
}

impl<'b> Visit<'b> for Chunks<'_> {
    fn token(&mut self, token: &'b [u8]) {
        self.table.add_within(self.around, token, 1, add);
    }

    fn run(&mut self, run: &Run<'b, '_>) -> (usize, usize) {
        if run.has_nul {
            return run.each(self.keep_empty, |token| self.token(token));
        }
        let (short_count, long_count, next) = pack(self.around, run, self.lists);
        self.hot.count(&self.lists.short[..short_count], self.table);
        for &(start, len) in &self.lists.long[..long_count] {
            let token = &self.around[start as usize..][..len as usize];
            self.table.add_within(self.around, token, 1, add);
        }
        let empty_count = run.ends.len() - short_count - long_count;
        if !self.keep_empty {
            return (short_count + long_count, next);
        }
        if empty_count > 0 {
            self.table.count_short(0, empty_count as u64);
        }
        (run.ends.len(), next)
    }
}

/// Sorts the tokens of a run into the two lists. Gives how many went on each, and where the next token
/// begins.
#[inline(never)]
fn pack(around: &[u8], run: &Run<'_, '_>, lists: &mut Lists) -> (usize, usize, usize) {
    const INDEX: usize = CHUNK_BYTES_MAX - 1;
    let (mut short_count, mut long_count) = (0, 0);
    let mut start = run.start;
    for &end in run.ends {
        let end = run.base + usize::from(end);
        let len = end - start;
        let bytes = around[start..start + 8]
            .try_into()
            .expect("8 bytes: the guard is longer");
        // The masks of the indexes change nothing, there being at most one token a byte of a chunk.
        lists.short[short_count & INDEX] = u64::from_le_bytes(bytes) & MASKS[len.min(9)];
        lists.long[long_count & INDEX] = (start as u32, len as u32);
        short_count += usize::from(len.wrapping_sub(1) < 8);
        long_count += usize::from(len > 8);
        start = end + 1;
    }
    (short_count, long_count, start)
}
