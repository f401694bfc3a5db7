//! `reduce_by_key_and_window`: the values of a key in a window become one, with and without an inverse.

use std::collections::HashMap;

use crate::config::Dialect;
use crate::epoch::BatchTime;
use crate::error::Result;
use crate::stream::cell::{Failure, Made};
use crate::stream::graph::Now;
use crate::stream::rdd::{Key, Rdd, Record};
use crate::stream::rdd_stream::RddStream;
use crate::stream::window::{Kind, Span, Window};

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
        // PySpark's rule: one fold of a short window is cheaper than two.
        let is_incremental = dialect == Dialect::Scala || span.length_ms / 5 >= span.slide_ms;
        let mut before: Option<Sums<K, V>> = None;
        let make = move |now: &mut Now<'_, '_>| -> Made<Rdd<(K, V)>> {
            // Gone until this slide has worked out: what follows a failure is folded anew.
            let (mut sums, entering) = match before.take() {
                Some(mut sums) => {
                    let (left, came) = span.change(now.time);
                    sums.leave(fold(&cell.between(left.0, left.1)?, &reduce), &inverse);
                    (sums, cell.between(came.0, came.1)?)
                }
                None => {
                    let batches = cell.between(span.start(now.time), now.time)?;
                    if dialect == Dialect::PySpark && batches.is_empty() {
                        return Ok(None);
                    }
                    (Sums::default(), batches)
                }
            };
            // PySpark asks its filter only where something came.
            let is_filtered = dialect == Dialect::Scala || !entering.is_empty();
            sums.enter(fold(&entering, &reduce), &reduce);
            sums.meet_strangers(dialect == Dialect::Scala)?;
            match &is_wanted {
                None => sums.changed.clear(),
                Some(is_wanted) if is_filtered => sums.filter(is_wanted),
                // What changed is asked about at the next slide that filters.
                Some(_) => {}
            }
            let rdd = Rdd::from(sums.pairs.clone());
            before = Some(sums).filter(|_| is_incremental);
            Ok(Some(rdd))
        };
        let windows = (self.context).rdd_stream(vec![batches.id], span.slide_ms, make);
        self.context.reach(windows.id, span.length_ms);
        Ok(windows)
    }
}

type IsWanted<K, V> = dyn Fn(&K, &V) -> bool + Send;

/// Folds batches, oldest first.
fn fold<K: Key, V: Record + Clone>(
    batches: &[(BatchTime, Rdd<(K, V)>)],
    reduce: impl Fn(V, V) -> V,
) -> Rdd<(K, V)> {
    match batches {
        // A batch is folded already.
        [(_, only)] => only.clone(),
        _ => {
            let parts = batches.iter().flat_map(|(_, rdd)| rdd.parts()).cloned();
            Rdd::shared(parts).reduce_by_key(reduce)
        }
    }
}

/// The values of a window, by key, in the order in which the keys came.
struct Sums<K, V> {
    pairs: Vec<(K, V)>,
    places: HashMap<K, usize>,
    /// Keys whose value has changed since the filter was last asked.
    changed: Vec<K>,
    /// Keys that left and were not there.
    strangers: Vec<K>,
}

impl<K, V> Default for Sums<K, V> {
    fn default() -> Self {
        Sums {
            pairs: Vec::new(),
            places: HashMap::new(),
            changed: Vec::new(),
            strangers: Vec::new(),
        }
    }
}

impl<K: Key, V: Record + Clone> Sums<K, V> {
    fn leave(&mut self, left: Rdd<(K, V)>, inverse: impl Fn(V, V) -> V) {
        for (key, value) in left.iter() {
            match self.places.get(key) {
                Some(&place) => {
                    let sum = &mut self.pairs[place].1;
                    *sum = inverse(sum.clone(), value.clone());
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
                    *sum = reduce(sum.clone(), value.clone());
                }
                None => {
                    self.places.insert(key.clone(), self.pairs.len());
                    self.pairs.push((key.clone(), value.clone()));
                }
            }
            self.changed.push(key.clone());
        }
    }

    /// Looks at keys that left and were not there.
    ///
    /// # Errors
    ///
    /// One of them did not come either, if that is an error.
    fn meet_strangers(&mut self, is_error: bool) -> std::result::Result<(), Failure> {
        let strangers = std::mem::take(&mut self.strangers);
        if is_error && strangers.iter().any(|key| !self.places.contains_key(key)) {
            return Err(Failure::of_records(INCONSISTENT));
        }
        Ok(())
    }

    /// Drops changed keys that are not wanted.
    fn filter(&mut self, is_wanted: &IsWanted<K, V>) {
        for key in std::mem::take(&mut self.changed) {
            let Some(&place) = self.places.get(&key) else {
                continue;
            };
            let (key, value) = &self.pairs[place];
            if is_wanted(key, value) {
                continue;
            }
            self.places.remove(key);
            self.pairs.swap_remove(place);
            if let Some((moved, _)) = self.pairs.get(place) {
                self.places.insert(moved.clone(), place);
            }
        }
    }
}
