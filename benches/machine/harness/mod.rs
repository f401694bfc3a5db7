//! `microtally bench`: measures the user's machine and prints what PERF.md prints.
//!
//! Promise: programs that are compared take turns, every answer is checked, and what was left out
//! is reported.
//! Must not know: internals.
//!
//! `matrix` counts texts in memory, `loopback` over TCP, `programs` in files and as whole programs
//! beside others. `calibrate` measures the limits of the machine, `machine` describes it, `clock`
//! times, and `figures` sums up. The texts are those of `corpora`.

mod calibrate;
mod clock;
mod figures;
mod loopback;
mod machine;
mod matrix;
mod programs;

use std::io::{IsTerminal, Write, stderr, stdout};

use microtally::error::Result;
use microtally::{Config, Error};

use self::calibrate::{Calibrators, Readings};
use self::figures::Figures;
use self::loopback::Program;
use self::matrix::{MatrixRow, MatrixText};
use self::programs::Programs;
use crate::corpora::{Installed, Kind};
use crate::parse::BenchArgs;
use crate::{run, say};

/// Rounds and bytes without options, and with `--quick`.
const DEFAULT: (u64, usize) = (5, 64_000_000);
const QUICK: (u64, usize) = (1, 1_000_000);

/// Copies of a text that one connection sends: enough that the first batches, in which tables grow,
/// do not decide the figure.
const COPIES: u64 = 4;

/// A text that can be selected.
#[derive(Clone, Copy, PartialEq)]
enum Choice {
    Installed(Installed),
    Made(Kind),
}

/// A measurement of whole programs; it can be selected like a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whole {
    Files,
    Memory,
    Start,
}

impl Whole {
    const ALL: [Whole; 3] = [Whole::Files, Whole::Memory, Whole::Start];

    fn name(self) -> &'static str {
        match self {
            Whole::Files => "files",
            Whole::Memory => "memory",
            Whole::Start => "start",
        }
    }
}

/// `microtally bench`.
pub(crate) fn run(options: &BenchArgs) -> Result<()> {
    let (choices, wholes) = choices(&options.only)?;
    let config = run::with_kernel(Config::default(), &options.kernel);
    config.validate()?;
    let (rounds, bytes) = if options.quick { QUICK } else { DEFAULT };
    let rounds = options.rounds.unwrap_or(rounds);
    let bytes = options.text_bytes.unwrap_or(bytes);

    let kernel = match &options.kernel.name {
        Some(name) => name.as_str(),
        None => Config::kernels().last().unwrap_or("none"),
    };
    print("# Measured by `microtally bench`\n\n")?;
    let mut machine = machine::rows(kernel);
    machine.push((
        "measured",
        format!("rounds: {rounds}, bytes a text: {} MB", bytes as f64 / 1e6),
    ));
    print("## Machine\n\n")?;
    print(&table(
        &["what", "on this machine"],
        machine.into_iter().map(|(a, b)| [a.to_owned(), b]),
    ))?;

    let mut calibrators = Calibrators::new(options.quick);
    // A first time: memory and sockets are new to the system.
    calibrators.read()?;
    let mut readings = Readings::default();
    let (mut in_memory, mut over_tcp, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    for (index, &choice) in choices.iter().enumerate() {
        if stderr().is_terminal() {
            say(&format_args!(
                "{} ({} of {})",
                choice.name(),
                index + 1,
                choices.len()
            ));
        }
        let text = match choice.text(bytes) {
            Ok(text) => text,
            Err(missing) => {
                say(&format_args!("left out: {missing}"));
                left_out.push(missing);
                continue;
            }
        };
        let row = matrix::measure(&text, &config, rounds, &mut calibrators, &mut readings)?;
        let name = format!("`{}`: {}", text.name, text.what);
        in_memory.push([vec![name], row.cells().to_vec()].concat());
        let copies = if options.quick { 1 } else { COPIES };
        for &program in choice.programs() {
            over_tcp.push(measure_over_tcp(program, &text, &config, rounds, copies)?);
        }
    }

    if !in_memory.is_empty() {
        print("\n## What the machine can do\n\n")?;
        let limits = readings
            .rows()
            .map(|(what, figure, use_)| [what.to_owned(), figure, use_]);
        print(&table(
            &["calibrator", "median (least to most)", "note"],
            limits,
        ))?;
        if let Some(warning) = readings.warning() {
            print(&format!("\n{warning}\n"))?;
        }
        print("\n## Counting words in memory\n\n")?;
        print(&table(&MatrixRow::HEAD, in_memory))?;
        print(MEMORY_NOTES)?;
    }
    if !over_tcp.is_empty() {
        print("\n## Counting over loopback TCP\n\n")?;
        print(&table(&TCP_HEAD, over_tcp))?;
        print(TCP_NOTES)?;
    }
    if !wholes.is_empty() {
        let programs = Programs::new()?;
        for whole in wholes {
            if stderr().is_terminal() {
                say(&whole.name());
            }
            print_whole(
                whole,
                &programs,
                options.quick,
                bytes,
                rounds,
                &mut left_out,
            )?;
        }
    }
    for missing in left_out {
        print(&format!("\nLeft out: {missing}\n"))?;
    }
    Ok(())
}

/// Measures whole programs and prints the results.
fn print_whole(
    whole: Whole,
    programs: &Programs,
    is_quick: bool,
    bytes: usize,
    rounds: u64,
    left_out: &mut Vec<String>,
) -> Result<()> {
    match whole {
        Whole::Files => {
            print("\n## Counting files\n\n")?;
            let (rows, missing) = programs.files(bytes, rounds)?;
            left_out.extend(missing);
            print(&table(&Programs::FILES_HEAD, rows))?;
            print(FILES_NOTES)
        }
        Whole::Memory => {
            print("\n## Memory limit\n\n")?;
            let rows = match is_quick {
                true => programs.memory(&["256MiB"], 100_000, 10_000_000),
                false => programs.memory(&["512MiB", "1GiB"], 50_000_000, 4 << 30),
            };
            print(&table(&Programs::MEMORY_HEAD, rows?))
        }
        Whole::Start => {
            print("\n## Start\n\n")?;
            print(&table(&Programs::START_HEAD, programs.starts()?))
        }
    }
}

const FILES_NOTES: &str = "
Whole processes that write all counts to `/dev/null`. The text is `english`, for lines one word a line. Others
read the file as standard input; `sort` uses the C locale.
";

const MEMORY_NOTES: &str = "
`Tally` in the calling thread; for two threads, two of them on the halves of the text, not merged. The rival
is `HashMap<&[u8], u64>` over `memchr`, one thread. Tables are warm, except for `grow`. A figure is the median
of the rounds (least to most), a ratio the median of the ratios within rounds. The longest push is of
256 KiB, into an empty table; what the system does meanwhile is included.
";

const TCP_HEAD: [&str; 4] = ["text", "program", "GB/s", "of receiving and discarding it"];

const TCP_NOTES: &str = "
The whole engine, with the sender on the same cores; the growth of tables is included.
";

/// Measures one row: `program` on `copies` copies of `text`, and in turns with it a receiver that
/// discards as much.
fn measure_over_tcp(
    program: Program,
    text: &MatrixText,
    config: &Config,
    rounds: u64,
    copies: u64,
) -> Result<Vec<String>> {
    let expected = program.expected(&text.bytes);
    loopback::check(program, config, &text.bytes, &expected)?;
    let gigabytes = text.bytes.len() as f64 * copies as f64 / 1e9;
    let (mut gb_per_s, mut of_discarding) = (Figures::default(), Figures::default());
    for round in 0..rounds {
        let discard = || loopback::discard(&text.bytes, copies);
        let run = || loopback::run(program, config, &text.bytes, copies, &expected);
        let (discard_s, run_s) = if round % 2 == 0 {
            (discard()?, run()?)
        } else {
            let run_s = run()?;
            (discard()?, run_s)
        };
        gb_per_s.push(gigabytes / run_s);
        of_discarding.push(discard_s / run_s);
    }
    let name = format!("`{}`", text.name);
    let what = program.what().to_owned();
    Ok(vec![name, what, gb_per_s.cell(""), of_discarding.cell("")])
}

/// Returns the selected texts and whole programs in the order of the tables; all if none is
/// selected.
fn choices(only: &[String]) -> Result<(Vec<Choice>, Vec<Whole>)> {
    let texts = || {
        let installed = Installed::ALL.into_iter().map(Choice::Installed);
        installed.chain(Kind::ALL.into_iter().map(Choice::Made))
    };
    let names = || texts().map(Choice::name).chain(Whole::ALL.map(Whole::name));
    for name in only {
        if names().all(|known| known != name) {
            let names: Vec<_> = names().collect();
            let names = names.join(", ");
            return Err(Error::refused(format!(
                "--only {name:?}: no such text or measurement; choose from {names}"
            )));
        }
    }
    let is_wanted = |name: &str| only.is_empty() || only.iter().any(|wanted| wanted == name);
    Ok((
        texts().filter(|text| is_wanted(text.name())).collect(),
        Whole::ALL
            .into_iter()
            .filter(|whole| is_wanted(whole.name()))
            .collect(),
    ))
}

impl Choice {
    fn label(self) -> (&'static str, &'static str) {
        match self {
            Choice::Installed(installed) => installed.label(),
            Choice::Made(kind) => kind.label(),
        }
    }

    fn name(self) -> &'static str {
        self.label().0
    }

    /// Returns the text, or what is missing to have it.
    fn text(self, bytes: usize) -> std::result::Result<MatrixText, String> {
        let (name, what) = self.label();
        let bytes = match self {
            Choice::Installed(installed) => installed.read(bytes)?,
            Choice::Made(kind) => kind.make(bytes),
        };
        Ok(MatrixText {
            name,
            what,
            bytes,
            is_cold: self == Choice::Made(Kind::Grow),
        })
    }

    /// Returns the programs that are worth running over TCP on it; elsewhere memory shows the same.
    fn programs(self) -> &'static [Program] {
        match self {
            Choice::Made(Kind::English) => &[Program::Words, Program::Closures],
            Choice::Made(Kind::ZipfMillion) => &[Program::Words],
            Choice::Made(Kind::Log) => &[Program::Words, Program::Field],
            _ => &[],
        }
    }
}

/// Formats a table in Markdown.
fn table<R: AsRef<[String]>>(head: &[&str], rows: impl IntoIterator<Item = R>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        // A bar would end the cell, also in code.
        let cells: Vec<_> = row
            .as_ref()
            .iter()
            .map(|cell| cell.replace('|', "\\|"))
            .collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}

fn print(text: &str) -> Result<()> {
    let mut stdout = stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(|cause| Error::output("stdout", &cause))
}
