//! The aggregates of `--aggregate`, one column each.
//!
//! Promise: each column is what the aggregate alone would be; percentiles share a sketch, and a
//! mean shares sum and count. Must not know: `live`, `output`, `run`.

use std::sync::Arc;

use microtally::aggregate::{
    Aggregate, Distinct, Percentile, Sketch, Slab, SlabFull, ValueHash, ValueSet,
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

/// Columns of which up to `N` come from a sum, a least or a greatest value. Rows have up to `F`
/// columns besides sums and extremes.
#[derive(Clone, Debug)]
pub(crate) struct ColumnAggregates<const N: usize, const F: usize> {
    columns: Arc<[AggregateKind]>,
    /// What each number of a state is: `Sum`, `Min` or `Max`, in this order; `Count` if unused.
    numbers: [AggregateKind; N],
    has_sketch: bool,
    /// Where hashes of values come from, if a column needs them.
    distinct: Option<Distinct>,
}

/// The state of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ColumnStates<const N: usize> {
    count: u64,
    numbers: [Number; N],
    sketch: Sketch,
    set: ValueSet,
}

/// Which percentile does not matter until the end.
const SKETCH: Percentile = Percentile::MEDIAN;

/// The number in a state that a column needs.
fn number_of(kind: AggregateKind) -> Option<AggregateKind> {
    match kind {
        AggregateKind::Sum | AggregateKind::Mean => Some(AggregateKind::Sum),
        AggregateKind::Min | AggregateKind::Max => Some(kind),
        _ => None,
    }
}

/// The different numbers in a state of columns `kinds`.
fn numbers(kinds: &[AggregateKind]) -> impl Iterator<Item = AggregateKind> {
    let all = [AggregateKind::Sum, AggregateKind::Min, AggregateKind::Max];
    let is_needed = |number: &AggregateKind| {
        let mut needed = kinds.iter().map(|kind| number_of(*kind));
        needed.any(|needed| needed == Some(*number))
    };
    all.into_iter().filter(is_needed)
}

/// How many numbers a state of columns `kinds` has, and how many columns are not numbers.
pub(crate) fn sizes(kinds: &[AggregateKind]) -> (usize, usize) {
    let is_other = |kind: &&AggregateKind| !kind.is_exact_number();
    (
        numbers(kinds).count(),
        kinds.iter().filter(is_other).count(),
    )
}

impl<const N: usize, const F: usize> ColumnAggregates<N, F> {
    /// The columns `kinds`. Hashes of values come from `distinct`.
    pub(crate) fn new(kinds: &[AggregateKind], distinct: Option<Distinct>) -> Self {
        let (count, others) = sizes(kinds);
        assert!(count <= N && others <= F, "there is room");
        let mut slots = [AggregateKind::Count; N];
        for (slot, number) in slots.iter_mut().zip(numbers(kinds)) {
            *slot = number;
        }
        let is_percentile = |kind: &AggregateKind| matches!(kind, AggregateKind::Percentile(_));
        ColumnAggregates {
            columns: kinds.into(),
            numbers: slots,
            has_sketch: kinds.iter().any(is_percentile),
            distinct,
        }
    }

    /// Adds numbers of as many records as `count`, of which `states` has none yet if it is 0.
    #[inline]
    fn add_numbers(&self, states: &mut ColumnStates<N>, numbers: impl Fn(usize) -> Number) {
        let is_first = states.count == 0;
        for (at, (kind, state)) in self.numbers.iter().zip(&mut states.numbers).enumerate() {
            let number = numbers(at);
            *state = match kind {
                _ if is_first => number,
                AggregateKind::Sum => *state + number,
                AggregateKind::Min => state.min(number),
                AggregateKind::Max => state.max(number),
                _ => break,
            };
        }
    }

    fn column(&self, kind: AggregateKind, states: &ColumnStates<N>, slab: &Slab) -> ColumnResult {
        let number = |wanted| {
            let at = self.numbers.iter().position(|kind| *kind == wanted);
            states.numbers[at.expect("the column has its number")]
        };
        match kind {
            AggregateKind::Count => ColumnResult::Count(states.count),
            AggregateKind::Sum | AggregateKind::Min | AggregateKind::Max => {
                ColumnResult::Number(number(kind))
            }
            AggregateKind::Mean => {
                ColumnResult::Float(number(AggregateKind::Sum).over(states.count).to_f64())
            }
            AggregateKind::Percentile(percent) => {
                let percentile = Percentile::new(percent);
                let sketch = states.sketch;
                ColumnResult::Float(Aggregate::<Number>::finish(&percentile, sketch, slab))
            }
            AggregateKind::Distinct => {
                let count = |distinct| Aggregate::<ValueHash>::finish(distinct, states.set, slab);
                ColumnResult::Count(self.distinct.as_ref().map_or(0, count))
            }
        }
    }
}

/// The result of a column.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ColumnResult {
    Count(u64),
    Float(f64),
    Number(Number),
}

impl<const N: usize, const F: usize> Aggregate<LineValue> for ColumnAggregates<N, F> {
    type State = ColumnStates<N>;
    type Output = Row<N, F>;

    fn zero(&self) -> ColumnStates<N> {
        ColumnStates {
            count: 0,
            numbers: [Number::default(); N],
            sketch: Sketch::default(),
            set: ValueSet::default(),
        }
    }

    #[inline]
    fn reserve(&self, states: &mut ColumnStates<N>, slab: &mut Slab) -> Result<(), SlabFull> {
        if self.has_sketch {
            Aggregate::<Number>::reserve(&SKETCH, &mut states.sketch, slab)?;
        }
        match &self.distinct {
            Some(distinct) => Aggregate::<ValueHash>::reserve(distinct, &mut states.set, slab),
            None => Ok(()),
        }
    }

    #[inline]
    fn add(&self, states: &mut ColumnStates<N>, value: LineValue, slab: &mut Slab) {
        self.add_numbers(states, |_| value.number);
        states.count += 1;
        if self.has_sketch {
            SKETCH.add(&mut states.sketch, value.number, slab);
        }
        if let Some(distinct) = &self.distinct {
            distinct.add(&mut states.set, value.hash, slab);
        }
    }

    fn merge(
        &self,
        into: &mut ColumnStates<N>,
        slab: &mut Slab,
        from: ColumnStates<N>,
        others: &Slab,
    ) {
        if from.count > 0 {
            self.add_numbers(into, |at| from.numbers[at]);
            into.count += from.count;
        }
        if self.has_sketch {
            Aggregate::<Number>::merge(&SKETCH, &mut into.sketch, slab, from.sketch, others);
        }
        if let Some(distinct) = &self.distinct {
            Aggregate::<ValueHash>::merge(distinct, &mut into.set, slab, from.set, others);
        }
    }

    fn free(&self, states: ColumnStates<N>, slab: &mut Slab) {
        Aggregate::<Number>::free(&SKETCH, states.sketch, slab);
        if let Some(distinct) = &self.distinct {
            Aggregate::<ValueHash>::free(distinct, states.set, slab);
        }
    }

    fn finish(&self, states: ColumnStates<N>, slab: &Slab) -> Row<N, F> {
        let columns = self.columns.iter();
        Row::of(columns.map(|kind| self.column(*kind, &states, slab)))
    }
}
