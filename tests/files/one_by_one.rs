//! Files as a source among others.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use microtally::error::ErrorKind;
use microtally::sources::Files;
use microtally::{Config, Rule};
use proptest::prelude::*;

use crate::definition::{Definition, Expected};
use crate::util::{one_by_one, put};

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn files_are_read_one_after_another_and_their_lines_never_mix(
        contents in prop::collection::vec("([ab]{0,3}(\n|\r|\r\n)?){0,9}", 1..5),
        block_bytes in 64usize..100,
    ) {
        let contents: Vec<Vec<u8>> = contents.into_iter().map(String::into_bytes).collect();
        let root = tempfile::tempdir().unwrap();
        let files = Files::open(put(root.path(), &contents)).unwrap();
        let progress = files.progress();
        let config = Config::default().workers(1).block_bytes(block_bytes);
        let outcome = one_by_one(files, Rule::Lines, config);
        prop_assert!(outcome.error.is_none(), "{:?}", outcome.error);
        let expected: Expected = contents.iter().map(|content| Definition::of(content, Rule::Lines)).sum();
        prop_assert_eq!(outcome.seen, expected);
        let bytes = contents.iter().map(Vec::len).sum::<usize>() as u64;
        prop_assert_eq!((progress.read_bytes(), progress.total_bytes()), (bytes, bytes));
        prop_assert_eq!(progress.files_begun(), contents.len());
    }
}

#[test]
fn what_cannot_be_read_is_said_at_once_with_its_name_and_why() {
    let root = tempfile::tempdir().unwrap();
    let good = root.path().join("good");
    fs::write(&good, "x").unwrap();
    let missing = root.path().join("missing\nname");
    for (path, why) in [
        (&*missing, "No such file or directory"),
        (root.path(), "Is a directory"),
    ] {
        let error = Files::open([&*good, path]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Source);
        assert_eq!(error.to_string(), format!("cannot read {path:?}: {why}"));
    }
    fs::set_permissions(&good, fs::Permissions::from_mode(0o0)).unwrap();
    // Whoever may read everything may read this.
    if File::open(&good).is_err() {
        let error = Files::open([&good]).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot read {good:?}: Permission denied")
        );
    }
    assert_eq!(
        Files::open::<&Path>([]).unwrap_err().kind(),
        ErrorKind::Config
    );
}

#[test]
fn a_file_that_goes_is_an_error_when_the_others_are_done() {
    let root = tempfile::tempdir().unwrap();
    let paths = put(
        root.path(),
        &[b"a\n".to_vec(), b"b\n".to_vec(), b"c".to_vec()],
    );
    let files = Files::open(&paths).unwrap();
    fs::remove_file(&paths[1]).unwrap();
    let outcome = one_by_one(files, Rule::Lines, Config::default());
    assert_eq!(outcome.seen, Definition::of(b"a\nc", Rule::Lines));
    assert_eq!(
        outcome.notices,
        [format!(
            "cannot read {:?}: No such file or directory",
            paths[1]
        )]
    );
    let error = outcome.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::Source);
    assert_eq!(error.to_string(), outcome.notices[0]);
}

#[test]
fn case_77_a_file_that_shrank_ends_sooner() {
    let root = tempfile::tempdir().unwrap();
    let paths = put(root.path(), &[b"kept\nkept\n".to_vec()]);
    let files = Files::open(&paths).unwrap();
    let progress = files.progress();
    File::options()
        .write(true)
        .open(&paths[0])
        .unwrap()
        .set_len(7)
        .unwrap();
    let outcome = one_by_one(files, Rule::Lines, Config::default());
    let expected = Definition::of(b"kept\n", Rule::Lines);
    assert_eq!(outcome.seen.counts, expected.counts);
    assert_eq!(outcome.truncated_records, 1);
    let error = outcome.error.unwrap();
    assert!(error.to_string().contains("it became shorter"), "{error}");
    assert_eq!(error.unreported(), "");
    assert_eq!((progress.read_bytes(), progress.total_bytes()), (7, 7));
}

#[test]
fn a_pipe_among_files_is_waited_for() {
    let root = tempfile::tempdir().unwrap();
    let pipe = root.path().join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let mut paths = vec![pipe.clone()];
    paths.extend(put(root.path(), &[b"file\n".to_vec()]));
    let files = Files::open(&paths).unwrap();
    let writer = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(30));
        let mut pipe = File::options().write(true).open(pipe).unwrap();
        pipe.write_all(b"one\ntw").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(30));
        pipe.write_all(b"o").unwrap();
    });
    let outcome = one_by_one(files, Rule::Lines, Config::default());
    writer.join().unwrap();
    let (pipe, file) = (&b"one\ntwo"[..], &b"file\n"[..]);
    let expected = [pipe, file].map(|content| Definition::of(content, Rule::Lines));
    assert_eq!(outcome.seen, expected.into_iter().sum());
}

/// The kernel returns such a setting to the first read, and nothing to the second.
#[test]
#[cfg(target_os = "linux")]
fn a_setting_of_the_kernel_is_read_whole() {
    let path = "/proc/sys/kernel/pid_max";
    let content = fs::read(path).unwrap();
    assert!(content.len() > 4, "{content:?}");
    let outcome = one_by_one(Files::open([path]).unwrap(), Rule::Lines, Config::default());
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert_eq!(outcome.seen, Definition::of(&content, Rule::Lines));
}
