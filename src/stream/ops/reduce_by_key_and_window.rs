//! `reduce_by_key_and_window` on records: folds the values of each key of a window, with and
//! without an inverse.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};

use crate::config::Dialect;
use crate::error::{Result, lock};
use crate::save::{Saved, StateKind, invalid};
use crate::stream::ops::window::{FittedWindow, Window, WindowClass};
use crate::stream::plan::batch_cache::{
    BatchCache, CachedBatch, Failure, Produced, Retry, TimedBatches, rdds_of,
};
use crate::stream::plan::graph::{BatchContext, KeptBatches, Operator};
use crate::stream::plan::rdd::{Key, Rdd, Record};
use crate::stream::program::rdd_stream::RddStream;
use crate::time::BatchTime;

/// Spark's sentence if a key leaves that the window never had.
const INCONSISTENT: &str = "Neither previous window has value for key, nor new values found. Are you \
                            sure your key class hashes consistently?";

impl<K: Key, V: Record + Clone> RddStream<(K, V)> {
    /// Folds the values of each key of a window: Spark's `reduceByKeyAndWindow`.
    ///
    /// Each batch is folded once; a window folds the results of its batches, oldest first. Keys
    /// that have left are dropped.
    ///
    /// ```
    /// use std::time::Duration;
    /// use microtally::stream::run_batches;
    /// let sums = run_batches([vec![("a", 1)], vec![("b", 2)], vec![]], |pairs| {
    ///     pairs.reduce_by_key_and_window(|a, b| a + b, Duration::from_secs(2))
    /// })?;
    /// assert_eq!(sums, [vec![("a", 1)], vec![("a", 1), ("b", 2)], vec![("b", 2)]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`window`](RddStream::window).
    pub fn reduce_by_key_and_window(
        &self,
        reduce: impl Fn(V, V) -> V + Send + Clone + 'static,
        window: impl Into<Window>,
    ) -> Result<RddStream<(K, V)>> {
        let batches = self.reduce_by_key(reduce.clone());
        let windows = batches.window(window)?.reduce_by_key(reduce);
        windows.cache.save_as(&batches.cache);
        Ok(windows)
    }

    /// As [`reduce_by_key_and_window`](Self::reduce_by_key_and_window), but makes each window from
    /// the one before: Spark's `reduceByKeyAndWindow` with an inverse function.
    ///
    /// `inverse(a, b)` removes `b`, folded from values that left, from `a`. The folding costs what
    /// entered and left, however long the window is; the result is a copy of all sums.
    ///
    /// ```
    /// use std::time::Duration;
    /// use microtally::stream::run_batches;
    /// let sums = run_batches([vec![("a", 1)], vec![("b", 2)], vec![]], |pairs| {
    ///     let (add, subtract, two) = (|a, b| a + b, |a, b| a - b, Duration::from_secs(2));
    ///     pairs.reduce_by_key_and_window_with_inverse(add, subtract, two)
    /// })?;
    /// assert_eq!(sums, [vec![("a", 1)], vec![("a", 1), ("b", 2)], vec![("a", 0), ("b", 2)]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// As in Spark, keys whose values have all left stay, with what `inverse` made of them, such as
    /// `0`. [`..._and_filter`](Self::reduce_by_key_and_window_with_inverse_and_filter) drops them.
    /// In the PySpark [`Dialect`] a window shorter than five slides is folded anew each time, and
    /// they are dropped. Sums of floats drift, because what is added and removed is rounded twice.
    ///
    /// If a function panics, or a batch of this stream fails, the window fails. The next one is
    /// made from the last one that worked; a batch that came and left in between is in neither. A
    /// filter is asked once, about all changes.
    ///
    /// # Errors
    ///
    /// As [`window`](RddStream::window).
    pub fn reduce_by_key_and_window_with_inverse(
        &self,
        reduce: impl Fn(V, V) -> V + Send + Clone + 'static,
        inverse: impl Fn(V, V) -> V + Send + 'static,
        window: impl Into<Window>,
    ) -> Result<RddStream<(K, V)>> {
        self.inverse_window(reduce, inverse, window.into(), None)
    }

    /// As [`reduce_by_key_and_window_with_inverse`](Self::reduce_by_key_and_window_with_inverse),
    /// but keeps only the keys for which `is_wanted(key, value)` returns `true`.
    ///
    /// `is_wanted` is asked about keys whose value a slide has changed, so it must depend on
    /// nothing else.
    ///
    /// ```
    /// use std::time::Duration;
    /// use microtally::stream::run_batches;
    /// let sums = run_batches([vec![("a", 1)], vec![("b", 2)], vec![]], |pairs| {
    ///     pairs.reduce_by_key_and_window_with_inverse_and_filter(
    ///         |a, b| a + b,
    ///         |a, b| a - b,
    ///         Duration::from_secs(2),
    ///         |_, sum| *sum != 0,
    ///     )
    /// })?;
    /// assert_eq!(sums[2], [("b", 2)]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`window`](RddStream::window).
    pub fn reduce_by_key_and_window_with_inverse_and_filter(
        &self,
        reduce: impl Fn(V, V) -> V + Send + Clone + 'static,
        inverse: impl Fn(V, V) -> V + Send + 'static,
        window: impl Into<Window>,
        is_wanted: impl Fn(&K, &V) -> bool + Send + 'static,
    ) -> Result<RddStream<(K, V)>> {
        self.inverse_window(reduce, inverse, window.into(), Some(Box::new(is_wanted)))
    }

    fn inverse_window(
        &self,
        reduce: impl Fn(V, V) -> V + Send + Clone + 'static,
        inverse: impl Fn(V, V) -> V + Send + 'static,
        window: Window,
        is_wanted: Option<Box<IsWanted<K, V>>>,
    ) -> Result<RddStream<(K, V)>> {
        let plan = &self.plan;
        let window = FittedWindow::new(window, plan, self.slide_ms, WindowClass::Reduced)?;
        let batches = self.reduce_by_key(reduce.clone());
        // The batches that leave with a slide were in the window before.
        let keep_ms = window.length_ms.saturating_add(window.slide_ms);
        batches.cache.keep_for(keep_ms);
        let (cache, dialect) = (BatchCache::new(), plan.dialect());
        cache.save_as(&batches.cache);
        let operator = InverseWindowOperator {
            parent: batches.cache,
            cache: cache.clone(),
            window,
            // PySpark's rule: one fold of a short window is cheaper than two.
            is_incremental: dialect == Dialect::Scala || window.length_ms / 5 >= window.slide_ms,
            functions: Arc::new(Mutex::new(Functions {
                reduce,
                inverse,
                is_wanted,
                dialect,
            })),
            last: None,
        };
        let (parents, operator) = (vec![batches.id], Box::new(operator));
        let kind = "reduce_by_key_and_window_with_inverse";
        let windows = plan.stream_of(kind, cache, parents, window.slide_ms, operator);
        plan.reach(windows.id, window.length_ms);
        Ok(windows)
    }
}

type IsWanted<K, V> = dyn Fn(&K, &V) -> bool + Send;

/// The user-supplied functions, and whose rules hold for their use.
struct Functions<K, V, F, G> {
    reduce: F,
    inverse: G,
    is_wanted: Option<Box<IsWanted<K, V>>>,
    dialect: Dialect,
}

/// Makes windows of folded batches, each from the one before.
struct InverseWindowOperator<K, V, F, G> {
    parent: BatchCache<(K, V)>,
    cache: BatchCache<(K, V)>,
    window: FittedWindow,
    is_incremental: bool,
    /// Called by one thread at a time: see [`BatchCache`].
    functions: Arc<Mutex<Functions<K, V, F, G>>>,
    /// `None` if the next window has to be folded anew.
    last: Option<LastWindow<K, V>>,
}

/// The window that was made last.
struct LastWindow<K, V> {
    time: BatchTime,
    sums: KeyedSums<K, V>,
    /// Its batches, once a later window could not be made: by the time they leave one that can, the
    /// cache may have forgotten them.
    batches: Option<TimedBatches<(K, V)>>,
}

impl<K, V, F, G> InverseWindowOperator<K, V, F, G>
where
    K: Key,
    V: Record + Clone,
    F: Fn(V, V) -> V + Send,
    G: Fn(V, V) -> V + Send,
{
    /// Makes the window that ends at `now`.
    ///
    /// # Errors
    ///
    /// A batch or a function failed: the last window stays. It is dropped if a key left that it
    /// never had.
    fn make(&mut self, now: BatchTime) -> Produced<Rdd<(K, V)>> {
        // Back in its place below, unless the last window could not be restored.
        let Some(mut last) = self.last.take() else {
            let batches = self.parent.between(self.window.start(now), now);
            let sums = lock(&self.functions).anew(&batches, now)?;
            let window = sums.as_ref().map(|sums| sums.pairs.clone());
            self.last = sums.filter(|_| self.is_incremental).map(|sums| LastWindow {
                time: now,
                sums,
                batches: None,
            });
            return Ok(window);
        };
        let slid = self.slide(&mut last, now);
        if let Ok(false) = slid {
            return Err(Failure::of_records(INCONSISTENT));
        }
        let window = last.sums.pairs.clone();
        self.last = Some(last);
        slid.map(|_| Some(window))
    }

    /// Slides the last window to `now`. Returns `false` if a key left that it never had.
    fn slide(
        &self,
        last: &mut LastWindow<K, V>,
        now: BatchTime,
    ) -> std::result::Result<bool, Failure> {
        let start = self.window.start(now);
        let batches = last.batches.get_or_insert_with(|| {
            let start = self.window.start(last.time);
            self.parent.between(start, last.time)
        });
        let left = rdds_of(batches.iter().filter(|(time, _)| *time <= start), now)?;
        // A batch that came and left while no window could be made is in none.
        let came = rdds_of(&self.parent.between(last.time.max(start), now), now)?;
        let is_known = lock(&self.functions).slide(&mut last.sums, &left, &came)?;
        (last.time, last.batches) = (now, None);
        Ok(is_known)
    }
}

impl<K, V, F, G> Functions<K, V, F, G>
where
    K: Key,
    V: Record + Clone,
    F: Fn(V, V) -> V,
    G: Fn(V, V) -> V,
{
    /// The sums of a window, folded anew.
    fn anew(
        &self,
        batches: &[(BatchTime, CachedBatch<(K, V)>)],
        now: BatchTime,
    ) -> Produced<KeyedSums<K, V>> {
        let batches = rdds_of(batches, now)?;
        if self.dialect == Dialect::PySpark && batches.is_empty() {
            return Ok(None);
        }
        let mut sums = KeyedSums::default();
        self.slide(&mut sums, &[], &batches)?;
        Ok(Some(sums))
    }

    /// Removes the batches that left from the sums, and adds those that came. Returns `false` if a
    /// key left that the window never had.
    ///
    /// # Errors
    ///
    /// A function panicked: the sums are as they were.
    fn slide(
        &self,
        sums: &mut KeyedSums<K, V>,
        left: &[Rdd<(K, V)>],
        came: &[Rdd<(K, V)>],
    ) -> std::result::Result<bool, Failure> {
        let changed_before = sums.changed.len();
        let slid = Failure::catch_in_records(|| {
            let mut pairs = sums.pairs.to_vec();
            let strangers = sums.leave(&mut pairs, fold(left, &self.reduce), &self.inverse);
            sums.enter(&mut pairs, fold(came, &self.reduce), &self.reduce);
            let is_known = strangers.iter().all(|key| sums.places.contains_key(key));
            match &self.is_wanted {
                None => sums.changed.clear(),
                // PySpark asks its filter only if something came. The next slide that filters asks
                // about what has changed until then.
                Some(_) if self.dialect == Dialect::PySpark && came.is_empty() => {}
                Some(is_wanted) => sums.filter(&mut pairs, is_wanted),
            }
            sums.pairs = pairs.into();
            Ok(is_known || self.dialect == Dialect::PySpark)
        });
        if slid.is_err() {
            sums.restore(changed_before);
        }
        slid
    }
}

impl<K, V, F, G> Operator for InverseWindowOperator<K, V, F, G>
where
    K: Key,
    V: Record + Clone,
    F: Fn(V, V) -> V + Send + 'static,
    G: Fn(V, V) -> V + Send + 'static,
{
    fn kept(&self) -> &dyn KeptBatches {
        &self.cache
    }

    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> std::result::Result<(), Failure> {
        let made = self.make(now.time)?;
        self.cache.put(now.time, CachedBatch::Produced(made));
        Ok(())
    }

    /// A reader that needs this very window later gets it folded anew.
    fn fail(&mut self, time: BatchTime, failure: &Failure) {
        let batches = self.parent.between(self.window.start(time), time);
        let functions = Arc::clone(&self.functions);
        let retry: Retry<(K, V)> = Box::new(move |now| {
            let sums = lock(&functions).anew(&batches, now)?;
            Ok(sums.map(|sums| sums.pairs))
        });
        self.cache.put_failed(time, failure, Some(retry));
    }

    fn state(&self) -> StateKind {
        self.cache.codec().state()
    }

    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        self.last.is_some().save(to)?;
        if let Some(last) = &self.last {
            if last.batches.is_some() {
                return Err(io::Error::other("a window that failed is missing in it"));
            }
            last.time.as_millis().save(to)?;
            last.sums.pairs.save(self.cache.codec().codec()?, to)?;
            let places = last.sums.changed.iter();
            let places = places.filter_map(|key| last.sums.places.get(key));
            let places: Vec<u64> = places.map(|place| *place as u64).collect();
            places.save(to)?;
        }
        self.cache.save(to)
    }

    fn load(&mut self, from: &mut dyn Read) -> io::Result<()> {
        if bool::load(from)? {
            let time = BatchTime::from_millis(u64::load(from)?);
            let pairs = Rdd::load(self.cache.codec().codec()?, from)?;
            let keys: Vec<&K> = pairs.iter().map(|(key, _)| key).collect();
            let places = keys.iter().enumerate();
            let places: HashMap<K, usize> = places.map(|(n, key)| ((*key).clone(), n)).collect();
            let changed = <Vec<u64>>::load(from)?.into_iter().map(|place| {
                let key = usize::try_from(place)
                    .ok()
                    .and_then(|place| keys.get(place));
                let key = key.ok_or_else(|| invalid("a changed key is missing"))?;
                Ok((*key).clone())
            });
            let changed = changed.collect::<io::Result<_>>()?;
            if places.len() != keys.len() {
                return Err(invalid("a window has a key twice"));
            }
            let sums = KeyedSums {
                pairs,
                places,
                changed,
            };
            self.last = Some(LastWindow {
                time,
                sums,
                batches: None,
            });
        }
        self.cache.load(from)
    }
}

/// Folds batches, oldest first.
fn fold<K: Key, V: Record + Clone>(
    batches: &[Rdd<(K, V)>],
    reduce: impl Fn(V, V) -> V,
) -> Rdd<(K, V)> {
    match batches {
        // A batch is folded already.
        [only] => only.clone(),
        _ => {
            let parts = batches.iter().flat_map(Rdd::parts).cloned();
            Rdd::shared(parts).reduce_by_key(reduce)
        }
    }
}

/// The sums of a window by key, in the order in which the keys came.
///
/// A slide works on a copy of the pairs, which becomes the next window. So the last window, which
/// its readers share, is there to go back to if the slide fails.
struct KeyedSums<K, V> {
    pairs: Rdd<(K, V)>,
    places: HashMap<K, usize>,
    /// Keys whose value has changed since the filter was last asked.
    changed: Vec<K>,
}

impl<K, V> Default for KeyedSums<K, V> {
    fn default() -> Self {
        KeyedSums {
            pairs: Rdd::empty(),
            places: HashMap::new(),
            changed: Vec::new(),
        }
    }
}

impl<K: Key, V: Record + Clone> KeyedSums<K, V> {
    /// Removes values that left. Returns the keys that the window does not have.
    fn leave(
        &mut self,
        pairs: &mut [(K, V)],
        left: Rdd<(K, V)>,
        inverse: impl Fn(V, V) -> V,
    ) -> Vec<K> {
        let mut strangers = Vec::new();
        for (key, value) in left.iter() {
            match self.places.get(key) {
                Some(&place) => {
                    let sum = &mut pairs[place].1;
                    *sum = inverse(sum.clone(), value.clone());
                    self.changed.push(key.clone());
                }
                None => strangers.push(key.clone()),
            }
        }
        strangers
    }

    /// Adds values that came.
    fn enter(&mut self, pairs: &mut Vec<(K, V)>, came: Rdd<(K, V)>, reduce: impl Fn(V, V) -> V) {
        for (key, value) in came.iter() {
            match self.places.get(key) {
                Some(&place) => {
                    let sum = &mut pairs[place].1;
                    *sum = reduce(sum.clone(), value.clone());
                }
                None => {
                    self.places.insert(key.clone(), pairs.len());
                    pairs.push((key.clone(), value.clone()));
                }
            }
            self.changed.push(key.clone());
        }
    }

    /// Drops the changed keys that are not wanted.
    fn filter(&mut self, pairs: &mut Vec<(K, V)>, is_wanted: &IsWanted<K, V>) {
        let changed = self.changed.iter();
        let unwanted = changed.filter(|key| {
            let pair = self.places.get(*key).map(|&place| &pairs[place]);
            pair.is_some_and(|(key, value)| !is_wanted(key, value))
        });
        let unwanted: Vec<K> = unwanted.cloned().collect();
        for key in unwanted {
            // A key may have changed twice.
            let Some(place) = self.places.remove(&key) else {
                continue;
            };
            pairs.swap_remove(place);
            if let Some((moved, _)) = pairs.get(place) {
                self.places.insert(moved.clone(), place);
            }
        }
        self.changed.clear();
    }

    /// Goes back to the last window.
    #[cold]
    fn restore(&mut self, changed_before: usize) {
        self.changed.truncate(changed_before);
        let keys = self.pairs.iter().map(|(key, _)| key.clone());
        self.places = keys.enumerate().map(|(place, key)| (key, place)).collect();
    }
}
