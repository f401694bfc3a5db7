//! `map_with_state`: a state a key, looked at only where something came.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::epoch::BatchTime;
use crate::epoch::clock::as_ms;
use crate::stream::cell::{Failure, Made};
use crate::stream::graph::Now;
use crate::stream::rdd::{Key, Rdd, Record};
use crate::stream::rdd_stream::RddStream;
use crate::stream::state_map::StateMap;

/// The state of the key at hand, in a function of [`map_with_state`](RddStream::map_with_state).
#[derive(Debug)]
pub struct State<S> {
    state: Option<S>,
    is_updated: bool,
    is_removed: bool,
    is_timing_out: bool,
}

impl<S> State<S> {
    fn new(state: Option<S>, is_timing_out: bool) -> Self {
        State {
            state,
            is_updated: false,
            is_removed: false,
            is_timing_out,
        }
    }

    /// Whether there is a state.
    pub fn exists(&self) -> bool {
        self.state.is_some()
    }

    /// The state.
    ///
    /// # Panics
    ///
    /// There is none: `State is not set`, which fails the batch. [`get_option`](Self::get_option) does not.
    pub fn get(&self) -> &S {
        self.state.as_ref().expect("State is not set")
    }

    /// The state, if there is one.
    pub fn get_option(&self) -> Option<&S> {
        self.state.as_ref()
    }

    /// Sets the state.
    ///
    /// # Panics
    ///
    /// It has been removed, or is timing out.
    pub fn update(&mut self, state: S) {
        assert!(
            !self.is_removed,
            "requirement failed: Cannot update the state after it has been removed"
        );
        assert!(
            !self.is_timing_out,
            "requirement failed: Cannot update the state that is timing out"
        );
        self.state = Some(state);
        self.is_updated = true;
    }

    /// Removes the state: the key is forgotten.
    ///
    /// # Panics
    ///
    /// It has been removed, or is timing out.
    pub fn remove(&mut self) {
        assert!(
            !self.is_timing_out,
            "requirement failed: Cannot remove the state that is timing out"
        );
        assert!(
            !self.is_removed,
            "requirement failed: Cannot remove the state that has already been removed"
        );
        self.state = None;
        self.is_updated = false;
        self.is_removed = true;
    }

    /// Whether nothing came for the key for as long as the timeout: the state is removed when the function
    /// returns.
    pub fn is_timing_out(&self) -> bool {
        self.is_timing_out
    }
}

/// What [`map_with_state`](RddStream::map_with_state) does: a function, states to begin with, a timeout.
pub struct StateSpec<K, S, F> {
    function: F,
    initial: Vec<(K, S)>,
    timeout_ms: Option<u64>,
}

impl<K, S, F> StateSpec<K, S, F> {
    /// A spec with a function of the batch's time, a key, a value and the key's state. The value is `None`
    /// when the key times out. What it gives, if anything, is a record of the result.
    pub fn function<V, U>(function: F) -> Self
    where
        F: Fn(BatchTime, &K, Option<&V>, &mut State<S>) -> Option<U> + Send + 'static,
    {
        StateSpec {
            function,
            initial: Vec::new(),
            timeout_ms: None,
        }
    }

    /// States before the first batch. They are as old as the first batch.
    pub fn initial_state(mut self, states: impl IntoIterator<Item = (K, S)>) -> Self {
        self.initial = states.into_iter().collect();
        self
    }

    /// Forgets a key for which nothing came for longer than `duration`, after calling the function with no
    /// value once. Unlike Spark, which looks every ten batches, this happens at the first batch at which it
    /// is due.
    pub fn timeout(mut self, duration: Duration) -> Self {
        self.timeout_ms = Some(as_ms(duration));
        self
    }
}

/// The stream that [`map_with_state`](RddStream::map_with_state) makes. It is the [`RddStream`] of what
/// the function gave in each batch.
pub struct MapWithState<'c, K, S, U> {
    mapped: RddStream<'c, U>,
    states: Arc<Mutex<StateMap<K, S>>>,
}

impl<'c, K, S, U> Deref for MapWithState<'c, K, S, U> {
    type Target = RddStream<'c, U>;

    fn deref(&self) -> &RddStream<'c, U> {
        &self.mapped
    }
}

impl<'c, K: Key, S: Record + Clone, U: Record> MapWithState<'c, K, S, U> {
    /// All keys with their states, after each batch: Spark's `stateSnapshots`. A batch costs as much as
    /// there are keys.
    pub fn state_snapshots(&self) -> RddStream<'c, (K, S)> {
        let states = Arc::clone(&self.states);
        self.mapped.derive_at(move |mapped, _| {
            let states = lock(&states);
            let pairs = states
                .iter()
                .map(|(key, state, _)| (key.clone(), state.clone()));
            Ok(mapped.map(|_| pairs.collect()))
        })
    }
}

impl<'c, K: Key, V: Record> RddStream<'c, (K, V)> {
    /// Keeps a state for each key and calls the spec's function for each record, in their order: Spark's
    /// `mapWithState`. A batch costs what came in it and what timed out, however many keys there are.
    ///
    /// When the function panics, or a batch of this stream has failed, the states are no longer known: this
    /// and all later batches of the result fail.
    ///
    /// ```
    /// use microtally::prelude::*;
    /// use microtally::stream::{RddQueue, State, StateSpec};
    ///
    /// let ssc = StreamingContext::new(Duration::from_millis(5))?;
    /// let queue: RddQueue<(&str, u32)> = [vec![("a", 1), ("b", 2)], vec![("a", 5)]].into_iter().collect();
    /// let spec = StateSpec::function(|_time, key: &&str, value: Option<&u32>, sum: &mut State<u32>| {
    ///     let total = sum.get_option().unwrap_or(&0) + value?;
    ///     sum.update(total);
    ///     Some(format!("{key} {total}"))
    /// });
    /// let (out, totals) = std::sync::mpsc::channel();
    /// ssc.queue_stream(&queue, true, None).map_with_state(spec).for_each_batch(move |rdd, _| {
    ///     let _ = out.send(rdd.to_vec());
    /// });
    /// ssc.stop_after(2)?;
    /// ssc.start()?.await_termination()?;
    /// assert_eq!(totals.iter().collect::<Vec<_>>(), [vec!["a 1", "b 2"], vec!["a 6"]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn map_with_state<S, U, F>(&self, spec: StateSpec<K, S, F>) -> MapWithState<'c, K, S, U>
    where
        S: Record,
        U: Record,
        F: Fn(BatchTime, &K, Option<&V>, &mut State<S>) -> Option<U> + Send + 'static,
    {
        let states = Arc::new(Mutex::new(StateMap::default()));
        let kept = Arc::clone(&states);
        let StateSpec {
            function,
            initial,
            timeout_ms,
        } = spec;
        let (mut initial, mut lost) = (initial, None::<Failure>);
        let cell = self.cell.clone();
        let make = move |now: &mut Now<'_, '_>| -> Made<Rdd<U>> {
            if let Some(failure) = &lost {
                return Err(failure.clone());
            }
            lost = Some(Failure::states_lost());
            let rdd = cell.at(now.time)?.unwrap_or_default();
            let mut states = lock(&kept);
            for (key, state) in initial.drain(..) {
                states.put(key, state, now.time);
            }
            let mut mapped = Vec::new();
            for (key, value) in rdd.iter() {
                let (before, touched) = states.take(key).unzip();
                let mut state = State::new(before, false);
                mapped.extend(function(now.time, key, Some(value), &mut state));
                let is_touched = state.is_updated || timeout_ms.is_some();
                if let Some(kept) = state.state {
                    let time = touched.filter(|_| !is_touched);
                    let time = time.map_or(now.time, |touched| touched.time);
                    states.put_back(key.clone(), kept, time, touched);
                }
            }
            if let Some(timeout_ms) = timeout_ms {
                let oldest = now.time.as_millis().saturating_sub(timeout_ms);
                for key in states.older_than(BatchTime::from_millis(oldest)) {
                    let mut state = State::new(states.remove(&key), true);
                    mapped.extend(function(now.time, &key, None, &mut state));
                }
            }
            lost = None;
            Ok(Some(mapped.into()))
        };
        MapWithState {
            mapped: self.context.rdd_stream(vec![self.id], self.slide_ms, make),
            states,
        }
    }
}

fn lock<K, S>(states: &Mutex<StateMap<K, S>>) -> MutexGuard<'_, StateMap<K, S>> {
    states.lock().unwrap_or_else(PoisonError::into_inner)
}
