//! Where whole records begin and end in bytes that are only looked at.
//!
//! Promise: `\r\n` is one record end, wherever the bytes are cut; the framer cuts at the same
//! places. Must not know: sources, rings, tokens.

use crate::split::LineEnds;

/// Returns the length of the record end at the front of `bytes`. `None`: it is a `\r`, and a `\n`
/// behind it would belong to it.
pub(super) fn end_len(line_ends: LineEnds, bytes: &[u8]) -> Option<usize> {
    match bytes {
        [first, rest @ ..] if line_ends.may_pair(*first) => {
            rest.first().map(|&next| 1 + usize::from(next == b'\n'))
        }
        _ => Some(1),
    }
}

/// Returns how many bytes at the front of `bytes` are whole records, whatever follows.
pub(crate) fn whole_records(line_ends: LineEnds, bytes: &[u8]) -> usize {
    let Some(last) = line_ends.last_end(bytes) else {
        return 0;
    };
    match end_len(line_ends, &bytes[last..]) {
        Some(len) => last + len,
        None => line_ends.last_end(&bytes[..last]).map_or(0, |at| at + 1),
    }
}

/// Finds where the next record begins, in bytes that come in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NextRecord {
    /// The last piece ended with a `\r` that ended the record.
    after_return: bool,
}

impl NextRecord {
    /// Returns how many bytes of `bytes` are before the next record; `bytes` follow those of the
    /// last call. `None`: the record does not end in them, or what comes next may belong to its
    /// end.
    pub(crate) fn find(&mut self, line_ends: LineEnds, bytes: &[u8]) -> Option<usize> {
        let &first = bytes.first()?;
        if self.after_return {
            return Some(usize::from(first == b'\n'));
        }
        let at = line_ends.first_end(bytes)?;
        let len = end_len(line_ends, &bytes[at..]);
        self.after_return = len.is_none();
        Some(at + len?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, byte by byte: where records begin, other than the first.
    fn starts(line_ends: LineEnds, bytes: &[u8]) -> Vec<usize> {
        let is_start = |&at: &usize| {
            let (before, next) = (bytes[at - 1], bytes.get(at));
            match line_ends {
                LineEnds::Universal => {
                    before == b'\n' || before == b'\r' && next.is_some_and(|&next| next != b'\n')
                }
                LineEnds::Lf => before == b'\n',
                LineEnds::Nul => before == 0,
            }
        };
        (1..=bytes.len()).filter(is_start).collect()
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop::sample::select(b"a\r\n\0".to_vec());
        prop::collection::vec(byte, 0..24)
    }

    fn all_line_ends() -> [LineEnds; 3] {
        [LineEnds::Universal, LineEnds::Lf, LineEnds::Nul]
    }

    proptest! {
        #[test]
        fn whole_records_end_where_the_last_record_begins(text in text()) {
            for line_ends in all_line_ends() {
                let last = starts(line_ends, &text).last().copied();
                prop_assert_eq!(whole_records(line_ends, &text), last.unwrap_or(0));
            }
        }

        #[test]
        fn the_next_record_is_found_in_pieces_of_any_size(
            text in text(),
            from in 0usize..24,
            piece in 1usize..6,
        ) {
            let text = &text[from.min(text.len())..];
            for line_ends in all_line_ends() {
                let mut next = NextRecord::default();
                let mut at = 0;
                let found = text.chunks(piece).find_map(|piece| {
                    let found = next.find(line_ends, piece).map(|count| at + count);
                    at += piece.len();
                    found
                });
                prop_assert_eq!(found, starts(line_ends, text).first().copied());
            }
        }
    }
}
