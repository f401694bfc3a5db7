//! `map_key`, `map_key_with`: each record becomes a newly made key and a value.

use crate::shard::stage::Records;
use crate::stream::plan::lower::FoldTables;
use crate::stream::program::dstream::DStream;
use crate::stream::program::reduced::Reduced;
use crate::table::add;

impl<R: Records> DStream<R> {
    /// Makes a key and a value of each record, where the key need not be in the record: Spark's
    /// `map(lambda line: (f(line), 1))`.
    ///
    /// `map` writes the key into an empty buffer and returns the value. A record for which it
    /// returns `None` is skipped. The buffer is reused, so nothing is allocated for a known key.
    /// [`map`](Self::map) is faster for keys that are slices of their records.
    ///
    /// ```
    /// use microtally::stream::run_lines;
    /// let counts = run_lines("To be\nto  be", |lines| {
    ///     let lower_case = lines.split(b' ').map_key(|word, key| {
    ///         key.extend(word.iter().map(u8::to_ascii_lowercase));
    ///         (!word.is_empty()).then_some(1)
    ///     });
    ///     Ok(lower_case.reduce_by_key(|a, b| a + b).top(10))
    /// })?;
    /// assert_eq!(counts, [("be".into(), 2), ("to".into(), 2)]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    #[allow(clippy::type_complexity)] // It is nowhere else, and says what `reduce_by_key` requires.
    pub fn map_key<V, M>(
        &self,
        map: M,
    ) -> MapKey<R, fn(), impl Fn(&mut (), &[u8], &mut Vec<u8>) -> Option<V> + Send + Sync + 'static>
    where
        V: Copy + Send + Sync + 'static,
        M: Fn(&[u8], &mut Vec<u8>) -> Option<V> + Send + Sync + 'static,
    {
        fn nothing() {}
        self.map_key_with(nothing as fn(), move |(), record, key| map(record, key))
    }

    /// As [`map_key`](Self::map_key), but `map` also gets a state of its shard to work with: a
    /// parser, a buffer. Spark's `mapPartitions` is used for that.
    ///
    /// `init` makes the state of each shard, and a new one after `map` has panicked. The state must
    /// not change the result, because any shard may get any record.
    ///
    /// ```
    /// use microtally::stream::run_lines;
    /// let anagrams = run_lines("tea\neat\nto", |lines| {
    ///     let letters = lines.map_key_with(Vec::new, |letters, line, key| {
    ///         letters.clear();
    ///         letters.extend_from_slice(line);
    ///         letters.sort_unstable();
    ///         key.extend_from_slice(letters);
    ///         Some(1)
    ///     });
    ///     Ok(letters.reduce_by_key(|a, b| a + b).top(10))
    /// })?;
    /// assert_eq!(anagrams, [("aet".into(), 2), ("ot".into(), 1)]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn map_key_with<S, V, I, M>(&self, init: I, map: M) -> MapKey<R, I, M>
    where
        S: Send + 'static,
        V: Copy + Send + Sync + 'static,
        I: Fn() -> S + Send + Sync + 'static,
        M: Fn(&mut S, &[u8], &mut Vec<u8>) -> Option<V> + Send + Sync + 'static,
    {
        MapKey {
            stream: self.with("map_key", self.records.clone()),
            init,
            map,
        }
    }
}

/// A stream of newly made keys and values, made by [`map_key`](DStream::map_key).
pub struct MapKey<R, I, M> {
    pub(crate) stream: DStream<R>,
    pub(crate) init: I,
    pub(crate) map: M,
}

debug_fields!([R, I, M] MapKey<R, I, M>, "MapKey", stream);

impl<R: Records, I, M> MapKey<R, I, M> {
    /// Names this stream; see [`DStream::named`].
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        MapKey {
            stream: self.stream.named(name),
            ..self
        }
    }

    /// Folds the values of each key of a batch: Spark's `reduceByKey`. See
    /// [`PairStream::reduce_by_key`](crate::stream::PairStream::reduce_by_key).
    ///
    /// The batch's tokens are the records that were not skipped. [`map_key`](DStream::map_key) has
    /// an example.
    pub fn reduce_by_key<S, V, F>(self, reduce: F) -> Reduced<V>
    where
        S: Send + 'static,
        V: Copy + Send + Sync + 'static,
        I: Fn() -> S + Send + Sync + 'static,
        M: Fn(&mut S, &[u8], &mut Vec<u8>) -> Option<V> + Send + Sync + 'static,
        F: Fn(V, V) -> V + Send + Sync + 'static,
    {
        let MapKey { stream, init, map } = self;
        stream.computed("reduce_by_key", init, map, reduce, FoldTables::any())
    }

    /// Counts the records of each key: [`reduce_by_key`](Self::reduce_by_key) with sums of ones.
    ///
    /// With a memory limit it is as exact as [`count_by_value`](DStream::count_by_value).
    ///
    /// ```
    /// use microtally::stream::run_lines;
    /// let counts = run_lines("ab\nab\n", |lines| {
    ///     let reversed = lines.map_key(|line, key| Some(key.extend(line.iter().rev())));
    ///     Ok(reversed.count_by_key().top(10))
    /// })?;
    /// assert_eq!(counts, [("ba".into(), 2)]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn count_by_key<S>(self) -> Reduced<u64>
    where
        S: Send + 'static,
        I: Fn() -> S + Send + Sync + 'static,
        M: Fn(&mut S, &[u8], &mut Vec<u8>) -> Option<()> + Send + Sync + 'static,
    {
        let MapKey { stream, init, map } = self;
        let ones = move |state: &mut S, record: &[u8], key: &mut Vec<u8>| {
            map(state, record, key).map(|()| 1u64)
        };
        stream.computed("count_by_key", init, ones, add, FoldTables::ones())
    }
}
