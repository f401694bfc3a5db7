//! Numbers and names of things, in notices.
//!
//! Promise: one is not spoken of as many, and no path is shown as it is. Must not know: what the things are.

use std::fmt;
use std::path::Path;

/// So many of what is named by the word: `1 client`, `2 clients`.
pub(super) struct Count(pub(super) u64, pub(super) &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count(count, what) = self;
        write!(f, "{count} {what}{}", if *count == 1 { "" } else { "s" })
    }
}

/// The verb that goes with so many.
pub(super) fn are(count: u64) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

/// Behind the one of so many that is named: the others, if there are any.
pub(crate) struct Others(pub(crate) u64);

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 | 1 => Ok(()),
            2 => f.write_str(" and another one"),
            count => write!(f, " and {} others", count - 1),
        }
    }
}

/// The URL of something at a path, which is escaped as `Debug` does.
pub(crate) fn url_of_path(scheme: &str, path: &Path) -> String {
    let quoted = format!("{path:?}");
    format!("{scheme}://{}", &quoted[1..quoted.len() - 1])
}
