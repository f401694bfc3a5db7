//! Where batches are published: the publisher, and who may step it.
//!
//! Promise: one thread at a time publishes batches, in order; a batch that is complete is published by
//! whoever looks next, and somebody always looks. Must not know: what a batch holds, formats.
//!
//! Throughput mode: `mt-publisher` does it, woken by whoever hands tables over. In low-latency mode the
//! thread that hands the last tables of a batch over does it itself, since waking another costs more than
//! a small batch; `mt-publisher` steps in where two meet:
//!
//! ```text
//!   has handed over                    has its turn
//!   try the lock                       step until nothing is complete
//!   taken? unpark mt-publisher         leave
//! ```
//! What the thread that has its turn no longer saw, `mt-publisher` sees: it takes the lock by waiting.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError};
use std::thread::{self, Thread};

use crate::engine::control::Control;
use crate::engine::publisher::{Publisher, Turn};
use crate::error::{Error, guarded, lock};
use crate::ring::Wake;
use crate::shard::panic_message;

thread_local! {
    /// Its address tells the threads that are alive apart.
    static HERE: u8 = const { 0 };
}

/// The address of something that only the calling thread has; never 0.
fn here() -> usize {
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

/// See the module.
pub(crate) struct PublishTurn {
    /// Gone when the run is over, and with it the outputs: who waits for their end must not wait for
    /// that of the engine's handle.
    publisher: Mutex<Option<Publisher>>,
    /// Woken when their tables come back.
    shards: OnceLock<Vec<Thread>>,
    /// Wakes the reading side.
    wake: Arc<Wake>,
    control: Arc<Control>,
    /// `mt-publisher`.
    owner: OnceLock<Thread>,
    low_latency: bool,
    /// The thread that publishes batches now, as [`here`] names it; 0 for none.
    server: AtomicUsize,
}

impl PublishTurn {
    /// Turns at `publisher`. In low-latency mode every thread publishes what it completes.
    pub(crate) fn new(
        publisher: Publisher,
        wake: Arc<Wake>,
        control: Arc<Control>,
        low_latency: bool,
    ) -> Arc<Self> {
        Arc::new(PublishTurn {
            publisher: Mutex::new(Some(publisher)),
            shards: OnceLock::new(),
            wake,
            control,
            owner: OnceLock::new(),
            low_latency,
            server: AtomicUsize::new(0),
        })
    }

    /// Whether the caller was called by the engine: on one of its threads, or by a thread that puts its batches
    /// out. What waits for the engine there waits for itself.
    pub(crate) fn is_inside(&self) -> bool {
        // Relaxed: a thread that serves has written its own name before, and nobody else writes meanwhile.
        self.control.is_own_thread() || self.server.load(Ordering::Relaxed) == here()
    }

    /// Whether batches are being published at this moment.
    pub(crate) fn is_serving(&self) -> bool {
        self.server.load(Ordering::Relaxed) != 0
    }

    /// Tells which threads run the shards, before anything is cut.
    pub(crate) fn set_shards(&self, shards: Vec<Thread>) {
        let set = self.shards.set(shards);
        assert!(set.is_ok(), "shards are started once");
    }

    /// Tells which thread is [`run`](Self::run)'s, before anything is cut.
    pub(crate) fn set_owner(&self, owner: Thread) {
        let set = self.owner.set(owner);
        assert!(set.is_ok(), "the publisher is started once");
    }

    /// A shard has handed tables over.
    pub(crate) fn handed_over(&self) {
        if self.low_latency {
            self.help();
        } else {
            self.wake_owner();
        }
    }

    /// The reading side has cut epochs: publishes what is complete, in low-latency mode. Otherwise the
    /// router has woken `mt-publisher`.
    pub(crate) fn has_cut(&self) {
        if self.low_latency {
            self.help();
        }
    }

    fn help(&self) {
        let is_left_over = match self.publisher.try_lock() {
            Ok(mut publisher) => self.serve(publisher.as_mut()),
            // Somebody is at it, or has panicked there and ended the engine.
            Err(TryLockError::WouldBlock | TryLockError::Poisoned(_)) => true,
        };
        if is_left_over {
            self.wake_owner();
        }
    }

    fn wake_owner(&self) {
        if let Some(owner) = self.owner.get() {
            owner.unpark();
        }
    }

    /// Puts out what is complete, until the run is over or aborted. The body of `mt-publisher`.
    pub(crate) fn run(&self) {
        while !self.serve(self.lock().as_mut()) {
            thread::park();
        }
        // Taken out first: what outputs own may call back, when it is dropped.
        let publisher = self.lock().take();
        if let Some(publisher) = publisher {
            publisher.discard();
        }
        self.control.stopped();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Publisher>> {
        lock(&self.publisher)
    }

    /// Steps until nothing is complete. Gives whether the run is over.
    fn serve(&self, publisher: Option<&mut Publisher>) -> bool {
        let Some(publisher) = publisher else {
            return true;
        };
        // Relaxed: see `is_inside`. Nothing below unwinds.
        self.server.store(here(), Ordering::Relaxed);
        let is_over = self.step_all(publisher);
        self.server.store(0, Ordering::Relaxed);
        is_over
    }

    fn step_all(&self, publisher: &mut Publisher) -> bool {
        // Relaxed: the flag carries no data, and whoever sets it unparks the owner.
        while !self.control.abort.load(Ordering::Relaxed) {
            match guarded(|| publisher.step()) {
                Ok(Ok(Turn::Published(shard_set))) => {
                    for (index, shard) in self.shards.get().into_iter().flatten().enumerate() {
                        if shard_set.has(index) {
                            shard.unpark();
                        }
                    }
                    self.wake.notify();
                }
                Ok(Ok(Turn::Waiting)) => return false,
                Ok(Ok(Turn::Done)) => return true,
                Ok(Err(error)) => self.control.fail(error),
                Err(panic) => self.control.fail(Error::internal(format!(
                    "bug while publishing: {}; results put out before are complete, later input was \
                     not counted",
                    panic_message(panic.as_ref())
                ))),
            }
        }
        true
    }
}
