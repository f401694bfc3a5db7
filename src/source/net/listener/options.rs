//! The options of a listening source.
//!
//! Promise: one list for every kind of listening source. Must not know: engine, split.

use std::net::IpAddr;
use std::time::Duration;

use crate::limits;

/// The options of a [`Listener`](super::Listener).
#[derive(Clone, Debug)]
pub(crate) struct ListenOptions {
    /// `None`: [`limits::CONNECTIONS_DEFAULT`], or what descriptors allow.
    pub(crate) connections_max: Option<usize>,
    /// Of one address. `None`: a share of all for an address of another machine, no limit for this
    /// one.
    pub(crate) connections_per_peer_max: Option<usize>,
    pub(crate) record_bytes_max: usize,
    pub(crate) held_bytes_max: usize,
    /// `None`: [`limits::IDLE_MS_DEFAULT`] for clients of other machines, no limit for this one.
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) drain_wait: Duration,
}

impl Default for ListenOptions {
    fn default() -> Self {
        ListenOptions {
            connections_max: None,
            connections_per_peer_max: None,
            record_bytes_max: limits::RECORD_BYTES_DEFAULT,
            held_bytes_max: limits::HELD_BYTES_DEFAULT,
            idle_timeout: None,
            drain_wait: Duration::from_millis(limits::DRAIN_WAIT_MS_DEFAULT),
        }
    }
}

impl ListenOptions {
    /// How long a client may be silent, if there is a limit for it.
    pub(crate) fn idle_timeout(&self) -> Duration {
        let default = Duration::from_millis(limits::IDLE_MS_DEFAULT);
        self.idle_timeout.unwrap_or(default)
    }

    /// Until when a client of `address` that sent something at `received_at` may be silent.
    pub(crate) fn silent_until(&self, address: Option<IpAddr>, received_at: Duration) -> Duration {
        if self.idle_timeout.is_none() && is_local(address) {
            return Duration::MAX;
        }
        received_at.saturating_add(self.idle_timeout())
    }
}

/// Returns `true` if a client of `address` is on this machine: it has no address, or a loopback
/// one.
pub(crate) fn is_local(address: Option<IpAddr>) -> bool {
    address.is_none_or(|address| address.to_canonical().is_loopback())
}

/// The methods that set the options of a source with a `listener`.
macro_rules! listening_options {
    () => {
        /// Sets how many clients may be connected at a time, at least one. Further clients are
        /// closed at once, with a notice, unless a connection that has ended is still being read:
        /// then they wait. The limit is lowered, with a notice, if the process may not have that
        /// many descriptors and some for other things. Default: 1024, or what descriptors allow.
        pub fn connections_max(mut self, connections: usize) -> Self {
            self.listener.options.connections_max = Some(connections.max(1));
            self
        }

        /// Sets the longest line in bytes, from 1. Longer ones are dropped, with a notice. Default:
        /// 16 MiB, as for all records.
        ///
        /// Where lines are only split into words by one rule, a longer line comes in pieces of
        /// whole words, and only a word that is itself longer is lost. Each piece is a record in
        /// the statistics.
        pub fn record_bytes_max(mut self, bytes: usize) -> Self {
            self.listener.options.record_bytes_max = bytes.max(1);
            self
        }

        /// Sets the memory for the unfinished lines of all clients, in bytes, at least one line.
        /// When it is full, the longest of them is dropped, with a notice, or comes in pieces like
        /// one that is too long. A client with short lines never pays for one that ends none.
        /// Default: 32 MiB.
        pub fn held_bytes_max(mut self, bytes: usize) -> Self {
            self.listener.options.held_bytes_max = bytes;
            self
        }

        /// Closes a client that has sent nothing for `silence`, at least 1 ms, with a notice. It
        /// may take a sixteenth longer. Its unfinished line is a line, as at a clean end: its bytes
        /// were received, and our side ended the connection. A client whose bytes wait to be read
        /// is not silent.
        ///
        /// [`Duration::MAX`](std::time::Duration::MAX) is no limit. Default: an hour for clients of
        /// other machines, whose idle connections would keep others out; no limit for Unix sockets
        /// and loopback addresses.
        pub fn idle_timeout(mut self, silence: std::time::Duration) -> Self {
            self.listener.options.idle_timeout =
                Some(silence.max(std::time::Duration::from_millis(1)));
            self
        }

        /// Sets how long a graceful stop waits for clients to end, after it ended its own side of
        /// their connections. Then they are closed, with a notice of how much they had sent that
        /// was not read. Default: a second.
        pub fn drain_wait(mut self, wait: std::time::Duration) -> Self {
            self.listener.options.drain_wait = wait;
            self
        }
    };
}
pub(crate) use listening_options;
