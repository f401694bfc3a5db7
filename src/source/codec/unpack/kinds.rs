//! Formats by their first bytes.
//!
//! Promise: the answer is a function of the bytes; more bytes change it only where it is `Open`. Must not know:
//! decoders, names of files.

use crate::memory::DecoderCounts;

/// What the first bytes of an input say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
    Lz4,
    /// A format that is known and not decoded: what it is, and what to do.
    Refused(&'static str),
    /// More bytes are needed.
    Open,
}

impl Kind {
    /// What it takes to read it.
    pub(crate) fn decoders(self) -> DecoderCounts {
        let one = DecoderCounts::of_one();
        match self {
            Kind::Plain | Kind::Refused(_) => DecoderCounts::default(),
            Kind::Gzip => one,
            Kind::Bzip2 | Kind::Lz4 => DecoderCounts { blocks: 1, ..one },
            Kind::Zstd | Kind::Xz | Kind::Open => DecoderCounts { windows: 1, ..one },
        }
    }
}

/// The longest beginning by which a format is known.
pub(crate) const MAGIC_BYTES: usize = 10;

/// How a format begins: the least and the greatest that each byte may be.
struct Beginning {
    least: &'static [u8],
    greatest: &'static [u8],
    kind: Kind,
}

const fn exactly(bytes: &'static [u8], kind: Kind) -> Beginning {
    within(bytes, bytes, kind)
}

const fn within(least: &'static [u8], greatest: &'static [u8], kind: Kind) -> Beginning {
    assert!(least.len() == greatest.len() && least.len() <= MAGIC_BYTES);
    Beginning {
        least,
        greatest,
        kind,
    }
}

const ZIP: Kind = Kind::Refused("it is a zip archive; unpack it first, for example with unzip -p");

const BEGINNINGS: &[Beginning] = &[
    exactly(b"\x1f\x8b", Kind::Gzip),
    exactly(b"\x28\xb5\x2f\xfd", Kind::Zstd),
    // A skippable frame. lz4 has the same ones, and nothing writes them in front of its frames.
    within(b"\x50\x2a\x4d\x18", b"\x5f\x2a\x4d\x18", Kind::Zstd),
    // Behind the size of the blocks, a block or the end of a stream without any.
    within(
        b"BZh1\x31\x41\x59\x26\x53\x59",
        b"BZh9\x31\x41\x59\x26\x53\x59",
        Kind::Bzip2,
    ),
    within(
        b"BZh1\x17\x72\x45\x38\x50\x90",
        b"BZh9\x17\x72\x45\x38\x50\x90",
        Kind::Bzip2,
    ),
    exactly(b"\xfd7zXZ\0", Kind::Xz),
    exactly(b"\x04\x22\x4d\x18", Kind::Lz4),
    exactly(
        b"\x02\x21\x4c\x18",
        Kind::Refused("it is lz4 data of the legacy format; decompress it first with lz4 -dc"),
    ),
    // A file, an archive without any, a part of several.
    exactly(b"PK\x03\x04", ZIP),
    exactly(b"PK\x05\x06", ZIP),
    exactly(b"PK\x07\x08", ZIP),
    exactly(
        b"7z\xbc\xaf\x27\x1c",
        Kind::Refused("it is a 7z archive; unpack it first, for example with 7z x -so"),
    ),
    exactly(
        b"Rar!\x1a\x07",
        Kind::Refused("it is a rar archive; unpack it first, for example with unrar p -inul"),
    ),
    exactly(
        b"\xff\x06\x00\x00sNaPpY",
        Kind::Refused("it is snappy data; decompress it first, for example with snzip -dc"),
    ),
    exactly(
        b"LZIP\x01",
        Kind::Refused("it is lzip data; decompress it first with lzip -dc"),
    ),
    exactly(
        b"\x89LZO\0\r\n\x1a\n",
        Kind::Refused("it is lzop data; decompress it first with lzop -dc"),
    ),
    exactly(
        b"\x1f\x9d",
        Kind::Refused("it is data of the old compress program; decompress it first with gzip -dc"),
    ),
];

/// What begins with `first`, which is all there is if `is_all`.
pub(crate) fn kind_of(first: &[u8], is_all: bool) -> Kind {
    let mut found = Kind::Plain;
    for beginning in BEGINNINGS {
        let bounds = beginning.least.iter().zip(beginning.greatest);
        let mut pairs = first.iter().zip(bounds);
        if pairs.all(|(byte, (least, greatest))| (least..=greatest).contains(&byte)) {
            if first.len() >= beginning.least.len() {
                return beginning.kind;
            }
            if !is_all {
                found = Kind::Open;
            }
        }
    }
    found
}
