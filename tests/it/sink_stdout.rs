//! Where results go: a reader that leaves, a full disk, nobody at all.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use crate::util::{ONE_BATCH, microtally, shell};

#[test]
fn case_63_a_reader_that_leaves_ends_the_run_quietly() {
    for format in ["pyspark", "json", "tsv"] {
        let args = ["words", "-", "-i", "20ms", "-o", format];
        let program = microtally(&args).stdin(Stdio::piped()).unread_stdout();
        let mut run = program.start();
        // Kept open: the closed pipe alone ends the run.
        let mut stdin = run.stdin.take().unwrap();
        stdin.write_all(b"a b\n").unwrap();
        let mut stdout = BufReader::new(run.stdout_pipe.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "{line}");
        drop(stdout);
        // `tsv` has nothing to say about an empty batch.
        let words = std::thread::spawn(move || {
            while stdin.write_all(b"more\n").is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        });
        run.wait().quietly();
        words.join().unwrap();
    }
}

#[test]
fn case_63_head_ends_the_whole_pipeline() {
    let script = "{ \"$0\" gen --rate 1MB/s; echo \"gen $?\" >&2; } | \
                  { \"$0\" words - -i 20ms; echo \"words $?\" >&2; } | head -1";
    let ended = shell(script).run().exits_with(0);
    assert_eq!(ended.stdout, format!("{}\n", "-".repeat(43)));
    let mut said: Vec<&str> = ended.stderr.lines().collect();
    said.sort_unstable();
    assert_eq!(said, ["gen 0", "words 0"]);
}

#[test]
fn case_64_a_full_disk_ends_the_run_with_an_error() {
    for format in ["pyspark", "json", "tsv"] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let program = microtally(&["words", "-", "-o", format]).args(&ONE_BATCH);
        let ended = program.stdout(full).run_with(b"a b\n").exits_with(1);
        assert_eq!(
            ended.stderr,
            "microtally: cannot write results to stdout: No space left on device\n"
        );
    }
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ended = microtally(&["gen", "--total", "1MB"]).stdout(full).run();
    ended
        .exits_with(1)
        .says(&["stdout: No space left on device"]);
}

#[test]
fn case_64_a_full_disk_ends_a_run_whose_input_goes_on() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let program = microtally(&["words", "-", "-i", "20ms"]).stdout(full);
    let mut run = program.stdin(Stdio::piped()).start();
    let stdin = run.stdin.take();
    run.wait().exits_with(1).says(&["No space left on device"]);
    drop(stdin);
}

#[test]
fn messages_that_cannot_be_written_change_nothing() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let program = microtally(&["words", "-", "--stats"]).args(&ONE_BATCH);
    let ended = program.stderr(full).run_with(b"a\n").exits_with(0);
    assert_eq!(ended.batches()[0].lines, ["('a', 1)"]);

    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    microtally(&["words", "--top", "x"])
        .stderr(full)
        .run()
        .exits_with(2);
}

#[test]
fn case_65_a_file_that_may_not_grow_is_a_full_disk() {
    for command in ["gen --total 1MB", "count -n all -"] {
        let script = format!("ulimit -f 8; seq 20000 | \"$0\" {command} > out");
        shell(&script)
            .run()
            .exits_with(1)
            .says(&["microtally: cannot write ", "stdout: File too large\n"]);
    }
}

#[test]
fn help_that_cannot_be_written_is_a_failure_and_a_reader_that_leaves_is_none() {
    for args in [&["--help"][..], &["count", "-h"], &["--version"], &["man"]] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ended = microtally(args).stdout(full).run().exits_with(1);
        ended.says(&[
            "microtally: cannot write ",
            "stdout: No space left on device\n",
        ]);
    }
    let script = "{ \"$0\" top --help; echo $? >&2; } | true";
    assert_eq!(shell(script).run().exits_with(0).stderr, "0\n");
}

#[test]
fn standard_output_that_was_closed_at_the_start_is_a_failure() {
    for (command, input) in [
        ("count -", "a"),
        ("words -", "a"),
        ("top -", "a"),
        ("gen --total 1KB", ""),
        ("man", ""),
        ("count -h", ""),
        ("--version", ""),
    ] {
        let script = format!("echo {input} | \"$0\" {command} >&-");
        let ended = shell(&script).run().exits_with(1);
        ended.says(&["microtally: standard output: it is closed, so results would be lost; "]);
    }
    // What is wrong with the arguments is still said, and where output is discarded all is well.
    shell("\"$0\" count --nope >&-").run().exits_with(2);
    for open in ["> /dev/null", "1<> /dev/null"] {
        let script = format!("echo a | \"$0\" count - {open}");
        shell(&script).run().quietly();
    }
}
