//! The door for programs that already have the bytes: push from any thread, count on all cores.
//!
//! Promise: a write returns when its bytes are taken; when nothing can be taken it waits, so memory
//! is bounded (back-pressure); after `finish` every byte written is in a batch. Must not know:
//! sources, event queues.

mod finish;

use std::io;
use std::panic::resume_unwind;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

pub use self::finish::Finished;
use self::finish::is_past;
use crate::batch::{Batch, BatchStats};
use crate::config::{self, Config};
use crate::engine::assemble::Blueprint;
use crate::engine::control::{Control, RunStats};
use crate::engine::plan::{CountTokens, Emitted, EnginePlan, Merged, Output};
use crate::engine::publish_turn::PublishTurn;
use crate::engine::runtime::Runtime;
use crate::engine::{check, guard};
use crate::epoch::merge::table_of_mut;
use crate::error::{Error, Result, guarded, lock};
use crate::id::StreamId;
use crate::intake::framer::Ending;
use crate::intake::router::{Full, Router};
use crate::limits::KIB;
use crate::memory::{DecoderCounts, RetainedTables};
use crate::notice::{Notice, Notices};
use crate::ring::Wake;
use crate::split::Rule;
use crate::table::KeyTable;
use crate::time::{BatchClock, BatchTime, Clock, Deadline};

/// Longest sleep of a writer before it looks for room again. Wake-ups come much earlier; this is
/// the backstop that makes progress independent of them.
const WAIT_MS_MAX: u64 = 1;

/// Bytes a writer takes before it checks again whether the process was forked: that is a system
/// call.
const FORK_CHECK_BYTES: usize = 64 * KIB;

/// Counts tokens of pushed bytes on all cores.
///
/// ```
/// use std::io::Write;
/// use microtally::{Engine, Rule};
///
/// let mut engine = Engine::builder(Rule::Split(b' ')).workers(2).start(|batch| {
///     println!("{} keys", batch.len());
/// })?;
/// let mut writer = engine.writer().expect("there is one writer unless more are asked for");
/// writer.write_all(b"the cat\nthe dog\n")?;
/// drop(writer);
/// let finished = engine.finish()?;
/// assert_eq!(finished.batch().get(b"the"), Some(2));
/// assert_eq!(finished.stats().tokens, 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Engine {
    runtime: Runtime,
    shared: Arc<PushShared>,
    last: Arc<Mutex<Option<Finished>>>,
    writers: std::vec::IntoIter<Writer>,
}

debug_fields!([] Engine, "Engine");

/// Settings of an [`Engine`].
#[derive(Debug)]
pub struct EngineBuilder {
    rule: Rule,
    config: Config,
    writers: usize,
    interval: Option<Duration>,
    notices: Notices,
}

/// Takes pushed bytes: implements [`io::Write`]. Send it to any thread. Lines of two writers never
/// mix; dropping a writer ends its last line.
pub struct Writer {
    shared: Arc<PushShared>,
    index: usize,
    /// Bytes taken since the last check that the process was not forked.
    unchecked_bytes: usize,
}

debug_fields!([] Writer, "Writer", index);

struct PushShared {
    gate: Mutex<Gate>,
    room: Arc<Condvar>,
    wake: Arc<Wake>,
    control: Arc<Control>,
    publish_turn: Arc<PublishTurn>,
    low_latency: bool,
    clock: Clock,
    /// The next batch, if the engine cuts by itself. Locked while it does.
    batches: Mutex<Option<BatchClock>>,
}

/// What writers take turns with.
struct Gate {
    router: Router,
    /// `finish` was called: nothing more is taken, because it would be in no batch.
    is_closed: bool,
    /// Writers that were dropped where nobody could wait for room: their last lines end before the
    /// next batch is cut. It has room for all writers.
    unended: Vec<usize>,
}

impl Gate {
    /// Ends the lines of writers that were dropped. Call again if there is no room.
    fn end_dropped(&mut self) -> Result<(), Full> {
        while let Some(&index) = self.unended.last() {
            self.router.end_connection(index, Ending::Clean)?;
            self.unended.pop();
        }
        Ok(())
    }
}

impl EngineBuilder {
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

    /// Sets the number of writers: 1 to 1024, 1 by default. Each holds a block of its own.
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
    /// # Errors
    ///
    /// A setting out of its range, a memory limit that is too small, or a thread that cannot be
    /// started.
    pub fn start(self, on_batch: impl FnMut(&Batch<'_, u64>) + Send + 'static) -> Result<Engine> {
        self.config.validate()?;
        if !(1..=1024).contains(&self.writers) {
            return Err(Error::refused(format!(
                "writers {} is outside 1 to 1024",
                self.writers
            )));
        }
        let interval_ms = self.interval.map(config::interval_ms).transpose()?;
        let last = Arc::new(Mutex::new(None));
        let plan = EnginePlan {
            nodes: vec![Arc::new(CountTokens::new(StreamId(0), self.rule))],
            outputs: vec![Box::new(keeping_last(on_batch, Arc::clone(&last)))],
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
        let clock = Clock::system();
        let low_latency = self.config.low_latency.is_some();
        let blueprint = Blueprint {
            config: self.config,
            plan,
            framers: vec![StreamId(0); self.writers],
            decoders: DecoderCounts::default(),
            interval: self.interval.unwrap_or_default(),
            clock: clock.clone(),
            notices: guard(self.notices, &control),
            control: Arc::clone(&control),
            wake: Arc::clone(&wake),
            retained: RetainedTables::default(),
        };
        let (router, mut runtime) = blueprint.launch()?;
        let batches = interval_ms.map(|interval_ms| BatchClock::new(interval_ms, clock.now()));
        let shared = Arc::new(PushShared {
            gate: Mutex::new(Gate {
                router,
                is_closed: false,
                unended: Vec::with_capacity(self.writers),
            }),
            room,
            wake,
            control,
            publish_turn: Arc::clone(&runtime.publish_turn),
            low_latency,
            clock,
            batches: Mutex::new(batches),
        });
        if batches.is_some() {
            let shared = Arc::clone(&shared);
            runtime.spawn("mt-clock".to_owned(), move || run_clock(&shared))?;
        }
        let writer = |index| Writer {
            shared: Arc::clone(&shared),
            index,
            unchecked_bytes: 0,
        };
        let writers: Vec<Writer> = (0..self.writers).map(writer).collect();
        Ok(Engine {
            runtime,
            shared,
            last,
            writers: writers.into_iter(),
        })
    }
}

/// Calls `on_batch` with each batch, and keeps the last one.
fn keeping_last(
    mut on_batch: impl FnMut(&Batch<'_, u64>) + Send + 'static,
    last: Arc<Mutex<Option<Finished>>>,
) -> impl Output {
    OnBatch(move |table: &mut KeyTable<u64>, stats: &BatchStats| {
        // If it panics, the last batch is kept all the same.
        let outcome = guarded(|| on_batch(&Batch::new(table, stats)));
        if stats.last {
            // Nothing more is counted: nobody misses the table.
            let empty = KeyTable::new(table.seed());
            *lock(&last) = Some(Finished {
                table: std::mem::replace(table, empty),
                batch_stats: *stats,
                stats: RunStats::default(),
            });
        }
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
    })
}

/// Cuts every batch that is due, until the engine stops.
fn run_clock(shared: &PushShared) {
    while !shared.is_aborted() {
        let remaining = shared.cut_due(&mut shared.lock_batches(), None);
        thread::park_timeout(remaining.min(Duration::from_millis(50)));
    }
}

impl Engine {
    /// Returns the settings of an engine that counts the tokens of `rule`.
    pub fn builder(rule: Rule) -> EngineBuilder {
        EngineBuilder {
            rule,
            config: Config::default(),
            writers: 1,
            interval: None,
            notices: Notices::default(),
        }
    }

    /// Returns the next writer: as many as [`EngineBuilder::writers`] says, then `None`.
    pub fn writer(&mut self) -> Option<Writer> {
        self.writers.next()
    }

    /// Ends a batch behind everything that was written, and calls it `time`. Returns when the batch
    /// is cut; the publisher thread publishes it soon after. In [low-latency
    /// mode](Config::low_latency) the calling thread publishes it before `cut` returns, unless
    /// shards have a part in it (it was larger than a block, or they are busy with an earlier one)
    /// or another thread is publishing: then that thread does it.
    ///
    /// # Errors
    ///
    /// The engine has failed; the error says why.
    /// [`ErrorKind::InvalidCall`](crate::error::ErrorKind::InvalidCall) in the engine's own output
    /// or notice handler, where the call would wait for itself, and in a forked process, where the
    /// engine's threads are missing; nothing is cut then.
    pub fn cut(&self, time: BatchTime) -> Result<()> {
        check(&self.shared.control, &self.shared.publish_turn, "cut")?;
        if self.shared.cut(time, false, None) {
            Ok(())
        } else {
            Err(self.failure())
        }
    }

    /// Returns the sums over the batches published so far.
    pub fn stats(&self) -> RunStats {
        self.shared.control.stats()
    }

    /// Ends the input, publishes the last batch and stops. Writers that still exist return errors
    /// then.
    ///
    /// It waits as long as outputs take; [`finish_within`](Self::finish_within) does not.
    ///
    /// # Errors
    ///
    /// The engine or a batch has failed; the error says why. If a batch has failed, all others were
    /// published, including the last one, which [`finish_anyway`](Self::finish_anyway) returns
    /// beside the error. [`ErrorKind::InvalidCall`](crate::error::ErrorKind::InvalidCall) in the
    /// engine's own output or notice handler, where the call would wait for itself: the engine then
    /// stops at once. The same kind in a forked process, where the engine's threads are missing.
    pub fn finish(self) -> Result<Finished> {
        let (finished, outcome) = self.finish_anyway();
        outcome.map(|()| finished)
    }

    /// As [`finish`](Self::finish), but returns what was counted even if something has failed.
    ///
    /// ```
    /// use std::io::Write;
    /// use microtally::{Engine, Rule};
    ///
    /// let mut engine = Engine::builder(Rule::Lines).start(|_| panic!("no room on the screen"))?;
    /// let mut writer = engine.writer().expect("there is one writer unless more are asked for");
    /// writer.write_all(b"one\ntwo\n")?;
    /// let (finished, outcome) = engine.finish_anyway();
    /// assert!(outcome.is_err());
    /// assert_eq!(finished.batch().get(b"two"), Some(1));
    /// assert_eq!(finished.stats().records, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// If the engine ended before its last batch was complete, [`Finished::batch`] is empty.
    pub fn finish_anyway(self) -> (Finished, Result<()>) {
        self.end(None)
    }

    /// As [`finish`](Self::finish), but waits no longer than `at_most`, outputs included. What was
    /// not published by then is lost, and a function that does not return is left behind on its
    /// thread. (In [low-latency mode](Config::low_latency) an output may run on the calling thread,
    /// which returns when the output does.)
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish), and [`ErrorKind::TimedOut`](crate::error::ErrorKind::TimedOut).
    pub fn finish_within(self, at_most: Duration) -> Result<Finished> {
        let (finished, outcome) = self.end(Some(at_most));
        outcome.map(|()| finished)
    }

    fn failure(&self) -> Error {
        let error = self.shared.control.error();
        error.unwrap_or_else(|| Error::internal("the engine ended without a word"))
    }
}

impl PushShared {
    fn lock(&self) -> MutexGuard<'_, Gate> {
        // A poisoned router belongs to an engine that has failed; every loop checks `is_aborted`.
        lock(&self.gate)
    }

    fn lock_batches(&self) -> MutexGuard<'_, Option<BatchClock>> {
        lock(&self.batches)
    }

    /// Cuts every batch that is due, no longer than `until`. Returns the time until the next one is
    /// due.
    fn cut_due(&self, batches: &mut Option<BatchClock>, until: Option<Deadline>) -> Duration {
        let Some(batches) = batches else {
            return Duration::MAX;
        };
        while batches.is_due(self.clock.now()) && self.cut(batches.next(), false, until) {
            batches.step();
        }
        batches.remaining(self.clock.now())
    }

    fn wait<'a>(&self, gate: MutexGuard<'a, Gate>) -> MutexGuard<'a, Gate> {
        self.wake.want();
        let at_most = Duration::from_millis(WAIT_MS_MAX);
        self.room
            .wait_timeout(gate, at_most)
            .unwrap_or_else(|e| e.into_inner())
            .0
    }

    fn is_aborted(&self) -> bool {
        self.control.requested().is_some() || self.control.is_stopped()
    }

    /// Cuts an epoch and waits until the helper's tables are handed over. Returns `false` if the
    /// engine has stopped or the time is up.
    fn cut(&self, time: BatchTime, last: bool, until: Option<Deadline>) -> bool {
        let mut gate = self.lock();
        let mut is_cut = false;
        while !self.is_aborted() && !is_past(until) {
            is_cut = is_cut || gate.end_dropped().is_ok() && gate.router.cut(time, last).is_ok();
            if is_cut && gate.router.seal_helper() {
                drop(gate);
                self.publish_turn.has_cut();
                return true;
            }
            gate = self.wait(gate);
        }
        false
    }
}

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.unchecked_bytes >= FORK_CHECK_BYTES {
            self.check_process("write")?;
        }
        let mut gate = self.shared.lock();
        loop {
            if gate.is_closed || self.shared.is_aborted() {
                return Err(io::Error::new(
                    io::ErrorKind::BrokenPipe,
                    "the engine has stopped",
                ));
            }
            if self.shared.control.is_memory_full() {
                let message =
                    "the memory limit was reached; the batch that is cut next is the last one";
                return Err(io::Error::new(io::ErrorKind::OutOfMemory, message));
            }
            if let Ok(space) = gate.router.space(self.index) {
                let count = bytes.len().min(space.len());
                space[..count].copy_from_slice(&bytes[..count]);
                gate.router.filled(self.index, count);
                self.unchecked_bytes += count;
                return Ok(count);
            }
            if self.shared.publish_turn.is_inside() {
                let message = "no room, and the engine's own output cannot wait for it: room comes when the output \
                               returns";
                return Err(io::Error::new(io::ErrorKind::Deadlock, message));
            }
            gate = self.shared.wait(gate);
        }
    }

    /// Complete lines are in the batch that is cut next, flushed or not. In [low-latency
    /// mode](Config::low_latency) those written so far are counted now, if they are some kilobytes,
    /// so that less is left to do when the batch is cut.
    ///
    /// # Errors
    ///
    /// The process was forked off the engine's, whose threads are missing here. (A write does not
    /// check every time: it fails after some 64 KiB.)
    fn flush(&mut self) -> io::Result<()> {
        self.check_process("flush")?;
        if self.shared.low_latency {
            self.shared.lock().router.offer();
        }
        Ok(())
    }
}

impl Writer {
    fn check_process(&mut self, call: &str) -> io::Result<()> {
        if self.shared.control.is_forked() {
            return Err(io::Error::other(self.shared.control.forked(call)));
        }
        self.unchecked_bytes = 0;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A lock held when the process was forked is never released.
        if self.shared.control.is_forked() {
            return;
        }
        let mut gate = self.shared.lock();
        // After `finish` the line has ended.
        while !gate.is_closed
            && !self.shared.is_aborted()
            && gate
                .router
                .end_connection(self.index, Ending::Clean)
                .is_err()
        {
            if self.shared.publish_turn.is_inside() {
                gate.unended.push(self.index);
                return;
            }
            gate = self.shared.wait(gate);
        }
    }
}

/// An output that calls a closure with the counts.
pub(crate) struct OnBatch<F>(pub(crate) F);

impl<F> Output for OnBatch<F>
where
    F: FnMut(&mut KeyTable<u64>, &BatchStats) + Send,
{
    fn emit(&mut self, epoch: &mut Merged<'_>) -> Result<Emitted> {
        if epoch.nodes[0].failure.is_none() {
            let table = table_of_mut::<u64>(epoch.nodes[0].partial.as_mut());
            (self.0)(table, &epoch.stats[0]);
        }
        Ok(Emitted::Done)
    }
}
