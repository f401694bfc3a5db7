//! A follower beside a slow model of what it has to count, may count and must not: any order of
//! writing, rotating and looking. The fuzz target `follow_under_rotation` includes this file as it
//! is.
//!
//! Each line is written once and is unlike all others. It has to be counted when a look came before
//! its file was emptied or could be given up; it may be counted otherwise; it is never counted
//! twice, nor in part.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use microtally::internals::IntakeRig;
use microtally::sources::{Fill, Port, Source};
use microtally::sources::{Follow, FollowOptions};

/// A file of which nobody has the name may be closed when it has been quiet for that long.
const QUIET: Duration = Duration::from_secs(5);
/// After it, what fits a pattern has been found.
const FOUND: Duration = Duration::from_millis(1100);
/// Old files of one name that are kept open at least.
const RETIRED_MIN: usize = 8;

/// A file as the model knows it.
#[derive(Default)]
struct Model {
    /// Lines that no look has found.
    pending: Vec<u64>,
    /// A look has found it under its name.
    is_known: bool,
    /// It may have been given up.
    may_be_closed: bool,
    changed_at: Duration,
}

struct Scene {
    root: PathBuf,
    follow: Follow,
    rig: IntakeRig,
    now: Duration,
    writer: File,
    /// By number; those of files that are gone are not used again while somebody has them open.
    files: BTreeMap<usize, Model>,
    /// The models of inodes.
    inodes: BTreeMap<u64, usize>,
    /// Files the name was taken from, oldest first.
    retired: Vec<usize>,
    written: u64,
    /// Lines that were given.
    given: BTreeSet<u64>,
    /// Lines that have to be.
    owed: BTreeSet<u64>,
    /// Open for as long as the model lives, so that no inode's number is used again.
    kept: Vec<File>,
}

/// Runs what `bytes` say below `root`, an empty directory.
pub(crate) fn run(root: &Path, bytes: &[u8]) {
    let Some((&first, bytes)) = bytes.split_first() else {
        return;
    };
    let name = if first % 2 == 0 { "log" } else { "[l]og" };
    let room = [1, 5, 64, 4096][usize::from(first / 2) % 4];
    let options = FollowOptions::default();
    let mut follow = Follow::matching([root.join(name)], options).expect("it is a pattern");
    follow.start(Port::detached(), Duration::ZERO);
    let writer = open(&root.join("log"));
    let mut scene = Scene {
        root: root.to_owned(),
        follow,
        rig: IntakeRig::of_lines(room),
        now: Duration::ZERO,
        writer,
        files: BTreeMap::new(),
        inodes: BTreeMap::new(),
        retired: Vec::new(),
        written: 0,
        given: BTreeSet::new(),
        owed: BTreeSet::new(),
        kept: Vec::new(),
    };
    scene.meet_writer();
    for &byte in bytes {
        scene.step(byte);
    }
    scene.look(FOUND);
    scene.look(FOUND);
    let bytes = scene.follow.drain();
    scene.fill();
    assert!(scene.rig.finish().is_empty(), "{bytes} bytes at the end");
    scene.check();
}

fn open(path: &Path) -> File {
    let mut options = File::options();
    options
        .append(true)
        .create(true)
        .open(path)
        .expect("it can be made")
}

impl Scene {
    fn at(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The number of the file that has this name.
    fn number_at(&self, name: &str) -> Option<usize> {
        let inode = fs::metadata(self.at(name)).ok()?.ino();
        self.inodes.get(&inode).copied()
    }

    fn writers(&mut self) -> &mut Model {
        let inode = self.writer.metadata().expect("it is open").ino();
        let number = self.inodes[&inode];
        self.files.get_mut(&number).expect("it was met")
    }

    fn meet_writer(&mut self) {
        let inode = self.writer.metadata().expect("it is open").ino();
        let number = self.files.len();
        self.inodes.entry(inode).or_insert_with(|| {
            self.kept
                .push(self.writer.try_clone().expect("a descriptor"));
            number
        });
        let now = self.now;
        self.files
            .entry(self.inodes[&inode])
            .or_default()
            .changed_at = now;
    }

    /// One line in two pieces, with a look between them if it `is_torn`.
    fn write(&mut self, len: usize, is_torn: bool) {
        let number = self.written;
        self.written += 1;
        let text = format!("{number} {}\n", "x".repeat(len));
        let (begin, end) = text.split_at(text.len() / 2);
        self.writer
            .write_all(begin.as_bytes())
            .expect("it is written");
        if is_torn {
            self.fill();
        }
        self.writer
            .write_all(end.as_bytes())
            .expect("it is written");
        let now = self.now;
        let model = self.writers();
        model.pending.push(number);
        model.changed_at = now;
    }

    /// What is in the numbered file and was not found is gone.
    fn empty(&mut self, number: usize) {
        let now = self.now;
        let model = self.files.get_mut(&number).expect("it was met");
        model.pending.clear();
        model.changed_at = now;
    }

    fn step(&mut self, byte: u8) {
        let (what, how) = (byte % 11, usize::from(byte / 11));
        match what {
            0..=2 => self.write(how * how / 4, what == 2),
            3 => self.look(Duration::from_millis(100 + 10 * how as u64)),
            4 => self.look(Duration::from_secs(how as u64 + 1)),
            // Renamed; whoever writes does not know yet.
            5 => {
                let _ = fs::rename(self.at("log.1"), self.at("log.2"));
                self.retire();
                let _ = fs::rename(self.at("log"), self.at("log.1"));
            }
            6 => {
                self.retire();
                let _ = fs::remove_file(self.at("log"));
            }
            7 | 8 => {
                self.writer = open(&self.at("log"));
                self.meet_writer();
            }
            9 => {
                let inode = self.writer.metadata().expect("it is open").ino();
                self.writer.set_len(0).expect("it is emptied");
                self.empty(self.inodes[&inode]);
            }
            // Copied, perhaps over a file that is still followed, and emptied.
            _ => {
                if how % 2 == 0 {
                    let _ = fs::remove_file(self.at("log.1"));
                }
                let under = self.number_at("log.1");
                if fs::copy(self.at("log"), self.at("log.1")).is_err() {
                    return;
                }
                if let Some(number) = under {
                    self.empty(number);
                    // Its content is another one now; whoever writes to it writes behind a copy.
                    let model = self.files.get_mut(&number).expect("it was met");
                    model.may_be_closed = true;
                }
                let log = File::options().write(true).open(self.at("log"));
                log.expect("it was copied")
                    .set_len(0)
                    .expect("it is emptied");
                let number = self.number_at("log").expect("it was met");
                self.empty(number);
            }
        }
    }

    /// The file called `log`, if there is one, loses its name.
    fn retire(&mut self) {
        if let Some(number) = self.number_at("log") {
            self.retired.retain(|&other| other != number);
            self.retired.push(number);
        }
        for &number in self.retired.iter().rev().skip(RETIRED_MIN) {
            self.files
                .get_mut(&number)
                .expect("it was met")
                .may_be_closed = true;
        }
    }

    /// Time passes, and everything is looked at.
    fn look(&mut self, pause: Duration) {
        self.fill();
        for pause in [pause, FOUND] {
            self.now += pause;
            let current = self.number_at("log");
            for (&number, model) in &mut self.files {
                let is_quiet = self.now.saturating_sub(model.changed_at) >= QUIET;
                model.may_be_closed |= is_quiet && current != Some(number);
            }
            self.fill();
        }
        if let Some(number) = self.number_at("log") {
            let model = self.files.get_mut(&number).expect("it was met");
            model.is_known = true;
            model.may_be_closed = false;
        }
        for model in self.files.values_mut() {
            if model.is_known && !model.may_be_closed {
                self.owed.append(&mut model.pending.drain(..).collect());
            }
        }
        self.check();
    }

    fn fill(&mut self) {
        loop {
            let fill = self.rig.give(|out| self.follow.fill(out, self.now));
            let given = self.rig.take();
            for line in given.split_inclusive(|&byte| byte == b'\n') {
                self.note(&line[..line.len() - 1]);
            }
            match fill {
                Fill::More => {}
                Fill::Pending(at) => {
                    assert!(at.is_none_or(|at| at > self.now), "it would spin");
                    return;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn note(&mut self, line: &[u8]) {
        let line = String::from_utf8(line.to_vec()).expect("what was written");
        let (number, rest) = line.split_once(' ').expect("a line that was written");
        let number: u64 = number.parse().expect("a line that was written");
        assert!(
            number < self.written && rest.bytes().all(|byte| byte == b'x'),
            "{line}"
        );
        assert!(self.given.insert(number), "line {number} was given twice");
    }

    fn check(&self) {
        let missing: Vec<_> = self.owed.difference(&self.given).collect();
        assert!(missing.is_empty(), "lines {missing:?} were not given");
    }
}
