//! The format of `pprint`, to the byte.
//!
//! Promise: what Python prints for the same batch, with a header for empty batches too, in a fixed
//! order.
//! Must not know: `table`, `epoch`, `window`.
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

use jiff::tz::TimeZone;

use crate::batch::ranking::Ranking;
use crate::batch::{Batch, Value};
use crate::error::Result;
use crate::repr::Repr;
use crate::repr::text::escape_unprintable;
use crate::sink::{BatchWriter, Sink, Undelivered, ranking, write_local_time};
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
    /// Prints the first `count` keys of each batch to standard output.
    pub fn stdout(count: usize) -> Self {
        Pyspark::with(Printer::stdout(count))
    }

    /// Prints to `writer`.
    pub fn new(writer: impl Write + Send + 'static, count: usize) -> Self {
        Pyspark::with(Printer::new(writer, count))
    }

    fn with(printer: Printer) -> Self {
        let ranking = ranking(printer.count);
        Pyspark { printer, ranking }
    }
}

impl<V: Value> Sink<V> for Pyspark<V> {
    fn deliver(&mut self, batch: &Batch<'_, V>) -> Result<(), Undelivered> {
        let printer = &mut self.printer;
        // One row more than is printed: it shows the printer that there are more.
        let count = printer.count.saturating_add(1);
        (self.ranking).top(batch, count, |rows| printer.print(batch.time(), rows))?;
        Ok(())
    }
}

/// Prints batches of any records as PySpark's `pprint` does: a line for each record, its
/// [`write_str`](Repr::write_str).
///
/// Characters that could end the line or control a terminal are escaped, and so are bytes that are
/// not UTF-8; tabs and all kinds of spaces stay. PySpark prints such records raw.
///
/// ```
/// use microtally::time::BatchTime;
/// use microtally::sink::Printer;
/// let mut printer = Printer::new(std::io::sink(), 10);
/// printer.print(BatchTime::from_millis(1000), ["a line", "and another"])?;
/// printer.print(BatchTime::from_millis(2000), [("error", 3), ("warning", 17)])?;
/// # Ok::<(), microtally::Error>(())
/// ```
pub struct Printer {
    out: BatchWriter,
    count: usize,
    zone: TimeZone,
    /// Buffer for escaping a record.
    scratch: Vec<u8>,
}

debug_fields!([] Printer, "Printer", count);

impl Printer {
    /// Prints the first `count` records of each batch to standard output.
    pub fn stdout(count: usize) -> Self {
        Printer::with(BatchWriter::stdout(), count)
    }

    /// Prints to `writer`.
    pub fn new(writer: impl Write + Send + 'static, count: usize) -> Self {
        Printer::with(BatchWriter::new(writer), count)
    }

    fn with(out: BatchWriter, count: usize) -> Self {
        Printer {
            out,
            count,
            zone: TimeZone::system(),
            scratch: Vec::new(),
        }
    }

    /// Prints one batch: a header with its time, the first `count` of `records`, `...` if there are
    /// more, and an empty line.
    ///
    /// It takes at most one record beyond those, and allocates only while batches grow.
    ///
    /// # Errors
    ///
    /// The writer's error, of kind [`Sink`](crate::error::ErrorKind::Sink) or
    /// [`SinkClosed`](crate::error::ErrorKind::SinkClosed).
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

/// Appends the line `Time: …` as Python does for `datetime.fromtimestamp`: local time, with six
/// decimals unless they are all zero.
fn write_time(time: BatchTime, zone: &TimeZone, text: &mut Vec<u8>) {
    text.extend_from_slice(b"Time: ");
    write_local_time(time, zone, "%.6f", text);
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
            Pyspark::new(written.clone(), count)
                .deliver(&batch)
                .unwrap();
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

    #[test]
    fn times_are_local_and_microseconds_only_where_needed() {
        let (utc, east) = (TimeZone::UTC, TimeZone::fixed(jiff::tz::offset(5)));
        for (zone, ms, expected) in [
            (&utc, 1_763_830_345_000, "Time: 2025-11-22 16:52:25\n"),
            (
                &utc,
                1_763_830_345_500,
                "Time: 2025-11-22 16:52:25.500000\n",
            ),
            (&utc, 1, "Time: 1970-01-01 00:00:00.001000\n"),
            (&east, 1_763_830_345_000, "Time: 2025-11-22 21:52:25\n"),
        ] {
            let mut text = Vec::new();
            write_time(BatchTime::from_millis(ms), zone, &mut text);
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
    }
}
