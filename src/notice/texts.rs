//! The texts of notices.
//!
//! Promise: numbers agree with their nouns, and no path is shown unescaped.
//! Must not know: source, engine.

use std::fmt;
use std::path::Path;

use crate::notice::{Notice, NoticeKind as Kind};

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = &self.source;
        let text = match &self.kind {
            Kind::Waiting { reason, retry_in } => {
                let s = retry_in.as_secs_f64();
                format!("waiting for {source}: {reason}; next try in {s} s")
            }
            Kind::Connected => format!("connected to {source}"),
            Kind::Listening { address } => format!("listening on {address}"),
            Kind::Unlisted { reason } => format!("cannot list {source}: {reason}"),
            Kind::Listed => format!("waiting for {source}"),
            Kind::Unreadable { path, reason, .. } => format!("cannot read {path:?}: {reason}"),
            Kind::Shorter { path, bytes } => format!(
                "{path:?}: became shorter while it was read; beyond its first {}, only what had already \
                 been read is counted",
                count(bytes, "byte")
            ),
            Kind::NotText { path, looks_like } => format!(
                "{path:?}: looks like {looks_like}, not like lines of text; its bytes are counted as \
                 they are"
            ),
            Kind::Unpinned { shard } => {
                format!("worker {shard}: could not be pinned to a core; it runs unpinned")
            }
            Kind::Behind { interval, delay } => format!(
                "processing falls behind: a batch of {interval:?} began {delay:?} late; reading slows \
                 down, nothing is dropped"
            ),
            Kind::MemoryLimit {
                bytes_max,
                keys,
                time,
                error_max,
                other_records,
                missing_max,
            } => {
                let mut effects = Vec::new();
                if *error_max > 0 || *other_records == 0 {
                    effects.push(format!("counts are too high by at most {error_max}"));
                }
                if *other_records > 0 {
                    let (records, are) = (count(other_records, "record"), are(*other_records));
                    effects.push(format!("{records} of new keys {are} not counted by key"));
                }
                if *other_records > 0 && *missing_max > 0 {
                    effects.push(format!(
                        "the value of a key may lack up to {missing_max} of them"
                    ));
                }
                format!(
                    "memory limit {:.1} MiB reached at {} in batch {} ms: {}; totals stay exact",
                    *bytes_max as f64 / f64::from(1 << 20),
                    count(keys, "distinct key"),
                    time.as_millis(),
                    effects.join(", ")
                )
            }
            Kind::Truncated { bytes } => {
                let bytes = count(bytes, "byte");
                format!("{source}: cut off in the middle of a line; {bytes} dropped")
            }
            Kind::Oversize { record_bytes_max } => {
                format!("{source}: tokens longer than {record_bytes_max} bytes are skipped")
            }
            Kind::Lost { reason } => {
                format!("{source}: lost; the other sources continue: {reason}")
            }
            Kind::Resets {
                peer,
                clients,
                bytes,
            } => {
                let (others, bytes) = (Others(*clients), count(bytes, "byte"));
                format!(
                    "{source}: connection of {peer}{others} failed in the middle of a line; {bytes} dropped"
                )
            }
            Kind::LongLines {
                peer,
                lines,
                bytes,
                record_bytes_max,
                is_word,
            } => {
                let what = if *is_word { "word" } else { "line" };
                let (lines, bytes) = (count(lines, what), count(bytes, "byte"));
                format!(
                    "{source}: {what} longer than {record_bytes_max} bytes, or than memory allows, from {peer}; \
                     dropped ({lines} and {bytes} so far)"
                )
            }
            Kind::Refused {
                peer,
                clients,
                connections_max,
                descriptors,
            } => {
                let why = descriptors.map_or("the limit".to_owned(), |descriptors| {
                    let files = count(&descriptors, "open file");
                    format!("all that the limit of {files} allows (raise ulimit -n)")
                });
                let (connected, others) = (count(connections_max, "client"), Others(*clients));
                format!("{source}: {connected} connected, which is {why}; refused {peer}{others}")
            }
            Kind::RefusedOfPeer {
                peer,
                clients,
                connections_per_peer_max,
            } => format!(
                "{source}: {} connected from one address, which is the limit; refused {peer}{}",
                count(connections_per_peer_max, "client"),
                Others(*clients)
            ),
            Kind::Idle {
                peer,
                clients,
                idle_timeout,
            } => {
                let others = Others(*clients);
                format!("{source}: nothing received for {idle_timeout:?}; closed {peer}{others}")
            }
            Kind::Broken {
                peer,
                clients,
                reason,
            } => format!(
                "{source}: connection of {peer}{} failed between two lines: {reason}; what had arrived \
                 is counted",
                Others(*clients)
            ),
            Kind::NotLines { peer, looks_like } => format!(
                "{source}: data{} looks like {looks_like}, not like lines of text; it is counted as \
                 received, and nothing is answered",
                (peer.as_ref()).map_or(String::new(), |peer| format!(" from {peer}"))
            ),
            Kind::Unaccepted { reason } => format!("{source}: new clients have to wait: {reason}"),
            Kind::Accepted => format!("{source}: new clients are accepted again"),
            Kind::Lowered {
                asked,
                connections_max,
                descriptors,
            } => format!(
                "{source}: {} {} more than the limit of {} allows; lowered to {connections_max} (raise \
                 ulimit -n)",
                count(asked, "client"),
                are(*asked as u64),
                count(descriptors, "open file")
            ),
            Kind::Exposed { address } => {
                let risk = "anyone who can reach it can send, without a password";
                format!("{source}: listens on {address}; {risk}")
            }
            Kind::Unfinished {
                clients,
                cut_off,
                unread_bytes,
            } => {
                let clients = count(clients, "client");
                let unread = match cut_off {
                    0 => String::new(),
                    _ => {
                        let (are, bytes) = (are(*unread_bytes), count(unread_bytes, "unread byte"));
                        format!(", nor {are} {bytes} from {}", count(cut_off, "client"))
                    }
                };
                format!(
                    "{source}: {clients} did not disconnect before the stop; later data is not \
                     counted{unread}"
                )
            }
            Kind::Unserved { reason } => format!(
                "{source}: waiting clients are not served: {reason}; what they sent is not counted"
            ),
            Kind::Unread { bytes } => {
                let one = *bytes == Some(1);
                let they_are = if one { "it is" } else { "they are" };
                let bytes = bytes.map_or("some bytes".to_owned(), |bytes| count(&bytes, "byte"));
                format!("{source}: stopped with {bytes} unread; {they_are} not counted")
            }
            Kind::DatagramsLost { datagrams } => format!(
                "{source}: the kernel dropped {} so far; they came faster than they were read",
                count(datagrams, "datagram")
            ),
            Kind::Unreceived { failures, reason } => {
                let times = count(failures, "time");
                format!("{source}: receiving failed {times}: {reason}; trying again")
            }
            Kind::Aborted {
                connections,
                reason,
            } => format!(
                "{source}: {} failed before being accepted: {reason}; what had arrived is not \
                 counted",
                count(connections, "connection")
            ),
            Kind::Undelivered { reason, retry_in } => {
                let s = retry_in.as_secs_f64();
                format!("sink {source}: waiting: {reason}; next try in {s} s")
            }
            Kind::Delivering => format!("sink {source}: delivers again"),
            Kind::NotDelivered {
                batches,
                first,
                last,
            } => {
                let (first, last) = (first.as_millis(), last.as_millis());
                let which = match batches {
                    1 => format!("1 batch undelivered: {first} ms"),
                    _ => format!("{batches} batches undelivered: {first} to {last} ms"),
                };
                format!("sink {source}: stopped with {which}")
            }
            Kind::Message(message) => format!("{source}: {message}"),
        };
        f.write_str(&text)
    }
}

/// A number and what it counts: `1 client`, `2 clients`.
fn count<N: fmt::Display + PartialEq + From<u8>>(number: &N, what: &str) -> String {
    let s = if *number == N::from(1) { "" } else { "s" };
    format!("{number} {what}{s}")
}

/// The verb that goes with a number.
fn are(count: u64) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

/// Those besides the one that is named: ` and 2 others`, or nothing.
pub(crate) struct Others(pub(crate) u64);

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 | 1 => Ok(()),
            all => write!(f, " and {}", count(&(all - 1), "other")),
        }
    }
}

/// The URL of `path`, escaped as `Debug` does.
pub(crate) fn url_of_path(scheme: &str, path: &Path) -> String {
    let quoted = format!("{path:?}");
    format!("{scheme}://{}", &quoted[1..quoted.len() - 1])
}
