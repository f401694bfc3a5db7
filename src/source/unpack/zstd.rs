//! Zstd (RFC 8878): frames one after another, skippable ones among them.
//!
//! Promise: checksums are checked where there are any; a window is at most 128 MiB, which is the reference
//! decoder's own limit. Refuses to know: where bytes come from, what is in them, dictionaries.

use std::io;

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::{Progress, corrupt};
use crate::error::describe;

/// The largest window, as a power of two: 128 MiB.
const WINDOW_LOG_MAX: u32 = 27;

/// Bytes by which a frame's header is known to be one.
const BEGIN_BYTES: usize = 5;

/// Bytes of a block's header.
const HEADER_BYTES: usize = 3;

/// A decoder of zstd.
pub(super) struct Zstd {
    decoder: Decoder<'static>,
    /// Bytes up to the end of the next block or header. Taken at once, it is decoded where it lies; with
    /// no more, what is corrupt costs nothing of what is before it.
    wanted: usize,
    /// The last call filled all the room it had, so that there may be more.
    is_pending: bool,
    /// Between two frames.
    is_complete: bool,
}

impl Zstd {
    /// A decoder at the beginning of a frame.
    ///
    /// # Errors
    ///
    /// There is no memory for it.
    pub(super) fn new() -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
        Ok(Zstd {
            decoder,
            wanted: BEGIN_BYTES,
            is_pending: false,
            is_complete: false,
        })
    }

    /// Whether the input may end here.
    pub(super) fn may_end(&self) -> bool {
        self.is_complete
    }

    /// Takes some of `input`, which begins at byte `at`, and puts what is in it at the front of `out`.
    pub(super) fn step(&mut self, input: &[u8], out: &mut [u8], at: u64) -> Progress {
        let mut progress = Progress {
            consumed: 0,
            produced: 0,
            is_end: false,
            error: None,
        };
        if input.is_empty() && !self.is_pending {
            return progress;
        }
        let room = out.len();
        let mut given = InBuffer::around(&input[..self.wanted.min(input.len())]);
        let mut taken = OutBuffer::around(out);
        let outcome = self.decoder.run(&mut given, &mut taken);
        progress.consumed = given.pos();
        progress.produced = taken.pos();
        match outcome {
            Ok(0) => {
                progress.is_end = true;
                (self.is_complete, self.is_pending) = (true, false);
                self.wanted = BEGIN_BYTES;
            }
            Ok(wanted) => {
                self.is_complete = false;
                self.is_pending = progress.produced == room;
                // The header of the block behind this one is asked for with it.
                self.wanted = match wanted {
                    ..=HEADER_BYTES => wanted,
                    _ => wanted - HEADER_BYTES,
                };
            }
            Err(cause) => {
                let what = format!("corrupt zstd data ({})", describe(&cause));
                progress.error = Some(corrupt(&what, at));
            }
        }
        progress
    }
}
