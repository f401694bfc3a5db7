//! Batch times: multiples of the interval, one after the other, none left out, none twice.

use std::io::{Read, Write};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::util::{expected, json_lines, microtally};

const DAY_MS: u64 = 24 * 3600 * 1000;

/// Milliseconds of the day of `2026-11-22T16:52:25.000Z`.
fn ms_of_day(object: &Value) -> u64 {
    let time = object["time"].as_str().expect("a time");
    let part = |from: usize, to: usize| time[from..to].parse::<u64>().expect("digits");
    ((part(11, 13) * 60 + part(14, 16)) * 60 + part(17, 19)) * 1000 + part(20, 23)
}

/// Checks that the batches are consecutive multiples of the interval and numbered so.
fn check_consecutive(objects: &[Value], interval_ms: u64) {
    for object in objects {
        assert_eq!(ms_of_day(object) % interval_ms, 0, "{object}");
        assert_eq!(object["interval_ms"], interval_ms);
    }
    for pair in objects.windows(2) {
        let step = (ms_of_day(&pair[1]) + DAY_MS - ms_of_day(&pair[0])) % DAY_MS;
        assert_eq!(step, interval_ms, "{} and then {}", pair[0], pair[1]);
        let number = |object: &Value| object["batch"].as_u64().expect("a number");
        assert_eq!(number(&pair[1]), number(&pair[0]) + 1);
    }
}

#[test]
fn three_batches_are_three_consecutive_multiples() {
    let args = ["words", "-", "-i", "200ms", "--batches", "3", "-o", "json"];
    let mut run = microtally(&args).stdin(Stdio::piped()).start();
    let stdin = run.stdin.take();
    let ended = run.wait().quietly();
    let objects = json_lines(&ended.stdout);
    assert_eq!(objects.len(), 3);
    check_consecutive(&objects, 200);
    drop(stdin);
}

#[test]
fn the_end_of_the_stream_ends_a_run_of_many_batches() {
    let args = ["words", "-", "-i", "8760h", "--batches", "1000"];
    let ended = microtally(&args).run_with(b"a\n").quietly();
    assert_eq!(ended.counts(), expected(&[("a", 1)]));
    assert_eq!(ended.batches().len(), 1);
}

#[test]
fn an_interval_of_a_millisecond_skips_nothing() {
    let args = ["words", "-", "-i", "1ms", "--batches", "500", "-o", "json"];
    let mut run = microtally(&args).stdin(Stdio::piped()).start();
    let stdin = run.stdin.take();
    let ended = run.wait().exits_with(0);
    let objects = json_lines(&ended.stdout);
    assert_eq!(objects.len(), 500);
    check_consecutive(&objects, 1);
    drop(stdin);
}

#[test]
fn case_56_a_process_that_was_stopped_for_a_while_skips_and_doubles_nothing() {
    let args = ["words", "-", "-i", "200ms", "-o", "json"];
    let mut run = microtally(&args).stdin(Stdio::piped()).start();
    let mut stdin = run.stdin.take().unwrap();
    stdin.write_all(b"before\n").unwrap();
    run.stdout.wait_for("\"k\":\"before\"");
    let lines = run.stdout.text().lines().count();
    run.stdout.wait_for_lines(lines + 2);
    run.signal("STOP");
    stdin.write_all(b"meanwhile\n").unwrap();
    let stopped_at = run.stdout.text().lines().count();
    thread::sleep(Duration::from_secs(2));
    run.signal("CONT");
    run.stdout.wait_for("\"k\":\"meanwhile\"");
    stdin.write_all(b"after\n").unwrap();
    run.stdout.wait_for("\"k\":\"after\"");
    run.signal("TERM");
    let ended = run.wait().exits_with(0);
    let objects = json_lines(&ended.stdout);
    check_consecutive(&objects, 200);
    // Two seconds are ten batches, whether anybody was awake or not.
    assert!(
        objects.len() >= stopped_at + 9,
        "{stopped_at} of {}",
        objects.len()
    );
    let tokens: u64 = objects.iter().map(|o| o["tokens"].as_u64().unwrap()).sum();
    assert_eq!(tokens, 3);
}

#[test]
fn case_59_results_that_nobody_reads_for_a_while_come_late_but_all_of_them() {
    let args = [
        "words",
        "-",
        "-i",
        "5ms",
        "--batches",
        "300",
        "-o",
        "json",
        "-n",
        "all",
    ];
    let program = microtally(&args).stdin(Stdio::piped()).unread_stdout();
    let mut run = program.start();
    let mut stdin = run.stdin.take().unwrap();
    let words: String = (0..20_000).map(|n| format!("word{n} ")).collect();
    stdin.write_all(words.as_bytes()).unwrap();
    stdin.write_all(b"\n").unwrap();
    // The first results are more than the pipe holds: the publisher waits while batch times pass.
    thread::sleep(Duration::from_secs(1));
    stdin.write_all(b"late\n").unwrap();
    let mut stdout = String::new();
    let mut pipe = run.stdout_pipe.take().unwrap();
    pipe.read_to_string(&mut stdout).unwrap();
    run.wait().exits_with(0);
    let objects = json_lines(&stdout);
    assert_eq!(objects.len(), 300);
    check_consecutive(&objects, 5);
    let tokens: u64 = objects.iter().map(|o| o["tokens"].as_u64().unwrap()).sum();
    assert_eq!(tokens, 20_002);
    drop(stdin);
}
