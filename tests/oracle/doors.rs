//! The same pipelines through every door: `Tally`, `Engine` with one to three shards, and
//! `StreamingContext`.
//!
//! Method: three random pipelines at once on random lines, against a program that uses `Vec`s and a
//! `BTreeMap`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::mpsc::channel;
use std::time::Duration;

use microtally::aggregate::{Aggregate, Count, Distinct, Max, Slab, Sum};
use microtally::error::ErrorKind;
use microtally::sources::Lines;
use microtally::stream::{DStream, LineRecords, Reduced};
use microtally::{Batch, Config, Engine, Rule, StreamingContext, Tally};
use proptest::prelude::*;

use crate::properties::time;

type Counts = BTreeMap<Vec<u8>, u64>;

/// A pipeline as data.
#[derive(Clone, Debug)]
struct Shape {
    /// Keep lines that contain this byte.
    filter: Option<u8>,
    records: Cut,
    fold: Fold,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Line,
    Words(Rule),
    /// The numbered field, by spaces.
    Field(usize),
}

#[derive(Clone, Copy, Debug)]
enum Fold {
    Count,
    /// By the first byte, the sum of the lengths.
    SumLengths,
    /// By the first byte, the greatest length.
    MaxLength,
    /// By the key spelt backwards; empty ones are left out.
    CountReversed,
    /// By the last byte, the number of records with a greater or an equal length than 2.
    CombineLong,
}

fn shape() -> impl Strategy<Value = Shape> {
    let filter = prop::option::of(prop::sample::select(&b"ab \xff"[..]));
    let records = prop_oneof![
        Just(Cut::Line),
        Just(Cut::Words(Rule::Split(b' '))),
        Just(Cut::Words(Rule::SplitWhitespace)),
        (0usize..3).prop_map(Cut::Field),
    ];
    let fold = prop::sample::select(
        &[
            Fold::Count,
            Fold::SumLengths,
            Fold::MaxLength,
            Fold::CountReversed,
            Fold::CombineLong,
        ][..],
    );
    (filter, records, fold).prop_map(|(filter, records, fold)| Shape {
        filter,
        records,
        fold,
    })
}

fn first(record: &[u8]) -> &[u8] {
    &record[..record.len().min(1)]
}

fn last(record: &[u8]) -> &[u8] {
    &record[record.len().saturating_sub(1)..]
}

/// The pipeline, with the operators of streams.
fn built(lines: &DStream<LineRecords>, shape: &Shape) -> Reduced<u64> {
    let filter = shape.filter;
    let kept = lines.filter(move |line| filter.is_none_or(|byte| line.contains(&byte)));
    // Without a filter, lines and words go through the stage that counts whole chunks.
    match (shape.filter, shape.records) {
        (None, Cut::Line) => folded(lines, shape.fold),
        (None, Cut::Words(rule)) => folded(&lines.flat_map(rule), shape.fold),
        (_, Cut::Line) => folded(&kept, shape.fold),
        (_, Cut::Words(rule)) => folded(&kept.flat_map(rule), shape.fold),
        (_, Cut::Field(index)) => folded(&kept.field(index, b' '), shape.fold),
    }
}

fn folded<R: microtally::stream::Records>(records: &DStream<R>, fold: Fold) -> Reduced<u64> {
    let lengths = || records.map(|record| (first(record), record.len() as u64));
    match fold {
        Fold::Count => records.count_by_value(),
        Fold::SumLengths => lengths().reduce_by_key(u64::wrapping_add),
        Fold::MaxLength => lengths().reduce_by_key(u64::max),
        Fold::CountReversed => records
            .map_key(|record, key| {
                key.extend(record.iter().rev());
                (!record.is_empty()).then_some(1u64)
            })
            .reduce_by_key(|a, b| a + b),
        Fold::CombineLong => records
            .map(|record| (last(record), record.len()))
            .combine_by_key(
                |len| u64::from(len >= 2),
                |long, len| long + u64::from(len >= 2),
                |a, b| a + b,
            ),
    }
}

/// The pipeline, the slow and obvious way.
fn expected(lines: &[Vec<u8>], shape: &Shape) -> Counts {
    let kept = lines
        .iter()
        .filter(|line| shape.filter.is_none_or(|byte| line.contains(&byte)));
    let mut counts = Counts::new();
    for record in kept.flat_map(|line| cut(line, shape.records)) {
        let len = record.len() as u64;
        let (key, value) = match shape.fold {
            Fold::Count => (record.clone(), 1),
            Fold::SumLengths | Fold::MaxLength => (first(&record).to_vec(), len),
            Fold::CountReversed if record.is_empty() => continue,
            Fold::CountReversed => (record.iter().rev().copied().collect(), 1),
            Fold::CombineLong => (last(&record).to_vec(), u64::from(len >= 2)),
        };
        let sum = counts.entry(key).or_insert(0);
        *sum = match shape.fold {
            Fold::MaxLength => value.max(*sum),
            _ => value + *sum,
        };
    }
    counts
}

fn cut(line: &[u8], records: Cut) -> Vec<Vec<u8>> {
    let words = |words: &mut dyn Iterator<Item = &[u8]>| words.map(<[u8]>::to_vec).collect();
    match records {
        Cut::Line => vec![line.to_vec()],
        Cut::Words(Rule::SplitWhitespace) => {
            let blanks = |byte: &u8| b" \t\x0b\x0c".contains(byte);
            words(&mut line.split(blanks).filter(|word| !word.is_empty()))
        }
        Cut::Words(_) => words(&mut line.split(|byte| *byte == b' ')),
        Cut::Field(index) => words(&mut line.split(|byte| *byte == b' ').skip(index).take(1)),
    }
}

fn seen(batch: &Batch<'_, u64>) -> Counts {
    let counts: Counts = batch.iter().map(|(key, n)| (key.to_vec(), n)).collect();
    assert_eq!(counts.len(), batch.len(), "a key stands in a batch twice");
    counts
}

fn lines() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let byte = prop::sample::select(&b"aab b\t\0\xff  cd"[..]);
    prop::collection::vec(prop::collection::vec(byte, 0..24), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn all_doors_make_the_same_of_the_same_bytes(
        shapes in prop::array::uniform3(shape()),
        lines in lines(),
        workers in 1usize..=3,
        block_bytes in prop::sample::select(&[64usize, 100, 4096][..]),
        push_bytes in prop::sample::select(&[1usize, 7, 100_000][..]),
        counts_now in any::<bool>(),
    ) {
        let wanted = shapes.each_ref().map(|shape| expected(&lines, shape));
        let text: Vec<u8> = lines.iter().flat_map(|line| [&line[..], b"\n"].concat()).collect();
        let config = Config::default().workers(workers).pin(false).block_bytes(block_bytes);
        let build = |lines: &DStream<LineRecords>| {
            let [a, b, c] = shapes.each_ref().map(|shape| built(lines, shape));
            (a, b, c)
        };

        let mut tally = Tally::pipelines(&config, build).expect("in range");
        for batch in 1..=2 {
            for piece in text.chunks(push_bytes) {
                tally.push(piece);
                if counts_now {
                    tally.count_now();
                }
            }
            let (a, b, c) = tally.cut(time(batch)).expect("the ledger closes");
            prop_assert_eq!(a.stats().records, lines.len() as u64);
            prop_assert_eq!([seen(&a), seen(&b), seen(&c)], wanted.clone());
        }

        let (sender, batches) = channel();
        let engine = Engine::pipelines(build).config(config.clone()).start(move |(a, b, c)| {
            sender.send([seen(a), seen(b), seen(c)]).expect("it is read below");
        });
        let engine = engine.expect("it starts");
        let mut writer = engine.writer().expect("the first");
        for piece in text.chunks(push_bytes) {
            writer.write_all(piece).expect("the engine runs");
        }
        engine.cut(time(1)).expect("the engine runs");
        for line in &lines {
            writer.record(line).expect("the engine runs");
        }
        let finished = engine.finish().expect("the ledger closes");
        let (a, b, c) = finished.batch();
        prop_assert_eq!([seen(&a), seen(&b), seen(&c)], wanted.clone());
        prop_assert_eq!(batches.iter().collect::<Vec<_>>(), vec![wanted.clone(); 2]);

        let context = StreamingContext::one_batch(config).expect("in range");
        let (a, b, c) = build(&context.source_stream(Lines::of(text)));
        let (sender, batches) = channel();
        for (index, table) in [a, b, c].into_iter().enumerate() {
            let sender = sender.clone();
            table.for_each_batch(move |batch, _| {
                sender.send((index, seen(batch))).expect("it is read below");
            });
        }
        drop(sender);
        context.start().expect("it starts").await_termination().expect("the ledger closes");
        let got: BTreeMap<_, _> = batches.iter().collect();
        prop_assert_eq!(got.into_values().collect::<Vec<_>>(), wanted.to_vec());
    }
}

/// By the first byte of a line: lines, the sum of their lengths, the greatest length, and the number
/// of different lengths.
type Lengths = BTreeMap<Vec<u8>, (u64, u128, u64, u64)>;

fn lengths(batch: &Batch<'_, (u64, u128, u64, u64)>) -> Lengths {
    batch
        .iter()
        .map(|(key, value)| (key.to_vec(), value))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn aggregates_go_through_the_doors(
        batches in prop::collection::vec(lines(), 1..4),
        workers in 1usize..=3,
        counts_now in any::<bool>(),
    ) {
        let wanted: Vec<Lengths> = batches.iter().map(|lines| {
            let mut lengths = BTreeMap::<Vec<u8>, Vec<u64>>::new();
            for line in lines {
                lengths.entry(first(line).to_vec()).or_default().push(line.len() as u64);
            }
            lengths.into_iter().map(|(key, all)| {
                let distinct = all.iter().collect::<BTreeSet<_>>().len() as u64;
                let sum = all.iter().map(|&length| u128::from(length)).sum();
                let greatest = *all.iter().max().expect("one");
                (key, (all.len() as u64, sum, greatest, distinct))
            }).collect()
        }).collect();
        let config = Config::default().workers(workers).pin(false).block_bytes(64);
        let build = |lines: &DStream<LineRecords>| {
            let lengths = lines.map(|line| (first(line), line.len() as u64));
            let aggregates = (Count, Sum, Max, Distinct::new());
            (lengths.aggregate_by_key(aggregates), lines.count_by_value())
        };

        let mut tally = Tally::pipelines(&config, build).expect("in range");
        for (number, (lines, wanted)) in batches.iter().zip(&wanted).enumerate() {
            for line in lines {
                tally.push(line);
                tally.push(b"\n");
                if counts_now {
                    tally.count_now();
                }
            }
            let (found, _) = tally.cut(time(number + 1)).expect("the ledger closes");
            prop_assert_eq!(&lengths(&found), wanted);
            prop_assert_eq!(found.len(), wanted.len());
            prop_assert_eq!(found.stats().records, lines.len() as u64);
        }

        let (sender, found) = channel();
        let engine = Engine::pipelines(build).config(config).start(move |(found, _)| {
            sender.send(lengths(found)).expect("it is read below");
        });
        let engine = engine.expect("it starts");
        let mut writer = engine.writer().expect("the first");
        for (number, lines) in batches.iter().enumerate() {
            for line in lines {
                writer.record(line).expect("the engine runs");
            }
            if number + 1 < batches.len() {
                engine.cut(time(number + 1)).expect("the engine runs");
            }
        }
        let finished = engine.finish().expect("the ledger closes");
        prop_assert_eq!(&lengths(&finished.batch().0), wanted.last().expect("one"));
        prop_assert_eq!(found.iter().collect::<Vec<_>>(), wanted);
    }
}

/// An aggregate whose result cannot be computed for the value 7.
#[derive(Clone)]
struct NotSeven;

impl Aggregate<u64> for NotSeven {
    type State = u64;
    type Output = u64;

    fn zero(&self) -> u64 {
        0
    }

    fn add(&self, state: &mut u64, value: u64, _slab: &mut Slab) {
        *state += value;
    }

    fn merge(&self, into: &mut u64, _slab: &mut Slab, from: u64, _other: &Slab) {
        *into += from;
    }

    fn finish(&self, state: u64, _slab: &Slab) -> u64 {
        assert_ne!(state, 7, "seven");
        state
    }
}

#[test]
fn an_aggregate_that_panics_fails_its_batch_and_no_other() {
    let build = |lines: &DStream<LineRecords>| {
        let lengths = lines.map(|line| (&line[..1], line.len() as u64));
        lengths.aggregate_by_key(NotSeven)
    };
    let mut tally = Tally::pipelines(&Config::default(), build).expect("in range");
    tally.push(b"a234567\n");
    let error = tally.cut(time(1)).expect_err("it panics");
    assert_eq!(error.kind(), ErrorKind::UserFunction);
    assert!(error.to_string().contains("seven"), "{error}");
    tally.push(b"b2\n");
    let batch = tally.cut(time(2)).expect("the next batch begins empty");
    assert_eq!((batch.len(), batch.get(b"b")), (1, Some(2)));

    let engine = Engine::pipelines(build).start(|_| ()).expect("it starts");
    let mut writer = engine.writer().expect("the first");
    writer.record(b"a234567").expect("it runs");
    drop(writer);
    let error = engine.finish().expect_err("it panics");
    assert_eq!(error.kind(), ErrorKind::UserFunction);
    assert!(error.to_string().contains("seven"), "{error}");
}

#[test]
fn what_needs_whole_batches_is_refused_by_name() {
    let config = Config::default();
    let window = |lines: &DStream<LineRecords>| {
        let counts = lines.count_by_value().named("lines_seen");
        let second = Duration::from_secs(1);
        let window = counts.reduce_by_key_and_window(|a, b| a + b, second);
        window.expect("in range").named("recently")
    };
    let error = Tally::pipelines(&config, window).expect_err("it is no door for windows");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("recently"), "{error}");
    let error = Engine::pipelines(window)
        .start(|_| ())
        .expect_err("as above");
    assert!(error.to_string().contains("recently"), "{error}");
    let printed = |lines: &DStream<LineRecords>| {
        let counts = lines.count_by_value();
        counts.pprint(10);
        counts
    };
    let error = Tally::pipelines(&config, printed).expect_err("it is no door for outputs");
    assert!(error.to_string().contains("pprint"), "{error}");
}

/// The batch fails, its bytes are accounted for, and the next one is complete.
#[test]
fn a_function_that_panics_fails_its_batch_by_name() {
    let build = |lines: &DStream<LineRecords>| {
        let checked = lines.map(|line| {
            assert_ne!(line, b"bad", "no such line");
            (line, 1u64)
        });
        let checked = checked.reduce_by_key(|a, b| a + b).named("checked");
        (checked, lines.count_by_value())
    };
    let mut tally = Tally::pipelines(&Config::default(), build).expect("in range");
    tally.push(b"good\nbad\ngood\n");
    let error = tally.cut(time(1)).expect_err("a function panicked");
    assert_eq!(error.kind(), ErrorKind::UserFunction);
    let message = error.to_string();
    assert!(
        message.contains("in checked: ") && message.contains("no such line"),
        "{message}"
    );
    tally.push(b"good\n");
    let (checked, all) = tally.cut(time(2)).expect("this one is good");
    assert_eq!((checked.get(b"good"), all.get(b"good")), (Some(1), Some(1)));
    assert_eq!((all.len(), all.stats().batch), (1, 2));

    let (sender, batches) = channel();
    let engine = Engine::pipelines(build).config(Config::default().workers(1).pin(false));
    let engine = engine.start(move |(checked, all)| {
        sender
            .send((checked.get(b"good"), all.len()))
            .expect("it is read below");
    });
    let engine = engine.expect("it starts");
    let mut writer = engine.writer().expect("the first");
    writer.record(b"bad").expect("the engine runs");
    engine.cut(time(1)).expect("the engine runs");
    writer.record(b"good").expect("the engine goes on");
    let (finished, outcome) = engine.finish_anyway();
    assert_eq!(
        outcome.expect_err("it failed").kind(),
        ErrorKind::UserFunction
    );
    assert_eq!(batches.iter().collect::<Vec<_>>(), [(Some(1), 1)]);
    assert_eq!(finished.batch().0.get(b"good"), Some(1));
    assert_eq!(finished.stats().records, 2);
}

#[test]
fn with_a_seed_equal_runs_visit_keys_in_equal_order() {
    let text: Vec<u8> = (0..5000)
        .flat_map(|n| format!("key {n}\n").into_bytes())
        .collect();
    let build =
        |lines: &DStream<LineRecords>| (lines.count_by_value(), lines.split(b' ').count_by_value());
    let order = |batch: &Batch<'_, u64>| {
        batch
            .iter()
            .map(|(key, _)| key.to_vec())
            .collect::<Vec<_>>()
    };
    let run = |seed| {
        let config = Config::default()
            .seed(seed)
            .workers(2)
            .pin(false)
            .block_bytes(4096);
        let mut tally = Tally::pipelines(&config, build).expect("in range");
        tally.push(&text);
        let (a, b) = tally.cut(time(1)).expect("the ledger closes");
        let of_tally = [order(&a), order(&b)];
        let engine = Engine::pipelines(build)
            .config(config)
            .start(|_| ())
            .expect("it starts");
        let mut writer = engine.writer().expect("the first");
        writer.write_all(&text).expect("the engine runs");
        drop(writer);
        let finished = engine.finish().expect("the ledger closes");
        let (a, b) = finished.batch();
        (of_tally, [order(&a), order(&b)])
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).0, run(8).0);
}
