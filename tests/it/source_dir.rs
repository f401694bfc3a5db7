//! `dir://`: files that are put into a directory.

use std::fs;

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
    run.wait_until_signals_are_caught();
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
    let counted = run.wait().quietly().tsv_counts();
    assert_eq!(counted, plain(&[("x", 1), ("y", 2), ("z", 1)]));
}

#[test]
fn a_directory_that_is_not_there_is_told_and_waited_for() {
    let program = microtally(&["words", "-k", "line", "-o", "tsv", "-i", "100ms"]);
    let run = program.args(&["dir://later"]).start();
    run.stderr.wait_for("there is no such directory");
    fs::create_dir(run.path("later")).unwrap();
    run.stderr.wait_for("microtally: listing ");
    fs::write(run.path("being-made"), "x\n").unwrap();
    fs::rename(run.path("being-made"), run.path("later/a")).unwrap();
    run.wait_for_counts(&[("x", 1)]);
    run.wait_until_signals_are_caught();
    run.signal("TERM");
    run.wait().exits_with(0);
}

#[test]
fn it_is_read_alone() {
    let ended = microtally(&["words", "dir://in", "-"]).run().exits_with(2);
    ended.says(&["dir:// cannot be read together with other sources"]);
}
