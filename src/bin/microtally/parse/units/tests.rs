//! Tests of values as people type them.

use super::*;

#[test]
fn sizes() {
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4_096),
        ("1B", 1),
        ("64KiB", 65_536),
        ("64kib", 65_536),
        ("64K", 65_536),
        ("64k", 65_536),
        ("1kB", 1_000),
        ("1KB", 1_000),
        ("1MB", 1_000_000),
        ("1mb", 1_000_000),
        ("2G", 2 << 30),
        ("3TiB", 3 << 40),
        ("1.5MiB", 3 << 19),
        ("0.1K", 102),
        ("1.50", 1),
        ("18446744073709551615", u64::MAX),
    ] {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
    for (text, message) in [
        ("", "write a number of bytes"),
        ("MiB", "write a number"),
        ("-1", "write a number"),
        ("+1", "write a number"),
        ("1 MB", "write a number"),
        ("1.MB", "write a number"),
        (".5MB", "write a number"),
        ("1.2.3", "write a number"),
        ("1e6", "write a number"),
        ("1P", "write a number"),
        ("1MiBs", "write a number"),
        ("1MB/s", "write a number"),
        ("٣", "write a number"),
        ("1é", "write a number"),
        ("0.0000000000000000001", "write a number"),
        ("10Mb", "Mb may mean bits; write MB"),
        ("18446744073709551616", "write a number"),
        ("16777216TiB", "more than 2^64 bytes"),
    ] {
        let error = parse_size(text).unwrap_err();
        assert!(error.contains(message), "{text}: {error}");
    }
}

#[test]
fn durations() {
    for (text, milliseconds) in [
        ("0s", 0),
        ("1ms", 1),
        ("500ms", 500),
        ("5s", 5_000),
        ("1.5s", 1_500),
        ("0.001s", 1),
        ("1.000s", 1_000),
        ("2m", 120_000),
        ("0.5m", 30_000),
        ("1h", 3_600_000),
        ("8760h", 31_536_000_000),
    ] {
        assert_eq!(
            parse_duration(text),
            Ok(Duration::from_millis(milliseconds)),
            "{text}"
        );
    }
    for (text, message) in [
        ("5", "the unit is missing; write 5s or 5ms"),
        ("", "ms, s, m, h"),
        ("s", "ms, s, m, h"),
        ("5 s", "ms, s, m, h"),
        ("5S", "ms, s, m, h"),
        ("5sec", "ms, s, m, h"),
        ("1d", "ms, s, m, h"),
        ("1h30m", "ms, s, m, h"),
        ("-5s", "ms, s, m, h"),
        ("1.5ms", "only whole milliseconds"),
        ("1.0005s", "only whole milliseconds"),
        ("8760.001h", "longer than a year"),
        ("9999999999999999999h", "longer than a year"),
    ] {
        let error = parse_duration(text).unwrap_err();
        assert!(error.contains(message), "{text}: {error}");
    }
}

#[test]
fn rates() {
    for (text, bytes) in [("100MB/s", 100_000_000), ("1GiB/s", 1 << 30), ("1/s", 1)] {
        assert_eq!(parse_rate(text), Ok(bytes), "{text}");
    }
    for (text, message) in [
        ("", "100MB/s"),
        ("100MB", "100MB/s"),
        ("100MB/m", "100MB/s"),
        ("max", "100MB/s"),
        ("0/s", "1B/s or more"),
        ("/s", "write a number of bytes"),
        ("1Gb/s", "write GB"),
    ] {
        let error = parse_rate(text).unwrap_err();
        assert!(error.contains(message), "{text}: {error}");
    }
}

#[test]
fn formatted_bytes_are_exact_and_can_be_typed() {
    for (bytes, text) in [
        (0, "0B"),
        (1, "1B"),
        (1_000, "1KB"),
        (1_024, "1KiB"),
        (4_097, "4097B"),
        (16 << 20, "16MiB"),
        (1 << 30, "1GiB"),
        (5_000_000, "5MB"),
        (u64::MAX, "18446744073709551615B"),
    ] {
        assert_eq!(format_bytes(bytes), text);
        assert_eq!(parse_size(text), Ok(bytes));
    }
}

#[test]
fn sources() {
    let source = |text: &str| source(text.as_ref());
    assert_eq!(source("-"), Ok(SourceSpec::Stdin));
    for name in [
        "access.log",
        "a:b",
        "h:0",
        "h:65536",
        "::1:9",
        "./h:80",
        "*.log",
        "a b",
    ] {
        assert_eq!(source(name), Ok(SourceSpec::Files(name.into())));
    }
    let (host, port) = ("h".to_owned(), 0);
    let listen = SourceSpec::TcpListen(AddressArg { host, port });
    assert_eq!(source("tcp-listen://h:0"), Ok(listen));
    assert_eq!(source("unix:///a/b"), Ok(SourceSpec::Unix("/a/b".into())));
    assert_eq!(source("dir://in"), Ok(SourceSpec::Dir("in".into())));
    for text in [
        "tcp://h:1",
        "tcp-listen://[::1]:0",
        "udp-listen://h:1",
        "unix:///a",
        "dir://in",
        "a.log",
    ] {
        assert_eq!(
            source(text).map(|spec| spec.to_string()),
            Ok(text.to_owned())
        );
    }
    for (text, host, port) in [
        ("localhost:9999", "localhost", 9_999),
        ("tcp://a-b.example:65535", "a-b.example", 65_535),
        ("127.0.0.1:1", "127.0.0.1", 1),
        ("[::1]:9999", "::1", 9_999),
        ("tcp://[fe80::1%eth0]:80", "fe80::1%eth0", 80),
    ] {
        let host = host.to_owned();
        assert_eq!(source(text), Ok(SourceSpec::Tcp(AddressArg { host, port })));
    }
}

#[test]
fn separators() {
    for (text, byte) in [
        (" ", b' '),
        (",", b','),
        ("-", b'-'),
        ("\t", b'\t'),
        ("\\t", b'\t'),
        ("\\0", 0),
        ("\\n", b'\n'),
        ("\\", b'\\'),
        ("\\\\", b'\\'),
        ("\\x7C", b'|'),
        ("\\xff", 0xff),
    ] {
        assert_eq!(split_byte(text), Ok(byte), "{text}");
    }
}
