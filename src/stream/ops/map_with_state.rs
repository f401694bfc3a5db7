//! `map_with_state`: a state per key, touched only by new records and timeouts.

use std::any::Any;
use std::io::{self, Read, Write};
use std::ops::Deref;
use std::panic::resume_unwind;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::error::guarded;
use crate::save::{CodecSlot, Saved, StateKind, invalid};
use crate::stream::ops::chain::KeptState;
use crate::stream::ops::state_map::{PreviousState, StateMap, Touch, Undo};
use crate::stream::plan::batch_cache::BatchCache;
use crate::stream::plan::rdd::{Key, Rdd, Record};
use crate::stream::program::rdd_stream::RddStream;
use crate::time::{BatchTime, as_ms};

/// The state of the current key, in a function of [`map_with_state`](RddStream::map_with_state):
/// Spark's `State`.
#[derive(Debug)]
pub struct State<S> {
    state: Option<S>,
    /// The state before the call, once it has changed.
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

    /// Returns `true` if the key has a state.
    pub fn exists(&self) -> bool {
        self.state.is_some()
    }

    /// The state.
    ///
    /// # Panics
    ///
    /// Panics with `State is not set` if there is none, which fails the batch.
    /// [`get_option`](Self::get_option) does not.
    pub fn get(&self) -> &S {
        self.state.as_ref().expect("State is not set")
    }

    /// The state, if any.
    pub fn get_option(&self) -> Option<&S> {
        self.state.as_ref()
    }

    /// Sets the state.
    ///
    /// # Panics
    ///
    /// Panics if the state has been removed, or is timing out.
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

    /// Removes the state, and forgets the key.
    ///
    /// # Panics
    ///
    /// Panics if the state has been removed, or is timing out.
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

    /// Returns `true` if the key had no record for longer than the timeout. Its state is removed
    /// when the function returns.
    pub fn is_timing_out(&self) -> bool {
        self.is_timing_out
    }
}

/// The settings of [`map_with_state`](RddStream::map_with_state): a function, initial states, a
/// timeout.
pub struct StateSpec<K, S, F> {
    function: F,
    initial: Vec<(K, S)>,
    timeout_ms: Option<u64>,
}

debug_fields!([K, S, F] StateSpec<K, S, F>, "StateSpec", timeout_ms);

impl<K, S, F> StateSpec<K, S, F> {
    /// Creates a spec. `function` gets the batch's time, a key, a value and the key's state; the
    /// value is `None` if the key times out. What it returns, if anything, is a record of the
    /// result.
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

    /// Sets the states before the first batch. Their age is that of the first batch.
    pub fn initial_state(mut self, states: impl IntoIterator<Item = (K, S)>) -> Self {
        self.initial = states.into_iter().collect();
        self
    }

    /// Sets the timeout. A key without records for longer than `duration` is forgotten, after one
    /// call of the function without a value. That happens in the first batch in which it is due;
    /// Spark checks every ten batches.
    pub fn timeout(mut self, duration: Duration) -> Self {
        self.timeout_ms = Some(as_ms(duration));
        self
    }
}

/// The stream of [`map_with_state`](RddStream::map_with_state): an [`RddStream`] of what the
/// function returned in each batch, and a source of snapshots.
pub struct MapWithState<K, S, U> {
    mapped: RddStream<U>,
    steps: RddStream<TouchedAndSnapshot<K, S, U>>,
    /// Makes the snapshots, if there is a stream of them.
    snapshot: Arc<OnceLock<TakeSnapshot<K, S>>>,
    codecs: StateCodecs<K, S>,
}

debug_fields!([K, S, U] MapWithState<K, S, U>, "MapWithState", mapped);

/// The results of a batch: what the function returned, and all states if there is a stream of them.
type TouchedAndSnapshot<K, S, U> = (Rdd<U>, Option<Rdd<(K, S)>>);

type TakeSnapshot<K, S> = fn(&StateMap<K, S>) -> Rdd<(K, S)>;

impl<K, S, U> Deref for MapWithState<K, S, U> {
    type Target = RddStream<U>;

    fn deref(&self) -> &RddStream<U> {
        &self.mapped
    }
}

impl<K, S, U> MapWithState<K, S, U> {
    /// Names the stream that keeps the states; see
    /// [`DStream::named`](crate::stream::DStream::named). What the function returns is a stream of
    /// its own, with another name.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        self.steps.plan.name(self.steps.id, name.into());
        self
    }
}

impl<K: Saved, S: Saved, U> MapWithState<K, S, U> {
    /// Lets the states be saved where keys or states are of a custom type. Numbers, texts and bytes
    /// need no such call.
    #[must_use]
    pub fn checkpointed(self) -> Self {
        self.codecs.0.set();
        self.codecs.1.set();
        self
    }
}

impl<K: Key, S: Record + Clone, U: Record> MapWithState<K, S, U> {
    /// All keys with their states after each batch, in no particular order: Spark's
    /// `stateSnapshots`. A batch costs as much as there are keys.
    pub fn state_snapshots(&self) -> RddStream<(K, S)> {
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

impl<K: Key, V: Record> RddStream<(K, V)> {
    /// Keeps a state for each key, and calls the spec's function with each record, in their order:
    /// Spark's `mapWithState`. The result has what the function returns.
    ///
    /// A batch costs what came in it and what timed out, however many keys there are.
    ///
    /// ```
    /// use microtally::stream::{State, StateSpec, run_batches};
    /// let totals = run_batches([vec![("a", 1), ("b", 2)], vec![("a", 5)]], |pairs| {
    ///     let add = |_time, key: &&str, value: Option<&u32>, sum: &mut State<u32>| {
    ///         let total = sum.get_option().unwrap_or(&0) + value?;
    ///         sum.update(total);
    ///         Some(format!("{key} {total}"))
    ///     };
    ///     let spec = StateSpec::function(add);
    ///     Ok((*pairs.map_with_state(spec)).clone())
    /// })?;
    /// assert_eq!(totals, [vec!["a 1", "b 2"], vec!["a 6"]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// If the function panics, or a batch of this stream fails, the batch of the result fails and
    /// the states stay as they were, except those that the function changed in place, as a lock
    /// allows. At the next batch the missed one is mapped first. The records of up to 128 missed
    /// batches in a row are kept. If one more fails, the states are lost, and all later batches of
    /// the result fail.
    pub fn map_with_state<S, U, F>(&self, spec: StateSpec<K, S, F>) -> MapWithState<K, S, U>
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
        let all = States {
            map: StateMap::default(),
            undo: Undo::new(),
            is_whole: true,
            initial: Some(initial),
            codecs: StateCodecs::default(),
        };
        let codecs = all.codecs.clone();
        let snapshot = Arc::new(OnceLock::<TakeSnapshot<K, S>>::new());
        let wanted = Arc::clone(&snapshot);
        let cache = BatchCache::new();
        let steps = self.chain("map_with_state", cache, all, move |all, rdd, time| {
            all.begin();
            for (key, state) in all.initial.take().into_iter().flatten() {
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
        let mapped = steps.derive("mapped_with_state", |steps| {
            let mapped = steps.iter().next().map(|(mapped, _)| mapped.clone());
            mapped.unwrap_or_default()
        });
        MapWithState {
            mapped,
            steps,
            snapshot,
            codecs,
        }
    }
}

/// How keys and states are saved.
type StateCodecs<K, S> = (CodecSlot<K>, CodecSlot<S>);

/// The states, and the undo log of the current batch.
struct States<K, S> {
    map: StateMap<K, S>,
    undo: Undo<K, S>,
    /// `false` during a batch, and after one that was neither finished nor undone.
    is_whole: bool,
    /// The states before the first batch, until it comes.
    initial: Option<Vec<(K, S)>>,
    codecs: StateCodecs<K, S>,
}

impl<K: Key, S: Record> KeptState for States<K, S> {
    fn kind(&self) -> StateKind {
        let (keys, states) = &self.codecs;
        keys.state().and(states.state())
    }

    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        if !self.is_whole {
            return Err(io::Error::other("the states were lost"));
        }
        let (keys, states) = (self.codecs.0.codec()?, self.codecs.1.codec()?);
        self.initial.is_none().save(to)?;
        let all = self.map.in_touch_order();
        (all.len() as u64).save(to)?;
        all.into_iter().try_for_each(|(key, state, time)| {
            time.as_millis().save(to)?;
            (keys.save)(key, to)?;
            (states.save)(state, to)
        })
    }

    fn load(&mut self, from: &mut dyn Read) -> io::Result<()> {
        let (keys, states) = (self.codecs.0.codec()?, self.codecs.1.codec()?);
        if bool::load(from)? {
            self.initial = None;
        }
        let (count, mut before) = (u64::load(from)?, 0);
        for _ in 0..count {
            let time = u64::load(from)?;
            if time < before {
                return Err(invalid("states are not in the order of their times"));
            }
            before = time;
            let (key, state) = ((keys.load)(from)?, (states.load)(from)?);
            self.map.put(key, state, BatchTime::from_millis(time));
        }
        match self.map.len() as u64 == count {
            true => Ok(()),
            false => Err(invalid("a key has two states")),
        }
    }
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

    /// Calls the function with the state of `key`, and keeps the new state.
    ///
    /// # Panics
    ///
    /// Panics if the function does, after this batch was undone. So does `time_out`.
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
                // Each state that a batch begins with is saved once, however often it changes.
                let is_saved = touch.is_none_or(|old| is_changed || self.map.is_saved(old));
                match touch {
                    Some(old) if self.map.is_saved(old) => {}
                    Some(old) if is_changed => {
                        let before = state.before.expect("the function has changed it");
                        self.undo
                            .push((owned.clone(), PreviousState::Was(before, old)));
                    }
                    Some(old) if self.map.is_new(old) => {}
                    Some(old) => self.undo.push((owned.clone(), PreviousState::Touched(old))),
                    None => self.undo.push((owned.clone(), PreviousState::Missing)),
                }
                self.map.put_back(owned, kept, time, touch, is_saved);
            }
            (None, Some(old)) if !self.map.is_saved(old) => {
                let before = state.before.expect("the function has removed it");
                self.undo.push((owned, PreviousState::Was(before, old)));
            }
            (None, _) => {}
        }
        mapped
    }

    /// Removes the state of a key that times out, and calls the function with it.
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
                self.undo.push((owned, PreviousState::Was(before, touch)));
                mapped
            }
            Err(panic) => self.give_up(owned, before, panic),
        }
    }

    /// The function panicked, with a state that was `before`: undoes the batch.
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
