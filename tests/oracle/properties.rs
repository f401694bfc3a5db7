//! Any bytes, any cut, any rule, any number of shards and inputs.

use std::io::Write;
use std::sync::mpsc;
use std::time::Duration;

use microtally::config::LineEnds;
use microtally::internals::Kernel;
use microtally::time::BatchTime;
use microtally::{Config, Engine, Rule, Tally};
use proptest::prelude::*;

use crate::definition::{Definition, Expected};

/// What happens next on a connection.
#[derive(Clone, Debug)]
enum Step {
    Push(Vec<u8>),
    Cut,
    End,
}

/// Bytes where separators, line ends, halves of characters and lengths around the packed ones meet.
pub(crate) fn text() -> impl Strategy<Value = Vec<u8>> {
    let nasty = prop::sample::select(&b"  \n\r\t\0\xff\x85\x0b\x0cab"[..]);
    let piece = prop_oneof![
        12 => nasty.prop_map(|byte| vec![byte]),
        2 => Just(b"\r\n".to_vec()),
        2 => prop::sample::select(&["é", "\u{85}", "\u{2028}", "語", "\u{feff}", "🙂"][..])
            .prop_map(|character| character.as_bytes().to_vec()),
        2 => prop::sample::select(&[7usize, 8, 9, 15, 16, 17, 63, 64, 65, 200][..])
            .prop_map(|len| vec![b'w'; len]),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

pub(crate) fn rule() -> impl Strategy<Value = Rule> {
    prop_oneof![
        3 => Just(Rule::Split(b' ')),
        2 => Just(Rule::SplitWhitespace),
        1 => Just(Rule::Lines),
        1 => prop::sample::select(&b",a\0\n\r\xff"[..]).prop_map(Rule::Split),
    ]
}

const ALL_ENDS: [LineEnds; 3] = [LineEnds::Universal, LineEnds::Lf, LineEnds::Nul];

pub(crate) fn line_ends() -> impl Strategy<Value = LineEnds> {
    prop_oneof![2 => Just(LineEnds::Universal), 2 => Just(LineEnds::Lf), 1 => Just(LineEnds::Nul)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![4 => text().prop_map(Step::Push), 1 => Just(Step::Cut), 1 => Just(Step::End)]
}

fn block_bytes() -> impl Strategy<Value = usize> {
    prop::sample::select(&[64usize, 65, 100, 1000, 256 * 1024][..])
}

/// Bytes of one push at most: a single one is the worst cut there is.
fn push_bytes() -> impl Strategy<Value = usize> {
    prop::sample::select(&[1usize, 1, 2, 3, 50, 100_000][..])
}

pub(crate) fn time(index: usize) -> BatchTime {
    BatchTime::from_millis(index as u64)
}

/// A tally with blocks so small that a test can make thousands of them, which counts by a kernel.
fn small_tally(rule: Rule) -> Tally {
    let config = Config::default().block_bytes(64);
    Tally::with_kernel(rule, &config, Kernel::detect()).expect("in range")
}

/// Everything in one batch.
fn counted(bytes: &[u8], rule: Rule) -> Expected {
    let mut tally = small_tally(rule);
    tally.push(bytes);
    tally.end_of_stream();
    Expected::seen(&tally.cut(time(1)).expect("the ledger closes"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn a_tally_is_the_definition_however_it_is_cut(
        rule in rule(),
        line_ends in line_ends(),
        block_bytes in block_bytes(),
        push_bytes in push_bytes(),
        steps in prop::collection::vec(step(), 0..12),
        kernel in any::<prop::sample::Index>(),
    ) {
        let kernels: Vec<Kernel> = Kernel::available().collect();
        let config = Config::default().block_bytes(block_bytes).line_ends(line_ends);
        let with_kernel = Tally::with_kernel(rule, &config, *kernel.get(&kernels));
        // The other one counts small batches without a kernel.
        for tally in [with_kernel, Tally::with_config(rule, &config)] {
            let (mut tally, mut definition) = (tally.expect("in range"), Definition::with_ends(rule, line_ends));
            for step in steps.iter().chain([&Step::Cut, &Step::End, &Step::Cut]) {
                match step {
                    Step::Push(bytes) => {
                        bytes.chunks(push_bytes).for_each(|piece| tally.push(piece));
                        definition.push(bytes);
                    }
                    Step::End => {
                        tally.end_of_stream();
                        definition.end_of_stream();
                    }
                    Step::Cut => {
                        let batch = tally.cut(time(7)).expect("the ledger closes");
                        prop_assert_eq!(batch.time(), time(7));
                        prop_assert_eq!(Expected::seen(&batch), definition.cut());
                    }
                }
            }
        }
    }

    #[test]
    fn above_the_record_limit_exactly_the_longer_words_are_missing(
        rule in rule(),
        line_ends in line_ends(),
        block_bytes in block_bytes(),
        limit in 64usize..210,
        push_bytes in push_bytes(),
        steps in prop::collection::vec(step(), 0..12),
    ) {
        let config = Config::default()
            .block_bytes(block_bytes)
            .record_bytes_max(limit)
            .line_ends(line_ends);
        let mut tally = Tally::with_config(rule, &config).expect("in range");
        let mut definition = Definition::with_ends(rule, line_ends);
        let (mut all, mut oversize_tokens) = (Expected::default(), 0);
        for step in steps.iter().chain([&Step::End, &Step::Cut]) {
            match step {
                Step::Push(bytes) => {
                    bytes.chunks(push_bytes).for_each(|piece| tally.push(piece));
                    definition.push(bytes);
                }
                Step::End => {
                    tally.end_of_stream();
                    definition.end_of_stream();
                }
                // The words of such a line may come in an earlier batch than its end.
                Step::Cut => {
                    let batch = tally.cut(time(1)).expect("the ledger closes");
                    oversize_tokens += batch.stats().oversize_tokens;
                    all = all.plus(Expected::seen(&batch));
                }
            }
        }
        prop_assert_eq!((all, oversize_tokens), definition.cut().without_longer(limit));
    }

    #[test]
    fn doubling_the_input_doubles_every_count(rule in rule(), text in text()) {
        let mut once = text;
        once.push(b'\n');
        let counts = counted(&once, rule);
        prop_assert_eq!(counted(&once.repeat(2), rule), counts.clone().plus(counts));
    }

    #[test]
    fn the_order_of_lines_changes_nothing(
        rule in rule(),
        lines in prop::collection::vec(text(), 0..12),
        keys in prop::collection::vec(any::<u32>(), 12),
    ) {
        let clean = |line: &Vec<u8>| {
            line.iter().map(|&byte| if byte == b'\r' { b'\t' } else { byte }).collect::<Vec<u8>>()
        };
        let lines: Vec<Vec<u8>> = lines.iter().map(clean).collect();
        let mut shuffled: Vec<_> = lines.iter().zip(&keys).collect();
        shuffled.sort_by_key(|(_, key)| **key);
        let shuffled: Vec<Vec<u8>> = shuffled.into_iter().map(|(line, _)| line.clone()).collect();
        let end = |lines: &[Vec<u8>]| lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect::<Vec<u8>>();
        prop_assert_eq!(counted(&end(&lines), rule), counted(&end(&shuffled), rule));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn an_engine_is_the_definition_whatever_its_shards_inputs_and_cuts(
        rule in rule(),
        line_ends in line_ends(),
        workers in 1usize..=8,
        input_count in 1usize..=3,
        // Larger ones cost more to make than to use; `lengths` has them.
        block_bytes in prop::sample::select(&[64usize, 65, 100, 4096][..]),
        push_bytes in push_bytes(),
        steps in prop::collection::vec((0usize..3, step()), 0..16),
        drop_inputs in any::<bool>(),
        low_latency in any::<bool>(),
    ) {
        let mut config = Config::default().workers(workers).pin(false).block_bytes(block_bytes).line_ends(line_ends);
        if low_latency {
            config = config.low_latency(Duration::from_micros(50));
        }
        let builder = Engine::builder(rule).config(config).writers(input_count);
        let (sender, batches) = mpsc::channel();
        let engine = builder.start(move |batch| {
            sender.send((batch.time(), Expected::seen(batch))).expect("it is read below");
        });
        let engine = engine.expect("it starts");
        let mut inputs: Vec<_> = std::iter::from_fn(|| engine.writer().ok()).collect();
        prop_assert_eq!(inputs.len(), input_count);
        let mut definitions = vec![Definition::with_ends(rule, line_ends); input_count];
        let mut expected: Vec<(BatchTime, Expected)> = Vec::new();
        for (index, step) in &steps {
            let index = index % input_count;
            match step {
                Step::Push(bytes) => {
                    for piece in bytes.chunks(push_bytes) {
                        inputs[index].write_all(piece).expect("the engine runs");
                    }
                    // A hint, in any place.
                    inputs[index].flush().expect("the engine runs");
                    definitions[index].push(bytes);
                }
                Step::Cut | Step::End => {
                    engine.cut(time(expected.len())).expect("the engine runs");
                    let sum = definitions.iter_mut().map(Definition::cut).sum();
                    expected.push((time(expected.len()), sum));
                }
            }
        }
        if drop_inputs {
            inputs.clear();
        }
        definitions.iter_mut().for_each(Definition::end_of_stream);
        let finished = engine.finish().expect("the ledger closes");
        let last: Expected = definitions.iter_mut().map(Definition::cut).sum();
        prop_assert_eq!(Expected::seen(&finished.batch()), last.clone());
        expected.push((finished.batch().time(), last));
        let got: Vec<_> = batches.iter().collect();
        prop_assert_eq!(finished.stats().batches, got.len() as u64);
        prop_assert_eq!(finished.stats().bytes, got.iter().map(|(_, batch)| batch.bytes).sum::<u64>());
        prop_assert_eq!(finished.stats().tokens, got.iter().map(|(_, batch)| batch.tokens).sum::<u64>());
        prop_assert_eq!(got, expected);
    }
}

/// Every place a text can be cut at, pushes and batches both: inside `\r\n`, inside characters, at
/// ends.
#[test]
fn a_batch_ends_exactly_where_it_was_cut() {
    let text = "to  be\r\nor\rnot\n\r\n\r\r\n\n é\u{2028}\u{85}語 \0 x\ty\r".as_bytes();
    let cuts = || {
        let pairs = (0..=text.len())
            .flat_map(|first| (first..=text.len()).map(move |second| (first, second)));
        pairs.flat_map(|(first, second)| ALL_ENDS.map(|ends| (first, second, ends)))
    };
    for rule in [
        Rule::Split(b' '),
        Rule::SplitWhitespace,
        Rule::Lines,
        Rule::Split(0x80),
    ] {
        for (first, second, line_ends) in cuts() {
            let config = Config::default().block_bytes(64).line_ends(line_ends);
            let tally = Tally::with_kernel(rule, &config, Kernel::detect());
            let mut tally = tally.expect("in range");
            let mut definition = Definition::with_ends(rule, line_ends);
            for piece in [&text[..first], &text[first..second], &text[second..]] {
                tally.push(piece);
                definition.push(piece);
                let batch = Expected::seen(&tally.cut(time(1)).expect("the ledger closes"));
                assert_eq!(
                    batch,
                    definition.cut(),
                    "{rule:?} {line_ends:?} {first} {second}"
                );
            }
        }
    }
}

#[test]
fn an_empty_stream_and_one_of_separators_only_are_counted() {
    for rule in [Rule::Split(b' '), Rule::SplitWhitespace, Rule::Lines] {
        for text in [
            "",
            " ",
            "   ",
            "\n",
            "\r",
            "\r\n",
            "\n\n",
            " \n \r\n  ",
            "\t\t\t",
            &" ".repeat(700_000),
        ] {
            assert_eq!(
                counted(text.as_bytes(), rule),
                Definition::of(text.as_bytes(), rule),
                "{rule:?}"
            );
        }
    }
    assert_eq!(counted(b"", Rule::Split(b' ')), Expected::default());
    assert_eq!(counted(b"   \n", Rule::Split(b' ')).counts[&b""[..]], 4);
    assert_eq!(counted(b"   \n", Rule::SplitWhitespace).tokens, 0);
}

/// A `\r` that separates is not doubled at the end of a stream, and one that does not is no part of
/// an end.
#[test]
fn a_return_at_the_end_of_a_stream_stays_what_it_is() {
    for rule in [
        Rule::Split(b'\r'),
        Rule::Split(b' '),
        Rule::Lines,
        Rule::SplitWhitespace,
    ] {
        for line_ends in ALL_ENDS {
            for text in ["\r", "a\r", "a\r\r", "a\nb\r", "\r\n\r"] {
                let config = Config::default().block_bytes(64).line_ends(line_ends);
                let mut tally = Tally::with_config(rule, &config).expect("in range");
                tally.push(text.as_bytes());
                tally.end_of_stream();
                let batch = Expected::seen(&tally.cut(time(1)).expect("the ledger closes"));
                let due = Definition::of_ends(text.as_bytes(), rule, line_ends);
                assert_eq!(batch, due, "{rule:?} {line_ends:?} {text:?}");
            }
        }
    }
}
