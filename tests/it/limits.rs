//! `--max-memory`: what happens when keys no longer fit is told, and true.

use std::collections::HashMap;
use std::io::Write;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::util::{Ended, Program, json_lines, microtally, shell};

/// So many words that a small limit does not hold them: some that are frequent, many that come
/// once, and the frequent ones again.
fn many_words() -> String {
    let mut text = String::new();
    for n in 0..450_000_u32 {
        if n % 3 == 0 {
            text += &format!("often{}\n", n % 50);
        }
        // Long ones take memory faster.
        text += &format!("a word that comes only once, number {n}\n");
    }
    text
}

fn exact(text: &str) -> HashMap<&str, u64> {
    let mut counts = HashMap::new();
    for line in text.lines() {
        *counts.entry(line).or_default() += 1;
    }
    counts
}

fn count(text: &str, on_limit: &str) -> Ended {
    count_with(text, on_limit, &[])
}

fn count_with(text: &str, on_limit: &str, more: &[&str]) -> Ended {
    let args = [
        "count",
        "-",
        "-j",
        "1",
        "--max-record",
        "1MiB",
        "--max-memory",
        "80MiB",
    ];
    let program = microtally(&args).args(&["--on-limit", on_limit, "-o", "json", "-n", "200"]);
    program.args(more).stdin_file(text.as_bytes()).run()
}

#[test]
fn beyond_the_limit_counts_are_what_is_asked_for_and_their_error_is_told_and_true() {
    let text = many_words();
    let exact = exact(&text);
    let total = text.lines().count() as u64;

    let ended = count(&text, "approx").exits_with(0);
    let told = "microtally: memory limit 80.0 MiB reached at ";
    assert_eq!(ended.stderr.matches(told).count(), 1, "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    let object = &json_lines(&ended.stdout)[0];
    assert_eq!(
        (&object["approx"], &object["records"]),
        (&true.into(), &total.into())
    );
    let error_max = object["error_max"].as_u64().unwrap();
    assert!(error_max > 0 && error_max < total / 50, "{error_max}");
    let rows = object["top"].as_array().unwrap();
    let mut shown = HashMap::new();
    for row in rows {
        let (key, n) = (row["k"].as_str().unwrap(), row["n"].as_u64().unwrap());
        let is = exact[key];
        assert!(
            (is..=is + error_max).contains(&n),
            "{key}: {n}, is {is}, error {error_max}"
        );
        shown.insert(key, n);
    }
    for n in 0..50 {
        assert!(
            shown.contains_key(&*format!("often{n}")),
            "often{n} of {error_max}"
        );
    }

    let ended = count(&text, "other").exits_with(0);
    assert_eq!(ended.stderr.matches(told).count(), 1, "{}", ended.stderr);
    let object = &json_lines(&ended.stdout)[0];
    assert_eq!(
        (&object["approx"], &object["error_max"]),
        (&true.into(), &0.into())
    );
    let with_stats = count_with(&text, "other", &["--stats=json"]).exits_with(0);
    let stats = with_stats.stderr.lines().last().unwrap();
    let lost = json_lines(stats)[0]["other_records"].as_u64().unwrap();
    assert!((1..total).contains(&lost), "{lost} of {total}");
    let mut sum = object["other"]["n"].as_u64().unwrap();
    for row in object["top"].as_array().unwrap() {
        let (key, n) = (row["k"].as_str().unwrap(), row["n"].as_u64().unwrap());
        assert_eq!(n, exact[key], "{key}");
        sum += n;
    }
    assert_eq!(sum, total);

    let ended = count(&text, "error").exits_with(5);
    let ended = ended.says(&[
        "microtally: memory limit",
        "83886080 bytes",
        "--on-limit",
        "--max-memory",
    ]);
    // What was counted until then is printed, and nothing that is not in the input: the line in
    // which reading stopped is dropped.
    let rows = json_lines(&ended.stdout)[0]["top"].take();
    for row in rows.as_array().unwrap() {
        let (key, n) = (row["k"].as_str().unwrap(), row["n"].as_u64().unwrap());
        assert!(
            (1..=exact[key]).contains(&n),
            "{key}: {n} of {}",
            exact[key]
        );
    }
}

#[test]
fn tables_and_text_say_it_too() {
    let text = many_words();
    let args = [
        "count",
        "in",
        "-j",
        "1",
        "--max-record",
        "1MiB",
        "--max-memory",
        "80MiB",
    ];
    let program = microtally(&args)
        .args(&["-o", "table", "-n", "3"])
        .file("in", &text);
    let ended = program
        .run()
        .exits_with(0)
        .says(&["counts are too high by at most "]);
    assert!(ended.stdout.contains(" more keys, "), "{ended:?}");
    assert!(
        ended.stdout.contains(" too high (memory limit)\n"),
        "{ended:?}"
    );
}

#[test]
fn what_fits_is_exact_and_nobody_is_told_anything() {
    let text = "a\nb\na\n".repeat(10_000);
    let ended = count(&text, "approx").quietly();
    let object = &json_lines(&ended.stdout)[0];
    assert_eq!(
        (&object["approx"], &object["error_max"]),
        (&false.into(), &0.into())
    );
    assert_eq!(object["other"]["n"], 0);
}

#[test]
fn too_small_a_limit_is_refused_and_what_would_do_is_named() {
    let refused = |args: &[&str]| {
        let ended = microtally(&["count", "-"]).args(args).run().exits_with(2);
        assert_eq!(ended.stdout, "");
        ended.stderr
    };
    let text = refused(&["--max-memory", "64MiB", "-j", "4"]);
    assert!(!text.contains("by default"), "{text}");
    // Whatever is asked for, the first answer is the last one: what is named does.
    for (limit, workers) in [("1B", "4"), ("1MiB", "4"), ("64MiB", "4"), ("1MiB", "1")] {
        let text = refused(&["--max-memory", limit, "-j", workers]);
        let begin = format!("microtally: --max-memory {limit} is too small: ");
        assert!(text.starts_with(&begin), "{text}");
        assert!(
            text.contains(" MiB) are needed") && text.contains("--max-record"),
            "{text}"
        );
        // One thread is the least.
        assert_eq!(
            text.contains("lower --workers or "),
            workers != "1",
            "{text}"
        );
        let mib = text
            .split_once(" MiB) are needed")
            .unwrap()
            .0
            .rsplit_once('(')
            .unwrap()
            .1;
        let limit = format!("{mib}MiB");
        let program = microtally(&["count", "-", "-j", workers, "--max-memory", &limit]);
        program.run_with(b"x\n").quietly();
    }
    let text = refused(&["--max-memory", "0"]);
    assert!(text.contains("for example 512MiB, or none"), "{text}");
    let text = refused(&["--max-memory", "lots"]);
    assert!(
        text.contains("--max-memory") && text.contains("'lots'") && text.contains("none"),
        "{text}"
    );
}

#[test]
fn without_a_limit_there_is_none() {
    let text: String = (0..100_000).map(|n| format!("key{n}\n")).collect();
    let program = microtally(&["count", "--max-memory", "none"]);
    let ended = program.run_with(text.as_bytes()).quietly();
    assert_eq!(ended.stdout.lines().count(), 100_000);
}

/// The most frequent line of standard input, in little memory.
fn top_of_a_window(window: &str) -> Program {
    let args = ["-i", "250ms", "-j", "1", "-o", "json", "-n", "1", "-"];
    microtally(&["top", "-w", window])
        .args(&args)
        .args(&["--max-memory", "80MiB", "--max-record", "1MiB"])
        .stdin(Stdio::piped())
}

#[test]
fn a_window_keeps_within_the_limit_and_says_what_it_lacks() {
    let mut run = top_of_a_window("1h").args(&["--stats=json"]).start();
    let mut stdin = run.stdin.take().unwrap();
    // A batch has room; many of them have not.
    for round in 0..8 {
        let lines = (0..50_000).map(|n| format!("once {round:02} {n:05}\noften\n"));
        stdin
            .write_all(lines.collect::<String>().as_bytes())
            .unwrap();
        thread::sleep(Duration::from_millis(300));
    }
    drop(stdin);
    let ended = run.wait().exits_with(0);
    let told = "microtally: memory limit 80.0 MiB reached at ";
    assert_eq!(ended.stderr.matches(told).count(), 1, "{}", ended.stderr);
    let last = json_lines(&ended.stdout).pop().unwrap();
    assert_eq!(last["approx"], true);
    let stats = ended.stderr.lines().last().unwrap();
    let stats: serde_json::Value = serde_json::from_str(stats).unwrap();
    let told_error = stats["error_max"].as_u64().unwrap();
    assert!(told_error >= last["error_max"].as_u64().unwrap(), "{stats}");
    let (error_max, often) = (&last["error_max"], &last["top"][0]);
    let (error_max, n) = (error_max.as_u64().unwrap(), often["n"].as_u64().unwrap());
    assert_eq!(often["k"], "often");
    assert!(n >= 400_000 && n - error_max <= 400_000, "{n} {error_max}");
}

/// What a batch has no room for its window has not either: that is told once.
#[test]
fn a_batch_that_is_too_large_is_told_once_and_not_for_its_window_again() {
    let mut run = top_of_a_window("1m").start();
    let mut stdin = run.stdin.take().unwrap();
    let lines = (0..100_000).map(|n| format!("{n:070}\n"));
    stdin
        .write_all(lines.collect::<String>().as_bytes())
        .unwrap();
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(300));
        stdin.write_all(b"often\n").unwrap();
    }
    drop(stdin);
    let ended = run.wait().exits_with(0);
    let told = "microtally: memory limit 80.0 MiB reached at ";
    assert_eq!(ended.stderr.matches(told).count(), 1, "{}", ended.stderr);
    let last = json_lines(&ended.stdout).pop().unwrap();
    assert_eq!(
        (&last["approx"], &last["records"]),
        (&true.into(), &100_003.into())
    );
}

/// Without a limit of ours it is half of what is left of the process's own.
#[test]
fn case_52_a_process_that_may_not_grow_is_bounded_or_ends_in_order() {
    let text = many_words();
    let run = |kib: u32, options: &str| {
        let options = format!("-n 1 -j 1 {options}");
        let script = format!("ulimit -v {kib}; exec \"$0\" count {options} < input");
        shell(&script).file("input", &text).run()
    };
    for source in ["input", "-"] {
        // What is not ours is in it as well: the program, and what the allocator reserves for
        // threads.
        let ended = run(220_000, &format!("--max-record 1MiB {source}")).exits_with(0);
        let _ = ended.says(&[
            "microtally: memory limit ",
            "counts are too high by at most",
        ]);
        let ended = run(60_000, &format!("--max-memory none {source}"));
        let ended = ended
            .exits_with(1)
            .says(&["microtally: out of memory for ", " or lower --max-memory\n"]);
        assert_eq!(ended.stdout, "");
        // Room for lines of 256 MiB there is not.
        let ended = run(220_000, &format!("--max-record 256MiB {source}"));
        let ended = ended.exits_with(2);
        let _ = ended.says(&[
            "microtally: --max-memory ",
            " (by default, half of the available memory) is too small: ",
            // The process may not have as much.
            "; or raise the memory limit of the process (ulimit -v, control group)",
        ]);
    }
}

/// A key that comes late, in a file of two pieces: one of the threads may have had room for it and
/// the other not.
fn late_and_often(value: &str) -> String {
    let mut text = String::new();
    for n in 0..200_000_u32 {
        text += &format!("k{n:07} 1\n");
    }
    text + &format!("late {value}\n").repeat(300_000)
}

/// Values that are shown, what they lack at most, and the whole object.
fn rows(ended: &Ended) -> (Vec<(String, f64, u64)>, serde_json::Value) {
    let object = json_lines(&ended.stdout).remove(0);
    let rows = object["top"].as_array().unwrap().iter().map(|row| {
        let missing = row
            .get("missing_max")
            .map_or(0, |missing| missing.as_u64().unwrap());
        let key = row["k"].as_str().unwrap().to_owned();
        (key, row["n"].as_f64().unwrap(), missing)
    });
    (rows.collect(), object)
}

#[test]
fn a_value_at_the_limit_is_exact_or_says_how_many_records_it_lacks() {
    let text = late_and_often("9");
    for (limit, options) in [
        ("126MiB", &["--on-limit", "other"][..]),
        ("125MiB", &["-a", "sum", "-v", "field:2"]),
        ("125MiB", &["-a", "mean", "-v", "field:2"]),
        (
            "125MiB",
            &["-a", "max", "-v", "field:2", "--on-limit", "other"],
        ),
    ] {
        let run = |format: &str| {
            let args = ["count", "in", "-j", "2", "-k", "field:1", "-o", format];
            let program = microtally(&args).file("in", &text).args(options);
            program
                .args(&["--max-memory", limit, "-n", "1000000"])
                .run()
                .exits_with(0)
        };
        let ended = run("json");
        let (rows, object) = rows(&ended);
        let missing_max = object["missing_max"].as_u64().unwrap();
        assert_eq!(
            (&object["approx"], &object["error_max"]),
            (&true.into(), &0.into())
        );
        // Records a value is of, at least, where it says how many.
        let records = |key: &str, n: f64| match options {
            ["-a", "sum", ..] if key == "late" => n as u64 / 9,
            ["-a", "mean" | "max", ..] => 1,
            _ => n as u64,
        };
        for (key, n, missing) in &rows {
            let is = if key == "late" { 300_000 } else { 1 };
            let has = records(key, *n);
            assert!(*missing <= missing_max);
            assert!(has <= is, "{options:?} {key} {n}");
            if *missing == 0 && !matches!(options, ["-a", "mean" | "max", ..]) {
                assert_eq!(has, is, "{options:?} {key} is called exact");
            }
            assert!(
                is <= has + missing || matches!(options, ["-a", "mean" | "max", ..]),
                "{key} {n} {missing}"
            );
            let value = if key == "late" { 9.0 } else { 1.0 };
            if let ["-a", "mean" | "max", ..] = options {
                assert_eq!(*n, value);
            }
        }
        let told = "microtally: memory limit ";
        assert_eq!(ended.stderr.matches(told).count(), 1, "{}", ended.stderr);
        assert!(
            ended.stderr.contains("of new keys are not counted by key"),
            "{}",
            ended.stderr
        );
        assert!(missing_max == 0 || ended.stderr.contains(" the value of a key may lack "));
        let table = run("table");
        assert!(table.stdout.contains(" of other keys (memory limit)"));
        let says = table.stdout.contains("a value may lack ");
        let said = table.stderr.contains(" the value of a key may lack ");
        assert_eq!(says, said, "{}", table.stderr);
        let _ = run("tsv").says(&["of new keys are not counted by key"]);
    }
}

/// One thread, so what it has it has never refused.
#[test]
fn what_one_thread_shows_under_other_is_exact_and_said_to_be() {
    let text = late_and_often("9");
    let args = [
        "count", "in", "-j", "1", "-k", "field:1", "-o", "json", "-n", "1000000",
    ];
    let program = microtally(&args).file("in", &text);
    let ended = program
        .args(&["-a", "sum", "-v", "field:2", "--max-memory", "64MiB"])
        .run();
    let (rows, object) = rows(&ended.exits_with(0));
    assert_eq!(
        (&object["approx"], &object["missing_max"]),
        (&true.into(), &0.into())
    );
    assert!(
        rows.iter()
            .all(|(key, n, missing)| key != "late" && *n == 1.0 && *missing == 0)
    );
}

/// The tables share the memory, so the limit is met when it is used.
#[test]
fn sums_are_exact_until_the_memory_is_used() {
    let text: String = (1..=1_000_000).map(|n| format!("{n}\n")).collect();
    for source in ["in", "-"] {
        let args = [
            "count", "-k", "field:1", "-a", "sum", "-v", "field:1", "-n", "1", "-o", "json",
        ];
        let program = microtally(&args).args(&["-j", "2", "--max-memory", "512MiB", source]);
        let ended = program
            .file("in", &text)
            .stdin_file(text.as_bytes())
            .run()
            .quietly();
        let object = &json_lines(&ended.stdout)[0];
        assert_eq!(object["approx"], false);
        assert_eq!(
            (&object["keys"], &object["top"][0]["n"]),
            (&1_000_000.into(), &1_000_000.into())
        );
    }
}

#[test]
fn equal_runs_with_one_seed_print_the_same_at_the_limit() {
    let text = many_words();
    for on_limit in ["approx", "other"] {
        let run = |seed: &[&str]| {
            let args = [
                "count",
                "in",
                "-j",
                "1",
                "--max-record",
                "1MiB",
                "--max-memory",
                "32MiB",
            ];
            let program = microtally(&args).file("in", &text).args(&["-o", "table"]);
            let ended = program
                .args(&["--on-limit", on_limit])
                .args(seed)
                .run()
                .exits_with(0);
            assert!(ended.stderr.contains("memory limit"), "{}", ended.stderr);
            ended.stdout
        };
        let seed = ["--hash-seed", "7"];
        assert!(run(&seed) == run(&seed), "{on_limit}");
        assert!(on_limit == "other" || run(&[]) != run(&seed));
    }
}

/// Whatever `ulimit -v` allows, the program either counts or says what it needs; it is never out of
/// memory by a limit that it chose itself.
#[test]
fn a_limited_address_space_is_enough_or_refused() {
    let text: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    let mut counted = 0;
    for (kib, workers, source) in [
        (40_000, 1, "-"),
        (80_000, 2, "input"),
        (120_000, 1, "-"),
        (150_000, 1, "-"),
        (150_000, 2, "input"),
        (165_000, 1, "-"),
        (175_000, 1, "-"),
        (185_000, 2, "input"),
        (190_000, 4, "-"),
        (200_000, 1, "-"),
        (220_000, 4, "-"),
        (300_000, 2, "input"),
        (400_000, 4, "-"),
        (1_000_000, 1, "-"),
    ] {
        let script = format!(
            "ulimit -v {kib}; exec \"$0\" count -n all -o json -j {workers} {source} < input"
        );
        let ended = shell(&script).file("input", &text).run();
        let at = format!("{kib} {workers} {source}: {}", ended.stderr);
        assert!(!ended.stderr.contains("out of memory"), "{at}");
        if ended.stderr.contains(" is too small: ") {
            let _ = ended.exits_with(2);
            assert!(kib < 400_000 || workers == 4 && kib < 600_000, "{at}");
            continue;
        }
        let object = json_lines(&ended.exits_with(0).stdout).remove(0);
        assert_eq!(object["records"], 300_000, "{at}");
        let error_max = object["error_max"].as_u64().unwrap();
        let rows = object["top"].as_array().unwrap();
        assert!(
            rows.iter()
                .all(|row| (1..=1 + error_max).contains(&row["n"].as_u64().unwrap()))
        );
        counted += 1;
    }
    assert!(counted >= 5);
}
