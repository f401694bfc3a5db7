//! What the first bytes of an input may be.
//!
//! Promise: names only. Must not know: source.

use std::fmt;

/// What a connection or a file seems to hold instead of lines: a guess from its first bytes.
///
/// `Display` writes it as a part of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LooksLike {
    /// A TLS handshake: the client wants an encrypted connection, and waits.
    Tls,
    /// An HTTP request: the client waits for an answer.
    Http,
    /// Data that gzip compressed.
    Gzip,
    /// Data that zstd compressed.
    Zstd,
    /// UTF-16 text, in which every other byte is a NUL if the text is English.
    Utf16,
    /// Data that bzip2 compressed.
    Bzip2,
    /// Data that xz compressed.
    Xz,
    /// Data that lz4 compressed.
    Lz4,
}

impl fmt::Display for LooksLike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LooksLike::Tls => "a TLS handshake",
            LooksLike::Http => "an HTTP request",
            LooksLike::Gzip => "gzip data",
            LooksLike::Zstd => "zstd data",
            LooksLike::Utf16 => "UTF-16 text",
            LooksLike::Bzip2 => "bzip2 data",
            LooksLike::Xz => "xz data",
            LooksLike::Lz4 => "lz4 data",
        })
    }
}
