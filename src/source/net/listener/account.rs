//! What becomes of the bytes of a listener's clients, and the check on clients whose edges were
//! lost.
//!
//! Promise: from the sockets on every byte is in one column, which the ledger checks at each batch.
//! Must not know: engine, split.

use std::time::Duration;

use super::{Acceptor, Listener};
use crate::limits;
use crate::source::net::connection_set::FillOutcome;

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

    /// Records what became of what was received. What is carried follows from that until a batch is
    /// due.
    pub(super) fn account(&mut self, outcome: FillOutcome) {
        if let FillOutcome::Bytes(count) = outcome {
            self.filled_bytes += count as u64;
        }
        let mut clients = self.clients.passage();
        self.port.account(|passage| {
            clients.carried_records = passage.carried_records;
            clients.totals.lost_records = passage.totals.lost_records;
            clients.totals.lost_bytes = passage.totals.lost_bytes;
            clients.totals.refused_connections = self.refused_connections;
            clients.totals.bytes_carried = clients.carried_of(self.filled_bytes);
            *passage = clients;
        });
    }

    /// Counts what clients hold, before a batch is cut: the ledger compares it with the rest.
    pub(super) fn account_held(&mut self) {
        let (records, bytes) = self.clients.held_now();
        self.port.account(|passage| {
            passage.carried_records = records;
            passage.totals.bytes_carried = bytes;
            passage.totals.refused_connections = self.refused_connections;
        });
    }
}
