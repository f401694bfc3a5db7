//! A column of a line of CSV, quoted as in RFC 4180.
//!
//! Promise: the text of the column without its quotes, and with doubled quotes made single. A line
//! is a record: a quoted column that is still open at the end of the line ends there, and
//! [`Column::take_open`] reports it. An empty line has no columns. Must not know: `find`, `json`,
//! `number`, `skipped`.

use csv_core::{ReadFieldResult, Reader, ReaderBuilder, Terminator};

/// Finds a column. Each thread needs its own.
#[derive(Debug)]
pub struct Column {
    /// From 0.
    number: usize,
    separator: u8,
    reader: Reader,
    /// Whether the last line ended inside quotes.
    is_open: bool,
}

/// Builds a new reader: a cloned one (csv-core 0.1.13) has lost its number of byte classes, and
/// `reset` puts it into a wrong state.
impl Clone for Column {
    fn clone(&self) -> Self {
        Column::new(self.number, self.separator)
    }
}

/// Bytes of a column that are copied at once.
const PIECE_BYTES: usize = 256;

impl Column {
    /// Finds column `number`, from 0, in lines whose columns are separated by `separator`.
    pub fn new(number: usize, separator: u8) -> Self {
        Column {
            number,
            separator,
            // A line contains no line feed; a carriage return may be part of a column.
            reader: ReaderBuilder::new()
                .delimiter(separator)
                .terminator(Terminator::Any(b'\n'))
                .build(),
            is_open: false,
        }
    }

    /// Appends the column of `line`, which has no line end, to `out`. Returns `false` and leaves
    /// `out` unchanged if there is no such column.
    pub fn find(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        self.is_open = false;
        if line.is_empty() {
            return false;
        }
        // A line without quotes only needs to be split.
        if memchr::memchr(b'"', line).is_none() {
            let column = nth(line, self.number, self.separator);
            out.extend_from_slice(column.unwrap_or_default());
            return column.is_some();
        }
        self.read(line, out)
    }

    /// Returns `true` if the last line of [`find`](Self::find) ended inside a quoted column: the
    /// record may continue in the next line. A second call returns `false`.
    pub fn take_open(&mut self) -> bool {
        std::mem::take(&mut self.is_open)
    }

    #[inline(never)]
    fn read(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        self.reader.reset();
        let (mut rest, mut column) = (line, 0);
        let mut piece = [0; PIECE_BYTES];
        while !rest.is_empty() {
            let (result, read, written) = self.reader.read_field(rest, &mut piece);
            rest = &rest[read..];
            if column == self.number {
                out.extend_from_slice(&piece[..written]);
            }
            match result {
                ReadFieldResult::InputEmpty | ReadFieldResult::OutputFull => {}
                ReadFieldResult::Field { .. } | ReadFieldResult::End => {
                    if column == self.number {
                        self.is_open = ends_open(rest, self.separator);
                        return true;
                    }
                    column += 1;
                }
            }
        }
        // A line feed ends the open column, unless that is in quotes: then it is part of the
        // column.
        let (result, ..) = self.reader.read_field(b"\n", &mut piece);
        self.is_open = matches!(
            result,
            ReadFieldResult::InputEmpty | ReadFieldResult::OutputFull
        );
        column == self.number
    }
}

/// Returns `true` if `rest`, which begins with a column, ends inside a quoted one. Jumps from quote
/// to quote, which is several times faster than reading the columns.
fn ends_open(rest: &[u8], separator: u8) -> bool {
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'"', &rest[at..]) {
        at += found;
        let is_first = at == 0 || rest[at - 1] == separator;
        at += 1;
        if !is_first {
            // Inside an unquoted column, or after a closing quote.
            continue;
        }
        loop {
            match memchr::memchr(b'"', &rest[at..]) {
                None => return true,
                Some(found) => at += found + 1,
            }
            if rest.get(at) != Some(&b'"') {
                break;
            }
            at += 1;
        }
    }
    false
}

/// Returns part `number`, from 0, of a line split at `separator`.
pub(super) fn nth(line: &[u8], number: usize, separator: u8) -> Option<&[u8]> {
    let mut separators = memchr::memchr_iter(separator, line);
    let start = match number.checked_sub(1) {
        None => 0,
        Some(before) => separators.nth(before)? + 1,
    };
    let end = separators.next().unwrap_or(line.len());
    Some(&line[start..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 4180, byte by byte. Where it is silent: a quote inside an unquoted column is a quote,
    /// and what follows a closing quote is added to the column.
    fn columns(line: &[u8], separator: u8) -> (Vec<Vec<u8>>, bool) {
        let mut columns = vec![Vec::new()];
        let (mut quoted, mut at) = (false, 0);
        let mut is_start = true;
        while at < line.len() {
            let byte = line[at];
            at += 1;
            let column = columns.last_mut().expect("there is one from the beginning");
            match byte {
                b'"' if quoted && line.get(at) == Some(&b'"') => {
                    column.push(b'"');
                    at += 1;
                }
                b'"' if quoted => quoted = false,
                b'"' if is_start => quoted = true,
                _ if byte == separator && !quoted => {
                    columns.push(Vec::new());
                    is_start = true;
                    continue;
                }
                _ => column.push(byte),
            }
            is_start = false;
        }
        (columns, quoted)
    }

    fn find(number: usize, separator: u8, line: &[u8]) -> Option<Vec<u8>> {
        let mut out = b"x".to_vec();
        let mut column = Column::new(number, separator);
        // Earlier lines do not matter.
        column.find(b"a,\"b", &mut Vec::new());
        let mut column = column.clone();
        let is_there = column.find(line, &mut out);
        assert!(is_there || out == b"x");
        is_there.then(|| out[1..].to_vec())
    }

    #[test]
    fn quotes_are_taken_off() {
        for (line, expected) in [
            ("a,b,c", Some("b")),
            ("a,\"b\",c", Some("b")),
            ("a,\"b,\"\"c\"\"\",d", Some("b,\"c\"")),
            ("\"a,\",b", Some("b")),
            ("a,\"\"", Some("")),
            ("a,", Some("")),
            ("a,b\"c\"", Some("b\"c\"")),
            ("a,\"b\"c,d", Some("bc")),
            ("a,\"b,c", Some("b,c")),
            ("\"a,b", None),
            ("a", None),
            ("\"\"", None),
            ("", None),
        ] {
            let expected = expected.map(|text| text.as_bytes().to_vec());
            assert_eq!(find(1, b',', line.as_bytes()), expected, "{line}");
        }
        let long = [b"a,\"", &b"x\"\"".repeat(5000)[..], b"\",b"].concat();
        assert_eq!(
            find(1, b',', &long).map(|column| column.len()),
            Some(10_000)
        );
        assert_eq!(find(2, b',', &long), Some(b"b".to_vec()));
    }

    #[test]
    fn a_line_that_ends_inside_quotes_is_reported() {
        for (line, expected) in [
            ("a,\"b", true),
            ("\"a,b", true),
            ("a,\"b\"\",c", true),
            ("a,b,\"c", true),
            ("a,b,\"c\",\"", true),
            ("\"\"\"", true),
            ("\"", true),
            ("a,\"b\"", false),
            ("a,\"b\"\"\"", false),
            // A quote inside an unquoted column is a quote.
            ("a,b\"c", false),
            ("a,b,c\"", false),
            ("a,\"b\"c,\"d\"", false),
            ("a,b", false),
            ("", false),
        ] {
            for number in 0..4 {
                let mut column = Column::new(number, b',');
                column.find(line.as_bytes(), &mut Vec::new());
                assert_eq!(column.take_open(), expected, "{line}, column {number}");
                // The next line starts afresh.
                column.find(b"x,\"y\"", &mut Vec::new());
                assert!(!column.take_open());
            }
        }
    }

    #[test]
    fn a_carriage_return_is_a_byte_of_its_column() {
        assert_eq!(find(1, b',', b"\"a\",b\rc"), Some(b"b\rc".to_vec()));
        assert_eq!(find(1, b',', b"x\ry,\"z\""), Some(b"z".to_vec()));
        assert_eq!(find(0, b',', b"\"a\rb\",1"), Some(b"a\rb".to_vec()));
    }

    proptest! {
        #[test]
        fn columns_are_those_of_a_naive_reader(
            line in prop_oneof![
                proptest::collection::vec(prop_oneof![Just(b'"'), Just(b','), Just(b';'), Just(b'a'), Just(b' ')], 0..20),
                proptest::collection::vec(any::<u8>(), 0..40),
            ],
            separator in prop_oneof![Just(b','), Just(b';'), Just(b'\t'), Just(b'|')],
        ) {
            let mut line = line;
            line.retain(|byte| *byte != b'\n');
            let (columns, is_open) = if line.is_empty() { (Vec::new(), false) } else { columns(&line, separator) };
            for number in 0..columns.len() + 2 {
                let mut column = Column::new(number, separator);
                column.find(&line, &mut Vec::new());
                prop_assert_eq!(column.take_open(), is_open, "{:?}", line.escape_ascii().to_string());
                prop_assert_eq!(find(number, separator, &line), columns.get(number).cloned(), "{:?}", line.escape_ascii().to_string());
            }
        }
    }
}
