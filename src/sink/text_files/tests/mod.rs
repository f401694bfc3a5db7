//! What can be seen in the directory, whatever happens in the middle.

use super::*;
use crate::batch::BatchStats;
use crate::table::KeyTable;
use crate::table::keys::Seed;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tempfile::TempDir;

pub(super) mod disk;

fn time() -> BatchTime {
    BatchTime::from_millis(5000)
}

type Tree = BTreeMap<String, Vec<u8>>;

/// Every file below `folder` by its path, and every empty directory with a slash behind its name.
fn tree(folder: &Path) -> Tree {
    let mut found = Tree::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !entry.file_type().unwrap().is_dir() {
            found.insert(name, fs::read(entry.path()).unwrap());
            continue;
        }
        let below = tree(&entry.path());
        if below.is_empty() {
            found.insert(format!("{name}/"), Vec::new());
        }
        for (path, bytes) in below {
            found.insert(format!("{name}/{path}"), bytes);
        }
    }
    found
}

fn expect(files: &[(&str, &str)]) -> Tree {
    let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), text.as_bytes().to_vec());
    files.iter().map(owned).collect()
}

fn words_in(folder: &TempDir) -> TextFiles {
    TextFiles::new(folder.path().join("words"), "txt").unwrap()
}

/// Why a batch cannot be saved.
fn error_of_save(mut files: TextFiles, parts: &[[&str; 1]]) -> Error {
    let error = files.save_records(time(), parts).unwrap_err();
    assert_eq!(error.kind(), crate::error::ErrorKind::Sink);
    error
}

/// Two parts and the mark, as `time()`'s batch in the tests below leaves them.
const OLD: &[(&str, &str)] = &[
    ("words-5000.txt/_SUCCESS", ""),
    ("words-5000.txt/part-00000", "old 0\n"),
    ("words-5000.txt/part-00001", "old 1\n"),
];

fn save_old(files: &mut TextFiles) {
    files.save_records(time(), [["old 0"], ["old 1"]]).unwrap();
}

#[test]
fn names_are_sparks() {
    for (prefix, suffix, target, aside) in [
        ("words", "txt", "words-5000.txt", ".words-aside.txt"),
        ("words", "", "words-5000", ".words-aside"),
        ("", "", "5000", ".aside"),
        ("", "txt", "5000.txt", ".aside.txt"),
        ("out/words", "", "out/words-5000", "out/.words-aside"),
        ("/out/", "a.b", "/out/-5000.a.b", "/out/.-aside.a.b"),
        ("..", "", "..-5000", "...-aside"),
    ] {
        let files = TextFiles::new(prefix, suffix).unwrap();
        let name = directory(&files.prefix, "5000", &files.suffix);
        assert_eq!(name, Path::new(target));
        assert_eq!(files.aside, Path::new(aside));
        assert_eq!(parent(&name), parent(&files.aside));
    }
    assert_eq!(parent(Path::new("5000")), Path::new("."));
    assert_eq!(part_name(7), "part-00007");
    assert_eq!(part_name(123_456), "part-123456");
}

#[test]
fn only_names_of_parts_are_parts() {
    assert_eq!(part_index(OsStr::new("part-00012")), Some(12));
    assert_eq!(part_index(OsStr::new("part-123456")), Some(123_456));
    for name in [
        "part-",
        "part-1",
        "part-+0001",
        "part-000001",
        "part-00001.crc",
        "_SUCCESS",
    ] {
        assert_eq!(part_index(OsStr::new(name)), None, "{name}");
    }
}

#[test]
fn what_no_directory_can_be_called_is_refused() {
    for (prefix, suffix) in [("words", "a/b"), ("words", "a\0"), ("a\0", "txt")] {
        let refused = TextFiles::new(prefix, suffix).unwrap_err();
        assert_eq!(refused.kind(), crate::error::ErrorKind::Config);
    }
}

#[test]
fn batches_become_directories() {
    let folder = TempDir::new().unwrap();
    let mut files = words_in(&folder);
    files
        .save_records(
            time(),
            [vec![("it's", 1)], vec![], vec![("a", 2), ("b", 3)]],
        )
        .unwrap();
    let none: [[u64; 0]; 0] = [];
    files
        .save_records(BatchTime::from_millis(6000), none)
        .unwrap();
    files
        .save_records(BatchTime::from_millis(7000), [["raw\t\x1b", "two\nlines"]])
        .unwrap();
    assert_eq!(
        tree(folder.path()),
        expect(&[
            ("words-5000.txt/_SUCCESS", ""),
            ("words-5000.txt/part-00000", "(\"it's\", 1)\n"),
            ("words-5000.txt/part-00001", ""),
            ("words-5000.txt/part-00002", "('a', 2)\n('b', 3)\n"),
            ("words-6000.txt/_SUCCESS", ""),
            ("words-7000.txt/_SUCCESS", ""),
            ("words-7000.txt/part-00000", "raw\t\x1b\ntwo\nlines\n"),
        ])
    );
}

#[test]
fn missing_directories_are_made_also_in_the_middle_of_a_run() {
    let folder = TempDir::new().unwrap();
    let mut files = TextFiles::new(folder.path().join("a/b/c/words"), "").unwrap();
    for ms in [1, 2] {
        files
            .save_records(BatchTime::from_millis(ms), [[ms]])
            .unwrap();
        let path = format!("a/b/c/words-{ms}/part-00000");
        assert_eq!(tree(folder.path())[&path], format!("{ms}\n").as_bytes());
        fs::remove_dir_all(folder.path().join("a")).unwrap();
    }
}

/// The partitions themselves look: while they write, nothing is there but what was there before.
#[test]
fn nothing_can_be_seen_until_all_is_written() {
    let folder = TempDir::new().unwrap();
    let mut files = words_in(&folder);
    for before in [&[], OLD] {
        let look = |to: &mut dyn Write| {
            to.write_all(&vec![b'x'; 3 * TEXT_BYTES])?;
            to.flush()?;
            let mut seen = tree(folder.path());
            let aside = seen.len();
            seen.retain(|path, _| !path.starts_with(".words-aside.txt/part-"));
            assert!(aside > seen.len(), "the part is written aside");
            assert_eq!(seen, expect(before));
            Ok(())
        };
        files.save(time(), [look, look]).unwrap();
        let big = vec![b'x'; 3 * TEXT_BYTES];
        assert_eq!(tree(folder.path())["words-5000.txt/part-00001"], big);
        save_old(&mut files);
    }
}

#[test]
fn a_partition_that_fails_or_panics_leaves_what_was_there() {
    let folder = TempDir::new().unwrap();
    let mut files = words_in(&folder);
    for before in [&[], OLD] {
        for big in [3 * TEXT_BYTES, 10] {
            for failing in [0, 1] {
                let write = |index: usize, how: fn() -> io::Result<()>| {
                    move |to: &mut dyn Write| {
                        to.write_all(&vec![b'x'; big])?;
                        if index == failing { how() } else { Ok(()) }
                    }
                };
                let full = || Err(io::Error::from_raw_os_error(28));
                let error = files
                    .save(time(), [write(0, full), write(1, full)])
                    .unwrap_err();
                assert_eq!(error.kind(), crate::error::ErrorKind::Sink);
                let text = format!(
                    "cannot write results to {}/.words-aside.txt/part-0000{failing}: No space left on device",
                    folder.path().display()
                );
                assert_eq!(error.to_string(), text);
                assert_eq!(tree(folder.path()), expect(before));

                let broken = || Err(ErrorKind::BrokenPipe.into());
                let error = files
                    .save(time(), [write(0, broken), write(1, broken)])
                    .unwrap_err();
                assert_eq!(error.kind(), crate::error::ErrorKind::Sink);

                let panics = || panic!("in the middle");
                let saved = catch_unwind(AssertUnwindSafe(|| {
                    files.save(time(), [write(0, panics), write(1, panics)])
                }));
                assert!(saved.is_err());
                assert_eq!(tree(folder.path()), expect(before));
            }
        }
        // Also nothing of a failed batch turns up in the next one.
        save_old(&mut files);
        assert_eq!(tree(folder.path()), expect(OLD));
    }
}

#[test]
fn a_write_that_failed_is_not_forgotten_by_a_partition_that_goes_on() {
    let file = File::options().write(true).open("/dev/full").unwrap();
    let mut part = PartFile {
        file: &file,
        text: &mut Vec::new(),
        failed: None,
    };
    part.write_all(b"lost").unwrap();
    assert!(part.flush().is_err());
    part.flush().unwrap();
    assert_eq!(part.failed, Some(ErrorKind::StorageFull));
    assert!(part.write_all(&[0; TEXT_BYTES]).is_err());
    assert_eq!(part.text.len(), 0);
}

#[test]
fn what_a_killed_run_left_aside_is_removed() {
    let folder = TempDir::new().unwrap();
    let left = folder.path().join(".words-aside.txt");
    fs::create_dir_all(left.join("deeper")).unwrap();
    fs::write(left.join("part-00000"), "half").unwrap();
    fs::write(left.join("part-00007"), "half").unwrap();
    save_old(&mut words_in(&folder));
    assert_eq!(tree(folder.path()), expect(OLD));
}

#[test]
fn only_the_directory_that_was_opened_is_emptied_whatever_has_its_path_by_now() {
    let folder = TempDir::new().unwrap();
    let (out, moved) = (folder.path().join("out"), folder.path().join("moved"));
    let name = OsStr::new(".words-aside");
    // Left by a run that was killed; then somebody puts another directory in the place of the one
    // above.
    fs::create_dir_all(out.join(name).join("deeper/still")).unwrap();
    fs::write(out.join(name).join("deeper/still/part-00000"), "half").unwrap();
    let above = Dir::open(&out).unwrap();
    fs::rename(&out, &moved).unwrap();
    fs::create_dir_all(out.join(name)).unwrap();
    fs::write(out.join(name).join("notes"), "mine").unwrap();
    make_anew(&above, name).unwrap();
    let expected = expect(&[
        ("moved/.words-aside/", ""),
        ("out/.words-aside/notes", "mine"),
    ]);
    assert_eq!(tree(folder.path()), expected);
}

#[test]
fn a_batch_that_fails_removes_its_own_files_and_no_others_at_their_path() {
    let folder = TempDir::new().unwrap();
    let (out, moved) = (folder.path().join("out"), folder.path().join("moved"));
    let mut files = TextFiles::new(out.join("words"), "").unwrap();
    let failing = |_: &mut dyn Write| {
        fs::rename(&out, &moved)?;
        fs::create_dir_all(out.join(".words-aside"))?;
        fs::write(out.join(".words-aside/notes"), "mine")?;
        Err(io::Error::other("it fails"))
    };
    files.save(time(), [failing]).unwrap_err();
    assert_eq!(
        tree(folder.path()),
        expect(&[("moved/", ""), ("out/.words-aside/notes", "mine")])
    );
}

#[test]
fn directories_that_are_nested_deeper_than_any_run_makes_them_are_an_error() {
    let folder = TempDir::new().unwrap();
    let deep: PathBuf = std::iter::once(".words-aside.txt")
        .chain(std::iter::repeat_n("d", 100))
        .collect();
    fs::create_dir_all(folder.path().join(deep)).unwrap();
    error_of_save(words_in(&folder), &[["new"]]);
}

#[test]
fn a_batch_saved_again_replaces_its_parts_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let mut files = words_in(&folder);
    save_old(&mut files);
    let target = folder.path().join("words-5000.txt");
    fs::write(target.join("notes"), "mine").unwrap();
    fs::write(target.join("part-1"), "mine").unwrap();
    let mut expected = expect(&[
        ("words-5000.txt/_SUCCESS", ""),
        ("words-5000.txt/notes", "mine"),
        ("words-5000.txt/part-1", "mine"),
    ]);
    for count in [1, 3, 0] {
        expected.retain(|path, _| !path.contains("part-0"));
        for index in 0..count {
            let path = format!("words-5000.txt/part-0000{index}");
            expected.insert(path, format!("{count}\n").into_bytes());
        }
        files.save_records(time(), vec![[count]; count]).unwrap();
        assert_eq!(tree(folder.path()), expected);
    }
}

#[test]
fn an_empty_directory_is_as_good_as_none() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("words-5000.txt")).unwrap();
    save_old(&mut words_in(&folder));
    assert_eq!(tree(folder.path()), expect(OLD));
}

/// A part that cannot be replaced: what is there is not called complete.
#[test]
fn a_batch_that_was_replaced_by_half_has_no_mark() {
    let folder = TempDir::new().unwrap();
    let target = folder.path().join("words-5000.txt");
    fs::create_dir_all(target.join("part-00001/in the way")).unwrap();
    fs::write(target.join("_SUCCESS"), "").unwrap();
    let error = error_of_save(words_in(&folder), &[["new"], ["new"]]);
    assert!(error.to_string().contains("/words-5000.txt: "), "{error}");
    assert_eq!(
        tree(folder.path()),
        expect(&[
            ("words-5000.txt/part-00000", "new\n"),
            ("words-5000.txt/part-00001/in the way/", ""),
        ])
    );
}

#[test]
fn files_in_the_way_are_errors_and_stay() {
    let folder = TempDir::new().unwrap();
    for (in_the_way, prefix) in [
        ("file", "file/words"),
        ("words-5000", "words"),
        (".dots-aside", "dots"),
    ] {
        fs::write(folder.path().join(in_the_way), "mine").unwrap();
        let files = TextFiles::new(folder.path().join(prefix), "").unwrap();
        let error = error_of_save(files, &[["new"]]);
        let place = folder.path().display();
        let start = format!("cannot write results to {place}/");
        assert!(error.to_string().starts_with(&start), "{error}");
        assert_eq!(tree(folder.path()), expect(&[(in_the_way, "mine")]));
        fs::remove_file(folder.path().join(in_the_way)).unwrap();
    }
}

/// Somebody who can write to the directory above has planted links to files of the victim's.
#[test]
fn a_planted_link_is_an_error_and_nothing_behind_it_changes() {
    let folder = TempDir::new().unwrap();
    let victim = [
        ("victim/part-00000", "mine"),
        ("victim/part-00009", "mine"),
        ("victim/_SUCCESS", "mine"),
    ];
    fs::create_dir(folder.path().join("victim")).unwrap();
    for (path, text) in victim {
        fs::write(folder.path().join(path), text).unwrap();
    }
    let nowhere = folder.path().join("nowhere");
    for leads_to in [folder.path().join("victim"), nowhere.clone()] {
        for planted in ["words-5000.txt", ".words-aside.txt"] {
            let link = folder.path().join(planted);
            std::os::unix::fs::symlink(&leads_to, &link).unwrap();
            let error = error_of_save(words_in(&folder), &[["new"]]);
            let text = format!(
                "cannot write results to {}: a symbolic link is in its place; links are not followed",
                link.display()
            );
            assert_eq!(error.to_string(), text);
            assert_eq!(fs::read_link(&link).unwrap(), leads_to, "the link stays");
            fs::remove_file(&link).unwrap();
            assert_eq!(tree(folder.path()), expect(&victim), "{planted}");
            assert!(!nowhere.exists());
        }
    }
}

/// A link among the files of a directory is replaced or removed itself.
#[test]
fn a_link_in_the_place_of_a_part_is_replaced_and_not_followed() {
    let folder = TempDir::new().unwrap();
    let mut files = words_in(&folder);
    save_old(&mut files);
    fs::write(folder.path().join("victim"), "mine").unwrap();
    let target = folder.path().join("words-5000.txt");
    for name in ["part-00000", "part-00001", "_SUCCESS"] {
        fs::remove_file(target.join(name)).unwrap();
        std::os::unix::fs::symlink(folder.path().join("victim"), target.join(name)).unwrap();
    }
    files.save_records(time(), [["new"]]).unwrap();
    assert_eq!(
        tree(folder.path()),
        expect(&[
            ("victim", "mine"),
            ("words-5000.txt/_SUCCESS", ""),
            ("words-5000.txt/part-00000", "new\n"),
        ])
    );
}

#[test]
fn the_directories_above_may_be_links() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", folder.path().join("link")).unwrap();
    let mut files = TextFiles::new(folder.path().join("link/words"), "txt").unwrap();
    for _ in 0..2 {
        save_old(&mut files);
    }
    let real = folder.path().join("real");
    assert_eq!(tree(&real), expect(OLD));
}

#[test]
fn keyed_batches_are_saved_in_rank_order() {
    let folder = TempDir::new().unwrap();
    let mut sink = KeyedTextFiles::new(folder.path().join("words"), "txt").unwrap();
    for ms in [5000, 6000, 5000] {
        let mut table = KeyTable::new(Seed::random());
        if ms == 5000 {
            for key in ["the", "b", "it's", "a", "the"] {
                table.add(key.as_bytes(), 1u64, |a, b| a + b);
            }
        }
        let stats = BatchStats {
            time: BatchTime::from_millis(ms),
            ..BatchStats::default()
        };
        sink.deliver(&Batch::new(&table, &stats)).unwrap();
    }
    let lines = "('the', 2)\n('a', 1)\n('b', 1)\n(\"it's\", 1)\n";
    assert_eq!(
        tree(folder.path()),
        expect(&[
            ("words-5000.txt/_SUCCESS", ""),
            ("words-5000.txt/part-00000", lines),
            ("words-6000.txt/_SUCCESS", ""),
        ])
    );
}

/// One operation of the property test below, on one of a few batch times.
type Operation = (u64, Vec<Vec<(Vec<u8>, u8)>>, bool);

/// Partitions of records, some long, written record by record; some batches fail in their last
/// part.
fn operation() -> impl Strategy<Value = Operation> {
    let record = (prop::collection::vec(any::<u8>(), 0..8), 0u8..4);
    let partition = prop::collection::vec(record, 0..6);
    (
        0u64..3,
        prop::collection::vec(partition, 0..5),
        prop::bool::weighted(0.2),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The model: a map from path to bytes, in which a batch replaces what its time had.
    #[test]
    fn what_is_read_is_what_was_saved(operations in prop::collection::vec(operation(), 1..6)) {
        let folder = TempDir::new().unwrap();
        let mut files = TextFiles::new(folder.path().join("deep/words"), "").unwrap();
        let mut model = Tree::new();
        fs::create_dir(folder.path().join("deep")).unwrap();
        for (ms, partitions, fails) in operations {
            // A record of kind 3 is longer than the buffer.
            let long = |(bytes, kind): &(Vec<u8>, u8)| match kind {
                3 => bytes.repeat(TEXT_BYTES / 4),
                _ => bytes.clone(),
            };
            let partitions: Vec<Vec<Vec<u8>>> = partitions
                .iter()
                .map(|records| records.iter().map(long).collect())
                .collect();
            let time = BatchTime::from_millis(ms);
            if fails {
                let last = partitions.len();
                let writers = (0..=last).map(|index| {
                    let records = partitions.get(index);
                    move |to: &mut dyn Write| match records {
                        Some(records) => records.iter().try_for_each(|record| to.write_all(record)),
                        None => Err(io::Error::other("the last one fails")),
                    }
                });
                prop_assert!(files.save(time, writers).is_err());
            } else {
                if ms == 0 {
                    let writers = partitions.iter().map(|records| {
                        move |to: &mut dyn Write| {
                            for record in records {
                                to.write_all(record)?;
                                to.write_all(b"\n")?;
                            }
                            Ok(())
                        }
                    });
                    files.save(time, writers).unwrap();
                } else {
                    files.save_records(time, &partitions).unwrap();
                }
                let name = format!("deep/words-{ms}");
                model.retain(|path, _| !path.starts_with(&name));
                model.insert(format!("{name}/_SUCCESS"), Vec::new());
                for (index, records) in partitions.iter().enumerate() {
                    let mut lines = records.join(&b'\n');
                    if !records.is_empty() {
                        lines.push(b'\n');
                    }
                    model.insert(format!("{name}/part-{index:05}"), lines);
                }
            }
            let mut seen = tree(folder.path());
            seen.remove("deep/");
            prop_assert!(seen == model, "{:?} and {:?}", seen.keys(), model.keys());
        }
    }
}
