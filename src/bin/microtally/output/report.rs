//! The statistics of a run, for `--stats` and `demo`.
//!
//! Promise: watching a batch allocates nothing. Must not know: `counting`, `live`, `parse`.

use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use microtally::Batch;
use microtally::batch::BatchStats;
use microtally::extract::{Reason, Skipped};
use microtally::sink::{Sink, Undelivered};

use crate::lock;
use crate::output::ResultValue;
use crate::run::{allocations, memory, usage};

/// Batches until every table has been used and has grown to what the stream needs: each shard has
/// two.
const WARM_UP_BATCHES: u64 = 2;

/// Watches batches; clones share what they saw.
#[derive(Clone)]
pub(crate) struct Report(Arc<Mutex<Seen>>);

struct Seen {
    totals: Totals,
    start: Instant,
    /// How late batches began, in microseconds.
    delays: Histogram<u64>,
    /// When the last batch was published.
    end: Instant,
    /// At the end of the warm-up: time, bytes counted, allocator calls.
    warm: Option<(Instant, u64, u64)>,
    /// Allocator calls when the last batch was published.
    calls: u64,
}

/// Sums and maxima over all batches.
#[derive(Clone, Default)]
pub(crate) struct Totals {
    batches: u64,
    pub records: u64,
    /// Of those, the records before the last result.
    pub out_records: u64,
    /// Keys of the last result, and of the result with the most.
    keys: u64,
    pub keys_max: u64,
    tokens: u64,
    bytes: u64,
    dropped: u64,
    /// Bytes of what was dropped, as far as they were received.
    dropped_bytes: u64,
    /// Connections that were closed unread, because no more were allowed.
    refused: u64,
    /// Of those dropped, the ones that were too long.
    pub oversize: u64,
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
    pub totals: Totals,
    /// Lines that were skipped, or are odd, by reason.
    lines: [(&'static str, u64); REASONS.len()],
    elapsed: Duration,
    gigabytes_per_s: f64,
    delay_us: [u64; 3],
    /// Allocator calls after the warm-up; unknown if there was no batch after it.
    steady_allocations: Option<u64>,
    /// Seconds of CPU time of the process so far, and its peak memory in bytes.
    cpu_s: f64,
    peak_bytes: u64,
}

impl Report {
    /// Starts watching.
    pub(crate) fn new() -> Self {
        let delays = Histogram::new_with_bounds(1, 24 * 3600 * 1_000_000, 3)
            .expect("the bounds are in order and three digits are allowed");
        let now = Instant::now();
        Report(Arc::new(Mutex::new(Seen {
            totals: Totals::default(),
            start: now,
            delays,
            end: now,
            warm: None,
            calls: 0,
        })))
    }

    /// Sums up; `skipped` is what is in no result.
    pub(crate) fn summary(&self, skipped: &Skipped) -> Summary {
        let seen = lock(&self.0);
        let steady = seen.warm.filter(|_| seen.totals.batches > WARM_UP_BATCHES);
        let (from, before) = steady.map_or((seen.start, 0), |(at, bytes, _)| (at, bytes));
        let seconds = (seen.end - from).as_secs_f64();
        let bytes = (seen.totals.bytes - before) as f64;
        Summary {
            totals: seen.totals.clone(),
            lines: REASONS.map(|(name, reason)| (name, skipped.count(reason))),
            elapsed: seen.end - seen.start,
            gigabytes_per_s: if seconds > 0.0 {
                bytes / seconds / 1e9
            } else {
                0.0
            },
            delay_us: [0.5, 0.99, 1.0].map(|q| seen.delays.value_at_quantile(q)),
            steady_allocations: steady.map(|(_, _, calls)| seen.calls - calls),
            cpu_s: usage::own_cpu_s(),
            peak_bytes: memory::peak().unwrap_or(0),
        }
    }
}

impl Totals {
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
        let totals = &mut seen.totals;
        totals.batches += 1;
        totals.records += stats.records;
        totals.tokens += stats.tokens;
        totals.bytes += stats.bytes;
        totals.oversize += stats.oversize_tokens;
        totals.dropped += stats.dropped();
        totals.dropped_bytes += stats.oversize_bytes + stats.truncated_bytes + stats.lost_bytes;
        totals.refused += stats.refused_connections;
        totals.see_limit(stats);
        let micros = u64::try_from(stats.scheduling_delay.as_micros()).unwrap_or(u64::MAX);
        seen.delays.saturating_record(micros.max(1));
        seen.end = Instant::now();
        seen.calls = allocations::calls();
        if seen.totals.batches == WARM_UP_BATCHES {
            seen.warm = Some((seen.end, seen.totals.bytes, seen.calls));
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
        let totals = &mut lock(seen).totals;
        totals.see_limit(batch.stats());
        totals.out_records = totals.records;
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
        let totals = &self.totals;
        let amount = |number, one, many| match number {
            1 => format!("1 {one}"),
            _ => format!("{number} {many}"),
        };
        let lines = amount(totals.records, "line", "lines");
        let results = match is_of_all {
            true => amount(totals.keys, "key", "keys"),
            false => amount(totals.batches, "batch", "batches"),
        };
        let mut text = format!("{lines}, {results}");
        if totals.dropped > 0 {
            write!(text, ", {} dropped", totals.dropped).expect("writing to a string succeeds");
        }
        text
    }

    /// One line for people.
    pub(crate) fn text(&self) -> String {
        let totals = &self.totals;
        let [p50, p99, max] = self.delay_us.map(|us| us as f64 / 1e3);
        let mut text = format!(
            "{} {} in {:.1} s: {} records, {} tokens, {} bytes, {:.3} GB/s; ",
            totals.batches,
            if totals.batches == 1 {
                "batch"
            } else {
                "batches"
            },
            self.elapsed.as_secs_f64(),
            totals.records,
            totals.tokens,
            totals.bytes,
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
            totals.dropped,
            self.cpu_s,
            self.peak_bytes as f64 / 1e6,
        )
        .expect("writing to a string succeeds");
        if totals.refused > 0 {
            write!(text, "; clients refused: {}", totals.refused)
                .expect("writing to a string succeeds");
        }
        text
    }

    /// One JSON object.
    pub(crate) fn json(&self) -> String {
        let totals = &self.totals;
        let mut object = serde_json::json!({
            "v": 1,
            "batches": totals.batches,
            "seconds": self.elapsed.as_secs_f64(),
            "records": totals.records,
            "tokens": totals.tokens,
            "bytes": totals.bytes,
            "gb_per_s": self.gigabytes_per_s,
            "late_us": {"p50": self.delay_us[0], "p99": self.delay_us[1], "max": self.delay_us[2]},
            "dropped": totals.dropped,
            "dropped_bytes": totals.dropped_bytes,
            "refused": totals.refused,
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
        object.to_string()
    }
}
