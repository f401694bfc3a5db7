//! `unix-client`: connects to a Unix socket and reads what it sends.
//!
//! Promise: as `tcp-client`, without a name to resolve. Must not know: when to connect, which `dial`
//! knows; what the bytes mean.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::net::UnixStream;

use crate::notice::url_of_path;
use crate::source::net::connector::{Connector, Endpoint, Lookup, Reconnect};
use crate::source::{Port, Source};
use crate::sys;

/// A connection to a Unix socket made as a client, made again when it is lost.
///
/// The socket need not be there yet: it is waited for as a connection is, and told of.
pub struct UnixClient(Connector<Socket>);

struct Socket(PathBuf);

impl UnixClient {
    /// A client of the socket at `path`.
    pub fn new(path: impl AsRef<Path>, reconnect: Reconnect) -> Self {
        let path = path.as_ref().to_owned();
        let name = url_of_path("unix", &path);
        UnixClient(Connector::new(Socket(path), name, reconnect))
    }
}

impl Endpoint for Socket {
    type Address = PathBuf;
    type Stream = UnixStream;

    fn lookup(&self) -> Lookup<PathBuf> {
        Lookup::Known(self.0.clone())
    }

    fn unresolved(&self, _cause: Option<&io::Error>) -> String {
        // Nobody had to be asked.
        "no answer".to_owned()
    }

    fn open(&self, path: PathBuf) -> io::Result<UnixStream> {
        UnixStream::connect(path)
    }

    fn take_error(stream: &UnixStream) -> io::Result<Option<io::Error>> {
        stream.take_error()
    }

    fn is_made(_stream: &UnixStream) -> bool {
        // Such a connection is made at once, or not at all.
        true
    }

    fn unread(stream: &UnixStream) -> Option<u64> {
        sys::unread_bytes(stream)
    }
}

impl fmt::Debug for UnixClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixClient")
            .field("name", &self.0.name())
            .finish_non_exhaustive()
    }
}

impl Source for UnixClient {
    fn start(&mut self, port: Port, _now: Duration) {
        self.0.start(port);
    }

    source_through!(0);
}
