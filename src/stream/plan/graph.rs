//! The batch plane: what is computed of each batch, in which order, and what a failure takes with it.
//!
//! Promise: each batch is made once for every stream that an output needs, parents before children, then
//! the outputs run in registration order; a function that panics fails what depends on it and nothing
//! else, and later batches are made. Must not know: what an operator computes, threads, bytes.
//!
//! A stream with a slide of k batches is made at every k-th batch, counted from the batch before the first
//! one (Spark's `zeroTime`), so windows begin with the context and not with the hour.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::batch::BatchStats;
use crate::engine::control::Stop;
use crate::engine::plan::{Merged, Output, failed_batch};
use crate::epoch::hand_over::NodeTable;
use crate::error::{Error, Result, guarded, lock};
use crate::notice::Notices;
use crate::shard::panic_message;
use crate::stream::plan::batch_cache::{Again, BatchCache, Entry, Failure, Owed, Produced};
use crate::stream::plan::rdd::Rdd;
use crate::stream::program::listener::{Reporter, StreamInputInfo};
use crate::time::BatchTime;

/// Number of a stream in its graph; parents have smaller ones than their children.
pub(crate) type NodeId = usize;

/// The batch at hand.
pub(crate) struct BatchContext<'a, 'e> {
    pub(crate) time: BatchTime,
    /// The batch before the first one.
    pub(crate) zero: BatchTime,
    pub(crate) epoch: &'a mut Merged<'e>,
    /// What the stream that is being made reads of `epoch`.
    reads: Option<usize>,
    /// What came in over the streams that are no streams of bytes.
    pub(crate) inputs: Vec<StreamInputInfo>,
}

impl BatchContext<'_, '_> {
    /// Whether a stream with that slide is made at the batch at hand.
    pub(crate) fn is_due(&self, slide_ms: u64) -> bool {
        (self.time.as_millis() - self.zero.as_millis()).is_multiple_of(slide_ms)
    }

    /// What the shards have for the stream that is being made, and how it came about.
    pub(crate) fn of_shards(
        &mut self,
    ) -> std::result::Result<(&mut NodeTable, BatchStats), Failure> {
        let index = self.reads.expect("only who reads of the shards asks");
        let node = &mut self.epoch.nodes[index];
        if let Some(message) = &node.failure {
            return Err(Failure::of_records(message.as_str()));
        }
        Ok((node, self.epoch.stats[index]))
    }
}

/// What operators are told when their context starts.
pub(crate) struct StartContext<'a> {
    /// Batches are to be kept for that long at least.
    pub(crate) remember_ms: u64,
    /// The time, since 1970.
    pub(crate) now: Duration,
    pub(crate) notices: &'a Notices,
    /// The memory of one window over tables, in bytes; `usize::MAX` is no limit.
    pub(crate) window_bytes: usize,
}

/// What an operator does with each batch.
pub(crate) trait Operator: Send {
    /// The operator's name, for messages.
    fn name(&self) -> &'static str;

    /// The context starts.
    fn start(&mut self, _starting: &StartContext<'_>) {}

    /// Makes the batch at hand and keeps it for those that use it.
    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> std::result::Result<(), Failure>;

    /// The batch could not be made: tells those that use it.
    fn fail(&mut self, time: BatchTime, failure: &Failure);

    /// The batch has been published.
    fn leave(&mut self, _now: &mut BatchContext<'_, '_>) {}
}

/// The making of a batch.
pub(crate) struct Attempt<'a> {
    /// The batch's time.
    pub(crate) time: BatchTime,
    /// The time of the batch at hand, a later one if the batch failed at first.
    pub(crate) now: BatchTime,
    /// Where sources enter what came in, the first time.
    pub(crate) inputs: Option<&'a mut Vec<StreamInputInfo>>,
}

/// A [`Operator`] that makes an [`Rdd`] out of what `parts` takes of its parents. A batch that fails is made
/// again, of the same parts, when somebody needs it later.
pub(crate) struct MakeRdd<T, I, P, F> {
    pub(crate) name: &'static str,
    pub(crate) cell: BatchCache<T>,
    pub(crate) parts: P,
    /// The parts of the batch at hand, until it is made.
    pub(crate) taken: Option<I>,
    /// Called by one thread at a time: see [`BatchCache`].
    pub(crate) make: Arc<Mutex<F>>,
}

impl<T, I, P, F> Operator for MakeRdd<T, I, P, F>
where
    T: Send + Sync + 'static,
    I: Send + 'static,
    P: FnMut(&mut BatchContext<'_, '_>) -> std::result::Result<I, Failure> + Send,
    F: FnMut(&I, &mut Attempt<'_>) -> Produced<Rdd<T>> + Send + 'static,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn start(&mut self, starting: &StartContext<'_>) {
        self.cell.start(starting.remember_ms);
    }

    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> std::result::Result<(), Failure> {
        let taken = self.taken.insert((self.parts)(now)?);
        let mut make = lock(&self.make);
        let mut attempt = Attempt {
            time: now.time,
            now: now.time,
            inputs: Some(&mut now.inputs),
        };
        let made = (*make)(taken, &mut attempt)?;
        drop(make);
        self.taken = None;
        self.cell.put(now.time, Entry::Produced(made));
        Ok(())
    }

    fn fail(&mut self, time: BatchTime, failure: &Failure) {
        let again = self.taken.take().map(|taken| -> Again<T> {
            let (make, name) = (Arc::clone(&self.make), self.name);
            Box::new(move |now| {
                let mut attempt = Attempt {
                    time,
                    now,
                    inputs: None,
                };
                let mut make = lock(&make);
                let made = Failure::catch_in_records(|| (*make)(&taken, &mut attempt));
                made.map_err(|failure| failure.within(name))
            })
        });
        let owed = Owed::new(time, failure, again);
        self.cell.put(time, Entry::Failed(owed));
    }
}

/// A [`Operator`] that makes an [`Rdd`] out of what there is only now, such as what the shards have: a batch
/// that failed stays so.
pub(crate) struct TakeRdd<T, F> {
    pub(crate) name: &'static str,
    pub(crate) cell: BatchCache<T>,
    pub(crate) make: F,
}

impl<T, F> Operator for TakeRdd<T, F>
where
    T: Send + Sync + 'static,
    F: FnMut(&mut BatchContext<'_, '_>) -> Produced<Rdd<T>> + Send,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn start(&mut self, starting: &StartContext<'_>) {
        self.cell.start(starting.remember_ms);
    }

    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> std::result::Result<(), Failure> {
        let made = (self.make)(now)?;
        self.cell.put(now.time, Entry::Produced(made));
        Ok(())
    }

    fn fail(&mut self, time: BatchTime, failure: &Failure) {
        let owed = Owed::new(time, failure, None);
        self.cell.put(time, Entry::Failed(owed));
    }
}

/// A stream as the graph sees it.
pub(crate) struct PlanNode {
    /// Every how many milliseconds it is made.
    pub(crate) slide_ms: u64,
    pub(crate) parents: Vec<NodeId>,
    /// How far back it looks into its parents' batches: a window's length.
    pub(crate) reach_ms: u64,
    /// Which of the engine's nodes it is made of, if it is made in the shards.
    pub(crate) reads: Option<usize>,
    pub(crate) step: Box<dyn Operator>,
    /// An output depends on it.
    pub(crate) is_wanted: bool,
}

/// Why an output gave nothing.
pub(crate) enum OutputError {
    /// The batch failed.
    Failed(Failure),
    /// The place it writes to is gone: the run ends.
    Broken(Error),
}

impl From<Failure> for OutputError {
    fn from(failure: Failure) -> Self {
        OutputError::Failed(failure)
    }
}

/// What an output does with a batch.
pub(crate) type Emit =
    Box<dyn FnMut(&mut BatchContext<'_, '_>) -> std::result::Result<(), OutputError> + Send>;

/// An output operation.
pub(crate) struct OutputNode {
    /// The operation's name, as listeners are told.
    pub(crate) name: &'static str,
    pub(crate) slide_ms: u64,
    /// Whether its stream has given something for a batch, if only a failure.
    pub(crate) has_batch: Box<dyn Fn(BatchTime) -> bool + Send>,
    pub(crate) emit: Emit,
}

/// See the module.
pub(crate) struct Graph {
    nodes: Vec<PlanNode>,
    /// In registration order.
    outputs: Vec<OutputNode>,
    interval_ms: u64,
    zero: Option<BatchTime>,
    /// The first batch that fails ends the run.
    fails_fast: bool,
    reporter: Reporter,
    /// The node and the number of each stream of bytes that is read by one.
    byte_inputs: Vec<(usize, usize)>,
}

impl Graph {
    /// A graph whose `nodes` stand behind their parents.
    pub(crate) fn new(
        nodes: Vec<PlanNode>,
        outputs: Vec<OutputNode>,
        interval_ms: u64,
        fails_fast: bool,
        reporter: Reporter,
        byte_inputs: Vec<(usize, usize)>,
    ) -> Self {
        Graph {
            nodes,
            outputs,
            interval_ms,
            zero: None,
            fails_fast,
            reporter,
            byte_inputs,
        }
    }

    /// Makes every stream that is due. Gives a failure that leaves the batch without any output.
    fn make(&mut self, now: &mut BatchContext<'_, '_>) -> Option<Failure> {
        let mut spoilt = None;
        for node in self.nodes.iter_mut().filter(|node| node.is_wanted) {
            if !now.is_due(node.slide_ms) {
                continue;
            }
            now.reads = node.reads;
            let failure = match guarded(|| node.step.run(now)) {
                Ok(Ok(())) => continue,
                Ok(Err(failure)) => failure,
                Err(panic) => Failure::of_records(panic_message(panic.as_ref())),
            };
            let failure = failure.within(node.step.name());
            node.step.fail(now.time, &failure);
            if failure.spoils_batch && spoilt.is_none() {
                spoilt = Some(failure);
            }
        }
        spoilt
    }

    /// Runs the outputs that are due, one after the other. An output that is broken ends the run, after
    /// the others had their batch.
    fn put_out(&mut self, now: &mut BatchContext<'_, '_>) -> Result<()> {
        let time = now.time;
        let (mut broken, mut has_begun) = (Ok(()), false);
        for (id, output) in self.outputs.iter_mut().enumerate() {
            if !now.is_due(output.slide_ms) || !(output.has_batch)(now.time) {
                continue;
            }
            if !std::mem::replace(&mut has_begun, true) {
                let inputs = || inputs(now, &self.byte_inputs);
                self.reporter.batch_started(time, inputs);
            }
            self.reporter.output_started(id, output.name);
            let outcome = match guarded(|| (output.emit)(now)) {
                Ok(outcome) => outcome,
                Err(panic) => Err(Failure::of_records(panic_message(panic.as_ref())).into()),
            };
            match outcome {
                Ok(()) => self.reporter.output_completed(None),
                Err(OutputError::Failed(failure)) => {
                    let failure = failure.within(output.name);
                    self.reporter.output_completed(Some(&failure.message));
                    tell(now, &failure, self.fails_fast);
                }
                Err(OutputError::Broken(error)) => {
                    self.reporter.output_completed(Some(&error.to_string()));
                    broken = broken.and(Err(error));
                }
            }
        }
        self.reporter.batch_completed();
        broken
    }
}

/// What came in over every stream, by its number.
fn inputs(now: &mut BatchContext<'_, '_>, byte_inputs: &[(usize, usize)]) -> Vec<StreamInputInfo> {
    let stats = now.epoch.stats;
    let bytes = byte_inputs.iter().map(|&(node, input)| StreamInputInfo {
        input_stream_id: input,
        num_records: stats[node].records,
    });
    let mut inputs: Vec<_> = now.inputs.drain(..).chain(bytes).collect();
    inputs.sort_by_key(|input| input.input_stream_id);
    inputs
}

/// Reports a failed batch.
#[cold]
fn tell(now: &BatchContext<'_, '_>, failure: &Failure, fails_fast: bool) {
    let error = failed_batch(now.time, Some(failure.operator()), &failure.message);
    if fails_fast {
        now.epoch.control.fail(error);
    } else {
        now.epoch.control.report(error);
    }
}

impl Output for Graph {
    fn emit(&mut self, epoch: &mut Merged<'_>) -> Result<()> {
        let time = epoch.barrier.time;
        let before = || BatchTime::from_millis(time.as_millis() - self.interval_ms);
        let zero = *self.zero.get_or_insert_with(before);
        let inputs = Vec::new();
        let mut now = BatchContext {
            time,
            zero,
            epoch,
            reads: None,
            inputs,
        };
        let outcome = match self.make(&mut now) {
            None => self.put_out(&mut now),
            Some(failure) => {
                tell(&now, &failure, self.fails_fast);
                Ok(())
            }
        };
        // It was told already; but where no output was due that would have had this batch, nothing ended yet.
        if self.fails_fast && now.epoch.failure().is_some() {
            now.epoch.control.stop(Stop::Immediate);
        }
        for node in self.nodes.iter_mut().filter(|node| node.is_wanted) {
            if now.is_due(node.slide_ms) {
                now.reads = node.reads;
                node.step.leave(&mut now);
            }
        }
        outcome
    }
}

/// How long each stream keeps its batches, where a program asked for `asked_ms`: Spark's rule is that who looks
/// back finds as much for each batch that is remembered, so a window adds its length for its parents.
pub(crate) fn remember_ms(nodes: &[PlanNode], asked_ms: u64) -> Vec<u64> {
    let mut all = vec![asked_ms; nodes.len()];
    for (id, node) in nodes.iter().enumerate().rev() {
        let needed_ms = all[id].saturating_add(node.reach_ms);
        for &parent in &node.parents {
            all[parent] = all[parent].max(needed_ms);
        }
    }
    all
}

/// Marks the streams that `wanted` ones depend on, those included.
pub(crate) fn want(nodes: &mut [PlanNode], wanted: impl IntoIterator<Item = NodeId>) {
    let mut open: Vec<NodeId> = wanted.into_iter().collect();
    while let Some(id) = open.pop() {
        if !std::mem::replace(&mut nodes[id].is_wanted, true) {
            open.extend_from_slice(&nodes[id].parents);
        }
    }
}

/// Keeps of the engine's nodes, which `nodes` read, those that are read by wanted ones, and tells these what
/// numbers they have now. What nobody needs is not computed.
pub(crate) fn keep_wanted<N: Clone>(nodes: &mut [PlanNode], engine_nodes: &[N]) -> Vec<N> {
    let mut kept = Vec::new();
    for node in nodes.iter_mut().filter(|node| node.is_wanted) {
        if let Some(reads) = &mut node.reads {
            let engine_node = engine_nodes[*reads].clone();
            *reads = kept.len();
            kept.push(engine_node);
        }
    }
    kept
}
