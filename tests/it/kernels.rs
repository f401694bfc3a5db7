//! `--kernel` and its environment variable: the same output, whichever is taken.

use microtally::Config;

use crate::util::{ONE_BATCH, microtally};

/// More than one chunk and more than one vector of everything that is treated in a way of its own.
fn input() -> Vec<u8> {
    let mut input = Vec::new();
    for number in 0..3_000 {
        let line = format!("to be  or not {number}\tto be, that is number {number:020}\r\n\n");
        input.extend_from_slice(line.as_bytes());
        if number % 100 == 0 {
            input.extend_from_slice(b"\0 \xff\xfe \r a\0\n");
        }
    }
    input
}

#[test]
fn every_kernel_gives_the_same_output() {
    let input = input();
    for split in [&["--split", " "][..], &["--split-whitespace"]] {
        let output = |kernel: Option<&str>, variable: Option<&str>| {
            let mut program = microtally(&["words", "-", "-n", "all", "-o", "tsv"]);
            program = program.args(&ONE_BATCH).args(split);
            if let Some(name) = kernel {
                program = program.args(&["--kernel", name]);
            }
            if let Some(name) = variable {
                program = program.env("MICROTALLY_KERNEL", name);
            }
            let ended = program.run_with(&input).quietly();
            // The first field is the time of the batch.
            let fields = ended.stdout.lines().map(|line| line.split_once('\t'));
            let counts = fields.map(|fields| fields.expect("three fields").1.to_owned());
            counts.collect::<Vec<_>>()
        };
        let fastest = output(None, None);
        assert!(fastest.len() > 3_000, "{} keys", fastest.len());
        for name in Config::kernels() {
            assert!(output(Some(name), None) == fastest, "--kernel {name}");
            assert!(output(None, Some(name)) == fastest, "the variable, {name}");
        }
        // What is written on the command line wins.
        assert!(output(Some("scalar"), Some("abacus")) == fastest);
    }
}

#[test]
fn a_kernel_that_is_not_there_is_refused_with_those_that_are() {
    let names = Config::kernels().collect::<Vec<_>>().join(", ");
    let ended = microtally(&["words", "-"]).env("MICROTALLY_KERNEL", "abacus");
    let ended = ended.run().exits_with(2).says(&["\"abacus\"", &names]);
    assert_eq!(ended.stdout, "");
}
