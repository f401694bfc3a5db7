//! The aggregates of `-a`: their names, and how two results of a key become one.
//!
//! Must not know: `clap`, `options`, `units`, `counting`.

use std::ops::Add;

use microtally::extract::Number;

/// What is computed for each key.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum AggregateKind {
    /// The number of records.
    #[default]
    Count,
    /// The sum of the values.
    Sum,
    /// The least value.
    Min,
    /// The greatest value.
    Max,
    /// The mean value.
    Mean,
}

/// Every aggregate with its name.
const AGGREGATES: [(&str, AggregateKind); 5] = [
    ("count", AggregateKind::Count),
    ("sum", AggregateKind::Sum),
    ("min", AggregateKind::Min),
    ("max", AggregateKind::Max),
    ("mean", AggregateKind::Mean),
];

/// `-a`.
///
/// # Errors
///
/// What is allowed.
pub(crate) fn aggregate(text: &str) -> Result<AggregateKind, String> {
    let found = AGGREGATES.iter().find(|(name, _)| *name == text);
    let allowed = || {
        format!(
            "allowed are {}",
            AGGREGATES.map(|(name, _)| name).join(", ")
        )
    };
    found.map(|(_, aggregate)| *aggregate).ok_or_else(allowed)
}

impl AggregateKind {
    /// Returns the function that combines two results. Counts do not use it.
    pub(crate) fn fold(self) -> fn(Number, Number) -> Number {
        match self {
            AggregateKind::Min => Number::min,
            AggregateKind::Max => Number::max,
            AggregateKind::Count | AggregateKind::Sum | AggregateKind::Mean => Number::add,
        }
    }

    /// Returns the name as typed.
    pub(crate) fn name(self) -> &'static str {
        let named = AGGREGATES.iter().find(|(_, aggregate)| *aggregate == self);
        named.map_or("count", |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_aggregate_has_the_name_it_is_typed_as() {
        for (name, found) in AGGREGATES {
            assert_eq!(aggregate(name), Ok(found));
            assert_eq!(found.name(), name);
        }
        let reason = aggregate("avg").expect_err("no aggregate");
        assert_eq!(reason, "allowed are count, sum, min, max, mean");
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in any::<String>()) {
            let _ = aggregate(&text);
        }
    }
}
