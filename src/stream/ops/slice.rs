//! `slice`: the batches of a stream that are still remembered.

use crate::error::{Error, ErrorKind, Result};
use crate::stream::plan::batch_cache::BatchCache;
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::rdd_stream::RddStream;
use crate::time::BatchTime;

/// The batches a stream remembers: from [`RddStream::remembered`]. Use it from any thread, while the
/// context runs and after.
pub struct Remembered<T> {
    cell: BatchCache<T>,
    /// Every how many milliseconds the stream has a batch.
    slide_ms: u64,
}

debug_fields!([T] Remembered<T>, "Remembered", slide_ms);

impl<T> Clone for Remembered<T> {
    fn clone(&self) -> Self {
        Remembered {
            cell: self.cell.clone(),
            slide_ms: self.slide_ms,
        }
    }
}

impl<T: Record> RddStream<'_, T> {
    /// A handle to the batches of this stream, which is made in every batch from now on, whether or not an
    /// output needs it. How many are kept says [`remember`](crate::StreamingContext::remember).
    ///
    /// ```
    /// use microtally::prelude::*;
    /// use microtally::BatchTime;
    /// use microtally::stream::RddQueue;
    ///
    /// let ssc = StreamingContext::new(Duration::from_millis(5))?;
    /// ssc.remember(Duration::from_secs(60))?;
    /// let queue: RddQueue<u32> = [vec![1], vec![2], vec![3]].into_iter().collect();
    /// let numbers = ssc.queue_stream(&queue, true, None);
    /// let remembered = numbers.remembered();
    /// numbers.count().for_each_batch(|_, _| ());
    /// ssc.stop_after(3)?;
    /// ssc.start()?.await_termination()?;
    /// let all = remembered.slice(BatchTime::from_millis(0), BatchTime::from_millis(u64::MAX))?;
    /// assert_eq!(all.iter().flat_map(|(_, rdd)| rdd.to_vec()).collect::<Vec<_>>(), [1, 2, 3]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn remembered(&self) -> Remembered<T> {
        self.context.want(self.id);
        Remembered {
            cell: self.cell.clone(),
            slide_ms: self.slide_ms,
        }
    }
}

impl<T: Record> Remembered<T> {
    /// The batches with times from `begin` to `end`, both included, oldest first, as far as they are
    /// remembered: Spark's `slice`. A time between two batches means the one before it, also as `begin`.
    ///
    /// # Errors
    ///
    /// The context has not started, or one of the batches has failed.
    pub fn slice(&self, begin: BatchTime, end: BatchTime) -> Result<Vec<(BatchTime, Rdd<T>)>> {
        if !self.cell.is_started() {
            return Err(Error::refused("RddStream has not been initialized"));
        }
        // The batch at or before `begin` is the only one in the slide that ends with it.
        let first_ms = (begin.as_millis() + 1).saturating_sub(self.slide_ms);
        let batches = self.cell.at_each(BatchTime::from_millis(first_ms), end);
        batches.map_err(|failure| Error::new(ErrorKind::UserFunction, &*failure.message))
    }
}
