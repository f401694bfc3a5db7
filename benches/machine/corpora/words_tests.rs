//! Tests of the load generator: the stream, its cuts and its period, the vocabulary, the shares.

use super::*;
use std::collections::HashSet;

fn text(bytes: usize, words: Words) -> Vec<u8> {
    let mut out = vec![0; bytes];
    words.build().unwrap().fill(&mut out);
    out
}

#[test]
fn any_cut_gives_the_same_stream_over_the_end_of_the_period() {
    let words = Words::new(3).vocabulary(500).period_bytes(5_000);
    let whole = text(40_000, words.clone());
    for step in [1, 2, 7, 255, 4_999, 5_000, 20_000] {
        let mut parts = words.build().unwrap();
        let mut cut = Vec::new();
        while cut.len() < whole.len() {
            let from = cut.len();
            cut.resize(whole.len().min(from + step), 0);
            match from % 2 {
                0 => parts.fill(&mut cut[from..]),
                _ => {
                    let mut rest = &mut cut[from..];
                    while !rest.is_empty() {
                        let chunk = parts.next_chunk_up_to(rest.len());
                        let (now, later) = rest.split_at_mut(chunk.len());
                        now.copy_from_slice(chunk);
                        rest = later;
                    }
                }
            }
        }
        assert!(cut == whole, "step {step}");
    }
    let mut chunks = words.build().unwrap();
    let mut joined = Vec::new();
    while joined.len() < whole.len() {
        let chunk = chunks.next_chunk();
        assert!((1..=CHUNK_BYTES_MAX).contains(&chunk.len()));
        joined.extend_from_slice(chunk);
    }
    assert!(joined.starts_with(&whole));
}

#[test]
fn period_is_whole_lines_and_repeats() {
    for period_bytes in [4_096, 5_000, 300_000, 1 << 20] {
        let mut text = Words::new(9).period_bytes(period_bytes).build().unwrap();
        while !text.complete {
            text.next_chunk();
        }
        let period = text.period.clone();
        assert!(period.len() <= period_bytes && period.len() + 300 > period_bytes);
        assert_eq!(period.last(), Some(&b'\n'));
        let mut twice = vec![0; 2 * period.len()];
        Words::new(9)
            .period_bytes(period_bytes)
            .build()
            .unwrap()
            .fill(&mut twice);
        assert!(twice[..period.len()] == period && twice[period.len()..] == period);
        assert_eq!(text.period.capacity(), period_bytes, "no growth");
    }
}

#[test]
fn lines_are_words_of_the_vocabulary_of_the_length_asked_for() {
    let mut made = Words::new(4)
        .vocabulary(3_000)
        .period_bytes(1 << 18)
        .build()
        .unwrap();
    let mut bytes = vec![0; 100_000];
    made.fill(&mut bytes);
    assert!(
        bytes
            .iter()
            .all(|byte| byte.is_ascii_lowercase() || b" \n".contains(byte))
    );
    let known: HashSet<&[u8]> = made.words().collect();
    let end = bytes.iter().rposition(|&byte| byte == b'\n').unwrap();
    for line in bytes[..end].split(|&byte| byte == b'\n') {
        assert!((40..=120 + WORD_BYTES_MAX).contains(&line.len()));
        assert!(
            line.split(|&byte| byte == b' ')
                .all(|word| known.contains(word))
        );
    }
    let long = text(5 << 20, Words::new(4).line_bytes((1 << 20)..=(1 << 20)));
    let first = long.iter().position(|&byte| byte == b'\n').unwrap();
    assert!(((1 << 20)..(1 << 20) + COPY_BYTES).contains(&first));
}

#[test]
fn words_are_different_and_grow_with_rank() {
    for words in [1, 2, 99, 101, 50_000, 400_000] {
        let text = Words::new(5).vocabulary(words).build().unwrap();
        assert_eq!(text.words().len(), words);
        assert_eq!(text.words().collect::<HashSet<_>>().len(), words);
        assert!(
            text.words()
                .all(|word| (1..=WORD_BYTES_MAX).contains(&word.len()))
        );
    }
    let text = Words::new(5).build().unwrap();
    let mean = |from: usize, to: usize| {
        let bytes: usize = text
            .words()
            .skip(from)
            .take(to - from)
            .map(<[u8]>::len)
            .sum();
        bytes as f64 / (to - from) as f64
    };
    assert!((7.5..9.0).contains(&mean(0, 50_000)), "{}", mean(0, 50_000));
    assert!(mean(0, 100) < mean(100, 500) && mean(100, 500) < mean(500, 5_000));
    assert!(mean(500, 5_000) < mean(5_000, 50_000));
}

#[test]
fn shares_and_lengths_are_those_of_natural_text() {
    let bytes = text(8 << 20, Words::new(6));
    let tokens: Vec<&[u8]> = bytes.split(|byte| b" \n".contains(byte)).collect();
    let mean = tokens.iter().map(|word| word.len()).sum::<usize>() as f64 / tokens.len() as f64;
    assert!((4.5..5.1).contains(&mean), "{mean}");
    let harmonic: f64 = (1..=50_000).map(|rank| 1.0 / f64::from(rank)).sum();
    for (rank, word) in [(1.0, &b"the"[..]), (2.0, b"of"), (100.0, b"down")] {
        let found = tokens.iter().filter(|&&token| token == word).count() as f64;
        let expected = tokens.len() as f64 / rank / harmonic;
        assert!(
            (found - expected).abs() < 5.0 * expected.sqrt(),
            "{rank} {found} {expected}"
        );
    }
}

#[test]
fn shares_sum_exactly_and_weights_agree_with_the_platform() {
    for (words, exponent) in [
        (1, 1.0),
        (2, 0.0),
        (1_000, 4.0),
        (100_000, 0.0),
        (65_537, 1.3),
    ] {
        let shares = shares(words, exponent, 1 << 32);
        assert_eq!(shares.iter().sum::<u64>(), (words as u64) << 32);
        assert!(shares.iter().all(|&share| (1..=shares[0]).contains(&share)));
        let sampler = Sampler::new(words, exponent);
        let mut drawn = vec![0_u64; words];
        for (rank, row) in sampler.rows.iter().enumerate() {
            let own = if row.alias as usize == rank {
                1 << 32
            } else {
                u64::from(row.own)
            };
            drawn[rank] += own;
            drawn[row.alias as usize] += (1 << 32) - own;
        }
        assert_eq!(drawn, shares);
    }
    for rank in [1, 2, 3, 7, 100, 46_341, 10_000_000] {
        for exponent in [0.0, 0.5, 1.0, 1.07, 4.0] {
            let (ours, theirs) = (weight(rank, exponent), f64::from(rank).powf(-exponent));
            assert!((ours / theirs - 1.0).abs() < 1e-11, "{rank} {exponent}");
        }
    }
}

#[test]
fn options_out_of_range_are_named() {
    let new = || Words::new(1);
    for (words, message) in [
        (new().vocabulary(0), "vocabulary 0 is outside 1..=10000000"),
        (
            new().vocabulary(10_000_001),
            "vocabulary 10000001 is outside 1..=10000000",
        ),
        (
            new().zipf_exponent(-0.1),
            "zipf_exponent -0.1 is outside 0..=4",
        ),
        (
            new().zipf_exponent(4.1),
            "zipf_exponent 4.1 is outside 0..=4",
        ),
        (
            new().zipf_exponent(f64::NAN),
            "zipf_exponent NaN is outside 0..=4",
        ),
        (
            new().line_bytes(0..=9),
            "line_bytes 0..=9 is empty or outside 1..=16777216",
        ),
        (
            new().line_bytes(RangeInclusive::new(9, 8)),
            "line_bytes 9..=8 is empty or outside 1..=16777216",
        ),
        (
            new().line_bytes(1..=16_777_217),
            "line_bytes 1..=16777217 is empty or outside 1..=16777216",
        ),
        (
            new().line_bytes(usize::MAX..=usize::MAX),
            "line_bytes 18446744073709551615..=18446744073709551615 is empty or outside 1..=16777216",
        ),
        (
            new().period_bytes(4_095),
            "period_bytes 4095 is outside 4096..=1073741824",
        ),
        (
            new().line_bytes(1..=3_000).period_bytes(5_999),
            "period_bytes 5999 is outside 6000..=1073741824",
        ),
    ] {
        assert_eq!(words.build().err().as_deref(), Some(message));
    }
    new()
        .zipf_exponent(4.0)
        .vocabulary(1)
        .period_bytes(4_096)
        .build()
        .unwrap()
        .next_chunk();
}

/// Changing one of these numbers breaks the promise of this module.
#[test]
fn bytes_are_the_same_for_ever() {
    let odd = Words::new(1).vocabulary(1_000).zipf_exponent(0.73);
    let found = [Words::new(1), odd].map(|words| {
        let mut bytes = vec![0; 64 << 10];
        words.build().unwrap().fill(&mut bytes);
        bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    });
    let expected = [0x96fd_e702_c238_3836, 0x458b_1906_4e46_f7cb];
    assert_eq!(found, expected, "found {found:#018x?}");
}
