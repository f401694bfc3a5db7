//! `count`: everything, once, exactly.

use std::fs::File;
use std::io::Write;
use std::process::Stdio;

use crate::util::{Ended, json_lines, microtally, plain, shell, uniq, until};

/// Lines of one to three random words, some of them far more often than others.
fn random_text(lines: u64) -> String {
    let mut state = 99_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut text = String::new();
    for _ in 0..lines {
        let bits = next() % 14;
        let (range, words) = (1 << bits, next() % 3);
        text += &format!("w{}", next() % range);
        for _ in 0..words {
            text += &format!(" {}", next() % 4);
        }
        text.push('\n');
    }
    text
}

fn count(args: &[&str], input: &str) -> Ended {
    let program = microtally(&["count"]).args(args);
    program.run_with(input.as_bytes()).quietly()
}

#[test]
fn it_is_sort_uniq_and_sort() {
    let text = random_text(30_000);
    let script = "cat > in; LC_ALL=C sort in | uniq -c | LC_ALL=C sort -k1,1nr -k2";
    let by_others = shell(script).run_with(text.as_bytes()).quietly().stdout;
    let by_others: Vec<(&str, u64)> = by_others
        .lines()
        .map(|line| {
            let (count, key) = line.trim_start().split_once(' ').unwrap();
            (key, count.parse().unwrap())
        })
        .collect();
    assert!(by_others.len() > 5_000);
    let from_file = microtally(&["count", "in"])
        .file("in", &text)
        .run()
        .quietly();
    let from_pipe = count(&["-j", "2"], &text);
    for ended in [from_file, from_pipe] {
        let ours: Vec<(&str, u64)> = ended
            .stdout
            .lines()
            .map(|line| {
                let columns: Vec<&str> = line.split('\t').collect();
                (columns[1], columns[2].parse().unwrap())
            })
            .collect();
        // In the same order too: the greatest first, equal ones by their bytes.
        assert_eq!(ours, by_others);
    }
}

#[test]
fn the_first_n_are_the_greatest() {
    let text = random_text(5_000);
    let all = count(&[], &text).stdout;
    for n in [0, 1, 10, 1_000_000] {
        let first: String = all.split_inclusive('\n').take(n).collect();
        let found = count(&["-n", &n.to_string()], &text).stdout;
        let keys = |text: &str| -> Vec<String> {
            text.lines()
                .map(|line| line.split_once('\t').unwrap().1.to_owned())
                .collect()
        };
        assert_eq!(keys(&found), keys(&first), "{n}");
    }
    assert_eq!(uniq(&text), count(&["-n", "all"], &text).tsv_counts());
}

#[test]
fn every_format_says_the_same() {
    let text = "b\na\tc\nb\n";
    let stdout = |format: &str| count(&["-o", format], text).stdout;
    assert_eq!(stdout("table"), "2   66.7 %  b\n1   33.3 %  a\\tc\n");
    assert!(stdout("tsv").ends_with("\ta\\tc\t1\n"));
    assert!(stdout("pyspark").ends_with("\n('b', 2)\n('a\\tc', 1)\n\n"));
    let object = &json_lines(&stdout("json"))[0];
    assert_eq!(
        object["top"],
        serde_json::json!([{"k": "b", "n": 2}, {"k": "a\tc", "n": 1}])
    );
    assert_eq!(
        (&object["records"], &object["keys"]),
        (&3.into(), &2.into())
    );
    // In a pipe it is tsv.
    assert_eq!(
        count(&[], text).tsv_counts(),
        plain(&[("b", 2), ("a\\tc", 1)])
    );
}

#[test]
fn the_table_says_what_it_leaves_out() {
    let text: String = (0..2_000).map(|n| format!("key{n}\n")).collect();
    let text = "often\n".repeat(2_000) + &text;
    let table = count(&["-o", "table", "-n", "1"], &text).stdout;
    assert_eq!(
        table,
        "2 000   50.0 %  often\n… and 2 000 more keys, 50.0 % of the records\n"
    );
    let table = count(&["-o", "table", "-n", "1", "-k", "word"], "a b a\n").stdout;
    assert_eq!(
        table,
        "2   66.7 %  a\n… and 1 more key, 33.3 % of the words\n"
    );
    let table = count(&["-o", "table", "-n", "2"], "a\nb\n").stdout;
    assert!(!table.contains('…'), "{table}");
}

#[test]
fn case_1_an_empty_input_is_no_result() {
    for format in ["table", "tsv"] {
        assert_eq!(count(&["-o", format], "").stdout, "");
        let program = microtally(&["count", "-o", format, "in"]).file("in", "");
        assert_eq!(program.run().quietly().stdout, "");
    }
    assert_eq!(json_lines(&count(&["-o", "json"], "").stdout)[0]["keys"], 0);
}

#[test]
fn a_reader_that_has_enough_ends_it_quietly() {
    let text: String = (0..200_000).map(|n| format!("key{n}\n")).collect();
    let script = "cat > in; { \"$0\" count in; echo \"code $?\" >&2; } | head -1";
    let ended = shell(script).run_with(text.as_bytes());
    assert_eq!(
        (ended.stderr.as_str(), ended.stdout.lines().count()),
        ("code 0\n", 1)
    );
}

#[test]
fn case_61_a_full_disk_is_a_failure_that_is_told() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let ended = microtally(&["count"]).stdout(full).run_with(b"x\n");
    let ended = ended.exits_with(1);
    ended.says(&["microtally: cannot write results to stdout: No space left on device"]);
}

#[test]
fn a_signal_prints_what_was_counted() {
    for (signal, args) in [("INT", &["count", "-"][..]), ("TERM", &["count", "a", "-"])] {
        let program = microtally(args).file("a", "x\n");
        let mut run = program.stdin(Stdio::piped()).start();
        run.wait_until_it_reads();
        let mut stdin = run.stdin.take().unwrap();
        stdin.write_all(b"x\nunended").unwrap();
        run.signal(signal);
        let counted = run.wait().quietly().tsv_counts();
        let x = args.len() as u64 - 1;
        assert_eq!(counted, plain(&[("x", x), ("unended", 1)]), "SIG{signal}");
        drop(stdin);
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    // A reader that does not read: the results are more than the pipe holds.
    let text: String = (0..100_000).map(|n| format!("key{n}\n")).collect();
    let bytes = text.len() as u64;
    let mut run = microtally(&["count", "in", "-"])
        .file("in", text)
        .stdin(Stdio::piped())
        .unread_stdout()
        .start();
    until("all of it is read", || run.read_bytes() > bytes);
    run.signal("INT");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!run.has_ended());
    run.signal("INT");
    run.wait().exits_with(130);
}

#[test]
fn odd_bytes_are_keys_like_others() {
    let program = microtally(&["count"]);
    let ended = program
        .run_with(b"\x1b[31m\n\xff\xfe\n\0\n\xff\xfe\n")
        .quietly();
    let wanted = [("\\xff\\xfe", 2), ("\\x00", 1), ("\\x1b[31m", 1)];
    assert_eq!(ended.tsv_counts(), plain(&wanted));
}
