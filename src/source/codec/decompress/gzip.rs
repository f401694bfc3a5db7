//! Gzip (RFC 1952): members one after another; zeros may follow the last one.
//!
//! Promise: the checksum and the length of every member are checked, and the checksum of its header
//! if there is one. Must not know: `file`, records.

use std::io;

use flate2::{Decompress, DecompressError, FlushDecompress, Status};

use super::corrupt;
use super::members::Member;

/// log2 of the window that the format has.
const WINDOW_LOG: u8 = 15;

/// Flags without a meaning, which are zero.
const RESERVED: u8 = 0b1110_0000;

impl Member for Decompress {
    const NAME: &'static str = "gzip";
    const HEADER_BYTES: usize = 4;
    const HAS_PADDING: bool = true;
    type Error = DecompressError;

    fn new(_window_log_max: u32) -> io::Result<Self> {
        Ok(Decompress::new_gzip(WINDOW_LOG))
    }

    fn check(index: usize, byte: u8) -> Result<bool, &'static str> {
        match index {
            0 => Ok(byte == 0x1f),
            1 => Ok(byte == 0x8b),
            2 if byte != 8 => Err("unknown gzip method"),
            3 if byte & RESERVED != 0 => Err("unknown gzip flags"),
            _ => Ok(true),
        }
    }

    fn may_follow(padding_bytes: u64) -> bool {
        padding_bytes == 0
    }

    fn totals(&self) -> (u64, u64) {
        (self.total_in(), self.total_out())
    }

    fn decode(&mut self, input: &[u8], out: &mut [u8]) -> Result<bool, DecompressError> {
        let status = self.decompress(input, out, FlushDecompress::None)?;
        Ok(status == Status::StreamEnd)
    }

    fn describe(&mut self, error: DecompressError, at: u64) -> io::Error {
        match error.message() {
            Some("header crc mismatch") => corrupt("wrong checksum of a gzip header", at - 1),
            Some("incorrect data check") => corrupt("wrong checksum of gzip data", at - 1),
            Some("incorrect length check") => corrupt("wrong length of gzip data", at - 1),
            _ => corrupt("corrupt gzip data", at),
        }
    }
}
