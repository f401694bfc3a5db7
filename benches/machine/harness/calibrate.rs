//! Limits of the machine, so that a figure can be compared with a limit and not only with another
//! program.
//!
//! Promise: each calibrator does one thing that no optimiser removes, and takes some tens of
//! milliseconds.
//! Must not know: corpora.

use std::hint::black_box;

use microtally::error::Result;

use super::clock::{timed, timed_both};
use super::figures::{Figures, three_digits};
use super::loopback;

/// Largest ratio of the times of an addition in two rounds on a quiet machine.
const ADDITION_SPREAD_MAX: f64 = 1.1;

/// The calibrators and their memory.
pub(super) struct Calibrators {
    steps: u64,
    from: Vec<u8>,
    to: Vec<u8>,
}

/// One round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// Nanoseconds of one addition that waits for the one before: one cycle on most processors.
    pub(super) addition_ns: f64,
    /// Copying within memory, bytes copied.
    pub(super) copy_gb_per_s: f64,
    /// Receiving over loopback, the sender on another core if there is one.
    pub(super) discard_gb_per_s: f64,
    /// How much more arithmetic two threads do than one: what no counting on two threads can
    /// exceed.
    pub(super) two_threads: f64,
}

/// Several rounds.
#[derive(Clone, Debug, Default)]
pub(super) struct Readings {
    pub(super) addition_ns: Figures,
    pub(super) copy_gb_per_s: Figures,
    pub(super) discard_gb_per_s: Figures,
    pub(super) two_threads: Figures,
}

impl Calibrators {
    /// Returns calibrators; with `quick` they take a hundredth of the time and mean little.
    pub(super) fn new(quick: bool) -> Self {
        let (steps, copy_bytes) = if quick {
            (100_000, 1 << 20)
        } else {
            (10_000_000, 64_000_000)
        };
        Calibrators {
            steps,
            // Not zeros, whose pages might all be one page.
            from: vec![1; copy_bytes],
            to: vec![2; copy_bytes],
        }
    }

    /// Runs each once.
    pub(super) fn read(&mut self) -> Result<Reading> {
        let steps = self.steps;
        let ((), chain_s) = timed(|| chain(steps));
        let ((), copy_s) =
            timed(|| black_box(&mut self.to[..]).copy_from_slice(black_box(&self.from)));
        let ((), one_s) = timed(|| arithmetic(steps));
        let (_, both_s) = timed_both(|| arithmetic(steps), || arithmetic(steps));
        let discard_s = loopback::discard(&self.from, 1)?;
        let gigabytes = self.from.len() as f64 / 1e9;
        Ok(Reading {
            // Each step is two operations.
            addition_ns: chain_s * 1e9 / (2 * steps) as f64,
            copy_gb_per_s: gigabytes / copy_s,
            discard_gb_per_s: gigabytes / discard_s,
            two_threads: 2.0 * one_s / both_s,
        })
    }
}

impl Readings {
    pub(super) fn push(&mut self, reading: Reading) {
        self.addition_ns.push(reading.addition_ns);
        self.copy_gb_per_s.push(reading.copy_gb_per_s);
        self.discard_gb_per_s.push(reading.discard_gb_per_s);
        self.two_threads.push(reading.two_threads);
    }

    /// Returns a warning if the machine was busy: an addition takes the same time in every round
    /// unless the clock rate changes or others use the core.
    pub(super) fn warning(&self) -> Option<String> {
        let spread = self.addition_ns.spread();
        (spread > ADDITION_SPREAD_MAX).then(|| {
            format!(
                "**The machine was not quiet**: an addition took up to {} times as long as at best. Rates \
                 are too low, and ratios are better than rates.",
                three_digits(spread)
            )
        })
    }

    /// Returns the rows of the table: name, figures, note.
    pub(super) fn rows(&self) -> [(&'static str, String, String); 4] {
        let gigahertz = 1.0 / self.addition_ns.median();
        [
            (
                "an addition that waits for the one before",
                self.addition_ns.cell(" ns"),
                format!("{gigahertz:.2} GHz if it takes a cycle"),
            ),
            (
                "copying within memory, one thread",
                self.copy_gb_per_s.cell(" GB/s"),
                "bytes copied; each is read and written".to_owned(),
            ),
            (
                "receiving over loopback and discarding",
                self.discard_gb_per_s.cell(" GB/s"),
                "no counting over TCP can be faster".to_owned(),
            ),
            (
                "arithmetic on two threads against one",
                self.two_threads.cell("x"),
                "no counting on two threads can gain more".to_owned(),
            ),
        ]
    }
}

/// Additions and exclusive-ors in turns, each of which needs the result of the one before. The
/// compiler would replace additions alone by one multiplication.
fn chain(steps: u64) {
    let (added, mixed) = (black_box(0x9e37_79b9_u64), black_box(0x7f4a_7c15_u64));
    let mut value = black_box(1u64);
    for _ in 0..steps {
        value = value.wrapping_add(added) ^ mixed;
    }
    black_box(value);
}

/// Eight independent rows of shifts and exclusive-ors: they keep every unit for integers busy, so
/// that two threads which share a core's units gain little, and two cores gain all.
fn arithmetic(steps: u64) {
    let mut rows = black_box([1u64, 2, 3, 4, 5, 6, 7, 8]);
    for _ in 0..steps {
        for row in &mut rows {
            *row ^= *row << 13;
            *row ^= *row >> 7;
            *row ^= *row << 17;
        }
    }
    black_box(rows);
}
