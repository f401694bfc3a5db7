//! What `--stats` and `demo` tell about a run.
//!
//! Promise: watching a batch allocates nothing. Must not know: where results go.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use microtally::sink::Sink;
use microtally::{Batch, Result};

use crate::output::Shown;
use crate::run::{allocations, memory, usage};
use microtally::extract::{Reason, Skipped};

/// Batches until every table has been used and has grown to what the stream needs: each shard has two.
const WARM_UP_BATCHES: u64 = 2;

/// Watches batches go by; clones share what they saw.
#[derive(Clone)]
pub(crate) struct Report(Arc<Mutex<Seen>>);

struct Seen {
    start: Instant,
    batches: u64,
    records: u64,
    /// Of those, the ones that came before the last result.
    out_records: u64,
    /// Keys of the last result, and of the one that had the most.
    keys: u64,
    keys_max: u64,
    tokens: u64,
    bytes: u64,
    dropped: u64,
    /// Bytes of what was dropped, as far as they were received.
    dropped_bytes: u64,
    /// Connections that were closed unread, because no more were allowed.
    refused: u64,
    /// Of those dropped, the ones that were too long.
    oversize: u64,
    /// How much a count of any batch or result may be too high.
    error_max: u64,
    /// The most records of one of them that are in no count, for lack of room.
    other_records: u64,
    /// The most values of a result that are beyond a double.
    null_values: u64,
    /// The most records that a value of one of them may lack.
    missing_max: u64,
    /// How late batches began, in microseconds.
    delays: Histogram<u64>,
    /// When the last batch was out.
    end: Instant,
    /// At the end of the warm-up: time, bytes counted, allocator calls.
    warm: Option<(Instant, u64, u64)>,
    /// Allocator calls when the last batch was out.
    calls: u64,
}

/// The statistics of a finished run.
pub(crate) struct Summary {
    batches: u64,
    records: u64,
    /// Of those, the ones that came behind the last result.
    left_records: u64,
    /// Keys of the last result, and of the one that had the most.
    keys: u64,
    keys_max: u64,
    tokens: u64,
    bytes: u64,
    dropped: u64,
    /// Bytes of what was dropped, as far as they were received.
    dropped_bytes: u64,
    /// Connections that were closed unread, because no more were allowed.
    refused: u64,
    /// Of those dropped, the ones that were too long.
    oversize: u64,
    /// How much a count of any batch or result may be too high.
    error_max: u64,
    /// The most records of one of them that are in no count, for lack of room.
    other_records: u64,
    /// The most values of a result that are beyond a double.
    null_values: u64,
    /// Lines that were left out, or are odd, by reason.
    lines: Vec<(&'static str, u64)>,
    /// The most records that a value of one of them may lack.
    missing_max: u64,
    elapsed: Duration,
    gigabytes_per_s: f64,
    delay_us: [u64; 3],
    /// Allocator calls after the warm-up; none to tell when there was no batch after it.
    steady_allocations: Option<u64>,
    /// Seconds of processor time of the process so far, and the most memory it had, in bytes.
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
            start: now,
            batches: 0,
            records: 0,
            out_records: 0,
            keys: 0,
            keys_max: 0,
            tokens: 0,
            bytes: 0,
            dropped: 0,
            dropped_bytes: 0,
            refused: 0,
            oversize: 0,
            error_max: 0,
            other_records: 0,
            null_values: 0,
            missing_max: 0,
            delays,
            end: now,
            warm: None,
            calls: 0,
        })))
    }

    /// Sums up; `skipped` is what was left out of the results.
    pub(crate) fn summary_with(&self, skipped: &Skipped) -> Summary {
        Summary {
            lines: REASONS
                .map(|(name, reason)| (name, skipped.count(reason)))
                .to_vec(),
            ..self.summary()
        }
    }

    /// Sums up.
    pub(crate) fn summary(&self) -> Summary {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (from, before) = match seen.warm {
            Some((at, bytes, _)) if seen.batches > WARM_UP_BATCHES => (at, bytes),
            _ => (seen.start, 0),
        };
        let seconds = (seen.end - from).as_secs_f64();
        let bytes = (seen.bytes - before) as f64;
        let steady = seen.warm.filter(|_| seen.batches > WARM_UP_BATCHES);
        Summary {
            batches: seen.batches,
            records: seen.records,
            left_records: seen.records - seen.out_records,
            keys: seen.keys,
            keys_max: seen.keys_max,
            tokens: seen.tokens,
            bytes: seen.bytes,
            dropped: seen.dropped,
            dropped_bytes: seen.dropped_bytes,
            refused: seen.refused,
            oversize: seen.oversize,
            error_max: seen.error_max,
            other_records: seen.other_records,
            null_values: seen.null_values,
            lines: REASONS.map(|(name, _)| (name, 0)).to_vec(),
            missing_max: seen.missing_max,
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

impl<V: Copy + Send + 'static> Sink<V> for Report {
    fn emit(&mut self, batch: &Batch<'_, V>) -> Result<()> {
        let stats = batch.stats();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.batches += 1;
        seen.records += stats.records;
        seen.tokens += stats.tokens;
        seen.bytes += stats.bytes;
        seen.oversize += stats.oversize_tokens;
        seen.dropped += stats.dropped();
        let bytes = [
            stats.oversize_bytes,
            stats.truncated_bytes,
            stats.lost_bytes,
        ];
        seen.dropped_bytes += bytes.iter().sum::<u64>();
        seen.refused += stats.refused_connections;
        seen.error_max = seen.error_max.max(stats.error_max);
        seen.other_records = seen.other_records.max(stats.other_records);
        seen.missing_max = seen.missing_max.max(stats.missing_max);
        let micros = u64::try_from(stats.scheduling_delay.as_micros()).unwrap_or(u64::MAX);
        seen.delays.saturating_record(micros.max(1));
        seen.end = Instant::now();
        seen.calls = allocations::calls();
        if seen.batches == WARM_UP_BATCHES {
            seen.warm = Some((seen.end, seen.bytes, seen.calls));
        }
        Ok(())
    }
}

/// Sees results: what was watched before them is in them, or was in results before. Those of windows have an error
/// of their own.
pub(crate) struct Results(pub(crate) Report);

/// Names of what the statistics say of lines.
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

impl<V: Shown> Sink<V> for Results {
    fn emit(&mut self, batch: &Batch<'_, V>) -> Result<()> {
        let Results(Report(seen)) = self;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.error_max = seen.error_max.max(batch.stats().error_max);
        seen.other_records = seen.other_records.max(batch.stats().other_records);
        seen.missing_max = seen.missing_max.max(batch.stats().missing_max);
        seen.out_records = seen.records;
        if V::MAY_BE_NULL {
            let nulls = batch.iter().filter(|(_, value)| value.is_null());
            seen.null_values = seen.null_values.max(nulls.count() as u64);
        }
        seen.keys = batch.len() as u64;
        seen.keys_max = seen.keys_max.max(seen.keys);
        Ok(())
    }
}

impl Summary {
    /// Records that came behind the last result.
    pub(crate) fn left_records(&self) -> u64 {
        self.left_records
    }

    /// Lines and words that were too long and are in no result.
    pub(crate) fn oversize(&self) -> u64 {
        self.oversize
    }

    /// Values of one result that are beyond a double, at most.
    pub(crate) fn null_values(&self) -> u64 {
        self.null_values
    }

    /// Keys of the result that had the most.
    pub(crate) fn keys_max(&self) -> u64 {
        self.keys_max
    }

    /// What a person sees who asked for no statistics: `12 lines, 3 keys`; of results that do not hold all that was
    /// counted, `12 lines, 3 batches`.
    pub(crate) fn short_text(&self, is_of_all: bool) -> String {
        let amount = |number, one, many| match number {
            1 => format!("1 {one}"),
            _ => format!("{number} {many}"),
        };
        let lines = amount(self.records, "line", "lines");
        let results = match is_of_all {
            true => amount(self.keys, "key", "keys"),
            false => amount(self.batches, "batch", "batches"),
        };
        let mut text = format!("{lines}, {results}");
        if self.dropped > 0 {
            write!(text, ", {} dropped", self.dropped).expect("writing to a string succeeds");
        }
        text
    }

    /// One line for people.
    pub(crate) fn text(&self) -> String {
        let [p50, p99, max] = self.delay_us.map(|us| us as f64 / 1e3);
        let mut text = format!(
            "{} {} in {:.1} s: {} records, {} tokens, {} bytes, {:.3} GB/s; ",
            self.batches,
            if self.batches == 1 {
                "batch"
            } else {
                "batches"
            },
            self.elapsed.as_secs_f64(),
            self.records,
            self.tokens,
            self.bytes,
            self.gigabytes_per_s,
        );
        let steady = match self.steady_allocations {
            Some(calls) => calls.to_string(),
            None => "unknown (fewer than 3 batches)".to_owned(),
        };
        write!(
            text,
            "late p50 {p50:.1} ms p99 {p99:.1} ms max {max:.1} ms; {} dropped; {:.2} s of processor time, {:.0} MB \
             at most; steady-state allocations: {steady}",
            self.dropped,
            self.cpu_s,
            self.peak_bytes as f64 / 1e6,
        )
        .expect("writing to a string succeeds");
        if self.refused > 0 {
            write!(text, "; clients refused: {}", self.refused)
                .expect("writing to a string succeeds");
        }
        text
    }

    /// One JSON object.
    pub(crate) fn json(&self) -> String {
        let mut object = serde_json::json!({
            "v": 1,
            "batches": self.batches,
            "seconds": self.elapsed.as_secs_f64(),
            "records": self.records,
            "tokens": self.tokens,
            "bytes": self.bytes,
            "gb_per_s": self.gigabytes_per_s,
            "late_us": {"p50": self.delay_us[0], "p99": self.delay_us[1], "max": self.delay_us[2]},
            "dropped": self.dropped,
            "dropped_bytes": self.dropped_bytes,
            "refused": self.refused,
            "error_max": self.error_max,
            "other_records": self.other_records,
            "null_values": self.null_values,
            "missing_max": self.missing_max,
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
