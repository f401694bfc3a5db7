//! Records that come whole and may hold any byte.
//!
//! Promise: a record that holds record ends is not searched for them, here or in a shard; any other
//! is as a line. Must not know: sources, threads, the clock.

use super::Framer;
use crate::ring::arena::WHOLE_RECORDS_MAX;

impl Framer {
    /// Takes a whole record between two records. The block has room for it and its end.
    pub(crate) fn take_whole(&mut self, record: &[u8]) {
        self.settle();
        // The record begins with its first byte, even if that is a `\n`.
        self.seal();
        self.skip_line_feed = false;
        let line_ends = self.delimiters.line_ends;
        let block = self.block.as_mut().expect("it has space");
        if line_ends.find_within(record).is_some() {
            block.append_whole(record, line_ends.terminator());
        } else {
            block.append(record);
            block.append(&[line_ends.terminator()]);
        }
        self.intake.bytes_read += record.len() as u64;
        self.intake.bytes_ended += 1;
        self.complete(0);
    }

    /// Drops a whole record of `len` bytes, which is too long.
    pub(in crate::intake) fn drop_whole(&mut self, len: usize) {
        self.intake.bytes_read += len as u64;
        self.intake.oversize_tokens += 1;
        self.intake.oversize_bytes += len as u64;
        self.intake.records_ended += 1;
    }

    /// Returns `true` if no more records that hold record ends go into the block.
    pub(crate) fn has_many_whole(&self) -> bool {
        let block = self.block.as_ref();
        block.is_some_and(|block| block.whole_count() >= WHOLE_RECORDS_MAX)
    }
}
