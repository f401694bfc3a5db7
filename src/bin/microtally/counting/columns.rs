//! The aggregates of `--aggregate`, one column each.
//!
//! Promise: each column is the library's aggregate of its name; percentiles share a sketch. Must
//! not know: `live`, `output`, `run`.

use std::sync::Arc;

use microtally::aggregate::{
    Aggregate, Count, Distinct, Max, Mean, Min, Percentile, Sketch, Slab, SlabFull, Sum, ValueHash,
    ValueSet,
};
use microtally::extract::Number;

use super::row::Row;
use crate::parse::aggregate::AggregateKind;

/// The value of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LineValue {
    /// The value, if a column needs a number.
    pub number: Number,
    /// The hash of its text, if a column needs one.
    pub hash: ValueHash,
}

/// Up to `N` columns, made of up to `M` parts.
#[derive(Clone, Debug)]
pub(crate) struct ColumnAggregates<const M: usize, const N: usize> {
    /// What the parts are; several percentiles are one.
    parts: Arc<[AggregateKind]>,
    /// For each column what it is, and the number of its part.
    columns: Arc<[(AggregateKind, usize)]>,
    distinct: Distinct,
}

/// The state of a part.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PartState {
    Count(u64),
    Sum(Number),
    Mean((Number, u64)),
    Min(Option<Number>),
    Max(Option<Number>),
    Sketch(Sketch),
    Distinct(ValueSet),
}

/// Which percentile does not matter until the end.
const SKETCH: Percentile = Percentile::MEDIAN;

/// Returns `true` if both columns come from one part.
fn is_shared(a: AggregateKind, b: AggregateKind) -> bool {
    let both = (a, b);
    a == b
        || matches!(
            both,
            (AggregateKind::Percentile(_), AggregateKind::Percentile(_))
        )
}

/// The number of parts that columns have.
pub(crate) fn part_count(kinds: &[AggregateKind]) -> usize {
    let is_first = |(at, kind): (usize, &AggregateKind)| {
        !kinds[..at].iter().any(|before| is_shared(*before, *kind))
    };
    kinds.iter().enumerate().filter(|&it| is_first(it)).count()
}

impl<const M: usize, const N: usize> ColumnAggregates<M, N> {
    /// The columns `kinds`. Hashes of values come from `distinct`.
    pub(crate) fn new(kinds: &[AggregateKind], distinct: Distinct) -> Self {
        let mut parts: Vec<AggregateKind> = Vec::new();
        let columns = kinds.iter().map(|&kind| {
            let known = parts.iter().position(|part| is_shared(*part, kind));
            let part = known.unwrap_or_else(|| {
                parts.push(kind);
                parts.len() - 1
            });
            (kind, part)
        });
        let columns: Arc<[_]> = columns.collect();
        assert!(parts.len() <= M && columns.len() <= N, "there is room");
        ColumnAggregates {
            columns,
            parts: parts.into(),
            distinct,
        }
    }
}

impl<const M: usize, const N: usize> Aggregate<LineValue> for ColumnAggregates<M, N> {
    type State = [PartState; M];
    type Output = Row<N>;

    fn zero(&self) -> Self::State {
        let mut states = [PartState::Count(0); M];
        for (state, part) in states.iter_mut().zip(&*self.parts) {
            *state = zero(*part, &self.distinct);
        }
        states
    }

    #[inline]
    fn reserve(&self, states: &mut Self::State, slab: &mut Slab) -> Result<(), SlabFull> {
        for state in &mut states[..self.parts.len()] {
            match state {
                PartState::Sketch(state) => Aggregate::<Number>::reserve(&SKETCH, state, slab)?,
                PartState::Distinct(state) => {
                    Aggregate::<ValueHash>::reserve(&self.distinct, state, slab)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    #[inline]
    fn add(&self, states: &mut Self::State, value: LineValue, slab: &mut Slab) {
        let LineValue { number, hash } = value;
        for state in &mut states[..self.parts.len()] {
            match state {
                PartState::Count(state) => Count.add(state, number, slab),
                PartState::Sum(state) => Sum.add(state, number, slab),
                PartState::Mean(state) => Mean.add(state, number, slab),
                PartState::Min(state) => Min.add(state, number, slab),
                PartState::Max(state) => Max.add(state, number, slab),
                PartState::Sketch(state) => SKETCH.add(state, number, slab),
                PartState::Distinct(state) => self.distinct.add(state, hash, slab),
            }
        }
    }

    fn merge(&self, into: &mut Self::State, slab: &mut Slab, from: Self::State, others: &Slab) {
        for (into, from) in into.iter_mut().zip(from).take(self.parts.len()) {
            merge(&self.distinct, into, slab, from, others);
        }
    }

    fn free(&self, states: Self::State, slab: &mut Slab) {
        for state in states.into_iter().take(self.parts.len()) {
            match state {
                PartState::Sketch(state) => Aggregate::<Number>::free(&SKETCH, state, slab),
                PartState::Distinct(state) => {
                    Aggregate::<ValueHash>::free(&self.distinct, state, slab);
                }
                _ => {}
            }
        }
    }

    fn finish(&self, states: Self::State, slab: &Slab) -> Row<N> {
        let columns = self.columns.iter();
        Row::of(columns.map(|&(kind, part)| finish(&self.distinct, kind, states[part], slab)))
    }
}

fn zero(kind: AggregateKind, distinct: &Distinct) -> PartState {
    fn of<A: Aggregate<Number>>(aggregate: &A) -> A::State {
        aggregate.zero()
    }
    match kind {
        AggregateKind::Count => PartState::Count(of(&Count)),
        AggregateKind::Sum => PartState::Sum(of(&Sum)),
        AggregateKind::Mean => PartState::Mean(of(&Mean)),
        AggregateKind::Min => PartState::Min(of(&Min)),
        AggregateKind::Max => PartState::Max(of(&Max)),
        AggregateKind::Percentile(_) => PartState::Sketch(of(&SKETCH)),
        AggregateKind::Distinct => PartState::Distinct(Aggregate::<ValueHash>::zero(distinct)),
    }
}

fn merge(
    distinct: &Distinct,
    into: &mut PartState,
    slab: &mut Slab,
    from: PartState,
    others: &Slab,
) {
    fn of<A: Aggregate<Number>>(
        aggregate: &A,
        into: &mut A::State,
        slab: &mut Slab,
        from: A::State,
        others: &Slab,
    ) {
        aggregate.merge(into, slab, from, others);
    }
    match (into, from) {
        (PartState::Count(into), PartState::Count(from)) => of(&Count, into, slab, from, others),
        (PartState::Sum(into), PartState::Sum(from)) => of(&Sum, into, slab, from, others),
        (PartState::Mean(into), PartState::Mean(from)) => of(&Mean, into, slab, from, others),
        (PartState::Min(into), PartState::Min(from)) => of(&Min, into, slab, from, others),
        (PartState::Max(into), PartState::Max(from)) => of(&Max, into, slab, from, others),
        (PartState::Sketch(into), PartState::Sketch(from)) => of(&SKETCH, into, slab, from, others),
        (PartState::Distinct(into), PartState::Distinct(from)) => {
            Aggregate::<ValueHash>::merge(distinct, into, slab, from, others);
        }
        _ => unreachable!("states of one part are of one kind"),
    }
}

/// The result of one column.
fn finish(distinct: &Distinct, kind: AggregateKind, state: PartState, slab: &Slab) -> Number {
    fn of<A: Aggregate<Number>>(aggregate: A, state: A::State, slab: &Slab) -> A::Output {
        aggregate.finish(state, slab)
    }
    match (kind, state) {
        (_, PartState::Count(state)) => Number::from(of(Count, state, slab)),
        (_, PartState::Sum(state)) => of(Sum, state, slab),
        (_, PartState::Mean(state)) => of(Mean, state, slab),
        (_, PartState::Min(state)) => of(Min, state, slab),
        (_, PartState::Max(state)) => of(Max, state, slab),
        (AggregateKind::Percentile(percent), PartState::Sketch(state)) => {
            Number::from(of(Percentile::new(percent), state, slab))
        }
        (_, PartState::Distinct(state)) => {
            Number::from(Aggregate::<ValueHash>::finish(distinct, state, slab))
        }
        _ => unreachable!("the state of a percentile is a sketch"),
    }
}
