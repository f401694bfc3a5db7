//! Results out.
//!
//! Promise: one call a batch, all formatting here, each batch written and flushed as a whole,
//! nothing a stream contains is written unescaped, but in text files, which hold records as they
//! are. Must not know: rings, shards, table layout.
//!
//! `pyspark` is `pprint`'s format, `tsv` is for other programs, `json` (feature `json`) for
//! programs that want the statistics too, `table` (feature `table`) for people, `text_files` is
//! `saveAsTextFiles`.

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

#[cfg(feature = "json")]
pub use self::json::Json;
pub use self::pyspark::{Printer, Pyspark};
#[cfg(feature = "table")]
pub use self::table::Table;
pub use self::text_files::{KeyedTextFiles, TextFiles};
pub use self::tsv::Tsv;

use crate::batch::Batch;
use crate::error::{Error, Result};

/// Where batches go.
///
/// Implement it for an output of one's own, or hand a closure to
/// [`for_each_batch`](crate::stream::Reduced::for_each_batch).
pub trait Sink<V>: Send {
    /// Puts one batch out, in batch order. Called on the publisher thread: while it runs, reading
    /// and counting go on until the rings are full. In [low-latency
    /// mode](crate::Config::low_latency) it is called on whichever thread completed the batch,
    /// which does nothing else meanwhile.
    ///
    /// # Errors
    ///
    /// An error ends the run: results would be missing.
    fn emit(&mut self, batch: &Batch<'_, V>) -> Result<()>;
}

/// A place to write to, and its name for messages.
pub(crate) struct Out {
    to: Box<dyn Write + Send>,
    place: &'static str,
    /// The batch being formatted; kept, so that formatting does not allocate for ever.
    text: Vec<u8>,
}

impl Out {
    /// Standard output.
    pub(crate) fn stdout() -> Self {
        Out::new(Box::new(std::io::stdout()), "stdout")
    }

    /// Any writer.
    pub(crate) fn new(to: Box<dyn Write + Send>, place: &'static str) -> Self {
        Out {
            to,
            place,
            text: Vec::with_capacity(4096),
        }
    }

    /// The text of a batch, empty: a batch whose values panicked in the middle leaves nothing.
    pub(crate) fn begin(&mut self) -> &mut Vec<u8> {
        self.text.clear();
        &mut self.text
    }

    /// Writes the text and flushes.
    pub(crate) fn send(&mut self) -> Result<()> {
        let sent = self.to.write_all(&self.text).and_then(|()| self.to.flush());
        sent.map_err(|cause| Error::output(self.place, &cause))
    }
}
