//! How many records a full table refused of each key, at most.
//!
//! Promise: [`Refused::of`] is never less than the records of the key that were added, to this
//! filter and to all that were merged into it. It is 0 for most keys while few were refused. Must
//! not know: why a key was refused.
//!
//! It is a count-min sketch (Cormode and Muthukrishnan 2005) of two rows. A key has a counter in
//! each, which it shares with others, and the smaller of the two is the bound. With a million
//! refused keys of one record each, a key that was not refused gets a bound of about sixty; with a
//! few hundred, nearly always 0.

use super::KeyTable;
use super::keys::{PackedKey, Seed, pack};

/// log2 of the counters of a row.
const ROW_LOG2: u32 = 14;

const ROW: usize = 1 << ROW_LOG2;

/// Bytes of both rows. In a closed table they take the room that was reserved for growing.
pub(super) const REFUSED_BYTES: usize = 2 * ROW * size_of::<u64>();

/// A filter of refused keys.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    /// Two rows, one behind the other.
    counters: Box<[u64]>,
    seed: Seed,
    /// The largest counter of each row: no key's bound is larger than the smaller of the two.
    most: [u64; 2],
    /// Whether a key of the table may have been refused by another table before the two were
    /// merged.
    pub(super) is_mixed: bool,
}

impl Refused {
    /// An empty filter of keys hashed with `seed`.
    pub(super) fn new(seed: Seed) -> Self {
        Refused {
            counters: vec![0; 2 * ROW].into(),
            seed,
            most: [0; 2],
            is_mixed: false,
        }
    }

    /// Empties the filter. Keys are hashed with `seed` from now on.
    pub(super) fn clear(&mut self, seed: Seed) {
        if !self.is_empty() {
            self.counters.fill(0);
        }
        (self.seed, self.most, self.is_mixed) = (seed, [0; 2], false);
    }

    /// Returns `true` if nothing was refused.
    pub(super) fn is_empty(&self) -> bool {
        self.most() == 0
    }

    fn places(&self, key: PackedKey<'_>) -> [usize; 2] {
        let hash = self.seed.hash(key);
        let place = |bits: u64| bits as usize & (ROW - 1);
        [place(hash), ROW + place(hash >> 32)]
    }

    /// Adds refused `records` of `key`.
    pub(super) fn add(&mut self, key: PackedKey<'_>, records: u64) {
        for (place, most) in self.places(key).into_iter().zip(&mut self.most) {
            let counter = &mut self.counters[place];
            *counter = counter.saturating_add(records);
            *most = (*most).max(*counter);
        }
    }

    /// An upper bound of the refused records of `key`.
    pub(super) fn of(&self, key: PackedKey<'_>) -> u64 {
        let [first, second] = self.places(key);
        self.counters[first].min(self.counters[second])
    }

    /// An upper bound of the refused records of any key.
    pub(super) fn most(&self) -> u64 {
        self.most[0].min(self.most[1])
    }

    /// Adds the content of another filter. Returns `false`, and does nothing, if its keys are
    /// hashed differently.
    pub(super) fn absorb(&mut self, other: &Refused) -> bool {
        if self.seed != other.seed {
            return false;
        }
        for (counter, more) in self.counters.iter_mut().zip(&other.counters) {
            *counter = counter.saturating_add(*more);
        }
        let most = |row: &[u64]| row.iter().copied().max().unwrap_or(0);
        let (first, second) = self.counters.split_at(ROW);
        self.most = [most(first), most(second)];
        true
    }
}

impl<V: Copy> KeyTable<V> {
    /// An upper bound of the records of `key` that are missing in its value; all of them if there
    /// is no value.
    pub(crate) fn missing_max(&self, key: &[u8]) -> u64 {
        let refused = match &self.limit.refused {
            Some(refused) if refused.is_mixed || self.get_kept(key).is_none() => {
                refused.of(pack(&[], key))
            }
            // A table that nothing was merged into has never refused a key that it has.
            _ => 0,
        };
        self.limit.overflow.missing.saturating_add(refused)
    }

    /// An upper bound of the records that are missing in the value of any key of the table.
    pub(crate) fn missing_most(&self) -> u64 {
        let is_any = |refused: &Refused| refused.is_mixed && !refused.is_empty();
        let refused = match &self.limit.refused {
            Some(refused) if is_any(refused) => {
                let keys = self.iter_kept().map(|(key, _)| pack(&[], key));
                keys.map(|key| refused.of(key)).max().unwrap_or(0)
            }
            _ => 0,
        };
        self.limit.overflow.missing.saturating_add(refused)
    }

    /// Sets how many records are in the values of all keys and in the overflow together.
    pub(crate) fn set_records(&mut self, records: u64) {
        self.limit.records = records;
    }

    /// The most records that one value may stand for, if the values do not say it.
    pub(super) fn records_per_value(&self) -> u64 {
        match self.limit.rules.are_counts {
            true => 0,
            false => self.limit.records.saturating_sub(self.len() as u64) + 1,
        }
    }

    /// Adds the overflow of another table whose keys came into this one; this one `was_empty`
    /// before.
    pub(super) fn add_overflow<W: Copy>(&mut self, other: &KeyTable<W>, was_empty: bool) {
        // A table without keys may have refused one that the other has.
        let has_refused =
            |refused: &Option<Refused>| refused.as_ref().is_some_and(|it| !it.is_empty());
        let is_mixed = (!was_empty || has_refused(&self.limit.refused))
            && (!other.is_empty() || has_refused(&other.limit.refused));
        let overflow = match (&mut self.limit.refused, &other.limit.refused) {
            (_, None) => other.limit.overflow,
            (Some(ours), Some(theirs)) if !ours.is_empty() => {
                ours.is_mixed = true;
                if ours.absorb(theirs) {
                    other.limit.overflow
                } else {
                    other.overflow()
                }
            }
            (ours, Some(theirs)) => {
                if !theirs.is_empty() {
                    *ours = Some(theirs.clone());
                }
                other.limit.overflow
            }
        };
        self.limit.overflow = self.limit.overflow.plus(overflow);
        if let Some(refused) = &mut self.limit.refused {
            refused.is_mixed |= is_mixed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_has_more_than_its_bound_and_few_refused_keys_leave_others_exact() {
        let seed = Seed::chosen(Some(1));
        let (mut one, mut two) = (Refused::new(seed), Refused::new(seed));
        let key = |number: u64| format!("{number}{}", "-".repeat(number as usize % 30));
        for number in 0..300 {
            let refused = if number % 2 == 0 { &mut one } else { &mut two };
            refused.add(pack(&[], key(number).as_bytes()), number);
            refused.add(pack(&[], b"often"), 7);
        }
        assert!(one.absorb(&two));
        assert!(one.of(pack(&[], b"often")) >= 2100);
        for number in 0..300 {
            assert!((number..=one.most()).contains(&one.of(pack(&[], key(number).as_bytes()))));
        }
        let exact = (1000..2000).filter(|&number| one.of(pack(&[], key(number).as_bytes())) == 0);
        assert!(exact.count() > 990);
        assert!(!one.absorb(&Refused::new(Seed::from_words(4, 5, 6))));
        one.clear(seed);
        assert!(one.is_empty() && one.of(pack(&[], b"often")) == 0);
    }
}
