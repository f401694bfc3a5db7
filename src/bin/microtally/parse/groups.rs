//! Options that several commands share.
//!
//! Promise: an option means the same everywhere; where its default depends on the command, it is absent
//! here and its help says so. Must not know: which command it stands in.

use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, ValueEnum};

use super::spec::{self, Aggregate, KeySpec};
use super::units::{self, Memory, Rate, Reconnect, SourceSpec, Top, Workers};
use microtally::extract::Part;

/// File names need not be UTF-8.
fn source() -> impl TypedValueParser<Value = SourceSpec> {
    OsStringValueParser::new().try_map(|text| units::source(&text))
}

/// Clap's own error for what is not UTF-8 would not say of which option it is.
fn utf8<T: Clone + Send + Sync + 'static>(
    parse: impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static,
) -> impl TypedValueParser<Value = T> {
    OsStringValueParser::new().try_map(move |text| match text.to_str() {
        Some(text) => parse(text),
        None => Err("it is not UTF-8; in a regex a byte is written (?-u:\\xFF)".to_owned()),
    })
}

/// Where a followed file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Begin {
    /// With the first line it holds.
    Start,
    /// With the first line that ends after the program has started.
    End,
}

/// Options of every command that counts.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(about = None, long_about = None)]
pub(crate) struct Counting {
    /// Files, globs or URLs; - or nothing: standard input
    ///
    /// PATH, or a pattern with * ? [a-z] {a,b}; - for standard input; HOST:PORT or tcp://HOST:PORT to
    /// connect; tcp-listen://HOST:PORT and udp-listen://HOST:PORT to be connected to;
    /// unix:///PATH and unix-listen:///PATH; dir:///PATH for files that are put into a directory.
    /// A file whose name looks like HOST:PORT is written ./HOST:PORT. Several may be given.
    /// Files and standard input that hold gzip, zstd, bzip2, xz or lz4 data, whatever their names, are
    /// decompressed, each by one thread; all of them count what is inside. UTF-16 with a mark becomes UTF-8,
    /// and a UTF-8 mark is skipped. With -F, from dir:/// and from sockets nothing is decoded; what looks like
    /// such data is reported.
    #[arg(value_name = "SOURCE", value_parser = source(), help_heading = "Input")]
    #[arg(display_order = 0)]
    pub sources: Vec<SourceSpec>,
    /// Follow files as they grow, through rotation (tail -F)
    ///
    /// Followed files are counted as they are: what is compressed is not decompressed, and reported. A pipe or a device
    /// is read as without this option, and its end is its end. A quoted pattern, such as 'app-*.log', also follows the files that
    /// come later; it should not fit the copies that a rotator makes, each of which is a new file.
    #[arg(short = 'F', long, help_heading = "Input")]
    pub follow: bool,
    /// Where followed files begin: start or end [default: end; count: start]
    ///
    /// end leaves out the lines that files hold when the program starts. A file that comes later is always read
    /// from its start.
    #[arg(
        long,
        value_name = "start|end",
        requires = "follow",
        hide_possible_values = true
    )]
    #[arg(help_heading = "Input", hide_short_help = true)]
    pub from: Option<Begin>,
    /// Wait before connecting again, or never: end instead
    #[arg(long, value_name = "DUR|never", default_value = "2s", value_parser = units::reconnect)]
    #[arg(help_heading = "Input", hide_short_help = true)]
    pub reconnect: Reconnect,
    /// Who may connect, and for how long.
    #[command(flatten)]
    pub listening: Listening,
    /// How lines are split: `--split` and `--split-whitespace`.
    #[command(flatten)]
    pub split: Split,
    /// Where records end: `--cr` and `--null`.
    #[command(flatten)]
    pub ends: Ends,
    /// Longest line that is kept whole, 1KiB to 1GiB
    ///
    /// Where lines are only split into words, a longer one is counted as it comes, and only a word that is itself
    /// longer is left out. Otherwise it is dropped. What is left out or dropped is told.
    #[arg(long = "max-record", value_name = "SIZE", default_value = "16MiB")]
    #[arg(value_parser = units::record_bytes_max, help_heading = "Input", hide_short_help = true)]
    pub record_bytes_max: usize,
    /// Only lines this regex matches (-G: does not match)
    ///
    /// The syntax is that of the regex crate. A regex that takes more than 2 MiB is refused: smaller counts in
    /// its {} help, and (?-u:\w) in place of \w. Given several times, all have to match.
    #[arg(
        short = 'g',
        long = "grep",
        value_name = "REGEX",
        allow_hyphen_values = true,
        value_parser = utf8(|text| Ok(text.to_owned())),
        help_heading = "Input"
    )]
    pub greps: Vec<String>,
    /// Only lines this regex does not match
    ///
    /// Given several times, none may match.
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
    /// By default the command words counts words, the others lines.
    /// field:N is the Nth field, from 1, as $N in awk: between runs of blanks, or between separators if
    /// --split says which. csv:N is the Nth column of a line of quoted CSV. json:/PTR is what a JSON
    /// pointer finds in a line that is a JSON object. re:REGEX is the group named key, else the first
    /// group, else the match. Several keys, separated by commas or given several times, are counted
    /// together, joined by tabs. Behind a regex the next key begins with its kind and a colon:
    /// re:s=(\d),field:2; a comma that belongs to the regex is written [,] there. Lines that have no such
    /// key are skipped; how many, why, and one of them are reported. A CSV record that spans lines is not
    /// joined; how many lines end inside quotes is reported.
    #[arg(
        short = 'k',
        long = "key",
        value_name = "KEY",
        value_parser = utf8(spec::key), help_heading = "What is counted"
    )]
    pub keys: Vec<KeySpec>,
    /// count, or sum, min, max, mean of -v
    ///
    /// Numbers with up to nine decimal places are added exactly while the sum is below 10^29, others as
    /// doubles. A mean is exact or the nearest double, in as few digits as read back. A sum beyond the range
    /// of a double (1.8e308) is null.
    #[arg(short = 'a', long, value_name = "WHAT", default_value = "count")]
    #[arg(value_parser = spec::aggregate, help_heading = "What is counted")]
    pub aggregate: Aggregate,
    /// The number: field:N, csv:N, json:/PTR or re:REGEX
    ///
    /// Lines without such a value, with one that is not a number, and with a number beyond the range of a
    /// double (1e400) are skipped; how many of each, and one of them, are reported.
    #[arg(
        short = 'v',
        long,
        value_name = "KEY",
        value_parser = utf8(spec::value), help_heading = "What is counted"
    )]
    pub value: Option<Part>,
    /// How many, the greatest first
    ///
    /// 0 prints no key, as head -n 0 prints no line: for the totals that table and json print, or for --stats alone.
    // Negative numbers are for the parsers to refuse, which say what is allowed; so below.
    #[arg(short = 'n', long, value_name = "N|all", value_parser = units::top)]
    #[arg(allow_negative_numbers = true)]
    #[arg(help_heading = "Results")]
    pub top: Option<Top>,
    /// pyspark, table, tsv or json
    ///
    /// By default pyspark for words; for the others a table on a terminal, tsv in a pipe. No format writes
    /// a character that is not printable as it is. In a table an empty key is (empty), and a space at the
    /// end of a key is \x20.
    #[arg(short = 'o', long, value_name = "FORMAT", help_heading = "Results")]
    #[arg(hide_possible_values = true)]
    pub format: Option<Format>,
    /// Statistics on standard error at the end: text or json
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "text", hide_possible_values = true)]
    #[arg(help_heading = "Results", hide_short_help = true)]
    pub stats: Option<Stats>,
    /// Colours of the live view: auto, always or never
    ///
    /// auto: unless NO_COLOR is set. What is printed has none: words and count refuse always.
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true
    )]
    #[arg(help_heading = "Results", hide_short_help = true)]
    pub color: Color,
    /// For everything: 512MiB, none [default: half]
    ///
    /// Half of what the control group or ulimit -v allows or the machine has free. The environment variable
    /// MICROTALLY_MAX_MEMORY does the same. Of compressed input, zstd and xz may ask for a window of an eighth of it,
    /// and for 8 MiB in any case.
    #[arg(long = "max-memory", value_name = "SIZE|none", value_parser = units::memory)]
    #[arg(
        env = "MICROTALLY_MAX_MEMORY",
        hide_env = true,
        help_heading = "Running"
    )]
    pub memory: Option<Memory>,
    /// What to do when keys no longer fit: approx, other, error
    ///
    /// approx: counts become upper bounds, and the results say how far off they may be at most; sums, minima,
    /// maxima and means have no such bound and are treated as by other. other: no new keys, what they have is
    /// summed up; a value that may lack records of its key says how many at most (missing_max in json), all other
    /// values are exact. error: end, with exit code 5.
    #[arg(
        long,
        value_name = "HOW",
        default_value = "approx",
        hide_possible_values = true
    )]
    #[arg(help_heading = "Running", hide_short_help = true)]
    pub on_limit: OnLimit,
    /// Hash keys with this seed, so that equal runs are equal
    ///
    /// Beyond the memory limit it decides which keys are kept. Two runs over the same uncompressed files with -j 1
    /// and one seed print the same; results below the limit never depend on it. Not for input from strangers, who
    /// could choose keys that collide.
    #[arg(long = "hash-seed", value_name = "N", value_parser = units::seed)]
    #[arg(help_heading = "Running", hide_short_help = true)]
    pub hash_seed: Option<u64>,
    /// How many threads, and whether they are pinned.
    #[command(flatten)]
    pub threads: Threads,
}

/// Whoever connects to `tcp-listen://` and `unix-listen://`.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(about = None, long_about = None)]
pub(crate) struct Listening {
    /// Clients of a listening source at a time; others see an end at once [default: 1024]
    ///
    /// Without it 1024, or as many as the limit of open files allows. A client that has ended makes room as
    /// soon as it is read to its end, and new ones wait for that.
    #[arg(long = "max-connections", value_name = "N", value_parser = units::connections)]
    #[arg(help_heading = "Listening", hide_short_help = true)]
    pub connections_max: Option<usize>,
    /// Those of one address, for tcp-listen:// [default: a quarter; loopback: no limit]
    ///
    /// Without it one address of another machine may have a quarter of --max-connections, at least 16. A client
    /// is connected until it was read to its end.
    #[arg(long = "max-connections-per-ip", value_name = "N", value_parser = units::connections)]
    #[arg(help_heading = "Listening", hide_short_help = true)]
    pub connections_per_peer_max: Option<usize>,
    /// Close who has sent nothing for so long, or never [default: 1h; this machine: never]
    ///
    /// A line that was begun is counted as it is, as when the client ends the connection. Without it clients of
    /// loopback addresses and Unix sockets may be silent, others are closed after an hour.
    #[arg(long, value_name = "DUR", value_parser = units::timeout)]
    #[arg(help_heading = "Listening", hide_short_help = true)]
    pub idle_timeout: Option<Duration>,
    /// At the end, wait so long for clients to end as well
    ///
    /// On Ctrl-C and SIGTERM clients see an end, and what they send before they end too is counted. Who has
    /// not ended in time is closed, and how many had sent more is told.
    #[arg(long = "drain-timeout", value_name = "DUR", default_value = "1s")]
    #[arg(value_parser = units::wait, help_heading = "Listening", hide_short_help = true)]
    pub drain_wait: Duration,
}

/// When results come, for commands that give them again and again.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(about = None, long_about = None)]
pub(crate) struct Slides {
    /// Batch interval, from 1ms: 500ms, 2m
    #[arg(short, long, value_name = "DUR", value_parser = units::interval)]
    #[arg(help_heading = "Results")]
    pub interval: Option<Duration>,
    /// Stop after N batches [default: no end]
    #[arg(long, value_name = "N", value_parser = units::batches)]
    #[arg(allow_negative_numbers = true)]
    #[arg(help_heading = "Results", hide_short_help = true)]
    pub batches: Option<u64>,
    /// Count the last DUR only: keys that left are gone
    #[arg(short, long, value_name = "DUR", value_parser = units::interval)]
    #[arg(help_heading = "Results")]
    pub window: Option<Duration>,
    /// How often a window is shown [default: every batch]
    #[arg(long, value_name = "DUR", requires = "window", value_parser = units::interval)]
    #[arg(help_heading = "Results", hide_short_help = true)]
    pub slide: Option<Duration>,
}

/// The threads that count.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(about = None, long_about = None)]
pub(crate) struct Threads {
    /// Counting threads, 1 to 256
    ///
    /// auto: one less than the process may use cores, since the reading thread counts too. The environment variable MICROTALLY_WORKERS does the same.
    #[arg(short = 'j', long, value_name = "N|auto", default_value = "auto")]
    #[arg(env = "MICROTALLY_WORKERS", hide_env = true)]
    #[arg(value_parser = units::workers, help_heading = "Running")]
    #[arg(allow_negative_numbers = true)]
    pub workers: Workers,
    /// Leave it to the system which core a thread runs on
    #[arg(long = "no-pin", action = ArgAction::SetFalse, help_heading = "Running")]
    #[arg(hide_short_help = true)]
    pub pin: bool,
    /// How input is split.
    #[command(flatten)]
    pub kernel: Kernel,
}

/// The code that finds separators.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(about = None, long_about = None)]
pub(crate) struct Kernel {
    /// Find separators with this kernel instead of the fastest one
    ///
    /// One of scalar, portable, avx2 and avx512, as far as this CPU has them; the results are the
    /// same. The environment variable MICROTALLY_KERNEL does the same.
    #[arg(
        long = "kernel",
        value_name = "NAME",
        env = "MICROTALLY_KERNEL",
        hide_env = true
    )]
    #[arg(hide_short_help = true, help_heading = "Running")]
    pub name: Option<String>,
}

/// What the load generator makes, and how fast it sends.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(about = None, long_about = None)]
pub(crate) struct Load {
    /// Bytes per second: 100MB/s, or max
    #[arg(long, value_name = "SIZE/s|max", default_value = "max", value_parser = units::rate)]
    #[arg(help_heading = "Load")]
    pub rate: Rate,
    /// The same seed gives the same text
    #[arg(long, value_name = "N", default_value = "1", value_parser = units::seed, help_heading = "Load")]
    pub seed: u64,
    /// Different words, 1 to 10000000
    #[arg(long, value_name = "N", default_value = "50000", value_parser = units::vocabulary)]
    #[arg(help_heading = "Load")]
    pub vocabulary: usize,
    /// Zipf exponent, 0 to 4; text: about 1
    #[arg(long = "zipf", value_name = "EXPONENT", default_value = "1.0", value_parser = units::zipf)]
    #[arg(help_heading = "Load")]
    pub zipf_exponent: f64,
}

/// What separates words and fields.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Split {
    /// What the command and the key take by themselves.
    Default,
    /// This byte, and empty words count: Python's `split(" ")`.
    Byte(u8),
    /// Runs of white space: Python's `split()`.
    Whitespace,
}

/// Where a record ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ends {
    /// As the command has it.
    Default,
    /// At a lone carriage return, too.
    Cr,
    /// At NUL, and nowhere else.
    Null,
}

/// What happens when the keys no longer fit into the memory there is.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum OnLimit {
    /// Counts become upper bounds with a known error
    Approx,
    /// New keys are counted together
    Other,
    /// The run ends
    Error,
}

/// When there are colours.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal that has them
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// As PySpark's pprint writes them
    Pyspark,
    /// In columns, for people
    Table,
    /// One line a result: batch time in milliseconds, key, count
    Tsv,
    /// One object a line and a batch
    Json,
}

/// How statistics are written.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Stats {
    /// For people
    Text,
    /// For programs
    Json,
}

impl Args for Split {
    fn augment_args(command: clap::Command) -> clap::Command {
        let split = Arg::new("split")
            .long("split")
            .value_name("CHAR")
            .value_parser(units::split_byte)
            .help("One byte that separates words or fields: , or \\t or \\x1f")
            .long_help(
                "Words and fields are separated by this one byte, as by Python's split(\" \"): two separators \
                 in a row have an empty word between them. Escapes: \\0 \\t \\n \\v \\f \\r \\\\ \\xNN. \
                 By default the command words separates at every blank, the others at runs of white space.",
            );
        let whitespace = Arg::new("split_whitespace")
            .long("split-whitespace")
            .action(ArgAction::SetTrue)
            .conflicts_with("split")
            .hide_short_help(true)
            .help("Separate words by runs of white space, as Python's split()");
        command.args([
            split.help_heading("Input"),
            whitespace.help_heading("Input"),
        ])
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Split {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(match matches.get_one("split") {
            _ if matches.get_flag("split_whitespace") => Self::Whitespace,
            Some(&byte) => Self::Byte(byte),
            None => Self::Default,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Ends {
    fn augment_args(command: clap::Command) -> clap::Command {
        let cr = Arg::new("cr")
            .long("cr")
            .action(ArgAction::SetTrue)
            .hide_short_help(true)
            .help("A lone carriage return ends a record, too")
            .long_help(
                "A lone carriage return ends a record, too, as in Spark. count and top end records at \\n and \
                 \\r\\n only, like sort and grep; words always ends them at \\n, \\r and \\r\\n.",
            );
        let null = Arg::new("null")
            .short('0')
            .long("null")
            .action(ArgAction::SetTrue)
            .conflicts_with("cr")
            .hide_short_help(true)
            .help("NUL ends a record, and nothing else: find -print0")
            .long_help(
                "NUL ends a record, and nothing else does: for what find -print0, sort -z and git -z write. Line \
                 ends are bytes of the record.",
            );
        command.args([cr.help_heading("Input"), null.help_heading("Input")])
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Ends {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(match (matches.get_flag("cr"), matches.get_flag("null")) {
            (_, true) => Self::Null,
            (true, _) => Self::Cr,
            _ => Self::Default,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
