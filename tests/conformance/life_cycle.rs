//! Cases about contexts: waiting for their end, stopping them, errors that come out of waiting.

use std::io::Write;
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use microtally::error::ErrorKind;
use microtally::stream::{Rdd, RddStream};
use microtally::{Stop, StreamingContext};
use serde_json::Value;

use crate::Program;
use crate::cases::{Case, number, text};
use crate::live::{PATIENCE, context, input, ms};

pub(crate) const PROGRAMS: &[Program] = &[
    (
        "pyspark/test_context.StreamingContextTests/test_stop_multiple_times",
        stop_twice,
    ),
    (
        "scala/StreamingContextSuite/stop multiple times",
        stop_twice,
    ),
    (
        "pyspark/test_context.StreamingContextTests/test_await_termination_or_timeout",
        wait_for_the_end,
    ),
    (
        "scala/StreamingContextSuite/awaitTermination",
        wait_for_the_end,
    ),
    (
        "scala/StreamingContextSuite/awaitTermination with error in job generation",
        a_batch_cannot_be_put_together,
    ),
    (
        "scala/StreamingContextSuite/stop slow receiver gracefully",
        stop_while_it_comes_slowly,
    ),
];

/// A stream that does not end.
fn endless(ssc: &StreamingContext) -> RddStream<Value> {
    input(ssc, Vec::new(), 1)
}

fn stop_twice(case: &Case) {
    for how in [Stop::Immediate, Stop::Graceful] {
        let (ssc, _clock) = context(case);
        endless(&ssc).for_each_batch(|_, _| ());
        let running = ssc.start().expect("it starts");
        let handle = running.stop_handle();
        handle.stop(how);
        handle.stop(how);
        running
            .await_termination()
            .expect("it ends without an error");
        running.stop(how).expect("nothing fails");
        // After the end as well.
        handle.stop(how);
    }
}

fn wait_for_the_end(case: &Case) {
    let (ssc, _clock) = context(case);
    endless(&ssc).for_each_batch(|_, _| ());
    let begin = Instant::now();
    let running = ssc.start().expect("it starts");
    let waited = |at_most| running.await_termination_or_timeout(ms(at_most));
    assert!(!waited(1).expect("nothing fails"));
    assert!(!waited(500).expect("nothing fails"));
    assert!(begin.elapsed() >= ms(500));
    assert!(begin.elapsed() < PATIENCE, "starting does not wait");
    // Waiting without a limit goes on until it is stopped from elsewhere.
    let handle = running.stop_handle();
    let stopper = thread::spawn(move || {
        thread::sleep(ms(100));
        let stopping = Instant::now();
        handle.stop(Stop::Immediate);
        stopping
    });
    running.await_termination().expect("nothing fails");
    let ended = Instant::now();
    assert!(ended >= stopper.join().expect("no panic"));
    assert!(waited(1).expect("nothing fails"), "it has ended");
}

fn a_batch_cannot_be_put_together(case: &Case) {
    let (ssc, clock) = context(case);
    let broken = endless(&ssc).transform(|_, _| -> Rdd<Value> { panic!("error in transform") });
    broken.for_each_batch(|_, _| ());
    let running = ssc.start().expect("it starts");
    clock.advance(ms(case.batch_ms()));
    let error = running.await_termination().expect_err("it fails");
    assert_eq!(error.kind(), ErrorKind::UserFunction);
    let expected = text(&case.facts["expect"]["raises"]);
    let (_, part) = expected.split_once("containing ").expect("a text");
    assert!(
        error.to_string().contains(part.trim_matches('\'')),
        "{error}"
    );
}

/// Records come one after the other, and none was put out yet when the stop is asked for: all of
/// them are put out all the same.
fn stop_while_it_comes_slowly(case: &Case) {
    let (ssc, _clock) = context(case);
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let lines = ssc
        .socket_text_stream("127.0.0.1", port)
        .expect("an address");
    let (sender, counts): (_, Receiver<u64>) = channel();
    lines.count().for_each_batch(move |count, _| {
        // The test listens to the end.
        let _ = sender.send(count.iter().sum());
    });
    let running = ssc.start().expect("it starts");
    let (mut connection, _) = listener.accept().expect("the context connects");
    let records = number(&case.facts["expect"]["records_processed"]).unsigned_abs();
    for record in 0..records {
        writeln!(connection, "{record}").expect("loopback works");
        thread::sleep(ms(10));
    }
    let stats = running.stop(Stop::Graceful).expect("nothing fails");
    assert_eq!(stats.records, records);
    assert_eq!(counts.iter().sum::<u64>(), records);
}
