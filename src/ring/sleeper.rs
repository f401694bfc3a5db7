//! A thread that parks while it has nothing to do, known to those who wake it before it has
//! started.
//!
//! Promise: what was written before [`Sleeper::unpark`] is seen by the thread before it parks
//! again, or the thread is woken. Must not know: why the thread sleeps.

use std::sync::OnceLock;
use std::sync::atomic::{Ordering, fence};
use std::thread::{self, Thread};

/// One thread that parks, or that is going to be started.
#[derive(Debug, Default)]
pub struct Sleeper(OnceLock<Thread>);

impl Sleeper {
    /// Makes the calling thread the one to wake, once and for all. It must look for work
    /// afterwards, before it parks.
    pub fn attach(&self) {
        let set = self.0.set(thread::current());
        assert!(set.is_ok(), "one thread attaches, once");
        // Pairs with the fence in `unpark`.
        fence(Ordering::SeqCst);
    }

    /// Wakes the thread, if it has attached.
    ///
    /// Costs one atomic swap while the thread is awake. An `unpark` before a `park` is remembered,
    /// so no wake-up is missed and no flag of our own is needed.
    #[inline]
    pub fn unpark(&self) {
        match self.0.get() {
            Some(thread) => thread.unpark(),
            None => self.unpark_starting(),
        }
    }

    /// The thread is about to start, or there is none: a test steps its work.
    #[cold]
    fn unpark_starting(&self) {
        // Pairs with the fence in `attach`: either the thread sees what was written before this
        // call, or it is seen here.
        fence(Ordering::SeqCst);
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Whether the thread attaches before, while or after it is woken.
    #[test]
    fn what_is_written_before_a_wake_up_is_seen_whenever_the_thread_starts() {
        const ROUNDS: u32 = 2000;
        for round in 0..ROUNDS {
            let sleeper = Arc::<Sleeper>::default();
            let written = Arc::new(AtomicU32::new(0));
            let (done, has_ended) = mpsc::channel();
            let (theirs, seen) = (Arc::clone(&sleeper), Arc::clone(&written));
            thread::spawn(move || {
                theirs.attach();
                // Two wake-ups, as a worker gets one for each parcel.
                for wanted in 1..=2 {
                    while seen.load(Ordering::Relaxed) < wanted {
                        thread::park();
                    }
                }
                done.send(()).expect("the test waits for it");
            });
            for number in 1..=2 {
                (0..round % 64).for_each(|_| std::hint::spin_loop());
                written.store(number, Ordering::Relaxed);
                sleeper.unpark();
            }
            let ended = has_ended.recv_timeout(Duration::from_secs(60));
            assert!(ended.is_ok(), "round {round}: the thread sleeps");
        }
    }
}
