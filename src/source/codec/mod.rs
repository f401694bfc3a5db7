//! Turns the bytes of an input into text.
//!
//! `decompress` decompresses, `encoding` turns UTF-16 into UTF-8, and `decoder` runs one behind the
//! other.

pub(crate) mod decoder;
#[cfg_attr(
    not(feature = "compress"),
    allow(dead_code, reason = "nothing asks for decompression")
)]
pub(crate) mod decompress;
pub(crate) mod encoding;
