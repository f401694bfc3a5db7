//! However the bytes of several connections are cut into reads, and whatever room there is for
//! them, what comes out are the lines of each, split on its own, and in its order; or, where lines
//! may be cut, their tokens. Where memory for unfinished lines is short, some are dropped, each
//! counted once, and the others are whole.
#![no_main]

use std::collections::VecDeque;
use std::io::{self, Read};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use microtally::Rule;
use microtally::internals::{ConnectionEvent, ConnectionSet, FillOutcome, IntakeRig};

#[derive(Arbitrary, Debug)]
struct Input {
    record_bytes_max: u8,
    /// Memory for unfinished lines, if there is a limit. Then no connection is reset.
    held_bytes_max: Option<u8>,
    /// Whoever reads the lines makes tokens of them.
    is_split: bool,
    bufs: Vec<u8>,
    connections: Vec<Connection>,
}

#[derive(Arbitrary, Clone, Debug)]
struct Connection {
    text: VecDeque<u8>,
    /// Bytes that are there at each read; 0 is none before the next edge. Then all of them.
    reads: VecDeque<u8>,
    is_reset: bool,
}

impl Read for Connection {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        assert!(!buf.is_empty());
        let there = match self.reads.pop_front() {
            Some(0) => return Err(io::ErrorKind::WouldBlock.into()),
            Some(there) => usize::from(there),
            None => usize::MAX,
        };
        let count = there.min(buf.len());
        match self.text.read(&mut buf[..count])? {
            0 if self.is_reset => Err(io::ErrorKind::ConnectionReset.into()),
            count => Ok(count),
        }
    }
}

/// Lines, and what is left of the last one.
fn split(text: impl IntoIterator<Item = u8>) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut lines, mut line, mut after_return) = (Vec::new(), Vec::new(), false);
    for byte in text {
        match byte {
            b'\n' if after_return => {}
            b'\n' | b'\r' => lines.push(std::mem::take(&mut line)),
            _ => line.push(byte),
        }
        after_return = byte == b'\r';
    }
    (lines, line)
}

/// The tokens of lines.
fn tokens(lines: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let tokens = lines
        .iter()
        .flat_map(|line| line.split(|&byte| byte == b' '));
    tokens.map(<[u8]>::to_vec).collect()
}

fuzz_target!(|input: Input| {
    let limit = 1 + usize::from(input.record_bytes_max);
    let held_max = input
        .held_bytes_max
        .map_or(usize::MAX, |max| limit.max(max.into()));
    let rule = if input.is_split {
        Rule::Split(b' ')
    } else {
        Rule::Lines
    };
    let blocks: Vec<usize> = input.bufs.iter().map(|&len| 1 + usize::from(len)).collect();
    let blocks = if blocks.is_empty() { vec![64] } else { blocks };
    let mut rig = IntakeRig::limited(rule, limit, held_max, &blocks);
    let mut clients = ConnectionSet::new();
    let (mut expected, mut long, mut lost) = (Vec::new(), 0, 0);
    for mut connection in input.connections.iter().cloned() {
        // Of a line that was given in part and then reset it depends on the reads how much was
        // given.
        connection.is_reset &= !input.is_split && input.held_bytes_max.is_none();
        let (mut lines, rest) = split(connection.text.iter().copied());
        if connection.is_reset && rest.len() <= limit {
            lost += rest.len();
        } else if !rest.is_empty() {
            lines.push(rest);
        }
        if input.is_split {
            lines = tokens(lines);
        }
        long += lines.iter().filter(|line| line.len() > limit).count() as u64;
        lines.retain(|line| line.len() <= limit);
        expected.extend(lines);
        clients.add(connection);
    }
    let (mut output, mut lost_seen) = (Vec::new(), 0);
    loop {
        let mut on = |event: ConnectionEvent<'_, Connection>| {
            if let ConnectionEvent::Closed { lost_bytes, .. } = event {
                lost_seen += lost_bytes;
            }
        };
        let filled = rig.give(|out| clients.fill(out, &mut on));
        assert!(rig.held_bytes() <= held_max);
        output.extend(rig.take());
        match filled {
            FillOutcome::Again => {}
            FillOutcome::Idle if clients.count() == 0 => break,
            FillOutcome::Idle => {
                (0..input.connections.len()).for_each(|number| clients.on_ready(number))
            }
        }
    }
    output.extend(rig.finish());
    let (mut lines, rest) = split(output);
    if input.is_split {
        // What comes last may be a part of a line: complete words.
        lines = tokens(lines);
        let words = rest.strip_suffix(b" ").map(|words| tokens(vec![words.to_vec()]));
        assert!(rest.is_empty() || words.is_some(), "whole words");
        lines.extend(words.unwrap_or_default());
    } else {
        assert!(rest.is_empty(), "whole lines");
    }
    lines.sort();
    expected.sort();
    let dropped = rig.dropped().tokens;
    if input.held_bytes_max.is_some() {
        assert_eq!(lines.len() as u64 + dropped, expected.len() as u64 + long);
        let mut expected = expected.iter();
        assert!(lines.iter().all(|line| expected.any(|other| other == line)));
    } else {
        assert_eq!((lines, dropped), (expected, long));
    }
    assert_eq!((lost_seen, rig.held_bytes()), (lost, 0));
});
