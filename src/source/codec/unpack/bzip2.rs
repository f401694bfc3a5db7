//! Bzip2: streams one after another, as parallel compressors write them.
//!
//! Promise: the checksums of every block and stream are checked. Must not know: where bytes come from, what is
//! in them.
//!
//! A block, up to 900 KB of content, is decoded as a whole, which takes some 50 ms and at most 3.7 MB; then it
//! is handed out as there is room.

use std::io;

use bzip2::{Decompress, Status};

use super::{Codec, Progress, corrupt};

/// The first bytes of every stream.
const MAGIC: &[u8] = b"BZh";

/// A decoder of bzip2.
#[derive(Default)]
pub(super) struct Bzip2 {
    /// Of the stream at hand. `None` between two streams.
    stream: Option<Decompress>,
    /// Bytes of the magic number that were seen, between two streams.
    magic_bytes: usize,
    /// The last call filled all the room it had, so that there may be more.
    is_pending: bool,
    /// A stream was complete.
    is_complete: bool,
}

impl Codec for Bzip2 {
    fn name(&self) -> &'static str {
        "bzip2"
    }

    fn step(&mut self, input: &[u8], out: &mut [u8], at: u64) -> Progress {
        let mut progress = Progress::default();
        let Some(stream) = &mut self.stream else {
            self.begin(input, at, &mut progress);
            return progress;
        };
        if input.is_empty() && !self.is_pending {
            return progress;
        }
        let before = (stream.total_in(), stream.total_out());
        let outcome = stream.decompress(input, out);
        // What came before an error is counted as well.
        let taken = stream.total_in() - before.0;
        let given = stream.total_out() - before.1;
        progress.consumed = usize::try_from(taken).unwrap_or(usize::MAX);
        progress.produced = usize::try_from(given).unwrap_or(usize::MAX);
        self.is_pending = progress.produced == out.len();
        match outcome {
            Ok(Status::StreamEnd) => {
                self.stream = None;
                self.is_pending = false;
                self.is_complete = true;
                progress.is_end = true;
            }
            Ok(Status::MemNeeded) => progress.error = Some(io::ErrorKind::OutOfMemory.into()),
            Ok(_) => {}
            Err(_) => progress.error = Some(corrupt("corrupt bzip2 data", at + taken)),
        }
        progress
    }

    fn may_end(&self) -> bool {
        self.stream.is_none() && self.magic_bytes == 0 && self.is_complete
    }
}

impl Bzip2 {
    /// Begins a stream, if there is one.
    fn begin(&mut self, input: &[u8], at: u64, progress: &mut Progress) {
        for &byte in input {
            if byte != MAGIC[self.magic_bytes] {
                let what = "bytes that are not bzip2 behind the bzip2 data";
                progress.error = Some(corrupt(what, at + progress.consumed as u64));
                return;
            }
            progress.consumed += 1;
            self.magic_bytes += 1;
            if self.magic_bytes == MAGIC.len() {
                let mut stream = Decompress::new(false);
                // The decoder wants to see them as well; it hands nothing out for them.
                if stream.decompress(MAGIC, &mut []).is_err() {
                    progress.error = Some(corrupt("corrupt bzip2 data", at));
                }
                self.stream = Some(stream);
                self.magic_bytes = 0;
                return;
            }
        }
    }
}
