//! Windows over keyed tables.
//!
//! Promise: a window is the fold of its batches, oldest first. A slide costs what the batches that
//! enter and leave cost, not what the window costs. Must not know: `stream`, `time`, threads.
//!
//! Batches come in as tables, one an interval, and windows go out as tables. `panes` keeps the
//! batches, `inverse` takes leaving batches off by an inverse function, `reduce` needs none.
//!
//! ```text
//!   batches     1  2  3  4  5  6        window 3, slide 2: due after batches 2, 4, 6
//!   windows     ────                    the first one has the batches there are
//!                  ───────
//!                        ───────
//! ```
//!
//! If batches had no room for all keys (`table::bound`), or a window has none for a batch
//! (`panes`), a window is made of what was kept. Its values are then below the true ones, and its
//! error is the sum of the batches' errors: for sums the bound holds as it does for a batch. The
//! window's own tables hold only keys of its batches, and what they may take for a key is in its
//! cost.
//!
//! Whoever uses a window calls `enter` (or `enter_failed`) for every batch, in order, and `slide`
//! whenever [`is_due`](InverseWindow::is_due) returns `true`. A failed batch fails every window it
//! is in; the first window behind it is computed from its own batches alone. If a function panics
//! in `enter`, the batch becomes a failed one, unless `make_up` is called next and works. If it
//! panics in `slide`, that window alone fails, and the next one is computed anew from its batches.

/// What both windows do with batches that enter; `$table` holds the last window.
macro_rules! entered_by_batches {
    ($window:ident, $table:ident) => {
        impl<V: Copy> $window<V> {
            /// Adds a finished batch. `reduce` is called if several batches of one slide are
            /// folded. If it panics, the batch counts as failed.
            pub fn enter(&mut self, batch: &KeyTable<V>, reduce: impl Fn(V, V) -> V) {
                self.$table.follow_rules(batch);
                let elsewhere = self.taken_elsewhere();
                self.panes.enter(Some(batch), reduce, elsewhere);
            }

            /// Adds the rest of a batch after `reduce` panicked in [`enter`](Self::enter). Call it
            /// before anything else. Returns `true` if there was a rest: then the batch has not
            /// failed after all.
            pub(crate) fn make_up(&mut self, reduce: impl Fn(V, V) -> V) -> bool {
                self.panes.make_up(reduce)
            }

            /// Adds a batch without a result.
            pub fn enter_failed(&mut self) {
                self.panes.enter(None, |_, new| new, 0);
            }

            /// Returns `true` if a window ends with the batch that entered last.
            pub fn is_due(&self) -> bool {
                self.panes.is_due()
            }

            /// Bytes of everything.
            #[cfg(test)]
            pub(super) fn taken(&self) -> usize {
                self.panes.held_bytes() + self.taken_elsewhere()
            }
        }

        impl<V> AsRef<KeyTable<V>> for $window<V> {
            /// The last window.
            fn as_ref(&self) -> &KeyTable<V> {
                &self.$table
            }
        }
    };
}

#[cfg(test)]
mod bound_tests;
mod inverse;
mod panes;
mod reduce;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Read, Write};

pub use self::inverse::InverseWindow;
pub use self::reduce::ReduceWindow;
use crate::save::ValueCodec;

/// A window that is saved between two batches.
pub(crate) trait SavedWindow<V> {
    /// Writes the window.
    ///
    /// # Errors
    ///
    /// Those of `to`; or the window lacks something, because a batch has failed or there was no
    /// room.
    fn save(&self, codec: ValueCodec<V>, to: &mut dyn Write) -> io::Result<()>;

    /// Reads what [`save`](Self::save) wrote, before the first batch.
    ///
    /// # Errors
    ///
    /// Those of `from`; or the bytes are none that `save` writes, or are of another window.
    fn load(&mut self, codec: ValueCodec<V>, from: &mut dyn Read) -> io::Result<()>;
}

/// Length and slide of a window, in batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    window: usize,
    slide: usize,
}

impl Shape {
    /// A window of the last `window` batches, every `slide` batches; both at least 1. If the slide
    /// is longer than the window, some batches are in no window.
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

/// Why no window was made where one was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoWindow {
    /// One of its batches has failed.
    BatchFailed,
    /// A key left that was missing: a filter dropped it though it had values, or `inverse` is no
    /// inverse.
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
