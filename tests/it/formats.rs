//! What a batch looks like: three formats, how many results, which separators, which clock face.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::util::{ONE_BATCH, batches, expected, json_lines, microtally, plain};

const DAY_MS: u64 = 24 * 3600 * 1000;

#[test]
fn pyspark_is_printed_to_the_byte() {
    let ended = microtally(&["words", "-"])
        .args(&ONE_BATCH)
        .run_with(b"b a b\nit's \t\x1b \xff\n");
    let ended = ended.quietly();
    let time = &ended.batches()[0].time;
    let rule = "-".repeat(43);
    // Equal counts stand in byte order of the key.
    let body = "('b', 2)\n('\\t\\x1b', 1)\n('a', 1)\n(\"it's\", 1)\n('\\xff', 1)\n";
    assert_eq!(
        ended.stdout,
        format!("{rule}\nTime: {time}\n{rule}\n{body}\n")
    );
}

#[test]
fn more_results_than_asked_for_are_hinted_at_with_three_dots() {
    let input = b"a b c a b a\n";
    let printed = |top: &str| {
        let args = ["words", "-", "--top", top];
        let ended = microtally(&args).args(&ONE_BATCH).run_with(input);
        ended.quietly().batches().remove(0).lines
    };
    let all = ["('a', 3)", "('b', 2)", "('c', 1)"];
    assert_eq!(printed("all"), all);
    assert_eq!(printed("3"), all);
    assert_eq!(printed("2"), ["('a', 3)", "('b', 2)", "..."]);
    assert_eq!(printed("0"), ["..."]);
    // The tutorial's ten are the default.
    let eleven = microtally(&["words", "-"]).args(&ONE_BATCH);
    let eleven = eleven.run_with(b"a b c d e f g h i j k").quietly();
    let lines = &eleven.batches()[0].lines;
    assert_eq!((lines.len(), lines[10].as_str()), (11, "..."));
}

#[test]
fn no_result_is_printed_where_none_was_asked_for_and_the_statistics_are_the_same() {
    for command in ["count", "top"] {
        let args = [command, "-n", "0", "--stats=json"];
        let ended = microtally(&args).run_with(b"a\nb\na\n").exits_with(0);
        assert_eq!(ended.stdout, "");
        assert_eq!(json_lines(&ended.stderr)[0]["records"], 3);
        let help = microtally(&[command, "--help"]).run().quietly().stdout;
        assert!(help.contains("0 prints no key"), "{help}");
    }
}

#[test]
fn a_carriage_return_separates_where_it_is_no_line_end() {
    let input = b"10%\r20%\n10%\n";
    for args in [
        &["count", "-o", "tsv", "-k", "word", "--split", "\\r"][..],
        &["count", "-o", "tsv", "-k", "field:1", "--split", "\\r"],
        &[
            "count", "-o", "tsv", "-0", "-k", "field:1", "--split", "\\n",
        ],
    ] {
        let counted = microtally(args).run_with(input).quietly().tsv_counts();
        let expected = match args {
            [.., "word", _, _] => plain(&[("10%", 2), ("20%", 1)]),
            [_, _, _, "-0", ..] => plain(&[("10%\\r20%", 1)]),
            _ => plain(&[("10%", 2)]),
        };
        assert_eq!(counted, expected, "{args:?}");
    }
    for (args, reason) in [
        (
            &["words", "--split", "\\r"][..],
            "a line ends there in words and with --cr",
        ),
        (
            &["count", "--cr", "-k", "word", "--split", "\\r"],
            "count or top without --cr",
        ),
        (
            &["count", "-k", "word", "--split", "\\n"],
            "a line ends there, so no line contains this byte",
        ),
    ] {
        microtally(args)
            .run_with(input)
            .exits_with(2)
            .says(&[reason]);
    }
}

#[test]
fn separators_are_one_byte_or_runs_of_white_space() {
    let counted = |args: &[&str], input: &[u8]| {
        let program = microtally(&["words", "-"]).args(&ONE_BATCH).args(args);
        program.run_with(input).quietly().counts()
    };
    let input = b"a,b c,,a\n\n  x \t x\n";
    assert_eq!(
        counted(&["--split", ","], input),
        expected(&[("a", 2), ("b c", 1), ("", 2), ("  x \\t x", 1)])
    );
    assert_eq!(
        counted(&["--split-whitespace"], input),
        expected(&[("a,b", 1), ("c,,a", 1), ("x", 2)])
    );
    assert_eq!(
        counted(&["--split", "\\t"], b"a b\tc\t\n"),
        expected(&[("a b", 1), ("c", 1), ("", 1)])
    );
    assert_eq!(
        counted(&["--split", "\\0"], b"a\0b\0a"),
        expected(&[("a", 2), ("b", 1)])
    );
}

#[test]
fn tsv_has_three_columns_and_escapes_that_can_be_undone() {
    let program = microtally(&["words", "-", "-o", "tsv"]).args(&ONE_BATCH);
    let ended = program
        .run_with("b a b \t\\ \u{e9} x\x1by\n".as_bytes())
        .quietly();
    let rows: Vec<Vec<&str>> = ended
        .stdout
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert!(rows.iter().all(|row| row.len() == 3), "{rows:?}");
    let time_ms: u64 = rows[0][0].parse().expect("a time in milliseconds");
    assert_eq!(time_ms % DAY_MS, 0);
    assert!(rows.iter().all(|row| row[0] == rows[0][0]));
    let pairs: Vec<(&str, &str)> = rows.iter().map(|row| (row[1], row[2])).collect();
    let one = ["\\t\\\\", "a", "x\\x1by", "\u{e9}"].map(|key| (key, "1"));
    assert_eq!(pairs, [&[("b", "2")][..], &one].concat());
}

#[test]
fn json_has_every_field_and_its_sums_are_right() {
    let program = microtally(&["words", "-", "-o", "json", "-n", "2"]).args(&ONE_BATCH);
    let ended = program.run_with(b"a b a\nc \xff\n\n").quietly();
    let objects = json_lines(&ended.stdout);
    assert_eq!(objects.len(), 1);
    let object = &objects[0];
    for (name, value) in [
        ("v", 1),
        ("interval_ms", 365 * DAY_MS),
        ("records", 3),
        ("tokens", 6),
        ("bytes", 11),
        ("keys", 5),
        ("dropped", 0),
        ("refused", 0),
        ("error_max", 0),
        ("missing_max", 0),
    ] {
        assert_eq!(object[name], value, "{name} in {object}");
    }
    assert_eq!(object["approx"], false);
    assert!(object["batch"].is_u64(), "{object}");
    for name in ["processing_ms", "scheduling_delay_ms"] {
        assert!(
            object[name].as_f64().is_some_and(|ms| ms >= 0.0),
            "{object}"
        );
    }
    let time = object["time"].as_str().expect("a time");
    assert!(
        time.len() == 24 && time.ends_with("T00:00:00.000Z"),
        "{time}"
    );
    let mut names: Vec<&String> = object.as_object().unwrap().keys().collect();
    names.sort();
    let all = "approx batch bytes dropped error_max interval_ms keys missing_max other processing_ms records refused \
               scheduling_delay_ms time tokens top v";
    assert_eq!(names, all.split_whitespace().collect::<Vec<_>>());
    assert_eq!(
        object["top"],
        serde_json::json!([{"k": "a", "n": 2}, {"k": "", "n": 1}])
    );
    assert_eq!(object["other"], serde_json::json!({"keys": 3, "n": 3}));
}

#[test]
fn json_carries_keys_that_are_not_utf8_as_base64() {
    let program = microtally(&["words", "-", "-o", "json", "-n", "all"]).args(&ONE_BATCH);
    let ended = program.run_with(b"\xff\x00 \xff\x00 \"\\\x1b\n").quietly();
    let top = json_lines(&ended.stdout)[0]["top"].clone();
    assert_eq!(
        top,
        serde_json::json!([{"k_b64": "/wA=", "n": 2}, {"k": "\"\\\u{1b}", "n": 1}])
    );
}

#[test]
fn no_format_writes_a_character_that_steers_a_terminal() {
    let keys = "\u{9b}2J\n\u{7f}\n\u{202e}abc\n\u{2066}\n\u{2028}\n\u{85}\n\u{1b}]0;x\u{7}\n\u{200b}\n\u{feff}x\n\u{e0041}\n\r\n";
    let harmful = |c: char| {
        let invisible = [
            '\u{202e}',
            '\u{2066}',
            '\u{2028}',
            '\u{200b}',
            '\u{feff}',
            '\u{e0041}',
        ];
        c != '\n' && c != '\t' && c.is_control() || invisible.contains(&c)
    };
    for format in ["pyspark", "table", "tsv", "json"] {
        let program = microtally(&["count", "-", "-o", format]);
        let text = program.run_with(keys.as_bytes()).quietly().stdout;
        assert!(!text.contains(harmful), "{format}: {text:?}");
    }
    let program = microtally(&["count", "-", "-o", "json"]);
    let object = &json_lines(&program.run_with(keys.as_bytes()).quietly().stdout)[0];
    let rows = object["top"].as_array().unwrap();
    for key in ["\u{9b}2J", "\u{7f}", "\u{202e}abc", "\u{e0041}"] {
        assert!(
            rows.iter().any(|row| row["k"] == key),
            "{key:?} in {rows:?}"
        );
    }
}

#[test]
fn blank_keys_can_be_seen_in_the_table() {
    let program = microtally(&["count", "-", "-o", "table"]);
    let ended = program.run_with(b"\n\n\n\n\n \n \n \n \n(empty)\n(empty)\n(empty)\na\na\na \n");
    assert_eq!(
        ended.quietly().stdout,
        "5   33.3 %  (empty)\n4   26.7 %  \\x20\n3   20.0 %  \\x28empty)\n2   13.3 %  a\n1    6.7 %  a\\x20\n"
    );
}

#[test]
fn every_format_shows_the_same_counts() {
    let input = "the cat and the dog and the bird\n".repeat(1000);
    let stdout = |format: &str| {
        let program = microtally(&["words", "-", "-n", "all", "-o", format]).args(&ONE_BATCH);
        program.run_with(input.as_bytes()).quietly().stdout
    };
    let printed = stdout("pyspark");
    let from_tsv: Vec<String> = stdout("tsv")
        .lines()
        .map(|line| {
            let mut columns = line.split('\t').skip(1);
            let (key, count) = (columns.next().unwrap(), columns.next().unwrap());
            format!("('{key}', {count})")
        })
        .collect();
    let object = &json_lines(&stdout("json"))[0];
    let from_json: Vec<String> = object["top"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| format!("('{}', {})", row["k"].as_str().unwrap(), row["n"]))
        .collect();
    assert_eq!(batches(&printed)[0].lines, from_tsv);
    assert_eq!(from_tsv, from_json);
    assert_eq!(from_tsv[0], "('the', 3000)");
}

#[test]
fn times_between_whole_seconds_show_microseconds() {
    // An input that stays open: the clock alone makes batches. Of two half seconds one is a whole
    // one.
    let program = microtally(&["words", "-", "-i", "500ms", "--batches", "2"]);
    let mut run = program.stdin(Stdio::piped()).start();
    let stdin = run.stdin.take();
    let mut times: Vec<String> = run.wait().batches().into_iter().map(|b| b.time).collect();
    drop(stdin);
    times.sort_by_key(String::len);
    assert_eq!(times.len(), 2, "{times:?}");
    assert_eq!(times[0].len(), "2026-11-22 16:52:25".len(), "{times:?}");
    assert!(
        times[1].len() == 26 && times[1].ends_with(".500000"),
        "{times:?}"
    );
}

#[test]
fn times_are_those_of_the_time_zone() {
    let time_in = |zone: &str| {
        let program = microtally(&["words", "-", "-i", "1h"]).env("TZ", zone);
        program.run().quietly().batches().remove(0).time
    };
    // A full hour in UTC is half past in India.
    assert!(time_in("UTC").ends_with(":00:00"));
    assert!(time_in("IST-5:30").ends_with(":30:00"));
    if Path::new("/usr/share/zoneinfo/Asia/Kolkata").exists() {
        assert!(time_in("Asia/Kolkata").ends_with(":30:00"));
    }
}

#[test]
fn stats_are_one_line_on_standard_error_and_only_when_asked_for() {
    let input = b"a b a\nc";
    let program = microtally(&["words", "-", "--stats=json"]).args(&ONE_BATCH);
    let ended = program.run_with(input).exits_with(0);
    let objects = json_lines(&ended.stderr);
    assert_eq!(objects.len(), 1, "{ended:?}");
    for (name, value) in [
        ("batches", 1),
        ("records", 2),
        ("tokens", 4),
        ("bytes", 7),
        ("dropped", 0),
        ("dropped_bytes", 0),
        ("refused", 0),
        ("error_max", 0),
        ("other_records", 0),
    ] {
        assert_eq!(objects[0][name], value, "{name} in {ended:?}");
    }
    assert!(objects[0]["gb_per_s"].is_number() && objects[0]["late_us"]["p99"].is_u64());
    let (cpu_s, peak) = (&objects[0]["cpu_s"], &objects[0]["peak_bytes"]);
    assert!((0.0..60.0).contains(&cpu_s.as_f64().unwrap()), "{cpu_s}");
    let peak = peak.as_u64().unwrap();
    assert!((1 << 20..1 << 32).contains(&peak), "{peak}");
    // Nothing can be said about the steady state of a run that had none.
    assert_eq!(objects[0]["steady_allocations"], Value::Null);

    let program = microtally(&["words", "-", "--stats"]).args(&ONE_BATCH);
    let text = program.run_with(input).exits_with(0).stderr;
    assert_eq!(text.lines().count(), 1, "{text}");
    for part in [
        "1 batch in",
        "2 records",
        "4 tokens",
        "7 bytes",
        "GB/s",
        " s of CPU time, ",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
}
