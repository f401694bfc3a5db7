//! Batches of whole programs: their times, their order, the ways a run can end.

use std::io::Write;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use microtally::error::ErrorKind;
use microtally::prelude::*;
use microtally::sources::Reconnect;
use microtally::{Config, Engine, Rule};

use crate::definition::Definition;
use crate::live::{
    INTERVAL_MS, PATIENCE, START_MS, accept, advance_until, context, forward, listen, ms,
    multiples, one_connection, rest, sum, take_due, times, watch,
};

/// Moves the clock by every one of `steps_ms` while lines come in, and ends the stream behind the
/// last. A slow output holds its first batch until then. Gives the times of the batches and the
/// clock's.
fn run(steps_ms: &[u64], is_slow: bool) -> (Vec<u64>, u64) {
    let (context, clock) = context();
    let (lines, listener) = one_connection(&context);
    let counts = lines.flat_map(split(b' ')).count_by_value();
    let (release, gate) = mpsc::channel::<()>();
    counts.for_each_batch(move |_, _| {
        if is_slow {
            // Waits until the other end is gone.
            let _ = gate.recv_timeout(PATIENCE);
        }
    });
    let batches = watch(&counts);
    let running = context.start().expect("it starts");
    let mut sender = accept(listener);
    let mut definition = Definition::new(Rule::Split(b' '));
    for (index, step_ms) in steps_ms.iter().enumerate() {
        let text = format!("step {index}\r\nof {} steps, not ended\n ", steps_ms.len());
        sender.write_all(text.as_bytes()).expect("loopback works");
        definition.push(text.as_bytes());
        clock.advance(ms(*step_ms));
    }
    drop(release);
    // The end of the stream ends the run, so it comes when all that became due before is out.
    let mut seen = Vec::new();
    take_due(&mut seen, &batches, &clock);
    drop(sender);
    definition.end_of_stream();
    assert!(
        running
            .await_termination_or_timeout(PATIENCE)
            .expect("nothing fails")
    );
    let stats = running.stop(Stop::Graceful).expect("nothing failed");
    seen.extend(rest(&batches));
    assert_eq!(stats.batches, seen.len() as u64);
    assert_eq!(sum(&seen), definition.cut());
    (times(&seen), START_MS + steps_ms.iter().sum::<u64>())
}

#[test]
fn batch_times_are_every_multiple_once_however_the_clock_moves() {
    let steps_ms = [1, 126, 1, 249, 250, 251, 0, 777, 50 * INTERVAL_MS, 3, 124];
    let (times, end_ms) = run(&steps_ms, false);
    assert_eq!(times, multiples(START_MS, end_ms));
    assert!(times.len() > 50);
}

/// Far more batches become due than may be under way while the first is still being put out.
#[test]
fn no_batch_time_is_skipped_or_doubled_when_an_output_is_slow() {
    let steps_ms = [
        INTERVAL_MS,
        200 * INTERVAL_MS,
        1,
        40 * INTERVAL_MS,
        INTERVAL_MS,
    ];
    let (times, end_ms) = run(&steps_ms, true);
    assert_eq!(times, multiples(START_MS, end_ms));
    assert!(times.len() > 240);
}

#[test]
fn a_graceful_stop_counts_everything_that_was_received() {
    let (context, clock) = context();
    let (listener, port) = listen();
    let counts = context
        .socket_text_stream("127.0.0.1", port)
        .expect("a good address")
        .count_by_value();
    let batches = watch(&counts);
    let running = context.start().expect("it starts");
    let mut sender = accept(listener);
    sender.write_all(b"first\n").expect("loopback works");
    let mut seen = advance_until("first", &batches, &clock);
    // Received by the kernel, perhaps not yet by the program; the last line has no end.
    sender.write_all(b"second\nthird").expect("loopback works");
    let stats = running.stop(Stop::Graceful).expect("nothing failed");
    seen.extend(rest(&batches));
    assert_eq!(
        sum(&seen),
        Definition::of(b"first\nsecond\nthird", Rule::Lines)
    );
    assert_eq!((stats.batches, stats.records), (seen.len() as u64, 3));
    let times = times(&seen);
    assert_eq!(times, multiples(START_MS, times[times.len() - 2]));
}

#[test]
fn an_immediate_stop_drops_the_batch_that_is_being_filled() {
    let (context, clock) = context();
    let (listener, port) = listen();
    let counts = context
        .socket_text_stream("127.0.0.1", port)
        .expect("a good address")
        .count_by_value();
    let batches = watch(&counts);
    let running = context.start().expect("it starts");
    let mut sender = accept(listener);
    sender.write_all(b"first\n").expect("loopback works");
    let mut seen = advance_until("first", &batches, &clock);
    sender.write_all(b"second\n").expect("loopback works");
    let stats = running.stop(Stop::Immediate).expect("nothing failed");
    seen.extend(rest(&batches));
    assert_eq!(sum(&seen), Definition::of(b"first\n", Rule::Lines));
    assert_eq!(stats.records, 1);
}

#[test]
fn waiting_with_a_timeout_tells_running_from_ended() {
    let (context, _clock) = context();
    let (_listener, port) = listen();
    context
        .socket_text_stream("127.0.0.1", port)
        .expect("a good address")
        .count_by_value()
        .for_each_batch(|_, _| ());
    let running = context.start().expect("it starts");
    assert!(
        !running
            .await_termination_or_timeout(ms(20))
            .expect("nothing fails")
    );
    assert!(
        !running
            .await_termination_or_timeout(Duration::ZERO)
            .expect("nothing fails")
    );
    let handle = running.stop_handle();
    std::thread::spawn(move || handle.stop(Stop::Graceful));
    running.await_termination().expect("nothing fails");
    assert!(
        running
            .await_termination_or_timeout(Duration::ZERO)
            .expect("nothing fails")
    );
    assert_eq!(
        running
            .stop(Stop::Immediate)
            .expect("nothing failed")
            .batches,
        1
    );
}

#[test]
fn a_number_of_batches_ends_the_run() {
    let (context, clock) = context();
    let (_listener, port) = listen();
    let counts = context
        .socket_text_stream("127.0.0.1", port)
        .expect("a good address")
        .count_by_value();
    let batches = watch(&counts);
    assert_eq!(context.stop_after(0).unwrap_err().kind(), ErrorKind::Config);
    context.stop_after(3).expect("at least one");
    let running = context.start().expect("it starts");
    clock.advance(ms(50 * INTERVAL_MS));
    running.await_termination().expect("nothing fails");
    let first = START_MS / INTERVAL_MS + 1;
    assert_eq!(
        times(&rest(&batches)),
        [first, first + 1, first + 2].map(|k| k * INTERVAL_MS)
    );
}

#[test]
fn a_program_without_an_output_does_not_start() {
    let (context, _clock) = context();
    let _words = context
        .socket_text_stream("127.0.0.1", 9)
        .expect("a good address")
        .count_by_value();
    let error = context.start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoOutput);
    assert_eq!(
        error.to_string(),
        "no output operations registered, so nothing to execute"
    );
}

#[test]
fn two_sources_of_one_context_do_not_mix_and_the_later_end_ends_the_run() {
    let (context, clock) = context();
    let ((one, one_port), (two, two_port)) = (listen(), listen());
    let stream = |port| {
        context
            .socket_text_stream_with("127.0.0.1", port, Reconnect::Never)
            .expect("a good address")
    };
    let words = watch(&stream(one_port).flat_map(split(b' ')).count_by_value());
    let lines = watch(&stream(two_port).count_by_value());
    let running = context.start().expect("it starts");
    let (mut one, mut two) = (accept(one), accept(two));
    one.write_all(b"a b\na un").expect("loopback works");
    two.write_all(b"a b\r\n").expect("loopback works");
    let mut seen_words = advance_until("a", &words, &clock);
    let mut seen_lines = advance_until("a b", &lines, &clock);
    drop(one);
    seen_words.extend(advance_until("un", &words, &clock));
    two.write_all(b"still here\n").expect("loopback works");
    seen_lines.extend(advance_until("still here", &lines, &clock));
    assert!(
        !running
            .await_termination_or_timeout(Duration::ZERO)
            .expect("nothing fails")
    );
    drop(two);
    assert!(
        running
            .await_termination_or_timeout(PATIENCE)
            .expect("nothing fails")
    );
    let sums = running.stats();
    drop(running);
    seen_words.extend(rest(&words));
    seen_lines.extend(rest(&lines));
    assert_eq!(times(&seen_words), times(&seen_lines));
    // Records, tokens and bytes are each stream's own; the run's are their sums.
    let (words, lines) = (sum(&seen_words), sum(&seen_lines));
    assert_eq!(words, Definition::of(b"a b\na un", Rule::Split(b' ')));
    assert_eq!(lines, Definition::of(b"a b\r\nstill here\n", Rule::Lines));
    assert_eq!(sums.records, words.records + lines.records);
    assert_eq!(sums.tokens, words.tokens + lines.tokens);
    assert_eq!(sums.bytes, words.bytes + lines.bytes);
}

#[test]
fn outputs_of_a_batch_come_in_the_order_they_were_registered() {
    let (context, clock) = context();
    let (listener, port) = listen();
    let lines = context
        .socket_text_stream("127.0.0.1", port)
        .expect("a good address");
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = |name: &'static str| {
        let order = Arc::clone(&order);
        move |time: BatchTime| {
            order
                .lock()
                .expect("nobody panics")
                .push((time.as_millis(), name))
        }
    };
    let (one, two) = (
        lines.count_by_value(),
        lines
            .map(|line| (line, line.len()))
            .reduce_by_key(usize::max),
    );
    let (first, second, third) = (note("first"), note("second"), note("third"));
    two.for_each_batch(move |_, time| first(time));
    one.for_each_batch(move |_, time| second(time));
    two.for_each_batch(move |_, time| third(time));
    let (sender, batches) = mpsc::channel();
    forward(&one, sender);
    let running = context.start().expect("it starts");
    accept(listener).write_all(b"go\n").expect("loopback works");
    advance_until("go", &batches, &clock);
    running.stop(Stop::Graceful).expect("nothing failed");
    let order = order.lock().expect("nobody panics");
    let last_ms = order.last().expect("there were batches").0;
    let due: Vec<_> = multiples(START_MS, last_ms - INTERVAL_MS)
        .into_iter()
        .flat_map(|time| ["first", "second", "third"].map(|name| (time, name)))
        .collect();
    assert_eq!(*order, due);
}

/// What `write` accepted is in a batch, also when another thread finishes the engine meanwhile.
#[test]
fn a_finish_in_the_middle_of_writing_loses_no_accepted_byte() {
    for _ in 0..20 {
        let engine = Engine::builder(Rule::Split(b' '))
            .config(Config::default().workers(1).pin(false).block_bytes(4096))
            .start(|_| std::thread::sleep(Duration::from_millis(2)))
            .expect("it starts");
        let mut input = engine.writer().expect("there is one");
        let (begun, begins) = std::sync::mpsc::channel();
        let writer = std::thread::spawn(move || {
            let mut accepted = 0;
            while let Ok(count) = input.write(b"word word\n") {
                accepted += count as u64;
                let _ = begun.send(());
            }
            accepted
        });
        begins.recv().expect("the engine takes something");
        let finished = engine.finish().expect("the ledger closes");
        let accepted = writer.join().expect("it ends with an error of `write`");
        assert_eq!(finished.stats().bytes, accepted);
    }
}
