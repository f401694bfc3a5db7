//! Streams whose batches are made one of another: states.
//!
//! Promise: every batch is made in its turn. One that fails is owed, and made again before the next one, so
//! what it lacked is folded in as soon as it works; after [`FAILED_BATCHES_MAX`] in a row the chain
//! is lost. Must not know: what a batch is made of.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::limits::FAILED_BATCHES_MAX;
use crate::stream::plan::batch_cache::{BatchCache, Entry, Failure, Owed, Produced};
use crate::stream::plan::graph::{BatchContext, Operator, StartContext};
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::rdd_stream::RddStream;
use crate::time::BatchTime;

impl<'c, T: Record> RddStream<'c, T> {
    /// A stream each of whose batches `make` makes of this one's batch and of what it has kept of the batch
    /// before. `make` is called for each batch in order until it works; when it panics it must have changed
    /// nothing.
    pub(crate) fn chain<U: Record>(
        &self,
        name: &'static str,
        make: impl FnMut(Option<Rdd<T>>, BatchTime) -> Option<Rdd<U>> + Send + 'static,
    ) -> RddStream<'c, U> {
        let cell = BatchCache::new();
        let step = Chain {
            name,
            parent: self.cell.clone(),
            cell: cell.clone(),
            make,
            owed: VecDeque::new(),
            lost: None,
        };
        let parents = vec![self.id];
        (self.context).stream_of(cell, parents, self.slide_ms, Box::new(step))
    }
}

struct Chain<T, U, F> {
    name: &'static str,
    parent: BatchCache<T>,
    cell: BatchCache<U>,
    make: F,
    /// The batches that were not made yet, oldest first.
    owed: VecDeque<Link<T, U>>,
    lost: Option<Failure>,
}

struct Link<T, U> {
    time: BatchTime,
    /// What it is made of.
    parent: Entry<T>,
    /// What those that use it wait for, once it has failed.
    owed: Option<Arc<Owed<U>>>,
}

impl<T, U, F> Operator for Chain<T, U, F>
where
    T: Record,
    U: Record,
    F: FnMut(Option<Rdd<T>>, BatchTime) -> Option<Rdd<U>> + Send,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn start(&mut self, starting: &StartContext<'_>) {
        self.cell.start(starting.remember_ms);
    }

    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> Result<(), Failure> {
        if let Some(failure) = &self.lost {
            return Err(failure.clone());
        }
        self.owed.push_back(Link {
            time: now.time,
            parent: self.parent.entry(now.time),
            owed: None,
        });
        while let Some(link) = self.owed.front() {
            let link_time = link.time;
            let made: Produced<Rdd<U>> = Failure::catch_in_records(|| {
                let parent = link.parent.get(now.time)?;
                Ok((self.make)(parent, link_time))
            });
            let made = match made {
                Ok(made) => made,
                Err(failure) => {
                    let missed = self.owed.len();
                    if missed > FAILED_BATCHES_MAX {
                        self.lost = Some(Failure::states_lost(missed).within(self.name));
                        self.owed.clear();
                    }
                    // An earlier batch has spoilt its own outputs, if any, and not these.
                    let is_of_now = link_time == now.time;
                    return Err(match is_of_now {
                        true => failure,
                        false => failure.passed_on(),
                    });
                }
            };
            match &link.owed {
                Some(owed) => owed.settle(made),
                None => self.cell.put(link_time, Entry::Produced(made)),
            }
            self.owed.pop_front();
        }
        Ok(())
    }

    fn fail(&mut self, time: BatchTime, failure: &Failure) {
        let owed = Owed::new(time, failure, None);
        if let Some(link) = self.owed.back_mut() {
            link.owed = Some(Arc::clone(&owed));
        }
        self.cell.put(time, Entry::Failed(owed));
    }
}
