//! What is lost is in the statistics, wherever it is lost, and the same bytes have the same figures
//! from every source. The ledger is checked at each batch: one that does not close would end the
//! run.

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use microtally::Config;
use microtally::config::LineEnds;
use microtally::engine::RunStats;
use microtally::sources::Reconnect;
use microtally::sources::TcpClient;

use crate::util::{Run, client, count, count_with, listening, reset};

#[test]
fn a_half_line_that_a_reset_costs_is_in_the_statistics() {
    let (source, address) = listening();
    let run = count(source);
    let mut bad = client(address);
    bad.write_all(b"whole\nhalf a li").unwrap();
    run.wait_for("whole", 1);
    reset(bad);
    run.wait_for_notice("in the middle of a line; 9 bytes dropped");
    let mut good = client(address);
    good.write_all(b"more\n").unwrap();
    run.wait_for("more", 1);
    drop(good);
    let (_, _, stats) = run.stop_with_stats();
    assert_eq!((stats.truncated_records, stats.truncated_bytes), (1, 9));
    assert_eq!((stats.records, stats.dropped()), (2, 1));
}

#[test]
fn a_connection_that_is_reset_between_two_lines_is_reported() {
    let (source, address) = listening();
    let run = count(source);
    let mut bad = client(address);
    bad.write_all(b"whole\n").unwrap();
    run.wait_for("whole", 1);
    let peer = bad.local_addr().unwrap();
    reset(bad);
    run.wait_for_notice(&format!(
        "tcp-listen://{address}: connection of {peer} failed between two lines: connection reset by peer"
    ));
    let (_, _, stats) = run.stop_with_stats();
    assert_eq!((stats.records, stats.dropped()), (1, 0));
}

#[test]
fn a_reset_in_a_line_that_is_too_long_is_in_the_middle_of_a_line() {
    let (source, address) = listening();
    let run = count(source.record_bytes_max(8));
    let mut bad = client(address);
    bad.write_all(b"whole\nmuch too long").unwrap();
    run.wait_for("whole", 1);
    run.wait_for_notice("line longer than 8 bytes");
    let peer = bad.local_addr().unwrap();
    reset(bad);
    run.wait_for_notice(&format!(
        "connection of {peer} failed in the middle of a line"
    ));
    let (_, notices, stats) = run.stop_with_stats();
    assert!(
        !notices
            .iter()
            .any(|notice| notice.contains("between two lines"))
    );
    assert_eq!((stats.truncated_records, stats.truncated_bytes), (1, 0));
    assert_eq!((stats.oversize_tokens, stats.oversize_bytes), (1, 13));
}

/// A sender that never pauses, and a stop that does not wait. Returns the unread bytes in the
/// notice.
fn stop_in_mid_stream() -> Option<u64> {
    let (source, address) = listening();
    let source = source.drain_wait(Duration::ZERO);
    let run = count_with(source, Config::default().block_bytes(4096));
    let mut sender = client(address);
    let line = b"a line of the firehose\n".repeat(1000);
    let sender = thread::spawn(move || while sender.write_all(&line).is_ok() {});
    run.wait_for("a line of the firehose", 1000);
    // The ledger closes, or the run would fail.
    let (_, notices, stats) = run.stop_with_stats();
    sender.join().expect("its connection is closed");
    let unread = notices.iter().find_map(|notice| {
        let (before, _) = notice.split_once(" unread byte")?;
        before.rsplit(' ').next()?.parse::<u64>().ok()
    });
    assert_eq!(stats.lost_bytes, unread.unwrap_or(0), "{notices:?}");
    assert_eq!(stats.lost_records, u64::from(unread.is_some()));
    unread
}

#[test]
fn what_a_stop_of_a_listener_leaves_unread_is_in_the_statistics() {
    // On a busy machine the sender may not have run just then.
    let is_seen = (0..50).any(|_| stop_in_mid_stream().is_some());
    assert!(is_seen, "nothing was ever left unread");
}

#[test]
fn clients_that_are_refused_are_in_the_statistics() {
    let (source, address) = listening();
    let run = count(source.connections_max(1));
    let mut first = client(address);
    first.write_all(b"first\n").unwrap();
    run.wait_for("first", 1);
    let others: Vec<TcpStream> = (0..3).map(|_| client(address)).collect();
    run.wait_for_notice("refused");
    first.write_all(b"last\n").unwrap();
    run.wait_for("last", 1);
    // All of them are seen before the stop.
    for mut other in others {
        let end = std::io::Read::read(&mut other, &mut [0; 1]);
        assert_eq!(end.unwrap_or(0), 0);
    }
    drop(first);
    let (_, _, stats) = run.stop_with_stats();
    assert_eq!(stats.refused_connections, 3);
    // It is unknown how many lines they would have sent.
    assert_eq!(stats.dropped(), 0);
}

/// Text with every kind of end, empty lines, and lines that are too long in every place.
fn text(limit: usize) -> Vec<u8> {
    let long = |bytes| "x".repeat(limit + bytes);
    let lines = [
        "a",
        "b b",
        "",
        &long(0),
        &long(1),
        &long(700),
        "c",
        &long(9000),
        "",
        &long(1),
        "last",
    ];
    let ends = ["\r\n", "\n", "\r", "\r\n", "\r\n"];
    let lines = lines.iter().cycle().take(300).zip(ends.iter().cycle());
    lines
        .flat_map(|(line, end)| [line.as_bytes(), end.as_bytes()].concat())
        .collect()
}

/// Sends the text in pieces that cut line ends apart.
fn send(mut stream: TcpStream, text: &[u8]) {
    for (number, piece) in text.chunks(997).enumerate() {
        stream.write_all(piece).unwrap();
        if number % 20 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    stream.shutdown(Shutdown::Write).unwrap();
}

/// What does not depend on batches.
fn figures(stats: &RunStats) -> [u64; 6] {
    [
        stats.records,
        stats.tokens,
        stats.bytes,
        stats.oversize_tokens,
        stats.oversize_bytes,
        stats.dropped(),
    ]
}

#[test]
fn a_listener_and_a_client_of_the_same_bytes_have_the_same_figures() {
    const LIMIT: usize = 1024;
    let text = text(LIMIT);
    let config = || Config::default().record_bytes_max(LIMIT);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let source = TcpClient::new("127.0.0.1", address.port(), Reconnect::default());
    let run = count_with(source, config());
    let expected = text.clone();
    send(server.accept().unwrap().0, &expected);
    run.wait_for("last", 27);
    let (counts, _, of_client) = run.stop_with_stats();

    let (source, address) = listening();
    let run = count_with(source.record_bytes_max(LIMIT), config());
    send(client(address), &text);
    run.wait_for("last", 27);
    let (counts_of_listener, _, of_listener) = run.stop_with_stats();

    assert_eq!(counts, counts_of_listener);
    assert_eq!(figures(&of_client), figures(&of_listener));
    assert_eq!(of_client.bytes, text.len() as u64);
    assert_eq!(of_client.records, 300);
    assert!(of_client.oversize_tokens > 100, "{of_client:?}");
    assert_eq!(of_client.tokens + of_client.oversize_tokens, 300);
}

#[test]
fn lines_of_the_limit_are_counted_alike_by_every_source_where_a_return_is_a_byte() {
    const LIMIT: usize = 996;
    const ROUNDS: u64 = 50;
    let round: String = (LIMIT - 1..=LIMIT + 1)
        .flat_map(|len| ["\r\n", "\n"].map(|end| "x".repeat(len) + end))
        .collect();
    let text = (round.repeat(ROUNDS as usize) + "end\r\n").into_bytes();
    let due = [(LIMIT - 1, 2 * ROUNDS), (LIMIT, 2 * ROUNDS)];
    let config = || {
        let config = Config::default().record_bytes_max(LIMIT);
        config.line_ends(LineEnds::Lf)
    };
    let check = |run: Run| {
        run.wait_for("end", 1);
        let (counts, _, stats) = run.stop_with_stats();
        let lens: Vec<_> = counts.iter().map(|(line, n)| (line.len(), *n)).collect();
        assert_eq!(lens[1..], due);
        // A listener drops up to the line feed, as files and clients do.
        let bytes = (2 * (LIMIT as u64 + 1) + 1) * ROUNDS;
        assert_eq!(
            (stats.oversize_tokens, stats.oversize_bytes),
            (2 * ROUNDS, bytes)
        );
        assert_eq!(stats.records, 6 * ROUNDS + 1);
    };
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let source = TcpClient::new("127.0.0.1", address.port(), Reconnect::default());
    let run = count_with(source, config());
    send(server.accept().unwrap().0, &text);
    check(run);

    let (source, address) = listening();
    let run = count_with(source.record_bytes_max(LIMIT), config());
    send(client(address), &text);
    check(run);
}
