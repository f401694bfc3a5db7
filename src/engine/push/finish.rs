//! The end of an engine that is pushed into: the last batch, and what it leaves.
//!
//! Promise: what was written is published, whatever failed before; with a time limit the call
//! returns in time, whatever outputs do. Must not know: sources, how bytes are taken and cut.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::Duration;

use super::{Engine, Gate, PushShared, WAIT_MAX};
use crate::engine::control::{RunStats, Stop};
use crate::engine::results::{Keyed, PipelineResults, TakenNodes};
use crate::error::{Error, Result, lock};
use crate::intake::framer::Ending;
use crate::limits::STOP_THREADS_MS_MAX;
use crate::metrics::Snapshot;
use crate::time::{BatchClock, BatchTime, Deadline, as_ms};

/// What a finished engine leaves: the last batch, owned, and sums over the run.
pub struct Finished<R: PipelineResults = Keyed<u64>> {
    last: R::Kept,
    metrics: Snapshot,
}

debug_fields!([R: PipelineResults] Finished<R>, "Finished", metrics);

impl<R: PipelineResults> Finished<R> {
    /// Returns the last batch: a [`Batch`](crate::Batch), or a tuple of them if there are several
    /// pipelines. If no batch was cut before, it holds everything that was written.
    pub fn batch(&self) -> R::Batches<'_> {
        R::batches(&self.last)
    }

    /// Returns the sums over the run.
    pub fn stats(&self) -> RunStats {
        RunStats::of(&self.metrics)
    }

    /// Returns the [metrics](crate::metrics) at the end of the run.
    pub fn metrics(&self) -> &Snapshot {
        &self.metrics
    }
}

impl<R: PipelineResults> Engine<R> {
    pub(super) fn end(mut self, at_most: Option<Duration>) -> (Finished<R>, Result<()>) {
        let outcome = self.try_end(at_most);
        let last = lock(&self.last).take();
        let metrics = match self.shared.control.is_forked() {
            true => Snapshot::default(),
            false => self.shared.control.metrics.snapshot(),
        };
        // Perhaps nobody has counted a batch, or not in this process.
        let last = last.unwrap_or_else(|| R::keep(&mut TakenNodes::new(&mut [], &[])));
        (Finished { last, metrics }, outcome)
    }

    fn try_end(&mut self, at_most: Option<Duration>) -> Result<()> {
        self.runtime.check("finish")?;
        let until = at_most.and_then(Deadline::in_time);
        let Some(mut gate) = self.shared.lock_until(until) else {
            return Err(self.give_up());
        };
        gate.is_closed = true;
        gate.unended.clear();
        for index in 0..gate.router.input_count() {
            while gate.router.finish(index, Ending::Clean).is_err() {
                if self.shared.is_aborted() {
                    return Err(self.failure());
                }
                if is_past(until) {
                    drop(gate);
                    return Err(self.give_up());
                }
                gate = self.shared.wait(gate);
            }
        }
        drop(gate);
        // Held until nothing more is published: the clock thread cuts nothing behind the last
        // batch.
        let Some(mut batches) = self.shared.lock_batches_until(until) else {
            return Err(self.give_up());
        };
        self.shared.cut_due(&mut batches, until);
        let now = self.shared.clock.now();
        let time = batches.map_or(BatchTime::from_millis(as_ms(now)), |batches| batches.next());
        let is_cut = self.shared.cut(time, true, until);
        if !is_cut && self.shared.is_aborted() {
            return Err(self.failure());
        }
        if !is_cut || !self.shared.control.wait_stopped(left(until)) {
            self.shared.control.stop(Stop::Immediate);
            drop(batches);
            return Err(self.give_up());
        }
        drop(batches);
        let threads_max = Duration::from_millis(STOP_THREADS_MS_MAX);
        let left = self.runtime.join_within(left(until).min(threads_max));
        match self.shared.control.error() {
            Some(error) => Err(error),
            None if left.is_empty() => Ok(()),
            None => Err(self.runtime.left_behind("finish", &left)),
        }
    }

    /// Ends everything when the time is up; what does not end is left behind.
    #[cold]
    fn give_up(&mut self) -> Error {
        self.shared.control.stop(Stop::Immediate);
        let left = self.runtime.join_within(Duration::ZERO);
        let error = self.runtime.left_behind("finish", &left);
        // Read after the stop: nothing more is published.
        let written = self.shared.written.load(Ordering::Relaxed);
        let lost = written.saturating_sub(self.shared.control.stats().bytes);
        error.with_advice(&format!(
            "{lost} of {written} bytes written are in no published batch"
        ))
    }
}

impl PushShared {
    /// As [`lock_batches`](Self::lock_batches), but waits no longer than `until`: in low-latency
    /// mode the clock thread may be in an output.
    fn lock_batches_until(
        &self,
        until: Option<Deadline>,
    ) -> Option<MutexGuard<'_, Option<BatchClock>>> {
        lock_until(&self.batches, until)
    }

    /// As [`lock`](Self::lock), but waits no longer than `until`: a writer that counts a block may
    /// be in a user-supplied function.
    pub(super) fn lock_until(&self, until: Option<Deadline>) -> Option<MutexGuard<'_, Gate>> {
        lock_until(&self.gate, until)
    }
}

fn lock_until<T>(mutex: &Mutex<T>, until: Option<Deadline>) -> Option<MutexGuard<'_, T>> {
    if until.is_none() {
        return Some(lock(mutex));
    }
    while !is_past(until) {
        match mutex.try_lock() {
            Ok(locked) => return Some(locked),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => thread::sleep(WAIT_MAX),
        }
    }
    None
}

fn left(until: Option<Deadline>) -> Duration {
    until.map_or(Duration::MAX, Deadline::left)
}

pub(super) fn is_past(until: Option<Deadline>) -> bool {
    until.is_some_and(|until| until.left().is_zero())
}
