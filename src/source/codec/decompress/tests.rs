//! Everything that was compressed comes out again, however it is cut, and nothing else does.

mod codecs;

use std::io::{self, Write};

use bzip2::write::BzEncoder;
use flate2::write::GzEncoder;
use flate2::{Compression as Level, Crc, GzBuilder};
use liblzma::stream::{Action, Check, Stream};
use liblzma::write::XzEncoder;
use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};
use proptest::prelude::*;

use super::{CONTENT_BYTES_MAX, Compression, Decoded, Decompressor, ENDS_PER_CALL};
use crate::source::codec::torn_reads;

/// What came out, and how it ended.
type Outcome = (Vec<u8>, io::Result<()>);

/// Writes `content` through an encoder, and returns what `finish` does.
fn encoded<E: Write, F: std::fmt::Debug>(
    mut encoder: E,
    content: &[u8],
    finish: impl FnOnce(E) -> Result<Vec<u8>, F>,
) -> Vec<u8> {
    encoder.write_all(content).unwrap();
    finish(encoder).unwrap()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let encoder = GzEncoder::new(Vec::new(), Level::default());
    encoded(encoder, content, GzEncoder::finish)
}

fn zstd(content: &[u8]) -> Vec<u8> {
    let mut encoder = ::zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoded(encoder, content, |encoder| encoder.finish())
}

fn bzip2(content: &[u8]) -> Vec<u8> {
    let encoder = BzEncoder::new(Vec::new(), ::bzip2::Compression::fast());
    encoded(encoder, content, BzEncoder::finish)
}

fn xz(content: &[u8]) -> Vec<u8> {
    encoded(XzEncoder::new(Vec::new(), 1), content, XzEncoder::finish)
}

fn lz4(content: &[u8]) -> Vec<u8> {
    let info = FrameInfo::new().block_size(BlockSize::Max64KB);
    lz4_with(info.content_checksum(true), content)
}

fn lz4_with(info: FrameInfo, content: &[u8]) -> Vec<u8> {
    let encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoded(encoder, content, FrameEncoder::finish)
}

type Compressor = fn(&[u8]) -> Vec<u8>;

/// Every format: how it is written, its name, and how many bytes it is known by.
const FORMATS: [(Compressor, &str, usize); 5] = [
    (gzip, "gzip", 2),
    (zstd, "zstd", 4),
    (bzip2, "bzip2", 10),
    (xz, "xz", 6),
    (lz4, "lz4", 4),
];

/// Bytes that do not compress.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1u64;
    let byte = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005) | 1;
        state = state.wrapping_add(1_442_695_040_888_963_406);
        (state >> 56) as u8
    };
    (0..count).map(byte).collect()
}

/// Unpacks what comes in reads of these sizes, over and over, into rooms of `room` bytes. Before
/// each read there is nothing once.
fn unpack(packed: &[u8], reads: &[usize], room: usize) -> Outcome {
    run(Decompressor::new(), packed, reads, room)
}

fn run(mut decompressor: Decompressor, packed: &[u8], reads: &[usize], room: usize) -> Outcome {
    let (mut found, mut out) = (Vec::new(), vec![0; room]);
    let mut read = torn_reads(packed, reads);
    loop {
        let step = decompressor.fill(&mut out, &mut read);
        match step {
            Ok(Decoded::Bytes(count)) => {
                assert!(count > 0);
                found.extend_from_slice(&out[..count]);
            }
            Ok(Decoded::Again) => {}
            Ok(Decoded::End) => return (found, Ok(())),
            Ok(Decoded::Skipped(_)) => panic!("it knows of no marks"),
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {}
            Err(cause) => return (found, Err(cause)),
        }
    }
}

fn at_once(packed: &[u8]) -> Outcome {
    unpack(packed, &[usize::MAX], 1 << 16)
}

/// The content, where there is no error.
fn content_of(packed: &[u8]) -> Vec<u8> {
    let (found, ended) = at_once(packed);
    ended.unwrap();
    found
}

fn error_of(packed: &[u8]) -> String {
    at_once(packed).1.unwrap_err().to_string()
}

proptest! {
    #[test]
    fn any_content_in_any_pieces_comes_out_however_it_is_cut(
        parts in prop::collection::vec("[ab\n]{0,40}|(word ){0,900}", 0..4),
        noise_bytes in prop_oneof![4 => Just(0), 1 => 1usize..300_000],
        form in 0..=FORMATS.len(),
        reads in prop::collection::vec(prop_oneof![1usize..20, 1usize..100_000], 1..5),
        room in prop_oneof![1usize..50, 1000usize..300_000],
    ) {
        let mut parts: Vec<_> = parts.into_iter().map(String::into_bytes).collect();
        parts.push(noise(noise_bytes));
        let packed: Vec<u8> = match FORMATS.get(form) {
            Some((pack, ..)) => parts.iter().flat_map(|part| pack(part)).collect(),
            None => parts.concat(),
        };
        let (found, ended) = unpack(&packed, &reads, room);
        prop_assert!(ended.is_ok(), "{ended:?}");
        prop_assert_eq!(found, parts.concat());
    }

    #[test]
    fn no_bytes_behind_a_magic_number_do_harm(
        magic in prop_oneof![
            Just(&b"\x1f\x8b\x08"[..]),
            Just(&b"\x28\xb5\x2f\xfd"[..]),
            Just(&b"Q*M\x18"[..]),
            Just(&b"BZh11AY&SY"[..]),
            Just(&b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46\x02"[..]),
            Just(&b"\x04\x22\x4d\x18\x60\x40\x82"[..]),
        ],
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        room in 1usize..300,
    ) {
        let packed = [magic, &bytes].concat();
        let (cut, ended_cut) = unpack(&packed, &[1], room);
        let (found, ended) = unpack(&packed, &[usize::MAX], 1 << 16);
        prop_assert_eq!(ended.is_ok(), ended_cut.is_ok());
        if ended.is_ok() {
            prop_assert_eq!(cut, found);
        }
    }

    /// Whatever was damaged: what comes out before the error is a beginning of what comes out where
    /// the same bytes are read at once, or the other way round, and what was in front of the damage
    /// is among it.
    #[test]
    fn what_comes_out_of_damaged_data_is_a_common_beginning_however_it_is_cut(
        form in 0..FORMATS.len(),
        content in "([a-z ]{0,40}\n){0,300}",
        at in any::<prop::sample::Index>(),
        bit in 0..8u32,
        is_cut_off: bool,
        reads in prop::collection::vec(prop_oneof![1usize..20, 1usize..100_000], 1..5),
        room in prop_oneof![1usize..50, 1000usize..300_000],
    ) {
        let pack = FORMATS[form].0;
        let first = pack(b"before it\n");
        let mut second = pack(content.as_bytes());
        let at = at.index(second.len());
        second[at] ^= 1u8 << bit;
        if is_cut_off {
            second.truncate(at);
        }
        let packed = [first, second].concat();
        let (whole, ended) = at_once(&packed);
        let (cut, ended_cut) = unpack(&packed, &reads, room);
        prop_assert_eq!(ended.is_ok(), ended_cut.is_ok(), "{:?} {:?}", ended, ended_cut);
        prop_assert!(whole.starts_with(&cut) || cut.starts_with(&whole));
        prop_assert!(cut.starts_with(b"before it\n") && whole.starts_with(b"before it\n"));
    }
}

/// A sink behind a decoder has room for a block, and the clock and the other sources get their turn
/// in between.
#[test]
fn a_call_hands_out_no_more_than_its_share_however_much_room_there_is() {
    let content = b"a line that is written again and again\n".repeat(50_000);
    for (pack, name, _) in FORMATS {
        let packed = pack(&content);
        let (mut decompressor, mut rest, mut out) =
            (Decompressor::new(), &packed[..], vec![0; 4 << 20]);
        let (mut found, mut calls) = (0, 0);
        loop {
            match decompressor.fill(&mut out, |space| io::Read::read(&mut rest, space)) {
                Ok(Decoded::Bytes(count)) => {
                    assert!(count <= CONTENT_BYTES_MAX, "{name}: {count}");
                    found += count;
                    calls += 1;
                }
                Ok(Decoded::Again) => {}
                Ok(step) => {
                    assert_eq!(step, Decoded::End, "{name}");
                    break;
                }
                Err(cause) => panic!("{name}: {cause}"),
            }
        }
        assert_eq!(found, content.len(), "{name}");
        assert!(
            calls >= content.len() / CONTENT_BYTES_MAX,
            "{name}: {calls}"
        );
    }
}

#[test]
fn every_cut_of_two_members_gives_both_and_every_end_inside_one_is_an_error() {
    for (pack, name, magic) in FORMATS {
        let (first, second) = (pack(b"one\ntwo\n"), pack(b"three"));
        let both = [&first[..], &second].concat();
        for cut in 1..both.len() {
            let (found, ended) = unpack(&both, &[cut, usize::MAX], 100);
            assert!(ended.is_ok(), "{cut}: {ended:?}");
            assert_eq!(found, b"one\ntwo\nthree", "{cut}");
        }
        for end in magic..both.len() {
            let (found, ended) = at_once(&both[..end]);
            assert!(b"one\ntwo\nthree".starts_with(&found), "{end}");
            if end == first.len() {
                assert!(ended.is_ok());
                continue;
            }
            assert!(
                found.len() >= if end > first.len() { 8 } else { 0 },
                "{end}"
            );
            let cause = ended.unwrap_err();
            assert_eq!(cause.kind(), io::ErrorKind::UnexpectedEof, "{end}");
            let says = format!("the {name} data breaks off at byte {end}");
            assert_eq!(cause.to_string(), says);
        }
    }
}

#[test]
fn a_changed_byte_is_an_error_or_changes_nothing() {
    for (pack, name, magic) in FORMATS {
        let content = [&b"some lines\nof text\n".repeat(50)[..], &noise(300)].concat();
        let packed = pack(&content);
        let mut errors = 0;
        for at in magic..packed.len() {
            let mut changed = packed.clone();
            changed[at] ^= 0x41;
            let (found, ended) = at_once(&changed);
            match ended {
                Ok(()) => assert_eq!(found, content, "{name} {at}"),
                Err(_) => errors += 1,
            }
        }
        // Some bytes of a gzip header are for people.
        assert!(errors + 8 >= packed.len() - magic, "{name} {errors}");
    }
}

#[test]
fn what_was_decoded_before_an_error_is_given() {
    let mut packed = [gzip(b"first\n"), gzip(&noise(1000))].concat();
    let at = packed.len() - 8;
    packed[at] ^= 1;
    let (found, ended) = at_once(&packed);
    assert_eq!(found, [&b"first\n"[..], &noise(1000)].concat());
    // The last byte of the checksum; the length, which follows it, may be missing.
    let says = format!("wrong checksum of gzip data at byte {}", at + 3);
    assert_eq!(ended.unwrap_err().to_string(), says);
    for len in at + 4..packed.len() {
        for reads in [usize::MAX, 7, 1] {
            let (_, ended) = unpack(&packed[..len], &[reads], 1 << 16);
            assert_eq!(ended.unwrap_err().to_string(), says, "{len} bytes");
        }
    }

    // Blocks that do not compress, the fourth one of which has a header that cannot be.
    let content = noise(600_000);
    let mut packed = zstd(&content);
    let (mut at, mut before) = (6, 0);
    for _ in 0..3 {
        let header = u32::from_le_bytes([packed[at], packed[at + 1], packed[at + 2], 0]);
        assert_eq!(header & 0b111, 0, "more blocks of bytes as they are");
        before += (header >> 3) as usize;
        at += 3 + (header >> 3) as usize;
    }
    packed[at] |= 0b110;
    for reads in [&[usize::MAX][..], &[1000], &[7]] {
        let (found, ended) = unpack(&packed, reads, 1 << 16);
        assert_eq!(found.len(), before);
        assert!(content.starts_with(&found));
        let said = ended.unwrap_err().to_string();
        assert!(said.starts_with("corrupt zstd data ("), "{said}");
        let said_at: usize = said.rsplit_once(' ').unwrap().1.parse().unwrap();
        assert!((at..at + 3).contains(&said_at), "{said} {at}");
    }
}

#[test]
fn what_is_no_magic_number_is_text() {
    let texts = [
        &b""[..],
        b"\x1f",
        b"(",
        b"\x28\xb5\x2f",
        b"P",
        b"P*M",
        b"P*N\x18 text",
        b"\x1f\x8atext",
        b"(\xb5\n",
        b"text \x1f\x8b",
        b"B",
        b"BZh",
        b"BZh0",
        b"BZh91AY&S",
        b"BZh9 is no text that begins like bzip2",
        b"\xfd7zXZ",
        b"\x04\x22\x4d",
        b"PK",
        b"PK\x03",
        b"7z",
        b"Rar!",
        b"LZIP",
        b"\xff\x06",
    ];
    for text in texts {
        assert_eq!(content_of(text), text);
        assert_eq!(unpack(text, &[1], 1).0, text);
    }
}

#[test]
fn a_header_alone_or_a_wrong_one_is_an_error() {
    for (bytes, says) in [
        (&b"\x1f\x8b"[..], "the gzip data breaks off at byte 2"),
        (b"\x28\xb5\x2f\xfd", "the zstd data breaks off at byte 4"),
        (&gzip(b"")[..10], "the gzip data breaks off at byte 10"),
        (b"\x1f\x8b\x07", "unknown gzip method at byte 2"),
        (b"\x1f\x8b\x08\x20", "unknown gzip flags at byte 3"),
        (b"BZh91AY&SY", "the bzip2 data breaks off at byte 10"),
        (b"\xfd7zXZ\0", "the xz data breaks off at byte 6"),
        (b"\x04\x22\x4d\x18", "the lz4 data breaks off at byte 4"),
        (b"\x04\x22\x4d\x18\x20\x40\0", "unknown lz4 flags at byte 4"),
        (b"\x04\x22\x4d\x18\x62\x40\0", "unknown lz4 flags at byte 4"),
        (b"\x04\x22\x4d\x18\x60\x41\0", "unknown lz4 flags at byte 4"),
        (
            b"\x04\x22\x4d\x18\x60\x40\0",
            "wrong checksum of an lz4 header at byte 4",
        ),
    ] {
        assert_eq!(error_of(bytes), says);
    }
    for (pack, ..) in FORMATS {
        assert_eq!(content_of(&pack(b"")), b"");
    }
}

#[test]
fn a_header_with_everything_is_read_and_its_checksum_is_checked() {
    let encoder = GzBuilder::new()
        .extra(vec![0, 1, 2])
        .filename("name")
        .comment("a comment");
    let encoder = encoder.write(Vec::new(), Level::default());
    let packed = encoded(encoder, b"content", GzEncoder::finish);
    assert_eq!(content_of(&packed), b"content");
    // The encoder writes no checksum of its header.
    let end = 10 + 2 + 3 + 5 + 10;
    let mut header = packed[..end].to_vec();
    header[3] |= 1 << 1;
    let mut crc = Crc::new();
    crc.update(&header);
    for (error, is_good) in [(0, true), (1, false)] {
        let sum = ((crc.sum() as u16) ^ error).to_le_bytes();
        let with = [&header[..], &sum, &packed[end..]].concat();
        assert_eq!(at_once(&with).1.is_ok(), is_good);
        assert_eq!(unpack(&with, &[1], 3).1.is_ok(), is_good);
    }
    // An extra field of no length.
    let bare = gzip(b"content");
    let mut header = bare[..10].to_vec();
    header[3] = 1 << 2;
    let with = [&header[..], &[0, 0], &bare[10..]].concat();
    assert_eq!(content_of(&with), b"content");
}

#[test]
fn zeros_may_follow_gzip_and_nothing_else() {
    let packed = gzip(b"content");
    let zeros = [&packed[..], &[0; 1000]].concat();
    assert_eq!(content_of(&zeros), b"content");
    let cases = [
        (&b"\x00\x00\x1f\x8b"[..], packed.len() + 2),
        (b"text", packed.len()),
        (b"\x1ftext", packed.len() + 1),
    ];
    for (behind, at) in cases {
        let (found, ended) = at_once(&[&packed[..], behind].concat());
        assert_eq!(found, b"content");
        let says = format!("bytes that are not gzip behind the gzip data at byte {at}");
        assert_eq!(ended.unwrap_err().to_string(), says);
    }
    let packed = zstd(b"content");
    let (found, ended) = at_once(&[&packed[..], b"text behind it"].concat());
    assert_eq!(found, b"content");
    assert!(ended.is_err());
    // Zeros alone are no gzip.
    assert!(at_once(b"\x1f\x8b\x00").1.is_err());
}

#[test]
fn the_first_bytes_are_content_once_nobody_waits_for_more() {
    for bytes in [&b"B"[..], b"BZh91AY&", b"\x1f", b"PK"] {
        assert_eq!(Compression::of(bytes, false), Compression::Undecided);
        let (mut decompressor, mut rest, mut out) = (Decompressor::new(), bytes, [0; 99]);
        let mut fill = |decompressor: &mut Decompressor| {
            decompressor.fill(&mut out, |space| match io::Read::read(&mut rest, space)? {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                count => Ok(count),
            })
        };
        let cause = fill(&mut decompressor).unwrap_err();
        assert_eq!(cause.kind(), io::ErrorKind::WouldBlock);
        decompressor.hurry();
        assert_eq!(
            fill(&mut decompressor).unwrap(),
            Decoded::Bytes(bytes.len())
        );
    }
}

#[test]
fn skippable_frames_are_skipped() {
    let skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd";
    let (one, two) = (zstd(b"one "), zstd(b"two"));
    let packed = [skippable, &one[..], skippable, &two[..], skippable].concat();
    assert_eq!(content_of(&packed), b"one two");
    assert_eq!(unpack(&packed, &[1], 1).0, b"one two");
    assert_eq!(content_of(skippable), b"");
    let (one, two) = (lz4(b"one "), lz4(b"two"));
    let empty = &skippable[..4];
    let packed = [&one[..], skippable, empty, &[0; 4], &two, skippable].concat();
    assert_eq!(content_of(&packed), b"one two");
    assert_eq!(unpack(&packed, &[1], 1).0, b"one two");
}

#[test]
fn what_is_inside_comes_out_before_more_is_read() {
    let content = b"a line that is written again and again\n".repeat(10_000);
    let mut gzip = GzEncoder::new(Vec::new(), Level::default());
    gzip.write_all(&content).unwrap();
    gzip.flush().unwrap();
    let mut zstd = ::zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    zstd.write_all(&content).unwrap();
    zstd.flush().unwrap();
    let mut lz4 = FrameEncoder::new(Vec::new());
    lz4.write_all(&content).unwrap();
    lz4.flush().unwrap();
    let mut xz = Vec::with_capacity(1 << 20);
    let mut encoder = Stream::new_easy_encoder(0, Check::Crc32).unwrap();
    let flushed = encoder.process_vec(&content, &mut xz, Action::SyncFlush);
    assert_eq!(flushed.unwrap(), liblzma::stream::Status::StreamEnd);
    for packed in [gzip.get_ref(), zstd.get_ref(), lz4.get_ref(), &xz] {
        let (mut decompressor, mut found, mut out) =
            (Decompressor::new(), Vec::new(), vec![0; 999]);
        let mut rest = &packed[..];
        loop {
            // The sender lives and has no more.
            let step =
                decompressor.fill(&mut out, |space| match io::Read::read(&mut rest, space)? {
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    count => Ok(count),
                });
            match step {
                Ok(Decoded::Bytes(count)) => found.extend_from_slice(&out[..count]),
                Ok(step) => assert_eq!(step, Decoded::Again),
                Err(cause) => {
                    assert_eq!(cause.kind(), io::ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        assert!(found == content, "{} of {}", found.len(), content.len());
    }
}

#[test]
fn a_call_ends_where_nothing_comes_out() {
    for (pack, ..) in FORMATS {
        let packed = pack(b"");
        let many = packed.repeat(1000);
        let (mut decompressor, mut rest, mut out) = (Decompressor::new(), &many[..], [0; 10]);
        let mut calls = 0;
        while decompressor
            .fill(&mut out, |space| io::Read::read(&mut rest, space))
            .unwrap()
            != Decoded::End
        {
            calls += 1;
        }
        assert!(calls >= 1000 / ENDS_PER_CALL, "{calls}");
    }
}
