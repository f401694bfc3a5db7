//! A hash table that grows in small steps.
//!
//! Promise: what was inserted is found. While hashes are good, no insertion moves more than
//! `SEGMENT_KEYS_MAX` entries, however many there are. Must not know: what an entry is. Hash and
//! equality come from the caller.
//!
//! One [`HashTable`] doubles by moving every entry at once: a tenth of a second at ten million
//! keys, during which a shard counts nothing. Here the entries are in many small tables, the
//! segments, found by a directory over some bits of the hash (extendible hashing, Fagin et al.
//! 1979). A full segment is split in two by the next bit of the hash, in about the time it takes to
//! count one block of text.
//!
//! ```text
//!   hash     tttttttddddddd…………………pppppppppppp     t: hashbrown's tag, d: directory, p: position in a segment
//!   depth 2, directory   00  01  10  11
//!                         |   |    \ /
//!   segments               #0  #2    #1              #1 has depth 1: two places of the directory show it
//! ```
//!
//! `shrink` is the other direction, where entries are removed.
//!
//! A segment also fits the second-level cache, so that splitting it and merging into it are fast,
//! and two tables of one seed agree about which keys are together.
//!
//! # Floods
//!
//! Whoever knows the seed can choose keys whose hashes agree, and every look-up would walk over all
//! of them. Then two things happen that do not happen to good hashes: an insertion has to step over
//! many full groups in a segment that has room, or segments are split again and again without
//! effect. Insertions report it as a [`HashFlood`].

mod shrink;
#[cfg(test)]
mod tests;

use hashbrown::HashTable;

pub(in crate::table) use self::shrink::Updated;

use crate::limits::{SEGMENT_BUCKETS, SEGMENT_DEPTH_MAX};
use crate::sys::prefetch::prefetch;

/// Entries of a segment before it is split: what hashbrown holds in `SEGMENT_BUCKETS`.
const SEGMENT_KEYS_MAX: usize = SEGMENT_BUCKETS / 8 * 7;

/// A full segment (the places of removed entries count) is split if it holds this many entries.
/// Else it is swept, which frees at least a quarter of its places.
const SEGMENT_KEYS_SPLIT: usize = SEGMENT_KEYS_MAX / 4 * 3;

/// How much deeper than the average a segment may be before that is taken for a flood. With good
/// hashes segments differ by one or two.
const DEPTH_SLACK: u32 = 5;

/// Full groups an insertion may step over. Segments are filled to 7/8 at most, where a group of 16
/// is full with a chance of 0.12, and its neighbours more often than that: nine in a row are rare,
/// not impossible.
///
/// Keys that come in the order of another table, as in a merge, are not spread evenly while it
/// lasts: they fill a segment from one end. So the first answer is more room. It is a flood only if
/// there should have been enough.
const STEPS_MAX: usize = 8;

/// Positions that hashbrown looks at together on machines with 16-byte vectors. On others it is
/// fewer, and the steps counted here are too few, never too many.
const GROUP: usize = 16;

/// A hash table in segments.
#[derive(Debug)]
pub(super) struct SegmentedTable<T> {
    /// Number of the segment for each value of the directory bits.
    directory: Vec<u32>,
    segments: Vec<Segment<T>>,
    /// log2 of the directory's length.
    depth: u32,
    /// An empty table from the last split, for the next one.
    spare: HashTable<T>,
    /// The most segments since the last rebuild: after segments were joined, the remaining ones may
    /// be deep without a flood.
    segments_most: usize,
    growths: u64,
    /// Entries there was room for in the beginning.
    initial: usize,
    /// Bytes of all segments' tables and the spare one.
    table_bytes: usize,
}

/// An entry has no place, and no more memory may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TableFull;

/// The bytes allowed to tables without a limit.
pub(super) const UNLIMITED: usize = usize::MAX;

#[derive(Debug)]
struct Segment<T> {
    table: HashTable<T>,
    /// How many bits of the directory all keys here have in common.
    depth: u32,
    /// For prefetching only: where the table's control bytes began when it last grew.
    control: usize,
    /// For prefetching only: the number of positions less one.
    mask: usize,
}

/// Whether an insertion met what good hashes do not cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum HashFlood {
    None,
    Flood,
}

impl<T> Segment<T> {
    fn new(table: HashTable<T>, depth: u32) -> Self {
        Segment {
            table,
            depth,
            control: 0,
            mask: 0,
        }
    }

    /// Inserts an entry. Returns how many full groups it stepped over.
    fn insert(&mut self, hash: u64, entry: T, hasher: impl Fn(&T) -> u64) -> usize {
        let inserted = self.table.insert_unique(hash, entry, hasher);
        let index = inserted.bucket_index();
        let address = std::ptr::from_ref(inserted.get()).addr();
        let buckets = self.table.num_buckets();
        if buckets != self.mask + 1 || self.control == 0 {
            self.mask = buckets - 1;
            // hashbrown 0.17 keeps entry `i` at `control - (i + 1) * size`. Should that change, we
            // prefetch lines that nobody needs.
            self.control = address.wrapping_add((index + 1) * size_of::<T>());
        }
        // Triangular probing, as hashbrown does it: 16, 32, 48 … further each time.
        let (mut at, mut steps) = (hash as usize & self.mask, 0);
        while index.wrapping_sub(at) & self.mask >= GROUP && steps <= STEPS_MAX {
            steps += 1;
            at = (at + steps * GROUP) & self.mask;
        }
        steps
    }
}

impl<T> SegmentedTable<T> {
    /// An empty table with room for `capacity` entries.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let table = HashTable::with_capacity(capacity.min(SEGMENT_KEYS_MAX));
        SegmentedTable {
            table_bytes: table.allocation_size(),
            directory: vec![0],
            segments: vec![Segment::new(table, 0)],
            depth: 0,
            spare: HashTable::new(),
            segments_most: 1,
            growths: 0,
            initial: capacity,
        }
    }

    /// The directory's place for `hash`.
    #[inline(always)]
    fn place(&self, hash: u64) -> usize {
        // The top seven bits are hashbrown's tag. Two shifts, because one by 64 is not allowed.
        ((hash << 7 >> 1) >> (63 - self.depth)) as usize
    }

    #[inline(always)]
    fn segment(&self, hash: u64) -> &Segment<T> {
        &self.segments[self.directory[self.place(hash)] as usize]
    }

    #[inline(always)]
    fn segment_mut(&mut self, hash: u64) -> &mut Segment<T> {
        let place = self.place(hash);
        &mut self.segments[self.directory[place] as usize]
    }

    /// Requests the memory that a look-up of `hash` will read: control bytes and the likely entry.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        let segment = self.segment(hash);
        let position = hash as usize & segment.mask;
        prefetch(segment.control.wrapping_add(position));
        prefetch(
            segment
                .control
                .wrapping_sub((position + 1).wrapping_mul(size_of::<T>())),
        );
    }

    /// The entry with this hash for which `is_it` holds.
    #[inline(always)]
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<&T> {
        self.segment(hash).table.find(hash, is_it)
    }

    /// As [`find`](Self::find), mutably.
    #[inline(always)]
    pub(super) fn find_mut(&mut self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<&mut T> {
        self.segment_mut(hash).table.find_mut(hash, is_it)
    }

    /// Inserts a missing entry, whatever memory it takes.
    fn insert(&mut self, hash: u64, entry: T, hasher: impl Fn(&T) -> u64) -> HashFlood {
        let mut flood = HashFlood::None;
        if self.is_full(hash) {
            let made = self.make_room(hash, &hasher, UNLIMITED);
            flood = made.expect("there is no limit");
        }
        if self.put(hash, entry, &hasher) && !self.thin_out(hash, hasher, UNLIMITED) {
            flood = HashFlood::Flood;
        }
        flood
    }

    /// Returns `true` if there is no place for an entry with this hash:
    /// [`make_room`](Self::make_room) makes one.
    #[inline]
    pub(super) fn is_full(&self, hash: u64) -> bool {
        let table = &self.segment(hash).table;
        table.len() == table.capacity()
    }

    /// Inserts a missing entry for which there is a place. Returns `true` if it stepped over too
    /// many others: then [`thin_out`](Self::thin_out) is to be called.
    #[inline]
    pub(super) fn put(&mut self, hash: u64, entry: T, hasher: impl Fn(&T) -> u64) -> bool {
        self.segment_mut(hash).insert(hash, entry, hasher) > STEPS_MAX
    }

    /// Splits the segment of `hash`, which is full, or doubles it while it is smaller than a
    /// segment should be. [`bytes`](Self::bytes) is never more than `allowed` meanwhile.
    #[cold]
    pub(super) fn make_room(
        &mut self,
        hash: u64,
        hasher: &impl Fn(&T) -> u64,
        allowed: usize,
    ) -> Result<HashFlood, TableFull> {
        loop {
            let depth_max = self.good_depth_max();
            let segment = self.segment_mut(hash);
            let (len, buckets, depth) = (
                segment.table.len(),
                segment.table.num_buckets(),
                segment.depth,
            );
            if len < segment.table.capacity() {
                return Ok(HashFlood::None);
            }
            if len < SEGMENT_KEYS_SPLIT && buckets >= SEGMENT_BUCKETS {
                self.check(Self::segment_bytes(), allowed)?;
                self.sweep(hash, hasher);
                return Ok(HashFlood::None);
            }
            let is_deep = depth > depth_max;
            let may_split = len >= SEGMENT_KEYS_SPLIT && depth < SEGMENT_DEPTH_MAX;
            if is_deep || !may_split {
                // It doubles: up to a segment's size, and beyond it as the way out of a flood. The
                // old places are there until all entries have moved.
                if allowed != UNLIMITED && buckets >= SEGMENT_BUCKETS {
                    return Err(TableFull);
                }
                self.check(Self::bytes_of(2 * buckets), allowed)?;
                self.grow(hash, 1, hasher);
                return Ok(if is_deep {
                    HashFlood::Flood
                } else {
                    HashFlood::None
                });
            }
            // Two segments, where one of them may be the spare one.
            self.check(self.bytes_to_split(), allowed)?;
            self.split(hash, hasher);
        }
    }

    /// Checks that `more` bytes may be held besides the present ones.
    fn check(&self, more: usize, allowed: usize) -> Result<(), TableFull> {
        match self.bytes().checked_add(more) {
            Some(bytes) if bytes <= allowed => Ok(()),
            _ => Err(TableFull),
        }
    }

    /// Bytes that splitting takes: two segments, one of which may be the spare one, and lists that
    /// may have to double.
    fn bytes_to_split(&self) -> usize {
        let lists = 2 * size_of::<u32>() * self.directory.capacity()
            + 2 * size_of::<Segment<T>>() * self.segments.capacity();
        2 * Self::segment_bytes() + lists
    }

    /// Makes places for `more` entries in the segment of `hash`.
    fn grow(&mut self, hash: u64, more: usize, hasher: &impl Fn(&T) -> u64) {
        self.growths += 1;
        let segment = self.segment_mut(hash);
        let before = segment.table.allocation_size();
        segment.table.reserve(more, hasher);
        let after = segment.table.allocation_size();
        self.table_bytes = self.table_bytes - before + after;
    }

    /// The depth that no segment exceeds while hashes are good.
    fn good_depth_max(&self) -> u32 {
        self.segments_most.ilog2() + DEPTH_SLACK
    }

    /// Makes more places around an entry that stepped over too many others. Returns `false` if
    /// there were enough places.
    #[cold]
    pub(super) fn thin_out(
        &mut self,
        hash: u64,
        hasher: impl Fn(&T) -> u64,
        allowed: usize,
    ) -> bool {
        let depth_max = self.good_depth_max();
        let segment = self.segment_mut(hash);
        let len = segment.table.len();
        let is_small = segment.table.num_buckets() < SEGMENT_BUCKETS;
        let may_split = segment.depth < SEGMENT_DEPTH_MAX && segment.depth <= depth_max;
        if !is_small && (len < SEGMENT_KEYS_MAX / 2 || !may_split) {
            return false;
        }
        if self.check(self.bytes_to_split(), allowed).is_err() {
            return true; // There were too few places, and there is no memory for more.
        }
        if is_small {
            self.grow(hash, SEGMENT_KEYS_MAX - len, &hasher);
        } else {
            self.split(hash, &hasher);
        }
        true
    }

    /// Splits the segment of `hash` by the next bit.
    fn split(&mut self, hash: u64, hasher: &impl Fn(&T) -> u64) {
        self.growths += 1;
        let at = self.directory[self.place(hash)];
        let depth = self.segments[at as usize].depth + 1;
        if depth > self.depth {
            // Each place becomes two neighbours that show the same segment.
            self.directory = self
                .directory
                .iter()
                .flat_map(|&segment| [segment, segment])
                .collect();
            self.depth += 1;
        }
        let number = u32::try_from(self.segments.len()).expect("the depth has a limit");
        let (zeros, ones) = (
            self.empty_table(),
            HashTable::with_capacity(SEGMENT_KEYS_MAX),
        );
        self.table_bytes += ones.allocation_size();
        let (mut zeros, mut ones) = (Segment::new(zeros, depth), Segment::new(ones, depth));
        let bit = 57 - depth;
        let old = &mut self.segments[at as usize].table;
        for entry in old.drain() {
            let hash = hasher(&entry);
            let side = if hash >> bit & 1 == 0 {
                &mut zeros
            } else {
                &mut ones
            };
            // In the order of the old table, which is that of the new one: memory is walked
            // forwards.
            side.insert(hash, entry, hasher);
        }
        self.spare = std::mem::replace(&mut self.segments[at as usize], zeros).table;
        self.segments.push(ones);
        self.segments_most = self.segments_most.max(self.segments.len());
        // The places of the old segment are neighbours; their upper half shows the new one.
        let span = 1 << (self.depth - depth);
        let first = (self.place(hash) / (2 * span)) * 2 * span;
        self.directory[first + span..first + 2 * span].fill(number);
    }

    /// The spare table or a new one, with the places of a segment.
    fn empty_table(&mut self) -> HashTable<T> {
        let spare = std::mem::take(&mut self.spare);
        if spare.num_buckets() == SEGMENT_BUCKETS {
            return spare;
        }
        let table = HashTable::with_capacity(SEGMENT_KEYS_MAX);
        self.table_bytes = self.table_bytes - spare.allocation_size() + table.allocation_size();
        table
    }

    /// Bytes of a table with this many places: entries, and a control byte for each.
    pub(super) fn bytes_of(buckets: usize) -> usize {
        (buckets * size_of::<T>()).next_multiple_of(GROUP) + buckets + GROUP
    }

    /// Bytes of a segment that does not grow any more.
    pub(super) fn segment_bytes() -> usize {
        Self::bytes_of(SEGMENT_BUCKETS)
    }

    /// Bytes held of the allocator.
    pub(super) fn bytes(&self) -> usize {
        let directory = self.directory.capacity() * size_of::<u32>();
        self.table_bytes + directory + self.segments.capacity() * size_of::<Segment<T>>()
    }

    /// The number that is kept of the bytes of all tables.
    #[cfg(test)]
    pub(super) fn table_bytes(&self) -> usize {
        self.table_bytes
    }

    /// The measured bytes of all tables: what `table_bytes` should be.
    pub(super) fn measured(&self) -> usize {
        let segments = self
            .segments
            .iter()
            .map(|segment| segment.table.allocation_size());
        segments.sum::<usize>() + self.spare.allocation_size()
    }

    /// Moves the entries of the segment of `hash` into a table from which nothing was removed yet.
    #[cold]
    fn sweep(&mut self, hash: u64, hasher: &impl Fn(&T) -> u64) {
        let mut swept = Segment::new(self.empty_table(), 0);
        let segment = self.segment_mut(hash);
        swept.depth = segment.depth;
        for entry in segment.table.drain() {
            swept.insert(hasher(&entry), entry, hasher);
        }
        self.spare = std::mem::replace(segment, swept).table;
    }

    /// All entries, mutably; their hashes must not change.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.segments
            .iter_mut()
            .flat_map(|segment| segment.table.iter_mut())
    }

    /// All entries, segment by segment, and in each in the order of the hashes' low bits.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        // After a large batch most segments are empty, and an iterator over a segment reads its
        // first line of memory.
        let segments = self
            .segments
            .iter()
            .filter(|segment| !segment.table.is_empty());
        segments.flat_map(|segment| segment.table.iter())
    }

    /// Moves every entry to the place of its new hash, which `hasher` makes; `kept` is the hash of
    /// a moved entry.
    #[cold]
    pub(super) fn rebuild(&mut self, hasher: impl Fn(&mut T) -> u64, kept: impl Fn(&T) -> u64) {
        let mut rebuilt = SegmentedTable::with_capacity(self.len().max(self.initial));
        rebuilt.initial = self.initial;
        // Segment by segment, so that not all entries are there twice.
        for mut segment in std::mem::take(&mut self.segments) {
            for mut entry in segment.table.drain() {
                let hash = hasher(&mut entry);
                // Should the new seed be as bad, the next insertion reports it.
                let _ = rebuilt.insert(hash, entry, &kept);
            }
        }
        rebuilt.growths += self.growths;
        *self = rebuilt;
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.segments
            .iter()
            .map(|segment| segment.table.len())
            .sum()
    }

    /// Removes all entries and keeps the memory.
    pub(super) fn clear(&mut self) {
        for segment in &mut self.segments {
            segment.table.clear();
        }
    }

    /// Number of segments.
    pub(super) fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// How often a segment was split or has grown.
    pub(super) fn growths(&self) -> u64 {
        self.growths
    }
}
