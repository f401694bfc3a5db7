//! `StateMap`: a state a key, with the time at which it was last touched.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::epoch::BatchTime;
use crate::stream::rdd::Key;

/// States by key. What was not touched for a time is found without looking at the others.
#[derive(Clone)]
pub struct StateMap<K, S> {
    states: HashMap<K, (S, BatchTime)>,
    /// Keys in the order in which they were touched, with the time: an entry whose state has been touched
    /// again since, or is gone, means nothing.
    touched: VecDeque<(BatchTime, K)>,
}

impl<K, S> Default for StateMap<K, S> {
    fn default() -> Self {
        StateMap {
            states: HashMap::new(),
            touched: VecDeque::new(),
        }
    }
}

impl<K: Key, S> StateMap<K, S> {
    /// The state of `key`.
    pub fn get(&self, key: &K) -> Option<&S> {
        self.states.get(key).map(|(state, _)| state)
    }

    /// Gives `key` a state, touched at `time`, which is not before that of any other call.
    pub fn put(&mut self, key: K, state: S, time: BatchTime) {
        let touched = self.states.get(&key).map(|(_, touched)| *touched);
        self.put_back(key, state, time, touched);
    }

    /// As [`put`](Self::put), for a state that was taken out when it was last touched at `before`.
    pub(super) fn put_back(
        &mut self,
        key: K,
        state: S,
        time: BatchTime,
        before: Option<BatchTime>,
    ) {
        if before != Some(time) {
            self.touched.push_back((time, key.clone()));
        }
        self.states.insert(key, (state, time));
        // Entries that mean nothing are thrown out when they are the most: amortised, a step a call.
        if self.touched.len() > 2 * self.states.len() + 64 {
            let states = &self.states;
            self.touched.retain(|(at, key)| is_valid(states, *at, key));
        }
    }

    /// Takes the state of `key` out.
    pub fn remove(&mut self, key: &K) -> Option<S> {
        self.take(key).map(|(state, _)| state)
    }

    /// Takes the state of `key` out, with the time at which it was last touched.
    pub(super) fn take(&mut self, key: &K) -> Option<(S, BatchTime)> {
        self.states.remove(key)
    }

    /// The keys whose state was last touched before `time`, each once, the oldest first. Costs as much as there are,
    /// not as the map is large.
    pub fn older_than(&mut self, time: BatchTime) -> Vec<K> {
        let states = &self.states;
        let means_nothing = |(at, key): &(BatchTime, K)| !is_valid(states, *at, key);
        while self.touched.front().is_some_and(means_nothing) {
            self.touched.pop_front();
        }
        let old = self.touched.iter().take_while(|(at, _)| *at < time);
        // A key that was forgotten and came back at the same time has two entries.
        let mut named = HashSet::new();
        let valid = old.filter(|(at, key)| is_valid(states, *at, key) && named.insert(key));
        valid.map(|(_, key)| key.clone()).collect()
    }

    /// Every key with its state and the time at which it was last touched, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &S, BatchTime)> {
        self.states
            .iter()
            .map(|(key, (state, touched))| (key, state, *touched))
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }
}

/// Whether the state of `key` was last touched at `at`.
fn is_valid<K: Key, S>(states: &HashMap<K, (S, BatchTime)>, at: BatchTime, key: &K) -> bool {
    states.get(key).is_some_and(|(_, touched)| *touched == at)
}
