//! `union`: the records of several streams in one.

use crate::config::Dialect;
use crate::error::{Error, Result};
use crate::stream::ops::transform::same_slides;
use crate::stream::plan::builder::PlanBuilder;
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::context::StreamingContext;
use crate::stream::program::rdd_stream::RddStream;

impl<T: Record> RddStream<T> {
    /// The records of both streams, this one's first: Spark's `union`. Records are shared, and
    /// duplicates stay.
    ///
    /// If one stream produced nothing, the batch fails, as in Spark; in the PySpark [`Dialect`]
    /// that side counts as empty.
    ///
    /// ```
    /// use microtally::stream::run_batches;
    /// let both = run_batches([vec![1, 2]], |numbers| numbers.union(&numbers.map(|n| n * 10)))?;
    /// assert_eq!(both, [[1, 2, 10, 20]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The streams have different slides, or belong to different contexts.
    pub fn union(&self, other: &RddStream<T>) -> Result<RddStream<T>> {
        self.plan.check([])?;
        // PySpark builds it with `transformWith`, unlike `StreamingContext.union`, which is Scala's
        // in both.
        if self.plan.dialect() == Dialect::Scala {
            return self.plan.union(&[self.clone(), other.clone()]);
        }
        if self.slide_ms != other.slide_ms {
            let message = "the two DStream should have same slide duration";
            return Err(Error::refused(message));
        }
        self.combine("union", other, |one, two, _| Ok(one.union(two)))
    }
}

impl StreamingContext {
    /// The records of several streams, in the order of the streams: Spark's `ssc.union`. A single
    /// stream is returned as it is.
    ///
    /// If one of several streams produced nothing, the batch fails. For streams of bytes,
    /// [`union_sources`](Self::union_sources) is faster; others are turned into records by
    /// `records`, `map_to` or `pairs` first.
    ///
    /// # Errors
    ///
    /// `streams` is empty, has a stream of another context, or streams of different slides.
    pub fn union<T: Record>(&self, streams: &[RddStream<T>]) -> Result<RddStream<T>> {
        self.plan.union(streams)
    }
}

impl PlanBuilder {
    fn union<T: Record>(&self, streams: &[RddStream<T>]) -> Result<RddStream<T>> {
        self.check(streams.iter().map(|stream| &stream.plan))?;
        let [first, others @ ..] = streams else {
            return Err(Error::refused(match self.dialect() {
                Dialect::Scala => "requirement failed: List of DStreams to union is empty",
                Dialect::PySpark => "should have at least one DStream to union",
            }));
        };
        if others.is_empty() {
            return Ok(first.clone());
        }
        let slides = streams.iter().map(|stream| stream.slide_ms);
        same_slides(slides, self.dialect())?;
        let missing = "Could not generate RDD from a parent for unifying";
        Ok(self.stream_of_all("union", streams, missing, |rdds, _| {
            let parts = rdds.iter().flat_map(Rdd::parts).cloned();
            Ok(Some(Rdd::shared(parts)))
        }))
    }
}

impl<T> Rdd<T> {
    /// The records of both RDDs, these first. Records are shared, and duplicates stay.
    pub fn union(&self, other: &Rdd<T>) -> Rdd<T> {
        Rdd::shared(self.parts().iter().chain(other.parts()).cloned())
    }
}
