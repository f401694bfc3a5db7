//! What happens to clients of a listener, and the sums in which it is reported.
//!
//! Promise: clients cannot make more notices than one of a kind in some seconds, and nothing is left out of the
//! sums. Must not know: connections, the clock.

use std::time::Duration;

use crate::notice::Throttled;

/// Something that happens to clients again and again.
#[derive(Debug, Default)]
pub(super) struct Incident {
    untold: Throttled,
    /// The client to which it happened last.
    peer: String,
}

/// What is to be reported of it.
pub(super) struct Sum {
    /// How often.
    pub(super) times: u64,
    /// What it cost.
    pub(super) bytes: u64,
    /// The client to which it happened last.
    pub(super) peer: String,
}

impl Incident {
    /// It happened to `peer`, and cost so many bytes.
    pub(super) fn add(&mut self, peer: &str, bytes: u64) {
        self.untold.add(bytes);
        peer.clone_into(&mut self.peer);
    }

    /// What happened since the last report, if it is time for another one.
    pub(super) fn take(&mut self, now: Duration) -> Option<Sum> {
        let (times, bytes) = self.untold.take(now)?;
        Some(Sum {
            times,
            bytes,
            peer: self.peer.clone(),
        })
    }
}

/// Every kind of them.
#[derive(Debug, Default)]
pub(super) struct Incidents {
    /// As many clients as may be were connected.
    pub(super) refused: Incident,
    /// As many of one address.
    pub(super) crowded: Incident,
    /// Connections that were reset in the middle of a line.
    pub(super) resets: Incident,
    /// Lines that were too long.
    pub(super) long: Incident,
    /// Clients that were silent.
    pub(super) idle: Incident,
    /// Connections that failed between two lines.
    pub(super) failed: Incident,
    /// What the system says of the last one.
    pub(super) failed_cause: String,
    /// Connections that failed before they were accepted: who it was is not known.
    pub(super) aborted: Throttled,
    /// What the system says of the last one.
    pub(super) aborted_cause: String,
}

impl Incidents {
    /// When there is something to report.
    pub(super) fn due_at(&self) -> Option<Duration> {
        let kinds = [
            &self.refused,
            &self.crowded,
            &self.resets,
            &self.long,
            &self.idle,
            &self.failed,
        ];
        let due = kinds.iter().filter_map(|incident| incident.untold.due_at());
        due.chain(self.aborted.due_at()).min()
    }
}
