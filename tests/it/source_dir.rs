//! `dir://`: files that are put into a directory.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::util::{microtally, plain};

#[test]
fn files_that_are_moved_in_are_counted_once() {
    let program = microtally(&["words", "-k", "line", "-o", "tsv", "-i", "100ms"]);
    // What is there already belongs to nobody's batch.
    let program = program.args(&["dir://in"]).file("in/old", "old\n");
    let old = program.path("in/old");
    let file = fs::File::options().append(true).open(old).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let run = program.start();
    run.wait_until_it_reads();
    for (name, text) in [("a", "x\ny"), ("b", "y\n")] {
        fs::write(run.path("being-made"), text).unwrap();
        fs::rename(run.path("being-made"), run.path("in").join(name)).unwrap();
    }
    run.wait_for_counts(&[("x", 1), ("y", 2)]);
    // Who is still writing is left in peace: a name that begins with a dot is nobody's.
    fs::write(run.path("in/.hidden"), "hidden\n").unwrap();
    fs::write(run.path("being-made"), "z").unwrap();
    fs::rename(run.path("being-made"), run.path("in/c")).unwrap();
    run.wait_for_counts(&[("x", 1), ("y", 2), ("z", 1)]);
    run.signal("INT");
    let ended = run.wait().exits_with(0);
    assert_eq!(ended.tsv_counts(), plain(&[("x", 1), ("y", 2), ("z", 1)]));
    // Until then nothing need come, and nobody has to guess why.
    assert_eq!(
        ended.stderr,
        "microtally: waiting for files in \"in\"\n            new files are counted from now on; a signal \
         ends the program\n"
    );
}

#[test]
fn a_compressed_file_is_reported_and_not_decompressed() {
    let program = microtally(&["words", "-k", "line", "-o", "tsv", "-i", "100ms"]);
    let run = program.args(&["dir://in"]).file("in/.keep", "").start();
    run.wait_until_it_reads();
    fs::write(run.path("being-made"), b"BZh91AY&SY and so on\n").unwrap();
    fs::rename(run.path("being-made"), run.path("in/a.bz2")).unwrap();
    run.stderr
        .wait_for("\"in/a.bz2\": looks like bzip2 data, not like lines of text; its bytes are counted as they are\n");
    run.stderr
        .wait_for("            files are not decoded with -F or dir://; name the file without them to count its content");
    run.wait_for_counts(&[("BZh91AY&SY and so on", 1)]);
    run.signal("INT");
    run.wait().exits_with(0);
}

#[test]
fn a_directory_that_is_not_there_is_told_and_waited_for() {
    let program = microtally(&["words", "-k", "line", "-o", "tsv", "-i", "100ms"]);
    let run = program.args(&["dir://later"]).start();
    run.stderr.wait_for("no such directory");
    fs::create_dir(run.path("later")).unwrap();
    run.stderr.wait_for("microtally: waiting for files in ");
    fs::write(run.path("being-made"), "x\n").unwrap();
    fs::rename(run.path("being-made"), run.path("later/a")).unwrap();
    run.wait_for_counts(&[("x", 1)]);
    run.wait_until_it_reads();
    run.signal("TERM");
    run.wait().exits_with(0);
}

/// What `count` prints comes with the signal, and so does its one look at what is in the directory.
#[test]
fn counting_tells_of_a_directory_that_is_not_there_at_once_and_counts_it_when_it_is() {
    let run = microtally(&["count", "dir://later"]).start();
    run.stderr.wait_for(
        "microtally: cannot list files in \"later\": no such directory\n            the program \
         looks again at the end of each batch",
    );
    run.wait_until_it_reads();
    fs::create_dir(run.path("later")).unwrap();
    fs::write(run.path("being-made"), "x\n").unwrap();
    fs::rename(run.path("being-made"), run.path("later/a")).unwrap();
    // The file is as old as the clock's step, and the batch reaches up to now.
    thread::sleep(Duration::from_millis(50));
    run.signal("INT");
    let ended = run.wait().exits_with(0);
    assert_eq!(ended.tsv_counts(), plain(&[("x", 1)]));
    assert_eq!(ended.stderr.matches("cannot list").count(), 1, "{ended:?}");
}

/// Each command, with standard input and a client beside it; the end of those is not that of the
/// directory.
#[test]
fn it_is_read_together_with_other_sources() {
    for command in ["words", "top", "count"] {
        let interval: &[&str] = match command {
            "count" => &[],
            _ => &["-i", "100ms"],
        };
        let program = microtally(&[command, "-k", "line", "-o", "tsv"]);
        let program = program
            .args(interval)
            .args(&["dir://in", "-", "tcp-listen://127.0.0.1:0", "dir://there"])
            .file("in/.keep", "")
            .file("there/.keep", "");
        let mut run = program.stdin(Stdio::piped()).start();
        let address = run.listening_on();
        run.wait_until_it_reads();
        let mut stdin = run.stdin.take().unwrap();
        stdin.write_all(b"x\nunended").unwrap();
        drop(stdin);
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"x\nof the client").unwrap();
        for directory in ["in", "there"] {
            fs::write(run.path("being-made"), "x\nof the file").unwrap();
            fs::rename(run.path("being-made"), run.path(directory).join("a")).unwrap();
        }
        if command != "count" {
            run.stdout
                .wait_until("the files", |text| text.contains("of the file"));
        }
        drop(client);
        // The files are as old as the clock's step, and the last batch reaches up to now.
        thread::sleep(Duration::from_millis(50));
        run.signal("INT");
        let counted = run.wait().exits_with(0).tsv_counts();
        if command == "top" {
            // Its batches are sums so far.
            assert!(counted.contains_key("of the file") && counted.contains_key("of the client"));
            continue;
        }
        let expected = [
            ("x", 4),
            ("unended", 1),
            ("of the client", 1),
            ("of the file", 2),
        ];
        assert_eq!(counted, plain(&expected), "{command}");
    }
}

/// The rule stays Spark's, and what it costs is not a secret.
#[test]
fn a_file_that_grows_or_is_renamed_after_it_was_counted_is_told() {
    let program = microtally(&["words", "-k", "line", "-o", "tsv", "-i", "100ms"]);
    let run = program.args(&["dir://in"]).file("in/.keep", "").start();
    run.wait_until_it_reads();
    fs::write(run.path("being-made"), "x\n").unwrap();
    fs::rename(run.path("being-made"), run.path("in/a")).unwrap();
    run.wait_for_counts(&[("x", 1)]);
    let mut file = fs::File::options()
        .append(true)
        .open(run.path("in/a"))
        .unwrap();
    file.write_all(b"lost\n").unwrap();
    run.stderr
        .wait_for("\"in/a\" grew after being counted; 5 bytes not counted");
    fs::rename(run.path("in/a"), run.path("in/b")).unwrap();
    run.stderr
        .wait_for("\"in/b\", counted before as \"in/a\", counted again");
    run.wait_for_counts(&[("x", 2), ("lost", 1)]);
    run.signal("INT");
    run.wait().exits_with(0);
}
