//! The value at a JSON pointer, in one document per line.
//!
//! Promise: the value is what `serde_json::Value::pointer` returns for the same line; a line that
//! is not JSON from its first byte to its last has no value. A missing value has one of three
//! reasons. No document is built: values off the path are skipped, and nothing is allocated except
//! for strings with escapes, deep nesting and damaged documents. Must not know: `csv`, `number`,
//! `skipped`.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::extract::find::Missing;

/// A JSON pointer (RFC 6901).
#[derive(Clone, Debug)]
pub struct Pointer {
    names: Vec<PointerStep>,
}

/// One step down: into an object by name, into an array by number.
#[derive(Clone, Debug)]
struct PointerStep {
    name: String,
    /// RFC 6901: digits without a leading zero.
    index: Option<usize>,
}

impl Pointer {
    /// Returns the pointer with these unescaped names, outermost first. Without names it is the
    /// whole document.
    pub fn new(names: &[String]) -> Self {
        let step = |name: &String| {
            let is_index = name == "0"
                || !name.starts_with('0') && name.bytes().all(|byte| byte.is_ascii_digit());
            PointerStep {
                name: name.clone(),
                index: name.parse().ok().filter(|_| is_index),
            }
        };
        Pointer {
            names: names.iter().map(step).collect(),
        }
    }

    /// Appends the value to `out`: the text of a string; numbers, booleans and null as they are
    /// written; arrays and objects without white space.
    ///
    /// # Errors
    ///
    /// Why the value is missing; `out` is unchanged.
    pub fn find(&self, line: &[u8], out: &mut Vec<u8>) -> Result<(), Missing> {
        // The parser would allocate an error for every line that is something else altogether.
        let begins = line.trim_ascii_start().first();
        if !self.names.is_empty() && !matches!(begins, Some(b'{' | b'[')) {
            return Err(without_parts(line));
        }
        let mut document = serde_json::Deserializer::from_slice(line);
        let walk = Walk { steps: &self.names };
        match walk.deserialize(&mut document) {
            Ok(_) if document.end().is_err() => Err(Missing::NotJson),
            Ok(Some(value)) => write(value, out),
            Ok(None) => Err(Missing::Absent),
            Err(error) => Err(damage(line, &error)),
        }
    }
}

/// The reason for a line that is not an object or an array.
#[cold]
fn without_parts(line: &[u8]) -> Missing {
    // JSON has fewer white space characters than ASCII.
    let is_blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let start = line.iter().take_while(is_blank).count();
    let end = line.iter().rev().take_while(is_blank).count();
    let text = line.get(start..line.len() - end).unwrap_or_default();
    let is_json = match text.first() {
        Some(b't' | b'f' | b'n') => matches!(text, b"true" | b"false" | b"null"),
        // Many lines begin with a time or an address, and the parser would allocate an error for
        // each.
        Some(b'-' | b'0'..=b'9') => {
            let of_numbers =
                |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
            text.iter().all(of_numbers) && is_json(text)
        }
        Some(b'"') => is_json(text),
        _ => false,
    };
    if is_json {
        Missing::Absent
    } else {
        Missing::NotJson
    }
}

/// The reason for a line that the parser refused with `error`.
#[cold]
fn damage(line: &[u8], error: &serde_json::Error) -> Missing {
    if !is_json(line) {
        return Missing::NotJson;
    }
    // The document is valid; a string or a number on the path cannot be converted.
    let of_texts = ["surrogate", "hex escape", "unicode code point"];
    let error = error.to_string();
    if std::str::from_utf8(line).is_err() || of_texts.iter().any(|part| error.contains(part)) {
        Missing::NotText
    } else {
        Missing::Absent
    }
}

/// Returns `true` if `line` has the form of JSON, whatever its strings and numbers stand for.
fn is_json(line: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

/// Appends the value of `raw`, which is valid JSON.
fn write(raw: &RawValue, out: &mut Vec<u8>) -> Result<(), Missing> {
    let raw = raw.get();
    match raw.as_bytes() {
        [b'"', text @ .., b'"'] => {
            if memchr::memchr(b'\\', text).is_none() {
                out.extend_from_slice(text);
                return Ok(());
            }
            match serde_json::from_str::<String>(raw) {
                Ok(text) => out.extend_from_slice(text.as_bytes()),
                // Half of a surrogate pair: valid JSON, but not text.
                Err(_) => return Err(Missing::NotText),
            }
        }
        [b'[' | b'{', ..] => write_compact(raw.as_bytes(), out),
        scalar => out.extend_from_slice(scalar),
    }
    Ok(())
}

/// Appends `json` without the white space outside strings.
fn write_compact(json: &[u8], out: &mut Vec<u8>) {
    let (mut in_string, mut is_escaped) = (false, false);
    for &byte in json {
        if in_string {
            in_string = byte != b'"' || is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
        } else if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            continue;
        } else {
            in_string = byte == b'"';
        }
        out.push(byte);
    }
}

/// Visits scalars: the path goes on, but they have no members.
macro_rules! scalars {
    ($($visit:ident: $scalar:ty),*) => {
        $(fn $visit<E>(self, _: $scalar) -> Result<Self::Value, E> {
            Ok(None)
        })*
    };
}

/// The rest of the path, from a value on.
#[derive(Clone, Copy)]
struct Walk<'p> {
    steps: &'p [PointerStep],
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        if self.steps.is_empty() {
            serde::Deserialize::deserialize(from).map(Some)
        } else {
            from.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((step, steps)) = self.steps.split_first() else {
            return Err(A::Error::custom("the path has ended"));
        };
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(Is(&step.name))? {
            if is_it {
                // The last of equal names counts.
                found = map.next_value_seed(Walk { steps })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let Some((step, steps)) = self.steps.split_first() else {
            return Err(A::Error::custom("the path has ended"));
        };
        let mut found = None;
        let mut index = 0;
        loop {
            if step.index == Some(index) {
                match items.next_element_seed(Walk { steps })? {
                    Some(value) => found = value,
                    None => return Ok(found),
                }
            } else if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            index += 1;
        }
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    scalars! { visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str }
}

/// Compares a name with this one.
struct Is<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn find(names: &[&str], line: &[u8]) -> Option<String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut out = b"before ".to_vec();
        let is_there = Pointer::new(&names).find(line, &mut out).is_ok();
        let text = String::from_utf8(out).expect("UTF-8");
        let text = text.strip_prefix("before ").expect("it is only added to");
        assert!(is_there || text.is_empty());
        is_there.then(|| text.to_owned())
    }

    #[test]
    fn values_are_found_as_they_are_written() {
        for (names, line, expected) in [
            (&["a"][..], r#"{"a":"x"}"#, Some("x")),
            (
                &["a"],
                r#" { "b" : [1, {"a": 2}] , "a" : 1.50 } "#,
                Some("1.50"),
            ),
            (
                &["a"],
                r#"{"a":12345678901234567890123}"#,
                Some("12345678901234567890123"),
            ),
            (&["a"], r#"{"a":null}"#, Some("null")),
            (
                &["a"],
                r#"{"a":"tab\tquote\"\u00e9\ud83d\ude00"}"#,
                Some("tab\tquote\"é😀"),
            ),
            (&["a"], r#"{"a":""}"#, Some("")),
            (
                &["a"],
                r#"{"a":[ 1, "x , \" y" ,{} ]}"#,
                Some(r#"[1,"x , \" y",{}]"#),
            ),
            (&["a", "b", "1"], r#"{"a":{"b":[0,true]}}"#, Some("true")),
            (&["a"], r#"{"a":1,"a":2}"#, Some("2")),
            (&["a", "b"], r#"{"a":{"b":1},"a":3}"#, None),
            (&["é\""], r#"{"\u00e9\"":1}"#, Some("1")),
            (&[], r#" {"a" : 1}"#, Some(r#"{"a":1}"#)),
            (&["0"], "[1]", Some("1")),
            (&["00"], "[1]", None),
            (&["1"], "[1]", None),
            (&["0"], r#"{"0":1}"#, Some("1")),
            (&["a"], r#"{"b":1}"#, None),
            (&["a", "b"], r#"{"a":"b"}"#, None),
            (&["a"], "", None),
            (&["a"], "{", None),
            (&["a"], r#"{"a":1"#, None),
            (&["a"], r#"{"a":1} x"#, None),
            (&["a"], r#"{"a":1,}"#, None),
            (&["a"], r#"{"a":1}{"a":2}"#, None),
            (&["a"], r#"{"a":"\ud800"}"#, None),
            (&["a"], "a=1", None),
        ] {
            assert_eq!(find(names, line.as_bytes()).as_deref(), expected, "{line}");
        }
        assert_eq!(find(&["a"], b"{\"a\":\"\xff\"}"), None);
        let deep = [&b"{\"a\":"[..], &b"[".repeat(100_000)].concat();
        assert_eq!(find(&["a", "0"], &deep), None);
        assert_eq!(find(&["b"], &deep), None);
    }

    #[test]
    fn what_is_missing_has_one_of_three_reasons() {
        use Missing::{Absent, NotJson, NotText};
        for (line, expected) in [
            (&br#"{"b":1}"#[..], Absent),
            (b"{}", Absent),
            (b"[1]", Absent),
            (b"17", Absent),
            (b" \"text\" ", Absent),
            (b"null", Absent),
            (br#"{"a":"b"}"#, Absent),
            (br#"{"a":1e400}"#, Absent),
            (b"not json", NotJson),
            (b"", NotJson),
            (b"  ", NotJson),
            (b"2026-11-22 16:52", NotJson),
            (b"1.2.3", NotJson),
            (b"1\x0c", NotJson),
            (b"\x0cnull", NotJson),
            (b"\t-1.5e3\r", Absent),
            (b"nullx", NotJson),
            (b"\"open", NotJson),
            (br#"{"a":{"b":1}"#, NotJson),
            (br#"{"a":{"b":1}} x"#, NotJson),
            (br#"{"c":1} x"#, NotJson),
            (br#"{"a":{"b":"\ud800"}}"#, NotText),
            (br#"{"a":{"b":"x\ud83dy"}}"#, NotText),
            (br#"{"\ud800":1,"a":{"b":1}}"#, NotText),
            (b"{\"a\":{\"b\":\"\xff\"}}", NotText),
        ] {
            let pointer = Pointer::new(&["a".to_owned(), "b".to_owned()]);
            let mut out = b"before".to_vec();
            let found = pointer.find(line, &mut out);
            let line = line.escape_ascii().to_string();
            assert_eq!(found, Err(expected), "{line}");
            assert_eq!(out, b"before", "{line}");
        }
        // Values off the path do not matter.
        let line = br#"{"x":"\ud800","a":{"b":1}}"#;
        let pointer = Pointer::new(&["a".to_owned(), "b".to_owned()]);
        assert_eq!(pointer.find(line, &mut Vec::new()), Ok(()));
    }

    fn json() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-c/~\" \\\\é\u{1}]{0,5}".prop_map(Value::from),
        ];
        scalar.prop_recursive(4, 30, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec(("[a-c0-2]{0,2}", inner), 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn text(value: &Value) -> String {
        match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_document_has(
            value in json(),
            names in proptest::collection::vec("[a-c0-2]{0,2}", 0..4),
            is_pretty in any::<bool>(),
        ) {
            let pointer: String = names.iter().map(|name| format!("/{name}")).collect();
            let line = if is_pretty { format!("{value:#}") } else { value.to_string() };
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            prop_assert_eq!(find(&names, line.as_bytes()), value.pointer(&pointer).map(text));
        }

        /// Damaged documents: there is a value if and only if `serde_json` finds one.
        #[test]
        fn damage_is_seen(value in json(), at in any::<prop::sample::Index>(), byte in prop_oneof![any::<u8>(), Just(b'"'), Just(b'}')]) {
            let mut line = value.to_string().into_bytes();
            let at = at.index(line.len());
            line[at] = byte;
            // Numbers too large for a float are skipped here and refused there.
            let expected = serde_json::from_slice::<Value>(&line).ok();
            let found = find(&[], &line);
            if let Some(value) = expected {
                // A number may be written in more than one way.
                prop_assert_eq!(found.is_some(), true);
                if let Value::String(text) = value {
                    prop_assert_eq!(found, Some(text));
                }
            }
        }

        #[test]
        fn nothing_panics(line in any::<Vec<u8>>(), json in "[\\[\\]{}\",:0-9ae\\\\ ]{0,30}") {
            for names in [&[][..], &["a"], &["0"], &["a", "0"]] {
                let _ = (find(names, json.as_bytes()), Pointer::new(&[]).find(&line, &mut Vec::new()));
            }
        }
    }
}
