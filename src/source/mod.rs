//! Bytes in.
//!
//! Promise: a source fills the memory it is given and says how it wants to be woken. Refuses to know:
//! rings, records, separators, epochs.
//!
//! `feed` is the only bridge from a source to a ring, and the only code that cuts at record ends. Every
//! other file is one kind of source: `tcp_client`, `input` (standard input, files, pipes).

pub(crate) mod feed;
pub(crate) mod input;
pub(crate) mod tcp_client;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;

/// One kind of source, driven by the reactor.
///
/// A source is called at its start, when the operating system signals readiness for its token, and at
/// the time it asked for. Time comes in as an argument.
pub(crate) trait Source: Send {
    /// Called once, before the first `fill`, on the reactor thread.
    fn start(&mut self, port: Port);

    /// Reads into `buf`, which is not empty.
    fn fill(&mut self, buf: &mut [u8], now: Duration) -> Fill;

    /// A graceful stop: no new connections. `fill` is called until it gives anything but bytes, so that
    /// what the kernel still holds is read. Gives the number of bytes that may be, zero when nothing is
    /// connected.
    fn drain(&mut self) -> usize;

    /// What to call the source in messages: its URL.
    fn name(&self) -> &str;
}

/// What a call of [`Source::fill`] did.
#[derive(Debug)]
pub(crate) enum Fill {
    /// That many bytes, at least one, were put at the front of the buffer. Call again.
    Bytes(usize),
    /// Nothing now. Call again on readiness, or at the given time if there is one.
    Pending(Option<Duration>),
    /// The connection is over; the next bytes begin a new line. Call again.
    ///
    /// `clean`: an unterminated last line is a record. Not clean: it is dropped and reported.
    Break { clean: bool },
    /// There will never be more.
    End,
    /// The source could not be opened or was lost for good.
    Failed(Error),
}

/// What the reactor lends a source: its registration with the operating system's event queue, and a
/// way to tell people something.
pub(crate) struct Port {
    /// Absent in tests that simulate readiness.
    pub(crate) registry: Option<mio::Registry>,
    pub(crate) token: mio::Token,
    /// Makes the reactor call `fill`, from any thread.
    pub(crate) wake: Arc<dyn Fn() + Send + Sync>,
    pub(crate) notices: Notices,
}

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
