//! The bytes of long keys.
//!
//! Promise: the memory an arena holds is bounded by the live keys, however keys come and go. Must
//! not know: hashes, values.
//!
//! A removed key leaves its bytes behind. When more than half of all bytes are dead, the live ones
//! are copied into a second arena, and the arenas change roles. A copy of n live bytes comes after
//! at least n dead ones, so a removal pays for at most its own length.

use std::sync::{Mutex, PoisonError};

use bumpalo::Bump;

use super::class::LongEntry;
use super::keys::{LongKey, PackedKey};
use super::segments::SegmentedTable;
use crate::limits::KEY_ARENA_BYTES_INITIAL;

/// The memory of a table's long keys.
#[derive(Debug)]
pub(super) struct KeyArena {
    bytes: SoleBump,
    /// Empty, for the next compaction; `None` before the first one.
    spare: Option<SoleBump>,
    /// Bytes of keys that are in the table.
    live: usize,
    /// Bytes of keys that were removed since the last compaction.
    dead: usize,
    /// Bytes held of the allocator.
    held: usize,
}

/// A [`Bump`] that only its owner uses. By itself a `Bump` allocates through a shared reference;
/// this makes a table readable by several threads. The lock is never taken: the owner has `&mut`.
#[derive(Debug)]
struct SoleBump(Mutex<Bump>);

impl SoleBump {
    fn with_capacity(bytes: usize) -> Self {
        SoleBump(Mutex::new(Bump::with_capacity(bytes)))
    }

    #[inline]
    fn get(&mut self) -> &mut Bump {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyArena {
    pub(super) fn new() -> Self {
        let mut arena = KeyArena {
            bytes: SoleBump::with_capacity(KEY_ARENA_BYTES_INITIAL),
            spare: None,
            live: 0,
            dead: 0,
            held: 0,
        };
        arena.measure();
        arena
    }

    /// Memory may have been taken or given back.
    #[inline]
    fn measure(&mut self) {
        let spare = self.spare.as_mut();
        let spare = spare.map_or(0, |spare| spare.get().allocated_bytes());
        self.held = self.bytes.get().allocated_bytes() + spare;
    }

    /// Copies a key that becomes a key of the table.
    pub(super) fn copy(&mut self, hash: u64, key: &[u8]) -> LongKey {
        self.live += key.len();
        let key = LongKey::copy_into(self.bytes.get(), hash, key);
        self.measure();
        key
    }

    /// Returns `true` if a key of `len` bytes needs no more memory.
    pub(super) fn has_room(&mut self, len: usize) -> bool {
        self.bytes.get().chunk_capacity() >= len
    }

    /// As [`copy`](Self::copy), but takes at most `more` bytes of the allocator. `None` if that is
    /// not enough.
    pub(super) fn copy_within(&mut self, hash: u64, key: &[u8], more: usize) -> Option<LongKey> {
        let bytes = self.bytes.get();
        let limit = bytes.allocated_bytes().saturating_add(more);
        bytes.set_allocation_limit(Some(limit));
        let copied = LongKey::try_copy_into(bytes, hash, key);
        bytes.set_allocation_limit(None);
        self.measure();
        self.live += copied.as_ref().map_or(0, |_| key.len());
        copied
    }

    /// A key was removed from the table; only a long one had bytes here.
    #[inline]
    pub(super) fn forget(&mut self, key: PackedKey<'_>) {
        if let PackedKey::Long(key) = key {
            self.live -= key.len();
            self.dead += key.len();
        }
    }

    /// Returns `true` if [`compact`](Self::compact) is due.
    pub(super) fn is_sparse(&self) -> bool {
        self.dead > self.live && self.dead > KEY_ARENA_BYTES_INITIAL
    }

    /// Moves the keys of all entries of the table into memory without gaps.
    #[cold]
    pub(super) fn compact<V>(&mut self, long: &mut SegmentedTable<LongEntry<V>>) {
        // All keys fit the first chunk of the target, so that nothing can fail half-way: until the
        // last key was moved, some are in the one arena and some in the other.
        let room = self.live..4 * self.live + 2 * KEY_ARENA_BYTES_INITIAL;
        let is_fit = |arena: &mut SoleBump| room.contains(&arena.get().chunk_capacity());
        let mut spare = self.spare.take();
        let has_fit = spare.as_mut().is_some_and(is_fit);
        let target = spare
            .filter(|_| has_fit)
            .unwrap_or_else(|| SoleBump::with_capacity(2 * self.live + KEY_ARENA_BYTES_INITIAL));
        let mut emptied = self.move_keys(long, target);
        emptied.get().reset();
        // What a burst left behind is given back.
        self.spare = is_fit(&mut emptied).then_some(emptied);
        self.measure();
    }

    /// As [`compact`](Self::compact), but with `more` bytes beside those of the live keys, and
    /// keeps no memory for the next time.
    #[cold]
    pub(super) fn compact_tightly<V>(
        &mut self,
        long: &mut SegmentedTable<LongEntry<V>>,
        more: usize,
    ) {
        self.spare = None;
        self.move_keys(long, SoleBump::with_capacity(self.live + more));
        self.measure();
    }

    /// Moves all keys into `target`, and returns the memory they were in.
    fn move_keys<V>(
        &mut self,
        long: &mut SegmentedTable<LongEntry<V>>,
        mut target: SoleBump,
    ) -> SoleBump {
        for entry in long.iter_mut() {
            entry.key.move_into(target.get());
        }
        self.dead = 0;
        std::mem::replace(&mut self.bytes, target)
    }

    /// Forgets all keys and keeps the memory. The table has no long entries any more.
    pub(super) fn clear(&mut self) {
        // Keeps the largest chunk: after the first epochs one chunk holds what an epoch needs.
        self.bytes.get().reset();
        (self.live, self.dead) = (0, 0);
        self.measure();
    }

    /// As [`clear`](Self::clear), but returns memory if the keys took less than a sixteenth of
    /// it.
    pub(super) fn recycle(&mut self) {
        if self.held() > 16 * self.live.max(KEY_ARENA_BYTES_INITIAL) {
            *self = KeyArena::new();
        }
        self.clear();
    }

    /// Bytes of all keys of the table.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Bytes of removed keys that are still held.
    pub(super) fn dead(&self) -> usize {
        self.dead
    }

    /// Bytes held of the allocator.
    pub(super) fn held(&self) -> usize {
        self.held
    }
}
