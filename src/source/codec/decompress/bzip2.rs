//! Bzip2: streams one after another, as parallel compressors write them.
//!
//! Promise: the checksums of every block and stream are checked. Must not know: `file`, records.
//!
//! A block, up to 900 KB of content, is decoded as a whole, which takes some 50 ms and at most 3.7
//! MB; then it is returned as there is room.

use std::io;

use bzip2::{Decompress, Error, Status};

use super::corrupt;
use super::members::Member;

impl Member for Decompress {
    const NAME: &'static str = "bzip2";
    const HEADER_BYTES: usize = 3;
    /// The library runs out of memory without an error of its own.
    type Error = Option<Error>;

    fn new(_window_log_max: u32) -> io::Result<Self> {
        Ok(Decompress::new(false))
    }

    fn check(index: usize, byte: u8) -> Result<bool, &'static str> {
        Ok(byte == b"BZh"[index])
    }

    fn totals(&self) -> (u64, u64) {
        (self.total_in(), self.total_out())
    }

    fn decode(&mut self, input: &[u8], out: &mut [u8]) -> Result<bool, Option<Error>> {
        match self.decompress(input, out)? {
            Status::MemNeeded => Err(None),
            status => Ok(status == Status::StreamEnd),
        }
    }

    fn describe(&mut self, error: Option<Error>, at: u64) -> io::Error {
        match error {
            None => io::ErrorKind::OutOfMemory.into(),
            Some(_) => corrupt("corrupt bzip2 data", at),
        }
    }
}
