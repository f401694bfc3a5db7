//! `tcp-client`: connects to a host and port and reads what it sends, as Spark's
//! `socketTextStream`.
//!
//! Promise: each attempt resolves the name again; a peer that disappears silently is noticed.
//! Must not know: engine, split, time.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use mio::net::TcpStream;

use crate::source::net::connector::{ConnectTarget, Connector, Lookup, Reconnect};
use crate::source::net::socket::{keep_alive, lower, url_host};

/// A TCP client that connects again when it loses its connection.
pub struct TcpClient(Connector<HostPort>);

struct HostPort {
    host: String,
    port: u16,
}

impl TcpClient {
    /// A client of `host`, a name or an address, and `port`.
    pub fn new(host: &str, port: u16, reconnect: Reconnect) -> Self {
        let name = format!("tcp://{}:{port}", url_host(host));
        let host = host.to_owned();
        TcpClient(Connector::new(HostPort { host, port }, name, reconnect))
    }
}

impl ConnectTarget for HostPort {
    type Address = SocketAddr;
    type Stream = TcpStream;

    fn lookup(&self) -> Lookup<SocketAddr> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Lookup::Known(SocketAddr::new(address, self.port));
        }
        let target = (self.host.clone(), self.port);
        Lookup::Ask(Box::new(move || {
            target.to_socket_addrs().map(Iterator::collect)
        }))
    }

    fn unresolved(&self, cause: Option<&io::Error>) -> String {
        let text = cause.map_or_else(|| "no answer".to_owned(), lower);
        // The resolver's message, without what std puts before it.
        let reason = text
            .strip_prefix("failed to lookup address information: ")
            .unwrap_or(&text);
        format!("cannot resolve {:?}: {reason}", self.host)
    }

    fn open(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address)?;
        keep_alive(&stream);
        Ok(stream)
    }
}

source_through!(TcpClient, 0);
