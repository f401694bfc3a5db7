//! What ends a token, and where a stream may be cut.
//!
//! Promise: cutting behind a delimiter changes no token. Must not know: sources, rings, kernels.

use crate::split::line_ends::LineEnds;

/// What ends a token.
///
/// A record end (see [`LineEnds`]) ends a token under every rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Rule {
    /// Python's `line.split(separator)`: every separator ends a token and so does the line end;
    /// empty tokens count. A line never contains a `\n` or a `\r`, so with one of these as the
    /// separator the token is the line.
    Split(u8),
    /// Python's `line.split()` on ASCII: space, `\t`, `\n`, `\v`, `\f` and `\r` separate; there
    /// are no empty tokens.
    SplitWhitespace,
    /// The token is the line without its end; empty lines count.
    #[default]
    Lines,
}

impl Rule {
    /// Returns `true` if `byte` ends a token within a record.
    #[inline]
    pub fn separates_at(self, byte: u8) -> bool {
        match self {
            Rule::Split(separator) => byte == separator,
            Rule::SplitWhitespace => byte == b' ' || (9..=13).contains(&byte),
            Rule::Lines => false,
        }
    }
}

/// Where a stream may be cut without changing its tokens: behind what ends a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Delimiters {
    pub(crate) rule: Rule,
    pub(crate) line_ends: LineEnds,
}

impl Delimiters {
    /// Returns `true` if `byte` is part of no token, whatever follows it. A block may be cut behind
    /// such a byte. If it is cut inside a `\r\n` that ends a record, whoever cuts removes the `\n`.
    #[inline]
    pub(crate) fn contain(self, byte: u8) -> bool {
        self.line_ends.is_end(byte) || self.rule.separates_at(byte)
    }

    /// The position of the first delimiter of `bytes`. For long stretches without one, where
    /// `memchr` is at its best.
    pub(crate) fn find(self, bytes: &[u8]) -> Option<usize> {
        match (self.rule, self.line_ends) {
            (Rule::Lines, ends) => ends.first_end(bytes),
            (Rule::Split(separator), LineEnds::Universal) => {
                memchr::memchr3(separator, b'\n', b'\r', bytes)
            }
            (Rule::Split(separator), ends) => memchr::memchr2(separator, ends.terminator(), bytes),
            (Rule::SplitWhitespace, _) => bytes.iter().position(|&byte| self.contain(byte)),
        }
    }

    /// The end to append to a record that ends in these bytes and has no end. A `\r` that is part
    /// of the record, and separates nothing, must not become part of the end.
    pub(crate) fn end_behind(self, record: &[u8]) -> &'static [u8] {
        match self.line_ends {
            LineEnds::Lf if self.content_len(record, b"") < record.len() => b"\r\n",
            LineEnds::Universal | LineEnds::Lf => b"\n",
            LineEnds::Nul => b"\0",
        }
    }

    /// Bytes of `head` and `tail` that are the content of a record, or token, that ends behind them
    /// or goes on. A `\r` at the end is not among them if a `\n` behind it would end the record
    /// together with it: the next byte decides. At the end of a stream there is none, and the `\r`
    /// is content.
    pub(crate) fn content_len(self, head: &[u8], tail: &[u8]) -> usize {
        let is_undecided = self.line_ends == LineEnds::Lf
            && tail.last().or(head.last()) == Some(&b'\r')
            && !self.rule.separates_at(b'\r');
        head.len() + tail.len() - usize::from(is_undecided)
    }

    /// The position of the last delimiter of `bytes`.
    pub(crate) fn rfind(self, bytes: &[u8]) -> Option<usize> {
        match (self.rule, self.line_ends) {
            (Rule::Lines, ends) => ends.last_end(bytes),
            (Rule::Split(separator), LineEnds::Universal) => {
                memchr::memrchr3(separator, b'\n', b'\r', bytes)
            }
            (Rule::Split(separator), ends) => memchr::memrchr2(separator, ends.terminator(), bytes),
            (Rule::SplitWhitespace, _) => bytes.iter().rposition(|&byte| self.contain(byte)),
        }
    }
}
