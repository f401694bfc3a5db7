//! The whole engine on one thread: reactor, shards, publisher and sources stepped in a random order
//! by a seeded generator, with a clock that only the test moves.
//!
//! Goal: whatever the order of steps, each batch holds exactly the records whose last byte was read
//! during it, batch times are consecutive multiples, what is lost adds up, and when the faults stop
//! everything drains within a bounded time of the virtual clock. Method: each seed draws its own
//! sizes, limits, cuts, pauses and kinds of fault; some kinds are switched off for a seed
//! altogether, because faults can hide each other. A failure prints its seed. A fuzzer's bytes may
//! take the place of the generator.
//!
//! Sources are edge-triggered, as the event queue is: readiness is reported once when bytes arrive
//! at a source that had been read empty, and never for bytes that were left because the rings were
//! full. In some worlds an edge is lost now and then, a read says "would block" though there is
//! something, connections are reset, sources fail, and records are lost before they are filled in.
//!
//! In the end the reactor is treated as its thread treats it: it is not called before the time to
//! which it sleeps. So what only a lucky call would find is never found.
//!
//! Where a record is longer than the limit and its stream is only split, its tokens may come in
//! earlier batches than its end does: in such worlds the sum over all batches is compared, and no
//! connection is reset.
//!
//! In half of the worlds the output asks for time now and then: it is called again with the same
//! epoch, and everything behind it waits.
//!
//! Half of the worlds have a batched source too, whose pieces carry the millisecond they are from.
//! What its batches must hold follows from that alone, whenever the reactor comes to cut them.

mod channels;
mod check;
mod output;
mod random;
mod schedule;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use self::channels::{ChannelArrival, Places, SimChannelSource, SimChannels};
use self::check::check;
pub(super) use self::output::Keep;
use self::output::Reluctant;
use self::random::Random;
pub use self::schedule::run_schedule;
use self::sources::{Arrival, Backlog, Shelf, SimBatched, SimSource};
use crate::config::Config;
use crate::engine::assemble::{Blueprint, Parts};
use crate::engine::control::{Control, Stop};
use crate::engine::plan::{CountTokens, EnginePlan, NamedPipeline};
use crate::engine::publisher::{self, Publisher};
use crate::engine::reactor::{Next, ReactorCore, ReactorParts};
use crate::id::StreamId;
use crate::intake::ChannelLimits;
use crate::limits::{LOOK_AGAIN_MS, RECORD_BYTES_MIN};
use crate::memory::{DecoderCounts, RetainedTables};
use crate::notice::Notices;
use crate::ring::Wake;
use crate::shard::worker::{self, Worker};
use crate::source::Source;
use crate::split::{LineEnds, Rule, scalar};
use crate::time::{BatchClock, Clock};

pub(super) type EpochCounts = BTreeMap<Vec<u8>, u64>;

const INTERVAL_MS: u64 = 10;

/// Longest time, by the virtual clock, in which everything drains when the faults have stopped:
/// that of the look at waiting sources, and as much for the work.
const DRAIN_MS_MAX: u64 = 2 * LOOK_AGAIN_MS;

/// Steps of a run until the faults stop.
const STEPS: usize = 1500;

pub(super) fn built(blueprint: Blueprint) -> Parts {
    blueprint.build().expect("little memory")
}

/// Of tokens no longer than `token_bytes_max`.
fn oracle(records: &[u8], rule: Rule, token_bytes_max: usize) -> EpochCounts {
    let mut counts = EpochCounts::new();
    scalar::tokens(records, rule, LineEnds::Universal, |token| {
        if token.len() <= token_bytes_max {
            *counts.entry(token.to_vec()).or_default() += 1;
        }
    });
    counts
}

fn add(to: &mut EpochCounts, counts: EpochCounts) {
    for (key, count) in counts {
        *to.entry(key).or_default() += count;
    }
}

/// What may go wrong in a world.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    /// Edges are lost.
    edges: bool,
    /// Connections are reset, and sources fail.
    resets: bool,
    /// A read says that it would block though there is something.
    spurious: bool,
    /// Records are lost before they are filled in.
    losses: bool,
}

struct World {
    random: Random,
    clock: Clock,
    reactor: ReactorCore,
    workers: Vec<Option<Worker>>,
    publisher: Option<Publisher>,
    kernels: Vec<Arc<Mutex<Backlog>>>,
    /// Of the batched source, which is behind those.
    shelf: Option<Arc<Mutex<Shelf>>>,
    /// Everything that was ever on it.
    shelved: Vec<(u64, Vec<u8>)>,
    /// Of the source of many channels, which is the last one.
    channels: Option<Arc<Mutex<SimChannels>>>,
    /// What each epoch must hold of it, and does.
    expected_of_channels: Vec<EpochCounts>,
    kept_of_channels: Keep,
    /// What was committed up to which epoch: some of it.
    committed: Vec<(usize, Places)>,
    /// Memory for unfinished records of channels may be short.
    is_short: bool,
    control: Arc<Control>,
    kept: Keep,
    /// The last epoch that the output said is delivered.
    told: Arc<AtomicU64>,
    /// The output does not ask for time.
    is_output_calm: Arc<AtomicBool>,
    rule: Rule,
    record_bytes_max: usize,
    /// The tokens of a record that is too long may come before its end.
    is_cut_early: bool,
    faults: Faults,
    /// What each epoch cut so far must hold.
    expected: Vec<EpochCounts>,
    /// The last epoch that is known to be delivered.
    delivered: u64,
    /// What the reactor said last.
    next: Next,
    /// The reactor does not want to be called before that time, unless there is an edge.
    sleeps_until: Duration,
    is_done: bool,
}

impl World {
    fn new(mut random: Random, is_batched: bool, has_channels: bool) -> World {
        let rules = [Rule::Split(b' '), Rule::SplitWhitespace, Rule::Lines];
        let rule = rules[random.below(3)];
        let source_count = 1 + random.below(2);
        let record_bytes_max = match random.below(2) {
            0 => 1 << 20,
            _ => RECORD_BYTES_MIN + random.below(200),
        };
        let is_cut_early = record_bytes_max < 1 << 20 && rule != Rule::Lines;
        let faults = Faults {
            edges: random.one_in(2),
            resets: random.one_in(2) && !is_cut_early,
            spurious: random.one_in(2),
            losses: random.one_in(3),
        };
        let shelf = is_batched.then(Arc::<Mutex<Shelf>>::default);
        let is_short = has_channels && record_bytes_max < 1 << 20 && random.one_in(2);
        let channels = has_channels.then(|| {
            let anonymous = !is_cut_early && !is_short;
            let channels = SimChannels::new(&mut random, faults, rule, record_bytes_max, anonymous);
            Arc::new(Mutex::new(channels))
        });
        let stream_count = source_count + usize::from(is_batched) + usize::from(has_channels);
        let (kept_of_channels, told) = (Keep::default(), Arc::<AtomicU64>::default());
        let kept = Keep::default();
        let nodes = StreamId::first(stream_count)
            .map(|stream| NamedPipeline::tokens(CountTokens::new(stream, rule)));
        let is_calm = Arc::new(AtomicBool::new(random.one_in(2)));
        let plan = EnginePlan {
            nodes: nodes.collect(),
            outputs: vec![Box::new(Reluctant::new(
                kept.clone(),
                kept_of_channels.clone(),
                Random::of_seed(random.next()),
                Arc::clone(&is_calm),
                Arc::clone(&told),
            ))],
        };
        let clock = Clock::manual(Duration::from_millis(1_000_003));
        let control = Control::new(Arc::new(|| ()));
        let config = Config::default()
            .workers(1 + random.below(4))
            .block_bytes(64 << random.below(4))
            .record_bytes_max(record_bytes_max);
        let config = match random.below(2) {
            0 => config,
            _ => config.low_latency(Duration::ZERO),
        };
        let names = std::iter::repeat_n("sim".to_owned(), stream_count);
        let framers = StreamId::first(stream_count).zip(names);
        let limits = ChannelLimits {
            held_bytes_max: if is_short {
                random.below(500)
            } else {
                usize::MAX
            },
            ..ChannelLimits::default()
        };
        let parts = built(Blueprint {
            config,
            plan,
            inputs: framers
                .map(|(stream, name)| (stream, name, limits))
                .collect(),
            decoders: DecoderCounts::default(),
            interval: Duration::from_millis(INTERVAL_MS),
            clock: clock.clone(),
            notices: Notices::default(),
            control: Arc::clone(&control),
            wake: Wake::new(|| ()),
            retained: RetainedTables::default(),
        });
        let kernels: Vec<_> = (0..source_count)
            .map(|index| {
                let account = parts.router.account_of(index);
                Arc::new(Mutex::new(Backlog::new(faults, record_bytes_max, account)))
            })
            .collect();
        let batched = shelf.as_ref().map(|shelf| {
            Box::new(SimBatched {
                shelf: Arc::clone(shelf),
                random: Random::of_seed(random.next()),
            }) as Box<dyn Source>
        });
        let channel_seed = random.next();
        let sources = kernels.iter().map(|kernel| {
            let random = Random::of_seed(random.next());
            Box::new(SimSource {
                kernel: Arc::clone(kernel),
                random,
            }) as Box<dyn Source>
        });
        let of_channels = channels.as_ref().map(|channels| {
            Box::new(SimChannelSource {
                kernel: Arc::clone(channels),
                random: Random::of_seed(channel_seed),
            }) as Box<dyn Source>
        });
        let reactor = ReactorCore::new(ReactorParts {
            router: parts.router,
            sources: sources.chain(batched).chain(of_channels).collect(),
            clock: BatchClock::new(INTERVAL_MS, clock.now()),
            batches: None,
            is_endless: false,
            control: Arc::clone(&control),
            notices: Notices::default(),
            watch: Box::new(|_, _| ()),
            record_bytes_max,
        });
        World {
            random,
            clock,
            reactor,
            workers: parts.workers.into_iter().map(Some).collect(),
            publisher: Some(parts.publisher),
            kernels,
            shelf,
            shelved: Vec::new(),
            channels,
            expected_of_channels: Vec::new(),
            kept_of_channels,
            committed: Vec::new(),
            is_short,
            control,
            kept,
            told,
            is_output_calm: is_calm,
            rule,
            record_bytes_max,
            is_cut_early,
            faults,
            expected: Vec::new(),
            delivered: 0,
            next: Next::Again,
            sleeps_until: Duration::ZERO,
            is_done: false,
        }
    }

    /// Bytes, or the end of a connection, arrive at a source. The edge may be lost.
    fn arrive(&mut self, index: usize, arrival: Arrival) {
        let mut kernel = self.kernels[index].lock().unwrap();
        if kernel.is_over {
            return;
        }
        kernel.arrived.push_back(arrival);
        let is_edge = std::mem::take(&mut kernel.waits);
        drop(kernel);
        if is_edge && !(self.faults.edges && self.random.one_in(4)) {
            self.edge(index);
        }
    }

    /// Something arrives at one of many channels.
    fn arrive_at_channel(&mut self, has_breaks: bool) {
        let Some(channels) = self.channels.clone() else {
            return;
        };
        let arrival = match self.random.below(12) {
            0 => ChannelArrival::Skipped(1 + self.random.below(4)),
            1 if has_breaks => ChannelArrival::End {
                clean: !self.faults.resets || self.random.one_in(2),
                closes: self.random.one_in(2),
            },
            _ => ChannelArrival::Bytes(self.text()),
        };
        let mut kernel = channels.lock().unwrap();
        let index = self.random.below(kernel.channels.len());
        kernel.channels[index].arrived.push_back(arrival);
        drop(kernel);
        self.edge_of_channels();
    }

    /// The source of many channels ends when all was read, or is lost at once.
    fn end_channels(&mut self, is_clean: bool) {
        if let Some(channels) = &self.channels {
            channels.lock().unwrap().ends.get_or_insert(is_clean);
            self.edge_of_channels();
        }
    }

    fn edge_of_channels(&mut self) {
        let Some(channels) = &self.channels else {
            return;
        };
        let is_edge = std::mem::take(&mut channels.lock().unwrap().waits);
        if is_edge && !(self.faults.edges && self.random.one_in(4)) {
            self.edge(self.kernels.len() + usize::from(self.shelf.is_some()));
        }
    }

    /// The reactor is woken for a source.
    fn edge(&mut self, index: usize) {
        self.reactor.on_ready(index);
        self.sleeps_until = Duration::ZERO;
    }

    /// A piece is put where the batched source looks, if there is one. It is from the next
    /// millisecond: a batch of this one may have been read already.
    fn shelve(&mut self) {
        let Some(shelf) = self.shelf.clone() else {
            return;
        };
        let bytes = self.text_of(b"AAAB  \n\n\r\t\0");
        let from_ms = self.clock.now().as_millis() as u64 + 1;
        let mut shelf = shelf.lock().unwrap();
        if !shelf.is_over {
            shelf.pieces.push((from_ms, bytes.clone()));
            self.shelved.push((from_ms, bytes));
        }
    }

    /// The batched source has something, or is called for nothing.
    fn poke(&mut self) {
        if self.shelf.is_some() {
            self.edge(self.kernels.len());
        }
    }

    /// The faults stop. Edges that were lost stay lost.
    fn calm(&mut self) {
        self.faults = Faults::default();
        self.is_output_calm.store(true, Ordering::Relaxed);
        for kernel in &self.kernels {
            kernel.lock().unwrap().faults = Faults::default();
        }
        if let Some(channels) = &self.channels {
            channels.lock().unwrap().faults = Faults::default();
        }
        if let Some(shelf) = &self.shelf {
            shelf.lock().unwrap().is_calm = true;
        }
    }

    /// Each batch holds exactly the records whose last byte was read during it.
    fn is_exact(&self) -> bool {
        !self.is_cut_early && !self.is_short
    }

    fn is_gathering(&self) -> bool {
        let shelf = self.shelf.as_ref();
        shelf.is_some_and(|shelf| shelf.lock().unwrap().is_open)
    }

    /// What the batched source owes to the batch at `time_ms`: each piece by itself, for it is
    /// ended.
    fn owed(&self, time_ms: u64) -> EpochCounts {
        let is_of = |from_ms: u64| (time_ms - INTERVAL_MS..time_ms).contains(&(from_ms - 1));
        let mut complete = Vec::new();
        for (_, bytes) in self.shelved.iter().filter(|(from_ms, _)| is_of(*from_ms)) {
            let mut piece = Backlog::default();
            piece.read(bytes);
            piece.end_line(true);
            complete.append(&mut piece.complete);
        }
        self.oracle(&complete)
    }

    fn oracle(&self, records: &[u8]) -> EpochCounts {
        oracle(records, self.rule, self.record_bytes_max)
    }

    fn text(&mut self) -> Vec<u8> {
        // One that ends no line makes a long one.
        let alphabets: [&[u8]; 3] = [b"aaab  \n\n\r\t\0\xff", b"ab ", b"c"];
        let alphabet = match self.random.below(8) {
            0 => 1,
            1 => 2,
            _ => 0,
        };
        self.text_of(alphabets[alphabet])
    }

    fn text_of(&mut self, alphabet: &[u8]) -> Vec<u8> {
        let len_max = if self.random.one_in(8) { 900 } else { 60 };
        let len = 1 + self.random.below(len_max);
        (0..len)
            .map(|_| alphabet[self.random.below(alphabet.len())])
            .collect()
    }

    fn turn(&mut self) {
        if self.is_done {
            return;
        }
        // The reactor cuts before it reads: what was complete before the turn is in the epochs it
        // cuts, the last of a run apart, which is cut behind everything.
        let before: Vec<Vec<u8>> = self
            .kernels
            .iter()
            .map(|kernel| kernel.lock().unwrap().complete.clone())
            .collect();
        let epochs = self.reactor.epochs_cut();
        let was_gathering = self.is_gathering();
        let read = |kernel: &Arc<Mutex<Backlog>>| {
            let kernel = kernel.lock().unwrap();
            (kernel.complete.len(), kernel.partial.len())
        };
        let read_before: Vec<_> = self.kernels.iter().map(read).collect();
        let marks = self
            .channels
            .as_ref()
            .map(|channels| channels.lock().unwrap().marks());
        let outcome = self.reactor.turn(self.clock.now());
        self.note_commits(outcome == Next::Done);
        let cut = (self.reactor.epochs_cut() - epochs) as usize;
        let is_last = self.reactor.is_finished();
        if was_gathering && self.is_gathering() && cut == 0 {
            let read_after: Vec<_> = self.kernels.iter().map(read).collect();
            assert_eq!(read_before, read_after, "others are not read meanwhile");
        }
        for number in 0..cut {
            let behind_everything = is_last && number + 1 == cut;
            let mut counts = EpochCounts::new();
            for (kernel, before) in self.kernels.iter().zip(&before) {
                let mut kernel = kernel.lock().unwrap();
                let records = match (number, behind_everything) {
                    (_, true) => {
                        if self.control.requested().is_some() {
                            kernel.end_line(true);
                        }
                        std::mem::take(&mut kernel.complete)
                    }
                    (0, false) => {
                        let rest = kernel.complete.split_off(before.len());
                        std::mem::replace(&mut kernel.complete, rest)
                    }
                    _ => Vec::new(),
                };
                drop(kernel);
                add(
                    &mut counts,
                    oracle(&records, self.rule, self.record_bytes_max),
                );
            }
            self.expected.push(counts);
            if let (Some(channels), Some(marks)) = (&self.channels, &marks) {
                let mut channels = channels.lock().unwrap();
                if behind_everything && self.control.requested().is_some() {
                    channels.stop(true);
                }
                let marks = match behind_everything {
                    true => channels.marks(),
                    false => marks.clone(),
                };
                self.expected_of_channels.push(channels.cut(&marks));
            }
        }
        self.next = outcome;
        self.sleeps_until = match outcome {
            Next::Sleep(wait) => self.clock.now().saturating_add(wait),
            _ => Duration::ZERO,
        };
        self.is_done = outcome == Next::Done;
    }

    /// Remembers what was committed in a turn: sometimes, and in the last one.
    fn note_commits(&mut self, is_done: bool) {
        let Some(channels) = &self.channels else {
            return;
        };
        let channels = channels.lock().unwrap();
        let epoch = self.reactor.epochs_delivered() as usize;
        let is_news = self.committed.last().is_none_or(|(last, _)| *last < epoch);
        if is_done || is_news && channels.commits > 0 && epoch.is_multiple_of(4) {
            self.committed.push((epoch, channels.places.clone()));
        }
    }

    /// A turn, if the reactor's thread is awake.
    fn turn_if_awake(&mut self) {
        if self.clock.now() >= self.sleeps_until {
            self.turn();
        }
    }

    fn step_worker(&mut self, index: usize) {
        if let Some(worker) = &mut self.workers[index]
            && worker.step() == worker::WorkerTurn::Done
        {
            self.workers[index] = None;
        }
    }

    fn step_publisher(&mut self) {
        let Some(publisher) = &mut self.publisher else {
            return;
        };
        let turn = publisher.step().expect("the ledger closes");
        let delivered = self.reactor.epochs_delivered();
        let published = self.kept.0.lock().unwrap().len() as u64;
        assert!((self.delivered..=published).contains(&delivered));
        assert!(delivered <= self.told.load(Ordering::Relaxed));
        self.delivered = delivered;
        if turn == publisher::Turn::Done {
            assert_eq!(delivered, published, "the run ends when all is delivered");
            self.publisher = None;
        }
    }
}
