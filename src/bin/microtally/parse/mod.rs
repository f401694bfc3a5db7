//! What the user typed: checked, in plain types, and nothing else.
//!
//! Promise: [`parse`] never panics, and every error names the option, the value, what is allowed
//! and what to write instead. Must not know: the library, sockets, the machine, how anything is
//! run. It depends on std and clap only, so that a fuzz target can include it as it is.
//!
//! Doc comments on fields are help texts: the first paragraph is all that `-h` shows of them.

mod groups;
pub(crate) mod spec;
pub(crate) mod units;

#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

pub(crate) use groups::{
    Begin, Color, Counting, Ends, Format, Kernel, Load, OnLimit, Slides, Split, Stats, Threads,
};
pub(crate) use units::{Endpoint, Memory, Rate, Reconnect, SourceSpec, Top, Workers};

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

/// An error about an option that other programs have, with ours.
fn in_terms_of_other_programs(mut error: clap::Error, args: &[OsString]) -> clap::Error {
    // The others have neither keys nor files.
    let command = args.get(1).and_then(|arg| arg.to_str());
    let counts = matches!(command, Some("count" | "top" | "words"));
    let is_unknown = error.kind() == ErrorKind::UnknownArgument;
    let option = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(option)) if counts && is_unknown => option,
        _ => return error,
    };
    // Those of `cut`: the value stands behind the option, or is the next argument.
    let value = |option: &str| {
        let args: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
        let at = args.iter().position(|arg| arg.starts_with(option))?;
        match &args[at][option.len()..] {
            "" => args.get(at + 1).map(|next| (*next).to_owned()),
            value => Some(value.to_owned()),
        }
    };
    let instead = match option.as_str() {
        "-f" => Some(match value("-f").and_then(|value| spec::meant(&value)) {
            Some(meant) => format!("-k {meant}"),
            // Of `tail`.
            None => "-F, which follows files".to_owned(),
        }),
        "-i" | "-w" | "--interval" | "--window" | "--slide" | "--batches"
            if command == Some("count") =>
        {
            Some("top or words, which print again and again".to_owned())
        }
        "-d" => value("-d").map(|value| format!("--split '{}'", spec::shown(&value))),
        _ => None,
    };
    if let Some(instead) = instead {
        let tip = StyledStr::from(format!("did you mean {instead}?"));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
    error
}

/// An error whose text cannot steer a terminal, whatever was typed.
fn harmless(mut error: clap::Error) -> clap::Error {
    if !error.use_stderr() {
        return error;
    }
    // First what was typed, line ends included; then whatever else a text has.
    for kind in [
        ContextKind::InvalidArg,
        ContextKind::InvalidValue,
        ContextKind::InvalidSubcommand,
    ] {
        if let Some(ContextValue::String(text)) = error.get(kind) {
            let shown = spec::shown(text);
            error.insert(kind, ContextValue::String(shown));
        }
    }
    // A tip to write `--` repeats what was typed.
    if let Some(ContextValue::StyledStrs(tips)) = error.get(ContextKind::Suggested) {
        let shown = tips.iter().map(|tip| {
            let plain = without_styles(&tip.ansi().to_string());
            match spec::shown(&plain) {
                shown if shown == plain => tip.clone(),
                shown => StyledStr::from(shown),
            }
        });
        let shown = ContextValue::StyledStrs(shown.collect());
        error.insert(ContextKind::Suggested, shown);
    }
    let text = error.render().ansi().to_string();
    let without_styles = without_styles(&text);
    let shown: Vec<String> = without_styles.lines().map(spec::shown).collect();
    if shown.iter().map(String::as_str).eq(without_styles.lines()) {
        return error;
    }
    let text = shown.join("\n");
    let message = text.strip_prefix("error: ").unwrap_or(&text);
    clap::Error::raw(error.kind(), format!("{message}\n"))
}

/// `text` without the sequences that make it bold or coloured: `ESC [ … m` with digits and semicolons.
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

/// The whole command line, for completions and manual pages too.
pub(crate) fn command() -> clap::Command {
    // An environment variable that is empty is as good as none.
    without_variables(with_defaults(Cli::command()), &|_, value| value.is_empty())
}

/// Options that commands share and whose default is the command's: each help shows its own and no other.
fn with_defaults(command: clap::Command) -> clap::Command {
    command.mut_subcommands(|command| {
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

/// Of the options on a command line that was right: those that an environment variable stands for, without
/// their dashes, and the variables.
pub(crate) fn options_of_variables<I>(args: I) -> Vec<(String, String)>
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    let mut command = command();
    let Ok(matches) = command.try_get_matches_from_mut(args) else {
        return Vec::new();
    };
    let Some((name, matches)) = matches.subcommand() else {
        return Vec::new();
    };
    let args = command
        .find_subcommand(name)
        .into_iter()
        .flat_map(clap::Command::get_arguments);
    args.filter_map(|arg| {
        let variable = arg.get_env()?;
        let is_used = matches.value_source(arg.get_id().as_str()) == Some(ValueSource::EnvVariable);
        is_used.then_some((arg.get_long()?.to_owned(), variable.to_str()?.to_owned()))
    })
    .collect()
}

/// `command`, in which no environment variable stands for an option if `is_out` says so of the option and the
/// variable's value.
fn without_variables(
    command: clap::Command,
    is_out: &dyn Fn(&Arg, &OsStr) -> bool,
) -> clap::Command {
    command.mut_subcommands(|command| {
        command.mut_args(|arg| {
            let value = arg.get_env().and_then(std::env::var_os);
            match value {
                Some(value) if is_out(&arg, &value) => arg.env(None::<&'static str>),
                _ => arg,
            }
        })
    })
}

/// An error that is an environment variable's, with the variable in it. Nobody has typed what it is about.
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
        // The quotes are those around what is inserted.
        let both = format!("{named}' of the environment variable '{variable}");
        error.insert(ContextKind::InvalidArg, ContextValue::String(both));
    }
    error
}

/// Counts streams and files by key: like Spark Streaming, and like sort | uniq -c
///
/// Counts what streams and files hold, by key, at memory speed: word counts as Spark Streaming makes them,
/// and what sort, uniq -c and head are used for.
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
    /// Show the most frequent keys, live on a terminal or into a pipe
    Top(Live),
    /// Count to the end and print once: sort | uniq -c | sort -rn
    Count(Count),
    /// Count words from a built-in source: nothing to set up
    Demo(Demo),
    /// Generate lines of words, to standard output or to clients
    Gen(Gen),
    /// Measure this machine: how fast it counts, and what limits it
    Bench(Bench),
    /// Print what completes this program's options in a shell
    Completions(Completions),
    /// Print the manual page
    Man(Man),
}

/// One line less than clap's own, so that `-h` fits a screen of 24.
const TEMPLATE: &str = "{about-with-newline}{usage-heading} {usage}\n\n{all-args}{after-help}";

const TOP_EXAMPLES: &str = "\
Examples:
  microtally demo                              see it work
  microtally words localhost:9999              the tutorial's program
  microtally count -n 10 access.log            the lines that occur most
  microtally top -F -k field:1 access.log      who asks, live
  microtally gen --total 1GB | microtally words -

Exit codes: 0 done, also after Ctrl-C; 1 failed while running; 2 wrong usage; 3 a source could not be
opened or was lost; 5 the memory limit was reached with --on-limit error.";

const WORDS_EXAMPLES: &str = "\
Examples:
  nc -lk 9999                                  type lines here, in another terminal
  microtally words localhost:9999              and see them counted every 5 s
  microtally words -i 500ms -n all tcp://[::1]:9999
  microtally words --split '\\t' -o tsv - < table.tsv
  microtally words -w 1m -i 5s tcp-listen://127.0.0.1:9999
  microtally words --reconnect never --stats=json -o json localhost:9999 > counts.json";

const LIVE_EXAMPLES: &str = "\
Examples:
  microtally top -F access.log                 whole lines, as they come
  microtally top -F --from start 'app-*.log'   also what is there, and files of later days
  microtally top -F -k field:1 -w 5m access.log    hosts of the last five minutes
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
  microtally words 127.0.0.1:9999              in another terminal, counts them";

const BENCH_EXAMPLES: &str = "\
Examples:
  microtally bench > figures.md                everything: some minutes
  microtally bench --only english,log --rounds 15
  microtally bench --quick                     whether it works: seconds, and no figure to quote";

/// Options of `microtally words`.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(disable_help_flag = true, arg = help("Running"), after_long_help = WORDS_EXAMPLES)]
#[command(help_template = TEMPLATE)]
pub(crate) struct Words {
    /// What is read, counted and shown.
    #[command(flatten)]
    pub counting: Counting,
    /// When results come.
    #[command(flatten)]
    pub slides: Slides,
}

/// Options of `microtally top`.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(disable_help_flag = true, arg = help("Running"), after_long_help = LIVE_EXAMPLES)]
#[command(help_template = TEMPLATE)]
pub(crate) struct Live {
    /// What is read, counted and shown.
    #[command(flatten)]
    pub counting: Counting,
    /// When results come.
    #[command(flatten)]
    pub slides: Slides,
}

/// Options of `microtally count`.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(disable_help_flag = true, arg = help("Running"), after_long_help = COUNT_EXAMPLES)]
#[command(help_template = TEMPLATE)]
pub(crate) struct Count {
    /// What is read, counted and shown.
    #[command(flatten)]
    pub counting: Counting,
}

/// Options of `microtally completions`.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(disable_help_flag = true, arg = help("Options"))]
pub(crate) struct Completions {
    /// bash, elvish, fish, powershell or zsh
    ///
    /// What is printed goes where that shell looks for completions.
    #[arg(hide_possible_values = true)]
    pub shell: Shell,
}

/// A shell that can complete.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
#[allow(missing_docs)]
pub(crate) enum Shell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

/// Options of `microtally man`.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(disable_help_flag = true, arg = help("Options"))]
pub(crate) struct Man {
    /// The page of this command [default: of the program]
    pub command: Option<String>,
}

/// Options of `microtally demo`.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(disable_help_flag = true, arg = help("Running"), after_long_help = DEMO_EXAMPLES)]
pub(crate) struct Demo {
    /// What the source sends.
    #[command(flatten)]
    pub load: Load,
    /// Batch interval, from 1ms: 500ms, 5s, 2m
    #[arg(short, long, value_name = "DUR", default_value = "1s", value_parser = units::interval)]
    #[arg(help_heading = "Batches and results")]
    pub interval: Duration,
    /// Stop after N batches
    #[arg(long, value_name = "N", default_value = "5", value_parser = units::batches)]
    #[arg(help_heading = "Batches and results")]
    pub batches: u64,
    /// Results per batch, the greatest first
    #[arg(short = 'n', long, value_name = "N|all", default_value = "10", value_parser = units::top)]
    #[arg(help_heading = "Batches and results")]
    pub top: Top,
    /// pyspark, table, tsv or json
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "pyspark")]
    #[arg(hide_possible_values = true)]
    #[arg(help_heading = "Batches and results")]
    pub format: Format,
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
    /// Send to clients of this address [default: stdout]
    ///
    /// Port 0 takes any free port. An IPv6 address goes in brackets: [::1]:9999.
    #[arg(long, value_name = "HOST:PORT", value_parser = units::listen, help_heading = "Running")]
    pub listen: Option<Endpoint>,
    /// End after this many bytes: 4GiB [default: no end]
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
    /// Only these texts, or files, memory, start; with commas
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        help_heading = "Measuring"
    )]
    pub only: Vec<String>,
    /// One round of 1MB by default: shows that it works
    #[arg(long, help_heading = "Measuring")]
    pub quick: bool,
    /// How input is split.
    #[command(flatten)]
    pub kernel: Kernel,
}

/// `-h` and `--help` under one of our headings: under its own it would cost `-h` three lines.
fn help(heading: &'static str) -> Arg {
    let text = StyledStr::from("Print help (--help: all of it, with examples)");
    let arg = Arg::new("help")
        .short('h')
        .long("help")
        .action(ArgAction::Help);
    arg.help(text).help_heading(heading).display_order(1_000)
}
