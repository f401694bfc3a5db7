//! Merges the shards' tables, and proves that the result holds what came in.
//!
//! Promise: the merged table is the fold over all shards. For counts it is checked that they add up
//! to the tokens, and the keys' bytes to the bytes that were split. Must not know: threads, `sink`.

use std::any::Any;

use crate::aggregate::Aggregate;
use crate::aggregate::table::AggregateTable;
use crate::epoch::hand_over::{NodeTable, PartialAggregate};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::MIB;
use crate::split::Tallied;
use crate::table::KeyTable;
use crate::table::bound::Overflow;
use crate::time::BatchTime;

impl<V: Copy + Send + 'static> PartialAggregate for KeyTable<V> {
    fn len(&self) -> usize {
        KeyTable::len(self)
    }

    fn overflow(&self) -> Overflow {
        KeyTable::overflow(self)
    }

    fn missing_most(&self) -> u64 {
        KeyTable::missing_most(self)
    }

    fn allocated_bytes(&self) -> usize {
        KeyTable::allocated_bytes(self)
    }

    fn clear(&mut self) {
        KeyTable::clear(self);
    }

    fn follow(&mut self, leader: &mut dyn PartialAggregate) {
        let leader = table_of_mut::<V>(leader);
        leader.take_charge_of(self);
        KeyTable::clear(self);
        self.set_seed(leader.seed());
    }
}

impl<A: Aggregate<T>, T: 'static> PartialAggregate for AggregateTable<A, T> {
    fn len(&self) -> usize {
        AggregateTable::len(self)
    }

    fn overflow(&self) -> Overflow {
        AggregateTable::overflow(self)
    }

    fn missing_most(&self) -> u64 {
        self.states().missing_most()
    }

    fn clear(&mut self) {
        AggregateTable::clear(self);
    }

    fn follow(&mut self, leader: &mut dyn PartialAggregate) {
        AggregateTable::follow(self, partial_of_mut(leader));
    }
}

/// The table behind `partial`, which must be of values `V`: one pipeline makes all of its tables.
pub(crate) fn table_of<V: Copy + Send + 'static>(partial: &dyn PartialAggregate) -> &KeyTable<V> {
    partial_of(partial)
}

/// As [`table_of`], for what is no table of values.
pub(crate) fn partial_of<P: PartialAggregate>(partial: &dyn PartialAggregate) -> &P {
    (partial as &dyn Any)
        .downcast_ref()
        .expect("a pipeline makes all of its tables itself")
}

/// As [`table_of`], mutably.
pub(crate) fn table_of_mut<V: Copy + Send + 'static>(
    partial: &mut dyn PartialAggregate,
) -> &mut KeyTable<V> {
    partial_of_mut(partial)
}

/// As [`table_of_mut`], for what is no table of values.
pub(crate) fn partial_of_mut<P: PartialAggregate>(partial: &mut dyn PartialAggregate) -> &mut P {
    (partial as &mut dyn Any)
        .downcast_mut()
        .expect("a pipeline makes all of its tables itself")
}

/// Adds up in `first` what one pipeline saw in all shards, and moves a failure there.
pub(crate) fn sum_nodes<'a>(
    first: &mut NodeTable,
    others: impl Iterator<Item = &'a mut NodeTable>,
) {
    for other in others {
        first.block_bytes += other.block_bytes;
        first.tallied = sum(first.tallied, other.tallied);
        first.failure = first.failure.take().or_else(|| other.failure.take());
    }
}

/// Merges one pipeline's tables of all shards into the first one, with `fold` for a pair of tables.
///
/// The largest table takes the first place before that, so that as few keys as possible move. The
/// others are empty afterwards.
pub(crate) fn merge_nodes<'a>(
    first: &mut NodeTable,
    others: impl Iterator<Item = &'a mut NodeTable>,
    mut fold: impl FnMut(&mut dyn PartialAggregate, &dyn PartialAggregate),
) {
    for other in others {
        if other.partial.len() > first.partial.len() {
            std::mem::swap(&mut first.partial, &mut other.partial);
        }
        fold(first.partial.as_mut(), other.partial.as_ref());
        other.partial.follow(first.partial.as_mut());
    }
}

/// Adds two tallies.
pub(crate) fn sum(a: Tallied, b: Tallied) -> Tallied {
    Tallied {
        records: a.records + b.records,
        tokens: a.tokens + b.tokens,
        delimiter_bytes: a.delimiter_bytes + b.delimiter_bytes,
    }
}

/// Checks a merged table of counts against what was split: the counts add up to the tokens, and the
/// bytes of all counted keys are all bytes that are not delimiters. The table's overflow is
/// included.
///
/// # Errors
///
/// [`ErrorKind::Internal`](crate::error::ErrorKind::Internal): a bug of this crate.
pub(crate) fn check_counts(
    table: &KeyTable<u64>,
    block_bytes: u64,
    tallied: Tallied,
) -> Result<()> {
    let overflow = table.overflow();
    // Checked, because a release build wraps: wrapped sums could be right by chance.
    let mut counts = overflow.thinned.checked_add(overflow.other);
    let mut key_bytes = overflow.thinned_bytes.checked_add(overflow.other_bytes);
    for (key, count) in table.iter_kept() {
        counts = counts.and_then(|sum| sum.checked_add(count));
        let bytes = count.checked_mul(key.len() as u64);
        key_bytes = (key_bytes.zip(bytes)).and_then(|(sum, bytes)| sum.checked_add(bytes));
    }
    let (Some(counts), Some(key_bytes)) = (counts, key_bytes) else {
        return Err(Error::internal(format!(
            "token ledger does not close: counts add up to more than 2^64, {} tokens were split",
            tallied.tokens
        )));
    };
    if counts != tallied.tokens {
        return Err(Error::internal(format!(
            "token ledger does not close: counts add up to {counts}, {} tokens were split",
            tallied.tokens
        )));
    }
    if key_bytes.checked_add(tallied.delimiter_bytes) != Some(block_bytes) {
        return Err(Error::internal(format!(
            "byte ledger does not close: {key_bytes} bytes of keys and {} of delimiters were counted, \
             {block_bytes} bytes were split",
            tallied.delimiter_bytes
        )));
    }
    Ok(())
}

/// The error of a run that ends at its memory limit.
#[cold]
pub(crate) fn limit_reached(bytes_max: usize, time: BatchTime, overflow: Overflow) -> Error {
    let (ms, Overflow { full_at, other, .. }) = (time.as_millis(), overflow);
    let size = bytes_max as f64 / MIB as f64;
    Error::new(
        ErrorKind::Limit,
        format!(
            "memory limit {size:.1} MiB ({bytes_max} bytes) reached at {full_at} distinct keys in batch {ms} ms: \
             {other} records of new keys were not counted by key; the run ends here, what came later was not read"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::keys::Seed;

    #[test]
    fn a_lost_count_and_a_lost_byte_are_noticed() {
        let mut table = KeyTable::new(Seed::random());
        for word in [
            &b"the"[..],
            b"the",
            b"",
            b"a long word that is kept in the arena",
        ] {
            table.add(word, 1, |a, b| a + b);
        }
        let good = Tallied {
            records: 1,
            tokens: 4,
            delimiter_bytes: 4,
        };
        let bytes = 3 + 3 + 37 + 4;
        assert!(check_counts(&table, bytes, good).is_ok());
        assert!(check_counts(&table, bytes + 1, good).is_err());
        assert!(check_counts(&table, bytes, Tallied { tokens: 5, ..good }).is_err());
        table.add(b"planted", 1, |a, b| a + b);
        assert!(check_counts(&table, bytes, good).is_err());
    }

    #[test]
    fn merged_tables_have_one_seed_afterwards() {
        let node = |words: usize| {
            let mut table = KeyTable::new(Seed::random());
            for word in 0..words {
                table.add(format!("{word}").as_bytes(), 1u64, |a, b| a + b);
            }
            NodeTable {
                partial: Box::new(table),
                block_bytes: 0,
                tallied: Tallied::default(),
                failure: None,
            }
        };
        let (mut first, mut other) = (node(10), node(30));
        merge_nodes(&mut first, [&mut other].into_iter(), |into, from| {
            table_of_mut::<u64>(into).merge_from(table_of(from), |a, b| a + b);
        });
        let (merged, other) = (
            table_of::<u64>(first.partial.as_ref()),
            table_of::<u64>(other.partial.as_ref()),
        );
        assert_eq!(
            (merged.len(), merged.get(b"7"), merged.get(b"29")),
            (30, Some(2), Some(1))
        );
        assert_eq!(merged.seed(), other.seed());
        assert!(other.is_empty());
    }
}
