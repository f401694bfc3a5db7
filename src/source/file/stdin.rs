//! `input`: an open file descriptor, read to its end: standard input, whatever it is connected to.
//!
//! Promise: the descriptor's flags, which other processes share, stay as they are; a read is made only
//! when it will not wait. Must not know: records, the clock.
//!
//! An inherited pipe or terminal is in blocking mode and has to stay so, and the event queue reports
//! only edges. So before each read a queue of the source's own is asked whether there is anything: arming
//! it anew gives the present state. The reactor's queue is registered with as well and does the waking.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::error::{Error, describe};
use crate::limits::DRAIN_BYTES_MAX;
use crate::memory::DecoderCounts;
use crate::notice::NoticeKind;
use crate::source::codec::decode::Decode;
use crate::source::codec::encoding::Decoded;
use crate::source::codec::unpack;
use crate::source::file::files::{became_shorter, has_shrunk};
use crate::source::{Fill, Port, Source};
use crate::sys;

/// An open file descriptor, read to its end.
///
/// What comes out of it is a text like a file's, whether it is a file or a pipe: a UTF-8 mark at its beginning is
/// skipped, and UTF-16 with a mark becomes UTF-8, as [`Files`](crate::sources::Files) has it.
pub struct Input {
    name: String,
    file: io::Result<File>,
    readiness: Readiness,
    decode: Decode,
    /// Bytes that were read and not asked about.
    taken_bytes: usize,
    /// Bytes of a regular file at the start, and those of them that are left; it may have become longer.
    file_bytes: u64,
    left_bytes: u64,
    /// A graceful stop was asked for.
    is_draining: bool,
    /// Since then it was not read until there was nothing.
    is_stopped_early: bool,
    is_over: bool,
    port: Port,
}

enum Readiness {
    Unknown,
    /// A regular file, or a device that cannot be waited for: a read never waits.
    Always,
    Ask {
        poll: Poll,
        events: Events,
    },
}

impl Input {
    /// Standard input. That it is closed is found out at the first read.
    pub fn stdin() -> Self {
        let file = io::stdin().as_fd().try_clone_to_owned().map(File::from);
        Input::new("standard input".to_owned(), file)
    }

    /// Gives what is inside, if it is compressed: the same as
    /// [`Files::decompress`](crate::sources::Files::decompress), for a pipe as well as for a file.
    ///
    /// What comes out of the pipe of a program that compresses, comes when that program has put out a
    /// block. A graceful stop drains up to [`DRAIN_BYTES_MAX`] of content.
    ///
    /// ```
    /// let input = microtally::sources::Input::stdin().decompress();
    /// ```
    #[cfg(feature = "compress")]
    pub fn decompress(mut self) -> Self {
        self.decode = Decode::new(Some(unpack::of_stream()));
        self
    }

    /// The largest window that compressed data may ask for, as a power of two. Called before anything is read.
    pub(crate) fn limit_window(&mut self, window_log_max: u32) {
        self.decode.limit_window(window_log_max);
    }

    /// What was opened as `name`.
    pub(crate) fn of(name: String, file: File) -> Self {
        Input::new(name, Ok(file))
    }

    /// Bytes that were read since this was asked last: compressed ones, if they are.
    pub(crate) fn take_taken_bytes(&mut self) -> usize {
        std::mem::take(&mut self.taken_bytes)
    }

    fn new(name: String, file: io::Result<File>) -> Self {
        Input {
            name,
            file,
            readiness: Readiness::Unknown,
            decode: Decode::new(None),
            taken_bytes: 0,
            file_bytes: 0,
            left_bytes: 0,
            is_draining: false,
            is_stopped_early: false,
            is_over: false,
            port: Port::detached(),
        }
    }

    /// Has the source behind `port` woken when there is something to read.
    pub(crate) fn watch(&mut self, port: &Port) {
        let Ok(file) = &self.file else { return };
        match watch(file, port) {
            Ok(Some(poll)) => {
                self.readiness = Readiness::Ask {
                    poll,
                    events: Events::with_capacity(1),
                };
            }
            Ok(None) => {
                self.readiness = Readiness::Always;
                (self.file_bytes, self.left_bytes) = file_bytes(file).unwrap_or_default();
            }
            Err(cause) => self.file = Err(cause),
        }
    }

    /// How many bytes a graceful stop left in a pipe whose writer never paused, if it left any; as far as the system
    /// says. Asked once.
    pub(crate) fn take_unread(&mut self) -> Option<Option<u64>> {
        if !std::mem::take(&mut self.is_stopped_early) || self.is_over {
            return None;
        }
        let bytes = sys::unread_bytes(self.file.as_ref().ok()?);
        (bytes != Some(0)).then_some(bytes)
    }

    fn failed(&mut self, cause: &io::Error) -> Fill {
        self.is_over = true;
        Fill::Failed(Error::input(&self.name, cause))
    }
}

/// Reports bytes that a graceful stop left in the pipe of this name.
pub(crate) fn report_unread(port: &Port, name: &str, bytes: Option<u64>) {
    // They are of one record at least, and nobody knows of how many.
    port.lost(1, bytes.unwrap_or(0));
    port.report_of(name, NoticeKind::Unread { bytes });
}

/// Bytes of a regular file, and those of them that are behind its place.
fn file_bytes(mut file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok((0, 0));
    }
    let bytes = metadata.len();
    Ok((bytes, bytes.saturating_sub(file.stream_position()?)))
}

/// Reads when there is something to read: bytes, the end, an error.
fn read_ready(mut file: &File, readiness: &mut Readiness, buf: &mut [u8]) -> io::Result<usize> {
    if let Readiness::Ask { poll, events } = readiness
        && !is_readable(file, poll, events)?
    {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    loop {
        match file.read(buf) {
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// Whether a read would give something, an end or an error at once.
fn is_readable(file: &File, poll: &mut Poll, events: &mut Events) -> io::Result<bool> {
    let fd = file.as_raw_fd();
    poll.registry()
        .reregister(&mut SourceFd(&fd), Token(0), Interest::READABLE)?;
    match poll.poll(events, Some(Duration::ZERO)) {
        Ok(()) => Ok(!events.is_empty()),
        Err(cause) if cause.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(cause) => Err(cause),
    }
}

/// A queue that can be asked about `file`, or `None` when it cannot be waited for.
fn watch(file: &File, port: &Port) -> io::Result<Option<Poll>> {
    let fd = file.as_raw_fd();
    let poll = Poll::new()?;
    match poll
        .registry()
        .register(&mut SourceFd(&fd), Token(0), Interest::READABLE)
    {
        Ok(()) => {}
        // What epoll says of regular files, directories and /dev/null.
        Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(cause) => return Err(cause),
    }
    port.register_fd(file)?;
    Ok(Some(poll))
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Source for Input {
    fn start(&mut self, port: Port, _now: Duration) {
        self.limit_window(port.window_log_max);
        self.watch(&port);
        self.port = port;
    }

    fn fill(&mut self, buf: &mut [u8], now: Duration) -> Fill {
        if self.is_over {
            return Fill::End;
        }
        let file = match &self.file {
            Ok(file) => file,
            Err(cause) => {
                let cause = io::Error::new(cause.kind(), describe(cause));
                return self.failed(&cause);
            }
        };
        let (readiness, taken_bytes) = (&mut self.readiness, &mut self.taken_bytes);
        let left_bytes = &mut self.left_bytes;
        let read = |space: &mut [u8]| {
            let count = read_ready(file, readiness, space)?;
            *taken_bytes += count;
            *left_bytes = left_bytes.saturating_sub(count as u64);
            Ok(count)
        };
        match self.decode.fill(buf, read) {
            Ok(Decoded::Bytes(count)) => Fill::Bytes(count),
            Ok(Decoded::Skipped(count)) => Fill::Skipped(count),
            // What has come so far is not enough to decode anything of it, and there may be more that has come.
            Ok(Decoded::Again) if self.is_draining => Fill::Finishing(now),
            Ok(Decoded::Again) => Fill::Pending(Some(now)),
            Ok(Decoded::End) if self.left_bytes > 0 && has_shrunk(file, self.file_bytes) => {
                self.failed(&became_shorter())
            }
            Ok(Decoded::End) => {
                self.is_over = true;
                Fill::End
            }
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                self.is_stopped_early = false;
                Fill::Pending(None)
            }
            Err(cause) => self.failed(&cause),
        }
    }

    fn drain(&mut self) -> usize {
        self.is_draining = true;
        self.is_stopped_early = !self.is_over && matches!(self.readiness, Readiness::Ask { .. });
        self.decode.hurry();
        // A pipe's content has been received; the rest of a file has not.
        match self.readiness {
            // What is in compressed bytes is more than they are, nobody knows how much.
            // Its writer may go on and on, and what is in compressed bytes is more than they are.
            Readiness::Ask { .. } if !self.is_over => DRAIN_BYTES_MAX,
            _ => 0,
        }
    }

    fn ended(&mut self) {
        if let Some(bytes) = self.take_unread() {
            report_unread(&self.port, &self.name, bytes);
        }
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn decoders(&self) -> DecoderCounts {
        // Nobody knows what it will be before the first bytes.
        if self.decode.is_unpacking() {
            unpack::Kind::Open.decoders()
        } else {
            DecoderCounts::default()
        }
    }
}

impl Drop for Input {
    /// Whoever wraps the source need not forward [`ended`](Source::ended).
    fn drop(&mut self) {
        self.ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Intake;
    use std::io::Write;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    /// An input whose writer has 100 bytes for it, of which 10 are read; then a stop reads as many as that.
    fn told(reads: usize) -> (Vec<String>, u64) {
        let (port, told) = Port::kept("a pipe");
        let account = port.account.clone();
        let (mut sender, receiver) = UnixStream::pair().unwrap();
        sender.write_all(&[b'x'; 100]).unwrap();
        let file = File::from(OwnedFd::from(receiver));
        let mut input = Input::of("a pipe".to_owned(), file);
        let now = Duration::from_secs(1);
        input.start(port, now);
        assert!(matches!(input.fill(&mut [0; 10], now), Fill::Bytes(10)));
        assert_eq!(input.drain(), DRAIN_BYTES_MAX);
        let mut left = reads;
        while left > 0 {
            match input.fill(&mut vec![0; left], now) {
                Fill::Bytes(count) => left -= count,
                Fill::Pending(None) => break,
                other => panic!("{other:?}"),
            }
        }
        input.ended();
        let bytes = account.then(Intake::default()).lost_bytes;
        drop(input);
        (told.take(), bytes)
    }

    #[test]
    fn what_a_stop_leaves_in_a_pipe_is_reported_with_its_bytes() {
        let message = "a pipe: stopped with 50 bytes unread; they are not counted";
        assert_eq!(told(40), (vec![message.to_owned()], 50));
        // All that was written was read, whether or not more was waited for.
        assert_eq!(told(90), (vec![], 0));
        assert_eq!(told(91), (vec![], 0));
    }

    #[cfg(feature = "compress")]
    /// A block of zstd is larger than what is read at once, so that the first read gives nothing.
    #[test]
    fn a_stop_drains_what_was_received_also_where_a_read_gives_nothing_yet() {
        // A block is a whole: of 64 different bytes it is six eighths as long, and nothing comes out before its end.
        let mut random = 1u64;
        let content = std::iter::repeat_with(|| {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            b' ' + (random >> 58) as u8
        });
        let content: Vec<u8> = content.take(120_000).collect();
        let packed = zstd::encode_all(&content[..], 1).unwrap();
        assert!((1 << 16..content.len()).contains(&packed.len()));
        let (mut sender, receiver) = UnixStream::pair().unwrap();
        let file = File::from(OwnedFd::from(receiver));
        let mut input = Input::of("a socket".to_owned(), file).decompress();
        let (now, mut buf) = (Duration::from_secs(1), vec![0; 1 << 16]);
        input.start(Port::detached(), now);
        sender
            .write_all(&zstd::encode_all(&b"begun\n"[..], 1).unwrap())
            .unwrap();
        assert!(matches!(input.fill(&mut buf, now), Fill::Bytes(6)));
        sender.write_all(&packed).unwrap();
        let (mut left, mut received) = (input.drain(), Vec::new());
        // As the reactor goes about it: anything but bytes and a break ends the stop.
        loop {
            match input.fill(&mut buf, now) {
                Fill::Bytes(count) => {
                    received.extend_from_slice(&buf[..count]);
                    left -= count;
                }
                Fill::Finishing(at) if at <= now => {}
                other => {
                    assert!(matches!(other, Fill::Pending(None)), "{other:?}");
                    break;
                }
            }
        }
        assert_eq!((received, left > 0), (content, true));
    }
}
