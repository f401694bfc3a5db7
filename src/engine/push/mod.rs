//! The door for programs that already have the bytes: push from any thread, count on all cores.
//!
//! Promise: a write returns when its bytes are taken; when nothing can be taken it waits, so memory
//! is bounded (back-pressure); after `finish` every byte written is in a batch. Must not know:
//! sources, event queues.

mod builder;
mod finish;
mod writer;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::Duration;

pub use self::builder::EngineBuilder;
pub use self::finish::Finished;
use self::finish::is_past;
pub use self::writer::Writer;
#[cfg(doc)]
use crate::config::Config;
use crate::engine::check;
use crate::engine::control::{Control, RunStats};
use crate::engine::plan::{CountTokens, NamedPipeline};
use crate::engine::publish_turn::PublishTurn;
use crate::engine::results::{Keyed, PipelineResults};
use crate::engine::runtime::Runtime;
use crate::error::{Error, ErrorKind, Result, lock};
use crate::id::StreamId;
use crate::intake::framer::Ending;
use crate::intake::router::{Full, Router};
use crate::metrics::Snapshot;
use crate::ring::Wake;
use crate::split::{LineEnds, Rule};
use crate::time::{BatchClock, BatchTime, Clock, Deadline};

/// Longest sleep of a writer before it looks for room again. Wake-ups come much earlier; this is
/// the backstop that makes progress independent of them.
const WAIT_MAX: Duration = Duration::from_millis(1);

/// Counts pushed bytes on all cores: the tokens of a rule, or what [pipelines](Self::pipelines)
/// make of them.
///
/// ```
/// use std::io::Write;
/// use microtally::{Engine, Rule};
///
/// let engine = Engine::builder(Rule::Split(b' ')).workers(2).start(|batch| {
///     println!("{} keys", batch.len());
/// })?;
/// let mut writer = engine.writer()?;
/// writer.write_all(b"the cat\nthe dog\n")?;
/// drop(writer);
/// let finished = engine.finish()?;
/// assert_eq!(finished.batch().get(b"the"), Some(2));
/// assert_eq!(finished.stats().tokens, 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Engine<R: PipelineResults = Keyed<u64>> {
    runtime: Runtime,
    shared: Arc<PushShared>,
    last: Arc<Mutex<Option<R::Kept>>>,
}

debug_fields!([R: PipelineResults] Engine<R>, "Engine");

struct PushShared {
    gate: Mutex<Gate>,
    room: Arc<Condvar>,
    wake: Arc<Wake>,
    control: Arc<Control>,
    publish_turn: Arc<PublishTurn>,
    low_latency: bool,
    line_ends: LineEnds,
    record_bytes_max: usize,
    writers_max: usize,
    /// Bytes that writers took.
    written: AtomicU64,
    /// Threads that cut a batch and have not done so: writers let them go first.
    cutting: AtomicUsize,
    clock: Clock,
    /// The next batch, if the engine cuts by itself. Locked while it does.
    batches: Mutex<Option<BatchClock>>,
}

/// What writers take turns with.
struct Gate {
    router: Router,
    /// `finish` was called: nothing more is taken, because it would be in no batch.
    is_closed: bool,
    /// The framers that no writer has.
    unused: Vec<usize>,
    /// Writers that were dropped where nobody could wait for room: their last lines end before the
    /// next batch is cut. It has room for all writers.
    unended: Vec<usize>,
}

impl Gate {
    /// Ends the lines of writers that were dropped. Call again if there is no room.
    fn end_dropped(&mut self) -> Result<(), Full> {
        while let Some(&index) = self.unended.last() {
            self.router.finish(index, Ending::Clean)?;
            self.unended.pop();
            self.unused.push(index);
        }
        Ok(())
    }
}

/// Cuts every batch that is due, until the engine stops.
fn run_clock(shared: &PushShared) {
    // Nobody wakes this thread when a manual clock is moved.
    let sleep_max = Duration::from_millis(if shared.clock.is_manual() { 1 } else { 50 });
    while !shared.is_aborted() {
        let remaining = shared.cut_due(&mut shared.lock_batches(), None);
        thread::park_timeout(remaining.min(sleep_max));
    }
}

impl Engine {
    /// Returns the settings of an engine that counts the tokens of `rule`.
    pub fn builder(rule: Rule) -> EngineBuilder {
        let tokens = NamedPipeline::tokens(CountTokens::new(StreamId(0), rule));
        EngineBuilder::of(Ok(vec![tokens]))
    }
}

impl<R: PipelineResults> Engine<R> {
    /// Returns a new writer. As many may exist at a time as [`EngineBuilder::writers`] says.
    ///
    /// # Errors
    ///
    /// As [`Writer::try_clone`].
    pub fn writer(&self) -> Result<Writer> {
        Writer::new(&self.shared, "writer")
    }

    /// Returns a handle that looks at the engine from any thread, also after it has finished.
    ///
    /// ```
    /// use std::io::Write;
    /// use microtally::{Engine, Rule};
    /// use microtally::error::ErrorKind;
    /// use microtally::time::BatchTime;
    ///
    /// let engine = Engine::builder(Rule::Lines).start(|_| panic!("no room on the screen"))?;
    /// let monitor = engine.monitor();
    /// assert!(monitor.error().is_none());
    /// engine.writer()?.write_all(b"a line\n")?;
    /// engine.cut(BatchTime::from_millis(1))?;
    /// while monitor.stats().batches == 0 {
    ///     std::thread::yield_now();
    /// }
    /// let error = monitor.error().expect("the batch has failed");
    /// assert_eq!(error.kind(), ErrorKind::UserFunction);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn monitor(&self) -> Monitor {
        Monitor {
            control: Arc::clone(&self.shared.control),
        }
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

    /// Returns the first error: of a batch or of the engine. After a batch has failed, the engine
    /// goes on.
    pub fn error(&self) -> Option<Error> {
        self.monitor().error()
    }

    /// Returns the sums over the batches published so far.
    pub fn stats(&self) -> RunStats {
        self.monitor().stats()
    }

    /// Returns the [metrics](crate::metrics). Writers are one source, named `writers`.
    pub fn metrics(&self) -> Snapshot {
        self.monitor().metrics()
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
    pub fn finish(self) -> Result<Finished<R>> {
        let (finished, outcome) = self.finish_anyway();
        outcome.map(|()| finished)
    }

    /// As [`finish`](Self::finish), but returns what was counted even if something has failed.
    ///
    /// ```
    /// use std::io::Write;
    /// use microtally::{Engine, Rule};
    ///
    /// let engine = Engine::builder(Rule::Lines).start(|_| panic!("no room on the screen"))?;
    /// let mut writer = engine.writer()?;
    /// writer.write_all(b"one\ntwo\n")?;
    /// let (finished, outcome) = engine.finish_anyway();
    /// assert!(outcome.is_err());
    /// assert_eq!(finished.batch().get(b"two"), Some(1));
    /// assert_eq!(finished.stats().records, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// If the engine ended before its last batch was complete, [`Finished::batch`] is empty.
    pub fn finish_anyway(self) -> (Finished<R>, Result<()>) {
        self.end(None)
    }

    /// As [`finish`](Self::finish), but waits no longer than `at_most`, outputs included. What was
    /// not published by then is lost; the error says how many bytes. A function that does not
    /// return is left behind on its thread. (In [low-latency mode](Config::low_latency) an output
    /// may run on the calling thread, which returns when the output does.)
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish), and [`ErrorKind::TimedOut`](crate::error::ErrorKind::TimedOut).
    pub fn finish_within(self, at_most: Duration) -> Result<Finished<R>> {
        let (finished, outcome) = self.end(Some(at_most));
        outcome.map(|()| finished)
    }

    fn failure(&self) -> Error {
        let error = self.shared.control.error();
        error.unwrap_or_else(|| Error::internal("the engine ended without a word"))
    }
}

/// Looks at an [`Engine`] from any thread.
#[derive(Clone)]
pub struct Monitor {
    control: Arc<Control>,
}

debug_fields!([] Monitor, "Monitor");

impl Monitor {
    /// Returns what [`Engine::error`] returns.
    pub fn error(&self) -> Option<Error> {
        // A lock held when the process was forked is never released.
        match self.control.is_forked() {
            true => Some(self.control.forked("error")),
            false => self.control.error(),
        }
    }

    /// Returns what [`Engine::stats`] returns.
    pub fn stats(&self) -> RunStats {
        self.control.stats()
    }

    /// Returns what [`Engine::metrics`] returns.
    pub fn metrics(&self) -> Snapshot {
        self.control.metrics.snapshot()
    }
}

/// Keeps writers from taking the room that a cut waits for.
struct CutTurn<'a>(&'a PushShared);

impl<'a> CutTurn<'a> {
    fn begin(shared: &'a PushShared) -> Self {
        // Relaxed throughout: writers look at it under the lock, and again soon.
        shared.cutting.fetch_add(1, Ordering::Relaxed);
        CutTurn(shared)
    }
}

impl Drop for CutTurn<'_> {
    fn drop(&mut self) {
        self.0.cutting.fetch_sub(1, Ordering::Relaxed);
        self.0.room.notify_all();
    }
}

impl PushShared {
    fn lock(&self) -> MutexGuard<'_, Gate> {
        // A poisoned router belongs to an engine that has failed; every loop checks `is_aborted`.
        lock(&self.gate)
    }

    /// As [`lock`](Self::lock), but `None` while another thread has it.
    fn try_lock(&self) -> Option<MutexGuard<'_, Gate>> {
        match self.gate.try_lock() {
            Ok(gate) => Some(gate),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Returns why nothing more is taken.
    #[cold]
    fn stopped(&self, gate: &Gate) -> Error {
        let failure = match gate.is_closed {
            true => None,
            false => self.control.error(),
        };
        failure.unwrap_or_else(|| Error::new(ErrorKind::InvalidCall, "the engine has stopped"))
    }

    fn count_written(&self, count: usize) {
        // Relaxed: it is only shown.
        self.written.fetch_add(count as u64, Ordering::Relaxed);
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
        self.room
            .wait_timeout(gate, WAIT_MAX)
            .unwrap_or_else(|e| e.into_inner())
            .0
    }

    fn is_aborted(&self) -> bool {
        self.control.requested().is_some() || self.control.is_stopped()
    }

    /// Cuts an epoch and waits until the helper's tables are handed over. Returns `false` if the
    /// engine has stopped or the time is up.
    fn cut(&self, time: BatchTime, last: bool, until: Option<Deadline>) -> bool {
        let mut turn = Some(CutTurn::begin(self));
        let Some(mut gate) = self.lock_until(until) else {
            return false;
        };
        let mut is_cut = false;
        while !self.is_aborted() && !is_past(until) {
            is_cut = is_cut || gate.end_dropped().is_ok() && gate.router.cut(time, last).is_ok();
            if is_cut {
                drop(turn.take());
            }
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
