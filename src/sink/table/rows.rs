//! The rows of a table: measured, then written.
//!
//! Promise: columns align. Must not know: `epoch`, `window`, `sys`.

use unicode_width::UnicodeWidthStr;

use super::{
    KEY_COLUMNS_MIN, SHARE_COLUMNS, ShareAndRate, align_right, fit, width_from, write_key,
    write_rate, write_share, write_value,
};
use crate::repr::Repr;

/// Appends one line per row, in columns; `columns` is the width of the terminal, if any.
///
/// Keys and values are escaped. It visits the rows twice, to measure and to write, so that no row
/// is stored.
pub fn write_rows<'a, T: Repr>(
    rows: impl Iterator<Item = (&'a [u8], T, ShareAndRate)> + Clone,
    columns: Option<usize>,
    out: &mut Vec<u8>,
) {
    let write = |value: &T, _: usize, out: &mut Vec<u8>| write_value(value, out);
    write_cells(rows, &mut [0], &[], write, columns, out);
}

/// As [`write_rows`], with a value in as many columns as `widths` has; `write` appends one of them.
/// `names` are above them, if there are some.
pub(super) fn write_cells<'a, T>(
    rows: impl Iterator<Item = (&'a [u8], T, ShareAndRate)> + Clone,
    widths: &mut [usize],
    names: &[String],
    write: impl Fn(&T, usize, &mut Vec<u8>),
    columns: Option<usize>,
    out: &mut Vec<u8>,
) {
    let named = names.iter().map(|name| name.width());
    let named = named.chain(std::iter::repeat(0));
    for (width, name) in widths.iter_mut().zip(named) {
        *width = name;
    }
    let (mut share_width, mut rate_width) = (0, 0);
    let start = out.len();
    for (_, value, figures) in rows.clone() {
        for (index, width) in widths.iter_mut().enumerate() {
            write(&value, index, out);
            *width = width_from(start, out).max(*width);
            out.truncate(start);
        }
        if figures.share.is_some() {
            share_width = SHARE_COLUMNS;
        }
        if let Some(rate) = figures.rate {
            write_rate(rate, out);
            rate_width = width_from(start, out).max(rate_width);
            out.truncate(start);
        }
    }
    let gap = |width: usize| if width > 0 { width + 2 } else { 0 };
    let values: usize = widths.iter().map(|&width| gap(width)).sum();
    let is_narrow = |numbers: usize| columns.is_some_and(|all| all < numbers + KEY_COLUMNS_MIN);
    if is_narrow(values + gap(share_width) + gap(rate_width)) {
        rate_width = 0;
    }
    if is_narrow(values + gap(share_width)) {
        share_width = 0;
    }
    let numbers = values + gap(share_width) + gap(rate_width);
    // Something of each key is shown, however narrow the terminal is.
    let key_columns = columns.map(|columns| columns.saturating_sub(numbers).max(2));
    let finish_cell = |cell: usize, width: usize, out: &mut Vec<u8>| {
        align_right(cell, width, out);
        out.extend_from_slice(b"  ");
    };
    if !names.is_empty() {
        let figures = [("share", share_width), ("rate", rate_width)];
        let figures = figures.into_iter().filter(|(_, width)| *width > 0);
        let named = names.iter().map(String::as_str).zip(widths.iter().copied());
        for (name, width) in named.chain(figures) {
            let cell = out.len();
            out.extend_from_slice(name.as_bytes());
            finish_cell(cell, width, out);
        }
        out.extend_from_slice(b"key\n");
    }
    for (key, value, figures) in rows {
        for (index, &width) in widths.iter().enumerate() {
            let cell = out.len();
            write(&value, index, out);
            finish_cell(cell, width, out);
        }
        if share_width > 0 {
            let cell = out.len();
            figures.share.iter().for_each(|&it| write_share(it, out));
            finish_cell(cell, share_width, out);
        }
        if rate_width > 0 {
            let cell = out.len();
            figures.rate.iter().for_each(|&it| write_rate(it, out));
            finish_cell(cell, rate_width, out);
        }
        match key_columns {
            Some(columns) => fit(key, columns, out),
            None => write_key(key, out),
        }
        out.push(b'\n');
    }
}
