//! Zstd (RFC 8878): frames one after another, skippable ones among them.
//!
//! Promise: checksums are checked where there are any; a frame that asks for a larger window than
//! allowed is refused, and the error says what it asked for. Must not know: `file`, records,
//! dictionaries.

use std::io;

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::{Advance, Codec, corrupt, too_large};
use crate::error::describe;

/// The library's error for a window that is too large.
const TOO_LARGE: &str = "Frame requires too much memory for decoding";

/// Bytes of the longest frame header.
const FRAME_HEADER_BYTES: usize = 18;

/// Bytes from which a frame header is recognized.
const BEGIN_BYTES: usize = 5;

/// Bytes of a block header.
const HEADER_BYTES: usize = 3;

/// A decoder of zstd.
pub(super) struct Zstd {
    decoder: Decoder<'static>,
    /// Bytes up to the end of the next block or header. A block that is passed whole is decoded in
    /// place; passing no more than one means that corrupt data does not affect the content before
    /// it.
    wanted: usize,
    /// The last call filled `out`, so there may be more output.
    is_pending: bool,
    /// Between two frames.
    is_complete: bool,
    /// log2 of the largest window.
    window_log_max: u32,
    /// The first bytes of the frame, for error messages.
    header: [u8; FRAME_HEADER_BYTES],
    header_bytes: usize,
}

impl Codec for Zstd {
    fn name(&self) -> &'static str {
        "zstd"
    }

    fn step(&mut self, input: &[u8], out: &mut [u8], at: u64) -> Advance {
        let mut advance = Advance::default();
        if input.is_empty() && !self.is_pending {
            return advance;
        }
        let room = out.len();
        let input = &input[..self.wanted.min(input.len())];
        let header_bytes = self.header_bytes;
        let header = &mut self.header[header_bytes..];
        let count = header.len().min(input.len());
        header[..count].copy_from_slice(&input[..count]);
        self.header_bytes += count;
        let mut source = InBuffer::around(input);
        let mut target = OutBuffer::around(out);
        let outcome = self.decoder.run(&mut source, &mut target);
        advance.consumed = source.pos();
        advance.produced = target.pos();
        if outcome.is_ok() {
            self.header_bytes = header_bytes + count.min(advance.consumed);
        }
        match outcome {
            Ok(0) => {
                advance.is_end = true;
                (self.is_complete, self.is_pending) = (true, false);
                self.header_bytes = 0;
                self.wanted = BEGIN_BYTES;
            }
            Ok(wanted) => {
                self.is_complete = false;
                self.is_pending = advance.produced == room;
                // The library asks for the header of the next block as well.
                self.wanted = match wanted {
                    ..=HEADER_BYTES => wanted,
                    _ => wanted - HEADER_BYTES,
                };
            }
            Err(cause) => {
                let cause = describe(&cause);
                let window = window_bytes(&self.header[..self.header_bytes]);
                advance.error = Some(match window {
                    Some(bytes) if cause == TOO_LARGE => {
                        let at = at - header_bytes as u64;
                        let what = format!("the zstd frame at byte {at} asks for a window of");
                        let commands = ["zstd -d", "zstd -d --long=31"];
                        too_large(&what, bytes, self.window_log_max, commands)
                    }
                    _ => corrupt(&format!("corrupt zstd data ({cause})"), at),
                });
            }
        }
        advance
    }

    fn may_end(&self) -> bool {
        self.is_complete
    }
}

impl Zstd {
    /// Creates a decoder whose window is at most 2 to the power of `window_log_max`.
    ///
    /// # Errors
    ///
    /// There is not enough memory for it.
    pub(super) fn new(window_log_max: u32) -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(window_log_max))?;
        Ok(Zstd {
            decoder,
            wanted: BEGIN_BYTES,
            is_pending: false,
            is_complete: false,
            window_log_max,
            header: [0; FRAME_HEADER_BYTES],
            header_bytes: 0,
        })
    }
}

/// Returns the window that a frame header asks for, in bytes; RFC 8878, section 3.1.1.1.
pub(super) fn window_bytes(header: &[u8]) -> Option<u64> {
    let (&flags, rest) = header.get(4..)?.split_first()?;
    let is_single_segment = flags & 1 << 5 != 0;
    if !is_single_segment {
        let &window = rest.first()?;
        let base = 1u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // The window is as large as the content.
    let dictionary_bytes = [0, 1, 2, 4][usize::from(flags & 3)];
    let size_bytes = 1 << (flags >> 6);
    let mut size = [0; 8];
    size[..size_bytes].copy_from_slice(rest.get(dictionary_bytes..)?.get(..size_bytes)?);
    let size = u64::from_le_bytes(size);
    Some(if size_bytes == 2 { size + 256 } else { size })
}
