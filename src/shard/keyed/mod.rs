//! Pipelines with functions of the user's: a key and a value of each record, the values of a key reduced.
//!
//! Promise: the table that `table.add(key, value, reduce)` for one record after the other gives, `map` called
//! once a record and in order. `reduce` is associative and commutative, and need not be called as often.
//! Must not know: where blocks come from, when an epoch ends, what the functions do.
//!
//! The naive version is that loop of `add`s, one cache miss after the other. A pipeline does something
//! better with what its `map` gives, without guessing and without looking at the function:
//!
//! 1. *The record itself, and one value for all.* Records that are tokens come in chunks. `map` is called for
//!    every token of a chunk, and it is checked that the key is the token, the same bytes at the same
//!    address, and the value the same bits as before. Then the chunk is counted by the kernel that counts
//!    tokens as they are. For `|word| (word, 1)` the compiler sees that the check always holds and that
//!    nothing else happens in its loop, and deletes it: the pipeline is the counting kernel.
//! 2. *Some other key, and one value for all*: `|line| (&line[..3], 1)`, filtered records. The keys are listed,
//!    and counted many at a time as the kernel counts what it has listed.
//! 3. *Different values.* Where the table has outgrown the caches, pairs are gathered, and the table's lines
//!    asked for before the first is needed. Else it is the naive loop.
//!
//! A chunk that begins as 1 may go on as 2, and then as 3. What was counted, `n` times one value, becomes a
//! value when the epoch ends: the fold of `n` equal values is looked up where `n` is small, and else takes at most
//! `2 * log2(n)` calls of `reduce`, because it is associative. Values are compared bit by bit, and only primitive numbers are; all others go way 3.
//!
//! Dropped: a loop of `n - 1` calls, which the compiler turns into a product where `reduce` adds integers, but not
//! where it adds floats: a pause of seconds after a batch of billions; gathering pairs for a small table, which
//! took up to 12 % longer for text of 50 000 words.
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
use crate::shard::count::{Counter, keeps_empty};
use crate::shard::pack::place;
use crate::shard::stage::{Records, Stage};
use crate::split::{Kernel, Run, Splitter, Tallied, Visit};
use crate::table::{KeyTable, add};

/// Pairs that are gathered before they are added: as many as `KeyTable::add_each_within` takes at once.
const GATHERED_MAX: usize = 32;

/// See the module.
pub(crate) struct KeyedStage<R, M, V, F> {
    records: R,
    map: Arc<M>,
    reduce: Arc<F>,
    splitter: Splitter,
    counting: Counting<V>,
    /// Pairs of the block at hand, their keys as places in it. Of no value between two blocks.
    gathered: Vec<(u64, V)>,
}

/// Keys that were counted because all had the same value.
struct Counting<V> {
    counter: Counter,
    counts: KeyTable<u64>,
    /// The value of every key that was counted in this epoch; `None` if none was.
    constant: Option<V>,
}

impl<R: Records, M, V: Copy + Send + 'static, F> KeyedStage<R, M, V, F> {
    /// `map` gives a record's key and value, `reduce` folds the values of a key. `counts` is an empty table with
    /// the seed of the pipeline's.
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
            counting: Counting::new(kernel, counts),
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
        self.counting.begin(table);
        let is_large = table.is_large();
        let mut pairs = Pairs {
            around: block.guarded(),
            counting: &mut self.counting,
            gathered: &mut self.gathered,
            table,
            reduce: &*self.reduce,
            varies: !is_primitive::<V>(),
            is_large,
        };
        let (splitter, bytes) = (&mut self.splitter, block.bytes());
        let tallied = match self.records.plain() {
            Some(rule) if is_primitive::<V>() => {
                let keep_empty = keeps_empty(rule);
                let mut chunks = Chunks {
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
        self.counting.flush(table_of_mut(into), &*self.reduce);
    }

    fn is_full(&self) -> bool {
        self.counting.is_full()
    }

    fn abandon(&mut self, _into: &mut dyn PartialAggregate) {
        self.gathered.clear();
        self.counting.abandon();
    }
}

impl<V: Copy + Send + 'static> Counting<V> {
    fn new(kernel: Kernel, counts: KeyTable<u64>) -> Self {
        Counting {
            counter: Counter::new(kernel, counts.seed()),
            counts,
            constant: None,
        }
    }

    /// Whether there was no room for a key that was counted.
    fn is_full(&self) -> bool {
        self.counts.overflow().other > 0
    }

    /// The epoch's first block. The counts are gathered in the memory they will be handed over in: `flush`
    /// swaps back, and one table less goes through the caches.
    fn begin(&mut self, table: &mut KeyTable<V>) {
        if self.constant.is_none() {
            self.swap_if_empty(table);
        }
    }

    /// Puts what was counted into `table`, as values.
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
        // The next time both are walked in one order, also if somebody flooded one of them meanwhile.
        counts.set_seed(table.seed());
    }

    /// Forgets what was counted.
    fn abandon(&mut self) {
        self.counter.flush(&mut self.counts);
        self.counts.clear();
        self.constant = None;
    }

    /// Swaps the counts and `table` if they are of one type and nothing was put into `table`. Returns whether it did.
    fn swap_if_empty(&mut self, table: &mut KeyTable<V>) -> bool {
        match (table as &mut dyn Any).downcast_mut::<KeyTable<u64>>() {
            // An empty table may have refused keys: what it lost is the batch's, and stays with it.
            Some(table) if table.is_empty() && table.overflow().is_none() => {
                // What a value stands for is another thing in each of them.
                self.counts.swap_content(table);
                true
            }
            _ => false,
        }
    }
}

/// One block's way into the table, pair by pair.
struct Pairs<'s, V, F> {
    /// The block and the guard behind it.
    around: &'s [u8],
    counting: &'s mut Counting<V>,
    gathered: &'s mut Vec<(u64, V)>,
    table: &'s mut KeyTable<V>,
    reduce: &'s F,
    /// A value differed from the constant: those behind it are not compared any more, up to the end of the
    /// chunk or, where there are no chunks, of the block.
    varies: bool,
    /// Whether it pays to gather pairs. It is asked once a block: a table does not grow much in one.
    is_large: bool,
}

impl<V, F> Pairs<'_, V, F>
where
    V: Copy + 'static,
    F: Fn(V, V) -> V,
{
    /// Takes one pair in. It is in a table once `finish` was called.
    #[inline(always)]
    fn push(&mut self, key: &[u8], value: V) {
        if !self.varies && !self.is_constant(value) {
            self.varies = true;
        }
        if self.goes_directly() {
            return self.push_directly(key, value);
        }
        // Wrapping, so that a key which lies elsewhere gets a start behind the end.
        let start = key
            .as_ptr()
            .addr()
            .wrapping_sub(self.around.as_ptr().addr());
        let is_listable = start < self.around.len() && key.last().is_some_and(|&last| last != 0);
        if !is_listable {
            self.push_odd(key, value);
        } else if self.varies {
            self.gathered.push((place(start, key.len()), value));
            if self.gathered.len() == GATHERED_MAX {
                self.add_gathered();
            }
        } else {
            let Counting {
                counter, counts, ..
            } = &mut *self.counting;
            counter.list(self.around, start, key.len(), counts);
        }
    }

    /// Whether all pairs from here on are added one by one: a loop over them need not ask again.
    #[inline(always)]
    fn goes_directly(&self) -> bool {
        self.varies && !self.is_large
    }

    #[inline(always)]
    fn push_directly(&mut self, key: &[u8], value: V) {
        self.table.add_within(self.around, key, value, self.reduce);
    }

    /// A key that is empty, ends in NUL, or lies outside of the block.
    #[inline(never)]
    fn push_odd(&mut self, key: &[u8], value: V) {
        if self.varies {
            self.table.add(key, value, self.reduce);
        } else {
            self.counting.counts.add(key, 1, add);
        }
    }

    #[inline(always)]
    fn is_constant(&mut self, value: V) -> bool {
        is_same(*self.counting.constant.get_or_insert(value), value)
    }

    #[inline(never)]
    fn add_gathered(&mut self) {
        self.table
            .add_each_within(self.around, self.gathered, self.reduce);
        self.gathered.clear();
    }

    /// Adds what waits for others: the block, or a chunk that the kernel may not take, is over.
    fn finish(&mut self) {
        let Counting {
            counter, counts, ..
        } = &mut *self.counting;
        counter.count_listed(self.around, counts);
        self.add_gathered();
    }
}

/// The same, chunk by chunk.
struct Chunks<'p, 's, V, F, M> {
    pairs: &'p mut Pairs<'s, V, F>,
    map: &'p M,
    keep_empty: bool,
}

impl<'b, V, F, M> Visit<'b> for Chunks<'_, '_, V, F, M>
where
    V: Copy + 'static,
    F: Fn(V, V) -> V,
    M: Fn(&[u8]) -> (&[u8], V),
{
    #[inline]
    fn run(&mut self, run: &Run<'b, '_>) -> usize {
        match check(run, self.keep_empty, self.map, self.pairs.counting.constant) {
            Checked::None => 0,
            Checked::Constant(value) => {
                let Counting {
                    counter,
                    counts,
                    constant,
                } = &mut *self.pairs.counting;
                *constant = Some(value);
                counter.count(run, self.pairs.around, self.keep_empty, counts)
            }
            Checked::Odd(odd) => self.run_pairs(run, &odd),
        }
    }
}

impl<'b, V, F, M> Chunks<'_, '_, V, F, M>
where
    V: Copy + 'static,
    F: Fn(V, V) -> V,
    M: Fn(&[u8]) -> (&[u8], V),
{
    /// A chunk that the kernel may not take. `map` was called up to the odd token.
    #[inline(never)]
    fn run_pairs(&mut self, run: &Run<'b, '_>, odd: &Odd<'b, V>) -> usize {
        let pairs = &mut *self.pairs;
        pairs.varies = false;
        let before = Run {
            ends: &run.ends[..odd.index],
            ..*run
        };
        let mut tokens = before.each(self.keep_empty, |token| pairs.push(token, odd.before));
        pairs.push(odd.key, odd.value);
        tokens += 1;
        let behind = Run {
            start: run.base + usize::from(run.ends[odd.index]) + 1,
            ends: &run.ends[odd.index + 1..],
            ..*run
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
        // The kernel uses the lists itself.
        pairs.finish();
        tokens
    }
}

/// What `map` made of the tokens of a chunk.
enum Checked<'b, V> {
    /// There are none.
    None,
    /// Of every token a pair of itself and this value.
    Constant(V),
    /// Something else.
    Odd(Odd<'b, V>),
}

/// The first token whose pair is not itself and the constant.
struct Odd<'b, V> {
    /// Which of the run's ends is its.
    index: usize,
    key: &'b [u8],
    value: V,
    /// The value of the tokens before it.
    before: V,
}

/// Calls `map` for the tokens of a run, in order, up to the first whose pair is not itself and `constant`, or
/// the first value if that is `None`.
///
/// Where the compiler sees through `map` the loop has to vanish. So it has nothing in it that might panic,
/// a number of turns that is known before it begins, and no state: the first token, which makes the constant, is
/// taken before it.
#[inline(always)]
fn check<'b, V, M>(
    run: &Run<'b, '_>,
    keep_empty: bool,
    map: &M,
    constant: Option<V>,
) -> Checked<'b, V>
where
    V: Copy + 'static,
    M: Fn(&[u8]) -> (&[u8], V),
{
    let mut ends = run.ends.iter();
    let mut start = run.start;
    let token = loop {
        let Some(&end) = ends.next() else {
            return Checked::None;
        };
        if let Some(token) = token_at(run, keep_empty, &mut start, end) {
            break token;
        }
    };
    let rest = ends.as_slice();
    let first = run.ends.len() - rest.len();
    let (key, value) = map(token);
    let before = constant.unwrap_or(value);
    if !std::ptr::eq(key, token) || !is_same(value, before) {
        return Checked::Odd(Odd {
            index: first - 1,
            key,
            value,
            before,
        });
    }
    for (index, &end) in rest.iter().enumerate() {
        if let Some(token) = token_at(run, keep_empty, &mut start, end) {
            let (key, other) = map(token);
            if !std::ptr::eq(key, token) || !is_same(other, value) {
                return Checked::Odd(Odd {
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

/// The token from `start` to `end`, which is a place in the run's chunk, if there is one; and the next start.
#[inline(always)]
fn token_at<'b>(
    run: &Run<'b, '_>,
    keep_empty: bool,
    start: &mut usize,
    end: u16,
) -> Option<&'b [u8]> {
    let end = run.base + usize::from(end);
    // A run's places are in order and in its block, so there always is a slice.
    let token = run.block.get(*start..end).unwrap_or_default();
    *start = end + 1;
    let is_token = if run.pairs > 0 && run.block.get(end) == Some(&b'\n') {
        end == 0 || run.block.get(end - 1) != Some(&b'\r')
    } else {
        true
    };
    (is_token && (keep_empty || !token.is_empty())).then_some(token)
}

/// Most keys of a batch are seldom: a fold of so few values is looked up.
const FEW: usize = 64;

/// Folds of equal values.
struct Folds<'f, V, F> {
    /// The folds of one, two, three … values.
    few: [V; FEW],
    /// How many of them were made so far.
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

    /// The fold of `count` values, which is not 0. No more calls than one after the other would take.
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
        // From the highest bit down, so that no fold is made of more values than there are: it might overflow.
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

/// `is_primitive` and `is_same` for the types named. Both are a constant or one compare once they are compiled
/// for a type.
macro_rules! primitives {
    ($($type:ty => $bits:expr),* $(,)?) => {
        /// Whether `is_same` can tell.
        #[inline(always)]
        pub(crate) fn is_primitive<V: 'static>() -> bool {
            $(TypeId::of::<V>() == TypeId::of::<$type>())||*
        }

        /// Whether two values are bit for bit the same; `false` where that cannot be known.
        #[inline(always)]
        fn is_same<V: 'static>(a: V, b: V) -> bool {
            let (a, b): (&dyn Any, &dyn Any) = (&a, &b);
            $(if let (Some(a), Some(b)) = (a.downcast_ref::<$type>(), b.downcast_ref::<$type>()) {
                let bits: fn(&$type) -> _ = $bits;
                return bits(a) == bits(b);
            })*
            false
        }
    };
}

primitives! {
    u8 => |n| *n,
    u16 => |n| *n,
    u32 => |n| *n,
    u64 => |n| *n,
    u128 => |n| *n,
    usize => |n| *n,
    i8 => |n| *n,
    i16 => |n| *n,
    i32 => |n| *n,
    i64 => |n| *n,
    i128 => |n| *n,
    isize => |n| *n,
    // Two zeros are equal and two not-a-numbers are not: neither is what is asked.
    f32 => |n| n.to_bits(),
    f64 => |n| n.to_bits(),
}

/// `value`, which is of type `W`, as the compiler does not know.
#[inline(always)]
fn cast<V: Copy + 'static, W: Copy + 'static>(value: V) -> W {
    let value: &dyn Any = &value;
    *value
        .downcast_ref()
        .expect("the caller has made sure of the type")
}
