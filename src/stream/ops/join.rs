//! Joins and `cogroup`: two streams, key by key.

// A pair of a key and two sides is what a join is: another name would hide it.
#![expect(clippy::type_complexity)]

use crate::error::Result;
use crate::stream::plan::group::Groups;
use crate::stream::plan::rdd::{Key, Rdd, Record};
use crate::stream::program::rdd_stream::RddStream;

impl<K: Key, V: Record + Clone> RddStream<(K, V)> {
    /// Joins two streams batch by batch: Spark's `join`. A batch holds, for each key, every
    /// combination of this stream's values with the other's.
    ///
    /// A join costs a look-up for each record, and its results. Keys are in the order in which they
    /// were first seen, this stream's first.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// let joined = run_batches([vec![("a", 1), ("b", 2), ("b", 3)]], |pairs| {
    ///     let names = pairs.filter(|(_, n)| *n == 2).map_values(|_| "two");
    ///     pairs.join(&names)
    /// })?;
    /// assert_eq!(joined, [[("b", (2, "two")), ("b", (3, "two"))]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The streams have different slides, except in the PySpark
    /// [`Dialect`](crate::stream::Dialect), which allows that.
    pub fn join<W: Record + Clone>(
        &self,
        other: &RddStream<(K, W)>,
    ) -> Result<RddStream<(K, (V, W))>> {
        self.combine("join", other, |one, two, _| Ok(one.join(two)))
    }

    /// As [`join`](Self::join), but keeps every value of this stream: Spark's `leftOuterJoin`.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// let joined = run_batches([vec![("a", 1), ("b", 2)]], |pairs| {
    ///     pairs.left_outer_join(&pairs.filter(|(key, _)| *key == "b"))
    /// })?;
    /// assert_eq!(joined, [[("a", (1, None)), ("b", (2, Some(2)))]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn left_outer_join<W: Record + Clone>(
        &self,
        other: &RddStream<(K, W)>,
    ) -> Result<RddStream<(K, (V, Option<W>))>> {
        self.combine("left_outer_join", other, |one, two, _| {
            Ok(one.left_outer_join(two))
        })
    }

    /// As [`join`](Self::join), but keeps every value of the other stream: Spark's
    /// `rightOuterJoin`.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// let joined = run_batches([vec![("a", 1), ("b", 2)]], |pairs| {
    ///     pairs.filter(|(key, _)| *key == "b").right_outer_join(&pairs)
    /// })?;
    /// assert_eq!(joined, [[("b", (Some(2), 2)), ("a", (None, 1))]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn right_outer_join<W: Record + Clone>(
        &self,
        other: &RddStream<(K, W)>,
    ) -> Result<RddStream<(K, (Option<V>, W))>> {
        self.combine("right_outer_join", other, |one, two, _| {
            Ok(one.right_outer_join(two))
        })
    }

    /// As [`join`](Self::join), but keeps every value of both streams: Spark's `fullOuterJoin`.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// let joined = run_batches([vec![("a", 1), ("b", 2)]], |pairs| {
    ///     let only = |wanted| pairs.filter(move |(key, _)| *key == wanted);
    ///     only("a").full_outer_join(&only("b"))
    /// })?;
    /// assert_eq!(joined, [[("a", (Some(1), None)), ("b", (None, Some(2)))]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn full_outer_join<W: Record + Clone>(
        &self,
        other: &RddStream<(K, W)>,
    ) -> Result<RddStream<(K, (Option<V>, Option<W>))>> {
        self.combine("full_outer_join", other, |one, two, _| {
            Ok(one.full_outer_join(two))
        })
    }

    /// Gathers, for each key of either stream, this stream's values and the other's: Spark's
    /// `cogroup`.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// let groups = run_batches([vec![("a", 1), ("b", 2)]], |pairs| {
    ///     pairs.cogroup(&pairs.filter(|(key, _)| *key == "b"))
    /// })?;
    /// assert_eq!(groups, [[("a", (vec![1], vec![])), ("b", (vec![2], vec![2]))]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn cogroup<W: Record + Clone>(
        &self,
        other: &RddStream<(K, W)>,
    ) -> Result<RddStream<(K, (Vec<V>, Vec<W>))>> {
        self.combine("cogroup", other, |one, two, _| Ok(one.cogroup(two)))
    }
}

impl<K: Key, V: Clone> Rdd<(K, V)> {
    /// Every combination of the values that have a key in common. All joins cost a look-up for each
    /// record, and their results. Keys are in the order in which they were first seen, these first.
    pub fn join<W: Clone>(&self, other: &Rdd<(K, W)>) -> Rdd<(K, (V, W))> {
        self.joined(other, |v, w| Some((v?.clone(), w?.clone())))
    }

    /// As [`join`](Self::join), but keeps every value of this RDD.
    pub fn left_outer_join<W: Clone>(&self, other: &Rdd<(K, W)>) -> Rdd<(K, (V, Option<W>))> {
        self.joined(other, |v, w| Some((v?.clone(), w.cloned())))
    }

    /// As [`join`](Self::join), but keeps every value of the other RDD.
    pub fn right_outer_join<W: Clone>(&self, other: &Rdd<(K, W)>) -> Rdd<(K, (Option<V>, W))> {
        self.joined(other, |v, w| Some((v.cloned(), w?.clone())))
    }

    /// As [`join`](Self::join), but keeps every value of both RDDs.
    pub fn full_outer_join<W: Clone>(
        &self,
        other: &Rdd<(K, W)>,
    ) -> Rdd<(K, (Option<V>, Option<W>))> {
        self.joined(other, |v, w| Some((v.cloned(), w.cloned())))
    }

    /// For each key of either RDD, these values and the other's.
    pub fn cogroup<W: Clone>(&self, other: &Rdd<(K, W)>) -> Rdd<(K, (Vec<V>, Vec<W>))> {
        let mut groups: Groups<'_, K, (Vec<V>, Vec<W>)> = Groups::new();
        for (key, value) in self.iter() {
            groups.of(key).0.push(value.clone());
        }
        for (key, value) in other.iter() {
            groups.of(key).1.push(value.clone());
        }
        let groups = groups.into_iter();
        groups.map(|(key, both)| (key.clone(), both)).collect()
    }

    /// What `f` returns, if anything, for each key's combinations of values. A side without values
    /// takes part once, as `None`.
    fn joined<W, O>(
        &self,
        other: &Rdd<(K, W)>,
        f: impl Fn(Option<&V>, Option<&W>) -> Option<O>,
    ) -> Rdd<(K, O)> {
        let mut groups: Groups<'_, K, (Vec<Option<&V>>, Vec<Option<&W>>)> = Groups::new();
        for (key, value) in self.iter() {
            groups.of(key).0.push(Some(value));
        }
        for (key, value) in other.iter() {
            groups.of(key).1.push(Some(value));
        }
        let mut joined = Vec::new();
        for (key, (mut ours, mut theirs)) in groups {
            if ours.is_empty() {
                ours.push(None);
            }
            if theirs.is_empty() {
                theirs.push(None);
            }
            for v in ours {
                for w in &theirs {
                    joined.extend(f(v, *w).map(|value| (key.clone(), value)));
                }
            }
        }
        joined.into()
    }
}
