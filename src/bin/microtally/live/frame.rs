//! Copies batches from the publisher thread to the drawing thread.
//!
//! Promise: handing over a batch takes as long as copying its first rows; a batch that has not been
//! drawn is replaced by a newer one. Must not know: `draw`, `model`, `screen`.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use microtally::batch::Ranking;
use microtally::sink::{Sink, Undelivered, table};
use microtally::{Batch, Value};

use crate::lock;

/// Bytes of a key that are copied: more than any terminal shows. A stream may have keys of
/// megabytes.
const KEY_BYTES_MAX: usize = 4096;

/// How the values of a batch relate to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueKind {
    /// Counts and sums: each is a part of the named whole, such as `the records`. They have shares
    /// and rates.
    PartsOf(&'static str),
    /// Extremes and means, which do not add up.
    Alone,
}

/// The figures of a batch as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Head {
    /// The batch's number.
    pub batch: u64,
    /// Its time, in milliseconds since 1970.
    pub time_ms: u64,
    /// Seconds that records and bytes cover; 0 without an interval.
    pub interval_s: f64,
    /// Seconds that values cover: the interval, or as much of the window as has passed.
    pub period_s: f64,
    /// How many of all keys match the filter, if one was set.
    pub matching: Option<u64>,
    /// Records of the batch.
    pub records: u64,
    /// Bytes of the batch.
    pub bytes: u64,
    /// Distinct keys, also those without a row.
    pub keys: u64,
    /// How long after its time the batch was processed.
    pub lateness: Duration,
    /// Sum of the values of all keys, if they add up.
    pub total: Option<f64>,
    /// The effect of the memory limit.
    pub limit: LimitEffect,
}

/// The effect of the memory limit on a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct LimitEffect {
    /// Whether values are approximate.
    pub is_approximate: bool,
    /// How much too high values are at most.
    pub error_max: u64,
    /// Records whose keys were not kept.
    pub other_records: u64,
    /// How many of those records a value may lack at most.
    pub missing_max: u64,
}

/// The first rows of a batch by rank, and its figures.
#[derive(Debug, Default)]
pub(crate) struct BatchRows {
    pub head: Head,
    /// The filter that all keys of the batch were compared with; `head.matching` is the result.
    pub filter: KeyFilter,
    /// Key and value of each row, one after the other.
    bytes: Vec<u8>,
    rows: Vec<RowSpan>,
}

#[derive(Clone, Copy, Debug)]
struct RowSpan {
    key: usize,
    value: usize,
    end: usize,
    identity: u64,
    is_cut: bool,
    number: f64,
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BatchRow<'a> {
    /// The key, or its first bytes.
    pub key: &'a [u8],
    /// Whether the key is longer.
    pub is_cut: bool,
    /// Distinguishes keys that begin with the same bytes.
    pub identity: u64,
    /// The value as text; any bytes.
    pub value: &'a [u8],
    /// The value as a number.
    pub number: f64,
}

impl BatchRows {
    /// Returns the number of rows.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns the row of this rank, from 0.
    pub(crate) fn row(&self, index: usize) -> BatchRow<'_> {
        let place = self.rows[index];
        BatchRow {
            key: &self.bytes[place.key..place.value],
            is_cut: place.is_cut,
            identity: place.identity,
            value: &self.bytes[place.value..place.end],
            number: place.number,
        }
    }

    /// Returns all rows by rank.
    pub(crate) fn iter(&self) -> impl Iterator<Item = BatchRow<'_>> {
        (0..self.len()).map(|index| self.row(index))
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.rows.clear();
    }

    pub(crate) fn push(&mut self, key: &[u8], number: f64, value: impl FnOnce(&mut Vec<u8>)) {
        let kept = &key[..key.len().min(KEY_BYTES_MAX)];
        let is_cut = kept.len() < key.len();
        let identity = if is_cut { hash(key) } else { 0 };
        let key = self.bytes.len();
        self.bytes.extend_from_slice(kept);
        let at = self.bytes.len();
        value(&mut self.bytes);
        self.rows.push(RowSpan {
            key,
            value: at,
            end: self.bytes.len(),
            identity,
            is_cut,
            number,
        });
    }
}

fn hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// A batch and its predecessor.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub now: Arc<BatchRows>,
    pub before: Option<Arc<BatchRows>>,
}

/// The text that keys must contain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyFilter {
    text: String,
    /// Whether case matters: only if the text has a capital letter.
    is_exact: bool,
}

impl KeyFilter {
    pub(crate) fn new(text: &str) -> Self {
        let is_exact = text.chars().any(char::is_uppercase);
        let text = if is_exact {
            text.to_owned()
        } else {
            text.to_lowercase()
        };
        KeyFilter { text, is_exact }
    }

    /// Returns `true` if every key matches.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Returns `true` if `key` matches as it is shown; `shown` is working memory.
    pub(crate) fn matches(&self, key: &[u8], shown: &mut Vec<u8>) -> bool {
        if self.is_empty() {
            return true;
        }
        shown.clear();
        table::fit(&key[..key.len().min(KEY_BYTES_MAX)], usize::MAX, shown);
        let text = String::from_utf8_lossy(shown);
        match self.is_exact {
            true => text.contains(&self.text),
            false => text.to_lowercase().contains(&self.text),
        }
    }
}

/// Holds the newest frame until it is taken and, in the other direction, the filter.
#[derive(Debug, Default)]
pub(crate) struct LatestFrame {
    frame: Mutex<Option<Frame>>,
    filter: Mutex<KeyFilter>,
}

impl LatestFrame {
    /// Sets the filter. From the next batch on, the rows include the keys that match it.
    pub(crate) fn set_filter(&self, filter: &KeyFilter) {
        let mut current = lock(&self.filter);
        if *current != *filter {
            current.clone_from(filter);
        }
    }

    /// Replaces the frame.
    fn put(&self, frame: Frame) {
        let old = lock(&self.frame).replace(frame);
        drop(old);
    }

    /// Takes the newest frame, unless it was taken before.
    pub(crate) fn take(&self) -> Option<Frame> {
        lock(&self.frame).take()
    }
}

/// Copies the first rows of each batch into a [`LatestFrame`].
pub(crate) struct LiveSink<V: 'static, F> {
    slot: Arc<LatestFrame>,
    ranking: Ranking<V>,
    rows_max: usize,
    values: ValueKind,
    period: Option<Duration>,
    number: F,
    before: Option<Arc<BatchRows>>,
    /// Rows that were handed out; they are reused once they are released. At most six: the slot,
    /// the view and this sink hold two each.
    pool: Vec<Arc<BatchRows>>,
}

impl<V: Value, F: Fn(V) -> f64 + Send> LiveSink<V, F> {
    /// `period` is the length of the window, if there is one.
    pub(crate) fn new(
        slot: Arc<LatestFrame>,
        rows_max: usize,
        values: ValueKind,
        period: Option<Duration>,
        number: F,
    ) -> Self {
        LiveSink {
            slot,
            ranking: Ranking::with_capacity(rows_max),
            rows_max,
            values,
            period,
            number,
            before: None,
            pool: Vec::new(),
        }
    }

    /// Returns rows that nothing else holds.
    fn spare(&mut self) -> Arc<BatchRows> {
        let free = self
            .pool
            .iter_mut()
            .position(|rows| Arc::get_mut(rows).is_some());
        free.map_or_else(Arc::default, |index| self.pool.swap_remove(index))
    }
}

impl<V: Value, F: Fn(V) -> f64 + Send> Sink<V> for LiveSink<V, F> {
    fn deliver(&mut self, batch: &Batch<'_, V>) -> Result<(), Undelivered> {
        let mut spare = self.spare();
        let rows = Arc::get_mut(&mut spare).expect("nothing else holds spare rows");
        rows.clear();
        let (stats, number) = (batch.stats(), &self.number);
        let limit = LimitEffect {
            is_approximate: stats.error_max > 0,
            error_max: stats.error_max,
            other_records: stats.other_records,
            missing_max: stats.missing_max,
        };
        rows.head = Head {
            batch: stats.batch,
            time_ms: stats.time.as_millis(),
            interval_s: stats.interval.as_secs_f64(),
            period_s: table::seconds_of(self.period, stats),
            matching: None,
            records: stats.records,
            bytes: stats.bytes,
            keys: batch.len() as u64,
            lateness: stats.scheduling_delay,
            total: match self.values {
                // 0 without shares: negative values are parts of nothing.
                ValueKind::PartsOf(_) => {
                    let whole = table::whole_of(batch.iter().map(|(_, value)| number(value)));
                    Some(match whole {
                        0.0 => 0.0,
                        whole => table::with_others::<V>(whole, limit.other_records),
                    })
                }
                ValueKind::Alone => None,
            },
            limit,
        };
        self.ranking.top(batch, self.rows_max, |top| {
            for (key, value) in top {
                rows.push(key, number(value), |out| table::write_value(&value, out));
            }
        });
        let filter = lock(&self.slot.filter).clone();
        if !filter.is_empty() {
            let found = find(batch, &filter, rows, self.rows_max, number);
            rows.head.matching = Some(found);
        }
        rows.filter = filter;
        let frame = Frame {
            now: Arc::clone(&spare),
            before: self.before.replace(Arc::clone(&spare)),
        };
        self.pool.push(spare);
        self.slot.put(frame);
        Ok(())
    }
}

/// Appends the greatest matching keys that are not among the first rows, in order, and returns how
/// many of all keys match. Compares every key, but only while a filter is set, and holds at most
/// twice `rows_max` of them.
fn find<V: Value>(
    batch: &Batch<'_, V>,
    filter: &KeyFilter,
    rows: &mut BatchRows,
    rows_max: usize,
    number: &impl Fn(V) -> f64,
) -> u64 {
    let (mut matching, mut shown) = (0, Vec::new());
    let is_whole = rows.len() as u64 == rows.head.keys;
    let hash_of = |row: BatchRow<'_>| match row.is_cut {
        true => row.identity,
        false => hash(row.key),
    };
    let first: HashSet<u64> = match is_whole {
        true => HashSet::new(),
        false => rows.iter().map(hash_of).collect(),
    };
    let greatest_first = |a: &(&[u8], V), b: &(&[u8], V)| {
        let by_number = number(b.1).total_cmp(&number(a.1));
        by_number.then_with(|| a.0.cmp(b.0))
    };
    let mut found: Vec<(&[u8], V)> = Vec::new();
    for (key, value) in batch.iter() {
        if !filter.matches(key, &mut shown) {
            continue;
        }
        matching += 1;
        if is_whole || rows_max == 0 || first.contains(&hash(key)) {
            continue;
        }
        if found.len() >= rows_max.saturating_mul(2) {
            found.select_nth_unstable_by(rows_max, greatest_first);
            found.truncate(rows_max);
        }
        found.push((key, value));
    }
    found.sort_unstable_by(greatest_first);
    found.truncate(rows_max);
    for (key, value) in found {
        rows.push(key, number(value), |out| table::write_value(&value, out));
    }
    matching
}

#[cfg(test)]
mod tests {
    use super::*;
    use microtally::time::BatchTime;
    use microtally::{Rule, Tally};

    fn emit(tally: &mut Tally, sink: &mut impl Sink<u64>, text: &[u8]) {
        tally.push(text);
        let batch = tally.cut(BatchTime::from_millis(1000)).unwrap();
        sink.deliver(&batch).unwrap();
    }

    #[test]
    fn the_newest_frame_wins_and_has_its_predecessor() {
        let slot = Arc::new(LatestFrame::default());
        let mut tally = Tally::new(Rule::Split(b' '));
        let mut sink = LiveSink::new(
            Arc::clone(&slot),
            2,
            ValueKind::PartsOf("the words"),
            None,
            |n: u64| n as f64,
        );
        emit(&mut tally, &mut sink, b"a a b\n");
        emit(&mut tally, &mut sink, b"a b b\n");
        emit(&mut tally, &mut sink, b"c c c b b a\n");
        let frame = slot.take().unwrap();
        assert!(slot.take().is_none());
        let rows = |rows: &BatchRows| -> Vec<(Vec<u8>, Vec<u8>, f64)> {
            rows.iter()
                .map(|row| (row.key.to_vec(), row.value.to_vec(), row.number))
                .collect()
        };
        let row = |key: &[u8], value: &[u8], number| (key.to_vec(), value.to_vec(), number);
        assert_eq!(
            rows(&frame.now),
            [row(b"c", b"3", 3.0), row(b"b", b"2", 2.0)]
        );
        assert_eq!(
            rows(frame.before.as_ref().unwrap()),
            [row(b"b", b"2", 2.0), row(b"a", b"1", 1.0)]
        );
        assert_eq!((frame.now.head.keys, frame.now.head.total), (3, Some(6.0)));
    }

    #[test]
    fn a_filter_finds_keys_beyond_the_first_rows() {
        let slot = Arc::new(LatestFrame::default());
        let mut tally = Tally::new(Rule::Split(b' '));
        let number = |n: u64| n as f64;
        let mut sink = LiveSink::new(Arc::clone(&slot), 2, ValueKind::Alone, None, number);
        slot.set_filter(&KeyFilter::new("need"));
        emit(
            &mut tally,
            &mut sink,
            b"a a a b b c c Needle needle needle NEED\n",
        );
        let frame = slot.take().unwrap();
        let keys: Vec<&[u8]> = frame.now.iter().map(|row| row.key).collect();
        // The first two of all keys, then the first two that match.
        assert_eq!(keys, [&b"a"[..], b"b", b"needle", b"NEED"]);
        assert_eq!(frame.now.head.matching, Some(3));
        slot.set_filter(&KeyFilter::new("Need"));
        emit(&mut tally, &mut sink, b"a a a b b Needle needle\n");
        let frame = slot.take().unwrap();
        assert_eq!(frame.now.head.matching, Some(1));
        assert_eq!(frame.now.row(2).key, b"Needle");
        slot.set_filter(&KeyFilter::default());
        emit(&mut tally, &mut sink, b"a a a b b Needle needle\n");
        let frame = slot.take().unwrap();
        assert_eq!((frame.now.len(), frame.now.head.matching), (2, None));
    }

    #[test]
    fn rows_are_reused_once_they_are_released() {
        let slot = Arc::new(LatestFrame::default());
        let mut tally = Tally::new(Rule::Split(b' '));
        let mut sink = LiveSink::new(Arc::clone(&slot), 10, ValueKind::Alone, None, |n: u64| {
            n as f64
        });
        let mut held = None;
        for turn in 0..100 {
            emit(&mut tally, &mut sink, format!("w{turn} x\n").as_bytes());
            if turn % 3 == 0 {
                held = slot.take();
            }
        }
        assert!(sink.pool.len() <= 6, "{}", sink.pool.len());
        let held = held.unwrap();
        assert_eq!(held.now.row(0).key, b"w99");
        assert_eq!(held.before.unwrap().row(0).key, b"w98");
    }

    #[test]
    fn long_keys_are_cut_and_stay_distinct() {
        let mut rows = BatchRows::default();
        let mut key = vec![b'x'; KEY_BYTES_MAX];
        rows.push(&key, 1.0, |_| ());
        for last in *b"ab" {
            key.truncate(KEY_BYTES_MAX);
            key.push(last);
            rows.push(&key, 1.0, |_| ());
        }
        let cut: Vec<_> = rows.iter().map(|row| (row.is_cut, row.key.len())).collect();
        let max = KEY_BYTES_MAX;
        assert_eq!(cut, [(false, max), (true, max), (true, max)]);
        assert_ne!(rows.row(1).identity, rows.row(2).identity);
    }
}
