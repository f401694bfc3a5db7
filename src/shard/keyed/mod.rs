//! Pipelines with user-supplied functions: a key and a value of each record, the values of a key
//! reduced.
//!
//! Promise: the table that `table.add(key, value, reduce)` makes for one record after the other,
//! `map` called once a record and in order. `reduce` is associative and commutative, and may be
//! called less often. Must not know: where blocks come from, when an epoch ends, what the functions
//! do.
//!
//! The naive version is that loop of `add`s, one cache miss after the other. A pipeline does
//! better, depending on what `map` returns, without guessing and without looking at the function:
//!
//! 1. *The record itself, and one value for all.* Records that are tokens come in chunks. `map` is
//!    called for every token of a chunk, and it is checked that the key is the token (the same
//!    bytes at the same address) and that the value has the same bits as before. Then the chunk is
//!    counted by the kernel that counts tokens as they are. For `|word| (word, 1)` the compiler
//!    sees that the check always holds and that nothing else happens in its loop, and deletes it:
//!    the pipeline is the counting kernel.
//! 2. *Another key, and one value for all*: `|line| (&line[..3], 1)`, filtered records. The keys
//!    are listed, and counted many at a time, as the kernel counts what it has listed.
//! 3. *Different values.* If the table has outgrown the caches, pairs are gathered, and the table's
//!    memory is requested before the first pair needs it. Else it is the naive loop.
//!
//! A chunk that begins as 1 may go on as 2, and then as 3. What was counted, `n` times one value,
//! becomes a value when the epoch ends. The fold of `n` equal values is looked up if `n` is small.
//! Else it takes at most `2 * log2(n)` calls of `reduce`, because it is associative. Values are
//! compared bit by bit, and only primitive numbers are; all others go way 3.
//!
//! Dropped: a loop of `n - 1` calls, which the compiler turns into a product if `reduce` adds
//! integers, but not if it adds floats: a pause of seconds after a batch of billions. Gathering
//! pairs for a small table, which took up to 12 % longer for text of 50 000 words.
//!
//! `computed` does the same for keys that are not in the block.

pub(crate) mod computed;

#[cfg(test)]
mod tests;

use std::any::{Any, TypeId};
use std::sync::Arc;

use crate::epoch::hand_over::PartialAggregate;
use crate::epoch::merge::table_of_mut;
use crate::ring::arena::Block;
use crate::shard::count::{TokenCounter, keeps_empty};
use crate::shard::pack::place;
use crate::shard::stage::{Records, Stage};
use crate::split::{IndexedChunk, Kernel, Splitter, Tallied, Visit};
use crate::table::{KeyTable, add};

/// Pairs that are gathered before they are added: as many as `KeyTable::add_each_within` takes at
/// once.
const GATHERED_MAX: usize = 32;

/// Reduces the values of a key.
pub(crate) struct KeyedStage<R, M, V, F> {
    records: R,
    map: Arc<M>,
    reduce: Arc<F>,
    splitter: Splitter,
    constants: ConstantCounts<V>,
    /// Pairs of the current block, their keys as places in it; empty between two blocks.
    gathered: Vec<(u64, V)>,
}

/// Counts of keys that all had the same value.
struct ConstantCounts<V> {
    counter: TokenCounter,
    counts: KeyTable<u64>,
    /// The value of every key that was counted in this epoch; `None` if none was.
    constant: Option<V>,
}

impl<R: Records, M, V: Copy + Send + 'static, F> KeyedStage<R, M, V, F> {
    /// `map` returns a record's key and value, `reduce` folds the values of a key. `counts` is an
    /// empty table with the pipeline's seed.
    pub(crate) fn new(
        records: R,
        map: Arc<M>,
        reduce: Arc<F>,
        kernel: Kernel,
        counts: KeyTable<u64>,
    ) -> Self {
        let splitter = Splitter::new(records.rule(), kernel);
        KeyedStage {
            records,
            map,
            reduce,
            splitter,
            constants: ConstantCounts::new(kernel, counts),
            gathered: Vec::with_capacity(GATHERED_MAX),
        }
    }
}

impl<R, M, V, F> Stage for KeyedStage<R, M, V, F>
where
    R: Records,
    V: Copy + Send + 'static,
    M: Fn(&[u8]) -> (&[u8], V) + Send + Sync,
    F: Fn(V, V) -> V + Send + Sync,
{
    fn block(&mut self, block: &Block, into: &mut dyn PartialAggregate) -> Tallied {
        let map = &*self.map;
        let table = table_of_mut::<V>(into);
        self.constants.begin(table);
        let is_large = table.is_large();
        let mut pairs = PairSink {
            around: block.guarded(),
            constants: &mut self.constants,
            gathered: &mut self.gathered,
            table,
            reduce: &*self.reduce,
            varies: !is_primitive::<V>(),
            is_large,
        };
        let (splitter, bytes) = (&mut self.splitter, block.content());
        let tallied = match self.records.plain() {
            Some(rule) if is_primitive::<V>() => {
                let keep_empty = keeps_empty(rule);
                let mut chunks = PairChunks {
                    pairs: &mut pairs,
                    map,
                    keep_empty,
                };
                splitter.visit(bytes, &mut chunks)
            }
            _ if pairs.goes_directly() => self.records.for_each(splitter, bytes, |record| {
                let (key, value) = map(record);
                pairs.push_directly(key, value);
            }),
            _ => self.records.for_each(splitter, bytes, |record| {
                let (key, value) = map(record);
                pairs.push(key, value);
            }),
        };
        pairs.finish();
        tallied
    }

    fn flush(&mut self, into: &mut dyn PartialAggregate) {
        self.constants.flush(table_of_mut(into), &*self.reduce);
    }

    fn is_full(&self) -> bool {
        self.constants.is_full()
    }

    fn abandon(&mut self, _into: &mut dyn PartialAggregate) {
        self.gathered.clear();
        self.constants.abandon();
    }
}

impl<V: Copy + Send + 'static> ConstantCounts<V> {
    fn new(kernel: Kernel, counts: KeyTable<u64>) -> Self {
        ConstantCounts {
            counter: TokenCounter::new(kernel, counts.seed()),
            counts,
            constant: None,
        }
    }

    /// Returns `true` if a counted key had no room.
    fn is_full(&self) -> bool {
        self.counts.overflow().other > 0
    }

    /// Called with the epoch's first block. The counts are gathered in the memory in which they
    /// will be handed over: `flush` swaps back, and one table less goes through the caches.
    fn begin(&mut self, table: &mut KeyTable<V>) {
        if self.constant.is_none() {
            self.swap_if_empty(table);
        }
    }

    /// Moves what was counted into `table`, as values.
    fn flush(&mut self, table: &mut KeyTable<V>, reduce: &impl Fn(V, V) -> V) {
        self.counter.flush(&mut self.counts);
        let Some(constant) = self.constant.take() else {
            return; // Nothing was counted.
        };
        let mut folds = Folds::new(constant, reduce);
        if self.swap_if_empty(table) {
            let values = (table as &mut dyn Any).downcast_mut::<KeyTable<u64>>();
            for count in values.into_iter().flat_map(KeyTable::values_mut) {
                *count = cast(folds.of(*count));
            }
            return;
        }
        let counts = &mut self.counts;
        table.merge_mapped(counts, |count| folds.of(count), reduce);
        table.take_charge_of(counts);
        counts.clear();
        // So that next time both are walked in one order, even if somebody flooded one of them
        // meanwhile.
        counts.set_seed(table.seed());
    }

    /// Drops what was counted.
    fn abandon(&mut self) {
        self.counter.flush(&mut self.counts);
        self.counts.clear();
        self.constant = None;
    }

    /// Swaps the counts and `table` if they have one type and `table` is empty. Returns `true` if
    /// it did.
    fn swap_if_empty(&mut self, table: &mut KeyTable<V>) -> bool {
        match (table as &mut dyn Any).downcast_mut::<KeyTable<u64>>() {
            // An empty table may have refused keys: its overflow belongs to the batch, and stays
            // with it.
            Some(table) if table.is_empty() && table.overflow().is_none() => {
                // A value stands for different things in the two tables.
                self.counts.swap_content(table);
                true
            }
            _ => false,
        }
    }
}

/// Adds the pairs of one block to the tables.
struct PairSink<'s, V, F> {
    /// The block and the guard behind it.
    around: &'s [u8],
    constants: &'s mut ConstantCounts<V>,
    gathered: &'s mut Vec<(u64, V)>,
    table: &'s mut KeyTable<V>,
    reduce: &'s F,
    /// Whether a value differed from the constant. Further ones are not compared any more, up to
    /// the end of the chunk or, without chunks, of the block.
    varies: bool,
    /// Whether it pays to gather pairs. Asked once a block: a table does not grow much in one.
    is_large: bool,
}

impl<V, F> PairSink<'_, V, F>
where
    V: Copy + 'static,
    F: Fn(V, V) -> V,
{
    /// Adds one pair. It is in a table once `finish` was called.
    #[inline(always)]
    fn push(&mut self, key: &[u8], value: V) {
        if !self.varies && !self.is_constant(value) {
            self.varies = true;
        }
        if self.goes_directly() {
            return self.push_directly(key, value);
        }
        // Wrapping, so that a key from elsewhere gets a start behind the end.
        let start = key
            .as_ptr()
            .addr()
            .wrapping_sub(self.around.as_ptr().addr());
        let is_listable = start < self.around.len() && key.last().is_some_and(|&last| last != 0);
        if !is_listable {
            self.push_unlisted(key, value);
        } else if self.varies {
            self.gathered.push((place(start, key.len()), value));
            if self.gathered.len() == GATHERED_MAX {
                self.add_gathered();
            }
        } else {
            let ConstantCounts {
                counter, counts, ..
            } = &mut *self.constants;
            counter.list(self.around, start, key.len(), counts);
        }
    }

    /// Returns `true` if all further pairs are added one by one: a loop over them need not ask
    /// again.
    #[inline(always)]
    fn goes_directly(&self) -> bool {
        self.varies && !self.is_large
    }

    #[inline(always)]
    fn push_directly(&mut self, key: &[u8], value: V) {
        self.table.add_within(self.around, key, value, self.reduce);
    }

    /// Adds a key that is empty, ends in NUL, or is not in the block.
    #[inline(never)]
    fn push_unlisted(&mut self, key: &[u8], value: V) {
        if self.varies {
            self.table.add(key, value, self.reduce);
        } else {
            self.constants.counts.add(key, 1, add);
        }
    }

    #[inline(always)]
    fn is_constant(&mut self, value: V) -> bool {
        is_same(*self.constants.constant.get_or_insert(value), value)
    }

    #[inline(never)]
    fn add_gathered(&mut self) {
        self.table
            .add_each_within(self.around, self.gathered, self.reduce);
        self.gathered.clear();
    }

    /// Adds everything that waits, at the end of the block or of a chunk that the kernel may not
    /// take.
    fn finish(&mut self) {
        let ConstantCounts {
            counter, counts, ..
        } = &mut *self.constants;
        counter.count_listed(self.around, counts);
        self.add_gathered();
    }
}

/// Adds the pairs of one block, chunk by chunk.
struct PairChunks<'p, 's, V, F, M> {
    pairs: &'p mut PairSink<'s, V, F>,
    map: &'p M,
    keep_empty: bool,
}

impl<'b, V, F, M> Visit<'b> for PairChunks<'_, '_, V, F, M>
where
    V: Copy + 'static,
    F: Fn(V, V) -> V,
    M: Fn(&[u8]) -> (&[u8], V),
{
    #[inline]
    fn chunk(&mut self, chunk: &IndexedChunk<'b, '_>) -> usize {
        match check(
            chunk,
            self.keep_empty,
            self.map,
            self.pairs.constants.constant,
        ) {
            Checked::None => 0,
            Checked::Constant(value) => {
                let ConstantCounts {
                    counter,
                    counts,
                    constant,
                } = &mut *self.pairs.constants;
                *constant = Some(value);
                counter.count(chunk, self.pairs.around, self.keep_empty, counts)
            }
            Checked::Mismatch(mismatch) => self.chunk_pairs(chunk, &mismatch),
        }
    }
}

impl<'b, V, F, M> PairChunks<'_, '_, V, F, M>
where
    V: Copy + 'static,
    F: Fn(V, V) -> V,
    M: Fn(&[u8]) -> (&[u8], V),
{
    /// Adds a chunk that the kernel may not take. `map` was called up to the mismatch.
    #[inline(never)]
    fn chunk_pairs(&mut self, chunk: &IndexedChunk<'b, '_>, mismatch: &Mismatch<'b, V>) -> usize {
        let pairs = &mut *self.pairs;
        pairs.varies = false;
        let before = IndexedChunk {
            ends: &chunk.ends[..mismatch.index],
            ..*chunk
        };
        let mut tokens = before.each(self.keep_empty, |token| pairs.push(token, mismatch.before));
        pairs.push(mismatch.key, mismatch.value);
        tokens += 1;
        let behind = IndexedChunk {
            start: chunk.base + usize::from(chunk.ends[mismatch.index]) + 1,
            ends: &chunk.ends[mismatch.index + 1..],
            ..*chunk
        };
        if pairs.goes_directly() {
            tokens += behind.each(self.keep_empty, |token| {
                let (key, value) = (self.map)(token);
                pairs.push_directly(key, value);
            });
        } else {
            tokens += behind.each(self.keep_empty, |token| {
                let (key, value) = (self.map)(token);
                pairs.push(key, value);
            });
        }
        // The kernel uses the lists too.
        pairs.finish();
        tokens
    }
}

/// What `map` returned for the tokens of a chunk.
enum Checked<'b, V> {
    /// The chunk has no tokens.
    None,
    /// For every token, the token itself and this value.
    Constant(V),
    /// Something else.
    Mismatch(Mismatch<'b, V>),
}

/// The first token for which `map` did not return the token and the constant.
struct Mismatch<'b, V> {
    /// The index of its end among the chunk's.
    index: usize,
    key: &'b [u8],
    value: V,
    /// The value of the tokens before it.
    before: V,
}

/// Calls `map` for the tokens of a chunk, in order, up to the first whose pair is not itself and
/// `constant`, or the first value if that is `None`.
///
/// If the compiler sees through `map`, the loop has to vanish. So nothing in it may panic, the
/// number of its turns is known before it begins, and it has no state: the first token, which makes
/// the constant, is taken before it.
#[inline(always)]
fn check<'b, V, M>(
    chunk: &IndexedChunk<'b, '_>,
    keep_empty: bool,
    map: &M,
    constant: Option<V>,
) -> Checked<'b, V>
where
    V: Copy + 'static,
    M: Fn(&[u8]) -> (&[u8], V),
{
    let mut ends = chunk.ends.iter();
    let mut start = chunk.start;
    let token = loop {
        let Some(&end) = ends.next() else {
            return Checked::None;
        };
        if let Some(token) = token_at(chunk, keep_empty, &mut start, end) {
            break token;
        }
    };
    let rest = ends.as_slice();
    let first = chunk.ends.len() - rest.len();
    let (key, value) = map(token);
    let before = constant.unwrap_or(value);
    if !std::ptr::eq(key, token) || !is_same(value, before) {
        return Checked::Mismatch(Mismatch {
            index: first - 1,
            key,
            value,
            before,
        });
    }
    for (index, &end) in rest.iter().enumerate() {
        if let Some(token) = token_at(chunk, keep_empty, &mut start, end) {
            let (key, other) = map(token);
            if !std::ptr::eq(key, token) || !is_same(other, value) {
                return Checked::Mismatch(Mismatch {
                    index: first + index,
                    key,
                    value: other,
                    before,
                });
            }
        }
    }
    Checked::Constant(value)
}

/// The token from `start` to `end`, a position in the chunk, if there is one; and the next start.
#[inline(always)]
fn token_at<'b>(
    chunk: &IndexedChunk<'b, '_>,
    keep_empty: bool,
    start: &mut usize,
    end: u16,
) -> Option<&'b [u8]> {
    let end = chunk.base + usize::from(end);
    // A chunk's positions are in order and in its block, so there always is a slice.
    let token = chunk.block.get(*start..end).unwrap_or_default();
    *start = end + 1;
    let is_token = chunk.pairs == 0 || chunk.ends_token(end);
    (is_token && (keep_empty || !token.is_empty())).then_some(token)
}

/// Most keys of a batch are rare: a fold of at most this many values is looked up.
const FEW: usize = 64;

/// Folds of equal values.
struct Folds<'f, V, F> {
    /// The folds of one, two, three … values.
    few: [V; FEW],
    /// How many of them exist so far.
    len: usize,
    reduce: &'f F,
}

impl<'f, V, F> Folds<'f, V, F>
where
    V: Copy,
    F: Fn(V, V) -> V,
{
    fn new(value: V, reduce: &'f F) -> Self {
        Folds {
            few: [value; FEW],
            len: 1,
            reduce,
        }
    }

    /// The fold of `count` values, which is not 0. No more calls than one after the other would
    /// take.
    #[inline]
    fn of(&mut self, count: u64) -> V {
        match self.few[..self.len].get((count - 1) as usize) {
            Some(fold) => *fold,
            None => self.make(count),
        }
    }

    #[cold]
    fn make(&mut self, count: u64) -> V {
        let one = self.few[0];
        if count <= FEW as u64 {
            while (self.len as u64) < count {
                self.few[self.len] = (self.reduce)(self.few[self.len - 1], one);
                self.len += 1;
            }
            return self.few[self.len - 1];
        }
        // From the highest bit down, so that no fold is made of more values than there are: it
        // might overflow.
        let bits = (0..count.ilog2()).rev();
        bits.fold(one, |fold, bit| {
            let twice = (self.reduce)(fold, fold);
            if count >> bit & 1 == 0 {
                twice
            } else {
                (self.reduce)(twice, one)
            }
        })
    }
}

/// Defines `is_primitive` and `is_same` for these types. Compiled for a type, both are a constant
/// or one comparison.
macro_rules! primitives {
    ($($int:ident)*; $($float:ident)*) => {
        /// Returns `true` if `is_same` can compare values of this type.
        #[inline(always)]
        pub(crate) fn is_primitive<V: 'static>() -> bool {
            let type_id = TypeId::of::<V>();
            $(type_id == TypeId::of::<$int>() ||)* $(type_id == TypeId::of::<$float>())||*
        }

        /// Returns `true` if two values are known to have the same bits.
        #[inline(always)]
        fn is_same<V: 'static>(a: V, b: V) -> bool {
            let (a, b): (&dyn Any, &dyn Any) = (&a, &b);
            $(if let (Some(a), Some(b)) = (a.downcast_ref::<$int>(), b.downcast_ref::<$int>()) {
                return a == b;
            })*
            // Two zeros are equal and two NaNs are not, but the question is about bits.
            $(if let (Some(a), Some(b)) = (a.downcast_ref::<$float>(), b.downcast_ref::<$float>()) {
                return a.to_bits() == b.to_bits();
            })*
            false
        }
    };
}

primitives!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize; f32 f64);

/// Returns `value`, whose type is `W`, which the compiler does not know.
#[inline(always)]
fn cast<V: Copy + 'static, W: Copy + 'static>(value: V) -> W {
    let value: &dyn Any = &value;
    *value
        .downcast_ref()
        .expect("the caller has made sure of the type")
}
