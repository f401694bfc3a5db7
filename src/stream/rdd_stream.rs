//! `RddStream`: a stream of records of any type, an [`Rdd`] a batch.

use crate::stream::cell::{Cell, Failure, Made};
use crate::stream::context::StreamingContext;
use crate::stream::graph::{MakeRdd, NodeId, Now};
use crate::stream::rdd::{Rdd, Record};

/// A stream of records of any type: for each batch an [`Rdd`], or nothing.
///
/// Its operators run once a batch, one after the other, where batches are put out (the batch plane), on
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
    pub(super) context: &'c StreamingContext,
    pub(super) id: NodeId,
    /// Every how many milliseconds there is a batch.
    pub(super) slide_ms: u64,
    pub(super) cell: Cell<T>,
}

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
    /// A new stream, made by `make` from streams that exist.
    pub(super) fn rdd_stream<T: Record>(
        &self,
        parents: Vec<NodeId>,
        slide_ms: u64,
        make: impl FnMut(&mut Now<'_, '_>) -> Made<Rdd<T>> + Send + 'static,
    ) -> RddStream<'_, T> {
        let cell = Cell::new();
        let step = MakeRdd {
            cell: cell.clone(),
            make,
        };
        RddStream {
            context: self,
            id: self.add_graph_node(parents, slide_ms, Box::new(step)),
            slide_ms,
            cell,
        }
    }
}

impl<'c, T: Record> RddStream<'c, T> {
    /// A stream whose batches `f` makes of this one's. Where this one gives nothing, so does that.
    pub(super) fn derive<U: Record>(
        &self,
        mut f: impl FnMut(&Rdd<T>) -> Rdd<U> + Send + 'static,
    ) -> RddStream<'c, U> {
        self.derive_at(move |rdd, _| Ok(rdd.as_ref().map(&mut f)))
    }

    /// As [`derive`](Self::derive), for operators that want the time, or batches that gave nothing.
    pub(super) fn derive_at<U: Record>(
        &self,
        mut f: impl FnMut(Option<Rdd<T>>, &mut Now<'_, '_>) -> Made<Rdd<U>> + Send + 'static,
    ) -> RddStream<'c, U> {
        let cell = self.cell.clone();
        let make = move |now: &mut Now<'_, '_>| f(cell.at(now.time)?, now);
        self.context.rdd_stream(vec![self.id], self.slide_ms, make)
    }

    /// A stream made of this one's and another's batches.
    pub(super) fn derive_with<U: Record, W: Record>(
        &self,
        other: &RddStream<'c, U>,
        mut f: impl FnMut(Option<Rdd<T>>, Option<Rdd<U>>, &mut Now<'_, '_>) -> Made<Rdd<W>>
        + Send
        + 'static,
    ) -> RddStream<'c, W> {
        let (one, two) = (self.cell.clone(), other.cell.clone());
        let make = move |now: &mut Now<'_, '_>| f(one.at(now.time)?, two.at(now.time)?, now);
        self.context
            .rdd_stream(vec![self.id, other.id], self.slide_ms, make)
    }
}

impl Failure {
    /// A parent gave nothing where something is needed: `what` for Spark's sentence.
    #[cold]
    pub(super) fn no_parent(sentence: &str, now: &Now<'_, '_>) -> Self {
        Failure::of_batch(format!("{sentence} at time {} ms", now.time.as_millis()))
    }
}
