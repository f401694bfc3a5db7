//! Windows over tables: `reduce_by_key_and_window` at the cost of what entered and left.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::batch::{BatchStats, WindowSums};
use crate::error::{Error, Result, guarded};
use crate::save::{CodecSlot, StateKind};
use crate::shard::panic_message;
use crate::shard::stage::Records;
use crate::stream::ops::map::PairStream;
use crate::stream::ops::window::{FittedWindow, Window, WindowClass};
use crate::stream::plan::batch_cache::Failure;
use crate::stream::plan::graph::{BatchContext, KeptBatches, Operator, StartContext};
use crate::stream::plan::lent_table::{BatchTable, LentTable, TableHolder};
use crate::stream::plan::memory_limit::MemoryLimit;
use crate::stream::program::dstream::DStream;
use crate::stream::program::rdd_stream::RddStream;
use crate::stream::program::reduced::Reduced;
use crate::table::KeyTable;
use crate::time::BatchTime;
use crate::window::{InverseWindow, NoWindow, ReduceWindow, SavedWindow, Shape};

impl<V: Copy + Send + Sync + 'static> Reduced<V> {
    /// Folds the values of each key of a window, oldest first: Spark's `reduceByKeyAndWindow`.
    ///
    /// `window` is a length, or a pair of length and slide. Keys that have left are dropped. Unlike
    /// Spark's, it costs a few look-ups for each key that entered or left, however long the window
    /// is, without an inverse function.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// let words = ssc.socket_text_stream("localhost", 9999)?.flat_map(split(b' '));
    /// // For each word, its highest count in any second of the last minute.
    /// let counts = words.count_by_value();
    /// counts.reduce_by_key_and_window(u64::max, Duration::from_secs(60))?.pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    ///
    /// # Errors
    ///
    /// Length or slide is zero, or not a multiple of this stream's slide; or the memory limit
    /// leaves too little room for the batches of the window.
    pub fn reduce_by_key_and_window(
        &self,
        reduce: impl Fn(V, V) -> V + Send + 'static,
        window: impl Into<Window>,
    ) -> Result<Reduced<V>> {
        let (class, plan) = (WindowClass::Windowed, &self.plan);
        let window = FittedWindow::new(window.into(), plan, self.slide_ms, class)?;
        let shape = self.shape(&window);
        self.plan.keep_window(shape.panes_max())?;
        Ok(self.windowed(
            "reduce_by_key_and_window",
            window,
            ReduceWindow::new(shape),
            move |windows: &mut ReduceWindow<V>, step| {
                match step {
                    WindowEvent::Within(bytes) => windows.keep_within(bytes),
                    WindowEvent::Batch(batch) => windows.enter(batch, &reduce),
                    WindowEvent::MakeUp => return Ok(usize::from(windows.make_up(&reduce))),
                    WindowEvent::Failed => windows.enter_failed(),
                    WindowEvent::Slide => return windows.slide(&reduce).map(KeyTable::len),
                }
                Ok(0)
            },
        ))
    }

    /// As [`reduce_by_key_and_window`](Self::reduce_by_key_and_window), but makes each window from
    /// the one before: Spark's `reduceByKeyAndWindow` with an inverse function.
    ///
    /// `inverse(a, b)` removes `b`, folded from values that left, from `a`. It costs one look-up
    /// for each key that entered or left.
    ///
    /// As in Spark, keys whose values have all left stay, with what `inverse` made of them, such as
    /// `0`. [`..._and_filter`](Self::reduce_by_key_and_window_with_inverse_and_filter) drops them.
    /// In the PySpark [`Dialect`](crate::stream::Dialect) a window shorter than five slides is
    /// folded anew each time, and they are dropped. Sums of floats drift, because what is added and
    /// removed is rounded twice.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// let words = ssc.socket_text_stream("localhost", 9999)?.flat_map(split(b' '));
    /// // The counts of the last minute, every ten seconds.
    /// let window = (Duration::from_secs(60), Duration::from_secs(10));
    /// let counts = words.map(|word| (word, 1i64)).reduce_by_key(|a, b| a + b);
    /// let (add, subtract) = (|a, b| a + b, |a, b| a - b);
    /// counts.reduce_by_key_and_window_with_inverse(add, subtract, window)?.pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    ///
    /// # Errors
    ///
    /// Length or slide is zero, or not a multiple of this stream's slide; or the memory limit
    /// leaves too little room for the batches of the window, or for all keys it ever had: add a
    /// filter for those.
    pub fn reduce_by_key_and_window_with_inverse(
        &self,
        reduce: impl Fn(V, V) -> V + Send + 'static,
        inverse: impl Fn(V, V) -> V + Send + 'static,
        window: impl Into<Window>,
    ) -> Result<Reduced<V>> {
        self.inverse_window(reduce, inverse, window.into(), None::<fn(&[u8], V) -> bool>)
    }

    /// As [`reduce_by_key_and_window_with_inverse`](Self::reduce_by_key_and_window_with_inverse),
    /// but keeps only the keys for which `is_wanted(key, value)` returns `true`.
    ///
    /// `is_wanted` is asked about keys whose value a slide has changed, so it must depend on
    /// nothing else.
    ///
    /// # Errors
    ///
    /// As [`reduce_by_key_and_window`](Self::reduce_by_key_and_window).
    pub fn reduce_by_key_and_window_with_inverse_and_filter(
        &self,
        reduce: impl Fn(V, V) -> V + Send + 'static,
        inverse: impl Fn(V, V) -> V + Send + 'static,
        window: impl Into<Window>,
        is_wanted: impl Fn(&[u8], V) -> bool + Send + 'static,
    ) -> Result<Reduced<V>> {
        self.inverse_window(reduce, inverse, window.into(), Some(is_wanted))
    }

    fn inverse_window(
        &self,
        reduce: impl Fn(V, V) -> V + Send + 'static,
        inverse: impl Fn(V, V) -> V + Send + 'static,
        window: Window,
        is_wanted: Option<impl Fn(&[u8], V) -> bool + Send + 'static>,
    ) -> Result<Reduced<V>> {
        let (class, plan) = (WindowClass::Reduced, &self.plan);
        let window = FittedWindow::new(window, plan, self.slide_ms, class)?;
        let shape = self.shape(&window);
        let windows = InverseWindow::new(shape, self.plan.dialect());
        if is_wanted.is_none() && windows.keeps_all() && self.plan.memory_limit().is_some() {
            return Err(Error::refused(
                "a window with an inverse function keeps every key it ever had; with a memory limit, add a filter \
                 that drops keys that have left",
            ));
        }
        self.plan.keep_window(shape.panes_max())?;
        Ok(self.windowed(
            "reduce_by_key_and_window_with_inverse",
            window,
            windows,
            move |windows: &mut InverseWindow<V>, step| {
                match step {
                    WindowEvent::Within(bytes) => windows.keep_within(bytes),
                    WindowEvent::Batch(batch) => windows.enter(batch, &reduce),
                    WindowEvent::MakeUp => return Ok(usize::from(windows.make_up(&reduce))),
                    WindowEvent::Failed => windows.enter_failed(),
                    WindowEvent::Slide => {
                        let slid = windows.slide(&reduce, &inverse, is_wanted.as_ref());
                        return slid.map(KeyTable::len);
                    }
                }
                Ok(0)
            },
        ))
    }

    fn shape(&self, window: &FittedWindow) -> Shape {
        Shape::new(
            self.batches(window.length_ms),
            self.batches(window.slide_ms),
        )
    }

    /// Number of this stream's batches in `ms` milliseconds.
    fn batches(&self, ms: u64) -> usize {
        usize::try_from(ms / self.slide_ms).unwrap_or(usize::MAX)
    }

    /// A stream of the windows that `change` makes in `windows`. What `change` returns at a slide
    /// is the number of keys.
    fn windowed<H>(
        &self,
        kind: &'static str,
        window: FittedWindow,
        windows: H,
        change: impl FnMut(&mut H, WindowEvent<'_, V>) -> std::result::Result<usize, NoWindow>
        + Send
        + 'static,
    ) -> Reduced<V>
    where
        H: TableHolder<Value = V> + AsRef<KeyTable<V>> + SavedWindow<V> + 'static,
    {
        let (table, codec) = (LentTable::new(windows), CodecSlot::default());
        let operator = WindowOperator {
            parent: Arc::clone(&self.table),
            window,
            table: Arc::clone(&table),
            codec: codec.clone(),
            sums: WindowSums::new(Some(self.batches(window.length_ms))),
            failures: VecDeque::new(),
            panicked_at: None,
            limit: MemoryLimit::new(self.plan.memory_limit()),
            change,
        };
        // Made whenever the parent is: batches enter one by one, though windows are published only
        // at a slide.
        let (parents, operator) = (vec![self.id], Box::new(operator));
        let windows = (self.plan).table_stream(kind, table, parents, self.slide_ms, operator);
        self.plan.slide(windows.id, window.slide_ms);
        Reduced {
            slide_ms: window.slide_ms,
            codec,
            ..windows
        }
    }
}

/// What happens to a window.
enum WindowEvent<'a, V> {
    /// It may take this many bytes: before the first batch.
    Within(usize),
    Batch(&'a KeyTable<V>),
    /// What is missing of a batch in which a function panicked enters. The answer is 1 if there was
    /// such a batch.
    MakeUp,
    Failed,
    Slide,
}

/// Lets the parent's batches enter a window, and publishes it at every slide.
struct WindowOperator<V, H: TableHolder, F> {
    parent: Arc<dyn BatchTable<V>>,
    window: FittedWindow,
    table: Arc<LentTable<H>>,
    codec: CodecSlot<V>,
    sums: WindowSums,
    /// Why batches of the window failed, oldest first. A window that cannot be made reports its
    /// first failure.
    failures: VecDeque<(BatchTime, Failure)>,
    /// The batch before, if a function panicked as it entered.
    panicked_at: Option<BatchTime>,
    limit: MemoryLimit,
    change: F,
}

impl<V, H, F> Operator for WindowOperator<V, H, F>
where
    V: Copy + Send + Sync + 'static,
    H: TableHolder<Value = V> + AsRef<KeyTable<V>> + SavedWindow<V>,
    F: FnMut(&mut H, WindowEvent<'_, V>) -> std::result::Result<usize, NoWindow> + Send,
{
    fn kept(&self) -> &dyn KeptBatches {
        &*self.table
    }

    fn start(&mut self, context: &mut StartContext<'_>) -> Result<()> {
        self.limit.start(context);
        if context.window_bytes < usize::MAX {
            let within = WindowEvent::Within(context.window_bytes);
            self.table.hold(|windows| {
                let _ = (self.change)(windows, within);
            });
        }
        Ok(())
    }

    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> std::result::Result<(), Failure> {
        let (change, sums, failures) = (&mut self.change, &mut self.sums, &mut self.failures);
        let limit = &mut self.limit;
        let start = self.window.start(now.time);
        while failures.front().is_some_and(|(time, _)| *time <= start) {
            failures.pop_front();
        }
        self.table.make(now.time, |windows| {
            let made_up = guarded(|| change(windows, WindowEvent::MakeUp));
            let panicked_at = self.panicked_at.take();
            if let Ok(Ok(1)) = made_up {
                failures.retain(|(time, _)| Some(*time) != panicked_at);
            }
            let mut stats = None;
            let entered = guarded(|| {
                self.parent.map(now.time, |batch, batch_stats| {
                    stats = Some(*batch_stats);
                    let _ = change(windows, WindowEvent::Batch(batch));
                })
            });
            let mut panicked = None;
            match entered {
                Ok(Ok(_)) => {}
                Ok(Err(failure)) => {
                    let _ = change(windows, WindowEvent::Failed);
                    failures.push_back((now.time, failure));
                }
                Err(panic) => {
                    let message = panic_message(panic.as_ref());
                    let failure = Failure::of_records(message);
                    failures.push_back((now.time, failure.clone()));
                    panicked = Some(failure);
                    self.panicked_at = Some(now.time);
                }
            }
            sums.enter(stats.unwrap_or_default());
            limit.enter(&stats.unwrap_or_default());
            if !now.is_due(self.window.slide_ms) {
                return Ok(None);
            }
            // The rest of the batch enters before the next batch does; this window is left out.
            if let Some(failure) = panicked {
                return Err(failure);
            }
            let slid = change(windows, WindowEvent::Slide);
            let keys = slid.map_err(|why| match (why, failures.front()) {
                // An earlier failure has spoilt its own batch, if any, and not this one.
                (NoWindow::BatchFailed, Some((_, failure))) => failure.passed_on(),
                _ => Failure::of_records(why.to_string()),
            })?;
            let (batch, overflow) = (stats.unwrap_or_default(), (*windows).as_ref().overflow());
            limit.report(now, overflow);
            let stats = BatchStats {
                time: now.time,
                keys: keys as u64,
                ..sums.of(&batch)
            };
            Ok(Some(stats.with(overflow)))
        })
    }

    fn state(&self) -> StateKind {
        self.codec.state()
    }

    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        if !self.failures.is_empty() {
            return Err(io::Error::other("a batch that failed is missing in it"));
        }
        self.sums.save(to)?;
        let codec = self.codec.codec()?;
        self.table.hold(|windows| windows.save(codec, to))
    }

    fn load(&mut self, from: &mut dyn Read) -> io::Result<()> {
        self.sums.load(from)?;
        let codec = self.codec.codec()?;
        self.table.hold(|windows| windows.load(codec, from))
    }
}

impl<R: Records, M> PairStream<R, M> {
    /// Folds the values of each key of a window: Spark's `reduceByKeyAndWindow`. The shards fold
    /// each batch; then see [`Reduced::reduce_by_key_and_window`].
    ///
    /// # Errors
    ///
    /// Length or slide is zero, or not a multiple of the batch interval; or the memory limit leaves
    /// too little room.
    pub fn reduce_by_key_and_window<V, F>(
        self,
        reduce: F,
        window: impl Into<Window>,
    ) -> Result<Reduced<V>>
    where
        V: Copy + Send + Sync + 'static,
        M: Fn(&[u8]) -> (&[u8], V) + Send + Sync + 'static,
        F: Fn(V, V) -> V + Clone + Send + Sync + 'static,
    {
        let batches = self.reduce_by_key(reduce.clone());
        batches.reduce_by_key_and_window(reduce, window)
    }

    /// Folds the values of each key of a window with an inverse function. The shards fold each
    /// batch; then see [`Reduced::reduce_by_key_and_window_with_inverse`].
    ///
    /// # Errors
    ///
    /// Length or slide is zero, or not a multiple of the batch interval; or the memory limit leaves
    /// too little room.
    pub fn reduce_by_key_and_window_with_inverse<V, F>(
        self,
        reduce: F,
        inverse: impl Fn(V, V) -> V + Send + 'static,
        window: impl Into<Window>,
    ) -> Result<Reduced<V>>
    where
        V: Copy + Send + Sync + 'static,
        M: Fn(&[u8]) -> (&[u8], V) + Send + Sync + 'static,
        F: Fn(V, V) -> V + Clone + Send + Sync + 'static,
    {
        let batches = self.reduce_by_key(reduce.clone());
        batches.reduce_by_key_and_window_with_inverse(reduce, inverse, window)
    }
}

impl<R: Records> DStream<R> {
    /// Counts the occurrences of each record of a window: Spark's `countByValueAndWindow`.
    ///
    /// Records that have left are dropped. A window costs one look-up for each different record of
    /// the batches that entered and left.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// let words = ssc.socket_text_stream("localhost", 9999)?.flat_map(split(b' '));
    /// // The counts of the last hour, every second.
    /// words.count_by_value_and_window(Duration::from_secs(3600))?.pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    ///
    /// # Errors
    ///
    /// Length or slide is zero, or not a multiple of the batch interval; or the memory limit leaves
    /// too little room.
    pub fn count_by_value_and_window(&self, window: impl Into<Window>) -> Result<Reduced<u64>> {
        // Also in PySpark's dialect, whose filter behind the window has the same effect.
        let is_there = |_: &[u8], count| count != 0;
        self.count_by_value()
            .reduce_by_key_and_window_with_inverse_and_filter(
                |a, b| a + b,
                |a, b| a - b,
                window,
                is_there,
            )
    }

    /// Counts the records of a window: Spark's `countByWindow`. The shards count each batch; then
    /// see [`RddStream::count_by_window`].
    ///
    /// # Errors
    ///
    /// Length or slide is zero, or not a multiple of the batch interval; or the memory limit leaves
    /// too little room.
    pub fn count_by_window(&self, window: impl Into<Window>) -> Result<RddStream<u64>> {
        let counts = self.count().filter(|count| *count > 0);
        counts.reduce_by_window_with_inverse(|a, b| a + b, |a, b| a - b, window)
    }

    /// The records of all batches of a window, oldest first: Spark's `window`; see
    /// [`RddStream::window`].
    ///
    /// They are copied out of the shards and kept in memory. To count or fold them, use the
    /// operators that do so by window: they keep a table instead.
    ///
    /// # Errors
    ///
    /// Length or slide is zero, or not a multiple of the batch interval; or the memory limit leaves
    /// too little room.
    pub fn window(&self, window: impl Into<Window>) -> Result<RddStream<Vec<u8>>> {
        self.records().window(window)
    }
}
