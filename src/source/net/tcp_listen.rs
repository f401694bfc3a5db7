//! `tcp-listen`: takes in whoever connects to a port, many at a time.
//!
//! Promise: the port is bound before anything starts, so that one in use is found out then; lines of two
//! clients never mix. Must not know: what bytes mean, other sources, the clock.

use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Socket, Type};

use crate::error::Result;
use crate::source::net::bind;
use crate::source::net::bind::Protocol;
use crate::source::net::listener::{Acceptor, Listener, Peer, listening_options};
use crate::source::net::tcp_client::{keep_alive, shown};
use crate::source::{Port, Source};
use crate::sys::proc;
use crate::time::BatchTime;
use crate::{limits, sys};

/// Many TCP clients as one stream of lines.
///
/// Each client is read in turn, its lines are whole, and a line that a client has not finished is nobody
/// else's affair. An unterminated last line is a line if the client ended cleanly, and dropped if the
/// connection was reset.
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
    listen: Listener<TcpListener>,
    addresses: Vec<SocketAddr>,
}

impl TcpListen {
    /// Listens on `port` of `host`, a name or an address of this machine; 0 is any port that is free. A
    /// name may have several addresses, as `localhost` has: it listens on all that this machine has, and
    /// one is enough.
    ///
    /// # Errors
    ///
    /// The name cannot be resolved, the port is in use on one of its addresses, or the system refuses.
    pub fn bind(host: &str, port: u16) -> Result<Self> {
        let (doors, addresses) = bind::every(Protocol::Tcp, host, port, bind_one)?;
        let name = format!("tcp-listen://{}:{}", shown(host), addresses[0].port());
        Ok(TcpListen {
            listen: Listener::new(name, doors)?,
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

    /// How many clients of one address may be connected at a time, at least one; others are ended at once,
    /// with a notice. A client is connected until it was read to its end. It holds for loopback addresses too.
    ///
    /// Without it one address of another machine may have a quarter of
    /// [`connections_max`](Self::connections_max), at least 16, so that no single machine keeps the others out;
    /// a loopback address as many as there may be in all.
    pub fn connections_per_peer_max(mut self, connections: usize) -> Self {
        self.listen.options.connections_per_peer_max = Some(connections.max(1));
        self
    }

    listening_options!();
}

fn bind_one(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Connections of an earlier run that are not quite over do not keep the port.
    socket.set_reuse_address(true)?;
    // Each connection has it from the listener, without a call of its own.
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
            // On a socket of both families those of IPv4 are written as those of IPv6.
            address: Some(address.ip().to_canonical()),
        };
        Ok((stream, peer))
    }

    fn shutdown(stream: &TcpStream, how: Shutdown) -> io::Result<()> {
        stream.shutdown(how)
    }

    fn unread(stream: &TcpStream) -> Option<u64> {
        sys::unread_bytes(stream)
    }
}

impl fmt::Debug for TcpListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListen")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Source for TcpListen {
    fn start(&mut self, port: Port, _now: Duration) {
        bind::report_listening(&self.addresses, &port);
        self.listen.start(port, proc::descriptors());
    }

    fn batch_due(&mut self, _time: BatchTime) -> bool {
        self.listen.batch_due();
        false
    }

    source_through!(listen);
}
