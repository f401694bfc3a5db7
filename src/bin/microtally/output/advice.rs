//! Advice on notices and errors, in terms of options, environment variables and other programs.
//!
//! Promise: only adds to what the library reports, and renames settings to options. Must not know:
//! `counting`, `live`, `bench`, `generate`.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::path::Path;

use microtally::Error;
use microtally::error::{ErrorKind, Setting};
use microtally::notice::{LooksLike, Notice, NoticeKind};

use crate::parse::units::format_bytes;
use crate::parse::{self, Origin};
use crate::{say, say_line};

/// For compressed input that needs more memory than the limit leaves for it.
const MORE_MEMORY: &str = "or raise --max-memory";

/// Names options and environment variables where the library, which does not know them, names
/// settings; and adds what to do.
pub(crate) fn in_terms_of_options(error: Error) -> Error {
    match (error.kind(), error.setting()) {
        (ErrorKind::Config, Some(setting)) => {
            let message = refused(setting);
            error.with_message(message)
        }
        (ErrorKind::Source, _) if error.cause() == Some(io::ErrorKind::QuotaExceeded) => {
            error.with_advice(MORE_MEMORY)
        }
        (ErrorKind::Limit, _) => error.with_advice(
            "raise --max-memory, or continue beyond the limit with --on-limit approx or --on-limit other",
        ),
        _ => error,
    }
}

/// The option for a setting of the library, without its dashes.
fn option(setting: &'static str) -> &'static str {
    match setting {
        "memory_bytes_max" => "max-memory",
        "record_bytes_max" => "max-record",
        other => other,
    }
}

fn refused(setting: &Setting) -> String {
    let origin = |option: &str| parse::origin(std::env::args_os(), option);
    let name = option(setting.name);
    let bytes: Option<u64> = setting.value.parse().ok();
    let bytes = bytes.filter(|_| setting.name.ends_with("_bytes_max"));
    let is_default = origin(name) == Origin::Default;
    let value = match bytes {
        Some(bytes) if is_default => {
            let mib = bytes as f64 / f64::from(1 << 20);
            format!("{mib:.1} MiB (by default, half of the available memory)")
        }
        Some(bytes) => format_bytes(bytes),
        None => setting.value.clone(),
    };
    let mut message = format!("--{name} {value} {}", setting.problem);
    let mut options = vec![name];
    let lower = setting.lower_instead.iter().map(|name| option(name));
    options.extend(lower);
    if options.len() > 1 {
        let lower: Vec<_> = options[1..]
            .iter()
            .map(|option| format!("--{option}"))
            .collect();
        message += &format!("; lower {}", lower.join(" or "));
    }
    if let (true, Some(bytes), Some(enough)) = (is_default, bytes, setting.enough) {
        let mib = enough.div_ceil(1 << 20) as u64;
        // The default is half of what there is.
        message += &if mib << 20 <= bytes.saturating_mul(2) {
            format!("; or set --{name} {mib}MiB")
        } else {
            "; or raise the memory limit of the process (ulimit -v, control group)".to_owned()
        };
    }
    for option in options {
        if let Origin::Variable(variable) = origin(option) {
            message += &format!("; --{option} is set by the environment variable {variable}");
        }
    }
    message
}

/// Adds what may have been meant by a name that is not a file.
pub(crate) fn in_terms_of_sources(error: Error, name: &OsStr) -> Error {
    match error.kind() {
        ErrorKind::Source if Path::new(name).is_dir() => error.with_advice(DIRECTORY),
        ErrorKind::Source if has_colon(name) => error.with_advice(ADDRESS),
        ErrorKind::Source if is_port(name) => error.with_advice(PORT),
        _ => error,
    }
}

const DIRECTORY: &str = "name the files in it (DIR/*), or use dir:///PATH to count new files in it";

const PORT: &str = "write a port with its host: localhost:9999";

fn is_port(name: &OsStr) -> bool {
    name.to_str()
        .is_some_and(|text| text.parse::<u16>().is_ok())
}

const ADDRESS: &str = "write an address as HOST:PORT, with a port from 1 to 65535";

fn has_colon(name: &OsStr) -> bool {
    name.to_string_lossy().contains(':')
}

/// Returns `true` for what can only be a pattern of file names.
fn is_pattern(name: &OsStr) -> bool {
    name.to_string_lossy().contains(['*', '?', '[', '{'])
}

/// Prints a notice on standard error, with advice if there is any.
pub(crate) fn report(notice: &Notice) {
    match &notice.kind {
        NoticeKind::Unreadable {
            cause: io::ErrorKind::QuotaExceeded,
            ..
        } => {
            say(&format_args!("{notice}; {MORE_MEMORY}"));
        }
        _ => say(notice),
    }
    let advice: Cow<'_, str> = match &notice.kind {
        NoticeKind::Waiting { reason, .. } if reason == "connection refused" => {
            let Some((_, port)) = notice.source.rsplit_once(':') else {
                return;
            };
            format!("start a source in another terminal, for example:  nc -lk {port}").into()
        }
        NoticeKind::Refused {
            descriptors: None, ..
        } => "--max-connections sets how many clients may connect".into(),
        NoticeKind::Unaccepted { reason, .. } if reason.eq_ignore_ascii_case("too many open files") => {
            "raise the limit of open files with ulimit -n".into()
        }
        NoticeKind::RefusedOfPeer { .. } => {
            "--max-connections-per-ip sets how many clients of an address may connect".into()
        }
        NoticeKind::Idle { .. } => {
            "--idle-timeout sets how long clients may be silent, or never closes them".into()
        }
        NoticeKind::Oversize { .. } => "raise --max-record, up to 1GiB, to keep longer ones".into(),
        NoticeKind::Unreadable {
            path,
            cause: io::ErrorKind::NotFound,
            ..
        } if has_colon(path.as_os_str()) && !is_pattern(path.as_os_str()) => ADDRESS.into(),
        NoticeKind::Unlisted { .. } => {
            "the program looks again at the end of each batch; a signal ends it".into()
        }
        NoticeKind::Listed => {
            "new files are counted from now on; a signal ends the program".into()
        }
        NoticeKind::NotText { .. } => {
            "files are not decoded with -F or dir://; name the file without them to count its content".into()
        }
        NoticeKind::NotLines { looks_like, .. } => match instead(*looks_like) {
            Some(advice) => advice.into(),
            None => return,
        },
        NoticeKind::Unfinished { cut_off: 1.., .. } => {
            "--drain-timeout sets how long to wait for clients".into()
        }
        _ => return,
    };
    say_line(&format_args!("            {advice}"));
}

/// Advice on a sender that sends something else than lines.
fn instead(what: LooksLike) -> Option<&'static str> {
    Some(match what {
        LooksLike::Tls => "send without TLS, or decrypt it first, for example with stunnel",
        LooksLike::Http => "send plain lines, for example with nc",
        LooksLike::Gzip => "decompress it first, for example:  zcat FILE | nc HOST PORT",
        LooksLike::Zstd => "decompress it first, for example:  zstdcat FILE | nc HOST PORT",
        LooksLike::Bzip2 => "decompress it first, for example:  bzcat FILE | nc HOST PORT",
        LooksLike::Xz => "decompress it first, for example:  xzcat FILE | nc HOST PORT",
        LooksLike::Lz4 => "decompress it first, for example:  lz4cat FILE | nc HOST PORT",
        LooksLike::Utf16 => "convert it first, for example:  iconv -f UTF-16 FILE | nc HOST PORT",
        _ => return None,
    })
}
