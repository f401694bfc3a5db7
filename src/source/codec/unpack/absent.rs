//! What stands for the decoders where the feature `compress` is off: there are none.
//!
//! Promise: nothing is a decoder, which the compiler sees. Must not know: everything.

use std::io;

use crate::memory::DecoderCounts;
use crate::source::codec::encoding::Decoded;

/// See `unpack/kinds.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "only a decoder makes some of them")]
pub(crate) enum Kind {
    Plain,
    Open,
}

impl Kind {
    /// None.
    pub(crate) fn decoders(self) -> DecoderCounts {
        DecoderCounts::default()
    }
}

/// Nobody can ask what is inside.
pub(crate) fn kind_of(_first: &[u8], _is_all: bool) -> Kind {
    Kind::Plain
}

/// A decoder, of which there is none.
pub(crate) enum Unpack {}

impl Unpack {
    /// See `unpack/mod.rs`.
    pub(crate) fn limit_window(&mut self, _window_log_max: u32) {
        match *self {}
    }

    /// See `unpack/mod.rs`.
    pub(crate) fn hurry(&mut self) {
        match *self {}
    }

    /// See `unpack/mod.rs`.
    pub(crate) fn fill(
        &mut self,
        _out: &mut [u8],
        _read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Decoded> {
        match *self {}
    }
}
