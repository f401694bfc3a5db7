//! Where a record ends, by command and option, from every kind of source.

use std::collections::BTreeMap;
use std::io::Write;

use crate::util::{microtally, plain, uniq};

/// Lines with a carriage return inside, before a line feed, and at the end of the input.
const TEXT: &[u8] = b"10%\r20%\r100%\ndone\r\ndone\nend\r";

fn counted(args: &[&str], content: &[u8]) -> [BTreeMap<String, u64>; 2] {
    let from_file = microtally(args).args(&["in"]).file("in", content).run();
    let from_pipe = microtally(args).run_with(content);
    [from_file, from_pipe].map(|ended| ended.quietly().tsv_counts())
}

fn assert_counts(args: &[&str], content: &[u8], expected: &[(&str, u64)]) {
    for counts in counted(args, content) {
        assert_eq!(counts, plain(expected), "{args:?}");
    }
}

#[test]
fn count_and_top_end_records_at_line_feeds_as_sort_does() {
    let by_line_feeds = [(r"10%\r20%\r100%", 1), ("done", 2), (r"end\r", 1)];
    assert_counts(&["count"], TEXT, &by_line_feeds);
    assert_counts(&["top", "-i", "1h", "-n", "all"], TEXT, &by_line_feeds);
}

#[test]
fn with_cr_a_lone_carriage_return_ends_one_too() {
    let by_all = [("10%", 1), ("20%", 1), ("100%", 1), ("done", 2), ("end", 1)];
    assert_counts(&["count", "--cr"], TEXT, &by_all);
    assert_counts(&["top", "--cr", "-i", "1h", "-n", "all"], TEXT, &by_all);
}

#[test]
fn words_ends_records_as_spark_does() {
    let ended = microtally(&["words", "-n", "all", "-o", "tsv", "-"]).run_with(b"a\rb\r\na\n");
    assert_eq!(ended.quietly().tsv_counts(), plain(&[("a", 2), ("b", 1)]));
}

#[test]
fn with_null_only_nul_ends_a_record() {
    let names = b"./a\nb\0./c d\0./a\nb\0./e";
    let expected = [(r"./a\nb", 2), ("./c d", 1), ("./e", 1)];
    assert_counts(&["count", "-0"], names, &expected);
    assert_counts(&["count", "--null", "-j", "3"], names, &expected);
    let by_field = [("./a", 2), ("./c", 1), ("./e", 1)];
    assert_counts(&["count", "--null", "-k", "field:1"], names, &by_field);
}

#[test]
fn a_listener_has_the_same_record_ends() {
    let run = microtally(&["count", "tcp-listen://127.0.0.1:0"]).start();
    let mut client = std::net::TcpStream::connect(run.listening_on()).unwrap();
    client.write_all(TEXT).unwrap();
    drop(client);
    run.signal("INT");
    let ended = run.wait();
    let expected = plain(&[(r"10%\r20%\r100%", 1), ("done", 2), (r"end\r", 1)]);
    assert_eq!(ended.tsv_counts(), expected, "{}", ended.stderr);
}

#[test]
fn a_file_with_dos_line_ends_counts_as_one_with_unix_line_ends() {
    let unix = "to be\nor not\n\nto be\n".repeat(3_000);
    let dos = unix.replace('\n', "\r\n");
    let ended = microtally(&["count", "in"])
        .file("in", &dos)
        .run()
        .quietly();
    assert_eq!(ended.tsv_counts(), uniq(&unix));
}

#[test]
fn both_options_together_are_refused() {
    let ended = microtally(&["count", "--cr", "-0"])
        .run_with(b"")
        .exits_with(2);
    assert!(
        ended.stderr.contains("--cr") && ended.stderr.contains("--null"),
        "{}",
        ended.stderr
    );
}
