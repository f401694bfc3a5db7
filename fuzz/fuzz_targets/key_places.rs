//! Places of keys and values against obvious programs: JSON pointers against `serde_json`, CSV
//! against a reader that goes byte by byte, numbers against exact fractions.
#![no_main]
#![allow(dead_code)]

#[path = "../../src/bin/microtally/parse/keys.rs"]
mod keys;

use std::fmt::Write;
use std::ops::Add;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use microtally::extract::{Column, Finder, Missing, Number, ParseNumberError, Pointer, Separator};
use microtally::sink::Repr;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    /// A document as it comes, and the steps of a pointer.
    Json {
        line: &'a [u8],
        steps: Vec<u8>,
    },
    /// A document that is one, and which byte of it is replaced.
    Document {
        node: Node,
        steps: Vec<u8>,
        damage: Option<(u16, u8)>,
    },
    Csv {
        line: &'a [u8],
        separator: u8,
    },
    /// Hundredths of a millionth and the like: units and places.
    Numbers(Vec<(i64, u8)>),
    /// A number as it comes.
    Number(&'a str),
    /// A key as it is typed, and a line.
    Key {
        text: &'a str,
        line: &'a [u8],
    },
}

#[derive(Arbitrary, Debug)]
enum Node {
    Null,
    Number(i32),
    Text(String),
    /// Half of a character.
    Surrogate(u16),
    List(Vec<Node>),
    Object(Vec<(u8, Node)>),
}

/// Few enough to be met.
const NAMES: [&str; 6] = ["a", "b", "0", "1", "", "é\""];

fn name(number: u8) -> &'static str {
    NAMES[usize::from(number) % NAMES.len()]
}

fuzz_target!(|input: Input<'_>| {
    match input {
        Input::Json { line, steps } => check_json(line, &steps),
        Input::Document {
            node,
            steps,
            damage,
        } => {
            let mut text = String::new();
            write_node(&node, 0, &mut text);
            let mut line = text.into_bytes();
            if let Some((at, byte)) = damage {
                let at = usize::from(at) % line.len();
                line[at] = byte;
            }
            check_json(&line, &steps);
        }
        Input::Csv { line, separator } => check_csv(line, separator),
        Input::Numbers(numbers) => check_numbers(&numbers),
        Input::Number(text) => check_number(text),
        Input::Key { text, line } => {
            let _ = keys::value(text);
            for part in keys::key(text).into_iter().flat_map(|key| key.parts) {
                if let Ok(mut finder) = Finder::new(&part, Separator::Blanks, "key") {
                    let mut out = b"before".to_vec();
                    let found = finder.find(line, &mut out);
                    assert!(found.is_ok() || out == b"before");
                }
            }
        }
    }
});

fn write_node(node: &Node, depth: u32, out: &mut String) {
    match node {
        _ if depth > 20 => out.push('0'),
        Node::Null => out.push_str("null"),
        Node::Number(number) => write!(out, "{number}").expect("memory"),
        Node::Text(text) => out.push_str(&serde_json::to_string(text).expect("a string")),
        Node::Surrogate(low) => {
            write!(out, "\"\\u{:04x}\"", 0xd800 | low & 0x7ff).expect("memory");
        }
        Node::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_node(item, depth + 1, out);
            }
            out.push(']');
        }
        Node::Object(members) => {
            out.push('{');
            for (index, (number, member)) in members.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                let name = serde_json::to_string(name(*number)).expect("a string");
                write!(out, "{name}:").expect("memory");
                write_node(member, depth + 1, out);
            }
            out.push('}');
        }
    }
}

fn check_json(line: &[u8], steps: &[u8]) {
    let names: Vec<String> = steps
        .iter()
        .take(8)
        .map(|step| name(*step).into())
        .collect();
    let pointer: String = names.iter().map(|name| format!("/{name}")).collect();
    let mut out = b"before ".to_vec();
    let found = Pointer::new(&names).find(line, &mut out);
    let found = found.map(|()| &out[b"before ".len()..]);
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok();
    match serde_json::from_slice::<serde_json::Value>(line) {
        Ok(document) => match document.pointer(&pointer) {
            None => assert_eq!(found, Err(Missing::Absent)),
            Some(serde_json::Value::String(text)) => assert_eq!(found, Ok(text.as_bytes())),
            // A number may be written in more than one way; a list and an object read back as
            // themselves.
            Some(value) => {
                let found = found.expect("there is a value");
                assert_eq!(
                    &serde_json::from_slice::<serde_json::Value>(found).expect("JSON"),
                    value
                );
            }
        },
        // What is not on the way is not looked into: half a character there does no harm.
        Err(_) if is_json => assert_ne!(found, Err(Missing::NotJson)),
        Err(_) => assert_eq!(found, Err(Missing::NotJson)),
    }
    if found.is_err() {
        assert_eq!(out, b"before ");
    }
}

fn check_csv(line: &[u8], separator: u8) {
    if line.contains(&b'\n') || matches!(separator, b'"' | b'\n') {
        return;
    }
    let (mut columns, mut is_quoted, mut is_start) = (vec![Vec::new()], false, true);
    let mut bytes = line.iter().peekable();
    while let Some(&byte) = bytes.next() {
        let column: &mut Vec<u8> = columns.last_mut().expect("there is one from the beginning");
        match byte {
            b'"' if is_quoted && bytes.peek() == Some(&&b'"') => {
                bytes.next();
                column.push(b'"');
            }
            b'"' if is_quoted => is_quoted = false,
            b'"' if is_start => is_quoted = true,
            _ if byte == separator && !is_quoted => {
                columns.push(Vec::new());
                is_start = true;
                continue;
            }
            _ => column.push(byte),
        }
        is_start = false;
    }
    if line.is_empty() {
        columns.clear();
    }
    for number in 0..columns.len() + 2 {
        let mut column = Column::new(number, separator);
        let mut out = Vec::new();
        let is_there = column.find(line, &mut out);
        assert_eq!(is_there.then_some(&out), columns.get(number));
        assert_eq!(column.take_open(), is_quoted);
    }
}

/// Sums, extremes and means of decimal fractions with up to nine places: a sum is a whole number of
/// billionths, a mean that and a count.
fn check_numbers(numbers: &[(i64, u8)]) {
    let parts: Vec<(i128, Number)> = numbers
        .iter()
        .map(|&(units, places)| {
            let places = u32::from(places % 10);
            let (sign, units_abs) = (if units < 0 { "-" } else { "" }, units.unsigned_abs());
            let one = 10u64.pow(places);
            let (whole, rest) = (units_abs / one, units_abs % one);
            let text = format!("{sign}{whole}.{rest:0width$}", width = places as usize);
            let number = Number::parse(text.as_bytes()).expect("a number");
            (i128::from(units) * 10i128.pow(9 - places), number)
        })
        .collect();
    let Some(sum) = parts.iter().map(|part| part.1).reduce(Number::add) else {
        return;
    };
    let units: i128 = parts.iter().map(|part| part.0).sum();
    assert_eq!(billionths(&shown(sum)), units);
    let least = parts
        .iter()
        .map(|part| part.1)
        .reduce(Number::min)
        .map(shown);
    assert_eq!(
        least.map(|text| billionths(&text)),
        parts.iter().map(|part| part.0).min()
    );
    let most = parts
        .iter()
        .map(|part| part.1)
        .reduce(Number::max)
        .map(shown);
    assert_eq!(
        most.map(|text| billionths(&text)),
        parts.iter().map(|part| part.0).max()
    );
    let mean = parts
        .iter()
        .map(|part| part.1.over(1))
        .reduce(Number::add)
        .expect("numbers");
    check_mean(mean.to_f64(), units, numbers.len() as u128);
    let read: f64 = shown(mean).parse().expect("a float");
    assert_eq!(read, mean.to_f64(), "what is shown reads back");
}

fn shown(number: Number) -> String {
    let mut out = Vec::new();
    number.write_repr(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

/// An exact decimal of at most nine places.
fn billionths(text: &str) -> i128 {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
    sign * format!("{whole}{rest:0<9}")
        .parse::<i128>()
        .expect("digits")
}

/// `units / 10^9 / count` lies no nearer to the doubles beside `float` than to itself.
fn check_mean(float: f64, units: i128, count: u128) {
    if units == 0 {
        assert_eq!(float, 0.0);
        return;
    }
    assert_eq!(float < 0.0, units < 0);
    let near = [float.abs(), float.abs().next_up(), float.abs().next_down()];
    let parts = near.map(|float| {
        let (exponent, mantissa) = (float.to_bits() >> 52, float.to_bits() & ((1 << 52) - 1));
        (u128::from(mantissa | 1 << 52), exponent as i32 - 1075)
    });
    let least = parts.iter().map(|part| part.1).min().expect("three").min(0);
    let distances = parts.map(|(mantissa, exponent)| {
        let float = (mantissa << (exponent - least)) * 1_000_000_000 * count;
        float.abs_diff(units.unsigned_abs() << -least)
    });
    assert!(distances[0] <= distances[1] && distances[0] <= distances[2]);
}

fn check_number(text: &str) {
    let std: Option<f64> = text
        .trim_matches(|c: char| c.is_ascii_whitespace())
        .parse()
        .ok();
    match Number::parse(text.as_bytes()) {
        Ok(number) => {
            let std = std.expect("std reads it too");
            assert!((number.to_f64() - std).abs() <= std.abs() * 1e-15);
            let read: f64 = shown(number).parse().expect("a float");
            assert_eq!(read, std, "what is shown reads back");
        }
        Err(ParseNumberError::TooLarge) => assert!(std.is_some_and(f64::is_infinite)),
        // std knows words besides numbers.
        Err(ParseNumberError::NotANumber) => assert!(std.is_none_or(|float| !float.is_finite())),
    }
}
