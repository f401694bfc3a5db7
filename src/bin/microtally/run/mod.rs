//! Connects the command line to the library.
//!
//! Promise: nothing is started before everything has been checked. Must not know: `bench`.

pub(crate) mod allocations;
pub(crate) mod manual;
pub(crate) mod memory;
pub(crate) mod signals;
pub(crate) mod streams;
pub(crate) mod usage;

use std::ffi::OsStr;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use microtally::config::{LineEnds, OnLimit};
use microtally::error::{ErrorKind, Result};
use microtally::extract::{Selector, Separator, Skipped};
use microtally::prelude::*;
use microtally::sources::{
    DirectoryFiles, Files, Follow, FollowOptions, Stdin, TcpClient, TcpListen, UdpListen,
    UnixClient, UnixListen, expand,
};
use microtally::sources::{FileOptions, Reconnect, Source};
use microtally::stream::DStream;
use microtally::stream::LineRecords;
use microtally::{Config, Error, Rule};

use crate::counting::{ColumnStream, CountedStream, CountingPlan};
use crate::live::Period;
use crate::output::advice::{self, in_terms_of_sources};
use crate::output::report::Report;
use crate::output::{FormatDefaults, ResultOutput, Start, TableStyle, progress};
use crate::parse::{
    AddressArg, BatchArgs, CountingArgs, DemoArgs, FormatArg, FromArg, MemoryArg, SourceSpec,
    StreamArgs, ThreadArgs, TopArg, WorkersArg,
};
use crate::{generate, output, parse, say};

/// What a command uses without options.
struct CommandDefaults {
    interval: Duration,
    key: Selector,
    /// How `-k word` splits.
    words: Rule,
    ends: LineEnds,
    output: FormatDefaults,
    /// Whether results cover everything so far, if there is no window.
    adds_up: bool,
    /// Where to begin in followed files.
    from: FromArg,
}

/// `microtally words`.
pub(crate) fn words(options: &StreamArgs) -> Result<()> {
    let defaults = CommandDefaults {
        interval: Duration::from_secs(5),
        key: Selector::Word,
        words: Rule::Split(b' '),
        ends: LineEnds::Universal,
        output: FormatDefaults {
            top: TopArg::First(10),
            format: FormatArg::Pyspark,
            is_live: false,
        },
        adds_up: false,
        from: FromArg::End,
    };
    refuse_colors(&options.counting, "words")?;
    batches(&options.counting, &options.batching, &defaults)
}

/// `microtally top`.
pub(crate) fn top(options: &StreamArgs) -> Result<()> {
    let defaults = CommandDefaults {
        interval: Duration::from_secs(1),
        key: Selector::Line,
        words: Rule::SplitWhitespace,
        ends: LineEnds::Lf,
        output: FormatDefaults {
            top: TopArg::First(10),
            format: output::table_or_tsv(),
            is_live: true,
        },
        adds_up: true,
        from: FromArg::End,
    };
    batches(&options.counting, &options.batching, &defaults)
}

/// `microtally count`.
pub(crate) fn count(counting: &CountingArgs) -> Result<()> {
    let defaults = CommandDefaults {
        interval: Duration::ZERO,
        key: Selector::Line,
        words: Rule::SplitWhitespace,
        ends: LineEnds::Lf,
        output: FormatDefaults {
            top: TopArg::All,
            format: output::table_or_tsv(),
            is_live: false,
        },
        adds_up: false,
        from: FromArg::Start,
    };
    refuse_colors(counting, "count")?;
    let plan = plan(counting, &defaults)?;
    let ssc = StreamingContext::one_batch(config(counting, defaults.ends))?;
    ssc.on_notice(advice::report);
    let mut output = ResultOutput::new(counting, &plan, &defaults.output);
    // Files alone are counted on all cores at once, without a reading thread.
    let (lines, start, progress): (_, Start, _) = match only_files(counting) {
        Some(patterns) => {
            let files = open(&patterns)?;
            let progress = progress::of_files(files.progress());
            (
                ssc.files_stream(files),
                StreamingContext::start_files,
                Some(progress),
            )
        }
        None => {
            let progress = progress::of_stdin().filter(|_| reads_stdin(counting));
            let lines = connect(&ssc, counting, &defaults, None)?;
            (lines, StreamingContext::start, progress)
        }
    };
    match attach(&plan, &lines, &output)? {
        CountedStream::Count(counts) => {
            output.watch(&counts);
            output.print_once(&counts);
        }
        CountedStream::Number(numbers, _) => {
            output.watch(&numbers);
            output.print_once(&numbers);
        }
        CountedStream::Small(columns) => print_once(&mut output, &columns),
        CountedStream::Few(columns) => print_once(&mut output, &columns),
        CountedStream::Many(columns) => print_once(&mut output, &columns),
    }
    let _line = progress.map(progress::start);
    output.run(ssc, start)
}

/// Refuses `--color always` for commands without a live view, which print no colors.
fn refuse_colors(counting: &CountingArgs, command: &str) -> Result<()> {
    match counting.color {
        parse::ColorArg::Always => Err(Error::refused(format!(
            "--color always: {command} prints without colors; only the live view of top has them, so leave --color out"
        ))),
        parse::ColorArg::Auto | parse::ColorArg::Never => Ok(()),
    }
}

/// Runs a command that prints results repeatedly.
fn batches(
    counting: &CountingArgs,
    batching: &BatchArgs,
    defaults: &CommandDefaults,
) -> Result<()> {
    let plan = plan(counting, defaults)?;
    let interval = batching.interval.unwrap_or(defaults.interval);
    for (option, duration) in [("--window", batching.window), ("--slide", batching.slide)] {
        if let Some(duration) = duration
            && duration.as_millis() % interval.as_millis() != 0
        {
            return Err(Error::refused(format!(
                "{option} {duration:?} must be a multiple of --interval, which is {interval:?}"
            )));
        }
    }
    let ssc = StreamingContext::with_config(interval, config(counting, defaults.ends))?;
    ssc.on_notice(advice::report);
    if let Some(batches) = batching.batches {
        ssc.stop_after(batches)?;
    }
    let mut output = ResultOutput::new(counting, &plan, &defaults.output);
    let lines = connect(&ssc, counting, defaults, Some(interval))?;
    let window = batching
        .window
        .map(|length| (length, batching.slide.unwrap_or(interval)));
    let period = match batching.window {
        Some(length) => Period::Window(length),
        None if defaults.adds_up => Period::SoFar,
        None => Period::Interval,
    };
    match attach(&plan, &lines, &output)? {
        CountedStream::Count(counts) => {
            output.watch(&counts);
            let shown = match window {
                None if defaults.adds_up => counts.reduce_by_key_so_far(|a, b| a + b),
                None => counts,
                Some(window) => counts.reduce_by_key_and_window_with_inverse_and_filter(
                    |a, b| a + b,
                    |a, b| a - b,
                    window,
                    |_, count| count != 0,
                )?,
            };
            output.print_repeatedly(&shown, period)?;
        }
        CountedStream::Number(numbers, fold) => {
            output.watch(&numbers);
            let shown = match window {
                None if defaults.adds_up => numbers.reduce_by_key_so_far(fold),
                None => numbers,
                Some(window) => numbers.reduce_by_key_and_window(fold, window)?,
            };
            output.print_repeatedly(&shown, period)?;
        }
        CountedStream::Small(columns) => print_repeatedly(&mut output, &columns, period, window)?,
        CountedStream::Few(columns) => print_repeatedly(&mut output, &columns, period, window)?,
        CountedStream::Many(columns) => print_repeatedly(&mut output, &columns, period, window)?,
    }
    output.run(ssc, StreamingContext::start)
}

/// Prints the columns of the only batch.
fn print_once<const N: usize, const F: usize>(
    output: &mut ResultOutput<'_>,
    columns: &ColumnStream<N, F>,
) {
    let results = columns.results();
    output.watch(&results);
    output.print_once(&results);
}

/// Prints the columns of every batch, or of all batches so far, or of every `window`.
fn print_repeatedly<const N: usize, const F: usize>(
    output: &mut ResultOutput<'_>,
    columns: &ColumnStream<N, F>,
    period: Period,
    window: Option<(Duration, Duration)>,
) -> Result<()> {
    let batches = columns.results();
    output.watch(&batches);
    let shown = match (window, period) {
        (Some(window), _) => columns.window(window)?,
        (None, Period::SoFar) => columns.so_far(),
        (None, _) => batches,
    };
    output.print_repeatedly(&shown, period)
}

/// Builds the plan of what is counted of which lines.
fn plan(counting: &CountingArgs, defaults: &CommandDefaults) -> Result<CountingPlan> {
    let (separator, words) = match counting.split {
        Some(byte) => (Separator::Byte(byte), Rule::Split(byte)),
        None if counting.split_whitespace => (Separator::Blanks, Rule::SplitWhitespace),
        None => (Separator::Blanks, defaults.words),
    };
    let plan = CountingPlan {
        greps: counting.greps.clone(),
        nots: counting.nots.clone(),
        keys: match &counting.keys[..] {
            [] => vec![defaults.key.clone().into()],
            keys => keys.to_vec(),
        },
        aggregates: counting.aggregate.clone(),
        value: counting.value.clone(),
        seed: counting.hash_seed,
        separator,
        words,
        ends: line_ends(counting, defaults.ends),
    };
    plan.check().map_err(Error::refused)?;
    let keys = plan.keys.iter().flat_map(|key| &key.parts);
    let mut parts = keys.chain(&plan.value);
    let (option, is_used) = match counting.split {
        Some(_) => (
            "--split",
            parts
                .any(|part| matches!(part, Selector::Word | Selector::Field(_) | Selector::Csv(_))),
        ),
        None if !counting.split_whitespace => return Ok(plan),
        None => (
            "--split-whitespace",
            parts.any(|part| matches!(part, Selector::Word | Selector::Field(_))),
        ),
    };
    match is_used {
        true => Ok(plan),
        false => Err(Error::refused(format!(
            "{option}: nothing is split, because no -k or -v selects a word or a field; add -k word or -k field:N, or \
             leave {option} out"
        ))),
    }
}

fn attach(
    plan: &CountingPlan,
    lines: &DStream<LineRecords>,
    output: &ResultOutput<'_>,
) -> Result<CountedStream> {
    plan.attach(lines, &output.skipped).map_err(Error::refused)
}

/// The sources of a command; standard input if none is named.
fn specs(counting: &CountingArgs) -> &[SourceSpec] {
    match &counting.sources[..] {
        [] => &[SourceSpec::Stdin],
        specs => specs,
    }
}

/// Returns `true` if standard input is the only source.
fn reads_stdin(counting: &CountingArgs) -> bool {
    specs(counting) == [SourceSpec::Stdin]
}

/// The patterns of a command that only reads files to their ends.
fn only_files(counting: &CountingArgs) -> Option<Vec<&OsStr>> {
    let patterns = specs(counting).iter().map(|source| match source {
        SourceSpec::Files(pattern) => Some(pattern.as_os_str()),
        _ => None,
    });
    let patterns: Vec<_> = patterns.collect::<Option<_>>()?;
    (!counting.follow).then_some(patterns)
}

/// Opens the files of some patterns. Unreadable files are reported when their turn comes, if there
/// are others.
fn open(patterns: &[&OsStr]) -> Result<Files> {
    let mut paths = Vec::new();
    for pattern in patterns {
        paths.extend(files_of(pattern, patterns.len() == 1)?);
    }
    open_any(&paths, true)
}

/// Expands a pattern. One without matches is a missing file, unless it `is_alone`: then it is an
/// error.
fn files_of(pattern: &OsStr, is_alone: bool) -> Result<Vec<PathBuf>> {
    match expand([pattern]) {
        Err(error) if is_alone || error.kind() != ErrorKind::Source => {
            Err(in_terms_of_sources(error, pattern))
        }
        Err(_) => Ok(vec![pattern.into()]),
        files => files,
    }
}

/// Opens some files. At least one of them must be readable if there are no other sources, that is,
/// if `is_all`.
fn open_any(paths: &[PathBuf], is_all: bool) -> Result<Files> {
    let files = Files::open_any(paths)?;
    let files = if is_all && files.readable() == 0 {
        let first = paths
            .first()
            .map_or(OsStr::new(""), |path| path.as_os_str());
        Files::open(paths).map_err(|error| in_terms_of_sources(error, first))?
    } else {
        files
    };
    Ok(files.decompress())
}

/// Joins the lines of every source, for batches every `interval`, or for a single batch.
fn connect(
    ssc: &StreamingContext,
    counting: &CountingArgs,
    defaults: &CommandDefaults,
    interval: Option<Duration>,
) -> Result<DStream<LineRecords>> {
    let (mut sources, mut files, mut followed) = (Vec::new(), Vec::new(), Vec::new());
    for spec in specs(counting) {
        match spec {
            // Missing files are waited for, also where a pattern matches none.
            SourceSpec::Files(pattern) if counting.follow => {
                let streams = match expand([pattern]) {
                    Ok(paths) => paths.into_iter().filter(|path| is_stream(path)).collect(),
                    Err(error) if error.kind() == ErrorKind::Source => Vec::new(),
                    Err(error) => return Err(error),
                };
                if !streams.iter().any(|path| path.as_os_str() == pattern) {
                    followed.push(pattern);
                }
                for path in streams {
                    // It is not a file that grows, so it is read as without --follow.
                    let stream = Files::open([path])?.decompress();
                    sources.push(Box::new(stream) as Box<dyn Source>);
                }
            }
            SourceSpec::Files(pattern) => {
                for path in files_of(pattern, specs(counting).len() == 1)? {
                    if is_stream(&path)
                        && let Ok(stream) = Files::open([&path])
                    {
                        sources.push(Box::new(stream.decompress()) as Box<dyn Source>);
                    } else {
                        // A file that cannot be opened is reported by the source of the others.
                        files.push(path);
                    }
                }
            }
            other => sources.push(source(other, counting, interval)?),
        }
    }
    // One source for all: each takes memory, and a shell expands a pattern to hundreds of names.
    // Pipes and devices are not among them, because nothing would be read after one that never
    // ends.
    if !files.is_empty() {
        // A wrong name beside a connection is reported at once, and not when the connection ends.
        let is_all = sources.is_empty() || interval.is_some();
        sources.push(Box::new(open_any(&files, is_all)?));
    }
    if !followed.is_empty() {
        let from = counting.from.unwrap_or(defaults.from);
        let options = FollowOptions::default().from_end(from == FromArg::End);
        sources.push(Box::new(Follow::matching(followed, options)?));
    }
    ssc.union_sources(sources)
}

/// Returns `true` for a pipe or a device, which does not grow, is not rotated, and can be read only
/// once.
fn is_stream(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|is| !is.is_file() && !is.is_dir())
}

/// Reads new files of a directory. A single batch may last long, so files are remembered for a year
/// then and are not too old for it.
fn new_files(path: &Path, interval: Option<Duration>) -> Result<DirectoryFiles> {
    let (options, day) = (FileOptions::default(), Duration::from_secs(24 * 3600));
    match interval {
        Some(interval) => DirectoryFiles::new(path, interval, options),
        None => DirectoryFiles::new(path, Duration::from_millis(1), options.remember(366 * day)),
    }
}

/// Builds a source that is not a file.
fn source(
    spec: &SourceSpec,
    counting: &CountingArgs,
    interval: Option<Duration>,
) -> Result<Box<dyn Source>> {
    let reconnect = match counting.reconnect {
        parse::ReconnectArg::After(pause) => Reconnect::After(pause),
        parse::ReconnectArg::Never => Reconnect::Never,
    };
    let record_bytes_max = counting.record_bytes_max;
    let elsewhere = |error: Error| error.with_advice("pick another place to listen");
    // The two kinds of listeners share these options, but no trait.
    macro_rules! with_options {
        ($listener:expr) => {{
            let listening = &counting.listening;
            let mut listener = $listener
                .record_bytes_max(record_bytes_max)
                .drain_wait(listening.drain_wait);
            if let Some(connections) = listening.connections_max {
                listener = listener.connections_max(connections);
            }
            if let Some(silence) = listening.idle_timeout {
                listener = listener.idle_timeout(silence);
            }
            listener
        }};
    }
    Ok(match spec {
        SourceSpec::Stdin => {
            if std::io::stdin().is_terminal() {
                say(&"standard input: this terminal; type lines, and end them with Ctrl-D");
            }
            Box::new(Stdin::open().decompress())
        }
        SourceSpec::Tcp(AddressArg { host, port }) => {
            let name = format!("{host}:{port}");
            if Path::new(&name).exists() {
                say(&format_args!(
                    "{name:?} is taken for an address; write {:?} for the file with this name",
                    format!("./{name}")
                ));
            }
            Box::new(TcpClient::new(host, *port, reconnect))
        }
        SourceSpec::TcpListen(AddressArg { host, port }) => {
            let listener = TcpListen::bind(host, *port).map_err(elsewhere)?;
            let listener = match counting.listening.connections_per_peer_max {
                Some(connections) => listener.connections_per_peer_max(connections),
                None => listener,
            };
            Box::new(with_options!(listener))
        }
        SourceSpec::UdpListen(AddressArg { host, port }) => {
            Box::new(UdpListen::bind(host, *port).map_err(elsewhere)?)
        }
        SourceSpec::Unix(path) => Box::new(UnixClient::new(path, reconnect)),
        SourceSpec::UnixListen(path) => {
            let listener = UnixListen::bind(path).map_err(elsewhere)?;
            Box::new(with_options!(listener))
        }
        SourceSpec::Dir(path) => Box::new(new_files(path, interval)?),
        SourceSpec::Files(pattern) => Box::new(open(&[pattern])?),
    })
}

/// `microtally demo`.
pub(crate) fn demo(options: &DemoArgs) -> Result<()> {
    let port = generate::serve_one(&options.load)?;
    let ssc = StreamingContext::with_config(options.interval, of_threads(&options.threads))?;
    ssc.on_notice(advice::report);
    ssc.stop_after(options.batches)?;
    let lines = ssc.socket_text_stream_with("127.0.0.1", port, Reconnect::Never)?;
    let counts = lines.flat_map(split(b' ')).count_by_value();
    let report = Report::new();
    let table = TableStyle {
        is_repeated: true,
        whole: Some("the words"),
        period: None,
    };
    let rows = output::rows(options.top);
    output::print(
        &counts,
        options.format,
        rows,
        table,
        output::ColumnNames::NONE,
    );
    counts.output(report.clone());
    let stopper = output::Stopper::default();
    let (metrics, outcome) = output::run(ssc, StreamingContext::start, &stopper);
    outcome?;
    let text = report.summary(metrics, &Skipped::new()).text();
    if options.format != FormatArg::Pyspark {
        // Programs read these formats: no line for people among the results.
        say(&text);
        return Ok(());
    }
    writeln!(std::io::stdout(), "{text}").map_err(|cause| Error::output("stdout", &cause))
}

/// The settings of a command that counts. Records end at `ends` without `--cr` and `--null`.
fn config(counting: &CountingArgs, ends: LineEnds) -> Config {
    let config = of_threads(&counting.threads).record_bytes_max(counting.record_bytes_max);
    let config = config.line_ends(line_ends(counting, ends));
    let config = match counting.hash_seed {
        Some(seed) => config.seed(seed),
        None => config,
    };
    let config = config.on_limit(match counting.on_limit {
        parse::OnLimitArg::Approx => OnLimit::Approximate,
        parse::OnLimitArg::Other => OnLimit::Other,
        parse::OnLimitArg::Error => OnLimit::Fail,
    });
    let bytes_max = match counting.memory {
        Some(MemoryArg::Unlimited) => return config,
        Some(MemoryArg::Bytes(bytes)) => Some(bytes),
        None => memory::half_of_available(match counting.threads.workers {
            WorkersArg::Auto => std::thread::available_parallelism().map_or(1, usize::from),
            WorkersArg::Exactly(count) => count,
        }),
    };
    match bytes_max.map(usize::try_from) {
        Some(Ok(bytes)) => config.memory_bytes_max(bytes),
        _ => config,
    }
}

/// Where records end: at `ends` without `--cr` and `--null`.
fn line_ends(counting: &CountingArgs, ends: LineEnds) -> LineEnds {
    match (counting.cr, counting.null) {
        (_, true) => LineEnds::Nul,
        (true, _) => LineEnds::Universal,
        _ => ends,
    }
}

fn of_threads(threads: &ThreadArgs) -> Config {
    let config = with_kernel(Config::default().pin(threads.pin), &threads.kernel);
    match threads.workers {
        WorkersArg::Auto => config,
        WorkersArg::Exactly(count) => config.workers(count),
    }
}

/// Sets the kernel of `--kernel`, if it was given. The library checks the name.
pub(crate) fn with_kernel(config: Config, kernel: &parse::KernelArg) -> Config {
    match &kernel.name {
        Some(name) => config.kernel(name),
        None => config,
    }
}
