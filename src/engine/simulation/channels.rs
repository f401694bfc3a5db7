//! A simulated source of many channels, with and without positions, of lines and of whole records.
//! They open, end, close and come again.
//!
//! What must hold of a position: the definition applied to what the channel got behind it makes
//! exactly the records that were not in the batches.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::sources::Backlog;
use super::{EpochCounts, Faults, Random, add};
use crate::error::{Error, ErrorKind};
use crate::id::ChannelId;
use crate::intake::Intake;
use crate::position::{Position, Positions};
use crate::source::{Fill, Source};
use crate::split::Rule;

/// Where channels are, by their names.
pub(super) type Places = BTreeMap<String, Position>;

/// In the upper words of positions that the source reports itself.
const SALT: [u64; 2] = [7, u64::MAX];

pub(super) enum ChannelArrival {
    /// Bytes of lines, or a record.
    Bytes(Vec<u8>),
    /// Bytes that are no content.
    Skipped(usize),
    End {
        clean: bool,
        closes: bool,
    },
}

/// What a channel was given.
enum PassedOn {
    Bytes(Vec<u8>),
    Skipped(u64),
    End { clean: bool },
}

/// How far a channel is: in its records, and in what it was given.
#[derive(Clone, Copy, Default)]
pub(super) struct ChannelMark {
    records: usize,
    given: usize,
}

pub(super) struct SimChannel {
    /// It has positions.
    name: Option<String>,
    /// It gets whole records.
    is_of_records: bool,
    /// Its positions are numbers of records, which the source reports.
    reports: bool,
    pub(super) arrived: VecDeque<ChannelArrival>,
    open: Option<ChannelId>,
    given: Vec<PassedOn>,
    /// Bytes that it was given.
    bytes: u64,
    lines: Backlog,
    /// All that are complete.
    records: Vec<Vec<u8>>,
    /// Where it was at each cut.
    cuts: Vec<ChannelMark>,
    /// Its unfinished record was left for another run.
    is_left: bool,
}

/// What a simulated system holds for the source.
pub(super) struct SimChannels {
    pub(super) channels: Vec<SimChannel>,
    /// The source read everything and waits for an edge.
    pub(super) waits: bool,
    /// It ends when everything was read (`true`), or is lost at once.
    pub(super) ends: Option<bool>,
    pub(super) is_over: bool,
    pub(super) faults: Faults,
    rule: Rule,
    record_bytes_max: usize,
    /// What was committed, and how often.
    pub(super) places: Places,
    pub(super) commits: u64,
}

pub(super) struct SimChannelSource {
    pub(super) kernel: Arc<Mutex<SimChannels>>,
    pub(super) random: Random,
}

impl SimChannels {
    /// Some channels, all of them with positions unless some may be `anonymous`.
    pub(super) fn new(
        random: &mut Random,
        faults: Faults,
        rule: Rule,
        record_bytes_max: usize,
        anonymous: bool,
    ) -> SimChannels {
        let most = if random.one_in(4) { 40 } else { 8 };
        let count = 1 + random.below(most);
        let channels = (0..count).map(|number| SimChannel {
            name: (!anonymous || random.one_in(2)).then(|| format!("channel {number}")),
            is_of_records: random.one_in(3),
            reports: random.one_in(2),
            arrived: VecDeque::new(),
            open: None,
            given: Vec::new(),
            bytes: 0,
            lines: Backlog::of_lines(record_bytes_max),
            records: Vec::new(),
            cuts: Vec::new(),
            is_left: false,
        });
        SimChannels {
            channels: channels.collect(),
            waits: false,
            ends: None,
            is_over: false,
            faults,
            rule,
            record_bytes_max,
            places: Places::new(),
            commits: 0,
        }
    }

    /// Returns how far all channels are.
    pub(super) fn marks(&self) -> Vec<ChannelMark> {
        let mark = |channel: &SimChannel| ChannelMark {
            records: channel.records.len(),
            given: channel.given.len(),
        };
        self.channels.iter().map(mark).collect()
    }

    /// A batch was cut when the channels were at `marks`. Returns what must be in it.
    pub(super) fn cut(&mut self, marks: &[ChannelMark]) -> EpochCounts {
        let mut counts = EpochCounts::new();
        let (rule, max) = (self.rule, self.record_bytes_max);
        for (channel, mark) in self.channels.iter_mut().zip(marks) {
            let from = channel.mark(channel.cuts.len()).records;
            channel.cuts.push(*mark);
            let records = &channel.records[from..mark.records];
            add(&mut counts, channel.tokens(records, rule, max));
        }
        counts
    }

    /// The engine reads no more of it.
    pub(super) fn stop(&mut self, is_clean: bool) {
        if !std::mem::replace(&mut self.is_over, true) {
            let channels = self.channels.iter_mut();
            channels.for_each(|channel| channel.leave(is_clean));
        }
    }

    /// Returns the sum of a figure over all channels.
    pub(super) fn sum(&self, of: fn(&Backlog) -> u64) -> u64 {
        self.channels.iter().map(|channel| of(&channel.lines)).sum()
    }

    /// Where the batches end in a record that is unfinished: tokens of one that is too long may be
    /// in them.
    fn end_of(&self, channel: &SimChannel) -> u64 {
        let place = channel.name.as_ref().and_then(|name| self.places.get(name));
        match channel.is_left {
            true => place.map_or(0, |place| place.offset()),
            false => u64::MAX,
        }
    }

    /// Checks what was committed of `epoch`. Returns what the channels have behind it: if the
    /// batches are not `exact`, that is all that can be compared.
    pub(super) fn check(&self, epoch: usize, places: &Places, is_exact: bool) -> EpochCounts {
        let mut behind = EpochCounts::new();
        let (rule, max) = (self.rule, self.record_bytes_max);
        for channel in &self.channels {
            let mark = channel.mark(epoch);
            let missing = &channel.records[mark.records..];
            let Some(name) = &channel.name else {
                add(&mut behind, channel.tokens(missing, rule, max));
                continue;
            };
            let place = places.get(name).copied().unwrap_or_default();
            let counts = channel.tokens(
                &channel.behind(place, mark, self.end_of(channel), rule),
                rule,
                max,
            );
            if is_exact {
                let missing = channel.tokens(missing, rule, max);
                assert!(counts == missing, "{name} from {place:?} on, epoch {epoch}");
            }
            add(&mut behind, counts);
        }
        behind
    }
}

impl SimChannel {
    /// Where it was when `epoch` was cut.
    fn mark(&self, epoch: usize) -> ChannelMark {
        let last = epoch.checked_sub(1).map(|index| self.cuts[index]);
        last.unwrap_or_default()
    }

    /// The definition of what is in records of this channel.
    fn tokens(&self, records: &[Vec<u8>], rule: Rule, record_bytes_max: usize) -> EpochCounts {
        let mut counts = EpochCounts::new();
        let is_whole = |record: &&Vec<u8>| !self.is_of_records || record.len() <= record_bytes_max;
        for record in records.iter().filter(is_whole) {
            let tokens = record.split(|&byte| rule.separates_at(byte));
            for token in tokens.filter(|token| token.len() <= record_bytes_max) {
                if rule != Rule::SplitWhitespace || !token.is_empty() {
                    *counts.entry(token.to_vec()).or_default() += 1;
                }
            }
        }
        counts
    }

    /// Where it continues.
    fn place(&self) -> Position {
        match self.is_of_records && self.reports {
            true => Position::from_words([self.records.len() as u64, SALT[0], SALT[1]]),
            false => Position::from(self.bytes),
        }
    }

    /// The records that are made from `place` on, which was that of a cut at `mark`, up to `end`.
    fn behind(&self, place: Position, mark: ChannelMark, end: u64, rule: Rule) -> Vec<Vec<u8>> {
        if self.is_of_records {
            let number = match self.reports {
                true => place.offset() as usize,
                false => {
                    let before = self.records[..mark.records].iter();
                    let bytes: usize = before.map(Vec::len).sum();
                    assert_eq!(
                        place,
                        Position::from(bytes as u64),
                        "bytes of whole records"
                    );
                    mark.records
                }
            };
            let is_begun = self.reports && place != Position::default();
            assert!(!is_begun || place.words()[1..] == SALT, "all of {place:?}");
            return self.records[number..].to_vec();
        }
        let mut lines = Backlog::resumed(place.before, self.lines.record_bytes_max);
        let (mut at, from) = (0, place.offset());
        for (index, given) in self.given.iter().enumerate() {
            match given {
                PassedOn::Bytes(bytes) => {
                    let index = |offset: u64| bytes.len().min(offset.saturating_sub(at) as usize);
                    let (from, end) = (index(from), index(end));
                    lines.read(&bytes[from.min(end)..end]);
                    at += bytes.len() as u64;
                }
                PassedOn::Skipped(count) => at += count,
                // What had ended at the place before the cut has ended.
                PassedOn::End { clean } if at > from || at == from && index >= mark.given => {
                    lines.end_line(*clean);
                }
                PassedOn::End { .. } => {}
            }
        }
        let mut records = lines.take_records();
        if self.is_left && !lines.partial.is_empty() {
            // A separator ends the last token as the end of the record would.
            lines.partial.pop_if(|byte| rule.separates_at(*byte));
            records.push(lines.partial);
        }
        records
    }

    /// Passes the next arrival on, or a part of it.
    fn step(&mut self, out: &mut Intake<'_>, random: &mut Random) {
        let place = self.place();
        let channel = *self.open.get_or_insert_with(|| match &self.name {
            Some(name) => out.open_at(name, place),
            None => out.open(),
        });
        match self.arrived.pop_front() {
            Some(ChannelArrival::Bytes(bytes)) if self.is_of_records => {
                if !out.record(channel, &bytes) {
                    return self.arrived.push_front(ChannelArrival::Bytes(bytes));
                }
                self.bytes += bytes.len() as u64;
                self.lines.look(&bytes);
                self.records.push(bytes);
                if self.reports && self.name.is_some() {
                    out.reached(channel, self.place());
                }
            }
            Some(ChannelArrival::Bytes(mut bytes)) => {
                let is_whole = random.one_in(4);
                let wanted = match is_whole {
                    true => bytes.len(),
                    false => 1 + random.below(bytes.len()),
                };
                let count = match is_whole {
                    true => out.space_of(channel, wanted).map_or(0, |space| {
                        space[..wanted].copy_from_slice(&bytes);
                        wanted
                    }),
                    false => out.write(channel, &bytes[..wanted]),
                };
                if is_whole && count > 0 {
                    out.filled(count);
                }
                let rest = bytes.split_off(count);
                self.bytes += count as u64;
                self.lines.read(&bytes);
                self.given.push(PassedOn::Bytes(bytes));
                if !rest.is_empty() {
                    self.arrived.push_front(ChannelArrival::Bytes(rest));
                }
            }
            Some(ChannelArrival::Skipped(count))
                if self.lines.partial.is_empty() && !self.is_of_records =>
            {
                out.skipped(channel, count);
                self.bytes += count as u64;
                self.given.push(PassedOn::Skipped(count as u64));
            }
            Some(ChannelArrival::End { clean, closes }) => {
                match closes {
                    true => out.close(channel, clean),
                    false => out.end(channel, clean),
                };
                self.open = self.open.filter(|_| !closes);
                self.end(clean);
            }
            Some(ChannelArrival::Skipped(_)) | None => {}
        }
        self.records.extend(self.lines.take_records());
    }

    fn end(&mut self, clean: bool) {
        self.lines.end_line(clean);
        self.given.push(PassedOn::End { clean });
        self.records.extend(self.lines.take_records());
    }

    /// The source ended, failed or was stopped. What can be read again is left.
    fn leave(&mut self, is_clean: bool) {
        match self.name {
            Some(_) => {
                self.lines.leave();
                self.is_left = true;
            }
            None => self.end(is_clean),
        }
    }
}

impl Source for SimChannelSource {
    fn fill(&mut self, out: &mut Intake<'_>, _now: Duration) -> Fill {
        let mut kernel = self.kernel.lock().unwrap();
        if kernel.faults.spurious && self.random.one_in(8) {
            kernel.waits = true;
            return Fill::Pending(None);
        }
        if kernel.ends == Some(false) {
            kernel.stop(false);
            return Fill::Failed(Error::new(ErrorKind::Source, "they are gone"));
        }
        let has_some = |channel: &SimChannel| !channel.arrived.is_empty();
        let channels = kernel.channels.iter_mut();
        let mut ready: Vec<_> = channels.filter(|channel| has_some(channel)).collect();
        if !ready.is_empty() {
            let index = self.random.below(ready.len());
            ready[index].step(out, &mut self.random);
            return Fill::More;
        }
        if kernel.ends.is_some() {
            kernel.is_over = true;
            kernel
                .channels
                .iter_mut()
                .for_each(|channel| channel.end(true));
            return Fill::End;
        }
        kernel.waits = true;
        Fill::Pending(None)
    }

    fn drain(&mut self) -> usize {
        usize::MAX
    }

    fn committed(&mut self, positions: &Positions) {
        let mut kernel = self.kernel.lock().unwrap();
        kernel.commits += 1;
        for (name, position) in positions.iter() {
            let before = kernel.places.insert(name.to_owned(), position);
            let before = before.unwrap_or_default().offset();
            assert!(before <= position.offset(), "{name} went back");
        }
    }

    fn name(&self) -> &str {
        "simulated channels"
    }
}
