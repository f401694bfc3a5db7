//! What stands for the decoders where the feature `compress` is off: there are none.
//!
//! Promise: nothing is a decoder, which the compiler sees. Refuses to know: everything.

use std::fs::File;
use std::io;

use crate::table::budget::Decoders;

/// See `unpack/mod.rs`.
#[allow(dead_code, reason = "only a decoder makes some of them")]
pub(crate) enum Step {
    Bytes(usize),
    Again,
    End,
}

/// See `unpack/mod.rs`.
#[derive(Clone, Copy)]
#[allow(dead_code, reason = "only a decoder makes some of them")]
pub(crate) enum Kind {
    Plain,
    Open,
}

impl Kind {
    /// Nothing is.
    pub(crate) fn is_packed(self) -> bool {
        false
    }

    /// None.
    pub(crate) fn decoders(self) -> Decoders {
        Decoders::default()
    }
}

/// A decoder, of which there is none.
pub(crate) enum Unpack {}

impl Unpack {
    /// See `unpack/mod.rs`.
    pub(crate) fn limit_window(&mut self, _window_log_max: u32) {
        match *self {}
    }

    /// See `unpack/mod.rs`.
    pub(crate) fn fill(
        &mut self,
        _out: &mut [u8],
        _read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Step> {
        match *self {}
    }
}

/// Nobody can ask for one.
pub(crate) fn of_file(_file: &File) -> io::Result<Option<Box<Unpack>>> {
    Ok(None)
}

/// Nobody can ask what is inside.
pub(crate) fn kind_of_file(_file: &File) -> io::Result<Kind> {
    Ok(Kind::Plain)
}
