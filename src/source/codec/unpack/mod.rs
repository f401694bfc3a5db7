//! What is in compressed bytes: gzip, zstd, bzip2, xz and lz4, known by their first bytes.
//!
//! Promise: the content does not depend on how the compressed bytes were cut into reads; what was decoded
//! before an error is given before it, and the error says at which byte; memory is bounded, and so is the
//! work of a call. Must not know: files, pipes, names, records.
//!
//! ```text
//!   read ──▶ [ held: compressed, at most 64 KiB ] ──▶ format ──▶ the caller's buffer
//!     └────── plain: straight from behind the first bytes ───────────┘
//! ```
//!
//! No text in UTF-8 begins as gzip, zstd or xz do: `8b`, `b5` and `fd` stand nowhere at such a place. lz4 and the
//! skippable frames of zstd, which parallel compressors write in front, begin with a control character in the first
//! four bytes, and bzip2 with ten characters that nobody writes by chance. What begins like a format that is
//! known and not decoded, a zip archive for example, is refused and not counted.

mod bzip2;
mod gzip;
mod kinds;
mod lz4;
#[cfg(test)]
mod tests;
mod xz;
mod zstd;

use std::io;

use self::bzip2::Bzip2;
use self::gzip::Gzip;
pub(crate) use self::kinds::{Kind, MAGIC_BYTES, kind_of};
use self::lz4::Lz4;
use self::xz::Xz;
use self::zstd::Zstd;
use crate::limits::{KIB, WINDOW_LOG_MAX};
use crate::source::codec::encoding::Decoded;

/// Compressed bytes that are held at most.
const HELD_BYTES: usize = 64 * KIB;

/// Bytes of content that a call gives at most: some 0.9 ms of work for gzip, 0.3 ms for zstd.
const GIVEN_BYTES: usize = 256 * KIB;

/// Members and frames that end in one call, at most: empty ones cost time and give nothing.
const ENDS_PER_CALL: usize = 64;

/// A decoder between an input and whoever reads it.
pub(crate) struct Unpack {
    held: Box<[u8]>,
    /// The part of `held` that was not decoded.
    begin: usize,
    end: usize,
    /// Bytes of the input that were decoded.
    at: u64,
    /// The input gives no more.
    is_ended: bool,
    format: Format,
    /// log2 of the largest window that zstd data may ask for.
    window_log_max: u32,
    /// What has come is all there is, if nothing comes now.
    is_hurried: bool,
    /// Found behind bytes that had to be given first.
    error: Option<io::Error>,
}

enum Format {
    Unknown,
    Plain,
    Packed(Box<dyn Codec>),
}

/// A decoder of one format: members, streams or frames one after another.
trait Codec: Send {
    /// The name of the format.
    fn name(&self) -> &'static str;

    /// Takes some of `input`, which begins at byte `at`, and puts what is in it at the front of `out`, which has room
    /// for at least one byte. Without input it hands out what it holds.
    fn step(&mut self, input: &[u8], out: &mut [u8], at: u64) -> Progress;

    /// Whether the input may end here.
    fn may_end(&self) -> bool;
}

/// What one step of a decoder did.
#[derive(Default)]
struct Progress {
    consumed: usize,
    produced: usize,
    /// A member or a frame is complete.
    is_end: bool,
    error: Option<io::Error>,
}

/// A decoder for an input that may be compressed.
pub(crate) fn of_stream() -> Box<Unpack> {
    Box::new(Unpack::new())
}

/// The error of an input that does not go on as it began.
fn corrupt(what: &str, at: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} at byte {at}"))
}

impl Unpack {
    /// A decoder of an input of which nothing was read.
    fn new() -> Self {
        Unpack {
            held: vec![0; HELD_BYTES].into(),
            begin: 0,
            end: 0,
            at: 0,
            is_ended: false,
            format: Format::Unknown,
            window_log_max: WINDOW_LOG_MAX,
            is_hurried: false,
            error: None,
        }
    }

    /// Zstd and xz data may ask for a window of 2 to the power of `window_log_max`; without a word for one of 128 MiB.
    /// Called before anything is read.
    pub(crate) fn limit_window(&mut self, window_log_max: u32) {
        self.window_log_max = window_log_max;
    }

    /// Nobody waits any longer for what may follow: the first bytes, too few to know a format by, are content if
    /// `read` has no more.
    pub(crate) fn hurry(&mut self) {
        self.is_hurried = true;
    }

    /// Puts what is in the input at the front of `out`, which has room for at least one byte. `read` gives
    /// bytes of the input as [`io::Read::read`] does; it is called once at most, unless what it gave
    /// first is too little to know the format by.
    ///
    /// # Errors
    ///
    /// What `read` says, [`WouldBlock`](io::ErrorKind::WouldBlock) among it, after which one may go on;
    /// [`InvalidData`](io::ErrorKind::InvalidData) for bytes that are not of the format and
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) for an input that ends too soon, after which there
    /// is nothing more.
    pub(crate) fn fill(
        &mut self,
        out: &mut [u8],
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Decoded> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        while matches!(self.format, Format::Unknown) {
            self.format = match kind_of(&self.held[..self.end], self.is_ended) {
                Kind::Open => match self.take_in(&mut read) {
                    Ok(()) => continue,
                    Err(cause)
                        if self.is_hurried
                            && self.end > 0
                            && cause.kind() == io::ErrorKind::WouldBlock =>
                    {
                        Format::Plain
                    }
                    Err(cause) => return Err(cause),
                },
                Kind::Plain => Format::Plain,
                Kind::Gzip => Format::Packed(Box::<Gzip>::default()),
                Kind::Zstd => Format::Packed(Box::new(Zstd::new(self.window_log_max)?)),
                Kind::Bzip2 => Format::Packed(Box::<Bzip2>::default()),
                Kind::Xz => Format::Packed(Box::new(Xz::new(self.window_log_max))),
                Kind::Lz4 => Format::Packed(Box::<Lz4>::default()),
                Kind::Refused(what) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
            };
        }
        if let Format::Plain = self.format {
            return self.plain(out, read);
        }
        // What is inside a decoder comes out before more is read: a pipe may have nothing for long.
        let first = self.decode(out)?;
        if first != Decoded::Again || self.begin < self.end {
            return Ok(first);
        }
        self.take_in(&mut read)?;
        self.decode(out)
    }

    /// The bytes as they are.
    fn plain(
        &mut self,
        out: &mut [u8],
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Decoded> {
        let held = &self.held[self.begin..self.end];
        let count = if held.is_empty() {
            // It may be a terminal, which would be asked once more after its end.
            if self.is_ended { 0 } else { read(out)? }
        } else {
            let count = held.len().min(out.len());
            out[..count].copy_from_slice(&held[..count]);
            self.begin += count;
            count
        };
        Ok(match count {
            0 => Decoded::End,
            count => Decoded::Bytes(count),
        })
    }

    /// Reads once, behind what is held.
    fn take_in(&mut self, read: &mut impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<()> {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        }
        match read(&mut self.held[self.end..])? {
            0 => self.is_ended = true,
            count => self.end += count,
        }
        Ok(())
    }

    /// Decodes what is held, until it is used up or there is enough in `out`.
    fn decode(&mut self, out: &mut [u8]) -> io::Result<Decoded> {
        let room = out.len().min(GIVEN_BYTES);
        let out = &mut out[..room];
        let (mut filled, mut ends) = (0, 0);
        while filled < out.len() && ends < ENDS_PER_CALL {
            let held = &self.held[self.begin..self.end];
            let Format::Packed(codec) = &mut self.format else {
                break;
            };
            let progress = codec.step(held, &mut out[filled..], self.at);
            self.begin += progress.consumed;
            self.at += progress.consumed as u64;
            filled += progress.produced;
            ends += usize::from(progress.is_end);
            if let Some(error) = progress.error {
                if filled == 0 {
                    return Err(error);
                }
                self.error = Some(error);
                break;
            }
            if progress.consumed == 0 && progress.produced == 0 && !progress.is_end {
                if self.begin < self.end {
                    // Nobody would ever get behind it.
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
        let Format::Packed(codec) = &self.format else {
            return Ok(Decoded::End);
        };
        if codec.may_end() {
            return Ok(Decoded::End);
        }
        let name = codec.name();
        let message = format!("the {name} data breaks off at byte {}", self.at);
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, message))
    }
}
