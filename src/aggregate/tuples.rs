//! Several aggregates at once, and aggregates of a part of the value.
//!
//! Promise: a record is added to all aggregates of a tuple or to none. Must not know: tables, keys.

use std::fmt;
use std::io::{self, Read, Write};

use super::{Aggregate, Slab, SlabFull};

macro_rules! tuple {
    ($($name:ident $at:tt),*) => {
        impl<T: Copy, $($name: Aggregate<T>),*> Aggregate<T> for ($($name,)*) {
            type State = ($($name::State,)*);
            type Output = ($($name::Output,)*);
            const HAS_REMOVE: bool = $($name::HAS_REMOVE)&&*;

            fn zero(&self) -> Self::State {
                ($(self.$at.zero(),)*)
            }

            #[inline]
            fn reserve(&self, state: &mut Self::State, slab: &mut Slab) -> Result<(), SlabFull> {
                $(self.$at.reserve(&mut state.$at, slab)?;)*
                Ok(())
            }

            #[inline]
            fn add(&self, state: &mut Self::State, value: T, slab: &mut Slab) {
                $(self.$at.add(&mut state.$at, value, slab);)*
            }

            fn merge(&self, into: &mut Self::State, slab: &mut Slab, from: Self::State, others: &Slab) {
                $(self.$at.merge(&mut into.$at, slab, from.$at, others);)*
            }

            fn remove(&self, into: &mut Self::State, slab: &mut Slab, from: Self::State, others: &Slab) {
                $(self.$at.remove(&mut into.$at, slab, from.$at, others);)*
            }

            fn free(&self, state: Self::State, slab: &mut Slab) {
                $(self.$at.free(state.$at, slab);)*
            }

            fn check_savable(&self) -> Result<(), &'static str> {
                $(self.$at.check_savable()?;)*
                Ok(())
            }

            fn save(&self, state: Self::State, slab: &Slab, to: &mut dyn Write) -> io::Result<()> {
                $(self.$at.save(state.$at, slab, to)?;)*
                Ok(())
            }

            fn load(&self, slab: &mut Slab, from: &mut dyn Read) -> io::Result<Self::State> {
                Ok(($(self.$at.load(slab, from)?,)*))
            }

            fn finish(&self, state: Self::State, slab: &Slab) -> Self::Output {
                ($(self.$at.finish(state.$at, slab),)*)
            }
        }
    };
}

tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);

/// An aggregate of a part of the value, made by [`on`].
#[derive(Clone, Copy)]
pub struct On<F, A> {
    part: F,
    aggregate: A,
}

impl<F, A: fmt::Debug> fmt::Debug for On<F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("On").field(&self.aggregate).finish()
    }
}

/// Aggregates what `part` makes of each value: a field of a tuple, another unit.
///
/// ```
/// use microtally::aggregate::{Max, Min, on};
/// use microtally::stream::run_lines;
/// let extremes = run_lines("k 3 8\nk 4 7", |lines| {
///     let pairs = lines.map(|line| (&line[..1], (line[2] - b'0', line[4] - b'0')));
///     let (first, second) = (|pair: (u8, u8)| pair.0, |pair: (u8, u8)| pair.1);
///     Ok(pairs.aggregate_by_key((on(first, Max), on(second, Min))).results().top(1))
/// })?;
/// assert_eq!(extremes, [("k".into(), (4, 7))]);
/// # Ok::<(), microtally::Error>(())
/// ```
pub fn on<F, A>(part: F, aggregate: A) -> On<F, A> {
    On { part, aggregate }
}

impl<T, U, F, A> Aggregate<T> for On<F, A>
where
    F: Fn(T) -> U + Clone + Send + Sync + 'static,
    A: Aggregate<U>,
{
    type State = A::State;
    type Output = A::Output;
    const HAS_REMOVE: bool = A::HAS_REMOVE;

    fn zero(&self) -> A::State {
        self.aggregate.zero()
    }

    #[inline]
    fn reserve(&self, state: &mut A::State, slab: &mut Slab) -> Result<(), SlabFull> {
        self.aggregate.reserve(state, slab)
    }

    #[inline]
    fn add(&self, state: &mut A::State, value: T, slab: &mut Slab) {
        self.aggregate.add(state, (self.part)(value), slab);
    }

    fn merge(&self, into: &mut A::State, slab: &mut Slab, from: A::State, others: &Slab) {
        self.aggregate.merge(into, slab, from, others);
    }

    fn remove(&self, into: &mut A::State, slab: &mut Slab, from: A::State, others: &Slab) {
        self.aggregate.remove(into, slab, from, others);
    }

    fn free(&self, state: A::State, slab: &mut Slab) {
        self.aggregate.free(state, slab);
    }

    fn check_savable(&self) -> Result<(), &'static str> {
        self.aggregate.check_savable()
    }

    fn save(&self, state: A::State, slab: &Slab, to: &mut dyn Write) -> io::Result<()> {
        self.aggregate.save(state, slab, to)
    }

    fn load(&self, slab: &mut Slab, from: &mut dyn Read) -> io::Result<A::State> {
        self.aggregate.load(slab, from)
    }

    fn finish(&self, state: A::State, slab: &Slab) -> A::Output {
        self.aggregate.finish(state, slab)
    }
}
