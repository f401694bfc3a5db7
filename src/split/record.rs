//! Splits one record: what a rule makes of bytes whose end is the end of the slice.
//!
//! Promise: of a line what `scalar` makes of it inside a block. Refuses to know: blocks, kernels.
//!
//! Records that operators made lie anywhere in a block, so there is no index to walk along: each part is
//! searched for.

use super::Rule;

impl Rule {
    /// The parts of `record`: Python's `record.split(separator)` and `record.split()` for bytes, and for
    /// [`Rule::Lines`] `record.splitlines()`, but that an empty record is one empty line. A `\n` or `\r` in
    /// a record is a byte like any other under [`Rule::Split`].
    #[inline]
    pub(crate) fn parts(self, record: &[u8]) -> Parts<'_> {
        Parts {
            rule: self,
            rest: Some(record),
        }
    }
}

/// See [`Rule::parts`].
pub(crate) struct Parts<'b> {
    rule: Rule,
    /// What follows the last separator; `None` behind the last part.
    rest: Option<&'b [u8]>,
}

impl<'b> Iterator for Parts<'b> {
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
                let is_blank = |&byte: &u8| Rule::SplitWhitespace.is_delimiter(byte);
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

#[cfg(test)]
mod tests {
    use super::super::{is_line_end, scalar};
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
                scalar::tokens(&block, rule, |token| expected.push(token));
                prop_assert_eq!(parts(rule, line.as_bytes()), expected, "{:?}", rule);
            }
        }

        #[test]
        fn any_record_is_split_as_by_python(record in "[ab ,\\n\\r]{0,40}") {
            let record = record.as_bytes();
            let split: Vec<&[u8]> = record.split(|&byte| byte == b',').collect();
            prop_assert_eq!(parts(Rule::Split(b','), record), split);
            let words = record.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            prop_assert_eq!(parts(Rule::SplitWhitespace, record), words.collect::<Vec<_>>());
            // `\r\n` made one byte, each end ends a line, and what is left is a line if it is not empty.
            let text = String::from_utf8_lossy(record).replace("\r\n", "\n");
            let mut lines: Vec<&str> = text.split(|c| is_line_end(c as u8)).collect();
            if lines.len() > 1 && lines.last() == Some(&"") {
                lines.pop();
            }
            let lines: Vec<&[u8]> = lines.into_iter().map(str::as_bytes).collect();
            prop_assert_eq!(parts(Rule::Lines, record), lines);
        }
    }
}
