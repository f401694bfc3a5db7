//! Clients beside others that take what they can get.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::intake::rig::IntakeRig;
use crate::split::{Delimiters, LineEnds, Rule};

/// Sends its bytes, and then nothing.
struct Sends(Rc<RefCell<VecDeque<u8>>>);

impl Read for Sends {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.borrow_mut().read(buf)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

/// Clients, some of which end no line, and what they lead to.
struct Crowd {
    clients: ConnectionSet<Sends>,
    rig: IntakeRig,
    held_bytes_max: usize,
    output: Vec<u8>,
    /// The clients that lost a line, numbered in the order in which they connected.
    payers: Vec<usize>,
}

impl Crowd {
    fn new(rule: Rule, record_bytes_max: usize, held_bytes_max: usize) -> Crowd {
        let line_ends = LineEnds::Universal;
        let delimiters = Delimiters { rule, line_ends };
        Crowd {
            clients: ConnectionSet::new(),
            rig: IntakeRig::new(delimiters, record_bytes_max, held_bytes_max, &[10_000]),
            held_bytes_max: held_bytes_max.max(record_bytes_max),
            output: Vec::new(),
            payers: Vec::new(),
        }
    }

    fn join(&mut self) -> usize {
        self.clients.add(Sends(Rc::default()))
    }

    fn send(&mut self, number: usize, bytes: &[u8]) {
        let streams: Vec<_> = (self.clients.connections())
            .map(|sends| Rc::clone(&sends.0))
            .collect();
        streams[number].borrow_mut().extend(bytes);
        self.clients.on_ready(number);
        loop {
            let payers = &mut self.payers;
            let mut on = |event: ConnectionEvent<'_, Sends>| {
                if let ConnectionEvent::LongLine(sends) = event {
                    let is_it = |stream: &Rc<_>| Rc::ptr_eq(stream, &sends.0);
                    payers.extend(streams.iter().position(is_it));
                }
            };
            let (filled, _) = self.rig.fill(|out| self.clients.fill(out, &mut on));
            assert!(self.rig.channels.held_bytes() <= self.held_bytes_max);
            self.output.extend(self.rig.take());
            if filled == FillOutcome::Idle {
                break;
            }
        }
    }
}

#[test]
fn who_holds_most_of_an_unfinished_line_pays_and_short_lines_are_all_counted() {
    for rule in [Rule::Lines, Rule::Split(b' ')] {
        let mut crowd = Crowd::new(rule, 16_000, 32_000);
        let honest = crowd.join();
        let hostile = [crowd.join(), crowd.join(), crowd.join()];
        for number in hostile {
            crowd.send(number, &b"x".repeat(16_000));
        }
        for _ in 0..100 {
            crowd.send(honest, b"one ho");
            for number in hostile {
                crowd.send(number, &b"x".repeat(1_500));
            }
            crowd.send(honest, b"nest line\n");
        }
        assert_eq!(crowd.output, b"one honest line\n".repeat(100), "{rule:?}");
        assert!(!crowd.payers.is_empty() && !crowd.payers.contains(&honest));
    }
}

#[test]
fn memory_that_is_only_kept_for_later_lines_costs_nobody_a_line() {
    let mut crowd = Crowd::new(Rule::Lines, 40_000, 40_000);
    let kept: Vec<usize> = (0..10).map(|_| crowd.join()).collect();
    for &number in &kept {
        // Room for 4,000 bytes stays, and of the next line five are there.
        crowd.send(number, &b"x".repeat(4_000));
        crowd.send(number, b"\nbegun");
    }
    let late = crowd.join();
    crowd.send(late, &b"y".repeat(30_000));
    for &number in &kept {
        crowd.send(number, b" and ended\n");
    }
    assert_eq!(crowd.payers, [0; 0]);
    let ended = b"begun and ended\n".repeat(10);
    assert!(crowd.output.ends_with(&ended));
}

#[test]
fn a_long_line_that_is_only_split_pays_with_its_complete_words_and_loses_none() {
    let mut crowd = Crowd::new(Rule::Split(b' '), 16_000, 16_000);
    let (wordy, other) = (crowd.join(), crowd.join());
    crowd.send(wordy, &b"word ".repeat(3_000));
    assert_eq!(crowd.output, b"");
    crowd.send(other, &b"z".repeat(4_000));
    crowd.send(wordy, b"last\n");
    crowd.send(other, b"\n");
    assert_eq!(crowd.payers, [0; 0]);
    let words = tests::tokens(Rule::Split(b' '), &crowd.output);
    let count = |word: &[u8]| words.iter().filter(|other| other[..] == *word).count();
    assert_eq!(
        (count(b"word"), count(b"last"), words.len()),
        (3_000, 1, 3_002)
    );
}

#[test]
fn who_has_ended_is_known_until_it_was_read_to_its_end() {
    let mut crowd = Crowd::new(Rule::Lines, 100, 100);
    let (first, second) = (crowd.join(), crowd.join());
    crowd.clients.on_ended(first);
    crowd.clients.on_ended(first);
    crowd.clients.on_ended(99);
    assert_eq!(crowd.clients.ended(), 1);
    assert!(crowd.clients.has_ended(|_| true) && !crowd.clients.has_ended(|_| false));
    // A read that would block means that there may be more: it was no end.
    crowd.send(second, b"a line\n");
    assert_eq!(crowd.clients.ended(), 0);
    crowd.clients.on_ended(second);
    crowd.clients.end(|_| None);
    crowd.rig.fill(|out| crowd.clients.fill(out, &mut |_| ()));
    assert_eq!((crowd.clients.count(), crowd.clients.ended()), (0, 0));
}

#[test]
fn what_was_sent_and_not_read_is_counted_at_the_end_where_somebody_knows_how_much() {
    let mut crowd = Crowd::new(Rule::Lines, 100, 100);
    let streams = [(); 3].map(|()| Rc::<RefCell<VecDeque<u8>>>::default());
    for stream in &streams {
        crowd.clients.add(Sends(Rc::clone(stream)));
    }
    streams[0].borrow_mut().extend(b"twelve bytes");
    streams[2].borrow_mut().extend(b"five.");
    let known = |sends: &Sends| Some(sends.0.borrow().len() as u64);
    let (clients, bytes) = (2, 17);
    assert_eq!(
        crowd.clients.end(known),
        Some(UnreadData { clients, bytes })
    );
    assert_eq!(crowd.clients.end(known), None);
}
