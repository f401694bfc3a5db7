//! The command line, checked and in plain types.
//!
//! Promise: [`parse`] never panics, and every error names the option, the value, what is allowed
//! and what to write instead. Must not know: `bench`, `counting`, `generate`, `live`, `output`,
//! `run`.
//!
//! It depends on std, clap and [`microtally::extract`] only, so that a fuzz target can include it
//! as it is. Doc comments on fields are help texts; `-h` shows their first paragraph only.

pub(crate) mod aggregate;
pub(crate) mod keys;
mod options;
pub(crate) mod units;

#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

pub(crate) use options::{
    BatchArgs, ColorArg, CountingArgs, FormatArg, FromArg, KernelArg, LoadArgs, OnLimitArg,
    StatsArg, ThreadArgs,
};
pub(crate) use units::{
    AddressArg, MemoryArg, RateArg, ReconnectArg, SourceSpec, TopArg, WorkersArg,
};

/// Parses the arguments, of which the first is the program's name as in `std::env::args_os`.
///
/// # Errors
///
/// A wrong argument (exit code 2), and also a request for help or the version (exit code 0).
pub(crate) fn parse<I>(args: I) -> Result<Command, clap::Error>
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let mut command = command();
    let matches = command.try_get_matches_from_mut(&args);
    let outcome = matches.and_then(|matches| {
        Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    });
    outcome
        .map(|cli| cli.command)
        .map_err(|error| in_terms_of_variables(error, &args))
        .map_err(|error| in_terms_of_other_programs(error, &args))
        .map_err(harmless)
}

/// Suggests our option where the error is about an option that other programs have.
fn in_terms_of_other_programs(mut error: clap::Error, args: &[OsString]) -> clap::Error {
    // The other commands have neither keys nor files.
    let command = args.get(1).and_then(|arg| arg.to_str());
    let counts = matches!(command, Some("count" | "top" | "words"));
    let is_unknown = error.kind() == ErrorKind::UnknownArgument;
    let option = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(option)) if counts && is_unknown => option,
        _ => return error,
    };
    // As in `cut`: the value follows the option directly, or is the next argument.
    let value = |option: &str| {
        let args: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
        let at = args.iter().position(|arg| arg.starts_with(option))?;
        match &args[at][option.len()..] {
            "" => args.get(at + 1).map(|next| (*next).to_owned()),
            value => Some(value.to_owned()),
        }
    };
    let instead = match option.as_str() {
        "-f" => Some(match value("-f").and_then(|value| keys::meant(&value)) {
            Some(meant) => format!("-k {meant}"),
            // As in `tail`.
            None => "-F, which follows files".to_owned(),
        }),
        "-i" | "-w" | "--interval" | "--window" | "--slide" | "--batches"
            if command == Some("count") =>
        {
            Some("top or words, which print results repeatedly".to_owned())
        }
        "-d" => value("-d").map(|value| format!("--split '{}'", keys::shown(&value))),
        _ => None,
    };
    if let Some(instead) = instead {
        let tip = StyledStr::from(format!("did you mean {instead}?"));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
    error
}

/// Escapes whatever was typed, so that the text of the error cannot control a terminal.
fn harmless(mut error: clap::Error) -> clap::Error {
    if !error.use_stderr() {
        return error;
    }
    // First what was typed, including line ends; then the rest of the text.
    for kind in [
        ContextKind::InvalidArg,
        ContextKind::InvalidValue,
        ContextKind::InvalidSubcommand,
    ] {
        if let Some(ContextValue::String(text)) = error.get(kind) {
            let shown = keys::shown(text);
            error.insert(kind, ContextValue::String(shown));
        }
    }
    // A tip to write `--` repeats what was typed.
    if let Some(ContextValue::StyledStrs(tips)) = error.get(ContextKind::Suggested) {
        let shown = tips.iter().map(|tip| {
            let plain = without_styles(&tip.ansi().to_string());
            match keys::shown(&plain) {
                shown if shown == plain => tip.clone(),
                shown => StyledStr::from(shown),
            }
        });
        let shown = ContextValue::StyledStrs(shown.collect());
        error.insert(ContextKind::Suggested, shown);
    }
    let text = error.render().ansi().to_string();
    let without_styles = without_styles(&text);
    let shown: Vec<String> = without_styles.lines().map(keys::shown).collect();
    if shown.iter().map(String::as_str).eq(without_styles.lines()) {
        return error;
    }
    let text = shown.join("\n");
    let message = text.strip_prefix("error: ").unwrap_or(&text);
    clap::Error::raw(error.kind(), format!("{message}\n"))
}

/// Removes the escape sequences for bold and colors: `ESC [ … m` with digits and semicolons.
fn without_styles(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\x1b[") {
        let behind = &rest[at + 2..];
        let len = behind
            .bytes()
            .take_while(|byte| byte.is_ascii_digit() || *byte == b';')
            .count();
        plain.push_str(&rest[..at]);
        rest = match behind[len..].strip_prefix('m') {
            Some(rest) => rest,
            None => {
                plain.push_str("\x1b[");
                behind
            }
        };
    }
    plain.push_str(rest);
    plain
}

/// The whole command line, also for completions and manual pages.
pub(crate) fn command() -> clap::Command {
    // An empty environment variable is ignored.
    without_variables(with_help(Cli::command()), &|_, value| value.is_empty())
}

/// Adds `-h` to each command, and its defaults to the help of options whose default depends on the
/// command.
fn with_help(command: clap::Command) -> clap::Command {
    command.mut_subcommands(|command| {
        let heading = match command.get_name() {
            "completions" | "man" => "Options",
            _ => "Running",
        };
        let command = command.disable_help_flag(true).arg(help(heading));
        let defaults: &[(&str, &str)] = match command.get_name() {
            "words" => &[("top", "10"), ("interval", "5s")],
            "top" => &[("top", "10"), ("interval", "1s")],
            "count" => &[("top", "all")],
            _ => &[],
        };
        defaults.iter().fold(command, |command, (option, default)| {
            command.mut_arg(*option, |arg| {
                let text = arg.get_help().map(ToString::to_string).unwrap_or_default();
                arg.help(format!("{text} [default: {default}]"))
            })
        })
    })
}

/// Where the value of an option comes from.
#[derive(Debug, PartialEq)]
pub(crate) enum Origin {
    /// The command line.
    Typed,
    /// This environment variable.
    Variable(String),
    /// Neither: it has its default.
    Default,
}

/// Returns where the value of `option`, named without its dashes, comes from in a valid command
/// line.
pub(crate) fn origin<I>(args: I, option: &str) -> Origin
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    let mut command = command();
    let matches = command.try_get_matches_from_mut(args).ok();
    let find = |matches: clap::ArgMatches| {
        let (name, matches) = matches.subcommand()?;
        let mut args = command.find_subcommand(name)?.get_arguments();
        let arg = args.find(|arg| arg.get_long() == Some(option))?;
        match matches.value_source(arg.get_id().as_str())? {
            ValueSource::CommandLine => Some(Origin::Typed),
            ValueSource::EnvVariable => arg
                .get_env()?
                .to_str()
                .map(|name| Origin::Variable(name.to_owned())),
            _ => None,
        }
    };
    matches.and_then(find).unwrap_or(Origin::Default)
}

/// Ignores the environment variables for which `is_ignored` returns `true`, given the option and
/// the variable's value.
fn without_variables(
    command: clap::Command,
    is_ignored: &dyn Fn(&Arg, &OsStr) -> bool,
) -> clap::Command {
    command.mut_subcommands(|command| {
        command.mut_args(|arg| {
            let value = arg.get_env().and_then(std::env::var_os);
            match value {
                Some(value) if is_ignored(&arg, &value) => arg.env(None::<&'static str>),
                _ => arg,
            }
        })
    })
}

/// Names the environment variable where the error is about its value, which was not typed.
fn in_terms_of_variables(mut error: clap::Error, args: &[OsString]) -> clap::Error {
    let invalid = |error: &clap::Error| match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(arg)) => Some(arg.clone()),
        _ => None,
    };
    let Some(named) = invalid(&error) else {
        return error;
    };
    let mut built = command();
    built.build();
    let args_of = |command: &clap::Command| command.get_arguments().cloned().collect::<Vec<_>>();
    let mut all = built.get_subcommands().flat_map(args_of);
    let Some(arg) = all.find(|arg| arg.get_env().is_some() && arg.to_string() == named) else {
        return error;
    };
    let without = without_variables(command(), &|other, _| other.get_id() == arg.get_id());
    let typed = without.try_get_matches_from(args).err();
    if typed.as_ref().and_then(invalid).as_ref() != Some(&named) {
        let variable = arg.get_env().unwrap_or_default().display();
        // Clap puts quotes around the inserted text.
        let both = format!("{named}' of the environment variable '{variable}");
        error.insert(ContextKind::InvalidArg, ContextValue::String(both));
    }
    error
}

/// Count streams and files by key, like Spark Streaming and sort | uniq -c
///
/// Count words, lines, fields, CSV columns or JSON values of streams and files at memory speed: in
/// batches, as Spark Streaming does, or once, as sort | uniq -c | head does.
#[derive(Debug, Parser)]
#[command(name = "microtally", version, after_long_help = EXAMPLES)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// One of the program's commands with its options.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub(crate) enum Command {
    /// Count the words of a stream, batch by batch
    #[command(after_long_help = WORDS_EXAMPLES, help_template = TEMPLATE)]
    Words(StreamArgs),
    /// Show the most frequent keys, live on a terminal or in a pipe
    #[command(after_long_help = TOP_EXAMPLES, help_template = TEMPLATE)]
    Top(StreamArgs),
    /// Count to the end and print once, like sort | uniq -c | sort -rn
    #[command(after_long_help = COUNT_EXAMPLES, help_template = TEMPLATE)]
    Count(CountingArgs),
    /// Count words from a built-in source, with nothing to set up
    #[command(after_long_help = DEMO_EXAMPLES)]
    Demo(DemoArgs),
    /// Generate lines of words on standard output or for clients
    #[command(after_long_help = GEN_EXAMPLES)]
    Gen(GenArgs),
    /// Measure how fast this machine counts, and what limits it
    #[command(after_long_help = BENCH_EXAMPLES)]
    Bench(BenchArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man(ManArgs),
}

/// One line shorter than clap's own, so that `-h` fits a screen of 24 lines.
const TEMPLATE: &str = "{about-with-newline}{usage-heading} {usage}\n\n{all-args}{after-help}";

const EXAMPLES: &str = "\
Examples:
  microtally demo                              see it work
  microtally words localhost:9999              the Spark tutorial's word count
  microtally count -n 10 access.log            the ten most frequent lines
  microtally top -F -k field:1 access.log      the busiest clients, live
  microtally gen --total 1GB | microtally words -

Exit codes: 0 done, also after Ctrl-C; 1 failed while running; 2 wrong usage; 3 a source could not be
opened or was lost; 5 the memory limit was reached and --on-limit is error.";

const WORDS_EXAMPLES: &str = "\
Examples:
  nc -lk 9999                                  type lines in another terminal
  microtally words localhost:9999              and see their words counted every 5 s
  microtally words -i 500ms -n all tcp://[::1]:9999
  microtally words --split '\\t' -o tsv - < table.tsv
  microtally words -w 1m -i 5s tcp-listen://127.0.0.1:9999
  microtally words --reconnect never --stats=json -o json localhost:9999 > counts.json";

const TOP_EXAMPLES: &str = "\
Examples:
  microtally top -F access.log                 whole lines, as they arrive
  microtally top -F --from start 'app-*.log'   also existing lines, and files of later days
  microtally top -F -k field:1 -w 5m access.log    clients of the last five minutes
  microtally top -k json:/user/id tcp-listen://127.0.0.1:9999 udp-listen://127.0.0.1:9999
  microtally top -k 're:status=(?P<key>\\d+)' -g POST -F app.log | tee table.tsv";

const COUNT_EXAMPLES: &str = "\
Examples:
  microtally count *.log                       sort *.log | uniq -c | sort -rn
  microtally count -n 10 -k word book.txt
  microtally count -k csv:3 -a sum -v csv:7 orders.csv
  microtally count -k field:1,field:9 -g ' 404 ' access.log
  zcat old.gz | microtally count --max-memory 1GiB --on-limit approx -";

const DEMO_EXAMPLES: &str = "\
Examples:
  microtally demo                              five batches of one second, at full speed
  microtally demo --rate 10MB/s -i 500ms -n 3
  microtally demo --vocabulary 1000000 --zipf 0.8 -j 2";

const GEN_EXAMPLES: &str = "\
Examples:
  microtally gen --total 1GB > words.txt       the same seed gives the same bytes
  microtally gen --listen 127.0.0.1:9999 --rate 100MB/s
  microtally words 127.0.0.1:9999              count them in another terminal";

const BENCH_EXAMPLES: &str = "\
Examples:
  microtally bench > figures.md                everything; takes some minutes
  microtally bench --only english,log --rounds 15
  microtally bench --quick                     a check that it works; do not quote its figures";

/// Options of `microtally words` and `microtally top`.
#[derive(Args, Clone, Debug, PartialEq)]
pub(crate) struct StreamArgs {
    /// What is read, counted and printed.
    #[command(flatten)]
    pub counting: CountingArgs,
    /// How often results are printed.
    #[command(flatten)]
    pub batching: BatchArgs,
}

/// Options of `microtally completions`.
#[derive(Args, Clone, Debug, PartialEq)]
pub(crate) struct CompletionsArgs {
    /// bash, elvish, fish, powershell or zsh
    ///
    /// Save the script where that shell looks for completions.
    #[arg(hide_possible_values = true)]
    pub shell: ShellArg,
}

/// A shell with completions.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
#[allow(missing_docs)]
pub(crate) enum ShellArg {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

/// Options of `microtally man`.
#[derive(Args, Clone, Debug, PartialEq)]
pub(crate) struct ManArgs {
    /// The command to describe [default: the whole program]
    pub command: Option<String>,
}

/// Options of `microtally demo`.
#[derive(Args, Clone, Debug, PartialEq)]
pub(crate) struct DemoArgs {
    /// What the source generates.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Batch interval, at least 1ms: 500ms, 5s
    #[arg(short, long, value_name = "DUR", default_value = "1s", value_parser = units::interval)]
    #[arg(help_heading = "Batches and results")]
    pub interval: Duration,
    /// Stop after N batches
    #[arg(long, value_name = "N", default_value = "5", value_parser = units::number(1..=u64::MAX))]
    #[arg(help_heading = "Batches and results")]
    pub batches: u64,
    /// Results per batch, greatest first
    #[arg(short = 'n', long, value_name = "N|all", default_value = "10", value_parser = units::top)]
    #[arg(help_heading = "Batches and results")]
    pub top: TopArg,
    /// pyspark, table, tsv or json
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "pyspark")]
    #[arg(hide_possible_values = true)]
    #[arg(help_heading = "Batches and results")]
    pub format: FormatArg,
    /// How many threads, and whether they are pinned.
    #[command(flatten)]
    pub threads: ThreadArgs,
}

/// Options of `microtally gen`.
#[derive(Args, Clone, Debug, PartialEq)]
pub(crate) struct GenArgs {
    /// What is generated.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Send to clients of this address [default: stdout]
    ///
    /// Every client receives the same text from the start. Port 0 selects any free port. Put an
    /// IPv6 address in brackets: [::1]:9999.
    #[arg(long, value_name = "HOST:PORT", value_parser = units::listen, help_heading = "Running")]
    pub listen: Option<AddressArg>,
    /// Stop after this many bytes: 4GiB [default: no limit]
    #[arg(long = "total", value_name = "SIZE", value_parser = units::total, help_heading = "Running")]
    pub total_bytes: Option<u64>,
}

/// Options of `microtally bench`.
#[derive(Args, Clone, Debug, PartialEq)]
pub(crate) struct BenchArgs {
    /// How often to measure everything, 1 to 1000 [default: 5]
    ///
    /// Things that are compared are measured in turns within each round. A figure is the median of
    /// the rounds, and a ratio is the median of the rounds' ratios.
    #[arg(long, value_name = "N", value_parser = units::number(1..=1000), help_heading = "Measuring")]
    pub rounds: Option<u64>,
    /// Size of each text, 64KiB to 512MiB [default: 64MB]
    #[arg(long = "size", value_name = "SIZE", value_parser = units::size(64 << 10..=512 << 20))]
    #[arg(help_heading = "Measuring")]
    pub text_bytes: Option<usize>,
    /// Only these texts, or files, memory, start; comma-separated
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        help_heading = "Measuring"
    )]
    pub only: Vec<String>,
    /// A quick check that it works: one round of 1MB
    #[arg(long, help_heading = "Measuring")]
    pub quick: bool,
    /// How input is split.
    #[command(flatten)]
    pub kernel: KernelArg,
}

/// `-h` and `--help` under one of our headings; a heading of their own would cost `-h` three lines.
fn help(heading: &'static str) -> Arg {
    let text = StyledStr::from("Print help (--help: in full, with examples)");
    let arg = Arg::new("help")
        .short('h')
        .long("help")
        .action(ArgAction::Help);
    arg.help(text).help_heading(heading).display_order(1_000)
}
