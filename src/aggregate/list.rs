//! Sorted words in a slab: what sketches are made of.
//!
//! Promise: a list grows and shrinks by halves, so it takes at most twice what it holds when it
//! grows, and four times when it shrinks. Must not know: tables, what the words mean.

use std::io::{self, Read, Write};

use super::slab::{BlockNumber, Slab, SlabFull};
use crate::save::{Saved, invalid};

/// Words of the smallest list.
const WORDS_MIN: usize = 4;

/// A list of words in a slab, sorted by whoever fills it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WordList {
    block: Option<BlockNumber>,
    len: u32,
}

impl WordList {
    #[inline]
    pub(super) fn words(self, slab: &Slab) -> &[u64] {
        match self.block {
            Some(block) => &slab.words(block)[..self.len as usize],
            None => &[],
        }
    }

    #[inline]
    pub(super) fn words_mut(self, slab: &mut Slab) -> &mut [u64] {
        match self.block {
            Some(block) => &mut slab.words_mut(block)[..self.len as usize],
            None => &mut [],
        }
    }

    #[inline]
    fn capacity(self) -> usize {
        self.block.map_or(0, BlockNumber::words)
    }

    /// Makes room for one more word.
    ///
    /// # Errors
    ///
    /// The slab is full, and nothing has changed.
    #[inline]
    pub(super) fn reserve(&mut self, slab: &mut Slab) -> Result<(), SlabFull> {
        if (self.len as usize) < self.capacity() {
            return Ok(());
        }
        self.grow(slab)
    }

    #[cold]
    fn grow(&mut self, slab: &mut Slab) -> Result<(), SlabFull> {
        let words = (2 * self.capacity()).max(WORDS_MIN);
        slab.has_room(words)?;
        self.move_to(words, slab);
        Ok(())
    }

    /// Moves the list to a block of `words` words.
    fn move_to(&mut self, words: usize, slab: &mut Slab) {
        let new = slab.allocate(words);
        if let Some(old) = self.block {
            // One word after the other: both blocks are in the slab.
            for at in 0..self.len as usize {
                slab.words_mut(new)[at] = slab.words(old)[at];
            }
            slab.free(old);
        }
        self.block = Some(new);
    }

    /// Inserts a word. Takes memory beyond the limit unless [`reserve`](Self::reserve) was called.
    pub(super) fn insert(&mut self, at: usize, word: u64, slab: &mut Slab) {
        if self.len as usize == self.capacity() {
            self.move_to((2 * self.capacity()).max(WORDS_MIN), slab);
        }
        self.len += 1;
        let words = self.words_mut(slab);
        words.copy_within(at..words.len() - 1, at + 1);
        words[at] = word;
    }

    /// Adds the words of `from` that are not in the list yet: both are sorted by `key`, which no
    /// two words of a list share. Words with the same key become `join` of both.
    pub(super) fn merge(
        &mut self,
        slab: &mut Slab,
        from: &[u64],
        key: impl Fn(u64) -> u64,
        join: impl Fn(u64, u64) -> u64,
    ) {
        // First those that are there already, from behind, so that each word is looked at once.
        let (mut missing, mut at) = (0, self.len as usize);
        let words = self.words_mut(slab);
        for &word in from.iter().rev() {
            while at > 0 && key(words[at - 1]) > key(word) {
                at -= 1;
            }
            match words[..at].last_mut() {
                Some(here) if key(*here) == key(word) => *here = join(*here, word),
                _ => missing += 1,
            }
        }
        if missing == 0 {
            return;
        }
        let (mut at, mut to) = (self.len as usize, self.len as usize + missing);
        if to > self.capacity() {
            self.move_to(to.max(WORDS_MIN), slab);
        }
        self.len = to as u32;
        // Then the others: from behind, so that nothing is moved twice.
        let words = self.words_mut(slab);
        for &word in from.iter().rev() {
            while at > 0 && key(words[at - 1]) > key(word) {
                (at, to) = (at - 1, to - 1);
                words[to] = words[at];
            }
            if at == 0 || key(words[at - 1]) != key(word) {
                to -= 1;
                words[to] = word;
            }
        }
    }

    /// Keeps the words for which `update` returns what they become.
    pub(super) fn update(&mut self, slab: &mut Slab, mut update: impl FnMut(u64) -> Option<u64>) {
        let words = self.words_mut(slab);
        let mut kept = 0;
        for at in 0..words.len() {
            if let Some(word) = update(words[at]) {
                words[kept] = word;
                kept += 1;
            }
        }
        self.len = kept as u32;
        if kept == 0 {
            self.free(slab);
        } else if kept < self.capacity() / 4 {
            self.move_to(2 * kept, slab);
        }
    }

    /// Writes the words.
    pub(super) fn save(self, slab: &Slab, to: &mut dyn Write) -> io::Result<()> {
        let words = self.words(slab);
        (words.len() as u64).save(to)?;
        u64::save_items(words, to)
    }

    /// Reads words that [`save`](Self::save) wrote, if `are_valid` returns `true` for them.
    pub(super) fn load(
        slab: &mut Slab,
        from: &mut dyn Read,
        are_valid: impl FnOnce(&[u64]) -> bool,
    ) -> io::Result<WordList> {
        let words = <Vec<u64>>::load(from)?;
        if !are_valid(&words) {
            return Err(invalid("a state of an aggregate is none"));
        }
        let mut list = WordList::default();
        if !words.is_empty() {
            list.move_to(words.len().max(WORDS_MIN), slab);
            list.len = words.len() as u32;
            list.words_mut(slab).copy_from_slice(&words);
        }
        Ok(list)
    }

    /// Empties the list and frees its memory.
    pub(super) fn free(&mut self, slab: &mut Slab) {
        if let Some(block) = self.block.take() {
            slab.free(block);
        }
        self.len = 0;
    }

    /// Replaces the list by one of `words` words, all zero.
    pub(super) fn replace_by_zeros(&mut self, words: usize, slab: &mut Slab) {
        self.free(slab);
        let block = slab.allocate(words);
        (self.block, self.len) = (Some(block), words as u32);
        self.words_mut(slab).fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// The key is the high half of a word.
    fn key(word: u64) -> u64 {
        word >> 32
    }

    fn list_of(map: &BTreeMap<u64, u64>, slab: &mut Slab) -> WordList {
        let mut list = WordList::default();
        for (at, (key, count)) in map.iter().enumerate() {
            list.reserve(slab).unwrap();
            list.insert(at, key << 32 | count, slab);
        }
        list
    }

    fn content(list: WordList, slab: &Slab) -> Vec<(u64, u64)> {
        let words = list.words(slab).iter();
        words.map(|&word| (key(word), word & 0xffff_ffff)).collect()
    }

    proptest! {
        #[test]
        fn lists_merge_and_part_as_maps_do(
            one in proptest::collection::btree_map(0u64..60, 1u64..9, 0..40),
            two in proptest::collection::btree_map(0u64..60, 1u64..9, 0..40),
        ) {
            let mut slab = Slab::new();
            let mut list = list_of(&one, &mut slab);
            let other = list_of(&two, &mut slab).words(&slab).to_vec();
            list.merge(&mut slab, &other, key, |a, b| a + (b & 0xffff_ffff));
            let mut both = one.clone();
            for (key, count) in &two {
                *both.entry(*key).or_insert(0) += count;
            }
            prop_assert_eq!(content(list, &slab), both.into_iter().collect::<Vec<_>>());
            list.update(&mut slab, |word| key(word).is_multiple_of(7).then_some(word + 1));
            prop_assert!(content(list, &slab).iter().all(|(key, _)| key % 7 == 0));
            prop_assert!(list.capacity() <= (4 * list.len as usize).max(WORDS_MIN));
            list.update(&mut slab, |_| None);
            prop_assert_eq!((list.block, list.len), (None, 0));
        }
    }
}
