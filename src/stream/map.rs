//! `map`: a record becomes a key and a value.

use std::sync::Arc;

use crate::ring::arena::Block;
use crate::shard::stage::Records;
use crate::split::{Splitter, Tallied};
use crate::stream::context::DStream;
use crate::stream::lower::Gather;
use crate::stream::rdd::{Rdd, Record};
use crate::stream::rdd_stream::RddStream;

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
    /// order of arrival.
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
        self.context.gathered(
            "map_to",
            self.stream,
            self.records.clone(),
            MapTo(f),
            |blocks, _| Some(in_order(blocks)),
        )
    }

    /// Copies the records out of the shards: the way to everything the batch plane has.
    pub fn records(&self) -> RddStream<'c, Vec<u8>> {
        self.map_to(<[u8]>::to_vec)
    }
}

/// What was made of each block, with the block's place in the order of arrival.
pub(super) type Blocks<T> = Vec<(u64, Arc<Vec<T>>)>;

/// A partition a block, in the order of arrival.
pub(super) fn in_order<T>(mut blocks: Blocks<T>) -> Rdd<T> {
    blocks.sort_unstable_by_key(|(number, _)| *number);
    Rdd::shared(blocks.into_iter().map(|(_, records)| records))
}

struct MapTo<F>(F);

impl<T: Record, F: Fn(&[u8]) -> T + Send + Sync + 'static> Gather for MapTo<F> {
    type Sum = Blocks<T>;

    fn block<R: Records>(
        &self,
        sum: &mut Blocks<T>,
        records: &R,
        splitter: &mut Splitter,
        block: &Block,
    ) -> Tallied {
        let mut made = Vec::new();
        let tallied = records.for_each(splitter, block.bytes(), |record| {
            made.push((self.0)(record))
        });
        sum.push((block.number(), Arc::new(made)));
        tallied
    }

    fn merge(&self, into: &mut Blocks<T>, from: &Blocks<T>) {
        into.extend_from_slice(from);
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
    pub(super) stream: DStream<'c, R>,
    pub(super) map: M,
}
