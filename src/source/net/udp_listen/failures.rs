//! Calls of `recv` that fail on a listening socket.
//!
//! Promise: an error that passes costs no datagram; one that stays costs no processor time, and is
//! reported. Must not know: engine, time.

use std::io;
use std::time::Duration;

use crate::limits::{RECEIVE_AGAIN_MS, RECEIVE_FAILURES_MAX};
use crate::source::net::socket::is_passing;

/// The failures of one socket since it last worked.
#[derive(Debug, Default)]
pub(super) struct Failures {
    in_a_row: u32,
    /// The last one may be permanent.
    is_lasting: bool,
    /// When to try again.
    again: Option<Duration>,
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnFailure {
    Retry,
    /// Try again after a pause.
    Pause,
    /// The socket is lost.
    GiveUp,
}

impl Failures {
    /// The socket has worked.
    pub(super) fn clear(&mut self) {
        *self = Failures::default();
    }

    /// Receiving failed because of `cause`. A failure that may be permanent is repeated once, as
    /// for connections.
    pub(super) fn add(&mut self, cause: &io::Error, now: Duration) -> OnFailure {
        self.in_a_row = self.in_a_row.saturating_add(1);
        if !may_pass(cause) && std::mem::replace(&mut self.is_lasting, true) {
            return OnFailure::GiveUp;
        }
        if self.in_a_row < RECEIVE_FAILURES_MAX {
            return OnFailure::Retry;
        }
        self.again = Some(now.saturating_add(Duration::from_millis(RECEIVE_AGAIN_MS)));
        OnFailure::Pause
    }

    /// Returns `true` if it is too early to try again.
    pub(super) fn is_pausing(&self, now: Duration) -> bool {
        self.again.is_some_and(|again| now < again)
    }

    /// When to try again.
    pub(super) fn again(&self) -> Option<Duration> {
        self.again
    }
}

/// Returns `true` for errors that do not affect the next datagram. Besides those of all sockets,
/// these are reports about datagrams sent from this port, which are not ours, and a kernel short of
/// memory.
fn may_pass(cause: &io::Error) -> bool {
    is_passing(cause)
        || matches!(
            cause.kind(),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::OutOfMemory
        )
        || matches!(cause.raw_os_error(), Some(libc::EMSGSIZE | libc::ENOBUFS))
}
