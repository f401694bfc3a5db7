//! What a person sees, to the character.

use super::*;
use crate::batch::BatchStats;
use crate::repr::text::unescape;
use crate::sink::written::Written;
use crate::table::KeyTable;
use crate::table::keys::Seed;
use proptest::prelude::*;

fn stats(interval_ms: u64) -> BatchStats {
    BatchStats {
        time: BatchTime::from_millis(1_763_830_345_000),
        interval: Duration::from_millis(interval_ms),
        records: 1204,
        ..BatchStats::default()
    }
}

/// What a table made by `make` prints of these keys and values.
fn printed<V: Value>(
    keys: &[(&[u8], V)],
    interval_ms: u64,
    make: impl FnOnce(Written) -> Columns<V>,
) -> String {
    let mut table = KeyTable::new(Seed::random());
    for &(key, value) in keys {
        table.add(key, value, |_, last| last);
    }
    let written = Written::default();
    let mut sink = make(written.clone());
    sink.zone = TimeZone::UTC;
    let stats = stats(interval_ms);
    sink.deliver(&Batch::new(&table, &stats)).unwrap();
    written.text()
}

/// The text that `write` appends.
fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

const WORDS: &[(&[u8], u64)] = &[
    (b"the", 1_234_567),
    ("汉字".as_bytes(), 4321),
    (b"tab\there", 12),
    (b"a\\b", 1),
];

#[test]
fn a_single_block_is_rows_and_nothing_else() {
    assert_eq!(
        printed(WORDS, 0, |out| Columns::new(out, 10)),
        "1 234 567   99.7 %  the\n    \
         4 321    0.3 %  汉字\n       \
         12   <0.1 %  tab\\there\n        \
         1   <0.1 %  a\\\\b\n"
    );
}

#[test]
fn a_repeated_block_has_its_time_its_rates_and_what_was_left_out() {
    assert_eq!(
        printed(WORDS, 2000, |out| Columns::new(out, 2).is_repeated(true)),
        "2025-11-22 16:52:25   1 204 records, 4 keys\n\
         1 234 567   99.7 %  617 284/s  the\n    \
         4 321    0.3 %    2 160/s  汉字\n\
         … and 2 more keys, <0.1 % of the records\n\n"
    );
}

#[test]
fn a_window_that_is_not_full_has_the_rate_of_the_time_so_far() {
    let stats = |batch, interval_ms| BatchStats {
        batch,
        ..stats(interval_ms)
    };
    let window = Some(Duration::from_secs(60));
    assert_eq!(seconds_of(window, &stats(11, 1000)), 11.0);
    assert_eq!(seconds_of(window, &stats(60, 1000)), 60.0);
    assert_eq!(seconds_of(window, &stats(61, 1000)), 60.0);
    assert_eq!(seconds_of(None, &stats(11, 1000)), 1.0);
    assert_eq!(seconds_of(Some(Duration::ZERO), &stats(11, 1000)), 0.0);
    let mut counts = KeyTable::new(Seed::random());
    counts.add(b"a", 33_000_u64, |_, last| last);
    let written = Written::default();
    let mut sink = Columns::new(written.clone(), 1).period(Duration::from_secs(60));
    sink.deliver(&Batch::new(&counts, &stats(11, 1000)))
        .unwrap();
    assert_eq!(written.text(), "33 000  100.0 %  3 000/s  a\n");
}

#[test]
fn a_window_has_the_rate_of_its_whole_length() {
    let windowed = |out| {
        let table = Columns::new(out, 1).whole("the words");
        table.period(Duration::from_secs(10))
    };
    let text = printed(&[(b"a", 20), (b"b", 20)], 1000, windowed);
    assert_eq!(
        text,
        "20   50.0 %  2.0/s  a\n… and 1 more key, 50.0 % of the words\n"
    );
}

#[test]
fn values_that_do_not_add_up_have_no_share() {
    let means: &[(&[u8], f64)] = &[(b"a", 1234.5), (b"b", -1.0)];
    let text = printed(means, 1000, |out| Columns::of_values(out, 10));
    assert_eq!(text, "1 234.5  a\n   -1.0  b\n");
    let text = printed(means, 1000, |out| Columns::of_values(out, 1));
    assert_eq!(text, "1 234.5  a\n… and 1 more key\n");
    let pairs: &[(&[u8], (u64, char))] = &[(b"a", (12_345, 'x'))];
    let text = printed(pairs, 1000, |out| Columns::of_values(out, 10));
    assert_eq!(text, "12 345  'x'  a\n");
}

#[test]
fn values_of_several_columns_have_a_heading() {
    let pairs: &[(&[u8], (u64, f64))] = &[(b"a", (12_345, 0.5)), (b"b", (7, 1000.25))];
    let table = |out| {
        let table = Columns::of_values(out, 10).names(["count", "p99"]);
        table.adds_up(|(count, _)| count as f64)
    };
    assert_eq!(
        printed(pairs, 1000, table),
        " count       p99    share      rate  key\n\
         12 345       0.5   99.9 %  12 345/s  a\n     \
              7  1 000.25    0.1 %     7.0/s  b\n"
    );
}

#[test]
fn sums_have_shares_of_the_sum() {
    let sums: &[(&[u8], f64)] = &[(b"a", 7.5), (b"b", 2.5)];
    let text = printed(sums, 500, |out| {
        Columns::of_values(out, 1).adds_up(|sum| sum)
    });
    assert_eq!(
        text,
        "7.5   75.0 %  15.0/s  a\n… and 1 more key, 25.0 % of the sum\n"
    );
}

#[test]
fn values_of_which_one_is_negative_have_rates_and_no_share() {
    let sums: &[(&[u8], f64)] = &[(b"a", 10.0), (b"b", -5.0)];
    let text = printed(sums, 1000, |out| {
        Columns::of_values(out, 1).adds_up(|sum| sum)
    });
    assert_eq!(text, "10.0  10.0/s  a\n… and 1 more key\n");
    let below: &[(&[u8], f64)] = &[(b"a", -10.0), (b"b", -5.0)];
    let text = printed(below, 0, |out| {
        Columns::of_values(out, 10).adds_up(|sum| sum)
    });
    assert_eq!(text, " -5.0  b\n-10.0  a\n");
}

#[test]
fn values_too_large_to_be_added_have_no_share() {
    for large in [f64::INFINITY, f64::NAN, 1e308] {
        let sums: &[(&[u8], f64)] = &[(b"a", large), (b"b", large)];
        let text = printed(sums, 1000, |out| {
            Columns::of_values(out, 1).adds_up(|sum| sum)
        });
        assert!(!text.contains('%') && !text.contains("inf/s"), "{text}");
        assert!(text.ends_with("a\n… and 1 more key\n"), "{text}");
    }
    assert_eq!(text(|out| write_rate(1.5e300, out)), "1.50e300/s");
}

#[test]
fn blank_keys_can_be_seen_and_told_from_all_others() {
    let keys: &[(&[u8], u64)] = &[
        (b"", 8),
        (b"(empty)", 7),
        (b" ", 6),
        (b"   ", 5),
        (b"\\x20", 4),
        (b"a", 3),
        (b"a ", 2),
        (b"\t", 1),
    ];
    let expected =
        "8  (empty)\n7  \\x28empty)\n6  \\x20\n5    \\x20\n4  \\\\x20\n3  a\n2  a\\x20\n1  \\t\n";
    assert_eq!(
        printed(keys, 0, |out| Columns::of_values(out, 10)),
        expected
    );
    let narrow = |out| Columns::of_values(out, 10).width(Some(40));
    assert_eq!(printed(keys, 0, narrow), expected);
    // All but the empty one can be had back from what is shown.
    for (key, _) in &keys[1..] {
        let written = text(|out| write_key(key, out));
        assert_eq!(unescape(written.as_bytes()).as_deref(), Some(*key));
    }
}

#[test]
fn an_empty_batch_and_no_rows_at_all() {
    assert_eq!(printed(&[], 1000, |out| Columns::new(out, 10)), "");
    let text = printed(WORDS, 1000, |out| Columns::new(out, 0));
    assert_eq!(text, "… and 4 more keys, 100.0 % of the records\n");
}

/// The window narrows: first keys are cut, then rates go, then shares.
#[test]
fn narrow_terminals_lose_rates_before_shares_before_keys() {
    let keys: &[(&[u8], u64)] = &[
        (b"a long key of thirty-two columns", 1000),
        ("汉字汉字汉字汉字汉字汉字".as_bytes(), 500),
    ];
    let at = |columns| {
        printed(keys, 1000, move |out| {
            Columns::new(out, 10).width(Some(columns))
        })
    };
    assert_eq!(
        at(50),
        "1 000   66.7 %  1 000/s  a long key of thirty-two…\n  \
         500   33.3 %    500/s  汉字汉字汉字汉字汉字汉字\n"
    );
    assert_eq!(
        at(38),
        "1 000   66.7 %  1 000/s  a long key o…\n  \
         500   33.3 %    500/s  汉字汉字汉字…\n"
    );
    assert_eq!(
        at(36),
        "1 000   66.7 %  a long key of thirt…\n  500   33.3 %  汉字汉字汉字汉字汉…\n"
    );
    assert_eq!(
        at(27),
        "1 000  a long key of thirt…\n  500  汉字汉字汉字汉字汉…\n"
    );
    assert_eq!(at(1), "1 000  a…\n  500  …\n");
    for columns in 9..120 {
        let text = at(columns);
        assert!(text.lines().all(|line| line.width() <= columns), "{text}");
    }
}

#[test]
fn the_last_line_says_what_is_missing() {
    let said = |more, left, approximate, error, other| {
        let mut out = Vec::new();
        footer(more, left, approximate, error, other, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(said(0, Some((0.0, "the records")), false, 0, 0), "");
    assert_eq!(said(1, None, false, 0, 0), "… and 1 more key\n");
    assert_eq!(
        said(48_213, Some((0.07123, "the records")), true, 1_200, 0),
        "… and at least 48 213 more keys, 7.1 % of the records\n\
         counts are at most 1 200 too high (memory limit)\n"
    );
    assert_eq!(
        said(0, None, false, 0, 98_765),
        "98 765 records of other keys (memory limit)\n"
    );
}

#[test]
fn numbers_are_grouped_and_nothing_else() {
    let grouped = |text: &str| {
        let mut out = b"x".to_vec();
        out.extend_from_slice(text.as_bytes());
        group_digits(1, &mut out);
        String::from_utf8(out).unwrap()
    };
    for (text, expected) in [
        ("", "x"),
        ("999", "x999"),
        ("1000", "x1 000"),
        ("-123456", "x-123 456"),
        ("1234567.1234", "x1 234 567.1234"),
        ("1e+16", "x1e+16"),
        ("1234e+16", "x1234e+16"),
        ("(1234, 5)", "x(1234, 5)"),
        ("nan", "xnan"),
        ("12345 x", "x12345 x"),
    ] {
        assert_eq!(grouped(text), expected);
    }
}

#[test]
fn shares_and_rates_round_to_the_honest_side() {
    let share = |share| text(|out| write_share(share, out));
    assert_eq!(
        [0.0, 1e-9, 0.0005, 0.5, 0.9994, 0.99999, 1.0].map(share),
        [
            "0.0 %", "<0.1 %", "0.1 %", "50.0 %", "99.9 %", ">99.9 %", "100.0 %"
        ]
    );
    let rate = |rate| text(|out| write_rate(rate, out));
    assert_eq!(
        [0.0, 0.01, 0.5, 99.9, 99.99, 1234.5, 1e7].map(rate),
        [
            "0.0/s",
            "<0.1/s",
            "0.5/s",
            "99.9/s",
            "100/s",
            "1 234/s",
            "10 000 000/s"
        ]
    );
}

fn fitted(key: &[u8], columns: usize) -> String {
    let mut out = b"|".to_vec();
    fit(key, columns, &mut out);
    String::from_utf8(out).unwrap()[1..].to_owned()
}

#[test]
fn keys_are_cut_at_a_column() {
    for (key, columns, expected) in [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("汉字", 4, "汉字"),
        ("汉字", 3, "汉…"),
        ("汉字", 2, "…"),
        ("e\u{301}e\u{301}e\u{301}", 3, "e\u{301}e\u{301}e\u{301}"),
        ("e\u{301}e\u{301}e\u{301}", 2, "e\u{301}…"),
        ("👍👍", 3, "👍…"),
        ("\u{1b}[2J", 40, "\\x1b[2J"),
        ("abc", 0, ""),
        ("", 0, ""),
    ] {
        assert_eq!(fitted(key.as_bytes(), columns), expected, "{key:?}");
    }
    // Endless marks over one letter are cut as well, and so is what is too long to be looked at.
    let marks = format!("e{}", "\u{301}".repeat(10_000));
    assert!(fitted(marks.as_bytes(), 10).len() <= 10 * KEY_BYTES_PER_COLUMN + 3);
    let long = fitted("汉".repeat(1_000_000).as_bytes(), 11);
    assert_eq!(long, format!("{}…", "汉".repeat(5)));
}

proptest! {
    #[test]
    fn cut_keys_fit_and_whole_ones_come_back(
        key in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            any::<String>().prop_map(String::into_bytes),
            "[a汉\u{301}\u{fe0f}❤👍🇩\\\\\t]{0,20}".prop_map(String::into_bytes),
        ],
        columns in 0usize..60,
    ) {
        let text = fitted(&key, columns);
        prop_assert!(text.width() <= columns, "{:?}", text);
        prop_assert!(text.chars().all(|character| !character.is_control()));
        let mut whole = Vec::new();
        write_key(&key, &mut whole);
        if text.as_bytes() == whole && key.is_empty() {
            prop_assert_eq!(text, "(empty)");
        } else if text.as_bytes() == whole {
            prop_assert_eq!(unescape(text.as_bytes()), Some(key));
        } else {
            prop_assert!(columns == 0 || text.ends_with('…'), "{:?}", text);
            prop_assert!(whole.starts_with(text.trim_end_matches('…').as_bytes()));
        }
    }
}

/// A sum and a number of records are no whole together.
#[test]
fn what_others_have_is_part_of_a_whole_of_counts_only() {
    assert_eq!(with_others::<u64>(90.0, 10), 100.0);
    assert_eq!(with_others::<f64>(90.0, 0), 90.0);
    assert_eq!(with_others::<f64>(90.0, 10), 0.0);
}
