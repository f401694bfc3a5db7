//! Output operations: `pprint`, `for_each_batch`, any [`Sink`].

use std::marker::PhantomData;

use crate::epoch::BatchTime;
use crate::epoch::snapshot::{Batch, Value};
use crate::error::Result;
use crate::sink::{Pyspark, Sink};
use crate::stream::lower::SinkOutput;
use crate::stream::reduce_by_key::Reduced;

impl<V: Value> Reduced<'_, V> {
    /// Prints the first `count` keys of each batch on standard output, exactly as PySpark's `pprint`
    /// does, a header for empty batches included; highest value first, equal values in byte order.
    ///
    /// An output that cannot be written ends the run.
    pub fn pprint(&self, count: usize) {
        self.output(Pyspark::stdout(count));
    }

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
        self.output(ForEach(f));
    }

    /// Puts each batch out through `sink`, after the outputs that were registered before.
    pub fn output(&self, sink: impl Sink<V> + 'static) {
        let output = SinkOutput {
            node: self.node,
            sink,
            value: PhantomData,
        };
        self.context.add_output(Box::new(output));
    }
}

struct ForEach<F>(F);

impl<V: Value, F> Sink<V> for ForEach<F>
where
    F: FnMut(&Batch<'_, V>, BatchTime) + Send,
{
    fn emit(&mut self, batch: &Batch<'_, V>) -> Result<()> {
        (self.0)(batch, batch.time());
        Ok(())
    }
}
