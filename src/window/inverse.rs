//! Windows with an inverse function.
//!
//! Promise: Spark's order of operations, so that floats come out the same to the last bit. Let a
//! key have the value `p` in the window before, let what leaves be folded to `old` and what enters
//! to `new`, oldest first. Then its value is `reduce(inverse(p, old), new)`, without the steps that
//! have no value. For a key that the window before did not have it is `new`. Must not know:
//! `stream`, `time`, threads.
//!
//! If the slide is longer than the window, Spark folds in the batches between windows, and takes
//! some of them off again at the wrong time. Here they are in no window.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::ops::Range;

use super::panes::Panes;
use super::{NoWindow, SavedWindow, Shape};
use crate::config::Dialect;
use crate::limits::RANKED_KEY_BYTES;
use crate::save::{Saved, ValueCodec, invalid};
use crate::table::KeyTable;
use crate::table::cost::Cost;
use crate::table::frozen::FrozenTable;
use crate::table::keys::Seed;

/// PySpark takes off what leaves from this many slides on. Below, folding the window anew is less
/// work.
const PYSPARK_SLIDES_MIN: usize = 5;

/// A window from which leaving batches are taken off by an inverse function.
///
/// # Cost
///
/// A slide takes one look-up for each key of each pane that leaves or enters, and one more for each
/// key that leaves if there is a filter; it does not depend on the window's length. The first
/// window without a failed batch is filtered whole. Memory: the batches, packed, and a table of the
/// keys of the window. Under [`Dialect::Scala`] these are all keys there ever were, unless a filter
/// drops those whose batches left.
///
/// # Examples
///
/// ```
/// use microtally::internals::{InverseWindow, KeyTable, Seed, Shape};
/// use microtally::stream::Dialect;
///
/// let mut last_two = InverseWindow::new(Shape::new(2, 1), Dialect::Scala);
/// let seed = Seed::random();
/// let mut counts = Vec::new();
/// for word in ["a", "b", "b", "b"] {
///     let mut batch = KeyTable::new(seed);
///     batch.add(word.as_bytes(), 1u64, u64::wrapping_add);
///     last_two.enter(&batch, u64::wrapping_add);
///     let keep = Some(|_: &[u8], count| count != 0);
///     let window = last_two.slide(u64::wrapping_add, u64::wrapping_sub, keep)?;
///     counts.push((window.get(b"a"), window.get(b"b")));
/// }
/// assert_eq!(counts, [(Some(1), None), (Some(1), Some(1)), (None, Some(2)), (None, Some(2))]);
/// # Ok::<(), microtally::internals::NoWindow>(())
/// ```
pub struct InverseWindow<V> {
    panes: Panes<V>,
    /// Whether every window is folded anew.
    is_anew: bool,
    /// Whether a leaving key that the window does not have is an error.
    is_strict: bool,
    /// The last window or, while none can be made, the fold of the panes since then.
    state: KeyTable<V>,
    /// How many of the kept panes, counted from the oldest, are folded into `state`.
    applied: usize,
    /// Whether nothing has left `state` yet, and no filter was applied to it.
    is_growing: bool,
    /// Whether the last slide succeeded; else `state` is inconsistent.
    is_intact: bool,
    /// Whether `state` was loaded, and has no seed of a batch yet.
    is_loaded: bool,
    /// Several panes, folded together before they meet the window.
    fold: KeyTable<V>,
    leaving: FrozenTable<V>,
    entering: FrozenTable<V>,
}

debug_fields!([V] InverseWindow<V>, "InverseWindow", applied);
entered_by_batches!(InverseWindow, state);

impl<V: Copy> InverseWindow<V> {
    /// A window over no batch yet.
    pub fn new(shape: Shape, dialect: Dialect) -> Self {
        // If the slide does not divide the window, the batches that leave together did not enter
        // together. So no fold of them exists that is the one Spark makes.
        let singly = shape.window > shape.slide && !shape.window.is_multiple_of(shape.slide);
        let is_short = shape.window / PYSPARK_SLIDES_MIN < shape.slide;
        let seed = Seed::random();
        InverseWindow {
            panes: Panes::new(shape, singly),
            is_anew: dialect == Dialect::PySpark && is_short,
            is_strict: dialect == Dialect::Scala,
            state: KeyTable::new(seed),
            applied: 0,
            is_growing: true,
            is_intact: true,
            is_loaded: false,
            fold: KeyTable::new(seed),
            leaving: FrozenTable::new(),
            entering: FrozenTable::new(),
        }
    }

    /// Returns `true` if keys whose values have left stay, unless a filter drops them.
    pub(crate) fn keeps_all(&self) -> bool {
        !self.is_anew
    }

    /// Limits the memory to `bytes`: panes without room are thinned. Call it before the first
    /// batch.
    pub(crate) fn keep_within(&mut self, bytes: usize) {
        // A key is in its pane and in the window, and may be ranked.
        let (packed, table) = (FrozenTable::<V>::cost(), Cost::in_table::<V>());
        let mut cost = packed.plus(table).plus(Cost::of_each(RANKED_KEY_BYTES));
        if !self.panes.come_one_by_one() {
            // It is also in the fold of panes that enter or leave, which is made in a table and
            // packed.
            cost = cost.plus(table).plus(packed).plus(packed);
        }
        self.panes.keep_within(bytes, cost);
    }

    /// Bytes of everything except the panes.
    fn taken_elsewhere(&self) -> usize {
        let tables = self.state.allocated_bytes() + self.fold.allocated_bytes();
        let packed = self.leaving.held_bytes() + self.entering.held_bytes();
        tables + packed + self.state.len() * RANKED_KEY_BYTES
    }

    /// Makes the window that is due.
    ///
    /// `reduce(older, newer)` folds, `inverse(window, leaving)` takes off, and `keep`, if there is
    /// one, returns whether a key stays. `keep` is only asked about keys that leave or enter, so
    /// its answer must depend on the key and the value alone.
    ///
    /// # Errors
    ///
    /// [`NoWindow`]. After [`NoWindow::KeyVanished`], and after one of the functions panicked, the
    /// next window is computed from its batches alone.
    ///
    /// # Panics
    ///
    /// Panics if no window is due.
    pub fn slide(
        &mut self,
        reduce: impl Fn(V, V) -> V,
        inverse: impl Fn(V, V) -> V,
        keep: Option<impl Fn(&[u8], V) -> bool>,
    ) -> Result<&KeyTable<V>, NoWindow> {
        let is_cut_off = self.panes.begin_slide();
        let leaving = self.panes.leaving();
        if std::mem::take(&mut self.is_loaded) {
            // Tables of one seed are walked through in the same order.
            let mut state = self.state.empty_like();
            state.set_seed(self.panes.seed());
            state.merge_from(&self.state, |_, new| new);
            self.state = state;
        }
        // If slides were left out, panes may leave that were folded in and have no window to be
        // taken off from.
        let is_late = self.is_growing && leaving > 0;
        if is_cut_off || is_late || self.is_anew || !self.is_intact {
            self.state.recycle();
            self.state.set_seed(self.panes.seed());
            self.applied = 0;
            self.is_growing = true;
        }
        self.is_intact = false;
        if self.is_growing {
            self.panes.drop_oldest(leaving);
            let new = self.panes.kept().range(self.applied..);
            for pane in new {
                self.state
                    .update_each(pane, |_, _, new, old| folded(old, new, &reduce));
            }
            if self.panes.is_sound() {
                if let Some(keep) = keep {
                    self.state.retain(keep);
                }
                self.is_growing = false;
            }
        } else {
            self.exchange(leaving, reduce, inverse, keep)?;
            self.panes.drop_oldest(leaving);
        }
        self.applied = self.panes.kept().len();
        self.state.set_overflow(self.panes.overflow());
        self.is_intact = true;
        if self.panes.is_sound() {
            Ok(&self.state)
        } else {
            Err(NoWindow::BatchFailed)
        }
    }

    /// Takes off the `leaving` oldest panes, and folds in the new ones.
    fn exchange(
        &mut self,
        leaving: usize,
        reduce: impl Fn(V, V) -> V,
        inverse: impl Fn(V, V) -> V,
        keep: Option<impl Fn(&[u8], V) -> bool>,
    ) -> Result<(), NoWindow> {
        self.fold.recycle();
        self.fold.set_seed(self.panes.seed());
        let (kept, fold) = (self.panes.kept(), &mut self.fold);
        // If a slide was left out, panes may leave that were never in a window.
        let old = 0..leaving.min(self.applied);
        let new = self.applied.max(leaving)..kept.len();
        let old = fold_of(kept, old, fold, &mut self.leaving, &reduce);
        let new = fold_of(kept, new, fold, &mut self.entering, &reduce);

        let mut is_missing = false;
        self.state.update_each(old, |_, _, old, window| {
            is_missing |= window.is_none();
            window.map(|window| inverse(window, old))
        });
        if is_missing && self.is_strict && lacks(&self.state, old, new, fold) {
            return Err(NoWindow::KeyVanished);
        }
        let Some(keep) = keep else {
            self.state
                .update_each(new, |_, _, new, window| folded(window, new, &reduce));
            return Ok(());
        };
        self.state.update_each(new, |_, key, new, window| {
            folded(window, new, &reduce).filter(|&value| keep(key, value))
        });
        // Only after the entering values are there: the filter is asked about final values only.
        self.state.update_each(old, |_, key, _, window| {
            window.filter(|&value| keep(key, value))
        });
        Ok(())
    }
}

impl<V: Copy> SavedWindow<V> for InverseWindow<V> {
    fn save(&self, codec: ValueCodec<V>, to: &mut dyn Write) -> io::Result<()> {
        let flags = (self.is_anew, self.is_growing, self.is_intact);
        (flags, self.applied as u64).save(to)?;
        self.state.save(codec, to)?;
        self.panes.save(codec, to)
    }

    fn load(&mut self, codec: ValueCodec<V>, from: &mut dyn Read) -> io::Result<()> {
        let (is_anew, is_growing, is_intact) = <(bool, bool, bool)>::load(from)?;
        let applied = u64::load(from)?;
        if is_anew != self.is_anew {
            return Err(invalid("it is a window of another dialect"));
        }
        self.state = KeyTable::load(codec, from)?;
        self.panes.load(codec, from)?;
        if applied > self.panes.kept().len() as u64 {
            return Err(invalid("more panes are in it than were kept"));
        }
        (self.is_growing, self.is_intact) = (is_growing, is_intact);
        (self.applied, self.is_loaded) = (applied as usize, true);
        Ok(())
    }
}

#[inline(always)]
fn folded<V>(old: Option<V>, new: V, reduce: impl Fn(V, V) -> V) -> Option<V> {
    Some(match old {
        Some(old) => reduce(old, new),
        None => new,
    })
}

/// The fold of some panes: the pane itself if there is only one, else made in `fold` and moved to
/// `into`.
fn fold_of<'p, V: Copy>(
    kept: &'p VecDeque<FrozenTable<V>>,
    range: Range<usize>,
    fold: &mut KeyTable<V>,
    into: &'p mut FrozenTable<V>,
    reduce: impl Fn(V, V) -> V,
) -> &'p FrozenTable<V> {
    if range.len() == 1 {
        return &kept[range.start];
    }
    fold.clear();
    for pane in kept.range(range) {
        fold.update_each(pane, |_, _, new, old| folded(old, new, &reduce));
    }
    into.fill_from(fold);
    into
}

/// Returns `true` if a key of `old` is neither in `window` nor in `new`. `lacking` is room for such
/// keys.
#[cold]
fn lacks<V: Copy>(
    window: &KeyTable<V>,
    old: &FrozenTable<V>,
    new: &FrozenTable<V>,
    lacking: &mut KeyTable<V>,
) -> bool {
    lacking.clear();
    for (key, value) in old.iter() {
        if window.get(key).is_none() {
            lacking.add(key, value, |_, new| new);
        }
    }
    lacking.update_each(new, |_, _, _, _| None);
    !lacking.is_empty()
}
