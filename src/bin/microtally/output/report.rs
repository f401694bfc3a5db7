//! The statistics of a run, for `--stats` and `demo`.
//!
//! Promise: watching a batch allocates nothing. Must not know: `counting`, `live`, `parse`.

use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use microtally::Batch;
use microtally::batch::BatchStats;
use microtally::engine::RunStats;
use microtally::extract::{Reason, Skipped};
use microtally::metrics::{SampleValue, Snapshot};
use microtally::sink::{Sink, Undelivered};
use serde_json::{Map, Value};

use crate::lock;
use crate::output::ResultValue;
use crate::run::{allocations, memory, usage};

/// Batches until every table has been used and has grown to what the stream needs: each shard has
/// two.
const WARM_UP_BATCHES: u64 = 2;

/// Watches batches; clones share what they saw. What the engine counts itself is in its metrics.
#[derive(Clone)]
pub(crate) struct Report(Arc<Mutex<Seen>>);

struct Seen {
    results: ResultTotals,
    start: Instant,
    /// When the last batch was published.
    end: Instant,
    /// Bytes of the batches of the warm-up.
    warm_bytes: u64,
    /// At the end of the warm-up: time, allocator calls.
    warm: Option<(Instant, u64)>,
    /// Allocator calls when the last batch was published.
    calls: u64,
}

/// Sums and maxima over all results.
#[derive(Clone, Default)]
pub(crate) struct ResultTotals {
    /// Records after the last result.
    pub late_records: u64,
    /// Keys of the last result, and of the result with the most.
    keys: u64,
    pub keys_max: u64,
    /// How much too high a count of any batch or result is at most.
    error_max: u64,
    /// The most records of one batch or result that are in no count, because there was no memory
    /// for their keys.
    other_records: u64,
    /// The most values of one result that are beyond a double.
    pub null_values: u64,
    /// The most records that a value of any batch or result may lack.
    missing_max: u64,
}

/// The statistics of a finished run.
pub(crate) struct Summary {
    pub run: RunStats,
    pub results: ResultTotals,
    metrics: Snapshot,
    /// Lines that were skipped, or are odd, by reason.
    lines: [(&'static str, u64); REASONS.len()],
    elapsed: Duration,
    gigabytes_per_s: f64,
    delay_us: [u128; 3],
    /// Allocator calls after the warm-up; unknown if there was no batch after it.
    steady_allocations: Option<u64>,
    /// Seconds of CPU time of the process so far, and its peak memory in bytes.
    cpu_s: f64,
    peak_bytes: u64,
}

impl Report {
    /// Starts watching.
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Report(Arc::new(Mutex::new(Seen {
            results: ResultTotals::default(),
            start: now,
            end: now,
            warm_bytes: 0,
            warm: None,
            calls: 0,
        })))
    }

    /// Sums up; `metrics` are those of the run, and `skipped` is what is in no result.
    pub(crate) fn summary(&self, metrics: Snapshot, skipped: &Skipped) -> Summary {
        let seen = lock(&self.0);
        let run = RunStats::of(&metrics);
        let steady = seen.warm.filter(|_| run.batches > WARM_UP_BATCHES);
        let (from, before) = steady.map_or((seen.start, 0), |(at, _)| (at, seen.warm_bytes));
        let seconds = (seen.end - from).as_secs_f64();
        let bytes = run.bytes.saturating_sub(before) as f64;
        let delays = metrics.histogram("batch_delay_seconds");
        let delays = delays.unwrap_or_default();
        Summary {
            run,
            results: seen.results.clone(),
            lines: REASONS.map(|(name, reason)| (name, skipped.count(reason))),
            elapsed: seen.end - seen.start,
            gigabytes_per_s: if seconds > 0.0 {
                bytes / seconds / 1e9
            } else {
                0.0
            },
            delay_us: [0.5, 0.99, 1.0].map(|q| delays.quantile(q).as_micros()),
            steady_allocations: steady.map(|(_, calls)| seen.calls - calls),
            cpu_s: usage::own_cpu_s(),
            peak_bytes: memory::peak().unwrap_or(0),
            metrics,
        }
    }
}

impl ResultTotals {
    fn see_limit(&mut self, stats: &BatchStats) {
        self.error_max = self.error_max.max(stats.error_max);
        self.other_records = self.other_records.max(stats.other_records);
        self.missing_max = self.missing_max.max(stats.missing_max);
    }
}

impl<V: Copy + Send + 'static> Sink<V> for Report {
    fn deliver(&mut self, batch: &Batch<'_, V>) -> Result<(), Undelivered> {
        let stats = batch.stats();
        let mut seen = lock(&self.0);
        seen.results.late_records += stats.records;
        seen.results.see_limit(stats);
        seen.end = Instant::now();
        seen.calls = allocations::calls();
        if stats.batch <= WARM_UP_BATCHES {
            seen.warm_bytes += stats.bytes;
            seen.warm = Some((seen.end, seen.calls));
        }
        Ok(())
    }
}

/// Watches results: they hold what was watched before them, or earlier results do. Results of
/// windows have error bounds of their own.
pub(crate) struct Results(pub(crate) Report);

/// Names of the reasons in the statistics.
const REASONS: [(&str, Reason); 8] = [
    ("filtered", Reason::Filtered),
    ("without_key", Reason::NoKey),
    ("without_value", Reason::NoValue),
    ("not_json", Reason::NotJson),
    ("not_text", Reason::NotText),
    ("not_numbers", Reason::NotANumber),
    ("too_large", Reason::TooLarge),
    ("open_quotes", Reason::OpenQuote),
];

impl<V: ResultValue> Sink<V> for Results {
    fn deliver(&mut self, batch: &Batch<'_, V>) -> Result<(), Undelivered> {
        let Results(Report(seen)) = self;
        let totals = &mut lock(seen).results;
        totals.see_limit(batch.stats());
        totals.late_records = 0;
        if V::MAY_BE_NULL {
            let nulls = batch.iter().filter(|(_, value)| value.is_null());
            totals.null_values = totals.null_values.max(nulls.count() as u64);
        }
        totals.keys = batch.len() as u64;
        totals.keys_max = totals.keys_max.max(totals.keys);
        Ok(())
    }
}

impl Summary {
    /// The line without `--stats`: `12 lines, 3 keys`, or `12 lines, 3 batches` where the last
    /// result does not hold everything that was counted.
    pub(crate) fn short_text(&self, is_of_all: bool) -> String {
        let amount = |number, one, many| match number {
            1 => format!("1 {one}"),
            _ => format!("{number} {many}"),
        };
        let lines = amount(self.run.records, "line", "lines");
        let results = match is_of_all {
            true => amount(self.results.keys, "key", "keys"),
            false => amount(self.run.batches, "batch", "batches"),
        };
        let mut text = format!("{lines}, {results}");
        let dropped = self.run.dropped();
        if dropped > 0 {
            write!(text, ", {dropped} dropped").expect("writing to a string succeeds");
        }
        text
    }

    /// One line for people.
    pub(crate) fn text(&self) -> String {
        let run = &self.run;
        let [p50, p99, max] = self.delay_us.map(|us| us as f64 / 1e3);
        let mut text = format!(
            "{} {} in {:.1} s: {} records, {} tokens, {} bytes, {:.3} GB/s; ",
            run.batches,
            if run.batches == 1 { "batch" } else { "batches" },
            self.elapsed.as_secs_f64(),
            run.records,
            run.tokens,
            run.bytes,
            self.gigabytes_per_s,
        );
        let steady = match self.steady_allocations {
            Some(calls) => calls.to_string(),
            None => "unknown (fewer than 3 batches)".to_owned(),
        };
        write!(
            text,
            "late p50 {p50:.1} ms p99 {p99:.1} ms max {max:.1} ms; {} dropped; {:.2} s of CPU time, {:.0} MB peak \
             memory; steady-state allocations: {steady}",
            run.dropped(),
            self.cpu_s,
            self.peak_bytes as f64 / 1e6,
        )
        .expect("writing to a string succeeds");
        if run.refused_connections > 0 {
            write!(text, "; clients refused: {}", run.refused_connections)
                .expect("writing to a string succeeds");
        }
        text
    }

    /// One JSON object.
    pub(crate) fn json(&self) -> String {
        let (run, totals) = (&self.run, &self.results);
        let late = self.delay_us.map(|us| us as u64);
        let mut object = serde_json::json!({
            "v": 1,
            "batches": run.batches,
            "seconds": self.elapsed.as_secs_f64(),
            "records": run.records,
            "tokens": run.tokens,
            "bytes": run.bytes,
            "gb_per_s": self.gigabytes_per_s,
            "late_us": {"p50": late[0], "p99": late[1], "max": late[2]},
            "dropped": run.dropped(),
            "dropped_bytes": run.oversize_bytes + run.truncated_bytes + run.lost_bytes,
            "refused": run.refused_connections,
            "error_max": totals.error_max,
            "other_records": totals.other_records,
            "null_values": totals.null_values,
            "missing_max": totals.missing_max,
            "cpu_s": self.cpu_s,
            "peak_bytes": self.peak_bytes,
            "steady_allocations": self.steady_allocations,
        });
        for (name, lines) in &self.lines {
            object[*name] = (*lines).into();
        }
        object["metrics"] = all_metrics(&self.metrics);
        object.to_string()
    }
}

/// Every metric by its name: a number, an object of a histogram, or an object of these by label.
fn all_metrics(metrics: &Snapshot) -> Value {
    let mut all = Map::new();
    for sample in metrics.samples() {
        let value = match sample.value {
            SampleValue::Number(number) => number.into(),
            SampleValue::Time(time) => time.as_secs_f64().into(),
            SampleValue::Histogram(it) => serde_json::json!({
                "count": it.count(),
                "sum": it.sum().as_secs_f64(),
                "p50": it.quantile(0.5).as_secs_f64(),
                "p99": it.quantile(0.99).as_secs_f64(),
                "max": it.max().as_secs_f64(),
            }),
            _ => continue,
        };
        let name = sample.family.name;
        if sample.family.label.is_empty() {
            all.insert(name.to_owned(), value);
        } else {
            let by_label = all.entry(name).or_insert_with(|| Map::new().into());
            by_label[sample.label] = value;
        }
    }
    all.into()
}
