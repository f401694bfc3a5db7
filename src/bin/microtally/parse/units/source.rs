//! Sources as people type them: URLs, addresses, file names.
//!
//! Promise: a source without a scheme is an address if it looks like HOST:PORT, and a file
//! otherwise. Must not know: `clap`, `options`.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::{AddressArg, endpoint};
use crate::parse::keys;

/// Planned source schemes, which deserve a better answer than "unknown".
const SCHEMES_LATER: [&str; 3] = ["kafka", "kinesis", "flume-avro-listen"];

const SOURCE_ALLOWED: &str = "allowed are files, - (standard input), HOST:PORT, tcp://HOST:PORT, \
                              tcp-listen://HOST:PORT, udp-listen://HOST:PORT, unix:///PATH, \
                              unix-listen:///PATH and dir:///PATH";

/// Where lines come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SourceSpec {
    /// Standard input.
    Stdin,
    /// A connection to a server. The port is not 0.
    Tcp(AddressArg),
    /// Connections from clients. Port 0 means any free port.
    TcpListen(AddressArg),
    /// Datagrams that are sent to this address.
    UdpListen(AddressArg),
    /// A connection to a Unix socket.
    Unix(PathBuf),
    /// Connections from clients to a Unix socket.
    UnixListen(PathBuf),
    /// New files in a directory.
    Dir(PathBuf),
    /// A file or a pattern.
    Files(OsString),
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceSpec::Stdin => f.write_str("standard input"),
            SourceSpec::Tcp(address) => write!(f, "tcp://{address}"),
            SourceSpec::TcpListen(address) => write!(f, "tcp-listen://{address}"),
            SourceSpec::UdpListen(address) => write!(f, "udp-listen://{address}"),
            SourceSpec::Unix(path) => write!(f, "unix://{}", path.display()),
            SourceSpec::UnixListen(path) => write!(f, "unix-listen://{}", path.display()),
            SourceSpec::Dir(path) => write!(f, "dir://{}", path.display()),
            SourceSpec::Files(pattern) => write!(f, "{}", pattern.display()),
        }
    }
}

/// `SOURCE`: a URL, an address or a file.
pub(crate) fn source(text: &OsStr) -> Result<SourceSpec, String> {
    let bytes = text.as_bytes();
    if bytes == b"-" {
        return Ok(SourceSpec::Stdin);
    }
    if bytes.is_empty() {
        return Err(format!("a source cannot be empty; {SOURCE_ALLOWED}"));
    }
    if let Some(text) = text.to_str().filter(|text| keys::is_like_a_key(text)) {
        return Err(format!(
            "this looks like a key, not a source; write -k {0}, or -k field:1,{0} for a key of two parts, or ./{0} for \
             a file with this name",
            keys::shown(text)
        ));
    }
    let Some(at) = bytes.windows(3).position(|three| three == b"://") else {
        return Ok(match text.to_str().map(endpoint) {
            Some(Ok(address @ AddressArg { port: 1.., .. })) => SourceSpec::Tcp(address),
            _ => SourceSpec::Files(text.to_owned()),
        });
    };
    let (scheme, rest) = (&bytes[..at], &bytes[at + 3..]);
    let scheme = std::str::from_utf8(scheme).unwrap_or_default();
    match scheme {
        "tcp" => match address(rest)? {
            AddressArg { port: 0, .. } => {
                Err("a client cannot connect to port 0; write a port from 1 to 65535".into())
            }
            address => Ok(SourceSpec::Tcp(address)),
        },
        "tcp-listen" => address(rest).map(SourceSpec::TcpListen),
        "udp-listen" => address(rest).map(SourceSpec::UdpListen),
        "unix" => path(scheme, rest).map(SourceSpec::Unix),
        "unix-listen" => path(scheme, rest).map(SourceSpec::UnixListen),
        "dir" => path(scheme, rest).map(SourceSpec::Dir),
        scheme if SCHEMES_LATER.contains(&scheme) => Err(format!(
            "{scheme}:// is not supported yet; {SOURCE_ALLOWED}"
        )),
        _ => Err(format!("unknown kind of source; {SOURCE_ALLOWED}")),
    }
}

fn address(text: &[u8]) -> Result<AddressArg, String> {
    std::str::from_utf8(text)
        .map_err(|_| "it is not UTF-8".to_owned())
        .and_then(endpoint)
        .map_err(|reason| format!("{reason}; {SOURCE_ALLOWED}"))
}

/// The path after `scheme://`, which begins with a slash if it is absolute.
fn path(scheme: &str, text: &[u8]) -> Result<PathBuf, String> {
    match text {
        b"" => Err(format!(
            "there is no path after {scheme}://; write {scheme}:///PATH"
        )),
        text => Ok(PathBuf::from(OsString::from_vec(text.to_vec()))),
    }
}
