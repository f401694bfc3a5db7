//! `output_on_thread`: a sink on a thread of its own, behind a queue of batches.
//!
//! ```text
//!   mt-publisher:   batch ─ table, by swap ─▶ queue ─▶ mt-sink-NAME: deliver, again if asked for
//!                     ▲                                     │
//!                     └────────── table, to be used again ──┘
//! ```

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::batch::owned::OwnedBatch;
use crate::engine::plan::{OutputThread, ThreadHost};
use crate::error::{Error, ErrorKind, Result, guarded};
use crate::limits::SINK_QUEUE_MAX;
use crate::ring::sleeper::Sleeper;
use crate::shard::panic_message;
use crate::sink::Sink;
use crate::sink::delivery::Delivery;
use crate::stream::plan::batch_cache::Failure;
use crate::stream::plan::graph::{BatchContext, Operator, StartContext};
use crate::stream::plan::lent_table::BatchTable;
use crate::stream::program::reduced::Reduced;
use crate::time::BatchTime;

impl<V: Copy + Send + Sync + 'static> Reduced<V> {
    /// Publishes each batch through `sink` on a thread of its own, `mt-sink-<name>`. For a sink
    /// that may be slow, such as a database: meanwhile other outputs and later batches go on.
    ///
    /// `queue` is the number of batches that may wait for the sink, besides the one that it has: 1
    /// to 1024. When the queue is full, the publisher waits too; then the rings fill, and sources
    /// are not read. So nothing is lost. `name` also names the output in notices and in
    /// [`explain`](crate::StreamingContext::explain).
    ///
    /// A batch of the shards costs no copy: its table goes into the queue, and comes back to be
    /// filled again. A window is copied, because its table is needed for the next one. With a
    /// memory limit, `queue` + 2 tables are set aside; sinks of one stream share them.
    ///
    /// A graceful stop delivers what is in the queue; an immediate one reports what is not
    /// delivered. A sink that panics ends the run.
    ///
    /// ```
    /// use microtally::prelude::*;
    /// use microtally::Config;
    /// use microtally::sink::{Sink, Undelivered};
    /// use microtally::sources::Lines;
    ///
    /// struct Slow;
    /// impl Sink<u64> for Slow {
    ///     fn deliver(&mut self, batch: &Batch<'_, u64>) -> Result<(), Undelivered> {
    ///         let thread = std::thread::current();
    ///         assert_eq!(thread.name(), Some("mt-sink-db"));
    ///         std::thread::sleep(Duration::from_millis(20));
    ///         assert_eq!(batch.get(b"be"), Some(2));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let ssc = StreamingContext::one_batch(Config::default())?;
    /// let words = ssc.source_stream(Lines::of("to be or not to be")).split(b' ');
    /// words.count_by_value().output_on_thread("db", Slow, 4)?;
    /// ssc.start()?.await_termination()?; // It returns when the sink has the batch.
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `queue` is out of range, or the memory limit leaves too little room.
    pub fn output_on_thread(
        &self,
        name: &str,
        sink: impl Sink<V> + 'static,
        queue: usize,
    ) -> Result<()> {
        if !(1..=SINK_QUEUE_MAX).contains(&queue) {
            return Err(Error::refused(format!(
                "queue {queue} is outside 1 to {SINK_QUEUE_MAX}"
            )));
        }
        // The sink has one batch, and the publisher another. Several sinks share them.
        for _ in 0..self.table.allow_owned(queue + 2) {
            match self.table.is_kept() {
                true => self.plan.keep_window(1)?,
                false => self.plan.keep_table(),
            }
        }
        let (batches_in, batches) = rtrb::RingBuffer::new(queue);
        let sleeper = Arc::<Sleeper>::default();
        let delivered = Arc::<AtomicU64>::default();
        let thread = SinkThread {
            name: name.to_owned(),
            delivery: Delivery::new(sink),
            batches,
            sleeper: Arc::clone(&sleeper),
            delivered: Arc::clone(&delivered),
        };
        let operator = QueueOutput {
            table: Arc::clone(&self.table),
            batches: Some(batches_in),
            sleeper,
            handed_over: 0,
            delivered,
            thread: Some(thread),
        };
        let plan = &self.plan;
        let id = plan.add_output("output_on_thread", self.id, self.slide_ms, operator);
        plan.name(id, name.to_owned());
        Ok(())
    }
}

/// A batch in a queue, and the epoch it is of.
type QueuedBatch<V> = (u64, Arc<OwnedBatch<V>>);

/// The publisher's end of a queue.
struct QueueOutput<V, S> {
    table: Arc<dyn BatchTable<V>>,
    /// `None` once the run has ended.
    batches: Option<rtrb::Producer<QueuedBatch<V>>>,
    /// Wakes the sink's thread.
    sleeper: Arc<Sleeper>,
    /// The last epoch that was put into the queue.
    handed_over: u64,
    /// The last epoch that was delivered.
    delivered: Arc<AtomicU64>,
    /// Until it is started.
    thread: Option<SinkThread<V, S>>,
}

impl<V, S> Operator for QueueOutput<V, S>
where
    V: Copy + Send + Sync + 'static,
    S: Sink<V> + 'static,
{
    fn start(&mut self, context: &mut StartContext<'_>) -> Result<()> {
        if let Some(mut thread) = self.thread.take() {
            thread
                .delivery
                .start(context.name, context.notices, context.metrics)?;
            context.threads.push(Box::new(thread));
        }
        Ok(())
    }

    fn has_batch(&self, time: BatchTime) -> bool {
        self.table.has_batch(time)
    }

    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> Result<(), Failure> {
        let Some(batches) = self.batches.as_mut().filter(|batches| !batches.is_full()) else {
            // The sink's thread wakes the publisher.
            now.wait_until(Duration::MAX);
            return Ok(());
        };
        if let Some(batch) = self.table.owned(now.time)? {
            let epoch = now.epoch.barrier.epoch;
            assert!(batches.push((epoch, batch)).is_ok(), "it is not full");
            self.handed_over = epoch;
            self.sleeper.unpark();
        }
        Ok(())
    }

    fn delivered(&self) -> u64 {
        // Acquire: pairs with the Release of the sink's thread; what it did is done.
        match self.delivered.load(Ordering::Acquire) {
            delivered if delivered == self.handed_over => u64::MAX,
            delivered => delivered,
        }
    }
}

impl<V, S> Drop for QueueOutput<V, S> {
    fn drop(&mut self) {
        // First the queue's end: it is what the thread looks at.
        self.batches = None;
        self.sleeper.unpark();
    }
}

/// A sink's thread.
struct SinkThread<V, S> {
    name: String,
    delivery: Delivery<S>,
    batches: rtrb::Consumer<QueuedBatch<V>>,
    sleeper: Arc<Sleeper>,
    delivered: Arc<AtomicU64>,
}

impl<V, S> OutputThread for SinkThread<V, S>
where
    V: Copy + Send + Sync + 'static,
    S: Sink<V> + 'static,
{
    fn name(&self) -> String {
        format!("mt-sink-{}", self.name)
    }

    fn run(&mut self, host: &ThreadHost) {
        self.sleeper.attach();
        let control = &host.control;
        while !control.is_aborted() {
            // Asked first: what was put into the queue before its end was dropped is seen then.
            let is_over = self.batches.is_abandoned();
            match self.batches.pop() {
                Ok((epoch, batch)) => {
                    host.wake_publisher();
                    match self.deliver(&batch, host) {
                        Err(error) => control.fail(error),
                        Ok(false) => {}
                        Ok(true) => {
                            drop(batch);
                            // Release: pairs with the Acquire in `QueueOutput::delivered`.
                            self.delivered.store(epoch, Ordering::Release);
                            host.wake_publisher();
                        }
                    }
                }
                Err(_) if is_over => return,
                Err(_) => thread::park(),
            }
        }
        self.give_up();
    }
}

impl<V, S> SinkThread<V, S>
where
    V: Copy + Send + Sync + 'static,
    S: Sink<V>,
{
    /// Delivers a batch, however often the sink asks for a retry. Returns `false` if the run was
    /// aborted before.
    ///
    /// # Errors
    ///
    /// The sink's error, or its panic.
    fn deliver(&mut self, batch: &OwnedBatch<V>, host: &ThreadHost) -> Result<bool> {
        let ThreadHost { control, clock, .. } = host;
        let batch = batch.batch();
        loop {
            let is_stopping = control.is_stopping();
            control.set_delivering(true);
            let delivered = guarded(|| self.delivery.deliver(&batch, clock, is_stopping));
            control.set_delivering(false);
            match delivered.map_err(|panic| self.panicked(panic.as_ref()))?? {
                None => return Ok(true),
                Some(_) if control.is_aborted() => return Ok(false),
                Some(at) => thread::park_timeout(clock.wait_until(at)),
            }
        }
    }

    #[cold]
    fn panicked(&self, panic: &(dyn Any + Send)) -> Error {
        let (name, message) = (&self.name, panic_message(panic));
        Error::new(
            ErrorKind::UserFunction,
            format!("sink {name} panicked, which ends the run: {message}"),
        )
    }

    /// Reports what is left when the run is aborted.
    fn give_up(&mut self) {
        let mut times = Vec::from_iter(self.delivery.waiting_time());
        while let Ok((_, batch)) = self.batches.pop() {
            times.push(batch.stats.time);
        }
        if let (Some(&first), Some(&last)) = (times.first(), times.last()) {
            self.delivery.give_up(first, last, times.len() as u64);
        }
    }
}
