//! What the user typed: checked, in plain types, and nothing else.
//!
//! Promise: [`parse`] never panics, and every error names the option, the value, what is allowed
//! and what to write instead. Refuses to know: the library, sockets, the machine, how anything is
//! run. It depends on std and clap only, so that a fuzz target can include it as it is.
//!
//! Doc comments on fields are help texts: the first paragraph is all that `-h` shows of them.

#[path = "units.rs"]
pub(crate) mod units;

#[cfg(test)]
#[path = "flags/tests.rs"]
mod tests;

use std::ffi::OsString;
use std::time::Duration;

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, Parser, Subcommand, ValueEnum};

pub(crate) use units::{Endpoint, Rate, Reconnect, SourceSpec, Top, Workers};

/// Reads the arguments, the program's own name first as in `std::env::args_os`.
///
/// # Errors
///
/// A wrong argument, and also a request for help or the version: both are printed and turned into
/// an exit code by [`clap::Error::exit`] (2 for wrong usage, 0 for help and version).
pub(crate) fn parse<I>(args: I) -> Result<Command, clap::Error>
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    Cli::try_parse_from(args).map(|cli| cli.command)
}

/// Counts words in streams, batch by batch, as Spark Streaming does, without Spark
#[derive(Debug, Parser)]
#[command(name = "microtally", version, after_long_help = TOP_EXAMPLES)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// One of the program's commands with its options.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub(crate) enum Command {
    /// Count the words of a stream in every batch interval
    Words(Words),
    /// Count words from a built-in source on loopback: nothing to install or set up
    Demo(Demo),
    /// Generate lines of words, to standard output or to whoever connects
    Gen(Gen),
    /// Measure this machine: how fast it counts, and what limits it
    Bench(Bench),
}

const TOP_EXAMPLES: &str = "\
Examples:
  microtally demo                              see it work
  microtally words localhost:9999              the tutorial's program
  microtally words - < access.log              count a file in batches
  microtally gen --total 1GB | microtally words -";

const WORDS_EXAMPLES: &str = "\
Examples:
  nc -lk 9999                                  type lines here, in another terminal
  microtally words localhost:9999              and see them counted every 5 s
  microtally words -i 500ms -n all tcp://[::1]:9999
  microtally words --split '\\t' -o tsv - < table.tsv
  microtally words --reconnect never --stats=json -o json localhost:9999 > counts.json";

const DEMO_EXAMPLES: &str = "\
Examples:
  microtally demo                              five batches of one second, at full speed
  microtally demo --rate 10MB/s -i 500ms -n 3
  microtally demo --vocabulary 1000000 --zipf 0.8 -j 2";

const GEN_EXAMPLES: &str = "\
Examples:
  microtally gen --total 1GB > words.txt       the same seed gives the same bytes
  microtally gen --listen 127.0.0.1:9999 --rate 100MB/s
  microtally words 127.0.0.1:9999              in another terminal, counts them";

const BENCH_EXAMPLES: &str = "\
Examples:
  microtally bench > figures.md                everything: some minutes
  microtally bench --only english,log --rounds 15
  microtally bench --quick                     whether it works: seconds, and no figure to quote";

/// Options of `microtally words`.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(disable_help_flag = true, arg = help("Running"), after_long_help = WORDS_EXAMPLES)]
pub(crate) struct Words {
    /// tcp://HOST:PORT, HOST:PORT, or - for standard input
    ///
    /// The program connects to HOST:PORT as a client. An IPv6 address goes in brackets:
    /// [::1]:9999.
    #[arg(value_name = "SOURCE", default_value = "-", value_parser = units::source)]
    pub source: SourceSpec,
    /// Wait before connecting again, or never: end instead
    #[arg(long, value_name = "DUR|never", default_value = "2s", value_parser = units::reconnect)]
    #[arg(help_heading = "Input")]
    pub reconnect: Reconnect,
    /// How lines become words: `--split` and `--split-whitespace`.
    #[command(flatten)]
    pub split: Split,
    /// Longest line that is kept whole, 1KiB to 1GiB
    #[arg(long = "max-record", value_name = "SIZE", default_value = "16MiB")]
    #[arg(value_parser = units::record_bytes_max, help_heading = "Input")]
    pub record_bytes_max: usize,
    /// Batch interval, from 1ms: 500ms, 5s, 2m, 1h
    #[arg(short, long, value_name = "DUR", default_value = "5s", value_parser = units::interval)]
    #[arg(help_heading = "Batches and results")]
    pub interval: Duration,
    /// Stop after N batches [default: no end]
    #[arg(long, value_name = "N", value_parser = units::batches, help_heading = "Batches and results")]
    pub batches: Option<u64>,
    /// How many results, and in which format.
    #[command(flatten)]
    pub results: Results,
    /// Statistics on standard error at the end: text or json
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "text", hide_possible_values = true)]
    #[arg(help_heading = "Batches and results")]
    pub stats: Option<Stats>,
    /// How many threads, and whether they are pinned.
    #[command(flatten)]
    pub threads: Threads,
}

/// Options of `microtally demo`.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(disable_help_flag = true, arg = help("Running"), after_long_help = DEMO_EXAMPLES)]
pub(crate) struct Demo {
    /// What the source sends.
    #[command(flatten)]
    pub load: Load,
    /// Batch interval, from 1ms: 500ms, 5s, 2m, 1h
    #[arg(short, long, value_name = "DUR", default_value = "1s", value_parser = units::interval)]
    #[arg(help_heading = "Batches and results")]
    pub interval: Duration,
    /// Stop after N batches
    #[arg(long, value_name = "N", default_value = "5", value_parser = units::batches)]
    #[arg(help_heading = "Batches and results")]
    pub batches: u64,
    /// How many results, and in which format.
    #[command(flatten)]
    pub results: Results,
    /// How many threads, and whether they are pinned.
    #[command(flatten)]
    pub threads: Threads,
}

/// Options of `microtally gen`.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(disable_help_flag = true, arg = help("Running"), after_long_help = GEN_EXAMPLES)]
pub(crate) struct Gen {
    /// What is sent.
    #[command(flatten)]
    pub load: Load,
    /// Send to whoever connects to HOST:PORT [default: standard output]
    ///
    /// Port 0 takes any free port. An IPv6 address goes in brackets: [::1]:9999.
    #[arg(long, value_name = "HOST:PORT", value_parser = units::listen, help_heading = "Running")]
    pub listen: Option<Endpoint>,
    /// End after this many bytes: 100MB, 4GiB [default: no end]
    #[arg(long = "total", value_name = "SIZE", value_parser = units::total, help_heading = "Running")]
    pub total_bytes: Option<u64>,
}

/// Options of `microtally bench`.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(disable_help_flag = true, arg = help("Running"), after_long_help = BENCH_EXAMPLES)]
pub(crate) struct Bench {
    /// How often everything is measured, 1 to 1000 [default: 5]
    ///
    /// Whatever is compared is measured in turns within a round. A figure is the median of the rounds,
    /// a ratio the median of the rounds' ratios.
    #[arg(long, value_name = "N", value_parser = units::rounds, help_heading = "Measuring")]
    pub rounds: Option<u64>,
    /// Bytes of each text, 64KiB to 512MiB [default: 64MB]
    #[arg(long = "size", value_name = "SIZE", value_parser = units::text_bytes)]
    #[arg(help_heading = "Measuring")]
    pub text_bytes: Option<usize>,
    /// Only these texts, separated by commas; a wrong name lists them
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        help_heading = "Measuring"
    )]
    pub only: Vec<String>,
    /// One round of 1MB where nothing else is asked for: shows that it works
    #[arg(long, help_heading = "Measuring")]
    pub quick: bool,
    /// How input is split.
    #[command(flatten)]
    pub kernel: Kernel,
}

/// How many results are shown, and how.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(about = None, long_about = None)]
pub(crate) struct Results {
    /// Results per batch, the most frequent first
    #[arg(short = 'n', long, value_name = "N|all", default_value = "10", value_parser = units::top)]
    #[arg(help_heading = "Batches and results")]
    pub top: Top,
    /// Output format
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "pyspark")]
    #[arg(help_heading = "Batches and results")]
    pub format: Format,
}

/// The threads that count.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(about = None, long_about = None)]
pub(crate) struct Threads {
    /// Counting threads, 1 to 256; auto: usable cores less one
    #[arg(short = 'j', long, value_name = "N|auto", default_value = "auto")]
    #[arg(value_parser = units::workers, help_heading = "Running")]
    pub workers: Workers,
    /// Leave it to the system which core a thread runs on
    #[arg(long = "no-pin", action = ArgAction::SetFalse, help_heading = "Running")]
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
    /// Bytes per second: 100MB/s, 1GiB/s, or max
    #[arg(long, value_name = "SIZE/s|max", default_value = "max", value_parser = units::rate)]
    #[arg(help_heading = "Load")]
    pub rate: Rate,
    /// The same seed gives the same text
    #[arg(long, value_name = "N", default_value = "1", value_parser = units::seed, help_heading = "Load")]
    pub seed: u64,
    /// Number of different words, 1 to 10000000
    #[arg(long, value_name = "N", default_value = "50000", value_parser = units::vocabulary)]
    #[arg(help_heading = "Load")]
    pub vocabulary: usize,
    /// How unequal words are, 0 to 4; natural text: about 1
    #[arg(long = "zipf", value_name = "EXPONENT", default_value = "1.0", value_parser = units::zipf)]
    #[arg(help_heading = "Load")]
    pub zipf_exponent: f64,
}

/// What separates words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Split {
    /// This byte, and empty words count: Python's `split(" ")`.
    Byte(u8),
    /// Runs of white space: Python's `split()`.
    Whitespace,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// As PySpark's pprint writes them
    Pyspark,
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

/// `-h` and `--help` under one of our headings: under its own it would cost `-h` three lines.
fn help(heading: &'static str) -> Arg {
    let text = StyledStr::from("Print help (-h: one screen, --help: with examples)");
    let arg = Arg::new("help")
        .short('h')
        .long("help")
        .action(ArgAction::Help);
    arg.help(text).help_heading(heading).display_order(1_000)
}

impl Args for Split {
    fn augment_args(command: clap::Command) -> clap::Command {
        let split = Arg::new("split")
            .long("split")
            .value_name("CHAR")
            .default_value(" ")
            .value_parser(units::split_byte)
            .help("One byte that separates words: , or \\t or \\x1f")
            .long_help(
                "Words are separated by this one byte, as by Python's split(\" \"): two separators \
                 in a row have an empty word between them. Escapes: \\0 \\t \\n \\v \\f \\r \\\\ \\xNN",
            );
        let whitespace = Arg::new("split_whitespace")
            .long("split-whitespace")
            .action(ArgAction::SetTrue)
            .conflicts_with("split")
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
        match matches.get_one("split") {
            Some(&byte) if !matches.get_flag("split_whitespace") => Ok(Self::Byte(byte)),
            _ => Ok(Self::Whitespace),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
