//! The program: turns arguments into a run, and its outcome into an exit code.
//!
//! Promise: standard output carries results and nothing else; messages for people go to standard
//! error. Must not know: `engine`, `intake`, `ring`, `shard`, `table`.
//!
//! `parse` reads the command line. `run` connects it to the library, and handles signals, memory
//! and descriptors. `counting` says what is counted of which lines. `output` prints results,
//! progress and advice. `live` is the view on a terminal, `generate` the load generator, and
//! `bench` measures.

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
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use microtally::Error;
use microtally::error::ErrorKind;

use crate::output::{advice, progress};
use crate::run::{allocations, manual, signals, streams};

/// Without this message results would be lost while the exit code says success.
const CLOSED: &str = "standard output: it is closed, so results would be lost; open it, or discard results with > /dev/null";

fn main() -> ExitCode {
    allocations::fit_into_address_space();
    signals::outlive_full_files();
    let command = match parse::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => {
            // An error is also in the exit code, but help that cannot be printed is a failure.
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
    // `gen --listen` writes to clients, and needs no standard output.
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
            let error = advice::in_terms_of_options(error);
            // What was shown as a notice is not repeated.
            if !error.unreported().is_empty() {
                say(&error.unreported());
            }
            ExitCode::from(code)
        }
    }
}

/// 1: failed while running. 2: refused before anything started. 3: a source could not be opened or
/// was lost for good. 5: the memory limit was reached with `--on-limit error`.
fn exit_code(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Config | ErrorKind::NoOutput => 2,
        ErrorKind::Source => 3,
        ErrorKind::Limit => 5,
        _ => 1,
    }
}

/// Locks `mutex`, even after a thread panicked while it held the lock: what these locks protect is
/// never left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`lock`], but waits half a second at most: a thread may be stuck while it holds the lock.
fn lock_soon<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    for _ in 0..50 {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(guard)) => return Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
        }
    }
    None
}

/// Prints a message on standard error, after the program's name.
fn say(message: &dyn Display) {
    say_line(&format_args!("microtally: {message}"));
}

/// Prints a line on standard error, without the program's name. What is not printable is escaped:
/// the line may contain names of files, patterns, and what a peer sent. The progress line makes way
/// for it. While the live view is open, the line is shown there, and again on standard error
/// afterwards.
fn say_line(line: &dyn Display) {
    let line = parse::keys::shown(&line.to_string());
    let _cleared = progress::clear();
    if !live::screen::keep(&line) {
        // Not `eprintln`: it panics when standard error is closed.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}
