//! Lz4 (its frame format, version 1.6): frames one after another, skippable ones among them.
//!
//! Promise: checksums are checked where there are any, and the length of a frame if it has one.
//! Must not know: `file`, records, dictionaries.
//!
//! A block, at most 4 MiB, is decoded as a whole, which takes some milliseconds; then it is
//! returned as there is room. The decoder holds a compressed block, its content, and the 64 KiB of
//! content before it:
//!
//! ```text
//!   field: [ compressed block, checksum ] ──▶ content: [ 64 KiB before it | the block ]
//! ```

use std::hash::Hasher;
use std::ops::Range;

use lz4_flex::block::decompress_into_with_dict;
use twox_hash::XxHash32;

use super::{Advance, Codec, corrupt};
use crate::limits::KIB;

/// The magic number of a frame.
const MAGIC: u32 = 0x184d_2204;

/// The magic number of a skippable frame, except its last four bits.
const SKIPPABLE_MAGIC: u32 = 0x184d_2a50;

/// How far back a block may refer.
const WINDOW_BYTES: usize = 64 * KIB;

/// Bytes of the shortest frame descriptor: flags, the size of blocks, a checksum.
const DESCRIPTOR_BYTES: usize = 3;

/// Bits of a frame's flags.
const VERSION: u8 = 0b1100_0000;
const VERSION_1: u8 = 0b0100_0000;
const IS_INDEPENDENT: u8 = 1 << 5;
const HAS_BLOCK_CHECKSUMS: u8 = 1 << 4;
const HAS_SIZE: u8 = 1 << 3;
const HAS_CHECKSUM: u8 = 1 << 2;
const RESERVED: u8 = 1 << 1;
const HAS_DICTIONARY: u8 = 1;

/// The bit of a block's length that marks a block that is not compressed.
const IS_PLAIN: u32 = 1 << 31;

/// Bytes of a length, a magic number, a checksum.
const WORD_BYTES: usize = 4;

/// A decoder of lz4.
pub(super) struct Lz4 {
    part: FramePart,
    /// The bytes of the current part so far, and its length.
    field: Vec<u8>,
    wanted: usize,
    flags: u8,
    block_bytes_max: usize,
    /// The window, [`WINDOW_BYTES`] of earlier content that a block may refer to, and the block.
    content: Vec<u8>,
    /// Valid bytes of the window; they stand at its end.
    before_bytes: usize,
    /// Bytes of the block's content.
    block_bytes: usize,
    /// The part of `content` that was not returned yet.
    ready: Range<usize>,
    /// Checksum and length of the frame's content so far.
    hash: XxHash32,
    content_bytes: u64,
    /// The length of the content in the frame's descriptor.
    content_bytes_declared: Option<u64>,
    /// At least one frame was complete.
    is_complete: bool,
}

/// The part of a frame that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FramePart {
    Magic,
    /// Of a skippable frame.
    SkippableSize,
    Skippable(u64),
    Descriptor,
    BlockSize,
    Block {
        is_plain: bool,
    },
    Checksum,
}

impl Default for Lz4 {
    fn default() -> Self {
        Lz4 {
            part: FramePart::Magic,
            field: Vec::new(),
            wanted: WORD_BYTES,
            flags: 0,
            block_bytes_max: 0,
            content: Vec::new(),
            before_bytes: 0,
            block_bytes: 0,
            ready: 0..0,
            hash: XxHash32::with_seed(0),
            content_bytes: 0,
            content_bytes_declared: None,
            is_complete: false,
        }
    }
}

impl Codec for Lz4 {
    fn name(&self) -> &'static str {
        "lz4"
    }

    fn step(&mut self, input: &[u8], out: &mut [u8], at: u64) -> Advance {
        let mut advance = Advance::default();
        if !self.ready.is_empty() {
            let ready = &self.content[self.ready.clone()];
            let count = ready.len().min(out.len());
            out[..count].copy_from_slice(&ready[..count]);
            self.ready.start += count;
            advance.produced = count;
            return advance;
        }
        if let FramePart::Skippable(left) = self.part {
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
            advance.consumed = count;
            match left - count as u64 {
                0 => advance.is_end = self.end_frame(),
                left => self.part = FramePart::Skippable(left),
            }
            return advance;
        }
        let count = (self.wanted - self.field.len()).min(input.len());
        self.field.extend_from_slice(&input[..count]);
        advance.consumed = count;
        if self.field.len() == self.wanted {
            match self.complete() {
                Ok(is_end) => advance.is_end = is_end,
                Err(what) => {
                    let begin = at + count as u64 - self.wanted as u64;
                    advance.error = Some(corrupt(what, begin));
                }
            }
        }
        advance
    }

    fn may_end(&self) -> bool {
        self.is_complete && self.part == FramePart::Magic && self.field.is_empty()
    }
}

impl Lz4 {
    /// Processes a complete part. Returns `true` at the end of a frame.
    fn complete(&mut self) -> Result<bool, &'static str> {
        let word = self
            .field
            .first_chunk()
            .map_or(0, |&bytes| u32::from_le_bytes(bytes));
        match self.part {
            FramePart::Magic if word == MAGIC => self.next(FramePart::Descriptor, DESCRIPTOR_BYTES),
            FramePart::Magic if word & !0xf == SKIPPABLE_MAGIC => {
                self.next(FramePart::SkippableSize, WORD_BYTES);
            }
            FramePart::Magic => return Err("bytes that are not lz4 behind the lz4 data"),
            FramePart::SkippableSize if word == 0 => return Ok(self.end_frame()),
            FramePart::SkippableSize => self.next(FramePart::Skippable(u64::from(word)), 0),
            FramePart::Descriptor => self.descriptor()?,
            FramePart::BlockSize if word == 0 => {
                if (self.content_bytes_declared)
                    .is_some_and(|declared| declared != self.content_bytes)
                {
                    return Err("wrong length of lz4 data");
                }
                if self.flags & HAS_CHECKSUM == 0 {
                    return Ok(self.end_frame());
                }
                self.next(FramePart::Checksum, WORD_BYTES);
            }
            FramePart::BlockSize => {
                let bytes = (word & !IS_PLAIN) as usize;
                if bytes > self.block_bytes_max {
                    return Err("a block of lz4 data that is too long");
                }
                let checksum = if self.flags & HAS_BLOCK_CHECKSUMS == 0 {
                    0
                } else {
                    WORD_BYTES
                };
                let is_plain = word & IS_PLAIN != 0;
                self.next(FramePart::Block { is_plain }, bytes + checksum);
                if self.wanted == 0 {
                    // An empty block.
                    return self.complete();
                }
            }
            FramePart::Block { is_plain } => {
                self.block(is_plain)?;
                self.next(FramePart::BlockSize, WORD_BYTES);
            }
            FramePart::Checksum if word == self.hash.finish_32() => return Ok(self.end_frame()),
            FramePart::Checksum => return Err("wrong checksum of lz4 data"),
            FramePart::Skippable(_) => {}
        }
        Ok(false)
    }

    fn next(&mut self, part: FramePart, wanted: usize) {
        self.part = part;
        self.field.clear();
        self.wanted = wanted;
    }

    /// Ends the frame and returns `true`.
    fn end_frame(&mut self) -> bool {
        self.is_complete = true;
        self.next(FramePart::Magic, WORD_BYTES);
        true
    }

    fn descriptor(&mut self) -> Result<(), &'static str> {
        let (flags, sizes) = (self.field[0], self.field[1]);
        if flags & VERSION != VERSION_1 || flags & RESERVED != 0 || sizes & 0x8f != 0 {
            return Err("unknown lz4 flags");
        }
        let size_bytes = if flags & HAS_SIZE == 0 { 0 } else { 8 };
        let dictionary_bytes = if flags & HAS_DICTIONARY == 0 {
            0
        } else {
            WORD_BYTES
        };
        let wanted = DESCRIPTOR_BYTES + size_bytes + dictionary_bytes;
        if self.field.len() < wanted {
            self.wanted = wanted;
            return Ok(());
        }
        let (described, checksum) = self.field.split_at(wanted - 1);
        if checksum[0] != (XxHash32::oneshot(0, described) >> 8) as u8 {
            return Err("wrong checksum of an lz4 header");
        }
        if flags & HAS_DICTIONARY != 0 {
            return Err("lz4 data that needs a dictionary");
        }
        let log = match sizes >> 4 {
            size @ 4..=7 => 8 + 2 * size,
            _ => return Err("unknown size of lz4 blocks"),
        };
        self.flags = flags;
        self.block_bytes_max = 1 << log;
        self.content_bytes_declared = (size_bytes > 0)
            .then(|| self.field[2..].first_chunk())
            .flatten()
            .map(|&bytes| u64::from_le_bytes(bytes));
        // Both buffers keep the size that the largest blocks needed.
        let content_bytes = WINDOW_BYTES + self.block_bytes_max;
        if self.content.len() < content_bytes {
            self.content = Vec::new();
            self.content.resize(content_bytes, 0);
        }
        self.next(FramePart::BlockSize, WORD_BYTES);
        let field_bytes = self.block_bytes_max + WORD_BYTES;
        if self.field.capacity() < field_bytes {
            self.field = Vec::with_capacity(field_bytes);
        }
        (self.before_bytes, self.block_bytes, self.content_bytes) = (0, 0, 0);
        self.hash = XxHash32::with_seed(0);
        Ok(())
    }

    fn block(&mut self, is_plain: bool) -> Result<(), &'static str> {
        if self.flags & IS_INDEPENDENT == 0 {
            let count = self.block_bytes;
            self.content.copy_within(count..count + WINDOW_BYTES, 0);
            self.before_bytes = (self.before_bytes + count).min(WINDOW_BYTES);
        }
        let mut block = &self.field[..];
        if self.flags & HAS_BLOCK_CHECKSUMS != 0
            && let Some((content, &checksum)) = block.split_last_chunk()
        {
            if XxHash32::oneshot(0, content) != u32::from_le_bytes(checksum) {
                return Err("wrong checksum of an lz4 block");
            }
            block = content;
        }
        let (before, room) = self.content.split_at_mut(WINDOW_BYTES);
        let room = &mut room[..self.block_bytes_max];
        let count = if is_plain {
            room[..block.len()].copy_from_slice(block);
            block.len()
        } else {
            let before = &before[WINDOW_BYTES - self.before_bytes..];
            decompress_into_with_dict(block, room, before).map_err(|_| "corrupt lz4 data")?
        };
        if self.flags & HAS_CHECKSUM != 0 {
            self.hash.write(&room[..count]);
        }
        self.block_bytes = count;
        self.content_bytes += count as u64;
        self.ready = WINDOW_BYTES..WINDOW_BYTES + count;
        Ok(())
    }
}
