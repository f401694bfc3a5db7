//! Several writers of one engine: clones, whole records, and calls that wait for nobody.
//!
//! Method: any sequence of calls against one definition for each writer, and an output that does
//! not return until the test lets it.

use std::io::{self, ErrorKind, Write};
use std::sync::mpsc::channel;
use std::thread;

use microtally::config::LineEnds;
use microtally::engine::Writer;
use microtally::{Config, Engine, Error, Rule};
use proptest::prelude::*;

use crate::definition::{Definition, Expected};
use crate::live::{PATIENCE, ms};
use crate::properties::{line_ends, rule, text, time};

#[derive(Clone, Debug)]
enum Call {
    Write(Vec<u8>),
    Record(Vec<u8>),
    Clone,
    Drop,
    Cut,
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        3 => text().prop_map(Call::Write),
        4 => text().prop_map(Call::Record),
        1 => Just(Call::Clone),
        1 => Just(Call::Drop),
        1 => Just(Call::Cut),
    ]
}

/// Calls `f` until it does something else than ask to be called again.
fn patiently<T>(mut f: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match f() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            outcome => return outcome,
        }
    }
}

/// A writer beside what it should do.
struct Pair {
    writer: Writer,
    definition: Definition,
}

impl Pair {
    fn new(writer: Writer, rule: Rule, line_ends: LineEnds) -> Self {
        Pair {
            writer,
            definition: Definition::with_ends(rule, line_ends),
        }
    }

    fn write(&mut self, bytes: &[u8], waits: bool) {
        let mut left = bytes;
        while !left.is_empty() {
            let written = match waits {
                true => self.writer.write(left),
                false => patiently(|| self.writer.try_write(left)),
            };
            let count = written.expect("the engine runs");
            assert!((1..=left.len()).contains(&count));
            left = &left[count..];
        }
        self.definition.push(bytes);
    }

    fn record(&mut self, record: &[u8], waits: bool) {
        let outcome = match waits {
            true => self.writer.record(record),
            false => patiently(|| self.writer.try_record(record)),
        };
        if !self.definition.is_between_lines() {
            let error = outcome.expect_err("a line has begun");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            return;
        }
        outcome.expect("the engine runs");
        self.definition.push_record(record);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn writers_come_and_go_and_every_line_is_counted_once(
        rule in rule(),
        line_ends in line_ends(),
        workers in 1usize..=2,
        writers_max in 1usize..=3,
        block_bytes in prop::sample::select(&[64usize, 100, 4096][..]),
        calls in prop::collection::vec((0usize..3, any::<bool>(), call()), 0..24),
    ) {
        let config = Config::default().workers(workers).pin(false).block_bytes(block_bytes).line_ends(line_ends);
        let (sender, batches) = channel();
        let engine = Engine::builder(rule).config(config).writers(writers_max).start(move |batch| {
            sender.send(Expected::seen(batch)).expect("it is read below");
        });
        let engine = engine.expect("it starts");
        let mut pairs = vec![Pair::new(engine.writer().expect("the first"), rule, line_ends)];
        let (mut left, mut expected) = (Expected::default(), Vec::new());
        for (index, waits, call) in calls {
            let count = pairs.len();
            match (call, count) {
                (Call::Cut, _) => {
                    engine.cut(time(expected.len())).expect("the engine runs");
                    let sum = pairs.iter_mut().map(|pair| pair.definition.cut()).sum::<Expected>();
                    expected.push(std::mem::take(&mut left).plus(sum));
                }
                (Call::Clone, 0) => {
                    pairs.push(Pair::new(engine.writer().expect("all are dropped"), rule, line_ends));
                }
                (_, 0) => (),
                (Call::Clone, _) => match pairs[index % count].writer.try_clone() {
                    Ok(writer) => pairs.push(Pair::new(writer, rule, line_ends)),
                    Err(error) => {
                        prop_assert_eq!(count, writers_max, "{}", error);
                        prop_assert_eq!(error.kind(), microtally::error::ErrorKind::InvalidCall);
                    }
                },
                (Call::Drop, _) => {
                    let mut pair = pairs.swap_remove(index % count);
                    drop(pair.writer);
                    pair.definition.end_of_stream();
                    left = left.plus(pair.definition.cut());
                }
                (Call::Write(bytes), _) => pairs[index % count].write(&bytes, waits),
                (Call::Record(bytes), _) => pairs[index % count].record(&bytes, waits),
            }
            prop_assert!(pairs.len() <= writers_max);
        }
        for pair in &mut pairs {
            pair.definition.end_of_stream();
            left = left.plus(pair.definition.cut());
        }
        engine.finish().expect("the ledger closes");
        expected.push(left);
        prop_assert_eq!(batches.iter().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_record_is_taken_whole_or_refused() {
    let config = Config::default().workers(1).pin(false).block_bytes(64);
    let engine = Engine::builder(Rule::Lines).config(config.record_bytes_max(1000));
    let engine = engine.start(|_| ()).expect("it starts");
    let mut writer = engine.writer().expect("the first");
    let error = writer.record(&[b'a'; 1001]).expect_err("it is too long");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("1001 bytes"), "{error}");
    writer.write_all(b"begun").expect("the engine runs");
    let error = writer.record(b"a").expect_err("a line is begun");
    assert!(error.to_string().contains("has no end yet"), "{error}");
    writer.write_all(b"\n").expect("the engine runs");
    for len in [0, 1, 62, 63, 64, 65, 999, 1000] {
        writer.record(&vec![b'x'; len]).expect("it is one record");
        writer.record(&vec![b'\n'; len]).expect("it is one record");
    }
    let finished = engine.finish().expect("the ledger closes");
    assert_eq!(finished.stats().records, 17);
    assert_eq!(finished.batch().get(&[b'x'; 1000]), Some(1));
    assert_eq!(finished.batch().get(&[b'\n'; 1000]), Some(1));
    assert_eq!(finished.batch().get(b""), Some(2));
    assert_eq!(finished.batch().len(), 16);
    assert_eq!(finished.stats().dropped(), 0);
}

/// One output holds up everything behind it.
#[test]
fn without_room_nothing_is_taken_and_nobody_waits() {
    let (let_go, go) = channel::<()>();
    let (sender, reached) = channel();
    let mut is_first = true;
    let config = Config::default().workers(1).pin(false).block_bytes(64);
    let engine = Engine::builder(Rule::Lines).config(config).start(move |_| {
        if std::mem::take(&mut is_first) {
            sender.send(()).expect("the test waits for it");
            // Also when the test has failed.
            let _ = go.recv();
        }
    });
    let engine = engine.expect("it starts");
    let mut writer = engine.writer().expect("the first");
    // More than a block, so that the shard has a part in both batches.
    let mut write = || {
        for _ in 0..40 {
            writer.record(b"line").expect("the engine runs");
        }
    };
    write();
    engine.cut(time(1)).expect("the engine runs");
    reached.recv_timeout(PATIENCE).expect("it is put out");
    write();
    let (engine, taken) = thread::scope(|scope| {
        // The shard has no table for what comes behind this barrier until the output returns.
        let cut = scope.spawn(move || {
            engine.cut(time(2)).expect("the engine runs");
            engine
        });
        let (mut taken, mut refused) = (80, 0);
        // Once or twice it may be because the other thread is in the engine.
        while refused < 20 {
            match writer.try_record(b"line") {
                Ok(()) => (taken, refused) = (taken + 1, 0),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                    refused += 1;
                    thread::sleep(ms(1));
                }
            }
        }
        let_go.send(()).expect("the output waits");
        (cut.join().expect("it does not panic"), taken)
    });
    drop(writer);
    let finished = engine.finish().expect("the ledger closes");
    assert_eq!(finished.stats().records, taken);
}

#[test]
fn a_writer_says_why_the_engine_has_stopped() {
    let config = Config::default().workers(1).pin(false);
    let engine = Engine::builder(Rule::Lines).config(config).start(|_| ());
    let engine = engine.expect("it starts");
    let mut writer = engine.writer().expect("the first");
    drop(engine);
    let error = writer.write(b"a").expect_err("the engine is gone");
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    let cause = error
        .get_ref()
        .and_then(|cause| cause.downcast_ref::<Error>());
    let cause = cause.expect("it holds the engine's error");
    assert_eq!(cause.to_string(), "the engine has stopped");
    assert!(writer.try_clone().is_err());
}
