//! However compressed data is cut into reads, and whatever room there is for what comes out, it is
//! what was packed. Of damaged data, what comes out before the error is a beginning of what comes
//! out where all is read at once, or the other way round, and both end in an error or neither does.
#![no_main]

use std::io::Write;

use arbitrary::Arbitrary;
use bzip2::write::BzEncoder;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;
use liblzma::write::XzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use microtally::internals::decoded;

/// A few bytes may stand for gigabytes.
const CONTENT_BYTES_MAX: usize = 4 << 20;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    format: Format,
    parts: Vec<Part<'a>>,
    /// Bits that are turned round.
    damage: Vec<(u16, u8)>,
    cut_off: Option<u16>,
    reads: Vec<u8>,
    room: u16,
}

/// A member, frame or stream.
#[derive(Arbitrary, Debug)]
struct Part<'a> {
    content: &'a [u8],
    times: u8,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Format {
    Plain,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
    Lz4 {
        is_linked: bool,
        has_checksums: bool,
    },
}

impl Format {
    fn pack(self, content: &[u8]) -> Vec<u8> {
        match self {
            Format::Plain => content.to_vec(),
            Format::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            Format::Zstd => zstd::encode_all(content, 1).unwrap(),
            Format::Bzip2 => {
                let mut encoder = BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            Format::Xz => {
                let mut encoder = XzEncoder::new(Vec::new(), 0);
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            Format::Lz4 {
                is_linked,
                has_checksums,
            } => {
                let mode = if is_linked {
                    BlockMode::Linked
                } else {
                    BlockMode::Independent
                };
                let info = FrameInfo::new()
                    .block_size(BlockSize::Max64KB)
                    .block_mode(mode);
                let info = info
                    .block_checksums(has_checksums)
                    .content_checksum(has_checksums);
                let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
        }
    }
}

fuzz_target!(|input: Input<'_>| {
    let parts = input.parts.iter().take(8);
    let parts: Vec<_> = parts
        .map(|part| part.content.repeat(1 + usize::from(part.times)))
        .collect();
    let mut packed: Vec<u8> = parts
        .iter()
        .flat_map(|part| input.format.pack(part))
        .collect();
    for &(at, bit) in &input.damage {
        if !packed.is_empty() {
            let at = usize::from(at) % packed.len();
            packed[at] ^= 1 << (bit % 8);
        }
    }
    if let Some(end) = input.cut_off {
        packed.truncate(usize::from(end));
    }
    let reads: Vec<_> = input.reads.iter().copied().map(usize::from).collect();
    let (whole, ended) = decoded(&packed, &[usize::MAX], 1 << 16, CONTENT_BYTES_MAX);
    let (cut, ended_cut) = decoded(&packed, &reads, usize::from(input.room), CONTENT_BYTES_MAX);
    assert!(whole.starts_with(&cut) || cut.starts_with(&whole));
    if whole.len().max(cut.len()) >= CONTENT_BYTES_MAX {
        return;
    }
    assert_eq!(ended.is_ok(), ended_cut.is_ok(), "{ended:?} {ended_cut:?}");
    if ended.is_ok() {
        assert_eq!(whole, cut);
    }
    let is_packed = !matches!(input.format, Format::Plain) && !input.parts.is_empty();
    if is_packed && input.damage.is_empty() && input.cut_off.is_none() {
        let content = parts.concat();
        // Marks and UTF-16 are the affair of other tests.
        if content
            .first()
            .is_some_and(|first| (b'\t'..0x80).contains(first))
        {
            assert!(ended.is_ok(), "{ended:?}");
            assert_eq!(whole, content);
        }
    }
});
