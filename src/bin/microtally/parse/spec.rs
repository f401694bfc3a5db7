//! Keys, values and aggregates as people type them.
//!
//! Promise: parsing never panics, and an error says what may be written instead, without a character that could
//! steer a terminal. Must not know: how a key is found in a line, whether a pattern is a regular expression, clap.
//! //!
//! ```text
//! key   = part { "," part }                  joined by a tab, see `join`
//! part  = "line" | "word" | "field:" N | "csv:" N | "json:" pointer | "re:" pattern
//! N     = 1, 2, 3 … as $1 in awk and cut -f1; of fields also -1, the last, -2 …
//! ```
//!
//! A comma separates parts where a part begins behind it, so pointers and patterns may have commas. Behind a pattern
//! a part begins with its kind and a colon; a pattern that has such a text itself writes its comma `[,]`.

use microtally::extract::{Part, Place};

/// What is counted: what one `-k` says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeySpec {
    /// At least one.
    pub parts: Vec<Part>,
}

/// What is made of the records of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Aggregate {
    /// How many there are.
    #[default]
    Count,
    /// The sum of their values.
    Sum,
    /// The least value.
    Min,
    /// The greatest value.
    Max,
    /// The mean value.
    Mean,
}

/// Every aggregate with its name.
const AGGREGATES: [(&str, Aggregate); 5] = [
    ("count", Aggregate::Count),
    ("sum", Aggregate::Sum),
    ("min", Aggregate::Min),
    ("max", Aggregate::Max),
    ("mean", Aggregate::Mean),
];

const KEYS_ALLOWED: &str = "allowed are line, word, field:N, csv:N, json:/POINTER and re:PATTERN, several with commas between them";

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
pub(crate) fn value(text: &str) -> Result<Part, String> {
    if let Some(meant) = meant(text).filter(|meant| !meant.contains(',')) {
        return Err(format!("did you mean -v {meant}? {VALUES_ALLOWED}"));
    }
    match part(text) {
        Ok(Part::Line | Part::Word) => Err(VALUES_ALLOWED.into()),
        Err(reason) if reason == KEYS_ALLOWED => Err(VALUES_ALLOWED.into()),
        part => part,
    }
}

/// `-a`.
///
/// # Errors
///
/// What is allowed.
pub(crate) fn aggregate(text: &str) -> Result<Aggregate, String> {
    let found = AGGREGATES.iter().find(|(name, _)| *name == text);
    let allowed = || {
        format!(
            "allowed are {}",
            AGGREGATES.map(|(name, _)| name).join(", ")
        )
    };
    found.map(|(_, aggregate)| *aggregate).ok_or_else(allowed)
}

impl Aggregate {
    /// What is typed for it.
    pub(crate) fn name(self) -> &'static str {
        let named = AGGREGATES.iter().find(|(_, aggregate)| *aggregate == self);
        named.map_or("count", |(name, _)| name)
    }
}

impl From<Part> for KeySpec {
    fn from(part: Part) -> Self {
        KeySpec { parts: vec![part] }
    }
}

/// What other programs call a field, as it is written here: `7` and `1,3` as for `cut`, `$7` and `$NF` as for `awk`,
/// `.user.id` as for `jq`. `None` for what is nothing of that.
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

/// Whether `text` is written as a key of one part or more that nobody could take for anything else: it begins with a
/// kind and a colon.
pub(crate) fn is_like_a_key(text: &str) -> bool {
    begins_with_kind(text) && key(text).is_ok()
}

/// `text` as it can be shown on a terminal: what is not printable is escaped.
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

/// The texts of a key's parts.
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

/// Whether a part begins here: its kind, and what has to stand behind it.
fn begins_part(text: &str) -> bool {
    let first = text.split(',').next().unwrap_or_default();
    matches!(first, "line" | "word") || begins_with_kind(text)
}

fn begins_with_kind(text: &str) -> bool {
    let kinds = ["field:", "csv:", "json:", "re:"];
    kinds.iter().any(|kind| text.starts_with(kind))
}

fn part(text: &str) -> Result<Part, String> {
    match text.split_once(':') {
        None if text == "line" => Ok(Part::Line),
        None if text == "word" => Ok(Part::Word),
        Some(("field", number)) => field(number).map(Part::Field),
        Some(("csv", number)) => column(number).map(Part::Csv),
        Some(("json", pointer)) => names(pointer).map(Part::Json),
        Some(("re", "")) => Err("a pattern is missing: re:status=(\\d+), for example".into()),
        Some(("re", pattern)) => Ok(Part::Regex(pattern.into())),
        _ => Err(KEYS_ALLOWED.into()),
    }
}

fn field(number: &str) -> Result<Place, String> {
    let wrong = || {
        let number = shown(number);
        format!("'{number}' is no number of a field: field:1 is the first, field:-1 the last")
    };
    let (digits, from_end) = match number.strip_prefix('-') {
        Some(digits) => (digits, true),
        None => (number, false),
    };
    match whole(digits).ok_or_else(wrong)? {
        0 => Err("fields are numbered from 1; for the whole line write line".into()),
        count if from_end => Ok(Place::FromEnd(count - 1)),
        count => Ok(Place::FromStart(count - 1)),
    }
}

fn column(number: &str) -> Result<usize, String> {
    match whole(number) {
        None => Err(format!(
            "'{}' is no number of a column: csv:1 is the first",
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

/// The names on the way of a JSON pointer (RFC 6901).
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

    fn parts(text: &str) -> Vec<Part> {
        key(text)
            .unwrap_or_else(|reason| panic!("{text}: {reason}"))
            .parts
    }

    fn json(names: &[&str]) -> Part {
        Part::Json(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn keys_mean_what_they_say() {
        let first = Part::Field(Place::FromStart(0));
        let last = Part::Field(Place::FromEnd(0));
        for (text, expected) in [
            ("line", vec![Part::Line]),
            ("word", vec![Part::Word]),
            ("field:1", vec![first.clone()]),
            ("field:-1", vec![last.clone()]),
            ("field:07", vec![Part::Field(Place::FromStart(6))]),
            ("csv:3", vec![Part::Csv(2)]),
            ("json:", vec![json(&[])]),
            ("json:/", vec![json(&[""])]),
            ("json:/a/b~1c~0/0", vec![json(&["a", "b/c~", "0"])]),
            ("json:/a~01", vec![json(&["a~1"])]),
            ("json:/a,b,field:1", vec![json(&["a,b"]), first.clone()]),
            (
                "re:a{1,2},field:1",
                vec![Part::Regex("a{1,2}".into()), first.clone()],
            ),
            (
                "re:s=(\\d),field:-1,re:b,csv:1",
                vec![
                    Part::Regex("s=(\\d)".into()),
                    last.clone(),
                    Part::Regex("b".into()),
                    Part::Csv(0),
                ],
            ),
            (
                "re:x,json:/a,b",
                vec![Part::Regex("x".into()), json(&["a,b"])],
            ),
            // Only with a colon: words of a pattern are words of a pattern.
            ("re:a,line", vec![Part::Regex("a,line".into())]),
            ("re:a, field:1", vec![Part::Regex("a, field:1".into())]),
            ("re:a[,]field:1", vec![Part::Regex("a[,]field:1".into())]),
            ("re:(?P<key>:)", vec![Part::Regex("(?P<key>:)".into())]),
            ("field:1,field:-1", vec![first.clone(), last]),
            (
                "line,csv:1,re:,",
                vec![Part::Line, Part::Csv(0), Part::Regex(",".into())],
            ),
            ("json:/a,lines,line", vec![json(&["a,lines"]), Part::Line]),
        ] {
            assert_eq!(parts(text), expected, "{text}");
        }
        assert_eq!(value("field:10"), Ok(Part::Field(Place::FromStart(9))));
        for (name, found) in AGGREGATES {
            assert_eq!(aggregate(name), Ok(found));
            assert_eq!(found.name(), name);
        }
    }

    #[test]
    fn what_is_wrong_is_said_and_what_is_allowed() {
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
            ("field:\x1b[2J", "'\\u{1b}[2J' is no number of a field"),
            ("csv:\u{9b}\n", "'\\u{9b}\\n' is no number of a column"),
            ("json:\u{202e}", "begins with a slash: json:/\\u{202e}"),
            ("words", KEYS_ALLOWED),
            ("Field:1", KEYS_ALLOWED),
            ("line:1", KEYS_ALLOWED),
            ("field:1,", "'1,' is no number of a field"),
            ("field:", "'' is no number of a field: field:1 is the first"),
            ("field:x", "'x' is no number of a field"),
            ("field:+1", "'+1' is no number of a field"),
            ("field:99999999999999999999", "no number of a field"),
            ("field:0", "numbered from 1; for the whole line write line"),
            ("field:-0", "numbered from 1"),
            ("csv:0", "numbered from 1"),
            (
                "csv:-1",
                "'-1' is no number of a column: csv:1 is the first",
            ),
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
        let reason = aggregate("avg").expect_err("no aggregate");
        assert_eq!(reason, "allowed are count, sum, min, max, mean");
    }

    proptest! {
        #[test]
        fn parsing_never_panics(
            text in prop_oneof![any::<String>(), "(line|word|field:|csv:|json:|re:|,|/|~|-|[0-9]|é){0,9}"],
        ) {
            if let Ok(spec) = key(&text) {
                prop_assert!(!spec.parts.is_empty());
            }
            let _ = (value(&text), aggregate(&text));
        }

        /// Names, escaped as RFC 6901 says, come back.
        #[test]
        fn pointers_come_back(names in proptest::collection::vec("[a~/0-1,:é]{0,5}", 1..5)) {
            let escape = |name: &String| format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            let pointer: String = names.iter().map(escape).collect();
            prop_assert_eq!(super::names(&pointer), Ok(names));
        }
    }
}
