//! The program: turns arguments into a run, and its outcome into an exit code.
//!
//! Promise: standard output carries results and nothing else; everything said to a person goes to
//! standard error. Must not know: how the library works inside.
//!
//! `parse` is what the user typed, `run` connects it to the library and has what a process needs (signals, memory,
//! descriptors), `counting` is what is counted and of which lines, `output` is how results, progress and advice are
//! shown, `live` the view on a terminal, `generate` the load generator, `bench` measures.

#[path = "../../../benches/machine/harness/mod.rs"]
mod bench;
#[path = "../../../benches/machine/corpora/mod.rs"]
mod corpora;
mod counting;
mod generate;
mod live;
mod output;
mod parse;
mod run;

use std::fmt::Display;
use std::io::ErrorKind::BrokenPipe;
use std::io::Write;
use std::process::ExitCode;

use microtally::{Error, ErrorKind};

use crate::output::progress;
use crate::run::{allocations, manual, signals, streams};

/// Without it the results would be lost and the exit code would say that all is well.
const CLOSED: &str = "standard output: it is closed, so results would be lost; open it, or discard them with > /dev/null";

fn main() -> ExitCode {
    allocations::fit_into_address_space();
    signals::outlive_full_files();
    let command = match parse::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => {
            // Of what is wrong the exit code tells, also where nobody reads it; help is all there is.
            let code = match error.print() {
                Err(cause) if !error.use_stderr() && cause.kind() != BrokenPipe => {
                    say(&Error::output("stdout", &cause));
                    1
                }
                _ if !error.use_stderr() && streams::is_stdout_closed() => {
                    say(&CLOSED);
                    1
                }
                _ => error.exit_code(),
            };
            return ExitCode::from(u8::try_from(code).unwrap_or(2));
        }
    };
    // Whoever listens writes to clients, and needs no standard output.
    let is_needed = !matches!(&command, parse::Command::Gen(options) if options.listen.is_some());
    if is_needed && streams::is_stdout_closed() {
        say(&CLOSED);
        return ExitCode::FAILURE;
    }
    let outcome = match command {
        parse::Command::Words(options) => run::words(&options),
        parse::Command::Top(options) => run::top(&options),
        parse::Command::Count(options) => run::count(&options),
        parse::Command::Demo(options) => run::demo(&options),
        parse::Command::Gen(options) => generate::generate(&options),
        parse::Command::Bench(options) => bench::run(&options),
        parse::Command::Completions(options) => manual::completions(&options),
        parse::Command::Man(options) => manual::page(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == ErrorKind::SinkClosed => ExitCode::SUCCESS,
        Err(error) => {
            let code = exit_code(&error);
            let error = in_terms_of_variables(error);
            // What was shown as a notice is not said again.
            if !error.unreported().is_empty() {
                say(&error.unreported());
            }
            ExitCode::from(code)
        }
    }
}

/// What was refused, with the environment variables that had a part in it.
fn in_terms_of_variables(error: Error) -> Error {
    if error.kind() != ErrorKind::Config {
        return error;
    }
    let message = error.to_string();
    let variables = parse::options_of_variables(std::env::args_os());
    let involved = variables
        .iter()
        .filter(|(option, _)| message.contains(option.as_str()));
    involved.fold(error, |error, (option, variable)| {
        error.with_advice(&format!(
            "--{option} is what the environment variable {variable} says"
        ))
    })
}

/// 1: failed while running. 2: refused before anything started. 3: a source could not be opened or was
/// lost for good. 5: the memory limit was reached, and that was to end the run.
fn exit_code(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Config | ErrorKind::NoOutput => 2,
        ErrorKind::Source => 3,
        ErrorKind::Limit => 5,
        _ => 1,
    }
}

/// Says something to the person at the terminal.
fn say(message: &dyn Display) {
    say_line(&format_args!("microtally: {message}"));
}

/// Says a line that does not begin with our name. What is not printable is escaped: names of files and patterns are
/// the user's, and what a peer sends may be in a message too. A progress line makes way for it; while the live view has
/// the terminal it is shown there, and again on standard error afterwards.
fn say_line(line: &dyn Display) {
    let line = parse::spec::shown(&line.to_string());
    let _cleared = progress::clear();
    if !live::screen::keep(&line) {
        // Not `eprintln`: it panics when standard error is closed.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}
