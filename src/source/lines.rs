//! `lines`: text in memory, read to its end.
//!
//! Promise: the text is read once, unchanged. Must not know: `file`, `net`, `codec`.

use std::io::{Cursor, Read};
use std::time::Duration;

use crate::intake::Intake;
use crate::source::{Fill, ReadOutcome, Source, read_once};

/// A finite source of text in memory, for examples and tests.
///
/// The stream ends after the last byte. The last line does not need a line feed.
///
/// ```
/// use microtally::sources::Lines;
/// use microtally::{Config, StreamingContext};
///
/// let ssc = StreamingContext::one_batch(Config::default())?;
/// let lines = ssc.source_stream(Lines::of("to be\nor not\nto be"));
/// lines.count_by_value().for_each_batch(|batch, _| assert_eq!(batch.get(b"to be"), Some(2)));
/// ssc.start()?.await_termination()?;
/// # Ok::<(), microtally::Error>(())
/// ```
pub struct Lines {
    text: Cursor<Vec<u8>>,
}

impl Lines {
    /// A source of the lines of `text`, a string or bytes.
    pub fn of(text: impl Into<Vec<u8>>) -> Self {
        Lines {
            text: Cursor::new(text.into()),
        }
    }
}

impl Lines {
    /// Reads once, if that does not block.
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> ReadOutcome {
        match self.text.read(buf) {
            Ok(count @ 1..) => ReadOutcome::Bytes(count),
            // Reading from memory cannot fail.
            _ => ReadOutcome::Nothing(Fill::End),
        }
    }
}

debug_fields!([] Lines, "Lines");

impl Source for Lines {
    fn fill(&mut self, out: &mut Intake<'_>, _now: Duration) -> Fill {
        read_once(out, |space| self.read(space))
    }

    fn name(&self) -> &str {
        "text in memory"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_comes_out_once_and_unchanged() {
        for text in ["", "x", "one\r\ntwo", "a line\n\n"] {
            let (mut lines, mut buf, mut found) = (Lines::of(text), [0; 3], Vec::new());
            while let ReadOutcome::Bytes(count) = lines.read(&mut buf) {
                found.extend_from_slice(&buf[..count]);
            }
            assert_eq!(found, text.as_bytes());
            assert!(matches!(
                lines.read(&mut buf),
                ReadOutcome::Nothing(Fill::End)
            ));
        }
    }
}
