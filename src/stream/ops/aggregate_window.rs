//! `Aggregated::window`: aggregates of the values of a window.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::aggregate::Aggregate;
use crate::aggregate::window::AggregateWindow;
use crate::batch::{BatchStats, WindowSums};
use crate::error::{Result, guarded};
use crate::save::StateKind;
use crate::shard::panic_message;
use crate::stream::ops::aggregate_by_key::Aggregated;
use crate::stream::ops::window::{FittedWindow, Window, WindowClass};
use crate::stream::plan::aggregated::{LentStates, state_of};
use crate::stream::plan::batch_cache::Failure;
use crate::stream::plan::graph::{BatchContext, KeptBatches, Operator, StartContext};
use crate::stream::plan::lent_table::{LentTable, TableHolder};
use crate::stream::plan::memory_limit::MemoryLimit;
use crate::stream::program::reduced::Reduced;
use crate::time::BatchTime;

impl<A: Aggregate<T>, T: 'static> Aggregated<A, T> {
    /// The results of the values of a window.
    ///
    /// `window` is a length, or a pair of length and slide. A slide costs what the batches that
    /// enter and leave cost: they are taken off if the aggregate can
    /// [`remove`](Aggregate::remove). Others, such as distinct values, are merged twice, so now and
    /// then a slide costs what the whole window does. Keys that have left are dropped.
    ///
    /// ```no_run
    /// # use microtally::prelude::*;
    /// use microtally::aggregate::{Count, Percentile};
    /// # fn main() -> Result<(), microtally::Error> {
    /// let ssc = StreamingContext::new(Duration::from_secs(1))?;
    /// let lengths = ssc.socket_text_stream("localhost", 9999)?.map(|line| (&line[..1], line.len()));
    /// let aggregated = lengths.aggregate_by_key((Count, Percentile::new(99.0)));
    /// // Of the last minute, every ten seconds.
    /// aggregated.window((Duration::from_secs(60), Duration::from_secs(10)))?.pprint(10);
    /// # ssc.start()?.await_termination() }
    /// ```
    ///
    /// # Errors
    ///
    /// Length or slide is zero, or not a multiple of the batch interval; or the memory limit leaves
    /// too little room for the batches of the window.
    pub fn window(&self, window: impl Into<Window>) -> Result<Reduced<A::Output>> {
        let (plan, interval_ms) = (&self.plan, self.plan.interval_ms());
        let window = FittedWindow::new(window.into(), plan, interval_ms, WindowClass::Windowed)?;
        let batches = |ms: u64| usize::try_from(ms / interval_ms).unwrap_or(usize::MAX);
        let (length, slide) = (batches(window.length_ms), batches(window.slide_ms));
        plan.keep_window(length.saturating_add(slide))?;
        let windows = AggregateWindow::new(self.aggregate.clone(), length, slide);
        let table = LentTable::new(windows);
        let operator = WindowResults {
            states: Arc::clone(&self.states),
            aggregate: self.aggregate.clone(),
            window,
            table: Arc::clone(&table),
            sums: WindowSums::new(Some(length)),
            failures: VecDeque::new(),
            limit: MemoryLimit::new(plan.memory_limit()),
        };
        // Made in every batch: batches enter one by one, though windows are published only at a
        // slide.
        let (parents, operator) = (vec![self.id], Box::new(operator));
        let windows = plan.table_stream("window", table, parents, interval_ms, operator);
        plan.slide(windows.id, window.slide_ms);
        Ok(Reduced {
            slide_ms: window.slide_ms,
            ..windows
        })
    }
}

impl<A: Aggregate<T>, T> TableHolder for AggregateWindow<A, T> {
    type Value = A::Output;
}

/// Lets the states of batches enter a window, and publishes its results at every slide.
struct WindowResults<A: Aggregate<T>, T> {
    states: LentStates<A, T>,
    aggregate: A,
    window: FittedWindow,
    table: Arc<LentTable<AggregateWindow<A, T>>>,
    sums: WindowSums,
    /// Why batches of the window failed, oldest first.
    failures: VecDeque<(BatchTime, Failure)>,
    limit: MemoryLimit,
}

impl<A: Aggregate<T>, T: 'static> Operator for WindowResults<A, T> {
    fn kept(&self) -> &dyn KeptBatches {
        &*self.table
    }

    fn state(&self) -> StateKind {
        state_of(&self.aggregate)
    }

    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        self.sums.save(to)?;
        self.table.hold(|windows| windows.save(to))
    }

    fn load(&mut self, from: &mut dyn Read) -> io::Result<()> {
        self.sums.load(from)?;
        self.table.hold(|windows| windows.load(from))
    }

    fn start(&mut self, context: &mut StartContext<'_>) -> Result<()> {
        self.limit.start(context);
        let bytes = context.window_bytes;
        self.table.hold(|windows| windows.keep_within(bytes));
        Ok(())
    }

    fn run(&mut self, now: &mut BatchContext<'_, '_>) -> std::result::Result<(), Failure> {
        let (states, failures) = (&self.states, &mut self.failures);
        let (sums, limit) = (&mut self.sums, &mut self.limit);
        let start = self.window.start(now.time);
        while failures.front().is_some_and(|(time, _)| *time <= start) {
            failures.pop_front();
        }
        self.table.make(now.time, |windows| {
            let mut batch_stats = BatchStats::default();
            windows.begin_batch();
            let entered = guarded(|| {
                states.look(now.time, |batch, stats| {
                    batch_stats = *stats;
                    windows.enter(batch);
                })
            });
            let failed = match entered {
                Ok(entered) => entered.err(),
                Err(panic) => Some(Failure::of_records(panic_message(panic.as_ref()))),
            };
            if let Some(failure) = failed {
                windows.fail();
                failures.push_back((now.time, failure));
            }
            sums.enter(batch_stats);
            limit.enter(&batch_stats);
            if !now.is_due(self.window.slide_ms) {
                return Ok(None);
            }
            let Some(results) = windows.slide() else {
                let first = failures.front().map(|(_, failure)| failure.passed_on());
                return Err(first.unwrap_or_else(|| Failure::of_records("a batch failed")));
            };
            let (keys, overflow) = (results.len() as u64, results.overflow());
            limit.report(now, overflow);
            let stats = BatchStats {
                time: now.time,
                keys,
                ..sums.of(&batch_stats)
            };
            Ok(Some(stats.with(overflow)))
        })
    }
}
