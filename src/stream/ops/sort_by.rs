//! `sort_by`, `top`: records in an order, the first of them.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::batch::{Batch, Value};
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::rdd_stream::RddStream;
use crate::stream::program::reduced::Reduced;

impl<'c, V: Value> Reduced<'c, V> {
    /// The `count` keys with the highest values of each batch, highest first, equal values in byte order.
    /// Costs one pass over the keys; only what is kept is copied.
    pub fn top(&self, count: usize) -> RddStream<'c, (Vec<u8>, V)> {
        let held = Arc::clone(&self.held);
        self.context
            .taken_stream("top", vec![self.id], self.slide_ms, move |now| {
                held.map(now.time, |table, stats| {
                    let rows = Batch::new(table, stats).top(count);
                    let copies = rows.into_iter().map(|(key, value)| (key.to_vec(), value));
                    copies.collect()
                })
            })
    }
}

impl<'c, T: Record + Clone> RddStream<'c, T> {
    /// Puts the records of each batch in order: Spark's `transform(lambda rdd: rdd.sortBy(...))`. Records
    /// that are equal stay in their order.
    pub fn sort_by(
        &self,
        compare: impl Fn(&T, &T) -> Ordering + Send + 'static,
    ) -> RddStream<'c, T> {
        self.derive("sort_by", move |rdd| rdd.sort_by(&compare))
    }

    /// The `count` first records of each batch in that order. Costs one pass over the records, and
    /// ordering those that are kept.
    pub fn top(
        &self,
        count: usize,
        compare: impl Fn(&T, &T) -> Ordering + Send + 'static,
    ) -> RddStream<'c, T> {
        self.derive("top", move |rdd| rdd.top(count, &compare))
    }
}

impl<T: Clone> Rdd<T> {
    /// The records in order, in one partition. Those that are equal stay in their order.
    pub fn sort_by(&self, compare: impl Fn(&T, &T) -> Ordering) -> Rdd<T> {
        let mut records: Vec<&T> = self.iter().collect();
        records.sort_by(|a, b| compare(a, b));
        records.into_iter().cloned().collect()
    }

    /// The `count` first records in that order, in one partition. Those that are equal stay in their
    /// order.
    pub fn top(&self, count: usize, compare: impl Fn(&T, &T) -> Ordering) -> Rdd<T> {
        let mut records: Vec<(usize, &T)> = self.iter().enumerate().collect();
        let by = |a: &(usize, &T), b: &(usize, &T)| compare(a.1, b.1).then(a.0.cmp(&b.0));
        if 0 < count && count < records.len() {
            records.select_nth_unstable_by(count - 1, by);
        }
        records.truncate(count);
        records.sort_unstable_by(by);
        records
            .into_iter()
            .map(|(_, record)| record.clone())
            .collect()
    }
}
