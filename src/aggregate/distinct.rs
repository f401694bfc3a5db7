//! How many different values there are.
//!
//! Promise: exact up to 512 values, but for two with the same 64-bit hash; then a standard error of
//! 1.6 %. Equal sets of values have equal states, however they were divided and merged.
//! Must not know: keys.
//!
//! It is HyperLogLog++ (Heule, Nunkesser and Hall 2013) with a simpler beginning: up to 512 hashes
//! are kept as they are, sorted, because they take no more memory than the 4,096 registers of a
//! byte that come after them. The estimate is Ertl's (2017), which needs no table of corrections
//! and is good at any size.
//!
//! The seed belongs to the aggregate. That of the table will not do: tables take another one when
//! keys collide, and each has its own after that. Nor will a fixed one: whoever knows it can make
//! values that all fall into a few registers. So every shard, batch and window of a run has the
//! same secret seed, and a state that is saved has to be saved with it.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::io::{self, Read, Write};

use super::list::WordList;
use super::{Aggregate, Slab, SlabFull};
use crate::save::{Saved, invalid};
use crate::table::keys::Seed;

/// log2 of the registers.
const PRECISION: u32 = 12;

const REGISTERS: usize = 1 << PRECISION;

/// Words of all registers, one byte each.
const REGISTER_WORDS: usize = REGISTERS / 8;

/// The most hashes that are kept as they are.
const EXACT_MAX: usize = REGISTER_WORDS;

/// The largest register: the place of the first 1 in the bits that do not number the register.
const RANK_MAX: usize = 64 - PRECISION as usize + 1;

/// Counts the different values of a key: exactly up to 512, then with a standard error of 1.6 %.
///
/// Values are anything that implements [`Hash`]. For a part of a record, which cannot be the value
/// of a pair because it is borrowed, let it be what [`hash`](Self::hash) returns:
///
/// ```
/// use microtally::aggregate::Distinct;
/// use microtally::stream::run_lines;
/// let visitors = run_lines("/a ann\n/a bob\n/a ann\n/b ann", |lines| {
///     let users = Distinct::new();
///     let visits = lines.map(move |line| (&line[..2], users.hash(&line[3..])));
///     Ok(visits.aggregate_by_key(users).results().top(2))
/// })?;
/// assert_eq!(visitors, [("/a".into(), 2), ("/b".into(), 1)]);
/// # Ok::<(), microtally::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Distinct {
    number: u64,
    is_random: bool,
    seed: Seed,
}

/// The hash of a value, made by [`Distinct::hash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueHash(u64);

impl ValueHash {
    /// The hash of no value, where one has to be.
    pub const NONE: ValueHash = ValueHash(0);
}

impl Hash for ValueHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

impl Default for Distinct {
    fn default() -> Self {
        Distinct::new()
    }
}

impl Distinct {
    /// The standard error of more than 512 values, as a part of the result: 1.04 / 64.
    pub const ERROR: f64 = 1.04 / 64.0;

    /// With a random seed: nobody can make values that are counted wrongly. States cannot be saved.
    pub fn new() -> Distinct {
        Distinct {
            is_random: true,
            ..Distinct::with_seed(RandomState::new().hash_one(0u64))
        }
    }

    /// With a chosen seed: equal runs have equal results, and states can be saved and loaded by a
    /// run with the same seed. Keep it secret where values come from strangers.
    pub fn with_seed(number: u64) -> Distinct {
        Distinct {
            number,
            is_random: false,
            seed: Seed::chosen(Some(number)),
        }
    }

    /// The seed, to be saved with states.
    pub fn seed(&self) -> u64 {
        self.number
    }

    /// The hash of a value that cannot be kept itself.
    #[inline]
    pub fn hash(&self, value: &[u8]) -> ValueHash {
        ValueHash(mixed(self.seed.hash_long(value)))
    }
}

/// Hashes what a value feeds it.
struct SeededHasher {
    seed: Seed,
    hash: u64,
}

impl Hasher for SeededHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.hash = mixed(self.hash ^ self.seed.hash_long(bytes));
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.hash = self.seed.hash_short(self.hash ^ word);
    }

    #[inline]
    fn finish(&self) -> u64 {
        mixed(self.hash)
    }
}

/// Spreads every bit over all others (the last steps of MurmurHash3).
#[inline]
fn mixed(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The different values of a key: hashes, or registers once there were more than 512.
#[derive(Clone, Copy, Debug, Default)]
pub struct ValueSet {
    list: WordList,
    has_registers: bool,
}

impl ValueSet {
    #[inline]
    fn add(&mut self, hash: u64, slab: &mut Slab) {
        if self.has_registers {
            raise(self.list.words_mut(slab), hash);
            return;
        }
        let words = self.list.words(slab);
        let Err(at) = words.binary_search(&hash) else {
            return;
        };
        if words.len() < EXACT_MAX {
            self.list.insert(at, hash, slab);
            return;
        }
        self.take_registers(slab);
        raise(self.list.words_mut(slab), hash);
    }

    #[cold]
    fn take_registers(&mut self, slab: &mut Slab) {
        let hashes = self.list;
        let mut registers = WordList::default();
        registers.replace_by_zeros(REGISTER_WORDS, slab);
        for at in 0..hashes.words(slab).len() {
            let hash = hashes.words(slab)[at];
            raise(registers.words_mut(slab), hash);
        }
        self.list.free(slab);
        (self.list, self.has_registers) = (registers, true);
    }

    fn merge(&mut self, slab: &mut Slab, from: ValueSet, others: &Slab) {
        let words = from.list.words(others);
        if !from.has_registers && !self.has_registers {
            // Both fit, and a few more: 1,024 hashes at most.
            self.list.merge(slab, words, |hash| hash, |hash, _| hash);
            if self.list.words(slab).len() > EXACT_MAX {
                self.take_registers(slab);
            }
            return;
        }
        if !self.has_registers {
            self.take_registers(slab);
        }
        let registers = self.list.words_mut(slab);
        if from.has_registers {
            for (into, from) in registers.iter_mut().zip(words) {
                *into = greater_bytes(*into, *from);
            }
        } else {
            words.iter().for_each(|&hash| raise(registers, hash));
        }
    }

    fn count(self, slab: &Slab) -> u64 {
        let words = self.list.words(slab);
        match self.has_registers {
            true => estimate(words),
            false => words.len() as u64,
        }
    }
}

fn are_hashes(words: &[u64]) -> bool {
    words.len() <= EXACT_MAX && words.is_sorted_by(|a, b| a < b)
}

fn are_registers(words: &[u64]) -> bool {
    let mut registers = words.iter().flat_map(|word| word.to_le_bytes());
    words.len() == REGISTER_WORDS && registers.all(|rank| usize::from(rank) <= RANK_MAX)
}

/// Adds a hash to the registers.
#[inline]
fn raise(words: &mut [u64], hash: u64) {
    let register = (hash >> (64 - PRECISION)) as usize;
    // The bit behind the last one ends the search.
    let rank = u64::from((hash << PRECISION | 1 << (PRECISION - 1)).leading_zeros() + 1);
    let (word, shift) = (&mut words[register / 8], register % 8 * 8);
    if (*word >> shift) & 0xff < rank {
        *word = *word & !(0xff << shift) | rank << shift;
    }
}

/// For each byte the greater of both.
fn greater_bytes(a: u64, b: u64) -> u64 {
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    u64::from_le_bytes(std::array::from_fn(|at| a[at].max(b[at])))
}

/// Ertl's estimate, from how many registers have each value.
fn estimate(words: &[u64]) -> u64 {
    let mut with = [0u32; RANK_MAX + 1];
    for word in words {
        for rank in word.to_le_bytes() {
            with[usize::from(rank)] += 1;
        }
    }
    let all = REGISTERS as f64;
    let mut sum = all * tau(1.0 - f64::from(with[RANK_MAX]) / all);
    for rank in (1..RANK_MAX).rev() {
        sum = 0.5 * (sum + f64::from(with[rank]));
    }
    sum += all * sigma(f64::from(with[0]) / all);
    (all * all / (2.0 * std::f64::consts::LN_2 * sum)).round() as u64
}

/// The part of the estimate for registers without any value.
fn sigma(mut x: f64) -> f64 {
    let (mut y, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * y;
        y += y;
        if sum == before || sum.is_infinite() {
            return sum;
        }
    }
}

/// The part of the estimate for registers that cannot grow.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        y *= 0.5;
        sum -= (1.0 - x).powi(2) * y;
        if sum == before {
            return sum / 3.0;
        }
    }
}

impl<T: Hash> Aggregate<T> for Distinct {
    type State = ValueSet;
    type Output = u64;

    fn zero(&self) -> ValueSet {
        ValueSet::default()
    }

    #[inline]
    fn reserve(&self, state: &mut ValueSet, slab: &mut Slab) -> Result<(), SlabFull> {
        match state.has_registers {
            true => Ok(()),
            // With 512 hashes, the registers come into a block of the same size.
            false if state.list.words(slab).len() == EXACT_MAX => slab.has_room(REGISTER_WORDS),
            false => state.list.reserve(slab),
        }
    }

    #[inline]
    fn add(&self, state: &mut ValueSet, value: T, slab: &mut Slab) {
        let mut hasher = SeededHasher {
            seed: self.seed,
            hash: 0,
        };
        value.hash(&mut hasher);
        state.add(hasher.finish(), slab);
    }

    fn merge(&self, into: &mut ValueSet, slab: &mut Slab, from: ValueSet, others: &Slab) {
        into.merge(slab, from, others);
    }

    fn free(&self, mut state: ValueSet, slab: &mut Slab) {
        state.list.free(slab);
    }

    fn check_savable(&self) -> Result<(), &'static str> {
        match self.is_random {
            true => Err("choose a seed for its distinct values, by `Distinct::with_seed`"),
            false => Ok(()),
        }
    }

    /// The seed is written too, because with another one the same values have other hashes.
    fn save(&self, state: ValueSet, slab: &Slab, to: &mut dyn Write) -> io::Result<()> {
        (self.number, state.has_registers).save(to)?;
        state.list.save(slab, to)
    }

    fn load(&self, slab: &mut Slab, from: &mut dyn Read) -> io::Result<ValueSet> {
        let (number, has_registers) = <(u64, bool)>::load(from)?;
        if number != self.number {
            return Err(invalid("its distinct values have another seed"));
        }
        let are_valid = match has_registers {
            true => are_registers,
            false => are_hashes,
        };
        let list = WordList::load(slab, from, are_valid)?;
        Ok(ValueSet {
            list,
            has_registers,
        })
    }

    fn finish(&self, state: ValueSet, slab: &Slab) -> u64 {
        state.count(slab)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The estimate alone, for sizes and seeds too many for the whole way.
    #[test]
    fn the_error_is_the_stated_one_at_every_size() {
        let mut squares = 0.0;
        let (mut cases, mut worst) = (0, 0.0f64);
        for seed in 0..40u64 {
            let distinct = Distinct::with_seed(seed);
            let (mut slab, mut state) = (Slab::new(), ValueSet::default());
            let mut size = 0u64;
            for until in [1, 100, 512, 513, 600, 1000, 3000, 10_000, 20_000, 50_000] {
                while size < until {
                    distinct.add(&mut state, size, &mut slab);
                    size += 1;
                }
                let found = state.count(&slab);
                if until <= 512 {
                    assert_eq!(found, until);
                    continue;
                }
                let error = (found as f64 - until as f64) / until as f64;
                squares += error * error;
                cases += 1;
                worst = worst.max(error.abs());
            }
        }
        let error = (squares / f64::from(cases)).sqrt();
        assert!(error < 0.0165, "the standard error is {error}");
        assert!(worst < 5.0 * 0.01625, "{worst}");
    }

    #[test]
    fn bytes_and_values_are_counted_alike() {
        let distinct = Distinct::with_seed(5);
        assert_eq!(Distinct::with_seed(5).hash(b"x"), distinct.hash(b"x"));
        assert_ne!(Distinct::new().hash(b"x"), distinct.hash(b"x"));
        let (mut slab, mut texts, mut hashes) =
            (Slab::new(), ValueSet::default(), ValueSet::default());
        for number in 0..2000u32 {
            let text = format!("{}", number % 400);
            distinct.add(&mut texts, text.as_str(), &mut slab);
            distinct.add(&mut hashes, distinct.hash(text.as_bytes()), &mut slab);
        }
        assert_eq!((texts.count(&slab), hashes.count(&slab)), (400, 400));
    }
}
