//! How long something took, and what day it is.
//!
//! Promise: nothing else of `bench` reads a clock. Must not know: what is timed.

use std::sync::Barrier;
use std::thread;
use std::time::{Instant, SystemTime};

/// Calls `work` and gives what it gives, and the seconds it took.
pub(super) fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let value = work();
    (value, start.elapsed().as_secs_f64())
}

/// Calls both at once, one of them in a thread of its own. Gives the seconds until the later one was
/// done; starting the thread is not in them, waking it is.
pub(super) fn timed_both<A, B: Send>(
    here: impl FnOnce() -> A,
    there: impl FnOnce() -> B + Send,
) -> ((A, B), f64) {
    let start = Barrier::new(2);
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            start.wait();
            there()
        });
        // So that it mostly reaches the barrier first, and this thread need not sleep there.
        thread::yield_now();
        timed(|| {
            start.wait();
            let here = here();
            (here, other.join().expect("a wrong count has been reported"))
        })
    })
}

/// Today, in UTC.
pub(super) fn today() -> String {
    let now = jiff::Timestamp::try_from(SystemTime::now());
    now.map_or("unknown".to_owned(), |now| {
        now.strftime("%Y-%m-%d").to_string()
    })
}
