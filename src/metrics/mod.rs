//! What a run counts about itself: counters, gauges and histograms with fixed names.
//!
//! Promise: every thread writes cells of its own with plain stores, and never waits for a reader; a
//! [`Snapshot`] has the cells of each thread as they were between two updates; no label comes from
//! the data. Must not know: `source`, `sink`, `shard`, `engine`.
//!
//! [`RunningContext::metrics`](crate::RunningContext::metrics),
//! [`StopHandle::metrics`](crate::stream::StopHandle::metrics) and
//! [`Engine::metrics`](crate::Engine::metrics) return a snapshot, on any thread and at any time:
//!
//! ```
//! use std::io::Write;
//! use microtally::{Engine, Rule};
//!
//! let engine = Engine::builder(Rule::Split(b' ')).start(|_| ())?;
//! let mut writer = engine.writer()?;
//! writer.write_all(b"the cat\nthe dog\n")?;
//! drop(writer);
//! let finished = engine.finish()?;
//! assert_eq!(finished.metrics().total("engine_tokens_total"), Some(4));
//! assert_eq!(finished.metrics().total("source_bytes_total"), Some(16));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # All metrics
//!
//! The first word of a name is where it is counted. Counters only grow. Those with the label
//! `source` are as of the last cut, all others are live. Sources of the same name are one. A
//! `pipeline` has the name of its stream, and a `sink` that of its output, as
//! [`explain`](crate::StreamingContext::explain) shows them.
//!
//! | name | kind | unit | label | help |
//! |---|---|---|---|---|
//! | `source_bytes_total` | counter | bytes | `source` | Bytes received, those of lost records included. |
//! | `source_lost_records_total` | counter | records | `source` | Records lost before they were read; for UDP, datagrams that the kernel dropped. |
//! | `source_lost_bytes_total` | counter | bytes | `source` | Bytes of lost records, as far as they were received. |
//! | `source_refused_connections_total` | counter | connections | `source` | Connections closed unread, because no more were allowed. |
//! | `intake_oversize_tokens_total` | counter | tokens | `source` | Tokens longer than the record limit, dropped. |
//! | `intake_oversize_bytes_total` | counter | bytes | `source` | Bytes of oversize tokens. |
//! | `intake_truncated_records_total` | counter | records | `source` | Incomplete last lines that were dropped. |
//! | `intake_truncated_bytes_total` | counter | bytes | `source` | Bytes of truncated records. |
//! | `intake_skipped_bytes_total` | counter | bytes | `source` | Bytes that are no content, such as a byte order mark. |
//! | `intake_held_bytes` | gauge | bytes | `source` | Bytes of records that are not complete yet. |
//! | `ring_full_total` | counter | times | | Times that reading stopped because every ring was full. |
//! | `shard_blocks_total` | counter | blocks | `shard` | Blocks counted. |
//! | `shard_bytes_total` | counter | bytes | `shard` | Bytes of counted blocks. |
//! | `shard_records_total` | counter | records | `shard` | Records of counted blocks, however many pipelines read them. |
//! | `shard_busy_seconds_total` | counter | seconds | `shard` | Time spent counting and handing tables over. |
//! | `engine_batches_total` | counter | batches | | Batches published, failed ones included. |
//! | `engine_failed_batches_total` | counter | batches | | Batches in which a user-supplied function failed before the outputs. |
//! | `engine_approximate_batches_total` | counter | batches | | Batches that are not exact, because the memory limit was reached. |
//! | `engine_records_total` | counter | records | | Records in published batches. |
//! | `engine_tokens_total` | counter | tokens | | Tokens counted in published batches, by the first pipeline of each stream. |
//! | `engine_bytes_total` | counter | bytes | | Bytes of the records in published batches. |
//! | `batch_delay_seconds` | histogram | seconds | | Time from a batch's time to the start of its processing. |
//! | `publisher_merge_seconds` | histogram | seconds | | Time to merge the tables of a batch. |
//! | `sink_emit_seconds` | histogram | seconds | | Time that all outputs took for a batch, waits for retries included. |
//! | `sink_batches_total` | counter | batches | `sink` | Batches that the output has taken. |
//! | `sink_retries_total` | counter | times | `sink` | Times that the output asked to get a batch again later. |
//! | `sink_deliver_seconds` | histogram | seconds | `sink` | Time of each attempt to deliver a batch, without the waits between. |
//! | `table_keys` | gauge | keys | `pipeline` | Distinct keys of the last batch. |
//! | `table_bytes` | gauge | bytes | `pipeline` | Memory of the tables of the last batch, over all shards. |
//! | `table_other_records_total` | counter | records | `pipeline` | Records of keys that had no room; they are in no count. |
//! | `memory_limit_bytes` | gauge | bytes | | The memory limit; 0 without one. |
//! | `notices_total` | counter | notices | `kind` | Notices reported. |

mod cells;
mod families;
mod histogram;
mod prometheus;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) use self::cells::Recorder;
use self::cells::{MetricCells, Published};
pub(crate) use self::families::{
    LimitCells, NoticeCells, PipelineCells, PublisherCells, RouterCells, ShardCells, SinkCells,
    SourceCells,
};
use self::families::{
    LimitValues, MetricValues, NoticeValues, PipelineValues, PublisherValues, RouterValues,
    ShardValues, SinkValues, SourceValues,
};
pub use self::histogram::DurationHistogram;
use crate::error::lock;
use crate::time::Clock;

/// What is known of a metric beside its values.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetricFamily {
    /// Its name, which stays.
    pub name: &'static str,
    /// How its values behave.
    pub kind: MetricKind,
    /// What is counted or measured.
    pub unit: &'static str,
    /// What tells its samples apart; empty if there is one.
    pub label: &'static str,
    /// One line for people.
    pub help: &'static str,
}

/// How the values of a metric behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// Only grows, from 0 at the start of the run.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution of durations.
    Histogram,
}

/// One value of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sample<'a> {
    /// The metric.
    pub family: &'static MetricFamily,
    /// The value of its label; empty if it has none.
    pub label: &'a str,
    /// The value.
    pub value: SampleValue<'a>,
}

/// The value of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SampleValue<'a> {
    /// A number.
    Number(u64),
    /// A sum of durations.
    Time(Duration),
    /// A distribution of durations.
    Histogram(&'a DurationHistogram),
}

/// The metrics of a run at one moment: see the [module](self).
///
/// What one thread writes is as it was between two of its updates. Threads are read one after
/// another, so a sum over several may be of moments some microseconds apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub(crate) sources: Labelled<SourceValues>,
    router: Labelled<RouterValues>,
    shards: Labelled<ShardValues>,
    pub(crate) publisher: Labelled<PublisherValues>,
    sinks: Labelled<SinkValues>,
    pipelines: Labelled<PipelineValues>,
    limits: Labelled<LimitValues>,
    notices: Labelled<NoticeValues>,
}

/// Values of the same metrics, by their label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Labelled<V>(Vec<(Arc<str>, V)>);

impl<V> Default for Labelled<V> {
    fn default() -> Self {
        Labelled(Vec::new())
    }
}

impl<V: MetricValues> Labelled<V> {
    /// Adds values; those of the same label become one.
    fn add(&mut self, label: &Arc<str>, values: V) {
        match self.0.iter_mut().find(|(other, _)| other == label) {
            Some((_, sum)) => sum.add(&values),
            None => self.0.push((Arc::clone(label), values)),
        }
    }

    /// Returns the values of all labels.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, values)| values)
    }

    fn samples(&self) -> impl Iterator<Item = Sample<'_>> {
        let families = V::FAMILIES.iter().enumerate();
        families.flat_map(|(index, family)| {
            self.0.iter().map(move |(label, values)| Sample {
                family,
                label,
                value: values.value(index),
            })
        })
    }
}

impl Snapshot {
    /// Returns every sample; those of a metric are together.
    pub fn samples(&self) -> impl Iterator<Item = Sample<'_>> {
        (self.sources.samples())
            .chain(self.router.samples())
            .chain(self.shards.samples())
            .chain(self.publisher.samples())
            .chain(self.sinks.samples())
            .chain(self.pipelines.samples())
            .chain(self.limits.samples())
            .chain(self.notices.samples())
    }

    /// Returns every metric there is, with or without a sample.
    ///
    /// ```
    /// use microtally::metrics::Snapshot;
    /// assert!(Snapshot::families().any(|family| family.name == "engine_batches_total"));
    /// ```
    pub fn families() -> impl Iterator<Item = &'static MetricFamily> {
        families::all()
    }

    /// Returns the sum of a metric's numbers over all labels; nanoseconds for a sum of durations.
    /// `None` for a histogram, and for a name that no metric has.
    pub fn total(&self, name: &str) -> Option<u64> {
        families::all().find(|it| it.name == name && it.kind != MetricKind::Histogram)?;
        let samples = self.samples().filter(|sample| sample.family.name == name);
        let numbers = samples.map(|sample| match sample.value {
            SampleValue::Number(number) => number,
            SampleValue::Time(time) => cells::nanoseconds(time),
            SampleValue::Histogram(_) => 0,
        });
        Some(numbers.fold(0, u64::wrapping_add))
    }

    /// Returns the number that a metric has for one value of its label; nanoseconds for a sum of
    /// durations.
    pub fn get(&self, name: &str, label: &str) -> Option<u64> {
        let mut samples = self.samples();
        let found = samples.find(|it| it.family.name == name && it.label == label)?;
        match found.value {
            SampleValue::Number(number) => Some(number),
            SampleValue::Time(time) => Some(cells::nanoseconds(time)),
            SampleValue::Histogram(_) => None,
        }
    }

    /// Returns a histogram, added up over all labels; `None` if no histogram has this name.
    pub fn histogram(&self, name: &str) -> Option<DurationHistogram> {
        let is_it = |it: &&MetricFamily| it.name == name && it.kind == MetricKind::Histogram;
        families::all().find(is_it)?;
        let mut sum = DurationHistogram::default();
        for sample in self.samples().filter(|it| it.family.name == name) {
            if let SampleValue::Histogram(histogram) = sample.value {
                sum.merge(histogram);
            }
        }
        Some(sum)
    }
}

/// The reading ends of one kind of cells, by their label.
struct LabelledCells<T>(Vec<(Arc<str>, Arc<Published<T>>)>);

impl<T> Default for LabelledCells<T> {
    fn default() -> Self {
        LabelledCells(Vec::new())
    }
}

impl<T: MetricCells<Values: MetricValues>> LabelledCells<T> {
    fn recorder(&mut self, label: &str) -> Recorder<T> {
        let recorder = Recorder::default();
        self.0.push((Arc::from(label), recorder.published()));
        recorder
    }

    fn read(&self) -> Labelled<T::Values> {
        let mut all = Labelled::default();
        for (label, cells) in &self.0 {
            all.add(label, cells.read());
        }
        all
    }
}

/// All cells of a run. Locked when a thread registers its cells, and while a snapshot is taken;
/// never by a thread that counts.
#[derive(Default)]
pub(crate) struct Metrics(Mutex<Registered>);

#[derive(Default)]
struct Registered {
    sources: LabelledCells<SourceCells>,
    router: LabelledCells<RouterCells>,
    shards: LabelledCells<ShardCells>,
    publisher: LabelledCells<PublisherCells>,
    sinks: LabelledCells<SinkCells>,
    pipelines: LabelledCells<PipelineCells>,
    limits: LabelledCells<LimitCells>,
    notices: LabelledCells<NoticeCells>,
    notice_recorders: BTreeMap<&'static str, Recorder<NoticeCells>>,
}

debug_fields!([] Metrics, "Metrics");

impl Metrics {
    /// Registers a source.
    pub(crate) fn source(&self, name: &str) -> Recorder<SourceCells> {
        lock(&self.0).sources.recorder(name)
    }

    /// Registers the reading side.
    pub(crate) fn router(&self) -> Recorder<RouterCells> {
        lock(&self.0).router.recorder("")
    }

    /// Registers a shard, whose busy time is measured by `clock`.
    pub(crate) fn shard(&self, name: &str, clock: &Clock) -> ShardRecorder {
        ShardRecorder {
            cells: lock(&self.0).shards.recorder(name),
            clock: clock.clone(),
        }
    }

    /// Registers the publisher.
    pub(crate) fn publisher(&self) -> Recorder<PublisherCells> {
        lock(&self.0).publisher.recorder("")
    }

    /// Registers a pipeline.
    pub(crate) fn pipeline(&self, name: &str) -> Recorder<PipelineCells> {
        lock(&self.0).pipelines.recorder(name)
    }

    /// Registers an output.
    pub(crate) fn sink(&self, name: &str) -> Recorder<SinkCells> {
        lock(&self.0).sinks.recorder(name)
    }

    /// Sets the memory limit.
    pub(crate) fn set_memory_limit(&self, bytes_max: Option<usize>) {
        let mut limits = lock(&self.0).limits.recorder("");
        limits.update(|cells| cells.memory_bytes.set(bytes_max.unwrap_or(0) as u64));
    }

    /// Registers the kinds of notices.
    pub(crate) fn expect_notices(&self, kinds: &[&'static str]) {
        let mut registered = lock(&self.0);
        for &kind in kinds {
            let recorder = registered.notices.recorder(kind);
            registered.notice_recorders.insert(kind, recorder);
        }
    }

    /// Counts a notice of a registered kind. Notices are rare: this locks.
    pub(crate) fn count_notice(&self, kind: &str) {
        if let Some(recorder) = lock(&self.0).notice_recorders.get_mut(kind) {
            recorder.update(|cells| cells.count.add(1));
        }
    }

    /// Reads the cells of all threads.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let registered = lock(&self.0);
        Snapshot {
            sources: registered.sources.read(),
            router: registered.router.read(),
            shards: registered.shards.read(),
            publisher: registered.publisher.read(),
            sinks: registered.sinks.read(),
            pipelines: registered.pipelines.read(),
            limits: registered.limits.read(),
            notices: registered.notices.read(),
        }
    }
}

/// Records what a shard counts, and how long that takes.
#[derive(Debug)]
pub(crate) struct ShardRecorder {
    cells: Recorder<ShardCells>,
    clock: Clock,
}

impl ShardRecorder {
    /// Returns when something begins.
    #[inline]
    pub(crate) fn begin(&self) -> Duration {
        self.clock.now()
    }

    /// Records a block that was counted since `begin`.
    #[inline]
    pub(crate) fn counted(&mut self, begin: Duration, bytes: usize, records: u64) {
        let busy = self.clock.now().saturating_sub(begin);
        self.cells.update(|cells| {
            cells.blocks.add(1);
            cells.bytes.add(bytes as u64);
            cells.records.add(records);
            cells.busy.add(busy);
        });
    }

    /// Records tables that were handed over since `begin`.
    pub(crate) fn sealed(&mut self, begin: Duration) {
        let busy = self.clock.now().saturating_sub(begin);
        self.cells.update(|cells| cells.busy.add(busy));
    }
}
