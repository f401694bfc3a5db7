//! What a source or the engine wants a person to know while it runs.
//!
//! Promise: a notice is one sentence, and nothing that came from outside is in it unescaped, names of
//! files included. Must not know: who shows it, and where.

mod handler;
mod looks_like;
#[cfg(test)]
mod tests;
mod throttled;
mod words;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use self::looks_like::LooksLike;
pub(crate) use crate::notice::handler::Notices;
pub(crate) use crate::notice::throttled::Throttled;
use crate::notice::words::{Count, are};
pub(crate) use crate::notice::words::{Others, url_of_path};
use crate::time::BatchTime;

/// Something a person may want to know while an engine runs. Nothing of it is an error of the run.
///
/// `Display` gives one sentence in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A source has no connection. Told once a change of state, not once an attempt.
    Waiting {
        /// The source's URL.
        source: String,
        /// What the last attempt ended with.
        reason: String,
        /// When the next attempt is made, from now.
        retry_in: Duration,
    },
    /// A source got its connection after it had to wait, or again.
    Connected {
        /// The source's URL.
        source: String,
    },
    /// What a source reads broke off in the middle of a line: a connection was reset, a file could not be read to its
    /// end, a graceful stop ended reading.
    Truncated {
        /// The source's URL.
        source: String,
        /// Bytes of the partial line, which was dropped.
        bytes: u64,
    },
    /// A token was longer than the record limit and was not counted. Told once a source; the statistics of every
    /// batch say how many there were.
    Oversize {
        /// The source's URL.
        source: String,
        /// The limit in bytes.
        record_bytes_max: usize,
    },
    /// A shard thread could not be pinned; it runs unpinned.
    Unpinned {
        /// Number of the shard, from 0.
        shard: usize,
    },
    /// Batches are processed later than the interval: said when it begins.
    Behind {
        /// The batch interval.
        interval: Duration,
        /// How late the batch was.
        delay: Duration,
    },
    /// There was no more memory for keys. Told once a run; the statistics of every batch say what it means
    /// for it.
    MemoryLimit {
        /// The limit in bytes.
        bytes_max: usize,
        /// Distinct keys that one of the tables held then, the one with the most.
        keys: u64,
        /// The batch in which it happened.
        time: BatchTime,
        /// How much the counts of that batch may be too high.
        error_max: u64,
        /// Records of that batch whose keys there was no room for.
        other_records: u64,
        /// How many of those the value of a key may lack, at most.
        missing_max: u64,
    },
    /// A source is over before its time while the run goes on. The error itself comes out of
    /// `await_termination`.
    Lost {
        /// The source's URL.
        source: String,
        /// What happened.
        reason: String,
    },
    /// The directories of a source cannot be listed, not all of them, or there are none. Told once a
    /// change of state; it is tried again for each batch.
    Unlisted {
        /// The source's name.
        source: String,
        /// Why not.
        reason: String,
    },
    /// The directories of a source are listed, and files in them waited for: reported at the start, and after they
    /// could not be listed.
    Listed {
        /// The source's name.
        source: String,
    },
    /// A file that belongs to a batch could not be read, or not to its end. Others are read all the
    /// same, and it is not tried again.
    Unreadable {
        /// The source's name.
        source: String,
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A file became shorter while it was read. What was read of it before is counted, except a line that was cut, and
    /// the run ends with an error unless it never ends.
    Shorter {
        /// The source's name.
        source: String,
        /// The file.
        path: PathBuf,
        /// Its bytes when that was noticed.
        bytes: u64,
    },
    /// Connections of a listening source were reset in the middle of a line: those since the last
    /// notice of it, more than one.
    Resets {
        /// The source's URL.
        source: String,
        /// How many.
        connections: u64,
        /// Bytes of their partial lines, which were dropped.
        bytes: u64,
    },
    /// Lines of clients, or words where lines are only split, were dropped up to their ends, because they are
    /// too long or there is no memory for more unfinished lines.
    LongLines {
        /// The source's URL.
        source: String,
        /// The client whose line was the last one.
        peer: String,
        /// Lines, or words, since the source began.
        lines: u64,
        /// Their bytes, as far as they have come.
        bytes: u64,
        /// The limit of a line in bytes.
        record_bytes_max: usize,
        /// They are words, of lines of which the others are counted.
        is_word: bool,
    },
    /// Clients were refused, because as many as may be are connected.
    Refused {
        /// The source's URL.
        source: String,
        /// The client that was refused last.
        peer: String,
        /// Clients refused since the last notice of it.
        clients: u64,
        /// How many may be connected.
        connections_max: usize,
        /// The limit of descriptors of the process, if it is the reason why there may not be more.
        descriptors: Option<usize>,
    },
    /// Clients were refused, because as many of their address as may be are connected.
    RefusedOfPeer {
        /// The source's URL.
        source: String,
        /// The client that was refused last.
        peer: String,
        /// Clients refused since the last notice of it, of whatever address.
        clients: u64,
        /// How many of one address may be connected.
        connections_per_peer_max: usize,
    },
    /// Clients were silent for too long, and their connections were closed.
    Idle {
        /// The source's URL.
        source: String,
        /// The client that was closed last.
        peer: String,
        /// Clients closed since the last notice of it.
        clients: u64,
        /// How long they may be silent.
        idle_timeout: Duration,
    },
    /// Connections of clients failed between two lines: whether more was to come nobody knows.
    Broken {
        /// The source's URL.
        source: String,
        /// The client whose connection failed last.
        peer: String,
        /// Connections that failed since the last notice of it.
        clients: u64,
        /// What the system says of the last one.
        reason: String,
    },
    /// A connection begins with what is no text of lines. It is counted as it comes, and never answered. Told
    /// once a source and kind.
    NotLines {
        /// The source's URL.
        source: String,
        /// The client, if it is one of many.
        peer: Option<String>,
        /// A guess.
        looks_like: LooksLike,
    },
    /// A file that is not decoded begins with what is no text of lines. It is counted as it is. Reported once a file.
    NotText {
        /// The source's name.
        source: String,
        /// The file.
        path: PathBuf,
        /// A guess.
        looks_like: LooksLike,
    },
    /// Clients cannot be accepted; they wait, and it is tried again all the time.
    Unaccepted {
        /// The source's URL.
        source: String,
        /// What the system says.
        reason: String,
    },
    /// Clients are accepted after they could not be.
    Accepted {
        /// The source's URL.
        source: String,
    },
    /// The limit of connections that was asked for cannot be met.
    Lowered {
        /// The source's URL.
        source: String,
        /// What was asked for.
        asked: usize,
        /// What it is now.
        connections_max: usize,
        /// The limit of descriptors of the process.
        descriptors: usize,
    },
    /// A source listens where others than the programs of this machine can reach it.
    Exposed {
        /// The source's URL.
        source: String,
        /// The address.
        address: SocketAddr,
    },
    /// A graceful stop did not wait any longer for clients to end.
    Unfinished {
        /// The source's URL.
        source: String,
        /// How many were connected still.
        clients: usize,
        /// How many of them had sent what was not read.
        cut_off: usize,
        /// Bytes of it that had arrived, at least.
        unread_bytes: u64,
    },
    /// A graceful stop came while clients could not be accepted: those that waited are not served.
    Unserved {
        /// The source's URL.
        source: String,
        /// What the system says.
        reason: String,
    },
    /// A graceful stop did not read everything that was there: its sender never pauses, or a followed file held more
    /// than a stop reads.
    Unread {
        /// The source's URL or name; of a followed file its path, escaped.
        source: String,
        /// Bytes that were there when reading stopped, if that is known.
        bytes: Option<u64>,
    },
    /// A source listens: whoever connects or sends from now on is heard. Reported once an address.
    Listening {
        /// The source's URL.
        source: String,
        /// The address with the port it has, or the URL where there is no address.
        address: String,
    },
    /// Datagrams could not be received.
    Unreceived {
        /// The source's URL.
        source: String,
        /// Calls that failed since the last notice.
        failures: u64,
        /// What the system says of the last one.
        reason: String,
    },
    /// Connections failed before they were accepted.
    Aborted {
        /// The source's URL.
        source: String,
        /// How many since the last notice.
        connections: u64,
        /// What the system says of the last one.
        reason: String,
    },
    /// The kernel dropped datagrams, because they came faster than they were read.
    DatagramsLost {
        /// The source's URL.
        source: String,
        /// How many, since the source began.
        datagrams: u64,
    },
    /// What a source of one's own has to say.
    Message {
        /// The source's name.
        source: String,
        /// A sentence in lower case, without a full stop. Shown as it is: a source that quotes what it
        /// received escapes it first.
        message: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Waiting {
                source,
                reason,
                retry_in,
            } => {
                let s = retry_in.as_secs_f64();
                write!(f, "waiting for {source}: {reason} (next try in {s} s)")
            }
            Notice::Connected { source } => write!(f, "connected to {source}"),
            Notice::Truncated { source, bytes } => write!(
                f,
                "{source}: broken off in the middle of a line; {} dropped",
                Count(*bytes, "byte")
            ),
            Notice::Oversize {
                source,
                record_bytes_max,
            } => write!(
                f,
                "token longer than {record_bytes_max} bytes from {source}: it is not counted, nor are others that are"
            ),
            Notice::Unpinned { shard } => {
                write!(
                    f,
                    "worker {shard} could not be pinned to a core and runs unpinned"
                )
            }
            Notice::Behind { interval, delay } => write!(
                f,
                "processing falls behind: a batch of {interval:?} began {delay:?} late; reading slows \
                 down, nothing is dropped"
            ),
            Notice::MemoryLimit {
                bytes_max,
                keys,
                time,
                error_max,
                other_records,
                missing_max,
            } => {
                let (size, ms) = (*bytes_max as f64 / f64::from(1 << 20), time.as_millis());
                write!(
                    f,
                    "memory limit {size:.1} MiB reached at {} in batch {ms} ms: ",
                    Count(*keys, "distinct key")
                )?;
                if *error_max > 0 || *other_records == 0 {
                    write!(f, "counts are too high by at most {error_max}")?;
                }
                if *other_records > 0 {
                    let (comma, are) =
                        (if *error_max > 0 { ", " } else { "" }, are(*other_records));
                    let records = Count(*other_records, "record");
                    write!(f, "{comma}{records} of new keys {are} not counted by key")?;
                    if *missing_max > 0 {
                        write!(
                            f,
                            ", the value of a key may lack {missing_max} of them at most"
                        )?;
                    }
                }
                f.write_str("; totals stay exact")
            }
            Notice::Lost { source, reason } => {
                write!(f, "{source} is lost, the others go on: {reason}")
            }
            Notice::Unlisted { source, reason } => write!(f, "cannot list {source}: {reason}"),
            Notice::Listed { source } => write!(f, "waiting for {source}"),
            Notice::Unreadable { path, reason, .. } => {
                write!(f, "cannot read {path:?}: {reason}")
            }
            Notice::Shorter { path, bytes, .. } => write!(
                f,
                "{path:?} became shorter while it was read: of what was behind its first {}, only what had \
                 been read before is counted",
                Count(*bytes, "byte")
            ),
            Notice::Resets {
                source,
                connections,
                bytes,
            } => write!(
                f,
                "{} to {source} were reset in the middle of a line: {} dropped",
                Count(*connections, "connection"),
                Count(*bytes, "byte")
            ),
            Notice::LongLines {
                source,
                peer,
                lines,
                bytes,
                record_bytes_max,
                is_word,
            } => {
                let what = if *is_word { "word" } else { "line" };
                write!(
                    f,
                    "{what} longer than {record_bytes_max} bytes, or than there is memory for, from {peer} on \
                     {source}: dropped ({} and {} so far)",
                    Count(*lines, what),
                    Count(*bytes, "byte")
                )
            }
            Notice::Refused {
                source,
                peer,
                clients,
                connections_max,
                descriptors,
            } => {
                write!(
                    f,
                    "{} of {source}, ",
                    Count(*connections_max as u64, "client")
                )?;
                match descriptors {
                    None => f.write_str("which is the limit")?,
                    Some(descriptors) => write!(
                        f,
                        "which is all that the limit of {} allows (raise ulimit -n)",
                        Count(*descriptors as u64, "open file")
                    )?,
                }
                write!(f, ": refused {peer}{}", Others(*clients))
            }
            Notice::RefusedOfPeer {
                source,
                peer,
                clients,
                connections_per_peer_max,
            } => write!(
                f,
                "{} of {source} from one address, which is the limit: refused {peer}{}",
                Count(*connections_per_peer_max as u64, "client"),
                Others(*clients)
            ),
            Notice::Idle {
                source,
                peer,
                clients,
                idle_timeout,
            } => write!(
                f,
                "nothing came for {idle_timeout:?} on {source}: closed {peer}{}",
                Others(*clients)
            ),
            Notice::Broken {
                source,
                peer,
                clients,
                reason,
            } => write!(
                f,
                "{source}: connection of {peer}{} failed between two lines: {reason}; what had arrived is \
                 counted",
                Others(*clients)
            ),
            Notice::NotLines {
                source,
                peer,
                looks_like,
            } => {
                match peer {
                    Some(peer) => write!(f, "what {peer} sends to {source}")?,
                    None => write!(f, "what {source} sends")?,
                }
                write!(
                    f,
                    " looks like {looks_like}, not like lines of text: it is counted as it comes, and \
                     nothing is answered"
                )
            }
            Notice::NotText {
                path, looks_like, ..
            } => write!(
                f,
                "{path:?}: looks like {looks_like}, not like lines of text; its bytes are counted as they are"
            ),
            Notice::Unaccepted { source, reason } => {
                write!(f, "new clients of {source} have to wait: {reason}")
            }
            Notice::Accepted { source } => write!(f, "new clients of {source} are accepted again"),
            Notice::Lowered {
                source,
                asked,
                connections_max,
                descriptors,
            } => write!(
                f,
                "{} of {source} {} more than the limit of {} allows: {connections_max} (raise ulimit -n)",
                Count(*asked as u64, "client"),
                are(*asked as u64),
                Count(*descriptors as u64, "open file")
            ),
            Notice::Exposed { source, address } => write!(
                f,
                "{source} listens on {address}: whoever can reach it can send, nobody is asked who he is"
            ),
            Notice::Unfinished {
                source,
                clients,
                cut_off,
                unread_bytes,
            } => {
                let (was_told, sends) = match clients {
                    1 => ("it was told", "it sends"),
                    _ => ("they were told", "they send"),
                };
                write!(
                    f,
                    "{} of {source} did not end when {was_told} to: what {sends} now is not counted",
                    Count(*clients as u64, "client")
                )?;
                match (clients, cut_off) {
                    (_, 0) => return Ok(()),
                    (1, _) => f.write_str(", nor is what it had sent and was not read")?,
                    _ => write!(
                        f,
                        ", nor is what {cut_off} of them had sent and was not read"
                    )?,
                }
                write!(f, " ({})", Count(*unread_bytes, "byte"))
            }
            Notice::Unserved { source, reason } => write!(
                f,
                "{source}: clients that wait are not accepted any more: {reason}; what they sent is not \
                 counted"
            ),
            Notice::Unread { source, bytes } => match bytes {
                Some(1) => write!(f, "{source}: stopped with 1 byte unread; it is not counted"),
                Some(bytes) => write!(
                    f,
                    "{source}: stopped with {bytes} bytes unread; they are not counted"
                ),
                None => write!(
                    f,
                    "{source}: stopped with some bytes unread; they are not counted"
                ),
            },
            Notice::Listening { address, .. } => write!(f, "listening on {address}"),
            Notice::DatagramsLost { source, datagrams } => write!(
                f,
                "the kernel dropped {} for {source} so far: they came faster than they were read",
                Count(*datagrams, "datagram")
            ),
            Notice::Unreceived {
                source,
                failures,
                reason,
            } => write!(
                f,
                "{source}: receiving failed {}: {reason}; trying again",
                Count(*failures, "time")
            ),
            Notice::Aborted {
                source,
                connections,
                reason,
            } => write!(
                f,
                "{source}: {} failed before {} accepted: {reason}; what had arrived is not counted",
                Count(*connections, "connection"),
                if *connections == 1 {
                    "it was"
                } else {
                    "they were"
                }
            ),
            Notice::Message { source, message } => write!(f, "{source}: {message}"),
        }
    }
}
