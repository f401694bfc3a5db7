//! Clients of a Unix socket, and the file it is.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use crate::util::{Program, Run, microtally, tsv_counts, uniq, until};

fn program() -> Program {
    let program = microtally(&[
        "words", "-k", "line", "-o", "tsv", "-n", "all", "-i", "20ms",
    ]);
    program.args(&["unix-listen://lines"])
}

/// Starts it and waits until it listens.
fn listening(program: Program) -> Run {
    let run = program.start();
    let path = run.path("lines");
    until("it listens", || UnixStream::connect(&path).is_ok());
    run.wait_until_it_reads();
    run
}

#[test]
fn clients_lines_never_mix_and_the_socket_is_removed_at_the_end() {
    let run = listening(program());
    let path = run.path("lines");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut clients: Vec<_> = (0..20)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    for part in ["from ", "client ", "number "] {
        for client in &mut clients {
            client.write_all(part.as_bytes()).unwrap();
        }
    }
    for (number, client) in clients.iter_mut().enumerate() {
        // The even ones leave the end of their line to that of the connection.
        let end = if number % 2 == 0 { "" } else { "\n" };
        write!(client, "{number}{end}").unwrap();
    }
    drop(clients);
    let all: String = (0..20)
        .map(|n| format!("from client number {n}\n"))
        .collect();
    run.stdout
        .wait_until("every line", |text| tsv_counts(text).len() >= 20);
    // One is still connected: it is told by an end, and waited for.
    let mut last = UnixStream::connect(&path).unwrap();
    run.signal("TERM");
    let mut rest = Vec::new();
    last.read_to_end(&mut rest).unwrap();
    drop(last);
    until("the socket is removed", || !path.exists());
    let ended = run.wait().exits_with(0);
    assert_eq!(
        ended.stderr,
        "microtally: listening on unix-listen://lines\n"
    );
    assert_eq!(ended.tsv_counts(), uniq(&all));
}

#[test]
fn a_socket_that_is_in_use_is_refused_and_one_whose_owner_is_gone_is_replaced() {
    let program = program();
    let path = program.path("lines");
    let alive = UnixListener::bind(&path).unwrap();
    let url = format!("unix-listen://{}", path.display());
    let refused = || microtally(&["count", &url]).run().exits_with(2);
    refused().says(&["cannot listen on unix-listen://", "address already in use"]);
    drop(alive);
    assert!(path.exists());
    let run = listening(program);
    UnixStream::connect(&path)
        .unwrap()
        .write_all(b"x\n")
        .unwrap();
    run.wait_for_counts(&[("x", 1)]);
    run.signal("INT");
    run.wait().exits_with(0);
}

#[test]
fn something_else_of_that_name_is_left_alone() {
    let program = program().file("lines", "precious");
    let path = program.path("lines");
    let run = program.start();
    run.stderr.wait_for("the file is not a socket");
    assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");
    run.wait().exits_with(2);
}
