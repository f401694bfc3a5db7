//! Finds parts of lines: fields, CSV columns, JSON values, what regular expressions match; and the numbers in them.
//!
//! Promise: a part is found in one line without looking at others, and allocates nothing in the usual case. A line in
//! which it is missing is counted in [`Skipped`], under its [`Reason`]. Must not know: sources, batches, how people
//! type a place.
//!
//! ```
//! use microtally::extract::{Finder, Missing, Number, Part, Place, Separator};
//!
//! // The second field, as a number.
//! let part = Part::Field(Place::FromStart(1));
//! let mut finder = Finder::new(&part, Separator::Blanks, "value").expect("any field can be found");
//! let mut text = Vec::new();
//! finder.find(b"apples 2.5", &mut text).expect("there are two fields");
//! assert_eq!(Number::parse(&text).map(Number::to_f64), Ok(2.5));
//! assert_eq!(finder.find(b"pears", &mut text), Err(Missing::Absent));
//! ```

mod csv;
mod find;
mod json;
mod number;
mod place;
mod skipped;

pub use self::csv::Column;
pub use self::find::{Finder, Missing, Pattern, regex};
pub use self::json::Pointer;
pub use self::number::{NULL, Number, Unread};
pub use self::place::{Part, Place, Separator};
pub use self::skipped::{Counter, Reason, Skipped};
