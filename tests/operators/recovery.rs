//! A function that fails once costs the output of one batch. What the batch lacks is folded in
//! later, by windows, states and whatever else needs it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use microtally::prelude::*;
use microtally::stream::LineRecords;
use microtally::stream::{DStream, Dialect, Rdd, RddStream, State, StateSpec};
use proptest::prelude::*;

use crate::tables::{lines, texts};

use crate::run::{
    Batches, Pair, Seen, Watched, batches_with_gaps, dialects, input, run, run_well, seconds,
    sorted,
};

/// A function that panics at some of its calls, counted from 0 over all its clones.
#[derive(Clone)]
struct Flaky {
    calls: Arc<AtomicUsize>,
    fails_at: Arc<Vec<usize>>,
}

impl Flaky {
    fn at(fails_at: &[usize]) -> Self {
        Flaky {
            calls: Arc::default(),
            fails_at: Arc::new(fails_at.to_vec()),
        }
    }

    /// How often it has failed.
    fn failures(&self) -> usize {
        let calls = self.calls.load(Ordering::Relaxed);
        self.fails_at.iter().filter(|at| **at < calls).count()
    }

    fn call(&self) {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        assert!(!self.fails_at.contains(&number), "call {number} fails");
    }
}

fn one_to_eight() -> Batches<i64> {
    (1..=8).map(|n| Some(vec![n].into())).collect()
}

/// Panics the first time it sees 2.
fn first_two_fails() -> impl Fn(i64) + Send + 'static {
    let seen = Mutex::new(false);
    move |n| {
        let is_first = n == 2 && !std::mem::replace(&mut *seen.lock().expect("no panic"), true);
        if is_first {
            panic!("the first 2");
        }
    }
}

fn numbered<T: Clone>(numbers: impl IntoIterator<Item = usize>, rows: &[T]) -> Seen<T> {
    let rows = rows.iter().cloned().map(|row| vec![row]);
    numbers.into_iter().zip(rows).collect()
}

#[test]
fn a_state_takes_in_what_a_failed_update_missed() {
    let batches = one_to_eight();
    let (watched, ran) = run(Dialect::Scala, batches.len(), |context| {
        let check = first_two_fails();
        let sums = input(context, &batches).map(|n| ((), *n));
        let sums = sums.update_state_by_key(move |values, sum: Option<i64>| {
            values.iter().for_each(|n| check(*n));
            Some(sum.unwrap_or_default() + values.iter().sum::<i64>())
        });
        Watched::of(&sums.map(|((), sum)| *sum))
    });
    let expected = numbered([1, 3, 4, 5, 6, 7, 8], &[1, 6, 10, 15, 21, 28, 36]);
    assert_eq!(watched.seen(), expected);
    let error = ran.expect_err("the failure is reported").to_string();
    assert_eq!(
        error,
        "batch 2000 ms failed: in update_state_by_key: the first 2"
    );
}

#[test]
fn a_window_has_the_batch_that_failed_at_first() {
    let batches = one_to_eight();
    let (watched, ran) = run(Dialect::Scala, batches.len(), |context| {
        let check = first_two_fails();
        let mapped = input(context, &batches).map(move |n| {
            check(*n);
            *n
        });
        Watched::of(&mapped.window(seconds(2)).expect("it fits"))
    });
    let mut expected = vec![(1, vec![1])];
    expected.extend((3..=8).map(|n| (n as usize, vec![n - 1, n])));
    assert_eq!(watched.seen(), expected);
    let error = ran.expect_err("the failure is reported").to_string();
    assert_eq!(error, "batch 2000 ms failed: in map: the first 2");
}

#[test]
fn a_source_that_fails_once_is_asked_again_for_the_batch_a_state_needs() {
    let check = first_two_fails();
    let (watched, _) = run(Dialect::Scala, 4, |context| {
        let numbers = context.batch_stream(move |time| {
            let n = time.as_millis() as i64 / 1000;
            check(n);
            Some(Rdd::from(vec![((), n)]))
        });
        let sums = numbers.update_state_by_key(|values, sum: Option<i64>| {
            Some(sum.unwrap_or_default() + values.iter().sum::<i64>())
        });
        Watched::of(&sums.map(|((), sum)| *sum))
    });
    assert_eq!(watched.seen(), numbered([1, 3, 4], &[1, 6, 10]));
}

#[test]
fn a_state_is_lost_when_more_batches_in_a_row_fail_than_are_kept() {
    let recovered = |failures: usize| {
        let batches: Batches<i64> = (0..failures + 4).map(|_| Some(vec![1].into())).collect();
        let (watched, ran) = run(Dialect::Scala, batches.len(), |context| {
            let calls = AtomicUsize::new(0);
            let sums = input(context, &batches).map(|n| ((), *n));
            let sums = sums.update_state_by_key(move |values, sum: Option<i64>| {
                let call = calls.fetch_add(1, Ordering::Relaxed);
                assert!(!(1..=failures).contains(&call), "not yet");
                Some(sum.unwrap_or_default() + values.iter().sum::<i64>())
            });
            Watched::of(&sums.map(|((), sum)| *sum))
        });
        let error = ran.expect_err("failures are reported").to_string();
        assert!(error.contains("not yet"), "{error}");
        watched.seen()
    };
    let all = |failures: usize| {
        let after = failures + 2..=failures + 4;
        let mut all = vec![(1, vec![1])];
        all.extend(after.map(|n| (n, vec![n as i64])));
        all
    };
    assert_eq!(recovered(128), all(128));
    assert_eq!(recovered(129), [(1, vec![1])], "nothing wrong comes out");
}

#[test]
fn a_large_state_that_changes_often_in_a_batch_is_kept_once_for_undoing() {
    // Each state counts how many of it there are.
    struct Counted(Arc<AtomicUsize>, u64);
    impl Counted {
        fn new(alive: &Arc<AtomicUsize>, value: u64) -> Self {
            alive.fetch_add(1, Ordering::Relaxed);
            Counted(Arc::clone(alive), value)
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let batches: Batches<Pair> = vec![Some(vec![(1, 1); 500].into()); 3];
    for timeout in [None, Some(seconds(9))] {
        let (alive, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (counting, highest) = (Arc::clone(&alive), Arc::clone(&most));
        let watched = run_well(Dialect::Scala, batches.len(), |context| {
            let spec = StateSpec::function(
                move |_, _: &u8, value: Option<&i64>, state: &mut State<Counted>| {
                    let last = state.get_option().map_or(0, |state| state.1);
                    assert!(value.is_some(), "nothing times out");
                    state.update(Counted::new(&counting, last + 1));
                    highest.fetch_max(counting.load(Ordering::Relaxed), Ordering::Relaxed);
                    Some(last + 1)
                },
            );
            let spec = match timeout {
                Some(timeout) => spec.timeout(timeout),
                None => spec,
            };
            Watched::of(&input(context, &batches).map_with_state(spec))
        });
        let last = watched
            .seen()
            .pop()
            .and_then(|(_, rows)| rows.last().copied());
        assert_eq!(last, Some(1500));
        let most = most.load(Ordering::Relaxed);
        assert!(most <= 3, "{most} states of one key at once");
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    }
}

type Program = fn(&StreamingContext, &Batches<Pair>, Flaky) -> Watched<Pair>;

fn flaky_map(stream: &RddStream<Pair>, flaky: Flaky) -> RddStream<Pair> {
    stream.map(move |pair| {
        flaky.call();
        *pair
    })
}

fn update(values: &[i64], state: Option<i64>) -> Option<i64> {
    let sum = state.unwrap_or(1) + values.iter().sum::<i64>();
    (sum % 3 != 0).then_some(sum)
}

fn with_state(
    stream: &RddStream<Pair>,
    flaky: Flaky,
) -> microtally::stream::MapWithState<u8, i64, Pair> {
    let spec = StateSpec::function(
        move |_, key: &u8, value: Option<&i64>, state: &mut State<i64>| {
            let sum = state.get_option().copied().unwrap_or_default();
            match value {
                Some(value) if *value < 0 && state.exists() => state.remove(),
                Some(value) if *value > 0 => state.update(sum + value),
                _ => {}
            }
            // After the change, so that there is something to undo.
            flaky.call();
            Some((*key, sum))
        },
    );
    stream.map_with_state(spec.initial_state([(0, 7)]).timeout(seconds(2)))
}

/// Sums over windows, each made of the one before, with functions that fail in turn.
fn inverse(stream: &RddStream<Pair>, flaky: Flaky, is_filtered: bool) -> RddStream<Pair> {
    // None is zero while it is in a window.
    let stream = stream.map(|(key, n)| (*key, n + 10));
    let (reduced, inverted, filtered) = (flaky.clone(), flaky.clone(), flaky);
    let reduce = move |a, b| {
        reduced.call();
        a + b
    };
    let inverse = move |a, b| {
        inverted.call();
        a - b
    };
    if !is_filtered {
        let window = stream.reduce_by_key_and_window_with_inverse(reduce, inverse, seconds(4));
        return window.expect("it fits");
    }
    let is_wanted = move |_: &u8, sum: &i64| {
        filtered.call();
        *sum != 0
    };
    let window = stream.reduce_by_key_and_window_with_inverse_and_filter(
        reduce,
        inverse,
        seconds(5),
        is_wanted,
    );
    window.expect("it fits")
}

const PROGRAMS: &[(&str, Program)] = &[
    ("window", |context, batches, flaky| {
        let mapped = flaky_map(&input(context, batches), flaky);
        Watched::of(&mapped.window(seconds(3)).expect("it fits"))
    }),
    ("window with a slide", |context, batches, flaky| {
        let mapped = flaky_map(&input(context, batches), flaky);
        Watched::of(&mapped.window((seconds(3), seconds(2))).expect("it fits"))
    }),
    ("window of windows", |context, batches, flaky| {
        let windows = input(context, batches).window(seconds(2)).expect("it fits");
        let mapped = flaky_map(&windows, flaky);
        Watched::of(&mapped.window(seconds(3)).expect("it fits"))
    }),
    ("count_by_window", |context, batches, flaky| {
        let wanted = input(context, batches).filter(move |(_, n)| {
            flaky.call();
            *n != 0
        });
        let counts = wanted.count_by_window(seconds(3)).expect("it fits");
        Watched::of(&counts.map(|n| (0, *n as i64)))
    }),
    ("reduce_by_window", |context, batches, flaky| {
        let sums = input(context, batches).map(|(_, n)| *n).reduce_by_window(
            move |a, b| {
                flaky.call();
                a + b
            },
            seconds(3),
        );
        Watched::of(&sums.expect("it fits").map(|n| (0, *n)))
    }),
    ("reduce_by_key_and_window", |context, batches, flaky| {
        let sums = input(context, batches).reduce_by_key_and_window(
            move |a, b| {
                flaky.call();
                a + b
            },
            seconds(3),
        );
        Watched::of(&sums.expect("it fits"))
    }),
    ("inverse", |context, batches, flaky| {
        Watched::of(&inverse(&input(context, batches), flaky, false))
    }),
    ("inverse with a filter", |context, batches, flaky| {
        Watched::of(&inverse(&input(context, batches), flaky, true))
    }),
    ("inverse of a map", |context, batches, flaky| {
        let mapped = flaky_map(&input(context, batches), flaky);
        Watched::of(&inverse(&mapped, Flaky::at(&[]), false))
    }),
    ("window of inverse windows", |context, batches, flaky| {
        let sums = inverse(&input(context, batches), flaky, true);
        Watched::of(&sums.window(seconds(3)).expect("it fits"))
    }),
    ("group_by_key_and_window", |context, batches, flaky| {
        let mapped = flaky_map(&input(context, batches), flaky);
        let groups = mapped.group_by_key_and_window(seconds(3)).expect("it fits");
        Watched::of(&groups.flat_map_values(|values| values.clone()))
    }),
    ("update_state_by_key", |context, batches, flaky| {
        let states =
            input(context, batches).update_state_by_key_from([(1, 4)], move |values, state| {
                flaky.call();
                update(values, state)
            });
        Watched::of(&states)
    }),
    ("update_state_by_key of a map", |context, batches, flaky| {
        let mapped = flaky_map(&input(context, batches), flaky);
        Watched::of(&mapped.update_state_by_key(update))
    }),
    ("window of states", |context, batches, flaky| {
        let states = input(context, batches).update_state_by_key(move |values, state| {
            flaky.call();
            update(values, state)
        });
        Watched::of(&states.window(seconds(3)).expect("it fits"))
    }),
    ("state of states", |context, batches, flaky| {
        let states = input(context, batches).update_state_by_key(move |values, state| {
            flaky.call();
            update(values, state)
        });
        Watched::of(&states.update_state_by_key(update))
    }),
    ("map_with_state", |context, batches, flaky| {
        Watched::of(&with_state(&input(context, batches), flaky))
    }),
    ("state_snapshots", |context, batches, flaky| {
        Watched::of(&with_state(&input(context, batches), flaky).state_snapshots())
    }),
    ("window of snapshots", |context, batches, flaky| {
        let snapshots = with_state(&input(context, batches), flaky).state_snapshots();
        Watched::of(&snapshots.window(seconds(2)).expect("it fits"))
    }),
    ("map_with_state of a map", |context, batches, flaky| {
        let mapped = flaky_map(&input(context, batches), flaky);
        let states = with_state(&mapped, Flaky::at(&[]));
        Watched::of(&states.window(seconds(2)).expect("it fits"))
    }),
    ("join of windows", |context, batches, flaky| {
        let stream = input(context, batches);
        let one = flaky_map(&stream, flaky.clone());
        let two = flaky_map(&stream, flaky);
        let one = one.window(seconds(2)).expect("it fits");
        let two = two.window(seconds(3)).expect("it fits");
        let joined = one.full_outer_join(&two).expect("one slide");
        Watched::of(&joined.map_values(|(a, b)| a.unwrap_or(50) * 100 + b.unwrap_or(50)))
    }),
    ("window of a join", |context, batches, flaky| {
        let stream = input(context, batches);
        let joined = flaky_map(&stream, flaky.clone()).left_outer_join(&flaky_map(&stream, flaky));
        let joined = joined.expect("one slide");
        let joined = joined.map_values(|(a, b)| a * 100 + b.unwrap_or(50));
        Watched::of(&joined.window(seconds(2)).expect("it fits"))
    }),
    ("transform", |context, batches, flaky| {
        let mapped = input(context, batches).transform(move |rdd, _| {
            flaky.call();
            rdd.clone()
        });
        Watched::of(&mapped.window(seconds(2)).expect("it fits"))
    }),
    ("transform before a state", |context, batches, flaky| {
        let mapped = input(context, batches).transform(move |rdd, _| {
            flaky.call();
            rdd.clone()
        });
        Watched::of(&mapped.update_state_by_key(update))
    }),
    ("transform_with and union", |context, batches, flaky| {
        let stream = input(context, batches);
        let again = flaky.clone();
        let both = stream.transform_with(&stream, move |one, two, _| {
            flaky.call();
            one.union(two)
        });
        let both = both.expect("one slide").union(&flaky_map(&stream, again));
        let both = both.expect("one slide");
        Watched::of(&both.window(seconds(2)).expect("it fits"))
    }),
];

type TextProgram = fn(DStream<LineRecords>, Flaky) -> Watched<(Vec<u8>, i64)>;

/// A line and its length, by a function that fails in the shards.
fn lengths(lines: &DStream<LineRecords>, flaky: Flaky) -> RddStream<(Vec<u8>, i64)> {
    lines.map_to(move |line| {
        flaky.call();
        (line.to_vec(), line.len() as i64)
    })
}

const TEXT_PROGRAMS: &[(&str, TextProgram)] = &[
    ("window of map_to", |lines, flaky| {
        Watched::of(&lengths(&lines, flaky).window(seconds(3)).expect("it fits"))
    }),
    ("state of map_to", |lines, flaky| {
        Watched::of(&lengths(&lines, flaky).update_state_by_key(update))
    }),
    ("window of a filter in the shards", |lines, flaky| {
        let wanted = lines.filter(move |line| {
            flaky.call();
            line.len() > 2
        });
        let lengths = lengths(&lines, Flaky::at(&[]));
        let both = lengths.union(&wanted.map_to(|line| (line.to_vec(), 0)));
        let both = both.expect("one slide").window(seconds(2));
        Watched::of(&both.expect("it fits"))
    }),
    ("window of map_partitions", |lines, flaky| {
        let counts = lines.map_partitions(move |lines| {
            flaky.call();
            lines
                .iter()
                .map(|line| (line.to_vec(), 1))
                .collect::<Vec<_>>()
        });
        Watched::of(&counts.window(seconds(3)).expect("it fits"))
    }),
    ("reduce_by_key_so_far", |lines, flaky| {
        let words = lines.flat_map(split(b' ')).map(|word| (word, 1i64));
        let counts = words.reduce_by_key(|a, b| a + b);
        Watched::of_tables(&counts.reduce_by_key_so_far(move |a, b| {
            flaky.call();
            a + b
        }))
    }),
    ("window of tables", |lines, flaky| {
        let words = lines.flat_map(split(b' ')).map(|word| (word, 1i64));
        let counts = words.reduce_by_key(|a, b| a + b);
        let window = counts.reduce_by_key_and_window(
            move |a, b| {
                flaky.call();
                a + b
            },
            seconds(7),
        );
        Watched::of_tables(&window.expect("it fits"))
    }),
];

/// Where several batches come and go with each slide.
const SLIDING_PROGRAMS: &[(&str, TextProgram)] = &[
    ("sliding window of tables", |lines, flaky| {
        let words = lines.flat_map(split(b' ')).map(|word| (word, 1i64));
        let counts = words.reduce_by_key(|a, b| a + b);
        let reduce = move |a, b| {
            flaky.call();
            a + b
        };
        let window = counts.reduce_by_key_and_window(reduce, (seconds(6), seconds(3)));
        Watched::of_tables(&window.expect("it fits"))
    }),
    (
        "sliding window of tables with an inverse",
        |lines, flaky| {
            let words = lines.flat_map(split(b' ')).map(|word| (word, 1i64));
            let counts = words.reduce_by_key(|a, b| a + b);
            let (reduced, inverted) = (flaky.clone(), flaky);
            let window = counts.reduce_by_key_and_window_with_inverse_and_filter(
                move |a, b| {
                    reduced.call();
                    a + b
                },
                move |a, b| {
                    inverted.call();
                    a - b
                },
                (seconds(4), seconds(2)),
                |_, count| count != 0,
            );
            Watched::of_tables(&window.expect("it fits"))
        },
    ),
];

/// What came out is what comes out where nothing fails, but for a batch a failure.
fn is_recovered<T: Ord + std::fmt::Debug>(
    name: &str,
    well: Seen<T>,
    seen: Seen<T>,
    failures: usize,
) -> Result<(), TestCaseError> {
    let (well, seen) = (sorted(well), sorted(seen));
    prop_assert!(
        seen.len() + failures >= well.len(),
        "{}: {:?} is too little of {:?}",
        name,
        seen,
        well
    );
    for (number, rows) in seen {
        let expected = well.iter().find(|(at, _)| *at == number);
        let expected = expected.map(|(_, rows)| rows);
        prop_assert_eq!(Some(&rows), expected, "{} in batch {}", name, number);
    }
    Ok(())
}

#[test]
fn sums_so_far_go_on_where_each_attempt_has_stopped() {
    let texts = vec!["a b c\n".to_owned(); 5];
    // In the second batch its second key fails, in the third what is then the second of those that
    // are left.
    let flaky = Flaky::at(&[1, 3]);
    let (watched, ran) = run(Dialect::Scala, texts.len(), |context| {
        let words = lines(context, &texts, 64).flat_map(split(b' '));
        let counts = words.count_by_value();
        let sums = counts.reduce_by_key_so_far(move |a, b| {
            flaky.call();
            a + b
        });
        Watched::of_tables(&sums)
    });
    let rows = |count: u64| {
        let words = [b"a", b"b", b"c"].into_iter();
        words.map(|word| (word.to_vec(), count)).collect::<Vec<_>>()
    };
    let expected = [(1, rows(1)), (4, rows(4)), (5, rows(5))];
    assert_eq!(watched.sorted(), expected);
    let error = ran.expect_err("failures are reported").to_string();
    assert_eq!(
        error,
        "batch 2000 ms failed: in reduce_by_key_so_far: call 1 fails"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_pane_of_several_batches_is_made_up_for(
        texts in texts(),
        fails_at in 0usize..20,
        which in 0..SLIDING_PROGRAMS.len(),
    ) {
        let (name, program) = SLIDING_PROGRAMS[which];
        let well = run_well(Dialect::Scala, texts.len(), |context| {
            program(lines(context, &texts, 64), Flaky::at(&[]))
        });
        let flaky = Flaky::at(&[fails_at]);
        let (watched, ran) = run(Dialect::Scala, texts.len(), |context| {
            program(lines(context, &texts, 64), flaky.clone())
        });
        prop_assert!(ran.is_ok() || flaky.failures() == 1, "{}", name);
        is_recovered(name, well.seen(), watched.seen(), usize::from(ran.is_err()))?;
    }

    #[test]
    fn whatever_needs_a_batch_that_failed_in_a_shard_gets_it_later(
        texts in texts(),
        piece_bytes in 1usize..20,
        fails_at in proptest::collection::btree_set(0usize..30, 0..=2),
        which in 0..TEXT_PROGRAMS.len(),
    ) {
        let (name, program) = TEXT_PROGRAMS[which];
        let fails_at: Vec<usize> = fails_at.into_iter().collect();
        let well = run_well(Dialect::Scala, texts.len(), |context| {
            program(lines(context, &texts, piece_bytes), Flaky::at(&[]))
        });
        let flaky = Flaky::at(&fails_at);
        let (watched, ran) = run(Dialect::Scala, texts.len(), |context| {
            program(lines(context, &texts, piece_bytes), flaky.clone())
        });
        let failures = flaky.failures();
        prop_assert_eq!(ran.is_err(), failures > 0, "{}", name);
        is_recovered(name, well.seen(), watched.seen(), failures)?;
    }

    /// Each failure costs the output of the batch in which it happens, at most, and changes nothing
    /// else.
    #[test]
    fn whatever_needs_a_batch_that_failed_gets_it_later(
        dialect in dialects(),
        batches in batches_with_gaps((0u8..4, -2i64..3)),
        fails_at in proptest::collection::btree_set(0usize..40, 0..=2),
        which in 0..PROGRAMS.len(),
    ) {
        let (name, program) = PROGRAMS[which];
        // Scala's transform and union want every batch. PySpark's filter is not asked where none
        // came, and once for several slides that are made up for.
        let batches: Batches<Pair> = match dialect {
            Dialect::PySpark if !name.contains("inverse") => batches,
            _ => batches.into_iter().map(|batch| Some(batch.unwrap_or_default())).collect(),
        };
        let fails_at: Vec<usize> = fails_at.into_iter().collect();
        let well = run_well(dialect, batches.len(), |context| program(context, &batches, Flaky::at(&[])));
        let flaky = Flaky::at(&fails_at);
        let (watched, ran) = run(dialect, batches.len(), |context| program(context, &batches, flaky.clone()));
        let failures = flaky.failures();
        // A failure between two windows is made up for before anybody notices.
        prop_assert!(ran.is_ok() || failures > 0, "{}", name);
        let failures = if ran.is_ok() { 0 } else { failures };
        is_recovered(name, well.seen(), watched.seen(), failures)?;
    }
}
