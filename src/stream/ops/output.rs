//! Output operations: `pprint`, `for_each_batch`, any [`Sink`].

use std::sync::Arc;

use crate::batch::{Batch, Value};
use crate::error::Result;
use crate::repr::Repr;
use crate::sink::{Printer, Pyspark, Sink};
use crate::stream::plan::graph::{BatchContext, OutputError, OutputNode};
use crate::stream::plan::rdd::{Rdd, Record};
use crate::stream::program::rdd_stream::RddStream;
use crate::stream::program::reduced::Reduced;
use crate::time::BatchTime;

impl<V: Value> Reduced<'_, V> {
    /// Prints the first `count` keys of each batch on standard output, exactly as PySpark's `pprint`
    /// does, a header for empty batches included; highest value first, equal values in byte order.
    ///
    /// An output that cannot be written ends the run.
    pub fn pprint(&self, count: usize) {
        self.register("pprint", Pyspark::stdout(count));
    }
}

impl<V: Copy + Send + Sync + 'static> Reduced<'_, V> {
    /// Calls `f` with each batch and its time, in order: Spark's `foreachRDD`. When it panics the batch
    /// has failed, later ones are still made, and `await_termination` gives the error.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// let words = ssc.socket_text_stream("localhost", 9999)?.flat_map(split_whitespace());
    /// words.count_by_value().for_each_batch(|batch, time| {
    ///     println!("{} ms: {} different words", time.as_millis(), batch.len());
    /// });
    /// # ssc.start()?.await_termination() }
    /// ```
    pub fn for_each_batch<F>(&self, f: F)
    where
        F: FnMut(&Batch<'_, V>, BatchTime) + Send + 'static,
    {
        self.register("for_each_batch", ForEach(f));
    }

    /// Puts each batch out through `sink`, after the outputs that were registered before.
    pub fn output(&self, sink: impl Sink<V> + 'static) {
        self.register("output", sink);
    }

    pub(crate) fn register(&self, name: &'static str, mut sink: impl Sink<V> + 'static) {
        let (held, asked) = (Arc::clone(&self.held), Arc::clone(&self.held));
        let emit = move |now: &mut BatchContext<'_, '_>| {
            let put_out = |table: &_, stats: &_| sink.emit(&Batch::new(table, stats));
            match held.map(now.time, put_out)? {
                None | Some(Ok(())) => Ok(()),
                Some(Err(error)) => Err(OutputError::Broken(error)),
            }
        };
        self.context.add_output(
            self.id,
            OutputNode {
                name,
                slide_ms: self.slide_ms,
                has_batch: Box::new(move |time| !matches!(asked.map(time, |_, _| ()), Ok(None))),
                emit: Box::new(emit),
            },
        );
    }
}

struct ForEach<F>(F);

impl<V: Copy + Send + Sync + 'static, F> Sink<V> for ForEach<F>
where
    F: FnMut(&Batch<'_, V>, BatchTime) + Send,
{
    fn emit(&mut self, batch: &Batch<'_, V>) -> Result<()> {
        (self.0)(batch, batch.time());
        Ok(())
    }
}

impl<T: Record> RddStream<'_, T> {
    /// Calls `f` with each batch and its time, in order: Spark's `foreachRDD`. When it panics the batch
    /// has failed, later ones are still made, and `await_termination` gives the error.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// let lines = ssc.socket_text_stream("localhost", 9999)?;
    /// lines.map_to(|line| line.len()).for_each_batch(|lengths, time| {
    ///     println!("{} ms: longest {:?}", time.as_millis(), lengths.iter().max());
    /// });
    /// # ssc.start()?.await_termination() }
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

    /// Prints the first `count` records of each batch on standard output, as PySpark's `pprint` does, a
    /// header for empty batches included.
    ///
    /// An output that cannot be written ends the run.
    pub fn pprint(&self, count: usize)
    where
        T: Repr,
    {
        let mut printer = Printer::stdout(count);
        self.register("pprint", move |rdd, time| printer.print(time, rdd.iter()));
    }

    pub(crate) fn register(
        &self,
        name: &'static str,
        mut f: impl FnMut(&Rdd<T>, BatchTime) -> Result<()> + Send + 'static,
    ) {
        let (cell, asked) = (self.cell.clone(), self.cell.clone());
        let emit = move |now: &mut BatchContext<'_, '_>| match cell.at(now.time)? {
            None => Ok(()),
            Some(rdd) => f(&rdd, now.time).map_err(OutputError::Broken),
        };
        self.context.add_output(
            self.id,
            OutputNode {
                name,
                slide_ms: self.slide_ms,
                has_batch: Box::new(move |time| !matches!(asked.at(time), Ok(None))),
                emit: Box::new(emit),
            },
        );
    }
}
