//! What a source or the engine reports to a person while it runs.
//!
//! Promise: a notice is one line, and nothing from outside is in it unescaped, file names included.
//! Must not know: sink, engine, stream.

mod handler;
mod looks_like;
#[cfg(test)]
mod tests;
mod texts;
mod throttled;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use self::looks_like::LooksLike;
#[cfg(test)]
pub(crate) use crate::notice::handler::NoticeTexts;
pub(crate) use crate::notice::handler::Notices;
pub(crate) use crate::notice::texts::{Others, url_of_path};
pub(crate) use crate::notice::throttled::Throttled;
use crate::time::BatchTime;

/// Something a person may want to know while an engine runs. None is an error of the run.
///
/// `Display` writes one line in lower case, without a full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notice {
    /// The URL or name of the source or sink it is about. For a followed file it is the path,
    /// escaped. Empty if it is about the engine.
    pub source: String,
    /// What happened.
    pub kind: NoticeKind,
}

impl Notice {
    /// A notice about `source`.
    pub(crate) fn new(source: impl Into<String>, kind: NoticeKind) -> Self {
        let source = source.into();
        Notice { source, kind }
    }
}

/// What a [`Notice`] reports.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoticeKind {
    /// The source has no connection. Reported when the reason changes, not at each attempt.
    Waiting {
        /// Why the last attempt or connection ended.
        reason: String,
        /// Time until the next attempt.
        retry_in: Duration,
    },
    /// The source is connected after it had to wait, or again.
    Connected,
    /// Input was cut off in the middle of a line: a connection was reset, a file could not be read
    /// to its end, or a graceful stop ended reading.
    Truncated {
        /// Bytes of the partial line, which was dropped.
        bytes: u64,
    },
    /// A token was longer than the record limit and was not counted. Reported once per source; the
    /// statistics of each batch have the number.
    Oversize {
        /// The limit in bytes.
        record_bytes_max: usize,
    },
    /// A shard thread could not be pinned to a core; it runs unpinned.
    Unpinned {
        /// Number of the shard, from 0.
        shard: usize,
    },
    /// Batches take longer than the interval. Reported when it begins.
    Behind {
        /// The batch interval.
        interval: Duration,
        /// How late the batch was.
        delay: Duration,
    },
    /// The memory for keys is full. Reported once per run; the statistics of each batch have the
    /// consequences.
    MemoryLimit {
        /// The limit in bytes.
        bytes_max: usize,
        /// Distinct keys in the largest table at that moment.
        keys: u64,
        /// The batch in which it happened.
        time: BatchTime,
        /// How much the counts of that batch may be too high.
        error_max: u64,
        /// Records of that batch whose keys found no room.
        other_records: u64,
        /// How many of those the value of one key may lack, at most.
        missing_max: u64,
    },
    /// The source failed while others continue. `await_termination` returns the error itself.
    Lost {
        /// What happened.
        reason: String,
    },
    /// Some directories of the source cannot be listed, or none exists. Reported when the reason
    /// changes; each batch tries again.
    Unlisted {
        /// What the system reports.
        reason: String,
    },
    /// The directories of the source are listed, and the source waits for files in them. Reported
    /// at the start, and after they could not be listed.
    Listed,
    /// A file of a batch could not be read, or not to its end. The others are read, and this one is
    /// not tried again.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system reports.
        reason: String,
        /// What kind of error that is; [`QuotaExceeded`](std::io::ErrorKind::QuotaExceeded) as in
        /// [`Error::cause`](crate::Error::cause).
        cause: std::io::ErrorKind,
    },
    /// A file became shorter while it was read. What had been read is counted, except a line that
    /// was cut, and the run ends with an error unless it is endless.
    Shorter {
        /// The file.
        path: PathBuf,
        /// Its bytes when that was noticed.
        bytes: u64,
    },
    /// Connections of clients failed in the middle of a line.
    Resets {
        /// The client whose connection failed last.
        peer: String,
        /// Connections that failed since the last notice.
        clients: u64,
        /// Bytes of their partial lines, which were dropped.
        bytes: u64,
    },
    /// Lines of clients were dropped because they are too long, or because the memory for
    /// unfinished lines is full. Where lines are only split into words, it is words that were
    /// dropped.
    LongLines {
        /// The client that sent the last one.
        peer: String,
        /// Lines, or words, since the source started.
        lines: u64,
        /// Their bytes received so far.
        bytes: u64,
        /// The limit of a line in bytes.
        record_bytes_max: usize,
        /// `true` for words; the rest of their lines is counted.
        is_word: bool,
    },
    /// Clients were refused because the limit of connections is reached.
    Refused {
        /// The last client refused.
        peer: String,
        /// Clients refused since the last notice.
        clients: u64,
        /// The limit of connections.
        connections_max: usize,
        /// The limit of open files of the process, if it lowered `connections_max`.
        descriptors: Option<usize>,
    },
    /// Clients were refused because the limit of connections from one address is reached.
    RefusedOfPeer {
        /// The last client refused.
        peer: String,
        /// Clients refused since the last notice, whatever their addresses.
        clients: u64,
        /// The limit of connections from one address.
        connections_per_peer_max: usize,
    },
    /// Connections of silent clients were closed.
    Idle {
        /// The last client closed.
        peer: String,
        /// Clients closed since the last notice.
        clients: u64,
        /// How long a client may be silent.
        idle_timeout: Duration,
    },
    /// Connections of clients failed between two lines, so more may have been to come.
    Broken {
        /// The client whose connection failed last.
        peer: String,
        /// Connections that failed since the last notice.
        clients: u64,
        /// What the system reports about the last one.
        reason: String,
    },
    /// A connection begins with data that is not lines of text. It is counted as received and never
    /// answered. Reported once per source and kind of data.
    NotLines {
        /// The client, if the source has many.
        peer: Option<String>,
        /// A guess.
        looks_like: LooksLike,
    },
    /// A file that is not decoded begins with data that is not lines of text. It is counted as it
    /// is. Reported once per file.
    NotText {
        /// The file.
        path: PathBuf,
        /// A guess.
        looks_like: LooksLike,
    },
    /// Clients cannot be accepted. They wait, and the source keeps trying.
    Unaccepted {
        /// What the system reports.
        reason: String,
    },
    /// Clients are accepted again.
    Accepted,
    /// The requested limit of connections is too high for the process.
    Lowered {
        /// The requested limit.
        asked: usize,
        /// The limit now.
        connections_max: usize,
        /// The limit of open files of the process.
        descriptors: usize,
    },
    /// The source listens where other machines can reach it.
    Exposed {
        /// The address.
        address: SocketAddr,
    },
    /// A graceful stop closed clients that did not disconnect in time.
    Unfinished {
        /// Clients still connected.
        clients: usize,
        /// How many of them had sent data that was not read.
        cut_off: usize,
        /// Bytes of that data, at least.
        unread_bytes: u64,
    },
    /// A graceful stop came while clients could not be accepted: those that waited are not served.
    Unserved {
        /// What the system reports.
        reason: String,
    },
    /// A graceful stop left data unread: its sender never pauses, or a followed file held more than
    /// a stop reads.
    Unread {
        /// Bytes left when reading stopped, if known.
        bytes: Option<u64>,
    },
    /// The source listens: whatever connects or sends from now on is read. Reported once per
    /// address.
    Listening {
        /// The address with its port, or the URL where there is no address.
        address: String,
    },
    /// Datagrams could not be received.
    Unreceived {
        /// Calls that failed since the last notice.
        failures: u64,
        /// What the system reports about the last one.
        reason: String,
    },
    /// Connections failed before they were accepted.
    Aborted {
        /// Connections since the last notice.
        connections: u64,
        /// What the system reports about the last one.
        reason: String,
    },
    /// The kernel dropped datagrams because they came faster than they were read.
    DatagramsLost {
        /// Datagrams since the source started.
        datagrams: u64,
    },
    /// A sink has not delivered a batch and asked for a retry; later batches wait. Reported when it
    /// begins.
    Undelivered {
        /// Why.
        reason: String,
        /// Time until the next attempt.
        retry_in: Duration,
    },
    /// The sink delivers batches again.
    Delivering,
    /// The run ended before the sink had delivered these batches.
    NotDelivered {
        /// Their number.
        batches: u64,
        /// The first of them.
        first: BatchTime,
        /// The last of them.
        last: BatchTime,
    },
    /// A message of a source: a phrase in lower case, without a full stop. It is shown as it is, so
    /// a source that quotes what it received escapes it first.
    Message(String),
}

/// Names each kind, once.
macro_rules! kind_names {
    ($($kind:ident => $name:literal,)+) => {
        impl NoticeKind {
            /// The names of all kinds.
            pub(crate) const NAMES: &[&str] = &[$($name),+];

            /// Its name, as the metric `notices_total` has it.
            ///
            /// ```
            /// assert_eq!(microtally::notice::NoticeKind::Connected.name(), "connected");
            /// ```
            pub fn name(&self) -> &'static str {
                match self {
                    $(NoticeKind::$kind { .. } => $name,)+
                }
            }
        }
    };
}

kind_names! {
    Waiting => "waiting",
    Connected => "connected",
    Truncated => "truncated",
    Oversize => "oversize",
    Unpinned => "unpinned",
    Behind => "behind",
    MemoryLimit => "memory_limit",
    Lost => "lost",
    Unlisted => "unlisted",
    Listed => "listed",
    Unreadable => "unreadable",
    Shorter => "shorter",
    Resets => "resets",
    LongLines => "long_lines",
    Refused => "refused",
    RefusedOfPeer => "refused_of_peer",
    Idle => "idle",
    Broken => "broken",
    NotLines => "not_lines",
    NotText => "not_text",
    Unaccepted => "unaccepted",
    Accepted => "accepted",
    Lowered => "lowered",
    Exposed => "exposed",
    Unfinished => "unfinished",
    Unserved => "unserved",
    Unread => "unread",
    Listening => "listening",
    Unreceived => "unreceived",
    Aborted => "aborted",
    DatagramsLost => "datagrams_lost",
    Undelivered => "undelivered",
    Delivering => "delivering",
    NotDelivered => "not_delivered",
    Message => "message",
}
