//! A program that saves what it counted as text files. The test starts itself as this program:
//! there is no command that saves, and a program of its own would have to be built first.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use microtally::prelude::*;
use microtally::sources::Files;

/// Has a test of this name be the program.
pub(crate) const ARGS: &[&str] = &[
    "--exact",
    "counts_are_saved_as_text_files",
    "--test-threads=1",
    "--nocapture",
];

/// The environment variable that names the directory to work in, for the program.
pub(crate) const INTO: &str = "FAULTS_SAVE_INTO";

/// What the program opens when it begins. What the test harness around it does is no part of it.
pub(crate) const BEGIN: &str = "the program begins";

/// Counts the lines of `in-0` and `in-1`, and saves the counts and the lines below `out`.
pub(crate) fn program(root: &Path) -> i32 {
    let _ = fs::File::open(BEGIN);
    match save(root) {
        Ok(()) => 0,
        Err(error) => {
            // Not `eprintln`: it panics when it cannot write.
            let _ = writeln!(io::stderr(), "saving: {error}");
            1
        }
    }
}

fn save(root: &Path) -> microtally::error::Result<()> {
    let ssc = StreamingContext::new(Duration::from_millis(50))?;
    ssc.on_notice(|notice| {
        let _ = writeln!(io::stderr(), "saving: {notice}");
    });
    let lines = ssc.source_stream(Files::open(["in-0", "in-1"])?);
    let out = root.join("out");
    lines
        .count_by_value()
        .save_as_text_files(out.join("counts"), "txt")?;
    lines
        .records()
        .save_as_text_files(out.join("lines"), "txt")?;
    ssc.start()?.await_termination()
}

/// What was saved, as lines of batch, key and count; every line was saved as often as it was
/// counted. An error: a directory that can be seen is not complete.
pub(crate) fn saved(root: &Path) -> Result<String, String> {
    let (mut counts, mut lines) = (String::new(), Vec::new());
    let mut counted = Vec::new();
    for batch in fs::read_dir(root.join("out")).into_iter().flatten() {
        let batch = batch.map_err(|cause| cause.to_string())?;
        let name = batch.file_name().to_string_lossy().into_owned();
        // What is written aside is hidden.
        if name.starts_with('.') {
            continue;
        }
        if !batch.path().join("_SUCCESS").exists() {
            return Err(format!("{name} can be seen and has no _SUCCESS"));
        }
        for part in fs::read_dir(batch.path()).into_iter().flatten() {
            let part = part.map_err(|cause| cause.to_string())?;
            let text = fs::read_to_string(part.path()).map_err(|cause| cause.to_string())?;
            if name.starts_with("lines") {
                lines.extend(text.lines().map(str::to_owned));
                continue;
            }
            for line in text.lines() {
                let pair = line.strip_prefix("('").and_then(|it| it.strip_suffix(')'));
                let pair = pair.and_then(|it| it.split_once("', "));
                let (key, count) = pair.ok_or_else(|| format!("{name}: {line}"))?;
                counts.push_str(&format!("{name}\t{key}\t{count}\n"));
                let times = count.parse().map_err(|_| format!("{name}: {line}"))?;
                counted.extend(std::iter::repeat_n(key.to_owned(), times));
            }
        }
    }
    lines.sort();
    counted.sort();
    // One output comes after the other: before the end there may be less of the second.
    match lines == counted {
        true => Ok(counts),
        false => Ok(String::new()),
    }
}
