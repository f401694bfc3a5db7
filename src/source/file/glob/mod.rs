//! Finds directories and files by paths with wildcards.
//!
//! Promise: `matches` depends on the pattern and a name alone; a path without wildcards is that
//! path. Must not know: what is in files, times.
//!
//! A pattern matches whole names: `?` is one character, `*` any number of them, `[a-c_]` one of
//! those, `[^a-c]` one that is not, `{in,out}` either; `\` escapes a character. A leading dot is an
//! ordinary character when directories are searched; [`expand`], which searches for files, matches
//! it only literally. Hadoop's file systems and shells use these rules too, but here braces stay
//! within one name.
//!
//! A short pattern can stand for very much. Everything it can grow to has a limit: the names its
//! braces stand for, the directories listed, the paths held. Matching a name takes at most the
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

/// A path whose names may have wildcards.
#[derive(Debug)]
pub(crate) struct PathPattern {
    given: PathBuf,
    parts: Vec<PatternPart>,
}

#[derive(Debug)]
enum PatternPart {
    Name(PathBuf),
    /// Any of these.
    Wild(Vec<Vec<GlobToken>>),
}

/// What one or several characters of a name have to be.
#[derive(Clone, Debug, PartialEq)]
enum GlobToken {
    Char(char),
    AnyChar,
    AnyChars,
    OneOf {
        /// In order and disjoint.
        ranges: Vec<(char, char)>,
        is_negated: bool,
    },
}

/// Characters of a pattern that a message shows.
const SHOWN_CHARS_MAX: usize = 200;

/// The paths that match a pattern at the moment.
pub(crate) struct Matched {
    /// In order.
    pub(crate) paths: Vec<PathBuf>,
    /// Why there are none, or perhaps not all.
    pub(crate) trouble: Option<String>,
    /// The trouble is that more paths match than the limit; the others are missing.
    pub(crate) is_cut: bool,
    /// The system failed to list all of a directory.
    pub(crate) is_incomplete: bool,
    /// The directories that were listed to find them.
    pub(crate) listed: Vec<PathBuf>,
    /// The number of names in them.
    pub(crate) names: usize,
}

/// Why a text is not a pattern.
#[derive(Debug, PartialEq)]
enum PatternError {
    /// An unclosed bracket or brace, or a `\` at the end.
    Unclosed,
    /// The braces stand for too many names.
    Names,
    /// The names that the braces stand for are too long together.
    Bytes,
}

/// What is left of the limits while braces are expanded.
struct BraceBudget {
    names: usize,
    bytes: usize,
}

impl PathPattern {
    /// Parses a path.
    ///
    /// # Errors
    ///
    /// An unclosed bracket or brace, nothing behind a `\`, or braces that stand for more than the
    /// limit.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let mut budget = BraceBudget {
            names: PATTERN_NAMES_MAX,
            bytes: PATTERN_BYTES_MAX,
        };
        let parts = path.components().map(|component| {
            let name = component.as_os_str();
            let text = name.to_string_lossy();
            if !matches!(component, Component::Normal(_))
                || !text.contains(['*', '?', '[', '{', '\\'])
            {
                return Ok(PatternPart::Name(PathBuf::from(name)));
            }
            let mut texts = Vec::new();
            let wild = alternatives(&text, &mut budget, &mut texts).and_then(|()| {
                let wild: Option<Vec<_>> = texts.iter().map(|text| tokens(text)).collect();
                wild.ok_or(PatternError::Unclosed)
            });
            wild.map(PatternPart::Wild).map_err(|error| {
                let what = match error {
                    PatternError::Unclosed => format!(
                        "unclosed bracket or brace, or a trailing backslash, in {}",
                        shown(Path::new(name))
                    ),
                    PatternError::Names => format!(
                        "its braces stand for more than {PATTERN_NAMES_MAX} names; use fewer \
                         alternatives, or several patterns"
                    ),
                    PatternError::Bytes => format!(
                        "it takes more than {PATTERN_BYTES_MAX} bytes to write out its braces; use \
                         fewer alternatives, or several patterns"
                    ),
                };
                Error::refused(format!("pattern {}: {what}", shown(path)))
            })
        });
        Ok(PathPattern {
            parts: parts.collect::<Result<_>>()?,
            given: path.to_owned(),
        })
    }

    /// Finds the directories.
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
            *trouble = Some("no such directory".to_owned());
        }
        matched
    }

    /// Finds the files, as [`expand`] does.
    pub(crate) fn files(&self) -> Matched {
        let shows_hidden = |tokens: &[GlobToken]| tokens.first() == Some(&GlobToken::Char('.'));
        let mut matched = self.walk(|tokens, name| {
            shows_hidden(tokens) || !name.as_encoded_bytes().starts_with(b".")
        });
        // Broken links, and files that the system fails to look at, fail when they are opened.
        matched.paths.retain(|path| {
            let is_absent = |cause: io::Error| {
                is_absent(&cause) || cause.kind() == io::ErrorKind::PermissionDenied
            };
            !fs::symlink_metadata(path).is_err_and(is_absent)
                && !fs::metadata(path).is_ok_and(|metadata| metadata.is_dir())
        });
        matched
    }

    /// Returns `true` if a path with this name in it may match.
    pub(crate) fn has_part(&self, name: &OsStr) -> bool {
        let chars = chars_of(name);
        self.parts.iter().any(|part| match part {
            PatternPart::Name(literal) => literal.as_os_str() == name,
            PatternPart::Wild(wild) => wild.iter().any(|tokens| matches(tokens, &chars)),
        })
    }

    /// Finds all paths that match, in order. `takes` decides on each name that matches an
    /// alternative.
    fn walk(&self, takes: impl Fn(&[GlobToken], &OsStr) -> bool) -> Matched {
        let mut found = vec![PathBuf::new()];
        let (mut listed, mut trouble, mut excess) = (Vec::new(), None, None);
        let mut is_incomplete = false;
        let looked_at = Cell::new(0);
        for part in &self.parts {
            match part {
                PatternPart::Name(name) => found.iter_mut().for_each(|path| path.push(name)),
                PatternPart::Wild(wild) => {
                    let fits = |name: &OsString| {
                        looked_at.set(looked_at.get() + 1);
                        let chars = chars_of(name);
                        let mut fitting = wild.iter().filter(|tokens| matches(tokens, &chars));
                        fitting.any(|tokens| takes(tokens, name))
                    };
                    let mut below = Vec::new();
                    for path in found {
                        // Links can lead back: a few of them make an infinite tree.
                        if listed.len() == PATTERN_DIRECTORIES_MAX {
                            excess = Some(format!(
                                "more than {PATTERN_DIRECTORIES_MAX} directories to search"
                            ));
                            break;
                        }
                        // A missing directory, or a file, has no names.
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
                            excess = Some(format!("more than {PATTERN_PATHS_MAX} paths match"));
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

/// Returns the files that match patterns, as in a shell: `*`, `?`, `[a-c]`, `[^a-c]` and `{in,out}`
/// in any name of a path, and `\` to escape a character. The files of each pattern are in order,
/// and the patterns in the order given. An existing path is that path, even if it has wildcards.
///
/// A wildcard does not match a name that begins with a dot, and patterns do not match directories.
/// A file that two patterns match comes twice. A directory without permission to list or search it
/// has no matches.
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
/// A pattern that is invalid or matches no file; a path without wildcards may be missing. A pattern
/// that is too wide: its braces stand for more than
/// [`PATTERN_NAMES_MAX`](crate::sources::PATTERN_NAMES_MAX) names, or it matches in more than
/// [`PATTERN_DIRECTORIES_MAX`](crate::sources::PATTERN_DIRECTORIES_MAX) directories or more than
/// [`PATTERN_PATHS_MAX`](crate::sources::PATTERN_PATHS_MAX) paths. A directory that the system
/// fails to list, so that files may be missing, [`ErrorKind::System`].
pub fn expand<P: AsRef<Path>>(patterns: impl IntoIterator<Item = P>) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for given in patterns {
        let given = given.as_ref();
        if is_literal(given) {
            files.push(given.to_owned());
            continue;
        }
        let mut matched = PathPattern::new(given)?.files();
        match matched.trouble {
            Some(why) if matched.is_cut => return Err(Error::refused(why)),
            Some(why) if matched.is_incomplete => {
                let given = shown(given);
                let message = format!(
                    "pattern {given}: {why}; which files match is unknown, so none is read"
                );
                return Err(Error::new(ErrorKind::System, message));
            }
            why if matched.paths.is_empty() => {
                let why = why.unwrap_or_else(|| "no file matches".to_owned());
                let given = shown(given);
                let message = format!("pattern {given}: {why}");
                return Err(Error::new(ErrorKind::Source, message));
            }
            _ => files.append(&mut matched.paths),
        }
    }
    Ok(files)
}

/// Returns `true` if the path is not a pattern: it has no wildcard, or exists.
pub(crate) fn is_literal(path: &Path) -> bool {
    !has_wildcard(path) || fs::symlink_metadata(path).is_ok()
}

/// Returns `true` if a name matches a pattern of one name.
///
/// # Errors
///
/// A pattern that is invalid or too wide, as for [`expand`].
pub fn name_fits(pattern: &str, name: &str) -> Result<bool> {
    let pattern = PathPattern::new(Path::new(pattern))?;
    Ok(pattern.parts.len() == 1 && pattern.has_part(OsStr::new(name)))
}

/// A path for a message, shortened if it is long.
fn shown(path: &Path) -> String {
    let text = format!("{path:?}");
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…\"", &text[..end]),
        None => text,
    }
}

/// Returns `true` if a path is a pattern, unless there is a file of that name.
pub(crate) fn has_wildcard(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    text.iter().any(|byte| b"*?[{\\".contains(byte))
}

/// A path to open: an empty one is the current directory.
pub(crate) fn here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

/// Returns `true` if the name is missing, which is normal where names come and go.
pub(crate) fn is_absent(cause: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(cause.kind(), NotFound | NotADirectory)
}

/// The message of an error at `path`.
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

/// Returns `true` if the tokens match the whole name.
///
/// After a mismatch the last `*` takes one more character. An earlier one never has to: whatever it
/// could take, the last one can take as well. So the time is at most the product of the lengths.
fn matches(tokens: &[GlobToken], name: &[char]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut last_star = None;
    loop {
        match (tokens.get(token), name.get(at)) {
            (Some(GlobToken::AnyChars), _) => {
                last_star = Some((token, at));
                token += 1;
            }
            (Some(wanted), Some(&given)) if fits(wanted, given) => {
                token += 1;
                at += 1;
            }
            (None, None) => return true,
            _ => match last_star {
                Some((star, taken)) if taken < name.len() => {
                    last_star = Some((star, taken + 1));
                    (token, at) = (star + 1, taken + 1);
                }
                _ => return false,
            },
        }
    }
}

fn fits(wanted: &GlobToken, given: char) -> bool {
    match wanted {
        GlobToken::Char(wanted) => *wanted == given,
        GlobToken::AnyChar | GlobToken::AnyChars => true,
        GlobToken::OneOf { ranges, is_negated } => {
            let at = ranges.partition_point(|&(_, to)| to < given);
            let is_in = ranges.get(at).is_some_and(|&(from, _)| from <= given);
            is_in != *is_negated
        }
    }
}

/// Adds the texts that a text with braces stands for, within the budget.
fn alternatives(
    text: &str,
    budget: &mut BraceBudget,
    all: &mut Vec<String>,
) -> std::result::Result<(), PatternError> {
    // Each call reads its text once and may copy it: this bounds the time, the memory and the
    // depth.
    budget.bytes = budget
        .bytes
        .checked_sub(text.len())
        .ok_or(PatternError::Bytes)?;
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
        budget.names = budget.names.checked_sub(1).ok_or(PatternError::Names)?;
        all.push(text.to_owned());
        return Ok(());
    };
    if depth > 0 {
        return Err(PatternError::Unclosed);
    }
    for pair in cuts.windows(2) {
        let (before, middle, behind) = (
            &text[..open],
            &text[pair[0] + 1..pair[1]],
            &text[close + 1..],
        );
        alternatives(&format!("{before}{middle}{behind}"), budget, all)?;
    }
    Ok(())
}

/// Parses a text without braces. `None`: an unclosed bracket, or a `\` at the end.
fn tokens(text: &str) -> Option<Vec<GlobToken>> {
    let mut chars = text.chars();
    let mut tokens = Vec::new();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' => GlobToken::AnyChars,
            '?' => GlobToken::AnyChar,
            '\\' => GlobToken::Char(chars.next()?),
            '[' => one_of(&mut chars)?,
            _ => GlobToken::Char(c),
        });
    }
    Some(tokens)
}

fn one_of(chars: &mut std::str::Chars<'_>) -> Option<GlobToken> {
    let mut ranges = Vec::new();
    let rest = chars.as_str();
    let is_negated = rest.starts_with(['^', '!']);
    if is_negated {
        chars.next();
    }
    loop {
        let from = match chars.next()? {
            // The first character cannot be the end: the class would be empty.
            ']' if !ranges.is_empty() => {
                let ranges = joined(ranges);
                return Some(GlobToken::OneOf { ranges, is_negated });
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

/// Sorts and merges ranges.
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
