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

mod output;
mod random;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(super) use self::output::Keep;
use self::output::Reluctant;
use self::random::Random;
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
    /// Of the batched source, which is the last one.
    shelf: Option<Arc<Mutex<Shelf>>>,
    /// Everything that was ever on it.
    shelved: Vec<(u64, Vec<u8>)>,
    control: Arc<Control>,
    kept: Keep,
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
    fn new(mut random: Random, is_batched: bool) -> World {
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
        let stream_count = source_count + usize::from(shelf.is_some());
        let kept = Keep::default();
        let nodes = StreamId::first(stream_count)
            .map(|stream| NamedPipeline::tokens(CountTokens::new(stream, rule)));
        let is_calm = Arc::new(AtomicBool::new(random.one_in(2)));
        let plan = EnginePlan {
            nodes: nodes.collect(),
            outputs: vec![Box::new(Reluctant::new(
                kept.clone(),
                Random::of_seed(random.next()),
                Arc::clone(&is_calm),
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
        let parts = built(Blueprint {
            config,
            plan,
            inputs: framers
                .map(|(stream, name)| (stream, name, ChannelLimits::default()))
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
        let sources = kernels.iter().map(|kernel| {
            let random = Random::of_seed(random.next());
            Box::new(SimSource {
                kernel: Arc::clone(kernel),
                random,
            }) as Box<dyn Source>
        });
        let reactor = ReactorCore::new(ReactorParts {
            router: parts.router,
            sources: sources.chain(batched).collect(),
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
            control,
            kept,
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
        if let Some(shelf) = &self.shelf {
            shelf.lock().unwrap().is_calm = true;
        }
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
        let outcome = self.reactor.turn(self.clock.now());
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
        }
        self.next = outcome;
        self.sleeps_until = match outcome {
            Next::Sleep(wait) => self.clock.now().saturating_add(wait),
            _ => Duration::ZERO,
        };
        self.is_done = outcome == Next::Done;
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
        self.delivered = delivered;
        if turn == publisher::Turn::Done {
            assert_eq!(delivered, published, "the run ends when all is delivered");
            self.publisher = None;
        }
    }
}

/// A run whose schedule is `choices`, a byte each. Panics where the engine breaks a promise.
#[cfg_attr(
    not(feature = "internals"),
    allow(unreachable_pub, reason = "public for the fuzz targets only")
)]
pub fn run_schedule(choices: &[u8]) {
    let mut random = Random::of_choices(choices);
    let is_batched = random.one_in(2);
    run(random, is_batched);
}

fn run(random: Random, is_batched: bool) {
    let is_given = random.has_given();
    let mut world = World::new(random, is_batched);
    // Swarm: what this seed does at all, and how long parts sleep.
    let has_breaks = world.random.one_in(2);
    let has_jumps = world.random.one_in(3);
    let lazy_publisher = world.random.one_in(3);
    let lazy_workers = world.random.one_in(3);
    let stops = world.random.one_in(2);
    for _ in 0..STEPS {
        if is_given && !world.random.has_given() {
            break;
        }
        match world.random.below(10) {
            0..=2 => {
                let index = world.random.below(world.kernels.len());
                let text = world.text();
                world.arrive(index, Arrival::Bytes(text));
            }
            3 if has_breaks && world.random.one_in(10) => {
                let index = world.random.below(world.kernels.len());
                let clean = !world.faults.resets || world.random.one_in(2);
                world.arrive(index, Arrival::Break { clean });
            }
            3 if world.faults.resets && world.random.one_in(100) => {
                let index = world.random.below(world.kernels.len());
                world.arrive(index, Arrival::Failure);
            }
            4..=5 => world.turn(),
            6..=7 if !lazy_workers || world.random.one_in(20) => {
                let index = world.random.below(world.workers.len());
                world.step_worker(index);
            }
            3 => match world.random.below(4) {
                0 => world.shelve(),
                _ => world.poke(),
            },
            8 if !lazy_publisher || world.random.one_in(20) => world.step_publisher(),
            9 => {
                let ms = if has_jumps && world.random.one_in(40) {
                    700
                } else {
                    1
                };
                world
                    .clock
                    .advance(Duration::from_millis(ms * world.random.below(4) as u64));
            }
            _ => {}
        }
    }
    // The last arrivals lose their edges where any do; then the faults stop: everything that
    // arrived must come out, in bounded time.
    if !stops {
        for index in 0..world.kernels.len() {
            world.arrive(index, Arrival::End);
        }
        if let Some(shelf) = &world.shelf {
            shelf.lock().unwrap().is_last = true;
        }
    }
    world.calm();
    world.poke();
    if stops {
        // It wakes the reactor.
        world.control.stop(Stop::Graceful);
        world.sleeps_until = Duration::ZERO;
    }
    drain(&mut world);
    check(&world);
}

/// Steps until everything has ended.
fn drain(world: &mut World) {
    let start = world.clock.now();
    let mut steps = 0;
    while world.publisher.is_some() || !world.is_done {
        world.turn_if_awake();
        // A turn takes some time; while the reactor sleeps there is only time.
        if steps % 8 == 0 || world.clock.now() < world.sleeps_until {
            world.clock.advance(Duration::from_millis(1));
        }
        (0..world.workers.len()).for_each(|index| world.step_worker(index));
        world.step_publisher();
        steps += 1;
        let took = world.clock.now() - start;
        assert!(
            took <= Duration::from_millis(DRAIN_MS_MAX),
            "nothing has ended {took:?} after the last fault: {:?}",
            world.next
        );
    }
    assert!(
        world.is_done && world.workers.iter().all(Option::is_none),
        "everything has ended"
    );
}

/// Compares what was published with what was read.
fn check(world: &World) {
    let kept = world.kept.0.lock().unwrap();
    let times: Vec<u64> = kept.iter().map(|(time, _)| *time).collect();
    let expected: Vec<u64> = (1..=kept.len() as u64)
        .map(|n| 1_000_000 + n * INTERVAL_MS)
        .collect();
    assert_eq!(times, expected, "batch times are consecutive multiples");
    assert_eq!(kept.len(), world.expected.len());
    let (mut all, mut all_expected) = (EpochCounts::new(), EpochCounts::new());
    for (number, ((time, counts), expected)) in kept.iter().zip(&world.expected).enumerate() {
        let mut expected = expected.clone();
        add(&mut expected, world.owed(*time));
        if !world.is_cut_early {
            assert_eq!(counts, &expected, "batch {number} at {time}");
        }
        add(&mut all, counts.clone());
        add(&mut all_expected, expected);
    }
    assert_eq!(all, all_expected, "all batches together");
    let times: BTreeSet<u64> = kept.iter().map(|(time, _)| *time).collect();
    let in_time = |from_ms: u64| times.contains(&from_ms.next_multiple_of(INTERVAL_MS));
    assert!(
        world.shelved.iter().all(|(from_ms, _)| in_time(*from_ms)),
        "every piece has a batch"
    );
    let stats = world.control.stats();
    let sum = |of: fn(&Backlog) -> u64| -> u64 {
        let kernels = world.kernels.iter();
        kernels.map(|kernel| of(&kernel.lock().unwrap())).sum()
    };
    assert_eq!(stats.lost_records, sum(|kernel| kernel.lost_records));
    assert_eq!(stats.lost_bytes, sum(|kernel| kernel.lost_bytes));
    assert_eq!(stats.truncated_records, sum(|kernel| kernel.truncated));
    if world.rule == Rule::Lines && world.shelf.is_none() {
        assert_eq!(stats.oversize_tokens, sum(|kernel| kernel.oversize));
    }
}
