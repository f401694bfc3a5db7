//! Datagrams: whole lines each, and what the kernel drops is told.

use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use crate::util::{Run, json_lines, microtally, plain, tsv_counts};

fn listening() -> (Run, UdpSocket) {
    let program = microtally(&[
        "words", "-k", "line", "-o", "tsv", "-n", "all", "-i", "20ms",
    ]);
    let run = program.args(&["udp-listen://127.0.0.1:0"]).start();
    let address = run.listening_on();
    run.wait_until_it_reads();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.connect(address).expect("an address");
    (run, socket)
}

#[test]
fn a_datagram_is_whole_lines() {
    let (run, socket) = listening();
    for datagram in [&b"one\ntwo\n"[..], b"one", b"two\none", b"", b"\n"] {
        socket.send(datagram).unwrap();
    }
    socket.send(&b"x".repeat(60_000)).unwrap();
    let long = "x".repeat(60_000);
    run.wait_for_counts(&[("one", 3), ("two", 2), ("", 1), (&long, 1)]);
    run.signal("TERM");
    run.wait().exits_with(0);
}

#[test]
fn a_signal_counts_what_has_arrived() {
    let (run, socket) = listening();
    for _ in 0..50 {
        socket.send(b"here").unwrap();
    }
    run.signal("INT");
    let counted = run.wait().exits_with(0).tsv_counts();
    assert_eq!(counted, plain(&[("here", 50)]));
}

#[test]
fn datagrams_that_the_kernel_dropped_are_told_and_add_up() {
    let (run, socket) = listening();
    socket.send(b"first").unwrap();
    run.wait_for_counts(&[("first", 1)]);
    // It stands still while far more comes than a receive buffer holds.
    run.signal("STOP");
    let datagram = b"a line of some length\n".repeat(1_000);
    let sent = 2_000;
    for _ in 0..sent {
        socket.send(&datagram).unwrap();
    }
    run.signal("CONT");
    thread::sleep(Duration::from_millis(100));
    run.signal("TERM");
    let ended = run.wait().exits_with(0).says(&["the kernel dropped "]);
    // The last time it is told, all of them are in it.
    let dropped: u64 = ended
        .stderr
        .lines()
        .filter_map(|line| line.split_once("the kernel dropped ")?.1.split(' ').next())
        .next_back()
        .and_then(|number| number.parse().ok())
        .expect("a number");
    let counted = tsv_counts(&ended.stdout)["a line of some length"];
    assert!(
        counted.is_multiple_of(1_000) && dropped > 0,
        "{counted} {dropped}"
    );
    assert_eq!(counted / 1_000 + dropped, sent);
}

#[test]
fn datagrams_that_the_kernel_dropped_are_in_the_json_output_and_the_statistics() {
    let program = microtally(&["count", "-k", "line", "-o", "json", "--stats=json"]);
    let run = program.args(&["udp-listen://127.0.0.1:0"]).start();
    let address = run.listening_on();
    run.wait_until_it_reads();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.connect(address).expect("an address");
    run.signal("STOP");
    let datagram = b"a line of some length\n".repeat(1_000);
    let sent = 2_000;
    for _ in 0..sent {
        socket.send(&datagram).unwrap();
    }
    run.signal("CONT");
    run.signal("TERM");
    let ended = run.wait().exits_with(0);
    let number = |text: &str, name: &str| {
        let lines: String = text
            .lines()
            .filter(|line| line.starts_with('{'))
            .map(|line| format!("{line}\n"))
            .collect();
        let objects = json_lines(&lines);
        objects.last().expect("there is one")[name]
            .as_u64()
            .expect("a number")
    };
    let dropped = number(&ended.stderr, "dropped");
    assert!(dropped > 0, "nothing was dropped");
    assert_eq!(number(&ended.stdout, "dropped"), dropped);
    assert_eq!(number(&ended.stderr, "records") / 1_000 + dropped, sent);
}

/// Short batches share a look at what the kernel dropped; the last one has its own, also where the
/// number of batches ends the run.
#[test]
fn datagrams_dropped_in_the_last_of_some_short_batches_are_in_the_statistics() {
    let program = microtally(&["words", "-o", "json", "--stats=json", "-i", "200ms"]);
    let run = program
        .args(&["--batches", "5", "udp-listen://127.0.0.1:0"])
        .start();
    let address = run.listening_on();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.connect(address).expect("an address");
    // It stands still until all its batches are due, while far more comes than a receive buffer
    // holds.
    run.signal("STOP");
    let datagram = b"a line of some length\n".repeat(1_000);
    for _ in 0..2_000 {
        socket.send(&datagram).unwrap();
    }
    thread::sleep(Duration::from_millis(1_100));
    run.signal("CONT");
    let ended = run.wait().exits_with(0).says(&["the kernel dropped "]);
    let told = ended
        .stderr
        .lines()
        .filter_map(|line| line.split_once("the kernel dropped ")?.1.split(' ').next())
        .next_back()
        .and_then(|number| number.parse::<u64>().ok());
    let lines = ended.stderr.lines().filter(|line| line.starts_with('{'));
    let stats = json_lines(&lines.map(|line| format!("{line}\n")).collect::<String>());
    let dropped = stats.last().expect("there are some")["dropped"].as_u64();
    assert!(dropped > Some(0));
    assert_eq!(dropped, told);
}

#[test]
fn case_40_a_port_in_use_is_refused_before_anything_starts() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp-listen://{}", taken.local_addr().unwrap());
    let ended = microtally(&["top", &url]).run().exits_with(2);
    ended.says(&[
        "cannot listen on 127.0.0.1:",
        "in use",
        "pick another place",
    ]);
}
