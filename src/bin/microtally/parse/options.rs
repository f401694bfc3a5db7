//! Options that several commands share.
//!
//! Promise: an option means the same in every command. Where its default depends on the command, it
//! is absent here and its help says so. Must not know: `command`.

use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args, ValueEnum};

use super::aggregate::{self, AggregateList};
use super::keys::{self, KeySpec};
use super::units::{self, MemoryArg, RateArg, ReconnectArg, SourceSpec, TopArg, WorkersArg};
use microtally::extract::Selector;

/// File names need not be UTF-8.
fn source() -> impl TypedValueParser<Value = SourceSpec> {
    OsStringValueParser::new().try_map(|text| units::source(&text))
}

/// Clap's own error for a value that is not UTF-8 would not name the option.
fn utf8<T: Clone + Send + Sync + 'static>(
    parse: impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static,
) -> impl TypedValueParser<Value = T> {
    OsStringValueParser::new().try_map(move |text| match text.to_str() {
        Some(text) => parse(text),
        None => Err("it is not UTF-8; in a regex a byte is written (?-u:\\xFF)".to_owned()),
    })
}

/// Where reading a followed file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FromArg {
    /// At its first line.
    Start,
    /// At the first line that ends after the program has started.
    End,
}

/// Options of every command that counts.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(about = None, long_about = None)]
pub(crate) struct CountingArgs {
    /// Files, globs or URLs [default: -, standard input]
    ///
    /// PATH or a glob with * ? [a-z] {a,b}; - for standard input; HOST:PORT or tcp://HOST:PORT to
    /// connect to a server; tcp-listen://HOST:PORT and udp-listen://HOST:PORT to listen;
    /// unix:///PATH and unix-listen:///PATH for Unix sockets; dir:///PATH for new files in a
    /// directory. Write ./HOST:PORT for a file whose name looks like an address. Several sources
    /// are counted together.
    ///
    /// Files and standard input that hold gzip, zstd, bzip2, xz or lz4 data are decompressed,
    /// whatever their names. UTF-16 with a byte order mark is converted to UTF-8, and a UTF-8 byte
    /// order mark is skipped. Nothing is decoded with -F, from dir:/// or from sockets; data that
    /// looks encoded is reported there.
    #[arg(value_name = "SOURCE", value_parser = source(), help_heading = "Input")]
    #[arg(display_order = 0)]
    pub sources: Vec<SourceSpec>,
    /// Follow files as they grow and rotate, like tail -F
    ///
    /// A quoted glob such as 'app-*.log' also follows files that appear later. It should not match
    /// the copies that log rotation makes, because each copy would be a new file. Followed files
    /// are not decompressed; compressed ones are reported. Pipes and devices are read to their end,
    /// as without this option.
    #[arg(short = 'F', long, help_heading = "Input")]
    pub follow: bool,
    /// Where to begin in followed files: start or end [default: end; count: start]
    ///
    /// end skips the lines that a file holds when the program starts. Files that appear later are
    /// always read from their start.
    #[arg(
        long,
        value_name = "start|end",
        requires = "follow",
        hide_possible_values = true
    )]
    #[arg(help_heading = "Input", hide_short_help = true)]
    pub from: Option<FromArg>,
    /// How long to wait before reconnecting, or never to end instead
    #[arg(long, value_name = "DUR|never", default_value = "2s", value_parser = units::reconnect)]
    #[arg(help_heading = "Input", hide_short_help = true)]
    pub reconnect: ReconnectArg,
    /// Who may connect, and for how long.
    #[command(flatten)]
    pub listening: ListenArgs,
    /// One byte that separates words or fields: , or \t or \x1f
    ///
    /// As with Python's split(" "), two separators in a row have an empty word between them.
    /// Escapes: \0 \t \n \v \f \r \\ \xNN. By default words splits at every space, and the other
    /// commands split at runs of white space.
    #[arg(long, value_name = "CHAR", value_parser = units::split_byte, help_heading = "Input")]
    pub split: Option<u8>,
    /// Split at runs of white space, like Python's split()
    #[arg(
        long,
        conflicts_with = "split",
        help_heading = "Input",
        hide_short_help = true
    )]
    pub split_whitespace: bool,
    /// Also end records at a lone carriage return
    ///
    /// This is what Spark does. By default count and top end records at \n and \r\n only, like sort
    /// and grep. words always ends them at \n, \r and \r\n.
    #[arg(long, help_heading = "Input", hide_short_help = true)]
    pub cr: bool,
    /// End records at NUL only: for find -print0
    ///
    /// Reads what find -print0, sort -z and git -z write. Line ends are part of the record.
    #[arg(
        short = '0',
        long,
        conflicts_with = "cr",
        help_heading = "Input",
        hide_short_help = true
    )]
    pub null: bool,
    /// Longest line that is kept whole, 1KiB to 1GiB
    ///
    /// A longer line is dropped, unless lines are only split into words: then only words that are
    /// longer are skipped. What was dropped or skipped is reported.
    #[arg(long = "max-record", value_name = "SIZE", default_value = "16MiB")]
    #[arg(value_parser = units::size(1 << 10..=1 << 30), help_heading = "Input", hide_short_help = true)]
    pub record_bytes_max: usize,
    /// Only count lines that match (-G: lines that do not)
    ///
    /// The syntax is that of the Rust regex crate. A regex that needs more than 2 MiB is refused;
    /// use smaller counts in {}, or (?-u:\w) instead of \w. If given several times, a line must
    /// match all of them.
    #[arg(
        short = 'g',
        long = "grep",
        value_name = "REGEX",
        allow_hyphen_values = true,
        value_parser = utf8(|text| Ok(text.to_owned())),
        help_heading = "Input"
    )]
    pub greps: Vec<String>,
    /// Only count lines that do not match
    ///
    /// If given several times, a line must match none of them.
    #[arg(
        short = 'G',
        long = "not",
        value_name = "REGEX",
        allow_hyphen_values = true,
        value_parser = utf8(|text| Ok(text.to_owned())),
        help_heading = "Input"
    )]
    #[arg(hide_short_help = true)]
    pub nots: Vec<String>,
    /// line, word, field:N, csv:N, json:/PTR or re:REGEX
    ///
    /// By default words counts words, and the other commands count lines.
    ///
    /// field:N is the Nth field, like $N in awk: separated by runs of white space, or by the
    /// --split byte. Negative numbers count from the end. csv:N is the Nth column of quoted CSV.
    /// json:/PTR is the value at a JSON pointer. re:REGEX is the group named key, or the first
    /// group, or the whole match.
    ///
    /// Several keys, separated by commas or given several times, are counted together, joined by
    /// tabs. After a regex, a comma begins the next key only if a kind and a colon follow:
    /// re:s=(\d),field:2. Write [,] for such a comma that belongs to the regex.
    ///
    /// Lines without the key are skipped; their number, the reason and an example are reported. A
    /// CSV record that spans lines is not joined; the number of lines that end inside quotes is
    /// reported.
    #[arg(
        short = 'k',
        long = "key",
        value_name = "KEY",
        value_parser = utf8(keys::key), help_heading = "Counting"
    )]
    pub keys: Vec<KeySpec>,
    /// count,sum,mean,min,max,p99,distinct
    ///
    /// All but count are of -v. Several, with commas between, are one column each. Results are in
    /// the order of the first.
    ///
    /// Numbers with up to nine decimal places are added exactly while the sum is below 10^29,
    /// others as doubles. A mean is the nearest double, in as few digits as read back. A sum beyond
    /// the range of a double (1.8e308) is null.
    ///
    /// A percentile, p0 to p100, is at most 0.8 % off, and exact for whole numbers up to 255. That
    /// holds from 9e-10 to 1.6e29: what is nearer to zero counts as 0, what is beyond as 1.6e29.
    /// The number of distinct values is exact up to 512, then it has a standard error of 1.6 %.
    #[arg(short = 'a', long, value_name = "WHAT", default_value = "count")]
    #[arg(value_parser = aggregate::aggregates, help_heading = "Counting")]
    pub aggregate: AggregateList,
    /// Value for -a: field:N, csv:N, json:/PTR or re:REGEX
    ///
    /// It has to be a number, unless -a is only count and distinct. A line is skipped if it has no
    /// such value, if the value is not a number, or if the number is beyond the range of a double
    /// (1e400). The number of skipped lines and an example are reported for each reason.
    #[arg(
        short = 'v',
        long,
        value_name = "KEY",
        value_parser = utf8(keys::value), help_heading = "Counting"
    )]
    pub value: Option<Selector>,
    /// How many results, greatest first
    ///
    /// 0 prints no key, as head -n 0 prints no line: use it for the totals of table and json, or
    /// with --stats.
    // Negative numbers reach the parsers, which report what is allowed; the same holds for other
    // options.
    #[arg(short = 'n', long, value_name = "N|all", value_parser = units::top)]
    #[arg(allow_negative_numbers = true)]
    #[arg(help_heading = "Results")]
    pub top: Option<TopArg>,
    /// pyspark, table, tsv or json
    ///
    /// By default words prints pyspark. The other commands print a table on a terminal and tsv into
    /// a pipe. Characters that are not printable are escaped in every format. In a table an empty
    /// key is (empty), and a space at the end of a key is \x20.
    #[arg(short = 'o', long, value_name = "FORMAT", help_heading = "Results")]
    #[arg(hide_possible_values = true)]
    pub format: Option<FormatArg>,
    /// Print statistics to standard error at the end: text or json
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "text", hide_possible_values = true)]
    #[arg(help_heading = "Results", hide_short_help = true)]
    pub stats: Option<StatsArg>,
    /// Colors of the live view: auto, always or never
    ///
    /// auto uses colors unless NO_COLOR is set. Other output has no colors, so words and count
    /// refuse always.
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true
    )]
    #[arg(help_heading = "Results", hide_short_help = true)]
    pub color: ColorArg,
    /// Memory limit: 512MiB, or none [default: half]
    ///
    /// The default is half of what the control group or ulimit -v allows, or of what the machine
    /// has free. The environment variable MICROTALLY_MAX_MEMORY also sets it. The windows of
    /// compressed zstd and xz input may take an eighth of the limit, and 8 MiB in any case.
    #[arg(long = "max-memory", value_name = "SIZE|none", value_parser = units::memory)]
    #[arg(
        env = "MICROTALLY_MAX_MEMORY",
        hide_env = true,
        help_heading = "Running"
    )]
    pub memory: Option<MemoryArg>,
    /// What to do when keys no longer fit: approx, other or error
    ///
    /// approx: counts become upper bounds, and the results say how much too high they are at most.
    /// Sums, minima, maxima and means have no such bound and are treated as with other.
    ///
    /// other: no new keys are added; their records are counted together. A value that may lack
    /// records of its key says how many at most (missing_max in json); all other values are exact.
    ///
    /// error: the run ends with exit code 5.
    #[arg(
        long,
        value_name = "HOW",
        default_value = "approx",
        hide_possible_values = true
    )]
    #[arg(help_heading = "Running", hide_short_help = true)]
    pub on_limit: OnLimitArg,
    /// Hash keys with this seed, so that equal runs give equal results
    ///
    /// The seed matters only beyond the memory limit, where it decides which keys are kept. Two
    /// runs over the same uncompressed files with -j 1 and the same seed print the same. Do not use
    /// it for untrusted input, which could be made of keys that collide.
    #[arg(long = "hash-seed", value_name = "N", value_parser = units::number(0..=u64::MAX))]
    #[arg(help_heading = "Running", hide_short_help = true)]
    pub hash_seed: Option<u64>,
    /// How many threads count, and whether they are pinned.
    #[command(flatten)]
    pub threads: ThreadArgs,
}

/// Limits for clients of `tcp-listen://` and `unix-listen://`.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(about = None, long_about = None)]
pub(crate) struct ListenArgs {
    /// Clients of a listening source at a time; others are closed at once [default: 1024]
    ///
    /// The default is lower if the limit of open files requires it. A client counts until it has
    /// disconnected and everything it sent has been read.
    #[arg(long = "max-connections", value_name = "N", value_parser = units::count(1..=1_000_000))]
    #[arg(help_heading = "Listening", hide_short_help = true)]
    pub connections_max: Option<usize>,
    /// Clients per IP address of tcp-listen:// [default: a quarter; loopback: no limit]
    ///
    /// By default an address of another machine may have a quarter of --max-connections, but at
    /// least 16.
    #[arg(long = "max-connections-per-ip", value_name = "N", value_parser = units::count(1..=1_000_000))]
    #[arg(help_heading = "Listening", hide_short_help = true)]
    pub connections_per_peer_max: Option<usize>,
    /// Close clients that are silent for this long, or never [default: 1h; this machine: never]
    ///
    /// An incomplete last line is counted, as when the client disconnects. By default clients on
    /// loopback addresses and Unix sockets are never closed.
    #[arg(long, value_name = "DUR", value_parser = units::timeout)]
    #[arg(help_heading = "Listening", hide_short_help = true)]
    pub idle_timeout: Option<Duration>,
    /// How long to wait at the end for clients to disconnect
    ///
    /// On Ctrl-C and SIGTERM clients see the end of the connection. What they send before they
    /// disconnect is still counted. Clients that are connected after this time are closed; how many
    /// had sent more is reported.
    #[arg(long = "drain-timeout", value_name = "DUR", default_value = "1s")]
    #[arg(value_parser = units::parse_duration, help_heading = "Listening", hide_short_help = true)]
    pub drain_wait: Duration,
}

/// How often results are printed, for commands that print them repeatedly.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(about = None, long_about = None)]
pub(crate) struct BatchArgs {
    /// Batch interval, at least 1ms: 500ms, 2m
    #[arg(short, long, value_name = "DUR", value_parser = units::interval)]
    #[arg(help_heading = "Results")]
    pub interval: Option<Duration>,
    /// Stop after N batches [default: no limit]
    #[arg(long, value_name = "N", value_parser = units::number(1..=u64::MAX))]
    #[arg(allow_negative_numbers = true)]
    #[arg(help_heading = "Results", hide_short_help = true)]
    pub batches: Option<u64>,
    /// Count only the last DUR, a sliding window: 5m
    #[arg(short, long, value_name = "DUR", value_parser = units::interval)]
    #[arg(help_heading = "Results")]
    pub window: Option<Duration>,
    /// How often to print the window [default: every batch]
    #[arg(long, value_name = "DUR", requires = "window", value_parser = units::interval)]
    #[arg(help_heading = "Results", hide_short_help = true)]
    pub slide: Option<Duration>,
}

/// The threads that count.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(about = None, long_about = None)]
pub(crate) struct ThreadArgs {
    /// Counting threads, 1 to 256
    ///
    /// auto is one less than the cores this process may use, because the reading thread counts too.
    /// The environment variable MICROTALLY_WORKERS also sets it.
    #[arg(short = 'j', long, value_name = "N|auto", default_value = "auto")]
    #[arg(env = "MICROTALLY_WORKERS", hide_env = true)]
    #[arg(value_parser = units::workers, help_heading = "Running")]
    #[arg(allow_negative_numbers = true)]
    pub workers: WorkersArg,
    /// Do not pin counting threads to cores
    #[arg(long = "no-pin", action = ArgAction::SetFalse, help_heading = "Running")]
    #[arg(hide_short_help = true)]
    pub pin: bool,
    /// How input is split.
    #[command(flatten)]
    pub kernel: KernelArg,
}

/// The code that finds separators.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(about = None, long_about = None)]
pub(crate) struct KernelArg {
    /// Find separators with this kernel instead of the fastest one
    ///
    /// One of scalar, portable, avx2 and avx512, if this CPU supports it. All kernels give the same
    /// results. The environment variable MICROTALLY_KERNEL also sets it.
    #[arg(
        long = "kernel",
        value_name = "NAME",
        env = "MICROTALLY_KERNEL",
        hide_env = true
    )]
    #[arg(hide_short_help = true, help_heading = "Running")]
    pub name: Option<String>,
}

/// What the load generator generates, and how fast it sends.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(about = None, long_about = None)]
pub(crate) struct LoadArgs {
    /// Bytes per second: 100MB/s, or max
    #[arg(long, value_name = "SIZE/s|max", default_value = "max", value_parser = units::rate)]
    #[arg(help_heading = "Load")]
    pub rate: RateArg,
    /// The same seed generates the same text
    #[arg(long, value_name = "N", default_value = "1", value_parser = units::number(0..=u64::MAX), help_heading = "Load")]
    pub seed: u64,
    /// Distinct words, 1 to 10000000
    #[arg(long, value_name = "N", default_value = "50000", value_parser = units::count(1..=10_000_000))]
    #[arg(help_heading = "Load")]
    pub vocabulary: usize,
    /// Zipf exponent, 0 to 4; prose: about 1
    #[arg(long = "zipf", value_name = "EXPONENT", default_value = "1.0", value_parser = units::zipf)]
    #[arg(help_heading = "Load")]
    pub zipf_exponent: f64,
}

/// What happens when keys no longer fit into memory.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum OnLimitArg {
    /// Counts become upper bounds with a known error
    Approx,
    /// New keys are counted together
    Other,
    /// The run ends
    Error,
}

/// When the live view has colors.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum ColorArg {
    /// Unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum FormatArg {
    /// As PySpark's pprint writes them
    Pyspark,
    /// In columns, for people
    Table,
    /// One line per result: batch time in milliseconds, key, count
    Tsv,
    /// One object per line and batch
    Json,
}

/// How statistics are written.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum StatsArg {
    /// For people
    Text,
    /// For programs
    Json,
}
