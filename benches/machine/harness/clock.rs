//! Measures how long a call takes, and returns the date.
//!
//! Promise: nothing else in `bench` reads a clock.
//! Must not know: microtally.

use std::sync::Barrier;
use std::thread;
use std::time::{Instant, SystemTime};

/// Returns the result of `work`, and the seconds it took.
pub(super) fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let value = work();
    (value, start.elapsed().as_secs_f64())
}

/// Runs both at once, one of them in another thread. Returns the seconds until the later one
/// finished, with the time to wake the thread but without the time to start it.
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
