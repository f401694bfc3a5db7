//! A hash table that grows in small steps.
//!
//! Promise: what was inserted is found; no insertion moves more than `LEAF_KEYS_MAX` entries, however many
//! there are, while hashes are good. Refuses to know: what an entry is; hash and equality come from the caller.
//!
//! One [`HashTable`] doubles by moving every entry at once: a tenth of a second at ten million keys, during
//! which a shard counts nothing. Here the entries lie in many small ones, the leaves, found by a directory
//! over some bits of the hash (extendible hashing, Fagin et al. 1979). A leaf that is full is split in two by
//! the next bit of the hash, in about the time it takes to count one block of text.
//!
//! ```text
//!   hash     tttttttddddddd…………………pppppppppppp     t: hashbrown's tag, d: directory, p: position in a leaf
//!   depth 2, directory   00  01  10  11
//!                         |   |    \ /
//!   leaves               #0  #2    #1              #1 has depth 1: two places of the directory show it
//! ```
//!
//! `shrink` is what happens where entries are removed.
//!
//! A leaf also fits the second-level cache, so that splitting it and merging into it is fast, and two
//! tables of one seed agree about which keys lie together.
//!
//! # Floods
//!
//! Whoever knows the seed can choose keys whose hashes agree, and every look-up would walk over all of
//! them. Two things happen then that do not happen to good hashes: an insertion has to step over many
//! full groups in a leaf that has room, or leaves are split again and again without effect. [`Leaves::insert`] tells.

mod shrink;

use hashbrown::HashTable;

pub(in crate::table) use self::shrink::Altered;

use crate::limits::{LEAF_BUCKETS, LEAF_DEPTH_MAX};
use crate::sys::prefetch::prefetch;

/// Entries of a leaf before it is split: what hashbrown holds in `LEAF_BUCKETS`.
const LEAF_KEYS_MAX: usize = LEAF_BUCKETS / 8 * 7;

/// A leaf that is full, removed entries' places included, is split if it holds this many entries; else it is
/// swept, which frees at least a quarter of its places.
const LEAF_KEYS_SPLIT: usize = LEAF_KEYS_MAX / 4 * 3;

/// A leaf may be this much deeper than all leaves are on average before that is taken for a flood. With
/// good hashes leaves differ by one or two.
const DEPTH_SLACK: u32 = 5;

/// Full groups an insertion may step over. Leaves are filled to 7/8 at most, where a group of 16 is full
/// with a chance of 0.12, and its neighbours more often than that: nine in a row are seldom, not impossible.
///
/// Keys that come in the order of another table, as in a merge, are not spread evenly while it lasts: they
/// fill a leaf from one end. So the first answer is more room, and only where that should have been
/// enough it is a flood.
const STEPS_MAX: usize = 8;

/// Positions hashbrown looks at together, on machines with 16-byte vectors. On others it is less, and
/// the steps counted here are too few, never too many.
const GROUP: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Leaves<T> {
    /// Number of the leaf for each value of the directory bits.
    directory: Vec<u32>,
    leaves: Vec<Leaf<T>>,
    /// log2 of the directory's length.
    depth: u32,
    /// An empty table from the last split, for the next one.
    spare: HashTable<T>,
    /// The most leaves there were since the last rebuild: after leaves were joined, what is left of the
    /// others may be deep without being a flood.
    leaves_most: usize,
    growths: u64,
    /// Room there was in the beginning.
    initial: usize,
    /// Bytes of all leaves' tables and the spare one.
    table_bytes: usize,
}

/// An entry has no place, and there may be no more places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// For tables without a limit.
pub(super) const UNLIMITED: usize = usize::MAX;

#[derive(Debug)]
struct Leaf<T> {
    table: HashTable<T>,
    /// How many bits of the directory all keys here have in common.
    depth: u32,
    /// What the table was when it last grew, for prefetching only: where its control bytes begin, and
    /// the number of positions less one.
    control: usize,
    mask: usize,
}

/// Whether an insertion met what good hashes do not bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Strain {
    None,
    Flood,
}

impl Strain {
    /// The worse of two.
    pub(super) fn or(self, other: Strain) -> Strain {
        if self == Strain::None { other } else { self }
    }
}

impl<T> Leaf<T> {
    fn new(table: HashTable<T>, depth: u32) -> Self {
        Leaf {
            table,
            depth,
            control: 0,
            mask: 0,
        }
    }

    /// Puts an entry into the table. Gives how many full groups stood in the way.
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

impl<T> Leaves<T> {
    /// Room for `capacity` entries.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let table = HashTable::with_capacity(capacity.min(LEAF_KEYS_MAX));
        Leaves {
            table_bytes: table.allocation_size(),
            directory: vec![0],
            leaves: vec![Leaf::new(table, 0)],
            depth: 0,
            spare: HashTable::new(),
            leaves_most: 1,
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
    fn leaf(&self, hash: u64) -> &Leaf<T> {
        &self.leaves[self.directory[self.place(hash)] as usize]
    }

    #[inline(always)]
    fn leaf_mut(&mut self, hash: u64) -> &mut Leaf<T> {
        let place = self.place(hash);
        &mut self.leaves[self.directory[place] as usize]
    }

    /// Begins to load what a look-up of `hash` will read: control bytes and the likely entry.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        let leaf = self.leaf(hash);
        let position = hash as usize & leaf.mask;
        prefetch(leaf.control.wrapping_add(position));
        prefetch(
            leaf.control
                .wrapping_sub((position + 1).wrapping_mul(size_of::<T>())),
        );
    }

    /// The entry with this hash for which `is_it` holds.
    #[inline(always)]
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<&T> {
        self.leaf(hash).table.find(hash, is_it)
    }

    /// As [`find`](Self::find), to change it.
    #[inline(always)]
    pub(super) fn find_mut(&mut self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<&mut T> {
        self.leaf_mut(hash).table.find_mut(hash, is_it)
    }

    /// Inserts an entry that is not there yet, within the bytes `allowed` gives: they are asked for where
    /// something has to grow, and bound what [`bytes`](Self::bytes) is at any time.
    #[inline]
    pub(super) fn insert(
        &mut self,
        hash: u64,
        entry: T,
        hasher: impl Fn(&T) -> u64,
        allowed: impl Fn() -> usize,
    ) -> Result<Strain, Full> {
        let mut strain = Strain::None;
        let mut leaf = self.leaf_mut(hash);
        if leaf.table.len() == leaf.table.capacity() {
            strain = self.make_room(hash, &hasher, allowed())?;
            leaf = self.leaf_mut(hash);
        }
        if leaf.insert(hash, entry, &hasher) > STEPS_MAX && !self.thin_out(hash, hasher, allowed())
        {
            strain = Strain::Flood;
        }
        Ok(strain)
    }

    /// Makes a place for an entry with this hash, if there is none.
    #[inline]
    pub(super) fn ensure(
        &mut self,
        hash: u64,
        hasher: &impl Fn(&T) -> u64,
        allowed: &impl Fn() -> usize,
    ) -> Result<Strain, Full> {
        let leaf = self.leaf_mut(hash);
        if leaf.table.len() == leaf.table.capacity() {
            return self.make_room(hash, hasher, allowed());
        }
        Ok(Strain::None)
    }

    /// Inserts an entry for which there is a place: [`ensure`](Self::ensure) was called.
    #[inline]
    pub(super) fn put(
        &mut self,
        hash: u64,
        entry: T,
        hasher: impl Fn(&T) -> u64,
        allowed: impl Fn() -> usize,
    ) -> Strain {
        let leaf = self.leaf_mut(hash);
        if leaf.insert(hash, entry, &hasher) > STEPS_MAX && !self.thin_out(hash, hasher, allowed())
        {
            return Strain::Flood;
        }
        Strain::None
    }

    /// The leaf of `hash` is full: splits it, or lets it double while it is smaller than a leaf should be.
    #[cold]
    fn make_room(
        &mut self,
        hash: u64,
        hasher: &impl Fn(&T) -> u64,
        allowed: usize,
    ) -> Result<Strain, Full> {
        loop {
            let depth_max = self.good_depth_max();
            let leaf = self.leaf_mut(hash);
            let (len, buckets, depth) = (leaf.table.len(), leaf.table.num_buckets(), leaf.depth);
            if len < leaf.table.capacity() {
                return Ok(Strain::None);
            }
            if len < LEAF_KEYS_SPLIT && buckets >= LEAF_BUCKETS {
                self.check(Self::leaf_bytes(), allowed)?;
                self.sweep(hash, hasher);
                return Ok(Strain::None);
            }
            let is_deep = depth > depth_max;
            let may_split = len >= LEAF_KEYS_SPLIT && depth < LEAF_DEPTH_MAX;
            if is_deep || !may_split {
                // It doubles: up to a leaf's size, and beyond it as the way out of a flood. The old places
                // are there until all entries have moved.
                if allowed != UNLIMITED && buckets >= LEAF_BUCKETS {
                    return Err(Full);
                }
                self.check(Self::bytes_of(2 * buckets), allowed)?;
                self.growths += 1;
                self.double(hash, hasher);
                return Ok(if is_deep { Strain::Flood } else { Strain::None });
            }
            // Two leaves, where one of them may be the spare one.
            self.check(self.bytes_to_split(), allowed)?;
            self.growths += 1;
            self.split(hash, hasher);
        }
    }

    /// Whether `more` bytes may be held beside those there are.
    fn check(&self, more: usize, allowed: usize) -> Result<(), Full> {
        match self.bytes().checked_add(more) {
            Some(bytes) if bytes <= allowed => Ok(()),
            _ => Err(Full),
        }
    }

    /// Bytes that splitting takes: two leaves, one of which may be the spare one, and lists that may have to
    /// double.
    fn bytes_to_split(&self) -> usize {
        let lists = 2 * size_of::<u32>() * self.directory.capacity()
            + 2 * size_of::<Leaf<T>>() * self.leaves.capacity();
        2 * Self::leaf_bytes() + lists
    }

    /// Twice the places for the leaf of `hash`.
    fn double(&mut self, hash: u64, hasher: &impl Fn(&T) -> u64) {
        let leaf = self.leaf_mut(hash);
        let before = leaf.table.allocation_size();
        leaf.table.reserve(1, hasher);
        let after = leaf.table.allocation_size();
        self.table_bytes = self.table_bytes - before + after;
    }

    /// The depth that no leaf exceeds while hashes are good.
    fn good_depth_max(&self) -> u32 {
        self.leaves_most.ilog2() + DEPTH_SLACK
    }

    /// Makes more places where there were too few. Gives whether that should have been needed.
    #[cold]
    fn thin_out(&mut self, hash: u64, hasher: impl Fn(&T) -> u64, allowed: usize) -> bool {
        let depth_max = self.good_depth_max();
        let leaf = self.leaf_mut(hash);
        let len = leaf.table.len();
        let is_small = leaf.table.num_buckets() < LEAF_BUCKETS;
        let may_split = leaf.depth < LEAF_DEPTH_MAX && leaf.depth <= depth_max;
        if !is_small && (len < LEAF_KEYS_MAX / 2 || !may_split) {
            return false;
        }
        if self.check(self.bytes_to_split(), allowed).is_err() {
            return true; // There would have been a way.
        }
        if is_small {
            let leaf = self.leaf_mut(hash);
            let before = leaf.table.allocation_size();
            leaf.table.reserve(LEAF_KEYS_MAX - len, hasher);
            let after = leaf.table.allocation_size();
            self.table_bytes = self.table_bytes - before + after;
        } else {
            self.split(hash, &hasher);
        }
        self.growths += 1;
        true
    }

    /// Splits the leaf of `hash` by the next bit.
    fn split(&mut self, hash: u64, hasher: &impl Fn(&T) -> u64) {
        let at = self.directory[self.place(hash)];
        let depth = self.leaves[at as usize].depth + 1;
        if depth > self.depth {
            // Each place becomes two neighbours that show the same leaf.
            self.directory = self
                .directory
                .iter()
                .flat_map(|&leaf| [leaf, leaf])
                .collect();
            self.depth += 1;
        }
        let number = u32::try_from(self.leaves.len()).expect("the depth has a limit");
        let (zeros, ones) = (self.empty_table(), HashTable::with_capacity(LEAF_KEYS_MAX));
        self.table_bytes += ones.allocation_size();
        let (mut zeros, mut ones) = (Leaf::new(zeros, depth), Leaf::new(ones, depth));
        let bit = 57 - depth;
        let old = &mut self.leaves[at as usize].table;
        for entry in old.drain() {
            let hash = hasher(&entry);
            let side = if hash >> bit & 1 == 0 {
                &mut zeros
            } else {
                &mut ones
            };
            // In the order of the old table, which is that of the new one: memory is walked forwards.
            side.insert(hash, entry, hasher);
        }
        self.spare = std::mem::replace(&mut self.leaves[at as usize], zeros).table;
        self.leaves.push(ones);
        self.leaves_most = self.leaves_most.max(self.leaves.len());
        // The places of the old leaf are neighbours; the upper half of them shows the new one.
        let span = 1 << (self.depth - depth);
        let first = (self.place(hash) / (2 * span)) * 2 * span;
        self.directory[first + span..first + 2 * span].fill(number);
    }

    /// The spare table or a new one, with the places of a leaf.
    fn empty_table(&mut self) -> HashTable<T> {
        let spare = std::mem::take(&mut self.spare);
        if spare.num_buckets() == LEAF_BUCKETS {
            return spare;
        }
        let table = HashTable::with_capacity(LEAF_KEYS_MAX);
        self.table_bytes = self.table_bytes - spare.allocation_size() + table.allocation_size();
        table
    }

    /// Bytes of a table of that many places: entries, and a control byte for each.
    pub(super) fn bytes_of(buckets: usize) -> usize {
        (buckets * size_of::<T>()).next_multiple_of(GROUP) + buckets + GROUP
    }

    /// Bytes of a leaf that does not grow any more.
    pub(super) fn leaf_bytes() -> usize {
        Self::bytes_of(LEAF_BUCKETS)
    }

    /// Bytes held of the allocator.
    pub(super) fn bytes(&self) -> usize {
        let directory = self.directory.capacity() * size_of::<u32>();
        self.table_bytes + directory + self.leaves.capacity() * size_of::<Leaf<T>>()
    }

    /// As it is kept.
    #[cfg(test)]
    pub(super) fn table_bytes(&self) -> usize {
        self.table_bytes
    }

    /// What `table_bytes` should be.
    pub(super) fn measured(&self) -> usize {
        let leaves = self.leaves.iter().map(|leaf| leaf.table.allocation_size());
        leaves.sum::<usize>() + self.spare.allocation_size()
    }

    /// Moves the entries of the leaf of `hash` into a table in which nothing was removed yet.
    #[cold]
    fn sweep(&mut self, hash: u64, hasher: &impl Fn(&T) -> u64) {
        let mut swept = Leaf::new(self.empty_table(), 0);
        let leaf = self.leaf_mut(hash);
        swept.depth = leaf.depth;
        for entry in leaf.table.drain() {
            swept.insert(hasher(&entry), entry, hasher);
        }
        self.spare = std::mem::replace(leaf, swept).table;
    }

    /// All entries, to be changed; their hashes may not.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.leaves
            .iter_mut()
            .flat_map(|leaf| leaf.table.iter_mut())
    }

    /// All entries, leaf by leaf, in each in the order of the hashes' low bits.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        // After a large batch most leaves are empty, and an iterator over one reads its first line of memory.
        let leaves = self.leaves.iter().filter(|leaf| !leaf.table.is_empty());
        leaves.flat_map(|leaf| leaf.table.iter())
    }

    /// Puts every entry where its new hash says, which `hasher` makes.
    #[cold]
    pub(super) fn rebuild(&mut self, hasher: impl Fn(&mut T) -> u64, kept: impl Fn(&T) -> u64) {
        let mut rebuilt = Leaves::with_capacity(self.len().max(self.initial));
        rebuilt.initial = self.initial;
        // Leaf by leaf, so that not all entries are there twice.
        for mut leaf in std::mem::take(&mut self.leaves) {
            for mut entry in leaf.table.drain() {
                let hash = hasher(&mut entry);
                // Should the new seed be as bad, the next insertion will tell.
                let _ = rebuilt.insert(hash, entry, &kept, || UNLIMITED);
            }
        }
        rebuilt.growths += self.growths;
        *self = rebuilt;
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.leaves.iter().map(|leaf| leaf.table.len()).sum()
    }

    /// Forgets all entries and keeps the memory.
    pub(super) fn clear(&mut self) {
        for leaf in &mut self.leaves {
            leaf.table.clear();
        }
    }

    /// Number of leaves.
    pub(super) fn leaf_count(&self) -> usize {
        self.leaves.len()
    }

    /// How often a leaf was split or grew.
    pub(super) fn growths(&self) -> u64 {
        self.growths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A good hash of a number: the middle of a product of odd constants (splitmix64's finisher).
    fn mix(number: u64) -> u64 {
        let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    fn filled(numbers: u64, hash: impl Fn(u64) -> u64) -> (Leaves<u64>, u64) {
        let mut leaves = Leaves::with_capacity(100);
        let mut floods = 0;
        for number in 0..numbers {
            let strain = leaves.insert(hash(number), number, |number| hash(*number), || UNLIMITED);
            floods += u64::from(strain == Ok(Strain::Flood));
        }
        (leaves, floods)
    }

    #[test]
    fn everything_is_found_after_many_splits_and_no_leaf_is_large() {
        let numbers = 200_000;
        let (mut leaves, floods) = filled(numbers, mix);
        assert_eq!(floods, 0, "good hashes are no flood");
        assert_eq!(leaves.len() as u64, numbers);
        assert!(leaves.leaf_count() > numbers as usize / LEAF_KEYS_MAX);
        assert!(
            leaves.growths() >= leaves.leaf_count() as u64 - 1,
            "each was split off"
        );
        for leaf in &leaves.leaves {
            assert!(leaf.table.len() <= LEAF_KEYS_MAX && leaf.table.num_buckets() <= LEAF_BUCKETS);
        }
        for number in 0..numbers {
            let found = leaves.find(mix(number), |entry| *entry == number);
            assert_eq!(found, Some(&number));
            assert_eq!(leaves.find(mix(number), |entry| *entry == numbers), None);
        }
        let mut all: Vec<u64> = leaves.iter().copied().collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..numbers));
        leaves.rebuild(|number| mix(!*number), |number| mix(!*number));
        assert_eq!(leaves.find(mix(!7), |entry| *entry == 7), Some(&7));
        assert_eq!(leaves.len() as u64, numbers);
        leaves.clear();
        assert_eq!(leaves.len(), 0);
        assert_eq!(leaves.find(mix(7), |entry| *entry == 7), None);
    }

    #[test]
    fn prefetching_looks_where_the_entry_is() {
        let (leaves, _) = filled(20_000, mix);
        let mut near = 0;
        for number in 0..20_000 {
            let (hash, leaf) = (mix(number), leaves.leaf(mix(number)));
            let entry = leaf
                .table
                .find(hash, |entry| *entry == number)
                .expect("inserted");
            let hint = leaf.control - ((hash as usize & leaf.mask) + 1) * size_of::<u64>();
            near += usize::from(hint.abs_diff(std::ptr::from_ref(entry).addr()) < 16 * 8);
        }
        // Most entries lie in the first group that is looked at. With another layout it would be none.
        assert!(near > 15_000, "{near} of 20000");
    }

    #[test]
    fn every_way_of_colliding_is_told_and_nothing_is_lost() {
        let same = |_: u64| 42;
        let same_place = |number: u64| mix(number) & !0x1fff;
        let same_leaf = |number: u64| mix(number) & !(0xff_ffff << 33);
        let ways: [&dyn Fn(u64) -> u64; 3] = [&same, &same_place, &same_leaf];
        for (way, hash) in ways.into_iter().enumerate() {
            let numbers = [2_000, 2_000, 60_000][way];
            let (leaves, floods) = filled(numbers, hash);
            assert!(floods > 0, "way {way}");
            assert_eq!(leaves.len() as u64, numbers);
            for number in (0..numbers).step_by(97) {
                assert!(
                    leaves
                        .find(hash(number), |entry| *entry == number)
                        .is_some()
                );
            }
        }
    }
}
