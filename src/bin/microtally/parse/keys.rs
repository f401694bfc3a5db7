//! Keys and values as people type them.
//!
//! Promise: parsing never panics, and an error says what to write instead, without a character that
//! could control a terminal. Must not know: `clap`, `options`, `units`, `counting`.
//!
//! ```text
//! key   = part { "," part }                  joined by a tab
//! part  = "line" | "word" | "field:" N | "csv:" N | "json:" pointer | "re:" pattern
//! N     = 1, 2, 3 … as $1 in awk and cut -f1; for fields also -1, the last, -2 …
//! ```
//!
//! A comma separates parts only if a part begins after it, so pointers and patterns may contain
//! commas. After a pattern, a part begins with its kind and a colon; a pattern that contains such a
//! text writes the comma as `[,]`.

use microtally::extract::{FieldIndex, Selector};

/// The key of one `-k`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeySpec {
    /// At least one.
    pub parts: Vec<Selector>,
}

const KEYS_ALLOWED: &str = "allowed are line, word, field:N, csv:N, json:/POINTER and re:PATTERN, several separated by commas";

const VALUES_ALLOWED: &str = "a value is one of field:N, csv:N, json:/POINTER and re:PATTERN";

/// `-k`.
///
/// # Errors
///
/// What is wrong, and what is allowed.
pub(crate) fn key(text: &str) -> Result<KeySpec, String> {
    if let Some(meant) = meant(text) {
        return Err(format!("did you mean -k {meant}? {KEYS_ALLOWED}"));
    }
    let parts = split(text).into_iter().map(part);
    Ok(KeySpec {
        parts: parts.collect::<Result<_, _>>()?,
    })
}

/// `-v`.
///
/// # Errors
///
/// What is wrong, and what is allowed.
pub(crate) fn value(text: &str) -> Result<Selector, String> {
    if let Some(meant) = meant(text).filter(|meant| !meant.contains(',')) {
        return Err(format!("did you mean -v {meant}? {VALUES_ALLOWED}"));
    }
    match part(text) {
        Ok(Selector::Line | Selector::Word) => Err(VALUES_ALLOWED.into()),
        Err(reason) if reason == KEYS_ALLOWED => Err(VALUES_ALLOWED.into()),
        part => part,
    }
}

impl From<Selector> for KeySpec {
    fn from(part: Selector) -> Self {
        KeySpec { parts: vec![part] }
    }
}

/// Translates keys of other programs: `7` and `1,3` of `cut`, `$7` and `$NF` of `awk`, `.user.id`
/// of `jq`. Returns `None` for anything else.
pub(crate) fn meant(text: &str) -> Option<String> {
    let field = |text: &str| match text.strip_prefix('$') {
        Some("NF") => Some("field:-1".to_owned()),
        digits => {
            let digits = digits.unwrap_or(text);
            let number = whole(digits)?;
            Some(match number {
                0 => "line".to_owned(),
                _ => format!("field:{number}"),
            })
        }
    };
    let fields: Option<Vec<String>> = text.split(',').map(field).collect();
    if let Some(fields) = fields {
        return Some(fields.join(","));
    }
    let path = text.strip_prefix('$').unwrap_or(text).strip_prefix('.')?;
    let is_name = |name: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        !name.is_empty() && name.bytes().all(is_plain)
    };
    path.split('.')
        .all(is_name)
        .then(|| format!("json:/{}", path.replace('.', "/")))
}

/// Returns `true` if `text` is clearly a key: it is valid and begins with a kind and a colon.
pub(crate) fn is_like_a_key(text: &str) -> bool {
    begins_with_kind(text) && key(text).is_ok()
}

/// Escapes what is not printable, so that `text` can be shown on a terminal.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let is_left_alone = ['\'', '"', '\\'];
    for piece in text.split_inclusive(is_left_alone) {
        let harmless = piece.trim_end_matches(is_left_alone);
        shown.extend(harmless.escape_debug());
        shown.push_str(&piece[harmless.len()..]);
    }
    shown
}

/// Splits a key into the texts of its parts.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let begins = if rest.starts_with("re:") {
            begins_with_kind
        } else {
            begins_part
        };
        let mut commas = rest.match_indices(',').map(|(at, _)| at);
        match commas.find(|at| begins(&rest[at + 1..])) {
            Some(end) => {
                parts.push(&rest[..end]);
                rest = &rest[end + 1..];
            }
            None => {
                parts.push(rest);
                return parts;
            }
        }
    }
}

/// Returns `true` if a part begins here: its kind, and what must follow it.
fn begins_part(text: &str) -> bool {
    let first = text.split(',').next().unwrap_or_default();
    matches!(first, "line" | "word") || begins_with_kind(text)
}

fn begins_with_kind(text: &str) -> bool {
    let kinds = ["field:", "csv:", "json:", "re:"];
    kinds.iter().any(|kind| text.starts_with(kind))
}

fn part(text: &str) -> Result<Selector, String> {
    match text.split_once(':') {
        None if text == "line" => Ok(Selector::Line),
        None if text == "word" => Ok(Selector::Word),
        Some(("field", number)) => field(number).map(Selector::Field),
        Some(("csv", number)) => column(number).map(Selector::Csv),
        Some(("json", pointer)) => names(pointer).map(Selector::Json),
        Some(("re", "")) => Err("a pattern is missing, for example re:status=(\\d+)".into()),
        Some(("re", pattern)) => Ok(Selector::Regex(pattern.into())),
        _ => Err(KEYS_ALLOWED.into()),
    }
}

fn field(number: &str) -> Result<FieldIndex, String> {
    let wrong = || {
        let number = shown(number);
        format!("'{number}' is not a field number: field:1 is the first, field:-1 the last")
    };
    let (digits, from_end) = match number.strip_prefix('-') {
        Some(digits) => (digits, true),
        None => (number, false),
    };
    match whole(digits).ok_or_else(wrong)? {
        0 => Err("fields are numbered from 1; for the whole line write line".into()),
        count if from_end => Ok(FieldIndex::FromEnd(count - 1)),
        count => Ok(FieldIndex::FromStart(count - 1)),
    }
}

fn column(number: &str) -> Result<usize, String> {
    match whole(number) {
        None => Err(format!(
            "'{}' is not a column number: csv:1 is the first",
            shown(number)
        )),
        Some(0) => Err("columns are numbered from 1".into()),
        Some(count) => Ok(count - 1),
    }
}

/// Digits and nothing else.
fn whole(digits: &str) -> Option<usize> {
    let are_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| are_digits)
}

/// Parses the names of a JSON pointer (RFC 6901).
fn names(pointer: &str) -> Result<Vec<String>, String> {
    if pointer.is_empty() {
        return Ok(Vec::new());
    }
    let Some(names) = pointer.strip_prefix('/') else {
        return Err(format!(
            "a JSON pointer begins with a slash: json:/{}",
            shown(pointer)
        ));
    };
    names.split('/').map(name).collect()
}

fn name(escaped: &str) -> Result<String, String> {
    let mut pieces = escaped.split('~');
    let mut name = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (char, rest) = match piece.as_bytes().first() {
            Some(b'0') => ('~', &piece[1..]),
            Some(b'1') => ('/', &piece[1..]),
            _ => return Err("in a JSON pointer ~ is written ~0, and / in a name ~1".into()),
        };
        name.push(char);
        name.push_str(rest);
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(text: &str) -> Vec<Selector> {
        key(text)
            .unwrap_or_else(|reason| panic!("{text}: {reason}"))
            .parts
    }

    fn json(names: &[&str]) -> Selector {
        Selector::Json(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn keys_mean_what_they_say() {
        let first = Selector::Field(FieldIndex::FromStart(0));
        let last = Selector::Field(FieldIndex::FromEnd(0));
        for (text, expected) in [
            ("line", vec![Selector::Line]),
            ("word", vec![Selector::Word]),
            ("field:1", vec![first.clone()]),
            ("field:-1", vec![last.clone()]),
            ("field:07", vec![Selector::Field(FieldIndex::FromStart(6))]),
            ("csv:3", vec![Selector::Csv(2)]),
            ("json:", vec![json(&[])]),
            ("json:/", vec![json(&[""])]),
            ("json:/a/b~1c~0/0", vec![json(&["a", "b/c~", "0"])]),
            ("json:/a~01", vec![json(&["a~1"])]),
            ("json:/a,b,field:1", vec![json(&["a,b"]), first.clone()]),
            (
                "re:a{1,2},field:1",
                vec![Selector::Regex("a{1,2}".into()), first.clone()],
            ),
            (
                "re:s=(\\d),field:-1,re:b,csv:1",
                vec![
                    Selector::Regex("s=(\\d)".into()),
                    last.clone(),
                    Selector::Regex("b".into()),
                    Selector::Csv(0),
                ],
            ),
            (
                "re:x,json:/a,b",
                vec![Selector::Regex("x".into()), json(&["a,b"])],
            ),
            // Without a colon, words after the comma belong to the pattern.
            ("re:a,line", vec![Selector::Regex("a,line".into())]),
            ("re:a, field:1", vec![Selector::Regex("a, field:1".into())]),
            (
                "re:a[,]field:1",
                vec![Selector::Regex("a[,]field:1".into())],
            ),
            ("re:(?P<key>:)", vec![Selector::Regex("(?P<key>:)".into())]),
            ("field:1,field:-1", vec![first.clone(), last]),
            (
                "line,csv:1,re:,",
                vec![
                    Selector::Line,
                    Selector::Csv(0),
                    Selector::Regex(",".into()),
                ],
            ),
            (
                "json:/a,lines,line",
                vec![json(&["a,lines"]), Selector::Line],
            ),
        ] {
            assert_eq!(parts(text), expected, "{text}");
        }
        assert_eq!(
            value("field:10"),
            Ok(Selector::Field(FieldIndex::FromStart(9)))
        );
    }

    #[test]
    fn errors_say_what_is_wrong_and_what_is_allowed() {
        for (text, expected) in [
            ("", KEYS_ALLOWED),
            ("7", "did you mean -k field:7?"),
            ("$7", "did you mean -k field:7?"),
            ("$0", "did you mean -k line?"),
            ("$NF", "did you mean -k field:-1?"),
            ("1,3", "did you mean -k field:1,field:3?"),
            ("$1,$NF", "did you mean -k field:1,field:-1?"),
            (".user.id", "did you mean -k json:/user/id?"),
            ("$.user", "did you mean -k json:/user?"),
            (".", KEYS_ALLOWED),
            ("$", KEYS_ALLOWED),
            ("1-3", KEYS_ALLOWED),
            ("field:\x1b[2J", "'\\u{1b}[2J' is not a field number"),
            ("csv:\u{9b}\n", "'\\u{9b}\\n' is not a column number"),
            ("json:\u{202e}", "begins with a slash: json:/\\u{202e}"),
            ("words", KEYS_ALLOWED),
            ("Field:1", KEYS_ALLOWED),
            ("line:1", KEYS_ALLOWED),
            ("field:1,", "'1,' is not a field number"),
            ("field:", "'' is not a field number: field:1 is the first"),
            ("field:x", "'x' is not a field number"),
            ("field:+1", "'+1' is not a field number"),
            ("field:99999999999999999999", "is not a field number"),
            ("field:0", "numbered from 1; for the whole line write line"),
            ("field:-0", "numbered from 1"),
            ("csv:0", "numbered from 1"),
            ("csv:-1", "'-1' is not a column number: csv:1 is the first"),
            ("json:a/b", "begins with a slash: json:/a/b"),
            ("json:/a~", "~ is written ~0"),
            ("json:/a~2", "~ is written ~0"),
            ("re:", "a pattern is missing"),
        ] {
            let reason = key(text).expect_err(text);
            assert!(reason.contains(expected), "{text}: {reason}");
        }
        let reason = value("7").expect_err("no value");
        assert!(reason.contains("did you mean -v field:7?"), "{reason}");
        for text in ["line", "word", "", "1,2"] {
            assert_eq!(value(text), Err(VALUES_ALLOWED.into()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(
            text in prop_oneof![any::<String>(), "(line|word|field:|csv:|json:|re:|,|/|~|-|[0-9]|é){0,9}"],
        ) {
            if let Ok(spec) = key(&text) {
                prop_assert!(!spec.parts.is_empty());
            }
            let _ = value(&text);
        }

        /// Escaped as in RFC 6901, names come back.
        #[test]
        fn pointers_round_trip(names in proptest::collection::vec("[a~/0-1,:é]{0,5}", 1..5)) {
            let escape = |name: &String| format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            let pointer: String = names.iter().map(escape).collect();
            prop_assert_eq!(super::names(&pointer), Ok(names));
        }
    }
}
