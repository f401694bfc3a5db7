//! `tcp-listen`: accepts clients that connect to a port, many at a time.
//!
//! Promise: the port is bound before anything starts, so a port in use is found out then; lines of
//! two clients never mix.
//! Must not know: engine, split.

use std::io;
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Socket, Type};

use crate::error::Result;
use crate::limits;
use crate::source::net::bind;
use crate::source::net::listener::{Acceptor, Listener, Peer, listening_options};
use crate::source::net::socket::{keep_alive, url_host};

/// Many TCP clients as one stream of lines.
///
/// Clients are read in turn, and a line is always from one client. An unterminated last line is a
/// line if the client ended cleanly; it is dropped if the connection was reset.
///
/// ```
/// use std::io::Write;
/// use std::net::TcpStream;
/// use std::sync::mpsc::channel;
/// use microtally::prelude::*;
/// use microtally::sources::TcpListen;
///
/// let source = TcpListen::bind("127.0.0.1", 0)?;
/// let address = source.local_addr();
/// let ssc = StreamingContext::new(Duration::from_millis(50))?;
/// let (sender, counts) = channel();
/// ssc.source_stream(source).count_by_value().for_each_batch(move |batch, _| {
///     let _ = sender.send(batch.get(b"hello"));
/// });
/// let running = ssc.start()?;
/// let mut clients = [(); 2].map(|()| TcpStream::connect(address).unwrap());
/// clients[0].write_all(b"hel").unwrap();
/// clients[1].write_all(b"hello\n").unwrap();
/// clients[0].write_all(b"lo\n").unwrap();
/// let mut sum = 0;
/// while sum < 2 {
///     sum += counts.recv().unwrap().unwrap_or(0);
/// }
/// running.stop(Stop::Immediate)?;
/// # Ok::<(), microtally::Error>(())
/// ```
pub struct TcpListen {
    listener: Listener<TcpListener>,
    addresses: Vec<SocketAddr>,
}

impl TcpListen {
    /// Listens on `port` of `host`, a name or an address of this machine. Port 0 is any free port.
    /// A name may have several addresses, as `localhost` has: it listens on all that this machine
    /// has, and one is enough.
    ///
    /// # Errors
    ///
    /// The name cannot be resolved, the port is in use on one of its addresses, or the system
    /// refuses.
    pub fn bind(host: &str, port: u16) -> Result<Self> {
        let (listeners, addresses) = bind::every("tcp", host, port, bind_one)?;
        let name = format!("tcp-listen://{}:{}", url_host(host), addresses[0].port());
        Ok(TcpListen {
            listener: Listener::new(name, listeners)?,
            addresses,
        })
    }

    /// The first address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// The addresses it listens on, at least one.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Sets how many clients of one address may be connected at a time, at least one. Further
    /// clients are closed at once, with a notice. A client counts until it was read to its end.
    /// Loopback addresses count too.
    ///
    /// By default an address of another machine may have a quarter of
    /// [`connections_max`](Self::connections_max), at least 16, so that no single machine keeps the
    /// others out. A loopback address may have them all.
    pub fn connections_per_peer_max(mut self, connections: usize) -> Self {
        self.listener.options.connections_per_peer_max = Some(connections.max(1));
        self
    }

    listening_options!();
}

source_through!(TcpListen, listener);

fn bind_one(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Connections of an earlier run that are still closing do not keep the port.
    socket.set_reuse_address(true)?;
    // Each connection inherits it from the listener, without a call of its own.
    keep_alive(&socket);
    socket.bind(&address.into())?;
    socket.listen(limits::BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from_std(socket.into());
    let address = listener.local_addr()?;
    Ok((listener, address))
}

impl Acceptor for TcpListener {
    type Stream = TcpStream;

    fn accept(&mut self) -> io::Result<(TcpStream, Peer)> {
        let (stream, address) = TcpListener::accept(self)?;
        let peer = Peer {
            name: address.to_string(),
            // A socket of both families writes IPv4 addresses as IPv6 ones.
            address: Some(address.ip().to_canonical()),
        };
        Ok((stream, peer))
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        TcpListener::local_addr(self).ok()
    }
}
