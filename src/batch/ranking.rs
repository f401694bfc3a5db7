//! Sorts the keys of a batch by rank.
//!
//! Promise: highest value first, equal values in byte order of the key; the first `n` keys are the
//! first `n` of all. Must not know: `sink`, how tables are laid out.
//!
//! # Why it is written like this
//!
//! Sorting (key, value) pairs by `(value, key)` is one line. But with many keys of one value, as in
//! a count of lines that are all different, each comparison goes to two distant places in memory.
//! Of counting three million different numbers, half of the time was comparisons, and a fifth
//! fetching each key once more to write it. What was done:
//!
//! 1. A row holds the first 8 bytes of its key, which decide most comparisons. Short keys are also
//!    read from there when they are written.
//! 2. Rows that agree in them get the 8 bytes behind what all of them have in common, and are
//!    sorted again: each key is visited once for that, and visits overlap. Log lines that begin
//!    with the same date need it.
//! 3. Iterating over the rows prefetches the longer keys ahead.

use std::cmp::Ordering;

use crate::batch::{Batch, Value};
use crate::sys::prefetch::prefetch;

/// Bytes of a key that its row holds.
const HEAD_BYTES: usize = 8;

/// How often rows get other heads before their keys are compared in full. It bounds the recursion.
const LEVELS_MAX: usize = 16;

/// For fewer rows than this it does not pay.
const FEW_ROWS: usize = 16;

/// How many rows ahead of its use a key is prefetched: as many as look-ups in a table.
const ROWS_AHEAD: usize = 16;

/// Ranks batch after batch in the same memory.
#[derive(Debug, Default)]
pub struct Ranking<V: 'static> {
    /// Always empty between two calls; only its memory is kept.
    rows: Vec<RankedRow<'static, V>>,
}

impl<V: Value> Ranking<V> {
    /// A ranking with room for `count` rows, so that the first batch need not allocate it.
    pub fn with_capacity(count: usize) -> Self {
        Ranking {
            rows: Vec::with_capacity(room_for(count)),
        }
    }

    /// Calls `f` with the first `count` rows of `batch` by rank.
    pub fn top<R>(
        &mut self,
        batch: &Batch<'_, V>,
        count: usize,
        f: impl FnOnce(Ranked<'_, V>) -> R,
    ) -> R {
        // A `Vec` can shorten `'static` to the batch's lifetime, but not back. So the emptied
        // memory is converted by `collect`, which reuses it in place.
        let mut rows: Vec<RankedRow<'_, V>> = std::mem::take(&mut self.rows);
        rank(batch.iter(), batch.len(), count, &mut rows);
        let answer = f(Ranked { rows: &rows });
        rows.clear();
        self.rows = rows
            .into_iter()
            .map(|_| unreachable!("the rows were cleared"))
            .collect();
        answer
    }
}

/// Keys and their values, in the order of their rank.
///
/// ```
/// use microtally::{Rule, Tally};
/// use microtally::batch::Ranking;
/// use microtally::time::BatchTime;
/// let mut tally = Tally::new(Rule::Split(b' '));
/// tally.push(b"the cat and the dog\n");
/// let batch = tally.cut(BatchTime::from_millis(1000)).unwrap();
/// Ranking::with_capacity(2).top(&batch, 2, |rows| {
///     assert_eq!(rows.len(), 2);
///     assert!(rows.eq([(&b"the"[..], 2), (&b"and"[..], 1)]));
/// });
/// ```
#[derive(Debug)]
pub struct Ranked<'r, V> {
    rows: &'r [RankedRow<'r, V>],
}

impl<V> Clone for Ranked<'_, V> {
    fn clone(&self) -> Self {
        Ranked { rows: self.rows }
    }
}

impl<'r, V: Copy> Iterator for Ranked<'r, V> {
    type Item = (&'r [u8], V);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (row, rest) = self.rows.split_first()?;
        if let Some(ahead) = rest.get(ROWS_AHEAD)
            && ahead.key.len() > HEAD_BYTES
        {
            prefetch(ahead.key.as_ptr().addr());
        }
        self.rows = rest;
        Some((row.key(), row.value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.rows.len(), Some(self.rows.len()))
    }
}

impl<V: Copy> ExactSizeIterator for Ranked<'_, V> {}

/// The first `count` of `len` `entries` by rank.
pub(crate) fn top<'a, V: Value>(
    entries: impl Iterator<Item = (&'a [u8], V)>,
    len: usize,
    count: usize,
) -> Vec<(&'a [u8], V)> {
    let mut rows = Vec::new();
    rank(entries, len, count, &mut rows);
    rows.into_iter().map(|row| (row.key, row.value)).collect()
}

/// A key with its value and its first bytes.
#[derive(Clone, Copy, Debug)]
struct RankedRow<'a, V> {
    value: V,
    /// The first bytes of the key, followed by zeros. While a long key is sorted, later bytes of
    /// it.
    head: [u8; HEAD_BYTES],
    key: &'a [u8],
}

impl<'a, V> RankedRow<'a, V> {
    fn new((key, value): (&'a [u8], V)) -> Self {
        RankedRow {
            value,
            head: head(key),
            key,
        }
    }

    /// The key. A short one is read from the row.
    #[inline]
    fn key(&self) -> &[u8] {
        self.head.get(..self.key.len()).unwrap_or(self.key)
    }

    #[inline(always)]
    fn by_head(&self, other: &Self) -> Ordering {
        u64::from_be_bytes(self.head).cmp(&u64::from_be_bytes(other.head))
    }
}

#[inline]
fn head(bytes: &[u8]) -> [u8; HEAD_BYTES] {
    match bytes.first_chunk() {
        Some(head) => *head,
        None => {
            let mut head = [0; HEAD_BYTES];
            head[..bytes.len()].copy_from_slice(bytes);
            head
        }
    }
}

/// Initial room for ranking the first `count` of many: what [`rank`] needs, within reason.
fn room_for(count: usize) -> usize {
    count.saturating_mul(2).clamp(64, 1 << 16)
}

/// The order of rows whose heads are the first bytes of their keys.
fn by_rank<V: Value>(a: &RankedRow<'_, V>, b: &RankedRow<'_, V>) -> Ordering {
    let by_value = b.value.order(&a.value);
    by_value
        .then_with(|| a.by_head(b))
        .then_with(|| a.key.cmp(b.key))
}

/// Leaves the first `count` of `len` `entries` in `rows`, in order. It never takes memory for more
/// rows than it needs: a list that grows by doubling would take three times as much at its last
/// step.
///
/// After every `count` candidates the worst row that can still be in the result is known, and that
/// one comparison turns away nearly all of a large batch: the time is linear in the batch, whatever
/// `count` is.
fn rank<'a, V: Value>(
    entries: impl Iterator<Item = (&'a [u8], V)>,
    len: usize,
    count: usize,
    rows: &mut Vec<RankedRow<'a, V>>,
) {
    rows.clear();
    if count == 0 {
        return;
    }
    let full = count.saturating_mul(2).max(64);
    let needed = full.min(len);
    if rows.capacity() < needed {
        *rows = Vec::new();
        rows.reserve_exact(needed);
    }
    let mut worst: Option<RankedRow<'_, V>> = None;
    for entry in entries {
        // Most are turned away without looking at their keys.
        if worst.is_some_and(|worst| worst.value.order(&entry.1).is_gt()) {
            continue;
        }
        let row = RankedRow::new(entry);
        if worst.is_some_and(|worst| by_rank(&worst, &row).is_lt()) {
            continue;
        }
        rows.push(row);
        if rows.len() >= full {
            rows.select_nth_unstable_by(count - 1, by_rank);
            rows.truncate(count);
            worst = rows.last().copied();
        }
    }
    rows.sort_unstable_by(|a, b| b.value.order(&a.value).then_with(|| a.by_head(b)));
    settle(rows, 0, LEVELS_MAX);
    rows.truncate(count);
}

/// Completes the order of rows that are in order, except for keys whose heads agree. The first
/// `depth` bytes of those keys agree as well; heads are what follows them.
fn settle<V: Value>(rows: &mut [RankedRow<'_, V>], depth: usize, levels: usize) {
    let agree = |a: &RankedRow<'_, V>, b: &RankedRow<'_, V>| {
        a.head == b.head && a.value.order(&b.value).is_eq()
    };
    for alike in rows.chunk_by_mut(agree) {
        if alike.len() == 1 {
            continue;
        }
        // Of two keys of the same head, one that ends within its head differs by its length.
        let left = |row: &RankedRow<'_, V>| (row.key.len() - depth).min(HEAD_BYTES + 1);
        alike.sort_unstable_by_key(left);
        let ended = alike.partition_point(|row| left(row) <= HEAD_BYTES);
        let alike = &mut alike[ended..];
        let Some((first, others)) = alike.split_first() else {
            continue;
        };
        let from = depth + HEAD_BYTES;
        if others.len() < FEW_ROWS || levels == 0 {
            alike.sort_unstable_by(|a, b| a.key[from..].cmp(&b.key[from..]));
            continue;
        }
        let shared = others.iter().fold(first.key.len(), |shared, other| {
            let pairs = first.key[from..shared].iter().zip(&other.key[from..]);
            from + pairs.take_while(|(a, b)| a == b).count()
        });
        for row in &mut *alike {
            row.head = head(&row.key[shared..]);
        }
        alike.sort_unstable_by(RankedRow::by_head);
        settle(alike, shared, levels - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchStats;
    use crate::table::KeyTable;
    use crate::table::keys::Seed;
    use proptest::prelude::*;

    /// Ranks in both ways, and compares with sorting everything.
    fn assert_ranked(table: &KeyTable<u64>, counts: &[usize]) {
        let stats = BatchStats::default();
        let batch = Batch::new(table, &stats);
        let mut all: Vec<_> = table.iter().collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        let mut ranking = Ranking::default();
        for &count in counts {
            let expected = &all[..count.min(all.len())];
            assert_eq!(&batch.top(count)[..], expected);
            ranking.top(&batch, count, |rows| {
                assert_eq!(rows.len(), expected.len());
                assert!(rows.clone().eq(expected.iter().copied()));
            });
        }
    }

    proptest! {
        #[test]
        fn ranking_equals_sorting_everything(
            entries in proptest::collection::vec(("[a-c]{0,4}", 0u64..6), 0..400),
            counts in proptest::collection::vec(0usize..500, 1..4),
        ) {
            let mut table = KeyTable::new(Seed::random());
            for (key, n) in &entries {
                table.add(key.as_bytes(), *n, |a, b| a + b);
            }
            assert_ranked(&table, &counts);
        }

        /// Keys that begin alike, end early, end in NULs, and are parts of each other.
        #[test]
        fn keys_that_begin_alike_are_in_order(
            entries in proptest::collection::vec(
                (0usize..4, "[ab\0]{0,9}", 0usize..3, "[ab\0]{0,20}", 0u64..2),
                0..300,
            ),
            count in 0usize..400,
        ) {
            let starts = ["", "2026-11-26 ", "2026-11-26 10:00:00 GET /", &"x".repeat(200)];
            let mut table = KeyTable::new(Seed::random());
            for (start, middle, repeats, end, value) in &entries {
                let key = format!("{}{}{end}", starts[*start], middle.repeat(*repeats));
                table.add(key.as_bytes(), *value, |_, new| new);
            }
            assert_ranked(&table, &[count, usize::MAX]);
        }
    }

    /// Each key is the beginning of the next: every level separates one from the rest.
    #[test]
    fn keys_within_each_other_do_not_go_deeper_than_there_are_levels() {
        let mut table = KeyTable::new(Seed::random());
        for len in 0..2000 {
            table.add("x".repeat(len).as_bytes(), 1, |a, b| a + b);
            table.add(format!("{}y", "x".repeat(9 * len)).as_bytes(), 1, |a, b| {
                a + b
            });
        }
        assert_ranked(&table, &[10, 3000, usize::MAX]);
    }

    #[test]
    fn ranking_many_keys_is_pruned_and_right() {
        let mut table = KeyTable::new(Seed::random());
        for n in 0..10_000u64 {
            table.add(
                format!("key-{:05}", (n * 7919) % 10_000).as_bytes(),
                n % 100,
                |a, b| a + b,
            );
        }
        assert_ranked(&table, &[1, 10, 33, 5000, 10_000, usize::MAX]);
    }

    /// Ranking was quadratic from 65 536 rows on: minutes for what takes a moment here.
    #[test]
    fn ranking_very_many_rows_is_linear() {
        let mut table = KeyTable::new(Seed::random());
        for n in 0..200_000u64 {
            table.add(&n.to_be_bytes(), n * 7919 % 200_003, |a, b| a + b);
        }
        let stats = BatchStats::default();
        let top = Batch::new(&table, &stats).top(70_000);
        assert_eq!(top.len(), 70_000);
        assert!(top.is_sorted_by(|a, b| a.1 > b.1 || (a.1 == b.1 && a.0 < b.0)));
    }

    #[test]
    fn a_row_takes_what_the_memory_limit_says_and_a_ranking_no_more_rows_than_there_are() {
        assert_eq!(
            size_of::<RankedRow<'_, u64>>(),
            crate::limits::RANKED_KEY_BYTES
        );
        let mut table = KeyTable::new(Seed::random());
        for number in 0..70_001u64 {
            table.add(&number.to_le_bytes()[..5], number, |a, b| a + b);
        }
        let mut rows = Vec::new();
        rank(table.iter(), table.len(), usize::MAX, &mut rows);
        assert_eq!((rows.len(), rows.capacity()), (70_001, 70_001));
    }
}
