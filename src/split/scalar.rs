//! The definition of splitting, twice: as an index and as tokens.
//!
//! Promise: obvious. One byte at a time, no tricks. Every other kernel is tested against `index`,
//! and `Splitter::tokens` against `tokens`, which shares no code with the index. Must not know:
//! chunks, vectors, speed.

use super::{ChunkCounts, Kernel, LineEnds, Rule, Tallied, assert_ends_with_delimiter};

pub(super) const KERNEL: Kernel = Kernel {
    name: "scalar",
    index,
    line_ends: LineEnds::Universal,
};

/// Calls `f` for each token of `block`, in order, by taking line after line and splitting each.
///
/// # Panics
///
/// If `block` is neither empty nor ends with a delimiter.
pub fn tokens<'b>(
    block: &'b [u8],
    rule: Rule,
    line_ends: LineEnds,
    mut f: impl FnMut(&'b [u8]),
) -> Tallied {
    assert_ends_with_delimiter(block, rule, line_ends);
    let (mut records, mut tokens, mut delimiter_bytes) = (0, 0, 0);
    let mut token = |token: &'b [u8]| {
        tokens += 1;
        f(token);
    };
    let mut rest = block;
    while !rest.is_empty() {
        let (line, line_end_len) = match line_ends {
            LineEnds::Universal => match rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'))
            {
                Some(len) if rest[len..].starts_with(b"\r\n") => (&rest[..len], 2),
                Some(len) => (&rest[..len], 1),
                None => (rest, 0),
            },
            LineEnds::Lf => match rest.iter().position(|&byte| byte == b'\n') {
                // A `\r` that separates is no part of the end.
                Some(len) if rest[..len].ends_with(b"\r") && rule != Rule::Split(b'\r') => {
                    (&rest[..len - 1], 2)
                }
                Some(len) => (&rest[..len], 1),
                None => (rest, 0),
            },
            LineEnds::Nul => match rest.iter().position(|&byte| byte == 0) {
                Some(len) => (&rest[..len], 1),
                None => (rest, 0),
            },
        };
        records += u64::from(line_end_len > 0);
        let (line, line_end_len) = if line_end_len > 0 {
            (line, line_end_len)
        } else {
            // The block was cut inside a line, behind a separator. That separator ends the last
            // token here, as a line end would.
            (&rest[..rest.len() - 1], 1)
        };
        match rule {
            Rule::Split(separator) => line.split(|&byte| byte == separator).for_each(&mut token),
            Rule::SplitWhitespace => line
                .split(|&byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\x0b' | b'\x0c' | b'\r'))
                .filter(|word| !word.is_empty())
                .for_each(&mut token),
            Rule::Lines => token(line),
        }
        let in_line = line.iter().filter(|&&byte| rule.separates_at(byte)).count();
        delimiter_bytes += (in_line + line_end_len) as u64;
        rest = &rest[line.len() + line_end_len..];
    }
    Tallied {
        records,
        tokens,
        delimiter_bytes,
    }
}

fn index(rule: Rule, line_ends: [u8; 2], chunk: &[u8], ends: &mut [u16]) -> ChunkCounts {
    let mut found = ChunkCounts::default();
    for (position, &byte) in chunk.iter().enumerate() {
        if rule.separates_at(byte) || line_ends.contains(&byte) {
            ends[found.delimiters] = position as u16;
            found.delimiters += 1;
        }
        found.line_feeds += usize::from(byte == line_ends[0]);
        found.carriage_returns += usize::from(byte == line_ends[1]);
        found.has_nul |= byte == 0;
    }
    found
}
