//! The content of a block: lines, and whole records that may hold any byte.
//!
//! Must not know: rings, where blocks come from.

use std::ops::Range;

use super::LineEnds;

/// What a block holds: lines, which are searched for record ends, and in between whole records,
/// which are not. A record end stands behind each of them too, so a block of lines only is all
/// bytes.
#[derive(Clone, Copy, Debug)]
pub struct BlockBytes<'b> {
    /// All bytes, with the record ends.
    pub(crate) bytes: &'b [u8],
    /// Where records are that may hold record ends, ascending; the end behind each is not included.
    pub(crate) whole: &'b [WholeRecord],
}

/// The place of a record that may hold any byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholeRecord {
    /// Its first byte in the block.
    pub start: u32,
    /// The byte behind it, which is a record end.
    pub end: u32,
}

impl<'b> From<&'b [u8]> for BlockBytes<'b> {
    /// Lines only.
    fn from(bytes: &'b [u8]) -> Self {
        BlockBytes { bytes, whole: &[] }
    }
}

impl<'b> From<&'b Vec<u8>> for BlockBytes<'b> {
    fn from(bytes: &'b Vec<u8>) -> Self {
        bytes.as_slice().into()
    }
}

impl BlockBytes<'_> {
    /// The places of lines and of whole records with their ends, in order, each with `true` if it
    /// is a whole record. Places may be empty.
    pub(super) fn pieces(self) -> impl Iterator<Item = (Range<usize>, bool)> {
        let mut from = 0;
        let whole = self.whole.iter().flat_map(move |record| {
            let (start, end) = (record.start as usize, record.end as usize + 1);
            let before = std::mem::replace(&mut from, end)..start;
            [(before, false), (start..end, true)]
        });
        let behind = self
            .whole
            .last()
            .map_or(0, |record| record.end as usize + 1);
        whole.chain([(behind..self.bytes.len(), false)])
    }

    /// How many records end in the block, for callers that cannot split it.
    #[cold]
    pub(crate) fn records(self, line_ends: LineEnds) -> u64 {
        let pieces = self.pieces().map(|(place, is_whole)| match is_whole {
            true => 1,
            false => line_ends.count_in(&self.bytes[place]),
        });
        pieces.sum()
    }
}
