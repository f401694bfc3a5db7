//! Numbers against the standard library, whole numbers and fractions.

use super::*;
use proptest::prelude::*;

fn read(text: &str) -> Number {
    let number = Number::parse(text.as_bytes());
    number.unwrap_or_else(|reason| panic!("{text:?} is a number: {reason:?}"))
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
        "", " ", "-", "+", ".", "-.", "e5", ".e5", "1e", "1e+", "1e5.0", "1.2.3", "1 2", "1,000",
        "1_000", "0x10", "inf", "nan", "infinity", "--1", "12ms", "é",
    ] {
        let read = Number::parse(text.as_bytes());
        assert_eq!(read, Err(ParseNumberError::NotANumber), "{text}");
    }
    assert_eq!(Number::parse(b"1\xff"), Err(ParseNumberError::NotANumber));
}

#[test]
fn a_number_beyond_a_double_is_too_large_and_not_no_number() {
    let digits = "9".repeat(400);
    for text in [
        "1e400",
        "-1e400",
        " 1.8e308 ",
        "1e999999999999",
        digits.as_str(),
    ] {
        let read = Number::parse(text.as_bytes());
        assert_eq!(read, Err(ParseNumberError::TooLarge), "{text}");
    }
    assert_eq!(
        shown(read("1.7976931348623157e308")),
        "1.7976931348623157e+308"
    );
    assert_eq!(shown(read("1e-400")), "0");
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
fn a_sum_beyond_a_double_is_null_and_no_order_makes_it_infinite() {
    assert_eq!(shown(sum(&["1e308", "1e308"])), "null");
    assert_eq!(shown(sum(&["-1e308", "-1e308", "5"])), "null");
    assert!(sum(&["1e308", "1e308"]).is_null());
    assert!(!sum(&["1e308", "7e307"]).is_null());
    for order in [
        ["1e308", "1e308", "-1e308", "1.5"],
        ["-1e308", "1e308", "1.5", "1e308"],
        ["1.5", "1e308", "-1e308", "1e308"],
    ] {
        assert_eq!(shown(sum(&order)), "1e+308", "{order:?}");
    }
    assert_eq!(
        shown(sum(&["1e308", "1e308", "-1e308", "-1e308", "3"])),
        "3"
    );
    assert_eq!(shown(sum(&["1e300", "2e-310"])), "1e+300");
    assert_eq!(shown(read("2e-310").max(read("1e-310"))), "2e-310");
    let many = (0..64).fold(read("1.7e308"), |sum, _| sum.add(sum));
    assert!(many.is_null() && many.float.is_finite(), "{many:?}");
    // Such sums are above or below all others.
    let above = sum(&["1e308", "1e308"]);
    assert_eq!(above.order(&read("1.7e308")), Ordering::Greater);
    let below = sum(&["-1e308", "-1e308"]);
    assert_eq!(below.order(&read("-1.7e308")), Ordering::Less);
}

#[test]
fn the_greatest_numbers_compare_by_size_however_they_are_held() {
    let texts = ["-1e308", "-1e290", "-9e287", "1", "9e287", "1e290", "1e308"];
    for (index, text) in texts.iter().enumerate() {
        for (other_index, other) in texts.iter().enumerate() {
            let expected = index.cmp(&other_index);
            assert_eq!(read(text).order(&read(other)), expected, "{text} {other}");
        }
    }
}

#[test]
fn means_are_the_shortest_text_that_reads_back() {
    let mean = |texts: &[&str]| {
        let numbers = texts.iter().map(|text| read(text).over(1));
        shown(numbers.reduce(Number::add).expect("numbers"))
    };
    for (texts, expected) in [
        (&["1", "2"][..], "1.5"),
        (&["3"], "3"),
        (&["1", "1", "2"], "1.3333333333333333"),
        (&["100", "0", "0"], "33.333333333333336"),
        (&["1234567", "1234568"], "1234567.5"),
        (&["-1", "0", "0"], "-0.3333333333333333"),
        (&["0.1", "0.2"], "0.15"),
        (&["0.00001", "0.00002"], "0.000015"),
        (&["1e300", "1e300"], "1e+300"),
        (&["1e308", "1e308"], "1e+308"),
        (&["1.7e308", "1.7e308"], "1.7e+308"),
        (&["0", "0"], "0"),
        (&["999999.9"], "999999.9"),
        (
            &["9007199254740993", "9007199254740993"],
            "9007199254740993",
        ),
        (&["0.000000001", "0"], "5e-10"),
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
            (Ok(found), Some(std)) => prop_assert!((found - std).abs() <= std.abs() * 1e-15),
            (Err(_), None) => {}
            // `parse` of std accepts words that are not finite numbers; they were filtered.
            other => prop_assert!(false, "{:?}: {other:?}", text.escape_ascii().to_string()),
        }
    }

    /// In any order and grouping the sum is that of i128, and so are extremes.
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
        // A printed number reads back as the same.
        prop_assert_eq!(Number::parse(shown(sum).as_bytes()).map(|n| n.exact), Ok(sum.exact));
    }

    /// No double is nearer to an exact mean than the printed one.
    #[test]
    fn an_exact_mean_is_the_nearest_double(
        units in any::<i64>(),
        zeros in 0u32..=9,
        count in prop_oneof![1u64..100, 1u64..1_000_000],
    ) {
        let units = i128::from(units) * 10i128.pow(zeros);
        prop_assume!(units != 0);
        let found = quotient(units, count);
        prop_assert_eq!(found < 0.0, units < 0);
        let near = [found.abs(), found.abs().next_up(), found.abs().next_down()];
        // Each as a whole number times a power of two, all scaled by the least of these.
        let parts = near.map(|float| {
            let (exponent, mantissa) = (float.to_bits() >> 52, float.to_bits() & ((1 << 52) - 1));
            (u128::from(mantissa | 1 << 52), exponent as i32 - 1075)
        });
        let least = parts.iter().map(|part| part.1).min().expect("three").min(0);
        let distances = parts.map(|(mantissa, exponent)| {
            let float = (mantissa << (exponent - least)) * UNITS as u128 * u128::from(count);
            float.abs_diff(units.unsigned_abs() << -least)
        });
        prop_assert!(distances[0] <= distances[1] && distances[0] <= distances[2], "{} / {}", units, count);
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
