//! What may be chosen for a listening source.
//!
//! Promise: one list for every kind of listening source. Must not know: what is done with it.

use std::net::IpAddr;
use std::time::Duration;

use crate::limits;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// `None`: [`limits::CONNECTIONS_DEFAULT`], or what descriptors allow.
    pub(crate) connections_max: Option<usize>,
    /// Of one address; `None`: a share of all for an address of another machine, for this one no limit.
    pub(crate) connections_per_peer_max: Option<usize>,
    pub(crate) record_bytes_max: usize,
    pub(crate) held_bytes_max: usize,
    /// `None`: [`limits::IDLE_MS_DEFAULT`] for who is on another machine, on this one for ever.
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) drain_wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            connections_max: None,
            connections_per_peer_max: None,
            record_bytes_max: limits::RECORD_BYTES_DEFAULT,
            held_bytes_max: limits::HELD_BYTES_DEFAULT,
            idle_timeout: None,
            drain_wait: Duration::from_millis(limits::DRAIN_WAIT_MS_DEFAULT),
        }
    }
}

impl Options {
    /// How long a client may be silent for which there is a limit.
    pub(crate) fn idle_timeout(&self) -> Duration {
        let default = Duration::from_millis(limits::IDLE_MS_DEFAULT);
        self.idle_timeout.unwrap_or(default)
    }

    /// How long a client of this address may be silent that was heard at that time.
    pub(crate) fn silent_until(&self, address: Option<IpAddr>, heard_at: Duration) -> Duration {
        if self.idle_timeout.is_none() && is_local(address) {
            return Duration::MAX;
        }
        heard_at.saturating_add(self.idle_timeout())
    }
}

/// Whether a client of this address is on this machine: it has no address, or one of the loopback network.
pub(crate) fn is_local(address: Option<IpAddr>) -> bool {
    address.is_none_or(|address| address.to_canonical().is_loopback())
}

/// The methods that choose the options of a source with a `listen`.
macro_rules! listening_options {
    () => {
        /// How many clients may be connected at a time, at least one. Others are ended at once, with a notice;
        /// they wait instead while somebody who has ended is not read to the end yet. Lowered, with a notice,
        /// if the process may not have that many descriptors and some for other things. Without it, 1024 or
        /// as many as there can be.
        pub fn connections_max(mut self, connections: usize) -> Self {
            self.listen.options.connections_max = Some(connections.max(1));
            self
        }

        /// The longest line in bytes, from 1; longer ones are dropped, with a notice. Without it 16 MiB, as
        /// for all records.
        ///
        /// Where nothing is made of lines but words, counted by one rule, a longer line comes in pieces, each
        /// of whole words, and nothing is lost but a word that is itself longer. Each piece is a record in
        /// the statistics.
        pub fn record_bytes_max(mut self, bytes: usize) -> Self {
            self.listen.options.record_bytes_max = bytes.max(1);
            self
        }

        /// Memory for the unfinished lines of all clients, in bytes, at least that of one line. When there is
        /// no more, the longest of them is dropped, with a notice, or comes in pieces as one that is too long:
        /// a client whose lines are short never pays for one that ends none. Without it 32 MiB.
        pub fn held_bytes_max(mut self, bytes: usize) -> Self {
            self.listen.options.held_bytes_max = bytes;
            self
        }

        /// Closes the connection of a client that has sent nothing for that long, at least 1 ms, within a
        /// sixteenth of the time more, with a notice. Its unfinished line is a line, as at a clean end: its
        /// bytes were received, and it is we who ended the connection. A client whose bytes wait to be read
        /// is not silent, however late we are. [`Duration::MAX`] is no limit. Without it an hour for clients of
        /// other machines, whose idle connections would keep others out, and no limit for those of this one:
        /// of Unix sockets and loopback addresses.
        pub fn idle_timeout(mut self, silence: Duration) -> Self {
            self.listen.options.idle_timeout = Some(silence.max(Duration::from_millis(1)));
            self
        }

        /// How long a graceful stop waits for clients to end after it ended its own side of their connections.
        /// Without it a second. Who has not ended then is closed, with a notice that says how many had sent
        /// what was not read.
        pub fn drain_wait(mut self, wait: Duration) -> Self {
            self.listen.options.drain_wait = wait;
            self
        }
    };
}
pub(crate) use listening_options;
