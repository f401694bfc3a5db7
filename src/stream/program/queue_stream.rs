//! `queue_stream` and `batch_stream`: batches that the program itself makes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use crate::error::lock;
use crate::stream::plan::make_rdd::Attempt;
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::context::StreamingContext;
use crate::stream::program::listener::StreamInputInfo;
use crate::stream::program::rdd_stream::RddStream;
use crate::time::BatchTime;

/// A queue of batches for a [`queue_stream`](StreamingContext::queue_stream).
///
/// Clones share the queue. Batches may be pushed from any thread, also while the context runs.
pub struct RddQueue<T>(Arc<Mutex<VecDeque<Rdd<T>>>>);

debug_fields!([T] RddQueue<T>, "RddQueue");

impl<T> Clone for RddQueue<T> {
    fn clone(&self) -> Self {
        RddQueue(Arc::clone(&self.0))
    }
}

impl<T> Default for RddQueue<T> {
    fn default() -> Self {
        RddQueue(Arc::default())
    }
}

impl<T, R: Into<Rdd<T>>> FromIterator<R> for RddQueue<T> {
    fn from_iter<I: IntoIterator<Item = R>>(batches: I) -> Self {
        let batches = batches.into_iter().map(Into::into);
        RddQueue(Arc::new(Mutex::new(batches.collect())))
    }
}

impl<T> RddQueue<T> {
    /// Creates an empty queue.
    pub fn new() -> Self {
        RddQueue::default()
    }

    /// Adds a batch at the end.
    pub fn push(&self, batch: impl Into<Rdd<T>>) {
        self.lock().push_back(batch.into());
    }

    /// Number of waiting batches.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Returns `true` if no batch waits.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Rdd<T>>> {
        lock(&self.0)
    }

    /// Takes one batch, or all waiting batches as one.
    fn take(&self, one_at_a_time: bool) -> Option<Rdd<T>> {
        let mut queue = self.lock();
        if one_at_a_time {
            return queue.pop_front();
        }
        let all: Vec<Rdd<T>> = queue.drain(..).collect();
        (!all.is_empty()).then(|| Rdd::shared(all.iter().flat_map(Rdd::parts).cloned()))
    }
}

impl StreamingContext {
    /// A stream of the batches in `queue`: Spark's `queueStream`.
    ///
    /// Each batch interval takes one batch from the queue, or all waiting batches as one if
    /// `one_at_a_time` is `false`. While the queue is empty, the batch is `default`, or without one
    /// an [`Rdd`] of one partition without records. A context with such a stream never ends by
    /// itself.
    ///
    /// ```
    /// use microtally::prelude::*;
    /// use microtally::stream::RddQueue;
    ///
    /// let ssc = StreamingContext::new(Duration::from_millis(5))?;
    /// let queue: RddQueue<u32> = [vec![1, 2], vec![3]].into_iter().collect();
    /// let (out, sums) = std::sync::mpsc::channel();
    /// let numbers = ssc.queue_stream(&queue, true, None);
    /// numbers.reduce(|a, b| a + b).for_each_batch(move |rdd, _| drop(out.send(rdd.to_vec())));
    /// ssc.stop_after(3)?;
    /// ssc.start()?.await_termination()?;
    /// assert_eq!(sums.iter().collect::<Vec<_>>(), [vec![3], vec![3], vec![]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn queue_stream<T: Record>(
        &self,
        queue: &RddQueue<T>,
        one_at_a_time: bool,
        default: Option<Rdd<T>>,
    ) -> RddStream<T> {
        let (queue, default) = (queue.clone(), default.unwrap_or_else(|| Vec::new().into()));
        self.batch_stream(move |_| {
            let batch = queue.take(one_at_a_time);
            Some(batch.unwrap_or_else(|| default.clone()))
        })
    }

    /// A stream of the batches that `make` returns: what Spark's `InputDStream` is for.
    ///
    /// `make` is called once a batch interval with the batch's time; `None` means no batch at all,
    /// not an empty one. If `make` panics, it is called again for the same batch when a window or a
    /// state needs that batch. A context with such a stream never ends by itself.
    ///
    /// ```
    /// use microtally::prelude::*;
    ///
    /// let ssc = StreamingContext::new(Duration::from_millis(5))?;
    /// let times = ssc.batch_stream(|time| Some(vec![time.as_millis()].into()));
    /// times.for_each_batch(|rdd, time| assert_eq!(rdd.to_vec(), [time.as_millis()]));
    /// ssc.stop_after(3)?;
    /// ssc.start()?.await_termination()?;
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn batch_stream<T: Record>(
        &self,
        mut make: impl FnMut(BatchTime) -> Option<Rdd<T>> + Send + 'static,
    ) -> RddStream<T> {
        let input_stream_id = self.plan.add_endless_input();
        let make = move |(): &(), attempt: &mut Attempt<'_>| {
            let made = make(attempt.time);
            if let (Some(rdd), Some(inputs)) = (&made, &mut attempt.inputs) {
                inputs.push(StreamInputInfo {
                    input_stream_id,
                    num_records: rdd.len() as u64,
                });
            }
            Ok(made)
        };
        let slide_ms = self.plan.interval_ms();
        (self.plan).rdd_stream("batch_stream", Vec::new(), slide_ms, |_| (), make)
    }
}
