//! A graceful stop of a listener.
//!
//! Promise: who has connected is taken in, and what has arrived is read, for a limited time; what is left unread
//! is in the statistics and reported. Must not know: how clients are read.

use std::net::Shutdown;
use std::time::Duration;

use super::{ACCEPTS_PER_CALL, Acceptor, Listener};
use crate::limits;
use crate::notice::NoticeKind;
use crate::source::net::connection_set::Unread;

/// A stop that goes on.
pub(super) struct Drain {
    /// Known from the first call.
    pub(super) until: Option<Duration>,
    /// Of what may be read.
    pub(super) bytes_left: usize,
    /// Why not everybody could be taken in who had connected.
    pub(super) unaccepted: Option<String>,
}

impl<D: Acceptor> Listener<D> {
    /// See [`Source::drain`](crate::Source::drain).
    pub(crate) fn drain(&mut self) -> usize {
        self.drain = Some(Drain {
            until: None,
            // The other half is for what is held of unfinished lines.
            bytes_left: limits::DRAIN_BYTES_MAX / 2,
            unaccepted: None,
        });
        // Who is in the queue of a listener has connected, and may have sent all it has to send.
        let waiting = self.doors.len() * limits::BACKLOG as usize;
        if let Err(cause) = self.collect() {
            self.failure = Some(cause);
        }
        // Where the system would give no connection it is asked once more.
        self.accept_again = self.accept_again.map(|_| Duration::ZERO);
        for _ in 0..=waiting / ACCEPTS_PER_CALL {
            self.accept(Duration::ZERO);
        }
        self.accept_again = None;
        self.held_back = None;
        self.doors.clear();
        let unaccepted = self
            .drain
            .as_mut()
            .and_then(|drain| drain.unaccepted.take());
        if let Some(reason) = unaccepted {
            self.tell(NoticeKind::Unserved { reason });
        }
        for guest in self.clients.connections() {
            // One that is gone is found out when it is read.
            let _ = D::shutdown(&guest.stream, Shutdown::Write);
        }
        limits::DRAIN_BYTES_MAX
    }

    /// In a graceful stop: ends who did not end in time.
    pub(super) fn end_in_time(&mut self, now: Duration) {
        let Some(drain) = &mut self.drain else {
            return;
        };
        let until = (drain.until).get_or_insert(now.saturating_add(self.options.drain_wait));
        if now >= *until || drain.bytes_left == 0 {
            // There is nothing more to wait for: they are closed as soon as it is asked for more.
            *until = now;
            self.cut_off();
        }
    }

    /// See [`Source::ended`](crate::Source::ended): a stop may have had no time for who was still connected.
    pub(crate) fn ended(&mut self) {
        if self.drain.is_some() {
            self.cut_off();
        }
    }

    /// Ends the connections there are. What clients had sent and nobody has read is lost.
    fn cut_off(&mut self) {
        if self.clients.count() == 0 {
            return;
        }
        let unread = self.clients.end(|guest| D::unread(&guest.stream));
        let Some(Unread { clients, bytes }) = unread else {
            return;
        };
        if let Some(port) = &self.port {
            port.lost(clients as u64, bytes);
        }
        self.tell(NoticeKind::Unfinished {
            clients: self.clients.count(),
            cut_off: clients,
            unread_bytes: bytes,
        });
    }
}
