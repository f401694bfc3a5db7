//! Whole programs over given batches, and what comes out of them.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use microtally::engine::RunStats;
use microtally::error::Result;
use microtally::stream::{Dialect, Rdd, RddStream, Record, Reduced};
use microtally::time::Clock;
use microtally::{Config, Stop, StreamingContext};
use proptest::prelude::*;

/// How long anything may take before a test fails: far more than it ever needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The batch at index i has the time (i + 1) * interval.
pub(crate) const INTERVAL_MS: u64 = 1000;

/// A key and a value, as most streams here have them.
pub(crate) type Pair = (u8, i64);

/// What comes in; `None` is no batch at all.
pub(crate) type Batches<T> = Vec<Option<Rdd<T>>>;

/// What came out, by the number of the batch, from 1.
pub(crate) type Seen<T> = Vec<(usize, Vec<T>)>;

pub(crate) fn seconds(count: usize) -> Duration {
    Duration::from_secs(count as u64)
}

pub(crate) fn dialects() -> impl Strategy<Value = Dialect> {
    prop_oneof![Just(Dialect::Scala), Just(Dialect::PySpark)]
}

/// Batches of records, in up to three partitions or none.
pub(crate) fn batches<T: Record + std::fmt::Debug>(
    record: impl Strategy<Value = T> + Clone + 'static,
) -> impl Strategy<Value = Vec<Rdd<T>>> {
    let records = || proptest::collection::vec(record.clone(), 0..7);
    let batch = prop_oneof![
        8 => (records(), 1usize..4).prop_map(|(records, count)| Rdd::split_into(records, count)),
        1 => Just(()).prop_map(|()| Rdd::empty()),
    ];
    proptest::collection::vec(batch, 1..14)
}

/// As [`batches`], some of which are not there.
pub(crate) fn batches_with_gaps<T: Record + std::fmt::Debug>(
    record: impl Strategy<Value = T> + Clone + 'static,
) -> impl Strategy<Value = Batches<T>> {
    let is_there = proptest::collection::vec(proptest::bool::weighted(0.8), 14);
    (batches(record), is_there).prop_map(|(batches, is_there)| {
        let pairs = batches.into_iter().zip(is_there);
        pairs
            .map(|(rdd, is_there)| is_there.then_some(rdd))
            .collect()
    })
}

/// A stream of these batches, then of none.
pub(crate) fn input<T: Record>(
    context: &StreamingContext,
    batches: &[Option<Rdd<T>>],
) -> RddStream<T> {
    let batches = batches.to_vec();
    let mut batches = batches.into_iter();
    context.batch_stream(move |_| batches.next().flatten())
}

/// Runs a program for as many batches. The first error comes out when all of them were made.
pub(crate) fn run<R>(
    dialect: Dialect,
    batch_count: usize,
    program: impl FnOnce(&StreamingContext) -> R,
) -> (R, Result<RunStats>) {
    run_on(1, dialect, batch_count, program)
}

/// As [`run`], with this many counting threads.
pub(crate) fn run_on<R>(
    workers: usize,
    dialect: Dialect,
    batch_count: usize,
    program: impl FnOnce(&StreamingContext) -> R,
) -> (R, Result<RunStats>) {
    let config = Config::default().workers(workers);
    let config = config.pin(false).block_bytes(4096);
    let interval = Duration::from_millis(INTERVAL_MS);
    let context = StreamingContext::with_config(interval, config).expect("in range");
    let clock = Clock::manual(Duration::ZERO);
    context.set_clock(clock.clone());
    context.set_dialect(dialect);
    let watched = program(&context);
    let (tick, ticks) = mpsc::channel();
    let ticking = context.batch_stream(move |_| {
        // The test may have given up.
        let _ = tick.send(());
        None::<Rdd<()>>
    });
    ticking.for_each_batch(|_, _| ());
    let count = batch_count as u64;
    context.stop_after(count).expect("at least one batch");
    let running = context.start().expect("it starts");
    clock.advance(seconds(batch_count));
    for _ in 0..batch_count {
        ticks.recv_timeout(PATIENCE).expect("every batch is made");
    }
    (watched, running.stop(Stop::Graceful))
}

/// As [`run`], where nothing fails.
pub(crate) fn run_well<R>(
    dialect: Dialect,
    batch_count: usize,
    program: impl FnOnce(&StreamingContext) -> R,
) -> R {
    let (watched, ran) = run(dialect, batch_count, program);
    ran.expect("nothing fails");
    watched
}

/// The batches of a stream as they are put out.
pub(crate) struct Watched<T>(Kept<T>);

type Kept<T> = Arc<Mutex<Seen<T>>>;

impl<T: Record + Clone> Watched<T> {
    pub(crate) fn of(stream: &RddStream<T>) -> Self {
        let seen: Kept<T> = Arc::default();
        let into = Arc::clone(&seen);
        stream.for_each_batch(move |rdd, time| {
            let number = time.as_millis() / INTERVAL_MS;
            let mut into = into.lock().expect("no panic");
            into.push((number as usize, rdd.to_vec()));
        });
        Watched(seen)
    }

    /// Everything that came out, in its order.
    pub(crate) fn seen(&self) -> Seen<T> {
        self.0.lock().expect("no panic").clone()
    }
}

impl<T: Record + Clone + Ord> Watched<T> {
    /// Everything that came out, each batch sorted.
    pub(crate) fn sorted(&self) -> Seen<T> {
        sorted(self.seen())
    }
}

impl<V: Copy + Record> Watched<(Vec<u8>, V)> {
    /// The tables of a stream of them.
    pub(crate) fn of_tables(tables: &Reduced<V>) -> Self {
        let seen: Kept<(Vec<u8>, V)> = Arc::default();
        let into = Arc::clone(&seen);
        tables.for_each_batch(move |batch, time| {
            let number = time.as_millis() / INTERVAL_MS;
            let rows = batch.iter().map(|(key, value)| (key.to_vec(), value));
            let mut into = into.lock().expect("no panic");
            into.push((number as usize, rows.collect()));
        });
        Watched(seen)
    }
}

pub(crate) fn sorted<T: Ord>(mut seen: Seen<T>) -> Seen<T> {
    seen.iter_mut().for_each(|(_, records)| records.sort());
    seen
}

/// The batches of an operator that looks at one batch at a time.
pub(crate) fn each<T, U>(batches: &[Option<Rdd<T>>], f: impl Fn(&Rdd<T>) -> Vec<U>) -> Seen<U> {
    let batches = batches.iter().enumerate();
    batches
        .filter_map(|(index, rdd)| Some((index + 1, f(rdd.as_ref()?))))
        .collect()
}
