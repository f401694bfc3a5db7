//! A function of the user's that panics fails its batch, loudly, and no other.

use std::io::Write;
use std::sync::mpsc;

use microtally::error::ErrorKind;
use microtally::prelude::*;
use microtally::stream::DStream;
use microtally::stream::Tokens;

use crate::definition::Expected;
use crate::live::{
    INTERVAL_MS, PATIENCE, START_MS, Seen, accept, advance_until, context, forward, listen, ms,
    multiples, rest, sum, times,
};

/// Runs a program that panics with `message` at the word `boom`, and checks all that is promised
/// then.
fn fails_one_batch(program: impl FnOnce(DStream<Tokens>, mpsc::Sender<Seen>), message: &str) {
    let (context, clock) = context();
    let (listener, port) = listen();
    let (sender, batches) = mpsc::channel();
    let lines = context
        .socket_text_stream("127.0.0.1", port)
        .expect("a good address");
    program(lines.flat_map(split(b' ')), sender);
    let running = context.start().expect("it starts");
    let mut sender = accept(listener);
    sender.write_all(b"good\n").expect("loopback works");
    let mut seen = advance_until("good", &batches, &clock);
    sender
        .write_all(b"boom bystander boom\n")
        .expect("loopback works");
    let error = (0..PATIENCE.as_millis() / 20).find_map(|_| {
        clock.advance(ms(INTERVAL_MS));
        running.await_termination_or_timeout(ms(20)).err()
    });
    let error = error.expect("the failure is told while the run goes on");
    assert_eq!(error.kind(), ErrorKind::UserFunction);
    assert!(error.to_string().contains(message), "{error}");
    sender.write_all(b"later\n").expect("loopback works");
    seen.extend(advance_until("later", &batches, &clock));
    assert_eq!(
        running.await_termination().unwrap_err().to_string(),
        error.to_string()
    );
    assert_eq!(
        running.stop(Stop::Graceful).unwrap_err().to_string(),
        error.to_string()
    );
    seen.extend(rest(&batches));
    let words: Vec<_> = sum(&seen).counts.into_keys().collect();
    assert_eq!(
        words,
        [&b"good"[..], b"later"],
        "nothing of the failed batch is put out"
    );
    // Exactly one batch is missing, and it is the one the error names.
    let times = times(&seen);
    let mut missing = multiples(START_MS, times[times.len() - 1] - INTERVAL_MS);
    missing.retain(|time| !times.contains(time));
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(
        error
            .to_string()
            .contains(&format!("batch {} ms", missing[0])),
        "{error}"
    );
}

#[test]
fn an_output_that_panics_fails_its_batch_only() {
    let program = |words: DStream<Tokens>, sender: mpsc::Sender<Seen>| {
        words.count_by_value().for_each_batch(move |batch, time| {
            assert_eq!(batch.get(b"boom"), None, "no room for this word");
            // The test listens to the end.
            let _ = sender.send((time.as_millis(), Expected::seen(batch)));
        });
    };
    fails_one_batch(program, "no room for this word");
}

#[test]
fn a_reduce_function_that_panics_fails_its_batch_only() {
    let program = |words: DStream<Tokens>, sender| {
        let weighed = words.map(|word| (word, if word == b"boom" { 1_000u64 } else { 1 }));
        let counts = weighed.reduce_by_key(|a, b| {
            assert!(a + b < 1_000, "{a} and {b} are too heavy");
            a + b
        });
        forward(&counts, sender);
    };
    fails_one_batch(program, "1000 and 1000 are too heavy");
}

#[test]
fn a_flat_map_function_that_panics_fails_its_batch_only() {
    let program = |words: DStream<Tokens>, sender| {
        let words = words.flat_map_with(|word, out| match word {
            b"boom" => panic!("cannot take this word apart"),
            word => out.emit(word),
        });
        forward(&words.count_by_value(), sender);
    };
    fails_one_batch(program, "cannot take this word apart");
}

#[test]
fn a_map_function_that_panics_fails_its_batch_only() {
    let program = |words: DStream<Tokens>, sender| {
        let pairs = words.map(|word| {
            assert_ne!(word, b"boom");
            (word, 1u64)
        });
        forward(&pairs.reduce_by_key(|a, b| a + b), sender);
    };
    fails_one_batch(program, "assertion `left != right` failed");
}

#[test]
fn a_filter_function_that_panics_fails_its_batch_only() {
    let program = |words: DStream<Tokens>, sender| {
        let words = words.filter(|word| {
            assert_ne!(word, b"boom", "this word is not looked at");
            word != b"bystander"
        });
        forward(&words.count_by_value(), sender);
    };
    fails_one_batch(program, "this word is not looked at");
}
