//! `top` where there is no terminal: a block an interval, at once, while input goes on.

use std::io::Write;
use std::process::{ChildStdin, Stdio};

use crate::util::{Run, json_lines, microtally, plain, tsv_counts};

/// A `top` that reads what is written here.
fn top(args: &[&str]) -> (Run, ChildStdin) {
    let program = microtally(&["top", "-i", "50ms"]).args(args);
    let mut run = program.stdin(Stdio::piped()).start();
    run.wait_until_it_reads();
    let stdin = run.stdin.take().expect("it is a pipe");
    (run, stdin)
}

/// The objects so far, without one that is not complete.
fn objects(text: &str) -> Vec<serde_json::Value> {
    let end = text.rfind('\n').map_or(0, |at| at + 1);
    json_lines(&text[..end])
}

#[test]
fn every_interval_a_block_comes_while_input_goes_on_and_totals_grow() {
    let (run, mut stdin) = top(&["-o", "json"]);
    let mut blocks = 0;
    for round in 1..=5 {
        stdin.write_all(b"x\nx\ny\n").unwrap();
        // Nothing has to end for it to be seen: what was written is out.
        let text = run.stdout.wait_until("the totals", |text| {
            let last = objects(text).pop();
            last.is_some_and(|object| {
                object["top"]
                    == serde_json::json!([{"k": "x", "n": 2 * round}, {"k": "y", "n": round}])
            })
        });
        let now = objects(&text).len();
        assert!(now > blocks, "{text}");
        blocks = now;
    }
    // Blocks come without input too.
    run.stdout.wait_for_lines(blocks + 3);
    let batches: Vec<u64> = objects(&run.stdout.text())
        .iter()
        .map(|object| object["batch"].as_u64().unwrap())
        .collect();
    assert!(
        batches.windows(2).all(|two| two[1] == two[0] + 1),
        "{batches:?}"
    );
    drop(stdin);
    run.wait().quietly();
}

#[test]
fn the_ten_greatest_are_shown_or_as_many_as_are_asked_for() {
    let text: String = (0..40).map(|n| format!("key{n}\n").repeat(n + 1)).collect();
    for (args, rows) in [(&[][..], 10), (&["-n", "3"], 3), (&["-n", "all"], 40)] {
        let program = microtally(&["top", "-i", "8760h"]).args(args);
        let ended = program.run_with(text.as_bytes()).exits_with(0);
        // Nobody has asked for ten: what is missing is reported.
        let left_out = match args {
            [] => {
                "microtally: the first 10 of up to 40 keys were printed; -n all prints every key\n"
            }
            _ => "",
        };
        assert_eq!(ended.stderr, left_out);
        assert_eq!(ended.stdout.lines().count(), rows);
        let first = ended.stdout.lines().next().unwrap();
        assert!(first.ends_with("\tkey39\t40"), "{first}");
    }
}

#[test]
fn a_window_lets_go_of_keys_that_left() {
    let (run, mut stdin) = top(&["-o", "json", "-w", "200ms", "-n", "all"]);
    stdin.write_all(b"old\nold\n").unwrap();
    run.stdout.wait_for("{\"k\":\"old\",\"n\":2}");
    let is_gone = |text: &str| {
        objects(text)
            .pop()
            .is_some_and(|last| last["top"] == serde_json::json!([]))
    };
    run.stdout.wait_until("it is gone", is_gone);
    stdin.write_all(b"new\n").unwrap();
    let text = run.stdout.wait_for("\"new\"");
    let last = objects(&text).pop().unwrap();
    assert_eq!(last["top"], serde_json::json!([{"k": "new", "n": 1}]));
    drop(stdin);
    run.wait().quietly();
}

#[test]
fn a_window_may_be_shown_less_often() {
    let program = microtally(&[
        "top", "-i", "20ms", "-w", "200ms", "--slide", "100ms", "-o", "json",
    ]);
    let program = program.args(&["--batches", "20"]);
    let mut run = program.stdin(Stdio::piped()).start();
    let stdin = run.stdin.take();
    let objects = json_lines(&run.wait().quietly().stdout);
    drop(stdin);
    let times: Vec<_> = objects.iter().map(|object| &object["time"]).collect();
    assert!((3..=6).contains(&objects.len()), "{times:?}");
    let ended = microtally(&["top", "-i", "20ms", "-w", "50ms"]).run();
    ended
        .exits_with(2)
        .says(&["microtally: --window 50ms must be a multiple of --interval, which is 20ms"]);
}

/// Half a year goes by before the window is due.
#[test]
fn lines_that_no_window_shows_any_more_are_told() {
    let options = ["-w", "8760h", "--slide", "8760h", "-i", "4380h", "-"];
    let seen = |command: &str| microtally(&[command]).args(&options);
    let ended = seen("top").run_with(b"x\ny\nx\n").exits_with(0);
    assert_eq!(ended.stdout, "");
    let told = "microtally: 3 lines came after the last window of --slide; skipped\n";
    assert_eq!(ended.stderr, told);
    // Every batch is in a window.
    let all = ["top", "-w", "8760h", "-i", "4380h", "-"];
    microtally(&all).run_with(b"x\ny\nx\n").quietly();
}

#[test]
fn it_stops_after_so_many_batches() {
    let program = microtally(&["top", "-i", "20ms", "--batches", "3", "-o", "json"]);
    let mut run = program.stdin(Stdio::piped()).start();
    let stdin = run.stdin.take();
    let ended = run.wait().quietly();
    drop(stdin);
    assert_eq!(json_lines(&ended.stdout).len(), 3);
}

#[test]
fn tables_in_a_pipe_have_a_head_each_and_no_escape_codes() {
    let (run, mut stdin) = top(&["-o", "table", "-n", "1", "--color", "always"]);
    stdin.write_all(b"a\na\nb\x1b[31m\n").unwrap();
    let text = run
        .stdout
        .wait_for("… and 1 more key, 33.3 % of the records\n");
    assert!(
        text.contains("2   66.7 %  a\n") && !text.contains('\x1b'),
        "{text}"
    );
    assert!(text.contains("3 records, 2 keys\n"), "{text}");
    drop(stdin);
    run.wait().quietly();
}

#[test]
fn sums_go_on_too() {
    let (run, mut stdin) = top(&[
        "-o", "tsv", "-k", "field:1", "-a", "sum", "-v", "field:2", "-w", "1s",
    ]);
    stdin.write_all(b"a 0.5\nb -1\n").unwrap();
    run.stdout.wait_for("\ta\t0.5\n");
    stdin.write_all(b"a 0.25\n").unwrap();
    run.stdout.wait_for("\ta\t0.75\n");
    drop(stdin);
    run.wait().quietly();
}

/// The memory that is there by default does not refuse a window for its length.
#[test]
fn long_windows_of_sums_begin() {
    let line = ["-o", "tsv", "-k", "field:1", "-a", "sum", "-v", "field:2"];
    for window in ["5m", "1h"] {
        let (run, mut stdin) = top(&[&line[..], &["-w", window]].concat());
        stdin.write_all(b"a 0.5\n").unwrap();
        run.stdout.wait_for("\ta\t0.5\n");
        drop(stdin);
        run.wait().quietly();
    }
}

#[test]
fn a_closed_pipe_and_a_signal_end_it_quietly() {
    let (mut run, mut stdin) = {
        let program = microtally(&["top", "-i", "20ms"]).unread_stdout();
        let mut run = program.stdin(Stdio::piped()).start();
        let stdin = run.stdin.take().unwrap();
        (run, stdin)
    };
    stdin.write_all(b"x\n").unwrap();
    drop(run.stdout_pipe.take());
    run.wait().quietly();

    let (run, mut stdin) = top(&[]);
    stdin.write_all(b"x\nunended").unwrap();
    run.signal("INT");
    let ended = run.wait().quietly();
    let last = ended
        .stdout
        .lines()
        .rev()
        .take(2)
        .collect::<Vec<_>>()
        .join("\n")
        + "\n";
    assert_eq!(tsv_counts(&last), plain(&[("x", 1), ("unended", 1)]));
}
