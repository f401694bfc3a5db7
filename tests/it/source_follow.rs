//! `-F`: files that grow and are rotated while somebody writes. Every line is counted once.
//!
//! No pause decides anything: before each rotation some lines of the file have been counted, so
//! that the program has it open, and others have just been written, so that it may not have read
//! them yet.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::util::{ONE_BATCH, Run, expected, microtally, plain, shell, tsv_counts, uniq};

/// The five ways of rotating.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rotation {
    Rename,
    CopyTruncate,
    Truncate,
    Delete,
    /// A new file is moved over the old one.
    Replace,
}

/// Who writes the log, and remembers what.
struct Log {
    path: PathBuf,
    file: File,
    written: String,
    lines: usize,
}

fn append(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    options
        .open(path)
        .expect("the fresh directory can be written to")
}

impl Log {
    fn new(path: PathBuf) -> Self {
        let file = append(&path);
        Log {
            path,
            file,
            written: String::new(),
            lines: 0,
        }
    }

    /// Writes so many lines, each in two pieces and of its own.
    fn write(&mut self, lines: usize) {
        for _ in 0..lines {
            let line = format!("line {} of the log\n", self.lines);
            let (begin, end) = line.split_at(6);
            self.file.write_all(begin.as_bytes()).unwrap();
            self.file.write_all(end.as_bytes()).unwrap();
            self.written += &line;
            self.lines += 1;
        }
    }

    fn wait_until_counted(&self, run: &Run) {
        let lines = self.lines;
        let what = format!("{lines} lines");
        run.stdout
            .wait_until(&what, |text| tsv_counts(text).len() >= lines);
    }

    fn rotate(&mut self, rotation: Rotation, number: usize) {
        let beside = PathBuf::from(format!("{}.{number}", self.path.display()));
        match rotation {
            Rotation::Rename => {
                fs::rename(&self.path, &beside).unwrap();
                // Who writes has not noticed yet.
                self.write(7);
                self.file = append(&self.path);
            }
            Rotation::CopyTruncate => {
                fs::copy(&self.path, &beside).unwrap();
                self.file.set_len(0).unwrap();
            }
            Rotation::Truncate => self.file.set_len(0).unwrap(),
            Rotation::Delete => {
                fs::remove_file(&self.path).unwrap();
                self.write(7);
                self.file = append(&self.path);
            }
            Rotation::Replace => {
                let next = self.path.with_extension("next");
                let file = append(&next);
                fs::rename(&next, &self.path).unwrap();
                self.write(7);
                self.file = file;
            }
        }
    }
}

fn follow(args: &[&str]) -> Run {
    let program = microtally(&[
        "words", "-k", "line", "-o", "tsv", "-n", "all", "-i", "20ms",
    ]);
    let run = program.args(&["-F", "--from", "start"]).args(args).start();
    run.wait_until_it_reads();
    run
}

fn every_line_once(rotation: Rotation) {
    let run = follow(&["log"]);
    let mut log = Log::new(run.path("log"));
    for number in 0..5 {
        log.write(20);
        log.wait_until_counted(&run);
        // Of lines that are truncated away without a copy nobody can know.
        if rotation != Rotation::Truncate {
            log.write(20);
        }
        log.rotate(rotation, number);
    }
    log.write(20);
    log.file.write_all(b"the last one, unended").unwrap();
    log.wait_until_counted(&run);
    run.signal("INT");
    let counted = run.wait().exits_with(0).tsv_counts();
    let mut written = uniq(&log.written);
    written.insert("the last one, unended".into(), 1);
    assert_eq!(counted, written, "{rotation:?}");
}

#[test]
fn a_log_that_is_renamed_loses_and_doubles_nothing() {
    every_line_once(Rotation::Rename);
}

#[test]
fn a_log_that_is_copied_and_truncated_loses_and_doubles_nothing() {
    every_line_once(Rotation::CopyTruncate);
}

#[test]
fn a_log_that_is_truncated_loses_and_doubles_nothing_of_what_was_read() {
    every_line_once(Rotation::Truncate);
}

#[test]
fn a_log_that_is_deleted_and_made_again_loses_and_doubles_nothing() {
    every_line_once(Rotation::Delete);
}

#[test]
fn a_log_that_is_replaced_loses_and_doubles_nothing() {
    every_line_once(Rotation::Replace);
}

#[test]
fn a_file_that_is_not_there_yet_is_told_and_waited_for() {
    let run = follow(&["log"]);
    let text = run.stderr.wait_for("\n");
    assert!(
        text.contains("log") && text.contains("o such file"),
        "{text}"
    );
    fs::write(run.path("log"), "hello\n").unwrap();
    run.wait_for_counts(&[("hello", 1)]);
    run.signal("TERM");
    run.wait().exits_with(0);
}

#[test]
fn several_files_are_followed_and_their_lines_never_mix() {
    let run = follow(&["a", "b"]);
    let (mut a, mut b) = (append(&run.path("a")), append(&run.path("b")));
    for _ in 0..30 {
        a.write_all(b"half of ").unwrap();
        b.write_all(b"another ").unwrap();
        a.write_all(b"a\n").unwrap();
        b.write_all(b"b\n").unwrap();
    }
    run.wait_for_counts(&[("half of a", 30), ("another b", 30)]);
    run.signal("TERM");
    run.wait().exits_with(0);
}

#[test]
fn ctrl_c_prints_the_last_batch() {
    let program = microtally(&["words", "-F", "--from", "start", "log"]).args(&ONE_BATCH);
    let run = program.file("log", "a b\na unended").start();
    run.wait_until_it_reads();
    run.signal("INT");
    let ended = run.wait().quietly();
    assert_eq!(
        ended.counts(),
        expected(&[("a", 2), ("b", 1), ("unended", 1)])
    );
    assert_eq!(ended.batches().len(), 1);
}

#[test]
fn counting_a_file_that_is_followed_ends_with_the_signal() {
    let run = microtally(&["count", "-F", "log"])
        .file("log", "x\nx\n")
        .start();
    run.wait_until_it_reads();
    run.signal("INT");
    assert_eq!(run.wait().quietly().tsv_counts(), plain(&[("x", 2)]));
}

#[test]
fn a_pattern_is_followed_as_the_files_that_are_there_and_those_that_come_later() {
    let program = microtally(&[
        "words", "-k", "line", "-o", "tsv", "-i", "20ms", "-F", "--from", "start", "*.log",
    ]);
    let run = program.file("a.log", "a\n").file("b.log", "b\n").start();
    run.wait_for_counts(&[("a", 1), ("b", 1)]);
    append(&run.path("b.log")).write_all(b"b\n").unwrap();
    run.wait_for_counts(&[("a", 1), ("b", 2)]);
    // The next day.
    append(&run.path("c.log")).write_all(b"c\n").unwrap();
    run.wait_for_counts(&[("a", 1), ("b", 2), ("c", 1)]);
    run.stderr
        .wait_for("\"*.log\": following a new file from its beginning: \"c.log\"\n");
    append(&run.path("b.log")).write_all(b"d\n").unwrap();
    run.wait_for_counts(&[("a", 1), ("b", 2), ("c", 1), ("d", 1)]);
    run.signal("TERM");
    run.wait().exits_with(0);
}

#[test]
fn a_pattern_that_no_file_fits_yet_is_told_and_waited_for() {
    for command in ["words", "top", "count"] {
        let run = microtally(&[command, "-k", "line", "-o", "tsv", "-F", "*.log"]).start();
        run.stderr
            .wait_for("\"*.log\": no file matches; waiting for it\n");
        // What comes later is read from its start, by every command.
        fs::write(run.path("a.log"), "a\nb\n").unwrap();
        run.stderr.wait_for("\"a.log\"\n");
        run.signal("INT");
        let counted = run.wait().exits_with(0).tsv_counts();
        assert_eq!(counted, plain(&[("a", 1), ("b", 1)]), "{command}");
    }
}

/// The past is not the last minute: only `count`, which is asked for everything, begins with it.
#[test]
fn a_followed_file_begins_at_its_end_but_for_count() {
    for (command, from, has_past) in [
        ("top", None, false),
        ("words", None, false),
        ("count", None, true),
        ("top", Some("start"), true),
        ("words", Some("start"), true),
        ("count", Some("end"), false),
    ] {
        let mut program = microtally(&[command, "-k", "line", "-o", "tsv", "-F", "log", "*.txt"]);
        if let Some(from) = from {
            program = program.args(&["--from", from]);
        }
        if command != "count" {
            program = program.args(&["-i", "20ms"]);
        }
        let program = program
            .file("log", "past\nhalf of ")
            .file("a.txt", "past\n");
        // A name that is missing is reported by the first look, and a new file by a later one: by
        // then the others have been looked at.
        let run = program.args(&["missing"]).start();
        run.stderr
            .wait_for("\"missing\": No such file or directory; waiting for it");
        fs::write(run.path("b.txt"), "").unwrap();
        run.stderr.wait_for("\"b.txt\"\n");
        append(&run.path("log")).write_all(b"a line\n").unwrap();
        append(&run.path("a.txt")).write_all(b"more\n").unwrap();
        if command != "count" {
            run.stdout.wait_until("what is new", |text| {
                text.contains("\thalf of a line\t") && text.contains("\tmore\t")
            });
        }
        run.signal("INT");
        let ended = run.wait().exits_with(0);
        let text = &ended.stdout;
        assert_eq!(text.contains("past"), has_past, "{command} {from:?} {text}");
        assert!(
            text.contains("half of a line") && text.contains("more"),
            "{text}"
        );
    }
    let ended = microtally(&["top", "--from", "end", "log"]).run();
    ended.exits_with(2).says(&["--follow"]);
}

/// What came through it is counted, with a file beside it that has no end.
#[test]
fn a_pipe_among_the_files_is_read_as_it_comes() {
    let script = "mkfifo pipe; (echo of the pipe; printf unended) > pipe & exec \"$0\" words -k line -o tsv \
                  -i 20ms -F --from start pipe log";
    let run = shell(script).file("log", "of the file\n").start();
    run.wait_for_counts(&[("of the pipe", 1), ("unended", 1), ("of the file", 1)]);
    append(&run.path("log")).write_all(b"more\n").unwrap();
    run.wait_for_counts(&[
        ("of the pipe", 1),
        ("unended", 1),
        ("of the file", 1),
        ("more", 1),
    ]);
    run.wait_until_it_reads();
    run.signal("TERM");
    run.wait().quietly();
    // By itself it ends as it does without -F.
    let script = "mkfifo pipe; echo x > pipe & exec \"$0\" count -F pipe";
    let ended = shell(script).run().quietly();
    assert_eq!(ended.tsv_counts(), plain(&[("x", 1)]));
}

#[test]
fn more_files_than_descriptors_are_told_of_in_one_line() {
    let script =
        "ulimit -n 40; exec \"$0\" words -k line -o tsv -n all -j 1 -i 20ms -F --from start log-*";
    let mut program = shell(script);
    for n in 10..70 {
        program = program.file(&format!("log-{n}"), format!("of {n}\n"));
    }
    let run = program.start();
    let told = "no more files can be open (raise ulimit -n); waiting for \"log-";
    run.stderr.wait_for(told);
    run.stdout.wait_until("the first file", |text| {
        tsv_counts(text).contains_key("of 10")
    });
    // Some looks later nothing more has been said. What is there is followed.
    append(&run.path("log-10")).write_all(b"more\n").unwrap();
    run.stdout.wait_until("what is appended", |text| {
        tsv_counts(text).contains_key("more")
    });
    run.wait_until_it_reads();
    run.signal("TERM");
    let ended = run.wait().exits_with(0);
    assert_eq!(ended.stderr.matches(told).count(), 1, "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
}
