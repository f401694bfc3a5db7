//! Lines around the limit of a record: what is dropped, whatever the cuts, and what short memory
//! costs.

use proptest::prelude::*;

use super::tests::{
    ConnectionScript, OversizeTotals, ReadStep, run_delimited, script, sorted, splitting,
};
use super::*;
use crate::intake::framer::tests::Given;
use crate::intake::framer::{Ending, Framer};
use crate::intake::rig::IntakeRig;
use crate::ledger::IntakeTotals;
use crate::ring::arena::Arena;
use crate::split::{Delimiters, LineEnds, Rule, scalar};

const BLOCK: usize = 8;

/// What becomes of a text that is read as one stream, like a file: the tokens, sorted, and the
/// counts.
fn as_one_stream(
    delimiters: Delimiters,
    text: &[u8],
    ending: Ending,
    record_bytes_max: usize,
) -> (Vec<Vec<u8>>, IntakeTotals) {
    let mut framer = Framer::new(delimiters.rule, delimiters.line_ends, record_bytes_max);
    let arena = Arena::new(BLOCK, 1024).expect("little memory");
    let mut given = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut port = Given::new(&arena, &mut given);
        let Ok(space) = framer.space(&mut port);
        let count = rest.len().min(space.len());
        space[..count].copy_from_slice(&rest[..count]);
        framer.filled(count);
        rest = &rest[count..];
    }
    let Ok(()) = framer.finish(ending, &mut Given::new(&arena, &mut given));
    assert_eq!(framer.held_bytes(), 0);
    let mut tokens = Vec::new();
    for block in &given {
        let mut keep = |token: &[u8]| tokens.push(token.to_vec());
        scalar::tokens(block, delimiters.rule, delimiters.line_ends, &mut keep);
    }
    (sorted(tokens), framer.intake())
}

/// Texts of lines whose lengths are around the limit, cut anywhere.
fn around(record_bytes_max: usize) -> impl Strategy<Value = ConnectionScript> {
    let content = (
        prop_oneof![
            Just(0),
            Just(1),
            record_bytes_max - 2..=record_bytes_max + 3
        ],
        prop_oneof![4 => Just(""), 1 => Just("\r"), 1 => Just("\r\r"), 1 => Just(" ")],
        prop_oneof![
            Just("\n"),
            Just("\r\n"),
            Just("\r"),
            Just("\0"),
            Just(" "),
            Just("\r ")
        ],
    );
    let line = content.prop_map(|(len, last, end)| {
        let letters = "x".repeat(len.saturating_sub(last.len()));
        format!("{letters}{last}{end}")
    });
    let step = (0..24usize).prop_map(|draw| match draw {
        0..=2 => ReadStep::Nothing,
        3 => ReadStep::Interrupted,
        4..=9 => ReadStep::Bytes(1),
        count => ReadStep::Bytes(count - 8),
    });
    (
        prop::collection::vec(line, 0..12),
        0..3usize,
        prop::collection::vec(step, 0..80),
        any::<bool>(),
    )
        .prop_map(|(lines, cut_off, steps, is_reset)| {
            let mut text = lines.concat().into_bytes();
            // In the middle of an end, or before it.
            text.truncate(text.len().saturating_sub(cut_off));
            ConnectionScript {
                text,
                steps,
                is_reset,
            }
        })
}

fn line_ends() -> impl Strategy<Value = LineEnds> {
    prop_oneof![
        Just(LineEnds::Universal),
        Just(LineEnds::Lf),
        Just(LineEnds::Nul)
    ]
}

const LIMIT: usize = 12;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn clients_drop_what_one_stream_of_the_same_bytes_drops(
        scripts in [around(LIMIT), around(LIMIT), around(LIMIT)],
        line_ends in line_ends(),
        bufs in prop::collection::vec(prop_oneof![1..8usize, 8..100usize], 1..5),
    ) {
        let delimiters = Delimiters { rule: Rule::Lines, line_ends };
        let ran = run_delimited(delimiters, &scripts, LIMIT, usize::MAX, &bufs);
        let (mut given, mut due) = (Vec::new(), IntakeTotals::default());
        for script in &scripts {
            let ending = if script.is_reset { Ending::Reset } else { Ending::Clean };
            let (lines, intake) = as_one_stream(delimiters, &script.text, ending, LIMIT);
            due = due.plus(&intake);
            if ending == Ending::Clean {
                // And both agree with the definition.
                let all = tokens_delimited(delimiters, &script.text);
                let short = all.into_iter().filter(|line| line.len() <= LIMIT);
                prop_assert_eq!(&lines, &short.collect::<Vec<_>>());
            }
            given.extend(lines);
        }
        prop_assert_eq!(came_out(delimiters, &ran.output), sorted(given));
        let long = OversizeTotals::of(&due);
        prop_assert_eq!(ran.long, long);
        prop_assert!(ran.is_reported());
        prop_assert_eq!(ran.intake.records_ended, due.records_ended);
        prop_assert_eq!(ran.intake.truncated_records, due.truncated_records);
        prop_assert_eq!(ran.intake.truncated_bytes, due.truncated_bytes);
    }

    #[test]
    fn clients_drop_the_words_that_one_stream_of_the_same_bytes_drops(
        scripts in [around(LIMIT), around(LIMIT), around(LIMIT)],
        rule in prop_oneof![
            Just(Rule::Split(b' ')), Just(Rule::Split(b'\r')), Just(Rule::SplitWhitespace)
        ],
        line_ends in line_ends(),
        bufs in prop::collection::vec(prop_oneof![1..8usize, 8..100usize], 1..5),
    ) {
        let mut scripts = scripts;
        scripts.iter_mut().for_each(|script| script.is_reset = false);
        let delimiters = Delimiters { rule, line_ends };
        let ran = run_delimited(delimiters, &scripts, LIMIT, usize::MAX, &bufs);
        let (mut short, mut due) = (Vec::new(), IntakeTotals::default());
        for script in &scripts {
            let (words, intake) = as_one_stream(delimiters, &script.text, Ending::Clean, LIMIT);
            let all = tokens_delimited(delimiters, &script.text).into_iter();
            let its: Vec<_> = all.filter(|token| token.len() <= LIMIT).collect();
            prop_assert_eq!(&words, &its);
            short.extend(its);
            due = due.plus(&intake);
        }
        prop_assert_eq!(came_out(delimiters, &ran.output), sorted(short));
        let long = OversizeTotals::of(&due);
        prop_assert_eq!(ran.long, long);
        prop_assert!(ran.is_reported());
    }
}

/// A client that has these pieces, one a read, and then ends.
fn pieces(pieces: &[&str]) -> ConnectionScript {
    let mut steps = Vec::new();
    for piece in pieces {
        steps.extend([ReadStep::Bytes(piece.len()), ReadStep::Nothing]);
    }
    ConnectionScript {
        text: pieces.concat().into_bytes(),
        steps,
        is_reset: false,
    }
}

#[test]
fn a_line_of_the_limit_is_kept_wherever_the_read_ends_in_its_return_and_line_feed() {
    let line = "x".repeat(LIMIT);
    for rule in [Rule::Lines, Rule::Split(b' ')] {
        for is_tight in [false, true] {
            let line_ends = LineEnds::Lf;
            let delimiters = Delimiters { rule, line_ends };
            let held_bytes_max = if is_tight { 0 } else { usize::MAX };
            let run = |script: ConnectionScript| {
                run_delimited(delimiters, &[script], LIMIT, held_bytes_max, &[64])
            };
            for cuts in [
                &[&line[..], "\r\n"][..],
                &[&line, "\r", "\n"],
                &[&line[1..], "x\r", "\nb\n"],
            ] {
                let ran = run(pieces(cuts));
                let due = cuts.concat();
                assert_eq!(ran.output, due.as_bytes(), "{rule:?} {cuts:?}");
                assert_eq!(ran.long, OversizeTotals::default());
            }
            // Behind it comes no line feed, or nothing: it is content, and the line is longer.
            for cuts in [
                &[&line[..], "\r"][..],
                &[&line, "\r", "\r\n"],
                &[&line, "\r", "x\n"],
            ] {
                let ran = run(pieces(cuts));
                assert_eq!((&ran.output[..], ran.long.lines), (&b""[..], 1), "{cuts:?}");
                assert_eq!(ran.intake.records_ended, 1);
            }
        }
    }
}

/// Sends a byte at each read that is not the first of a turn.
struct Drip {
    first: usize,
    is_due: bool,
}

impl Read for Drip {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = match (self.first, self.is_due) {
            (0, false) => return Err(io::ErrorKind::WouldBlock.into()),
            (0, true) => 1,
            (first, _) => first.min(buf.len()),
        };
        self.first -= self.first.min(count);
        self.is_due = false;
        buf[..count].fill(b'x');
        Ok(count)
    }
}

/// However many clients hold half a line, and however little memory is left: all of them are asked
/// for memory only if a line is dropped, not for each read.
#[test]
fn many_half_lines_near_the_limit_of_memory_are_not_all_looked_at_for_each_read() {
    const CLIENTS: usize = 4_000;
    const EACH: usize = 2_000;
    const TURNS: usize = 4;
    // Room for two bytes more of each.
    let (delimiters, held_bytes_max) = (Delimiters::default(), CLIENTS * (EACH + 2));
    let (mut clients, mut rig) = (
        ConnectionSet::new(),
        IntakeRig::new(delimiters, 1 << 20, held_bytes_max, &[1 << 16]),
    );
    let mut dropped = 0;
    let mut fill = |clients: &mut ConnectionSet<Drip>, rig: &mut IntakeRig| {
        let mut on = |event: ConnectionEvent<'_, Drip>| match event {
            ConnectionEvent::LongLine(_) => dropped += 1,
            ConnectionEvent::Received { .. } => {}
            ConnectionEvent::Closed { .. } => panic!("nobody ends"),
        };
        while rig.fill(|out| clients.fill(out, &mut on)).0 == FillOutcome::Again {}
        dropped
    };
    for _ in 0..CLIENTS {
        let is_due = false;
        clients.add(Drip {
            first: EACH,
            is_due,
        });
        fill(&mut clients, &mut rig);
    }
    for _ in 0..TURNS {
        for number in 0..CLIENTS {
            let client = clients.slots[number].as_mut().expect("nobody ends");
            client.connection.is_due = true;
            clients.on_ready(number);
        }
        fill(&mut clients, &mut rig);
    }
    let dropped = fill(&mut clients, &mut rig);
    assert!(rig.channels.held_bytes() <= held_bytes_max);
    // Two bytes of each did not fit; one line that is dropped makes room for the next two thousand.
    assert!((1..=8).contains(&dropped), "{dropped} lines dropped");
    let asked = rig.channels.searches as u64;
    assert!(asked <= dropped + 1, "{asked} times for {dropped} lines");
}

/// The tokens of what came out, which ends with a delimiter.
pub(super) fn came_out(delimiters: Delimiters, output: &[u8]) -> Vec<Vec<u8>> {
    let Delimiters { rule, line_ends } = delimiters;
    let mut tokens = Vec::new();
    crate::split::scalar::tokens(output, rule, line_ends, |token| tokens.push(token.to_vec()));
    sorted(tokens)
}

/// The tokens of a text with these delimiters.
pub(super) fn tokens_delimited(delimiters: Delimiters, text: &[u8]) -> Vec<Vec<u8>> {
    let line_ends = delimiters.line_ends;
    let mut text = text.to_vec();
    let is_ended = text.last().is_none_or(|&byte| line_ends.is_end(byte));
    if !is_ended {
        text.extend_from_slice(delimiters.end_behind(&text));
    }
    came_out(delimiters, &text)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn other_line_ends_are_those_of_each_client(
        scripts in [script(0), script(1), script(2)],
        rule in prop_oneof![Just(Rule::Lines), splitting()],
        line_ends in prop_oneof![Just(LineEnds::Lf), Just(LineEnds::Nul)],
        record_bytes_max in prop_oneof![3 => Just(usize::MAX), 1 => 1..20usize],
        bufs in prop::collection::vec(prop_oneof![1..8usize, 8..300usize], 1..5),
    ) {
        let mut scripts = scripts;
        scripts.iter_mut().for_each(|script| script.is_reset = false);
        let delimiters = Delimiters { rule, line_ends };
        let ran = run_delimited(delimiters, &scripts, record_bytes_max, usize::MAX, &bufs);
        let all = scripts.iter().flat_map(|script| tokens_delimited(delimiters, &script.text));
        let mut all = sorted(all.collect());
        let given = came_out(delimiters, &ran.output);
        if ran.long.lines == 0 {
            prop_assert_eq!(given, all);
        } else {
            // What is dropped is longer than the limit, and nothing else changes.
            prop_assert_eq!(given.len() as u64 + ran.long.lines, all.len() as u64);
            all.retain(|token| token.len() <= record_bytes_max);
            prop_assert_eq!(given, all);
        }
    }
}
