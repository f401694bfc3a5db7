//! Clients that connect to the program: many, slow, torn, reset, too much.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::util::{PATIENCE, Port, Run, microtally, plain, reset, shell, tsv_counts, uniq, until};

/// A program that counts the lines of whoever connects, and where it listens.
fn listening(args: &[&str]) -> (Run, String) {
    listening_for("line", args)
}

fn listening_for(key: &str, args: &[&str]) -> (Run, String) {
    let program = microtally(&["words", "-k", key, "-o", "tsv", "-n", "all", "-i", "20ms"]);
    let run = program
        .args(args)
        .args(&["tcp-listen://127.0.0.1:0"])
        .start();
    let address = run.listening_on();
    run.wait_until_it_reads();
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
        .wait_for("in the middle of a line; 9 bytes dropped");
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

/// As of a single stream: where lines are only split, only a word can be too long.
#[test]
fn case_4_5_a_line_that_is_only_split_is_counted_however_long_it_is() {
    let (run, address) = listening_for("word", &["--max-record", "1KiB"]);
    let mut clients: Vec<TcpStream> = (0..3).map(|_| connect(&address)).collect();
    let words = "one two three ".repeat(100);
    for _ in 0..20 {
        for client in &mut clients {
            client.write_all(words.as_bytes()).unwrap();
        }
    }
    let long = format!("{} four\n", "x".repeat(5000));
    clients[0].write_all(long.as_bytes()).unwrap();
    clients[1].write_all(b"four\n").unwrap();
    // The end of a line may be that of the connection.
    clients[2].write_all(b"four").unwrap();
    drop(clients);
    run.stderr.wait_for("word longer than 1024 bytes");
    run.stdout.wait_until("the last words", |text| {
        tsv_counts(text).get("four") == Some(&3)
    });
    run.signal("TERM");
    let counted = run.wait().exits_with(0).tsv_counts();
    let all = [("one", 6000), ("two", 6000), ("three", 6000), ("four", 3)];
    assert_eq!(counted, plain(&all));
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
    run.stderr.wait_for("anyone who can reach it can send");
    run.wait_until_it_reads();
    run.signal("INT");
    assert_eq!(run.wait().exits_with(0).stdout, "");
}

/// Reads until the other side has ended; a reset is an end as well.
fn wait_for_end(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match stream.read(&mut [0; 16]) {
        Ok(0) => {}
        Err(cause) if cause.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn case_22_one_client_too_many_sees_an_end_and_the_option_is_named() {
    let (run, address) = listening(&["--max-connections", "3"]);
    let mut first: Vec<TcpStream> = (0..3).map(|_| connect(&address)).collect();
    for stream in &mut first {
        stream.write_all(b"here\nhalf a ").unwrap();
    }
    run.wait_for_counts(&[("here", 3)]);
    let mut extra = connect(&address);
    let peer = extra.local_addr().unwrap();
    wait_for_end(&mut extra);
    run.stderr.wait_for(&format!(
        "microtally: tcp-listen://{address}: 3 clients connected, which is the limit; refused {peer}\n"
    ));
    run.stderr.wait_for("--max-connections sets");
    for stream in &mut first {
        stream.write_all(b"line\n").unwrap();
    }
    run.wait_for_counts(&[("here", 3), ("half a line", 3)]);
    drop(first);
    run.signal("TERM");
    let counted = run.wait().exits_with(0).tsv_counts();
    assert_eq!(counted, plain(&[("here", 3), ("half a line", 3)]));
}

#[test]
fn case_22_few_open_files_serve_many_clients_and_one_too_many_is_told_which_limit_that_is() {
    let script =
        "ulimit -n 64; exec \"$0\" words -j 1 -k line -o tsv -i 20ms tcp-listen://127.0.0.1:0";
    let run = shell(script).start();
    let address = run.listening_on();
    run.wait_until_it_reads();
    let mut clients: Vec<TcpStream> = (0..24).map(|_| connect(&address)).collect();
    for stream in &mut clients {
        stream.write_all(b"served\n").unwrap();
    }
    run.wait_for_counts(&[("served", 24)]);
    // The others find their limit, and nobody has to wait for descriptors.
    clients.extend((0..64).map(|_| connect(&address)));
    let refused = run.stderr.wait_for("; refused ");
    let (begin, end) = (
        format!("tcp-listen://{address}: "),
        " clients connected, which is all that the limit of 64 open files allows",
    );
    assert!(
        refused.contains(&begin) && refused.contains(end),
        "{refused}"
    );
    drop(clients);
    run.signal("TERM");
    let ended = run.wait().exits_with(0);
    assert!(!ended.stderr.contains("--max-connections"), "{ended:?}");
    assert!(!ended.stderr.contains("have to wait"), "{ended:?}");
}

#[test]
fn clients_that_come_and_go_are_all_counted_however_few_may_be_connected() {
    const CLIENTS: u64 = 4;
    const TIMES: u64 = 500;
    let (run, address) = listening(&["--max-connections", "4", "--max-connections-per-ip", "4"]);
    let churn = |_| {
        let address = address.clone();
        thread::spawn(move || {
            for _ in 0..TIMES {
                connect(&address).write_all(b"one line\n").unwrap();
            }
        })
    };
    let threads: Vec<_> = (0..CLIENTS).map(churn).collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    run.wait_for_counts(&[("one line", CLIENTS * TIMES)]);
    run.signal("TERM");
    let ended = run.wait().exits_with(0);
    assert!(!ended.stderr.contains("refused"), "{ended:?}");
}

#[test]
fn every_listener_says_where_it_listens() {
    let port = Port::closed().number();
    let urls = [
        &format!("tcp-listen://127.0.0.1:{port}"),
        "tcp-listen://127.0.0.1:0",
        "udp-listen://127.0.0.1:0",
        "unix-listen://lines",
    ];
    let program = microtally(&["words", "-k", "line", "-o", "tsv", "-i", "20ms"]);
    let run = program.args(&urls).start();
    let text = run.stderr.wait_for_lines(urls.len());
    let said: Vec<&str> = text
        .lines()
        .map(|line| line.strip_prefix("microtally: listening on ").unwrap())
        .collect();
    assert_eq!(said[0], format!("127.0.0.1:{port}"));
    for address in &said[..2] {
        connect(address).write_all(b"heard\n").unwrap();
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"heard", said[2]).unwrap();
    assert_eq!(said[3], "unix-listen://lines");
    let mut unix = UnixStream::connect(run.path("lines")).unwrap();
    unix.write_all(b"heard\n").unwrap();
    run.wait_for_counts(&[("heard", 4)]);
    drop(unix);
    run.signal("TERM");
    run.wait().exits_with(0);
}

/// A client from this address of the loopback network.
fn connect_from(source: [u8; 4], address: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source = SocketAddr::from((source, 0));
    socket.bind(&source.into()).unwrap();
    let address: SocketAddr = address.parse().unwrap();
    socket.connect(&address.into()).unwrap();
    socket.into()
}

#[test]
fn case_23_an_address_has_a_limit_of_its_own() {
    let (run, address) = listening(&["--max-connections-per-ip", "2"]);
    let mut ours: Vec<TcpStream> = (0..2).map(|_| connect(&address)).collect();
    for stream in &mut ours {
        stream.write_all(b"here\n").unwrap();
    }
    run.wait_for_counts(&[("here", 2)]);
    wait_for_end(&mut connect(&address));
    run.stderr.wait_for(&format!(
        "tcp-listen://{address}: 2 clients connected from one address, which is the limit; refused 127.0.0.1:"
    ));
    run.stderr.wait_for("--max-connections-per-ip sets");
    // Another address has its own, and those that are there go on.
    let mut other = connect_from([127, 0, 0, 2], &address);
    other.write_all(b"elsewhere\n").unwrap();
    ours[0].write_all(b"still here\n").unwrap();
    run.wait_for_counts(&[("here", 2), ("elsewhere", 1), ("still here", 1)]);
    // One that has gone has left its place.
    drop(ours.pop());
    until("there is a place", || {
        let mut stream = connect(&address);
        let _ = stream.write_all(b"next\n");
        stream.shutdown(Shutdown::Write).is_ok() && run.stdout.text().contains("\tnext\t")
    });
    drop((ours, other));
    run.signal("TERM");
    run.wait().exits_with(0);
}

/// Slowloris: the places are taken by clients that say nothing or little.
#[test]
fn case_21_silent_clients_are_closed_and_trickling_ones_harm_nobody() {
    const PLACES: usize = 40;
    let limit = PLACES.to_string();
    let (run, address) = listening(&["--max-connections", &limit, "--idle-timeout", "2s"]);
    let mut good = connect(&address);
    let mut trickling: Vec<TcpStream> = (0..PLACES / 2).map(|_| connect(&address)).collect();
    let mut silent: Vec<TcpStream> = (0..PLACES / 2 - 1).map(|_| connect(&address)).collect();
    for stream in silent.iter_mut() {
        stream.write_all(b"begun").unwrap();
    }
    // Who trickles is let be; who is silent goes, and what he began is a line.
    let is_over = Arc::<AtomicBool>::default();
    let drops = {
        let is_over = Arc::clone(&is_over);
        thread::spawn(move || {
            let mut drops = 0;
            while !is_over.load(Ordering::Relaxed) {
                for stream in &mut trickling {
                    stream.write_all(b"d").unwrap();
                }
                drops += 1;
                good.write_all(b"good\n").unwrap();
                thread::sleep(Duration::from_millis(100));
            }
            for stream in &mut trickling {
                stream.write_all(b"\n").unwrap();
            }
            drops
        })
    };
    run.stdout.wait_for("\tgood\t");
    // All places are taken.
    wait_for_end(&mut connect(&address));
    for stream in &mut silent {
        wait_for_end(stream);
    }
    run.stderr.wait_for(&format!(
        "tcp-listen://{address}: nothing received for 2s; closed 127.0.0.1:"
    ));
    run.stderr.wait_for("--idle-timeout sets");
    let mut late = connect(&address);
    late.write_all(b"late\n").unwrap();
    drop(late);
    run.stdout.wait_for("\tlate\t");
    is_over.store(true, Ordering::Relaxed);
    let drops = drops.join().expect("nobody who sends is closed");
    let dropped = "d".repeat(drops);
    run.stdout.wait_until("what trickled", |text| {
        tsv_counts(text).get(&dropped) == Some(&(PLACES as u64 / 2))
    });
    run.signal("TERM");
    let counted = run.wait().exits_with(0).tsv_counts();
    let expected = [
        ("begun", PLACES as u64 / 2 - 1),
        ("good", drops as u64),
        ("late", 1),
        (&dropped, PLACES as u64 / 2),
    ];
    assert_eq!(counted, plain(&expected));
}

#[test]
fn case_11_12_what_is_no_text_is_told_once_counted_and_never_answered() {
    let (run, address) = listening(&[]);
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let hello = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00\n";
    let utf16: Vec<u8> = "abcd\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for _ in 0..3 {
        for text in [&request[..], hello, b"\x1f\x8b\x08\x00\n", &utf16] {
            let mut client = connect(&address);
            client.write_all(text).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, b"");
        }
    }
    run.stdout.wait_until("everything", |text| {
        tsv_counts(text).get("Host: x") == Some(&3) && tsv_counts(text).len() == 7
    });
    run.signal("TERM");
    let ended = run.wait().exits_with(0);
    for (what, advice) in [
        ("an HTTP request", "with nc"),
        ("a TLS handshake", "stunnel"),
        ("gzip data", "zcat"),
        ("UTF-16 text", "iconv"),
    ] {
        let sentence = format!(" looks like {what}, not like lines");
        assert_eq!(ended.stderr.matches(&sentence).count(), 1, "{ended:?}");
        let (before, _) = ended.stderr.split_once(&sentence).unwrap();
        let begin = format!("tcp-listen://{address}: data from 127.0.0.1:");
        assert!(
            before.rsplit('\n').next().unwrap().contains(&begin),
            "{ended:?}"
        );
        assert_eq!(ended.stderr.matches(advice).count(), 1, "{ended:?}");
    }
    let counted = ended.tsv_counts();
    assert_eq!((counted["GET / HTTP/1.1"], counted[""]), (3, 3));
    assert_eq!(counted.values().sum::<u64>(), 9 + 3 + 3 + 6);
}

#[test]
fn a_signal_waits_for_clients_as_long_as_it_is_told_to() {
    // One that answers late, within the time.
    let (run, address) = listening(&["--drain-timeout", "1h"]);
    let mut client = connect(&address);
    client.write_all(b"one\n").unwrap();
    run.wait_for_counts(&[("one", 1)]);
    run.signal("TERM");
    wait_for_end(&mut client);
    thread::sleep(Duration::from_millis(1500));
    client.write_all(b"late\n").unwrap();
    drop(client);
    let ended = run.wait().exits_with(0);
    assert!(!ended.stderr.contains("did not disconnect"), "{ended:?}");
    assert_eq!(ended.tsv_counts(), plain(&[("one", 1), ("late", 1)]));
    // One that never ends, and nobody waits.
    let (run, address) = listening(&["--drain-timeout", "0s"]);
    let mut client = connect(&address);
    client.write_all(b"one\n").unwrap();
    run.wait_for_counts(&[("one", 1)]);
    run.signal("TERM");
    let ended = run.wait().exits_with(0);
    ended.says(&[&format!(
        "tcp-listen://{address}: 1 client did not disconnect before the stop"
    )]);
}
