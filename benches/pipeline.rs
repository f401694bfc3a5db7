//! `pipeline`: whole doors, and what to hold them against.
//!
//! `tally` counts in the calling thread; `rival` is the program one would write instead, on the same bytes.
//! `engine` is fed from memory. `loopback` receives over TCP from a thread that sends text made before;
//! `loopback/discard` receives the same and looks at nothing, which no counting can be faster than;
//! `loopback/field` counts one field of each log line instead of words.
//! The two stream programs, `count_by_value` and the closures of the tutorial, should cost the same.
//! `closures` has one shard's share of such programs, without TCP and threads, on the same text: the tutorial's
//! closures, a value of another type, a filter, and closures that nothing can be known about.
//! `fields` has one shard's share of counting a field of each log line, and what to hold it against: whole
//! lines, all words, and `lines/split`, where lines are found and nothing is done with them.

mod corpus;

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use microtally::generate::corpora::{Kind, LOG_FIELD, field};
use microtally::internals::{Arena, Block, Kernel, Seed, SoloPipeline};
use microtally::stream::{DStream, Field, FieldWhitespace, Filter, Reduced, split};
use microtally::{BatchTime, Engine, Lines, Reconnect, Rule, StreamingContext, Tally, Tokens};

use corpus::{Corpus, Expected, SEPARATOR};

const RULE: Rule = Rule::Split(SEPARATOR);

/// Batches are cut while bytes come, as in real use, and a run of some hundred milliseconds has several.
const INTERVAL: Duration = Duration::from_millis(100);

/// A copy of a batch.
type Content = Vec<(Vec<u8>, u64)>;

fn main() {
    let mut criterion = corpus::criterion(Duration::from_secs(2));
    in_memory(&mut criterion);
    closures(&mut criterion);
    fields(&mut criterion);
    loopback(&mut criterion);
    criterion.final_summary();
}

fn closures(criterion: &mut Criterion) {
    let corpus = Corpus::of(Kind::English, corpus::sized(128 << 10, 16 << 20));
    let mut group = criterion.benchmark_group("closures");
    group.throughput(Throughput::Bytes(corpus.bytes.len() as u64));
    let blocks = blocks(&corpus.bytes);
    let (kernel, seed) = (Kernel::detect(), Seed::random());
    let words = || Tokens::new(RULE);
    let distinct = corpus.expected().counts.len();
    let add = |a: u64, b: u64| a + b;
    let mut run = |name: &str, mut pipeline: SoloPipeline<u64>, keys: Option<usize>| {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for block in &blocks {
                    pipeline.block(black_box(block));
                }
                let found = pipeline.cut().len();
                assert!(keys.is_none_or(|keys| keys == found), "{name}");
                pipeline.clear();
            });
        });
    };
    let counting = SoloPipeline::counting(RULE, kernel, seed);
    run("count_by_value", counting, Some(distinct));
    let tutorial = SoloPipeline::keyed(words(), |word| (word, 1u64), add, kernel, seed);
    run("map_reduce_by_key", tutorial, Some(distinct));
    let maximum = SoloPipeline::keyed(words(), |word| (word, 1u64), u64::max, kernel, seed);
    run("of_ones_the_greatest", maximum, Some(distinct));
    let prefixes = SoloPipeline::keyed(
        words(),
        |word| (&word[..word.len().min(3)], word.len() as u64),
        add,
        kernel,
        seed,
    );
    run("lengths_by_prefix", prefixes, None);
    let lines = SoloPipeline::keyed(
        Lines,
        |line| (&line[..0], line.len() as u64),
        add,
        kernel,
        seed,
    );
    run("line_lengths", lines, Some(1));
    group.finish();
}

fn fields(criterion: &mut Criterion) {
    let corpus = Corpus::of(Kind::Log, corpus::sized(128 << 10, 16 << 20));
    let mut group = criterion.benchmark_group("fields");
    group.throughput(Throughput::Bytes(corpus.bytes.len() as u64));
    let blocks = blocks(&corpus.bytes);
    let (kernel, seed) = (Kernel::detect(), Seed::random());
    let add = |a: u64, b: u64| a + b;
    let mut run = |name: &str, mut pipeline: SoloPipeline<u64>, keys: Option<usize>| {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for block in &blocks {
                    pipeline.block(black_box(block));
                }
                let found = pipeline.cut().len();
                assert!(keys.is_none_or(|keys| keys == found), "{name}");
                pipeline.clear();
            });
        });
    };
    let none = |_: &[u8]| false;
    let no_lines = Filter::of(Lines, none);
    let split = SoloPipeline::keyed(no_lines, |line| (line, 1), add, kernel, seed);
    run("lines/split", split, Some(0));
    run(
        "lines",
        SoloPipeline::counting(Rule::Lines, kernel, seed),
        None,
    );
    run("words", SoloPipeline::counting(RULE, kernel, seed), None);
    // The time of a request, which no two share; one of 16 hosts; one of 100 000 paths; one of 5 statuses.
    for number in [0, 2, LOG_FIELD, 6] {
        let keys = Some(corpus.expected_fields(number).counts.len());
        let separated = Field::of(Lines, number, SEPARATOR);
        let separated = SoloPipeline::keyed(separated, |key| (key, 1), add, kernel, seed);
        run(&format!("field:{}", number + 1), separated, keys);
        let blanks = FieldWhitespace::of(Lines, number);
        let blanks = SoloPipeline::keyed(blanks, |key| (key, 1), add, kernel, seed);
        run(&format!("field-whitespace:{}", number + 1), blanks, keys);
        let copy = move |line: &[u8], key: &mut Vec<u8>| {
            key.extend_from_slice(field(line, number));
            Some(1)
        };
        let copied = SoloPipeline::computed(Lines, copy, add, kernel, seed);
        run(&format!("map_key:{}", number + 1), copied, keys);
    }
    group.finish();
}

/// The text in blocks as the engine cuts them: 256 KiB at most, behind a line.
fn blocks(text: &[u8]) -> Vec<Block> {
    const BLOCK_BYTES: usize = 256 << 10;
    let arena = Arena::new(BLOCK_BYTES, text.len() / (BLOCK_BYTES / 2) + 2).expect("memory");
    let (mut blocks, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let most = &rest[..rest.len().min(BLOCK_BYTES)];
        let end = most
            .iter()
            .rposition(|&byte| byte == b'\n')
            .expect("lines are short")
            + 1;
        let mut block = arena.block();
        block.append(&rest[..end]);
        blocks.push(block);
        rest = &rest[end..];
    }
    blocks
}

fn in_memory(criterion: &mut Criterion) {
    let corpora = Corpus::all(corpus::sized(128 << 10, 16 << 20));
    let mut group = criterion.benchmark_group("pipeline");
    // There are many corpora, and each takes four turns.
    group.measurement_time(Duration::from_secs(1));
    for corpus in &corpora {
        let expected = corpus.expected();
        group.throughput(Throughput::Bytes(corpus.bytes.len() as u64));
        tally(&mut group, corpus, &expected);
        rival(&mut group, corpus, &expected);
        for workers in [1, 2] {
            engine(&mut group, corpus, &expected, workers);
        }
    }
}

fn tally(group: &mut BenchmarkGroup<'_, WallTime>, corpus: &Corpus, expected: &Expected<'_>) {
    let mut tally = Tally::new(RULE);
    let mut once = |check: bool| {
        tally.push(black_box(&corpus.bytes));
        let time = BatchTime::from_millis(1);
        let batch = tally.cut(time).expect("the ledger closes");
        assert_eq!(batch.stats().tokens, expected.tokens);
        if check {
            expected.assert_batch(&batch, corpus.name);
        }
    };
    once(true);
    group.bench_function(BenchmarkId::new("tally", corpus.name), |bencher| {
        bencher.iter(|| once(false));
    });
}

/// The standard library's map over words found with `memchr`: no unsafe, no copies, a page of code.
fn rival(group: &mut BenchmarkGroup<'_, WallTime>, corpus: &Corpus, expected: &Expected<'_>) {
    fn count(bytes: &[u8]) -> HashMap<&[u8], u64> {
        let mut counts = HashMap::new();
        let mut start = 0;
        for end in memchr::memchr2_iter(SEPARATOR, b'\n', bytes) {
            let mut word = &bytes[start..end];
            if bytes[end] == b'\n' && word.last() == Some(&b'\r') {
                word = &word[..word.len() - 1];
            }
            *counts.entry(word).or_insert(0) += 1;
            start = end + 1;
        }
        counts
    }
    let counts = count(&corpus.bytes);
    expected.assert_equals(counts.into_iter(), 1, corpus.name);
    group.bench_function(BenchmarkId::new("rival-hashmap", corpus.name), |bencher| {
        bencher.iter(|| count(black_box(&corpus.bytes)));
    });
}

/// One engine for all iterations, so that its tables are as warm as after some batches; an iteration is
/// one batch, from its first byte until the publisher has it merged.
fn engine(
    group: &mut BenchmarkGroup<'_, WallTime>,
    corpus: &Corpus,
    expected: &Expected<'_>,
    workers: usize,
) {
    let (batches_in, batches) = mpsc::channel();
    let mut is_first = true;
    let builder = Engine::builder(RULE).workers(workers);
    let started = builder.start(move |batch| {
        // Only the first batch is copied, to be checked: copying is not what is measured.
        let copy = || batch.iter().map(|(k, n)| (k.to_vec(), n)).collect();
        let content: Option<Content> = is_first.then(copy);
        is_first = false;
        // Nobody listens when the engine finishes.
        let _ = batches_in.send((batch.stats().tokens, content.unwrap_or_default()));
    });
    let mut engine = started.expect("the engine starts");
    let mut input = engine.input().expect("one input");
    let mut time_ms = 0;
    let mut once = |batches: &Receiver<(u64, Content)>| {
        input.write_all(&corpus.bytes).expect("the engine runs");
        time_ms += 1;
        let time = BatchTime::from_millis(time_ms);
        engine.cut(time).expect("the engine runs");
        let (tokens, content) = batches.recv().expect("each cut gives a batch");
        assert_eq!(tokens, expected.tokens);
        content
    };
    let content = once(&batches);
    let entries = content.iter().map(|(key, count)| (&key[..], *count));
    expected.assert_equals(entries, 1, corpus.name);
    let name = format!("engine-{workers}");
    group.bench_function(BenchmarkId::new(name, corpus.name), |bencher| {
        bencher.iter(|| once(&batches));
    });
    drop(input);
    engine.finish().expect("the engine ends well");
}

fn loopback(criterion: &mut Criterion) {
    let bytes = corpus::sized(128 << 10, 16 << 20);
    let mut group = criterion.benchmark_group("loopback");
    for kind in [Kind::English, Kind::ZipfMillion, Kind::Log] {
        let corpus = Corpus::of(kind, bytes);
        let Corpus { name, ref bytes } = corpus;
        let expected = corpus.expected();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let shared: Arc<[u8]> = Arc::from(&bytes[..]);

        discard(&shared, 2);
        group.bench_function(BenchmarkId::new("discard", name), |bencher| {
            bencher.iter_custom(|iterations| discard(&shared, iterations));
        });
        stream(&mut group, "count_by_value", &corpus, &expected, |lines| {
            lines.flat_map(split(SEPARATOR)).count_by_value()
        });
        stream(&mut group, "map-reduce", &corpus, &expected, |lines| {
            let words = lines.flat_map(split(SEPARATOR));
            words.map(|word| (word, 1u64)).reduce_by_key(|a, b| a + b)
        });
        if kind == Kind::Log {
            let expected = corpus.expected_fields(LOG_FIELD);
            stream(&mut group, "field", &corpus, &expected, |lines| {
                let paths = lines.map(|line| (field(line, LOG_FIELD), 1u64));
                paths.reduce_by_key(|a, b| a + b)
            });
        }
    }
}

fn stream(
    group: &mut BenchmarkGroup<'_, WallTime>,
    program: &str,
    corpus: &Corpus,
    expected: &Expected<'_>,
    count: impl for<'c> Fn(DStream<'c, Lines>) -> Reduced<'c, u64>,
) {
    let shared: Arc<[u8]> = Arc::from(&corpus.bytes[..]);
    let counts = Arc::new(Mutex::new(BTreeMap::<Vec<u8>, u64>::new()));
    run_stream(&shared, 3, expected, |lines| {
        let counted = count(lines);
        let counts = Arc::clone(&counts);
        counted.for_each_batch(move |batch, _| {
            let mut counts = counts.lock().expect("nobody panicked with it");
            for (key, n) in batch.iter() {
                *counts.entry(key.to_vec()).or_insert(0) += n;
            }
        });
    });
    let counts = counts.lock().expect("nobody panicked with it");
    let entries = counts.iter().map(|(key, count)| (&key[..], *count));
    expected.assert_equals(entries, 3, program);
    group.bench_function(BenchmarkId::new(program, corpus.name), |bencher| {
        bencher.iter_custom(|iterations| {
            run_stream(&shared, iterations, expected, |lines| {
                count(lines).for_each_batch(|batch, _| {
                    black_box(batch.len());
                });
            })
        });
    });
}

/// Counts `times` copies of `bytes` in one connection. Gives the time from the sender's first byte until
/// the last batch was put out; starting and connecting are not in it, growing the tables is.
fn run_stream(
    bytes: &Arc<[u8]>,
    times: u64,
    expected: &Expected<'_>,
    attach: impl Fn(DStream<'_, Lines>),
) -> Duration {
    let (port, start) = send(bytes, times);
    let ssc = StreamingContext::new(INTERVAL).expect("the interval is in range");
    let lines = ssc
        .socket_text_stream_with("127.0.0.1", port, Reconnect::Never)
        .expect("host and port are given");
    attach(lines);
    let running = ssc.start().expect("the context starts");
    running.await_termination().expect("the run ends well");
    let end = Instant::now();
    assert_eq!(running.stats().tokens, expected.tokens * times);
    end - start.recv().expect("the sender began")
}

/// Receives as many bytes and looks at none.
fn discard(bytes: &Arc<[u8]>, times: u64) -> Duration {
    let (port, start) = send(bytes, times);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the sender listens");
    // As large as an engine's block: one read fills it, or takes what there is.
    let mut buf = vec![0; microtally::limits::BLOCK_BYTES_DEFAULT];
    let mut received = 0;
    loop {
        match stream.read(&mut buf).expect("the sender ends the stream") {
            0 => break,
            count => received += count as u64,
        }
    }
    let end = Instant::now();
    assert_eq!(received, bytes.len() as u64 * times);
    end - start.recv().expect("the sender began")
}

/// A thread that sends `times` copies of `bytes` to who connects first. Gives the port, and a channel that
/// tells when the first byte was about to go out.
fn send(bytes: &Arc<[u8]>, times: u64) -> (u16, Receiver<Instant>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let port = listener.local_addr().expect("a bound address").port();
    let (started, start) = mpsc::channel();
    let bytes = Arc::clone(bytes);
    thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("somebody connects");
        started.send(Instant::now()).expect("somebody measures");
        for _ in 0..times {
            // In the pieces that the load generator sends.
            for piece in bytes.chunks(microtally::generate::CHUNK_BYTES_MAX) {
                client
                    .write_all(piece)
                    .expect("the receiver reads to the end");
            }
        }
    });
    (port, start)
}
