//! What the user typed: checked, in plain types, and nothing else.
//!
//! Promise: [`parse`] never panics, and every error names the option, the value, what is allowed
//! and what to write instead. Refuses to know: the library, sockets, the machine, how anything is
//! run. It depends on std and clap only, so that a fuzz target can include it as it is.
//!
//! Doc comments on fields are help texts: the first paragraph is all that `-h` shows of them.

#[path = "units.rs"]
pub(crate) mod units;

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(line: &str) -> String {
        parse(line.split('|')).expect_err(line).to_string()
    }

    fn words(line: &str) -> Words {
        match parse(
            format!("microtally|words|{line}")
                .trim_end_matches('|')
                .split('|'),
        ) {
            Ok(Command::Words(words)) => words,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn defaults_are_those_of_the_manual() {
        let results = Results {
            top: Top::First(10),
            format: Format::Pyspark,
        };
        let threads = Threads {
            workers: Workers::Auto,
            pin: true,
        };
        let load = Load {
            rate: Rate::Max,
            seed: 1,
            vocabulary: 50_000,
            zipf_exponent: 1.0,
        };
        assert_eq!(
            words(""),
            Words {
                source: SourceSpec::Stdin,
                reconnect: Reconnect::After(Duration::from_secs(2)),
                split: Split::Byte(b' '),
                record_bytes_max: 16 << 20,
                interval: Duration::from_secs(5),
                batches: None,
                results: results.clone(),
                stats: None,
                threads: threads.clone(),
            }
        );
        let demo = Demo {
            load: load.clone(),
            interval: Duration::from_secs(1),
            batches: 5,
            results,
            threads,
        };
        assert_eq!(parse(["microtally", "demo"]).unwrap(), Command::Demo(demo));
        let generate = Gen {
            load,
            listen: None,
            total_bytes: None,
        };
        assert_eq!(
            parse(["microtally", "gen"]).unwrap(),
            Command::Gen(generate)
        );
    }

    #[test]
    fn every_option_is_read() {
        let all = words(
            "h:1|-i|500ms|-n|all|--split|,|-o|json|--reconnect|never|--batches|7|-j|3|--no-pin|\
             --max-record|1KiB|--stats=json",
        );
        assert_eq!(
            all.source,
            SourceSpec::Tcp {
                host: "h".into(),
                port: 1
            }
        );
        assert_eq!(
            (all.interval, all.batches),
            (Duration::from_millis(500), Some(7))
        );
        assert_eq!(
            all.results,
            Results {
                top: Top::All,
                format: Format::Json
            }
        );
        assert_eq!(
            (all.split, all.reconnect),
            (Split::Byte(b','), Reconnect::Never)
        );
        assert_eq!(
            all.threads,
            Threads {
                workers: Workers::Exactly(3),
                pin: false
            }
        );
        assert_eq!(
            (all.record_bytes_max, all.stats),
            (1_024, Some(Stats::Json))
        );
        // Without an equals sign, what follows --stats is the source.
        let text = words("--split-whitespace|--stats|-");
        assert_eq!(
            (text.split, text.stats),
            (Split::Whitespace, Some(Stats::Text))
        );
        let line = "microtally gen --listen [::]:0 --rate 1MB/s --total 2G --seed 9 \
                    --vocabulary 10 --zipf 0";
        let load = Load {
            rate: Rate::BytesPerSecond(1_000_000),
            seed: 9,
            vocabulary: 10,
            zipf_exponent: 0.0,
        };
        let listen = Some(Endpoint {
            host: "::".into(),
            port: 0,
        });
        let generate = Gen {
            load,
            listen,
            total_bytes: Some(2 << 30),
        };
        assert_eq!(
            parse(line.split_whitespace()).unwrap(),
            Command::Gen(generate)
        );
    }

    #[test]
    fn errors_name_the_option_the_value_and_what_is_allowed() {
        for (line, parts) in [
            (
                "words|localhost",
                "[SOURCE]|'localhost'|no :PORT|HOST:PORT|< FILE",
            ),
            ("words|", "[SOURCE]|no :PORT|allowed are"),
            ("words|:9999", "':9999'|no host name"),
            ("words|a b:1", "no host name|allowed are"),
            ("words|h:0", "port 0"),
            ("words|h:65536", "1 to 65535"),
            ("words|h:+1", "1 to 65535"),
            ("words|h:", "1 to 65535"),
            ("words|::1:9999", "needs brackets"),
            ("words|[::1]", "no ]:PORT"),
            ("words|[1.2.3.4]:5", "no IPv6 address"),
            ("words|tcp://tcp", "no :PORT"),
            ("words|tcp://tcp://h:1", "[SOURCE]|allowed are"),
            (
                "words|udp-listen://h:1",
                "udp-listen:// is not supported yet|allowed are",
            ),
            ("words|kafka://x/y", "kafka:// is not supported yet"),
            ("words|http://h:1", "unknown kind of source|allowed are"),
            ("words|-|-", "unexpected argument"),
            ("words|-i|5", "--interval|'5'|write 5s"),
            ("words|-i|0s", "--interval|'0s'|1ms"),
            ("words|-i|0.5ms", "whole milliseconds"),
            ("words|-i", "a value is required|--interval"),
            ("words|-n|-1", "unexpected argument '-1'"),
            ("words|-n|ten", "--top|'ten'|or all"),
            ("words|--split|", "--split|0 bytes|exactly one"),
            (
                "words|--split|ab",
                "--split|'ab'|2 bytes|--split-whitespace",
            ),
            ("words|--split|é", "2 bytes"),
            ("words|--split|\\xg0", "exactly one"),
            ("words|--split|,|--split-whitespace", "cannot be used with"),
            ("words|-o|xml", "--format|'xml'|pyspark, tsv, json"),
            (
                "words|--reconnect|soon",
                "--reconnect|'soon'|or write never",
            ),
            ("words|--reconnect|0s", "1ms; or write never"),
            ("words|--batches|0", "--batches|'0'|from 1"),
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
            ("top|-", "unrecognized subcommand"),
        ] {
            let error = error(&format!("microtally|{line}"));
            for part in parts.split('|') {
                assert!(error.contains(part), "{line} lacks {part}:\n{error}");
            }
        }
    }

    #[test]
    fn short_help_fits_a_screen_and_long_help_has_examples() {
        for command in ["words", "demo", "gen"] {
            let help = parse(["microtally", command, "-h"]).unwrap_err();
            assert_eq!(help.exit_code(), 0);
            let help = help.to_string();
            assert!(help.lines().count() <= 24, "{help}");
            assert!(help.lines().all(|line| line.len() <= 100), "{help}");
            assert!(error(&format!("microtally|{command}|--help")).contains("\nExamples:\n"));
        }
        assert!(error("microtally|--version").starts_with("microtally "));
        assert_eq!(parse(["microtally"]).unwrap_err().exit_code(), 2);
    }

    proptest! {
        #[test]
        fn nothing_panics(command in "words|demo|gen|\\PC*", args in prop::collection::vec(
            prop_oneof![
                any::<String>(),
                "(-[injoh]|--(split|stats|rate|total|zipf|seed|listen|max-record)=?)\\PC{0,6}",
                "[0-9.]{0,25}[kKmMgGsh]?(iB|b|s|/s)?",
                "(tcp://)?\\[?[0-9a-z:%.]{0,9}\\]?:?[0-9]{0,6}",
            ],
            0..6,
        )) {
            let _ = parse(["microtally".to_owned(), command].into_iter().chain(args));
        }
    }
}
