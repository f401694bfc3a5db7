//! Whole programs under a clock that the test moves.

use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use microtally::engine::RunStats;
use microtally::error::Result;
use microtally::stream::{Rdd, RddStream, Record};
use microtally::time::Clock;
use microtally::{Config, Stop, StreamingContext};

use crate::cases::{Case, Records};

/// How long anything may take before a test fails: far more than it ever needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The clock's time in milliseconds.
pub(crate) fn now_ms(clock: &Clock) -> u64 {
    u64::try_from(clock.now().as_millis()).expect("early")
}

/// A context as the case wants it, its clock at 0, so that batch i has the time (i + 1) * interval.
pub(crate) fn context(case: &Case) -> (StreamingContext, Clock) {
    let config = Config::default().workers(1).pin(false).block_bytes(4096);
    let context = StreamingContext::with_config(ms(case.batch_ms()), config).expect("in range");
    let clock = Clock::manual(Duration::ZERO);
    context.set_clock(clock.clone());
    context.set_dialect(case.dialect());
    (context, clock)
}

/// A stream of these batches, cut into as many partitions, then of empty ones.
pub(crate) fn input(
    context: &StreamingContext,
    batches: Vec<Option<Records>>,
    partition_count: usize,
) -> RddStream<serde_json::Value> {
    let mut batches = batches.into_iter();
    context.batch_stream(move |_| {
        let records = batches.next().unwrap_or_else(|| Some(Records::new()))?;
        Some(Rdd::split_into(records, partition_count))
    })
}

/// The batches of a stream as they are put out.
pub(crate) fn watch<T: Record + Clone>(stream: &RddStream<T>) -> Receiver<Vec<T>> {
    let (sender, batches) = mpsc::channel();
    stream.for_each_batch(move |rdd, _| {
        // A test that has seen enough does not listen any more.
        let _ = sender.send(rdd.to_vec());
    });
    batches
}

/// Runs exactly that many batches. The first error comes out when all of them were made.
pub(crate) fn run(
    context: StreamingContext,
    clock: &Clock,
    case: &Case,
    batches: usize,
) -> Result<RunStats> {
    let count = u64::try_from(batches).expect("not many");
    context.stop_after(count)?;
    let (tick, ticks) = mpsc::channel();
    let ticking = context.batch_stream(move |_| {
        // The test may have given up.
        let _ = tick.send(());
        None::<Rdd<()>>
    });
    ticking.for_each_batch(|_, _| ());
    let running = context.start()?;
    clock.advance(ms(case.batch_ms() * count));
    for _ in 0..count {
        ticks.recv_timeout(PATIENCE).expect("every batch is made");
    }
    running.stop(Stop::Graceful)
}
