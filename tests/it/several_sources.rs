//! Several sources at once: lines of one never mix with those of another.

use std::io::Write;
use std::process::Stdio;

use crate::util::{Port, Server, microtally, plain, uniq};

#[test]
fn a_file_standard_input_and_a_connection_are_counted_together() {
    for command in ["count", "words", "top"] {
        let server = Server::open();
        let url = server.url();
        let args = [
            command,
            "-k",
            "line",
            "-o",
            "tsv",
            "-n",
            "all",
            "--reconnect",
            "never",
        ];
        let interval: &[&str] = if command == "count" {
            &[]
        } else {
            &["-i", "8760h"]
        };
        let text = "of the file\n".repeat(20_000) + "unended";
        let program = microtally(&args).args(interval).args(&["file", "-", &url]);
        let mut run = program.file("file", &text).stdin(Stdio::piped()).start();
        let (mut stream, mut stdin) = (server.accept(), run.stdin.take().unwrap());
        for piece in ["torn ", "in ", "pieces\n"].repeat(200) {
            stream.write_all(format!("net {piece}").as_bytes()).unwrap();
            stdin.write_all(format!("std {piece}").as_bytes()).unwrap();
        }
        stream.write_all(b"unended").unwrap();
        drop(stream);
        stdin.write_all(b"unended").unwrap();
        drop(stdin);
        let torn = "net torn net in net pieces\nstd torn std in std pieces\n".repeat(200);
        let all = format!("{text}\n{torn}unended\nunended\n");
        assert_eq!(run.wait().quietly().tsv_counts(), uniq(&all), "{command}");
    }
}

#[test]
fn one_that_is_lost_is_told_and_the_others_go_on() {
    let url = Port::closed().url();
    let args = [
        "words",
        "-k",
        "line",
        "-o",
        "tsv",
        "-i",
        "20ms",
        "--reconnect",
        "never",
        &url,
        "-",
    ];
    let mut run = microtally(&args).stdin(Stdio::piped()).start();
    run.stderr.wait_for(&format!(
        "microtally: {url}: lost; the other sources continue: "
    ));
    let mut stdin = run.stdin.take().unwrap();
    stdin.write_all(b"x\n").unwrap();
    run.wait_for_counts(&[("x", 1)]);
    drop(stdin);
    let ended = run.wait().exits_with(3);
    // Why it was is said once.
    let ended = ended.says(&[&format!("microtally: {url} was lost\n")]);
    let why = format!("cannot connect to {url}: ");
    assert_eq!(ended.stderr.matches(&why).count(), 1, "{ended:?}");
    assert_eq!(ended.tsv_counts(), plain(&[("x", 1)]));
}

#[test]
fn one_that_cannot_be_opened_ends_all_before_they_begin() {
    let program = microtally(&["words", "-", "tcp-listen://127.0.0.1:0", "missing"]);
    let ended = program.run().exits_with(3);
    let ended = ended.says(&["cannot read \"missing\""]);
    assert_eq!(ended.stdout, "");
}

/// The first one's reason is said when it happens. The last one is lost when nothing goes on.
#[test]
fn where_all_are_lost_each_reason_is_said_once() {
    let (first, last) = (Port::closed().url(), Server::open());
    let args = ["count", "--reconnect", "never", &first, &last.url()];
    let run = microtally(&args).start();
    let stream = last.accept();
    run.stderr.wait_for(&format!("{first}: lost"));
    // A reset, and nobody to connect to.
    let socket = socket2::SockRef::from(&stream);
    socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(stream);
    let ended = run.wait().exits_with(3);
    for url in [&first, &last.url()] {
        assert!(ended.stderr.contains(url.as_str()), "{ended:?}");
    }
    let why = format!("cannot connect to {first}: ");
    assert_eq!(ended.stderr.matches(&why).count(), 1, "{ended:?}");
}
