//! Scripted connections, and the model: each connection's bytes split into lines on their own.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use proptest::prelude::*;

use super::limit_tests::came_out;
use super::*;
use crate::intake::rig::IntakeRig;
use crate::ledger::IntakeTotals;
use crate::split::{Delimiters, LineEnds, Rule};

#[derive(Clone, Debug)]
pub(super) enum ReadStep {
    /// This many bytes arrive, the first of the rest of the text.
    Bytes(usize),
    /// Nothing, until the next edge.
    Nothing,
    Interrupted,
}

#[derive(Clone, Debug)]
pub(super) struct ConnectionScript {
    pub(super) text: Vec<u8>,
    pub(super) steps: Vec<ReadStep>,
    pub(super) is_reset: bool,
}

struct Scripted {
    name: usize,
    text: VecDeque<u8>,
    steps: VecDeque<ReadStep>,
    is_reset: bool,
    reads: Rc<RefCell<Vec<(usize, usize)>>>,
}

impl Read for Scripted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        assert!(!buf.is_empty(), "a read without room looks like an end");
        let there = match self.steps.pop_front() {
            Some(ReadStep::Nothing) => return Err(io::ErrorKind::WouldBlock.into()),
            Some(ReadStep::Interrupted) => return Err(io::ErrorKind::Interrupted.into()),
            Some(ReadStep::Bytes(there)) => there,
            None => usize::MAX,
        };
        let count = there.min(self.text.len()).min(buf.len());
        if count == 0 && self.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        self.reads.borrow_mut().push((self.name, count));
        self.text.read(&mut buf[..count])
    }
}

/// Lines, or tokens, that were dropped for their length, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OversizeTotals {
    pub(super) lines: u64,
    pub(super) bytes: u64,
}

impl OversizeTotals {
    pub(super) fn of(totals: &IntakeTotals) -> Self {
        OversizeTotals {
            lines: totals.oversize_tokens,
            bytes: totals.oversize_bytes,
        }
    }
}

/// The lines of a text that come out, those that are dropped for their length, and the bytes that a
/// reset costs.
fn model(
    text: &[u8],
    is_reset: bool,
    record_bytes_max: usize,
) -> (Vec<Vec<u8>>, OversizeTotals, usize) {
    let (mut lines, mut line, mut after_return) = (Vec::new(), Vec::new(), false);
    for &byte in text {
        match byte {
            b'\n' if after_return => {}
            b'\n' | b'\r' => lines.push(std::mem::take(&mut line)),
            _ => line.push(byte),
        }
        after_return = byte == b'\r';
    }
    let mut lost = 0;
    if !line.is_empty() {
        if !is_reset || line.len() > record_bytes_max {
            lines.push(line);
        } else {
            lost = line.len();
        }
    }
    let is_long = |line: &Vec<u8>| line.len() > record_bytes_max;
    let (long, lines): (Vec<_>, Vec<_>) = lines.into_iter().partition(is_long);
    let long = OversizeTotals {
        lines: long.len() as u64,
        bytes: long.iter().map(|line| line.len() as u64).sum(),
    };
    (lines, long, lost)
}

pub(super) struct RunOutcome {
    pub(super) intake: IntakeTotals,
    pub(super) output: Vec<u8>,
    pub(super) long: OversizeTotals,
    pub(super) long_events: u64,
    lost: usize,
    /// Which connection was read, and how many bytes it returned.
    reads: Vec<(usize, usize)>,
    held_max: usize,
}

fn run(
    scripts: &[ConnectionScript],
    record_bytes_max: usize,
    held_bytes_max: usize,
    bufs: &[usize],
) -> RunOutcome {
    run_by(Rule::Lines, scripts, record_bytes_max, held_bytes_max, bufs)
}

fn run_by(
    rule: Rule,
    scripts: &[ConnectionScript],
    record_bytes_max: usize,
    held_bytes_max: usize,
    bufs: &[usize],
) -> RunOutcome {
    let delimiters = Delimiters {
        rule,
        line_ends: LineEnds::Universal,
    };
    run_delimited(delimiters, scripts, record_bytes_max, held_bytes_max, bufs)
}

pub(super) fn run_delimited(
    delimiters: Delimiters,
    scripts: &[ConnectionScript],
    record_bytes_max: usize,
    held_bytes_max: usize,
    blocks: &[usize],
) -> RunOutcome {
    let mut clients = ConnectionSet::new();
    let mut rig = IntakeRig::new(delimiters, record_bytes_max, held_bytes_max, blocks);
    let reads = Rc::default();
    for (name, script) in scripts.iter().enumerate() {
        let number = clients.next_number();
        let added = clients.add(Scripted {
            name,
            text: script.text.iter().copied().collect(),
            steps: script.steps.iter().cloned().collect(),
            is_reset: script.is_reset,
            reads: Rc::clone(&reads),
        });
        assert_eq!(number, added);
    }
    let (mut output, mut lost, mut long_events, mut held_max, mut calls) = (Vec::new(), 0, 0, 0, 0);
    let mut received = 0;
    while clients.count() > 0 {
        calls += 1;
        assert!(calls < 1_000_000, "stuck");
        let mut on = |event: ConnectionEvent<'_, Scripted>| match event {
            ConnectionEvent::Received { bytes, .. } => received += bytes.len(),
            ConnectionEvent::LongLine(_) => long_events += 1,
            ConnectionEvent::Closed {
                connection,
                cause,
                lost_bytes,
                ..
            } => {
                assert!(connection.text.is_empty(), "read to its end");
                assert_eq!(cause.is_some(), connection.is_reset);
                lost += lost_bytes;
            }
        };
        let (filled, _) = rig.fill(|out| clients.fill(out, &mut on));
        held_max = held_max.max(rig.channels.held_bytes());
        // From the socket on each byte is in one column.
        assert_eq!(rig.channels.intake().bytes_read, received as u64);
        if calls % 2 == 0 {
            let given = rig.take();
            let last = given.last().copied();
            let is_end = |byte| delimiters.contain(byte);
            assert!(last.is_none_or(is_end), "whole lines, or words");
            output.extend(given);
        }
        if filled == FillOutcome::Idle {
            // The next edge comes for all connections, also for closed ones.
            (0..=scripts.len()).for_each(|number| clients.on_ready(number));
        }
    }
    output.extend(rig.take());
    assert_eq!(rig.channels.held_bytes(), 0);
    let sent: usize = scripts.iter().map(|script| script.text.len()).sum();
    assert_eq!(received, sent, "events have all of it");
    let intake = rig.channels.intake();
    assert_eq!(intake.truncated_bytes, lost as u64);
    assert_eq!(intake.bytes_carried, 0);
    let given = output.len() as u64 - intake.bytes_ended;
    let dropped = intake.bytes_skipped + intake.oversize_bytes + intake.truncated_bytes;
    assert_eq!(intake.bytes_read, given + dropped, "{intake:?}");
    RunOutcome {
        intake,
        output,
        long: OversizeTotals::of(&intake),
        long_events,
        lost,
        reads: reads.take(),
        held_max,
    }
}

impl RunOutcome {
    /// What was dropped for its length was reported, once for all that a read led to.
    pub(super) fn is_reported(&self) -> bool {
        self.long_events <= self.long.lines && (self.long_events > 0) == (self.long.lines > 0)
    }
}

fn assert_unmixed(scripts: &[ConnectionScript], record_bytes_max: usize, bufs: &[usize]) {
    let ran = run(scripts, record_bytes_max, usize::MAX, bufs);
    let mut expected: Vec<Vec<u8>> = Vec::new();
    let (mut long, mut lost) = (OversizeTotals::default(), 0);
    let (lines, none, _) = model(&ran.output, true, usize::MAX);
    assert_eq!(none, OversizeTotals::default());
    for (name, script) in scripts.iter().enumerate() {
        let (wanted, its_long, its_lost) = model(&script.text, script.is_reset, record_bytes_max);
        long.lines += its_long.lines;
        long.bytes += its_long.bytes;
        lost += its_lost;
        // Those of its lines that have its letter are in order.
        let is_its = |line: &&Vec<u8>| line.contains(&letter(name));
        let got: Vec<_> = lines.iter().filter(is_its).collect();
        assert_eq!(got, wanted.iter().filter(is_its).collect::<Vec<_>>());
        expected.extend(wanted);
    }
    assert_eq!(sorted(lines), sorted(expected));
    assert_eq!(ran.long, long);
    assert!(ran.is_reported());
    assert_eq!(ran.lost, lost);
    // A dropped record is a record, unless its end never came.
    let is_cut_off =
        |script: &&ConnectionScript| script.is_reset && is_mid_long(&script.text, record_bytes_max);
    let cut_off = scripts.iter().filter(is_cut_off).count() as u64;
    assert_eq!(ran.intake.records_ended, long.lines - cut_off);
}

/// Returns `true` if a text ends in the middle of a line that is too long.
fn is_mid_long(text: &[u8], record_bytes_max: usize) -> bool {
    let last = text.rsplit(|&byte| matches!(byte, b'\n' | b'\r')).next();
    last.is_some_and(|last| last.len() > record_bytes_max)
}

fn letter(name: usize) -> u8 {
    b'a' + name as u8
}

pub(super) fn script(name: usize) -> impl Strategy<Value = ConnectionScript> {
    let letter = letter(name);
    let byte =
        (0..9usize).prop_map(move |draw| [b'\n', b'\r', 0].get(draw).copied().unwrap_or(letter));
    let step = (0..32usize).prop_map(|draw| match draw {
        0..=3 => ReadStep::Nothing,
        4..=7 => ReadStep::Interrupted,
        8..=15 => ReadStep::Bytes(1),
        31 => ReadStep::Bytes(500),
        count => ReadStep::Bytes(count - 14),
    });
    (
        prop::collection::vec(byte, 0..200),
        prop::collection::vec(step, 0..60),
        any::<bool>(),
    )
        .prop_map(|(text, steps, is_reset)| ConnectionScript {
            text,
            steps,
            is_reset,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// P3, cases 26, 27, 31, 32.
    #[test]
    fn each_connection_is_split_on_its_own(
        scripts in [script(0), script(1), script(2)],
        record_bytes_max in prop_oneof![1..40usize, Just(1 << 20)],
        bufs in prop::collection::vec(prop_oneof![1..8usize, 8..300usize], 1..5),
    ) {
        assert_unmixed(&scripts, record_bytes_max, &bufs);
    }

    #[test]
    fn what_is_held_keeps_to_its_bound(
        scripts in [script(0), script(1), script(2)],
        held_bytes_max in 40..200usize,
    ) {
        let ran = run(&scripts, 40, held_bytes_max, &[64]);
        prop_assert!(ran.held_max <= held_bytes_max, "{} bytes held", ran.held_max);
        // Every line comes out or is reported, and those that come out are whole.
        let lines = sorted(model(&ran.output, true, usize::MAX).0);
        let sent = scripts.iter().flat_map(|script| model(&script.text, false, 40).0);
        let sent = sorted(sent.collect());
        let given = lines.len();
        let mut sent = sent.iter();
        prop_assert!(lines.iter().all(|line| sent.any(|other| other == line)));
        let models = scripts.iter().map(|script| model(&script.text, script.is_reset, 40));
        let (all, lost) = models.fold((0, 0), |(all, lost), (lines, long, its_lost)| {
            (all + lines.len() + long.lines as usize, lost + its_lost)
        });
        if lost == 0 {
            prop_assert_eq!(given + ran.long.lines as usize, all);
        }
        prop_assert!(ran.is_reported());
    }
}

/// The tokens of a text, sorted.
pub(super) fn tokens(rule: Rule, text: &[u8]) -> Vec<Vec<u8>> {
    let lines = model(text, false, usize::MAX).0;
    let tokens = lines
        .iter()
        .flat_map(|line| line.split(|&byte| rule.separates_at(byte)))
        .filter(|token| rule != Rule::SplitWhitespace || !token.is_empty());
    sorted(tokens.map(<[u8]>::to_vec).collect())
}

pub(super) fn sorted(mut tokens: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    tokens.sort();
    tokens
}

/// Scripts whose NULs are blanks, and that end cleanly.
fn words(name: usize) -> impl Strategy<Value = ConnectionScript> {
    script(name).prop_map(|script| ConnectionScript {
        text: script
            .text
            .into_iter()
            .map(|byte| if byte == 0 { b' ' } else { byte })
            .collect(),
        steps: script.steps,
        is_reset: false,
    })
}

pub(super) fn splitting() -> impl Strategy<Value = Rule> {
    prop_oneof![Just(Rule::Split(b' ')), Just(Rule::SplitWhitespace)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// P3: whatever the cuts, the tokens are those of the lines, except those that are too long.
    #[test]
    fn a_line_that_is_only_split_is_never_too_long(
        scripts in [words(0), words(1), words(2)],
        rule in splitting(),
        record_bytes_max in 1..20usize,
        bufs in prop::collection::vec(prop_oneof![1..8usize, 8..300usize], 1..5),
    ) {
        let ran = run_by(rule, &scripts, record_bytes_max, usize::MAX, &bufs);
        let all = scripts.iter().flat_map(|script| tokens(rule, &script.text));
        let (short, long): (Vec<_>, Vec<_>) =
            all.partition(|token: &Vec<u8>| token.len() <= record_bytes_max);
        prop_assert_eq!(came_out(Delimiters { rule, line_ends: LineEnds::Universal }, &ran.output), sorted(short));
        prop_assert_eq!(ran.long.lines, long.len() as u64);
        let bytes: usize = long.iter().map(Vec::len).sum();
        prop_assert_eq!(ran.long.bytes, bytes as u64);
        prop_assert!(ran.is_reported());
    }

    /// Without memory for an unfinished line, its complete tokens come out; a dropped token is
    /// reported.
    #[test]
    fn pieces_keep_to_the_bound_of_what_is_held(
        scripts in [words(0), words(1), words(2)],
        rule in splitting(),
        held_bytes_max in 20..40usize,
        buf in 8..64usize,
    ) {
        let ran = run_by(rule, &scripts, 20, held_bytes_max, &[buf]);
        prop_assert!(ran.held_max <= held_bytes_max, "{} bytes held", ran.held_max);
        let given = came_out(Delimiters { rule, line_ends: LineEnds::Universal }, &ran.output);
        let all = scripts.iter().flat_map(|script| tokens(rule, &script.text));
        let all = sorted(all.collect());
        prop_assert_eq!(given.len() as u64 + ran.long.lines, all.len() as u64);
        let mut all = all.iter();
        prop_assert!(given.iter().all(|token| all.any(|other| other == token)));
        prop_assert!(ran.is_reported());
    }

    /// A reset drops what is held, and what came out before is part of the line.
    #[test]
    fn a_reset_in_the_middle_of_a_piece_costs_what_is_held(
        text in words(0),
        rule in splitting(),
    ) {
        let script = ConnectionScript { is_reset: true, ..text };
        let all = tokens(rule, &script.text);
        let ran = run_by(rule, &[script], 8, usize::MAX, &[64]);
        let mut left = all.into_iter().peekable();
        // What comes out was sent: both are sorted.
        for token in came_out(Delimiters { rule, line_ends: LineEnds::Universal }, &ran.output) {
            prop_assert!(left.any(|other| other == token));
        }
    }
}

fn whole(text: &[u8]) -> ConnectionScript {
    ConnectionScript {
        text: text.to_vec(),
        steps: Vec::new(),
        is_reset: false,
    }
}

#[test]
fn a_return_at_the_end_of_one_does_not_swallow_the_first_line_of_the_next() {
    for bufs in [&[64][..], &[1], &[3]] {
        let ran = run(&[whole(b"a\r\r"), whole(b"\nb\n")], 64, 64, bufs);
        let lines = sorted(model(&ran.output, false, 64).0);
        assert_eq!(lines, [&b""[..], b"", b"a", b"b"], "{bufs:?}");
        // A `\n` behind a `\r` of the same connection is part of its end, in whatever read.
        let pieces = ConnectionScript {
            steps: vec![ReadStep::Bytes(2), ReadStep::Nothing],
            ..whole(b"a\r\nb\n")
        };
        let ran = run(&[pieces], 64, 64, bufs);
        assert_eq!(model(&ran.output, false, 64).0, [b"a", b"b"]);
    }
}

/// P10: a connection that has much waits behind all that have little.
#[test]
fn a_firehose_gets_one_buffer_a_turn() {
    let line = b"a line of the firehose\n";
    let mut scripts = vec![whole(&line.repeat(100_000))];
    scripts.extend((0..50).map(|_| whole(b"drop\n")));
    let ran = run(&scripts, 1 << 20, 1 << 20, &[16 * 1024]);
    let last_drop = ran
        .reads
        .iter()
        .rposition(|&(name, count)| name > 0 && count > 0)
        .expect("they were read");
    let before: usize = ran.reads[..last_drop]
        .iter()
        .filter(|read| read.0 == 0)
        .count();
    assert_eq!(
        before, 1,
        "one read of the firehose before each of the others had its turn"
    );
}

/// Case 20: what a segment costs does not depend on what is held of its line.
#[test]
fn case_20_a_byte_at_a_time_is_not_searched_or_copied_again() {
    struct Trickle(usize);
    impl Read for Trickle {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.0 -= 1;
            buf[0] = if self.0 == 0 { b'\n' } else { b'x' };
            Ok(1)
        }
    }
    let delimiters = Delimiters::default();
    let (mut clients, mut rig) = (
        ConnectionSet::new(),
        IntakeRig::new(delimiters, 1 << 22, 1 << 22, &[1 << 12]),
    );
    // Another one has its turn between two bytes. A copy of what is held at each of them would take
    // hours.
    clients.add(Trickle(1 << 20));
    clients.add(Trickle(1 << 20));
    while rig.fill(|out| clients.fill(out, &mut |_| ())).0 == FillOutcome::Again {}
    let given = rig.take();
    assert_eq!(given.len(), 2 << 20);
    assert!(memchr::memchr_iter(b'x', &given).count() == (2 << 20) - 2);
}

#[test]
fn ending_gives_what_is_unfinished_as_lines() {
    let delimiters = Delimiters::default();
    let (mut clients, mut rig) = (
        ConnectionSet::new(),
        IntakeRig::new(delimiters, 64, 1 << 20, &[50]),
    );
    let mut add = |text: &[u8]| {
        clients.add(Scripted {
            name: 0,
            text: text.iter().copied().collect(),
            steps: [ReadStep::Bytes(text.len()), ReadStep::Nothing].into(),
            is_reset: false,
            reads: Rc::default(),
        });
    };
    (0..100).for_each(|_| add(b"one\ntwo"));
    let mut output = Vec::new();
    let mut closed = 0;
    let mut fill = |clients: &mut ConnectionSet<Scripted>| {
        loop {
            let mut on = |event: ConnectionEvent<'_, Scripted>| match event {
                ConnectionEvent::Received { .. } => {}
                ConnectionEvent::Closed { cause: None, .. } => closed += 1,
                event => panic!("{:?}", matches!(event, ConnectionEvent::LongLine(_))),
            };
            let (filled, _) = rig.fill(|out| clients.fill(out, &mut on));
            output.extend(rig.take());
            if filled == FillOutcome::Idle {
                break;
            }
        }
        (closed, output.clone())
    };
    let (before, output) = fill(&mut clients);
    assert_eq!((before, output), (0, b"one\n".repeat(100)));
    clients.end(|_| None);
    let (after, output) = fill(&mut clients);
    assert_eq!((after, clients.count()), (100, 0));
    assert_eq!(output[400..], b"two\n".repeat(100));
}

#[test]
fn an_idle_client_holds_no_memory() {
    let delimiters = Delimiters::default();
    let (mut clients, mut rig) = (
        ConnectionSet::new(),
        IntakeRig::new(delimiters, 1 << 20, 1 << 20, &[1 << 16]),
    );
    for _ in 0..10 {
        let text = [vec![b'x'; 10_000], vec![b'\n']].concat();
        clients.add(Scripted {
            name: 0,
            steps: [
                ReadStep::Bytes(9_000),
                ReadStep::Nothing,
                ReadStep::Bytes(2_000),
                ReadStep::Nothing,
            ]
            .into(),
            text: text.into(),
            is_reset: false,
            reads: Rc::default(),
        });
    }
    let mut fill = |clients: &mut ConnectionSet<Scripted>| {
        while rig.fill(|out| clients.fill(out, &mut |_| ())).0 == FillOutcome::Again {}
        (rig.take().len(), rig.channels.held_bytes())
    };
    let (_, held) = fill(&mut clients);
    assert!((90_000..200_000).contains(&held));
    (0..10).for_each(|number| clients.on_ready(number));
    assert_eq!(fill(&mut clients), (100_010, 0));
}
