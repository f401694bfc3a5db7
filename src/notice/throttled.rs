//! Notices of one kind, added up.
//!
//! Promise: at most one in some seconds, and every occurrence is in one.
//! Must not know: source, engine.

use std::time::Duration;

use crate::limits::NOTICE_PAUSE_MS;

/// Occurrences that are not reported yet, because the last report is too recent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Throttled {
    times: u64,
    bytes: u64,
    /// Earliest time of the next report.
    next: Duration,
}

impl Throttled {
    /// Adds an occurrence, which cost `bytes`.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.times += 1;
        self.bytes += bytes;
    }

    /// Returns the number of occurrences and their bytes, if they may be reported now.
    pub(crate) fn take(&mut self, now: Duration) -> Option<(u64, u64)> {
        if self.times == 0 || now < self.next {
            return None;
        }
        let sum = (self.times, self.bytes);
        *self = Throttled {
            next: now.saturating_add(Duration::from_millis(NOTICE_PAUSE_MS)),
            ..Throttled::default()
        };
        Some(sum)
    }

    /// When there is something to report.
    pub(crate) fn due_at(&self) -> Option<Duration> {
        (self.times > 0).then_some(self.next)
    }
}
