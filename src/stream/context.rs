//! Connect, transform, start, stop.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mio::{Poll, Waker};

use crate::config::{Config, interval_ms};
use crate::engine::control::{Control, RunStats, Stop};
use crate::engine::plan::{Node, Output, Plan};
use crate::engine::reactor::{ReactorCore, Shell, Signals, WAKE_TOKEN};
use crate::engine::{Order, Runtime, build, launch, reactor};
use crate::epoch::clock::{BatchClock, Clock};
use crate::error::{Error, ErrorKind, Result, describe};
use crate::ring::Wake;
use crate::shard::stage::Tokens;
use crate::source::input::Input;
use crate::source::tcp_client::{Reconnect, TcpClient};
use crate::source::{Notice, Notices, Port, Source};
use crate::split::Rule;

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
    /// The index is the number of the stream.
    sources: Vec<Box<dyn Source>>,
    nodes: Vec<Arc<dyn Node>>,
    outputs: Vec<Box<dyn Output>>,
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
                nodes: Vec::new(),
                outputs: Vec::new(),
            }),
        })
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

    /// Lines of text received from a host and port, as Spark's `socketTextStream`: connects as a
    /// client, and again every 2 seconds when there is no connection. `start` does not wait for it;
    /// batches are empty meanwhile.
    ///
    /// # Errors
    ///
    /// An empty host, or port 0.
    pub fn socket_text_stream(&self, host: &str, port: u16) -> Result<DStream<'_, Tokens>> {
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
    ) -> Result<DStream<'_, Tokens>> {
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
    pub fn stdin_text_stream(&self) -> DStream<'_, Tokens> {
        self.add_source(Box::new(Input::stdin()))
    }

    fn add_source(&self, source: Box<dyn Source>) -> DStream<'_, Tokens> {
        let mut draft = self.draft.borrow_mut();
        draft.sources.push(source);
        let stream = draft.sources.len() - 1;
        DStream {
            context: self,
            stream,
            records: Tokens(Rule::Lines),
        }
    }

    pub(super) fn add_node(&self, node: Arc<dyn Node>) -> usize {
        let mut draft = self.draft.borrow_mut();
        draft.nodes.push(node);
        draft.nodes.len() - 1
    }

    pub(super) fn add_output(&self, output: Box<dyn Output>) {
        self.draft.borrow_mut().outputs.push(output);
    }

    /// Takes the memory, starts the threads and begins to read. The run goes on until it is stopped,
    /// every source has ended, or the number of batches is reached; dropping the handle stops it at once.
    ///
    /// # Errors
    ///
    /// No output was registered, or the system refuses a thread or an event queue.
    pub fn start(self) -> Result<RunningContext> {
        let draft = self.draft.into_inner();
        if draft.outputs.is_empty() {
            let message = "no output operations registered, so nothing to execute";
            return Err(Error::new(ErrorKind::NoOutput, message));
        }
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
        let (clock, notices) = (draft.clock, draft.notices);
        let parts = build(Order {
            config: draft.config,
            plan: Plan {
                nodes: draft.nodes,
                outputs: draft.outputs,
            },
            feeds: (0..draft.sources.len()).collect(),
            interval: draft.interval,
            clock: clock.clone(),
            notices: notices.clone(),
            control: Arc::clone(&control),
            wake: Arc::clone(&wake),
        })?;
        let (hub, mut runtime) = launch(parts, pin, Arc::clone(&control), &notices)?;
        let mut sources = draft.sources;
        let signals = Signals::default();
        for (index, source) in sources.iter_mut().enumerate() {
            let (signals, wake_reactor) = (signals.clone(), Arc::clone(&wake_reactor));
            source.start(Port {
                registry: Some(poll.registry().try_clone().map_err(refused)?),
                token: mio::Token(index),
                wake: Arc::new(move || {
                    signals.raise(index);
                    wake_reactor();
                }),
                notices: notices.clone(),
            });
        }
        let batch_clock = BatchClock::new(draft.interval_ms, clock.now());
        let core = ReactorCore::new(
            hub,
            sources,
            batch_clock,
            draft.batches,
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

/// A started context.
///
/// ```no_run
/// # use microtally::prelude::*;
/// # fn f(running: RunningContext) -> Result<(), microtally::Error> {
/// if !running.await_termination_or_timeout(Duration::from_secs(60))? {
///     let sums = running.stop(Stop::Graceful)?;
///     println!("{} tokens in {} batches", sums.tokens, sums.batches);
/// }
/// # Ok(()) }
/// ```
pub struct RunningContext {
    runtime: Runtime,
    control: Arc<Control>,
}

/// Stops a running context from another thread or a signal handler's thread.
#[derive(Clone)]
pub struct StopHandle {
    control: Arc<Control>,
}

impl StopHandle {
    /// Asks for a stop and returns at once; [`RunningContext::await_termination`] returns when it is
    /// done.
    pub fn stop(&self, how: Stop) {
        self.control.stop(how);
    }
}

impl RunningContext {
    /// Waits until the run has ended.
    ///
    /// # Errors
    ///
    /// A user function that panicked, as soon as it did (later batches go on until the handle is
    /// dropped); a source that was lost for good or an output that could not be written, when the run
    /// has ended.
    pub fn await_termination(&self) -> Result<()> {
        self.control.wait(None).map(|_| ())
    }

    /// As [`await_termination`](Self::await_termination), for at most that long. `Ok(false)` when the
    /// time ran out.
    ///
    /// # Errors
    ///
    /// As [`await_termination`](Self::await_termination).
    pub fn await_termination_or_timeout(&self, at_most: Duration) -> Result<bool> {
        self.control.wait(Some(at_most))
    }

    /// Stops and waits until it is done. Graceful: everything received is counted and the last batch
    /// put out. Immediate: the batch being filled is dropped, and the call returns as soon as an output
    /// that is being written is done.
    ///
    /// # Errors
    ///
    /// The first error of the run, if there was one.
    pub fn stop(mut self, how: Stop) -> Result<RunStats> {
        self.control.stop(how);
        self.runtime.join();
        match self.control.error() {
            Some(error) => Err(error),
            None => Ok(self.control.stats()),
        }
    }

    /// A handle to stop the run with, from anywhere: also from a function that is called with batches,
    /// which could not wait for the end of the thread it runs on.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle {
            control: Arc::clone(&self.control),
        }
    }

    /// Sums over the batches put out so far.
    pub fn stats(&self) -> RunStats {
        self.control.stats()
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

impl fmt::Debug for RunningContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningContext")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for StopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopHandle").finish_non_exhaustive()
    }
}
