//! Clients that connect to the program: many, slow, torn, reset, too much.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::util::{Run, microtally, plain, reset, tsv_counts, uniq};

/// A program that counts the lines of whoever connects, and where it listens.
fn listening(args: &[&str]) -> (Run, String) {
    let program = microtally(&[
        "words", "-k", "line", "-o", "tsv", "-n", "all", "-i", "20ms",
    ]);
    let run = program
        .args(args)
        .args(&["tcp-listen://127.0.0.1:0"])
        .start();
    let address = run.listening_on();
    run.wait_until_signals_are_caught();
    (run, address)
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the program listens");
    stream.set_nodelay(true).expect("a socket option");
    stream
}

#[test]
fn lines_of_many_clients_never_mix_however_they_are_torn() {
    let (run, address) = listening(&[]);
    let mut clients: Vec<TcpStream> = (0..40).map(|_| connect(&address)).collect();
    // A byte of each in turn: no read of the program sees a whole line of anybody.
    let line = |client: usize| format!("client {client:02} says hello\n");
    for round in 0..line(0).len() {
        for (client, stream) in clients.iter_mut().enumerate() {
            stream
                .write_all(&line(client).as_bytes()[round..=round])
                .unwrap();
        }
    }
    // The last line of each has no end but that of the connection.
    for (client, stream) in clients.iter_mut().enumerate() {
        write!(stream, "bye {client}").unwrap();
    }
    drop(clients);
    let all: String = (0..40).map(|n| format!("{}bye {n}\n", line(n))).collect();
    run.stdout
        .wait_until("every line", |text| tsv_counts(text).len() >= 80);
    run.signal("TERM");
    assert_eq!(run.wait().exits_with(0).tsv_counts(), uniq(&all));
}

#[test]
fn a_client_comes_and_goes_and_another_one_is_served() {
    let (run, address) = listening(&[]);
    for _ in 0..5 {
        connect(&address).write_all(b"again\n").unwrap();
    }
    run.wait_for_counts(&[("again", 5)]);
    run.signal("INT");
    run.wait().exits_with(0);
}

#[test]
fn a_signal_ends_the_connections_and_counts_what_they_sent() {
    let (run, address) = listening(&[]);
    let mut client = connect(&address);
    client.write_all(b"one\ntwo unended").unwrap();
    run.wait_for_counts(&[("one", 1)]);
    run.signal("INT");
    // The sender is told by an end; until it has answered with its own it may send.
    let mut byte = [0];
    assert_eq!(client.read(&mut byte).unwrap(), 0);
    client.write_all(b" and more").unwrap();
    drop(client);
    let counted = run.wait().exits_with(0).tsv_counts();
    assert_eq!(counted, plain(&[("one", 1), ("two unended and more", 1)]));
}

#[test]
fn case_26_a_client_s_reset_drops_its_half_line_and_nobody_else_s() {
    let (run, address) = listening(&[]);
    let (mut good, mut bad) = (connect(&address), connect(&address));
    good.write_all(b"good ").unwrap();
    bad.write_all(b"whole\nhalf a li").unwrap();
    run.wait_for_counts(&[("whole", 1)]);
    reset(bad);
    run.stderr
        .wait_for("in the middle of a line: 9 bytes dropped");
    good.write_all(b"line\n").unwrap();
    run.wait_for_counts(&[("whole", 1), ("good line", 1)]);
    drop(good);
    run.signal("TERM");
    run.wait().exits_with(0);
}

#[test]
fn a_line_that_is_too_long_is_dropped_and_its_client_named() {
    let (run, address) = listening(&["--max-record", "1KiB"]);
    let mut client = connect(&address);
    client.write_all(&b"x".repeat(100_000)).unwrap();
    client.write_all(b"\nshort\n").unwrap();
    run.wait_for_counts(&[("short", 1)]);
    let peer = client.local_addr().unwrap().to_string();
    run.stderr.wait_for("longer than 1024 bytes");
    run.stderr.wait_for(&peer);
    drop(client);
    run.signal("TERM");
    run.wait().exits_with(0);
}

#[test]
fn case_40_a_port_in_use_is_refused_before_anything_starts() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp-listen://{}", taken.local_addr().unwrap());
    for command in ["words", "top", "count"] {
        let ended = microtally(&[command, &url]).run().exits_with(2);
        let ended = ended.says(&[
            "cannot listen on 127.0.0.1:",
            "in use",
            "pick another place",
        ]);
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn who_listens_for_others_than_this_machine_is_told_so() {
    let run = microtally(&["count", "tcp-listen://0.0.0.0:0"]).start();
    run.stderr.wait_for("whoever can reach it can send");
    run.wait_until_signals_are_caught();
    run.signal("INT");
    assert_eq!(run.wait().exits_with(0).stdout, "");
}
