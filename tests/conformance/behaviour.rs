//! Cases that are a story: what streams do when something fails or is missing, what they remember,
//! which windows are refused, sockets and files.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use microtally::error::ErrorKind;
use microtally::sources::FileOptions;
use microtally::stream::{BatchInfo, RddQueue, ReceiverInfo, StreamingListener};
use microtally::time::BatchTime;
use microtally::{Error, Stop, StreamingContext};
use serde_json::{Value, json};

use crate::Program;
use crate::cases::{Case, Records, list, number, text};
use crate::live::{PATIENCE, context, input, ms, now_ms, run, watch};
use crate::operations::Stream;
use crate::programs::put_file;

pub(crate) const PROGRAMS: &[Program] = &[
    ("pyspark/test_dstream.BasicOperationTests/test_slice", slice),
    (
        "pyspark/test_dstream.BasicOperationTests/test_failed_func",
        map_fails,
    ),
    (
        "pyspark/test_dstream.BasicOperationTests/test_failed_func2",
        transform_with_fails,
    ),
    (
        "pyspark/test_dstream.WindowFunctionTests/test_reduce_by_invalid_window",
        windows_are_checked,
    ),
    (
        "scala/BasicOperationsSuite/union with input stream return None",
        union_without_a_parent,
    ),
    (
        "scala/BasicOperationsSuite/transform with NULL",
        transform_gives_nothing,
    ),
    (
        "scala/BasicOperationsSuite/transformWith with input stream return None",
        transform_with_without_a_parent,
    ),
    (
        "scala/BasicOperationsSuite/StreamingContext.transform with input stream return None",
        context_transform_without_a_parent,
    ),
    (
        "scala/BasicOperationsSuite/rdd cleanup - input blocks and persisted RDDs",
        batches_are_forgotten,
    ),
    ("scala/InputStreamsSuite/socket input stream", socket_stream),
    (
        "scala/InputStreamsSuite/file input stream - newFilesOnly = true",
        files,
    ),
    (
        "scala/InputStreamsSuite/file input stream - newFilesOnly = false",
        files,
    ),
    (
        "scala/InputStreamsSuite/Modified files are correctly detected.",
        directory_renamed_into_place,
    ),
    (
        "scala/InputStreamsSuite/test track the number of input stream",
        input_streams_are_numbered,
    ),
];

fn batches(case: &Case, name: &str) -> Vec<Option<Records>> {
    case.input(name).expect("input")
}

fn slice(case: &Case) {
    let (ssc, clock) = context(case);
    let remember_ms = case.param("remember_ms").as_u64().expect("a time");
    ssc.remember(ms(remember_ms)).expect("said once");
    let input = case.expected("input_batches").expect("input");
    let queue: RddQueue<Value> = input.iter().cloned().collect();
    let stream = ssc.queue_stream(&queue, true, None);
    let remembered = stream.remembered();
    let first = BatchTime::from_millis(case.batch_ms());
    let early = remembered.slice(first, first).expect_err("not yet");
    assert!(early.to_string().contains("has not been initialized"));
    stream.for_each_batch(|_, _| ());
    run(ssc, &clock, case, input.len()).expect("nothing fails");
    for slice in list(&case.facts["slices"]) {
        let time = |name: &str| {
            let offset = slice[name].as_u64().expect("seconds");
            BatchTime::from_millis(case.batch_ms() + offset * 1000)
        };
        let batches = remembered.slice(time("begin"), time("end")).expect("kept");
        let records: Records = batches.iter().flat_map(|(_, rdd)| rdd.to_vec()).collect();
        assert_eq!(json!(records), slice["expect"], "{slice}");
    }
}

/// A program that fails at once: the error comes out while the run could go on.
fn fails(case: &Case, program: impl FnOnce(&StreamingContext, Stream, Stream)) {
    let (ssc, clock) = context(case);
    let first = input(&ssc, batches(case, "input_batches"), 1);
    let second = input(&ssc, case.input("input2_batches").unwrap_or_default(), 1);
    program(&ssc, first, second);
    ssc.stop_after(4).expect("not 0");
    let running = ssc.start().expect("it starts");
    clock.advance(ms(4 * case.batch_ms()));
    let error = running.await_termination_or_timeout(PATIENCE);
    let message = text(&case.facts["expect"]["message_contains"]);
    let error = error.expect_err("it fails");
    assert_eq!(error.kind(), ErrorKind::UserFunction);
    assert!(error.to_string().contains(message), "{error}");
    let again = running
        .await_termination()
        .expect_err("it is not forgotten");
    assert_eq!(again.to_string(), error.to_string());
}

fn map_fails(case: &Case) {
    fails(case, |_, stream, _| {
        let failing = stream.map(|_| -> i64 { panic!("This is a special error") });
        // Nothing is printed of batches that fail.
        failing.pprint(10);
    });
}

fn transform_with_fails(case: &Case) {
    fails(case, |_, stream, other| {
        let failing = stream.transform_with(&other, |_, _, _| panic!("This is a special error"));
        failing.expect("one slide").map(number).pprint(10);
    });
}

fn windows_are_checked(case: &Case) {
    let (ssc, _clock) = context(case);
    let pairs = input(&ssc, batches(case, "input_batches"), 1).map(|n| (n.clone(), 1));
    for error in list(&case.facts["errors"]) {
        let duration = |name: &str| {
            let seconds = error[name].as_f64().expect("seconds");
            std::time::Duration::from_secs_f64(seconds)
        };
        let window = (duration("window_s"), duration("slide_s"));
        let refused = pairs.reduce_by_key_and_window(|a, b| a + b, window);
        let refused = refused.map(drop).expect_err("no multiple");
        assert_eq!(refused.kind(), ErrorKind::Config);
        assert_eq!(refused.to_string(), text(&error["message"]));
    }
}

/// A program in whose last batch something is missing: the batches before come out, then the error.
fn misses(
    case: &Case,
    batch_count: usize,
    program: impl FnOnce(&StreamingContext, &Stream) -> Stream,
) -> Error {
    let (ssc, clock) = context(case);
    let stream = input(&ssc, batches(case, "input_batches"), 2);
    let outputs = watch(&program(&ssc, &stream));
    let error = run(ssc, &clock, case, batch_count).expect_err("the last batch fails");
    assert_eq!(error.kind(), ErrorKind::UserFunction);
    let time_ms = case.batch_ms() * u64::try_from(batch_count).expect("few");
    let place = format!("batch {time_ms} ms failed: ");
    assert!(error.to_string().starts_with(&place), "{error}");
    let seen: Vec<Records> = outputs.try_iter().collect();
    match case.expected("expected_batches") {
        Some(expected) => case.check(seen, expected),
        None => assert_eq!(seen.len(), batch_count - 1),
    }
    error
}

fn union_without_a_parent(case: &Case) {
    let error = misses(case, 4, |_, stream| {
        let plus4 = stream.map(|n| json!(number(n) + 4));
        stream.union(&plus4).expect("one slide")
    });
    let sentence = "Could not generate RDD from a parent for unifying at time 4000 ms";
    assert!(error.to_string().ends_with(sentence), "{error}");
}

fn transform_gives_nothing(case: &Case) {
    let error = misses(case, 1, |_, stream| stream.transform_some(|_, _| None));
    let sentence = "Transform function must not return null.";
    assert!(error.to_string().contains(sentence), "{error}");
}

fn transform_with_without_a_parent(case: &Case) {
    let error = misses(case, 4, |ssc, stream| {
        let second = input(ssc, batches(case, "input2_batches"), 2);
        let both = stream.transform_with(&second, |a, b, _| a.union(b));
        both.expect("one slide")
    });
    let sentence = "Couldn't generate RDD from parent at time 4000 ms";
    assert!(error.to_string().ends_with(sentence), "{error}");
}

fn context_transform_without_a_parent(case: &Case) {
    let error = misses(case, 4, |ssc, stream| {
        let streams = [stream.clone(), stream.map(|n| json!(number(n) + 4))];
        let both = ssc.transform(&streams, |rdds, _| rdds[0].union(&rdds[1]));
        both.expect("one slide")
    });
    let sentence = "Couldn't generate RDD from parent at time 4000 ms";
    assert!(error.to_string().ends_with(sentence), "{error}");
}

/// A port of this machine that the context connects to.
fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let port = listener.local_addr().expect("it is bound").port();
    (listener, port)
}

fn batches_are_forgotten(case: &Case) {
    let (ssc, clock) = context(case);
    let (listener, port) = listen();
    let lines = ssc
        .socket_text_stream("127.0.0.1", port)
        .expect("an address");
    let dotted = lines.map_to(|line| [line, b"."].concat());
    let remembered = dotted.remembered();
    let outputs = watch(&dotted);
    let running = ssc.start().expect("it starts");
    let (mut sender, _) = listener.accept().expect("the context connects");
    let mut seen = Vec::new();
    for batch in case.expected("input_batches").expect("input") {
        writeln!(sender, "{}", text(&batch[0])).expect("loopback works");
        let dotted = format!("{}.", text(&batch[0])).into_bytes();
        // It is in whichever batch is open when it arrives.
        while !seen.contains(&dotted) {
            clock.advance(ms(case.batch_ms()));
            seen.extend(outputs.recv_timeout(PATIENCE).expect("a batch"));
        }
    }
    running.stop(Stop::Immediate).expect("nothing fails");
    let at = |time_ms| {
        let time = BatchTime::from_millis(time_ms);
        remembered.slice(time, time).expect("nothing failed").len()
    };
    assert_eq!(at(now_ms(&clock)), 1, "the latest batch is there");
    assert_eq!(at(case.batch_ms()), 0, "the first is not");
    let all = remembered.slice(BatchTime::from_millis(0), BatchTime::from_millis(u64::MAX));
    assert_eq!(all.expect("nothing failed").len(), 1);
}

/// What a listener was told.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<(Vec<BatchInfo>, BTreeSet<usize>)>>);

impl StreamingListener for Heard {
    fn on_batch_completed(&mut self, batch: &BatchInfo) {
        self.0.lock().expect("no panic").0.push(batch.clone());
    }

    fn on_receiver_started(&mut self, receiver: &ReceiverInfo) {
        self.0
            .lock()
            .expect("no panic")
            .1
            .insert(receiver.stream_id);
    }
}

fn socket_stream(case: &Case) {
    let (ssc, clock) = context(case);
    let heard = Heard::default();
    ssc.add_streaming_listener(heard.clone());
    let (listener, port) = listen();
    let lines = ssc
        .socket_text_stream("127.0.0.1", port)
        .expect("an address");
    let outputs = watch(&lines.records());
    let running = ssc.start().expect("it starts");
    let (mut sender, _) = listener.accept().expect("the context connects");
    let expected: Vec<&str> = list(&case.facts["expect"]["all_outputs_flattened_in_order"])
        .iter()
        .map(text)
        .collect();
    for line in &expected {
        writeln!(sender, "{line}").expect("loopback works");
        clock.advance(ms(case.batch_ms()));
    }
    let mut seen: Vec<Vec<u8>> = Vec::new();
    while seen.len() < expected.len() {
        // The last line may have come after the last batch was cut.
        clock.advance(ms(case.batch_ms()));
        seen.extend(outputs.recv_timeout(PATIENCE).expect("a batch"));
    }
    let stats = running.stop(Stop::Graceful).expect("nothing fails");
    assert!(seen.iter().eq(expected.iter().map(|line| line.as_bytes())));
    let processed: u64 = heard
        .0
        .lock()
        .expect("no panic")
        .0
        .iter()
        .map(BatchInfo::num_records)
        .sum();
    let expect = &case.facts["expect"];
    assert_eq!(json!(processed), expect["totalProcessedRecords"]);
    assert_eq!(json!(stats.records), expect["totalReceivedRecords"]);
}

fn files(case: &Case) {
    let directory = tempfile::tempdir().expect("a place for files");
    let file = |name: &str| directory.path().join(name);
    put_file(&file("0"), "0\n", 10_000);
    let (ssc, clock) = context(case);
    clock.advance(ms(12_000));
    let new_files_only = case.id.ends_with("true");
    let options = FileOptions::default()
        .new_files_only(new_files_only)
        .filter(|_| true);
    let lines = ssc.text_file_stream_with(directory.path(), options);
    let outputs = watch(&lines.expect("a path").records());
    let running = ssc.start().expect("it starts");
    let mut seen = Vec::new();
    for name in ["1", "2", "3", "4", "5"] {
        put_file(&file(name), name, now_ms(&clock) + case.batch_ms());
        clock.advance(ms(case.batch_ms()));
        seen.extend(outputs.recv_timeout(PATIENCE).expect("a batch"));
    }
    running.stop(Stop::Immediate).expect("nothing fails");
    expect_lines(case, seen);
}

fn expect_lines(case: &Case, mut seen: Vec<Vec<u8>>) {
    seen.sort();
    let expected = list(&case.facts["expect"]["set_of_lines"]).iter();
    assert!(
        seen.iter().eq(expected.map(|line| text(line).as_bytes())),
        "{}: {seen:?}",
        case.id
    );
}

fn directory_renamed_into_place(case: &Case) {
    let root = tempfile::tempdir().expect("a place for files");
    let at = |path: &str| root.path().join(path);
    let create = |path: &Path| std::fs::create_dir(path).expect("the root is ours");
    create(&at("generated"));
    let (ssc, clock) = context(case);
    clock.advance(ms(100_000));
    let lines = ssc.text_file_stream(at("sub*")).expect("a pattern");
    let outputs = watch(&lines.records());
    let running = ssc.start().expect("it starts");
    put_file(&at("generated/existing"), "existing\n", 10_000);
    put_file(
        &at("generated/renamed.txt"),
        "renamed\n",
        now_ms(&clock) + case.batch_ms(),
    );
    std::fs::rename(at("generated"), at("subdirectory")).expect("the root is ours");
    let mut seen = Vec::new();
    for _ in 0..3 {
        clock.advance(ms(case.batch_ms()));
        seen.extend(outputs.recv_timeout(PATIENCE).expect("a batch"));
    }
    running.stop(Stop::Immediate).expect("nothing fails");
    expect_lines(case, seen);
}

fn input_streams_are_numbered(case: &Case) {
    let (ssc, clock) = context(case);
    let heard = Heard::default();
    ssc.add_streaming_listener(heard.clone());
    let (_listener, port) = listen();
    for _ in 0..2 {
        let lines = ssc
            .socket_text_stream("127.0.0.1", port)
            .expect("an address");
        lines.count().for_each_batch(|_, _| ());
    }
    for _ in 0..3 {
        input(&ssc, Vec::new(), 1).for_each_batch(|_, _| ());
    }
    run(ssc, &clock, case, 1).expect("nothing fails");
    let heard = heard.0.lock().expect("no panic");
    let inputs = &heard.0[0].stream_id_to_input_info;
    let ids: Vec<usize> = inputs.iter().map(|input| input.input_stream_id).collect();
    assert_eq!(json!(ids), case.facts["expect"]["input_ids"]);
    assert_eq!(json!(heard.1), case.facts["expect"]["receiver_ids"]);
}
