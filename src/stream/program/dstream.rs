//! `DStream`: a stream of records in the bytes that were received.

use crate::id::StreamId;
use crate::stream::plan::builder::PlanBuilder;
use crate::stream::plan::graph::NodeId;

/// A stream of records that are slices of the received bytes.
///
/// Its operators run record by record in the shard threads, on all cores, before anything is
/// copied.
#[derive(Clone)]
pub struct DStream<R> {
    pub(crate) plan: PlanBuilder,
    pub(crate) stream: StreamId,
    pub(crate) node: NodeId,
    pub(crate) records: R,
}

debug_fields!([R] DStream<R>, "DStream", stream);

impl<R> DStream<R> {
    /// Names this stream, for [`explain`](crate::StreamingContext::explain) and messages.
    ///
    /// It names the stream and not only this handle of it; the last name counts. A name that two
    /// streams have is an error of the start.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        self.plan.name(self.node, name.into());
        self
    }

    /// Other records of the same bytes, made by the method `kind`.
    pub(crate) fn with<S>(&self, kind: &'static str, records: S) -> DStream<S> {
        DStream {
            plan: self.plan.clone(),
            stream: self.stream,
            node: self.plan.add_records(kind, vec![self.node]),
            records,
        }
    }
}
