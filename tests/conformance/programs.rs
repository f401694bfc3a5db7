//! Cases with input and output whose operation is no list of names: a function for each.

use std::path::Path;
use std::time::UNIX_EPOCH;

use microtally::Stop;
use microtally::stream::{Rdd, RddQueue, State, StateMap, StateSpec};
use microtally::time::BatchTime;
use serde_json::{Value, json};

use crate::Program;
use crate::cases::{Case, Records, list, number, text};
use crate::live::{PATIENCE, context, input, ms, now_ms, run, watch};
use crate::operations::{one, pairs, unpaired, with_two_more};

pub(crate) const PROGRAMS: &[Program] = &[
    (
        "pyspark/test_context.StreamingContextTests/test_queue_stream",
        queue_stream,
    ),
    (
        "pyspark/test_context.StreamingContextTests/test_union",
        union_of_queues,
    ),
    (
        "pyspark/test_context.StreamingContextTests/test_transform",
        transform_of_three,
    ),
    (
        "pyspark/test_context.StreamingContextTests/test_transform_pairrdd",
        transform_to_pairs,
    ),
    (
        "pyspark/test_context.StreamingContextTests/test_text_file_stream",
        text_file_stream,
    ),
    (
        "pyspark/test_context.StreamingContextTests/test_binary_records_stream",
        binary_records_unpacked,
    ),
    (
        "scala/InputStreamsSuite/binary records stream",
        binary_records,
    ),
    ("scala/BasicOperationsSuite/transform", transform),
    (
        "scala/BasicOperationsSuite/StreamingContext.transform",
        context_transform,
    ),
    (
        "scala/BasicOperationsSuite/repartition (more partitions)",
        repartition,
    ),
    (
        "scala/BasicOperationsSuite/repartition (fewer partitions)",
        repartition,
    ),
    (
        "java/JavaAPISuite/testRepartitionMorePartitions",
        repartition,
    ),
    (
        "scala/MapWithStateSuite/mapWithState - driver failure recovery",
        state_snapshots,
    ),
    (
        "scala/StateMapSuite/OpenHashMapBasedStateMap - put, get, getByTime, getAll, remove",
        state_map,
    ),
    (
        "scala/StateMapSuite/OpenHashMapBasedStateMap - ... with copy",
        state_map,
    ),
    (
        "scala/InputStreamsSuite/queue input stream - oneAtATime = false",
        queue_all_at_once,
    ),
    (
        "java/JavaAPISuite/testCheckpointMasterRecovery",
        lengths_of_words,
    ),
];

/// The input and the expected output of a case that has both.
fn batches(case: &Case) -> (Vec<Records>, Vec<Records>) {
    let input = case.expected("input_batches").expect("input");
    (input, case.expected("expected_batches").expect("output"))
}

fn queue(batches: &[Records]) -> RddQueue<Value> {
    batches.iter().cloned().collect()
}

fn queue_stream(case: &Case) {
    let (ssc, clock) = context(case);
    let (batches, expected) = batches(case);
    let outputs = watch(&ssc.queue_stream(&queue(&batches), true, None));
    run(ssc, &clock, case, expected.len() + 2).expect("nothing fails");
    case.check(outputs.try_iter().collect(), expected);
}

fn union_of_queues(case: &Case) {
    let (ssc, clock) = context(case);
    let (batches, expected) = batches(case);
    let second = case.expected("input2_batches").expect("a second input");
    let streams = [&batches, &second].map(|input| ssc.queue_stream(&queue(input), true, None));
    let outputs = watch(&ssc.union(&streams).expect("one slide"));
    run(ssc, &clock, case, expected.len() + 2).expect("nothing fails");
    case.check(outputs.try_iter().collect(), expected);
}

fn transform_of_three(case: &Case) {
    let (ssc, clock) = context(case);
    let inputs: Vec<Vec<Records>> = list(case.param("inputs"))
        .iter()
        .map(|input| {
            list(input)
                .iter()
                .map(|batch| list(batch).to_vec())
                .collect()
        })
        .collect();
    let streams: Vec<_> = inputs
        .iter()
        .map(|input| ssc.queue_stream(&queue(input), true, None))
        .collect();
    let united = ssc.transform(&streams, |rdds, _| rdds[1].union(&rdds[2]).union(&rdds[0]));
    let outputs = watch(&united.expect("one slide"));
    let (_, expected) = batches(case);
    run(ssc, &clock, case, expected.len() + 2).expect("nothing fails");
    case.check(outputs.try_iter().collect(), expected);
}

fn transform_to_pairs(case: &Case) {
    let (ssc, clock) = context(case);
    let (batches, expected) = batches(case);
    let stream = ssc.queue_stream(&queue(&batches), true, None);
    let outputs = watch(&stream.transform(|rdd, _| {
        let all = rdd.clone();
        rdd.flat_map(move |a| all.iter().map(|b| json!([a, b])).collect::<Vec<_>>())
    }));
    run(ssc, &clock, case, expected.len() + 2).expect("nothing fails");
    case.check(outputs.try_iter().collect(), expected);
}

fn transform(case: &Case) {
    let (ssc, clock) = context(case);
    let (_, expected) = batches(case);
    let stream = input(&ssc, case.input("input_batches").expect("input"), 2);
    let texts = stream.transform(|rdd, _| rdd.map(|n| json!(n.to_string())));
    let outputs = watch(&texts);
    run(ssc, &clock, case, expected.len()).expect("nothing fails");
    case.check(outputs.try_iter().collect(), expected);
}

fn context_transform(case: &Case) {
    let (ssc, clock) = context(case);
    let (_, expected) = batches(case);
    let stream = input(&ssc, case.input("input_batches").expect("input"), 2);
    let united = ssc.transform(&with_two_more(&stream), |rdds, _| {
        rdds.iter().fold(Rdd::empty(), |all, rdd| all.union(rdd))
    });
    let outputs = watch(&united.expect("one slide"));
    run(ssc, &clock, case, expected.len()).expect("nothing fails");
    case.check(outputs.try_iter().collect(), expected);
}

fn repartition(case: &Case) {
    let (ssc, clock) = context(case);
    let (_, expected) = batches(case);
    let operation = text(&case.facts["operation"]);
    let digits: String = operation["repartition(".len()..]
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    let count: usize = digits.parse().expect("a number of partitions");
    let partitions = usize::try_from(number(case.param("input_partitions"))).expect("a few");
    let stream = input(
        &ssc,
        case.input("input_batches").expect("input"),
        partitions,
    );
    let stream = stream.repartition(count);
    let outputs = watch(&stream);
    let glommed = watch(&stream.glom());
    run(ssc, &clock, case, expected.len()).expect("nothing fails");
    case.check(outputs.try_iter().collect(), expected);
    for partitions in glommed.try_iter() {
        assert_eq!(partitions.len(), count, "{}", case.id);
        assert!(
            partitions.iter().all(|part| !part.is_empty()),
            "there are enough records for all"
        );
    }
}

/// The states of a running count. Without the restart: there are no checkpoints here.
fn state_snapshots(case: &Case) {
    let (ssc, clock) = context(case);
    let (_, expected) = batches(case);
    let stream = input(&ssc, case.input("input_batches").expect("input"), 2);
    let count = |_, _: &Value, value: Option<&Value>, state: &mut State<Value>| {
        let count = state.get_option().map_or(0, number) + number(value?);
        state.update(json!(count));
        None::<()>
    };
    let mapped = pairs(&stream, one).map_with_state(StateSpec::function(count));
    let outputs = watch(&unpaired(&mapped.state_snapshots()));
    run(ssc, &clock, case, expected.len()).expect("nothing fails");
    case.check(outputs.try_iter().collect(), expected);
}

fn lengths_of_words(case: &Case) {
    let (ssc, clock) = context(case);
    let (_, expected) = batches(case);
    let stream = input(&ssc, case.input("input_batches").expect("input"), 1);
    let outputs = watch(&stream.map(|word| json!(text(word).len())));
    run(ssc, &clock, case, expected.len()).expect("nothing fails");
    case.check(outputs.try_iter().collect(), expected);
}

fn queue_all_at_once(case: &Case) {
    let (ssc, clock) = context(case);
    let expected = case.expected("expected_batches").expect("output");
    let queue = RddQueue::new();
    let outputs = watch(&ssc.queue_stream(&queue, false, None));
    let running = ssc.start().expect("it starts");
    let mut seen = Vec::new();
    for batch in &expected {
        for record in batch {
            queue.push(vec![record.clone()]);
        }
        clock.advance(ms(case.batch_ms()));
        seen.push(outputs.recv_timeout(PATIENCE).expect("a batch"));
    }
    running.stop(Stop::Immediate).expect("nothing fails");
    assert!(queue.is_empty());
    case.check(seen, expected);
}

/// The calls of a case and what they give, on the map and its copies.
fn state_map(case: &Case) {
    let mut maps: Vec<(String, StateMap<i64, i64>)> = Vec::new();
    for call in list(&case.facts["calls"]) {
        let call = call.as_object().expect("calls and what they give");
        // The map at hand: the one that is changed, or the newest.
        let mut of = maps
            .last()
            .map_or("do".to_owned(), |(name, _)| name.clone());
        for name in ["do", "parent", "child", "grandchild"] {
            if let Some(calls) = call.get(name) {
                change(map(&mut maps, name), text(calls));
                of = name.to_owned();
            }
        }
        if call.contains_key("child=copy") {
            of = "child".to_owned();
            map(&mut maps, "child");
        }
        for (query, expected) in call {
            let (name, query) = match query.split_once('.') {
                Some((name, query)) => (name.to_owned(), query),
                None => (of.clone(), &query[..]),
            };
            let map = map(&mut maps, &name);
            let at = query.trim_matches(|c: char| !c.is_ascii_digit()).parse();
            if query.starts_with("getByTime") {
                let time = BatchTime::from_millis(at.expect("a time"));
                let keys = map.older_than(time);
                let known = map.iter();
                let old = known.filter(|(key, _, _)| keys.contains(key));
                assert_eq!(rows(old), *expected, "{}: {name}.{query}", case.id);
                assert_eq!(list(expected).len(), keys.len(), "no key is named twice");
            } else if query == "getAll" {
                assert_eq!(rows(map.iter()), *expected, "{}: {name}", case.id);
                assert_eq!(map.len(), list(expected).len());
            } else if query == "get" {
                for (key, value) in expected.as_object().expect("values by key") {
                    let state = map.get(&key.parse().expect("a number"));
                    assert_eq!(json!(state), *value, "{}: {name}.get({key})", case.id);
                }
            } else if query.starts_with("get") {
                let key = i64::try_from(at.expect("a key")).expect("small");
                assert_eq!(
                    json!(map.get(&key)),
                    *expected,
                    "{}: {name}.{query}",
                    case.id
                );
            }
        }
    }
}

/// The named map; a new one is a copy of the one that was made before it.
fn map<'m>(
    maps: &'m mut Vec<(String, StateMap<i64, i64>)>,
    name: &str,
) -> &'m mut StateMap<i64, i64> {
    let place = maps.iter().position(|(known, _)| known == name);
    let place = place.unwrap_or_else(|| {
        let copy = maps
            .last()
            .map_or_else(StateMap::default, |(_, map)| map.clone());
        maps.push((name.to_owned(), copy));
        maps.len() - 1
    });
    &mut maps[place].1
}

/// Does what `calls` say: `put(key,state,time)` and `remove(key)`.
fn change(map: &mut StateMap<i64, i64>, calls: &str) {
    for call in calls.split(' ') {
        let (function, arguments) = call.trim_end_matches(')').split_once('(').expect("a call");
        let arguments: Vec<i64> = arguments
            .split(',')
            .map(|argument| argument.parse().expect("a number"))
            .collect();
        match (function, &arguments[..]) {
            ("put", &[key, state, time]) => {
                let time = BatchTime::from_millis(time.unsigned_abs());
                map.put(key, state, time);
            }
            ("remove", &[key]) => drop(map.remove(&key)),
            other => panic!("unknown call {other:?}"),
        }
    }
}

/// Key, state and time, in the order of the keys.
fn rows<'m>(states: impl Iterator<Item = (&'m i64, &'m i64, BatchTime)>) -> Value {
    let mut rows: Vec<_> = states
        .map(|(key, state, time)| (*key, *state, time.as_millis()))
        .collect();
    rows.sort_unstable();
    json!(rows)
}

/// Writes a file and sets its modification time.
pub(crate) fn put_file(path: &Path, content: impl AsRef<[u8]>, modified_ms: u64) {
    std::fs::write(path, content).expect("the directory is there");
    let file = std::fs::File::options().append(true).open(path);
    let modified = UNIX_EPOCH + ms(modified_ms);
    let set = file.and_then(|file| file.set_modified(modified));
    set.expect("the file is ours");
}

fn text_file_stream(case: &Case) {
    let directory = tempfile::tempdir().expect("a place for files");
    let (ssc, clock) = context(case);
    let lines = ssc.text_file_stream(directory.path()).expect("a path");
    let outputs = watch(&lines.map_to(|line| {
        let line = std::str::from_utf8(line).expect("text");
        json!(line.parse::<i64>().expect("a number"))
    }));
    let running = ssc.start().expect("it starts");
    let numbers: String = (0..10).map(|n| format!("{n}\n")).collect();
    let mut seen = Vec::new();
    for name in ["a", "b"] {
        let due_ms = now_ms(&clock) + case.batch_ms();
        put_file(&directory.path().join(name), &numbers, due_ms);
        clock.advance(ms(case.batch_ms()));
        seen.push(outputs.recv_timeout(PATIENCE).expect("a batch"));
    }
    running.stop(Stop::Immediate).expect("nothing fails");
    case.check(seen, case.expected("expected_batches").expect("output"));
}

/// The records of files that are put into a directory one a batch, by name and content.
fn records_of_files(
    case: &Case,
    record_bytes: usize,
    existing: Option<&str>,
    files: &[(String, Vec<u8>)],
) -> Vec<Vec<Vec<u8>>> {
    let directory = tempfile::tempdir().expect("a place for files");
    let (ssc, clock) = context(case);
    if let Some(name) = existing {
        // As Spark's test has it: too old to be read, until it is written again.
        put_file(&directory.path().join(name), "0\n", 10_000);
        clock.advance(ms(12_000));
    }
    let records = ssc.binary_records_stream(directory.path(), record_bytes);
    let outputs = watch(&records.expect("a path and a length"));
    let running = ssc.start().expect("it starts");
    let mut seen = Vec::new();
    for (name, content) in files {
        let due_ms = now_ms(&clock) + case.batch_ms();
        put_file(&directory.path().join(name), content, due_ms);
        clock.advance(ms(case.batch_ms()));
        seen.push(outputs.recv_timeout(PATIENCE).expect("a batch"));
    }
    running.stop(Stop::Immediate).expect("nothing fails");
    seen
}

/// A file is one record, whose bytes are unpacked into numbers.
fn binary_records_unpacked(case: &Case) {
    let file = |name: &str| (name.to_owned(), (0..10).collect());
    let batches = records_of_files(case, 10, None, &[file("a"), file("b")]);
    let unpacked = batches.into_iter().map(|batch| {
        let [record] = &batch[..] else {
            panic!("{}: one record, not {batch:?}", case.id);
        };
        record.iter().map(|byte| json!(byte)).collect()
    });
    let expected = case.expected("expected_batches").expect("output");
    case.check(unpacked.collect(), expected);
}

/// A byte is a record.
fn binary_records(case: &Case) {
    let record_bytes = number(case.param("record_length")).unsigned_abs();
    let record_bytes = usize::try_from(record_bytes).expect("short");
    let file = |i: u8| (i.to_string(), (1 + i..=5 + i).collect());
    let batches = records_of_files(case, record_bytes, Some("0"), &[0, 1, 2].map(file));
    let numbers = |batch: Vec<Vec<u8>>| batch.iter().map(|record| json!(record[0])).collect();
    let expected = case.expected("expected_batches").expect("output");
    case.check(batches.into_iter().map(numbers).collect(), expected);
}
