//! `slice`: the remembered batches of a stream.

use crate::error::{Error, ErrorKind, Result};
use crate::stream::plan::batch_cache::BatchCache;
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::rdd_stream::RddStream;
use crate::time::BatchTime;

/// The remembered batches of a stream, from [`RddStream::remembered`]. It works from any thread,
/// during the run and after.
pub struct Remembered<T> {
    cache: BatchCache<T>,
    /// Milliseconds from batch to batch.
    slide_ms: u64,
}

debug_fields!([T] Remembered<T>, "Remembered", slide_ms);

impl<T> Clone for Remembered<T> {
    fn clone(&self) -> Self {
        Remembered {
            cache: self.cache.clone(),
            slide_ms: self.slide_ms,
        }
    }
}

impl<T: Record> RddStream<T> {
    /// A handle to the remembered batches of this stream.
    /// [`remember`](crate::StreamingContext::remember) sets how long batches are kept. The stream
    /// is then made in every batch, whether or not an output needs it.
    ///
    /// ```
    /// use microtally::prelude::*;
    /// use microtally::time::BatchTime;
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
        self.plan.want(self.id);
        Remembered {
            cache: self.cache.clone(),
            slide_ms: self.slide_ms,
        }
    }
}

impl<T: Record> Remembered<T> {
    /// The remembered batches with times from `begin` to `end`, both included, oldest first:
    /// Spark's `slice`.
    ///
    /// A time between two batches means the earlier one, also as `begin`. Unlike Spark's, it does
    /// not make batches that are still to come.
    ///
    /// # Errors
    ///
    /// The context has not started, or one of the batches has failed.
    pub fn slice(&self, begin: BatchTime, end: BatchTime) -> Result<Vec<(BatchTime, Rdd<T>)>> {
        if !self.cache.is_started() {
            return Err(Error::refused("RddStream has not been initialized"));
        }
        // The batch at or before `begin` is the only one in the slide that ends with it.
        let first_ms = (begin.as_millis() + 1).saturating_sub(self.slide_ms);
        let batches = self.cache.slice(BatchTime::from_millis(first_ms), end);
        batches.map_err(|failure| Error::new(ErrorKind::UserFunction, &*failure.message))
    }
}
