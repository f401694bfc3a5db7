//! `stdin`: standard input, or another open descriptor, read to its end.
//!
//! Promise: the descriptor's flags, which other processes share, stay as they are; reads never
//! block. Must not know: records, the clock.
//!
//! An inherited pipe or terminal is in blocking mode and has to stay so, and the event queue
//! reports only edges. So the source asks an event queue of its own before each read: registering
//! again reports the present state. The descriptor is registered with the reactor's queue as well,
//! which wakes the source.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::error::{Error, describe};
use crate::intake::Intake;
use crate::limits::DRAIN_BYTES_MAX;
use crate::memory::DecoderCounts;
use crate::notice::NoticeKind;
use crate::source::codec::decoder::Decoder;
use crate::source::codec::decompress::Compression;
use crate::source::codec::encoding::Decoded;
use crate::source::file::files::{became_shorter, has_shrunk};
use crate::source::{Fill, Port, ReadOutcome, Source, read_once};
use crate::sys;

/// A source that reads standard input to its end.
///
/// A UTF-8 mark at its beginning is skipped, and UTF-16 with a mark becomes UTF-8, as for
/// [`Files`](crate::sources::Files).
pub struct Stdin {
    name: String,
    file: io::Result<File>,
    readiness: Readiness,
    decoder: Decoder,
    /// Bytes read since [`take_read_bytes`](Self::take_read_bytes) was called last.
    read_bytes: usize,
    /// The size of a regular file at the start, and the bytes of it that were not read.
    file_bytes: u64,
    left_bytes: u64,
    /// A graceful stop was requested.
    is_draining: bool,
    /// Since then, no read found the descriptor empty.
    is_stopped_early: bool,
    has_ended: bool,
    port: Port,
}

enum Readiness {
    Unknown,
    /// A regular file, or a device that cannot be waited for: reads never block.
    Always,
    Polled {
        poll: Poll,
        events: Events,
    },
}

impl Stdin {
    /// Opens standard input. If it is closed, the first read fails.
    pub fn open() -> Self {
        let file = io::stdin().as_fd().try_clone_to_owned().map(File::from);
        Stdin::of("standard input".to_owned(), file, false)
    }

    /// Decompresses a pipe or a file, as [`Files::decompress`](crate::sources::Files::decompress)
    /// does.
    ///
    /// The content of a pipe arrives when the compressing program has written a block. A graceful
    /// stop drains at most [`DRAIN_BYTES_MAX`] of content.
    ///
    /// ```
    /// let stdin = microtally::sources::Stdin::open().decompress();
    /// ```
    #[cfg(feature = "compress")]
    pub fn decompress(mut self) -> Self {
        self.decoder = Decoder::new(true);
        self
    }

    /// Sets the largest window that compressed data may ask for. See [`Decoder::limit_window`].
    pub(crate) fn limit_window(&mut self, window_log_max: u32) {
        self.decoder.limit_window(window_log_max);
    }

    /// Returns the bytes read since the last call; compressed data counts with its compressed
    /// bytes.
    pub(crate) fn take_read_bytes(&mut self) -> usize {
        std::mem::take(&mut self.read_bytes)
    }

    /// Creates a source of another descriptor, which messages call `name`.
    pub(crate) fn of(name: String, file: io::Result<File>, is_decompressing: bool) -> Self {
        Stdin {
            name,
            file,
            readiness: Readiness::Unknown,
            decoder: Decoder::new(is_decompressing),
            read_bytes: 0,
            file_bytes: 0,
            left_bytes: 0,
            is_draining: false,
            is_stopped_early: false,
            has_ended: false,
            port: Port::detached(),
        }
    }

    /// Registers the descriptor with `port`, which wakes the source when it is readable.
    pub(crate) fn watch(&mut self, port: &Port) {
        let Ok(file) = &self.file else { return };
        match register(file, port) {
            Ok(Some(poll)) => {
                self.readiness = Readiness::Polled {
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

    /// Returns `Some` if a graceful stop left bytes in a pipe whose writer never paused, with their
    /// number if the system reports it. Called once.
    pub(crate) fn take_unread(&mut self) -> Option<Option<u64>> {
        if !std::mem::take(&mut self.is_stopped_early) || self.has_ended {
            return None;
        }
        let bytes = sys::unread_bytes(self.file.as_ref().ok()?);
        (bytes != Some(0)).then_some(bytes)
    }

    fn failed(&mut self, cause: &io::Error) -> ReadOutcome {
        self.has_ended = true;
        ReadOutcome::Nothing(Fill::Failed(Error::input(&self.name, cause)))
    }
}

/// Reports bytes that a graceful stop left in the pipe of this name.
pub(crate) fn report_unread(port: &Port, name: &str, bytes: Option<u64>) {
    // They are at least one record; how many is unknown.
    port.lost(1, bytes.unwrap_or(0));
    port.report_of(name, NoticeKind::Unread { bytes });
}

/// Returns the size of a regular file, and the bytes behind its position.
fn file_bytes(mut file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok((0, 0));
    }
    let bytes = metadata.len();
    Ok((bytes, bytes.saturating_sub(file.stream_position()?)))
}

/// Reads if that does not block, otherwise returns [`WouldBlock`](io::ErrorKind::WouldBlock).
fn read_ready(mut file: &File, readiness: &mut Readiness, buf: &mut [u8]) -> io::Result<usize> {
    if let Readiness::Polled { poll, events } = readiness
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

/// Returns `true` if a read would not block.
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

/// Returns an event queue for `file`, or `None` if it cannot be waited for.
fn register(file: &File, port: &Port) -> io::Result<Option<Poll>> {
    let fd = file.as_raw_fd();
    let poll = Poll::new()?;
    match poll
        .registry()
        .register(&mut SourceFd(&fd), Token(0), Interest::READABLE)
    {
        Ok(()) => {}
        // epoll refuses regular files, directories and /dev/null.
        Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(cause) => return Err(cause),
    }
    port.register_fd(file)?;
    Ok(Some(poll))
}

impl Stdin {
    /// Reads once, if that does not block.
    pub(crate) fn read(&mut self, buf: &mut [u8], now: Duration) -> ReadOutcome {
        if self.has_ended {
            return ReadOutcome::Nothing(Fill::End);
        }
        let file = match &self.file {
            Ok(file) => file,
            Err(cause) => {
                let cause = io::Error::new(cause.kind(), describe(cause));
                return self.failed(&cause);
            }
        };
        let (readiness, read_bytes) = (&mut self.readiness, &mut self.read_bytes);
        let left_bytes = &mut self.left_bytes;
        let read = |space: &mut [u8]| {
            let count = read_ready(file, readiness, space)?;
            *read_bytes += count;
            *left_bytes = left_bytes.saturating_sub(count as u64);
            Ok(count)
        };
        match self.decoder.fill(buf, read) {
            Ok(Decoded::Bytes(count)) => ReadOutcome::Bytes(count),
            Ok(Decoded::Skipped(count)) => ReadOutcome::Skipped(count),
            // The bytes so far are too few to decode anything, and more may have arrived.
            Ok(Decoded::Again) if self.is_draining => ReadOutcome::Nothing(Fill::Finishing(now)),
            Ok(Decoded::Again) => ReadOutcome::Nothing(Fill::Pending(Some(now))),
            Ok(Decoded::End) if self.left_bytes > 0 && has_shrunk(file, self.file_bytes) => {
                self.failed(&became_shorter())
            }
            Ok(Decoded::End) => {
                self.has_ended = true;
                ReadOutcome::Nothing(Fill::End)
            }
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                self.is_stopped_early = false;
                ReadOutcome::Nothing(Fill::Pending(None))
            }
            Err(cause) => self.failed(&cause),
        }
    }
}

debug_fields!([] Stdin, "Stdin", name);

impl Source for Stdin {
    fn start(&mut self, port: Port, _now: Duration) {
        self.limit_window(port.window_log_max);
        self.watch(&port);
        self.port = port;
    }

    fn fill(&mut self, out: &mut Intake<'_>, now: Duration) -> Fill {
        read_once(out, |space| self.read(space, now))
    }

    fn drain(&mut self) -> usize {
        self.is_draining = true;
        self.is_stopped_early =
            !self.has_ended && matches!(self.readiness, Readiness::Polled { .. });
        self.decoder.hurry();
        // A pipe's bytes have been received; the rest of a file has not.
        match self.readiness {
            // Its writer may never pause, and compressed bytes have more content than bytes.
            Readiness::Polled { .. } if !self.has_ended => DRAIN_BYTES_MAX,
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
        // The format is not known before the first bytes.
        if self.decoder.is_decompressing() {
            Compression::Undecided.decoders()
        } else {
            DecoderCounts::default()
        }
    }
}

impl Drop for Stdin {
    /// A wrapper of the source need not forward [`ended`](Source::ended).
    fn drop(&mut self) {
        self.ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::IntakeTotals;
    use std::io::Write;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    /// Reads 10 of the 100 bytes in a pipe; then a graceful stop reads `reads` more. Returns the
    /// notices and the lost bytes.
    fn notices_after(reads: usize) -> (Vec<String>, u64) {
        let (port, notices) = Port::kept("a pipe");
        let account = port.account.clone();
        let (mut sender, receiver) = UnixStream::pair().unwrap();
        sender.write_all(&[b'x'; 100]).unwrap();
        let file = File::from(OwnedFd::from(receiver));
        let mut input = Stdin::of("a pipe".to_owned(), Ok(file), false);
        let now = Duration::from_secs(1);
        input.start(port, now);
        assert!(matches!(
            input.read(&mut [0; 10], now),
            ReadOutcome::Bytes(10)
        ));
        assert_eq!(input.drain(), DRAIN_BYTES_MAX);
        let mut left = reads;
        while left > 0 {
            match input.read(&mut vec![0; left], now) {
                ReadOutcome::Bytes(count) => left -= count,
                ReadOutcome::Nothing(Fill::Pending(None)) => break,
                other => panic!("{other:?}"),
            }
        }
        input.ended();
        let bytes = account.then(IntakeTotals::default()).lost_bytes;
        drop(input);
        (notices.take(), bytes)
    }

    #[test]
    fn what_a_stop_leaves_in_a_pipe_is_reported_with_its_bytes() {
        let message = "a pipe: stopped with 50 bytes unread; they are not counted";
        assert_eq!(notices_after(40), (vec![message.to_owned()], 50));
        // Everything that was written was read.
        assert_eq!(notices_after(90), (vec![], 0));
        assert_eq!(notices_after(91), (vec![], 0));
    }

    #[cfg(feature = "compress")]
    /// A block of zstd is larger than a read, so that the first read produces nothing.
    #[test]
    fn a_stop_drains_what_was_received_also_where_a_read_gives_nothing_yet() {
        // Of 64 different bytes a block is six eighths as long, and nothing comes out before its
        // end.
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
        let mut input = Stdin::of("a socket".to_owned(), Ok(file), true);
        let (now, mut buf) = (Duration::from_secs(1), vec![0; 1 << 16]);
        input.start(Port::detached(), now);
        sender
            .write_all(&zstd::encode_all(&b"begun\n"[..], 1).unwrap())
            .unwrap();
        assert!(matches!(input.read(&mut buf, now), ReadOutcome::Bytes(6)));
        sender.write_all(&packed).unwrap();
        let (mut left, mut received) = (input.drain(), Vec::new());
        // As in the reactor: anything but bytes and a break ends the stop.
        loop {
            match input.read(&mut buf, now) {
                ReadOutcome::Bytes(count) => {
                    received.extend_from_slice(&buf[..count]);
                    left -= count;
                }
                ReadOutcome::Nothing(Fill::Finishing(at)) if at <= now => {}
                other => {
                    assert!(
                        matches!(other, ReadOutcome::Nothing(Fill::Pending(None))),
                        "{other:?}"
                    );
                    break;
                }
            }
        }
        assert_eq!((received, left > 0), (content, true));
    }
}
