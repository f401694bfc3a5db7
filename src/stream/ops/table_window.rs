//! Windows over one value a key and batch: `reduce_by_key_and_window` on tables, at the cost of what came and
//! what left.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::batch::{BatchStats, WindowSums};
use crate::error::{Error, Result, guarded};
use crate::shard::panic_message;
use crate::shard::stage::Records;
use crate::stream::ops::map::Pairs;
use crate::stream::ops::window::{Kind, Span, Window};
use crate::stream::plan::batch_cache::{BatchTable, Failure, LentTable};
use crate::stream::plan::graph::{BatchContext, Operator, StartContext};
use crate::stream::plan::memory_limit::MemoryLimit;
use crate::stream::program::context::DStream;
use crate::stream::program::rdd_stream::RddStream;
use crate::stream::program::reduced::Reduced;
use crate::table::KeyTable;
use crate::time::BatchTime;
use crate::window::{InverseWindow, NoWindow, ReduceWindow, Shape};

impl<'c, V: Copy + Send + Sync + 'static> Reduced<'c, V> {
    /// Folds the values of each key of a window, oldest first: Spark's `reduceByKeyAndWindow`. Keys that
    /// have left are gone. A window costs a few look-ups for each key that came or left, however long it is,
    /// though no inverse function is known.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// let words = ssc.socket_text_stream("localhost", 9999)?.flat_map(split(b' '));
    /// let busiest = words.count_by_value().reduce_by_key_and_window(u64::max, Duration::from_secs(60))?;
    /// busiest.pprint(10); // of each word the most in any second of the last minute
    /// # ssc.start()?.await_termination() }
    /// ```
    ///
    /// # Errors
    ///
    /// Length or slide are no multiple of this stream's slide; or there is a memory limit, and for so many batches
    /// too little room.
    pub fn reduce_by_key_and_window(
        &self,
        reduce: impl Fn(V, V) -> V + Send + 'static,
        window: impl Into<Window>,
    ) -> Result<Reduced<'c, V>> {
        let span = Span::new(window.into(), self.context, self.slide_ms, Kind::Windowed)?;
        let shape = self.shape(&span);
        self.context.keep_window(shape.panes_max())?;
        let (windows, batches) = (ReduceWindow::new(shape), self.batches(span.length_ms));
        Ok(self.windowed(
            span.slide_ms,
            batches,
            windows,
            move |windows: &mut ReduceWindow<V>, step| {
                match step {
                    Enter::Within(bytes) => windows.keep_within(bytes),
                    Enter::Batch(batch) => windows.enter(batch, &reduce),
                    Enter::MakeUp => return Ok(usize::from(windows.make_up(&reduce))),
                    Enter::Failed => windows.enter_failed(),
                    Enter::Slide => return windows.slide(&reduce).map(KeyTable::len),
                }
                Ok(0)
            },
        ))
    }

    /// As [`reduce_by_key_and_window`](Self::reduce_by_key_and_window), each window made of the one before:
    /// `inverse(a, b)` takes `b`, folded of values that left, out of `a`. One look-up for each key that came
    /// or left.
    ///
    /// Keys whose values have all left stay, with what `inverse` made of them (`0`, say), as in Spark;
    /// [`..._and_filter`](Self::reduce_by_key_and_window_with_inverse_and_filter) drops them. In the
    /// PySpark [`Dialect`](crate::stream::Dialect) a window shorter than five slides is folded anew each time, and they go. Values
    /// that are floats drift, since what is added and taken away again is rounded twice.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// let words = ssc.socket_text_stream("localhost", 9999)?.flat_map(split(b' '));
    /// let (minute, ten) = (Duration::from_secs(60), Duration::from_secs(10));
    /// let counts = words.map(|word| (word, 1i64)).reduce_by_key(|a, b| a + b);
    /// counts.reduce_by_key_and_window_with_inverse(|a, b| a + b, |a, b| a - b, (minute, ten))?.pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    ///
    /// # Errors
    ///
    /// Length or slide are no multiple of this stream's slide; or there is a memory limit, and for so many batches
    /// too little room, or for all keys there ever were: then give a filter.
    pub fn reduce_by_key_and_window_with_inverse(
        &self,
        reduce: impl Fn(V, V) -> V + Send + 'static,
        inverse: impl Fn(V, V) -> V + Send + 'static,
        window: impl Into<Window>,
    ) -> Result<Reduced<'c, V>> {
        self.inverse_window(reduce, inverse, window.into(), None::<fn(&[u8], V) -> bool>)
    }

    /// As [`reduce_by_key_and_window_with_inverse`](Self::reduce_by_key_and_window_with_inverse), keeping
    /// only the keys for which `is_wanted(key, value)` holds. It is asked about keys whose value a slide
    /// has changed, so it must depend on nothing else.
    ///
    /// # Errors
    ///
    /// Length or slide are no multiple of this stream's slide; or there is a memory limit, and for so many batches
    /// too little room.
    pub fn reduce_by_key_and_window_with_inverse_and_filter(
        &self,
        reduce: impl Fn(V, V) -> V + Send + 'static,
        inverse: impl Fn(V, V) -> V + Send + 'static,
        window: impl Into<Window>,
        is_wanted: impl Fn(&[u8], V) -> bool + Send + 'static,
    ) -> Result<Reduced<'c, V>> {
        self.inverse_window(reduce, inverse, window.into(), Some(is_wanted))
    }

    fn inverse_window(
        &self,
        reduce: impl Fn(V, V) -> V + Send + 'static,
        inverse: impl Fn(V, V) -> V + Send + 'static,
        window: Window,
        is_wanted: Option<impl Fn(&[u8], V) -> bool + Send + 'static>,
    ) -> Result<Reduced<'c, V>> {
        let span = Span::new(window, self.context, self.slide_ms, Kind::Reduced)?;
        let shape = self.shape(&span);
        let windows = InverseWindow::new(shape, self.context.dialect());
        if is_wanted.is_none() && windows.keeps_all() && self.context.memory_limit().is_some() {
            return Err(Error::refused(
                "a window with an inverse function keeps every key there ever was: with a memory limit, give a \
                 filter that drops those that left",
            ));
        }
        self.context.keep_window(shape.panes_max())?;
        Ok(self.windowed(
            span.slide_ms,
            self.batches(span.length_ms),
            windows,
            move |windows: &mut InverseWindow<V>, step| {
                match step {
                    Enter::Within(bytes) => windows.keep_within(bytes),
                    Enter::Batch(batch) => windows.enter(batch, &reduce),
                    Enter::MakeUp => return Ok(usize::from(windows.make_up(&reduce))),
                    Enter::Failed => windows.enter_failed(),
                    Enter::Slide => {
                        let slid = windows.slide(&reduce, &inverse, is_wanted.as_ref());
                        return slid.map(KeyTable::len);
                    }
                }
                Ok(0)
            },
        ))
    }

    fn shape(&self, span: &Span) -> Shape {
        Shape::new(self.batches(span.length_ms), self.batches(span.slide_ms))
    }

    /// How many batches of this stream there are in so many milliseconds.
    fn batches(&self, ms: u64) -> usize {
        usize::try_from(ms / self.slide_ms).unwrap_or(usize::MAX)
    }

    /// A stream of the windows of so many batches that `step` makes; it gives the number of keys.
    fn windowed<H>(
        &self,
        slide_ms: u64,
        batches: usize,
        windows: H,
        step: impl FnMut(&mut H, Enter<'_, V>) -> std::result::Result<usize, NoWindow> + Send + 'static,
    ) -> Reduced<'c, V>
    where
        H: AsRef<KeyTable<V>> + Send + 'static,
    {
        let held = LentTable::new(windows);
        let step = WindowStep {
            parent: Arc::clone(&self.held),
            slide_ms,
            held: Arc::clone(&held),
            sums: WindowSums::new(Some(batches)),
            failures: VecDeque::new(),
            panicked_at: None,
            length_ms: (batches as u64).saturating_mul(self.slide_ms),
            limit: MemoryLimit::new(self.context.memory_limit()),
            step,
        };
        // Made whenever the parent is: batches enter one by one, though windows go out at every slide only.
        let id = (self.context).add_graph_node(vec![self.id], self.slide_ms, Box::new(step));
        Reduced {
            context: self.context,
            id,
            slide_ms,
            held,
        }
    }
}

/// What happens to a window.
enum Enter<'a, V> {
    /// It may take so many bytes: before the first batch.
    Within(usize),
    Batch(&'a KeyTable<V>),
    /// What a batch lacks in which a function has panicked; the answer is 1 if there was such a batch.
    MakeUp,
    Failed,
    Slide,
}

struct WindowStep<V, H, F> {
    parent: Arc<dyn BatchTable<V>>,
    slide_ms: u64,
    held: Arc<LentTable<H>>,
    sums: WindowSums,
    /// Why batches of the window failed, oldest first: a window that cannot be made says what its first one says.
    failures: VecDeque<(BatchTime, Failure)>,
    /// The batch before, if a function has panicked as it entered.
    panicked_at: Option<BatchTime>,
    /// After how long a batch leaves.
    length_ms: u64,
    limit: MemoryLimit,
    step: F,
}

impl<V, H, F> Operator for WindowStep<V, H, F>
where
    V: Copy + Send + Sync + 'static,
    H: AsRef<KeyTable<V>> + Send,
    F: FnMut(&mut H, Enter<'_, V>) -> std::result::Result<usize, NoWindow> + Send,
{
    fn name(&self) -> &'static str {
        "reduce_by_key_and_window"
    }

    fn start(&mut self, starting: &StartContext<'_>) {
        self.limit.start(starting);
        if starting.window_bytes < usize::MAX {
            let within = Enter::Within(starting.window_bytes);
            let made: std::result::Result<(), Failure> =
                self.held.make(BatchTime::default(), |windows| {
                    let _ = (self.step)(windows, within);
                    Ok(None)
                });
            debug_assert!(made.is_ok(), "no batch is made");
        }
    }

    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> std::result::Result<(), Failure> {
        let (step, sums, failures) = (&mut self.step, &mut self.sums, &mut self.failures);
        let limit = &mut self.limit;
        let has_left = |time: BatchTime| {
            time.as_millis().saturating_add(self.length_ms) <= now.time.as_millis()
        };
        while failures.front().is_some_and(|(time, _)| has_left(*time)) {
            failures.pop_front();
        }
        self.held.make(now.time, |windows| {
            let made_up = guarded(|| step(windows, Enter::MakeUp));
            let panicked_at = self.panicked_at.take();
            if let Ok(Ok(1)) = made_up {
                failures.retain(|(time, _)| Some(*time) != panicked_at);
            }
            let mut stats = None;
            let entered = guarded(|| {
                self.parent.map(now.time, |batch, batch_stats| {
                    stats = Some(*batch_stats);
                    let _ = step(windows, Enter::Batch(batch));
                })
            });
            let mut panicked = None;
            match entered {
                Ok(Ok(_)) => {}
                Ok(Err(failure)) => {
                    let _ = step(windows, Enter::Failed);
                    failures.push_back((now.time, failure));
                }
                Err(panic) => {
                    let message = panic_message(panic.as_ref());
                    let failure = Failure::of_records(message).within("reduce_by_key_and_window");
                    failures.push_back((now.time, failure.clone()));
                    panicked = Some(failure);
                    self.panicked_at = Some(now.time);
                }
            }
            sums.enter(stats.unwrap_or_default());
            limit.enter(&stats.unwrap_or_default());
            if !now.is_due(self.slide_ms) {
                return Ok(None);
            }
            // The batch is made up for before the next one enters, and this window is left out.
            if let Some(failure) = panicked {
                return Err(failure);
            }
            let slid = step(windows, Enter::Slide);
            let keys = slid.map_err(|why| match (why, failures.front()) {
                // An earlier one has spoilt its own batch, if any, and not this one.
                (NoWindow::BatchFailed, Some((_, failure))) => failure.passed_on(),
                _ => Failure::of_records(why.to_string()),
            })?;
            let (batch, overflow) = (stats.unwrap_or_default(), (*windows).as_ref().overflow());
            limit.look(now, overflow);
            let stats = BatchStats {
                time: now.time,
                keys: keys as u64,
                ..sums.of(&batch)
            };
            Ok(Some(stats.with(overflow)))
        })
    }

    fn fail(&mut self, time: BatchTime, failure: &Failure) {
        self.held.fail(time, failure);
    }

    fn leave(&mut self, _now: &mut BatchContext<'_, '_>) {
        self.held.forget(|_| ());
    }
}

impl<'c, R: Records, M> Pairs<'c, R, M> {
    /// Folds the values of each key of a window; see [`Reduced::reduce_by_key_and_window`]. The values of a
    /// batch are folded in the shards.
    ///
    /// # Errors
    ///
    /// Length or slide are no multiple of the batch interval.
    pub fn reduce_by_key_and_window<V, F>(
        self,
        reduce: F,
        window: impl Into<Window>,
    ) -> Result<Reduced<'c, V>>
    where
        V: Copy + Send + Sync + 'static,
        M: Fn(&[u8]) -> (&[u8], V) + Send + Sync + 'static,
        F: Fn(V, V) -> V + Clone + Send + Sync + 'static,
    {
        let batches = self.reduce_by_key(reduce.clone());
        batches.reduce_by_key_and_window(reduce, window)
    }

    /// Folds the values of each key of a window, each made of the one before; see
    /// [`Reduced::reduce_by_key_and_window_with_inverse`].
    ///
    /// # Errors
    ///
    /// Length or slide are no multiple of the batch interval.
    pub fn reduce_by_key_and_window_with_inverse<V, F>(
        self,
        reduce: F,
        inverse: impl Fn(V, V) -> V + Send + 'static,
        window: impl Into<Window>,
    ) -> Result<Reduced<'c, V>>
    where
        V: Copy + Send + Sync + 'static,
        M: Fn(&[u8]) -> (&[u8], V) + Send + Sync + 'static,
        F: Fn(V, V) -> V + Clone + Send + Sync + 'static,
    {
        let batches = self.reduce_by_key(reduce.clone());
        batches.reduce_by_key_and_window_with_inverse(reduce, inverse, window)
    }
}

impl<'c, R: Records> DStream<'c, R> {
    /// Counts equal records of a window: Spark's `countByValueAndWindow`. Records that have left are gone. A
    /// window costs one look-up for each different record of the batches that came and left.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// let words = ssc.socket_text_stream("localhost", 9999)?.flat_map(split(b' '));
    /// words.count_by_value_and_window(Duration::from_secs(3600))?.pprint(10); // an hour, every second
    /// # ssc.start()?.await_termination() }
    /// ```
    ///
    /// # Errors
    ///
    /// Length or slide are no multiple of the batch interval.
    pub fn count_by_value_and_window(&self, window: impl Into<Window>) -> Result<Reduced<'c, u64>> {
        // Also in PySpark's dialect, whose filter behind the window shows the same.
        let is_there = |_: &[u8], count| count != 0;
        self.count_by_value()
            .reduce_by_key_and_window_with_inverse_and_filter(
                |a, b| a + b,
                |a, b| a - b,
                window,
                is_there,
            )
    }

    /// Counts the records of a window: Spark's `countByWindow`. Nothing before the first record, then a
    /// number at each slide, `0` when all have left (in the PySpark [`Dialect`](crate::stream::Dialect) only if the window is at
    /// least five slides long).
    ///
    /// # Errors
    ///
    /// Length or slide are no multiple of the batch interval.
    pub fn count_by_window(&self, window: impl Into<Window>) -> Result<RddStream<'c, u64>> {
        let counts = self.count().filter(|count| *count > 0);
        counts.reduce_by_window_with_inverse(|a, b| a + b, |a, b| a - b, window)
    }

    /// The records of all batches of a window, oldest first: Spark's `window`. They are copied out of the
    /// shards and held in memory: where they are only counted or folded, the operators that do it by
    /// window keep a table instead.
    ///
    /// # Errors
    ///
    /// Length or slide are no multiple of the batch interval.
    pub fn window(&self, window: impl Into<Window>) -> Result<RddStream<'c, Vec<u8>>> {
        self.records().window(window)
    }
}
