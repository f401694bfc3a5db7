//! Tables that exist while their batch is being published, between the operator that makes them and
//! those that use them.
//!
//! Promise: a reader gets the batch's table, learns that the stream produced none, or why it
//! failed. A table that is to outlive its batch is moved where that is possible, and else copied;
//! moved or not, every reader of the batch finds it.
//! Must not know: `ops`, `lower`, `engine`.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::batch::BatchStats;
use crate::batch::owned::OwnedBatch;
use crate::error::lock;
use crate::stream::plan::batch_cache::{Failure, Produced};
use crate::stream::plan::graph::KeptBatches;
use crate::table::KeyTable;
use crate::time::BatchTime;
use crate::window::{InverseWindow, ReduceWindow};

/// A stream of one value per key and batch: a table that exists while its batch is being published.
pub(crate) trait BatchTable<V>: Send + Sync {
    /// Calls `f` with the batch at `time`. Returns `false` if the stream produced none.
    fn with(
        &self,
        time: BatchTime,
        f: &mut dyn FnMut(&KeyTable<V>, &BatchStats),
    ) -> Result<bool, Failure>;

    /// The batch at `time`, to be kept beyond its turn. Whoever asks first has the table moved, or
    /// copied if it [is kept](Self::is_kept).
    fn owned(&self, time: BatchTime) -> Produced<Arc<OwnedBatch<V>>>;

    /// Allows `count` owned batches at a time. Returns how many more that is than before.
    fn allow_owned(&self, count: usize) -> usize;

    /// Returns `true` if the table is needed for later batches.
    fn is_kept(&self) -> bool;
}

/// What holds the table of a stream.
pub(crate) trait TableHolder: Send {
    /// The table's values.
    type Value: Copy + Send + Sync + 'static;

    /// The table may be moved away, because it is not needed for later batches.
    fn table_to_move(&mut self) -> Option<&mut KeyTable<Self::Value>> {
        None
    }
}

impl<V: Copy + Send + Sync + 'static> TableHolder for KeyTable<V> {
    type Value = V;

    fn table_to_move(&mut self) -> Option<&mut KeyTable<V>> {
        Some(self)
    }
}

impl<V: Copy + Send + Sync + 'static> TableHolder for ReduceWindow<V> {
    type Value = V;
}

impl<V: Copy + Send + Sync + 'static> TableHolder for InverseWindow<V> {
    type Value = V;
}

impl<V> dyn BatchTable<V> {
    /// Returns `true` if the stream produced something for the batch at `time`, if only a failure.
    pub(crate) fn has_batch(&self, time: BatchTime) -> bool {
        self.with(time, &mut |_, _| ()).unwrap_or(true)
    }

    /// Calls `f` with the batch at `time`, and returns its answer.
    pub(crate) fn map<R>(
        &self,
        time: BatchTime,
        f: impl FnOnce(&KeyTable<V>, &BatchStats) -> R,
    ) -> Produced<R> {
        let (mut f, mut answer) = (Some(f), None);
        self.with(time, &mut |table, stats| {
            if let Some(f) = f.take() {
                answer = Some(f(table, stats));
            }
        })?;
        Ok(answer)
    }
}

/// A [`BatchTable`] whose table is lent by what computes it, the holder.
pub(crate) struct LentTable<H: TableHolder>(Mutex<Holding<H>>);

struct Holding<H: TableHolder> {
    holder: H,
    stats: BatchStats,
    /// The batch's table once it was moved or copied.
    owned: Option<Arc<OwnedBatch<H::Value>>>,
    /// Batches that were made owned, the last one last. One that nobody else has is used again.
    batches: Vec<Arc<OwnedBatch<H::Value>>>,
    /// How many of them may be needed at a time.
    owned_max: usize,
    /// The batch whose table the holder has now, or why it has none.
    at: Option<(BatchTime, Result<(), Failure>)>,
}

impl<H: TableHolder + AsRef<KeyTable<H::Value>>> Holding<H> {
    /// Moves or copies the batch's table.
    fn own(&mut self) -> Arc<OwnedBatch<H::Value>> {
        while self.batches.len() < self.owned_max {
            let table = self.holder.as_ref().empty_like();
            let stats = self.stats;
            self.batches.push(Arc::new(OwnedBatch { table, stats }));
        }
        // The one that was used longest ago: soon all of them have grown to the size they need.
        let mut batches = self.batches.iter_mut();
        let free = batches.position(|batch| Arc::get_mut(batch).is_some());
        let free = free.expect("queues hold fewer batches than there are");
        let mut batch = self.batches.remove(free);
        let owned = Arc::get_mut(&mut batch).expect("nobody else has it");
        owned.table.clear();
        owned.table.set_seed(self.holder.as_ref().seed());
        owned.stats = self.stats;
        match self.holder.table_to_move() {
            Some(table) => std::mem::swap(table, &mut owned.table),
            None => {
                owned.table.merge_from(self.holder.as_ref(), |_, new| new);
                owned.stats = self.stats.with(owned.table.overflow());
            }
        }
        self.batches.push(Arc::clone(&batch));
        self.owned = Some(Arc::clone(&batch));
        batch
    }
}

impl<H: TableHolder> Holding<H> {
    /// Empties the batches that nobody else has any more, for the memory that tables share.
    fn clear_unused(&mut self) {
        self.owned = None;
        for batch in self.batches.iter_mut().filter_map(Arc::get_mut) {
            batch.table.clear();
        }
    }
}

impl<H: TableHolder> LentTable<H> {
    pub(crate) fn new(holder: H) -> Arc<Self> {
        Arc::new(LentTable(Mutex::new(Holding {
            holder,
            stats: BatchStats::default(),
            owned: None,
            batches: Vec::new(),
            owned_max: 0,
            at: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Holding<H>> {
        lock(&self.0)
    }

    /// Calls `f` with the holder, between two batches.
    pub(crate) fn hold<R>(&self, f: impl FnOnce(&mut H) -> R) -> R {
        f(&mut self.lock().holder)
    }

    /// Makes the batch at `time`: `make` changes the holder and returns statistics.
    pub(crate) fn make<E>(
        &self,
        time: BatchTime,
        make: impl FnOnce(&mut H) -> Result<Option<BatchStats>, E>,
    ) -> Result<(), E> {
        let mut holding = self.lock();
        holding.at = None;
        if let Some(stats) = make(&mut holding.holder)? {
            holding.stats = stats;
            holding.at = Some((time, Ok(())));
        }
        Ok(())
    }

    /// Calls `f` with the holder if it has the batch at `time`, and returns its answer.
    pub(crate) fn look<R>(
        &self,
        time: BatchTime,
        f: impl FnOnce(&H, &BatchStats) -> R,
    ) -> Produced<R> {
        let holding = self.lock();
        match &holding.at {
            Some((at, Ok(()))) if *at == time => Ok(Some(f(&holding.holder, &holding.stats))),
            Some((at, Err(failure))) if *at == time => Err(failure.clone()),
            _ => Ok(None),
        }
    }

    /// The batch has been published: `take_back` undoes what `make` lent.
    pub(crate) fn forget(&self, take_back: impl FnOnce(&mut H)) {
        let mut holding = self.lock();
        holding.clear_unused();
        if let Some((_, Ok(()))) = holding.at.take() {
            take_back(&mut holding.holder);
        }
    }
}

impl<H: TableHolder> KeptBatches for LentTable<H> {
    fn fail(&self, time: BatchTime, failure: &Failure) {
        self.lock().at = Some((time, Err(failure.clone())));
    }

    fn leave(&self) {
        self.forget(|_| ());
    }
}

impl<H: TableHolder + AsRef<KeyTable<H::Value>>> BatchTable<H::Value> for LentTable<H> {
    fn with(
        &self,
        time: BatchTime,
        f: &mut dyn FnMut(&KeyTable<H::Value>, &BatchStats),
    ) -> Result<bool, Failure> {
        let holding = self.lock();
        match &holding.at {
            Some((at, Ok(()))) if *at == time => {
                let owned = holding.owned.as_ref().map(|batch| &batch.table);
                f(owned.unwrap_or(holding.holder.as_ref()), &holding.stats);
                Ok(true)
            }
            Some((at, Err(failure))) if *at == time => Err(failure.clone()),
            _ => Ok(false),
        }
    }

    fn owned(&self, time: BatchTime) -> Produced<Arc<OwnedBatch<H::Value>>> {
        let mut holding = self.lock();
        match &holding.at {
            Some((at, Ok(()))) if *at == time => Ok(Some(match &holding.owned {
                Some(owned) => Arc::clone(owned),
                None => holding.own(),
            })),
            Some((at, Err(failure))) if *at == time => Err(failure.clone()),
            _ => Ok(None),
        }
    }

    fn allow_owned(&self, count: usize) -> usize {
        let mut holding = self.lock();
        let before = holding.owned_max;
        holding.owned_max = before.max(count);
        holding.owned_max - before
    }

    fn is_kept(&self) -> bool {
        self.lock().holder.table_to_move().is_none()
    }
}
