//! Builds the parts of an engine from a [`Blueprint`]: memory, queues, shards, publisher.
//!
//! Promise: a blueprint is complete before anything is taken; the parts need nothing more to be
//! stepped by a test or run on threads; settings that ask for more memory than there is are refused
//! before any of it is touched. Must not know: argv, formats, concrete sources.
//!
//! [`Materials`] is what all doors have in common: `Tally` and the scan of files build from it too.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, OnLimit};
use crate::engine::control::Control;
use crate::engine::plan::EnginePlan;
use crate::engine::publisher::{Inbox, Publisher};
use crate::epoch::hand_over::{SealedIn, Tables, hand_over};
use crate::epoch::header::header_channel;
use crate::error::{Error, ErrorKind, Result};
use crate::id::StreamId;
use crate::intake::ChannelLimits;
use crate::intake::channels::Channels;
use crate::intake::framer::Framer;
use crate::intake::router::{Dispatcher, Router, block_count};
use crate::limits::{
    COUNTER_BYTES, EPOCHS_IN_FLIGHT_MAX, MIB, RING_BYTES_MAX, STACK_BYTES, THREAD_BYTES,
};
use crate::memory::{DecoderCounts, MemoryPlan, PipelineNeeds, RetainedTables};
use crate::metrics::ShardRecorder;
use crate::notice::Notices;
use crate::ring::arena::Arena;
use crate::ring::sleeper::Sleeper;
use crate::ring::{Wake, ring};
use crate::shard::worker::Worker;
use crate::shard::{PipelineSet, ShardCore, WhenFull};
use crate::split::{Kernel, Rule};
use crate::sys;
use crate::table::bound::MemoryCap;
use crate::table::keys::Seed;
use crate::time::Clock;

/// Everything an engine is built from.
pub(crate) struct Blueprint {
    pub(crate) config: Config,
    pub(crate) plan: EnginePlan,
    /// The stream of each source, its name, and how much may be held of it; the scan of files makes
    /// its own framers.
    pub(crate) inputs: Vec<(StreamId, String, ChannelLimits)>,
    /// Those of all sources together.
    pub(crate) decoders: DecoderCounts,
    pub(crate) interval: Duration,
    pub(crate) clock: Clock,
    pub(crate) notices: Notices,
    pub(crate) control: Arc<Control>,
    /// Wakes the reading side.
    pub(crate) wake: Arc<Wake>,
    /// What outputs keep.
    pub(crate) retained: RetainedTables,
}

/// The parts of an engine, built and not yet running: on threads, or stepped by a test.
pub(crate) struct Parts {
    pub(crate) router: Router,
    pub(crate) workers: Vec<Worker>,
    pub(crate) publisher: Publisher,
    /// Wakes the publisher's thread.
    pub(crate) publisher_sleeper: Arc<Sleeper>,
    /// Wakes each worker's thread.
    pub(crate) worker_sleepers: Vec<Arc<Sleeper>>,
    pub(crate) wake: Arc<Wake>,
    pub(crate) low_latency: bool,
}

impl Blueprint {
    /// Takes the memory and connects the parts.
    ///
    /// # Errors
    ///
    /// Settings that together ask for more memory than they may, or than there is.
    pub(crate) fn build(self) -> Result<Parts> {
        let Blueprint {
            config,
            plan,
            inputs,
            decoders,
            interval,
            clock,
            notices,
            control,
            wake,
            retained,
        } = self;
        // The reading thread is busy too, so one shard fewer than there are cores.
        let ring_count = config
            .workers
            .unwrap_or_else(|| sys::core_count().saturating_sub(1).max(1));
        let sizes = Sizes {
            shards: ring_count + 1,
            sets: 2,
            blocks: block_count(ring_count, inputs.len()),
            framers: inputs.len(),
            // One for each ring, one that reads, one that publishes.
            threads: ring_count + 2,
        };
        let kernel = config.chosen_kernel()?;
        let materials = Materials::new(&config, kernel, &plan.needs(), decoders, retained, sizes)?;
        let when_full = materials.when_full(&control);
        let metrics = &control.metrics;
        metrics.set_memory_limit(config.memory_bytes_max);
        let (mut rings, mut workers, mut sealed_ins) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..ring_count {
            let recorder = metrics.shard(&index.to_string(), &clock);
            let (core, sealed_in) = materials.shard(&plan, when_full.clone(), recorder);
            let (writer, reader) = ring(Arc::clone(&wake));
            rings.push(writer);
            workers.push(Worker::new(core, reader));
            sealed_ins.push(sealed_in);
        }
        let worker_sleepers = rings.iter().map(|ring| Arc::clone(ring.reader())).collect();
        let publisher_sleeper = Arc::<Sleeper>::default();
        let recorder = metrics.shard("reader", &clock);
        let (helper, helper_in) = materials.shard(&plan, when_full, recorder);
        let dispatcher = Dispatcher::new(
            rings,
            helper,
            materials.arena.clone(),
            inputs.len(),
            config.seed.is_some(),
            Arc::clone(&publisher_sleeper),
            metrics.router(),
        );
        let streams = inputs.iter().map(|(stream, ..)| stream.0 + 1);
        let stream_count = streams.max().unwrap_or(0);
        let (header_sender, headers) = header_channel(stream_count, EPOCHS_IN_FLIGHT_MAX);
        let low_latency = config.low_latency.is_some();
        let inputs = inputs.into_iter().map(|(stream, name, limits)| {
            let channels = materials.channels(plan.rule_of(stream), limits);
            (channels, stream, metrics.source(&name))
        });
        let router = Router::new(
            inputs.collect(),
            dispatcher,
            header_sender,
            stream_count,
            low_latency,
        );
        let inbox = Inbox {
            shards: sealed_ins,
            helper: helper_in,
            headers,
            stream_count,
        };
        let limit = config.memory_limit();
        let publisher = Publisher::new(
            plan,
            inbox,
            interval,
            limit,
            clock,
            Arc::clone(&control),
            notices,
        );
        Ok(Parts {
            router,
            workers,
            publisher,
            publisher_sleeper,
            worker_sleepers,
            wake,
            low_latency,
        })
    }
}

/// How many of everything there are.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    /// Shards, that of the reading thread included.
    pub(crate) shards: usize,
    /// Sets of tables that a shard fills: one is filled while the other is published.
    pub(crate) sets: usize,
    pub(crate) blocks: usize,
    pub(crate) framers: usize,
    /// Threads that are started.
    pub(crate) threads: usize,
}

/// What the shards and framers of one engine are made of.
pub(crate) struct Materials<'a> {
    config: &'a Config,
    kernel: Kernel,
    pub(crate) seed: Seed,
    /// What each table may take.
    pub(crate) cap: MemoryCap,
    pub(crate) arena: Arena,
}

impl<'a> Materials<'a> {
    /// Divides the memory according to `sizes` and takes the blocks. `needs` has one entry for each
    /// pipeline.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`]: the settings ask for more memory than they allow.
    /// [`ErrorKind::System`]: the system has less.
    pub(crate) fn new(
        config: &'a Config,
        kernel: Kernel,
        needs: &[PipelineNeeds],
        decoders: DecoderCounts,
        retained: RetainedTables,
        sizes: Sizes,
    ) -> Result<Self> {
        let Sizes {
            shards,
            sets,
            blocks,
            framers,
            threads,
        } = sizes;
        let cap = MemoryPlan {
            config,
            shards,
            sets,
            blocks,
            framers,
            decoders,
            pipelines: needs,
            retained,
        }
        .table_cap()?;
        let block_bytes = config.block_bytes_within_limit();
        let ring_bytes = block_bytes.saturating_mul(blocks);
        check_memory(shards, threads, ring_bytes, needs)?;
        if ring_bytes > RING_BYTES_MAX {
            return Err(Error::refused(format!(
                "{blocks} blocks of {block_bytes} bytes are more than {RING_BYTES_MAX} bytes; \
                 take fewer workers or smaller blocks"
            )));
        }
        let arena = Arena::new(block_bytes, blocks).ok_or_else(|| {
            let message = format!("no memory for {blocks} blocks of {block_bytes} bytes");
            Error::new(ErrorKind::System, message)
        })?;
        Ok(Materials {
            config,
            kernel,
            seed: Seed::chosen(config.seed),
            cap,
            arena,
        })
    }

    /// Returns a framer of a stream that may be cut at the delimiters of `rule`.
    pub(crate) fn framer(&self, rule: Rule) -> Framer {
        Framer::new(rule, self.config.line_ends, self.config.record_bytes_max)
    }

    /// Returns the channels of a source whose stream may be cut at the delimiters of `rule`.
    fn channels(&self, rule: Rule, limits: ChannelLimits) -> Channels {
        let most = self.config.record_bytes_max;
        let record_bytes_max = limits
            .record_bytes_max
            .map_or(most, |bytes| bytes.min(most));
        let framer = Framer::new(rule, self.config.line_ends, record_bytes_max);
        Channels::new(framer, limits.held_bytes_max)
    }

    /// Returns a shard that runs the pipelines of `plan`, and the publisher's end of its hand-over.
    pub(crate) fn shard(
        &self,
        plan: &EnginePlan,
        when_full: Option<WhenFull>,
        recorder: ShardRecorder,
    ) -> (ShardCore, SealedIn) {
        let (out, sealed_in) = hand_over(self.tables(plan));
        let pipelines = self.pipelines(plan, when_full);
        (ShardCore::new(pipelines, out, recorder), sealed_in)
    }

    /// Returns the pipelines of `plan` for one thread.
    pub(crate) fn pipelines(&self, plan: &EnginePlan, when_full: Option<WhenFull>) -> PipelineSet {
        let stages = plan.pipelines().map(|node| {
            let stage = node.stage(self.kernel, self.seed, self.cap.clone());
            (node.stream(), stage)
        });
        let line_ends = self.config.line_ends;
        PipelineSet::new(stages.collect(), self.tables(plan), line_ends, when_full)
    }

    fn tables(&self, plan: &EnginePlan) -> Tables {
        let nodes = plan.pipelines();
        Tables::new(nodes.map(|node| node.partial(self.seed, self.cap.clone())))
    }

    /// Returns what a shard does when there is no room for a key, if that ends the run.
    pub(crate) fn when_full(&self, control: &Arc<Control>) -> Option<WhenFull> {
        let (_, on_limit) = self.config.memory_limit()?;
        let control = Arc::clone(control);
        (on_limit == OnLimit::Fail).then(|| Arc::new(move || control.memory_is_full()) as WhenFull)
    }
}

/// Asks the system for what `shards` take at their start, before any of it is taken: making a table
/// or a list without memory ends the process.
fn check_memory(
    shards: usize,
    threads: usize,
    ring_bytes: usize,
    needs: &[PipelineNeeds],
) -> Result<()> {
    let lane =
        |needs: &PipelineNeeds| (2 + needs.own_tables) * needs.table_bytes_min + COUNTER_BYTES;
    let lanes = shards.saturating_mul(needs.iter().map(lane).sum());
    let stacks = threads.saturating_mul(STACK_BYTES + THREAD_BYTES);
    let bytes = ring_bytes.saturating_add(lanes).saturating_add(stacks);
    if sys::has_memory(bytes) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::System,
        format!(
            "no memory for {shards} shards, which take {} MiB at the start; take fewer workers or smaller blocks",
            bytes.div_ceil(MIB)
        ),
    ))
}
