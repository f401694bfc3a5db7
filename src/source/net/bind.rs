//! Sockets bound to this machine's addresses.
//!
//! Promise: a name stands for every address it has here, on one port, and one is enough; if another
//! process has an address, the error says which. Must not know: engine, split, time.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::error::{Error, Result, describe};
use crate::notice::NoticeKind;
use crate::source::Port;
use crate::source::net::socket::url_host;
use crate::sys::proc;

/// Ports that are tried when any will do and a name has several addresses.
const PORTS_TRIED: usize = 8;

/// Sockets with the addresses they have.
type BoundSockets<S> = Vec<(S, SocketAddr)>;

/// Binds a socket with `bind_one` to each address of `host` and `port`, and returns them with the
/// addresses they have. Port 0 is any port, the same for all. `protocol` is `tcp` or `udp`.
pub(crate) fn every<S>(
    protocol: &str,
    host: &str,
    port: u16,
    bind_one: impl Fn(SocketAddr) -> io::Result<(S, SocketAddr)>,
) -> Result<(Vec<S>, Vec<SocketAddr>)> {
    let refused = |reason: String| {
        let host = url_host(host);
        Error::refused(format!("cannot listen on {host}:{port}: {reason}"))
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

fn try_every<S>(
    wanted: &[SocketAddr],
    bind_one: impl Fn(SocketAddr) -> io::Result<(S, SocketAddr)>,
) -> std::result::Result<BoundSockets<S>, (SocketAddr, io::Error)> {
    let mut bound = BoundSockets::new();
    let mut missing = None;
    for &address in wanted {
        let mut address = address;
        if let Some((_, first)) = bound.first() {
            // If any port was asked for, it is the one that the first socket has.
            address.set_port(first.port());
        }
        match bind_one(address) {
            Ok(one) => bound.push(one),
            Err(cause) if is_missing(&cause) => missing = Some((address, cause)),
            Err(cause) => return Err((address, cause)),
        }
    }
    match missing {
        Some(missing) if bound.is_empty() => Err(missing),
        _ => Ok(bound),
    }
}

/// Returns `true` if this machine does not have the address; its others will do.
fn is_missing(cause: &io::Error) -> bool {
    cause.kind() == io::ErrorKind::AddrNotAvailable
        || cause.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

/// Why no socket can have this address, and which process has it.
fn why_not(protocol: &str, address: SocketAddr, cause: &io::Error) -> String {
    let reason = describe(cause).to_lowercase();
    let is_in_use = cause.kind() == io::ErrorKind::AddrInUse;
    match is_in_use.then(|| proc::holder(protocol, address)).flatten() {
        Some((pid, name)) => format!("{reason} (pid {pid} {name:?} has it)"),
        None => reason,
    }
}

/// Reports that the source listens on `address`, and whether other machines can reach it.
pub(crate) fn report_listening(address: SocketAddr, port: &Port) {
    let text = address.to_string();
    port.report(NoticeKind::Listening { address: text });
    if !address.ip().to_canonical().is_loopback() {
        port.report(NoticeKind::Exposed { address });
    }
}
