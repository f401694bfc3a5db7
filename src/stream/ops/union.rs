//! `union`: the records of several streams in one.

use crate::config::Dialect;
use crate::error::{Error, Result};
use crate::stream::ops::transform::same_slides;
use crate::stream::plan::batch_cache::{Entry, Failure};
use crate::stream::plan::graph::Attempt;
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::context::StreamingContext;
use crate::stream::program::rdd_stream::RddStream;

impl<'c, T: Record> RddStream<'c, T> {
    /// The records of both streams, this one's first: Spark's `union`. Duplicates stay.
    ///
    /// When one of them gives nothing the batch fails, as in Spark; in the PySpark [`Dialect`] that one counts
    /// as empty.
    ///
    /// # Errors
    ///
    /// The streams have different slides.
    pub fn union(&self, other: &RddStream<'c, T>) -> Result<RddStream<'c, T>> {
        // PySpark builds it of `transformWith`, unlike `StreamingContext.union`, which is Scala's in both.
        if self.context.dialect() == Dialect::Scala {
            return self.context.union(&[self.clone(), other.clone()]);
        }
        if self.slide_ms != other.slide_ms {
            let message = "the two DStream should have same slide duration";
            return Err(Error::refused(message));
        }
        self.combine("union", other, false, |one, two, _| Some(one.union(two)))
    }
}

impl StreamingContext {
    /// The records of several streams, in their order: Spark's `ssc.union`. One stream is given back as it
    /// is.
    ///
    /// Streams of bytes are united by `records` or `map_to` first; what only counts is faster counted
    /// stream by stream and united then. When one of several gives nothing the batch fails.
    ///
    /// # Errors
    ///
    /// No stream, or streams with different slides.
    pub fn union<'c, T: Record>(
        &'c self,
        streams: &[RddStream<'c, T>],
    ) -> Result<RddStream<'c, T>> {
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
        let cells: Vec<_> = streams.iter().map(|stream| stream.cell.clone()).collect();
        let parents = streams.iter().map(|stream| stream.id).collect();
        let take = move |time| cells.iter().map(|cell| cell.entry(time)).collect();
        let make = move |entries: &Vec<Entry<T>>, attempt: &mut Attempt<'_>| {
            let mut parts = Vec::new();
            for entry in entries {
                let missing = "Could not generate RDD from a parent for unifying";
                let rdd = entry.get(attempt.now)?;
                let rdd = rdd.ok_or_else(|| Failure::no_parent(missing, attempt.time))?;
                parts.extend_from_slice(rdd.parts());
            }
            Ok(Some(Rdd::shared(parts)))
        };
        Ok(self.rdd_stream("union", parents, first.slide_ms, take, make))
    }
}

impl<T> Rdd<T> {
    /// The records of both, these first. Duplicates stay; records are shared, not copied.
    pub fn union(&self, other: &Rdd<T>) -> Rdd<T> {
        Rdd::shared(self.parts().iter().chain(other.parts()).cloned())
    }
}
