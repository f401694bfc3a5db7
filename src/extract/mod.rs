//! Finds parts of lines: fields, CSV columns, JSON values and regex matches, and the numbers in
//! them.
//!
//! Promise: a part is found in one line without looking at others, and allocates nothing in the
//! usual case. A line without the part is counted in [`Skipped`], under its [`Reason`]. Must not
//! know: `source`, `intake`, `engine`, `sink`, `bin`.
//!
//! ```
//! use microtally::extract::{Finder, Missing, Number, Selector, FieldIndex, Separator};
//!
//! // The second field, as a number.
//! let part = Selector::Field(FieldIndex::FromStart(1));
//! let mut finder = Finder::new(&part, Separator::Blanks, "value").expect("a field is valid");
//! let mut text = Vec::new();
//! finder.find(b"apples 2.5", &mut text).expect("there are two fields");
//! assert_eq!(Number::parse(&text).map(Number::to_f64), Ok(2.5));
//! assert_eq!(finder.find(b"pears", &mut text), Err(Missing::Absent));
//! ```

mod csv;
mod find;
mod json;
mod number;
mod selector;
mod skipped;

pub use self::csv::Column;
pub use self::find::{Finder, Missing, RegexFinder, regex};
pub use self::json::Pointer;
pub use self::number::{NULL, Number, ParseNumberError};
pub use self::selector::{FieldIndex, Selector, Separator};
pub use self::skipped::{Reason, SkipCounter, Skipped};
