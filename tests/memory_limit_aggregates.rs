//! The process stays within its memory limit also where states are in a slab beside the tables: in a
//! process of its own, whose peak the kernel keeps (`VmHWM`).

#![cfg(target_os = "linux")]

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use microtally::aggregate::{Count, Distinct, Percentile};
use microtally::sources::Files;
use microtally::{Config, StreamingContext};

const MIB: usize = 1 << 20;

/// What the process took at most so far, in bytes.
fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("there is /proc");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
    kib.expect("a number of KiB") * 1024
}

/// Two million values of 300,000 keys, some of which have thousands: more sketches and sets than
/// there is memory for.
#[test]
fn percentiles_and_sets_take_the_memory_there_may_be_and_no_more() {
    const LINES: u64 = 2_000_000;
    let limit = 160 * MIB;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("lines");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).expect("a file"));
    for number in 0..LINES {
        // An odd multiplier: every number once, in no order.
        let word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let keys = if number % 2 == 0 { 500 } else { 300_000 };
        writeln!(file, "{:016x} {}", (word >> 32) % keys, word % 1_000_003).expect("there is room");
    }
    drop(file.into_inner().expect("there is room"));
    let config = Config::default()
        .workers(2)
        .pin(false)
        .record_bytes_max(MIB);
    let config = config.memory_bytes_max(limit);
    let ssc =
        StreamingContext::with_config(Duration::from_secs(3600), config).expect("good settings");
    let lines = ssc.files_stream(Files::open([&path]).expect("it is there"));
    let values = lines.map(|line| {
        let digits = std::str::from_utf8(&line[17..]).expect("digits");
        (&line[..16], digits.parse::<u64>().expect("a number"))
    });
    let aggregates = (Count, Percentile::new(99.0), Distinct::new());
    let results = values.aggregate_by_key(aggregates).results();
    let counted = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&counted);
    results.for_each_batch(move |batch, _| {
        // Ranking all keys is in the sum.
        let top = batch.top(usize::MAX);
        let counts: u64 = top.iter().map(|(_, (count, ..))| count).sum();
        assert_eq!(counts + batch.stats().other_records, LINES);
        assert!(batch.stats().other_records > 0);
        seen.store(counts, Ordering::Relaxed);
    });
    let running = ssc.start_files().expect("there is memory");
    running.await_termination().expect("nothing fails");
    let (peak, counted) = (peak_bytes(), counted.load(Ordering::Relaxed));
    assert!(peak <= limit + 64 * MIB, "the peak is {} MiB", peak / MIB);
    assert!(counted > LINES / 10, "{counted} records are little");
}
