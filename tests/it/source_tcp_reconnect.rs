//! Connections that are not there yet, and the next one after one that is over.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::util::{
    ONE_BATCH, Port, Server, connected, connections, expected, microtally, reset, until,
};

#[test]
fn a_sender_that_is_not_there_yet_is_waited_for_and_told_of_once() {
    let port = Port::closed();
    let url = port.url();
    let args = ["words", &url, "--reconnect", "20ms", "-i", "20ms"];
    let run = microtally(&args).start();
    run.stderr.wait_for("; next try in 0.02 s");
    // Start does not wait for the connection: batches come meanwhile, and so do many attempts.
    run.stdout.wait_for_lines(40);
    let server = port.open();
    let mut stream = server.accept();
    run.stderr
        .wait_for(&format!("microtally: connected to {url}\n"));
    stream.write_all(b"at last\n").unwrap();
    run.stdout.wait_for("('last', 1)");
    run.signal("TERM");
    let ended = run.wait().exits_with(0);
    assert_eq!(ended.stderr.matches("waiting for").count(), 1, "{ended:?}");
    assert_eq!(ended.stderr.matches("connected to").count(), 1, "{ended:?}");
}

#[test]
fn a_connection_made_at_once_is_not_worth_a_word() {
    let server = Server::open();
    let url = server.url();
    let run = microtally(&["words", &url, "-i", "20ms"]).start();
    server.accept().write_all(b"hello\n").unwrap();
    run.stdout.wait_for("('hello', 1)");
    // What is said is that it is over.
    let text = run.stderr.wait_for_lines(1);
    let over = format!(
        "microtally: waiting for {url}: the sender closed the connection; next try in 2 s\n"
    );
    assert!(text.starts_with(&over), "{text}");
}

#[test]
fn case_37_the_next_attempt_comes_after_two_seconds() {
    let server = Server::open();
    let url = server.url();
    let run = microtally(&["words", &url]).args(&ONE_BATCH).start();
    let mut stream = server.accept();
    stream.write_all(b"one\n").unwrap();
    let closed_at = Instant::now();
    drop(stream);
    let mut stream = server.accept();
    let pause = closed_at.elapsed();
    // Earlier at most by the time that the program may have lost between reading its clock and
    // reading the end of the connection; later only as much as a busy machine needs.
    assert!(pause >= Duration::from_millis(1800), "{pause:?}");
    assert!(pause < Duration::from_secs(20), "{pause:?}");
    run.stderr.wait_for("connected to");
    stream.write_all(b"two\n").unwrap();
    run.signal("TERM");
    let counted = run.wait().exits_with(0).counts();
    assert_eq!(counted, expected(&[("one", 1), ("two", 1)]));
}

#[test]
fn case_37_the_pause_between_attempts_can_be_chosen() {
    let server = Server::open();
    let url = server.url();
    let args = ["words", &url, "--reconnect", "400ms"];
    let run = microtally(&args).args(&ONE_BATCH).start();
    let mut stream = server.accept();
    let mut pauses = Vec::new();
    for _ in 0..3 {
        let closed_at = Instant::now();
        drop(stream);
        stream = server.accept();
        pauses.push(closed_at.elapsed());
    }
    let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
    assert!(*least >= Duration::from_millis(200), "{pauses:?}");
    assert!(*least < Duration::from_millis(1900), "{pauses:?}");
    assert!(*most < Duration::from_secs(20), "{pauses:?}");
    drop(run);
}

#[test]
fn case_38_two_connections_never_share_a_line() {
    let (run, mut stream, server) = connected(&ONE_BATCH);
    // A clean end ends the line, a reset drops it; neither leaks into what comes next.
    stream.write_all(b"one tw").unwrap();
    drop(stream);
    let mut stream = server.accept();
    run.stderr.wait_until("the second connection", |text| {
        text.matches("connected to").count() == 2
    });
    stream.write_all(b"o three\nfour fi").unwrap();
    reset(stream);
    run.stderr.wait_for("7 bytes dropped");
    let mut stream = server.accept();
    run.stderr.wait_until("the third connection", |text| {
        text.matches("connected to").count() == 3
    });
    stream.write_all(b"ve six\r").unwrap();
    drop(stream);
    // A `\n` at the beginning of a connection is an empty line, not the rest of a `\r\n`.
    let mut stream = server.accept();
    run.stderr.wait_until("the fourth connection", |text| {
        text.matches("connected to").count() == 4
    });
    stream.write_all(b"\nseven").unwrap();
    run.signal("TERM");
    let words = ["one", "tw", "o", "three", "ve", "six", "", "seven"];
    let ended = run.wait().exits_with(0);
    assert_eq!(ended.counts(), expected(&words.map(|word| (word, 1))));
}

#[test]
fn case_27_a_sender_that_resets_before_it_was_looked_at_loses_nothing_that_arrived() {
    // One connection that is not accepted fills the queue, so that the program's has to wait.
    let port = Port::closed();
    let (url, number) = (port.url(), port.number());
    let server = port.open_for(0);
    let filler = TcpStream::connect(("127.0.0.1", number)).unwrap();
    let program = microtally(&["words", &url, "--reconnect", "never"]).args(&ONE_BATCH);
    let run = program.start();
    let syn_sent = "02";
    until("the program is connecting", || {
        let rows = connections(None, Some(number));
        rows.iter().any(|row| row[3] == syn_sent)
    });
    run.wait_until_it_reads();
    run.signal("STOP");
    // Now its connection is made, used and reset before the program looks at it for the first time.
    drop(server.accept());
    let mut stream = server.accept();
    stream.write_all(b"in time\nhalf a li").unwrap();
    reset(stream);
    run.signal("CONT");
    let ended = run.wait().exits_with(3);
    assert_eq!(ended.counts(), expected(&[("in", 1), ("time", 1)]));
    let ended = ended.says(&["9 bytes dropped\n", "lost tcp://"]);
    assert!(
        ended.stderr.ends_with(": connection reset by peer\n"),
        "{ended:?}"
    );
    drop(filler);
}

#[test]
fn case_34_many_short_connections_leave_nothing_behind() {
    let (run, mut stream, server) = connected(&["-i", "20ms"]);
    for _ in 0..100 {
        stream.write_all(b"short lived").unwrap();
        drop(stream);
        stream = server.accept();
    }
    thread::sleep(Duration::from_millis(50));
    run.signal("TERM");
    let ended = run.wait().exits_with(0);
    assert_eq!(ended.counts(), expected(&[("short", 100), ("lived", 100)]));
}
