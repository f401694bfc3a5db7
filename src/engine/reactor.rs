//! The thread that reads: sources on one side, the hub on the other, the batch clock in between.
//!
//! Promise: a batch is cut at its time whatever sources and sinks do (but in low-latency mode sinks run
//! here, and one that is slow delays the next cut); a source that stopped for want of room goes on by
//! itself, though an edge-triggered event queue will not tell again. Refuses to know: protocols, tokens,
//! formats.
//!
//! `ReactorCore` is the whole logic without a clock or a file descriptor; `run` is the thin shell that
//! owns the `mio` loop.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mio::{Events, Poll, Token};

use crate::config::LowLatency;
use crate::engine::control::{Control, Stop};
use crate::engine::desk::Desk;
use crate::engine::hub::Hub;
use crate::epoch::clock::{BatchClock, Clock};
use crate::error::{Error, ErrorKind};
use crate::limits::{DRAIN_BYTES_MAX, FILLS_PER_TURN};
use crate::metrics::Intake;
use crate::ring::Wake;
use crate::source::feed::Ending;
use crate::source::{Fill, Notice, Notices, Source};

/// Token of the event that other threads wake the reactor with; sources have smaller ones.
pub(crate) const WAKE_TOKEN: Token = Token(usize::MAX);

/// How long the reactor sleeps at most while there is no room. It is woken much earlier; this is the
/// backstop that makes progress independent of any wake-up.
const STALL_MAX: Duration = Duration::from_millis(10);

/// How late a thread that slept may be awake, on a virtual machine that is not overloaded.
const AWAKE_LATE_MAX: Duration = Duration::from_micros(200);

/// Sources that another thread has something for.
#[derive(Clone, Default)]
pub(crate) struct Signals(Arc<Mutex<Vec<usize>>>);

impl Signals {
    /// The numbered source is to be called.
    pub(crate) fn raise(&self, index: usize) {
        self.lock().push(index);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<usize>> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What the reactor does after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// There is more to do: take another turn at once.
    Again,
    /// Nothing to do before that much time has passed or an event comes.
    Sleep(Duration),
    /// No room: nothing to do before the publisher or a shard gives something back, or the time is up.
    Stalled(Duration),
    /// The last epoch was cut.
    Done,
}

/// See the module.
pub(crate) struct ReactorCore {
    hub: Hub,
    slots: Vec<Slot>,
    /// Sources to call, in turn. A source that was not read to its end for want of room stays here:
    /// the event queue reports an edge only once.
    ready: VecDeque<usize>,
    clock: BatchClock,
    batches_left: Option<u64>,
    control: Arc<Control>,
    notices: Notices,
    phase: Phase,
    record_bytes_max: usize,
}

struct Slot {
    source: Box<dyn Source>,
    is_ready: bool,
    wake_at: Option<Duration>,
    /// The connection is over and what is left of it has not found room yet.
    ending: Option<(Ending, Intake)>,
    is_over: bool,
    /// Bytes that may still be read after a graceful stop.
    drain_left: usize,
    oversize_told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// A graceful stop was asked for: reading what the kernel holds.
    Draining,
    /// The last epoch is to be cut.
    Finishing,
    /// It was cut; the helper's tables are to be handed over.
    Finished,
}

impl ReactorCore {
    /// A reactor for `sources`; the hub has one feed for each.
    pub(crate) fn new(
        hub: Hub,
        sources: Vec<Box<dyn Source>>,
        clock: BatchClock,
        batches: Option<u64>,
        control: Arc<Control>,
        notices: Notices,
        record_bytes_max: usize,
    ) -> Self {
        let slots: Vec<Slot> = sources
            .into_iter()
            .map(|source| Slot {
                source,
                is_ready: true,
                wake_at: None,
                ending: None,
                is_over: false,
                drain_left: 0,
                oversize_told: false,
            })
            .collect();
        ReactorCore {
            hub,
            ready: (0..slots.len()).collect(),
            slots,
            clock,
            batches_left: batches,
            control,
            notices,
            phase: Phase::Running,
            record_bytes_max,
        }
    }

    /// The operating system or another thread says that the source may have something.
    pub(crate) fn on_ready(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index)
            && !slot.is_ready
            && !slot.is_over
        {
            slot.is_ready = true;
            self.ready.push_back(index);
        }
    }

    /// Does what is to be done at the time `now`: batches that are due first, then a bounded amount of
    /// reading.
    pub(crate) fn turn(&mut self, now: Duration) -> Next {
        match self.control.requested() {
            Some(Stop::Immediate) => return Next::Done,
            Some(Stop::Graceful) if self.phase == Phase::Running => self.begin_drain(),
            _ => {}
        }
        let helper_done = self.hub.seal_helper();
        if self.phase == Phase::Finished {
            return if helper_done {
                Next::Done
            } else {
                Next::Stalled(Duration::MAX)
            };
        }
        // A connection that has ended belongs to the batch that is open, also when what it left had to
        // wait for room.
        for index in 0..self.slots.len() {
            if self.finish_ending(index).is_none() {
                return Next::Stalled(Duration::MAX);
            }
        }
        while self.clock.is_due(now) {
            let last = self.batches_left == Some(1);
            if self.hub.cut(self.clock.next(), last).is_none() {
                return Next::Stalled(Duration::MAX);
            }
            self.clock.step();
            self.batches_left = self.batches_left.map(|left| left - 1);
            if last {
                self.phase = Phase::Finished;
                return Next::Again;
            }
        }
        if self.phase == Phase::Running || self.phase == Phase::Draining {
            for index in 0..self.slots.len() {
                if self.slots[index].wake_at.is_some_and(|at| at <= now) {
                    self.slots[index].wake_at = None;
                    self.on_ready(index);
                }
            }
            for _ in 0..self.ready.len() {
                let Some(index) = self.ready.pop_front() else {
                    break;
                };
                self.slots[index].is_ready = false;
                if self.read(index, now).is_none() {
                    // Full. Whoever empties something wakes us; this source goes first then.
                    self.slots[index].is_ready = true;
                    self.ready.push_front(index);
                    return Next::Stalled(self.clock.remaining(now));
                }
            }
        }
        if self.phase == Phase::Draining && self.ready.is_empty() {
            for index in 0..self.slots.len() {
                self.end_slot(index, Ending::Clean);
                let Some(()) = self.finish_ending(index) else {
                    return Next::Stalled(self.clock.remaining(now));
                };
            }
        }
        if self
            .slots
            .iter()
            .all(|slot| slot.is_over && slot.ending.is_none())
        {
            self.phase = Phase::Finishing;
            // The batch the end belongs to is complete: nobody waits for its time.
            if self.hub.cut(self.clock.next(), true).is_none() {
                return Next::Stalled(self.clock.remaining(now));
            }
            self.phase = Phase::Finished;
            return Next::Again;
        }
        if !self.ready.is_empty() {
            return Next::Again;
        }
        self.hub.offer();
        let timer = self.slots.iter().filter_map(|slot| slot.wake_at).min();
        let until_timer = timer.map_or(Duration::MAX, |at| at.saturating_sub(now));
        let wait = self.clock.remaining(now).min(until_timer);
        // Asked again: the cut above may have left the helper with a mark and without spare tables.
        if helper_done && self.hub.seal_helper() {
            Next::Sleep(wait)
        } else {
            Next::Stalled(wait)
        }
    }

    /// Whether the open batch holds something.
    fn has_input(&self) -> bool {
        self.hub.has_input()
    }

    /// Epochs cut so far.
    #[cfg(test)]
    pub(crate) fn epochs_cut(&self) -> u64 {
        self.hub.epochs_cut()
    }

    /// Whether the last epoch was cut.
    #[cfg(test)]
    pub(crate) fn is_finished(&self) -> bool {
        self.phase == Phase::Finished
    }

    /// Reads one source, a bounded number of times. `None`: there was no room.
    fn read(&mut self, index: usize, now: Duration) -> Option<()> {
        for _ in 0..FILLS_PER_TURN {
            self.finish_ending(index)?;
            let slot = &mut self.slots[index];
            if slot.is_over {
                return Some(());
            }
            let draining = self.phase == Phase::Draining;
            if draining && slot.drain_left == 0 {
                return Some(());
            }
            let mut space = self.hub.space(index)?;
            if draining && space.len() > slot.drain_left {
                space = &mut space[..slot.drain_left];
            }
            match slot.source.fill(space, now) {
                Fill::Bytes(count) => {
                    slot.drain_left = slot.drain_left.saturating_sub(count);
                    self.hub.filled(index, count);
                    self.tell_oversize(index);
                }
                Fill::Pending(wake_at) => {
                    slot.wake_at = wake_at;
                    return Some(());
                }
                Fill::Break { clean } => {
                    let ending = if clean { Ending::Clean } else { Ending::Reset };
                    slot.ending = Some((ending, self.hub.intake_of(index)));
                    slot.drain_left = 0;
                }
                Fill::End => self.end_slot(index, Ending::Clean),
                Fill::Failed(error) => {
                    self.control.report_at_end(error);
                    self.end_slot(index, Ending::Reset);
                }
            }
        }
        // There may be more: the next turn, after the clock and the other sources.
        self.slots[index].is_ready = true;
        self.ready.push_back(index);
        Some(())
    }

    fn end_slot(&mut self, index: usize, ending: Ending) {
        let slot = &mut self.slots[index];
        if !slot.is_over {
            slot.is_over = true;
            // A break that has found no room yet ends the line already.
            slot.ending
                .get_or_insert((ending, self.hub.intake_of(index)));
        }
    }

    /// Places what a connection that is over has left.
    fn finish_ending(&mut self, index: usize) -> Option<()> {
        let Some((ending, before)) = self.slots[index].ending else {
            return Some(());
        };
        self.hub.end_connection(index, ending)?;
        self.slots[index].ending = None;
        let lost = self.hub.intake_of(index).since(&before);
        if lost.truncated_records > 0 {
            let source = self.slots[index].source.name().to_owned();
            self.notices.tell(Notice::Truncated {
                source,
                bytes: lost.truncated_bytes,
            });
        }
        Some(())
    }

    fn tell_oversize(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if !slot.oversize_told && self.hub.intake_of(index).oversize_tokens > 0 {
            slot.oversize_told = true;
            let source = slot.source.name().to_owned();
            let record_bytes_max = self.record_bytes_max;
            self.notices.tell(Notice::Oversize {
                source,
                record_bytes_max,
            });
        }
    }

    /// Stops taking new connections and reads what the kernel still holds, which is bounded: a sender
    /// that never pauses must not keep the run alive.
    fn begin_drain(&mut self) {
        self.phase = Phase::Draining;
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            slot.drain_left = slot.source.drain().min(DRAIN_BYTES_MAX);
            slot.wake_at = None;
            if slot.drain_left > 0 {
                self.on_ready(index);
            }
        }
    }
}

/// How long to sleep at most so as to be awake in time, the event queue taking whole milliseconds: the
/// rest is spun away.
fn sleep_short_of(wait: Duration) -> Duration {
    let ms = wait.saturating_sub(AWAKE_LATE_MAX).as_millis();
    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
}

/// What a reactor's thread works with, besides the reactor.
pub(crate) struct Shell {
    pub(crate) poll: Poll,
    pub(crate) clock: Clock,
    pub(crate) wake: Arc<Wake>,
    pub(crate) signals: Signals,
    pub(crate) desk: Arc<Desk>,
    pub(crate) low_latency: Option<LowLatency>,
}

/// Runs `core` on the calling thread until its last epoch is cut.
pub(crate) fn run(mut core: ReactorCore, shell: Shell) {
    let Shell {
        mut poll,
        clock,
        wake,
        signals,
        desk,
        low_latency,
    } = shell;
    let mut events = Events::with_capacity(128);
    let control = Arc::clone(&core.control);
    // A manual clock stands still: one would spin until a test moves it.
    let low_latency = low_latency.filter(|_| !clock.is_manual());
    let mut spin_until = Duration::ZERO;
    while !control.abort.load(Ordering::Relaxed) {
        let now = clock.now();
        let next = core.turn(now);
        desk.has_cut();
        let timeout = match next {
            Next::Again => Duration::ZERO,
            Next::Sleep(wait) if low_latency.is_some() => {
                let then = clock.now();
                if then < spin_until {
                    Duration::ZERO
                } else if core.has_input() {
                    sleep_short_of(wait.saturating_sub(then - now))
                } else {
                    wait
                }
            }
            Next::Sleep(wait) => wait,
            Next::Stalled(_) => {
                wake.want();
                // Once more after the announcement: what was given back in between wakes nobody.
                let next = core.turn(clock.now());
                desk.has_cut();
                match next {
                    Next::Stalled(wait) => wait.min(STALL_MAX),
                    Next::Sleep(wait) => wait,
                    Next::Again => Duration::ZERO,
                    Next::Done => break,
                }
            }
            Next::Done => break,
        };
        // A manual clock moves without telling anybody, so it is looked at often.
        let cap = if clock.is_manual() {
            Duration::from_millis(1)
        } else {
            Duration::from_secs(3600)
        };
        // Rounded up to whole milliseconds by the event queue: never early, at most 1 ms late.
        match poll.poll(&mut events, Some(timeout.min(cap))) {
            Ok(()) => {}
            Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(cause) => {
                let cause = crate::error::describe(&cause);
                control.fail(Error::new(
                    ErrorKind::System,
                    format!("event queue failed: {cause}"),
                ));
                break;
            }
        }
        if let Some(LowLatency { spin }) = low_latency
            && !events.is_empty()
        {
            spin_until = clock.now() + spin;
        }
        for event in &events {
            if event.token() == WAKE_TOKEN {
                signals
                    .lock()
                    .drain(..)
                    .for_each(|index| core.on_ready(index));
            } else {
                core.on_ready(event.token().0);
            }
        }
    }
}
