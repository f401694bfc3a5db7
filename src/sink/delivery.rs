//! Delivers batches to one sink: in order, each until it is there.
//!
//! Promise: a sink is not called before the time it asked for, except once when a stop is
//! requested; a batch it has already is not delivered again; that a batch has to wait is reported,
//! and that batches are delivered again. Must not know: `ring`, `shard`, `table`, threads.

use std::time::Duration;

use crate::batch::{Batch, BatchId};
use crate::error::Result;
use crate::limits::{NOTICE_PAUSE_MS, RETRY_MS_MIN};
use crate::metrics::{Metrics, Recorder, SinkCells};
use crate::notice::{Notice, NoticeKind, Notices};
use crate::sink::{Sink, Undelivered};
use crate::time::{BatchTime, Clock};

/// A sink, and how far it is.
pub(crate) struct Delivery<S> {
    sink: S,
    /// The sink's name, for messages.
    name: String,
    notices: Notices,
    recorder: Recorder<SinkCells>,
    /// The last batch that was there at the start.
    there: Option<BatchId>,
    waiting: Option<WaitingBatch>,
    /// It was reported that a batch waits.
    is_reported: bool,
    /// Earliest time of the next report.
    next_report: Duration,
}

/// The batch for which the sink asked for a retry.
struct WaitingBatch {
    time: BatchTime,
    /// When the sink is called again.
    retry_at: Duration,
    /// A stop was requested before the last attempt.
    is_hurried: bool,
}

impl<S> Delivery<S> {
    pub(crate) fn new(sink: S) -> Self {
        Delivery {
            sink,
            name: String::new(),
            notices: Notices::default(),
            recorder: Recorder::default(),
            there: None,
            waiting: None,
            is_reported: false,
            next_report: Duration::ZERO,
        }
    }

    /// Names the sink in messages and metrics, and asks it what is there. Called once, before the
    /// first batch.
    ///
    /// # Errors
    ///
    /// The sink's.
    pub(crate) fn start<V>(
        &mut self,
        name: &str,
        notices: &Notices,
        metrics: &Metrics,
    ) -> Result<()>
    where
        S: Sink<V>,
    {
        name.clone_into(&mut self.name);
        self.notices = notices.clone();
        self.recorder = metrics.sink(name);
        self.there = self.sink.delivered()?;
        Ok(())
    }

    /// Delivers `batch`. Returns when to call again with the same batch, or `None` once it is
    /// there.
    ///
    /// # Errors
    ///
    /// The sink's: it will not take the batch.
    ///
    /// # Panics
    ///
    /// Panics if the sink does; the batch does not wait then.
    pub(crate) fn deliver<V>(
        &mut self,
        batch: &Batch<'_, V>,
        clock: &Clock,
        is_stopping: bool,
    ) -> Result<Option<Duration>>
    where
        S: Sink<V>,
        V: Copy + Send + 'static,
    {
        if let Some(waiting) = &self.waiting
            && (waiting.is_hurried || !is_stopping)
            && clock.now() < waiting.retry_at
        {
            return Ok(Some(waiting.retry_at));
        }
        self.waiting = None;
        let time = batch.time();
        if self.there.is_some_and(|there| time <= there.time) {
            return Ok(None);
        }
        let begin = clock.now();
        let delivered = self.sink.deliver(batch);
        let now = clock.now();
        self.recorder.update(|cells| {
            cells.deliver.record(now.saturating_sub(begin));
            match &delivered {
                Ok(()) => cells.batches.add(1),
                Err(Undelivered::Retry { .. }) => cells.retries.add(1),
                Err(Undelivered::Fatal(_)) => {}
            }
        });
        match delivered {
            Ok(()) => {
                if std::mem::take(&mut self.is_reported) {
                    self.report(NoticeKind::Delivering);
                }
                Ok(None)
            }
            Err(Undelivered::Fatal(error)) => Err(error),
            Err(Undelivered::Retry { after, cause }) => {
                let after = after.max(Duration::from_millis(RETRY_MS_MIN));
                if !self.is_reported && now >= self.next_report {
                    self.is_reported = true;
                    self.next_report = now.saturating_add(Duration::from_millis(NOTICE_PAUSE_MS));
                    let reason = cause.to_string();
                    let retry_in = after;
                    self.report(NoticeKind::Undelivered { reason, retry_in });
                }
                let retry_at = now.saturating_add(after);
                self.waiting = Some(WaitingBatch {
                    time,
                    retry_at,
                    is_hurried: is_stopping,
                });
                Ok(Some(retry_at))
            }
        }
    }

    /// The time of the batch for which the sink asked for a retry.
    pub(crate) fn waiting_time(&self) -> Option<BatchTime> {
        self.waiting.as_ref().map(|waiting| waiting.time)
    }

    /// Reports that these batches will not be delivered: the first, the last, and their number.
    pub(crate) fn give_up(&mut self, first: BatchTime, last: BatchTime, batches: u64) {
        self.waiting = None;
        self.report(NoticeKind::NotDelivered {
            batches,
            first,
            last,
        });
    }

    fn report(&self, kind: NoticeKind) {
        self.notices.report(Notice::new(&self.name, kind));
    }
}

impl<S> Drop for Delivery<S> {
    fn drop(&mut self) {
        if let Some(WaitingBatch { time, .. }) = self.waiting {
            self.give_up(time, time, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchStats;
    use crate::error::Error;
    use crate::table::KeyTable;
    use crate::table::keys::Seed;

    /// Asks for these waits, in milliseconds, one a call; takes the batch where it is `None`.
    struct Waits(Vec<Option<u64>>);

    impl Sink<u64> for Waits {
        fn deliver(&mut self, _batch: &Batch<'_, u64>) -> Result<(), Undelivered> {
            match self.0.remove(0) {
                None => Ok(()),
                Some(ms) => Err(Undelivered::Retry {
                    after: Duration::from_millis(ms),
                    cause: Error::output("here", &std::io::Error::other("busy")),
                }),
            }
        }
    }

    #[test]
    fn waits_are_kept_and_reported_once_and_a_stop_ends_one() {
        let (notices, texts) = Notices::kept();
        let metrics = Metrics::default();
        let answers = vec![
            Some(0),
            Some(100),
            None,
            Some(4000),
            Some(1000),
            None,
            Some(60_000),
            Some(60_000),
        ];
        let mut delivery = Delivery::new(Waits(answers));
        delivery.start("db", &notices, &metrics).expect("it starts");
        let (table, stats) = (KeyTable::new(Seed::random()), BatchStats::default());
        let clock = Clock::manual(Duration::ZERO);
        let mut deliver = |at_ms: u64, is_stopping| {
            clock.advance(Duration::from_millis(at_ms) - clock.now());
            let batch = Batch::new(&table, &stats);
            let waits = delivery.deliver(&batch, &clock, is_stopping);
            let left = delivery.sink.0.len();
            (
                waits.expect("nothing is fatal").map(|at| at.as_millis()),
                left,
            )
        };
        let waiting = |s: &str| {
            format!("sink db: waiting: cannot write results to here: busy; next try in {s} s")
        };
        assert_eq!(deliver(0, false), (Some(1), 7), "a wait of 0 is none");
        assert_eq!(texts.take(), [waiting("0.001")]);
        assert_eq!(deliver(0, false), (Some(1), 7), "it is too early");
        assert_eq!(deliver(1, false), (Some(101), 6));
        assert_eq!(deliver(101, false), (None, 5));
        assert_eq!(texts.take(), ["sink db: delivers again"]);
        assert_eq!(deliver(2000, false), (Some(6000), 4));
        assert_eq!(texts.take().len(), 0, "too soon after the notice before");
        assert_eq!(deliver(6000, false), (Some(7000), 3));
        assert_eq!(texts.take(), [waiting("1")]);
        assert_eq!(deliver(7000, false), (None, 2));
        assert_eq!(deliver(8000, false), (Some(68_000), 1));
        assert_eq!(
            deliver(9000, true),
            (Some(69_000), 0),
            "a stop ends the wait"
        );
        assert_eq!(deliver(9001, true), (Some(69_000), 0), "once");
        texts.take();
        drop(delivery);
        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.get("sink_batches_total", "db"), Some(2));
        assert_eq!(snapshot.get("sink_retries_total", "db"), Some(6));
        let attempts = snapshot.histogram("sink_deliver_seconds");
        assert_eq!(attempts.map(|attempts| attempts.count()), Some(8));
        let undelivered = "sink db: stopped with 1 batch undelivered: 0 ms";
        assert_eq!(texts.take(), [undelivered]);
    }
}
