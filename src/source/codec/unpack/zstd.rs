//! Zstd (RFC 8878): frames one after another, skippable ones among them.
//!
//! Promise: checksums are checked where there are any; a frame that asks for a larger window than there may be
//! is refused, with what it asked for. Must not know: where bytes come from, what is in them, dictionaries.

use std::io;

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::{Codec, Progress, corrupt};
use crate::error::describe;
use crate::limits::{MIB, WINDOW_LOG_MAX};

/// What the decoder says of a window that is too large.
const TOO_LARGE: &str = "Frame requires too much memory for decoding";

/// Bytes of the longest header of a frame.
const FRAME_HEADER_BYTES: usize = 18;

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
    /// log2 of the largest window.
    window_log_max: u32,
    /// The first bytes of the frame, for what to say of it.
    header: [u8; FRAME_HEADER_BYTES],
    header_bytes: usize,
}

impl Codec for Zstd {
    fn name(&self) -> &'static str {
        "zstd"
    }

    fn step(&mut self, input: &[u8], out: &mut [u8], at: u64) -> Progress {
        let mut progress = Progress::default();
        if input.is_empty() && !self.is_pending {
            return progress;
        }
        let room = out.len();
        let input = &input[..self.wanted.min(input.len())];
        let header_bytes = self.header_bytes;
        let header = &mut self.header[header_bytes..];
        let count = header.len().min(input.len());
        header[..count].copy_from_slice(&input[..count]);
        self.header_bytes += count;
        let mut given = InBuffer::around(input);
        let mut taken = OutBuffer::around(out);
        let outcome = self.decoder.run(&mut given, &mut taken);
        progress.consumed = given.pos();
        progress.produced = taken.pos();
        if outcome.is_ok() {
            self.header_bytes = header_bytes + count.min(progress.consumed);
        }
        match outcome {
            Ok(0) => {
                progress.is_end = true;
                (self.is_complete, self.is_pending) = (true, false);
                self.header_bytes = 0;
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
                let cause = describe(&cause);
                let too_large =
                    (cause == TOO_LARGE).then(|| self.too_large(at - header_bytes as u64));
                progress.error = Some(
                    too_large
                        .flatten()
                        .unwrap_or_else(|| corrupt(&format!("corrupt zstd data ({cause})"), at)),
                );
            }
        }
        progress
    }

    fn may_end(&self) -> bool {
        self.is_complete
    }
}

impl Zstd {
    /// A decoder at the beginning of a frame, whose window is at most 2 to the power of `window_log_max`.
    ///
    /// # Errors
    ///
    /// There is no memory for it.
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

    /// The error of a frame that begins at byte `at` and asks for a window that is too large.
    #[cold]
    fn too_large(&self, at: u64) -> Option<io::Error> {
        let wanted = window_bytes(&self.header[..self.header_bytes])?;
        let mib = |bytes: u64| bytes.div_ceil(MIB as u64);
        let (wanted, max) = (mib(wanted), mib(1 << self.window_log_max));
        let limit = if self.window_log_max < WINDOW_LOG_MAX {
            format!("the memory limit leaves {max} MiB for it; decompress it first with zstd -d")
        } else {
            format!("{max} MiB is the most; decompress it first with zstd -d --long=31")
        };
        let message =
            format!("the zstd frame at byte {at} asks for a window of {wanted} MiB, and {limit}");
        Some(io::Error::new(io::ErrorKind::InvalidData, message))
    }
}

/// The window that the header of a frame asks for, in bytes; RFC 8878, section 3.1.1.1.
pub(super) fn window_bytes(header: &[u8]) -> Option<u64> {
    let (&flags, rest) = header.get(4..)?.split_first()?;
    let is_single_segment = flags & 1 << 5 != 0;
    if !is_single_segment {
        let &window = rest.first()?;
        let base = 1u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // The window is the content.
    let dictionary_bytes = [0, 1, 2, 4][usize::from(flags & 3)];
    let size_bytes = 1 << (flags >> 6);
    let mut size = [0; 8];
    size[..size_bytes].copy_from_slice(rest.get(dictionary_bytes..)?.get(..size_bytes)?);
    let size = u64::from_le_bytes(size);
    Some(if size_bytes == 2 { size + 256 } else { size })
}
