//! What the first bytes of a connection or a file look like if they are not lines of text.
//!
//! Promise: a few bytes are looked at, and a guess is only reported, since it may be wrong.
//! Must not know: engine, split, codec.

use crate::limits::FIRST_BYTES;
use crate::notice::LooksLike;

/// Returns what a file that begins with these bytes looks like. In a file, the beginning of a
/// conversation is a line like others: nobody waits for an answer.
pub(crate) fn of_file(first: &[u8]) -> Option<LooksLike> {
    guess(first).filter(|found| !matches!(found, LooksLike::Tls | LooksLike::Http))
}

/// Looks at the first bytes of one connection, as they arrive.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sniffer {
    bytes: [u8; FIRST_BYTES],
    /// [`FIRST_BYTES`]: nothing more is looked at.
    len: u8,
}

/// The kinds of data that a source has reported.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReportedKinds(u8);

impl ReportedKinds {
    /// Returns `true` the first time that `kind` is inserted.
    pub(crate) fn insert(&mut self, kind: LooksLike) -> bool {
        let bit = 1 << kind as u8;
        let is_new = self.0 & bit == 0;
        self.0 |= bit;
        is_new
    }
}

impl Sniffer {
    /// Looks at the next bytes of the connection. Returns what it looks like, once.
    pub(crate) fn look(&mut self, bytes: &[u8]) -> Option<LooksLike> {
        let len = usize::from(self.len);
        if len == FIRST_BYTES {
            return None;
        }
        let count = bytes.len().min(FIRST_BYTES - len);
        self.bytes[len..len + count].copy_from_slice(&bytes[..count]);
        // The first read may have more than is kept, such as the end of a line.
        let first = if len == 0 {
            bytes
        } else {
            &self.bytes[..len + count]
        };
        let found = guess(first);
        let len = if found.is_some() {
            FIRST_BYTES
        } else {
            len + count
        };
        self.len = len as u8;
        found
    }
}

/// Returns what begins like this. With more bytes, `None` may become a guess, but a guess stays.
fn guess(first: &[u8]) -> Option<LooksLike> {
    // Behind the size of its blocks, a block or the end of a stream without any.
    let is_bzip2 = matches!(first, [b'B', b'Z', b'h', b'1'..=b'9', rest @ ..]
        if rest.starts_with(b"\x31\x41\x59\x26\x53\x59")
            || rest.starts_with(b"\x17\x72\x45\x38\x50\x90"));
    match first {
        // A record of the handshake protocol, of any version, with a ClientHello in it.
        [0x16, 3, 0..=4, _, _, 1, ..] => Some(LooksLike::Tls),
        [0x1f, 0x8b, 8, ..] => Some(LooksLike::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(LooksLike::Zstd),
        _ if is_bzip2 => Some(LooksLike::Bzip2),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(LooksLike::Xz),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some(LooksLike::Lz4),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some(LooksLike::Utf16),
        _ if is_http(first) => Some(LooksLike::Http),
        _ if is_utf16(first) => Some(LooksLike::Utf16),
        _ => None,
    }
}

/// A method and a target. If the line ends, there must be a version before that: lines may be
/// paths.
fn is_http(first: &[u8]) -> bool {
    const BEGINNINGS: [&str; 11] = [
        "GET /",
        "POST /",
        "PUT /",
        "HEAD /",
        "PATCH /",
        "DELETE /",
        "OPTIONS /",
        "OPTIONS *",
        "TRACE /",
        "GET http://",
        "PRI * HTTP/2.0",
    ];
    if !(BEGINNINGS.iter()).any(|beginning| first.starts_with(beginning.as_bytes())) {
        return false;
    }
    let line = first.split_inclusive(|&byte| byte == b'\n').next();
    let line = line.unwrap_or_default();
    let has_version = |line: &[u8]| {
        ["HTTP/1.0", "HTTP/1.1", "HTTP/2.0"]
            .iter()
            .any(|version| line.ends_with(version.as_bytes()))
    };
    match line.strip_suffix(b"\r\n") {
        Some(line) => has_version(line),
        // Without the end of the line this is all. A line that ends in another way is from a log.
        None => !line.ends_with(b"\n"),
    }
}

/// Eight bytes of which exactly every other one is a NUL.
fn is_utf16(first: &[u8]) -> bool {
    let Some(first) = first.first_chunk::<8>() else {
        return false;
    };
    let nuls = first.map(|byte| byte == 0);
    [true, false].iter().any(|&first_is_nul| {
        (nuls.iter().enumerate()).all(|(at, &is_nul)| is_nul == (first_is_nul == (at % 2 == 0)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and random bytes";

    fn utf16(text: &str, to_bytes: impl Fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(to_bytes).collect()
    }

    fn samples() -> Vec<(Vec<u8>, LooksLike)> {
        let mut samples: Vec<(Vec<u8>, LooksLike)> = [
            (HELLO, LooksLike::Tls),
            (b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", LooksLike::Http),
            (
                b"POST /a/long/path/of/somebody HTTP/1.0\r\n\r\n",
                LooksLike::Http,
            ),
            (b"OPTIONS * HTTP/1.1\r\n", LooksLike::Http),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", LooksLike::Http),
            (b"\x1f\x8b\x08\x00", LooksLike::Gzip),
            (b"\x28\xb5\x2f\xfd\x04", LooksLike::Zstd),
            (b"BZh9\x31\x41\x59\x26\x53\x59", LooksLike::Bzip2),
            (b"BZh1\x17\x72\x45\x38\x50\x90\0", LooksLike::Bzip2),
            (b"\xfd7zXZ\0\0\x04", LooksLike::Xz),
            (b"\x04\x22\x4d\x18\x64", LooksLike::Lz4),
            (b"\xff\xfeh\0", LooksLike::Utf16),
            (b"\xfe\xff\0h", LooksLike::Utf16),
        ]
        .map(|(text, what)| (text.to_vec(), what))
        .into();
        for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            samples.push((utf16("hello\n", to_bytes), LooksLike::Utf16));
        }
        samples
    }

    #[test]
    fn a_file_of_requests_is_a_text_and_one_of_compressed_data_is_not() {
        for (text, what) in samples() {
            let is_talk = matches!(what, LooksLike::Tls | LooksLike::Http);
            let expected = (!is_talk).then_some(what);
            assert_eq!(of_file(&text), expected, "{text:?}");
        }
    }

    /// Cases 11 and 12.
    #[test]
    fn case_11_12_what_is_no_text_is_known_by_its_beginning() {
        for (text, what) in samples() {
            assert_eq!(Sniffer::default().look(&text), Some(what), "{text:?}");
        }
    }

    #[test]
    fn lines_are_lines() {
        for text in [
            &b"hello world\n"[..],
            b"",
            b"\n",
            b"GET",
            b"GETTING /there\n",
            // From a log: paths, and requests without what ends them.
            b"GET /index.html\n",
            b"GET /index.html HTTP/1.1\nGET / HTTP/1.1\n",
            b"GET /index.html 200\r\n",
            b"\xef\xbb\xbfhello",
            b"a\0b\0c\0d",
            b"a\0b\0c\0dd",
            b"\0\0\0\0\0\0\0\0\0\0\0\0",
            b"\x16\x03\x01\x02\x00\x02",
            b"\x1f\x8b\x09",
            b"BZh9 and more words",
            "\u{2003}text".as_bytes(),
        ] {
            assert_eq!(Sniffer::default().look(text), None, "{text:?}");
        }
    }

    proptest! {
        /// What is found does not depend on the pieces, and is found once. Later bytes are not
        /// looked at.
        #[test]
        fn pieces_make_no_difference(pieces in prop::collection::vec(1..9usize, 1..20), index in 0..15usize) {
            let (text, what) = samples().swap_remove(index);
            let mut first = Sniffer::default();
            let (mut at, mut found) = (0, Vec::new());
            for len in pieces.into_iter().chain([text.len()]) {
                let end = (at + len).min(text.len());
                found.extend(first.look(&text[at..end]));
                at = end;
            }
            found.extend(first.look(HELLO));
            prop_assert_eq!(found, [what]);
        }

        #[test]
        fn printed_text_of_words_is_never_suspected(text in "[a-z]{1,9}( [a-z0-9]{0,9}){0,9}\n") {
            prop_assert_eq!(Sniffer::default().look(text.as_bytes()), None);
        }
    }

    #[test]
    fn nothing_later_is_looked_at() {
        let mut first = Sniffer::default();
        assert_eq!(first.look(&[b'x'; FIRST_BYTES]), None);
        assert_eq!(first.look(HELLO), None);
    }
}
