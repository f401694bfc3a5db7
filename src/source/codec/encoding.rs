//! Drops the byte order mark of a text, and turns UTF-16 with a mark into UTF-8.
//!
//! Promise: the text does not depend on how its bytes were cut into reads; text without a mark
//! stays as it is. Must not know: `file`, pipes, `decompress`, records.
//!
//! `ef bb bf` marks UTF-8, `ff fe` and `fe ff` mark UTF-16. No text in UTF-8 contains `fe` or `ff`.
//! UTF-32 is refused: it is rare, and its little-endian mark begins like that of UTF-16.

use std::cell::Cell;
use std::io;

use crate::limits::KIB;

/// The mark of UTF-8, which Windows programs write at the beginning of a file.
const UTF8_MARK: &[u8; 3] = b"\xef\xbb\xbf";

/// Bytes of the longest mark.
pub(crate) const MARK_BYTES_MAX: usize = 4;

/// The most bytes of UTF-16 that are held.
const HELD_BYTES: usize = 16 * KIB;

/// The outcome of a call of `fill`, here and in the stages below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// The call wrote that many bytes, at least one, to the front of the buffer.
    Bytes(usize),
    /// The call read that many bytes of a mark, which is not content. Call again.
    Skipped(usize),
    /// The call read bytes that produced nothing yet. Call again.
    Again,
    End,
}

impl Decoded {
    /// The outcome of a read that returned `count` bytes.
    pub(crate) fn read(count: usize) -> Self {
        match count {
            0 => Decoded::End,
            count => Decoded::Bytes(count),
        }
    }
}

/// The encoding of a text, by its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Unmarked,
    /// UTF-8 behind a mark.
    Utf8,
    Utf16 {
        is_big_endian: bool,
    },
    Utf32,
}

impl Encoding {
    /// Returns the encoding of a text that begins with `first`; `is_all` says that this is all of
    /// it. `None`: more bytes are needed.
    pub(crate) fn of(first: &[u8], is_all: bool) -> Option<Encoding> {
        Some(match *first {
            [0xef, 0xbb, 0xbf, ..] => Encoding::Utf8,
            [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Encoding::Utf32,
            [0xff, 0xfe] | [0xff, 0xfe, 0] if !is_all => return None,
            [0xff, 0xfe, ..] => Encoding::Utf16 {
                is_big_endian: false,
            },
            [0xfe, 0xff, ..] => Encoding::Utf16 {
                is_big_endian: true,
            },
            [] | [0xef | 0xfe | 0xff | 0] | [0xef, 0xbb] | [0, 0] | [0, 0, 0xfe] if !is_all => {
                return None;
            }
            _ => Encoding::Unmarked,
        })
    }
}

/// Returns the length of the UTF-8 mark at the beginning of a file, 3 or 0. `first` has at least
/// its first three bytes, or all of them.
pub(crate) fn utf8_mark_bytes(first: &[u8]) -> usize {
    if first.starts_with(UTF8_MARK) {
        UTF8_MARK.len()
    } else {
        0
    }
}

/// A decoder from the bytes of one input to UTF-8.
pub(crate) struct TextDecoder {
    state: TextState,
    /// The input has ended. A terminal would ask the user again after its end.
    is_ended: bool,
    /// The bytes so far are all of the input if no more are available now.
    is_hurried: bool,
    /// An error behind bytes that come first.
    error: Cell<Option<io::Error>>,
}

enum TextState {
    /// The first bytes, too few to recognize an encoding.
    Undecided {
        first: [u8; MARK_BYTES_MAX],
        len: usize,
    },
    /// The first bytes are text, to be returned.
    Held {
        first: [u8; MARK_BYTES_MAX],
        begin: usize,
        len: usize,
    },
    /// Bytes go straight from the reader to the caller.
    Plain,
    Utf16(Box<Utf16Decoder>),
}

impl Default for TextDecoder {
    fn default() -> Self {
        TextDecoder {
            state: TextState::Undecided {
                first: [0; MARK_BYTES_MAX],
                len: 0,
            },
            is_ended: false,
            is_hurried: false,
            error: Cell::default(),
        }
    }
}

impl TextDecoder {
    /// A decoder of an input that is known to have no mark: the first read is as large as any
    /// other.
    pub(super) fn unmarked() -> Self {
        TextDecoder {
            state: TextState::Plain,
            ..TextDecoder::default()
        }
    }

    /// From now on, first bytes that are too few to recognize a mark are text if `read` has no
    /// more.
    pub(crate) fn hurry(&mut self) {
        self.is_hurried = true;
    }

    /// Decodes text into `out`, which has room for at least one byte. `read` works like this
    /// function, never returns [`Decoded::Skipped`], and is not called again after an end.
    ///
    /// # Errors
    ///
    /// The error of `read`; the caller may continue. [`InvalidData`](io::ErrorKind::InvalidData)
    /// for UTF-32.
    pub(crate) fn fill(
        &mut self,
        out: &mut [u8],
        mut read: impl FnMut(&mut [u8]) -> io::Result<Decoded>,
    ) -> io::Result<Decoded> {
        let TextDecoder {
            state,
            is_ended,
            is_hurried,
            error,
        } = self;
        let mut read = |space: &mut [u8]| match error.take() {
            Some(cause) => Err(cause),
            None => read(space),
        };
        loop {
            match state {
                TextState::Plain if *is_ended => return Ok(Decoded::End),
                TextState::Plain => return read(out),
                TextState::Utf16(text) => return text.fill(out, is_ended, &mut read),
                TextState::Held { first, begin, len } => {
                    let held = &first[*begin..*len];
                    let count = held.len().min(out.len());
                    out[..count].copy_from_slice(&held[..count]);
                    *begin += count;
                    if begin < len {
                        return Ok(Decoded::Bytes(count));
                    }
                    *state = TextState::Plain;
                    if count > 0 {
                        let more = fill_up(&mut out[count..], is_ended, &mut read);
                        let more = more.unwrap_or_else(|cause| {
                            error.set(Some(cause));
                            0
                        });
                        return Ok(Decoded::Bytes(count + more));
                    }
                }
                TextState::Undecided { first, len } => {
                    let is_waiting = |cause: &io::Error| cause.kind() == io::ErrorKind::WouldBlock;
                    let mut is_all = false;
                    let mut found = None;
                    match read(&mut first[*len..]) {
                        Ok(Decoded::Bytes(count)) => *len += count,
                        Ok(Decoded::End) => (*is_ended, is_all) = (true, true),
                        Err(cause) if *len > 0 && (*is_hurried || !is_waiting(&cause)) => {
                            is_all = true;
                            found = Some(cause).filter(|cause| !is_waiting(cause));
                        }
                        outcome => return outcome,
                    }
                    let (first, len) = (*first, *len);
                    if let Some(encoding) = Encoding::of(&first[..len], is_all) {
                        let skipped = state.begin(encoding, first, len)?;
                        error.set(found);
                        if skipped > 0 {
                            return Ok(Decoded::Skipped(skipped));
                        }
                    }
                }
            }
        }
    }
}

impl TextState {
    /// Continues behind the mark. Returns the bytes of a mark that are skipped.
    fn begin(
        &mut self,
        encoding: Encoding,
        first: [u8; MARK_BYTES_MAX],
        len: usize,
    ) -> io::Result<usize> {
        let mut begin = 0;
        match encoding {
            Encoding::Unmarked => {}
            Encoding::Utf8 => begin = UTF8_MARK.len(),
            Encoding::Utf16 { is_big_endian } => {
                let text = Utf16Decoder::new(is_big_endian, &first[2..len]);
                *self = TextState::Utf16(Box::new(text));
                return Ok(0);
            }
            Encoding::Utf32 => return Err(utf32()),
        }
        *self = TextState::Held { first, begin, len };
        Ok(begin)
    }
}

/// Reads into the rest of a buffer that has content already. Sets `is_ended` at the end.
fn fill_up(
    out: &mut [u8],
    is_ended: &mut bool,
    mut read: impl FnMut(&mut [u8]) -> io::Result<Decoded>,
) -> io::Result<usize> {
    if out.is_empty() || *is_ended {
        return Ok(0);
    }
    match read(out) {
        Ok(Decoded::Bytes(count)) => Ok(count),
        Ok(Decoded::End) => {
            *is_ended = true;
            Ok(0)
        }
        Ok(Decoded::Again | Decoded::Skipped(_)) => Ok(0),
        Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(cause) => Err(cause),
    }
}

/// The error of a text in UTF-32.
#[cold]
fn utf32() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "it is UTF-32 text; convert it first, for example with iconv -f UTF-32 -t UTF-8",
    )
}

/// A decoder from UTF-16 to UTF-8. Half of a surrogate pair, or of the last unit, becomes U+FFFD.
struct Utf16Decoder {
    is_big_endian: bool,
    held: Box<[u8]>,
    /// The part of `held` that was not decoded.
    begin: usize,
    end: usize,
    /// The first half of a surrogate pair.
    high: Option<u16>,
    /// A character that did not fit, and the part of it that was not returned.
    rest: [u8; 4],
    rest_begin: usize,
    rest_end: usize,
}

impl Utf16Decoder {
    /// Creates a decoder of a text that begins with `first`.
    fn new(is_big_endian: bool, first: &[u8]) -> Self {
        let mut held = vec![0; HELD_BYTES].into_boxed_slice();
        held[..first.len()].copy_from_slice(first);
        Utf16Decoder {
            is_big_endian,
            held,
            begin: 0,
            end: first.len(),
            high: None,
            rest: [0; 4],
            rest_begin: 0,
            rest_end: 0,
        }
    }

    fn fill(
        &mut self,
        out: &mut [u8],
        is_ended: &mut bool,
        mut read: impl FnMut(&mut [u8]) -> io::Result<Decoded>,
    ) -> io::Result<Decoded> {
        // Text held comes out before more is read: a pipe may have nothing for long.
        let mut count = self.decode(out, *is_ended);
        if count == 0 && !*is_ended {
            self.held.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
            match read(&mut self.held[self.end..])? {
                Decoded::Bytes(more) => self.end += more,
                Decoded::End => *is_ended = true,
                other => return Ok(other),
            }
            count = self.decode(out, *is_ended);
        }
        Ok(match count {
            0 if *is_ended => Decoded::End,
            0 => Decoded::Again,
            count => Decoded::Bytes(count),
        })
    }

    /// Decodes held bytes into `out`, as far as there is room. Returns the bytes written.
    fn decode(&mut self, out: &mut [u8], is_ended: bool) -> usize {
        let mut filled = self.write_rest(out);
        while filled < out.len() {
            // Most texts have long runs of ASCII.
            let count = self.ascii(&mut out[filled..]);
            filled += count;
            self.begin += 2 * count;
            let Some(next) = self.next_char(is_ended) else {
                break;
            };
            self.rest_begin = 0;
            self.rest_end = next.encode_utf8(&mut self.rest).len();
            filled += self.write_rest(&mut out[filled..]);
        }
        filled
    }

    /// Writes the rest of a character to `out`. Returns the bytes written.
    fn write_rest(&mut self, out: &mut [u8]) -> usize {
        let rest = &self.rest[self.rest_begin..self.rest_end];
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        self.rest_begin += count;
        count
    }

    /// Writes the ASCII characters that come next to `out`. Returns how many there are.
    fn ascii(&self, out: &mut [u8]) -> usize {
        if self.high.is_some() {
            return 0;
        }
        let mut count = 0;
        let (units, _) = self.held[self.begin..self.end].as_chunks::<2>();
        for (place, &unit) in out.iter_mut().zip(units) {
            let unit = self.unit(unit);
            if unit >= 0x80 {
                break;
            }
            *place = unit as u8;
            count += 1;
        }
        count
    }

    fn unit(&self, bytes: [u8; 2]) -> u16 {
        if self.is_big_endian {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        }
    }

    /// Returns the next character, if it is complete.
    fn next_char(&mut self, is_ended: bool) -> Option<char> {
        loop {
            let Some(&bytes) = self.held[self.begin..self.end].first_chunk::<2>() else {
                let is_torn = is_ended && (self.high.take().is_some() || self.begin < self.end);
                if is_torn {
                    self.begin = self.end;
                }
                return is_torn.then_some(char::REPLACEMENT_CHARACTER);
            };
            let unit = self.unit(bytes);
            let is_low = (0xdc00..0xe000).contains(&unit);
            if let Some(high) = self.high.take() {
                if !is_low {
                    // The unit begins the next character.
                    return Some(char::REPLACEMENT_CHARACTER);
                }
                self.begin += 2;
                let bits = (u32::from(high) - 0xd800) << 10 | (u32::from(unit) - 0xdc00);
                return char::from_u32(0x1_0000 + bits);
            }
            self.begin += 2;
            if (0xd800..0xdc00).contains(&unit) {
                self.high = Some(unit);
                continue;
            }
            return Some(char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::codec::torn_reads;

    /// Decodes bytes in reads of the given sizes, over and over, and into buffers of `room` bytes.
    /// Each read would block once. Returns the text and the number of bytes skipped.
    fn text_of(bytes: &[u8], reads: &[usize], room: usize) -> (Vec<u8>, usize) {
        let (mut text, mut found, mut out) = (TextDecoder::default(), Vec::new(), vec![0; room]);
        let mut read = torn_reads(bytes, reads);
        let (mut skipped, mut has_ended) = (0, false);
        loop {
            let step = text.fill(&mut out, |space| {
                assert!(!has_ended, "it is not asked again after its end");
                let count = read(space)?;
                has_ended = count == 0;
                Ok(Decoded::read(count))
            });
            match step {
                Ok(Decoded::Bytes(count)) => {
                    assert!((1..=room).contains(&count));
                    found.extend_from_slice(&out[..count]);
                }
                Ok(Decoded::Skipped(count)) => skipped += count,
                Ok(Decoded::Again) => {}
                Ok(Decoded::End) => return (found, skipped),
                Err(cause) => assert_eq!(cause.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }

    fn utf16(units: impl IntoIterator<Item = u16>, is_big_endian: bool) -> Vec<u8> {
        let units = [0xfeff].into_iter().chain(units);
        let bytes = units.map(|unit| match is_big_endian {
            true => unit.to_be_bytes(),
            false => unit.to_le_bytes(),
        });
        bytes.flatten().collect()
    }

    proptest! {
        #[test]
        fn any_units_are_decoded_as_the_standard_library_does_however_they_are_cut(
            units in prop::collection::vec(
                prop_oneof![4 => 1u16..0x80, 2 => any::<u16>(), 2 => 0xd800u16..0xe000], 0..80),
            is_big_endian: bool,
            is_torn: bool,
            reads in prop::collection::vec(prop_oneof![1usize..6, 1usize..100_000], 1..5),
            room in prop_oneof![1usize..6, Just(4096)],
        ) {
            let mut bytes = utf16(units.iter().copied(), is_big_endian);
            let mut expected = String::from_utf16_lossy(&units);
            if is_torn {
                bytes.push(b'\n');
                // Half a pair in front of half a unit becomes one character.
                if !units.last().is_some_and(|unit| (0xd800..0xdc00).contains(unit)) {
                    expected.push(char::REPLACEMENT_CHARACTER);
                }
            }
            // The mark of UTF-32.
            prop_assume!(units.first() != Some(&0) || is_big_endian);
            let (found, skipped) = text_of(&bytes, &reads, room);
            prop_assert_eq!(String::from_utf8(found).unwrap(), expected);
            prop_assert_eq!(skipped, 0);
        }

        #[test]
        fn a_mark_of_utf_8_is_skipped_once_and_nothing_else_is(
            marks in 0usize..3,
            bytes in prop::collection::vec(prop_oneof![Just(0xef), Just(0xbb), Just(0xbf), Just(b'\n')], 0..12),
            reads in prop::collection::vec(1usize..6, 1..5),
            room in 1usize..6,
        ) {
            let input = [UTF8_MARK.repeat(marks), bytes].concat();
            let mark = utf8_mark_bytes(&input);
            let (found, skipped) = text_of(&input, &reads, room);
            prop_assert_eq!(&found, &input[mark..]);
            prop_assert_eq!(skipped, mark);
        }
    }

    #[test]
    fn a_long_text_in_utf_16_is_decoded_piece_by_piece() {
        let text = "plain, größer, 日本語 and 😀\n".repeat(5000);
        for is_big_endian in [false, true] {
            let bytes = utf16(text.encode_utf16(), is_big_endian);
            for room in [1, 100, 1 << 20] {
                let (found, _) = text_of(&bytes, &[usize::MAX], room);
                assert!(found == text.as_bytes(), "{room}");
            }
        }
    }

    #[test]
    fn what_is_too_short_for_a_mark_is_text() {
        for bytes in [
            &b""[..],
            b"\xef",
            b"\xef\xbb",
            b"\xef\xbbx",
            b"\xff",
            b"\xfe",
            b"\0",
            b"\0\0\xfe",
            b"\xffx",
            b"text",
        ] {
            assert_eq!(text_of(bytes, &[1], 1), (bytes.to_vec(), 0), "{bytes:?}");
        }
        assert_eq!(text_of(b"\xff\xfe", &[1], 1), (Vec::new(), 0));
        assert_eq!(text_of(b"\xff\xfe\0", &[1], 9), ("\u{fffd}".into(), 0));
    }

    #[test]
    fn what_has_come_is_text_once_nobody_waits_for_more() {
        for (bytes, expected) in [(&b"\xef\xbb"[..], &b"\xef\xbb"[..]), (b"\xff", b"\xff")] {
            let (mut text, mut out, mut rest) = (TextDecoder::default(), [0; 9], bytes);
            let mut fill = |text: &mut TextDecoder| {
                text.fill(&mut out, |space| match io::Read::read(&mut rest, space)? {
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    count => Ok(Decoded::Bytes(count)),
                })
            };
            let cause = fill(&mut text).unwrap_err();
            assert_eq!(cause.kind(), io::ErrorKind::WouldBlock);
            text.hurry();
            assert_eq!(fill(&mut text).unwrap(), Decoded::Bytes(expected.len()));
            assert_eq!(&out[..expected.len()], expected);
        }
    }

    #[test]
    fn utf_32_is_refused_with_what_to_do() {
        for bytes in [&b"\xff\xfe\0\0a\0\0\0"[..], b"\0\0\xfe\xff\0\0\0a"] {
            let mut rest = bytes;
            let step = TextDecoder::default().fill(&mut [0; 9], |space| {
                Ok(Decoded::Bytes(io::Read::read(&mut rest, space)?))
            });
            let cause = step.unwrap_err();
            assert_eq!(cause.kind(), io::ErrorKind::InvalidData);
            assert!(cause.to_string().contains("iconv"), "{cause}");
        }
    }
}
