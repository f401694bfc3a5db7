//! `FilterMap`: of each record a part of it, or nothing. What `filter`, `field` and `map_slice` are
//! made of.

use crate::shard::stage::Records;
use crate::split::{Rule, Splitter, Tallied};
use crate::stream::program::context::DStream;

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
    fn for_each<'b, G>(&self, splitter: &mut Splitter, block: &'b [u8], mut g: G) -> Tallied
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

impl<'c, R: Records> DStream<'c, R> {
    pub(crate) fn filter_map<F>(&self, f: F) -> DStream<'c, FilterMap<R, F>>
    where
        F: for<'b> Fn(&'b [u8]) -> Option<&'b [u8]> + Clone + Send + Sync + 'static,
    {
        self.with(FilterMap::of(self.records.clone(), f))
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
            let tallied = long.for_each(&mut splitter, &block, |word| kept.push(word));
            prop_assert_eq!(tallied.tokens, kept.len() as u64);
            prop_assert_eq!(tallied.records, lines.len() as u64);
            prop_assert!(kept.into_iter().eq(expected.into_iter().map(str::as_bytes)));
        }
    }
}
