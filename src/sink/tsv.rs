//! Tab-separated lines: `batch_ms`, key, value.
//!
//! Promise: one result a line, keys escaped so that the bytes can be had back. Must not know: how
//! the batch was made.

use std::io::Write;

use crate::batch::ranking::Ranking;
use crate::batch::{Batch, Value};
use crate::error::Result;
use crate::repr::text::write_escaped;
use crate::sink::{Out, Sink};

/// Writes `batch_ms<TAB>key<TAB>value` lines, highest value first.
///
/// In keys, `\t \n \r \\` are escaped so, and every byte of anything else that is not printable as
/// `\xNN`.
pub struct Tsv<V: 'static> {
    out: Out,
    count: usize,
    ranking: Ranking<V>,
}

debug_fields!([V] Tsv<V>, "Tsv", count);

impl<V: Value> Tsv<V> {
    /// Writes the first `count` keys of each batch to standard output.
    pub fn stdout(count: usize) -> Self {
        Tsv {
            out: Out::stdout(),
            count,
            ranking: Ranking::with_capacity(count.min(1 << 10)),
        }
    }

    /// Writes to `writer`.
    pub fn new(writer: impl Write + Send + 'static, count: usize) -> Self {
        let out = Out::new(Box::new(writer), "the writer");
        Tsv {
            out,
            count,
            ranking: Ranking::with_capacity(count.min(1 << 10)),
        }
    }
}

impl<V: Value> Sink<V> for Tsv<V> {
    fn emit(&mut self, batch: &Batch<'_, V>) -> Result<()> {
        let text = self.out.begin();
        // The same in all rows; a number has 20 digits at most.
        let mut begin = [0; 21];
        let mut rest = &mut begin[..];
        write!(rest, "{}\t", batch.time().as_millis()).expect("there is room");
        let len = 21 - rest.len();
        let begin = &begin[..len];
        self.ranking.top(batch, self.count, |rows| {
            for (key, value) in rows {
                text.extend_from_slice(begin);
                write_escaped(key, text);
                text.push(b'\t');
                value.write_repr(text);
                text.push(b'\n');
            }
        });
        self.out.send()
    }
}
