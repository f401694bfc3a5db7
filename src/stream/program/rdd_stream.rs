//! `RddStream`: a stream of records of any type, an [`Rdd`] a batch.

use std::sync::{Arc, Mutex};

use crate::save::Saved;
use crate::stream::plan::batch_cache::{BatchCache, Failure, Produced};
use crate::stream::plan::builder::PlanBuilder;
use crate::stream::plan::graph::{BatchContext, NodeId, Operator};
use crate::stream::plan::make_rdd::{Attempt, MakeRdd, TakeRdd};
use crate::stream::plan::rdd::{Rdd, Record};
use crate::time::BatchTime;

/// A stream of records of any type: each batch is an [`Rdd`], or nothing.
///
/// Its operators run once a batch, one after the other, on records in memory: the batch plane.
/// Operators on bytes that work record by record are faster on a
/// [`DStream`](crate::stream::DStream), in the shards.
///
/// ```
/// use microtally::stream::run_lines;
/// let long = run_lines("a\nabcd\nab\n", |lines| {
///     let lengths = lines.map_to(|line| line.len());
///     Ok(lengths.filter(|length| *length > 1))
/// })?;
/// assert_eq!(long, [4, 2]);
/// # Ok::<(), microtally::Error>(())
/// ```
pub struct RddStream<T> {
    pub(crate) plan: PlanBuilder,
    pub(crate) id: NodeId,
    /// Milliseconds from batch to batch.
    pub(crate) slide_ms: u64,
    pub(crate) cache: BatchCache<T>,
}

debug_fields!([T] RddStream<T>, "RddStream", id, slide_ms);

impl<T> Clone for RddStream<T> {
    fn clone(&self) -> Self {
        RddStream {
            plan: self.plan.clone(),
            cache: self.cache.clone(),
            ..*self
        }
    }
}

impl PlanBuilder {
    /// A new stream: `make` makes each batch of what `take` takes of the parents' batches.
    ///
    /// A failed batch is made again, of the same parts, when it is needed later. So `take` takes
    /// what can be kept, and `make` must not count its calls.
    pub(crate) fn rdd_stream<T: Record, I: Send + 'static>(
        &self,
        kind: &'static str,
        parents: Vec<NodeId>,
        slide_ms: u64,
        mut take: impl FnMut(BatchTime) -> I + Send + 'static,
        make: impl FnMut(&I, &mut Attempt<'_>) -> Produced<Rdd<T>> + Send + 'static,
    ) -> RddStream<T> {
        let take = move |now: &mut BatchContext<'_, '_>| Ok(take(now.time));
        self.rdd_stream_of(kind, parents, slide_ms, take, make)
    }

    /// As [`rdd_stream`](Self::rdd_stream), but `take` reads all of the current batch and may fail.
    pub(crate) fn rdd_stream_of<T: Record, I: Send + 'static>(
        &self,
        kind: &'static str,
        parents: Vec<NodeId>,
        slide_ms: u64,
        take: impl FnMut(&mut BatchContext<'_, '_>) -> Result<I, Failure> + Send + 'static,
        make: impl FnMut(&I, &mut Attempt<'_>) -> Produced<Rdd<T>> + Send + 'static,
    ) -> RddStream<T> {
        let cache = BatchCache::new();
        let operator = MakeRdd {
            cache: cache.clone(),
            take,
            taken: None,
            make: Arc::new(Mutex::new(make)),
        };
        self.stream_of(kind, cache, parents, slide_ms, Box::new(operator))
    }

    /// A new stream: `make` makes each batch of what exists only during that batch. A failed batch
    /// stays failed.
    pub(crate) fn taken_stream<T: Record>(
        &self,
        kind: &'static str,
        parents: Vec<NodeId>,
        slide_ms: u64,
        make: impl FnMut(&mut BatchContext<'_, '_>) -> Produced<Rdd<T>> + Send + 'static,
    ) -> RddStream<T> {
        let cache = BatchCache::new();
        let operator = TakeRdd {
            cache: cache.clone(),
            make,
        };
        self.stream_of(kind, cache, parents, slide_ms, Box::new(operator))
    }

    /// The stream whose batches `operator` puts into `cache`.
    pub(crate) fn stream_of<T>(
        &self,
        kind: &'static str,
        cache: BatchCache<T>,
        parents: Vec<NodeId>,
        slide_ms: u64,
        operator: Box<dyn Operator>,
    ) -> RddStream<T> {
        RddStream {
            plan: self.clone(),
            id: self.add_batches(kind, parents, slide_ms, operator),
            slide_ms,
            cache,
        }
    }

    /// A new stream: `make` makes each batch of those of `streams`, at least one, all with the same
    /// slide. A missing batch fails the new one, with Spark's sentence `missing`.
    pub(crate) fn stream_of_all<T: Record, U: Record>(
        &self,
        kind: &'static str,
        streams: &[RddStream<T>],
        missing: &'static str,
        mut make: impl FnMut(&[Rdd<T>], BatchTime) -> Produced<Rdd<U>> + Send + 'static,
    ) -> RddStream<U> {
        let caches: Vec<_> = streams.iter().map(|stream| stream.cache.clone()).collect();
        self.rdd_stream(
            kind,
            streams.iter().map(|stream| stream.id).collect(),
            streams[0].slide_ms,
            move |time| -> Vec<_> { caches.iter().map(|cache| cache.batch(time)).collect() },
            move |batches, attempt| {
                let rdds = batches.iter().map(|batch| {
                    let rdd = batch.get(attempt.now)?;
                    rdd.ok_or_else(|| Failure::no_parent(missing, attempt.time))
                });
                make(&rdds.collect::<Result<Vec<_>, _>>()?, attempt.time)
            },
        )
    }
}

impl<T: Record + Saved> RddStream<T> {
    /// Lets the state of the operator that made this stream be saved, if it has one, and the
    /// batches that later operators keep, such as windows, where records are of a custom type.
    ///
    /// Numbers, texts, bytes, and pairs of `()`, a text or bytes and a number need no such call.
    /// [`operators`](crate::stream::operators) says which operators have states.
    #[must_use]
    pub fn checkpointed(self) -> Self {
        self.cache.codec().set();
        self
    }
}

impl<T: Record> RddStream<T> {
    /// Names this stream; see [`DStream::named`](crate::stream::DStream::named).
    ///
    /// ```
    /// use microtally::prelude::*;
    ///
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// let numbers = ssc.batch_stream(|_| Some(vec![1, 2].into()));
    /// numbers.map(|n| n * 2).named("doubled").for_each_batch(|_, _| ());
    /// assert_eq!(&*ssc.explain()?.nodes()[1].name, "doubled");
    /// # Ok::<(), microtally::Error>(())
    /// ```
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        self.plan.name(self.id, name.into());
        self
    }

    /// A stream whose batches `f` makes of this one's. If this one produces nothing, neither does
    /// that.
    pub(crate) fn derive<U: Record>(
        &self,
        kind: &'static str,
        mut f: impl FnMut(&Rdd<T>) -> Rdd<U> + Send + 'static,
    ) -> RddStream<U> {
        self.derive_at(kind, move |rdd, _| Ok(rdd.as_ref().map(&mut f)))
    }

    /// As [`derive`](Self::derive), but `f` also gets the time, and missing batches.
    pub(crate) fn derive_at<U: Record>(
        &self,
        kind: &'static str,
        mut f: impl FnMut(Option<Rdd<T>>, BatchTime) -> Produced<Rdd<U>> + Send + 'static,
    ) -> RddStream<U> {
        let cache = self.cache.clone();
        self.plan.rdd_stream(
            kind,
            vec![self.id],
            self.slide_ms,
            move |time| cache.batch(time),
            move |batch, attempt| f(batch.get(attempt.now)?, attempt.time),
        )
    }
}
