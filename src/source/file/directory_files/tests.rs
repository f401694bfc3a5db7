//! Whole batches of real files, read with room of every size.

use std::fs;
use std::time::UNIX_EPOCH;

use super::*;
use crate::notice::NoticeTexts;

fn put(path: &Path, content: &[u8], modified_ms: u64) {
    fs::write(path, content).unwrap();
    let file = File::options().append(true).open(path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_millis(modified_ms))
        .unwrap();
}

struct Fixture {
    files: DirectoryFiles,
    notices: NoticeTexts,
    room: usize,
}

impl Fixture {
    fn new(path: &Path, room: usize) -> Self {
        let interval = Duration::from_secs(1);
        let mut files = DirectoryFiles::new(path, interval, FileOptions::default()).unwrap();
        let (port, notices) = Port::kept(files.name());
        files.start(port, Duration::from_secs(10));
        let waiting = format!("waiting for files in {path:?}");
        assert_eq!(notices.take(), [waiting]);
        Fixture {
            files,
            notices,
            room,
        }
    }

    /// What a batch holds; `|` is the end of a file, `!` one in the middle of which it broke off,
    /// `~` a byte of a mark.
    fn batch(&mut self, time_ms: u64) -> String {
        let mut out = Vec::new();
        let mut buf = vec![0; self.room];
        assert!(matches!(
            self.files.read(&mut buf),
            ReadOutcome::Nothing(Fill::Pending(None))
        ));
        if !self.files.batch_due(BatchTime::from_millis(time_ms)) {
            return "nothing".to_owned();
        }
        loop {
            match self.files.read(&mut buf) {
                ReadOutcome::Bytes(count) => out.extend_from_slice(&buf[..count]),
                ReadOutcome::Skipped(count) => out.resize(out.len() + count, b'~'),
                ReadOutcome::Break { clean } => out.push(if clean { b'|' } else { b'!' }),
                ReadOutcome::Nothing(Fill::Complete) => break,
                other => panic!("{other:?}"),
            }
        }
        String::from_utf8(out).unwrap()
    }
}

#[test]
fn files_are_read_whole_and_one_after_another() {
    for room in [1, 3, 4096] {
        let root = tempfile::tempdir().unwrap();
        let mut fixture = Fixture::new(root.path(), room);
        assert_eq!(fixture.batch(11_000), "nothing");
        put(&root.path().join("b"), b"first\nhalf", 11_500);
        put(&root.path().join("a"), b"second\n", 11_600);
        put(&root.path().join("c"), b"", 11_700);
        put(&root.path().join("d"), b"later", 12_001);
        assert_eq!(fixture.batch(12_000), "first\nhalf|second\n||");
        put(&root.path().join("a"), b"again\n", 12_500);
        assert_eq!(fixture.batch(13_000), "later|");
        assert_eq!(fixture.batch(14_000), "nothing");
        assert!(fixture.take_notices().is_empty());
    }
}

#[test]
fn a_file_that_is_no_text_is_reported_and_counted_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(root.path(), 64);
    let (utf16, text) = (root.path().join("a"), root.path().join("b"));
    put(&utf16, b"h\0e\0l\0l\0o\0\n\0", 11_500);
    put(&text, b"GET / HTTP/1.1\r\n", 11_600);
    let expected = "h\0e\0l\0l\0o\0\n\0|GET / HTTP/1.1\r\n|";
    assert_eq!(fixture.batch(12_000), expected);
    let notices = format!(
        "{utf16:?}: looks like UTF-16 text, not like lines of text; its bytes are counted as they are"
    );
    assert_eq!(fixture.take_notices(), [notices]);
}

#[test]
fn a_file_that_vanishes_costs_a_notice_and_not_the_others() {
    let root = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(root.path(), 4096);
    for (name, modified_ms) in [("1", 11_100), ("2", 11_200), ("3", 11_300)] {
        put(&root.path().join(name), name.as_bytes(), modified_ms);
    }
    let gone = root.path().join("2");
    assert!(fixture.files.batch_due(BatchTime::from_millis(12_000)));
    fs::remove_file(&gone).unwrap();
    let mut buf = [0; 64];
    let mut out = Vec::new();
    loop {
        match fixture.files.read(&mut buf) {
            ReadOutcome::Bytes(count) => out.extend_from_slice(&buf[..count]),
            ReadOutcome::Nothing(Fill::Complete) => break,
            _ => {}
        }
    }
    assert_eq!(out, b"13");
    let expected = format!("cannot read {gone:?}: No such file or directory");
    assert_eq!(fixture.take_notices(), [expected]);
}

fn touch(path: &Path, modified_ms: u64) {
    let file = File::options().append(true).open(path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_millis(modified_ms))
        .unwrap();
}

impl Fixture {
    fn take_notices(&self) -> Vec<String> {
        self.notices.take()
    }

    /// Takes the notices, exactly one, which must contain `part`.
    fn expect_notice(&self, part: &str) {
        let notices = self.take_notices();
        let [one] = &notices[..] else {
            panic!("{notices:?}")
        };
        assert!(one.contains(part), "{one}");
    }
}

#[test]
fn a_file_that_grows_after_it_was_counted_is_reported_once() {
    let root = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(root.path(), 64);
    for name in ["a", "b", "c"] {
        put(&root.path().join(name), b"1\n", 11_500);
    }
    assert_eq!(fixture.batch(12_000), "1\n|1\n|1\n|");
    assert_eq!(fixture.batch(13_000), "nothing");
    assert_eq!(fixture.take_notices(), [""; 0]);
    put(&root.path().join("a"), b"1\n2\n3\n", 13_500);
    put(&root.path().join("c"), b"1\n2\n", 13_500);
    assert_eq!(fixture.batch(14_000), "nothing");
    fixture.expect_notice("/a\" and 1 other grew after being counted; 6 bytes not counted");
    // The others have their own, no sooner than some seconds later; and none is reported twice.
    put(&root.path().join("a"), b"1\n2\n3\n4\n", 14_500);
    put(&root.path().join("b"), b"1\n2", 14_500);
    for time_ms in 15..19 {
        assert_eq!(fixture.batch(time_ms * 1000), "nothing");
        assert_eq!(fixture.take_notices(), [""; 0]);
    }
    assert_eq!(fixture.batch(20_000), "nothing");
    fixture.expect_notice("/b\" grew after being counted; 1 byte not counted");
    for time_ms in 21..40 {
        assert_eq!(fixture.batch(time_ms * 1000), "nothing");
    }
    assert_eq!(fixture.take_notices(), [""; 0]);
}

#[test]
fn a_file_that_is_counted_a_second_time_is_reported() {
    let root = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(root.path(), 64);
    let [a, b, c] = ["a", "b", "c"].map(|name| root.path().join(name));
    put(&a, b"1\n", 11_500);
    assert_eq!(fixture.batch(12_000), "1\n|");
    fs::rename(&a, &b).unwrap();
    // Spark's rule stays: it is another path.
    assert_eq!(fixture.batch(13_000), "1\n|");
    fixture.expect_notice(&format!("{b:?}, counted before as {a:?}, counted again"));
    // One that is new, though it may well have the inode that the old one had.
    fs::remove_file(&b).unwrap();
    put(&c, b"other\n", 19_500);
    assert_eq!(fixture.batch(20_000), "other\n|");
    assert_eq!(fixture.take_notices(), [""; 0]);
    // A name that was forgotten, of a file that was changed.
    let later_ms = 20_000 + 70_000;
    for time_ms in (21_000..later_ms).step_by(1000) {
        assert_eq!(fixture.batch(time_ms), "nothing");
    }
    touch(&c, later_ms);
    assert_eq!(fixture.batch(later_ms), "other\n|");
    fixture.expect_notice(&format!("{c:?} counted again from the beginning"));
}

#[test]
fn a_file_that_takes_the_name_of_one_that_was_counted_is_reported() {
    let root = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(root.path(), 64);
    let [a, aside] = ["a", ".aside"].map(|name| root.path().join(name));
    put(&a, b"1\n", 11_500);
    assert_eq!(fixture.batch(12_000), "1\n|");
    put(&aside, b"lost\n", 12_500);
    fs::rename(&aside, &a).unwrap();
    assert_eq!(fixture.batch(13_000), "nothing");
    assert_eq!(fixture.batch(14_000), "nothing");
    fixture.expect_notice(&format!("{a:?} replaced after being counted"));
}

/// Nothing waits for its time at the end.
#[test]
fn what_was_not_reported_yet_is_reported_with_the_last_batch() {
    let root = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(root.path(), 64);
    for name in ["a", "b"] {
        put(&root.path().join(name), b"1\n", 11_500);
    }
    assert_eq!(fixture.batch(12_000), "1\n|1\n|");
    put(&root.path().join("a"), b"1\n2\n", 12_500);
    assert_eq!(fixture.batch(13_000), "nothing");
    put(&root.path().join("b"), b"1\n2\n", 13_500);
    assert_eq!(fixture.batch(14_000), "nothing");
    assert_eq!(fixture.take_notices().len(), 1);
    assert_eq!(fixture.files.drain(), 0);
    assert_eq!(fixture.batch(14_500), "nothing");
    let notices = fixture.take_notices();
    assert!(
        notices.len() == 1 && notices[0].contains("/b\" grew"),
        "{notices:?}"
    );
}

/// Hadoop's `LineRecordReader` skips it as well.
#[test]
fn the_utf_8_mark_at_the_beginning_of_each_file_is_skipped_and_nothing_is_decoded() {
    let root = tempfile::tempdir().unwrap();
    for room in [1, 2, 100] {
        let mut fixture = Fixture::new(root.path(), room);
        let marked = "\u{feff}bom\n\u{feff}again";
        put(&root.path().join("a"), marked.as_bytes(), 10_100);
        put(&root.path().join("b"), b"\xef\xbb\xbf", 10_200);
        put(&root.path().join("c"), b"bare", 10_300);
        assert_eq!(fixture.batch(11_000), "~~~bom\n\u{feff}again|~~~|bare|");
        assert_eq!(fixture.take_notices(), [""; 0]);
    }
}

#[test]
fn a_file_that_is_cut_while_it_is_read_is_reported_and_its_cut_line_is_dropped() {
    let root = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(root.path(), 4);
    let path = root.path().join("a");
    put(&path, b"one\ntwo\nthree\n", 10_100);
    assert!(fixture.files.batch_due(BatchTime::from_millis(11_000)));
    let mut buf = vec![0; 4];
    let mut fill = || fixture.files.read(&mut buf);
    assert!(matches!(fill(), ReadOutcome::Bytes(4)));
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(6)
        .unwrap();
    assert!(matches!(fill(), ReadOutcome::Bytes(2)));
    assert!(matches!(fill(), ReadOutcome::Break { clean: false }));
    assert!(matches!(fill(), ReadOutcome::Nothing(Fill::Complete)));
    let notices = fixture.take_notices();
    assert_eq!(notices.len(), 1);
    assert!(notices[0].contains("became shorter"), "{notices:?}");
}
