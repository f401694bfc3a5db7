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

pub(crate) mod delivery;
#[cfg(feature = "json")]
mod json;
mod pyspark;
#[cfg(feature = "table")]
pub mod table;
mod text_files;
mod tsv;
#[cfg(test)]
mod written;

use std::fmt;
use std::io::Write;
use std::time::Duration;

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
use crate::batch::{Batch, BatchId, Value};
use crate::error::{Error, Result};
use crate::time::BatchTime;

/// Where batches go.
///
/// Implement it for a custom output, or pass a closure to
/// [`for_each_batch`](crate::stream::Reduced::for_each_batch).
///
/// A sink of a system that is sometimes out of reach asks for a retry. Meanwhile batches wait, then
/// the sources do, so nothing is lost:
///
/// ```
/// use std::io;
///
/// use microtally::prelude::*;
/// use microtally::Error;
/// use microtally::sink::{Sink, Undelivered};
/// use microtally::sources::Lines;
///
/// /// A database that is busy at first.
/// struct Database {
///     attempts: u32,
/// }
///
/// impl Database {
///     fn insert(&mut self, _row: &str) -> io::Result<()> {
///         self.attempts += 1;
///         match self.attempts {
///             1 | 2 => Err(io::ErrorKind::ResourceBusy.into()),
///             _ => Ok(()),
///         }
///     }
/// }
///
/// impl Sink<u64> for Database {
///     fn deliver(&mut self, batch: &Batch<'_, u64>) -> Result<(), Undelivered> {
///         let row = format!("{:?}", batch.top(1));
///         self.insert(&row).map_err(|cause| Undelivered::Retry {
///             after: Duration::from_millis(10),
///             cause: Error::output("the database", &cause),
///         })
///     }
/// }
///
/// let ssc = StreamingContext::one_batch(microtally::Config::default())?;
/// let words = ssc.source_stream(Lines::of("to be or not to be")).split(b' ');
/// words.count_by_value().output(Database { attempts: 0 });
/// ssc.start()?.await_termination()?;
/// # Ok::<(), microtally::Error>(())
/// ```
pub trait Sink<V>: Send {
    /// Delivers one batch. Called in order, with each batch once, or again with the same batch if
    /// it returned [`Retry`](Undelivered::Retry).
    ///
    /// It is called on the publisher thread: meanwhile reading and counting go on until the rings
    /// are full. In [low-latency mode](crate::Config::low_latency) it is called on the thread that
    /// completed the batch, which does nothing else meanwhile.
    ///
    /// # Errors
    ///
    /// [`Undelivered::Retry`]: the batch is not there yet, and later ones wait for it.
    /// [`Undelivered::Fatal`]: it will never be there. The run ends, because results would be
    /// missing. `?` makes one of an [`Error`].
    fn deliver(&mut self, batch: &Batch<'_, V>) -> Result<(), Undelivered>;

    /// The last batch that is there, if the system can tell. Asked once, when the context starts:
    /// batches up to its time are not delivered again.
    ///
    /// # Errors
    ///
    /// An error ends the start.
    fn delivered(&mut self) -> Result<Option<BatchId>> {
        Ok(None)
    }
}

/// Why a sink has not delivered a batch.
#[derive(Clone, Debug)]
pub enum Undelivered {
    /// Try again with the same batch.
    Retry {
        /// Time until the next attempt, at least a millisecond. A stop ends the wait.
        after: Duration,
        /// Why it did not work, for a notice.
        cause: Error,
    },
    /// Ends the run.
    Fatal(Error),
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Undelivered::Retry { after, cause } => {
                write!(f, "{cause}; next try in {} s", after.as_secs_f64())
            }
            Undelivered::Fatal(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Undelivered {}

impl From<Error> for Undelivered {
    fn from(error: Error) -> Self {
        Undelivered::Fatal(error)
    }
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
