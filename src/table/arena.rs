//! Where the bytes of long keys lie.
//!
//! Promise: what the arena holds of the allocator is bounded by the live keys, however keys come and go.
//! Must not know: hashes, values.
//!
//! A key that is removed leaves its bytes behind. When more than half of all bytes are dead, the live ones
//! are copied into a second arena, and the first one is the second the next time. A copy of n live bytes comes
//! after at least n dead ones, so that a removal pays for at most its own length.

use std::sync::{Mutex, PoisonError};

use bumpalo::Bump;

use super::keys::LongKey;
use super::segments::SegmentedTable;
use super::{Long, long_bytes};
use crate::limits::KEY_ARENA_BYTES_INITIAL;

/// See the module.
#[derive(Debug)]
pub(super) struct KeyArena {
    bytes: Alone,
    /// Empty, for the next compaction; none before the first one.
    spare: Option<Alone>,
    /// Bytes of keys that are in the table.
    live: usize,
    /// Bytes of keys that were removed since the last compaction.
    dead: usize,
    /// Bytes held of the allocator.
    held: usize,
}

/// A [`Bump`] that only its owner uses, so that a table can be read by several threads: by itself a `Bump`
/// allocates through a shared reference. The lock is never taken, since whoever owns it needs none.
#[derive(Debug)]
struct Alone(Mutex<Bump>);

impl Alone {
    fn with_capacity(bytes: usize) -> Self {
        Alone(Mutex::new(Bump::with_capacity(bytes)))
    }

    #[inline]
    fn get(&mut self) -> &mut Bump {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyArena {
    pub(super) fn new() -> Self {
        let mut arena = KeyArena {
            bytes: Alone::with_capacity(KEY_ARENA_BYTES_INITIAL),
            spare: None,
            live: 0,
            dead: 0,
            held: 0,
        };
        arena.look();
        arena
    }

    /// Memory may have been taken or given back.
    #[inline]
    fn look(&mut self) {
        let spare = self.spare.as_mut();
        let spare = spare.map_or(0, |spare| spare.get().allocated_bytes());
        self.held = self.bytes.get().allocated_bytes() + spare;
    }

    /// Copies a key that becomes a key of the table.
    pub(super) fn copy(&mut self, key: &[u8]) -> LongKey {
        self.live += key.len();
        let key = LongKey::copy_into(self.bytes.get(), key);
        self.look();
        key
    }

    /// Whether a key of `len` bytes needs no more memory than there is.
    pub(super) fn has_room(&mut self, len: usize) -> bool {
        self.bytes.get().chunk_capacity() >= len
    }

    /// As [`copy`](Self::copy), taking at most `more` bytes of the allocator. `None` if that is not enough.
    pub(super) fn copy_within(&mut self, key: &[u8], more: usize) -> Option<LongKey> {
        let bytes = self.bytes.get();
        let limit = bytes.allocated_bytes().saturating_add(more);
        bytes.set_allocation_limit(Some(limit));
        let copied = LongKey::try_copy_into(bytes, key);
        bytes.set_allocation_limit(None);
        self.look();
        self.live += copied.map_or(0, |_| key.len());
        copied
    }

    /// A key of `len` bytes was removed from the table; its bytes go when the table is thinned.
    pub(super) fn leave(&mut self, len: usize) {
        self.live -= len;
        self.dead += len;
    }

    /// As [`compact`](Self::compact), with `more` bytes beside those of the live keys, and nothing kept for the
    /// next time.
    #[cold]
    pub(super) fn compact_tightly<V>(&mut self, long: &mut SegmentedTable<Long<V>>, more: usize) {
        self.spare = None;
        let mut target = Alone::with_capacity(self.live + more);
        for entry in long.iter_mut() {
            entry.key = LongKey::copy_into(target.get(), long_bytes(entry));
        }
        self.bytes = target;
        self.dead = 0;
        self.look();
    }

    /// A key of `len` bytes was removed from the table. Gives whether [`compact`](Self::compact) is due.
    pub(super) fn forget(&mut self, len: usize) -> bool {
        self.live -= len;
        self.dead += len;
        self.dead > self.live && self.dead > KEY_ARENA_BYTES_INITIAL
    }

    /// Moves the keys of all entries of the table into memory without gaps.
    #[cold]
    pub(super) fn compact<V>(&mut self, long: &mut SegmentedTable<Long<V>>) {
        // All keys fit into the chunk that is there, so that nothing can fail half-way: until the last key
        // was moved, some are in the one arena and some in the other.
        let room = self.live..4 * self.live + 2 * KEY_ARENA_BYTES_INITIAL;
        let is_fit = |arena: &mut Alone| room.contains(&arena.get().chunk_capacity());
        let mut spare = self.spare.take();
        let has_fit = spare.as_mut().is_some_and(is_fit);
        let mut target = spare
            .filter(|_| has_fit)
            .unwrap_or_else(|| Alone::with_capacity(2 * self.live + KEY_ARENA_BYTES_INITIAL));
        for entry in long.iter_mut() {
            entry.key = LongKey::copy_into(target.get(), long_bytes(entry));
        }
        let mut emptied = std::mem::replace(&mut self.bytes, target);
        emptied.get().reset();
        // What a burst left behind is given back.
        self.spare = is_fit(&mut emptied).then_some(emptied);
        self.dead = 0;
        self.look();
    }

    /// Forgets all keys and keeps the memory. The table has no entry any more.
    pub(super) fn clear(&mut self) {
        // Keeps the largest chunk: after the first epochs one chunk holds what an epoch needs.
        self.bytes.get().reset();
        (self.live, self.dead) = (0, 0);
        self.look();
    }

    /// As [`clear`](Self::clear), and gives memory back if the keys took less than a sixteenth of it.
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

    /// Bytes of keys that were removed and are still held.
    pub(super) fn dead(&self) -> usize {
        self.dead
    }

    /// Bytes held of the allocator.
    pub(super) fn held(&self) -> usize {
        self.held
    }
}
