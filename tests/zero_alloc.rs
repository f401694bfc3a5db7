//! Zero allocation in steady state, shown: a counting global allocator, a warm-up, then many
//! batches of known words through ring, shards, swap, merge and a sink, with no allocation,
//! reallocation or free on any thread.
//!
//! One test in a binary of its own: the counters see the whole process.
#![allow(unsafe_code)] // A global allocator is an unsafe trait; calls go to the system's unchanged.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use microtally::aggregate::{Count, Distinct, Percentile};
use microtally::internals::{
    AggregateTable, AggregateWindow, InverseWindow, KeyTable, ReduceWindow, Seed, Shape,
};
use microtally::prelude::*;
use microtally::sink::{Pyspark, Sink, Tsv, Undelivered};
use microtally::sources::{ChannelId, Fill, Intake, Position, Positions, Reconnect, Source};
use microtally::stream::Dialect;
use microtally::{Batch, Config, Engine, Rule, Tally};

static CALLS: AtomicU64 = AtomicU64::new(0);
/// Bytes that were asked for and not given back.
static HELD: AtomicI64 = AtomicI64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Counting;

// SAFETY: every method passes its arguments on to `System`, whose contract is the same.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::SeqCst);
        HELD.fetch_add(layout.size() as i64, Ordering::SeqCst);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::SeqCst);
        HELD.fetch_add(new_size as i64 - layout.size() as i64, Ordering::SeqCst);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(block, layout, new_size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        CALLS.fetch_add(1, Ordering::SeqCst);
        HELD.fetch_sub(layout.size() as i64, Ordering::SeqCst);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

fn calls() -> u64 {
    CALLS.load(Ordering::SeqCst)
}

/// A number of each batch, and how often the allocator had been called by then. It is no channel:
/// whose reader waits for the first time, which may be late on a busy machine, allocates.
struct BatchLog {
    len: AtomicUsize,
    rows: Vec<(AtomicU64, AtomicU64)>,
}

impl BatchLog {
    fn new() -> Arc<Self> {
        Arc::new(BatchLog {
            len: AtomicUsize::new(0),
            rows: (0..1 << 10).map(|_| Default::default()).collect(),
        })
    }

    fn add(&self, number: u64) {
        let len = self.len.load(Ordering::SeqCst);
        if let Some((of_batch, of_calls)) = self.rows.get(len) {
            of_batch.store(number, Ordering::SeqCst);
            of_calls.store(calls(), Ordering::SeqCst);
            self.len.store(len + 1, Ordering::SeqCst);
        }
    }

    /// Waits for `warm` batches and `steady` ones behind them. Returns the sum of the numbers of
    /// the latter, and how often the allocator was called meanwhile.
    fn steady(&self, warm: usize, steady: usize) -> (u64, u64) {
        let begin = Instant::now();
        while self.len.load(Ordering::SeqCst) < warm + steady {
            assert!(begin.elapsed() < Duration::from_secs(300), "batches come");
            std::thread::sleep(Duration::from_millis(5));
        }
        let rows = &self.rows[warm - 1..warm + steady];
        let calls = |row: &(AtomicU64, AtomicU64)| row.1.load(Ordering::SeqCst);
        let numbers = rows[1..].iter().map(|row| row.0.load(Ordering::SeqCst));
        (numbers.sum(), calls(&rows[steady]) - calls(&rows[0]))
    }
}

/// Words of every key class, few enough to fit a new table: so every shard knows them from the
/// first batch on, whichever blocks it gets.
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
    pipelines();
    windows();
    windows_of_ever_new_keys();
    aggregates();
    engine();
    streaming_context();
    for channels in [1, 1024] {
        positions(channels);
    }
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

/// Two pipelines with functions, which a tally runs.
fn pipelines() {
    let text = text();
    let tally = Tally::pipelines(&Config::default(), |lines| {
        let words = lines.filter(|line| line.len() > 5).split_whitespace();
        let lengths = lines.map(|line| (&line[..line.len().min(3)], line.len()));
        (words.count_by_value(), lengths.reduce_by_key(usize::max))
    });
    let mut tally = tally.expect("in range");
    let mut batch = |n: u64| {
        for piece in text.chunks(PIECE_BYTES) {
            tally.push(piece);
            tally.count_now();
        }
        let cut = tally.cut(BatchTime::from_millis(n));
        let (words, lengths) = cut.expect("the ledger closes");
        (words.len(), lengths.get(b"w10"))
    };
    let first = batch(0);
    batch(1);
    let before = calls();
    for n in 2..50 {
        assert_eq!(batch(n), first);
    }
    assert_eq!(calls() - before, 0, "pipelines of a Tally");
}

/// A batch of keys of every class, with counts that differ from batch to batch.
fn fill(batch: &mut KeyTable<u64>, number: u64) {
    batch.clear();
    for key in 0..300 {
        let key = ["{}", "number {}", "a rather long key, its number is {}"][key % 3]
            .replace("{}", &key.to_string());
        batch.add(key.as_bytes(), number, u64::wrapping_add);
    }
}

/// Counts, sketches and sets of growing sizes: added in two tables, merged, put into windows with and
/// without `remove`, finished.
fn aggregates() {
    let percentiles = (Count, Percentile::new(99.0));
    let several = (Count, Percentile::new(50.0), Distinct::with_seed(1));
    let seed = Seed::random();
    let mut tables = [(); 2].map(|()| AggregateTable::unlimited(several, seed));
    let mut removable = AggregateTable::unlimited(percentiles, seed);
    let mut windows = AggregateWindow::new(several, 5, 1);
    let mut taken_off = AggregateWindow::new(percentiles, 5, 1);
    let mut results = KeyTable::new(seed);
    let mut asked = 0;
    for batch in 0..60u64 {
        let before = calls();
        for value in 0..20_000u64 {
            // One key with thousands of values, and some hundreds with a few.
            let key = if value % 2 == 0 { 0 } else { value % 500 };
            let key = key.to_be_bytes();
            // The same values in another order.
            let value = (value + batch).wrapping_mul(7919) % 10_000;
            tables[value as usize % 2].add(&[], &key, value);
            removable.add(&[], &key, value);
        }
        let [first, second] = &mut tables;
        first.merge_from(second);
        first.finish_into(&mut results);
        windows.begin_batch();
        windows.enter(first);
        taken_off.begin_batch();
        taken_off.enter(&removable);
        let (count, ..) = results.get(&0u64.to_be_bytes()).expect("a key");
        let held = (batch + 1).min(5);
        let window = windows
            .slide()
            .and_then(|window| window.get(&0u64.to_be_bytes()));
        assert_eq!(window.map(|(sum, ..)| sum), Some(count * held));
        let window = taken_off
            .slide()
            .and_then(|window| window.get(&0u64.to_be_bytes()));
        assert_eq!(window.map(|(sum, _)| sum), Some(count * held));
        tables.iter_mut().for_each(AggregateTable::clear);
        removable.clear();
        if batch > 30 {
            asked += calls() - before;
        }
    }
    assert_eq!(asked, 0, "aggregates");
}

fn windows() {
    let mut batch = KeyTable::new(Seed::random());
    // Several batches a pane; one; windows of part panes; windows that are folded anew.
    for (length, slide) in [(60, 10), (30, 1), (31, 4), (7, 4), (2, 1), (2, 3)] {
        let shape = Shape::new(length, slide);
        let mut scala = InverseWindow::new(shape, Dialect::Scala);
        let mut pyspark = InverseWindow::new(shape, Dialect::PySpark);
        let mut reduced = ReduceWindow::new(shape);
        let mut asked = 0;
        for number in 0..500u64 {
            fill(&mut batch, number);
            let before = calls();
            scala.enter(&batch, u64::wrapping_add);
            pyspark.enter(&batch, u64::wrapping_add);
            reduced.enter(&batch, u64::wrapping_add);
            if reduced.is_due() {
                let sum = (0..length as u64)
                    .map(|back| number.saturating_sub(back))
                    .sum();
                let keep = Some(|_: &[u8], sum| sum != 0);
                for window in [
                    scala.slide(u64::wrapping_add, u64::wrapping_sub, keep),
                    pyspark.slide(u64::wrapping_add, u64::wrapping_sub, keep),
                    reduced.slide(u64::wrapping_add),
                ] {
                    let window = window.expect("no batch fails");
                    // The first batch's counts are zero: what a filter drops.
                    assert!(number == 0 || window.get(b"297") == Some(sum), "{shape:?}");
                }
            }
            // Twice the length: every pane was used again.
            if number > 150 {
                asked += calls() - before;
            }
        }
        assert_eq!(asked, 0, "{shape:?}");
    }
}

/// A million long keys that are each in one batch, through a window of ten batches: memory is flat.
fn windows_of_ever_new_keys() {
    let shape = Shape::new(10, 1);
    let mut batch = KeyTable::new(Seed::random());
    let mut taken_off = InverseWindow::new(shape, Dialect::Scala);
    let mut reduced = ReduceWindow::new(shape);
    let mut key = Vec::new();
    let (mut least, mut most) = (i64::MAX, 0);
    for number in 0..2000 {
        batch.clear();
        for n in 0..500 {
            key.clear();
            write!(key, "a long key that is new, number {n} of batch {number}").expect("memory");
            batch.add(&key, 1, u64::wrapping_add);
        }
        taken_off.enter(&batch, u64::wrapping_add);
        reduced.enter(&batch, u64::wrapping_add);
        let keep = Some(|_: &[u8], count| count != 0);
        let window = taken_off.slide(u64::wrapping_add, u64::wrapping_sub, keep);
        let keys = 500 * 10.min(number + 1);
        assert_eq!(window.expect("no batch fails").len(), keys);
        let window = reduced.slide(u64::wrapping_add);
        assert_eq!(window.expect("no batch fails").len(), keys);
        if number > 100 {
            let held = HELD.load(Ordering::SeqCst);
            (least, most) = (least.min(held), most.max(held));
        }
    }
    assert!(most - least < 2 << 20, "{least} to {most} bytes");
}

fn engine() {
    let text = text();
    let tokens = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&tokens);
    let batches = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&batches);
    let engine = Engine::builder(Rule::Split(b' '))
        // Small blocks, so that many go through every ring and the reader counts some itself.
        .config(Config::default().workers(2).block_bytes(4096))
        .start(move |batch| {
            seen.fetch_add(batch.stats().tokens, Ordering::SeqCst);
            counter.fetch_add(1, Ordering::SeqCst);
        })
        .expect("the engine starts");
    let mut input = engine.writer().expect("there is one input");
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
    // A table that goes through a queue, and comes back.
    let queued = Tsv::new(Null, usize::MAX);
    counts
        .output_on_thread("null", queued, 2)
        .expect("in range");
    let longest = lines
        .map(|line| (&line[..line.len().min(2)], line.len()))
        .reduce_by_key(usize::max);
    longest.output(Pyspark::new(Null, 5));
    // Closures of every way through a shard: the words as they are, with a value of the counts'
    // type and of another one; some of the words; one value for other keys; values that differ.
    let words = lines.flat_map(split(b' '));
    let recognised = words.map(|word| (word, 1u64)).reduce_by_key(|a, b| a + b);
    recognised.output(Pyspark::new(Null, 5));
    let narrow = words
        .map(|word| (word, 1i32))
        .reduce_by_key(i32::wrapping_add);
    narrow.output(Pyspark::new(Null, 5));
    let filtered = words.filter(|word| word.len() > 4);
    let filtered = filtered
        .map(|word| (word, 1u64))
        .reduce_by_key(|a, b| a + b);
    filtered.output(Pyspark::new(Null, 5));
    let prefixes = words.map(|word| (&word[..word.len().min(3)], 1u32));
    let prefixes = prefixes.reduce_by_key(u32::wrapping_add);
    prefixes.output(Pyspark::new(Null, 5));
    let lengths = words
        .map(|word| (word, word.len() as u64))
        .reduce_by_key(u64::wrapping_add);
    lengths.output(Pyspark::new(Null, 5));
    // Keys that are made, few enough for a new table: one value, and values that differ.
    let made = lines.map_key(|line, key| {
        key.extend(line.iter().take(3).rev());
        (line.len() > 3).then_some(1u64)
    });
    made.reduce_by_key(|a, b| a + b)
        .output(Pyspark::new(Null, 5));
    let made = words.map_key_with(Vec::new, |twice, word, key| {
        twice.clear();
        let start = &word[..word.len().min(3)];
        twice.extend(start.iter().chain(start));
        key.extend_from_slice(twice);
        Some((1u64, word.len()))
    });
    let made = made.reduce_by_key(|a, b| (a.0.wrapping_add(b.0), a.1.max(b.1)));
    made.output(Pyspark::new(Null, 5));
    // Two values of each key.
    let spans = words.map(|word| (word, word.len())).combine_by_key(
        |len| (len, len),
        |(least, most), len| (len.min(least), len.max(most)),
        |(least, most), (other, another)| (other.min(least), another.max(most)),
    );
    let (tell_span, spans_seen) = mpsc::sync_channel(1 << 10);
    spans.for_each_batch(move |batch, _| {
        let _ = tell_span.try_send(batch.get(b"w7"));
    });
    let log = BatchLog::new();
    let batches = Arc::clone(&log);
    counts.for_each_batch(move |batch, _| batches.add(batch.stats().tokens));
    let running = ssc.start().expect("the context starts");
    let (mut client, _) = listener.accept().expect("the context connects");
    let sender = std::thread::spawn(move || {
        let text = text();
        // Until the context closes the connection.
        while client.write_all(&text).is_ok() {}
        let _ = client.read(&mut [0; 1]);
    });
    // Tables, sinks and the channel itself have been used by then; tables have changed places
    // often.
    let (tokens, allocator_calls) = log.steady(21, 50);
    assert!(tokens > 0, "words came through");
    assert!(spans_seen.try_iter().any(|span| span == Some((2, 2))));
    assert_eq!(
        allocator_calls, 0,
        "StreamingContext, {tokens} tokens in 50 batches"
    );
    running.stop(Stop::Immediate).expect("no error");
    sender.join().expect("the sender ends");
}

/// Channels with positions, half of them lines that are cut anywhere, half whole records that hold
/// line ends.
struct Channels {
    count: usize,
    text: Vec<u8>,
    open: Vec<(ChannelId, usize)>,
    turn: usize,
    /// How often positions were committed.
    commits: Arc<AtomicU64>,
}

impl Source for Channels {
    fn fill(&mut self, out: &mut Intake<'_>, _now: Duration) -> Fill {
        while self.open.len() < self.count {
            let name = format!("partition {}", self.open.len());
            self.open.push((out.open_at(&name, Position::default()), 0));
        }
        for _ in 0..64 {
            self.turn += 1;
            let index = self.turn % self.count;
            let (channel, at) = &mut self.open[index];
            // A source of one channel has lines and records in turn.
            let is_records = match self.count {
                1 => *at == 0 && self.turn.is_multiple_of(2),
                _ => index % 2 == 1,
            };
            if is_records {
                if !out.record(*channel, b"a record\nof two lines") {
                    break;
                }
                continue;
            }
            let rest = &self.text[*at..];
            let count = out.write(*channel, &rest[..rest.len().min(97)]);
            if count == 0 {
                break;
            }
            *at = (*at + count) % self.text.len();
        }
        Fill::More
    }

    fn committed(&mut self, positions: &Positions) {
        assert_eq!(positions.iter().count(), self.count);
        self.commits.fetch_add(1, Ordering::SeqCst);
    }

    fn name(&self) -> &str {
        "channels"
    }
}

/// As many batches are under way at first as can be.
struct SlowAtFirst(u32);

impl Sink<u64> for SlowAtFirst {
    fn deliver(&mut self, _batch: &Batch<'_, u64>) -> Result<(), Undelivered> {
        if self.0 > 0 {
            self.0 -= 1;
            std::thread::sleep(Duration::from_millis(150));
        }
        Ok(())
    }
}

fn positions(count: usize) {
    let config = Config::default().workers(2).block_bytes(64 << 10);
    let ssc = StreamingContext::with_config(Duration::from_millis(20), config);
    let ssc = ssc.expect("the settings are good");
    let commits = Arc::new(AtomicU64::new(0));
    let source = Channels {
        count,
        text: b"some words in lines\nthat are all alike\r\n".repeat(30),
        open: Vec::new(),
        turn: 0,
        commits: Arc::clone(&commits),
    };
    let counts = ssc.source_stream(source).count_by_value();
    counts
        .output_on_thread("slow", SlowAtFirst(8), 2)
        .expect("in range");
    let (tell, batches) = mpsc::sync_channel(1 << 10);
    counts.for_each_batch(move |batch, _| {
        assert_eq!(batch.get(b"a record"), None, "a record is whole");
        let _ = tell.send((batch.stats().records, calls()));
    });
    let running = ssc.start().expect("the context starts");
    let mut seen = batches.iter().skip(40);
    let (_, before) = seen.next().expect("a batch");
    let commits_before = commits.load(Ordering::SeqCst);
    let (mut records, mut after) = (0, before);
    for (count, calls) in seen.by_ref().take(50) {
        records += count;
        after = calls;
    }
    assert!(records > 0, "records came through");
    assert!(commits.load(Ordering::SeqCst) > commits_before);
    assert_eq!(after - before, 0, "{count} channels with positions");
    running.stop(Stop::Immediate).expect("no error");
}
