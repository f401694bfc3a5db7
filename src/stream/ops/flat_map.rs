//! `flat_map`: a record becomes any number of records.

use crate::shard::stage::{Records, Tokens};
use crate::split::{Rule, Splitter, Tallied};
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::context::DStream;
use crate::stream::program::rdd_stream::RddStream;

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

impl<'c, R: Records> DStream<'c, R> {
    /// Splits each record: Spark's `flatMap(lambda line: line.split(" "))`. Lines are split by vector code,
    /// whole blocks at once; other records one by one, which costs a search for each word.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(5))?;
    /// let lines = ssc.socket_text_stream("localhost", 9999)?;
    /// lines.flat_map(split(b' ')).count_by_value().pprint(10);
    /// // Of lines such as `x,y z`: the words of the first field, then of those what dashes separate.
    /// let words = lines.field(0, b',').flat_map(split_whitespace());
    /// words.flat_map(split(b'-')).count_by_value().pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    ///
    /// A record that is no line may hold a line end, if [`map_slice`](Self::map_slice) or
    /// [`flat_map_with`](Self::flat_map_with) brought one in. Python's methods of `bytes` say what is made
    /// of it: `split(separator)` and `split()`, and for [`Rule::Lines`] `splitlines()`, but that an empty
    /// record is one empty line.
    pub fn flat_map(&self, rule: Rule) -> DStream<'c, Tokens<R>> {
        self.with(Tokens::of(self.records.clone(), rule))
    }

    /// Splits each record at every `separator`: [`flat_map`](Self::flat_map) with [`split`].
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(5))?;
    /// ssc.socket_text_stream("localhost", 9999)?.split(b' ').count_by_value().pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    pub fn split(&self, separator: u8) -> DStream<'c, Tokens<R>> {
        self.flat_map(split(separator))
    }

    /// Splits each record at runs of blanks: [`flat_map`](Self::flat_map) with [`split_whitespace`].
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(5))?;
    /// ssc.socket_text_stream("localhost", 9999)?.split_whitespace().count_by_value().pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    pub fn split_whitespace(&self) -> DStream<'c, Tokens<R>> {
        self.flat_map(split_whitespace())
    }

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
        let records = self.records.clone();
        self.with(FlatMapWith { records, f })
    }
}

impl<'c, T: Record> RddStream<'c, T> {
    /// Makes any number of records of each record: Spark's `flatMap`.
    pub fn flat_map<U: Record, I: IntoIterator<Item = U>>(
        &self,
        f: impl Fn(&T) -> I + Send + 'static,
    ) -> RddStream<'c, U> {
        self.derive("flat_map", move |rdd| rdd.flat_map(&f))
    }
}

impl<T> Rdd<T> {
    /// Makes any number of records of each record.
    pub fn flat_map<U, I: IntoIterator<Item = U>>(&self, f: impl Fn(&T) -> I) -> Rdd<U> {
        self.each_partition(|records| records.iter().flat_map(&f).collect())
    }
}

/// Takes the records a [`flat_map_with`](DStream::flat_map_with) function makes of one record.
pub struct Emitter<'e, 'b> {
    emit: &'e mut dyn FnMut(&'b [u8]),
}

debug_fields!([] Emitter<'_, '_>, "Emitter");

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

debug_fields!([R, F] FlatMapWith<R, F>, "FlatMapWith");

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
