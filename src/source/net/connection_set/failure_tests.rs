//! Reads that fail, are interrupted, or whose edges are lost.

use libc::{EINTR, ENOMEM};

use super::*;
use crate::intake::rig::IntakeRig;
use crate::source::net::scripted::{ScriptedRead, ScriptedReads};
use crate::split::{Delimiters, LineEnds, Rule};

/// What comes out until no client has anything, and how connections were closed: the error and the
/// lost bytes.
fn answered<const N: usize>(answers: [ScriptedRead; N]) -> (String, Vec<(Option<i32>, usize)>) {
    let (mut clients, mut rig) = (ConnectionSet::new(), IntakeRig::of_lines(1 << 18));
    clients.add(ScriptedReads::from(answers));
    let (mut output, mut closed) = (Vec::new(), Vec::new());
    loop {
        let mut on = |event: ConnectionEvent<'_, ScriptedReads>| {
            if let ConnectionEvent::Closed {
                cause, lost_bytes, ..
            } = event
            {
                let number = cause.map(|cause| cause.raw_os_error().expect("it is the system's"));
                closed.push((number, lost_bytes));
            }
        };
        let (filled, _) = rig.fill(|out| clients.fill(out, &mut on));
        output.extend(rig.take());
        if filled == FillOutcome::Idle {
            return (String::from_utf8(output).expect("it is text"), closed);
        }
    }
}

#[test]
fn an_interrupted_read_is_repeated_without_an_edge() {
    let answers = [Err(EINTR), Ok("a\n"), Err(EINTR), Err(EINTR), Ok("b\n")];
    assert_eq!(answered(answers), ("a\nb\n".to_owned(), vec![]));
}

#[test]
fn a_read_that_fails_once_loses_nothing_and_ends_nothing() {
    let answers = [Ok("a\n"), Err(ENOMEM), Ok("b\n"), Err(ENOMEM)];
    assert_eq!(answered(answers), ("a\nb\n".to_owned(), vec![]));
    // An end after that is a clean one.
    let answers = [Ok("a"), Err(ENOMEM), Ok("b"), Ok("")];
    assert_eq!(answered(answers), ("ab\n".to_owned(), vec![(None, 0)]));
}

#[test]
fn a_connection_that_fails_says_why_also_between_two_lines() {
    for [first, second] in [[Err(ENOMEM), Err(EINTR + 1)], [Err(ENOMEM), Ok("")]] {
        let closed = answered([Ok("a\n"), first, second]);
        assert_eq!(closed, ("a\n".to_owned(), vec![(Some(ENOMEM), 0)]));
        let closed = answered([Ok("a\nbc"), first, second]);
        assert_eq!(closed, ("a\n".to_owned(), vec![(Some(ENOMEM), 2)]));
    }
}

/// Whether a client that sends these texts, one a read, and is reset is reported as in the middle
/// of a line.
fn is_half(texts: &[&'static str], record_bytes_max: usize, rule: Rule) -> bool {
    let line_ends = LineEnds::Universal;
    let delimiters = Delimiters { rule, line_ends };
    let mut clients = ConnectionSet::new();
    let mut rig = IntakeRig::new(delimiters, record_bytes_max, 1 << 10, &[64]);
    let texts = texts.iter().map(|&text| Ok(text));
    clients.add(ScriptedReads(texts.chain([Err(104), Err(104)]).collect()));
    let mut seen = None;
    let mut on = |event: ConnectionEvent<'_, ScriptedReads>| {
        if let ConnectionEvent::Closed { is_half, .. } = event {
            seen = Some(is_half);
        }
    };
    while rig.fill(|out| clients.fill(out, &mut on)).0 != FillOutcome::Idle {}
    seen.expect("it is closed")
}

#[test]
fn a_reset_in_a_line_of_which_nothing_is_held_is_in_the_middle_of_a_line() {
    assert!(is_half(&["half"], 8, Rule::Lines));
    assert!(!is_half(&["whole\n"], 8, Rule::Lines));
    // All of it is dropped.
    assert!(is_half(&["too", "lo", "ng"], 3, Rule::Lines));
    assert!(!is_half(&["too", "lo\n"], 3, Rule::Lines));
    // All of it has come out.
    assert!(is_half(&["two w", "ord "], 5, Rule::Split(b' ')));
}

#[test]
fn clients_whose_edges_are_lost_are_looked_at_in_turn() {
    let (mut clients, mut rig) = (ConnectionSet::new(), IntakeRig::of_lines(1 << 18));
    let count = LOOK_CLIENTS_MAX + 10;
    for _ in 0..count {
        clients.add(ScriptedReads([Err(11), Ok("a\n")].into()));
    }
    let mut lines = 0;
    let mut drain = |clients: &mut ConnectionSet<ScriptedReads>| {
        while rig.fill(|out| clients.fill(out, &mut |_| ())).0 == FillOutcome::Again {}
        lines += rig.take().len() / 2;
        lines
    };
    assert_eq!(drain(&mut clients), 0);
    clients.check_again();
    assert_eq!(drain(&mut clients), LOOK_CLIENTS_MAX);
    clients.check_again();
    assert_eq!(drain(&mut clients), count);
    // Without clients there is nothing to check.
    ConnectionSet::<ScriptedReads>::new().check_again();
}
