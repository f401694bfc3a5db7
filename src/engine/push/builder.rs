//! `EngineBuilder`: the settings of an engine, and its start.
//!
//! Promise: nothing is taken before every setting was checked. Must not know: sources, event
//! queues.

use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::{Engine, Gate, PushShared, run_clock};
use crate::config::{self, Config};
use crate::engine::assemble::Blueprint;
use crate::engine::control::Control;
use crate::engine::guard;
use crate::engine::plan::{Emitted, EnginePlan, Merged, NamedPipeline, Output};
use crate::engine::results::{Keyed, LentNodes, PipelineResults, TakenNodes};
use crate::error::{Error, Result, guarded, lock};
use crate::id::StreamId;
use crate::intake::ChannelLimits;
use crate::memory::{DecoderCounts, RetainedTables};
use crate::notice::{Notice, Notices};
use crate::ring::Wake;
use crate::time::{BatchClock, Clock};

/// Settings of an [`Engine`] whose pipelines have the results `R`.
pub struct EngineBuilder<R: PipelineResults = Keyed<u64>> {
    pipelines: Result<Vec<NamedPipeline>>,
    config: Config,
    writers: usize,
    interval: Option<Duration>,
    clock: Clock,
    notices: Notices,
    results: PhantomData<fn() -> R>,
}

debug_fields!([R: PipelineResults] EngineBuilder<R>, "EngineBuilder", config, writers, interval);

impl<R: PipelineResults> EngineBuilder<R> {
    /// The settings of an engine that runs `pipelines`; if there is an error, the start returns it.
    pub(crate) fn of(pipelines: Result<Vec<NamedPipeline>>) -> Self {
        EngineBuilder {
            pipelines,
            config: Config::default(),
            writers: 1,
            interval: None,
            clock: Clock::system(),
            notices: Notices::default(),
            results: PhantomData,
        }
    }

    /// Sets all settings of the engine.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Sets the number of shard threads; see [`Config::workers`].
    pub fn workers(mut self, shard_count: usize) -> Self {
        self.config = self.config.workers(shard_count);
        self
    }

    /// Sets how many writers may exist at a time: 1 to 1024, 1 by default. Memory for an unfinished
    /// line of each is reserved, and touched when it is first used. A writer beyond that is refused
    /// by [`Engine::writer`] and [`Writer::try_clone`](super::Writer::try_clone). The place of a
    /// dropped writer is free again.
    pub fn writers(mut self, writer_count: usize) -> Self {
        self.writers = writer_count;
        self
    }

    /// Cuts a batch at every multiple of `interval`. Without it only [`Engine::cut`] and
    /// [`Engine::finish`] cut batches.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    /// Sets the clock; a manual one makes programs testable. A manual clock is read every
    /// millisecond. Only [`interval`](Self::interval) and durations in statistics use it: time
    /// limits of calls use the system's.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    /// use microtally::{Engine, Rule};
    /// use microtally::time::Clock;
    ///
    /// let clock = Clock::manual(Duration::from_secs(100));
    /// let (sender, times) = mpsc::channel();
    /// let builder = Engine::builder(Rule::Lines).interval(Duration::from_secs(60));
    /// let engine = builder.clock(clock.clone()).start(move |batch| {
    ///     sender.send(batch.time().as_millis()).expect("somebody receives it");
    /// })?;
    /// clock.advance(Duration::from_secs(60));
    /// assert_eq!(times.recv()?, 120_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the function that is called with each notice, on any thread of the engine: a shard that
    /// could not be pinned, batches that fall behind. What was dropped is in the statistics. If the
    /// function panics, that notice is lost, the engine goes on, and [`Engine::finish`] returns the
    /// error.
    pub fn on_notice(mut self, handler: impl Fn(&Notice) + Send + Sync + 'static) -> Self {
        self.notices = Notices::to(handler);
        self
    }

    /// Takes the memory and starts the threads. Calls `on_batch` with each batch, in order, on the
    /// publisher thread; in [low-latency mode](Config::low_latency) on whichever thread completes
    /// the batch.
    ///
    /// `on_batch` is called with a [`Batch`](crate::Batch), or with a tuple of them if there are
    /// several pipelines. It is not called if a function of a pipeline panicked.
    ///
    /// # Errors
    ///
    /// A setting out of its range, a memory limit that is too small, a thread that cannot be
    /// started, or pipelines that only a [`StreamingContext`](crate::StreamingContext) can run.
    pub fn start(
        self,
        on_batch: impl FnMut(&R::Batches<'_>) + Send + 'static,
    ) -> Result<Engine<R>> {
        self.config.validate()?;
        let pipelines = self.pipelines?;
        if !(1..=1024).contains(&self.writers) {
            return Err(Error::refused(format!(
                "writers {} is outside 1 to 1024",
                self.writers
            )));
        }
        let interval_ms = self.interval.map(config::interval_ms).transpose()?;
        let last = Arc::new(Mutex::new(None));
        let plan = EnginePlan {
            nodes: pipelines,
            outputs: vec![Box::new(CallWithBatches::<R, _> {
                on_batch,
                computed: R::Computed::default(),
                last: Arc::clone(&last),
            })],
        };
        let room = Arc::new(Condvar::new());
        let wake = {
            let room = Arc::clone(&room);
            Wake::new(move || room.notify_all())
        };
        let control = {
            let wake = Arc::clone(&wake);
            Control::new(Arc::new(move || wake.notify()))
        };
        let low_latency = self.config.low_latency.is_some();
        let (line_ends, record_bytes_max) = (self.config.line_ends, self.config.record_bytes_max);
        let blueprint = Blueprint {
            config: self.config,
            plan,
            inputs: vec![
                (StreamId(0), "writers".to_owned(), ChannelLimits::default());
                self.writers
            ],
            decoders: DecoderCounts::default(),
            interval: self.interval.unwrap_or_default(),
            clock: self.clock.clone(),
            notices: guard(self.notices, &control),
            control: Arc::clone(&control),
            wake: Arc::clone(&wake),
            retained: RetainedTables::default(),
        };
        let (router, mut runtime) = blueprint.launch()?;
        let batches = interval_ms.map(|interval_ms| BatchClock::new(interval_ms, self.clock.now()));
        let shared = Arc::new(PushShared {
            gate: Mutex::new(Gate {
                router,
                is_closed: false,
                // The first is used first.
                unused: (0..self.writers).rev().collect(),
                unended: Vec::with_capacity(self.writers),
            }),
            room,
            wake,
            control,
            publish_turn: Arc::clone(&runtime.publish_turn),
            low_latency,
            line_ends,
            record_bytes_max,
            writers_max: self.writers,
            written: AtomicU64::new(0),
            cutting: AtomicUsize::new(0),
            clock: self.clock,
            batches: Mutex::new(batches),
        });
        if batches.is_some() {
            let shared = Arc::clone(&shared);
            runtime.spawn("mt-clock".to_owned(), move || run_clock(&shared))?;
        }
        Ok(Engine {
            runtime,
            shared,
            last,
        })
    }
}

/// Calls `on_batch` with each batch, and keeps the last one.
struct CallWithBatches<R: PipelineResults, F> {
    on_batch: F,
    computed: R::Computed,
    last: Arc<Mutex<Option<R::Kept>>>,
}

impl<R, F> Output for CallWithBatches<R, F>
where
    R: PipelineResults,
    F: FnMut(&R::Batches<'_>) + Send,
{
    fn emit(&mut self, epoch: &mut Merged<'_>) -> Result<Emitted> {
        let outcome = match epoch.failure() {
            Some(_) => Ok(()),
            // If it panics, the last batch is kept all the same.
            None => guarded(|| {
                let mut nodes = LentNodes::new(epoch.nodes, epoch.stats);
                (self.on_batch)(&R::lend(&mut nodes, &mut self.computed));
            }),
        };
        if epoch.barrier.last {
            // Nothing more is counted: nobody misses the tables.
            let kept = R::keep(&mut TakenNodes::new(epoch.nodes, epoch.stats));
            *lock(&self.last) = Some(kept);
        }
        match outcome {
            Ok(()) => Ok(Emitted::Done),
            Err(panic) => resume_unwind(panic),
        }
    }
}
