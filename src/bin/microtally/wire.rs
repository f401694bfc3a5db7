//! Connects what the user typed to the library.
//!
//! Promise: nothing is started before everything was checked. Refuses to know: how stages work.

use std::io::{IsTerminal, Write};
use std::thread;

use microtally::prelude::*;
use microtally::sink::{Json, Pyspark, Tsv};
use microtally::stream::Reduced;
use microtally::{Config, Error, Notice, Reconnect, Result, Rule, StopHandle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::flags::{
    self, Demo, Format, Results, SourceSpec, Split, Stats, Threads, Top, Words, Workers,
};
use crate::report::Report;
use crate::{load, say};

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
    let config = Config::default().pin(threads.pin);
    match threads.workers {
        Workers::Auto => config,
        Workers::Exactly(count) => config.workers(count),
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
    stop_on_signal(running.stop_handle());
    running.await_termination()
}

/// The first signal ends the run gracefully, the second at once.
fn stop_on_signal(handle: StopHandle) {
    on_signals(move |number, count| {
        if count == 1 {
            handle.stop(Stop::Graceful);
        } else {
            std::process::exit(128 + number);
        }
    });
}

/// Ends the program as if it were done.
pub(crate) fn exit_on_signal() {
    on_signals(|_, _| std::process::exit(0));
}

/// Calls `act` with each signal's number and how many came so far, on a thread of its own.
fn on_signals(mut act: impl FnMut(i32, u32) + Send + 'static) {
    let mut wanted = vec![SIGINT, SIGTERM];
    if !ignores_hangup() {
        wanted.push(SIGHUP);
    }
    match Signals::new(wanted) {
        Ok(mut signals) => {
            let watching = thread::Builder::new().spawn(move || {
                let mut count = 0;
                for number in signals.forever() {
                    count += 1;
                    act(number, count);
                }
            });
            if let Err(cause) = watching {
                say(&format_args!("signals are not heeded: {cause}"));
            }
        }
        Err(cause) => say(&format_args!(
            "signals end the run at once, without a last batch: {cause}"
        )),
    }
}

/// Whether the program was started to outlive its terminal (`nohup`).
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    mask >> (SIGHUP - 1) & 1 == 1
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
