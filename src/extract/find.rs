//! Finds parts of keys, and values, in a line.
//!
//! Promise: a part is found in one line without looking at others, and allocates nothing in the usual case. Must
//! not know: how parts are joined, what a missing one comes to.

use crate::split::Rule;
use regex::bytes::{CaptureLocations, Regex, RegexBuilder};

use crate::extract::csv::Column;
use crate::extract::json::Pointer;
use crate::extract::place::{Part, Place, Separator};

/// Most bytes a regular expression may take. Both the memory and the time of a line grow with it: counted
/// repetitions of counted repetitions would take 10 MB and minutes.
const REGEX_BYTES_MAX: usize = 2 << 20;

/// Why a line has not what is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The line has no such part.
    Absent,
    /// The line is not JSON.
    NotJson,
    /// There is a string of JSON that is no text: half of a surrogate pair, or not UTF-8.
    NotText,
}

/// A part that is looked for. One for each thread: some work in memory of their own.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Finder {
    /// The whole line.
    Line,
    /// The numbered field that the rule makes, the first one being 0.
    Field(usize, Rule),
    /// The numbered field that the rule makes, the last one being 0.
    FieldFromEnd(usize, Rule),
    /// A column of quoted CSV. Boxed: it is the largest one by far.
    Csv(Box<Column>),
    /// A value in a JSON document.
    Json(Pointer),
    /// What a regular expression matches.
    Pattern(Pattern),
}

impl Finder {
    /// `group` is the name of the group that counts in a regular expression, if it has one.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn new(part: &Part, separator: Separator, group: &str) -> Result<Finder, String> {
        let rule = match separator {
            Separator::Blanks => Rule::SplitWhitespace,
            Separator::Byte(byte) => Rule::Split(byte),
        };
        Ok(match part {
            Part::Line => Finder::Line,
            Part::Word => return Err("word is many of a line, and stands for itself only".into()),
            Part::Field(Place::FromStart(number)) => Finder::Field(*number, rule),
            Part::Field(Place::FromEnd(number)) => Finder::FieldFromEnd(*number, rule),
            Part::Csv(number) => {
                let byte = match separator {
                    Separator::Blanks => b',',
                    Separator::Byte(b'"') => {
                        return Err("a quote cannot separate CSV columns".into());
                    }
                    Separator::Byte(byte) => byte,
                };
                Finder::Csv(Box::new(Column::new(*number, byte)))
            }
            Part::Json(names) => Finder::Json(Pointer::new(names)),
            Part::Regex(pattern) => Finder::Pattern(Pattern::new(regex(pattern)?, group)),
        })
    }

    /// Appends what is found in `line` to `out`.
    ///
    /// # Errors
    ///
    /// Why there is nothing; `out` is as it was.
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
                return if column.find(line, out) {
                    Ok(())
                } else {
                    Err(Missing::Absent)
                };
            }
            Finder::Json(pointer) => return pointer.find(line, out),
            Finder::Pattern(pattern) => pattern.find(line),
        };
        let found = found.ok_or(Missing::Absent)?;
        out.extend_from_slice(found);
        Ok(())
    }

    /// Whether the line that was looked at last ended inside of a quoted CSV column. Asked again, it is `false`.
    pub fn take_open(&mut self) -> bool {
        match self {
            Finder::Csv(column) => column.take_open(),
            _ => false,
        }
    }
}

/// A regular expression of bytes. Its classes are those of Unicode unless it says `(?-u)`.
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
                "this regular expression takes more than {} MiB; use smaller counts in its {{}}, or the ASCII \
                 form of a class: (?-u:\\w) in place of \\w",
                REGEX_BYTES_MAX >> 20
            );
        }
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default();
        let reason = last.strip_prefix("error: ").unwrap_or(last);
        format!("this is no regular expression: {reason}")
    })
}

/// A regular expression, and the group of it that counts.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    /// 0 is the whole match.
    group: usize,
    places: CaptureLocations,
}

impl Pattern {
    /// The group of this name counts; without one the first group; without groups the whole match.
    fn new(regex: Regex, name: &str) -> Self {
        let mut names = regex.capture_names();
        let named = names.position(|other| other == Some(name));
        Pattern {
            group: named.unwrap_or(usize::from(regex.captures_len() > 1)),
            places: regex.capture_locations(),
            regex,
        }
    }

    /// What the first match has in it; `None` if there is no match, or the group has no part in it.
    fn find<'l>(&mut self, line: &'l [u8]) -> Option<&'l [u8]> {
        if self.group == 0 {
            return self.regex.find(line).map(|found| found.as_bytes());
        }
        self.regex.captures_read(&mut self.places, line)?;
        let (start, end) = self.places.get(self.group)?;
        Some(&line[start..end])
    }
}
