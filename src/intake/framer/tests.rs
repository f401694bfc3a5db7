//! Records around the limit, byte by byte.

use std::convert::Infallible;

use super::*;
use crate::ring::arena::Arena;

const LIMIT: usize = 64;
const BLOCK: usize = 16;

/// A framer and what it has given away.
struct FramerRig {
    framer: Framer,
    arena: Arena,
    given: Vec<Vec<u8>>,
}

impl FramerRig {
    fn new(rule: Rule) -> FramerRig {
        FramerRig::with_ends(rule, LineEnds::Universal)
    }

    fn with_ends(rule: Rule, line_ends: LineEnds) -> FramerRig {
        FramerRig {
            framer: Framer::new(rule, line_ends, LIMIT),
            arena: Arena::new(BLOCK, 1024).expect("little memory"),
            given: Vec::new(),
        }
    }

    /// Calls `act` with the framer and the rig as its port.
    fn with_port<T>(&mut self, act: impl FnOnce(&mut Framer, &mut Given<'_>) -> T) -> T {
        let FramerRig {
            framer,
            arena,
            given,
        } = self;
        act(framer, &mut Given::new(arena, given))
    }

    fn cut(&mut self) -> bool {
        let Ok(is_cut) = self.with_port(|framer, given| given.place(framer));
        is_cut
    }

    /// Reads `bytes` in pieces of at most `read_max`.
    fn read(&mut self, bytes: &[u8], read_max: usize) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = self.with_port(|framer, given| {
                let Ok(space) = framer.space(given);
                let count = rest.len().min(space.len()).min(read_max);
                space[..count].copy_from_slice(&rest[..count]);
                framer.filled(count);
                count
            });
            rest = &rest[count..];
            assert!(self.framer.held_bytes() <= LIMIT + 2, "memory is bounded");
        }
    }

    /// Ends the connection and gives everything away.
    fn end(&mut self) {
        let Ok(()) = self.with_port(|framer, given| framer.finish(Ending::Clean, given));
        assert_eq!(self.framer.held_bytes(), 0);
    }

    fn text(&self) -> String {
        String::from_utf8(self.given.concat()).expect("it is ASCII")
    }
}

/// Keeps the bytes of the blocks.
pub(crate) struct Given<'a> {
    arena: &'a Arena,
    given: &'a mut Vec<Vec<u8>>,
    /// How often it was asked to make room.
    turns: u32,
}

impl<'a> Given<'a> {
    pub(crate) fn new(arena: &'a Arena, given: &'a mut Vec<Vec<u8>>) -> Self {
        let turns = 0;
        Given {
            arena,
            given,
            turns,
        }
    }
}

impl BlockPort for Given<'_> {
    type Full = Infallible;

    fn take_empty(&mut self) -> Block {
        self.arena.block()
    }

    fn place(&mut self, framer: &mut Framer) -> Result<bool, Infallible> {
        self.turns += 1;
        assert!(self.turns < 10, "no room for another byte");
        let block = framer.cut();
        let is_cut = block.is_some();
        self.given.extend(block.map(|block| block.bytes().to_vec()));
        Ok(is_cut)
    }
}

#[test]
fn a_token_of_the_limit_is_kept_and_one_a_byte_longer_is_dropped() {
    for rule in [Rule::Lines, Rule::Split(b' '), Rule::SplitWhitespace] {
        for len in [BLOCK, LIMIT - 1, LIMIT, LIMIT + 1, LIMIT + 2, 3 * LIMIT] {
            for read_max in [1, 7, usize::MAX] {
                let what = format!("{rule:?}, {len} bytes, {read_max} at once");
                let mut rig = FramerRig::new(rule);
                let token = "x".repeat(len);
                rig.read(format!("before\n{token}\nbehind\n").as_bytes(), read_max);
                rig.end();
                let (text, intake) = (rig.text(), rig.framer.intake());
                if len <= LIMIT {
                    assert_eq!(text, format!("before\n{token}\nbehind\n"), "{what}");
                    assert_eq!(intake.oversize_tokens, 0, "{what}");
                } else {
                    assert_eq!(text, "before\nbehind\n", "{what}");
                    let oversize = (intake.oversize_tokens, intake.oversize_bytes);
                    assert_eq!(oversize, (1, len as u64), "{what}");
                    assert_eq!(intake.records_ended, 1, "{what}");
                }
            }
        }
    }
}

#[test]
fn a_token_of_the_limit_is_kept_behind_a_line_end_that_was_torn_apart() {
    // The skipped `\n` takes a byte of the block that is as large as a record may be.
    for len in [LIMIT - 1, LIMIT, LIMIT + 1] {
        let mut rig = FramerRig::new(Rule::Lines);
        rig.read(b"before\r", usize::MAX);
        assert!(rig.cut());
        let token = "x".repeat(len);
        rig.read(format!("\n{token}\n").as_bytes(), 1);
        rig.end();
        let kept = match len <= LIMIT {
            true => format!("{token}\n"),
            false => String::new(),
        };
        assert_eq!(rig.text(), format!("before\r{kept}"), "{len} bytes");
        assert_eq!(
            rig.framer.intake().bytes_skipped,
            1 + u64::from(len > LIMIT)
        );
    }
}

#[test]
fn a_record_that_is_too_long_goes_on_in_blocks_of_the_usual_size() {
    let rule = Rule::Split(b' ');
    let long = "ab ".repeat(100);
    // As it is, and behind a word that is too long itself, which is dropped.
    for (word, is_behind) in [("", false), ("x".repeat(LIMIT + 1).as_str(), true)] {
        let begin = if is_behind {
            format!("{word} ")
        } else {
            String::new()
        };
        let mut rig = FramerRig::new(rule);
        rig.read(format!("{begin}{long}").as_bytes(), usize::MAX);
        let (first, others) = rig.given.split_first().expect("it is longer than a block");
        assert!(first.len() <= LIMIT + 1, "{}", first.len());
        for given in others {
            assert!(given.len() <= 2 * BLOCK, "{}", given.len());
        }
        if is_behind {
            assert!(first.len() <= 2 * BLOCK, "{}", first.len());
        }
        // Its beginning is away, so it has a last token, which is empty.
        rig.read(b"", usize::MAX);
        rig.end();
        assert_eq!(rig.text(), format!("{long}\n"));
        assert_eq!(rig.framer.intake().oversize_tokens, u64::from(is_behind));
        assert_eq!(rig.framer.intake().bytes_ended, 1);
    }
}

#[test]
fn a_record_whose_last_word_was_too_long_has_ended_with_it() {
    let word = "x".repeat(LIMIT + 1);
    // A delimiter behind the word: an empty last token, and a line end that is added.
    for (end, expected, ended) in [(" ", "\n", 1), ("\n", "", 0)] {
        let mut rig = FramerRig::new(Rule::Split(b' '));
        rig.read(format!("{word}{end}").as_bytes(), usize::MAX);
        rig.end();
        assert_eq!(rig.text(), expected);
        assert_eq!(rig.framer.intake().bytes_ended, ended);
    }
}

#[test]
fn a_block_for_a_carried_token_of_the_limit_has_room_for_its_delimiter() {
    let token = "x".repeat(LIMIT);
    let mut rig = FramerRig::new(Rule::Split(b' '));
    // The record is too long with its last byte: the token is carried as a whole, and a block
    // provided.
    rig.read(format!(" {token}").as_bytes(), usize::MAX);
    rig.read(b" ", usize::MAX);
    rig.end();
    assert_eq!(rig.text(), format!(" {token} \n"));
    assert_eq!(rig.framer.intake().oversize_tokens, 0);
}

#[test]
fn a_token_is_dropped_where_the_byte_behind_its_return_makes_it_too_long() {
    // A block that was enlarged for the `\r`, which a `\n` would have made a part of the end.
    let word = format!("{}\rx", "x".repeat(LIMIT - 1));
    for blanks in 1..=BLOCK {
        for read_max in [1, 2, usize::MAX] {
            let mut rig = FramerRig::with_ends(Rule::Split(b' '), LineEnds::Lf);
            let blanks = " ".repeat(blanks);
            rig.read(format!("{blanks}{word}\n\n").as_bytes(), read_max);
            rig.end();
            assert_eq!(rig.text().trim_start_matches(' '), "\n", "{blanks:?}");
            assert_eq!(rig.framer.intake().oversize_tokens, 1);
            assert_eq!(rig.framer.intake().oversize_bytes, word.len() as u64);
        }
    }
}

#[test]
fn a_return_that_ends_the_stream_behind_a_line_of_the_limit_is_content() {
    for rule in [Rule::Lines, Rule::Split(b' ')] {
        for (len, kept) in [(LIMIT - 1, true), (LIMIT, false)] {
            let line = "x".repeat(len);
            let mut rig = FramerRig::with_ends(rule, LineEnds::Lf);
            rig.read(format!("{line}\r").as_bytes(), usize::MAX);
            rig.end();
            let (text, intake) = (rig.text(), rig.framer.intake());
            let due = if kept {
                format!("{line}\r\r\n")
            } else {
                String::new()
            };
            assert_eq!(text, due, "{rule:?}");
            let oversize = (intake.oversize_tokens, intake.oversize_bytes);
            assert_eq!(oversize, if kept { (0, 0) } else { (1, len as u64 + 1) });
            assert_eq!(intake.records_ended, u64::from(!kept));
        }
    }
    // Where it is followed by a line feed it is none.
    let line = "x".repeat(LIMIT);
    let mut rig = FramerRig::with_ends(Rule::Lines, LineEnds::Lf);
    rig.read(format!("{line}\r\n{line}\r").as_bytes(), 1);
    rig.end();
    assert_eq!(rig.text(), format!("{line}\r\n"));
}

#[test]
fn a_carried_token_of_the_limit_and_its_return_find_room_for_what_comes_behind_them() {
    for (letters, returns, behind) in [(LIMIT, 1, "\n"), (LIMIT, 1, ""), (LIMIT - 2, 2, "")] {
        let word = format!("{}{}", "x".repeat(letters), "\r".repeat(returns));
        for blanks in [1, 2, 3] {
            let mut rig = FramerRig::with_ends(Rule::Split(b' '), LineEnds::Lf);
            rig.read(
                format!("{}{word}{behind}", " ".repeat(blanks)).as_bytes(),
                1,
            );
            rig.end();
            let is_kept = behind == "\n" || letters < LIMIT;
            let kept = rig
                .text()
                .trim_matches([' ', '\n'])
                .trim_end_matches('\r')
                .len();
            assert_eq!(
                kept,
                if is_kept { letters } else { 0 },
                "{word:?} {behind:?}"
            );
            let dropped = rig.framer.intake().oversize_tokens;
            assert_eq!(dropped, u64::from(!is_kept), "{word:?} {behind:?}");
        }
    }
}

#[test]
fn bytes_that_are_no_content_are_read_and_are_in_no_record() {
    let mut rig = FramerRig::new(Rule::Lines);
    rig.framer.skipped(5);
    rig.read(b"one\n", usize::MAX);
    rig.framer.skipped(7);
    rig.end();
    assert_eq!(rig.text(), "one\n");
    let intake = rig.framer.intake();
    assert_eq!((intake.bytes_read, intake.bytes_skipped), (16, 12));
}

#[test]
fn a_block_with_little_room_is_read_into_only_if_it_holds_no_record_end() {
    let mut rig = FramerRig::new(Rule::Lines);
    let put = |rig: &mut FramerRig, bytes: &[u8]| {
        let block = rig.framer.block.as_mut().expect("one was provided");
        block.space()[..bytes.len()].copy_from_slice(bytes);
        rig.framer.filled(bytes.len());
    };
    rig.framer.provide(rig.arena.block());
    put(&mut rig, b"0123456789\nab");
    assert!(!rig.framer.has_space(), "3 of {BLOCK} bytes are free");
    assert!(rig.cut());
    rig.framer.provide(rig.arena.block());
    put(&mut rig, b"cdefghijklmno");
    assert!(
        !rig.framer.has_space(),
        "nobody has looked for a record end"
    );
    assert!(!rig.cut());
    assert!(rig.framer.has_space(), "there is none");
    put(&mut rig, b"\n");
    assert!(!rig.framer.has_space(), "it is full");
    assert!(rig.cut());
    assert_eq!(rig.text(), "0123456789\nabcdefghijklmno\n");
}

#[test]
fn a_connection_that_ends_within_a_word_that_is_too_long_has_a_last_record_or_a_truncated_one() {
    let bytes = 3 * LIMIT as u64;
    for (ending, ended, truncated) in [(Ending::Clean, 1, 0), (Ending::Reset, 0, 1)] {
        let mut rig = FramerRig::new(Rule::Lines);
        rig.read("x".repeat(3 * LIMIT).as_bytes(), usize::MAX);
        while rig.cut() {}
        rig.framer.end(ending);
        while rig.cut() {}
        assert_eq!((rig.text(), rig.framer.held_bytes()), (String::new(), 0));
        let intake = rig.framer.intake();
        let records = (intake.records_ended, intake.truncated_records);
        assert_eq!(records, (ended, truncated), "{ending:?}");
        assert_eq!((intake.oversize_tokens, intake.oversize_bytes), (1, bytes));
        assert_eq!(intake.truncated_bytes, 0, "its bytes are reported already");
    }
}

/// Where a lone return ends no record, the byte behind one of the limit may be half of a line end.
#[test]
fn a_return_before_the_line_feed_is_no_byte_of_a_record_of_the_limit() {
    for (len, end, is_kept) in [
        (LIMIT, "\r\n", true),
        (LIMIT, "\n", true),
        (LIMIT, "\rx\n", false),
        (LIMIT + 1, "\r\n", false),
        (LIMIT + 1, "\n", false),
    ] {
        for read_max in [1, 7, usize::MAX] {
            let what = format!("{len} bytes, then {end:?}, {read_max} at once");
            let mut rig = FramerRig::with_ends(Rule::Lines, LineEnds::Lf);
            let record = format!("{}{end}", "x".repeat(len));
            rig.read(format!("before\n{record}behind\n").as_bytes(), read_max);
            rig.end();
            let kept = if is_kept { record.as_str() } else { "" };
            assert_eq!(rig.text(), format!("before\n{kept}behind\n"), "{what}");
            assert_eq!(
                rig.framer.intake().oversize_tokens,
                u64::from(!is_kept),
                "{what}"
            );
        }
    }
}

#[test]
fn only_a_record_that_is_longer_than_a_block_is_in_a_larger_one() {
    let mut rig = FramerRig::new(Rule::Lines);
    assert!(!rig.framer.is_spilled());
    rig.read("x".repeat(BLOCK - 1).as_bytes(), usize::MAX);
    assert!(!rig.framer.is_spilled());
    rig.read(b"xx", usize::MAX);
    assert!(rig.framer.is_spilled());
    rig.read(b"\n", usize::MAX);
    assert!(rig.cut());
    assert!(!rig.framer.is_spilled());
}
