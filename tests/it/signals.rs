//! Signals: the first ends the run cleanly, the second at once.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::util::{
    ONE_BATCH, Run, Server, connected, connections, expected, hangups_are_ignored,
    interrupts_are_ignored, json_lines, microtally, naive, shell, until,
};

#[test]
fn a_signal_in_the_middle_of_a_batch_prints_everything_that_was_received() {
    for signal in ["INT", "TERM", "HUP"] {
        if signal == "HUP" && hangups_are_ignored() {
            continue;
        }
        let (run, mut stream, _server) = connected(&ONE_BATCH);
        stream.write_all(b"a b\na unended").unwrap();
        run.signal(signal);
        let ended = run.wait().exits_with(0);
        let counted = expected(&[("a", 2), ("b", 1), ("unended", 1)]);
        assert_eq!(ended.counts(), counted, "SIG{signal}");
        assert_eq!(ended.batches().len(), 1, "SIG{signal}");
        drop(stream);
    }
}

#[test]
fn a_signal_prints_everything_that_a_pipe_holds() {
    for signal in ["INT", "TERM"] {
        let program = microtally(&["words", "-", "-n", "all"]).args(&ONE_BATCH);
        let mut run = program.stdin(Stdio::piped()).start();
        run.wait_until_it_reads();
        let text = format!("{}unended", "in the pipe\n".repeat(4_000));
        let mut stdin = run.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        run.signal(signal);
        let ended = run.wait().quietly();
        assert_eq!(ended.counts(), naive(&text), "SIG{signal}");
        drop(stdin);
    }
}

/// Twenty thousand words: their counts are more than the pipe of standard output holds.
fn many_words() -> Vec<u8> {
    let line: String = (0..20_000).map(|n| format!("word{n:05}\n")).collect();
    line.into_bytes()
}

/// Calls `send`, which must not wait, until it has sent nothing for a while: the program has
/// stopped reading, for nobody reads its results. Gives the number of bytes sent.
fn send_until_it_stands_still(mut send: impl FnMut() -> std::io::Result<usize>) -> u64 {
    let (mut sent, mut last_at) = (0, Instant::now());
    while sent == 0 || last_at.elapsed() < Duration::from_millis(500) {
        match send() {
            Ok(count) => (sent, last_at) = (sent + count as u64, Instant::now()),
            Err(cause) if cause.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(2));
            }
            Err(cause) => panic!("{cause}"),
        }
    }
    sent
}

/// Signals, reads all results, and returns the number of bytes in them.
fn stop_and_sum(mut run: Run) -> u64 {
    run.signal("TERM");
    let mut stdout = String::new();
    let mut pipe = run.stdout_pipe.take().unwrap();
    pipe.read_to_string(&mut stdout).unwrap();
    run.wait().exits_with(0);
    let objects = json_lines(&stdout);
    objects.iter().map(|o| o["bytes"].as_u64().unwrap()).sum()
}

const UNREAD: [&str; 6] = ["-n", "all", "-o", "json", "-i", "200ms"];

#[test]
fn a_signal_while_reading_stands_still_counts_what_the_pipe_holds() {
    let (from_here, mut to_program) = std::io::pipe().unwrap();
    let program = microtally(&["words", "-"]).args(&UNREAD).stdin(from_here);
    let run = program.unread_stdout().start();
    run.wait_until_it_reads();
    let words = many_words();
    let (asked, sent) = (AtomicBool::new(true), AtomicU64::new(0));
    thread::scope(|scope| {
        // A pipe takes so few bytes as a whole or not at all.
        let writer = scope.spawn(|| {
            for piece in words.chunks(4_000).cycle() {
                if !asked.load(Ordering::Relaxed) {
                    break;
                }
                // The program may end before the last piece has found room.
                if to_program.write_all(piece).is_err() {
                    break;
                }
                sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
            to_program
        });
        let mut before = 0;
        let received = send_until_it_stands_still(|| {
            let now = sent.load(Ordering::Relaxed);
            let count = now - std::mem::replace(&mut before, now);
            match count {
                0 => Err(ErrorKind::WouldBlock.into()),
                count => Ok(count as usize),
            }
        });
        asked.store(false, Ordering::Relaxed);
        let counted = stop_and_sum(run);
        drop(writer.join().unwrap());
        // The piece that was being written may have found room at last.
        let all = received..=sent.load(Ordering::Relaxed);
        assert!(all.contains(&counted), "{counted} of {all:?}");
    });
}

#[test]
fn a_signal_while_reading_stands_still_counts_what_the_kernel_has_received() {
    let server = Server::open();
    let url = server.url();
    let program = microtally(&["words", &url]).args(&UNREAD);
    let run = program.unread_stdout().start();
    let mut stream = server.accept();
    run.wait_until_it_reads();
    stream.set_nonblocking(true).unwrap();
    let (words, mut at) = (many_words(), 0);
    let sent = send_until_it_stands_still(|| {
        let count = stream.write(&words[at..])?;
        at = (at + count) % words.len();
        Ok(count)
    });
    let received = sent - unacknowledged_bytes(&stream);
    let counted = stop_and_sum(run);
    let all = received..=sent;
    assert!(
        all.contains(&counted),
        "{counted} of {received}, sent {sent}"
    );
}

/// What the kernel of the other side does not have yet.
fn unacknowledged_bytes(stream: &TcpStream) -> u64 {
    let port = |address: std::io::Result<SocketAddr>| Some(address.unwrap().port());
    let rows = connections(port(stream.local_addr()), port(stream.peer_addr()));
    let queues = &rows.first().expect("the connection is there")[4];
    let (unsent, _) = queues.split_once(':').expect("two queues");
    u64::from_str_radix(unsent, 16).expect("a number in hexadecimal")
}

#[test]
fn a_signal_ends_a_run_whose_sender_never_pauses() {
    let (run, mut stream, _server) = connected(&["-i", "50ms"]);
    let sender = thread::spawn(move || {
        let piece = "never ending story\n".repeat(1_000);
        while stream.write_all(piece.as_bytes()).is_ok() {}
    });
    run.stdout.wait_for("('never', ");
    run.signal("TERM");
    let counts = run.wait().exits_with(0).counts();
    // Every line that was read was read as a whole, but perhaps the last.
    let (never, story) = (counts["'never'"], counts["'story'"]);
    assert!(never > 0 && never - story <= 1, "{counts:?}");
    sender.join().unwrap();
}

#[test]
fn case_60_a_signal_right_after_the_start_ends_the_run() {
    let program = microtally(&["words", "-"]).args(&ONE_BATCH);
    let run = program.stdin(Stdio::piped()).start();
    run.wait_until_it_reads();
    run.signal("INT");
    let ended = run.wait().quietly();
    assert_eq!(ended.batches().len(), 1);
}

/// A program that has more to print than fits into the pipe of its standard output, and prints it.
fn blocked() -> (Run, std::process::ChildStdout) {
    let words: String = (0..50_000).map(|n| format!("word{n} ")).collect();
    let program = microtally(&["words", "-", "-n", "all"]).args(&ONE_BATCH);
    let mut run = program.stdin_file(words.as_bytes()).unread_stdout().start();
    run.wait_until_it_reads();
    // The first byte is there, so the writing is under way; it cannot end, for a pipe holds far
    // less.
    let mut pipe = run.stdout_pipe.take().unwrap();
    pipe.read_exact(&mut [0]).unwrap();
    (run, pipe)
}

#[test]
fn case_61_a_second_signal_ends_the_run_at_once_though_nobody_reads_its_results() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let (mut run, pipe) = blocked();
        run.signal(signal);
        thread::sleep(Duration::from_millis(300));
        assert!(!run.has_ended(), "the first SIG{signal} lost results");
        let start = Instant::now();
        // Again and again: two that come before the program has looked are one.
        until("the second signal ends the run", || {
            run.signal(signal);
            thread::sleep(Duration::from_millis(20));
            run.has_ended()
        });
        run.wait().exits_with(code);
        assert!(start.elapsed() < Duration::from_secs(10), "SIG{signal}");
        drop(pipe);
    }
}

#[test]
fn case_57_after_one_signal_a_blocked_run_ends_as_soon_as_it_is_read() {
    let (run, mut pipe) = blocked();
    run.signal("TERM");
    let mut stdout = String::from("-");
    pipe.read_to_string(&mut stdout).unwrap();
    run.wait().quietly();
    assert_eq!(crate::util::counts(&stdout).len(), 50_001);
}

#[test]
fn case_62_a_hangup_that_was_ignored_at_the_start_stays_ignored() {
    let script = "trap '' HUP; exec \"$0\" words - -i 20ms";
    let mut run = shell(script).stdin(Stdio::piped()).start();
    run.wait_until_it_reads();
    run.signal("HUP");
    let lines = run.stdout.text().lines().count();
    run.stdout.wait_for_lines(lines + 20);
    run.stdin
        .as_mut()
        .unwrap()
        .write_all(b"still here\n")
        .unwrap();
    run.stdout.wait_for("('still', 1)");
    run.signal("TERM");
    run.wait().quietly();
}

/// Memory for stacks that no system has: no thread can be started, and `gen` needs none until
/// somebody connects.
#[test]
fn a_signal_ends_the_program_where_no_thread_can_wait_for_it() {
    for signal in ["INT", "TERM"] {
        if signal == "INT" && interrupts_are_ignored() {
            println!("SIGINT is ignored here: only SIGTERM is tried");
            continue;
        }
        let program = microtally(&["gen", "--listen", "127.0.0.1:0"]);
        let run = program.env("RUST_MIN_STACK", "70368744177664").start();
        run.stderr.wait_for("listening on ");
        run.signal(signal);
        let ended = run.wait();
        // Killed by the signal's own action.
        assert_eq!(ended.code, None, "SIG{signal}: {ended:?}");
        ended.says(&[
            "microtally: signals: no thread can wait for them: ",
            "Ctrl-C and SIGTERM end the run at once",
        ]);
    }
}
