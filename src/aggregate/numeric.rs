//! Numbers that can be aggregated.
//!
//! Promise: sums of integers neither overflow nor round. Must not know: tables, keys.

use std::cmp::Ordering;
use std::fmt::Debug;

use crate::save::Saved;

/// A number: the integers of up to 64 bits, the floats, and
/// `extract::Number`, which keeps decimals exact.
pub trait Numeric: Copy + Debug + Saved + Send + Sync {
    /// A sum of such numbers: 128 bits for integers, so that no sum overflows.
    type Sum: Copy + Debug + Default + Saved + Send + Sync;
    /// Their mean.
    type Mean: Copy + Send + Sync + 'static;
    /// Whether [`minus`](Self::minus) takes off exactly what [`plus`](Self::plus) has added. Floats
    /// are rounded, so a window adds them up anew.
    const HAS_MINUS: bool;

    /// Returns the sum of this one number.
    fn to_sum(self) -> Self::Sum;

    /// Adds two sums.
    fn plus(a: Self::Sum, b: Self::Sum) -> Self::Sum;

    /// Takes `b`, which was added to it before, off `a`. Called only if
    /// [`HAS_MINUS`](Self::HAS_MINUS) is `true`.
    fn minus(a: Self::Sum, b: Self::Sum) -> Self::Sum;

    /// Returns the mean of `count` numbers, at least one.
    fn mean(sum: Self::Sum, count: u64) -> Self::Mean;

    /// Returns the nearest float.
    fn to_f64(self) -> f64;

    /// The total order of the numbers. Floats are in the order of [`f64::total_cmp`].
    fn compare(&self, other: &Self) -> Ordering;
}

macro_rules! numeric {
    ($sum:ty, $has_minus:literal, $compare:ident: $($number:ty),*) => {$(
        impl Numeric for $number {
            type Sum = $sum;
            type Mean = f64;
            const HAS_MINUS: bool = $has_minus;

            #[inline]
            fn to_sum(self) -> $sum {
                self as $sum
            }

            #[inline]
            fn plus(a: $sum, b: $sum) -> $sum {
                a + b
            }

            #[inline]
            fn minus(a: $sum, b: $sum) -> $sum {
                a - b
            }

            #[inline]
            fn mean(sum: $sum, count: u64) -> f64 {
                sum as f64 / count as f64
            }

            #[inline]
            fn to_f64(self) -> f64 {
                self as f64
            }

            #[inline]
            fn compare(&self, other: &Self) -> Ordering {
                self.$compare(other)
            }
        }
    )*};
}

numeric!(u128, true, cmp: u8, u16, u32, u64, usize);
numeric!(i128, true, cmp: i8, i16, i32, i64, isize);
numeric!(f64, false, total_cmp: f32, f64);
