//! What sources are informed of when batches were delivered.
//!
//! Must not know: sinks, what a position means.

use super::ReactorCore;
use crate::error::guarded;

impl ReactorCore {
    /// Informs sources of what was delivered. Returns `true` if they will be informed of more.
    pub(super) fn commit(&mut self) -> bool {
        // Asked first: what was delivered before the failure is committed.
        let has_failed = self.control.has_failed_batch();
        let is_waiting = self.commit_delivered();
        if has_failed && is_waiting {
            self.router.close_commits();
        }
        is_waiting && !has_failed
    }

    fn commit_delivered(&mut self) -> bool {
        let (slots, mut panics) = (&mut self.slots, Vec::new());
        let is_waiting = self.router.commit(|index, positions| {
            let slot = &mut slots[index];
            if slot.has_panicked {
                return;
            }
            if let Err(panic) = guarded(|| slot.source.committed(positions)) {
                slot.has_panicked = true;
                panics.push((index, panic));
            }
        });
        for (index, panic) in panics {
            self.lose_to_panic(index, panic.as_ref());
        }
        is_waiting
    }

    /// Returns `true` while the last batches of sources that have positions may still be delivered.
    pub(super) fn waits_for_delivery(&mut self) -> bool {
        // Asked first: what was delivered before nothing more is published is seen then.
        let is_stopped = self.control.is_stopped();
        self.commit() && !is_stopped
    }
}
