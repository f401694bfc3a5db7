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
    too_small.says(&[
        "too small",
        "; --max-memory is set by the environment variable MICROTALLY_MAX_MEMORY\n",
    ]);
    count((name, "64MiB"), &["-j", "4", "--max-memory", "1GiB"]).quietly();
    count((name, "lots"), &[]).exits_with(2).says(&[
        "'lots' for '--max-memory <SIZE|none>' of the environment variable 'MICROTALLY_MAX_MEMORY'",
    ]);
    // What was typed is not put down to it.
    let typed = count((name, "1GiB"), &["--max-memory", "lots"]).exits_with(2);
    assert!(!typed.stderr.contains("environment"), "{typed:?}");
}

#[test]
fn the_number_of_workers_may_be_set_for_every_run() {
    let name = "MICROTALLY_WORKERS";
    count((name, "2"), &[]).quietly();
    count((name, "auto"), &[]).quietly();
    count((name, "0"), &[]).exits_with(2).says(&[
        "'0'",
        "--workers",
        "'MICROTALLY_WORKERS'",
        "1 to 256",
    ]);
    let typed = count((name, "0"), &["-j", "0"]).exits_with(2);
    assert!(!typed.stderr.contains("environment"), "{typed:?}");
    count((name, "0"), &["-j", "1"]).quietly();
    // It counts: more workers need more memory than there is.
    let limit = ["--max-memory", "100MiB"];
    count((name, "1"), &limit).quietly();
    count((name, "64"), &limit)
        .exits_with(2)
        .says(&["too small", "MICROTALLY_WORKERS"]);
}

#[test]
fn a_kernel_that_a_variable_asks_for_in_vain_is_refused_with_its_name() {
    count(("MICROTALLY_KERNEL", "fast"), &[])
        .exits_with(2)
        .says(&["kernel \"fast\"", "MICROTALLY_KERNEL"]);
    count(("MICROTALLY_KERNEL", "fast"), &["--kernel", "scalar"]).quietly();
}

#[test]
fn a_variable_that_is_empty_is_none() {
    for name in [
        "MICROTALLY_MAX_MEMORY",
        "MICROTALLY_WORKERS",
        "MICROTALLY_KERNEL",
    ] {
        count((name, ""), &[]).quietly();
        count(
            (name, ""),
            &["--max-memory", "1GiB", "-j", "1", "--kernel", "scalar"],
        )
        .quietly();
    }
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
