//! Files that fit a pattern: those that come, and those that go.

use super::*;
use crate::limits::{FOLLOW_GONE_MS, FOLLOW_PATTERN_MS};

const FROM_END: fn() -> FollowOptions = || FollowOptions::default().from_end(true);
/// After it, what fits a pattern has been found.
const FOUND: Duration = Duration::from_millis(FOLLOW_PATTERN_MS);

#[test]
fn files_that_come_to_fit_a_pattern_are_read_from_their_beginning() {
    let patterns = ["app-*.log", "sub*/log"];
    let mut following = Following::matching(FROM_END(), &patterns, |root| {
        append(&root.join("app-1.log"), "old\nold\nha");
        append(&root.join("other.log"), "of nobody\n");
    });
    assert_eq!(following.look(), "");
    assert_eq!(
        following.notices(),
        "\"/sub*/log\": no file matches; waiting for it"
    );
    following.append("app-1.log", "lf\n");
    following.append("app-2.log", "2\n");
    following.append("other.log", "of nobody\n");
    expect_either(&following.after(FOUND), "half\n2\n", "2\nhalf\n");
    following
        .expect_notice("/app-*.log\": following a new file from its beginning: \"/app-2.log\"");
    // A directory that comes later, with a file that comes later still; neither a directory nor a
    // pipe is a file.
    fs::create_dir(following.at("sub1")).unwrap();
    fs::create_dir(following.at("app-dir.log")).unwrap();
    assert_eq!(following.after(FOUND), "");
    following.append("sub1/log", "3\n");
    following.append("app-1.log", "4\n");
    expect_either(&following.after(FOUND), "3\n4\n", "4\n3\n");
    assert_eq!(following.after(FOUND), "");
    assert_eq!(following.notices().lines().count(), 1);
}

#[test]
fn a_file_that_is_renamed_to_another_name_that_fits_is_read_once() {
    let mut following = Following::matching(FollowOptions::default(), &["app*"], |root| {
        append(&root.join("app"), "1\n");
    });
    assert_eq!(following.look(), "1\n");
    for number in 2..20 {
        following.rename("app", "app.1");
        if number % 2 == 0 {
            // Nothing has the old name when the new one is found.
            assert_eq!(following.after(FOUND), "");
        }
        following.append("app.1", "to the old one\n");
        following.append("app", &format!("{number}\n"));
        let mut lines: Vec<_> = vec![following.after(FOUND), following.after(FOUND)];
        lines = lines.concat().lines().map(str::to_owned).collect();
        lines.sort();
        assert_eq!(lines, [format!("{number}"), "to the old one".to_owned()]);
    }
}

/// A file of each day: none of them is kept open, or in mind, for ever.
#[test]
fn files_that_a_pattern_has_found_are_closed_when_they_are_gone() {
    let mut following = Following::matching(FollowOptions::default(), &["day-*"], |_| ());
    assert_eq!(following.look(), "");
    for day in 0..40 {
        let name = format!("day-{day}");
        following.append(&name, "1\nha");
        assert_eq!(following.after(FOUND), "1\n");
        following.append(&name, "lf\nrest");
        fs::remove_file(following.at(&name)).unwrap();
        assert_eq!(following.look(), "half\n");
        let quiet = Duration::from_millis(FOLLOW_QUIET_MS);
        assert_eq!(following.after(quiet), "rest\n");
        assert_eq!(following.look(), "");
        assert_eq!(
            (following.follow.files.len(), following.follow.names.len()),
            (0, 0)
        );
    }
    // Who has renamed it may write still, and does not for a while.
    following.append("day-40", "1\n");
    assert_eq!(following.after(FOUND), "1\n");
    following.rename("day-40", "archived");
    assert_eq!(
        following.after(Duration::from_millis(2 * FOLLOW_QUIET_MS)),
        ""
    );
    following.append("archived", "2\n");
    assert_eq!(following.look(), "2\n");
    let long = Duration::from_millis(FOLLOW_GONE_MS);
    assert_eq!(following.after(long), "");
    assert_eq!(following.look(), "");
    assert!(following.follow.files.is_empty());
    // One that was asked for by its name is waited for as long as it takes.
    let mut following = Following::matching(FollowOptions::default(), &["log"], |root| {
        append(&root.join("log"), "1\n");
    });
    assert_eq!(following.look(), "1\n");
    following.rename("log", "log.1");
    assert_eq!(following.after(long), "");
    following.append("log.1", "2\n");
    assert_eq!(following.look(), "2\n");
}

/// Looking at very many names takes time that nobody else gets.
#[test]
fn new_files_are_looked_for_less_often_where_there_are_very_many_names() {
    let mut following = Following::matching(FollowOptions::default(), &["d*/log"], |root| {
        for number in 0..2200 {
            fs::create_dir(root.join(format!("d{number}"))).unwrap();
        }
    });
    // Without what the kernel reports.
    following.follow.watch = None;
    assert_eq!(following.look(), "");
    let paths = |follow: &Follow| follow.names.is_due(FOUND + FOUND, FOUND, FOUND);
    assert!(paths(&following.follow));
    let mut following = Following::matching(FollowOptions::default(), &["d*/[l]og"], |root| {
        for number in 0..2200 {
            fs::create_dir(root.join(format!("d{number}"))).unwrap();
        }
    });
    following.follow.watch = None;
    assert_eq!(following.look(), "");
    assert!(!paths(&following.follow));
    following.append("d7/log", "1\n");
    assert_eq!(following.after(FOUND), "");
    assert_eq!(following.after(2 * FOUND), "1\n");
}
