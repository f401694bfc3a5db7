//! `run_batches`: a program over given batches, for tests and examples.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::error::{Result, lock};
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::context::StreamingContext;
use crate::stream::program::queue_stream::RddQueue;
use crate::stream::program::rdd_stream::RddStream;
use crate::time::Clock;

/// Runs a program over given batches, one a second of a clock that does not wait, and gives the batches of
/// the stream it makes. For tests of one's own operators: a whole context runs, threads and all.
///
/// A batch in which that stream gave nothing is left out.
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
/// What `program` gives, and the first error of the run.
pub fn run_batches<T: Record, U: Record + Clone, B: Into<Rdd<T>>>(
    batches: impl IntoIterator<Item = B>,
    program: impl for<'c> FnOnce(RddStream<'c, T>) -> Result<RddStream<'c, U>>,
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
    let made = Arc::new(Mutex::new(Vec::new()));
    let gathered = Arc::clone(&made);
    let stream = ssc.queue_stream(&queue, true, None);
    program(stream)?.for_each_batch(move |rdd, _| {
        let mut made = lock(&gathered);
        made.push(rdd.to_vec());
    });
    let running = ssc.start()?;
    clock.advance(Duration::from_secs(count));
    running.await_termination()?;
    let mut made = lock(&made);
    Ok(std::mem::take(&mut made))
}
