//! Finds a part of a line by its [`Selector`].
//!
//! Promise: a part is found in one line without looking at others, and allocates nothing in the
//! usual case. Must not know: `skipped`, `number`.

use crate::split::Rule;
use regex::bytes::{CaptureLocations, Regex, RegexBuilder};

use crate::extract::csv::Column;
use crate::extract::json::Pointer;
use crate::extract::selector::{FieldIndex, Selector, Separator};

/// Most bytes a compiled regular expression may take. Memory and the time per line grow with it:
/// counted repetitions of counted repetitions would take 10 MB and minutes.
const REGEX_BYTES_MAX: usize = 2 << 20;

/// Why a part was not found in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The line has no such part.
    Absent,
    /// The line is not JSON.
    NotJson,
    /// A JSON string on the way is not text: half of a surrogate pair, or not UTF-8.
    NotText,
}

/// Finds a part of a line. Each thread needs its own, because some kinds have working memory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Finder {
    /// The whole line.
    Line,
    /// A field, numbered from 0, where the rule splits.
    Field(usize, Rule),
    /// A field, numbered from 0 backwards from the last one, where the rule splits.
    FieldFromEnd(usize, Rule),
    /// A column of quoted CSV. Boxed, because it is the largest variant by far.
    Csv(Box<Column>),
    /// A value in a JSON document.
    Json(Pointer),
    /// The match of a regular expression, or a group of it.
    Regex(RegexFinder),
}

impl Finder {
    /// Returns a finder for `selector`. In a regular expression, the group named `group` is the
    /// part, if there is one.
    ///
    /// # Errors
    ///
    /// What is wrong with the selector.
    pub fn new(selector: &Selector, separator: Separator, group: &str) -> Result<Finder, String> {
        let rule = match separator {
            Separator::Blanks => Rule::SplitWhitespace,
            Separator::Byte(byte) => Rule::Split(byte),
        };
        Ok(match selector {
            Selector::Line => Finder::Line,
            Selector::Word => {
                return Err("a line has many words, so word cannot be one value of it".into());
            }
            Selector::Field(FieldIndex::FromStart(number)) => Finder::Field(*number, rule),
            Selector::Field(FieldIndex::FromEnd(number)) => Finder::FieldFromEnd(*number, rule),
            Selector::Csv(number) => {
                let byte = match separator {
                    Separator::Blanks => b',',
                    Separator::Byte(b'"') => {
                        return Err("a quote cannot separate CSV columns".into());
                    }
                    Separator::Byte(byte) => byte,
                };
                Finder::Csv(Box::new(Column::new(*number, byte)))
            }
            Selector::Json(names) => Finder::Json(Pointer::new(names)),
            Selector::Regex(pattern) => Finder::Regex(RegexFinder::new(regex(pattern)?, group)),
        })
    }

    /// Appends the part of `line` to `out`.
    ///
    /// # Errors
    ///
    /// Why the part is missing; `out` is unchanged.
    pub fn find(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<(), Missing> {
        let found = match self {
            Finder::Line => Some(line),
            Finder::Field(number, rule) => rule.part(line, *number),
            Finder::FieldFromEnd(number, Rule::Split(byte)) => {
                line.rsplit(|other| *other == *byte).nth(*number)
            }
            Finder::FieldFromEnd(number, rule) => {
                let is_blank = |byte: &u8| rule.separates_at(*byte);
                line.rsplit(is_blank)
                    .filter(|word| !word.is_empty())
                    .nth(*number)
            }
            Finder::Csv(column) => {
                return column.find(line, out).then_some(()).ok_or(Missing::Absent);
            }
            Finder::Json(pointer) => return pointer.find(line, out),
            Finder::Regex(pattern) => pattern.find(line),
        };
        let found = found.ok_or(Missing::Absent)?;
        out.extend_from_slice(found);
        Ok(())
    }

    /// Returns `true` if the last line ended inside a quoted CSV column. A second call returns
    /// `false`.
    pub fn take_open(&mut self) -> bool {
        match self {
            Finder::Csv(column) => column.take_open(),
            _ => false,
        }
    }
}

/// Compiles a regular expression on bytes. Its classes are Unicode classes, except after `(?-u)`.
///
/// # Errors
///
/// What is wrong with it, in one line.
pub fn regex(pattern: &str) -> Result<Regex, String> {
    let regex = RegexBuilder::new(pattern)
        .size_limit(REGEX_BYTES_MAX)
        .build();
    regex.map_err(|error| {
        if let regex::Error::CompiledTooBig(_) = error {
            return format!(
                "this regular expression needs more than {} MiB; use smaller counts in {{}}, or the ASCII form of \
                 a class: (?-u:\\w) instead of \\w",
                REGEX_BYTES_MAX >> 20
            );
        }
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default();
        let reason = last.strip_prefix("error: ").unwrap_or(last);
        format!("this is no regular expression: {reason}")
    })
}

/// Finds a regular expression, or one of its groups.
#[derive(Clone, Debug)]
pub struct RegexFinder {
    regex: Regex,
    /// 0 is the whole match.
    group: usize,
    places: CaptureLocations,
}

impl RegexFinder {
    /// The part is the group with this name, or the first group, or the whole match if there are no
    /// groups.
    fn new(regex: Regex, name: &str) -> Self {
        let mut names = regex.capture_names();
        let named = names.position(|other| other == Some(name));
        RegexFinder {
            group: named.unwrap_or(usize::from(regex.captures_len() > 1)),
            places: regex.capture_locations(),
            regex,
        }
    }

    /// Returns the group of the first match. `None` if there is no match, or the group is not part
    /// of it.
    fn find<'l>(&mut self, line: &'l [u8]) -> Option<&'l [u8]> {
        if self.group == 0 {
            return self.regex.find(line).map(|found| found.as_bytes());
        }
        self.regex.captures_read(&mut self.places, line)?;
        let (start, end) = self.places.get(self.group)?;
        Some(&line[start..end])
    }
}
