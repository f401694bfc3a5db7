//! Joins and `cogroup`: two streams, key by key.

// A pair of a key and two sides is what a join is: another name would hide it.
#![expect(clippy::type_complexity)]

use crate::error::Result;
use crate::stream::plan::group::Groups;
use crate::stream::plan::rdd::{Key, Rdd, Record};
use crate::stream::program::rdd_stream::RddStream;

/// Two lists of values.
type Both<V, W> = (Vec<V>, Vec<W>);

impl<'c, K: Key, V: Record + Clone> RddStream<'c, (K, V)> {
    /// Every pair of values that have a key in common, batch by batch: Spark's `join`. Several values of a
    /// key give every combination.
    ///
    /// # Errors
    ///
    /// The streams have different slides, which the PySpark [`Dialect`](crate::stream::Dialect) allows.
    /// So with the other joins.
    pub fn join<W: Record + Clone>(
        &self,
        other: &RddStream<'c, (K, W)>,
    ) -> Result<RddStream<'c, (K, (V, W))>> {
        self.combine("join", other, false, |one, two, _| Some(one.join(two)))
    }

    /// As [`join`](Self::join), with every value of this stream: Spark's `leftOuterJoin`.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn left_outer_join<W: Record + Clone>(
        &self,
        other: &RddStream<'c, (K, W)>,
    ) -> Result<RddStream<'c, (K, (V, Option<W>))>> {
        self.combine("left_outer_join", other, false, |one, two, _| {
            Some(one.left_outer_join(two))
        })
    }

    /// As [`join`](Self::join), with every value of the other stream: Spark's `rightOuterJoin`.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn right_outer_join<W: Record + Clone>(
        &self,
        other: &RddStream<'c, (K, W)>,
    ) -> Result<RddStream<'c, (K, (Option<V>, W))>> {
        self.combine("right_outer_join", other, false, |one, two, _| {
            Some(one.right_outer_join(two))
        })
    }

    /// As [`join`](Self::join), with every value of both streams: Spark's `fullOuterJoin`.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn full_outer_join<W: Record + Clone>(
        &self,
        other: &RddStream<'c, (K, W)>,
    ) -> Result<RddStream<'c, (K, (Option<V>, Option<W>))>> {
        self.combine("full_outer_join", other, false, |one, two, _| {
            Some(one.full_outer_join(two))
        })
    }

    /// For each key of either stream this one's values and the other's, batch by batch: Spark's `cogroup`.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn cogroup<W: Record + Clone>(
        &self,
        other: &RddStream<'c, (K, W)>,
    ) -> Result<RddStream<'c, (K, (Vec<V>, Vec<W>))>> {
        self.combine("cogroup", other, false, |one, two, _| {
            Some(one.cogroup(two))
        })
    }
}

impl<K: Key, V: Clone> Rdd<(K, V)> {
    /// Every pair of values that have a key in common. All joins cost a look-up for each record and what
    /// comes out; keys come out in the order in which they were first seen, these first.
    pub fn join<W: Clone>(&self, other: &Rdd<(K, W)>) -> Rdd<(K, (V, W))> {
        self.joined(other, |ours, theirs, out| {
            for (v, w) in pairs(ours, theirs) {
                out((v.clone(), w.clone()));
            }
        })
    }

    /// As [`join`](Self::join), with every value of this one.
    pub fn left_outer_join<W: Clone>(&self, other: &Rdd<(K, W)>) -> Rdd<(K, (V, Option<W>))> {
        self.joined(other, |ours, theirs, out| {
            for (v, w) in pairs(ours, &or_none(theirs)) {
                out((v.clone(), w.cloned()));
            }
        })
    }

    /// As [`join`](Self::join), with every value of the other.
    pub fn right_outer_join<W: Clone>(&self, other: &Rdd<(K, W)>) -> Rdd<(K, (Option<V>, W))> {
        self.joined(other, |ours, theirs, out| {
            for (v, w) in pairs(&or_none(ours), theirs) {
                out((v.cloned(), w.clone()));
            }
        })
    }

    /// As [`join`](Self::join), with every value of both.
    pub fn full_outer_join<W: Clone>(
        &self,
        other: &Rdd<(K, W)>,
    ) -> Rdd<(K, (Option<V>, Option<W>))> {
        self.joined(other, |ours, theirs, out| {
            for (v, w) in pairs(&or_none(ours), &or_none(theirs)) {
                out((v.cloned(), w.cloned()));
            }
        })
    }

    /// For each key of either these values and the other's.
    pub fn cogroup<W: Clone>(&self, other: &Rdd<(K, W)>) -> Rdd<(K, (Vec<V>, Vec<W>))> {
        self.joined(other, |ours, theirs, out| {
            out((ours.to_vec(), theirs.to_vec()));
        })
    }

    /// Calls `f` with both sides' values of each key; what that gives to its last argument comes out.
    fn joined<W: Clone, O>(
        &self,
        other: &Rdd<(K, W)>,
        f: impl Fn(&[V], &[W], &mut dyn FnMut(O)),
    ) -> Rdd<(K, O)> {
        let mut groups: Groups<'_, K, Both<V, W>> = Groups::new();
        for (key, value) in self.iter() {
            groups.of(key).0.push(value.clone());
        }
        for (key, value) in other.iter() {
            groups.of(key).1.push(value.clone());
        }
        let mut joined = Vec::new();
        for (key, (ours, theirs)) in groups {
            f(&ours, &theirs, &mut |value| {
                joined.push((key.clone(), value))
            });
        }
        joined.into()
    }
}

/// Every combination, the first side's order first.
fn pairs<'a, A, B>(ones: &'a [A], others: &'a [B]) -> impl Iterator<Item = (&'a A, &'a B)> {
    ones.iter()
        .flat_map(move |one| others.iter().map(move |other| (one, other)))
}

/// The values, or one that is missing.
fn or_none<A>(values: &[A]) -> Vec<Option<&A>> {
    if values.is_empty() {
        vec![None]
    } else {
        values.iter().map(Some).collect()
    }
}
