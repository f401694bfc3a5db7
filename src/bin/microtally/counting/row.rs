//! The results of a key: one number a column.
//!
//! Must not know: `live`, `output`, `run`, `parse`.

use std::cmp::Ordering;

use microtally::Value;
use microtally::extract::Number;
use microtally::sink::Repr;

use super::columns::ColumnResult;

/// Columns in the order of `--aggregate`: up to `N` exact numbers, of 32 bytes each, and up to `F`
/// counts and floats, of 8.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<const N: usize, const F: usize> {
    numbers: [Number; N],
    words: [u64; F],
    /// What each column is, the first one in the lowest bits.
    kinds: u32,
}

/// Bits of `kinds` for a column.
const KIND_BITS: u32 = 2;
const NUMBER: u32 = 1;
const COUNT: u32 = 2;
const FLOAT: u32 = 3;

impl<const N: usize, const F: usize> Row<N, F> {
    /// A row of `columns`, for which there has to be room.
    pub(crate) fn of(columns: impl Iterator<Item = ColumnResult>) -> Self {
        let mut row = Row {
            numbers: [Number::default(); N],
            words: [0; F],
            kinds: 0,
        };
        let (mut numbers, mut words) = (row.numbers.iter_mut(), row.words.iter_mut());
        for (index, column) in columns.enumerate() {
            let kind = match column {
                ColumnResult::Number(number) => {
                    *numbers.next().expect("there is room") = number;
                    NUMBER
                }
                ColumnResult::Count(count) => {
                    *words.next().expect("there is room") = count;
                    COUNT
                }
                ColumnResult::Float(float) => {
                    *words.next().expect("there is room") = float.to_bits();
                    FLOAT
                }
            };
            row.kinds |= kind << (index as u32 * KIND_BITS);
        }
        row
    }

    /// The numbers.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = Number> + '_ {
        let (mut numbers, mut words) = (self.numbers.iter(), self.words.iter());
        let mut kinds = self.kinds;
        std::iter::from_fn(move || {
            let kind = kinds % (1 << KIND_BITS);
            kinds >>= KIND_BITS;
            match kind {
                NUMBER => numbers.next().copied(),
                COUNT => words.next().map(|&count| Number::from(count)),
                FLOAT => words.next().map(|&bits| Number::from(f64::from_bits(bits))),
                _ => None,
            }
        })
    }
}

impl<const N: usize, const F: usize> Repr for Row<N, F> {
    /// As Python writes a number, or a tuple of several.
    fn write_repr(&self, out: &mut Vec<u8>) {
        if self.columns() == 1 {
            return self.write_column(0, out);
        }
        for (index, column) in self.numbers().enumerate() {
            out.extend_from_slice(if index == 0 { b"(" } else { b", " });
            column.write_repr(out);
        }
        out.push(b')');
    }

    /// For the live view, which has one column for all of them.
    fn write_str(&self, out: &mut Vec<u8>) {
        for (index, column) in self.numbers().enumerate() {
            if index > 0 {
                out.extend_from_slice(b"  ");
            }
            column.write_repr(out);
        }
    }
}

impl<const N: usize, const F: usize> Value for Row<N, F> {
    /// By the first column, then by the others.
    fn order(&self, other: &Self) -> Ordering {
        let columns = self.numbers().zip(other.numbers());
        let mut orders = columns.map(|(a, b)| a.order(&b));
        let first = orders.find(|order| *order != Ordering::Equal);
        first.unwrap_or(Ordering::Equal)
    }

    fn columns(&self) -> usize {
        (u32::BITS - self.kinds.leading_zeros()).div_ceil(KIND_BITS) as usize
    }

    fn write_column(&self, index: usize, out: &mut Vec<u8>) {
        let column = self.numbers().nth(index);
        column.iter().for_each(|column| column.write_repr(out));
    }
}
