//! The threads of an engine: started in order, stopped in order.
//!
//! Promise: everything received before a graceful stop is in a published batch; every thread has
//! ended when a [`Runtime`] is dropped. Must not know: argv, sources, sinks, what a batch holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::engine::assemble::{Blueprint, Parts};
use crate::engine::check;
use crate::engine::control::{Control, Stop};
use crate::engine::plan::{OutputThread, ThreadHost, failed_drop};
use crate::engine::publish_turn::PublishTurn;
use crate::error::{Error, ErrorKind, Result, guarded};
use crate::intake::router::Router;
use crate::limits::{STOP_DRAIN_MS_MAX, STOP_THREADS_MS_MAX};
use crate::notice::{Notice, NoticeKind, Notices};
use crate::shard::{panic_message, worker};
use crate::sys::{self, Cores};
use crate::time::Clock;

/// The threads of a running engine except the reading ones. Dropping it stops them.
pub(crate) struct Runtime {
    pub(crate) control: Arc<Control>,
    pub(crate) publish_turn: Arc<PublishTurn>,
    threads: Vec<JoinHandle<()>>,
    /// The cores that shards are pinned to.
    cores: Cores,
}

impl Blueprint {
    /// Builds the parts and starts their threads. Returns the router for whoever reads.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build), and a thread that cannot be started.
    pub(crate) fn launch(mut self) -> Result<(Router, Runtime)> {
        let (threads, clock) = (self.plan.take_threads(), self.clock.clone());
        let (control, notices) = (Arc::clone(&self.control), self.notices.clone());
        let pin = self.config.pin;
        let Parts {
            router,
            workers,
            publisher,
            publisher_sleeper,
            worker_sleepers,
            wake,
            low_latency,
        } = self.build()?;
        let publish_turn = PublishTurn::new(
            publisher,
            publisher_sleeper,
            worker_sleepers,
            wake,
            Arc::clone(&control),
            low_latency,
        );
        let mut runtime = Runtime::start(Arc::clone(&control), publish_turn)?;
        let bodies = workers.into_iter().map(|mut worker| {
            let control = Arc::clone(&control);
            let publish_turn = Arc::clone(&runtime.publish_turn);
            move || worker::run(&mut worker, &control.abort, || publish_turn.handed_over())
        });
        let bodies = bodies.collect();
        runtime.spawn_outputs(threads, &clock)?;
        runtime.spawn_pinned("mt-shard", bodies, pin, &notices)?;
        Ok((router, runtime))
    }
}

impl Runtime {
    /// Starts the thread that publishes.
    pub(crate) fn start(control: Arc<Control>, publish_turn: PublishTurn) -> Result<Self> {
        let publish_turn = Arc::new(publish_turn);
        let mut runtime = Runtime {
            control,
            publish_turn: Arc::clone(&publish_turn),
            threads: Vec::new(),
            cores: Cores::default(),
        };
        runtime.spawn("mt-publisher".to_owned(), move || publish_turn.run())?;
        Ok(runtime)
    }

    /// Starts the threads of outputs.
    pub(crate) fn spawn_outputs(
        &mut self,
        threads: Vec<Box<dyn OutputThread>>,
        clock: &Clock,
    ) -> Result<()> {
        for mut thread in threads {
            let host = ThreadHost {
                control: Arc::clone(&self.control),
                clock: clock.clone(),
                publish_turn: Arc::clone(&self.publish_turn),
            };
            self.spawn(thread.name(), move || thread.run(&host))?;
        }
        Ok(())
    }

    /// Starts a thread for each of `bodies`, named by `kind` and a number. Pins each to a core of
    /// its own if `pin` is set and enough cores are free.
    pub(crate) fn spawn_pinned<F: FnMut() + Send + 'static>(
        &mut self,
        kind: &str,
        bodies: Vec<F>,
        pin: bool,
        notices: &Notices,
    ) -> Result<()> {
        if pin {
            match Cores::take(bodies.len()) {
                Some(cores) => self.cores = cores,
                None => notices.report(Notice::new("", NoticeKind::Unpinned { shard: 0 })),
            }
        }
        // One shard that cannot be pinned is reported; others would repeat it.
        let is_reported = Arc::new(AtomicBool::new(false));
        for (index, mut body) in bodies.into_iter().enumerate() {
            let core = self.cores.of(index);
            let (notices, is_reported) = (notices.clone(), Arc::clone(&is_reported));
            self.spawn(format!("{kind}-{index}"), move || {
                let failed = core.is_some_and(|core| !sys::pin_to(core));
                if failed && !is_reported.swap(true, Ordering::Relaxed) {
                    notices.report(Notice::new("", NoticeKind::Unpinned { shard: index }));
                }
                body();
            })?;
        }
        Ok(())
    }

    /// Starts a thread that runs `body` once, and ends the engine if that panics. `body` is dropped
    /// afterwards, and user-supplied functions with it: a panic there is reported as theirs.
    pub(crate) fn spawn(
        &mut self,
        name: String,
        mut body: impl FnMut() + Send + 'static,
    ) -> Result<()> {
        let control = Arc::clone(&self.control);
        let guarded = {
            let name = name.clone();
            move || {
                control.adopt_thread();
                if let Err(panic) = guarded(&mut body) {
                    control.fail(Error::internal(format!(
                        "bug in thread {name}: {}; results published before are complete, later input \
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
        self.control.add_thread(handle.thread().clone());
        self.threads.push(handle);
        Ok(())
    }

    /// Refuses `call` where it would wait forever.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidCall`]: in a forked process, or in a function that the engine calls.
    pub(crate) fn check(&self, call: &str) -> Result<()> {
        check(&self.control, &self.publish_turn, call)
    }

    /// Stops the engine and waits: for at most `at_most`; without it, for as long as batches are
    /// being published and [`STOP_DRAIN_MS_MAX`] besides.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidCall`] as for [`check`](Self::check); the stop is requested all the
    /// same, except in a forked process. [`ErrorKind::TimedOut`] if threads do not end in time:
    /// they are left behind.
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
            // A quarter of the time is kept for ending what sources do not end.
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

    /// Waits at most `at_most` until nothing more will be published. If outputs may take their
    /// time, that time does not count. Returns `true` if it is so.
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
            if !self.publish_turn.is_serving() && !self.control.is_delivering() {
                left = left.saturating_sub(LOOK);
                if left.is_zero() {
                    return false;
                }
            }
        }
    }

    /// Returns the error of a call that threads keep from ending.
    #[cold]
    pub(crate) fn left_behind(&self, call: &str, threads: &[String]) -> Error {
        let threads = match threads {
            [] => "its last batch is not complete".to_owned(),
            threads => format!("{} still running and left behind", threads.join(", ")),
        };
        let error = Error::new(
            ErrorKind::TimedOut,
            format!(
                "{call}: the engine did not end in time: {threads}; input that was not published is lost"
            ),
        );
        match self.control.error() {
            Some(earlier) => error.with_advice(&format!("before that: {earlier}")),
            None => error,
        }
    }

    /// Waits at most `at_most` for the threads, which were asked to end. Returns the names of those
    /// that have not: a user-supplied function does not return, and they are left behind.
    pub(crate) fn join_within(&mut self, at_most: Duration) -> Vec<String> {
        if self.control.is_forked() {
            // The threads are missing here, and the system must not be asked for them.
            self.threads.drain(..).for_each(std::mem::forget);
        }
        // A thread of the engine, inside a user-supplied function, cannot wait for itself, nor for
        // threads that may be waiting for what it holds: they end when it returns.
        if self.publish_turn.is_inside() {
            self.threads.clear();
        }
        let all_ended = self.control.wait_threads(self.threads.len(), at_most);
        let mut left = Vec::new();
        for handle in self.threads.drain(..) {
            if all_ended || handle.is_finished() {
                // The thread itself has reported a panic.
                let _ = handle.join();
            } else {
                left.extend(handle.thread().name().map(str::to_owned));
            }
        }
        left
    }
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
