//! What happens to clients of a listener, added up for notices.
//!
//! Promise: clients cannot cause more than one notice of a kind in some seconds, and the sums are
//! complete. Must not know: engine, split.

use std::time::Duration;

use crate::notice::Throttled;

/// One kind of thing that happens to clients again and again.
#[derive(Debug, Default)]
pub(super) struct Incident {
    sum: Throttled,
    peer: String,
    reason: String,
}

/// What is to be reported of an [`Incident`].
pub(super) struct IncidentSum {
    /// How often it happened.
    pub(super) times: u64,
    /// Bytes it cost.
    pub(super) bytes: u64,
    /// The last client it happened to.
    pub(super) peer: String,
    /// What the system reports about that one, for failures.
    pub(super) reason: String,
}

impl Incident {
    /// Adds that it happened to `peer` and cost `bytes`.
    pub(super) fn add(&mut self, peer: &str, bytes: u64) {
        self.sum.add(bytes);
        peer.clone_into(&mut self.peer);
    }

    /// As [`add`](Self::add), for a failure.
    pub(super) fn add_failure(&mut self, peer: &str, reason: String) {
        self.add(peer, 0);
        self.reason = reason;
    }

    /// Returns what happened since the last report, if it may be reported now.
    pub(super) fn take(&mut self, now: Duration) -> Option<IncidentSum> {
        let (times, bytes) = self.sum.take(now)?;
        Some(IncidentSum {
            times,
            bytes,
            peer: self.peer.clone(),
            reason: self.reason.clone(),
        })
    }
}

/// All kinds.
#[derive(Debug, Default)]
pub(super) struct Incidents {
    /// Refused: the limit of connections is reached.
    pub(super) refused: Incident,
    /// Refused: the limit of connections from one address is reached.
    pub(super) crowded: Incident,
    /// Failed in the middle of a line.
    pub(super) resets: Incident,
    /// Sent a line that is too long.
    pub(super) long: Incident,
    /// Closed because it was silent.
    pub(super) idle: Incident,
    /// Failed between two lines.
    pub(super) broken: Incident,
    /// Failed before it was accepted: the client is unknown.
    pub(super) aborted: Incident,
}

impl Incidents {
    /// When there is something to report.
    pub(super) fn due_at(&self) -> Option<Duration> {
        let all = [
            &self.refused,
            &self.crowded,
            &self.resets,
            &self.long,
            &self.idle,
            &self.broken,
            &self.aborted,
        ];
        all.iter()
            .filter_map(|incident| incident.sum.due_at())
            .min()
    }
}
