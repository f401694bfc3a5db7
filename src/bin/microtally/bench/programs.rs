//! Whole programs on files, started as a user starts them: this one, and those of the system that count.
//!
//! Promise: everybody's counts are compared key by key before anybody is timed; a program that is not installed
//! is named; files are removed. Must not know: how counts are made, how tables are printed.
//!
//! The time is from starting the processes until the last one has ended, the processor time that of all of them.

use std::collections::HashMap;
use std::env::current_exe;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use microtally::generate::corpora::{Kind, SEPARATOR};
use microtally::{Error, Result};
use tempfile::TempDir;

use super::clock::timed;
use super::figures::{Figures, three_digits};
use crate::run::usage;

/// How often starting is measured: it is short.
const STARTS: usize = 21;

/// Bytes that are written to a pipe at once.
const PIECE_BYTES: usize = 1 << 16;

/// This program and a place for files.
pub(super) struct Programs {
    own: PathBuf,
    dir: TempDir,
}

/// A program that counts a file, given as its standard input.
struct Counting {
    name: &'static str,
    /// Commands of a pipeline, each with its arguments. The first word of ours is empty.
    pipeline: &'static [&'static [&'static str]],
}

/// What is counted.
#[derive(Clone, Copy)]
enum Input {
    Lines,
    Words,
}

const AWK_LINES: &str = "{ n[$0]++ } END { for (key in n) print n[key], key }";
const AWK_WORDS: &str =
    "{ for (i = 1; i <= NF; i++) n[$i]++ } END { for (key in n) print n[key], key }";

impl Input {
    fn name(self) -> &'static str {
        match self {
            Input::Lines => "lines",
            Input::Words => "words",
        }
    }

    /// Ours first; `FILE` stands for the file's name.
    fn programs(self) -> &'static [Counting] {
        match self {
            Input::Lines => &[
                Counting {
                    name: "`microtally count FILE`",
                    pipeline: &[&["", "count", "FILE"]],
                },
                Counting {
                    name: "`microtally count -j 1 FILE`",
                    pipeline: &[&["", "count", "-j", "1", "FILE"]],
                },
                Counting {
                    name: "`microtally count - < FILE`",
                    pipeline: &[&["", "count", "-"]],
                },
                Counting {
                    name: "`mawk`",
                    pipeline: &[&["mawk", AWK_LINES]],
                },
                Counting {
                    name: "`sort`, `uniq -c`, `sort -rn`",
                    pipeline: &[&["sort"], &["uniq", "-c"], &["sort", "-rn"]],
                },
            ],
            Input::Words => &[
                Counting {
                    name: "`microtally count -k word FILE`",
                    pipeline: &[&["", "count", "-k", "word", "FILE"]],
                },
                Counting {
                    name: "`microtally count -k word -j 1 FILE`",
                    pipeline: &[&["", "count", "-k", "word", "-j", "1", "FILE"]],
                },
                Counting {
                    name: "`microtally count -k word - < FILE`",
                    pipeline: &[&["", "count", "-k", "word", "-"]],
                },
                Counting {
                    name: "`mawk`",
                    pipeline: &[&["mawk", AWK_WORDS]],
                },
                Counting {
                    name: "`tr`, `sort`, `uniq -c`, `sort -rn`",
                    pipeline: &[
                        &["tr", " ", "\\n"],
                        &["sort"],
                        &["uniq", "-c"],
                        &["sort", "-rn"],
                    ],
                },
            ],
        }
    }
}

/// Figures of one program.
#[derive(Default)]
struct Timed {
    gb_per_s: Figures,
    cpu_s_per_gb: Figures,
    /// How many times the first program's time, and processor time, it takes.
    times: Figures,
    cpu_times: Figures,
}

impl Programs {
    /// # Errors
    ///
    /// There is no place for files.
    pub(super) fn new() -> Result<Programs> {
        let failed = |cause: io::Error| Error::refused(format!("cannot make files: {cause}"));
        Ok(Programs {
            own: current_exe().map_err(failed)?,
            dir: TempDir::with_prefix("microtally-bench-").map_err(failed)?,
        })
    }

    pub(super) const FILES_HEAD: [&'static str; 6] = [
        "program",
        "input",
        "GB/s",
        "processor time, s a GB",
        "times the first one's time",
        "times its processor time",
    ];

    /// English-like text of so many bytes, its lines and its words, counted by everybody in turns. Also what is
    /// not installed.
    pub(super) fn files(
        &self,
        bytes: usize,
        rounds: u64,
    ) -> Result<(Vec<Vec<String>>, Vec<String>)> {
        let text = Kind::English.make(bytes);
        let a_word_a_line: Vec<u8> = text
            .iter()
            .map(|&byte| if byte == SEPARATOR { b'\n' } else { byte })
            .collect();
        let (mut rows, mut missing) = (Vec::new(), Vec::new());
        for (input, text) in [(Input::Lines, a_word_a_line), (Input::Words, text)] {
            let path = self.dir.path().join(input.name());
            std::fs::write(&path, &text).map_err(|cause| file_failed(&path, &cause))?;
            let expected = counts_of(&text);
            let mut programs = Vec::new();
            for program in input.programs() {
                match self.check(program, &path, &expected)? {
                    None => programs.push((program, Timed::default())),
                    Some(reason) => missing.push(format!("{}: {reason}", program.name)),
                }
            }
            for _ in 0..rounds {
                let mut first = None;
                for (program, timed) in &mut programs {
                    let (seconds, cpu_s) = self.time(program, &path)?;
                    let (first_s, first_cpu_s) = *first.get_or_insert((seconds, cpu_s));
                    let gigabytes = text.len() as f64 / 1e9;
                    timed.gb_per_s.push(gigabytes / seconds);
                    timed.cpu_s_per_gb.push(cpu_s / gigabytes);
                    timed.times.push(seconds / first_s);
                    timed.cpu_times.push(cpu_s / first_cpu_s);
                }
            }
            for (program, timed) in &programs {
                rows.push(vec![
                    program.name.to_owned(),
                    input.name().to_owned(),
                    timed.gb_per_s.cell(""),
                    timed.cpu_s_per_gb.cell(""),
                    timed.times.cell("x"),
                    timed.cpu_times.cell("x"),
                ]);
            }
        }
        Ok((rows, missing))
    }

    /// Panics if the program counts something else. Gives what is missing to run it.
    fn check(
        &self,
        program: &Counting,
        path: &Path,
        expected: &HashMap<&[u8], u64>,
    ) -> Result<Option<String>> {
        let mut children = match self.start(program, path, Stdio::piped()) {
            Ok(children) => children,
            Err((name, cause)) if cause.kind() == ErrorKind::NotFound => {
                return Ok(Some(format!("there is no program {name}")));
            }
            Err((name, cause)) => return Err(not_run(name, &cause)),
        };
        let last = children.pop().expect("a pipeline has a program");
        let output = last.wait_with_output();
        let output = output.map_err(|cause| not_run(program.name, &cause))?;
        wait(program.name, children)?;
        let is_ours = program.pipeline[0][0].is_empty();
        let mut found = HashMap::new();
        for line in output.stdout.split(|&byte| byte == b'\n') {
            let fields = line.split(|&byte| byte == if is_ours { b'\t' } else { b' ' });
            let mut fields = fields.filter(|field| !field.is_empty());
            // Ours: the time, the key and the count; others the count and the key.
            let (key, count) = match (is_ours, fields.next(), fields.next(), fields.next()) {
                (true, Some(_), Some(key), Some(count)) => (key, count),
                (false, Some(count), Some(key), None) => (key, count),
                _ => continue,
            };
            let count = std::str::from_utf8(count).ok().and_then(|n| n.parse().ok());
            found.insert(key, count.unwrap_or(0));
        }
        assert!(
            found == *expected,
            "{} counts {} keys and not the right ones",
            program.name,
            found.len()
        );
        Ok(None)
    }

    /// Seconds, and seconds of processor time.
    fn time(&self, program: &Counting, path: &Path) -> Result<(f64, f64)> {
        let before = usage::children_cpu_s();
        let (outcome, seconds) = timed(|| {
            let children = self.start(program, path, Stdio::null());
            let children = children.map_err(|(name, cause)| not_run(name, &cause))?;
            wait(program.name, children)
        });
        outcome.map(|()| (seconds, usage::children_cpu_s() - before))
    }

    /// Starts a pipeline whose last program writes to `stdout`.
    fn start(
        &self,
        program: &Counting,
        path: &Path,
        stdout: Stdio,
    ) -> std::result::Result<Vec<Child>, (&'static str, io::Error)> {
        let mut children: Vec<Child> = Vec::new();
        let mut stdout = Some(stdout);
        for (index, words) in program.pipeline.iter().enumerate() {
            let mut command = match words[0] {
                "" => Command::new(&self.own),
                name => Command::new(name),
            };
            for word in &words[1..] {
                match *word {
                    "FILE" => command.arg(path),
                    word => command.arg(word),
                };
            }
            // `sort` is much slower where it has to know an alphabet.
            command.env("LC_ALL", "C").stderr(Stdio::null());
            let before = children.last_mut().and_then(|child| child.stdout.take());
            command.stdin(match before {
                Some(before) => Stdio::from(before),
                None => Stdio::from(File::open(path).map_err(|cause| (words[0], cause))?),
            });
            let is_last = index + 1 == program.pipeline.len();
            command.stdout(match stdout.take_if(|_| is_last) {
                Some(stdout) => stdout,
                None => Stdio::piped(),
            });
            children.push(command.spawn().map_err(|cause| (words[0], cause))?);
        }
        Ok(children)
    }

    pub(super) const MEMORY_HEAD: [&'static str; 5] = [
        "input",
        "`--max-memory`",
        "most memory taken, MB",
        "error, at most",
        "seconds",
    ];

    /// What counting takes of memory, beside the limit, on input that has no room in it: a row for each of
    /// `limits`, for so many different lines, and one for a word of so many bytes.
    pub(super) fn memory(
        &self,
        limits: &[&str],
        keys: u64,
        word_bytes: usize,
    ) -> Result<Vec<Vec<String>>> {
        let mut rows = Vec::new();
        let different = |stdin: &mut dyn Write| {
            let mut piece = Vec::with_capacity(PIECE_BYTES + 32);
            for number in 1..=keys {
                writeln!(piece, "{number}")?;
                if piece.len() >= PIECE_BYTES || number == keys {
                    stdin.write_all(&piece)?;
                    piece.clear();
                }
            }
            Ok(())
        };
        for limit in limits {
            let input = format!("{} million different lines", keys as f64 / 1e6);
            rows.push(self.limited(input, &["count"], limit, keys, &different)?);
        }
        let one_word = |stdin: &mut dyn Write| {
            let piece = [b'x'; PIECE_BYTES];
            for _ in 0..word_bytes / PIECE_BYTES {
                stdin.write_all(&piece)?;
            }
            Ok(())
        };
        let input = format!("a word of {} MB", word_bytes / 1_000_000);
        let words = ["count", "-k", "word"];
        rows.push(self.limited(input, &words, limits[0], 1, &one_word)?);
        Ok(rows)
    }

    /// A row: `records` records that `write` writes, counted within `limit`.
    fn limited(
        &self,
        input: String,
        command: &[&str],
        limit: &str,
        records: u64,
        write: &dyn Fn(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Vec<String>> {
        let failed = |cause: io::Error| not_run("microtally count", &cause);
        let mut ours = Command::new(&self.own);
        ours.args(command)
            .args(["-n", "1", "-o", "json", "--stats=json", "--max-memory"]);
        ours.args([limit, "-"]).stdin(Stdio::piped());
        ours.stdout(Stdio::piped()).stderr(Stdio::piped());
        let (output, seconds) = timed(|| {
            let mut child = ours.spawn()?;
            let mut stdin = child.stdin.take().expect("it is piped");
            // Little is written to either output, so nobody need read them meanwhile.
            write(&mut stdin)?;
            drop(stdin);
            child.wait_with_output()
        });
        let output = output.map_err(failed)?;
        let object = |text: &[u8], name: &str| {
            let lines = text.split(|&byte| byte == b'\n');
            let mut objects = lines.filter_map(|line| {
                let object: serde_json::Value = serde_json::from_slice(line).ok()?;
                object[name].as_u64()
            });
            objects.next().unwrap_or(0)
        };
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{input} within {limit}: {text}");
        let counted = object(&output.stdout, "records");
        assert_eq!(counted, records, "{input} within {limit}: {text}");
        Ok(vec![
            input,
            limit.to_owned(),
            format!("{:.0}", object(&output.stderr, "peak_bytes") as f64 / 1e6),
            object(&output.stdout, "error_max").to_string(),
            three_digits(seconds),
        ])
    }

    pub(super) const START_HEAD: [&'static str; 2] = ["what", "ms"];

    /// From starting the process to its end.
    pub(super) fn starts(&self) -> Result<Vec<Vec<String>>> {
        let path = self.dir.path().join("small");
        std::fs::write(&path, b"one small file\n").map_err(|cause| file_failed(&path, &cause))?;
        let small = path.to_string_lossy();
        let mut rows = Vec::new();
        for (what, args) in [
            ("`microtally -h`", vec!["-h"]),
            (
                "`microtally count FILE`, a small one",
                vec!["count", &small],
            ),
            ("`microtally count`, of nothing", vec!["count"]),
        ] {
            let mut figures = Figures::default();
            for _ in 0..STARTS {
                let mut command = Command::new(&self.own);
                command.args(&args).stdin(Stdio::null());
                command.stdout(Stdio::null()).stderr(Stdio::null());
                let (status, seconds) = timed(|| command.status());
                let status = status.map_err(|cause| not_run(what, &cause))?;
                assert!(status.success(), "{what}: {status}");
                figures.push(seconds * 1e3);
            }
            rows.push(vec![what.to_owned(), figures.cell("")]);
        }
        let size = std::fs::metadata(&self.own).map_or(0, |file| file.len());
        let size = format!("{:.1} MB", size as f64 / 1e6);
        rows.push(vec!["size of the program as it is built".to_owned(), size]);
        Ok(rows)
    }
}

/// The obvious count.
fn counts_of(text: &[u8]) -> HashMap<&[u8], u64> {
    let mut counts = HashMap::new();
    let words = text.split(|&byte| byte == b'\n' || byte == SEPARATOR);
    for word in words.filter(|word| !word.is_empty()) {
        *counts.entry(word).or_insert(0) += 1;
    }
    counts
}

/// Until all have ended, well.
fn wait(name: &str, children: Vec<Child>) -> Result<()> {
    for mut child in children {
        let status = child.wait().map_err(|cause| not_run(name, &cause))?;
        if !status.success() {
            return Err(Error::refused(format!("{name} ended with {status}")));
        }
    }
    Ok(())
}

fn not_run(name: &str, cause: &io::Error) -> Error {
    Error::refused(format!("cannot run {name}: {cause}"))
}

fn file_failed(path: &Path, cause: &io::Error) -> Error {
    Error::refused(format!("cannot write {}: {cause}", path.display()))
}
