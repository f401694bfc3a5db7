//! The number of records.
//!
//! Must not know: tables, keys.

use super::{Aggregate, Slab};

/// Counts the records of a key, whatever their values.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count;

impl<T> Aggregate<T> for Count {
    type State = u64;
    type Output = u64;
    const HAS_REMOVE: bool = true;

    fn zero(&self) -> u64 {
        0
    }

    #[inline]
    fn add(&self, state: &mut u64, _: T, _: &mut Slab) {
        *state += 1;
    }

    fn merge(&self, into: &mut u64, _: &mut Slab, from: u64, _: &Slab) {
        *into += from;
    }

    fn remove(&self, into: &mut u64, _: &mut Slab, from: u64, _: &Slab) {
        *into -= from;
    }

    fn finish(&self, state: u64, _: &Slab) -> u64 {
        state
    }

    saved_as_it_is!();
}
