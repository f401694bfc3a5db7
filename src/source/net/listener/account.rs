//! The check on clients whose edges were lost.
//!
//! Must not know: engine, split.

use std::time::Duration;

use super::{Acceptor, Listener};
use crate::limits;

impl<A: Acceptor> Listener<A> {
    /// Once a second: edges may have been lost.
    pub(super) fn check_again(&mut self, now: Duration) {
        if now < self.check_at {
            return;
        }
        self.check_at = now.saturating_add(Duration::from_millis(limits::LOOK_AGAIN_MS));
        self.clients.check_again();
        self.acceptors
            .iter_mut()
            .for_each(|(_, ready)| *ready = true);
    }
}
