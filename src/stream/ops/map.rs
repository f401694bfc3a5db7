//! `map`, `map_to`, `records`: each record becomes a key and a value, or a record of any type.

use crate::shard::stage::Records;
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::dstream::DStream;
use crate::stream::program::rdd_stream::RddStream;

impl<R: Records> DStream<R> {
    /// Makes a key and a value of each record: Spark's `map(lambda word: (word, 1))`.
    ///
    /// The key is a slice of the record, or bytes that live as long. It is copied only when it is
    /// first seen. A fold such as [`reduce_by_key`](PairStream::reduce_by_key) follows.
    /// [`map_key`](Self::map_key) makes keys that are not in the record.
    ///
    /// ```
    /// use microtally::stream::run_lines;
    /// let longest = run_lines("apple ant bee", |lines| {
    ///     let lengths = lines.split(b' ').map(|word| (&word[..1], word.len()));
    ///     Ok(lengths.reduce_by_key(usize::max).top(10))
    /// })?;
    /// assert_eq!(longest, [("a".into(), 5), ("b".into(), 3)]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn map<V, M>(&self, map: M) -> PairStream<R, M>
    where
        V: Copy + Send + Sync + 'static,
        M: Fn(&[u8]) -> (&[u8], V) + Send + Sync + 'static,
    {
        PairStream {
            stream: self.with("map", self.records.clone()),
            map,
        }
    }

    /// Makes a record of any type of each record of bytes: Spark's `map(lambda line: len(line))`.
    ///
    /// `f` is called in the shards. Its results are gathered in the order of arrival; each block
    /// that was read becomes a partition. If `f` panics, the batch fails and the block is kept.
    /// When a window or a state needs the batch later, `f` is called again for the whole block.
    ///
    /// ```
    /// use microtally::stream::run_lines;
    /// assert_eq!(run_lines("a\nbcd\n", |lines| Ok(lines.map_to(|line| line.len())))?, [1, 3]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn map_to<T: Record>(
        &self,
        f: impl Fn(&[u8]) -> T + Send + Sync + 'static,
    ) -> RddStream<T> {
        self.made_per_block("map_to", move |records, splitter, block| {
            let mut made = Vec::new();
            let tallied = records.for_each(splitter, block, |record| made.push(f(record)));
            (made, tallied)
        })
    }

    /// Copies the records out of the shards, in the order of arrival: the way to all operators of
    /// the batch plane.
    ///
    /// ```
    /// use microtally::stream::run_lines;
    /// assert_eq!(run_lines("b\na\n", |lines| Ok(lines.records()))?, [b"b", b"a"]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn records(&self) -> RddStream<Vec<u8>> {
        self.map_to(<[u8]>::to_vec)
    }
}

impl<T: Record> RddStream<T> {
    /// Makes a record of each record: Spark's `map`.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// assert_eq!(run_batches([vec![1, 2]], |numbers| Ok(numbers.map(|n| n * 10)))?, [[10, 20]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn map<U: Record>(&self, f: impl Fn(&T) -> U + Send + 'static) -> RddStream<U> {
        self.derive("map", move |rdd| rdd.map(&f))
    }
}

impl<T> Rdd<T> {
    /// Makes a record of each record.
    pub fn map<U>(&self, f: impl Fn(&T) -> U) -> Rdd<U> {
        self.each_partition(|records| records.iter().map(&f).collect())
    }
}

/// A stream of keys and values, made by [`map`](DStream::map). A fold by key makes a stream of
/// tables of it.
pub struct PairStream<R, M> {
    pub(crate) stream: DStream<R>,
    pub(crate) map: M,
}

debug_fields!([R, M] PairStream<R, M>, "PairStream", stream);

impl<R, M> PairStream<R, M> {
    /// Names this stream; see [`DStream::named`].
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        PairStream {
            stream: self.stream.named(name),
            ..self
        }
    }
}
