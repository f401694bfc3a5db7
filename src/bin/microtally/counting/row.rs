//! The results of a key: one number a column.
//!
//! Must not know: `live`, `output`, `run`, `parse`.

use std::cmp::Ordering;

use microtally::Value;
use microtally::extract::Number;
use microtally::sink::Repr;

/// Up to `N` numbers, in the order of `--aggregate`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<const N: usize> {
    columns: [Number; N],
    len: u8,
}

impl<const N: usize> Row<N> {
    /// A row of the first `N` of `columns`.
    pub(crate) fn of(columns: impl Iterator<Item = Number>) -> Self {
        let mut row = Row {
            columns: [Number::default(); N],
            len: 0,
        };
        for (to, column) in row.columns.iter_mut().zip(columns) {
            *to = column;
            row.len += 1;
        }
        row
    }

    /// The numbers.
    pub(crate) fn numbers(&self) -> &[Number] {
        &self.columns[..usize::from(self.len)]
    }
}

impl<const N: usize> Repr for Row<N> {
    /// As Python writes a number, or a tuple of several.
    fn write_repr(&self, out: &mut Vec<u8>) {
        if let [only] = self.numbers() {
            return only.write_repr(out);
        }
        for (index, column) in self.numbers().iter().enumerate() {
            out.extend_from_slice(if index == 0 { b"(" } else { b", " });
            column.write_repr(out);
        }
        out.push(b')');
    }

    /// For the live view, which has one column for all of them.
    fn write_str(&self, out: &mut Vec<u8>) {
        for (index, column) in self.numbers().iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b"  ");
            }
            column.write_repr(out);
        }
    }
}

impl<const N: usize> Value for Row<N> {
    /// By the first column, then by the others.
    fn order(&self, other: &Self) -> Ordering {
        let columns = self.numbers().iter().zip(other.numbers());
        let mut orders = columns.map(|(a, b)| a.order(b));
        let first = orders.find(|order| *order != Ordering::Equal);
        first.unwrap_or(Ordering::Equal)
    }

    fn columns(&self) -> usize {
        usize::from(self.len)
    }

    fn write_column(&self, index: usize, out: &mut Vec<u8>) {
        self.columns[index].write_repr(out);
    }
}
