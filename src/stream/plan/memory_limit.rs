//! The memory limit of an operator that keeps tables beyond a batch.
//!
//! Promise: an operator that loses keys, though its batches lost none, reports it once, and the run
//! ends if that was asked for.
//! Must not know: `ops`, `lower`, `window`.

use crate::batch::BatchStats;
use crate::config::OnLimit;
use crate::epoch::merge::limit_reached;
use crate::notice::{Notice, NoticeKind, Notices};
use crate::stream::plan::graph::{BatchContext, StartContext};
use crate::table::bound::Overflow;

/// Reports that an operator reached the memory limit.
pub(crate) struct MemoryLimit {
    /// The limit in bytes, and what happens when it is reached.
    limit: Option<(usize, OnLimit)>,
    notices: Notices,
    is_reported: bool,
}

impl MemoryLimit {
    pub(crate) fn new(limit: Option<(usize, OnLimit)>) -> Self {
        MemoryLimit {
            limit,
            notices: Notices::default(),
            is_reported: false,
        }
    }

    /// The context starts.
    pub(crate) fn start(&mut self, context: &StartContext<'_>) {
        self.notices = context.notices.clone();
    }

    /// Adds a batch. What it lacks itself was reported with it, and everything it is part of lacks
    /// it too.
    pub(crate) fn enter(&mut self, batch: &BatchStats) {
        self.is_reported |= batch.is_approximate();
    }

    /// Reports that the operator's tables lack `overflow`, unless that was reported before.
    pub(crate) fn report(&mut self, now: &BatchContext<'_, '_>, overflow: Overflow) {
        let Some((bytes_max, on_limit)) = self.limit else {
            return;
        };
        if overflow.is_none() || std::mem::replace(&mut self.is_reported, true) {
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
