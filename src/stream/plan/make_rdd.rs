//! Operators that make an [`Rdd`] of each batch by a function.
//!
//! Promise: a batch that failed is made again of the same parts, if they can be kept.
//! Must not know: `ops`, `lower`, `engine`.

use std::sync::{Arc, Mutex};

use crate::error::lock;
use crate::stream::plan::batch_cache::{BatchCache, CachedBatch, Failure, Produced, Retry};
use crate::stream::plan::graph::{BatchContext, KeptBatches, Operator};
use crate::stream::plan::rdd::Rdd;
use crate::stream::program::listener::StreamInputInfo;
use crate::time::BatchTime;

/// One attempt to make a batch.
pub(crate) struct Attempt<'a> {
    /// The batch's time.
    pub(crate) time: BatchTime,
    /// The time of the current batch: a later one if the batch failed before.
    pub(crate) now: BatchTime,
    /// Where inputs report their records, at the first attempt.
    pub(crate) inputs: Option<&'a mut Vec<StreamInputInfo>>,
}

/// An [`Operator`] that makes an [`Rdd`] of the parts that `take` takes of its parents. A failed
/// batch is made again, of the same parts, when a reader needs it later.
pub(crate) struct MakeRdd<T, I, P, F> {
    pub(crate) cache: BatchCache<T>,
    pub(crate) take: P,
    /// The parts of the current batch, until it is made.
    pub(crate) taken: Option<I>,
    /// Called by one thread at a time: see [`BatchCache`].
    pub(crate) make: Arc<Mutex<F>>,
}

impl<T, I, P, F> Operator for MakeRdd<T, I, P, F>
where
    T: Send + Sync + 'static,
    I: Send + 'static,
    P: FnMut(&mut BatchContext<'_, '_>) -> std::result::Result<I, Failure> + Send,
    F: FnMut(&I, &mut Attempt<'_>) -> Produced<Rdd<T>> + Send + 'static,
{
    fn kept(&self) -> &dyn KeptBatches {
        &self.cache
    }

    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> std::result::Result<(), Failure> {
        let taken = self.taken.insert((self.take)(now)?);
        let mut attempt = Attempt {
            time: now.time,
            now: now.time,
            inputs: Some(&mut now.inputs),
        };
        let made = (*lock(&self.make))(taken, &mut attempt)?;
        self.taken = None;
        self.cache.put(now.time, CachedBatch::Produced(made));
        Ok(())
    }

    fn fail(&mut self, time: BatchTime, failure: &Failure) {
        let retry = self.taken.take().map(|taken| -> Retry<T> {
            let make = Arc::clone(&self.make);
            Box::new(move |now| {
                let mut attempt = Attempt {
                    time,
                    now,
                    inputs: None,
                };
                (*lock(&make))(&taken, &mut attempt)
            })
        });
        self.cache.put_failed(time, failure, retry);
    }
}

/// An [`Operator`] that makes an [`Rdd`] of what exists only during its batch, such as the shards'
/// results: a failed batch stays failed.
pub(crate) struct TakeRdd<T, F> {
    pub(crate) cache: BatchCache<T>,
    pub(crate) make: F,
}

impl<T, F> Operator for TakeRdd<T, F>
where
    T: Send + Sync + 'static,
    F: FnMut(&mut BatchContext<'_, '_>) -> Produced<Rdd<T>> + Send,
{
    fn kept(&self) -> &dyn KeptBatches {
        &self.cache
    }

    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> std::result::Result<(), Failure> {
        let made = (self.make)(now)?;
        self.cache.put(now.time, CachedBatch::Produced(made));
        Ok(())
    }
}
