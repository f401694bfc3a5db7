//! What an engine computes, as the engine sees it: pipelines in the shards, outputs behind them.
//!
//! Promise: the two planes meet here and nowhere else. A [`Pipeline`] is compiled into one stage
//! for each shard (the record plane); an [`Output`] sees each merged batch once, where it is
//! published (the batch plane). Must not know: operators, formats.

use std::sync::Arc;
use std::time::Duration;

use crate::batch::BatchStats;
use crate::engine::control::Control;
use crate::engine::publish_turn::PublishTurn;
use crate::epoch::barrier::Barrier;
use crate::epoch::hand_over::{NodeTable, PartialAggregate};
use crate::epoch::merge::{check_counts, table_of, table_of_mut};
use crate::error::{Error, ErrorKind, Result};
use crate::id::StreamId;
use crate::memory::PipelineNeeds;
use crate::position::EpochPositions;
use crate::shard::count::CountStage;
use crate::shard::stage::Stage;
use crate::split::{Kernel, Rule};
use crate::table::bound::MemoryCap;
use crate::table::keys::Seed;
use crate::table::{KeyTable, add};
use crate::time::{BatchTime, Clock};

/// A pipeline from a stream to a reduction.
pub(crate) trait Pipeline: Send + Sync {
    /// Returns the number of the stream it reads.
    fn stream(&self) -> StreamId;
    /// Returns the finest rule at whose delimiters its stream may be cut.
    fn rule(&self) -> Rule;
    /// Returns the half that runs in a shard. Each of its tables keeps within `bound`.
    fn stage(&self, kernel: Kernel, seed: Seed, bound: MemoryCap) -> Box<dyn Stage>;
    /// Returns an empty table for it that keeps within `bound`.
    fn partial(&self, seed: Seed, bound: MemoryCap) -> Box<dyn PartialAggregate>;
    /// Returns the memory it needs: nothing if its memory cannot be limited.
    fn needs(&self) -> PipelineNeeds;
    /// Merges `from` into `into`; both came from `partial`.
    fn merge(&self, into: &mut dyn PartialAggregate, from: &dyn PartialAggregate);
    /// Checks a merged table against what was split, if the pipeline only counts.
    fn check(&self, merged: &NodeTable) -> Result<()>;
}

/// An epoch as the batch plane sees it: the parts of all shards, merged.
pub(crate) struct Merged<'a> {
    pub(crate) barrier: Barrier,
    /// One for each pipeline. The table of one that has failed means nothing.
    pub(crate) nodes: &'a mut [NodeTable],
    /// One for each pipeline.
    pub(crate) stats: &'a [BatchStats],
    /// Where sources were that know it.
    pub(crate) positions: Option<&'a EpochPositions>,
    pub(crate) clock: &'a Clock,
    pub(crate) control: &'a Control,
}

impl Merged<'_> {
    /// The message of the first user-supplied function that panicked, in a shard or while tables
    /// were merged.
    pub(crate) fn failure(&self) -> Option<&str> {
        first_failure(self.nodes)
    }
}

/// The failure of the first node that has one.
pub(crate) fn first_failure(nodes: &[NodeTable]) -> Option<&str> {
    nodes.iter().find_map(|node| node.failure.as_deref())
}

/// What an output did with an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Emitted {
    /// It is done with the epoch.
    Done,
    /// It is to be called again with the same epoch: at that time since 1970, or when something
    /// wakes the publisher.
    Wait(Duration),
}

/// What is done with each batch.
pub(crate) trait Output: Send {
    /// Handles one epoch. Called in order, also for epochs that have failed.
    ///
    /// # Errors
    ///
    /// An error ends the run. A batch that fails is no error: it is reported to `control`.
    fn emit(&mut self, epoch: &mut Merged<'_>) -> Result<Emitted>;

    /// The last epoch up to which everything it emitted is delivered; `u64::MAX` if nothing is
    /// under way.
    fn delivered(&self) -> u64 {
        u64::MAX
    }

    /// Threads that it needs; asked once, before the first epoch.
    fn threads(&mut self) -> Vec<Box<dyn OutputThread>> {
        Vec::new()
    }
}

/// A thread of an output.
pub(crate) trait OutputThread: Send {
    /// The thread's name.
    fn name(&self) -> String;
    /// The thread's work: until there is no more, or the run is aborted.
    fn run(&mut self, host: &ThreadHost);
}

/// What the thread of an output works with.
pub(crate) struct ThreadHost {
    pub(crate) control: Arc<Control>,
    pub(crate) clock: Clock,
    pub(crate) publish_turn: Arc<PublishTurn>,
}

impl ThreadHost {
    /// Called when the output has room again, or has delivered something.
    pub(crate) fn wake_publisher(&self) {
        self.publish_turn.wake();
    }
}

/// Returns the error of a batch in which a user-supplied function panicked: that of `operator`, if
/// it is known.
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

/// Returns the error of a user-supplied value that panicked when it was dropped.
#[cold]
pub(crate) fn failed_drop(message: &str) -> Error {
    Error::new(
        ErrorKind::UserFunction,
        format!("a user-supplied function or value panicked when it was dropped: {message}"),
    )
}

/// A pipeline, and what it is called in messages and metrics.
pub(crate) struct NamedPipeline {
    pub(crate) name: Arc<str>,
    pub(crate) pipeline: Arc<dyn Pipeline>,
}

impl NamedPipeline {
    /// The pipeline of `lines.flat_map(rule).count_by_value()`.
    pub(crate) fn tokens(tokens: CountTokens) -> Self {
        NamedPipeline {
            name: Arc::from("count_by_value"),
            pipeline: Arc::new(tokens),
        }
    }
}

/// Everything an engine computes.
pub(crate) struct EnginePlan {
    pub(crate) nodes: Vec<NamedPipeline>,
    /// In registration order.
    pub(crate) outputs: Vec<Box<dyn Output>>,
}

impl EnginePlan {
    /// Takes the threads that outputs need.
    pub(crate) fn take_threads(&mut self) -> Vec<Box<dyn OutputThread>> {
        let outputs = self.outputs.iter_mut();
        outputs.flat_map(|output| output.threads()).collect()
    }

    /// Returns the pipelines without their names.
    pub(crate) fn pipelines(&self) -> impl Iterator<Item = &dyn Pipeline> {
        self.nodes.iter().map(|node| node.pipeline.as_ref())
    }

    /// Returns the memory that each pipeline needs.
    pub(crate) fn needs(&self) -> Vec<PipelineNeeds> {
        self.pipelines().map(|node| node.needs()).collect()
    }

    /// Returns the first pipeline of each stream.
    pub(crate) fn first_nodes(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|&index| {
            let stream = self.nodes[index].pipeline.stream();
            let mut before = self.pipelines().take(index);
            before.all(|node| node.stream() != stream)
        })
    }

    /// Returns the rule at whose delimiters the stream may be cut inside a record that is too long:
    /// that of its pipelines if they agree, else only record ends.
    pub(crate) fn rule_of(&self, stream: StreamId) -> Rule {
        let pipelines = self.pipelines();
        let of_stream = pipelines.filter(|node| node.stream() == stream);
        let mut rules = of_stream.map(|node| node.rule());
        let first = rules.next().unwrap_or(Rule::Lines);
        if rules.all(|rule| rule == first) {
            first
        } else {
            Rule::Lines
        }
    }
}

/// Counts the tokens of a stream as they are. Its result can be checked against its input.
pub(crate) struct CountTokens {
    stream: StreamId,
    rule: Rule,
    may_be_direct: bool,
}

impl CountTokens {
    /// Counts the tokens that `rule` makes of the stream.
    pub(crate) fn new(stream: StreamId, rule: Rule) -> Self {
        CountTokens {
            stream,
            rule,
            may_be_direct: true,
        }
    }

    /// This pipeline, but with the kernel for small batches too: for tests that compare kernels.
    pub(crate) fn never_direct(self) -> Self {
        CountTokens {
            may_be_direct: false,
            ..self
        }
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
        let stage = CountStage::new(self.rule, kernel, seed);
        Box::new(match self.may_be_direct {
            true => stage,
            false => stage.never_direct(),
        })
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
