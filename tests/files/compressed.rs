//! Compressed files: what is inside is counted, whichever way they are read.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bzip2::write::BzEncoder;
use flate2::Compression;
use flate2::write::GzEncoder;
use liblzma::write::XzEncoder;
use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};
use microtally::error::ErrorKind;
use microtally::sources::Files;
use microtally::{Config, Rule, Stop, StreamingContext};
use proptest::prelude::*;

use crate::definition::{Definition, Expected};
use crate::util::{Outcome, all_at_once, one_by_one, program, put};

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 1).unwrap()
}

fn bzip2(content: &[u8]) -> Vec<u8> {
    let mut encoder = BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn xz(content: &[u8]) -> Vec<u8> {
    let mut encoder = XzEncoder::new(Vec::new(), 0);
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn lz4(content: &[u8]) -> Vec<u8> {
    let info = FrameInfo::new().block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// A text in UTF-16, with its mark.
fn utf16(content: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let units = [0xfeff].into_iter().chain(content.encode_utf16());
    units.flat_map(to_bytes).collect()
}

type Pack = fn(&[u8]) -> Vec<u8>;

const EVERY_FORMAT: [Pack; 5] = [gzip, zstd, bzip2, xz, lz4];

/// How a file is written: as it is, or in two members or frames.
fn packed(content: &[u8], how: usize) -> Vec<u8> {
    let (a, b) = content.split_at(content.len() / 3);
    match how {
        0 => content.to_vec(),
        1 => [gzip(a), gzip(b)].concat(),
        2 => [gzip(a), gzip(b), vec![0; 20]].concat(),
        3 => [zstd(a), zstd(b)].concat(),
        4 => [bzip2(a), bzip2(b)].concat(),
        5 => [xz(a), vec![0; 4], xz(b), vec![0; 8]].concat(),
        _ => [lz4(a), lz4(b)].concat(),
    }
}

/// Both ways files are read.
fn both_ways(paths: &[PathBuf], config: &Config) -> [(Outcome, [u64; 2]); 2] {
    [all_at_once, one_by_one].map(|way| {
        let files = Files::open(paths).unwrap().decompress().piece_bytes(50);
        let progress = files.progress();
        let outcome = way(files, Rule::Lines, config.clone());
        (outcome, [progress.read_bytes(), progress.total_bytes()])
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn what_is_in_compressed_and_plain_files_is_counted_and_progress_is_of_the_files(
        contents in prop::collection::vec(("([ab]{0,3}(\n|\r|\r\n)?){0,60}", 0usize..7), 1..6),
        workers in 1usize..4,
        block_bytes in 64usize..200,
    ) {
        let root = tempfile::tempdir().unwrap();
        let written = contents.iter().map(|(content, how)| packed(content.as_bytes(), *how));
        let written: Vec<_> = written.collect();
        let paths = put(root.path(), &written);
        let expected: Expected = contents
            .iter()
            .map(|(content, _)| Definition::of(content.as_bytes(), Rule::Lines))
            .sum();
        let bytes = written.iter().map(Vec::len).sum::<usize>() as u64;
        let config = Config::default().workers(workers).block_bytes(block_bytes).pin(false);
        for (outcome, progress) in both_ways(&paths, &config) {
            prop_assert!(outcome.error.is_none(), "{:?}", outcome.error);
            prop_assert_eq!(&outcome.seen, &expected);
            prop_assert_eq!(progress, [bytes, bytes]);
        }
    }
}

/// Lines of every kind of length, some of them longer than a block or than the longest record, and
/// words that nothing ends.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        8 => "[ab ]{0,9}\n".prop_map(|line| line.repeat(20).into_bytes()),
        2 => "[ab]{1,3} {0,2}\r\n?".prop_map(|line| line.repeat(30).into_bytes()),
        2 => "[ab ]{0,30}".prop_map(|words| words.repeat(20).into_bytes()),
        2 => (0usize..1500).prop_map(|count| vec![b'x'; count]),
        1 => Just(vec![0, 0xff, b'\n']),
    ];
    prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// The blocks of a compressed file go to whoever is idle; what comes of it is what one thread
    /// makes of the same bytes in a plain file, and what the definition says.
    #[test]
    fn a_compressed_file_is_counted_as_the_plain_one_whoever_has_its_blocks(
        contents in prop::collection::vec((text(), 1usize..7), 1..4),
        rule in prop_oneof![Just(Rule::Lines), Just(Rule::Split(b' ')), Just(Rule::SplitWhitespace)],
        workers in 1usize..6,
        block_bytes in 64usize..300,
        record_bytes_max in prop_oneof![64usize..1000, Just(1 << 20)],
    ) {
        let root = tempfile::tempdir().unwrap();
        let plain = root.path().join("plain");
        fs::create_dir(&plain).unwrap();
        let written: Vec<_> = contents.iter().map(|(content, how)| packed(content, *how)).collect();
        let paths = put(root.path(), &written);
        let contents: Vec<_> = contents.into_iter().map(|(content, _)| content).collect();
        let plain = put(&plain, &contents);
        let config = Config::default().block_bytes(block_bytes).record_bytes_max(record_bytes_max).pin(false);
        let outcome = all_at_once(
            Files::open(&paths).unwrap().decompress().piece_bytes(500),
            rule,
            config.clone().workers(workers),
        );
        prop_assert!(outcome.error.is_none(), "{:?}", outcome.error);
        let of_plain = one_by_one(Files::open(&plain).unwrap(), rule, config.workers(1));
        prop_assert_eq!(&outcome.seen, &of_plain.seen);
        let expected: Expected = contents.iter().map(|content| Definition::of(content, rule)).sum();
        let (expected, _) = expected.without_longer(record_bytes_max);
        prop_assert_eq!(outcome.seen, expected);
    }
}

#[test]
fn compressed_files_are_bytes_like_others_unless_it_is_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let written = [gzip(b"a\nb\n"), zstd(b"a\nb\n")];
    let paths = put(root.path(), &written);
    for way in [all_at_once, one_by_one] {
        let outcome = way(Files::open(&paths).unwrap(), Rule::Lines, Config::default());
        let expected = written
            .iter()
            .map(|bytes| Definition::of(bytes, Rule::Lines));
        assert_eq!(outcome.seen, expected.sum());
    }
}

#[test]
fn marks_are_skipped_and_utf_16_is_decoded_inside_of_compressed_files_too() {
    let root = tempfile::tempdir().unwrap();
    let text = "naïve\n日本\n😀";
    let marked = format!("\u{feff}{text}");
    let mut written = EVERY_FORMAT.map(|pack| pack(marked.as_bytes())).to_vec();
    written.extend(EVERY_FORMAT.map(|pack| pack(&utf16(text, u16::to_le_bytes))));
    let paths = put(root.path(), &written);
    let expected = written
        .iter()
        .map(|_| Definition::of(text.as_bytes(), Rule::Lines));
    let mut expected: Expected = expected.sum();
    // The marks of UTF-8 are in the bytes; those of UTF-16 have gone with it.
    expected.bytes += 3 * EVERY_FORMAT.len() as u64;
    let bytes = written.iter().map(Vec::len).sum::<usize>() as u64;
    for (outcome, progress) in both_ways(&paths, &Config::default().workers(2).pin(false)) {
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
        assert_eq!(outcome.seen, expected);
        assert_eq!(progress, [bytes, bytes]);
    }
}

#[test]
fn an_archive_is_refused_and_the_other_files_are_counted() {
    let root = tempfile::tempdir().unwrap();
    let zip = b"PK\x03\x04\x14\0\0\0\x08\0a\nb\n".to_vec();
    let paths = put(root.path(), &[b"x\n".to_vec(), zip, bzip2(b"y\nx\n")]);
    for (outcome, _) in both_ways(&paths, &Config::default().workers(2)) {
        assert_eq!(outcome.seen, Definition::of(b"x\ny\nx\n", Rule::Lines));
        let says = format!(
            "cannot read {:?}: it is a zip archive; unpack it first, for example with unzip -p",
            paths[1]
        );
        assert_eq!(outcome.error.unwrap().to_string(), says);
    }
}

#[test]
fn empty_files_and_single_bytes_are_plain() {
    let root = tempfile::tempdir().unwrap();
    let contents = [&b""[..], b"\x1f", b"(", b"\n", b"P*M"].map(<[u8]>::to_vec);
    let paths = put(root.path(), &contents);
    let expected = contents
        .iter()
        .map(|content| Definition::of(content, Rule::Lines));
    let expected: Expected = expected.sum();
    for (outcome, progress) in both_ways(&paths, &Config::default()) {
        assert!(outcome.error.is_none());
        assert_eq!(outcome.seen, expected);
        assert_eq!(progress, [6, 6]);
    }
}

#[test]
fn a_file_that_breaks_off_is_an_error_with_its_name_and_place_and_counted_so_far() {
    let root = tempfile::tempdir().unwrap();
    let first = gzip(b"one\ntwo\nthr");
    let mut corrupt = [&first[..], &gzip(b"ee\nfour\n")].concat();
    corrupt[first.len() + 2] = 9;
    let whole = zstd(b"five\n");
    let written = [corrupt, whole[..whole.len() - 2].to_vec(), b"six".to_vec()];
    let paths = put(root.path(), &written);
    for (outcome, progress) in both_ways(&paths, &Config::default().workers(1)) {
        assert_eq!(outcome.seen, Definition::of(b"one\ntwo\nsix", Rule::Lines));
        // The beginnings of "three" and of "five".
        assert_eq!(outcome.truncated_records, 2);
        let place = first.len() + 2;
        let notices = [
            format!(
                "cannot read {:?}: unknown gzip method at byte {place}",
                paths[0]
            ),
            format!(
                "cannot read {:?}: the zstd data breaks off at byte {}",
                paths[1],
                whole.len() - 2
            ),
        ];
        // As a source it also tells of the lines that were dropped.
        let told = outcome.notices.iter();
        let told: Vec<_> = told.filter(|told| told.starts_with("cannot")).collect();
        assert_eq!(told, notices.iter().collect::<Vec<_>>());
        let error = outcome.error.unwrap();
        assert_eq!(error.kind(), ErrorKind::Source);
        let says = format!(
            "2 of 3 files could not be read, the first one: {}",
            notices[0]
        );
        assert_eq!(error.to_string(), says);
        assert_eq!(progress[0], progress[1]);
    }
}

#[test]
fn what_was_decoded_before_an_error_is_counted_whoever_counts_it() {
    let content: String = (0..60_000)
        .map(|number| format!("{} {number}\n", number % 7))
        .collect();
    let root = tempfile::tempdir().unwrap();
    for pack in EVERY_FORMAT {
        let mut bytes = pack(content.as_bytes());
        bytes.truncate(bytes.len() * 2 / 3);
        let paths = put(root.path(), &[bytes]);
        let of_one = one_by_one(
            Files::open(&paths).unwrap().decompress(),
            Rule::Split(b' '),
            Config::default().workers(1),
        );
        assert!(of_one.seen.records > 10_000, "{}", of_one.seen.records);
        for block_bytes in [1000, 10_000, 256 << 10] {
            let outcome = all_at_once(
                Files::open(&paths).unwrap().decompress(),
                Rule::Split(b' '),
                Config::default()
                    .workers(4)
                    .block_bytes(block_bytes)
                    .pin(false),
            );
            assert_eq!(outcome.seen, of_one.seen);
            assert_eq!(outcome.truncated_records, of_one.truncated_records);
            let error = outcome.error.unwrap().to_string();
            assert_eq!(error, of_one.error.as_ref().unwrap().to_string());
        }
    }
}

#[test]
fn a_file_that_is_compressed_well_fills_more_than_any_buffer() {
    let root = tempfile::tempdir().unwrap();
    let content = b"the same line\n".repeat(500_000);
    let paths = put(root.path(), &EVERY_FORMAT.map(|pack| pack(&content)));
    let expected = EVERY_FORMAT.map(|_| Definition::of(&content, Rule::Lines));
    let expected: Expected = expected.into_iter().sum();
    for (outcome, _) in both_ways(&paths, &Config::default().workers(2)) {
        assert!(outcome.error.is_none());
        assert_eq!(outcome.seen, expected);
    }
}

#[test]
fn what_comes_out_of_a_named_pipe_is_decompressed_and_progress_is_of_the_pipe() {
    let content = b"a line\n".repeat(10_000);
    for (way, bytes) in [all_at_once, one_by_one]
        .into_iter()
        .flat_map(|way| EVERY_FORMAT.map(|pack| (way, pack(&content))))
    {
        let root = tempfile::tempdir().unwrap();
        let pipe = root.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let files = Files::open([&pipe]).unwrap().decompress();
        let progress = files.progress();
        let count = bytes.len() as u64;
        let writer = std::thread::spawn(move || {
            let mut pipe = File::options().write(true).open(pipe).unwrap();
            let (first, rest) = bytes.split_at(3);
            pipe.write_all(first).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(30));
            pipe.write_all(rest).unwrap();
        });
        let outcome = way(files, Rule::Lines, Config::default());
        writer.join().unwrap();
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
        assert_eq!(outcome.seen, Definition::of(&content, Rule::Lines));
        assert_eq!([progress.read_bytes(), progress.total_bytes()], [count; 2]);
    }
}

/// A frame whose window is 2 to the power of `log`: its decoder takes as much, however little there
/// is in it.
fn with_window(content: &[u8], log: u32) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(log).unwrap();
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn windows_are_as_large_as_the_memory_limit_can_spare_and_8_mib_at_least() {
    const MIB: usize = 1 << 20;
    // More than the room for one call, or the decoder would take no window for it.
    let content = b"one\ntwo\n".repeat(100_000);
    let expected = Definition::of(&content, Rule::Lines);
    let root = tempfile::tempdir().unwrap();
    let config = Config::default()
        .workers(2)
        .record_bytes_max(MIB)
        .pin(false);
    for (log, limit, files, is_refused) in [
        (23, Some(64), 1, false),
        (23, Some(64), 2, false),
        (24, Some(64), 1, true),
        (24, Some(128), 1, false),
        (25, Some(256), 1, false),
        (25, Some(256), 2, true),
        (27, Some(512), 1, true),
        (27, Some(1024), 1, false),
        (27, None, 2, false),
    ] {
        let frame = with_window(&content, log);
        let paths = put(root.path(), &vec![frame; files]);
        let config = match limit {
            Some(mib) => config.clone().memory_bytes_max(mib * MIB),
            None => config.clone(),
        };
        let outcome = all_at_once(
            Files::open(&paths).unwrap().decompress(),
            Rule::Lines,
            config,
        );
        let name = format!("{log} {limit:?} {files}");
        if !is_refused {
            assert!(outcome.error.is_none(), "{name}: {:?}", outcome.error);
            let expected: Expected = (0..files).map(|_| expected.clone()).sum();
            assert_eq!(outcome.seen, expected, "{name}");
            continue;
        }
        let error = outcome.error.unwrap();
        assert_eq!(error.kind(), ErrorKind::Source);
        let says = format!(
            "the zstd frame at byte 0 asks for a window of {} MiB, and the memory limit leaves ",
            1 << (log - 20)
        );
        assert!(error.to_string().contains(&says), "{name}: {error}");
        assert_eq!(outcome.seen.records, 0, "{name}");
    }
    // Read as a source, there is one decoder whatever the number of files.
    let paths = put(root.path(), &vec![with_window(&content, 25); 3]);
    for (mib, is_refused) in [(256, false), (255, true)] {
        let config = config.clone().memory_bytes_max(mib * MIB);
        let outcome = one_by_one(
            Files::open(&paths).unwrap().decompress(),
            Rule::Lines,
            config,
        );
        assert_eq!(
            outcome.error.is_some(),
            is_refused,
            "{mib}: {:?}",
            outcome.error
        );
        assert_eq!(outcome.notices.len(), if is_refused { 3 } else { 0 });
    }
}

#[test]
fn plain_and_gzip_files_leave_the_memory_to_the_tables() {
    let root = tempfile::tempdir().unwrap();
    let mut written = vec![b"a\n".to_vec()];
    written.extend(EVERY_FORMAT.map(|pack| pack(b"a\n")));
    let paths = put(root.path(), &written);
    let config = Config::default()
        .block_bytes(1 << 16)
        .record_bytes_max(1 << 20)
        .pin(false);
    // The least memory in KiB that each of them is counted with, by so many workers.
    let least = |path: &PathBuf, workers: usize| {
        let config = config.clone().workers(workers).memory_bytes_max(1 << 20);
        let files = Files::open([path]).unwrap().decompress().piece_bytes(1);
        let (ssc, _) = program(files, Rule::Lines, config);
        let error = ssc.start_files().unwrap_err().to_string();
        let number = error.split(": ").nth(1).unwrap().split(' ').next().unwrap();
        number.parse::<usize>().unwrap() >> 10
    };
    let [plain, gzip, zstd, bzip2, xz, lz4] = [0, 1, 2, 3, 4, 5].map(|file| least(&paths[file], 1));
    assert_eq!(gzip - plain, 768, "a decoder");
    assert_eq!([zstd, xz].map(|kib| kib - gzip), [8 << 10; 2], "a window");
    assert_eq!([bzip2, lz4].map(|kib| kib - gzip), [8 << 10; 2], "blocks");
    let [plain, gzip] = [0, 1].map(|file| least(&paths[file], 2));
    assert_eq!(
        gzip - plain,
        768 + 8 * 64,
        "a decoder, and the blocks it lends"
    );
}

/// One thread decodes; the blocks that come out are counted by who has nothing else to do, and by
/// the one who decodes when that is too slow.
#[test]
fn what_one_worker_decodes_two_count() {
    let root = tempfile::tempdir().unwrap();
    let content = b"line\n".repeat(300_000);
    for pack in EVERY_FORMAT {
        let paths = put(root.path(), &[pack(&content)]);
        let files = Files::open(&paths).unwrap().decompress().piece_bytes(1);
        let config = Config::default().workers(2).block_bytes(1 << 14);
        let ssc = StreamingContext::one_batch(config.pin(false)).unwrap();
        let counted_by = Arc::<Mutex<BTreeSet<String>>>::default();
        let names = Arc::clone(&counted_by);
        ssc.files_stream(files)
            .map(move |line| {
                let name = std::thread::current().name().map(str::to_owned);
                names.lock().unwrap().extend(name);
                (line, 1u64)
            })
            .reduce_by_key(|a, b| a + b)
            .for_each_batch(|batch, _| assert_eq!(batch.get(b"line"), Some(300_000)));
        ssc.start_files().unwrap().await_termination().unwrap();
        let counted_by = counted_by.lock().unwrap();
        assert_eq!(
            *counted_by,
            ["mt-files-0", "mt-files-1"].map(str::to_owned).into()
        );
    }
}

#[test]
fn a_stop_counts_what_was_decoded_and_does_not_wait_for_the_rest() {
    let root = tempfile::tempdir().unwrap();
    // Some 60 GB in 6 MB: nobody would wait for it.
    let mut frame = zstd(&vec![b'\n'; 64 << 20]);
    frame = frame.repeat(1000);
    let paths = put(root.path(), &[frame]);
    for (how, batches) in [(Stop::Graceful, 1), (Stop::Immediate, 0)] {
        let files = Files::open(&paths).unwrap().decompress();
        let progress = files.progress();
        let config = Config::default().workers(3).pin(false);
        let (ssc, watch) = program(files, Rule::Lines, config);
        let running = ssc.start_files().unwrap();
        while progress.read_bytes() == 0 {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(100));
        let begin = Instant::now();
        let ended = running.stop(how);
        assert!(begin.elapsed() < Duration::from_secs(5));
        let outcome = watch.outcome(ended.map(drop));
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
        assert_eq!(outcome.batches, batches);
        assert_eq!(outcome.seen.records > 0, batches > 0);
    }
}

#[test]
fn case_77_a_compressed_file_that_shrank_is_one_that_breaks_off() {
    let root = tempfile::tempdir().unwrap();
    let paths = put(root.path(), &[gzip(b"kept\nlost\n")]);
    let files = Files::open(&paths).unwrap().decompress();
    let whole = fs::metadata(&paths[0]).unwrap().len();
    let file = File::options().write(true).open(&paths[0]).unwrap();
    file.set_len(whole - 1).unwrap();
    let outcome = one_by_one(files, Rule::Lines, Config::default());
    assert_eq!(outcome.seen, Definition::of(b"kept\nlost\n", Rule::Lines));
    assert!(outcome.error.unwrap().to_string().contains("breaks off"));
}
