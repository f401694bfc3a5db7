//! The reading thread: sources on one side, the router on the other, the batch clock in between.
//!
//! Promise: a batch is cut at its time, whatever sources and sinks do, except that a batched source
//! is waited for, and that in low-latency mode sinks run here, so a slow one delays the next cut. A
//! source paused because the rings were full resumes by itself; it stays in `ready`, because an
//! edge-triggered queue reports readiness only once. A waiting source is called once a second,
//! whatever the event queue reports. Must not know: formats, protocols, tokens.
//!
//! `ReactorCore` is the whole logic, without a clock or a file descriptor; `shell` is the thin part
//! that owns the `mio` loop.

mod commit;
mod drain;
mod ending;
mod shell;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::shell::{ReactorShell, ReadySignals, WAKE_TOKEN, run};
use crate::engine::control::{Control, Stop};
use crate::error::{Error, guarded};
use crate::intake::ReadyParts;
use crate::intake::framer::Ending;
use crate::intake::router::{Full, Router};
use crate::ledger::IntakeTotals;
use crate::limits::{DRAIN_BYTES_MAX, FILLS_PER_TURN, LOOK_AGAIN_MS};
use crate::notice::Notices;
use crate::source::{Fill, Source};
use crate::time::BatchClock;

/// Called with the number of each source that has ended: by itself, at a graceful stop, or because
/// of an error. It is dropped with the reactor.
pub(crate) type EndWatch = Box<dyn FnMut(usize, Option<&Error>) + Send>;

/// What the reactor does after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// There is more to do: take another turn at once.
    Again,
    /// Nothing to do before that much time has passed or an event comes.
    Sleep(Duration),
    /// No room: nothing to do before the publisher or a shard returns something, or that much time
    /// has passed.
    Stalled(Duration),
    /// The last epoch was cut.
    Done,
}

impl Next {
    /// Limits the wait to `wait_max`.
    fn at_most(self, wait_max: Duration) -> Self {
        match self {
            Next::Sleep(wait) => Next::Sleep(wait.min(wait_max)),
            Next::Stalled(wait) => Next::Stalled(wait.min(wait_max)),
            Next::Again | Next::Done => self,
        }
    }
}

/// The reading thread's work, one turn at a time.
pub(crate) struct ReactorCore {
    router: Router,
    slots: Vec<SourceSlot>,
    /// Sources to call, in turn. A source that was not read to its end for lack of room stays here:
    /// the event queue reports an edge only once.
    ready: VecDeque<usize>,
    clock: BatchClock,
    batches_left: Option<u64>,
    /// The run goes on when every source has ended.
    is_endless: bool,
    /// The sources were asked for what belongs to the next batch, which is not cut yet.
    is_asked: bool,
    /// The batch that is due had to wait for outputs.
    is_behind: bool,
    /// When sources that wait for an edge are called without one. Known from the first turn.
    look_at: Option<Duration>,
    control: Arc<Control>,
    notices: Notices,
    watch: EndWatch,
    phase: Phase,
    record_bytes_max: usize,
    /// The most bytes read of a source after a graceful stop.
    drain_bytes_max: usize,
}

struct SourceSlot {
    source: Box<dyn Source>,
    name: String,
    is_ready: bool,
    wake_at: Option<Duration>,
    /// It has ended, and what it left has not found room yet.
    ending: Option<(Ending, IntakeTotals)>,
    is_over: bool,
    /// A batched source that has not delivered all of the batch it was asked for.
    owes: bool,
    /// Bytes that may still be read after a graceful stop.
    drain_left: usize,
    /// These may be fewer than the source has.
    is_drain_cut: bool,
    /// It returned bytes when it was last called: there may be more, of the same line too.
    may_have_more: bool,
    /// The source asked a graceful stop to wait for it.
    is_finishing: bool,
    /// The source knows that it is not read any more, or has panicked.
    knows_end: bool,
    oversize_told: bool,
    has_panicked: bool,
    ready_parts: ReadyParts,
}

impl SourceSlot {
    /// Returns `true` if a graceful stop waits for more of it.
    fn is_waited_for(&self) -> bool {
        self.is_finishing && !self.is_over && self.drain_left > 0
    }

    /// Returns `true` if a graceful stop has read as much of it as it may, and there may be more.
    fn is_cut_off(&self) -> bool {
        self.is_drain_cut && self.drain_left == 0 && self.may_have_more
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// A graceful stop was requested: reading what the kernel holds.
    Draining,
    /// The last epoch is to be cut.
    Finishing,
    /// It was cut; the helper's tables are to be handed over.
    Finished,
}

/// What a reactor is made of.
pub(crate) struct ReactorParts {
    /// It has one framer for each source.
    pub(crate) router: Router,
    pub(crate) sources: Vec<Box<dyn Source>>,
    pub(crate) clock: BatchClock,
    /// The number of batches after which the run ends.
    pub(crate) batches: Option<u64>,
    /// Batches go on when every source has ended, or without any: there is input that comes through
    /// no source.
    pub(crate) is_endless: bool,
    pub(crate) control: Arc<Control>,
    pub(crate) notices: Notices,
    pub(crate) watch: EndWatch,
    pub(crate) record_bytes_max: usize,
}

impl ReactorCore {
    /// A reactor that has read nothing.
    pub(crate) fn new(parts: ReactorParts) -> Self {
        let ReactorParts {
            router,
            sources,
            clock,
            batches,
            is_endless,
            control,
            notices,
            watch,
            record_bytes_max,
        } = parts;
        let slots: Vec<SourceSlot> = sources
            .into_iter()
            .map(|source| SourceSlot {
                name: source.name().to_owned(),
                source,
                is_ready: true,
                wake_at: None,
                ending: None,
                is_over: false,
                owes: false,
                drain_left: 0,
                is_drain_cut: false,
                may_have_more: false,
                is_finishing: false,
                knows_end: false,
                oversize_told: false,
                has_panicked: false,
                ready_parts: ReadyParts::default(),
            })
            .collect();
        ReactorCore {
            router,
            ready: (0..slots.len()).collect(),
            slots,
            clock,
            batches_left: batches,
            is_endless,
            is_asked: false,
            is_behind: false,
            look_at: None,
            control,
            notices,
            watch,
            phase: Phase::Running,
            record_bytes_max,
            drain_bytes_max: DRAIN_BYTES_MAX,
        }
    }

    /// The operating system or another thread reports that the source may have something.
    pub(crate) fn on_ready(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index)
            && !slot.is_ready
            && !slot.is_over
        {
            slot.is_ready = true;
            self.ready.push_back(index);
        }
    }

    /// As [`on_ready`](Self::on_ready), for a part of the source.
    pub(crate) fn on_part_ready(&mut self, index: usize, part: u32) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.ready_parts.add(part);
        }
        self.on_ready(index);
    }

    /// Does what is due at the time `now`: first the batches, then a bounded amount of reading.
    pub(crate) fn turn(&mut self, now: Duration) -> Next {
        self.commit();
        self.obey()
            .or_else(|| self.place_endings())
            .or_else(|| self.cut_due(now))
            .or_else(|| self.read_ready(now))
            .or_else(|| self.finish_drain(now))
            .or_else(|| self.finish_run(now))
            .unwrap_or_else(|| self.pause(now))
    }

    /// Does what was requested of the run, and nothing more once its last epoch is cut.
    fn obey(&mut self) -> Option<Next> {
        let full = || self.control.is_memory_full().then_some(Stop::Graceful);
        match self.control.requested().or_else(full) {
            Some(Stop::Immediate) => return Some(Next::Done),
            Some(Stop::Graceful) if self.phase == Phase::Running => self.begin_drain(),
            _ => {}
        }
        if self.phase == Phase::Draining && self.control.is_drain_over() {
            self.end_drain();
        }
        let helper_done = self.router.seal_helper();
        // Sources that have positions hear of the last batch too.
        let next = match helper_done && !self.waits_for_delivery() {
            true => Next::Done,
            false => Next::Stalled(Duration::MAX),
        };
        (self.phase == Phase::Finished).then_some(next)
    }

    /// A connection that has ended belongs to the open batch, even if what it left had to wait for
    /// room.
    fn place_endings(&mut self) -> Option<Next> {
        let mut sources = 0..self.slots.len();
        let is_stalled = sources.any(|index| self.finish_ending(index).is_err());
        is_stalled.then_some(Next::Stalled(Duration::MAX))
    }

    /// Cuts the batches that are due.
    fn cut_due(&mut self, now: Duration) -> Option<Next> {
        self.raise_timers(now);
        while self.clock.is_due(now) {
            if let Some(next) = self.gather(now) {
                return Some(next);
            }
            // When no source is left, the batch that is due is the last one.
            let last = self.batches_left == Some(1) || self.is_over();
            if last && self.tell_ends() {
                return Some(Next::Again);
            }
            if self.router.cut(self.clock.next(), last).is_err() {
                self.is_behind = true;
                return Some(Next::Stalled(Duration::MAX));
            }
            self.is_asked = false;
            self.clock.step();
            self.batches_left = self.batches_left.map(|left| left - 1);
            if last {
                self.phase = Phase::Finished;
                return Some(Next::Again);
            }
            // Outputs that take longer than an interval leave a batch due at all times: without a
            // look at the sources in between nothing would ever be read.
            if std::mem::take(&mut self.is_behind) && self.phase == Phase::Running {
                return self.read_ready(now).or(Some(Next::Again));
            }
        }
        None
    }

    /// Reads the sources that are ready, each once.
    fn read_ready(&mut self, now: Duration) -> Option<Next> {
        let is_reading = matches!(self.phase, Phase::Running | Phase::Draining);
        // While the last batch of a graceful stop is gathered, other input is too late.
        if !is_reading || self.is_asked {
            return None;
        }
        for _ in 0..self.ready.len() {
            let index = self.ready.pop_front()?;
            self.slots[index].is_ready = false;
            if self.read(index, now).is_err() {
                // Whoever empties something wakes us; this source goes first then.
                self.slots[index].is_ready = true;
                self.ready.push_front(index);
                return Some(Next::Stalled(self.clock.remaining(now)));
            }
        }
        None
    }

    /// Cuts the last batch once there is no source left to read from.
    fn finish_run(&mut self, now: Duration) -> Option<Next> {
        if !self.is_over() {
            return None;
        }
        self.phase = Phase::Finishing;
        self.clock.close(now);
        // The batch that the end belongs to is complete: nobody waits for its time.
        if self.router.cut(self.clock.next(), true).is_err() {
            return Some(Next::Stalled(self.clock.remaining(now)));
        }
        self.phase = Phase::Finished;
        Some(Next::Again)
    }

    /// Everything was done: sleeps until the next batch or timer, unless a source is ready already.
    fn pause(&mut self, now: Duration) -> Next {
        if !self.ready.is_empty() {
            return Next::Again;
        }
        let timer = self.slots.iter().filter_map(|slot| slot.wake_at).min();
        self.rest(self.clock.remaining(now), timer, now)
    }

    /// Nothing to do before `wait` has passed, `timer` is due, or sources are looked at again.
    fn rest(&mut self, wait: Duration, timer: Option<Duration>, now: Duration) -> Next {
        self.router.offer();
        let timer = timer.into_iter().chain(self.next_look()).min();
        let until_timer = timer.map_or(Duration::MAX, |at| at.saturating_sub(now));
        let wait = wait.min(until_timer);
        // Asked here: an earlier cut may have left the helper with a barrier and without spare
        // tables.
        if self.router.seal_helper() {
            Next::Sleep(wait)
        } else {
            Next::Stalled(wait)
        }
    }

    /// Returns `true` if there is no source left to read from, now or later.
    fn is_over(&self) -> bool {
        let is_ended = |slot: &SourceSlot| slot.is_over && slot.ending.is_none();
        self.slots.iter().all(is_ended) && (!self.is_endless || self.phase != Phase::Running)
    }

    /// Returns when open sources are looked at again.
    fn next_look(&self) -> Option<Duration> {
        let waits = self.slots.iter().any(|slot| !slot.is_over);
        self.look_at.filter(|_| waits)
    }

    /// Calls the sources whose time has come. Once a second these are all of them: an edge may have
    /// been lost, by the system or by a source that took a spurious "would block" for the end of
    /// its input.
    fn raise_timers(&mut self, now: Duration) {
        let is_look = self.look_at.is_some_and(|at| at <= now);
        if is_look || self.look_at.is_none() {
            self.look_at = Some(now.saturating_add(Duration::from_millis(LOOK_AGAIN_MS)));
        }
        for index in 0..self.slots.len() {
            let is_due = self.slots[index].wake_at.is_some_and(|at| at <= now);
            if is_due {
                self.slots[index].wake_at = None;
            }
            if is_due || is_look {
                self.on_ready(index);
            }
        }
    }

    /// Reads what batched sources have for the next batch, and nothing else. Returns `None` when
    /// all of it has been read: the batch may be cut.
    fn gather(&mut self, now: Duration) -> Option<Next> {
        if !self.is_asked {
            self.is_asked = true;
            let time = self.clock.next();
            for index in 0..self.slots.len() {
                let due = |source: &mut dyn Source| source.batch_due(time);
                if !self.slots[index].is_over && self.guarded(index, due) == Some(true) {
                    self.slots[index].owes = true;
                    self.on_ready(index);
                }
            }
        }
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            if !slot.owes || !std::mem::take(&mut slot.is_ready) {
                continue;
            }
            // The others keep their turns.
            self.ready.retain(|&other| other != index);
            if self.read(index, now).is_err() {
                self.slots[index].is_ready = true;
                self.ready.push_front(index);
                return Some(Next::Stalled(Duration::MAX));
            }
        }
        // What an ended connection left belongs to the batch as well; the next turn places it.
        let is_open = |slot: &&SourceSlot| slot.owes || slot.ending.is_some();
        let mut open = self.slots.iter().filter(is_open).peekable();
        open.peek()?;
        let mut timer = None;
        for slot in open {
            if slot.is_ready || slot.ending.is_some() {
                return Some(Next::Again);
            }
            timer = timer.into_iter().chain(slot.wake_at).min();
        }
        Some(self.rest(Duration::MAX, timer, now))
    }

    /// Returns `true` if the open batch holds something.
    fn has_input(&self) -> bool {
        self.router.has_input()
    }

    /// Epochs cut so far.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn epochs_cut(&self) -> u64 {
        self.router.epochs_cut()
    }

    /// The last epoch up to which every output has delivered everything.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn epochs_delivered(&self) -> u64 {
        self.router.epochs_delivered()
    }

    /// Returns `true` once the last epoch was cut.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn is_finished(&self) -> bool {
        self.phase == Phase::Finished
    }

    /// Reads one source, a bounded number of times; stops when there is no room.
    fn read(&mut self, index: usize, now: Duration) -> Result<(), Full> {
        for _ in 0..FILLS_PER_TURN {
            self.finish_ending(index)?;
            let slot = &mut self.slots[index];
            if slot.is_over {
                return Ok(());
            }
            slot.is_finishing = false;
            // What a batched source owes is bounded by what it has for the batch.
            let draining = self.phase == Phase::Draining && !slot.owes;
            if draining && slot.drain_left == 0 {
                return Ok(());
            }
            let bytes_max = if draining {
                slot.drain_left
            } else {
                usize::MAX
            };
            let before = self.router.first_intake_of(index);
            let (source, parts) = (&mut slot.source, &mut slot.ready_parts);
            let (filled, taken) = self.router.fill(index, bytes_max, parts, |out| {
                // Only a user-supplied source can panic here: that ends the source, not the run.
                (guarded(|| source.fill(out, now)), out.taken())
            });
            slot.may_have_more = matches!(filled, Ok(Fill::More)) && taken.bytes > 0;
            slot.drain_left = slot.drain_left.saturating_sub(taken.bytes);
            self.tell_dropped(index, &before);
            if let Some(misuse) = taken.misuse {
                self.refuse(index, misuse);
                continue;
            }
            let slot = &mut self.slots[index];
            match filled {
                Ok(Fill::End) => self.end_slot(index, Ending::Clean, None),
                Ok(Fill::Failed(error)) => self.lose(index, error),
                Err(panic) => self.lose_to_panic(index, panic.as_ref()),
                _ if taken.is_full => return Err(Full),
                Ok(Fill::More) => {}
                Ok(Fill::Pending(wake_at)) => {
                    slot.wake_at = wake_at;
                    return Ok(());
                }
                Ok(Fill::Finishing(wake_at)) => {
                    slot.wake_at = Some(wake_at);
                    slot.is_finishing = true;
                    return Ok(());
                }
                Ok(Fill::Complete) => {
                    slot.owes = false;
                    slot.wake_at = None;
                    return Ok(());
                }
            }
        }
        // There may be more: the next turn, after the clock and the other sources.
        self.slots[index].is_ready = true;
        self.ready.push_back(index);
        Ok(())
    }

    /// Calls a source; a panic ends it.
    fn guarded<T>(&mut self, index: usize, call: impl FnOnce(&mut dyn Source) -> T) -> Option<T> {
        let source = self.slots[index].source.as_mut();
        match guarded(|| call(source)) {
            Ok(answer) => Some(answer),
            Err(panic) => {
                self.lose_to_panic(index, panic.as_ref());
                None
            }
        }
    }
}
