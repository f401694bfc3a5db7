//! Keys that wait until many others of the same part of the table are there.
//!
//! Promise: every key that was pushed comes out once, in a group or at `drain`. Must not know:
//! counts.
//!
//! In a table that outgrew the caches each look-up walks the page table and reads two cache lines
//! from far away. Keys of one group share some segments of the table, which fit the second-level
//! cache and a few dozen pages: looked up together, they bring each of those nearer once.
//!
//! It is a radix partition by the bits that also choose the segment, with a fixed number of groups.
//! The memory is bounded by `GROUPS * GROUP_KEYS`, whatever the stream. Streams without a large
//! table never touch it.

use crate::limits::{GROUP_KEYS, GROUPS_LOG2};

const GROUPS: usize = 1 << GROUPS_LOG2;

/// Keys in groups by the segments they belong to.
pub(super) struct Partitioned<K> {
    /// `GROUPS` times `GROUP_KEYS` keys; empty until the first push.
    keys: Vec<K>,
    groups: Box<[Group]>,
}

/// The waiting keys of a group: from place `first` to place `end`.
#[derive(Clone, Copy)]
struct Group {
    end: u16,
    /// Groups begin at different places, so that not all of them are full at the same time, which
    /// would be a pause. Once a group was full, it begins at 0.
    first: u16,
}

impl<K: Copy + Default> Partitioned<K> {
    /// Empty groups. The memory for keys comes with the first push.
    pub(super) fn new() -> Self {
        Partitioned {
            keys: Vec::new(),
            groups: (0..GROUPS).map(Group::staggered).collect(),
        }
    }

    /// Adds keys, and calls `full` with each group that becomes full.
    #[inline]
    pub(super) fn push(&mut self, keys: &[K], hash: impl Fn(K) -> u64, mut full: impl FnMut(&[K])) {
        if self.keys.is_empty() {
            self.keys = vec![K::default(); GROUPS * GROUP_KEYS];
        }
        for &key in keys {
            // The top seven bits are the tag: they do not choose a segment.
            let group = (hash(key) << 7 >> (64 - GROUPS_LOG2)) as usize;
            let waiting = &mut self.keys[group * GROUP_KEYS..][..GROUP_KEYS];
            let Group { end, first } = &mut self.groups[group];
            waiting[usize::from(*end)] = key;
            *end += 1;
            if usize::from(*end) == GROUP_KEYS {
                full(&waiting[usize::from(*first)..]);
                (*end, *first) = (0, 0);
            }
        }
    }

    /// Calls `each` with all waiting keys, group by group.
    pub(super) fn drain(&mut self, mut each: impl FnMut(&[K])) {
        let waiting = self.keys.chunks(GROUP_KEYS);
        for ((number, group), waiting) in self.groups.iter_mut().enumerate().zip(waiting) {
            each(&waiting[usize::from(group.first)..usize::from(group.end)]);
            *group = Group::staggered(number);
        }
    }
}

impl Group {
    /// The empty group with this number.
    fn staggered(number: usize) -> Group {
        let first = (number * GROUP_KEYS / GROUPS) as u16;
        Group { end: first, first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_comes_out_once() {
        let mut partitioned = Partitioned::new();
        let mut out = Vec::new();
        let hash = |key: u64| key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let keys: Vec<u64> = (0..3_000_000).map(|n| n % 1_700_000).collect();
        for some in keys.chunks(1000) {
            partitioned.push(some, hash, |group| {
                assert!((1..=GROUP_KEYS).contains(&group.len()));
                out.extend_from_slice(group);
            });
        }
        assert!(
            !out.is_empty() && out.len() < keys.len(),
            "some waited, not all"
        );
        partitioned.drain(|group| out.extend_from_slice(group));
        partitioned.drain(|group| assert!(group.is_empty()));
        let mut keys = keys;
        keys.sort_unstable();
        out.sort_unstable();
        assert!(keys == out);
    }
}
