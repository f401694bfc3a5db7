//! Memory for states that are too large, or too different in size, for a table.
//!
//! Promise: a freed block is used again before memory is taken, and an emptied slab keeps what it
//! has: in the steady state nothing is allocated. Blocks are powers of two of words, so a state
//! takes at most twice what it holds. Must not know: tables, keys, what a block holds.

use std::fmt;
use std::num::NonZeroU8;

/// Words of a chunk, unless one block is larger. The first chunks of a class are smaller: of 1, 1,
/// 2, 4, … blocks, so that a slab of a few blocks is small.
const CHUNK_WORDS: usize = 1 << 11;

/// The largest block is of `2^CLASS_MAX` words: 512 KiB.
const CLASS_MAX: usize = 16;

/// The end of a list of free blocks.
const NONE: u32 = u32::MAX;

/// There is no memory left for a state that has to grow: what [`Slab::has_room`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlabFull {
    /// What would do.
    pub(super) bytes: usize,
}

impl fmt::Display for SlabFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no memory left for a state that has to grow")
    }
}

impl std::error::Error for SlabFull {}

/// The number of a block in a [`Slab`]. It is `Copy`, so a state in a table can hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockNumber {
    number: u32,
    /// The class, and one more, so that a missing block takes no memory of its own.
    class: NonZeroU8,
}

impl BlockNumber {
    /// Words that the block holds: a power of two.
    pub fn words(self) -> usize {
        1 << self.class()
    }

    fn class(self) -> usize {
        usize::from(self.class.get()) - 1
    }
}

/// Blocks of 64-bit words, beside the table whose states hold their numbers.
///
/// ```
/// use microtally::aggregate::Slab;
/// let mut slab = Slab::new();
/// let block = slab.allocate(5);
/// slab.words_mut(block)[4] = 7;
/// assert_eq!((block.words(), slab.words(block)[4]), (8, 7));
/// slab.free(block);
/// assert_eq!(slab.allocate(6), block);
/// ```
#[derive(Debug)]
pub struct Slab {
    classes: [SizeClass; CLASS_MAX + 1],
    /// Bytes that may still be taken from the allocator.
    allowance: usize,
    held_bytes: usize,
    /// Bytes of all blocks that are not free.
    live_bytes: usize,
}

/// Blocks of one size.
#[derive(Debug)]
struct SizeClass {
    chunks: Vec<Box<[u64]>>,
    /// Blocks that all chunks hold.
    capacity: u32,
    /// Blocks that were in use since the slab was cleared; those from here on never were.
    used: u32,
    /// The first free block below `used`. Its first word has the next one.
    free: u32,
}

/// log2 of the blocks in a full chunk.
fn blocks_log2(class: usize) -> usize {
    (CHUNK_WORDS.ilog2() as usize).saturating_sub(class)
}

impl Default for Slab {
    fn default() -> Self {
        Slab::new()
    }
}

impl Slab {
    /// A slab without memory, which may take any.
    pub fn new() -> Slab {
        Slab {
            classes: std::array::from_fn(|_| SizeClass {
                chunks: Vec::new(),
                capacity: 0,
                used: 0,
                free: NONE,
            }),
            allowance: usize::MAX,
            held_bytes: 0,
            live_bytes: 0,
        }
    }

    /// The class of blocks with at least `words` words.
    ///
    /// # Panics
    ///
    /// Panics if no block is that large.
    fn class_of(words: usize) -> usize {
        let class = words.max(1).next_power_of_two().ilog2() as usize;
        assert!(class <= CLASS_MAX, "a block has at most 65536 words");
        class
    }

    /// Checks that a block of `words` words can be allocated within the memory limit.
    ///
    /// # Errors
    ///
    /// [`SlabFull`], and nothing has changed.
    #[inline]
    pub fn has_room(&self, words: usize) -> Result<(), SlabFull> {
        let class = Self::class_of(words);
        let bytes = self.classes[class].next_chunk_bytes(class);
        match self.classes[class].is_full() && self.allowance < bytes {
            true => Err(SlabFull { bytes }),
            false => Ok(()),
        }
    }

    /// A block of at least `words` words, at most 65536. What it holds is unspecified.
    ///
    /// It takes memory even beyond the limit: check with [`has_room`](Self::has_room) where a
    /// record is added.
    ///
    /// # Panics
    ///
    /// Panics if `words` is larger.
    pub fn allocate(&mut self, words: usize) -> BlockNumber {
        let class = Self::class_of(words);
        let blocks = &mut self.classes[class];
        let number = if blocks.free != NONE {
            let number = blocks.free;
            blocks.free = blocks.block(class, number)[0] as u32;
            number
        } else {
            if blocks.is_full() {
                let bytes = blocks.grow(class);
                self.allowance = self.allowance.saturating_sub(bytes);
                self.held_bytes += bytes;
            }
            blocks.used += 1;
            blocks.used - 1
        };
        self.live_bytes += size_of::<u64>() << class;
        BlockNumber {
            number,
            class: NonZeroU8::MIN.saturating_add(class as u8),
        }
    }

    /// The words of a block.
    #[inline]
    pub fn words(&self, block: BlockNumber) -> &[u64] {
        let class = block.class();
        self.classes[class].block(class, block.number)
    }

    /// The words of a block, mutably.
    #[inline]
    pub fn words_mut(&mut self, block: BlockNumber) -> &mut [u64] {
        let class = block.class();
        self.classes[class].block_mut(class, block.number)
    }

    /// Frees a block, which must not be used any more.
    pub fn free(&mut self, block: BlockNumber) {
        let class = block.class();
        let blocks = &mut self.classes[class];
        let next = u64::from(blocks.free);
        blocks.block_mut(class, block.number)[0] = next;
        blocks.free = block.number;
        self.live_bytes -= size_of::<u64>() << class;
    }

    /// Frees all blocks and keeps the memory.
    pub(crate) fn clear(&mut self) {
        for blocks in &mut self.classes {
            (blocks.used, blocks.free) = (0, NONE);
        }
        self.live_bytes = 0;
    }

    /// As [`clear`](Self::clear), but frees the memory if less than a sixteenth of it was used. So
    /// memory that only a burst needed is freed at the next call.
    pub(crate) fn recycle(&mut self) {
        if self.live_bytes < self.held_bytes / 16 {
            *self = Slab {
                allowance: self.allowance,
                ..Slab::new()
            };
        }
        self.clear();
    }

    /// Bytes of all blocks that are not free.
    pub(crate) fn live_bytes(&self) -> usize {
        self.live_bytes
    }

    /// Bytes held of the allocator.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The most bytes that may be taken at once for a block of a size that there is.
    pub(crate) fn largest_step(&self) -> usize {
        let used = |class: &usize| !self.classes[*class].chunks.is_empty();
        let largest = (0..=CLASS_MAX).rev().find(used);
        largest.map_or(0, |class| {
            size_of::<u64>() << class.max(CHUNK_WORDS.ilog2() as usize)
        })
    }

    /// Bytes that may still be taken.
    pub(crate) fn allowance(&self) -> usize {
        self.allowance
    }

    /// Sets how many bytes may still be taken.
    pub(crate) fn allow(&mut self, bytes: usize) {
        self.allowance = bytes;
    }
}

impl SizeClass {
    /// Returns `true` if the next block needs another chunk.
    #[inline]
    fn is_full(&self) -> bool {
        self.free == NONE && self.used == self.capacity
    }

    fn next_chunk_bytes(&self, class: usize) -> usize {
        size_of::<u64>() << (self.next_chunk_log2(class) + class)
    }

    /// log2 of the blocks in the next chunk.
    fn next_chunk_log2(&self, class: usize) -> usize {
        self.chunks.len().saturating_sub(1).min(blocks_log2(class))
    }

    /// Adds a chunk. Returns its bytes.
    #[cold]
    fn grow(&mut self, class: usize) -> usize {
        let (bytes, blocks) = (
            self.next_chunk_bytes(class),
            1 << self.next_chunk_log2(class),
        );
        assert!(
            self.capacity < NONE - blocks,
            "blocks have numbers of 32 bits"
        );
        self.capacity += blocks;
        self.chunks.push(vec![0; bytes / size_of::<u64>()].into());
        bytes
    }

    #[inline]
    fn block(&self, class: usize, number: u32) -> &[u64] {
        let (chunk, range) = place(class, number);
        &self.chunks[chunk][range]
    }

    #[inline]
    fn block_mut(&mut self, class: usize, number: u32) -> &mut [u64] {
        let (chunk, range) = place(class, number);
        &mut self.chunks[chunk][range]
    }
}

/// The chunk of a block, and where in it the block is.
#[inline]
fn place(class: usize, number: u32) -> (usize, std::ops::Range<usize>) {
    let (number, log2) = (number as usize, blocks_log2(class));
    let (chunk, block) = match number >> log2 {
        // The chunks of 1, 1, 2, 4, … blocks: half of a full one is the last.
        0 if number == 0 => (0, 0),
        0 => (number.ilog2() as usize + 1, number - (1 << number.ilog2())),
        whole => (log2 + whole, number & ((1 << log2) - 1)),
    };
    let start = block << class;
    (chunk, start..start + (1 << class))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Blocks of all sizes that come and go: none overlaps another.
        #[test]
        fn blocks_keep_what_is_written_to_them(
            steps in proptest::collection::vec((0usize..3000, any::<prop::sample::Index>(), 0u8..3), 1..60),
        ) {
            let mut slab = Slab::new();
            let mut live: Vec<(BlockNumber, u64)> = Vec::new();
            for (number, (words, which, kind)) in steps.into_iter().enumerate() {
                if kind == 0 && !live.is_empty() {
                    let (block, _) = live.swap_remove(which.index(live.len()));
                    slab.free(block);
                } else {
                    let block = slab.allocate(words);
                    prop_assert!(block.words() >= words.max(1) && block.words() <= 2 * words.max(1));
                    slab.words_mut(block).fill(number as u64);
                    live.push((block, number as u64));
                }
                for (block, value) in &live {
                    prop_assert!(slab.words(*block).iter().all(|word| word == value));
                }
            }
            let held = slab.held_bytes();
            slab.clear();
            for (block, _) in &live {
                slab.allocate(block.words());
            }
            prop_assert_eq!(slab.held_bytes(), held, "a cleared slab has the same room");
        }
    }

    #[test]
    fn a_slab_keeps_to_its_allowance() {
        let mut slab = Slab::new();
        let bytes = size_of::<u64>() * 3 * CHUNK_WORDS;
        slab.allow(bytes);
        let mut blocks = Vec::new();
        while slab.has_room(8) == Ok(()) {
            blocks.push(slab.allocate(8));
        }
        assert_eq!(blocks.len(), 3 * CHUNK_WORDS / 8);
        assert_eq!((slab.allowance(), slab.held_bytes()), (0, bytes));
        assert_eq!(slab.has_room(1), Err(SlabFull { bytes: 8 }));
        slab.free(blocks[5]);
        assert_eq!(
            (slab.has_room(7), slab.has_room(9)),
            (Ok(()), Err(SlabFull { bytes: 128 }))
        );
        assert_eq!(slab.live_bytes(), bytes - 64);
        // Where there is no limit, as in a merge, there is always room.
        let large = slab.allocate(65_536);
        assert_eq!(slab.words(large).len(), 65_536);
        assert!(slab.held_bytes() > 500_000);
    }

    #[test]
    fn a_slab_of_a_few_blocks_is_small() {
        let mut slab = Slab::new();
        for words in [1, 4, 100, 1000] {
            slab.allocate(words);
        }
        assert_eq!(slab.held_bytes(), 8 * (1 + 4 + 128 + 1024));
    }
}
