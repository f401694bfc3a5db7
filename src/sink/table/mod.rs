//! The table for people: value, share, rate, key; one block per batch.
//!
//! Promise: columns align by the width that terminals give to each character, no byte of a stream
//! reaches the terminal unescaped, and the last lines say what the table leaves out.
//! Must not know: `epoch`, `window`, `sys`.
//!
//! ```text
//! 2026-11-22 16:52:25   1 204 records, 312 keys
//! 1 003   83.3 %  1 003/s  hello
//!    12    1.0 %   12.0/s  tab\there
//! … and 310 more keys, 15.7 % of the records
//!
//! ```
//!
//! The key is last, so a terminal that disagrees about the width of a character misplaces nothing
//! behind it. Digits are grouped by spaces, which no country reads as a decimal point.

mod rows;

use std::any::TypeId;
use std::io::Write;
use std::time::Duration;

use jiff::tz::TimeZone;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use self::rows::write_cells;
pub use self::rows::write_rows;
use crate::batch::ranking::Ranking;
use crate::batch::{Batch, BatchStats, Value};
use crate::error::Result;
use crate::repr::Repr;
use crate::repr::text::{escape_unprintable, write_escaped};
use crate::sink::{BatchWriter, INFALLIBLE, Sink, Undelivered, ranking, write_local_time};
use crate::time::BatchTime;

/// Columns reserved for keys: in a narrower terminal, rates and shares are dropped.
const KEY_COLUMNS_MIN: usize = 12;

/// Bytes of a key that are read for each column. No character has more than four; the rest is for
/// combining marks, which take no column and may be stacked without limit.
const KEY_BYTES_PER_COLUMN: usize = 8;

/// Columns of a share: `100.0 %`.
const SHARE_COLUMNS: usize = 7;

/// Prints batches as tables for people.
///
/// Counts have a share of the total and, if there is an interval, a rate. So have other values that
/// add up ([`adds_up`](Self::adds_up)). Minimums or means have neither.
///
/// ```
/// use microtally::sink::Columns;
/// use microtally::{Rule, Tally};
/// use microtally::sink::Sink;
/// use microtally::time::BatchTime;
/// let mut tally = Tally::new(Rule::Split(b' '));
/// tally.push(b"the cat and the dog\n");
/// let batch = tally.cut(BatchTime::from_millis(1000)).unwrap();
/// Columns::new(std::io::sink(), 10).width(Some(80)).deliver(&batch)?;
/// # Ok::<(), microtally::sink::Undelivered>(())
/// ```
pub struct Columns<V: 'static> {
    out: BatchWriter,
    count: usize,
    ranking: Ranking<V>,
    addend: Option<fn(V) -> f64>,
    whole: &'static str,
    columns: Option<usize>,
    /// The names above the columns of values; empty if there is no such line.
    names: Vec<String>,
    /// The widths of these columns, in the batch before.
    widths: Vec<usize>,
    is_repeated: bool,
    period: Option<Duration>,
    zone: TimeZone,
}

debug_fields!([V] Columns<V>, "Columns", count);

impl Columns<u64> {
    /// Prints the first `count` keys of each batch of counts to standard output.
    pub fn stdout(count: usize) -> Self {
        Columns::with(BatchWriter::stdout(), count).of_counts()
    }

    /// Prints counts to `writer`.
    pub fn new(writer: impl Write + Send + 'static, count: usize) -> Self {
        Columns::with(BatchWriter::new(writer), count).of_counts()
    }

    fn of_counts(mut self) -> Self {
        self.addend = Some(|count| count as f64);
        self.whole = "the records";
        self
    }
}

impl<V: Value> Columns<V> {
    /// Prints the first `count` keys of each batch of any values to standard output, without share
    /// and rate.
    pub fn of_values_stdout(count: usize) -> Self {
        Columns::with(BatchWriter::stdout(), count)
    }

    /// Prints any values to `writer`, without share and rate.
    pub fn of_values(writer: impl Write + Send + 'static, count: usize) -> Self {
        Columns::with(BatchWriter::new(writer), count)
    }

    fn with(out: BatchWriter, count: usize) -> Self {
        Columns {
            out,
            count,
            ranking: ranking(count),
            addend: None,
            whole: "the sum",
            columns: None,
            names: Vec::new(),
            widths: Vec::new(),
            is_repeated: false,
            period: None,
            zone: TimeZone::system(),
        }
    }

    /// Shows a share and a rate: all values together are a whole of which each is a part. `number`
    /// converts a value.
    pub fn adds_up(mut self, number: fn(V) -> f64) -> Self {
        self.addend = Some(number);
        self
    }

    /// Sets the name of the whole in the last line, such as `the words`. The default is `the
    /// records` or `the sum`.
    pub fn whole(mut self, name: &'static str) -> Self {
        self.whole = name;
        self
    }

    /// Sets the width of the terminal. Keys are cut to fit; if too little of them is left, the rate
    /// and then the share are dropped. `None`, the default, cuts nothing.
    pub fn width(mut self, columns: Option<usize>) -> Self {
        self.columns = columns;
        self
    }

    /// Sets the names above the columns of a value of several, such as a tuple. Without names, the
    /// default, there is no such line.
    pub fn names<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.names = names.into_iter().map(str::to_owned).collect();
        self
    }

    /// Sets whether many blocks follow each other. Each then begins with its local time and ends
    /// with an empty line.
    pub fn is_repeated(mut self, is_repeated: bool) -> Self {
        self.is_repeated = is_repeated;
        self
    }

    /// Sets the time over which values were gathered, if it is not the batch interval: a window's
    /// length. Until a run is that old, rates are those of the batches so far. Zero drops the rate.
    pub fn period(mut self, period: Duration) -> Self {
        self.period = Some(period);
        self
    }
}

impl<V: Value> Sink<V> for Columns<V> {
    fn deliver(&mut self, batch: &Batch<'_, V>) -> Result<(), Undelivered> {
        let (stats, addend, whole) = (batch.stats(), self.addend, self.whole);
        let (error_max, other_records) = (stats.error_max, stats.other_records);
        let text = self.out.begin();
        if self.is_repeated {
            header(
                batch.time(),
                &self.zone,
                stats.records,
                batch.len() as u64,
                text,
            );
        }
        // Not from the statistics: they are of a batch, and this may be a window.
        let sum = addend.map(|addend| whole_of(batch.iter().map(|(_, value)| addend(value))));
        let total = match sum {
            Some(sum) if sum > 0.0 => with_others::<V>(sum, other_records),
            _ => 0.0,
        };
        let seconds = seconds_of(self.period, stats);
        let (columns, names, widths) = (self.columns, &self.names, &mut self.widths);
        self.ranking.top(batch, self.count, |rows| {
            let figures =
                |value| ShareAndRate::of(addend.map(|addend| addend(value)), total, seconds);
            let lines = rows.clone();
            let lines = lines.map(|(key, value)| (key, value, figures(value)));
            let count = lines.clone().next().map_or(1, |row| row.1.columns());
            widths.resize(count, 0);
            let write = |value: &V, index: usize, text: &mut Vec<u8>| {
                let start = text.len();
                value.write_column(index, text);
                finish_value(start, text);
            };
            match count {
                1 => write_cells(
                    lines,
                    widths,
                    names,
                    |value, _, text| write_value(value, text),
                    columns,
                    text,
                ),
                _ => write_cells(lines, widths, names, write, columns, text),
            }
            let shown = addend.map(|addend| rows.clone().map(|row| addend(row.1)).sum::<f64>());
            let left = sum.zip(shown).filter(|_| total > 0.0);
            footer(
                (batch.len() - rows.len()) as u64,
                left.map(|(sum, shown)| ((sum - shown).max(0.0) / total, whole)),
                error_max > 0,
                error_max,
                other_records,
                text,
            );
        });
        missing(stats.missing_max, text);
        if self.is_repeated {
            text.push(b'\n');
        }
        Ok(self.out.send()?)
    }
}

/// The whole: `sum` and the values of records whose keys were not kept; 0 if unknown. Each such
/// record adds one to a count, and an unknown amount to any other value.
pub fn with_others<V: 'static>(sum: f64, other_records: u64) -> f64 {
    match other_records {
        0 => sum,
        _ if TypeId::of::<V>() == TypeId::of::<u64>() => sum + other_records as f64,
        _ => 0.0,
    }
}

/// Seconds over which the values of a batch were gathered: the interval, or the period as far as it
/// has passed.
pub fn seconds_of(period: Option<Duration>, stats: &BatchStats) -> f64 {
    let interval = stats.interval.as_secs_f64();
    let so_far = interval * stats.batch as f64;
    match period.map(|period| period.as_secs_f64()) {
        None => interval,
        Some(seconds) if so_far > 0.0 => seconds.min(so_far),
        Some(seconds) => seconds,
    }
}

/// The sum of values that are parts of a whole. It is 0, and there are no shares, if a value is
/// negative or the sum is not finite.
pub fn whole_of(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, least) = values.fold((0.0, 0.0), |(sum, least): (f64, f64), value| {
        (sum + value, least.min(value))
    });
    if least < 0.0 || !sum.is_finite() {
        return 0.0;
    }
    sum
}

/// The numbers that a row shows between its value and its key.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ShareAndRate {
    /// Part of the whole, 0 to 1.
    pub share: Option<f64>,
    /// Per second.
    pub rate: Option<f64>,
}

impl ShareAndRate {
    /// Computes the numbers of a row whose value is `number` of `total`, gathered over `seconds`.
    /// Those without a meaning are `None`.
    pub fn of(number: Option<f64>, total: f64, seconds: f64) -> Self {
        ShareAndRate {
            share: number
                .filter(|number| total > 0.0 && total.is_finite() && *number >= 0.0)
                .map(|number| number / total),
            rate: number
                .filter(|_| seconds > 0.0)
                .map(|number| number / seconds)
                .filter(|rate| rate.is_finite()),
        }
    }
}

/// Appends the lines below a table. `left` is the share of the whole, and its name, of the
/// `more_keys` that the table does not show. There are no lines if the table is complete and exact.
///
/// ```
/// let mut text = Vec::new();
/// microtally::sink::table::footer(48_213, Some((0.071, "the records")), false, 0, 0, &mut text);
/// assert_eq!(text, "… and 48 213 more keys, 7.1 % of the records\n".as_bytes());
/// ```
pub fn footer(
    more_keys: u64,
    left: Option<(f64, &str)>,
    is_approximate: bool,
    error_max: u64,
    other_records: u64,
    out: &mut Vec<u8>,
) {
    if more_keys > 0 {
        // The number of keys that were evicted is unknown.
        let least = if is_approximate { "at least " } else { "" };
        write!(out, "… and {least}").expect(INFALLIBLE);
        write_amount(more_keys, "more key", out);
        if let Some((share, whole)) = left {
            out.extend_from_slice(b", ");
            write_share(share, out);
            write!(out, " of {whole}").expect(INFALLIBLE);
        }
        out.push(b'\n');
    }
    if other_records > 0 {
        write_amount(other_records, "record", out);
        out.extend_from_slice(b" of other keys (memory limit)\n");
    }
    if is_approximate {
        out.extend_from_slice(b"counts are at most ");
        write_grouped(error_max, out);
        out.extend_from_slice(b" too high (memory limit)\n");
    }
}

/// Appends the line below a table whose values may lack records of their keys, if there are any.
///
/// ```
/// let mut text = Vec::new();
/// microtally::sink::table::missing(1200, &mut text);
/// assert_eq!(text, b"a value may lack 1 200 records at most (memory limit)\n");
/// ```
pub fn missing(missing_max: u64, out: &mut Vec<u8>) {
    if missing_max > 0 {
        out.extend_from_slice(b"a value may lack ");
        write_amount(missing_max, "record", out);
        out.extend_from_slice(b" at most (memory limit)\n");
    }
}

/// Appends `key`, escaped reversibly, so that any key is visible.
///
/// An empty key is `(empty)`; a key with that text begins with an escape. A space at the end is
/// `\x20`.
///
/// ```
/// let written = |key: &[u8]| {
///     let mut text = Vec::new();
///     microtally::sink::table::write_key(key, &mut text);
///     String::from_utf8(text).unwrap()
/// };
/// assert_eq!(written(b""), "(empty)");
/// assert_eq!(written(b"(empty)"), "\\x28empty)");
/// assert_eq!(written(b"  "), " \\x20");
/// ```
pub fn write_key(key: &[u8], out: &mut Vec<u8>) {
    match key {
        b"" => out.extend_from_slice(EMPTY),
        EMPTY => {
            out.extend_from_slice(b"\\x28");
            out.extend_from_slice(&EMPTY[1..]);
        }
        [rest @ .., b' '] => {
            write_escaped(rest, out);
            out.extend_from_slice(b"\\x20");
        }
        _ => write_escaped(key, out),
    }
}

/// The text of an empty key.
const EMPTY: &[u8] = b"(empty)";

/// Appends `key` as [`write_key`] does, cut to `columns` of a terminal. The last column of a cut
/// key is `…`.
///
/// ```
/// let mut text = Vec::new();
/// microtally::sink::table::fit("汉字\u{1b}".as_bytes(), 7, &mut text);
/// assert_eq!(String::from_utf8(text).unwrap(), "汉字\\x…");
/// ```
pub fn fit(key: &[u8], columns: usize, out: &mut Vec<u8>) {
    let bytes_max = columns.saturating_mul(KEY_BYTES_PER_COLUMN);
    let mut end = key.len().min(bytes_max);
    let is_cut = end < key.len();
    // Not in the middle of a character: it would be shown as bytes.
    while is_cut && end > bytes_max.saturating_sub(4) && key[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    let start = out.len();
    if is_cut {
        write_escaped(&key[..end], out);
    } else {
        write_key(key, out);
    }
    let text = text_from(start, out);
    if !is_cut && text.width() <= columns {
        return;
    }
    let room = columns.saturating_sub(1);
    let mut width = 0;
    let mut len = 0;
    for character in text.chars() {
        width += character.width().unwrap_or(0);
        if width > room {
            break;
        }
        len += character.len_utf8();
    }
    // A sequence may be wider than its characters.
    while text[..len].width() > room {
        len = text[..len]
            .char_indices()
            .next_back()
            .map_or(0, |(at, _)| at);
    }
    out.truncate(start + len);
    if columns > 0 {
        out.extend_from_slice("…".as_bytes());
    }
}

/// Number of terminal columns of `text`, which must be printable.
pub fn width(text: &str) -> usize {
    text.width()
}

/// Appends a number in groups of three digits.
///
/// ```
/// let mut text = Vec::new();
/// microtally::sink::table::write_grouped(1_234_567, &mut text);
/// assert_eq!(text, b"1 234 567");
/// ```
pub fn write_grouped(number: u64, out: &mut Vec<u8>) {
    let start = out.len();
    write!(out, "{number}").expect(INFALLIBLE);
    group_digits(start, out);
}

/// Appends a share, 0 to 1, as `12.3 %`. Only zero is written as `0.0 %`, and only one as `100.0
/// %`.
pub fn write_share(share: f64, out: &mut Vec<u8>) {
    let percent = share * 100.0;
    let written = if percent > 0.0 && percent < 0.05 {
        write!(out, "<0.1 %")
    } else if (99.95..100.0).contains(&percent) {
        write!(out, ">99.9 %")
    } else {
        write!(out, "{percent:.1} %")
    };
    written.expect(INFALLIBLE);
}

/// Appends a rate as `12.3/s` or `1 234/s`.
pub fn write_rate(rate: f64, out: &mut Vec<u8>) {
    let start = out.len();
    let written = match rate.abs() {
        // More digits tell people nothing.
        large if large >= 1e16 => write!(out, "{rate:.2e}"),
        small if small > 0.0 && small < 0.05 => write!(out, "<0.1"),
        small if small < 99.95 => write!(out, "{rate:.1}"),
        _ => write!(out, "{rate:.0}"),
    };
    written.expect(INFALLIBLE);
    group_digits(start, out);
    out.extend_from_slice(b"/s");
}

/// Appends a value as [`Repr::write_str`] does, escaped, with the digits of a decimal number in
/// groups.
pub fn write_value(value: &impl Repr, out: &mut Vec<u8>) {
    let start = out.len();
    value.write_str(out);
    finish_value(start, out);
}

/// Escapes the value that begins at `start`, and groups its digits.
fn finish_value(start: usize, out: &mut Vec<u8>) {
    // The buffer allocates only if there is something to escape, which numbers never have.
    escape_unprintable(out, start, &mut Vec::new());
    group_digits(start, out);
}

/// Appends the line above a table: local time, records and keys of the batch.
pub fn write_header(time: BatchTime, records: u64, keys: u64, out: &mut Vec<u8>) {
    header(time, &TimeZone::system(), records, keys, out);
}

fn header(time: BatchTime, zone: &TimeZone, records: u64, keys: u64, out: &mut Vec<u8>) {
    write_local_time(time, zone, "%.3f", out);
    out.extend_from_slice(b"   ");
    write_amount(records, "record", out);
    out.extend_from_slice(b", ");
    write_amount(keys, "key", out);
    out.push(b'\n');
}

/// Appends `1 key` or `2 keys`.
fn write_amount(number: u64, noun: &str, out: &mut Vec<u8>) {
    write_grouped(number, out);
    let plural = if number == 1 { "" } else { "s" };
    write!(out, " {noun}{plural}").expect(INFALLIBLE);
}

/// Groups the digits before the point if what begins at `start` is a number.
fn group_digits(start: usize, out: &mut Vec<u8>) {
    let first = start + usize::from(out.get(start) == Some(&b'-'));
    let len = out[first..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let is_number = match &out[first + len..] {
        [] => true,
        [b'.', decimals @ ..] => decimals.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !is_number {
        return;
    }
    let mut at = first + len;
    while at > first + 3 {
        at -= 3;
        out.insert(at, b' ');
    }
}

/// Right-aligns what begins at `start`, in `columns` columns.
fn align_right(start: usize, columns: usize, out: &mut Vec<u8>) {
    let blanks = columns.saturating_sub(width_from(start, out));
    let end = out.len();
    out.resize(end + blanks, b' ');
    out.copy_within(start..end, start + blanks);
    out[start..start + blanks].fill(b' ');
}

fn width_from(start: usize, out: &[u8]) -> usize {
    text_from(start, out).width()
}

fn text_from(start: usize, out: &[u8]) -> &str {
    std::str::from_utf8(&out[start..]).expect("what was escaped is UTF-8")
}

#[cfg(test)]
mod tests;
