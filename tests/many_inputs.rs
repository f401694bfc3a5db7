//! Inputs that are silent take no memory: in a process of its own, of whose memory the kernel keeps
//! account.

#![cfg(target_os = "linux")]

use std::io::Write;

use microtally::time::BatchTime;
use microtally::{Config, Engine, Rule};

/// Memory that the process has, in bytes.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("there is /proc");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
    kib.expect("a number of KiB") * 1024
}

#[test]
fn a_thousand_silent_inputs_take_little_and_all_of_them_may_speak() {
    let before = resident_bytes();
    let engine = Engine::builder(Rule::Split(b' '))
        .config(Config::default().workers(1).pin(false))
        .writers(1024)
        .start(|_| ());
    let engine = engine.expect("the settings are good");
    let mut inputs: Vec<_> = std::iter::from_fn(|| engine.writer().ok()).collect();
    assert_eq!(inputs.len(), 1024);
    inputs[1000].write_all(b"one\n").expect("the engine runs");
    engine
        .cut(BatchTime::from_millis(1))
        .expect("the engine runs");
    let taken = resident_bytes() - before;
    assert!(taken < 32 << 20, "{} MiB", taken >> 20);
    // Each needs a block at the same time.
    for input in &mut inputs {
        input.write_all(b"half a ").expect("the engine runs");
    }
    for input in &mut inputs {
        input.write_all(b"line\n").expect("the engine runs");
    }
    drop(inputs);
    let finished = engine.finish().expect("the engine ran");
    assert_eq!(finished.stats().tokens, 3 * 1024 + 1);
}
