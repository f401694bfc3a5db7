//! `pipeline`: from bytes to a batch. Over TCP, and beside rivals: `microtally bench`.
//!
//! `tally` counts in the calling thread, `engine` is fed from memory. `closures` has one shard's
//! share of such programs: the tutorial's closures, a value of another type, a filter, and closures
//! that nothing can be known about. `fields` has one shard's share of counting a field of each log
//! line, and what to hold it against: whole lines, all words, and `lines/split`, where lines are
//! found and nothing is done with them.

mod corpus;

use std::hint::black_box;
use std::io::Write;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use microtally::internals::{Arena, Block, FilterMap, Kernel, Seed, SoloPipeline};
use microtally::stream::{LineRecords, Tokens};
use microtally::time::BatchTime;
use microtally::{Engine, Rule, Tally};

use corpus::{Corpus, Expected, Kind, LOG_FIELD, SEPARATOR, field};

const RULE: Rule = Rule::Split(SEPARATOR);

/// A copy of a batch.
type Content = Vec<(Vec<u8>, u64)>;

fn main() {
    let mut criterion = corpus::criterion(Duration::from_secs(2));
    in_memory(&mut criterion);
    closures(&mut criterion);
    fields(&mut criterion);
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
    let mut run = |name: &str, pipeline, keys| solo(&mut group, name, &blocks, pipeline, keys);
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
        LineRecords,
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
    let mut run = |name: &str, pipeline, keys| solo(&mut group, name, &blocks, pipeline, keys);
    let no_lines = FilterMap::of(LineRecords, |_| None);
    let split = SoloPipeline::keyed(no_lines, |line| (line, 1), add, kernel, seed);
    run("lines/split", split, Some(0));
    run(
        "lines",
        SoloPipeline::counting(Rule::Lines, kernel, seed),
        None,
    );
    run("words", SoloPipeline::counting(RULE, kernel, seed), None);
    // The time of a request, which no two share; one of 16 hosts; one of 100 000 paths; one of 5
    // statuses.
    for number in [0, 2, LOG_FIELD, 6] {
        let keys = Some(corpus.expected_fields(number).counts.len());
        let rule = Rule::Split(SEPARATOR);
        let separated = FilterMap::of(LineRecords, move |line| rule.part(line, number));
        let separated = SoloPipeline::keyed(separated, |key| (key, 1), add, kernel, seed);
        run(&format!("field:{}", number + 1), separated, keys);
        let rule = Rule::SplitWhitespace;
        let blanks = FilterMap::of(LineRecords, move |line| rule.part(line, number));
        let blanks = SoloPipeline::keyed(blanks, |key| (key, 1), add, kernel, seed);
        run(&format!("field-whitespace:{}", number + 1), blanks, keys);
        let copy = move |line: &[u8], key: &mut Vec<u8>| {
            key.extend_from_slice(field(line, number));
            Some(1)
        };
        let copied = SoloPipeline::computed(LineRecords, copy, add, kernel, seed);
        run(&format!("map_key:{}", number + 1), copied, keys);
    }
    group.finish();
}

/// One shard's share: counts all blocks as one batch, which has `keys` different keys.
fn solo(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    blocks: &[Block],
    mut pipeline: SoloPipeline<u64>,
    keys: Option<usize>,
) {
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            for block in blocks {
                pipeline.block(black_box(block));
            }
            let found = pipeline.cut().len();
            assert!(keys.is_none_or(|keys| keys == found), "{name}");
            pipeline.clear();
        });
    });
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
    // There are many corpora, and each takes three turns.
    group.measurement_time(Duration::from_secs(1));
    for corpus in &corpora {
        let expected = corpus.expected();
        group.throughput(Throughput::Bytes(corpus.bytes.len() as u64));
        tally(&mut group, corpus, &expected);
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

/// One engine for all iterations, so that its tables are as warm as after some batches; an
/// iteration is one batch, from its first byte until the publisher has it merged.
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
    let engine = started.expect("the engine starts");
    let mut input = engine.writer().expect("one input");
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
