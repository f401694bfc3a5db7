//! The line that says how far a long count has got.

use std::fmt::Write;
use std::fs;
use std::thread;
use std::time::Duration;

use crate::terminal::Terminal;
use crate::util::{PROGRAM, until};

/// The bytes that a process has read, from its file `io` in `/proc`.
fn bytes_read(io: &str) -> u64 {
    let text = fs::read_to_string(io).unwrap_or_default();
    let read = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    read.map_or(0, |bytes| bytes.parse().expect("it is a number"))
}

/// Puts a file of 32 MiB where the terminal's shell is. Returns the command that counts it so often
/// that it takes far longer than the test.
fn long_count(terminal: &Terminal) -> String {
    let mut text = String::new();
    for number in 0..(32 << 20) / 64 {
        writeln!(
            text,
            "a line that is one of a thousand and is padded to 64 bytes {:04}",
            number % 1000
        )
        .expect("writing to a string succeeds");
    }
    assert_eq!(text.len() % 64, 0, "a line has 64 bytes");
    fs::write(terminal.path("long"), text).expect("the fresh directory can be written to");
    terminal
        .run("ulimit -c 0; i=0; while [ $i -lt 4000 ]; do set -- \"$@\" long; i=$((i+1)); done");
    format!("{PROGRAM} count -n 1 -j 1 -k 're:(one) of.* [0-9]+$' \"$@\"")
}

#[test]
fn a_long_count_says_how_far_it_is_and_takes_it_back_at_the_end() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    let command = long_count(&terminal);
    terminal.run("stty -g > before");
    terminal.run(&format!("{command}; echo left with $?"));
    let is_line = |line: &str| {
        line.contains(" % · ")
            && line.contains(" GB/s · ")
            && line.contains(" left · ")
            && line.ends_with(" of 134.218 GB")
    };
    let screen = terminal.wait("the line", |screen| screen.lines().any(is_line));
    let first = screen.lines().find(|line| is_line(line)).map(str::to_owned);
    let screen = terminal.wait("a later line", |screen| {
        let line = screen.lines().find(|line| is_line(line));
        line.is_some() && line.map(str::to_owned) != first
    });
    // It is one line, again and again.
    assert_eq!(screen.matches(" left · ").count(), 1, "{screen}");
    terminal.press(&["C-c"]);
    let text = terminal.is_as_before(0);
    assert!(
        text.contains(" one\n") && text.contains(" lines, 1 key\n"),
        "{text}"
    );
    assert!(
        !text.contains(" left · ") && !text.contains(" % · "),
        "{text}"
    );
}

#[test]
fn nothing_of_it_goes_into_a_pipe_or_a_file() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    let command = long_count(&terminal);
    terminal.run("stty -g > before");
    let start = "sh -c 'echo $$ > pid; exec \"$0\" \"$@\"'";
    terminal.run(&format!(
        "{start} {command} 2> said | cat; echo left with $?"
    ));
    // On a busy machine it may be long before it reads. Two of the files are read once the first
    // one is counted.
    let io = format!("/proc/{}/io", terminal.pid());
    until("the count reads", || bytes_read(&io) > 64 << 20);
    // Longer than it takes for the line to come.
    thread::sleep(Duration::from_secs(3));
    let screen = terminal.screen();
    assert!(
        !screen.contains("GB/s") && !screen.contains("left with 0"),
        "{screen}"
    );
    terminal.signal("INT");
    let text = terminal.is_as_before(0);
    // The terminal makes blanks of tabs.
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(
        words
            .windows(2)
            .any(|two| two[0] == "one" && two[1].parse::<u64>().is_ok()),
        "{text}"
    );
    let said = fs::read(terminal.path("said")).expect("the shell made it");
    assert_eq!(String::from_utf8_lossy(&said), "");
}

#[test]
fn a_count_on_a_terminal_ends_with_its_lines_and_keys_and_figures_come_with_stats() {
    let Some(terminal) = Terminal::open(80, 24) else {
        return;
    };
    terminal.run("stty -g > before");
    terminal.run(&format!(
        "printf 'a\\nb\\na\\n' | {PROGRAM} count -; echo left with $?"
    ));
    let text = terminal.is_as_before(0);
    assert!(text.contains("\n3 lines, 2 keys\n"), "{text}");
    for jargon in ["batch", "GB/s", "late", "allocations", "CPU"] {
        assert!(!text.contains(jargon), "{jargon}: {text}");
    }
    terminal.run("clear");
    // One batch, also where a batch interval of five seconds would end just now.
    terminal.run(&format!(
        "echo a b | {PROGRAM} words -i 8760h -; echo done with $?"
    ));
    terminal.wait("the words", |screen| {
        screen.contains("\n1 line, 1 batch\ndone with 0\n")
    });
    terminal.run(&format!(
        "echo a | {PROGRAM} count --stats -; echo gone with $?"
    ));
    let text = terminal.wait("the end", |screen| screen.contains("gone with 0\n"));
    assert!(text.contains("steady-state allocations"), "{text}");
}
