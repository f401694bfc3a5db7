//! What the rivals of this folder share: cutting text in two, splitting it, writing counts.
//!
//! A token is what stands between two separators, a blank or a line end; it may be empty.

use std::io::{self, BufWriter, Write};

/// Calls `each` with every token of whole lines.
pub fn tokens<'a>(text: &'a [u8], mut each: impl FnMut(&'a [u8])) {
    let mut start = 0;
    for end in memchr::memchr2_iter(b' ', b'\n', text) {
        each(&text[start..end]);
        start = end + 1;
    }
    if start < text.len() {
        each(&text[start..]);
    }
}

/// Part `index` of `count`: they are of about the same size and together all of `text`, cut behind
/// line ends.
pub fn part(text: &[u8], index: usize, count: usize) -> &[u8] {
    let cut = |at: usize| {
        let at = text.len() * at / count;
        match memchr::memchr(b'\n', &text[at..]) {
            Some(end) if at > 0 => at + end + 1,
            Some(_) => 0,
            None => text.len(),
        }
    };
    let end = if index + 1 == count {
        text.len()
    } else {
        cut(index + 1)
    };
    &text[cut(index)..end]
}

/// Writes `count word` lines to standard output, in whatever order they come.
pub fn write_counts<'a>(counts: impl IntoIterator<Item = (&'a [u8], u64)>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    for (word, count) in counts {
        write!(out, "{count} ")?;
        out.write_all(word)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}
