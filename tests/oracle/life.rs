//! How engines and contexts end, and what user-supplied code may do to them: panic anywhere, call
//! back from an output, never return. Nothing of that loses a batch that could be put out, or makes
//! a call wait for ever.
//!
//! Method: an output that fails, calls or waits as the test says, and a generous deadline around
//! every call.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use microtally::engine::Writer;
use microtally::error::ErrorKind;
use microtally::notice::NoticeKind;
use microtally::prelude::*;
use microtally::sources::{ChannelId, Fill, Intake, Reconnect, Source};
use microtally::stream::{BatchInfo, StreamingListener};
use microtally::{Config, Engine, Error, Rule};

use crate::live::{INTERVAL_MS, PATIENCE, context, ms};

fn plain() -> Config {
    Config::default().workers(1).pin(false)
}

fn low_latency() -> Config {
    plain().low_latency(Duration::ZERO)
}

fn time(ms: u64) -> BatchTime {
    BatchTime::from_millis(ms)
}

/// Calls `f` on a thread of its own, for a test that fails if the call never returns.
fn in_time<T: Send + 'static>(what: &str, f: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, done) = channel();
    thread::spawn(move || sender.send(f()));
    match done.recv_timeout(PATIENCE) {
        Ok(answer) => answer,
        Err(error) => panic!("{what}: {error}"),
    }
}

fn is_users(error: &Error, message: &str) {
    assert_eq!(error.kind(), ErrorKind::UserFunction, "{error}");
    assert!(error.to_string().contains(message), "{error}");
}

fn is_invalid_call(error: &Error, message: &str) {
    assert_eq!(error.kind(), ErrorKind::InvalidCall, "{error}");
    assert!(error.to_string().contains(message), "{error}");
}

// What was written is put out, whatever failed before.

#[test]
fn finish_puts_everything_out_though_an_earlier_batch_failed() {
    for config in [plain(), low_latency()] {
        let (sender, seen) = channel();
        let engine = Engine::builder(Rule::Split(b' '))
            .config(config)
            .start(move |batch| {
                assert_ne!(batch.stats().batch, 1, "the first one is too early");
                let stats = batch.stats();
                sender.send((stats.tokens, stats.last)).expect("it is read");
            });
        let engine = engine.expect("it starts");
        let mut input = engine.writer().expect("there is one");
        for n in 1..=20 {
            input.write_all(b"a b c\n").expect("the engine runs");
            engine.cut(time(n)).expect("the engine runs");
        }
        input.write_all(b"d d\n").expect("the engine runs");
        drop(input);
        let (finished, outcome) = in_time("finish", || engine.finish_anyway());
        is_users(&outcome.expect_err("a batch failed"), "batch 1 ms failed");
        let seen: Vec<(u64, bool)> = seen.iter().collect();
        assert_eq!(seen[..19], [(3, false); 19]);
        assert_eq!(seen[19..], [(2, true)]);
        assert_eq!(finished.batch().get(b"d"), Some(2));
        assert_eq!(
            (finished.stats().batches, finished.stats().tokens),
            (21, 62)
        );
    }
}

#[test]
fn the_last_batch_is_there_though_its_output_failed() {
    let engine = Engine::builder(Rule::Lines)
        .config(plain())
        .start(|_| panic!("no room on the screen"));
    let engine = engine.expect("it starts");
    let mut input = engine.writer().expect("there is one");
    input.write_all(b"one\ntwo\none").expect("the engine runs");
    drop(input);
    let (finished, outcome) = in_time("finish", || engine.finish_anyway());
    is_users(&outcome.expect_err("it failed"), "no room on the screen");
    assert_eq!(finished.batch().get(b"one"), Some(2));
    assert_eq!(finished.stats().records, 3);
}

#[test]
fn the_sums_of_a_run_are_there_though_a_batch_failed() {
    let (running, clock, handle) = {
        let (context, clock) = context();
        let lines = context.source_stream(Told::new(&[b"a\nb\n"], Fill::End));
        lines.count_by_value().for_each_batch(|batch, _| {
            assert!(batch.is_empty(), "no room for any word");
        });
        let running = context.start().expect("it starts");
        let handle = running.stop_handle();
        (running, clock, handle)
    };
    clock.advance(ms(INTERVAL_MS));
    let error = in_time("stop", || running.stop(Stop::Graceful)).expect_err("a batch failed");
    is_users(&error, "no room for any word");
    assert_eq!(handle.stats().records, 2);
}

// What panics is the user's, and is reported as that.

#[test]
fn a_notice_handler_that_panics_costs_nothing_but_the_notice() {
    let (heard, notices) = channel();
    let heard = Mutex::new(heard);
    let engine = Engine::builder(Rule::Lines)
        .config(plain())
        .interval(ms(5))
        .on_notice(move |notice| {
            let _ = heard.lock().map(|heard| heard.send(notice.clone()));
            panic!("my logger is gone");
        })
        .start(|batch| {
            // Longer than what may be late without a notice.
            if batch.stats().batch == 1 {
                thread::sleep(ms(400));
            }
        });
    let engine = engine.expect("it starts");
    let mut input = engine.writer().expect("there is one");
    let mut written = 0;
    let mut write = |input: &mut Writer| {
        input.write_all(b"line\n").expect("the engine goes on");
        written += 1;
    };
    write(&mut input);
    let behind = notices.recv_timeout(PATIENCE).expect("it falls behind");
    assert!(matches!(behind.kind, NoticeKind::Behind { .. }), "{behind}");
    let before = engine.stats().batches;
    wait_until("batches go on", || {
        write(&mut input);
        engine.stats().batches > before + 3
    });
    drop(input);
    let (finished, outcome) = in_time("finish", || engine.finish_anyway());
    let error = outcome.expect_err("it is reported");
    is_users(&error, "notice handler panicked: my logger is gone");
    assert_eq!(finished.stats().records, written);
}

#[test]
fn a_notice_handler_of_a_context_that_panics_ends_nothing() {
    // A port where nobody listens: the source reports that it has to wait.
    let (context, clock) = context();
    let lines = context
        .socket_text_stream_with("127.0.0.1", 1, Reconnect::After(ms(1)))
        .expect("a good address");
    let (sender, batches) = channel();
    lines.count_by_value().for_each_batch(move |_, time| {
        let _ = sender.send(time);
    });
    context.on_notice(|_| panic!("my logger is gone"));
    let running = context.start().expect("it starts");
    let error = wait_for("the panic is reported", || {
        running.await_termination_or_timeout(ms(10)).err()
    });
    is_users(&error, "notice handler panicked: my logger is gone");
    for _ in 0..3 {
        clock.advance(ms(INTERVAL_MS));
        batches.recv_timeout(PATIENCE).expect("the run goes on");
    }
    let error = in_time("stop", || running.stop(Stop::Graceful)).expect_err("it is kept");
    is_users(&error, "my logger is gone");
}

#[test]
fn a_listener_that_panics_is_reported_and_ends_nothing() {
    struct Panics;
    impl StreamingListener for Panics {
        fn on_batch_completed(&mut self, _: &BatchInfo) {
            panic!("the dashboard is gone");
        }
    }
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("and so is its door");
        }
    }
    let (context, clock) = context();
    let (sender, batches) = channel();
    let lines = context.source_stream(Told::new(&[b"a\n"], Fill::Pending(None)));
    lines.count_by_value().for_each_batch(move |_, time| {
        let _ = sender.send(time);
    });
    context.add_streaming_listener(Panics);
    let running = context.start().expect("it starts");
    for _ in 0..3 {
        clock.advance(ms(INTERVAL_MS));
        batches.recv_timeout(PATIENCE).expect("the run goes on");
    }
    let error = wait_for("the panic is reported", || {
        running.await_termination_or_timeout(ms(10)).err()
    });
    is_users(
        &error,
        "streaming listener panicked and is not called again: the dashboard is gone",
    );
    in_time("stop", || running.stop(Stop::Graceful)).expect_err("it is kept");
}

/// Panics when it is dropped.
#[derive(Clone, Copy)]
struct Never(&'static str);

struct PanicsOnDrop(#[allow(dead_code, reason = "it is what the type is for")] Never);

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("{} is dropped", self.0.0);
    }
}

#[test]
fn what_panics_when_it_is_dropped_is_reported_as_the_users() {
    let owned = PanicsOnDrop(Never("the output's screen"));
    let engine = Engine::builder(Rule::Lines)
        .config(plain())
        .start(move |_| {
            let _ = &owned;
        });
    let engine = engine.expect("it starts");
    let mut input = engine.writer().expect("there is one");
    input.write_all(b"line\n").expect("the engine runs");
    drop(input);
    let (finished, outcome) = in_time("finish", || engine.finish_anyway());
    let error = outcome.expect_err("it is reported");
    is_users(
        &error,
        "panicked when it was dropped: the output's screen is dropped",
    );
    assert_eq!(finished.batch().get(b"line"), Some(1));
}

/// A function in the shards, two outputs and a source: each is dropped on another thread.
#[test]
fn everything_of_a_context_may_panic_when_it_is_dropped() {
    let owners: [&'static str; 3] = ["the map", "the output", "the source"];
    for owner in owners {
        let (context, clock) = context();
        let owned = |name: &'static str| (name == owner).then(|| PanicsOnDrop(Never(owner)));
        let mut source = Told::new(&[b"a\na\n"], Fill::Pending(None));
        source.owned = owned("the source");
        let lines = context.source_stream(source);
        let of_map = owned("the map");
        let pairs = lines.map(move |line| {
            let _ = &of_map;
            (line, 1u64)
        });
        let counts = pairs.reduce_by_key(|a, b| a + b);
        let (sender, seen) = channel();
        let of_output = owned("the output");
        counts.for_each_batch(move |batch, _| {
            let _ = &of_output;
            let _ = sender.send(batch.get(b"a"));
        });
        let running = context.start().expect("it starts");
        clock.advance(ms(INTERVAL_MS));
        let error = in_time("stop", || running.stop(Stop::Graceful)).expect_err(owner);
        is_users(&error, "panicked when it was dropped");
        assert!(error.to_string().contains(owner), "{error}");
        let sum: u64 = seen.iter().flatten().sum();
        assert_eq!(sum, 2, "{owner}");
    }
}

/// Values that the shards gather are dropped when a batch has been put out.
#[test]
fn a_record_that_panics_when_it_is_dropped_does_not_end_the_run() {
    struct Value(bool);
    impl Drop for Value {
        fn drop(&mut self) {
            assert!(!self.0, "a value bursts");
        }
    }
    let (context, clock) = context();
    let lines = context.source_stream(Told::new(&[b"boom\n", b"good\n"], Fill::Pending(None)));
    let (sender, seen) = channel();
    let values = lines.map_to(|line| Arc::new(Value(line == b"boom")));
    values.for_each_batch(move |values, _| {
        let _ = sender.send(values.len());
    });
    let running = context.start().expect("it starts");
    let mut sum = 0;
    wait_until("both are seen", || {
        clock.advance(ms(INTERVAL_MS));
        sum += seen.recv_timeout(ms(20)).unwrap_or(0);
        sum == 2
    });
    let error = in_time("stop", || running.stop(Stop::Graceful)).expect_err("it is reported");
    is_users(&error, "a value bursts");
}

// Calls in the engine's own output.

/// The engine, once nobody else has it.
fn sole(engine: Arc<Engine>) -> Engine {
    let mut engine = Some(engine);
    wait_for(
        "nobody else has the engine",
        move || match Arc::try_unwrap(engine.take()?) {
            Ok(engine) => Some(engine),
            Err(shared) => {
                engine = Some(shared);
                None
            }
        },
    )
}

#[test]
fn a_cut_in_the_engines_own_output_is_an_error_and_the_engine_goes_on() {
    for config in [plain(), low_latency()] {
        let slot = Arc::new(Mutex::new(None::<Arc<Engine>>));
        let (sender, answers) = channel();
        let of_output = Arc::clone(&slot);
        let engine = Engine::builder(Rule::Lines).config(config).start(move |_| {
            let engine = of_output.lock().expect("no panic").take();
            if let Some(engine) = engine {
                let _ = sender.send(engine.cut(time(2)));
            }
        });
        let engine = Arc::new(engine.expect("it starts"));
        *slot.lock().expect("no panic") = Some(Arc::clone(&engine));
        let first = Arc::clone(&engine);
        in_time("cut", move || first.cut(time(1))).expect("it is cut");
        let answer = answers.recv_timeout(PATIENCE).expect("cut returns");
        is_invalid_call(
            &answer.expect_err("it is refused"),
            "cut: called in a function",
        );
        let second = Arc::clone(&engine);
        in_time("a later cut", move || second.cut(time(3))).expect("the engine goes on");
        let finished = in_time("finish", || sole(engine).finish());
        assert_eq!(finished.expect("nothing failed").stats().batches, 3);
    }
}

#[test]
fn finish_in_the_engines_own_output_is_an_error_and_ends_the_engine() {
    for config in [plain(), low_latency()] {
        let slot = Arc::new(Mutex::new(None::<Engine>));
        let (sender, answers) = channel();
        let of_output = Arc::clone(&slot);
        let engine = Engine::builder(Rule::Lines)
            .config(config)
            .interval(ms(5))
            .start(move |_| {
                let engine = of_output.lock().expect("no panic").take();
                if let Some(engine) = engine {
                    let _ = sender.send(engine.finish().map(|finished| finished.stats()));
                }
            });
        let engine = engine.expect("it starts");
        let mut input = engine.writer().expect("there is one");
        *slot.lock().expect("no panic") = Some(engine);
        let answer = answers.recv_timeout(PATIENCE).expect("finish returns");
        is_invalid_call(
            &answer.expect_err("it is refused"),
            "finish: called in a function",
        );
        wait_until("the engine stops", || input.write(b"more\n").is_err());
        // The outputs are dropped, and the sender with them.
        let end = answers.recv_timeout(PATIENCE);
        assert_eq!(end.err(), Some(mpsc::RecvTimeoutError::Disconnected));
    }
}

/// An output that writes to its own engine has to stop when there is no room: it is what makes
/// room.
#[test]
fn a_write_in_the_engines_own_output_does_not_wait_for_room() {
    let slot = Arc::new(Mutex::new(None::<Writer>));
    let (sender, answers) = channel();
    let of_output = Arc::clone(&slot);
    let config = plain().block_bytes(64);
    let engine = Engine::builder(Rule::Lines).config(config).start(move |_| {
        let input = of_output.lock().expect("no panic").take();
        if let Some(mut input) = input {
            let mut lines = 0u64;
            let error = loop {
                match input.write_all(b"12345678\n") {
                    Ok(()) if lines < 1_000_000 => lines += 1,
                    Ok(()) => break None,
                    Err(error) => break Some(error.kind()),
                }
            };
            let _ = sender.send((lines, error));
            // Dropped here, where its last line cannot be ended either.
        }
    });
    let engine = engine.expect("it starts");
    *slot.lock().expect("no panic") = engine.writer().ok();
    let cut = move || {
        let outcome = engine.cut(time(1));
        (engine, outcome)
    };
    let (engine, outcome) = in_time("cut", cut);
    outcome.expect("it is cut");
    let (lines, error) = answers.recv_timeout(PATIENCE).expect("the write returns");
    // A shard counts meanwhile, so it may have taken all of it; as a rule the marks are in its way.
    assert!(lines > 0);
    if let Some(kind) = error {
        assert_eq!(kind, io::ErrorKind::Deadlock);
    }
    let finished = in_time("finish", || engine.finish()).expect("nothing failed");
    assert!(
        finished.stats().records >= lines,
        "{lines} lines: {:?}",
        finished.stats()
    );
}

#[test]
fn waiting_for_the_end_of_a_context_in_its_own_output_is_an_error() {
    for config in [plain(), low_latency()] {
        let context = StreamingContext::with_config(ms(10), config).expect("in range");
        let slot = Arc::new(Mutex::new(None::<RunningContext>));
        let (sender, answers) = channel();
        let of_output = Arc::clone(&slot);
        let lines = context.source_stream(Told::new(&[b"a\n"], Fill::Pending(None)));
        lines.count_by_value().for_each_batch(move |batch, _| {
            let running = of_output.lock().expect("no panic").take();
            if let Some(running) = running {
                let waited = running.await_termination();
                let some_time = running.await_termination_or_timeout(PATIENCE);
                let stopped = running.stop(Stop::Graceful);
                let _ = sender.send(Some((waited.err(), some_time.err(), stopped.err())));
            }
            if batch.stats().last {
                let _ = sender.send(None);
            }
        });
        let running = context.start().expect("it starts");
        *slot.lock().expect("no panic") = Some(running);
        let calls = answers.recv_timeout(PATIENCE).expect("they return");
        let (waited, some_time, stopped) = calls.expect("it is not the last batch");
        let refused = [
            (waited, "await_termination: called in a function"),
            (
                some_time,
                "await_termination_or_timeout: called in a function",
            ),
            (stopped, "stop: called in a function"),
        ];
        for (error, message) in refused {
            is_invalid_call(&error.expect("it is refused"), message);
        }
        // The stop itself is under way, and a graceful one puts the last batch out.
        let last = answers.recv_timeout(PATIENCE).expect("it is put out");
        assert!(last.is_none());
        let end = answers.recv_timeout(PATIENCE);
        assert_eq!(end.err(), Some(mpsc::RecvTimeoutError::Disconnected));
    }
}

// Time limits.

/// An output that waits until the test lets it go, and says so before.
fn stuck() -> (
    impl FnMut() + Send + 'static,
    Receiver<()>,
    mpsc::Sender<()>,
) {
    let (sender, reached) = channel();
    let (let_go, go) = channel::<()>();
    let wait = move || {
        let _ = sender.send(());
        // Returns when the test is over, also when it has failed.
        let _ = go.recv();
    };
    (wait, reached, let_go)
}

#[test]
fn finish_within_returns_though_an_output_does_not() {
    let (mut wait, reached, let_go) = stuck();
    let engine = Engine::builder(Rule::Lines)
        .config(plain())
        .start(move |_| wait());
    let engine = engine.expect("it starts");
    let mut input = engine.writer().expect("there is one");
    input.write_all(b"line\n").expect("the engine runs");
    engine.cut(time(1)).expect("the engine runs");
    reached.recv_timeout(PATIENCE).expect("it is put out");
    let begin = Instant::now();
    let outcome = in_time("finish", move || engine.finish_within(ms(200)).map(|_| ()));
    let error = outcome.expect_err("it cannot be done");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(error.to_string().contains("mt-publisher"), "{error}");
    let lost = "5 of 5 bytes written are in no published batch";
    assert!(error.to_string().contains(lost), "{error}");
    assert!(begin.elapsed() >= ms(200));
    assert!(input.write(b"more\n").is_err(), "the engine has stopped");
    drop(let_go);
}

#[test]
fn finish_within_is_finish_where_there_is_time() {
    let engine = Engine::builder(Rule::Lines).config(plain()).start(|_| ());
    let engine = engine.expect("it starts");
    let mut input = engine.writer().expect("there is one");
    input.write_all(b"one\ntwo\n").expect("the engine runs");
    drop(input);
    let finished = engine.finish_within(PATIENCE).expect("there is time");
    assert_eq!(finished.stats().records, 2);
    assert_eq!(finished.batch().len(), 2);
}

#[test]
fn dropping_an_engine_does_not_wait_for_ever() {
    let (mut wait, reached, let_go) = stuck();
    let engine = Engine::builder(Rule::Lines)
        .config(plain())
        .start(move |_| wait());
    let engine = engine.expect("it starts");
    engine.cut(time(1)).expect("the engine runs");
    reached.recv_timeout(PATIENCE).expect("it is put out");
    in_time("drop", move || drop(engine));
    drop(let_go);
}

#[test]
fn a_stop_of_either_kind_returns_in_time_though_an_output_does_not() {
    for how in [Stop::Graceful, Stop::Immediate] {
        let (context, clock) = context();
        let (mut wait, reached, let_go) = stuck();
        let lines = context.source_stream(Told::new(&[b"a\n"], Fill::Pending(None)));
        lines.count_by_value().for_each_batch(move |_, _| wait());
        let running = context.start().expect("it starts");
        clock.advance(ms(INTERVAL_MS));
        reached.recv_timeout(PATIENCE).expect("it is put out");
        let stopped = in_time("stop", move || running.stop_within(how, ms(400)));
        let error = stopped.expect_err("it cannot be done");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains("mt-publisher"), "{error}");
        drop(let_go);
    }
}

/// What the source delivered is counted; what it still had is not, and its name is in the error.
#[test]
fn a_source_that_drains_for_ever_is_cut_off_and_what_it_delivered_is_counted() {
    let (context, clock) = context();
    let never = Fill::Finishing(Duration::ZERO);
    let lines = context.source_stream(Told::new(&[b"a\nb\nhalf a line"], never));
    let (sender, batches) = channel();
    lines.count_by_value().for_each_batch(move |batch, _| {
        let _ = sender.send((batch.len(), batch.stats().last));
    });
    let running = context.start().expect("it starts");
    clock.advance(ms(INTERVAL_MS));
    let handle = running.stop_handle();
    let stopped = in_time("stop", move || running.stop_within(Stop::Graceful, ms(800)));
    let error = stopped.expect_err("it was cut off");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(
        error.to_string().contains("source told: still reading"),
        "{error}"
    );
    let batches: Vec<(usize, bool)> = batches.iter().collect();
    assert_eq!(batches.iter().map(|(keys, _)| keys).sum::<usize>(), 2);
    assert!(batches.last().is_some_and(|(_, last)| *last), "{batches:?}");
    assert_eq!(
        (handle.stats().records, handle.stats().truncated_records),
        (2, 1)
    );
}

/// Delivers texts, one a call, and then says the same for ever.
struct Told {
    texts: Vec<&'static [u8]>,
    then: Fill,
    owned: Option<PanicsOnDrop>,
}

impl Told {
    fn new(texts: &[&'static [u8]], then: Fill) -> Self {
        Told {
            texts: texts.iter().rev().copied().collect(),
            then,
            owned: None,
        }
    }
}

impl Source for Told {
    fn drain(&mut self) -> usize {
        1 << 20
    }

    fn fill(&mut self, out: &mut Intake<'_>, now: Duration) -> Fill {
        let _ = &self.owned;
        match self.texts.pop() {
            Some(text) => {
                assert_eq!(out.write(ChannelId::FIRST, text), text.len());
                Fill::More
            }
            None => match self.then {
                Fill::Finishing(_) => Fill::Finishing(now + ms(1)),
                Fill::End => Fill::End,
                _ => Fill::Pending(None),
            },
        }
    }

    fn name(&self) -> &str {
        "told"
    }
}

/// Waits until `f` has an answer.
fn wait_for<T>(what: &str, mut f: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = f() {
            return answer;
        }
        assert!(begin.elapsed() < PATIENCE, "{what}: not in time");
        thread::sleep(ms(1));
    }
}

fn wait_until(what: &str, mut f: impl FnMut() -> bool) {
    wait_for(what, || f().then_some(()));
}
