//! `update_state_by_key`: a state a key that every batch goes over.

use std::collections::{HashMap, HashSet};

use crate::config::Dialect;
use crate::epoch::BatchTime;
use crate::stream::cell::{Failure, Made};
use crate::stream::rdd::{Key, Rdd, Record};
use crate::stream::rdd_stream::RddStream;

impl<'c, K: Key, V: Record + Clone> RddStream<'c, (K, V)> {
    /// Keeps a state for each key: Spark's `updateStateByKey`. In every batch `update` is called for every
    /// key that has a state or a value, with the new values in their order (none, if only the state is
    /// there) and the state; it gives the new state, `None` to forget the key. Each batch of the result is
    /// all states.
    ///
    /// A batch costs as much as there are keys: where only what came matters,
    /// [`map_with_state`](Self::map_with_state) costs less.
    ///
    /// When `update` panics, or a batch of this stream has failed, the states are no longer known: this and
    /// all later batches of the result fail, as in Spark.
    pub fn update_state_by_key<S: Record + Clone>(
        &self,
        update: impl Fn(&[V], Option<S>) -> Option<S> + Send + 'static,
    ) -> RddStream<'c, (K, S)> {
        self.update_state_by_key_from([], update)
    }

    /// As [`update_state_by_key`](Self::update_state_by_key), with states before the first batch. Of several
    /// states of a key the first one counts.
    pub fn update_state_by_key_from<S: Record + Clone>(
        &self,
        initial: impl IntoIterator<Item = (K, S)>,
        update: impl Fn(&[V], Option<S>) -> Option<S> + Send + 'static,
    ) -> RddStream<'c, (K, S)> {
        self.update_state_by_key_at(initial, move |_, _, values, state| update(values, state))
    }

    /// As [`update_state_by_key_from`](Self::update_state_by_key_from), with a function that is also told
    /// the batch's time and the key.
    pub fn update_state_by_key_at<S: Record + Clone>(
        &self,
        initial: impl IntoIterator<Item = (K, S)>,
        update: impl Fn(BatchTime, &K, &[V], Option<S>) -> Option<S> + Send + 'static,
    ) -> RddStream<'c, (K, S)> {
        let mut known = HashSet::new();
        let initial = initial.into_iter();
        let mut states = Ok(States {
            // Of a key's states the first one counts.
            pairs: initial
                .filter(|(key, _)| known.insert(key.clone()))
                .collect(),
            is_begun: false,
        });
        let dialect = self.context.dialect();
        let cell = self.cell.clone();
        let make = move |now: &mut crate::stream::graph::Now<'_, '_>| -> Made<Rdd<(K, S)>> {
            let mut kept = std::mem::replace(&mut states, Err(Failure::states_lost()))?;
            let rdd = cell.at(now.time)?;
            let is_updated = match dialect {
                Dialect::Scala => rdd.is_some() || kept.is_begun,
                Dialect::PySpark => rdd.is_some(),
            };
            if is_updated {
                kept.update(&rdd.unwrap_or_default(), |key, values, state| {
                    update(now.time, key, values, state)
                });
                kept.is_begun = true;
            }
            let result = kept.is_begun.then(|| Rdd::from(kept.pairs.clone()));
            states = Ok(kept);
            Ok(result)
        };
        self.context.rdd_stream(vec![self.id], self.slide_ms, make)
    }
}

struct States<K, S> {
    /// In the order in which the keys came.
    pairs: Vec<(K, S)>,
    /// A batch has been made.
    is_begun: bool,
}

impl<K: Key, S> States<K, S> {
    fn update<V: Clone>(
        &mut self,
        rdd: &Rdd<(K, V)>,
        update: impl Fn(&K, &[V], Option<S>) -> Option<S>,
    ) {
        let mut places: HashMap<K, usize> = HashMap::new();
        let mut pairs: Vec<(K, Option<S>, Vec<V>)> = Vec::with_capacity(self.pairs.len());
        for (key, state) in self.pairs.drain(..) {
            places.insert(key.clone(), pairs.len());
            pairs.push((key, Some(state), Vec::new()));
        }
        for (key, value) in rdd.iter() {
            let place = *places.entry(key.clone()).or_insert_with(|| {
                pairs.push((key.clone(), None, Vec::new()));
                pairs.len() - 1
            });
            pairs[place].2.push(value.clone());
        }
        for (key, state, values) in pairs {
            if let Some(state) = update(&key, &values, state) {
                self.pairs.push((key, state));
            }
        }
    }
}
