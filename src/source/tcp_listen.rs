//! `tcp-listen`: takes in whoever connects to a port, many at a time.
//!
//! Promise: the port is bound before anything starts, so that one in use is found out then; lines of two
//! clients never mix. Refuses to know: what bytes mean, other sources, the clock.

use std::fmt;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Socket, Type};

use crate::error::{Error, Result, describe};
use crate::limits;
use crate::source::listen::{Door, Listen, Options, listening_options};
use crate::source::tcp_client::{keep_alive, shown};
use crate::source::{Fill, Notice, Port, Source, proc};

/// Ports that are tried when any will do and a name has several addresses.
const PORTS_TRIED: usize = 8;

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
    listen: Listen<TcpListener>,
    addresses: Vec<SocketAddr>,
    options: Options,
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
        let shown_host = shown(host);
        let refused = |message: String| {
            Error::refused(format!("cannot listen on {shown_host}:{port}: {message}"))
        };
        let addresses = resolve(host, port).map_err(|cause| refused(describe(&cause)))?;
        let mut tries = if port == 0 { PORTS_TRIED } else { 1 };
        let doors = loop {
            tries -= 1;
            match bind_all(&addresses) {
                Ok(doors) => break doors,
                Err((_, cause)) if tries > 0 && cause.kind() == io::ErrorKind::AddrInUse => {}
                Err((address, cause)) => return Err(refused(why_not("tcp", address, &cause))),
            }
        };
        let local = |door: &TcpListener| door.local_addr();
        let addresses = doors.iter().map(local).collect::<io::Result<Vec<_>>>();
        let addresses = addresses.map_err(|cause| refused(describe(&cause)))?;
        let name = format!("tcp-listen://{shown_host}:{}", addresses[0].port());
        let options = Options::default();
        Ok(TcpListen {
            listen: Listen::new(name, doors, &options)?,
            addresses,
            options,
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

    listening_options!();
}

/// The addresses of a host, each once.
pub(crate) fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in (host, port).to_socket_addrs()? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// Why there can be no socket of this address, and whose fault it is.
pub(crate) fn why_not(protocol: &str, address: SocketAddr, cause: &io::Error) -> String {
    let reason = describe(cause).to_lowercase();
    let holder = match cause.kind() {
        io::ErrorKind::AddrInUse => proc::holder(protocol, address),
        _ => None,
    };
    match holder {
        Some((pid, name)) => format!("{reason} (pid {pid} {name:?} has it)"),
        None => reason,
    }
}

/// Whether a machine without this address can do with the others.
pub(crate) fn is_not_here(cause: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    cause.kind() == io::ErrorKind::AddrNotAvailable || cause.raw_os_error() == Some(EAFNOSUPPORT)
}

/// Listens on all addresses that this machine has, on one port.
fn bind_all(
    addresses: &[SocketAddr],
) -> std::result::Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    let mut doors: Vec<TcpListener> = Vec::new();
    let mut missing = None;
    for &address in addresses {
        let mut address = address;
        if let Some(first) = doors.first() {
            // Any port was asked for: it is the one that the first has.
            let port = first.local_addr().map_err(|cause| (address, cause))?.port();
            address.set_port(port);
        }
        match bind_one(address) {
            Ok(door) => doors.push(door),
            Err(cause) if is_not_here(&cause) => missing = Some((address, cause)),
            Err(cause) => return Err((address, cause)),
        }
    }
    match missing {
        Some(missing) if doors.is_empty() => Err(missing),
        _ => Ok(doors),
    }
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Connections of an earlier run that are not quite over do not keep the port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(limits::BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into()))
}

impl Door for TcpListener {
    type Stream = TcpStream;

    fn accept(&mut self) -> io::Result<(TcpStream, String)> {
        let (stream, peer) = TcpListener::accept(self)?;
        keep_alive(&stream);
        Ok((stream, peer.to_string()))
    }

    fn shutdown(stream: &TcpStream, how: Shutdown) -> io::Result<()> {
        stream.shutdown(how)
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
        tell_exposed(&self.addresses, self.listen.name(), &port);
        self.listen.start(port, proc::descriptors_max());
    }

    fn fill(&mut self, buf: &mut [u8], now: Duration) -> Fill {
        self.listen.fill(buf, now)
    }

    fn drain(&mut self) -> usize {
        self.listen.drain()
    }

    fn name(&self) -> &str {
        self.listen.name()
    }
}

/// Tells of each address that not only this machine can reach.
pub(crate) fn tell_exposed(addresses: &[SocketAddr], source: &str, port: &Port) {
    for address in addresses {
        if !address.ip().to_canonical().is_loopback() {
            port.tell(Notice::Exposed {
                source: source.to_owned(),
                address: *address,
            });
        }
    }
}
