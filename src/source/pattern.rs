//! Finds directories and files by a path whose names may have wildcards in them.
//!
//! Promise: `matches` is a function of the pattern and a name alone; a path without wildcards is that
//! path. Refuses to know: what is in files, times.
//!
//! A name is matched whole: `?` is one character, `*` any number of them, `[a-c_]` one of those, `[^a-c]`
//! one that is not, `{in,out}` either; `\` takes a character's meaning away. A leading dot is a character
//! like any other where directories are looked for, and has to be written where [`expand`] looks for
//! files. This is what Hadoop's file systems and shells understand, but braces stay within one name.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, ErrorKind, Result, describe};

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
    /// In the order of their names.
    pub(crate) paths: Vec<PathBuf>,
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
                    "pattern {path:?}: a bracket, a brace or a backslash has no end in {text:?}"
                ))
            })
        });
        Ok(Pattern {
            parts: parts.collect::<Result<_>>()?,
        })
    }

    /// Looks for the directories.
    pub(crate) fn directories(&self) -> Matched {
        let Matched {
            mut paths,
            mut trouble,
        } = self.walk(|_, _| true);
        paths.retain(|path| match fs::metadata(here(path)) {
            Ok(metadata) => metadata.is_dir(),
            Err(cause) if is_absent(&cause) => false,
            Err(cause) => {
                trouble = Some(reason(path, &cause));
                false
            }
        });
        if paths.is_empty() && trouble.is_none() {
            trouble = Some("there is no such directory".to_owned());
        }
        Matched { paths, trouble }
    }

    /// Everything whose path fits, in the order of the paths. `takes` is asked about each name that fits
    /// one of the alternatives.
    fn walk(&self, takes: impl Fn(&[Piece], &OsStr) -> bool) -> Matched {
        let mut found = vec![PathBuf::new()];
        let mut trouble = None;
        for part in &self.parts {
            match part {
                Part::Name(name) => found.iter_mut().for_each(|path| path.push(name)),
                Part::Wild(wild) => {
                    let fits = |name: &OsString| {
                        let mut fitting = wild.iter().filter(|pieces| is_match(pieces, name));
                        fitting.any(|pieces| takes(pieces, name))
                    };
                    let mut below = Vec::new();
                    for path in &found {
                        // One that is not there, or no directory, has nothing to match.
                        match names(path) {
                            Ok(names) => {
                                below.extend(names.filter(fits).map(|name| path.join(name)));
                            }
                            Err(cause) if is_absent(&cause) => {}
                            Err(cause) => trouble = Some(reason(path, &cause)),
                        }
                    }
                    found = below;
                }
            }
        }
        found.sort();
        Matched {
            paths: found,
            trouble,
        }
    }
}

/// The files that patterns stand for, as a shell has it: `*`, `?`, `[a-c]`, `[^a-c]` and `{in,out}` in
/// any name of a path, `\` in front of a character that means itself. The files of one pattern come in
/// the order of their paths, those of the next one behind them. A path that exists is that path, whatever
/// its name looks like.
///
/// A wildcard stands for no name that begins with a dot, and patterns for no directories. A file that
/// two patterns name comes twice.
///
/// ```
/// use microtally::sources::expand;
/// let sources = expand(["src/source/[f]*d.rs", "Cargo.toml"])?;
/// assert_eq!(sources, [std::path::Path::new("src/source/feed.rs"), "Cargo.toml".as_ref()]);
/// assert!(expand(["*.nothing"]).is_err());
/// # Ok::<(), microtally::Error>(())
/// ```
///
/// # Errors
///
/// A pattern that no file fits, or that is none; a path without wildcards is left alone, whether or not
/// there is such a file.
pub fn expand<P: AsRef<Path>>(patterns: impl IntoIterator<Item = P>) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for given in patterns {
        let given = given.as_ref();
        if !has_wildcard(given) || fs::symlink_metadata(given).is_ok() {
            files.push(given.to_owned());
            continue;
        }
        let shows_hidden = |pieces: &[Piece]| pieces.first() == Some(&Piece::Char('.'));
        let Matched { mut paths, trouble } = Pattern::new(given)?.walk(|pieces, name| {
            shows_hidden(pieces) || !name.as_encoded_bytes().starts_with(b".")
        });
        // A link that leads nowhere is left for whoever opens it to complain about.
        paths.retain(|path| {
            fs::symlink_metadata(path).is_ok()
                && !fs::metadata(path).is_ok_and(|metadata| metadata.is_dir())
        });
        if paths.is_empty() {
            let why = trouble.unwrap_or_else(|| "no file has such a name".to_owned());
            return Err(Error::new(
                ErrorKind::Source,
                format!("nothing fits the pattern {given:?}: {why}"),
            ));
        }
        files.append(&mut paths);
    }
    Ok(files)
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

fn names(directory: &Path) -> io::Result<impl Iterator<Item = OsString>> {
    let entries = fs::read_dir(here(directory))?;
    Ok(entries.filter_map(|entry| entry.ok().map(|entry| entry.file_name())))
}

fn is_match(pieces: &[Piece], name: &OsStr) -> bool {
    let name: Vec<char> = name.to_string_lossy().chars().collect();
    matches(pieces, &name)
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

    fn fits_name(pattern: &str, name: &str) -> bool {
        let parts = Pattern::new(Path::new(pattern))
            .expect("it has an end")
            .parts;
        match &parts[..] {
            [Part::Name(literal)] => literal == Path::new(name),
            [Part::Wild(wild)] => wild.iter().any(|pieces| is_match(pieces, OsStr::new(name))),
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
                assert!(fits_name(pattern, name), "{pattern} {name}");
            }
            for name in bad {
                assert!(!fits_name(pattern, name), "{pattern} {name}");
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
            prop_assert_eq!(fits_name(&pattern, &name), expected);
        }

        #[test]
        fn nothing_makes_it_panic(pattern in "[a*?\\[\\]{},^!\\\\-]{0,12}", name in ".{0,6}") {
            if let Ok(pattern) = Pattern::new(Path::new(&pattern)) {
                for part in &pattern.parts {
                    if let Part::Wild(wild) = part {
                        for pieces in wild {
                            is_match(pieces, OsStr::new(&name));
                        }
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
        assert_eq!(find("sub*").paths, at(&["sub1", "sub2", "sub3"]));
        assert_eq!(find("sub*/in").paths, at(&["sub1/in", "sub2/in"]));
        assert_eq!(find("{other,sub2}/i?").paths, at(&["other/in", "sub2/in"]));
        assert_eq!(find("other").paths, at(&["other"]));
        for nothing in ["none", "none*", "sub0", "none*/in", "sub0/in"] {
            let found = find(nothing);
            assert!(found.paths.is_empty());
            assert_eq!(found.trouble.as_deref(), Some("there is no such directory"));
        }
    }

    #[test]
    fn files_are_found_as_a_shell_finds_them() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("logs/old.log")).unwrap();
        for name in ["b.log", "a.log", ".hidden.log", "c.txt", "[x].log", "x.log"] {
            fs::write(root.path().join("logs").join(name), "").unwrap();
        }
        let find = |pattern: &str| {
            let found = expand([root.path().join(pattern)])?;
            let names = found
                .iter()
                .map(|path| path.file_name().unwrap().to_owned());
            Ok::<_, Error>(
                names
                    .map(|name| name.into_string().unwrap())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(find("logs/?.log").unwrap(), ["a.log", "b.log", "x.log"]);
        assert_eq!(find("l*/*.{log,txt}").unwrap().len(), 5);
        assert_eq!(find("logs/.*.log").unwrap(), [".hidden.log"]);
        assert_eq!(find("logs/[x].log").unwrap(), ["[x].log"], "it exists");
        assert_eq!(find("logs/[a]*").unwrap(), ["a.log"]);
        assert_eq!(find("logs/none.log").unwrap(), ["none.log"], "no pattern");
        for nothing in ["logs/*.gz", "none*/a.log", "logs/old*"] {
            let error = find(nothing).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Source);
            assert!(error.to_string().contains(nothing), "{error}");
        }
        assert_eq!(find("logs/{a").unwrap_err().kind(), ErrorKind::Config);
    }
}
