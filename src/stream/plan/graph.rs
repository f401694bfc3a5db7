//! The batch plane: what is computed of each batch, in which order, and what a failure takes with
//! it.
//!
//! Promise: each batch is made once for every stream that an output needs, parents before children,
//! then the outputs run in registration order; a function that panics fails what depends on it and
//! nothing else, and later batches are made.
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
    Emitted, EnginePlan, Merged, Output, OutputThread, Pipeline, failed_batch,
};
use crate::epoch::hand_over::NodeTable;
use crate::error::{Error, Result, guarded};
use crate::notice::Notices;
use crate::save::StateKind;
use crate::shard::panic_message;
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
}

/// What operators get when their context starts.
pub(crate) struct StartContext<'a> {
    /// The stream's name, for messages.
    pub(crate) name: &'a Arc<str>,
    /// Batches are kept for at least this long.
    pub(crate) remember_ms: u64,
    /// The time since 1970.
    pub(crate) now: Duration,
    pub(crate) notices: &'a Notices,
    /// The memory of one window over tables, in bytes; `usize::MAX` means no limit.
    pub(crate) window_bytes: usize,
}

/// Makes the batches of one stream.
pub(crate) trait Operator: Send {
    /// The context starts.
    fn start(&mut self, _context: &StartContext<'_>) {}

    /// Makes the current batch and keeps it for its readers.
    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> std::result::Result<(), Failure>;

    /// The batch could not be made: keeps the failure for its readers.
    fn fail(&mut self, time: BatchTime, failure: &Failure);

    /// The batch has been published.
    fn leave(&mut self, _now: &mut BatchContext<'_, '_>) {}

    /// What it keeps from batch to batch.
    fn state(&self) -> StateKind;

    /// Writes its state, between two batches.
    ///
    /// # Errors
    ///
    /// Those of `to`; or the state cannot be saved at this time, as when a failed batch still has
    /// to be made again.
    fn save(&self, _to: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    /// Reads what [`save`](Self::save) wrote in another run, before the first batch.
    ///
    /// # Errors
    ///
    /// Those of `from`; or the bytes are none that `save` writes.
    fn load(&mut self, _from: &mut dyn Read) -> io::Result<()> {
        Ok(())
    }
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
    /// The next output.
    Output,
}

/// Why an output published nothing.
pub(crate) enum OutputError {
    /// The batch failed.
    Failed(Failure),
    /// It cannot write any more: the run ends.
    Broken(Error),
}

impl From<Failure> for OutputError {
    fn from(failure: Failure) -> Self {
        OutputError::Failed(failure)
    }
}

/// What an output does with the batches of its stream.
pub(crate) trait OutputOperator: Send {
    /// The context starts.
    ///
    /// # Errors
    ///
    /// It ends the start.
    fn start(&mut self, _start: &mut OutputStart<'_>) -> Result<()> {
        Ok(())
    }

    /// Returns `true` if the stream produced something for a batch, if only a failure.
    fn has_batch(&self, time: BatchTime) -> bool;

    /// The last epoch up to which everything is delivered; `u64::MAX` if nothing is under way.
    fn delivered(&self) -> u64 {
        u64::MAX
    }

    /// Handles the current batch. If it has to wait, it is called again with the same batch.
    fn emit(&mut self, now: &mut BatchContext<'_, '_>)
    -> std::result::Result<Emitted, OutputError>;
}

/// What an output gets when its context starts.
pub(crate) struct OutputStart<'a> {
    /// The output's name.
    pub(crate) name: &'a str,
    pub(crate) notices: &'a Notices,
    /// Where it puts a thread that it needs.
    pub(crate) threads: &'a mut Vec<Box<dyn OutputThread>>,
}

/// An output operation.
pub(crate) struct OutputNode {
    /// The method that registered it, which listeners get.
    pub(crate) name: &'static str,
    pub(crate) slide_ms: u64,
    pub(crate) operator: Box<dyn OutputOperator>,
}

/// A stream of the batch plane that an output needs.
pub(super) struct PlannedStream {
    pub(super) name: Arc<str>,
    pub(super) operator: Box<dyn Operator>,
    /// Milliseconds from run to run.
    run_ms: u64,
    /// The engine's node it is made of, if it is made in the shards.
    reads: Option<usize>,
}

/// All streams and outputs of a program: what the engine runs once a batch.
pub(crate) struct Graph {
    /// Parents stand before their children.
    pub(super) streams: Vec<PlannedStream>,
    /// In registration order.
    pub(crate) outputs: Vec<OutputNode>,
    /// Their names.
    output_names: Vec<Arc<str>>,
    /// Threads that outputs need, until they are started.
    threads: Vec<Box<dyn OutputThread>>,
    /// The output that the current batch waits for.
    pub(crate) waits_for: Option<usize>,
    /// The first output of the current batch that cannot write any more ends the run.
    pub(crate) broken: Option<Error>,
    pub(crate) interval_ms: u64,
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
}

impl Graph {
    /// Makes every stream that is due. Returns the first failure that leaves the batch without any
    /// output.
    fn make(&mut self, now: &mut BatchContext<'_, '_>) -> Option<Failure> {
        let mut spoilt = None;
        for stream in &mut self.streams {
            if !now.is_due(stream.run_ms) {
                continue;
            }
            now.reads = stream.reads;
            let failure = match guarded(|| stream.operator.run(now)) {
                Ok(Ok(())) => continue,
                Ok(Err(failure)) => failure,
                Err(panic) => Failure::of_records(panic_message(panic.as_ref())),
            };
            let failure = failure.within(&stream.name);
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
        for (id, output) in self.outputs.iter_mut().enumerate() {
            if waits_for.is_some_and(|waits_for| id < waits_for) {
                continue;
            }
            if waits_for != Some(id) {
                if !now.is_due(output.slide_ms) || !output.operator.has_batch(now.time) {
                    continue;
                }
                if !std::mem::replace(&mut has_begun, true) {
                    let inputs = || inputs(now, &self.byte_inputs);
                    self.reporter.batch_started(time, inputs);
                }
                self.reporter.output_started(id, output.name);
            }
            let outcome = match guarded(|| output.operator.emit(now)) {
                Ok(outcome) => outcome,
                Err(panic) => Err(Failure::of_records(panic_message(panic.as_ref())).into()),
            };
            match outcome {
                Ok(Emitted::Done) => self.reporter.output_completed(None),
                Ok(Emitted::Wait(at)) if self.broken.is_none() => {
                    self.waits_for = Some(id);
                    return Ok(Emitted::Wait(at));
                }
                // The run ends, and does not wait.
                Ok(Emitted::Wait(_)) => self.reporter.output_completed(Some("not delivered")),
                Err(OutputError::Failed(failure)) => {
                    let failure = failure.within(&self.output_names[id]);
                    self.reporter.output_completed(Some(&failure.message));
                    report(now, &failure, self.fails_fast);
                }
                Err(OutputError::Broken(error)) => {
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
        now.epoch.control.report(error);
    }
}

impl Output for Graph {
    fn threads(&mut self) -> Vec<Box<dyn OutputThread>> {
        std::mem::take(&mut self.threads)
    }

    fn delivered(&self) -> u64 {
        let outputs = self.outputs.iter();
        let delivered = outputs.map(|output| output.operator.delivered()).min();
        delivered.unwrap_or(u64::MAX)
    }

    fn emit(&mut self, epoch: &mut Merged<'_>) -> Result<Emitted> {
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
        for stream in &mut self.streams {
            if now.is_due(stream.run_ms) {
                now.reads = stream.reads;
                stream.operator.leave(&mut now);
            }
        }
        if epoch.barrier.last
            && outcome.is_ok()
            && let Some(mut to) = self.save_to.take()
            && let Err(error) = self.save(&mut to)
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
    /// How long each stream keeps its batches, if the program asked for that.
    pub(crate) remember_ms: Option<u64>,
    pub(crate) memory_bytes_max: Option<usize>,
    /// The first failed batch ends the run.
    pub(crate) fails_fast: bool,
    pub(crate) reporter: Reporter,
    /// Where states are loaded from.
    pub(crate) load_from: Option<Box<dyn Read + Send>>,
    /// Where states are saved after the last batch.
    pub(crate) save_to: Option<Box<dyn Write + Send>>,
}

impl Plan {
    /// Starts the operators, and returns what an engine runs: the pipelines that are needed, and
    /// the batch plane as the one output behind them.
    ///
    /// # Errors
    ///
    /// A sink cannot tell what is there, or states cannot be saved or loaded.
    pub(crate) fn lower(self, launch: Launch<'_>) -> Result<EnginePlan> {
        let (nodes, graph) = self.start(launch)?;
        Ok(EnginePlan {
            nodes,
            outputs: vec![Box::new(graph)],
        })
    }

    /// Starts the operators. Returns the pipelines that are needed, and the batch plane.
    pub(super) fn start(mut self, launch: Launch<'_>) -> Result<(Vec<Arc<dyn Pipeline>>, Graph)> {
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
        let (mut streams, mut output_names) = (Vec::new(), Vec::new());
        for ((node, name), remember_ms) in self.nodes.into_iter().zip(self.names).zip(remember_ms) {
            let (mut operator, run_ms, reads) = match node.work {
                NodeWork::Records => continue,
                NodeWork::Output => {
                    output_names.push(name);
                    continue;
                }
                NodeWork::Batches {
                    operator,
                    run_ms,
                    reads,
                } => (operator, run_ms, reads),
            };
            operator.start(&StartContext {
                name: &name,
                remember_ms,
                now: launch.now,
                notices: launch.notices,
                window_bytes: window_bytes.unwrap_or(usize::MAX),
            });
            if !node.is_wanted {
                continue;
            }
            let reads = reads.map(|pipeline| {
                plan.nodes.push(Arc::clone(&self.pipelines[pipeline]));
                plan.nodes.len() - 1
            });
            streams.push(PlannedStream {
                name,
                operator,
                run_ms,
                reads,
            });
        }
        let mut threads = Vec::new();
        for (output, name) in self.outputs.iter_mut().zip(&output_names) {
            output.operator.start(&mut OutputStart {
                name,
                notices: launch.notices,
                threads: &mut threads,
            })?;
        }
        let byte_inputs = plan.first_nodes().map(|node| {
            let stream = plan.nodes[node].stream();
            (node, self.byte_inputs[stream.0])
        });
        let byte_inputs = byte_inputs.collect();
        let mut graph = Graph {
            streams,
            outputs: self.outputs,
            output_names,
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
        };
        if graph.save_to.is_some() {
            graph.check_savable()?;
        }
        if let Some(mut states) = launch.load_from {
            graph.load(&mut states)?;
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
