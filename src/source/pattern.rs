//! Finds directories by a path whose names may have wildcards in them.
//!
//! Promise: `matches` is a function of the pattern and a name alone; a path without wildcards is that
//! path. Refuses to know: files, times.
//!
//! A name is matched whole: `?` is one character, `*` any number of them, `[a-c_]` one of those, `[^a-c]`
//! one that is not, `{in,out}` either; `\` takes a character's meaning away. A leading dot is a character
//! like any other. This is what Hadoop's file systems understand, but braces stay within one name.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result, describe};

/// A path whose names may have wildcards in them.
#[derive(Debug)]
pub(crate) struct Pattern {
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
        ranges: Vec<(char, char)>,
        is_negated: bool,
    },
}

/// What a pattern stands for at the moment.
pub(crate) struct Matched {
    /// Directories, in the order of their names.
    pub(crate) directories: Vec<PathBuf>,
    /// Why there are none, or perhaps not all.
    pub(crate) trouble: Option<String>,
}

impl Pattern {
    /// Understands a path.
    ///
    /// # Errors
    ///
    /// A bracket or a brace that is not closed, or nothing behind a `\`.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let parts = path.components().map(|component| {
            let name = component.as_os_str();
            let text = name.to_string_lossy();
            if !matches!(component, Component::Normal(_))
                || !text.contains(['*', '?', '[', '{', '\\'])
            {
                return Ok(Part::Name(PathBuf::from(name)));
            }
            let alternatives = alternatives(&text).map(|texts| {
                let wild: Option<Vec<_>> = texts.iter().map(|text| pieces(text)).collect();
                wild
            });
            alternatives.flatten().map(Part::Wild).ok_or_else(|| {
                Error::refused(format!(
                    "directory {path:?}: a bracket, a brace or a backslash has no end in {text:?}"
                ))
            })
        });
        Ok(Pattern {
            parts: parts.collect::<Result<_>>()?,
        })
    }

    /// Looks for the directories.
    pub(crate) fn directories(&self) -> Matched {
        let mut found = vec![PathBuf::new()];
        let mut trouble = None;
        for part in &self.parts {
            match part {
                Part::Name(name) => found.iter_mut().for_each(|path| path.push(name)),
                Part::Wild(wild) => {
                    let mut below = Vec::new();
                    for path in &found {
                        // One that is not there, or no directory, has nothing to match.
                        match names(path) {
                            Ok(names) => below.extend(
                                names
                                    .filter(|name| matches_any(wild, name))
                                    .map(|name| path.join(name)),
                            ),
                            Err(cause) if is_absent(&cause) => {}
                            Err(cause) => trouble = Some(reason(path, &cause)),
                        }
                    }
                    found = below;
                }
            }
        }
        found.retain(|path| match fs::metadata(here(path)) {
            Ok(metadata) => metadata.is_dir(),
            Err(cause) if is_absent(&cause) => false,
            Err(cause) => {
                trouble = Some(reason(path, &cause));
                false
            }
        });
        found.sort();
        if found.is_empty() && trouble.is_none() {
            trouble = Some("there is no such directory".to_owned());
        }
        Matched {
            directories: found,
            trouble,
        }
    }
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

fn names(directory: &Path) -> io::Result<impl Iterator<Item = std::ffi::OsString>> {
    let entries = fs::read_dir(here(directory))?;
    Ok(entries.filter_map(|entry| entry.ok().map(|entry| entry.file_name())))
}

fn matches_any(wild: &[Vec<Piece>], name: &OsStr) -> bool {
    let name: Vec<char> = name.to_string_lossy().chars().collect();
    wild.iter().any(|pieces| matches(pieces, &name))
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
            let is_in = ranges
                .iter()
                .any(|&(from, to)| (from..=to).contains(&given));
            is_in != *is_negated
        }
    }
}

/// The texts that a text with braces stands for. `None`: a brace has no end.
fn alternatives(text: &str) -> Option<Vec<String>> {
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
        return Some(vec![text.to_owned()]);
    };
    if depth > 0 {
        return None;
    }
    let mut all = Vec::new();
    for pair in cuts.windows(2) {
        let (before, middle, behind) = (
            &text[..open],
            &text[pair[0] + 1..pair[1]],
            &text[close + 1..],
        );
        all.extend(alternatives(&format!("{before}{middle}{behind}"))?);
    }
    Some(all)
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
            ']' if !ranges.is_empty() => return Some(Piece::OneOf { ranges, is_negated }),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_match(pattern: &str, name: &str) -> bool {
        let parts = Pattern::new(Path::new(pattern))
            .expect("it has an end")
            .parts;
        match &parts[..] {
            [Part::Name(literal)] => literal == Path::new(name),
            [Part::Wild(wild)] => matches_any(wild, OsStr::new(name)),
            _ => panic!("one name"),
        }
    }

    #[test]
    fn names_match_whole() {
        for (pattern, good, bad) in [
            ("sub*", &["sub", "sub1", "subway"][..], &["su", "asub"][..]),
            ("*", &["a", ".hidden"], &[]),
            ("a?c", &["abc", "aéc"], &["ac", "abbc"]),
            ("a[b-d_]", &["ab", "ad", "a_"], &["ae", "a", "a-"]),
            ("a[^b-d]", &["ae", "a-"], &["ab", "a"]),
            ("a[]x]", &["a]", "ax"], &["a"]),
            ("a[x-]", &["ax", "a-"], &["ay"]),
            ("{in,out}-*", &["in-1", "out-"], &["in", "inn-1"]),
            ("{a,b{c,d}}e", &["ae", "bce", "bde"], &["abce", "be"]),
            ("x{,y}", &["x", "xy"], &["y"]),
            ("a\\*", &["a*"], &["ab", "a\\*"]),
            ("a\\{b,c}", &["a{b,c}"], &["ab"]),
            ("*a*b*", &["ab", "xaybz", "aab"], &["ba", "xa"]),
        ] {
            for name in good {
                assert!(is_match(pattern, name), "{pattern} {name}");
            }
            for name in bad {
                assert!(!is_match(pattern, name), "{pattern} {name}");
            }
        }
        for pattern in ["a[b", "a[", "{a", "{a,{b}", "a\\", "[a-"] {
            let error = Pattern::new(Path::new(pattern)).expect_err(pattern);
            assert!(error.to_string().contains("has no end"), "{error}");
        }
    }

    /// The definition: a star takes nothing, or one character and then takes on.
    fn defined(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (['*', rest @ ..], _) => {
                defined(rest, name) || (!name.is_empty() && defined(pattern, &name[1..]))
            }
            (['?', rest @ ..], [_, behind @ ..]) => defined(rest, behind),
            ([wanted, rest @ ..], [given, behind @ ..]) => wanted == given && defined(rest, behind),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_is_the_definition(pattern in "[ab*?]{1,8}", name in "[abc]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = defined(&chars(&pattern), &chars(&name));
            prop_assert_eq!(is_match(&pattern, &name), expected);
        }

        #[test]
        fn nothing_makes_it_panic(pattern in "[a*?\\[\\]{},^!\\\\-]{0,12}", name in ".{0,6}") {
            if let Ok(pattern) = Pattern::new(Path::new(&pattern)) {
                for part in &pattern.parts {
                    if let Part::Wild(wild) = part {
                        matches_any(wild, OsStr::new(&name));
                    }
                }
            }
        }
    }

    #[test]
    fn only_directories_are_found_and_in_order() {
        let root = tempfile::tempdir().unwrap();
        for name in ["sub2/in", "sub1/in", "other/in", "sub3"] {
            fs::create_dir_all(root.path().join(name)).unwrap();
        }
        fs::write(root.path().join("sub0"), "a file").unwrap();
        let find = |pattern: &str| {
            Pattern::new(&root.path().join(pattern))
                .unwrap()
                .directories()
        };
        let at = |names: &[&str]| {
            names
                .iter()
                .map(|name| root.path().join(name))
                .collect::<Vec<_>>()
        };
        assert_eq!(find("sub*").directories, at(&["sub1", "sub2", "sub3"]));
        assert_eq!(find("sub*/in").directories, at(&["sub1/in", "sub2/in"]));
        assert_eq!(
            find("{other,sub2}/i?").directories,
            at(&["other/in", "sub2/in"])
        );
        assert_eq!(find("other").directories, at(&["other"]));
        for nothing in ["none", "none*", "sub0", "none*/in", "sub0/in"] {
            let found = find(nothing);
            assert!(found.directories.is_empty());
            assert_eq!(found.trouble.as_deref(), Some("there is no such directory"));
        }
    }
}
