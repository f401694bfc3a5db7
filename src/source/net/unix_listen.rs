//! `unix-listen`: accepts clients that connect to a Unix socket, many at a time.
//!
//! Promise: only the owner can connect, from the first moment; a socket whose owner is gone is
//! replaced, a live one or another file never; the file is removed at the end.
//! Must not know: engine, split.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::error::{Error, Result};
use crate::limits;
use crate::notice::url_of_path;
use crate::source::net::listener::{Acceptor, Listener, Peer, listening_options};
use crate::source::net::socket::lower;

/// Many clients of a Unix socket as one stream of lines, as
/// [`TcpListen`](crate::sources::TcpListen) for TCP.
///
/// ```
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
/// use std::sync::mpsc::channel;
/// use microtally::prelude::*;
/// use microtally::sources::UnixListen;
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("lines");
/// let source = UnixListen::bind(&path)?;
/// let ssc = StreamingContext::new(Duration::from_millis(50))?;
/// let (sender, counts) = channel();
/// ssc.source_stream(source).count_by_value().for_each_batch(move |batch, _| {
///     let _ = sender.send(batch.get(b"hello"));
/// });
/// let running = ssc.start()?;
/// UnixStream::connect(&path).unwrap().write_all(b"hello\n").unwrap();
/// assert_eq!(counts.iter().flatten().next(), Some(1));
/// running.stop(Stop::Graceful)?;
/// assert!(!path.exists());
/// # Ok::<(), microtally::Error>(())
/// ```
pub struct UnixListen {
    listener: Listener<UnixListener>,
    /// Removed with the source.
    _file: SocketFile,
}

/// The file of a socket, as it was created.
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl UnixListen {
    /// Listens at `path`: creates a socket file that only its owner can connect to (mode 0600), and
    /// removes it when the source is dropped. An existing socket that nobody listens on is
    /// replaced.
    ///
    /// # Errors
    ///
    /// Another process listens there, the file is not a socket, or the system refuses.
    pub fn bind(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = url_of_path("unix-listen", path);
        let bound = remove_stale(path).and_then(|()| bind_one(path));
        let (listener, file) = bound.map_err(|cause| {
            let reason = match cause.kind() {
                io::ErrorKind::AlreadyExists => "the file is not a socket".to_owned(),
                io::ErrorKind::AddrInUse => "address already in use".to_owned(),
                _ => lower(&cause),
            };
            Error::refused(format!("cannot listen on {name}: {reason}"))
        })?;
        Ok(UnixListen {
            listener: Listener::new(name, vec![listener])?,
            _file: file,
        })
    }

    listening_options!();
}

source_through!(UnixListen, listener);

/// Removes a socket whose owner is gone.
fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(cause),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    match std::os::unix::net::UnixStream::connect(path) {
        // No process has it open as a listener any more.
        Err(cause) if cause.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        // Alive, or of a kind or an owner that does not let us find out.
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

fn bind_one(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // The file gets the mode of the socket, less what the umask takes: there is no moment at which
    // others could connect.
    let socket = File::from(OwnedFd::from(socket));
    socket.set_permissions(Permissions::from_mode(0o600))?;
    let socket = Socket::from(OwnedFd::from(socket));
    socket.bind(&SockAddr::unix(path)?)?;
    let metadata = fs::symlink_metadata(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        device: metadata.dev(),
        inode: metadata.ino(),
    };
    socket.listen(limits::BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok((UnixListener::from_std(OwnedFd::from(socket).into()), file))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another program may have put its own file there meanwhile.
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|is| (is.dev(), is.ino()) == (self.device, self.inode));
        if is_ours {
            // If it cannot be removed, the next process to listen there does it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Acceptor for UnixListener {
    type Stream = UnixStream;

    fn accept(&mut self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = UnixListener::accept(self)?;
        let peer = Peer {
            name: "a client".to_owned(),
            address: None,
        };
        Ok((stream, peer))
    }
}
