//! What PySpark 3.5 counted and printed, against what the program does with the same bytes.
//!
//! The expectations in `tests/pyspark/expected` were captured from PySpark itself; see the README
//! there.

use std::io::Write;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::util::{Ended, ONE_BATCH, Program, Server, json_lines, microtally};

struct Case {
    name: String,
    input: Vec<u8>,
    split: &'static [&'static str],
    /// `[key, count]`, in the order of the lines.
    counts: Vec<Value>,
    lines: Vec<String>,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pyspark/expected");
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("the expectations are there") {
        let path = entry.expect("a folder can be listed").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a small text file");
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        let lines = value["lines"].as_array().expect("lines");
        cases.push(Case {
            name: value["case"].as_str().expect("a name").to_owned(),
            input: STANDARD
                .decode(value["input_b64"].as_str().expect("an input"))
                .expect("base64"),
            split: match value["split"].as_str() {
                None => &["--split-whitespace"],
                Some(" ") => &[],
                Some(other) => panic!("{path:?} splits at {other:?}"),
            },
            counts: value["counts"].as_array().expect("counts").clone(),
            lines: lines
                .iter()
                .map(|line| line.as_str().expect("a line").to_owned())
                .collect(),
        });
    }
    assert!(cases.len() >= 40, "only {} cases", cases.len());
    cases
}

impl Case {
    /// Whether it begins with the mark that a file's text begins with. Standard input is read like
    /// a file: the mark is skipped there. PySpark read it from a connection, and so do we.
    fn is_marked(&self) -> bool {
        self.input.starts_with("\u{feff}".as_bytes())
    }

    /// Runs the program with it on standard input, or over a connection.
    fn run(&self, format: &str) -> Ended {
        if !self.is_marked() {
            return self.program("-", format).run_with(&self.input).quietly();
        }
        let server = Server::open();
        let run = self.program(&server.url(), format).start();
        let mut stream = server.accept();
        stream.write_all(&self.input).expect("the program reads");
        drop(stream);
        run.wait().quietly()
    }

    fn program(&self, source: &str, format: &str) -> Program {
        let args = ["words", source, "--top", "all", "-o", format];
        microtally(&args)
            .args(&["--reconnect", "never"])
            .args(&ONE_BATCH)
            .args(self.split)
    }

    /// Runs `check` on every case, on a few threads: a case is mostly the start of a process.
    fn for_each(check: impl Fn(&Case) + Sync) {
        let cases = cases();
        std::thread::scope(|scope| {
            for part in cases.chunks(cases.len().div_ceil(4)) {
                let check = &check;
                scope.spawn(move || part.iter().for_each(check));
            }
        });
    }
}

#[test]
fn case_11_some_of_them_begin_with_a_mark() {
    let marked = cases().iter().filter(|case| case.is_marked()).count();
    assert_eq!(marked, 2, "with both ways to split");
}

#[test]
fn standard_input_is_printed_as_pyspark_prints_it() {
    Case::for_each(|case| {
        let ended = case.run("pyspark");
        let batches = ended.batches();
        assert_eq!(batches.len(), 1, "{}", case.name);
        assert_eq!(batches[0].lines, case.lines, "{}", case.name);
    });
}

#[test]
fn standard_input_is_counted_as_pyspark_counts_it() {
    Case::for_each(|case| {
        let ended = case.run("json");
        let object = &json_lines(&ended.stdout)[0];
        let rows = object["top"].as_array().expect("top");
        let counts: Vec<Value> = rows
            .iter()
            .map(|row| serde_json::json!([row["k"], row["n"]]))
            .collect();
        assert_eq!(counts, case.counts, "{}", case.name);
        let sum: u64 = case
            .counts
            .iter()
            .map(|pair| pair[1].as_u64().unwrap())
            .sum();
        assert_eq!(object["tokens"], sum, "{}", case.name);
        assert_eq!(object["bytes"], case.input.len(), "{}", case.name);
    });
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn up_to(&mut self, max: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        1 + (self.0 % max as u64) as usize
    }
}

#[test]
fn case_9_pieces_of_any_size_over_tcp_are_printed_as_pyspark_prints_the_whole() {
    Case::for_each(|case| {
        let server = Server::open();
        let run = case.program(&server.url(), "pyspark").start();
        let mut stream = server.accept();
        let seed = case
            .name
            .bytes()
            .fold(1, |seed, byte| seed * 31 % 1_000_003 + u64::from(byte));
        let mut dice = Dice(seed);
        let mut rest = &case.input[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(dice.up_to(9).min(rest.len()));
            stream.write_all(piece).expect("the program reads");
            rest = behind;
            // Now and then long enough for the program to have read what is there.
            if dice.up_to(8) == 1 {
                std::thread::sleep(std::time::Duration::from_micros(300));
            }
        }
        drop(stream);
        let ended = run.wait().quietly();
        let batches = ended.batches();
        assert_eq!(batches.len(), 1, "{}", case.name);
        assert_eq!(batches[0].lines, case.lines, "{}", case.name);
    });
}
