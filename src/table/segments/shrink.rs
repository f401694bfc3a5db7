//! Removing entries, and segments with them.
//!
//! Promise: a segment that became nearly empty is joined with the one it was split from. So after a
//! burst there remain at most some sixteen places an entry, and one segment. To remove and join
//! takes the memory of one segment at most, besides the present one. Must not know: why entries are
//! removed.

use hashbrown::HashTable;

use super::{SEGMENT_KEYS_MAX, Segment, SegmentedTable};
use crate::limits::SEGMENT_BUCKETS;

/// After a removal, a segment with fewer entries than this looks for a neighbour to join.
const SEGMENT_KEYS_FEW: usize = SEGMENT_KEYS_MAX / 8;

/// The most entries of a joined segment: far from where it would be split again.
const SEGMENT_KEYS_JOINED: usize = SEGMENT_KEYS_MAX / 4;

/// The most entries of a segment joined after thinning: half a segment has to come before it is
/// split again.
const SEGMENT_KEYS_THINNED: usize = SEGMENT_KEYS_MAX / 2;

/// What [`SegmentedTable::update`] found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::table) enum Updated {
    Absent,
    Kept,
    Removed,
}

impl<T> SegmentedTable<T> {
    /// Calls `change` with the entry that has this hash and for which `is_it` holds, and removes it
    /// if `change` returns `false`.
    #[inline(always)]
    pub(in crate::table) fn update(
        &mut self,
        hash: u64,
        is_it: impl Fn(&T) -> bool,
        hasher: impl Fn(&T) -> u64,
        change: impl FnOnce(&mut T) -> bool,
    ) -> Updated {
        let segment = self.segment_mut(hash);
        let Ok(mut found) = segment.table.find_entry(hash, is_it) else {
            return Updated::Absent;
        };
        if change(found.get_mut()) {
            return Updated::Kept;
        }
        found.remove();
        if segment.depth > 0 && segment.table.len() < SEGMENT_KEYS_FEW {
            self.join(hash, hasher);
        }
        Updated::Removed
    }

    /// Joins the segment of `hash` with the one it was split from, as long as both hold little.
    #[cold]
    fn join(&mut self, hash: u64, hasher: impl Fn(&T) -> u64) {
        loop {
            let place = self.place(hash);
            let at = self.directory[place];
            let depth = self.segments[at as usize].depth;
            let len = self.segments[at as usize].table.len();
            if depth == 0 {
                return;
            }
            let span = 1 << (self.depth - depth);
            let first = place / (2 * span) * 2 * span;
            let other = self.directory[(place / span * span) ^ span];
            let sibling = &self.segments[other as usize];
            if sibling.depth != depth || sibling.table.len() + len > SEGMENT_KEYS_JOINED {
                return;
            }
            self.spare = self.absorb(at, other, &hasher);
            self.table_bytes = self.measured();
            self.directory[first..first + 2 * span].fill(at);
            // The last segment takes the number that became free.
            let last = (self.segments.len() - 1) as u32;
            self.segments.swap_remove(other as usize);
            for number in &mut self.directory {
                if *number == last {
                    *number = other;
                }
            }
            self.shrink_directory();
        }
    }

    /// Removes the entries for which `keep` returns `false`, and then the segments that are not
    /// needed, if most are not.
    pub(in crate::table) fn retain(
        &mut self,
        hasher: impl Fn(&T) -> u64,
        mut keep: impl FnMut(&mut T) -> bool,
    ) {
        for segment in &mut self.segments {
            segment.table.retain(&mut keep);
        }
        if self.is_sparse() {
            self.rebuild(|entry| hasher(entry), &hasher);
        }
    }

    /// Returns `true` if entries take less than a sixteenth of the places of several segments.
    fn is_sparse(&self) -> bool {
        self.segments.len() > 1 && self.len() * 16 < self.segments.len() * SEGMENT_BUCKETS
    }

    /// Removes all entries, and returns memory if there was much more than they needed.
    pub(in crate::table) fn recycle(&mut self) {
        if self.is_sparse() {
            let growths = self.growths;
            *self = SegmentedTable::with_capacity(self.initial);
            self.growths = growths;
        }
        self.clear();
    }

    /// Removes the entries for which `keep` returns `false`, and joins segments that together hold
    /// at most half of what one could. The places of removed entries are free afterwards, which
    /// `retain` does not promise.
    ///
    /// It needs the memory of one more segment, and returns it.
    #[cold]
    pub(in crate::table) fn thin(
        &mut self,
        hasher: impl Fn(&T) -> u64,
        mut keep: impl FnMut(&mut T) -> bool,
    ) {
        let mut spare = std::mem::take(&mut self.spare);
        for segment in &mut self.segments {
            let buckets = segment.table.num_buckets();
            if spare.num_buckets() != buckets {
                spare = HashTable::with_capacity(buckets / 8 * 7);
            }
            let mut thinned = Segment::new(spare, segment.depth);
            for mut entry in segment.table.drain() {
                if keep(&mut entry) {
                    thinned.insert(hasher(&entry), entry, &hasher);
                }
            }
            spare = std::mem::replace(segment, thinned).table;
        }
        drop(spare);
        self.join_all(hasher);
        self.table_bytes = self.measured();
    }

    /// About one of `every` entries, a share of each segment.
    pub(in crate::table) fn sample(&self, every: usize) -> impl Iterator<Item = &T> {
        let share = move |segment: &Segment<T>| segment.table.len().div_ceil(every);
        let segments = self.segments.iter();
        segments.flat_map(move |segment| segment.table.iter().take(share(segment)))
    }

    /// Joins all pairs of segments that together hold little, from the deepest upwards.
    fn join_all(&mut self, hasher: impl Fn(&T) -> u64) {
        for depth in (1..=self.depth).rev() {
            let span = 1usize << (self.depth - depth);
            for first in (0..self.directory.len()).step_by(2 * span) {
                let (at, other) = (self.directory[first], self.directory[first + span]);
                let [segment, sibling] = [at, other].map(|number| &self.segments[number as usize]);
                let is_pair = at != other && segment.depth == depth && sibling.depth == depth;
                if !is_pair || segment.table.len() + sibling.table.len() > SEGMENT_KEYS_THINNED {
                    continue;
                }
                self.absorb(at, other, &hasher);
                self.directory[first..first + 2 * span].fill(at);
            }
        }
        // The numbers that are not shown any more are dropped, and the others move up.
        let mut numbers = vec![u32::MAX; self.segments.len()];
        for &number in &self.directory {
            numbers[number as usize] = 0;
        }
        let shown = numbers.iter_mut().filter(|number| **number == 0);
        for (next, number) in (0..).zip(shown) {
            *number = next;
        }
        let mut shown = numbers.iter().map(|number| *number != u32::MAX);
        self.segments.retain(|_| shown.next() == Some(true));
        for number in &mut self.directory {
            *number = numbers[*number as usize];
        }
        self.shrink_directory();
    }

    /// Moves the entries of segment `other` into segment `at`, and returns the emptied table.
    fn absorb(&mut self, at: u32, other: u32, hasher: impl Fn(&T) -> u64) -> HashTable<T> {
        let mut emptied = std::mem::take(&mut self.segments[other as usize].table);
        let segment = &mut self.segments[at as usize];
        segment.depth -= 1;
        for entry in emptied.drain() {
            segment.insert(hasher(&entry), entry, &hasher);
        }
        emptied
    }

    /// Halves the directory as long as no segment needs all of its bits.
    fn shrink_directory(&mut self) {
        while self.depth > 0 && self.segments.iter().all(|it| it.depth < self.depth) {
            self.directory = self.directory.iter().copied().step_by(2).collect();
            self.depth -= 1;
        }
    }
}
