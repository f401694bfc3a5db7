//! What stands between the bytes of an input and its text: a decoder of compressed data, and the mark of the encoding.
//!
//! Promise: as `unpack` and `encoding` promise. Must not know: records, who reads.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::memory::DecoderCounts;
use crate::source::codec::encoding::{Decoded, Encoding, Text};
use crate::source::codec::unpack;
use crate::source::codec::unpack::Unpack;

/// Bytes by which a format and an encoding are known.
const FIRST_BYTES: usize = 16;

const _: () = {
    // Without decoders no format is looked for.
    #[cfg(feature = "compress")]
    assert!(FIRST_BYTES >= unpack::MAGIC_BYTES);
    assert!(FIRST_BYTES >= super::encoding::MARK_BYTES_MAX);
};

/// The first bytes of a regular file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct First {
    bytes: [u8; FIRST_BYTES],
    len: usize,
}

impl First {
    /// Those of `file`, whose own place stays where it is.
    ///
    /// # Errors
    ///
    /// What the system says of a read.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let mut first = First::default();
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

    /// What a file is that begins like this; what is compressed is so only if that is asked for.
    pub(crate) fn kind(&self, is_unpacked: bool) -> Kind {
        match unpack::kind_of(self.bytes(), true) {
            kind if is_unpacked && kind != unpack::Kind::Plain => Kind::Packed(kind),
            _ => match Encoding::of(self.bytes(), true) {
                Some(Encoding::Utf16 { .. } | Encoding::Utf32) => Kind::Utf16,
                _ => Kind::Plain,
            },
        }
    }
}

/// What it takes to read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: it may be read in pieces.
    Plain,
    /// Somebody who reads it from its beginning.
    Utf16,
    /// A decoder.
    Packed(unpack::Kind),
}

impl Kind {
    /// The decoders it takes.
    pub(crate) fn decoders(self) -> DecoderCounts {
        match self {
            Kind::Plain => DecoderCounts::default(),
            Kind::Utf16 => DecoderCounts::of_one(),
            Kind::Packed(kind) => kind.decoders(),
        }
    }
}

/// The way from the bytes of one input to its text.
pub(crate) struct Decode {
    /// For what is compressed, if that was asked for.
    unpack: Option<Box<Unpack>>,
    text: Text,
}

impl Decode {
    /// With a decoder of compressed data, or without.
    pub(crate) fn new(unpack: Option<Box<Unpack>>) -> Self {
        Decode {
            unpack,
            text: Text::default(),
        }
    }

    /// Whether compressed data is decoded.
    pub(crate) fn is_unpacking(&self) -> bool {
        self.unpack.is_some()
    }

    /// The largest window that compressed data may ask for, as a power of two. Called before anything is read.
    pub(crate) fn limit_window(&mut self, window_log_max: u32) {
        if let Some(unpack) = &mut self.unpack {
            unpack.limit_window(window_log_max);
        }
    }

    /// Nobody waits any longer for what may follow: the first bytes, too few to know anything by, are content if
    /// there are no more now.
    pub(crate) fn hurry(&mut self) {
        if let Some(unpack) = &mut self.unpack {
            unpack.hurry();
        }
        self.text.hurry();
    }

    /// Puts text at the front of `out`, which has room for at least one byte. `read` returns bytes of the input as
    /// [`io::Read::read`] does.
    ///
    /// # Errors
    ///
    /// What `read` returns, [`WouldBlock`](io::ErrorKind::WouldBlock) among it, after which one may go on; what the
    /// decoder says of the bytes, after which there is nothing more.
    pub(crate) fn fill(
        &mut self,
        out: &mut [u8],
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Decoded> {
        let Decode { unpack, text } = self;
        text.fill(out, |space| match unpack {
            Some(unpack) => unpack.fill(space, &mut read),
            None => read(space).map(|count| match count {
                0 => Decoded::End,
                count => Decoded::Bytes(count),
            }),
        })
    }
}

/// Decodes `bytes`, compressed or not, which come in reads of these sizes, over and over, into rooms of `room` bytes; no
/// more than some `bytes_max` of content. Returns the content and how it ended. For the fuzzer.
#[cfg(feature = "compress")]
pub fn decoded(
    bytes: &[u8],
    reads: &[usize],
    room: usize,
    bytes_max: usize,
) -> (Vec<u8>, io::Result<()>) {
    let mut decode = Decode::new(Some(unpack::of_stream()));
    let (mut content, mut out) = (Vec::new(), vec![0; room.max(1)]);
    let (mut rest, mut reads, mut is_ready) = (bytes, reads.iter().cycle(), false);
    while content.len() < bytes_max {
        let step = decode.fill(&mut out, |space| {
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
