//! Connect, transform, start, stop.

mod files;

use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mio::{Poll, Token, Waker};

use crate::config::{Config, Dialect, OnLimit, interval_ms};
use crate::engine::control::Control;
use crate::engine::files::FilesOf;
use crate::engine::plan::{Node, Plan};
use crate::engine::reactor::{ReactorCore, Shell, Signals, WAKE_TOKEN};
use crate::engine::{Order, build, launch, reactor};
use crate::epoch::clock::{BatchClock, Clock, as_ms};
use crate::error::{Error, ErrorKind, Result, describe};
use crate::ring::Wake;
use crate::shard::stage::Lines;
use crate::source::dial::Reconnect;
use crate::source::directory::FileOptions;
use crate::source::input::Input;
use crate::source::tcp_client::TcpClient;
use crate::source::text_files::TextFiles;
use crate::source::{Notice, Notices, Port, Source};
use crate::stream::graph::{self, Graph, NodeId, OutputNode, Starting, Step};
use crate::stream::listener::{Bus, Reporter, StreamingListener};
use crate::stream::receiver::{Overheard, Receiver};
use crate::stream::running::RunningContext;

/// The beginning of a DStream program: holds sources, pipelines and outputs until [`start`](Self::start).
///
/// Streams borrow their context and `start` consumes it, so a program that adds to a started context
/// does not compile:
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

/// What was asked for so far.
struct Draft {
    interval: Duration,
    interval_ms: u64,
    config: Config,
    clock: Clock,
    notices: Notices,
    batches: Option<u64>,
    sources: Vec<Box<dyn Source>>,
    /// The stream of each source.
    feeds: Vec<usize>,
    /// Sources that are files, which can be read in another way as well.
    files: Vec<FilesOf>,
    nodes: Vec<Arc<dyn Node>>,
    /// The number of each stream of bytes among all input streams.
    byte_inputs: Vec<usize>,
    /// Input streams so far, of bytes and others.
    input_count: usize,
    /// The batch plane.
    graph: Vec<graph::Node>,
    outputs: Vec<OutputNode>,
    /// The streams that outputs, or programs that slice, depend on.
    wanted: Vec<NodeId>,
    /// An input stream that is none of bytes never ends.
    is_endless: bool,
    dialect: Dialect,
    fails_fast: bool,
    remember_ms: Option<u64>,
    /// There is one batch, and it ends with the input.
    is_one_batch: bool,
    bus: Bus,
    /// Tables of the size of a batch that windows keep.
    kept: usize,
}

/// A stream of records: slices of the bytes as they arrived, one batch after another.
///
/// Operators that are applied record by record run in the shard threads, before anything is copied.
#[derive(Clone)]
pub struct DStream<'c, R> {
    pub(super) context: &'c StreamingContext,
    pub(super) stream: usize,
    pub(super) records: R,
}

impl<'c, R> DStream<'c, R> {
    /// Other records of the same bytes.
    pub(super) fn with<S>(&self, records: S) -> DStream<'c, S> {
        DStream {
            context: self.context,
            stream: self.stream,
            records,
        }
    }
}

impl StreamingContext {
    /// A context that makes a batch every `interval`, from 1 ms, in whole milliseconds.
    ///
    /// # Errors
    ///
    /// An interval that is out of range.
    pub fn new(interval: Duration) -> Result<Self> {
        StreamingContext::with_config(interval, Config::default())
    }

    /// As [`new`](Self::new), with settings.
    ///
    /// # Errors
    ///
    /// An interval or a setting that is out of range.
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
                feeds: Vec::new(),
                files: Vec::new(),
                nodes: Vec::new(),
                byte_inputs: Vec::new(),
                input_count: 0,
                graph: Vec::new(),
                outputs: Vec::new(),
                kept: 0,
                wanted: Vec::new(),
                is_endless: false,
                dialect: Dialect::default(),
                fails_fast: false,
                remember_ms: None,
                is_one_batch: false,
                bus: Bus::default(),
            }),
        })
    }

    /// A context that makes one batch of everything there is: it is cut when every source has ended, or at a
    /// graceful stop, and named by the time at which it was.
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
    /// A setting that is out of range.
    pub fn one_batch(config: Config) -> Result<Self> {
        let context = StreamingContext::with_config(Duration::from_millis(1), config)?;
        context.draft.borrow_mut().is_one_batch = true;
        Ok(context)
    }

    /// Calls `handler` with everything a person may want to know while the context runs, from any of
    /// the engine's threads. Without it nobody is told: the library never prints by itself.
    pub fn on_notice(&self, handler: impl Fn(&Notice) + Send + Sync + 'static) {
        self.draft.borrow_mut().notices = Notices::to(handler);
    }

    /// Stops after `batches` batches, at least one.
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

    /// Uses another clock: a manual one makes programs testable. Its time is looked at every
    /// millisecond.
    pub fn set_clock(&self, clock: Clock) {
        self.draft.borrow_mut().clock = clock;
    }

    /// Chooses whose rule holds where Scala and Python differ, for the streams made from here on.
    pub fn set_dialect(&self, dialect: Dialect) {
        self.draft.borrow_mut().dialect = dialect;
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.draft.borrow().dialect
    }

    /// The first batch that fails ends the run at once. Without it later batches are made all the same, as
    /// Spark does, and the first error comes out of [`RunningContext::await_termination`].
    pub fn fail_fast(&self) {
        self.draft.borrow_mut().fails_fast = true;
    }

    /// Every stream keeps its batches for at least that long, for [`slice`](crate::stream::Remembered::slice):
    /// Spark's `remember`. Windows keep what they need by themselves; a stream of which one is made keeps the
    /// window's length more, so that every window that is remembered has its batches there.
    ///
    /// # Errors
    ///
    /// It was said before.
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

    /// Tells `listener` what happens while the context runs.
    pub fn add_streaming_listener(&self, listener: impl StreamingListener + 'static) {
        self.draft.borrow().bus.add(Box::new(listener));
    }

    /// The batch interval.
    pub(super) fn interval(&self) -> Duration {
        self.draft.borrow().interval
    }

    /// The batch interval in milliseconds: the slide of streams that have no other.
    pub(super) fn interval_ms(&self) -> u64 {
        self.draft.borrow().interval_ms
    }

    /// Lines of text received from a host and port, as Spark's `socketTextStream`: connects as a
    /// client, and again every 2 seconds when there is no connection. `start` does not wait for it;
    /// batches are empty meanwhile.
    ///
    /// # Errors
    ///
    /// An empty host, or port 0.
    pub fn socket_text_stream(&self, host: &str, port: u16) -> Result<DStream<'_, Lines>> {
        self.socket_text_stream_with(host, port, Reconnect::default())
    }

    /// As [`socket_text_stream`](Self::socket_text_stream), saying what to do without a connection.
    ///
    /// # Errors
    ///
    /// An empty host, port 0, or a pause that is not whole milliseconds from 1 ms to 366 days.
    pub fn socket_text_stream_with(
        &self,
        host: &str,
        port: u16,
        reconnect: Reconnect,
    ) -> Result<DStream<'_, Lines>> {
        if let Reconnect::After(pause) = reconnect {
            // The same range: a pause of zero would be a loop, one beyond a year is a mistake.
            interval_ms(pause).map_err(|_| {
                Error::refused(format!("reconnect pause {pause:?} is outside 1 ms to 366 days, or no whole number of milliseconds"))
            })?;
        }
        if host.is_empty() || port == 0 {
            return Err(Error::refused(format!(
                "cannot connect to host {host:?} port {port}"
            )));
        }
        Ok(self.add_source(Box::new(TcpClient::new(host, port, reconnect))))
    }

    /// Lines of standard input. Its end ends the stream.
    pub fn stdin_text_stream(&self) -> DStream<'_, Lines> {
        self.add_source(Box::new(Input::stdin()))
    }

    /// Lines of a source of one's own; see [`Source`].
    pub fn source_stream(&self, source: impl Source + 'static) -> DStream<'_, Lines> {
        self.add_source(Box::new(source))
    }

    /// Lines of several sources as one stream, at the speed of one: Spark's `ssc.union` of input streams,
    /// before anything is copied. Lines of two sources never mix; which comes first is not said. The stream
    /// ends when all of them have.
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    /// use microtally::prelude::*;
    /// # use microtally::{Fill, Source};
    /// # struct Text(&'static [u8]);
    /// # impl Source for Text {
    /// #     fn fill(&mut self, buf: &mut [u8], _now: Duration) -> Fill {
    /// #         let text = std::mem::take(&mut self.0);
    /// #         buf[..text.len()].copy_from_slice(text);
    /// #         if text.is_empty() { Fill::End } else { Fill::Bytes(text.len()) }
    /// #     }
    /// #     fn name(&self) -> &str { "text" }
    /// # }
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// // `Text` gives what it holds, once. The first one's last line has no end.
    /// let lines = ssc.union_sources(vec![Box::new(Text(b"a\nb")), Box::new(Text(b"b\nc\n"))])?;
    /// let (sender, counts) = channel();
    /// lines.count_by_value().for_each_batch(move |batch, _| drop(sender.send(batch.get(b"b"))));
    /// ssc.start()?.await_termination()?;
    /// assert_eq!(counts.iter().flatten().sum::<u64>(), 2);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// There is no source.
    pub fn union_sources(&self, sources: Vec<Box<dyn Source>>) -> Result<DStream<'_, Lines>> {
        if sources.is_empty() {
            return Err(Error::refused("there is no source to read from"));
        }
        Ok(self.add_sources(sources))
    }

    /// Lines of the files that are put into a directory, as Spark's `textFileStream`: see
    /// [`FileOptions`] for which ones, and when. `path` may name several directories, with `*`, `?`,
    /// `[a-z]` and `{in,out}` in its names; directories below them are not looked into. A directory that
    /// is not there is looked for in every batch.
    ///
    /// # Errors
    ///
    /// A path that is empty, or has a bracket or a brace without an end.
    pub fn text_file_stream(&self, path: impl AsRef<Path>) -> Result<DStream<'_, Lines>> {
        self.text_file_stream_with(path, FileOptions::default())
    }

    /// As [`text_file_stream`](Self::text_file_stream), saying which files.
    ///
    /// # Errors
    ///
    /// As [`text_file_stream`](Self::text_file_stream); a time to remember files that is not whole
    /// milliseconds from 1 ms to 366 days.
    pub fn text_file_stream_with(
        &self,
        path: impl AsRef<Path>,
        options: FileOptions,
    ) -> Result<DStream<'_, Lines>> {
        let interval = self.draft.borrow().interval;
        let files = TextFiles::new(path.as_ref(), interval, options)?;
        Ok(self.add_source(Box::new(files)))
    }

    fn add_source(&self, source: Box<dyn Source>) -> DStream<'_, Lines> {
        self.add_sources(vec![source])
    }

    fn add_sources(&self, sources: Vec<Box<dyn Source>>) -> DStream<'_, Lines> {
        let input = self.add_input();
        let mut draft = self.draft.borrow_mut();
        draft.byte_inputs.push(input);
        let stream = draft.byte_inputs.len() - 1;
        draft.feeds.extend(sources.iter().map(|_| stream));
        draft.sources.extend(sources);
        DStream {
            context: self,
            stream,
            records: Lines,
        }
    }

    /// Whether there is a limit to the memory.
    pub(super) fn has_memory_limit(&self) -> bool {
        self.memory_limit().is_some()
    }

    /// The limit to the memory, and what happens there.
    pub(super) fn memory_limit(&self) -> Option<(usize, OnLimit)> {
        let draft = self.draft.borrow();
        let bytes_max = draft.config.memory_bytes_max?;
        Some((bytes_max, draft.config.on_limit))
    }

    /// An operator keeps what takes as much as that many tables of a batch.
    pub(super) fn keep_tables(&self, count: usize) {
        let mut draft = self.draft.borrow_mut();
        draft.kept = draft.kept.saturating_add(count);
    }

    pub(super) fn add_node(&self, node: Arc<dyn Node>) -> usize {
        let mut draft = self.draft.borrow_mut();
        draft.nodes.push(node);
        draft.nodes.len() - 1
    }

    /// The number of one more input stream.
    fn add_input(&self) -> usize {
        let mut draft = self.draft.borrow_mut();
        draft.input_count += 1;
        draft.input_count - 1
    }

    /// The number of one more input stream that is not of bytes: a context with one never ends by itself.
    pub(super) fn add_endless_input(&self) -> usize {
        self.draft.borrow_mut().is_endless = true;
        self.add_input()
    }

    /// A stream of the batch plane, made of streams that exist.
    pub(super) fn add_graph_node(
        &self,
        parents: Vec<NodeId>,
        slide_ms: u64,
        step: Box<dyn Step>,
    ) -> NodeId {
        let mut draft = self.draft.borrow_mut();
        draft.graph.push(graph::Node {
            slide_ms,
            parents,
            reach_ms: 0,
            step,
            is_wanted: false,
        });
        draft.graph.len() - 1
    }

    /// The numbered stream is a window of that length.
    pub(super) fn reach(&self, id: NodeId, length_ms: u64) {
        self.draft.borrow_mut().graph[id].reach_ms = length_ms;
    }

    /// The stream is made in every batch, whether or not an output needs it.
    pub(super) fn want(&self, id: NodeId) {
        self.draft.borrow_mut().wanted.push(id);
    }

    /// An output of the numbered stream.
    pub(super) fn add_output(&self, id: NodeId, output: OutputNode) {
        self.want(id);
        self.draft.borrow_mut().outputs.push(output);
    }

    /// Takes the memory, starts the threads and begins to read. The run goes on until it is stopped,
    /// every source has ended, or the number of batches is reached; dropping the handle stops it at once.
    ///
    /// # Errors
    ///
    /// No output was registered, or the system refuses a thread or an event queue.
    pub fn start(self) -> Result<RunningContext> {
        let mut draft = self.draft.into_inner();
        for FilesOf { stream, files } in std::mem::take(&mut draft.files) {
            draft.feeds.push(stream);
            draft.sources.push(Box::new(files));
        }
        draft.check_outputs()?;
        let refused = |cause: std::io::Error| {
            let cause = describe(&cause);
            Error::new(
                ErrorKind::System,
                format!("cannot make an event queue: {cause}"),
            )
        };
        let poll = Poll::new().map_err(refused)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE_TOKEN).map_err(refused)?);
        let wake_reactor: Arc<dyn Fn() + Send + Sync> = {
            let waker = Arc::clone(&waker);
            // It can fail only when the kernel is out of memory; the next event wakes the reactor then.
            Arc::new(move || drop(waker.wake()))
        };
        let control = Control::new(Arc::clone(&wake_reactor));
        let wake = {
            let wake_reactor = Arc::clone(&wake_reactor);
            Wake::new(move || wake_reactor())
        };
        let (pin, record_bytes_max) = (draft.config.pin, draft.config.record_bytes_max);
        let low_latency = draft.config.low_latency;
        let (clock, notices) = (draft.clock.clone(), draft.notices.clone());
        let now = clock.now();
        let parts = build(draft.order(Arc::clone(&control), Arc::clone(&wake), now))?;
        let (hub, mut runtime) = launch(parts, pin, Arc::clone(&control), &notices)?;
        let bus = draft.bus;
        bus.tell(|listener| listener.on_streaming_started(clock.now()));
        let receivers: Vec<Option<Receiver>> = (draft.sources.iter().zip(&draft.feeds))
            .map(|(source, &stream)| {
                let input = draft.byte_inputs[stream];
                let is_heard = !bus.is_silent();
                is_heard.then(|| Receiver::new(bus.clone(), clock.clone(), input, source.name()))
            })
            .collect();
        let overheard = |(source, receiver): (_, &Option<Receiver>)| match receiver {
            Some(receiver) => Box::new(Overheard::new(source, receiver.clone())),
            None => source,
        };
        let sources = draft.sources.into_iter().zip(&receivers);
        let mut sources: Vec<Box<dyn Source>> = sources.map(overheard).collect();
        let signals = Signals::default();
        for (index, source) in sources.iter_mut().enumerate() {
            let (signals, wake_reactor) = (signals.clone(), Arc::clone(&wake_reactor));
            let wake = move || {
                if signals.raise(index) {
                    wake_reactor();
                }
            };
            let registry = poll.registry().try_clone().map_err(refused)?;
            let notices = match &receivers[index] {
                Some(receiver) => receiver.overhear(notices.clone()),
                None => notices.clone(),
            };
            let port = Port::new(Some(registry), Token(index), wake, notices);
            source.start(port, now);
        }
        let batch_clock = if draft.is_one_batch {
            BatchClock::at_end()
        } else {
            BatchClock::new(draft.interval_ms, now)
        };
        let core = ReactorCore::new(
            hub,
            sources,
            batch_clock,
            draft.batches,
            draft.is_endless,
            Arc::clone(&control),
            notices,
            record_bytes_max,
        );
        let shell = Shell {
            poll,
            clock,
            wake,
            signals,
            desk: Arc::clone(&runtime.desk),
            low_latency,
        };
        runtime.spawn("mt-reactor".to_owned(), move || reactor::run(core, shell))?;
        Ok(RunningContext { runtime, control })
    }
}

impl Draft {
    fn check_outputs(&self) -> Result<()> {
        if self.outputs.is_empty() {
            let message = "no output operations registered, so nothing to execute";
            return Err(Error::new(ErrorKind::NoOutput, message));
        }
        Ok(())
    }

    /// Starts the batch plane, at the time `now`, and gives what an engine is built from.
    fn order(&mut self, control: Arc<Control>, wake: Arc<Wake>, now: Duration) -> Order {
        let (clock, notices) = (self.clock.clone(), self.notices.clone());
        let mut graph = std::mem::take(&mut self.graph);
        graph::want(&mut graph, self.wanted.drain(..));
        let remember_ms = match self.remember_ms {
            Some(asked_ms) => graph::remember_ms(&graph, asked_ms),
            // Each stream keeps what its windows need, and nothing else.
            None => vec![0; graph.len()],
        };
        for (node, remember_ms) in graph.iter_mut().zip(remember_ms) {
            node.step.start(&Starting {
                remember_ms,
                now,
                notices: &notices,
            });
        }
        let mut plan = Plan {
            nodes: std::mem::take(&mut self.nodes),
            outputs: Vec::new(),
        };
        let byte_inputs = plan.first_nodes().map(|node| {
            let stream = plan.nodes[node].stream();
            (node, self.byte_inputs[stream])
        });
        plan.outputs = vec![Box::new(Graph::new(
            graph,
            std::mem::take(&mut self.outputs),
            self.interval_ms,
            self.fails_fast,
            Reporter::new(self.bus.clone(), clock.clone()),
            byte_inputs.collect(),
        ))];
        Order {
            config: self.config.clone(),
            plan,
            feeds: self.feeds.clone(),
            interval: if self.is_one_batch {
                Duration::ZERO
            } else {
                self.interval
            },
            clock,
            notices,
            control,
            wake,
            kept: self.kept,
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
