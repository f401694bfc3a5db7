//! `map_key`, `map_key_with`: a record becomes a key that is made, and a value.

use crate::shard::stage::Records;
use crate::stream::plan::lower::{Values, computed};
use crate::stream::program::context::DStream;
use crate::stream::program::reduced::Reduced;
use crate::table::add;

impl<'c, R: Records> DStream<'c, R> {
    /// Makes a key and a value of each record, the key being bytes that need not be in the record: Spark's
    /// `map(lambda line: (f(line), 1))`. `map` puts the key behind what it is given, which is empty, and
    /// returns its value; a record for which it returns nothing has no key and is left out.
    ///
    /// The key is made in memory that is used again for the next one, so nothing is allocated for a key that
    /// is known. [`map`](Self::map) is faster for keys that are slices of their records.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(5))?;
    /// let words = ssc.socket_text_stream("localhost", 9999)?.flat_map(split(b' '));
    /// let lower_case = words.map_key(|word, key| {
    ///     key.extend(word.iter().map(u8::to_ascii_lowercase));
    ///     (!word.is_empty()).then_some(1u64)
    /// });
    /// lower_case.reduce_by_key(|a, b| a + b).pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    #[allow(clippy::type_complexity)] // It is nowhere else, and says what `reduce_by_key` asks for.
    pub fn map_key<V, M>(
        &self,
        map: M,
    ) -> MapKey<
        'c,
        R,
        fn(),
        impl Fn(&mut (), &[u8], &mut Vec<u8>) -> Option<V> + Send + Sync + 'static,
    >
    where
        V: Copy + Send + Sync + 'static,
        M: Fn(&[u8], &mut Vec<u8>) -> Option<V> + Send + Sync + 'static,
    {
        fn nothing() {}
        self.map_key_with(nothing as fn(), move |(), record, key| map(record, key))
    }

    /// As [`map_key`](Self::map_key), with something that `map` may change from record to record: a parser,
    /// memory to work in. `init` makes one for each shard, and a new one after `map` has panicked. What is
    /// kept in it must not change the result: which shard a record gets to is left to chance.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(5))?;
    /// let lines = ssc.socket_text_stream("localhost", 9999)?;
    /// // Lines whose letters are the same, in any order.
    /// let letters = lines.map_key_with(Vec::new, |sorted, line, key| {
    ///     sorted.clear();
    ///     sorted.extend_from_slice(line);
    ///     sorted.sort_unstable();
    ///     key.extend_from_slice(sorted);
    ///     Some(1u64)
    /// });
    /// letters.reduce_by_key(|a, b| a + b).pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    pub fn map_key_with<S, V, I, M>(&self, init: I, map: M) -> MapKey<'c, R, I, M>
    where
        S: Send + 'static,
        V: Copy + Send + Sync + 'static,
        I: Fn() -> S + Send + Sync + 'static,
        M: Fn(&mut S, &[u8], &mut Vec<u8>) -> Option<V> + Send + Sync + 'static,
    {
        MapKey {
            stream: self.clone(),
            init,
            map,
        }
    }
}

/// A stream of keys that are made, and values; see [`map_key`](DStream::map_key).
pub struct MapKey<'c, R, I, M> {
    stream: DStream<'c, R>,
    init: I,
    map: M,
}

debug_fields!(['c, R, I, M] MapKey<'c, R, I, M>, "MapKey", stream);

impl<'c, R: Records, I, M> MapKey<'c, R, I, M> {
    /// Folds the values of each key of a batch, as [`reduce_by_key`](crate::stream::Pairs::reduce_by_key) does:
    /// `reduce` must be associative and commutative. The batch's tokens are the records that had a key.
    pub fn reduce_by_key<S, V, F>(self, reduce: F) -> Reduced<'c, V>
    where
        S: Send + 'static,
        V: Copy + Send + Sync + 'static,
        I: Fn() -> S + Send + Sync + 'static,
        M: Fn(&mut S, &[u8], &mut Vec<u8>) -> Option<V> + Send + Sync + 'static,
        F: Fn(V, V) -> V + Send + Sync + 'static,
    {
        let MapKey { stream, init, map } = self;
        let (number, records) = (stream.stream, stream.records);
        let node = computed(number, records, init, map, reduce, Values::any());
        stream.context.reduced("reduce_by_key", node)
    }

    /// Counts the records of each key: what [`reduce_by_key`](Self::reduce_by_key) makes of ones, and with a
    /// memory limit as exact as [`count_by_value`](DStream::count_by_value).
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(5))?;
    /// let lines = ssc.socket_text_stream("localhost", 9999)?;
    /// lines.map_key(|line, key| Some(key.extend(line.iter().rev()))).count_by_key().pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    pub fn count_by_key<S>(self) -> Reduced<'c, u64>
    where
        S: Send + 'static,
        I: Fn() -> S + Send + Sync + 'static,
        M: Fn(&mut S, &[u8], &mut Vec<u8>) -> Option<()> + Send + Sync + 'static,
    {
        let MapKey { stream, init, map } = self;
        let ones = move |state: &mut S, record: &[u8], key: &mut Vec<u8>| {
            map(state, record, key).map(|()| 1u64)
        };
        let (number, records) = (stream.stream, stream.records);
        let node = computed(number, records, init, ones, add, Values::ones());
        stream.context.reduced("count_by_key", node)
    }
}
