//! Batches on their way into and out of a window.
//!
//! Promise: the panes kept are those of the window that comes next, oldest first, behind those that leave with
//! it; the batches of a pane are in the same windows. Refuses to know: what is made of panes.
//!
//! A window of `w` batches that slides by `s` begins and ends at one of two places of every `s` batches, so the
//! batches between two such places come and go together, and are folded into one pane:
//!
//! ```text
//!   w = 5, s = 3   batches   1 2 3 4 5 6 7 8 9        w = 2, s = 3   batches   1 2 3 4 5 6
//!                  panes     a b b c d d e f f                       panes     - a a - b b
//!                  window 1  ─────                                   window 1    ───
//!                  window 2    ─────────                             window 2          ───
//!                  window 3          ─────────
//! ```
//!
//! So a slide costs what one or two panes cost, however many batches it has, and an hour that slides by the
//! minute keeps sixty panes.

use std::collections::VecDeque;

use super::Shape;
use crate::table::Table;
use crate::table::bound::Loss;
use crate::table::keys::Seed;
use crate::table::past::Past;

/// See the module.
pub(super) struct Panes<V> {
    shape: Shape,
    /// Whether every batch is a pane of its own.
    singly: bool,
    /// Batches entered since a window was due; at most `shape.slide`, and then one is due.
    since_due: usize,
    /// The fold of the batches of the pane that is not complete, if it has several.
    open: Table<V>,
    open_is: Open,
    /// Whether the last batch of the open pane has entered.
    is_complete: bool,
    /// Complete panes, oldest first.
    kept: VecDeque<Past<V>>,
    /// Complete panes still to come until the last failed one is in no window; 0 if there is none.
    until_sound: usize,
    /// Whether the panes before the kept ones were thrown away, and nobody was told yet.
    is_cut_off: bool,
    /// Panes whose memory is used again.
    pool: Vec<Past<V>>,
    /// The seed of the batch that entered last.
    seed: Seed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Empty,
    Filled,
    Failed,
}

impl<V: Copy> Panes<V> {
    /// `singly` makes a pane of every batch, for whom the order of folding matters.
    pub(super) fn new(shape: Shape, singly: bool) -> Self {
        let seed = Seed::random();
        Panes {
            shape,
            singly,
            since_due: 0,
            open: Table::new(seed),
            open_is: Open::Empty,
            is_complete: false,
            kept: VecDeque::new(),
            until_sound: 0,
            is_cut_off: false,
            pool: Vec::new(),
            seed,
        }
    }

    /// Panes of a window, unless the stream began within it.
    pub(super) fn per_window(&self) -> usize {
        let Shape { window, slide } = self.shape;
        match (window / slide, window % slide) {
            _ if self.singly => window,
            (0, _) => 1,
            (whole, 0) => whole,
            (whole, _) => 2 * whole + 1,
        }
    }

    /// Takes a batch in; `None` is a failed one.
    pub(super) fn enter(&mut self, batch: Option<&Table<V>>, reduce: impl Fn(V, V) -> V) {
        self.settle();
        let Shape { window, slide } = self.shape;
        if self.since_due == slide {
            self.since_due = 0;
        }
        self.since_due += 1;
        let part = window % slide;
        if window < slide && self.since_due <= slide - part {
            return; // In no window.
        }
        self.is_complete = self.singly || self.since_due == slide || self.since_due == slide - part;
        if let Some(batch) = batch {
            self.seed = batch.seed();
        }
        match (batch, self.open_is) {
            (None, _) => self.open_is = Open::Failed,
            (_, Open::Failed) => {}
            (Some(batch), Open::Empty) if self.is_complete => {
                self.is_complete = false;
                let mut pane = self.empty_pane();
                pane.fill_from(batch);
                self.keep(pane);
            }
            (Some(batch), _) => {
                if self.open_is == Open::Empty {
                    self.open.recycle();
                    self.open.follow_rules(batch);
                    self.open.set_seed(batch.seed());
                }
                // Until the batch is whole in the pane: should `reduce` panic, it has failed.
                self.open_is = Open::Failed;
                self.open.merge_from(batch, reduce);
                self.open_is = Open::Filled;
            }
        }
        self.settle();
    }

    /// Keeps the open pane if it is complete.
    fn settle(&mut self) {
        if !std::mem::take(&mut self.is_complete) {
            return;
        }
        match std::mem::replace(&mut self.open_is, Open::Empty) {
            Open::Empty => {}
            Open::Filled => {
                let mut pane = self.empty_pane();
                pane.fill_from(&self.open);
                self.keep(pane);
            }
            Open::Failed => {
                // What was before it is in no window any more that does not have the failed pane, too.
                self.drop_oldest(self.kept.len());
                self.until_sound = self.per_window();
                self.is_cut_off = true;
            }
        }
    }

    fn empty_pane(&mut self) -> Past<V> {
        self.pool.pop().unwrap_or_default()
    }

    fn keep(&mut self, pane: Past<V>) {
        self.kept.push_back(pane);
        self.until_sound = self.until_sound.saturating_sub(1);
    }

    /// Whether a window ends with the batch that entered last.
    pub(super) fn is_due(&self) -> bool {
        self.since_due == self.shape.slide
    }

    /// Before a window is made, which must be due. Gives whether the kept panes do not continue those that
    /// were there for the last one.
    pub(super) fn begin_slide(&mut self) -> bool {
        assert!(self.is_due(), "a window is made when it is due");
        self.settle();
        std::mem::take(&mut self.is_cut_off)
    }

    /// Whether the window that is due has no failed batch.
    pub(super) fn is_sound(&self) -> bool {
        self.until_sound == 0
    }

    /// The panes, oldest first.
    pub(super) fn kept(&self) -> &VecDeque<Past<V>> {
        &self.kept
    }

    /// What the batches of the kept panes had no room for.
    pub(super) fn loss(&self) -> Loss {
        self.kept
            .iter()
            .map(Past::loss)
            .fold(Loss::default(), Loss::plus)
    }

    /// How many of the kept panes, the oldest ones, are not in the window that is due.
    pub(super) fn leaving(&self) -> usize {
        self.kept.len().saturating_sub(self.per_window())
    }

    /// Forgets that many panes, the oldest ones.
    pub(super) fn drop_oldest(&mut self, count: usize) {
        self.pool.extend(self.kept.drain(..count));
    }

    /// The seed of the last batch: tables of the same seed are walked through in the same order.
    pub(super) fn seed(&self) -> Seed {
        self.seed
    }
}
