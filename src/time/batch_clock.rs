//! When a batch is due.
//!
//! Promise: batch times are multiples of the interval, the first strictly after start, each exactly
//! once and in order, however late the caller asks. Must not know: epochs, sources, sinks.

use std::time::Duration;

use crate::time::{BatchTime, as_ms};

/// Knows which batch is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchClock {
    interval_ms: u64,
    next_ms: u64,
}

impl BatchClock {
    /// A clock whose first batch time is the first multiple of `interval_ms` strictly after `now`.
    pub(crate) fn new(interval_ms: u64, now: Duration) -> Self {
        assert!(interval_ms > 0, "the interval was checked at the door");
        BatchClock {
            interval_ms,
            next_ms: (as_ms(now) / interval_ms + 1) * interval_ms,
        }
    }

    /// A clock of one batch that is never due: it ends with its input, at [`close`](Self::close).
    pub(crate) fn at_end() -> Self {
        BatchClock {
            interval_ms: 1,
            next_ms: u64::MAX,
        }
    }

    /// The input has ended: names a batch that had no time yet by `now`.
    pub(crate) fn close(&mut self, now: Duration) {
        if self.next_ms == u64::MAX {
            self.next_ms = as_ms(now);
        }
    }

    /// The time of the batch that is being filled.
    pub(crate) fn next(&self) -> BatchTime {
        BatchTime::from_millis(self.next_ms)
    }

    /// Returns `true` if that batch is due.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        as_ms(now) >= self.next_ms
    }

    /// The batch was cut: moves on to the next.
    pub(crate) fn step(&mut self) {
        self.next_ms += self.interval_ms;
    }

    /// Time until the batch is due.
    pub(crate) fn remaining(&self, now: Duration) -> Duration {
        Duration::from_millis(self.next_ms).saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_first_batch_time_is_strictly_after_start() {
        let first = |interval, now| BatchClock::new(interval, now).next().as_millis();
        let cases = [
            (0, 1000),
            (999, 1000),
            (1000, 2000),
            (1001, 2000),
            (1_234_567, 1_235_000),
        ];
        for (now, expected) in cases {
            assert_eq!(first(1000, ms(now)), expected, "{now}");
        }
        assert_eq!(first(1, ms(7)), 8);
        assert_eq!(first(1000, Duration::from_nanos(999_999_999)), 1000);
    }

    #[test]
    fn a_late_caller_gets_every_multiple_once() {
        let mut clock = BatchClock::new(5, ms(102));
        let mut times = Vec::new();
        for now in [103, 105, 106, 150, 151, 200] {
            while clock.is_due(ms(now)) {
                times.push(clock.next().as_millis());
                clock.step();
            }
        }
        let expected: Vec<u64> = (21..=40).map(|k| k * 5).collect();
        assert_eq!(times, expected);
        assert_eq!(clock.remaining(ms(203)), ms(2));
        assert_eq!(clock.remaining(ms(300)), ms(0));
    }

    #[test]
    fn a_batch_that_ends_with_its_input_is_never_due_before() {
        let mut clock = BatchClock::at_end();
        assert!(!clock.is_due(ms(u64::MAX - 1)));
        assert!(clock.remaining(ms(5)) > Duration::from_secs(1 << 40));
        clock.close(ms(1234));
        clock.close(ms(5678));
        assert_eq!(clock.next().as_millis(), 1234);
    }
}
