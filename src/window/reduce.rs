//! Windows without an inverse function.
//!
//! Promise: values are folded oldest first, by an associative function that need not commute; a key goes with
//! its last batch; a slide costs a few look-ups for each key of the panes that enter and leave and of one
//! pane in between, and never more. Must not know: see the module above.
//!
//! The naive version folds all panes at every slide. What is done instead, for each key:
//!
//! ```text
//!   panes, oldest first    [ front: f1 f2 f3 ][ middle: m1 m2 m3 m4 ][ back: b1 b2 ]
//!   folds kept in `parts`    f1·f2·f3           m1·m2·m3·m4            b1·b2
//!                            and being made:       m3·m4  (`next`)
//! ```
//!
//! 1. The window is front · middle · back. A pane that enters is folded into the back, from the right.
//! 2. The front was folded pane by pane from the left, newest pane first, and each pane remembers, for each of its
//!    keys, the fold of the panes behind it. A pane that leaves puts that back, so nothing has to be
//!    inverted: f1·f2·f3 becomes f2·f3. Only the keys of the pane are touched.
//! 3. When the front is used up, the middle takes its place, and the back the middle's. For that the middle must
//!    have been folded from the left, too: `next` is that fold, made one pane a step. Front and middle
//!    are half a window each, so it is complete just when it is needed. There is no slide that
//!    costs more than the others, which a fold of all panes at once would be, every half window.
//! 4. `window`, the table that goes out, is changed for the keys that were touched.
//!
//! Dropped on paper: a tree of blocks of 2, 4, 8 … panes, in which a window is the union of up to 2 log n blocks.
//! It holds every pane's keys in about two blocks, and to make the window it has to merge them all at every
//! slide, where only the keys that come and go have to be looked at.

use std::collections::VecDeque;

use super::panes::Panes;
use super::{NoWindow, Shape};
use crate::limits::RANKED_KEY_BYTES;
use crate::table::KeyTable;
use crate::table::cost::Cost;
use crate::table::frozen::FrozenTable;
use crate::table::keys::Seed;

/// Windows of so few panes are folded anew at every slide.
const ANEW_PANES_MAX: usize = 4;

/// A window of whose values only an associative fold is known.
///
/// # Cost
///
/// A slide takes two look-ups for each key of each pane that leaves or enters, and one for each key of as many
/// panes in between; it does not depend on the window's length. Windows of up to four panes are folded
/// anew. Memory: the batches, packed, a second value for each of their entries, and two tables of the
/// window's keys, one of them with four values.
pub struct ReduceWindow<V> {
    panes: Panes<V>,
    window: KeyTable<V>,
    parts: KeyTable<Parts<V>>,
    /// For each pane of the front what it puts back when it leaves, oldest first.
    front: VecDeque<Behind<V>>,
    /// The same for the panes of the middle that are in `next` already: its newest ones.
    next: VecDeque<Behind<V>>,
    /// Panes of the middle and of the back.
    middle: usize,
    back: usize,
    /// Changes when the parts change their roles.
    turn: bool,
    /// Whether the last slide went through; else the tables are in between.
    is_intact: bool,
    /// New values of the keys of one pane.
    touched: Vec<Option<V>>,
    pool: Vec<Behind<V>>,
}

debug_fields!([V] ReduceWindow<V>, "ReduceWindow", middle, back);

impl<V> AsRef<KeyTable<V>> for ReduceWindow<V> {
    /// The window made last.
    fn as_ref(&self) -> &KeyTable<V> {
        &self.window
    }
}

/// One key's folds of the front, the middle, the back and of the newest panes of the middle.
#[derive(Clone, Copy)]
struct Parts<V> {
    folds: [V; 4],
    /// Which of the folds are there.
    has: [bool; 4],
    /// The turn in which the roles are those of `folds`.
    turn: bool,
}

const FRONT: usize = 0;
const MIDDLE: usize = 1;
const BACK: usize = 2;
const NEXT: usize = 3;

/// For each key of a pane the fold of the panes behind it in the same part.
struct Behind<V> {
    folds: Vec<V>,
    /// A bit for each: whether there is one.
    has: Vec<u64>,
}

impl<V: Copy> ReduceWindow<V> {
    /// A window over no batch yet.
    pub fn new(shape: Shape) -> Self {
        let seed = Seed::random();
        ReduceWindow {
            panes: Panes::new(shape, false),
            window: KeyTable::new(seed),
            parts: KeyTable::new(seed),
            front: VecDeque::new(),
            next: VecDeque::new(),
            middle: 0,
            back: 0,
            turn: false,
            is_intact: true,
            touched: Vec::new(),
            pool: Vec::new(),
        }
    }

    /// Takes a finished batch in. `reduce` is called where several batches of one slide are folded. If it
    /// panics, the batch has entered as a failed one.
    pub fn enter(&mut self, batch: &KeyTable<V>, reduce: impl Fn(V, V) -> V) {
        self.window.follow_rules(batch);
        let elsewhere = self.taken_elsewhere();
        self.panes.enter(Some(batch), reduce, elsewhere);
    }

    /// Keeps within so many bytes: panes for which there is no room are thinned. Before the first batch.
    pub(crate) fn keep_within(&mut self, bytes: usize) {
        // A key is in its pane and in both tables, has a fold behind it, a value while it is touched, and may be ranked.
        let tables = Cost::in_table::<V>().plus(Cost::in_table::<Parts<V>>());
        let values = 2 * (size_of::<V>() + 1) + 2 * size_of::<Option<V>>();
        let each = Cost::of_each(values + RANKED_KEY_BYTES);
        self.panes
            .keep_within(bytes, FrozenTable::<V>::cost().plus(tables).plus(each));
    }

    /// Bytes of all there is.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.panes.held_bytes() + self.taken_elsewhere()
    }

    /// Bytes of all but the panes.
    fn taken_elsewhere(&self) -> usize {
        let tables = self.window.allocated_bytes() + self.parts.allocated_bytes();
        let behind = self.front.iter().chain(&self.next).chain(&self.pool);
        let behind: usize = behind.map(Behind::held_bytes).sum();
        let touched = self.touched.capacity() * size_of::<Option<V>>();
        tables + behind + touched + self.window.len() * RANKED_KEY_BYTES
    }

    /// Takes the rest of a batch in after `reduce` has panicked in [`enter`](Self::enter), before anything else
    /// happens. Returns whether there was any: then the batch has not failed after all.
    pub(crate) fn make_up(&mut self, reduce: impl Fn(V, V) -> V) -> bool {
        self.panes.make_up(reduce)
    }

    /// Takes in that a batch has no result.
    pub fn enter_failed(&mut self) {
        self.panes.enter(None, |_, new| new, 0);
    }

    /// Whether a window ends with the batch that entered last.
    pub fn is_due(&self) -> bool {
        self.panes.is_due()
    }

    /// Makes the window that is due. `reduce(older, newer)` must be associative.
    ///
    /// # Errors
    ///
    /// [`NoWindow::BatchFailed`]. After `reduce` panicked, the next window is computed from its batches anew.
    ///
    /// # Panics
    ///
    /// Panics if no window is due.
    pub fn slide(&mut self, reduce: impl Fn(V, V) -> V) -> Result<&KeyTable<V>, NoWindow> {
        let is_cut_off = self.panes.begin_slide();
        let is_anew = self.panes.per_window() <= ANEW_PANES_MAX;
        if is_cut_off || is_anew || !self.is_intact {
            self.begin_anew();
        }
        self.is_intact = false;
        if is_anew {
            self.panes.drop_oldest(self.panes.leaving());
            for pane in self.panes.kept() {
                self.window.update_each(pane, |_, _, new, old| {
                    Some(old.map_or(new, |old| reduce(old, new)))
                });
            }
        } else {
            while self.applied() < self.panes.kept().len() {
                self.step(&reduce);
            }
        }
        self.window.set_overflow(self.panes.overflow());
        self.is_intact = true;
        if self.panes.is_sound() {
            Ok(&self.window)
        } else {
            Err(NoWindow::BatchFailed)
        }
    }

    /// How many of the kept panes, the oldest ones, are in the parts.
    fn applied(&self) -> usize {
        self.front.len() + self.middle + self.back
    }

    /// Empties everything but the panes.
    fn begin_anew(&mut self) {
        self.window.recycle();
        self.window.set_seed(self.panes.seed());
        self.parts.recycle();
        self.parts.set_seed(self.panes.seed());
        self.pool.extend(self.front.drain(..));
        self.pool.extend(self.next.drain(..));
        (self.middle, self.back) = (0, 0);
        self.panes.drop_oldest(self.panes.leaving());
    }

    /// Takes one pane in, and out what it pushes out.
    fn step(&mut self, reduce: &impl Fn(V, V) -> V) {
        let per_window = self.panes.per_window();
        if self.applied() == per_window {
            while self.front.is_empty() {
                // Only after the panes were folded anew is there still something to convert.
                while self.convert(reduce) {}
                self.turn();
            }
            self.pop(reduce);
        }
        let half = per_window / 2;
        if self.back == half && self.front.is_empty() && self.next.len() == self.middle {
            self.turn();
        }
        self.push(reduce);
        self.convert(reduce);
    }

    /// The middle becomes the front, the back the middle.
    fn turn(&mut self) {
        debug_assert!(self.front.is_empty() && self.next.len() == self.middle);
        std::mem::swap(&mut self.front, &mut self.next);
        (self.middle, self.back) = (self.back, 0);
        self.turn = !self.turn;
    }

    /// Folds the newest pane of the middle that is not in `next` yet into it. Gives whether there was one.
    fn convert(&mut self, reduce: &impl Fn(V, V) -> V) -> bool {
        if self.next.len() == self.middle {
            return false;
        }
        let pane = &self.panes.kept()[self.front.len() + self.middle - self.next.len() - 1];
        let mut behind = self.pool.pop().unwrap_or_else(Behind::new);
        behind.make_room(pane.len());
        self.parts.update_each(pane, |_, _, value, parts| {
            let mut parts = of_window(parts, self.turn);
            behind.push(parts.part(NEXT), value);
            let next = parts.part(NEXT).map_or(value, |next| reduce(value, next));
            parts.set(NEXT, Some(next));
            Some(parts)
        });
        self.next.push_front(behind);
        true
    }

    /// Takes the oldest pane out.
    fn pop(&mut self, reduce: &impl Fn(V, V) -> V) {
        let behind = self.front.pop_front().expect("the front has a pane");
        let pane = &self.panes.kept()[0];
        self.touched.clear();
        self.parts.update_each(pane, |number, _, _, parts| {
            let mut parts = of_window(parts, self.turn);
            parts.set(FRONT, behind.at(number));
            let value = parts.all(reduce);
            self.touched.push(value);
            value.map(|_| parts)
        });
        put(&mut self.window, pane, &self.touched);
        self.pool.push(behind);
        self.panes.drop_oldest(1);
    }

    /// Takes the oldest pane in that is not in the parts yet.
    fn push(&mut self, reduce: &impl Fn(V, V) -> V) {
        let pane = &self.panes.kept()[self.applied()];
        self.touched.clear();
        self.parts.update_each(pane, |_, _, value, parts| {
            let parts = parts.unwrap_or(Parts::none(value, self.turn));
            let mut parts = parts.at(self.turn);
            let back = parts.part(BACK).map_or(value, |back| reduce(back, value));
            parts.set(BACK, Some(back));
            self.touched.push(parts.all(reduce));
            Some(parts)
        });
        put(&mut self.window, pane, &self.touched);
        self.back += 1;
    }
}

/// The parts of a key of a pane that is in them.
#[inline(always)]
fn of_window<V: Copy>(parts: Option<Parts<V>>, turn: bool) -> Parts<V> {
    parts.expect("a key has parts while a pane has it").at(turn)
}

/// Gives the keys of `pane` their new values.
fn put<V: Copy>(window: &mut KeyTable<V>, pane: &FrozenTable<V>, values: &[Option<V>]) {
    window.update_each(pane, |number, _, _, _| values[number]);
}

impl<V: Copy> Parts<V> {
    /// No part; `any` is not looked at.
    fn none(any: V, turn: bool) -> Self {
        Parts {
            folds: [any; 4],
            has: [false; 4],
            turn,
        }
    }

    /// With the roles the parts have in `turn`. One turn can have gone by since a key was touched, not two:
    /// in each the keys of the middle are touched when they are converted, and those of the front when it
    /// is used up.
    #[inline(always)]
    fn at(mut self, turn: bool) -> Self {
        if self.turn != turn {
            let [_, _, back, next] = self.folds;
            self.folds = [next, back, back, next];
            self.has = [self.has[NEXT], self.has[BACK], false, false];
            self.turn = turn;
        }
        self
    }

    #[inline(always)]
    fn part(&self, which: usize) -> Option<V> {
        self.has[which].then_some(self.folds[which])
    }

    #[inline(always)]
    fn set(&mut self, which: usize, fold: Option<V>) {
        self.has[which] = fold.is_some();
        if let Some(fold) = fold {
            self.folds[which] = fold;
        }
    }

    /// The fold of all panes.
    #[inline(always)]
    fn all(&self, reduce: impl Fn(V, V) -> V) -> Option<V> {
        let parts = [FRONT, MIDDLE, BACK].into_iter();
        parts.filter_map(|which| self.part(which)).reduce(reduce)
    }
}

impl<V: Copy> Behind<V> {
    fn new() -> Self {
        Behind {
            folds: Vec::new(),
            has: Vec::new(),
        }
    }

    /// Empty, with room for `count` folds and not much more.
    fn make_room(&mut self, count: usize) {
        self.folds.clear();
        self.has.clear();
        if self.folds.capacity() > 2 * count + 64 {
            self.folds.shrink_to(count);
            self.has.shrink_to(count.div_ceil(64));
        }
        self.folds.reserve_exact(count);
        self.has.reserve_exact(count.div_ceil(64));
    }

    /// Bytes held of the allocator, and the struct's own.
    fn held_bytes(&self) -> usize {
        size_of::<Self>()
            + self.folds.capacity() * size_of::<V>()
            + self.has.capacity() * size_of::<u64>()
    }

    /// Appends a fold; `any` stands in its place if there is none.
    #[inline(always)]
    fn push(&mut self, fold: Option<V>, any: V) {
        let bit = self.folds.len() % 64;
        if bit == 0 {
            self.has.push(0);
        }
        *self.has.last_mut().expect("just pushed") |= u64::from(fold.is_some()) << bit;
        self.folds.push(fold.unwrap_or(any));
    }

    #[inline(always)]
    fn at(&self, number: usize) -> Option<V> {
        let has = self.has[number / 64] >> (number % 64) & 1 == 1;
        has.then_some(self.folds[number])
    }
}
