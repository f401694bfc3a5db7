//! What is counted, and of which lines: `-k`, `-g`, `-G`, `-a`, `-v`, each against an obvious program.

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
    let (counts, without) = model(input, key);
    assert_eq!(ended.tsv_counts(), counts, "{args:?}");
    let told = match without {
        0 => String::new(),
        1 => "microtally: 1 line has no such key and was passed over\n".into(),
        _ => format!("microtally: {without} lines have no such key and were passed over\n"),
    };
    assert_eq!(ended.stderr, told, "{args:?}");
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
    ended.says(&["100 lines have no such key and were passed over\n"]);
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
    ended.says(&["3 lines have no such key"]);
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
        let ended = ended.says(&["2 lines have no number to aggregate and were passed over\n"]);
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
    assert_eq!(run("mean"), ["a 3002399751580332", "b -0.75"]);
    // The value may be found in any way.
    let text = "{\"k\":\"x\",\"ms\":12}\n{\"k\":\"x\",\"ms\":30}\n";
    let ended = count(&["-k", "json:/k", "-a", "sum", "-v", "json:/ms"], text);
    assert!(ended.quietly().stdout.ends_with("\tx\t42\n"));
    let args = ["-k", "csv:1", "-a", "max", "-v", "re:took (?P<value>\\d+)"];
    let ended = count(&args, "\"x, y\",took 7 ms\n\"x, y\",took 11 ms\n");
    assert!(ended.quietly().stdout.ends_with("\tx, y\t11\n"));
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
        (&["-k", "word,field:1"], &["--key word", "cannot be joined"]),
        (&["-g", "["], &["--grep", "'['", "unclosed"]),
        (&["-G", "*"], &["--not", "'*'", "repetition operator"]),
        (
            &["-a", "avg"],
            &["--aggregate", "'avg'", "count, sum, min, max, mean"],
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
