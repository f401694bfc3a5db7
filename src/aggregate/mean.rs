//! The mean of the values.
//!
//! Must not know: tables, keys.

use super::{Aggregate, Numeric, Slab};

/// The mean of the values of a key: their sum, as exact as that of [`Sum`](super::Sum), over their
/// number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mean;

impl<T: Numeric> Aggregate<T> for Mean {
    type State = (T::Sum, u64);
    type Output = T::Mean;
    const HAS_REMOVE: bool = T::HAS_MINUS;

    fn zero(&self) -> Self::State {
        (T::Sum::default(), 0)
    }

    #[inline]
    fn add(&self, (sum, count): &mut Self::State, value: T, _: &mut Slab) {
        *sum = T::plus(*sum, value.to_sum());
        *count += 1;
    }

    fn merge(&self, (sum, count): &mut Self::State, _: &mut Slab, from: Self::State, _: &Slab) {
        *sum = T::plus(*sum, from.0);
        *count += from.1;
    }

    fn remove(&self, (sum, count): &mut Self::State, _: &mut Slab, from: Self::State, _: &Slab) {
        *sum = T::minus(*sum, from.0);
        *count -= from.1;
    }

    fn finish(&self, (sum, count): Self::State, _: &Slab) -> T::Mean {
        T::mean(sum, count)
    }

    saved_as_it_is!();
}
