//! The definition of splitting, twice: as an index and as tokens.
//!
//! Promise: obvious. One byte at a time, no tricks; every other kernel is tested against `index`,
//! and `Splitter::tokens` against `tokens`, which shares no code with the index.
//! Refuses to know: chunks, vectors, speed.

use super::{Found, Kernel, Rule, Tallied, assert_ends_with_delimiter, is_line_end};

pub(super) const KERNEL: Kernel = Kernel {
    name: "scalar",
    index,
};

/// Calls `f` for each token of `block`, in order, by taking line after line and splitting each.
///
/// # Panics
///
/// If `block` is neither empty nor ends with a delimiter.
pub fn tokens<'b>(block: &'b [u8], rule: Rule, mut f: impl FnMut(&'b [u8])) -> Tallied {
    assert_ends_with_delimiter(block, rule);
    let mut tallied = Tallied::default();
    let mut token = |token: &'b [u8]| {
        tallied.tokens += 1;
        f(token);
    };
    let mut rest = block;
    while !rest.is_empty() {
        let line_len = rest.iter().position(|&byte| is_line_end(byte));
        let (line, line_end_len) = match line_len {
            Some(len) if rest[len..].starts_with(b"\r\n") => (&rest[..len], 2),
            Some(len) => (&rest[..len], 1),
            // The block was cut inside a line, behind a separator. That separator ends the last
            // token here, as a line end would.
            None => (&rest[..rest.len() - 1], 1),
        };
        match rule {
            Rule::Split(separator) => line.split(|&byte| byte == separator).for_each(&mut token),
            Rule::SplitWhitespace => line
                .split(|&byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\x0b' | b'\x0c' | b'\r'))
                .filter(|word| !word.is_empty())
                .for_each(&mut token),
            Rule::Lines => token(line),
        }
        tallied.records += u64::from(line_len.is_some());
        let in_line = line.iter().filter(|&&byte| rule.is_delimiter(byte)).count();
        tallied.delimiter_bytes += (in_line + line_end_len) as u64;
        rest = &rest[line.len() + line_end_len..];
    }
    tallied
}

fn index(rule: Rule, chunk: &[u8], ends: &mut [u16]) -> Found {
    let mut found = Found::default();
    for (position, &byte) in chunk.iter().enumerate() {
        if rule.is_delimiter(byte) {
            ends[found.delimiters] = position as u16;
            found.delimiters += 1;
        }
        found.line_feeds += usize::from(byte == b'\n');
        found.carriage_returns += usize::from(byte == b'\r');
        found.has_nul |= byte == 0;
    }
    found
}
