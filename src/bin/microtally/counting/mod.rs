//! What is counted, and of which lines: `--key`, `--grep`, `--not`, `--aggregate`, `--value`.
//!
//! Promise: a line that is in no result is in a count of [`Skipped`], under its reason; whole lines, words and fields are counted by
//! the library's fastest ways; nothing is allocated for a line whose key is known, in the usual case. Must not
//! know: sources, batches, outputs, clap.
//!
//! Parts of a key are joined by tabs. For different keys to stay different a tab inside of a part is `\t` and
//! a backslash `\\`, in keys of several parts only; a key of one part is its bytes.
//!
//! The library finds the parts ([`microtally::extract`]); here they become a pipeline.

#[cfg(test)]
mod tests;

use std::ops::Add;
use std::sync::Arc;

use microtally::extract::{
    Counter, Finder, Missing, Number, Part, Place, Reason, Separator, Skipped, Unread, regex,
};
use microtally::stream::{DStream, Reduced};
use microtally::{LineEnds, Lines, Rule};
use regex::bytes::Regex;

use crate::parse::spec;
use crate::parse::spec::{Aggregate, KeySpec};

/// Joins the parts of a key.
const JOINT: u8 = b'\t';

/// What the options say together.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Lines have to match all of them.
    pub greps: Vec<String>,
    /// Lines must match none of them.
    pub nots: Vec<String>,
    /// Joined, if there are several; the whole line, if there are none.
    pub keys: Vec<KeySpec>,
    /// What is made of the records of a key.
    pub aggregate: Aggregate,
    /// What it is made of, for all but `count`.
    pub value: Option<Part>,
    /// What separates fields.
    pub separator: Separator,
    /// What separates words.
    pub words: Rule,
    /// Where records end.
    pub ends: LineEnds,
}

/// A stream of results.
pub(crate) enum Counted<'c> {
    /// How many there are of each key.
    Count(Reduced<'c, u64>),
    /// The aggregate of each key's values. Those of a window are folded by [`Aggregate::fold`].
    Number(Reduced<'c, Number>),
}

impl Aggregate {
    /// Folds two results into one. Counting is not done with it.
    pub(crate) fn fold(self) -> fn(Number, Number) -> Number {
        match self {
            Aggregate::Min => Number::min,
            Aggregate::Max => Number::max,
            Aggregate::Count | Aggregate::Sum | Aggregate::Mean => Number::add,
        }
    }
}

/// Which lines there are for the rest.
#[derive(Clone)]
struct Filter {
    greps: Vec<Regex>,
    nots: Vec<Regex>,
    counter: Counter,
}

impl Filter {
    fn wants(&self, line: &[u8]) -> bool {
        let is_wanted = self.greps.iter().all(|regex| regex.is_match(line))
            && !self.nots.iter().any(|regex| regex.is_match(line));
        if !is_wanted {
            self.counter.add(Reason::Filtered, 1);
        }
        is_wanted
    }
}

/// What makes a key and a value of a line. One for each thread.
#[derive(Clone)]
struct Extractor {
    filter: Filter,
    parts: Vec<Finder>,
    value: Option<Finder>,
    /// Whether a part or the value is a CSV column.
    has_csv: bool,
    /// Whether the last line ended inside of quotes as far as its key is concerned.
    is_open: bool,
    /// Text of a part or a value.
    text: Vec<u8>,
}

impl Extractor {
    /// Puts the key of `line` into `key`, if it is wanted and has one.
    fn key(&mut self, line: &[u8], key: &mut Vec<u8>) -> Option<()> {
        if !self.filter.wants(line) {
            return None;
        }
        let found = match &mut self.parts[..] {
            [part] => part.find(line, key),
            parts => parts.iter_mut().enumerate().try_for_each(|(index, part)| {
                if index > 0 {
                    key.push(JOINT);
                }
                let start = key.len();
                part.find(line, key)?;
                escape(key, start, &mut self.text);
                Ok(())
            }),
        };
        if let Err(missing) = found {
            self.is_missing(missing, Reason::NoKey, line);
        }
        if self.has_csv {
            let parts = self.parts.iter_mut();
            self.is_open = parts.fold(false, |is_open, part| is_open | part.take_open());
            if self.is_open {
                self.filter.counter.line(Reason::OpenQuote, line);
            }
        }
        found.ok()
    }

    /// As [`key`](Self::key), and returns the value, if that is a number.
    fn key_and_value(&mut self, line: &[u8], key: &mut Vec<u8>) -> Option<Number> {
        self.key(line, key)?;
        self.text.clear();
        let value = self.value.as_mut()?;
        let found = value.find(line, &mut self.text);
        // A line is counted once.
        if self.has_csv && value.take_open() && !self.is_open {
            self.filter.counter.line(Reason::OpenQuote, line);
        }
        if let Err(missing) = found {
            self.is_missing(missing, Reason::NoValue, line);
            return None;
        }
        match Number::parse(&self.text) {
            Ok(number) => Some(number),
            Err(unread) => {
                let reason = match unread {
                    Unread::NotANumber => Reason::NotANumber,
                    Unread::TooLarge => Reason::TooLarge,
                };
                self.filter.counter.line(reason, line);
                None
            }
        }
    }

    /// Counts `line`, in which something is missing; `absent` is the reason if it has no such part.
    #[inline(never)]
    fn is_missing(&self, missing: Missing, absent: Reason, line: &[u8]) {
        let reason = match missing {
            Missing::Absent => absent,
            Missing::NotJson => Reason::NotJson,
            Missing::NotText => Reason::NotText,
        };
        self.filter.counter.line(reason, line);
    }
}

/// Makes `\t` and `\\` of tabs and backslashes behind `start`.
fn escape(key: &mut Vec<u8>, start: usize, text: &mut Vec<u8>) {
    if memchr::memchr2(JOINT, b'\\', &key[start..]).is_none() {
        return;
    }
    text.clear();
    text.extend_from_slice(&key[start..]);
    key.truncate(start);
    for &byte in &*text {
        match byte {
            JOINT => key.extend_from_slice(b"\\t"),
            b'\\' => key.extend_from_slice(b"\\\\"),
            _ => key.push(byte),
        }
    }
}

impl Plan {
    /// Counts what `key` says, of every line; words are what `words` makes of it.
    #[cfg(test)]
    pub(crate) fn of(key: Part, words: Rule) -> Plan {
        Plan {
            greps: Vec::new(),
            nots: Vec::new(),
            keys: vec![key.into()],
            aggregate: Aggregate::Count,
            value: None,
            separator: Separator::Blanks,
            words,
            ends: LineEnds::Lf,
        }
    }

    /// Whether everything fits together.
    ///
    /// # Errors
    ///
    /// Which option does not, its value and what is allowed.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.extractor(&Skipped::new()).map(drop)
    }

    /// Counts `lines`. What is left out is counted in `skipped`.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check); nothing was attached then.
    pub(crate) fn attach<'c>(
        &self,
        lines: &DStream<'c, Lines>,
        skipped: &Arc<Skipped>,
    ) -> Result<Counted<'c>, String> {
        let extractor = self.extractor(skipped)?;
        let Extractor { filter, .. } = &extractor;
        let is_filtered = !filter.greps.is_empty() || !filter.nots.is_empty();
        let fold = self.aggregate.fold();
        let init = {
            let extractor = extractor.clone();
            move || extractor.clone()
        };
        match self.aggregate {
            Aggregate::Count => {}
            Aggregate::Mean => {
                let numbers = lines.map_key_with(init, |extractor, line, key| {
                    extractor.key_and_value(line, key).map(Number::mean)
                });
                return Ok(Counted::Number(numbers.reduce_by_key(fold)));
            }
            Aggregate::Sum | Aggregate::Min | Aggregate::Max => {
                let numbers = lines.map_key_with(init, Extractor::key_and_value);
                return Ok(Counted::Number(numbers.reduce_by_key(fold)));
            }
        }
        let wanted = || {
            let filter = filter.clone();
            lines.filter(move |line| filter.wants(line))
        };
        Ok(Counted::Count(match (self.only_part(), is_filtered) {
            (Some(Part::Line), false) => lines.count_by_value(),
            (Some(Part::Line), true) => wanted().count_by_value(),
            (Some(Part::Word), false) => lines.flat_map(self.words).count_by_value(),
            (Some(Part::Word), true) => wanted().flat_map(self.words).count_by_value(),
            (Some(Part::Field(Place::FromStart(number))), false) => {
                let (number, counter) = (*number, filter.counter.clone());
                let rule = match self.separator {
                    Separator::Blanks => Rule::SplitWhitespace,
                    Separator::Byte(byte) => Rule::Split(byte),
                };
                let example = counter.clone();
                let keep = move |line: &[u8]| example.keep_first(Reason::NoKey, line);
                let counts = lines.part_or(rule, number, keep).count_by_value();
                // The fast way does not count lines that are too short: they are what is missing in the end.
                counts.for_each_batch(move |batch, _| {
                    let stats = batch.stats();
                    let found = stats.tokens + stats.oversize_tokens;
                    counter.add(Reason::NoKey, stats.records.saturating_sub(found));
                });
                counts
            }
            _ => lines.map_key_with(init, Extractor::key).count_by_key(),
        }))
    }

    /// The key's part, if it is one.
    fn only_part(&self) -> Option<&Part> {
        let mut parts = self.parts();
        let first = parts.next().unwrap_or(&Part::Line);
        parts.next().is_none().then_some(first)
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.keys.iter().flat_map(|key| &key.parts)
    }

    /// Why no record has `byte` in it, if none has.
    fn ends_at(&self, byte: u8) -> Option<&'static str> {
        Some(match (self.ends, byte) {
            (LineEnds::Nul, 0) => {
                "with --null a record ends there, so that no record has this byte; choose another byte"
            }
            (LineEnds::Nul, _) => return None,
            (_, b'\n') => "a line ends there, so that no line has this byte; choose another byte",
            (LineEnds::Universal, b'\r') => {
                "a line ends there in words and with --cr, so that no line has this byte; choose another byte, or \
                 count or top without --cr"
            }
            _ => return None,
        })
    }

    fn extractor(&self, skipped: &Arc<Skipped>) -> Result<Extractor, String> {
        if let Separator::Byte(byte) = self.separator
            && let Some(why) = self.ends_at(byte)
        {
            return Err(format!("--split '{}': {why}", byte.escape_ascii()));
        }
        let regexes = |option: &str, patterns: &[String]| {
            let regexes = patterns.iter().map(|pattern| {
                let pattern_shown = spec::shown(pattern);
                regex(pattern).map_err(|reason| format!("{option} '{pattern_shown}': {reason}"))
            });
            regexes.collect::<Result<Vec<_>, _>>()
        };
        let filter = Filter {
            greps: regexes("--grep", &self.greps)?,
            nots: regexes("--not", &self.nots)?,
            counter: Counter::new(skipped),
        };
        let name = self.aggregate.name();
        let value = match (&self.value, self.aggregate) {
            (None, Aggregate::Count) => None,
            (Some(_), Aggregate::Count) => {
                return Err("--value is there and --aggregate count needs none; \
                            write --aggregate sum, min, max or mean"
                    .into());
            }
            (None, _) => {
                return Err(format!(
                    "--aggregate {name} needs a --value: --value field:2, for example"
                ));
            }
            (Some(part), _) => Some(self.finder("--value", part, "value")?),
        };
        // Words are many of a line: they are counted, and nothing else is done with them.
        let has_words = self.parts().any(|part| *part == Part::Word);
        let is_one_part = self.only_part().is_some();
        if has_words && !is_one_part {
            return Err(
                "--key word cannot be joined with other keys: a line has many words".into(),
            );
        }
        if has_words && value.is_some() {
            return Err(format!(
                "--key word can be counted only: --aggregate {name} needs one key a line"
            ));
        }
        let parts: Vec<_> = if has_words {
            Vec::new()
        } else if self.keys.is_empty() {
            vec![Finder::Line]
        } else {
            let finders = self.parts().map(|part| self.finder("--key", part, "key"));
            finders.collect::<Result<_, _>>()?
        };
        let is_csv = |finder: &Finder| matches!(finder, Finder::Csv(_));
        Ok(Extractor {
            has_csv: parts.iter().chain(&value).any(is_csv),
            is_open: false,
            filter,
            parts,
            value,
            text: Vec::new(),
        })
    }

    fn finder(&self, option: &str, part: &Part, group: &str) -> Result<Finder, String> {
        Finder::new(part, self.separator, group).map_err(|reason| match part {
            Part::Regex(pattern) => {
                format!("{option} 're:{}': {reason}", spec::shown(pattern))
            }
            Part::Csv(number) => format!("{option} 'csv:{}': {reason}", number + 1),
            _ => format!("{option}: {reason}"),
        })
    }
}
