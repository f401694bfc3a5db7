//! What users see of a batch.
//!
//! Promise: a [`Batch`] is complete, belongs to one epoch, and ranks its keys the same way whatever
//! the number of threads: highest value first, equal values in byte order of the key. Must not
//! know: `sink`, how tables are laid out.

pub(crate) mod owned;
pub(crate) mod ranking;
mod stats;

pub use self::ranking::{Ranked, Ranking};
pub use self::stats::BatchStats;
pub(crate) use self::stats::WindowSums;
use std::cmp::Ordering;

use crate::repr::Repr;
use crate::table::KeyTable;
use crate::time::BatchTime;

/// A value that can be reduced, ranked and printed: the integers and floats, `bool`, `char`, and
/// tuples of two to four and arrays of them, which are ordered by their first part, then by the
/// next.
///
/// A custom struct can be reduced and looked up without it. To be ranked or printed it needs this
/// trait and [`Repr`].
///
/// ```
/// use std::cmp::Ordering;
/// use microtally::Value;
/// use microtally::sink::Repr;
///
/// #[derive(Clone, Copy)]
/// struct Mean { sum: f64, count: u64 }
///
/// impl Repr for Mean {
///     fn write_repr(&self, out: &mut Vec<u8>) {
///         (self.sum / self.count as f64).write_repr(out);
///     }
/// }
///
/// impl Value for Mean {
///     fn order(&self, other: &Self) -> Ordering {
///         (self.sum / self.count as f64).order(&(other.sum / other.count as f64))
///     }
/// }
/// ```
pub trait Value: Copy + Repr + Send + Sync + 'static {
    /// The total order of values; ranking puts the greatest first. Floats are in the order of
    /// [`f64::total_cmp`].
    fn order(&self, other: &Self) -> Ordering;

    /// The value as a number of records, if it is one: then sinks can show shares of the whole and
    /// what a result leaves out. `None` by default.
    fn as_count(&self) -> Option<u64> {
        None
    }

    /// The number of columns that sinks print: 1 by default, and the parts of tuples and arrays.
    fn columns(&self) -> usize {
        1
    }

    /// Appends the column `index`, counted from 0, as [`Repr::write_repr`] would.
    fn write_column(&self, _index: usize, out: &mut Vec<u8>) {
        self.write_repr(out);
    }
}

macro_rules! ordered {
    ($order:ident: $($t:ty),*) => {$(
        impl Value for $t {
            fn order(&self, other: &Self) -> Ordering {
                self.$order(other)
            }
        }
    )*};
}
ordered!(cmp: u8, u16, u32, u128, usize, i8, i16, i32, i64, i128, isize, bool, char);
ordered!(total_cmp: f32, f64);

impl Value for u64 {
    fn order(&self, other: &Self) -> Ordering {
        self.cmp(other)
    }

    fn as_count(&self) -> Option<u64> {
        Some(*self)
    }
}

macro_rules! ordered_tuples {
    ($($($part:ident $at:tt),*;)*) => {$(
        impl<$($part: Value),*> Value for ($($part,)*) {
            fn order(&self, other: &Self) -> Ordering {
                let order = Ordering::Equal;
                $(let order = order.then_with(|| self.$at.order(&other.$at));)*
                order
            }

            fn columns(&self) -> usize {
                [$($at),*].len()
            }

            fn write_column(&self, index: usize, out: &mut Vec<u8>) {
                match index {
                    $($at => self.$at.write_repr(out),)*
                    _ => {}
                }
            }
        }
    )*};
}
ordered_tuples! {
    A 0, B 1;
    A 0, B 1, C 2;
    A 0, B 1, C 2, D 3;
}

impl<V: Value, const N: usize> Value for [V; N] {
    fn order(&self, other: &Self) -> Ordering {
        let parts = self.iter().zip(other).map(|(a, b)| a.order(b));
        parts.fold(Ordering::Equal, Ordering::then)
    }

    fn columns(&self) -> usize {
        N
    }

    fn write_column(&self, index: usize, out: &mut Vec<u8>) {
        self[index].write_repr(out);
    }
}

/// What names a batch, for a sink whose system stores it with the results.
///
/// ```
/// use microtally::{Rule, Tally};
/// use microtally::batch::BatchId;
/// use microtally::time::BatchTime;
/// let (mut tally, time) = (Tally::new(Rule::Lines), BatchTime::from_millis(1000));
/// assert_eq!(tally.cut(time).unwrap().id(), BatchId { number: 1, time });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchId {
    /// Number of the batch in its run, from 1.
    pub number: u64,
    /// The batch's time. Later batches have later times, in later runs too.
    pub time: BatchTime,
}

/// The result of one batch: every key with its value, and how the batch came about.
///
/// It borrows the engine's tables, so looking costs nothing; copy what must outlive the batch.
///
/// ```
/// use microtally::{Rule, Tally};
/// use microtally::time::BatchTime;
/// let mut tally = Tally::new(Rule::Split(b' '));
/// tally.push(b"the cat and the dog\n");
/// let batch = tally.cut(BatchTime::from_millis(1000)).unwrap();
/// assert_eq!(batch.get(b"the"), Some(2));
/// assert_eq!(batch.top(2), [(&b"the"[..], 2), (&b"and"[..], 1)]);
/// assert_eq!(batch.stats().tokens, 5);
/// ```
#[derive(Debug)]
pub struct Batch<'a, V> {
    table: &'a KeyTable<V>,
    stats: &'a BatchStats,
}

impl<'a, V: Copy + Send + 'static> Batch<'a, V> {
    pub(crate) fn new(table: &'a KeyTable<V>, stats: &'a BatchStats) -> Self {
        Batch { table, stats }
    }

    /// The batch's time.
    pub fn time(&self) -> BatchTime {
        self.stats.time
    }

    /// What names the batch.
    pub fn id(&self) -> BatchId {
        BatchId {
            number: self.stats.batch,
            time: self.stats.time,
        }
    }

    /// How the batch came about.
    pub fn stats(&self) -> &'a BatchStats {
        self.stats
    }

    /// Number of distinct keys.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns `true` if the batch has no key.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Option<V> {
        self.table.get(key)
    }

    /// An upper bound of the records of `key` that its value lacks. It is 0, unless the memory
    /// limit was reached and the value is not known to be of all records of the key. See
    /// [`OnLimit::Other`](crate::config::OnLimit).
    ///
    /// ```
    /// use microtally::{Rule, Tally};
    /// use microtally::time::BatchTime;
    /// let mut tally = Tally::new(Rule::Split(b' '));
    /// tally.push(b"the cat and the dog\n");
    /// assert_eq!(tally.cut(BatchTime::from_millis(1000)).unwrap().missing_max(b"the"), 0);
    /// ```
    pub fn missing_max(&self, key: &[u8]) -> u64 {
        if self.stats.other_records == 0 {
            return 0;
        }
        // For a key with a value, the statistics bound what any key lacks.
        let most = match self.table.get_kept(key) {
            Some(_) => self.stats.missing_max,
            None => self.stats.other_records,
        };
        self.table.missing_max(key).min(most)
    }

    /// Every key with its value, in no particular order, without allocation.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], V)> {
        self.table.iter()
    }
}

impl<'a, V: Value> Batch<'a, V> {
    /// The first `count` keys by rank, or all of them if there are fewer. Allocates the result; a
    /// [`Ranking`] does not.
    pub fn top(&self, count: usize) -> Vec<(&'a [u8], V)> {
        ranking::top(self.iter(), self.len(), count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::keys::Seed;

    /// Every tuple of two and three small parts against every other: `std` orders the same way.
    #[test]
    fn tuples_are_ordered_part_by_part() {
        let parts = [(0u8, 'a'), (0, 'b'), (1, 'a'), (1, 'b')];
        for first in parts {
            for second in parts {
                assert_eq!(first.order(&second), first.cmp(&second));
                for flags in [[false, false], [false, true], [true, false]] {
                    let (a, b) = ((first.0, first.1, flags[0]), (second.0, second.1, flags[1]));
                    assert_eq!(a.order(&b), a.cmp(&b));
                }
            }
        }
        // For ranking, a NaN is a number like any other: above infinity.
        assert_eq!((f64::NAN, 1).order(&(f64::INFINITY, 2)), Ordering::Greater);
        assert_eq!((f64::NAN, 1).order(&(f64::NAN, 2)), Ordering::Less);
        assert_eq!((-0.0f32).order(&0.0), Ordering::Less);
    }

    #[test]
    fn tuples_are_ranked() {
        let mut table = KeyTable::new(Seed::random());
        for (key, value) in [("a", (1u64, 2.5)), ("b", (2, 0.5)), ("c", (1, 3.5))] {
            table.add(key.as_bytes(), value, |_, last| last);
        }
        let stats = BatchStats::default();
        let top = Batch::new(&table, &stats).top(3);
        let keys: Vec<_> = top.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, [b"b", b"c", b"a"]);
    }

    /// A struct that cannot be ranked can still be reduced and looked up.
    #[test]
    fn a_batch_of_values_without_an_order_is_looked_into() {
        #[derive(Clone, Copy, Debug, PartialEq)]
        struct FirstLast {
            first: u32,
            last: u32,
        }
        let join = |a: FirstLast, b: FirstLast| FirstLast {
            first: a.first.min(b.first),
            last: a.last.max(b.last),
        };
        let mut table = KeyTable::new(Seed::random());
        for (key, at) in [("a", 3), ("b", 4), ("a", 9)] {
            let here = FirstLast {
                first: at,
                last: at,
            };
            table.add(key.as_bytes(), here, join);
        }
        let stats = BatchStats::default();
        let batch = Batch::new(&table, &stats);
        assert_eq!(batch.get(b"a"), Some(FirstLast { first: 3, last: 9 }));
        assert_eq!((batch.len(), batch.iter().count()), (2, 2));
        assert_eq!((batch.time(), batch.is_empty()), (stats.time, false));
    }
}
