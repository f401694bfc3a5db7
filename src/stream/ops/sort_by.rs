//! `sort_by`, `top`: records in order, and the first of them.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::batch::{Batch, Value};
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::rdd_stream::RddStream;
use crate::stream::program::reduced::Reduced;

impl<V: Value> Reduced<V> {
    /// The `count` keys with the highest values of each batch: highest value first, equal values in
    /// byte order of the keys. It costs one pass over the keys, and copies only the result.
    ///
    /// ```
    /// use microtally::stream::run_lines;
    /// let top = run_lines("b\na\nc\nc\n", |lines| Ok(lines.count_by_value().top(2)))?;
    /// assert_eq!(top, [("c".into(), 2), ("a".into(), 1)]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn top(&self, count: usize) -> RddStream<(Vec<u8>, V)> {
        let table = Arc::clone(&self.table);
        self.plan
            .taken_stream("top", vec![self.id], self.slide_ms, move |now| {
                table.map(now.time, |table, stats| {
                    let rows = Batch::new(table, stats).top(count);
                    let copies = rows.into_iter().map(|(key, value)| (key.to_vec(), value));
                    copies.collect()
                })
            })
    }
}

impl<T: Record + Clone> RddStream<T> {
    /// Sorts the records of each batch: Spark's `transform(lambda rdd: rdd.sortBy(...))`. Equal
    /// records keep their order.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// let sorted = run_batches([vec![3, 1, 2]], |numbers| Ok(numbers.sort_by(Ord::cmp)))?;
    /// assert_eq!(sorted, [[1, 2, 3]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn sort_by(&self, compare: impl Fn(&T, &T) -> Ordering + Send + 'static) -> RddStream<T> {
        self.derive("sort_by", move |rdd| rdd.sort_by(&compare))
    }

    /// The first `count` records of each batch in the order of `compare`. It costs one pass over
    /// the records, and sorts only the result. Equal records keep their order.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// let highest = run_batches([vec![3, 1, 2]], |numbers| Ok(numbers.top(2, |a, b| b.cmp(a))))?;
    /// assert_eq!(highest, [[3, 2]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn top(
        &self,
        count: usize,
        compare: impl Fn(&T, &T) -> Ordering + Send + 'static,
    ) -> RddStream<T> {
        self.derive("top", move |rdd| rdd.top(count, &compare))
    }
}

impl<T: Clone> Rdd<T> {
    /// The records in the order of `compare`, in one partition. Equal records keep their order.
    pub fn sort_by(&self, compare: impl Fn(&T, &T) -> Ordering) -> Rdd<T> {
        let mut records: Vec<&T> = self.iter().collect();
        records.sort_by(|a, b| compare(a, b));
        records.into_iter().cloned().collect()
    }

    /// The first `count` records in the order of `compare`, in one partition. Equal records keep
    /// their order.
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
