//! Histograms of durations, in buckets that are fixed.
//!
//! Promise: a quantile is wrong by at most [`DurationHistogram::RELATIVE_ERROR`], or by 8 ns where
//! that is more; two histograms can be added. Must not know: what is measured, `ledger`.
//!
//! Buckets are log-linear: each power of two is divided into 16 equal parts, and below 256 ns a
//! bucket has 16 ns.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::metrics::cells::{Counter, MetricCell, nanoseconds};

/// log2 of the nanoseconds of the smallest bucket.
const UNIT_LOG2: u32 = 4;

/// log2 of the buckets of a power of two.
const PARTS_LOG2: u32 = 4;

const PARTS: usize = 1 << PARTS_LOG2;

/// Powers of two with buckets of their own; durations of 39 hours and more share the last bucket.
const OCTAVES: usize = 39;

const BUCKETS: usize = (OCTAVES + 1) * PARTS;

/// Returns the number of the bucket of a duration.
fn bucket_of(ns: u64) -> usize {
    let units = ns >> UNIT_LOG2;
    if units < PARTS as u64 {
        return units as usize;
    }
    let octave = units.ilog2() - PARTS_LOG2;
    let part = (units >> octave) as usize & (PARTS - 1);
    (((octave as usize + 1) << PARTS_LOG2) + part).min(BUCKETS - 1)
}

/// Returns where a bucket begins, in nanoseconds.
fn begin_of(bucket: usize) -> u64 {
    let (octave, part) = (bucket >> PARTS_LOG2, (bucket & (PARTS - 1)) as u64);
    match octave {
        0 => part << UNIT_LOG2,
        _ => (PARTS as u64 + part) << (octave as u32 - 1 + UNIT_LOG2),
    }
}

/// A histogram that one thread writes.
#[derive(Debug)]
pub(crate) struct HistogramCells {
    buckets: Box<[AtomicU64]>,
    sum_ns: Counter,
    max_ns: AtomicU64,
}

impl Default for HistogramCells {
    fn default() -> Self {
        HistogramCells {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            sum_ns: Counter::default(),
            max_ns: AtomicU64::new(0),
        }
    }
}

impl HistogramCells {
    /// Adds a duration.
    pub(crate) fn record(&self, time: Duration) {
        let ns = nanoseconds(time);
        let bucket = &self.buckets[bucket_of(ns)];
        // Relaxed: see `cells`.
        bucket.store(bucket.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.sum_ns.add(ns);
        let max_ns = self.max_ns.load(Ordering::Relaxed).max(ns);
        self.max_ns.store(max_ns, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> DurationHistogram {
        let buckets = self.buckets.iter();
        DurationHistogram {
            buckets: buckets.map(|it| it.load(Ordering::Relaxed)).collect(),
            sum_ns: self.sum_ns.value(),
            max_ns: self.max_ns.load(Ordering::Relaxed),
        }
    }
}

/// How durations are distributed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DurationHistogram {
    /// Empty if nothing was ever recorded.
    buckets: Vec<u64>,
    sum_ns: u64,
    max_ns: u64,
}

impl DurationHistogram {
    /// The most by which a quantile differs from the true one, as a part of that: 1/32. Below
    /// 256 ns, and so for less, it is 8 ns.
    pub const RELATIVE_ERROR: f64 = 1.0 / (2 * PARTS) as f64;

    /// Number of durations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Their sum.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// The longest one, exactly; zero if there is none.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns)
    }

    /// Returns the duration that a part of all, `q` from 0 to 1, does not exceed; zero if there is
    /// none. It is within [`RELATIVE_ERROR`](Self::RELATIVE_ERROR), and exact for 1.
    ///
    /// ```
    /// use microtally::metrics::DurationHistogram;
    /// assert_eq!(DurationHistogram::default().quantile(0.99).as_nanos(), 0);
    /// ```
    pub fn quantile(&self, q: f64) -> Duration {
        let count = self.count();
        let rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count.max(1));
        if rank == count {
            return self.max();
        }
        let mut seen = 0;
        let found = self.buckets.iter().position(|&in_bucket| {
            seen += in_bucket;
            seen >= rank
        });
        found.map_or(Duration::ZERO, |bucket| {
            let middle = begin_of(bucket).midpoint(begin_of(bucket + 1));
            Duration::from_nanos(middle.min(self.max_ns))
        })
    }

    /// Adds the durations of another histogram.
    pub fn merge(&mut self, other: &DurationHistogram) {
        self.buckets.resize(BUCKETS, 0);
        for (sum, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += more;
        }
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// Number of durations shorter than 2 to the power of `log2` nanoseconds, which is at least 8.
    pub(super) fn count_below(&self, log2: u32) -> u64 {
        let buckets = bucket_of(1 << log2).min(self.buckets.len());
        self.buckets[..buckets].iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn histogram(times_ns: &[u64]) -> DurationHistogram {
        let cells = HistogramCells::default();
        for &ns in times_ns {
            cells.record(Duration::from_nanos(ns));
        }
        cells.read()
    }

    #[test]
    fn buckets_are_in_order_and_without_gaps() {
        for bucket in 0..BUCKETS {
            let (begin, end) = (begin_of(bucket), begin_of(bucket + 1));
            assert!(begin < end);
            assert_eq!((bucket_of(begin), bucket_of(end - 1)), (bucket, bucket));
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    proptest! {
        #[test]
        fn quantiles_are_within_the_error(
            mut times in prop::collection::vec((0u32..46, any::<u64>()), 1..200),
            q in 0.0f64..=1.0,
        ) {
            let times: Vec<u64> = {
                times.sort_unstable();
                let mut all: Vec<u64> =
                    times.iter().map(|(log2, ns)| ns % (1 << log2)).collect();
                all.sort_unstable();
                all
            };
            let histogram = histogram(&times);
            prop_assert_eq!(histogram.count(), times.len() as u64);
            prop_assert_eq!(histogram.sum().as_nanos() as u64, times.iter().sum::<u64>());
            let rank = ((q * times.len() as f64).ceil() as usize).clamp(1, times.len());
            let exact = times[rank - 1];
            let shown = histogram.quantile(q).as_nanos() as u64;
            let error_max = (exact as f64 * DurationHistogram::RELATIVE_ERROR).max(8.0);
            prop_assert!(shown.abs_diff(exact) as f64 <= error_max, "{} for {}", shown, exact);
            prop_assert_eq!(histogram.quantile(1.0), histogram.max());
            for log2 in 8..47 {
                let below = times.iter().filter(|&&ns| ns < 1 << log2).count();
                prop_assert_eq!(histogram.count_below(log2), below as u64);
            }
        }

        #[test]
        fn merging_is_recording_both(
            one in prop::collection::vec(any::<u32>(), 0..50),
            other in prop::collection::vec(any::<u32>(), 0..50),
        ) {
            let ns = |times: &[u32]| times.iter().map(|&ns| u64::from(ns)).collect::<Vec<_>>();
            let mut merged = histogram(&ns(&one));
            merged.merge(&histogram(&ns(&other)));
            prop_assert_eq!(merged, histogram(&[ns(&one), ns(&other)].concat()));
        }
    }
}
