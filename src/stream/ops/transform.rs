//! `transform`: any function from batches to a batch.

use crate::config::Dialect;
use crate::error::{Error, Result};
use crate::stream::plan::batch_cache::{Entry, Failure, Produced};
use crate::stream::plan::graph::Attempt;
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::context::StreamingContext;
use crate::stream::program::rdd_stream::RddStream;
use crate::time::BatchTime;

/// Spark's sentence when a parent gave nothing.
const MISSING: &str = "Couldn't generate RDD from parent";

/// Spark's sentence when the function gave nothing.
const NULL: &str = "Transform function must not return null. Return SparkContext.emptyRDD() instead \
                    to represent no element as the result of transformation.";

impl<'c, T: Record> RddStream<'c, T> {
    /// Makes each batch of this stream's batch and its time: Spark's `transform`. When `f` panics the batch
    /// has no output at all, as when a batch cannot be put together in Spark.
    ///
    /// ```
    /// # use microtally::prelude::*;
    /// # use microtally::stream::{Rdd, RddQueue};
    /// let ssc = StreamingContext::new(Duration::from_millis(5))?;
    /// let queue: RddQueue<u32> = [vec![3, 1, 2]].into_iter().collect();
    /// let sorted = ssc.queue_stream(&queue, true, None).transform(|rdd, _time| rdd.sort_by(Ord::cmp));
    /// # let (out, batches) = std::sync::mpsc::channel();
    /// # sorted.for_each_batch(move |rdd, _| drop(out.send(rdd.to_vec())));
    /// # ssc.stop_after(1)?;
    /// # ssc.start()?.await_termination()?;
    /// # assert_eq!(batches.recv().unwrap(), [1, 2, 3]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn transform<U: Record>(
        &self,
        mut f: impl FnMut(&Rdd<T>, BatchTime) -> Rdd<U> + Send + 'static,
    ) -> RddStream<'c, U> {
        self.transform_some(move |rdd, time| Some(f(rdd, time)))
    }

    /// As [`transform`](Self::transform), for a function that may give no batch. That is an error of the
    /// batch, and in the PySpark [`Dialect`] a batch without output.
    pub fn transform_some<U: Record>(
        &self,
        f: impl FnMut(&Rdd<T>, BatchTime) -> Option<Rdd<U>> + Send + 'static,
    ) -> RddStream<'c, U> {
        self.transform_named("transform", f)
    }

    /// As [`transform_some`](Self::transform_some), for an operator of another name.
    pub(crate) fn transform_named<U: Record>(
        &self,
        name: &'static str,
        mut f: impl FnMut(&Rdd<T>, BatchTime) -> Option<Rdd<U>> + Send + 'static,
    ) -> RddStream<'c, U> {
        let dialect = self.context.dialect();
        self.derive_at(name, move |rdd, time| match (rdd, dialect) {
            (None, Dialect::PySpark) => Ok(None),
            (None, Dialect::Scala) => Err(Failure::no_parent(MISSING, time)),
            (Some(rdd), _) => guarded(dialect, || f(&rdd, time)),
        })
    }

    /// Makes each batch of the batches of two streams: Spark's `transformWith`. In the PySpark
    /// [`Dialect`] a side that gave nothing counts as empty, also when both did; else it fails the batch.
    ///
    /// # Errors
    ///
    /// The streams have different slides, which the PySpark [`Dialect`] allows: the result has this
    /// stream's.
    pub fn transform_with<U: Record, W: Record>(
        &self,
        other: &RddStream<'c, U>,
        mut f: impl FnMut(&Rdd<T>, &Rdd<U>, BatchTime) -> Rdd<W> + Send + 'static,
    ) -> Result<RddStream<'c, W>> {
        self.combine("transform_with", other, true, move |one, two, time| {
            Some(f(one, two, time))
        })
    }

    /// What `transform_with` and the joins have in common. `is_generation`: a panic of `f` leaves the batch
    /// without any output.
    pub(crate) fn combine<U: Record, W: Record>(
        &self,
        name: &'static str,
        other: &RddStream<'c, U>,
        is_generation: bool,
        mut f: impl FnMut(&Rdd<T>, &Rdd<U>, BatchTime) -> Option<Rdd<W>> + Send + 'static,
    ) -> Result<RddStream<'c, W>> {
        let dialect = self.context.dialect();
        if dialect == Dialect::Scala {
            same_slides([self.slide_ms, other.slide_ms], dialect)?;
        }
        Ok(self.derive_with(name, other, move |one, two, time| {
            let (one, two) = match (one, two, dialect) {
                (Some(one), Some(two), _) => (one, two),
                (one, two, Dialect::PySpark) => (one.unwrap_or_default(), two.unwrap_or_default()),
                _ => return Err(Failure::no_parent(MISSING, time)),
            };
            if is_generation {
                guarded(dialect, || f(&one, &two, time))
            } else {
                Ok(f(&one, &two, time))
            }
        }))
    }
}

impl StreamingContext {
    /// Makes each batch of the batches of several streams: Spark's `ssc.transform`. When one of them gives
    /// nothing the batch fails, in either dialect.
    ///
    /// # Errors
    ///
    /// No stream, or streams with different slides.
    pub fn transform<'c, T: Record, U: Record>(
        &'c self,
        streams: &[RddStream<'c, T>],
        mut f: impl FnMut(&[Rdd<T>], BatchTime) -> Rdd<U> + Send + 'static,
    ) -> Result<RddStream<'c, U>> {
        let [first, ..] = streams else {
            let message = "requirement failed: List of DStreams to transform is empty";
            return Err(Error::refused(message));
        };
        // Python asks Scala for it.
        same_slides(streams.iter().map(|stream| stream.slide_ms), Dialect::Scala)?;
        let slide_ms = first.slide_ms;
        let cells: Vec<_> = streams.iter().map(|stream| stream.cell.clone()).collect();
        let parents = streams.iter().map(|stream| stream.id).collect();
        let dialect = self.dialect();
        let take = move |time| cells.iter().map(|cell| cell.entry(time)).collect();
        let make = move |entries: &Vec<Entry<T>>, attempt: &mut Attempt<'_>| {
            let mut rdds = Vec::with_capacity(entries.len());
            for entry in entries {
                let rdd = entry.get(attempt.now)?;
                rdds.push(rdd.ok_or_else(|| Failure::no_parent(MISSING, attempt.time))?);
            }
            guarded(dialect, || Some(f(&rdds, attempt.time)))
        };
        Ok(self.rdd_stream("transform", parents, slide_ms, take, make))
    }
}

/// Spark's rule for streams that are put together batch by batch, in the words of `dialect`.
///
/// # Errors
///
/// The slides are not all the same.
pub(crate) fn same_slides(slides: impl IntoIterator<Item = u64>, dialect: Dialect) -> Result<()> {
    let mut slides = slides.into_iter();
    let first = slides.next();
    if slides.all(|slide| Some(slide) == first) {
        return Ok(());
    }
    Err(Error::refused(match dialect {
        Dialect::Scala => "requirement failed: Some of the DStreams have different slide durations",
        Dialect::PySpark => "All DStreams should have same slide duration",
    }))
}

/// Calls a function that belongs to putting a batch together.
fn guarded<U>(dialect: Dialect, f: impl FnOnce() -> Option<Rdd<U>>) -> Produced<Rdd<U>> {
    match (Failure::catch(f)?, dialect) {
        (None, Dialect::Scala) => Err(Failure::of_batch(NULL)),
        (made, _) => Ok(made),
    }
}
