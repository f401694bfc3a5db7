//! Batches on their way into and out of a window.
//!
//! Promise: the panes kept are those of the next window, oldest first, behind those that leave with
//! it. The batches of a pane are in the same windows. Must not know: what is made of panes.
//!
//! A window of `w` batches that slides by `s` begins and ends at one of two places of every `s`
//! batches. So the batches between two such places come and go together, and are folded into one
//! pane:
//!
//! ```text
//!   w = 5, s = 3   batches   1 2 3 4 5 6 7 8 9        w = 2, s = 3   batches   1 2 3 4 5 6
//!                  panes     a b b c d d e f f                       panes     - a a - b b
//!                  window 1  ─────                                   window 1    ───
//!                  window 2    ─────────                             window 2          ───
//!                  window 3          ─────────
//! ```
//!
//! A slide therefore costs what one or two panes cost, however many batches it has, and an hour
//! that slides by the minute keeps sixty panes.
//!
//! # PaneMemory
//!
//! Half of the window's memory goes to whoever comes first; in the other half every pane has its
//! share:
//!
//! ```text
//!   a pane may cost     max(share, half - used)      share = half / panes
//! ```
//!
//! Here `used` is all that the window has taken, and the cost of a pane is all that may be taken
//! for its keys, wherever they come to. So the window keeps within both halves. When a pane last
//! cost more than its share, what was used and that pane took one half at most. Since then no more
//! panes came than have their shares in the other half, or else the former have left. A pane that
//! would cost more is thinned ([`FrozenTable::fill_within`]).
//!
//! A fixed share alone would hold little of a stream that comes in bursts. First come, first served
//! alone would hold nothing of what comes last.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::panic::resume_unwind;

use super::Shape;
use crate::error::guarded;
use crate::save::{Saved, ValueCodec, invalid};
use crate::table::KeyTable;
use crate::table::bound::Overflow;
use crate::table::cost::Cost;
use crate::table::frozen::FrozenTable;
use crate::table::keys::Seed;

/// The batches of a window, folded into panes.
pub(super) struct Panes<V> {
    shape: Shape,
    /// Whether every batch is a pane of its own.
    singly: bool,
    /// Batches that entered since a window was due; at most `shape.slide`, and then one is due.
    since_due: usize,
    /// The fold of the batches of the incomplete pane, once there was a pane of several batches.
    open: Option<KeyTable<V>>,
    open_state: PaneState,
    /// The open pane, after it was loaded and before another batch has entered.
    loaded: Option<KeyTable<V>>,
    /// What the open pane lacks, after a function panicked in the batch that entered last.
    unmerged: Option<KeyTable<V>>,
    /// Whether the last batch of the open pane has entered.
    is_complete: bool,
    /// Complete panes, oldest first.
    kept: VecDeque<FrozenTable<V>>,
    /// Complete panes until no window contains the last failed one; 0 if there is none.
    until_sound: usize,
    /// Whether the panes before the kept ones were dropped since the last slide.
    is_cut_off: bool,
    /// Panes whose memory is reused.
    pool: Vec<FrozenTable<V>>,
    /// Bytes of the kept panes and of those in the pool.
    packed_bytes: usize,
    memory: Option<PaneMemory>,
    /// The seed of the batch that entered last.
    seed: Seed,
}

/// The memory of a window, in bytes.
#[derive(Clone, Copy)]
struct PaneMemory {
    /// For all panes and what is made of them, except the open one: see the module.
    half: usize,
    share: usize,
    /// For the open pane.
    open: usize,
    /// What a key of a pane takes at most.
    cost: Cost,
    /// What was taken outside the panes when the last batch entered.
    elsewhere: usize,
}

/// The open pane, if there is one, has this part of the memory.
const OPEN_PART: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq)]
enum PaneState {
    Empty,
    Filled,
    Failed,
}

impl<V: Copy> Panes<V> {
    /// `singly` makes a pane of every batch, for callers to whom the order of folding matters.
    pub(super) fn new(shape: Shape, singly: bool) -> Self {
        let seed = Seed::random();
        Panes {
            shape,
            singly,
            since_due: 0,
            open: None,
            open_state: PaneState::Empty,
            loaded: None,
            unmerged: None,
            is_complete: false,
            kept: VecDeque::new(),
            until_sound: 0,
            is_cut_off: false,
            pool: Vec::new(),
            packed_bytes: 0,
            memory: None,
            seed,
        }
    }

    /// Limits the memory of the panes and all that is made of them to `bytes`; `cost` is what a key
    /// of a pane takes at most.
    pub(super) fn keep_within(&mut self, bytes: usize, cost: Cost) {
        let panes = bytes - bytes / OPEN_PART;
        self.memory = Some(PaneMemory {
            half: panes / 2,
            share: panes / 2 / self.held_max(),
            open: bytes / OPEN_PART,
            cost,
            elsewhere: 0,
        });
    }

    /// The most panes at a time: those of a window, and those that leave it with the next.
    fn held_max(&self) -> usize {
        let per_slide = if self.singly { self.shape.slide } else { 2 };
        self.per_window().saturating_add(per_slide)
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

    /// Returns `true` if each slide brings one pane and takes one, unless a slide was left out.
    pub(super) fn come_one_by_one(&self) -> bool {
        let Shape { window, slide } = self.shape;
        !self.singly && window.is_multiple_of(slide)
    }

    /// Adds a batch; `None` is a failed one. The window has taken `elsewhere` bytes outside the
    /// panes.
    pub(super) fn enter(
        &mut self,
        batch: Option<&KeyTable<V>>,
        reduce: impl Fn(V, V) -> V,
        elsewhere: usize,
    ) {
        if let Some(memory) = &mut self.memory {
            memory.elsewhere = elsewhere;
        }
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
        match (batch, self.open_state) {
            (None, _) => {
                self.open_state = PaneState::Failed;
                self.unmerged = None;
            }
            // This batch is missing too, so adding the rest of the other one does not help.
            (_, PaneState::Failed) => self.unmerged = None,
            (Some(batch), PaneState::Empty) if self.is_complete => {
                self.is_complete = false;
                self.keep(batch);
            }
            (Some(batch), _) => {
                let bytes = self.memory.map_or(usize::MAX, |memory| memory.open);
                let open = self.open.get_or_insert_with(|| batch.empty_within(bytes));
                if self.open_state == PaneState::Empty {
                    open.recycle();
                    open.follow_rules(batch);
                    open.set_seed(batch.seed());
                }
                if let Some(loaded) = self.loaded.take() {
                    // Tables of one seed are merged leaf by leaf.
                    open.set_seed(batch.seed());
                    open.follow_rules(batch);
                    open.merge_from(&loaded, |_, new| new);
                }
                // Until the batch is whole in the pane: should `reduce` panic, the pane has failed.
                self.open_state = PaneState::Failed;
                self.merge(batch, reduce);
            }
        }
        self.settle();
    }

    /// Folds a batch into the open pane, which has failed until it holds the whole batch.
    fn merge(&mut self, batch: &KeyTable<V>, reduce: impl Fn(V, V) -> V) {
        let open = self.open.as_mut().expect("a pane is open");
        let mut begun = 0;
        let merged = guarded(|| {
            open.merge_within(batch, &mut begun, reduce);
        });
        if let Err(panic) = merged {
            // Where memory is limited, there is no share for the rest of a batch.
            self.unmerged = self.memory.is_none().then(|| batch.not_merged(begun));
            resume_unwind(panic);
        }
        self.open_state = PaneState::Filled;
    }

    /// Folds in what the open pane lacks since a function panicked in [`enter`](Self::enter). Call
    /// it before anything else. Returns `true` if something was lacking.
    pub(super) fn make_up(&mut self, reduce: impl Fn(V, V) -> V) -> bool {
        let unmerged = self.unmerged.take();
        if let Some(unmerged) = &unmerged {
            self.merge(unmerged, reduce);
        }
        unmerged.is_some()
    }

    /// Keeps the open pane if it is complete.
    fn settle(&mut self) {
        if !std::mem::take(&mut self.is_complete) {
            return;
        }
        match std::mem::replace(&mut self.open_state, PaneState::Empty) {
            PaneState::Empty => {}
            PaneState::Filled => {
                let open = self.open.take().expect("it was filled");
                self.keep(&open);
                self.open = Some(open);
            }
            PaneState::Failed => {
                (self.unmerged, self.loaded) = (None, None);
                // Every window that contains a pane before it also contains the failed one.
                self.drop_oldest(self.kept.len());
                self.until_sound = self.per_window();
                self.is_cut_off = true;
            }
        }
    }

    /// Writes all panes.
    pub(super) fn save(&self, codec: ValueCodec<V>, to: &mut dyn Write) -> io::Result<()> {
        if !self.is_sound() || self.open_state == PaneState::Failed {
            return Err(io::Error::other("a batch that failed is missing in it"));
        }
        self.header().save(to)?;
        (self.since_due as u64, self.is_cut_off).save(to)?;
        let open = self.loaded.as_ref().or(self.open.as_ref());
        let open = open.filter(|_| self.open_state == PaneState::Filled);
        open.is_some().save(to)?;
        open.into_iter().try_for_each(|open| open.save(codec, to))?;
        (self.kept.len() as u64).save(to)?;
        self.kept.iter().try_for_each(|pane| pane.save(codec, to))
    }

    /// Reads what [`save`](Self::save) wrote.
    pub(super) fn load(&mut self, codec: ValueCodec<V>, from: &mut dyn Read) -> io::Result<()> {
        if Saved::load(from).ok() != Some(self.header()) {
            return Err(invalid("it is a window of another length or slide"));
        }
        let (since_due, is_cut_off) = <(u64, bool)>::load(from)?;
        if since_due > self.shape.slide as u64 {
            return Err(invalid(
                "more batches have entered than there are in a slide",
            ));
        }
        (self.since_due, self.is_cut_off) = (since_due as usize, is_cut_off);
        if bool::load(from)? {
            self.loaded = Some(KeyTable::load(codec, from)?);
            self.open_state = PaneState::Filled;
        }
        for _ in 0..u64::load(from)? {
            if self.kept.len() == self.held_max() {
                return Err(invalid("a window has too many panes"));
            }
            self.keep(&KeyTable::load(codec, from)?);
        }
        Ok(())
    }

    /// What two windows have in common that may load each other's panes.
    fn header(&self) -> (u64, u64, bool) {
        (
            self.shape.window as u64,
            self.shape.slide as u64,
            self.singly,
        )
    }

    /// Bytes of all panes.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        let packed = self
            .kept
            .iter()
            .chain(&self.pool)
            .map(FrozenTable::held_bytes);
        let packed = packed.sum::<usize>();
        assert_eq!(packed, self.packed_bytes);
        packed + self.open.as_ref().map_or(0, KeyTable::allocated_bytes)
    }

    /// What the next pane and its keys may cost; `None` without a limit.
    fn allowed(&self) -> Option<(usize, Cost)> {
        let memory = self.memory?;
        let used = memory.elsewhere + self.packed_bytes;
        let allowed = memory.share.max(memory.half.saturating_sub(used));
        Some((allowed, memory.cost))
    }

    /// Keeps a complete pane, or as much of it as there is room for.
    fn keep(&mut self, fold: &KeyTable<V>) {
        let mut pane = match self.pool.pop() {
            Some(pane) => {
                self.packed_bytes -= pane.held_bytes();
                pane
            }
            None => FrozenTable::new(),
        };
        match self.allowed() {
            Some((bytes, cost)) => pane.fill_within(fold, bytes, &cost),
            None => pane.fill_from(fold),
        }
        self.packed_bytes += pane.held_bytes();
        self.kept.push_back(pane);
        self.until_sound = self.until_sound.saturating_sub(1);
    }

    /// Returns `true` if a window ends with the batch that entered last.
    pub(super) fn is_due(&self) -> bool {
        self.since_due == self.shape.slide
    }

    /// Prepares a window, which must be due. Returns `true` if the kept panes do not continue those
    /// of the last window.
    pub(super) fn begin_slide(&mut self) -> bool {
        assert!(self.is_due(), "a window is made when it is due");
        self.settle();
        std::mem::take(&mut self.is_cut_off)
    }

    /// Returns `true` if the window that is due contains no failed batch.
    pub(super) fn is_sound(&self) -> bool {
        self.until_sound == 0
    }

    /// The panes, oldest first.
    pub(super) fn kept(&self) -> &VecDeque<FrozenTable<V>> {
        &self.kept
    }

    /// The overflow of all kept panes.
    pub(super) fn overflow(&self) -> Overflow {
        self.kept
            .iter()
            .map(FrozenTable::overflow)
            .fold(Overflow::default(), Overflow::plus)
    }

    /// How many of the kept panes, counted from the oldest, are not in the window that is due.
    pub(super) fn leaving(&self) -> usize {
        self.kept.len().saturating_sub(self.per_window())
    }

    /// Drops the `count` oldest panes.
    pub(super) fn drop_oldest(&mut self, count: usize) {
        self.pool.extend(self.kept.drain(..count));
    }

    /// The seed of the last batch: tables of the same seed are walked through in the same order.
    pub(super) fn seed(&self) -> Seed {
        self.seed
    }
}
