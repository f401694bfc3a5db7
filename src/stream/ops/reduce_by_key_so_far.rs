//! `reduce_by_key_so_far`: one value a key over all batches there were.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::batch::{BatchStats, WindowSums};
use crate::limits::FAILED_BATCHES_MAX;
use crate::stream::plan::batch_cache::{BatchTable, Failure, LentTable};
use crate::stream::plan::graph::{BatchContext, Operator, StartContext};
use crate::stream::plan::memory_limit::MemoryLimit;
use crate::stream::program::reduced::Reduced;
use crate::table::KeyTable;
use crate::table::bound::Overflow;
use crate::table::keys::Seed;
use crate::time::BatchTime;

impl<'c, V: Copy + Send + Sync + 'static> Reduced<'c, V> {
    /// Folds the values each key had in all batches so far: a window that nothing leaves. A batch costs a
    /// look-up for each of its keys; the memory grows with the number of keys there ever were, up to the
    /// limit if there is one ([`Config::memory_bytes_max`](crate::Config::memory_bytes_max)).
    ///
    /// When `reduce` panics, the batch fails, and what was not folded of it is kept and folded at the next
    /// batch, of up to 128 failed batches in a row. All later batches fail, since their sums would lack
    /// something, when one more fails, when there is a memory limit, in which the kept ones have no share, or
    /// when the batch of this stream had failed itself: its records are gone.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// let words = ssc.socket_text_stream("localhost", 9999)?.flat_map(split(b' '));
    /// words.count_by_value().reduce_by_key_so_far(|a, b| a + b).pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    pub fn reduce_by_key_so_far(
        &self,
        reduce: impl Fn(V, V) -> V + Send + 'static,
    ) -> Reduced<'c, V> {
        self.context.keep_table();
        let held = LentTable::new(SoFar {
            table: KeyTable::new(Seed::random()),
            has_begun: false,
        });
        let step = SoFarStep {
            parent: Arc::clone(&self.held),
            held: Arc::clone(&held),
            reduce,
            sums: WindowSums::new(None),
            owed: VecDeque::new(),
            lost: None,
            keeps_owed: self.context.memory_limit().is_none(),
            limit: MemoryLimit::new(self.context.memory_limit()),
        };
        let (context, slide_ms) = (self.context, self.slide_ms);
        Reduced {
            context,
            id: context.add_graph_node(vec![self.id], slide_ms, Box::new(step)),
            slide_ms,
            held,
        }
    }
}

/// What there was so far.
struct SoFar<V> {
    table: KeyTable<V>,
    has_begun: bool,
}

impl<V: Copy> SoFar<V> {
    /// Folds a batch in.
    ///
    /// # Errors
    ///
    /// `reduce` has panicked, with so many entries begun.
    fn merge(
        &mut self,
        batch: &KeyTable<V>,
        reduce: impl Fn(V, V) -> V,
    ) -> Result<(), (Failure, usize)> {
        if !std::mem::replace(&mut self.has_begun, true) {
            // Tables of one seed are merged leaf by leaf.
            self.table = batch.empty_like();
        }
        let mut begun = 0;
        let merged = Failure::catch_in_records(|| {
            self.table.merge_within(batch, &mut begun, reduce);
            Ok(())
        });
        merged.map_err(|failure| (failure, begun))
    }
}

impl<V> AsRef<KeyTable<V>> for SoFar<V> {
    fn as_ref(&self) -> &KeyTable<V> {
        &self.table
    }
}

struct SoFarStep<V, F> {
    parent: Arc<dyn BatchTable<V>>,
    held: Arc<LentTable<SoFar<V>>>,
    reduce: F,
    sums: WindowSums,
    /// What is missing in the sums, oldest first, each with the statistics of its batch.
    owed: VecDeque<(KeyTable<V>, BatchStats)>,
    /// Something is missing for good.
    lost: Option<Failure>,
    /// Whether what is missing may be kept.
    keeps_owed: bool,
    limit: MemoryLimit,
}

impl<V, F> Operator for SoFarStep<V, F>
where
    V: Copy + Send + Sync + 'static,
    F: Fn(V, V) -> V + Send,
{
    fn name(&self) -> &'static str {
        "reduce_by_key_so_far"
    }

    fn start(&mut self, starting: &StartContext<'_>) {
        self.limit.start(starting);
    }

    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> Result<(), Failure> {
        if let Some(failure) = &self.lost {
            return Err(failure.clone());
        }
        let (sums, reduce, parent) = (&mut self.sums, &self.reduce, &self.parent);
        let (owed, keeps_owed) = (&mut self.owed, self.keeps_owed);
        let (mut batch_stats, mut overflow) = (BatchStats::default(), Overflow::default());
        let made = self.held.make(now.time, |all| {
            // The batches that are owed, then the one at hand.
            let mut caught_up = Ok(());
            while let Some((rest, stats)) = owed.front_mut() {
                caught_up = all.merge(rest, reduce).map_err(|(failure, begun)| {
                    *rest = rest.not_merged(begun);
                    failure
                });
                if caught_up.is_err() {
                    break;
                }
                sums.enter(*stats);
                owed.pop_front();
            }
            let entered = parent.map(now.time, |batch, stats| {
                let merged = match &caught_up {
                    Ok(()) => all.merge(batch, reduce),
                    Err(failure) => Err((failure.clone(), 0)),
                };
                merged.map(|()| *stats).map_err(|(failure, begun)| {
                    if keeps_owed {
                        owed.push_back((batch.not_merged(begun), *stats));
                    }
                    failure
                })
            });
            // `Err` is a batch of the parent's that failed; what is in it cannot be had again.
            let stats = match (entered, caught_up) {
                (Err(failure), _) => return Err((failure, true)),
                (Ok(Some(Err(failure))), _) | (Ok(None), Err(failure)) => {
                    return Err((failure, !keeps_owed));
                }
                (Ok(Some(Ok(stats))), _) => stats,
                (Ok(None), Ok(())) => BatchStats::default(),
            };
            sums.enter(stats);
            (batch_stats, overflow) = (stats, all.table.overflow());
            let stats = BatchStats {
                time: now.time,
                keys: all.table.len() as u64,
                ..sums.of(&stats)
            };
            Ok(Some(stats.with(overflow)))
        });
        if let Err((failure, is_lost)) = made {
            let missed = self.owed.len().max(1);
            if is_lost || missed > FAILED_BATCHES_MAX {
                self.lost = Some(Failure::states_lost(missed).within(self.name()));
                self.owed.clear();
            }
            return Err(failure);
        }
        self.limit.enter(&batch_stats);
        self.limit.look(now, overflow);
        Ok(())
    }

    fn fail(&mut self, time: BatchTime, failure: &Failure) {
        self.held.fail(time, failure);
    }

    fn leave(&mut self, _now: &mut BatchContext<'_, '_>) {
        self.held.forget(|_| ());
    }
}
