//! `gen` and `demo`: load that can be repeated, and the first thing a newcomer sees.

use std::io::Read;
use std::net::TcpStream;

use crate::util::{Run, batches, counts, microtally, naive, shell};

/// The address that `gen --listen` prints.
fn address_of(run: &Run) -> String {
    let text = run.stderr.wait_for_lines(1);
    let line = text.lines().next().expect("it was waited for");
    let address = line.strip_prefix("microtally: listening on ");
    address.unwrap_or_else(|| panic!("{line}")).to_owned()
}

#[test]
fn demo_shows_batches_and_a_line_of_figures() {
    let ended = microtally(&["demo", "-n", "3", "--batches", "3", "-i", "200ms"]).run();
    let ended = ended.quietly();
    let (results, summary) = ended.stdout.rsplit_once("\n\n").expect("a line at the end");
    for part in [
        "3 batches",
        "records",
        "tokens",
        "bytes",
        " GB/s",
        "steady-state allocations: ",
    ] {
        assert!(summary.contains(part), "no {part:?} in {summary}");
    }
    let batches = batches(&format!("{results}\n\n"));
    assert_eq!(batches.len(), 3);
    assert!(batches.iter().all(|batch| batch.lines.len() <= 4));
    // English has one most frequent word, however far the machine came.
    let mut first = batches.iter().filter_map(|batch| batch.lines.first());
    assert!(
        first.any(|line| line.starts_with("('the', ")),
        "{batches:?}"
    );
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_exactly_as_many_as_asked_for() {
    let text = |seed: &str, size: &str| {
        let ended = microtally(&["gen", "--total", size, "--seed", seed]).run();
        ended.quietly().stdout
    };
    let one = text("7", "1MB");
    assert_eq!(one.len(), 1_000_000);
    assert!(one == text("7", "1MB"), "the same seed gave different text");
    let other = text("8", "1MB");
    assert!(other.len() == 1_000_000 && other != one);
    assert_eq!(text("7", "1000"), one[..1000]);
    assert!(one.lines().count() > 1000 && one.is_ascii());
}

#[test]
fn every_client_gets_the_same_bytes_from_the_first_one_on() {
    let args = [
        "gen",
        "--listen",
        "127.0.0.1:0",
        "--total",
        "300KB",
        "--seed",
        "7",
    ];
    let run = microtally(&args).start();
    let address = address_of(&run);
    let mut clients = [0, 1].map(|_| TcpStream::connect(&address).unwrap());
    let received = clients.each_mut().map(|client| {
        client
            .set_read_timeout(Some(crate::util::PATIENCE))
            .unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        text
    });
    let direct = microtally(&["gen", "--total", "300KB", "--seed", "7"])
        .run()
        .stdout;
    assert_eq!(direct.len(), 300_000);
    assert!(received[0] == direct && received[1] == direct);
    run.wait_until_signals_are_caught();
    run.signal("TERM");
    let ended = run.wait().exits_with(0);
    assert_eq!(ended.stdout, "");
}

#[test]
fn a_rate_is_kept() {
    let start = std::time::Instant::now();
    let ended = microtally(&["gen", "--total", "50KB", "--rate", "100KB/s"]).run();
    assert_eq!(ended.quietly().stdout.len(), 50_000);
    // The last piece goes out when the time for all before it has passed. Slower is the machine's
    // right.
    assert!(start.elapsed().as_millis() >= 450, "{:?}", start.elapsed());
}

#[test]
fn generated_words_through_a_pipe_are_counted_as_the_obvious_program_counts_them() {
    let script = "\"$0\" gen --total 2MB --seed 3 | \"$0\" words - -n all -i 200ms";
    let ended = shell(script).run().quietly();
    let text = microtally(&["gen", "--total", "2MB", "--seed", "3"])
        .run()
        .stdout;
    assert_eq!(text.len(), 2_000_000);
    assert!(ended.counts() == naive(&text), "counts differ");
}

#[test]
fn generated_words_over_tcp_are_counted_as_the_obvious_program_counts_them() {
    let args = [
        "gen",
        "--listen",
        "127.0.0.1:0",
        "--total",
        "2MB",
        "--seed",
        "4",
    ];
    let server = microtally(&args).start();
    let address = address_of(&server);
    let args = [
        "words",
        &address,
        "--reconnect",
        "never",
        "-n",
        "all",
        "-i",
        "100ms",
        "-j",
        "3",
    ];
    let ended = microtally(&args).run().exits_with(0);
    let text = microtally(&["gen", "--total", "2MB", "--seed", "4"])
        .run()
        .stdout;
    assert!(counts(&ended.stdout) == naive(&text), "counts differ");
}
