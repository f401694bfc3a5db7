//! Listeners: events of a running context, with Spark's names and fields.
//!
//! Promise: the events of a batch are submitted, started, each output started and completed,
//! completed, in this order.
//! Must not know: `ops`, `sink`, `source`.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::engine::control::Control;
use crate::engine::plan::failed_drop;
use crate::error::{Error, ErrorKind, guarded, lock};
use crate::shard::panic_message;
use crate::time::{BatchTime, Clock};

/// Receives the events of a running context: Spark's `StreamingListener`.
///
/// All methods do nothing by default. They are called one at a time, on the engine's threads: while
/// one runs, no batch is published. A listener may stop the run through a
/// [`StopHandle`](crate::stream::StopHandle). A listener that panics is not called again, and
/// [`RunningContext::await_termination`](crate::RunningContext::await_termination) returns the
/// error.
///
/// ```
/// use microtally::stream::{BatchInfo, StreamingListener};
/// struct Delays;
/// impl StreamingListener for Delays {
///     fn on_batch_completed(&mut self, batch: &BatchInfo) {
///         println!("{:?} behind, {} records", batch.total_delay(), batch.num_records());
///     }
/// }
/// ```
pub trait StreamingListener: Send {
    /// The context has started, at this time since 1970.
    fn on_streaming_started(&mut self, _time: Duration) {}
    /// A source of bytes is being read from now on.
    fn on_receiver_started(&mut self, _receiver: &ReceiverInfo) {}
    /// A source lost its connection, or got none.
    fn on_receiver_error(&mut self, _receiver: &ReceiverInfo) {}
    /// A source ended, or waits before it tries again.
    fn on_receiver_stopped(&mut self, _receiver: &ReceiverInfo) {}
    /// A batch is complete and waits to be published.
    fn on_batch_submitted(&mut self, _batch: &BatchInfo) {}
    /// The publishing of a batch begins.
    fn on_batch_started(&mut self, _batch: &BatchInfo) {}
    /// A batch has been published.
    fn on_batch_completed(&mut self, _batch: &BatchInfo) {}
    /// An output operation begins.
    fn on_output_operation_started(&mut self, _output: &OutputOperationInfo) {}
    /// An output operation ended.
    fn on_output_operation_completed(&mut self, _output: &OutputOperationInfo) {}
}

/// The state of a source of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiverInfo {
    /// Number of the input stream, in the order in which streams were made, from 0.
    pub stream_id: usize,
    /// The source's URL.
    pub name: String,
    /// `true` while it is being read.
    pub active: bool,
    /// Its last error.
    pub last_error_message: Option<String>,
    /// Time of the last error since 1970.
    pub last_error_time: Option<Duration>,
}

/// The input of one stream during a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamInputInfo {
    /// Number of the input stream, in the order in which streams were made, from 0.
    pub input_stream_id: usize,
    /// Records received.
    pub num_records: u64,
}

/// An output operation on one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputOperationInfo {
    /// The batch.
    pub batch_time: BatchTime,
    /// Number of the operation, in registration order, from 0.
    pub id: usize,
    /// The method that registered it.
    pub name: &'static str,
    /// When it began, as time since 1970.
    pub start_time: Option<Duration>,
    /// When it ended, as time since 1970.
    pub end_time: Option<Duration>,
    /// Why there was no output, if it failed.
    pub failure_reason: Option<String>,
}

impl OutputOperationInfo {
    /// How long the operation took.
    pub fn duration(&self) -> Option<Duration> {
        Some(self.end_time?.saturating_sub(self.start_time?))
    }
}

/// The progress of a batch. Times are since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchInfo {
    /// The batch's time.
    pub batch_time: BatchTime,
    /// The input, by input stream.
    pub stream_id_to_input_info: Vec<StreamInputInfo>,
    /// When the batch was complete: the batch time, at which batches are cut.
    pub submission_time: Duration,
    /// When its publishing began.
    pub processing_start_time: Option<Duration>,
    /// When it had been published.
    pub processing_end_time: Option<Duration>,
    /// The outputs of this batch that have begun.
    pub output_operation_infos: Vec<OutputOperationInfo>,
}

impl BatchInfo {
    /// Records received over all streams.
    pub fn num_records(&self) -> u64 {
        let streams = self.stream_id_to_input_info.iter();
        streams.map(|stream| stream.num_records).sum()
    }

    /// How long the batch waited before its publishing began.
    pub fn scheduling_delay(&self) -> Option<Duration> {
        let start = self.processing_start_time?;
        Some(start.saturating_sub(self.submission_time))
    }

    /// How long its publishing took.
    pub fn processing_delay(&self) -> Option<Duration> {
        let end = self.processing_end_time?;
        Some(end.saturating_sub(self.processing_start_time?))
    }

    /// The sum of scheduling delay and processing delay.
    pub fn total_delay(&self) -> Option<Duration> {
        Some(self.scheduling_delay()? + self.processing_delay()?)
    }
}

/// All listeners of a context.
#[derive(Clone, Default)]
pub(crate) struct ListenerBus(Arc<Mutex<Listeners>>);

#[derive(Default)]
struct Listeners {
    all: Vec<Box<dyn StreamingListener>>,
    /// Where a panic is reported, once the context has started.
    control: Option<Arc<Control>>,
}

impl ListenerBus {
    /// Adds a listener.
    pub(crate) fn add(&self, listener: Box<dyn StreamingListener>) {
        self.lock().all.push(listener);
    }

    /// Reports listeners that panic to `control` from now on.
    pub(crate) fn report_to(&self, control: &Arc<Control>) {
        self.lock().control = Some(Arc::clone(control));
    }

    fn lock(&self) -> MutexGuard<'_, Listeners> {
        lock(&self.0)
    }

    /// Calls every listener. One that panics is not called again.
    pub(crate) fn notify(&self, mut call: impl FnMut(&mut dyn StreamingListener)) {
        let mut listeners = self.lock();
        let Listeners { all, control } = &mut *listeners;
        let control = control.as_deref();
        let report = |error| {
            if let Some(control) = control {
                control.report(error);
            }
        };
        let mut index = 0;
        while let Some(listener) = all.get_mut(index) {
            let Err(panic) = guarded(|| call(listener.as_mut())) else {
                index += 1;
                continue;
            };
            let message = panic_message(panic.as_ref());
            report(Error::new(
                ErrorKind::UserFunction,
                format!("streaming listener panicked and is not called again: {message}"),
            ));
            let listener = all.remove(index);
            if let Err(panic) = guarded(|| drop(listener)) {
                report(failed_drop(&panic_message(panic.as_ref())));
            }
        }
    }

    /// Returns `true` if there is no listener.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().all.is_empty()
    }
}

debug_fields!([] ListenerBus, "ListenerBus");

/// Reports the batch being published to listeners. Costs nothing without listeners.
pub(crate) struct Reporter {
    bus: ListenerBus,
    clock: Clock,
    batch: Option<BatchInfo>,
}

impl Reporter {
    pub(crate) fn new(bus: ListenerBus, clock: Clock) -> Self {
        Reporter {
            bus,
            clock,
            batch: None,
        }
    }

    /// Outputs are about to run on a batch.
    pub(crate) fn batch_started(
        &mut self,
        time: BatchTime,
        inputs: impl FnOnce() -> Vec<StreamInputInfo>,
    ) {
        if self.bus.is_empty() {
            return;
        }
        let mut batch = BatchInfo {
            batch_time: time,
            stream_id_to_input_info: inputs(),
            submission_time: Duration::from_millis(time.as_millis()),
            processing_start_time: None,
            processing_end_time: None,
            output_operation_infos: Vec::new(),
        };
        self.bus
            .notify(|listener| listener.on_batch_submitted(&batch));
        batch.processing_start_time = Some(self.clock.now());
        self.bus
            .notify(|listener| listener.on_batch_started(&batch));
        self.batch = Some(batch);
    }

    /// An output is about to run.
    pub(crate) fn output_started(&mut self, id: usize, name: &'static str) {
        let Some(batch) = &mut self.batch else { return };
        let output = OutputOperationInfo {
            batch_time: batch.batch_time,
            id,
            name,
            start_time: Some(self.clock.now()),
            end_time: None,
            failure_reason: None,
        };
        self.bus
            .notify(|listener| listener.on_output_operation_started(&output));
        batch.output_operation_infos.push(output);
    }

    /// The output that was started last has run.
    pub(crate) fn output_completed(&mut self, failure: Option<&str>) {
        let Some(batch) = &mut self.batch else { return };
        let output = batch.output_operation_infos.last_mut();
        let output = output.expect("an output was started");
        output.end_time = Some(self.clock.now());
        output.failure_reason = failure.map(str::to_owned);
        self.bus
            .notify(|listener| listener.on_output_operation_completed(output));
    }

    /// Every output has run.
    pub(crate) fn batch_completed(&mut self) {
        let Some(mut batch) = self.batch.take() else {
            return;
        };
        batch.processing_end_time = Some(self.clock.now());
        self.bus
            .notify(|listener| listener.on_batch_completed(&batch));
    }
}
