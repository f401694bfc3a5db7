//! Numbers in a stream, and what sums, extremes and means of them are.
//!
//! Promise: decimal fractions of up to nine places are added exactly, whatever the order and the number of
//! threads, as long as the sum is below 10^29; others as floats, whose sum may differ in its last digits from run
//! to run. No order makes a sum infinite: one that is beyond the range of a double in the end is [`NULL`]. Every
//! number that is shown reads back as what it was. Must not know: keys, lines, where a number was found.
//!
//! `f64` alone would lose whole numbers above 2^53 and make 0.1 + 0.2 of two prices 0.30000000000000004.

use std::cmp::Ordering;
use std::io::Write;
use std::ops::Add;

use crate::batch::Value;
use crate::repr::Repr;

/// Units of the exact part: one is a billion of them.
const UNIT_DIGITS: i32 = 9;
const UNITS: i128 = 10i128.pow(UNIT_DIGITS as u32);

/// Most units a number that was read may have: as many numbers as a stream has add up without overflow.
const UNITS_MAX: i128 = 10i128.pow(36);

/// What stands for a sum that no double can hold.
pub const NULL: &str = "null";

/// What a large float part is divided by: as many numbers as a count can hold add up without overflow.
const SCALE: f64 = (1u128 << 64) as f64;

/// A float part from here on is held divided by [`SCALE`]: 2^960. What the division takes from numbers that are
/// added to such a one is far below its last digit.
const SCALED_FROM: f64 = f64::from_bits((1023 + 960) << 52);

/// The bit of [`Number::count`] that says that the float part is held divided by [`SCALE`].
const IS_SCALED: u64 = 1 << 63;

/// A number that was read, or a sum, an extreme or a mean of such.
///
/// Ranked by size and printed as itself: `3`, `0.25`, `1e+300`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Number {
    /// The sum of those that are exact, in billionths.
    exact: i128,
    /// The sum of the others; divided by [`SCALE`] if [`IS_SCALED`] is set.
    float: f64,
    /// How many there are, where they make a mean, else 0; and [`IS_SCALED`].
    count: u64,
}

/// Why a text is no number to compute with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is not a number.
    NotANumber,
    /// It is a number beyond the range of a double: `1e400`.
    TooLarge,
}

impl Number {
    /// A number as people and programs write them: `-12`, `+0.5`, `.5`, `1e6`, blanks around it allowed. Not
    /// one: words such as `inf` and `nan`, and digits that are grouped.
    ///
    /// # Errors
    ///
    /// Why it is no number to compute with.
    pub fn parse(text: &[u8]) -> Result<Number, Unread> {
        let text = text.trim_ascii();
        let decimal = Decimal::parse(text).ok_or(Unread::NotANumber)?;
        if let Some(exact) = decimal.units() {
            return Ok(Number {
                exact,
                ..Number::default()
            });
        }
        let float = std::str::from_utf8(text).map(str::parse::<f64>);
        match float {
            Ok(Ok(float)) if float.is_finite() => Ok(Number::of_float(float)),
            Ok(Ok(_)) => Err(Unread::TooLarge),
            _ => Err(Unread::NotANumber),
        }
    }

    fn of_float(float: f64) -> Number {
        let (float, scaled) = if float.abs() < SCALED_FROM {
            (float, 0)
        } else {
            (float / SCALE, IS_SCALED)
        };
        Number {
            float,
            count: scaled,
            ..Number::default()
        }
    }

    /// The mean of this one number, to which others can be added.
    pub fn mean(self) -> Number {
        Number {
            count: self.count | 1,
            ..self
        }
    }

    /// The smaller one.
    pub fn min(self, other: Number) -> Number {
        if other.order(&self) == Ordering::Less {
            other
        } else {
            self
        }
    }

    /// The greater one.
    pub fn max(self, other: Number) -> Number {
        if other.order(&self) == Ordering::Greater {
            other
        } else {
            self
        }
    }

    /// The number as a float, as near as that comes; infinite if it is [beyond](Self::is_null) a double.
    pub fn to_f64(self) -> f64 {
        let count = self.len().max(1);
        if self.float == 0.0 {
            return quotient(self.exact, count);
        }
        if self.count & IS_SCALED == 0 {
            return (units_to_f64(self.exact) + self.float) / count as f64;
        }
        (self.scaled() + units_to_f64(self.exact) / SCALE) / count as f64 * SCALE
    }

    /// Whether the number is beyond the range of a double and shown as [`NULL`].
    pub fn is_null(self) -> bool {
        self.count & IS_SCALED != 0 && self.to_f64().is_infinite()
    }

    /// How many numbers there are, where they make a mean.
    fn len(self) -> u64 {
        self.count & !IS_SCALED
    }

    /// The float part, divided by [`SCALE`].
    fn scaled(self) -> f64 {
        if self.count & IS_SCALED == 0 {
            self.float / SCALE
        } else {
            self.float
        }
    }
}

impl Add for Number {
    type Output = Number;

    /// The sum of both, or the mean over both.
    fn add(self, other: Number) -> Number {
        // The usual case; a float part that is zero is never held divided.
        if self.float == 0.0
            && other.float == 0.0
            && let Some(exact) = self.exact.checked_add(other.exact)
        {
            return Number {
                exact,
                float: 0.0,
                count: self.count + other.count,
            };
        }
        let count = self.len() + other.len();
        let (exact, overflow) = match self.exact.checked_add(other.exact) {
            Some(exact) => (exact, 0.0),
            // Beyond 10^29: only the leading digits are kept.
            None => (0, units_to_f64(self.exact) + units_to_f64(other.exact)),
        };
        let float = if (self.count | other.count) & IS_SCALED == 0 {
            // Each is below 2^960.
            Number::of_float(self.float + other.float + overflow)
        } else {
            let float = self.scaled() + other.scaled() + overflow / SCALE;
            if float.abs() < SCALED_FROM / SCALE {
                Number::of_float(float * SCALE)
            } else {
                Number {
                    float,
                    count: IS_SCALED,
                    ..Number::default()
                }
            }
        };
        Number {
            exact,
            float: float.float,
            count: float.count | count,
        }
    }
}

fn units_to_f64(units: i128) -> f64 {
    // Whole numbers take the shorter way, on which nothing is rounded twice.
    if units % UNITS == 0 {
        (units / UNITS) as f64
    } else {
        units as f64 / UNITS as f64
    }
}

/// The double next to `units / count`.
fn quotient(units: i128, count: u64) -> f64 {
    /// Whole numbers up to here are doubles.
    const EXACT_MAX: u128 = 1 << 53;
    let divisor = UNITS as u128 * u128::from(count);
    let magnitude = units.unsigned_abs();
    let quotient = if magnitude.is_multiple_of(divisor) {
        (magnitude / divisor) as f64
    } else if magnitude <= EXACT_MAX && divisor <= EXACT_MAX {
        // One division of two doubles that are exact: rounded once.
        magnitude as f64 / divisor as f64
    } else {
        quotient_of_many_digits(magnitude, divisor)
    };
    if units < 0 { -quotient } else { quotient }
}

/// The double next to the quotient. Written out in decimal and read again, which rounds once: with 40 digits behind
/// the point, of which at least 20 are significant, and one more where something is left, that is the right one.
#[cold]
fn quotient_of_many_digits(dividend: u128, divisor: u128) -> f64 {
    let mut text = [0; 96];
    let mut rest = &mut text[..];
    write!(rest, "{}.", dividend / divisor).expect("there is room");
    // Below 10^9 * 2^64, so that ten times it can be held.
    let mut left = dividend % divisor;
    for _ in 0..40 {
        left *= 10;
        write!(rest, "{}", left / divisor).expect("there is room");
        left %= divisor;
    }
    write!(rest, "{}", u8::from(left > 0)).expect("there is room");
    let len = 96 - rest.len();
    let text = std::str::from_utf8(&text[..len]).expect("digits are UTF-8");
    text.parse().expect("digits and a point are a number")
}

impl Value for Number {
    /// By size. The other parts are compared so that the order is total: two numbers that are the same float
    /// need not be the same.
    fn order(&self, other: &Self) -> Ordering {
        let is_exact = |number: &Number| number.float == 0.0 && number.count <= 1;
        if is_exact(self) && is_exact(other) {
            let by_units = self.exact.cmp(&other.exact);
            return by_units.then(self.count.cmp(&other.count));
        }
        let by_size = self.to_f64().total_cmp(&other.to_f64());
        let by_units = by_size.then(self.exact.cmp(&other.exact));
        by_units
            .then(self.scaled().total_cmp(&other.scaled()))
            .then(self.float.total_cmp(&other.float))
            .then(self.count.cmp(&other.count))
    }
}

impl Repr for Number {
    fn write_repr(&self, out: &mut Vec<u8>) {
        let count = i128::from(self.len().max(1));
        if self.float == 0.0 && self.exact % count == 0 {
            write_units(self.exact / count, out);
            return;
        }
        let float = self.to_f64();
        if float.is_infinite() {
            out.extend_from_slice(NULL.as_bytes());
            return;
        }
        let start = out.len();
        float.write_repr(out);
        // As the exact ones: whole numbers without a point.
        if out[start..].ends_with(b".0") {
            out.truncate(out.len() - 2);
        }
    }
}

/// A decimal without an exponent, its zeros cut.
fn write_units(units: i128, out: &mut Vec<u8>) {
    let sign = if units < 0 { "-" } else { "" };
    let (whole, rest) = (
        units.unsigned_abs() / UNITS as u128,
        units.unsigned_abs() % UNITS as u128,
    );
    let mut digits = rest;
    let mut width = UNIT_DIGITS as usize;
    while digits > 0 && digits % 10 == 0 {
        digits /= 10;
        width -= 1;
    }
    let written = if digits == 0 {
        write!(out, "{sign}{whole}")
    } else {
        write!(out, "{sign}{whole}.{digits:0width$}")
    };
    written.expect("writing to memory succeeds");
}

/// A number as it is written: `digits * 10^exponent`.
struct Decimal {
    is_negative: bool,
    /// `None` if there are too many.
    digits: Option<i128>,
    exponent: i32,
}

impl Decimal {
    /// `None` if `text` is no number at all.
    fn parse(text: &[u8]) -> Option<Decimal> {
        let (is_negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        let mut digits = Some(0i128);
        let (mut point, mut count, mut places) = (false, 0, 0i32);
        let mut bytes = text.iter();
        for &byte in bytes.by_ref() {
            match byte {
                b'0'..=b'9' => {
                    let digit = i128::from(byte - b'0');
                    digits = digits.and_then(|sum| sum.checked_mul(10)?.checked_add(digit));
                    count += 1;
                    places = places.saturating_add(i32::from(point));
                }
                b'.' if !point => point = true,
                b'e' | b'E' if count > 0 => {
                    let exponent = exponent(bytes.as_slice())?;
                    return Some(Decimal {
                        is_negative,
                        digits,
                        exponent: exponent.saturating_sub(places),
                    });
                }
                _ => return None,
            }
        }
        (count > 0).then_some(Decimal {
            is_negative,
            digits,
            exponent: -places,
        })
    }

    /// The number in billionths, if it is a whole number of them and not too large.
    fn units(&self) -> Option<i128> {
        let (mut units, mut shift) = (self.digits?, self.exponent.saturating_add(UNIT_DIGITS));
        if units == 0 {
            return Some(0);
        }
        while shift < 0 && units % 10 == 0 {
            units /= 10;
            shift += 1;
        }
        let factor = 10i128.checked_pow(u32::try_from(shift).ok()?)?;
        let units = units
            .checked_mul(factor)
            .filter(|units| *units <= UNITS_MAX)?;
        Some(if self.is_negative { -units } else { units })
    }
}

/// What stands behind an `e`: a sign and digits.
fn exponent(text: &[u8]) -> Option<i32> {
    let (is_negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut sum = 0i32;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        sum = sum
            .saturating_mul(10)
            .saturating_add(i32::from(byte - b'0'));
    }
    Some(if is_negative { -sum } else { sum })
}

#[cfg(test)]
mod tests;
