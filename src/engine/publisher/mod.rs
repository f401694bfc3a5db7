//! Merges what the shards hand over, checks it, publishes it, and returns the tables.
//!
//! Promise: epochs are published in order, each completely or not at all; a batch whose ledger does
//! not close ends the run. Must not know: formats, sockets, what a pipeline computes, which thread
//! it is on.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::batch::BatchStats;
use crate::config::OnLimit;
use crate::engine::control::Control;
use crate::engine::plan::{Emitted, EnginePlan, Merged, failed_batch, failed_drop, first_failure};
use crate::epoch::barrier::{Barrier, ShardSet};
use crate::epoch::hand_over::{NodeTable, SealedIn, Tables};
use crate::epoch::header::{EpochHeader, HeaderReceiver};
use crate::epoch::merge::{limit_reached, merge_nodes, sum_nodes};
use crate::error::{Result, guarded};
use crate::id::StreamId;
use crate::ledger::{IntakeTotals, close_ledger};
use crate::metrics::{PipelineCells, PublisherCells, Recorder};
use crate::notice::{Notice, NoticeKind, Notices};
use crate::position::EpochPositions;
use crate::shard::panic_message;
use crate::split::Tallied;
use crate::table::bound::Overflow;
use crate::time::Clock;

/// Lateness that is never reported, however short the interval: the event queue alone rounds to
/// milliseconds.
const BEHIND_MIN: Duration = Duration::from_millis(100);

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A batch was published; the tables of these shards are back.
    Published(ShardSet),
    /// No batch was cut, or not all of its shards have handed over; or outputs have not delivered
    /// the last one.
    Waiting,
    /// A batch waits for an output.
    Held {
        /// Step again after that time, or when something wakes the publisher.
        wait: Duration,
        /// The last step did not say so.
        is_news: bool,
    },
    /// The last batch was published and delivered.
    Done,
}

/// Merges and publishes epochs. Stepped by a `PublishTurn`, or by a test.
pub(crate) struct Publisher {
    plan: EnginePlan,
    shards: Vec<SealedIn>,
    /// That of the reading side, which has a part in every epoch.
    helper: SealedIn,
    /// The current epoch: one entry for each shard that has a part in it and one for the helper;
    /// empty between two steps.
    tables: Vec<Tables>,
    /// Statistics of the current epoch, one entry for each pipeline.
    stats: Vec<BatchStats>,
    headers: HeaderReceiver,
    /// What each stream had read at the previous barrier and at the current one.
    before: Vec<IntakeTotals>,
    now: Vec<IntakeTotals>,
    interval: Duration,
    clock: Clock,
    control: Arc<Control>,
    notices: Notices,
    is_behind: bool,
    /// The memory limit, and what happens there.
    limit: Option<(usize, OnLimit)>,
    is_limit_reported: bool,
    /// An epoch that not every output has had.
    open: Option<OpenEpoch>,
    recorder: Recorder<PublisherCells>,
    /// One for each pipeline.
    pipeline_recorders: Vec<Recorder<PipelineCells>>,
    /// The last epoch that every output has had.
    published: u64,
    /// The last epoch that every output has delivered.
    delivered: u64,
    /// The last epoch before the first one that has failed.
    sound: u64,
    /// Sources are informed of what was delivered.
    has_positions: bool,
    /// The last batch was published.
    is_last_published: bool,
}

/// An epoch that is being published; its tables are merged.
struct OpenEpoch {
    header: EpochHeader,
    /// Where sources were that know it.
    positions: Option<Arc<EpochPositions>>,
    /// What is the same for every pipeline.
    stats: BatchStats,
    /// A user-supplied function has failed before the outputs.
    has_failed: bool,
    merged_at: Duration,
    overflow: Overflow,
    /// The next output to call.
    output: usize,
    /// When the output it waits for is called again.
    wakes_at: Option<Duration>,
}

/// Where a publisher's epochs come from.
pub(crate) struct Inbox {
    pub(crate) shards: Vec<SealedIn>,
    /// That of the reading side, which has a part in every epoch.
    pub(crate) helper: SealedIn,
    pub(crate) headers: HeaderReceiver,
    pub(crate) stream_count: usize,
}

impl Publisher {
    /// A publisher of what comes through `inbox`. `limit` is the memory limit and what happens
    /// there.
    pub(crate) fn new(
        plan: EnginePlan,
        inbox: Inbox,
        interval: Duration,
        limit: Option<(usize, OnLimit)>,
        clock: Clock,
        control: Arc<Control>,
        notices: Notices,
    ) -> Self {
        let Inbox {
            shards,
            helper,
            headers,
            stream_count,
        } = inbox;
        Publisher {
            tables: Vec::with_capacity(shards.len() + 1),
            before: vec![IntakeTotals::default(); stream_count],
            now: vec![IntakeTotals::default(); stream_count],
            headers,
            stats: vec![BatchStats::default(); plan.nodes.len()],
            recorder: control.metrics.publisher(),
            pipeline_recorders: (plan.nodes.iter())
                .map(|node| control.metrics.pipeline(&node.name))
                .collect(),
            plan,
            shards,
            helper,
            interval,
            clock,
            control,
            notices,
            is_behind: false,
            limit,
            is_limit_reported: false,
            open: None,
            published: 0,
            delivered: 0,
            sound: u64::MAX,
            has_positions: false,
            is_last_published: false,
        }
    }

    /// Publishes the next batch, if every shard that has a part in it has handed over, or goes on
    /// with a batch that waits for an output.
    ///
    /// # Errors
    ///
    /// An output that cannot be written, or a ledger that does not close. Both end the run.
    pub(crate) fn step(&mut self) -> Result<Turn> {
        self.note_delivered();
        if self.is_last_published {
            return Ok(self.ended());
        }
        if self.open.is_none() {
            let Some((header, positions)) = self.take_epoch() else {
                return Ok(Turn::Waiting);
            };
            self.has_positions |= positions.is_some();
            match self.merge_epoch(header, positions) {
                Ok(open) => self.open = Some(open),
                Err(error) => {
                    self.give_back(&header);
                    return Err(error);
                }
            }
        }
        let emitted = self.emit();
        if let Ok(Emitted::Wait(at)) = emitted {
            return Ok(self.held(at));
        }
        let mut open = self.open.take().expect("it was opened above");
        // The reading side may use its memory again when the epoch is delivered.
        open.positions = None;
        let outcome = emitted.and_then(|_| self.finish_epoch(&open));
        self.give_back(&open.header);
        outcome?;
        let EpochHeader {
            barrier, shards, ..
        } = open.header;
        self.published = barrier.epoch;
        if self.control.has_failed_batch() {
            self.sound = self.sound.min(barrier.epoch - 1);
        }
        self.is_last_published = barrier.last;
        self.note_delivered();
        Ok(match barrier.last {
            true => self.ended(),
            false => Turn::Published(shards),
        })
    }

    /// The outcome of a step after the last batch was published: outputs may not have delivered it.
    fn ended(&self) -> Turn {
        match self.delivered == self.published {
            true => Turn::Done,
            false => Turn::Waiting,
        }
    }

    /// Reports how far every output is. What is behind a batch that has failed is not reported: a
    /// source that forgot it could not read it again.
    fn note_delivered(&mut self) {
        let outputs = self.plan.outputs.iter().map(|output| output.delivered());
        let delivered = outputs.min().unwrap_or(u64::MAX).min(self.published);
        if delivered > self.delivered {
            self.delivered = delivered;
            self.headers.delivered(delivered.min(self.sound));
            if self.has_positions {
                self.control.wake_reader();
            }
        }
    }

    /// Takes the tables of the next epoch, if all of them are there.
    fn take_epoch(&mut self) -> Option<(EpochHeader, Option<Arc<EpochPositions>>)> {
        let header = self.headers.peek()?;
        if !parts_of(&mut self.shards, &mut self.helper, header.shards).all(|part| part.is_ready())
        {
            return None;
        }
        for shard in parts_of(&mut self.shards, &mut self.helper, header.shards) {
            let sealed = shard.take().expect("`is_ready` said so");
            let epoch = header.barrier.epoch;
            assert_eq!(epoch, sealed.barrier.epoch, "epochs out of step");
            self.tables.push(sealed.tables);
        }
        let positions = self.headers.take(&mut self.now);
        Some((header, positions))
    }

    /// Returns the tables of an epoch to its shards.
    fn give_back(&mut self, header: &EpochHeader) {
        std::mem::swap(&mut self.before, &mut self.now);
        let parts = parts_of(&mut self.shards, &mut self.helper, header.shards);
        for (shard, mut tables) in parts.zip(self.tables.drain(..)) {
            if let Some(panic) = tables.clear() {
                self.control
                    .report(failed_drop(&panic_message(panic.as_ref())));
            }
            shard.give_back(tables);
        }
        self.headers.published(header.barrier.epoch);
    }

    /// The outcome of a step after which the open epoch waits until `at`.
    fn held(&mut self, at: Duration) -> Turn {
        let open = self.open.as_mut().expect("it is the open epoch that waits");
        let is_news = open.wakes_at.replace(at) != Some(at);
        let wait = self.clock.wait_until(at);
        Turn::Held { wait, is_news }
    }

    /// Drops outputs and pipelines one by one at the end of the run, so that one that panics takes
    /// no other with it.
    pub(crate) fn discard(mut self) {
        let control = Arc::clone(&self.control);
        let discarded = |discard: &mut dyn FnMut()| {
            if let Err(panic) = guarded(discard) {
                control.report(failed_drop(&panic_message(panic.as_ref())));
            }
        };
        for output in self.plan.outputs.drain(..) {
            let mut output = Some(output);
            discarded(&mut || drop(output.take()));
        }
        for node in self.plan.nodes.drain(..) {
            let mut node = Some(node);
            discarded(&mut || drop(node.take()));
        }
        let mut rest = Some(self);
        discarded(&mut || drop(rest.take()));
    }

    /// Merges and checks the tables of an epoch.
    fn merge_epoch(
        &mut self,
        header: EpochHeader,
        positions: Option<Arc<EpochPositions>>,
    ) -> Result<OpenEpoch> {
        let barrier = header.barrier;
        let start = self.clock.now();
        let block_bytes = self.tables.iter().map(|tables| tables.block_bytes).sum();
        let sum = |intakes: &[IntakeTotals]| {
            intakes
                .iter()
                .fold(IntakeTotals::default(), |a, b| a.plus(b))
        };
        close_ledger(&sum(&self.before), &sum(&self.now), block_bytes)?;

        // A caller that names batches need not use times of day.
        let scheduling_delay = match self.interval {
            Duration::ZERO => Duration::ZERO,
            _ => start.saturating_sub(Duration::from_millis(barrier.time.as_millis())),
        };
        self.report_if_behind(scheduling_delay);
        for (index, recorder) in self.pipeline_recorders.iter_mut().enumerate() {
            let tables = self.tables.iter();
            let bytes = tables.map(|tables| tables.nodes[index].partial.allocated_bytes());
            let bytes: usize = bytes.sum();
            recorder.update(|cells| cells.table_bytes.set(bytes as u64));
        }
        let merged = merge(&self.plan, &mut self.tables)?;
        let all_stats = BatchStats {
            batch: barrier.epoch,
            time: barrier.time,
            interval: self.interval,
            scheduling_delay,
            processing: self.clock.now().saturating_sub(start),
            last: barrier.last,
            ..BatchStats::default()
        };
        for (index, node) in merged.nodes.iter().enumerate() {
            let StreamId(stream) = self.plan.nodes[index].pipeline.stream();
            let intake = self.now[stream].since(&self.before[stream])?;
            self.stats[index] = stats_of(node, &intake, all_stats)?;
        }
        let has_failed = first_failure(&merged.nodes).is_some();
        let overflows = merged.nodes.iter().map(overflow_of);
        let mut overflow = overflows.fold(Overflow::default(), Overflow::plus);
        if let Some(message) = first_failure(&merged.nodes) {
            self.control
                .report_batch(failed_batch(barrier.time, None, message));
        }
        if !overflow.is_none() {
            let missing_max = self.stats.iter().map(|stats| stats.missing_max).max();
            overflow.missing = missing_max.unwrap_or(0);
            self.report_limit(&barrier, overflow);
        }
        Ok(OpenEpoch {
            header,
            positions,
            stats: all_stats,
            has_failed,
            merged_at: self.clock.now(),
            overflow,
            output: 0,
            wakes_at: None,
        })
    }

    /// Counts an epoch that every output has had.
    fn finish_epoch(&mut self, open: &OpenEpoch) -> Result<()> {
        self.record(open);
        match self.limit {
            Some((bytes_max, OnLimit::Fail)) if open.overflow.other > 0 => {
                let time = open.header.barrier.time;
                Err(limit_reached(bytes_max, time, open.overflow))
            }
            _ => Ok(()),
        }
    }

    /// Reports the memory limit, once in a run.
    #[cold]
    fn report_limit(&mut self, barrier: &Barrier, overflow: Overflow) {
        let Some((bytes_max, on_limit)) = self.limit else {
            return;
        };
        // The error that ends the run says it.
        if on_limit == OnLimit::Fail && overflow.other > 0 {
            return;
        }
        if !std::mem::replace(&mut self.is_limit_reported, true) {
            let kind = NoticeKind::MemoryLimit {
                bytes_max,
                keys: overflow.full_at,
                time: barrier.time,
                error_max: overflow.error,
                other_records: overflow.other,
                missing_max: overflow.missing,
            };
            self.notices.report(Notice::new("", kind));
        }
    }

    /// Calls the outputs that have not had the open epoch, also for a batch that has failed: what
    /// they keep of batches must not go on as if there had been none. One that panics fails the
    /// batch, not the run.
    fn emit(&mut self) -> Result<Emitted> {
        let open = self.open.as_mut().expect("there is an open epoch");
        let barrier = open.header.barrier;
        let first = self
            .tables
            .first_mut()
            .expect("the helper has a part in every epoch");
        let mut epoch = Merged {
            barrier,
            nodes: &mut first.nodes,
            stats: &self.stats,
            positions: open.positions.as_deref(),
            clock: &self.clock,
            control: &self.control,
        };
        while let Some(output) = self.plan.outputs.get_mut(open.output) {
            match guarded(|| output.emit(&mut epoch)) {
                Ok(Ok(Emitted::Done)) => {}
                Ok(other) => return other,
                Err(panic) => self.control.report_batch(failed_batch(
                    barrier.time,
                    None,
                    &panic_message(panic.as_ref()),
                )),
            }
            open.output += 1;
        }
        Ok(Emitted::Done)
    }

    /// Records a published batch.
    fn record(&mut self, open: &OpenEpoch) {
        let emit = self.clock.now().saturating_sub(open.merged_at);
        for (stats, recorder) in self.stats.iter().zip(&mut self.pipeline_recorders) {
            recorder.update(|cells| {
                cells.keys.set(stats.keys);
                cells.other_records.add(stats.other_records);
            });
        }
        let is_approximate = self.stats.iter().any(BatchStats::is_approximate);
        // The first pipeline of each stream: the others saw the same bytes.
        let firsts = || self.plan.first_nodes().map(|index| &self.stats[index]);
        self.recorder.update(|cells| {
            cells.batches.add(1);
            cells.failed_batches.add(u64::from(open.has_failed));
            cells.approximate_batches.add(u64::from(is_approximate));
            for stream in firsts() {
                cells.records.add(stream.records);
                cells.tokens.add(stream.tokens);
                cells.bytes.add(stream.bytes);
            }
            cells.delay.record(open.stats.scheduling_delay);
            cells.merge.record(open.stats.processing);
            cells.emit.record(emit);
        });
    }

    fn report_if_behind(&mut self, delay: Duration) {
        let behind = !self.interval.is_zero() && delay > self.interval.max(BEHIND_MIN);
        if behind && !self.is_behind {
            let interval = self.interval;
            let kind = NoticeKind::Behind { interval, delay };
            self.notices.report(Notice::new("", kind));
        }
        self.is_behind = behind;
    }
}

/// Those that have a part in an epoch of `shards`, the helper last.
fn parts_of<'a>(
    all: &'a mut [SealedIn],
    helper: &'a mut SealedIn,
    shards: ShardSet,
) -> impl Iterator<Item = &'a mut SealedIn> {
    let parts = all.iter_mut().enumerate();
    let parts = parts.filter(move |(index, _)| shards.has(*index));
    parts.map(|(_, shard)| shard).chain([helper])
}

/// Merges the tables of every part of an epoch into the first, and returns it. A pipeline whose
/// function panics has failed.
///
/// # Errors
///
/// Counts that do not add up.
fn merge<'a>(plan: &EnginePlan, tables: &'a mut [Tables]) -> Result<&'a Tables> {
    let (first, others) = tables
        .split_first_mut()
        .expect("the helper has a part in every epoch");
    for (index, node) in plan.pipelines().enumerate() {
        let merged = &mut first.nodes[index];
        let parts = others.iter_mut().map(|tables| &mut tables.nodes[index]);
        sum_nodes(merged, parts);
        if merged.failure.is_some() {
            continue;
        }
        // Merging calls a user-supplied function.
        let parts = others.iter_mut().map(|tables| &mut tables.nodes[index]);
        let outcome =
            guarded(|| merge_nodes(&mut *merged, parts, |into, from| node.merge(into, from)));
        match outcome {
            Ok(()) => node.check(merged)?,
            Err(panic) => merged.failure = Some(panic_message(panic.as_ref())),
        }
    }
    Ok(first)
}

/// The statistics of one pipeline: `all` is what is the same for every one, `intake` what its
/// stream has read.
pub(crate) fn stats_of(
    node: &NodeTable,
    intake: &IntakeTotals,
    all: BatchStats,
) -> Result<BatchStats> {
    // Where a function failed, nothing was counted, but what was received is known.
    let (tokens, keys) = match node.failure {
        None => (node.tallied.tokens, node.partial.len() as u64),
        Some(_) => (0, 0),
    };
    let tallied = Tallied {
        tokens,
        ..node.tallied
    };
    let stats = all.counted(intake, node.block_bytes, tallied, keys)?;
    let mut stats = stats.with(overflow_of(node));
    if stats.other_records > 0 {
        stats.missing_max = node.partial.missing_most();
    }
    Ok(stats)
}

/// What there was no room for. The table of a pipeline that has failed means nothing.
pub(crate) fn overflow_of(node: &NodeTable) -> Overflow {
    match node.failure {
        None => node.partial.overflow(),
        Some(_) => Overflow::default(),
    }
}
