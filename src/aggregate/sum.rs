//! The sum of the values.
//!
//! Must not know: tables, keys.

use super::{Aggregate, Numeric, Slab};

/// Adds up the values of a key.
///
/// Sums of integers and decimals are exact. Sums of floats are rounded, so their last digits depend
/// on the order of the records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum;

impl<T: Numeric> Aggregate<T> for Sum {
    type State = T::Sum;
    type Output = T::Sum;
    const HAS_REMOVE: bool = T::HAS_MINUS;

    fn zero(&self) -> T::Sum {
        T::Sum::default()
    }

    #[inline]
    fn add(&self, state: &mut T::Sum, value: T, _: &mut Slab) {
        *state = T::plus(*state, value.to_sum());
    }

    fn merge(&self, into: &mut T::Sum, _: &mut Slab, from: T::Sum, _: &Slab) {
        *into = T::plus(*into, from);
    }

    fn remove(&self, into: &mut T::Sum, _: &mut Slab, from: T::Sum, _: &Slab) {
        *into = T::minus(*into, from);
    }

    fn finish(&self, state: T::Sum, _: &Slab) -> T::Sum {
        state
    }

    saved_as_it_is!();
}
