//! Xz: streams one after another, with zeros between and behind them.
//!
//! Promise: checksums are checked where there are any, and the index of every stream; a block that asks for a larger
//! dictionary than there may be is refused. Must not know: where bytes come from, what is in them.

use std::io;

use liblzma::stream::{Action, Error, Status, Stream};

use super::{Codec, HELD_BYTES, Progress, corrupt};
use crate::limits::{DECODER_BYTES, MIB, WINDOW_LOG_MAX};

/// log2 of the largest dictionary that the format has.
const DICTIONARY_LOG_MAX: u32 = 32;

/// Zeros behind a stream come in groups of so many.
const PADDING_BYTES: u64 = 4;

/// What a decoder may take beside its dictionary: what any decoder may, without what is held in front of it and
/// behind it.
const STATE_BYTES: usize = DECODER_BYTES - 2 * HELD_BYTES;

/// A decoder of xz.
pub(super) struct Xz {
    /// The stream at hand. `None` between two streams.
    stream: Option<Stream>,
    /// Bytes of zeros since the last stream.
    padding_bytes: u64,
    /// The last call filled all the room it had, so that there may be more.
    is_pending: bool,
    /// A stream was complete.
    is_complete: bool,
    /// log2 of the largest dictionary.
    window_log_max: u32,
}

impl Xz {
    /// A decoder at the beginning of a stream, whose dictionary is at most 2 to the power of `window_log_max`.
    pub(super) fn new(window_log_max: u32) -> Self {
        Xz {
            stream: None,
            padding_bytes: 0,
            is_pending: false,
            is_complete: false,
            window_log_max,
        }
    }
}

impl Codec for Xz {
    fn name(&self) -> &'static str {
        "xz"
    }

    fn step(&mut self, input: &[u8], out: &mut [u8], at: u64) -> Progress {
        let mut progress = Progress::default();
        if self.stream.is_none() {
            self.between(input, at, &mut progress);
        }
        let input = &input[progress.consumed..];
        let at = at + progress.consumed as u64;
        let Some(stream) = &mut self.stream else {
            return progress;
        };
        if input.is_empty() && !self.is_pending {
            return progress;
        }
        let before = (stream.total_in(), stream.total_out());
        let outcome = stream.process(input, out, Action::Run);
        // What came before an error is counted as well.
        let taken = stream.total_in() - before.0;
        let given = stream.total_out() - before.1;
        progress.consumed += usize::try_from(taken).unwrap_or(usize::MAX);
        progress.produced = usize::try_from(given).unwrap_or(usize::MAX);
        self.is_pending = progress.produced == out.len();
        match outcome {
            Ok(Status::StreamEnd) => {
                self.stream = None;
                self.is_pending = false;
                self.is_complete = true;
                self.padding_bytes = 0;
                progress.is_end = true;
            }
            Ok(_) => {}
            Err(cause) => progress.error = Some(self.failed(cause, at + taken)),
        }
        progress
    }

    fn may_end(&self) -> bool {
        self.stream.is_none()
            && self.is_complete
            && self.padding_bytes.is_multiple_of(PADDING_BYTES)
    }
}

impl Xz {
    /// Skips zeros, and begins a stream where there is one.
    fn between(&mut self, input: &[u8], at: u64, progress: &mut Progress) {
        let zeros = input.iter().take_while(|&&byte| byte == 0).count();
        self.padding_bytes += zeros as u64;
        progress.consumed = zeros;
        let Some(&next) = input.get(zeros) else {
            return;
        };
        let at = at + zeros as u64;
        if next != 0xfd || !self.padding_bytes.is_multiple_of(PADDING_BYTES) {
            let what = "bytes that are not xz behind the xz data";
            progress.error = Some(corrupt(what, at));
            return;
        }
        match Stream::new_stream_decoder(memory_bytes(self.window_log_max), 0) {
            Ok(stream) => self.stream = Some(stream),
            Err(_) => progress.error = Some(io::ErrorKind::OutOfMemory.into()),
        }
    }

    /// What to say of an error at byte `at`.
    #[cold]
    fn failed(&mut self, cause: Error, at: u64) -> io::Error {
        match cause {
            Error::MemLimit => self.too_large(at),
            Error::Mem => io::ErrorKind::OutOfMemory.into(),
            Error::Format if self.is_complete => {
                corrupt("bytes that are not xz behind the xz data", at)
            }
            Error::Options => corrupt("xz data with options that are not known", at),
            _ => corrupt("corrupt xz data", at),
        }
    }

    /// The error of a block whose header ends at byte `at` and asks for a dictionary that is too large.
    fn too_large(&mut self, at: u64) -> io::Error {
        let stream = self.stream.as_mut().expect("it has failed");
        // The library says how much it wants only by what it accepts.
        let wanted = (self.window_log_max + 1..DICTIONARY_LOG_MAX)
            .find(|&log| stream.set_memlimit(memory_bytes(log)).is_ok());
        let mib = |log: u32| (1u64 << log) / MIB as u64;
        let max = mib(self.window_log_max);
        let limit = if self.window_log_max < WINDOW_LOG_MAX {
            format!("the memory limit leaves {max} MiB for it; decompress it first with xz -dc")
        } else {
            format!("{max} MiB is the most; decompress it first with xz -dc")
        };
        let wanted = mib(wanted.unwrap_or(DICTIONARY_LOG_MAX));
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "the xz block at byte {at} asks for a dictionary of up to {wanted} MiB, and {limit}"
            ),
        )
    }
}

/// What a decoder may take whose dictionary is 2 to the power of `log`.
fn memory_bytes(log: u32) -> u64 {
    (1 << log) + STATE_BYTES as u64
}
