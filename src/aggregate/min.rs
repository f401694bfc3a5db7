//! The least value.
//!
//! Must not know: tables, keys.

use std::cmp::Ordering;
use std::io::{self, Read, Write};

use super::{Aggregate, Numeric, Slab};

/// The least value of a key, by [`Numeric::compare`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Min;

impl<T: Numeric> Aggregate<T> for Min {
    type State = Option<T>;
    type Output = T;

    fn zero(&self) -> Option<T> {
        None
    }

    #[inline]
    fn add(&self, state: &mut Option<T>, value: T, _: &mut Slab) {
        match state {
            Some(so_far) if value.compare(so_far) != Ordering::Less => {}
            _ => *state = Some(value),
        }
    }

    fn merge(&self, into: &mut Option<T>, slab: &mut Slab, from: Option<T>, _: &Slab) {
        if let Some(value) = from {
            self.add(into, value, slab);
        }
    }

    fn finish(&self, state: Option<T>, _: &Slab) -> T {
        state.expect("a key has a value")
    }

    fn check_savable(&self) -> Result<(), &'static str> {
        Ok(())
    }

    fn save(&self, state: Self::State, _: &Slab, to: &mut dyn Write) -> io::Result<()> {
        state.expect("a key has a value").save(to)
    }

    fn load(&self, _: &mut Slab, from: &mut dyn Read) -> io::Result<Self::State> {
        T::load(from).map(Some)
    }
}
