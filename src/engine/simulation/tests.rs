//! Runs of the simulation by seed, and what needs its world besides.

use super::schedule::run;
use super::*;
use crate::engine::plan::Pipeline;
use crate::epoch::hand_over::{NodeTable, PartialAggregate};
use crate::error::Result;
use crate::id::StreamId;
use crate::memory::PipelineNeeds;
use crate::ring::arena::Block;
use crate::shard::stage::Stage;
use crate::split::{Kernel, Tallied};
use crate::table::bound::MemoryCap;
use crate::table::keys::Seed;
use crate::time::BatchTime;

#[test]
fn every_order_of_steps_gives_the_defined_batches_and_drains() {
    for seed in 0..400 {
        let random = || Random::of_seed(seed);
        if let Err(panic) =
            std::panic::catch_unwind(|| run(random(), seed.is_multiple_of(2), seed % 3 > 0))
        {
            panic!(
                "seed {seed}: {}",
                crate::shard::panic_message(panic.as_ref())
            );
        }
    }
}

/// A fuzzer's schedule is any bytes.
#[test]
fn any_bytes_are_a_schedule() {
    run_schedule(&[]);
    for byte in [0, 1, 2, 3, 5, 9, 0x55, 0xff] {
        run_schedule(&[byte; 700]);
    }
    let mut random = Random::of_seed(3);
    for _ in 0..40 {
        let bytes: Vec<u8> = (0..2000).map(|_| random.below(256) as u8).collect();
        run_schedule(&bytes);
    }
}

/// Reliability case 31: everything was sent and the connection closed while every ring was full. No
/// event will come any more; the reactor has to go on by itself.
#[test]
fn case_31_a_reader_that_stopped_for_want_of_room_goes_on_without_an_event() {
    let mut world = World::new(Random::of_seed(7), false, false);
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
    world.calm();
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
    let mut world = World::new(Random::of_seed(1), false, false);
    let mut worker = world.workers[0].take().expect("not run yet");
    worker::run(&mut worker, &abort, || ());
}

/// A pipeline with a planted bug: it forgets one word.
struct Forgetful(CountTokens);

struct ForgetfulStage(Box<dyn Stage>);

impl Pipeline for Forgetful {
    fn stream(&self) -> StreamId {
        self.0.stream()
    }

    fn rule(&self) -> Rule {
        self.0.rule()
    }

    fn stage(&self, kernel: Kernel, seed: Seed, bound: MemoryCap) -> Box<dyn Stage> {
        Box::new(ForgetfulStage(self.0.stage(kernel, seed, bound)))
    }

    fn partial(&self, seed: Seed, bound: MemoryCap) -> Box<dyn PartialAggregate> {
        self.0.partial(seed, bound)
    }

    fn needs(&self) -> PipelineNeeds {
        self.0.needs()
    }

    fn merge(&self, into: &mut dyn PartialAggregate, from: &dyn PartialAggregate) {
        self.0.merge(into, from);
    }

    fn check(&self, merged: &NodeTable) -> Result<()> {
        self.0.check(merged)
    }
}

impl Stage for ForgetfulStage {
    fn block(&mut self, block: &Block, into: &mut dyn PartialAggregate) -> Tallied {
        self.0.block(block, into)
    }

    fn flush(&mut self, into: &mut dyn PartialAggregate) {
        self.0.flush(into);
        if into.len() > 3 {
            into.clear();
        }
    }
}

/// The ledger is checked in release builds too: a shard that loses what it counted ends the run
/// with an error, and the batch is not published.
#[test]
fn a_planted_fault_is_caught_by_the_ledger() {
    let kept = Keep::default();
    let tokens = CountTokens::new(StreamId(0), Rule::Split(b' '));
    let nodes = vec![NamedPipeline {
        name: "tokens".into(),
        pipeline: Arc::new(Forgetful(tokens)),
    }];
    let control = Control::new(Arc::new(|| ()));
    let mut parts = built(Blueprint {
        config: Config::default().workers(1),
        plan: EnginePlan {
            nodes,
            outputs: vec![Box::new(kept.clone())],
        },
        inputs: vec![(
            StreamId(0),
            "sim".to_owned(),
            crate::intake::ChannelLimits::default(),
        )],
        decoders: DecoderCounts::default(),
        interval: Duration::ZERO,
        clock: Clock::manual(Duration::ZERO),
        notices: Notices::default(),
        control,
        wake: Wake::new(|| ()),
        retained: RetainedTables::default(),
    });
    let mut publish = |text: &[u8], time: u64| {
        parts.router.space(0).expect("nothing is full")[..text.len()].copy_from_slice(text);
        parts.router.filled(0, text.len());
        parts
            .router
            .cut(BatchTime::from_millis(time), false)
            .expect("nothing is full");
        while parts.workers[0].step() != worker::WorkerTurn::Waiting {}
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
