//! One connection, and every way it can behave: slow, in tiny pieces, torn, ended, reset.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::util::{
    ONE_BATCH, Port, Server, batches, connected, counts, expected, json_lines, microtally, naive,
    reset, tsv_counts, until,
};

#[test]
fn a_slow_sender_s_words_come_when_their_line_is_complete() {
    let server = Server::open();
    let url = server.url();
    let run = microtally(&["words", &url, "-i", "20ms", "--reconnect", "never"]).start();
    let mut stream = server.accept();
    for byte in b"hello wor" {
        stream.write_all(&[*byte]).unwrap();
        thread::sleep(Duration::from_millis(10));
    }
    // Several empty batches pass while the line is open.
    let so_far = run.stdout.text().lines().count();
    let text = run.stdout.wait_for_lines(so_far + 16);
    assert!(!text.contains("hello"), "{text}");
    stream.write_all(b"ld\n").unwrap();
    let text = run.stdout.wait_for("('world', 1)");
    let words: Vec<Vec<String>> = batches(&text)
        .into_iter()
        .map(|batch| batch.lines)
        .filter(|lines| !lines.is_empty())
        .collect();
    assert_eq!(words, [["('hello', 1)", "('world', 1)"]]);
    drop(stream);
    run.wait().quietly();
}

#[test]
fn case_20_ten_thousand_tiny_writes_are_counted_as_one_large_one() {
    let text = "to be or not\r\nto  be\n\n".repeat(700);
    let server = Server::open();
    let url = server.url();
    let run = microtally(&["words", &url, "-i", "50ms", "--reconnect", "never"]).start();
    let mut stream = server.accept();
    let mut writes = 0;
    for (index, byte) in text.bytes().enumerate() {
        stream.write_all(&[byte]).unwrap();
        writes += 1;
        // Now and then a pause, so that the program reads one byte at a time too.
        if index % 500 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    assert!(writes >= 10_000, "{writes}");
    drop(stream);
    assert_eq!(run.wait().quietly().counts(), naive(&text));
}

#[test]
fn case_9_a_line_end_torn_between_two_writes_is_one_line_end() {
    let (run, mut stream, _server) = connected(&["-i", "20ms", "-o", "json"]);
    // `\r` ends the line at once; the `\n` that comes long after it belongs to it.
    stream.write_all(b"a\r").unwrap();
    run.stdout.wait_for("\"k\":\"a\"");
    stream.write_all(b"\n").unwrap();
    let lines = run.stdout.text().lines().count();
    run.stdout.wait_for_lines(lines + 3);
    stream.write_all(b"b\r").unwrap();
    run.stdout.wait_for("\"k\":\"b\"");
    // And one that comes with more behind it.
    stream.write_all(b"\nc\n").unwrap();
    run.stdout.wait_for("\"k\":\"c\"");
    run.signal("TERM");
    let ended = run.wait().exits_with(0);
    let objects = json_lines(&ended.stdout);
    let sum = |name: &str| {
        objects
            .iter()
            .map(|o| o[name].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!((sum("records"), sum("tokens"), sum("bytes")), (3, 3, 8));
}

#[test]
fn case_3_a_line_that_the_end_of_the_connection_ends_is_counted() {
    let server = Server::open();
    let url = server.url();
    let program = microtally(&["words", &url, "--reconnect", "never"]).args(&ONE_BATCH);
    let run = program.start();
    let mut stream = server.accept();
    stream.write_all(b"a b\nb unended").unwrap();
    drop(stream);
    let ended = run.wait().quietly();
    assert_eq!(
        ended.counts(),
        expected(&[("a", 1), ("b", 2), ("unended", 1)])
    );
    assert_eq!(ended.batches().len(), 1);
}

#[test]
fn case_29_a_peer_that_closes_its_half_and_waits_has_ended_its_stream() {
    let server = Server::open();
    let url = server.url();
    let program = microtally(&["words", &url, "--reconnect", "never"]).args(&ONE_BATCH);
    let run = program.start();
    let mut stream = server.accept();
    stream.write_all(b"a b").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let counted = run.wait().quietly().counts();
    assert_eq!(counted, expected(&[("a", 1), ("b", 1)]));
    drop(stream);
}

#[test]
fn case_30_a_peer_that_sends_nothing_makes_empty_batches_and_no_noise() {
    let server = Server::open();
    let url = server.url();
    let program = microtally(&["words", &url, "--reconnect", "never", "-i", "20ms"]);
    let run = program.start();
    let stream = server.accept();
    run.stdout.wait_for_lines(12);
    drop(stream);
    assert_eq!(run.wait().quietly().counts(), expected(&[]));

    let program = microtally(&["words", &url, "--reconnect", "never"]).args(&ONE_BATCH);
    let run = program.start();
    drop(server.accept());
    assert_eq!(run.wait().quietly().counts(), expected(&[]));
}

#[test]
fn case_26_a_reset_in_the_middle_of_a_line_drops_that_line_and_says_so() {
    let server = Server::open();
    let url = server.url();
    let args = [
        "words",
        &url,
        "--reconnect",
        "never",
        "-i",
        "20ms",
        "--stats=json",
    ];
    let run = microtally(&args).start();
    let mut stream = server.accept();
    stream.write_all(b"whole line\nhalf a li").unwrap();
    run.stdout.wait_for("('whole', 1)");
    reset(stream);
    let ended = run.wait().exits_with(3).says(&[
        &format!("{url}: cut off in the middle of a line; 9 bytes dropped\n"),
        &format!("microtally: lost {url}: connection reset by peer\n"),
        "\"dropped\":1,",
    ]);
    assert_eq!(ended.counts(), expected(&[("whole", 1), ("line", 1)]));
}

#[test]
fn case_26_a_reset_between_two_lines_drops_nothing() {
    let (run, mut stream, _server) = connected(&ONE_BATCH);
    stream.write_all(b"a b\n").unwrap();
    reset(stream);
    run.stderr.wait_for("connection reset by peer");
    run.signal("INT");
    let ended = run.wait().exits_with(0);
    assert!(!ended.stderr.contains("dropped"), "{ended:?}");
    assert_eq!(ended.counts(), expected(&[("a", 1), ("b", 1)]));
}

#[test]
fn case_27_bytes_that_came_before_a_reset_are_counted() {
    let (run, mut stream, _server) = connected(&ONE_BATCH);
    // Small enough for the kernel to hold: all of it has arrived when the reset does.
    let text = "before the reset\n".repeat(2_000);
    stream.write_all(text.as_bytes()).unwrap();
    reset(stream);
    run.stderr.wait_for("connection reset by peer");
    run.signal("INT");
    assert_eq!(run.wait().exits_with(0).counts(), naive(&text));
}

#[test]
fn case_35_nobody_listens_and_the_program_says_what_to_do() {
    let port = Port::closed();
    let url = port.url();
    let run = microtally(&["words", &url]).args(&ONE_BATCH).start();
    let help = format!(
        "microtally: waiting for {url}: connection refused; next try in 2 s\n            \
         start a source in another terminal, for example:  nc -lk {}\n",
        port.number()
    );
    assert_eq!(run.stderr.wait_for_lines(2), help);
    run.wait_until_it_reads();
    // Case 60: a signal during the wait for the next attempt ends the run at once.
    run.signal("INT");
    assert_eq!(run.wait().exits_with(0).stderr, help);
}

#[test]
fn case_35_nobody_listens_and_the_program_was_told_not_to_wait() {
    let url = Port::closed().url();
    let program = microtally(&["words", &url, "--reconnect", "never"]).args(&ONE_BATCH);
    let ended = program.run().exits_with(3);
    let message = format!("microtally: cannot connect to {url}: connection refused\n");
    assert_eq!(ended.stderr, message);
    // Results that were promised are put out even then: one empty batch.
    assert_eq!(ended.batches().len(), 1);
}

#[test]
fn case_36_a_name_that_does_not_exist_is_named() {
    // An empty label is refused by the resolver itself, so that no network is asked.
    let program = microtally(&["words", "no..such..host:9", "--reconnect", "never"]);
    program.args(&ONE_BATCH).run().exits_with(3).says(&[
        "microtally: cannot connect to tcp://no..such..host:9: ",
        "cannot resolve \"no..such..host\": ",
    ]);

    let run = microtally(&["words", "no..such..host:9"])
        .args(&ONE_BATCH)
        .start();
    run.stderr.wait_for("; next try in 2 s");
    run.wait_until_it_reads();
    run.signal("TERM");
    run.wait()
        .exits_with(0)
        .says(&["waiting for tcp://no..such..host:9: cannot resolve"]);
}

#[test]
fn case_41_a_name_with_several_addresses_is_tried_at_each() {
    // Most machines know `localhost` as ::1 as well, where nobody listens.
    let server = Server::open();
    let url = server.url().replace("127.0.0.1", "localhost");
    let program = microtally(&["words", &url, "--reconnect", "never"]).args(&ONE_BATCH);
    let run = program.start();
    server.accept().write_all(b"found\n").unwrap();
    assert_eq!(run.wait().quietly().counts(), expected(&[("found", 1)]));
}

#[test]
fn a_bare_address_is_a_tcp_address() {
    let server = Server::open();
    let url = server.url();
    let bare = url.strip_prefix("tcp://").unwrap();
    let program = microtally(&["words", bare, "--reconnect", "never"]).args(&ONE_BATCH);
    let run = program.start();
    server.accept().write_all(b"a b a\n").unwrap();
    assert_eq!(
        run.wait().quietly().counts(),
        expected(&[("a", 2), ("b", 1)])
    );
}

#[test]
fn case_33_a_sender_waits_while_results_are_not_read_and_nothing_is_lost() {
    let server = Server::open();
    let url = server.url();
    // Twenty thousand keys: the first batch with words fills the pipe of standard output.
    let args = [
        "words",
        &url,
        "--reconnect",
        "never",
        "-n",
        "all",
        "-i",
        "200ms",
    ];
    let mut run = microtally(&args).unread_stdout().start();
    let mut stream = server.accept();
    let line: String = (0..20_000).map(|n| format!("word{n:05}\n")).collect();
    let lines_sent = Arc::new(AtomicU64::new(0));
    let enough = Arc::new(AtomicBool::new(false));
    let sender = {
        let (line, lines_sent, enough) = (line.clone(), lines_sent.clone(), enough.clone());
        thread::spawn(move || {
            while !enough.load(Ordering::Relaxed) {
                stream.write_all(line.as_bytes()).unwrap();
                lines_sent.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    // Until the sender stands still: then the program has stopped reading. (On a machine that
    // paused itself so long the test shows less, and still nothing wrong.)
    let mut before = u64::MAX;
    until("the sender stands still", || {
        let now = lines_sent.load(Ordering::Relaxed);
        let stands_still = now > 0 && now == before;
        before = now;
        thread::sleep(Duration::from_millis(400));
        stands_still
    });
    enough.store(true, Ordering::Relaxed);
    let mut stdout = String::new();
    let mut pipe = run.stdout_pipe.take().unwrap();
    pipe.read_to_string(&mut stdout).unwrap();
    sender.join().unwrap();
    run.wait().exits_with(0);
    let each = lines_sent.load(Ordering::Relaxed);
    let counts = counts(&stdout);
    assert!(
        counts.len() == 20_000 && counts.values().all(|&count| count == each),
        "{each} each"
    );
}

#[test]
fn case_12_a_sender_of_what_is_no_text_is_told_of_once_and_never_answered() {
    let (run, mut stream, server) = connected(&["-k", "line", "-o", "tsv", "-i", "20ms"]);
    for _ in 0..2 {
        stream
            .write_all(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00\nx\n")
            .unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"");
        stream = server.accept();
    }
    run.stdout
        .wait_until("both", |text| tsv_counts(text).get("x") == Some(&2));
    run.signal("INT");
    let ended = run.wait().exits_with(0);
    let sentence = "looks like a TLS handshake, not like lines of text";
    assert_eq!(ended.stderr.matches(sentence).count(), 1, "{ended:?}");
    assert!(
        ended.stderr.contains("microtally: tcp://127.0.0.1:"),
        "{ended:?}"
    );
}
