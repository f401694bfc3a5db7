//! The rule at its edges, the rule against its definition, and the part that lists against real
//! directories whose modification times are set.

use std::fs::File;

use proptest::prelude::*;

use super::*;
use crate::notice::Notice;

const INTERVAL_MS: u64 = 2000;
/// 31 intervals are the first whole number of them that holds 61 s.
const WINDOW_MS: u64 = 62_000;

fn rule(after_ms: u64) -> Selection {
    let filter = FileOptions::default().filter;
    Selection::new(INTERVAL_MS, 61_000, after_ms, filter)
}

fn listing(files: &[(&str, u64)]) -> Vec<Listed> {
    let listed = |&(path, modified_ms): &(&str, u64)| Listed {
        modified_ms,
        path: path.into(),
    };
    files.iter().map(listed).collect()
}

fn select(rule: &mut Selection, time_ms: u64, files: &[(&str, u64)]) -> Vec<String> {
    let files = rule.select(BatchTime::from_millis(time_ms), listing(files));
    let text = |path: PathBuf| path.into_os_string().into_string().unwrap();
    files.into_iter().map(text).collect()
}

#[test]
fn the_window_is_open_below_and_closed_above() {
    let time_ms = 100_000;
    let files = [
        ("at_the_far_end", time_ms - WINDOW_MS),
        ("just_inside", time_ms - WINDOW_MS + 1),
        ("at_the_time", time_ms),
        ("in_the_future", time_ms + 1),
    ];
    let taken = select(&mut rule(0), time_ms, &files);
    assert_eq!(taken, ["just_inside", "at_the_time"]);
    // The future comes.
    let mut rule = rule(0);
    select(&mut rule, time_ms, &files);
    let taken = select(&mut rule, time_ms + INTERVAL_MS, &files);
    assert_eq!(taken, ["in_the_future"]);
}

#[test]
fn the_default_window_is_a_minute_in_whole_intervals() {
    for (interval_ms, remember_ms, window_ms) in [
        (2000, 60_000, 60_000),
        (7000, 60_000, 63_000),
        (90_000, 60_000, 90_000),
        (1000, 1, 1000),
    ] {
        let filter = FileOptions::default().filter;
        let rule = Selection::new(interval_ms, remember_ms, 0, filter);
        assert_eq!(rule.window_ms, window_ms);
    }
}

#[test]
fn files_from_before_the_start_are_taken_when_asked_for() {
    let start_ms = 12_000;
    let files = [("old", 10_000), ("at_start", 12_000), ("new", 12_001)];
    let taken = select(&mut rule(start_ms), 14_000, &files);
    assert_eq!(taken, ["new"]);
    let taken = select(&mut rule(0), 14_000, &files);
    assert_eq!(taken, ["old", "at_start", "new"]);
}

#[test]
fn hidden_files_wait_for_their_names() {
    let mut rule = rule(0);
    assert!(select(&mut rule, 14_000, &[("d/.part", 13_000)]).is_empty());
    // Renamed into place, which keeps the time.
    assert_eq!(select(&mut rule, 16_000, &[("d/part", 13_000)]), ["d/part"]);
    // The filter sees names, not those of directories.
    let taken = select(&mut rule, 16_000, &[(".d/part", 13_000)]);
    assert_eq!(taken, [".d/part"]);
    let filter: PathFilter = Arc::new(|path| path.as_os_str() == ".x");
    let mut own = Selection::new(INTERVAL_MS, 60_000, 0, filter);
    assert_eq!(select(&mut own, 14_000, &[("a", 1), (".x", 1)]), [".x"]);
}

#[test]
fn what_was_changed_in_place_is_not_read_again_until_it_is_forgotten() {
    let mut rule = rule(0);
    let first_ms = 100_000;
    assert_eq!(select(&mut rule, first_ms, &[("a", first_ms)]), ["a"]);
    let mut time_ms = first_ms + INTERVAL_MS;
    // The batch a window later forgets it when it is over.
    while time_ms <= first_ms + WINDOW_MS + INTERVAL_MS {
        assert!(
            select(&mut rule, time_ms, &[("a", time_ms)]).is_empty(),
            "{time_ms}"
        );
        time_ms += INTERVAL_MS;
    }
    assert_eq!(select(&mut rule, time_ms, &[("a", time_ms)]), ["a"]);
    assert_eq!((rule.known.len(), rule.taken.len()), (1, 1));
}

#[test]
fn files_come_by_time_and_then_by_path() {
    let files = [("c", 5), ("b", 6), ("d", 5), ("a", 7), ("c", 5)];
    assert_eq!(select(&mut rule(0), 2000, &files), ["c", "d", "b", "a"]);
}

/// The definition: looks through everything that was ever taken.
fn defined(
    taken: &[(u64, String)],
    time_ms: u64,
    after_ms: u64,
    files: &[(String, u64)],
) -> Vec<String> {
    let is_remembered = |path: &str| {
        taken
            .iter()
            .any(|(taken_ms, other)| other == path && taken_ms + WINDOW_MS + INTERVAL_MS >= time_ms)
    };
    let mut accepted: Vec<(u64, String)> = files
        .iter()
        .filter(|(path, modified_ms)| {
            !path.starts_with('.')
                && *modified_ms > after_ms
                && *modified_ms + WINDOW_MS > time_ms
                && *modified_ms <= time_ms
                && !is_remembered(path)
        })
        .map(|(path, modified_ms)| (*modified_ms, path.clone()))
        .collect();
    accepted.sort();
    accepted.into_iter().map(|(_, path)| path).collect()
}

proptest! {
    /// Files come, are touched and go between batches; which batch takes which is as defined.
    #[test]
    fn the_rule_is_its_definition(
        after_ms in prop_oneof![Just(0u64), 0..150_000u64],
        steps in prop::collection::vec(
            prop::collection::vec((prop_oneof!["[abc]", "\\.[ab]"], -70_000i64..4000), 0..4),
            1..80,
        ),
    ) {
        let mut rule = rule(after_ms);
        let mut files = std::collections::BTreeMap::<String, u64>::new();
        let mut taken = Vec::new();
        for (number, changes) in steps.into_iter().enumerate() {
            let time_ms = 80_000 + number as u64 * INTERVAL_MS;
            for (path, ago_ms) in changes {
                // Edges of the window more often than chance has it.
                let modified_ms = match ago_ms {
                    -500..=0 => time_ms,
                    1..=500 => time_ms + 1,
                    501..=1000 => time_ms - WINDOW_MS,
                    1001..=1500 => time_ms - WINDOW_MS + 1,
                    1501..=2000 => 0,
                    _ => time_ms.saturating_add_signed(ago_ms),
                };
                if modified_ms == 0 {
                    files.remove(&path);
                } else {
                    files.insert(path, modified_ms);
                }
            }
            let all: Vec<(String, u64)> = files.clone().into_iter().collect();
            let expected = defined(&taken, time_ms, after_ms, &all);
            let shown: Vec<(&str, u64)> = all.iter().map(|(path, ms)| (path.as_str(), *ms)).collect();
            prop_assert_eq!(&select(&mut rule, time_ms, &shown), &expected);
            taken.extend(expected.into_iter().map(|path| (time_ms, path)));
        }
    }
}

fn put(path: &Path, modified_ms: u64) {
    let file = File::create(path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_millis(modified_ms))
        .unwrap();
}

struct Watched {
    directory: Directory,
    told: Vec<String>,
}

impl Watched {
    fn new(path: &Path, options: FileOptions) -> Self {
        let interval = Duration::from_millis(INTERVAL_MS);
        let mut directory = Directory::new(path, interval, options).unwrap();
        directory.start(Duration::from_millis(12_000));
        Watched {
            directory,
            told: Vec::new(),
        }
    }

    fn names(&mut self, time_ms: u64) -> Vec<String> {
        let name = self.directory.name().to_owned();
        let told = &mut self.told;
        let mut keep = |kind| told.push(Notice::new(&name, kind).to_string());
        let time = BatchTime::from_millis(time_ms);
        let files = self.directory.files_for(time, &mut keep);
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        files.iter().map(name).collect()
    }
}

/// Spark's `InputStreamsSuite`, file input stream with `newFilesOnly` true and false: batches of 2
/// s from 12 s on, a file from before, then one for each batch.
#[test]
fn spark_file_input_stream() {
    for new_files_only in [true, false] {
        let root = tempfile::tempdir().unwrap();
        put(&root.path().join("0"), 10_000);
        let options = FileOptions::default().new_files_only(new_files_only);
        let mut watched = Watched::new(root.path(), options);
        let mut names = Vec::new();
        for number in 1..=5 {
            let time_ms = 12_000 + number * INTERVAL_MS;
            put(&root.path().join(number.to_string()), time_ms);
            names.extend(watched.names(time_ms));
        }
        let first = if new_files_only { 1 } else { 0 };
        let expected: Vec<String> = (first..=5).map(|number| number.to_string()).collect();
        assert_eq!(names, expected);
        assert!(watched.told.is_empty());
    }
}

/// Spark's `InputStreamsSuite`, "Modified files are correctly detected": a pattern of directories,
/// and a file that is renamed into place.
#[test]
fn spark_modified_files_are_correctly_detected() {
    let root = tempfile::tempdir().unwrap();
    let sub = root.path().join("subdir");
    fs::create_dir(&sub).unwrap();
    put(&sub.join("existing"), 10_000);
    let mut watched = Watched::new(&root.path().join("sub*"), FileOptions::default());
    let aside = root.path().join("aside");
    put(&aside, 13_000);
    assert!(watched.names(14_000).is_empty());
    fs::rename(&aside, sub.join("renamed.txt")).unwrap();
    assert_eq!(watched.names(16_000), ["renamed.txt"]);
    assert!(watched.names(18_000).is_empty());
}

#[test]
fn what_is_no_file_is_not_taken_and_links_are_followed() {
    let root = tempfile::tempdir().unwrap();
    let inside = root.path().join("in");
    fs::create_dir_all(inside.join("deeper")).unwrap();
    put(&inside.join("deeper/file"), 13_000);
    put(&root.path().join("target"), 13_000);
    std::os::unix::fs::symlink(root.path().join("target"), inside.join("link")).unwrap();
    std::os::unix::fs::symlink(root.path().join("none"), inside.join("dangling")).unwrap();
    let mut watched = Watched::new(&inside, FileOptions::default());
    assert_eq!(watched.names(14_000), ["link"]);
    assert!(watched.told.is_empty(), "{:?}", watched.told);
}

#[test]
fn a_directory_that_is_not_there_is_told_once_and_found_later() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("late\n");
    let mut watched = Watched::new(&path, FileOptions::default());
    assert!(watched.names(14_000).is_empty() && watched.names(16_000).is_empty());
    let name = format!("files in {path:?}");
    let missing = format!("cannot list {name}: no such directory");
    assert_eq!(watched.told, std::slice::from_ref(&missing));
    fs::create_dir(&path).unwrap();
    put(&path.join("a"), 17_000);
    assert_eq!(watched.names(18_000), ["a"]);
    assert_eq!(watched.names(20_000), [""; 0]);
    fs::remove_dir_all(&path).unwrap();
    assert!(watched.names(22_000).is_empty());
    assert_eq!(
        watched.told,
        [missing.clone(), format!("waiting for {name}"), missing]
    );
    // The name has a line end in it, which does not reach a terminal.
    assert!(watched.told.iter().all(|told| !told.contains('\n')));
}

#[test]
fn settings_are_checked_at_the_door() {
    let make = |path: &str, options| {
        Directory::new(Path::new(path), Duration::from_secs(1), options).err()
    };
    let default = FileOptions::default;
    assert!(make("d", default()).is_none());
    assert!(make("", default()).is_some());
    assert!(make("d[", default()).is_some());
    for wrong in [Duration::ZERO, Duration::from_micros(1500), Duration::MAX] {
        let error = make("d", default().remember(wrong)).expect("it is out of range");
        assert!(
            error.to_string().contains("remembering files for"),
            "{error}"
        );
    }
}
