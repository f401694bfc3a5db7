//! Single cases: what is refused and in which words, what a missing batch does, what listeners are
//! told.

use std::sync::{Arc, Mutex};

use microtally::error::ErrorKind;
use microtally::stream::{
    BatchInfo, Dialect, OutputOperationInfo, Rdd, RddStream, Remembered, State, StateSpec,
    StreamingListener, Window,
};
use microtally::time::BatchTime;
use microtally::{Error, StreamingContext};

use crate::run::{Batches, Seen, Watched, input, run, run_well, seconds};

/// Three batches of one record, the second of which is not there.
fn one_missing() -> Batches<u8> {
    vec![Some(vec![1].into()), None, Some(vec![3].into())]
}

fn all_there() -> Batches<u8> {
    [10, 20, 30].map(|n| Some(Rdd::from(vec![n]))).into()
}

/// What comes out of a program, and the first error.
fn outcome(
    dialect: Dialect,
    batches: &Batches<u8>,
    program: impl FnOnce(&StreamingContext, RddStream<u8>) -> RddStream<u8>,
) -> (Seen<u8>, Option<String>) {
    let (watched, ran) = run(dialect, batches.len(), |context| {
        Watched::of(&program(context, input(context, batches)))
    });
    (watched.seen(), ran.err().map(|error| error.to_string()))
}

/// What a program is refused with while it is put together.
fn refusal<T>(
    dialect: Dialect,
    program: impl FnOnce(&StreamingContext, RddStream<u8>) -> Result<T, Error>,
) -> String {
    let context = StreamingContext::new(seconds(1)).expect("in range");
    context.set_dialect(dialect);
    let refused = program(&context, input(&context, &all_there())).map(drop);
    let refused = refused.expect_err("it is refused");
    assert_eq!(refused.kind(), ErrorKind::Config);
    refused.to_string()
}

/// What comes out where the second of three batches fails, and why it does.
fn second_fails(
    operator: &str,
    sentence: &str,
    first: u8,
    third: u8,
) -> (Seen<u8>, Option<String>) {
    let seen = vec![(1, vec![first]), (3, vec![third])];
    let error = format!("batch 2000 ms failed: in {operator}: {sentence} at time 2000 ms");
    (seen, Some(error))
}

#[test]
fn a_union_in_python_takes_a_missing_batch_for_an_empty_one() {
    let united = |dialect| {
        outcome(dialect, &one_missing(), |context, stream| {
            stream
                .union(&input(context, &all_there()))
                .expect("one slide")
        })
    };
    let python = vec![(1, vec![1, 10]), (2, vec![20]), (3, vec![3, 30])];
    assert_eq!(united(Dialect::PySpark), (python, None));
    let (seen, error) = united(Dialect::Scala);
    assert_eq!(seen, [(1, vec![1, 10]), (3, vec![3, 30])]);
    let sentence = "Could not generate RDD from a parent for unifying at time 2000 ms";
    assert_eq!(
        error,
        Some(format!("batch 2000 ms failed: in union: {sentence}"))
    );
    // The context's own is Scala's in both.
    let of_context = outcome(Dialect::PySpark, &one_missing(), |context, stream| {
        context
            .union(&[stream, input(context, &all_there())])
            .expect("one slide")
    });
    assert_eq!(of_context, (seen, error));
}

#[test]
fn streams_of_different_slides_are_not_united() {
    let united = |dialect| {
        refusal(dialect, |_, stream| {
            let slow = stream.window((seconds(2), seconds(2)))?;
            stream.union(&slow).map(drop)
        })
    };
    let scala = "requirement failed: Some of the DStreams have different slide durations";
    assert_eq!(united(Dialect::Scala), scala);
    assert_eq!(
        united(Dialect::PySpark),
        "the two DStream should have same slide duration"
    );
    let of_context = |dialect| {
        refusal(dialect, |context, stream| {
            let slow = stream.window((seconds(2), seconds(2)))?;
            context.union(&[stream, slow]).map(drop)
        })
    };
    assert_eq!(of_context(Dialect::Scala), scala);
    assert_eq!(
        of_context(Dialect::PySpark),
        "All DStreams should have same slide duration"
    );
    let nothing = |dialect| refusal(dialect, |context, _| context.union::<u8>(&[]).map(drop));
    assert_eq!(
        nothing(Dialect::Scala),
        "requirement failed: List of DStreams to union is empty"
    );
    assert_eq!(
        nothing(Dialect::PySpark),
        "should have at least one DStream to union"
    );
}

#[test]
fn only_two_streams_of_python_may_lack_a_batch() {
    let sentence = "Couldn't generate RDD from parent";
    let all = |rdd: &Rdd<u8>| -> u8 { rdd.iter().sum() };
    // Both streams lack the second batch.
    let with = |dialect| {
        outcome(dialect, &one_missing(), |context, stream| {
            let other = input(context, &one_missing());
            let sums = stream.transform_with(&other, move |a, b, _| vec![all(a) + all(b)].into());
            sums.expect("one slide")
        })
    };
    assert_eq!(
        with(Dialect::PySpark),
        (vec![(1, vec![2]), (2, vec![0]), (3, vec![6])], None)
    );
    assert_eq!(
        with(Dialect::Scala),
        second_fails("transform_with", sentence, 2, 6)
    );
    for dialect in [Dialect::Scala, Dialect::PySpark] {
        let of_context = outcome(dialect, &one_missing(), |context, stream| {
            let streams = [stream, input(context, &all_there())];
            let sums = context.transform(&streams, move |rdds, _| {
                rdds.iter().map(all).rev().take(1).collect()
            });
            sums.expect("one slide")
        });
        assert_eq!(of_context, second_fails("transform", sentence, 10, 30));
    }
}

#[test]
fn one_stream_is_transformed_where_it_has_a_batch() {
    let same = |dialect| {
        outcome(dialect, &one_missing(), |_, stream| {
            stream.transform(|rdd, _| rdd.clone())
        })
    };
    assert_eq!(
        same(Dialect::PySpark),
        (vec![(1, vec![1]), (3, vec![3])], None)
    );
    assert_eq!(
        same(Dialect::Scala),
        second_fails("transform", "Couldn't generate RDD from parent", 1, 3)
    );
    let none = |dialect| {
        outcome(dialect, &all_there(), |_, stream| {
            stream.transform_some(|rdd, time| (time.as_millis() != 2000).then(|| rdd.clone()))
        })
    };
    let (seen, error) = none(Dialect::Scala);
    assert_eq!(seen, [(1, vec![10]), (3, vec![30])]);
    let sentence = "Transform function must not return null. Return SparkContext.emptyRDD() instead to \
                    represent no element as the result of transformation.";
    assert_eq!(
        error,
        Some(format!("batch 2000 ms failed: in transform: {sentence}"))
    );
    assert_eq!(none(Dialect::PySpark), (seen, None));
    let nothing = refusal(Dialect::Scala, |context, _| {
        context
            .transform(&[], |_: &[Rdd<u8>], _| Rdd::<u8>::empty())
            .map(drop)
    });
    assert_eq!(
        nothing,
        "requirement failed: List of DStreams to transform is empty"
    );
}

/// Of the operators of one stream, Scala builds these of `transform`, and nothing else minds.
#[test]
fn count_and_repartition_mind_a_missing_batch_in_scala() {
    let sentence = "Couldn't generate RDD from parent";
    let repartitioned =
        |dialect| outcome(dialect, &one_missing(), |_, stream| stream.repartition(2));
    assert_eq!(
        repartitioned(Dialect::Scala),
        second_fails("repartition", sentence, 1, 3)
    );
    assert_eq!(
        repartitioned(Dialect::PySpark),
        (vec![(1, vec![1]), (3, vec![3])], None)
    );
    let counted = |dialect| {
        outcome(dialect, &one_missing(), |_, stream| {
            stream.count().map(|count| *count as u8)
        })
    };
    assert_eq!(
        counted(Dialect::Scala),
        second_fails("count", sentence, 1, 1)
    );
    assert_eq!(
        counted(Dialect::PySpark),
        (vec![(1, vec![1]), (3, vec![1])], None)
    );
    for dialect in [Dialect::Scala, Dialect::PySpark] {
        let others = outcome(dialect, &one_missing(), |_, stream| {
            let pairs = stream
                .glom()
                .flat_map(|part| part.to_vec())
                .map(|n| (*n, 1u8));
            pairs
                .group_by_key()
                .flat_map_values(|ones| ones.clone())
                .reduce_by_key(|a, b| a + b)
                .map(|(n, _)| *n)
        });
        assert_eq!(others, (vec![(1, vec![1]), (3, vec![3])], None));
    }
}

/// A key at zero is seen as long as PySpark does not ask the filter, which it does where a batch
/// comes.
#[test]
fn a_filter_that_was_not_asked_is_asked_at_the_next_batch() {
    let mut batches: Batches<u8> = vec![None; 7];
    batches[0] = Some(vec![1, 1].into());
    // The window has no batch of records any more when this one comes, without records.
    batches[6] = Some(Rdd::empty());
    let counts = |dialect| {
        outcome(dialect, &batches, |_, stream| {
            let ones = stream.map(|n| (*n, 1u8));
            let sums = ones.reduce_by_key_and_window_with_inverse_and_filter(
                |a, b| a + b,
                |a, b| a - b,
                seconds(5),
                |_, sum| *sum != 0,
            );
            sums.expect("it fits").map(|(_, sum)| *sum)
        })
    };
    let within = || (1..=5).map(|number| (number, vec![2]));
    let python: Seen<u8> = within().chain([(6, vec![0]), (7, vec![])]).collect();
    assert_eq!(counts(Dialect::PySpark), (python, None));
    let scala: Seen<u8> = within().chain([(6, vec![]), (7, vec![])]).collect();
    assert_eq!(counts(Dialect::Scala), (scala, None));
}

#[test]
fn a_slice_begins_with_the_batch_at_or_before_its_begin() {
    let (remembered, slow) = run_well(Dialect::PySpark, 3, |context| {
        context.remember(seconds(60)).expect("said once");
        let stream = input(context, &all_there());
        stream.for_each_batch(|_, _| ());
        let slow = stream.window((seconds(1), seconds(2))).expect("it fits");
        (stream.remembered(), slow.remembered())
    });
    let slice = |begin_ms, end_ms| {
        let time = BatchTime::from_millis;
        let batches = remembered
            .slice(time(begin_ms), time(end_ms))
            .expect("nothing fails");
        batches
            .iter()
            .flat_map(|(_, rdd)| rdd.to_vec())
            .collect::<Vec<u8>>()
    };
    assert_eq!(slice(1000, 2000), [10, 20]);
    assert_eq!(slice(1500, 2500), [10, 20]);
    assert_eq!(slice(1999, 1999), [10]);
    assert_eq!(slice(2001, 3000), [20, 30]);
    assert!(slice(0, 999).is_empty());
    assert_eq!(slice(3999, 9000), [30]);
    assert!(slice(2000, 1000).is_empty());
    let (begin, end) = (BatchTime::from_millis(3000), BatchTime::from_millis(3500));
    let slow = slow.slice(begin, end).expect("nothing fails");
    assert_eq!(
        slow.iter()
            .map(|(time, _)| time.as_millis())
            .collect::<Vec<_>>(),
        [2000]
    );
}

#[test]
fn an_exhausted_queue_gives_a_partition_without_records() {
    let batches = |default: Option<Rdd<u8>>, one_at_a_time| {
        run_well(Dialect::PySpark, 3, |context| {
            let queue = [vec![1], vec![2]].into_iter().collect();
            let stream = context.queue_stream(&queue, one_at_a_time, default);
            (
                Watched::of(&stream),
                Watched::of(&stream.count()),
                Watched::of(&stream.glom().map(|part| part.len())),
            )
        })
    };
    let (records, counts, lens) = batches(None, true);
    assert_eq!(records.seen(), [(1, vec![1]), (2, vec![2]), (3, vec![])]);
    assert_eq!(counts.seen(), [(1, vec![1]), (2, vec![1]), (3, vec![0])]);
    assert_eq!(lens.seen(), [(1, vec![1]), (2, vec![1]), (3, vec![0])]);
    let (records, counts, lens) = batches(Some(Rdd::empty()), false);
    assert_eq!(records.seen(), [(1, vec![1, 2]), (2, vec![]), (3, vec![])]);
    assert_eq!(
        counts.seen(),
        [(1, vec![2]), (2, vec![]), (3, vec![])],
        "Python counts no partition"
    );
    assert_eq!(lens.seen(), [(1, vec![1, 1]), (2, vec![]), (3, vec![])]);
    let (records, counts, _) = batches(Some(vec![7, 8].into()), true);
    assert_eq!(records.seen()[2], (3, vec![7, 8]));
    assert_eq!(counts.seen()[2], (3, vec![2]));
}

#[test]
fn states_begin_with_the_first_batch_that_is_there() {
    let batches: Batches<u8> = vec![None, Some(vec![1].into()), None];
    let sums = |dialect, initial: &[(u8, u8)]| {
        let initial = initial.to_vec();
        outcome(dialect, &batches, |_, stream| {
            let states = stream.map(|n| (*n, 1)).update_state_by_key_from(
                initial,
                |new, state: Option<u8>| {
                    // One more where nothing came, to see who was asked.
                    Some(state.unwrap_or(0) + new.iter().sum::<u8>() + u8::from(new.is_empty()))
                },
            );
            states.map(|(key, state)| 10 * key + state)
        })
    };
    assert_eq!(
        sums(Dialect::Scala, &[]),
        (vec![(2, vec![11]), (3, vec![12])], None)
    );
    assert_eq!(
        sums(Dialect::PySpark, &[]),
        (vec![(2, vec![11]), (3, vec![11])], None)
    );
    // Of two states of a key the first one counts.
    let initial = [(1, 3), (2, 5), (1, 8)];
    assert_eq!(
        sums(Dialect::Scala, &initial),
        (vec![(2, vec![14, 26]), (3, vec![15, 27])], None)
    );
    assert_eq!(
        sums(Dialect::PySpark, &initial),
        (vec![(2, vec![14, 26]), (3, vec![14, 26])], None)
    );
}

#[test]
fn windows_that_do_not_fit_are_refused_in_spark_s_words() {
    type Ask = fn(RddStream<u8>, Window) -> Result<(), Error>;
    let windowed: [Ask; 3] = [
        |stream, window| stream.window(window).map(drop),
        |stream, window| stream.reduce_by_window(u8::max, window).map(drop),
        |stream, window| {
            stream
                .map(|n| (*n, 1u8))
                .reduce_by_key_and_window(u8::max, window)
                .map(drop)
        },
    ];
    let reduced: [Ask; 4] = [
        |stream, window| stream.count_by_window(window).map(drop),
        |stream, window| stream.count_by_value_and_window(window).map(drop),
        |stream, window| {
            stream
                .reduce_by_window_with_inverse(u8::max, u8::min, window)
                .map(drop)
        },
        |stream, window| {
            let pairs = stream.map(|n| (*n, 1u8));
            pairs
                .reduce_by_key_and_window_with_inverse(u8::max, u8::min, window)
                .map(drop)
        },
    ];
    let ms = std::time::Duration::from_millis;
    let (whole, torn) = (ms(2000), ms(1005));
    let cases = [
        ("window", (torn, whole)),
        ("slide", (whole, torn)),
        ("window", (torn, torn)),
    ];
    for (what, window) in cases {
        for (index, ask) in windowed.iter().chain(&reduced).enumerate() {
            let refused = |dialect| refusal(dialect, |_, stream| ask(stream, window.into()));
            let scala = match index < windowed.len() {
                true => format!(
                    "The {what} duration of windowed DStream (1005 ms) must be a multiple of the slide \
                     duration of parent DStream (1000 ms)"
                ),
                false => format!(
                    "requirement failed: The {what} duration of ReducedWindowedDStream (1005 ms) must be \
                     multiple of the slide duration of parent DStream (1000 ms)"
                ),
            };
            assert_eq!(refused(Dialect::Scala), scala);
            let python = format!(
                "{what}Duration must be multiple of the parent dstream's slide (batch) duration (1000 ms)"
            );
            assert_eq!(refused(Dialect::PySpark), python);
        }
    }
    // It is the parent's slide that counts, not the batch interval.
    let of_slow = refusal(Dialect::Scala, |_, stream| {
        stream
            .window((seconds(2), seconds(2)))?
            .window(seconds(3))
            .map(drop)
    });
    assert!(of_slow.ends_with(
        "(3000 ms) must be a multiple of the slide duration of parent DStream (2000 ms)"
    ));
}

#[test]
fn a_context_refuses_in_spark_s_words() {
    let context = StreamingContext::new(seconds(1)).expect("in range");
    context.remember(seconds(3)).expect("said once");
    let again = context
        .remember(seconds(4))
        .expect_err("said before")
        .to_string();
    let sentence = "Remember duration already set as 3000 ms. Cannot set it again.";
    assert_eq!(again, format!("requirement failed: {sentence}"));
    let nothing = context.start().map(drop).expect_err("there is no output");
    assert_eq!(nothing.kind(), ErrorKind::NoOutput);
    let sentence = "no output operations registered, so nothing to execute";
    assert_eq!(nothing.to_string(), sentence);
}

/// Sums are zero though values are there, so the filter drops a key that will still leave.
#[test]
fn a_key_that_leaves_and_is_not_there_is_an_error_in_scala() {
    let batches: Batches<i8> = vec![
        Some(vec![1, -1].into()),
        Some(Rdd::empty()),
        Some(Rdd::empty()),
        Some(vec![5].into()),
        Some(Rdd::empty()),
    ];
    let sums = |dialect, length| {
        let (watched, ran) = run(dialect, batches.len(), |context| {
            let pairs = input(context, &batches).map(|n| ((), *n));
            let sums = pairs.reduce_by_key_and_window_with_inverse_and_filter(
                |a, b| a + b,
                |a, b| a - b,
                seconds(length),
                |(), sum| *sum != 0,
            );
            Watched::of(&sums.expect("it fits").map(|((), sum)| *sum))
        });
        (watched.seen(), ran.err().map(|error| error.to_string()))
    };
    let (seen, error) = sums(Dialect::Scala, 2);
    assert_eq!(seen, [(1, vec![]), (2, vec![]), (4, vec![5]), (5, vec![5])]);
    let sentence = "Neither previous window has value for key, nor new values found. Are you sure your key \
                    class hashes consistently?";
    assert_eq!(
        error,
        Some(format!(
            "batch 3000 ms failed: in reduce_by_key_and_window_with_inverse: {sentence}"
        ))
    );
    // It comes again in the batch with which it leaves.
    let (seen, error) = sums(Dialect::Scala, 3);
    assert_eq!(
        seen,
        [
            (1, vec![]),
            (2, vec![]),
            (3, vec![]),
            (4, vec![5]),
            (5, vec![5])
        ]
    );
    assert_eq!(error, None);
    assert_eq!(sums(Dialect::PySpark, 2).1, None);
}

#[test]
fn floats_drift_only_where_they_are_taken_off_again() {
    let batches: Batches<f64> = [1e16, 1.0, 1.0, 1.0]
        .map(|n| Some(Rdd::from(vec![n])))
        .into();
    let (with_inverse, anew) = run_well(Dialect::Scala, 4, |context| {
        let stream = input(context, &batches);
        let with = stream.reduce_by_window_with_inverse(|a, b| a + b, |a, b| a - b, seconds(2));
        let anew = stream.reduce_by_window(|a, b| a + b, seconds(2));
        (
            Watched::of(&with.expect("it fits")),
            Watched::of(&anew.expect("it fits")),
        )
    });
    let sums = [1e16, 1e16, 1.0, 1.0].map(|sum| vec![sum]);
    assert!(
        with_inverse.seen().iter().map(|(_, sum)| sum).eq(&sums),
        "two ones are one"
    );
    assert_eq!(anew.seen()[3], (4, vec![2.0]));
}

#[test]
fn a_state_says_what_cannot_be_done_with_it() {
    const REMOVED: &str = "requirement failed: Cannot update the state after it has been removed";
    const REMOVED_TWICE: &str =
        "requirement failed: Cannot remove the state that has already been removed";
    const UPDATED_LATE: &str = "requirement failed: Cannot update the state that is timing out";
    const REMOVED_LATE: &str = "requirement failed: Cannot remove the state that is timing out";
    type Use = fn(&mut State<u8>);
    let uses: [(Use, &str); 6] = [
        (|state| assert_eq!(*state.get(), 1), "State is not set"),
        (
            |state| {
                state.remove();
                state.update(1);
            },
            REMOVED,
        ),
        (
            |state| {
                state.remove();
                state.remove();
            },
            REMOVED_TWICE,
        ),
        (
            |state| {
                state.update(1);
                state.remove();
                assert_eq!(*state.get(), 1);
            },
            "State is not set",
        ),
        (|state| state.update(1), UPDATED_LATE),
        (
            |state| {
                if state.is_timing_out() {
                    state.remove()
                } else {
                    state.update(1)
                }
            },
            REMOVED_LATE,
        ),
    ];
    let batches: Batches<u8> = vec![Some(vec![1].into()), None, None];
    for (index, (usage, sentence)) in uses.into_iter().enumerate() {
        let (_, error) = outcome(Dialect::Scala, &batches, |_, stream| {
            let spec =
                StateSpec::function(move |_, _: &u8, _: Option<&u8>, state: &mut State<u8>| {
                    usage(state);
                    None::<u8>
                });
            let states = stream
                .map(|n| (*n, 1))
                .map_with_state(spec.timeout(seconds(1)));
            (*states).clone()
        });
        let time_ms = if index < 4 { 1000 } else { 3000 };
        assert_eq!(
            error,
            Some(format!(
                "batch {time_ms} ms failed: in map_with_state: {sentence}"
            ))
        );
    }
}

#[test]
fn a_state_that_is_read_and_not_updated_exists_all_the_same() {
    let (seen, error) = outcome(Dialect::Scala, &all_there(), |_, stream| {
        let spec = StateSpec::function(|_, _: &u8, new: Option<&u8>, state: &mut State<u8>| {
            let (new, exists) = (*new?, state.exists());
            match new {
                10 => state.update(new),
                20 => {}
                _ => state.remove(),
            }
            // Before and behind what was done.
            Some(
                100 * u8::from(exists)
                    + 10 * u8::from(state.exists())
                    + state.get_option().map_or(0, |n| n / 10),
            )
        });
        (*stream.map(|n| (0, *n)).map_with_state(spec)).clone()
    });
    assert_eq!(
        (seen, error),
        (vec![(1, vec![11]), (2, vec![111]), (3, vec![100])], None)
    );
}

/// What a listener is told, as lines.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn say(&self, what: &str, batch: &BatchInfo) {
        let outputs = batch.output_operation_infos.len();
        self.note(format!(
            "{what} {} {} {outputs}",
            batch.batch_time.as_millis(),
            batch.num_records()
        ));
    }

    fn note(&self, line: String) {
        self.0.lock().expect("no panic").push(line);
    }
}

impl StreamingListener for Heard {
    fn on_batch_submitted(&mut self, batch: &BatchInfo) {
        assert_eq!(
            (batch.scheduling_delay(), batch.processing_delay()),
            (None, None)
        );
        self.say("submitted", batch);
    }

    fn on_batch_started(&mut self, batch: &BatchInfo) {
        assert!(batch.scheduling_delay().is_some() && batch.total_delay().is_none());
        self.say("started", batch);
    }

    fn on_batch_completed(&mut self, batch: &BatchInfo) {
        let both = batch.scheduling_delay().zip(batch.processing_delay());
        assert_eq!(batch.total_delay(), both.map(|(one, other)| one + other));
        self.say("completed", batch);
    }

    fn on_output_operation_started(&mut self, output: &OutputOperationInfo) {
        assert_eq!((output.duration(), &output.failure_reason), (None, &None));
        self.note(format!("output {} {} started", output.id, output.name));
    }

    fn on_output_operation_completed(&mut self, output: &OutputOperationInfo) {
        assert!(output.duration().is_some());
        let reason = output.failure_reason.as_deref().unwrap_or("well");
        self.note(format!("output {} {reason}", output.id));
    }
}

/// As in StreamingListenerSuite: an output that fails says why, the others of its batch run; a
/// batch without any output is not told of.
#[test]
fn listeners_hear_of_every_batch_and_output_in_order() {
    let heard = Heard::default();
    let (_, ran) = run(Dialect::Scala, 3, |context| {
        context.add_streaming_listener(heard.clone());
        let stream = input(context, &one_missing());
        stream.for_each_batch(|_, time| assert!(time.as_millis() != 3000, "the third is too much"));
        let slow = stream.window((seconds(3), seconds(3))).expect("it fits");
        slow.map(|n| *n).for_each_batch(|_, _| ());
        let failing = stream.map(|n| 10 / (*n - 1));
        failing.for_each_batch(|_, _| ());
    });
    assert!(ran.is_err());
    let heard = heard.0.lock().expect("no panic").clone();
    let expected = [
        "submitted 1000 1 0",
        "started 1000 1 0",
        "output 0 for_each_batch started",
        "output 0 well",
        "output 2 for_each_batch started",
        "output 2 attempt to divide by zero",
        "completed 1000 1 2",
        "submitted 3000 1 0",
        "started 3000 1 0",
        "output 0 for_each_batch started",
        "output 0 the third is too much",
        "output 1 for_each_batch started",
        "output 1 well",
        "output 2 for_each_batch started",
        "output 2 well",
        "completed 3000 1 3",
    ];
    assert_eq!(heard, expected);
}

/// As Scala's tests of windows that tumble, that overlap and that leave batches out.
#[test]
fn the_first_windows_hold_what_there_is() {
    let batches: Batches<u8> = (1..=6).map(|n| Some(vec![n].into())).collect();
    let windows = |length, slide| {
        let (seen, error) = outcome(Dialect::Scala, &batches, |_, stream| {
            stream
                .window((seconds(length), seconds(slide)))
                .expect("it fits")
        });
        assert_eq!(error, None);
        seen
    };
    assert_eq!(
        windows(2, 2),
        [(2, vec![1, 2]), (4, vec![3, 4]), (6, vec![5, 6])]
    );
    assert_eq!(
        windows(4, 2),
        [
            (2, vec![1, 2]),
            (4, vec![1, 2, 3, 4]),
            (6, vec![3, 4, 5, 6])
        ]
    );
    assert_eq!(
        windows(3, 2),
        [(2, vec![1, 2]), (4, vec![2, 3, 4]), (6, vec![4, 5, 6])]
    );
    assert_eq!(windows(1, 3), [(3, vec![3]), (6, vec![6])]);
    assert_eq!(windows(9, 5), [(5, vec![1, 2, 3, 4, 5])]);
}

/// PySpark's joins take streams of different slides: the result has the first one's.
#[test]
fn streams_of_different_slides_join_in_python_only() {
    let joined = outcome(Dialect::PySpark, &all_there(), |_, stream| {
        let slow = stream
            .window((seconds(2), seconds(2)))
            .expect("it fits")
            .map(|n| (0u8, *n));
        let fast = stream.map(|n| (0u8, *n));
        let joined = fast.left_outer_join(&slow).expect("it may");
        joined.map(|(_, (fast, slow))| fast + slow.unwrap_or(0))
    });
    assert_eq!(
        joined,
        (vec![(1, vec![10]), (2, vec![30, 40]), (3, vec![30])], None)
    );
    let refused = refusal(Dialect::Scala, |_, stream| {
        let slow = stream.window((seconds(2), seconds(2)))?.map(|n| (0u8, *n));
        stream.map(|n| (0u8, *n)).join(&slow).map(drop)
    });
    assert_eq!(
        refused,
        "requirement failed: Some of the DStreams have different slide durations"
    );
}

/// As Scala's "rdd cleanup - map and window": every stream remembers what those behind it look back
/// to.
#[test]
fn a_window_s_parent_remembers_its_length_more() {
    let batches: Batches<u8> = (1..=10).map(|n| Some(vec![n].into())).collect();
    let (mapped, inner, outer) = run_well(Dialect::Scala, 10, |context| {
        context.remember(seconds(3)).expect("said once");
        let mapped = input(context, &batches).map(|n| (n % 10, 1));
        let inner = mapped.window((seconds(2), seconds(1))).expect("it fits");
        let outer = inner.window((seconds(4), seconds(2))).expect("it fits");
        outer.for_each_batch(|_, _| ());
        (mapped.remembered(), inner.remembered(), outer.remembered())
    });
    let times = |remembered: &Remembered<(u8, i32)>| {
        let all = remembered.slice(BatchTime::from_millis(0), BatchTime::from_millis(20_000));
        let times = all.expect("nothing fails").into_iter();
        times
            .map(|(time, _)| time.as_millis() / 1000)
            .collect::<Vec<_>>()
    };
    assert_eq!(times(&outer), [8, 10]);
    assert_eq!(times(&inner), (4..=10).collect::<Vec<_>>());
    assert_eq!(times(&mapped), (2..=10).collect::<Vec<_>>());
}
