//! What the threads of an engine and its owner share: whether to stop, whether it has stopped or
//! failed, how far it is.
//!
//! Promise: the first error is kept, and every waiter gets it; nothing here is touched more than
//! once a batch. Must not know: sources, sinks, what the threads do.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::Thread;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result, lock};
use crate::metrics::{Metrics, Snapshot};

thread_local! {
    /// The engine that owns this thread: the address of its `Control`, which the thread keeps
    /// alive; 0 for none.
    static ENGINE: Cell<usize> = const { Cell::new(0) };
}

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Stop reading, count everything that was received, publish the last batch.
    Graceful,
    /// End at once; the batch being filled is dropped.
    Immediate,
}

/// Sums over a run, over all streams. For a stream with several pipelines, the first one is summed.
///
/// They are those of the [metrics](crate::metrics): batches, records, tokens and bytes as of the
/// batch published last, losses as of the batch cut last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunStats {
    /// Batches published, including those in which a user-supplied function failed.
    pub batches: u64,
    /// Records received for them.
    pub records: u64,
    /// Tokens counted in them.
    pub tokens: u64,
    /// Bytes of those records.
    pub bytes: u64,
    /// Tokens longer than the record limit: not counted.
    pub oversize_tokens: u64,
    /// Bytes of those tokens.
    pub oversize_bytes: u64,
    /// Incomplete last lines of connections that were reset, or that a source held when it ended:
    /// dropped.
    pub truncated_records: u64,
    /// Bytes of those lines.
    pub truncated_bytes: u64,
    /// Records that sources lost before they were read: see
    /// [`BatchStats::lost_records`](crate::batch::BatchStats::lost_records).
    pub lost_records: u64,
    /// Bytes of those records, as far as they were received.
    pub lost_bytes: u64,
    /// Connections that listening sources closed unread, because no more were allowed.
    pub refused_connections: u64,
    /// Longest time from a batch's time to the start of its processing.
    pub scheduling_delay_max: Duration,
}

impl RunStats {
    /// Number of records and tokens that were dropped or lost and are in no count, as
    /// [`BatchStats::dropped`](crate::batch::BatchStats::dropped).
    pub fn dropped(&self) -> u64 {
        let known = self.oversize_tokens.saturating_add(self.truncated_records);
        known.saturating_add(self.lost_records)
    }

    /// The sums that the metrics hold.
    ///
    /// ```
    /// use microtally::engine::RunStats;
    /// use microtally::metrics::Snapshot;
    /// assert_eq!(RunStats::of(&Snapshot::default()), RunStats::default());
    /// ```
    pub fn of(metrics: &Snapshot) -> Self {
        let mut sums = RunStats::default();
        for published in metrics.publisher.values() {
            sums.batches = published.batches;
            sums.records = published.records;
            sums.tokens = published.tokens;
            sums.bytes = published.bytes;
            sums.scheduling_delay_max = published.delay.max();
        }
        for source in metrics.sources.values() {
            sums.oversize_tokens += source.oversize_tokens;
            sums.oversize_bytes += source.oversize_bytes;
            sums.truncated_records += source.truncated_records;
            sums.truncated_bytes += source.truncated_bytes;
            sums.lost_records += source.lost_records;
            sums.lost_bytes += source.lost_bytes;
            sums.refused_connections += source.refused_connections;
        }
        sums
    }
}

/// The state that the threads of one engine share.
pub(crate) struct Control {
    /// 0: run, 1: stop gracefully, 2: stop at once. Only grows.
    stop: AtomicU8,
    /// Every thread ends as soon as it sees it.
    pub(crate) abort: AtomicBool,
    /// A user-supplied function failed in a batch.
    has_failed_batch: AtomicBool,
    /// There was no room for a key, which ends the run: nothing more is read.
    is_full: AtomicBool,
    /// A graceful stop has waited long enough for sources.
    is_drain_over: AtomicBool,
    /// Threads that call a sink now.
    delivering: AtomicUsize,
    /// The process that started the engine.
    process: u32,
    pub(crate) metrics: Metrics,
    state: Mutex<ControlState>,
    changed: Condvar,
    wake_reader: Arc<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct ControlState {
    /// The first error. A waiter gets it at once if `urgent`, else when the run has ended.
    error: Option<Error>,
    urgent: bool,
    stopped: bool,
    threads: Vec<Thread>,
    /// How many of them have ended and dropped everything they owned.
    threads_ended: usize,
}

impl Control {
    /// `wake_reader` wakes the thread that reads.
    pub(crate) fn new(wake_reader: Arc<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new(Control {
            stop: AtomicU8::new(0),
            abort: AtomicBool::new(false),
            has_failed_batch: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            is_drain_over: AtomicBool::new(false),
            delivering: AtomicUsize::new(0),
            process: std::process::id(),
            metrics: Metrics::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
            wake_reader,
        })
    }

    fn state(&self) -> MutexGuard<'_, ControlState> {
        // A poisoned lock means that a thread panicked between two assignments; each of them is
        // valid by itself.
        lock(&self.state)
    }

    /// Registers a thread to unpark at a stop.
    pub(crate) fn add_thread(&self, thread: Thread) {
        self.state().threads.push(thread);
    }

    /// Marks the calling thread as one of the engine's.
    pub(crate) fn adopt_thread(&self) {
        ENGINE.set(self.address());
    }

    /// Returns `true` on one of the engine's threads.
    pub(crate) fn is_own_thread(&self) -> bool {
        ENGINE.get() == self.address()
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Counts one of the engine's threads as ended.
    pub(crate) fn thread_ended(&self) {
        self.state().threads_ended += 1;
        self.changed.notify_all();
    }

    /// Waits at most `at_most` until `count` threads have ended. Returns `true` if they have.
    pub(crate) fn wait_threads(&self, count: usize, at_most: Duration) -> bool {
        let running = |state: &mut ControlState| state.threads_ended < count;
        let waited = self
            .changed
            .wait_timeout_while(self.state(), at_most, running);
        waited.unwrap_or_else(|e| e.into_inner()).0.threads_ended >= count
    }

    /// Returns `true` in another process than the one that started the engine: `fork` copies memory
    /// and one thread, so the engine's threads are missing there.
    pub(crate) fn is_forked(&self) -> bool {
        std::process::id() != self.process
    }

    /// Returns the error of `call` in a forked process.
    #[cold]
    pub(crate) fn forked(&self, call: &str) -> Error {
        Error::new(
            ErrorKind::InvalidCall,
            format!(
                "{call}: this process was forked off process {}, where the engine runs; its threads are missing here, \
                 so call it there or start another engine",
                self.process
            ),
        )
    }

    /// Ends the wait of a graceful stop for sources: the last batch is what they have delivered.
    pub(crate) fn end_drain(&self) {
        // Relaxed: as below.
        self.is_drain_over.store(true, Ordering::Relaxed);
        (self.wake_reader)();
    }

    /// Returns `true` after [`end_drain`](Self::end_drain).
    pub(crate) fn is_drain_over(&self) -> bool {
        self.is_drain_over.load(Ordering::Relaxed)
    }

    /// Requests a stop.
    pub(crate) fn stop(&self, how: Stop) {
        // Relaxed throughout: the numbers carry no data; wake-ups go through the lock or a system
        // call.
        match how {
            Stop::Graceful => {
                self.stop.fetch_max(1, Ordering::Relaxed);
            }
            Stop::Immediate => {
                self.stop.fetch_max(2, Ordering::Relaxed);
                self.abort.store(true, Ordering::Relaxed);
            }
        }
        // At a graceful stop too: an output that waits for a retry is called at once.
        for thread in &self.state().threads {
            thread.unpark();
        }
        (self.wake_reader)();
    }

    /// Reports that there was no room for a key, which ends the run: what was read is counted and
    /// published.
    pub(crate) fn memory_is_full(&self) {
        // Relaxed: as above.
        if !self.is_full.swap(true, Ordering::Relaxed) {
            (self.wake_reader)();
        }
    }

    /// Returns `true` after [`memory_is_full`](Self::memory_is_full).
    pub(crate) fn is_memory_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Returns `true` if nothing more may be read: a stop was requested, or the memory is full.
    pub(crate) fn is_stopping(&self) -> bool {
        self.requested().is_some() || self.is_memory_full()
    }

    /// Returns the stop that was requested, if any.
    pub(crate) fn requested(&self) -> Option<Stop> {
        match self.stop.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Stop::Graceful),
            _ => Some(Stop::Immediate),
        }
    }

    /// Returns `true` once every thread is to end.
    pub(crate) fn is_aborted(&self) -> bool {
        self.abort.load(Ordering::Relaxed)
    }

    /// The calling thread calls a sink, or no longer does.
    pub(crate) fn set_delivering(&self, is_delivering: bool) {
        match is_delivering {
            true => self.delivering.fetch_add(1, Ordering::Relaxed),
            false => self.delivering.fetch_sub(1, Ordering::Relaxed),
        };
    }

    /// Returns `true` while a thread of a sink calls it.
    pub(crate) fn is_delivering(&self) -> bool {
        self.delivering.load(Ordering::Relaxed) > 0
    }

    /// Records an error that ends the engine at once.
    pub(crate) fn fail(&self, error: Error) {
        self.report(error);
        self.stop(Stop::Immediate);
    }

    /// Records an error after which the engine goes on; waiters get it now.
    pub(crate) fn report(&self, error: Error) {
        let mut state = self.state();
        // An error that is reported at the end anyway must not hide one that has to be reported
        // now.
        if !state.urgent {
            state.error = Some(error);
        }
        state.urgent = true;
        drop(state);
        self.changed.notify_all();
    }

    /// As [`report`](Self::report), of a batch that has failed.
    pub(crate) fn report_batch(&self, error: Error) {
        // Release: pairs with the Acquire below; what was delivered before is visible.
        self.has_failed_batch.store(true, Ordering::Release);
        self.report(error);
    }

    /// Returns `true` after the first [`report_batch`](Self::report_batch).
    pub(crate) fn has_failed_batch(&self) -> bool {
        self.has_failed_batch.load(Ordering::Acquire)
    }

    /// Wakes the thread that reads.
    pub(crate) fn wake_reader(&self) {
        (self.wake_reader)();
    }

    /// Records an error that ends the input; waiters get it when the last batch has been published.
    pub(crate) fn report_at_end(&self, error: Error) {
        self.state().error.get_or_insert(error);
    }

    /// Records that a source was lost, as [`report_at_end`](Self::report_at_end) does, but extends
    /// the first error, if there is one, by what no notice has reported.
    pub(crate) fn report_lost(&self, error: Error) {
        let mut state = self.state();
        state.error = Some(match state.error.take() {
            None => error,
            Some(first) => first.followed_by(&error),
        });
    }

    /// Records that nothing more will be published.
    pub(crate) fn stopped(&self) {
        self.state().stopped = true;
        self.changed.notify_all();
        (self.wake_reader)();
    }

    /// Returns `true` if nothing more will be published.
    pub(crate) fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// Returns the sums so far.
    pub(crate) fn stats(&self) -> RunStats {
        RunStats::of(&self.metrics.snapshot())
    }

    /// Returns the first error, if there was one.
    pub(crate) fn error(&self) -> Option<Error> {
        self.state().error.clone()
    }

    /// Waits at most `at_most` until nothing more will be published, whatever fails meanwhile.
    /// Returns `true` if that is so.
    pub(crate) fn wait_stopped(&self, at_most: Duration) -> bool {
        let running = |state: &mut ControlState| !state.stopped;
        let waited = self
            .changed
            .wait_timeout_while(self.state(), at_most, running);
        waited.unwrap_or_else(|e| e.into_inner()).0.stopped
    }

    /// Waits until the engine has stopped or failed. Returns `Ok(false)` if the time runs out
    /// first.
    pub(crate) fn wait(&self, at_most: Option<Duration>) -> Result<bool> {
        let state = self.state();
        let running = |state: &mut ControlState| !state.stopped && !state.urgent;
        let state = match at_most {
            None => self
                .changed
                .wait_while(state, running)
                .unwrap_or_else(|e| e.into_inner()),
            Some(time) => {
                let waited = self.changed.wait_timeout_while(state, time, running);
                waited.unwrap_or_else(|e| e.into_inner()).0
            }
        };
        match &state.error {
            Some(error) if state.stopped || state.urgent => Err(error.clone()),
            _ => Ok(state.stopped),
        }
    }
}
