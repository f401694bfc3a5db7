//! `combine_by_key`: the values of a key become something else.

use crate::shard::stage::Records;
use crate::stream::ops::map::Pairs;
use crate::stream::plan::group::Groups;
use crate::stream::plan::lower::combined;
use crate::stream::plan::rdd::{Key, Rdd, Record};
use crate::stream::program::rdd_stream::RddStream;
use crate::stream::program::reduced::Reduced;

impl<'c, R: Records, M> Pairs<'c, R, M> {
    /// Folds the values of each key of a batch into something else: Spark's `combineByKey`. `create` makes it of a
    /// key's first value in a shard, `merge_value` adds a value, `merge_combiners` puts two shards' together, in
    /// any order: the result must not depend on which records a shard got.
    ///
    /// A look-up a record; nothing is allocated for one, since what is made of the values is copied as they are.
    ///
    /// ```
    /// # use microtally::prelude::*;
    /// # use microtally::{Fill, Source};
    /// # struct Text(&'static [u8]);
    /// # impl Source for Text {
    /// #     fn fill(&mut self, buf: &mut [u8], _now: Duration) -> Fill {
    /// #         let text = std::mem::take(&mut self.0);
    /// #         buf[..text.len()].copy_from_slice(text);
    /// #         if text.is_empty() { Fill::End } else { Fill::Bytes(text.len()) }
    /// #     }
    /// #     fn name(&self) -> &str { "text" }
    /// # }
    /// let ssc = StreamingContext::new(Duration::from_secs(5))?;
    /// let lines = ssc.source_stream(Text(b"to be or\nnot\nto see\n"));
    /// // How long the lines are that begin with a word, on average.
    /// let lengths = lines.map(|line| (line.split(|b| *b == b' ').next().unwrap_or(line), line.len()));
    /// let sums = lengths.combine_by_key(
    ///     |len| (1, len),
    ///     |(count, sum), len| (count + 1, sum + len),
    ///     |(count, sum), (more, other)| (count + more, sum + other),
    /// );
    /// # let (sender, means) = std::sync::mpsc::channel();
    /// sums.for_each_batch(move |batch, _| {
    ///     let mean = batch.get(b"to").map(|(count, sum)| sum as f64 / count as f64);
    /// #   let _ = sender.send((mean, batch.get(b"not")));
    /// });
    /// ssc.start()?.await_termination()?;
    /// # assert_eq!(means.recv().unwrap(), (Some(7.0), Some((1, 3))));
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn combine_by_key<V, C>(
        self,
        create: impl Fn(V) -> C + Send + Sync + 'static,
        merge_value: impl Fn(C, V) -> C + Send + Sync + 'static,
        merge_combiners: impl Fn(C, C) -> C + Send + Sync + 'static,
    ) -> Reduced<'c, C>
    where
        V: Copy + Send + Sync + 'static,
        C: Copy + Send + Sync + 'static,
        M: Fn(&[u8]) -> (&[u8], V) + Send + Sync + 'static,
    {
        let Pairs { stream, map } = self;
        let (number, records) = (stream.stream, stream.records);
        let node = combined(number, records, map, create, merge_value, merge_combiners);
        stream.context.reduced("combine_by_key", node)
    }
}

impl<'c, K: Key, V: Record + Clone> RddStream<'c, (K, V)> {
    /// Folds the values of each key of a batch into something else: Spark's `combineByKey`. `create` makes
    /// it of a partition's first value of a key, `merge_value` adds a value, `merge_combiners` puts two
    /// partitions' together.
    pub fn combine_by_key<C: Record>(
        &self,
        create: impl Fn(&V) -> C + Send + 'static,
        merge_value: impl Fn(C, &V) -> C + Send + 'static,
        merge_combiners: impl Fn(C, C) -> C + Send + 'static,
    ) -> RddStream<'c, (K, C)> {
        self.derive("combine_by_key", move |rdd| {
            rdd.combine_by_key(&create, &merge_value, &merge_combiners)
        })
    }
}

impl<K: Key, V> Rdd<(K, V)> {
    /// Folds the values of each key into something else; see
    /// [`RddStream::combine_by_key`].
    pub fn combine_by_key<C>(
        &self,
        create: impl Fn(&V) -> C,
        merge_value: impl Fn(C, &V) -> C,
        merge_combiners: impl Fn(C, C) -> C,
    ) -> Rdd<(K, C)> {
        let mut all: Groups<'_, K, Option<C>> = Groups::new();
        for partition in self.partitions() {
            let mut part: Groups<'_, K, Option<C>> = Groups::new();
            for (key, value) in partition {
                let combined = part.of(key);
                *combined = Some(match combined.take() {
                    Some(before) => merge_value(before, value),
                    None => create(value),
                });
            }
            for (key, combined) in part {
                let sum = all.of(key);
                *sum = match (sum.take(), combined) {
                    (Some(before), Some(combined)) => Some(merge_combiners(before, combined)),
                    (before, combined) => before.or(combined),
                };
            }
        }
        let combined = all.into_iter();
        combined
            .filter_map(|(key, combined)| Some((key.clone(), combined?)))
            .collect()
    }
}
