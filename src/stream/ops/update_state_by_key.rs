//! `update_state_by_key`: a state per key, updated in every batch.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};

use crate::config::Dialect;
use crate::save::{CodecSlot, Saved, StateKind};
use crate::stream::ops::chain::KeptState;
use crate::stream::plan::batch_cache::BatchCache;
use crate::stream::plan::rdd::{Key, Rdd, Record};
use crate::stream::program::rdd_stream::RddStream;
use crate::time::BatchTime;

impl<K: Key, V: Record + Clone> RddStream<(K, V)> {
    /// Keeps a state for each key: Spark's `updateStateByKey`. Each batch of the result holds all
    /// states.
    ///
    /// In every batch `update` is called for every key that has a state or new values. It gets the
    /// new values in their order, which may be none, and the state. It returns the new state, or
    /// `None` to forget the key. So a batch costs as much as there are keys;
    /// [`map_with_state`](Self::map_with_state) costs only what came.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// let sums = run_batches([vec![("a", 1), ("b", 2)], vec![("a", 3)]], |pairs| {
    ///     let add = |new: &[i32], sum: Option<i32>| Some(sum.unwrap_or(0) + new.iter().sum::<i32>());
    ///     Ok(pairs.update_state_by_key(add))
    /// })?;
    /// assert_eq!(sums, [[("a", 1), ("b", 2)], [("a", 4), ("b", 2)]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// If `update` panics, or a batch of this stream fails, the batch of the result fails and the
    /// states stay as they were. At the next batch the missed one is updated first, as in Spark.
    /// The records of up to 128 missed batches in a row are kept. If one more fails, the states are
    /// lost, and all later batches of the result fail.
    pub fn update_state_by_key<S: Record + Clone>(
        &self,
        update: impl Fn(&[V], Option<S>) -> Option<S> + Send + 'static,
    ) -> RddStream<(K, S)> {
        self.update_state_by_key_from([], update)
    }

    /// As [`update_state_by_key`](Self::update_state_by_key), with states before the first batch.
    /// If a key has several states, the first one counts.
    pub fn update_state_by_key_from<S: Record + Clone>(
        &self,
        initial: impl IntoIterator<Item = (K, S)>,
        update: impl Fn(&[V], Option<S>) -> Option<S> + Send + 'static,
    ) -> RddStream<(K, S)> {
        self.update_state_by_key_at(initial, move |_, _, values, state| update(values, state))
    }

    /// As [`update_state_by_key_from`](Self::update_state_by_key_from), but `update` also gets the
    /// batch's time and the key.
    pub fn update_state_by_key_at<S: Record + Clone>(
        &self,
        initial: impl IntoIterator<Item = (K, S)>,
        update: impl Fn(BatchTime, &K, &[V], Option<S>) -> Option<S> + Send + 'static,
    ) -> RddStream<(K, S)> {
        let mut known = HashSet::new();
        let initial = initial.into_iter();
        let cache = BatchCache::new();
        let states = UpdatedStates {
            states: initial
                .filter(|(key, _)| known.insert(key.clone()))
                .collect(),
            is_begun: false,
            codec: cache.codec(),
        };
        let dialect = self.plan.dialect();
        self.chain(
            "update_state_by_key",
            cache,
            states,
            move |all, rdd, time| {
                let is_updated = match dialect {
                    Dialect::Scala => rdd.is_some() || all.is_begun,
                    Dialect::PySpark => rdd.is_some(),
                };
                if is_updated {
                    // The states before stay as they are until the update has worked for every key.
                    let update = |key: &K, values: &[V], state| update(time, key, values, state);
                    all.states = updated(&all.states, &rdd.unwrap_or_default(), update);
                    all.is_begun = true;
                }
                all.is_begun.then(|| all.states.clone())
            },
        )
    }
}

/// All states, and how they are saved.
struct UpdatedStates<K, S> {
    states: Rdd<(K, S)>,
    /// There was a batch.
    is_begun: bool,
    codec: CodecSlot<(K, S)>,
}

impl<K: Key, S: Record> KeptState for UpdatedStates<K, S> {
    fn kind(&self) -> StateKind {
        self.codec.state()
    }

    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        self.is_begun.save(to)?;
        self.states.save(self.codec.codec()?, to)
    }

    fn load(&mut self, from: &mut dyn Read) -> io::Result<()> {
        self.is_begun = bool::load(from)?;
        self.states = Rdd::load(self.codec.codec()?, from)?;
        Ok(())
    }
}

/// The states after a batch, in the order in which their keys were first seen.
fn updated<K: Key, V: Clone, S: Clone>(
    states: &Rdd<(K, S)>,
    rdd: &Rdd<(K, V)>,
    update: impl Fn(&K, &[V], Option<S>) -> Option<S>,
) -> Rdd<(K, S)> {
    let mut places: HashMap<&K, usize> = HashMap::new();
    let mut pairs: Vec<(&K, Option<&S>, Vec<V>)> = Vec::with_capacity(states.len());
    for (key, state) in states.iter() {
        places.insert(key, pairs.len());
        pairs.push((key, Some(state), Vec::new()));
    }
    for (key, value) in rdd.iter() {
        let place = *places.entry(key).or_insert_with(|| {
            pairs.push((key, None, Vec::new()));
            pairs.len() - 1
        });
        pairs[place].2.push(value.clone());
    }
    let updated = pairs.into_iter().filter_map(|(key, state, values)| {
        let state = update(key, &values, state.cloned())?;
        Some((key.clone(), state))
    });
    updated.collect()
}
