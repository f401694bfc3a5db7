//! `map`: a record becomes a key and a value.

use crate::shard::stage::Records;
use crate::split::{Splitter, Tallied};
use crate::stream::plan::lower::PerBlock;
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::context::DStream;
use crate::stream::program::rdd_stream::RddStream;

impl<'c, R: Records> DStream<'c, R> {
    /// Makes a key and a value of each record: Spark's `map(lambda word: (word, 1))`. The key is a slice
    /// of the record, or bytes that live as long; it is copied only when it is first seen.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(5))?;
    /// let words = ssc.socket_text_stream("localhost", 9999)?.flat_map(split(b' '));
    /// let longest = words.map(|word| (&word[..word.len().min(1)], word.len())).reduce_by_key(usize::max);
    /// longest.pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    pub fn map<V, M>(&self, map: M) -> Pairs<'c, R, M>
    where
        V: Copy + Send + Sync + 'static,
        M: Fn(&[u8]) -> (&[u8], V) + Send + Sync + 'static,
    {
        Pairs {
            stream: self.clone(),
            map,
        }
    }

    /// Makes a record of any type of each record of bytes: Spark's `map(lambda line: len(line))`. `f` is
    /// called in the shards; what it gives is gathered, a partition for each block that was read, in the
    /// order of arrival. A block for which it panics is kept until the windows and states that need the batch
    /// have it: then `f` is called again for the whole block.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(5))?;
    /// let lines = ssc.socket_text_stream("localhost", 9999)?;
    /// lines.map_to(|line| line.len()).reduce(usize::max).pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    pub fn map_to<T: Record>(
        &self,
        f: impl Fn(&[u8]) -> T + Send + Sync + 'static,
    ) -> RddStream<'c, T> {
        let (context, records) = (self.context, self.records.clone());
        context.made_per_block("map_to", self.stream, records, MapTo(f))
    }

    /// Copies the records out of the shards: the way to everything the batch plane has.
    pub fn records(&self) -> RddStream<'c, Vec<u8>> {
        self.map_to(<[u8]>::to_vec)
    }
}

struct MapTo<F>(F);

impl<T: Record, F: Fn(&[u8]) -> T + Send + Sync + 'static> PerBlock<T> for MapTo<F> {
    fn make<R: Records>(
        &self,
        records: &R,
        splitter: &mut Splitter,
        block: &[u8],
    ) -> (Vec<T>, Tallied) {
        let mut made = Vec::new();
        let tallied = records.for_each(splitter, block, |record| made.push((self.0)(record)));
        (made, tallied)
    }
}

impl<'c, T: Record> RddStream<'c, T> {
    /// Makes a record of each record: Spark's `map`.
    pub fn map<U: Record>(&self, f: impl Fn(&T) -> U + Send + 'static) -> RddStream<'c, U> {
        self.derive("map", move |rdd| rdd.map(&f))
    }
}

impl<T> Rdd<T> {
    /// Makes a record of each record.
    pub fn map<U>(&self, f: impl Fn(&T) -> U) -> Rdd<U> {
        self.each_partition(|records| records.iter().map(&f).collect())
    }
}

/// A stream of keys and values; see [`reduce_by_key`](Pairs::reduce_by_key).
pub struct Pairs<'c, R, M> {
    pub(crate) stream: DStream<'c, R>,
    pub(crate) map: M,
}

debug_fields!(['c, R, M] Pairs<'c, R, M>, "Pairs", stream);
