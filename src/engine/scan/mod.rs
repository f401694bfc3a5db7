//! The door for regular files: all cores count them as one batch, without a reading thread.
//!
//! Promise: the batch holds every record of every file once, wherever the pieces begin and end; its
//! ledger is checked like any other. Must not know: sinks, what is counted, batch times that pass
//! meanwhile.
//!
//! A file is taken in pieces, by whichever worker is free. A record belongs to the piece in which
//! it begins, so a worker skips to the first record that begins in its piece, and reads beyond the
//! piece to the end of the last one. Both neighbours find the boundary in the bytes alone, without
//! talking:
//!
//! ```text
//!   piece k                      piece k + 1
//!   ─ …  records ┐\n│ a record that begins in k and ends in k + 1 \n│ records … ─
//!                    └───────── read by the worker of k ──────────┘
//! ```
//!
//! A compressed file, a file in UTF-16 and a pipe are each one piece, which one worker reads. If
//! other workers are idle, it lends them its blocks to count (`steal`).
//!
//! A worker reads into a block of its own, through the same framer and the same stages as a shard.
//! At the end it hands over its tables like a shard, and the last worker cuts the batch.

mod queue;
mod steal;
mod worker;

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::config::interval_ms;
use crate::engine::assemble::{Blueprint, Materials, Sizes};
use crate::engine::control::{Control, Stop};
use crate::engine::publish_turn::PublishTurn;
use crate::engine::publisher::{Inbox, Publisher};
use crate::engine::runtime::Runtime;
use crate::engine::scan::queue::{Chunk, ScanQueue};
use crate::engine::scan::steal::{ReaderGuard, StealQueue, lent_blocks};
use crate::engine::scan::worker::{ScanPlace, ScanWorker};
use crate::epoch::barrier::{Barrier, ShardSet};
use crate::epoch::header::{HeaderSender, header_channel};
use crate::error::{Result, lock};
use crate::id::StreamId;
use crate::ledger::IntakeTotals;
use crate::limits::SHARDS_MAX;
use crate::memory::DecoderCounts;
use crate::notice::{Notice, NoticeKind, Notices};
use crate::source::file::files::{Files, NamedFile, Opened, Regular, Trouble, became_shorter};
use crate::sys;
use crate::time::{BatchClock, BatchTime, Clock};

/// The files of one stream.
pub(crate) struct FilesOf {
    pub(crate) stream: StreamId,
    pub(crate) files: Files,
}

/// Starts the threads that count `sets` and publish their one batch. The framers and decoders of
/// `blueprint` are ignored: each worker has a framer for each stream.
///
/// # Errors
///
/// As [`Blueprint::build`], and a thread that cannot be started.
pub(crate) fn start(blueprint: Blueprint, sets: Vec<FilesOf>) -> Result<Runtime> {
    let Blueprint {
        config,
        mut plan,
        interval,
        clock,
        notices,
        control,
        wake,
        retained,
        ..
    } = blueprint;
    let decoders: DecoderCounts = sets.iter().map(|set| set.files.all_decoders()).sum();
    let has_whole = sets.iter().any(|set| set.files.has_whole());
    let (mut queue, piece_count) = ScanQueue::new(sets);
    // No thread only reads, so there is a worker for each core; with more workers than pieces, some
    // would have nothing to do.
    let worker_count = config.workers.unwrap_or_else(sys::core_count);
    let worker_count = worker_count.min(piece_count).clamp(1, SHARDS_MAX);
    let decoders = decoders.at_most(worker_count);
    queue.limit_windows(decoders.window_log_max(config.memory_bytes_max));
    let stream_count = queue.sets.iter().map(|set| set.stream.0 + 1).max();
    let stream_count = stream_count.unwrap_or(0);
    let lent = if has_whole {
        lent_blocks(worker_count)
    } else {
        0
    };
    let sizes = Sizes {
        shards: worker_count,
        // There is one batch, so the tables that would be filled next stay empty.
        sets: 1,
        // One for each framer, and those that are lent.
        blocks: worker_count * stream_count + lent,
        framers: worker_count * stream_count,
        threads: worker_count + 1,
    };
    let kernel = config.chosen_kernel()?;
    let materials = Materials::new(&config, kernel, &plan.needs(), decoders, retained, sizes)?;
    let when_full = materials.when_full(&control);
    let metrics = &control.metrics;
    metrics.set_memory_limit(config.memory_bytes_max);
    let worker = |index: usize| {
        let recorder = metrics.shard(&index.to_string(), &clock);
        let (core, sealed_in) = materials.shard(&plan, when_full.clone(), recorder);
        let framers = StreamId::first(stream_count).map(|it| materials.framer(plan.rule_of(it)));
        let names = StreamId::first(stream_count).map(|it| queue.name_of(it));
        let recorders = names.map(|name| metrics.source(name));
        let blocks = (0..stream_count).map(|_| materials.arena.block());
        let (framers, recorders, blocks) =
            (framers.collect(), recorders.collect(), blocks.collect());
        (ScanWorker::new(core, framers, recorders, blocks), sealed_in)
    };
    let (workers, mut sealed_ins): (Vec<_>, Vec<_>) = (0..worker_count).map(worker).unzip();
    // The publisher waits for one of them in every batch, and for the others as the epoch's header
    // says.
    let first = sealed_ins.pop().expect("there is at least one worker");
    let (header_sender, headers) = header_channel(stream_count, 1);
    let inbox = Inbox {
        shards: sealed_ins,
        helper: first,
        headers,
        stream_count,
    };
    let finish = FinishBarrier {
        left: worker_count,
        intakes: vec![IntakeTotals::default(); stream_count],
        trouble: Trouble::default(),
        file_count: queue.sets.iter().map(|set| set.progress.files()).sum(),
        headers: header_sender,
        shard_count: worker_count - 1,
        // Without an interval the batch is named by the millisecond in which it ends.
        interval_ms: match interval {
            Duration::ZERO => 1,
            interval => interval_ms(interval)?,
        },
        clock: clock.clone(),
    };
    let limit = config.memory_limit();
    let to = Arc::clone(&control);
    let (threads, outputs_clock) = (plan.take_threads(), clock.clone());
    let publisher = Publisher::new(plan, inbox, interval, limit, clock, to, notices.clone());
    // Nobody waits for tables that come back.
    let (owner, waiting) = (Arc::default(), Vec::new());
    let to = Arc::clone(&control);
    let publish_turn = PublishTurn::new(publisher, owner, waiting, wake, to, false);
    let mut runtime = Runtime::start(Arc::clone(&control), publish_turn)?;
    runtime.spawn_outputs(threads, &outputs_clock)?;
    let pool = Arc::new(ScanPool {
        queue,
        lending: StealQueue::new(materials.arena, lent),
        finish: Mutex::new(finish),
        control,
        publish_turn: Arc::clone(&runtime.publish_turn),
        notices: notices.clone(),
        record_bytes_max: config.record_bytes_max,
    });
    let bodies = workers.into_iter().map(|mut worker| {
        let pool = Arc::clone(&pool);
        move || pool.run(&mut worker)
    });
    runtime.spawn_pinned("mt-files", bodies.collect(), config.pin, &notices)?;
    Ok(runtime)
}

/// What the last worker needs to cut the batch.
struct FinishBarrier {
    /// Workers that have not finished.
    left: usize,
    /// What the others have read of each stream.
    intakes: Vec<IntakeTotals>,
    trouble: Trouble,
    file_count: usize,
    headers: HeaderSender,
    shard_count: usize,
    interval_ms: u64,
    clock: Clock,
}

impl FinishBarrier {
    /// Cuts the batch: every worker has handed over its tables.
    fn cut(&mut self, control: &Control) {
        if let Some(error) = std::mem::take(&mut self.trouble).into_error(self.file_count) {
            control.report_at_end(error);
        }
        let mut shards = ShardSet::default();
        (0..self.shard_count).for_each(|shard| shards.add(shard));
        let time = BatchClock::new(self.interval_ms, self.clock.now()).next();
        self.headers
            .send(time, true, shards, self.intakes.iter().copied(), None);
    }
}

/// The barrier of the one batch; its time is in its header.
const BARRIER: Barrier = Barrier {
    epoch: 1,
    time: BatchTime::from_millis(0),
    last: true,
};

/// What the workers share.
struct ScanPool {
    queue: ScanQueue,
    lending: StealQueue,
    finish: Mutex<FinishBarrier>,
    control: Arc<Control>,
    publish_turn: Arc<PublishTurn>,
    notices: Notices,
    record_bytes_max: usize,
}

impl ScanPool {
    /// Works until nothing is left to do or a stop was requested. The body of `mt-files-N`.
    fn run(&self, worker: &mut ScanWorker) {
        while !self.control.is_stopping()
            && let Some(chunk) = self.queue.take(&self.lending)
        {
            self.perform(chunk, worker);
            worker.publish();
        }
        // Also after a stop: what was read is counted.
        self.lending
            .help(|block, stream| worker.core.count(block, stream));
        // After an immediate stop nothing would be published: the publisher only has to end.
        if self.control.requested() == Some(Stop::Immediate) {
            return;
        }
        let is_sealed = worker.core.try_seal(BARRIER);
        assert!(is_sealed, "nobody has had the spare tables");
        let mut finish = self.finish();
        for (sum, framer) in finish.intakes.iter_mut().zip(&worker.framers) {
            *sum = sum.plus(&framer.intake());
        }
        finish.left -= 1;
        if finish.left == 0 {
            self.report_oversize(&finish.intakes);
            finish.cut(&self.control);
            drop(finish);
            self.publish_turn.handed_over();
        }
    }

    /// Reports oversize tokens once for each set, as for a source; `intakes` is what was read of
    /// each stream.
    fn report_oversize(&self, intakes: &[IntakeTotals]) {
        for set in &self.queue.sets {
            if intakes[set.stream.0].oversize_tokens > 0 {
                let record_bytes_max = self.record_bytes_max;
                let kind = NoticeKind::Oversize { record_bytes_max };
                self.notices.report(Notice::new(&set.name, kind));
            }
        }
    }

    fn finish(&self) -> MutexGuard<'_, FinishBarrier> {
        lock(&self.finish)
    }

    fn perform(&self, chunk: Chunk<'_>, worker: &mut ScanWorker) {
        match chunk {
            Chunk::Entry(set, mut entry, reading) => {
                let opened = entry.open(self.queue.window_log_max);
                self.whole(set, &entry, opened, reading, worker);
            }
            Chunk::Whole(set, entry, opened, reading) => {
                self.whole(set, &entry, opened, reading, worker);
            }
            Chunk::Piece(set, shared, range) => {
                let place = ScanPlace {
                    set: &self.queue.sets[set],
                    control: &self.control,
                    lending: None,
                    is_shorter: Cell::new(false),
                };
                let bytes = (shared.mark_bytes, Some(shared.bytes));
                let outcome = worker.piece(&place, &shared.file, range, bytes);
                if let Err(cause) = outcome
                    && !shared.has_failed.swap(true, Ordering::Relaxed)
                {
                    self.failed(set, &shared.entry, &cause);
                }
                if place.is_shorter.get() && !shared.is_shorter.swap(true, Ordering::Relaxed) {
                    self.shorter(set, &shared.entry, &shared.file, shared.bytes);
                }
            }
        }
    }

    /// Reads a file that no other worker reads.
    fn whole(
        &self,
        number: usize,
        entry: &NamedFile,
        opened: io::Result<Opened>,
        reading: ReaderGuard<'_>,
        worker: &mut ScanWorker,
    ) {
        let set = &self.queue.sets[number];
        let mut place = ScanPlace {
            set,
            control: &self.control,
            lending: Some(&self.lending),
            is_shorter: Cell::new(false),
        };
        let outcome = match opened {
            Ok(Opened::Regular(regular)) => {
                // It is read in a moment: nobody has to wait for it.
                place.lending = None;
                drop(reading);
                let Regular {
                    file,
                    bytes,
                    mark_bytes,
                } = regular;
                set.progress.begin(entry.bytes, bytes.unwrap_or(0));
                let range = 0..bytes.unwrap_or(u64::MAX);
                let outcome = worker.piece(&place, &file, range, (mark_bytes, bytes));
                if place.is_shorter.get() {
                    self.shorter(number, entry, &file, bytes.unwrap_or(0));
                }
                outcome
            }
            Ok(Opened::Decoded(file)) => {
                set.progress.begin(entry.bytes, file.bytes());
                worker.decoded(&place, file)
            }
            Ok(Opened::Stream(input)) => {
                set.progress.begin(entry.bytes, 0);
                worker.stream(&place, *input)
            }
            Err(cause) => {
                set.progress.begin(entry.bytes, 0);
                Err(cause)
            }
        };
        if let Err(cause) = outcome {
            self.failed(number, entry, &cause);
        }
    }

    /// Reports a file of `bytes` bytes whose end came too soon.
    #[cold]
    fn shorter(&self, set: usize, entry: &NamedFile, file: &File, bytes: u64) {
        let set = &self.queue.sets[set];
        let is = file.metadata().map_or(0, |metadata| metadata.len());
        set.progress.correct(bytes.saturating_sub(is), 0);
        self.finish().trouble.add(&entry.path, &became_shorter());
        (self.notices).report(Notice::new(&set.name, entry.shorter_notice(file)));
    }

    /// Reports a file that could not be read, or not to its end.
    #[cold]
    fn failed(&self, set: usize, entry: &NamedFile, cause: &io::Error) {
        self.finish().trouble.add(&entry.path, cause);
        let source = &self.queue.sets[set].name;
        (self.notices).report(Notice::new(source, entry.unreadable_notice(cause)));
    }
}
