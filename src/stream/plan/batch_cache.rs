//! Where a stream's batches are between the operator that makes them and those that use them.
//!
//! Promise: who asks for a batch gets its records, hears that there are none, or why it failed; a batch is
//! forgotten once nobody may ask for it any more. Must not know: what makes batches, and when.
//!
//! The locks are never contended while batches are made, since one thread at a time makes them: they are
//! there because that need not be the same thread each time, and for whoever slices a stream meanwhile.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::batch::BatchStats;
use crate::error::{guarded, lock};
use crate::shard::panic_message;
use crate::stream::plan::rdd::Rdd;
use crate::table::KeyTable;
use crate::time::BatchTime;

/// Why there is no result of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) message: Arc<str>,
    /// The operator or output whose function failed, once it is known.
    operator: Option<&'static str>,
    /// It happened while the batch was put together, as in `transform`: the whole batch has no output.
    /// Otherwise only what depends on it has none.
    pub(crate) spoils_batch: bool,
}

impl Failure {
    /// States cannot be computed any more, because `missed` batches in a row could not be made. It is the
    /// streams made of them that have nothing from then on, whatever kind of failure it was.
    pub(crate) fn states_lost(missed: usize) -> Self {
        Failure::of_records(match missed {
            1 => "the states were lost when an earlier batch failed".to_owned(),
            _ => format!("the states were lost when {missed} batches in a row failed"),
        })
    }

    /// A function that was called for records failed.
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

    /// The same failure, with the operator in which it happened. The first one named stays: what uses the
    /// batch passes the failure on.
    pub(crate) fn within(mut self, operator: &'static str) -> Self {
        self.operator.get_or_insert(operator);
        self
    }

    /// As [`of_records`](Self::of_records) with the message of this failure, for batches that only use the
    /// failed one.
    pub(crate) fn passed_on(&self) -> Self {
        Failure {
            spoils_batch: false,
            ..self.clone()
        }
    }

    /// The operator or output whose function failed.
    pub(crate) fn operator(&self) -> &'static str {
        self.operator.unwrap_or("an operator")
    }

    /// Calls a function that belongs to putting a batch together: when it panics, the whole batch has no
    /// output.
    pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Failure> {
        guarded(f).map_err(|panic| Failure::of_batch(panic_message(panic.as_ref())))
    }

    /// Calls a function that is called for records: when it panics, that is its failure.
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
/// A failed batch is kept together with what it is made of, as Spark keeps the lineage of an RDD: whoever
/// needs the batch later, such as a window or a state, has it made again. So a function that fails once
/// costs the batch's own output, and nothing behind it.
pub(crate) enum Entry<T> {
    Produced(Option<Rdd<T>>),
    Failed(Arc<Owed<T>>),
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        match self {
            Entry::Produced(made) => Entry::Produced(made.clone()),
            Entry::Failed(owed) => Entry::Failed(Arc::clone(owed)),
        }
    }
}

impl<T> Entry<T> {
    /// The batch, made again if it failed before `now`, the time of the batch at hand.
    pub(crate) fn get(&self, now: BatchTime) -> Produced<Rdd<T>> {
        match self {
            Entry::Produced(made) => Ok(made.clone()),
            Entry::Failed(owed) => owed.get(now),
        }
    }

    /// The batch, as it was made last.
    fn peek(&self) -> Produced<Rdd<T>> {
        match self {
            Entry::Produced(made) => Ok(made.clone()),
            Entry::Failed(owed) => owed.lock().made.clone(),
        }
    }
}

/// Makes a batch again, from what the operator has kept of its parents, during the batch at that time.
pub(crate) type Again<T> = Box<dyn FnMut(BatchTime) -> Produced<Rdd<T>> + Send>;

/// A batch that failed.
pub(crate) struct Owed<T>(Mutex<Attempts<T>>);

struct Attempts<T> {
    made: Produced<Rdd<T>>,
    /// The batch at hand during the last attempt. There is one attempt a batch, however many use it.
    tried_at: BatchTime,
    /// `None` when the batch was made, or is not made again by whoever asks.
    again: Option<Again<T>>,
}

impl<T> Owed<T> {
    pub(crate) fn new(time: BatchTime, failure: &Failure, again: Option<Again<T>>) -> Arc<Self> {
        Arc::new(Owed(Mutex::new(Attempts {
            made: Err(failure.clone()),
            tried_at: time,
            again,
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
        let Some(mut again) = attempts.again.take() else {
            return attempts.made.clone();
        };
        attempts.tried_at = now;
        // Not under the lock: the function may slice the very stream.
        drop(attempts);
        let made = Failure::catch_in_records(|| again(now));
        let mut attempts = self.lock();
        attempts.again = made.is_err().then_some(again);
        attempts.made = made;
        attempts.made.clone()
    }

    /// The batch was made after all.
    pub(crate) fn settle(&self, made: Option<Rdd<T>>) {
        self.lock().made = Ok(made);
    }
}

/// The remembered batches of a stream of records.
pub(crate) struct BatchCache<T>(Arc<Mutex<Kept<T>>>);

struct Kept<T> {
    /// Oldest first; batches in which the stream gave nothing are left out.
    batches: VecDeque<(BatchTime, Entry<T>)>,
    keep_ms: u64,
    is_started: bool,
}

impl<T> Clone for BatchCache<T> {
    fn clone(&self) -> Self {
        BatchCache(Arc::clone(&self.0))
    }
}

impl<T> BatchCache<T> {
    pub(crate) fn new() -> Self {
        BatchCache(Arc::new(Mutex::new(Kept {
            batches: VecDeque::new(),
            keep_ms: 0,
            is_started: false,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Kept<T>> {
        lock(&self.0)
    }

    /// The context starts; batches are kept for `remember_ms` at least.
    pub(crate) fn start(&self, remember_ms: u64) {
        self.keep_for(remember_ms);
        self.lock().is_started = true;
    }

    /// Whether the context has started.
    pub(crate) fn is_started(&self) -> bool {
        self.lock().is_started
    }

    /// Batches are kept for at least that long after their time.
    pub(crate) fn keep_for(&self, ms: u64) {
        let mut kept = self.lock();
        kept.keep_ms = kept.keep_ms.max(ms);
    }

    /// The batch at `time` was made, or is owed. What is too old now is forgotten.
    pub(crate) fn put(&self, time: BatchTime, entry: Entry<T>) {
        let mut kept = self.lock();
        let too_old =
            |at: BatchTime| at.as_millis().saturating_add(kept.keep_ms) <= time.as_millis();
        let old = kept
            .batches
            .iter()
            .take_while(|(at, _)| too_old(*at))
            .count();
        kept.batches.drain(..old);
        if !matches!(entry, Entry::Produced(None)) {
            kept.batches.push_back((time, entry));
        }
    }

    /// The batch at `time`, to be asked for later, too.
    pub(crate) fn entry(&self, time: BatchTime) -> Entry<T> {
        let kept = self.lock();
        let found = kept.batches.iter().rev().find(|(at, _)| *at == time);
        found.map_or(Entry::Produced(None), |(_, entry)| entry.clone())
    }

    /// The batch at `time`, as it was made last.
    pub(crate) fn at(&self, time: BatchTime) -> Produced<Rdd<T>> {
        self.entry(time).peek()
    }

    /// The batches with times in `(after, until]`, oldest first, without those that gave nothing.
    pub(crate) fn between(&self, after: BatchTime, until: BatchTime) -> Entries<T> {
        let kept = self.lock();
        let inside = |(at, _): &&(BatchTime, _)| after < *at && *at <= until;
        Entries(kept.batches.iter().filter(inside).cloned().collect())
    }

    /// The batches with times from `first` to `last`, oldest first, as they were made last.
    ///
    /// # Errors
    ///
    /// One of them failed.
    pub(crate) fn at_each(
        &self,
        first: BatchTime,
        last: BatchTime,
    ) -> Result<Vec<(BatchTime, Rdd<T>)>, Failure> {
        let kept = self.lock();
        let inside = |(at, _): &&(BatchTime, _)| first <= *at && *at <= last;
        let batches = kept.batches.iter().filter(inside);
        let made = batches.map(|(at, entry)| Ok(entry.peek()?.map(|rdd| (*at, rdd))));
        made.filter_map(Result::transpose).collect()
    }
}

/// Some batches of a stream, oldest first.
pub(crate) struct Entries<T>(Vec<(BatchTime, Entry<T>)>);

impl<T> Entries<T> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(BatchTime, Entry<T>)> {
        self.0.iter()
    }

    /// The batches, those that failed before `now` made again, without those that gave nothing.
    ///
    /// # Errors
    ///
    /// One of them failed, again or in the batch at hand.
    pub(crate) fn get(&self, now: BatchTime) -> Result<Vec<Rdd<T>>, Failure> {
        all_of(self.iter(), now)
    }
}

/// As [`Entries::get`].
pub(crate) fn all_of<'a, T: 'a>(
    entries: impl Iterator<Item = &'a (BatchTime, Entry<T>)>,
    now: BatchTime,
) -> Result<Vec<Rdd<T>>, Failure> {
    let made = entries.map(|(_, entry)| entry.get(now));
    made.filter_map(Result::transpose).collect()
}

/// A stream of one value a key and batch, kept as a table for as long as its batch is being published.
pub(crate) trait BatchTable<V>: Send + Sync {
    /// Calls `f` with the batch at `time`, if the stream gave one.
    fn with(
        &self,
        time: BatchTime,
        f: &mut dyn FnMut(&KeyTable<V>, &BatchStats),
    ) -> Result<bool, Failure>;
}

impl<V> dyn BatchTable<V> {
    /// As [`with`](TableAt::with), giving what `f` gives.
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

/// A [`BatchTable`] whose table is lent out by whatever computes it.
pub(crate) struct LentTable<H>(Mutex<Holding<H>>);

struct Holding<H> {
    holder: H,
    stats: BatchStats,
    /// The batch that is there, or why it is not.
    at: Option<(BatchTime, Result<(), Failure>)>,
}

impl<H> LentTable<H> {
    pub(crate) fn new(holder: H) -> Arc<Self> {
        Arc::new(LentTable(Mutex::new(Holding {
            holder,
            stats: BatchStats::default(),
            at: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Holding<H>> {
        lock(&self.0)
    }

    /// Makes the batch at `time` by `make`, which changes the holder and gives statistics.
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

    /// The batch at `time` failed.
    pub(crate) fn fail(&self, time: BatchTime, failure: &Failure) {
        self.lock().at = Some((time, Err(failure.clone())));
    }

    /// The batch has been published: takes back what `make` lent.
    pub(crate) fn forget(&self, take_back: impl FnOnce(&mut H)) {
        let mut holding = self.lock();
        if let Some((_, Ok(()))) = holding.at.take() {
            take_back(&mut holding.holder);
        }
    }
}

impl<V, H: AsRef<KeyTable<V>> + Send> BatchTable<V> for LentTable<H> {
    fn with(
        &self,
        time: BatchTime,
        f: &mut dyn FnMut(&KeyTable<V>, &BatchStats),
    ) -> Result<bool, Failure> {
        let holding = self.lock();
        match &holding.at {
            Some((at, Ok(()))) if *at == time => {
                f(holding.holder.as_ref(), &holding.stats);
                Ok(true)
            }
            Some((at, Err(failure))) if *at == time => Err(failure.clone()),
            _ => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> BatchTime {
        BatchTime::from_millis(ms)
    }

    fn made(record: u64) -> Entry<u64> {
        Entry::Produced(Some(Rdd::from(vec![record])))
    }

    #[test]
    fn batches_are_kept_as_long_as_they_may_be_asked_for() {
        let cell = BatchCache::new();
        cell.keep_for(300);
        for time in 1..=9u64 {
            let entry = match time {
                4 => Entry::Produced(None),
                5 => Entry::Failed(Owed::new(ms(500), &Failure::of_records("five"), None)),
                _ => made(time),
            };
            cell.put(ms(time * 100), entry);
        }
        assert_eq!(cell.at(ms(900)).unwrap().unwrap().to_vec(), [9]);
        assert!(cell.at(ms(500)).unwrap().is_none(), "forgotten");
        let between = |after, until| {
            let batches = cell.between(ms(after), ms(until));
            batches
                .iter()
                .map(|(time, _)| time.as_millis())
                .collect::<Vec<_>>()
        };
        assert_eq!(between(600, 900), [700, 800, 900]);
        assert_eq!(between(600, 800), [700, 800]);
    }

    #[test]
    fn batches_may_be_kept_for_ever() {
        let cell = BatchCache::new();
        cell.keep_for(u64::MAX);
        for time in 1..=3u64 {
            cell.put(ms(time * 100), made(time));
        }
        assert_eq!(cell.between(ms(0), ms(300)).get(ms(300)).unwrap().len(), 3);
    }

    #[test]
    fn a_window_over_a_batch_that_fails_again_and_again_fails() {
        let cell = BatchCache::new();
        cell.keep_for(1000);
        cell.put(ms(100), made(1));
        let again: Again<u64> = Box::new(|_| panic!("two again"));
        let owed = Owed::new(ms(200), &Failure::of_records("two"), Some(again));
        cell.put(ms(200), Entry::Failed(owed));
        let why = |now| {
            let window = cell.between(ms(0), ms(200)).get(ms(now));
            window.unwrap_err().message
        };
        assert_eq!(&*why(200), "two", "not tried again in its own batch");
        assert_eq!(&*why(300), "two again");
        assert_eq!(cell.between(ms(0), ms(100)).get(ms(300)).unwrap().len(), 1);
        assert!(cell.at(ms(200)).is_err());
        assert!(cell.at(ms(300)).unwrap().is_none());
    }

    #[test]
    fn a_failed_batch_is_made_again_once_a_batch_until_it_works() {
        let cell = BatchCache::new();
        cell.keep_for(1000);
        let mut left = 2;
        let again: Again<u64> = Box::new(move |now| {
            left -= 1;
            match left {
                0 => Ok(Some(Rdd::from(vec![now.as_millis()]))),
                _ => Err(Failure::of_records("again")),
            }
        });
        let owed = Owed::new(ms(100), &Failure::of_records("first"), Some(again));
        cell.put(ms(100), Entry::Failed(owed));
        let held = cell.entry(ms(100));
        for _ in 0..3 {
            assert_eq!(&*held.get(ms(200)).unwrap_err().message, "again");
        }
        assert!(cell.at(ms(100)).is_err(), "looking does not try");
        assert_eq!(held.get(ms(300)).unwrap().unwrap().to_vec(), [300]);
        assert_eq!(cell.at(ms(100)).unwrap().unwrap().to_vec(), [300]);
    }
}
