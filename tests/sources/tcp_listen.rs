//! Many TCP clients.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use microtally::Config;
use microtally::error::ErrorKind;
use microtally::sources::TcpListen;
use socket2::{Domain, Socket, Type};

use crate::util::{
    Counts, PATIENCE, Run, client, count, count_with, counts, is_alone, listening, reset, until,
};

fn started() -> (Run, SocketAddr) {
    let (source, address) = listening();
    (count(source), address)
}

/// Waits until the other side has ended.
fn wait_for_end(stream: &mut TcpStream) {
    assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0);
}

/// P2, case 30: hundreds at once, whose lines are cut everywhere, and some that send nothing.
#[test]
fn hundreds_of_clients_never_share_a_line() {
    const CLIENTS: usize = 300;
    const ROUNDS: usize = 40;
    let (run, address) = started();
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| client(address)).collect();
    let silent: Vec<TcpStream> = (0..50).map(|_| client(address)).collect();
    let mut expected = Counts::new();
    for round in 0..ROUNDS {
        for (name, stream) in clients.iter_mut().enumerate() {
            // Half a line, whose other half comes in the next round.
            let end = ["\n", "\r\n", "\r"][name % 3];
            let text = match round % 2 {
                0 => format!("client {name}"),
                _ => format!(" says hello{end}"),
            };
            stream.write_all(text.as_bytes()).unwrap();
        }
    }
    for (name, mut stream) in clients.into_iter().enumerate() {
        stream.write_all(b"the last line has no end").unwrap();
        expected.insert(format!("client {name} says hello"), ROUNDS as u64 / 2);
    }
    expected.insert("the last line has no end".to_owned(), CLIENTS as u64);
    drop(silent);
    run.wait_for("the last line has no end", CLIENTS as u64);
    let (counted, notices) = run.stop();
    assert_eq!(counted, expected);
    assert_eq!(notices, [""; 0]);
}

#[test]
fn case_20_a_byte_at_a_time_makes_the_same_lines() {
    let (run, address) = started();
    let mut stream = client(address);
    for byte in b"one\ntwo\r\nthree\n".repeat(200) {
        stream.write_all(&[byte]).unwrap();
    }
    drop(stream);
    run.wait_for("three", 200);
    assert_eq!(
        run.stop().0,
        counts([("one", 200), ("two", 200), ("three", 200)])
    );
}

#[test]
fn case_26_27_a_reset_costs_the_unfinished_line_and_nothing_else() {
    let (run, address) = started();
    let mut other = client(address);
    other.write_all(b"the other ").unwrap();
    let mut stream = client(address);
    let peer = stream.local_addr().unwrap();
    stream.write_all(&b"received\n".repeat(6000)).unwrap();
    stream.write_all(b"half a li").unwrap();
    // Reset as a whole while most of it is unread: what the kernel has is counted.
    until("it arrived", || unsent(&stream) == 0);
    reset(stream);
    run.wait_for_notice(&format!(
        "tcp-listen://{address}: connection of {peer} failed in the middle of a line; 9 bytes dropped"
    ));
    other.write_all(b"goes on\n").unwrap();
    run.wait_for("the other goes on", 1);
    let (counted, notices) = run.stop();
    assert_eq!(
        counted,
        counts([("received", 6000), ("the other goes on", 1)])
    );
    assert_eq!(notices.len(), 2, "{notices:?}"); // The other one ignored the end.
}

/// Bytes that the other side has not acknowledged, from the table of connections.
fn unsent(stream: &TcpStream) -> u64 {
    let port = |address: SocketAddr| format!(":{:04X}", address.port());
    let (local, peer) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let is_it = |row: &&str| {
        let mut words = row.split_whitespace().skip(1);
        words
            .next()
            .is_some_and(|word| word.ends_with(&port(local)))
            && words.next().is_some_and(|word| word.ends_with(&port(peer)))
    };
    let row = table.lines().find(is_it).expect("it is connected");
    let queues = row.split_whitespace().nth(4).unwrap();
    u64::from_str_radix(queues.split(':').next().unwrap(), 16).unwrap()
}

#[test]
fn case_22_clients_beyond_the_limit_are_ended_at_once() {
    let (source, address) = listening();
    let run = count(source.connections_max(2));
    let mut first = [client(address), client(address)];
    for stream in &mut first {
        stream.write_all(b"here\n").unwrap();
    }
    run.wait_for("here", 2);
    for _ in 0..5 {
        wait_for_end(&mut client(address));
    }
    run.wait_for_notice(&format!("tcp-listen://{address}: 2 clients connected"));
    first[0].write_all(b"still here\n").unwrap();
    run.wait_for("still here", 1);
    // One leaves, another may come.
    let [_, second] = first;
    drop(second);
    until("there is a place", || {
        let mut stream = client(address);
        stream.write_all(b"now me\n").is_ok()
            && stream.shutdown(Shutdown::Write).is_ok()
            && run.counts().contains_key("now me")
    });
    let (_, notices) = run.stop();
    let refused = notices
        .iter()
        .filter(|notice| notice.contains("; refused 127.0.0.1:"));
    assert!(refused.count() <= 3, "reported in sums: {notices:?}");
}

#[test]
fn case_23_an_address_has_as_many_connections_as_it_may() {
    let (source, address) = listening();
    let run = count(source.connections_per_peer_max(1));
    // One after another: who has ended is not in the way of the next.
    for round in 1..=20 {
        let mut stream = client(address);
        stream.write_all(b"one at a time\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        wait_for_end(&mut stream);
        run.wait_for("one at a time", round);
    }
    let mut first = client(address);
    first.write_all(b"first\n").unwrap();
    run.wait_for("first", 1);
    wait_for_end(&mut client(address));
    run.wait_for_notice(&format!("tcp-listen://{address}: 1 client connected"));
    first.write_all(b"still here\n").unwrap();
    drop(first);
    run.wait_for("still here", 1);
    let (_, notices) = run.stop();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].contains(" from one address, which is the limit; refused 127.0.0.1:"));
}

/// Some clients end no line and hold all the memory for unfinished lines.
#[test]
fn lines_in_two_pieces_are_all_counted_beside_clients_that_end_none() {
    const LINES: u64 = 100;
    const HELD: usize = 200_000;
    let (source, address) = listening();
    let run = count(source.record_bytes_max(HELD / 2).held_bytes_max(HELD));
    let mut hostile: Vec<TcpStream> = (0..3).map(|_| client(address)).collect();
    let mut honest = client(address);
    honest.write_all(b"here\n").unwrap();
    run.wait_for("here", 1);
    let mut sent = 0;
    for _ in 0..LINES {
        for stream in &mut hostile {
            stream.write_all(&[b'x'; HELD / 100]).unwrap();
        }
        sent += HELD / 100;
        until("they are read", || {
            sent > HELD / 2 || hostile.iter().all(|stream| unsent(stream) == 0)
        });
        for piece in [&b"in two "[..], b"pieces\n"] {
            honest.write_all(piece).unwrap();
            until("it is read", || unsent(&honest) == 0);
        }
    }
    run.wait_for("in two pieces", LINES);
    let name = format!(" from {}; dropped ", honest.local_addr().unwrap());
    drop((hostile, honest));
    let (counted, notices) = run.stop();
    assert_eq!(counted.get("in two pieces"), Some(&LINES));
    assert!(!notices.is_empty(), "somebody pays");
    assert!(
        notices.iter().all(|notice| !notice.contains(&name)),
        "{notices:?}"
    );
}

/// P10: what one firehose costs 50 clients that send something now and then.
#[test]
fn a_firehose_does_not_silence_the_others() {
    const WORDS: usize = 20;
    let (source, address) = listening();
    let run = count_with(source, Config::default().workers(1));
    let firehose = thread::spawn(move || {
        let mut stream = client(address);
        let text = b"water\n".repeat(100_000);
        while stream.write_all(&text).is_ok() {}
    });
    run.wait_for("water", 1_000_000);
    let mut drops: Vec<TcpStream> = (0..50).map(|_| client(address)).collect();
    let mut longest = Duration::ZERO;
    for word in 1..=WORDS {
        let start = Instant::now();
        for stream in &mut drops {
            stream.write_all(b"drop\n").unwrap();
        }
        run.wait_for("drop", (50 * word) as u64);
        longest = longest.max(start.elapsed());
    }
    // Promised are a batch and 100 ms; a debug build on a busy machine gets more.
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    println!("longest wait {longest:?}");
    drop(drops);
    // The stop closes it, though it does not check whether our side has ended.
    let (counted, notices) = run.stop();
    firehose.join().unwrap();
    assert_eq!(counted.get("drop"), Some(&(50 * WORDS as u64)));
    assert_eq!(
        counted.keys().len(),
        2 + usize::from(counted.len() > 2),
        "{counted:?}"
    );
    assert!(
        notices.iter().any(|notice| notice.contains("1 client")),
        "{notices:?}"
    );
}

/// P12: what the kernel holds at a stop is counted, of senders that end when we do.
#[test]
fn a_graceful_stop_reads_what_has_arrived() {
    let (source, address) = listening();
    let run = count(source.drain_wait(PATIENCE));
    let mut streams: Vec<TcpStream> = (0..20).map(|_| client(address)).collect();
    for stream in &mut streams {
        stream.write_all(b"before\n").unwrap();
    }
    run.wait_for("before", 20);
    let senders: Vec<_> = (streams.into_iter())
        .map(|mut stream| {
            thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                let is_over = thread::spawn(move || wait_for_end(&mut reader));
                let mut sent = 0;
                while !is_over.is_finished() {
                    stream.write_all(b"meanwhile\n").unwrap();
                    sent += 1;
                    thread::sleep(Duration::from_micros(200));
                }
                // It saw our end, and still has something to send.
                stream.write_all(b"unterminated").unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                sent
            })
        })
        .collect();
    run.wait_for("meanwhile", 20);
    let late: Vec<TcpStream> = (0..5)
        .map(|_| {
            let mut stream = client(address);
            stream.write_all(b"not accepted yet, maybe\n").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            stream
        })
        .collect();
    let (counted, notices) = run.stop();
    let sent: u64 = senders
        .into_iter()
        .map(|sender| sender.join().unwrap())
        .sum();
    assert_eq!(counted["meanwhile"], sent);
    assert_eq!(counted["unterminated"], 20);
    assert_eq!(counted["not accepted yet, maybe"], 5);
    assert_eq!(notices, [""; 0]);
    assert!(TcpStream::connect(address).is_err(), "nobody listens");
    drop(late);
}

#[test]
fn a_graceful_stop_does_not_wait_for_ever() {
    let (source, address) = listening();
    let run = count(source.drain_wait(Duration::from_millis(100)));
    let mut deaf = client(address);
    deaf.write_all(b"whole\nhalf").unwrap();
    run.wait_for("whole", 1);
    let (counted, notices) = run.stop();
    assert_eq!(counted, counts([("whole", 1), ("half", 1)]));
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(
        notices[0].starts_with(&format!("tcp-listen://{address}: 1 client did not ")),
        "{notices:?}"
    );
}

#[test]
fn case_34_connections_that_come_and_go_leave_nothing_behind() {
    let (run, address) = started();
    let mut before = 0;
    for round in 1..=10 {
        for _ in 0..200 {
            client(address).write_all(b"short lived").unwrap();
        }
        run.wait_for("short lived", round * 200);
        if round == 1 {
            before = count_descriptors();
        }
    }
    // Other tests of this process open and close as well.
    let after = count_descriptors();
    assert!(after < before + 1000, "{before} descriptors, then {after}");
    assert_eq!(run.stop().0, counts([("short lived", 2000)]));
}

#[test]
fn case_40_a_port_in_use_is_refused_before_anything_starts() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let error = TcpListen::bind("127.0.0.1", port).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let begins = format!(
        "cannot listen on 127.0.0.1:{port}: address already in use (pid {} \"",
        std::process::id()
    );
    assert!(error.to_string().starts_with(&begins), "{error}");
    let error = TcpListen::bind("192.0.2.1", 9).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot listen on 192.0.2.1:9: cannot assign requested address"
    );
    let error = TcpListen::bind("no.such.host.invalid", 9).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot listen on no.such.host.invalid:9: "),
        "{error}"
    );
}

#[test]
fn case_41_localhost_is_every_address_it_has_here() {
    let source = TcpListen::bind("localhost", 0).unwrap();
    let addresses = source.local_addrs().to_vec();
    assert!(addresses.iter().all(|address| address.ip().is_loopback()));
    assert!(
        addresses
            .iter()
            .all(|address| address.port() == addresses[0].port())
    );
    let run = count(source);
    for &address in &addresses {
        client(address).write_all(b"hello\n").unwrap();
    }
    run.wait_for("hello", addresses.len() as u64);
    assert_eq!(run.stop().1, [""; 0]);
}

/// P24.
#[test]
fn listening_for_other_machines_is_reported() {
    let run = count(TcpListen::bind("0.0.0.0", 0).unwrap());
    run.wait_for_notice("listens on 0.0.0.0:");
    drop(run);
}

#[test]
fn lines_above_the_limit_are_dropped_and_reported() {
    let (source, address) = listening();
    let run = count(source.record_bytes_max(100_000));
    let mut stream = client(address);
    let long = vec![b'x'; 1_000_000];
    stream
        .write_all(&[&b"before\n"[..], &long, b"\nafter\n"].concat())
        .unwrap();
    run.wait_for("after", 1);
    run.wait_for_notice("line longer than 100000 bytes, or than memory allows, from 127.0.0.1:");
    drop(stream);
    assert_eq!(run.stop().0, counts([("before", 1), ("after", 1)]));
}

/// P8, P9, case 33: nothing takes the results, so senders have to wait; then all of it comes.
#[test]
fn case_31_33_senders_wait_while_nothing_is_published_and_nothing_is_lost() {
    const LINES: u64 = 4_000_000;
    let (source, address) = listening();
    let config = Config::default().workers(1).block_bytes(16 * 1024);
    let run = count_with(source, config);
    let mut trickle = client(address);
    let sent = Arc::<AtomicU64>::default();
    let progress = Arc::clone(&sent);
    let mut sender = None;
    run.hold_up(|| {
        sender = Some(thread::spawn(move || {
            let mut stream = client(address);
            let text = b"much\n".repeat(4000);
            for _ in 0..LINES / 4000 {
                stream.write_all(&text).unwrap();
                progress.fetch_add(4000, Ordering::Relaxed);
            }
        }));
        let mut last = 0;
        until("the sender stands still", || {
            thread::sleep(Duration::from_millis(500));
            let now = sent.load(Ordering::Relaxed);
            now > 0 && std::mem::replace(&mut last, now) == now
        });
        assert!(
            sent.load(Ordering::Relaxed) < LINES,
            "it does not stand still"
        );
        // This one ends while nobody reads.
        let mut short = client(address);
        short.write_all(b"and\ngone").unwrap();
        trickle.write_all(b"still here\n").unwrap();
    });
    run.wait_for("gone", 1);
    run.wait_for("still here", 1);
    sender.unwrap().join().unwrap();
    run.wait_for("much", LINES);
    drop(trickle);
    let expected = [("and", 1), ("gone", 1), ("much", LINES), ("still here", 1)];
    assert_eq!(run.stop(), (counts(expected), Vec::new()));
}

/// In a process of its own, because its time and memory are measured.
#[test]
fn case_21_idle_clients_cost_a_descriptor_and_little_else() {
    const CLIENTS: usize = 400;
    if !is_alone(
        "tcp_listen::case_21_idle_clients_cost_a_descriptor_and_little_else",
        1000,
    ) {
        return;
    }
    let (run, address) = started();
    let mut first = client(address);
    first.write_all(b"first\n").unwrap();
    run.wait_for("first", 1);
    let mut stat = File::open("/proc/self/stat").unwrap();
    let (descriptors, memory) = (count_descriptors(), resident_bytes());
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| client(address)).collect();
    for stream in &mut clients {
        stream.write_all(b"the beginning of a line").unwrap();
    }
    until("all are read", || {
        clients.iter().all(|stream| unsent(stream) == 0)
    });
    first.write_all(b"read\n").unwrap();
    run.wait_for("read", 1);
    assert_eq!(count_descriptors(), descriptors + 2 * CLIENTS);
    let each = resident_bytes().saturating_sub(memory) / CLIENTS as u64;
    let before = processor_ticks(&mut stat);
    thread::sleep(Duration::from_secs(1));
    let spent = processor_ticks(&mut stat) - before;
    println!("{spent} of 100 ticks, {each} bytes for each client");
    assert!(spent <= 20, "{spent} of 100 ticks while nothing comes");
    assert!(each <= 4096, "{each} bytes for each client");
    drop(clients);
    run.wait_for("the beginning of a line", CLIENTS as u64);
}

fn count_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// P20, case 24: in a process of its own that may open few files.
#[test]
fn case_24_without_descriptors_clients_wait_and_the_others_go_on() {
    let name = "tcp_listen::case_24_without_descriptors_clients_wait_and_the_others_go_on";
    if !is_alone(name, 150) {
        return;
    }
    let (run, address) = started();
    let mut first = client(address);
    first.write_all(b"first\n").unwrap();
    run.wait_for("first", 1);
    let mut stat = File::open("/proc/self/stat").unwrap();
    // The clients' own ends, and then every other descriptor there is.
    let sockets: Vec<Socket> = (0..3)
        .map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap())
        .collect();
    let mut files: Vec<File> = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
    let mut waiting: Vec<TcpStream> = Vec::new();
    for socket in sockets {
        socket.connect(&address.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.write_all(b"waiting\n").unwrap();
        waiting.push(stream);
    }
    run.wait_for_notice("have to wait: Too many open files");
    let before = processor_ticks(&mut stat);
    thread::sleep(Duration::from_secs(1));
    let spent = processor_ticks(&mut stat) - before;
    assert!(
        spent <= 20,
        "{spent} of 100 ticks while nothing can be done"
    );
    first.write_all(b"first again\n").unwrap();
    run.wait_for("first again", 1);
    assert_eq!(run.counts().get("waiting"), None);
    // As soon as there are descriptors, though no event reports it.
    let start = Instant::now();
    drop(files);
    run.wait_for("waiting", 3);
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    run.wait_for_notice("are accepted again");
    drop((first, waiting));
    let (_, notices) = run.stop();
    assert_eq!(notices.len(), 2, "{notices:?}");
}

/// Processor time of this process in hundredths of a second, from its open `stat`.
fn processor_ticks(stat: &mut File) -> u64 {
    let mut text = String::new();
    stat.rewind().unwrap();
    stat.read_to_string(&mut text).unwrap();
    let words: Vec<&str> = text
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    words[11].parse::<u64>().unwrap() + words[12].parse::<u64>().unwrap()
}
