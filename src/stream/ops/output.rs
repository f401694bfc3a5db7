//! Output operations: `pprint`, `for_each_batch`, any [`Sink`].

use std::sync::Arc;

use crate::batch::{Batch, Value};
use crate::error::Result;
use crate::metrics::{Recorder, SinkCells};
use crate::repr::Repr;
use crate::sink::delivery::Delivery;
use crate::sink::{Printer, Pyspark, Sink, Undelivered};
use crate::stream::plan::batch_cache::{BatchCache, Failure};
use crate::stream::plan::graph::{BatchContext, Operator, StartContext};
use crate::stream::plan::lent_table::BatchTable;
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::rdd_stream::RddStream;
use crate::stream::program::reduced::Reduced;
use crate::time::BatchTime;

impl<V: Value> Reduced<V> {
    /// Prints the first `count` keys of each batch to standard output, exactly as PySpark's
    /// `pprint` does, with a header for empty batches too.
    ///
    /// The highest value is first; equal values are in byte order of their keys. If it cannot be
    /// written, the run ends.
    pub fn pprint(&self, count: usize) {
        self.register("pprint", Pyspark::stdout(count));
    }
}

impl<V: Copy + Send + Sync + 'static> Reduced<V> {
    /// Calls `f` with each batch and its time, in order: Spark's `foreachRDD`.
    ///
    /// If `f` panics, the batch has failed. Later batches are still made, and `await_termination`
    /// returns the error.
    ///
    /// ```
    /// use microtally::prelude::*;
    /// use microtally::sources::Lines;
    ///
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// let words = ssc.source_stream(Lines::of("to be or not to be")).split(b' ');
    /// words.count_by_value().for_each_batch(|batch, time| {
    ///     println!("{} ms: {} different words", time.as_millis(), batch.len());
    /// });
    /// ssc.start()?.await_termination()?;
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn for_each_batch<F>(&self, f: F)
    where
        F: FnMut(&Batch<'_, V>, BatchTime) + Send + 'static,
    {
        self.register("for_each_batch", ForEach(f));
    }

    /// Publishes each batch through `sink`, after the outputs that were registered before.
    pub fn output(&self, sink: impl Sink<V> + 'static) {
        self.register("output", sink);
    }

    pub(crate) fn register(&self, kind: &'static str, sink: impl Sink<V> + 'static) {
        let operator = SinkOutput {
            table: Arc::clone(&self.table),
            delivery: Delivery::new(sink),
        };
        self.plan.add_output(kind, self.id, self.slide_ms, operator);
    }
}

/// Delivers the tables of a stream to a sink.
struct SinkOutput<V, S> {
    table: Arc<dyn BatchTable<V>>,
    delivery: Delivery<S>,
}

impl<V, S> Operator for SinkOutput<V, S>
where
    V: Copy + Send + Sync + 'static,
    S: Sink<V>,
{
    fn start(&mut self, context: &mut StartContext<'_>) -> Result<()> {
        self.delivery
            .start(context.name, context.notices, context.metrics)
    }

    fn has_batch(&self, time: BatchTime) -> bool {
        self.table.has_batch(time)
    }

    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> Result<(), Failure> {
        let is_stopping = now.epoch.control.is_stopping();
        let delivered = self.table.map(now.time, |table, stats| {
            let batch = Batch::new(table, stats);
            self.delivery.deliver(&batch, now.epoch.clock, is_stopping)
        })?;
        match delivered.unwrap_or(Ok(None)) {
            Ok(waits_until) => waits_until.into_iter().for_each(|at| now.wait_until(at)),
            Err(error) => now.end_run(error),
        }
        Ok(())
    }
}

struct ForEach<F>(F);

impl<V: Copy + Send + Sync + 'static, F> Sink<V> for ForEach<F>
where
    F: FnMut(&Batch<'_, V>, BatchTime) + Send,
{
    fn deliver(&mut self, batch: &Batch<'_, V>) -> Result<(), Undelivered> {
        (self.0)(batch, batch.time());
        Ok(())
    }
}

impl<T: Record> RddStream<T> {
    /// Calls `f` with each batch and its time, in order: Spark's `foreachRDD`.
    ///
    /// If `f` panics, the batch has failed. Later batches are still made, and `await_termination`
    /// returns the error.
    ///
    /// ```
    /// use microtally::prelude::*;
    /// use microtally::sources::Lines;
    ///
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// let lengths = ssc.source_stream(Lines::of("to be\nor not")).map_to(|line| line.len());
    /// lengths.for_each_batch(|lengths, time| {
    ///     println!("{} ms: longest {:?}", time.as_millis(), lengths.iter().max());
    /// });
    /// ssc.start()?.await_termination()?;
    /// # Ok::<(), microtally::Error>(())
    /// ```
    pub fn for_each_batch<F>(&self, mut f: F)
    where
        F: FnMut(&Rdd<T>, BatchTime) + Send + 'static,
    {
        self.register("for_each_batch", move |rdd, time| {
            f(rdd, time);
            Ok(())
        });
    }

    /// Prints the first `count` records of each batch to standard output, as PySpark's `pprint`
    /// does, with a header for empty batches too. If it cannot be written, the run ends.
    pub fn pprint(&self, count: usize)
    where
        T: Repr,
    {
        let mut printer = Printer::stdout(count);
        self.register("pprint", move |rdd, time| printer.print(time, rdd.iter()));
    }

    pub(crate) fn register(
        &self,
        kind: &'static str,
        f: impl FnMut(&Rdd<T>, BatchTime) -> Result<()> + Send + 'static,
    ) {
        let operator = RddOutput {
            cache: self.cache.clone(),
            f,
            recorder: Recorder::default(),
        };
        self.plan.add_output(kind, self.id, self.slide_ms, operator);
    }
}

/// Calls a function with the batches of a stream of records.
struct RddOutput<T, F> {
    cache: BatchCache<T>,
    f: F,
    recorder: Recorder<SinkCells>,
}

impl<T, F> Operator for RddOutput<T, F>
where
    T: Record,
    F: FnMut(&Rdd<T>, BatchTime) -> Result<()> + Send,
{
    fn start(&mut self, context: &mut StartContext<'_>) -> Result<()> {
        self.recorder = context.metrics.sink(context.name);
        Ok(())
    }

    fn has_batch(&self, time: BatchTime) -> bool {
        !matches!(self.cache.peek(time), Ok(None))
    }

    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> Result<(), Failure> {
        let Some(rdd) = self.cache.peek(now.time)? else {
            return Ok(());
        };
        let clock = now.epoch.clock;
        let begin = clock.now();
        let delivered = (self.f)(&rdd, now.time);
        let time = clock.now().saturating_sub(begin);
        self.recorder.update(|cells| {
            cells.deliver.record(time);
            cells.batches.add(delivered.is_ok().into());
        });
        if let Err(error) = delivered {
            now.end_run(error);
        }
        Ok(())
    }
}
