//! Files that cannot be read, that are truncated, and what is read before they are.

use std::os::unix::fs::FileExt;

use super::*;
use crate::limits::{FOLLOW_EARLY_LOOKS_MAX, FOLLOW_TRUNCATIONS_REPORTED, NOTICE_PAUSE_MS};

impl Following {
    /// The descriptor of the only file cannot be read any more: an error that is over when it is
    /// opened again.
    pub(super) fn breaks(&mut self) {
        let path = self.follow.names[0].path.clone();
        let write_only = File::options().append(true).open(path).unwrap();
        self.follow.files[0].reader.file = write_only;
    }
}

#[test]
fn a_file_that_cannot_be_read_is_reported_once_and_goes_on_where_it_was() {
    for room in ROOMS {
        let mut following = Following::log(room, "1\n");
        assert_eq!(following.look(), "1\n");
        for number in 2..5 {
            following.breaks();
            following.append("log", &format!("{number}\n"));
            // Nobody has the name: the descriptor is all there is.
            following.rename("log", "aside");
            for _ in 0..5 {
                assert_eq!(following.look(), "");
            }
            following.rename("aside", "log");
            following.expect_notices("Bad file descriptor; retrying", 1);
            let seen = following.look() + &following.look();
            assert_eq!(seen, format!("{number}\n"));
            following.expect_notices("reading resumed", 1);
        }
    }
}

/// Other files do not wait for it.
#[test]
fn a_line_that_cannot_be_read_to_its_end_continues_when_reading_is_resumed() {
    for end in ["\n", "\r\n"] {
        for begun in 1..4 {
            let mut following = Following::new(&["log", "other"], 4, |root| {
                append(&root.join("log"), &format!("0123456789{end}next{end}"));
            });
            for _ in 0..begun {
                assert!(matches!(following.fill_once().1, Fill::More));
            }
            following.breaks();
            following.append("other", "1\n");
            let seen = following.look() + &following.look() + &following.look();
            expect_either(&seen.replacen("1\n", "", 1), "0123456789\nnext\n", "next\n");
            assert_eq!(following.rig.truncated_lines(), 0);
            following.expect_notices("reading resumed", 1);
        }
    }
}

#[test]
fn of_a_line_that_stays_unreadable_no_part_is_taken_for_a_line() {
    let mut following = Following::log(4, "0123456789\n");
    assert!(matches!(following.fill_once().1, Fill::More));
    following.rename("log", "log.1");
    following.append("log", "2\n");
    following.follow.files[0].reader.file = following.writer("log.1");
    assert_eq!(following.look(), "2\n");
    let quiet = Duration::from_millis(FOLLOW_QUIET_MS);
    assert_eq!(following.after(quiet) + &following.look(), "");
    assert_eq!(following.rig.truncated_lines(), 1);
    following.expect_notices(
        "/log\": cut off in the middle of a line; 4 bytes dropped",
        1,
    );
}

/// A part of what has no end yet may be what nobody has written.
#[test]
fn a_file_that_is_made_larger_before_it_is_written_counts_once() {
    let mut following = Following::log(4096, "1\n");
    assert_eq!(following.look(), "1\n");
    let log = File::options().write(true).open(following.at("log"));
    let log = log.unwrap();
    log.set_len(100_000).unwrap();
    assert_eq!(following.look(), "");
    for number in 2..9_u64 {
        let line = format!("{number}\n");
        log.write_all_at(line.as_bytes(), 2 * (number - 1)).unwrap();
        assert_eq!(following.look(), line);
    }
}

#[test]
fn lines_that_are_too_long_are_reported_once() {
    let long = "x".repeat(3 << 20);
    let mut following = Following::new(&["a", "b"], 1 << 16, |root| {
        append(&root.join("a"), &format!("{long}\n1\n{long}\n"));
        append(&root.join("b"), &format!("{long}\n2\n"));
    });
    expect_either(&following.look(), "1\n2\n", "2\n1\n");
    assert_eq!(following.rig.dropped().tokens, 3);
    following.expect_notices("longer than", 1);
}

#[test]
fn a_file_that_stays_unreadable_until_it_is_closed_is_reported_as_lost() {
    let mut following = Following::log(64, "1\n");
    assert_eq!(following.look(), "1\n");
    following.append("log", "lost\n");
    following.rename("log", "log.1");
    following.append("log", "2\n");
    following.follow.files[0].reader.file = following.writer("log.1");
    assert_eq!(following.look(), "2\n");
    assert_eq!(following.after(Duration::from_millis(FOLLOW_QUIET_MS)), "");
    assert_eq!(following.look(), "");
    assert_eq!(following.follow.files.len(), 1);
    following.expect_notices("closed; its last 5 bytes could not be read and are lost", 1);
}

#[test]
fn what_may_be_lost_by_a_truncation_is_reported() {
    let mut following = Following::log(64, "1\n");
    assert_eq!(following.look(), "1\n");
    following.write("log", "");
    assert_eq!(following.look(), "");
    following.expect_notice("lines written in the 100 ms before may be lost");
    following.append("log", "2\nunfinished");
    assert_eq!(following.look(), "2\n");
    following.write("log", "");
    assert_eq!(following.look(), "");
    following.expect_notice("at least 10 unread bytes are lost");
    // Nothing that was seen is lost when there is a copy.
    following.append("log", "3\nunfinished");
    assert_eq!(following.look(), "3\n");
    following.copy("log", "log.1");
    following.write("log", "");
    assert_eq!(following.look(), "unfinished\n");
    let notices = following.notices();
    assert!(notices.contains("from its copy") && !notices.contains("lost"));
}

#[test]
fn a_file_that_is_truncated_all_the_time_is_reported_a_few_times_and_then_as_a_sum() {
    let mut following = Following::log(64, "0\n");
    assert_eq!(following.look(), "0\n");
    following.notices();
    let times = 3 * FOLLOW_TRUNCATIONS_REPORTED as usize;
    let mut now = String::new();
    for number in 1..=times {
        following.write("log", format!("{number}\n"));
        now += &following.look();
    }
    assert_eq!(now.lines().count(), times);
    let notices = following.notices();
    assert_eq!(
        notices.lines().count(),
        FOLLOW_TRUNCATIONS_REPORTED as usize,
        "{notices}"
    );
    following.after(Duration::from_millis(NOTICE_PAUSE_MS));
    let sum = format!(
        "truncated {} more times",
        times - FOLLOW_TRUNCATIONS_REPORTED as usize
    );
    let notices = following.notices();
    assert!(
        notices.contains(&sum) && notices.lines().count() == 1,
        "{notices}"
    );
}

/// The clock stands still, so that it is not time for a look.
#[cfg(target_os = "linux")]
#[test]
fn what_is_written_is_read_at_once() {
    for room in ROOMS {
        let mut following = Following::new(&["log", "later"], room, |root| {
            append(&root.join("log"), "1\n")
        });
        assert_eq!(following.look(), "1\n");
        for number in 2..10 {
            let line = format!("{number}\n");
            following.append("log", &line);
            assert_eq!(following.fill_all(), line);
            // Of the same size, in the same tick of the file system's clock.
            let line = format!("{}\n", number + 10);
            following.write("log", &line);
            assert_eq!(following.fill_all(), line);
            following.write("log", line.replace('1', "2"));
            assert_eq!(following.fill_all(), line.replace('1', "2"));
        }
        // A new name is a reason to look at all of them, a little later.
        following.append("later", "new\n");
        following.fill_all();
        assert_eq!(following.after(Duration::from_millis(10)), "new\n");
        // Also under another name, and without one.
        following.rename("log", "log.1");
        following.append("log.1", "renamed\n");
        assert_eq!(following.fill_all(), "renamed\n");
        let mut old = following.writer("log.1");
        fs::remove_file(following.at("log.1")).unwrap();
        old.write_all(b"deleted\n").unwrap();
        assert_eq!(following.fill_all(), "deleted\n");
    }
}

/// Whoever writes all the time does not have the source spin.
#[cfg(target_os = "linux")]
#[test]
fn early_looks_are_bounded() {
    let mut following = Following::log(64, "0\n");
    assert_eq!(following.look(), "0\n");
    let mut seen = 0;
    for _ in 0..2 * FOLLOW_EARLY_LOOKS_MAX {
        following.append("log", "1\n");
        seen += following.fill_all().len() / 2;
    }
    assert_eq!(seen, FOLLOW_EARLY_LOOKS_MAX as usize);
    // A millisecond later the rest is read, long before the next look at everything.
    let rest = following.after(Duration::from_millis(1));
    assert_eq!(rest.len() / 2, FOLLOW_EARLY_LOOKS_MAX as usize);
}

/// As where the limit of watches is reached, and on network file systems.
#[test]
fn without_watches_files_are_looked_at_in_turn_and_it_is_said_once() {
    let mut following = Following::matching(FollowOptions::default(), &["log*"], |root| {
        append(&root.join("log"), "1\n");
    });
    following.follow.watch = None;
    for _ in 0..3 {
        let limit = io::Error::from_raw_os_error(libc::ENOSPC);
        following.follow.report_unwatched(&limit);
    }
    assert_eq!(following.look(), "1\n");
    following.append("log", "2\n");
    assert_eq!(following.fill_all(), "");
    assert_eq!(following.look(), "2\n");
    following.append("log-2", "3\n");
    assert_eq!(following.after(Duration::from_secs(1)), "3\n");
    following.expect_notices("not all changes can be watched", 1);
}
