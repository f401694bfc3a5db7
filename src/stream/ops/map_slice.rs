//! `map_slice`: a record becomes a part of itself.

use crate::shard::stage::Records;
use crate::stream::program::context::DStream;

impl<'c, R: Records> DStream<'c, R> {
    /// Makes a slice of each record: Spark's `map(lambda line: line[:3])`.
    ///
    /// `f` returns a part of the record, or bytes that live as long. Nothing is copied; the call is
    /// compiled into the loop over the records. [`map`](Self::map) adds a value to a key, and
    /// [`map_to`](Self::map_to) makes records of any type.
    ///
    /// ```
    /// use microtally::stream::run_lines;
    /// let words = run_lines("to be.\n", |lines| {
    ///     let words = lines.split(b' ');
    ///     Ok(words.map_slice(|word| word.strip_suffix(b".").unwrap_or(word)).records())
    /// })?;
    /// assert_eq!(words, [b"to", b"be"]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn map_slice<F>(&self, f: F) -> DStream<'c, impl Records + use<R, F>>
    where
        F: Fn(&[u8]) -> &[u8] + Clone + Send + Sync + 'static,
    {
        self.filter_map(move |record| Some(f(record)))
    }
}
