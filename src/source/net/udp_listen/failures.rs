//! Calls of `recv` that fail on a socket that listens.
//!
//! Promise: an error that passes costs no datagram; one that stays costs no processor time, and is reported.
//! Must not know: sockets, the clock.

use std::io;
use std::time::Duration;

use crate::limits::{RECEIVE_AGAIN_MS, RECEIVE_FAILURES_MAX};

/// The failures of one socket since it worked last.
#[derive(Debug, Default)]
pub(super) struct Failures {
    in_a_row: u32,
    /// The last one may be for good.
    is_lasting: bool,
    /// When it is tried again.
    again: Option<Duration>,
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Retry,
    /// Not before some time has passed.
    Pause,
    /// The socket is lost.
    GiveUp,
}

impl Failures {
    /// The socket has answered.
    pub(super) fn clear(&mut self) {
        *self = Failures::default();
    }

    /// Receiving failed because of `cause`. A failure that may be for good is repeated once, as those of connections
    /// are.
    pub(super) fn add(&mut self, cause: &io::Error, now: Duration) -> Then {
        self.in_a_row = self.in_a_row.saturating_add(1);
        if !may_pass(cause) && std::mem::replace(&mut self.is_lasting, true) {
            return Then::GiveUp;
        }
        if self.in_a_row < RECEIVE_FAILURES_MAX {
            return Then::Retry;
        }
        self.again = Some(now.saturating_add(Duration::from_millis(RECEIVE_AGAIN_MS)));
        Then::Pause
    }

    /// Whether it is too early to try again.
    pub(super) fn is_pausing(&self, now: Duration) -> bool {
        self.again.is_some_and(|again| now < again)
    }

    /// When to try again.
    pub(super) fn again(&self) -> Option<Duration> {
        self.again
    }
}

/// Whether an error says nothing of the next datagram: an interruption, a report of the network about what was sent
/// from this port, which is nothing of ours, or a kernel that is short of memory.
fn may_pass(cause: &io::Error) -> bool {
    const EPROTO: i32 = 71;
    const EMSGSIZE: i32 = 90;
    const ENOPROTOOPT: i32 = 92;
    const EOPNOTSUPP: i32 = 95;
    const ENOBUFS: i32 = 105;
    const EHOSTDOWN: i32 = 112;
    matches!(
        cause.kind(),
        io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::OutOfMemory
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::TimedOut
    ) || matches!(
        cause.raw_os_error(),
        Some(EPROTO | EMSGSIZE | ENOPROTOOPT | EOPNOTSUPP | ENOBUFS | EHOSTDOWN)
    )
}
