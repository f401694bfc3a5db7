//! What other programs show of ours: completions for shells, and manual pages.
//!
//! Promise: both are made of the flags themselves, so that they cannot differ from them. Must not know:
//! where they are installed.

use std::io::Write;

use clap_complete::Shell;
use microtally::{Error, Result};

use crate::parse;
use crate::parse::{Completions, Man};

/// `microtally completions`.
pub(crate) fn completions(options: &Completions) -> Result<()> {
    let shell = match options.shell {
        parse::Shell::Bash => Shell::Bash,
        parse::Shell::Elvish => Shell::Elvish,
        parse::Shell::Fish => Shell::Fish,
        parse::Shell::Powershell => Shell::PowerShell,
        parse::Shell::Zsh => Shell::Zsh,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut parse::command(), "microtally", &mut text);
    print(&text)
}

/// `microtally man`.
pub(crate) fn page(options: &Man) -> Result<()> {
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
                Error::refused(format!("there is no command {name:?}; there are {names}"))
            })?;
            found.name(format!("microtally-{name}"))
        }
    };
    // The page would leave out the text of an option that `-h` does not show.
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
