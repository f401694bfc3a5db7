//! The door without threads: push bytes, cut a batch when you say so.
//!
//! Promise: a push counts in the calling thread and returns when all complete lines are counted; a
//! known word costs no allocation, so a steady vocabulary costs none at all. Must not know: files,
//! threads, the clock.

use std::convert::Infallible;

use crate::batch::{Batch, BatchStats};
use crate::config::{Config, OnLimit};
use crate::engine::assemble::{Materials, Sizes};
use crate::epoch::merge::{check_counts, limit_reached, sum};
use crate::error::Result;
use crate::intake::framer::{BlockPort, Ending, Framer};
use crate::ledger::{IntakeTotals, close_ledger};
use crate::memory::{DecoderCounts, PipelineNeeds, RetainedTables};
use crate::ring::arena::Block;
use crate::shard::count::CountStage;
use crate::shard::stage::Stage;
use crate::split::{Kernel, Rule, Tallied};
use crate::table::KeyTable;
use crate::time::BatchTime;

/// Counts the tokens of pushed bytes in the calling thread.
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
pub struct Tally {
    framer: Framer,
    counter: TallyCounter,
    before: IntakeTotals,
    stats: BatchStats,
    limit: Option<(usize, OnLimit)>,
}

/// Where the framer's blocks are counted.
struct TallyCounter {
    /// The one block, while the framer does not have it.
    block: Option<Block>,
    stage: CountStage,
    table: KeyTable<u64>,
    block_bytes: u64,
    tallied: Tallied,
    /// The table still holds the batch that was lent out last.
    is_lent: bool,
}

debug_fields!([] Tally, "Tally");

impl Tally {
    /// A tally of the tokens of `rule`, with default settings.
    pub fn new(rule: Rule) -> Self {
        Tally::build(rule, &Config::default(), Kernel::detect())
            .expect("there is memory for one block of the default size")
    }

    /// A tally with the block size, record limit, memory limit, seed and kernel of `config`; the
    /// other settings concern threads.
    ///
    /// # Errors
    ///
    /// A setting out of its range, a memory limit that is too small, or no memory for a block.
    pub fn with_config(rule: Rule, config: &Config) -> Result<Self> {
        Tally::build(rule, config, config.chosen_kernel()?)
    }

    /// As [`with_config`](Self::with_config), but with `kernel`, which also splits small batches:
    /// for tests that compare kernels.
    #[doc(hidden)]
    pub fn with_kernel(rule: Rule, config: &Config, kernel: Kernel) -> Result<Self> {
        let mut tally = Tally::build(rule, config, kernel)?;
        tally.counter.stage = tally.counter.stage.never_direct();
        Ok(tally)
    }

    fn build(rule: Rule, config: &Config, kernel: Kernel) -> Result<Self> {
        config.validate()?;
        let sizes = Sizes {
            shards: 1,
            sets: 1,
            blocks: 1,
            framers: 1,
            threads: 0,
        };
        let (needs, decoders, retained) = (
            [PipelineNeeds::counting()],
            DecoderCounts::default(),
            RetainedTables::default(),
        );
        let materials = Materials::new(config, kernel, &needs, decoders, retained, sizes)?;
        let kernel = kernel.with_line_ends(config.line_ends);
        Ok(Tally {
            framer: materials.framer(rule),
            counter: TallyCounter {
                block: Some(materials.arena.block()),
                stage: CountStage::new(rule, kernel, materials.seed),
                table: KeyTable::counting(materials.seed, materials.cap),
                block_bytes: 0,
                tallied: Tallied::default(),
                is_lent: false,
            },
            before: IntakeTotals::default(),
            stats: BatchStats::default(),
            limit: config.memory_limit(),
        })
    }

    /// Pushes bytes, cut anywhere, and counts the lines that are complete.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Ok(space) = self.framer.space(&mut self.counter);
            let count = bytes.len().min(space.len());
            space[..count].copy_from_slice(&bytes[..count]);
            self.framer.filled(count);
            bytes = &bytes[count..];
        }
    }

    /// Ends the stream: a last line without an end is complete now. More may be pushed; it begins a
    /// new line.
    pub fn end_of_stream(&mut self) {
        let Ok(()) = self.framer.finish(Ending::Clean, &mut self.counter);
    }

    /// Ends the batch, calls it `time`, and lends it out until the next push or cut.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`](crate::error::ErrorKind::Internal) if the byte ledger does not
    /// close: a bug of this crate. [`ErrorKind::Limit`](crate::error::ErrorKind::Limit) if there
    /// was no room for a key and that is to be an error; the next batch begins empty all the same.
    pub fn cut(&mut self, time: BatchTime) -> Result<Batch<'_, u64>> {
        let counter = &mut self.counter;
        while let Ok(true) = counter.place(&mut self.framer) {}
        counter.forget_lent();
        counter.stage.flush(&mut counter.table);
        let intake = self.framer.intake();
        let block_bytes = counter.block_bytes;
        close_ledger(&self.before, &intake, block_bytes)?;
        check_counts(&counter.table, block_bytes, counter.tallied)?;
        let delta = intake.since(&self.before)?;
        let keys = counter.table.len() as u64;
        let stats = BatchStats {
            batch: self.stats.batch + 1,
            time,
            ..BatchStats::default()
        };
        let stats = stats.counted(&delta, block_bytes, counter.tallied, keys)?;
        self.stats = stats.with(counter.table.overflow());
        self.stats.missing_max = counter.table.missing_most();
        self.before = intake;
        counter.is_lent = true;
        if let Some((bytes_max, OnLimit::Fail)) = self.limit
            && self.stats.other_records > 0
        {
            return Err(limit_reached(bytes_max, time, counter.table.overflow()));
        }
        Ok(Batch::new(&counter.table, &self.stats))
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
        let tallied = self.stage.block(&block, &mut self.table);
        self.block_bytes += block.bytes().len() as u64;
        self.tallied = sum(self.tallied, tallied);
        block.recycle();
        self.block = Some(block);
        Ok(true)
    }
}

impl TallyCounter {
    fn forget_lent(&mut self) {
        if self.is_lent {
            self.table.clear();
            self.block_bytes = 0;
            self.tallied = Tallied::default();
            self.is_lent = false;
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
