//! `reduce_by_key_so_far`: one value per key over all batches so far.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::batch::{BatchStats, WindowSums};
use crate::error;
use crate::limits::FAILED_BATCHES_MAX;
use crate::save::{CodecSlot, StateKind};
use crate::stream::plan::batch_cache::Failure;
use crate::stream::plan::graph::{BatchContext, KeptBatches, Operator, StartContext};
use crate::stream::plan::lent_table::{BatchTable, LentTable, TableHolder};
use crate::stream::plan::memory_limit::MemoryLimit;
use crate::stream::program::reduced::Reduced;
use crate::table::KeyTable;
use crate::table::bound::Overflow;
use crate::table::keys::Seed;

impl<V: Copy + Send + Sync + 'static> Reduced<V> {
    /// Folds the values of each key over all batches so far: a window that nothing leaves. In
    /// Spark, `updateStateByKey` does that.
    ///
    /// A batch costs a look-up for each of its keys. The memory grows with the number of keys, up
    /// to [`Config::memory_bytes_max`](crate::Config::memory_bytes_max) if set.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// let words = ssc.socket_text_stream("localhost", 9999)?.flat_map(split(b' '));
    /// words.count_by_value().reduce_by_key_so_far(|a, b| a + b).pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    ///
    /// If `reduce` panics, the batch fails. The part that was not folded is kept and folded at the
    /// next batch, for up to 128 failed batches in a row. All later batches fail, because their
    /// sums would lack something, in three cases: one more batch fails; there is a memory limit,
    /// which has no room for kept batches; or the batch of this stream failed itself, so its
    /// records are lost.
    pub fn reduce_by_key_so_far(&self, reduce: impl Fn(V, V) -> V + Send + 'static) -> Reduced<V> {
        self.plan.keep_table();
        let table = LentTable::new(TableSoFar {
            table: KeyTable::new(Seed::random()),
            has_begun: false,
        });
        let codec = CodecSlot::default();
        let operator = SoFarOperator {
            parent: Arc::clone(&self.table),
            table: Arc::clone(&table),
            codec: codec.clone(),
            reduce,
            sums: WindowSums::new(None),
            pending: VecDeque::new(),
            lost: None,
            keeps_pending: self.plan.memory_limit().is_none(),
            limit: MemoryLimit::new(self.plan.memory_limit()),
        };
        let (parents, operator) = (vec![self.id], Box::new(operator));
        let kind = "reduce_by_key_so_far";
        Reduced {
            codec,
            ..(self.plan).table_stream(kind, table, parents, self.slide_ms, operator)
        }
    }
}

/// The fold of all batches so far.
struct TableSoFar<V> {
    /// Until a batch has come, it is empty, or what was loaded.
    table: KeyTable<V>,
    has_begun: bool,
}

impl<V: Copy> TableSoFar<V> {
    /// Adds a batch.
    ///
    /// # Errors
    ///
    /// `reduce` panicked; the second part is the number of entries begun.
    fn merge(
        &mut self,
        batch: &KeyTable<V>,
        reduce: impl Fn(V, V) -> V,
    ) -> Result<(), (Failure, usize)> {
        if !std::mem::replace(&mut self.has_begun, true) {
            // Tables of one seed are merged leaf by leaf.
            let loaded = std::mem::replace(&mut self.table, batch.empty_like());
            self.table.merge_from(&loaded, |_, new| new);
        }
        let mut begun = 0;
        let merged = Failure::catch_in_records(|| {
            self.table.merge_within(batch, &mut begun, reduce);
            Ok(())
        });
        merged.map_err(|failure| (failure, begun))
    }
}

impl<V> AsRef<KeyTable<V>> for TableSoFar<V> {
    fn as_ref(&self) -> &KeyTable<V> {
        &self.table
    }
}

impl<V: Copy + Send + Sync + 'static> TableHolder for TableSoFar<V> {
    type Value = V;
}

struct SoFarOperator<V: Copy + Send + Sync + 'static, F> {
    parent: Arc<dyn BatchTable<V>>,
    table: Arc<LentTable<TableSoFar<V>>>,
    codec: CodecSlot<V>,
    reduce: F,
    sums: WindowSums,
    /// What the sums lack, oldest first, each with the statistics of its batch.
    pending: VecDeque<(KeyTable<V>, BatchStats)>,
    /// The sums lack something for good.
    lost: Option<Failure>,
    /// What the sums lack may be kept.
    keeps_pending: bool,
    limit: MemoryLimit,
}

impl<V, F> Operator for SoFarOperator<V, F>
where
    V: Copy + Send + Sync + 'static,
    F: Fn(V, V) -> V + Send,
{
    fn kept(&self) -> &dyn KeptBatches {
        &*self.table
    }

    fn start(&mut self, context: &mut StartContext<'_>) -> error::Result<()> {
        self.limit.start(context);
        Ok(())
    }

    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> Result<(), Failure> {
        if let Some(failure) = &self.lost {
            return Err(failure.clone());
        }
        let (sums, reduce, parent) = (&mut self.sums, &self.reduce, &self.parent);
        let (pending, keeps_pending) = (&mut self.pending, self.keeps_pending);
        let (mut batch_stats, mut overflow) = (BatchStats::default(), Overflow::default());
        let made = self.table.make(now.time, |all| {
            // The pending batches, then the current one.
            let mut caught_up = Ok(());
            while let Some((rest, stats)) = pending.front_mut() {
                caught_up = all.merge(rest, reduce).map_err(|(failure, begun)| {
                    *rest = rest.not_merged(begun);
                    failure
                });
                if caught_up.is_err() {
                    break;
                }
                sums.enter(*stats);
                pending.pop_front();
            }
            let entered = parent.map(now.time, |batch, stats| {
                let merged = match &caught_up {
                    Ok(()) => all.merge(batch, reduce),
                    Err(failure) => Err((failure.clone(), 0)),
                };
                merged.map(|()| *stats).map_err(|(failure, begun)| {
                    if keeps_pending {
                        pending.push_back((batch.not_merged(begun), *stats));
                    }
                    failure
                })
            });
            // `Err` is a failed batch of the parent, which cannot be made again.
            let stats = match (entered, caught_up) {
                (Err(failure), _) => return Err((failure, true)),
                (Ok(Some(Err(failure))), _) | (Ok(None), Err(failure)) => {
                    return Err((failure, !keeps_pending));
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
            let missed = self.pending.len().max(1);
            if is_lost || missed > FAILED_BATCHES_MAX {
                self.lost = Some(Failure::states_lost(missed));
                self.pending.clear();
            }
            return Err(failure);
        }
        self.limit.enter(&batch_stats);
        self.limit.report(now, overflow);
        Ok(())
    }

    fn state(&self) -> StateKind {
        self.codec.state()
    }

    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        if self.lost.is_some() || !self.pending.is_empty() {
            return Err(io::Error::other("a batch that failed is missing in it"));
        }
        self.sums.save(to)?;
        let codec = self.codec.codec()?;
        self.table.hold(|all| all.table.save(codec, to))
    }

    fn load(&mut self, from: &mut dyn Read) -> io::Result<()> {
        self.sums.load(from)?;
        let loaded = KeyTable::load(self.codec.codec()?, from)?;
        self.table.hold(|all| all.table = loaded);
        Ok(())
    }
}
