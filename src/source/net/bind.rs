//! Sockets of this machine's addresses.
//!
//! Promise: a name stands for every address it has here, on one port, and one is enough; an address that
//! somebody else has is an error that says who. Must not know: what a socket is for.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::error::{Error, Result, describe};
use crate::notice::NoticeKind;
use crate::source::Port;
use crate::source::net::tcp_client::shown;
use crate::sys::proc;

/// Ports that are tried when any will do and a name has several addresses.
const PORTS_TRIED: usize = 8;

#[derive(Clone, Copy)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// Makes with `bind_one` a socket of each address of `host` and `port`, and gives them with the addresses
/// they have. Port 0 is any port, the same for all.
pub(crate) fn every<S>(
    protocol: Protocol,
    host: &str,
    port: u16,
    bind_one: impl Fn(SocketAddr) -> io::Result<(S, SocketAddr)>,
) -> Result<(Vec<S>, Vec<SocketAddr>)> {
    let refused = |reason: String| {
        Error::refused(format!("cannot listen on {}:{port}: {reason}", shown(host)))
    };
    let wanted = resolve(host, port).map_err(|cause| refused(describe(&cause)))?;
    let mut tries = if port == 0 { PORTS_TRIED } else { 1 };
    loop {
        tries -= 1;
        match try_every(&wanted, &bind_one) {
            Ok(bound) if bound.is_empty() => return Err(refused("the name has no address".into())),
            Ok(bound) => return Ok(bound.into_iter().unzip()),
            Err((_, cause)) if tries > 0 && cause.kind() == io::ErrorKind::AddrInUse => {}
            Err((address, cause)) => return Err(refused(why_not(protocol, address, &cause))),
        }
    }
}

/// The addresses of a host, each once.
fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
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

type Bound<S> = Vec<(S, SocketAddr)>;

fn try_every<S>(
    wanted: &[SocketAddr],
    bind_one: impl Fn(SocketAddr) -> io::Result<(S, SocketAddr)>,
) -> std::result::Result<Bound<S>, (SocketAddr, io::Error)> {
    let mut bound = Bound::new();
    let mut missing = None;
    for &address in wanted {
        let mut address = address;
        if let Some((_, first)) = bound.first() {
            // Any port was asked for: it is the one that the first has.
            address.set_port(first.port());
        }
        match bind_one(address) {
            Ok(one) => bound.push(one),
            Err(cause) if is_not_here(&cause) => missing = Some((address, cause)),
            Err(cause) => return Err((address, cause)),
        }
    }
    match missing {
        Some(missing) if bound.is_empty() => Err(missing),
        _ => Ok(bound),
    }
}

/// Whether a machine without this address can do with the others.
fn is_not_here(cause: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    cause.kind() == io::ErrorKind::AddrNotAvailable || cause.raw_os_error() == Some(EAFNOSUPPORT)
}

/// Why there can be no socket of this address, and whose fault it is.
fn why_not(protocol: Protocol, address: SocketAddr, cause: &io::Error) -> String {
    let reason = describe(cause).to_lowercase();
    let table = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let holder = match cause.kind() {
        io::ErrorKind::AddrInUse => proc::holder(table, address),
        _ => None,
    };
    match holder {
        Some((pid, name)) => format!("{reason} (pid {pid} {name:?} has it)"),
        None => reason,
    }
}

/// Tells of each address that it listens, and if not only this machine can reach it.
pub(crate) fn report_listening(addresses: &[SocketAddr], port: &Port) {
    for address in addresses {
        let (address, text) = (*address, address.to_string());
        port.report(NoticeKind::Listening { address: text });
        if !address.ip().to_canonical().is_loopback() {
            port.report(NoticeKind::Exposed { address });
        }
    }
}
