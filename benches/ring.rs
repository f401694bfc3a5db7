//! `ring`: blocks from one thread to another and back, as from the reading side to a shard.
//!
//! The time of an iteration is the time of one hand-over. `empty` blocks carry a number and nothing
//! else: that is the ring's own cost, wake-ups included. `copied` blocks are filled by copying on
//! one side and read through on the other: there the bytes per second say what the ring could
//! carry.

mod corpus;

use std::hint::spin_loop;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use criterion::Throughput;
use microtally::internals::{
    Arena, BLOCK_BYTES_DEFAULT, BLOCKS_PER_RING, Block, BlockReader, BlockWriter, Parcel,
    SPINS_BEFORE_PARK, StreamId, Wake, ring,
};

const NUMBER_BYTES: usize = size_of::<u64>();

fn main() {
    let mut criterion = corpus::criterion(Duration::from_secs(2));
    let mut group = criterion.benchmark_group("ring");
    // A test hands over enough to make both ends wait for each other.
    let least = corpus::sized(1000, 1) as u64;

    hand_over(1000, &[0; NUMBER_BYTES]);
    group.throughput(Throughput::Elements(1));
    group.bench_function("hand-over/empty", |bencher| {
        bencher.iter_custom(|iterations| hand_over(iterations.max(least), &[0; NUMBER_BYTES]));
    });

    let block_bytes = corpus::sized(4 << 10, BLOCK_BYTES_DEFAULT);
    let content: Vec<u8> = (0..block_bytes).map(|at| (at % 251) as u8).collect();
    hand_over(100, &content);
    group.throughput(Throughput::ElementsAndBytes {
        elements: 1,
        bytes: block_bytes as u64,
    });
    group.bench_function("hand-over/copied", |bencher| {
        bencher.iter_custom(|iterations| hand_over(iterations.max(least / 10), &content));
    });
    group.finish();
    criterion.final_summary();
}

/// Hands `count` blocks with `content` over, each with its number in place of the first bytes.
/// Returns the time until all were read, and panics if one was lost, doubled, out of order or
/// damaged.
fn hand_over(count: u64, content: &[u8]) -> Duration {
    let arena = Arena::new(content.len(), BLOCKS_PER_RING).expect("a little memory");
    let mut fresh: Vec<Block> = (0..BLOCKS_PER_RING).map(|_| arena.block()).collect();
    let writing = thread::current();
    let wake = Wake::new(move || writing.unpark());
    let (mut writer, reader) = ring::<()>(Arc::clone(&wake));
    let body = &content[NUMBER_BYTES..];
    let body_sum = sum(body);
    thread::scope(|scope| {
        let reading = scope.spawn(move || read_all(reader, body_sum));
        let start = Instant::now();
        for number in 0..count {
            let mut block = fresh
                .pop()
                .unwrap_or_else(|| wait_for_empty(&mut writer, &wake));
            block.append(&number.to_le_bytes());
            block.append(body);
            writer.push_block(block, StreamId(0));
        }
        writer.push_barrier(());
        let read_count = reading.join().expect("the reading end found a wrong block");
        assert_eq!(read_count, count, "blocks that arrived");
        start.elapsed()
    })
}

/// The writing end has nothing to fill: it waits as the engine's reading side does.
fn wait_for_empty(writer: &mut BlockWriter<()>, wake: &Wake) -> Block {
    loop {
        for _ in 0..SPINS_BEFORE_PARK {
            if let Some(block) = writer.take_empty() {
                return block;
            }
            spin_loop();
        }
        wake.want();
        if let Some(block) = writer.take_empty() {
            return block;
        }
        thread::park();
    }
}

/// Reads every block up to the barrier, and returns their number.
fn read_all(mut reader: BlockReader<()>, body_sum: u64) -> u64 {
    reader.attach();
    let mut count: u64 = 0;
    let mut idle_turns = 0;
    loop {
        match reader.pop() {
            Some(Parcel::Block { block, .. }) => {
                let (number, body) = block.bytes().split_at(NUMBER_BYTES);
                assert_eq!(number, count.to_le_bytes(), "out of order");
                assert_eq!(sum(body), body_sum, "block {count} is damaged");
                reader.give_back(block);
                count += 1;
                idle_turns = 0;
            }
            Some(Parcel::Barrier(())) => return count,
            None if idle_turns < SPINS_BEFORE_PARK => {
                idle_turns += 1;
                spin_loop();
            }
            None => thread::park(),
        }
    }
}

fn sum(bytes: &[u8]) -> u64 {
    // Whole words: a vector unit adds them as fast as memory gives them.
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let rest = rest.iter().map(|&byte| u64::from(byte));
    words.chain(rest).fold(0, u64::wrapping_add)
}
