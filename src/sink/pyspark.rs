//! `pprint`'s format, to the byte.
//!
//! Promise: what Python prints for the same batch, header for empty batches included, in our fixed
//! order. Must not know: how the batch was made.
//!
//! ```text
//! -------------------------------------------
//! Time: 2026-11-22 16:52:25
//! -------------------------------------------
//! ('hello', 1)
//! ...
//!
//! ```

use std::io::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::batch::ranking::Ranking;
use crate::batch::{Batch, Value};
use crate::error::Result;
use crate::repr::Repr;
use crate::repr::text::escape_unprintable;
use crate::sink::{Out, Sink};
use crate::time::BatchTime;

/// Spark prints 43 dashes.
const RULE: &[u8] = b"-------------------------------------------\n";

/// Prints batches of keys and values as PySpark's `pprint` does.
pub struct Pyspark<V: 'static> {
    printer: Printer,
    ranking: Ranking<V>,
}

debug_fields!([V] Pyspark<V>, "Pyspark", printer);

impl<V: Value> Pyspark<V> {
    /// Prints the first `count` keys of each batch on standard output.
    pub fn stdout(count: usize) -> Self {
        Pyspark::with(Printer::stdout(count))
    }

    /// Prints to `writer`.
    pub fn new(writer: impl Write + Send + 'static, count: usize) -> Self {
        Pyspark::with(Printer::new(writer, count))
    }

    fn with(printer: Printer) -> Self {
        let ranking = Ranking::with_capacity(printer.count.min(1 << 10));
        Pyspark { printer, ranking }
    }
}

impl<V: Value> Sink<V> for Pyspark<V> {
    fn emit(&mut self, batch: &Batch<'_, V>) -> Result<()> {
        let printer = &mut self.printer;
        // One row more than is printed, for the printer to see that there are more.
        let count = printer.count.saturating_add(1);
        self.ranking
            .top(batch, count, |rows| printer.print(batch.time(), rows))
    }
}

/// Prints batches of any records as PySpark's `pprint` does: each record is one line, its
/// [`write_str`](Repr::write_str).
///
/// A character that could end the line or steer a terminal is written as an escape, and so is a
/// byte that is not UTF-8; tabs and spaces of any kind stay. PySpark prints such a record raw.
///
/// ```
/// use microtally::BatchTime;
/// use microtally::sink::Printer;
/// let mut printer = Printer::new(std::io::sink(), 10);
/// printer.print(BatchTime::from_millis(1000), ["a line", "and another"])?;
/// printer.print(BatchTime::from_millis(2000), [("error", 3), ("warning", 17)])?;
/// # Ok::<(), microtally::Error>(())
/// ```
pub struct Printer {
    out: Out,
    count: usize,
    zone: TimeZone,
    /// Where a record is looked through; kept for its memory.
    scratch: Vec<u8>,
}

debug_fields!([] Printer, "Printer", count);

impl Printer {
    /// Prints the first `count` records of each batch on standard output.
    pub fn stdout(count: usize) -> Self {
        Printer::with(Out::stdout(), count)
    }

    /// Prints to `writer`.
    pub fn new(writer: impl Write + Send + 'static, count: usize) -> Self {
        Printer::with(Out::new(Box::new(writer), "the writer"), count)
    }

    fn with(out: Out, count: usize) -> Self {
        Printer {
            out,
            count,
            zone: TimeZone::system(),
            scratch: Vec::new(),
        }
    }

    /// Prints one batch: the header with its time, the first `count` of `records`, `...` when there
    /// are more, an empty line. It takes no more than one record beyond those. Allocates only while
    /// batches grow.
    ///
    /// # Errors
    ///
    /// The writer's; the kind is [`Sink`](crate::ErrorKind::Sink) or
    /// [`SinkClosed`](crate::ErrorKind::SinkClosed).
    pub fn print<T: Repr>(
        &mut self,
        time: BatchTime,
        records: impl IntoIterator<Item = T>,
    ) -> Result<()> {
        let text = self.out.begin();
        text.extend_from_slice(RULE);
        write_time(time, &self.zone, text);
        text.extend_from_slice(RULE);
        let mut records = records.into_iter();
        for record in records.by_ref().take(self.count) {
            let start = text.len();
            record.write_str(text);
            escape_unprintable(text, start, &mut self.scratch);
            text.push(b'\n');
        }
        if records.next().is_some() {
            text.extend_from_slice(b"...\n");
        }
        text.push(b'\n');
        self.out.send()
    }
}

/// Writes `Time: ` and what Python prints for `datetime.fromtimestamp`: local time, with six digits
/// of a second unless all of them are zero.
fn write_time(time: BatchTime, zone: &TimeZone, text: &mut Vec<u8>) {
    let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let time = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    let t = zone.to_datetime(time);
    let micros = i32::from(t.millisecond()) * 1000 + i32::from(t.microsecond());
    write!(
        text,
        "Time: {:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        t.year(),
        t.month(),
        t.day(),
        t.hour(),
        t.minute(),
        t.second()
    )
    .expect("writing to memory succeeds");
    if micros != 0 {
        write!(text, ".{micros:06}").expect("writing to memory succeeds");
    }
    text.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchStats;
    use crate::sink::written::Written;
    use crate::table::KeyTable;
    use crate::table::keys::Seed;

    /// What is printed below the header.
    fn printed<T: Repr>(count: usize, records: impl IntoIterator<Item = T>) -> String {
        let written = Written::default();
        let mut printer = Printer::new(written.clone(), count);
        let time = BatchTime::from_millis(1_763_830_345_000);
        printer.print(time, records).unwrap();
        let text = written.text();
        let mut header = Vec::new();
        write_time(time, &printer.zone, &mut header);
        let rule = "-".repeat(43);
        let header = format!("{rule}\n{}{rule}\n", String::from_utf8(header).unwrap());
        text.strip_prefix(&header)
            .expect("a header first")
            .to_owned()
    }

    #[test]
    fn records_of_any_kind_are_printed() {
        assert_eq!(printed(10, [0u8; 0]), "\n");
        assert_eq!(printed(10, ["it's", "a\tb"]), "it's\na\tb\n\n");
        assert_eq!(printed(10, [1.0]), "1.0\n\n");
        assert_eq!(printed(10, [("it's", Some(1))]), "(\"it's\", 1)\n\n");
        assert_eq!(printed(10, &[vec![1, 2], vec![]]), "[1, 2]\n[]\n\n");
        assert_eq!(printed(10, ["a\n\x1b[2J"]), "a\\n\\x1b[2J\n\n");
    }

    #[test]
    fn dots_follow_only_when_there_are_more() {
        assert_eq!(printed(0, [0; 0]), "\n");
        assert_eq!(printed(0, [1]), "...\n\n");
        assert_eq!(printed(2, [1, 2]), "1\n2\n\n");
        assert_eq!(printed(2, 1..), "1\n2\n...\n\n");
        assert_eq!(printed(usize::MAX, [1, 2]), "1\n2\n\n");
    }

    #[test]
    fn keyed_batches_have_dots_only_when_there_are_more_keys() {
        let mut table = KeyTable::new(Seed::random());
        for key in ["b", "it's", "a", "b"] {
            table.add(key.as_bytes(), 1u64, |a, b| a + b);
        }
        let stats = BatchStats::default();
        let batch = Batch::new(&table, &stats);
        let lines = ["('b', 2)\n", "('a', 1)\n", "(\"it's\", 1)\n"];
        for count in [0, 1, 2, 3, 4, usize::MAX] {
            let written = Written::default();
            Pyspark::new(written.clone(), count).emit(&batch).unwrap();
            let text = written.text();
            let dots = if count < 3 { "...\n" } else { "" };
            let rows = lines[..count.min(3)].concat();
            assert!(text.ends_with(&format!("--\n{rows}{dots}\n")), "{text}");
        }
    }

    #[test]
    fn a_printer_starts_each_batch_anew() {
        struct Failing;
        impl Repr for Failing {
            fn write_repr(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(b"half");
                panic!("no value");
            }
        }
        let written = Written::default();
        let mut printer = Printer::new(written.clone(), 10);
        let time = BatchTime::default();
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            printer.print(time, [Failing])
        }));
        assert!(failed.is_err());
        assert!(written.text().is_empty());
        printer.print(time, ["whole"]).unwrap();
        let text = written.text();
        assert!(text.ends_with("-\nwhole\n\n") && !text.contains("half"));
    }

    fn time_in(zone: &TimeZone, ms: u64) -> String {
        let mut text = Vec::new();
        write_time(BatchTime::from_millis(ms), zone, &mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn times_are_local_and_microseconds_only_where_needed() {
        assert_eq!(
            time_in(&TimeZone::UTC, 1_763_830_345_000),
            "Time: 2025-11-22 16:52:25\n"
        );
        assert_eq!(
            time_in(&TimeZone::UTC, 1_763_830_345_500),
            "Time: 2025-11-22 16:52:25.500000\n"
        );
        assert_eq!(
            time_in(&TimeZone::UTC, 1),
            "Time: 1970-01-01 00:00:00.001000\n"
        );
        let east = TimeZone::fixed(jiff::tz::offset(5));
        assert_eq!(
            time_in(&east, 1_763_830_345_000),
            "Time: 2025-11-22 21:52:25\n"
        );
    }
}
