//! Where in a line something is.
//!
//! Must not know: how it is found, how people type it.

/// Something to be found in a line.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Part {
    /// The line without its end.
    Line,
    /// Every word of it.
    Word,
    /// What separators or runs of blanks separate.
    Field(Place),
    /// A column of quoted CSV, the first one being 0.
    Csv(usize),
    /// What a JSON pointer leads to: the names on its way, unescaped.
    Json(Vec<String>),
    /// What a regular expression finds.
    Regex(String),
}

/// Which one of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// The first one being 0.
    FromStart(usize),
    /// The last one being 0.
    FromEnd(usize),
}

/// What separates fields, and with them CSV columns.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Separator {
    /// Runs of blanks; CSV columns are separated by commas.
    #[default]
    Blanks,
    /// This byte, every one of which separates.
    Byte(u8),
}
