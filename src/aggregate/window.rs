//! Windows over the states of batches.
//!
//! Promise: the result of a key is that of all its values in the window. A slide costs a merge or
//! two for each key of the batches that enter and leave; once in a window's length it may cost what
//! the whole window does. Must not know: `stream`, `time`, threads.
//!
//! Batches that enter and leave the window together are one pane. What is done with panes depends
//! on the aggregate:
//!
//! ```text
//!   with `remove`      panes   p1 p2 p3 p4 p5      sum of all; what leaves is taken off
//!
//!   without            panes  [f1 f2 f3][b1 b2]    sums of the front and of the back
//!                             each f remembers, for its keys, the sum of the f behind it
//! ```
//!
//! A pane that enters is merged into the back. A pane that leaves the front puts back what it
//! remembers. When the front is used up, the back becomes the front: its panes are merged from the
//! newest to the oldest, and remember what was there before them. So a pane is merged twice,
//! however long the window is.
//!
//! A failed batch empties the window: every window that holds an older batch holds that one, too.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use super::table::AggregateTable;
use super::{Aggregate, Slab};
use crate::save::{Saved, invalid};
use crate::table::KeyTable;
use crate::table::bound::{MemoryCap, Overflow};
use crate::table::frozen::FrozenTable;
use crate::table::keys::Seed;

/// What each byte of a pane takes at most, in the pane and in all that is made of it, results
/// excluded: the pane itself and what it remembers, the sums of front and back, each in a table
/// and a slab that may be half empty.
const PANE_PARTS: usize = 10;

/// A window over the states of an aggregate.
pub struct AggregateWindow<A: Aggregate<T>, T> {
    aggregate: A,
    /// Batches of a pane.
    pane_batches: usize,
    /// Panes of a window.
    window_panes: usize,
    /// The incomplete pane.
    open: AggregateTable<A, T>,
    /// Batches that began since the pane before was complete.
    open_batches: usize,
    /// Whether a batch of the open pane failed.
    has_failed: bool,
    /// Panes until no window holds a failed batch.
    until_sound: usize,
    /// Complete panes of the next window, oldest first.
    panes: VecDeque<Pane<A::State>>,
    /// How many of them are in the front; 0 for aggregates with `remove`.
    front_panes: usize,
    front: Sums<A::State>,
    back: Sums<A::State>,
    results: KeyTable<A::Output>,
    /// Panes whose memory is used again.
    spare: Vec<Pane<A::State>>,
    /// For the results of keys that are in front and back.
    scratch: Slab,
    /// The bytes that everything may take.
    bytes_max: usize,
}

debug_fields!([A: Aggregate<T>, T] AggregateWindow<A, T>, "AggregateWindow", window_panes);

/// The states of some batches, which are not changed any more.
struct Pane<S> {
    states: FrozenTable<S>,
    /// For each key the sum of the panes of the front behind this one, if there was one.
    behind: Vec<Option<S>>,
    slab: Slab,
    overflow: Overflow,
}

/// The sum of several panes: for each key the number of panes it is in, and its state.
struct Sums<S> {
    table: KeyTable<(u32, S)>,
    slab: Slab,
}

impl<S: Copy> Sums<S> {
    fn new() -> Self {
        Sums {
            table: KeyTable::new(Seed::random()),
            slab: Slab::new(),
        }
    }

    fn state(&self, key: &[u8]) -> Option<S> {
        self.table.get_kept(key).map(|(_, state)| state)
    }

    fn clear(&mut self) {
        self.table.recycle();
        self.slab.clear();
    }

    /// Merges the states of a pane.
    fn merge<A: Aggregate<T, State = S>, T>(&mut self, aggregate: &A, pane: &Pane<S>) {
        let slab = &mut self.slab;
        self.table.update_each(&pane.states, |_, _, from, sum| {
            let (panes, mut state) = sum.unwrap_or_else(|| (0, aggregate.zero()));
            aggregate.merge(&mut state, slab, from, &pane.slab);
            Some((panes + 1, state))
        });
    }

    /// Takes the states of a pane off again.
    fn remove<A: Aggregate<T, State = S>, T>(&mut self, aggregate: &A, pane: &Pane<S>) {
        let slab = &mut self.slab;
        self.table.update_each(&pane.states, |_, _, from, sum| {
            let (panes, mut state) = sum?;
            if panes == 1 {
                aggregate.free(state, slab);
                return None;
            }
            aggregate.remove(&mut state, slab, from, &pane.slab);
            Some((panes - 1, state))
        });
    }

    /// Puts back what was there before the states of a pane were merged.
    fn restore<A: Aggregate<T, State = S>, T>(&mut self, aggregate: &A, pane: &Pane<S>) {
        let slab = &mut self.slab;
        self.table.update_each(&pane.states, |number, _, _, sum| {
            let (panes, state) = sum?;
            aggregate.free(state, slab);
            let behind = pane.behind[number]?;
            Some((panes - 1, copy(aggregate, behind, &pane.slab, slab)))
        });
    }

    fn held_bytes(&self) -> usize {
        self.table.allocated_bytes() + self.slab.held_bytes()
    }
}

/// Copies a state from one slab to another.
fn copy<A: Aggregate<T>, T>(
    aggregate: &A,
    state: A::State,
    from: &Slab,
    to: &mut Slab,
) -> A::State {
    let mut copy = aggregate.zero();
    aggregate.merge(&mut copy, to, state, from);
    copy
}

impl<S: Copy> Pane<S> {
    fn new() -> Self {
        Pane {
            states: FrozenTable::new(),
            behind: Vec::new(),
            slab: Slab::new(),
            overflow: Overflow::default(),
        }
    }

    /// Copies the states of `open`.
    fn fill<A: Aggregate<T, State = S>, T>(&mut self, open: &AggregateTable<A, T>) {
        self.behind.clear();
        self.slab.recycle();
        self.overflow = open.overflow();
        open.freeze_into(&mut self.states, &mut self.slab);
    }

    /// Remembers for each key what is in `front`.
    fn remember<A: Aggregate<T, State = S>, T>(&mut self, aggregate: &A, front: &Sums<S>) {
        let slab = &mut self.slab;
        let keys = self.states.iter();
        self.behind.extend(keys.map(|(key, _)| {
            let state = front.state(key)?;
            Some(copy(aggregate, state, &front.slab, slab))
        }));
    }

    fn held_bytes(&self) -> usize {
        let behind = self.behind.capacity() * size_of::<Option<S>>();
        self.states.held_bytes() + behind + self.slab.held_bytes()
    }
}

impl<A: Aggregate<T>, T> AggregateWindow<A, T> {
    /// A window of the last `window` batches, every `slide` batches; both at least 1.
    pub fn new(aggregate: A, window: usize, slide: usize) -> Self {
        let pane_batches = common_divisor(window, slide);
        AggregateWindow {
            open: AggregateTable::new(aggregate.clone(), Seed::random(), MemoryCap::NONE),
            aggregate,
            pane_batches,
            window_panes: window / pane_batches,
            open_batches: 0,
            has_failed: false,
            until_sound: 0,
            panes: VecDeque::new(),
            front_panes: 0,
            front: Sums::new(),
            back: Sums::new(),
            results: KeyTable::new(Seed::random()),
            spare: Vec::new(),
            scratch: Slab::new(),
            bytes_max: usize::MAX,
        }
    }

    /// Limits the memory to `bytes`. Keys without room in a pane are refused. Call it before the
    /// first batch.
    pub(crate) fn keep_within(&mut self, bytes: usize) {
        self.bytes_max = bytes;
    }

    /// Another batch begins: [`enter`](Self::enter) or [`fail`](Self::fail) follows.
    pub fn begin_batch(&mut self) {
        self.open_batches = self.open_batches % self.pane_batches + 1;
        if self.open_batches == 1 {
            self.open.clear();
            self.has_failed = false;
        }
    }

    fn is_complete(&self) -> bool {
        self.open_batches == self.pane_batches
    }

    /// Adds the states of the batch that began.
    pub fn enter(&mut self, batch: &AggregateTable<A, T>) {
        if !self.has_failed {
            let bytes = self.pane_bytes_max();
            self.open.merge_up_to(batch, bytes);
        }
        if self.is_complete() {
            self.close();
        }
    }

    /// The batch that began has no states, or [`enter`](Self::enter) panicked. No window that holds
    /// it has results.
    pub(crate) fn fail(&mut self) {
        self.front.clear();
        self.back.clear();
        self.results.recycle();
        self.spare.extend(self.panes.drain(..));
        self.front_panes = 0;
        self.has_failed = true;
        if self.is_complete() {
            self.until_sound = self.window_panes;
        }
    }

    /// The open pane is complete.
    fn close(&mut self) {
        if self.has_failed {
            self.until_sound = self.window_panes;
            return;
        }
        self.until_sound = self.until_sound.saturating_sub(1);
        let mut pane = self.spare.pop().unwrap_or_else(Pane::new);
        pane.fill(&self.open);
        self.back.merge(&self.aggregate, &pane);
        self.panes.push_back(pane);
        if self.panes.len() > self.window_panes {
            self.leave();
        }
        let newest = self.panes.len() - 1;
        self.finish_keys_of(newest);
    }

    /// The oldest pane leaves.
    fn leave(&mut self) {
        let aggregate = &self.aggregate;
        if A::HAS_REMOVE {
            self.back.remove(aggregate, &self.panes[0]);
        } else {
            if self.front_panes == 0 {
                self.front.clear();
                for pane in self.panes.iter_mut().rev() {
                    pane.remember(aggregate, &self.front);
                    self.front.merge(aggregate, pane);
                }
                self.back.clear();
                self.front_panes = self.panes.len();
            }
            self.front.restore(aggregate, &self.panes[0]);
            self.front_panes -= 1;
        }
        self.finish_keys_of(0);
        self.spare.extend(self.panes.pop_front());
    }

    /// Updates the results of the keys of a pane.
    fn finish_keys_of(&mut self, pane: usize) {
        let (aggregate, front, back) = (&self.aggregate, &self.front, &self.back);
        let scratch = &mut self.scratch;
        let states = &self.panes[pane].states;
        self.results.update_each(states, |_, key, _, _| {
            let (one, two) = (front.state(key), back.state(key));
            let (Some(one), Some(two)) = (one, two) else {
                let one = one.map(|state| aggregate.finish(state, &front.slab));
                return one.or(two.map(|state| aggregate.finish(state, &back.slab)));
            };
            let mut both = copy(aggregate, one, &front.slab, scratch);
            aggregate.merge(&mut both, scratch, two, &back.slab);
            let result = aggregate.finish(both, scratch);
            aggregate.free(both, scratch);
            Some(result)
        });
    }

    /// The results of the window that ends with the batch that entered last; `None` if one of its
    /// batches failed.
    pub fn slide(&mut self) -> Option<&KeyTable<A::Output>> {
        let overflows = self.panes.iter().map(|pane| pane.overflow);
        self.results
            .set_overflow(overflows.fold(Overflow::default(), Overflow::plus));
        (self.until_sound == 0).then_some(&self.results)
    }

    /// Writes the states of the window.
    ///
    /// # Errors
    ///
    /// Those of `to`; or a batch failed, or met the memory limit.
    pub(crate) fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        if self.has_failed || self.until_sound > 0 {
            return Err(io::Error::other("a batch that failed is missing in it"));
        }
        self.header().save(to)?;
        (self.open_batches as u64, self.panes.len() as u64).save(to)?;
        // A complete pane is among the others.
        if !self.is_complete() {
            self.open.save(to)?;
        }
        self.panes.iter().try_for_each(|pane| {
            let save = |state, to: &mut dyn Write| self.aggregate.save(state, &pane.slab, to);
            pane.states.save_by(save, to)
        })
    }

    /// Reads what [`save`](Self::save) wrote, before the first batch.
    ///
    /// # Errors
    ///
    /// Those of `from`; or the bytes are none that `save` writes.
    pub(crate) fn load(&mut self, from: &mut dyn Read) -> io::Result<()> {
        if Saved::load(from).ok() != Some(self.header()) {
            return Err(invalid("it is a window of another length or slide"));
        }
        let (open_batches, panes) = <(u64, u64)>::load(from)?;
        if open_batches > self.pane_batches as u64 || panes > self.window_panes as u64 {
            return Err(invalid("a window has too many batches"));
        }
        self.open_batches = open_batches as usize;
        if !self.is_complete() {
            self.open.load(from)?;
        }
        for at in 0..panes as usize {
            let mut states = self.open.empty_like();
            states.load(from)?;
            let mut pane = Pane::new();
            pane.fill(&states);
            self.back.merge(&self.aggregate, &pane);
            self.panes.push_back(pane);
            self.finish_keys_of(at);
        }
        Ok(())
    }

    /// What two windows have in common that may load each other's states.
    fn header(&self) -> (u64, u64) {
        (self.pane_batches as u64, self.window_panes as u64)
    }

    /// What the next pane may take: its share, or as much as leaves half of the memory free.
    fn pane_bytes_max(&self) -> usize {
        if self.bytes_max == usize::MAX {
            return usize::MAX;
        }
        let results = AggregateTable::<A, T>::result_tables();
        let half = self.bytes_max / 2;
        let share = half / (self.window_panes + 1);
        share.max(half.saturating_sub(self.held_bytes())) / (PANE_PARTS + results)
    }

    /// Bytes of everything.
    pub(crate) fn held_bytes(&self) -> usize {
        let panes = self.panes.iter().chain(&self.spare).map(Pane::held_bytes);
        let sums = self.front.held_bytes() + self.back.held_bytes();
        let results = self.results.allocated_bytes();
        panes.sum::<usize>() + sums + results + self.scratch.held_bytes()
    }
}

impl<A: Aggregate<T>, T> AsRef<KeyTable<A::Output>> for AggregateWindow<A, T> {
    /// The results of the last window.
    fn as_ref(&self) -> &KeyTable<A::Output> {
        &self.results
    }
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::{Count, Distinct, Max, Mean, Min, Percentile, Sum};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Batch = Vec<(u8, i64)>;

    fn table_of<A: Aggregate<i64>>(aggregate: &A, batch: &Batch) -> AggregateTable<A, i64> {
        let mut table = AggregateTable::new(aggregate.clone(), Seed::random(), MemoryCap::NONE);
        for (key, value) in batch {
            table.add(&[], &vec![*key; usize::from(*key) * 4 + 1], *value);
        }
        table
    }

    fn content<V: Copy>(table: &KeyTable<V>) -> BTreeMap<Vec<u8>, V> {
        table
            .iter()
            .map(|(key, value)| (key.to_vec(), value))
            .collect()
    }

    /// Every window equals the results of its batches, aggregated anew.
    fn check<A>(aggregate: &A, batches: &[Option<Batch>], window: usize, slide: usize)
    where
        A: Aggregate<i64>,
        A::Output: PartialEq + std::fmt::Debug,
    {
        let mut windows = AggregateWindow::new(aggregate.clone(), window, slide);
        for (number, batch) in batches.iter().enumerate() {
            windows.begin_batch();
            match batch {
                Some(batch) => windows.enter(&table_of(aggregate, batch)),
                None => windows.fail(),
            }
            if (number + 1) % slide > 0 {
                continue;
            }
            let held = &batches[(number + 1).saturating_sub(window)..=number];
            let is_sound = held.iter().all(Option::is_some);
            let found = windows.slide().map(content);
            assert_eq!(found.is_some(), is_sound, "batch {number}");
            let Some(found) = found else { continue };
            let all = held.iter().flatten().flatten().copied().collect();
            let mut expected = KeyTable::new(Seed::random());
            table_of(aggregate, &all).finish_into(&mut expected);
            assert_eq!(found, content(&expected), "batch {number}");
        }
    }

    fn batches() -> impl Strategy<Value = Vec<Option<Batch>>> {
        let batch = proptest::collection::vec((0u8..9, -500i64..500), 0..30);
        let failing = prop_oneof![12 => batch.prop_map(Some), 1 => Just(None)];
        proptest::collection::vec(failing, 1..24)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn windows_equal_their_batches_aggregated_anew(
            batches in batches(),
            window in 1usize..9,
            slide in 1usize..5,
        ) {
            // With `remove`, and without.
            let removable = (Count, Sum, Mean, Percentile::new(90.0));
            check(&removable, &batches, window, slide);
            check(&(Min, Max, Distinct::with_seed(1), Percentile::new(50.0)), &batches, window, slide);
        }
    }

    #[test]
    fn a_window_keeps_to_its_memory() {
        let aggregate = (Percentile::new(99.0), Distinct::with_seed(1));
        for bytes in [8 << 20, 24 << 20] {
            let mut window = AggregateWindow::new(aggregate, 10, 1);
            window.keep_within(bytes);
            let (mut lost, mut kept) = (0, 0);
            for number in 0..24u64 {
                let mut batch = AggregateTable::new(aggregate, Seed::random(), MemoryCap::NONE);
                for value in 0..if number % 10 == 3 { 30_000u64 } else { 3000 } {
                    let key = (value.wrapping_mul(7919) % 4001 + number * 50).to_be_bytes();
                    batch.add(&[], &key, value);
                }
                batch.set_records(30_000);
                window.begin_batch();
                window.enter(&batch);
                let held = window.held_bytes();
                assert!(held <= bytes, "{held} {bytes} at batch {number}");
                let results = window.slide().expect("nothing failed");
                (lost, kept) = (lost + results.overflow().other, kept + results.len());
            }
            assert!(kept > 5000, "{kept}");
            assert_eq!(lost == 0, bytes > 100 << 20, "{lost}");
        }
    }
}
