//! The context of a program before its start, and the start itself.
//!
//! `inputs` makes the input streams of bytes; `files` makes those of files, which can also be read
//! all at once.

mod files;
mod inputs;

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mio::{Poll, Token, Waker};

use crate::config::{Config, Dialect, OnLimit, interval_ms};
use crate::engine::assemble::Blueprint;
use crate::engine::control::Control;
use crate::engine::plan::{Pipeline, Plan};
use crate::engine::reactor::{ReactorCore, ReactorParts, ReactorShell, ReadySignals, WAKE_TOKEN};
use crate::engine::scan::FilesOf;
use crate::engine::{guard, reactor};
use crate::error::{Error, ErrorKind, Result, Setting, describe};
use crate::id::StreamId;
use crate::limits::{MIB, PANE_BYTES_MIN};
use crate::memory::RetainedTables;
use crate::notice::{Notice, Notices};
use crate::ring::Wake;
use crate::source::{Port, Source};
use crate::stream::plan::graph;
use crate::stream::plan::graph::{Graph, NodeId, Operator, OutputNode, StartContext};
use crate::stream::program::listener::{ListenerBus, Reporter, StreamingListener};
use crate::stream::program::receiver::Receivers;
use crate::stream::program::running::RunningContext;
use crate::time::{BatchClock, Clock, as_ms};

/// A DStream program before its start: holds sources, operators and outputs until
/// [`start`](Self::start).
///
/// Streams borrow their context and `start` consumes it. So a program that adds to a started
/// context does not compile:
///
/// ```compile_fail
/// # use microtally::prelude::*;
/// # fn main() -> Result<(), microtally::Error> {
/// let ssc = StreamingContext::new(Duration::from_secs(1))?;
/// let words = ssc.socket_text_stream("localhost", 9999)?.flat_map(split(b' '));
/// let running = ssc.start()?;
/// words.count_by_value().pprint(10); // error: `ssc` was moved while borrowed
/// # Ok(()) }
/// ```
pub struct StreamingContext {
    draft: RefCell<Draft>,
}

/// The program so far.
struct Draft {
    interval: Duration,
    interval_ms: u64,
    config: Config,
    clock: Clock,
    notices: Notices,
    batches: Option<u64>,
    sources: Vec<Box<dyn Source>>,
    /// The stream of each source.
    framers: Vec<StreamId>,
    /// Sources that are files, which can also be read all at once.
    files: Vec<FilesOf>,
    /// What the shards make; streams of the batch plane read it.
    nodes: Vec<Arc<dyn Pipeline>>,
    /// The number of each stream of bytes among all input streams.
    byte_inputs: Vec<usize>,
    /// Number of input streams, of bytes and others.
    input_count: usize,
    /// The batch plane.
    graph: Vec<graph::PlanNode>,
    outputs: Vec<OutputNode>,
    /// The streams that outputs, or calls of `slice`, depend on.
    wanted: Vec<NodeId>,
    /// There is an input stream that never ends: one that is not of bytes.
    is_endless: bool,
    dialect: Dialect,
    fails_fast: bool,
    remember_ms: Option<u64>,
    /// There is one batch, and it ends with the input.
    is_one_batch: bool,
    bus: ListenerBus,
    /// What operators keep from batch to batch.
    retained: RetainedTables,
    /// The most panes that a window may keep.
    panes_max: usize,
}

/// A stream of records that are slices of the received bytes.
///
/// Its operators run record by record in the shard threads, on all cores, before anything is
/// copied.
#[derive(Clone)]
pub struct DStream<'c, R> {
    pub(crate) context: &'c StreamingContext,
    pub(crate) stream: StreamId,
    pub(crate) records: R,
}

debug_fields!(['c, R] DStream<'c, R>, "DStream", stream);

impl<'c, R> DStream<'c, R> {
    /// Other records of the same bytes.
    pub(crate) fn with<S>(&self, records: S) -> DStream<'c, S> {
        DStream {
            context: self.context,
            stream: self.stream,
            records,
        }
    }
}

impl StreamingContext {
    /// Creates a context that makes a batch every `interval`: whole milliseconds, at least 1.
    ///
    /// # Errors
    ///
    /// The interval is out of range.
    pub fn new(interval: Duration) -> Result<Self> {
        StreamingContext::with_config(interval, Config::default())
    }

    /// As [`new`](Self::new), with settings.
    ///
    /// # Errors
    ///
    /// The interval or a setting is out of range.
    pub fn with_config(interval: Duration, config: Config) -> Result<Self> {
        config.validate()?;
        Ok(StreamingContext {
            draft: RefCell::new(Draft {
                interval,
                interval_ms: interval_ms(interval)?,
                config,
                clock: Clock::system(),
                notices: Notices::default(),
                batches: None,
                sources: Vec::new(),
                framers: Vec::new(),
                files: Vec::new(),
                nodes: Vec::new(),
                byte_inputs: Vec::new(),
                input_count: 0,
                graph: Vec::new(),
                outputs: Vec::new(),
                retained: RetainedTables::default(),
                panes_max: 0,
                wanted: Vec::new(),
                is_endless: false,
                dialect: Dialect::default(),
                fails_fast: false,
                remember_ms: None,
                is_one_batch: false,
                bus: ListenerBus::default(),
            }),
        })
    }

    /// Creates a context that makes one batch of all input. The batch is cut when every source has
    /// ended, or at a graceful stop; its time is the time of the cut.
    ///
    /// ```no_run
    /// use microtally::{Config, StreamingContext};
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::one_batch(Config::default())?;
    /// ssc.stdin_text_stream().count_by_value().pprint(10);
    /// ssc.start()?.await_termination()
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// A setting is out of range.
    pub fn one_batch(config: Config) -> Result<Self> {
        let context = StreamingContext::with_config(Duration::from_millis(1), config)?;
        context.draft.borrow_mut().is_one_batch = true;
        Ok(context)
    }

    /// Sets the handler of notices: what people may want to know while the context runs.
    ///
    /// It is called from any of the engine's threads. Without a handler notices are dropped: the
    /// library never prints by itself. If the handler panics, it misses that notice, the run goes
    /// on, and [`RunningContext::await_termination`] returns the error.
    pub fn on_notice(&self, handler: impl Fn(&Notice) + Send + Sync + 'static) {
        self.draft.borrow_mut().notices = Notices::to(handler);
    }

    /// Stops the run after `batches` batches.
    ///
    /// # Errors
    ///
    /// `batches` is 0.
    pub fn stop_after(&self, batches: u64) -> Result<()> {
        if batches == 0 {
            return Err(Error::refused("batches 0 is below 1"));
        }
        self.draft.borrow_mut().batches = Some(batches);
        Ok(())
    }

    /// Sets the clock; a manual one makes programs testable. A manual clock is read every
    /// millisecond.
    pub fn set_clock(&self, clock: Clock) {
        self.draft.borrow_mut().clock = clock;
    }

    /// Sets whose rules hold where Scala and Python differ, for the streams made from now on.
    pub fn set_dialect(&self, dialect: Dialect) {
        self.draft.borrow_mut().dialect = dialect;
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.draft.borrow().dialect
    }

    /// Ends the run at the first failed batch.
    ///
    /// By default later batches are still made, as in Spark, and
    /// [`RunningContext::await_termination`] returns the first error.
    pub fn fail_fast(&self) {
        self.draft.borrow_mut().fails_fast = true;
    }

    /// Keeps the batches of every stream for at least `duration`, for
    /// [`slice`](crate::stream::Remembered::slice): Spark's `remember`.
    ///
    /// Windows keep what they need without it. The parent of a window keeps its batches for the
    /// window's length more, so that every remembered window still has its batches.
    ///
    /// # Errors
    ///
    /// The duration was set before.
    pub fn remember(&self, duration: Duration) -> Result<()> {
        let mut draft = self.draft.borrow_mut();
        if let Some(before) = draft.remember_ms {
            return Err(Error::refused(format!(
                "requirement failed: Remember duration already set as {before} ms. Cannot set it again."
            )));
        }
        draft.remember_ms = Some(as_ms(duration));
        Ok(())
    }

    /// Adds a listener, which receives the events of the running context.
    pub fn add_streaming_listener(&self, listener: impl StreamingListener + 'static) {
        self.draft.borrow().bus.add(Box::new(listener));
    }

    /// The batch interval.
    pub(crate) fn interval(&self) -> Duration {
        self.draft.borrow().interval
    }

    /// The batch interval in milliseconds: the slide of streams without windows.
    pub(crate) fn interval_ms(&self) -> u64 {
        self.draft.borrow().interval_ms
    }

    /// The memory limit in bytes, and what happens when it is reached.
    pub(crate) fn memory_limit(&self) -> Option<(usize, OnLimit)> {
        let draft = self.draft.borrow();
        let bytes_max = draft.config.memory_bytes_max?;
        Some((bytes_max, draft.config.on_limit))
    }

    /// Reserves memory for an operator that keeps a table of the size of a batch.
    pub(crate) fn keep_table(&self) {
        self.draft.borrow_mut().retained.tables += 1;
    }

    /// Reserves memory for a window of `panes_max` panes.
    ///
    /// # Errors
    ///
    /// With the memory limit, a pane of this window, or of one that now has to share with it, would
    /// get next to nothing.
    pub(crate) fn keep_window(&self, panes_max: usize) -> Result<()> {
        let mut draft = self.draft.borrow_mut();
        let mut retained = draft.retained;
        retained.windows += 1;
        let panes_max = panes_max.max(draft.panes_max);
        if let Some(bytes_max) = draft.config.memory_bytes_max
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
        (draft.retained, draft.panes_max) = (retained, panes_max);
        Ok(())
    }

    /// Adds an input stream; returns its number.
    fn add_input(&self) -> usize {
        let mut draft = self.draft.borrow_mut();
        draft.input_count += 1;
        draft.input_count - 1
    }

    /// Adds an input stream that is not of bytes; returns its number. The context then never ends
    /// by itself.
    pub(crate) fn add_endless_input(&self) -> usize {
        self.draft.borrow_mut().is_endless = true;
        self.add_input()
    }

    /// Adds a stream of the batch plane.
    pub(crate) fn add_graph_node(
        &self,
        parents: Vec<NodeId>,
        slide_ms: u64,
        operator: Box<dyn Operator>,
    ) -> NodeId {
        let mut draft = self.draft.borrow_mut();
        draft.graph.push(graph::PlanNode {
            slide_ms,
            parents,
            reach_ms: 0,
            reads: None,
            operator,
            is_wanted: false,
        });
        draft.graph.len() - 1
    }

    /// Sets the pipeline that makes the numbered stream in the shards.
    pub(crate) fn read(&self, id: NodeId, node: Arc<dyn Pipeline>) {
        let mut draft = self.draft.borrow_mut();
        draft.graph[id].reads = Some(draft.nodes.len());
        draft.nodes.push(node);
    }

    /// Sets the length of the numbered stream, a window.
    pub(crate) fn reach(&self, id: NodeId, length_ms: u64) {
        self.draft.borrow_mut().graph[id].reach_ms = length_ms;
    }

    /// Makes the stream in every batch, whether or not an output needs it.
    pub(crate) fn want(&self, id: NodeId) {
        self.draft.borrow_mut().wanted.push(id);
    }

    /// Adds an output of the numbered stream.
    pub(crate) fn add_output(&self, id: NodeId, output: OutputNode) {
        self.want(id);
        self.draft.borrow_mut().outputs.push(output);
    }

    /// Allocates the memory, starts the threads and begins to read.
    ///
    /// The run goes on until it is stopped, every source has ended, or the number of batches is
    /// reached. Dropping the returned handle stops it at once.
    ///
    /// # Errors
    ///
    /// No output was registered, or the system refuses memory, a thread or an event queue.
    pub fn start(self) -> Result<RunningContext> {
        let mut draft = self.draft.into_inner();
        for FilesOf { stream, files } in std::mem::take(&mut draft.files) {
            draft.framers.push(stream);
            draft.sources.push(Box::new(files));
        }
        draft.check_outputs()?;
        let poll = Poll::new().map_err(no_event_queue)?;
        let waker = Waker::new(poll.registry(), WAKE_TOKEN).map_err(no_event_queue)?;
        // Waking can fail only when the kernel is out of memory; the next event wakes the reactor
        // then.
        let wake_reactor: WakeReactor = Arc::new(move || drop(waker.wake()));
        let control = Control::new(Arc::clone(&wake_reactor));
        let wake = {
            let wake_reactor = Arc::clone(&wake_reactor);
            Wake::new(move || wake_reactor())
        };
        draft.report_to(&control);
        let now = draft.clock.now();
        let blueprint = draft.blueprint(Arc::clone(&control), Arc::clone(&wake), now);
        let decoders = blueprint.decoders;
        let window_log_max = decoders.window_log_max(draft.config.memory_bytes_max);
        let (router, mut runtime) = blueprint.launch()?;
        draft
            .bus
            .notify(|listener| listener.on_streaming_started(draft.clock.now()));
        let signals = ReadySignals::default();
        let receivers = draft.receivers();
        for (index, source) in draft.sources.iter_mut().enumerate() {
            let (signals, wake_reactor) = (signals.clone(), Arc::clone(&wake_reactor));
            let wake = move || {
                if signals.raise(index) {
                    wake_reactor();
                }
            };
            let registry = poll.registry().try_clone().map_err(no_event_queue)?;
            let port = Port {
                name: source.name().to_owned(),
                registry: Some(registry),
                token: Token(index),
                waker: crate::source::Waker::new(wake),
                notices: receivers.start(index, draft.notices.clone()),
                account: router.account_of(index),
                delimiters: router.delimiters_of(index),
                window_log_max,
            };
            source.start(port, now);
        }
        let mut core = ReactorCore::new(ReactorParts {
            router,
            sources: draft.sources,
            clock: match draft.is_one_batch {
                true => BatchClock::at_end(),
                false => BatchClock::new(draft.interval_ms, now),
            },
            batches: draft.batches,
            is_endless: draft.is_endless,
            control: Arc::clone(&control),
            notices: draft.notices,
            watch: Box::new(move |index, error| receivers.end(index, error)),
            record_bytes_max: draft.config.record_bytes_max,
        });
        let mut shell = ReactorShell {
            poll,
            clock: draft.clock,
            wake,
            signals,
            publish_turn: Arc::clone(&runtime.publish_turn),
            low_latency: draft.config.low_latency,
        };
        runtime.spawn("mt-reactor".to_owned(), move || {
            reactor::run(&mut core, &mut shell);
        })?;
        Ok(RunningContext { runtime, control })
    }
}

/// Wakes the thread that reads.
type WakeReactor = Arc<dyn Fn() + Send + Sync>;

fn no_event_queue(cause: std::io::Error) -> Error {
    let message = format!("cannot make an event queue: {}", describe(&cause));
    Error::new(ErrorKind::System, message)
}

impl Draft {
    /// Returns what reports the sources to listeners.
    fn receivers(&self) -> Receivers {
        let inputs = self.framers.iter().map(|stream| self.byte_inputs[stream.0]);
        let sources = self.sources.iter().map(|source| source.as_ref());
        Receivers::new(&self.bus, &self.clock, sources.zip(inputs))
    }

    fn check_outputs(&self) -> Result<()> {
        if self.outputs.is_empty() {
            let message = "no output operations registered, so nothing to execute";
            return Err(Error::new(ErrorKind::NoOutput, message));
        }
        Ok(())
    }

    /// Reports panics of the notice handler and of listeners to `control`.
    fn report_to(&mut self, control: &Arc<Control>) {
        self.notices = guard(self.notices.clone(), control);
        self.bus.report_to(control);
    }

    /// Starts the batch plane at the time `now`, and returns what an engine is built from.
    fn blueprint(&mut self, control: Arc<Control>, wake: Arc<Wake>, now: Duration) -> Blueprint {
        let (clock, notices) = (self.clock.clone(), self.notices.clone());
        let mut graph = std::mem::take(&mut self.graph);
        graph::want(&mut graph, self.wanted.drain(..));
        let remember_ms = match self.remember_ms {
            Some(asked_ms) => graph::remember_ms(&graph, asked_ms),
            // Each stream keeps only what its windows need.
            None => vec![0; graph.len()],
        };
        let window_bytes = self.config.memory_bytes_max;
        let window_bytes = window_bytes.map(|bytes_max| self.retained.window_bytes(bytes_max));
        for (node, remember_ms) in graph.iter_mut().zip(remember_ms) {
            node.operator.start(&StartContext {
                remember_ms,
                now,
                notices: &notices,
                window_bytes: window_bytes.unwrap_or(usize::MAX),
            });
        }
        let mut plan = Plan {
            nodes: graph::keep_wanted(&mut graph, &std::mem::take(&mut self.nodes)),
            outputs: Vec::new(),
        };
        let byte_inputs = plan.first_nodes().map(|node| {
            let stream = plan.nodes[node].stream();
            (node, self.byte_inputs[stream.0])
        });
        plan.outputs = vec![Box::new(Graph {
            nodes: graph,
            outputs: std::mem::take(&mut self.outputs),
            interval_ms: self.interval_ms,
            zero: None,
            fails_fast: self.fails_fast,
            reporter: Reporter::new(self.bus.clone(), clock.clone()),
            byte_inputs: byte_inputs.collect(),
        })];
        Blueprint {
            config: self.config.clone(),
            plan,
            framers: self.framers.clone(),
            decoders: self.sources.iter().map(|source| source.decoders()).sum(),
            interval: if self.is_one_batch {
                Duration::ZERO
            } else {
                self.interval
            },
            clock,
            notices,
            control,
            wake,
            retained: self.retained,
        }
    }
}

impl fmt::Debug for StreamingContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let draft = self.draft.borrow();
        f.debug_struct("StreamingContext")
            .field("interval", &draft.interval)
            .field("sources", &draft.sources.len())
            .field("outputs", &draft.outputs.len())
            .finish_non_exhaustive()
    }
}
