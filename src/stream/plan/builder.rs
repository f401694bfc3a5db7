//! `PlanBuilder`: a plan while it is being built, which all of its streams share.
//!
//! Promise: a stream adds to the plan it was made for, and to nothing once that plan was taken:
//! then it panics and says so. A builder needs no context.
//! Must not know: `ops`, `source`, `sink`.

use std::sync::{Arc, Mutex};

use crate::config::{Dialect, OnLimit};
use crate::engine::plan::Pipeline;
use crate::error::{Error, ErrorKind, Result, Setting, lock};
use crate::id::StreamId;
use crate::limits::{MIB, PANE_BYTES_MIN};
use crate::memory::RetainedTables;
use crate::shard::stage::LineRecords;
use crate::stream::plan::explain::{Explanation, names};
use crate::stream::plan::graph::{NodeId, NodeWork, Operator, PlanNode};
use crate::stream::program::dstream::DStream;

/// What a stream says that is used after its context has started.
const STARTED: &str = "the context has started: no stream, operator or output can be added to it";

/// A plan that is being built. Clones share it; each stream has one.
#[derive(Clone)]
pub(crate) struct PlanBuilder(Arc<Mutex<Option<Plan>>>);

debug_fields!([] PlanBuilder, "PlanBuilder");

/// What a program computes.
pub(crate) struct Plan {
    /// Milliseconds from batch to batch.
    pub(crate) interval_ms: u64,
    /// The memory limit in bytes, and what happens when it is reached.
    memory_limit: Option<(usize, OnLimit)>,
    dialect: Dialect,
    /// What the shards make; streams of the batch plane read it.
    pub(crate) pipelines: Vec<Arc<dyn Pipeline>>,
    /// Streams and outputs. Parents stand before their children.
    pub(crate) nodes: Vec<PlanNode>,
    /// Their names, once the plan is finished.
    pub(crate) names: Vec<Arc<str>>,
    /// The streams that outputs, or calls of `slice`, depend on.
    pub(crate) wanted: Vec<NodeId>,
    /// The number of each stream of bytes among all input streams.
    pub(crate) byte_inputs: Vec<usize>,
    /// Number of input streams, of bytes and others.
    input_count: usize,
    /// There is an input stream that never ends: one that is not of bytes.
    pub(crate) is_endless: bool,
    /// What operators keep from batch to batch.
    pub(crate) retained: RetainedTables,
    /// The most panes that a window may keep.
    panes_max: usize,
}

impl PlanBuilder {
    /// Begins a plan without streams, for a batch every `interval_ms`.
    pub(crate) fn new(interval_ms: u64, memory_limit: Option<(usize, OnLimit)>) -> Self {
        PlanBuilder(Arc::new(Mutex::new(Some(Plan {
            interval_ms,
            memory_limit,
            dialect: Dialect::default(),
            pipelines: Vec::new(),
            nodes: Vec::new(),
            names: Vec::new(),
            wanted: Vec::new(),
            byte_inputs: Vec::new(),
            input_count: 0,
            is_endless: false,
            retained: RetainedTables::default(),
            panes_max: 0,
        }))))
    }

    /// Takes the finished plan. Streams cannot add to it from now on.
    ///
    /// # Errors
    ///
    /// The names that the program gave do not fit.
    pub(crate) fn finish(&self) -> Result<Plan> {
        let mut plan = lock(&self.0).take().expect(STARTED);
        plan.names = names(&plan.nodes)?;
        Ok(plan)
    }

    /// What the plan is made of so far.
    ///
    /// # Errors
    ///
    /// The names that the program gave do not fit.
    pub(crate) fn explain(&self) -> Result<Explanation> {
        self.with(|plan| {
            plan.want();
            Ok(Explanation::of(&plan.nodes, &names(&plan.nodes)?))
        })
    }

    /// Calls `f` with the plan.
    ///
    /// # Panics
    ///
    /// Panics if the plan was taken.
    fn with<R>(&self, f: impl FnOnce(&mut Plan) -> R) -> R {
        f(lock(&self.0).as_mut().expect(STARTED))
    }

    /// Checks that the plan can be added to, and that `others` are streams of it.
    ///
    /// # Errors
    ///
    /// It was taken, or one of `others` belongs to another plan.
    pub(crate) fn check<'a>(
        &self,
        others: impl IntoIterator<Item = &'a PlanBuilder>,
    ) -> Result<()> {
        if lock(&self.0).is_none() {
            return Err(Error::new(ErrorKind::InvalidCall, STARTED));
        }
        match others
            .into_iter()
            .all(|other| Arc::ptr_eq(&self.0, &other.0))
        {
            true => Ok(()),
            false => Err(Error::refused("the streams belong to different contexts")),
        }
    }

    /// Adds a stream of bytes, which whoever takes the plan fills; `kind` is the method that makes
    /// it.
    pub(crate) fn lines(&self, kind: &'static str) -> DStream<LineRecords> {
        let input = self.add_input();
        let stream = self.with(|plan| {
            plan.byte_inputs.push(input);
            StreamId(plan.byte_inputs.len() - 1)
        });
        DStream {
            plan: self.clone(),
            stream,
            node: self.add_records(kind, Vec::new()),
            records: LineRecords,
        }
    }

    pub(crate) fn set_dialect(&self, dialect: Dialect) {
        self.with(|plan| plan.dialect = dialect);
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.with(|plan| plan.dialect)
    }

    /// The batch interval in milliseconds: the slide of streams without windows.
    pub(crate) fn interval_ms(&self) -> u64 {
        self.with(|plan| plan.interval_ms)
    }

    /// The memory limit in bytes, and what happens when it is reached.
    pub(crate) fn memory_limit(&self) -> Option<(usize, OnLimit)> {
        self.with(|plan| plan.memory_limit)
    }

    /// Number of outputs so far.
    pub(crate) fn output_count(&self) -> usize {
        self.with(|plan| plan.outputs().count())
    }

    /// Reserves memory for an operator that keeps a table of the size of a batch.
    pub(crate) fn keep_table(&self) {
        self.with(|plan| plan.retained.tables += 1);
    }

    /// Reserves memory for a window of `panes_max` panes.
    ///
    /// # Errors
    ///
    /// With the memory limit, a pane of this window, or of one that now has to share with it, would
    /// get next to nothing.
    pub(crate) fn keep_window(&self, panes_max: usize) -> Result<()> {
        self.with(|plan| plan.keep_window(panes_max))
    }

    /// Adds an input stream; returns its number.
    fn add_input(&self) -> usize {
        self.with(|plan| {
            plan.input_count += 1;
            plan.input_count - 1
        })
    }

    /// Adds an input stream that is not of bytes; returns its number. The run then never ends by
    /// itself.
    pub(crate) fn add_endless_input(&self) -> usize {
        self.with(|plan| plan.is_endless = true);
        self.add_input()
    }

    /// Adds records of bytes.
    pub(crate) fn add_records(&self, kind: &'static str, parents: Vec<NodeId>) -> NodeId {
        self.with(|plan| plan.push(kind, parents, plan.interval_ms, NodeWork::Records))
    }

    /// Adds a stream of the batch plane, run every `slide_ms`.
    pub(crate) fn add_batches(
        &self,
        kind: &'static str,
        parents: Vec<NodeId>,
        slide_ms: u64,
        operator: Box<dyn Operator>,
    ) -> NodeId {
        let work = NodeWork::Batches {
            operator,
            run_ms: slide_ms,
            reads: None,
        };
        self.with(|plan| plan.push(kind, parents, slide_ms, work))
    }

    /// Gives the numbered node a name.
    pub(crate) fn name(&self, id: NodeId, name: String) {
        self.with(|plan| plan.nodes[id].given_name = Some(name));
    }

    /// Sets the names of the sources of the numbered node.
    pub(crate) fn read_from(&self, id: NodeId, sources: impl IntoIterator<Item = String>) {
        let sources = sources.into_iter().collect();
        self.with(|plan| plan.nodes[id].sources = sources);
    }

    /// Sets the pipeline that makes the numbered stream in the shards.
    pub(crate) fn read(&self, id: NodeId, pipeline: Arc<dyn Pipeline>) {
        self.with(|plan| {
            if let NodeWork::Batches { reads, .. } = &mut plan.nodes[id].work {
                *reads = Some(plan.pipelines.len());
                plan.pipelines.push(pipeline);
            }
        });
    }

    /// Sets the length of the numbered stream, a window.
    pub(crate) fn reach(&self, id: NodeId, length_ms: u64) {
        self.with(|plan| plan.nodes[id].reach_ms = length_ms);
    }

    /// Sets how often the numbered stream has a batch, if that is not how often it is run.
    pub(crate) fn slide(&self, id: NodeId, slide_ms: u64) {
        self.with(|plan| plan.nodes[id].slide_ms = slide_ms);
    }

    /// Makes the stream in every batch, whether or not an output needs it.
    pub(crate) fn want(&self, id: NodeId) {
        self.with(|plan| plan.wanted.push(id));
    }

    /// Adds an output of the numbered stream, run every `slide_ms`; returns its number.
    pub(crate) fn add_output(
        &self,
        kind: &'static str,
        id: NodeId,
        slide_ms: u64,
        operator: impl Operator + 'static,
    ) -> NodeId {
        self.with(|plan| {
            let work = NodeWork::Output(Box::new(operator));
            let node = plan.push(kind, vec![id], slide_ms, work);
            plan.wanted.push(node);
            node
        })
    }
}

impl Plan {
    /// In registration order.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = &PlanNode> {
        self.nodes.iter().filter(|node| node.is_output())
    }

    fn push(
        &mut self,
        kind: &'static str,
        parents: Vec<NodeId>,
        slide_ms: u64,
        work: NodeWork,
    ) -> NodeId {
        self.nodes.push(PlanNode {
            kind,
            given_name: None,
            parents,
            sources: Vec::new(),
            slide_ms,
            reach_ms: 0,
            work,
            is_wanted: false,
        });
        self.nodes.len() - 1
    }

    fn keep_window(&mut self, panes_max: usize) -> Result<()> {
        let mut retained = self.retained;
        retained.windows += 1;
        let panes_max = panes_max.max(self.panes_max);
        if let Some((bytes_max, _)) = self.memory_limit
            && retained.window_bytes(bytes_max) / 2 / panes_max < PANE_BYTES_MIN
        {
            // Half of the memory is for windows, and half of a window's is for its batches.
            let bytes_min = (4 * PANE_BYTES_MIN)
                .saturating_mul(panes_max)
                .saturating_mul(retained.windows);
            let problem = format!(
                "is too small: {bytes_min} bytes ({} MiB) are needed for a window of {panes_max} batches; use a \
                 shorter window or a longer interval",
                bytes_min.div_ceil(MIB)
            );
            return Err(Error::from(Setting {
                enough: Some(bytes_min),
                ..Setting::new("memory_bytes_max", bytes_max, problem)
            }));
        }
        (self.retained, self.panes_max) = (retained, panes_max);
        Ok(())
    }
}
