//! `reduce`: the records of a batch become one.

use std::sync::Arc;

use crate::shard::stage::Records;
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::dstream::DStream;
use crate::stream::program::rdd_stream::RddStream;

impl<R: Records> DStream<R> {
    /// Folds the records of each batch into one, in the shards: Spark's `reduce`.
    ///
    /// `f` returns one of two records, or a part of one. It must be associative and commutative. A
    /// batch without records has no result.
    ///
    /// ```
    /// use microtally::stream::run_lines;
    /// let longest = run_lines("to be\nor nothing", |lines| {
    ///     Ok(lines.split(b' ').reduce(|a, b| if b.len() > a.len() { b } else { a }))
    /// })?;
    /// assert_eq!(longest, [b"nothing"]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn reduce<F>(&self, f: F) -> RddStream<Vec<u8>>
    where
        F: for<'b> Fn(&'b [u8], &'b [u8]) -> &'b [u8] + Send + Sync + 'static,
    {
        let f = Arc::new(f);
        let merge = Arc::clone(&f);
        self.gathered(
            "reduce",
            move |sum: &mut Option<Best>, records, splitter, block| {
                records.for_each(splitter, block.content(), |record| match sum {
                    Some(best) => best.fold(record, &*f),
                    None => *sum = Some(Best::of(record)),
                })
            },
            move |into: &mut Option<Best>, from| match (into, from) {
                (Some(into), Some(from)) => into.fold(&from.record, &*merge),
                (into @ None, Some(from)) => *into = Some(Best::of(&from.record)),
                (_, None) => {}
            },
            |best, _| best.into_iter().map(|best| best.record).collect(),
        )
    }
}

/// The record so far, and memory for the next.
#[derive(Default)]
struct Best {
    record: Vec<u8>,
    next: Vec<u8>,
}

impl Best {
    fn of(record: &[u8]) -> Self {
        Best {
            record: record.to_vec(),
            next: Vec::new(),
        }
    }

    fn fold(&mut self, record: &[u8], f: impl for<'b> Fn(&'b [u8], &'b [u8]) -> &'b [u8]) {
        let chosen = f(&self.record, record);
        // Most of the time the record so far stays.
        if !std::ptr::eq(chosen, &self.record[..]) {
            self.next.clear();
            self.next.extend_from_slice(chosen);
            std::mem::swap(&mut self.record, &mut self.next);
        }
    }
}

impl<T: Record + Clone> RddStream<T> {
    /// Folds the records of each batch into one, in their order: Spark's `reduce`.
    ///
    /// `f` must be associative. A batch without records has no result.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// let batches = [vec![1, 2, 3], vec![]];
    /// let sums = run_batches(batches, |numbers| Ok(numbers.reduce(|a, b| a + b)))?;
    /// assert_eq!(sums, [vec![6], vec![]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn reduce(&self, f: impl Fn(T, T) -> T + Send + 'static) -> RddStream<T> {
        self.derive("reduce", move |rdd| rdd.reduce(&f).into_iter().collect())
    }
}

impl<T: Clone> Rdd<T> {
    /// Folds the records into one, in their order. Returns `None` if there is no record.
    pub fn reduce(&self, f: impl Fn(T, T) -> T) -> Option<T> {
        self.iter().cloned().reduce(f)
    }
}
