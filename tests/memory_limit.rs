//! The process stays within its memory limit: millions of distinct words, in a process of its own,
//! whose peak the kernel keeps (`VmHWM`).

#![cfg(target_os = "linux")]

use std::io::Write;

use microtally::config::OnLimit;
use microtally::time::BatchTime;
use microtally::{Config, Engine, Rule};

const MIB: usize = 1 << 20;

/// What the process took at most so far, in bytes.
fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("there is /proc");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .expect("a peak");
    let kib = line
        .split_whitespace()
        .nth(1)
        .and_then(|number| number.parse::<usize>().ok());
    kib.expect("a number of KiB") * 1024
}

/// Three million words that are all different, of all lengths, in three batches; without a limit
/// that takes some 300 MiB.
#[test]
fn case_15_the_peak_is_the_limit_and_64_mib_at_most() {
    let limit = 48 * MIB;
    for on_limit in [OnLimit::Approximate, OnLimit::Other] {
        let config = Config::default()
            .workers(2)
            .pin(false)
            .record_bytes_max(MIB);
        let config = config.memory_bytes_max(limit).on_limit(on_limit);
        let engine = Engine::builder(Rule::Split(b' '))
            .config(config)
            .start(|batch| {
                assert!(batch.stats().is_approximate() || batch.stats().last);
                // Ranking all keys is in the sum.
                assert_eq!(batch.top(usize::MAX).len(), batch.len());
            });
        let engine = engine.expect("the settings are good");
        let mut input = engine.writer().expect("there is one");
        let mut text = Vec::new();
        for number in 0..3_000_000u64 {
            // An odd multiplier: every number once, in no order.
            let word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            match number % 4 {
                0 | 1 => write!(text, "{:08x} ", word as u32),
                2 => write!(text, "{word:013x} "),
                _ => writeln!(text, "{word:040x}"),
            }
            .expect("writing to memory succeeds");
            if text.len() > 100_000 || number == 2_999_999 {
                input.write_all(&text).expect("the engine runs");
                text.clear();
            }
            if number % 1_000_000 == 999_999 {
                engine
                    .cut(BatchTime::from_millis(number))
                    .expect("the engine runs");
            }
        }
        drop(input);
        let finished = engine.finish().expect("the engine ran");
        assert_eq!(finished.stats().tokens, 3_000_000);
        let peak = peak_bytes();
        assert!(
            peak <= limit + 64 * MIB,
            "{on_limit:?}: the peak is {} MiB",
            peak / MIB
        );
    }
}
