//! Every metric: its name, its unit, its help, and who writes it.
//!
//! Promise: a metric is one line here, and everything else follows from that line. Must not know:
//! who reads it.

use crate::ledger::IntakeTotals;
use crate::metrics::cells::{Counter, Gauge, MetricCell, MetricCells, Recorder, TimeCounter};
use crate::metrics::histogram::{DurationHistogram, HistogramCells};
use crate::metrics::{MetricFamily, SampleValue};

/// The values of one set of cells.
pub(crate) trait MetricValues {
    const FAMILIES: &'static [MetricFamily];
    /// Returns the value of the family with this number.
    fn value(&self, family: usize) -> SampleValue<'_>;
    /// Adds what another thread counted under the same label.
    fn add(&mut self, other: &Self);
}

/// The content of one cell.
trait CellValue {
    fn shown(&self) -> SampleValue<'_>;
    fn add(&mut self, other: &Self);
}

impl CellValue for u64 {
    fn shown(&self) -> SampleValue<'_> {
        SampleValue::Number(*self)
    }

    fn add(&mut self, other: &Self) {
        *self = self.wrapping_add(*other);
    }
}

impl CellValue for std::time::Duration {
    fn shown(&self) -> SampleValue<'_> {
        SampleValue::Time(*self)
    }

    fn add(&mut self, other: &Self) {
        *self = self.saturating_add(*other);
    }
}

impl CellValue for DurationHistogram {
    fn shown(&self) -> SampleValue<'_> {
        SampleValue::Histogram(self)
    }

    fn add(&mut self, other: &Self) {
        self.merge(other);
    }
}

/// Defines a set of cells that one thread writes, and what readers get of them. `label` tells sets
/// of the same kind apart; empty if there is one.
macro_rules! metric_cells {
    (
        $(#[$about:meta])* $cells:ident => $values:ident, label $label:literal;
        $($(#[doc = $help:literal])+ $field:ident: $kind:ident $name:literal $unit:literal,)+
    ) => {
        $(#[$about])*
        #[derive(Debug, Default)]
        pub(crate) struct $cells {
            $($(#[doc = $help])+ pub(crate) $field: $kind,)+
        }

        #[doc = concat!("What readers get of [`", stringify!($cells), "`].")]
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub(crate) struct $values {
            $($(#[doc = $help])+ pub(crate) $field: <$kind as MetricCell>::Value,)+
        }

        impl MetricCells for $cells {
            type Values = $values;

            fn values(&self) -> $values {
                $values { $($field: self.$field.value(),)+ }
            }
        }

        impl MetricValues for $values {
            const FAMILIES: &'static [MetricFamily] = &[$(MetricFamily {
                name: $name,
                kind: <$kind as MetricCell>::KIND,
                unit: $unit,
                label: $label,
                help: concat!($($help),+).trim_ascii_start(),
            },)+];

            fn value(&self, family: usize) -> SampleValue<'_> {
                let all = [$(self.$field.shown(),)+];
                all[family]
            }

            fn add(&mut self, other: &Self) {
                $(CellValue::add(&mut self.$field, &other.$field);)+
            }
        }
    };
}

metric_cells! {
    /// What one source delivered and lost, as of the last cut.
    SourceCells => SourceValues, label "source";
    /// Bytes received, those of lost records included.
    bytes: Counter "source_bytes_total" "bytes",
    /// Records lost before they were read; for UDP, datagrams that the kernel dropped.
    lost_records: Counter "source_lost_records_total" "records",
    /// Bytes of lost records, as far as they were received.
    lost_bytes: Counter "source_lost_bytes_total" "bytes",
    /// Connections closed unread, because no more were allowed.
    refused_connections: Counter "source_refused_connections_total" "connections",
    /// Tokens longer than the record limit, dropped.
    oversize_tokens: Counter "intake_oversize_tokens_total" "tokens",
    /// Bytes of oversize tokens.
    oversize_bytes: Counter "intake_oversize_bytes_total" "bytes",
    /// Incomplete last lines that were dropped.
    truncated_records: Counter "intake_truncated_records_total" "records",
    /// Bytes of truncated records.
    truncated_bytes: Counter "intake_truncated_bytes_total" "bytes",
    /// Bytes that are no content, such as a byte order mark.
    skipped_bytes: Counter "intake_skipped_bytes_total" "bytes",
    /// Bytes of records that are not complete yet.
    held_bytes: Gauge "intake_held_bytes" "bytes",
}

impl Recorder<SourceCells> {
    /// Publishes what a source has done so far.
    pub(crate) fn publish(&mut self, intake: &IntakeTotals) {
        self.update(|cells| {
            cells.bytes.set_total(intake.bytes_read);
            cells.lost_records.set_total(intake.lost_records);
            cells.lost_bytes.set_total(intake.lost_bytes);
            let refused = intake.refused_connections;
            cells.refused_connections.set_total(refused);
            cells.oversize_tokens.set_total(intake.oversize_tokens);
            cells.oversize_bytes.set_total(intake.oversize_bytes);
            cells.truncated_records.set_total(intake.truncated_records);
            cells.truncated_bytes.set_total(intake.truncated_bytes);
            cells.skipped_bytes.set_total(intake.bytes_skipped);
            cells.held_bytes.set(intake.bytes_carried);
        });
    }
}

metric_cells! {
    /// What the reading side does besides reading.
    RouterCells => RouterValues, label "";
    /// Times that reading stopped because every ring was full.
    full: Counter "ring_full_total" "times",
}

metric_cells! {
    /// What one shard counted. The reading thread has a shard too, named `reader`.
    ShardCells => ShardValues, label "shard";
    /// Blocks counted.
    blocks: Counter "shard_blocks_total" "blocks",
    /// Bytes of counted blocks.
    bytes: Counter "shard_bytes_total" "bytes",
    /// Records of counted blocks, however many pipelines read them.
    records: Counter "shard_records_total" "records",
    /// Time spent counting and handing tables over.
    busy: TimeCounter "shard_busy_seconds_total" "seconds",
}

metric_cells! {
    /// What was published.
    PublisherCells => PublisherValues, label "";
    /// Batches published, failed ones included.
    batches: Counter "engine_batches_total" "batches",
    /// Batches in which a user-supplied function failed before the outputs.
    failed_batches: Counter "engine_failed_batches_total" "batches",
    /// Batches that are not exact, because the memory limit was reached.
    approximate_batches: Counter "engine_approximate_batches_total" "batches",
    /// Records in published batches.
    records: Counter "engine_records_total" "records",
    /// Tokens counted in published batches, by the first pipeline of each stream.
    tokens: Counter "engine_tokens_total" "tokens",
    /// Bytes of the records in published batches.
    bytes: Counter "engine_bytes_total" "bytes",
    /// Time from a batch's time to the start of its processing.
    delay: HistogramCells "batch_delay_seconds" "seconds",
    /// Time to merge the tables of a batch.
    merge: HistogramCells "publisher_merge_seconds" "seconds",
    /// Time that all outputs took for a batch, waits for retries included.
    emit: HistogramCells "sink_emit_seconds" "seconds",
}

metric_cells! {
    /// What one output of a program delivered.
    SinkCells => SinkValues, label "sink";
    /// Batches that the output has taken.
    batches: Counter "sink_batches_total" "batches",
    /// Times that the output asked to get a batch again later.
    retries: Counter "sink_retries_total" "times",
    /// Time of each attempt to deliver a batch, without the waits between.
    deliver: HistogramCells "sink_deliver_seconds" "seconds",
}

metric_cells! {
    /// The tables of one pipeline.
    PipelineCells => PipelineValues, label "pipeline";
    /// Distinct keys of the last batch.
    keys: Gauge "table_keys" "keys",
    /// Memory of the tables of the last batch, over all shards.
    table_bytes: Gauge "table_bytes" "bytes",
    /// Records of keys that had no room; they are in no count.
    other_records: Counter "table_other_records_total" "records",
}

metric_cells! {
    /// What was set once.
    LimitCells => LimitValues, label "";
    /// The memory limit; 0 without one.
    memory_bytes: Gauge "memory_limit_bytes" "bytes",
}

metric_cells! {
    /// Notices of one kind.
    NoticeCells => NoticeValues, label "kind";
    /// Notices reported.
    count: Counter "notices_total" "notices",
}

/// Returns every metric, in the order of a snapshot.
pub(super) fn all() -> impl Iterator<Item = &'static MetricFamily> {
    let groups = [
        SourceValues::FAMILIES,
        RouterValues::FAMILIES,
        ShardValues::FAMILIES,
        PublisherValues::FAMILIES,
        SinkValues::FAMILIES,
        PipelineValues::FAMILIES,
        LimitValues::FAMILIES,
        NoticeValues::FAMILIES,
    ];
    groups.into_iter().flatten()
}
