//! `reduce_by_key_and_window`: the values of a key in a window become one, with and without an inverse.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::config::Dialect;
use crate::error::{Result, lock};
use crate::stream::ops::window::{Kind, Span, Window};
use crate::stream::plan::batch_cache::{
    BatchCache, Entries, Entry, Failure, Owed, Produced, all_of,
};
use crate::stream::plan::graph::{BatchContext, Operator, StartContext};
use crate::stream::plan::rdd::{Key, Rdd, Record};
use crate::stream::program::rdd_stream::RddStream;
use crate::time::BatchTime;

/// Spark's sentence when a key leaves that never was there.
const INCONSISTENT: &str = "Neither previous window has value for key, nor new values found. Are you \
                            sure your key class hashes consistently?";

impl<'c, K: Key, V: Record + Clone> RddStream<'c, (K, V)> {
    /// Folds the values of each key of a window: Spark's `reduceByKeyAndWindow`. Each batch is folded once;
    /// a window folds its batches' results, oldest first. Keys that have left are gone.
    ///
    /// # Errors
    ///
    /// As [`window`](RddStream::window).
    pub fn reduce_by_key_and_window(
        &self,
        reduce: impl Fn(V, V) -> V + Send + Clone + 'static,
        window: impl Into<Window>,
    ) -> Result<RddStream<'c, (K, V)>> {
        let batches = self.reduce_by_key(reduce.clone());
        Ok(batches.window(window)?.reduce_by_key(reduce))
    }

    /// As [`reduce_by_key_and_window`](Self::reduce_by_key_and_window), each window made of the one before:
    /// `inverse(a, b)` takes `b`, folded of values that left, out of `a`. The folding costs what came and
    /// what left, however long the window is.
    ///
    /// Keys whose values have all left stay, with what `inverse` made of them (`0`, say), as in Spark;
    /// [`..._and_filter`](Self::reduce_by_key_and_window_with_inverse_and_filter) drops them. In the
    /// PySpark [`Dialect`] a window shorter than five slides is folded anew each time, and they go. Values
    /// that are floats drift, since what is added and taken away again is rounded twice.
    ///
    /// When a function panics, or a batch of this stream fails, the window fails, and the next one is made
    /// of the last one that worked. A batch that came and left meanwhile is in none of them; a filter is asked
    /// once, for all that has changed.
    ///
    /// # Errors
    ///
    /// As [`window`](RddStream::window).
    pub fn reduce_by_key_and_window_with_inverse(
        &self,
        reduce: impl Fn(V, V) -> V + Send + Clone + 'static,
        inverse: impl Fn(V, V) -> V + Send + 'static,
        window: impl Into<Window>,
    ) -> Result<RddStream<'c, (K, V)>> {
        self.inverse_window(reduce, inverse, window.into(), None)
    }

    /// As [`reduce_by_key_and_window_with_inverse`](Self::reduce_by_key_and_window_with_inverse), keeping
    /// only the keys for which `is_wanted(key, value)` holds. It is asked about keys whose value a slide
    /// has changed, so it must depend on nothing else.
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
    ) -> Result<RddStream<'c, (K, V)>> {
        self.inverse_window(reduce, inverse, window.into(), Some(Box::new(is_wanted)))
    }

    fn inverse_window(
        &self,
        reduce: impl Fn(V, V) -> V + Send + Clone + 'static,
        inverse: impl Fn(V, V) -> V + Send + 'static,
        window: Window,
        is_wanted: Option<Box<IsWanted<K, V>>>,
    ) -> Result<RddStream<'c, (K, V)>> {
        let span = Span::new(window, self.context, self.slide_ms, Kind::Reduced)?;
        let batches = self.reduce_by_key(reduce.clone());
        let cell = batches.cell.clone();
        // The batches that leave with a slide were in the window before.
        cell.keep_for(span.length_ms.saturating_add(span.slide_ms));
        let dialect = self.context.dialect();
        let step = InverseStep {
            parent: cell,
            cell: BatchCache::new(),
            span,
            dialect,
            // PySpark's rule: one fold of a short window is cheaper than two.
            is_incremental: dialect == Dialect::Scala || span.length_ms / 5 >= span.slide_ms,
            functions: Arc::new(Mutex::new(Functions {
                reduce,
                inverse,
                is_wanted,
            })),
            before: None,
        };
        let (context, cell, parents) = (self.context, step.cell.clone(), vec![batches.id]);
        let windows = context.stream_of(cell, parents, span.slide_ms, Box::new(step));
        context.reach(windows.id, span.length_ms);
        Ok(windows)
    }
}

/// What the user supplied.
struct Functions<K, V, F, G> {
    reduce: F,
    inverse: G,
    is_wanted: Option<Box<IsWanted<K, V>>>,
}

/// Makes windows of folded batches, each of the one before.
struct InverseStep<K, V, F, G> {
    parent: BatchCache<(K, V)>,
    cell: BatchCache<(K, V)>,
    span: Span,
    dialect: Dialect,
    is_incremental: bool,
    /// Called by one thread at a time: see [`BatchCache`].
    functions: Arc<Mutex<Functions<K, V, F, G>>>,
    /// `None` where the next window has to be folded anew.
    before: Option<Before<K, V>>,
}

/// The window that was made last.
struct Before<K, V> {
    time: BatchTime,
    sums: Sums<K, V>,
    /// Its batches, once the window behind it could not be made: they may have been forgotten when they
    /// leave the next one that can.
    batches: Option<Entries<(K, V)>>,
}

impl<K, V, F, G> InverseStep<K, V, F, G>
where
    K: Key,
    V: Record + Clone,
    F: Fn(V, V) -> V + Send,
    G: Fn(V, V) -> V + Send,
{
    /// Makes the window that ends at `now` of the one before.
    ///
    /// # Errors
    ///
    /// A batch or a function has failed: the sums are as they were. Where they cannot be used any more,
    /// they are dropped.
    fn slide(&mut self, now: BatchTime) -> Produced<Rdd<(K, V)>> {
        let Some(before) = &mut self.before else {
            let window = self.parent.between(self.span.start(now), now);
            let functions = lock(&self.functions);
            let Some(sums) = functions.anew(&window, now, self.dialect)? else {
                return Ok(None);
            };
            let rdd = Rdd::from(sums.pairs.clone());
            self.before = self.is_incremental.then_some(Before {
                time: now,
                sums,
                batches: None,
            });
            return Ok(Some(rdd));
        };
        let start = self.span.start(now);
        let batches = before.batches.get_or_insert_with(|| {
            let start = self.span.start(before.time);
            self.parent.between(start, before.time)
        });
        let left = batches.iter().filter(|(time, _)| *time <= start);
        let left = all_of(left, now)?;
        // A batch that came and left while no window could be made is in none.
        let came = self.parent.between(before.time.max(start), now).get(now)?;
        let functions = lock(&self.functions);
        let sums = &mut before.sums;
        let has_come = !came.is_empty();
        let slid = Failure::catch_in_records(|| {
            let (reduce, inverse) = (&functions.reduce, &functions.inverse);
            sums.leave(fold(&left, reduce), inverse);
            sums.enter(fold(&came, reduce), reduce);
            functions.look(sums, self.dialect, has_come)
        });
        match slid {
            Ok(is_known) if !is_known => {
                self.before = None;
                return Err(Failure::of_records(INCONSISTENT));
            }
            Ok(_) => sums.commit(),
            Err(failure) => {
                sums.roll_back();
                return Err(failure);
            }
        }
        (before.time, before.batches) = (now, None);
        Ok(Some(Rdd::from(before.sums.pairs.clone())))
    }
}

impl<K, V, F, G> Functions<K, V, F, G>
where
    K: Key,
    V: Record + Clone,
    F: Fn(V, V) -> V,
{
    /// The sums of a window, folded anew.
    fn anew(
        &self,
        window: &Entries<(K, V)>,
        now: BatchTime,
        dialect: Dialect,
    ) -> std::result::Result<Option<Sums<K, V>>, Failure> {
        let batches = window.get(now)?;
        if dialect == Dialect::PySpark && batches.is_empty() {
            return Ok(None);
        }
        let mut sums = Sums::default();
        sums.enter(fold(&batches, &self.reduce), &self.reduce);
        self.look(&mut sums, dialect, !batches.is_empty())?;
        sums.commit();
        Ok(Some(sums))
    }

    /// Looks for keys that are not wanted. Returns `false` if a key left that never was there.
    fn look(
        &self,
        sums: &mut Sums<K, V>,
        dialect: Dialect,
        has_come: bool,
    ) -> std::result::Result<bool, Failure> {
        let is_known = sums.meet_strangers() || dialect == Dialect::PySpark;
        match &self.is_wanted {
            None => sums.forget_changed(),
            // PySpark asks its filter only where something came. What changed is asked about at the next
            // slide that filters.
            Some(_) if dialect == Dialect::PySpark && !has_come => {}
            Some(is_wanted) => sums.filter(is_wanted),
        }
        Ok(is_known)
    }
}

impl<K, V, F, G> Operator for InverseStep<K, V, F, G>
where
    K: Key,
    V: Record + Clone,
    F: Fn(V, V) -> V + Send + 'static,
    G: Fn(V, V) -> V + Send + 'static,
{
    fn name(&self) -> &'static str {
        "reduce_by_key_and_window_with_inverse"
    }

    fn start(&mut self, starting: &StartContext<'_>) {
        self.cell.start(starting.remember_ms);
    }

    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> std::result::Result<(), Failure> {
        let made = self.slide(now.time)?;
        self.cell.put(now.time, Entry::Produced(made));
        Ok(())
    }

    /// Whoever needs this very window later gets it folded anew.
    fn fail(&mut self, time: BatchTime, failure: &Failure) {
        let window = self.parent.between(self.span.start(time), time);
        let (functions, dialect) = (Arc::clone(&self.functions), self.dialect);
        let name = self.name();
        let again = move |now| -> Produced<Rdd<(K, V)>> {
            let sums = Failure::catch_in_records(|| lock(&functions).anew(&window, now, dialect));
            let sums = sums.map_err(|failure| failure.within(name))?;
            Ok(sums.map(|sums| Rdd::from(sums.pairs)))
        };
        let owed = Owed::new(time, failure, Some(Box::new(again)));
        self.cell.put(time, Entry::Failed(owed));
    }
}

type IsWanted<K, V> = dyn Fn(&K, &V) -> bool + Send;

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

/// The values of a window, by key, in the order in which the keys came. What a slide changes is kept until
/// it has worked.
struct Sums<K, V> {
    pairs: Vec<(K, V)>,
    places: HashMap<K, usize>,
    /// Keys whose value has changed since the filter was last asked.
    changed: Vec<K>,
    /// Of those the ones from slides before.
    changed_before: usize,
    /// Keys that left and were not there.
    strangers: Vec<K>,
    /// Values that this slide has changed, with their places.
    undo: Vec<(usize, V)>,
    /// How many keys there were before this slide.
    len_before: usize,
    /// What this slide does with the keys that changed.
    verdict: Verdict<K>,
}

enum Verdict<K> {
    /// They are asked about later.
    Later,
    /// All stay, but for these.
    Drop(Vec<K>),
}

impl<K, V> Default for Sums<K, V> {
    fn default() -> Self {
        Sums {
            pairs: Vec::new(),
            places: HashMap::new(),
            changed: Vec::new(),
            changed_before: 0,
            strangers: Vec::new(),
            undo: Vec::new(),
            len_before: 0,
            verdict: Verdict::Later,
        }
    }
}

impl<K: Key, V: Record + Clone> Sums<K, V> {
    fn leave(&mut self, left: Rdd<(K, V)>, inverse: impl Fn(V, V) -> V) {
        for (key, value) in left.iter() {
            match self.places.get(key) {
                Some(&place) => {
                    let sum = &mut self.pairs[place].1;
                    let new = inverse(sum.clone(), value.clone());
                    self.undo.push((place, std::mem::replace(sum, new)));
                    self.changed.push(key.clone());
                }
                None => self.strangers.push(key.clone()),
            }
        }
    }

    fn enter(&mut self, came: Rdd<(K, V)>, reduce: impl Fn(V, V) -> V) {
        for (key, value) in came.iter() {
            match self.places.get(key) {
                Some(&place) => {
                    let sum = &mut self.pairs[place].1;
                    let new = reduce(sum.clone(), value.clone());
                    self.undo.push((place, std::mem::replace(sum, new)));
                }
                None => {
                    self.places.insert(key.clone(), self.pairs.len());
                    self.pairs.push((key.clone(), value.clone()));
                }
            }
            self.changed.push(key.clone());
        }
    }

    /// Looks at keys that left and were not there. Returns `false` if one of them did not come either.
    fn meet_strangers(&mut self) -> bool {
        let mut strangers = self.strangers.iter();
        strangers.all(|key| self.places.contains_key(key))
    }

    fn forget_changed(&mut self) {
        self.verdict = Verdict::Drop(Vec::new());
    }

    /// Looks for changed keys that are not wanted.
    fn filter(&mut self, is_wanted: &IsWanted<K, V>) {
        let changed = self.changed.iter();
        let unwanted = changed.filter(|key| {
            let place = self.places.get(*key);
            let pair = place.map(|&place| &self.pairs[place]);
            pair.is_some_and(|(key, value)| !is_wanted(key, value))
        });
        self.verdict = Verdict::Drop(unwanted.cloned().collect());
    }

    /// The slide has worked: drops the keys that are not wanted. Calls no user-supplied function.
    fn commit(&mut self) {
        if let Verdict::Drop(unwanted) = std::mem::replace(&mut self.verdict, Verdict::Later) {
            self.changed.clear();
            for key in unwanted {
                // A key may have changed twice.
                let Some(place) = self.places.remove(&key) else {
                    continue;
                };
                self.pairs.swap_remove(place);
                if let Some((moved, _)) = self.pairs.get(place) {
                    self.places.insert(moved.clone(), place);
                }
            }
        }
        self.begin();
    }

    /// The slide has failed: everything is as it was before it.
    #[cold]
    fn roll_back(&mut self) {
        for (place, value) in self.undo.drain(..).rev() {
            self.pairs[place].1 = value;
        }
        for (key, _) in self.pairs.drain(self.len_before..) {
            self.places.remove(&key);
        }
        self.changed.truncate(self.changed_before);
        self.verdict = Verdict::Later;
        self.begin();
    }

    /// What changes from now on may have to be undone.
    fn begin(&mut self) {
        self.undo.clear();
        self.strangers.clear();
        self.len_before = self.pairs.len();
        self.changed_before = self.changed.len();
    }
}
