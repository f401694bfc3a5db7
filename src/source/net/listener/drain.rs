//! A graceful stop of a listener.
//!
//! Promise: clients that have connected are accepted, and what has arrived is read, for a limited
//! time; what is left unread is in the statistics and reported.
//! Must not know: engine, split.

use std::time::Duration;

use super::{ACCEPTS_PER_CALL, Acceptor, Listener};
use crate::limits;
use crate::notice::NoticeKind;
use crate::source::net::connection_set::UnreadData;
use crate::source::net::socket::StreamSocket;

/// A stop in progress.
pub(super) struct Drain {
    /// Known from the first call.
    pub(super) until: Option<Duration>,
    /// How many bytes may still be read.
    pub(super) bytes_left: usize,
    /// Why some clients that had connected could not be accepted.
    pub(super) unaccepted: Option<String>,
}

impl<A: Acceptor> Listener<A> {
    /// Accepts who has connected, stops listening, and ends our side of every connection.
    pub(super) fn begin_drain(&mut self) {
        self.drain = Some(Drain {
            until: None,
            // The other half is for what is held of unfinished lines.
            bytes_left: limits::DRAIN_BYTES_MAX / 2,
            unaccepted: None,
        });
        // Clients in the queue of a listener have connected, and may have sent all they have to
        // send.
        let waiting = self.acceptors.len() * limits::BACKLOG as usize;
        if let Err(cause) = self.collect() {
            self.failure = Some(cause);
        }
        // If the system refused a connection before, it is asked once more.
        self.accept_again = self.accept_again.map(|_| Duration::ZERO);
        for _ in 0..=waiting / ACCEPTS_PER_CALL {
            self.accept(Duration::ZERO);
        }
        self.accept_again = None;
        self.held_back = None;
        self.acceptors.clear();
        if let Some(drain) = &mut self.drain
            && let Some(reason) = drain.unaccepted.take()
        {
            self.port.report(NoticeKind::Unserved { reason });
        }
        for client in self.clients.connections() {
            // If its connection is gone, the next read finds out.
            let _ = client.stream.end_writing();
        }
    }

    /// In a graceful stop, closes the clients that did not end in time.
    pub(super) fn end_in_time(&mut self, now: Duration) {
        let Some(drain) = &mut self.drain else {
            return;
        };
        let until = (drain.until).get_or_insert(now.saturating_add(self.options.drain_wait));
        if now >= *until || drain.bytes_left == 0 {
            // There is nothing left to wait for: they are closed in the next call.
            *until = now;
            self.cut_off();
        }
    }

    /// Closes all connections. What clients had sent and was not read is lost.
    pub(super) fn cut_off(&mut self) {
        if self.clients.count() == 0 {
            return;
        }
        let unread = self.clients.end(|client| client.stream.unread());
        let Some(UnreadData { clients, bytes }) = unread else {
            return;
        };
        self.port.lost(clients as u64, bytes);
        self.port.report(NoticeKind::Unfinished {
            clients: self.clients.count(),
            cut_off: clients,
            unread_bytes: bytes,
        });
    }
}
