//! A snapshot as text that Prometheus reads.
//!
//! Promise: the text format 0.0.4, with every metric, its help and its type; what a label holds
//! stays inside its quotes. Must not know: who asks, how the text is sent.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use crate::metrics::{DurationHistogram, MetricKind, Sample, SampleValue, Snapshot};

/// In front of every name, as Prometheus wants it.
const PREFIX: &str = "microtally_";

/// The upper limits of a histogram's buckets: 2 to the power of these, in nanoseconds. From 1 µs to
/// 69 s, each four times the one before.
const BUCKET_LOG2S: std::ops::RangeInclusive<u32> = 10..=36;

impl Snapshot {
    /// Writes the snapshot in the text format of Prometheus (content type `text/plain;
    /// version=0.0.4`). Each name has the prefix `microtally_`; times are in seconds.
    ///
    /// ```
    /// use microtally::metrics::Snapshot;
    /// let mut page = Vec::new();
    /// Snapshot::default().write_prometheus(&mut page)?;
    /// let page = String::from_utf8(page).expect("it is text");
    /// assert!(page.contains("# TYPE microtally_engine_batches_total counter\n"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write_prometheus(&self, out: &mut impl Write) -> io::Result<()> {
        let mut samples = self.samples().peekable();
        for family in Snapshot::families() {
            let (name, help) = (family.name, family.help);
            let kind = match family.kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
                MetricKind::Histogram => "histogram",
            };
            writeln!(out, "# HELP {PREFIX}{name} {help}")?;
            writeln!(out, "# TYPE {PREFIX}{name} {kind}")?;
            while let Some(sample) = samples.next_if(|it| it.family == family) {
                write_sample(&sample, out)?;
            }
        }
        Ok(())
    }
}

fn write_sample(sample: &Sample<'_>, out: &mut impl Write) -> io::Result<()> {
    let name = sample.family.name;
    let labels = Labels { sample, le: None };
    match sample.value {
        SampleValue::Number(number) => writeln!(out, "{PREFIX}{name}{labels} {number}"),
        SampleValue::Time(time) => {
            writeln!(out, "{PREFIX}{name}{labels} {}", seconds(time))
        }
        SampleValue::Histogram(histogram) => write_histogram(sample, histogram, out),
    }
}

fn write_histogram(
    sample: &Sample<'_>,
    histogram: &DurationHistogram,
    out: &mut impl Write,
) -> io::Result<()> {
    let (name, count) = (sample.family.name, histogram.count());
    let limits = BUCKET_LOG2S.step_by(2).map(|log2| {
        let limit = seconds(Duration::from_nanos(1 << log2));
        (limit, histogram.count_below(log2))
    });
    for (limit, below) in limits.chain([(f64::INFINITY, count)]) {
        let le = Some(limit);
        let labels = Labels { sample, le };
        writeln!(out, "{PREFIX}{name}_bucket{labels} {below}")?;
    }
    let labels = Labels { sample, le: None };
    let sum = seconds(histogram.sum());
    writeln!(out, "{PREFIX}{name}_sum{labels} {sum}")?;
    writeln!(out, "{PREFIX}{name}_count{labels} {count}")
}

/// The nearest double: `Duration::as_secs_f64` adds two rounded numbers.
fn seconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e9
}

/// The labels of a sample, in braces; nothing if it has none.
struct Labels<'s> {
    sample: &'s Sample<'s>,
    /// The upper limit of a bucket in seconds.
    le: Option<f64>,
}

impl fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (label, value) = (self.sample.family.label, self.sample.label);
        let mut separator = "{";
        if !label.is_empty() {
            write!(f, "{{{label}=\"")?;
            for c in value.chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    '"' => f.write_str("\\\"")?,
                    '\n' => f.write_str("\\n")?,
                    c => write!(f, "{c}")?,
                }
            }
            f.write_str("\"")?;
            separator = ",";
        }
        match self.le {
            Some(limit) if limit.is_infinite() => write!(f, "{separator}le=\"+Inf\"}}"),
            Some(limit) => write!(f, "{separator}le=\"{limit}\"}}"),
            None if label.is_empty() => Ok(()),
            None => f.write_str("}"),
        }
    }
}
