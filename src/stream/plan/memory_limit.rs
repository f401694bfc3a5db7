//! What an operator that keeps tables does when its memory is used up though each batch's was not.
//!
//! Promise: it is told once, and the run ends if that was asked for. Must not know: what is kept, and how.

use crate::batch::BatchStats;
use crate::config::OnLimit;
use crate::epoch::merge::limit_reached;
use crate::notice::{Notice, NoticeKind, Notices};
use crate::stream::plan::graph::{BatchContext, StartContext};
use crate::table::bound::Overflow;

/// See the module.
pub(crate) struct MemoryLimit {
    /// The limit, and what happens there.
    limit: Option<(usize, OnLimit)>,
    notices: Notices,
    is_told: bool,
}

impl MemoryLimit {
    /// Of an operator that has not begun.
    pub(crate) fn new(limit: Option<(usize, OnLimit)>) -> Self {
        MemoryLimit {
            limit,
            notices: Notices::default(),
            is_told: false,
        }
    }

    /// The context starts.
    pub(crate) fn start(&mut self, starting: &StartContext<'_>) {
        self.notices = starting.notices.clone();
    }

    /// One more batch came. What it lacks itself was told already, and everything it is a part of lacks it, too.
    pub(crate) fn enter(&mut self, batch: &BatchStats) {
        self.is_told |= batch.is_approximate();
    }

    /// What is kept lacks `loss`.
    pub(crate) fn look(&mut self, now: &BatchContext<'_, '_>, overflow: Overflow) {
        let Some((bytes_max, on_limit)) = self.limit else {
            return;
        };
        if overflow.is_none() || std::mem::replace(&mut self.is_told, true) {
            return;
        }
        if on_limit == OnLimit::Fail {
            let control = now.epoch.control;
            control.report_at_end(limit_reached(bytes_max, now.time, overflow));
            control.memory_is_full();
            return;
        }
        let kind = NoticeKind::MemoryLimit {
            bytes_max,
            keys: overflow.full_at,
            time: now.time,
            error_max: overflow.error,
            other_records: overflow.other,
            missing_max: overflow.missing,
        };
        self.notices.report(Notice::new("", kind));
    }
}
