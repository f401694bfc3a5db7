//! `map_slice`: a record becomes a part of itself.

use crate::shard::stage::Records;
use crate::split::{Rule, Splitter, Tallied};
use crate::stream::program::context::DStream;

impl<'c, R: Records> DStream<'c, R> {
    /// Makes a slice of each record: Spark's `map(lambda line: line[:3])`, where what comes out is a part
    /// of what went in, or bytes that live as long. Nothing is copied; `f` is compiled into the loop over
    /// the records. Keys are extracted with it; [`map`](Self::map) gives them a value,
    /// [`map_to`](Self::map_to) makes anything of a record, by copying.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(5))?;
    /// let words = ssc.socket_text_stream("localhost", 9999)?.split(b' ');
    /// let bare = words.map_slice(|word| word.trim_ascii().strip_suffix(b".").unwrap_or(word));
    /// bare.filter(|word| !word.is_empty()).count_by_value().pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    pub fn map_slice<F>(&self, f: F) -> DStream<'c, MapSlice<R, F>>
    where
        F: Fn(&[u8]) -> &[u8] + Clone + Send + Sync + 'static,
    {
        let records = self.records.clone();
        self.with(MapSlice { records, f })
    }
}

/// The records of [`map_slice`](DStream::map_slice).
#[derive(Clone)]
pub struct MapSlice<R, F> {
    records: R,
    f: F,
}

debug_fields!([R, F] MapSlice<R, F>, "MapSlice");

impl<R, F> Records for MapSlice<R, F>
where
    R: Records,
    F: Fn(&[u8]) -> &[u8] + Clone + Send + Sync + 'static,
{
    fn rule(&self) -> Rule {
        self.records.rule()
    }

    #[inline]
    fn for_each<'b, G>(&self, splitter: &mut Splitter, block: &'b [u8], mut g: G) -> Tallied
    where
        G: FnMut(&'b [u8]),
    {
        self.records
            .for_each(splitter, block, |record| g((self.f)(record)))
    }
}
