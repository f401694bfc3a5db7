//! What a graceful stop reads of followed files, and what it says of the rest.

use super::*;
use crate::ledger::IntakeTotals;

impl Following {
    /// Records that the statistics have as lost.
    fn lost_records(&self) -> u64 {
        self.account.then(IntakeTotals::default()).lost_records
    }
}

fn unread(name: &str, bytes: usize) -> String {
    let s = if bytes == 1 { "it is" } else { "they are" };
    let unit = if bytes == 1 { "byte" } else { "bytes" };
    format!("\"/{name}\": stopped with {bytes} {unit} unread; {s} not counted")
}

#[test]
fn what_a_stop_has_no_time_for_is_reported_for_each_file_with_its_bytes() {
    // So many bytes that the last line a stop may read is not whole.
    let line = "a line of text\n";
    let lines = DRAIN_BYTES_MAX / line.len() + 1000;
    assert!(!DRAIN_BYTES_MAX.is_multiple_of(line.len()));
    let mut following = Following::new(&["log", "other"], 1 << 16, |root| {
        append(&root.join("log"), &line.repeat(lines));
        append(&root.join("other"), "1\n");
    });
    assert_eq!(following.follow.drain(), DRAIN_BYTES_MAX);
    let seen = following.fill_all();
    // Nothing but whole lines.
    assert_eq!(seen.len(), DRAIN_BYTES_MAX / line.len() * line.len());
    assert!(
        seen.as_bytes()
            .chunks(line.len())
            .all(|chunk| chunk == line.as_bytes())
    );
    let left = lines * line.len() - seen.len();
    let notices = following.notices();
    let mut notices: Vec<&str> = notices.lines().collect();
    notices.sort_unstable();
    assert_eq!(notices, [unread("log", left), unread("other", 2)]);
    assert_eq!(following.lost_records(), 2);
}

#[test]
fn what_is_left_when_nobody_reads_on_is_reported() {
    let mut following = Following::log(64, "1\n2\n3");
    assert_eq!(following.follow.drain(), 5);
    following.room = 2;
    assert_eq!(following.fill_once().0, "1\n");
    let notices = following.notices.clone();
    following.follow.ended();
    assert_eq!(following.lost_records(), 1);
    let account = following.account.clone();
    drop(following);
    let notices = notices.take();
    assert_eq!(notices.len(), 1, "it is reported once");
    assert!(notices[0].ends_with("/log\": stopped with 3 bytes unread; they are not counted"));
    assert_eq!(account.then(IntakeTotals::default()).lost_records, 1);
}

#[test]
fn a_stop_that_reads_everything_has_nothing_to_report() {
    for room in ROOMS {
        let mut following = Following::log(room, "1\n");
        assert_eq!(following.look(), "1\n");
        following.append("log", "2\r\n3\nunended");
        following.follow.drain();
        assert_eq!(following.fill_all(), "2\n3\nunended\n");
        let notices = following.notices.clone();
        drop(following);
        assert!(notices.take().is_empty());
    }
}

/// It is no record as it was at the stop, nor as it is now.
#[test]
fn a_line_that_goes_on_during_a_stop_is_not_cut_and_is_reported() {
    for room in ROOMS {
        let mut following = Following::log(room, "one\nhalf");
        assert_eq!(following.look(), "one\n");
        assert_eq!(following.follow.drain(), 4);
        following.append("log", " a line\nanother\n");
        assert_eq!(following.fill_all(), "");
        // What was taken before it could be known is dropped.
        let is_dropped = room < 4;
        let dropped = following.rig.truncated_lines();
        assert_eq!(dropped, u64::from(is_dropped));
        let notices = following.notices();
        assert!(notices.contains("/log\": stopped with ") && notices.contains(" unread; "));
        assert_eq!(
            notices.contains("/log\": cut off in the middle of a line; "),
            is_dropped
        );
    }
}

/// No file has a share in what another one may give.
#[test]
fn what_is_written_during_a_stop_takes_nothing_from_other_files() {
    let mut following = Following::new(&["a", "b"], 4096, |root| {
        append(&root.join("a"), "a\n");
        append(&root.join("b"), "b\n");
    });
    assert_eq!(following.follow.drain(), 4);
    following.append("a", "too late\n");
    assert_eq!(following.fill_all(), "a\nb\n");
    assert_eq!(following.notices(), "");
}
