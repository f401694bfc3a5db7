//! `flat_map`: a record becomes any number of records.

use crate::shard::stage::{Records, Tokens};
use crate::split::{Rule, Splitter, Tallied};
use crate::stream::context::DStream;

/// Python's `line.split(" ")` for one separator byte: every separator separates, empty words count, and
/// an empty line is one empty word.
///
/// ```
/// use microtally::prelude::*;
/// assert_eq!(split(b' '), microtally::Rule::Split(b' '));
/// ```
pub fn split(separator: u8) -> Rule {
    Rule::Split(separator)
}

/// Python's `line.split()` for ASCII: runs of space, `\t`, `\n`, `\v`, `\f`, `\r` separate, and there are
/// no empty words.
///
/// ```
/// use microtally::prelude::*;
/// assert_eq!(split_whitespace(), microtally::Rule::SplitWhitespace);
/// ```
pub fn split_whitespace() -> Rule {
    Rule::SplitWhitespace
}

impl<'c> DStream<'c, Tokens> {
    /// Splits lines into words: Spark's `flatMap(lambda line: line.split(" "))`. Runs as vector code
    /// over whole blocks.
    ///
    /// On a stream of words it splits their lines by the new rule.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(5))?;
    /// let lines = ssc.socket_text_stream("localhost", 9999)?;
    /// lines.flat_map(split(b' ')).count_by_value().pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    pub fn flat_map(&self, rule: Rule) -> DStream<'c, Tokens> {
        DStream {
            context: self.context,
            stream: self.stream,
            records: Tokens(rule),
        }
    }
}

impl<'c, R: Records> DStream<'c, R> {
    /// Calls `f` with each record; what it emits are the records of the new stream. They are slices of
    /// the record, so nothing is copied; emitting costs one indirect call.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(5))?;
    /// let lines = ssc.socket_text_stream("localhost", 9999)?;
    /// let errors = lines.flat_map_with(|line, out| {
    ///     if let Some(host) = line.strip_prefix(b"ERROR ") {
    ///         out.emit(host);
    ///     }
    /// });
    /// errors.count_by_value().pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    pub fn flat_map_with<F>(&self, f: F) -> DStream<'c, FlatMapWith<R, F>>
    where
        F: for<'b> Fn(&'b [u8], &mut Emitter<'_, 'b>) + Clone + Send + Sync + 'static,
    {
        let records = FlatMapWith {
            records: self.records.clone(),
            f,
        };
        DStream {
            context: self.context,
            stream: self.stream,
            records,
        }
    }
}

/// Takes the records a [`flat_map_with`](DStream::flat_map_with) function makes of one record.
pub struct Emitter<'e, 'b> {
    emit: &'e mut dyn FnMut(&'b [u8]),
}

impl<'b> Emitter<'_, 'b> {
    /// Adds a record: a slice of the record at hand, or bytes that live as long.
    #[inline]
    pub fn emit(&mut self, record: &'b [u8]) {
        (self.emit)(record);
    }
}

/// The records of [`flat_map_with`](DStream::flat_map_with).
#[derive(Clone)]
pub struct FlatMapWith<R, F> {
    records: R,
    f: F,
}

impl<R, F> Records for FlatMapWith<R, F>
where
    R: Records,
    F: for<'b> Fn(&'b [u8], &mut Emitter<'_, 'b>) + Clone + Send + Sync + 'static,
{
    fn rule(&self) -> Rule {
        self.records.rule()
    }

    fn for_each<'b, G>(&self, splitter: &mut Splitter, block: &'b [u8], mut f: G) -> Tallied
    where
        G: FnMut(&'b [u8]),
    {
        let mut tokens = 0;
        let mut emit = |record| {
            tokens += 1;
            f(record);
        };
        let tallied = self.records.for_each(splitter, block, |record| {
            (self.f)(record, &mut Emitter { emit: &mut emit });
        });
        Tallied { tokens, ..tallied }
    }
}
