//! Splits one record, whose end is the end of the slice.
//!
//! Promise: the tokens that `scalar` finds in the line inside a block. Must not know: blocks,
//! kernels.
//!
//! Records that operators made are anywhere in a block, so there is no index to walk along: each
//! part is searched for.
//!
//! One part of many is found without finding the others. The naive version is
//! `parts(record).nth(number)`, which begins a search for each part in front. What was done:
//!
//! 1. Eight bytes at once, as one number: a comparison leaves the top bit of each wanted byte, and
//!    a product adds these bits up. The bytes of a record in front of its part are looked at once.
//! 2. A word that ends the search is taken apart by clearing its lowest flags; no other word is.
//! 3. Nothing behind the part is looked at. That is where the index of a whole block loses: a log
//!    line's first field ends long before its line.
//!
//! Dropped: `memchr_iter(…).nth(…)`, which is quick over long stretches, but starts anew at every
//! hit.

use super::Rule;

impl Rule {
    /// The parts of `record`: Python's `record.split(separator)` and `record.split()` for bytes,
    /// and for [`Rule::Lines`] `record.splitlines()`, except that an empty record is one empty
    /// line. A `\n` or `\r` in a record is an ordinary byte under [`Rule::Split`].
    #[inline]
    pub(crate) fn parts(self, record: &[u8]) -> RecordParts<'_> {
        RecordParts {
            rule: self,
            rest: Some(record),
        }
    }

    /// The numbered part of `record`, the first one being 0: Python's
    /// `record.split(separator)[number]` and `record.split()[number]`. `None` if there are fewer.
    /// What is behind the part is not looked at.
    ///
    /// ```
    /// use microtally::Rule;
    /// assert_eq!(Rule::Split(b',').part(b"a,,c", 1), Some(&b""[..]));
    /// assert_eq!(Rule::SplitWhitespace.part(b" a  b\t", 1), Some(&b"b"[..]));
    /// assert_eq!(Rule::SplitWhitespace.part(b" a  b\t", 2), None);
    /// ```
    #[inline]
    pub fn part(self, record: &[u8], number: usize) -> Option<&[u8]> {
        match self {
            Rule::Split(separator) => field(record, number, separator),
            Rule::SplitWhitespace => word(record, number),
            Rule::Lines => self.parts(record).nth(number),
        }
    }
}

/// The parts of a record under a rule.
pub(crate) struct RecordParts<'b> {
    rule: Rule,
    /// What follows the last separator; `None` behind the last part.
    rest: Option<&'b [u8]>,
}

impl<'b> Iterator for RecordParts<'b> {
    type Item = &'b [u8];

    #[inline]
    fn next(&mut self) -> Option<&'b [u8]> {
        let rest = self.rest.take()?;
        match self.rule {
            Rule::Split(separator) => {
                let Some(end) = memchr::memchr(separator, rest) else {
                    return Some(rest);
                };
                self.rest = Some(&rest[end + 1..]);
                Some(&rest[..end])
            }
            Rule::SplitWhitespace => {
                let is_blank = |&byte: &u8| Rule::SplitWhitespace.separates_at(byte);
                let start = rest.iter().position(|byte| !is_blank(byte))?;
                let rest = &rest[start..];
                let end = rest.iter().position(is_blank).unwrap_or(rest.len());
                self.rest = Some(&rest[end..]);
                Some(&rest[..end])
            }
            Rule::Lines => {
                let Some(end) = memchr::memchr2(b'\n', b'\r', rest) else {
                    return Some(rest);
                };
                let is_pair = rest[end..].starts_with(b"\r\n");
                let after = &rest[end + 1 + usize::from(is_pair)..];
                self.rest = Some(after).filter(|after| !after.is_empty());
                Some(&rest[..end])
            }
        }
    }
}

/// The numbered part of `record`, the first one being 0, where every `separator` separates:
/// `Rule::Split(separator).parts(record).nth(number)`.
#[inline]
pub(crate) fn field(record: &[u8], number: usize, separator: u8) -> Option<&[u8]> {
    let pattern = ONES * u64::from(separator);
    let mut separators = Flags::new(record, move |word| zeros(word ^ pattern));
    let start = match number.checked_sub(1) {
        None => 0,
        Some(before) => separators.nth(before)? + 1,
    };
    let end = separators.nth(0).unwrap_or(record.len());
    Some(&record[start..end])
}

/// The numbered part of `record`, the first one being 0, where runs of blanks separate:
/// `Rule::SplitWhitespace.parts(record).nth(number)`.
#[inline]
pub(crate) fn word(record: &[u8], number: usize) -> Option<&[u8]> {
    // A part begins at a byte that is no blank, behind a blank or nothing. What is behind the
    // record begins nothing, because `Flags` cuts it off.
    let mut before = 0;
    let mut starts = Flags::new(record, move |word| {
        let inside = blanks(word) ^ TOPS;
        let starts = inside & !(inside << 8 | before);
        before = inside >> 56;
        starts
    });
    let start = starts.nth(number)?;
    let rest = &record[start..];
    let end = Flags::new(rest, blanks).nth(0).unwrap_or(rest.len());
    Some(&rest[..end])
}

/// A one in each byte.
const ONES: u64 = u64::MAX / 0xff;
/// The top bit of each byte.
const TOPS: u64 = ONES << 7;

/// The top bit of each byte that is zero.
#[inline(always)]
fn zeros(word: u64) -> u64 {
    // No byte carries into the next: its top bit is cleared before the addition.
    !((word & !TOPS).wrapping_add(!TOPS) | word) & TOPS
}

/// The top bit of each byte that is a blank: a space, or 9 to 13.
#[inline(always)]
fn blanks(word: u64) -> u64 {
    let low = word & !TOPS;
    let from_9 = low + ONES * (0x80 - 9);
    let from_14 = low + ONES * (0x80 - 14);
    let spaces = zeros(word ^ (ONES * u64::from(b' ')));
    spaces | from_9 & !from_14 & !word & TOPS
}

/// The positions in a record that a function flags in eight bytes at a time, in order.
struct Flags<'b, M> {
    record: &'b [u8],
    flag: M,
    /// Where the next eight bytes begin.
    at: usize,
    /// The remaining flags of the eight bytes before `at`.
    flags: u64,
}

impl<'b, M: FnMut(u64) -> u64> Flags<'b, M> {
    #[inline(always)]
    fn new(record: &'b [u8], flag: M) -> Self {
        Flags {
            record,
            flag,
            at: 0,
            flags: 0,
        }
    }

    /// The position of the flag behind `skipped` others.
    #[inline(always)]
    fn nth(&mut self, mut skipped: usize) -> Option<usize> {
        loop {
            // At most eight, so the sum fits the top byte.
            let count = ((self.flags >> 7).wrapping_mul(ONES) >> 56) as usize;
            if skipped < count {
                for _ in 0..skipped {
                    self.flags &= self.flags - 1;
                }
                let byte = self.flags.trailing_zeros() as usize / 8;
                self.flags &= self.flags - 1;
                return Some(self.at - 8 + byte);
            }
            skipped -= count;
            self.flags = match self.record.get(self.at..).and_then(<[u8]>::first_chunk) {
                Some(word) => (self.flag)(u64::from_le_bytes(*word)),
                None => self.last_flags()?,
            };
            self.at += 8;
        }
    }

    /// The flags of the last bytes, fewer than eight, if there are any.
    #[inline(always)]
    fn last_flags(&mut self) -> Option<u64> {
        let rest = self.record.get(self.at..)?;
        if rest.is_empty() {
            return None;
        }
        // The last eight bytes of the record, those that were looked at shifted out; a shorter
        // record as a whole.
        let word = match self.record.last_chunk() {
            Some(last) => u64::from_le_bytes(*last) >> (8 * (8 - rest.len())),
            None => rest
                .iter()
                .rev()
                .fold(0, |word, &byte| word << 8 | u64::from(byte)),
        };
        let valid = u64::MAX >> (8 * (8 - rest.len()));
        Some((self.flag)(word) & valid)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LineEnds, scalar};
    use super::*;
    use proptest::prelude::*;

    const RULES: [Rule; 5] = [
        Rule::Split(b' '),
        Rule::Split(b','),
        Rule::Split(0),
        Rule::SplitWhitespace,
        Rule::Lines,
    ];

    fn parts(rule: Rule, record: &[u8]) -> Vec<&[u8]> {
        rule.parts(record).collect()
    }

    proptest! {
        #[test]
        fn a_line_is_split_as_inside_a_block(line in "[ab ,\\t\\x00\\x0b]{0,40}") {
            let block = [line.as_bytes(), b"\n"].concat();
            for rule in RULES {
                let mut expected = Vec::new();
                scalar::tokens(&block, rule, LineEnds::Universal, |token| expected.push(token));
                prop_assert_eq!(parts(rule, line.as_bytes()), expected, "{:?}", rule);
            }
        }

        /// Every byte as separator and in records, at every place in eight bytes.
        #[test]
        fn one_part_is_the_same_part_of_all(
            record in prop_oneof![
                proptest::collection::vec(prop_oneof![Just(b' '), 7u8..16, any::<u8>()], 0..60),
                proptest::collection::vec(prop_oneof![3 => Just(b' '), 1 => Just(b'x'), 1 => Just(0)], 0..60),
            ],
            separator in prop_oneof![Just(b' '), Just(0), Just(0xff), any::<u8>()],
        ) {
            for from in 0..record.len().min(9) {
                let record = &record[from..];
                for rule in [Rule::Split(separator), Rule::SplitWhitespace, Rule::Lines] {
                    let parts = parts(rule, record);
                    for number in 0..parts.len() + 2 {
                        prop_assert_eq!(rule.part(record, number), parts.get(number).copied(), "{:?}", rule);
                    }
                }
            }
        }

        #[test]
        fn any_record_is_split_as_by_python(record in "[ab ,\\n\\r]{0,40}") {
            let record = record.as_bytes();
            let split: Vec<&[u8]> = record.split(|&byte| byte == b',').collect();
            prop_assert_eq!(parts(Rule::Split(b','), record), split);
            let words = record.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            prop_assert_eq!(parts(Rule::SplitWhitespace, record), words.collect::<Vec<_>>());
            // With `\r\n` made one byte, each end ends a line, and what remains is a line unless it
            // is empty.
            let text = String::from_utf8_lossy(record).replace("\r\n", "\n");
            let mut lines: Vec<&str> = text.split(['\n', '\r']).collect();
            if lines.len() > 1 && lines.last() == Some(&"") {
                lines.pop();
            }
            let lines: Vec<&[u8]> = lines.into_iter().map(str::as_bytes).collect();
            prop_assert_eq!(parts(Rule::Lines, record), lines);
        }
    }
}
