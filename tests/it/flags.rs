//! What is refused before anything starts, and what help says.

use crate::util::{microtally, shell};

#[test]
fn wrong_flags_exit_2_and_name_option_value_and_what_is_allowed() {
    for (args, parts) in [
        (
            &["words", "-i", "0s"][..],
            &["--interval", "'0s'", "1ms"][..],
        ),
        (&["words", "-i", "5"], &["--interval", "'5'", "5s or 5ms"]),
        (&["words", "--top", "x"], &["--top", "'x'", "or all"]),
        (&["count", "-n", "-1"], &["--top", "'-1'", "or all"]),
        (&["words", "-j", "-2"], &["--workers", "'-2'", "1 to 256"]),
        (
            &["top", "--batches", "-1"],
            &["--batches", "'-1'", "from 1"],
        ),
        (
            &["words", "--batches", "0"],
            &["--batches", "'0'", "from 1"],
        ),
        (
            &["words", "-j", "0"],
            &["--workers", "'0'", "1 to 256", "auto"],
        ),
        (&["words", "-j", "257"], &["--workers", "'257'", "1 to 256"]),
        (
            &["words", "-o", "xml"],
            &["--format", "'xml'", "pyspark, table, tsv, json"],
        ),
        (
            &["words", "--split", "ab"],
            &["--split", "'ab'", "exactly one"],
        ),
        (
            &["words", "--split", ",", "--split-whitespace"],
            &["--split", "--split-whitespace", "cannot be used"],
        ),
        (
            &["words", "--reconnect", "0s"],
            &["--reconnect", "'0s'", "1ms", "never"],
        ),
        (
            &["words", "--max-record", "1"],
            &["--max-record", "'1'", "1KiB to 1GiB"],
        ),
        (
            &["words", "tcp://localhost"],
            &["SOURCE", "'tcp://localhost'", "HOST:PORT"],
        ),
        (
            &["words", "tcp://h:65536"],
            &["SOURCE", "'tcp://h:65536'", "1 to 65535"],
        ),
        (
            &["words", "kafka://h/t"],
            &["SOURCE", "kafka://", "tcp://HOST:PORT"],
        ),
        (
            &["words", "--intervall", "1s"],
            &["--intervall", "--interval"],
        ),
        (&["word", "-"], &["'word'", "words"]),
        (&["gen", "--total", "0"], &["--total", "'0'", "1B or more"]),
        (&["gen", "--rate", "fast"], &["--rate", "'fast'", "max"]),
        (&["gen", "--zipf", "9"], &["--zipf", "'9'", "0 to 4"]),
        (
            &["gen", "--listen", "127.0.0.1:99999"],
            &["--listen", "99999", "HOST:PORT"],
        ),
        (
            &["demo", "-i", "1us"],
            &["--interval", "'1us'", "ms, s, m, h"],
        ),
        (
            &["words", "--kernel", "abacus"],
            &["kernel", "\"abacus\"", "can run: scalar, portable"],
        ),
        (&["demo", "--kernel", "abacus"], &["kernel", "\"abacus\""]),
        (&["bench", "--kernel", "abacus"], &["kernel", "\"abacus\""]),
        (
            &["bench", "--only", "english,englisch"],
            &[
                "--only",
                "\"englisch\"",
                "choose from king-james, gcide, english, ",
            ],
        ),
        (
            &["bench", "--rounds", "0"],
            &["--rounds", "'0'", "1 to 1000"],
        ),
        (
            &["bench", "--size", "1"],
            &["--size", "1B is outside", "64KiB to 512MiB"],
        ),
        (&[], &["Usage", "words", "demo", "gen", "bench"]),
    ] {
        let ended = microtally(args).run().exits_with(2).says(parts);
        assert_eq!(ended.stdout, "", "{args:?}");
    }
}

fn fits_a_screen(help: &str) {
    let is_narrow = help.lines().all(|line| line.chars().count() <= 80);
    assert!(
        help.lines().count() <= 24 && is_narrow,
        "more than one screen:\n{help}"
    );
}

#[test]
fn short_help_shows_the_defaults_of_its_command_and_of_no_other() {
    for (command, option, default) in [
        ("words", "--top", "[default: 10]"),
        ("top", "--top", "[default: 10]"),
        ("count", "--top", "[default: all]"),
        ("words", "--interval", "[default: 5s]"),
        ("top", "--interval", "[default: 1s]"),
    ] {
        let help = microtally(&[command, "-h"]).run().quietly().stdout;
        let line = help.lines().find(|line| line.contains(option));
        let line = line.unwrap_or_else(|| panic!("no {option} in {help}"));
        assert!(line.ends_with(default), "{line}");
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    let version = microtally(&["--version"]).run().quietly();
    assert!(version.stdout.starts_with("microtally "), "{version:?}");
    for args in [&["-h"][..], &["completions", "-h"], &["man", "-h"]] {
        fits_a_screen(&microtally(args).run().quietly().stdout);
    }
    for command in ["words", "top", "count", "demo", "gen", "bench"] {
        let short = microtally(&[command, "-h"]).run().quietly().stdout;
        fits_a_screen(&short);
        let long = microtally(&[command, "--help"]).run().quietly().stdout;
        assert!(long.contains("Examples:"), "{long}");
    }
}

#[test]
fn a_first_guess_is_answered_with_what_to_write() {
    for (args, parts) in [
        (
            &["count", "."][..],
            &["Is a directory", "(DIR/*)", "dir:///PATH"][..],
        ),
        (&["top", "9999"], &["No such file", "localhost:9999"]),
        (
            &["count", "-i", "5s"],
            &["'-i'", "did you mean top or words"],
        ),
        (
            &["count", "--window=5s"],
            &["'--window'", "did you mean top or words"],
        ),
    ] {
        let ended = microtally(args).run();
        assert_ne!(ended.code, Some(0), "{args:?}: {ended:?}");
        ended.says(parts);
    }
}

#[test]
fn colors_are_refused_where_there_are_none() {
    for command in ["count", "words"] {
        let ended = microtally(&[command, "--color", "always"]).run_with(b"a\n");
        ended.exits_with(2).says(&[&format!(
            "microtally: --color always: {command} prints without colors; only the live view of top has them"
        )]);
        for when in ["auto", "never"] {
            let program = microtally(&[command, "--color", when, "-n", "1"]);
            program.run_with(b"a\n").quietly();
        }
    }
}

#[test]
fn a_pattern_may_begin_with_a_dash() {
    for (option, kept) in [("-g", "-x"), ("--grep", "-x"), ("-G", "a"), ("--not", "a")] {
        let program = microtally(&["count", option, "-x", "-"]);
        let ended = program.run_with(b"-x\na\n").quietly();
        assert!(
            ended.stdout.ends_with(&format!("\t{kept}\t1\n")),
            "{ended:?}"
        );
        assert_eq!(ended.stdout.lines().count(), 1, "{ended:?}");
    }
}

#[test]
fn case_40_an_address_that_cannot_be_listened_on_is_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    microtally(&["gen", "--listen", &address])
        .run()
        .exits_with(2)
        .says(&["cannot listen on", &address, "--listen"]);
}

#[test]
fn an_argument_that_is_not_utf_8_is_refused_with_its_option() {
    for (option, long) in [
        ("-g", "--grep <REGEX>"),
        ("-G", "--not <REGEX>"),
        ("-k", "--key <KEY>"),
        ("-v", "--value <KEY>"),
    ] {
        let script = format!("exec \"$0\" count {option} \"$(printf 're:\\377')\"");
        let ended = shell(&script).run().exits_with(2);
        ended.says(&[&format!("for '{long}': it is not UTF-8")]);
    }
    // What is told to be written does match such a byte.
    let program = microtally(&["count", "-g", "(?-u:\\xFF)"]);
    let ended = program.run_with(b"a\xffb\na\n").quietly();
    assert_eq!(ended.stdout.lines().count(), 1, "{ended:?}");
}
