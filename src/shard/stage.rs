//! What a pipeline does with a block: records, then a key and a value of each, then the table.
//!
//! Promise: the whole pipeline is one monomorphised loop; the only indirect call is one per block.
//! Refuses to know: where blocks come from, when an epoch ends.

use std::sync::Arc;

use crate::epoch::merge::table_of_mut;
use crate::epoch::swap::Partial;
use crate::ring::arena::Block;
use crate::split::{Kernel, Rule, Splitter, Tallied};

/// One pipeline in one shard.
pub(crate) trait Stage: Send {
    /// Counts `block` into the tables this pipeline made.
    fn block(&mut self, block: &Block, into: &mut dyn Partial) -> Tallied;

    /// Puts everything that was counted and not yet added into the tables: their epoch ends.
    fn flush(&mut self, into: &mut dyn Partial);
}

/// The record plane of a pipeline: how a block becomes records. Every operator in front of the first
/// reduction is one implementation around another, and the compiler makes one loop of them.
///
/// Records are slices of the block: nothing is copied and nothing allocated.
pub trait Records: Clone + Send + Sync + 'static {
    /// The finest rule at whose delimiters a stream may be cut without changing what `for_each` gives.
    fn rule(&self) -> Rule;

    /// Calls `f` for every record of `block`, which ends with a record end, in order. `splitter` was
    /// made for [`rule`](Self::rule).
    ///
    /// Returns what was split; `tokens` in it is the number of calls of `f`.
    fn for_each<'b, F>(&self, splitter: &mut Splitter, block: &'b [u8], f: F) -> Tallied
    where
        F: FnMut(&'b [u8]);
}

/// The records a rule makes of a stream: lines, or the words of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens(pub Rule);

impl Records for Tokens {
    fn rule(&self) -> Rule {
        self.0
    }

    #[inline]
    fn for_each<'b, F>(&self, splitter: &mut Splitter, block: &'b [u8], f: F) -> Tallied
    where
        F: FnMut(&'b [u8]),
    {
        splitter.tokens(block, f)
    }
}

/// A pipeline that ends in a reduction by key.
pub(crate) struct KeyedStage<R, M, F> {
    records: R,
    map: Arc<M>,
    reduce: Arc<F>,
    splitter: Splitter,
}

impl<R: Records, M, F> KeyedStage<R, M, F> {
    /// `map` gives a record's key and value, `reduce` folds the values of a key.
    pub(crate) fn new(records: R, map: Arc<M>, reduce: Arc<F>, kernel: Kernel) -> Self {
        let splitter = Splitter::new(records.rule(), kernel);
        KeyedStage {
            records,
            map,
            reduce,
            splitter,
        }
    }
}

impl<R, M, V, F> Stage for KeyedStage<R, M, F>
where
    R: Records,
    V: Copy + Send + 'static,
    M: Fn(&[u8]) -> (&[u8], V) + Send + Sync,
    F: Fn(V, V) -> V + Send + Sync,
{
    fn block(&mut self, block: &Block, into: &mut dyn Partial) -> Tallied {
        let table = table_of_mut::<V>(into);
        let (map, reduce, around) = (&*self.map, &*self.reduce, block.guarded());
        self.records
            .for_each(&mut self.splitter, block.bytes(), |record| {
                let (key, value) = map(record);
                table.add_within(around, key, value, reduce);
            })
    }

    fn flush(&mut self, _into: &mut dyn Partial) {}
}
