//! A connection to a Unix socket: there, not there yet, gone, back.

use std::io::Write;
use std::os::unix::net::UnixListener;

use crate::util::{ONE_BATCH, expected, microtally, plain};

#[test]
fn what_a_socket_sends_is_counted_to_its_end() {
    let program = microtally(&["words", "--reconnect", "never", "unix://lines"]).args(&ONE_BATCH);
    let listener = UnixListener::bind(program.path("lines")).unwrap();
    let run = program.start();
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(b"a b\na unended").unwrap();
    drop(stream);
    let counted = run.wait().quietly().counts();
    assert_eq!(counted, expected(&[("a", 2), ("b", 1), ("unended", 1)]));
}

#[test]
fn an_absolute_path_has_three_slashes() {
    let program = microtally(&["count", "--reconnect", "never"]);
    let path = program.path("lines");
    let listener = UnixListener::bind(&path).unwrap();
    let run = program
        .args(&[&format!("unix://{}", path.display())])
        .start();
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(b"x\nx\n").unwrap();
    drop(stream);
    assert_eq!(run.wait().quietly().tsv_counts(), plain(&[("x", 2)]));
}

#[test]
fn a_socket_that_is_not_there_is_waited_for_and_one_that_is_lost_is_found_again() {
    let program = microtally(&["words", "-i", "20ms", "-k", "line", "-o", "tsv"]);
    let run = program
        .args(&["--reconnect", "20ms", "unix://lines"])
        .start();
    run.stderr
        .wait_for("microtally: waiting for unix://lines: ");
    for _ in 0..2 {
        let listener = UnixListener::bind(run.path("lines")).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"hello\n").unwrap();
        drop(stream);
        std::fs::remove_file(run.path("lines")).unwrap();
    }
    run.wait_for_counts(&[("hello", 2)]);
    run.stderr.wait_for("microtally: connected to unix://lines");
    run.wait_until_it_reads();
    run.signal("TERM");
    run.wait().exits_with(0);
}

#[test]
fn case_35_a_socket_that_is_not_there_and_is_not_to_be_waited_for() {
    let program = microtally(&["words", "--reconnect", "never", "unix://lines"]).args(&ONE_BATCH);
    let ended = program.run().exits_with(3);
    let message = "microtally: cannot connect to unix://lines: no such file or directory\n";
    assert_eq!(ended.stderr, message);
}
