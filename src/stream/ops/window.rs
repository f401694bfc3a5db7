//! `window` and what is built on it: `reduce_by_window`, `count_by_window`,
//! `group_by_key_and_window`.
//!
//! A window that ends at t with length w holds the batches with times in `(t - w, t]`. A window is
//! made at every slide, counted from the batch before the first one. The first windows hold the
//! batches that exist.

use std::time::Duration;

use crate::config::Dialect;
use crate::error::{Error, Result};
use crate::stream::plan::batch_cache::{CachedBatch, rdds_of};
use crate::stream::plan::builder::PlanBuilder;
use crate::stream::plan::make_rdd::Attempt;
use crate::stream::plan::rdd::{Key, Rdd, Record};
use crate::stream::program::rdd_stream::RddStream;
use crate::time::BatchTime;

/// The length of a window, and the slide from one window to the next.
///
/// A [`Duration`] is a length, with the slide of the parent stream. A pair is length and slide.
///
/// ```
/// use std::time::Duration;
/// use microtally::stream::Window;
/// let _every_batch: Window = Duration::from_secs(60).into();
/// let _every_ten_seconds: Window = (Duration::from_secs(60), Duration::from_secs(10)).into();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    length: Duration,
    slide: Option<Duration>,
}

impl From<Duration> for Window {
    fn from(length: Duration) -> Self {
        Window {
            length,
            slide: None,
        }
    }
}

impl From<(Duration, Duration)> for Window {
    fn from((length, slide): (Duration, Duration)) -> Self {
        Window {
            length,
            slide: Some(slide),
        }
    }
}

/// A window that fits its parent stream, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FittedWindow {
    pub(crate) length_ms: u64,
    pub(crate) slide_ms: u64,
}

/// The class of Spark whose messages a window has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WindowClass {
    Windowed,
    /// With an inverse function.
    Reduced,
}

impl FittedWindow {
    /// Fits `window` to a parent with the slide `parent_ms`.
    ///
    /// # Errors
    ///
    /// The context has started; or length or slide is zero, or not a multiple of the parent's
    /// slide. The message is Spark's.
    pub(crate) fn new(
        window: Window,
        plan: &PlanBuilder,
        parent_ms: u64,
        class: WindowClass,
    ) -> Result<Self> {
        plan.check([])?;
        let dialect = plan.dialect();
        let checked = |what: &str, camel: &str, duration: Duration| {
            let ms = duration.as_millis();
            let is_whole = duration.subsec_nanos().is_multiple_of(1_000_000);
            if is_whole && ms > 0 && ms.is_multiple_of(u128::from(parent_ms)) {
                return Ok(u64::try_from(ms).unwrap_or(u64::MAX / parent_ms * parent_ms));
            }
            // A division of two whole numbers, so that whole milliseconds are printed without a
            // fraction.
            let ms = duration.as_nanos() as f64 / 1e6;
            Err(Error::refused(match (dialect, class) {
                (Dialect::PySpark, _) => format!(
                    "{camel}Duration must be multiple of the parent dstream's slide (batch) duration \
                     ({parent_ms} ms)"
                ),
                (Dialect::Scala, WindowClass::Windowed) => format!(
                    "The {what} duration of windowed DStream ({ms} ms) must be a multiple of the slide \
                     duration of parent DStream ({parent_ms} ms)"
                ),
                (Dialect::Scala, WindowClass::Reduced) => format!(
                    "requirement failed: The {what} duration of ReducedWindowedDStream ({ms} ms) must be \
                     multiple of the slide duration of parent DStream ({parent_ms} ms)"
                ),
            }))
        };
        let length_ms = checked("window", "window", window.length)?;
        let slide_ms = match window.slide {
            Some(slide) => checked("slide", "slide", slide)?,
            None => parent_ms,
        };
        Ok(FittedWindow {
            length_ms,
            slide_ms,
        })
    }

    /// The time after which the window that ends at `time` begins.
    pub(crate) fn start(&self, time: BatchTime) -> BatchTime {
        BatchTime::from_millis(time.as_millis().saturating_sub(self.length_ms))
    }
}

impl<T: Record> RddStream<T> {
    /// The records of all batches of a window, oldest first: Spark's `window`.
    ///
    /// `window` is a length, or a pair of length and slide. Records are shared, not copied; a
    /// window costs as much as it has partitions.
    ///
    /// ```
    /// use std::time::Duration;
    /// use microtally::stream::run_batches;
    /// let (one, two) = (Duration::from_secs(1), Duration::from_secs(2));
    /// let numbers = || [vec![1], vec![2], vec![3], vec![]];
    /// let windows = run_batches(numbers(), |numbers| numbers.window(two))?;
    /// assert_eq!(windows, [vec![1], vec![1, 2], vec![2, 3], vec![3]]);
    /// let windows = run_batches(numbers(), |numbers| numbers.window((one, two)))?;
    /// assert_eq!(windows, [vec![2], vec![]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Length or slide is zero, or not a multiple of this stream's slide.
    pub fn window(&self, window: impl Into<Window>) -> Result<RddStream<T>> {
        let (class, plan) = (WindowClass::Windowed, &self.plan);
        let window = FittedWindow::new(window.into(), plan, self.slide_ms, class)?;
        self.cache.keep_for(window.length_ms);
        let cache = self.cache.clone();
        let take = move |time| cache.between(window.start(time), time);
        let make = move |batches: &Vec<(BatchTime, CachedBatch<T>)>, attempt: &mut Attempt<'_>| {
            let batches = rdds_of(batches, attempt.now)?;
            let parts = batches.iter().flat_map(Rdd::parts).cloned();
            Ok(Some(Rdd::shared(parts)))
        };
        let windows = plan.rdd_stream("window", vec![self.id], window.slide_ms, take, make);
        windows.cache.save_as(&self.cache);
        plan.reach(windows.id, window.length_ms);
        Ok(windows)
    }

    /// Folds the records of a window into one: Spark's `reduceByWindow`.
    ///
    /// Each batch is folded once; a window folds the results of its batches. A window without
    /// records has no result.
    ///
    /// ```
    /// use std::time::Duration;
    /// use microtally::stream::run_batches;
    /// let sums = run_batches([vec![1], vec![2], vec![3], vec![]], |numbers| {
    ///     numbers.reduce_by_window(|a, b| a + b, Duration::from_secs(2))
    /// })?;
    /// assert_eq!(sums, [[1], [3], [5], [3]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`window`](Self::window).
    pub fn reduce_by_window(
        &self,
        f: impl Fn(T, T) -> T + Send + Clone + 'static,
        window: impl Into<Window>,
    ) -> Result<RddStream<T>>
    where
        T: Clone,
    {
        let batches = self.reduce(f.clone());
        let windows = batches.window(window)?.reduce(f);
        windows.cache.save_as(&batches.cache);
        Ok(windows)
    }

    /// As [`reduce_by_window`](Self::reduce_by_window), but makes each window from the one before:
    /// Spark's `reduceByWindow` with an inverse function.
    ///
    /// `inverse` removes the batches that left. A window costs what entered and left, however long
    /// it is. From the first record on there is always one result.
    ///
    /// ```
    /// use std::time::Duration;
    /// use microtally::stream::run_batches;
    /// let sums = run_batches([vec![1], vec![2], vec![]], |numbers| {
    ///     let (add, subtract) = (|a, b| a + b, |a, b| a - b);
    ///     numbers.reduce_by_window_with_inverse(add, subtract, Duration::from_secs(1))
    /// })?;
    /// assert_eq!(sums, [[1], [2], [0]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`window`](Self::window).
    pub fn reduce_by_window_with_inverse(
        &self,
        f: impl Fn(T, T) -> T + Send + Clone + 'static,
        inverse: impl Fn(T, T) -> T + Send + 'static,
        window: impl Into<Window>,
    ) -> Result<RddStream<T>>
    where
        T: Clone,
    {
        let keyed = self.map(|record| ((), record.clone()));
        let windows = keyed.reduce_by_key_and_window_with_inverse(f, inverse, window)?;
        Ok(windows.map(|((), record)| record.clone()))
    }

    /// Counts the records of a window: Spark's `countByWindow`.
    ///
    /// From the first record on there is a number at each slide. It is `0` once all records have
    /// left, except in the PySpark [`Dialect`] if the window is shorter than five slides: then
    /// there is no number.
    ///
    /// ```
    /// use std::time::Duration;
    /// use microtally::stream::run_batches;
    /// let counts = run_batches([vec!["a"], vec!["b", "c"], vec![]], |words| {
    ///     words.count_by_window(Duration::from_secs(2))
    /// })?;
    /// assert_eq!(counts, [[1], [3], [2]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`window`](Self::window).
    pub fn count_by_window(&self, window: impl Into<Window>) -> Result<RddStream<u64>> {
        let ones = self.derive("count_by_window", |rdd| {
            let count = rdd.len() as u64;
            (count > 0).then_some(count).into_iter().collect()
        });
        ones.reduce_by_window_with_inverse(|a, b| a + b, |a, b| a - b, window)
    }
}

impl<T: Key> RddStream<T> {
    /// Counts the occurrences of each record of a window: Spark's `countByValueAndWindow`. Records
    /// that have left are dropped.
    ///
    /// ```
    /// use std::time::Duration;
    /// use microtally::stream::run_batches;
    /// let counts = run_batches([vec!["a"], vec!["a"], vec![]], |words| {
    ///     words.count_by_value_and_window(Duration::from_secs(2))
    /// })?;
    /// assert_eq!(counts, [[("a", 1)], [("a", 2)], [("a", 1)]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`window`](Self::window).
    pub fn count_by_value_and_window(
        &self,
        window: impl Into<Window>,
    ) -> Result<RddStream<(T, u64)>> {
        let counts = self.count_by_value();
        let (add, subtract) = (|a, b| a + b, |a, b| a - b);
        if self.plan.dialect() == Dialect::PySpark {
            let windows = counts.reduce_by_key_and_window_with_inverse(add, subtract, window)?;
            return Ok(windows.filter(|(_, count)| *count > 0));
        }
        counts.reduce_by_key_and_window_with_inverse_and_filter(
            add,
            subtract,
            window,
            |_, count| *count != 0,
        )
    }
}

impl<K: Key, V: Record + Clone> RddStream<(K, V)> {
    /// Gathers the values of each key of a window, oldest first: Spark's `groupByKeyAndWindow`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use microtally::stream::run_batches;
    /// let groups = run_batches([vec![("a", 1)], vec![("a", 2)]], |pairs| {
    ///     pairs.group_by_key_and_window(Duration::from_secs(2))
    /// })?;
    /// assert_eq!(groups, [[("a", vec![1])], [("a", vec![1, 2])]]);
    /// # Ok::<(), microtally::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`window`](RddStream::window).
    pub fn group_by_key_and_window(
        &self,
        window: impl Into<Window>,
    ) -> Result<RddStream<(K, Vec<V>)>> {
        if self.plan.dialect() == Dialect::PySpark {
            let lists = self.group_by_key();
            let append = |mut all: Vec<V>, more: Vec<V>| {
                all.extend(more);
                all
            };
            let drop_first = |mut all: Vec<V>, left: Vec<V>| {
                all.drain(..left.len().min(all.len()));
                all
            };
            return lists.reduce_by_key_and_window_with_inverse(append, drop_first, window);
        }
        Ok(self.window(window)?.group_by_key())
    }
}
