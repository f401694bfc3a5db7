//! What users call: the context before its start, its inputs, the handles of streams, the running
//! context, and listeners.

pub(crate) mod binary_records_stream;
pub(crate) mod context;
pub(crate) mod doors;
pub(crate) mod dstream;
pub(crate) mod listener;
pub(crate) mod queue_stream;
pub(crate) mod rdd_stream;
pub(crate) mod receiver;
pub(crate) mod reduced;
pub(crate) mod run_batches;
pub(crate) mod running;
