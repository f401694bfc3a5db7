//! Connects what the user typed to the library.
//!
//! Promise: nothing is started before everything was checked. Refuses to know: how stages work.

use std::io::{IsTerminal, Write};

use microtally::prelude::*;
use microtally::sink::{Json, Pyspark, Tsv};
use microtally::stream::Reduced;
use microtally::{Config, Error, Notice, Reconnect, Result, Rule};

use crate::flags::{
    self, Demo, Format, Results, SourceSpec, Split, Stats, Threads, Top, Words, Workers,
};
use crate::report::Report;
use crate::{load, say, signals};

/// `microtally words`.
pub(crate) fn words(options: &Words) -> Result<()> {
    let config = config(&options.threads).record_bytes_max(options.record_bytes_max);
    let ssc = StreamingContext::with_config(options.interval, config)?;
    ssc.on_notice(tell);
    if let Some(batches) = options.batches {
        ssc.stop_after(batches)?;
    }
    let lines = match &options.source {
        SourceSpec::Stdin => ssc.stdin_text_stream(),
        SourceSpec::Tcp { host, port } => {
            let reconnect = match options.reconnect {
                flags::Reconnect::After(pause) => Reconnect::After(pause),
                flags::Reconnect::Never => Reconnect::Never,
            };
            ssc.socket_text_stream_with(host, *port, reconnect)?
        }
    };
    let rule = match options.split {
        Split::Byte(separator) => Rule::Split(separator),
        Split::Whitespace => Rule::SplitWhitespace,
    };
    let counts = lines.flat_map(rule).count_by_value();
    let report = Report::new();
    attach(&counts, &options.results, &report);
    let outcome = run(ssc);
    let stats = match options.stats {
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
    let ssc = StreamingContext::with_config(options.interval, config(&options.threads))?;
    ssc.on_notice(tell);
    ssc.stop_after(options.batches)?;
    let lines = ssc.socket_text_stream_with("127.0.0.1", port, Reconnect::Never)?;
    let counts = lines.flat_map(split(b' ')).count_by_value();
    let report = Report::new();
    attach(&counts, &options.results, &report);
    run(ssc)?;
    if options.results.format != Format::Pyspark {
        // Programs read these formats: no line for people among the results.
        say(&report.summary().text());
        return Ok(());
    }
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", report.summary().text()).map_err(|cause| Error::output("stdout", &cause))
}

fn config(threads: &Threads) -> Config {
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

fn attach(counts: &Reduced<'_, u64>, results: &Results, report: &Report) {
    let top = match results.top {
        Top::First(count) => count,
        Top::All => usize::MAX,
    };
    match results.format {
        Format::Pyspark => counts.output(Pyspark::stdout(top)),
        Format::Tsv => counts.output(Tsv::stdout(top)),
        Format::Json => counts.output(Json::stdout(top)),
    }
    counts.output(report.clone());
}

fn run(ssc: StreamingContext) -> Result<()> {
    let running = ssc.start()?;
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
