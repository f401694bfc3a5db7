//! Keys that wait until many others of the same corner of the table are there.
//!
//! Promise: every key that was pushed comes out once, in a group or at `drain`. Refuses to know: counts.
//!
//! In a table that outgrew the caches each look-up is a walk through the page table and two cache lines
//! from far away. Keys of one group share some leaves of the table, which fit the second-level cache and
//! a few dozen pages: looked up together they bring each of those nearer once.
//!
//! It is a radix partition by the bits that also choose the leaf, with a fixed number of groups: the memory
//! is bounded by `GROUPS * GROUP_KEYS`, whatever the stream. Streams without a large table never touch it.

/// Groups. With ten million keys, which is two thousand leaves, a group's leaves are 540 KB.
const GROUPS: usize = 1 << GROUPS_LOG2;
const GROUPS_LOG2: u32 = 9;

/// Keys of a group that wait: 16 KiB of the shortest ones. More make the walk through a group's leaves
/// pay better, but come out all at once, and a batch is late by them: `PERF.md` has the figures.
const GROUP_KEYS: usize = 2048;

/// See the module.
pub(super) struct Deferred<K> {
    /// `GROUPS` times `GROUP_KEYS` keys; empty until the first push.
    keys: Vec<K>,
    /// Waiting keys of each group, fewer than `GROUP_KEYS`.
    lens: Box<[u16]>,
}

impl<K: Copy + Default> Deferred<K> {
    /// Without memory for keys, which comes with the first push.
    pub(super) fn new() -> Self {
        Deferred {
            keys: Vec::new(),
            lens: vec![0; GROUPS].into_boxed_slice(),
        }
    }

    /// Takes keys in, and gives each group that is full to `full`.
    #[inline]
    pub(super) fn push(&mut self, keys: &[K], hash: impl Fn(K) -> u64, mut full: impl FnMut(&[K])) {
        if self.keys.is_empty() {
            self.keys = vec![K::default(); GROUPS * GROUP_KEYS];
        }
        for &key in keys {
            // The seven bits above are the tag: they do not choose a leaf.
            let group = (hash(key) << 7 >> (64 - GROUPS_LOG2)) as usize;
            let len = &mut self.lens[group];
            let waiting = &mut self.keys[group * GROUP_KEYS..][..GROUP_KEYS];
            waiting[usize::from(*len)] = key;
            *len += 1;
            if usize::from(*len) == GROUP_KEYS {
                *len = 0;
                full(waiting);
            }
        }
    }

    /// Gives all keys that wait to `each`, group by group.
    pub(super) fn drain(&mut self, mut each: impl FnMut(&[K])) {
        for (len, waiting) in self.lens.iter_mut().zip(self.keys.chunks(GROUP_KEYS)) {
            each(&waiting[..usize::from(*len)]);
            *len = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_comes_out_once() {
        let mut deferred = Deferred::new();
        let mut out = Vec::new();
        let hash = |key: u64| key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let keys: Vec<u64> = (0..3_000_000).map(|n| n % 1_700_000).collect();
        for some in keys.chunks(1000) {
            deferred.push(some, hash, |group| {
                assert_eq!(group.len(), GROUP_KEYS);
                out.extend_from_slice(group);
            });
        }
        assert!(
            !out.is_empty() && out.len() < keys.len(),
            "some waited, not all"
        );
        deferred.drain(|group| out.extend_from_slice(group));
        deferred.drain(|group| assert!(group.is_empty()));
        let mut keys = keys;
        keys.sort_unstable();
        out.sort_unstable();
        assert!(keys == out);
    }
}
