//! Streams each of whose batches depends on the one before: states.
//!
//! Promise: batches are made in order. One that fails is made again before the next one, so nothing
//! is left out of the state; after [`FAILED_BATCHES_MAX`] failures in a row the state is lost. Must
//! not know: `sink`, `table`, `engine`.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::limits::FAILED_BATCHES_MAX;
use crate::save::StateKind;
use crate::stream::plan::batch_cache::{BatchCache, CachedBatch, FailedBatch, Failure, Produced};
use crate::stream::plan::graph::{BatchContext, KeptBatches, Operator};
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::rdd_stream::RddStream;
use crate::time::BatchTime;

impl<T: Record> RddStream<T> {
    /// A stream whose batches `make` makes of this one's batches and of a state, and puts into
    /// `cache`. It is called for each batch in order until it works; a call that panics must have
    /// left the state as it was.
    pub(crate) fn chain<U: Record, S: KeptState + 'static>(
        &self,
        kind: &'static str,
        cache: BatchCache<U>,
        state: S,
        make: impl FnMut(&mut S, Option<Rdd<T>>, BatchTime) -> Option<Rdd<U>> + Send + 'static,
    ) -> RddStream<U> {
        let operator = Chain {
            parent: self.cache.clone(),
            cache: cache.clone(),
            kept: state,
            make,
            pending: VecDeque::new(),
            lost: None,
        };
        let parents = vec![self.id];
        (self.plan).stream_of(kind, cache, parents, self.slide_ms, Box::new(operator))
    }
}

/// What a chain keeps from batch to batch.
pub(crate) trait KeptState: Send {
    /// Whether it can be saved.
    fn kind(&self) -> StateKind;

    /// Writes it.
    fn save(&self, to: &mut dyn Write) -> io::Result<()>;

    /// Reads what [`save`](Self::save) wrote.
    fn load(&mut self, from: &mut dyn Read) -> io::Result<()>;
}

struct Chain<T, U, S, F> {
    parent: BatchCache<T>,
    cache: BatchCache<U>,
    kept: S,
    make: F,
    /// The batches that have not been made yet, oldest first.
    pending: VecDeque<PendingBatch<T, U>>,
    lost: Option<Failure>,
}

struct PendingBatch<T, U> {
    time: BatchTime,
    /// What it is made of.
    parent: CachedBatch<T>,
    /// What its readers hold, once it has failed.
    failed: Option<Arc<FailedBatch<U>>>,
}

impl<T, U, S, F> Operator for Chain<T, U, S, F>
where
    T: Record,
    U: Record,
    S: KeptState,
    F: FnMut(&mut S, Option<Rdd<T>>, BatchTime) -> Option<Rdd<U>> + Send,
{
    fn kept(&self) -> &dyn KeptBatches {
        &self.cache
    }

    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> Result<(), Failure> {
        if let Some(failure) = &self.lost {
            return Err(failure.clone());
        }
        self.pending.push_back(PendingBatch {
            time: now.time,
            parent: self.parent.batch(now.time),
            failed: None,
        });
        while let Some(batch) = self.pending.front() {
            let time = batch.time;
            let made: Produced<Rdd<U>> = Failure::catch_in_records(|| {
                let parent = batch.parent.get(now.time)?;
                Ok((self.make)(&mut self.kept, parent, time))
            });
            let made = match made {
                Ok(made) => made,
                Err(failure) => {
                    let missed = self.pending.len();
                    if missed > FAILED_BATCHES_MAX {
                        self.lost = Some(Failure::states_lost(missed));
                        self.pending.clear();
                    }
                    // An earlier batch has spoilt its own outputs, if any, and not these.
                    return Err(match time == now.time {
                        true => failure,
                        false => failure.passed_on(),
                    });
                }
            };
            match &batch.failed {
                Some(failed) => failed.settle(made),
                None => self.cache.put(time, CachedBatch::Produced(made)),
            }
            self.pending.pop_front();
        }
        Ok(())
    }

    fn fail(&mut self, time: BatchTime, failure: &Failure) {
        let failed = FailedBatch::new(time, failure, None, None);
        if let Some(batch) = self.pending.back_mut() {
            batch.failed = Some(Arc::clone(&failed));
        }
        self.cache.put(time, CachedBatch::Failed(failed));
    }

    fn state(&self) -> StateKind {
        self.kept.kind().and(self.cache.state())
    }

    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        if self.lost.is_some() || !self.pending.is_empty() {
            return Err(io::Error::other("a batch that failed is missing in it"));
        }
        self.kept.save(to)?;
        self.cache.save(to)
    }

    fn load(&mut self, from: &mut dyn Read) -> io::Result<()> {
        self.kept.load(from)?;
        self.cache.load(from)
    }
}
