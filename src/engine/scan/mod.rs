//! The door for files that are there: counted on all cores as one batch, without a reading thread.
//!
//! Promise: the batch holds every record of every file once, wherever the pieces begin and end; its
//! ledger is checked like any other. Must not know: what is counted, what is published, batch intervals
//! that pass meanwhile.
//!
//! A file is taken in pieces, by whichever worker is free. A record belongs to the piece in which it
//! begins, so a worker skips to the first record that begins in its piece and reads beyond it to the end
//! of the last one. Both neighbours find the boundary in the bytes alone and agree without a word:
//!
//! ```text
//!   piece k                      piece k + 1
//!   ─ …  records ┐\n│ a record that begins in k and ends in k + 1 \n│ records … ─
//!                    └───────── read by the worker of k ──────────┘
//! ```
//!
//! A compressed file, one in UTF-16 and a pipe are one piece, which one worker reads. Where others have nothing to do, it
//! lends them its blocks, and they count them (`share`).
//!
//! A worker reads into a block of its own, through the same framer and the same stages that the shards
//! have. At the end it hands its tables over like a shard, and whoever is last cuts the batch.

mod queue;
mod steal;
mod worker;

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::config::{OnLimit, interval_ms};
use crate::engine::control::{Control, Stop};
use crate::engine::publish_turn::PublishTurn;
use crate::engine::publisher::{Inbox, Publisher};
use crate::engine::scan::queue::{Chunk, ScanQueue};
use crate::engine::scan::steal::{Reading, StealQueue, lent_blocks};
use crate::engine::scan::worker::{Place, ScanWorker};
use crate::engine::{Order, Runtime, arena, check_memory};
use crate::epoch::barrier::{Barrier, EpochHeader, ShardSet};
use crate::epoch::hand_over::{Tables, hand_over};
use crate::error::{Result, lock};
use crate::intake::framer::Framer;
use crate::ledger::Intake;
use crate::limits::SHARDS_MAX;
use crate::memory::{DecoderCounts, MemoryPlan};
use crate::notice::{Notice, Notices};
use crate::shard::ShardCore;
use crate::source::file::files::{Entry, Files, Opened, Regular, Trouble, became_shorter};
use crate::sys;
use crate::table::keys::Seed;
use crate::time::{BatchClock, BatchTime, Clock};

/// The files of one stream.
pub(crate) struct FilesOf {
    pub(crate) stream: usize,
    pub(crate) files: Files,
}

/// Starts the threads that count `sets` and publish their one batch. The framers of `order` mean nothing.
///
/// # Errors
///
/// As [`build`](super::build), and a thread that cannot be started.
pub(crate) fn start(order: Order, sets: Vec<FilesOf>) -> Result<Runtime> {
    let Order {
        config,
        plan,
        interval,
        clock,
        notices,
        control,
        wake,
        retained,
        ..
    } = order;
    let decoders: DecoderCounts = sets.iter().map(|set| set.files.all_decoders()).sum();
    let has_whole = sets.iter().any(|set| set.files.has_whole());
    let (mut work, piece_count) = ScanQueue::new(sets);
    // Nobody reads for the others, so there is one for each core; one more than pieces would only start.
    let worker_count = config.workers.unwrap_or_else(sys::core_count);
    let worker_count = worker_count.min(piece_count).clamp(1, SHARDS_MAX);
    let decoders = decoders.at_most(worker_count);
    work.limit_windows(decoders.window_log_max(config.memory_bytes_max));
    let stream_count = work.sets.iter().map(|set| set.stream + 1).max();
    let stream_count = stream_count.unwrap_or(0);
    let block_bytes = config.block_bytes_within_limit();
    // One for each framer, and what is lent.
    let lent = if has_whole {
        lent_blocks(worker_count)
    } else {
        0
    };
    let blocks = worker_count * stream_count + lent;
    let pipelines: Vec<_> = plan.nodes.iter().map(|node| node.needs()).collect();
    check_memory(worker_count, block_bytes.saturating_mul(blocks), &pipelines)?;
    let arena = arena(block_bytes, blocks)?;
    let seed = Seed::chosen(config.seed);
    let kernel = config.chosen_kernel()?;
    let cap = MemoryPlan {
        config: &config,
        shards: worker_count,
        // There is one batch, so the tables that would be filled next stay empty.
        sets: 1,
        blocks,
        framers: worker_count * stream_count,
        decoders,
        pipelines: &pipelines,
        retained,
    }
    .table_cap()?;
    let tables = || {
        Tables::new(
            plan.nodes
                .iter()
                .map(|node| node.partial(seed, cap.clone())),
        )
    };
    let (mut hands, mut handed_over) = (Vec::new(), Vec::new());
    for _ in 0..worker_count {
        let stages = plan.nodes.iter();
        let stages = stages.map(|node| (node.stream(), node.stage(kernel, seed, cap.clone())));
        let (out, publisher_end) = hand_over(tables());
        handed_over.push(publisher_end);
        let framer = |stream| {
            Framer::new(
                plan.rule_of(stream),
                config.line_ends,
                config.record_bytes_max,
            )
        };
        let mut core = ShardCore::new(stages.collect(), tables(), out, config.line_ends);
        if cap.on_limit == OnLimit::Fail && config.memory_bytes_max.is_some() {
            let control = Arc::clone(&control);
            core.end_when_full(Arc::new(move || control.memory_is_full()));
        }
        hands.push(ScanWorker::new(
            core,
            (0..stream_count).map(framer).collect(),
            (0..stream_count).map(|_| arena.block()).collect(),
        ));
    }
    let first = handed_over.pop().expect("there is at least one worker");
    let (intakes_in, intakes_out) = rtrb::RingBuffer::new(stream_count);
    let (cuts_in, cuts_out) = rtrb::RingBuffer::new(1);
    let inbox = Inbox {
        shards: handed_over,
        // The publisher waits for one in every batch and for the others by the roll.
        helper: first,
        intakes: intakes_out,
        cuts: cuts_out,
        stream_count,
    };
    let closing = FinishBarrier {
        left: worker_count,
        intakes: vec![Intake::default(); stream_count],
        trouble: Trouble::default(),
        file_count: work.sets.iter().map(|set| set.progress.files()).sum(),
        intakes_in,
        cuts_in,
        shard_count: worker_count - 1,
        // Without an interval the batch is named by the millisecond in which it ends.
        interval_ms: match interval {
            Duration::ZERO => 1,
            interval => interval_ms(interval)?,
        },
        clock: clock.clone(),
    };
    let mut publisher = Publisher::new(
        plan,
        inbox,
        interval,
        clock,
        Arc::new(AtomicU64::new(0)),
        Arc::clone(&control),
        notices.clone(),
    );
    publisher.set_limit(config.memory_bytes_max, config.on_limit);
    let publish_turn = PublishTurn::new(publisher, wake, Arc::clone(&control), false);
    let mut runtime = Runtime::new(Arc::clone(&control), Arc::clone(&publish_turn));
    let publisher_thread = {
        let publish_turn = Arc::clone(&publish_turn);
        runtime.spawn("mt-publisher".to_owned(), move || publish_turn.run())?
    };
    publish_turn.set_owner(publisher_thread);
    let crew = Arc::new(ScanPool {
        work,
        share: StealQueue::new(arena, lent),
        closing: Mutex::new(closing),
        control,
        publish_turn,
        notices: notices.clone(),
        record_bytes_max: config.record_bytes_max,
    });
    let bodies = hands.into_iter().map(|mut hand| {
        let crew = Arc::clone(&crew);
        move || crew.run(&mut hand)
    });
    runtime.spawn_pinned("mt-files", bodies.collect(), config.pin, &notices)?;
    Ok(runtime)
}

/// What the last worker does.
struct FinishBarrier {
    /// Workers that are not done.
    left: usize,
    /// Of each stream what the others have read.
    intakes: Vec<Intake>,
    trouble: Trouble,
    file_count: usize,
    intakes_in: rtrb::Producer<Intake>,
    cuts_in: rtrb::Producer<EpochHeader>,
    shard_count: usize,
    interval_ms: u64,
    clock: Clock,
}

impl FinishBarrier {
    /// Every worker has handed its tables over.
    fn cut(&mut self, control: &Control) {
        if let Some(error) = std::mem::take(&mut self.trouble).into_error(self.file_count) {
            control.report_at_end(error);
        }
        for &intake in &self.intakes {
            let pushed = self.intakes_in.push(intake);
            assert!(pushed.is_ok(), "there is one batch");
        }
        let mut shard_set = ShardSet::default();
        (0..self.shard_count).for_each(|shard| shard_set.add(shard));
        let time = BatchClock::new(self.interval_ms, self.clock.now()).next();
        let barrier = barrier(time);
        let pushed = self.cuts_in.push(EpochHeader { barrier, shard_set });
        assert!(pushed.is_ok(), "there is one batch");
    }
}

/// The mark of the one batch.
fn barrier(time: BatchTime) -> Barrier {
    Barrier {
        epoch: 1,
        time,
        last: true,
    }
}

/// What the workers share.
struct ScanPool {
    work: ScanQueue,
    share: StealQueue,
    closing: Mutex<FinishBarrier>,
    control: Arc<Control>,
    publish_turn: Arc<PublishTurn>,
    notices: Notices,
    record_bytes_max: usize,
}

impl ScanPool {
    /// Works until there is nothing more to do or a stop was asked for. The body of `mt-files-N`.
    fn run(&self, hand: &mut ScanWorker) {
        while !self.control.is_stopping()
            && let Some(task) = self.work.take(&self.share)
        {
            self.perform(task, hand);
        }
        // Also after a stop: what was read is counted.
        self.share
            .help(|block, stream| hand.core.count(block, stream));
        // What is cut at once would not be published: the publisher is told to end.
        if self.control.requested() == Some(Stop::Immediate) {
            return;
        }
        // The batch's own time is in its cut.
        let is_sealed = hand.core.try_seal(barrier(BatchTime::default()));
        assert!(is_sealed, "nobody has had the spare tables");
        let mut closing = self.closing();
        for (sum, framer) in closing.intakes.iter_mut().zip(&hand.framers) {
            *sum = sum.plus(&framer.intake());
        }
        closing.left -= 1;
        if closing.left == 0 {
            self.tell_oversize(&closing.intakes);
            closing.cut(&self.control);
            drop(closing);
            self.publish_turn.handed_over();
        }
    }

    /// Of each set once, as for a source: `intakes` is what was read of each stream.
    fn tell_oversize(&self, intakes: &[Intake]) {
        for set in &self.work.sets {
            if intakes[set.stream].oversize_tokens > 0 {
                self.notices.tell(Notice::Oversize {
                    source: set.name.clone(),
                    record_bytes_max: self.record_bytes_max,
                });
            }
        }
    }

    fn closing(&self) -> MutexGuard<'_, FinishBarrier> {
        lock(&self.closing)
    }

    fn perform(&self, task: Chunk<'_>, hand: &mut ScanWorker) {
        match task {
            Chunk::Entry(set, mut entry, reading) => {
                let opened = entry.open(self.work.window_log_max);
                self.whole(set, &entry, opened, reading, hand);
            }
            Chunk::Whole(set, entry, opened, reading) => {
                self.whole(set, &entry, opened, reading, hand);
            }
            Chunk::Piece(set, shared, range) => {
                let place = Place {
                    set: &self.work.sets[set],
                    control: &self.control,
                    share: None,
                    is_shorter: Cell::new(false),
                };
                let bytes = (shared.mark_bytes, Some(shared.bytes));
                let outcome = hand.piece(&place, &shared.file, range, bytes);
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
        entry: &Entry,
        opened: io::Result<Opened>,
        reading: Reading<'_>,
        hand: &mut ScanWorker,
    ) {
        let set = &self.work.sets[number];
        let mut place = Place {
            set,
            control: &self.control,
            share: Some(&self.share),
            is_shorter: Cell::new(false),
        };
        let outcome = match opened {
            Ok(Opened::Regular(regular)) => {
                // It is soon over: nobody is to wait for it.
                place.share = None;
                drop(reading);
                let Regular {
                    file,
                    bytes,
                    mark_bytes,
                } = regular;
                set.progress.begin(entry.bytes, bytes.unwrap_or(0));
                let range = 0..bytes.unwrap_or(u64::MAX);
                let outcome = hand.piece(&place, &file, range, (mark_bytes, bytes));
                if place.is_shorter.get() {
                    self.shorter(number, entry, &file, bytes.unwrap_or(0));
                }
                outcome
            }
            Ok(Opened::Packed(packed)) => {
                set.progress.begin(entry.bytes, packed.bytes().unwrap_or(0));
                hand.packed(&place, packed)
            }
            Ok(Opened::Stream(input)) => {
                set.progress.begin(entry.bytes, 0);
                hand.stream(&place, *input)
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

    /// The end of a file that had so many `bytes` came sooner than it should have.
    #[cold]
    fn shorter(&self, set: usize, entry: &Entry, file: &File, bytes: u64) {
        let set = &self.work.sets[set];
        let is = file.metadata().map_or(0, |metadata| metadata.len());
        set.progress.correct(bytes.saturating_sub(is), 0);
        self.closing().trouble.add(&entry.path, &became_shorter());
        self.notices.tell(entry.shorter(&set.name, file));
    }

    /// A file could not be read, or not to its end.
    #[cold]
    fn failed(&self, set: usize, entry: &Entry, cause: &io::Error) {
        self.closing().trouble.add(&entry.path, cause);
        let notice = entry.unreadable(&self.work.sets[set].name, cause);
        self.notices.tell(notice);
    }
}
