//! Notices of the same kind, as sums.
//!
//! Promise: at most one in some seconds, and nothing is left out. Must not know: what it is.

use std::time::Duration;

use crate::limits::NOTICE_PAUSE_MS;

/// What happened and was not told yet, because the like of it was told a moment ago.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Throttled {
    times: u64,
    bytes: u64,
    /// When it may be told again.
    next: Duration,
}

impl Throttled {
    /// It happened once more, and cost so many bytes.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.times += 1;
        self.bytes += bytes;
    }

    /// How often it happened and what it cost, if it is time to tell.
    pub(crate) fn take(&mut self, now: Duration) -> Option<(u64, u64)> {
        if self.times == 0 || now < self.next {
            return None;
        }
        let told = (self.times, self.bytes);
        let next = now.saturating_add(Duration::from_millis(NOTICE_PAUSE_MS));
        *self = Throttled {
            next,
            ..Throttled::default()
        };
        Some(told)
    }

    /// When there is something to tell.
    pub(crate) fn due_at(&self) -> Option<Duration> {
        (self.times > 0).then_some(self.next)
    }
}
