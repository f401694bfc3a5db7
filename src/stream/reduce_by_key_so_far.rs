//! `reduce_by_key_so_far`: one value a key over all batches there were.

use std::sync::Arc;

use crate::epoch::{BatchStats, BatchTime, WindowSums};
use crate::stream::cell::{Failure, Held, TableAt};
use crate::stream::graph::{Now, Starting, Step};
use crate::stream::memory_limit::MemoryLimit;
use crate::stream::reduced::Reduced;
use crate::table::Table;
use crate::table::bound::Loss;
use crate::table::keys::Seed;

impl<'c, V: Copy + Send + Sync + 'static> Reduced<'c, V> {
    /// Folds the values each key had in all batches so far: a window that nothing leaves. A batch costs a
    /// look-up for each of its keys; the memory grows with the number of keys there ever were, up to the
    /// limit if there is one ([`Config::memory_bytes_max`](crate::Config::memory_bytes_max)).
    ///
    /// When a batch fails, so do all behind it: their sums would lack it.
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
        let held = Held::new(SoFar {
            table: Table::new(Seed::random()),
            has_begun: false,
        });
        let step = SoFarStep {
            parent: Arc::clone(&self.held),
            held: Arc::clone(&held),
            reduce,
            sums: WindowSums::new(None),
            is_lost: false,
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
    table: Table<V>,
    has_begun: bool,
}

impl<V> AsRef<Table<V>> for SoFar<V> {
    fn as_ref(&self) -> &Table<V> {
        &self.table
    }
}

struct SoFarStep<V, F> {
    parent: Arc<dyn TableAt<V>>,
    held: Arc<Held<SoFar<V>>>,
    reduce: F,
    sums: WindowSums,
    /// A batch is missing in the sums.
    is_lost: bool,
    limit: MemoryLimit,
}

impl<V, F> Step for SoFarStep<V, F>
where
    V: Copy + Send + Sync + 'static,
    F: Fn(V, V) -> V + Send,
{
    fn name(&self) -> &'static str {
        "reduce_by_key_so_far"
    }

    fn start(&mut self, starting: &Starting<'_>) {
        self.limit.start(starting);
    }

    fn run(&mut self, now: &mut Now<'_, '_>) -> Result<(), Failure> {
        if self.is_lost {
            return Err(Failure::states_lost(1));
        }
        // Should `reduce` panic half way, the sums are lost.
        self.is_lost = true;
        let (sums, reduce, parent) = (&mut self.sums, &self.reduce, &self.parent);
        let (mut batch_stats, mut loss) = (BatchStats::default(), Loss::default());
        self.held.make(now.time, |all| {
            let entered = parent.map(now.time, |batch, stats| {
                if !std::mem::replace(&mut all.has_begun, true) {
                    // Tables of one seed are merged leaf by leaf.
                    all.table = batch.empty_like();
                }
                all.table.merge_within(batch, reduce);
                *stats
            })?;
            let stats = entered.unwrap_or_default();
            sums.enter(stats);
            (batch_stats, loss) = (stats, all.table.loss());
            let stats = BatchStats {
                time: now.time,
                keys: all.table.len() as u64,
                ..sums.of(&stats)
            };
            Ok(Some(stats.with(loss)))
        })?;
        self.is_lost = false;
        self.limit.enter(&batch_stats);
        self.limit.look(now, loss);
        Ok(())
    }

    fn fail(&mut self, time: BatchTime, failure: &Failure) {
        self.held.fail(time, failure);
    }

    fn leave(&mut self, _now: &mut Now<'_, '_>) {
        self.held.forget(|_| ());
    }
}
