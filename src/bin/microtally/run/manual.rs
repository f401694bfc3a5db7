//! Prints completion scripts and manual pages.
//!
//! Promise: both are generated from the options, so that they cannot differ from them. Must not
//! know: `counting`, `output`, `live`.

use std::io::Write;

use clap_complete::Shell;
use microtally::Error;
use microtally::error::Result;

use crate::parse;
use crate::parse::{CompletionsArgs, ManArgs};

/// `microtally completions`.
pub(crate) fn completions(options: &CompletionsArgs) -> Result<()> {
    let shell = match options.shell {
        parse::ShellArg::Bash => Shell::Bash,
        parse::ShellArg::Elvish => Shell::Elvish,
        parse::ShellArg::Fish => Shell::Fish,
        parse::ShellArg::Powershell => Shell::PowerShell,
        parse::ShellArg::Zsh => Shell::Zsh,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut parse::command(), "microtally", &mut text);
    print(&text)
}

/// `microtally man`.
pub(crate) fn page(options: &ManArgs) -> Result<()> {
    let mut program = parse::command();
    program.build();
    let page = match &options.command {
        None => program,
        Some(name) => {
            let found = program.find_subcommand(name).cloned().ok_or_else(|| {
                let names: Vec<_> = program
                    .get_subcommands()
                    .map(clap::Command::get_name)
                    .collect();
                let names = names.join(", ");
                Error::refused(format!(
                    "unknown command {name:?}; the commands are {names}"
                ))
            })?;
            found.name(format!("microtally-{name}"))
        }
    };
    // The page would omit the text of options that `-h` does not show.
    let page = page.mut_args(|arg| arg.hide_short_help(false));
    let mut text = Vec::new();
    let written = clap_mangen::Man::new(page).render(&mut text);
    written.map_err(|cause| Error::output("stdout", &cause))?;
    print(&text)
}

fn print(text: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout();
    let written = stdout.write_all(text).and_then(|()| stdout.flush());
    written.map_err(|cause| Error::output("stdout", &cause))
}
