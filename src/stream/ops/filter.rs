//! `filter`: the records that are wanted.

use crate::shard::stage::Records;
use crate::split::{Rule, Splitter, Tallied};
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::context::DStream;
use crate::stream::program::rdd_stream::RddStream;

impl<'c, R: Records> DStream<'c, R> {
    /// Keeps the records for which `is_wanted` holds: Spark's `filter`. Nothing is copied, and the call is
    /// compiled into the loop over the records.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(5))?;
    /// let lines = ssc.socket_text_stream("localhost", 9999)?;
    /// lines.filter(|line| line.starts_with(b"ERROR ")).count_by_value().pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    pub fn filter<P>(&self, is_wanted: P) -> DStream<'c, Filter<R, P>>
    where
        P: Fn(&[u8]) -> bool + Clone + Send + Sync + 'static,
    {
        self.with(Filter::of(self.records.clone(), is_wanted))
    }
}

impl<'c, T: Record + Clone> RddStream<'c, T> {
    /// Keeps the records for which `is_wanted` holds: Spark's `filter`.
    pub fn filter(&self, is_wanted: impl Fn(&T) -> bool + Send + 'static) -> RddStream<'c, T> {
        self.derive("filter", move |rdd| rdd.filter(&is_wanted))
    }
}

impl<T: Clone> Rdd<T> {
    /// The records for which `is_wanted` holds.
    pub fn filter(&self, is_wanted: impl Fn(&T) -> bool) -> Rdd<T> {
        self.each_partition(|records| {
            let wanted = records.iter().filter(|record| is_wanted(record));
            wanted.cloned().collect()
        })
    }
}

/// The records of [`filter`](DStream::filter).
#[derive(Clone)]
pub struct Filter<R, P> {
    records: R,
    is_wanted: P,
}

debug_fields!([R, P] Filter<R, P>, "Filter");

impl<R, P> Filter<R, P>
where
    R: Records,
    P: Fn(&[u8]) -> bool + Clone + Send + Sync + 'static,
{
    /// Those of `records` for which `is_wanted` holds.
    pub fn of(records: R, is_wanted: P) -> Self {
        Filter { records, is_wanted }
    }
}

impl<R, P> Records for Filter<R, P>
where
    R: Records,
    P: Fn(&[u8]) -> bool + Clone + Send + Sync + 'static,
{
    fn rule(&self) -> Rule {
        self.records.rule()
    }

    #[inline]
    fn for_each<'b, F>(&self, splitter: &mut Splitter, block: &'b [u8], mut f: F) -> Tallied
    where
        F: FnMut(&'b [u8]),
    {
        let mut tokens = 0;
        let tallied = self.records.for_each(splitter, block, |record| {
            if (self.is_wanted)(record) {
                tokens += 1;
                f(record);
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
            let with_b = Filter {
                records: Tokens::new(Rule::Split(b' ')),
                is_wanted: |word: &[u8]| word.contains(&b'b'),
            };
            let long = Filter { records: with_b, is_wanted: |word: &[u8]| word.len() > 2 };
            let mut splitter = Splitter::new(long.rule(), Kernel::detect());
            let mut kept = Vec::new();
            let tallied = long.for_each(&mut splitter, &block, |word| kept.push(word));
            prop_assert_eq!(tallied.tokens, kept.len() as u64);
            prop_assert_eq!(tallied.records, lines.len() as u64);
            prop_assert!(kept.into_iter().eq(expected.into_iter().map(str::as_bytes)));
        }
    }
}
