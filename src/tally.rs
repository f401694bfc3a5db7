//! The door without threads: push bytes, cut a batch when you say so.
//!
//! Promise: a push counts in the calling thread and returns when all complete lines are counted; a known
//! word costs no allocation, so a steady vocabulary costs none at all. Must not know: time, threads,
//! files.

use crate::batch::{Batch, BatchStats};
use crate::config::{Config, OnLimit};
use crate::epoch::merge::{check_counts, limit_reached, sum};
use crate::error::{Error, ErrorKind, Result};
use crate::intake::framer::{Ending, Framer};
use crate::ledger::{Counted, Intake, close_ledger};
use crate::limits::COUNTER_BYTES;
use crate::memory::{DecoderCounts, MemoryPlan, PipelineNeeds, RetainedTables};
use crate::ring::arena::{Arena, Block};
use crate::shard::count::CountStage;
use crate::shard::stage::Stage;
use crate::split::{Kernel, Rule, Tallied};
use crate::sys::has_memory;
use crate::table::KeyTable;
use crate::table::bound::MemoryCap;
use crate::table::keys::Seed;
use crate::time::BatchTime;

/// Counts the tokens of pushed bytes in the calling thread.
///
/// The caller owns time: a batch is whatever was completed between two cuts. A line that is not complete
/// waits for its end, in whatever pieces it comes.
///
/// ```
/// use microtally::{BatchTime, Rule, Tally};
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
pub struct Tally {
    framer: Framer,
    /// The one block, while the framer does not have it.
    block: Option<Block>,
    stage: CountStage,
    table: KeyTable<u64>,
    counted: Counted,
    tallied: Tallied,
    before: Intake,
    stats: BatchStats,
    limit: Option<(usize, OnLimit)>,
    /// The table still holds the batch that was lent out last.
    is_lent: bool,
}

debug_fields!([] Tally, "Tally");

impl Tally {
    /// A tally of the tokens of `rule`, with default settings.
    pub fn new(rule: Rule) -> Self {
        Tally::build(rule, &Config::default(), Kernel::detect(), MemoryCap::NONE)
            .expect("there is memory for one block of the default size")
    }

    /// A tally with the block size, record limit, memory limit, seed and kernel of `config`; the other settings are
    /// about threads.
    ///
    /// # Errors
    ///
    /// A setting that is out of its range, a memory limit that is too small, or no memory for a block.
    pub fn with_config(rule: Rule, config: &Config) -> Result<Self> {
        Tally::configured(rule, config, config.chosen_kernel()?)
    }

    /// As [`with_config`](Self::with_config), with a kernel of the caller's choice, through which the tokens of
    /// small batches go as well: for tests that compare kernels.
    #[doc(hidden)]
    pub fn with_kernel(rule: Rule, config: &Config, kernel: Kernel) -> Result<Self> {
        let mut tally = Tally::configured(rule, config, kernel)?;
        tally.stage = tally.stage.never_direct();
        Ok(tally)
    }

    fn configured(rule: Rule, config: &Config, kernel: Kernel) -> Result<Self> {
        config.validate()?;
        let block_bytes = config.block_bytes_within_limit();
        let pipelines = [PipelineNeeds::counting()];
        let cap = MemoryPlan {
            config,
            shards: 1,
            sets: 1,
            blocks: 1,
            framers: 1,
            decoders: DecoderCounts::default(),
            pipelines: &pipelines,
            retained: RetainedTables::default(),
        }
        .table_cap()?;
        Tally::build(rule, config, kernel, cap).ok_or_else(|| {
            Error::new(
                ErrorKind::System,
                format!("no memory for a table and a block of {block_bytes} bytes"),
            )
        })
    }

    /// `None` without memory.
    fn build(rule: Rule, config: &Config, kernel: Kernel, cap: MemoryCap) -> Option<Self> {
        let needs = PipelineNeeds::counting();
        if !has_memory(COUNTER_BYTES + needs.table_bytes_min + config.block_bytes_within_limit()) {
            return None;
        }
        let seed = Seed::chosen(config.seed);
        let kernel = kernel.with_line_ends(config.line_ends);
        Some(Tally {
            framer: Framer::new(rule, config.line_ends, config.record_bytes_max),
            block: Some(Arena::new(config.block_bytes_within_limit(), 1)?.block()),
            stage: CountStage::new(rule, kernel, seed),
            table: KeyTable::counting(seed, cap),
            counted: Counted::default(),
            tallied: Tallied::default(),
            before: Intake::default(),
            stats: BatchStats::default(),
            limit: config
                .memory_bytes_max
                .map(|bytes| (bytes, config.on_limit)),
            is_lent: false,
        })
    }

    /// Takes bytes in, in any cut, and counts the lines that are complete.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            while !self.framer.has_space() {
                if self.framer.has_block() {
                    self.count_complete();
                } else {
                    let block = self
                        .block
                        .take()
                        .expect("the block is here or with the feed");
                    self.framer.provide(block);
                }
            }
            let space = self.framer.space();
            let count = bytes.len().min(space.len());
            space[..count].copy_from_slice(&bytes[..count]);
            self.framer.filled(count);
            bytes = &bytes[count..];
        }
    }

    /// The stream ended: a line without an end is complete now. More may be pushed; it begins a new line.
    pub fn end_of_stream(&mut self) {
        while self.count_complete() {}
        self.framer.end(Ending::Clean);
        if self.framer.carries_record() {
            let block = self
                .block
                .take()
                .expect("the framer has no block, it carries");
            self.framer.provide(block);
        }
        while self.count_complete() {}
    }

    /// Ends the batch, calls it `time`, and lends it out. It is gone with the next push or cut.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`](crate::ErrorKind::Internal) if the byte ledger does not close: a bug of
    /// this crate. [`ErrorKind::Limit`](crate::ErrorKind::Limit) if there was no room for a key and that was to
    /// be an error; the next batch begins empty all the same.
    pub fn cut(&mut self, time: BatchTime) -> Result<Batch<'_, u64>> {
        while self.count_complete() {}
        self.forget_lent();
        self.stage.flush(&mut self.table);
        let intake = self.framer.intake();
        close_ledger(&self.before, &intake, &self.counted)?;
        check_counts(&self.table, self.counted.block_bytes, self.tallied)?;
        let delta = intake.since(&self.before)?;
        let keys = self.table.len() as u64;
        self.stats = BatchStats {
            batch: self.stats.batch + 1,
            time,
            ..BatchStats::of(&delta, self.counted.block_bytes, self.tallied, keys)?
        }
        .with(self.table.overflow());
        self.stats.missing_max = self.table.missing_most();
        self.before = intake;
        self.is_lent = true;
        if let Some((bytes_max, OnLimit::Fail)) = self.limit
            && self.stats.other_records > 0
        {
            return Err(limit_reached(bytes_max, time, self.table.overflow()));
        }
        Ok(Batch::new(&self.table, &self.stats))
    }

    /// Counts what is complete. Gives whether anything was.
    fn count_complete(&mut self) -> bool {
        if !self.framer.has_block() {
            return false;
        }
        let Some(mut block) = self.framer.cut() else {
            return false;
        };
        self.forget_lent();
        let tallied = self.stage.block(&block, &mut self.table);
        self.counted.block_bytes += block.bytes().len() as u64;
        self.tallied = sum(self.tallied, tallied);
        block.recycle();
        self.block = Some(block);
        true
    }

    fn forget_lent(&mut self) {
        if self.is_lent {
            self.table.clear();
            self.counted = Counted::default();
            self.tallied = Tallied::default();
            self.is_lent = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
