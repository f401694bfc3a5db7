//! The program: turns arguments into a run, and its outcome into an exit code.
//!
//! Promise: standard output carries results and nothing else; everything said to a person goes to
//! standard error. Refuses to know: how the library works inside.
//!
//! `flags` (and `units`) is what the user typed, `wire` connects it to the library, `keys` is what is counted
//! and of which lines, `show` is how results are shown, `live` the view on a terminal, `progress` a line of how
//! far it has got, `load` is the generator, `bench` measures, `manual` prints completions and the manual page,
//! `memory` is how much there is, `signals` is what ends a run early, `streams` is what was closed at the start,
//! `report` counts batches for `--stats`,
//! `advice` is what to do about a notice, `allocations` counts what the allocator does.

mod advice;
mod allocations;
mod bench;
mod flags;
mod keys;
mod live;
mod load;
mod manual;
mod memory;
mod progress;
mod report;
mod show;
mod signals;
mod streams;
mod usage;
mod wire;

use std::fmt::Display;
use std::io::ErrorKind::BrokenPipe;
use std::io::Write;
use std::process::ExitCode;

use microtally::{Error, ErrorKind};

/// Without it the results would be lost and the exit code would say that all is well.
const CLOSED: &str = "standard output: it is closed, so results would be lost; open it, or discard them with > /dev/null";

fn main() -> ExitCode {
    allocations::fit_into_address_space();
    signals::outlive_full_files();
    let command = match flags::parse(std::env::args_os()) {
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
    let is_needed = !matches!(&command, flags::Command::Gen(options) if options.listen.is_some());
    if is_needed && streams::is_stdout_closed() {
        say(&CLOSED);
        return ExitCode::FAILURE;
    }
    let outcome = match command {
        flags::Command::Words(options) => wire::words(&options),
        flags::Command::Top(options) => wire::top(&options),
        flags::Command::Count(options) => wire::count(&options),
        flags::Command::Demo(options) => wire::demo(&options),
        flags::Command::Gen(options) => load::generate(&options),
        flags::Command::Bench(options) => bench::run(&options),
        flags::Command::Completions(options) => manual::completions(&options),
        flags::Command::Man(options) => manual::page(&options),
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
    let variables = flags::options_of_variables(std::env::args_os());
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
    let line = flags::spec::shown(&line.to_string());
    let _cleared = progress::clear();
    if !live::screen::keep(&line) {
        // Not `eprintln`: it panics when standard error is closed.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}
