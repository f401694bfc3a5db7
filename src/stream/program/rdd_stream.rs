//! `RddStream`: a stream of records of any type, an [`Rdd`] a batch.

use std::sync::{Arc, Mutex};

use crate::stream::plan::batch_cache::{BatchCache, Failure, Produced};
use crate::stream::plan::graph::{Attempt, BatchContext, MakeRdd, NodeId, Operator, TakeRdd};
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::context::StreamingContext;
use crate::time::BatchTime;

/// A stream of records of any type: for each batch an [`Rdd`], or nothing.
///
/// Its operators run once a batch, one after the other, where batches are published (the batch plane), on
/// records that are held in memory. What can be done record by record on bytes is faster on a
/// [`DStream`](crate::stream::DStream), in the shards.
///
/// ```no_run
/// # use microtally::prelude::*;
/// # fn main() -> Result<(), microtally::Error> {
/// let ssc = StreamingContext::new(Duration::from_secs(5))?;
/// let lines = ssc.socket_text_stream("localhost", 9999)?;
/// let lengths = lines.map_to(|line| line.len());
/// lengths.filter(|n| *n > 80).count().pprint(10);
/// # ssc.start()?.await_termination() }
/// ```
pub struct RddStream<'c, T> {
    pub(crate) context: &'c StreamingContext,
    pub(crate) id: NodeId,
    /// Every how many milliseconds there is a batch.
    pub(crate) slide_ms: u64,
    pub(crate) cell: BatchCache<T>,
}

debug_fields!(['c, T] RddStream<'c, T>, "RddStream", id, slide_ms);

impl<T> Clone for RddStream<'_, T> {
    fn clone(&self) -> Self {
        RddStream {
            context: self.context,
            id: self.id,
            slide_ms: self.slide_ms,
            cell: self.cell.clone(),
        }
    }
}

impl StreamingContext {
    /// A new stream: `make` makes each batch out of what `parts` takes of the parents' batches.
    ///
    /// A batch that fails is made again when it is needed later, of the same parts: `parts` takes what can
    /// be kept, and `make` must not count its calls.
    pub(crate) fn rdd_stream<T: Record, I: Send + 'static>(
        &self,
        name: &'static str,
        parents: Vec<NodeId>,
        slide_ms: u64,
        mut parts: impl FnMut(BatchTime) -> I + Send + 'static,
        make: impl FnMut(&I, &mut Attempt<'_>) -> Produced<Rdd<T>> + Send + 'static,
    ) -> RddStream<'_, T> {
        let parts = move |now: &mut BatchContext<'_, '_>| Ok(parts(now.time));
        self.rdd_stream_of(name, parents, slide_ms, parts, make)
    }

    /// As [`rdd_stream`](Self::rdd_stream), where `parts` takes them of the batch at hand.
    pub(crate) fn rdd_stream_of<T: Record, I: Send + 'static>(
        &self,
        name: &'static str,
        parents: Vec<NodeId>,
        slide_ms: u64,
        parts: impl FnMut(&mut BatchContext<'_, '_>) -> Result<I, Failure> + Send + 'static,
        make: impl FnMut(&I, &mut Attempt<'_>) -> Produced<Rdd<T>> + Send + 'static,
    ) -> RddStream<'_, T> {
        let cell = BatchCache::new();
        let step = MakeRdd {
            name,
            cell: cell.clone(),
            parts,
            taken: None,
            make: Arc::new(Mutex::new(make)),
        };
        self.stream_of(cell, parents, slide_ms, Box::new(step))
    }

    /// As [`rdd_stream`](Self::rdd_stream), where `make` reads what there is of the batch at hand only. A
    /// batch that fails stays so.
    pub(crate) fn taken_stream<T: Record>(
        &self,
        name: &'static str,
        parents: Vec<NodeId>,
        slide_ms: u64,
        make: impl FnMut(&mut BatchContext<'_, '_>) -> Produced<Rdd<T>> + Send + 'static,
    ) -> RddStream<'_, T> {
        let cell = BatchCache::new();
        let step = TakeRdd {
            name,
            cell: cell.clone(),
            make,
        };
        self.stream_of(cell, parents, slide_ms, Box::new(step))
    }

    /// The stream that `step` makes in `batch_cache`.
    pub(crate) fn stream_of<T>(
        &self,
        cell: BatchCache<T>,
        parents: Vec<NodeId>,
        slide_ms: u64,
        step: Box<dyn Operator>,
    ) -> RddStream<'_, T> {
        RddStream {
            context: self,
            id: self.add_graph_node(parents, slide_ms, step),
            slide_ms,
            cell,
        }
    }
}

impl<'c, T: Record> RddStream<'c, T> {
    /// A stream whose batches `f` makes of this one's. Where this one gives nothing, so does that.
    pub(crate) fn derive<U: Record>(
        &self,
        name: &'static str,
        mut f: impl FnMut(&Rdd<T>) -> Rdd<U> + Send + 'static,
    ) -> RddStream<'c, U> {
        self.derive_at(name, move |rdd, _| Ok(rdd.as_ref().map(&mut f)))
    }

    /// As [`derive`](Self::derive), for operators that want the time, or batches that gave nothing.
    pub(crate) fn derive_at<U: Record>(
        &self,
        name: &'static str,
        mut f: impl FnMut(Option<Rdd<T>>, BatchTime) -> Produced<Rdd<U>> + Send + 'static,
    ) -> RddStream<'c, U> {
        let cell = self.cell.clone();
        self.context.rdd_stream(
            name,
            vec![self.id],
            self.slide_ms,
            move |time| cell.entry(time),
            move |entry, attempt| f(entry.get(attempt.now)?, attempt.time),
        )
    }

    /// A stream made of this one's and another's batches.
    pub(crate) fn derive_with<U: Record, W: Record>(
        &self,
        name: &'static str,
        other: &RddStream<'c, U>,
        mut f: impl FnMut(Option<Rdd<T>>, Option<Rdd<U>>, BatchTime) -> Produced<Rdd<W>>
        + Send
        + 'static,
    ) -> RddStream<'c, W> {
        let (one, two) = (self.cell.clone(), other.cell.clone());
        self.context.rdd_stream(
            name,
            vec![self.id, other.id],
            self.slide_ms,
            move |time| (one.entry(time), two.entry(time)),
            move |(one, two), attempt| {
                f(one.get(attempt.now)?, two.get(attempt.now)?, attempt.time)
            },
        )
    }
}

impl Failure {
    /// A parent gave nothing where something is needed: `what` for Spark's sentence.
    #[cold]
    pub(crate) fn no_parent(sentence: &str, time: BatchTime) -> Self {
        Failure::of_batch(format!("{sentence} at time {} ms", time.as_millis()))
    }
}
