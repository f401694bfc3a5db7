//! Decompresses gzip, zstd, bzip2, xz and lz4, recognized by their first bytes.
//!
//! Promise: the content does not depend on how the compressed bytes were cut into reads; content
//! decoded before an error comes before it, and the error names its byte; the memory and the work
//! of a call are bounded. Must not know: `file`, pipes, records.
//!
//! ```text
//!   read ──▶ [ held: compressed, at most 64 KiB ] ──▶ codec ──▶ the caller's buffer
//!     └────── not compressed: straight, behind the first bytes ────────┘
//! ```
//!
//! No text in UTF-8 begins like gzip, zstd or xz: UTF-8 has no `8b`, `b5` or `fd` at that place.
//! lz4, and the skippable frames of zstd that parallel compressors write first, have a control
//! character in the first four bytes. bzip2 begins with ten characters that nobody writes by
//! chance. A format that is recognized and not decoded, such as a zip archive, is refused and not
//! counted.

#[cfg(feature = "compress")]
mod bzip2;
mod detect;
#[cfg(feature = "compress")]
mod gzip;
#[cfg(feature = "compress")]
mod lz4;
#[cfg(feature = "compress")]
mod members;
#[cfg(all(test, feature = "compress"))]
mod tests;
#[cfg(feature = "compress")]
mod xz;
#[cfg(feature = "compress")]
mod zstd;

use std::io;

pub(crate) use self::detect::{Compression, SIGNATURE_BYTES_MAX};
use crate::limits::{KIB, WINDOW_LOG_MAX};
use crate::source::codec::encoding::Decoded;

/// The most compressed bytes that are held.
const HELD_BYTES: usize = 64 * KIB;

/// The most bytes of content that a call returns: some 0.9 ms of work for gzip, 0.3 ms for zstd.
const CONTENT_BYTES_MAX: usize = 256 * KIB;

/// The most members and frames that end in one call: empty ones cost time and produce nothing.
const ENDS_PER_CALL: usize = 64;

/// A decoder of an input that may be compressed.
pub(crate) struct Decompressor {
    held: Box<[u8]>,
    /// The part of `held` that was not decoded.
    begin: usize,
    end: usize,
    /// Bytes of the input that were decoded.
    at: u64,
    is_ended: bool,
    format: Detected,
    /// log2 of the largest window that zstd and xz data may ask for.
    window_log_max: u32,
    /// The bytes so far are all of the input if no more are available now.
    is_hurried: bool,
    /// An error behind content that comes first.
    error: Option<io::Error>,
}

enum Detected {
    Undecided,
    Plain,
    Compressed(Box<dyn Codec>),
}

/// A decoder of one format: members, streams or frames one after another.
trait Codec: Send {
    /// The name of the format.
    fn name(&self) -> &'static str;

    /// Decodes some of `input`, which begins at byte `at`, into `out`, which has room for at least
    /// one byte. Without input it returns the content it holds.
    fn step(&mut self, input: &[u8], out: &mut [u8], at: u64) -> Advance;

    /// Returns `true` if the input may end here.
    fn may_end(&self) -> bool;
}

/// The outcome of one step of a codec.
#[derive(Default)]
struct Advance {
    consumed: usize,
    produced: usize,
    /// A member or a frame is complete.
    is_end: bool,
    error: Option<io::Error>,
}

/// Creates the codec of a format. `None`: there is nothing to decode.
#[cfg(feature = "compress")]
fn codec(compression: Compression, window_log_max: u32) -> io::Result<Option<Box<dyn Codec>>> {
    use self::members::Members;
    Ok(Some(match compression {
        Compression::None | Compression::Undecided => return Ok(None),
        Compression::Gzip => Box::new(Members::<flate2::Decompress>::new(window_log_max)),
        Compression::Zstd => Box::new(zstd::Zstd::new(window_log_max)?),
        Compression::Bzip2 => Box::new(Members::<::bzip2::Decompress>::new(window_log_max)),
        Compression::Xz => Box::new(Members::<xz::Xz>::new(window_log_max)),
        Compression::Lz4 => Box::<lz4::Lz4>::default(),
        Compression::Refused(what) => {
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
    }))
}

/// Without the feature `compress` nothing asks for decompression.
#[cfg(not(feature = "compress"))]
fn codec(_: Compression, _: u32) -> io::Result<Option<Box<dyn Codec>>> {
    Ok(None)
}

fn corrupt(what: &str, at: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} at byte {at}"))
}

/// The error of data that asks for a window of `wanted_bytes`. The commands that decompress it: the
/// first one if the memory limit refuses it, the second one if it is too large for any decoder.
#[cfg(feature = "compress")]
#[cold]
fn too_large(what: &str, wanted_bytes: u64, window_log_max: u32, commands: [&str; 2]) -> io::Error {
    let mib = |bytes: u64| bytes.div_ceil(crate::limits::MIB as u64);
    let (wanted, max) = (mib(wanted_bytes), mib(1 << window_log_max));
    let (kind, limit, command) = match window_log_max < WINDOW_LOG_MAX {
        true => (
            io::ErrorKind::QuotaExceeded,
            format!("the memory limit leaves {max} MiB for it"),
            commands[0],
        ),
        false => (
            io::ErrorKind::InvalidData,
            format!("{max} MiB is the most"),
            commands[1],
        ),
    };
    let message = format!("{what} {wanted} MiB, and {limit}; decompress it first with {command}");
    io::Error::new(kind, message)
}

impl Decompressor {
    /// Creates a decoder for an input of which nothing was read.
    pub(crate) fn new() -> Self {
        Decompressor {
            held: vec![0; HELD_BYTES].into(),
            begin: 0,
            end: 0,
            at: 0,
            is_ended: false,
            format: Detected::Undecided,
            window_log_max: WINDOW_LOG_MAX,
            is_hurried: false,
            error: None,
        }
    }

    /// Sets the largest window that zstd and xz data may ask for, 2 to the power of
    /// `window_log_max`; the default is 128 MiB. Called before anything is read.
    pub(crate) fn limit_window(&mut self, window_log_max: u32) {
        self.window_log_max = window_log_max;
    }

    /// From now on, first bytes that are too few to recognize a format are content if `read` has no
    /// more.
    pub(crate) fn hurry(&mut self) {
        self.is_hurried = true;
    }

    /// Decodes into `out`, which has room for at least one byte. `read` returns bytes of the input,
    /// as [`io::Read::read`] does. It is called at most once, unless the first bytes are too few to
    /// recognize the format.
    ///
    /// # Errors
    ///
    /// The error of `read`, such as [`WouldBlock`](io::ErrorKind::WouldBlock); the caller may
    /// continue. [`InvalidData`](io::ErrorKind::InvalidData) for bytes that are not of the format,
    /// and [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) for an input that ends too early; these
    /// are final.
    pub(crate) fn fill(
        &mut self,
        out: &mut [u8],
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Decoded> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        while matches!(self.format, Detected::Undecided) {
            let compression = Compression::of(&self.held[..self.end], self.is_ended);
            if compression == Compression::Undecided {
                match self.read_more(&mut read) {
                    Ok(()) => continue,
                    Err(cause)
                        if self.is_hurried
                            && self.end > 0
                            && cause.kind() == io::ErrorKind::WouldBlock => {}
                    Err(cause) => return Err(cause),
                }
            }
            self.format = match codec(compression, self.window_log_max)? {
                Some(codec) => Detected::Compressed(codec),
                None => Detected::Plain,
            };
        }
        if let Detected::Plain = self.format {
            return self.copy(out, read);
        }
        // Content inside the codec comes out before more is read: a pipe may have nothing for long.
        let first = self.decode(out)?;
        if first != Decoded::Again || self.begin < self.end {
            return Ok(first);
        }
        self.read_more(&mut read)?;
        self.decode(out)
    }

    /// Copies bytes that are not compressed.
    fn copy(
        &mut self,
        out: &mut [u8],
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Decoded> {
        let held = &self.held[self.begin..self.end];
        let count = if held.is_empty() {
            // A terminal would ask the user again after its end.
            if self.is_ended { 0 } else { read(out)? }
        } else {
            let count = held.len().min(out.len());
            out[..count].copy_from_slice(&held[..count]);
            self.begin += count;
            count
        };
        Ok(Decoded::read(count))
    }

    /// Reads once, behind the bytes held.
    fn read_more(
        &mut self,
        read: &mut impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        }
        match read(&mut self.held[self.end..])? {
            0 => self.is_ended = true,
            count => self.end += count,
        }
        Ok(())
    }

    /// Decodes the bytes held, until there are none left or the call has done its share.
    fn decode(&mut self, out: &mut [u8]) -> io::Result<Decoded> {
        let Detected::Compressed(codec) = &mut self.format else {
            return Ok(Decoded::End);
        };
        let room = out.len().min(CONTENT_BYTES_MAX);
        let out = &mut out[..room];
        let (mut filled, mut ends) = (0, 0);
        while filled < out.len() && ends < ENDS_PER_CALL {
            let held = &self.held[self.begin..self.end];
            let advance = codec.step(held, &mut out[filled..], self.at);
            self.begin += advance.consumed;
            self.at += advance.consumed as u64;
            filled += advance.produced;
            ends += usize::from(advance.is_end);
            if let Some(error) = advance.error {
                if filled == 0 {
                    return Err(error);
                }
                self.error = Some(error);
                break;
            }
            if advance.consumed == 0 && advance.produced == 0 && !advance.is_end {
                if self.begin < self.end {
                    // It would never continue.
                    return Err(corrupt("a decoder is stuck", self.at));
                }
                break;
            }
        }
        if filled > 0 {
            return Ok(Decoded::Bytes(filled));
        }
        if !self.is_ended || self.begin < self.end {
            return Ok(Decoded::Again);
        }
        if codec.may_end() {
            return Ok(Decoded::End);
        }
        let message = format!("the {} data breaks off at byte {}", codec.name(), self.at);
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, message))
    }
}
