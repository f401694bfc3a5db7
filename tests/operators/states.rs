//! States by key.

use std::collections::BTreeMap;

use microtally::stream::{Dialect, Rdd, State, StateMap, StateSpec};
use microtally::time::BatchTime;
use proptest::prelude::*;

use crate::run::{
    Batches, Pair, Seen, Watched, batches_with_gaps, dialects, input, run_well, seconds, sorted,
};

fn inputs() -> impl Strategy<Value = Batches<Pair>> {
    batches_with_gaps((0u8..5, -2i64..3))
}

/// States before the first batch. A key may be named twice.
fn initial() -> impl Strategy<Value = Vec<Pair>> {
    proptest::collection::vec((0u8..5, 10i64..20), 0..4)
}

/// Adds what came, and forgets what becomes a multiple of three.
fn update(values: &[i64], state: Option<i64>) -> Option<i64> {
    let sum = match state {
        Some(state) => state + values.iter().sum::<i64>() + i64::from(values.is_empty()),
        None => values.iter().sum(),
    };
    (sum % 3 != 0).then_some(sum)
}

/// All states after each batch.
fn updated(dialect: Dialect, batches: &Batches<Pair>, initial: &[Pair]) -> Seen<Pair> {
    let mut states: BTreeMap<u8, i64> = BTreeMap::new();
    for (key, state) in initial {
        states.entry(*key).or_insert(*state);
    }
    let mut is_begun = false;
    let mut seen = Vec::new();
    for (index, batch) in batches.iter().enumerate() {
        is_begun |= batch.is_some();
        if !is_begun {
            continue;
        }
        if batch.is_some() || dialect == Dialect::Scala {
            let records = batch.as_ref().map(Rdd::to_vec).unwrap_or_default();
            states = (0..5)
                .filter_map(|key| {
                    let values: Vec<i64> = records
                        .iter()
                        .filter(|(k, _)| *k == key)
                        .map(|(_, v)| *v)
                        .collect();
                    let state = states.get(&key).copied();
                    if values.is_empty() && state.is_none() {
                        return None;
                    }
                    Some((key, update(&values, state)?))
                })
                .collect();
        }
        seen.push((index + 1, states.clone().into_iter().collect()));
    }
    seen
}

/// What the mapping function returns: the time in seconds, the key, the state and whether it times
/// out.
type Mapped = (u64, u8, Option<i64>, bool);

/// Removes the state when a negative value comes, leaves it alone at zero, else adds. Nothing is
/// given for even values.
fn map(time: BatchTime, key: &u8, value: Option<&i64>, state: &mut State<i64>) -> Option<Mapped> {
    assert_eq!(value.is_none(), state.is_timing_out());
    match value {
        Some(value) if *value < 0 => state.remove(),
        Some(value) if *value > 0 => state.update(state.get_option().unwrap_or(&0) + value),
        _ => {}
    }
    let is_wanted = value.is_none_or(|value| value % 2 != 0);
    let seconds = time.as_millis() / 1000;
    is_wanted.then(|| {
        (
            seconds,
            *key,
            state.get_option().copied(),
            state.is_timing_out(),
        )
    })
}

/// What [`map`] returns, and all states, after each batch.
fn mapped(
    batches: &Batches<Pair>,
    initial: &[Pair],
    timeout: Option<usize>,
) -> (Seen<Mapped>, Seen<Pair>) {
    let mut states: BTreeMap<u8, (i64, usize)> = BTreeMap::new();
    for (key, state) in initial {
        states.insert(*key, (*state, 1));
    }
    let (mut mapped, mut snapshots) = (Vec::new(), Vec::new());
    for (index, batch) in batches.iter().enumerate() {
        let now = index + 1;
        let mut of_batch = Vec::new();
        for (key, value) in batch.iter().flat_map(Rdd::iter) {
            let state = states.get(key).copied();
            match (*value, state) {
                (..0, _) => drop(states.remove(key)),
                (0, Some((state, _))) if timeout.is_some() => {
                    states.insert(*key, (state, now));
                }
                (0, _) => {}
                (_, state) => {
                    let before = state.map_or(0, |(state, _)| state);
                    states.insert(*key, (before + value, now));
                }
            }
            if value % 2 != 0 {
                of_batch.push((
                    now as u64,
                    *key,
                    states.get(key).map(|(state, _)| *state),
                    false,
                ));
            }
        }
        for key in 0..5 {
            let is_due = |touched: usize| timeout.is_some_and(|after| touched + after < now);
            if let Some(&(state, touched)) = states.get(&key)
                && is_due(touched)
            {
                of_batch.push((now as u64, key, Some(state), true));
                states.remove(&key);
            }
        }
        mapped.push((now, of_batch));
        snapshots.push((
            now,
            states
                .iter()
                .map(|(key, (state, _))| (*key, *state))
                .collect(),
        ));
    }
    (mapped, snapshots)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(320))]

    #[test]
    fn every_batch_updates_every_state(
        dialect in dialects(),
        batches in inputs(),
        initial in initial(),
    ) {
        let (from_nothing, from_initial, at) = run_well(dialect, batches.len(), |context| {
            let stream = input(context, &batches);
            let at = stream.update_state_by_key_at([], |time, key, values, last: Option<u64>| {
                assert!(*key < 5, "the key is that of the records");
                if values.is_empty() { last } else { Some(time.as_millis() / 1000) }
            });
            (
                Watched::of(&stream.update_state_by_key(update)),
                Watched::of(&stream.update_state_by_key_from(initial.clone(), update)),
                Watched::of(&at),
            )
        });
        prop_assert_eq!(from_nothing.sorted(), updated(dialect, &batches, &[]));
        prop_assert_eq!(from_initial.sorted(), updated(dialect, &batches, &initial));
        for (now, last_times) in at.seen() {
            let latest = |key: u8| (1..=now).rev().find(|number| {
                batches[number - 1].iter().flat_map(Rdd::iter).any(|(k, _)| *k == key)
            });
            let expected = (0..5).filter_map(|key| Some((key, latest(key)? as u64))).collect();
            prop_assert_eq!(sorted(vec![(now, last_times)]), vec![(now, expected)]);
        }
    }

    #[test]
    fn a_mapped_state_is_as_old_as_what_touched_it(
        dialect in dialects(),
        batches in inputs(),
        initial in initial(),
        timeout in proptest::option::of(0usize..5),
    ) {
        let (mapped_records, snapshots) = run_well(dialect, batches.len(), |context| {
            let spec = StateSpec::function(map).initial_state(initial.clone());
            let spec = match timeout {
                Some(after) => spec.timeout(seconds(after)),
                None => spec,
            };
            let states = input(context, &batches).map_with_state(spec);
            (Watched::of(&states), Watched::of(&states.state_snapshots()))
        });
        let (expected, states) = mapped(&batches, &initial, timeout);
        // Records give theirs in their order, then come those that time out, in none.
        let records = |seen: Seen<Mapped>| -> Seen<Mapped> {
            seen.into_iter().map(|(now, all)| (now, all.into_iter().filter(|row| !row.3).collect())).collect()
        };
        let ends = |seen: Seen<Mapped>| -> Seen<Mapped> {
            sorted(seen.into_iter().map(|(now, all)| (now, all.into_iter().skip_while(|row| !row.3).collect())).collect())
        };
        prop_assert_eq!(records(mapped_records.seen()), records(expected.clone()));
        prop_assert_eq!(ends(mapped_records.seen()), ends(expected));
        prop_assert_eq!(snapshots.sorted(), states);
    }

    /// What StateMapSuite does at random: `put` at times that do not go back, `remove`, and copies,
    /// which go their own ways.
    #[test]
    fn a_state_map_is_a_map(
        calls in proptest::collection::vec((0u8..6, proptest::option::weighted(0.7, 0u32..9), 0u64..3), 0..200),
        copy_at in 0usize..200,
        older_than in 0u64..300,
    ) {
        let (mut map, mut model) = (StateMap::default(), BTreeMap::new());
        let mut copy = None;
        let mut now = 0;
        for (index, (key, state, later)) in calls.into_iter().enumerate() {
            now += later;
            match state {
                Some(state) => {
                    map.put(key, state, BatchTime::from_millis(now));
                    model.insert(key, (state, now));
                }
                None => prop_assert_eq!(map.remove(&key), model.remove(&key).map(|(state, _)| state)),
            }
            if index == copy_at {
                copy = Some((map.clone(), model.clone()));
            }
        }
        for (mut map, model) in copy.into_iter().chain([(map, model)]) {
            prop_assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
            for key in 0..6 {
                prop_assert_eq!(map.get(&key), model.get(&key).map(|(state, _)| state));
            }
            let rows = map.iter().map(|(key, state, touched)| (*key, (*state, touched.as_millis())));
            prop_assert_eq!(rows.collect::<BTreeMap<_, _>>(), model.clone());
            let old = map.older_than(BatchTime::from_millis(older_than));
            let expected = model.iter().filter(|(_, (_, touched))| *touched < older_than);
            let mut expected: Vec<(u64, u8)> = expected.map(|(key, (_, touched))| (*touched, *key)).collect();
            let mut old: Vec<(u64, u8)> = old.iter().map(|key| (model[key].1, *key)).collect();
            prop_assert!(old.is_sorted_by_key(|(touched, _)| *touched), "the oldest first");
            old.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(old, expected);
        }
    }
}
