//! Positions: what is read again from them is what was not in the batch.

use proptest::prelude::*;

use super::*;
use crate::intake::rig::IntakeRig;
use crate::limits::HELD_BYTES_DEFAULT;
use crate::split::{BlockBytes, Kernel, Rule, Splitter, scalar};

const LIMIT: usize = 12;

/// What came out of some reading: the tokens, and all that is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct CountedRead {
    /// Sorted.
    tokens: Vec<Vec<u8>>,
    records: u64,
    oversize_tokens: u64,
    oversize_bytes: u64,
}

impl CountedRead {
    fn of(bytes: &[u8], rig: &IntakeRig, delimiters: Delimiters) -> CountedRead {
        let Delimiters { rule, line_ends } = delimiters;
        let mut tokens = Vec::new();
        scalar::tokens(bytes, rule, line_ends, &mut |token: &[u8]| {
            tokens.push(token.to_vec());
        });
        let mut before = 0;
        let ends = bytes.iter().filter(|&&byte| {
            let is_pair = line_ends.may_pair(before) && byte == b'\n';
            before = byte;
            line_ends.is_end(byte) && !is_pair
        });
        let ends = ends.count() as u64;
        let intake = rig.channels.intake();
        CountedRead {
            tokens,
            records: ends + intake.records_ended,
            oversize_tokens: intake.oversize_tokens,
            oversize_bytes: intake.oversize_bytes,
        }
        .sorted()
    }

    fn sorted(mut self) -> CountedRead {
        self.tokens.sort();
        self
    }

    fn plus(mut self, other: CountedRead) -> CountedRead {
        self.tokens.extend(other.tokens);
        self.records += other.records;
        self.oversize_tokens += other.oversize_tokens;
        self.oversize_bytes += other.oversize_bytes;
        self.sorted()
    }
}

/// Reads `texts`, one a channel, from these positions on: as many bytes at a time, of the channel
/// whose turn it is, as `reads` say, and then all of the rest if it `is_to_end`. Returns what came
/// out, and the positions.
fn read(
    delimiters: Delimiters,
    blocks: &[usize],
    texts: &[Vec<u8>],
    from: &Positions,
    reads: &[(usize, usize)],
    is_to_end: bool,
) -> (CountedRead, Positions) {
    let mut rig = IntakeRig::new(delimiters, LIMIT, HELD_BYTES_DEFAULT, blocks);
    let mut channels: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let name = index.to_string();
            let position = from.get(&name).unwrap_or_default();
            let channel = rig.give(|out| out.open_at(&name, position));
            (channel, &text[position.offset() as usize..])
        })
        .collect();
    let mut step = |index: usize, count: usize| {
        let (channel, rest) = &mut channels[index];
        let count = rig.give(|out| out.write(*channel, &rest[..count.min(rest.len())]));
        *rest = &rest[count..];
        !rest.is_empty()
    };
    for &(index, count) in reads {
        step(index % texts.len(), count);
    }
    let mut out = Vec::new();
    if is_to_end {
        for index in 0..texts.len() {
            while step(index, usize::MAX) {}
        }
        out = rig.finish();
    }
    out.extend(rig.take());
    let mut positions = Positions::default();
    rig.channels.take_positions(&mut positions);
    (CountedRead::of(&out, &rig, delimiters), positions)
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "x{1,3}",
        2 => "x{10,14}",
        2 => Just(" ".to_owned()),
        2 => Just("\n".to_owned()),
        1 => Just("\r".to_owned()),
        1 => Just("\r\n".to_owned()),
        1 => Just("\0".to_owned()),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat().into_bytes())
}

fn delimiters() -> impl Strategy<Value = Delimiters> {
    let rule = prop_oneof![
        Just(Rule::Lines),
        Just(Rule::Split(b' ')),
        Just(Rule::SplitWhitespace)
    ];
    let line_ends = prop_oneof![
        Just(LineEnds::Universal),
        Just(LineEnds::Lf),
        Just(LineEnds::Nul)
    ];
    (rule, line_ends).prop_map(|(rule, line_ends)| Delimiters { rule, line_ends })
}

fn reads() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((0..3usize, 0..20usize), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn reading_again_from_a_position_gives_what_was_not_in_the_batches(
        delimiters in delimiters(),
        texts in prop::collection::vec(text(), 1..4),
        blocks in prop::collection::vec(1..40usize, 1..3),
        runs in prop::collection::vec(reads(), 1..4),
    ) {
        let start = Positions::default();
        let (whole, ends) = read(delimiters, &blocks, &texts, &start, &[], true);
        for (name, position) in ends.iter() {
            let text = &texts[name.parse::<usize>().expect("a number")];
            prop_assert_eq!(position.offset(), text.len() as u64);
        }
        let (mut sum, mut positions) = (CountedRead::default(), start);
        for (index, reads) in runs.iter().enumerate() {
            let is_last = index + 1 == runs.len();
            let (part, reached) = read(delimiters, &blocks, &texts, &positions, reads, is_last);
            sum = sum.plus(part);
            positions = reached;
        }
        prop_assert_eq!(sum, whole);
    }
}

/// What is filled in: a piece of a line channel, or a record of the channel of records.
#[derive(Clone, Debug)]
enum Filled {
    Piece(usize, Vec<u8>),
    Record(Vec<u8>),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Two channels of lines and one of records share blocks, and none knows of the others.
    #[test]
    fn records_of_any_bytes_stay_whole_between_the_lines_of_others(
        delimiters in delimiters(),
        filled in prop::collection::vec(prop_oneof![
            (0..2usize, text()).prop_map(|(index, text)| Filled::Piece(index, text)),
            text().prop_map(Filled::Record),
        ], 0..24),
        blocks in prop::collection::vec(1..60usize, 1..3),
    ) {
        let (rule, line_ends) = (Rule::Lines, delimiters.line_ends);
        let delimiters = Delimiters { rule, line_ends };
        let mut rig = IntakeRig::new(delimiters, LIMIT, HELD_BYTES_DEFAULT, &blocks);
        let channels = rig.give(|out| [out.open(), out.open(), out.open()]);
        let (mut lines, mut expected, mut dropped) = ([Vec::new(), Vec::new()], Vec::new(), 0);
        for filled in &filled {
            match filled {
                Filled::Piece(index, text) => {
                    let mut rest = &text[..];
                    while !rest.is_empty() {
                        let count = rig.give(|out| out.write(channels[*index], rest));
                        rest = &rest[count..];
                    }
                    lines[*index].extend_from_slice(text);
                }
                Filled::Record(record) => {
                    let (is_taken, taken) = rig.fill(|out| out.record(channels[2], record));
                    prop_assert!(is_taken && taken.misuse.is_none());
                    match record.len() <= LIMIT {
                        true => expected.push(record.clone()),
                        false => dropped += 1,
                    }
                }
            }
        }
        rig.give(|out| channels.map(|channel| out.close(channel, true)));
        for text in &lines {
            // An unterminated last line is a record.
            let mut text = text.clone();
            if text.last().is_some_and(|&last| !line_ends.is_end(last)) {
                text.extend_from_slice(delimiters.end_behind(&text));
            }
            scalar::tokens(&text, rule, line_ends, |line: &[u8]| match line.len() <= LIMIT {
                true => expected.push(line.to_vec()),
                false => dropped += 1,
            });
        }
        let (bytes, whole) = rig.take_content();
        let block = BlockBytes { bytes: &bytes, whole: &whole };
        let mut records = Vec::new();
        let kernel = Kernel::detect().with_line_ends(line_ends);
        Splitter::new(rule, kernel).tokens(block, |record| records.push(record.to_vec()));
        records.sort();
        expected.sort();
        prop_assert_eq!(records, expected);
        prop_assert_eq!(rig.channels.intake().oversize_tokens, dropped);
    }
}

#[test]
fn a_channel_that_has_closed_has_a_position_once_more() {
    let mut rig = IntakeRig::of_lines(64);
    let (a, b) = rig.give(|out| {
        let a = out.open_at("a", Position::from(100));
        (a, out.open_at("b", Position::default()))
    });
    rig.give(|out| {
        out.write(a, b"one\ntw");
        out.write(b, b"three\n");
        out.close(a, true);
    });
    let mut positions = || {
        let (mut positions, _) = (Positions::default(), rig.take());
        rig.channels.take_positions(&mut positions);
        positions
    };
    let taken = positions();
    assert_eq!(taken.get("a"), Some(Position::from(106)));
    assert_eq!(taken.get("b"), Some(Position::from(6)));
    let taken = positions();
    assert_eq!((taken.get("a"), taken.iter().count()), (None, 1));
}

#[test]
fn a_position_that_a_source_reports_is_the_channels() {
    let mut rig = IntakeRig::of_lines(64);
    let sequence = Position::from_words([1, 2, 3]);
    let (_, taken) = rig.fill(|out| {
        let channel = out.open_at("shard", Position::from(7));
        out.write(channel, b"one\n");
        out.reached(channel, sequence);
        out.write(channel, b"two\n");
    });
    assert_eq!(taken.misuse, None);
    let mut positions = Positions::default();
    rig.take();
    rig.channels.take_positions(&mut positions);
    assert_eq!(positions.get("shard"), Some(sequence));
    let in_a_record = rig.fill(|out| {
        let channel = out.open_at("other", Position::default());
        out.write(channel, b"half a li");
        out.reached(channel, Position::from(1));
    });
    assert!(in_a_record.1.misuse.is_some());
    let has_none = rig.fill(|out| out.reached(ChannelId::FIRST, Position::from(1)));
    assert!(has_none.1.misuse.is_some());
}

/// The block is larger than the longest record, and the beginning of a record is carried.
#[test]
fn words_before_one_that_is_too_long_are_passed_on_whatever_is_carried() {
    for rest in ["", "\n", "y\nz "] {
        let delimiters = Delimiters {
            rule: Rule::Split(b' '),
            line_ends: LineEnds::Universal,
        };
        let mut rig = IntakeRig::new(delimiters, LIMIT, HELD_BYTES_DEFAULT, &[100]);
        let (one, two) = rig.give(|out| (out.open(), out.open()));
        rig.give(|out| {
            out.write(one, b"a b ");
            out.write(two, b"\n");
            let long = "x".repeat(LIMIT + 1);
            let text = format!("{rest}{long}");
            let space = out.space_of(one, text.len()).expect("there is room");
            space[..text.len()].copy_from_slice(text.as_bytes());
            out.filled(text.len());
            out.write(two, b"\n");
            out.close(one, true);
        });
        let out = rig.take();
        let counted = CountedRead::of(&out, &rig, delimiters);
        for word in [&b"a"[..], b"b"] {
            assert!(counted.tokens.iter().any(|token| token == word), "{rest:?}");
        }
        assert_eq!(counted.oversize_tokens, 1, "{rest:?}");
    }
}
