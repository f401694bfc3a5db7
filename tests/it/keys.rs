//! What is counted, and of which lines: `-k`, `-g`, `-G`, `-a`, `-v`, each against an obvious
//! program.

use std::collections::BTreeMap;

use crate::util::{Ended, microtally, plain};

/// Lines with blanks of all kinds at all places, commas, quotes, and nothing at all.
fn text() -> String {
    let words = [
        "GET", "/", "404", "é", "", " ", "\t", "a,b", "\"q", "-1.5", "12", "x=7",
    ];
    let mut state = 12_345_u64;
    let mut next = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    };
    let mut text = String::new();
    for _ in 0..3_000 {
        for _ in 0..next(6) {
            text += words[next(words.len())];
            text += [" ", "  ", "\t", ","][next(4)];
        }
        text += "\n";
    }
    text
}

fn count(args: &[&str], input: &str) -> Ended {
    let program = microtally(&["count", "-o", "tsv", "-j", "2"]).args(args);
    program.run_with(input.as_bytes()).exits_with(0)
}

/// Keys of the lines that have one, and how many have none. Keys are escaped as they are printed.
fn model<'l>(
    input: &'l str,
    key: impl Fn(&'l str) -> Option<String>,
) -> (BTreeMap<String, u64>, u64) {
    let (mut counts, mut without) = (BTreeMap::new(), 0);
    for line in input.lines() {
        match key(line) {
            Some(key) => *counts.entry(printed(&key)).or_default() += 1,
            None => without += 1,
        }
    }
    (counts, without)
}

fn printed(key: &str) -> String {
    key.replace('\\', "\\\\").replace('\t', "\\t")
}

/// Checks keys against a model, and that lines without one are told.
#[track_caller]
fn check<'l>(args: &[&str], input: &'l str, key: impl Fn(&'l str) -> Option<String>) {
    let ended = count(args, input);
    let (counts, without) = model(input, &key);
    assert_eq!(ended.tsv_counts(), counts, "{args:?}");
    let told = match without {
        0 => String::new(),
        1 => "microtally: 1 line has no such key; skipped".into(),
        _ => format!("microtally: {without} lines have no such key; skipped"),
    };
    let example = ended.stderr.strip_prefix(&told);
    let example = example.unwrap_or_else(|| panic!("{args:?}: {told:?} begins not {ended:?}"));
    match example.strip_prefix(", for example: ") {
        None => assert_eq!(example, if without == 0 { "" } else { "\n" }, "{args:?}"),
        Some(example) => {
            let is_it = |line: &str| format!("{}\n", shown_as_example(line)) == example;
            let without_key = |line: &&'l str| key(line).is_none();
            assert!(input.lines().filter(without_key).any(is_it), "{example:?}");
        }
    }
}

/// A line of at most 60 characters as it is shown as an example.
fn shown_as_example(line: &str) -> String {
    match line.trim() {
        "" => "a blank line".to_owned(),
        _ => line.replace('\t', "\\t"),
    }
}

fn is_blank(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\x0b'
}

fn fields(line: &str) -> Vec<&str> {
    line.split(is_blank)
        .filter(|field| !field.is_empty())
        .collect()
}

fn owned(part: Option<&str>) -> Option<String> {
    part.map(str::to_owned)
}

#[test]
fn a_line_with_too_few_fields_is_shown_as_an_example() {
    for args in [
        &["-k", "field:3"][..],
        &["-k", "field:3", "--split", " "],
        &["-k", "field:3,field:1"],
    ] {
        let ended = count(args, "1 2 3\nonly two\none\n");
        assert_eq!(
            ended.stderr, "microtally: 2 lines have no such key; skipped, for example: only two\n",
            "{args:?}"
        );
    }
    // Of an example nothing reaches a terminal as it is, and not more than fits a line.
    let ended = count(
        &["-k", "field:9"],
        &format!("\x1b[2J {}\n", "x".repeat(500)),
    );
    let shown = format!("for example: \\u{{1b}}[2J {}…\n", "x".repeat(55));
    ended.says(&[&shown]);
}

#[test]
fn lines_are_counted_whole() {
    let text = text();
    check(&["-k", "line"], &text, |line| Some(line.to_owned()));
    check(&[], &text, |line| Some(line.to_owned()));
}

#[test]
fn words_are_what_the_separator_says() {
    let text = text();
    let words = |args: &[&str], split: fn(&str) -> Vec<&str>| {
        let mut counts = BTreeMap::new();
        for word in text.lines().flat_map(split) {
            *counts.entry(printed(word)).or_default() += 1;
        }
        let ended = count(args, &text).quietly();
        assert_eq!(ended.tsv_counts(), counts, "{args:?}");
    };
    words(&["-k", "word"], fields);
    words(&["-k", "word", "--split-whitespace"], fields);
    words(&["-k", "word", "--split", " "], |line| {
        line.split(' ').collect()
    });
    words(&["-k", "word", "--split", ","], |line| {
        line.split(',').collect()
    });
}

#[test]
fn fields_are_counted_from_either_end() {
    let text = text();
    for number in 1..=4_usize {
        let key = format!("field:{number}");
        check(&["-k", &key], &text, |line| {
            owned(fields(line).get(number - 1).copied())
        });
        check(&["-k", &key, "--split", ","], &text, |line| {
            owned(line.split(',').nth(number - 1))
        });
        check(&["-k", &key, "--split", "\\t"], &text, |line| {
            owned(line.split('\t').nth(number - 1))
        });
        let key = format!("field:-{number}");
        check(&["-k", &key], &text, |line| {
            owned(fields(line).iter().rev().nth(number - 1).copied())
        });
        check(&["-k", &key, "--split", ","], &text, |line| {
            owned(line.rsplit(',').nth(number - 1))
        });
    }
}

#[test]
fn columns_of_quoted_csv_lose_their_quotes() {
    let text = "1,\"a, b\",x\n2,\"say \"\"a\"\"\",y\n3,a,x\n\n4\n5,\"\",x\n".repeat(50);
    let ended = count(&["-k", "csv:2"], &text);
    let wanted = [("a, b", 50), ("say \"a\"", 50), ("a", 50), ("", 50)];
    assert_eq!(ended.tsv_counts(), plain(&wanted));
    ended.says(&["microtally: 100 lines have no such key; skipped, for example: a blank line\n"]);
    let semicolons = text.replace(',', ";");
    let ended = count(&["-k", "csv:3", "--split", ";"], &semicolons);
    assert_eq!(ended.tsv_counts(), plain(&[("x", 150), ("y", 50)]));
}

#[test]
fn json_pointers_lead_into_objects_and_arrays() {
    let text = r#"{"user":{"id":7,"tags":["a","b"]}}
{"user": {"id": "sev\u0065n"}, "x": 1}
 {"user":{"id":7}}
{"user":{"id":null,"tags":[]}}
{"user":7}
not json
{"user":{"id":1}
"#;
    let ended = count(&["-k", "json:/user/id"], text);
    assert_eq!(
        ended.tsv_counts(),
        plain(&[("7", 2), ("seven", 1), ("null", 1)])
    );
    ended.says(&[
        "microtally: 2 lines are not valid JSON; skipped, for example: not json\n",
        "microtally: 1 line has no such key; skipped, for example: {\"user\":7}\n",
    ]);
    let ended = count(&["-k", "json:/user/tags/1"], text);
    assert_eq!(ended.tsv_counts(), plain(&[("b", 1)]));
    let ended = count(&["-k", "json:/a~1b"], "{\"a/b\":[ 1, {} ]}\n");
    assert_eq!(ended.quietly().tsv_counts(), plain(&[("[1,{}]", 1)]));
}

#[test]
fn regular_expressions_give_the_group_named_key_or_the_first_or_the_match() {
    let text = "GET /a status=200\nPOST /b status=404\nGET /c status=200\nnothing\n";
    for (pattern, wanted) in [
        (
            "re:status=\\d+",
            &[("status=200", 2), ("status=404", 1)][..],
        ),
        ("re:status=(\\d+)", &[("200", 2), ("404", 1)]),
        ("re:^(\\w+) .*=(?P<key>\\d)", &[("2", 2), ("4", 1)]),
        ("re:^(GET|POST) (/[a,b])", &[("GET", 1), ("POST", 1)]),
    ] {
        let ended = count(&["-k", pattern], text);
        assert_eq!(ended.tsv_counts(), plain(wanted), "{pattern}");
        assert!(ended.stderr.contains("no such key"), "{ended:?}");
    }
}

#[test]
fn keys_of_several_parts_are_joined_by_tabs() {
    let text = text();
    let join = |line: &str| {
        let (first, last) = (*fields(line).first()?, *fields(line).last()?);
        Some(format!("{first}\t{last}"))
    };
    check(&["-k", "field:1,field:-1"], &text, join);
    check(&["-k", "field:1", "-k", "field:-1"], &text, join);
    // Of parts with tabs and backslashes in them different ones stay different.
    let ended = count(
        &["-k", "field:1,field:2", "--split", ","],
        "a\tb,c\na,b\\tc\na,b\tc\n",
    );
    let keys: Vec<String> = ended.tsv_counts().into_keys().collect();
    assert_eq!(keys.len(), 3, "{keys:?}");
}

#[test]
fn lines_are_filtered_before_their_key_is_looked_for() {
    let text = text();
    let kept: String = text
        .lines()
        .filter(|line| line.contains("404") && line.contains('é') && !line.starts_with("GET"))
        .filter(|line| !line.contains("x=7"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(kept.lines().count() > 20);
    let filters = ["-g", "404", "-g", "é", "-G", "^GET", "-G", "x=7"];
    for (key, of) in [
        (
            "line",
            (|line| Some(line.to_owned())) as fn(&str) -> Option<String>,
        ),
        ("field:2", |line| owned(fields(line).get(1).copied())),
        ("re:x|404", |_| None),
    ] {
        let ended = count(&[&filters[..], &["-k", key]].concat(), &text);
        if key == "re:x|404" {
            assert_eq!(ended.tsv_counts().into_keys().collect::<String>(), "404");
        } else {
            assert_eq!(ended.tsv_counts(), model(&kept, of).0, "{key}");
        }
    }
    // What was filtered is no fault to be told of; statistics have it.
    let ended = count(&["-g", "404", "--stats=json"], "404\n200\n200\n");
    ended.says(&["\"filtered\":2"]);
}

#[test]
fn values_are_added_and_compared() {
    let text = "a 1.1 x\nb -2 x\na 2.2 x\na 9007199254740993 x\nb 5e-1 x\nc none x\nd\n";
    let run = |what: &str| {
        let ended = count(&["-k", "field:1", "-a", what, "-v", "field:2"], text);
        let ended = ended.says(&[
            "microtally: 1 line has a value that is not a number; skipped, for example: c none x\n",
            "microtally: 1 line has no such value; skipped, for example: d\n",
        ]);
        let lines = ended
            .stdout
            .lines()
            .map(|line| line.split_once('\t').unwrap().1);
        lines
            .map(|line| line.replace('\t', " "))
            .collect::<Vec<_>>()
    };
    assert_eq!(run("sum"), ["a 9007199254740996.3", "b -1.5"]);
    assert_eq!(run("max"), ["a 9007199254740993", "b 0.5"]);
    assert_eq!(run("min"), ["a 1.1", "b -2"]);
    assert_eq!(run("mean"), ["a 3002399751580332.1", "b -0.75"]);
    let exact = "k 1234567\nk 1234568\nj 1\nj 1\nj 2\n";
    for (format, wanted) in [
        ("tsv", ["\tk\t1234567.5\n", "\tj\t1.3333333333333333\n"]),
        (
            "json",
            ["{\"k\":\"k\",\"n\":1234567.5}", "\"n\":1.3333333333333333}"],
        ),
        ("table", ["1 234 567.5  k\n", "1.3333333333333333  j\n"]),
        (
            "pyspark",
            ["('k', 1234567.5)\n", "('j', 1.3333333333333333)\n"],
        ),
    ] {
        let args = ["-k", "field:1", "-a", "mean", "-v", "field:2", "-o", format];
        let program = microtally(&["count"]).args(&args);
        let text = program.run_with(exact.as_bytes()).quietly().stdout;
        assert!(wanted.iter().all(|part| text.contains(part)), "{text}");
    }
    // The value may be found in any way.
    let text = "{\"k\":\"x\",\"ms\":12}\n{\"k\":\"x\",\"ms\":30}\n";
    let ended = count(&["-k", "json:/k", "-a", "sum", "-v", "json:/ms"], text);
    assert!(ended.quietly().stdout.ends_with("\tx\t42\n"));
    let args = ["-k", "csv:1", "-a", "max", "-v", "re:took (?P<value>\\d+)"];
    let ended = count(&args, "\"x, y\",took 7 ms\n\"x, y\",took 11 ms\n");
    assert!(ended.quietly().stdout.ends_with("\tx, y\t11\n"));
}

#[test]
fn a_number_beyond_a_double_is_said_to_be_too_large_and_not_to_be_no_number() {
    let text = "k 1e400\nk 5\nk x\nk -1e999999\n";
    for (what, value) in [("max", "5"), ("min", "5"), ("sum", "5"), ("mean", "5")] {
        let ended = count(
            &["-k", "field:1", "-a", what, "-v", "field:2", "--stats=json"],
            text,
        );
        let ended = ended.says(&[
            "2 lines have a number beyond 1.8e308, the range of a double; skipped, and in no result, for example: k \
             1e400\n",
            "1 line has a value that is not a number; skipped, for example: k x\n",
            "\"too_large\":2",
            "\"not_numbers\":1",
        ]);
        assert!(
            ended.stdout.ends_with(&format!("\tk\t{value}\n")),
            "{ended:?}"
        );
    }
}

#[test]
fn sums_beyond_doubles_are_null_in_every_format_and_said_to_be() {
    // The greatest first, whatever can be shown of it.
    let text = "k 1e308\nj 9007199254740993\nk 1e308\nj 9007199254740993\n";
    for (format, wanted) in [
        ("tsv", ["\tk\tnull\n", "\tj\t18014398509481986\n"]),
        (
            "json",
            ["{\"k\":\"k\",\"n\":null}", "\"n\":18014398509481986}"],
        ),
        ("table", ["null", "18 014 398 509 481 986  j\n"]),
        ("pyspark", ["('k', null)\n", "('j', 18014398509481986)\n"]),
    ] {
        let args = ["-k", "field:1", "-a", "sum", "-v", "field:2", "-o", format];
        let program = microtally(&["count"]).args(&args);
        let ended = program.run_with(text.as_bytes()).exits_with(0).says(&[
            "microtally: 1 value is beyond 1.8e308, the range of a double; its result is null\n",
        ]);
        let text = &ended.stdout;
        assert!(wanted.iter().all(|part| text.contains(part)), "{text}");
        assert!(
            !text.contains("inf") && !text.contains("NaN") && !text.contains('%'),
            "{text}"
        );
    }
    // What is within again is a number, in any order and any number of threads.
    let text = "k 1e308\nk 1e308\nk -1e308\n";
    let ended = count(&["-k", "field:1", "-a", "sum", "-v", "field:2"], text);
    assert!(ended.quietly().stdout.ends_with("\tk\t1e+308\n"));
}

#[test]
fn negative_sums_have_no_share() {
    let args = ["-k", "field:1", "-a", "sum", "-v", "field:2", "-o", "table"];
    let table = |text: &str| {
        let program = microtally(&["count"]).args(&args);
        program.run_with(text.as_bytes()).quietly().stdout
    };
    assert_eq!(table("a 10\nb -5\n"), "10  a\n-5  b\n");
    assert_eq!(table("a -10\nb -5\n"), " -5  b\n-10  a\n");
    assert_eq!(table("a 3\nb 1\n"), "3   75.0 %  a\n1   25.0 %  b\n");
}

#[test]
fn what_is_missing_in_json_is_told_apart_with_an_example() {
    let text = "{\"a\":\"x\\ud83d\"}\n{\"a\":\"ok\"}\nnot json\x1b[2J\n{\"b\":1}\n\n";
    let ended = count(&["-k", "json:/a", "--stats=json"], text).says(&[
        "microtally: 2 lines are not valid JSON; skipped, for example: not json\\u{1b}[2J\n",
        "microtally: 1 line has a JSON string that is not text (half of a surrogate pair, or not UTF-8); skipped, for \
         example: {\"a\":\"x\\ud83d\"}\n",
        "microtally: 1 line has no such key; skipped, for example: {\"b\":1}\n",
        "\"not_json\":2",
        "\"not_text\":1",
        "\"without_key\":1",
    ]);
    assert_eq!(ended.tsv_counts(), plain(&[("ok", 1)]));
    // A long line is shortened.
    let long = format!("x{}\n", "y".repeat(10_000));
    let ended = count(&["-k", "json:/a"], &long);
    assert!(
        ended.stderr.len() < 200 && ended.stderr.ends_with("y…\n"),
        "{ended:?}"
    );
}

#[test]
fn a_quoted_column_that_does_not_end_with_its_line_is_reported() {
    let text = "\"a\nb\",1\n\"a\nb\",2\nc,3\n";
    for key in ["csv:1", "csv:2"] {
        count(&["-k", key, "--stats=json"], text).says(&[
            "microtally: 2 lines end inside a quoted CSV column; records that span lines are not joined, each line is \
             read by itself, for example: \"a\n",
            "\"open_quotes\":2",
        ]);
    }
    let registry = "Registry,Address\r\nMA-L,\"160 E Tasman Dr\nSTE 102 \"\r\nMA-L,\"Room 701~703,\nVanke \"\r\n";
    count(&["-k", "csv:1"], registry)
        .says(&["microtally: 2 lines end inside a quoted CSV column; "]);
    count(&["-k", "csv:1"], "\"a, b\",1\r\nc\"d,2\r\n").quietly();
}

#[test]
fn a_key_may_stand_behind_a_pattern_and_a_comma() {
    let ended = count(&["-k", "re:s=(\\d),field:2"], "s=1 foo\ns=1 foo\ns=2 bar\n");
    assert_eq!(
        ended.quietly().tsv_counts(),
        plain(&[("1\\tfoo", 2), ("2\\tbar", 1)])
    );
}

#[test]
fn a_thousand_sums_are_as_an_obvious_program_makes_them() {
    let lines = (0..50_000_i64).map(|n| (n * 7_919 % 1_000, n * 31 % 2_003 - 1_000));
    let (mut text, mut sums) = (String::new(), BTreeMap::<String, i64>::new());
    for (key, value) in lines {
        text += &format!("key{key},{value}.25\n");
        *sums.entry(format!("key{key}")).or_default() +=
            value * 100 + if value < 0 { -25 } else { 25 };
    }
    let ended = count(&["-k", "csv:1", "-a", "sum", "-v", "csv:2"], &text).quietly();
    let found: BTreeMap<String, i64> = ended
        .stdout
        .lines()
        .map(|line| {
            let columns: Vec<&str> = line.split('\t').collect();
            let sum: f64 = columns[2].parse().unwrap();
            (columns[1].to_owned(), (sum * 100.0).round() as i64)
        })
        .collect();
    assert_eq!(found, sums);
}

#[test]
fn wrong_keys_exit_2_and_name_the_option() {
    for (args, parts) in [
        (
            &["-k", "field:0"][..],
            &["--key", "'field:0'", "numbered from 1"][..],
        ),
        (&["-k", "fields:1"], &["--key", "'fields:1'", "field:N"]),
        (
            &["-k", "csv:x"],
            &["--key", "'csv:x'", "csv:1 is the first"],
        ),
        (&["-k", "json:a"], &["--key", "'json:a'", "json:/a"]),
        (&["-k", "re:("], &["--key", "'re:('", "unclosed group"]),
        (&["-k", "7"], &["--key", "'7'", "did you mean -k field:7?"]),
        (&["-k", "$7"], &["'$7'", "did you mean -k field:7?"]),
        (
            &["-k", "1,3"],
            &["'1,3'", "did you mean -k field:1,field:3?"],
        ),
        (&["-f", "7"], &["'-f'", "did you mean -k field:7?"]),
        (
            &["-f1,3", "in"],
            &["'-f'", "did you mean -k field:1,field:3?"],
        ),
        (&["-f", "in.log"], &["'-f'", "did you mean -F"]),
        (
            &["-d", ",", "-f", "2"],
            &["'-d'", "did you mean --split ','?"],
        ),
        (
            &["-k", "field:1", "field:2"],
            &["'field:2'", "looks like a key, not a source", "-k field:2"],
        ),
        (
            &["csv:3"],
            &["'csv:3'", "looks like a key, not a source", "-k csv:3"],
        ),
        (
            &["-g", "((a{0,30}){0,30}){0,100}x"],
            &["--grep", "needs more than 2 MiB"],
        ),
        (&["-k", "word,field:1"], &["--key word", "cannot be joined"]),
        (&["-g", "["], &["--grep", "'['", "unclosed"]),
        (&["-G", "*"], &["--not", "'*'", "repetition operator"]),
        (
            &["-a", "avg"],
            &[
                "--aggregate",
                "'avg'",
                "count, sum, mean, min, max, distinct",
                "p99.9",
            ],
        ),
        (&["-a", "sum"], &["--aggregate sum", "--value"]),
        (&["-v", "field:2"], &["--value", "--aggregate"]),
        (
            &["-a", "sum", "-v", "line"],
            &["--value", "'line'", "field:N"],
        ),
        (
            &["-k", "word", "-a", "sum", "-v", "field:1"],
            &["--key word"],
        ),
        (
            &["--split", "\\n", "-k", "field:1"],
            &["--split", "line ends"],
        ),
    ] {
        for command in ["count", "top", "words"] {
            let ended = microtally(&[command]).args(args).run();
            let ended = ended.exits_with(2).says(parts);
            assert_eq!(ended.stdout, "", "{args:?}");
        }
    }
}

/// Whatever a user typed: what is said about it does not steer the terminal.
#[test]
fn nothing_a_user_typed_is_echoed_raw() {
    let harmful = "a\u{1b}[31m\u{9b}2J\u{202e}\u{7f}\nb";
    let with = |before: &str| format!("{before}{harmful}");
    for args in [
        &["-g", &with("(")][..],
        &["-G", &with("(")],
        &["-k", &with("re:(")],
        &["-k", &with("field:")],
        &["-k", &with("csv:")],
        &["-k", &with("json:")],
        &["-k", harmful],
        &["-a", "sum", "-v", &with("re:(")],
        &["-a", harmful],
        &["-n", harmful],
        &["-o", harmful],
        &["--split", harmful],
        &["--max-record", harmful],
        &["--max-memory", &with("5")],
        &["--kernel", harmful],
        &[&with("--")],
        &[&with("-")],
        &[&with("tcp://")],
        &[&with("nowhere://")],
        &[&with("[1]://")],
        &[&with("./no file of this name ")],
        &[&with("dir:///no/directory ")],
        &["-k", "field:1", &with("re:")],
    ] {
        let ended = microtally(&["count"]).args(args).run();
        assert_ne!(ended.code, Some(0), "{args:?}: {ended:?}");
        let is_harmful = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!ended.stderr.contains(is_harmful), "{args:?}: {ended:?}");
        assert!(!ended.stderr.contains("\nb"), "{args:?}: {ended:?}");
    }
    let ended = microtally(&[harmful]).run().exits_with(2);
    assert!(
        !ended.stderr.contains(['\u{1b}', '\u{9b}', '\u{202e}']),
        "{ended:?}"
    );
}

#[test]
fn a_separator_that_separates_nothing_is_refused() {
    for args in [
        &["count", "--split", ","][..],
        &["count", "--split", ",", "-k", "line"],
        &["top", "--split", ",", "-k", "json:/a"],
        &["words", "--split", ",", "-k", "re:a"],
        &["count", "--split-whitespace"],
        &["count", "--split-whitespace", "-k", "csv:1"],
    ] {
        let ended = microtally(args).run_with(b"a,b\n").exits_with(2);
        let option = args[1];
        ended.says(&[
            &format!("microtally: {option}: nothing is split"),
            "-k field:N",
        ]);
    }
    // A number is a field, too.
    let value = ["-a", "sum", "-v", "field:2", "--split", ","];
    let ended = microtally(&["count"])
        .args(&value)
        .run_with(b"a,2\n")
        .quietly();
    assert_eq!(ended.tsv_counts().len(), 1);
}
