//! What one worker does with a piece of a file.
//!
//! Promise: a piece is the records that begin in it, found in the bytes alone; nothing of a piece
//! is held once it is finished. Must not know: sinks, other pieces, how the batch ends.

use std::cell::Cell;
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use crate::engine::control::Control;
use crate::engine::scan::queue::InputSet;
use crate::engine::scan::steal::StealQueue;
use crate::id::StreamId;
use crate::intake::cuts::NextRecord;
use crate::intake::framer::{BlockPort, Ending, Framer};
use crate::metrics::{Recorder, SourceCells};
use crate::ring::arena::Block;
use crate::shard::ShardCore;
use crate::source::codec::encoding::Decoded;
use crate::source::file::files::{DecodedFile, has_shrunk, input_cause};
use crate::source::file::stdin::Stdin;
use crate::source::{Fill, Port, ReadOutcome, Source};

/// Bytes read at once when looking for the end of one record.
const PROBE_BYTES: usize = 4096;

/// How often a worker checks whether a pipe has something, and whether to stop waiting.
const PIPE_POLL: Duration = Duration::from_millis(5);

/// Where a piece comes from, and who may stop it.
pub(super) struct ScanPlace<'a> {
    pub(super) set: &'a InputSet,
    pub(super) control: &'a Control,
    /// Where others may count what is read, if they may.
    pub(super) lending: Option<&'a StealQueue>,
    /// Set when the file's end came too soon.
    pub(super) is_shorter: Cell<bool>,
}

impl ScanPlace<'_> {
    fn is_stopped(&self) -> bool {
        self.control.is_stopping()
    }

    /// Counts `count` bytes as read of a file of `bytes` bytes, if that is known.
    fn read(&self, count: usize, bytes: Option<u64>) {
        self.set.progress.add_read(count);
        if bytes.is_none() {
            self.set.progress.correct(0, count as u64);
        }
    }
}

/// What one worker counts with.
pub(super) struct ScanWorker {
    pub(super) core: ShardCore,
    /// One for each stream; each holds a block or has left one here.
    pub(super) framers: Vec<Framer>,
    /// One for each framer.
    recorders: Vec<Recorder<SourceCells>>,
    blocks: Vec<Block>,
    probe: Box<[u8]>,
}

impl ScanWorker {
    /// A worker that counts with `core` what comes through `framers`. There are as many blocks as
    /// framers, and as many recorders.
    pub(super) fn new(
        core: ShardCore,
        framers: Vec<Framer>,
        recorders: Vec<Recorder<SourceCells>>,
        blocks: Vec<Block>,
    ) -> Self {
        ScanWorker {
            core,
            framers,
            recorders,
            blocks,
            probe: vec![0; PROBE_BYTES].into(),
        }
    }

    /// Publishes what was read of each stream.
    pub(super) fn publish(&mut self) {
        for (framer, recorder) in self.framers.iter().zip(&mut self.recorders) {
            recorder.publish(&framer.intake());
        }
    }

    /// Counts the records that begin in `range` of `file`, which has a byte order mark of
    /// `mark_bytes` bytes and is `bytes` bytes long, if that is known.
    ///
    /// # Errors
    ///
    /// The system's error when reading. What was read before it is counted, except the record it
    /// stopped in.
    pub(super) fn piece(
        &mut self,
        place: &ScanPlace<'_>,
        file: &File,
        range: Range<u64>,
        (mark_bytes, bytes): (usize, Option<u64>),
    ) -> io::Result<()> {
        let outcome = self.read_piece(place, file, range, (mark_bytes, bytes));
        let ending = *outcome.as_ref().unwrap_or(&Ending::Reset);
        self.end(place, ending);
        outcome.map(drop)
    }

    /// Returns how the last record ends, if its end was not found.
    fn read_piece(
        &mut self,
        place: &ScanPlace<'_>,
        file: &File,
        range: Range<u64>,
        (mark_bytes, bytes): (usize, Option<u64>),
    ) -> io::Result<Ending> {
        let stream = place.set.stream;
        let mut at = range.start;
        if at > 0 {
            match self.record_start(place, file, &range)? {
                Some(start) => at = start,
                None => return Ok(Ending::Clean),
            }
        } else {
            // The first record begins behind the mark, and in the first piece, however short that
            // is.
            at = mark_bytes as u64;
            self.framers[stream.0].skipped(mark_bytes);
            place.read(mark_bytes, bytes);
        }
        let line_ends = self.framers[stream.0].delimiters().line_ends;
        let file_end = bytes.unwrap_or(u64::MAX);
        // Where the last record of the piece ends, once that is known: the one of its last byte.
        let mut next = NextRecord::default();
        let mut end = (range.end >= file_end).then_some(file_end);
        loop {
            if at >= range.end && place.is_stopped() {
                return Ok(Ending::Reset);
            }
            let room = match end {
                Some(end) => end.saturating_sub(at),
                // The last record usually ends soon after the piece.
                None if at < range.end => range.end - at + PROBE_BYTES as u64,
                None => u64::MAX,
            };
            // Nothing is read behind the end that the file had when it was opened, even if it
            // grows.
            let room = room.min(file_end.saturating_sub(at));
            if room == 0 {
                break;
            }
            let space = self.space(place);
            let room = usize::try_from(room).unwrap_or(usize::MAX).min(space.len());
            let mut count = read_at(file, &mut space[..room], at)?;
            if count == 0 {
                if let Some(bytes) = bytes {
                    if has_shrunk(file, bytes) {
                        // The file was cut, and so was the line that is held.
                        place.is_shorter.set(true);
                        return Ok(Ending::Reset);
                    }
                    place.set.progress.correct(bytes.saturating_sub(at), 0);
                }
                break;
            }
            if end.is_none() {
                let from = (range.end - 1).saturating_sub(at);
                let from = usize::try_from(from).unwrap_or(usize::MAX);
                let behind = space[..count].get(from..).unwrap_or_default();
                if let Some(found) = next.find(line_ends, behind) {
                    count = from + found;
                    end = Some(at + count as u64);
                }
            }
            self.framers[stream.0].filled(count);
            place.read(count, bytes);
            at += count as u64;
        }
        Ok(Ending::Clean)
    }

    /// Returns where the first record that begins in `range` begins; the range does not begin with
    /// the file. Looks at no more than the range: behind it, others look.
    fn record_start(
        &mut self,
        place: &ScanPlace<'_>,
        file: &File,
        range: &Range<u64>,
    ) -> io::Result<Option<u64>> {
        let line_ends = self.framers[place.set.stream.0].delimiters().line_ends;
        let mut next = NextRecord::default();
        // From the byte before the range, which may end a record.
        let mut at = range.start - 1;
        while at < range.end {
            let room = usize::try_from(range.end - at).unwrap_or(usize::MAX);
            let room = room.min(self.probe.len());
            let probe = &mut self.probe[..room];
            let count = read_at(file, probe, at)?;
            if count == 0 {
                place.is_shorter.set(has_shrunk(file, range.end));
                return Ok(None);
            }
            if let Some(found) = next.find(line_ends, &probe[..count]) {
                let start = at + found as u64;
                return Ok(Some(start).filter(|start| range.contains(start)));
            }
            at += count as u64;
        }
        Ok(None)
    }

    /// Decodes a file to its end, and counts what no other worker counts.
    ///
    /// # Errors
    ///
    /// The system's error when reading, or the decoder's. What came before is counted, except the
    /// record it stopped in.
    pub(super) fn decoded(
        &mut self,
        place: &ScanPlace<'_>,
        mut file: DecodedFile,
    ) -> io::Result<()> {
        let stream = place.set.stream;
        let mut outcome = Ok(Ending::Reset);
        while !place.is_stopped() {
            match file.fill(self.space(place), &place.set.progress) {
                Ok(Decoded::Bytes(count)) => self.framers[stream.0].filled(count),
                Ok(Decoded::Skipped(count)) => self.framers[stream.0].skipped(count),
                Ok(Decoded::Again) => {}
                Ok(Decoded::End) => {
                    outcome = Ok(Ending::Clean);
                    break;
                }
                Err(cause) => {
                    outcome = Err(cause);
                    break;
                }
            }
        }
        self.end(place, *outcome.as_ref().unwrap_or(&Ending::Reset));
        outcome.map(drop)
    }

    /// Reads a pipe or a device to its end, and counts what no other worker counts.
    pub(super) fn stream(&mut self, place: &ScanPlace<'_>, mut input: Stdin) -> io::Result<()> {
        let stream = place.set.stream;
        input.watch(&Port::detached());
        while !place.is_stopped() {
            let space = self.space(place);
            let read = input.read(space, Duration::ZERO);
            place.set.progress.add_stream(input.take_read_bytes());
            match read {
                ReadOutcome::Bytes(count) => self.framers[stream.0].filled(count),
                ReadOutcome::Skipped(count) => self.framers[stream.0].skipped(count),
                // Compressed bytes of which nothing has come out yet.
                ReadOutcome::Nothing(Fill::Pending(Some(_))) => {}
                // An immediate stop unparks.
                ReadOutcome::Nothing(Fill::Pending(None)) => thread::park_timeout(PIPE_POLL),
                ReadOutcome::Nothing(Fill::Failed(error)) => {
                    self.end(place, Ending::Reset);
                    return Err(input_cause(&error, input.name()));
                }
                _ => break,
            }
        }
        self.end(place, Ending::Clean);
        Ok(())
    }

    /// Returns the framer of the piece's stream, and where its blocks go.
    fn framer<'a>(&'a mut self, place: &ScanPlace<'a>) -> (&'a mut Framer, WorkerPort<'a>) {
        let stream = place.set.stream;
        let port = WorkerPort {
            core: &mut self.core,
            blocks: &mut self.blocks,
            stream,
            lending: place.lending,
        };
        (&mut self.framers[stream.0], port)
    }

    /// Returns the memory to read into.
    fn space<'a>(&'a mut self, place: &ScanPlace<'a>) -> &'a mut [u8] {
        let (framer, mut port) = self.framer(place);
        let Ok(space) = framer.space(&mut port);
        space
    }

    /// Ends what was read: nothing of it is held any more.
    fn end(&mut self, place: &ScanPlace<'_>, ending: Ending) {
        let (framer, mut port) = self.framer(place);
        port.lending = None;
        let Ok(()) = framer.finish(ending, &mut port);
    }
}

/// Counts the blocks of one framer, or has an idle worker count them.
struct WorkerPort<'a> {
    core: &'a mut ShardCore,
    blocks: &'a mut Vec<Block>,
    stream: StreamId,
    lending: Option<&'a StealQueue>,
}

impl BlockPort for WorkerPort<'_> {
    type Full = Infallible;

    fn take_empty(&mut self) -> Block {
        let block = self.blocks.pop();
        block.expect("each framer has a block or has left it")
    }

    fn place(&mut self, framer: &mut Framer) -> Result<bool, Infallible> {
        let Some(mut block) = framer.cut() else {
            return Ok(false);
        };
        // A block that outgrew the arena is more memory than there is for blocks that wait.
        if let Some(lending) = self.lending.filter(|_| !block.is_spilled()) {
            match lending.lend(block, self.stream) {
                Ok(empty) => {
                    self.blocks.push(empty);
                    return Ok(true);
                }
                Err(back) => block = back,
            }
        }
        self.core.count(&block, self.stream);
        block.recycle();
        self.blocks.push(block);
        Ok(true)
    }
}

/// Reads at `at`; an interrupted read is repeated.
fn read_at(file: &File, buf: &mut [u8], at: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buf, at) {
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
