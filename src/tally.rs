//! The door without threads: push bytes, cut a batch when you say so.
//!
//! Promise: everything is counted in the calling thread; a known key costs no allocation, so a
//! steady vocabulary costs none at all. Must not know: files, threads, the clock.

use std::convert::Infallible;

use crate::batch::BatchStats;
use crate::config::{Config, OnLimit};
use crate::engine::assemble::{Materials, Sizes};
use crate::engine::plan::{CountTokens, EnginePlan, NamedPipeline, failed_batch};
use crate::engine::publisher::{overflow_of, stats_of};
use crate::engine::results::{Keyed, LentNodes, PipelineResults};
use crate::epoch::merge::limit_reached;
use crate::error::{Error, ErrorKind, Result, guarded};
use crate::id::StreamId;
use crate::intake::framer::{BlockPort, Ending, Framer};
use crate::ledger::{IntakeTotals, close_ledger};
use crate::memory::{DecoderCounts, RetainedTables};
use crate::ring::arena::Block;
use crate::shard::{PipelineSet, panic_message};
use crate::split::{Kernel, Rule};
use crate::table::bound::Overflow;
use crate::time::BatchTime;

/// The only stream.
const STREAM: StreamId = StreamId(0);

/// Counts pushed bytes in the calling thread: the tokens of a rule, or what
/// [pipelines](Self::pipelines) make of them.
///
/// The caller owns time: a batch is whatever was completed between two cuts. An incomplete line is
/// carried over until its end arrives, in however many pieces.
///
/// ```
/// use microtally::{Rule, Tally};
/// use microtally::time::BatchTime;
///
/// let mut tally = Tally::new(Rule::Split(b' '));
/// tally.push(b"to be or n");
/// tally.push(b"ot to be\nthat is");
/// let batch = tally.cut(BatchTime::from_millis(1000))?;
/// assert_eq!(batch.get(b"to"), Some(2));
/// assert_eq!(batch.get(b"not"), Some(1));
/// assert_eq!(batch.get(b"that"), None); // Its line has no end yet.
/// tally.end_of_stream();
/// let batch = tally.cut(BatchTime::from_millis(2000))?;
/// assert_eq!(batch.get(b"that"), Some(1));
/// # Ok::<(), microtally::Error>(())
/// ```
pub struct Tally<R: PipelineResults = Keyed<u64>> {
    framer: Framer,
    counter: TallyCounter,
    before: IntakeTotals,
    /// One for each pipeline.
    stats: Vec<BatchStats>,
    limit: Option<(usize, OnLimit)>,
    computed: R::Computed,
}

/// Where the framer's blocks are counted.
struct TallyCounter {
    /// The one block, while the framer does not have it.
    block: Option<Block>,
    named: Vec<NamedPipeline>,
    set: PipelineSet,
    /// The tables still hold the batch that was lent out last.
    is_lent: bool,
}

debug_fields!([R: PipelineResults] Tally<R>, "Tally");

impl Tally {
    /// A tally of the tokens of `rule`, with default settings.
    pub fn new(rule: Rule) -> Self {
        Tally::with_config(rule, &Config::default())
            .expect("there is memory for one block of the default size")
    }

    /// A tally with the block size, record limit, memory limit, seed and kernel of `config`; the
    /// other settings concern threads.
    ///
    /// # Errors
    ///
    /// A setting out of its range, a memory limit that is too small, or no memory for a block.
    pub fn with_config(rule: Rule, config: &Config) -> Result<Self> {
        let tokens = CountTokens::new(STREAM, rule);
        Tally::of(vec![NamedPipeline::tokens(tokens)], config, None)
    }

    /// As [`with_config`](Self::with_config), but with `kernel`, which also splits small batches:
    /// for tests that compare kernels.
    #[doc(hidden)]
    pub fn with_kernel(rule: Rule, config: &Config, kernel: Kernel) -> Result<Self> {
        let tokens = CountTokens::new(STREAM, rule).never_direct();
        Tally::of(vec![NamedPipeline::tokens(tokens)], config, Some(kernel))
    }
}

impl<R: PipelineResults> Tally<R> {
    /// A tally that runs `named`, whose results are `R`.
    pub(crate) fn of(
        named: Vec<NamedPipeline>,
        config: &Config,
        kernel: Option<Kernel>,
    ) -> Result<Self> {
        config.validate()?;
        let sizes = Sizes {
            shards: 1,
            sets: 1,
            blocks: 1,
            framers: 1,
            threads: 0,
        };
        let kernel = match kernel {
            Some(kernel) => kernel.with_line_ends(config.line_ends),
            None => config.chosen_kernel()?,
        };
        let plan = EnginePlan {
            nodes: named,
            outputs: Vec::new(),
        };
        let (decoders, retained) = (DecoderCounts::default(), RetainedTables::default());
        let materials = Materials::new(config, kernel, &plan.needs(), decoders, retained, sizes)?;
        Ok(Tally {
            framer: materials.framer(plan.rule_of(STREAM)),
            stats: vec![BatchStats::default(); plan.nodes.len()],
            counter: TallyCounter {
                block: Some(materials.arena.block()),
                set: materials.pipelines(&plan, None),
                named: plan.nodes,
                is_lent: false,
            },
            before: IntakeTotals::default(),
            limit: config.memory_limit(),
            computed: R::Computed::default(),
        })
    }

    /// Pushes bytes, cut anywhere. They are copied into a block, and counted when the block is
    /// full, by [`count_now`](Self::count_now), or when the batch is cut.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Ok(space) = self.framer.space(&mut self.counter);
            let count = bytes.len().min(space.len());
            space[..count].copy_from_slice(&bytes[..count]);
            self.framer.filled(count);
            bytes = &bytes[count..];
        }
    }

    /// Pushes a whole record, which may hold any byte: record ends in it are ordinary bytes.
    ///
    /// ```
    /// use microtally::{Rule, Tally};
    /// use microtally::time::BatchTime;
    ///
    /// let mut tally = Tally::new(Rule::Split(b' '));
    /// tally.record(b"to be\nor not")?;
    /// assert_eq!(tally.cut(BatchTime::from_millis(1))?.get(b"be\nor"), Some(1));
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidCall`](crate::error::ErrorKind::InvalidCall), and nothing was pushed:
    /// the record is longer than [`Config::record_bytes_max`], or a line that was pushed has no end
    /// yet.
    pub fn record(&mut self, record: &[u8]) -> Result<()> {
        self.framer.settle();
        let (len, max) = (record.len(), self.framer.record_bytes_max());
        if len > max || self.framer.is_in_record() {
            let message = match len > max {
                true => format!("the record is {len} bytes long; record_bytes_max is {max}"),
                false => "the line that was pushed before has no end yet".to_owned(),
            };
            return Err(Error::new(ErrorKind::InvalidCall, message));
        }
        let Ok(space) = self.framer.space(&mut self.counter);
        if space.len() <= len || self.framer.has_many_whole() {
            self.count_now();
            let Ok(_) = self.framer.space(&mut self.counter);
            self.framer.enlarge(len + 1);
        }
        self.framer.take_whole(record);
        Ok(())
    }

    /// Counts the complete lines that were pushed, so that less is left to do when the batch is
    /// cut. Results are the same with and without it.
    ///
    /// It costs some tens of nanoseconds besides the counting: call it when there is time, and not
    /// after each line.
    ///
    /// ```
    /// use microtally::{Rule, Tally};
    /// use microtally::time::BatchTime;
    ///
    /// let mut tally = Tally::new(Rule::Split(b' '));
    /// for line in ["to be\n", "or not\n", "to be\n"] {
    ///     tally.push(line.as_bytes());
    ///     tally.count_now();
    /// }
    /// assert_eq!(tally.cut(BatchTime::from_millis(1))?.get(b"be"), Some(2));
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn count_now(&mut self) {
        while let Ok(true) = self.counter.place(&mut self.framer) {}
    }

    /// Ends the stream: a last line without an end is complete now. More may be pushed; it begins a
    /// new line.
    pub fn end_of_stream(&mut self) {
        let Ok(()) = self.framer.finish(Ending::Clean, &mut self.counter);
    }

    /// Ends the batch, calls it `time`, and lends it out until the next call: a
    /// [`Batch`](crate::Batch), or a tuple of them if there are several pipelines.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UserFunction`](crate::error::ErrorKind::UserFunction) if a function of a
    /// pipeline panicked, now or in a push. [`ErrorKind::Limit`](crate::error::ErrorKind::Limit) if
    /// there was no room for a key and that is to be an error. After either the next batch begins
    /// empty. [`ErrorKind::Internal`](crate::error::ErrorKind::Internal) if the byte ledger does
    /// not close: a bug of this crate.
    pub fn cut(&mut self, time: BatchTime) -> Result<R::Batches<'_>> {
        self.count_now();
        let counter = &mut self.counter;
        counter.forget_lent();
        counter.set.flush();
        let intake = self.framer.intake();
        close_ledger(&self.before, &intake, counter.set.tables.block_bytes)?;
        let delta = intake.since(&self.before)?;
        self.before = intake;
        counter.is_lent = true;
        let nodes = &counter.set.tables.nodes;
        let mut overflow = Overflow::default();
        for ((node, named), stats) in nodes.iter().zip(&counter.named).zip(&mut self.stats) {
            if node.failure.is_none() {
                named.pipeline.check(node)?;
            }
            let of_all = BatchStats {
                batch: stats.batch + 1,
                time,
                ..BatchStats::default()
            };
            *stats = stats_of(node, &delta, of_all)?;
            overflow = overflow.plus(overflow_of(node));
        }
        let failed = nodes.iter().zip(&counter.named);
        for (node, named) in failed {
            if let Some(message) = &node.failure {
                return Err(failed_batch(time, Some(&named.name), message));
            }
        }
        match self.limit {
            Some((bytes_max, OnLimit::Fail)) if overflow.other > 0 => {
                Err(limit_reached(bytes_max, time, overflow))
            }
            _ => {
                let (mut nodes, computed) =
                    (LentNodes::new(nodes, &self.stats), &mut self.computed);
                guarded(|| R::lend(&mut nodes, computed))
                    .map_err(|panic| failed_batch(time, None, &panic_message(panic.as_ref())))
            }
        }
    }
}

impl BlockPort for TallyCounter {
    type Full = Infallible;

    fn take_empty(&mut self) -> Block {
        let block = self.block.take();
        block.expect("the block is here or with the framer")
    }

    fn place(&mut self, framer: &mut Framer) -> Result<bool, Infallible> {
        let Some(mut block) = framer.cut() else {
            return Ok(false);
        };
        self.forget_lent();
        self.set.count(&block, STREAM);
        block.recycle();
        self.block = Some(block);
        Ok(true)
    }
}

impl TallyCounter {
    fn forget_lent(&mut self) {
        if std::mem::take(&mut self.is_lent) {
            // Keys and values are plain data, so nothing can panic when it is dropped.
            let _ = self.set.tables.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn bytes_that_came_in_and_that_were_not_counted_are_an_error() {
        let mut tally = Tally::new(Rule::Split(b' '));
        tally.push(b"a bb\nccc");
        tally.before.bytes_read = 3;
        let error = tally.cut(BatchTime::from_millis(1)).expect_err("too few");
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.to_string().contains("bytes came in"), "{error}");

        let mut tally = Tally::new(Rule::Split(b' '));
        tally.push(b"a bb\nccc");
        let batch = tally.cut(BatchTime::from_millis(1)).expect("it closes");
        assert_eq!(batch.stats().bytes, 5);
    }
}
