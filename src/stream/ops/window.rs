//! `window` and what is built of it: `reduce_by_window`, `count_by_window`, `group_by_key_and_window`.
//!
//! A window that ends at t with length w holds the batches with times in `(t - w, t]`. One is made at every
//! slide, counted from the batch before the first one; the first windows hold what there is.

use std::time::Duration;

use crate::config::Dialect;
use crate::error::{Error, Result};
use crate::stream::plan::batch_cache::Entries;
use crate::stream::plan::graph::Attempt;
use crate::stream::plan::rdd::{Key, Rdd, Record};
use crate::stream::program::context::StreamingContext;
use crate::stream::program::rdd_stream::RddStream;
use crate::time::BatchTime;

/// How long a window is and how often one is made. A [`Duration`] is a window with the slide of the stream
/// it is made of; a pair is length and slide.
///
/// ```
/// use std::time::Duration;
/// use microtally::stream::Window;
/// let _of_a_minute_each_batch: Window = Duration::from_secs(60).into();
/// let _of_a_minute_every_ten_seconds: Window = (Duration::from_secs(60), Duration::from_secs(10)).into();
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

/// A window that fits its parent, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) length_ms: u64,
    pub(crate) slide_ms: u64,
}

/// Which of Spark's classes complains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Windowed,
    /// With an inverse function.
    Reduced,
}

impl Span {
    /// Fits `window` to a parent.
    ///
    /// # Errors
    ///
    /// Length or slide are no multiple of the parent's slide, with Spark's sentence, or zero.
    pub(crate) fn new(
        window: Window,
        context: &StreamingContext,
        parent_ms: u64,
        kind: Kind,
    ) -> Result<Self> {
        let dialect = context.dialect();
        let checked = |what: &str, camel: &str, duration: Duration| {
            let ms = duration.as_millis();
            let is_whole = duration.subsec_nanos().is_multiple_of(1_000_000);
            if is_whole && ms > 0 && ms.is_multiple_of(u128::from(parent_ms)) {
                return Ok(u64::try_from(ms).unwrap_or(u64::MAX / parent_ms * parent_ms));
            }
            // A division of two whole numbers, so that whole milliseconds are printed as such.
            let ms = duration.as_nanos() as f64 / 1e6;
            Err(Error::refused(match (dialect, kind) {
                (Dialect::PySpark, _) => format!(
                    "{camel}Duration must be multiple of the parent dstream's slide (batch) duration \
                     ({parent_ms} ms)"
                ),
                (Dialect::Scala, Kind::Windowed) => format!(
                    "The {what} duration of windowed DStream ({ms} ms) must be a multiple of the slide \
                     duration of parent DStream ({parent_ms} ms)"
                ),
                (Dialect::Scala, Kind::Reduced) => format!(
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
        Ok(Span {
            length_ms,
            slide_ms,
        })
    }

    /// The time behind which the window that ends at `time` begins.
    pub(crate) fn start(&self, time: BatchTime) -> BatchTime {
        BatchTime::from_millis(time.as_millis().saturating_sub(self.length_ms))
    }
}

impl<'c, T: Record> RddStream<'c, T> {
    /// The records of all batches of a window, oldest first: Spark's `window`. They are shared, not copied;
    /// a window costs as much as it has partitions.
    ///
    /// # Errors
    ///
    /// Length or slide are no multiple of this stream's slide. So with the other windows.
    pub fn window(&self, window: impl Into<Window>) -> Result<RddStream<'c, T>> {
        let span = Span::new(window.into(), self.context, self.slide_ms, Kind::Windowed)?;
        self.cell.keep_for(span.length_ms);
        let cell = self.cell.clone();
        let take = move |time| cell.between(span.start(time), time);
        let make = move |window: &Entries<T>, attempt: &mut Attempt<'_>| {
            let batches = window.get(attempt.now)?;
            let parts = batches.iter().flat_map(Rdd::parts).cloned();
            Ok(Some(Rdd::shared(parts)))
        };
        let (context, parents) = (self.context, vec![self.id]);
        let windows = context.rdd_stream("window", parents, span.slide_ms, take, make);
        self.context.reach(windows.id, span.length_ms);
        Ok(windows)
    }

    /// Folds the records of a window into one: Spark's `reduceByWindow`. Each batch is folded once; a
    /// window folds its batches' results. No record: no result.
    ///
    /// # Errors
    ///
    /// As [`window`](Self::window).
    pub fn reduce_by_window(
        &self,
        f: impl Fn(T, T) -> T + Send + Clone + 'static,
        window: impl Into<Window>,
    ) -> Result<RddStream<'c, T>>
    where
        T: Clone,
    {
        Ok(self.reduce(f.clone()).window(window)?.reduce(f))
    }

    /// As [`reduce_by_window`](Self::reduce_by_window), each window made of the one before: `inverse` takes
    /// the batches that left out of it. A window costs what came and left, however long it is. From the
    /// first record on there is always one result.
    ///
    /// # Errors
    ///
    /// As [`window`](Self::window).
    pub fn reduce_by_window_with_inverse(
        &self,
        f: impl Fn(T, T) -> T + Send + Clone + 'static,
        inverse: impl Fn(T, T) -> T + Send + 'static,
        window: impl Into<Window>,
    ) -> Result<RddStream<'c, T>>
    where
        T: Clone,
    {
        let keyed = self.map(|record| ((), record.clone()));
        let windows = keyed.reduce_by_key_and_window_with_inverse(f, inverse, window)?;
        Ok(windows.map(|((), record)| record.clone()))
    }

    /// Counts the records of a window: Spark's `countByWindow`. Nothing before the first record, then a
    /// number at each slide, `0` when all have left (in the PySpark [`Dialect`] only if the window is at
    /// least five slides long).
    ///
    /// # Errors
    ///
    /// As [`window`](Self::window).
    pub fn count_by_window(&self, window: impl Into<Window>) -> Result<RddStream<'c, u64>> {
        let ones = self.derive("count_by_window", |rdd| {
            let count = rdd.len() as u64;
            (count > 0).then_some(count).into_iter().collect()
        });
        ones.reduce_by_window_with_inverse(|a, b| a + b, |a, b| a - b, window)
    }
}

impl<'c, T: Key> RddStream<'c, T> {
    /// Counts equal records of a window: Spark's `countByValueAndWindow`. Records that have left are gone.
    ///
    /// # Errors
    ///
    /// As [`window`](Self::window).
    pub fn count_by_value_and_window(
        &self,
        window: impl Into<Window>,
    ) -> Result<RddStream<'c, (T, u64)>> {
        let counts = self.count_by_value();
        let (add, subtract) = (|a, b| a + b, |a, b| a - b);
        if self.context.dialect() == Dialect::PySpark {
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

impl<'c, K: Key, V: Record + Clone> RddStream<'c, (K, V)> {
    /// Gathers the values of each key of a window, oldest first: Spark's `groupByKeyAndWindow`.
    ///
    /// # Errors
    ///
    /// As [`window`](RddStream::window).
    pub fn group_by_key_and_window(
        &self,
        window: impl Into<Window>,
    ) -> Result<RddStream<'c, (K, Vec<V>)>> {
        if self.context.dialect() == Dialect::PySpark {
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
