//! What the fuzz targets share: the oracle of the crate's own tests, and how fuzzer bytes become
//! rules and pieces.

#[path = "../../tests/oracle/definition.rs"]
pub mod definition;

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use microtally::Rule;
use microtally::config::LineEnds;
use microtally::internals::KeyTable;

/// A rule, any separator included.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum AnyRule {
    Space,
    Separator(u8),
    Whitespace,
    Lines,
}

impl From<AnyRule> for Rule {
    fn from(rule: AnyRule) -> Rule {
        match rule {
            AnyRule::Space => Rule::Split(b' '),
            AnyRule::Separator(separator) => Rule::Split(separator),
            AnyRule::Whitespace => Rule::SplitWhitespace,
            AnyRule::Lines => Rule::Lines,
        }
    }
}

/// Any way in which records end.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum AnyEnds {
    Universal,
    Lf,
    Nul,
}

impl From<AnyEnds> for LineEnds {
    fn from(ends: AnyEnds) -> LineEnds {
        match ends {
            AnyEnds::Universal => LineEnds::Universal,
            AnyEnds::Lf => LineEnds::Lf,
            AnyEnds::Nul => LineEnds::Nul,
        }
    }
}

/// What happens next on a connection. Long runs are rare in fuzzer bytes, so they are an operation.
#[derive(Arbitrary, Clone, Debug)]
pub enum Step<'a> {
    Push(&'a [u8]),
    Repeat { byte: u8, count: u8 },
    /// A whole record, if no line has begun.
    Record(&'a [u8]),
    Cut,
    End,
}

impl Step<'_> {
    /// The bytes this step brings.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Step::Push(bytes) => bytes.to_vec(),
            Step::Repeat { byte, count } => vec![*byte; usize::from(*count)],
            Step::Record(_) | Step::Cut | Step::End => Vec::new(),
        }
    }
}

/// Adds to a table and to its model.
pub fn add(table: &mut KeyTable<u64>, model: &mut BTreeMap<Vec<u8>, u64>, key: &[u8], value: u64) {
    table.add(key, value, |a, b| a + b);
    *model.entry(key.to_vec()).or_default() += value;
}

/// Undoes the escapes of `write_escaped`.
pub fn unescape(text: &str) -> Vec<u8> {
    let mut key = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        key.extend_from_slice(&rest.as_bytes()[..at]);
        let (byte, len) = match rest.as_bytes()[at + 1] {
            b'x' => (
                u8::from_str_radix(&rest[at + 2..at + 4], 16).expect("two digits"),
                4,
            ),
            b't' => (b'\t', 2),
            b'n' => (b'\n', 2),
            b'r' => (b'\r', 2),
            b'\\' => (b'\\', 2),
            other => panic!("an escape that nobody writes: {other}"),
        };
        key.push(byte);
        rest = &rest[at + len..];
    }
    key.extend_from_slice(rest.as_bytes());
    key
}
