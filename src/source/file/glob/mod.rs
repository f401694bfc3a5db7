//! Finds directories and files by a path whose names may have wildcards in them.
//!
//! Promise: `matches` is a function of the pattern and a name alone; a path without wildcards is that
//! path. Must not know: what is in files, times.
//!
//! A name is matched whole: `?` is one character, `*` any number of them, `[a-c_]` one of those, `[^a-c]`
//! one that is not, `{in,out}` either; `\` takes a character's meaning away. A leading dot is a character
//! like any other where directories are looked for, and has to be written where [`expand`] looks for
//! files. This is what Hadoop's file systems and shells understand, but braces stay within one name.
//!
//! A pattern is small text that can stand for very much. Everything it can grow to has a limit: the names its
//! braces stand for, the directories that are listed, the paths that are held. Matching a name takes at most the
//! product of the two lengths.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, ErrorKind, Result, describe};
use crate::limits::{
    PATTERN_BYTES_MAX, PATTERN_DIRECTORIES_MAX, PATTERN_NAMES_MAX, PATTERN_PATHS_MAX,
};

/// A path whose names may have wildcards in them.
#[derive(Debug)]
pub(crate) struct Pattern {
    given: PathBuf,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Name(PathBuf),
    /// Any of these.
    Wild(Vec<Vec<Piece>>),
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Char(char),
    AnyChar,
    AnyChars,
    OneOf {
        /// In order; none of them meet.
        ranges: Vec<(char, char)>,
        is_negated: bool,
    },
}

/// Characters of a pattern that a message shows.
const SHOWN_CHARS_MAX: usize = 200;

/// What a pattern stands for at the moment.
pub(crate) struct Matched {
    /// In the order of their names.
    pub(crate) paths: Vec<PathBuf>,
    /// Why there are none, or perhaps not all.
    pub(crate) trouble: Option<String>,
    /// The trouble is that more fit than the limit: those behind it are missing.
    pub(crate) is_cut: bool,
    /// The system failed to list a directory, or all of it.
    pub(crate) is_incomplete: bool,
    /// The directories that were listed to find them.
    pub(crate) listed: Vec<PathBuf>,
    /// How many names that were.
    pub(crate) names: usize,
}

/// Why a text is no pattern.
#[derive(Debug, PartialEq)]
enum Wrong {
    /// A bracket, a brace or a backslash has no end.
    Open,
    /// The braces stand for too many names.
    Names,
    /// The names that the braces stand for are too long together.
    Bytes,
}

/// What the braces of a pattern may still grow to.
struct Room {
    names: usize,
    bytes: usize,
}

impl Pattern {
    /// Understands a path.
    ///
    /// # Errors
    ///
    /// A bracket or a brace that is not closed, nothing behind a `\`, or braces that stand for more than the
    /// limit.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let mut room = Room {
            names: PATTERN_NAMES_MAX,
            bytes: PATTERN_BYTES_MAX,
        };
        let parts = path.components().map(|component| {
            let name = component.as_os_str();
            let text = name.to_string_lossy();
            if !matches!(component, Component::Normal(_))
                || !text.contains(['*', '?', '[', '{', '\\'])
            {
                return Ok(Part::Name(PathBuf::from(name)));
            }
            let mut texts = Vec::new();
            let wild = alternatives(&text, &mut room, &mut texts).and_then(|()| {
                let wild: Option<Vec<_>> = texts.iter().map(|text| pieces(text)).collect();
                wild.ok_or(Wrong::Open)
            });
            wild.map(Part::Wild).map_err(|wrong| {
                let what = match wrong {
                    Wrong::Open => format!(
                        "a bracket, a brace or a backslash has no end in {}",
                        shown(Path::new(name))
                    ),
                    Wrong::Names => format!(
                        "its braces stand for more than {PATTERN_NAMES_MAX} names; use fewer \
                         alternatives, or several patterns"
                    ),
                    Wrong::Bytes => format!(
                        "it takes more than {PATTERN_BYTES_MAX} bytes to write out its braces; use \
                         fewer alternatives, or several patterns"
                    ),
                };
                Error::refused(format!("pattern {}: {what}", shown(path)))
            })
        });
        Ok(Pattern {
            parts: parts.collect::<Result<_>>()?,
            given: path.to_owned(),
        })
    }

    /// Looks for the directories.
    pub(crate) fn directories(&self) -> Matched {
        let mut matched = self.walk(|_, _| true);
        let Matched { paths, trouble, .. } = &mut matched;
        paths.retain(|path| match fs::metadata(here(path)) {
            Ok(metadata) => metadata.is_dir(),
            Err(cause) if is_absent(&cause) => false,
            Err(cause) => {
                *trouble = Some(reason(path, &cause));
                false
            }
        });
        if paths.is_empty() && trouble.is_none() {
            *trouble = Some("there is no such directory".to_owned());
        }
        matched
    }

    /// Looks for the files, as [`expand`] does.
    pub(crate) fn files(&self) -> Matched {
        let shows_hidden = |pieces: &[Piece]| pieces.first() == Some(&Piece::Char('.'));
        let mut matched = self.walk(|pieces, name| {
            shows_hidden(pieces) || !name.as_encoded_bytes().starts_with(b".")
        });
        // A link that leads nowhere, or what the system fails to look at, is left for whoever opens it to complain about.
        matched.paths.retain(|path| {
            let is_absent = |cause: io::Error| {
                is_absent(&cause) || cause.kind() == io::ErrorKind::PermissionDenied
            };
            !fs::symlink_metadata(path).is_err_and(is_absent)
                && !fs::metadata(path).is_ok_and(|metadata| metadata.is_dir())
        });
        matched
    }

    /// Whether something of this name may be part of what the pattern fits.
    pub(crate) fn has_part(&self, name: &OsStr) -> bool {
        let chars = chars_of(name);
        self.parts.iter().any(|part| match part {
            Part::Name(literal) => literal.as_os_str() == name,
            Part::Wild(wild) => wild.iter().any(|pieces| matches(pieces, &chars)),
        })
    }

    /// Everything whose path fits, in the order of the paths. `takes` is asked about each name that fits
    /// one of the alternatives.
    fn walk(&self, takes: impl Fn(&[Piece], &OsStr) -> bool) -> Matched {
        let mut found = vec![PathBuf::new()];
        let (mut listed, mut trouble, mut excess) = (Vec::new(), None, None);
        let mut is_incomplete = false;
        let looked_at = Cell::new(0);
        for part in &self.parts {
            match part {
                Part::Name(name) => found.iter_mut().for_each(|path| path.push(name)),
                Part::Wild(wild) => {
                    let fits = |name: &OsString| {
                        looked_at.set(looked_at.get() + 1);
                        let chars = chars_of(name);
                        let mut fitting = wild.iter().filter(|pieces| matches(pieces, &chars));
                        fitting.any(|pieces| takes(pieces, name))
                    };
                    let mut below = Vec::new();
                    for path in found {
                        // Links can lead back: a few of them are a tree without end.
                        if listed.len() == PATTERN_DIRECTORIES_MAX {
                            excess = Some(format!(
                                "there are more than {PATTERN_DIRECTORIES_MAX} directories to look into"
                            ));
                            break;
                        }
                        // One that is missing, or no directory, has nothing to match.
                        match names(&path) {
                            Ok(names) => {
                                let room = PATTERN_PATHS_MAX + 1 - below.len();
                                let mut failure = None;
                                let names = names.map_while(|name| {
                                    name.map_err(|cause| failure = Some(cause)).ok()
                                });
                                let fitting = names.filter(fits).map(|name| path.join(name));
                                below.extend(fitting.take(room));
                                if let Some(cause) = failure {
                                    trouble = Some(reason(&path, &cause));
                                    is_incomplete = true;
                                }
                                listed.push(path);
                            }
                            Err(cause) if is_absent(&cause) => {}
                            Err(cause) => {
                                trouble = Some(reason(&path, &cause));
                                is_incomplete |= cause.kind() != io::ErrorKind::PermissionDenied;
                            }
                        }
                        if below.len() > PATTERN_PATHS_MAX {
                            below.truncate(PATTERN_PATHS_MAX);
                            excess = Some(format!("more than {PATTERN_PATHS_MAX} paths fit"));
                            break;
                        }
                    }
                    found = below;
                }
            }
        }
        found.sort();
        let is_cut = excess.is_some();
        let excess = excess.map(|what| {
            let given = shown(&self.given);
            format!("pattern {given}: {what}; use a narrower pattern")
        });
        Matched {
            paths: found,
            trouble: excess.or(trouble),
            is_cut,
            is_incomplete,
            listed,
            names: looked_at.get(),
        }
    }
}

/// The files that patterns stand for, as a shell has it: `*`, `?`, `[a-c]`, `[^a-c]` and `{in,out}` in
/// any name of a path, `\` in front of a character that means itself. The files of one pattern come in
/// the order of their paths, those of the next one behind them. A path that exists is that path, whatever
/// its name looks like.
///
/// A wildcard stands for no name that begins with a dot, and patterns for no directories. A file that
/// two patterns name comes twice. A directory that may not be listed or searched has
/// nothing that fits, as in a shell.
///
/// ```
/// use microtally::sources::expand;
/// let sources = expand(["src/[t]*y.rs", "Cargo.toml"])?;
/// assert_eq!(sources, [std::path::Path::new("src/tally.rs"), "Cargo.toml".as_ref()]);
/// assert!(expand(["*.nothing"]).is_err());
/// # Ok::<(), microtally::Error>(())
/// ```
///
/// # Errors
///
/// A pattern that no file fits, or that is none; a path without wildcards is left alone, whether or not
/// there is such a file. A pattern that is too wide: its braces stand for more than
/// [`PATTERN_NAMES_MAX`](crate::sources::PATTERN_NAMES_MAX) names, or finding what it fits takes more than
/// [`PATTERN_DIRECTORIES_MAX`](crate::sources::PATTERN_DIRECTORIES_MAX) directories or
/// [`PATTERN_PATHS_MAX`](crate::sources::PATTERN_PATHS_MAX) paths. A directory that the system fails to list, so
/// that files may be missing, [`ErrorKind::System`].
pub fn expand<P: AsRef<Path>>(patterns: impl IntoIterator<Item = P>) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for given in patterns {
        let given = given.as_ref();
        if is_literal(given) {
            files.push(given.to_owned());
            continue;
        }
        let mut matched = Pattern::new(given)?.files();
        match matched.trouble {
            Some(why) if matched.is_cut => return Err(Error::refused(why)),
            Some(why) if matched.is_incomplete => {
                let given = shown(given);
                let message = format!(
                    "pattern {given}: {why}; which files fit it is not known, so none is read"
                );
                return Err(Error::new(ErrorKind::System, message));
            }
            why if matched.paths.is_empty() => {
                let why = why.unwrap_or_else(|| "no file has such a name".to_owned());
                let given = shown(given);
                let message = format!("nothing fits the pattern {given}: {why}");
                return Err(Error::new(ErrorKind::Source, message));
            }
            _ => files.append(&mut matched.paths),
        }
    }
    Ok(files)
}

/// Whether the path is that path and no pattern: it has no wildcard, or exists.
pub(crate) fn is_literal(path: &Path) -> bool {
    !has_wildcard(path) || fs::symlink_metadata(path).is_ok()
}

/// Whether a name fits a pattern of one name.
///
/// # Errors
///
/// What is no pattern, or is too wide, as for [`expand`].
pub fn name_fits(pattern: &str, name: &str) -> Result<bool> {
    let pattern = Pattern::new(Path::new(pattern))?;
    Ok(pattern.parts.len() == 1 && pattern.has_part(OsStr::new(name)))
}

/// A path for a message: long ones are cut.
fn shown(path: &Path) -> String {
    let text = format!("{path:?}");
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…\"", &text[..end]),
        None => text,
    }
}

/// Whether a path is a pattern, unless there is a file of that name.
pub(crate) fn has_wildcard(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    text.iter().any(|byte| b"*?[{\\".contains(byte))
}

/// A path to open: an empty one is where we are.
pub(crate) fn here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

/// Nothing by this name, which is no failure where names come and go.
pub(crate) fn is_absent(cause: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(cause.kind(), NotFound | NotADirectory)
}

/// Why something at `path` could not be looked at.
pub(crate) fn reason(path: &Path, cause: &io::Error) -> String {
    format!("{path:?}: {}", describe(cause))
}

fn names(directory: &Path) -> io::Result<impl Iterator<Item = io::Result<OsString>> + use<>> {
    let entries = fs::read_dir(here(directory))?;
    Ok(entries.map(|entry| entry.map(|entry| entry.file_name())))
}

fn chars_of(name: &OsStr) -> Vec<char> {
    name.to_string_lossy().chars().collect()
}

/// Whether the whole name is what the pieces say.
///
/// When something does not fit, the last `*` takes one character more. An earlier one never has to: what
/// it could take, the last one can take as well. So time is at most the product of the lengths.
fn matches(pieces: &[Piece], name: &[char]) -> bool {
    let (mut piece, mut at) = (0, 0);
    let mut last_star = None;
    loop {
        match (pieces.get(piece), name.get(at)) {
            (Some(Piece::AnyChars), _) => {
                last_star = Some((piece, at));
                piece += 1;
            }
            (Some(wanted), Some(&given)) if fits(wanted, given) => {
                piece += 1;
                at += 1;
            }
            (None, None) => return true,
            _ => match last_star {
                Some((star, taken)) if taken < name.len() => {
                    last_star = Some((star, taken + 1));
                    (piece, at) = (star + 1, taken + 1);
                }
                _ => return false,
            },
        }
    }
}

fn fits(wanted: &Piece, given: char) -> bool {
    match wanted {
        Piece::Char(wanted) => *wanted == given,
        Piece::AnyChar | Piece::AnyChars => true,
        Piece::OneOf { ranges, is_negated } => {
            let at = ranges.partition_point(|&(_, to)| to < given);
            let is_in = ranges.get(at).is_some_and(|&(from, _)| from <= given);
            is_in != *is_negated
        }
    }
}

/// Adds the texts that a text with braces stands for, as far as there is room.
fn alternatives(
    text: &str,
    room: &mut Room,
    all: &mut Vec<String>,
) -> std::result::Result<(), Wrong> {
    // Each call looks through its text once and may copy it: this bounds the time, the memory and the depth.
    room.bytes = room.bytes.checked_sub(text.len()).ok_or(Wrong::Bytes)?;
    let mut depth = 0;
    let mut cuts = Vec::new();
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => {
                if depth == 0 {
                    cuts.push(at);
                }
                depth += 1;
            }
            ',' if depth == 1 => cuts.push(at),
            '}' if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    cuts.push(at);
                    break;
                }
            }
            _ => {}
        }
    }
    let (Some(&open), Some(&close)) = (cuts.first(), cuts.last()) else {
        room.names = room.names.checked_sub(1).ok_or(Wrong::Names)?;
        all.push(text.to_owned());
        return Ok(());
    };
    if depth > 0 {
        return Err(Wrong::Open);
    }
    for pair in cuts.windows(2) {
        let (before, middle, behind) = (
            &text[..open],
            &text[pair[0] + 1..pair[1]],
            &text[close + 1..],
        );
        alternatives(&format!("{before}{middle}{behind}"), room, all)?;
    }
    Ok(())
}

/// What a text without braces says. `None`: a bracket or a `\` has no end.
fn pieces(text: &str) -> Option<Vec<Piece>> {
    let mut chars = text.chars();
    let mut pieces = Vec::new();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '*' => Piece::AnyChars,
            '?' => Piece::AnyChar,
            '\\' => Piece::Char(chars.next()?),
            '[' => one_of(&mut chars)?,
            _ => Piece::Char(c),
        });
    }
    Some(pieces)
}

fn one_of(chars: &mut std::str::Chars<'_>) -> Option<Piece> {
    let mut ranges = Vec::new();
    let rest = chars.as_str();
    let is_negated = rest.starts_with(['^', '!']);
    if is_negated {
        chars.next();
    }
    loop {
        let from = match chars.next()? {
            // The first one cannot be the end: there would be nothing in it.
            ']' if !ranges.is_empty() => {
                let ranges = joined(ranges);
                return Some(Piece::OneOf { ranges, is_negated });
            }
            '\\' => chars.next()?,
            c => c,
        };
        let mut ahead = chars.clone();
        let to = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(to)) if to != ']' => {
                *chars = ahead;
                if to == '\\' { chars.next()? } else { to }
            }
            _ => from,
        };
        ranges.push((from, to));
    }
}

/// The same characters as ranges in order that do not meet.
fn joined(mut ranges: Vec<(char, char)>) -> Vec<(char, char)> {
    ranges.retain(|(from, to)| from <= to);
    ranges.sort_unstable();
    let mut joined: Vec<(char, char)> = Vec::new();
    for (from, to) in ranges {
        match joined.last_mut() {
            Some((_, end)) if from <= *end => *end = to.max(*end),
            _ => joined.push((from, to)),
        }
    }
    joined
}
