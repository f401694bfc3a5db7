//! Simulated sources: one whose bytes arrive by themselves, one that decides at each batch time
//! what belongs to the batch.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Faults, Random};
use crate::error::{Error, ErrorKind};
use crate::intake::Intake;
use crate::ledger::Account;
use crate::position::Before;
use crate::source::{Fill, ReadOutcome, Source, read_once};
use crate::time::BatchTime;

/// What a simulated kernel holds for a source.
#[derive(Default)]
pub(super) struct Backlog {
    pub(super) arrived: VecDeque<Arrival>,
    /// The source read everything and waits for an edge.
    pub(super) waits: bool,
    /// Records whose last byte was read, by the rules of the definition.
    pub(super) complete: Vec<u8>,
    /// What was read of the record that is not complete.
    pub(super) partial: Vec<u8>,
    after_return: bool,
    /// The beginning of the record was read before.
    is_begun: bool,
    pub(super) is_over: bool,
    pub(super) faults: Faults,
    pub(super) record_bytes_max: usize,
    account: Account,
    /// Records that were received and not filled in, and their bytes.
    pub(super) lost_records: u64,
    pub(super) lost_bytes: u64,
    /// Partial last lines that were dropped.
    pub(super) truncated: u64,
    /// Lines that were too long.
    pub(super) oversize: u64,
}

pub(super) enum Arrival {
    Bytes(Vec<u8>),
    Break { clean: bool },
    Failure,
    End,
}

pub(super) struct SimSource {
    pub(super) kernel: Arc<Mutex<Backlog>>,
    pub(super) random: Random,
}

impl Backlog {
    pub(super) fn new(faults: Faults, record_bytes_max: usize, account: Account) -> Backlog {
        Backlog {
            faults,
            record_bytes_max,
            account,
            ..Backlog::default()
        }
    }

    /// Of nothing but lines.
    pub(super) fn of_lines(record_bytes_max: usize) -> Backlog {
        Backlog {
            record_bytes_max,
            ..Backlog::default()
        }
    }

    /// Of lines, behind bytes that mean this for them.
    pub(super) fn resumed(before: Before, record_bytes_max: usize) -> Backlog {
        // As much of a dropped token as makes it too long.
        let is_dropped = before.is_in_oversize;
        let dropped_bytes = if is_dropped { record_bytes_max + 1 } else { 0 };
        Backlog {
            after_return: before.is_return,
            is_begun: before.is_in_record,
            partial: vec![b'-'; dropped_bytes],
            ..Backlog::of_lines(record_bytes_max)
        }
    }

    /// Takes the complete records, without their ends.
    pub(super) fn take_records(&mut self) -> Vec<Vec<u8>> {
        let complete = std::mem::take(&mut self.complete);
        let mut records: Vec<_> = complete
            .split(|&byte| byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        // Behind the last end.
        records.pop();
        records
    }

    /// Counts a record that came whole.
    pub(super) fn look(&mut self, record: &[u8]) {
        self.oversize += u64::from(record.len() > self.record_bytes_max);
    }

    /// The unfinished line is left as it is. A token that is too long was dropped already.
    pub(super) fn leave(&mut self) {
        self.oversize += u64::from(self.partial.len() > self.record_bytes_max);
    }

    /// Writes down a record of this many bytes that was lost.
    fn lose(&mut self, bytes: u64) {
        self.lost_records += 1;
        self.lost_bytes += bytes;
        self.account.update(|losses| {
            losses.records = self.lost_records;
            losses.bytes = self.lost_bytes;
        });
    }

    /// The definition of which records are complete, byte by byte. A `\r` completes a record at
    /// once and swallows a `\n` behind it; every end is kept as `\n`.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let swallowed =
                std::mem::replace(&mut self.after_return, byte == b'\r') && byte == b'\n';
            match byte {
                b'\n' if swallowed => {}
                b'\n' | b'\r' => self.complete_record(),
                _ => self.partial.push(byte),
            }
        }
    }

    fn complete_record(&mut self) {
        self.is_begun = false;
        self.oversize += u64::from(self.partial.len() > self.record_bytes_max);
        self.complete.append(&mut self.partial);
        self.complete.push(b'\n');
    }

    pub(super) fn end_line(&mut self, clean: bool) {
        if clean && (self.is_begun || !self.partial.is_empty()) {
            self.complete_record();
        } else if !clean {
            self.truncated += u64::from(!self.partial.is_empty());
            self.oversize += u64::from(self.partial.len() > self.record_bytes_max);
        }
        self.partial.clear();
        self.is_begun = false;
        self.after_return = false;
    }
}

impl Source for SimSource {
    fn fill(&mut self, out: &mut Intake<'_>, _now: Duration) -> Fill {
        read_once(out, |buf| {
            let mut kernel = self.kernel.lock().unwrap();
            let faults = kernel.faults;
            if faults.spurious && self.random.one_in(8) {
                kernel.waits = true;
                return ReadOutcome::Nothing(Fill::Pending(None));
            }
            if faults.losses && self.random.one_in(8) {
                let bytes = self.random.below(50) as u64;
                kernel.lose(bytes);
            }
            match kernel.arrived.pop_front() {
                None => {
                    kernel.waits = true;
                    ReadOutcome::Nothing(Fill::Pending(None))
                }
                Some(Arrival::Bytes(mut bytes)) => {
                    // Short reads: the system may give less than it has.
                    let count = (1 + self.random.below(bytes.len())).min(buf.len());
                    let rest = bytes.split_off(count);
                    buf[..count].copy_from_slice(&bytes);
                    kernel.read(&bytes);
                    if !rest.is_empty() {
                        kernel.arrived.push_front(Arrival::Bytes(rest));
                    }
                    ReadOutcome::Bytes(count)
                }
                Some(Arrival::Break { clean }) => {
                    kernel.end_line(clean);
                    ReadOutcome::Break { clean }
                }
                Some(Arrival::Failure) => {
                    kernel.end_line(false);
                    kernel.is_over = true;
                    ReadOutcome::Nothing(Fill::Failed(Error::new(ErrorKind::Source, "it is gone")))
                }
                Some(Arrival::End) => {
                    kernel.end_line(true);
                    kernel.is_over = true;
                    ReadOutcome::Nothing(Fill::End)
                }
            }
        })
    }

    fn drain(&mut self) -> usize {
        usize::MAX
    }

    fn name(&self) -> &str {
        "simulated"
    }
}

/// What a simulated directory holds.
#[derive(Default)]
pub(super) struct Shelf {
    /// Pieces that no batch has taken, each with the millisecond it is from.
    pub(super) pieces: Vec<(u64, Vec<u8>)>,
    /// Pieces of the batch that is being read.
    taken: VecDeque<Vec<u8>>,
    /// A batch is being read: no other source may be.
    pub(super) is_open: bool,
    /// The faults have stopped: whoever waits here says until when.
    pub(super) is_calm: bool,
    /// Nothing will be put here any more: the source ends when all of it was taken.
    pub(super) is_last: bool,
    pub(super) is_over: bool,
}

/// A batched source: a batch holds the pieces that are from no later than its time.
pub(super) struct SimBatched {
    pub(super) shelf: Arc<Mutex<Shelf>>,
    pub(super) random: Random,
}

impl Source for SimBatched {
    fn batch_due(&mut self, time: BatchTime) -> bool {
        let mut shelf = self.shelf.lock().unwrap();
        assert!(!shelf.is_open, "one batch at a time");
        let pieces = std::mem::take(&mut shelf.pieces);
        let (taken, left): (Vec<_>, Vec<_>) = pieces
            .into_iter()
            .partition(|(from_ms, _)| *from_ms <= time.as_millis());
        shelf.pieces = left;
        shelf.taken = taken.into_iter().map(|(_, bytes)| bytes).collect();
        shelf.is_open = !shelf.taken.is_empty() || shelf.is_last || self.random.one_in(2);
        shelf.is_open
    }

    fn fill(&mut self, out: &mut Intake<'_>, now: Duration) -> Fill {
        read_once(out, |buf| {
            let mut shelf = self.shelf.lock().unwrap();
            if !shelf.is_open {
                return ReadOutcome::Nothing(Fill::Pending(None));
            }
            if self.random.one_in(8) {
                // A slow disk. It wakes us at a time, or the test does.
                let at = now + Duration::from_millis(self.random.below(2) as u64);
                return ReadOutcome::Nothing(Fill::Pending(
                    (shelf.is_calm || self.random.one_in(2)).then_some(at),
                ));
            }
            match shelf.taken.pop_front() {
                Some(bytes) if bytes.is_empty() => ReadOutcome::Break { clean: true },
                Some(mut bytes) => {
                    let count = (1 + self.random.below(bytes.len())).min(buf.len());
                    buf[..count].copy_from_slice(&bytes[..count]);
                    bytes.drain(..count);
                    // Empty in the end, which is the break behind it.
                    shelf.taken.push_front(bytes);
                    ReadOutcome::Bytes(count)
                }
                None => {
                    shelf.is_open = false;
                    shelf.is_over = shelf.is_last && shelf.pieces.is_empty();
                    if shelf.is_over {
                        ReadOutcome::Nothing(Fill::End)
                    } else {
                        ReadOutcome::Nothing(Fill::Complete)
                    }
                }
            }
        })
    }

    fn name(&self) -> &str {
        "simulated directory"
    }
}
