//! The metrics of a run: they add up to its batches, they only grow, and reading them waits for
//! nobody.
//!
//! Method: an engine under load, snapshots meanwhile on another thread, and at the end every total
//! against the sums over the batches.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use microtally::metrics::{MetricKind, SampleValue, Snapshot};
use microtally::prelude::*;
use microtally::sink::{Sink, Undelivered};
use microtally::sources::Lines;
use microtally::{Config, Engine, Error, Rule};

use crate::live::PATIENCE;

fn small() -> Config {
    Config::default().workers(2).pin(false).block_bytes(4096)
}

/// Every counter, and the count of every histogram.
fn counters(metrics: &Snapshot) -> BTreeMap<(&'static str, String), u128> {
    let samples = metrics.samples();
    let counters = samples.filter(|sample| sample.family.kind != MetricKind::Gauge);
    counters
        .map(|sample| {
            let value = match sample.value {
                SampleValue::Number(number) => u128::from(number),
                SampleValue::Time(time) => time.as_nanos(),
                SampleValue::Histogram(histogram) => u128::from(histogram.count()),
                _ => unreachable!("there are no others"),
            };
            ((sample.family.name, sample.label.to_owned()), value)
        })
        .collect()
}

#[test]
fn totals_are_the_sums_over_the_batches_and_only_grow_meanwhile() {
    const BATCHES: u64 = 60;
    for config in [small(), small().low_latency(Duration::ZERO)] {
        let batches = Arc::<Mutex<Vec<_>>>::default();
        let seen = Arc::clone(&batches);
        let builder = Engine::builder(Rule::Split(b' ')).config(config);
        let engine = builder.start(move |batch| seen.lock().unwrap().push(*batch.stats()));
        let engine = engine.expect("it starts");
        let mut writer = engine.writer().expect("there is one");
        let is_written = std::sync::atomic::AtomicBool::new(false);
        let mut written = 0;
        thread::scope(|scope| {
            let (engine, is_written) = (&engine, &is_written);
            let reader = scope.spawn(move || {
                let (mut before, mut snapshots) = (counters(&engine.metrics()), 0);
                while !is_written.load(std::sync::atomic::Ordering::Relaxed) {
                    let now = counters(&engine.metrics());
                    for (name, value) in &now {
                        assert!(*value >= before[name], "{name:?} went back to {value}");
                    }
                    (before, snapshots) = (now, snapshots + 1);
                }
                snapshots
            });
            for number in 1..=BATCHES {
                for line in 0..number * 20 {
                    let text = format!("the number {line} of {number}\n");
                    writer.write_all(text.as_bytes()).expect("it runs");
                    written += text.len() as u64;
                }
                let time = BatchTime::from_millis(number);
                engine.cut(time).expect("it runs");
            }
            is_written.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(reader.join().expect("nothing went back") > 10);
        });
        writer.write_all(b"last words").expect("it runs");
        written += 10;
        drop(writer);
        let finished = engine.finish().expect("the ledger closes");
        let metrics = finished.metrics();
        let batches = batches.lock().unwrap();
        let sum = |of: fn(&microtally::batch::BatchStats) -> u64| batches.iter().map(of).sum();
        let (records, tokens): (u64, u64) = (sum(|it| it.records), sum(|it| it.tokens));
        for (name, expected) in [
            ("engine_batches_total", BATCHES + 1),
            ("engine_records_total", records),
            ("shard_records_total", records),
            ("engine_tokens_total", tokens),
            ("engine_bytes_total", sum(|it| it.bytes)),
            ("source_bytes_total", written),
            // The engine has ended the last line.
            ("shard_bytes_total", written + 1),
            ("table_keys", finished.batch().len() as u64),
            ("intake_held_bytes", 0),
            ("engine_failed_batches_total", 0),
        ] {
            assert_eq!(metrics.total(name), Some(expected), "{name}");
        }
        assert_eq!(metrics.get("source_bytes_total", "writers"), Some(written));
        assert!(metrics.total("shard_blocks_total") > Some(BATCHES));
        assert!(metrics.total("shard_busy_seconds_total") > Some(0));
        assert!(metrics.total("table_bytes") > Some(0));
        for name in [
            "publisher_merge_seconds",
            "sink_emit_seconds",
            "batch_delay_seconds",
        ] {
            let histogram = metrics.histogram(name).expect("it is one");
            assert_eq!(histogram.count(), BATCHES + 1, "{name}");
        }
        assert_eq!(finished.stats().tokens, tokens);
    }
}

#[test]
fn back_pressure_is_counted_while_nothing_moves() {
    let (go_on, gate) = mpsc::channel::<()>();
    let engine = Engine::builder(Rule::Lines)
        .config(small())
        .start(move |_| {
            // Until the test has seen enough: then there is nobody to wait for.
            let _ = gate.recv();
        });
    let engine = engine.expect("it starts");
    let mut writer = engine.writer().expect("there is one");
    let writing = thread::spawn(move || {
        // Until the engine is finished.
        while writer
            .write_all(&b"a line like any other\n".repeat(100))
            .is_ok()
        {}
    });
    thread::scope(|scope| {
        let engine = &engine;
        scope.spawn(move || {
            for number in 1..=3 {
                engine.cut(BatchTime::from_millis(number)).expect("it runs");
            }
        });
        let start = Instant::now();
        while engine.metrics().total("ring_full_total") == Some(0) {
            assert!(start.elapsed() < PATIENCE, "{:?}", engine.metrics());
            thread::sleep(Duration::from_millis(1));
        }
        drop(go_on);
    });
    engine.finish().expect("the ledger closes");
    writing.join().expect("it ends");
}

#[test]
fn a_run_has_its_sources_its_limit_and_its_failures_by_name() {
    let config = Config::default().workers(1).pin(false);
    let config = config.memory_bytes_max(64 << 20).record_bytes_max(1024);
    let ssc = StreamingContext::one_batch(config).expect("in range");
    let long = "x".repeat(2000);
    let lines = ssc.source_stream(Lines::of(format!("one\ntwo {long}\n")));
    let counts = lines.map(|line| (line, 1u64)).reduce_by_key(|a, b| a + b);
    counts.for_each_batch(|_, _| panic!("no room on the screen"));
    let others = ssc.source_stream(Lines::of("three\n"));
    let failing = others.map(|line: &[u8]| {
        assert!(line.is_empty(), "only empty lines");
        (line, 1u64)
    });
    failing
        .reduce_by_key(|a, b| a + b)
        .for_each_batch(|_, _| ());
    let running = ssc.start().expect("it starts");
    let handle = running.stop_handle();
    running.await_termination().expect_err("functions panicked");
    running
        .stop(Stop::Graceful)
        .expect_err("functions panicked");
    let metrics = handle.metrics();
    for (name, expected) in [
        ("engine_batches_total", 1),
        ("engine_failed_batches_total", 1),
        ("engine_records_total", 3),
        ("intake_oversize_tokens_total", 1),
        ("memory_limit_bytes", 64 << 20),
    ] {
        assert_eq!(metrics.total(name), Some(expected), "{name}");
    }
    assert_eq!(metrics.get("notices_total", "oversize"), Some(1));
    let mut page = Vec::new();
    metrics.write_prometheus(&mut page).expect("a Vec takes it");
    let page = String::from_utf8(page).expect("it is text");
    let line = "microtally_notices_total{kind=\"oversize\"} 1\n";
    assert!(page.contains(line), "{page}");
}

/// Asks for a retry once, in the first batch.
struct OnceBusy(bool);

impl Sink<u64> for OnceBusy {
    fn deliver(&mut self, _batch: &Batch<'_, u64>) -> Result<(), Undelivered> {
        match std::mem::replace(&mut self.0, true) {
            true => Ok(()),
            false => Err(Undelivered::Retry {
                after: Duration::from_millis(1),
                cause: Error::output("db", &std::io::Error::other("busy")),
            }),
        }
    }
}

#[test]
fn pipelines_and_outputs_have_their_names() {
    let ssc = StreamingContext::one_batch(Config::default().workers(1)).expect("in range");
    let lines = ssc.source_stream(Lines::of("a b\na c\n"));
    let words = lines.split(b' ').count_by_value().named("\"words\"");
    words.output(OnceBusy(false));
    (words.output_on_thread("db", OnceBusy(false), 1)).expect("in range");
    lines.count_by_value().pairs().for_each_batch(|_, _| ());
    let running = ssc.start().expect("it starts");
    let handle = running.stop_handle();
    running.await_termination().expect("nothing is fatal");
    let metrics = handle.metrics();
    for (name, label, expected) in [
        ("table_keys", "\"words\"", 3),
        ("table_keys", "count_by_value", 2),
        ("sink_batches_total", "output", 1),
        ("sink_retries_total", "output", 1),
        ("sink_batches_total", "db", 1),
        ("sink_retries_total", "db", 1),
        ("sink_batches_total", "for_each_batch", 1),
        ("sink_retries_total", "for_each_batch", 0),
    ] {
        assert_eq!(metrics.get(name, label), Some(expected), "{name} {label}");
    }
    let times = metrics
        .histogram("sink_deliver_seconds")
        .expect("it is one");
    assert_eq!(times.count(), 5);
    let mut page = Vec::new();
    metrics.write_prometheus(&mut page).expect("a Vec takes it");
    let page = String::from_utf8(page).expect("it is text");
    for line in [
        r#"microtally_table_keys{pipeline="\"words\""} 3"#,
        r#"microtally_sink_deliver_seconds_count{sink="db"} 2"#,
    ] {
        assert!(page.lines().any(|it| it == line), "{line} in {page}");
    }
}

#[test]
fn the_pipelines_of_an_engine_have_their_names() {
    let builder = Engine::pipelines(|lines| {
        let words = lines.split(b' ').count_by_value();
        (words, lines.count_by_value().named("lines"))
    });
    let engine = builder.start(|_| ()).expect("it starts");
    let mut writer = engine.writer().expect("there is one");
    writer.write_all(b"a b\na c\n").expect("it runs");
    drop(writer);
    let finished = engine.finish().expect("the ledger closes");
    let keys = |name| finished.metrics().get("table_keys", name);
    assert_eq!((keys("count_by_value"), keys("lines")), (Some(3), Some(2)));
}
