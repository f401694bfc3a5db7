//! Wiring and life cycle: takes the memory, starts the threads in order, stops them in order.
//!
//! Promise: everything received before a graceful stop is in a batch that was published; every thread has
//! ended when a [`Runtime`] is dropped. Must not know: argv, concrete sources and sinks, formats.
//!
//! | thread | runs | waits on |
//! |---|---|---|
//! | `mt-reactor` | `reactor`: sources, framers, the router, batch clock | `Poll::poll` |
//! | `mt-shard-N` | `shard::worker`, pinned | spin, then park |
//! | `mt-publisher` | `publish_turn`, `publisher`: merge, check, outputs | park |
//!
//! The push door has no reactor: the threads that write own the router in turns, and `mt-clock` cuts.
//! Where the input is files and the batch all of them, there is no reactor either: see `scan`.
//! In low-latency mode the thread that completes a batch publishes it, and `mt-publisher` helps (`publish_turn`).

pub(crate) mod control;
pub(crate) mod plan;
pub(crate) mod publish_turn;
pub(crate) mod publisher;
pub(crate) mod push;
pub(crate) mod reactor;
pub(crate) mod scan;
#[cfg(any(test, feature = "simulation"))]
pub(crate) mod simulation;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use self::control::{Control, Stop};
use self::plan::{Plan, failed_drop};
use self::publisher::{Inbox, Publisher};
use crate::config::{Config, OnLimit};
use crate::engine::publish_turn::PublishTurn;
use crate::epoch::hand_over::{Tables, hand_over};
use crate::error::{Error, ErrorKind, Result, guarded};
use crate::intake::framer::Framer;
use crate::intake::router::{Outbox, Router, block_count};
use crate::limits::{
    COUNTER_BYTES, EPOCHS_IN_FLIGHT_MAX, MIB, RING_BYTES_MAX, STACK_BYTES, STOP_DRAIN_MS_MAX,
    STOP_THREADS_MS_MAX, THREAD_BYTES,
};
use crate::memory::{DecoderCounts, MemoryPlan, PipelineNeeds, RetainedTables};
use crate::notice::{Notice, Notices};
use crate::ring::arena::Arena;
use crate::ring::{Wake, ring};
use crate::shard::worker::Worker;
use crate::shard::{ShardCore, panic_message, worker};
use crate::sys::{self, Cores};
use crate::table::keys::Seed;
use crate::time::Clock;

/// The parts of an engine, built and not yet running: on threads, or stepped by a test.
pub(crate) struct Parts {
    pub(crate) router: Router,
    pub(crate) workers: Vec<Worker>,
    pub(crate) publisher: Publisher,
    pub(crate) wake: Arc<Wake>,
    pub(crate) low_latency: bool,
}

/// What an engine is built from.
pub(crate) struct Order {
    pub(crate) config: Config,
    pub(crate) plan: Plan,
    /// The stream each framer belongs to.
    pub(crate) framers: Vec<usize>,
    /// Of all sources together.
    pub(crate) decoders: DecoderCounts,
    pub(crate) interval: Duration,
    pub(crate) clock: Clock,
    pub(crate) notices: Notices,
    pub(crate) control: Arc<Control>,
    pub(crate) wake: Arc<Wake>,
    /// What outputs keep.
    pub(crate) retained: RetainedTables,
}

/// Takes the memory and connects the parts.
///
/// # Errors
///
/// Settings that together ask for more memory than they may, or than there is.
pub(crate) fn build(order: Order) -> Result<Parts> {
    let Order {
        config,
        plan,
        framers,
        decoders,
        interval,
        clock,
        notices,
        control,
        wake,
        retained,
    } = order;
    // The reading thread is busy too, so one shard fewer than there are cores.
    let shard_count = config
        .workers
        .unwrap_or_else(|| sys::core_count().saturating_sub(1).max(1));
    let pipelines: Vec<_> = plan.nodes.iter().map(|node| node.needs()).collect();
    let cap = MemoryPlan {
        config: &config,
        shards: shard_count + 1,
        sets: 2,
        blocks: block_count(shard_count, framers.len()),
        framers: framers.len(),
        decoders,
        pipelines: &pipelines,
        retained,
    }
    .table_cap()?;
    let block_bytes = config.block_bytes_within_limit();
    let blocks = block_count(shard_count, framers.len());
    check_memory(
        shard_count + 1,
        block_bytes.saturating_mul(blocks),
        &pipelines,
    )?;
    let arena = arena(block_bytes, blocks)?;
    let seed = Seed::chosen(config.seed);
    let kernel = config.chosen_kernel()?;
    let tables = || {
        Tables::new(
            plan.nodes
                .iter()
                .map(|node| node.partial(seed, cap.clone())),
        )
    };
    let mut handed_over = Vec::new();
    let mut shard = || {
        let stages = plan
            .nodes
            .iter()
            .map(|node| (node.stream(), node.stage(kernel, seed, cap.clone())))
            .collect();
        let (out, publisher_end) = hand_over(tables());
        handed_over.push(publisher_end);
        let mut core = ShardCore::new(stages, tables(), out, config.line_ends);
        if cap.on_limit == OnLimit::Fail && config.memory_bytes_max.is_some() {
            let control = Arc::clone(&control);
            core.end_when_full(Arc::new(move || control.memory_is_full()));
        }
        core
    };
    let (mut rings, mut workers) = (Vec::new(), Vec::new());
    for _ in 0..shard_count {
        let (writer, reader) = ring(Arc::clone(&wake));
        rings.push(writer);
        workers.push(Worker::new(shard(), reader));
    }
    let helper = shard();
    let helper_end = handed_over.pop().expect("the helper's was pushed last");
    let low_latency = config.low_latency.is_some();
    let framers: Vec<(Framer, usize)> = framers
        .into_iter()
        .map(|stream| {
            (
                Framer::new(
                    plan.rule_of(stream),
                    config.line_ends,
                    config.record_bytes_max,
                ),
                stream,
            )
        })
        .collect();
    let published = Arc::new(AtomicU64::new(0));
    let stream_count = framers
        .iter()
        .map(|(_, stream)| stream + 1)
        .max()
        .unwrap_or(0);
    let (intakes_in, intakes_out) = rtrb::RingBuffer::new(EPOCHS_IN_FLIGHT_MAX * stream_count);
    let (cuts_in, cuts_out) = rtrb::RingBuffer::new(EPOCHS_IN_FLIGHT_MAX);
    let mut router = Router::new(
        framers,
        rings,
        &arena,
        helper,
        Arc::clone(&published),
        Outbox {
            intakes: intakes_in,
            cuts: cuts_in,
            stream_count,
        },
        low_latency,
    );
    if config.seed.is_some() {
        router.be_repeatable();
    }
    let mut publisher = Publisher::new(
        plan,
        Inbox {
            shards: handed_over,
            helper: helper_end,
            intakes: intakes_out,
            cuts: cuts_out,
            stream_count,
        },
        interval,
        clock,
        published,
        Arc::clone(&control),
        notices,
    );
    publisher.set_limit(config.memory_bytes_max, config.on_limit);
    Ok(Parts {
        router,
        workers,
        publisher,
        wake,
        low_latency,
    })
}

/// Asks the system for what `shards` take at their start, before any of it is taken: for memory that is missing
/// there is no error where a table or a list is made.
///
/// # Errors
///
/// [`ErrorKind::System`]: there is less.
pub(crate) fn check_memory(
    shards: usize,
    block_bytes: usize,
    pipelines: &[PipelineNeeds],
) -> Result<()> {
    let lane =
        |needs: &PipelineNeeds| (2 + needs.own_tables) * needs.table_bytes_min + COUNTER_BYTES;
    let lanes = shards.saturating_mul(pipelines.iter().map(lane).sum());
    // A thread for each shard, the one that reads among them, and one that publishes.
    let stacks = (shards + 1).saturating_mul(STACK_BYTES + THREAD_BYTES);
    let bytes = block_bytes.saturating_add(lanes).saturating_add(stacks);
    if sys::has_memory(bytes) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::System,
        format!(
            "no memory for {shards} shards, which take {} MiB at the start; take fewer workers or smaller blocks",
            bytes.div_ceil(MIB)
        ),
    ))
}

fn arena(block_bytes: usize, block_count: usize) -> Result<Arena> {
    let bytes = block_bytes.saturating_mul(block_count);
    if bytes > RING_BYTES_MAX {
        return Err(Error::refused(format!(
            "{block_count} blocks of {block_bytes} bytes are more than {RING_BYTES_MAX} bytes; \
             take fewer workers or smaller blocks"
        )));
    }
    Arena::new(block_bytes, block_count).ok_or_else(|| {
        Error::new(
            ErrorKind::System,
            format!("no memory for {block_count} blocks of {block_bytes} bytes"),
        )
    })
}

/// The threads of a running engine, the reading ones aside. Dropping it stops them.
pub(crate) struct Runtime {
    pub(crate) control: Arc<Control>,
    pub(crate) publish_turn: Arc<PublishTurn>,
    threads: Vec<JoinHandle<()>>,
    /// Those that shards are pinned to.
    cores: Cores,
}

/// Starts the threads of `parts` and gives the router to whoever reads.
pub(crate) fn launch(
    parts: Parts,
    pin: bool,
    control: Arc<Control>,
    notices: &Notices,
) -> Result<(Router, Runtime)> {
    let Parts {
        mut router,
        workers,
        publisher,
        wake,
        low_latency,
    } = parts;
    let publish_turn = PublishTurn::new(publisher, wake, Arc::clone(&control), low_latency);
    let mut runtime = Runtime::new(control, Arc::clone(&publish_turn));
    let publisher_thread = {
        let publish_turn = Arc::clone(&publish_turn);
        runtime.spawn("mt-publisher".to_owned(), move || publish_turn.run())?
    };
    publish_turn.set_owner(publisher_thread.clone());
    let bodies = workers.into_iter().map(|mut worker| {
        let (control, publish_turn) = (Arc::clone(&runtime.control), Arc::clone(&publish_turn));
        move || worker::run(&mut worker, &control.abort, || publish_turn.handed_over())
    });
    let bodies = bodies.collect();
    let shards = runtime.spawn_pinned("mt-shard", bodies, pin, notices)?;
    for (index, thread) in shards.iter().enumerate() {
        router.set_reader(index, thread.clone());
    }
    router.set_publisher(publisher_thread);
    publish_turn.set_shards(shards);
    Ok((router, runtime))
}

impl Runtime {
    /// The threads of an engine, none so far, whose batches are published at `publish_turn`.
    fn new(control: Arc<Control>, publish_turn: Arc<PublishTurn>) -> Self {
        Runtime {
            control,
            publish_turn,
            threads: Vec::new(),
            cores: Cores::default(),
        }
    }

    /// Starts a thread for each of `bodies`, named by `kind` and a number, each pinned to a core of its
    /// own if `pin` says so and enough of them are free.
    fn spawn_pinned<F: FnMut() + Send + 'static>(
        &mut self,
        kind: &str,
        bodies: Vec<F>,
        pin: bool,
        notices: &Notices,
    ) -> Result<Vec<Thread>> {
        if pin {
            match Cores::take(bodies.len()) {
                Some(cores) => self.cores = cores,
                None => notices.tell(Notice::Unpinned { shard: 0 }),
            }
        }
        // One shard that cannot be pinned is worth a word, the others would repeat it.
        let unpinned_told = Arc::new(AtomicBool::new(false));
        let bodies = bodies.into_iter().enumerate();
        let threads = bodies.map(|(index, mut body)| {
            let core = self.cores.of(index);
            let (notices, told) = (notices.clone(), Arc::clone(&unpinned_told));
            self.spawn(format!("{kind}-{index}"), move || {
                let failed = core.is_some_and(|core| !sys::pin_to(core));
                if failed && !told.swap(true, Ordering::Relaxed) {
                    notices.tell(Notice::Unpinned { shard: index });
                }
                body();
            })
        });
        threads.collect()
    }

    /// Starts a thread that runs `body` once, and ends the engine if that panics. What `body` owns is dropped
    /// afterwards, functions of the user's among it: should one panic then, it is reported as the user's.
    pub(crate) fn spawn(
        &mut self,
        name: String,
        mut body: impl FnMut() + Send + 'static,
    ) -> Result<Thread> {
        let control = Arc::clone(&self.control);
        let guarded = {
            let name = name.clone();
            move || {
                control.adopt_thread();
                if let Err(panic) = guarded(&mut body) {
                    control.fail(Error::internal(format!(
                        "bug in thread {name}: {}; results put out before are complete, later input \
                         was not counted",
                        panic_message(panic.as_ref())
                    )));
                    control.stopped();
                }
                if let Err(panic) = guarded(|| drop(body)) {
                    control.report(failed_drop(&panic_message(panic.as_ref())));
                }
                control.thread_ended();
            }
        };
        let handle = thread::Builder::new()
            .name(name.clone())
            .spawn(guarded)
            .map_err(|cause| {
                let cause = crate::error::describe(&cause);
                Error::new(
                    ErrorKind::System,
                    format!("cannot start thread {name}: {cause}"),
                )
            })?;
        let thread = handle.thread().clone();
        self.control.add_thread(thread.clone());
        self.threads.push(handle);
        Ok(thread)
    }

    /// Refuses `call` where it could only wait for ever.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidCall`]: in a forked process, or in a function that the engine calls.
    pub(crate) fn check(&self, call: &str) -> Result<()> {
        check(&self.control, &self.publish_turn, call)
    }

    /// Stops, and waits until it is done: `at_most` so long, or, without a limit, as long as batches are published and
    /// [`STOP_DRAIN_MS_MAX`] beside that.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidCall`] as [`check`](Self::check) says; the stop is asked for all the same, unless the
    /// process was forked. [`ErrorKind::TimedOut`] if threads do not end in time: they are left behind.
    pub(crate) fn stop(&mut self, how: Stop, at_most: Option<Duration>) -> Result<()> {
        if self.control.is_forked() {
            return Err(self.control.forked("stop"));
        }
        self.control.stop(how);
        if let Err(error) = self.check("stop") {
            // Nobody is left to wait for the threads; they end by themselves.
            self.threads.clear();
            return Err(
                error.with_advice("the stop itself is under way: StopHandle::stop does no more")
            );
        }
        if how == Stop::Graceful {
            // A quarter of the time is for the end of what sources do not end.
            let drain_max = match at_most {
                Some(at_most) => at_most - at_most / 4,
                None => Duration::from_millis(STOP_DRAIN_MS_MAX),
            };
            if !self.wait_stopped(drain_max, at_most.is_none()) {
                self.control.end_drain();
                let rest = at_most.map_or(Duration::from_millis(STOP_THREADS_MS_MAX), |at_most| {
                    at_most / 4
                });
                if !self.wait_stopped(rest, at_most.is_none()) {
                    self.control.stop(Stop::Immediate);
                    let left = self.join_within(Duration::ZERO);
                    return Err(self.left_behind("stop", &left));
                }
            }
        }
        let at_most = at_most.unwrap_or(Duration::from_millis(STOP_THREADS_MS_MAX));
        let left = self.join_within(at_most);
        if left.is_empty() {
            Ok(())
        } else {
            Err(self.left_behind("stop", &left))
        }
    }

    /// Waits until nothing will be published any more, for `at_most`; where outputs are free to take their time, what
    /// they take does not count. Returns whether it is so.
    pub(crate) fn wait_stopped(&self, at_most: Duration, are_outputs_free: bool) -> bool {
        if !are_outputs_free {
            return self.control.wait_stopped(at_most);
        }
        const LOOK: Duration = Duration::from_millis(20);
        let mut left = at_most;
        loop {
            if self.control.wait_stopped(LOOK.min(left)) {
                return true;
            }
            if !self.publish_turn.is_serving() {
                left = left.saturating_sub(LOOK);
                if left.is_zero() {
                    return false;
                }
            }
        }
    }

    /// The error of a call that threads keep from ending.
    #[cold]
    pub(crate) fn left_behind(&self, call: &str, threads: &[String]) -> Error {
        let threads = match threads {
            [] => "its last batch is not complete".to_owned(),
            threads => format!("{} still running and left behind", threads.join(", ")),
        };
        let error = Error::new(
            ErrorKind::TimedOut,
            format!(
                "{call}: the engine did not end in time: {threads}; input that was not put out is lost"
            ),
        );
        match self.control.error() {
            Some(earlier) => error.with_advice(&format!("before that: {earlier}")),
            None => error,
        }
    }

    /// Waits for the threads to end, `at_most` so long; somebody asked them to. Returns the names of those that have
    /// not: a user-supplied function does not return, and they are left to themselves.
    pub(crate) fn join_within(&mut self, at_most: Duration) -> Vec<String> {
        if self.control.is_forked() {
            // There are no such threads here, and the system is not to be asked for them.
            self.threads.drain(..).for_each(std::mem::forget);
        }
        // One of the engine's own threads, in a function of the user's, cannot wait for itself, nor for
        // those that may be waiting for what it holds: they end when it returns.
        if self.publish_turn.is_inside() {
            self.threads.clear();
        }
        let all_ended = self.control.wait_threads(self.threads.len(), at_most);
        let mut left = Vec::new();
        for handle in self.threads.drain(..) {
            if all_ended || handle.is_finished() {
                // A panic was reported by the thread itself.
                let _ = handle.join();
            } else {
                left.extend(handle.thread().name().map(str::to_owned));
            }
        }
        left
    }
}

/// Refuses `call` where it could only wait for ever.
pub(crate) fn check(control: &Control, publish_turn: &PublishTurn, call: &str) -> Result<()> {
    if control.is_forked() {
        return Err(control.forked(call));
    }
    if publish_turn.is_inside() {
        return Err(Error::new(
            ErrorKind::InvalidCall,
            format!(
                "{call}: called in a function that this engine calls, and so would wait for itself; call it from \
                 another thread, after that function has returned"
            ),
        ));
    }
    Ok(())
}

/// As `notices`, but a panic of the handler is reported to `control` as what it is: a failure of a user-supplied
/// function, which costs that notice and nothing else.
pub(crate) fn guard(notices: Notices, control: &Arc<Control>) -> Notices {
    let control = Arc::clone(control);
    Notices::to(move |notice| {
        let told = guarded(|| notices.tell(notice.clone()));
        if let Err(panic) = told {
            let message = panic_message(panic.as_ref());
            control.report(Error::new(
                ErrorKind::UserFunction,
                format!("notice handler panicked: {message}; the run goes on, and later notices are handed to it"),
            ));
        }
    })
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if self.control.is_forked() {
            self.threads.drain(..).for_each(std::mem::forget);
            return;
        }
        if self.threads.is_empty() {
            return;
        }
        if !self.control.is_stopped() {
            self.control.stop(Stop::Immediate);
        }
        self.join_within(Duration::from_millis(STOP_THREADS_MS_MAX));
    }
}
