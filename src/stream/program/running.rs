//! A started context: wait, stop.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::control::{Control, RunStats, Stop};
use crate::engine::runtime::Runtime;
use crate::error::Result;

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
    pub(crate) runtime: Runtime,
    pub(crate) control: Arc<Control>,
}

/// Stops a running context from another thread or a signal handler's thread.
#[derive(Clone)]
pub struct StopHandle {
    control: Arc<Control>,
}

impl StopHandle {
    /// Asks for a stop and returns at once; [`RunningContext::await_termination`] returns when it is
    /// done. Does nothing in a forked process, where the run's threads are missing.
    pub fn stop(&self, how: Stop) {
        if !self.control.is_forked() {
            self.control.stop(how);
        }
    }

    /// Sums over the batches published so far; after a failed [`RunningContext::stop`], over those of the run.
    pub fn stats(&self) -> RunStats {
        self.control.stats()
    }
}

impl RunningContext {
    /// Waits until the run has ended.
    ///
    /// # Errors
    ///
    /// A user function that panicked, as soon as it did (later batches go on until the handle is
    /// dropped); a source that was lost for good or an output that could not be written, when the run
    /// has ended. [`ErrorKind::InvalidCall`](crate::ErrorKind::InvalidCall) in a function that the run itself calls
    /// (an output, a listener, a notice handler), which would wait for itself, and in a forked process, where the
    /// run's threads are missing.
    pub fn await_termination(&self) -> Result<()> {
        self.runtime.check("await_termination")?;
        self.control.wait(None).map(|_| ())
    }

    /// As [`await_termination`](Self::await_termination), for at most that long. `Ok(false)` when the
    /// time ran out.
    ///
    /// # Errors
    ///
    /// As [`await_termination`](Self::await_termination).
    pub fn await_termination_or_timeout(&self, at_most: Duration) -> Result<bool> {
        self.runtime.check("await_termination_or_timeout")?;
        self.control.wait(Some(at_most))
    }

    /// Stops and waits until it is done.
    ///
    /// Graceful: everything received is counted and the last batch published. Sources that are not done with that
    /// after 30 seconds are cut off: what they had not delivered is not counted, and the call returns an error that
    /// names them. Time in which outputs run does not count: they take as long as they take.
    ///
    /// Immediate: the batch being filled is dropped, and the call returns as soon as an output that is being written
    /// is done, or after 10 seconds.
    ///
    /// [`stop_within`](Self::stop_within) sets another limit, which holds for outputs as well.
    ///
    /// # Errors
    ///
    /// The first error of the run, if there was one; everything was published all the same, and
    /// [`StopHandle::stats`] has the sums. [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut) if threads of the run
    /// did not end in time: they are left behind. [`ErrorKind::InvalidCall`](crate::ErrorKind::InvalidCall) in a
    /// function that the run itself calls: the run stops as `how` says once that has returned, but this call cannot
    /// wait for it. The same kind in a forked process, where nothing happens.
    pub fn stop(self, how: Stop) -> Result<RunStats> {
        self.end(how, None)
    }

    /// As [`stop`](Self::stop), for at most about that long, outputs included.
    ///
    /// Sources have three quarters of the time to deliver what they hold, the last batch the rest. When that is over
    /// the run ends at once, whatever is left; a user-supplied function that does not return is left behind on its
    /// thread.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop).
    pub fn stop_within(self, how: Stop, at_most: Duration) -> Result<RunStats> {
        self.end(how, Some(at_most))
    }

    fn end(mut self, how: Stop, at_most: Option<Duration>) -> Result<RunStats> {
        self.runtime.stop(how, at_most)?;
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

    /// Sums over the batches published so far.
    pub fn stats(&self) -> RunStats {
        self.control.stats()
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
