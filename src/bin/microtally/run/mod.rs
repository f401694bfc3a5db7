//! Connects what the user typed to the library.
//!
//! Promise: nothing is started before everything was checked; a source is one line here. Must not know:
//! how stages work, how results are shown.

pub(crate) mod allocations;
pub(crate) mod manual;
pub(crate) mod memory;
pub(crate) mod signals;
pub(crate) mod streams;
pub(crate) mod usage;

use std::ffi::OsStr;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use microtally::extract::{Part, Separator};
use microtally::prelude::*;
use microtally::sources::{
    DirectoryFiles, Files, Follow, FollowOptions, Stdin, TcpClient, TcpListen, UdpListen,
    UnixClient, UnixListen, expand,
};
use microtally::stream::DStream;
use microtally::{
    Config, Error, ErrorKind, FileOptions, LineEnds, Lines, OnLimit, Reconnect, Result, Rule,
    Source,
};

use crate::counting::{Counted, Plan};
use crate::live::Period;
use crate::output::advice::{MORE_MEMORY, OF_MEMORY_LIMIT, in_terms_of_sources, tell};
use crate::output::report::Report;
use crate::output::{Show, Start, Table, progress};
use crate::parse::{
    Begin, Count, Counting, Demo, Format, Live, Memory, Slides, SourceSpec, Split, Threads, Words,
    Workers,
};
use crate::{generate, output, parse, say};

/// What a command takes where the user said nothing.
struct Defaults {
    interval: Duration,
    key: Part,
    /// How `-k word` splits.
    words: Rule,
    ends: LineEnds,
    show: output::Defaults,
    /// Without a window, results are of everything so far.
    adds_up: bool,
    /// Where followed files begin.
    from: Begin,
}

/// `microtally words`.
pub(crate) fn words(options: &Words) -> Result<()> {
    let defaults = Defaults {
        interval: Duration::from_secs(5),
        key: Part::Word,
        words: Rule::Split(b' '),
        ends: LineEnds::Universal,
        show: output::Defaults::words(),
        adds_up: false,
        from: Begin::End,
    };
    refuse_colours(&options.counting, "words")?;
    batches(&options.counting, &options.slides, &defaults)
}

/// `microtally top`.
pub(crate) fn top(options: &Live) -> Result<()> {
    let defaults = Defaults {
        interval: Duration::from_secs(1),
        key: Part::Line,
        words: Rule::SplitWhitespace,
        ends: LineEnds::Lf,
        show: output::Defaults::top(),
        adds_up: true,
        from: Begin::End,
    };
    batches(&options.counting, &options.slides, &defaults)
}

/// `microtally count`.
pub(crate) fn count(options: &Count) -> Result<()> {
    let defaults = Defaults {
        interval: Duration::ZERO,
        key: Part::Line,
        words: Rule::SplitWhitespace,
        ends: LineEnds::Lf,
        show: output::Defaults::count(),
        adds_up: false,
        from: Begin::Start,
    };
    let counting = &options.counting;
    refuse_colours(counting, "count")?;
    let plan = plan(counting, &defaults)?;
    let ssc = StreamingContext::one_batch(config(counting, defaults.ends))?;
    ssc.on_notice(tell);
    let mut show = Show::new(counting, &plan, &defaults.show);
    // Nothing but files is counted on all cores at once, without a thread that reads.
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
    match attach(&plan, &lines, &show)? {
        Counted::Count(counts) => {
            show.watch(&counts);
            show.at_the_end(&counts);
        }
        Counted::Number(numbers) => {
            show.watch(&numbers);
            show.at_the_end(&numbers);
        }
    }
    let _line = progress.map(progress::start);
    show.run(ssc, start)
        .map_err(|error| in_terms_of_options(error, counting))
}

/// Only the live view has colours: a command without one cannot have them always.
fn refuse_colours(counting: &Counting, command: &str) -> Result<()> {
    match counting.color {
        parse::Color::Always => Err(Error::refused(format!(
            "--color always: {command} prints without colours; only the live view of top has them, so leave it out"
        ))),
        parse::Color::Auto | parse::Color::Never => Ok(()),
    }
}

/// A command that gives results again and again.
fn batches(counting: &Counting, slides: &Slides, defaults: &Defaults) -> Result<()> {
    let plan = plan(counting, defaults)?;
    let interval = slides.interval.unwrap_or(defaults.interval);
    for (option, duration) in [("--window", slides.window), ("--slide", slides.slide)] {
        if let Some(duration) = duration
            && duration.as_millis() % interval.as_millis() != 0
        {
            return Err(Error::refused(format!(
                "{option} {duration:?} has to be a multiple of --interval, which is {interval:?}"
            )));
        }
    }
    let ssc = StreamingContext::with_config(interval, config(counting, defaults.ends))?;
    ssc.on_notice(tell);
    if let Some(batches) = slides.batches {
        ssc.stop_after(batches)?;
    }
    let mut show = Show::new(counting, &plan, &defaults.show);
    let lines = connect(&ssc, counting, defaults, Some(interval))?;
    let window = slides
        .window
        .map(|length| (length, slides.slide.unwrap_or(interval)));
    let period = match slides.window {
        Some(length) => Period::Window(length),
        None if defaults.adds_up => Period::SoFar,
        None => Period::Interval,
    };
    match attach(&plan, &lines, &show)? {
        Counted::Count(counts) => {
            show.watch(&counts);
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
            show.again_and_again(&shown, period)?;
        }
        Counted::Number(numbers) => {
            show.watch(&numbers);
            let fold = plan.aggregate.fold();
            let shown = match window {
                None if defaults.adds_up => numbers.reduce_by_key_so_far(fold),
                None => numbers,
                Some(window) => numbers.reduce_by_key_and_window(fold, window)?,
            };
            show.again_and_again(&shown, period)?;
        }
    }
    show.run(ssc, StreamingContext::start)
        .map_err(|error| in_terms_of_options(error, counting))
}

/// An error of the library, which knows nothing of options, with their names in it and what to do.
fn in_terms_of_options(error: Error, counting: &Counting) -> Error {
    match error.kind() {
        ErrorKind::Config => {
            let names = [
                ("memory_bytes_max", "--max-memory"),
                ("record_bytes_max", "--max-record"),
            ];
            let message = names
                .iter()
                .fold(error.to_string(), |text, (name, option)| {
                    text.replace(name, option)
                });
            in_terms_of_sizes(&message, counting)
        }
        ErrorKind::Source if error.to_string().contains(OF_MEMORY_LIMIT) => {
            error.with_advice(MORE_MEMORY)
        }
        ErrorKind::Limit => error.with_advice(
            "raise --max-memory, or go on beyond it with --on-limit approx or --on-limit other",
        ),
        _ => error,
    }
}

/// A memory limit that is too little, with its size as people write it. Of one that nobody has set it is said where
/// it comes from, and what would do: a limit of the process, where that leaves too little in all.
fn in_terms_of_sizes(message: &str, counting: &Counting) -> Error {
    const TOO_LITTLE: &str = " is too little: ";
    let said = || {
        let (limit, behind) = message.split_once(TOO_LITTLE)?;
        let (before, bytes) = limit.rsplit_once(' ')?;
        let bytes: u64 = bytes.parse().ok()?;
        let (_, mib) = behind.split_once(" MiB) would do")?.0.rsplit_once('(')?;
        Some((before, bytes, behind, mib))
    };
    let Some((before, bytes, behind, mib)) = said() else {
        return Error::refused(message);
    };
    if counting.memory.is_some() {
        let size = parse::units::format_bytes(bytes);
        return Error::refused(format!("{before} {size}{TOO_LITTLE}{behind}"));
    }
    let size = bytes as f64 / f64::from(1 << 20);
    let error = Error::refused(format!(
        "{before} {size:.1} MiB (half of the memory there is, as nobody has set it){TOO_LITTLE}{behind}"
    ));
    let needed: u64 = mib.parse().unwrap_or(0);
    if needed << 20 <= bytes.saturating_mul(2) {
        error.with_advice(&format!(
            "or write --max-memory {mib}MiB if that much may be taken"
        ))
    } else {
        error.with_advice("or allow the process more memory (ulimit -v, control group)")
    }
}

/// What is counted, of which lines.
fn plan(counting: &Counting, defaults: &Defaults) -> Result<Plan> {
    let (separator, words) = match counting.split {
        Split::Default => (Separator::Blanks, defaults.words),
        Split::Byte(byte) => (Separator::Byte(byte), Rule::Split(byte)),
        Split::Whitespace => (Separator::Blanks, Rule::SplitWhitespace),
    };
    let plan = Plan {
        greps: counting.greps.clone(),
        nots: counting.nots.clone(),
        keys: match &counting.keys[..] {
            [] => vec![defaults.key.clone().into()],
            keys => keys.to_vec(),
        },
        aggregate: counting.aggregate,
        value: counting.value.clone(),
        separator,
        words,
        ends: line_ends(counting, defaults.ends),
    };
    plan.check().map_err(Error::refused)?;
    let keys = plan.keys.iter().flat_map(|key| &key.parts);
    let mut parts = keys.chain(&plan.value);
    let (option, is_used) = match counting.split {
        Split::Default => return Ok(plan),
        Split::Byte(_) => (
            "--split",
            parts.any(|part| matches!(part, Part::Word | Part::Field(_) | Part::Csv(_))),
        ),
        Split::Whitespace => (
            "--split-whitespace",
            parts.any(|part| matches!(part, Part::Word | Part::Field(_))),
        ),
    };
    match is_used {
        true => Ok(plan),
        false => Err(Error::refused(format!(
            "{option}: nothing is split, because no -k or -v asks for a word or a field; add -k word or -k field:N, or \
             leave {option} out"
        ))),
    }
}

fn attach<'c>(plan: &Plan, lines: &DStream<'c, Lines>, show: &Show<'_>) -> Result<Counted<'c>> {
    plan.attach(lines, &show.skipped).map_err(Error::refused)
}

/// The sources of a command, standard input if none was named.
fn specs(counting: &Counting) -> &[SourceSpec] {
    match &counting.sources[..] {
        [] => &[SourceSpec::Stdin],
        specs => specs,
    }
}

/// Whether standard input is all that is read.
fn reads_stdin(counting: &Counting) -> bool {
    specs(counting) == [SourceSpec::Stdin]
}

/// The patterns of a command that reads files to their ends and nothing else.
fn only_files(counting: &Counting) -> Option<Vec<&OsStr>> {
    let patterns = specs(counting).iter().map(|source| match source {
        SourceSpec::Files(pattern) => Some(pattern.as_os_str()),
        _ => None,
    });
    let patterns: Vec<_> = patterns.collect::<Option<_>>()?;
    (!counting.follow).then_some(patterns)
}

/// The files of some patterns. Those that cannot be read are reported when their turn comes, if there are others.
fn open(patterns: &[&OsStr]) -> Result<Files> {
    let mut paths = Vec::new();
    for pattern in patterns {
        paths.extend(files_of(pattern, patterns.len() == 1)?);
    }
    open_any(&paths, true)
}

/// The files of a pattern. One that fits none is a file that is missing, unless it `is_alone`.
fn files_of(pattern: &OsStr, is_alone: bool) -> Result<Vec<PathBuf>> {
    match expand([pattern]) {
        Err(error) if is_alone || error.kind() != ErrorKind::Source => {
            Err(in_terms_of_sources(error, pattern))
        }
        Err(_) => Ok(vec![pattern.into()]),
        files => files,
    }
}

/// What can be read of some files, which is at least one of them if there is nothing else to read.
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

/// The lines of every source, for batches `interval` apart, or for a single one.
fn connect<'c>(
    ssc: &'c StreamingContext,
    counting: &Counting,
    defaults: &Defaults,
    interval: Option<Duration>,
) -> Result<DStream<'c, Lines>> {
    let (mut sources, mut files, mut followed) = (Vec::new(), Vec::new(), Vec::new());
    for spec in specs(counting) {
        match spec {
            // What is missing is waited for, whether a file or all that a pattern stands for.
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
                    // It is no file that grows: what comes out of it is what it is without --follow.
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
                        // What cannot be opened is reported by whoever reads the others.
                        files.push(path);
                    }
                }
            }
            other => sources.push(source(other, counting, interval)?),
        }
    }
    // One source for all: each takes memory of its own, and a shell makes hundreds of names of a pattern. What
    // has no end of its own is not among them, for nothing comes behind it.
    if !files.is_empty() {
        // A wrong name beside a connection is noticed at once, and not when that ends.
        let is_all = sources.is_empty() || interval.is_some();
        sources.push(Box::new(open_any(&files, is_all)?));
    }
    if !followed.is_empty() {
        let from = counting.from.unwrap_or(defaults.from);
        let options = FollowOptions::default().from_end(from == Begin::End);
        sources.push(Box::new(Follow::matching(followed, options)?));
    }
    ssc.union_sources(sources)
}

/// Whether it is a pipe or a device: it does not grow, nor is it rotated, and it can be read only once.
fn is_stream(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|is| !is.is_file() && !is.is_dir())
}

/// The files that are put into a directory. Where there is one batch, which may be long in coming, a file is not
/// too old for it that was there for all of its time.
fn put_into(path: &Path, interval: Option<Duration>) -> Result<DirectoryFiles> {
    let (options, day) = (FileOptions::default(), Duration::from_secs(24 * 3600));
    match interval {
        Some(interval) => DirectoryFiles::new(path, interval, options),
        None => DirectoryFiles::new(path, Duration::from_millis(1), options.remember(366 * day)),
    }
}

/// A source of its own.
fn source(
    spec: &SourceSpec,
    counting: &Counting,
    interval: Option<Duration>,
) -> Result<Box<dyn Source>> {
    let reconnect = match counting.reconnect {
        parse::Reconnect::After(pause) => Reconnect::After(pause),
        parse::Reconnect::Never => Reconnect::Never,
    };
    let record_bytes_max = counting.record_bytes_max;
    let elsewhere = |error: Error| error.with_advice("pick another place to listen");
    // The two kinds of listeners have these options in common, and no type.
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
        SourceSpec::Tcp { host, port } => {
            let name = format!("{host}:{port}");
            if Path::new(&name).exists() {
                say(&format_args!(
                    "{name:?} is taken for an address; for the file of that name write {:?}",
                    format!("./{name}")
                ));
            }
            Box::new(TcpClient::new(host, *port, reconnect))
        }
        SourceSpec::TcpListen { host, port } => {
            let listener = TcpListen::bind(host, *port).map_err(elsewhere)?;
            let listener = match counting.listening.connections_per_peer_max {
                Some(connections) => listener.connections_per_peer_max(connections),
                None => listener,
            };
            Box::new(with_options!(listener))
        }
        SourceSpec::UdpListen { host, port } => {
            Box::new(UdpListen::bind(host, *port).map_err(elsewhere)?)
        }
        SourceSpec::Unix(path) => Box::new(UnixClient::new(path, reconnect)),
        SourceSpec::UnixListen(path) => {
            let listener = UnixListen::bind(path).map_err(elsewhere)?;
            Box::new(with_options!(listener))
        }
        SourceSpec::Dir(path) => Box::new(put_into(path, interval)?),
        SourceSpec::Files(pattern) => Box::new(open(&[pattern])?),
    })
}

/// `microtally demo`.
pub(crate) fn demo(options: &Demo) -> Result<()> {
    let port = generate::serve_one(&options.load)?;
    let ssc = StreamingContext::with_config(options.interval, of_threads(&options.threads))?;
    ssc.on_notice(tell);
    ssc.stop_after(options.batches)?;
    let lines = ssc.socket_text_stream_with("127.0.0.1", port, Reconnect::Never)?;
    let counts = lines.flat_map(split(b' ')).count_by_value();
    let report = Report::new();
    let table = Table::new(true, "the words", None);
    output::put_out(&counts, options.format, output::rows(options.top), table);
    counts.output(report.clone());
    output::run(ssc, StreamingContext::start, &output::Stopper::default())?;
    if options.format != Format::Pyspark {
        // Programs read these formats: no line for people among the results.
        say(&report.summary().text());
        return Ok(());
    }
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", report.summary().text()).map_err(|cause| Error::output("stdout", &cause))
}

/// The settings of a command that counts, whose records end at `ends` if nothing else was asked for.
fn config(counting: &Counting, ends: LineEnds) -> Config {
    let config = of_threads(&counting.threads).record_bytes_max(counting.record_bytes_max);
    let config = config.line_ends(line_ends(counting, ends));
    let config = match counting.hash_seed {
        Some(seed) => config.seed(seed),
        None => config,
    };
    let config = config.on_limit(match counting.on_limit {
        parse::OnLimit::Approx => OnLimit::Approximate,
        parse::OnLimit::Other => OnLimit::Other,
        parse::OnLimit::Error => OnLimit::Fail,
    });
    let bytes_max = match counting.memory {
        Some(Memory::Unlimited) => return config,
        Some(Memory::Bytes(bytes)) => Some(bytes),
        None => memory::half_of_what_there_is(match counting.threads.workers {
            Workers::Auto => std::thread::available_parallelism().map_or(1, usize::from),
            Workers::Exactly(count) => count,
        }),
    };
    match bytes_max.map(usize::try_from) {
        Some(Ok(bytes)) => config.memory_bytes_max(bytes),
        _ => config,
    }
}

/// Where records end, which is at `ends` if nothing else was asked for.
fn line_ends(counting: &Counting, ends: LineEnds) -> LineEnds {
    match counting.ends {
        parse::Ends::Default => ends,
        parse::Ends::Cr => LineEnds::Universal,
        parse::Ends::Null => LineEnds::Nul,
    }
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
pub(crate) fn with_kernel(config: Config, kernel: &parse::Kernel) -> Config {
    match &kernel.name {
        Some(name) => config.kernel(name),
        None => config,
    }
}
