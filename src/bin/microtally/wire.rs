//! Connects what the user typed to the library.
//!
//! Promise: nothing is started before everything was checked; a source or a format is one line here.
//! Refuses to know: how stages work.

use std::ffi::OsStr;
use std::io::{IsTerminal, Write};

use microtally::prelude::*;
use microtally::sink::{Json, Pyspark, Tsv};
use microtally::sources::{Files, Input, TcpClient, expand};
use microtally::stream::{DStream, Reduced};
use microtally::{Config, Error, Lines, Notice, Reconnect, Result, Rule, Source, Value};

use crate::flags::{
    self, Count, Counting, Demo, Format, Live, Slides, SourceSpec, Split, Stats, Threads, Top,
    Words, Workers,
};
use crate::report::Report;
use crate::{load, say, signals};

/// What a command takes where the user said nothing.
struct Defaults {
    interval: Duration,
    key: &'static str,
    /// How `-k word` splits.
    rule: Rule,
    top: Top,
    format: Format,
    /// Without a window, results are of everything so far.
    adds_up: bool,
}

/// `microtally words`.
pub(crate) fn words(options: &Words) -> Result<()> {
    let defaults = Defaults {
        interval: Duration::from_secs(5),
        key: "word",
        rule: Rule::Split(b' '),
        top: Top::First(10),
        format: Format::Pyspark,
        adds_up: false,
    };
    batches(&options.counting, &options.slides, &defaults)
}

/// `microtally top`.
pub(crate) fn top(options: &Live) -> Result<()> {
    let defaults = Defaults {
        interval: Duration::from_secs(1),
        key: "line",
        rule: Rule::SplitWhitespace,
        top: Top::First(10),
        format: table_or_tsv(),
        adds_up: true,
    };
    batches(&options.counting, &options.slides, &defaults)
}

/// `microtally count`.
pub(crate) fn count(options: &Count) -> Result<()> {
    let defaults = Defaults {
        interval: Duration::ZERO,
        key: "line",
        rule: Rule::SplitWhitespace,
        top: Top::All,
        format: table_or_tsv(),
        adds_up: false,
    };
    let counting = &options.counting;
    let ssc = StreamingContext::one_batch(config(counting))?;
    ssc.on_notice(tell);
    let report = Report::new();
    // Nothing but files is counted on all cores at once, without a thread that reads.
    let patterns = only_files(counting);
    let lines = match &patterns {
        Some(patterns) => ssc.files_stream(open(patterns)?),
        None => connect(&ssc, counting)?,
    };
    let counts = keyed(&lines, counting, &defaults)?;
    counts.output(report.clone());
    attach(&counts, counting, &defaults);
    let start = match patterns {
        Some(_) => StreamingContext::start_files,
        None => StreamingContext::start,
    };
    finish(ssc, start, counting, &report)
}

/// The patterns of a command that reads files to their ends and nothing else.
fn only_files(counting: &Counting) -> Option<Vec<&OsStr>> {
    let patterns = counting.sources.iter().map(|source| match source {
        SourceSpec::Files(pattern) => Some(pattern.as_os_str()),
        _ => None,
    });
    let patterns: Vec<_> = patterns.collect::<Option<_>>()?;
    (!patterns.is_empty() && !counting.follow).then_some(patterns)
}

/// The files of some patterns.
fn open(patterns: &[&OsStr]) -> Result<Files> {
    Files::open(expand(patterns)?)
}

/// A command that gives results again and again.
fn batches(counting: &Counting, slides: &Slides, defaults: &Defaults) -> Result<()> {
    let interval = slides.interval.unwrap_or(defaults.interval);
    let ssc = StreamingContext::with_config(interval, config(counting))?;
    ssc.on_notice(tell);
    if let Some(batches) = slides.batches {
        ssc.stop_after(batches)?;
    }
    let report = Report::new();
    let counts = keyed(&connect(&ssc, counting)?, counting, defaults)?;
    counts.output(report.clone());
    let shown = match slides.window {
        None if defaults.adds_up => counts.reduce_by_key_so_far(|a, b| a + b),
        None => counts,
        Some(length) => {
            let window = (length, slides.slide.unwrap_or(interval));
            counts.reduce_by_key_and_window_with_inverse_and_filter(
                |a, b| a + b,
                |a, b| a - b,
                window,
                |_, count| count != 0,
            )?
        }
    };
    attach(&shown, counting, defaults);
    finish(ssc, StreamingContext::start, counting, &report)
}

/// The lines of every source.
fn connect<'c>(ssc: &'c StreamingContext, counting: &Counting) -> Result<DStream<'c, Lines>> {
    let stdin = [SourceSpec::Stdin];
    let specs = match &counting.sources[..] {
        [] => &stdin,
        specs => specs,
    };
    let mut sources = Vec::new();
    for spec in specs {
        sources.push(source(spec, counting)?);
    }
    ssc.union_sources(sources)
}

fn source(spec: &SourceSpec, counting: &Counting) -> Result<Box<dyn Source>> {
    let reconnect = match counting.reconnect {
        flags::Reconnect::After(pause) => Reconnect::After(pause),
        flags::Reconnect::Never => Reconnect::Never,
    };
    Ok(match spec {
        SourceSpec::Stdin => Box::new(Input::stdin()),
        SourceSpec::Tcp { host, port } => Box::new(TcpClient::new(host, *port, reconnect)),
        SourceSpec::Files(pattern) => Box::new(open(&[pattern])?),
        other => return Err(Error::refused(format!("{other:?} is not there yet"))),
    })
}

/// The counts of what the user wants counted.
fn keyed<'c>(
    lines: &DStream<'c, Lines>,
    counting: &Counting,
    defaults: &Defaults,
) -> Result<Reduced<'c, u64>> {
    let rule = match counting.split {
        Split::Default => defaults.rule,
        Split::Byte(separator) => Rule::Split(separator),
        Split::Whitespace => Rule::SplitWhitespace,
    };
    let key = counting.keys.first().map_or(defaults.key, |key| &key[..]);
    Ok(match key {
        "word" => lines.clone().flat_map(rule).count_by_value(),
        _ => lines.count_by_value(),
    })
}

/// Puts results out as the user wants them.
fn attach<V: Value>(results: &Reduced<'_, V>, counting: &Counting, defaults: &Defaults) {
    let top = match counting.top.unwrap_or(defaults.top) {
        Top::First(count) => count,
        Top::All => usize::MAX,
    };
    put_out(results, counting.format.unwrap_or(defaults.format), top);
}

fn put_out<V: Value>(results: &Reduced<'_, V>, format: Format, top: usize) {
    match format {
        Format::Pyspark => results.output(Pyspark::stdout(top)),
        Format::Tsv => results.output(Tsv::stdout(top)),
        Format::Json => results.output(Json::stdout(top)),
        Format::Table => results.output(Pyspark::stdout(top)),
    }
}

/// Runs to the end, and tells the statistics if they are wanted.
fn finish(
    ssc: StreamingContext,
    start: fn(StreamingContext) -> Result<RunningContext>,
    counting: &Counting,
    report: &Report,
) -> Result<()> {
    let outcome = run(ssc, start);
    let stats = match counting.stats {
        None if std::io::stderr().is_terminal() => Some(Stats::Text),
        asked => asked,
    };
    match stats {
        Some(Stats::Text) => say(&report.summary().text()),
        // A line of its own for programs, without our name in front.
        Some(Stats::Json) => drop(writeln!(std::io::stderr(), "{}", report.summary().json())),
        None => {}
    }
    outcome
}

/// `microtally demo`.
pub(crate) fn demo(options: &Demo) -> Result<()> {
    let port = load::serve_one(&options.load)?;
    let ssc = StreamingContext::with_config(options.interval, of_threads(&options.threads))?;
    ssc.on_notice(tell);
    ssc.stop_after(options.batches)?;
    let lines = ssc.socket_text_stream_with("127.0.0.1", port, Reconnect::Never)?;
    let counts = lines.flat_map(split(b' ')).count_by_value();
    let report = Report::new();
    let top = match options.top {
        Top::First(count) => count,
        Top::All => usize::MAX,
    };
    put_out(&counts, options.format, top);
    counts.output(report.clone());
    run(ssc, StreamingContext::start)?;
    if options.format != Format::Pyspark {
        // Programs read these formats: no line for people among the results.
        say(&report.summary().text());
        return Ok(());
    }
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", report.summary().text()).map_err(|cause| Error::output("stdout", &cause))
}

/// The settings of a command that counts.
fn config(counting: &Counting) -> Config {
    of_threads(&counting.threads).record_bytes_max(counting.record_bytes_max)
}

fn of_threads(threads: &Threads) -> Config {
    let config = with_kernel(Config::default().pin(threads.pin), &threads.kernel);
    match threads.workers {
        Workers::Auto => config,
        Workers::Exactly(count) => config.workers(count),
    }
}

/// `config` with the kernel that was asked for, if one was. Whether there is one of that name is for the
/// library to say.
pub(crate) fn with_kernel(config: Config, kernel: &flags::Kernel) -> Config {
    match &kernel.name {
        Some(name) => config.kernel(name),
        None => config,
    }
}

fn table_or_tsv() -> Format {
    if std::io::stdout().is_terminal() {
        Format::Table
    } else {
        Format::Tsv
    }
}

fn run(ssc: StreamingContext, start: fn(StreamingContext) -> Result<RunningContext>) -> Result<()> {
    let running = start(ssc)?;
    signals::stop_on_signal(running.stop_handle());
    running.await_termination()
}

/// Notices go to the person at the terminal, with what to do where there is something to do.
fn tell(notice: &Notice) {
    say(notice);
    if let Notice::Waiting { source, reason, .. } = notice
        && reason == "connection refused"
        && let Some((_, port)) = source.rsplit_once(':')
    {
        let help = "start a source in another terminal, for example:  nc -lk";
        let _ = writeln!(std::io::stderr(), "            {help} {port}");
    }
}
