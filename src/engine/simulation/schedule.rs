//! A run of the simulation: what happens, in which order, and how it ends.

use super::*;

/// A run whose schedule is `choices`, a byte each. Panics where the engine breaks a promise.
#[cfg_attr(
    not(feature = "internals"),
    allow(unreachable_pub, reason = "public for the fuzz targets only")
)]
pub fn run_schedule(choices: &[u8]) {
    let mut random = Random::of_choices(choices);
    let (is_batched, has_channels) = (random.one_in(2), random.one_in(2));
    run(random, is_batched, has_channels);
}

pub(super) fn run(random: Random, is_batched: bool, has_channels: bool) {
    let is_given = random.has_given();
    let mut world = World::new(random, is_batched, has_channels);
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
            0..=2 if world.channels.is_some() && world.random.one_in(2) => {
                world.arrive_at_channel(has_breaks);
            }
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
            3 if world.faults.resets && world.random.one_in(200) => world.end_channels(false),
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
        world.end_channels(true);
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
