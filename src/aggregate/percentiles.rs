//! Percentiles: how many values fell into each of many narrow buckets.
//!
//! Promise: a result differs from a value of the asked rank by at most 1/128 of it, less than
//! 0.8 %. Sketches of the same values are equal, however the values were divided and merged.
//! Must not know: tables, keys.
//!
//! It is the idea of DDSketch (Masson, Rim and Lee 2019), buckets whose width is in proportion to
//! their values. Here a bucket is all doubles with the same sign, exponent and first seven bits of
//! the fraction. So the bucket of a value is a shift of its bits, the same on every machine, where
//! the original takes a logarithm.
//!
//! | values | bucket |
//! |---|---|
//! | 2^-30 (9e-10) to below 2^97 (1.6e29), of either sign | their own: 128 between a power of two and the next |
//! | nearer to zero, and zero: denormal numbers too | zero |
//! | beyond, and infinite ones | the outermost one of their sign: the result is the least magnitude in it |
//! | NaN | none: it has no rank |
//!
//! This range holds every decimal that `extract::Number` keeps exactly. It bounds the buckets of a
//! key to 32,513, which is 256 KiB. Values that span four powers of ten, as response times do, have
//! some 1,700, which is 14 KiB. Nothing is ever collapsed to save memory, since that would widen
//! the error: where memory is limited, a sketch without room takes no more records, and they are
//! reported as all records without room are.

use std::io::{self, Read, Write};

use super::list::WordList;
use super::{Aggregate, Numeric, Slab, SlabFull};

/// Bits of the fraction that a bucket has.
const FRACTION_BITS: u32 = 7;

/// Exponents from here on have buckets of their own.
const EXPONENT_MIN: i32 = -30;

/// Exponents up to here.
const EXPONENT_MAX: i32 = 96;

/// The bits below those of a bucket.
const SHIFT: u32 = 52 - FRACTION_BITS;

/// The bits of the least value with a bucket of its own, shifted.
const FIRST: u64 = ((1023 + EXPONENT_MIN) as u64) << FRACTION_BITS;

/// Buckets of one sign.
const BUCKETS: u64 = ((EXPONENT_MAX - EXPONENT_MIN + 1) as u64) << FRACTION_BITS;

/// The bucket of zero; those of negative values are below, the others above.
const ZERO: u64 = BUCKETS;

/// A word of a sketch: the bucket, and the number of its values in the low bits. Values beyond
/// 2.8e14 in one bucket are not counted.
const COUNT_BITS: u32 = 48;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

const _: () = assert!(2 * BUCKETS < 1 << (64 - COUNT_BITS));

/// The bucket of a value, unless it is NaN.
#[inline]
fn bucket_of(value: f64) -> Option<u64> {
    let shifted = value.abs().to_bits() >> SHIFT;
    if shifted < FIRST {
        return Some(ZERO);
    }
    if value.is_nan() {
        return None;
    }
    let magnitude = (shifted - FIRST).min(BUCKETS - 1);
    Some(match value.is_sign_negative() {
        true => ZERO - 1 - magnitude,
        false => ZERO + 1 + magnitude,
    })
}

/// The value that stands for a bucket: the one with the fewest decimal digits.
fn value_of(bucket: u64) -> f64 {
    if bucket == ZERO {
        return 0.0;
    }
    let magnitude = bucket.abs_diff(ZERO) - 1;
    let bound = |magnitude: u64| f64::from_bits((magnitude + FIRST) << SHIFT);
    let value = match magnitude {
        magnitude if magnitude == BUCKETS - 1 => bound(magnitude),
        magnitude => shortest_between(bound(magnitude), bound(magnitude + 1)),
    };
    if bucket < ZERO { -value } else { value }
}

/// A number of at least `low` and below `high`, with as few digits as possible: so whole numbers up
/// to 255, and what people write in general, come back as they were.
fn shortest_between(low: f64, high: f64) -> f64 {
    let first = low.log10().floor() as i32;
    for exponent in (first - 4..=first + 1).rev() {
        // The nearest double to a decimal, for powers of ten that are doubles themselves.
        let power = 10f64.powi(exponent.abs());
        let value = match exponent < 0 {
            true => (low * power).ceil() / power,
            false => (low / power).ceil() * power,
        };
        if (low..high).contains(&value) {
            return value;
        }
    }
    low
}

fn bucket_in(word: u64) -> u64 {
    word >> COUNT_BITS
}

/// Returns `true` if a sketch may have these words.
fn are_buckets(words: &[u64]) -> bool {
    let is_one = |word: &u64| bucket_in(*word) <= 2 * BUCKETS && word & COUNT_MASK > 0;
    words.iter().all(is_one) && words.is_sorted_by(|a, b| bucket_in(*a) < bucket_in(*b))
}

/// The sum of the counts of two words of one bucket.
fn sum(a: u64, b: u64) -> u64 {
    let count = ((a & COUNT_MASK) + (b & COUNT_MASK)).min(COUNT_MASK);
    a & !COUNT_MASK | count
}

/// The buckets of a key's values.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sketch(WordList);

impl Sketch {
    #[inline]
    fn add(&mut self, value: f64, slab: &mut Slab) {
        let Some(bucket) = bucket_of(value) else {
            return;
        };
        let words = self.0.words_mut(slab);
        let at = words.partition_point(|&word| bucket_in(word) < bucket);
        match words.get_mut(at) {
            Some(word) if bucket_in(*word) == bucket => *word = sum(*word, 1),
            _ => self.0.insert(at, bucket << COUNT_BITS | 1, slab),
        }
    }

    fn merge(&mut self, slab: &mut Slab, from: Sketch, others: &Slab) {
        self.0.merge(slab, from.0.words(others), bucket_in, sum);
    }

    fn remove(&mut self, slab: &mut Slab, from: Sketch, others: &Slab) {
        let mut leaving = from.0.words(others).iter().peekable();
        self.0.update(slab, |word| {
            let left = match leaving.next_if(|from| bucket_in(**from) == bucket_in(word)) {
                // Counts that met their maximum may be less than what went into them.
                Some(from) => word - (from & COUNT_MASK).min(word & COUNT_MASK),
                None => word,
            };
            (left & COUNT_MASK > 0).then_some(left)
        });
    }

    /// The value of the rank `ceil(percent / 100 * n)` of `n` values, the least one having rank 1;
    /// NaN if there are none.
    fn percentile(self, percent: f64, slab: &Slab) -> f64 {
        let words = self.0.words(slab);
        let count: u64 = words.iter().map(|word| word & COUNT_MASK).sum();
        let mut left = rank(percent, count);
        for &word in words {
            let here = word & COUNT_MASK;
            if left <= here {
                return value_of(bucket_in(word));
            }
            left -= here;
        }
        f64::NAN
    }
}

/// The rank of a percentile among `count` values, from 1 on.
fn rank(percent: f64, count: u64) -> u64 {
    let rank = percent / 100.0 * count as f64;
    // What is a whole number but for rounding is meant to be one: 99.9 % of 1000 values.
    let nearest = rank.round();
    let is_whole = (rank - nearest).abs() <= 1e-9 * nearest;
    let rank = if is_whole { nearest } else { rank.ceil() };
    (rank as u64).clamp(1, count.max(1))
}

fn checked(percent: f64) -> f64 {
    assert!(
        (0.0..=100.0).contains(&percent),
        "a percentile is from 0 to 100, not {percent}"
    );
    percent
}

macro_rules! sketched {
    ([$($generics:tt)*] $type:ty, $output:ty, |$self:ident, $state:ident, $slab:ident| $finish:expr) => {
        impl<T: Numeric, $($generics)*> Aggregate<T> for $type {
            type State = Sketch;
            type Output = $output;
            const HAS_REMOVE: bool = true;

            fn zero(&self) -> Sketch {
                Sketch::default()
            }

            #[inline]
            fn reserve(&self, state: &mut Sketch, slab: &mut Slab) -> Result<(), SlabFull> {
                state.0.reserve(slab)
            }

            #[inline]
            fn add(&self, state: &mut Sketch, value: T, slab: &mut Slab) {
                state.add(value.to_f64(), slab);
            }

            fn merge(&self, into: &mut Sketch, slab: &mut Slab, from: Sketch, others: &Slab) {
                into.merge(slab, from, others);
            }

            fn remove(&self, into: &mut Sketch, slab: &mut Slab, from: Sketch, others: &Slab) {
                into.remove(slab, from, others);
            }

            fn free(&self, mut state: Sketch, slab: &mut Slab) {
                state.0.free(slab);
            }

            fn check_savable(&self) -> Result<(), &'static str> {
                Ok(())
            }

            fn save(&self, state: Sketch, slab: &Slab, to: &mut dyn Write) -> io::Result<()> {
                state.0.save(slab, to)
            }

            fn load(&self, slab: &mut Slab, from: &mut dyn Read) -> io::Result<Sketch> {
                WordList::load(slab, from, are_buckets).map(Sketch)
            }

            fn finish(&$self, $state: Sketch, $slab: &Slab) -> $output {
                $finish
            }
        }
    };
}

/// One percentile of the values of a key.
///
/// The result has the rank `ceil(percent / 100 * n)` among `n` values, and differs from the value
/// of that rank by at most 1/128 of it. Whole numbers up to 255, and zero, come back exactly. See
/// the table in [`Percentiles`] for values beyond its range.
#[derive(Clone, Copy, Debug)]
pub struct Percentile(f64);

impl Percentile {
    /// The 50th percentile.
    pub const MEDIAN: Percentile = Percentile(50.0);

    /// The largest error of a result, as a part of the value: 1/128.
    pub const ERROR: f64 = 1.0 / (1u32 << FRACTION_BITS) as f64;

    /// The percentile `percent`, 0 to 100.
    ///
    /// # Panics
    ///
    /// Panics if `percent` is out of range.
    pub fn new(percent: f64) -> Percentile {
        Percentile(checked(percent))
    }
}

sketched!([] Percentile, f64, |self, state, slab| state.percentile(self.0, slab));

/// Several percentiles of the values of a key, of one sketch.
///
/// Each is as [`Percentile`] says.
///
/// | values | become |
/// |---|---|
/// | 9e-10 to 1.6e29, of either sign | a value at most 0.8 % off |
/// | nearer to zero, also denormal ones | 0 |
/// | beyond, also infinite ones | 1.6e29, with their sign |
/// | NaN | skipped; without any other value the result is NaN |
#[derive(Clone, Copy, Debug)]
pub struct Percentiles<const N: usize>([f64; N]);

impl<const N: usize> Percentiles<N> {
    /// The percentiles `percents`, each 0 to 100.
    ///
    /// # Panics
    ///
    /// Panics if one is out of range.
    pub fn new(percents: [f64; N]) -> Self {
        Percentiles(percents.map(checked))
    }
}

sketched!([const N: usize] Percentiles<N>, [f64; N], |self, state, slab| {
    self.0.map(|percent| state.percentile(percent, slab))
});

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bucket_is_no_wider_than_the_bound() {
        for bucket in 0..=2 * BUCKETS {
            let value = value_of(bucket);
            assert_eq!(bucket_of(value), Some(bucket), "{value}");
            let next = f64::from_bits(value.to_bits() + 1);
            assert!(bucket_of(next).is_some_and(|next| next.abs_diff(bucket) <= 1));
        }
    }

    #[test]
    fn numbers_of_few_digits_come_back() {
        for whole in 0..=255 {
            let whole = f64::from(whole);
            assert_eq!(value_of(bucket_of(whole).unwrap()), whole);
            assert_eq!(value_of(bucket_of(-whole).unwrap()), -whole);
        }
        for value in [0.5, 0.25, 1.5, 0.1, 0.001, 300.0, 5000.0, 1e6, 2e20, 7e-9] {
            assert_eq!(value_of(bucket_of(value).unwrap()), value);
        }
    }

    #[test]
    fn values_beyond_the_range_are_at_its_ends() {
        let value = |value: f64| value_of(bucket_of(value).unwrap());
        for tiny in [0.0, -0.0, 5e-324, -1e-310, 1e-20, -9e-10] {
            assert_eq!(value(tiny), 0.0);
        }
        let largest = value(f64::INFINITY);
        assert!((1.5e29..1.6e29).contains(&largest), "{largest}");
        assert_eq!(value(1e300), largest);
        assert_eq!(value(f64::MAX), largest);
        assert_eq!(value(f64::NEG_INFINITY), -largest);
        assert_eq!(bucket_of(f64::NAN), None);
        assert_eq!(bucket_of(-f64::NAN), None);
    }

    #[test]
    fn ranks_are_those_of_the_definition() {
        for (percent, count, expected) in [
            (0.0, 10, 1),
            (50.0, 10, 5),
            (50.0, 11, 6),
            (99.0, 100, 99),
            (99.9, 1000, 999),
            (99.9, 1001, 1000),
            (100.0, 7, 7),
            (1e-9, 7, 1),
        ] {
            assert_eq!(rank(percent, count), expected, "{percent} of {count}");
        }
    }

    proptest! {
        #[test]
        fn a_value_is_within_the_bound_of_its_bucket(
            exponent in EXPONENT_MIN..=EXPONENT_MAX,
            fraction in 0u64..1 << 52,
            is_negative in any::<bool>(),
        ) {
            prop_assume!(exponent < EXPONENT_MAX || fraction >> SHIFT < (1 << FRACTION_BITS) - 1);
            let bits = ((1023 + exponent) as u64) << 52 | fraction;
            let value = f64::from_bits(bits | u64::from(is_negative) << 63);
            let found = value_of(bucket_of(value).unwrap());
            prop_assert!((found - value).abs() <= value.abs() / 128.0, "{value} {found}");
        }
    }
}
