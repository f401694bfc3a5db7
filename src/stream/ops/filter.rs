//! `filter`, `map_slice`, and what they and `field` are made of: of each record a part, or nothing.

use crate::shard::stage::Records;
use crate::split::{BlockBytes, Rule, Splitter, Tallied};
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::dstream::DStream;
use crate::stream::program::rdd_stream::RddStream;

impl<R: Records> DStream<R> {
    /// Keeps the records for which `is_wanted` returns `true`: Spark's `filter`.
    ///
    /// Nothing is copied, and the call is compiled into the loop over the records.
    ///
    /// ```
    /// use microtally::stream::run_lines;
    /// let worked = run_lines("/a 200\n/b 404\n/c 200", |lines| {
    ///     Ok(lines.filter(|line| line.ends_with(b" 200")).field(0, b' ').records())
    /// })?;
    /// assert_eq!(worked, [b"/a", b"/c"]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn filter<P>(&self, is_wanted: P) -> DStream<impl Records + use<R, P>>
    where
        P: Fn(&[u8]) -> bool + Clone + Send + Sync + 'static,
    {
        self.filter_map("filter", move |record| is_wanted(record).then_some(record))
    }

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
    pub fn map_slice<F>(&self, f: F) -> DStream<impl Records + use<R, F>>
    where
        F: Fn(&[u8]) -> &[u8] + Clone + Send + Sync + 'static,
    {
        self.filter_map("map_slice", move |record| Some(f(record)))
    }

    /// Makes a slice, or nothing, of each record.
    pub(crate) fn filter_map<F>(&self, kind: &'static str, f: F) -> DStream<FilterMap<R, F>>
    where
        F: for<'b> Fn(&'b [u8]) -> Option<&'b [u8]> + Clone + Send + Sync + 'static,
    {
        self.with(kind, FilterMap::of(self.records.clone(), f))
    }
}

impl<T: Record + Clone> RddStream<T> {
    /// Keeps the records for which `is_wanted` returns `true`: Spark's `filter`.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// let even = run_batches([vec![1, 2, 3, 4]], |numbers| Ok(numbers.filter(|n| n % 2 == 0)))?;
    /// assert_eq!(even, [[2, 4]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn filter(&self, is_wanted: impl Fn(&T) -> bool + Send + 'static) -> RddStream<T> {
        self.derive("filter", move |rdd| rdd.filter(&is_wanted))
    }
}

impl<T: Clone> Rdd<T> {
    /// The records for which `is_wanted` returns `true`.
    pub fn filter(&self, is_wanted: impl Fn(&T) -> bool) -> Rdd<T> {
        self.each_partition(|records| {
            let wanted = records.iter().filter(|record| is_wanted(record));
            wanted.cloned().collect()
        })
    }
}

/// The records that a function finds in records: a slice of each, or nothing.
#[derive(Clone)]
pub struct FilterMap<R, F> {
    records: R,
    f: F,
}

debug_fields!([R, F] FilterMap<R, F>, "FilterMap");

impl<R: Records, F> FilterMap<R, F>
where
    F: for<'b> Fn(&'b [u8]) -> Option<&'b [u8]> + Clone + Send + Sync + 'static,
{
    /// What `f` returns for each of `records`, if anything.
    pub fn of(records: R, f: F) -> Self {
        FilterMap { records, f }
    }
}

impl<R: Records, F> Records for FilterMap<R, F>
where
    F: for<'b> Fn(&'b [u8]) -> Option<&'b [u8]> + Clone + Send + Sync + 'static,
{
    fn rule(&self) -> Rule {
        self.records.rule()
    }

    #[inline]
    fn for_each<'b, G>(&self, splitter: &mut Splitter, block: BlockBytes<'b>, mut g: G) -> Tallied
    where
        G: FnMut(&'b [u8]),
    {
        let mut tokens = 0;
        let tallied = self.records.for_each(splitter, block, |record| {
            if let Some(found) = (self.f)(record) {
                tokens += 1;
                g(found);
            }
        });
        Tallied { tokens, ..tallied }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::stage::Tokens;
    use crate::split::Kernel;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_kept_is_what_a_loop_keeps(lines in proptest::collection::vec("[ab ]{0,9}", 0..60)) {
            let block: Vec<u8> = lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect();
            let words = lines.iter().flat_map(|line| line.split(' '));
            let expected: Vec<&str> = words.filter(|word| word.contains('b')).filter(|w| w.len() > 2).collect();

            // One around the other: the inner one's records are all that the outer one sees.
            let with_b = FilterMap::of(Tokens::new(Rule::Split(b' ')), |word| word.contains(&b'b').then_some(word));
            let long = FilterMap::of(with_b, |word| (word.len() > 2).then_some(word));
            let mut splitter = Splitter::new(long.rule(), Kernel::detect());
            let mut kept = Vec::new();
            let tallied = long.for_each(&mut splitter, (&block).into(), |word| kept.push(word));
            prop_assert_eq!(tallied.tokens, kept.len() as u64);
            prop_assert_eq!(tallied.records, lines.len() as u64);
            prop_assert!(kept.into_iter().eq(expected.into_iter().map(str::as_bytes)));
        }
    }
}
