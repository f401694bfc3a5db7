//! Compressed files and standard input, as they are named.

use std::io::Write;
use std::process::Stdio;

use bzip2::write::BzEncoder;
use flate2::Compression;
use flate2::write::GzEncoder;
use liblzma::write::XzEncoder;
use lz4_flex::frame::FrameEncoder;

use crate::util::{microtally, plain, shell};

fn gzip(content: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn zstd(content: &str) -> Vec<u8> {
    zstd::encode_all(content.as_bytes(), 0).unwrap()
}

fn bzip2(content: &str) -> Vec<u8> {
    let mut encoder = BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(content.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn xz(content: &str) -> Vec<u8> {
    let mut encoder = XzEncoder::new(Vec::new(), 6);
    encoder.write_all(content.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn lz4(content: &str) -> Vec<u8> {
    let mut encoder = FrameEncoder::new(Vec::new());
    encoder.write_all(content.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn compressed_and_plain_files_are_counted_together() {
    let root = tempfile::tempdir().unwrap();
    let mut args = vec!["count".to_owned(), "-o".to_owned(), "json".to_owned()];
    // Their names say nothing: the second one is zstd, the last one gzip.
    for (name, content) in [
        ("a.gz", [gzip("x\ny\n"), gzip("x")].concat()),
        ("b.zst", zstd("x\nz\n")),
        ("c.txt", b"y\nx\n".to_vec()),
        ("d", gzip("z\n")),
        ("e.bz2", [bzip2("w\n"), bzip2("w")].concat()),
        ("f", xz("w\n")),
        ("g.lz4", lz4("w\n")),
    ] {
        let path = root.path().join(name);
        std::fs::write(&path, content).unwrap();
        args.push(path.to_str().unwrap().to_owned());
    }
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    for followed_by in [&[][..], &["-j", "1"]] {
        let ended = microtally(&args).args(followed_by).run().quietly();
        let top = r#""top":[{"k":"w","n":4},{"k":"x","n":4},{"k":"y","n":2},{"k":"z","n":2}]"#;
        assert!(ended.stdout.contains(top), "{}", ended.stdout);
    }
}

#[test]
fn standard_input_is_decompressed_from_a_file_and_from_a_pipe() {
    let text = "x\ny\nx\n";
    for content in [
        gzip(text),
        zstd(text),
        bzip2(text),
        xz(text),
        lz4(text),
        text.into(),
    ] {
        let count = || microtally(&["count", "-o", "tsv"]);
        let from_file = count().stdin_file(&content).run().quietly().stdout;
        let from_pipe = count().run_with(&content).quietly().stdout;
        for text in [from_file, from_pipe] {
            let rows = text.lines().map(|line| line.split_once('\t').unwrap().1);
            assert_eq!(rows.collect::<Vec<_>>(), ["x\t2", "y\t1"]);
        }
    }
}

#[test]
fn what_a_compressing_program_flushed_is_counted_while_it_lives() {
    let mut run = microtally(&["words", "-", "-i", "20ms"])
        .stdin(Stdio::piped())
        .start();
    let stdin = run.stdin.take().unwrap();
    let mut encoder = GzEncoder::new(stdin, Compression::default());
    encoder.write_all(b"first half").unwrap();
    encoder.flush().unwrap();
    run.stdout.wait_for_lines(8);
    encoder.write_all(b"-way\n").unwrap();
    encoder.flush().unwrap();
    run.stdout.wait_for("('half-way', 1)");
    drop(encoder.finish().unwrap());
    run.wait().quietly();
}

#[test]
fn input_that_breaks_off_is_told_counted_and_an_exit_code() {
    let mut content = gzip("x\ny\nx\n");
    content.truncate(content.len() - 3);
    let says = format!("the gzip data breaks off at byte {}", content.len());
    let ended = microtally(&["count", "-o", "tsv"])
        .run_with(&content)
        .exits_with(3);
    let ended = ended.says(&["cannot read standard input: ", &says]);
    assert!(ended.stdout.contains("\tx\t2\n"), "{}", ended.stdout);
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("log.gz");
    std::fs::write(&path, content).unwrap();
    let name = path.to_str().unwrap();
    let ended = microtally(&["count", "-o", "tsv", name])
        .run()
        .exits_with(3);
    let ended = ended.says(&[name, &says]);
    assert_eq!(ended.stderr.matches(&says).count(), 1, "{ended:?}");
    assert!(ended.stdout.contains("\tx\t2\n"), "{}", ended.stdout);
}

#[test]
fn a_window_beyond_the_memory_limit_is_told_with_what_to_do() {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    // More than there is room for at once: the decoder needs its window for it.
    encoder.write_all(&b"x\ny\nx\n".repeat(100_000)).unwrap();
    let content = encoder.finish().unwrap();
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("log.zst");
    std::fs::write(&path, &content).unwrap();
    let name = path.to_str().unwrap();
    let count = |limit, source| {
        microtally(&[
            "count",
            "-o",
            "tsv",
            "-j",
            "1",
            "--max-memory",
            limit,
            source,
        ])
    };
    for limit in ["1GiB", "none"] {
        let ended = count(limit, name).run().quietly();
        assert!(ended.stdout.contains("\tx\t200000\n"), "{}", ended.stdout);
        let ended = count(limit, "-").run_with(&content).quietly();
        assert!(ended.stdout.contains("\tx\t200000\n"), "{}", ended.stdout);
    }
    let says = [
        "window of 128 MiB",
        "leaves 32 MiB",
        "zstd -d; or raise --max-memory",
    ];
    count("256MiB", name).run().exits_with(3).says(&says);
    let ended = count("256MiB", "-").run_with(&content).exits_with(3);
    ended.says(&says);
}

#[test]
fn the_help_says_what_is_decompressed_and_what_is_not() {
    let help = shell("\"$0\" count --help").run().quietly().stdout;
    for format in ["gzip", "zstd", "bzip2", "xz", "lz4", "UTF-16"] {
        assert!(help.contains(format), "{format}: {help}");
    }
}

#[test]
fn an_archive_is_refused_with_what_to_do_and_the_rest_is_counted() {
    let zip = b"PK\x03\x04\x14\0\0\0\x08\0x\ny\n";
    let says = "it is a zip archive; unpack it first, for example with unzip -p\n";
    let ended = microtally(&["count", "-o", "tsv", "a.zip", "b"]);
    let ended = ended.file("a.zip", zip).file("b", "x\n").run();
    let ended = ended.exits_with(3).says(&["cannot read \"a.zip\": ", says]);
    assert_eq!(ended.tsv_counts(), plain(&[("x", 1)]));
    let ended = microtally(&["count", "-o", "tsv"]).run_with(zip);
    let ended = ended.exits_with(3);
    let ended = ended.says(&["cannot read standard input: ", says]);
    assert_eq!(ended.stdout, "");
}
