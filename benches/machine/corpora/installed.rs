//! Real texts, as packages of the system install them.
//!
//! Promise: whole lines without NUL and `\r`, equal in every run on one machine. A missing text is
//! named, with the package to install.
//! Must not know: microtally, harness.
//!
//! Generated text is tidy in ways that real text is not, and real text repeats in ways that no
//! generator does: a figure of one without the other says little.

use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::{Command, Stdio};

/// Where the package puts the dictionary. The format is gzip's, with an index that gzip skips.
const GCIDE_PATH: &str = "/usr/share/dictd/gcide.dict.dz";

/// Verses of the King James Bible. Another number means that the program printed another selection,
/// and its text would not be the one figures are quoted for.
const VERSES: usize = 31_102;

/// A text that may be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Installed {
    /// The King James Bible.
    KingJames,
    /// The Collaborative International Dictionary of English.
    Gcide,
}

impl Installed {
    pub(crate) const ALL: [Installed; 2] = [Installed::KingJames, Installed::Gcide];

    /// Returns its name and its description in tables.
    pub(crate) fn label(self) -> (&'static str, &'static str) {
        match self {
            Installed::KingJames => (
                "king-james",
                "the King James Bible without verse numbers, 4.1 MB, repeated",
            ),
            Installed::Gcide => (
                "gcide",
                "a dictionary of English with its indentation, 40 MB at most",
            ),
        }
    }

    /// Debian's package of it.
    fn package(self) -> &'static str {
        match self {
            Installed::KingJames => "bible-kjv",
            Installed::Gcide => "dict-gcide",
        }
    }

    /// Reads whole lines of it, at most `bytes` bytes. The Bible is repeated to fill them; the
    /// dictionary, ten times as long, is not.
    ///
    /// # Errors
    ///
    /// A sentence about what is missing and which package has it.
    pub(crate) fn read(self, bytes: usize) -> Result<Vec<u8>, String> {
        let read = match self {
            Installed::KingJames => verses().map(|verses| verses.repeat(bytes / verses.len() + 1)),
            Installed::Gcide => decompressed(Path::new(GCIDE_PATH), bytes),
        };
        let whole = read.and_then(|mut text| {
            text.truncate(bytes);
            let line_end = text.iter().rposition(|&byte| byte == b'\n');
            text.truncate(line_end.ok_or("its first line is longer than the text")? + 1);
            Ok(text)
        });
        let (name, package) = (self.label().0, self.package());
        whole.map_err(|reason| format!("{name}: {reason}; install it with: apt install {package}"))
    }
}

/// The text of the Bible, one verse a line.
fn verses() -> Result<Vec<u8>, String> {
    let mut bible = Command::new("bible");
    // By itself it prints for people: -f turns that off, and each line is `Ge1:1` and the verse.
    bible.args(["-f", "gen1:1-rev22:21"]).env_remove("COLUMNS");
    let output = bible.stdin(Stdio::null()).output();
    let printed = output.map_err(|cause| not_started("bible", &cause))?.stdout;
    let mut verses = Vec::with_capacity(printed.len());
    let mut count = 0;
    for line in printed.split_inclusive(|&byte| byte == b'\n') {
        let reference_end = line.iter().position(|&byte| byte == b' ');
        verses.extend_from_slice(&line[reference_end.map_or(0, |at| at + 1)..]);
        count += 1;
    }
    if count != VERSES {
        return Err(format!("program bible prints {count} verses of {VERSES}"));
    }
    Ok(verses)
}

/// The first `bytes` bytes in a file that gzip compressed.
fn decompressed(path: &Path, bytes: usize) -> Result<Vec<u8>, String> {
    if !path.exists() {
        return Err(format!("{} not found", path.display()));
    }
    let mut gzip = Command::new("gzip");
    gzip.arg("-dc").arg(path).stdin(Stdio::null());
    let started = gzip.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut gzip = started.map_err(|cause| not_started("gzip", &cause))?;
    let mut text = Vec::with_capacity(bytes);
    let read = match gzip.stdout.take() {
        Some(stdout) => stdout.take(bytes as u64).read_to_end(&mut text),
        None => Ok(0),
    };
    // It may have more output than is wanted.
    let _ = gzip.kill();
    let _ = gzip.wait();
    match read {
        Ok(_) => Ok(text),
        Err(cause) => Err(format!("{} cannot be read: {cause}", path.display())),
    }
}

fn not_started(program: &str, cause: &std::io::Error) -> String {
    match cause.kind() {
        ErrorKind::NotFound => format!("program {program} not found"),
        _ => format!("program {program} cannot be started: {cause}"),
    }
}
