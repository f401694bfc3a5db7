//! What is counted, and of which lines: `--key`, `--grep`, `--not`, `--aggregate`, `--value`.
//!
//! Promise: a line that is in no result is in a count of [`Skipped`], under its reason. Whole
//! lines, words and fields take the library's fastest paths. Nothing is allocated for a line with a
//! known key, in the usual case. Must not know: `live`, `output`, `run`, `bench`, `generate`.
//!
//! Parts of a key are joined by tabs. To keep different keys different, a tab inside a part becomes
//! `\t` and a backslash `\\`, but only in keys of several parts; a key of one part is its bytes.
//!
//! [`microtally::extract`] finds the parts; here they become a pipeline.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use microtally::Rule;
use microtally::config::LineEnds;
use microtally::extract::{
    FieldIndex, Finder, Missing, Number, ParseNumberError, Reason, Selector, Separator,
    SkipCounter, Skipped, regex,
};
use microtally::stream::LineRecords;
use microtally::stream::{DStream, Reduced};
use regex::bytes::Regex;

use crate::parse::aggregate::AggregateKind;
use crate::parse::keys;
use crate::parse::keys::KeySpec;

/// Joins the parts of a key.
const JOINT: u8 = b'\t';

/// What all options together ask for.
#[derive(Clone, Debug)]
pub(crate) struct CountingPlan {
    /// Lines have to match all of them.
    pub greps: Vec<String>,
    /// Lines must match none of them.
    pub nots: Vec<String>,
    /// Joined if there are several; the whole line if there are none.
    pub keys: Vec<KeySpec>,
    /// What is computed for each key.
    pub aggregate: AggregateKind,
    /// What is aggregated, except for `count`.
    pub value: Option<Selector>,
    /// What separates fields.
    pub separator: Separator,
    /// What separates words.
    pub words: Rule,
    /// Where records end.
    pub ends: LineEnds,
}

/// A stream of results.
pub(crate) enum CountedStream {
    /// The number of records of each key.
    Count(Reduced<u64>),
    /// The aggregate of the values of each key. [`AggregateKind::fold`] combines the batches of a
    /// window.
    Number(Reduced<Number>),
}

/// Filters lines by `--grep` and `--not`.
#[derive(Clone)]
struct LineFilter {
    greps: Vec<Regex>,
    nots: Vec<Regex>,
    counter: SkipCounter,
}

impl LineFilter {
    fn wants(&self, line: &[u8]) -> bool {
        let is_wanted = self.greps.iter().all(|regex| regex.is_match(line))
            && !self.nots.iter().any(|regex| regex.is_match(line));
        if !is_wanted {
            self.counter.add(Reason::Filtered, 1);
        }
        is_wanted
    }
}

/// Finds the key and the value of a line. Each thread needs its own.
#[derive(Clone)]
struct Extractor {
    filter: LineFilter,
    parts: Vec<Finder>,
    value: Option<Finder>,
    /// Whether a part or the value is a CSV column.
    has_csv: bool,
    /// Whether the key of the last line ended inside quotes.
    is_open: bool,
    /// Working memory for a part or a value.
    text: Vec<u8>,
}

impl Extractor {
    /// Appends the key of `line` to `key`, if the line is wanted and has a key.
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

    /// As [`key`](Self::key), but also returns the value, if it is a number.
    fn key_and_value(&mut self, line: &[u8], key: &mut Vec<u8>) -> Option<Number> {
        self.key(line, key)?;
        self.text.clear();
        let value = self.value.as_mut()?;
        let found = value.find(line, &mut self.text);
        // A line is counted only once.
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
                    ParseNumberError::NotANumber => Reason::NotANumber,
                    ParseNumberError::TooLarge => Reason::TooLarge,
                };
                self.filter.counter.line(reason, line);
                None
            }
        }
    }

    /// Counts `line`, in which a part is missing; `absent` is the reason for [`Missing::Absent`].
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

/// Escapes tabs and backslashes from `start` on as `\t` and `\\`.
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

impl CountingPlan {
    /// Counts `key` of every line; `words` splits lines into words.
    #[cfg(test)]
    pub(crate) fn of(key: Selector, words: Rule) -> CountingPlan {
        CountingPlan {
            greps: Vec::new(),
            nots: Vec::new(),
            keys: vec![key.into()],
            aggregate: AggregateKind::Count,
            value: None,
            separator: Separator::Blanks,
            words,
            ends: LineEnds::Lf,
        }
    }

    /// Checks that the options fit together.
    ///
    /// # Errors
    ///
    /// The option that does not fit, its value and what is allowed.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.extractor(&Skipped::new()).map(drop)
    }

    /// Counts `lines`. Skipped lines are counted in `skipped`.
    ///
    /// # Errors
    ///
    /// Those of [`check`](Self::check); nothing is attached then.
    pub(crate) fn attach(
        &self,
        lines: &DStream<LineRecords>,
        skipped: &Arc<Skipped>,
    ) -> Result<CountedStream, String> {
        let extractor = self.extractor(skipped)?;
        let Extractor { filter, .. } = &extractor;
        let is_filtered = !filter.greps.is_empty() || !filter.nots.is_empty();
        let fold = self.aggregate.fold();
        let init = {
            let extractor = extractor.clone();
            move || extractor.clone()
        };
        match self.aggregate {
            AggregateKind::Count => {}
            AggregateKind::Mean => {
                let numbers = lines.map_key_with(init, |extractor, line, key| {
                    extractor
                        .key_and_value(line, key)
                        .map(|number| number.over(1))
                });
                return Ok(CountedStream::Number(numbers.reduce_by_key(fold)));
            }
            AggregateKind::Sum | AggregateKind::Min | AggregateKind::Max => {
                let numbers = lines.map_key_with(init, Extractor::key_and_value);
                return Ok(CountedStream::Number(numbers.reduce_by_key(fold)));
            }
        }
        let wanted = || {
            let filter = filter.clone();
            lines.filter(move |line| filter.wants(line))
        };
        Ok(CountedStream::Count(
            match (self.only_part(), is_filtered) {
                (Some(Selector::Line), false) => lines.count_by_value(),
                (Some(Selector::Line), true) => wanted().count_by_value(),
                (Some(Selector::Word), false) => lines.flat_map(self.words).count_by_value(),
                (Some(Selector::Word), true) => wanted().flat_map(self.words).count_by_value(),
                (Some(Selector::Field(FieldIndex::FromStart(number))), false) => {
                    let (number, counter) = (*number, filter.counter.clone());
                    let rule = match self.separator {
                        Separator::Blanks => Rule::SplitWhitespace,
                        Separator::Byte(byte) => Rule::Split(byte),
                    };
                    let example = counter.clone();
                    let keep = move |line: &[u8]| example.keep_first(Reason::NoKey, line);
                    let counts = lines.part_or(rule, number, keep).count_by_value();
                    // The fast path does not count lines that are too short: they are the
                    // difference.
                    counts.for_each_batch(move |batch, _| {
                        let stats = batch.stats();
                        let found = stats.tokens + stats.oversize_tokens;
                        counter.add(Reason::NoKey, stats.records.saturating_sub(found));
                    });
                    counts
                }
                _ => lines.map_key_with(init, Extractor::key).count_by_key(),
            },
        ))
    }

    /// The part of the key, if there is only one.
    fn only_part(&self) -> Option<&Selector> {
        let mut parts = self.parts();
        let first = parts.next().unwrap_or(&Selector::Line);
        parts.next().is_none().then_some(first)
    }

    fn parts(&self) -> impl Iterator<Item = &Selector> {
        self.keys.iter().flat_map(|key| &key.parts)
    }

    /// Returns why no record can contain `byte`, if none can.
    fn ends_at(&self, byte: u8) -> Option<&'static str> {
        Some(match (self.ends, byte) {
            (LineEnds::Nul, 0) => {
                "with --null a record ends there, so no record contains this byte; choose another byte"
            }
            (LineEnds::Nul, _) => return None,
            (_, b'\n') => "a line ends there, so no line contains this byte; choose another byte",
            (LineEnds::Universal, b'\r') => {
                "a line ends there in words and with --cr, so no line contains this byte; choose another byte, or use \
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
                let pattern_shown = keys::shown(pattern);
                regex(pattern).map_err(|reason| format!("{option} '{pattern_shown}': {reason}"))
            });
            regexes.collect::<Result<Vec<_>, _>>()
        };
        let filter = LineFilter {
            greps: regexes("--grep", &self.greps)?,
            nots: regexes("--not", &self.nots)?,
            counter: SkipCounter::new(skipped),
        };
        let name = self.aggregate.name();
        let value = match (&self.value, self.aggregate) {
            (None, AggregateKind::Count) => None,
            (Some(_), AggregateKind::Count) => {
                return Err(
                    "--value: --aggregate count needs none; write --aggregate sum, min, max or mean, or leave \
                     --value out"
                        .into(),
                );
            }
            (None, _) => {
                return Err(format!(
                    "--aggregate {name}: it needs a --value, for example --value field:2"
                ));
            }
            (Some(part), _) => Some(self.finder("--value", part, "value")?),
        };
        // A line has many words, so they can only be counted.
        let has_words = self.parts().any(|part| *part == Selector::Word);
        let is_one_part = self.only_part().is_some();
        if has_words && !is_one_part {
            return Err(
                "--key word: it cannot be joined with other keys, because a line has many words"
                    .into(),
            );
        }
        if has_words && value.is_some() {
            return Err(format!(
                "--key word: it can only be counted; --aggregate {name} needs one key per line"
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

    fn finder(&self, option: &str, part: &Selector, group: &str) -> Result<Finder, String> {
        Finder::new(part, self.separator, group).map_err(|reason| match part {
            Selector::Regex(pattern) => {
                format!("{option} 're:{}': {reason}", keys::shown(pattern))
            }
            Selector::Csv(number) => format!("{option} 'csv:{}': {reason}", number + 1),
            _ => format!("{option}: {reason}"),
        })
    }
}
