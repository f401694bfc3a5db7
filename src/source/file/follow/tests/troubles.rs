//! Files that cannot be read, that are truncated, and what is read before they are.

use super::*;
use crate::limits::{FOLLOW_EARLY_LOOKS_MAX, FOLLOW_TRUNCATIONS_TOLD, NOTICE_PAUSE_MS};

impl Following {
    /// The descriptor of the only file cannot be read any more: an error that is over when it is opened again.
    fn breaks(&mut self) {
        let path = self.follow.names[0].path.clone();
        let write_only = File::options().append(true).open(path).unwrap();
        self.follow.files[0].reading.file = write_only;
    }
}

#[test]
fn a_file_that_cannot_be_read_is_reported_once_and_goes_on_where_it_was() {
    for room in ROOMS {
        let mut following = Following::new(&["log"], room, |root| append(&root.join("log"), "1\n"));
        assert_eq!(following.look(), "1\n");
        for number in 2..5 {
            following.breaks();
            following.append("log", &format!("{number}\n"));
            // Nobody has the name: the descriptor is all there is.
            fs::rename(following.at("log"), following.at("aside")).unwrap();
            for _ in 0..5 {
                assert_eq!(following.look(), "");
            }
            fs::rename(following.at("aside"), following.at("log")).unwrap();
            let told = following.told();
            assert_eq!(
                told.matches("reading failed: Bad file descriptor; trying again")
                    .count(),
                1,
                "{told}"
            );
            let seen = following.look() + &following.look();
            assert_eq!(seen, format!("{number}\n"));
            let told = following.told();
            assert_eq!(told.matches("it is read again").count(), 1, "{told}");
        }
    }
}

#[test]
fn of_a_line_that_could_not_be_read_to_its_end_no_part_is_taken_for_a_line() {
    for end in ["\n", "\r\n"] {
        let mut following = Following::new(&["log"], 4, |root| {
            append(&root.join("log"), &format!("0123456789{end}next{end}"));
        });
        let mut buf = [0; 4];
        let first = following.follow.fill(&mut buf, Duration::ZERO);
        assert!(matches!(first, Fill::Bytes(4)), "{first:?}");
        following.breaks();
        assert_eq!(following.fill_all(), "!");
        assert_eq!(following.look() + &following.look(), format!("next{end}"));
    }
}

#[test]
fn a_file_that_stays_unreadable_until_it_is_closed_is_reported_as_lost() {
    let mut following = Following::new(&["log"], 64, |root| append(&root.join("log"), "1\n"));
    assert_eq!(following.look(), "1\n");
    following.append("log", "lost\n");
    fs::rename(following.at("log"), following.at("log.1")).unwrap();
    following.append("log", "2\n");
    following.follow.files[0].reading.file = File::options()
        .append(true)
        .open(following.at("log.1"))
        .unwrap();
    assert_eq!(following.look(), "2\n");
    assert_eq!(following.after(Duration::from_millis(FOLLOW_QUIET_MS)), "");
    assert_eq!(following.look(), "");
    assert_eq!(following.follow.files.len(), 1);
    let told = following.told();
    let lost = "closed; its last 5 bytes could not be read and are lost";
    assert_eq!(told.matches(lost).count(), 1, "{told}");
}

#[test]
fn what_may_be_lost_by_a_truncation_is_reported() {
    let mut following = Following::new(&["log"], 64, |root| append(&root.join("log"), "1\n"));
    assert_eq!(following.look(), "1\n");
    fs::write(following.at("log"), "").unwrap();
    assert_eq!(following.look(), "");
    let told = following.told();
    assert!(
        told.contains("lines written in the 100 ms before may be lost"),
        "{told}"
    );
    following.append("log", "2\nunfinished");
    assert_eq!(following.look(), "2\n");
    fs::write(following.at("log"), "").unwrap();
    assert_eq!(following.look(), "");
    let told = following.told();
    let lost = "at least 10 bytes of it were not read and are lost";
    assert!(told.contains(lost), "{told}");
    // Nothing that was seen is lost when there is a copy.
    following.append("log", "3\nunfinished");
    assert_eq!(following.look(), "3\n");
    fs::copy(following.at("log"), following.at("log.1")).unwrap();
    fs::write(following.at("log"), "").unwrap();
    assert_eq!(following.look(), "unfinished|");
    let told = following.told();
    assert!(
        told.contains("from its copy") && !told.contains("lost"),
        "{told}"
    );
}

#[test]
fn a_file_that_is_truncated_all_the_time_is_reported_a_few_times_and_then_as_a_sum() {
    let mut following = Following::new(&["log"], 64, |root| append(&root.join("log"), "0\n"));
    assert_eq!(following.look(), "0\n");
    following.told();
    let times = 3 * FOLLOW_TRUNCATIONS_TOLD as usize;
    let mut now = String::new();
    for number in 1..=times {
        fs::write(following.at("log"), format!("{number}\n")).unwrap();
        now += &following.look();
    }
    assert_eq!(now.lines().count(), times);
    let told = following.told();
    assert_eq!(
        told.lines().count(),
        FOLLOW_TRUNCATIONS_TOLD as usize,
        "{told}"
    );
    following.after(Duration::from_millis(NOTICE_PAUSE_MS));
    let sum = format!(
        "truncated {} more times",
        times - FOLLOW_TRUNCATIONS_TOLD as usize
    );
    let told = following.told();
    assert!(told.contains(&sum) && told.lines().count() == 1, "{told}");
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
            fs::write(following.at("log"), &line).unwrap();
            assert_eq!(following.fill_all(), line);
            fs::write(following.at("log"), line.replace('1', "2")).unwrap();
            assert_eq!(following.fill_all(), line.replace('1', "2"));
        }
        // A new name is a reason to look at all of them, a little later.
        following.append("later", "new\n");
        following.fill_all();
        assert_eq!(following.after(Duration::from_millis(10)), "new\n");
        // Also under another name, and without one.
        fs::rename(following.at("log"), following.at("log.1")).unwrap();
        following.append("log.1", "renamed\n");
        assert_eq!(following.fill_all(), "renamed\n");
        let mut old = File::options()
            .append(true)
            .open(following.at("log.1"))
            .unwrap();
        fs::remove_file(following.at("log.1")).unwrap();
        old.write_all(b"deleted\n").unwrap();
        assert_eq!(following.fill_all(), "deleted\n");
    }
}

/// Whoever writes all the time does not have the source spin.
#[cfg(target_os = "linux")]
#[test]
fn early_looks_are_bounded() {
    let mut following = Following::new(&["log"], 64, |root| append(&root.join("log"), "0\n"));
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
        following.follow.tell_unwatched(&limit);
    }
    assert_eq!(following.look(), "1\n");
    following.append("log", "2\n");
    assert_eq!(following.fill_all(), "");
    assert_eq!(following.look(), "2\n");
    following.append("log-2", "3\n");
    assert_eq!(following.after(Duration::from_secs(1)), "3\n");
    let told = following.told();
    assert_eq!(
        told.matches("not all changes can be watched").count(),
        1,
        "{told}"
    );
}
