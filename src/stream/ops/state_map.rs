//! `StateMap`: a state a key, with the time at which it was last touched.

use std::collections::{HashMap, VecDeque};

use crate::stream::plan::rdd::Key;
use crate::time::BatchTime;

/// States by key. What was not touched for a time is found without looking at the others.
#[derive(Clone)]
pub struct StateMap<K, S> {
    states: HashMap<K, (S, Touch)>,
    /// Keys in the order in which they were touched. At most one entry of a key means something: that with
    /// the touch its state has.
    touched: VecDeque<(Touch, K)>,
    /// The number of the next touch.
    next: u64,
    /// The number of the first touch since [`StateMap::begin`].
    begun_at: u64,
}

debug_fields!([K, S] StateMap<K, S>, "StateMap");

/// What [`StateMap::roll_back`] puts back: keys whose state has changed, in the order in which they did.
pub(crate) type Undo<K, S> = Vec<(K, Before<S>)>;

/// What was there of a key before.
pub(crate) enum Before<S> {
    Missing,
    /// The same state, with that last touch.
    Touched(Touch),
    Was(S, Touch),
}

/// When a state was last touched. No two are the same: a key may go and come back within one batch, and
/// what it was touched by before must not count then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Touch {
    pub(crate) time: BatchTime,
    number: u64,
    /// Whether the state the batch began with was kept when this touch was made.
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

    /// Gives `key` a state, touched at `time`, which is not before that of any other call.
    pub fn put(&mut self, key: K, state: S, time: BatchTime) {
        let touched = self.states.get(&key).map(|(_, touched)| *touched);
        self.put_back(key, state, time, touched, true);
    }

    /// As [`put`](Self::put), for a state that was taken out when `before` was its last touch.
    /// `is_saved`: the state the batch began with is kept elsewhere.
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
        // Entries that mean nothing are thrown out when they are the most: amortised, a step a call.
        if self.touched.len() > 2 * self.states.len() + 64 {
            let states = &self.states;
            self.touched
                .retain(|(touch, key)| is_valid(states, *touch, key));
        }
    }

    /// Takes the state of `key` out.
    pub fn remove(&mut self, key: &K) -> Option<S> {
        self.states.remove(key).map(|(state, _)| state)
    }

    /// Takes the state of `key` out, with the key that is kept and its last touch.
    pub(crate) fn take_entry(&mut self, key: &K) -> Option<(K, S, Touch)> {
        let (key, (state, touch)) = self.states.remove_entry(key)?;
        Some((key, state, touch))
    }

    /// Puts a state back that was taken out and did not change.
    pub(crate) fn put_unchanged(&mut self, key: K, state: S, touch: Touch) {
        self.states.insert(key, (state, touch));
    }

    /// Changes begin that may have to be undone.
    pub(crate) fn begin(&mut self) {
        self.begun_at = self.next;
    }

    /// Whether that touch was made since [`begin`](Self::begin).
    pub(crate) fn is_new(&self, touch: Touch) -> bool {
        touch.number >= self.begun_at
    }

    /// Whether the state the batch began with is kept, where that is the last touch.
    pub(crate) fn is_saved(&self, touch: Touch) -> bool {
        self.is_new(touch) && touch.is_saved
    }

    /// Undoes all changes since [`begin`](Self::begin). Costs as much as the map is large.
    #[cold]
    pub(crate) fn roll_back(&mut self, undo: Undo<K, S>) {
        for (key, before) in undo.into_iter().rev() {
            match before {
                Before::Missing => drop(self.states.remove(&key)),
                Before::Touched(touch) => {
                    let state = self.states.get_mut(&key);
                    state.expect("what came later was undone").1 = touch;
                }
                Before::Was(state, touch) => drop(self.states.insert(key, (state, touch))),
            }
        }
        // Touches that mean something again may have been thrown out meanwhile.
        let touches = self.states.iter();
        let touches = touches.map(|(key, (_, touch))| (*touch, key.clone()));
        let mut touched: Vec<_> = touches.collect();
        touched.sort_unstable_by_key(|(touch, _)| touch.number);
        self.touched = touched.into();
    }

    /// The keys whose state was last touched before `time`, each once, the oldest first. Costs as much as there are,
    /// not as the map is large.
    pub fn older_than(&mut self, time: BatchTime) -> Vec<K> {
        let states = &self.states;
        let means_nothing = |(touch, key): &(Touch, K)| !is_valid(states, *touch, key);
        while self.touched.front().is_some_and(means_nothing) {
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

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }
}

/// Whether `touch` is the last one of the state of `key`.
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
