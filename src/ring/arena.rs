//! The memory of the rings: blocks carved from one bump arena at start and recycled forever.
//!
//! Promise: a block's bytes are initialised, `GUARD_BYTES` of them follow its last, and the memory
//! lives as long as any block of the arena. Must not know: who fills a block, what with.
#![allow(unsafe_code)]
// Why unsafe: a block is a piece of an arena that several threads' blocks share, so it cannot
// borrow it; it holds a pointer and a share of the arena instead. Obligation: two blocks never
// overlap. Attacked by: the ring's own tests, the engine simulation, the fuzz target
// `cuts_do_not_matter`.

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use bumpalo::Bump;

use crate::limits::GUARD_BYTES;
use crate::split::{BlockBytes, WholeRecord};

/// Records of any bytes in a block. Their places take memory too: eight bytes each.
pub(crate) const WHOLE_RECORDS_MAX: usize = 1024;

/// The memory that blocks are carved from.
///
/// The mutex is never contended. It is there because a `Bump` may not be shared, and blocks are
/// taken at start only.
#[derive(Clone)]
pub struct Arena {
    bump: Arc<Mutex<Bump>>,
    block_bytes: usize,
}

debug_fields!([] Arena, "Arena", block_bytes);

/// A piece of memory that is filled by one thread, read by another, and handed back.
pub struct Block {
    /// `capacity + GUARD_BYTES` bytes in the arena, this block's alone.
    base: NonNull<u8>,
    capacity: usize,
    /// Memory of a record that is longer than the block, used instead of the block's own unless it
    /// is empty; always longer than `capacity` by `GUARD_BYTES` at least.
    spill: Vec<u8>,
    /// The first byte of the content; always ≤ `len`.
    start: usize,
    /// Bytes filled; always ≤ the capacity in use.
    len: usize,
    /// Where records are that may hold any byte, counted from the first byte of the content.
    whole: Vec<WholeRecord>,
    /// The block's number in the order in which blocks were handed over.
    number: u64,
    _arena: Arc<Mutex<Bump>>,
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.bytes().escape_ascii())
    }
}

// SAFETY: `base` points to memory that only this block may touch (`Arena::block` carved it for it
// alone), and `_arena` keeps that memory alive on whatever thread the block is.
unsafe impl Send for Block {}

impl Arena {
    /// An arena with room for `block_count` blocks. `None` if the system has no such memory.
    pub fn new(block_bytes: usize, block_count: usize) -> Option<Self> {
        let bytes = (block_bytes + GUARD_BYTES).checked_mul(block_count)?;
        let bump = Bump::try_with_capacity(bytes).ok()?;
        Some(Arena {
            bump: Arc::new(Mutex::new(bump)),
            block_bytes,
        })
    }

    /// Bytes of each block.
    pub(crate) fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// Carves a block. Only at start: blocks are recycled, not freed.
    pub fn block(&self) -> Block {
        let bump = self
            .bump
            .lock()
            .expect("no code panics while it holds the arena");
        // Zeroed, which also touches every page now instead of under load.
        let memory = bump.alloc_slice_fill_copy(self.block_bytes + GUARD_BYTES, 0u8);
        Block {
            base: NonNull::from(memory).cast(),
            capacity: self.block_bytes,
            spill: Vec::new(),
            start: 0,
            len: 0,
            whole: Vec::new(),
            number: 0,
            _arena: Arc::clone(&self.bump),
        }
    }
}

impl Block {
    /// Bytes the block can hold.
    pub fn capacity(&self) -> usize {
        if self.spill.is_empty() {
            self.capacity
        } else {
            self.spill.len() - GUARD_BYTES
        }
    }

    /// All of the block's memory, guard included.
    fn memory(&self) -> &[u8] {
        if !self.spill.is_empty() {
            return &self.spill;
        }
        // SAFETY: `Arena::block` made `base` from a slice of this length, initialised, which nobody
        // else has; `_arena` keeps it alive.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.capacity + GUARD_BYTES) }
    }

    fn memory_mut(&mut self) -> &mut [u8] {
        if !self.spill.is_empty() {
            return &mut self.spill;
        }
        // SAFETY: as in `memory`, and `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.capacity + GUARD_BYTES) }
    }

    /// The content.
    pub fn bytes(&self) -> &[u8] {
        &self.memory()[self.start..self.len]
    }

    /// The content, and where records are that may hold any byte.
    pub fn content(&self) -> BlockBytes<'_> {
        BlockBytes {
            bytes: self.bytes(),
            whole: &self.whole,
        }
    }

    /// The content and the guard behind it, whose bytes mean nothing.
    pub fn guarded(&self) -> &[u8] {
        &self.memory()[self.start..self.len + GUARD_BYTES]
    }

    /// Everything filled in, a skipped first byte included.
    pub fn written(&self) -> &[u8] {
        &self.memory()[..self.len]
    }

    /// As [`written`](Self::written).
    pub fn written_mut(&mut self) -> &mut [u8] {
        let len = self.len;
        &mut self.memory_mut()[..len]
    }

    /// Bytes at the front that were skipped: none or one.
    pub fn skipped(&self) -> usize {
        self.start
    }

    /// The block's number in the order in which blocks were handed over; shards finish them in any
    /// order.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Sets the block's number in the order.
    pub fn set_number(&mut self, number: u64) {
        self.number = number;
    }

    /// Number of bytes filled, including a skipped first one.
    pub fn filled(&self) -> usize {
        self.len
    }

    /// The free part.
    pub fn space(&mut self) -> &mut [u8] {
        let (len, capacity) = (self.len, self.capacity());
        &mut self.memory_mut()[len..capacity]
    }

    /// Marks the first `count` bytes of `space` as filled.
    pub fn advance(&mut self, count: usize) {
        assert!(
            count <= self.capacity() - self.len,
            "more bytes than the block had room for"
        );
        self.len += count;
    }

    /// Appends `bytes`, which must fit.
    pub fn append(&mut self, bytes: &[u8]) {
        self.space()[..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends a whole record, which may hold any byte, and the record end `end`. Both must fit.
    pub fn append_whole(&mut self, record: &[u8], end: u8) {
        let place = |at: usize| u32::try_from(at).expect("records are shorter than 4 GiB");
        let at = self.len - self.start;
        if self.whole.capacity() == 0 {
            // Once for each block, so that a steady stream never waits for more.
            self.whole.reserve_exact(WHOLE_RECORDS_MAX);
        }
        self.whole.push(WholeRecord {
            start: place(at),
            end: place(at + record.len()),
        });
        self.append(record);
        self.append(&[end]);
    }

    /// Whole records that may hold any byte.
    pub fn whole_count(&self) -> usize {
        self.whole.len()
    }

    /// Inserts `bytes` before what was filled in at `at` and behind it. Makes room on the heap if
    /// it has to.
    pub fn insert(&mut self, at: usize, bytes: &[u8]) {
        self.spill_to(self.len + bytes.len());
        let (behind, len) = (at + bytes.len(), self.len);
        let memory = self.memory_mut();
        memory.copy_within(at..len, behind);
        memory[at..behind].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Removes the bytes filled in at `range`, and frees spilled memory if the rest fits into the
    /// arena's.
    pub fn remove(&mut self, range: Range<usize>) {
        assert!(
            self.start <= range.start && range.end <= self.len,
            "nothing else was filled in"
        );
        let (gone, len) = (range.len(), self.len);
        self.memory_mut().copy_within(range.end..len, range.start);
        self.len -= gone;
        if self.is_spilled() && self.len <= self.capacity {
            let (spilled, len) = (std::mem::take(&mut self.spill), self.len);
            self.memory_mut()[..len].copy_from_slice(&spilled[..len]);
        }
    }

    /// Removes the first byte from the content.
    pub fn skip_first(&mut self) {
        assert!(self.start < self.len, "no byte to skip");
        self.start += 1;
    }

    /// Drops everything behind the first `len` filled bytes.
    pub fn truncate(&mut self, len: usize) {
        assert!(
            self.start <= len && len <= self.len,
            "cannot truncate forwards"
        );
        self.len = len;
    }

    /// Makes room for at least `capacity` bytes, on the heap, for records longer than a block.
    #[cold]
    pub fn spill_to(&mut self, capacity: usize) {
        if capacity <= self.capacity() {
            return;
        }
        let mut larger = vec![0u8; capacity + GUARD_BYTES];
        let len = self.len;
        larger[..len].copy_from_slice(&self.memory()[..len]);
        self.spill = larger;
    }

    /// Returns `true` if the block outgrew the arena.
    pub fn is_spilled(&self) -> bool {
        !self.spill.is_empty()
    }

    /// Empties the block and frees spilled memory.
    pub fn recycle(&mut self) {
        self.start = 0;
        self.len = 0;
        self.whole.clear();
        if self.is_spilled() {
            self.spill = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_filled_cut_spilled_and_recycled() {
        let arena = Arena::new(64, 2).expect("a little memory");
        let (mut one, mut two) = (arena.block(), arena.block());
        drop(arena);
        two.space().fill(b'2');
        one.append(b"\nhello");
        one.skip_first();
        assert_eq!(one.bytes(), b"hello");
        assert_eq!(one.guarded().len(), 5 + GUARD_BYTES);
        let free = one.space().len();
        assert_eq!(free, 58);
        one.spill_to(1000);
        assert_eq!((one.bytes(), one.capacity()), (&b"hello"[..], 1000));
        assert_eq!(one.space().len(), 994);
        one.advance(994);
        one.truncate(3);
        assert_eq!(one.bytes(), b"he");
        one.recycle();
        assert_eq!(
            (one.filled(), one.capacity(), one.is_spilled()),
            (0, 64, false)
        );
        drop(one);
        two.advance(64);
        assert!(
            two.bytes().iter().all(|&byte| byte == b'2'),
            "neighbours do not overlap"
        );
    }
}
