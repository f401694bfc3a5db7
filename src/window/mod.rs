//! Windows over keyed tables.
//!
//! Promise: a window is the fold of its batches, oldest first, and a slide costs what the batches that enter
//! and leave cost, not what the window costs. Must not know: streams, threads, times; batches come in as
//! tables, one an interval, and windows go out as tables.
//!
//! `panes` keeps the batches, `inverse` takes what leaves off by an inverse function, `reduce` needs none.
//!
//! ```text
//!   batches     1  2  3  4  5  6        window 3, slide 2: due after batches 2, 4, 6
//!   windows     ────                    the first one has the batches there are
//!                  ───────
//!                        ───────
//! ```
//!
//! Where batches had no room for all keys (`table::bound`), or a window none for a batch (`panes`), a window is made
//! of what was kept, which is below the true values, and its error is the sum of theirs: for sums the bound
//! holds as it does for a batch. The window's own tables hold no key that no batch has, and what they may take for a
//! key is in its cost.
//!
//! Whoever uses a window calls `enter` (or `enter_failed`) for every batch, in order, and `slide` whenever
//! [`is_due`](InverseWindow::is_due) says so. A failed batch fails every window it is in; the first
//! window behind it is computed from its own batches alone. A function that panics in `enter` makes that batch
//! a failed one, unless `make_up` is called next and works; in `slide` it fails that window alone, and the next
//! one is computed from its batches anew.

#[cfg(test)]
mod bound_tests;
mod inverse;
mod panes;
mod reduce;
#[cfg(test)]
mod tests;

use std::fmt;

pub use self::inverse::InverseWindow;
pub use self::reduce::ReduceWindow;

/// Length and slide of a window, in batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    window: usize,
    slide: usize,
}

impl Shape {
    /// A window of the last `window` batches, every `slide` batches; both at least 1. Where the slide is the
    /// longer one, there are batches in no window.
    ///
    /// # Panics
    ///
    /// Panics if one is 0.
    pub fn new(window: usize, slide: usize) -> Shape {
        assert!(window > 0 && slide > 0, "a window has batches, and moves");
        Shape { window, slide }
    }

    /// The most panes a window of this shape may keep.
    pub(crate) fn panes_max(self) -> usize {
        self.window.saturating_add(self.slide)
    }
}

/// Why there is no window where one was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoWindow {
    /// One of its batches has failed.
    BatchFailed,
    /// A key left that was not there: a filter has dropped it though it had values, or `inverse` is none.
    KeyVanished,
}

impl fmt::Display for NoWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoWindow::BatchFailed => "a batch of the window failed",
            // Spark's own words, which programs look for.
            NoWindow::KeyVanished => {
                "Neither previous window has value for key, nor new values found. \
                 Are you sure your key class hashes consistently?"
            }
        })
    }
}

impl std::error::Error for NoWindow {}
