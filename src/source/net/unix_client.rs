//! `unix-client`: connects to a Unix socket and reads what it sends.
//!
//! Promise: as `tcp-client`, without a name to resolve. Must not know: engine, split, time.

use std::io;
use std::path::{Path, PathBuf};

use mio::net::UnixStream;

use crate::notice::url_of_path;
use crate::source::net::connector::{ConnectTarget, Connector, Lookup, Reconnect};

/// A client of a Unix socket that connects again when it loses its connection.
///
/// The socket need not exist yet: the client waits for it, with a notice.
pub struct UnixClient(Connector<PathBuf>);

impl UnixClient {
    /// A client of the socket at `path`.
    pub fn new(path: impl AsRef<Path>, reconnect: Reconnect) -> Self {
        let path = path.as_ref().to_owned();
        let name = url_of_path("unix", &path);
        UnixClient(Connector::new(path, name, reconnect))
    }
}

impl ConnectTarget for PathBuf {
    type Address = PathBuf;
    type Stream = UnixStream;

    fn lookup(&self) -> Lookup<PathBuf> {
        Lookup::Known(self.clone())
    }

    fn open(&self, path: PathBuf) -> io::Result<UnixStream> {
        UnixStream::connect(path)
    }
}

source_through!(UnixClient, 0);
