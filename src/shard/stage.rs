//! What a pipeline does with a block, and how a block becomes records.
//!
//! Promise: the whole pipeline is one monomorphised loop; the only indirect call is one a block.
//! Must not know: where blocks come from, when an epoch ends, what is done with records.

use crate::epoch::hand_over::PartialAggregate;
use crate::ring::arena::Block;
use crate::split::{BlockBytes, Rule, Splitter, Tallied};

/// One pipeline in one shard.
pub(crate) trait Stage: Send {
    /// Counts `block` into the tables that this pipeline made.
    fn block(&mut self, block: &Block, into: &mut dyn PartialAggregate) -> Tallied;

    /// Moves everything that was counted and not added yet into the tables: their epoch ends.
    fn flush(&mut self, into: &mut dyn PartialAggregate);

    /// Returns `true` if a key had no room in a table of the stage itself.
    fn is_full(&self) -> bool {
        false
    }

    /// Drops everything of this epoch, after a user-supplied function panicked in `block` or
    /// `flush`. The tables are only ever cleared, whatever they hold.
    fn abandon(&mut self, into: &mut dyn PartialAggregate) {
        self.flush(into);
    }
}

/// The record plane of a pipeline: how a block becomes records. Every operator in front of the
/// first reduction is one implementation around another, and the compiler makes one loop of them.
///
/// Records are slices of the block: nothing is copied and nothing allocated.
pub trait Records: Clone + Send + Sync + 'static {
    /// The finest rule at whose delimiters a stream may be cut without changing the records.
    fn rule(&self) -> Rule;

    /// Calls `f` for every record of `block`, which ends with a record end, in order. `splitter`
    /// was made for [`rule`](Self::rule).
    ///
    /// Returns what was split; its `tokens` is the number of calls of `f`.
    fn for_each<'b, F>(&self, splitter: &mut Splitter, block: BlockBytes<'b>, f: F) -> Tallied
    where
        F: FnMut(&'b [u8]);

    /// The rule, if the records are exactly its tokens: such records may be counted by whole
    /// chunks. `None`, the default, is always right.
    fn plain(&self) -> Option<Rule> {
        None
    }
}

/// The lines of a stream, without their ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineRecords;

impl Records for LineRecords {
    fn rule(&self) -> Rule {
        Rule::Lines
    }

    #[inline]
    fn for_each<'b, F>(&self, splitter: &mut Splitter, block: BlockBytes<'b>, f: F) -> Tallied
    where
        F: FnMut(&'b [u8]),
    {
        splitter.tokens(block, f)
    }

    fn plain(&self) -> Option<Rule> {
        Some(Rule::Lines)
    }
}

/// The tokens of records under a rule: by default, the words of lines.
///
/// Lines are split by vector code, whole blocks at once; other records one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens<R = LineRecords> {
    records: R,
    rule: Rule,
}

impl Tokens {
    /// The tokens of lines.
    pub fn new(rule: Rule) -> Self {
        Tokens::of(LineRecords, rule)
    }
}

impl<R: Records> Tokens<R> {
    /// The tokens of `records`.
    pub fn of(records: R, rule: Rule) -> Self {
        Tokens { records, rule }
    }
}

impl<R: Records> Records for Tokens<R> {
    fn rule(&self) -> Rule {
        self.plain().unwrap_or_else(|| self.records.rule())
    }

    #[inline]
    fn for_each<'b, F>(&self, splitter: &mut Splitter, block: BlockBytes<'b>, mut f: F) -> Tallied
    where
        F: FnMut(&'b [u8]),
    {
        if self.plain().is_some() {
            return splitter.tokens(block, f);
        }
        let mut tokens = 0;
        let tallied = self.records.for_each(splitter, block, |record| {
            for token in self.rule.parts(record) {
                tokens += 1;
                f(token);
            }
        });
        Tallied { tokens, ..tallied }
    }

    fn plain(&self) -> Option<Rule> {
        (self.records.plain() == Some(Rule::Lines)).then_some(self.rule)
    }
}
