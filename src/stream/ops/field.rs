//! `field`, `field_whitespace`, `part_or`: one part of each record.

use crate::shard::stage::Records;
use crate::split::{Rule, Splitter, Tallied, record};
use crate::stream::program::context::DStream;

impl<'c, R: Records> DStream<'c, R> {
    /// The numbered field of each record, the first one being 0: Spark's
    /// `map(lambda line: line.split(",")[number])`. Every separator separates, so fields may be empty.
    ///
    /// A record with fewer fields has none and gives nothing, where Spark's batch would fail: those are the
    /// batch's records less its tokens. What is behind the field is not looked at.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(5))?;
    /// let lines = ssc.socket_text_stream("localhost", 9999)?;
    /// lines.field(2, b',').count_by_value().pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    pub fn field(&self, number: usize, separator: u8) -> DStream<'c, Field<R>> {
        self.with(Field::of(self.records.clone(), number, separator))
    }

    /// The numbered field of each record, the first one being 0, where runs of blanks separate: `$1` of
    /// awk is number 0, and Spark's `map(lambda line: line.split()[number])`.
    ///
    /// Blanks are space, `\t`, `\n`, `\v`, `\f` and `\r`; there are no empty fields. A record with fewer
    /// fields gives nothing.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(5))?;
    /// let lines = ssc.socket_text_stream("localhost", 9999)?;
    /// lines.field_whitespace(0).count_by_value().pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    pub fn field_whitespace(&self, number: usize) -> DStream<'c, FieldWhitespace<R>> {
        self.with(FieldWhitespace::of(self.records.clone(), number))
    }

    /// The numbered part of each record, the first one being 0, as [`Rule::part`] finds it: what
    /// [`field`](Self::field) and [`field_whitespace`](Self::field_whitespace) are for the rules that split.
    /// A record with fewer parts gives nothing, and `missing` is called with it, on the thread that counts.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # use microtally::Rule;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(5))?;
    /// let lines = ssc.socket_text_stream("localhost", 9999)?;
    /// let short = |line: &[u8]| eprintln!("too short: {}", line.escape_ascii());
    /// lines.part_or(Rule::Split(b','), 2, short).count_by_value().pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    pub fn part_or<F>(&self, rule: Rule, number: usize, missing: F) -> DStream<'c, PartOr<R, F>>
    where
        F: Fn(&[u8]) + Clone + Send + Sync + 'static,
    {
        self.with(PartOr::of(self.records.clone(), rule, number, missing))
    }
}

/// The records of [`field`](DStream::field).
#[derive(Clone)]
pub struct Field<R> {
    records: R,
    number: usize,
    separator: u8,
}

debug_fields!([R] Field<R>, "Field", number, separator);

impl<R: Records> Field<R> {
    /// The numbered field of each of `records`, the first one being 0.
    pub fn of(records: R, number: usize, separator: u8) -> Self {
        Field {
            records,
            number,
            separator,
        }
    }
}

impl<R: Records> Records for Field<R> {
    fn rule(&self) -> Rule {
        self.records.rule()
    }

    #[inline]
    fn for_each<'b, F>(&self, splitter: &mut Splitter, block: &'b [u8], f: F) -> Tallied
    where
        F: FnMut(&'b [u8]),
    {
        let &Field {
            ref records,
            number,
            separator,
        } = self;
        let part = |record| record::field(record, number, separator);
        some_of_each(records, splitter, block, f, part, |_| ())
    }
}

/// The records of [`field_whitespace`](DStream::field_whitespace).
#[derive(Clone)]
pub struct FieldWhitespace<R> {
    records: R,
    number: usize,
}

debug_fields!([R] FieldWhitespace<R>, "FieldWhitespace", number);

impl<R: Records> FieldWhitespace<R> {
    /// The numbered field of each of `records`, the first one being 0.
    pub fn of(records: R, number: usize) -> Self {
        FieldWhitespace { records, number }
    }
}

impl<R: Records> Records for FieldWhitespace<R> {
    fn rule(&self) -> Rule {
        self.records.rule()
    }

    #[inline]
    fn for_each<'b, F>(&self, splitter: &mut Splitter, block: &'b [u8], f: F) -> Tallied
    where
        F: FnMut(&'b [u8]),
    {
        let part = |record| record::word(record, self.number);
        some_of_each(&self.records, splitter, block, f, part, |_| ())
    }
}

/// The records of [`part_or`](DStream::part_or).
#[derive(Clone)]
pub struct PartOr<R, F> {
    records: R,
    rule: Rule,
    number: usize,
    missing: F,
}

debug_fields!([R, F] PartOr<R, F>, "PartOr", rule, number);

impl<R, F> PartOr<R, F>
where
    R: Records,
    F: Fn(&[u8]) + Clone + Send + Sync + 'static,
{
    /// The numbered part of each of `records`, the first one being 0; `missing` is called with each that has none.
    pub fn of(records: R, rule: Rule, number: usize, missing: F) -> Self {
        PartOr {
            records,
            rule,
            number,
            missing,
        }
    }
}

impl<R, M> Records for PartOr<R, M>
where
    R: Records,
    M: Fn(&[u8]) + Clone + Send + Sync + 'static,
{
    fn rule(&self) -> Rule {
        self.records.rule()
    }

    #[inline]
    fn for_each<'b, F>(&self, splitter: &mut Splitter, block: &'b [u8], f: F) -> Tallied
    where
        F: FnMut(&'b [u8]),
    {
        let &PartOr {
            ref records,
            rule,
            number,
            ref missing,
        } = self;
        // A loop for each rule: the rule is not asked for again with each record.
        match rule {
            Rule::Split(separator) => {
                let part = |record| record::field(record, number, separator);
                some_of_each(records, splitter, block, f, part, missing)
            }
            Rule::SplitWhitespace => {
                let part = |record| record::word(record, number);
                some_of_each(records, splitter, block, f, part, missing)
            }
            Rule::Lines => {
                let part = |record| rule.part(record, number);
                some_of_each(records, splitter, block, f, part, missing)
            }
        }
    }
}

/// Calls `f` with what `part` finds in each record, and `missing` with each record in which it finds nothing.
#[inline]
fn some_of_each<'b, R: Records>(
    records: &R,
    splitter: &mut Splitter,
    block: &'b [u8],
    mut f: impl FnMut(&'b [u8]),
    part: impl Fn(&'b [u8]) -> Option<&'b [u8]>,
    missing: impl Fn(&'b [u8]),
) -> Tallied {
    let mut tokens = 0;
    let tallied = records.for_each(splitter, block, |record| {
        if let Some(part) = part(record) {
            tokens += 1;
            f(part);
        } else {
            missing(record);
        }
    });
    Tallied { tokens, ..tallied }
}
