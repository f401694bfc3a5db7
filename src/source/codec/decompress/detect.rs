//! Recognizes formats by their first bytes.
//!
//! Promise: the answer depends on the bytes alone; more bytes change it only where it is
//! `Undecided`. Must not know: decoders, `file`.

use crate::memory::DecoderCounts;

/// The compression format of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
    Lz4,
    /// A format that is recognized and not decoded: its name, and what to do.
    Refused(&'static str),
    /// More bytes are needed.
    Undecided,
}

/// Bytes of the longest [`Signature`].
pub(crate) const SIGNATURE_BYTES_MAX: usize = 10;

/// How a format begins: the least and the greatest value of each byte.
struct Signature {
    least: &'static [u8],
    greatest: &'static [u8],
    compression: Compression,
}

const fn exactly(bytes: &'static [u8], compression: Compression) -> Signature {
    within(bytes, bytes, compression)
}

const fn within(
    least: &'static [u8],
    greatest: &'static [u8],
    compression: Compression,
) -> Signature {
    assert!(least.len() == greatest.len() && least.len() <= SIGNATURE_BYTES_MAX);
    Signature {
        least,
        greatest,
        compression,
    }
}

const fn refused(bytes: &'static [u8], message: &'static str) -> Signature {
    exactly(bytes, Compression::Refused(message))
}

const ZIP: &str = "it is a zip archive; unpack it first, for example with unzip -p";

const SIGNATURES: &[Signature] = &[
    exactly(b"\x1f\x8b", Compression::Gzip),
    exactly(b"\x28\xb5\x2f\xfd", Compression::Zstd),
    // A skippable frame. lz4 has the same ones, and nothing writes them in front of its frames.
    within(b"\x50\x2a\x4d\x18", b"\x5f\x2a\x4d\x18", Compression::Zstd),
    // The size of the blocks, then a block, or the end of a stream without any.
    within(
        b"BZh1\x31\x41\x59\x26\x53\x59",
        b"BZh9\x31\x41\x59\x26\x53\x59",
        Compression::Bzip2,
    ),
    within(
        b"BZh1\x17\x72\x45\x38\x50\x90",
        b"BZh9\x17\x72\x45\x38\x50\x90",
        Compression::Bzip2,
    ),
    exactly(b"\xfd7zXZ\0", Compression::Xz),
    exactly(b"\x04\x22\x4d\x18", Compression::Lz4),
    refused(
        b"\x02\x21\x4c\x18",
        "it is lz4 data of the legacy format; decompress it first with lz4 -dc",
    ),
    // A file, an archive without any, a part of several.
    refused(b"PK\x03\x04", ZIP),
    refused(b"PK\x05\x06", ZIP),
    refused(b"PK\x07\x08", ZIP),
    refused(
        b"7z\xbc\xaf\x27\x1c",
        "it is a 7z archive; unpack it first, for example with 7z x -so",
    ),
    refused(
        b"Rar!\x1a\x07",
        "it is a rar archive; unpack it first, for example with unrar p -inul",
    ),
    refused(
        b"\xff\x06\x00\x00sNaPpY",
        "it is snappy data; decompress it first, for example with snzip -dc",
    ),
    refused(
        b"LZIP\x01",
        "it is lzip data; decompress it first with lzip -dc",
    ),
    refused(
        b"\x89LZO\0\r\n\x1a\n",
        "it is lzop data; decompress it first with lzop -dc",
    ),
    refused(
        b"\x1f\x9d",
        "it is data of the old compress program; decompress it first with gzip -dc",
    ),
];

impl Compression {
    /// Returns the format of an input that begins with `first`; `is_all` says that this is all of
    /// it.
    pub(crate) fn of(first: &[u8], is_all: bool) -> Self {
        let mut found = Compression::None;
        for signature in SIGNATURES {
            let bounds = signature.least.iter().zip(signature.greatest);
            let mut pairs = first.iter().zip(bounds);
            if pairs.all(|(byte, (least, greatest))| (least..=greatest).contains(&byte)) {
                if first.len() >= signature.least.len() {
                    return signature.compression;
                }
                if !is_all {
                    found = Compression::Undecided;
                }
            }
        }
        found
    }

    /// Returns the decoders that reading it takes.
    pub(crate) fn decoders(self) -> DecoderCounts {
        let one = DecoderCounts::of_one();
        match self {
            Compression::None | Compression::Refused(_) => DecoderCounts::default(),
            Compression::Gzip => one,
            Compression::Bzip2 | Compression::Lz4 => DecoderCounts { blocks: 1, ..one },
            Compression::Zstd | Compression::Xz | Compression::Undecided => {
                DecoderCounts { windows: 1, ..one }
            }
        }
    }
}
