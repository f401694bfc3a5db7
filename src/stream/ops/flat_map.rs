//! `flat_map`: a record becomes any number of records.

use crate::shard::stage::{Records, Tokens};
use crate::split::{BlockBytes, Rule, Splitter, Tallied};
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::dstream::DStream;
use crate::stream::program::rdd_stream::RddStream;

/// The rule of Python's `line.split(" ")`, for a separator of one byte.
///
/// Every separator separates, empty words count, and an empty line is one empty word.
///
/// ```
/// use microtally::prelude::*;
/// assert_eq!(split(b' '), microtally::Rule::Split(b' '));
/// ```
pub fn split(separator: u8) -> Rule {
    Rule::Split(separator)
}

/// The rule of Python's `line.split()`, for ASCII.
///
/// Runs of space, `\t`, `\n`, `\v`, `\f` and `\r` separate, so there are no empty words.
///
/// ```
/// use microtally::prelude::*;
/// assert_eq!(split_whitespace(), microtally::Rule::SplitWhitespace);
/// ```
pub fn split_whitespace() -> Rule {
    Rule::SplitWhitespace
}

impl<R: Records> DStream<R> {
    /// Splits each record by `rule`: Spark's `flatMap(lambda line: line.split(" "))`.
    ///
    /// Lines are split by vector code, whole blocks at once. Other records are split one by one,
    /// which costs a search for each word.
    ///
    /// ```
    /// use microtally::prelude::*;
    /// use microtally::stream::run_lines;
    /// let words = run_lines("to be,or\nnot", |lines| {
    ///     Ok(lines.flat_map(split_whitespace()).flat_map(split(b',')).records())
    /// })?;
    /// assert_eq!(words, [&b"to"[..], b"be", b"or", b"not"]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// A record that is not a line may contain line ends, from [`map_slice`](Self::map_slice) or
    /// [`flat_map_with`](Self::flat_map_with). It is split as Python splits `bytes`: by
    /// `split(separator)` and `split()`, and for [`Rule::Lines`] by `splitlines()`, except that an
    /// empty record is one empty line.
    pub fn flat_map(&self, rule: Rule) -> DStream<Tokens<R>> {
        self.with("flat_map", Tokens::of(self.records.clone(), rule))
    }

    /// Splits each record at every `separator`: [`flat_map`](Self::flat_map) with [`split`].
    ///
    /// ```
    /// use microtally::stream::run_lines;
    /// let words = run_lines("a  b\n", |lines| Ok(lines.split(b' ').records()))?;
    /// assert_eq!(words, [&b"a"[..], b"", b"b"]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn split(&self, separator: u8) -> DStream<Tokens<R>> {
        self.flat_map(split(separator))
    }

    /// Splits each record at runs of blanks: [`flat_map`](Self::flat_map) with
    /// [`split_whitespace`].
    ///
    /// ```
    /// use microtally::stream::run_lines;
    /// let words = run_lines("a  b\n", |lines| Ok(lines.split_whitespace().records()))?;
    /// assert_eq!(words, [b"a", b"b"]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn split_whitespace(&self) -> DStream<Tokens<R>> {
        self.flat_map(split_whitespace())
    }

    /// Makes any number of records of each record, those that `f` emits: Spark's `flatMap` with a
    /// function.
    ///
    /// What is emitted are slices of the record, so nothing is copied. Each costs one indirect
    /// call.
    ///
    /// ```
    /// use microtally::stream::run_lines;
    /// let hosts = run_lines("ERROR web1\nINFO web2", |lines| {
    ///     let hosts = lines.flat_map_with(|line, out| {
    ///         if let Some(host) = line.strip_prefix(b"ERROR ") {
    ///             out.emit(host);
    ///         }
    ///     });
    ///     Ok(hosts.records())
    /// })?;
    /// assert_eq!(hosts, [b"web1"]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn flat_map_with<F>(&self, f: F) -> DStream<FlatMapWith<R, F>>
    where
        F: for<'b> Fn(&'b [u8], &mut Emitter<'_, 'b>) + Clone + Send + Sync + 'static,
    {
        let records = self.records.clone();
        self.with("flat_map_with", FlatMapWith { records, f })
    }
}

impl<T: Record> RddStream<T> {
    /// Makes any number of records of each record: Spark's `flatMap`.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// let repeated = run_batches([vec![1, 2]], |numbers| Ok(numbers.flat_map(|n| vec![*n; *n])))?;
    /// assert_eq!(repeated, [[1, 2, 2]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn flat_map<U: Record, I: IntoIterator<Item = U>>(
        &self,
        f: impl Fn(&T) -> I + Send + 'static,
    ) -> RddStream<U> {
        self.derive("flat_map", move |rdd| rdd.flat_map(&f))
    }
}

impl<T> Rdd<T> {
    /// Makes any number of records of each record.
    pub fn flat_map<U, I: IntoIterator<Item = U>>(&self, f: impl Fn(&T) -> I) -> Rdd<U> {
        self.each_partition(|records| records.iter().flat_map(&f).collect())
    }
}

/// Receives the records that the function of [`flat_map_with`](DStream::flat_map_with) makes of one
/// record.
pub struct Emitter<'e, 'b> {
    emit: &'e mut dyn FnMut(&'b [u8]),
}

debug_fields!([] Emitter<'_, '_>, "Emitter");

impl<'b> Emitter<'_, 'b> {
    /// Adds a record: a slice of the current record, or bytes that live as long.
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

    fn for_each<'b, G>(&self, splitter: &mut Splitter, block: BlockBytes<'b>, mut f: G) -> Tallied
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
