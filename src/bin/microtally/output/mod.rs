//! Prints results: formats, the live view, statistics at the end.
//!
//! Promise: standard output carries results and nothing else. Must not know: `bench`, `generate`.

pub(crate) mod advice;
pub(crate) mod progress;
pub(crate) mod report;

use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex};

use microtally::error::Result;
use microtally::extract::{Number, Reason, Selector, Skipped};
use microtally::metrics::Snapshot;
use microtally::prelude::*;
use microtally::sink::{Json, Pyspark, Tsv};
use microtally::stream::Reduced;
use microtally::stream::StopHandle;
use microtally::{Error, Value, sink};

use crate::counting::{CountingPlan, Row};
use crate::live::{self, LiveView, Period, ValueKind};
use crate::output::progress::EndProgress;
use crate::output::report::{Report, Results};
use crate::parse::aggregate::AggregateKind;
use crate::parse::{CountingArgs, FormatArg, SourceSpec, StatsArg, TopArg};
use crate::run::signals;
use crate::{lock, parse, say, say_line};

/// Rows of a batch that the live view holds without `--top`.
const LIVE_ROWS: usize = 1000;

/// Characters of an example line that are printed.
const EXAMPLE_CHARACTERS: usize = 60;

/// What a line with [`Reason::NotText`] has.
const NOT_TEXT: &str = "a JSON string that is not text (half of a surrogate pair, or not UTF-8)";

/// Starts a context.
pub(crate) type Start = fn(StreamingContext) -> Result<RunningContext>;

/// Stops the run; if it hasn't started yet, stops it as soon as it does.
#[derive(Clone, Default)]
pub(crate) struct Stopper(Arc<Mutex<Stoppable>>);

#[derive(Default)]
struct Stoppable {
    is_stopped: bool,
    handle: Option<StopHandle>,
}

impl Stopper {
    fn stop(&self) {
        let mut run = lock(&self.0);
        run.is_stopped = true;
        if let Some(handle) = &run.handle {
            handle.stop(Stop::Graceful);
        }
    }

    /// Returns the records of the run that were dropped or lost so far.
    fn dropped(&self) -> u64 {
        let run = lock(&self.0);
        let handle = run.handle.as_ref();
        handle.map_or(0, |handle| handle.stats().dropped())
    }

    fn started(&self, handle: StopHandle) {
        let mut run = lock(&self.0);
        if run.is_stopped {
            handle.stop(Stop::Graceful);
        }
        run.handle = Some(handle);
    }
}

/// How results are printed without options.
pub(crate) struct FormatDefaults {
    pub top: TopArg,
    pub format: FormatArg,
    /// Whether there is a live view on a terminal.
    pub is_live: bool,
}

/// A table on a terminal, and tsv in a pipe.
pub(crate) fn table_or_tsv() -> FormatArg {
    if std::io::stdout().is_terminal() {
        FormatArg::Table
    } else {
        FormatArg::Tsv
    }
}

/// A value of a result.
pub(crate) trait ResultValue: Value {
    /// Whether there are values that are [null](Self::is_null).
    const MAY_BE_NULL: bool = false;

    /// Returns the value as a number, for sorting and shares.
    fn number(self) -> f64;

    /// Returns `true` if the value is beyond a double and printed as `null`.
    fn is_null(self) -> bool {
        false
    }
}

impl ResultValue for u64 {
    fn number(self) -> f64 {
        self as f64
    }
}

impl ResultValue for Number {
    const MAY_BE_NULL: bool = true;

    fn number(self) -> f64 {
        self.to_f64()
    }

    fn is_null(self) -> bool {
        self.is_null()
    }
}

impl<const N: usize, const F: usize> ResultValue for Row<N, F> {
    const MAY_BE_NULL: bool = true;

    fn number(self) -> f64 {
        self.numbers().next().map_or(0.0, Number::to_f64)
    }

    fn is_null(self) -> bool {
        self.numbers().any(Number::is_null)
    }
}

/// The names of the columns of values.
#[derive(Clone, Copy)]
pub(crate) struct ColumnNames<'a>(&'a [AggregateKind]);

impl ColumnNames<'_> {
    /// Of plain counts, which have no name.
    pub(crate) const NONE: ColumnNames<'static> = ColumnNames(&[]);

    /// The names above the columns of a table: if there are several.
    fn in_table(self) -> Vec<String> {
        match self.0 {
            [_] => Vec::new(),
            kinds => kinds.iter().map(|kind| kind.name()).collect(),
        }
    }

    fn sink<V: ResultValue>(self, json: Json<V>) -> Json<V> {
        if self.0.is_empty() {
            return json;
        }
        let named = self.0.iter().map(|kind| (kind.name(), kind.error()));
        let named: Vec<(String, Option<f64>)> = named.collect();
        let names = named.iter().map(|(name, _)| name.as_str());
        let errors = named
            .iter()
            .filter_map(|(name, error)| Some((name.as_str(), (*error)?)));
        json.columns(names, errors)
    }
}

/// Options of the table format.
#[derive(Clone, Copy)]
pub(crate) struct TableStyle {
    pub is_repeated: bool,
    /// What the values are parts of, if they add up.
    pub whole: Option<&'static str>,
    /// The time that values cover, if it is not the interval.
    pub period: Option<Duration>,
}

impl TableStyle {
    fn sink<V: ResultValue>(self, rows: usize, names: ColumnNames<'_>) -> sink::Columns<V> {
        let mut table = sink::Columns::of_values_stdout(rows).is_repeated(self.is_repeated);
        table = table.names(names.in_table().iter().map(String::as_str));
        if let Some(whole) = self.whole {
            table = table.adds_up(V::number).whole(whole);
        }
        if let Some(period) = self.period {
            table = table.period(period);
        }
        table
    }
}

/// Prints `results` on standard output.
pub(crate) fn print<V: ResultValue>(
    results: &Reduced<V>,
    format: FormatArg,
    rows: usize,
    table: TableStyle,
    names: ColumnNames<'_>,
) {
    match format {
        FormatArg::Pyspark => results.output(Pyspark::stdout(rows)),
        FormatArg::Table => results.output(table.sink(rows, names)),
        FormatArg::Tsv => results.output(Tsv::stdout(rows)),
        FormatArg::Json => results.output(names.sink(Json::stdout(rows))),
    }
}

/// The number of rows for `--top`.
pub(crate) fn rows(top: TopArg) -> usize {
    match top {
        TopArg::First(count) => count,
        TopArg::All => usize::MAX,
    }
}

/// Prints the results of one command.
pub(crate) struct ResultOutput<'a> {
    counting: &'a CountingArgs,
    format: FormatArg,
    is_live: bool,
    rows: usize,
    /// What the values are parts of, if they add up.
    whole: Option<&'static str>,
    value_name: String,
    report: Report,
    /// Lines that are in no result.
    pub(crate) skipped: Arc<Skipped>,
    stopper: Stopper,
    live: Option<LiveView>,
    /// Whether the last result holds everything that was counted.
    is_of_all: bool,
}

impl<'a> ResultOutput<'a> {
    /// Follows the options of the user, and `defaults` without them.
    pub(crate) fn new(
        counting: &'a CountingArgs,
        plan: &CountingPlan,
        defaults: &FormatDefaults,
    ) -> Self {
        let is_of_words = plan
            .keys
            .iter()
            .flat_map(|key| &key.parts)
            .any(|part| *part == Selector::Word);
        ResultOutput {
            counting,
            format: counting.format.unwrap_or(defaults.format),
            is_live: defaults.is_live && counting.format.is_none(),
            rows: rows(counting.top.unwrap_or(defaults.top)),
            // Shares are of the first column.
            whole: match plan.aggregates.kinds()[0] {
                AggregateKind::Count if is_of_words => Some("the words"),
                AggregateKind::Count => Some("the records"),
                AggregateKind::Sum => Some("the sum"),
                _ => None,
            },
            value_name: plan.aggregates.names("  "),
            report: Report::new(),
            skipped: Skipped::new(),
            stopper: Stopper::default(),
            live: None,
            is_of_all: false,
        }
    }

    fn names(&self) -> ColumnNames<'a> {
        match self.counting.aggregate.is_count() {
            true => ColumnNames::NONE,
            false => ColumnNames(self.counting.aggregate.kinds()),
        }
    }

    /// Adds `batches` to the statistics.
    pub(crate) fn watch<V: Value>(&self, batches: &Reduced<V>) {
        batches.output(self.report.clone());
    }

    /// Prints the only batch; the progress line ends first.
    pub(crate) fn print_once<V: ResultValue>(&mut self, results: &Reduced<V>) {
        self.is_of_all = true;
        results.output(EndProgress(Results(self.report.clone())));
        let table = TableStyle {
            is_repeated: false,
            whole: self.whole,
            period: Some(Duration::ZERO),
        };
        print(results, self.format, self.rows, table, self.names());
    }

    /// Prints every batch, or shows it in the live view if the options and the terminal allow it.
    pub(crate) fn print_repeatedly<V: ResultValue>(
        &mut self,
        results: &Reduced<V>,
        period: Period,
    ) -> Result<()> {
        self.is_of_all = matches!(period, Period::SoFar);
        results.output(Results(self.report.clone()));
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if self.is_live && std::io::stdout().is_terminal() && !is_dumb {
            return self.live(results, period);
        }
        let table = TableStyle {
            is_repeated: true,
            whole: self.whole,
            period: match period {
                Period::Interval => None,
                Period::Window(length) => Some(length),
                // A rate says nothing about a sum that only grows.
                Period::SoFar => Some(Duration::ZERO),
            },
        };
        print(results, self.format, self.rows, table, self.names());
        Ok(())
    }

    fn live<V: ResultValue>(&mut self, results: &Reduced<V>, period: Period) -> Result<()> {
        let sources = &self.counting.sources;
        let reads_stdin = sources.is_empty() || sources.contains(&SourceSpec::Stdin);
        if reads_stdin && std::io::stdin().is_terminal() {
            return Err(Error::refused(
                "standard input: this terminal, whose keys control the live view; name a file or an address to \
                 count, or use -o table to type lines here",
            ));
        }
        let has_colors = match self.counting.color {
            parse::ColorArg::Always => true,
            parse::ColorArg::Never => false,
            parse::ColorArg::Auto => {
                std::env::var_os("NO_COLOR").is_none_or(|text| text.is_empty())
            }
        };
        let rows_max = match self.counting.top {
            Some(TopArg::First(count)) => count,
            _ => LIVE_ROWS,
        };
        let options = live::ViewOptions {
            sources: match &self.counting.sources[..] {
                [] => vec![SourceSpec::Stdin.to_string()],
                sources => {
                    let shown = |source: &SourceSpec| parse::keys::shown(&source.to_string());
                    sources.iter().map(shown).collect()
                }
            },
            value_name: self.value_name.clone(),
            values: self.whole.map_or(ValueKind::Alone, ValueKind::PartsOf),
            period,
            rows_max,
            color: if has_colors {
                live::Palette::Full
            } else {
                live::Palette::None
            },
        };
        let stopper = self.stopper.clone();
        let counts = self.stopper.clone();
        let view = live::start(options, move || counts.dropped(), move || stopper.stop())?;
        results.output(view.sink(V::number));
        self.live = Some(view);
        Ok(())
    }

    /// Runs to the end, and reports skipped lines and, on request, statistics.
    pub(crate) fn run(self, ssc: StreamingContext, start: Start) -> Result<()> {
        let (metrics, outcome) = run(ssc, start, &self.stopper);
        let is_live = self.live.is_some();
        let left = self.live.map_or(Ok(()), LiveView::finish);
        let summary = self.report.summary(metrics, &self.skipped);
        report_skipped(&self.skipped);
        for (records, one, many) in [
            (
                summary.run.oversize_tokens,
                "line or word is longer than --max-record; skipped",
                "lines or words are longer than --max-record; skipped",
            ),
            // A window is printed when it is due; at the end the last one may not be due yet.
            (
                summary.results.late_records,
                "line came after the last window of --slide; skipped",
                "lines came after the last window of --slide; skipped",
            ),
            (
                summary.results.null_values,
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
        // The other formats include the number of keys, or mark that there are more.
        let is_cut = self.format == FormatArg::Tsv && !is_live && self.counting.top.is_none();
        if is_cut && summary.results.keys_max > self.rows as u64 {
            say(&format_args!(
                "the first {} of up to {} keys were printed; -n all prints every key",
                self.rows, summary.results.keys_max
            ));
        }
        match self.counting.stats {
            None if std::io::stderr().is_terminal() && outcome.is_ok() => {
                say_line(&summary.short_text(self.is_of_all));
            }
            Some(StatsArg::Text) => say(&summary.text()),
            // For programs, so without our name in front.
            Some(StatsArg::Json) => say_line(&summary.json()),
            None => {}
        }
        outcome.and(left)
    }
}

/// Reports for each reason how many lines were skipped, with an example.
fn report_skipped(skipped: &Skipped) {
    for (reason, one, many, what, rest) in [
        (Reason::NotJson, "is", "are", "not valid JSON", "skipped"),
        (Reason::NotText, "has", "have", NOT_TEXT, "skipped"),
        (Reason::NoKey, "has", "have", "no such key", "skipped"),
        (Reason::NoValue, "has", "have", "no such value", "skipped"),
        (
            Reason::NotANumber,
            "has",
            "have",
            "a value that is not a number",
            "skipped",
        ),
        (
            Reason::TooLarge,
            "has",
            "have",
            "a number beyond 1.8e308, the range of a double",
            "skipped, and in no result",
        ),
        (
            Reason::OpenQuote,
            "ends",
            "end",
            "inside a quoted CSV column",
            "records that span lines are not joined, each line is read by itself",
        ),
    ] {
        let lines = match skipped.count(reason) {
            0 => continue,
            1 => format!("1 line {one}"),
            lines => format!("{lines} lines {many}"),
        };
        let example = skipped.example(reason).map(shortened);
        let example = example.map_or(String::new(), |line| format!(", for example: {line}"));
        say(&format_args!("{lines} {what}; {rest}{example}"));
    }
}

/// Returns the beginning of a line. Bytes that are not UTF-8 are escaped here, other characters
/// where it is printed.
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

/// Runs to the end, or until a signal or `stopper` ends the run. Returns the metrics beside the
/// outcome; they are empty if the run did not start.
pub(crate) fn run(
    ssc: StreamingContext,
    start: Start,
    stopper: &Stopper,
) -> (Snapshot, Result<()>) {
    // Before sources open as many files as the process may: waiting for signals takes two.
    let on_signal = stopper.clone();
    signals::stop_on_signal(move || on_signal.stop());
    let running = match start(ssc) {
        Ok(running) => running,
        Err(error) => return (Snapshot::default(), Err(error)),
    };
    stopper.started(running.stop_handle());
    let outcome = running.await_termination();
    (running.metrics(), outcome)
}
