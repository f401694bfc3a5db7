//! Whole programs on files, started as a user starts them: this one, and the system's counting
//! programs.
//!
//! Promise: counts are compared key by key before anything is timed; a missing program is named;
//! files are removed.
//! Must not know: matrix, loopback.
//!
//! The time is from starting the processes until the last one has ended; the processor time is that
//! of all of them.

use std::collections::HashMap;
use std::env::current_exe;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use microtally::Error;
use microtally::error::Result;
use tempfile::TempDir;

use super::clock::timed;
use super::figures::{Figures, three_digits};
use crate::corpora::{Kind, SEPARATOR};
use crate::run::usage;

/// How often the start is measured: it is short.
const STARTS: usize = 21;

/// Bytes of one write to a pipe.
const PIECE_BYTES: usize = 1 << 16;

/// This program, and a directory for files.
pub(super) struct Programs {
    own: PathBuf,
    dir: TempDir,
}

/// A program that counts a file: its name in the table, the program that may be missing, and a
/// script of `sh` in which `$0` is microtally and `$1` the file. Not every `sh` has `pipefail`: a
/// stage that fails ends the script instead, so that its short time is no figure.
type RivalCommand = (&'static str, &'static str, &'static str);

/// One word a line.
const LINES: [RivalCommand; 5] = [
    ("`microtally count FILE`", "", r#"exec "$0" count "$1""#),
    (
        "`microtally count -j 1 FILE`",
        "",
        r#"exec "$0" count -j 1 "$1""#,
    ),
    (
        "`microtally count - < FILE`",
        "",
        r#"exec "$0" count - < "$1""#,
    ),
    (
        "`mawk`",
        "mawk",
        r#"exec mawk '{ n[$0]++ } END { for (key in n) print n[key], key }' < "$1""#,
    ),
    (
        "`sort`, `uniq -c`, `sort -rn`",
        "sort",
        r#"{ sort < "$1" || kill $$; } | { uniq -c || kill $$; } | sort -rn"#,
    ),
];

const WORDS: [RivalCommand; 5] = [
    (
        "`microtally count -k word FILE`",
        "",
        r#"exec "$0" count -k word "$1""#,
    ),
    (
        "`microtally count -k word -j 1 FILE`",
        "",
        r#"exec "$0" count -k word -j 1 "$1""#,
    ),
    (
        "`microtally count -k word - < FILE`",
        "",
        r#"exec "$0" count -k word - < "$1""#,
    ),
    (
        "`mawk`",
        "mawk",
        r#"exec mawk '{ for (i = 1; i <= NF; i++) n[$i]++ } END { for (key in n) print n[key], key }' < "$1""#,
    ),
    (
        "`tr`, `sort`, `uniq -c`, `sort -rn`",
        "sort",
        r#"{ tr ' ' '\n' < "$1" || kill $$; } | { sort || kill $$; } | { uniq -c || kill $$; } | sort -rn"#,
    ),
];

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
    /// Files cannot be created.
    pub(super) fn new() -> Result<Programs> {
        let failed = |cause: io::Error| Error::refused(format!("cannot create files: {cause}"));
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

    /// Measures every program in turns on the lines and the words of `bytes` bytes of English-like
    /// text. Also returns which programs are missing.
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
        for (input, text, programs) in [("lines", a_word_a_line, LINES), ("words", text, WORDS)] {
            let path = self.dir.path().join(input);
            std::fs::write(&path, &text).map_err(|cause| file_failed(&path, &cause))?;
            let expected = counts_of(&text);
            let mut measured = Vec::new();
            for program in programs {
                if self.check(program, &path, &expected)? {
                    measured.push((program, Timed::default()));
                } else {
                    missing.push(format!("{}: program {} not found", program.0, program.1));
                }
            }
            for _ in 0..rounds {
                let mut first = None;
                for (program, timed) in &mut measured {
                    let (seconds, cpu_s) = self.time(*program, &path)?;
                    let (first_s, first_cpu_s) = *first.get_or_insert((seconds, cpu_s));
                    let gigabytes = text.len() as f64 / 1e9;
                    timed.gb_per_s.push(gigabytes / seconds);
                    timed.cpu_s_per_gb.push(cpu_s / gigabytes);
                    timed.times.push(seconds / first_s);
                    timed.cpu_times.push(cpu_s / first_cpu_s);
                }
            }
            for ((name, ..), timed) in &measured {
                rows.push(vec![
                    (*name).to_owned(),
                    input.to_owned(),
                    timed.gb_per_s.cell(""),
                    timed.cpu_s_per_gb.cell(""),
                    timed.times.cell("x"),
                    timed.cpu_times.cell("x"),
                ]);
            }
        }
        Ok((rows, missing))
    }

    /// Returns `false` if the program is missing. Panics if it counts something else.
    fn check(
        &self,
        program: RivalCommand,
        path: &Path,
        expected: &HashMap<&[u8], u64>,
    ) -> Result<bool> {
        let (name, needed, _) = program;
        let is_ours = needed.is_empty();
        if !is_ours
            && Command::new(needed)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .stdin(Stdio::null())
                .status()
                .is_err()
        {
            return Ok(false);
        }
        let output = self.command(program, path).output();
        let output = output.map_err(|cause| not_run(name, &cause))?;
        ended_well(name, output.status)?;
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
        let keys = found.len();
        assert!(
            found == *expected,
            "{name} counts {keys} keys and not the right ones"
        );
        Ok(true)
    }

    /// Returns seconds, and seconds of processor time.
    fn time(&self, program: RivalCommand, path: &Path) -> Result<(f64, f64)> {
        let before = usage::children_cpu_s();
        let mut command = self.command(program, path);
        let (status, seconds) = timed(|| command.stdout(Stdio::null()).status());
        ended_well(
            program.0,
            status.map_err(|cause| not_run(program.0, &cause))?,
        )?;
        Ok((seconds, usage::children_cpu_s() - before))
    }

    fn command(&self, (_, _, script): RivalCommand, path: &Path) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).arg(&self.own).arg(path);
        // `sort` is much slower where it has to know an alphabet.
        command
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    pub(super) const MEMORY_HEAD: [&'static str; 5] = [
        "input",
        "`--max-memory`",
        "most memory taken, MB",
        "error, at most",
        "seconds",
    ];

    /// Measures the memory taken for input that exceeds the limit: a row for each of `limits` with
    /// `keys` different lines, and one for a word of `word_bytes` bytes.
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

    /// Measures one row: the `records` records that `write` writes, counted within `limit`.
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
            // Both outputs are short, so the pipes need not be drained meanwhile.
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

    /// Measures short processes from start to end.
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

/// Counts in the obvious way.
fn counts_of(text: &[u8]) -> HashMap<&[u8], u64> {
    let mut counts = HashMap::new();
    let words = text.split(|&byte| byte == b'\n' || byte == SEPARATOR);
    for word in words.filter(|word| !word.is_empty()) {
        *counts.entry(word).or_insert(0) += 1;
    }
    counts
}

fn ended_well(name: &str, status: ExitStatus) -> Result<()> {
    match status.success() {
        true => Ok(()),
        false => Err(Error::refused(format!("{name} ended with {status}"))),
    }
}

fn not_run(name: &str, cause: &io::Error) -> Error {
    Error::refused(format!("cannot run {name}: {cause}"))
}

fn file_failed(path: &Path, cause: &io::Error) -> Error {
    Error::refused(format!("cannot write {}: {cause}", path.display()))
}
