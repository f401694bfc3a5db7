//! Holds the batches of a stream, between the operator that makes them and those that use them.
//!
//! Promise: a reader gets a batch's records, learns that the stream produced none, or why it
//! failed; a batch is forgotten once no reader may need it.
//! Must not know: `ops`, `lower`, `engine`.
//!
//! The locks are never contended while batches are made, because one thread at a time makes them.
//! They exist because that thread may change, and for programs that slice a stream meanwhile.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::{guarded, lock};
use crate::save::{CodecSlot, Saved, StateKind, invalid};
use crate::shard::panic_message;
use crate::stream::plan::graph::{KeptBatches, StartContext};
use crate::stream::plan::rdd::Rdd;
use crate::time::BatchTime;

/// Why a batch has no result.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) message: Arc<str>,
    /// The operator or output whose function failed, once it is known.
    operator: Option<Arc<str>>,
    /// It happened while the batch was put together, as in `transform`: the whole batch has no
    /// output. Otherwise only what depends on it has none.
    pub(crate) spoils_batch: bool,
}

impl Failure {
    /// `missed` batches in a row could not be made, so states cannot be computed any more. Only the
    /// streams made of the states fail from then on, whatever kind of failure it was.
    pub(crate) fn states_lost(missed: usize) -> Self {
        Failure::of_records(match missed {
            1 => "the states were lost when an earlier batch failed".to_owned(),
            _ => format!("the states were lost when {missed} batches in a row failed"),
        })
    }

    /// A function that is called for records failed.
    pub(crate) fn of_records(message: impl Into<Arc<str>>) -> Self {
        Failure {
            message: message.into(),
            operator: None,
            spoils_batch: false,
        }
    }

    /// The batch could not be put together.
    pub(crate) fn of_batch(message: impl Into<Arc<str>>) -> Self {
        Failure {
            spoils_batch: true,
            ..Failure::of_records(message)
        }
    }

    /// A parent produced nothing where a batch is needed; `sentence` is Spark's.
    #[cold]
    pub(crate) fn no_parent(sentence: &str, time: BatchTime) -> Self {
        Failure::of_batch(format!("{sentence} at time {} ms", time.as_millis()))
    }

    /// Adds the operator in which the failure happened, unless one is named already.
    pub(crate) fn within(mut self, operator: &Arc<str>) -> Self {
        self.operator.get_or_insert_with(|| Arc::clone(operator));
        self
    }

    /// This failure, for batches that only use the failed one.
    pub(crate) fn passed_on(&self) -> Self {
        Failure {
            spoils_batch: false,
            ..self.clone()
        }
    }

    /// The operator or output whose function failed.
    pub(crate) fn operator(&self) -> &str {
        self.operator.as_deref().unwrap_or("an operator")
    }

    /// Calls a function that puts a batch together: a panic leaves the whole batch without output.
    pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Failure> {
        guarded(f).map_err(|panic| Failure::of_batch(panic_message(panic.as_ref())))
    }

    /// Calls a function that is called for records: a panic is its failure.
    pub(crate) fn catch_in_records<R>(
        f: impl FnOnce() -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        guarded(f).unwrap_or_else(|panic| Err(Failure::of_records(panic_message(panic.as_ref()))))
    }
}

/// What an operator makes of a batch: a result, nothing (Spark: no RDD), or a failure.
pub(crate) type Produced<T> = Result<Option<T>, Failure>;

/// One batch of a stream, which may have failed.
///
/// A failed batch is kept together with what it is made of, as Spark keeps the lineage of an RDD. A
/// window or a state that needs the batch later has it made again, so a function that fails once
/// costs only that batch's own output.
pub(crate) enum CachedBatch<T> {
    Produced(Option<Rdd<T>>),
    Failed(Arc<FailedBatch<T>>),
}

impl<T> Clone for CachedBatch<T> {
    fn clone(&self) -> Self {
        match self {
            CachedBatch::Produced(made) => CachedBatch::Produced(made.clone()),
            CachedBatch::Failed(failed) => CachedBatch::Failed(Arc::clone(failed)),
        }
    }
}

impl<T> CachedBatch<T> {
    /// The batch. One that failed before `now`, the time of the current batch, is made again.
    pub(crate) fn get(&self, now: BatchTime) -> Produced<Rdd<T>> {
        match self {
            CachedBatch::Produced(made) => Ok(made.clone()),
            CachedBatch::Failed(failed) => failed.get(now),
        }
    }

    /// The batch as of the last attempt to make it.
    fn peek(&self) -> Produced<Rdd<T>> {
        match self {
            CachedBatch::Produced(made) => Ok(made.clone()),
            CachedBatch::Failed(failed) => failed.lock().made.clone(),
        }
    }
}

/// Batches with their times, oldest first.
pub(crate) type TimedBatches<T> = Vec<(BatchTime, CachedBatch<T>)>;

/// Makes a failed batch again, during the batch of the given time, from what the operator kept of
/// its parents.
pub(crate) type Retry<T> = Box<dyn FnMut(BatchTime) -> Produced<Rdd<T>> + Send>;

/// A batch that failed.
pub(crate) struct FailedBatch<T>(Mutex<Attempts<T>>);

struct Attempts<T> {
    /// The stream's name.
    name: Option<Arc<str>>,
    made: Produced<Rdd<T>>,
    /// The current batch at the last attempt. There is one attempt a batch, however many use it.
    tried_at: BatchTime,
    /// `None` once the batch was made, or if readers cannot have it made again.
    retry: Option<Retry<T>>,
}

impl<T> FailedBatch<T> {
    pub(crate) fn new(
        time: BatchTime,
        failure: &Failure,
        name: Option<Arc<str>>,
        retry: Option<Retry<T>>,
    ) -> Arc<Self> {
        Arc::new(FailedBatch(Mutex::new(Attempts {
            name,
            made: Err(failure.clone()),
            tried_at: time,
            retry,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Attempts<T>> {
        lock(&self.0)
    }

    fn get(&self, now: BatchTime) -> Produced<Rdd<T>> {
        let mut attempts = self.lock();
        if attempts.made.is_ok() || attempts.tried_at >= now {
            return attempts.made.clone();
        }
        let Some(mut retry) = attempts.retry.take() else {
            return attempts.made.clone();
        };
        attempts.tried_at = now;
        // Not under the lock: the function may slice the very stream.
        drop(attempts);
        let made = Failure::catch_in_records(|| retry(now));
        let mut attempts = self.lock();
        attempts.retry = made.is_err().then_some(retry);
        attempts.made = made.map_err(|failure| match &attempts.name {
            Some(name) => failure.within(name),
            None => failure,
        });
        attempts.made.clone()
    }

    /// The operator made the batch after all.
    pub(crate) fn settle(&self, made: Option<Rdd<T>>) {
        self.lock().made = Ok(made);
    }
}

/// The remembered batches of a stream of records.
pub(crate) struct BatchCache<T>(Arc<Mutex<CacheState<T>>>);

struct CacheState<T> {
    /// Oldest first. Batches for which the stream produced nothing are left out.
    batches: VecDeque<(BatchTime, CachedBatch<T>)>,
    keep_ms: u64,
    /// The stream's name, once the context has started.
    name: Option<Arc<str>>,
    /// An operator needs batches that are not the current one.
    is_needed_later: bool,
    codec: CodecSlot<T>,
}

impl<T> Clone for BatchCache<T> {
    fn clone(&self) -> Self {
        BatchCache(Arc::clone(&self.0))
    }
}

impl<T> BatchCache<T> {
    pub(crate) fn new() -> Self {
        BatchCache(Arc::new(Mutex::new(CacheState {
            batches: VecDeque::new(),
            keep_ms: 0,
            name: None,
            is_needed_later: false,
            codec: CodecSlot::default(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, CacheState<T>> {
        lock(&self.0)
    }

    /// Returns `true` once the context has started.
    pub(crate) fn is_started(&self) -> bool {
        self.lock().name.is_some()
    }

    /// Keeps batches for at least `ms` after their time, because an operator needs them.
    pub(crate) fn keep_for(&self, ms: u64) {
        let mut state = self.lock();
        state.keep_ms = state.keep_ms.max(ms);
        state.is_needed_later = true;
    }

    /// How records of this stream are saved.
    pub(crate) fn codec(&self) -> CodecSlot<T> {
        self.lock().codec.clone()
    }

    /// Records are saved as those of `other`, which are part of the same operator.
    pub(crate) fn save_as(&self, other: &BatchCache<T>) {
        let codec = other.codec();
        self.lock().codec = codec;
    }

    /// Adds the batch at `time`, and forgets those that are too old now.
    pub(crate) fn put(&self, time: BatchTime, batch: CachedBatch<T>) {
        let mut state = self.lock();
        let keep_ms = state.keep_ms;
        let is_too_old =
            |(at, _): &(BatchTime, _)| at.as_millis().saturating_add(keep_ms) <= time.as_millis();
        while state.batches.front().is_some_and(is_too_old) {
            state.batches.pop_front();
        }
        if !matches!(batch, CachedBatch::Produced(None)) {
            state.batches.push_back((time, batch));
        }
    }

    /// The operator failed to make the batch at `time`; `retry` makes it again.
    pub(crate) fn put_failed(&self, time: BatchTime, failure: &Failure, retry: Option<Retry<T>>) {
        let failed = FailedBatch::new(time, failure, self.lock().name.clone(), retry);
        self.put(time, CachedBatch::Failed(failed));
    }

    /// The batch at `time`, which can be kept for later.
    pub(crate) fn batch(&self, time: BatchTime) -> CachedBatch<T> {
        let state = self.lock();
        let found = state.batches.iter().rev().find(|(at, _)| *at == time);
        found.map_or(CachedBatch::Produced(None), |(_, batch)| batch.clone())
    }

    /// The batch at `time`, as of the last attempt to make it.
    pub(crate) fn peek(&self, time: BatchTime) -> Produced<Rdd<T>> {
        self.batch(time).peek()
    }

    /// The batches with times in `(after, until]`, oldest first.
    pub(crate) fn between(&self, after: BatchTime, until: BatchTime) -> TimedBatches<T> {
        let state = self.lock();
        let inside = |(at, _): &&(BatchTime, _)| after < *at && *at <= until;
        state.batches.iter().filter(inside).cloned().collect()
    }

    /// The batches with times from `first` to `last`, oldest first, as of the last attempts to make
    /// them.
    ///
    /// # Errors
    ///
    /// One of them failed.
    pub(crate) fn slice(
        &self,
        first: BatchTime,
        last: BatchTime,
    ) -> Result<Vec<(BatchTime, Rdd<T>)>, Failure> {
        let state = self.lock();
        let inside = |(at, _): &&(BatchTime, _)| first <= *at && *at <= last;
        let batches = state.batches.iter().filter(inside);
        let made = batches.map(|(at, batch)| Ok(batch.peek()?.map(|rdd| (*at, rdd))));
        made.filter_map(Result::transpose).collect()
    }
}

/// The batches that operators still need are a state.
impl<T: 'static> KeptBatches for BatchCache<T> {
    fn start(&self, context: &StartContext<'_>) {
        let mut state = self.lock();
        state.keep_ms = state.keep_ms.max(context.remember_ms);
        state.name = Some(Arc::clone(context.name));
    }

    /// The batch is not made again.
    fn fail(&self, time: BatchTime, failure: &Failure) {
        self.put_failed(time, failure, None);
    }

    fn state(&self) -> StateKind {
        let is_needed_later = self.lock().is_needed_later;
        match is_needed_later {
            true => self.codec().state(),
            false => StateKind::Nothing,
        }
    }

    /// A batch that has failed cannot be saved: later ones may be made without it.
    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        if self.state() == StateKind::Nothing {
            return Ok(());
        }
        let codec = self.codec().codec()?;
        let state = self.lock();
        (state.batches.len() as u64).save(to)?;
        for (time, batch) in &state.batches {
            let failed = |_| io::Error::other("a batch that is still needed has failed");
            if let Some(rdd) = batch.peek().map_err(failed)? {
                true.save(to)?;
                time.as_millis().save(to)?;
                rdd.save(codec, to)?;
            } else {
                false.save(to)?;
            }
        }
        Ok(())
    }

    fn load(&self, from: &mut dyn Read) -> io::Result<()> {
        if self.state() == StateKind::Nothing {
            return Ok(());
        }
        let codec = self.codec().codec()?;
        let mut batches = VecDeque::new();
        let mut before = None;
        for _ in 0..u64::load(from)? {
            if bool::load(from)? {
                let time = BatchTime::from_millis(u64::load(from)?);
                if before.replace(time) >= Some(time) {
                    return Err(invalid("batches are not in order"));
                }
                let rdd = Rdd::load(codec, from)?;
                batches.push_back((time, CachedBatch::Produced(Some(rdd))));
            }
        }
        self.lock().batches = batches;
        Ok(())
    }
}

/// The records of some batches. Those that failed before `now` are made again.
///
/// # Errors
///
/// One of them failed again, or in the current batch.
pub(crate) fn rdds_of<'a, T: 'a>(
    batches: impl IntoIterator<Item = &'a (BatchTime, CachedBatch<T>)>,
    now: BatchTime,
) -> Result<Vec<Rdd<T>>, Failure> {
    let made = batches.into_iter().map(|(_, batch)| batch.get(now));
    made.filter_map(Result::transpose).collect()
}

#[cfg(test)]
mod tests;
