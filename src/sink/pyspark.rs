//! `pprint`'s format, to the byte.
//!
//! Promise: what Python prints for the same batch, header for empty batches included, in our fixed order.
//! Refuses to know: how the batch was made.
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

use crate::epoch::BatchTime;
use crate::epoch::snapshot::{Batch, Ranking, Value};
use crate::error::Result;
use crate::sink::repr::write_repr;
use crate::sink::{Out, Sink};

/// Spark prints 43 dashes.
const RULE: &[u8] = b"-------------------------------------------\n";

/// Prints batches as PySpark's `pprint` does.
pub struct Pyspark<V: 'static> {
    out: Out,
    count: usize,
    ranking: Ranking<V>,
    zone: TimeZone,
}

impl<V: Value> Pyspark<V> {
    /// Prints the first `count` keys of each batch on standard output.
    pub fn stdout(count: usize) -> Self {
        Pyspark::with(Out::stdout(), count)
    }

    /// Prints to `writer`.
    pub fn new(writer: impl Write + Send + 'static, count: usize) -> Self {
        Pyspark::with(Out::new(Box::new(writer), "the writer"), count)
    }

    fn with(out: Out, count: usize) -> Self {
        let ranking = Ranking::with_capacity(count.min(1 << 10));
        Pyspark {
            out,
            count,
            ranking,
            zone: TimeZone::system(),
        }
    }
}

impl<V: Value> Sink<V> for Pyspark<V> {
    fn emit(&mut self, batch: &Batch<'_, V>) -> Result<()> {
        let text = self.out.begin();
        text.extend_from_slice(RULE);
        write_time(batch.time(), &self.zone, text);
        text.extend_from_slice(RULE);
        self.ranking.top(batch, self.count, |rows| {
            for (key, value) in rows {
                text.push(b'(');
                write_repr(key, text);
                text.extend_from_slice(b", ");
                value.write_repr(text);
                text.extend_from_slice(b")\n");
            }
        });
        if batch.len() > self.count {
            text.extend_from_slice(b"...\n");
        }
        text.push(b'\n');
        self.out.send()
    }
}

/// Writes `Time: ` and what Python prints for `datetime.fromtimestamp`: local time, with six digits of
/// a second unless all of them are zero.
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
