//! `transform`, `transform_with`: any function from batches to a batch.

use crate::config::Dialect;
use crate::error::{Error, Result};
use crate::stream::plan::batch_cache::{Failure, Produced};
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::context::StreamingContext;
use crate::stream::program::rdd_stream::RddStream;
use crate::time::BatchTime;

/// Spark's sentence if a parent produced nothing.
pub(crate) const MISSING: &str = "Couldn't generate RDD from parent";

/// Spark's sentence if the function returned nothing.
const NULL: &str = "Transform function must not return null. Return SparkContext.emptyRDD() instead \
                    to represent no element as the result of transformation.";

impl<T: Record> RddStream<T> {
    /// Makes each batch by a function of this stream's batch and its time: Spark's `transform`.
    ///
    /// If `f` panics, the whole batch has no output, as when Spark cannot put a batch together.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// let sorted = run_batches([vec![3, 1, 2]], |numbers| {
    ///     Ok(numbers.transform(|rdd, _time| rdd.sort_by(Ord::cmp)))
    /// })?;
    /// assert_eq!(sorted, [[1, 2, 3]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn transform<U: Record>(
        &self,
        mut f: impl FnMut(&Rdd<T>, BatchTime) -> Rdd<U> + Send + 'static,
    ) -> RddStream<U> {
        self.transform_some(move |rdd, time| Some(f(rdd, time)))
    }

    /// As [`transform`](Self::transform), but `f` may return no batch. That fails the batch; in the
    /// PySpark [`Dialect`] it is a batch without output.
    pub fn transform_some<U: Record>(
        &self,
        f: impl FnMut(&Rdd<T>, BatchTime) -> Option<Rdd<U>> + Send + 'static,
    ) -> RddStream<U> {
        self.transform_named("transform", f)
    }

    /// As [`transform_some`](Self::transform_some), for an operator of another kind.
    pub(crate) fn transform_named<U: Record>(
        &self,
        kind: &'static str,
        mut f: impl FnMut(&Rdd<T>, BatchTime) -> Option<Rdd<U>> + Send + 'static,
    ) -> RddStream<U> {
        let dialect = self.plan.dialect();
        self.derive_at(kind, move |rdd, time| match (rdd, dialect) {
            (None, Dialect::PySpark) => Ok(None),
            (None, Dialect::Scala) => Err(Failure::no_parent(MISSING, time)),
            (Some(rdd), _) => match (Failure::catch(|| f(&rdd, time))?, dialect) {
                (None, Dialect::Scala) => Err(Failure::of_batch(NULL)),
                (made, _) => Ok(made),
            },
        })
    }

    /// Makes each batch by a function of the batches of two streams and their time: Spark's
    /// `transformWith`.
    ///
    /// If one stream produced nothing, the batch fails; in the PySpark [`Dialect`] that side counts
    /// as empty, even if both did.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// let shares = run_batches([vec![1.0, 3.0]], |numbers| {
    ///     let sum = numbers.reduce(|a, b| a + b);
    ///     numbers.transform_with(&sum, |numbers, sums, _time| {
    ///         let sum = sums.iter().sum::<f64>();
    ///         numbers.map(|n| n / sum)
    ///     })
    /// })?;
    /// assert_eq!(shares, [[0.25, 0.75]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The streams belong to different contexts; or they have different slides, except in the
    /// PySpark [`Dialect`], where the result has this stream's.
    pub fn transform_with<U: Record, W: Record>(
        &self,
        other: &RddStream<U>,
        mut f: impl FnMut(&Rdd<T>, &Rdd<U>, BatchTime) -> Rdd<W> + Send + 'static,
    ) -> Result<RddStream<W>> {
        self.combine("transform_with", other, move |one, two, time| {
            Failure::catch(|| f(one, two, time))
        })
    }

    /// Makes each batch of the batches of two streams: what `transform_with` and the joins have in
    /// common.
    pub(crate) fn combine<U: Record, W: Record>(
        &self,
        kind: &'static str,
        other: &RddStream<U>,
        mut f: impl FnMut(&Rdd<T>, &Rdd<U>, BatchTime) -> std::result::Result<Rdd<W>, Failure>
        + Send
        + 'static,
    ) -> Result<RddStream<W>> {
        self.plan.check([&other.plan])?;
        let dialect = self.plan.dialect();
        if dialect == Dialect::Scala {
            same_slides([self.slide_ms, other.slide_ms], dialect)?;
        }
        let (one, two) = (self.cache.clone(), other.cache.clone());
        Ok(self.plan.rdd_stream(
            kind,
            vec![self.id, other.id],
            self.slide_ms,
            move |time| (one.batch(time), two.batch(time)),
            move |(one, two), attempt| {
                let both = (one.get(attempt.now)?, two.get(attempt.now)?);
                let (one, two) = match (both, dialect) {
                    ((Some(one), Some(two)), _) => (one, two),
                    ((one, two), Dialect::PySpark) => {
                        (one.unwrap_or_default(), two.unwrap_or_default())
                    }
                    _ => return Err(Failure::no_parent(MISSING, attempt.time)),
                };
                f(&one, &two, attempt.time).map(Some)
            },
        ))
    }
}

impl StreamingContext {
    /// Makes each batch by a function of the batches of several streams and their time: Spark's
    /// `ssc.transform`.
    ///
    /// If one stream produced nothing, the batch fails, in either dialect.
    ///
    /// # Errors
    ///
    /// `streams` is empty, has a stream of another context, or streams of different slides.
    pub fn transform<T: Record, U: Record>(
        &self,
        streams: &[RddStream<T>],
        mut f: impl FnMut(&[Rdd<T>], BatchTime) -> Rdd<U> + Send + 'static,
    ) -> Result<RddStream<U>> {
        if streams.is_empty() {
            let message = "requirement failed: List of DStreams to transform is empty";
            return Err(Error::refused(message));
        }
        self.plan.check(streams.iter().map(|stream| &stream.plan))?;
        // PySpark calls the Scala method.
        same_slides(streams.iter().map(|stream| stream.slide_ms), Dialect::Scala)?;
        let make =
            move |rdds: &[_], time| -> Produced<_> { Failure::catch(|| f(rdds, time)).map(Some) };
        Ok(self.plan.stream_of_all("transform", streams, MISSING, make))
    }
}

/// Checks that streams that are put together batch by batch have the same slide, in the words of
/// `dialect`.
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
