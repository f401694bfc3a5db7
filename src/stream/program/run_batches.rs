//! `run_batches` and `run_lines`: programs over given input, for tests and examples.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::config::Config;
use crate::error::{Result, lock};
use crate::shard::stage::LineRecords;
use crate::source::lines;
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::context::StreamingContext;
use crate::stream::program::dstream::DStream;
use crate::stream::program::queue_stream::RddQueue;
use crate::stream::program::rdd_stream::RddStream;
use crate::time::Clock;

/// Runs a program over given batches, and returns the batches of the stream that it makes.
///
/// It is for tests of custom operators: a whole context runs, threads included, with one batch a
/// second of a clock that does not wait. Batches for which that stream produced nothing are left
/// out.
///
/// ```
/// use microtally::stream::run_batches;
/// let sums = run_batches([vec![1, 2], vec![3]], |numbers| Ok(numbers.reduce(|a, b| a + b)))?;
/// assert_eq!(sums, [[3], [3]]);
/// # Ok::<(), microtally::Error>(())
/// ```
///
/// # Errors
///
/// The program's error, or the first error of the run.
pub fn run_batches<T: Record, U: Record + Clone, B: Into<Rdd<T>>>(
    batches: impl IntoIterator<Item = B>,
    program: impl FnOnce(RddStream<T>) -> Result<RddStream<U>>,
) -> Result<Vec<Vec<U>>> {
    let queue: RddQueue<T> = batches.into_iter().collect();
    let count = queue.len() as u64;
    if count == 0 {
        return Ok(Vec::new());
    }
    let ssc = StreamingContext::new(Duration::from_secs(1))?;
    let clock = Clock::manual(Duration::ZERO);
    ssc.set_clock(clock.clone());
    ssc.stop_after(count)?;
    let made = collect(&program(ssc.queue_stream(&queue, true, None))?);
    let running = ssc.start()?;
    clock.advance(Duration::from_secs(count));
    running.await_termination()?;
    Ok(std::mem::take(&mut lock(&made)))
}

/// Runs a program over the lines of a text, as one batch, and returns the records of the stream
/// that it makes.
///
/// As [`run_batches`], it is for tests of custom operators and runs a whole context.
///
/// ```
/// use microtally::stream::run_lines;
/// let top = run_lines("to be or\nnot to be", |lines| {
///     Ok(lines.split(b' ').count_by_value().top(2))
/// })?;
/// assert_eq!(top, [("be".into(), 2), ("to".into(), 2)]);
/// # Ok::<(), microtally::Error>(())
/// ```
///
/// # Errors
///
/// The program's error, or the first error of the run.
pub fn run_lines<U: Record + Clone>(
    text: impl Into<Vec<u8>>,
    program: impl FnOnce(DStream<LineRecords>) -> Result<RddStream<U>>,
) -> Result<Vec<U>> {
    let ssc = StreamingContext::one_batch(Config::default())?;
    let made = collect(&program(ssc.source_stream(lines::Lines::of(text)))?);
    ssc.start()?.await_termination()?;
    Ok(std::mem::take(&mut *lock(&made)).concat())
}

/// The batches of `stream`, once the context has run.
fn collect<U: Record + Clone>(stream: &RddStream<U>) -> Arc<Mutex<Vec<Vec<U>>>> {
    let made = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&made);
    stream.for_each_batch(move |rdd, _| lock(&collected).push(rdd.to_vec()));
    made
}
