//! Merges what the shards hand over, checks it, puts it out and gives the tables back.
//!
//! Promise: epochs come out in order, complete or not at all; a batch whose ledger does not close ends
//! the run. Refuses to know: formats, sockets, what a pipeline computes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::engine::control::Control;
use crate::engine::plan::{Output, Plan};
use crate::epoch::clock::Clock;
use crate::epoch::merge::merge_nodes;
use crate::epoch::swap::{Sealed, SealedIn, Tables};
use crate::epoch::{BatchStats, Mark};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{Counted, Intake, close_ledger};
use crate::ring::Wake;
use crate::shard::panic_message;
use crate::source::{Notice, Notices};

/// Lateness that nobody needs to hear of, however short the interval: the event queue alone rounds to
/// milliseconds.
const BEHIND_MIN: Duration = Duration::from_millis(100);

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A batch was put out.
    Published,
    /// Not all shards have handed over.
    Waiting,
    /// The last batch was put out.
    Done,
}

/// See the module. Stepped by [`run`] on its own thread, or by a test.
pub(crate) struct Publisher {
    plan: Plan,
    /// One end for each shard, the helper's last.
    shards: Vec<SealedIn>,
    /// The epoch at hand, one entry for each shard; empty between two steps.
    tables: Vec<Tables>,
    /// Statistics of the epoch at hand, one entry for each node.
    stats: Vec<BatchStats>,
    /// What each stream had read at the mark before and at the one at hand.
    intakes: rtrb::Consumer<Intake>,
    before: Vec<Intake>,
    now: Vec<Intake>,
    interval: Duration,
    clock: Clock,
    published: Arc<AtomicU64>,
    control: Arc<Control>,
    notices: Notices,
    is_behind: bool,
}

/// Where a publisher's epochs come from.
pub(crate) struct Inbox {
    /// One end for each shard, the helper's last.
    pub(crate) shards: Vec<SealedIn>,
    /// What each of `stream_count` streams had read at each mark.
    pub(crate) intakes: rtrb::Consumer<Intake>,
    pub(crate) stream_count: usize,
}

impl Publisher {
    /// A publisher of what comes through `inbox`.
    pub(crate) fn new(
        plan: Plan,
        inbox: Inbox,
        interval: Duration,
        clock: Clock,
        published: Arc<AtomicU64>,
        control: Arc<Control>,
        notices: Notices,
    ) -> Self {
        let Inbox {
            shards,
            intakes,
            stream_count,
        } = inbox;
        Publisher {
            tables: Vec::with_capacity(shards.len()),
            before: vec![Intake::default(); stream_count],
            now: vec![Intake::default(); stream_count],
            intakes,
            stats: vec![BatchStats::default(); plan.nodes.len()],
            plan,
            shards,
            interval,
            clock,
            published,
            control,
            notices,
            is_behind: false,
        }
    }

    /// Puts the next batch out, if every shard has handed it over.
    ///
    /// # Errors
    ///
    /// An output that cannot be written, or a ledger that does not close: the run ends.
    pub(crate) fn step(&mut self) -> Result<Step> {
        if !self.shards.iter().all(SealedIn::is_ready) {
            return Ok(Step::Waiting);
        }
        let mut mark: Option<Mark> = None;
        for shard in &mut self.shards {
            let Sealed { mark: this, tables } = shard.take().expect("`is_ready` said so");
            assert!(
                mark.is_none_or(|mark| mark.epoch == this.epoch),
                "epochs out of step"
            );
            mark = Some(this);
            self.tables.push(tables);
        }
        let mark = mark.expect("there is at least one shard");
        for intake in &mut self.now {
            *intake = self
                .intakes
                .pop()
                .expect("intakes are pushed before their mark");
        }
        let outcome = self.publish(&mark);
        std::mem::swap(&mut self.before, &mut self.now);
        for (shard, mut tables) in self.shards.iter_mut().zip(self.tables.drain(..)) {
            tables.clear();
            shard.give_back(tables);
        }
        // Release: pairs with the Acquire in `Hub::cut`.
        self.published.store(mark.epoch, Ordering::Release);
        outcome?;
        Ok(if mark.last {
            Step::Done
        } else {
            Step::Published
        })
    }

    fn publish(&mut self, mark: &Mark) -> Result<()> {
        let start = self.clock.now();
        let due = Duration::from_millis(mark.time.as_millis());
        let mut counted = Counted::default();
        let mut failure = None;
        for tables in &mut self.tables {
            counted.block_bytes += tables.counted.block_bytes;
            failure = failure.or(tables.failure.take());
        }
        let sum = |intakes: &[Intake]| intakes.iter().fold(Intake::default(), |a, b| a.plus(b));
        close_ledger(&sum(&self.before), &sum(&self.now), &counted)?;
        if let Some(message) = failure {
            self.control.report(failed_batch(mark, &message));
            return Ok(());
        }

        // Where the caller names batches, their times need not be times of day.
        let scheduling_delay = match self.interval {
            Duration::ZERO => Duration::ZERO,
            _ => start.saturating_sub(due),
        };
        self.tell_if_behind(scheduling_delay);
        let (first, others) = self
            .tables
            .split_first_mut()
            .expect("there is at least one shard");
        for (index, node) in self.plan.nodes.iter().enumerate() {
            // The fold calls a function of the user's.
            let merged = catch_unwind(AssertUnwindSafe(|| {
                merge_nodes(
                    &mut first.nodes[index],
                    others.iter_mut().map(|tables| &mut tables.nodes[index]),
                    |into, from| node.merge(into, from),
                );
            }));
            if let Err(panic) = merged {
                self.control
                    .report(failed_batch(mark, &panic_message(panic.as_ref())));
                return Ok(());
            }
            node.check(&first.nodes[index])?;
        }

        let processing = self.clock.now().saturating_sub(start);
        for (index, node) in first.nodes.iter().enumerate() {
            let stream = self.plan.nodes[index].stream();
            let delta = self.now[stream].since(&self.before[stream]);
            let keys = node.partial.len() as u64;
            self.stats[index] = BatchStats {
                batch: mark.epoch,
                time: mark.time,
                interval: self.interval,
                scheduling_delay,
                processing,
                last: mark.last,
                ..BatchStats::of(&delta, node.block_bytes, node.tallied, keys)
            };
        }
        for output in &mut self.plan.outputs {
            emit(output.as_mut(), first, &self.stats, mark, &self.control)?;
        }
        // Of each stream its first pipeline: others saw the same bytes.
        let firsts = self.plan.first_nodes().map(|index| &self.stats[index]);
        self.control.batch_done(scheduling_delay, firsts);
        Ok(())
    }

    fn tell_if_behind(&mut self, delay: Duration) {
        let behind = !self.interval.is_zero() && delay > self.interval.max(BEHIND_MIN);
        if behind && !self.is_behind {
            self.notices.tell(Notice::Behind {
                interval: self.interval,
                delay,
            });
        }
        self.is_behind = behind;
    }
}

/// Calls one output. A panic in it is the user's and fails the batch, not the run.
fn emit(
    output: &mut dyn Output,
    merged: &Tables,
    stats: &[BatchStats],
    mark: &Mark,
    control: &Control,
) -> Result<()> {
    match catch_unwind(AssertUnwindSafe(|| output.emit(&merged.nodes, stats))) {
        Ok(outcome) => outcome,
        Err(panic) => {
            control.report(failed_batch(mark, &panic_message(panic.as_ref())));
            Ok(())
        }
    }
}

#[cold]
fn failed_batch(mark: &Mark, message: &str) -> Error {
    let ms = mark.time.as_millis();
    Error::new(
        ErrorKind::UserFunction,
        format!("batch {ms} ms failed: {message}"),
    )
}

/// Steps `publisher` until it is done or the engine is aborted. `shards` are woken when their tables
/// come back, `wake` is for the reading side.
pub(crate) fn run(mut publisher: Publisher, shards: &[Thread], wake: &Wake) {
    let control = Arc::clone(&publisher.control);
    while !control.abort.load(Ordering::Relaxed) {
        match publisher.step() {
            Ok(Step::Waiting) => {
                // A shard or the reader that hands tables over unparks this thread.
                thread::park();
                continue;
            }
            Ok(Step::Published) => {}
            Ok(Step::Done) => break,
            Err(error) => {
                control.fail(error);
                break;
            }
        }
        for shard in shards {
            shard.unpark();
        }
        wake.notify();
    }
    control.stopped();
}
