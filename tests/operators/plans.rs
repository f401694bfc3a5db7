//! What programs are made of: names, explanations, messages.

use std::collections::BTreeSet;
use std::io::{self, Cursor, Write};
use std::sync::{Arc, Mutex};

use microtally::error::ErrorKind;
use microtally::sources::Lines;
use microtally::stream::{DStream, Explanation, LineRecords, Plane, RddStream, Reduced};
use microtally::time::Clock;
use microtally::{Config, Stop, StreamingContext};
use proptest::prelude::*;

use crate::run::seconds;

/// One call of a random program.
#[derive(Clone, Debug)]
struct Call {
    operator: u8,
    /// Which streams it is called on: of those that exist, by number modulo.
    on: (usize, usize),
    name: Option<usize>,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let streams = (any::<usize>(), any::<usize>());
    let call = (
        0u8..18,
        streams,
        proptest::option::weighted(0.3, 0usize..1000),
    );
    let call = call.prop_map(|(operator, on, name)| Call { operator, on, name });
    proptest::collection::vec(call, 0..40)
}

/// The streams of a random program, by kind.
struct Streams {
    bytes: Vec<DStream<LineRecords>>,
    tables: Vec<Reduced<u64>>,
    records: Vec<RddStream<u64>>,
}

/// A context with a random program. Names are not given twice.
fn build(calls: &[Call]) -> StreamingContext {
    let ssc = StreamingContext::new(seconds(1)).expect("in range");
    let lines = ssc.source_stream(Lines::of("a\nb\na\n"));
    let mut streams = Streams {
        tables: vec![lines.count_by_value()],
        records: vec![ssc.batch_stream(|_| Some(vec![1].into()))],
        bytes: vec![lines],
    };
    let mut given = BTreeSet::new();
    for call in calls {
        // Also names that are derived ones.
        let name = call.name.map(|name| match name % 4 {
            0 => format!("map-{}", name % 7),
            1 => "count".to_owned(),
            _ => format!("stream {name}"),
        });
        let name = name.filter(|name| given.insert(name.clone()));
        streams.call(&ssc, call, name);
    }
    ssc
}

impl Streams {
    fn call(&mut self, ssc: &StreamingContext, call: &Call, name: Option<String>) {
        let bytes = &self.bytes[call.on.0 % self.bytes.len()];
        let table = &self.tables[call.on.0 % self.tables.len()];
        let records = &self.records[call.on.0 % self.records.len()];
        let other = &self.records[call.on.1 % self.records.len()];
        let (add, subtract) = (|a, b| a + b, |a, b| a - b);
        let (mut new_bytes, mut new_table, mut new_records) = (None, None, None);
        match call.operator {
            0 => new_bytes = Some(ssc.source_stream(Lines::of("c"))),
            1 => new_table = Some(bytes.filter(|_| true).split(b' ').count_by_value()),
            2 => new_table = Some(bytes.map(|line| (line, 1)).reduce_by_key(add)),
            3 => new_table = bytes.count_by_value_and_window(seconds(2)).ok(),
            4 => new_table = Some(bytes.map_key(|_, _| Some(())).count_by_key()),
            5 => new_table = Some(table.reduce_by_key_so_far(add)),
            6 => {
                new_table = table
                    .reduce_by_key_and_window(add, (seconds(4), seconds(2)))
                    .ok()
            }
            7 => new_records = Some(bytes.count()),
            8 => new_records = Some(bytes.map_to(|line| line.len() as u64)),
            9 => new_records = Some(table.pairs().map(|pair| pair.1)),
            10 => new_records = Some(records.map(|n| n + 1)),
            11 => new_records = records.union(other).ok(),
            12 => new_records = records.window(seconds(4)).ok(),
            13 => {
                let window = (seconds(4), seconds(4));
                new_records = records
                    .reduce_by_window_with_inverse(add, subtract, window)
                    .ok();
            }
            14 => {
                let pairs = records.map(|n| (*n, 1u64));
                let states = pairs.update_state_by_key(|new, _: Option<u64>| new.first().copied());
                new_records = Some(states.map(|state| state.1));
            }
            15 => table.for_each_batch(|_, _| ()),
            16 => records.for_each_batch(|_, _| ()),
            _ => table.pprint(3),
        }
        macro_rules! add {
            ($made:ident, $to:ident) => {
                if let Some(made) = $made {
                    self.$to.push(match &name {
                        Some(name) => made.named(name),
                        None => made,
                    });
                }
            };
        }
        add!(new_bytes, bytes);
        add!(new_table, tables);
        add!(new_records, records);
    }
}

fn explained(calls: &[Call]) -> Explanation {
    build(calls).explain().expect("no name was given twice")
}

proptest! {
    #[test]
    fn any_program_is_explained_the_same_each_time_and_names_are_unique(calls in calls()) {
        let explanation = explained(&calls);
        let again = explained(&calls);
        prop_assert_eq!(&explanation, &again);
        prop_assert_eq!(explanation.to_json(), again.to_json());

        let mut earlier = BTreeSet::new();
        for node in explanation.nodes() {
            prop_assert!(node.parents.iter().all(|parent| earlier.contains(parent)));
            prop_assert!(earlier.insert(node.name.clone()), "{} is not unique", node.name);
            prop_assert!(!node.is_output || (node.is_used && node.plane == Plane::Batch));
            let is_fed = !node.parents.is_empty() || node.plane == Plane::Record;
            prop_assert!(is_fed || node.kind == "batch_stream");
        }
        // What is used is what outputs are made of, and nothing else.
        let mut used = BTreeSet::new();
        for node in explanation.nodes().iter().rev() {
            prop_assert_eq!(node.is_used, node.is_output || used.contains(&node.name));
            if node.is_used {
                used.extend(node.parents.iter().cloned());
            }
        }

        let text = explanation.to_string();
        prop_assert_eq!(text.lines().count(), explanation.nodes().len());
        let json: serde_json::Value = serde_json::from_str(&explanation.to_json()).expect("JSON");
        let nodes = json["nodes"].as_array().expect("an array");
        for ((node, line), json) in explanation.nodes().iter().zip(text.lines()).zip(nodes) {
            prop_assert!(line.starts_with(&*node.name), "{}", line);
            prop_assert_eq!(&json["name"], &*node.name);
            prop_assert_eq!(json["parents"].as_array().map(Vec::len), Some(node.parents.len()));
        }
    }

    #[test]
    fn a_call_more_at_the_end_changes_no_derived_name(mut calls in calls(), last in calls()) {
        calls.iter_mut().for_each(|call| call.name = None);
        let before = explained(&calls);
        calls.extend(last.into_iter().map(|call| Call { name: None, ..call }));
        let after = explained(&calls);
        for (before, after) in before.nodes().iter().zip(after.nodes()) {
            prop_assert_eq!(&before.name, &after.name);
        }
    }
}

#[test]
fn names_that_do_not_fit_are_refused_when_the_program_starts() {
    for (names, why) in [
        (["sums", "sums"], "two streams have the name \"sums\""),
        (["sums", ""], "name \"\" of a stream is empty"),
        (["a\nb", "c"], "cannot be printed"),
        (["\u{1b}[2J", "c"], "cannot be printed"),
    ] {
        let ssc = StreamingContext::one_batch(Config::default()).expect("valid");
        let counts = ssc
            .source_stream(Lines::of("a"))
            .named(names[0])
            .count_by_value();
        counts.named(names[1]).for_each_batch(|_, _| ());
        let explained = ssc.explain().map(drop);
        for refused in [explained, ssc.start().map(drop)] {
            let error = refused.expect_err("it is refused");
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}

#[test]
fn the_message_of_a_failed_batch_has_the_name_of_the_stream_or_output() {
    let ssc = StreamingContext::one_batch(Config::default()).expect("valid");
    let lines = ssc.source_stream(Lines::of("a"));
    let lengths = lines.map_to(|line| line.len()).map(|n| n + 1);
    let fails = lengths
        .map(|_| -> usize { panic!("no") })
        .named("lengths of lines");
    fails.for_each_batch(|_, _| ());
    let error = ssc
        .start()
        .expect("it starts")
        .await_termination()
        .expect_err("it fails");
    let message = error.to_string();
    assert!(
        message.ends_with("failed: in lengths of lines: no"),
        "{message}"
    );

    let ssc = StreamingContext::one_batch(Config::default()).expect("valid");
    let counts = ssc.source_stream(Lines::of("a")).count_by_value();
    counts.for_each_batch(|_, _| ());
    counts.for_each_batch(|_, _| panic!("no"));
    let error = ssc
        .start()
        .expect("it starts")
        .await_termination()
        .expect_err("it fails");
    let message = error.to_string();
    assert!(
        message.ends_with("failed: in for_each_batch-2: no"),
        "{message}"
    );
}

/// What was written, once all of it was.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().expect("no panic").clone()
    }
}

/// Sums of the numbers so far, in batches of one a second; sums are put into `seen`.
fn sums(seen: &Arc<Mutex<Vec<u64>>>) -> StreamingContext {
    let ssc = StreamingContext::new(seconds(1)).expect("in range");
    let numbers = ssc.batch_stream(|_| Some(vec![((), 1u64)].into()));
    let sums = numbers.update_state_by_key(|new, sum: Option<u64>| {
        Some(sum.unwrap_or_default() + new.iter().sum::<u64>())
    });
    let seen = Arc::clone(seen);
    sums.for_each_batch(move |rdd, _| {
        seen.lock()
            .expect("no panic")
            .extend(rdd.iter().map(|sum| sum.1));
    });
    ssc
}

#[test]
fn a_run_goes_on_where_another_has_stopped() {
    let seen = Arc::default();
    let mut states: Option<Vec<u8>> = None;
    for _ in 0..3 {
        let (ssc, written) = (sums(&seen), Written::default());
        let clock = Clock::manual(seconds(0));
        ssc.set_clock(clock.clone());
        if let Some(states) = states.take() {
            ssc.load_states(Cursor::new(states));
        }
        ssc.save_states(written.clone());
        ssc.stop_after(2).expect("it is not 0");
        let running = ssc.start().expect("the states are its own");
        clock.advance(seconds(2));
        running.await_termination().expect("it runs");
        drop(running);
        states = Some(written.bytes());
    }
    assert_eq!(*seen.lock().expect("no panic"), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn states_are_refused_at_the_start_or_reported_at_the_end() {
    let seen = Arc::default();
    let started = |states: &'static [u8]| {
        let ssc = sums(&seen);
        ssc.load_states(states);
        ssc.start()
            .map(drop)
            .expect_err("these are no states")
            .to_string()
    };
    let message = "the states of the program cannot be loaded: this is not a saved state";
    assert_eq!(started(b"nonsense"), message);
    assert!(started(b"").starts_with("the states of the program cannot be loaded: "));

    // A state that cannot be saved is named before anything runs.
    let ssc = StreamingContext::new(seconds(1)).expect("in range");
    let pairs = ssc.batch_stream(|_| Some(vec![((), vec![1u8])].into()));
    let states = pairs.update_state_by_key(|_, state: Option<Vec<&'static str>>| state);
    states.named("words").for_each_batch(|_, _| ());
    ssc.save_states(io::sink());
    let error = ssc
        .start()
        .map(drop)
        .expect_err("nobody knows how to save it");
    assert!(
        error
            .to_string()
            .starts_with("stream words: its state cannot be saved"),
        "{error}"
    );

    // There was no room at the end.
    let ssc = sums(&seen);
    ssc.save_states(&mut [][..]);
    ssc.stop_after(1).expect("it is not 0");
    let clock = Clock::manual(seconds(0));
    ssc.set_clock(clock.clone());
    let running = ssc.start().expect("it starts");
    clock.advance(seconds(1));
    let error = running
        .await_termination()
        .expect_err("nothing can be written");
    assert!(error.to_string().contains("cannot be saved"), "{error}");

    // A run that was cut off has no last batch.
    let (ssc, written) = (sums(&seen), Written::default());
    ssc.save_states(written.clone());
    ssc.set_clock(Clock::manual(seconds(0)));
    ssc.start()
        .expect("it starts")
        .stop(Stop::Immediate)
        .expect("it stops");
    assert!(written.bytes().is_empty());
}
