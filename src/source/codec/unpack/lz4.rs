//! Lz4 (its frame format, version 1.6): frames one after another, skippable ones among them.
//!
//! Promise: checksums are checked where there are any, and the length of a frame if it has one. Must not know: where
//! bytes come from, what is in them, dictionaries.
//!
//! A block, at most 4 MiB, is decoded as a whole, which takes some milliseconds; then it is handed out as there is
//! room. Two blocks are held, the compressed one and its content, and 64 KiB of what was before it:
//!
//! ```text
//!   field: [ compressed block, checksum ] ──▶ content: [ 64 KiB before it | the block ]
//! ```

use std::hash::Hasher;
use std::ops::Range;

use lz4_flex::block::decompress_into_with_dict;
use twox_hash::XxHash32;

use super::{Codec, Progress, corrupt};
use crate::limits::KIB;

/// What a frame begins with.
const MAGIC: u32 = 0x184d_2204;

/// What a skippable frame begins with, but for the last four bits.
const SKIPPABLE_MAGIC: u32 = 0x184d_2a50;

/// How far back a block may refer.
const WINDOW_BYTES: usize = 64 * KIB;

/// Bytes of the shortest descriptor of a frame: flags, the size of blocks, a checksum.
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

/// A block's length whose block is not compressed.
const IS_PLAIN: u32 = 1 << 31;

/// Bytes of a length, a magic number, a checksum.
const WORD_BYTES: usize = 4;

/// A decoder of lz4.
pub(super) struct Lz4 {
    part: Part,
    /// The part at hand, as far as it has come, and how long it will be.
    field: Vec<u8>,
    wanted: usize,
    flags: u8,
    block_bytes_max: usize,
    /// What was before the block and may be referred to, [`WINDOW_BYTES`] in all, and the block.
    content: Vec<u8>,
    /// Bytes in front of the block that there are, at the end of the first [`WINDOW_BYTES`].
    before_bytes: usize,
    /// Bytes of the block.
    block_bytes: usize,
    /// Of the block what was not handed out.
    ready: Range<usize>,
    /// Of the frame's content so far.
    hash: XxHash32,
    content_bytes: u64,
    /// What the frame says of its length.
    content_bytes_said: Option<u64>,
    /// A frame was complete.
    is_complete: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
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
            part: Part::Magic,
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
            content_bytes_said: None,
            is_complete: false,
        }
    }
}

impl Codec for Lz4 {
    fn name(&self) -> &'static str {
        "lz4"
    }

    fn step(&mut self, input: &[u8], out: &mut [u8], at: u64) -> Progress {
        let mut progress = Progress::default();
        if !self.ready.is_empty() {
            let ready = &self.content[self.ready.clone()];
            let count = ready.len().min(out.len());
            out[..count].copy_from_slice(&ready[..count]);
            self.ready.start += count;
            progress.produced = count;
            return progress;
        }
        if let Part::Skippable(left) = self.part {
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
            progress.consumed = count;
            match left - count as u64 {
                0 => progress.is_end = self.end_frame(),
                left => self.part = Part::Skippable(left),
            }
            return progress;
        }
        let count = (self.wanted - self.field.len()).min(input.len());
        self.field.extend_from_slice(&input[..count]);
        progress.consumed = count;
        if self.field.len() == self.wanted {
            match self.complete() {
                Ok(is_end) => progress.is_end = is_end,
                Err(what) => {
                    let begin = at + count as u64 - self.wanted as u64;
                    progress.error = Some(corrupt(what, begin));
                }
            }
        }
        progress
    }

    fn may_end(&self) -> bool {
        self.is_complete && self.part == Part::Magic && self.field.is_empty()
    }
}

impl Lz4 {
    /// The part at hand is complete. Returns whether a frame is.
    fn complete(&mut self) -> Result<bool, &'static str> {
        let word = self
            .field
            .first_chunk()
            .map_or(0, |&bytes| u32::from_le_bytes(bytes));
        match self.part {
            Part::Magic if word == MAGIC => self.next(Part::Descriptor, DESCRIPTOR_BYTES),
            Part::Magic if word & !0xf == SKIPPABLE_MAGIC => {
                self.next(Part::SkippableSize, WORD_BYTES);
            }
            Part::Magic => return Err("bytes that are not lz4 behind the lz4 data"),
            Part::SkippableSize if word == 0 => return Ok(self.end_frame()),
            Part::SkippableSize => self.next(Part::Skippable(u64::from(word)), 0),
            Part::Descriptor => self.descriptor()?,
            Part::BlockSize if word == 0 => {
                if (self.content_bytes_said).is_some_and(|said| said != self.content_bytes) {
                    return Err("wrong length of lz4 data");
                }
                if self.flags & HAS_CHECKSUM == 0 {
                    return Ok(self.end_frame());
                }
                self.next(Part::Checksum, WORD_BYTES);
            }
            Part::BlockSize => {
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
                self.next(Part::Block { is_plain }, bytes + checksum);
                if self.wanted == 0 {
                    // A block without anything in it.
                    return self.complete();
                }
            }
            Part::Block { is_plain } => {
                self.block(is_plain)?;
                self.next(Part::BlockSize, WORD_BYTES);
            }
            Part::Checksum if word == self.hash.finish_32() => return Ok(self.end_frame()),
            Part::Checksum => return Err("wrong checksum of lz4 data"),
            Part::Skippable(_) => {}
        }
        Ok(false)
    }

    fn next(&mut self, part: Part, wanted: usize) {
        self.part = part;
        self.field.clear();
        self.wanted = wanted;
    }

    /// A frame is complete, which it returns.
    fn end_frame(&mut self) -> bool {
        self.is_complete = true;
        self.next(Part::Magic, WORD_BYTES);
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
        self.content_bytes_said = (size_bytes > 0)
            .then(|| self.field[2..].first_chunk())
            .flatten()
            .map(|&bytes| u64::from_le_bytes(bytes));
        // Both stay as long as the longest frame needs them.
        let content_bytes = WINDOW_BYTES + self.block_bytes_max;
        if self.content.len() < content_bytes {
            self.content = Vec::new();
            self.content.resize(content_bytes, 0);
        }
        self.next(Part::BlockSize, WORD_BYTES);
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
