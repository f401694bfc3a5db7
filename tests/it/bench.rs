//! `microtally bench`: the shape of what it prints. Its figures are the machine's.

use crate::util::{Ended, microtally};

/// The cells of the table under `heading`, head and rule included.
fn table(ended: &Ended, heading: &str) -> Vec<Vec<String>> {
    let (_, section) = ended.stdout.split_once(heading).expect(heading);
    let lines = section.lines().skip_while(|line| !line.starts_with('|'));
    let rows = lines.take_while(|line| line.starts_with('|'));
    let cells = |line: &str| {
        let line = line
            .strip_prefix('|')
            .and_then(|line| line.strip_suffix('|'));
        let cells = line.expect("a row ends with a bar").split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    };
    rows.map(cells).collect()
}

#[test]
fn tables_have_a_row_for_every_text_asked_for() {
    let args = [
        "bench",
        "--quick",
        "--size",
        "64KiB",
        "--only",
        "log,english,collide-fx",
    ];
    let ended = microtally(&args).args(&["--kernel", "portable"]).run();
    let ended = ended.quietly();
    let machine = table(&ended, "## Machine");
    let kernel = machine.iter().find(|row| row[0] == "kernel").unwrap();
    assert!(kernel[1].starts_with("portable, of scalar, portable"));
    assert_eq!(table(&ended, "## What the machine can do").len(), 2 + 4);
    let in_memory = table(&ended, "## Counting words in memory");
    let names: Vec<_> = in_memory[2..].iter().map(|row| row[0].as_str()).collect();
    for (name, text) in names.iter().zip(["`english`", "`log`", "`collide-fx`"]) {
        assert!(name.starts_with(text), "{names:?}");
    }
    assert_eq!(names.len(), 3);
    let over_tcp = table(&ended, "## Counting over loopback TCP");
    assert_eq!(over_tcp.len(), 2 + 4);
    for table in [machine, in_memory, over_tcp] {
        assert!(table.iter().all(|row| row.len() == table[0].len()));
        assert!(table[2..].iter().flatten().all(|cell| !cell.is_empty()));
    }
}

#[test]
fn a_text_that_is_not_installed_is_left_out_and_said_to_be() {
    let args = [
        "bench",
        "--quick",
        "--size",
        "64KiB",
        "--only",
        "king-james,blanks",
    ];
    // Nothing is on this path, whatever is installed.
    let ended = microtally(&args).env("PATH", "/nonexistent").run();
    let missing = "king-james: program bible not found; install it with: apt install bible-kjv";
    let ended = ended.exits_with(0).says(&["left out: ", missing]);
    assert!(ended.stdout.contains(&format!("Left out: {missing}")));
    assert_eq!(table(&ended, "## Counting words in memory").len(), 2 + 1);
}

#[test]
fn whole_programs_are_measured_beside_those_of_the_system() {
    let args = [
        "bench",
        "--quick",
        "--size",
        "256KiB",
        "--only",
        "memory,files,start",
    ];
    let ended = microtally(&args).run().exits_with(0);
    assert!(!ended.stdout.contains("## Counting words in memory"));
    let files = table(&ended, "## Counting files");
    let inputs = |name: &str| files.iter().filter(|row| row[1] == name).count();
    // Ours in three ways, and sort, which is everywhere; mawk may be missing, and is then said to
    // be.
    let mawk = usize::from(
        !ended
            .stdout
            .contains("Left out: `mawk`: program mawk not found"),
    );
    assert_eq!(
        (inputs("lines"), inputs("words")),
        (4 + mawk, 4 + mawk),
        "{ended:?}"
    );
    let memory = table(&ended, "## Memory limit");
    assert_eq!(memory.len(), 2 + 2);
    for row in &memory[2..] {
        let peak: f64 = row[2].parse().unwrap();
        assert!((1.0..268.0 + 67.0).contains(&peak), "{row:?}");
    }
    assert_eq!(table(&ended, "## Start").len(), 2 + 4);
    for table in [files, memory] {
        assert!(table[2..].iter().flatten().all(|cell| !cell.is_empty()));
    }
    let refused = microtally(&["bench", "--only", "files,fils"])
        .run()
        .exits_with(2);
    refused.says(&[
        "--only \"fils\": no such text or measurement; choose from king-james, ",
        ", files, memory, start",
    ]);
}
