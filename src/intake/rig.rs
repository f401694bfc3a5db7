//! Takes what a source fills in, in tests.

use crate::intake::channels::Channels;
use crate::intake::framer::{BlockPort, Ending, Framer, end_with_line_feed};
use crate::intake::router::Full;
use crate::intake::{Dropped, FilledIn, Intake, ReadyParts};
use crate::limits::HELD_BYTES_DEFAULT;
use crate::ring::arena::{Arena, Block};
use crate::split::{Delimiters, LineEnds, Rule, WholeRecord};

/// Channels, and the whole records that came through them.
pub struct IntakeRig {
    pub(crate) channels: Channels,
    port: KeepPort,
    ready: ReadyParts,
}

/// Keeps the bytes of the blocks.
struct KeepPort {
    /// Of several block sizes, in turn.
    arenas: Vec<Arena>,
    turn: usize,
    given: Vec<u8>,
    /// Where records are in it that may hold any byte.
    whole: Vec<WholeRecord>,
}

debug_fields!([] IntakeRig, "IntakeRig");

impl BlockPort for KeepPort {
    type Full = Full;

    fn take_empty(&mut self) -> Block {
        self.turn += 1;
        // Each has room for one block.
        let index = self.turn % self.arenas.len();
        let arena = Arena::new(self.arenas[index].block_bytes(), 1);
        arena.expect("a little memory").block()
    }

    fn place(&mut self, framer: &mut Framer) -> Result<bool, Full> {
        let block = framer.cut();
        let is_cut = block.is_some();
        if let Some(block) = block {
            let at = self.given.len() as u32;
            let content = block.content();
            let moved = content.whole.iter().map(|record| WholeRecord {
                start: at + record.start,
                end: at + record.end,
            });
            self.whole.extend(moved);
            self.given.extend_from_slice(content.bytes);
            // Each block is split on its own: a `\n` at the front of the next one is another end.
            if framer
                .delimiters()
                .line_ends
                .may_pair(block.bytes()[block.bytes().len() - 1])
            {
                end_with_line_feed(&mut self.given);
            }
        }
        Ok(is_cut)
    }
}

impl IntakeRig {
    /// Lines of up to a megabyte, in blocks of this size.
    pub fn of_lines(block_bytes: usize) -> IntakeRig {
        let delimiters = Delimiters::default();
        IntakeRig::new(delimiters, 1 << 20, HELD_BYTES_DEFAULT, &[block_bytes])
    }

    /// As [`of_lines`](Self::of_lines), with these limits, for a stream that `rule` splits. Blocks
    /// of these sizes are used in turn, none larger than the longest record.
    pub fn limited(
        rule: Rule,
        record_bytes_max: usize,
        held_bytes_max: usize,
        blocks: &[usize],
    ) -> IntakeRig {
        let line_ends = LineEnds::Universal;
        let delimiters = Delimiters { rule, line_ends };
        IntakeRig::new(delimiters, record_bytes_max, held_bytes_max, blocks)
    }

    /// Blocks of these sizes are used in turn, none larger than the longest record.
    pub(crate) fn new(
        Delimiters { rule, line_ends }: Delimiters,
        record_bytes_max: usize,
        held_bytes_max: usize,
        blocks: &[usize],
    ) -> IntakeRig {
        let framer = Framer::new(rule, line_ends, record_bytes_max);
        let arena = |&bytes: &usize| Arena::new(bytes.min(record_bytes_max), 1);
        let arenas = blocks.iter().map(arena);
        IntakeRig {
            channels: Channels::new(framer, held_bytes_max),
            port: KeepPort {
                arenas: arenas
                    .map(|arena| arena.expect("a little memory"))
                    .collect(),
                turn: 0,
                given: Vec::new(),
                whole: Vec::new(),
            },
            ready: ReadyParts::default(),
        }
    }

    /// Lets `fill` fill something in.
    pub(crate) fn fill<T>(&mut self, fill: impl FnOnce(&mut Intake<'_>) -> T) -> (T, FilledIn) {
        let mut intake = Intake::new(
            &mut self.channels,
            &mut self.port,
            usize::MAX,
            &mut self.ready,
        );
        let outcome = fill(&mut intake);
        (outcome, intake.taken())
    }

    /// Lets `fill` fill something in.
    pub fn give<T>(&mut self, fill: impl FnOnce(&mut Intake<'_>) -> T) -> T {
        self.fill(fill).0
    }

    /// Memory for unfinished records, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.channels.held_bytes()
    }

    /// What was dropped because it was too long, or for want of memory.
    pub fn dropped(&self) -> Dropped {
        self.channels.dropped()
    }

    /// Ends the channels, and returns what was left.
    pub fn finish(&mut self) -> Vec<u8> {
        let Ok(()) = self.channels.finish(Ending::Clean, &mut self.port) else {
            unreachable!("there is always room");
        };
        self.take()
    }

    /// Lines that were dropped because their ends never came.
    pub fn truncated_lines(&self) -> u64 {
        self.channels.intake().truncated_records
    }

    /// As [`fill`](Self::fill), and at most `bytes_max` bytes are wanted.
    #[cfg(test)]
    pub(crate) fn fill_at_most(
        &mut self,
        bytes_max: usize,
        fill: impl FnOnce(&mut Intake<'_>),
    ) -> FilledIn {
        let mut intake = Intake::new(
            &mut self.channels,
            &mut self.port,
            bytes_max,
            &mut self.ready,
        );
        fill(&mut intake);
        intake.taken()
    }

    /// Returns the whole records since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        self.take_content().0
    }

    /// As [`take`](Self::take), with the places of those that may hold any byte.
    pub(crate) fn take_content(&mut self) -> (Vec<u8>, Vec<WholeRecord>) {
        while let Ok(true) = self.channels.place(&mut self.port) {}
        let KeepPort { given, whole, .. } = &mut self.port;
        (std::mem::take(given), std::mem::take(whole))
    }
}
