//! What is computed for each key: counts, sums, extremes, means, percentiles, distinct values.
//!
//! Promise: however records are divided among shards, batches and windows, and in whatever order
//! the parts are merged, the result is the same; only sums of floats may differ in their last
//! digits. Must not know: `epoch`, `shard`, `source`, threads.
//!
//! | aggregate | result | error | bytes of a key, besides its place |
//! |---|---|---|---|
//! | [`Count`] | `u64` | exact | 8 |
//! | [`Sum`], [`Mean`] | [`Numeric::Sum`], [`Numeric::Mean`] | integers and decimals exact | 8 to 48 |
//! | [`Min`], [`Max`] | the value | exact | twice the value |
//! | [`Percentile`], [`Percentiles`] | `f64` | at most 0.8 % of the value | 12, and 8 to 16 for each bucket in use: 14 KiB for values from 1 to 10,000 |
//! | [`Distinct`] | `u64` | exact to 512, then a standard error of 1.6 % | 16, and up to 4 KiB |
//!
//! Several are computed at once as a tuple, each of all of the value or, with [`on`], of a part:
//!
//! ```
//! use microtally::aggregate::{Count, Max, Mean, on};
//! use microtally::stream::run_lines;
//! let latencies = run_lines("/a 3\n/b 8\n/a 4", |lines| {
//!     let requests = lines.map(|line| (&line[..2], u32::from(line[3] - b'0')));
//!     let all = requests.aggregate_by_key((Count, Mean, on(|ms| ms * 1000, Max)));
//!     Ok(all.results().top(2))
//! })?;
//! assert_eq!(latencies, [("/a".into(), (2, 3.5, 4000)), ("/b".into(), (1, 8.0, 8000))]);
//! # Ok::<(), microtally::Error>(())
//! ```
//!
//! # How states are kept
//!
//! A state is a `Copy` value in the table of keys. What is larger, such as a sketch, is in a
//! [`Slab`] beside the table, and the state holds its [`BlockNumber`].
//!
//! ```text
//!   shard     AggregateTable = table of states + slab        one record: `reserve`, `add`
//!   epoch     the tables of all shards become one            `merge`
//!   window    the tables of its batches                      `merge`, and `remove` or not
//!   batch     a table of results                             `finish`
//! ```

use std::io::{self, Read, Write};

/// The methods of an aggregate whose state is a [`Saved`](crate::save::Saved) value.
macro_rules! saved_as_it_is {
    () => {
        fn check_savable(&self) -> Result<(), &'static str> {
            Ok(())
        }

        fn save(
            &self,
            state: Self::State,
            _: &Slab,
            to: &mut dyn std::io::Write,
        ) -> std::io::Result<()> {
            crate::save::Saved::save(&state, to)
        }

        fn load(&self, _: &mut Slab, from: &mut dyn std::io::Read) -> std::io::Result<Self::State> {
            crate::save::Saved::load(from)
        }
    };
}

mod count;
mod distinct;
mod list;
mod max;
mod mean;
mod min;
mod numeric;
mod percentiles;
mod slab;
mod sum;
pub(crate) mod table;
mod tuples;
pub(crate) mod window;

pub use self::count::Count;
pub use self::distinct::{Distinct, ValueHash, ValueSet};
pub use self::max::Max;
pub use self::mean::Mean;
pub use self::min::Min;
pub use self::numeric::Numeric;
pub use self::percentiles::{Percentile, Percentiles, Sketch};
pub use self::slab::{BlockNumber, Slab, SlabFull};
pub use self::sum::Sum;
pub use self::tuples::{On, on};

/// What is computed of the values `T` of a key.
///
/// Implement it for a custom aggregate. States of the same key are made in several shards and
/// merged in any order, so `merge` must be associative and commutative, and adding a value must be
/// the same as merging a state of that value alone.
///
/// A state that is too large for a table, or whose size varies, allocates blocks in the slab and
/// holds their numbers. Each state belongs to the slab it was made with.
///
/// ```
/// use microtally::aggregate::{Aggregate, Slab};
/// use microtally::stream::run_lines;
///
/// /// The smallest and the largest value.
/// #[derive(Clone, Copy)]
/// struct Range;
///
/// impl Aggregate<u8> for Range {
///     type State = (u8, u8);
///     type Output = (u8, u8);
///
///     fn zero(&self) -> (u8, u8) {
///         (u8::MAX, u8::MIN)
///     }
///
///     fn add(&self, state: &mut (u8, u8), value: u8, _: &mut Slab) {
///         *state = (state.0.min(value), state.1.max(value));
///     }
///
///     fn merge(&self, into: &mut (u8, u8), _: &mut Slab, from: (u8, u8), _: &Slab) {
///         *into = (into.0.min(from.0), into.1.max(from.1));
///     }
///
///     fn finish(&self, state: (u8, u8), _: &Slab) -> (u8, u8) {
///         state
///     }
/// }
///
/// let ranges = run_lines("k 3\nk 8\nk 4", |lines| {
///     let digits = lines.map(|line| (&line[..1], line[2] - b'0'));
///     Ok(digits.aggregate_by_key(Range).results().top(1))
/// })?;
/// assert_eq!(ranges, [("k".into(), (3, 8))]);
/// # Ok::<(), microtally::Error>(())
/// ```
pub trait Aggregate<T>: Clone + Send + Sync + 'static {
    /// What is kept for a key.
    type State: Copy + Send + Sync + 'static;
    /// What comes of it; a [`Value`](crate::Value) if it is to be ranked and printed.
    type Output: Copy + Send + Sync + 'static;
    /// Whether [`remove`](Self::remove) is there. Without it, windows are made by merging alone.
    const HAS_REMOVE: bool = false;

    /// The state of no values. It has no block in a slab yet.
    fn zero(&self) -> Self::State;

    /// Makes sure that the next [`add`](Self::add) has room in the slab. Needed by states that
    /// grow.
    ///
    /// # Errors
    ///
    /// [`SlabFull`]: the record is not added, and counts as one that had no room. States of other
    /// aggregates of the record are not changed either.
    fn reserve(&self, _state: &mut Self::State, _slab: &mut Slab) -> Result<(), SlabFull> {
        Ok(())
    }

    /// Adds a value, after [`reserve`](Self::reserve).
    fn add(&self, state: &mut Self::State, value: T, slab: &mut Slab);

    /// Adds the values of `from`, a state with the slab `others`. It may take any memory.
    fn merge(&self, into: &mut Self::State, slab: &mut Slab, from: Self::State, others: &Slab);

    /// Takes the values of `from` off again, which were merged before. Called only if
    /// [`HAS_REMOVE`](Self::HAS_REMOVE) is `true`.
    fn remove(&self, _into: &mut Self::State, _slab: &mut Slab, _from: Self::State, _other: &Slab) {
        unreachable!("the aggregate has no `remove`");
    }

    /// Frees the blocks of a state that is not used any more. Needed by states that have some.
    fn free(&self, _state: Self::State, _slab: &mut Slab) {}

    /// Checks that states can be saved.
    ///
    /// # Errors
    ///
    /// What has to be done first.
    fn check_savable(&self) -> Result<(), &'static str> {
        Err("its aggregate has no `save` and `load`")
    }

    /// Writes a state to which at least one value was added.
    ///
    /// # Errors
    ///
    /// Those of `to`; or states cannot be saved.
    fn save(&self, _state: Self::State, _slab: &Slab, _to: &mut dyn Write) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Reads a state that [`save`](Self::save) wrote, and nothing behind it. It may take any
    /// memory.
    ///
    /// # Errors
    ///
    /// Those of `from`; or the bytes are none that `save` writes.
    fn load(&self, _slab: &mut Slab, _from: &mut dyn Read) -> io::Result<Self::State> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The result of a state to which at least one value was added.
    fn finish(&self, state: Self::State, slab: &Slab) -> Self::Output;
}

#[cfg(test)]
mod tests;
