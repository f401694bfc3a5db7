//! Writers that write and rotators that rotate, a thousand times, with every line numbered.
//!
//! Each writer has one file, and rotates it itself between two lines: what matters is that the
//! follower sees it at any moment. Before the next rotation it waits until something of the new
//! file was read, for a file that comes and goes between two looks cannot be known of.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use microtally::internals::IntakeRig;
use microtally::prelude::*;
use microtally::sources::{Fill, Port, Source};
use microtally::sources::{Follow, FollowOptions};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Rename,
    CopyTruncate,
    Delete,
    Truncate,
    Overwrite,
}

const WAYS: [Way; 5] = [
    Way::Rename,
    Way::CopyTruncate,
    Way::Delete,
    Way::Truncate,
    Way::Overwrite,
];

/// How far the follower is with a writer's lines.
#[derive(Default)]
struct Seen {
    lines: AtomicU64,
    highest: AtomicU64,
}

struct Writer {
    number: usize,
    path: PathBuf,
    file: File,
    written: u64,
    seen: Arc<Seen>,
}

impl Writer {
    fn new(number: usize, root: &Path, seen: Arc<Seen>) -> Self {
        let path = root.join(format!("{number}.log"));
        let file = create(&path);
        Writer {
            number,
            path,
            file,
            written: 0,
            seen,
        }
    }

    fn text(&mut self) -> String {
        self.written += 1;
        format!(
            "writer {} line {} {}\n",
            self.number,
            self.written,
            "x".repeat(self.written as usize % 50)
        )
    }

    /// Writes a line, now and then in two pieces.
    fn line(&mut self) {
        let text = self.text();
        let (front, back) = text.split_at(self.written as usize % text.len());
        self.file.write_all(front.as_bytes()).unwrap();
        if self.written.is_multiple_of(7) {
            thread::yield_now();
        }
        self.file.write_all(back.as_bytes()).unwrap();
    }

    fn wait(&self, what: &str, is_so: impl Fn(&Seen) -> bool) {
        let begin = Instant::now();
        while !is_so(&self.seen) {
            let (lines, written) = (self.seen.lines.load(Ordering::Relaxed), self.written);
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "{what}: {lines} of {written} lines came"
            );
            thread::sleep(Duration::from_micros(200));
        }
    }

    fn wait_for_all(&self) {
        self.wait("before emptying", |seen| {
            seen.lines.load(Ordering::Relaxed) == self.written
        });
    }

    fn rotate(&mut self, way: Way) {
        // As with every rotator, the older one goes before the newer one takes its name.
        let aside = self.path.with_extension("log.1");
        let _ = fs::remove_file(&aside);
        match way {
            Way::Rename | Way::Delete => {
                if way == Way::Rename {
                    fs::rename(&self.path, &aside).unwrap();
                } else {
                    fs::remove_file(&self.path).unwrap();
                }
                // A writer that was not told yet, and is in the middle of a line.
                let late = self.text();
                self.file.write_all(&late.as_bytes()[..5]).unwrap();
                let new = create(&self.path);
                self.file.write_all(&late.as_bytes()[5..]).unwrap();
                self.line();
                self.file = new;
            }
            Way::CopyTruncate => {
                // Nothing is written between the two: it would be in neither, whoever follows.
                fs::copy(&self.path, &aside).unwrap();
                self.file.set_len(0).unwrap();
            }
            Way::Truncate => {
                // What is truncated away unread is gone for everybody.
                self.wait_for_all();
                self.file.set_len(0).unwrap();
            }
            Way::Overwrite => {
                // The same inode, other content, and longer than before: all in one look.
                self.wait_for_all();
                let before = self.file.metadata().unwrap();
                let mut text = String::new();
                while text.len() as u64 <= before.len() {
                    text += &self.text();
                }
                fs::write(&self.path, text).unwrap();
                assert_eq!(fs::metadata(&self.path).unwrap().ino(), before.ino());
            }
        }
        let first = self.written + 1;
        for _ in 0..3 {
            self.line();
        }
        self.wait("after a rotation", |seen| {
            seen.highest.load(Ordering::Relaxed) >= first
        });
    }
}

fn create(path: &Path) -> File {
    File::options()
        .append(true)
        .create(true)
        .open(path)
        .unwrap()
}

#[test]
fn a_thousand_rotations_lose_and_double_nothing() {
    const WRITERS: usize = 4;
    let root = tempfile::tempdir().unwrap();
    let seen: Vec<Arc<Seen>> = (0..WRITERS).map(|_| Arc::default()).collect();
    let is_over = AtomicBool::new(false);
    let options = FollowOptions::default().poll(Duration::from_millis(1));
    let paths = (0..WRITERS).map(|number| root.path().join(format!("{number}.log")));
    let mut follow = Follow::new(paths, options).unwrap();
    let lines = thread::scope(|scope| {
        let follower = scope.spawn(|| {
            follow.start(Port::detached(), Duration::ZERO);
            let begin = Instant::now();
            let mut lines = Vec::<Vec<u8>>::new();
            let mut rig = IntakeRig::of_lines(300);
            loop {
                // Asked before: what was written by then is found.
                let is_last = is_over.load(Ordering::Acquire);
                let fill = rig.give(|out| follow.fill(out, begin.elapsed()));
                let given = rig.take();
                for line in given.split_inclusive(|&byte| byte == b'\n') {
                    let line = &line[..line.len() - 1];
                    note(line, &seen);
                    lines.push(line.to_vec());
                }
                match fill {
                    Fill::More => {}
                    Fill::Pending(_) if is_last => {
                        assert_eq!((rig.finish(), rig.truncated_lines()), (vec![], 0));
                        break lines;
                    }
                    Fill::Pending(_) => thread::sleep(Duration::from_micros(300)),
                    other => panic!("{other:?}"),
                }
            }
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let mut writer = Writer::new(number, root.path(), Arc::clone(&seen[number]));
                scope.spawn(move || {
                    // A copy is known by what was read before.
                    writer.line();
                    writer.wait("at first", |seen| seen.highest.load(Ordering::Relaxed) > 0);
                    for turn in 0..1000 / WRITERS {
                        writer.line();
                        // Another order in each writer.
                        writer.rotate(WAYS[(turn * (number % 4 + 1) + number) % WAYS.len()]);
                    }
                    writer.wait_for_all();
                    writer.written
                })
            })
            .collect();
        let written: Vec<u64> = writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect();
        is_over.store(true, Ordering::Release);
        let lines = follower.join().unwrap();
        let mut counts = BTreeMap::<(u64, u64), usize>::new();
        for line in &lines {
            *counts.entry(parsed(line)).or_default() += 1;
        }
        for (number, &written) in written.iter().enumerate() {
            for line in 1..=written {
                assert_eq!(
                    counts.remove(&(number as u64, line)),
                    Some(1),
                    "writer {number} line {line}"
                );
            }
        }
        assert!(counts.is_empty(), "{counts:?}");
        lines.len() as u64
    });
    assert_eq!(
        lines,
        seen.iter()
            .map(|seen| seen.lines.load(Ordering::Relaxed))
            .sum::<u64>()
    );
}

/// The writer and the number of a line, which must be whole.
fn parsed(line: &[u8]) -> (u64, u64) {
    let text = std::str::from_utf8(line).unwrap();
    let words: Vec<&str> = text.split(' ').collect();
    let [_, writer, _, number, rest] = words[..] else {
        panic!("{text}")
    };
    let number: u64 = number.parse().expect(text);
    assert_eq!(rest, "x".repeat(number as usize % 50), "{text}");
    (writer.parse().expect(text), number)
}

fn note(line: &[u8], seen: &[Arc<Seen>]) {
    let (writer, number) = parsed(line);
    let seen = &seen[writer as usize];
    seen.lines.fetch_add(1, Ordering::Relaxed);
    seen.highest.fetch_max(number, Ordering::Relaxed);
}

#[test]
fn followed_files_are_a_stream_and_a_graceful_stop_ends_their_last_lines() {
    let root = tempfile::tempdir().unwrap();
    let paths = ["a.log", "b.log"].map(|name| root.path().join(name));
    fs::write(&paths[0], "one\ntwo").unwrap();
    fs::write(&paths[1], "one\nthree").unwrap();
    let ssc = StreamingContext::new(Duration::from_millis(20)).unwrap();
    let (sender, counts) = std::sync::mpsc::channel();
    let options = FollowOptions::default().poll(Duration::from_millis(1));
    ssc.source_stream(Follow::new(&paths, options).unwrap())
        .count_by_value()
        .for_each_batch(move |batch, _| {
            for (key, count) in batch.iter() {
                sender
                    .send((String::from_utf8(key.to_vec()).unwrap(), count))
                    .unwrap();
            }
        });
    let running = ssc.start().unwrap();
    assert_eq!(counts.recv().unwrap().0, "one");
    let stats = running.stop(Stop::Graceful).unwrap();
    assert_eq!(stats.records, 4);
    let mut rest: Vec<_> = counts
        .iter()
        .map(|(key, _)| key)
        .filter(|key| key != "one")
        .collect();
    rest.sort();
    assert_eq!(rest, ["three", "two"]);
}

/// A look that is due in an hour: the kernel alone says that there is something.
#[cfg(target_os = "linux")]
#[test]
fn a_write_wakes_the_reader_whenever_the_next_look_is() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.log");
    let mut log = create(&path);
    log.write_all(b"first\n").unwrap();
    let ssc = StreamingContext::new(Duration::from_millis(20)).unwrap();
    let (sender, keys) = std::sync::mpsc::channel();
    let options = FollowOptions::default().poll(Duration::from_secs(3600));
    let follow = Follow::matching([root.path().join("*.log")], options).unwrap();
    ssc.source_stream(follow)
        .count_by_value()
        .for_each_batch(move |batch, _| {
            for (key, _) in batch.iter() {
                sender
                    .send(String::from_utf8(key.to_vec()).unwrap())
                    .unwrap();
            }
        });
    let running = ssc.start().unwrap();
    let next = || keys.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(next(), "first");
    for number in 0..20 {
        log.write_all(format!("line {number}\n").as_bytes())
            .unwrap();
        assert_eq!(next(), format!("line {number}"));
    }
    // What is read at once is not lost by a truncation; of what is, the statistics know.
    for number in 0..20 {
        log.set_len(0).unwrap();
        log.write_all(format!("again {number}\n").as_bytes())
            .unwrap();
        assert_eq!(next(), format!("again {number}"));
    }
    running.stop(Stop::Graceful).unwrap();
}

/// Any order of writing, rotating and looking.
#[test]
fn what_is_counted_under_rotation_is_what_the_model_says() {
    let bytes = proptest::collection::vec(proptest::num::u8::ANY, 1..120);
    let config = proptest::test_runner::Config {
        cases: 200,
        failure_persistence: None,
        ..proptest::test_runner::Config::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&bytes, |bytes| {
        let root = tempfile::tempdir().unwrap();
        crate::rotation::run(root.path(), &bytes);
        Ok(())
    });
    outcome.unwrap();
}

/// What is known to have been lost is in the statistics.
#[test]
fn an_unfinished_line_that_is_truncated_away_is_a_lost_record() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("log");
    let mut log = create(&path);
    log.write_all(b"first\nunfinished").unwrap();
    let ssc = StreamingContext::new(Duration::from_millis(20)).unwrap();
    let (sender, batches) = std::sync::mpsc::channel();
    let options = FollowOptions::default().poll(Duration::from_millis(1));
    ssc.source_stream(Follow::new([&path], options).unwrap())
        .count_by_value()
        .for_each_batch(move |batch, _| {
            let _ = sender.send((batch.stats().records, batch.stats().lost_records));
        });
    let running = ssc.start().unwrap();
    let sum = |wanted: (u64, u64)| {
        let mut seen = (0, 0);
        while seen != wanted {
            let (records, lost) = batches.recv_timeout(Duration::from_secs(60)).expect("more");
            seen = (seen.0 + records, seen.1 + lost);
        }
    };
    sum((1, 0));
    // The look that has found the line has found what is behind it.
    log.set_len(0).unwrap();
    sum((0, 1));
    log.write_all(b"second\n").unwrap();
    sum((1, 0));
    running.stop(Stop::Graceful).unwrap();
}
