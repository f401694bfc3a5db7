//! Writes a key so that people and programs can read it: Python's `repr`, TSV escapes, strings of
//! JSON, and whole records for the screen.
//!
//! Promise: what is appended is valid UTF-8 and every character of it is printable, whatever the
//! key holds. So no key can end a line, move a cursor or reverse the direction of writing.
//! [`write_repr`] writes what Python 3.11 writes; [`write_escaped`] can be undone byte for byte;
//! [`escape_unprintable`] leaves harmless characters alone. Must not know: where the bytes go, what
//! surrounds the key.
//!
//! Only the growth of `out` allocates.

use super::printable::is_printable;

/// Appends what Python's `repr` returns for the string whose UTF-8 is `key`.
///
/// Quotes are single, unless the string holds a single one and no double one. Each byte that is not
/// UTF-8 becomes `\xNN`. So U+0085 and the lone byte 0x85 look the same here: this is for reading,
/// [`write_escaped`] is for reading back.
///
/// Costs one pass to look and one to copy if the key is printable ASCII without quotes and
/// backslashes; other keys are decoded.
pub fn write_repr(key: &[u8], out: &mut Vec<u8>) {
    out.reserve(key.len() + 2);
    if is_plain(key) {
        out.push(b'\'');
        out.extend_from_slice(key);
        out.push(b'\'');
    } else {
        write_repr_careful(key, out);
    }
}

/// Appends `key` with `\t`, `\n`, `\r` and `\\` for those four characters. Each byte of every other
/// unprintable character and each byte that is not UTF-8 becomes `\xNN`; the rest stays.
///
/// Two different keys never have the same text, and the key can be read back from it: a backslash
/// begins an escape, everything else stands for itself.
pub fn write_escaped(key: &[u8], out: &mut Vec<u8>) {
    out.reserve(key.len());
    if is_plain(key) {
        out.extend_from_slice(key);
    } else {
        write_escaped_careful(key, out);
    }
}

/// Appends `text` as a JSON string, in quotes. Every unprintable character is escaped, even those
/// that JSON allows: the result can be shown on a screen, and reads back as the same string.
#[cfg(feature = "json")]
pub(crate) fn write_json_string(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let bytes = text.as_bytes();
    // As in `is_plain`: no early exit, so that it becomes vector code.
    let is_plain = bytes.iter().fold(true, |plain, &byte| {
        plain & matches!(byte, 0x20..=0x7e) & (byte != b'"') & (byte != b'\\')
    });
    if is_plain {
        out.extend_from_slice(bytes);
    } else {
        write_json_careful(text, out);
    }
    out.push(b'"');
}

#[cfg(feature = "json")]
#[inline(never)]
fn write_json_careful(text: &str, out: &mut Vec<u8>) {
    let mut copied_len = 0; // Everything before it is in `out`.
    for (at, character) in text.char_indices() {
        if !matches!(character, '"' | '\\') && is_printable(character) {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[copied_len..at]);
        copied_len = at + character.len_utf8();
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            // Characters beyond U+FFFF are a pair of surrogates.
            _ => {
                for &unit in &*character.encode_utf16(&mut [0; 2]) {
                    push_hex(b'u', 4, u32::from(unit), out);
                }
            }
        }
    }
    out.extend_from_slice(&text.as_bytes()[copied_len..]);
}

/// Turns the text behind `start`, which may be anything, into one line that is harmless on a
/// screen.
///
/// Printable characters, tabs and the spaces of all scripts stay. Every other character and each
/// byte that is not UTF-8 is written as by [`write_repr`]. Backslashes and quotes stay as well:
/// this cannot be undone, it is for reading. `scratch` is working memory; its content is lost.
pub fn escape_unprintable(out: &mut Vec<u8>, start: usize, scratch: &mut Vec<u8>) {
    // As in `is_plain`: no early exit, so that it becomes vector code.
    let printable_ascii = |&byte: &u8| matches!(byte, 0x20..=0x7e);
    if out[start..]
        .iter()
        .fold(true, |plain, byte| plain & printable_ascii(byte))
    {
        return;
    }
    scratch.clear();
    scratch.extend_from_slice(&out[start..]);
    out.truncate(start);
    copy_printable(scratch, out, |unprintable, out| match unprintable {
        Unprintable::Character(character) => match character {
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\\' | '\'' | '\t' => out.push(character as u8),
            // Whitespace that ends no line, such as U+3000 between Japanese words.
            _ if character.is_whitespace()
                && !character.is_control()
                && !matches!(character, '\u{2028}' | '\u{2029}') =>
            {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => push_code(character, out),
        },
        Unprintable::Byte(byte) => push_hex(b'x', 2, u32::from(byte), out),
    });
}

/// Undoes [`write_escaped`]; `None` if `text` holds an escape that it never writes.
#[cfg(test)]
pub(crate) fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut key = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            key.push(byte);
            continue;
        }
        key.push(match bytes.next()? {
            b't' => b'\t',
            b'n' => b'\n',
            b'r' => b'\r',
            b'\\' => b'\\',
            b'x' => hex_value(bytes.next()?)? << 4 | hex_value(bytes.next()?)?,
            _ => return None,
        });
    }
    Some(key)
}

#[cfg(test)]
fn hex_value(digit: u8) -> Option<u8> {
    HEX_DIGITS
        .iter()
        .position(|&known| known == digit)
        .map(|value| value as u8)
}

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Returns `true` if `key` is printable ASCII that needs no escape in either form.
fn is_plain(key: &[u8]) -> bool {
    // `&` and `fold`, not `&&` and `all`: without early exits the compiler makes vector code of it.
    key.iter().fold(true, |plain, &byte| {
        plain & matches!(byte, 0x20..=0x7e) & (byte != b'\'') & (byte != b'\\')
    })
}

#[inline(never)]
fn write_repr_careful(key: &[u8], out: &mut Vec<u8>) {
    let quote = if key.contains(&b'\'') && !key.contains(&b'"') {
        '"'
    } else {
        '\''
    };
    out.push(quote as u8);
    copy_printable(key, out, |unprintable, out| match unprintable {
        Unprintable::Character(character) => match character {
            '\t' => out.extend_from_slice(b"\\t"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\\' => out.extend_from_slice(b"\\\\"),
            // The other kind of quote needs no backslash.
            '\'' if quote == '\'' => out.extend_from_slice(b"\\'"),
            '\'' => out.push(b'\''),
            _ => push_code(character, out),
        },
        Unprintable::Byte(byte) => push_hex(b'x', 2, u32::from(byte), out),
    });
    out.push(quote as u8);
}

#[inline(never)]
fn write_escaped_careful(key: &[u8], out: &mut Vec<u8>) {
    copy_printable(key, out, |unprintable, out| match unprintable {
        Unprintable::Character(character) => match character {
            '\t' => out.extend_from_slice(b"\\t"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\'' => out.push(b'\''),
            // Bytes and not the code point: `\x85` has to mean the byte that is not UTF-8.
            _ => character
                .encode_utf8(&mut [0; 4])
                .bytes()
                .for_each(|byte| push_hex(b'x', 2, u32::from(byte), out)),
        },
        Unprintable::Byte(byte) => push_hex(b'x', 2, u32::from(byte), out),
    });
}

/// A piece of a key that cannot be copied without a look.
enum Unprintable {
    /// Not printable, a backslash or a single quote.
    Character(char),
    /// Part of no UTF-8 sequence; always ≥ 0x80.
    Byte(u8),
}

/// Copies the printable stretches of `key` to `out`, and passes the pieces between to
/// `write_unprintable`.
fn copy_printable(
    key: &[u8],
    out: &mut Vec<u8>,
    write_unprintable: impl Fn(Unprintable, &mut Vec<u8>),
) {
    for chunk in key.utf8_chunks() {
        let text = chunk.valid();
        let mut copied_len = 0; // Everything before it is in `out`.
        for (at, character) in text.char_indices() {
            if character == '\\' || character == '\'' || !is_printable(character) {
                out.extend_from_slice(&text.as_bytes()[copied_len..at]);
                write_unprintable(Unprintable::Character(character), out);
                copied_len = at + character.len_utf8();
            }
        }
        out.extend_from_slice(&text.as_bytes()[copied_len..]);
        for &byte in chunk.invalid() {
            write_unprintable(Unprintable::Byte(byte), out);
        }
    }
}

/// Appends the shortest of Python's escapes for `character`'s code point.
fn push_code(character: char, out: &mut Vec<u8>) {
    match u32::from(character) {
        code @ 0..=0xff => push_hex(b'x', 2, code, out),
        code @ 0x100..=0xffff => push_hex(b'u', 4, code, out),
        code => push_hex(b'U', 8, code, out),
    }
}

/// Appends a backslash, `letter` and the `digit_count` lowest hexadecimal digits of `code`.
fn push_hex(letter: u8, digit_count: u32, code: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'\\', letter]);
    for place in (0..digit_count).rev() {
        out.push(HEX_DIGITS[(code >> (4 * place) & 0xf) as usize]);
    }
}

#[cfg(test)]
mod tests {
    use super::{escape_unprintable, unescape, write_escaped, write_repr};
    use proptest::prelude::*;

    fn repr(key: &[u8]) -> String {
        let mut out = Vec::new();
        write_repr(key, &mut out);
        String::from_utf8(out).expect("repr is UTF-8")
    }

    fn escaped(key: &[u8]) -> String {
        let mut out = Vec::new();
        write_escaped(key, &mut out);
        String::from_utf8(out).expect("escaped text is UTF-8")
    }

    /// The right-hand sides were printed by Python 3.11, except those of keys that are not UTF-8.
    #[test]
    fn repr_of_hand_made_keys() {
        let cases: &[(&[u8], &str)] = &[
            (b"", "''"),
            (b" ", "' '"),
            (b"hello", "'hello'"),
            (b"don't", "\"don't\""),
            (b"say \"hi\"", "'say \"hi\"'"),
            (b"'\"", "'\\'\"'"),
            (b"''\"\"", "'\\'\\'\"\"'"),
            (b"\"", "'\"'"),
            (b"'", "\"'\""),
            (b"C:\\x", "'C:\\\\x'"),
            (b"'\\", "\"'\\\\\""),
            (b"\t\n\r", "'\\t\\n\\r'"),
            (
                b"\0\x07\x08\x0b\x0c\x1b[31m\x7f",
                "'\\x00\\x07\\x08\\x0b\\x0c\\x1b[31m\\x7f'",
            ),
            (
                "\u{80}\u{85}\u{9b}\u{a0}\u{ad}".as_bytes(),
                "'\\x80\\x85\\x9b\\xa0\\xad'",
            ),
            ("¡é\u{ff}".as_bytes(), "'¡é\u{ff}'"),
            (
                "\u{378}\u{61c}\u{200b}\u{2028}".as_bytes(),
                "'\\u0378\\u061c\\u200b\\u2028'",
            ),
            ("a\u{202e}b\u{2066}c".as_bytes(), "'a\\u202eb\\u2066c'"),
            (
                "\u{feff}\u{3000}\u{e000}\u{ffff}".as_bytes(),
                "'\\ufeff\\u3000\\ue000\\uffff'",
            ),
            (
                "e\u{301} 汉字 ﷽ \u{fffd}".as_bytes(),
                "'e\u{301} 汉字 ﷽ \u{fffd}'",
            ),
            (
                "👩\u{200d}👧\u{fe0f}\u{1f3fd}".as_bytes(),
                "'👩\\u200d👧\u{fe0f}\u{1f3fd}'",
            ),
            (
                "\u{1fae8}\u{e0001}\u{10ffff}".as_bytes(),
                "'\\U0001fae8\\U000e0001\\U0010ffff'",
            ),
            // Not UTF-8: a lone continuation, a cut sequence, overlong, a surrogate, too high.
            (b"\x80", "'\\x80'"),
            (b"a\xe2\x82", "'a\\xe2\\x82'"),
            (b"\xe2\x82'", "\"\\xe2\\x82'\""),
            (b"\xc0\xaf", "'\\xc0\\xaf'"),
            (b"\xed\xa0\x80", "'\\xed\\xa0\\x80'"),
            (b"\xf4\x90\x80\x80\xff", "'\\xf4\\x90\\x80\\x80\\xff'"),
        ];
        for (key, expected) in cases {
            assert_eq!(repr(key), *expected, "{key:02x?}");
        }
    }

    #[test]
    fn escaped_hand_made_keys() {
        let cases: &[(&[u8], &str)] = &[
            (b"", ""),
            (b"it's \"so\"", "it's \"so\""),
            (b"'\t'", "'\\t'"),
            (b"\t\n\r\\", "\\t\\n\\r\\\\"),
            (b"\\t", "\\\\t"),
            (b"\0\x1b[2J\x7f", "\\x00\\x1b[2J\\x7f"),
            ("é\u{85}\u{a0}".as_bytes(), "é\\xc2\\x85\\xc2\\xa0"),
            (b"\x85\xc3", "\\x85\\xc3"),
            (
                "\u{202e}\u{200b}\u{2028}".as_bytes(),
                "\\xe2\\x80\\xae\\xe2\\x80\\x8b\\xe2\\x80\\xa8",
            ),
            ("👧\u{e0001}".as_bytes(), "👧\\xf3\\xa0\\x80\\x81"),
        ];
        for (key, expected) in cases {
            assert_eq!(escaped(key), *expected, "{key:02x?}");
            assert_eq!(unescape(expected.as_bytes()).as_deref(), Some(*key));
        }
    }

    #[test]
    fn unescape_refuses_what_is_never_written() {
        for text in [
            "\\", "\\x", "\\x1", "\\xg0", "\\x1B", "\\u0041", "\\0", "\\'",
        ] {
            assert_eq!(unescape(text.as_bytes()), None, "{text}");
        }
    }

    fn shown(record: &[u8]) -> String {
        let mut out = b"before\n".to_vec();
        let start = out.len();
        out.extend_from_slice(record);
        escape_unprintable(&mut out, start, &mut b"old".to_vec());
        let text = String::from_utf8(out).expect("shown text is UTF-8");
        text.strip_prefix("before\n").expect("it stays").to_owned()
    }

    #[test]
    fn harmless_records_are_shown_as_they_are() {
        for record in [
            "",
            "GET /a\t200",
            "it's C:\\x \"so\"",
            "汉字\u{3000}é\u{a0}!",
            "('a\\n', 1)",
        ] {
            assert_eq!(shown(record.as_bytes()), record);
        }
    }

    #[test]
    fn harm_in_records_is_shown() {
        for (record, text) in [
            (&b"a\nTime: b\r"[..], "a\\nTime: b\\r"),
            (b"\x1b[2J\x07\0\x7f", "\\x1b[2J\\x07\\x00\\x7f"),
            (
                "\u{85}\u{2028}\u{202e}\u{e0001}".as_bytes(),
                "\\x85\\u2028\\u202e\\U000e0001",
            ),
            (b"a\xff\xe2\x82", "a\\xff\\xe2\\x82"),
        ] {
            assert_eq!(shown(record), text);
        }
    }

    /// Every byte alone and every pair: the cuts between the plain path and the careful one, and
    /// both quotes together.
    #[test]
    fn all_short_keys_are_escaped_apart() {
        for first in 0..=255_u8 {
            for second in 0..=255_u8 {
                let key = [first, second];
                assert_eq!(
                    unescape(escaped(&key).as_bytes()).as_deref(),
                    Some(&key[..])
                );
                assert_printable(&repr(&key));
            }
        }
    }

    #[test]
    fn out_is_appended_to() {
        let mut out = b"(".to_vec();
        write_repr(b"a", &mut out);
        write_repr(b"\n", &mut out);
        write_escaped(b"b", &mut out);
        write_escaped(b"\t", &mut out);
        assert_eq!(out, b"('a''\\n'b\\t");
    }

    fn assert_printable(text: &str) {
        assert!(text.chars().all(super::is_printable), "{text:?}");
    }

    /// Bytes of all kinds, but mostly pieces that are likely to go wrong together.
    fn hostile_key() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            any::<u8>().prop_map(|byte| vec![byte]),
            any::<char>().prop_map(|character| character.to_string().into_bytes()),
            prop::sample::select(vec![
                "\\", "'", "\"", "\t", "\\x", "\u{85}", "\u{202e}", "汉", "ab"
            ])
            .prop_map(|text| text.as_bytes().to_vec()),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn escaping_can_be_undone(key in hostile_key()) {
            let text = escaped(&key);
            assert_printable(&text);
            prop_assert_eq!(unescape(text.as_bytes()), Some(key));
        }

        #[test]
        fn shown_records_do_no_harm(record in hostile_key()) {
            let text = shown(&record);
            for character in text.chars() {
                let space = character == '\t' || character.is_whitespace() && !character.is_control();
                prop_assert!(super::is_printable(character) || space, "{:?}", text);
                prop_assert!(character != '\u{2028}' && character != '\u{2029}', "{:?}", text);
            }
            // Showing what was shown changes nothing.
            prop_assert_eq!(&shown(text.as_bytes()), &text);
            if let Ok(record) = std::str::from_utf8(&record)
                && record.chars().all(super::is_printable)
            {
                prop_assert_eq!(text, record);
            }
        }

        #[test]
        fn repr_is_printable_and_quoted(key in hostile_key()) {
            let text = repr(&key);
            assert_printable(&text);
            prop_assert!(text.len() >= 2 && text.as_bytes()[0] == text.as_bytes()[text.len() - 1]);
        }
    }
}
