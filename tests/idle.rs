//! An engine without work takes next to no processor time, in either mode.
//!
//! One test in a binary of its own: what is measured is the processor time of all threads of the
//! process. The bound is generous, a tenth of a core; a thread that spins takes ten times as much.
//!
//! Linux only: the time is read from `/proc`.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use microtally::prelude::*;
use microtally::sources::Reconnect;
use microtally::{Config, Engine, Rule};

const CORES_MAX: f64 = 0.1;

const LOOK: Duration = Duration::from_millis(1500);

/// Processor time of all threads so far, in nanoseconds: the first number of each `schedstat`.
fn processor_ns() -> u64 {
    let threads = fs::read_dir("/proc/self/task").expect("there is a /proc");
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("schedstat")).ok())
        .filter_map(|line| line.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn assert_idle(what: &str) {
    // What was begun before comes to rest: shards spin a moment, the last batch is put out.
    thread::sleep(Duration::from_millis(300));
    let (before, start) = (processor_ns(), Instant::now());
    assert!(before > 0, "the kernel accounts for processor time");
    thread::sleep(LOOK);
    let cores = processor_ns().saturating_sub(before) as f64 / start.elapsed().as_nanos() as f64;
    println!("{what}: {:.2} % of a core", cores * 100.0);
    assert!(cores < CORES_MAX, "{what}: {cores:.3} cores while idle");
}

#[test]
fn an_idle_engine_takes_no_processor_time() {
    let low_latency = Config::default().low_latency(Duration::from_micros(200));
    for (mode, config) in [("default", Config::default()), ("low latency", low_latency)] {
        engine(mode, config.clone());
        streaming_context(mode, config);
    }
}

fn engine(mode: &str, config: Config) {
    let engine = Engine::builder(Rule::Split(b' '))
        .config(config)
        .start(|_| ())
        .expect("it starts");
    let mut input = engine.writer().expect("there is one");
    let text = b"some words on a line\n".repeat(50_000);
    input.write_all(&text).expect("the engine runs");
    engine
        .cut(BatchTime::from_millis(1))
        .expect("the engine runs");
    assert_idle(&format!("Engine, {mode}"));
    drop(input);
    engine.finish().expect("the ledger closes");
}

/// Connected to a sender that is silent, with batches coming due meanwhile and a line that is not
/// complete.
fn streaming_context(mode: &str, config: Config) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let port = listener.local_addr().expect("an address").port();
    let interval = Duration::from_millis(100);
    let ssc = StreamingContext::with_config(interval, config).expect("in range");
    let lines = ssc
        .socket_text_stream_with("127.0.0.1", port, Reconnect::Never)
        .expect("an address");
    lines
        .flat_map(split(b' '))
        .count_by_value()
        .for_each_batch(|_, _| ());
    let running = ssc.start().expect("it starts");
    let (mut client, _) = listener.accept().expect("the context connects");
    client
        .write_all(b"some words\nand an unfinished")
        .expect("loopback works");
    assert_idle(&format!("StreamingContext, {mode}"));
    running.stop(Stop::Immediate).expect("no error");
}
