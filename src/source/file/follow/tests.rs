//! One check at a time, with buffers of every size: the content and the notices.

mod growth;
mod patterns;
mod stops;
mod troubles;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::*;
use crate::intake::rig::IntakeRig;
use crate::ledger::Account;
use crate::limits::{FOLLOW_QUIET_MS, FOLLOW_RETIRED_MAX};
use crate::notice::NoticeTexts;
use crate::source::file::file_id;

struct Following {
    follow: Follow,
    rig: IntakeRig,
    notices: NoticeTexts,
    account: Account,
    room: usize,
    now: Duration,
    root: tempfile::TempDir,
}

const ROOMS: [usize; 5] = [1, 2, 3, 7, 4096];

impl Following {
    fn new(names: &[&str], room: usize, prepare: impl FnOnce(&Path)) -> Self {
        Following::with(FollowOptions::default(), names, room, prepare)
    }

    /// Follows `log`, which has this content.
    fn log(room: usize, content: &str) -> Self {
        Following::new(&["log"], room, |root| append(&root.join("log"), content))
    }

    fn with(
        options: FollowOptions,
        names: &[&str],
        room: usize,
        prepare: impl FnOnce(&Path),
    ) -> Self {
        Following::of(names, room, prepare, |paths| Follow::new(paths, options))
    }

    /// Of what fits these patterns.
    fn matching(options: FollowOptions, patterns: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        Following::of(patterns, 64, prepare, |patterns| {
            Follow::matching(patterns, options)
        })
    }

    fn of(
        names: &[&str],
        room: usize,
        prepare: impl FnOnce(&Path),
        make: impl FnOnce(Vec<PathBuf>) -> Result<Follow>,
    ) -> Self {
        let root = tempfile::tempdir().unwrap();
        prepare(root.path());
        let paths = names.iter().map(|name| root.path().join(name));
        let mut follow = make(paths.collect()).unwrap();
        let (port, notices) = Port::kept(follow.name());
        let account = port.account.clone();
        follow.start(port, Duration::ZERO);
        Following {
            follow,
            rig: IntakeRig::of_lines(room.max(16)),
            notices,
            account,
            room,
            now: Duration::ZERO,
            root,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        append(&self.at(name), text);
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.at(name), content).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.at(from), self.at(to)).unwrap();
    }

    fn copy(&self, from: &str, to: &str) {
        fs::copy(self.at(from), self.at(to)).unwrap();
    }

    /// A file that is appended to, whatever its name is later.
    fn writer(&self, name: &str) -> File {
        let mut options = File::options();
        options.append(true).open(self.at(name)).unwrap()
    }

    /// The lines that one look finds, all of which end with `\n`.
    fn look(&mut self) -> String {
        self.after(Duration::from_millis(100))
    }

    fn after(&mut self, time: Duration) -> String {
        self.now += time;
        self.fill_all()
    }

    fn fill_all(&mut self) -> String {
        let mut seen = String::new();
        loop {
            let (lines, fill) = self.fill_once();
            seen += &lines;
            match fill {
                Fill::More => {}
                Fill::Pending(at) => {
                    assert!(at.is_none_or(|at| at > self.now), "it would spin");
                    return seen;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// The lines that are complete after one call.
    fn fill_once(&mut self) -> (String, Fill) {
        let fill = self.fill();
        let lines = String::from_utf8(self.rig.take()).unwrap();
        let lines = lines.replace("\r\n", "\n").replace('\r', "\n");
        (lines, fill)
    }

    fn fill(&mut self) -> Fill {
        let mut fill = None;
        self.rig.fill_at_most(self.room, |out| {
            fill = Some(self.follow.fill(out, self.now));
        });
        fill.expect("it was called")
    }

    fn notices(&self) -> String {
        let notices = self.notices.take();
        notices
            .join("\n")
            .replace(&*self.root.path().to_string_lossy(), "")
    }

    fn expect_notice(&self, part: &str) {
        let notices = self.notices();
        assert!(notices.contains(part), "{notices}");
    }

    fn expect_notices(&self, part: &str, count: usize) {
        let notices = self.notices();
        assert_eq!(notices.matches(part).count(), count, "{notices}");
    }
}

/// The order of two files is not defined.
fn expect_either(seen: &str, one: &str, other: &str) {
    assert!([one, other].contains(&seen), "{seen}");
}

fn append(path: &Path, text: &str) {
    append_bytes(path, text.as_bytes());
}

fn append_bytes(path: &Path, bytes: &[u8]) {
    let mut file = File::options()
        .append(true)
        .create(true)
        .open(path)
        .unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn a_line_waits_for_its_end() {
    for room in ROOMS {
        let mut following =
            Following::new(&["a", "b"], room, |root| append(&root.join("a"), "one\ntw"));
        assert_eq!(following.look(), "one\n");
        following.append("b", "b1\nb");
        assert_eq!(following.look(), "b1\n");
        following.append("a", "o, rather long\nthr");
        following.append("b", "2\n");
        expect_either(
            &following.look(),
            "two, rather long\nb2\n",
            "b2\ntwo, rather long\n",
        );
        assert_eq!(following.look(), "");
        following.expect_notice("/b\": No such file or directory; waiting for it\n");
        // A graceful stop ends them.
        following.append("b", "\n\nb4");
        let bound = following.follow.drain();
        assert_eq!(bound, 3 + 4);
        let seen = following.fill_all();
        let mut lines: Vec<_> = seen.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["", "", "b4", "thr"]);
    }
}

#[test]
fn a_carriage_return_waits_for_what_is_behind_it() {
    for room in ROOMS {
        let mut following = Following::new(&["a", "b"], room, |root| {
            append(&root.join("a"), "one\r");
            append(&root.join("b"), "");
        });
        assert_eq!(following.look(), "");
        following.append("a", "\ntwo\r");
        assert_eq!(following.look(), "one\n");
        following.append("a", "three");
        assert_eq!(following.look(), "two\n");
        // Not the second half of what ended with the `\r`.
        following.append("b", "\nb\n");
        assert_eq!(following.look(), "\nb\n");
    }
}

#[test]
fn a_renamed_file_is_read_on_beside_the_new_one() {
    for room in ROOMS {
        let mut following = Following::log(room, "1\n");
        assert_eq!(following.look(), "1\n");
        following.rename("log", "log.1");
        following.append("log.1", "2\n");
        assert_eq!(following.look(), "2\n");
        following.append("log", "3\n");
        following.append("log.1", "4\n5");
        expect_either(&following.look(), "3\n4\n", "4\n3\n");
        // A line is not over as long as somebody may go on with it.
        assert_eq!(following.look(), "");
        following.append("log.1", "5\n6");
        assert_eq!(following.look(), "55\n");
        let quiet = Duration::from_millis(FOLLOW_QUIET_MS);
        assert_eq!(following.after(quiet), "6\n");
        assert_eq!(following.follow.files.len(), 1);
        following.append("log.1", "too late\n");
        assert_eq!(following.look(), "");
        following.expect_notice("/log\": file was replaced; following the new one");
    }
}

#[test]
fn an_old_file_is_kept_until_the_new_one_has_something() {
    let mut following = Following::log(64, "1\n");
    assert_eq!(following.look(), "1\n");
    let mut old = following.writer("log");
    fs::remove_file(following.at("log")).unwrap();
    assert_eq!(following.after(Duration::from_secs(3600)), "");
    old.write_all(b"2\n").unwrap();
    assert_eq!(following.look(), "2\n");
    following.append("log", "");
    assert_eq!(following.after(Duration::from_secs(3600)), "");
    old.write_all(b"3\n").unwrap();
    assert_eq!(following.look(), "3\n");
    following.append("log", "4\n");
    assert_eq!(following.look(), "4\n");
    assert_eq!(following.after(Duration::from_secs(3600)), "");
    assert_eq!(following.follow.files.len(), 1);
}

#[test]
fn a_truncated_file_begins_again_also_when_it_is_longer_by_then() {
    for room in ROOMS {
        let mut following = Following::log(room, "1\n2\n");
        assert_eq!(following.look(), "1\n2\n");
        following.write("log", "3\n");
        assert_eq!(following.look(), "3\n");
        following.write("log", "4\n5\n6\n7\n");
        assert_eq!(following.look(), "4\n5\n6\n7\n");
        // As long as before, and its front as well.
        following.write("log", "4\n5\n6\n8\n");
        assert_eq!(following.look(), "4\n5\n6\n8\n");
        following.expect_notices(": truncated; ", 3);
    }
}

#[test]
fn what_was_not_read_before_a_truncation_is_read_from_the_copy() {
    for room in ROOMS {
        let mut following = Following::log(room, "1\n2");
        assert_eq!(following.look(), "1\n");
        following.append("log", "2\n3\n");
        append(&following.at("log.2"), "1\nof an earlier rotation\n");
        following.copy("log", "log.1");
        following.write("log", "4\n");
        expect_either(&following.look(), "22\n3\n4\n", "4\n22\n3\n");
        following.append("log.1", "nobody writes to a copy\n");
        following.append("log", "5\n");
        assert_eq!(following.look(), "5\n");
    }
}

/// Nobody writes to a copy, so it is not watched; what has a followed name is.
#[test]
fn a_copy_that_gets_a_followed_name_is_watched_again() {
    let mut following = Following::new(&["log", "old"], 2, |root| append(&root.join("log"), "1\n"));
    assert_eq!(following.look(), "1\n");
    following.append("log", "2\n3\n");
    following.copy("log", "log.1");
    following.write("log", "4\n");
    following.now += Duration::from_millis(100);
    // The copy is begun, and open still.
    let (mut seen, fill) = following.fill_once();
    assert!(matches!(fill, Fill::More), "{fill:?}");
    following.rename("log.1", "old");
    seen += &following.look();
    seen = seen.lines().map(|line| line.to_owned() + " ").collect();
    let mut seen: Vec<&str> = seen.split_whitespace().collect();
    seen.sort_unstable();
    assert_eq!(seen, ["2", "3", "4"]);
    assert_eq!(following.look(), "");
    // Without a look in turn.
    following.append("old", "5\n");
    assert_eq!(following.fill_all(), "5\n");
    following.append("log", "6\n");
    assert_eq!(following.fill_all(), "6\n");
}

#[test]
fn a_file_that_is_no_text_is_reported_once_and_counted_as_it_is() {
    let lz4 = "\x04\x22\x4d\x18 compressed\n";
    for from_end in [false, true] {
        let options = FollowOptions::default().from_end(from_end);
        let mut following = Following::with(options, &["log.lz4", "log"], 64, |root| {
            append(&root.join("log.lz4"), lz4);
            append(&root.join("log"), "GET / HTTP/1.1\r\n");
        });
        following.look();
        following.append("log.lz4", "more\n");
        assert_eq!(following.look(), "more\n");
        assert_eq!(
            following.notices(),
            "\"/log.lz4\": looks like lz4 data, not like lines of text; its bytes are counted as they are"
        );
        following.append("log.lz4", "and more\n");
        assert_eq!(following.look(), "and more\n");
        assert_eq!(following.notices(), "");
    }
}

#[test]
fn a_copy_over_an_old_file_is_not_read_again() {
    for room in ROOMS {
        let mut following = Following::log(room, "1\n");
        assert_eq!(following.look(), "1\n");
        following.rename("log", "log.1");
        following.append("log", "2\n3\n");
        assert_eq!(following.look(), "2\n3\n");
        following.append("log", "4\n");
        following.copy("log", "log.1");
        following.write("log", "5\n");
        expect_either(&following.look(), "4\n5\n", "5\n4\n");
        assert_eq!(following.look(), "");
    }
}

#[test]
fn a_long_line_that_is_cut_off_is_dropped_and_the_rest_counted() {
    let mut following = Following::log(4, "0123456789\n");
    assert!(matches!(following.fill_once().1, Fill::More));
    following.write("log", "new\n");
    assert_eq!(following.look(), "new\n");
    assert_eq!(following.rig.truncated_lines(), 1);
    following.expect_notice("/log\": cut off in the middle of a line; 4 bytes dropped");
}

#[test]
fn names_that_change_places_double_nothing() {
    for room in ROOMS {
        let mut following = Following::new(&["log.1", "log"], room, |root| {
            append(&root.join("log.1"), "1\n");
            append(&root.join("log"), "2\n3");
        });
        expect_either(&following.look(), "1\n2\n", "2\n1\n");
        for number in 4..10 {
            following.rename("log", "log.1");
            following.append("log", &format!("{number}\n"));
            let seen = following.look() + &following.look();
            assert_eq!(seen, format!("{number}\n"));
        }
        // Back again: the name and the file are old friends.
        following.rename("log", "aside");
        following.append("log", "other\n");
        assert_eq!(following.look(), "other\n");
        following.rename("aside", "log");
        following.append("log", "10\n");
        assert_eq!(following.look(), "10\n");
    }
}

#[test]
fn from_the_end_leaves_out_what_was_complete_and_nothing_else() {
    for (content, rest, expected) in [
        ("1\n2\n", "3\n", "3\n"),
        ("1\nhal", "f\n", "half\n"),
        ("1\r2\rha", "lf\n", "half\n"),
        ("1\r\n2\r", "\n3\n", "2\n3\n"),
        ("ha", "lf\n", "half\n"),
        ("", "1\n", "1\n"),
    ] {
        let options = FollowOptions::default().from_end(true);
        let mut following = Following::with(options, &["log", "later"], 64, |root| {
            append(&root.join("log"), content);
        });
        assert_eq!(following.look(), "");
        following.append("log", rest);
        following.append("later", "all\n");
        let seen = following.look();
        let (one, two) = (format!("{expected}all\n"), format!("all\n{expected}"));
        assert!([&one, &two].contains(&&seen), "{content:?} {seen:?}");
    }
    let long = "x".repeat(200_000);
    let options = FollowOptions::default().from_end(true);
    let mut following = Following::with(options, &["log"], 64, |root| {
        append(&root.join("log"), &format!("1\n{long}"));
    });
    assert_eq!(following.look(), "");
    following.append("log", "\n2\n");
    assert_eq!(following.look(), format!("{long}\n2\n"));
}

#[test]
fn the_same_inode_number_is_not_taken_for_the_same_file() {
    let mut following = Following::log(64, "1\n");
    assert_eq!(following.look(), "1\n");
    for number in 2..50 {
        fs::remove_file(following.at("log")).unwrap();
        following.append("log", &format!("{number}\n"));
        // The old ones that are open keep their numbers; those that were closed may give theirs
        // away.
        let id = file_id(&fs::metadata(following.at("log")).unwrap());
        let mut files = following.follow.files.iter();
        assert!(files.all(|file| file.reader.id != id));
        assert_eq!(following.look(), format!("{number}\n"));
    }
    assert!(following.follow.files.len() <= FOLLOW_RETIRED_MAX + 1);
}

#[test]
fn what_is_no_file_is_said_once_and_waited_for() {
    let mut following = Following::new(&["log"], 64, |root| {
        fs::create_dir(root.join("log")).unwrap()
    });
    assert_eq!(following.look(), "");
    assert_eq!(following.look(), "");
    assert_eq!(
        following.notices(),
        "\"/log\": not a regular file; waiting for it"
    );
    fs::remove_dir(following.at("log")).unwrap();
    following.append("log", "1\n");
    assert_eq!(following.look(), "1\n");
    assert_eq!(following.notices(), "\"/log\": found; following it");
}

#[test]
fn a_copy_over_an_old_file_that_was_empty_is_not_read_again() {
    for room in ROOMS {
        let mut following = Following::log(room, "");
        assert_eq!(following.look(), "");
        following.rename("log", "log.1");
        following.append("log", "1\n");
        assert_eq!(following.look(), "1\n");
        following.copy("log", "log.1");
        following.write("log", "2\n");
        assert_eq!(following.look() + &following.look(), "2\n");
        assert!(!following.notices().contains("lost\n"));
    }
}

/// Nothing of it was taken, so there is no other way to see that it is another one.
#[test]
fn a_line_without_an_end_that_is_truncated_away_holds_up_none_that_come_later() {
    for room in ROOMS {
        let mut following = Following::log(room, "unfinished");
        for number in 1..4 {
            assert_eq!(following.look(), "");
            following.write("log", "");
            assert_eq!(following.look(), "");
            following.append("log", &format!("{number}\n"));
            assert_eq!(following.look(), format!("{number}\n"));
            following.append("log", "another one");
        }
        following.write("log", "4\nlonger than before\n5");
        assert_eq!(following.look(), "4\nlonger than before\n");
    }
}

#[test]
fn a_mark_at_the_beginning_of_a_file_is_no_part_of_its_first_line() {
    for room in ROOMS {
        let mut following = Following::log(room, "\u{feff}1\n\u{feff}2\n");
        assert_eq!(following.look(), "1\n\u{feff}2\n");
        following.append("log", "\u{feff}3\n");
        assert_eq!(following.look(), "\u{feff}3\n");
        // The beginning comes again, in pieces.
        following.write("log", b"\xef\xbb");
        assert_eq!(following.look(), "");
        append_bytes(&following.at("log"), b"\xbf");
        assert_eq!(following.look(), "");
        following.append("log", "4\n");
        assert_eq!(following.look(), "4\n");
        following.rename("log", "log.1");
        following.append("log", "\u{feff}5\n");
        assert_eq!(following.look(), "5\n");
    }
}
