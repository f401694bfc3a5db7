//! Zero allocation in steady state, shown: a counting global allocator, a warm-up, then many batches of
//! known words through ring, shards, swap, merge and a sink, with no allocation, reallocation or free on
//! any thread.
//!
//! One test in a binary of its own: the counters see the whole process.
#![allow(unsafe_code)] // A global allocator is an unsafe trait; calls go to the system's unchanged.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use microtally::prelude::*;
use microtally::sink::{Pyspark, Tsv};
use microtally::{Config, Engine, Reconnect, Rule, Tally};

static CALLS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Counting;

// SAFETY: every method passes its arguments on to `System`, whose contract is the same.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(block, layout, new_size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        CALLS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

fn calls() -> u64 {
    CALLS.load(Ordering::SeqCst)
}

/// Words of every key class, few enough to fit a new table: so every shard knows them from the first
/// batch on, whichever blocks it gets.
fn text() -> Vec<u8> {
    let mut text = Vec::new();
    for n in 0..1000 {
        write!(
            text,
            "w{n} word-number-{n} a-rather-long-word-that-lives-in-the-arena-{} \u{e9}{n}  ",
            n % 100
        )
        .expect("writing to memory succeeds");
        text.extend_from_slice(if n % 7 == 0 { b"\r\n" } else { b"\n" });
    }
    text
}

/// A pass over the text is cut into pieces of this many bytes: inside words, lines and `\r\n`.
const PIECE_BYTES: usize = 1777;

#[test]
fn steady_state_asks_the_allocator_for_nothing() {
    tally();
    engine();
    streaming_context();
}

fn tally() {
    let text = text();
    let mut tally = Tally::new(Rule::Split(b' '));
    let mut batch = |n: u64| {
        for piece in text.chunks(PIECE_BYTES) {
            tally.push(piece);
        }
        tally
            .cut(BatchTime::from_millis(n))
            .expect("the ledger closes")
            .stats()
            .tokens
    };
    let tokens = batch(0);
    batch(1);
    let before = calls();
    for n in 2..50 {
        assert_eq!(batch(n), tokens);
    }
    assert_eq!(calls() - before, 0, "Tally");
}

fn engine() {
    let text = text();
    let tokens = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&tokens);
    let batches = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&batches);
    let mut engine = Engine::builder(Rule::Split(b' '))
        // Small blocks, so that many go through every ring and the reader counts some itself.
        .config(Config::default().workers(2).block_bytes(4096))
        .start(move |batch| {
            seen.fetch_add(batch.stats().tokens, Ordering::SeqCst);
            counter.fetch_add(1, Ordering::SeqCst);
        })
        .expect("the engine starts");
    let mut input = engine.input().expect("there is one input");
    let mut run = |count: u64| {
        let goal = batches.load(Ordering::SeqCst) + count;
        for n in 0..count {
            for _ in 0..4 {
                for piece in text.chunks(PIECE_BYTES) {
                    input.write_all(piece).expect("the engine takes it");
                }
            }
            engine
                .cut(BatchTime::from_millis(n))
                .expect("the engine runs");
        }
        while batches.load(Ordering::SeqCst) < goal {
            std::thread::yield_now();
        }
    };
    run(20);
    let (before, warm) = (calls(), tokens.load(Ordering::SeqCst));
    run(100);
    assert_eq!(calls() - before, 0, "Engine");
    assert_eq!(
        tokens.load(Ordering::SeqCst),
        warm * 6,
        "nothing was lost meanwhile"
    );
}

/// A sink that formats as the program does and throws the text away.
struct Null;

impl Write for Null {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn streaming_context() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let port = listener.local_addr().expect("an address").port();
    let ssc = StreamingContext::with_config(
        Duration::from_millis(20),
        Config::default().workers(2).block_bytes(64 << 10),
    )
    .expect("the settings are good");
    let lines = ssc
        .socket_text_stream_with("127.0.0.1", port, Reconnect::Never)
        .expect("an address");
    let counts = lines.flat_map(split(b' ')).count_by_value();
    counts.output(Pyspark::new(Null, 10));
    counts.output(Tsv::new(Null, usize::MAX));
    let longest = lines
        .map(|line| (&line[..line.len().min(2)], line.len()))
        .reduce_by_key(usize::max);
    longest.output(Pyspark::new(Null, 5));
    let (tell, batches) = mpsc::sync_channel(1 << 10);
    counts.for_each_batch(move |batch, _| {
        let _ = tell.send((batch.stats().tokens, calls()));
    });
    let running = ssc.start().expect("the context starts");
    let (mut client, _) = listener.accept().expect("the context connects");
    let sender = std::thread::spawn(move || {
        let text = text();
        // Until the context closes the connection.
        while client.write_all(&text).is_ok() {}
        let _ = client.read(&mut [0; 1]);
    });
    // Tables, sinks and the channel itself have been used by then; tables have changed places often.
    let mut seen = batches.iter().skip(20);
    let (_, before) = seen.next().expect("a batch");
    let (mut tokens, mut after) = (0, before);
    for (count, calls) in seen.by_ref().take(50) {
        tokens += count;
        after = calls;
    }
    assert!(tokens > 0, "words came through");
    assert_eq!(
        after - before,
        0,
        "StreamingContext, {tokens} tokens in 50 batches"
    );
    running.stop(Stop::Immediate).expect("no error");
    sender.join().expect("the sender ends");
}
