//! Numbers in a stream, and what sums, extremes and means of them are.
//!
//! Promise: decimal fractions of up to nine places are added exactly, whatever the order and the number of
//! threads, as long as the sum is below 10^29; others as floats, whose sum may differ in its last digits from run
//! to run. Refuses to know: keys, lines, where a number was found.
//!
//! `f64` alone would lose whole numbers above 2^53 and make 0.1 + 0.2 of two prices 0.30000000000000004.

use std::cmp::Ordering;
use std::io::Write;

use microtally::{Repr, Value};

/// Units of the exact part: one is a billion of them.
const UNIT_DIGITS: i32 = 9;
const UNITS: i128 = 10i128.pow(UNIT_DIGITS as u32);

/// Most units a number that was read may have: as many numbers as a stream has add up without overflow.
const UNITS_MAX: i128 = 10i128.pow(36);

/// Digits of a mean that are shown, if it has not more in front of the point.
const MEAN_DIGITS: usize = 6;

/// A number that was read, or a sum, an extreme or a mean of such.
///
/// Ranked by size and printed as itself: `3`, `0.25`, `1e+300`; a mean with six significant digits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Number {
    /// The sum of those that are exact, in billionths.
    exact: i128,
    /// The sum of the others.
    float: f64,
    /// How many there are, where they make a mean; else 0.
    count: u64,
}

impl Number {
    /// A number as people and programs write them: `-12`, `+0.5`, `.5`, `1e6`, blanks around it allowed. Not
    /// one: what is not finite, and digits that are grouped.
    pub(crate) fn parse(text: &[u8]) -> Option<Number> {
        let text = text.trim_ascii();
        let decimal = Decimal::parse(text)?;
        if let Some(exact) = decimal.units() {
            return Some(Number {
                exact,
                ..Number::default()
            });
        }
        let float: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
        float.is_finite().then_some(Number {
            float,
            ..Number::default()
        })
    }

    /// The mean of this one number, to which others can be added.
    pub(crate) fn mean(self) -> Number {
        Number { count: 1, ..self }
    }

    /// The sum of both, or the mean over both.
    pub(crate) fn add(self, other: Number) -> Number {
        let (exact, overflow) = match self.exact.checked_add(other.exact) {
            Some(exact) => (exact, 0.0),
            // Beyond 10^29: only the leading digits are kept.
            None => (0, units_to_f64(self.exact) + units_to_f64(other.exact)),
        };
        Number {
            exact,
            float: self.float + other.float + overflow,
            count: self.count + other.count,
        }
    }

    /// The smaller one.
    pub(crate) fn min(self, other: Number) -> Number {
        if other.order(&self) == Ordering::Less {
            other
        } else {
            self
        }
    }

    /// The greater one.
    pub(crate) fn max(self, other: Number) -> Number {
        if other.order(&self) == Ordering::Greater {
            other
        } else {
            self
        }
    }

    /// The number as a float, as near as that comes.
    pub(crate) fn to_f64(self) -> f64 {
        let sum = units_to_f64(self.exact) + self.float;
        if self.count > 1 {
            sum / self.count as f64
        } else {
            sum
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

impl Value for Number {
    /// By size. The other parts are compared so that the order is total: two numbers that are the same float
    /// need not be the same.
    fn order(&self, other: &Self) -> Ordering {
        let by_size = self.to_f64().total_cmp(&other.to_f64());
        let by_units = by_size.then(self.exact.cmp(&other.exact));
        by_units
            .then(self.float.total_cmp(&other.float))
            .then(self.count.cmp(&other.count))
    }
}

impl Repr for Number {
    fn write_repr(&self, out: &mut Vec<u8>) {
        if self.count > 0 {
            write_mean(self.to_f64(), out);
        } else if self.float == 0.0 {
            write_units(self.exact, out);
        } else {
            self.to_f64().write_repr(out);
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

/// Six significant digits, or all in front of the point; what a float cannot tell apart is not rounded.
fn write_mean(mean: f64, out: &mut Vec<u8>) {
    let rounded = match mean.abs() {
        1e6..1e15 => mean.round(),
        0.0..1e6 => {
            let digits = format!("{mean:.*e}", MEAN_DIGITS - 1);
            digits.parse().unwrap_or(mean)
        }
        _ => mean,
    };
    let start = out.len();
    rounded.write_repr(out);
    if out[start..].ends_with(b".0") {
        out.truncate(out.len() - 2);
    }
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Number {
        Number::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text:?} is a number"))
    }

    fn shown(number: Number) -> String {
        let mut out = Vec::new();
        number.write_repr(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    fn sum(texts: &[&str]) -> Number {
        texts
            .iter()
            .map(|text| read(text))
            .reduce(Number::add)
            .expect("numbers")
    }

    #[test]
    fn numbers_are_read_and_shown() {
        for (text, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("007", "7"),
            (" +12\t", "12"),
            ("-12.50", "-12.5"),
            (".5", "0.5"),
            ("5.", "5"),
            ("-.000000001", "-0.000000001"),
            ("0.1000000000000", "0.1"),
            ("1e3", "1000"),
            ("1.5E-3", "0.0015"),
            ("12e-1", "1.2"),
            ("9007199254740993", "9007199254740993"),
            (
                "1000000000000000000000000000",
                "1000000000000000000000000000",
            ),
            ("10000000000000000000000000000", "1e+28"),
            ("0.0000000001", "1e-10"),
            ("1e300", "1e+300"),
            ("0e999999999999", "0"),
            (
                "123456789012345678901234567890123456789012345",
                "1.2345678901234567e+44",
            ),
        ] {
            assert_eq!(shown(read(text)), expected, "{text}");
        }
        for text in [
            "", " ", "-", "+", ".", "-.", "e5", ".e5", "1e", "1e+", "1e5.0", "1.2.3", "1 2",
            "1,000", "1_000", "0x10", "inf", "nan", "infinity", "1e999", "--1", "12ms", "é",
        ] {
            assert_eq!(Number::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Number::parse(b"1\xff"), None);
    }

    #[test]
    fn sums_are_exact_where_f64_is_not() {
        assert_eq!(shown(sum(&["0.1", "0.2"])), "0.3");
        assert_eq!(
            shown(sum(&["9007199254740993", "1", "-0.5"])),
            "9007199254740993.5"
        );
        assert_eq!(shown(sum(&["1", "-1"])), "0");
        assert_eq!(shown(sum(&["1e-12", "1"])), "1.000000000001");
        assert_eq!(shown(sum(&["1e30", "1"])), "1e+30");
        let large = read("1000000000000000000000000000");
        let many = (0..8).fold(large, |sum, _| sum.add(sum));
        assert!(
            (many.to_f64() / 2.56e29 - 1.0).abs() < 1e-12,
            "beyond what is exact: {}",
            shown(many)
        );
    }

    #[test]
    fn means_have_six_digits_or_all_in_front_of_the_point() {
        let mean = |texts: &[&str]| {
            let numbers = texts.iter().map(|text| read(text).mean());
            shown(numbers.reduce(Number::add).expect("numbers"))
        };
        for (texts, expected) in [
            (&["1", "2"][..], "1.5"),
            (&["3"], "3"),
            (&["1", "1", "2"], "1.33333"),
            (&["100", "0", "0"], "33.3333"),
            (&["1234567", "1234568"], "1234568"),
            (&["-1", "0", "0"], "-0.333333"),
            (&["0.00001", "0.00002"], "1.5e-05"),
            (&["1e300", "1e300"], "1e+300"),
            (&["0", "0"], "0"),
            (&["999999.9"], "1000000"),
        ] {
            assert_eq!(mean(texts), expected, "{texts:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_agrees_with_std(
            text in prop_oneof![
                any::<Vec<u8>>(),
                "[-+]?[0-9]{0,40}(\\.[0-9]{0,12})?([eE][-+]?[0-9]{0,4})?".prop_map(String::into_bytes),
            ],
        ) {
            let std: Option<f64> = std::str::from_utf8(&text).ok().and_then(|text| text.trim_ascii().parse().ok());
            let std = std.filter(|float| float.is_finite());
            let found = Number::parse(&text).map(Number::to_f64);
            match (found, std) {
                (Some(found), Some(std)) => prop_assert!((found - std).abs() <= std.abs() * 1e-15),
                (None, None) => {}
                // `parse` of std knows words that are no finite numbers, and was filtered.
                other => prop_assert!(false, "{:?}: {other:?}", text.escape_ascii().to_string()),
            }
        }

        /// In any order and any grouping, what i128 gives; extremes too.
        #[test]
        fn aggregates_equal_a_model(numbers in proptest::collection::vec((any::<i64>(), 0u32..=9), 1..50)) {
            let texts: Vec<String> = numbers.iter().map(|&(units, places)| {
                let (sign, digits) = (if units < 0 { "-" } else { "" }, units.unsigned_abs());
                let one = 10u64.pow(places);
                format!("{sign}{}.{:0width$}", digits / one, digits % one, width = places as usize)
            }).collect();
            let read: Vec<Number> = texts.iter().map(|text| read(text)).collect();
            let exact = |&(units, places): &(i64, u32)| i128::from(units) * 10i128.pow(9 - places);
            let exact: Vec<i128> = numbers.iter().map(exact).collect();
            let (left, right) = read.split_at(read.len() / 2);
            let fold = |numbers: &[Number]| numbers.iter().copied().reduce(Number::add).unwrap_or_default();
            let sum = fold(right).add(fold(left));
            prop_assert_eq!(sum.exact, exact.iter().sum::<i128>());
            prop_assert_eq!(sum.float, 0.0);
            prop_assert_eq!(read.iter().copied().reduce(Number::min).map(|n| n.exact), exact.iter().copied().min());
            prop_assert_eq!(read.iter().copied().reduce(Number::max).map(|n| n.exact), exact.iter().copied().max());
            // What is shown is read as the same.
            prop_assert_eq!(Number::parse(shown(sum).as_bytes()).map(|n| n.exact), Some(sum.exact));
        }

        #[test]
        fn the_order_is_total(
            numbers in proptest::collection::vec(
                prop_oneof!["[0-9]{1,20}", "1[0-9]{25}\\.[0-9]", "[0-9]{1,3}e2[0-9]", "0\\.[0-9]{1,12}"],
                3..20,
            ),
        ) {
            let mut numbers: Vec<Number> = numbers.iter().map(|text| read(text)).collect();
            numbers.sort_by(Value::order);
            for (index, a) in numbers.iter().enumerate() {
                for b in &numbers[index..] {
                    prop_assert_ne!(a.order(b), Ordering::Greater);
                    prop_assert_eq!(a.order(b), b.order(a).reverse());
                }
            }
        }
    }
}
