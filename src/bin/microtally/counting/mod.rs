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

mod columns;
mod row;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use microtally::Rule;
use microtally::aggregate::{Distinct, ValueHash};
use microtally::config::LineEnds;
use microtally::extract::{
    FieldIndex, Finder, Missing, Number, ParseNumberError, Reason, Selector, Separator,
    SkipCounter, Skipped, regex,
};
use microtally::stream::LineRecords;
use microtally::stream::{Aggregated, DStream, Reduced};
use regex::bytes::Regex;

use self::columns::sizes;
pub(crate) use self::columns::{ColumnAggregates, LineValue};
pub(crate) use self::row::Row;
use crate::parse::aggregate::{AGGREGATES_MAX, AggregateKind, AggregateList};
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
    pub aggregates: AggregateList,
    /// What is aggregated, except for `count`.
    pub value: Option<Selector>,
    /// The seed for `distinct`, if it is chosen.
    pub seed: Option<u64>,
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
    /// The sum, mean or extreme of the values of each key. [`AggregateKind::fold`] combines the
    /// batches of a window.
    Number(Reduced<Number>, fn(Number, Number) -> Number),
    /// Counts, means, percentiles and distinct values, and at most one sum.
    Few(ColumnStream<1, 4>),
    /// As `Few`, without any sum.
    Small(ColumnStream<0, 3>),
    /// Any of them.
    Many(ColumnStream<NUMBERS_MAX, AGGREGATES_MAX>),
}

/// Sums, least and greatest values of a row.
const NUMBERS_MAX: usize = 3;

/// A stream of columns. States and results take the memory of the most there may be, so there are
/// three sizes.
pub(crate) type ColumnStream<const N: usize, const F: usize> =
    Aggregated<ColumnAggregates<N, F>, LineValue>;

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
    /// Whether the value has to be a number.
    needs_number: bool,
    /// Hashes values, if that is needed.
    distinct: Option<Distinct>,
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

    /// As [`key`](Self::key), but also returns the value, if it is one to aggregate.
    fn key_and_value(&mut self, line: &[u8], key: &mut Vec<u8>) -> Option<LineValue> {
        self.key(line, key)?;
        self.text.clear();
        let Some(value) = self.value.as_mut() else {
            return Some(self.value_of(Number::default()));
        };
        let found = value.find(line, &mut self.text);
        // A line is counted only once.
        if self.has_csv && value.take_open() && !self.is_open {
            self.filter.counter.line(Reason::OpenQuote, line);
        }
        if let Err(missing) = found {
            self.is_missing(missing, Reason::NoValue, line);
            return None;
        }
        if !self.needs_number {
            return Some(self.value_of(Number::default()));
        }
        match Number::parse(&self.text) {
            Ok(number) => Some(self.value_of(number)),
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

    /// As [`key_and_value`](Self::key_and_value), but returns the number to fold.
    fn number(
        kind: AggregateKind,
    ) -> impl Fn(&mut Self, &[u8], &mut Vec<u8>) -> Option<Number> + Send + Sync + 'static {
        let count = u64::from(kind == AggregateKind::Mean);
        move |extractor, line, key| {
            let value = extractor.key_and_value(line, key)?;
            Some(value.number.over(count))
        }
    }

    /// The value whose text was found.
    fn value_of(&self, number: Number) -> LineValue {
        let hash = self.distinct.map(|distinct| distinct.hash(&self.text));
        LineValue {
            number,
            hash: hash.unwrap_or(ValueHash::NONE),
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
            aggregates: AggregateList::default(),
            value: None,
            seed: None,
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
        let init = {
            let extractor = extractor.clone();
            move || extractor.clone()
        };
        let kinds = self.aggregates.kinds();
        if let [kind] = kinds
            && let Some(fold) = kind.fold()
        {
            let numbers = lines.map_key_with(init, Extractor::number(*kind));
            return Ok(CountedStream::Number(numbers.reduce_by_key(fold), fold));
        }
        if !self.aggregates.is_count() {
            return Ok(match sizes(kinds) {
                (0, ..=3) => CountedStream::Small(self.columns(lines, extractor)),
                (..=1, ..=4) => CountedStream::Few(self.columns(lines, extractor)),
                _ => CountedStream::Many(self.columns(lines, extractor)),
            });
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

    fn columns<const N: usize, const F: usize>(
        &self,
        lines: &DStream<LineRecords>,
        extractor: Extractor,
    ) -> ColumnStream<N, F> {
        let columns = ColumnAggregates::new(self.aggregates.kinds(), extractor.distinct);
        let init = move || extractor.clone();
        let values = lines.map_key_with(init, Extractor::key_and_value);
        values.aggregate_by_key(columns)
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
        let name = self.aggregates.of_value().map(AggregateKind::name);
        let value = match (&self.value, &name) {
            (None, None) => None,
            (Some(_), None) => {
                return Err(
                    "--value: --aggregate count needs none; write --aggregate sum, mean, min, max, p99 or distinct, or \
                     leave --value out"
                        .into(),
                );
            }
            (None, Some(name)) => {
                return Err(format!(
                    "--aggregate {name}: it needs a --value, for example --value field:2"
                ));
            }
            (Some(part), Some(_)) => Some(self.finder("--value", part, "value")?),
        };
        let kinds = self.aggregates.kinds();
        let seeded = || self.seed.map_or_else(Distinct::new, Distinct::with_seed);
        let distinct = kinds.contains(&AggregateKind::Distinct).then(seeded);
        // A line has many words, so they can only be counted.
        let has_words = self.parts().any(|part| *part == Selector::Word);
        let is_one_part = self.only_part().is_some();
        if has_words && !is_one_part {
            return Err(
                "--key word: it cannot be joined with other keys, because a line has many words"
                    .into(),
            );
        }
        if has_words && let Some(name) = name {
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
            needs_number: kinds.iter().any(|kind| kind.needs_number()),
            distinct,
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
