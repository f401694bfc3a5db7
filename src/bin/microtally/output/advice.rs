//! What to do about a notice or a source that cannot be opened, in terms of the program.
//!
//! Promise: only adds to what the library reports. Must not know: how sources are made and run.

use std::ffi::OsStr;
use std::path::Path;

use microtally::{Error, ErrorKind, LooksLike, Notice, NoticeKind};

use crate::{say, say_line};

/// How the library says that compressed data asks for more memory than the limit spares, and what would do.
pub(crate) const OF_MEMORY_LIMIT: &str = "the memory limit leaves";
pub(crate) const MORE_MEMORY: &str = "or raise --max-memory";

/// What may have been meant by a name that is no file.
pub(crate) fn in_terms_of_sources(error: Error, name: &OsStr) -> Error {
    match error.kind() {
        ErrorKind::Source if Path::new(name).is_dir() => error.with_advice(DIRECTORY),
        ErrorKind::Source if has_colon(name) => error.with_advice(ADDRESS),
        ErrorKind::Source if is_port(name) => error.with_advice(PORT),
        _ => error,
    }
}

const DIRECTORY: &str =
    "name the files in it (DIR/*), or dir:///PATH to count files that are put into it";

const PORT: &str = "a port is written with its host: localhost:9999";

fn is_port(name: &OsStr) -> bool {
    name.to_str()
        .is_some_and(|text| text.parse::<u16>().is_ok())
}

/// What a name that is no file may have been meant for.
const ADDRESS: &str = "an address is written HOST:PORT, with a port from 1 to 65535";

fn has_colon(name: &OsStr) -> bool {
    name.to_string_lossy().contains(':')
}

/// Notices go to the person at the terminal, with what to do where there is something to do.
pub(crate) fn tell(notice: &Notice) {
    match &notice.kind {
        NoticeKind::Unreadable { reason, .. } if reason.contains(OF_MEMORY_LIMIT) => {
            say(&format_args!("{notice}; {MORE_MEMORY}"));
        }
        _ => say(notice),
    }
    let advice = match &notice.kind {
        NoticeKind::Waiting { reason, .. } if reason == "connection refused" => {
            notice.source.rsplit_once(':').map(|(_, port)| {
                format!("start a source in another terminal, for example:  nc -lk {port}")
            })
        }
        NoticeKind::Refused {
            descriptors: None, ..
        } => Some("--max-connections says how many there may be".to_owned()),
        NoticeKind::Unaccepted { reason, .. } if reason.eq_ignore_ascii_case("too many open files") => {
            Some("raise the limit of open files with ulimit -n".to_owned())
        }
        NoticeKind::RefusedOfPeer { .. } => {
            Some("--max-connections-per-ip says how many there may be".to_owned())
        }
        NoticeKind::Idle { .. } => {
            Some("--idle-timeout says how long they may be silent, or never".to_owned())
        }
        NoticeKind::Oversize { .. } => {
            Some("keep longer ones with --max-record, up to 1GiB".to_owned())
        }
        NoticeKind::Unreadable { path, reason, .. }
            if reason.starts_with("No such file") && has_colon(path.as_os_str()) =>
        {
            Some(ADDRESS.to_owned())
        }
        NoticeKind::Unlisted { .. } => Some(
            "it is looked for again whenever a batch ends; a signal ends the program".to_owned(),
        ),
        NoticeKind::Listed => Some(
            "files that are put into it from now on are counted; a signal ends the program".to_owned(),
        ),
        NoticeKind::NotText { .. } => Some(
            "name it without -F and without dir:// to count what is inside: nothing is decoded here".to_owned(),
        ),
        NoticeKind::NotLines { looks_like, .. } => instead(*looks_like).map(str::to_owned),
        NoticeKind::Unfinished { cut_off: 1.., .. } => {
            Some("--drain-timeout says how long they are waited for".to_owned())
        }
        _ => None,
    };
    if let Some(advice) = advice {
        say_line(&format_args!("            {advice}"));
    }
}

/// What to do about a sender that sends something else than lines.
fn instead(what: LooksLike) -> Option<&'static str> {
    Some(match what {
        LooksLike::Tls => "send without TLS, or end it in front, for example with stunnel",
        LooksLike::Http => "send lines as they are, for example with nc",
        LooksLike::Gzip => "decompress it first, for example:  zcat FILE | nc HOST PORT",
        LooksLike::Zstd => "decompress it first, for example:  zstdcat FILE | nc HOST PORT",
        LooksLike::Bzip2 => "decompress it first, for example:  bzcat FILE | nc HOST PORT",
        LooksLike::Xz => "decompress it first, for example:  xzcat FILE | nc HOST PORT",
        LooksLike::Lz4 => "decompress it first, for example:  lz4cat FILE | nc HOST PORT",
        LooksLike::Utf16 => "convert it first, for example:  iconv -f UTF-16 FILE | nc HOST PORT",
        _ => return None,
    })
}
