//! Xz: streams one after another; zeros may stand between and behind them.
//!
//! Promise: all checksums are checked, and the index of every stream; a block that asks for a
//! larger dictionary than allowed is refused. Must not know: `file`, records.

use std::io;

use liblzma::stream::{Action, Error, Status, Stream};

use super::members::Member;
use super::{HELD_BYTES, corrupt, too_large};
use crate::limits::DECODER_BYTES;

/// log2 of the largest dictionary that the format has.
const DICTIONARY_LOG_MAX: u32 = 32;

/// Zeros behind a stream come in groups of this length.
const PADDING_BYTES: u64 = 4;

/// What a decoder may take beside its dictionary: the memory of any decoder, without the compressed
/// bytes in front of it and the content behind it.
const STATE_BYTES: usize = DECODER_BYTES - 2 * HELD_BYTES;

/// A decoder of one stream.
pub(super) struct Xz {
    stream: Stream,
    window_log_max: u32,
}

impl Member for Xz {
    const NAME: &'static str = "xz";
    const HEADER_BYTES: usize = 1;
    const HAS_PADDING: bool = true;
    type Error = Error;

    fn new(window_log_max: u32) -> io::Result<Self> {
        Ok(Xz {
            stream: Stream::new_stream_decoder(memory_bytes(window_log_max), 0)
                .map_err(|_| io::ErrorKind::OutOfMemory)?,
            window_log_max,
        })
    }

    /// The library checks the rest of the header.
    fn check(_index: usize, byte: u8) -> Result<bool, &'static str> {
        Ok(byte == 0xfd)
    }

    fn may_follow(padding_bytes: u64) -> bool {
        padding_bytes.is_multiple_of(PADDING_BYTES)
    }

    fn may_end(padding_bytes: u64) -> bool {
        padding_bytes.is_multiple_of(PADDING_BYTES)
    }

    fn totals(&self) -> (u64, u64) {
        (self.stream.total_in(), self.stream.total_out())
    }

    fn decode(&mut self, input: &[u8], out: &mut [u8]) -> Result<bool, Error> {
        let status = self.stream.process(input, out, Action::Run)?;
        Ok(status == Status::StreamEnd)
    }

    #[cold]
    fn describe(&mut self, error: Error, at: u64) -> io::Error {
        match error {
            Error::MemLimit => {
                // The library reports how much it wants only by what it accepts.
                let wanted = (self.window_log_max + 1..DICTIONARY_LOG_MAX)
                    .find(|&log| self.stream.set_memlimit(memory_bytes(log)).is_ok())
                    .unwrap_or(DICTIONARY_LOG_MAX);
                let what = format!("the xz block at byte {at} asks for a dictionary of up to");
                too_large(&what, 1 << wanted, self.window_log_max, ["xz -dc"; 2])
            }
            Error::Mem => io::ErrorKind::OutOfMemory.into(),
            Error::Format => corrupt("bytes that are not xz behind the xz data", at),
            Error::Options => corrupt("unknown xz options", at),
            _ => corrupt("corrupt xz data", at),
        }
    }
}

/// The most memory for a decoder whose dictionary is 2 to the power of `log`.
fn memory_bytes(log: u32) -> u64 {
    (1 << log) + STATE_BYTES as u64
}
