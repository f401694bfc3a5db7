//! Chains of record-plane operators against loops over the text.
//!
//! Method: streams are made as a program makes them, and their records are taken out of one block
//! of random lines, by every kernel this processor has.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use crate::prelude::{Duration, StreamingContext, split_whitespace};
use crate::shard::stage::Records;
use crate::split::{Kernel, Rule, Splitter};
use crate::stream::DStream;

/// Whether every kernel finds `expected` in `text`, for operators that make records of lines.
fn assert_records<R: Records>(
    text: &[String],
    build: impl Fn(DStream<crate::stream::LineRecords>) -> DStream<R>,
    expected: &[&[u8]],
) {
    let context = StreamingContext::new(Duration::from_secs(1)).expect("in range");
    let records = build(context.stdin_text_stream()).records;
    let block: Vec<u8> = text
        .iter()
        .enumerate()
        .flat_map(|(index, line)| {
            [line.as_bytes(), [&b"\n"[..], b"\r\n", b"\r"][index % 3]].concat()
        })
        .collect();
    for kernel in Kernel::available() {
        let mut splitter = Splitter::new(records.rule(), kernel);
        let mut found = Vec::new();
        let tallied = records.for_each(&mut splitter, (&block).into(), |record| found.push(record));
        assert_eq!(found, expected, "{}", kernel.name());
        assert_eq!(tallied.tokens, expected.len() as u64);
        assert_eq!(tallied.records, lines_in(&block));
    }
}

/// A `\r` in front of an empty line that ends with `\n` makes one end of two.
fn lines_in(block: &[u8]) -> u64 {
    let ends = |(index, &byte): (usize, &u8)| {
        byte == b'\r' || byte == b'\n' && (index == 0 || block[index - 1] != b'\r')
    };
    block.iter().enumerate().filter(|&at| ends(at)).count() as u64
}

/// The lines of the block, as Python sees them.
fn lines(text: &[String]) -> Vec<&[u8]> {
    let is_swallowed = |index: usize| {
        // The line before ended with `\r`, and this one is nothing but `\n`.
        index.is_multiple_of(3) && index > 0 && text[index].is_empty()
    };
    let lines = text.iter().enumerate();
    lines
        .filter(|&(index, _)| !is_swallowed(index))
        .map(|(_, line)| line.as_bytes())
        .collect()
}

/// What `f` makes of every line.
fn each<'a>(lines: &[&'a [u8]], f: impl Fn(&'a [u8]) -> Vec<&'a [u8]>) -> Vec<&'a [u8]> {
    lines.iter().flat_map(|line| f(line)).collect()
}

fn split(line: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    line.split(move |&byte| byte == separator)
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'\x0b';
    line.split(is_blank).filter(|word| !word.is_empty())
}

#[test]
fn a_record_without_the_part_is_handed_over_and_gives_nothing() {
    let block = b"a b\nc\n\n,d,e f\n";
    for (rule, number, expected, expected_missing) in [
        (Rule::SplitWhitespace, 1, vec!["b", "f"], vec!["c", ""]),
        (Rule::Split(b','), 1, vec!["d"], vec!["a b", "c", ""]),
        (Rule::Lines, 0, vec!["a b", "c", "", ",d,e f"], vec![]),
    ] {
        let missing = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let kept = Arc::clone(&missing);
        let context = StreamingContext::new(Duration::from_secs(1)).expect("in range");
        let keep = move |record: &[u8]| kept.lock().unwrap().push(record.to_vec());
        let stream = context.stdin_text_stream().part_or(rule, number, keep);
        for kernel in Kernel::available() {
            let mut splitter = Splitter::new(stream.records.rule(), kernel);
            let mut found = Vec::new();
            let tallied = stream
                .records
                .for_each(&mut splitter, block[..].into(), |record| found.push(record));
            let expected: Vec<&[u8]> = expected.iter().map(|part| part.as_bytes()).collect();
            assert_eq!(found, expected, "{rule:?}");
            assert_eq!((tallied.records, tallied.tokens), (4, found.len() as u64));
            let missing = std::mem::take(&mut *missing.lock().unwrap());
            let expected: Vec<&[u8]> = expected_missing
                .iter()
                .map(|part| part.as_bytes())
                .collect();
            assert_eq!(missing, expected, "{rule:?}");
        }
    }
}

proptest! {
    #[test]
    fn every_operator_gives_what_a_loop_gives(
        text in proptest::collection::vec("[ab,; \\t\\x00]{0,24}", 0..40),
        number in 0usize..4,
    ) {
        let lines = lines(&text);

        assert_records(&text, |lines| lines, &lines);
        assert_records(&text, |lines| lines.flat_map(Rule::Lines), &lines);
        assert_records(
            &text,
            |lines| lines.split(b','),
            &each(&lines, |line| split(line, b',').collect()),
        );
        assert_records(&text, |lines| lines.split_whitespace(), &each(&lines, |line| words(line).collect()));
        assert_records(
            &text,
            move |lines| lines.field(number, b','),
            &each(&lines, |line| split(line, b',').nth(number).into_iter().collect()),
        );
        assert_records(
            &text,
            move |lines| lines.field_whitespace(number),
            &each(&lines, |line| words(line).nth(number).into_iter().collect()),
        );
        assert_records(
            &text,
            |lines| lines.map_slice(|line| &line[line.len() / 2..]),
            &each(&lines, |line| vec![&line[line.len() / 2..]]),
        );
    }

    #[test]
    fn operators_behind_one_another_see_records_and_not_lines(
        text in proptest::collection::vec("[ab,; \\t]{0,24}", 0..40),
        number in 0usize..3,
    ) {
        let lines = lines(&text);

        // Words of words of words.
        assert_records(
            &text,
            |lines| lines.split(b';').split(b',').flat_map(split_whitespace()),
            &each(&lines, |line| split(line, b';').flat_map(|part| split(part, b',')).flat_map(words).collect()),
        );
        // A word has no separators of its own left.
        assert_records(
            &text,
            |lines| lines.split(b',').split(b',').flat_map(Rule::Lines),
            &each(&lines, |line| split(line, b',').collect()),
        );
        assert_records(
            &text,
            |lines| lines.flat_map(Rule::Lines).split(b','),
            &each(&lines, |line| split(line, b',').collect()),
        );
        assert_records(
            &text,
            |lines| lines.filter(|line| line.contains(&b'b')).split(b','),
            &each(&lines, |line| match line.contains(&b'b') {
                true => split(line, b',').collect(),
                false => Vec::new(),
            }),
        );
        assert_records(
            &text,
            move |lines| lines.field(number, b';').split(b' ').filter(|word| !word.is_empty()),
            &each(&lines, |line| {
                let field = split(line, b';').nth(number);
                let words = field.into_iter().flat_map(|field| split(field, b' '));
                words.filter(|word| !word.is_empty()).collect()
            }),
        );
        assert_records(
            &text,
            move |lines| lines.split(b',').field_whitespace(number).map_slice(|word| &word[..1]),
            &each(&lines, |line| {
                split(line, b',').filter_map(|part| words(part).nth(number)).map(|word| &word[..1]).collect()
            }),
        );
        assert_records(
            &text,
            |lines| lines.flat_map_with(|line, out| {
                out.emit(line);
                out.emit(b"x,y");
            }).split(b','),
            &each(&lines, |line| split(line, b',').chain([&b"x"[..], b"y"]).collect()),
        );
    }
}

#[test]
fn lines_keep_the_vector_path_and_nothing_else_takes_it() {
    let context = StreamingContext::new(Duration::from_secs(1)).expect("in range");
    let lines = context.stdin_text_stream();
    assert_eq!(lines.records.plain(), Some(Rule::Lines));
    let words = lines.split(b' ');
    assert_eq!(words.records.plain(), Some(Rule::Split(b' ')));
    assert_eq!(words.records.rule(), Rule::Split(b' '));
    let lines_again = lines.flat_map(Rule::Lines).split_whitespace();
    assert_eq!(lines_again.records.plain(), Some(Rule::SplitWhitespace));
    assert_eq!(words.split(b',').records.plain(), None);
    assert_eq!(
        words.split(b',').records.rule(),
        Rule::Split(b' '),
        "words are found as before"
    );
    assert_eq!(lines.field(0, b' ').records.plain(), None);
    assert_eq!(lines.filter(|_| true).split(b' ').records.plain(), None);
    assert_eq!(
        lines.filter(|_| true).split(b' ').records.rule(),
        Rule::Lines
    );
}
