//! What stands between the bytes of an input and its text.
//!
//! `unpack` decodes compressed data, `encoding` makes UTF-8 of marked UTF-16, `decode` is both, one behind the other.

pub(crate) mod decode;
pub(crate) mod encoding;
#[cfg_attr(not(feature = "compress"), path = "unpack/absent.rs")]
pub(crate) mod unpack;
