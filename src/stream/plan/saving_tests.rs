//! Goal: a program that was saved and loaded by another run goes on as if nothing had happened.
//!
//! Method: programs run batch by batch on this thread, without an engine. One run is never
//! interrupted. Another ends after some batches, and a third, of the same program, loads its
//! states.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;

use crate::aggregate::{Count, Distinct, Max, Mean, Min, Percentile, Percentiles, Sum};
use crate::batch::BatchStats;
use crate::config::Dialect;
use crate::engine::control::Control;
use crate::engine::plan::{Merged, NamedPipeline, Output};
use crate::epoch::barrier::Barrier;
use crate::epoch::hand_over::{NodeTable, Tables};
use crate::error::lock;
use crate::metrics::Metrics;
use crate::notice::Notices;
use crate::ring::arena::Arena;
use crate::save::Saved;
use crate::shard::stage::LineRecords;
use crate::split::Kernel;
use crate::stream::plan::builder::PlanBuilder;
use crate::stream::plan::graph::{Graph, Launch};
use crate::stream::program::dstream::DStream;
use crate::stream::program::listener::{ListenerBus, Reporter};
use crate::stream::program::rdd_stream::RddStream;
use crate::stream::program::reduced::Reduced;
use crate::stream::{Record, State, StateSpec};
use crate::table::bound::MemoryCap;
use crate::table::keys::Seed;
use crate::time::{BatchTime, Clock};

/// What came out: the output, the batch, the records in some order.
type SheetRows = Vec<(&'static str, u64, Vec<String>)>;

/// Where outputs put what came.
#[derive(Clone, Default)]
struct Sheet(Arc<Mutex<SheetRows>>);

impl Sheet {
    fn records<T: Record + Debug>(&self, name: &'static str, stream: &RddStream<T>) {
        let sheet = self.clone();
        stream.for_each_batch(move |rdd, time| {
            sheet.put(name, time, rdd.iter().map(|record| format!("{record:?}")));
        });
    }

    fn table<V: Copy + Debug + Send + Sync + 'static>(
        &self,
        name: &'static str,
        stream: &Reduced<V>,
    ) {
        let sheet = self.clone();
        stream.for_each_batch(move |batch, time| {
            let rows = batch.iter().map(|row| format!("{row:?}"));
            let stats = batch.stats();
            let stats = format!("{} records, {} tokens", stats.records, stats.tokens);
            sheet.put(name, time, rows.chain([stats]));
        });
    }

    fn put(&self, name: &'static str, time: BatchTime, rows: impl Iterator<Item = String>) {
        let mut rows: Vec<String> = rows.collect();
        rows.sort();
        lock(&self.0).push((name, time.as_millis(), rows));
    }

    fn take(&self) -> SheetRows {
        std::mem::take(&mut lock(&self.0))
    }
}

/// One run of a program.
struct Run {
    pipelines: Vec<NamedPipeline>,
    graph: Graph,
    seed: Seed,
    control: Arc<Control>,
    sheet: Sheet,
    batches: u64,
}

type SavedProgram = fn(DStream<LineRecords>, &Sheet);

impl Run {
    fn new(dialect: Dialect, program: SavedProgram) -> Self {
        let plan = PlanBuilder::new(1000, None);
        plan.set_dialect(dialect);
        let sheet = Sheet::default();
        program(plan.lines("lines"), &sheet);
        let launch = Launch {
            now: Duration::ZERO,
            notices: &Notices::default(),
            metrics: &Metrics::default(),
            remember_ms: None,
            memory_bytes_max: None,
            fails_fast: false,
            reporter: Reporter::new(ListenerBus::default(), Clock::manual(Duration::ZERO)),
            source_names: Vec::new(),
            load_from: None,
            save_to: None,
        };
        let plan = plan.finish().expect("names fit");
        let (pipelines, graph) = plan.start(launch).expect("nothing is loaded");
        Run {
            pipelines,
            graph,
            seed: Seed::random(),
            control: Control::new(Arc::new(|| ())),
            sheet,
            batches: 0,
        }
    }

    /// Makes the next batch, of a text that ends with a line end.
    fn batch(&mut self, text: &str) {
        self.batches += 1;
        let time = BatchTime::from_millis(self.batches * 1000);
        let (mut nodes, mut all_stats) = (Vec::<NodeTable>::new(), Vec::new());
        for NamedPipeline { pipeline, .. } in &self.pipelines {
            let partial = pipeline.partial(self.seed, MemoryCap::NONE);
            let mut tables = Tables::new([partial].into_iter());
            let mut node = tables.nodes.remove(0);
            let mut stage = pipeline.stage(Kernel::detect(), self.seed, MemoryCap::NONE);
            if !text.is_empty() {
                let mut block = Arena::new(text.len(), 1).expect("memory").block();
                block.append(text.as_bytes());
                node.tallied = stage.block(&block, node.partial.as_mut());
            }
            stage.flush(node.partial.as_mut());
            all_stats.push(BatchStats {
                time,
                records: node.tallied.records,
                tokens: node.tallied.tokens,
                ..BatchStats::default()
            });
            nodes.push(node);
        }
        let mut epoch = Merged {
            barrier: Barrier {
                epoch: self.batches,
                time,
                last: false,
            },
            nodes: &mut nodes,
            stats: &all_stats,
            positions: None,
            clock: &Clock::manual(Duration::ZERO),
            control: &self.control,
        };
        self.graph.emit(&mut epoch).expect("no sink fails");
    }

    fn saved(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.graph
            .save(&[], &mut bytes)
            .expect("all states can be saved");
        bytes
    }

    /// Another run of the program, which goes on behind this one.
    fn resumed(&self, dialect: Dialect, program: SavedProgram) -> Run {
        let mut run = Run::new(dialect, program);
        run.graph
            .load(&mut &self.saved()[..])
            .expect("it was saved");
        run.batches = self.batches;
        run
    }
}

/// The words of a line are keys, its length is a value.
fn pairs(lines: &DStream<LineRecords>) -> RddStream<(Vec<u8>, u64)> {
    lines
        .split(b' ')
        .map_to(|word| (word.to_vec(), word.len() as u64))
}

fn seconds(length: u64, slide: u64) -> (Duration, Duration) {
    (Duration::from_secs(length), Duration::from_secs(slide))
}

fn add(a: u64, b: u64) -> u64 {
    a.wrapping_add(b)
}

fn subtract(a: u64, b: u64) -> u64 {
    a.wrapping_sub(b)
}

/// Tables: sums so far, and windows of every shape.
fn tables(lines: DStream<LineRecords>, sheet: &Sheet) {
    let counts = lines.split(b' ').count_by_value();
    sheet.table("so far", &counts.reduce_by_key_so_far(add));
    for (name, length, slide) in [
        ("1/1", 1, 1),
        ("6/1", 6, 1),
        ("6/2", 6, 2),
        ("7/2", 7, 2),
        ("5/3", 5, 3),
        ("1/3", 1, 3),
    ] {
        let window = seconds(length, slide);
        let highest = counts.reduce_by_key_and_window(u64::max, window);
        sheet.table(name, &highest.expect("it fits"));
        let sums = counts.reduce_by_key_and_window_with_inverse(add, subtract, window);
        sheet.table(name, &sums.expect("it fits"));
        let filtered = lines.count_by_value_and_window(window);
        sheet.table(name, &filtered.expect("it fits"));
    }
    // A window of sums so far.
    let sums = counts.reduce_by_key_so_far(add);
    let window = sums.reduce_by_key_and_window(u64::max, seconds(4, 2));
    sheet.table("of sums", &window.expect("it fits"));
    let means = lines.map(|line| (&line[..line.len().min(1)], (1u64, line.len() as u64)));
    let means = means.reduce_by_key(|a, b| (a.0 + b.0, a.1 + b.1));
    let means = means.reduce_by_key_so_far(|a, b| (a.0 + b.0, a.1 + b.1));
    sheet.table("pairs", &means.checkpointed());
}

/// Aggregates so far and in windows, with `remove` and without.
fn aggregates(lines: DStream<LineRecords>, sheet: &Sheet) {
    let values = || lines.map(|line| (&line[..line.len().min(1)], line.len() as i64));
    let removable = (Count, Sum, Mean, Percentile::new(90.0));
    let removable = values().aggregate_by_key(removable);
    let lengths = Percentiles::new([0.0, 50.0]);
    let others = (Min, Max, Distinct::with_seed(1), lengths);
    let others = values().aggregate_by_key(others);
    sheet.table("so far", &removable.so_far());
    sheet.table("so far", &others.so_far());
    for (length, slide) in [(1, 1), (6, 1), (6, 2), (7, 2), (5, 3), (1, 3)] {
        let window = seconds(length, slide);
        sheet.table("window", &removable.window(window).expect("it fits"));
        sheet.table("window", &others.window(window).expect("it fits"));
    }
}

/// A state of a type that the crate does not know.
#[derive(Clone, Debug)]
struct Longest(String, u64);

impl Saved for Longest {
    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        self.0.save(to)?;
        self.1.save(to)
    }

    fn load(from: &mut dyn Read) -> io::Result<Self> {
        Ok(Longest(Saved::load(from)?, Saved::load(from)?))
    }
}

/// States and windows of records.
fn records(lines: DStream<LineRecords>, sheet: &Sheet) {
    let pairs = pairs(&lines);
    let sums = pairs.update_state_by_key(|new, sum: Option<u64>| {
        let sum = sum.unwrap_or_default() + new.iter().sum::<u64>();
        // Some are forgotten.
        (!sum.is_multiple_of(7)).then_some(sum)
    });
    sheet.records("update_state_by_key", &sums);
    sheet.records(
        "a window of states",
        &sums.window(seconds(3, 1)).expect("it fits"),
    );
    let longest = pairs.update_state_by_key(|new, _: Option<Longest>| {
        Some(Longest(format!("{new:?}"), new.len() as u64))
    });
    sheet.records("own type", &longest.checkpointed());
    let function = |_, key: &Vec<u8>, value: Option<&u64>, state: &mut State<u64>| {
        let sum = state.get_option().copied().unwrap_or_default();
        if let Some(value) = value {
            state.update(sum + value);
        }
        Some((key.clone(), sum, value.is_none()))
    };
    let initial = [(b"initial".to_vec(), 5)];
    let spec = StateSpec::function(function).initial_state(initial);
    let mapped = pairs.map_with_state(spec.timeout(Duration::from_secs(2)));
    sheet.records("map_with_state", &mapped);
    sheet.records("state_snapshots", &mapped.state_snapshots());
    let lengths = lines.map_to(|line| line.len() as u64);
    for window in [seconds(4, 1), seconds(5, 2), seconds(1, 3)] {
        let fits = "it fits";
        sheet.records("window", &lines.window(window).expect(fits));
        sheet.records(
            "count_by_window",
            &lines.count_by_window(window).expect(fits),
        );
        let highest = lengths.reduce_by_window(u64::max, window);
        sheet.records("reduce_by_window", &highest.expect(fits));
        let sums = pairs.reduce_by_key_and_window(add, window);
        sheet.records("reduce_by_key_and_window", &sums.expect(fits));
        let sums = pairs.reduce_by_key_and_window_with_inverse(add, subtract, window);
        sheet.records("with_inverse", &sums.expect(fits));
        let sums = pairs.reduce_by_key_and_window_with_inverse_and_filter(
            add,
            subtract,
            window,
            |_, sum| *sum != 0,
        );
        sheet.records("and_filter", &sums.expect(fits));
    }
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    let line = proptest::collection::vec("[a-d]{1,3}|a word that is longer", 1..5);
    let line = line.prop_map(|words| words.join(" ") + "\n");
    let text = proptest::collection::vec(line, 0..4).prop_map(|lines| lines.concat());
    proptest::collection::vec(text, 1..14)
}

fn dialects() -> impl Strategy<Value = Dialect> {
    prop_oneof![Just(Dialect::Scala), Just(Dialect::PySpark)]
}

fn check(dialect: Dialect, program: SavedProgram, texts: &[String], cuts: &[usize]) {
    let mut whole = Run::new(dialect, program);
    texts.iter().for_each(|text| whole.batch(text));
    let expected = whole.sheet.take();

    let mut run = Run::new(dialect, program);
    let (mut seen, mut cuts) = (Vec::new(), VecDeque::from(cuts.to_vec()));
    for (index, text) in texts.iter().enumerate() {
        if cuts.front() == Some(&index) {
            cuts.pop_front();
            seen.extend(run.sheet.take());
            run = run.resumed(dialect, program);
        }
        run.batch(text);
    }
    seen.extend(run.sheet.take());
    assert_eq!(seen, expected);
}

/// Up to three places in increasing order.
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::btree_set(0usize..14, 1..4).prop_map(|cuts| cuts.into_iter().collect())
}

proptest! {
    #[test]
    fn tables_go_on(texts in texts(), cuts in cuts(), dialect in dialects()) {
        check(dialect, tables, &texts, &cuts);
    }

    #[test]
    fn records_go_on(texts in texts(), cuts in cuts(), dialect in dialects()) {
        check(dialect, records, &texts, &cuts);
    }

    #[test]
    fn aggregates_go_on(texts in texts(), cuts in cuts()) {
        check(Dialect::Scala, aggregates, &texts, &cuts);
    }

    #[test]
    fn damaged_states_are_errors_or_states(
        texts in texts(),
        at in any::<prop::sample::Index>(),
        byte in 1u8..,
        program in 0usize..3,
    ) {
        let program = [tables as SavedProgram, records, aggregates][program];
        let mut run = Run::new(Dialect::Scala, program);
        texts.iter().for_each(|text| run.batch(text));
        let bytes = run.saved();
        let at = at.index(bytes.len());
        let load = |bytes: &[u8]| Run::new(Dialect::Scala, program).graph.load(&mut &bytes[..]);
        prop_assert!(load(&bytes[..at]).is_err(), "cut off at {}", at);
        let mut flipped = bytes.clone();
        flipped[at] ^= byte;
        // Whether a number is the right one, only a checksum knows. There is no panic.
        let loaded = load(&flipped);
        prop_assert!(at >= 16 || loaded.is_err(), "the header is wrong");
    }
}

fn unsavable(lines: DStream<LineRecords>, sheet: &Sheet) {
    let pairs = pairs(&lines);
    let longest = pairs.update_state_by_key(|_, _: Option<Longest>| None);
    sheet.records("longest", &longest.named("longest words"));
}

fn random_seed(lines: DStream<LineRecords>, sheet: &Sheet) {
    let values = lines.map(|line| (&line[..1], line.len()));
    sheet.table("users", &values.aggregate_by_key(Distinct::new()).so_far());
}

fn seeded(lines: DStream<LineRecords>, sheet: &Sheet, seed: u64) {
    let values = lines.map(|line| (&line[..1], line.len()));
    let distinct = values.aggregate_by_key((Count, Distinct::with_seed(seed)));
    sheet.table("users", &distinct.so_far().named("users"));
}

#[test]
fn distinct_values_need_the_same_seed() {
    let error = Run::new(Dialect::Scala, random_seed)
        .graph
        .save(&[], &mut Vec::new());
    let error = error.expect_err("nobody knows the seed").to_string();
    assert!(
        error.ends_with("choose a seed for its distinct values, by `Distinct::with_seed`"),
        "{error}"
    );
    let mut run = Run::new(Dialect::Scala, |lines, sheet| seeded(lines, sheet, 1));
    run.batch("a\n");
    let bytes = run.saved();
    let mut other = Run::new(Dialect::Scala, |lines, sheet| seeded(lines, sheet, 2));
    let error = other.graph.load(&mut &bytes[..]).expect_err("another seed");
    let message = "stream users cannot be loaded: its distinct values have another seed";
    assert_eq!(error.to_string(), message);
}

fn other(lines: DStream<LineRecords>, sheet: &Sheet) {
    sheet.table("so far", &lines.count_by_value().reduce_by_key_so_far(add));
}

#[test]
fn a_state_that_cannot_be_saved_is_named() {
    let run = Run::new(Dialect::Scala, unsavable);
    let error = run
        .graph
        .save(&[], &mut Vec::new())
        .expect_err("nobody knows how");
    let message = "stream longest words: its state cannot be saved; call `checkpointed` on it";
    assert_eq!(error.to_string(), message);
}

#[test]
fn the_states_of_another_program_are_refused() {
    let bytes = Run::new(Dialect::Scala, tables).saved();
    let mut run = Run::new(Dialect::Scala, other);
    let error = run.graph.load(&mut &bytes[..]).expect_err("it is another");
    assert!(error.to_string().contains("another program"), "{error}");
    let mut newer = run.saved();
    newer[7] += 1;
    let error = run.graph.load(&mut &newer[..]).expect_err("it is newer");
    assert!(error.to_string().contains("it has version 2"), "{error}");
}

fn fails_at_three(lines: DStream<LineRecords>, sheet: &Sheet) {
    let sums = pairs(&lines).update_state_by_key(|new, sum: Option<u64>| {
        let sum = sum.unwrap_or_default() + new.iter().sum::<u64>();
        assert!(sum != 3, "three");
        Some(sum)
    });
    sheet.records("sums", &sums);
}

#[test]
fn a_state_that_lacks_a_failed_batch_is_not_saved() {
    let mut run = Run::new(Dialect::Scala, fails_at_three);
    run.batch("ab\n");
    run.saved();
    run.batch("abc\n");
    let error = run
        .graph
        .save(&[], &mut Vec::new())
        .expect_err("it lacks something");
    let message =
        "stream update_state_by_key cannot be saved: a batch that failed is missing in it";
    assert_eq!(error.to_string(), message);
}
