//! The whole engine on one thread: reactor, shards, publisher and sources stepped in a random order by a
//! seeded generator, with a clock that only the test moves.
//!
//! Goal: whatever the order of steps, each batch holds exactly the records whose last byte was read
//! during it, batch times are consecutive multiples, and when the faults stop everything drains.
//! Method: each seed draws its own sizes, cuts, pauses and kinds of fault; some kinds are switched off
//! for a seed altogether, because faults can hide each other. A failure prints its seed.
//!
//! Sources are edge-triggered, as the event queue is: readiness is reported once when bytes arrive at a
//! source that had been read empty, and never for bytes that were left because the rings were full.
//!
//! Half of the worlds have a batched source too, whose pieces carry the millisecond they are from. What
//! its batches must hold follows from that alone, whenever the reactor comes to cut them.

mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use self::sources::{Arrival, Backlog, Shelf, SimBatched, SimSource};
use crate::config::Config;
use crate::engine::control::{Control, Stop};
use crate::engine::plan::{CountTokens, Merged, Node, Output, Plan};
use crate::engine::publisher::{self, Publisher};
use crate::engine::reactor::{Next, ReactorCore};
use crate::engine::{Order, Parts, build};
use crate::epoch::BatchTime;
use crate::epoch::clock::{BatchClock, Clock};
use crate::epoch::merge::table_of;
use crate::epoch::swap::{NodeTable, Partial};
use crate::error::Result;
use crate::generate::SplitMix64;
use crate::ring::Wake;
use crate::ring::arena::Block;
use crate::shard::stage::Stage;
use crate::shard::worker::{self, Worker};
use crate::source::{Notices, Source};
use crate::split::{Kernel, LineEnds, Rule, Tallied, scalar};
use crate::table::bound::Bound;
use crate::table::budget::{Decoders, Kept, Needs};
use crate::table::keys::Seed;

pub(super) type Counts = BTreeMap<Vec<u8>, u64>;

const INTERVAL_MS: u64 = 10;

struct Random(SplitMix64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0.next()
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, chance: usize) -> bool {
        self.below(chance) == 0
    }
}

/// Keeps what was put out.
#[derive(Clone, Default)]
pub(super) struct Keep(pub(super) Arc<Mutex<Vec<(u64, Counts)>>>);

impl Output for Keep {
    fn emit(&mut self, epoch: &mut Merged<'_>) -> Result<()> {
        let mut counts = Counts::new();
        for node in epoch.nodes.iter() {
            for (key, count) in table_of::<u64>(node.partial.as_ref()).iter() {
                *counts.entry(key.to_vec()).or_default() += count;
            }
        }
        self.0
            .lock()
            .unwrap()
            .push((epoch.mark.time.as_millis(), counts));
        Ok(())
    }
}

pub(super) fn built(order: Order) -> Parts {
    build(order).expect("little memory")
}

fn oracle(records: &[u8], rule: Rule) -> Counts {
    let mut counts = Counts::new();
    scalar::tokens(records, rule, LineEnds::Universal, |token| {
        *counts.entry(token.to_vec()).or_default() += 1
    });
    counts
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
    rule: Rule,
    /// What each epoch cut so far must hold.
    expected: Vec<Counts>,
    is_done: bool,
}

impl World {
    fn new(seed: u64, is_batched: bool) -> World {
        let mut random = Random(SplitMix64(seed));
        let rules = [Rule::Split(b' '), Rule::SplitWhitespace, Rule::Lines];
        let rule = rules[random.below(3)];
        let source_count = 1 + random.below(2);
        let shelf = is_batched.then(Arc::<Mutex<Shelf>>::default);
        let stream_count = source_count + usize::from(shelf.is_some());
        let kept = Keep::default();
        let nodes = (0..stream_count)
            .map(|stream| Arc::new(CountTokens::new(stream, rule)) as Arc<dyn Node>);
        let plan = Plan {
            nodes: nodes.collect(),
            outputs: vec![Box::new(kept.clone())],
        };
        let clock = Clock::manual(Duration::from_millis(1_000_003));
        let control = Control::new(Arc::new(|| ()));
        let config = Config::default()
            .workers(1 + random.below(4))
            .block_bytes(64 << random.below(4));
        let config = match random.below(2) {
            0 => config,
            _ => config.low_latency(Duration::ZERO),
        };
        let parts = built(Order {
            config,
            plan,
            feeds: (0..stream_count).collect(),
            decoders: Decoders::default(),
            interval: Duration::from_millis(INTERVAL_MS),
            clock: clock.clone(),
            notices: Notices::default(),
            control: Arc::clone(&control),
            wake: Wake::new(|| ()),
            kept: Kept::default(),
        });
        let kernels: Vec<_> = (0..source_count)
            .map(|_| Arc::<Mutex<Backlog>>::default())
            .collect();
        let batched = shelf.as_ref().map(|shelf| {
            Box::new(SimBatched {
                shelf: Arc::clone(shelf),
                random: Random(SplitMix64(random.next())),
            }) as Box<dyn Source>
        });
        let sources = kernels.iter().map(|kernel| {
            let random = Random(SplitMix64(random.next()));
            Box::new(SimSource {
                kernel: Arc::clone(kernel),
                random,
            }) as Box<dyn Source>
        });
        let reactor = ReactorCore::new(
            parts.hub,
            sources.chain(batched).collect(),
            BatchClock::new(INTERVAL_MS, clock.now()),
            None,
            false,
            Arc::clone(&control),
            Notices::default(),
            1 << 20,
        );
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
            rule,
            expected: Vec::new(),
            is_done: false,
        }
    }

    /// Bytes, or the end of a connection, arrive at a source.
    fn arrive(&mut self, index: usize, arrival: Arrival) {
        let mut kernel = self.kernels[index].lock().unwrap();
        if kernel.is_over {
            return;
        }
        kernel.arrived.push_back(arrival);
        if std::mem::take(&mut kernel.waits) {
            drop(kernel);
            self.reactor.on_ready(index);
        }
    }

    /// A piece is put where the batched source looks, if there is one. It is from the next millisecond:
    /// a batch of this one may have been read already.
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
            self.reactor.on_ready(self.kernels.len());
        }
    }

    fn is_gathering(&self) -> bool {
        let shelf = self.shelf.as_ref();
        shelf.is_some_and(|shelf| shelf.lock().unwrap().is_open)
    }

    /// What the batched source owes to the batch at `time_ms`: each piece by itself, for it is ended.
    fn owed(&self, time_ms: u64) -> Counts {
        let is_of = |from_ms: u64| (time_ms - INTERVAL_MS..time_ms).contains(&(from_ms - 1));
        let mut complete = Vec::new();
        for (_, bytes) in self.shelved.iter().filter(|(from_ms, _)| is_of(*from_ms)) {
            let mut piece = Backlog::default();
            piece.read(bytes);
            piece.end_line(true);
            complete.append(&mut piece.complete);
        }
        oracle(&complete, self.rule)
    }

    fn text(&mut self) -> Vec<u8> {
        self.text_of(b"aaab  \n\n\r\t\0\xff")
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
        // The reactor cuts before it reads: what was complete before the turn is in the epochs it cuts,
        // the last of a run apart, which is cut behind everything.
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
            let mut counts = Counts::new();
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
                for (key, count) in oracle(&records, self.rule) {
                    *counts.entry(key).or_default() += count;
                }
            }
            self.expected.push(counts);
        }
        self.is_done = outcome == Next::Done;
    }

    fn step_worker(&mut self, index: usize) {
        if let Some(worker) = &mut self.workers[index]
            && worker.step() == worker::Step::Done
        {
            self.workers[index] = None;
        }
    }

    fn step_publisher(&mut self) {
        if let Some(publisher) = &mut self.publisher
            && publisher.step().expect("the ledger closes") == publisher::Step::Done
        {
            self.publisher = None;
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed, seed.is_multiple_of(2));
    // Swarm: what this seed does at all, and how long parts sleep.
    let has_breaks = world.random.one_in(2);
    let has_jumps = world.random.one_in(3);
    let lazy_publisher = world.random.one_in(3);
    let lazy_workers = world.random.one_in(3);
    let stops = world.random.one_in(2);
    for _ in 0..1500 {
        match world.random.below(10) {
            0..=2 => {
                let index = world.random.below(world.kernels.len());
                let text = world.text();
                world.arrive(index, Arrival::Bytes(text));
            }
            3 if has_breaks && world.random.one_in(10) => {
                let index = world.random.below(world.kernels.len());
                let clean = world.random.one_in(2);
                world.arrive(index, Arrival::Break { clean });
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
    // The faults stop: everything that arrived must come out, in bounded time.
    if stops {
        world.control.stop(Stop::Graceful);
    } else {
        for index in 0..world.kernels.len() {
            world.arrive(index, Arrival::End);
        }
        if let Some(shelf) = &world.shelf {
            shelf.lock().unwrap().is_last = true;
        }
    }
    let mut steps = 0;
    while world.publisher.is_some() || !world.is_done {
        world.turn();
        world.poke();
        if world.shelf.is_some() && steps % 8 == 0 {
            // A batched source ends at a batch time only.
            world.clock.advance(Duration::from_millis(1));
        }
        (0..world.workers.len()).for_each(|index| world.step_worker(index));
        world.step_publisher();
        steps += 1;
        assert!(steps < 50_000, "stuck");
    }
    assert!(
        world.is_done && world.workers.iter().all(Option::is_none),
        "everything has ended"
    );

    let kept = world.kept.0.lock().unwrap();
    let times: Vec<u64> = kept.iter().map(|(time, _)| *time).collect();
    let expected: Vec<u64> = (1..=kept.len() as u64)
        .map(|n| 1_000_000 + n * INTERVAL_MS)
        .collect();
    assert_eq!(times, expected, "batch times are consecutive multiples");
    assert_eq!(kept.len(), world.expected.len());
    for (number, ((time, counts), expected)) in kept.iter().zip(&world.expected).enumerate() {
        let mut expected = expected.clone();
        for (key, count) in world.owed(*time) {
            *expected.entry(key).or_default() += count;
        }
        assert_eq!(counts, &expected, "batch {number} at {time}");
    }
    let times: BTreeSet<u64> = kept.iter().map(|(time, _)| *time).collect();
    let in_time = |from_ms: u64| times.contains(&from_ms.next_multiple_of(INTERVAL_MS));
    assert!(
        world.shelved.iter().all(|(from_ms, _)| in_time(*from_ms)),
        "every piece has a batch"
    );
}

#[test]
fn every_order_of_steps_gives_the_defined_batches_and_drains() {
    for seed in 0..400 {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            panic!(
                "seed {seed}: {}",
                crate::shard::panic_message(panic.as_ref())
            );
        }
    }
}

/// Reliability case 31: everything was sent and the connection closed while every ring was full. No
/// event will come any more; the reactor has to go on by itself.
#[test]
fn case_31_a_reader_that_stopped_for_want_of_room_goes_on_without_an_event() {
    let mut world = World::new(7, false);
    let text = b"some words on a line\n".repeat(4000);
    for index in 0..world.kernels.len() {
        world.arrive(index, Arrival::Bytes(text.clone()));
        world.arrive(index, Arrival::End);
    }
    // One epoch is cut and never published, so that the helper may not count either: all is full.
    world.turn();
    world.clock.advance(Duration::from_millis(3 * INTERVAL_MS));
    for _ in 0..2000 {
        world.turn();
    }
    let left = |world: &World| {
        world
            .kernels
            .iter()
            .map(|kernel| kernel.lock().unwrap().arrived.len())
            .sum::<usize>()
    };
    assert!(left(&world) > 0, "the rings are too large for this test");
    for _ in 0..20_000 {
        world.turn();
        (0..world.workers.len()).for_each(|index| world.step_worker(index));
        world.step_publisher();
    }
    assert_eq!(left(&world), 0);
    assert!(world.is_done && world.publisher.is_none());
}

/// An abort ends a worker whatever it waits for.
#[test]
fn an_aborted_worker_ends_while_its_spare_tables_are_away() {
    let abort = AtomicBool::new(true);
    let mut world = World::new(1, false);
    let worker = world.workers[0].take().expect("not run yet");
    worker::run(worker, &abort, || ());
}

/// A pipeline with a planted bug: it forgets one word.
struct Forgetful(CountTokens);

struct ForgetfulStage(Box<dyn Stage>);

impl Node for Forgetful {
    fn stream(&self) -> usize {
        self.0.stream()
    }

    fn rule(&self) -> Rule {
        self.0.rule()
    }

    fn stage(&self, kernel: Kernel, seed: Seed, bound: Bound) -> Box<dyn Stage> {
        Box::new(ForgetfulStage(self.0.stage(kernel, seed, bound)))
    }

    fn partial(&self, seed: Seed, bound: Bound) -> Box<dyn Partial> {
        self.0.partial(seed, bound)
    }

    fn needs(&self) -> Needs {
        self.0.needs()
    }

    fn merge(&self, into: &mut dyn Partial, from: &dyn Partial) {
        self.0.merge(into, from);
    }

    fn check(&self, merged: &NodeTable) -> Result<()> {
        self.0.check(merged)
    }
}

impl Stage for ForgetfulStage {
    fn block(&mut self, block: &Block, into: &mut dyn Partial) -> Tallied {
        self.0.block(block, into)
    }

    fn flush(&mut self, into: &mut dyn Partial) {
        self.0.flush(into);
        if into.len() > 3 {
            into.clear();
        }
    }
}

/// The ledger is checked in release builds too: a shard that loses what it counted ends the run with an
/// error, and the batch is not put out.
#[test]
fn a_planted_fault_is_caught_by_the_ledger() {
    let kept = Keep::default();
    let nodes: Vec<Arc<dyn Node>> =
        vec![Arc::new(Forgetful(CountTokens::new(0, Rule::Split(b' '))))];
    let control = Control::new(Arc::new(|| ()));
    let mut parts = built(Order {
        config: Config::default().workers(1),
        plan: Plan {
            nodes,
            outputs: vec![Box::new(kept.clone())],
        },
        feeds: vec![0],
        decoders: Decoders::default(),
        interval: Duration::ZERO,
        clock: Clock::manual(Duration::ZERO),
        notices: Notices::default(),
        control,
        wake: Wake::new(|| ()),
        kept: Kept::default(),
    });
    let mut publish = |text: &[u8], time: u64| {
        parts.hub.space(0).expect("nothing is full")[..text.len()].copy_from_slice(text);
        parts.hub.filled(0, text.len());
        parts
            .hub
            .cut(BatchTime::from_millis(time), false)
            .expect("nothing is full");
        while parts.workers[0].step() != worker::Step::Waiting {}
        parts.publisher.step()
    };
    assert!(publish(b"to be or\n", 1).is_ok());
    let error = publish(b"not to be that is\n", 2).expect_err("five words were lost");
    assert_eq!(error.kind(), crate::error::ErrorKind::Internal);
    assert!(
        error
            .to_string()
            .contains("counts add up to 0, 5 tokens were split"),
        "{error}"
    );
    assert_eq!(kept.0.lock().unwrap().len(), 1);
}
