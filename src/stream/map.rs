//! `map`: a record becomes a key and a value.

use crate::epoch::snapshot::Value;
use crate::shard::stage::Records;
use crate::stream::context::DStream;

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
        V: Value,
        M: Fn(&[u8]) -> (&[u8], V) + Send + Sync + 'static,
    {
        Pairs {
            stream: self.clone(),
            map,
        }
    }
}

/// A stream of keys and values; see [`reduce_by_key`](Pairs::reduce_by_key).
pub struct Pairs<'c, R, M> {
    pub(super) stream: DStream<'c, R>,
    pub(super) map: M,
}
