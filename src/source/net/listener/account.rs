//! What becomes of the bytes of a listener's clients, and the look at clients whose edges were lost.
//!
//! Promise: from the sockets on every byte is in one column, which the ledger checks at each batch. Must not
//! know: who is connected, what bytes mean.

use std::time::Duration;

use super::{Acceptor, Listener};
use crate::ledger::Passage;
use crate::limits;
use crate::source::net::connection_set::Filled;

impl<D: Acceptor> Listener<D> {
    /// Once a second: edges may have been lost.
    pub(super) fn look_again(&mut self, now: Duration) {
        if now < self.look_at {
            return;
        }
        self.look_at = now.saturating_add(Duration::from_millis(limits::LOOK_AGAIN_MS));
        self.clients.look_again();
        self.doors.iter_mut().for_each(|door| door.1 = true);
    }

    /// Writes down what became of what was received. What is held follows from that, until it is asked.
    pub(super) fn account(&mut self, filled: Filled) {
        if let Filled::Bytes(count) = filled {
            self.filled_bytes += count as u64;
        }
        let Some(port) = &self.port else { return };
        let clients = self.clients.passage();
        port.account(|passage| {
            *passage = Passage {
                held_records: passage.held_records,
                lost_records: passage.lost_records,
                lost_bytes: passage.lost_bytes,
                refused_connections: self.refused_connections,
                ..clients
            };
            passage.held_bytes = passage.held_of(self.filled_bytes);
        });
    }

    /// A batch is about to be cut: what is held is what clients hold, which the ledger compares with the rest.
    pub(crate) fn batch_due(&mut self) {
        let Some(port) = &self.port else { return };
        let (held_records, held_bytes) = self.clients.held_now();
        port.account(|passage| {
            passage.refused_connections = self.refused_connections;
            passage.held_records = held_records;
            passage.held_bytes = held_bytes;
        });
    }
}
