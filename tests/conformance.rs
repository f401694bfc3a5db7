//! Spark's own tests of DStreams, as facts in a file, run through the public API.
//!
//! Goal: what Spark's test suites expect of an operation is what comes out here. Method: the cases
//! are in `conformance/dstream_cases.json`. Those that say what goes in, which operations are
//! applied and what comes out are run by a small interpreter (`operations`); the others by a
//! function each (`programs`, `behaviour`). Each case that cannot be run says why in one table
//! (`not_here`), and one that is neither run nor in that table fails the test.

#[path = "conformance/behaviour.rs"]
mod behaviour;
#[path = "conformance/cases.rs"]
mod cases;
#[path = "conformance/life_cycle.rs"]
mod life_cycle;
#[path = "conformance/live.rs"]
mod live;
#[path = "conformance/not_here.rs"]
mod not_here;
#[path = "conformance/operations.rs"]
mod operations;
#[path = "conformance/programs.rs"]
mod programs;

use std::collections::BTreeSet;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::cases::{Case, cases};
use crate::not_here::NOT_HERE;

/// A program for one case, by the case's id.
type Program = (&'static str, fn(&Case));

/// Every program that was written for one case.
fn programs() -> impl Iterator<Item = Program> {
    let tables = [
        programs::PROGRAMS,
        behaviour::PROGRAMS,
        life_cycle::PROGRAMS,
    ];
    tables.into_iter().flatten().copied()
}

/// How a case is run, if it is.
fn program_of(case: &Case) -> Option<fn(&Case)> {
    let written = programs().find(|(id, _)| *id == case.id);
    let interpreted = case.has_operations().then_some(operations::run as _);
    written.map(|(_, program)| program).or(interpreted)
}

#[test]
fn every_case_is_run_or_listed_with_a_reason() {
    let all = cases();
    let ids: BTreeSet<&str> = all.iter().map(|case| &case.id[..]).collect();
    assert_eq!(ids.len(), all.len(), "two cases have one id");
    for case in &all {
        let times_listed = NOT_HERE.iter().filter(|(id, _)| *id == case.id).count();
        let ways = times_listed + usize::from(program_of(case).is_some());
        assert_eq!(
            ways, 1,
            "{} is to be run, or listed with a reason, and not both",
            case.id
        );
    }
    let known = programs().map(|(id, _)| id);
    for id in known.chain(NOT_HERE.iter().map(|(id, _)| *id)) {
        assert!(ids.contains(id), "there is no case {id}");
    }
    assert!(
        NOT_HERE.iter().all(|(_, reason)| reason.ends_with('.')),
        "a reason is a sentence"
    );
}

#[test]
fn every_case_that_is_run_passes() {
    let mut failed = Vec::new();
    for case in &cases() {
        let Some(program) = program_of(case) else {
            continue;
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| program(case))) {
            let message = panic.downcast_ref::<String>().cloned();
            failed.push(format!("{}: {}", case.id, message.unwrap_or_default()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The cases stand beside the clone for everybody who works on it; the copy here is for everybody
/// else.
#[test]
fn the_copy_of_the_cases_is_the_original() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let original = root.join("../shared/conformance/dstream_cases.json");
    match std::fs::read(&original) {
        Ok(original) => assert!(
            original == cases::FILE.as_bytes(),
            "tests/conformance/dstream_cases.json is not the file beside the clone any more"
        ),
        Err(_) => {
            // Past the test harness, which keeps what passing tests print to itself.
            let text =
                "conformance: no original of the cases beside the clone; the copy was used\n";
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
    }
}
