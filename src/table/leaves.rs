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
//! Where entries are removed, a leaf that became nearly empty is joined with the one it was split from, so
//! that after a burst no more places remain than some sixteen an entry, and one leaf.
//!
//! A leaf also fits the second-level cache, so that splitting it and merging into it is fast, and two
//! tables of one seed agree about which keys lie together.
//!
//! # Floods
//!
//! Whoever knows the seed can choose keys whose hashes agree, and every look-up would walk over all of
//! them. Two things happen then that do not happen to good hashes: an insertion has to step over many
//! full groups in a leaf that has room, or leaves are split again and again without effect. [`Leaves::insert`] tells.

use hashbrown::HashTable;

use crate::limits::{LEAF_BUCKETS, LEAF_DEPTH_MAX};
use crate::sys::prefetch::prefetch;

/// Entries of a leaf before it is split: what hashbrown holds in `LEAF_BUCKETS`.
const LEAF_KEYS_MAX: usize = LEAF_BUCKETS / 8 * 7;

/// A leaf that is full, removed entries' places included, is split if it holds this many entries; else it is
/// swept, which frees at least a quarter of its places.
const LEAF_KEYS_SPLIT: usize = LEAF_KEYS_MAX / 4 * 3;

/// A leaf with fewer entries than this looks for a neighbour to join, after an entry was removed.
const LEAF_KEYS_FEW: usize = LEAF_KEYS_MAX / 8;

/// Entries of a joined leaf, at most: far from where it would be split again.
const LEAF_KEYS_JOINED: usize = LEAF_KEYS_MAX / 4;

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
}

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

/// What [`Leaves::alter`] found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Altered {
    Absent,
    Kept,
    Removed,
}

/// Whether an insertion met what good hashes do not bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Strain {
    None,
    Flood,
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

    /// Inserts an entry that is not there yet.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, entry: T, hasher: impl Fn(&T) -> u64) -> Strain {
        let mut strain = Strain::None;
        let mut leaf = self.leaf_mut(hash);
        if leaf.table.len() == leaf.table.capacity() {
            strain = self.make_room(hash, &hasher);
            leaf = self.leaf_mut(hash);
        }
        if leaf.insert(hash, entry, &hasher) > STEPS_MAX && !self.thin_out(hash, hasher) {
            strain = Strain::Flood;
        }
        strain
    }

    /// The leaf of `hash` is full: splits it, or lets it double while it is smaller than a leaf should be.
    #[cold]
    fn make_room(&mut self, hash: u64, hasher: &impl Fn(&T) -> u64) -> Strain {
        loop {
            let depth_max = self.good_depth_max();
            let leaf = self.leaf_mut(hash);
            if leaf.table.len() < leaf.table.capacity() {
                return Strain::None;
            }
            if leaf.table.len() < LEAF_KEYS_SPLIT && leaf.table.num_buckets() >= LEAF_BUCKETS {
                self.sweep(hash, hasher);
                return Strain::None;
            }
            let is_deep = leaf.depth > depth_max;
            let may_split = leaf.table.len() >= LEAF_KEYS_SPLIT && leaf.depth < LEAF_DEPTH_MAX;
            self.growths += 1;
            if is_deep {
                // It doubles beyond a leaf's size, which is the way out of a flood.
                return Strain::Flood;
            }
            if !may_split {
                return Strain::None;
            }
            self.split(hash, hasher);
        }
    }

    /// The depth that no leaf exceeds while hashes are good.
    fn good_depth_max(&self) -> u32 {
        self.leaves_most.ilog2() + DEPTH_SLACK
    }

    /// Makes more places where there were too few. Gives whether that should have been needed.
    #[cold]
    fn thin_out(&mut self, hash: u64, hasher: impl Fn(&T) -> u64) -> bool {
        let depth_max = self.good_depth_max();
        let leaf = self.leaf_mut(hash);
        let len = leaf.table.len();
        if leaf.table.num_buckets() < LEAF_BUCKETS {
            leaf.table.reserve(LEAF_KEYS_MAX - len, hasher);
        } else if len >= LEAF_KEYS_MAX / 2 && leaf.depth < LEAF_DEPTH_MAX && leaf.depth <= depth_max
        {
            self.split(hash, &hasher);
        } else {
            return false;
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
            spare
        } else {
            HashTable::with_capacity(LEAF_KEYS_MAX)
        }
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

    /// Calls `change` with the entry that has this hash and for which `is_it` holds, and removes it if
    /// `change` says false.
    #[inline(always)]
    pub(super) fn alter(
        &mut self,
        hash: u64,
        is_it: impl Fn(&T) -> bool,
        hasher: impl Fn(&T) -> u64,
        change: impl FnOnce(&mut T) -> bool,
    ) -> Altered {
        let leaf = self.leaf_mut(hash);
        let Ok(mut found) = leaf.table.find_entry(hash, is_it) else {
            return Altered::Absent;
        };
        if change(found.get_mut()) {
            return Altered::Kept;
        }
        found.remove();
        if leaf.depth > 0 && leaf.table.len() < LEAF_KEYS_FEW {
            self.join(hash, hasher);
        }
        Altered::Removed
    }

    /// Joins the leaf of `hash` with the one it was split from, as often as both hold little.
    #[cold]
    fn join(&mut self, hash: u64, hasher: impl Fn(&T) -> u64) {
        loop {
            let place = self.place(hash);
            let at = self.directory[place];
            let depth = self.leaves[at as usize].depth;
            let len = self.leaves[at as usize].table.len();
            if depth == 0 {
                return;
            }
            let span = 1 << (self.depth - depth);
            let first = place / (2 * span) * 2 * span;
            let other = self.directory[(place / span * span) ^ span];
            let sibling = &mut self.leaves[other as usize];
            if sibling.depth != depth || sibling.table.len() + len > LEAF_KEYS_JOINED {
                return;
            }
            let mut emptied = std::mem::take(&mut sibling.table);
            let leaf = &mut self.leaves[at as usize];
            leaf.depth -= 1;
            for entry in emptied.drain() {
                leaf.insert(hasher(&entry), entry, &hasher);
            }
            self.spare = emptied;
            self.directory[first..first + 2 * span].fill(at);
            // The last leaf takes the number that became free.
            let last = (self.leaves.len() - 1) as u32;
            self.leaves.swap_remove(other as usize);
            for number in &mut self.directory {
                if *number == last {
                    *number = other;
                }
            }
            while self.depth > 0 && self.leaves.iter().all(|leaf| leaf.depth < self.depth) {
                self.directory = self.directory.iter().copied().step_by(2).collect();
                self.depth -= 1;
            }
        }
    }

    /// Removes the entries for which `keep` says false, and then the leaves that are not needed, if most are
    /// not.
    pub(super) fn retain(
        &mut self,
        hasher: impl Fn(&T) -> u64,
        mut keep: impl FnMut(&mut T) -> bool,
    ) {
        for leaf in &mut self.leaves {
            leaf.table.retain(&mut keep);
        }
        if self.is_sparse() {
            self.rebuild(|entry| hasher(entry), &hasher);
        }
    }

    /// Whether entries take less than a sixteenth of the places of several leaves.
    fn is_sparse(&self) -> bool {
        self.leaves.len() > 1 && self.len() * 16 < self.leaves.len() * LEAF_BUCKETS
    }

    /// All entries, to be changed; their hashes may not.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.leaves
            .iter_mut()
            .flat_map(|leaf| leaf.table.iter_mut())
    }

    /// Forgets all entries, and gives memory back if there was much more than they needed.
    pub(super) fn recycle(&mut self) {
        if self.is_sparse() {
            let growths = self.growths;
            *self = Leaves::with_capacity(self.initial);
            self.growths = growths;
        }
        self.clear();
    }

    /// All entries, leaf by leaf, in each in the order of the hashes' low bits.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.leaves.iter().flat_map(|leaf| leaf.table.iter())
    }

    /// Puts every entry where its new hash says, which `hasher` makes.
    #[cold]
    pub(super) fn rebuild(&mut self, hasher: impl Fn(&mut T) -> u64, kept: impl Fn(&T) -> u64) {
        let mut rebuilt = Leaves::with_capacity(self.len().max(self.initial));
        rebuilt.initial = self.initial;
        for leaf in &mut self.leaves {
            for mut entry in leaf.table.drain() {
                let hash = hasher(&mut entry);
                // Should the new seed be as bad, the next insertion will tell.
                let _ = rebuilt.insert(hash, entry, &kept);
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
            let strain = leaves.insert(hash(number), number, |number| hash(*number));
            floods += u64::from(strain == Strain::Flood);
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
