//! `tcp-client`: connects to a host and port and reads what it sends, as Spark's `socketTextStream`.
//!
//! Promise: a name is resolved for each attempt anew; a peer that is gone without a word is noticed.
//! Must not know: when to connect, which `dial` knows; what the bytes mean.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::time::Duration;

use mio::net::TcpStream;
use socket2::{SockRef, TcpKeepalive};

use crate::source::net::connector::{Connector, Endpoint, Lookup, Reconnect, lower};
use crate::source::{Port, Source};
use crate::sys;

/// A TCP connection made as a client, made again when it is lost.
pub struct TcpClient(Connector<Host>);

struct Host {
    name: String,
    port: u16,
}

impl TcpClient {
    /// A client of `host`, a name or an address, and `port`.
    pub fn new(host: &str, port: u16, reconnect: Reconnect) -> Self {
        let name = format!("tcp://{}:{port}", shown(host));
        let host = Host {
            name: host.to_owned(),
            port,
        };
        TcpClient(Connector::new(host, name, reconnect))
    }
}

impl Endpoint for Host {
    type Address = SocketAddr;
    type Stream = TcpStream;

    fn lookup(&self) -> Lookup<SocketAddr> {
        if let Ok(address) = self.name.parse::<IpAddr>() {
            return Lookup::Known(SocketAddr::new(address, self.port));
        }
        let target = (self.name.clone(), self.port);
        Lookup::Ask(Box::new(move || {
            target.to_socket_addrs().map(Iterator::collect)
        }))
    }

    fn unresolved(&self, cause: Option<&io::Error>) -> String {
        let reason = cause.map_or_else(|| "no answer".to_owned(), lookup);
        format!("cannot resolve {:?}: {reason}", self.name)
    }

    fn open(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address)?;
        keep_alive(&stream);
        Ok(stream)
    }

    fn take_error(stream: &TcpStream) -> io::Result<Option<io::Error>> {
        stream.take_error()
    }

    fn is_made(stream: &TcpStream) -> bool {
        stream.peer_addr().is_ok()
    }

    fn unread(stream: &TcpStream) -> Option<u64> {
        sys::unread_bytes(stream)
    }
}

impl fmt::Debug for TcpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpClient")
            .field("name", &self.0.name())
            .finish_non_exhaustive()
    }
}

impl Source for TcpClient {
    fn start(&mut self, port: Port, _now: Duration) {
        self.0.start(port);
    }

    source_through!(0);
}

/// A peer whose cable was pulled is noticed after about two minutes.
pub(crate) fn keep_alive(stream: &impl AsFd) {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10))
        .with_retries(6);
    // Without it only that notice is missing.
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// A host as URLs have it.
pub(crate) fn shown(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// The resolver's own words: std puts its own in front of them.
fn lookup(cause: &io::Error) -> String {
    let text = lower(cause);
    text.strip_prefix("failed to lookup address information: ")
        .map_or(text.clone(), str::to_owned)
}
