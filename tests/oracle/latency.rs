//! Low-latency mode has the same results as the other, on whichever thread: small batches, batches
//! of many blocks, several writers at once, and whole programs.

use std::io::Write;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use microtally::prelude::*;
use microtally::{Config, Engine, Rule};

use crate::definition::{Definition, Expected};
use crate::live::{PATIENCE, accept, one_connection};

fn low_latency(workers: usize) -> Config {
    Config::default()
        .workers(workers)
        .pin(false)
        .block_bytes(4096)
        .low_latency(Duration::from_micros(100))
}

fn text(seed: usize, lines: usize) -> Vec<u8> {
    let line = |n| format!("line {} of  {seed} w{}\n", n % 7, n % 300).into_bytes();
    (0..lines).flat_map(line).collect()
}

/// A batch within a block has been put out when `cut` returns, by the thread that cut it.
#[test]
fn a_small_batch_is_out_when_the_cut_returns() {
    let (sender, batches) = mpsc::channel();
    let engine = Engine::builder(Rule::Split(b' '))
        .config(low_latency(2))
        .start(move |batch| {
            let seen = (thread::current().id(), Expected::seen(batch));
            sender.send(seen).expect("it is read below");
        });
    let engine = engine.expect("it starts");
    let mut input = engine.writer().expect("there is one");
    // The publisher's thread looks once when it starts, and would put out what it finds then.
    thread::sleep(Duration::from_millis(100));
    for n in 0..500 {
        let text = text(n, n % 50);
        input.write_all(&text).expect("the engine runs");
        engine
            .cut(BatchTime::from_millis(n as u64))
            .expect("the engine runs");
        let (thread, seen) = batches.try_recv().expect("it is out");
        assert_eq!(thread, thread::current().id());
        assert_eq!(seen, Definition::of(&text, Rule::Split(b' ')), "batch {n}");
    }
    drop(input);
    engine.finish().expect("the ledger closes");
}

/// Shards and cutting threads meet at the desk: every batch comes out, once, in order, and no word
/// is lost.
#[test]
fn writers_cutters_and_shards_may_meet() {
    const WRITERS: usize = 3;
    let (sender, batches) = mpsc::channel();
    let engine = Engine::builder(Rule::Split(b' '))
        .config(low_latency(3))
        .writers(WRITERS)
        .interval(Duration::from_millis(1))
        .start(move |batch| {
            let seen = (batch.stats().batch, Expected::seen(batch));
            sender.send(seen).expect("it is read below");
        });
    let engine = engine.expect("it starts");
    let inputs: Vec<_> = std::iter::from_fn(|| engine.writer().ok()).collect();
    let mut expected = Expected::default();
    let writers: Vec<_> = inputs
        .into_iter()
        .enumerate()
        .map(|(seed, mut input)| {
            // From a line to many blocks.
            let texts: Vec<_> = (0..200).map(|n| text(seed, [1, 40, 2000][n % 3])).collect();
            for text in &texts {
                expected =
                    std::mem::take(&mut expected).plus(Definition::of(text, Rule::Split(b' ')));
            }
            thread::spawn(move || {
                for text in texts {
                    input.write_all(&text).expect("the engine runs");
                    input.flush().expect("the engine runs");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().expect("it ends well");
    }
    engine.finish().expect("the ledger closes");
    let got: Vec<_> = batches.iter().collect();
    let numbers: Vec<u64> = got.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=got.len() as u64).collect::<Vec<_>>());
    assert_eq!(
        got.into_iter().map(|(_, seen)| seen).sum::<Expected>(),
        expected
    );
}

/// The event loop spins, cuts every millisecond and puts out what it cut.
#[test]
fn a_program_counts_every_word_once() {
    let context = StreamingContext::with_config(Duration::from_millis(1), low_latency(1));
    let context = context.expect("in range");
    let (lines, listener) = one_connection(&context);
    let (sender, batches) = mpsc::channel();
    let counts = lines.flat_map(split(b' ')).count_by_value();
    counts.for_each_batch(move |batch, _| {
        sender
            .send(Expected::seen(batch))
            .expect("it is read below");
    });
    let running = context.start().expect("it starts");
    let mut client = accept(listener);
    let text = text(1, 30_000);
    for (n, piece) in text.chunks(10_007).enumerate() {
        client.write_all(piece).expect("loopback works");
        if n % 4 == 0 {
            thread::sleep(Duration::from_millis(2));
        }
    }
    drop(client);
    let in_time = running.await_termination_or_timeout(PATIENCE);
    assert!(in_time.expect("nothing fails"));
    assert_eq!(
        batches.iter().sum::<Expected>(),
        Definition::of(&text, Rule::Split(b' '))
    );
}

/// The last batch of a stopped run is put out too, and the outputs are dropped with the run.
#[test]
fn a_stop_ends_it_all() {
    for how in [Stop::Graceful, Stop::Immediate] {
        let context = StreamingContext::with_config(Duration::from_millis(1), low_latency(2));
        let context = context.expect("in range");
        let (lines, listener) = one_connection(&context);
        let (sender, batches) = mpsc::channel();
        lines.count_by_value().for_each_batch(move |batch, _| {
            sender
                .send(batch.stats().records)
                .expect("it is read below");
        });
        let running = context.start().expect("it starts");
        let mut client = accept(listener);
        client.write_all(b"one\ntwo\n").expect("loopback works");
        let mut records = 0;
        while records < 2 {
            records += batches.recv_timeout(PATIENCE).expect("batches come");
        }
        let stats = running.stop(how).expect("nothing failed");
        assert_eq!(batches.iter().sum::<u64>(), 0);
        assert_eq!(stats.records, 2);
    }
}

/// An output may end the run it is part of by dropping the handle, on whichever thread it is
/// called.
#[test]
fn dropping_the_handle_inside_an_output_ends_the_run() {
    let plain = Config::default().workers(2).pin(false);
    for config in [plain, low_latency(2)] {
        let ssc = StreamingContext::with_config(Duration::from_millis(10), config);
        let ssc = ssc.expect("it is made");
        let handle = Arc::new(Mutex::new(None::<RunningContext>));
        let (sender, dropped) = mpsc::channel();
        let (lines, listener) = one_connection(&ssc);
        let words = lines.flat_map(split(b' '));
        let in_output = Arc::clone(&handle);
        words.count_by_value().for_each_batch(move |_, _| {
            if let Some(running) = in_output.lock().expect("nobody panicked").take() {
                drop(running);
                // Nobody listens when a later batch comes.
                let _ = sender.send(());
            }
        });
        let running = ssc.start().expect("it starts");
        let mut client = accept(listener);
        *handle.lock().expect("nobody panicked") = Some(running);
        client.write_all(b"to be or not\n").expect("it reads");
        let outcome = dropped.recv_timeout(PATIENCE);
        outcome.expect("the output comes back from dropping the handle");
    }
}
