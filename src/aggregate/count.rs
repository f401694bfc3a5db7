//! The number of records.
//!
//! Must not know: tables, keys.

use std::io::{self, Read, Write};

use super::{Aggregate, Slab};
use crate::save::Saved;

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
