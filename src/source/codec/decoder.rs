//! Decodes the bytes of an input to text: decompression, then the text encoding.
//!
//! Promise: those of `decompress` and `encoding`. Must not know: records, `file`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::memory::DecoderCounts;
use crate::source::codec::decompress::{Compression, Decompressor, SIGNATURE_BYTES_MAX};
use crate::source::codec::encoding::{Decoded, Encoding, MARK_BYTES_MAX, TextDecoder};

/// Bytes from which a format and an encoding are recognized.
const FIRST_BYTES: usize = 16;

const _: () = assert!(FIRST_BYTES >= SIGNATURE_BYTES_MAX && FIRST_BYTES >= MARK_BYTES_MAX);

/// The first bytes of a regular file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FirstBytes {
    bytes: [u8; FIRST_BYTES],
    len: usize,
}

impl FirstBytes {
    /// Reads those of `file`, whose position stays where it is.
    ///
    /// # Errors
    ///
    /// Those of a read.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let mut first = FirstBytes::default();
        while first.len < FIRST_BYTES {
            match file.read_at(&mut first.bytes[first.len..], first.len as u64) {
                Ok(0) => break,
                Ok(more) => first.len += more,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok(first)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Returns the decoding of a file that begins like this. It is decompressed only on request.
    pub(crate) fn decoding(&self, is_decompressed: bool) -> Decoding {
        match Compression::of(self.bytes(), true) {
            compression if is_decompressed && compression != Compression::None => {
                Decoding::Compressed(compression)
            }
            _ => match Encoding::of(self.bytes(), true) {
                Some(Encoding::Utf16 { .. } | Encoding::Utf32) => Decoding::Utf16,
                _ => Decoding::None,
            },
        }
    }
}

/// How a file has to be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoding {
    /// Not at all: it may be read in chunks.
    None,
    /// From beginning to end, as text in UTF-16.
    Utf16,
    /// From beginning to end, by a codec.
    Compressed(Compression),
}

impl Decoding {
    /// Returns the decoders it takes.
    pub(crate) fn decoders(self) -> DecoderCounts {
        match self {
            Decoding::None => DecoderCounts::default(),
            Decoding::Utf16 => DecoderCounts::of_one(),
            Decoding::Compressed(compression) => compression.decoders(),
        }
    }
}

/// A decoder from the bytes of one input to its text.
pub(crate) struct Decoder {
    /// Absent if decompression was not requested.
    decompressor: Option<Box<Decompressor>>,
    text: TextDecoder,
}

impl Decoder {
    /// Creates a decoder that decompresses or does not.
    pub(crate) fn new(is_decompressing: bool) -> Self {
        Decoder {
            decompressor: is_decompressing.then(|| Box::new(Decompressor::new())),
            text: TextDecoder::default(),
        }
    }

    /// A decoder of text that is known to have no mark.
    pub(crate) fn unmarked() -> Self {
        Decoder {
            decompressor: None,
            text: TextDecoder::unmarked(),
        }
    }

    /// Returns `true` if compressed data is decoded.
    pub(crate) fn is_decompressing(&self) -> bool {
        self.decompressor.is_some()
    }

    /// Sets the largest window that compressed data may ask for. See
    /// [`Decompressor::limit_window`].
    pub(crate) fn limit_window(&mut self, window_log_max: u32) {
        if let Some(decompressor) = &mut self.decompressor {
            decompressor.limit_window(window_log_max);
        }
    }

    /// From now on, first bytes that are too few to recognize anything are text if `read` has no
    /// more.
    pub(crate) fn hurry(&mut self) {
        if let Some(decompressor) = &mut self.decompressor {
            decompressor.hurry();
        }
        self.text.hurry();
    }

    /// Decodes text into `out`, which has room for at least one byte. `read` returns bytes of the
    /// input, as [`io::Read::read`] does.
    ///
    /// # Errors
    ///
    /// The error of `read`, such as [`WouldBlock`](io::ErrorKind::WouldBlock); the caller may
    /// continue. The errors of a decoder are final.
    pub(crate) fn fill(
        &mut self,
        out: &mut [u8],
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Decoded> {
        let Decoder { decompressor, text } = self;
        text.fill(out, |space| match decompressor {
            Some(decompressor) => decompressor.fill(space, &mut read),
            None => read(space).map(Decoded::read),
        })
    }
}

/// Decodes `bytes`, compressed or not, in reads of the given sizes, over and over, and into buffers
/// of `room` bytes. Stops after about `bytes_max` bytes of content. Returns the content and the
/// outcome. For the fuzzer.
#[cfg(feature = "compress")]
pub fn decoded(
    bytes: &[u8],
    reads: &[usize],
    room: usize,
    bytes_max: usize,
) -> (Vec<u8>, io::Result<()>) {
    let mut decoder = Decoder::new(true);
    let (mut content, mut out) = (Vec::new(), vec![0; room.max(1)]);
    let (mut rest, mut reads, mut is_ready) = (bytes, reads.iter().cycle(), false);
    while content.len() < bytes_max {
        let step = decoder.fill(&mut out, |space| {
            is_ready = !is_ready;
            if is_ready {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let wanted = reads.next().map_or(usize::MAX, |&wanted| wanted.max(1));
            let count = wanted.min(space.len()).min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            Ok(count)
        });
        match step {
            Ok(Decoded::Bytes(count)) => content.extend_from_slice(&out[..count]),
            Ok(Decoded::Skipped(_) | Decoded::Again) => {}
            Ok(Decoded::End) => break,
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {}
            Err(cause) => return (content, Err(cause)),
        }
    }
    (content, Ok(()))
}
