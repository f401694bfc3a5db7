//! How results are shown: formats, the live view, statistics at the end.
//!
//! Promise: standard output carries results and nothing else. Must not know: where lines come from and
//! how they are counted.

pub(crate) mod advice;
pub(crate) mod progress;
pub(crate) mod report;

use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use microtally::extract::{Number, Part, Reason, Skipped};
use microtally::prelude::*;
use microtally::sink::{Json, Pyspark, Tsv};
use microtally::stream::Reduced;
use microtally::{Error, Result, StopHandle, Value, sink};

use crate::counting::Plan;
use crate::live::{self, Live, Period, Values};
use crate::output::progress::Ending;
use crate::output::report::{Report, Results};
use crate::parse::spec::Aggregate;
use crate::parse::{Counting, Format, SourceSpec, Stats, Top};
use crate::run::signals;
use crate::{parse, say, say_line};

/// Rows of a batch that the live view holds, unless more are asked for.
const LIVE_ROWS: usize = 1000;

/// Characters that are shown of a line that is an example.
const EXAMPLE_CHARACTERS: usize = 60;

/// How a context is started.
pub(crate) type Start = fn(StreamingContext) -> Result<RunningContext>;

/// What stops a run, also one that has not begun yet: that one as soon as it has.
#[derive(Clone, Default)]
pub(crate) struct Stopper(Arc<Mutex<Stoppable>>);

#[derive(Default)]
struct Stoppable {
    is_unwanted: bool,
    handle: Option<StopHandle>,
}

impl Stopper {
    fn stop(&self) {
        let mut run = self.run();
        run.is_unwanted = true;
        if let Some(handle) = &run.handle {
            handle.stop(Stop::Graceful);
        }
    }

    fn has_begun(&self, handle: StopHandle) {
        let mut run = self.run();
        if run.is_unwanted {
            handle.stop(Stop::Graceful);
        }
        run.handle = Some(handle);
    }

    fn run(&self) -> MutexGuard<'_, Stoppable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How results are shown where the user said nothing.
pub(crate) struct Defaults {
    top: Top,
    format: Format,
    /// On a terminal there is a live view.
    is_live: bool,
}

impl Defaults {
    /// As PySpark's `pprint(10)`.
    pub(crate) fn words() -> Self {
        Defaults {
            top: Top::First(10),
            format: Format::Pyspark,
            is_live: false,
        }
    }

    /// Live.
    pub(crate) fn top() -> Self {
        Defaults {
            top: Top::First(10),
            format: table_or_tsv(),
            is_live: true,
        }
    }

    /// Everything, once.
    pub(crate) fn count() -> Self {
        Defaults {
            top: Top::All,
            format: table_or_tsv(),
            is_live: false,
        }
    }
}

fn table_or_tsv() -> Format {
    if std::io::stdout().is_terminal() {
        Format::Table
    } else {
        Format::Tsv
    }
}

/// A value of results as the program shows it.
pub(crate) trait Shown: Value {
    /// Whether there are values that are [null](Self::is_null).
    const MAY_BE_NULL: bool = false;

    /// As a number, to sort by and to take shares of.
    fn number(self) -> f64;

    /// Whether it is beyond what a double can hold, and shown as `null`.
    fn is_null(self) -> bool {
        false
    }
}

impl Shown for u64 {
    fn number(self) -> f64 {
        self as f64
    }
}

impl Shown for Number {
    const MAY_BE_NULL: bool = true;

    fn number(self) -> f64 {
        self.to_f64()
    }

    fn is_null(self) -> bool {
        self.is_null()
    }
}

/// How a table is written.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    is_repeated: bool,
    /// What all values together are, if they are parts of something.
    whole: Option<&'static str>,
    /// The time over which values came together, if it is not the interval.
    period: Option<Duration>,
}

impl Table {
    /// Of values that are parts of `whole`.
    pub(crate) fn new(is_repeated: bool, whole: &'static str, period: Option<Duration>) -> Self {
        Table {
            is_repeated,
            whole: Some(whole),
            period,
        }
    }

    fn sink<V: Shown>(self, rows: usize) -> sink::Columns<V> {
        let mut table = sink::Columns::of_values_stdout(rows).is_repeated(self.is_repeated);
        if let Some(whole) = self.whole {
            table = table.adds_up(V::number).whole(whole);
        }
        if let Some(period) = self.period {
            table = table.period(period);
        }
        table
    }
}

/// Puts `results` out on standard output.
pub(crate) fn put_out<V: Shown>(
    results: &Reduced<'_, V>,
    format: Format,
    rows: usize,
    table: Table,
) {
    match format {
        Format::Pyspark => results.output(Pyspark::stdout(rows)),
        Format::Table => results.output(table.sink(rows)),
        Format::Tsv => results.output(Tsv::stdout(rows)),
        Format::Json => results.output(Json::stdout(rows)),
    }
}

/// How many rows that is.
pub(crate) fn rows(top: Top) -> usize {
    match top {
        Top::First(count) => count,
        Top::All => usize::MAX,
    }
}

/// How the results of one command are shown.
pub(crate) struct Show<'a> {
    counting: &'a Counting,
    format: Format,
    is_live: bool,
    rows: usize,
    /// What all values together are, if they are parts of something.
    whole: Option<&'static str>,
    value_name: &'static str,
    report: Report,
    /// What was left out of the results.
    pub(crate) skipped: Arc<Skipped>,
    stopper: Stopper,
    live: Option<Live>,
    /// Whether the last result holds all that was counted.
    is_of_all: bool,
}

impl<'a> Show<'a> {
    /// As the user asked for.
    pub(crate) fn new(counting: &'a Counting, plan: &Plan, defaults: &Defaults) -> Self {
        let is_of_words = plan
            .keys
            .iter()
            .flat_map(|key| &key.parts)
            .any(|part| *part == Part::Word);
        Show {
            counting,
            format: counting.format.unwrap_or(defaults.format),
            is_live: defaults.is_live && counting.format.is_none(),
            rows: rows(counting.top.unwrap_or(defaults.top)),
            whole: match plan.aggregate {
                Aggregate::Count if is_of_words => Some("the words"),
                Aggregate::Count => Some("the records"),
                Aggregate::Sum => Some("the sum"),
                Aggregate::Min | Aggregate::Max | Aggregate::Mean => None,
            },
            value_name: plan.aggregate.name(),
            report: Report::new(),
            skipped: Skipped::new(),
            stopper: Stopper::default(),
            live: None,
            is_of_all: false,
        }
    }

    /// Counts what goes through `batches`, for the statistics.
    pub(crate) fn watch<V: Value>(&self, batches: &Reduced<'_, V>) {
        batches.output(self.report.clone());
    }

    /// Shows the one batch there will be; the progress line ends before.
    pub(crate) fn at_the_end<V: Shown>(&mut self, results: &Reduced<'_, V>) {
        self.is_of_all = true;
        results.output(Ending(Results(self.report.clone())));
        let table = Table {
            is_repeated: false,
            whole: self.whole,
            period: Some(Duration::ZERO),
        };
        put_out(results, self.format, self.rows, table);
    }

    /// Shows batch after batch, live if this user and this terminal want it.
    pub(crate) fn again_and_again<V: Shown>(
        &mut self,
        results: &Reduced<'_, V>,
        period: Period,
    ) -> Result<()> {
        self.is_of_all = matches!(period, Period::SoFar);
        results.output(Results(self.report.clone()));
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if self.is_live && std::io::stdout().is_terminal() && !is_dumb {
            return self.live(results, period);
        }
        let table = Table {
            is_repeated: true,
            whole: self.whole,
            period: match period {
                Period::Interval => None,
                Period::Window(length) => Some(length),
                // Of a sum that only grows a rate says nothing.
                Period::SoFar => Some(Duration::ZERO),
            },
        };
        put_out(results, self.format, self.rows, table);
        Ok(())
    }

    fn live<V: Shown>(&mut self, results: &Reduced<'_, V>, period: Period) -> Result<()> {
        let sources = &self.counting.sources;
        let reads_stdin = sources.is_empty() || sources.contains(&SourceSpec::Stdin);
        if reads_stdin && std::io::stdin().is_terminal() {
            return Err(Error::refused(
                "standard input: this terminal, whose keys steer the live view; name a file or an address to count, or \
                 write -o table to type lines here",
            ));
        }
        let is_colourful = match self.counting.color {
            parse::Color::Always => true,
            parse::Color::Never => false,
            parse::Color::Auto => std::env::var_os("NO_COLOR").is_none_or(|text| text.is_empty()),
        };
        let rows_max = match self.counting.top {
            Some(Top::First(count)) => count,
            _ => LIVE_ROWS,
        };
        let options = live::Options {
            sources: match &self.counting.sources[..] {
                [] => vec![SourceSpec::Stdin.to_string()],
                sources => {
                    let shown = |source: &SourceSpec| parse::spec::shown(&source.to_string());
                    sources.iter().map(shown).collect()
                }
            },
            value_name: self.value_name.to_owned(),
            values: self.whole.map_or(Values::Alone, Values::PartsOf),
            period,
            rows_max,
            color: if is_colourful {
                live::Color::Full
            } else {
                live::Color::None
            },
        };
        let stopper = self.stopper.clone();
        let view = live::start(options, move || stopper.stop())?;
        results.output(view.sink(V::number));
        self.live = Some(view);
        Ok(())
    }

    /// Runs to the end, and tells what was left out, and the statistics if they are wanted.
    pub(crate) fn run(self, ssc: StreamingContext, start: Start) -> Result<()> {
        let outcome = run(ssc, start, &self.stopper);
        let is_live = self.live.is_some();
        let left = self.live.map_or(Ok(()), Live::finish);
        let summary = self.report.summary_with(&self.skipped);
        say_what_was_skipped(&self.skipped);
        for (records, one, many) in [
            (
                summary.oversize(),
                "line or word is longer than --max-record; skipped",
                "lines or words are longer than --max-record; skipped",
            ),
            // A window is shown when it is due. One that is not due at the end has not slid.
            (
                summary.left_records(),
                "line came after the last window of --slide; skipped",
                "lines came after the last window of --slide; skipped",
            ),
            (
                summary.null_values(),
                "value is beyond 1.8e308, the range of a double; its result is null",
                "values are beyond 1.8e308, the range of a double; their results are null",
            ),
        ] {
            match records {
                0 => {}
                1 => say(&format_args!("1 {one}")),
                _ => say(&format_args!("{records} {many}")),
            }
        }
        // The other formats say themselves how many keys there are, or that there are more.
        let is_cut = self.format == Format::Tsv && !is_live && self.counting.top.is_none();
        if is_cut && summary.keys_max() > self.rows as u64 {
            say(&format_args!(
                "the first {} of up to {} keys were printed; -n all prints every key",
                self.rows,
                summary.keys_max()
            ));
        }
        match self.counting.stats {
            None if std::io::stderr().is_terminal() && outcome.is_ok() => {
                say_line(&summary.short_text(self.is_of_all));
            }
            Some(Stats::Text) => say(&summary.text()),
            // A line of its own for programs, without our name in front.
            Some(Stats::Json) => say_line(&summary.json()),
            None => {}
        }
        outcome.and(left)
    }
}

/// Says for each reason how many lines were skipped, and shows one of them.
fn say_what_was_skipped(skipped: &Skipped) {
    for (reason, one, many, rest) in [
        (
            Reason::NotJson,
            "line is not valid JSON",
            "lines are not valid JSON",
            "skipped",
        ),
        (
            Reason::NotText,
            "line has a JSON string that is not text (half of a surrogate pair, or not UTF-8)",
            "lines have a JSON string that is not text (half of a surrogate pair, or not UTF-8)",
            "skipped",
        ),
        (
            Reason::NoKey,
            "line has no such key",
            "lines have no such key",
            "skipped",
        ),
        (
            Reason::NoValue,
            "line has no such value",
            "lines have no such value",
            "skipped",
        ),
        (
            Reason::NotANumber,
            "line has a value that is not a number",
            "lines have a value that is not a number",
            "skipped",
        ),
        (
            Reason::TooLarge,
            "line has a number beyond 1.8e308, the range of a double",
            "lines have a number beyond 1.8e308, the range of a double",
            "skipped, and not in any sum, mean, min or max",
        ),
        (
            Reason::OpenQuote,
            "line ends inside a quoted CSV column",
            "lines end inside a quoted CSV column",
            "a record that spans lines is not joined, each line is looked at by itself",
        ),
    ] {
        let (lines, what) = match skipped.count(reason) {
            0 => continue,
            1 => (1, one),
            lines => (lines, many),
        };
        match skipped.example(reason) {
            Some(line) => {
                let example = shortened(line);
                say(&format_args!(
                    "{lines} {what}; {rest}, for example: {example}"
                ));
            }
            None => say(&format_args!("{lines} {what}; {rest}")),
        }
    }
}

/// The beginning of a line. A byte that is not UTF-8 is escaped; all else is left to whoever shows it.
fn shortened(line: &[u8]) -> String {
    let mut text = String::new();
    for chunk in line.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    if text.trim().is_empty() {
        return "a blank line".to_owned();
    }
    if let Some((end, _)) = text.char_indices().nth(EXAMPLE_CHARACTERS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Runs to the end, or until a signal or whoever has `stopper` ends it.
pub(crate) fn run(ssc: StreamingContext, start: Start, stopper: &Stopper) -> Result<()> {
    // Before there are sources: they may open as many files as the process can, and waiting for signals takes two.
    let on_signal = stopper.clone();
    signals::stop_on_signal(move || on_signal.stop());
    let running = start(ssc)?;
    stopper.has_begun(running.stop_handle());
    running.await_termination()
}
