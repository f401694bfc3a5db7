//! Memory that tables share, besides what each has for itself.
//!
//! Promise: all leases together hold at most what the pool began with. A lease returns all it took
//! when it is dropped. Must not know: what a table does with the memory.
//!
//! What is taken for a table's keys has to last for all that becomes of them: their places in the
//! table, in the table that all shards' are merged into, and their rows in a ranking. So a table
//! takes memory for places and, for each key it takes in, what the key needs later. A table whose
//! keys have come into another one hands that over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Memory that tables share.
#[derive(Debug)]
pub(crate) struct Pool {
    bytes: usize,
    free: AtomicUsize,
}

impl Pool {
    /// A pool of `bytes`.
    pub(crate) fn new(bytes: usize) -> Self {
        Pool {
            bytes,
            free: AtomicUsize::new(bytes),
        }
    }

    /// Takes `bytes` if at least `left` remain.
    fn take(&self, bytes: usize, left: usize) -> bool {
        let less = |free: usize| free.checked_sub(bytes).filter(|&rest| rest >= left);
        // Relaxed: a sum. No other data depends on it.
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        self.free.fetch_update(set, get, less).is_ok()
    }

    fn put_back(&self, bytes: usize) {
        self.free.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that are free.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }

    /// Bytes it began with.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What one table has taken of a pool.
#[derive(Debug)]
pub(super) struct Lease {
    pool: Option<Arc<Pool>>,
    /// Bytes the table may hold beyond its own share.
    bytes: usize,
    /// Bytes taken of the pool, for that and for keys that came into the table.
    taken: usize,
}

impl Lease {
    /// A lease of nothing so far.
    pub(super) fn new(pool: Option<Arc<Pool>>) -> Self {
        Lease {
            pool,
            bytes: 0,
            taken: 0,
        }
    }

    /// Bytes the table may hold beyond its own share.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lets the table hold `more` bytes. Returns `true` if the pool had them.
    pub(super) fn extend(&mut self, more: usize) -> bool {
        let is_taken = self.charge(more);
        self.bytes += if is_taken { more } else { 0 };
        is_taken
    }

    /// Takes `bytes` for what the table's keys need later. Returns `true` if the pool had them.
    pub(super) fn charge(&mut self, bytes: usize) -> bool {
        let is_taken = self.pool.as_ref().is_some_and(|pool| pool.take(bytes, 0));
        self.taken += if is_taken { bytes } else { 0 };
        is_taken
    }

    /// Takes over what was taken for the keys of another table, except for their places there.
    pub(super) fn absorb(&mut self, other: &mut Lease) {
        let taken = other.taken.saturating_sub(other.bytes);
        other.taken -= taken;
        self.taken += taken;
    }

    /// Returns what an empty table does not need that holds `beyond` bytes beyond its own share.
    /// Returns `true` if it may keep these bytes, which it may not while the pool is short.
    pub(super) fn settle(&mut self, beyond: usize) -> bool {
        let Some(pool) = &self.pool else {
            return beyond == 0;
        };
        let is_plenty = match beyond.checked_sub(self.taken) {
            Some(more) => pool.take(more, pool.bytes / 2),
            None => {
                pool.put_back(self.taken - beyond);
                self.taken = beyond;
                pool.take(0, pool.bytes / 2)
            }
        };
        if is_plenty || beyond <= self.taken {
            (self.bytes, self.taken) = (beyond, beyond);
        }
        is_plenty || beyond == 0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.put_back(self.taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back_whatever_becomes_of_it() {
        let pool = Arc::new(Pool::new(1000));
        let lease = || Lease::new(Some(Arc::clone(&pool)));
        let (mut one, mut two) = (lease(), lease());
        assert!(one.extend(100) && one.charge(300) && two.extend(50) && two.charge(150));
        assert_eq!((pool.free(), one.bytes(), two.bytes()), (400, 100, 50));
        assert!(!two.extend(401) && !two.charge(401));
        // What two's keys need later has come to one; two keeps its places.
        one.absorb(&mut two);
        assert!(!two.settle(60), "the pool is short, and others may want it");
        drop(two);
        assert_eq!(pool.free(), 450);
        assert!(one.settle(480), "half of it is free then");
        assert_eq!((pool.free(), one.bytes()), (520, 480));
        assert!(one.settle(490) && one.bytes() == 490);
        assert!(!one.settle(510));
        assert!(one.settle(0));
        assert_eq!(pool.free(), 1000);
        drop(one);
        assert_eq!(pool.free(), 1000);
        assert!(!Lease::new(None).extend(1));
    }
}
