//! Standard input, whatever it is connected to.

use std::fs::File;
use std::io::Write;
use std::process::Stdio;

use crate::util::{ONE_BATCH, Server, expected, microtally, naive, shell, until};

#[test]
fn a_file_is_counted_to_its_end() {
    let text = "one two\nthree two\n".repeat(20_000);
    let program = microtally(&["words", "-n", "all"]).args(&ONE_BATCH);
    let ended = program.stdin_file(text.as_bytes()).run().quietly();
    assert_eq!(ended.counts(), naive(&text));
    assert_eq!(ended.batches().len(), 1);
}

#[test]
fn case_3_a_last_line_without_an_end_is_counted() {
    for source in [&["words"][..], &["words", "-"]] {
        let ended = microtally(source).args(&ONE_BATCH).run_with(b"a b\nb c");
        let counted = ended.quietly().counts();
        assert_eq!(counted, expected(&[("a", 1), ("b", 2), ("c", 1)]));
    }
}

#[test]
fn case_1_an_empty_input_is_one_empty_batch() {
    let batches = |stdin: Stdio| {
        let program = microtally(&["words", "-"]).args(&ONE_BATCH).stdin(stdin);
        program.run().quietly().batches()
    };
    let null = batches(Stdio::null());
    assert!(null.len() == 1 && null[0].lines.is_empty(), "{null:?}");
    let empty = tempfile::tempfile().unwrap();
    let file = batches(empty.into());
    assert!(file.len() == 1 && file[0].lines.is_empty(), "{file:?}");
}

#[test]
fn a_pipe_is_counted_while_it_stays_open() {
    let mut run = microtally(&["words", "-", "-i", "20ms"])
        .stdin(Stdio::piped())
        .start();
    let mut stdin = run.stdin.take().unwrap();
    stdin.write_all(b"first half").unwrap();
    run.stdout.wait_for_lines(8);
    stdin.write_all(b"-way\n").unwrap();
    run.stdout.wait_for("('half-way', 1)");
    stdin.write_all(b"last").unwrap();
    drop(stdin);
    let counted = run.wait().quietly().counts();
    assert_eq!(
        counted,
        expected(&[("first", 1), ("half-way", 1), ("last", 1)])
    );
}

#[test]
fn a_pipe_keeps_the_flags_that_other_processes_share() {
    let program = microtally(&["words", "-", "-i", "20ms"]);
    let mut run = program.stdin(Stdio::piped()).start();
    let mut stdin = run.stdin.take().unwrap();
    stdin.write_all(b"hello\n").unwrap();
    run.stdout.wait_for("('hello', 1)");
    assert!(!run.has_nonblocking_stdin());
    drop(stdin);
    run.wait().quietly();
}

#[test]
fn case_5_a_word_without_an_end_is_counted_as_oversize_and_the_stream_goes_on() {
    let text = format!("before {} after\nnext\n", "x".repeat(3_000_000));
    let args = ["words", "-", "--max-record", "1KiB", "--stats=json"];
    let ended = microtally(&args).args(&ONE_BATCH).run_with(text.as_bytes());
    let ended = ended.exits_with(0).says(&[
        "microtally: standard input: tokens longer than 1024 bytes are skipped\n",
        "            raise --max-record, up to 1GiB, to keep longer ones",
        "microtally: 1 line or word is longer than --max-record; skipped\n",
        "\"dropped\":1,",
    ]);
    let counted = expected(&[("before", 1), ("after", 1), ("next", 1)]);
    assert_eq!(ended.counts(), counted);
}

#[test]
fn case_42_a_directory_is_refused_with_its_reason() {
    let program = microtally(&["words", "-"]).args(&ONE_BATCH);
    program
        .stdin(File::open("/").unwrap())
        .run()
        .exits_with(3)
        .says(&["microtally: cannot read standard input: Is a directory\n"]);
}

#[test]
fn case_42_a_closed_descriptor_is_an_empty_input_and_no_socket_takes_its_place() {
    let ended = shell("exec \"$0\" words - -i 8760h <&-").run().quietly();
    assert_eq!(ended.batches().len(), 1);
    assert_eq!(ended.counts(), expected(&[]));
}

#[test]
fn of_closed_descriptors_only_standard_output_is_missed() {
    for (closed, code) in [
        ("<&- >&- 2>&-", 1),
        ("<&- >/dev/null 2>&-", 0),
        ("<&- >&-", 1),
        ("<&- >/dev/null", 0),
    ] {
        let script = format!("\"$0\" words - -i 8760h {closed}; echo \"code $?\"");
        assert_eq!(
            shell(&script).run().stdout,
            format!("code {code}\n"),
            "{closed}"
        );
    }
}

/// It is a file's text, whoever opened the file: the mark of a connection stays.
#[test]
fn a_utf_8_mark_at_its_beginning_is_skipped_from_a_file_and_from_a_pipe() {
    let marked = "\u{feff}name x\n\u{feff}name\n";
    let counted = expected(&[("name", 1), ("x", 1), ("\\ufeffname", 1)]);
    let words = || microtally(&["words", "-"]).args(&ONE_BATCH);
    let from_file = words().stdin_file(marked.as_bytes()).run().quietly();
    assert_eq!(from_file.counts(), counted);
    let from_pipe = words().run_with(marked.as_bytes()).quietly();
    assert_eq!(from_pipe.counts(), counted);
    let server = Server::open();
    let args = ["words", &server.url(), "--reconnect", "never"];
    let run = microtally(&args).args(&ONE_BATCH).start();
    server.accept().write_all(marked.as_bytes()).unwrap();
    let counted = expected(&[("\\ufeffname", 2), ("x", 1)]);
    assert_eq!(run.wait().quietly().counts(), counted);
}

/// A mark, or a compressed format, might begin like that.
#[test]
fn a_first_byte_that_may_begin_anything_is_counted_when_a_stop_comes() {
    for byte in ["P", "B", "("] {
        let mut run = microtally(&["words", "-", "-i", "20ms"])
            .stdin(Stdio::piped())
            .start();
        run.wait_until_it_reads();
        let mut stdin = run.stdin.take().unwrap();
        stdin.write_all(byte.as_bytes()).unwrap();
        // Until it was read: the pipe is empty.
        until("it is read", || run.read_bytes() > 0);
        run.signal("INT");
        assert_eq!(run.wait().quietly().counts(), expected(&[(byte, 1)]));
        drop(stdin);
    }
}

/// A signal comes at any place of a file; the rest of the line it is in was not read, and what was
/// read is no line.
#[test]
fn a_file_that_a_signal_interrupts_has_no_cut_line_among_its_keys() {
    let line = "one line of a log that is long enough to be cut\n";
    let program = microtally(&["top", "-n", "all", "-o", "tsv", "-i", "8760h"]);
    let run = program
        .stdin_file(line.repeat(1_000_000).as_bytes())
        .start();
    run.wait_until_it_reads();
    run.signal("INT");
    let ended = run.wait().exits_with(0);
    let counted = ended.tsv_counts();
    let keys: Vec<&str> = counted.keys().map(String::as_str).collect();
    assert!(keys == [line.trim_end()] || keys.is_empty(), "{ended:?}");
    let broken_off = "microtally: standard input: cut off in the middle of a line; ";
    assert!(
        ended.stderr.is_empty() || ended.stderr.starts_with(broken_off),
        "{ended:?}"
    );
}
