//! The aggregates of `-a`: their names, and how two numbers of a key become one.
//!
//! Must not know: `clap`, `options`, `units`, `counting`.

use std::ops::Add;

use microtally::aggregate::{Distinct, Percentile};
use microtally::extract::Number;

/// What is computed for each key.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum AggregateKind {
    /// The number of records.
    #[default]
    Count,
    /// The sum of the values.
    Sum,
    /// The mean value.
    Mean,
    /// The least value.
    Min,
    /// The greatest value.
    Max,
    /// The percentile of this many percent.
    Percentile(f64),
    /// The number of different values.
    Distinct,
}

/// Every aggregate with its name, except percentiles.
const AGGREGATES: [(&str, AggregateKind); 6] = [
    ("count", AggregateKind::Count),
    ("sum", AggregateKind::Sum),
    ("mean", AggregateKind::Mean),
    ("min", AggregateKind::Min),
    ("max", AggregateKind::Max),
    ("distinct", AggregateKind::Distinct),
];

/// The most aggregates at once.
pub(crate) const AGGREGATES_MAX: usize = 10;

/// The aggregates of `-a`, one column each.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AggregateList(Vec<AggregateKind>);

/// `-a`: names, separated by commas.
///
/// # Errors
///
/// What is allowed.
pub(crate) fn aggregates(text: &str) -> Result<AggregateList, String> {
    let mut kinds = Vec::new();
    for name in text.split(',') {
        let kind = aggregate(name)?;
        if kinds.contains(&kind) {
            return Err(format!("{name} is there twice; name each once"));
        }
        kinds.push(kind);
    }
    if kinds.len() > AGGREGATES_MAX {
        return Err(format!("at most {AGGREGATES_MAX} at once"));
    }
    Ok(AggregateList(kinds))
}

fn aggregate(name: &str) -> Result<AggregateKind, String> {
    if let Some((_, kind)) = AGGREGATES.iter().find(|(known, _)| *known == name) {
        return Ok(*kind);
    }
    let digits = name.strip_prefix('p').unwrap_or_default();
    let is_decimal = digits.starts_with(|first: char| first.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    match digits.parse() {
        Ok(percent) if is_decimal && percent <= 100.0 => Ok(AggregateKind::Percentile(percent)),
        _ => {
            let names = AGGREGATES.map(|(name, _)| name).join(", ");
            Err(format!(
                "allowed are {names}, and percentiles from p0 to p100, such as p99.9; several with commas between"
            ))
        }
    }
}

impl Default for AggregateList {
    fn default() -> Self {
        AggregateList(vec![AggregateKind::Count])
    }
}

impl AggregateList {
    /// The aggregates in the order of their columns, at least one.
    pub(crate) fn kinds(&self) -> &[AggregateKind] {
        &self.0
    }

    /// The names as typed, with `between` between them.
    pub(crate) fn names(&self, between: &str) -> String {
        let names: Vec<String> = self.0.iter().map(|kind| kind.name()).collect();
        names.join(between)
    }

    /// Returns `true` if only records are counted.
    pub(crate) fn is_count(&self) -> bool {
        self.0 == [AggregateKind::Count]
    }

    /// The first aggregate with a value, if one has.
    pub(crate) fn of_value(&self) -> Option<AggregateKind> {
        let mut kinds = self.0.iter();
        kinds.find(|kind| **kind != AggregateKind::Count).copied()
    }
}

impl AggregateKind {
    /// Returns the function that combines two results, if they are numbers in which all there is to
    /// know is: a mean is kept as its sum with a count.
    pub(crate) fn fold(self) -> Option<fn(Number, Number) -> Number> {
        match self {
            AggregateKind::Sum | AggregateKind::Mean => Some(Number::add),
            AggregateKind::Min => Some(Number::min),
            AggregateKind::Max => Some(Number::max),
            _ => None,
        }
    }

    /// Returns `true` if a result has all digits of the values.
    pub(crate) fn is_exact_number(self) -> bool {
        matches!(
            self,
            AggregateKind::Sum | AggregateKind::Min | AggregateKind::Max
        )
    }

    /// Returns `true` if the value has to be a number.
    pub(crate) fn needs_number(self) -> bool {
        !matches!(self, AggregateKind::Count | AggregateKind::Distinct)
    }

    /// The largest error of a percentile, and the standard error of a number of distinct values, as
    /// a part of the result; `None` if it is exact.
    pub(crate) fn error(self) -> Option<f64> {
        match self {
            AggregateKind::Percentile(_) => Some(Percentile::ERROR),
            AggregateKind::Distinct => Some(Distinct::ERROR),
            _ => None,
        }
    }

    /// Returns the name as typed.
    pub(crate) fn name(self) -> String {
        if let AggregateKind::Percentile(percent) = self {
            return format!("p{percent}");
        }
        let named = AGGREGATES.iter().find(|(_, kind)| *kind == self);
        named.map_or_else(String::new, |(name, _)| (*name).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_aggregate_has_the_name_it_is_typed_as() {
        for (name, kind) in AGGREGATES {
            assert_eq!(aggregates(name), Ok(AggregateList(vec![kind])));
            assert_eq!(kind.name(), name);
        }
        let all = aggregates("count,p50,p99.9,sum").expect("four");
        let names: Vec<String> = all.kinds().iter().map(|kind| kind.name()).collect();
        assert_eq!(names, ["count", "p50", "p99.9", "sum"]);
        assert_eq!(aggregates("count").map(|all| all.is_count()), Ok(true));
        for wrong in [
            "avg", "", "count,", "p", "p101", "p-1", "p1e1", "pinf", "p.5", "50", "sum,sum",
        ] {
            assert!(aggregates(wrong).is_err(), "{wrong}");
        }
        let many = (0..11)
            .map(|n| format!("p{n}"))
            .collect::<Vec<_>>()
            .join(",");
        assert_eq!(aggregates(&many), Err("at most 10 at once".to_owned()));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in any::<String>()) {
            let _ = aggregates(&text);
        }
    }
}
