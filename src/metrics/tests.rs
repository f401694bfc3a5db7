//! Tests of the whole: names, the table of the documentation, snapshots, the text for Prometheus.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::*;
use crate::ledger::IntakeTotals;

#[test]
fn names_follow_the_rules_of_prometheus() {
    let mut names = BTreeSet::new();
    for family in Snapshot::families() {
        let MetricFamily {
            name, unit, help, ..
        } = family;
        assert!(names.insert(name), "{name} is there twice");
        let is_plain = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(name.chars().all(is_plain), "{name}");
        let is_counter = family.kind == MetricKind::Counter;
        assert_eq!(name.ends_with("_total"), is_counter, "{name}");
        let stem = name.trim_end_matches("_total");
        if ["bytes", "seconds", "records", "tokens", "keys"].contains(unit) {
            assert!(stem.ends_with(unit), "{name} is in {unit}");
        }
        let is_label = |c: char| c.is_ascii_lowercase();
        assert!(family.label.chars().all(is_label), "{name}");
        assert!(help.ends_with('.') && !help.contains('\n'), "{name}");
    }
}

#[test]
fn the_table_in_the_documentation_has_every_metric() {
    let mut expected = String::new();
    for family in Snapshot::families() {
        let kind = format!("{:?}", family.kind).to_lowercase();
        let label = match family.label {
            "" => String::new(),
            label => format!("`{label}`"),
        };
        let (name, unit, help) = (family.name, family.unit, family.help);
        let row = format!("//! | `{name}` | {kind} | {unit} | {label} | {help} |");
        writeln!(expected, "{}", row.replace("|  |", "| |")).expect("a string takes it");
    }
    let documented: String = include_str!("mod.rs")
        .lines()
        .filter(|line| line.starts_with("//! | `"))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(documented, expected);
}

fn intake(bytes_read: u64) -> IntakeTotals {
    IntakeTotals {
        bytes_read,
        bytes_skipped: 2,
        bytes_carried: 3,
        oversize_tokens: 4,
        oversize_bytes: 5,
        truncated_records: 6,
        truncated_bytes: 7,
        lost_records: 8,
        lost_bytes: 9,
        refused_connections: 10,
        ..IntakeTotals::default()
    }
}

#[test]
fn every_column_of_an_intake_has_a_metric() {
    let metrics = Metrics::default();
    metrics.source("a").publish(&intake(1));
    let snapshot = metrics.snapshot();
    let values: BTreeSet<u64> = (snapshot.sources.samples())
        .map(|sample| snapshot.get(sample.family.name, "a").expect("it is there"))
        .collect();
    assert_eq!(values, (1..=10).collect());
    assert_eq!(snapshot.total("source_bytes_total"), Some(1));
    assert_eq!(snapshot.total("source_lost_records_total"), Some(8));
}

#[test]
fn sources_of_one_name_are_one() {
    let metrics = Metrics::default();
    for (name, bytes) in [("a", 1), ("b", 10), ("a", 100)] {
        metrics.source(name).publish(&intake(bytes));
    }
    let snapshot = metrics.snapshot();
    let bytes = |label| snapshot.get("source_bytes_total", label);
    assert_eq!(
        (bytes("a"), bytes("b"), bytes("c")),
        (Some(101), Some(10), None)
    );
    assert_eq!(snapshot.total("source_bytes_total"), Some(111));
    let labels: Vec<&str> = (snapshot.samples())
        .filter(|sample| sample.family.name == "source_bytes_total")
        .map(|sample| sample.label)
        .collect();
    assert_eq!(labels, ["a", "b"]);
}

#[test]
fn what_no_metric_has_is_none() {
    let snapshot = Metrics::default().snapshot();
    assert_eq!(snapshot.total("engine_batches_total"), Some(0));
    assert_eq!(snapshot.total("engine_batches"), None);
    assert_eq!(snapshot.total("batch_delay_seconds"), None);
    assert_eq!(snapshot.histogram("engine_batches_total"), None);
    let delays = snapshot.histogram("batch_delay_seconds");
    assert_eq!(delays.map(|delays| delays.count()), Some(0));
}

#[test]
fn only_expected_notices_are_counted() {
    let metrics = Metrics::default();
    metrics.expect_notices(&["waiting", "connected"]);
    for kind in ["waiting", "waiting", "else"] {
        metrics.count_notice(kind);
    }
    let snapshot = metrics.snapshot();
    assert_eq!(snapshot.total("notices_total"), Some(2));
    assert_eq!(snapshot.get("notices_total", "connected"), Some(0));
}

#[test]
fn a_shard_is_busy_from_begin_to_end() {
    let (metrics, clock) = (Metrics::default(), Clock::manual(Duration::ZERO));
    let mut shard = metrics.shard("0", &clock);
    let begin = shard.begin();
    clock.advance(Duration::from_nanos(1_500_000_000));
    shard.counted(begin, 10, 2);
    let begin = shard.begin();
    clock.advance(Duration::from_millis(1));
    shard.sealed(begin);
    let snapshot = metrics.snapshot();
    let totals = ["blocks", "bytes", "records"];
    let totals = totals.map(|what| snapshot.get(&format!("shard_{what}_total"), "0"));
    assert_eq!(totals, [Some(1), Some(10), Some(2)]);
    let busy = snapshot.get("shard_busy_seconds_total", "0");
    assert_eq!(busy, Some(1_501_000_000));
    assert!(page(&snapshot).contains("shard_busy_seconds_total{shard=\"0\"} 1.501\n"));
}

fn page(snapshot: &Snapshot) -> String {
    let mut page = Vec::new();
    snapshot
        .write_prometheus(&mut page)
        .expect("a Vec takes it");
    String::from_utf8(page).expect("it is text")
}

#[test]
fn the_text_for_prometheus_has_every_metric_and_escapes_labels() {
    let metrics = Metrics::default();
    metrics.source("tcp://a\"b\\c\nd").publish(&intake(5));
    metrics.set_memory_limit(Some(1 << 20));
    let mut publisher = metrics.publisher();
    for ns in [1, 1_023, 1_024, 70_000_000_000] {
        let time = Duration::from_nanos(ns);
        publisher.update(|cells| cells.merge.record(time));
    }
    let page = page(&metrics.snapshot());
    for family in Snapshot::families() {
        let help = format!("# HELP microtally_{} {}\n", family.name, family.help);
        assert_eq!(page.matches(&help).count(), 1, "{}", family.name);
    }
    for line in [
        r#"microtally_source_bytes_total{source="tcp://a\"b\\c\nd"} 5"#,
        "microtally_memory_limit_bytes 1048576",
        "# TYPE microtally_publisher_merge_seconds histogram",
        r#"microtally_publisher_merge_seconds_bucket{le="0.000001024"} 2"#,
        r#"microtally_publisher_merge_seconds_bucket{le="0.000004096"} 3"#,
        r#"microtally_publisher_merge_seconds_bucket{le="68.719476736"} 3"#,
        r#"microtally_publisher_merge_seconds_bucket{le="+Inf"} 4"#,
        "microtally_publisher_merge_seconds_sum 70.000002048",
        "microtally_publisher_merge_seconds_count 4",
    ] {
        assert!(
            page.lines().any(|it| it == line),
            "{line} is missing in\n{page}"
        );
    }
}
