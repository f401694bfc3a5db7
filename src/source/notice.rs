//! What a source or the engine wants a person to know while it runs.
//!
//! Promise: a notice is one sentence, and nothing that came from outside is in it unescaped, names of
//! files included. Refuses to know: who shows it, and where.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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
    /// A connection was reset in the middle of a line.
    Truncated {
        /// The source's URL.
        source: String,
        /// Bytes of the partial line, which was dropped.
        bytes: u64,
    },
    /// A token was longer than the record limit and was not counted.
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
    /// The directories of a source are listed after they could not be.
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
                "connection to {source} was reset in the middle of a line: {bytes} bytes dropped"
            ),
            Notice::Oversize {
                source,
                record_bytes_max,
            } => write!(
                f,
                "token longer than {record_bytes_max} bytes from {source}: counted as oversize, not kept"
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
            Notice::Lost { source, reason } => {
                write!(f, "{source} is lost, the others go on: {reason}")
            }
            Notice::Unlisted { source, reason } => write!(f, "cannot list {source}: {reason}"),
            Notice::Listed { source } => write!(f, "listing {source}"),
            Notice::Unreadable { path, reason, .. } => {
                write!(f, "cannot read {path:?}: {reason}")
            }
            Notice::Message { source, message } => write!(f, "{source}: {message}"),
        }
    }
}

/// Where notices go. The library itself never prints.
#[derive(Clone)]
pub(crate) struct Notices(Arc<dyn Fn(&Notice) + Send + Sync>);

impl Notices {
    /// Gives notices to `handler`, which may be called from any thread of the engine.
    pub(crate) fn to(handler: impl Fn(&Notice) + Send + Sync + 'static) -> Self {
        Notices(Arc::new(handler))
    }

    /// Tells.
    pub(crate) fn tell(&self, notice: Notice) {
        (self.0)(&notice);
    }
}

impl Default for Notices {
    fn default() -> Self {
        Notices::to(|_| ())
    }
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notices")
    }
}
