//! `DStream`: a stream of records in the bytes that were received.

use crate::id::StreamId;
use crate::stream::plan::builder::PlanBuilder;

/// A stream of records that are slices of the received bytes.
///
/// Its operators run record by record in the shard threads, on all cores, before anything is
/// copied.
#[derive(Clone)]
pub struct DStream<R> {
    pub(crate) plan: PlanBuilder,
    pub(crate) stream: StreamId,
    pub(crate) records: R,
}

debug_fields!([R] DStream<R>, "DStream", stream);

impl<R> DStream<R> {
    /// Other records of the same bytes.
    pub(crate) fn with<S>(&self, records: S) -> DStream<S> {
        DStream {
            plan: self.plan.clone(),
            stream: self.stream,
            records,
        }
    }
}
