//! Several aggregates at once: a column each, in every format, of a run, a window and all so far.

use serde_json::{Value, json};

use crate::util::{json_lines, microtally};

const LOG: &[u8] = b"/a 10\n/b 7\n/a 20\n/a 10\n/b x\n/c\n/a 12.5\n";

const AGGREGATES: [&str; 6] = [
    "-k",
    "field:1",
    "-v",
    "field:2",
    "-a",
    "count,mean,p50,distinct",
];

fn count(format: &str, more: &[&str]) -> String {
    let args = ["count", "-o", format];
    let ended = microtally(&args).args(&AGGREGATES).args(more).run_with(LOG);
    ended.exits_with(0).stdout
}

#[test]
fn each_aggregate_is_a_column_in_every_format() {
    let rows = count("tsv", &[]);
    let rows: Vec<Vec<&str>> = rows.lines().map(|row| row.split('\t').collect()).collect();
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!(rows[0][1..], ["/a", "4", "13.125", "10", "3"]);
    assert_eq!(rows[1][1..], ["/b", "1", "7", "7", "1"]);

    let table = count("table", &[]);
    assert_eq!(
        table,
        "count    mean  p50  distinct    share  key\n    \
             4  13.125   10         3   80.0 %  /a\n    \
             1       7    7         1   20.0 %  /b\n"
    );

    let line: Value = json_lines(&count("json", &[])).remove(0);
    assert_eq!(line["columns"], json!(["count", "mean", "p50", "distinct"]));
    assert_eq!(
        line["errors"],
        json!({"p50": 1.0 / 128.0, "distinct": 1.04 / 64.0})
    );
    let expected = json!([{"k": "/a", "n": [4, 13.125, 10, 3]}, {"k": "/b", "n": [1, 7, 7, 1]}]);
    assert_eq!(line["top"], expected);

    assert!(count("pyspark", &[]).contains("('/a', (4, 13.125, 10, 3))\n('/b', (1, 7, 7, 1))\n"));
}

#[test]
fn one_aggregate_is_one_number_and_is_ranked() {
    for (aggregate, expected) in [
        ("p100", [("/a", "20"), ("/b", "7")]),
        ("distinct", [("/a", "3"), ("/b", "2")]),
        ("min", [("/a", "10"), ("/b", "7")]),
    ] {
        let args = [
            "count", "-o", "tsv", "-k", "field:1", "-v", "field:2", "-a", aggregate,
        ];
        let rows = microtally(&args).run_with(LOG).exits_with(0).stdout;
        let rows: Vec<&str> = rows.lines().collect();
        for (row, (key, value)) in rows.iter().zip(expected) {
            assert!(
                row.ends_with(&format!("\t{key}\t{value}")),
                "{aggregate}: {row}"
            );
        }
    }
}

/// The states of batches are merged, not their results.
#[test]
fn windows_and_totals_are_of_all_their_values() {
    let text: String = (0..2000)
        .map(|number| format!("k {}\n", number % 200))
        .collect();
    for window in [&[][..], &["--window", "1m", "--slide", "1ms"]] {
        let args = [
            "top", "-o", "json", "-i", "1ms", "-k", "field:1", "-v", "field:2",
        ];
        let ended = microtally(&args)
            .args(&["-a", "count,p50,max,distinct", "--max-memory", "none"])
            .args(window)
            .run_with(text.as_bytes());
        let lines = json_lines(&ended.exits_with(0).stdout);
        let last = lines.last().expect("a batch");
        let expected = json!([{"k": "k", "n": [2000, 99, 199, 200]}]);
        assert_eq!(last["top"], expected, "{window:?}");
    }
}

#[test]
fn results_are_the_same_with_any_number_of_threads_and_a_memory_limit() {
    let line = |number: u64| {
        let word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        format!("{} {}\n", word % 70, word % 5003)
    };
    let text: String = (0..60_000).map(line).collect();
    let run = |more: &[&str]| {
        let args = [
            "count", "-o", "tsv", "-n", "all", "-k", "field:1", "-v", "field:2",
        ];
        let ended = microtally(&args)
            .args(&[
                "-a",
                "sum,count,mean,min,max,p50,p99,p99.9,distinct",
                "--hash-seed",
                "7",
            ])
            .args(more)
            .run_with(text.as_bytes());
        let rows = ended.exits_with(0).stdout;
        let rows = rows.lines().filter_map(|row| row.split_once('\t'));
        rows.map(|(_, row)| row.to_owned()).collect::<Vec<String>>()
    };
    let one = run(&["-j", "1", "--max-memory", "none"]);
    assert_eq!(one.len(), 70);
    assert_eq!(run(&["-j", "4"]), one);
    assert_eq!(run(&["-j", "2", "--max-memory", "400MiB"]), one);
}
