//! What may be chosen for a listening source.
//!
//! Promise: one list for every kind of listening source. Refuses to know: what is done with it.

use std::time::Duration;

use crate::limits;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// `None`: [`limits::CONNECTIONS_DEFAULT`], or what descriptors allow.
    pub(crate) connections_max: Option<usize>,
    /// Of one address; `None`: as many as there may be of all.
    pub(crate) connections_per_peer_max: Option<usize>,
    pub(crate) record_bytes_max: usize,
    pub(crate) held_bytes_max: usize,
    /// `None`: whoever is silent may stay.
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

/// The methods that choose the options of a source with a `listen`.
macro_rules! listening_options {
    () => {
        /// How many clients may be connected at a time, at least one; others are ended at once. Lowered, with
        /// a notice, if the process may not have that many descriptors and 64 for other things. Without it,
        /// 1024 or as many as there can be.
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

        /// Memory for the unfinished lines of all clients, in bytes, at least that of one line: a line for
        /// which there is none is dropped, with a notice, or comes in pieces as one that is too long. Without
        /// it 32 MiB.
        pub fn held_bytes_max(mut self, bytes: usize) -> Self {
            self.listen.options.held_bytes_max = bytes;
            self
        }

        /// Closes the connection of a client that has sent nothing for that long, at least 1 ms, within a
        /// sixteenth of the time more, with a notice. Its unfinished line is a line, as at a clean end: its
        /// bytes were received, and it is we who ended the connection. A client whose bytes wait to be read
        /// is not silent, however late we are. Without it nobody is closed for silence: streams may be idle.
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
