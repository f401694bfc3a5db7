//! Tests of the parser: defaults, every option, every message, help, and that nothing panics.

use super::options::ListenArgs;
use super::*;
use proptest::prelude::*;

fn error(line: &str) -> String {
    parse(line.split('|')).expect_err(line).to_string()
}

fn words(line: &str) -> StreamArgs {
    match parse(
        format!("microtally|words|{line}")
            .trim_end_matches('|')
            .split('|'),
    ) {
        Ok(Command::Words(words)) => words,
        other => panic!("{line}: {other:?}"),
    }
}

/// The value without `--kernel`: tests may run with the environment variable set.
fn kernel() -> KernelArg {
    let name = std::env::var("MICROTALLY_KERNEL").ok();
    let name = name.filter(|name| !name.is_empty());
    KernelArg { name }
}

#[test]
fn defaults_match_the_manual() {
    let threads = ThreadArgs {
        workers: WorkersArg::Auto,
        pin: true,
        kernel: kernel(),
    };
    let load = LoadArgs {
        rate: RateArg::Max,
        seed: 1,
        vocabulary: 50_000,
        zipf_exponent: 1.0,
    };
    let counting = CountingArgs {
        sources: Vec::new(),
        follow: false,
        from: None,
        reconnect: ReconnectArg::After(Duration::from_secs(2)),
        listening: ListenArgs {
            connections_max: None,
            connections_per_peer_max: None,
            idle_timeout: None,
            drain_wait: Duration::from_secs(1),
        },
        split: None,
        split_whitespace: false,
        cr: false,
        null: false,
        record_bytes_max: 16 << 20,
        greps: Vec::new(),
        nots: Vec::new(),
        keys: Vec::new(),
        aggregate: aggregate::AggregateList::default(),
        value: None,
        top: None,
        format: None,
        stats: None,
        color: ColorArg::Auto,
        memory: None,
        on_limit: OnLimitArg::Approx,
        hash_seed: None,
        threads: threads.clone(),
    };
    let batching = BatchArgs {
        interval: None,
        batches: None,
        window: None,
        slide: None,
    };
    let words = StreamArgs {
        counting: counting.clone(),
        batching: batching.clone(),
    };
    assert_eq!(
        parse(["microtally", "words"]).unwrap(),
        Command::Words(words)
    );
    let top = StreamArgs {
        counting: counting.clone(),
        batching,
    };
    assert_eq!(parse(["microtally", "top"]).unwrap(), Command::Top(top));
    assert_eq!(
        parse(["microtally", "count"]).unwrap(),
        Command::Count(counting)
    );
    let demo = DemoArgs {
        load: load.clone(),
        interval: Duration::from_secs(1),
        batches: 5,
        top: TopArg::First(10),
        format: FormatArg::Pyspark,
        threads,
    };
    assert_eq!(parse(["microtally", "demo"]).unwrap(), Command::Demo(demo));
    let generate = GenArgs {
        load,
        listen: None,
        total_bytes: None,
    };
    assert_eq!(
        parse(["microtally", "gen"]).unwrap(),
        Command::Gen(generate)
    );
    let bench = BenchArgs {
        rounds: None,
        text_bytes: None,
        only: Vec::new(),
        quick: false,
        kernel: kernel(),
    };
    assert_eq!(
        parse(["microtally", "bench"]).unwrap(),
        Command::Bench(bench)
    );
}

#[test]
fn every_option_is_read() {
    let all = words(
        "h:1|a.log|-F|--from|start|-i|500ms|-n|all|--split|,|-o|json|--reconnect|never|--batches|7|-j|3|--no-pin|\
         --max-record|1KiB|--stats=json|--kernel|avx2|-k|field:2|-k|csv:1|-g|a|-g|b|-G|c|-a|mean|\
         -v|field:3|--color|never|--max-memory|1GiB|--on-limit|other|--hash-seed|3|-w|5m|--slide|1s|\
         --max-connections|9|--max-connections-per-ip|2|--idle-timeout|30s|--drain-timeout|0s",
    );
    let StreamArgs {
        counting: all,
        batching,
    } = all;
    let tcp = SourceSpec::Tcp(AddressArg {
        host: "h".into(),
        port: 1,
    });
    assert_eq!(all.sources, [tcp, SourceSpec::Files("a.log".into())]);
    assert!(all.follow);
    assert_eq!(all.from, Some(FromArg::Start));
    assert_eq!(
        batching,
        BatchArgs {
            interval: Some(Duration::from_millis(500)),
            batches: Some(7),
            window: Some(Duration::from_secs(300)),
            slide: Some(Duration::from_secs(1)),
        }
    );
    assert_eq!(
        (all.top, all.format),
        (Some(TopArg::All), Some(FormatArg::Json))
    );
    assert_eq!(
        all.keys,
        ["field:2", "csv:1"].map(|text| keys::key(text).unwrap())
    );
    assert_eq!(
        (&all.greps[..], &all.nots[..]),
        (&["a".into(), "b".into()][..], &["c".into()][..])
    );
    assert_eq!(
        (all.aggregate, all.value),
        (
            aggregate::aggregates("mean").unwrap(),
            Some(keys::value("field:3").unwrap())
        )
    );
    assert_eq!(
        (all.memory, all.on_limit, all.hash_seed),
        (Some(MemoryArg::Bytes(1 << 30)), OnLimitArg::Other, Some(3))
    );
    assert_eq!(all.color, ColorArg::Never);
    assert_eq!(
        all.listening,
        ListenArgs {
            connections_max: Some(9),
            connections_per_peer_max: Some(2),
            idle_timeout: Some(Duration::from_secs(30)),
            drain_wait: Duration::ZERO,
        }
    );
    assert_eq!(
        (all.split, all.reconnect),
        (Some(b','), ReconnectArg::Never)
    );
    assert_eq!(
        all.threads,
        ThreadArgs {
            workers: WorkersArg::Exactly(3),
            pin: false,
            kernel: KernelArg {
                name: Some("avx2".into())
            },
        }
    );
    assert_eq!(
        (all.record_bytes_max, all.stats),
        (1_024, Some(StatsArg::Json))
    );
    // Without an equals sign, what follows --stats is the source.
    let text = words("--split-whitespace|--stats|-").counting;
    assert_eq!(text.sources, [SourceSpec::Stdin]);
    assert_eq!(
        (text.split_whitespace, text.split, text.stats),
        (true, None, Some(StatsArg::Text))
    );
    let line = "microtally gen --listen [::]:0 --rate 1MB/s --total 2G --seed 9 \
                --vocabulary 10 --zipf 0";
    let load = LoadArgs {
        rate: RateArg::BytesPerSecond(1_000_000),
        seed: 9,
        vocabulary: 10,
        zipf_exponent: 0.0,
    };
    let listen = Some(AddressArg {
        host: "::".into(),
        port: 0,
    });
    let generate = GenArgs {
        load,
        listen,
        total_bytes: Some(2 << 30),
    };
    assert_eq!(
        parse(line.split_whitespace()).unwrap(),
        Command::Gen(generate)
    );
    let line = "microtally bench --rounds 3 --size 1MB --only english,log --quick --kernel scalar";
    let bench = BenchArgs {
        rounds: Some(3),
        text_bytes: Some(1_000_000),
        only: vec!["english".into(), "log".into()],
        quick: true,
        kernel: KernelArg {
            name: Some("scalar".into()),
        },
    };
    assert_eq!(
        parse(line.split_whitespace()).unwrap(),
        Command::Bench(bench)
    );
}

#[test]
fn errors_name_the_option_the_value_and_what_is_allowed() {
    for (line, parts) in [
        ("words|", "[SOURCE]|a source cannot be empty|allowed are"),
        ("words|tcp://:9999", "'tcp://:9999'|no host name"),
        ("words|tcp://a b:1", "no host name|allowed are"),
        ("words|tcp://h:0", "port 0"),
        ("words|tcp://h:65536", "1 to 65535"),
        ("words|tcp://h:+1", "1 to 65535"),
        ("words|tcp://h:", "1 to 65535"),
        ("words|tcp://::1:9999", "needs brackets"),
        ("words|tcp://[::1]", "no ]:PORT"),
        ("words|tcp://[1.2.3.4]:5", "no IPv6 address"),
        ("words|tcp://tcp", "no :PORT"),
        ("words|tcp://tcp://h:1", "[SOURCE]|allowed are"),
        ("words|udp-listen://h", "no :PORT|udp-listen://HOST:PORT"),
        ("words|unix://", "no path|unix:///PATH"),
        ("top|--slide|1s", "--window"),
        ("top|-w|0s", "--window|'0s'|1ms"),
        ("count|-i|1s", "unexpected argument '-i'"),
        (
            "count|--max-memory|0B",
            "--max-memory|'0B'|for example 512MiB, or none",
        ),
        (
            "count|--on-limit|die",
            "--on-limit|'die'|approx, other, error",
        ),
        (
            "count|-a|median",
            "--aggregate|'median'|count, sum, mean, min, max, distinct|p99.9",
        ),
        ("completions|tcsh", "'tcsh'|bash"),
        ("words|kafka://x/y", "kafka:// is not supported yet"),
        ("words|http://h:1", "unknown kind of source|allowed are"),
        ("words|-i|5", "--interval|'5'|write 5s"),
        ("words|-i|0s", "--interval|'0s'|1ms"),
        ("words|-i|0.5ms", "whole milliseconds"),
        ("words|-i", "a value is required|--interval"),
        ("words|-n|-1", "--top|'-1'|or all"),
        ("words|-n|ten", "--top|'ten'|or all"),
        ("words|--split|", "--split|0 bytes|exactly one"),
        (
            "words|--split|ab",
            "--split|'ab'|2 bytes|--split-whitespace",
        ),
        ("words|--split|é", "2 bytes"),
        ("words|--split|\\xg0", "exactly one"),
        ("words|--split|,|--split-whitespace", "cannot be used with"),
        ("words|-o|xml", "--format|'xml'|pyspark, table, tsv, json"),
        (
            "words|--reconnect|soon",
            "--reconnect|'soon'|or write never",
        ),
        ("words|--reconnect|0s", "1ms; or write never"),
        ("words|--batches|0", "--batches|'0'|from 1"),
        (
            "words|--max-connections|0",
            "--max-connections|'0'|1 to 1000000",
        ),
        (
            "words|--max-connections-per-ip|x",
            "--max-connections-per-ip|'x'|1 to 1000000",
        ),
        (
            "words|--idle-timeout|0s",
            "--idle-timeout|'0s'|1ms; or write never",
        ),
        (
            "words|--idle-timeout|x",
            "--idle-timeout|'x'|or write never",
        ),
        ("words|--drain-timeout|1", "--drain-timeout|'1'|write 1s"),
        ("words|-j|0", "--workers|'0'|1 to 256, or auto"),
        ("words|-j|257", "1 to 256, or auto"),
        (
            "words|--max-record|1023",
            "--max-record|1023B is outside|1KiB to 1GiB",
        ),
        ("words|--max-record|1.1GiB", "1KiB to 1GiB"),
        ("words|--stats=xml", "--stats|'xml'|text, json"),
        ("words|--interva|1s", "--interval"),
        ("demo|--rate|10", "--rate|'10'|100MB/s|or write max"),
        ("demo|--rate|0/s", "or more; or write max"),
        ("demo|--seed|-1", "unexpected argument"),
        (
            "demo|--seed|18446744073709551616",
            "--seed|18446744073709551615",
        ),
        ("demo|--vocabulary|0", "--vocabulary|'0'|1 to 10000000"),
        ("demo|--zipf|nan", "--zipf|'nan'|0 to 4"),
        ("demo|--zipf|4.01", "0 to 4"),
        ("gen|--total|0", "--total|'0'|leave --total out"),
        (
            "gen|--listen|9999",
            "--listen|'9999'|no :PORT|127.0.0.1:9999",
        ),
        ("bench|--rounds|0", "--rounds|'0'|1 to 1000"),
        (
            "bench|--size|1KiB",
            "--size|1KiB is outside|64KiB to 512MiB",
        ),
        ("bench|--kernel", "a value is required|--kernel"),
        ("tops|-", "unrecognized subcommand|top"),
    ] {
        let error = error(&format!("microtally|{line}"));
        for part in parts.split('|') {
            assert!(error.contains(part), "{line} lacks {part}:\n{error}");
        }
    }
}

#[test]
fn short_help_fits_a_screen_and_long_help_has_examples() {
    for command in ["words", "top", "count", "demo", "gen", "bench"] {
        let help = parse(["microtally", command, "-h"]).unwrap_err();
        assert_eq!(help.exit_code(), 0);
        let help = help.to_string();
        assert!(help.lines().count() <= 24, "{help}");
        assert!(
            help.lines().all(|line| line.chars().count() <= 80),
            "{help}"
        );
        assert!(error(&format!("microtally|{command}|--help")).contains("\nExamples:\n"));
    }
    assert!(error("microtally|--version").starts_with("microtally "));
    assert_eq!(parse(["microtally"]).unwrap_err().exit_code(), 2);
}

proptest! {
    #[test]
    fn nothing_panics(command in "words|top|count|demo|gen|bench|man|\\PC*", args in prop::collection::vec(
        prop_oneof![
            any::<String>(),
            "(-[injohkgGavwF]|--(split|stats|rate|total|zipf|seed|listen|max-record|max-memory|kernel|size|only)=?)\\PC{0,6}",
            "[0-9.]{0,25}[kKmMgGsh]?(iB|b|s|/s)?",
            "((tcp|unix|udp-listen)://)?\\[?[0-9a-z:%.]{0,9}\\]?:?[0-9]{0,6}",
        ],
        0..6,
    )) {
        let _ = parse(["microtally".to_owned(), command].into_iter().chain(args));
    }
}
