//! A graceful stop, as sources see it: what the kernel still holds is read, for some time.
//!
//! Promise: it ends, whatever sources do. Must not know: sinks, who requested it, what the time
//! limit is.

use std::time::Duration;

use super::{Next, Phase, ReactorCore, SourceSlot};
use crate::error::{Error, ErrorKind};
use crate::intake::framer::Ending;

impl ReactorCore {
    /// Stops taking new connections and reads what the kernel still holds. That is bounded: a
    /// sender that never pauses must not keep the run alive.
    pub(super) fn begin_drain(&mut self) {
        self.phase = Phase::Draining;
        for index in 0..self.slots.len() {
            if self.slots[index].is_over {
                continue;
            }
            let drain_max = self.guarded(index, |source| source.drain()).unwrap_or(0);
            let slot = &mut self.slots[index];
            slot.drain_left = drain_max.min(self.drain_bytes_max);
            // Nobody knows what a source still has if nothing of it may be read: a file, for
            // example.
            slot.is_drain_cut = drain_max == 0 || drain_max >= self.drain_bytes_max;
            // A source in the middle of a batch still waits for its own time.
            if !slot.owes {
                slot.wake_at = None;
            }
            if slot.drain_left > 0 {
                self.on_ready(index);
            }
        }
    }

    /// Informs the source that it is not read any more: what it knows to be lost belongs to the
    /// batch that is cut next.
    pub(super) fn tell_end(&mut self, index: usize) {
        if !std::mem::replace(&mut self.slots[index].knows_end, true) {
            self.guarded(index, |source| source.ended());
        }
    }

    /// Calls [`tell_end`](Self::tell_end) for every open source. Returns `true` if one panicked,
    /// which leaves something to place first.
    pub(super) fn tell_ends(&mut self) -> bool {
        for index in 0..self.slots.len() {
            self.tell_end(index);
        }
        self.slots.iter().any(|slot| slot.ending.is_some())
    }

    /// Gathers the last batch of a graceful stop once everything was read that it waits for, and
    /// ends the sources.
    pub(super) fn finish_drain(&mut self, now: Duration) -> Option<Next> {
        let is_waited_for = || self.slots.iter().any(SourceSlot::is_waited_for);
        let has_read = self.is_asked || self.ready.is_empty() && !is_waited_for();
        if self.phase != Phase::Draining || !has_read {
            return None;
        }
        self.clock.close(now);
        if let Some(next) = self.gather(now) {
            return Some(next.at_most(self.clock.remaining(now)));
        }
        for index in 0..self.slots.len() {
            // If the memory was full, or as much was read as may be, reading stopped in the middle
            // of the input, and in the middle of its last line.
            let ending = match self.control.is_memory_full() || self.slots[index].is_cut_off() {
                true => Ending::Reset,
                false => Ending::Stop,
            };
            self.end_slot(index, ending, None);
            if self.finish_ending(index).is_err() {
                return Some(Next::Stalled(self.clock.remaining(now)));
            }
        }
        None
    }

    /// Ends the wait of a graceful stop: what sources have not delivered by now is not counted.
    #[cold]
    pub(super) fn end_drain(&mut self) {
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            let is_open = slot.owes || slot.is_ready && slot.drain_left > 0 || slot.is_waited_for();
            if !slot.is_over && is_open {
                let name = &slot.name;
                let message = format!(
                    "source {name}: still reading when the time for a graceful stop was over; what it had not \
                     delivered is not counted"
                );
                self.lose(index, Error::new(ErrorKind::TimedOut, message));
            }
        }
    }
}
