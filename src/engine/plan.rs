//! What an engine is to compute, as the engine sees it: pipelines in the shards, outputs behind them.
//!
//! Promise: the two planes meet here and nowhere else. A [`Pipeline`] is compiled into one stage a shard
//! (the record plane); an [`Output`] sees each merged batch once, where it is published (the batch plane).
//! Must not know: operators, formats.

use std::sync::Arc;

use crate::batch::BatchStats;
use crate::engine::control::Control;
use crate::epoch::barrier::Barrier;
use crate::epoch::hand_over::{NodeTable, PartialAggregate};
use crate::epoch::merge::{check_counts, table_of, table_of_mut};
use crate::error::{Error, ErrorKind, Result};
use crate::id::StreamId;
use crate::memory::PipelineNeeds;
use crate::shard::count::CountStage;
use crate::shard::stage::Stage;
use crate::split::{Kernel, Rule};
use crate::table::bound::MemoryCap;
use crate::table::keys::Seed;
use crate::table::{KeyTable, add};
use crate::time::BatchTime;

/// A pipeline from a stream to a reduction.
pub(crate) trait Pipeline: Send + Sync {
    /// Number of the stream it reads.
    fn stream(&self) -> StreamId;
    /// The finest rule at whose delimiters its stream may be cut.
    fn rule(&self) -> Rule;
    /// The half that runs in a shard. Each of its tables keeps within `bound`.
    fn stage(&self, kernel: Kernel, seed: Seed, bound: MemoryCap) -> Box<dyn Stage>;
    /// An empty table for it, which keeps within `bound`.
    fn partial(&self, seed: Seed, bound: MemoryCap) -> Box<dyn PartialAggregate>;
    /// What memory it needs; nothing if its memory cannot be limited.
    fn needs(&self) -> PipelineNeeds;
    /// Folds `from` into `into`; both came from `partial`.
    fn merge(&self, into: &mut dyn PartialAggregate, from: &dyn PartialAggregate);
    /// Checks a merged table against what the splitting saw, where the pipeline only counts.
    fn check(&self, merged: &NodeTable) -> Result<()>;
}

/// An epoch as the batch plane gets it: every shard's part in one.
pub(crate) struct Merged<'a> {
    pub(crate) barrier: Barrier,
    /// One for each node. What one holds means nothing when it has failed.
    pub(crate) nodes: &'a mut [NodeTable],
    /// One for each node.
    pub(crate) stats: &'a [BatchStats],
    pub(crate) control: &'a Control,
}

impl Merged<'_> {
    /// What a function of the user's said when it panicked in a shard or while tables were merged: the first
    /// of those that did.
    pub(crate) fn failure(&self) -> Option<&str> {
        first_failure(self.nodes)
    }
}

/// The failure of the first node that has one.
pub(crate) fn first_failure(nodes: &[NodeTable]) -> Option<&str> {
    nodes.iter().find_map(|node| node.failure.as_deref())
}

/// What is done with each batch.
pub(crate) trait Output: Send {
    /// Called once an epoch, in order, also for those that have failed.
    ///
    /// # Errors
    ///
    /// An error ends the run. A batch that failed is none: it is told to `control`.
    fn emit(&mut self, epoch: &mut Merged<'_>) -> Result<()>;
}

/// The error of a batch in which a user-supplied function panicked, that of `operator` if it is known.
#[cold]
pub(crate) fn failed_batch(time: BatchTime, operator: Option<&str>, message: &str) -> Error {
    let ms = time.as_millis();
    let place = operator.map(|operator| format!("in {operator}: "));
    let place = place.unwrap_or_default();
    Error::new(
        ErrorKind::UserFunction,
        format!("batch {ms} ms failed: {place}{message}"),
    )
}

/// The error of something user-supplied that panicked when it was dropped.
#[cold]
pub(crate) fn failed_drop(message: &str) -> Error {
    Error::new(
        ErrorKind::UserFunction,
        format!("a user-supplied function or value panicked when it was dropped: {message}"),
    )
}

/// Everything an engine computes.
pub(crate) struct Plan {
    pub(crate) nodes: Vec<Arc<dyn Pipeline>>,
    /// In registration order.
    pub(crate) outputs: Vec<Box<dyn Output>>,
}

impl Plan {
    /// What memory each pipeline needs.
    pub(crate) fn needs(&self) -> Vec<PipelineNeeds> {
        self.nodes.iter().map(|node| node.needs()).collect()
    }

    /// Each stream's first node.
    pub(crate) fn first_nodes(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|&index| {
            let stream = self.nodes[index].stream();
            self.nodes[..index]
                .iter()
                .all(|node| node.stream() != stream)
        })
    }

    /// The rule at whose delimiters the numbered stream may be cut inside an overlong record: that of
    /// its pipelines if they agree, else only record ends.
    pub(crate) fn rule_of(&self, stream: StreamId) -> Rule {
        let mut rules = self
            .nodes
            .iter()
            .filter(|node| node.stream() == stream)
            .map(|n| n.rule());
        let first = rules.next().unwrap_or(Rule::Lines);
        if rules.all(|rule| rule == first) {
            first
        } else {
            Rule::Lines
        }
    }
}

/// The tokens of a stream, counted as they are. Its result can be checked against its input.
pub(crate) struct CountTokens {
    stream: StreamId,
    rule: Rule,
}

impl CountTokens {
    /// Counts the tokens `rule` makes of the numbered stream.
    pub(crate) fn new(stream: StreamId, rule: Rule) -> Self {
        CountTokens { stream, rule }
    }
}

impl Pipeline for CountTokens {
    fn stream(&self) -> StreamId {
        self.stream
    }

    fn rule(&self) -> Rule {
        self.rule
    }

    fn stage(&self, kernel: Kernel, seed: Seed, _bound: MemoryCap) -> Box<dyn Stage> {
        Box::new(CountStage::new(self.rule, kernel, seed))
    }

    fn partial(&self, seed: Seed, bound: MemoryCap) -> Box<dyn PartialAggregate> {
        Box::new(KeyTable::counting(seed, bound))
    }

    fn needs(&self) -> PipelineNeeds {
        PipelineNeeds::counting()
    }

    fn merge(&self, into: &mut dyn PartialAggregate, from: &dyn PartialAggregate) {
        table_of_mut::<u64>(into).merge_from(table_of(from), add);
    }

    fn check(&self, merged: &NodeTable) -> Result<()> {
        check_counts(
            table_of(merged.partial.as_ref()),
            merged.block_bytes,
            merged.tallied,
        )
    }
}
