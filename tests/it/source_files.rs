//! Files by name and by pattern, read to their ends.

use std::fs::File;

use crate::util::{Ended, Program, microtally, plain, shell, uniq, until};

fn count(args: &[&str]) -> Program {
    microtally(&["count"]).args(args)
}

#[test]
fn several_files_are_counted_together_and_each_one_s_end_ends_its_line() {
    let program = count(&["a", "sub/b", "a"]);
    let ended = program.file("a", "x\ny").file("sub/b", "y\nx\r\nz").run();
    let counted = ended.quietly().tsv_counts();
    assert_eq!(counted, plain(&[("x", 3), ("y", 3), ("z", 1)]));
}

#[test]
fn many_large_files_are_counted_as_one_text() {
    let text = |file: u64| -> String {
        let lines = (0..40_000).map(|n: u64| n.wrapping_mul(file + 7).wrapping_mul(2_654_435_761));
        lines.map(|n| format!("line {}\n", n % 5_000)).collect()
    };
    let mut program = count(&["-j", "2", "part-*"]);
    let mut all = String::new();
    for file in 0..6 {
        program = program.file(&format!("part-{file}"), text(file));
        all += &text(file);
    }
    assert_eq!(program.run().quietly().tsv_counts(), uniq(&all));
}

#[test]
fn a_pattern_is_every_file_that_fits_but_hidden_ones_and_directories() {
    let with_files = |pattern: &str| {
        let program = count(&[pattern]).file("a.log", "a").file("b.log", "b");
        let program = program.file("c.txt", "c").file(".hidden.log", "hidden");
        program
            .file("dir.log/inner", "inner")
            .run()
            .quietly()
            .tsv_counts()
    };
    assert_eq!(with_files("*.log"), plain(&[("a", 1), ("b", 1)]));
    assert_eq!(with_files("[b-c].*"), plain(&[("b", 1), ("c", 1)]));
    assert_eq!(with_files("{a,c}.{log,txt}"), plain(&[("a", 1), ("c", 1)]));
    assert_eq!(with_files("?.txt"), plain(&[("c", 1)]));
    assert_eq!(with_files("dir.log/*"), plain(&[("inner", 1)]));
    // A file that exists is that file, whatever its name looks like.
    let ended = count(&["[ab]"]).file("[ab]", "odd").file("a", "a").run();
    assert_eq!(ended.quietly().tsv_counts(), plain(&[("odd", 1)]));
}

#[test]
fn nothing_begins_where_nothing_can_be_opened_and_it_is_named() {
    let fails = |program: Program, parts: &[&str]| {
        let Ended { stdout, .. } = program.run().exits_with(3).says(parts);
        assert_eq!(stdout, "");
    };
    for command in ["count", "words", "top"] {
        let alone = |name: &str| microtally(&[command, name]);
        let missing = "cannot read \"missing\": No such file or directory\n";
        fails(alone("missing"), &["microtally: ", missing]);
        fails(alone("/"), &["cannot read \"/\": Is a directory"]);
        let nothing = "pattern \"*.nothing\": no file matches";
        fails(alone("*.nothing"), &[nothing]);
        fails(alone("missing").args(&["*.nothing", "/"]), &[missing]);
    }
    fails(
        count(&["a:b"]),
        &["cannot read \"a:b\"", "write an address as HOST:PORT"],
    );
}

/// Beside others that can: these are counted, each of the former is reported once, and how many
/// there were.
#[test]
fn one_that_cannot_be_opened_costs_the_others_nothing_and_is_reported_once() {
    for command in [
        &["count"][..],
        &["count", "-j", "1"],
        &["top", "-i", "8760h", "-n", "all"],
        &["words", "-i", "8760h", "-o", "tsv", "-n", "all"],
    ] {
        let ended = microtally(command).args(&["a", "missing", "/", "*.nothing", "b"]);
        let ended = ended.file("a", "x\n").file("b", "y\nx\n").run();
        let ended = ended.exits_with(3);
        assert_eq!(ended.tsv_counts(), plain(&[("x", 2), ("y", 1)]));
        for says in [
            "microtally: cannot read \"missing\": No such file or directory\n",
            "microtally: cannot read \"/\": Is a directory\n",
            "microtally: cannot read \"*.nothing\": no file matches\n",
            "microtally: 3 of 5 files could not be read\n",
        ] {
            assert_eq!(ended.stderr.matches(says).count(), 1, "{ended:?}");
        }
        assert_eq!(ended.stderr.lines().count(), 4, "{ended:?}");
    }
    // A link that leads nowhere, among what fits a pattern.
    let script = "echo x > a.log; ln -s nowhere d.log; exec \"$0\" count -o tsv '*.log'";
    let ended = shell(script).run().exits_with(3);
    let ended = ended.says(&["cannot read \"d.log\": No such file or directory\n"]);
    assert_eq!(ended.tsv_counts(), plain(&[("x", 1)]));
    // An address that is none.
    let ended = count(&["a", "b:c"]).file("a", "x\n").run().exits_with(3);
    let ended = ended.says(&["cannot read \"b:c\": ", "write an address as HOST:PORT"]);
    assert_eq!(ended.tsv_counts(), plain(&[("x", 1)]));
    // A pattern is no address, whatever it contains.
    let ended = count(&["a", "b:*"]).file("a", "x\n").run().exits_with(3);
    assert_eq!(
        ended.stderr.lines().next(),
        Some("microtally: cannot read \"b:*\": no file matches")
    );
    assert!(!ended.stderr.contains("HOST:PORT"), "{ended:?}");
}

#[test]
fn standard_input_is_counted_beside_a_file_that_cannot_be_opened() {
    let ended = count(&["missing", "-"]).run_with(b"x\n").exits_with(3);
    let says = "microtally: cannot read \"missing\": No such file or directory\n";
    assert_eq!(ended.stderr, says);
    assert_eq!(ended.tsv_counts(), plain(&[("x", 1)]));
}

#[test]
fn a_file_without_permission_is_named() {
    use std::os::unix::fs::PermissionsExt;
    // Nothing is forbidden to root, who can become somebody else.
    let as_nobody = "exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$0\" \"$@\"";
    let as_ever = "exec \"$0\" \"$@\"";
    let run = |script: &str, command: &str| {
        let program = shell(&format!("set -- {command}; {script}"));
        let program = program.file("secret", "x\n").file("open", "x\n");
        let allow = |name: &str, mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(program.path(name), mode).unwrap();
        };
        allow("secret", 0o000);
        allow("open", 0o644);
        allow(".", 0o755);
        let is_forbidden = File::open(program.path("secret")).is_err();
        (program.run(), is_forbidden)
    };
    let mut script = as_ever;
    if !run(as_ever, "--version").1 {
        script = as_nobody;
        let (ended, _) = run(script, "count open");
        if ended.code != Some(0) {
            println!("permissions were not tested, root cannot run it as somebody else: {ended:?}");
            return;
        }
    }
    let says = "microtally: cannot read \"secret\": Permission denied\n";
    for command in ["count secret", "top -i 20ms secret", "words secret"] {
        let (ended, _) = run(script, command);
        let ended = ended.exits_with(3);
        assert_eq!((&*ended.stdout, &*ended.stderr), ("", says), "{command}");
    }
    let says = format!("{says}microtally: 1 of 2 files could not be read\n");
    for command in ["count open secret", "top -i 8760h secret open"] {
        let (ended, _) = run(script, command);
        let ended = ended.exits_with(3);
        assert_eq!(ended.stderr, says, "{command}");
        assert_eq!(ended.tsv_counts(), plain(&[("x", 1)]), "{command}");
    }
}

#[test]
fn a_file_that_cannot_be_read_costs_the_others_nothing() {
    // The first page of a process's memory is not there, for anybody.
    let program = count(&["a", "/proc/self/mem", "b"]);
    let ended = program.file("a", "x\n").file("b", "x\ny\n").run();
    let ended = ended
        .exits_with(3)
        .says(&["cannot read \"/proc/self/mem\": "]);
    assert_eq!(ended.tsv_counts(), plain(&[("x", 2), ("y", 1)]));
}

/// What a shell makes of a pattern: they are read one after another, and take no memory each.
#[test]
fn hundreds_of_names_are_read_like_a_pattern() {
    for options in ["", "-F --from start"] {
        let script = format!(
            "i=0; while [ $i -lt 300 ]; do echo word > file$i; i=$((i+1)); done; ulimit -n 400; \
             exec \"$0\" top -i 20ms --max-memory 256MiB {options} file*"
        );
        let run = shell(&script).start();
        run.stdout.wait_for("\tword\t300\n");
        if !options.is_empty() {
            run.signal("INT");
        }
        run.wait().quietly();
    }
    // A pipe that nobody writes to holds nobody up.
    let script = "mkfifo pipe; echo word > file; exec \"$0\" top -i 20ms pipe file";
    let run = shell(script).start();
    run.stdout.wait_for("\tword\t1\n");
    run.signal("INT");
    run.wait().quietly();
}

/// Wherever the pieces of a file end, and whatever reads it.
#[test]
fn case_5_lines_that_are_too_long_are_told_and_their_number() {
    let long = "x".repeat(20 << 20);
    let text = format!("before\n{long}\nbetween\n{long}\nafter\n");
    for command in [
        &["count"][..],
        &["top", "-i", "8760h"],
        &["words", "-i", "8760h"],
    ] {
        let program = microtally(command).args(&["-k", "line", "-o", "tsv", "many"]);
        let ended = program.file("many", &text).run().exits_with(0).says(&[
            "microtally: \"many\": tokens longer than 16777216 bytes are skipped\n",
            "            raise --max-record, up to 1GiB, to keep longer ones",
            "microtally: 2 lines or words are longer than --max-record; skipped\n",
        ]);
        let counted = ended.tsv_counts();
        assert_eq!(
            counted,
            plain(&[("before", 1), ("between", 1), ("after", 1)]),
            "{command:?}"
        );
    }
    let kept = count(&["--max-record", "32MiB", "many"]).file("many", &text);
    let counted = kept.run().quietly().tsv_counts();
    assert_eq!(counted[&long], 2);
}

/// The files of `/sys` say that they are as long as a page.
#[test]
fn a_file_that_says_it_is_longer_than_what_comes_out_of_it_was_not_cut() {
    let path = "/sys/devices/system/cpu/online";
    let Ok(content) = std::fs::read_to_string(path) else {
        println!("there is no {path}");
        return;
    };
    let expected = plain(&[(content.trim_end(), 1)]);
    for command in [
        &["count", path][..],
        &["top", "-i", "8760h", path],
        &["words", "-i", "8760h", "-o", "tsv", path],
    ] {
        let ended = microtally(command).run().quietly();
        assert_eq!(ended.tsv_counts(), expected, "{command:?}");
    }
    let ended = count(&[]).stdin(File::open(path).unwrap()).run().quietly();
    assert_eq!(ended.tsv_counts(), expected);
}

#[test]
fn files_without_a_size_and_named_pipes_are_read_to_their_ends() {
    let counted = count(&["/proc/self/comm"]).run().quietly().tsv_counts();
    assert_eq!(counted, plain(&[("microtally", 1)]));
    let script = "mkfifo pipe; (echo x; echo y; echo x) > pipe & \"$0\" count pipe; wait";
    let counted = shell(script).run().quietly().tsv_counts();
    assert_eq!(counted, plain(&[("x", 2), ("y", 1)]));
}

#[test]
fn a_name_that_looks_like_an_address_is_written_with_its_directory() {
    let name_is = |given: &str, name: &str| {
        let ended = count(&[given]).file(name, "x\n").run();
        assert_eq!(ended.quietly().tsv_counts(), plain(&[("x", 1)]), "{given}");
    };
    name_is("./host:80", "host:80");
    let address = count(&["--reconnect", "never", "localhost:1"]).file("localhost:1", "x\n");
    address.run().exits_with(3).says(&[
        "\"localhost:1\" is taken for an address; write \"./localhost:1\" for the file with this name\n",
        "cannot connect to tcp://localhost:1",
    ]);
    // These are no addresses: no port, a wrong one, one that cannot be connected to.
    name_is("a:b", "a:b");
    name_is("12:61:00", "12:61:00");
    name_is("host:0", "host:0");
    name_is("host:65536", "host:65536");
}

#[test]
fn names_that_are_not_utf_8_are_files_like_others() {
    let script = "f=$(printf 'caf\\351'); echo x > \"$f\"; \"$0\" count \"$f\" caf*";
    let counted = shell(script).run().quietly().tsv_counts();
    assert_eq!(counted, plain(&[("x", 2)]));
}

#[test]
fn words_and_top_read_files_too() {
    let program = microtally(&["words", "a", "b", "-i", "8760h"]);
    let ended = program.file("a", "x y\n").file("b", "y\n").run().quietly();
    assert_eq!(ended.stdout.matches("('y', 2)").count(), 1, "{ended:?}");
    let program = microtally(&["top", "a", "-i", "8760h"]);
    let ended = program.file("a", "x\nx\n").run().quietly();
    assert_eq!(ended.tsv_counts(), plain(&[("x", 2)]));
}

/// Far longer than what is read until it is cut: nothing but its beginning takes room on a disk.
#[test]
fn case_77_a_file_that_becomes_shorter_while_it_is_read_is_told_of_once() {
    for command in [
        &["count", "-j", "1", "long"][..],
        &["count", "-j", "2", "long"],
        &[
            "words", "-k", "line", "-o", "tsv", "-n", "all", "-i", "50ms", "long",
        ],
    ] {
        let program = microtally(command).file("long", "x\nx\n");
        let long = program.path("long");
        let file = File::options().write(true).open(long).unwrap();
        file.set_len(1 << 34).unwrap();
        let run = program.start();
        until("some of it is read", || run.read_bytes() > 1 << 20);
        file.set_len(4).unwrap();
        let ended = run.wait().exits_with(3);
        let told = "microtally: \"long\": became shorter while it was read; beyond its first 4 bytes, only what \
                    had already been read is counted\n";
        assert_eq!(ended.stderr.matches(told).count(), 1, "{ended:?}");
        // Of the line that was cut nothing is a key.
        assert_eq!(ended.tsv_counts(), plain(&[("x", 2)]), "{command:?}");
    }
    let program = count(&[]).file("long", "x\nx\n");
    let long = program.path("long");
    let file = File::options().write(true).open(&long).unwrap();
    file.set_len(1 << 34).unwrap();
    let run = program.stdin(File::open(long).unwrap()).start();
    until("some of it is read", || run.read_bytes() > 1 << 20);
    file.set_len(4).unwrap();
    let ended = run.wait().exits_with(3);
    let says = "microtally: cannot read standard input: it became shorter while it was read";
    assert_eq!(ended.stderr.matches(says).count(), 1, "{ended:?}");
    assert_eq!(ended.tsv_counts(), plain(&[("x", 2)]));
}

/// The mark that Windows programs write: of each file, also where a pattern or several names are
/// given.
#[test]
fn a_utf_8_mark_is_no_part_of_the_first_line_of_a_file_and_its_bytes_are_in_the_sum() {
    let marked = "\u{feff}name\nx\n\u{feff}x\n";
    let expected = plain(&[("name", 2), ("x", 2), ("\\xef\\xbb\\xbfx", 2), ("plain", 1)]);
    for command in [
        &["count"][..],
        &["count", "-j", "1"],
        &["top", "-i", "8760h", "-n", "all"],
        &["words", "-i", "8760h", "-o", "tsv", "-n", "all"],
    ] {
        let program = microtally(command).args(&["*.csv", "c.txt"]);
        let program = program.file("a.csv", marked).file("b.csv", marked);
        let ended = program.file("c.txt", "plain").run().quietly();
        assert_eq!(ended.tsv_counts(), expected, "{command:?}");
    }
    let json = count(&["-o", "json", "a.csv"]).file("a.csv", marked).run();
    let bytes = format!("\"bytes\":{}", marked.len());
    let json = json.quietly().stdout;
    assert!(json.contains(&bytes), "{json}");
}

/// A text editor's "Unicode": with a mark, in either order of bytes.
#[test]
fn a_file_in_utf_16_is_counted_as_text() {
    let text = "naïve\r\n日本\r\nnaïve\r\n😀";
    let units = || [0xfeff].into_iter().chain(text.encode_utf16());
    let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
    let expected = plain(&[("naïve", 4), ("日本", 2), ("😀", 2)]);
    let program = count(&["little", "big"]).file("little", &little);
    let ended = program.file("big", &big).run().quietly();
    assert_eq!(ended.tsv_counts(), expected);
    let half = plain(&[("naïve", 2), ("日本", 1), ("😀", 1)]);
    for input in [little, big] {
        let counted = [
            count(&[]).stdin_file(&input).run(),
            count(&[]).run_with(&input),
        ];
        for ended in counted {
            assert_eq!(ended.quietly().tsv_counts(), half);
        }
    }
    let ended = count(&["utf32", "little"]).file("utf32", b"\xff\xfe\0\0a\0\0\0");
    let ended = ended.file("little", "x\n").run().exits_with(3);
    let ended = ended.says(&["cannot read \"utf32\": it is UTF-32 text; convert it first"]);
    assert_eq!(ended.tsv_counts(), plain(&[("x", 1)]));
}

/// Twenty pairs of braces stand for a million names, of which nobody wants one.
#[test]
fn a_pattern_that_stands_for_too_much_is_refused_at_once() {
    let pattern = "{a,b}".repeat(20);
    for args in [
        &["count", &pattern][..],
        &["top", "-F", &pattern],
        &["words", &format!("dir://{pattern}")],
    ] {
        let ended = microtally(args).run().exits_with(2);
        ended.says(&[
            "pattern \"{a,b}{a,b}",
            "braces stand for more than 1024 names",
        ]);
    }
}
