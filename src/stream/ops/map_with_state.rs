//! `map_with_state`: a state a key, looked at only where something came.

use std::any::Any;
use std::ops::Deref;
use std::panic::resume_unwind;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::error::guarded;
use crate::stream::ops::state_map::{Before, StateMap, Touch, Undo};
use crate::stream::plan::rdd::{Key, Rdd, Record};
use crate::stream::program::rdd_stream::RddStream;
use crate::time::{BatchTime, as_ms};

/// The state of the key at hand, in a function of [`map_with_state`](RddStream::map_with_state).
#[derive(Debug)]
pub struct State<S> {
    state: Option<S>,
    /// What the state was, once it has changed.
    before: Option<S>,
    is_updated: bool,
    is_removed: bool,
    is_timing_out: bool,
}

impl<S> State<S> {
    fn new(state: Option<S>, is_timing_out: bool) -> Self {
        State {
            state,
            before: None,
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
        self.keep_before();
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
        self.keep_before();
        self.state = None;
        self.is_updated = false;
        self.is_removed = true;
    }

    /// The state is about to change.
    fn keep_before(&mut self) {
        if !self.is_updated {
            self.before = self.state.take();
        }
    }

    /// The state as it was before the function was called.
    fn into_before(self) -> Option<S> {
        match self.is_updated || self.is_removed {
            true => self.before,
            false => self.state,
        }
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

debug_fields!([K, S, F] StateSpec<K, S, F>, "StateSpec", timeout_ms);

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
    steps: RddStream<'c, TouchedAndSnapshot<K, S, U>>,
    /// Makes the snapshots, if somebody wants them.
    snapshot: Arc<OnceLock<Snapshot<K, S>>>,
}

debug_fields!(['c, K, S, U] MapWithState<'c, K, S, U>, "MapWithState", mapped);

/// What comes of a batch: what the function gave, and all states, if somebody wants them.
type TouchedAndSnapshot<K, S, U> = (Rdd<U>, Option<Rdd<(K, S)>>);

type Snapshot<K, S> = fn(&StateMap<K, S>) -> Rdd<(K, S)>;

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
        self.snapshot.get_or_init(|| {
            |states| {
                let states = states.iter();
                let pairs = states.map(|(key, state, _)| (key.clone(), state.clone()));
                pairs.collect()
            }
        });
        let of_step = |(_, snapshot): &TouchedAndSnapshot<K, S, U>| snapshot.clone();
        self.steps.derive("state_snapshots", move |steps| {
            let snapshot = steps.iter().next().and_then(of_step);
            snapshot.unwrap_or_default()
        })
    }
}

impl<'c, K: Key, V: Record> RddStream<'c, (K, V)> {
    /// Keeps a state for each key and calls the spec's function for each record, in their order: Spark's
    /// `mapWithState`. A batch costs what came in it and what timed out, however many keys there are.
    ///
    /// When the function panics, or a batch of this stream fails, the batch of the result fails and the
    /// states stay as they were; a state that the function changes in place, as a lock allows, is not put
    /// back. At the next batch the missed one is mapped first. The records of up to 128 missed batches in a
    /// row are kept; when one more fails, the states are lost, and all later batches of the result fail.
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
        let StateSpec {
            function,
            initial,
            timeout_ms,
        } = spec;
        let mut all = States {
            map: StateMap::default(),
            undo: Undo::new(),
            is_whole: true,
        };
        let mut initial = Some(initial);
        let snapshot = Arc::new(OnceLock::<Snapshot<K, S>>::new());
        let wanted = Arc::clone(&snapshot);
        let steps = self.chain("map_with_state", move |rdd, time| {
            all.begin();
            for (key, state) in initial.take().into_iter().flatten() {
                all.map.put(key, state, time);
            }
            all.map.begin();
            let mut mapped = Vec::new();
            for (key, value) in rdd.unwrap_or_default().iter() {
                let call = |state: &mut State<S>| function(time, key, Some(value), state);
                mapped.extend(all.call(key, time, timeout_ms.is_some(), call));
            }
            if let Some(timeout_ms) = timeout_ms {
                let oldest = time.as_millis().saturating_sub(timeout_ms);
                for key in all.map.older_than(BatchTime::from_millis(oldest)) {
                    let call = |state: &mut State<S>| function(time, &key, None, state);
                    mapped.extend(all.time_out(&key, call));
                }
            }
            all.end();
            let snapshot = wanted.get().map(|snapshot| snapshot(&all.map));
            Some(Rdd::from(vec![(Rdd::from(mapped), snapshot)]))
        });
        let mapped = steps.derive("map_with_state", |steps| {
            let mapped = steps.iter().next().map(|(mapped, _)| mapped.clone());
            mapped.unwrap_or_default()
        });
        MapWithState {
            mapped,
            steps,
            snapshot,
        }
    }
}

/// The states, and what undoes what the batch at hand has changed.
struct States<K, S> {
    map: StateMap<K, S>,
    undo: Undo<K, S>,
    /// Not within a batch, whose end was not reached or undone.
    is_whole: bool,
}

impl<K: Key, S> States<K, S> {
    fn begin(&mut self) {
        assert!(
            std::mem::replace(&mut self.is_whole, false),
            "the states were lost when a key could not be copied or compared"
        );
    }

    fn end(&mut self) {
        self.undo.clear();
        self.is_whole = true;
    }

    /// Calls the function with the state of `key`, and keeps what it makes of it.
    ///
    /// # Panics
    ///
    /// When the function does, after everything of this batch was undone. So with `time_out`.
    fn call<U>(
        &mut self,
        key: &K,
        time: BatchTime,
        has_timeout: bool,
        function: impl FnOnce(&mut State<S>) -> Option<U>,
    ) -> Option<U> {
        let (owned, touch, mut state) = match self.map.take_entry(key) {
            Some((owned, state, touch)) => (owned, Some(touch), State::new(Some(state), false)),
            None => (key.clone(), None, State::new(None, false)),
        };
        let called = guarded(|| function(&mut state));
        let mapped = match called {
            Ok(mapped) => mapped,
            Err(panic) => self.give_up(owned, state.into_before().zip(touch), panic),
        };
        let is_touched = state.is_updated || has_timeout;
        let is_changed = state.is_updated || state.is_removed;
        match (state.state, touch) {
            (Some(kept), Some(touch)) if !is_touched => {
                self.map.put_unchanged(owned, kept, touch);
                return mapped;
            }
            (Some(kept), touch) => {
                // Each state a batch begins with is kept once, however often it changes.
                let is_saved = touch.is_none_or(|old| is_changed || self.map.is_saved(old));
                match touch {
                    Some(old) if self.map.is_saved(old) => {}
                    Some(old) if is_changed => {
                        let before = state.before.expect("the function has changed it");
                        self.undo.push((owned.clone(), Before::Was(before, old)));
                    }
                    Some(old) if self.map.is_new(old) => {}
                    Some(old) => self.undo.push((owned.clone(), Before::Touched(old))),
                    None => self.undo.push((owned.clone(), Before::Missing)),
                }
                self.map.put_back(owned, kept, time, touch, is_saved);
            }
            (None, Some(old)) if !self.map.is_saved(old) => {
                let before = state.before.expect("the function has removed it");
                self.undo.push((owned, Before::Was(before, old)));
            }
            (None, _) => {}
        }
        mapped
    }

    /// Calls the function with the state of a key that times out, which is removed.
    fn time_out<U>(
        &mut self,
        key: &K,
        function: impl FnOnce(&mut State<S>) -> Option<U>,
    ) -> Option<U> {
        let (owned, state, touch) = self.map.take_entry(key)?;
        let mut state = State::new(Some(state), true);
        let called = guarded(|| function(&mut state));
        let before = state.into_before().map(|before| (before, touch));
        match called {
            Ok(mapped) => {
                let (before, touch) = before.expect("a state that times out does not change");
                self.undo.push((owned, Before::Was(before, touch)));
                mapped
            }
            Err(panic) => self.give_up(owned, before, panic),
        }
    }

    /// The function has panicked, with a state that was `before`: undoes the batch.
    #[cold]
    fn give_up(&mut self, key: K, before: Option<(S, Touch)>, panic: Box<dyn Any + Send>) -> ! {
        if let Some((state, touch)) = before {
            self.map.put_unchanged(key, state, touch);
        }
        self.map.roll_back(std::mem::take(&mut self.undo));
        self.is_whole = true;
        resume_unwind(panic)
    }
}
