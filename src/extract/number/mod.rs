//! Numbers in a stream, and their sums, extremes and means.
//!
//! Promise: decimal fractions of up to nine places are added exactly, in any order and by any
//! number of threads, as long as the sum is below 10^29. Other numbers are added as floats, whose
//! sum may differ in its last digits from run to run. No order of additions makes a sum infinite; a
//! final sum beyond the range of a double is [`NULL`]. Every printed number reads back as the same
//! number. Must not know: `find`, `csv`, `json`, `skipped`.
//!
//! `f64` alone would lose whole numbers above 2^53, and 0.1 + 0.2 would be 0.30000000000000004.

use std::cmp::Ordering;
use std::io::{self, Read, Write};
use std::ops::{Add, Sub};

use crate::aggregate::Numeric;
use crate::batch::Value;
use crate::repr::Repr;
use crate::save::Saved;

/// The exact part counts billionths.
const UNIT_DIGITS: i32 = 9;
const UNITS: i128 = 10i128.pow(UNIT_DIGITS as u32);

/// Most units of a number that was read: all numbers of a stream add up without overflow.
const UNITS_MAX: i128 = 10i128.pow(36);

/// Printed for a sum that no double can hold.
pub const NULL: &str = "null";

/// A large float part is divided by this, so that as many numbers as a count can hold add up
/// without overflow.
const SCALE: f64 = (1u128 << 64) as f64;

/// A float part of at least 2^960 is stored divided by [`SCALE`]. What the division rounds off
/// smaller numbers that are added to it is far below its last digit.
const SCALED_FROM: f64 = f64::from_bits((1023 + 960) << 52);

/// The bit of [`Number::count`] for a float part that is stored divided by [`SCALE`].
const IS_SCALED: u64 = 1 << 63;

/// A number that was read, or a sum, an extreme or a mean of numbers.
///
/// It is ranked by size and printed in its shortest form: `3`, `0.25`, `1e+300`.
///
/// It is aligned as a word: so a short key and its number take 40 bytes of a table, not 48.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, packed(8))]
pub struct Number {
    /// The sum of the exact numbers, in billionths.
    exact: i128,
    /// The sum of the others; divided by [`SCALE`] if [`IS_SCALED`] is set.
    float: f64,
    /// For a mean, how many numbers there are, else 0; and [`IS_SCALED`].
    count: u64,
}

/// Why a text is not a number to compute with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseNumberError {
    /// It is not a number.
    NotANumber,
    /// It is a number beyond the range of a double: `1e400`.
    TooLarge,
}

impl Number {
    /// Parses a number as people and programs write it: `-12`, `+0.5`, `.5`, `1e6`, with white
    /// space around it. Words such as `inf` and `nan`, and grouped digits, are not numbers.
    ///
    /// # Errors
    ///
    /// Why the text is not a number to compute with.
    pub fn parse(text: &[u8]) -> Result<Number, ParseNumberError> {
        let text = text.trim_ascii();
        let decimal = Decimal::parse(text).ok_or(ParseNumberError::NotANumber)?;
        if let Some(exact) = decimal.units() {
            return Ok(Number {
                exact,
                ..Number::default()
            });
        }
        let float = std::str::from_utf8(text).map(str::parse::<f64>);
        match float {
            Ok(Ok(float)) if float.is_finite() => Ok(Number::of_float(float)),
            Ok(Ok(_)) => Err(ParseNumberError::TooLarge),
            _ => Err(ParseNumberError::NotANumber),
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

    /// Returns the mean of `count` numbers of which this is the sum.
    pub fn over(self, count: u64) -> Number {
        Number {
            count: self.count & IS_SCALED | count,
            ..self
        }
    }

    /// Returns the smaller number.
    pub fn min(self, other: Number) -> Number {
        match other.order(&self) {
            Ordering::Less => other,
            _ => self,
        }
    }

    /// Returns the greater number.
    pub fn max(self, other: Number) -> Number {
        match other.order(&self) {
            Ordering::Greater => other,
            _ => self,
        }
    }

    /// Returns the nearest float, which is infinite if the number [is beyond a
    /// double](Self::is_null).
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

    /// Returns `true` if the number is beyond the range of a double and printed as [`NULL`].
    pub fn is_null(self) -> bool {
        self.count & IS_SCALED != 0 && self.to_f64().is_infinite()
    }

    /// How many numbers a mean is of, else 0.
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
        // The usual case; a float part of zero is never stored divided.
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
            // Beyond 10^29 only the leading digits are kept.
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

impl Sub for Number {
    type Output = Number;

    /// The difference of two numbers that are no means.
    fn sub(self, other: Number) -> Number {
        self + Number {
            exact: -other.exact,
            float: -other.float,
            count: other.count,
        }
    }
}

impl From<u64> for Number {
    fn from(whole: u64) -> Number {
        Number {
            exact: i128::from(whole) * UNITS,
            ..Number::default()
        }
    }
}

/// Infinite floats and NaN, which are no numbers, become [`NULL`].
impl From<f64> for Number {
    fn from(float: f64) -> Number {
        let units = float * UNITS as f64;
        // Whole numbers, which are exact, and others that are doubles only.
        if float.fract() == 0.0 && units.abs() <= UNITS_MAX as f64 {
            return Number {
                exact: float as i128 * UNITS,
                ..Number::default()
            };
        }
        Number::of_float(if float.is_nan() { f64::INFINITY } else { float })
    }
}

impl Saved for Number {
    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        ({ self.exact }, self.float, self.count).save(to)
    }

    fn load(from: &mut dyn Read) -> io::Result<Number> {
        let (exact, float, count) = Saved::load(from)?;
        Ok(Number {
            exact,
            float,
            count,
        })
    }
}

impl Numeric for Number {
    type Sum = Number;
    type Mean = Number;
    /// A sum beyond 10^29 becomes a float, and other numbers are floats anyway.
    const HAS_MINUS: bool = false;

    fn to_sum(self) -> Number {
        self
    }

    fn plus(a: Number, b: Number) -> Number {
        a + b
    }

    fn minus(a: Number, b: Number) -> Number {
        a - b
    }

    fn mean(sum: Number, count: u64) -> Number {
        sum.over(count)
    }

    fn to_f64(self) -> f64 {
        Number::to_f64(self)
    }

    fn compare(&self, other: &Number) -> Ordering {
        self.order(other)
    }
}

fn units_to_f64(units: i128) -> f64 {
    // Whole numbers are converted directly, so that nothing is rounded twice.
    if units % UNITS == 0 {
        (units / UNITS) as f64
    } else {
        units as f64 / UNITS as f64
    }
}

/// The double nearest to `units / count`.
fn quotient(units: i128, count: u64) -> f64 {
    /// Whole numbers up to here are doubles.
    const EXACT_MAX: u128 = 1 << 53;
    let divisor = UNITS as u128 * u128::from(count);
    let magnitude = units.unsigned_abs();
    let quotient = if magnitude.is_multiple_of(divisor) {
        (magnitude / divisor) as f64
    } else if magnitude <= EXACT_MAX && divisor <= EXACT_MAX {
        // One division of two exact doubles: rounded once.
        magnitude as f64 / divisor as f64
    } else {
        quotient_of_many_digits(magnitude, divisor)
    };
    if units < 0 { -quotient } else { quotient }
}

/// The double nearest to the quotient: it is written in decimal and read again, which rounds once.
/// 40 digits after the point, at least 20 of them significant, and one more for the remainder are
/// enough.
#[cold]
fn quotient_of_many_digits(dividend: u128, divisor: u128) -> f64 {
    let mut text = [0; 96];
    let mut rest = &mut text[..];
    write!(rest, "{}.", dividend / divisor).expect("there is room");
    // Below 10^9 * 2^64, so ten times it does not overflow.
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
    /// By size. The other parts make the order total: two numbers with the same float need not be
    /// equal.
    fn order(&self, other: &Self) -> Ordering {
        let is_exact = |number: &Number| number.float == 0.0 && number.count <= 1;
        if is_exact(self) && is_exact(other) {
            let by_units = { self.exact }.cmp(&{ other.exact });
            return by_units.then(self.count.cmp(&other.count));
        }
        let by_size = self.to_f64().total_cmp(&other.to_f64());
        let by_units = by_size.then({ self.exact }.cmp(&{ other.exact }));
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
        // Whole numbers have no point, like exact ones.
        if out[start..].ends_with(b".0") {
            out.truncate(out.len() - 2);
        }
    }
}

/// Writes a decimal without an exponent or trailing zeros.
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

/// A decimal number as written: `digits * 10^exponent`.
struct Decimal {
    is_negative: bool,
    /// `None` if there are too many.
    digits: Option<i128>,
    exponent: i32,
}

impl Decimal {
    /// Returns `None` if `text` is not a number.
    fn parse(text: &[u8]) -> Option<Decimal> {
        let (is_negative, text) = sign(text);
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

    /// Returns the number in billionths, if it is a whole number of them and not too large.
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

/// Splits off a sign and returns `true` for a minus.
#[inline]
fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

/// Parses the exponent after an `e`: an optional sign and digits.
fn exponent(text: &[u8]) -> Option<i32> {
    let (is_negative, digits) = sign(text);
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
