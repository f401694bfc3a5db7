//! The sum of the values.
//!
//! Must not know: tables, keys.

use std::io::{self, Read, Write};

use super::{Aggregate, Numeric, Slab};
use crate::save::Saved;

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

    fn check_savable(&self) -> Result<(), &'static str> {
        Ok(())
    }

    fn save(&self, state: Self::State, _: &Slab, to: &mut dyn Write) -> io::Result<()> {
        state.save(to)
    }

    fn load(&self, _: &mut Slab, from: &mut dyn Read) -> io::Result<Self::State> {
        Saved::load(from)
    }
}
