//! Where lines come from, as people write it: URLs, addresses, file names.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::{Endpoint, endpoint};
use crate::parse::spec;

/// Source schemes that are planned: they deserve a better answer than "unknown".
const SCHEMES_LATER: [&str; 3] = ["kafka", "kinesis", "flume-avro-listen"];

const SOURCE_ALLOWED: &str = "allowed are files, - (standard input), HOST:PORT, tcp://HOST:PORT, \
                              tcp-listen://HOST:PORT, udp-listen://HOST:PORT, unix:///PATH, \
                              unix-listen:///PATH and dir:///PATH";

/// Where lines come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SourceSpec {
    /// Standard input.
    Stdin,
    /// A connection made as a client. An IPv6 host has no brackets; the port is not 0.
    Tcp { host: String, port: u16 },
    /// Connections that clients make. Port 0 means any free one.
    TcpListen { host: String, port: u16 },
    /// Datagrams that are sent to this place.
    UdpListen { host: String, port: u16 },
    /// A connection to a socket in the file system.
    Unix(PathBuf),
    /// Connections that clients make to a socket in the file system.
    UnixListen(PathBuf),
    /// Files that are put into a directory.
    Dir(PathBuf),
    /// A file, or a pattern that names some.
    Files(OsString),
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = |f: &mut fmt::Formatter<'_>, scheme: &str, host: &str, port: u16| {
            if host.contains(':') {
                write!(f, "{scheme}://[{host}]:{port}")
            } else {
                write!(f, "{scheme}://{host}:{port}")
            }
        };
        match self {
            SourceSpec::Stdin => f.write_str("standard input"),
            SourceSpec::Tcp { host, port } => address(f, "tcp", host, *port),
            SourceSpec::TcpListen { host, port } => address(f, "tcp-listen", host, *port),
            SourceSpec::UdpListen { host, port } => address(f, "udp-listen", host, *port),
            SourceSpec::Unix(path) => write!(f, "unix://{}", path.display()),
            SourceSpec::UnixListen(path) => write!(f, "unix-listen://{}", path.display()),
            SourceSpec::Dir(path) => write!(f, "dir://{}", path.display()),
            SourceSpec::Files(pattern) => write!(f, "{}", pattern.display()),
        }
    }
}

/// `SOURCE`: where lines come from. What looks like HOST:PORT is an address, everything else without a
/// scheme a file.
pub(crate) fn source(text: &OsStr) -> Result<SourceSpec, String> {
    let bytes = text.as_bytes();
    if bytes == b"-" {
        return Ok(SourceSpec::Stdin);
    }
    if bytes.is_empty() {
        return Err(format!("a source has a name; {SOURCE_ALLOWED}"));
    }
    if let Some(text) = text.to_str().filter(|text| spec::is_like_a_key(text)) {
        return Err(format!(
            "this is a key and not a source; write -k {0}, or -k field:1,{0} for a key of two parts; a file of that \
             name is ./{0}",
            spec::shown(text)
        ));
    }
    let Some(at) = bytes.windows(3).position(|three| three == b"://") else {
        return Ok(match text.to_str().map(endpoint) {
            Some(Ok(Endpoint {
                host,
                port: port @ 1..,
            })) => SourceSpec::Tcp { host, port },
            _ => SourceSpec::Files(text.to_owned()),
        });
    };
    let (scheme, rest) = (&bytes[..at], &bytes[at + 3..]);
    let scheme = std::str::from_utf8(scheme).unwrap_or_default();
    match scheme {
        "tcp" => match address(rest)? {
            Endpoint { port: 0, .. } => {
                Err("port 0 cannot be connected to; write 1 to 65535".into())
            }
            Endpoint { host, port } => Ok(SourceSpec::Tcp { host, port }),
        },
        "tcp-listen" => {
            address(rest).map(|Endpoint { host, port }| SourceSpec::TcpListen { host, port })
        }
        "udp-listen" => {
            address(rest).map(|Endpoint { host, port }| SourceSpec::UdpListen { host, port })
        }
        "unix" => path(scheme, rest).map(SourceSpec::Unix),
        "unix-listen" => path(scheme, rest).map(SourceSpec::UnixListen),
        "dir" => path(scheme, rest).map(SourceSpec::Dir),
        scheme if SCHEMES_LATER.contains(&scheme) => Err(format!(
            "{scheme}:// is not supported yet; {SOURCE_ALLOWED}"
        )),
        _ => Err(format!("unknown kind of source; {SOURCE_ALLOWED}")),
    }
}

fn address(text: &[u8]) -> Result<Endpoint, String> {
    std::str::from_utf8(text)
        .map_err(|_| "it is not UTF-8".to_owned())
        .and_then(endpoint)
        .map_err(|reason| format!("{reason}; {SOURCE_ALLOWED}"))
}

/// The path behind `scheme://`, which begins with a slash when it is absolute.
fn path(scheme: &str, text: &[u8]) -> Result<PathBuf, String> {
    match text {
        b"" => Err(format!(
            "there is no path behind {scheme}://; write {scheme}:///PATH"
        )),
        text => Ok(PathBuf::from(OsString::from_vec(text.to_vec()))),
    }
}
