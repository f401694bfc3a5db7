//! Outputs: where batches go, and in which format.
//!
//! Promise: each batch is one call, formatted here, and written and flushed as a whole; nothing
//! that a stream contains is written unescaped, except in text files, which hold records as they
//! are.
//! Must not know: `ring`, `shard`, `table`.
//!
//! `pyspark` is the format of `pprint`, `tsv` is for other programs, `json` (feature `json`) is for
//! programs that want the statistics too, `table` (feature `table`) is for people, and `text_files`
//! is `saveAsTextFiles`.

#[cfg(feature = "json")]
mod json;
mod pyspark;
#[cfg(feature = "table")]
pub mod table;
mod text_files;
mod tsv;
#[cfg(test)]
mod written;

use std::io::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;

#[cfg(feature = "json")]
pub use self::json::Json;
pub use self::pyspark::{Printer, Pyspark};
#[cfg(feature = "table")]
pub use self::table::Columns;
pub use self::text_files::{KeyedTextFiles, TextFiles};
pub use self::tsv::Tsv;
pub use crate::repr::Repr;

use crate::batch::ranking::Ranking;
use crate::batch::{Batch, Value};
use crate::error::{Error, Result};
use crate::time::BatchTime;

/// Where batches go.
///
/// Implement it for a custom output, or pass a closure to
/// [`for_each_batch`](crate::stream::Reduced::for_each_batch).
///
/// ```
/// use microtally::prelude::*;
/// use microtally::sink::Sink;
/// use microtally::sources::Lines;
///
/// struct Largest;
/// impl Sink<u64> for Largest {
///     fn emit(&mut self, batch: &Batch<'_, u64>) -> Result<(), microtally::Error> {
///         println!("{:?}", batch.top(1));
///         Ok(())
///     }
/// }
/// let ssc = StreamingContext::new(Duration::from_secs(1))?;
/// ssc.source_stream(Lines::of("to be or not to be")).split(b' ').count_by_value().output(Largest);
/// ssc.start()?.await_termination()?;
/// # Ok::<(), microtally::Error>(())
/// ```
pub trait Sink<V>: Send {
    /// Publishes one batch. Batches come in order.
    ///
    /// It is called on the publisher thread: meanwhile reading and counting go on until the rings
    /// are full. In [low-latency mode](crate::Config::low_latency) it is called on the thread that
    /// completed the batch, which does nothing else meanwhile.
    ///
    /// # Errors
    ///
    /// An error ends the run, because results would be missing.
    fn emit(&mut self, batch: &Batch<'_, V>) -> Result<()>;
}

/// Writes whole batches of text to standard output or a writer.
pub(crate) struct BatchWriter {
    to: Box<dyn Write + Send>,
    /// The name of the place, for messages.
    place: &'static str,
    /// The batch being formatted. Kept, so that formatting stops allocating after the first
    /// batches.
    text: Vec<u8>,
}

impl BatchWriter {
    fn stdout() -> Self {
        BatchWriter::with(std::io::stdout(), "stdout")
    }

    fn new(writer: impl Write + Send + 'static) -> Self {
        BatchWriter::with(writer, "the writer")
    }

    fn with(to: impl Write + Send + 'static, place: &'static str) -> Self {
        BatchWriter {
            to: Box::new(to),
            place,
            text: Vec::with_capacity(4096),
        }
    }

    /// Begins a batch: empties the text, which may hold the first part of a batch whose values
    /// panicked.
    fn begin(&mut self) -> &mut Vec<u8> {
        self.text.clear();
        &mut self.text
    }

    /// Writes the text and flushes.
    fn send(&mut self) -> Result<()> {
        let sent = self.to.write_all(&self.text).and_then(|()| self.to.flush());
        sent.map_err(|cause| Error::output(self.place, &cause))
    }
}

/// A ranking for the first `count` keys of each batch.
fn ranking<V: Value>(count: usize) -> Ranking<V> {
    Ranking::with_capacity(count.min(1 << 10))
}

fn timestamp(time: BatchTime) -> Timestamp {
    let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
}

/// Appends local time, `2026-11-22 16:52:25`. Unless the milliseconds are zero, `decimals` follow:
/// `%.3f` or `%.6f`.
fn write_local_time(time: BatchTime, zone: &TimeZone, decimals: &str, text: &mut Vec<u8>) {
    let local = zone.to_datetime(timestamp(time));
    write!(text, "{}", local.strftime("%F %T")).expect(INFALLIBLE);
    if local.millisecond() != 0 {
        write!(text, "{}", local.strftime(decimals)).expect(INFALLIBLE);
    }
}

const INFALLIBLE: &str = "writing to memory succeeds";
