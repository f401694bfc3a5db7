//! `StateMap`: states by key, with the time at which each was last touched.

use std::collections::{HashMap, VecDeque};

use crate::stream::plan::rdd::Key;
use crate::time::BatchTime;

/// States by key, each with the time of its last touch. Old ones are found without a look at the
/// others.
#[derive(Clone)]
pub struct StateMap<K, S> {
    states: HashMap<K, (S, Touch)>,
    /// Keys in the order in which they were touched. A key has at most one valid entry: that of its
    /// state's touch.
    touched: VecDeque<(Touch, K)>,
    /// The number of the next touch.
    next: u64,
    /// The number of the first touch since [`StateMap::begin`].
    begun_at: u64,
}

debug_fields!([K, S] StateMap<K, S>, "StateMap");

/// What [`StateMap::roll_back`] restores: keys whose state changed, in the order of the changes.
pub(crate) type Undo<K, S> = Vec<(K, PreviousState<S>)>;

/// What the map had for a key before a change.
pub(crate) enum PreviousState<S> {
    Missing,
    /// The same state, with this last touch.
    Touched(Touch),
    Was(S, Touch),
}

/// When a state was last touched. All touches differ, because a key may go and come back within one
/// batch, and its earlier touches must not count then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Touch {
    pub(crate) time: BatchTime,
    number: u64,
    /// The state that the batch began with had been saved when this touch was made.
    is_saved: bool,
}

impl<K, S> Default for StateMap<K, S> {
    fn default() -> Self {
        StateMap {
            states: HashMap::new(),
            touched: VecDeque::new(),
            next: 0,
            begun_at: 0,
        }
    }
}

impl<K: Key, S> StateMap<K, S> {
    /// The state of `key`.
    pub fn get(&self, key: &K) -> Option<&S> {
        self.states.get(key).map(|(state, _)| state)
    }

    /// Sets the state of `key`, touched at `time`, which must not be earlier than in any call
    /// before.
    pub fn put(&mut self, key: K, state: S, time: BatchTime) {
        let touched = self.states.get(&key).map(|(_, touched)| *touched);
        self.put_back(key, state, time, touched, true);
    }

    /// As [`put`](Self::put), for a state that was taken out when `before` was its last touch.
    /// `is_saved`: the state that the batch began with is in the undo log.
    pub(crate) fn put_back(
        &mut self,
        key: K,
        state: S,
        time: BatchTime,
        before: Option<Touch>,
        is_saved: bool,
    ) {
        let is_of_now = |before: &Touch| {
            before.time == time && self.is_new(*before) && before.is_saved == is_saved
        };
        let touch = before.filter(is_of_now);
        let touch = touch.unwrap_or_else(|| {
            let number = self.next;
            self.next += 1;
            let touch = Touch {
                time,
                number,
                is_saved,
            };
            self.touched.push_back((touch, key.clone()));
            touch
        });
        self.states.insert(key, (state, touch));
        // Invalid entries are removed when they are the majority: one step a call, amortised.
        if self.touched.len() > 2 * self.states.len() + 64 {
            let states = &self.states;
            self.touched
                .retain(|(touch, key)| is_valid(states, *touch, key));
        }
    }

    /// Removes the state of `key`, and returns it.
    pub fn remove(&mut self, key: &K) -> Option<S> {
        self.states.remove(key).map(|(state, _)| state)
    }

    /// Removes the state of `key`, and returns it with the stored key and its last touch.
    pub(crate) fn take_entry(&mut self, key: &K) -> Option<(K, S, Touch)> {
        let (key, (state, touch)) = self.states.remove_entry(key)?;
        Some((key, state, touch))
    }

    /// Puts back a state that was taken out and did not change.
    pub(crate) fn put_unchanged(&mut self, key: K, state: S, touch: Touch) {
        self.states.insert(key, (state, touch));
    }

    /// Begins changes that may have to be undone.
    pub(crate) fn begin(&mut self) {
        self.begun_at = self.next;
    }

    /// Returns `true` if `touch` was made since [`begin`](Self::begin).
    pub(crate) fn is_new(&self, touch: Touch) -> bool {
        touch.number >= self.begun_at
    }

    /// Returns `true` if `touch`, a last touch, says that the state the batch began with is saved.
    pub(crate) fn is_saved(&self, touch: Touch) -> bool {
        self.is_new(touch) && touch.is_saved
    }

    /// Undoes all changes since [`begin`](Self::begin). It costs as much as the map is large.
    #[cold]
    pub(crate) fn roll_back(&mut self, undo: Undo<K, S>) {
        for (key, before) in undo.into_iter().rev() {
            match before {
                PreviousState::Missing => drop(self.states.remove(&key)),
                PreviousState::Touched(touch) => {
                    let state = self.states.get_mut(&key);
                    state.expect("what came later was undone").1 = touch;
                }
                PreviousState::Was(state, touch) => drop(self.states.insert(key, (state, touch))),
            }
        }
        // Touches that are valid again may have been removed meanwhile.
        let touches = self.states.iter();
        let touches = touches.map(|(key, (_, touch))| (*touch, key.clone()));
        let mut touched: Vec<_> = touches.collect();
        touched.sort_unstable_by_key(|(touch, _)| touch.number);
        self.touched = touched.into();
    }

    /// The keys whose state was last touched before `time`, each once, oldest first. It costs as
    /// much as there are such keys, not as the map is large.
    pub fn older_than(&mut self, time: BatchTime) -> Vec<K> {
        let states = &self.states;
        let is_invalid = |(touch, key): &(Touch, K)| !is_valid(states, *touch, key);
        while self.touched.front().is_some_and(is_invalid) {
            self.touched.pop_front();
        }
        let old = self.touched.iter().take_while(|(at, _)| at.time < time);
        let valid = old.filter(|(touch, key)| is_valid(states, *touch, key));
        valid.map(|(_, key)| key.clone()).collect()
    }

    /// Every key with its state and the time at which it was last touched, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &S, BatchTime)> {
        self.states
            .iter()
            .map(|(key, (state, touched))| (key, state, touched.time))
    }

    /// As [`iter`](Self::iter), in the order of the last touches.
    pub(crate) fn in_touch_order(&self) -> Vec<(&K, &S, BatchTime)> {
        let mut all: Vec<_> = self.states.iter().collect();
        all.sort_unstable_by_key(|(_, (_, touch))| touch.number);
        let all = all.into_iter();
        all.map(|(key, (state, touch))| (key, state, touch.time))
            .collect()
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Returns `true` if there is no key.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }
}

/// Returns `true` if `touch` is the last one of the state of `key`.
fn is_valid<K: Key, S>(states: &HashMap<K, (S, Touch)>, touch: Touch, key: &K) -> bool {
    states.get(key).is_some_and(|(_, last)| *last == touch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_goes_and_comes_back_within_a_batch_leaves_nothing_behind() {
        let mut map = StateMap::default();
        let time = BatchTime::from_millis(1000);
        for number in 0..1000 {
            map.put("session", number, time);
            assert_eq!(map.remove(&"session"), Some(number));
        }
        map.put("session", 0, time);
        assert!(map.touched.len() <= 2 + 64, "{}", map.touched.len());
        let later = BatchTime::from_millis(2000);
        assert_eq!(map.older_than(later), ["session"], "once");
    }
}
