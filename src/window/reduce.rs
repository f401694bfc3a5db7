//! Windows without an inverse function.
//!
//! Promise: values are folded oldest first, by an associative function that need not commute. A key
//! goes with its last batch. A slide costs a few look-ups for each key of the panes that enter and
//! leave and of one pane in between, and never more. Must not know: `stream`, `time`, threads.
//!
//! The naive version folds all panes at every slide. What is done instead, for each key:
//!
//! ```text
//!   panes, oldest first    [ front: f1 f2 f3 ][ middle: m1 m2 m3 m4 ][ back: b1 b2 ]
//!   folds kept             f1·f2·f3           m1·m2·m3·m4            b1·b2
//!                          and in the making: m3·m4  (`next`)
//! ```
//!
//! 1. The window is front · middle · back. A pane that enters is folded into the back, from the
//!    right.
//! 2. The front was folded pane by pane from the left, newest pane first. Each pane remembers, for
//!    each of its keys, the fold of the panes behind it. A pane that leaves puts that back, so
//!    nothing has to be inverted: f1·f2·f3 becomes f2·f3. Only the keys of the pane are touched.
//! 3. When the front is used up, the middle takes its place, and the back the middle's. For that
//!    the middle must have been folded from the left too: `next` is that fold, made one pane a
//!    step. Front and middle are half a window each, so it is complete just when it is needed. No
//!    slide costs more than the others, as a fold of all panes at once would, every half window.
//! 4. `window`, the table that goes out, is changed for the keys that were touched.
//!
//! Dropped on paper: a tree of blocks of 2, 4, 8 … panes, in which a window is the union of up to 2
//! log n blocks. It holds every pane's keys in about two blocks, and has to merge them all at every
//! slide, while only the keys that come and go have to be looked at.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use super::panes::Panes;
use super::{NoWindow, SavedWindow, Shape};
use crate::limits::RANKED_KEY_BYTES;
use crate::save::ValueCodec;
use crate::table::KeyTable;
use crate::table::cost::Cost;
use crate::table::frozen::FrozenTable;
use crate::table::keys::Seed;

/// Windows of at most this many panes are folded anew at every slide.
const ANEW_PANES_MAX: usize = 4;

/// A window over values of which only an associative fold is known.
///
/// # Cost
///
/// A slide takes two look-ups for each key of each pane that leaves or enters, and one for each key
/// of as many panes in between; it does not depend on the window's length. Windows of up to four
/// panes are folded anew. Memory: the batches, packed, a second value for each of their entries,
/// and two tables of the window's keys, one of them with four values.
pub struct ReduceWindow<V> {
    panes: Panes<V>,
    window: KeyTable<V>,
    folds: KeyTable<KeyFolds<V>>,
    /// What each pane of the front puts back when it leaves, oldest first.
    front: VecDeque<Behind<V>>,
    /// The same for the panes of the middle that are in `next` already: its newest ones.
    next: VecDeque<Behind<V>>,
    /// Panes of the middle and of the back.
    middle: usize,
    back: usize,
    /// Changes when the parts change their roles.
    turn: bool,
    /// Whether the last slide succeeded; else the tables are inconsistent.
    is_intact: bool,
    /// New values of the keys of one pane.
    touched: Vec<Option<V>>,
    pool: Vec<Behind<V>>,
}

debug_fields!([V] ReduceWindow<V>, "ReduceWindow", middle, back);
entered_by_batches!(ReduceWindow, window);

/// A key's folds of the front, the middle, the back, and the newest panes of the middle.
#[derive(Clone, Copy)]
struct KeyFolds<V> {
    parts: [V; 4],
    /// Which of the folds exist.
    has: [bool; 4],
    /// The turn in which `parts` have their roles.
    turn: bool,
}

const FRONT: usize = 0;
const MIDDLE: usize = 1;
const BACK: usize = 2;
const NEXT: usize = 3;

/// For each key of a pane, the fold of the panes behind it in the same part.
struct Behind<V> {
    folds: Vec<V>,
    /// One bit for each: whether the fold exists.
    has: Vec<u64>,
}

impl<V: Copy> ReduceWindow<V> {
    /// A window over no batch yet.
    pub fn new(shape: Shape) -> Self {
        let seed = Seed::random();
        ReduceWindow {
            panes: Panes::new(shape, false),
            window: KeyTable::new(seed),
            folds: KeyTable::new(seed),
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

    /// Limits the memory to `bytes`: panes without room are thinned. Call it before the first
    /// batch.
    pub(crate) fn keep_within(&mut self, bytes: usize) {
        // A key is in its pane and in both tables, has a fold behind it and a value while it is
        // touched, and may be ranked.
        let tables = Cost::in_table::<V>().plus(Cost::in_table::<KeyFolds<V>>());
        let values = 2 * (size_of::<V>() + 1) + 2 * size_of::<Option<V>>();
        let each = Cost::of_each(values + RANKED_KEY_BYTES);
        self.panes
            .keep_within(bytes, FrozenTable::<V>::cost().plus(tables).plus(each));
    }

    /// Bytes of everything except the panes.
    fn taken_elsewhere(&self) -> usize {
        let tables = self.window.allocated_bytes() + self.folds.allocated_bytes();
        let behind = self.front.iter().chain(&self.next).chain(&self.pool);
        let behind: usize = behind.map(Behind::held_bytes).sum();
        let touched = self.touched.capacity() * size_of::<Option<V>>();
        tables + behind + touched + self.window.len() * RANKED_KEY_BYTES
    }

    /// Makes the window that is due. `reduce(older, newer)` must be associative.
    ///
    /// # Errors
    ///
    /// [`NoWindow::BatchFailed`]. After `reduce` panicked, the next window is computed anew from
    /// its batches.
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

    /// How many of the kept panes, counted from the oldest, are in the folds.
    fn applied(&self) -> usize {
        self.front.len() + self.middle + self.back
    }

    /// Empties everything except the panes.
    fn begin_anew(&mut self) {
        self.window.recycle();
        self.window.set_seed(self.panes.seed());
        self.folds.recycle();
        self.folds.set_seed(self.panes.seed());
        self.pool.extend(self.front.drain(..));
        self.pool.extend(self.next.drain(..));
        (self.middle, self.back) = (0, 0);
        self.panes.drop_oldest(self.panes.leaving());
    }

    /// Adds one pane, and removes the one that it pushes out.
    fn step(&mut self, reduce: &impl Fn(V, V) -> V) {
        let per_window = self.panes.per_window();
        if self.applied() == per_window {
            while self.front.is_empty() {
                // Only after the panes were folded anew is something left to convert.
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

    /// The middle becomes the front, and the back the middle.
    fn turn(&mut self) {
        debug_assert!(self.front.is_empty() && self.next.len() == self.middle);
        std::mem::swap(&mut self.front, &mut self.next);
        (self.middle, self.back) = (self.back, 0);
        self.turn = !self.turn;
    }

    /// Folds into `next` the newest pane of the middle that is not in it. Returns `false` if there
    /// is none.
    fn convert(&mut self, reduce: &impl Fn(V, V) -> V) -> bool {
        if self.next.len() == self.middle {
            return false;
        }
        let pane = &self.panes.kept()[self.front.len() + self.middle - self.next.len() - 1];
        let mut behind = self.pool.pop().unwrap_or_else(Behind::new);
        behind.make_room(pane.len());
        self.folds.update_each(pane, |_, _, value, folds| {
            let mut folds = of_window(folds, self.turn);
            behind.push(folds.part(NEXT), value);
            let next = folds.part(NEXT).map_or(value, |next| reduce(value, next));
            folds.set(NEXT, Some(next));
            Some(folds)
        });
        self.next.push_front(behind);
        true
    }

    /// Removes the oldest pane.
    fn pop(&mut self, reduce: &impl Fn(V, V) -> V) {
        let behind = self.front.pop_front().expect("the front has a pane");
        let pane = &self.panes.kept()[0];
        self.touched.clear();
        self.folds.update_each(pane, |number, _, _, folds| {
            let mut folds = of_window(folds, self.turn);
            folds.set(FRONT, behind.at(number));
            let value = folds.all(reduce);
            self.touched.push(value);
            value.map(|_| folds)
        });
        put(&mut self.window, pane, &self.touched);
        self.pool.push(behind);
        self.panes.drop_oldest(1);
    }

    /// Adds the oldest pane that is not in the folds.
    fn push(&mut self, reduce: &impl Fn(V, V) -> V) {
        let pane = &self.panes.kept()[self.applied()];
        self.touched.clear();
        self.folds.update_each(pane, |_, _, value, folds| {
            let folds = folds.unwrap_or(KeyFolds::none(value, self.turn));
            let mut folds = folds.at(self.turn);
            let back = folds.part(BACK).map_or(value, |back| reduce(back, value));
            folds.set(BACK, Some(back));
            self.touched.push(folds.all(reduce));
            Some(folds)
        });
        put(&mut self.window, pane, &self.touched);
        self.back += 1;
    }
}

impl<V: Copy> SavedWindow<V> for ReduceWindow<V> {
    fn save(&self, codec: ValueCodec<V>, to: &mut dyn Write) -> io::Result<()> {
        self.panes.save(codec, to)
    }

    /// The next window is folded anew. Folds of floats may then differ in the last bits from those
    /// of a window that was not loaded.
    fn load(&mut self, codec: ValueCodec<V>, from: &mut dyn Read) -> io::Result<()> {
        self.is_intact = false;
        self.panes.load(codec, from)
    }
}

/// The folds of a key of a pane that is in them.
#[inline(always)]
fn of_window<V: Copy>(folds: Option<KeyFolds<V>>, turn: bool) -> KeyFolds<V> {
    folds.expect("a key has folds while a pane has it").at(turn)
}

/// Sets the values of the keys of `pane`.
fn put<V: Copy>(window: &mut KeyTable<V>, pane: &FrozenTable<V>, values: &[Option<V>]) {
    window.update_each(pane, |number, _, _, _| values[number]);
}

impl<V: Copy> KeyFolds<V> {
    /// No fold; `any` is a placeholder.
    fn none(any: V, turn: bool) -> Self {
        KeyFolds {
            parts: [any; 4],
            has: [false; 4],
            turn,
        }
    }

    /// With the roles that the parts have in `turn`. At most one turn can have passed since a key
    /// was touched: in each turn the keys of the middle are touched when they are converted, and
    /// those of the front when it is used up.
    #[inline(always)]
    fn at(mut self, turn: bool) -> Self {
        if self.turn != turn {
            let [_, _, back, next] = self.parts;
            self.parts = [next, back, back, next];
            self.has = [self.has[NEXT], self.has[BACK], false, false];
            self.turn = turn;
        }
        self
    }

    #[inline(always)]
    fn part(&self, which: usize) -> Option<V> {
        self.has[which].then_some(self.parts[which])
    }

    #[inline(always)]
    fn set(&mut self, which: usize, fold: Option<V>) {
        self.has[which] = fold.is_some();
        if let Some(fold) = fold {
            self.parts[which] = fold;
        }
    }

    /// The fold of all panes.
    #[inline(always)]
    fn all(&self, reduce: impl Fn(V, V) -> V) -> Option<V> {
        let folds = [FRONT, MIDDLE, BACK].into_iter();
        folds.filter_map(|which| self.part(which)).reduce(reduce)
    }
}

impl<V: Copy> Behind<V> {
    fn new() -> Self {
        Behind {
            folds: Vec::new(),
            has: Vec::new(),
        }
    }

    /// Empties it, with room for `count` folds and not much more.
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

    /// Appends a fold, or `any` as a placeholder if there is none.
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
