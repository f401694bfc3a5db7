//! Names a part of a line.
//!
//! Promise: plain data. Must not know: `find`, `csv`, `json`, `number`, `skipped`.

/// A part of a line.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Selector {
    /// The line without its end.
    Line,
    /// Every word of the line.
    Word,
    /// A field between separators, or between runs of white space.
    Field(FieldIndex),
    /// A column of quoted CSV, from 0.
    Csv(usize),
    /// The value at a JSON pointer, given as its unescaped names.
    Json(Vec<String>),
    /// The match of a regular expression, or a group of it.
    Regex(String),
}

/// Which field of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FieldIndex {
    /// Counted from the first field, which is 0.
    FromStart(usize),
    /// Counted backwards from the last field, which is 0.
    FromEnd(usize),
}

/// What separates fields and CSV columns.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Separator {
    /// Runs of white space for fields, commas for CSV columns.
    #[default]
    Blanks,
    /// Every occurrence of this byte.
    Byte(u8),
}
