//! Batch times, and the only place that reads the clock; `batch_clock` is the rule for when a batch
//! is due.
//!
//! Promise: a clock never runs backwards, and counts the time the machine sleeps. Must not know:
//! epochs, sources, sinks.

mod batch_clock;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) use self::batch_clock::BatchClock;

/// The time that names a batch: milliseconds since 1970-01-01 00:00 UTC, a multiple of the batch
/// interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchTime(u64);

impl BatchTime {
    /// The batch time that is `ms` milliseconds after 1970-01-01 00:00 UTC.
    ///
    /// ```
    /// assert_eq!(microtally::time::BatchTime::from_millis(1500).as_millis(), 1500);
    /// ```
    pub const fn from_millis(ms: u64) -> Self {
        BatchTime(ms)
    }

    /// Milliseconds since 1970-01-01 00:00 UTC.
    pub fn as_millis(self) -> u64 {
        self.0
    }
}

/// The engine's clock.
///
/// The system's clock is read once as wall time. From there the clock runs on the time since the
/// machine was booted: a step of the wall clock neither skips nor doubles a batch, and after the
/// machine slept batches have the right time again (on Linux; elsewhere batch times stay behind by
/// the sleep). The price is that batch times keep the offset of the start until the next start.
#[derive(Clone, Debug)]
pub struct Clock(ClockSource);

#[derive(Clone, Debug)]
enum ClockSource {
    System {
        wall_at_start: Duration,
        /// What `elapsed` returned then.
        start: Duration,
        /// Time since some fixed moment. It never goes back.
        elapsed: fn() -> Duration,
    },
    Manual(Arc<AtomicU64>),
}

/// Time since the machine was booted, sleep included: `CLOCK_MONOTONIC` stands still while it
/// sleeps.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(time).unwrap_or_default()
}

/// Time since the first call.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn since_boot() -> Duration {
    static FIRST: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed()
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Clock::running(wall, since_boot)
    }

    /// A clock that shows `wall` now, and runs as `elapsed` does.
    fn running(wall: Duration, elapsed: fn() -> Duration) -> Self {
        Clock(ClockSource::System {
            wall_at_start: wall,
            start: elapsed(),
            elapsed,
        })
    }

    /// A clock that stands still until [`advance`](Self::advance) is called, for tests. Clones
    /// share their time.
    ///
    /// ```
    /// use std::time::Duration;
    /// let clock = microtally::time::Clock::manual(Duration::from_secs(100));
    /// clock.advance(Duration::from_secs(5));
    /// assert_eq!(clock.now(), Duration::from_secs(105));
    /// ```
    pub fn manual(since_1970: Duration) -> Self {
        let ns = u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX / 2);
        Clock(ClockSource::Manual(Arc::new(AtomicU64::new(ns))))
    }

    /// Moves a manual clock forwards; does nothing to the system's.
    pub fn advance(&self, by: Duration) {
        if let ClockSource::Manual(ns) = &self.0 {
            // Relaxed: the number carries no other data with it.
            ns.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// Returns `true` if only `advance` moves the clock.
    pub(crate) fn is_manual(&self) -> bool {
        matches!(self.0, ClockSource::Manual(_))
    }

    /// How long a thread may sleep that has something to do at the time `at`. A manual clock moves
    /// without waking anybody, so it is looked at often.
    pub(crate) fn wait_until(&self, at: Duration) -> Duration {
        let wait = at.saturating_sub(self.now());
        match self.is_manual() {
            true => wait.min(Duration::from_millis(1)),
            false => wait,
        }
    }

    /// Time since 1970-01-01 00:00 UTC.
    pub fn now(&self) -> Duration {
        match &self.0 {
            ClockSource::System {
                wall_at_start,
                start,
                elapsed,
            } => *wall_at_start + elapsed().saturating_sub(*start),
            ClockSource::Manual(ns) => Duration::from_nanos(ns.load(Ordering::Relaxed)),
        }
    }
}

/// When a call with a time limit has to return.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// The deadline in `at_most` from now; `None` if that is beyond all time.
    pub(crate) fn in_time(at_most: Duration) -> Option<Self> {
        Instant::now().checked_add(at_most).map(Deadline)
    }

    /// Time until the deadline.
    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// Milliseconds of a time since 1970, as batch times count them.
pub(crate) fn as_ms(since_1970: Duration) -> u64 {
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_system_clock_runs_forwards_from_wall_time() {
        let clock = Clock::system();
        let one = clock.now();
        let two = clock.now();
        assert!(one <= two && one > Duration::from_secs(1_600_000_000));
    }
    thread_local! {
        static ELAPSED: std::cell::Cell<Duration> = const { std::cell::Cell::new(Duration::ZERO) };
    }

    /// Neither the wall clock nor passing time takes part: only what the machine reports since its
    /// start.

    #[test]
    fn the_clock_runs_on_the_time_since_the_machine_was_booted_and_on_nothing_else() {
        ELAPSED.set(ms(40));
        let wall = ms(1_000_000);
        let clock = Clock::running(wall, || ELAPSED.get());
        assert_eq!(clock.now(), wall);
        ELAPSED.set(ms(140));
        assert_eq!(clock.now(), wall + ms(100));
        std::thread::sleep(ms(2));
        assert_eq!(clock.clone().now(), wall + ms(100));
    }

    /// The machine sleeps for an hour in the middle of a batch.

    #[test]
    #[cfg(target_os = "linux")]
    fn the_system_clock_counts_the_time_the_machine_slept() {
        // The kernel's own uptime, which includes sleep, between two of ours.
        let before = since_boot();
        let uptime = std::fs::read_to_string("/proc/uptime").expect("there is a /proc");
        let after = since_boot();
        let seconds = uptime.split(' ').next().expect("a number");
        let seconds: f64 = seconds.parse().expect("a number");
        let slack = 0.011; // It has hundredths.
        assert!(
            (before.as_secs_f64() - slack..=after.as_secs_f64() + slack).contains(&seconds),
            "{before:?} {seconds} {after:?}"
        );
        let Clock(ClockSource::System { elapsed, .. }) = Clock::system() else {
            panic!("it is no manual clock");
        };
        assert!(elapsed() >= after);
    }

    #[test]
    fn after_a_sleep_every_batch_is_made_and_labels_are_right() {
        ELAPSED.set(ms(0));
        let clock = Clock::running(ms(10_000_250), || ELAPSED.get());
        let mut batches = BatchClock::new(500, clock.now());
        ELAPSED.set(ms(3_600_000));
        let mut times = Vec::new();
        while batches.is_due(clock.now()) {
            times.push(batches.next().as_millis());
            batches.step();
        }
        assert!(times.into_iter().eq((20_001..=27_200).map(|k| k * 500)));
        assert_eq!(batches.next().as_millis(), 13_600_500);
        assert_eq!(batches.remaining(clock.now()), ms(250));
    }
}
