//! The door that counts files on all cores.

use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

use microtally::config::LineEnds;
use microtally::error::ErrorKind;
use microtally::prelude::*;
use microtally::sources::Files;
use microtally::{Config, Rule};
use proptest::prelude::*;

use crate::definition::{Definition, Expected};
use crate::util::{all_at_once, one_by_one, program, put};

const ALL_ENDS: [LineEnds; 3] = [LineEnds::Universal, LineEnds::Lf, LineEnds::Nul];

fn rules() -> impl Strategy<Value = Rule> {
    prop_oneof![
        Just(Rule::Lines),
        Just(Rule::Split(b' ')),
        Just(Rule::SplitWhitespace)
    ]
}

/// Line ends in every arrangement, and words of every kind of length.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        6 => "[ab ]{0,6}".prop_map(String::into_bytes),
        3 => Just(b"\n".to_vec()),
        3 => Just(b"\r\n".to_vec()),
        2 => Just(b"\r".to_vec()),
        1 => (0usize..90).prop_map(|n| vec![b'x'; n]),
        1 => Just(vec![0, 0xff]),
        1 => Just(vec![0]),
    ];
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn pieces_of_any_size_hold_every_record_once(
        contents in prop::collection::vec(content(), 1..4),
        rule in rules(),
        line_ends in prop::sample::select(&ALL_ENDS[..]),
        piece_bytes in prop_oneof![1usize..20, 20usize..400],
        workers in 1usize..5,
        block_bytes in 64usize..200,
    ) {
        let root = tempfile::tempdir().unwrap();
        let files = Files::open(put(root.path(), &contents)).unwrap().piece_bytes(piece_bytes);
        let progress = files.progress();
        let config = Config::default().workers(workers).block_bytes(block_bytes).pin(false).line_ends(line_ends);
        let outcome = all_at_once(files, rule, config);
        prop_assert!(outcome.error.is_none(), "{:?}", outcome.error);
        let expected: Expected = contents.iter().map(|content| Definition::of_ends(content, rule, line_ends)).sum();
        prop_assert_eq!(outcome.seen, expected);
        prop_assert_eq!(outcome.batches, 1);
        let bytes = contents.iter().map(Vec::len).sum::<usize>() as u64;
        prop_assert_eq!((progress.read_bytes(), progress.total_bytes()), (bytes, bytes));
    }
}

#[test]
fn every_place_of_a_boundary_is_tried() {
    let text = b"a\r\n\r\nb\n\nc\rd\r\r\n\n\re e\r\nlonger than a piece or two\r\n".to_vec();
    for (end, line_ends) in (0..=text.len()).flat_map(|end| ALL_ENDS.map(|ends| (end, ends))) {
        let content = &text[..end];
        let root = tempfile::tempdir().unwrap();
        let paths = put(root.path(), &[content.to_vec()]);
        for piece_bytes in 1..=end + 1 {
            let files = Files::open(&paths).unwrap().piece_bytes(piece_bytes);
            let config = Config::default().workers(2).block_bytes(64).pin(false);
            let outcome = all_at_once(files, Rule::Lines, config.line_ends(line_ends));
            let expected = Definition::of_ends(content, Rule::Lines, line_ends);
            assert_eq!(outcome.seen, expected, "{line_ends:?} {end} {piece_bytes}");
        }
    }
}

#[test]
fn a_record_of_many_pieces_is_one_and_beyond_the_limit_it_is_words() {
    let root = tempfile::tempdir().unwrap();
    let line = [b"word ".repeat(2000), b"\nend\n".to_vec()].concat();
    let paths = put(root.path(), std::slice::from_ref(&line));
    for limit in [100, 1 << 20] {
        let files = Files::open(&paths).unwrap().piece_bytes(1000);
        let config = Config::default()
            .workers(3)
            .block_bytes(256)
            .record_bytes_max(limit);
        let outcome = all_at_once(files, Rule::Split(b' '), config);
        assert_eq!(
            outcome.seen,
            Definition::of(&line, Rule::Split(b' ')),
            "{limit}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// The mark may be longer than a piece, or all there is.
    #[test]
    fn the_mark_of_each_file_is_no_part_of_its_first_line_and_is_in_the_bytes(
        contents in prop::collection::vec(("([ab\u{feff}]{0,3}(\n|\r|\r\n)?){0,9}", any::<bool>()), 1..4),
        piece_bytes in 1usize..9,
        workers in 1usize..4,
    ) {
        let root = tempfile::tempdir().unwrap();
        let mark = |is_marked| if is_marked { "\u{feff}" } else { "" };
        let written: Vec<_> = contents
            .iter()
            .map(|(content, is_marked)| format!("{}{content}", mark(*is_marked)).into_bytes())
            .collect();
        let paths = put(root.path(), &written);
        let texts = written.iter().map(|bytes| bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes));
        let mut expected: Expected = texts.map(|text| Definition::of(text, Rule::Lines)).sum();
        let bytes = written.iter().map(Vec::len).sum::<usize>() as u64;
        let config = Config::default().workers(workers).block_bytes(64).pin(false);
        expected.bytes = bytes;
        for way in [all_at_once, one_by_one] {
            let files = Files::open(&paths).unwrap().piece_bytes(piece_bytes);
            let progress = files.progress();
            let outcome = way(files, Rule::Lines, config.clone());
            prop_assert!(outcome.error.is_none(), "{:?}", outcome.error);
            prop_assert_eq!(&outcome.seen, &expected);
            prop_assert_eq!([progress.read_bytes(), progress.total_bytes()], [bytes; 2]);
        }
    }
}

#[test]
fn a_file_in_utf_16_is_counted_as_utf_8_by_all_workers() {
    let root = tempfile::tempdir().unwrap();
    let text = "plain\nnaïve\n日本\n😀\n".repeat(20_000);
    let units = || [0xfeff].into_iter().chain(text.encode_utf16());
    let written = [
        units().flat_map(u16::to_le_bytes).collect(),
        units().flat_map(u16::to_be_bytes).collect(),
        text.clone().into_bytes(),
    ];
    let paths = put(root.path(), &written);
    let expected = written
        .iter()
        .map(|_| Definition::of(text.as_bytes(), Rule::Lines));
    let expected: Expected = expected.sum();
    let bytes = written.iter().map(Vec::len).sum::<usize>() as u64;
    for way in [all_at_once, one_by_one] {
        let files = Files::open(&paths).unwrap().piece_bytes(100_000);
        let progress = files.progress();
        let outcome = way(files, Rule::Lines, Config::default().workers(2).pin(false));
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
        assert_eq!(outcome.seen, expected);
        assert_eq!([progress.read_bytes(), progress.total_bytes()], [bytes; 2]);
    }
}

#[test]
fn closures_and_other_operators_run_in_the_workers_too() {
    let root = tempfile::tempdir().unwrap();
    let content = (0..5000)
        .map(|n| format!("{},{}\n", n % 7, n))
        .collect::<String>();
    let paths = put(root.path(), &[content.into_bytes(), b"3,1000000".to_vec()]);
    let ssc = StreamingContext::with_config(Duration::from_secs(1), Config::default().workers(2))
        .unwrap();
    let lines = ssc.files_stream(Files::open(paths).unwrap().piece_bytes(1000));
    let (sender, sums) = std::sync::mpsc::channel();
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().parse::<u64>().unwrap();
    lines
        .filter(|line| line[0] != b'0')
        .map(move |line| (&line[..1], number(&line[2..])))
        .reduce_by_key(u64::max)
        .for_each_batch(move |batch, _| {
            sender
                .send((
                    batch.get(b"0"),
                    batch.get(b"3"),
                    batch.get(b"6"),
                    batch.stats().records,
                ))
                .unwrap();
        });
    let (count_sender, counted) = std::sync::mpsc::channel();
    lines
        .count()
        .for_each_batch(move |rdd, _| count_sender.send(rdd.to_vec()).unwrap());
    let running = ssc.start_files().unwrap();
    running.await_termination().unwrap();
    assert_eq!(
        sums.iter().collect::<Vec<_>>(),
        [(None, Some(1_000_000), Some(4997), 5001)]
    );
    assert_eq!(counted.iter().collect::<Vec<_>>(), [[5001]]);
    assert_eq!(
        (running.stats().batches, running.stats().records),
        (1, 5001)
    );
}

#[test]
fn a_function_that_panics_fails_the_batch_and_nothing_hangs() {
    let root = tempfile::tempdir().unwrap();
    let paths = put(root.path(), &[b"a\nb\n".repeat(1000)]);
    let ssc = StreamingContext::with_config(Duration::from_secs(1), Config::default().workers(2))
        .unwrap();
    let lines = ssc.files_stream(Files::open(paths).unwrap().piece_bytes(100));
    lines
        .filter(|line| if line == b"b" { panic!("no b") } else { true })
        .count_by_value()
        .pprint(1);
    let error = ssc.start_files().unwrap().await_termination().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UserFunction);
}

#[test]
fn a_file_that_cannot_be_read_costs_the_others_nothing_and_is_an_error_at_the_end() {
    let root = tempfile::tempdir().unwrap();
    let paths = put(
        root.path(),
        &[
            b"a\n".to_vec(),
            b"b\n".to_vec(),
            b"a\n".repeat(100),
            b"d".to_vec(),
        ],
    );
    for piece_bytes in [10, 1 << 20] {
        let files = Files::open(&paths).unwrap().piece_bytes(piece_bytes);
        fs::rename(&paths[1], root.path().join("away")).unwrap();
        fs::rename(&paths[2], root.path().join("away too")).unwrap();
        let outcome = all_at_once(files, Rule::Lines, Config::default().workers(2));
        assert_eq!(outcome.seen, Definition::of(b"a\nd", Rule::Lines));
        assert_eq!(outcome.notices.len(), 2, "{:?}", outcome.notices);
        let error = outcome.error.unwrap();
        assert_eq!(error.kind(), ErrorKind::Source);
        assert!(
            error
                .to_string()
                .starts_with("2 of 4 files could not be read, the first one: cannot read"),
            "{error}"
        );
        fs::rename(root.path().join("away"), &paths[1]).unwrap();
        fs::rename(root.path().join("away too"), &paths[2]).unwrap();
    }
}

#[test]
fn files_that_cannot_be_opened_cost_the_others_nothing_where_any_will_do() {
    let root = tempfile::tempdir().unwrap();
    let mut paths = put(root.path(), &[b"a\n".to_vec(), b"b".to_vec()]);
    let missing = root.path().join("missing");
    paths.insert(1, missing.clone());
    paths.push(root.path().to_owned());
    for way in [all_at_once, one_by_one] {
        assert_eq!(Files::open(&paths).unwrap_err().kind(), ErrorKind::Source);
        let files = Files::open_any(&paths).unwrap();
        assert_eq!(files.readable(), 2);
        let outcome = way(files, Rule::Lines, Config::default().workers(2).pin(false));
        assert_eq!(outcome.seen, Definition::of(b"a\nb", Rule::Lines));
        let mut notices = outcome.notices;
        notices.sort();
        let mut expected = [
            format!("cannot read {missing:?}: No such file or directory"),
            format!("cannot read {:?}: Is a directory", root.path()),
        ];
        expected.sort();
        assert_eq!(notices, expected);
        let error = outcome.error.unwrap();
        assert_eq!(error.kind(), ErrorKind::Source);
        assert_eq!(error.unreported(), "2 of 4 files could not be read");
        assert!(
            error
                .to_string()
                .starts_with("2 of 4 files could not be read, the first one: ")
        );
    }
    // One that is made in time is read.
    let files = Files::open_any(&paths[1..2]).unwrap();
    assert_eq!(files.readable(), 0);
    fs::write(&missing, "in time\n").unwrap();
    let outcome = all_at_once(files, Rule::Lines, Config::default());
    assert_eq!(outcome.seen, Definition::of(b"in time\n", Rule::Lines));
    assert!(outcome.error.is_none());
    let none = Files::open_any::<&std::path::Path>([]).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Config);
}

#[test]
fn case_77_a_file_that_shrinks_ends_sooner_and_one_that_grows_does_not_end_later() {
    let root = tempfile::tempdir().unwrap();
    let paths = put(
        root.path(),
        &[b"kept\n".repeat(10), b"0123456789\n".to_vec()],
    );
    // Both change between the look at their sizes and the reading, one before and one after it is
    // opened.
    let files = Files::open(&paths).unwrap();
    let progress = files.progress();
    File::options()
        .write(true)
        .open(&paths[0])
        .unwrap()
        .set_len(13)
        .unwrap();
    File::options()
        .append(true)
        .open(&paths[1])
        .unwrap()
        .write_all(b"more\n")
        .unwrap();
    let outcome = all_at_once(files, Rule::Lines, Config::default().workers(1));
    let says = format!(
        "cannot read {:?}: it became shorter while it was read; the line that was cut is not counted",
        paths[0]
    );
    assert_eq!(outcome.error.unwrap().to_string(), says);
    assert_eq!(outcome.notices.len(), 1, "{:?}", outcome.notices);
    assert_eq!(outcome.truncated_records, 1);
    let expected = Definition::of(b"kept\nkept\n0123456789\nmore\n", Rule::Lines);
    assert_eq!(outcome.seen.counts, expected.counts);
    assert_eq!(outcome.seen.records, expected.records);
    assert_eq!((progress.read_bytes(), progress.total_bytes()), (29, 29));
}

/// Wherever the file is cut, wherever the pieces begin and end, and whoever reads them.
#[test]
fn a_line_that_was_cut_is_no_key_and_the_run_ends_with_an_error() {
    let content: Vec<u8> = (0..12)
        .flat_map(|number| format!("line {number} end\r\n").into_bytes())
        .collect();
    let root = tempfile::tempdir().unwrap();
    for (way, piece_bytes, workers) in [
        (all_at_once as fn(_, _, _) -> _, 10, 3),
        (all_at_once, 1000, 1),
        (one_by_one, 1000, 1),
    ] {
        for end in 0..=content.len() {
            let paths = put(root.path(), std::slice::from_ref(&content));
            let files = Files::open(&paths).unwrap().piece_bytes(piece_bytes);
            let progress = files.progress();
            let file = File::options().write(true).open(&paths[0]).unwrap();
            file.set_len(end as u64).unwrap();
            let config = Config::default().workers(workers).block_bytes(64);
            let outcome = way(files, Rule::Lines, config.pin(false));
            let lines = content[..end]
                .iter()
                .rposition(|byte| b"\r\n".contains(byte))
                .map_or(0, |last| last + 1);
            let expected = Definition::of(&content[..lines], Rule::Lines);
            assert_eq!(outcome.seen.counts, expected.counts, "{end}");
            assert_eq!(outcome.seen.records, expected.records, "{end}");
            assert_eq!(outcome.truncated_records, u64::from(lines < end), "{end}");
            let is_cut = end < content.len();
            let notices = outcome.notices.iter();
            let told = notices.filter(|notice| notice.contains("became shorter"));
            assert_eq!(told.count(), usize::from(is_cut), "{end}");
            assert_eq!(outcome.error.is_some(), is_cut, "{end}");
            assert_eq!(
                [progress.read_bytes(), progress.total_bytes()],
                [end as u64; 2]
            );
        }
    }
}

/// The last record begins in one piece and has no end in the next ones: it is looked for up to the
/// end that the file had, and not in what comes behind it meanwhile.
#[test]
fn what_is_appended_after_a_file_was_opened_is_not_read() {
    let root = tempfile::tempdir().unwrap();
    let mut content = b"a b\n".repeat(100_000);
    content.extend(std::iter::repeat_n(b'x', 100_000));
    let paths = put(root.path(), std::slice::from_ref(&content));
    let files = Files::open(&paths).unwrap().piece_bytes(30_000);
    let progress = files.progress();
    let seen = progress.clone();
    let appending = std::thread::spawn(move || {
        let mut file = File::options().append(true).open(&paths[0]).unwrap();
        while seen.read_bytes() == 0 {
            std::thread::yield_now();
        }
        file.write_all(&[b'y'; 50_000]).unwrap();
        file.write_all(b"\nthe end\n").unwrap();
    });
    let config = Config::default().workers(1).block_bytes(8192);
    let outcome = all_at_once(files, Rule::Lines, config);
    appending.join().unwrap();
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert_eq!(outcome.seen, Definition::of(&content, Rule::Lines));
    let bytes = content.len() as u64;
    assert_eq!(
        (progress.read_bytes(), progress.total_bytes()),
        (bytes, bytes)
    );
}

#[test]
fn files_without_a_size_and_pipes_are_read_to_their_ends() {
    let root = tempfile::tempdir().unwrap();
    let pipe = root.path().join("pipe");
    let made = std::process::Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .unwrap();
    assert!(made.success());
    let files = Files::open([std::path::Path::new("/proc/version"), &pipe]).unwrap();
    let progress = files.progress();
    let writer = std::thread::spawn(move || {
        let mut pipe = File::options().write(true).open(pipe).unwrap();
        pipe.write_all(b"one\ntw").unwrap();
        std::thread::sleep(Duration::from_millis(30));
        pipe.write_all(b"o\nlast").unwrap();
    });
    let outcome = all_at_once(files, Rule::Lines, Config::default().workers(2));
    writer.join().unwrap();
    let version = fs::read("/proc/version").unwrap();
    assert_eq!(
        outcome.seen,
        Definition::of(&version, Rule::Lines).plus(Definition::of(b"one\ntwo\nlast", Rule::Lines))
    );
    assert_eq!(progress.read_bytes(), version.len() as u64 + 12);
    assert_eq!(progress.total_bytes(), progress.read_bytes());
    assert_eq!((progress.files_begun(), progress.files()), (2, 2));
}

/// A mark is no content, and half a character is none yet: reading goes on behind both.
#[test]
fn a_pipe_that_begins_with_a_mark_and_comes_byte_by_byte_is_read_to_its_end() {
    let content = "one\ntwo\n";
    let utf_16: Vec<u8> = content.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for bytes in [
        [&[0xff, 0xfe], &utf_16[..]].concat(),
        [&[0xef, 0xbb, 0xbf], content.as_bytes()].concat(),
    ] {
        let root = tempfile::tempdir().unwrap();
        let pipe = root.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let files = Files::open([&pipe]).unwrap();
        let writer = std::thread::spawn(move || {
            let mut pipe = File::options().write(true).open(pipe).unwrap();
            for byte in bytes {
                pipe.write_all(&[byte]).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let outcome = all_at_once(files, Rule::Lines, Config::default().workers(1));
        writer.join().unwrap();
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
        let expected = Definition::of(content.as_bytes(), Rule::Lines);
        assert_eq!(outcome.seen.counts, expected.counts);
    }
}

#[test]
fn a_graceful_stop_puts_out_what_was_counted_and_an_immediate_one_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut paths = put(root.path(), &[b"a\n".to_vec()]);
    // A writer that never comes: the run would wait for it for ever.
    let pipe = root.path().join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    paths.push(pipe);
    // With several workers those that are idle wait for the one that reads the pipe.
    for (how, batches, workers) in [
        (Stop::Graceful, 1, 1),
        (Stop::Immediate, 0, 1),
        (Stop::Graceful, 1, 3),
        (Stop::Immediate, 0, 3),
    ] {
        let files = Files::open(&paths).unwrap();
        let progress = files.progress();
        let config = Config::default().workers(workers).pin(false);
        let (ssc, watch) = program(files, Rule::Lines, config);
        let running = ssc.start_files().unwrap();
        while progress.files_begun() < 2 {
            std::thread::yield_now();
        }
        let begin = Instant::now();
        let ended = running.stop(how);
        assert!(begin.elapsed() < Duration::from_secs(2));
        let outcome = watch.outcome(ended.map(drop));
        assert!(outcome.error.is_none());
        assert_eq!(outcome.batches, batches);
        assert_eq!(outcome.seen.records, batches as u64);
        assert_eq!(outcome.truncated_records, 0);
    }
}

#[test]
fn only_files_can_be_run_to_their_ends() {
    let ssc = StreamingContext::new(Duration::from_secs(1)).unwrap();
    ssc.socket_text_stream("localhost", 9)
        .unwrap()
        .count_by_value()
        .pprint(1);
    assert_eq!(ssc.start_files().unwrap_err().kind(), ErrorKind::Config);
    let ssc = StreamingContext::new(Duration::from_secs(1)).unwrap();
    ssc.files_stream(Files::open(["Cargo.toml"]).unwrap());
    assert_eq!(ssc.start_files().unwrap_err().kind(), ErrorKind::NoOutput);
}

/// As a rotation does: the name is another file's by the time it is read, and that one is whole.
#[test]
fn a_file_that_was_replaced_by_a_shorter_one_before_it_was_read_is_counted_whole() {
    let root = tempfile::tempdir().unwrap();
    let paths = put(root.path(), &[b"old and long\n".repeat(50)]);
    let files = Files::open(&paths).unwrap();
    let new = root.path().join("new");
    fs::write(&new, "fresh\nlast").unwrap();
    fs::rename(&new, &paths[0]).unwrap();
    let outcome = all_at_once(files, Rule::Lines, Config::default().workers(1));
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert_eq!(outcome.seen, Definition::of(b"fresh\nlast", Rule::Lines));
    assert_eq!(outcome.notices, [""; 0]);
}
