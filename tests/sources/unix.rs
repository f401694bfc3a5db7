//! Unix sockets, from either side.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use microtally::error::ErrorKind;
use microtally::sources::Reconnect;
use microtally::sources::{UnixClient, UnixListen};
use tempfile::TempDir;

use crate::util::{count, counts};

const SOON: Reconnect = Reconnect::After(Duration::from_millis(20));

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lines.sock");
    (dir, path)
}

#[test]
fn many_clients_of_a_socket_never_share_a_line() {
    let (_dir, path) = place();
    let run = count(UnixListen::bind(&path).unwrap());
    let mut clients: Vec<UnixStream> = (0..100)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    for part in ["one ", "line\nand anoth", "er\n"] {
        for stream in &mut clients {
            stream.write_all(part.as_bytes()).unwrap();
        }
    }
    run.wait_for("and another", 100);
    // One that does not end by itself sees our end when the run stops.
    let mut last = clients.pop().unwrap();
    drop(clients);
    let ends = std::thread::spawn(move || {
        assert_eq!(last.read(&mut [0; 8]).unwrap(), 0);
        last.write_all(b"bye").unwrap();
    });
    let (counted, notices) = run.stop();
    ends.join().unwrap();
    assert_eq!(
        counted,
        counts([("one line", 100), ("and another", 100), ("bye", 1)])
    );
    assert_eq!(notices, [""; 0]);
}

/// One client at a time, thousands of them: none is in the way of the next, whatever the limit is.
#[test]
fn clients_that_come_and_go_are_all_counted_and_nobody_is_refused() {
    const TIMES: u64 = 3000;
    let (_dir, path) = place();
    let run = count(UnixListen::bind(&path).unwrap().connections_max(1));
    for _ in 0..TIMES {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"one line\n").unwrap();
    }
    run.wait_for("one line", TIMES);
    assert_eq!(
        run.stop(),
        (counts([("one line", TIMES)]), Vec::<String>::new())
    );
}

#[test]
fn only_the_owner_may_connect_and_the_file_goes_with_the_source() {
    let (_dir, path) = place();
    let source = UnixListen::bind(&path).unwrap();
    let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // It is alive before it is started, too.
    let error = UnixListen::bind(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let name = path.to_str().unwrap();
    assert_eq!(
        error.to_string(),
        format!("cannot listen on unix-listen://{name}: address already in use")
    );
    assert!(path.exists());
    drop(source);
    assert!(!path.exists());
}

#[test]
fn a_socket_whose_owner_is_gone_is_replaced_and_nothing_else_is() {
    let (_dir, path) = place();
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "it was left behind");
    let run = count(UnixListen::bind(&path).unwrap());
    UnixStream::connect(&path)
        .unwrap()
        .write_all(b"hello\n")
        .unwrap();
    run.wait_for("hello", 1);
    // Somebody takes the place: that file is not ours to remove.
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    run.stop();
    assert!(path.exists());
    drop(other);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    let error = UnixListen::bind(&path).unwrap_err();
    assert!(
        error.to_string().ends_with(": the file is not a socket"),
        "{error}"
    );
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    let error = UnixListen::bind(path.join("below")).unwrap_err();
    assert!(error.to_string().ends_with(": not a directory"), "{error}");
    let error = UnixListen::bind("x".repeat(200)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}

/// Cases 37 and 38 for a Unix socket.
#[test]
fn case_38_a_client_connects_again_and_two_connections_never_share_a_line() {
    let (_dir, path) = place();
    let run = count(UnixClient::new(&path, SOON));
    let name = path.to_str().unwrap();
    run.wait_for_notice(&format!(
        "waiting for unix://{name}: no such file or directory"
    ));
    let listener = UnixListener::bind(&path).unwrap();
    let mut stream = listener.accept().unwrap().0;
    run.wait_for_notice("connected to unix://");
    stream.write_all(b"one\ntw").unwrap();
    drop(stream);
    let mut stream = listener.accept().unwrap().0;
    stream.write_all(b"o\n").unwrap();
    run.wait_for("o", 1);
    drop((stream, listener));
    run.wait_for_notice("the sender closed the connection");
    run.wait_for_notice("connection refused");
    // What the kernel holds at a stop is counted.
    fs::remove_file(&path).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let mut stream = listener.accept().unwrap().0;
    stream.write_all(&b"late\n".repeat(1000)).unwrap();
    run.wait_for("late", 1);
    stream.write_all(b"later").unwrap();
    let (counted, _) = run.stop();
    let expected = [
        ("one", 1),
        ("tw", 1),
        ("o", 1),
        ("late", 1000),
        ("later", 1),
    ];
    assert_eq!(counted, counts(expected));
}

#[test]
fn a_client_that_is_not_to_connect_again_ends_with_its_connection() {
    let (_dir, path) = place();
    let listener = UnixListener::bind(&path).unwrap();
    let run = count(UnixClient::new(&path, Reconnect::Never));
    listener
        .accept()
        .unwrap()
        .0
        .write_all(b"all of it")
        .unwrap();
    run.wait_for("all of it", 1);
    assert_eq!(run.stop().1, [""; 0]);
}

#[test]
fn case_21_a_silent_client_of_a_socket_is_closed() {
    let (_dir, path) = place();
    let source = UnixListen::bind(&path).unwrap();
    let run = count(source.idle_timeout(Duration::from_secs(2)));
    let mut silent = UnixStream::connect(&path).unwrap();
    silent.write_all(b"one\nbegun").unwrap();
    run.wait_for("one", 1);
    assert_eq!(silent.read(&mut [0; 8]).unwrap(), 0);
    run.wait_for("begun", 1);
    let name = path.to_str().unwrap();
    run.wait_for_notice(&format!(
        "unix-listen://{name}: nothing received for 2s; closed a client"
    ));
    run.stop();
}
