//! A running context: wait, stop.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::control::{Control, RunStats, Stop};
use crate::engine::runtime::Runtime;
use crate::error::Result;
use crate::metrics::Snapshot;

/// A running context. Dropping it stops the run at once.
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

/// Stops a running context from any thread.
#[derive(Clone)]
pub struct StopHandle {
    control: Arc<Control>,
}

impl StopHandle {
    /// Requests a stop and returns at once; [`RunningContext::await_termination`] returns when the
    /// run has stopped. Does nothing in a forked process, where the run's threads are missing.
    pub fn stop(&self, how: Stop) {
        if !self.control.is_forked() {
            self.control.stop(how);
        }
    }

    /// Sums over the batches published so far, also after a [`RunningContext::stop`] that failed.
    pub fn stats(&self) -> RunStats {
        self.control.stats()
    }

    /// Returns the [metrics](crate::metrics), also after the run.
    pub fn metrics(&self) -> Snapshot {
        self.control.metrics.snapshot()
    }
}

impl RunningContext {
    /// Waits until the run has ended.
    ///
    /// # Errors
    ///
    /// - A user-supplied function panicked: returns at once; later batches go on until the handle
    ///   is dropped.
    /// - A source was lost for good, or an output could not be written: returns when the run has
    ///   ended.
    /// - [`ErrorKind::InvalidCall`](crate::error::ErrorKind::InvalidCall): the caller is a function
    ///   that the run itself calls (an output, a listener, a notice handler), which would wait for
    ///   itself; or the process is a forked one, where the run's threads are missing.
    pub fn await_termination(&self) -> Result<()> {
        self.runtime.check("await_termination")?;
        self.control.wait(None).map(|_| ())
    }

    /// As [`await_termination`](Self::await_termination), for at most this long. Returns `false` if
    /// the time ran out.
    ///
    /// # Errors
    ///
    /// As [`await_termination`](Self::await_termination).
    pub fn await_termination_or_timeout(&self, at_most: Duration) -> Result<bool> {
        self.runtime.check("await_termination_or_timeout")?;
        self.control.wait(Some(at_most))
    }

    /// Stops the run, and waits until it has stopped.
    ///
    /// Graceful: everything received is counted, and the last batch is published. Sources that take
    /// longer than 30 seconds are cut off: what they did not deliver is not counted, and the call
    /// returns an error that names them. The time that outputs take does not count.
    ///
    /// Immediate: the current batch is dropped. The call returns as soon as the running output, if
    /// any, is done, or after 10 seconds.
    ///
    /// [`stop_within`](Self::stop_within) sets another limit, which holds for outputs as well.
    ///
    /// # Errors
    ///
    /// - The first error of the run, if there was one. Everything was published nevertheless, and
    ///   [`StopHandle::stats`] returns the sums.
    /// - [`ErrorKind::TimedOut`](crate::error::ErrorKind::TimedOut): threads of the run did not end
    ///   in time; they are left behind.
    /// - [`ErrorKind::InvalidCall`](crate::error::ErrorKind::InvalidCall): the caller is a function
    ///   that the run itself calls. The run stops once that function has returned, but this call
    ///   cannot wait for it. Or the process is a forked one; then nothing happens.
    pub fn stop(self, how: Stop) -> Result<RunStats> {
        self.end(how, None)
    }

    /// As [`stop`](Self::stop), for at most about this long, outputs included.
    ///
    /// Sources have three quarters of the time to deliver what they hold; the last batch has the
    /// rest. Then the run ends at once. A user-supplied function that does not return is left
    /// behind on its thread.
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

    /// A handle that stops the run from anywhere, also from a function that is called with batches:
    /// such a function cannot wait for its own thread.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle {
            control: Arc::clone(&self.control),
        }
    }

    /// Sums over the batches published so far.
    pub fn stats(&self) -> RunStats {
        self.control.stats()
    }

    /// Returns the [metrics](crate::metrics).
    pub fn metrics(&self) -> Snapshot {
        self.control.metrics.snapshot()
    }
}

impl fmt::Debug for RunningContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningContext")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

debug_fields!([] StopHandle, "StopHandle");
