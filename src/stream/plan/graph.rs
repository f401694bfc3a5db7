//! The batch plane: what is computed of each batch, in which order, and what a failure takes with
//! it.
//!
//! Promise: each batch is made once for every stream that an output needs, parents before children,
//! then the outputs run in registration order; a function that panics fails what depends on it and
//! nothing else, and later batches are made. Streams and outputs are operators, run in one way.
//! Must not know: `ops`, `ring`, `split`, `source`.
//!
//! A stream with a slide of k batches is made at every k-th batch, counted from the batch before
//! the first one (Spark's `zeroTime`), so windows begin with the context and not with the hour.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use crate::batch::BatchStats;
use crate::engine::control::Stop;
use crate::engine::plan::{
    Emitted, EnginePlan, Merged, NamedPipeline, Output, OutputThread, failed_batch,
};
use crate::epoch::hand_over::NodeTable;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::notice::Notices;
use crate::position::Positions;
use crate::save::StateKind;
use crate::stream::plan::batch_cache::Failure;
use crate::stream::plan::builder::Plan;
use crate::stream::plan::saving::shape;
use crate::stream::program::listener::{Reporter, StreamInputInfo};
use crate::time::BatchTime;

/// Number of a stream in its graph; parents have smaller numbers than their children.
pub(crate) type NodeId = usize;

/// The current batch.
pub(crate) struct BatchContext<'a, 'e> {
    pub(crate) time: BatchTime,
    /// The batch before the first one.
    pub(crate) zero: BatchTime,
    pub(crate) epoch: &'a mut Merged<'e>,
    /// The node of `epoch` that the stream being made reads.
    reads: Option<usize>,
    /// Records received by the streams that are not streams of bytes.
    pub(crate) inputs: Vec<StreamInputInfo>,
    /// What the output being run cannot do by itself.
    pending: Option<Pending>,
}

/// What an output leaves to the graph.
enum Pending {
    /// It is to be run again with the same batch, at that time since 1970 or when something wakes
    /// the publisher.
    Wait(Duration),
    /// It cannot write any more.
    Broken(Error),
}

impl BatchContext<'_, '_> {
    /// Returns `true` if a stream with that slide is made at the current batch.
    pub(crate) fn is_due(&self, slide_ms: u64) -> bool {
        // A zero that was loaded may be later, if the clock was set back.
        let since_zero = self.time.as_millis().abs_diff(self.zero.as_millis());
        since_zero.is_multiple_of(slide_ms)
    }

    /// The shards' merged result for the stream being made, and its statistics.
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

    /// Runs the output that calls it again with the same batch, at the time `at` since 1970 or when
    /// something wakes the publisher.
    pub(crate) fn wait_until(&mut self, at: Duration) {
        self.pending = Some(Pending::Wait(at));
    }

    /// Ends the run, because the output that calls it cannot write any more.
    pub(crate) fn end_run(&mut self, error: Error) {
        self.pending = Some(Pending::Broken(error));
    }
}

/// What operators get when their context starts.
pub(crate) struct StartContext<'a> {
    /// The name of the stream or output, for messages.
    pub(crate) name: &'a Arc<str>,
    /// Batches are kept for at least this long.
    pub(crate) remember_ms: u64,
    /// The time since 1970.
    pub(crate) now: Duration,
    pub(crate) notices: &'a Notices,
    pub(crate) metrics: &'a Metrics,
    /// The memory of one window over tables, in bytes; `usize::MAX` means no limit.
    pub(crate) window_bytes: usize,
    /// Where an output puts a thread that it needs.
    pub(crate) threads: &'a mut Vec<Box<dyn OutputThread>>,
}

/// Makes the batches of one stream, or publishes them.
pub(crate) trait Operator: Send {
    /// Where a stream keeps its batches for its readers. An output has no readers.
    fn kept(&self) -> &dyn KeptBatches {
        &()
    }

    /// The context starts.
    ///
    /// # Errors
    ///
    /// It ends the start.
    fn start(&mut self, context: &mut StartContext<'_>) -> Result<()> {
        self.kept().start(context);
        Ok(())
    }

    /// Returns `true` if there is something to run on at `time`, if only a failure.
    fn has_batch(&self, _time: BatchTime) -> bool {
        true
    }

    /// Makes the current batch and keeps it for its readers; or publishes it. An output may have to
    /// [wait](BatchContext::wait_until), or may [end the run](BatchContext::end_run).
    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> std::result::Result<(), Failure>;

    /// The batch could not be made: keeps the failure for its readers.
    fn fail(&mut self, time: BatchTime, failure: &Failure) {
        self.kept().fail(time, failure);
    }

    /// The batch has been published.
    fn leave(&mut self, _now: &mut BatchContext<'_, '_>) {
        self.kept().leave();
    }

    /// The last epoch up to which everything is delivered; `u64::MAX` if nothing is under way.
    fn delivered(&self) -> u64 {
        u64::MAX
    }

    /// What it keeps from batch to batch.
    fn state(&self) -> StateKind {
        self.kept().state()
    }

    /// Writes its state, between two batches.
    ///
    /// # Errors
    ///
    /// Those of `to`; or the state cannot be saved at this time, as when a failed batch still has
    /// to be made again.
    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        self.kept().save(to)
    }

    /// Reads what [`save`](Self::save) wrote in another run, before the first batch.
    ///
    /// # Errors
    ///
    /// Those of `from`; or the bytes are none that `save` writes.
    fn load(&mut self, from: &mut dyn Read) -> io::Result<()> {
        self.kept().load(from)
    }
}

/// Where an operator keeps its batches. The methods are those of [`Operator`].
pub(crate) trait KeptBatches {
    fn start(&self, _context: &StartContext<'_>) {}

    fn fail(&self, time: BatchTime, failure: &Failure);

    fn leave(&self) {}

    fn state(&self) -> StateKind {
        StateKind::Nothing
    }

    fn save(&self, _to: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn load(&self, _from: &mut dyn Read) -> io::Result<()> {
        Ok(())
    }
}

impl KeptBatches for () {
    fn fail(&self, _time: BatchTime, _failure: &Failure) {}
}

/// One stream, or one output, of a plan.
pub(crate) struct PlanNode {
    /// The method that made it.
    pub(crate) kind: &'static str,
    /// The name that the program gave it.
    pub(crate) given_name: Option<String>,
    pub(crate) parents: Vec<NodeId>,
    /// The sources of a stream of bytes, by name.
    pub(crate) sources: Vec<String>,
    /// Milliseconds from batch to batch.
    pub(crate) slide_ms: u64,
    /// How far back it looks into its parents' batches: a window's length.
    pub(crate) reach_ms: u64,
    pub(crate) work: NodeWork,
    /// An output depends on it.
    pub(crate) is_wanted: bool,
}

impl PlanNode {
    pub(crate) fn is_output(&self) -> bool {
        matches!(self.work, NodeWork::Output(_))
    }
}

/// What is done for a node, and where.
pub(crate) enum NodeWork {
    /// Records of bytes: nothing by itself. The pipelines of the streams that are made of it
    /// contain it.
    Records,
    /// Batches, made where they are published.
    Batches {
        operator: Box<dyn Operator>,
        /// Milliseconds from run to run. A window over tables takes in every batch of its parent.
        run_ms: u64,
        /// The pipeline whose merged result it is, if it is made in the shards.
        reads: Option<usize>,
    },
    /// Batches, published after those of all streams.
    Output(Box<dyn Operator>),
}

/// A stream of the batch plane that an output needs, or an output.
pub(super) struct PlannedNode {
    pub(super) name: Arc<str>,
    /// The method that made it.
    kind: &'static str,
    pub(super) operator: Box<dyn Operator>,
    /// Milliseconds from run to run.
    run_ms: u64,
    /// The engine's node it is made of, if it is made in the shards.
    reads: Option<usize>,
}

impl PlannedNode {
    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> std::result::Result<(), Failure> {
        now.reads = self.reads;
        let ran = Failure::catch_in_records(|| self.operator.run(now));
        ran.map_err(|failure| failure.within(&self.name))
    }
}

/// All streams and outputs of a program: what the engine runs once a batch.
pub(crate) struct Graph {
    /// Parents stand before their children, and streams before outputs.
    pub(super) nodes: Vec<PlannedNode>,
    /// The place of the first output.
    first_output: usize,
    /// Threads that outputs need, until they are started.
    threads: Vec<Box<dyn OutputThread>>,
    /// The output that the current batch waits for.
    waits_for: Option<usize>,
    /// The first output of the current batch that cannot write any more ends the run.
    broken: Option<Error>,
    interval_ms: u64,
    /// What two programs have in common that may load each other's states.
    pub(super) shape: u64,
    /// The batch before the first one, once there is one.
    pub(crate) zero: Option<BatchTime>,
    /// The first failed batch ends the run.
    pub(crate) fails_fast: bool,
    pub(crate) reporter: Reporter,
    /// The engine's node and the number of each stream of bytes that is read.
    pub(crate) byte_inputs: Vec<(usize, usize)>,
    /// Where states are saved after the last batch.
    save_to: Option<Box<dyn Write + Send>>,
    /// The names of the sources.
    pub(super) source_names: Vec<String>,
}

impl Graph {
    /// Makes every stream that is due. Returns the first failure that leaves the batch without any
    /// output.
    fn make(&mut self, now: &mut BatchContext<'_, '_>) -> Option<Failure> {
        let mut spoilt = None;
        for stream in &mut self.nodes[..self.first_output] {
            if !now.is_due(stream.run_ms) {
                continue;
            }
            let Err(failure) = stream.run(now) else {
                continue;
            };
            stream.operator.fail(now.time, &failure);
            if failure.spoils_batch && spoilt.is_none() {
                spoilt = Some(failure);
            }
        }
        spoilt
    }

    /// Runs the outputs that are due, one after the other, from the one that the batch waits for.
    /// An output that cannot write ends the run, after the others got the batch.
    fn publish(&mut self, now: &mut BatchContext<'_, '_>) -> Result<Emitted> {
        let time = now.time;
        let waits_for = self.waits_for.take();
        let mut has_begun = waits_for.is_some();
        let outputs = &mut self.nodes[self.first_output..];
        for (id, output) in outputs.iter_mut().enumerate() {
            if waits_for.is_some_and(|waits_for| id < waits_for) {
                continue;
            }
            if waits_for != Some(id) {
                if !now.is_due(output.run_ms) || !output.operator.has_batch(now.time) {
                    continue;
                }
                if !std::mem::replace(&mut has_begun, true) {
                    let inputs = || inputs(now, &self.byte_inputs);
                    self.reporter.batch_started(time, inputs);
                }
                self.reporter.output_started(id, output.kind);
            }
            let ran = output.run(now);
            match (ran, now.pending.take()) {
                (Ok(()), None) => self.reporter.output_completed(None),
                (Ok(()), Some(Pending::Wait(at))) if self.broken.is_none() => {
                    self.waits_for = Some(id);
                    return Ok(Emitted::Wait(at));
                }
                // The run ends, and does not wait.
                (Ok(()), Some(Pending::Wait(_))) => {
                    self.reporter.output_completed(Some("not delivered"));
                }
                (Err(failure), _) => {
                    self.reporter.output_completed(Some(&failure.message));
                    report(now, &failure, self.fails_fast);
                }
                (Ok(()), Some(Pending::Broken(error))) => {
                    self.reporter.output_completed(Some(&error.to_string()));
                    self.broken.get_or_insert(error);
                }
            }
        }
        self.reporter.batch_completed();
        self.broken.take().map_or(Ok(Emitted::Done), Err)
    }
}

/// Records received over each input stream, by its number.
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
fn report(now: &BatchContext<'_, '_>, failure: &Failure, fails_fast: bool) {
    let error = failed_batch(now.time, Some(failure.operator()), &failure.message);
    if fails_fast {
        now.epoch.control.fail(error);
    } else {
        now.epoch.control.report_batch(error);
    }
}

impl Output for Graph {
    fn threads(&mut self) -> Vec<Box<dyn OutputThread>> {
        std::mem::take(&mut self.threads)
    }

    fn delivered(&self) -> u64 {
        let nodes = self.nodes.iter();
        let delivered = nodes.map(|node| node.operator.delivered()).min();
        delivered.unwrap_or(u64::MAX)
    }

    fn emit(&mut self, epoch: &mut Merged<'_>) -> Result<Emitted> {
        let time = epoch.barrier.time;
        let before = || BatchTime::from_millis(time.as_millis() - self.interval_ms);
        let zero = *self.zero.get_or_insert_with(before);
        let mut now = BatchContext {
            time,
            zero,
            epoch,
            reads: None,
            inputs: Vec::new(),
            pending: None,
        };
        let spoilt = match self.waits_for {
            None => self.make(&mut now),
            Some(_) => None,
        };
        let outcome = match spoilt {
            None => self.publish(&mut now),
            Some(failure) => {
                report(&now, &failure, self.fails_fast);
                Ok(Emitted::Done)
            }
        };
        if let Ok(Emitted::Wait(_)) = outcome {
            return outcome;
        }
        // The failure was reported, but if no output of this batch was due, nothing has stopped the
        // run yet.
        if self.fails_fast && now.epoch.failure().is_some() {
            now.epoch.control.stop(Stop::Immediate);
        }
        for node in &mut self.nodes {
            if now.is_due(node.run_ms) {
                now.reads = node.reads;
                node.operator.leave(&mut now);
            }
        }
        if epoch.barrier.last
            && outcome.is_ok()
            && let Some(mut to) = self.save_to.take()
            && let positions = epoch.positions.map_or(&[][..], |epoch| &epoch.sources)
            && let Err(error) = self.save(positions, &mut to)
        {
            epoch.control.report(error);
        }
        outcome
    }
}

/// What a plan gets from whoever runs it.
pub(crate) struct Launch<'a> {
    /// The time since 1970.
    pub(crate) now: Duration,
    pub(crate) notices: &'a Notices,
    pub(crate) metrics: &'a Metrics,
    /// How long each stream keeps its batches, if the program asked for that.
    pub(crate) remember_ms: Option<u64>,
    pub(crate) memory_bytes_max: Option<usize>,
    /// The first failed batch ends the run.
    pub(crate) fails_fast: bool,
    pub(crate) reporter: Reporter,
    /// The names of the sources.
    pub(crate) source_names: Vec<String>,
    /// Where states are loaded from.
    pub(crate) load_from: Option<Box<dyn Read + Send>>,
    /// Where states are saved after the last batch.
    pub(crate) save_to: Option<Box<dyn Write + Send>>,
}

impl Plan {
    /// Starts the operators, and returns what an engine runs: the pipelines that are needed, and
    /// the batch plane as the one output behind them. Returns also where sources continue, if they
    /// do.
    ///
    /// # Errors
    ///
    /// A sink cannot tell what is there, or states cannot be saved or loaded.
    pub(crate) fn lower(self, mut launch: Launch<'_>) -> Result<(EnginePlan, Vec<Positions>)> {
        let load_from = launch.load_from.take();
        let (nodes, mut graph) = self.start(launch)?;
        let resume = match load_from {
            Some(mut states) => graph.load(&mut states)?,
            None => Vec::new(),
        };
        let outputs: Vec<Box<dyn Output>> = vec![Box::new(graph)];
        Ok((EnginePlan { nodes, outputs }, resume))
    }

    /// Starts the operators. Returns the pipelines that are needed, and the batch plane.
    pub(super) fn start(mut self, launch: Launch<'_>) -> Result<(Vec<NamedPipeline>, Graph)> {
        self.want();
        let shape = shape(&self.nodes, &self.names);
        let remember_ms = match launch.remember_ms {
            Some(asked_ms) => remember_ms(&self.nodes, asked_ms),
            // Each stream keeps only what its windows need.
            None => vec![0; self.nodes.len()],
        };
        let window_bytes = launch.memory_bytes_max;
        let window_bytes = window_bytes.map(|bytes_max| self.retained.window_bytes(bytes_max));
        let mut plan = EnginePlan {
            nodes: Vec::new(),
            outputs: Vec::new(),
        };
        let (mut streams, mut outputs, mut threads) = (Vec::new(), Vec::new(), Vec::new());
        for ((node, name), remember_ms) in self.nodes.into_iter().zip(self.names).zip(remember_ms) {
            let (into, mut operator, run_ms, reads) = match node.work {
                NodeWork::Records => continue,
                NodeWork::Output(operator) => (&mut outputs, operator, node.slide_ms, None),
                NodeWork::Batches {
                    operator,
                    run_ms,
                    reads,
                } => (&mut streams, operator, run_ms, reads),
            };
            operator.start(&mut StartContext {
                name: &name,
                remember_ms,
                now: launch.now,
                notices: launch.notices,
                metrics: launch.metrics,
                window_bytes: window_bytes.unwrap_or(usize::MAX),
                threads: &mut threads,
            })?;
            if !node.is_wanted {
                continue;
            }
            let reads = reads.map(|pipeline| {
                let pipeline = Arc::clone(&self.pipelines[pipeline]);
                let name = Arc::clone(&name);
                plan.nodes.push(NamedPipeline { name, pipeline });
                plan.nodes.len() - 1
            });
            into.push(PlannedNode {
                name,
                kind: node.kind,
                operator,
                run_ms,
                reads,
            });
        }
        let first_output = streams.len();
        streams.append(&mut outputs);
        let byte_inputs = plan.first_nodes().map(|node| {
            let stream = plan.nodes[node].pipeline.stream();
            (node, self.byte_inputs[stream.0])
        });
        let byte_inputs = byte_inputs.collect();
        let graph = Graph {
            nodes: streams,
            first_output,
            threads,
            waits_for: None,
            broken: None,
            interval_ms: self.interval_ms,
            shape,
            zero: None,
            fails_fast: launch.fails_fast,
            reporter: launch.reporter,
            byte_inputs,
            save_to: launch.save_to,
            source_names: launch.source_names,
        };
        if graph.save_to.is_some() {
            graph.check_savable()?;
        }
        Ok((plan.nodes, graph))
    }

    /// Marks what outputs, and calls of `slice`, depend on. The rest is not computed.
    pub(crate) fn want(&mut self) {
        let mut open = self.wanted.clone();
        while let Some(id) = open.pop() {
            if !std::mem::replace(&mut self.nodes[id].is_wanted, true) {
                open.extend_from_slice(&self.nodes[id].parents);
            }
        }
    }
}

/// How long each stream keeps its batches, if the program asked for `asked_ms`.
///
/// As in Spark, every remembered window still has the batches it is made of, so a window adds its
/// length for its parents.
fn remember_ms(nodes: &[PlanNode], asked_ms: u64) -> Vec<u64> {
    let mut all = vec![asked_ms; nodes.len()];
    for (id, node) in nodes.iter().enumerate().rev() {
        let needed_ms = all[id].saturating_add(node.reach_ms);
        for &parent in &node.parents {
            all[parent] = all[parent].max(needed_ms);
        }
    }
    all
}
