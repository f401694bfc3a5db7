//! Latency of small batches: from the scheduled time of a batch's last byte until a sink sees its
//! result.
//!
//! Open loop: the schedule is made before the run and never waits for a result. A latency is
//! counted from the scheduled time, also when the sender was late. So a stall is charged to every
//! batch that it delayed (no coordinated omission). One clock, monotonic, one machine, one process.
//!
//! ```text
//! cargo run --release --example latency -- --door engine --load 0.5 --seconds 10
//! cargo run --release --example latency -- --door tcp --spin-us 200 --poisson --histogram tcp.hgrm
//! ```
//!
//! | door | what the sender does | what may be in the figure besides the engine |
//! |---|---|---|
//! | `none` | nothing | what the machine adds: no door can be better |
//! | `tally` | push, cut | copying the batch |
//! | `engine` | write, cut | copying the batch |
//! | `tcp` | sends to a `StreamingContext` | the kernel; the wait for the interval's end |
//!
//! A door's maximum is measured first, with batches sent without a pause; `--load` is a share of
//! it. Printed in microseconds: how late the sender began (above a few, the rate is more than the
//! machine can do, or the machine was away), when the bytes were taken, and when the result was
//! published. For `tcp` also how long after the end of its interval each batch was out: that is the
//! engine's share, the rest is waiting for an interval to end.

#[allow(dead_code)] // It needs the default text only.
#[path = "corpora/words.rs"]
mod words;

use std::fs::File;
use std::hint::{black_box, spin_loop};
use std::io::{self, BufWriter, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use hdrhistogram::Histogram;
use microtally::batch::BatchStats;
use microtally::sources::Reconnect;
use microtally::stream::split;
use microtally::time::BatchTime;
use microtally::{Config, Engine, Rule, StreamingContext, Tally};

use words::Words;

const RULE: Rule = Rule::Split(b' ');

/// Bytes of different text; the batches repeat after that.
const TEXT_BYTES: usize = 64 << 20;

/// Bytes sent to find a door's maximum.
const FULL_LOAD_BYTES: usize = 512 << 20;

/// Batches in front of a run that are sent and not recorded: the tables grow in them.
const WARM_UP: Duration = Duration::from_millis(500);

/// A batch that was begun this much later than on the schedule counts as missed.
const MISSED: Duration = Duration::from_micros(20);

/// Above this a wait sleeps; the rest of it is spun away, a sleep ending some 50 us late.
const SLEEP_FROM: Duration = Duration::from_millis(1);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measures the latency of small batches, open loop.
#[derive(Parser, Debug)]
struct Options {
    /// Which way the bytes go in
    #[arg(long, value_enum, default_value = "engine")]
    door: Door,
    /// Bytes of a batch, at most: it ends with a line
    #[arg(long, default_value_t = 64 << 10)]
    batch: usize,
    /// Pieces a batch is sent in, spread evenly over the time up to its last byte
    #[arg(long, default_value_t = 1)]
    pieces: usize,
    /// Batches a second, as a share of the most the door can do
    #[arg(long, default_value_t = 0.5)]
    load: f64,
    /// Batches a second, instead of a share
    #[arg(long)]
    rate: Option<f64>,
    /// Length of the run
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Exponentially distributed pauses instead of equal ones
    #[arg(long)]
    poisson: bool,
    /// Uses the engine's low-latency mode, spinning that long (microseconds)
    #[arg(long)]
    spin_us: Option<u64>,
    /// Shard threads
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Batch interval of the `tcp` door in milliseconds
    #[arg(long, default_value_t = 1)]
    interval_ms: u64,
    /// Writes the percentiles there
    #[arg(long)]
    histogram: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Door {
    None,
    Tally,
    Engine,
    Tcp,
}

fn main() -> Result<(), Failure> {
    let options = Options::parse();
    if options.batch == 0 || options.pieces == 0 || options.interval_ms == 0 {
        return Err("--batch, --pieces and --interval-ms are at least 1".into());
    }
    let text = text();
    let batches = batches(&text, options.batch)?;
    let rate = match options.rate {
        Some(rate) => rate,
        None => {
            let full = full_load(&options, &batches)?;
            println!(
                "full load: {full:.0} batches a second, {:.2} GB/s",
                full * options.batch as f64 / 1e9
            );
            full * options.load
        }
    };
    if !(rate > 0.0 && rate.is_finite()) {
        return Err(format!("a rate of {rate} batches a second").into());
    }
    let schedule = Schedule::new(rate, options.seconds, options.poisson);
    println!(
        "{:?}, batches of {} bytes in {} pieces, {rate:.0} a second ({}), {} s",
        options.door,
        options.batch,
        options.pieces,
        if options.poisson {
            "Poisson"
        } else {
            "constant"
        },
        options.seconds
    );
    let cpu_before = cpu_seconds();
    let run = run(&options, &batches, schedule)?;
    let cpu = (cpu_seconds() - cpu_before) / run.wall.as_secs_f64();
    println!(
        "{:>24} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "us", "p50", "p90", "p99", "p99.9", "max", "batches"
    );
    print_line("sender began", &run.sender.began);
    print_line("bytes taken", &run.sender.taken);
    if !run.sink.behind_interval.is_empty() {
        print_line("out, of interval's end", &run.sink.behind_interval);
    }
    print_line("RESULT OUT", &run.sink.out);
    println!(
        "schedule missed by more than {} us: {} of {} batches; processor time: {cpu:.2} cores, sender's waiting included",
        MISSED.as_micros(),
        run.sender.missed,
        run.sender.began.len(),
    );
    if let Some(path) = &options.histogram {
        write_percentiles(path, &run.sink.out)?;
    }
    Ok(())
}

/// Whole lines of English-like text.
fn text() -> Vec<u8> {
    let mut source = Words::new(1).build().expect("the defaults are in range");
    let mut text = vec![0; TEXT_BYTES];
    source.fill(&mut text);
    text.truncate(memchr::memrchr(b'\n', &text).expect("text has lines") + 1);
    text
}

/// The text in batches that end with a line.
fn batches(text: &[u8], bytes_max: usize) -> Result<Vec<&[u8]>, Failure> {
    let mut batches = Vec::new();
    let mut rest = text;
    while rest.len() > bytes_max {
        let end = memchr::memrchr(b'\n', &rest[..bytes_max])
            .ok_or("a batch is shorter than a line: give --batch more")?;
        let (batch, behind) = rest.split_at(end + 1);
        batches.push(batch);
        rest = behind;
    }
    Ok(batches)
}

/// When the last byte of each batch is to be sent, in nanoseconds from the beginning.
struct Schedule {
    due_ns: Vec<u64>,
    /// Batches in front that are not recorded.
    warm_up: usize,
    /// Mean time between two batches: over it the pieces of a batch are spread.
    gap_ns: f64,
}

impl Schedule {
    fn new(rate: f64, seconds: f64, poisson: bool) -> Schedule {
        let gap_ns = 1e9 / rate;
        let warm_up = (rate * WARM_UP.as_secs_f64()) as usize;
        let count = warm_up + (rate * seconds) as usize;
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut at = gap_ns;
        let due_ns = (0..count).map(|_| {
            let now = at;
            // xorshift64: no dependency for a few exponentials.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let uniform = ((random >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            at += if poisson {
                -uniform.ln() * gap_ns
            } else {
                gap_ns
            };
            now as u64
        });
        Schedule {
            due_ns: due_ns.collect(),
            warm_up,
            gap_ns,
        }
    }

    /// Everything at once.
    fn full(count: usize) -> Schedule {
        Schedule {
            due_ns: vec![0; count],
            warm_up: count,
            gap_ns: 0.0,
        }
    }
}

/// The outcome of a run.
struct Outcome {
    sender: Sender,
    sink: Sink,
    /// From the beginning of the schedule to the last result.
    wall: Duration,
}

/// What is noted where bytes go in.
struct Sender {
    began: Histogram<u64>,
    taken: Histogram<u64>,
    missed: u64,
}

/// What is noted where results come out.
struct Sink {
    start: Instant,
    due_ns: Vec<u64>,
    /// Bytes up to the end of each batch.
    ends: Vec<u64>,
    warm_up: usize,
    /// Batches that are out.
    next: usize,
    bytes: u64,
    last_ns: u64,
    out: Histogram<u64>,
    behind_interval: Histogram<u64>,
}

fn histogram() -> Histogram<u64> {
    // 1 ns to 100 s, to three digits; the memory is taken here and not while something is measured.
    Histogram::new_with_bounds(1, 100_000_000_000, 3).expect("good bounds")
}

fn record(histogram: &mut Histogram<u64>, ns: u64) {
    histogram.saturating_record(ns.max(1));
}

impl Sink {
    fn new(start: Instant, schedule: &Schedule, batches: &[&[u8]]) -> Sink {
        let mut bytes = 0;
        let ends = batches.iter().cycle().take(schedule.due_ns.len());
        Sink {
            start,
            due_ns: schedule.due_ns.clone(),
            ends: ends
                .map(|batch| {
                    bytes += batch.len() as u64;
                    bytes
                })
                .collect(),
            warm_up: schedule.warm_up,
            next: 0,
            bytes: 0,
            last_ns: 0,
            out: histogram(),
            behind_interval: histogram(),
        }
    }

    /// A result is out.
    fn see(&mut self, stats: &BatchStats) {
        let now = self.start.elapsed().as_nanos() as u64;
        self.bytes += stats.bytes;
        if stats.bytes > 0 && self.next >= self.warm_up && !stats.interval.is_zero() {
            let behind = stats.scheduling_delay + stats.processing;
            record(&mut self.behind_interval, behind.as_nanos() as u64);
        }
        while self.next < self.ends.len() && self.ends[self.next] <= self.bytes {
            if self.next >= self.warm_up {
                record(&mut self.out, now.saturating_sub(self.due_ns[self.next]));
            }
            self.next += 1;
        }
        self.last_ns = now;
    }

    /// Checks that every batch was published whole.
    fn check(&self) -> Result<(), Failure> {
        if self.next == self.ends.len() && self.bytes == self.ends.last().copied().unwrap_or(0) {
            return Ok(());
        }
        Err(format!("{} of {} batches came out", self.next, self.ends.len()).into())
    }
}

/// Sends every batch at its time: `piece` takes bytes, `end` ends the batch.
fn send(
    start: Instant,
    schedule: &Schedule,
    batches: &[&[u8]],
    pieces: usize,
    mut piece: impl FnMut(&[u8]) -> Result<(), Failure>,
    mut end: impl FnMut(u64) -> Result<(), Failure>,
) -> Result<Sender, Failure> {
    let mut sender = Sender {
        began: histogram(),
        taken: histogram(),
        missed: 0,
    };
    let numbered = batches.iter().cycle().zip(&schedule.due_ns).enumerate();
    for (number, (batch, &due_ns)) in numbered {
        let piece_len = batch.len().div_ceil(pieces);
        let mut left = batch.len().div_ceil(piece_len);
        for bytes in batch.chunks(piece_len) {
            left -= 1;
            let early = (schedule.gap_ns * left as f64 / pieces as f64) as u64;
            wait_until(start + Duration::from_nanos(due_ns.saturating_sub(early)));
            if left == 0 && number >= schedule.warm_up {
                let late = (start.elapsed().as_nanos() as u64).saturating_sub(due_ns);
                record(&mut sender.began, late);
                sender.missed += u64::from(late > MISSED.as_nanos() as u64);
            }
            piece(bytes)?;
        }
        end(number as u64)?;
        if number >= schedule.warm_up {
            let taken = (start.elapsed().as_nanos() as u64).saturating_sub(due_ns);
            record(&mut sender.taken, taken);
        }
    }
    Ok(sender)
}

fn wait_until(time: Instant) {
    loop {
        let left = time.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        if left > SLEEP_FROM {
            thread::sleep(left - SLEEP_FROM);
        } else {
            spin_loop();
        }
    }
}

/// Batches a second with no pause between them.
fn full_load(options: &Options, batches: &[&[u8]]) -> Result<f64, Failure> {
    let count = (FULL_LOAD_BYTES / options.batch).max(1);
    let run = run(options, batches, Schedule::full(count))?;
    Ok(count as f64 / run.wall.as_secs_f64())
}

fn run(options: &Options, batches: &[&[u8]], schedule: Schedule) -> Result<Outcome, Failure> {
    // Threads start and connections are made before.
    let start = Instant::now() + Duration::from_millis(300);
    let sink = Sink::new(start, &schedule, batches);
    let (sender, sink) = match options.door {
        Door::None => through_nothing(options, batches, &schedule, sink)?,
        Door::Tally => through_tally(options, batches, &schedule, sink)?,
        Door::Engine => through_engine(options, batches, &schedule, sink)?,
        Door::Tcp => through_tcp(options, batches, &schedule, sink)?,
    };
    sink.check()?;
    Ok(Outcome {
        wall: Duration::from_nanos(sink.last_ns),
        sender,
        sink,
    })
}

fn config(options: &Options) -> Config {
    let config = Config::default().workers(options.workers);
    match options.spin_us {
        Some(spin_us) => config.low_latency(Duration::from_micros(spin_us)),
        None => config,
    }
}

/// The sender alone.
fn through_nothing(
    options: &Options,
    batches: &[&[u8]],
    schedule: &Schedule,
    mut sink: Sink,
) -> Result<(Sender, Sink), Failure> {
    let (start, ends) = (sink.start, sink.ends.clone());
    let mut before = 0;
    let mut stats = BatchStats::default();
    let end = |number: u64| {
        stats.bytes = ends[number as usize] - before;
        before = ends[number as usize];
        sink.see(&stats);
        Ok(())
    };
    let taken = |bytes: &[u8]| {
        black_box(bytes);
        Ok(())
    };
    let sender = send(start, schedule, batches, options.pieces, taken, end)?;
    Ok((sender, sink))
}

fn through_tally(
    options: &Options,
    batches: &[&[u8]],
    schedule: &Schedule,
    mut sink: Sink,
) -> Result<(Sender, Sink), Failure> {
    let tally = std::cell::RefCell::new(Tally::with_config(RULE, &config(options))?);
    let push = |bytes: &[u8]| {
        tally.borrow_mut().push(bytes);
        Ok(())
    };
    let start = sink.start;
    let cut = |number| {
        let mut tally = tally.borrow_mut();
        sink.see(tally.cut(BatchTime::from_millis(number))?.stats());
        Ok(())
    };
    let sender = send(start, schedule, batches, options.pieces, push, cut)?;
    Ok((sender, sink))
}

fn through_engine(
    options: &Options,
    batches: &[&[u8]],
    schedule: &Schedule,
    sink: Sink,
) -> Result<(Sender, Sink), Failure> {
    let start = sink.start;
    let sink = Arc::new(Mutex::new(sink));
    let seen = Arc::clone(&sink);
    let engine = Engine::builder(RULE)
        .config(config(options))
        .start(move |batch| seen.lock().expect("nobody panicked").see(batch.stats()))?;
    let mut input = engine.writer().expect("there is one input");
    let write = |bytes: &[u8]| {
        input.write_all(bytes)?;
        Ok(input.flush()?)
    };
    let cut = |number| Ok(engine.cut(BatchTime::from_millis(number))?);
    let sender = send(start, schedule, batches, options.pieces, write, cut)?;
    // The last batch, with what `finish` takes, is not the one measured: everything was cut before.
    wait_for_all(&sink)?;
    drop(input);
    engine.finish()?;
    Ok((sender, unwrap(sink)))
}

fn through_tcp(
    options: &Options,
    batches: &[&[u8]],
    schedule: &Schedule,
    sink: Sink,
) -> Result<(Sender, Sink), Failure> {
    let start = sink.start;
    let sink = Arc::new(Mutex::new(sink));
    let seen = Arc::clone(&sink);
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let interval = Duration::from_millis(options.interval_ms);
    let ssc = StreamingContext::with_config(interval, config(options))?;
    let lines = ssc.socket_text_stream_with("127.0.0.1", port, Reconnect::Never)?;
    let counts = lines.flat_map(split(b' ')).count_by_value();
    counts.for_each_batch(move |batch, _| seen.lock().expect("nobody panicked").see(batch.stats()));
    let running = ssc.start()?;
    let (mut client, _) = listener.accept()?;
    client.set_nodelay(true)?;
    let sending = |bytes: &[u8]| Ok(client.write_all(bytes)?);
    let sender = send(
        start,
        schedule,
        batches,
        options.pieces,
        sending,
        |_| Ok(()),
    )?;
    wait_for_all(&sink)?;
    drop(client);
    running.await_termination()?;
    drop(running);
    Ok((sender, unwrap(sink)))
}

fn wait_for_all(sink: &Mutex<Sink>) -> Result<(), Failure> {
    for _ in 0..10_000 {
        let sink = sink.lock().expect("nobody panicked");
        if sink.next == sink.ends.len() {
            return Ok(());
        }
        drop(sink);
        thread::sleep(Duration::from_millis(1));
    }
    Err("results did not come within 10 s".into())
}

fn unwrap(sink: Arc<Mutex<Sink>>) -> Sink {
    let sink = Arc::into_inner(sink).expect("the engine has ended");
    sink.into_inner().expect("nobody panicked")
}

fn print_line(name: &str, histogram: &Histogram<u64>) {
    print!("{name:>24}");
    for quantile in [0.5, 0.9, 0.99, 0.999] {
        print!(
            " {:9.1}",
            histogram.value_at_quantile(quantile) as f64 / 1e3
        );
    }
    println!(
        " {:9.1} {:9}",
        histogram.max() as f64 / 1e3,
        histogram.len()
    );
}

/// As HdrHistogram's other programs write and plot it, in microseconds.
fn write_percentiles(path: &Path, histogram: &Histogram<u64>) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(
        file,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    let mut total = 0;
    for step in histogram.iter_quantiles(5) {
        total += step.count_since_last_iteration();
        let quantile = step.quantile_iterated_to();
        let value = step.value_iterated_to() as f64 / 1e3;
        write!(file, "{value:12.3} {quantile:14.12} {total:10}")?;
        if quantile < 1.0 {
            write!(file, " {:14.2}", 1.0 / (1.0 - quantile))?;
        }
        writeln!(file)?;
    }
    writeln!(
        file,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n#[Max     = {:12.3}, Total count    = {:12}]",
        histogram.mean() / 1e3,
        histogram.stdev() / 1e3,
        histogram.max() as f64 / 1e3,
        histogram.len()
    )?;
    file.flush()
}

/// Processor time of this process so far; 0 where the system does not say.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15, in ticks of 10 ms; the second field, the name, may hold blanks.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    ticks as f64 / 100.0
}
