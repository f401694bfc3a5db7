//! A started context: wait, stop.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::Runtime;
use crate::engine::control::{Control, RunStats, Stop};
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
    pub(super) runtime: Runtime,
    pub(super) control: Arc<Control>,
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
