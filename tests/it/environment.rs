//! Environment variables that stand for options; the options have the last word.

use crate::util::{Ended, microtally};

fn count(variable: (&str, &str), args: &[&str]) -> Ended {
    let program = microtally(&["count"]).args(args);
    program.env(variable.0, variable.1).run_with(b"x\n")
}

#[test]
fn the_memory_limit_may_be_set_for_every_run() {
    let name = "MICROTALLY_MAX_MEMORY";
    count((name, "256MiB"), &[]).quietly();
    count((name, "none"), &[]).quietly();
    // It counts: one that is too small is refused as that of the option is.
    let too_small = count((name, "64MiB"), &["-j", "4"]).exits_with(2);
    too_small.says(&["too little"]);
    count((name, "64MiB"), &["-j", "4", "--max-memory", "1GiB"]).quietly();
    count((name, "lots"), &[])
        .exits_with(2)
        .says(&["'lots'", "--max-memory"]);
}

#[test]
fn the_number_of_workers_may_be_set_for_every_run() {
    let name = "MICROTALLY_WORKERS";
    count((name, "2"), &[]).quietly();
    count((name, "auto"), &[]).quietly();
    count((name, "0"), &[])
        .exits_with(2)
        .says(&["'0'", "--workers", "1 to 256"]);
    count((name, "0"), &["-j", "1"]).quietly();
    // It counts: more workers need more memory than there is.
    let limit = ["--max-memory", "100MiB"];
    count((name, "1"), &limit).quietly();
    count((name, "64"), &limit)
        .exits_with(2)
        .says(&["too little"]);
}

#[test]
fn help_tells_of_them() {
    let text = microtally(&["count", "--help"]).run().quietly().stdout;
    for name in [
        "MICROTALLY_MAX_MEMORY",
        "MICROTALLY_WORKERS",
        "MICROTALLY_KERNEL",
    ] {
        assert!(text.contains(name), "no {name} in {text}");
    }
}
