//! The statistics of a batch, and of the batches of a window together.
//!
//! Promise: a batch's statistics follow from the ledger and from what the shards counted, or there
//! is an error. Must not know: who shows them.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::ledger::IntakeTotals;
use crate::save::{Saved, invalid};
use crate::split::Tallied;
use crate::table::bound::Overflow;
use crate::time::BatchTime;

/// How a batch came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchStats {
    /// Number of the batch in this run, from 1.
    pub batch: u64,
    /// The batch's time.
    pub time: BatchTime,
    /// The batch interval; zero if the caller cuts batches.
    pub interval: Duration,
    /// Records (lines) whose last byte was received during the batch.
    pub records: u64,
    /// Tokens counted; the sum of all counts.
    pub tokens: u64,
    /// Bytes of the records of the pipeline's stream, line ends included.
    pub bytes: u64,
    /// Distinct keys that have a count.
    pub keys: u64,
    /// How much a count may exceed the true one, at most; a missing key occurred at most this
    /// often. 0 unless the memory limit was reached: see
    /// [`OnLimit::Approximate`](crate::config::OnLimit).
    pub error_max: u64,
    /// Records of keys that had no room; they are in no count, and the number of these keys is
    /// unknown. 0 unless the memory limit was reached: see
    /// [`OnLimit::Other`](crate::config::OnLimit), and for windows
    /// [`OnLimit::Approximate`](crate::config::OnLimit).
    pub other_records: u64,
    /// How many records of its key a value may lack, at most: some of `other_records` may be of
    /// keys that also have a value. 0 if all values are of all records;
    /// [`Batch::missing_max`](crate::Batch::missing_max) is the bound of each key.
    pub missing_max: u64,
    /// Tokens longer than the record limit: not counted in `tokens`.
    pub oversize_tokens: u64,
    /// Bytes of those tokens; they are in `bytes`.
    pub oversize_bytes: u64,
    /// Partial last lines that were dropped: of connections that were reset, and what a source held
    /// when it ended.
    pub truncated_records: u64,
    /// Bytes of those lines; they are not in `bytes`.
    pub truncated_bytes: u64,
    /// Records that a source lost before they were read, as
    /// [`Port::lost`](crate::sources::Port::lost) reports them; a datagram that the kernel dropped
    /// is one. What a graceful stop left unread counts as one for each connection, because nobody
    /// knows how many it was.
    pub lost_records: u64,
    /// Bytes of those records, as far as they had arrived; they are not in `bytes`.
    pub lost_bytes: u64,
    /// Connections that a listening source closed unread, because no more were allowed.
    pub refused_connections: u64,
    /// How long after the batch's time its processing began; zero if the caller cuts batches.
    pub scheduling_delay: Duration,
    /// Whether this is the run's last batch.
    pub last: bool,
    /// How long merging took, up to the first output.
    pub processing: Duration,
}

impl BatchStats {
    /// Returns `true` if the memory limit was reached: some counts are not exact, or some keys are
    /// missing. Totals are always exact.
    ///
    /// ```
    /// assert!(!microtally::batch::BatchStats::default().is_approximate());
    /// ```
    pub fn is_approximate(&self) -> bool {
        self.error_max > 0 || self.other_records > 0
    }

    /// Records and tokens that were dropped or lost and are in no count: those that were too long,
    /// partial last lines, and what sources lost. Records without room are in
    /// [`other_records`](Self::other_records).
    ///
    /// ```
    /// assert_eq!(microtally::batch::BatchStats::default().dropped(), 0);
    /// ```
    pub fn dropped(&self) -> u64 {
        let known = self.oversize_tokens.saturating_add(self.truncated_records);
        known.saturating_add(self.lost_records)
    }

    /// These statistics with the overflow of the batch's table.
    pub(crate) fn with(self, overflow: Overflow) -> Self {
        BatchStats {
            error_max: overflow.error,
            other_records: overflow.other,
            missing_max: overflow.missing,
            ..self
        }
    }

    /// Adds what follows from a stream's intake during the batch and from what one of its pipelines
    /// split.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`](crate::error::ErrorKind::Internal): more line ends were added than
    /// bytes counted, or a sum overflows.
    pub(crate) fn counted(
        self,
        delta: &IntakeTotals,
        block_bytes: u64,
        tallied: Tallied,
        keys: u64,
    ) -> Result<Self> {
        let bytes = block_bytes
            .checked_add(delta.bytes_skipped)
            .and_then(|sum| sum.checked_add(delta.oversize_bytes))
            .and_then(|sum| sum.checked_sub(delta.bytes_ended));
        let records = tallied.records.checked_add(delta.records_ended);
        let (Some(bytes), Some(records)) = (bytes, records) else {
            return Err(Error::internal(format!(
                "batch statistics do not add up: {block_bytes} bytes and {} records were counted, of {delta:?}",
                tallied.records
            )));
        };
        Ok(BatchStats {
            records,
            tokens: tallied.tokens,
            bytes,
            keys,
            oversize_tokens: delta.oversize_tokens,
            oversize_bytes: delta.oversize_bytes,
            truncated_records: delta.truncated_records,
            truncated_bytes: delta.truncated_bytes,
            lost_records: delta.lost_records,
            lost_bytes: delta.lost_bytes,
            refused_connections: delta.refused_connections,
            ..self
        })
    }
}

/// The sums over the batches of a window, for the window's statistics.
#[derive(Debug)]
pub(crate) struct WindowSums {
    /// Batches of a window; `None` if none ever leaves.
    length: Option<usize>,
    /// The batches of the window, oldest first; empty if none ever leaves.
    batches: VecDeque<BatchStats>,
    sum: BatchStats,
}

impl WindowSums {
    /// Sums over the last `length` batches, or over all of them.
    pub(crate) fn new(length: Option<usize>) -> Self {
        WindowSums {
            length,
            batches: VecDeque::new(),
            sum: BatchStats::default(),
        }
    }

    /// Adds a batch; a failed one holds nothing.
    pub(crate) fn enter(&mut self, batch: BatchStats) {
        self.sum.sum_with(&batch, u64::wrapping_add);
        let Some(length) = self.length else { return };
        self.batches.push_back(batch);
        if self.batches.len() > length
            && let Some(left) = self.batches.pop_front()
        {
            self.sum.sum_with(&left, u64::wrapping_sub);
        }
    }

    /// Writes the sums.
    pub(crate) fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        save_amounts(&self.sum, to)?;
        (self.batches.len() as u64).save(to)?;
        self.batches
            .iter()
            .try_for_each(|batch| save_amounts(batch, to))
    }

    /// Reads what [`save`](Self::save) wrote.
    pub(crate) fn load(&mut self, from: &mut dyn Read) -> io::Result<()> {
        self.sum = load_amounts(from)?;
        let count = u64::load(from)?;
        if count > self.length.map_or(0, |length| length as u64) {
            return Err(invalid("a window has too many batches"));
        }
        let batches = (0..count).map(|_| load_amounts(from));
        self.batches = batches.collect::<io::Result<_>>()?;
        Ok(())
    }

    /// The statistics of the window: those of the `last` batch, with the sums in place of its
    /// amounts.
    pub(crate) fn of(&self, last: &BatchStats) -> BatchStats {
        let mut stats = *last;
        stats.sum_with(&self.sum, |_, sum| sum);
        stats
    }
}

/// Writes the amounts that are summed.
fn save_amounts(stats: &BatchStats, to: &mut dyn Write) -> io::Result<()> {
    let mut amounts = Vec::new();
    let mut stats = *stats;
    stats.sum_with(&BatchStats::default(), |amount, _| {
        amounts.push(amount);
        amount
    });
    amounts.save(to)
}

fn load_amounts(from: &mut dyn Read) -> io::Result<BatchStats> {
    let amounts = <Vec<u64>>::load(from)?;
    let (mut stats, mut rest) = (BatchStats::default(), amounts.iter());
    let mut is_short = false;
    stats.sum_with(&BatchStats::default(), |_, _| {
        let amount = rest.next();
        is_short |= amount.is_none();
        amount.copied().unwrap_or_default()
    });
    match is_short || rest.next().is_some() {
        false => Ok(stats),
        true => Err(invalid("statistics have another number of amounts")),
    }
}

impl BatchStats {
    /// Replaces each amount by `f` of it and of `other`'s.
    fn sum_with(&mut self, other: &BatchStats, mut f: impl FnMut(u64, u64) -> u64) {
        self.records = f(self.records, other.records);
        self.tokens = f(self.tokens, other.tokens);
        self.bytes = f(self.bytes, other.bytes);
        self.oversize_tokens = f(self.oversize_tokens, other.oversize_tokens);
        self.oversize_bytes = f(self.oversize_bytes, other.oversize_bytes);
        self.truncated_records = f(self.truncated_records, other.truncated_records);
        self.truncated_bytes = f(self.truncated_bytes, other.truncated_bytes);
        self.lost_records = f(self.lost_records, other.lost_records);
        self.lost_bytes = f(self.lost_bytes, other.lost_bytes);
        self.refused_connections = f(self.refused_connections, other.refused_connections);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_of_a_window_are_those_of_its_batches() {
        let batch = |tokens| BatchStats {
            tokens,
            keys: 9,
            ..BatchStats::default()
        };
        let (mut two, mut all) = (WindowSums::new(Some(2)), WindowSums::new(None));
        for (tokens, of_two, of_all) in [(5, 5, 5), (7, 12, 12), (1, 8, 13), (0, 1, 13)] {
            two.enter(batch(tokens));
            all.enter(batch(tokens));
            let stats = two.of(&batch(tokens));
            assert_eq!((stats.tokens, stats.keys), (of_two, 9));
            assert_eq!(all.of(&batch(tokens)).tokens, of_all);
        }
    }

    #[test]
    fn a_batch_is_approximate_if_a_count_may_be_wrong_or_records_are_in_no_count() {
        let exact = BatchStats {
            tokens: 9,
            truncated_records: 1,
            ..BatchStats::default()
        };
        assert!(!exact.is_approximate());
        for (error_max, other_records) in [(1, 0), (0, 1), (2, 3)] {
            let stats = BatchStats {
                error_max,
                other_records,
                ..exact
            };
            assert!(stats.is_approximate(), "{error_max} {other_records}");
        }
    }
}
