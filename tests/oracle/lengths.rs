//! Words and lines of every awkward length: around the packed keys, the block and the record limit,
//! and far beyond.

use std::io::Write;

use microtally::batch::BatchStats;
use microtally::config::LineEnds;
use microtally::internals::Kernel;
use microtally::time::BatchTime;
use microtally::{Config, Engine, Rule, Tally};

use crate::definition::{Definition, Expected};

/// Bytes of the long line. Code without optimisation counts some tens of MB a second, so that it
/// gets a shorter one, which is longer than the record limit all the same.
const LINE_BYTES: usize = if cfg!(debug_assertions) {
    20_000_000
} else {
    100_000_000
};

/// Counts in one batch, as a small one is counted and with every kernel, and returns what all of
/// them count.
fn tally(bytes: &[u8], rule: Rule, config: &Config, push_bytes: usize) -> (Expected, BatchStats) {
    let count = |mut tally: Tally| {
        bytes.chunks(push_bytes).for_each(|piece| tally.push(piece));
        tally.end_of_stream();
        let batch = tally
            .cut(BatchTime::from_millis(1))
            .expect("the ledger closes");
        (Expected::seen(&batch), *batch.stats())
    };
    let counted = count(Tally::with_config(rule, config).expect("in range"));
    for kernel in Kernel::available() {
        let tally = Tally::with_kernel(rule, config, kernel).expect("in range");
        assert_eq!(count(tally), counted, "{}", kernel.name());
    }
    counted
}

fn engine(bytes: &[u8], rule: Rule, config: Config) -> (Expected, BatchStats) {
    let engine = Engine::builder(rule)
        .config(config.pin(false))
        .start(|_| ())
        .expect("it starts");
    let mut input = engine.writer().expect("there is one");
    input.write_all(bytes).expect("the engine runs");
    drop(input);
    let finished = engine.finish().expect("the ledger closes");
    (Expected::seen(&finished.batch()), *finished.batch().stats())
}

#[test]
fn words_of_every_awkward_length_are_counted() {
    let mut text = Vec::new();
    for len in [
        0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 4095, 4096, 4097, 300_000,
    ] {
        for last in [b'x', b'y', 0, 0xff] {
            // Words of one length that differ in their last byte only, or in the first.
            let mut word = vec![b'w'; len];
            if let Some(byte) = word.last_mut() {
                *byte = last;
            }
            text.extend_from_slice(&word);
            text.push(b' ');
            word.reverse();
            text.extend_from_slice(&word);
            text.push(if last == 0 { b'\r' } else { b'\n' });
        }
    }
    let twice = text.repeat(2);
    for rule in [Rule::Split(b' '), Rule::SplitWhitespace, Rule::Lines] {
        let expected = Definition::of(&twice, rule);
        for block_bytes in [64, 4096, 256 * 1024] {
            let config = Config::default().block_bytes(block_bytes);
            assert_eq!(tally(&twice, rule, &config, 1_000).0, expected);
            assert_eq!(engine(&twice, rule, config.workers(3)).0, expected);
        }
    }
}

/// One line of words: the words, how often each piece of them comes, and what is due.
fn long_line() -> (Vec<u8>, usize, Expected) {
    let words = "a bb to the seventh eight888 fifteen__bytes_ sixteen___bytes_ seventeen__bytes_ \u{e9}t\u{e9} \0  ";
    let piece = words.repeat(1_000).into_bytes();
    let repeats = LINE_BYTES / piece.len() + 1;
    let mut expected = Expected {
        records: 1,
        bytes: (piece.len() * repeats) as u64 + 1,
        ..Expected::default()
    };
    for word in words.split(' ').take(words.matches(' ').count()) {
        *expected.counts.entry(word.as_bytes().to_vec()).or_insert(0) += 1_000 * repeats as u64;
    }
    // The last piece ends with a separator, and behind that is the line's last, empty word.
    *expected
        .counts
        .get_mut(&b""[..])
        .expect("two spaces in a row") += 1;
    expected.tokens = expected.counts.values().sum();
    (piece, repeats, expected)
}

#[test]
fn a_line_far_beyond_the_record_limit_loses_no_word_in_a_tally() {
    let (piece, repeats, expected) = long_line();
    let mut tally = Tally::new(Rule::Split(b' '));
    for _ in 0..repeats {
        tally.push(&piece);
    }
    tally.push(b"\n");
    let batch = tally
        .cut(BatchTime::from_millis(1))
        .expect("the ledger closes");
    assert!(expected.bytes as usize > LINE_BYTES);
    assert_eq!(batch.stats().oversize_tokens, 0);
    assert_eq!(Expected::seen(&batch), expected);
}

#[test]
fn a_line_far_beyond_the_record_limit_loses_no_word_in_an_engine() {
    let (piece, repeats, expected) = long_line();
    let config = Config::default().workers(2).pin(false);
    let engine = Engine::builder(Rule::Split(b' '))
        .config(config)
        .start(|_| ())
        .expect("it starts");
    let mut input = engine.writer().expect("there is one");
    for _ in 0..repeats {
        input.write_all(&piece).expect("the engine runs");
    }
    input.write_all(b"\r\n").expect("the engine runs");
    drop(input);
    let finished = engine.finish().expect("the ledger closes");
    assert_eq!(finished.batch().stats().oversize_tokens, 0);
    assert_eq!(
        Expected::seen(&finished.batch()),
        Expected {
            bytes: expected.bytes + 1,
            ..expected
        }
    );
}

/// Just below, at and above the limit; what comes behind is counted in every case.
#[test]
fn only_a_token_above_the_record_limit_is_oversize() {
    for limit in [64, 65, 100, 5_000] {
        for len in [
            limit - 1,
            limit,
            limit + 1,
            limit + 2,
            2 * limit,
            10 * limit + 1,
        ] {
            let long = vec![b'x'; len];
            let text = [
                b"before ",
                &long[..],
                b" behind ",
                &long,
                b"\r\n\n",
                &long,
                b"\nafter\nend",
            ]
            .concat();
            for rule in [Rule::Split(b' '), Rule::SplitWhitespace] {
                let (expected, left_out) = Definition::of(&text, rule).without_longer(limit);
                assert_eq!(left_out, if len > limit { 3 } else { 0 });
                let check = |(got, stats): (Expected, BatchStats), what: &str| {
                    assert_eq!(got, expected, "{what}: {len} of {limit}");
                    let oversize = (stats.oversize_tokens, stats.oversize_bytes);
                    assert_eq!(
                        oversize,
                        (left_out, left_out * len as u64),
                        "{what}: {len} of {limit}"
                    );
                };
                for block_bytes in [64, 100, 256 * 1024] {
                    let config = Config::default()
                        .block_bytes(block_bytes)
                        .record_bytes_max(limit);
                    for push_bytes in [1, 63, 1 << 20] {
                        check(tally(&text, rule, &config, push_bytes), "tally");
                    }
                    check(engine(&text, rule, config.workers(2)), "engine");
                }
            }
        }
    }
}

#[test]
fn records_around_the_limit_keep_all_their_words() {
    for limit in [64usize, 100, 5_000] {
        for len in [limit - 1, limit, limit + 1, 3 * limit] {
            let mut line = b"abc ".repeat(len / 4 + 1);
            line.truncate(len);
            let text = [&line[..], b"\n", &line, b"\r\n", &line].concat();
            for rule in [Rule::Split(b' '), Rule::SplitWhitespace] {
                let config = Config::default().block_bytes(64).record_bytes_max(limit);
                let (got, stats) = tally(&text, rule, &config, 10);
                assert_eq!(
                    (got, stats.oversize_tokens),
                    (Definition::of(&text, rule), 0)
                );
            }
            // Where the line is the token, a line above the limit is left out and counted as such.
            let config = Config::default().block_bytes(64).record_bytes_max(limit);
            let (got, stats) = tally(&text, Rule::Lines, &config, 10);
            let due = Definition::of(&text, Rule::Lines).without_longer(limit);
            assert_eq!((got, stats.oversize_tokens), due);
        }
    }
}

/// A `\r` is content unless a `\n` comes behind it, which the next read may bring, or the end of
/// the stream denies.
#[test]
fn a_return_at_the_limit_is_content_unless_a_line_feed_comes_behind_it() {
    const LIMIT: usize = 64;
    for len in LIMIT - 2..=LIMIT + 2 {
        for end in ["\n", "\r\n", "\r\r\n", "\rx\n", "\r \r\n", "\r", "\r\r", ""] {
            let text = [&b"before\r\n"[..], &vec![b'x'; len], end.as_bytes()].concat();
            for rule in [Rule::Split(b' '), Rule::SplitWhitespace, Rule::Lines] {
                let config = || {
                    let config = Config::default().block_bytes(64).record_bytes_max(LIMIT);
                    config.line_ends(LineEnds::Lf)
                };
                let due = Definition::of_ends(&text, rule, LineEnds::Lf).without_longer(LIMIT);
                for push_bytes in [1, 63, 1_000] {
                    let (got, stats) = tally(&text, rule, &config(), push_bytes);
                    assert_eq!((got, stats.oversize_tokens), due, "{len} {end:?} {rule:?}");
                }
                let (got, stats) = engine(&text, rule, config().workers(1));
                assert_eq!((got, stats.oversize_tokens), due, "{len} {end:?} {rule:?}");
            }
        }
    }
}

/// The `\n` of a `\r\n` behind an oversize token was looked for a second time in the next read.
#[test]
fn an_empty_line_right_behind_an_oversize_token_is_counted() {
    let config = Config::default().block_bytes(64).record_bytes_max(64);
    let mut tally = Tally::with_config(Rule::Split(b' '), &config).expect("in range");
    tally.push(&[b'x'; 100]);
    tally.push(b"x\r\n");
    tally.push(b"\nb\n");
    let batch = tally
        .cut(BatchTime::from_millis(1))
        .expect("the ledger closes");
    assert_eq!(
        (batch.stats().records, batch.get(b""), batch.get(b"b")),
        (3, Some(1), Some(1))
    );
}

/// Hostile bytes on both sides of every place where the splitter's 16 KiB chunks meet: a word that
/// ends in NUL on the last byte of a chunk and has its end in the next was once taken for the word
/// without it.
#[test]
fn words_that_end_where_chunks_meet_are_counted_as_what_they_are() {
    const CHUNK_BYTES: usize = 16 * 1024;
    let config = Config::default();
    let hostile: [&[u8]; 8] = [
        b"x\0",
        b"\0",
        b"\0\0",
        b"x\r",
        b"\r",
        b"\r\n",
        b" ",
        b"abcdefg\0",
    ];
    for behind in [&b"\n"[..], b" y\n", b"\ny\n"] {
        for piece in hostile {
            for reach in 0..=piece.len() {
                let mut bytes = vec![b'b'; CHUNK_BYTES - reach - 1];
                bytes.push(b' ');
                bytes.extend_from_slice(piece);
                bytes.extend_from_slice(behind);
                for rule in [Rule::Split(b' '), Rule::SplitWhitespace, Rule::Lines] {
                    let (seen, _) = tally(&bytes, rule, &config, usize::MAX);
                    let expected = Definition::of(&bytes, rule);
                    assert_eq!(seen, expected, "{piece:?} {reach} {behind:?} {rule:?}");
                }
            }
        }
    }
}
