//! One shard: counts blocks into its own tables and hands them over at a barrier.
//!
//! Promise: shards share nothing. The tables that a shard hands over for a barrier hold what it
//! counted before that barrier, and nothing else. Must not know: `source`, `sink`, `time`, other
//! shards.
//!
//! `ShardCore` is the shard without a thread: tests step it, and the reading side owns one to count
//! with when every ring is full. `stage` is what a pipeline does with a block: `count` counts
//! tokens as they are, `keyed` reduces what closures make of records, `combine` combines values
//! into another type, `aggregate` aggregates them. `worker` is the pinned thread, `alone` a
//! pipeline without one.

pub(crate) mod aggregate;
pub(crate) mod alone;
pub(crate) mod combine;
pub(crate) mod count;
pub(crate) mod keyed;
mod pack;
pub(crate) mod stage;
pub(crate) mod worker;

use std::sync::Arc;

use self::stage::Stage;
use crate::epoch::barrier::Barrier;
use crate::epoch::hand_over::{NodeTable, SealedOut, Tables};
use crate::error::guarded;
use crate::id::StreamId;
use crate::metrics::ShardRecorder;
use crate::ring::arena::Block;
use crate::split::LineEnds;

/// The pipelines of one thread, with the tables that they fill.
pub(crate) struct PipelineSet {
    /// The stage of each pipeline, with the number of the stream it reads.
    stages: Vec<(StreamId, Box<dyn Stage>)>,
    /// The tables being filled, one for each stage.
    pub(crate) tables: Tables,
    /// Called if there is no room for a key: then the run must end.
    when_full: Option<WhenFull>,
    line_ends: LineEnds,
}

/// A shard's state.
pub(crate) struct ShardCore {
    pipelines: PipelineSet,
    out: SealedOut,
    recorder: ShardRecorder,
}

/// Called after each block in which there was no room for a key.
pub(crate) type WhenFull = Arc<dyn Fn() + Send + Sync>;

impl PipelineSet {
    /// Pipelines that fill `tables`, one for each of `stages`. `when_full` is called after each
    /// block in which there was no room for a key.
    pub(crate) fn new(
        stages: Vec<(StreamId, Box<dyn Stage>)>,
        tables: Tables,
        line_ends: LineEnds,
        when_full: Option<WhenFull>,
    ) -> Self {
        assert_eq!(stages.len(), tables.nodes.len(), "one table for each stage");
        PipelineSet {
            stages,
            tables,
            when_full,
            line_ends,
        }
    }

    /// Counts one block. Returns the number of its records.
    pub(crate) fn count(&mut self, block: &Block, stream: StreamId) -> u64 {
        let bytes = block.bytes().len() as u64;
        self.tables.block_bytes += bytes;
        // That of the first pipeline: the others see the same records.
        let mut records = None;
        for ((wanted, stage), node) in self.stages.iter_mut().zip(&mut self.tables.nodes) {
            if *wanted != stream {
                continue;
            }
            node.block_bytes += bytes;
            let records_before = node.tallied.records;
            let has_failed = node.failure.is_some();
            count_node(stage.as_mut(), node, block, self.line_ends);
            records.get_or_insert(node.tallied.records - records_before);
            if let Some(when_full) = &self.when_full
                && !has_failed
                && (stage.is_full() || node.partial.overflow().other > 0)
            {
                when_full();
            }
        }
        records.unwrap_or_default()
    }

    /// Moves everything that was counted into the tables: their epoch ends.
    pub(crate) fn flush(&mut self) {
        for ((_, stage), node) in self.stages.iter_mut().zip(&mut self.tables.nodes) {
            let partial = node.partial.as_mut();
            if node.failure.is_none() {
                let flushed = guarded(|| stage.flush(partial));
                node.failure = flushed.err().map(|panic| panic_message(panic.as_ref()));
            }
            if node.failure.is_some() {
                stage.abandon(partial);
            }
        }
    }
}

impl ShardCore {
    /// A shard that runs `pipelines` and hands their tables over through `out`.
    pub(crate) fn new(pipelines: PipelineSet, out: SealedOut, recorder: ShardRecorder) -> Self {
        ShardCore {
            pipelines,
            out,
            recorder,
        }
    }

    /// Counts one block.
    pub(crate) fn count(&mut self, block: &Block, stream: StreamId) {
        let begin = self.recorder.begin();
        let records = self.pipelines.count(block, stream);
        self.recorder.counted(begin, block.bytes().len(), records);
    }

    /// Hands the tables over for `barrier`. Returns `false` if the spare ones are not back.
    pub(crate) fn try_seal(&mut self, barrier: Barrier) -> bool {
        if !self.out.has_spare() {
            return false;
        }
        let begin = self.recorder.begin();
        self.pipelines.flush();
        let is_swapped = self.out.try_swap(&mut self.pipelines.tables, barrier);
        self.recorder.sealed(begin);
        is_swapped
    }
}

/// Counts a block with one pipeline.
fn count_node(stage: &mut dyn Stage, node: &mut NodeTable, block: &Block, line_ends: LineEnds) {
    if node.failure.is_none() {
        let partial = node.partial.as_mut();
        // Only a user-supplied function can panic. The pipeline's table of this epoch is then
        // incomplete: its batch is reported as failed, and the table is only ever cleared. Others
        // go on.
        match guarded(|| stage.block(block, partial)) {
            Ok(tallied) => node.tallied = crate::epoch::merge::sum(node.tallied, tallied),
            Err(panic) => node.failure = Some(panic_message(panic.as_ref())),
        }
    }
    if node.failure.is_some() {
        // Input is reported all the same.
        node.tallied.records += block.content().records(line_ends);
    }
}

/// The text of a panic.
#[cold]
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}
