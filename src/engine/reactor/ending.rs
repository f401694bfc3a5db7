//! How sources end: by themselves, by an error, or by a panic.
//!
//! Promise: the end of a source is reported once, and so is what it left. Must not know: sinks,
//! formats, protocols, tokens.

use super::ReactorCore;
use crate::error::{Error, ErrorKind};
use crate::intake::Misuse;
use crate::intake::framer::Ending;
use crate::intake::router::Full;
use crate::ledger::IntakeTotals;
use crate::notice::{Notice, NoticeKind};
use crate::shard::panic_message;

impl ReactorCore {
    /// Ends a source that has done what cannot be.
    #[cold]
    pub(super) fn refuse(&mut self, index: usize, misuse: Misuse) {
        let message = format!("source {} {misuse}", self.slots[index].name);
        self.lose(index, Error::new(ErrorKind::Source, message));
    }

    #[cold]
    pub(super) fn lose_to_panic(&mut self, index: usize, panic: &(dyn std::any::Any + Send)) {
        let slot = &mut self.slots[index];
        let (name, panic) = (&slot.name, panic_message(panic));
        let message = format!("source {name} panicked and is read no more: {panic}");
        let error = Error::new(ErrorKind::UserFunction, message);
        slot.knows_end = true;
        slot.has_panicked = true;
        let error = self.end_lost(index, error);
        self.control.report(error);
    }

    /// Ends a source that should not have ended.
    #[cold]
    pub(super) fn lose(&mut self, index: usize, error: Error) {
        let error = self.end_lost(index, error);
        self.control.report_lost(error);
    }

    /// Ends a source that should not have ended, and reports it if others go on: the error itself
    /// may take a long time to arrive. Returns the error, marked as reported then.
    pub(super) fn end_lost(&mut self, index: usize, error: Error) -> Error {
        self.end_slot(index, Ending::Reset, Some(&error));
        let goes_on = self.is_endless || self.slots.iter().any(|slot| !slot.is_over);
        if !goes_on || error.is_reported() {
            return error;
        }
        let (source, reason) = (self.slots[index].name.clone(), error.to_string());
        let summary = format!("{source} was lost");
        (self.notices).report(Notice::new(source, NoticeKind::Lost { reason }));
        error.reported_except(summary)
    }

    /// Ends a source: it is not called any more.
    pub(super) fn end_slot(&mut self, index: usize, ending: Ending, error: Option<&Error>) {
        let slot = &mut self.slots[index];
        if !slot.is_over {
            slot.is_over = true;
            slot.owes = false;
            slot.wake_at = None;
            // A break that has found no room yet ends the line already.
            slot.ending
                .get_or_insert((ending, self.router.first_intake_of(index)));
            self.tell_end(index);
            (self.watch)(index, error);
        }
    }

    /// Places what an ended source has left.
    pub(super) fn finish_ending(&mut self, index: usize) -> Result<(), Full> {
        let Some((ending, before)) = self.slots[index].ending else {
            return Ok(());
        };
        self.router.finish(index, ending)?;
        self.slots[index].ending = None;
        self.tell_dropped(index, &before);
        Ok(())
    }

    /// Reports what was dropped of the source's first channel since `before`. A source with several
    /// channels reports what was dropped of the others itself: it knows who they are.
    pub(super) fn tell_dropped(&mut self, index: usize, before: &IntakeTotals) {
        let now = self.router.first_intake_of(index);
        let slot = &mut self.slots[index];
        let is_first = now.oversize_tokens > 0 && !slot.oversize_told;
        slot.oversize_told |= is_first;
        if is_first {
            let record_bytes_max = self.record_bytes_max;
            let kind = NoticeKind::Oversize { record_bytes_max };
            self.notices.report(Notice::new(&slot.name, kind));
        }
        if now.truncated_records > before.truncated_records {
            let bytes = now.truncated_bytes - before.truncated_bytes;
            let kind = NoticeKind::Truncated { bytes };
            self.notices.report(Notice::new(&slot.name, kind));
        }
    }
}
