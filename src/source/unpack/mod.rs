//! What is in compressed bytes: gzip and zstd, known by their first bytes.
//!
//! Promise: the content does not depend on how the compressed bytes were cut into reads; what was decoded
//! before an error is given before it, and the error says at which byte; memory is bounded, and so is the
//! work of a call. Refuses to know: files, pipes, names, records.
//!
//! ```text
//!   read ──▶ [ held: compressed, at most 64 KiB ] ──▶ format ──▶ the caller's buffer
//!     └────── plain: straight from behind the first bytes ───────────┘
//! ```
//!
//! `1f 8b` begins gzip and `28 b5 2f fd` zstd; neither begins a text in UTF-8, where `8b` and `b5` only
//! stand inside of a character. A skippable frame of zstd, as parallel compressors write one in front,
//! begins with `50 2a 4d 18` (the last digit of the first byte is free); a text that begins with these
//! four characters, one of them the control character `\x18`, is refused and not counted.

mod gzip;
#[cfg(test)]
mod tests;
mod zstd;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use self::gzip::Gzip;
use self::zstd::Zstd;
use crate::limits::{KIB, WINDOW_LOG_MAX};
use crate::table::budget::Decoders;

/// Compressed bytes that are held at most.
const HELD_BYTES: usize = 64 * KIB;

/// Bytes of content that a call gives at most: some 0.9 ms of work for gzip, 0.3 ms for zstd.
const GIVEN_BYTES: usize = 256 * KIB;

/// The longest beginning by which a format is known.
const MAGIC_BYTES: usize = 4;

/// Members and frames that end in one call, at most: empty ones cost time and give nothing.
const ENDS_PER_CALL: usize = 64;

/// What a call of [`Unpack::fill`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// That many bytes, at least one, were put at the front of the buffer.
    Bytes(usize),
    /// Compressed bytes were taken in, and nothing came out of them yet. Call again.
    Again,
    /// There is no more.
    End,
}

/// What the first bytes of an input say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Gzip,
    Zstd,
    /// More bytes are needed.
    Open,
}

impl Kind {
    /// Whether there is something to decode.
    pub(crate) fn is_packed(self) -> bool {
        matches!(self, Kind::Gzip | Kind::Zstd)
    }

    /// What it takes to read it.
    pub(crate) fn decoders(self) -> Decoders {
        Decoders {
            count: usize::from(self != Kind::Plain),
            windows: usize::from(matches!(self, Kind::Zstd | Kind::Open)),
        }
    }
}

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
    /// Found behind bytes that had to be given first.
    error: Option<io::Error>,
}

enum Format {
    Unknown,
    Plain,
    /// Boxed, as the next one: most inputs are plain.
    Gzip(Box<Gzip>),
    Zstd(Box<Zstd>),
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

/// A decoder for a regular file, if that is compressed. The file's own place stays where it is.
///
/// # Errors
///
/// What the system says of a read.
pub(crate) fn of_file(file: &File) -> io::Result<Option<Box<Unpack>>> {
    Ok(kind_of_file(file)?.is_packed().then(of_stream))
}

/// What the first bytes of a regular file say. The file's own place stays where it is.
///
/// # Errors
///
/// What the system says of a read.
pub(crate) fn kind_of_file(file: &File) -> io::Result<Kind> {
    let (mut first, mut count) = ([0; MAGIC_BYTES], 0);
    while count < MAGIC_BYTES {
        match file.read_at(&mut first[count..], count as u64) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(kind_of(&first[..count], true))
}

/// A decoder for what comes out of a pipe or the like, which may be compressed.
pub(crate) fn of_stream() -> Box<Unpack> {
    Box::new(Unpack::new())
}

/// What begins with `first`, which is all there is if `is_all`.
fn kind_of(first: &[u8], is_all: bool) -> Kind {
    match *first {
        [0x1f, 0x8b, ..] => Kind::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Kind::Zstd,
        _ if is_all => Kind::Plain,
        []
        | [0x1f]
        | [0x28 | 0x50..=0x5f]
        | [0x28, 0xb5]
        | [0x28, 0xb5, 0x2f]
        | [0x50..=0x5f, 0x2a]
        | [0x50..=0x5f, 0x2a, 0x4d] => Kind::Open,
        _ => Kind::Plain,
    }
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
            error: None,
        }
    }

    /// Zstd data may ask for a window of 2 to the power of `window_log_max`; without a word for one of 128 MiB.
    /// Called before anything is read.
    pub(crate) fn limit_window(&mut self, window_log_max: u32) {
        self.window_log_max = window_log_max;
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
    ) -> io::Result<Step> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        while matches!(self.format, Format::Unknown) {
            match kind_of(&self.held[..self.end], self.is_ended) {
                Kind::Open => self.take_in(&mut read)?,
                Kind::Plain => self.format = Format::Plain,
                Kind::Gzip => self.format = Format::Gzip(Box::default()),
                Kind::Zstd => self.format = Format::Zstd(Box::new(Zstd::new(self.window_log_max)?)),
            }
        }
        if let Format::Plain = self.format {
            return self.plain(out, read);
        }
        // What is inside a decoder comes out before more is read: a pipe may have nothing for long.
        let first = self.decode(out)?;
        if first != Step::Again || self.begin < self.end {
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
    ) -> io::Result<Step> {
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
            0 => Step::End,
            count => Step::Bytes(count),
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
    fn decode(&mut self, out: &mut [u8]) -> io::Result<Step> {
        let room = out.len().min(GIVEN_BYTES);
        let out = &mut out[..room];
        let (mut filled, mut ends) = (0, 0);
        while filled < out.len() && ends < ENDS_PER_CALL {
            let held = &self.held[self.begin..self.end];
            let progress = match &mut self.format {
                Format::Gzip(gzip) => gzip.step(held, &mut out[filled..], self.at),
                Format::Zstd(zstd) => zstd.step(held, &mut out[filled..], self.at),
                Format::Unknown | Format::Plain => break,
            };
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
            return Ok(Step::Bytes(filled));
        }
        if !self.is_ended || self.begin < self.end {
            return Ok(Step::Again);
        }
        let (name, may_end) = match &self.format {
            Format::Gzip(gzip) => ("gzip", gzip.may_end()),
            Format::Zstd(zstd) => ("zstd", zstd.may_end()),
            Format::Unknown | Format::Plain => ("", true),
        };
        if may_end {
            return Ok(Step::End);
        }
        let message = format!("the {name} data breaks off at byte {}", self.at);
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, message))
    }
}
