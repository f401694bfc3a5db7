//! Tab-separated lines: `batch_ms`, key, value, the value in as many columns as it has.
//!
//! Promise: one result a line, with keys escaped reversibly.
//! Must not know: `table`, `epoch`, `window`.

use std::io::Write;

use crate::batch::ranking::Ranking;
use crate::batch::{Batch, Value};
use crate::repr::text::write_escaped;
use crate::sink::{BatchWriter, Sink, Undelivered, ranking};

/// Writes lines `batch_ms<TAB>key<TAB>value`, highest value first. A value of several columns, such
/// as a tuple, takes as many.
///
/// In keys, tab, line feed, carriage return and backslash are written as `\t`, `\n`, `\r` and `\\`,
/// and the bytes of other unprintable characters as `\xNN`.
pub struct Tsv<V: 'static> {
    out: BatchWriter,
    count: usize,
    ranking: Ranking<V>,
}

debug_fields!([V] Tsv<V>, "Tsv", count);

impl<V: Value> Tsv<V> {
    /// Writes the first `count` keys of each batch to standard output.
    pub fn stdout(count: usize) -> Self {
        Tsv::with(BatchWriter::stdout(), count)
    }

    /// Writes to `writer`.
    pub fn new(writer: impl Write + Send + 'static, count: usize) -> Self {
        Tsv::with(BatchWriter::new(writer), count)
    }

    fn with(out: BatchWriter, count: usize) -> Self {
        Tsv {
            out,
            count,
            ranking: ranking(count),
        }
    }
}

impl<V: Value> Sink<V> for Tsv<V> {
    fn deliver(&mut self, batch: &Batch<'_, V>) -> Result<(), Undelivered> {
        let text = self.out.begin();
        // The same in all rows; a number has at most 20 digits.
        let mut begin = [0; 21];
        let mut rest = &mut begin[..];
        write!(rest, "{}\t", batch.time().as_millis()).expect("there is room");
        let len = 21 - rest.len();
        let begin = &begin[..len];
        self.ranking.top(batch, self.count, |rows| {
            for (key, value) in rows {
                text.extend_from_slice(begin);
                write_escaped(key, text);
                for column in 0..value.columns() {
                    text.push(b'\t');
                    value.write_column(column, text);
                }
                text.push(b'\n');
            }
        });
        Ok(self.out.send()?)
    }
}
