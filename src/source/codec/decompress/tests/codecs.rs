//! What is special to zstd, bzip2, xz and lz4, and what is refused.

use std::io::{self, Write};

use liblzma::stream::{Action, Check, Filters, LzmaOptions, Stream};
use liblzma::write::XzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameInfo};

use super::{
    Decompressor, FORMATS, at_once, content_of, encoded, error_of, lz4, lz4_with, noise, run,
    unpack, xz, zstd,
};

#[test]
fn text_behind_compressed_data_is_an_error_where_it_begins() {
    for (pack, name, _) in &FORMATS[2..] {
        let packed = pack(b"content");
        let (found, ended) = at_once(&[&packed[..], b"text"].concat());
        assert_eq!(found, b"content");
        let cause = ended.unwrap_err().to_string();
        let says = format!("bytes that are not {name} behind the {name} data at byte ");
        let at: usize = cause.strip_prefix(&says).unwrap().parse().unwrap();
        assert_eq!(at, packed.len(), "{name}");
    }
}

#[test]
fn xz_streams_may_have_groups_of_four_zeros_behind_them() {
    let packed = xz(b"content");
    for zeros in [0, 4, 1000] {
        let padded = [&packed[..], &vec![0; zeros]].concat();
        let both = padded.repeat(2);
        for reads in [&[usize::MAX][..], &[1], &[7]] {
            let (found, ended) = unpack(&both, reads, 100);
            assert!(ended.is_ok(), "{zeros}: {ended:?}");
            assert_eq!(found, b"contentcontent");
        }
    }
    let torn = [&packed[..], &[0; 3]].concat();
    let says = format!("the xz data breaks off at byte {}", torn.len());
    assert_eq!(error_of(&torn), says);
    assert!(at_once(&[&torn[..], &packed].concat()).1.is_err());
}

#[test]
fn xz_streams_of_many_blocks_and_every_kind_of_checksum_are_read() {
    let content = b"a line that is written again and again\n".repeat(5000);
    for check in [Check::None, Check::Crc32, Check::Crc64, Check::Sha256] {
        let mut packed = Vec::with_capacity(1 << 20);
        let mut encoder = Stream::new_easy_encoder(0, check).unwrap();
        // As parallel compressors write them.
        for block in content.chunks(50_000) {
            let ended = encoder.process_vec(block, &mut packed, Action::FullFlush);
            assert_eq!(ended.unwrap(), liblzma::stream::Status::StreamEnd);
        }
        let ended = encoder.process_vec(b"", &mut packed, Action::Finish);
        assert_eq!(ended.unwrap(), liblzma::stream::Status::StreamEnd);
        for reads in [&[usize::MAX][..], &[7]] {
            let (found, ended) = unpack(&packed, reads, 1 << 16);
            assert!(ended.is_ok(), "{check:?}: {ended:?}");
            assert!(found == content, "{check:?}");
        }
    }
}

#[test]
fn an_xz_dictionary_that_is_larger_than_there_may_be_is_refused() {
    let content = noise(100_000);
    let first = xz(b"first\n");
    for (dict_bytes, wanted) in [(8 << 20, 8), (12 << 20, 16), (64 << 20, 64)] {
        let mut options = LzmaOptions::new_preset(0).unwrap();
        options.dict_size(dict_bytes);
        let stream = Stream::new_stream_encoder(Filters::new().lzma2(&options), Check::Crc32);
        let mut encoder = XzEncoder::new_stream(Vec::new(), stream.unwrap());
        encoder.write_all(&content).unwrap();
        let packed = [first.clone(), encoder.finish().unwrap()].concat();
        for (log_max, reads) in [(23, &[usize::MAX][..]), (24, &[1, 1000]), (26, &[7])] {
            let mut decompressor = Decompressor::new();
            decompressor.limit_window(log_max);
            let (found, ended) = run(decompressor, &packed, reads, 1 << 16);
            let max = 1 << (log_max - 20);
            if wanted <= max {
                assert!(ended.is_ok(), "{wanted} {max}: {ended:?}");
                assert!(found == [&b"first\n"[..], &content].concat());
                continue;
            }
            assert_eq!(found, b"first\n");
            let said = ended.unwrap_err().to_string();
            let says = format!(
                " asks for a dictionary of up to {wanted} MiB, and the memory limit leaves {max} MiB for it; \
                 decompress it first with xz -dc"
            );
            let place = said.strip_suffix(&says).unwrap_or_else(|| panic!("{said}"));
            let place = place.strip_prefix("the xz block at byte ").unwrap();
            assert!(place.parse::<usize>().unwrap() > first.len(), "{said}");
        }
    }
}

#[test]
fn lz4_frames_of_every_kind_are_read() {
    // Long enough for references far back, some of it not compressed at all.
    let line = b"a line that is written again and again\n";
    let content = [line.repeat(9000), noise(70_000), line.repeat(9000)].concat();
    let sizes = [
        BlockSize::Max64KB,
        BlockSize::Max256KB,
        BlockSize::Max1MB,
        BlockSize::Max4MB,
    ];
    for (size, mode) in sizes
        .into_iter()
        .flat_map(|size| [BlockMode::Independent, BlockMode::Linked].map(|mode| (size, mode)))
    {
        for has_all in [false, true] {
            let mut info = FrameInfo::new().block_size(size).block_mode(mode);
            info = info.block_checksums(has_all).content_checksum(has_all);
            info = info.content_size(has_all.then_some(content.len() as u64));
            let packed = lz4_with(info, &content);
            let both = [&packed[..], &lz4(b"the end")].concat();
            for reads in [&[usize::MAX][..], &[1000], &[100_000]] {
                let (found, ended) = unpack(&both, reads, 1 << 16);
                assert!(ended.is_ok(), "{size:?} {mode:?}: {ended:?}");
                assert!(
                    found == [&content[..], b"the end"].concat(),
                    "{size:?} {mode:?}"
                );
            }
        }
    }
}

#[test]
fn an_lz4_frame_that_says_another_length_or_needs_a_dictionary_is_an_error() {
    let info = FrameInfo::new().content_size(Some(7));
    let packed = lz4_with(info, b"content");
    assert_eq!(content_of(&packed), b"content");
    let with = |descriptor: &[u8], rest: &[u8]| {
        let checksum = (twox_hash::XxHash32::oneshot(0, descriptor) >> 8) as u8;
        [b"\x04\x22\x4d\x18", descriptor, &[checksum], rest].concat()
    };
    let mut descriptor = packed[4..14].to_vec();
    assert_eq!(with(&descriptor, &packed[15..]), packed);
    descriptor[2] = 8;
    let (found, ended) = at_once(&with(&descriptor, &packed[15..]));
    assert_eq!(found, b"content");
    let said = ended.unwrap_err().to_string();
    assert!(
        said.starts_with("wrong length of lz4 data at byte "),
        "{said}"
    );
    let with_dictionary = with(b"\x61\x40\x01\0\0\0", b"\0\0\0\0");
    assert_eq!(
        error_of(&with_dictionary),
        "lz4 data that needs a dictionary at byte 4"
    );
    let too_long = with(b"\x60\x40", b"\x01\0\x01\0");
    assert_eq!(
        error_of(&too_long),
        "a block of lz4 data that is too long at byte 7"
    );
}

#[test]
fn formats_that_are_known_and_not_decoded_are_refused_with_what_to_do() {
    for (bytes, says) in [
        (
            &b"PK\x03\x04 and the rest"[..],
            "it is a zip archive; unpack it first",
        ),
        (
            b"PK\x05\x06 and the rest",
            "it is a zip archive; unpack it first",
        ),
        (b"7z\xbc\xaf\x27\x1c and the rest", "it is a 7z archive"),
        (b"Rar!\x1a\x07 and the rest", "it is a rar archive"),
        (b"\xff\x06\x00\x00sNaPpY and the rest", "it is snappy data"),
        (b"LZIP\x01 and the rest", "it is lzip data"),
        (b"\x89LZO\0\r\n\x1a\n and the rest", "it is lzop data"),
        (
            b"\x1f\x9d and the rest",
            "it is data of the old compress program",
        ),
        (
            b"\x02\x21\x4c\x18 and the rest",
            "it is lz4 data of the legacy format",
        ),
    ] {
        for reads in [&[usize::MAX][..], &[1]] {
            let (found, ended) = unpack(bytes, reads, 100);
            assert_eq!(found, b"");
            let cause = ended.unwrap_err();
            assert_eq!(cause.kind(), io::ErrorKind::InvalidData);
            let said = cause.to_string();
            assert!(said.starts_with(says) && said.contains(" first"), "{said}");
        }
    }
}

#[test]
fn a_window_above_128_mib_is_refused() {
    // A frame without flags: a window of 2^27 or 2^28 bytes, and an empty last block.
    let frame = |log: u8| {
        [
            &b"\x28\xb5\x2f\xfd\x00"[..],
            &[(log - 10) << 3],
            b"\x01\x00\x00",
        ]
        .concat()
    };
    assert_eq!(content_of(&frame(27)), b"");
    let says = "the zstd frame at byte 0 asks for a window of 256 MiB, and 128 MiB is the most; decompress \
                it first with zstd -d --long=31";
    assert_eq!(error_of(&frame(28)), says);
    // More than the decoder would ever allow.
    assert!(error_of(&frame(41)).contains(" 2097152 MiB, and"));
}

/// A frame of the reference encoder that asks for a window of 2 to the power of `log`, or of what
/// is in it where its length is `known`.
fn with_window(content: &[u8], log: u32, known: bool) -> Vec<u8> {
    let mut encoder = ::zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(log).unwrap();
    if known {
        encoder
            .set_pledged_src_size(Some(content.len() as u64))
            .unwrap();
    }
    encoded(encoder, content, |encoder| encoder.finish())
}

#[test]
fn a_frame_that_wants_a_larger_window_than_there_may_be_is_refused_where_it_begins() {
    let (first, content) = (zstd(b"first\n"), noise(9 << 20));
    for (log, known, wanted) in [
        (23, false, 8),
        (24, false, 16),
        (27, false, 128),
        (27, true, 9),
    ] {
        let frame = with_window(&content, log, known);
        let packed = [&first[..], &frame].concat();
        for (log_max, reads) in [
            (23, &[usize::MAX][..]),
            (24, &[1, 1000]),
            (26, &[usize::MAX]),
            (27, &[7, 100_000]),
        ] {
            let mut decompressor = Decompressor::new();
            decompressor.limit_window(log_max);
            let (found, ended) = run(decompressor, &packed, reads, 1 << 16);
            if wanted <= 1 << (log_max - 20) {
                assert!(ended.is_ok(), "{ended:?}");
                assert!(found == [&b"first\n"[..], &content].concat());
                continue;
            }
            assert_eq!(found, b"first\n");
            let says = format!(
                "the zstd frame at byte {} asks for a window of {wanted} MiB, and the memory limit leaves {} MiB \
                 for it; decompress it first with zstd -d",
                first.len(),
                1 << (log_max - 20)
            );
            assert_eq!(ended.unwrap_err().to_string(), says);
        }
    }
    // A window that is no power of two, and a content whose length is in two bytes and in four.
    let of = |header: &[u8]| super::super::zstd::window_bytes(header);
    let magic = &b"\x28\xb5\x2f\xfd"[..];
    assert_eq!(
        of(&[magic, &[0, 13 << 3 | 3]].concat()),
        Some((8 << 20) + (3 << 20))
    );
    assert_eq!(
        of(&[magic, &[1 << 6 | 1 << 5 | 1, 9, 1, 2]].concat()),
        Some(0x201 + 256)
    );
    assert_eq!(
        of(&[magic, &[2 << 6 | 1 << 5, 1, 2, 3, 4]].concat()),
        Some(0x0403_0201)
    );
    assert_eq!(of(&[magic, &[2 << 6 | 1 << 5, 1, 2, 3]].concat()), None);
    assert_eq!(of(magic), None);
}
