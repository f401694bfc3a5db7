//! What stands for the decoders where the feature `compress` is off: there are none.
//!
//! Promise: nothing is a decoder, which the compiler sees. Refuses to know: everything.

use std::fs::File;
use std::io;

/// See `unpack/mod.rs`.
#[allow(dead_code, reason = "only a decoder makes some of them")]
pub(crate) enum Step {
    Bytes(usize),
    Again,
    End,
}

/// A decoder, of which there is none.
pub(crate) enum Unpack {}

impl Unpack {
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
pub(crate) fn is_packed(_file: &File) -> io::Result<bool> {
    Ok(false)
}

/// Nobody can ask for one.
pub(crate) fn of_stream() -> Option<Box<Unpack>> {
    None
}
