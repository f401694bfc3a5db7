//! Who publishes: the publisher, and which thread may step it.
//!
//! Promise: one thread at a time publishes batches, in order; a batch that is complete is published
//! by whoever looks next, and somebody always looks. Must not know: formats, what a batch holds.
//!
//! In throughput mode `mt-publisher` publishes, woken by whoever hands tables over. In low-latency
//! mode the thread that hands over the last tables of a batch publishes it itself, because waking
//! another thread costs more than a small batch. `mt-publisher` steps in where two threads meet:
//!
//! ```text
//!   has handed over                    has its turn
//!   try the lock                       step until nothing is complete
//!   taken? unpark mt-publisher         leave
//! ```
//! What the serving thread no longer sees, `mt-publisher` sees: it waits for the lock. It is also
//! the one that waits when an output asks for a retry; no other thread is kept from its work.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::Duration;

use crate::engine::control::Control;
use crate::engine::publisher::{Publisher, Turn};
use crate::error::{Error, guarded, lock};
use crate::ring::Wake;
use crate::ring::sleeper::Sleeper;
use crate::shard::panic_message;

thread_local! {
    /// Its address tells live threads apart.
    static HERE: u8 = const { 0 };
}

/// Returns an address that only the calling thread has; never 0.
fn here() -> usize {
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

/// What a thread that had its turn leaves behind.
enum Served {
    /// Nothing that is complete.
    All,
    /// A batch that waits for an output; `is_news` if it did not wait at the last turn.
    Held { wait: Duration, is_news: bool },
    /// The run has ended.
    Ended,
}

/// The publisher, and whose turn it is to step it.
pub(crate) struct PublishTurn {
    /// Dropped when the run has ended, and the outputs with it: a thread that waits for the outputs
    /// to end must not wait for the engine's handle to be dropped.
    publisher: Mutex<Option<Publisher>>,
    /// Woken when their tables come back.
    shards: Vec<Arc<Sleeper>>,
    /// Wakes the reading side.
    wake: Arc<Wake>,
    control: Arc<Control>,
    /// `mt-publisher`.
    owner: Arc<Sleeper>,
    low_latency: bool,
    /// The thread that publishes now, as [`here`] returns it; 0 for none.
    server: AtomicUsize,
}

impl PublishTurn {
    /// Shares `publisher` among threads: `owner` is its own, and its tables come from `shards`. In
    /// low-latency mode every thread publishes what it completes.
    pub(crate) fn new(
        publisher: Publisher,
        owner: Arc<Sleeper>,
        shards: Vec<Arc<Sleeper>>,
        wake: Arc<Wake>,
        control: Arc<Control>,
        low_latency: bool,
    ) -> Self {
        PublishTurn {
            publisher: Mutex::new(Some(publisher)),
            shards,
            wake,
            control,
            owner,
            low_latency,
            server: AtomicUsize::new(0),
        }
    }

    /// Returns `true` if the engine called the caller: on one of its threads, or on a thread that
    /// publishes. Waiting for the engine there would be waiting for itself.
    pub(crate) fn is_inside(&self) -> bool {
        // Relaxed: a serving thread has written its own address before, and nobody else writes
        // meanwhile.
        self.control.is_own_thread() || self.server.load(Ordering::Relaxed) == here()
    }

    /// Returns `true` while batches are being published.
    pub(crate) fn is_serving(&self) -> bool {
        self.server.load(Ordering::Relaxed) != 0
    }

    /// Called after a shard has handed over tables.
    pub(crate) fn handed_over(&self) {
        if self.low_latency {
            self.help();
        } else {
            self.owner.unpark();
        }
    }

    /// Called when an output has room again, or has delivered something.
    pub(crate) fn wake(&self) {
        self.owner.unpark();
    }

    /// Called after the reading side has cut epochs: publishes what is complete, in low-latency
    /// mode. Otherwise the router has woken `mt-publisher`.
    pub(crate) fn has_cut(&self) {
        if self.low_latency {
            self.help();
        }
    }

    fn help(&self) {
        let is_left_over = match self.publisher.try_lock() {
            // The owner waits for the time at which an output is called again.
            Ok(mut publisher) => match self.serve(publisher.as_mut()) {
                Served::Ended | Served::Held { is_news: true, .. } => true,
                Served::All | Served::Held { .. } => false,
            },
            // Another thread is serving, or it has panicked there and ended the engine.
            Err(TryLockError::WouldBlock | TryLockError::Poisoned(_)) => true,
        };
        if is_left_over {
            self.owner.unpark();
        }
    }

    /// Publishes what is complete, until the run has ended or is aborted. The body of
    /// `mt-publisher`.
    pub(crate) fn run(&self) {
        self.owner.attach();
        loop {
            let served = self.serve(self.lock().as_mut());
            match served {
                Served::All => thread::park(),
                Served::Held { wait, .. } => thread::park_timeout(wait),
                Served::Ended => break,
            }
        }
        // Taken out first: what outputs own may call back when it is dropped.
        let publisher = self.lock().take();
        if let Some(publisher) = publisher {
            publisher.discard();
        }
        self.control.stopped();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Publisher>> {
        lock(&self.publisher)
    }

    /// Steps until nothing is complete, or a batch has to wait.
    fn serve(&self, publisher: Option<&mut Publisher>) -> Served {
        let Some(publisher) = publisher else {
            return Served::Ended;
        };
        // Relaxed: see `is_inside`. Nothing below unwinds.
        self.server.store(here(), Ordering::Relaxed);
        let served = self.step_all(publisher);
        self.server.store(0, Ordering::Relaxed);
        served
    }

    fn step_all(&self, publisher: &mut Publisher) -> Served {
        // Relaxed: the flag carries no data, and whoever sets it unparks the owner.
        while !self.control.abort.load(Ordering::Relaxed) {
            match guarded(|| publisher.step()) {
                Ok(Ok(Turn::Published(shards))) => {
                    for (index, shard) in self.shards.iter().enumerate() {
                        if shards.has(index) {
                            shard.unpark();
                        }
                    }
                    self.wake.notify();
                }
                Ok(Ok(Turn::Waiting)) => return Served::All,
                Ok(Ok(Turn::Held { wait, is_news })) => return Served::Held { wait, is_news },
                Ok(Ok(Turn::Done)) => break,
                Ok(Err(error)) => self.control.fail(error),
                Err(panic) => self.control.fail(Error::internal(format!(
                    "bug while publishing: {}; results published before are complete, later input was \
                     not counted",
                    panic_message(panic.as_ref())
                ))),
            }
        }
        Served::Ended
    }
}
