//! What sockets have in common.
//!
//! Promise: one list of the errors that pass, one way to ask a connection about itself.
//! Must not know: engine, time, split.

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use crate::error::describe;
use crate::sys;

/// A stream socket, or what stands in for one in tests.
pub(crate) trait StreamSocket: Read + mio::event::Source + Send {
    /// Returns the pending error, which is taken off the socket.
    fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    /// Returns `true` if the connection was made.
    fn is_connected(&self) -> bool {
        true
    }

    /// Returns the bytes that have arrived and were not read, if the kernel reports them.
    fn unread(&self) -> Option<u64> {
        None
    }

    /// Ends our side of the connection.
    fn end_writing(&self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: Read + mio::event::Source + Send + AsFd> StreamSocket for S {
    fn take_error(&self) -> io::Result<Option<io::Error>> {
        SockRef::from(self).take_error()
    }

    fn is_connected(&self) -> bool {
        SockRef::from(self).peer_addr().is_ok()
    }

    fn unread(&self) -> Option<u64> {
        sys::unread_bytes(self)
    }

    fn end_writing(&self) -> io::Result<()> {
        SockRef::from(self).shutdown(Shutdown::Write)
    }
}

/// Has the kernel notice within about two minutes that the cable of a peer was pulled.
pub(crate) fn keep_alive(socket: &impl AsFd) {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10))
        .with_retries(6);
    // If it fails, only that notice is missing.
    let _ = SockRef::from(socket).set_tcp_keepalive(&keepalive);
}

/// Returns `true` if an error of a socket is no reason to expect the next call to fail: an
/// interruption, or a report of the network about one connection or one peer.
pub(crate) fn is_passing(cause: &io::Error) -> bool {
    matches!(
        cause.kind(),
        io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::TimedOut
    ) || matches!(
        cause.raw_os_error(),
        Some(libc::EPROTO | libc::ENOPROTOOPT | libc::EOPNOTSUPP | libc::EHOSTDOWN)
    )
}

/// The system's message, as a part of a sentence.
pub(crate) fn lower(cause: &io::Error) -> String {
    let text = describe(cause);
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => "unknown error".to_owned(),
    }
}

/// A host as URLs have it.
pub(crate) fn url_host(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}
