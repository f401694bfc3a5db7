//! One line of JSON per batch, statistics included.
//!
//! Promise: valid JSON for any key, without unprintable characters; fields are only added, and `v`
//! grows when one changes its meaning.
//! Must not know: `table`, `epoch`, `window`.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::batch::ranking::Ranking;
use crate::batch::{Batch, Value};
use crate::error::Result;
use crate::repr::text::write_json_string;
use crate::sink::{BatchWriter, INFALLIBLE, Sink, Undelivered, ranking, timestamp};

/// Writes each batch as a line of JSON:
/// `{"v":1,"batch":…,"time":…,…,"top":[{"k":"the","n":123}],"other":{"keys":…,"n":…}}`.
///
/// - `top` has the first keys. Unprintable characters are escaped as `\u009b`. A key that is not
///   UTF-8 is `{"k_b64":"…"}`. A value that is not a JSON number is a string, except that NaN and
///   infinite floats are `null`. A value of several columns, such as a tuple, is an array of them.
/// - `dropped` counts what no count contains
///   ([`BatchStats::dropped`](crate::batch::BatchStats::dropped)): tokens above the record limit,
///   partial lines of reset connections, datagrams and records that sources lost.
/// - `refused` is the number of connections that a listening source closed unread.
/// - `processing_ms` ends where writing begins.
/// - `approx` is `true` if the memory limit was reached. A count may then be too high by at most
///   `error_max`. A row with `missing_max` lacks at most that many records of its key; other rows
///   lack none. The batch's `missing_max` is the largest of all keys.
/// - `other` is what is certainly not in `top`: the records of keys that are not shown, those
///   without room in memory, and `error_max` for each key that is shown. It has an `n` if values
///   are counts.
pub struct Json<V: 'static> {
    out: BatchWriter,
    count: usize,
    ranking: Ranking<V>,
    base64: Vec<u8>,
    value: Vec<u8>,
    /// The member with the names of the columns, if they have some.
    columns: Vec<u8>,
}

debug_fields!([V] Json<V>, "Json", count);

impl<V: Value> Json<V> {
    /// Writes the first `count` keys of each batch to standard output.
    pub fn stdout(count: usize) -> Self {
        Json::with(BatchWriter::stdout(), count)
    }

    /// Writes to `writer`.
    pub fn new(writer: impl Write + Send + 'static, count: usize) -> Self {
        Json::with(BatchWriter::new(writer), count)
    }

    fn with(out: BatchWriter, count: usize) -> Self {
        Json {
            out,
            count,
            ranking: ranking(count),
            base64: Vec::new(),
            value: Vec::new(),
            columns: Vec::new(),
        }
    }

    /// Names the columns of values: `"columns":["count","p99"]`. `errors` has the largest error of
    /// each that is not exact, as a part of the value: `"errors":{"p99":0.0078125}`.
    pub fn columns<'a>(
        mut self,
        names: impl IntoIterator<Item = &'a str>,
        errors: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Self {
        self.columns = b"\"columns\":[".to_vec();
        for (index, name) in names.into_iter().enumerate() {
            self.columns.extend((index > 0).then_some(b','));
            write_json_string(name, &mut self.columns);
        }
        self.columns.extend_from_slice(b"],\"errors\":{");
        for (index, (name, error)) in errors.into_iter().enumerate() {
            self.columns.extend((index > 0).then_some(b','));
            write_json_string(name, &mut self.columns);
            write!(self.columns, ":{error}").expect(INFALLIBLE);
        }
        self.columns.extend_from_slice(b"},");
        self
    }
}

impl<V: Value> Sink<V> for Json<V> {
    fn deliver(&mut self, batch: &Batch<'_, V>) -> Result<(), Undelivered> {
        let stats = batch.stats();
        let (text, base64) = (self.out.begin(), &mut self.base64);
        let number = &mut self.value;
        write!(
            text,
            "{{\"v\":1,\"batch\":{},\"time\":\"{:.3}\",\
             \"interval_ms\":{},\"records\":{},\"tokens\":{},\"bytes\":{},\"keys\":{},\
             \"processing_ms\":{:.3},\"scheduling_delay_ms\":{:.3},\"dropped\":{},\"refused\":{},\
             \"approx\":{},\"error_max\":{},\"missing_max\":{},",
            stats.batch,
            timestamp(stats.time),
            stats.interval.as_millis(),
            stats.records,
            stats.tokens,
            stats.bytes,
            stats.keys,
            stats.processing.as_secs_f64() * 1e3,
            stats.scheduling_delay.as_secs_f64() * 1e3,
            stats.dropped(),
            stats.refused_connections,
            stats.is_approximate(),
            stats.error_max,
            stats.missing_max,
        )
        .expect(INFALLIBLE);
        text.extend_from_slice(&self.columns);
        text.extend_from_slice(b"\"top\":[");
        self.ranking.top(batch, self.count, |rows| {
            let keys = batch.len() - rows.len();
            let mut shown = Some(0);
            for (index, (key, value)) in rows.enumerate() {
                if index > 0 {
                    text.push(b',');
                }
                write_key(key, text, base64);
                text.extend_from_slice(b",\"n\":");
                write_values(&value, text, number);
                let missing = batch.missing_max(key);
                if missing > 0 {
                    write!(text, ",\"missing_max\":{missing}").expect(INFALLIBLE);
                }
                text.push(b'}');
                shown = shown.and_then(|sum: u64| {
                    Some(sum + value.as_count()?.saturating_sub(stats.error_max))
                });
            }
            write!(text, "],\"other\":{{\"keys\":{keys}").expect(INFALLIBLE);
            if let Some(shown) = shown {
                let n = stats.tokens.saturating_sub(shown);
                write!(text, ",\"n\":{n}").expect(INFALLIBLE);
            }
            text.extend_from_slice(b"}}\n");
        });
        Ok(self.out.send()?)
    }
}

/// Writes a value, or an array of the columns of one that has several.
fn write_values<V: Value>(value: &V, text: &mut Vec<u8>, number: &mut Vec<u8>) {
    if value.columns() == 1 {
        return write_value(value, 0, text, number);
    }
    for column in 0..value.columns() {
        text.push(if column == 0 { b'[' } else { b',' });
        write_value(value, column, text, number);
    }
    text.push(b']');
}

/// Writes a column as Python does if that is a JSON number. NaN and infinite floats, which JSON
/// lacks, are `null`; anything else is a string.
fn write_value<V: Value>(value: &V, column: usize, text: &mut Vec<u8>, number: &mut Vec<u8>) {
    if let Some(count) = value.as_count() {
        write!(text, "{count}").expect(INFALLIBLE);
        return;
    }
    number.clear();
    value.write_column(column, number);
    if matches!(&number[..], b"null" | b"nan" | b"inf" | b"-inf") {
        text.extend_from_slice(b"null");
    } else if serde_json::from_slice::<serde_json::Number>(number).is_ok() {
        text.extend_from_slice(number);
    } else {
        write_json_string(&String::from_utf8_lossy(number), text);
    }
}

/// Writes `{"k":"…"` or `{"k_b64":"…"`.
fn write_key(key: &[u8], text: &mut Vec<u8>, base64: &mut Vec<u8>) {
    match std::str::from_utf8(key) {
        Ok(key) => {
            text.extend_from_slice(b"{\"k\":");
            write_json_string(key, text);
        }
        Err(_) => {
            base64.resize(key.len() * 4 / 3 + 4, 0);
            let len = STANDARD
                .encode_slice(key, base64)
                .expect("there is room for four thirds");
            text.extend_from_slice(b"{\"k_b64\":\"");
            text.extend_from_slice(&base64[..len]);
            text.push(b'"');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchStats;
    use crate::sink::written::Written;
    use crate::table::KeyTable;
    use crate::table::keys::Seed;
    use crate::time::BatchTime;

    #[test]
    fn no_character_that_is_not_printable_is_written_raw() {
        for (key, expected) in [
            ("a\u{7f}\u{9b}31m", r#"{"k":"a\u007f\u009b31m""#),
            ("\u{202e}\u{2028}", r#"{"k":"\u202e\u2028""#),
            ("\u{e0001}é", r#"{"k":"\udb40\udc01é""#),
            ("\t\n\r\u{8}\"\\", r#"{"k":"\t\n\r\u0008\"\\""#),
            ("plain é 汉", r#"{"k":"plain é 汉""#),
        ] {
            let mut text = Vec::new();
            write_key(key.as_bytes(), &mut text, &mut Vec::new());
            text.push(b'}');
            let text = String::from_utf8(text).unwrap();
            assert_eq!(text, format!("{expected}}}"));
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["k"], key);
        }
        // Every character there is comes back, and nothing that is written could steer a terminal.
        let all: String = (0..=u32::from(char::MAX))
            .filter_map(char::from_u32)
            .collect();
        let mut text = Vec::new();
        write_json_string(&all, &mut text);
        let text = String::from_utf8(text).unwrap();
        let harmful = [
            '\u{7f}', '\u{200b}', '\u{202e}', '\u{2066}', '\u{2028}', '\u{feff}',
        ];
        assert!(!text.contains(|c: char| c.is_control() || harmful.contains(&c)));
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), all);
    }

    #[test]
    fn values_are_numbers_null_or_strings() {
        for (value, expected) in [
            (2.5, "2.5"),
            (1e300, "1e+300"),
            (f64::NAN, "null"),
            (f64::INFINITY, "null"),
            (f64::NEG_INFINITY, "null"),
        ] {
            let mut text = Vec::new();
            write_value(&value, 0, &mut text, &mut Vec::new());
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
        let mut text = Vec::new();
        write_value(&true, 0, &mut text, &mut Vec::new());
        assert_eq!(text, b"\"True\"");
    }

    #[test]
    fn every_line_is_json_and_keys_come_back() {
        let mut table = KeyTable::new(Seed::random());
        let keys: [&[u8]; 6] = [
            b"the",
            b"",
            b"\"\\\n\x1b",
            b"\xff\x00",
            "\u{202e}é".as_bytes(),
            b"</a>",
        ];
        for (index, key) in keys.iter().enumerate() {
            table.add(key, 10 - index as u64, |a, b| a + b);
        }
        let stats = BatchStats {
            batch: 17,
            time: BatchTime::from_millis(1_763_830_345_000),
            tokens: 45,
            keys: 6,
            other_records: 3,
            ..BatchStats::default()
        };
        let written = Written::default();
        let mut sink = Json::new(written.clone(), 5);
        sink.deliver(&Batch::new(&table, &stats)).unwrap();
        let text = written.text();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["time"], "2025-11-22T16:52:25.000Z");
        assert_eq!(value["approx"], true);
        assert_eq!(value["error_max"], 0);
        assert_eq!(value["other"]["keys"], 1);
        assert_eq!(value["other"]["n"], 5);
        let shown: Vec<Vec<u8>> = value["top"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| match row.get("k") {
                Some(key) => key.as_str().unwrap().as_bytes().to_vec(),
                None => STANDARD.decode(row["k_b64"].as_str().unwrap()).unwrap(),
            })
            .collect();
        assert_eq!(shown, keys[..5]);
        assert!(text.ends_with("}\n") && text.matches('\n').count() == 1);
    }
}
