//! `map_values`, `flat_map_values`: new values for the same keys.

use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::rdd_stream::RddStream;

impl<K: Record + Clone, V: Record> RddStream<(K, V)> {
    /// Makes a value of each value, with the same key: Spark's `mapValues`.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// let batch = vec![("a", 1), ("b", 2)];
    /// let negative = run_batches([batch], |pairs| Ok(pairs.map_values(|n| -n)))?;
    /// assert_eq!(negative, [[("a", -1), ("b", -2)]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn map_values<W: Record>(&self, f: impl Fn(&V) -> W + Send + 'static) -> RddStream<(K, W)> {
        self.derive("map_values", move |rdd| rdd.map_values(&f))
    }

    /// Makes any number of values of each value, with the same key: Spark's `flatMapValues`.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// let batch = vec![("a", 1), ("b", 2)];
    /// let below = run_batches([batch], |pairs| Ok(pairs.flat_map_values(|n| 0..*n)))?;
    /// assert_eq!(below, [[("a", 0), ("b", 0), ("b", 1)]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn flat_map_values<W: Record, I: IntoIterator<Item = W>>(
        &self,
        f: impl Fn(&V) -> I + Send + 'static,
    ) -> RddStream<(K, W)> {
        self.derive("flat_map_values", move |rdd| rdd.flat_map_values(&f))
    }
}

impl<K: Clone, V> Rdd<(K, V)> {
    /// Makes a value of each value, with the same key.
    pub fn map_values<W>(&self, f: impl Fn(&V) -> W) -> Rdd<(K, W)> {
        self.map(|(key, value)| (key.clone(), f(value)))
    }

    /// Makes any number of values of each value, with the same key.
    pub fn flat_map_values<W, I: IntoIterator<Item = W>>(
        &self,
        f: impl Fn(&V) -> I,
    ) -> Rdd<(K, W)> {
        self.flat_map(|(key, value)| {
            let values = f(value).into_iter();
            values.map(|value| (key.clone(), value)).collect::<Vec<_>>()
        })
    }
}
