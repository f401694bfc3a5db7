//! The context of a program before its start, and the start itself.
//!
//! `inputs` makes the input streams of bytes; `files` makes those of files, which can also be read
//! all at once.

mod files;
mod inputs;

use std::fmt;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mio::{Poll, Token, Waker};

use crate::config::{Config, Dialect, interval_ms};
use crate::engine::assemble::Blueprint;
use crate::engine::control::Control;
use crate::engine::reactor::{ReactorCore, ReactorParts, ReactorShell, ReadySignals, WAKE_TOKEN};
use crate::engine::scan::FilesOf;
use crate::engine::{guard, reactor};
use crate::error::{Error, ErrorKind, Result, describe, lock};
use crate::id::StreamId;
use crate::notice::{Notice, Notices};
use crate::position::Positions;
use crate::ring::Wake;
use crate::source::{Port, Source};
use crate::stream::plan::builder::{Plan, PlanBuilder};
use crate::stream::plan::explain::Explanation;
use crate::stream::plan::graph::Launch;
use crate::stream::program::listener::{ListenerBus, Reporter, StreamingListener};
use crate::stream::program::receiver::Receivers;
use crate::stream::program::running::RunningContext;
use crate::time::{BatchClock, Clock, as_ms};

/// A DStream program before its start: holds sources, operators and outputs until
/// [`start`](Self::start).
///
/// [`start`](Self::start) consumes it. Streams do not borrow their context, so a struct may hold
/// them beside it:
///
/// ```
/// use microtally::prelude::*;
/// use microtally::Config;
/// use microtally::sources::Lines;
/// use microtally::stream::Reduced;
///
/// struct Program {
///     ssc: StreamingContext,
///     counts: Reduced<u64>,
/// }
///
/// let ssc = StreamingContext::one_batch(Config::default())?;
/// let counts = ssc.source_stream(Lines::of("to be or not to be")).split(b' ').count_by_value();
/// let program = Program { ssc, counts };
/// program.counts.for_each_batch(|batch, _| assert_eq!(batch.get(b"be"), Some(2)));
/// program.ssc.start()?.await_termination()?;
/// # Ok::<(), microtally::Error>(())
/// ```
///
/// A stream that outlives the start cannot be used any more: its methods panic with `the context
/// has started`, or return that as an error of kind
/// [`InvalidCall`](crate::error::ErrorKind::InvalidCall) if they return a `Result`.
pub struct StreamingContext {
    /// What is computed; every stream shares it.
    pub(crate) plan: PlanBuilder,
    draft: Mutex<Draft>,
}

/// The settings and the sources so far.
struct Draft {
    interval: Duration,
    config: Config,
    clock: Clock,
    notices: Notices,
    batches: Option<u64>,
    sources: Vec<Box<dyn Source>>,
    /// The stream of each source.
    framers: Vec<StreamId>,
    /// Sources that are files, which can also be read all at once.
    files: Vec<FilesOf>,
    fails_fast: bool,
    remember_ms: Option<u64>,
    /// There is one batch, and it ends with the input.
    is_one_batch: bool,
    bus: ListenerBus,
    load_from: Option<Box<dyn Read + Send>>,
    save_to: Option<Box<dyn Write + Send>>,
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
            plan: PlanBuilder::new(interval_ms(interval)?, config.memory_limit()),
            draft: Mutex::new(Draft {
                interval,
                config,
                clock: Clock::system(),
                notices: Notices::default(),
                batches: None,
                sources: Vec::new(),
                framers: Vec::new(),
                files: Vec::new(),
                fails_fast: false,
                remember_ms: None,
                is_one_batch: false,
                bus: ListenerBus::default(),
                load_from: None,
                save_to: None,
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
        context.draft().is_one_batch = true;
        Ok(context)
    }

    /// Sets the handler of notices: what people may want to know while the context runs.
    ///
    /// It is called from any of the engine's threads. Without a handler notices are dropped: the
    /// library never prints by itself. If the handler panics, it misses that notice, the run goes
    /// on, and [`RunningContext::await_termination`] returns the error.
    pub fn on_notice(&self, handler: impl Fn(&Notice) + Send + Sync + 'static) {
        self.draft().notices = Notices::to(handler);
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
        self.draft().batches = Some(batches);
        Ok(())
    }

    /// Sets the clock; a manual one makes programs testable. A manual clock is read every
    /// millisecond.
    pub fn set_clock(&self, clock: Clock) {
        self.draft().clock = clock;
    }

    /// Sets whose rules hold where Scala and Python differ, for the streams made from now on.
    pub fn set_dialect(&self, dialect: Dialect) {
        self.plan.set_dialect(dialect);
    }

    /// Ends the run at the first failed batch.
    ///
    /// By default later batches are still made, as in Spark, and
    /// [`RunningContext::await_termination`] returns the first error.
    pub fn fail_fast(&self) {
        self.draft().fails_fast = true;
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
        let mut draft = self.draft();
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
        self.draft().bus.add(Box::new(listener));
    }

    /// The batch interval.
    pub(crate) fn interval(&self) -> Duration {
        self.draft().interval
    }

    /// Writes the states of all operators when the run ends with its last batch: after a graceful
    /// stop, the end of all sources, or [`stop_after`](Self::stop_after). Another run of the same
    /// program goes on from there with [`load_states`](Self::load_states).
    ///
    /// States are sums so far, states by key, and the batches of windows. Numbers, texts and bytes
    /// can be saved; streams with states of other types need `checkpointed`. The positions of
    /// sources that have them are saved too; see
    /// [`Intake::open_at`](crate::sources::Intake::open_at). What functions keep for themselves is
    /// not part of it. If the states cannot be
    /// written, [`await_termination`](RunningContext::await_termination) returns the error. After
    /// another stop nothing is written.
    ///
    /// ```
    /// use microtally::Config;
    /// use microtally::StreamingContext;
    /// use microtally::sources::Lines;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("states");
    ///
    /// let count = |text: &str, a_so_far| {
    ///     let ssc = StreamingContext::one_batch(Config::default())?;
    ///     let counts = ssc.source_stream(Lines::of(text)).split(b' ').count_by_value();
    ///     let so_far = counts.reduce_by_key_so_far(|a, b| a + b);
    ///     so_far.for_each_batch(move |batch, _| assert_eq!(batch.get(b"a"), Some(a_so_far)));
    ///     if let Ok(states) = std::fs::read(&path) {
    ///         ssc.load_states(std::io::Cursor::new(states));
    ///     }
    ///     ssc.save_states(std::fs::File::create(&path).unwrap());
    ///     ssc.start()?.await_termination()
    /// };
    /// count("a b a", 2)?;
    /// count("c a", 3)?;
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn save_states(&self, to: impl Write + Send + 'static) {
        self.draft().save_to = Some(Box::new(to));
    }

    /// Goes on with states that [`save_states`](Self::save_states) wrote. They are read at the
    /// start, which returns an error if they are not those of this program.
    ///
    /// The time between the two runs is as if it had not been, except that timeouts, and windows of
    /// records, are by batch times.
    pub fn load_states(&self, from: impl Read + Send + 'static) {
        self.draft().load_from = Some(Box::new(from));
    }

    /// What the program is made of so far: its streams and outputs, what they are called, what they
    /// are made of, and where they run.
    ///
    /// ```
    /// use microtally::prelude::*;
    ///
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// let lines = ssc.socket_text_stream("localhost", 9999)?.named("lines");
    /// let words = lines.filter(|line| !line.starts_with(b"#")).split(b' ');
    /// let minute = (Duration::from_secs(60), Duration::from_secs(10));
    /// words.count_by_value_and_window(minute)?.named("minute").pprint(10);
    /// lines.count().pprint(1);
    /// let forgotten = lines.field(0, b' ');
    ///
    /// let expected = [
    ///     "lines           socket_text_stream                     shards      1s  reads tcp://localhost:9999",
    ///     "filter          filter                                 shards      1s  from lines",
    ///     "flat_map        flat_map                               shards      1s  from filter",
    ///     "count_by_value  count_by_value                         shards      1s  from flat_map",
    ///     "minute          reduce_by_key_and_window_with_inverse  publisher  10s  from count_by_value",
    ///     "pprint          pprint                                 publisher  10s  from minute",
    ///     "count           count                                  shards      1s  from lines",
    ///     "pprint-2        pprint                                 publisher   1s  from count",
    ///     "field           field                                  shards      1s  from lines (unused)",
    /// ];
    /// assert_eq!(ssc.explain()?.to_string(), expected.join("\n") + "\n");
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// The same program has the same explanation each time. With the feature `json` there is
    /// `Explanation::to_json`. When a batch fails, the message has the name of the stream whose
    /// function failed.
    ///
    /// # Errors
    ///
    /// A name was given to two streams, is empty, or has characters that cannot be printed.
    pub fn explain(&self) -> Result<Explanation> {
        self.plan.explain()
    }

    fn draft(&self) -> MutexGuard<'_, Draft> {
        lock(&self.draft)
    }

    /// The finished program: the settings and sources, and what is computed.
    ///
    /// # Errors
    ///
    /// There is no output, or names do not fit.
    fn finish(self) -> Result<(Draft, Plan)> {
        let plan = self.plan.finish()?;
        if plan.outputs().next().is_none() {
            let message = "no output operations registered, so nothing to execute";
            return Err(Error::new(ErrorKind::NoOutput, message));
        }
        let draft = self.draft.into_inner();
        Ok((draft.unwrap_or_else(PoisonError::into_inner), plan))
    }

    /// Allocates the memory, starts the threads and begins to read.
    ///
    /// The run goes on until it is stopped, every source has ended, or the number of batches is
    /// reached. Dropping the returned handle stops it at once.
    ///
    /// # Errors
    ///
    /// No output was registered; names do not fit, as for [`explain`](Self::explain); states cannot
    /// be saved or loaded, as for [`save_states`](Self::save_states); or the system refuses memory,
    /// a thread or an event queue.
    pub fn start(self) -> Result<RunningContext> {
        let (mut draft, plan) = self.finish()?;
        for FilesOf { stream, files } in std::mem::take(&mut draft.files) {
            draft.framers.push(stream);
            draft.sources.push(Box::new(files));
        }
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
        let (interval_ms, is_endless) = (plan.interval_ms, plan.is_endless);
        let receivers = draft.receivers(&plan.byte_inputs);
        let (blueprint, resume) =
            draft.blueprint(plan, Arc::clone(&control), Arc::clone(&wake), now)?;
        let mut resume = resume.into_iter();
        let decoders = blueprint.decoders;
        let window_log_max = decoders.window_log_max(draft.config.memory_bytes_max);
        let (router, mut runtime) = blueprint.launch()?;
        draft
            .bus
            .notify(|listener| listener.on_streaming_started(draft.clock.now()));
        let signals = ReadySignals::default();
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
                resume: resume.next().unwrap_or_default(),
            };
            source.start(port, now);
        }
        let mut core = ReactorCore::new(ReactorParts {
            router,
            sources: draft.sources,
            clock: match draft.is_one_batch {
                true => BatchClock::at_end(),
                false => BatchClock::new(interval_ms, now),
            },
            batches: draft.batches,
            is_endless,
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
    /// Returns what reports the sources to listeners, by the numbers of their input streams.
    fn receivers(&self, byte_inputs: &[usize]) -> Receivers {
        let inputs = self.framers.iter().map(|stream| byte_inputs[stream.0]);
        let sources = self.sources.iter().map(|source| source.as_ref());
        Receivers::new(&self.bus, &self.clock, sources.zip(inputs))
    }

    /// Reports panics of the notice handler and of listeners to `control`.
    fn report_to(&mut self, control: &Arc<Control>) {
        self.notices = guard(self.notices.clone(), control);
        self.bus.report_to(control);
    }

    /// Starts the operators of `plan` at the time `now`. Returns what an engine is built from, and
    /// where sources continue, if they do.
    fn blueprint(
        &mut self,
        plan: Plan,
        control: Arc<Control>,
        wake: Arc<Wake>,
        now: Duration,
    ) -> Result<(Blueprint, Vec<Positions>)> {
        let (clock, notices) = (self.clock.clone(), self.notices.clone());
        let retained = plan.retained;
        let names = self.sources.iter().map(|source| source.name().to_owned());
        let names: Vec<String> = names.collect();
        let (plan, resume) = plan.lower(Launch {
            now,
            notices: &notices,
            metrics: &control.metrics,
            remember_ms: self.remember_ms,
            memory_bytes_max: self.config.memory_bytes_max,
            fails_fast: self.fails_fast,
            reporter: Reporter::new(self.bus.clone(), clock.clone()),
            source_names: names.clone(),
            load_from: self.load_from.take(),
            save_to: self.save_to.take(),
        })?;
        let framers = self.framers.iter().copied().zip(names);
        let blueprint = Blueprint {
            config: self.config.clone(),
            plan,
            inputs: framers
                .zip(&self.sources)
                .map(|((stream, name), source)| (stream, name, source.limits()))
                .collect(),
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
            retained,
        };
        Ok((blueprint, resume))
    }
}

impl fmt::Debug for StreamingContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let draft = self.draft();
        f.debug_struct("StreamingContext")
            .field("interval", &draft.interval)
            .field("sources", &draft.sources.len())
            .field("outputs", &self.plan.output_count())
            .finish_non_exhaustive()
    }
}
