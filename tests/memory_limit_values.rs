//! The process stays within its memory limit also where values are reduced, whose tables share the
//! memory: in a process of its own, whose peak the kernel keeps (`VmHWM`).

#![cfg(target_os = "linux")]

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

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

/// Three million lines that are all different, of all lengths; their keys take most of the memory,
/// and no more.
#[test]
fn sums_take_the_memory_there_may_be_and_no_more() {
    let limit = 160 * MIB;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("lines");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).expect("a file"));
    for number in 0..3_000_000u64 {
        // An odd multiplier: every number once, in no order.
        let word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        match number % 4 {
            0 | 1 => writeln!(file, "{:08x}", word as u32),
            2 => writeln!(file, "{word:013x}"),
            _ => writeln!(file, "{word:040x}"),
        }
        .expect("there is room");
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
    let sums = lines.map(|line| (line, (line.len() as u64, 1u64)));
    let sums = sums.reduce_by_key(|a, b| (a.0 + b.0, a.1 + b.1));
    let keys = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&keys);
    sums.for_each_batch(move |batch, _| {
        assert!(batch.stats().other_records > 0);
        // Ranking all keys is in the sum.
        assert_eq!(batch.top(usize::MAX).len(), batch.len());
        seen.store(batch.len(), Ordering::Relaxed);
    });
    let running = ssc.start_files().expect("there is memory");
    running.await_termination().expect("nothing fails");
    let (peak, keys) = (peak_bytes(), keys.load(Ordering::Relaxed));
    assert!(peak <= limit + 64 * MIB, "the peak is {} MiB", peak / MIB);
    assert!(
        keys > 300_000,
        "{keys} keys are little for {} MiB",
        limit / MIB
    );
}
