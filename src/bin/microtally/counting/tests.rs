//! Compares plans, run through the library, with loops over the lines.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use microtally::sources::{ChannelId, Fill, Intake, Source};
use microtally::{Batch, Config, StreamingContext, Value};
use proptest::prelude::*;

use super::*;
use crate::parse::aggregate::aggregates;

/// A source of one text.
struct TextSource(Vec<u8>, usize);

impl Source for TextSource {
    fn fill(&mut self, out: &mut Intake<'_>, _now: Duration) -> Fill {
        self.1 += out.write(ChannelId::FIRST, &self.0[self.1..]);
        if self.1 == self.0.len() {
            Fill::End
        } else {
            Fill::More
        }
    }

    fn name(&self) -> &str {
        "text"
    }
}

/// Keys with their printed values.
type RowsByKey = BTreeMap<Vec<u8>, String>;

/// Lines that were filtered, without a key (also if not JSON), and without a number (also if
/// without a value).
type SkippedCounts = [u64; 3];

fn run(plan: &CountingPlan, text: &[u8]) -> (RowsByKey, SkippedCounts) {
    let config = Config::default().workers(1).pin(false);
    let ssc = StreamingContext::with_config(Duration::from_secs(60), config).expect("a context");
    let lines = ssc.source_stream(TextSource(text.to_vec(), 0));
    let skipped = Skipped::new();
    let (tell, rows) = mpsc::channel();
    match plan.attach(&lines, &skipped).expect("a good plan") {
        CountedStream::Count(counts) => {
            counts.for_each_batch(move |batch, _| drop(tell.send(rows_of(batch))))
        }
        CountedStream::Number(numbers, _) => {
            numbers.for_each_batch(move |batch, _| drop(tell.send(rows_of(batch))))
        }
        CountedStream::Small(columns) => {
            (columns.results()).for_each_batch(move |batch, _| drop(tell.send(rows_of(batch))))
        }
        CountedStream::Few(columns) => {
            (columns.results()).for_each_batch(move |batch, _| drop(tell.send(rows_of(batch))))
        }
        CountedStream::Many(columns) => {
            (columns.results()).for_each_batch(move |batch, _| drop(tell.send(rows_of(batch))))
        }
    }
    let running = ssc.start().expect("it starts");
    running.await_termination().expect("it ends well");
    drop(running);
    let batches: Vec<RowsByKey> = rows.try_iter().filter(|rows| !rows.is_empty()).collect();
    assert!(batches.len() <= 1, "the text is one batch: {batches:?}");
    let counts = [
        &[Reason::Filtered][..],
        &[Reason::NoKey, Reason::NotJson],
        &[Reason::NotANumber, Reason::NoValue],
    ]
    .map(|reasons| reasons.iter().map(|reason| skipped.count(*reason)).sum());
    (batches.into_iter().next().unwrap_or_default(), counts)
}

fn rows_of<V: Value>(batch: &Batch<'_, V>) -> RowsByKey {
    let rows = batch.iter().map(|(key, value)| {
        let mut text = Vec::new();
        value.write_repr(&mut text);
        (key.to_vec(), String::from_utf8(text).expect("UTF-8"))
    });
    rows.collect()
}

fn plan(keys: &[&str]) -> CountingPlan {
    let key = |text: &&str| keys::key(text).unwrap_or_else(|reason| panic!("{text}: {reason}"));
    CountingPlan {
        keys: keys.iter().map(key).collect(),
        ..CountingPlan::of(Selector::Line, Rule::Split(b' '))
    }
}

fn of(key: &str, names: &str, value: &str) -> CountingPlan {
    CountingPlan {
        aggregates: aggregates(names).expect("good names"),
        value: Some(keys::value(value).expect("a value")),
        ..plan(&[key])
    }
}

fn rows(expected: &[(&str, &str)]) -> RowsByKey {
    let rows = expected.iter();
    rows.map(|(key, value)| (key.as_bytes().to_vec(), (*value).to_owned()))
        .collect()
}

#[test]
fn every_kind_of_key_is_counted() {
    let log = b"10.0.0.1 GET /a 200 12\r\n10.0.0.2 GET /b 404 7\n\n10.0.0.1 POST /a 200 x\n";
    for (keys, expected, counts) in [
        (
            &["field:1"][..],
            &[("10.0.0.1", "2"), ("10.0.0.2", "1")][..],
            [0, 1, 0],
        ),
        (&["field:-2"], &[("200", "2"), ("404", "1")], [0, 1, 0]),
        (&["field:6"], &[], [0, 4, 0]),
        (
            &["field:4,field:2"],
            &[("200\tGET", "1"), ("404\tGET", "1"), ("200\tPOST", "1")],
            [0, 1, 0],
        ),
        (
            &["field:4", "field:3"],
            &[("200\t/a", "2"), ("404\t/b", "1")],
            [0, 1, 0],
        ),
        (&["re:/(?P<key>\\w)"], &[("a", "2"), ("b", "1")], [0, 1, 0]),
        (
            &["re:(GET|POST) (.)"],
            &[("GET", "2"), ("POST", "1")],
            [0, 1, 0],
        ),
        (&["re:^(x)?"], &[], [0, 4, 0]),
        (&["re:[A-Z]+"], &[("GET", "2"), ("POST", "1")], [0, 1, 0]),
        (
            &[],
            &[
                ("", "1"),
                ("10.0.0.1 GET /a 200 12", "1"),
                ("10.0.0.2 GET /b 404 7", "1"),
                ("10.0.0.1 POST /a 200 x", "1"),
            ],
            [0, 0, 0],
        ),
    ] {
        assert_eq!(run(&plan(keys), log), (rows(expected), counts), "{keys:?}");
    }
    let json = b"{\"a\":{\"b\":\"x\"}}\nno\n{\"a\":{\"b\":\"\\u0078\"}}\n{\"a\":1}\n";
    assert_eq!(
        run(&plan(&["json:/a/b"]), json),
        (rows(&[("x", "2")]), [0, 2, 0])
    );
    let csv = b"1;\"a;b\"\n2;a\n3\n";
    let semicolons = CountingPlan {
        separator: Separator::Byte(b';'),
        ..plan(&["csv:2"])
    };
    assert_eq!(
        run(&semicolons, csv),
        (rows(&[("a;b", "1"), ("a", "1")]), [0, 1, 0])
    );
}

#[test]
fn lines_are_filtered_before_their_keys() {
    let text = b"error disk full\nerror net down\ninfo disk ok\nerror disk ok\n";
    for (key, expected) in [
        ("line", &[("error disk full", "1")][..]),
        ("word", &[("error", "1"), ("disk", "1"), ("full", "1")]),
        ("field:2", &[("disk", "1")]),
        ("re:d.*", &[("disk full", "1")]),
    ] {
        let filtered = CountingPlan {
            greps: vec!["^error".into(), "disk".into()],
            nots: vec!["ok$".into(), "never".into()],
            ..plan(&[key])
        };
        assert_eq!(run(&filtered, text), (rows(expected), [3, 0, 0]), "{key}");
    }
}

#[test]
fn values_are_aggregated() {
    let text = b"a 0.1\nb 5\na 0.2\nb -7\nc x\nc\nb 9007199254740993\n\n";
    for (aggregate, expected) in [
        ("sum", &[("a", "0.3"), ("b", "9007199254740991")][..]),
        ("min", &[("a", "0.1"), ("b", "-7")]),
        ("max", &[("a", "0.2"), ("b", "9007199254740993")]),
        ("mean", &[("a", "0.15"), ("b", "3002399751580330.5")]),
        ("p50", &[("a", "0.1"), ("b", "5")]),
        ("p0", &[("a", "0.1"), ("b", "-7")]),
        // Four columns of three parts, and all there are.
        (
            "count,p50,p100,min",
            &[
                ("a", "(2, 0.1, 0.2, 0.1)"),
                ("b", "(3, 5, 9010000000000000, -7)"),
            ],
        ),
        (
            "distinct,sum,mean,min,max,count,p1",
            &[
                ("a", "(2, 0.3, 0.15, 0.1, 0.2, 2, 0.1)"),
                (
                    "b",
                    "(3, 9007199254740991, 3002399751580330.5, -7, 9007199254740993, 3, -7)",
                ),
            ],
        ),
    ] {
        let found = run(&of("field:1", aggregate, "field:2"), text);
        assert_eq!(found, (rows(expected), [0, 1, 2]), "{aggregate:?}");
    }
    // What is only told apart need not be a number.
    let found = run(&of("field:1", "count,distinct", "field:2"), text);
    let expected = rows(&[("a", "(2, 2)"), ("b", "(3, 3)"), ("c", "(1, 1)")]);
    assert_eq!(found, (expected, [0, 1, 1]));
    let json = b"{\"k\":\"a\",\"v\":1.5}\n{\"k\":\"a\",\"v\":\"2\"}\n{\"k\":\"a\",\"v\":null}\n";
    let found = run(&of("json:/k", "sum", "json:/v"), json);
    assert_eq!(found, (rows(&[("a", "3.5")]), [0, 0, 1]));
    let timed = b"GET took=3ms\nGET took=4ms\n";
    let found = run(&of("field:1", "max", "re:took=(?P<value>\\d+)ms"), timed);
    assert_eq!(found, (rows(&[("GET", "4")]), [0, 0, 0]));
}

/// Count and example of some reasons.
fn skipped_by(plan: &CountingPlan, text: &[u8], reasons: &[Reason]) -> Vec<(u64, Option<String>)> {
    let skipped = Skipped::new();
    let config = Config::default().workers(1).pin(false);
    let ssc = StreamingContext::with_config(Duration::from_secs(60), config).expect("a context");
    let lines = ssc.source_stream(TextSource(text.to_vec(), 0));
    match plan.attach(&lines, &skipped).expect("a good plan") {
        CountedStream::Count(counts) => counts.for_each_batch(|_, _| {}),
        CountedStream::Number(numbers, _) => numbers.for_each_batch(|_, _| {}),
        _ => unreachable!("there is one column"),
    }
    let running = ssc.start().expect("it starts");
    running.await_termination().expect("it ends well");
    let of = |reason: &Reason| {
        let example = skipped.example(*reason).map(String::from_utf8_lossy);
        (skipped.count(*reason), example.map(String::from))
    };
    reasons.iter().map(of).collect()
}

#[test]
fn each_reason_has_its_own_count_and_an_example() {
    use Reason::{NoKey, NoValue, NotANumber, NotJson, NotText, OpenQuote, TooLarge};
    let some = |count, example: &str| (count, Some(example.to_owned()));
    let none = (0, None);
    let json = b"{\"a\":\"x\\ud83d\"}\n{\"a\":\"ok\"}\nnot json\n{\"b\":1}\nno\n";
    assert_eq!(
        skipped_by(&plan(&["json:/a"]), json, &[NoKey, NotJson, NotText]),
        [
            some(1, "{\"b\":1}"),
            some(2, "not json"),
            some(1, "{\"a\":\"x\\ud83d\"}")
        ]
    );
    // Reasons of values.
    let values = b"k {\"a\":1}\nk\nk x\nk {}\nk {\"a\":\"b\"}\nk {\"a\":1e400}\n";
    let sums = of("field:1", "max", "re:a\":(.*)}");
    assert_eq!(
        skipped_by(&sums, values, &[NoKey, NoValue, NotANumber, TooLarge]),
        [
            none.clone(),
            some(3, "k"),
            some(1, "k {\"a\":\"b\"}"),
            some(1, "k {\"a\":1e400}")
        ]
    );
    // A line is counted once, however many of its columns are selected.
    let csv = b"\"a\nb\",1\n\"a\nb\",2\nc,3\n";
    for keys in [
        &["csv:1"][..],
        &["csv:2"],
        &["csv:1,csv:1"],
        &["field:1,csv:1"],
    ] {
        let found = skipped_by(&plan(keys), csv, &[OpenQuote]);
        assert_eq!(found, [some(2, "\"a")], "{keys:?}");
    }
    let sums = of("csv:1", "sum", "csv:1");
    assert_eq!(skipped_by(&sums, csv, &[OpenQuote]), [some(2, "\"a")]);
    let sums = of("field:1", "sum", "csv:2");
    assert_eq!(skipped_by(&sums, csv, &[OpenQuote]), [some(2, "\"a")]);
    let whole = b"\"a b\",1\n\"a\"\"\",2\nc\"d,3\n";
    assert_eq!(skipped_by(&plan(&["csv:1"]), whole, &[OpenQuote]), [none]);
}

#[test]
fn a_regular_expression_that_needs_too_much_is_refused() {
    for pattern in [
        "((a{0,30}){0,30}){0,100}x",
        "\\w{100}",
        "(?:(?:a{1,50}){1,50}){1,20}",
    ] {
        let filtered = CountingPlan {
            greps: vec![pattern.into()],
            ..plan(&["line"])
        };
        for plan in [filtered, plan(&[&format!("re:{pattern}")])] {
            let reason = plan.check().expect_err("it is too large");
            assert!(reason.contains("needs more than 2 MiB"), "{reason}");
            assert!(!reason.contains('\n'), "{reason}");
        }
    }
    for pattern in ["\\w{1,30}", "[a-z]{1,255}", ".{0,1000}", "(?-u:\\w){1,255}"] {
        assert_eq!(
            plan(&[&format!("re:{pattern}")]).check(),
            Ok(()),
            "{pattern}"
        );
    }
}

/// A tab alone would not distinguish these parts.
#[test]
fn joined_keys_stay_different() {
    let text = b"a\tb;c\na;b\tc\na\\tb;c\na\\;\\tc\n";
    let joined = CountingPlan {
        separator: Separator::Byte(b';'),
        ..plan(&["field:1,field:2"])
    };
    let expected = [
        ("a\\tb\tc", "1"),
        ("a\tb\\tc", "1"),
        ("a\\\\tb\tc", "1"),
        ("a\\\\\t\\\\tc", "1"),
    ];
    assert_eq!(run(&joined, text), (rows(&expected), [0, 0, 0]));
    let single = CountingPlan {
        separator: Separator::Byte(b';'),
        ..plan(&["field:-1"])
    };
    assert_eq!(
        run(&single, b"x;a\tb\\\n"),
        (rows(&[("a\tb\\", "1")]), [0, 0, 0])
    );
}

#[test]
fn options_that_do_not_fit_together_are_refused() {
    let with = |change: fn(&mut CountingPlan)| {
        let mut plan = plan(&["field:1"]);
        change(&mut plan);
        plan
    };
    for (plan, parts) in [
        (
            with(|plan| plan.greps.push("a(".into())),
            &["--grep", "'a('", "unclosed group"][..],
        ),
        (
            with(|plan| plan.nots.push("*".into())),
            &["--not", "'*'", "regular expression"],
        ),
        (
            with(|plan| plan.greps.push("a(\u{9b}\u{202e}\n".into())),
            &["--grep", r"'a(\u{9b}\u{202e}\n'", "unclosed group"],
        ),
        (
            plan(&["re:(\x1b"]),
            &["--key", r"'re:(\u{1b}'", "unclosed group"],
        ),
        (
            plan(&["re:[z-a]"]),
            &["--key", "'re:[z-a]'", "invalid character class range"],
        ),
        (
            of("field:1", "sum", "re:("),
            &["--value", "'re:('", "unclosed group"],
        ),
        (
            with(|plan| plan.aggregates = aggregates("sum").expect("a name")),
            &["--aggregate sum", "needs a --value"],
        ),
        (
            with(|plan| plan.value = Some(Selector::Csv(0))),
            &[
                "--value",
                "--aggregate count needs none",
                "sum, mean, min, max, p99 or distinct",
            ],
        ),
        (
            plan(&["word,field:1"]),
            &["--key word", "cannot be joined", "many words"],
        ),
        (plan(&["word", "word"]), &["--key word", "cannot be joined"]),
        (
            of("word", "mean", "field:2"),
            &["--key word", "--aggregate mean"],
        ),
        (
            with(|plan| plan.separator = Separator::Byte(b'\n')),
            &["--split '\\n'", "a line ends there"],
        ),
        (
            with(|plan| {
                (plan.separator, plan.ends) = (Separator::Byte(b'\r'), LineEnds::Universal)
            }),
            &["--split '\\r'", "in words and with --cr", "without --cr"],
        ),
        (
            with(|plan| (plan.separator, plan.ends) = (Separator::Byte(0), LineEnds::Nul)),
            &["--split '\\x00'", "with --null"],
        ),
        (
            with(|plan| {
                (plan.keys, plan.separator) = (vec![Selector::Csv(1).into()], Separator::Byte(b'"'))
            }),
            &["--key 'csv:2'", "quote"],
        ),
    ] {
        let reason = plan.check().expect_err("it is wrong");
        for part in parts {
            assert!(reason.contains(part), "{part:?} is not in {reason:?}");
        }
        assert!(!reason.contains('\n'), "{reason}");
    }
    assert_eq!(plan(&["word"]).check(), Ok(()));
}

#[test]
fn an_ordinary_byte_of_a_record_may_separate() {
    for (ends, byte) in [
        (LineEnds::Lf, b'\r'),
        (LineEnds::Lf, 0),
        (LineEnds::Universal, 0),
        (LineEnds::Nul, b'\r'),
        (LineEnds::Nul, b'\n'),
    ] {
        let separator = Separator::Byte(byte);
        let plan = CountingPlan {
            separator,
            ends,
            ..plan(&["field:1"])
        };
        assert_eq!(plan.check(), Ok(()), "{byte} {ends:?}");
    }
}

/// Finds the parts of each line with a loop; a line without one of them has no key.
fn model(text: &[u8], separator: Option<u8>, numbers: &[usize]) -> (RowsByKey, u64) {
    let (mut counts, mut without_key) = (BTreeMap::<Vec<u8>, u64>::new(), 0);
    for line in text
        .split(|byte| *byte == b'\n')
        .take_while(|line| line.as_ptr_range().end < text.as_ptr_range().end)
    {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let fields: Vec<&[u8]> = match separator {
            Some(separator) => line.split(|byte| *byte == separator).collect(),
            None => line
                .split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty())
                .collect(),
        };
        let found: Option<Vec<&[u8]>> = numbers
            .iter()
            .map(|number| fields.get(*number).copied())
            .collect();
        let Some(found) = found else {
            without_key += 1;
            continue;
        };
        let key = match &found[..] {
            [one] => one.to_vec(),
            many => {
                let escaped = many.iter().map(|part| {
                    let text = String::from_utf8_lossy(part);
                    text.replace('\\', "\\\\").replace('\t', "\\t")
                });
                escaped.collect::<Vec<_>>().join("\t").into_bytes()
            }
        };
        *counts.entry(key).or_default() += 1;
    }
    let rows = counts
        .into_iter()
        .map(|(key, count)| (key, count.to_string()));
    (rows.collect(), without_key)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn fields_equal_the_model(
        lines in proptest::collection::vec(("[ab,;\\\\ \t]{0,16}", prop_oneof![Just("\n"), Just("\r\n")]), 0..60),
        numbers in proptest::collection::vec(0usize..4, 1..4),
        separator in prop_oneof![Just(None), Just(Some(b',')), Just(Some(b';')), Just(Some(b' '))],
    ) {
        let text: String = lines.iter().flat_map(|(line, end)| [line.as_str(), end]).collect();
        let keys: Vec<String> = numbers.iter().map(|number| format!("field:{}", number + 1)).collect();
        let fields = CountingPlan {
            separator: separator.map_or(Separator::Blanks, Separator::Byte),
            ..plan(&keys.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let (expected, without_key) = model(text.as_bytes(), separator, &numbers);
        prop_assert_eq!(run(&fields, text.as_bytes()), (expected, [0, without_key, 0]));
    }
}
